"""The way in: a folder, its projects, their runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from trackway.api._compare import Comparison, compare
from trackway.api._opened import opened_index
from trackway.api._run import StoredRun
from trackway.api._runs import RunGroup, Runs
from trackway.backend.file.compact import CompactReport, compact
from trackway.backend.file.folder import default_root, logs, projects
from trackway.backend.file.remove import RemoveReport, remove_run
from trackway.backend.index.contract import RunRef
from trackway.errors import ArgumentError, NotFoundError

if TYPE_CHECKING:
    from trackway.api._export_folder import ExportReport
    from trackway.backend.index.groups import GroupsAnswer
    from trackway.backend.index.index import Index
    from trackway.backend.index.rows import Rows
    from trackway.backend.index.series import SeriesAnswer
    from trackway.backend.index.table import Group, Table

__all__ = ["Api", "RunGroup", "Runs"]


class Api:
    """Reads the runs in a folder; may be used while runs are recorded.

    Answers come from an index in the user's cache, which is made when it is missing and brought up
    to date when something is asked: the first question about a large folder may take a while.

    Args:
        root: The folder that holds all projects; ``TRACKWAY_DIR``, else ``./trackway``.
        cache: Where indexes lie; ``TRACKWAY_CACHE_DIR``, else the user's cache. They can be deleted
            at any time.
    """

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        *,
        cache: str | os.PathLike[str] | None = None,
    ) -> None:
        self.root = default_root() if root is None else Path(root).expanduser().absolute()
        self._cache = None if cache is None else Path(cache).expanduser().absolute()
        self._opened: Index | None = None

    def __repr__(self) -> str:
        return f"<Api on {self.root}>"

    @property
    def _index(self) -> Index:
        if self._opened is None:
            self._opened = opened_index(self.root, self._cache)
        return self._opened

    def refresh(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Bring the index up to date; every question does so by itself.

        Args:
            progress: Is told how many bytes of how many were read.
        """
        self.projects()
        self._index.refresh(None, progress)

    def unreadable(self) -> dict[str, OSError]:
        """Why logs could not be read when it was last tried, by ``project/id`` of their run.

        Such a run is listed with what was read of it before, if anything was.
        """
        return {f"{ref.project}/{ref.id}": e for ref, e in self._index.unreadable().items()}

    # -- runs ------------------------------------------------------------------------------

    def projects(self) -> list[str]:
        """The names of all projects, sorted.

        Raises:
            NotFoundError: The folder does not exist.
        """
        return projects(self.root)

    def runs(
        self,
        project: str | None = None,
        *,
        filter: str | None = None,
        order: str | Sequence[str] = "-created",
        offset: int = 0,
        limit: int | None = None,
        columns: Sequence[str] | None = None,
        archived: bool | None = None,
    ) -> Runs:
        """The runs of a project, or of all.

        Args:
            project: Its name.
            filter: An expression as ``docs/filter.md`` describes it: ``config.lr < 1e-3 and
                summary["val/acc"] > 0.9``.
            order: Expressions to sort by; ``-`` before one means falling. Newest first by default.
            offset: How many to pass over.
            limit: How many at most.
            columns: What ``Runs.table`` and the data frames have.
            archived: True for those only that were archived, False for those that were not.

        Raises:
            NotFoundError: There is no such project, or no such folder.
            FilterError: The filter or the order is wrong; it says where.
        """
        if offset < 0 or (limit is not None and limit < 0):
            raise ArgumentError("offset and limit must be 0 or more")
        self._check(project)
        rows, table = self._index.rows_and_table()
        index, matched, total = _select(
            rows, table, project, filter, [order] if isinstance(order, str) else order, archived
        )
        end = None if limit is None else offset + limit
        return Runs(self.root, self._index, rows, index[offset:end], matched, total, columns)

    def run(self, which: str) -> StoredRun:
        """One run by ``project/id``, id, or name; the newest where a name was used again.

        The beginning of an id will do, if it has three letters. A run that somebody deleted is
        found by its whole id only.

        Raises:
            NotFoundError: No run, or several ids, fit.
        """
        project, slash, run_id = which.rpartition("/")
        there = self.projects()
        for name in [project] if slash else there:
            if name in there and run_id and logs(self.root / name / run_id):
                return StoredRun(self.root, name, run_id, self._index)
        known = self.runs(project if slash else None)
        fitting = [place for place, name in enumerate(known.column("name")) if name == run_id]
        if not fitting and len(run_id) >= 3:
            fitting = [place for place, id in enumerate(known.ids) if id.startswith(run_id)]
            if len(fitting) > 1:
                told = ", ".join(
                    f"{r.project}/{r.id}" for r in map(known.__getitem__, fitting[:10])
                )
                raise NotFoundError(f"{which!r} fits several runs: {told}")
        if not fitting:
            told = ", ".join(map(str, known[:10].column("name"))) or "none"
            raise NotFoundError(f"no run {which!r} in {self.root}; the newest are: {told}")
        return known[fitting[0]]

    def group(
        self,
        by: str | Sequence[str] = (),
        *,
        project: str | None = None,
        filter: str | None = None,
        aggregates: Mapping[str, str | Sequence[str]] | None = None,
        all_but: Sequence[str] | None = None,
    ) -> list[RunGroup]:
        """Groups of runs.

        Args:
            by: Expressions whose values the runs of a group agree in: ``config.lr``.
            project: Of this project only.
            filter: Of the runs that fit only.
            aggregates: For each expression one or more of ``mean``, ``median``, ``min``, ``max``,
                ``std``, ``count``, ``sum``, ``first``: worked out over each group.
            all_but: Instead of ``by``: the runs of a group agree in all of their config but these
                names, e.g. ``["config.seed"]``.

        Returns:
            Groups in the order in which their first runs were created, and so the runs of each.
            ``by`` holds what they agree in; after ``all_but``, as far as the groups differ in it.

        Raises:
            NotFoundError: There is no such project, or no such folder.
            FilterError: An expression is wrong.
            ArgumentError: Both or neither of ``by`` and ``all_but`` are given, or an aggregate is
                none.
        """
        from trackway.backend.index.expression import path_text

        if bool(by) is (all_but is not None):
            raise ArgumentError("give by=[…] or all_but=[…]")
        self._check(project)
        rows, table = self._index.rows_and_table()
        chosen, matched, total = _select(rows, table, project, filter, ["created"], None)
        part = _Part(rows, chosen).table()
        if all_but is not None:
            # A config that is empty is no value of its own.
            leaves = [path_text(p) for p in rows.paths() if p[0] == "config" and len(p) > 1]
            found = part.group_except(list(all_but), leaves, None, aggregates)
        else:
            found = part.group(None, [by] if isinstance(by, str) else list(by), aggregates)
        return [self._group(rows, chosen, group, matched, total) for group in found]

    def _group(
        self, rows: Rows, chosen: npt.NDArray[np.int64], group: Group, matched: int, total: int
    ) -> RunGroup:
        runs = Runs(self.root, self._index, rows, chosen[group.index], matched, total, None)
        return RunGroup(dict(zip(group.by, group.values, strict=True)), runs, group.aggregates)

    # -- points ----------------------------------------------------------------------------

    def series(
        self,
        key: str,
        runs: Iterable[StoredRun] | None = None,
        *,
        buckets: int | None = 1000,
        x: str = "step",
        start: float | None = None,
        stop: float | None = None,
    ) -> SeriesAnswer:
        """One metric of many runs as a chart needs it, exactly; see ``StoredRun.series``.

        Args:
            key: The metric's name.
            runs: The runs; all by default.
            buckets: At most so many; None gives every point.
            x: ``step``, ``time``, ``relative``, or the name of a metric.
            start: Where the range begins; where the first line does, by default.
            stop: Where it ends, likewise.
        """
        from trackway.backend.index.series import SeriesQuery

        numbers = tuple(self._numbers(self.runs() if runs is None else runs))
        return self._index.series(
            SeriesQuery(numbers, key, x=x, lo=start, hi=stop, buckets=buckets)
        )

    def all_series(
        self,
        keys: str | Iterable[str],
        runs: Iterable[StoredRun] | None = None,
        **options: Any,
    ) -> dict[str, SeriesAnswer]:
        """``series`` of several metrics at once, of one moment.

        Args:
            keys: Names, and patterns with ``*``; names that no run has are left out.
            runs: The runs; all by default.
            **options: As for ``series``.
        """
        from trackway.backend.index.series import SeriesQuery

        chosen = list(self.runs() if runs is None else runs)
        options = {{"start": "lo", "stop": "hi"}.get(k, k): v for k, v in options.items()}
        query = SeriesQuery(tuple(self._numbers(chosen)), "", **options)
        there = self._index.key_names([RunRef(run.project, run.id) for run in chosen])
        names: dict[str, None] = {}
        for key in [keys] if isinstance(keys, str) else keys:
            names |= dict.fromkeys(there.glob(key, limit=None).names)
        return self._index.several_series(query, list(names))

    def groups(
        self,
        key: str,
        groups: Mapping[str, Iterable[StoredRun]] | Sequence[RunGroup],
        *,
        buckets: int = 1000,
        x: str = "step",
        start: float | None = None,
        stop: float | None = None,
    ) -> GroupsAnswer:
        """What groups of runs come to, over all runs of each: mean, median, min, max, std, stderr.

        Args:
            key: The metric's name.
            groups: Runs by the name of their group, or what ``group`` gave.
            buckets: At most so many.
            x: As for ``series``.
            start: As for ``series``.
            stop: As for ``series``.
        """
        from trackway.backend.index.groups import GroupsQuery

        if not isinstance(groups, Mapping):
            groups = dict(zip(_labels(groups), (group.runs for group in groups), strict=True))
        numbers = {name: tuple(self._numbers(runs)) for name, runs in groups.items()}
        return self._index.groups(
            GroupsQuery(numbers, key, x=x, lo=start, hi=stop, buckets=buckets)
        )

    def numbered(self, numbers: Iterable[int]) -> list[StoredRun]:
        """The runs that an answer of ``series`` or ``groups`` calls by these numbers.

        A number stands for its run in this process, until the index is made anew.

        Raises:
            NotFoundError: A number is no run's, or the run is there no more.
        """
        return [self._numbered(number) for number in numbers]

    def _numbered(self, number: int) -> StoredRun:
        try:
            ref = self._index.ref(number)
        except KeyError:
            raise NotFoundError(f"no run has the number {number!r}") from None
        return StoredRun(self.root, ref.project, ref.id, self._index)

    def keys(self, search: str = "", *, limit: int | None = None) -> list[str]:
        """The names of all metrics that hold a text, best matches first.

        Args:
            search: A part of a name, in whatever case; or a pattern with ``*``.
            limit: How many at most.
        """
        names = self._index.key_names()
        look = names.glob if "*" in search else names.search
        return list(look(search, limit=limit).names)

    def _numbers(self, runs: Iterable[StoredRun]) -> Iterator[int]:
        for run in runs:
            self._own(run)
            number = self._index.number(RunRef(run.project, run.id))
            if number is None:
                raise NotFoundError(f"there is no run {run.project}/{run.id} in {self.root}")
            yield number

    def _own(self, run: StoredRun) -> None:
        """Refuse a run of another folder: one here may have the same id."""
        if run._index is not self._index and run._root.resolve() != self.root.resolve():
            raise ArgumentError(f"{run!r} is in {run._root}, not in {self.root}")

    def _check(self, project: str | None) -> None:
        there = self.projects()
        if project is not None and project not in there:
            told = ", ".join(there) or "none yet"
            raise NotFoundError(f"no project {project!r} in {self.root}; there are: {told}")

    # -- more ------------------------------------------------------------------------------

    def compare(self, runs: Iterable[StoredRun]) -> Comparison:
        """What tells runs apart: config, summary, environment, packages, git, patch."""
        return compare(list(runs))

    def sql(
        self,
        query: str,
        *,
        project: str | None = None,
        filter: str | None = None,
        pandas: bool = False,
    ) -> Any:
        """The answer to a SQL query over the tables ``runs``, ``points`` and ``system``.

        What it needs is exported into the user's cache first, as far as it is not there or has
        changed: the first query over the points of many runs takes a while. ``docs/export.md``
        says what the tables hold.

        Args:
            query: One query; it can read these tables, and can write nothing.
            project: Only runs of this project are in the tables.
            filter: Only runs that pass.
            pandas: Answer a ``pandas.DataFrame``, and not a ``pyarrow.Table``.

        Raises:
            ArgumentError: The query is none, or not one that only reads; the filter is none.
            NotFoundError: There is no such project.
            MissingExtraError: DuckDB, PyArrow or pandas is not installed.
        """
        from trackway.api import _sql

        return _sql.query(self, query, project=project, filter=filter, pandas=pandas)

    def export(
        self,
        folder: str | os.PathLike[str],
        format: str = "parquet",
        *,
        project: str | None = None,
        filter: str | None = None,
        **options: Any,
    ) -> ExportReport:
        """Write runs into a folder, newest first; see ``Runs.export``.

        Args:
            folder: Where to.
            format: ``parquet``, ``csv`` or ``jsonl``.
            project: Of this project only.
            filter: Of the runs that fit only.
            options: As for ``Runs.export``.
        """
        return self.runs(project, filter=filter).export(folder, format, **options)

    def compact(
        self,
        project: str | None = None,
        run: str | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> CompactReport:
        """Reclaim the bytes of what was deleted; every answer stays what it was.

        Args:
            project: Of this project only.
            run: Of the run with this id only.
            progress: Is told how many bytes were looked at since the last call.
        """
        return compact(self.root, project, run, progress)

    def remove(self, run: StoredRun, *, force: bool = False) -> RemoveReport:
        """Delete a run for real, at once; its id can be used again.

        Args:
            run: The run.
            force: Also while it is being recorded.

        Raises:
            TrackwayError: It is being recorded.
            ArgumentError: It is a run of another folder.
        """
        self._own(run)
        report = remove_run(self.root, run.project, run.id, force=force)
        self._index.refresh([RunRef(run.project, run.id)])
        return report


class _Part:
    """Some rows of a table, as a table."""

    def __init__(self, rows: Rows, chosen: npt.NDArray[np.int64]) -> None:
        self._rows = rows
        self._chosen = chosen

    def table(self) -> Table:
        from trackway.backend.index.table import Table

        return Table(
            len(self._chosen), lambda path: self._rows.column(tuple(path)).take(self._chosen)
        )


def _select(
    rows: Rows,
    table: Table,
    project: str | None,
    filter: str | None,
    order: Sequence[str],
    archived: bool | None,
) -> tuple[npt.NDArray[np.int64], int, int]:
    """The rows that fit, in order; how many they are, and of how many."""
    index = table.select(filter, [*order, "id"]).index
    there = np.ones(len(rows), np.bool_)
    if project is not None:
        there &= np.array(
            [name == project for name in rows.column(("project",)).values()], np.bool_
        )
    total = int(there.sum())
    if archived is not None:
        column = rows.column(("archived",))
        there &= (column.numbers == 1.0) == archived
    index = index[there[index]]
    return index, len(index), total


def _labels(groups: Sequence[RunGroup]) -> list[str]:
    """A name a group, no two the same: with quotes where a text looks like another value."""
    plain = [_label(group, str) for group in groups]
    names = plain if len(set(plain)) == len(plain) else [_label(group, repr) for group in groups]
    told: dict[str, None] = {}
    for name in names:
        number, label = 1, name
        while label in told:
            number += 1
            label = f"{name} ({number})"
        told[label] = None
    return list(told)


def _label(group: RunGroup, text: Callable[[Any], str]) -> str:
    return ", ".join(f"{name}={text(value)}" for name, value in group.by.items()) or "all"
