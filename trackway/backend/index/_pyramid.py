"""Cells of a pyramid: what each stretch of CELL_STEPS steps comes to, as bytes and as arrays."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from trackway.backend.index._integers import decode_integers, encode_integers
from trackway.backend.index._numbers import HEAD_BYTES, pack, pack_head, unpack, unpack_head
from trackway.backend.index.contract import IndexDamagedError
from trackway.backend.index.source import CELL_STEPS, Cells

__all__ = ["cells_of", "decode_cells"]

Array = npt.NDArray[Any]

_CELLS_32: Final = 22
_CELLS_64: Final = 23
_SMALL: Final = ("low", "high", "count", "nan", "inf_pos", "inf_neg")
_VALUES: Final = ("min", "max", "first", "last")
_SHIFT: Final = CELL_STEPS.bit_length() - 1


def cells_of(steps: Array, values: Array) -> bytes | None:
    """The pyramid of a chunk: a cell for each stretch of CELL_STEPS steps that has points.

    Returns:
        None where it could not be exact: steps that are no int64 or do not rise strictly, values
        that are objects, or a cell whose sum exceeds float64.
    """
    if steps.dtype != np.int64 or values.dtype == object or not len(steps):
        return None
    if not (steps[1:] > steps[:-1]).all():
        return None
    cells = gathered(steps, np.ascontiguousarray(values, np.float64))
    return encode_cells(cells) if np.isfinite(cells.sum).all() else None


def gathered(steps: npt.NDArray[np.int64], values: npt.NDArray[np.float64]) -> Cells:
    """The cells of points whose steps rise strictly."""
    ids = steps >> _SHIFT
    starts = np.concatenate([[0], np.flatnonzero(ids[1:] != ids[:-1]) + 1])
    ends = np.append(starts[1:], len(steps)) - 1
    with np.errstate(over="ignore", invalid="ignore"):
        total = np.add.reduceat(values, starts)
    none = np.zeros(len(starts), np.int64)
    nan = inf_pos = inf_neg = none
    if np.isfinite(total).all():
        low, high = np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts)
    else:
        finite = np.isfinite(values)
        with np.errstate(over="ignore", invalid="ignore"):
            total = np.add.reduceat(np.where(finite, values, 0.0), starts)
        there = np.where(finite, values, np.nan)
        low, high = np.fmin.reduceat(there, starts), np.fmax.reduceat(there, starts)
        nan, inf_pos, inf_neg = (
            np.add.reduceat(mask, starts, dtype=np.int64)
            for mask in (np.isnan(values), values == np.inf, values == -np.inf)
        )
    return Cells(
        id=ids[starts],
        low=(steps[starts] & (CELL_STEPS - 1)).astype(np.uint8),
        high=(steps[ends] & (CELL_STEPS - 1)).astype(np.uint8),
        count=ends - starts + 1,
        nan=nan,
        inf_pos=inf_pos,
        inf_neg=inf_neg,
        min=low,
        max=high,
        sum=total,
        first=values[starts],
        last=values[ends],
    )


def encode_cells(cells: Cells) -> bytes:
    """Cells as bytes, exactly."""
    ids = encode_integers(cells.id)
    small = pack(np.concatenate([getattr(cells, name).astype(np.uint16) for name in _SMALL]))
    wide = np.concatenate([getattr(cells, name) for name in _VALUES])
    with np.errstate(over="ignore", invalid="ignore"):
        narrow = wide.astype(np.float32)
        exact = bool((narrow.astype(np.float64).view(np.int64) == wide.view(np.int64)).all())
    values = pack(narrow if exact else wide)
    head = pack_head(
        _CELLS_32 if exact else _CELLS_64,
        len(cells),
        len(ids) | len(small) << 32,
        len(values),
    )
    return b"".join([head, ids, small, values, pack(cells.sum)])


def decode_cells(data: bytes) -> Cells:
    """What ``cells_of`` made; IndexDamagedError where the bytes cannot be read."""
    kind, count, lengths, third = unpack_head(data)
    if kind not in (_CELLS_32, _CELLS_64):
        raise IndexDamagedError(f"a piece of the index is no pyramid: kind {kind}")
    small_at = HEAD_BYTES + (lengths & 0xFFFFFFFF)
    values_at = small_at + (lengths >> 32)
    ids = decode_integers(data[HEAD_BYTES:small_at])
    if len(ids) != count:
        raise IndexDamagedError("a pyramid has more or fewer ids than cells")
    small = unpack(data[:values_at], small_at, np.uint16, len(_SMALL) * count).reshape(-1, count)
    dtype = np.float32 if kind == _CELLS_32 else np.float64
    sums_at = values_at + third
    wide = unpack(data[:sums_at], values_at, dtype, len(_VALUES) * count).astype(np.float64)
    nan, inf_pos, inf_neg = small[3:].astype(np.int64)
    least, most, first, last = wide.reshape(-1, count)
    return Cells(
        id=ids,
        low=small[0].astype(np.uint8),
        high=small[1].astype(np.uint8),
        count=small[2].astype(np.int64),
        nan=nan,
        inf_pos=inf_pos,
        inf_neg=inf_neg,
        min=least,
        max=most,
        sum=unpack(data, sums_at, np.float64, count),
        first=first,
        last=last,
    )
