"""Points and cells to buckets: with NumPy, or compiled where ``warm`` was called.

Both give the same counts, extremes, first and last values to the bit. Sums are float64 and differ
in their order: means agree within 1e-12 of the largest magnitude in the bucket.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from trackway.backend.index import _numba
from trackway.backend.index.source import CELL_STEPS, CellLine

__all__ = ["Buckets", "reduce_cells", "reduce_lines", "warm"]

Array = npt.NDArray[Any]
Bounds = npt.NDArray[np.int64]

_WORKERS: Final = min(4, os.cpu_count() or 1)
_LINES_A_WORKER: Final = 32
_BLOCK_BYTES: Final = 1 << 19
"""Lines of equal steps are reduced together as long as they stay in the processor's cache."""

_SHORT: Final = 48
"""Up to so many points a bucket, equal buckets are reduced across, not along: as measured."""

_SHRINK: Final = 2.0**-64


def warm() -> bool:
    """Load the compiled kernels, for a process that will give many answers; it takes seconds.

    Returns:
        Whether there are any: numba is installed.
    """
    return _numba.load() is not None


@dataclass(slots=True)
class Buckets:
    """What each bucket of each line comes to; all arrays are [lines, buckets].

    Attributes:
        count: int32, points, NaN and infinities included.
        nan: int32, how many of them are NaN.
        inf_pos: int32, how many are +inf.
        inf_neg: int32, how many are -inf.
        min: Of the finite values, as float32 where all lines are such, else float64; NaN where
            there is none. Zero has no sign here.
        max: Likewise.
        mean: float64, likewise.
        first: The value of the first point itself, also if it is NaN or infinite.
        last: Of the last one.
    """

    count: npt.NDArray[np.int32]
    nan: npt.NDArray[np.int32]
    inf_pos: npt.NDArray[np.int32]
    inf_neg: npt.NDArray[np.int32]
    min: Array
    max: Array
    mean: npt.NDArray[np.float64]
    first: Array
    last: Array

    @classmethod
    def empty(cls, lines: int, buckets: int, dtype: Any) -> Buckets:
        """Buckets that are to be filled; only ``nan`` and the infinities are 0 already."""
        shape = lines, buckets
        return cls(
            count=np.empty(shape, np.int32),
            nan=np.zeros(shape, np.int32),
            inf_pos=np.zeros(shape, np.int32),
            inf_neg=np.zeros(shape, np.int32),
            min=np.empty(shape, dtype),
            max=np.empty(shape, dtype),
            mean=np.empty(shape, np.float64),
            first=np.empty(shape, dtype),
            last=np.empty(shape, dtype),
        )

    def columns(self, lo: int, hi: int) -> Buckets:
        """Some of the buckets, as a view."""
        return Buckets(*(getattr(self, name)[:, lo:hi] for name in Buckets.__slots__))

    @property
    def finite(self) -> npt.NDArray[np.int32]:
        """How many values of each bucket are finite."""
        return self.count - self.nan - self.inf_pos - self.inf_neg


def reduce_lines(
    values: Sequence[Array],
    bounds: Sequence[Bounds],
    out: Buckets,
    rows: Sequence[int],
    *,
    compiled: bool | None = None,
) -> None:
    """Fill rows of ``out``.

    Args:
        values: The values of each line, in the order of its x.
        bounds: For each line: bucket b holds values[bounds[b]:bounds[b + 1]]. Lines that follow
            each other with the very same array are reduced together.
        out: What is filled.
        rows: The row of each line.
        compiled: Whether with compiled kernels; None: where they are loaded.
    """
    kernels = _numba.load() if compiled else None if compiled is False else _numba.loaded()
    if kernels is not None:
        parts = tuple(getattr(out, name) for name in Buckets.__slots__)
        jobs = list(zip(values, bounds, rows, strict=True))

        def reduce(first: int, step: int) -> None:
            for line, edges, row in jobs[first::step]:
                kernels.reduce_line(line, edges, row, *parts)

        workers = min(_WORKERS, len(jobs) // _LINES_A_WORKER)
        if workers < 2:
            reduce(0, 1)
            return
        # A compiled kernel holds no lock, and each line fills a row of its own.
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(reduce, range(workers), [workers] * workers))
        return
    start = 0
    while start < len(values):
        end = _alike(values, bounds, start)
        _reduce_block(values[start:end], bounds[start], out, np.asarray(rows[start:end]))
        start = end


def _alike(values: Sequence[Array], bounds: Sequence[Bounds], start: int) -> int:
    """Behind the last of the lines that can be reduced together with the one at ``start``."""
    end, room = start + 1, _BLOCK_BYTES // max(values[start].nbytes, 1)
    while (
        end < len(values)
        and end - start < room
        and bounds[end] is bounds[start]
        and values[end].dtype == values[start].dtype
    ):
        end += 1
    return end


def _reduce_block(lines: Sequence[Array], bounds: Bounds, out: Buckets, rows: Array) -> None:
    """Fill the rows of lines that share their bounds."""
    counts = np.diff(bounds)
    inner = counts[1:-1]
    if len(inner) and 0 < inner[0] <= _SHORT and (inner == inner[0]).all():
        # As long as only the buckets at the ends are cut short, the others are reduced as one.
        last = len(inner) + (1 if counts[-1] == inner[0] else 0) + 1
        first = 0 if counts[0] == inner[0] else 1
        for lo, hi in ((0, first), (first, last), (last, len(counts))):
            if lo < hi:
                _reduce_part(lines, bounds[lo : hi + 1], out.columns(lo, hi), rows)
        return
    _reduce_part(lines, bounds, out, rows)


def _reduce_part(lines: Sequence[Array], bounds: Bounds, out: Buckets, rows: Array) -> None:
    counts = np.diff(bounds)
    full = np.flatnonzero(counts)
    out.count[rows] = counts
    if len(full) < len(counts):
        for part in (out.min, out.max, out.mean, out.first, out.last):
            part[rows] = np.nan
    if not len(full):
        return
    begin, end = bounds[0], bounds[-1]
    flat = lines[0][begin:end] if len(lines) == 1 else np.concatenate([v[begin:end] for v in lines])
    # One after the other: each bucket ends where the next one begins, also across lines.
    offsets = np.arange(len(lines), dtype=np.int64)[:, None] * (end - begin)
    starts = (offsets + (bounds[full] - begin)).ravel()
    sizes = counts[full]
    ends = (offsets + (bounds[full] - begin + sizes - 1)).ravel()
    where: Any = rows[:, None], full
    shape = len(lines), len(full)
    if len(full) == len(counts) and int(rows[-1]) - int(rows[0]) == len(rows) - 1:
        where = slice(int(rows[0]), int(rows[-1]) + 1)  # a view, not a scatter
    out.first[where] = flat[starts].reshape(shape)
    out.last[where] = flat[ends].reshape(shape)
    reduced = _evenly(flat, sizes, len(lines)) or _unevenly(flat, starts)
    if reduced is None:
        _reduce_carefully(flat, starts, np.tile(sizes, len(lines)), out, where, shape)
        return
    total, low, high = (part.reshape(shape) for part in reduced)
    np.add(low, 0.0, out=low)  # -0.0 + 0.0 is 0.0: else the sign would depend on the order
    np.add(high, 0.0, out=high)
    out.min[where], out.max[where] = low, high
    out.mean[where] = total / sizes


_Reduced = tuple[Array, Array, Array]


def _evenly(flat: Array, sizes: Array, lines: int) -> _Reduced | None:
    """Sums and extremes of many short buckets of one size; None where they are not such."""
    size = int(sizes[0])
    if size > _SHORT or (sizes != size).any():
        return None
    if size == 1:
        across = flat.reshape(1, -1)
    else:
        across = np.empty((size, len(flat) // size), flat.dtype)
        by_bucket = flat.reshape(-1, size)
        for place in range(size):
            across[place] = by_bucket[:, place]
    with np.errstate(over="ignore", invalid="ignore"):
        total = across[0].astype(np.float64)
        for part in across[1:]:
            total += part
    if not np.isfinite(total).all():
        return None
    return total, np.minimum.reduce(across, axis=0), np.maximum.reduce(across, axis=0)


def _unevenly(flat: Array, starts: Array) -> _Reduced | None:
    """Sums and extremes of buckets; None where a value or a sum is not finite."""
    with np.errstate(over="ignore", invalid="ignore"):
        total = np.add.reduceat(flat.astype(np.float64, copy=False), starts)
    if not np.isfinite(total).all():
        return None
    return total, np.minimum.reduceat(flat, starts), np.maximum.reduceat(flat, starts)


def _reduce_carefully(
    flat: Array, starts: Array, sizes: Array, out: Buckets, where: Any, shape: tuple[int, int]
) -> None:
    """Where there are NaN, infinities, or sums beyond float64."""
    finite = np.isfinite(flat)
    for part, mask in (
        (out.nan, np.isnan(flat)),
        (out.inf_pos, flat == np.inf),
        (out.inf_neg, flat == -np.inf),
    ):
        part[where] = np.add.reduceat(mask, starts, dtype=np.int32).reshape(shape)
    there = np.add.reduceat(finite, starts, dtype=np.int64)
    numbers = np.where(finite, flat, flat.dtype.type(np.nan))
    low, high = np.fmin.reduceat(numbers, starts), np.fmax.reduceat(numbers, starts)
    out.min[where] = low.reshape(shape) + low.dtype.type(0.0)
    out.max[where] = high.reshape(shape) + high.dtype.type(0.0)
    values = np.where(finite, flat, flat.dtype.type(0.0)).astype(np.float64)
    out.mean[where] = means(values, starts, there).reshape(shape)


def means(sums: Array, starts: Array, counts: Array) -> npt.NDArray[np.float64]:
    """The sum of each stretch of finite numbers, by a count; NaN where that is 0."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        mean: npt.NDArray[np.float64] = np.add.reduceat(sums, starts) / counts
        beyond = ~np.isfinite(mean) & (counts > 0)
        if beyond.any():
            small = np.add.reduceat(sums * _SHRINK, starts) / counts / _SHRINK
            mean[beyond] = small[beyond]
    mean[counts == 0] = np.nan
    return mean


def reduce_cells(
    line: CellLine, cell_bounds: Bounds, bounds: Bounds, out: Buckets, row: int
) -> None:
    """Fill one row of ``out`` from cells and the points beside them.

    Args:
        line: The cells and the points.
        cell_bounds: Bucket b holds the cells cell_bounds[b]:cell_bounds[b + 1].
        bounds: Likewise, of the points.
        out: What is filled.
        row: Which row.
    """
    cells, shift = line.cells, CELL_STEPS.bit_length() - 1
    at_points, at_cells = _of(bounds), _of(cell_bounds)
    finite = np.isfinite(line.values)
    values = line.values.astype(np.float64)
    numbers = np.where(finite, values, np.nan)
    cell_numbers = cells.count - cells.nan - cells.inf_pos - cells.inf_neg
    n = len(bounds) - 1
    out.count[row] = np.diff(bounds) + _sums(cells.count, at_cells, n)
    out.nan[row] = _sums(np.isnan(values), at_points, n) + _sums(cells.nan, at_cells, n)
    out.inf_pos[row] = _sums(values == np.inf, at_points, n) + _sums(cells.inf_pos, at_cells, n)
    out.inf_neg[row] = _sums(values == -np.inf, at_points, n) + _sums(cells.inf_neg, at_cells, n)
    out.min[row] = 0.0 + np.fmin(
        _put(np.fmin, numbers, at_points, n), _put(np.fmin, cells.min, at_cells, n)
    )
    out.max[row] = 0.0 + np.fmax(
        _put(np.fmax, numbers, at_points, n), _put(np.fmax, cells.max, at_cells, n)
    )
    there = _sums(finite, at_points, n) + _sums(cell_numbers, at_cells, n)
    parts = np.where(finite, values, 0.0), cells.sum
    out.mean[row] = _mean_of(parts, (at_points, at_cells), there)
    low, high = (cells.id << shift) + cells.low, (cells.id << shift) + cells.high
    ends = (line.steps, low), (values, cells.first)
    out.first[row] = _end(*ends, (at_points, at_cells), n, last=False)
    ends = (line.steps, high), (values, cells.last)
    out.last[row] = _end(*ends, (at_points, at_cells), n, last=True)


@dataclass(slots=True)
class _Stretches:
    """The buckets that have something: which, and where it begins and ends."""

    full: Array
    starts: Array
    ends: Array
    stop: int


def _of(bounds: Bounds) -> _Stretches:
    full = np.flatnonzero(np.diff(bounds))
    return _Stretches(full, bounds[full], bounds[full + 1], int(bounds[-1]))


def _put(reduction: Any, values: Array, at: _Stretches, n: int, none: float = np.nan) -> Array:
    """[n]: each stretch reduced; ``none`` where there is nothing."""
    out = np.full(n, none, np.float64)
    if len(at.full):
        out[at.full] = reduction.reduceat(values[: at.stop], at.starts)
    return out


def _sums(values: Array, at: _Stretches, n: int) -> npt.NDArray[np.int64]:
    out = np.zeros(n, np.int64)
    if len(at.full):
        out[at.full] = np.add.reduceat(values[: at.stop], at.starts, dtype=np.int64)
    return out


def _mean_of(parts: tuple[Array, Array], at: tuple[_Stretches, _Stretches], there: Array) -> Array:
    """The mean of sums of points and of cells; in smaller units where the sum is too large."""
    n = len(there)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        mean, small = (
            sum(
                _put(np.add, part * by, place, n, 0.0)
                for part, place in zip(parts, at, strict=True)
            )
            / there
            / by
            for by in (1.0, _SHRINK)
        )
    return np.where(there == 0, np.nan, np.where(np.isfinite(mean), mean, small))


def _end(
    steps: tuple[Array, Array],
    values: tuple[Array, Array],
    at: tuple[_Stretches, _Stretches],
    n: int,
    *,
    last: bool,
) -> Array:
    """[n]: the value at the lowest or the highest step of each bucket, of points and cells."""
    found, there = np.full(n, np.nan), np.zeros(n, np.bool_)
    reached = np.zeros(n, np.int64)
    for part_steps, part_values, place in zip(steps, values, at, strict=True):
        index = place.ends - 1 if last else place.starts
        mine, old = part_steps[index], reached[place.full]
        better = ~there[place.full] | (mine > old if last else mine < old)
        chosen = place.full[better]
        found[chosen], reached[chosen] = part_values[index[better]], mine[better]
        there[chosen] = True
    return found
