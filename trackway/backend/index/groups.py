"""Groups of runs as bands over any x: what the runs of a group come to together.

Each run counts once in a bucket, by the mean of its finite values there, however many points it
has: so runs that log more often do not weigh more. All runs of all groups share one grid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from trackway.backend.index.grid import Grid, check_buckets
from trackway.backend.index.kernels import Buckets
from trackway.backend.index.series import SeriesQuery, series
from trackway.backend.index.source import Source

__all__ = ["Bands", "GroupsAnswer", "GroupsQuery", "groups"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class GroupsQuery:
    """What is asked; ``x``, ``lo``, ``hi``, ``attempts``, ``repeats`` as in SeriesQuery.

    Attributes:
        groups: The runs of each group, by its name. A run may be in several groups.
        key: The metric's name.
        buckets: At most so many, 1 to 100,000.
    """

    groups: Mapping[str, Sequence[int]]
    key: str
    x: str = "step"
    lo: float | None = None
    hi: float | None = None
    buckets: int = 1000
    attempts: Literal["live", "all"] = "live"
    repeats: Literal["last", "all"] = "last"
    compiled: bool | None = None


@dataclass(frozen=True, slots=True)
class Bands:
    """All arrays are [groups, buckets]; NaN where no run has a finite value.

    Attributes:
        n: int64, runs with a finite value in the bucket.
        count: int64, points of all runs, NaN and infinities included.
        mean: Of the runs' means.
        median: Of the runs' means; between the two middle ones of an even number.
        std: Their sample deviation (n - 1); NaN for one run.
        stderr: ``std`` by the root of ``n``.
        min: Of all finite values of all runs.
        max: Likewise.
    """

    n: npt.NDArray[np.int64]
    count: npt.NDArray[np.int64]
    mean: Floats
    median: Floats
    std: Floats
    stderr: Floats
    min: Floats
    max: Floats


@dataclass(slots=True)
class GroupsAnswer:
    """What came of it.

    Attributes:
        query: What was asked.
        names: The groups, in the order that was asked for: rows of the arrays.
        runs: For each, how many of its runs have the metric.
        missing: For each, the runs that do not.
        lo: Where the range begins, widened to whole buckets; None without points and range.
        hi: Where it ends, inclusive.
        grid: Where the buckets lie; None where there are none.
        bands: What the groups come to; None where there are no buckets.
        covered: int64 [groups], points in the range.
        total: int64 [groups], points of all lines of the group.
        left_out: int64 [groups], as in SeriesAnswer.
        exact: That nothing was sampled or estimated: True.
    """

    query: GroupsQuery
    names: list[str]
    runs: list[int]
    missing: list[list[int]]
    lo: float | None
    hi: float | None
    grid: Grid | None
    bands: Bands | None
    covered: npt.NDArray[np.int64]
    total: npt.NDArray[np.int64]
    left_out: npt.NDArray[np.int64]
    exact: bool = True

    def __repr__(self) -> str:
        shape = "no buckets" if self.grid is None else f"{self.grid.n} buckets"
        covered, total = int(self.covered.sum()), int(self.total.sum())
        return (
            f"<{self.query.key} over {self.query.x}: {len(self.names)} groups of "
            f"{sum(self.runs)} runs, {shape}, {covered} of {total} points>"
        )


def groups(source: Source, query: GroupsQuery) -> GroupsAnswer:
    """Answer a query.

    Raises:
        ArgumentError: ``buckets`` or the range is none that can be had.
    """
    check_buckets(query.buckets)
    names = list(query.groups)
    everyone = list(dict.fromkeys(run for name in names for run in query.groups[name]))
    given = {name: getattr(query, name) for name in _SHARED}
    answer = series(source, SeriesQuery(runs=everyone, **given))
    row_of = {run: row for row, run in enumerate(answer.runs)}
    rows = [[row_of[run] for run in dict.fromkeys(query.groups[n]) if run in row_of] for n in names]
    return GroupsAnswer(
        query=query,
        names=names,
        runs=[len(mine) for mine in rows],
        missing=[[run for run in query.groups[name] if run not in row_of] for name in names],
        lo=answer.lo,
        hi=answer.hi,
        grid=answer.grid,
        bands=None if answer.buckets is None else _bands(answer.buckets, rows),
        covered=_summed(answer.covered, rows),
        total=_summed(answer.total, rows),
        left_out=_summed(answer.left_out, rows),
    )


_SHARED = [part.name for part in fields(GroupsQuery) if part.name != "groups"]


def _summed(counts: npt.NDArray[np.int64], rows: Sequence[Sequence[int]]) -> npt.NDArray[np.int64]:
    return np.array([counts[list(mine)].sum() for mine in rows], np.int64)


def _bands(buckets: Buckets, rows: Sequence[Sequence[int]]) -> Bands:
    shape = len(rows), buckets.count.shape[1]
    bands = Bands(
        n=np.zeros(shape, np.int64),
        count=np.zeros(shape, np.int64),
        mean=np.full(shape, np.nan),
        median=np.full(shape, np.nan),
        std=np.full(shape, np.nan),
        stderr=np.full(shape, np.nan),
        min=np.full(shape, np.nan),
        max=np.full(shape, np.nan),
    )
    for row, mine in enumerate(rows):
        if mine:
            _fill(bands, row, buckets, np.array(mine))
    return bands


def _fill(bands: Bands, row: int, buckets: Buckets, mine: npt.NDArray[Any]) -> None:
    means = buckets.mean[mine]
    there = means == means
    n = there.sum(axis=0)
    bands.n[row] = n
    bands.count[row] = buckets.count[mine].sum(axis=0, dtype=np.int64)
    bands.min[row] = np.fmin.reduce(buckets.min[mine], axis=0)
    bands.max[row] = np.fmax.reduce(buckets.max[mine], axis=0)
    # In units of the largest: neither a sum nor a square then leaves float64.
    with np.errstate(invalid="ignore", divide="ignore"):
        unit = np.fmax.reduce(np.abs(means), axis=0)
        unit = np.where(unit > 0, unit, 1.0)
        scaled = np.where(there, means / unit, 0.0)
        mean = scaled.sum(axis=0) / n
        off = np.where(there, scaled - mean, 0.0)
        std = np.sqrt((off * off).sum(axis=0) / np.where(n > 1, n - 1, np.nan))
        bands.mean[row] = mean * unit
        bands.std[row] = std * unit
        bands.stderr[row] = std / np.sqrt(n) * unit
    bands.median[row] = _median(means, n)


def _median(means: Floats, n: npt.NDArray[np.int64]) -> Floats:
    """The middle of each column; NaN is sorted behind all others, and is not among the n."""
    ordered = np.sort(means, axis=0)
    columns = np.arange(means.shape[1])
    low = ordered[np.maximum(n - 1, 0) // 2, columns]
    high = ordered[np.minimum(n // 2, len(ordered) - 1), columns]
    middle: Floats = np.where(n > 0, low / 2 + high / 2, np.nan)
    return np.where(low == high, low, middle)
