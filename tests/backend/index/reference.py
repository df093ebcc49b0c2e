"""The queries as plain loops over plain numbers, and a source that holds its points in lists."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from trackway.backend.index.codec import cells_of, decode_cells
from trackway.backend.index.grid import FloatGrid, Grid, StepGrid
from trackway.backend.index.source import CELL_STEPS, CellLine, Cells, Line

Point = tuple[int, float, float]
"""Step, time, value."""


@dataclass
class Lists:
    """A source of arrivals: for each key and run a list of points, in order of arrival.

    Attributes:
        arrivals: The points.
        started: When every run started.
        chunk: Points of one chunk that has a pyramid; the last ones are beside. 0: no pyramids.
        narrow: Whether values are handed out as float32 (they must be such).
    """

    arrivals: Mapping[str, Mapping[int, Sequence[Point]]]
    started: float = 0.0
    chunk: int = 0
    narrow: bool = False

    def points(self, key: str, run: int, repeats: str) -> list[Point]:
        """The points of a line, in step order."""
        arrived = list(self.arrivals.get(key, {}).get(run, ()))
        if repeats == "last":
            arrived = list({point[0]: point for point in arrived}.values())
        return sorted(arrived, key=lambda point: point[0])

    def lines(
        self,
        runs: Sequence[int],
        key: str,
        *,
        attempts: str = "live",
        repeats: str = "last",
        times: bool = True,
    ) -> list[Line]:
        """As Source says."""
        there = self.arrivals.get(key, {})
        found, shares = [], dict[tuple[int, ...], int]()
        for run in runs:
            if run in there:
                points = self.points(key, run, repeats)
                steps = tuple(point[0] for point in points)
                values = np.array([point[2] for point in points], np.float64)
                found.append(
                    Line(
                        run,
                        np.array(steps, np.int64),
                        np.array([point[1] for point in points], np.float64),
                        values.astype(np.float32) if self.narrow else values,
                        self.started,
                        shares.setdefault(steps, len(shares)),
                    )
                )
        return found

    def extent(self, runs: Sequence[int], key: str) -> tuple[int, int] | None:
        """As Source says."""
        there = self.arrivals.get(key, {})
        steps = [point[0] for run in runs for point in there.get(run, ())]
        return (min(steps), max(steps)) if steps else None

    def cells(self, runs: Sequence[int], key: str, lo: int, hi: int) -> dict[int, CellLine]:
        """As Source says; only for every other run, so that both ways are in one answer."""
        if not self.chunk:
            return {}
        there = self.arrivals.get(key, {})
        return {run: self._cell_line(key, run, lo, hi) for run in runs[::2] if run in there}

    def _cell_line(self, key: str, run: int, lo: int, hi: int) -> CellLine:
        points = self.points(key, run, "last")
        steps = np.array([point[0] for point in points], np.int64)
        values = np.array([point[2] for point in points], np.float64)
        whole = len(points) // self.chunk * self.chunk
        parts = []
        for start in range(0, whole, self.chunk):
            part = slice(start, start + self.chunk)
            packed = cells_of(steps[part], values[part])
            assert packed is not None
            cells = decode_cells(packed)
            keep = (cells.id * CELL_STEPS >= lo) & (cells.id * CELL_STEPS + CELL_STEPS - 1 <= hi)
            parts.append([getattr(cells, name)[keep] for name in Cells.__slots__])
        columns = zip(*parts, strict=True) if parts else ([np.empty(0)] for _ in Cells.__slots__)
        kinds = [np.int64, np.uint8, np.uint8, *[np.int64] * 4, *[np.float64] * 5]
        cells = Cells(*(np.concatenate(c).astype(k) for c, k in zip(columns, kinds, strict=True)))
        beside = (np.arange(len(steps)) >= whole) & (steps >= lo) & (steps <= hi)
        return CellLine(run, cells, steps[beside], values[beside], len(points))


def x_of(source: Lists, query: Any, run: int) -> list[tuple[Any, Point]]:
    """The points of a line with a finite x, in order of x, each with its x."""
    points = source.points(query.key, run, query.repeats)
    if query.x == "step":
        return [(point[0], point) for point in points]
    if query.x == "time":
        told = [(point[1], point) for point in points]
    elif query.x == "relative":
        told = [(point[1] - source.started, point) for point in points]
    else:
        name = query.x.removeprefix("metric:")
        other = {point[0]: point[2] for point in source.points(name, run, "last")}
        told = [(other.get(point[0], math.nan), point) for point in points]
    return sorted((entry for entry in told if math.isfinite(entry[0])), key=lambda entry: entry[0])


def bucket_of(grid: Grid, x: Any) -> int | None:
    """Which bucket an x is in."""
    if isinstance(grid, StepGrid):
        number = (x - grid.start) // grid.width
        return number if 0 <= number < grid.n else None
    assert isinstance(grid, FloatGrid)
    if not grid.lo <= x <= grid.hi:
        return None
    return min(bisect_right(grid.edges().tolist(), x) - 1, grid.n - 1) if grid.n > 1 else 0


def mean_of(values: Sequence[float]) -> float:
    """The mean, rounded once; NaN of nothing."""
    return float(sum(map(Fraction, values), Fraction(0)) / len(values)) if values else math.nan


def reduced(values: Sequence[float]) -> dict[str, Any]:
    """What a bucket's points come to."""
    finite = [value for value in values if math.isfinite(value)]
    return {
        "count": len(values),
        "nan": sum(value != value for value in values),
        "inf_pos": sum(value == math.inf for value in values),
        "inf_neg": sum(value == -math.inf for value in values),
        "min": min(finite, default=math.nan),
        "max": max(finite, default=math.nan),
        "mean": float(sum(map(Fraction, finite), Fraction(0)) / len(finite))
        if finite
        else math.nan,
        "first": values[0] if values else math.nan,
        "last": values[-1] if values else math.nan,
        "largest": max(map(abs, finite), default=0.0),
    }


def bucketed(source: Lists, query: Any, grid: Grid, run: int) -> list[dict[str, Any]]:
    """All buckets of a line."""
    held: list[list[float]] = [[] for _ in range(grid.n)]
    for x, point in x_of(source, query, run):
        number = bucket_of(grid, x)
        if number is not None:
            held[number].append(point[2])
    return [reduced(values) for values in held]
