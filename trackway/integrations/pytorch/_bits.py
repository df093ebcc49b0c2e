"""How values are distributed, counted by the upper 11 bits of each: sign, 8 exponent, 2 mantissa.

The bins are fixed, so nothing has to be known of the values first: no minimum, no maximum, and on
a GPU no waiting. Zero, infinity and NaN fall into bins of their own, and counts of different steps,
tensors and ranks are added. ``count`` is for tensors in the memory of the host; ``count_there``
gives the same counts and asks nothing of the device.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = [
    "BINS",
    "SMALL",
    "Pieces",
    "bad",
    "count",
    "count_there",
    "nonfinite",
    "pieces",
    "single",
]

BINS: Final = 2048
SMALL: Final = 1 << 14
"""Elements: tensors up to this size are counted together, as many small calls cost more."""

CHUNK: Final = 1 << 24
"""Elements counted at a time: bounds the memory, and single precision holds the count exactly."""

TOGETHER: Final = 64
"""Small tensors counted at a time: their counters stay in the processor's cache."""

_BLOCK: Final = 1 << 16
"""Elements counted at a time on the host: their bins stay in the processor's cache."""

_GAP: Final = 4
"""Empty bins that are written as zeros rather than by beginning another piece."""

_EXPONENT: Final = 0x7F80
_UPPER: Final = 1 if sys.byteorder == "little" else 0
_LARGEST: Final = torch.finfo(torch.float32).max

Counts = npt.NDArray[np.int64]


def single(flat: Tensor) -> Tensor:
    """The values in a type whose upper 16 bits are those of a single: as they are, or converted."""
    if flat.dtype in (torch.float32, torch.bfloat16):
        return flat.contiguous()
    if flat.dtype is not torch.float64:
        return flat.to(torch.float32)
    near = flat.to(torch.float32)
    # What only a double can hold is large, but finite.
    large = torch.isinf(near) & torch.isfinite(flat)
    return torch.where(large, torch.copysign(torch.full_like(near, _LARGEST), near), near)


def _keys(flat: Tensor) -> Tensor:
    """The bin of each value, as int16."""
    return _upper(flat).bitwise_right_shift(5).bitwise_and_(BINS - 1)


def _upper(flat: Tensor) -> Tensor:
    """The upper 16 bits of each value."""
    upper = flat.view(torch.int16)
    if flat.dtype is torch.float32:
        return upper.view(flat.numel(), 2).select(1, _UPPER)
    return upper


def _batches(flats: Sequence[Tensor]) -> tuple[list[int], list[list[int]]]:
    """Indices of the large tensors, and of the small ones that are counted together."""
    large, batches = [], []
    groups: dict[torch.dtype, list[int]] = {}
    for index, flat in enumerate(flats):
        if flat.numel() > SMALL:
            large.append(index)
        else:
            groups.setdefault(flat.dtype, []).append(index)
    for small in groups.values():
        batches += [small[at : at + TOGETHER] for at in range(0, len(small), TOGETHER)]
    return large, batches


def _together(flats: Sequence[Tensor], batch: list[int]) -> Tensor:
    """The bins of several small tensors, each in a range of its own."""
    device = flats[batch[0]].device
    keys = _keys(torch.cat([flats[index] for index in batch])).to(torch.int32)
    ranges = [
        torch.full((flats[index].numel(),), row * BINS, dtype=torch.int32, device=device)
        for row, index in enumerate(batch)
    ]
    return keys.add_(torch.cat(ranges))


def count(flats: Sequence[Tensor]) -> Counts:
    """Counts of tensors on the host, a row of ``BINS`` each."""
    found = np.zeros((len(flats), BINS), np.int64)
    keys = np.empty(min(_BLOCK, max((flat.numel() for flat in flats), default=0)), np.int64)
    for row, flat in zip(found, flats, strict=True):
        values = single(flat)
        narrow = values.dtype is torch.bfloat16
        bits: Any = values.view(torch.int16 if narrow else torch.int32).numpy()
        bits = bits.view(np.uint16 if narrow else np.uint32)
        for at in range(0, len(bits), _BLOCK):
            part = bits[at : at + _BLOCK]
            block = keys[: len(part)]
            np.right_shift(part, 5 if narrow else 21, out=block, casting="unsafe")
            row += np.bincount(block, minlength=BINS)
    return found


def _histogram(keys: Tensor, bins: int) -> Tensor:
    """Counts of keys without asking the device anything: the range is known beforehand."""
    if keys.device.type == "cpu":  # has no histogram of integers
        # In the middle of its bin a key stays in it, however the division rounds.
        return torch.histc(keys.to(torch.float64).add_(0.5), bins, 0, bins).to(torch.int32)
    return torch.histc(keys.to(torch.int32), bins, 0, bins).to(torch.int32)


def count_there(flats: Sequence[Tensor]) -> tuple[Tensor, list[int]]:
    """Counts of tensors of one device, left there, a row of ``BINS`` each, and whose row each is.

    Nothing is read: what is done does not depend on the values.
    """
    flats = [single(flat) for flat in flats]
    large, batches = _batches(flats)
    rows = []
    for index in large:
        parts = [_histogram(_keys(part), BINS) for part in flats[index].split(CHUNK)]
        rows.append(parts[0] if len(parts) == 1 else torch.stack(parts).sum(0, dtype=torch.int32))
    for batch in batches:
        rows.append(_histogram(_together(flats, batch), len(batch) * BINS))
    order = large + [index for batch in batches for index in batch]
    return torch.cat(rows).view(len(flats), BINS), order


def bad(flats: Sequence[Tensor]) -> tuple[Tensor, list[int]]:
    """How many values of each tensor are NaN or infinite, left on the device, and whose each is."""
    flats = [single(flat) for flat in flats]
    large, batches = _batches(flats)
    found = [_full(flats[index]).sum(dtype=torch.int32).view(1) for index in large]
    for batch in batches:
        parts = [flats[index] for index in batch]
        full = _full(torch.cat(parts)).to(torch.float32).split([part.numel() for part in parts])
        # The norm that adds up absolute values counts ones, of all tensors in one call.
        found.append(torch.stack(torch._foreach_norm(list(full), 1)).to(torch.int32))
    order = large + [index for batch in batches for index in batch]
    return torch.cat(found), order


def _full(flat: Tensor) -> Tensor:
    """Where all bits of the exponent are set."""
    return _upper(flat).bitwise_and(_EXPONENT).eq(_EXPONENT)


def nonfinite(counts: npt.NDArray[Any]) -> Counts:
    """How many of each row's values are infinite or no number: all bits of the exponent are set."""
    found: Counts = counts[:, 1020:1024].sum(1, np.int64) + counts[:, 2044:2048].sum(1, np.int64)
    return found


Pieces = list[tuple[int, list[int]]]
"""The first bin and the counts of each piece of a row."""


def pieces(counts: npt.NDArray[Any]) -> list[Pieces]:
    """The occupied bins of each row, in pieces.

    All rows at once: what is done for each of them is to cut lists.
    """
    columns = np.flatnonzero(counts.max(0)) if len(counts) else np.zeros(0, np.intp)
    taken = counts[:, columns]
    places = np.flatnonzero(taken)
    found: list[Pieces] = [[] for _ in range(len(counts))]
    if not len(places):
        return found
    rows, at = np.divmod(places, len(columns))
    where = rows * (BINS + _GAP + 1) + columns[at]  # no piece goes from a row to the next
    begins = np.flatnonzero(np.diff(where, prepend=-BINS) > _GAP)
    ends = np.append(begins[1:], len(where)) - 1
    lengths = where[ends] - where[begins] + 1
    edges = np.concatenate([[0], np.cumsum(lengths)])
    dense = np.zeros(edges[-1], counts.dtype)
    dense[where - np.repeat(where[begins] - edges[:-1], ends - begins + 1)] = taken.ravel()[places]
    values = dense.tolist()
    cuts = edges.tolist()
    owners, firsts = rows[begins].tolist(), columns[at[begins]].tolist()
    for row, bin_, (first, last) in zip(owners, firsts, pairwise(cuts), strict=True):
        found[row].append((bin_, values[first:last]))
    return found
