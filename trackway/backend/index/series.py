"""One metric of many runs, in buckets or point by point, over any x.

**Buckets** are exact: whatever their number, what is told of each is what its points come to, and
what the answer as a whole stands for is said with it. Over steps they are aligned to multiples of
their width, and the range that was asked for is widened to whole buckets; over any other x they
are equal parts of the range.

**x** is ``step``; ``relative``: seconds since the run started; ``time``: seconds since 1970; or
another metric's name, whose last arrival at the same step is each point's x. (``metric:NAME`` is
a metric of any name, also of one of those words.) A line is in the order of its x, and where that
is equal, of its steps: times may go backwards. A point whose x is missing or not finite is left
out and counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from trackway.backend.index.grid import (
    HIGHEST,
    LOWEST,
    Grid,
    StepGrid,
    check_buckets,
    float_grid,
    step_grid,
)
from trackway.backend.index.kernels import Buckets, reduce_cells, reduce_lines
from trackway.backend.index.placing import PlacedLine, RawLine, placed
from trackway.backend.index.source import CELL_STEPS, CellLine, Source
from trackway.errors import ArgumentError

__all__ = ["RawLine", "SeriesAnswer", "SeriesQuery", "series"]

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class SeriesQuery:
    """What is asked.

    Attributes:
        runs: Numbers of runs, each once.
        key: The metric's name.
        x: ``step``, ``relative``, ``time`` or a metric's name.
        lo: Where the range begins, inclusive; None: with the first point of any of the lines.
        hi: Where it ends, inclusive; None: with the last point.
        buckets: At most so many, 1 to 100,000; None: the points themselves.
        attempts: ``live``, or ``all``: with what a resumed run replaced.
        repeats: ``last``: the last arrival of each step; ``all``: every arrival, in step order.
        compiled: Whether with compiled kernels; None: where this process has loaded them.
    """

    runs: Sequence[int]
    key: str
    x: str = "step"
    lo: float | None = None
    hi: float | None = None
    buckets: int | None = 1000
    attempts: Literal["live", "all"] = "live"
    repeats: Literal["last", "all"] = "last"
    compiled: bool | None = None


@dataclass(slots=True)
class SeriesAnswer:
    """What came of it.

    Attributes:
        query: What was asked.
        runs: The runs that have the metric, in the order that was asked for: rows of the arrays.
        missing: The runs that do not.
        lo: Where the range begins that the answer is about, widened to whole buckets; None where
            there is neither a point nor a range.
        hi: Where it ends, inclusive.
        grid: Where the buckets lie; None where there are none.
        buckets: What each comes to, [runs, buckets]; None where there are none.
        points: The points themselves, a line a run; None where buckets were asked for.
        ends: float64 [runs, 4]: x and value of each line's first point in the range, and of its
            last; NaN where it has none there.
        covered: int64 [runs], points in the range: what the answer stands for.
        total: int64 [runs], points of each whole line.
        left_out: int64 [runs], points that are not in it: no number, no finite x.
        exact: That nothing was sampled or estimated: True.
    """

    query: SeriesQuery
    runs: list[int]
    missing: list[int]
    ends: npt.NDArray[np.float64]
    covered: npt.NDArray[np.int64]
    total: npt.NDArray[np.int64]
    left_out: npt.NDArray[np.int64]
    lo: float | None = None
    hi: float | None = None
    grid: Grid | None = None
    buckets: Buckets | None = None
    points: list[RawLine] | None = None
    exact: bool = True

    def __repr__(self) -> str:
        shape = "points" if self.points is not None else "no buckets"
        if self.grid is not None:
            shape = f"{self.grid.n} buckets"
        covered, total = int(self.covered.sum()), int(self.total.sum())
        return (
            f"<{self.query.key} over {self.query.x}: {len(self.runs)} runs, {shape}, "
            f"{covered} of {total} points>"
        )


def series(source: Source, query: SeriesQuery) -> SeriesAnswer:
    """Answer a query.

    Raises:
        ArgumentError: ``buckets`` or the range is none that can be had.
    """
    _check(query)
    grid, cells = _cells(source, query)
    lines = placed(source, query, [run for run in query.runs if run not in cells])
    if query.buckets is None:
        return _raw(query, lines)
    if grid is None:
        lo, hi = _range(query, lines)
        if lo is None or hi is None:
            return _told(query, [_End(line) for line in lines])
        grid = _grid(query, lo, hi)
    rows = _in_order(query.runs, lines, cells)
    out = Buckets.empty(len(rows), grid.n, np.float64 if cells else _dtype(lines))
    ends = _filled(query, grid, rows, out)
    answer = _told(query, ends)
    answer.lo, answer.hi, answer.grid, answer.buckets = grid.lo, grid.hi, grid, out
    return answer


def _in_order(
    runs: Sequence[int], lines: Sequence[PlacedLine], cells: dict[int, CellLine]
) -> list[PlacedLine | CellLine]:
    found: dict[int, PlacedLine | CellLine] = {line.line.run: line for line in lines}
    found.update(cells)
    return [found[run] for run in runs if run in found]


def _filled(
    query: SeriesQuery, grid: Grid, rows: Sequence[PlacedLine | CellLine], out: Buckets
) -> list[_End]:
    """Fill the buckets; returns what each row covers."""
    places = [row for row, line in enumerate(rows) if isinstance(line, PlacedLine)]
    lines = [line for line in rows if isinstance(line, PlacedLine)]
    bounds = bounds_of(grid, lines)
    values = [line.values for line in lines]
    reduce_lines(values, bounds, out, places, compiled=query.compiled)
    covered = dict(zip(places, bounds, strict=True))
    ends = []
    for row, line in enumerate(rows):
        if isinstance(line, CellLine) and isinstance(grid, StepGrid):
            reduce_cells(line, grid.cell_bounds(line.cells.id), grid.bounds(line.steps), out, row)
            ends.append(_End.of_cells(line))
        elif isinstance(line, PlacedLine):
            ends.append(_End(line, int(covered[row][0]), int(covered[row][-1])))
    return ends


def _check(query: SeriesQuery) -> None:
    if query.buckets is not None:
        check_buckets(query.buckets)
    for name, value in (("lo", query.lo), ("hi", query.hi)):
        if value is not None and value != value:
            raise ArgumentError(f"{name}={value!r}: a range is from one number to another")
    if query.lo is not None and query.hi is not None and query.lo > query.hi:
        raise ArgumentError(f"lo={query.lo!r} is above hi={query.hi!r}")
    for name, choice, choices in (
        ("attempts", query.attempts, ("live", "all")),
        ("repeats", query.repeats, ("last", "all")),
    ):
        if choice not in choices:
            raise ArgumentError(f"{name}={choice!r}: it is one of {', '.join(choices)}")


def _range(query: SeriesQuery, lines: Sequence[PlacedLine]) -> tuple[Any, Any]:
    """The range that was asked for, its open ends where the points end; (None, None) of nothing."""
    lo, hi = query.lo, query.hi
    ends = [(line.x[0], line.x[-1]) for line in lines if len(line.x)]
    if ends:
        lo = min(first for first, _ in ends).item() if lo is None else lo
        hi = max(last for _, last in ends).item() if hi is None else hi
    return _settled(query, lo, hi)


def _settled(query: SeriesQuery, lo: float | None, hi: float | None) -> tuple[Any, Any]:
    """A range that is open at an end, and closed beyond the points there, holds none of them."""
    if lo is None or hi is None:
        return None, None
    lo, hi = min(lo, hi) if query.lo is None else lo, max(lo, hi) if query.hi is None else hi
    return (_whole(lo, up=True), _whole(hi, up=False)) if query.x == "step" else (lo, hi)


def _whole(step: float, *, up: bool) -> int:
    """A step from the range of them: the next one inside, where it is no whole number."""
    if isinstance(step, float):
        if step in (float("inf"), float("-inf")):
            return HIGHEST if step > 0 else LOWEST
        step = int(-(-step // 1)) if up else int(step // 1)
    return int(min(max(step, LOWEST), HIGHEST))


def _grid(query: SeriesQuery, lo: Any, hi: Any) -> Grid:
    buckets = query.buckets or 1
    return step_grid(lo, max(lo, hi), buckets) if query.x == "step" else float_grid(lo, hi, buckets)


def bounds_of(grid: Grid, lines: Sequence[PlacedLine]) -> list[npt.NDArray[np.int64]]:
    """Where each bucket begins in each line; one array for all lines of the same steps."""
    shared: dict[int, npt.NDArray[np.int64]] = {}
    bounds = []
    for line in lines:
        share = line.line.share if isinstance(grid, StepGrid) else None
        mine = None if share is None else shared.get(share)
        if mine is None:
            mine = grid.bounds(line.x)
            if share is not None:
                shared[share] = mine
        bounds.append(mine)
    return bounds


def _dtype(lines: Sequence[PlacedLine]) -> Any:
    narrow = lines and all(line.values.dtype == np.float32 for line in lines)
    return np.float32 if narrow else np.float64


@dataclass(slots=True)
class _End:
    """What one row covers."""

    line: PlacedLine | CellLine
    lo: int = 0
    hi: int = 0
    ends: tuple[float, float, float, float] = (np.nan,) * 4

    def __post_init__(self) -> None:
        if isinstance(self.line, PlacedLine) and self.hi > self.lo:
            x, values, last = self.line.x, self.line.values, self.hi - 1
            self.ends = x[self.lo], values[self.lo], x[last], values[last]

    @classmethod
    def of_cells(cls, line: CellLine) -> _End:
        cells = line.cells
        told = cls(line, 0, int(cells.count.sum()) + len(line.steps))
        firsts, lasts = [], []
        if len(cells):
            firsts.append((int(cells.id[0]) * CELL_STEPS + int(cells.low[0]), cells.first[0]))
            lasts.append((int(cells.id[-1]) * CELL_STEPS + int(cells.high[-1]), cells.last[-1]))
        if len(line.steps):
            firsts.append((int(line.steps[0]), line.values[0]))
            lasts.append((int(line.steps[-1]), line.values[-1]))
        if firsts:
            told.ends = (*min(firsts, key=_step), *max(lasts, key=_step))
        return told

    @property
    def run(self) -> int:
        return self.line.run if isinstance(self.line, CellLine) else self.line.line.run

    @property
    def total(self) -> int:
        if isinstance(self.line, CellLine):
            return self.line.total + self.line.left_out
        return len(self.line.line.steps) + self.line.line.left_out

    @property
    def left_out(self) -> int:
        if isinstance(self.line, CellLine):
            return self.line.left_out
        return self.line.left_out + self.line.line.left_out


def _step(point: tuple[int, Any]) -> int:
    return point[0]


def _told(query: SeriesQuery, ends: Sequence[_End]) -> SeriesAnswer:
    """An answer without buckets and points."""
    runs = [end.run for end in ends]
    there = set(runs)
    return SeriesAnswer(
        query=query,
        runs=runs,
        missing=[run for run in query.runs if run not in there],
        ends=np.array([end.ends for end in ends], np.float64).reshape(-1, 4),
        covered=np.array([end.hi - end.lo for end in ends], np.int64),
        total=np.array([end.total for end in ends], np.int64),
        left_out=np.array([end.left_out for end in ends], np.int64),
    )


def _raw(query: SeriesQuery, lines: Sequence[PlacedLine]) -> SeriesAnswer:
    lo, hi = _range(query, lines)
    ends, points = [], []
    for line in lines:
        first, last = (0, 0)
        if lo is not None and lo <= hi:
            first = int(np.searchsorted(line.x, lo, side="left"))
            last = int(np.searchsorted(line.x, hi, side="right"))
        ends.append(_End(line, first, last))
        points.append(line.part(first, last))
    answer = _told(query, ends)
    answer.lo, answer.hi, answer.points = lo, hi, points
    return answer


def _cells(source: Source, query: SeriesQuery) -> tuple[Grid | None, dict[int, CellLine]]:
    """The pyramids that can be used, and the grid they are for."""
    resolved = (query.x, query.attempts, query.repeats) == ("step", "live", "last")
    if query.buckets is None or not resolved:
        return None, {}
    lo, hi = query.lo, query.hi
    if lo is None or hi is None:
        extent = source.extent(query.runs, query.key)
        if extent is None:
            return None, {}
        lo, hi = extent[0] if lo is None else lo, extent[1] if hi is None else hi
    grid = _grid(query, *_settled(query, lo, hi))
    if not isinstance(grid, StepGrid) or not grid.fits_cells:
        return None, {}
    cells = source.cells(query.runs, query.key, grid.lo, grid.hi)
    return (grid if cells else None), cells
