"""What charts are made of, with the runs by their ids, and as data frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from trackway.api._frames import Columnar
from trackway.backend.index.contract import RunRef
from trackway.backend.index.grid import HIGHEST, LOWEST, Grid, StepGrid
from trackway.backend.index.groups import GroupsAnswer as _Groups
from trackway.backend.index.series import RawLine
from trackway.backend.index.series import SeriesAnswer as _Series

__all__ = ["GroupsAnswer", "SeriesAnswer"]

_Table = dict[str, npt.NDArray[Any]]

_OF_SERIES: Final = "count", "nan", "min", "max", "mean", "first", "last"
_OF_GROUPS: Final = "n", "count", "mean", "median", "min", "max", "std", "stderr"


@dataclass(slots=True, eq=False, repr=False)
class SeriesAnswer(Columnar, _Series):
    """One metric of many runs, in buckets or point by point.

    All that the index answered, and:

    Attributes:
        ids: The ids of ``runs``, in their order.
    """

    ids: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, answer: _Series, ref: Callable[[int], RunRef]) -> SeriesAnswer:
        """An answer of the index, its runs called by their ids."""
        told = {part.name: getattr(answer, part.name) for part in fields(_Series)}
        return cls(**told, ids=[ref(run).id for run in answer.runs])

    def table(self) -> _Table:
        """A row a run and bucket, or a run and point where there are no buckets.

        Returns:
            ``run`` (its id), ``x_low``, ``x_high``, ``count``, ``nan``, ``min``, ``max``,
            ``mean``, ``first``, ``last``; without the buckets that no point of the run is in. Over
            steps ``x_low`` and ``x_high`` are the first and the last step of the bucket, over any
            other axis its edges. Of points: ``run``, ``x``, ``step``, ``time``, ``value``.
        """
        if self.points is not None:
            return _points_table(self.points, self.ids)
        buckets = self.buckets
        if buckets is None or self.grid is None:
            return _long(
                "run", [], self.grid, np.zeros((0, 0)), {name: None for name in _OF_SERIES}
            )
        told = {name: getattr(buckets, name) for name in _OF_SERIES}
        return _long("run", self.ids, self.grid, buckets.count, told)


@dataclass(slots=True, eq=False, repr=False)
class GroupsAnswer(Columnar, _Groups):
    """One metric of groups of runs, in buckets: all that the index answered, as columns too."""

    @classmethod
    def of(cls, answer: _Groups) -> GroupsAnswer:
        """An answer of the index."""
        return cls(**{part.name: getattr(answer, part.name) for part in fields(_Groups)})

    def table(self) -> _Table:
        """A row a group and bucket; without the buckets that no point of the group is in.

        Returns:
            ``group`` (its name), ``x_low``, ``x_high`` (as in ``SeriesAnswer.table``), ``n``,
            ``count``, ``mean``, ``median``, ``min``, ``max``, ``std``, ``stderr``.
        """
        bands = self.bands
        if bands is None or self.grid is None:
            return _long(
                "group", [], self.grid, np.zeros((0, 0)), {name: None for name in _OF_GROUPS}
            )
        told = {name: getattr(bands, name) for name in _OF_GROUPS}
        return _long("group", self.names, self.grid, bands.count, told)


def _long(
    of: str,
    names: Sequence[str],
    grid: Grid | None,
    count: npt.NDArray[Any],
    told: dict[str, npt.NDArray[Any] | None],
) -> _Table:
    """[names, buckets] as one row each, where there are points."""
    rows, buckets = np.nonzero(count)
    low, high = _edges(grid)
    table: _Table = {of: _texts(names)[rows], "x_low": low[buckets], "x_high": high[buckets]}
    for name, values in told.items():
        table[name] = np.empty(0) if values is None else values[rows, buckets]
    return table


def _edges(grid: Grid | None) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    if grid is None:
        return np.empty(0), np.empty(0)
    if isinstance(grid, StepGrid):
        # The outer edges may be beyond 64 bits, where no step is.
        lows = [grid.start + place * grid.width for place in range(grid.n)]
        highs = [low + grid.width - 1 for low in lows]
        return (
            np.array([max(low, LOWEST) for low in lows], np.int64),
            np.array([min(high, HIGHEST) for high in highs], np.int64),
        )
    edges = grid.edges()
    return edges[:-1], edges[1:]


def _points_table(points: Sequence[RawLine], ids: Sequence[str]) -> _Table:
    lengths = [len(line.values) for line in points]
    table: _Table = {"run": np.repeat(_texts(ids), lengths)}
    for name, part in (("x", "x"), ("step", "steps"), ("time", "times"), ("value", "values")):
        columns = [getattr(line, part) for line in points]
        table[name] = np.concatenate(columns) if columns else np.empty(0)
    return table


def _texts(names: Sequence[str]) -> npt.NDArray[Any]:
    column = np.empty(len(names), object)
    column[:] = list(names)
    return column
