"""Where the buckets of an answer lie."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from trackway.backend.index.source import CELL_STEPS
from trackway.errors import ArgumentError

__all__ = [
    "MAX_BUCKETS",
    "FloatGrid",
    "Grid",
    "StepGrid",
    "check_buckets",
    "float_grid",
    "step_grid",
]

MAX_BUCKETS: Final = 100_000
LOWEST: Final = -(1 << 63)
HIGHEST: Final = (1 << 63) - 1
_WRAP: Final = (1 << 64) - 1
WIDE: Final = 3 * CELL_STEPS
"""Buckets from this width on are made of whole cells: rounding up costs at most a quarter of them.
Narrower ones are as narrow as they may be, and filled from the points, which are not so many."""

_TRIES: Final = WIDE


def check_buckets(buckets: object) -> None:
    """Raise ArgumentError unless this is a number of buckets one can ask for."""
    if not isinstance(buckets, int) or not 1 <= buckets <= MAX_BUCKETS:
        raise ArgumentError(f"buckets={buckets!r}: it is a whole number from 1 to {MAX_BUCKETS}")


@dataclass(frozen=True, slots=True)
class StepGrid:
    """Buckets over steps: bucket b holds the steps from start + b * width, ``width`` of them.

    Attributes:
        start: A multiple of ``width``, save where one bucket must hold both sides of one. It may
            be below 64 bits, and the last bucket may end beyond them.
        width: At least 1; a multiple of CELL_STEPS from WIDE on.
        n: Buckets.
    """

    start: int
    width: int
    n: int

    @property
    def lo(self) -> int:
        """The lowest step a point can have here."""
        return max(self.start, LOWEST)

    @property
    def hi(self) -> int:
        """The highest step a point can have here."""
        return min(self.start + self.n * self.width - 1, HIGHEST)

    @property
    def fits_cells(self) -> bool:
        """Whether each cell of a pyramid lies within one bucket."""
        return self.width % CELL_STEPS == 0 and self.start % CELL_STEPS == 0

    def edges(self) -> npt.NDArray[np.float64]:
        """float64 [n + 1]: where each bucket begins, and the last ends."""
        return np.array([float(self.start + b * self.width) for b in range(self.n + 1)])

    def bounds(self, steps: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """int64 [n + 1]: bucket b holds the points bounds[b]:bounds[b + 1] of rising steps."""
        # Only the two outer edges can be beyond 64 bits. The inner ones are not, so that working
        # them out modulo 2**64 is exact, however wide a bucket is.
        inner = np.arange(1, self.n, dtype=np.uint64) * np.uint64(self.width & _WRAP)
        inner += np.uint64(self.start & _WRAP)
        bounds = np.empty(self.n + 1, np.int64)
        bounds[0] = np.searchsorted(steps, self.lo, side="left")
        bounds[1:-1] = np.searchsorted(steps, inner.view(np.int64), side="left")
        bounds[-1] = np.searchsorted(steps, self.hi, side="right")
        return bounds

    def cell_bounds(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """As ``bounds``, for rising ids of cells; where ``fits_cells``."""
        per_bucket = self.width // CELL_STEPS
        edges = np.arange(self.n + 1, dtype=np.int64) * per_bucket + self.start // CELL_STEPS
        return np.searchsorted(ids, edges, side="left").astype(np.int64)


def step_grid(lo: int, hi: int, buckets: int) -> StepGrid:
    """At most so many buckets over the steps from ``lo`` to ``hi``, both inclusive.

    Each begins at a multiple of its width, so that what is added behind an end, or a range that is
    moved, leaves the other buckets as they are.
    """
    check_buckets(buckets)
    lo, hi = max(lo, LOWEST), min(hi, HIGHEST)
    span = hi - lo + 1
    width = _fitting(-(-span // buckets))
    # How many buckets a range touches depends on where it begins, so the narrowest width is found
    # by trying. The last one always does: a range may begin within a bucket and end within one.
    for _ in range(_TRIES):
        if hi // width - lo // width < buckets:
            break
        width = _fitting(width + 1)
    else:
        width = _fitting(-(-(span - 1) // max(buckets - 1, 1)))
    first, last = lo // width, hi // width
    if last - first < buckets:
        return StepGrid(first * width, width, last - first + 1)
    start = lo // CELL_STEPS * CELL_STEPS if span >= WIDE else lo
    return StepGrid(start, _fitting(hi - start + 1), 1)


def _fitting(width: int) -> int:
    return width if width < WIDE else -(-width // CELL_STEPS) * CELL_STEPS


@dataclass(frozen=True, slots=True)
class FloatGrid:
    """Buckets of equal width from ``lo`` to ``hi``; each holds its lower edge, the last both.

    Attributes:
        lo: Lower edge of the first bucket.
        hi: Upper edge of the last one.
        n: Buckets; 1 where ``lo`` is ``hi``.
    """

    lo: float
    hi: float
    n: int

    @property
    def width(self) -> float:
        """How wide a bucket is."""
        return self.hi / self.n - self.lo / self.n

    def edges(self) -> npt.NDArray[np.float64]:
        """float64 [n + 1], which do not fall; the first is ``lo`` and the last ``hi``, exactly."""
        part = np.arange(self.n + 1) / self.n
        # Not lo + part * (hi - lo): the difference of two float64 may be beyond float64.
        edges = self.lo * (1.0 - part) + self.hi * part
        edges[0], edges[-1] = self.lo, self.hi
        inner: npt.NDArray[np.float64] = np.clip(np.maximum.accumulate(edges), self.lo, self.hi)
        return inner

    def bounds(self, x: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        """int64 [n + 1]: bucket b holds the points bounds[b]:bounds[b + 1] of rising x."""
        bounds = np.searchsorted(x, self.edges(), side="left").astype(np.int64)
        bounds[-1] = np.searchsorted(x, self.hi, side="right")
        return bounds


Grid = StepGrid | FloatGrid


def float_grid(lo: float, hi: float, buckets: int) -> FloatGrid:
    """So many buckets from ``lo`` to ``hi``, both inclusive and finite."""
    check_buckets(buckets)
    if not (math.isfinite(lo) and math.isfinite(hi)):
        raise ArgumentError(f"a range is from one finite number to another, not {lo!r} to {hi!r}")
    return FloatGrid(float(lo), float(hi), buckets if lo < hi else 1)
