"""How the values of tensors were distributed, read back on exact edges.

The scheme ``float-bits-11`` is described to the bit in ``docs/format/log.md``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, overload

import numpy as np
import numpy.typing as npt

from trackway.api._frames import Columnar
from trackway.errors import ArgumentError

__all__ = ["BINS", "Histogram", "Histograms", "Quantile", "Told", "edges", "joined", "occupied"]

BINS: Final = 2048
SCHEME: Final = "float-bits-11"

_HALF: Final = 1024
_FINITE: Final = 1020
"""Bins of one sign that hold finite values; behind them infinity, and three of NaN."""

_MOST: Final = 1 << 53
"""A count beyond this is no count."""

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def _magnitudes() -> Floats:
    """The least magnitude of each finite bin of one sign, and 2**128, at which they end."""
    numbers = np.arange(_FINITE + 1)
    exponent, mantissa = numbers >> 2, numbers & 3
    normal = np.ldexp(1 + mantissa / 4, exponent - 127)
    return np.where(exponent == 0, np.ldexp(mantissa / 4, -126), normal)


_MAGNITUDES: Final = _magnitudes()


def edges() -> Floats:
    """The 2041 edges of the 2040 finite bins in order of value, each exactly a float.

    A bin of positive values holds its lower edge, one of negative values its upper edge. The two
    bins at 0 hold the two zeros.
    """
    return np.concatenate([-_MAGNITUDES[:0:-1], _MAGNITUDES])


class Quantile(NamedTuple):
    """A quantile as far as bins tell it.

    Attributes:
        value: A guess, linear within the bin.
        low: The quantile is not below this; exactly so.
        high: Nor above this.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Histogram:
    """The values of one tensor at one step.

    Attributes:
        of: ``gradients`` or ``parameters``.
        name: The tensor's.
        step: The optimizer's step.
        bins: The numbers of the occupied bins, 0 to 2047, rising.
        occupied: How many values each of them holds.
        ranks: How many ranks' counts were added; 1 where each has the whole tensor.
    """

    of: str
    name: str
    step: int
    bins: Ints
    occupied: Ints
    ranks: int = 1

    def __repr__(self) -> str:
        return f"<{self.of} of {self.name} at step {self.step}: {self.total} values>"

    @property
    def total(self) -> int:
        """How many values there are, with those that are not finite."""
        return int(self.occupied.sum())

    def _count(self, first: int, last: int) -> int:
        """Values in these bins of positive numbers."""
        return int(self.occupied[(self.bins >= first) & (self.bins <= last)].sum())

    def _both(self, first: int, last: int) -> int:
        return self._count(first, last) + self._count(first + _HALF, last + _HALF)

    @property
    def zeros(self) -> int:
        """Values that are 0 or -0, or smaller than 2**-128 in magnitude: one bin holds both."""
        return self._both(0, 0)

    @property
    def subnormals(self) -> int:
        """Subnormal values but those that are among ``zeros``: from 2**-128 to below 2**-126."""
        return self._both(1, 3)

    @property
    def positive_infinities(self) -> int:
        """Values that are infinity."""
        return self._count(_FINITE, _FINITE)

    @property
    def negative_infinities(self) -> int:
        """Values that are minus infinity."""
        return self._count(_FINITE + _HALF, _FINITE + _HALF)

    @property
    def nans(self) -> int:
        """Values that are NaN."""
        return self._both(_FINITE + 1, _HALF - 1)

    @property
    def finite(self) -> int:
        """Values that are numbers."""
        return self._both(0, _FINITE - 1)

    @property
    def counts(self) -> Ints:
        """Values in each of the 2040 finite bins, in order of value: on ``edges``."""
        dense = np.zeros(BINS, np.int64)
        dense[self.bins] = self.occupied
        return np.concatenate([dense[_HALF : _HALF + _FINITE][::-1], dense[:_FINITE]])

    @property
    def edges(self) -> Floats:
        """The 2041 edges of ``counts``."""
        return edges()

    def quantile(self, q: float) -> Quantile:
        """The value that a share ``q`` of the finite values does not exceed.

        The value of rank ``ceil(q * n)``: one that was there. Its bin is known, and so the bounds
        are exact; a bin is a quarter of an octave wide.

        Returns:
            NaN three times, where no value is finite.

        Raises:
            ArgumentError: ``q`` is not between 0 and 1.
        """
        if not 0 <= q <= 1:
            raise ArgumentError(f"q={q!r}: it is between 0 and 1")
        counts = self.counts
        before = np.cumsum(counts)
        total = int(before[-1])
        if not total:
            return Quantile(math.nan, math.nan, math.nan)
        rank = min(total, max(1, math.ceil(q * total)))
        place = int(np.searchsorted(before, rank))
        low, high = edges()[place : place + 2].tolist()
        within = (rank - (int(before[place]) - int(counts[place])) - 0.5) / int(counts[place])
        return Quantile(low + (high - low) * within, low, high)

    @property
    def largest(self) -> tuple[float, float]:
        """Between what the largest magnitude of a finite value lies; NaN twice without any."""
        magnitude = self.bins & (_HALF - 1)
        held = magnitude[(magnitude < _FINITE) & (self.occupied > 0)]
        if not len(held):
            return math.nan, math.nan
        top = int(held.max())
        return float(_MAGNITUDES[top]), float(_MAGNITUDES[top + 1])


class Histograms(Columnar, Sequence[Histogram]):
    """Histograms by step, those of one step in the order of the model."""

    def __init__(self, found: Iterable[Histogram]) -> None:
        self._found = list(found)

    def __len__(self) -> int:
        return len(self._found)

    @overload
    def __getitem__(self, place: int) -> Histogram: ...
    @overload
    def __getitem__(self, place: slice) -> Histograms: ...
    def __getitem__(self, place: int | slice) -> Histogram | Histograms:
        if isinstance(place, slice):
            return Histograms(self._found[place])
        return self._found[place]

    def __repr__(self) -> str:
        return f"<{len(self)} histograms: {len(self.names)} tensors, {len(self.steps)} steps>"

    @property
    def names(self) -> list[str]:
        """The tensors, in the order of the model."""
        return list(dict.fromkeys(each.name for each in self._found))

    @property
    def steps(self) -> list[int]:
        """The steps, rising."""
        return sorted({each.step for each in self._found})

    def table(self) -> dict[str, npt.NDArray[Any]]:
        """A row for each occupied bin: step, tensor, the bin's edges (not finite: twice), count."""
        low, high = _bounds()
        bins = [each.bins for each in self._found]
        sizes = [len(each) for each in bins]
        every = np.concatenate([*bins, np.empty(0, np.int64)])
        names = np.array([each.name for each in self._found], object)
        steps = np.array([each.step for each in self._found], np.int64)
        counts = [each.occupied for each in self._found]
        return {
            "step": np.repeat(steps, sizes),
            "name": np.repeat(names, sizes),
            "low": low[every],
            "high": high[every],
            "count": np.concatenate([*counts, np.empty(0, np.int64)]),
        }


def _bounds() -> tuple[Floats, Floats]:
    """The edges of each bin by its number, the lower and the upper one."""
    inside, outside = np.full(_HALF, np.nan), np.full(_HALF, np.nan)
    inside[:_FINITE], outside[:_FINITE] = _MAGNITUDES[:-1], _MAGNITUDES[1:]
    inside[_FINITE] = outside[_FINITE] = np.inf
    return np.concatenate([inside, -outside]), np.concatenate([outside, -inside])


# -- from events -----------------------------------------------------------------------------------


class Told(NamedTuple):
    """What one event says of one tensor at one step."""

    attempt: int
    source: object
    sharded: bool
    bins: Ints
    occupied: Ints


def occupied(pieces: object) -> tuple[Ints, Ints] | None:
    """The occupied bins and their counts; None for what no writer of the scheme writes."""
    if not isinstance(pieces, list):
        return None
    row = np.zeros(BINS, np.int64)
    for piece in pieces:
        if not (isinstance(piece, list) and len(piece) == 2 and isinstance(piece[1], list)):
            return None
        first, counts = piece
        if type(first) is not int or not 0 <= first <= BINS - len(counts):
            return None
        if not all(type(count) is int and 0 <= count < _MOST for count in counts):
            return None
        row[first : first + len(counts)] += np.array(counts, np.int64)
    bins = np.flatnonzero(row)
    return bins, row[bins]


def joined(of: str, found: Mapping[tuple[int, str], Sequence[Told]]) -> Histograms:
    """What was said of each step and tensor, in order of time, as one histogram each.

    The last word counts; of a tensor whose parts are on several ranks the last one of each rank in
    the last attempt that has any, added.
    """
    histograms = []
    for (step, name), every in found.items():
        last = every[-1]
        parts = {last.source: last}
        if last.sharded:
            parts = {
                told.source: told for told in every if told.sharded and told.attempt == last.attempt
            }
        row = np.zeros(BINS, np.int64)
        for told in parts.values():
            row[told.bins] += told.occupied
        bins = np.flatnonzero(row)
        histograms.append(Histogram(of, name, step, bins, row[bins], len(parts)))
    histograms.sort(key=lambda each: each.step)
    return Histograms(histograms)
