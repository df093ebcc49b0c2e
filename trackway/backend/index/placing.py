"""Lines with their x: steps, times, or what another metric was at the same step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from trackway.backend.index.source import Line, Source

__all__ = ["Asked", "PlacedLine", "RawLine", "placed"]

Array = npt.NDArray[Any]

_METRIC: Final = "metric:"


class Asked(Protocol):
    """What a query says of the lines it is about."""

    @property
    def key(self) -> str:
        """The metric's name."""

    @property
    def x(self) -> str:
        """``step``, ``relative``, ``time`` or a metric's name."""

    @property
    def buckets(self) -> int | None:
        """How many buckets at most; None: the points themselves."""

    @property
    def attempts(self) -> str:
        """``live`` or ``all``."""

    @property
    def repeats(self) -> str:
        """``last`` or ``all``."""


@dataclass(frozen=True, slots=True)
class RawLine:
    """The points of one run within the range, in order of x.

    Attributes:
        run: The run's number.
        x: int64 over steps, else float64.
        steps: int64.
        times: float64, seconds since 1970.
        values: float32 or float64.
    """

    run: int
    x: Array
    steps: npt.NDArray[np.int64]
    times: npt.NDArray[np.float64]
    values: Array


@dataclass(slots=True)
class PlacedLine:
    """A line with its x, in order of x."""

    line: Line
    x: Array
    order: npt.NDArray[np.intp] | None = None
    left_out: int = 0
    _values: Array | None = field(default=None, repr=False)

    @property
    def values(self) -> Array:
        """The values in order of x."""
        if self._values is None:
            values = self.line.values
            self._values = values if self.order is None else values[self.order]
        return self._values

    def part(self, lo: int, hi: int) -> RawLine:
        """The points from one place in the order of x to another."""
        where: Any = slice(lo, hi) if self.order is None else self.order[lo:hi]
        line = self.line
        return RawLine(
            line.run, self.x[lo:hi], line.steps[where], line.times[where], line.values[where]
        )


def placed(source: Source, query: Asked, runs: Sequence[int]) -> list[PlacedLine]:
    """The lines of some of a query's runs with their x."""
    if not runs:
        return []
    lines = source.lines(
        runs,
        query.key,
        attempts=query.attempts,
        repeats=query.repeats,
        times=query.buckets is None or query.x in ("time", "relative"),
    )
    if query.x == "step":
        return [PlacedLine(line, line.steps) for line in lines]
    if query.x == "time":
        return [_ordered(line, line.times) for line in lines]
    if query.x == "relative":
        return [_ordered(line, line.times - line.started) for line in lines]
    name = query.x.removeprefix(_METRIC)
    others = {
        other.run: other
        for other in source.lines(
            [line.run for line in lines], name, attempts=query.attempts, repeats="last", times=False
        )
    }
    return [_joined(line, others.get(line.run)) for line in lines]


def _ordered(line: Line, x: npt.NDArray[np.float64]) -> PlacedLine:
    finite = np.isfinite(x)
    if finite.all():
        if (x[1:] >= x[:-1]).all():
            return PlacedLine(line, x)
        order = np.argsort(x, kind="stable")
        return PlacedLine(line, x[order], order)
    there = np.flatnonzero(finite)
    order = there[np.argsort(x[there], kind="stable")]
    return PlacedLine(line, x[order], order, len(x) - len(order))


def _joined(line: Line, other: Line | None) -> PlacedLine:
    x = np.full(len(line.steps), np.nan)
    if other is not None and len(other.steps):
        place = np.searchsorted(other.steps, line.steps)
        place[place == len(other.steps)] = 0
        found = other.steps[place] == line.steps
        x[found] = other.values[place[found]]
    return _ordered(line, x)
