"""Small tensors of the host, copied beside each other: one call does for all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trackway.integrations.pytorch._bits import BINS

__all__ = ["MOST", "SMALL", "Together", "fits"]

SMALL: Final = 10_000
"""Elements: larger tensors are read where they lie."""

MOST: Final = 1 << 21
"""Elements that lie beside each other at the most; with more there are several of these."""

_ROWS: Final = 64
_KEYS: Final = 1 << 16
"""Tensors and elements counted at a time: they and their counters stay in the cache."""

_LEAST: Final = 1e-30
"""A sum of squares below this, in single precision, has lost what was too small for it."""

_TYPES: Final = (torch.float32, torch.bfloat16, torch.float16)


def fits(tensor: Tensor) -> bool:
    """Whether it is one of these."""
    return (
        tensor.layout is torch.strided
        and tensor.is_cpu
        and tensor.dtype in _TYPES
        and tensor.numel() <= SMALL
    )


class Together:
    """A buffer of singles that holds several tensors, and what is asked of them.

    Args:
        shapes: The tensors' shapes.
    """

    def __init__(self, shapes: Sequence[Sequence[int]]) -> None:
        sizes = [math.prod(shape) for shape in shapes]
        self._buffer = torch.empty(sum(sizes))
        self.flats = list(self._buffer.split(sizes))
        self._views = [flat.view(*shape) for flat, shape in zip(self.flats, shapes, strict=True)]
        self._arrays = [flat.numpy() for flat in self.flats]
        self._all = self._buffer.numpy()
        self._sizes = sizes
        self._batches: list[tuple[slice, Tensor, npt.NDArray[np.int64]]] = []

    def load(self, tensors: Sequence[Tensor]) -> None:
        """Copy the tensors into it."""
        torch._foreach_copy_(self._views, list(tensors))

    def subtract_from(self, other: Together) -> None:
        """Hold what is left of the other one's values less these."""
        with np.errstate(all="ignore"):
            np.subtract(other._all, self._all, out=self._all)

    def norms(self) -> npt.NDArray[np.float64]:
        """The norm of each tensor."""
        with np.errstate(all="ignore"):
            squares = np.array([array.dot(array) for array in self._arrays], np.float64)
            for index in np.flatnonzero(~((squares > _LEAST) & (squares < np.inf))).tolist():
                wide = self._arrays[index].astype(np.float64)
                squares[index] = wide.dot(wide)
            found: npt.NDArray[np.float64] = np.sqrt(squares)
        return found

    def counts(self) -> Tensor:
        """How many values of each tensor are in each bin; the next call writes it anew."""
        if not self._batches:
            self._prepare()
        bits: Any = self._all.view(np.uint32)
        self._counts.zero_()
        for where, counters, first in self._batches:
            keys = self._keys[: len(first)]
            np.right_shift(bits[where], 21, out=keys, casting="unsafe")
            np.add(keys, first, out=keys)
            counters.scatter_add_(0, torch.from_numpy(keys), self._ones[: len(first)])
        return self._counts

    def _prepare(self) -> None:
        self._keys = np.empty(max(_KEYS, *self._sizes), np.int64)
        self._ones = torch.ones(len(self._keys), dtype=torch.int32)
        self._counts = torch.zeros(len(self._sizes), BINS, dtype=torch.int32)
        row = at = 0
        while row < len(self._sizes):
            last, size = row, 0
            while (
                last < len(self._sizes)
                and last - row < _ROWS
                and (last == row or size + self._sizes[last] <= _KEYS)
            ):
                size += self._sizes[last]
                last += 1
            first = np.repeat(np.arange(last - row) * BINS, self._sizes[row:last])
            counters = self._counts[row:last].view(-1)
            self._batches.append((slice(at, at + size), counters, first))
            row, at = last, at + size
