"""The way in: a folder, its projects, their runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy.typing as npt

from trackway.api._asked import (
    SHORTEST,
    check_filter,
    check_numbers,
    check_root,
    check_whole,
    near,
    no_run,
    series_options,
    texts,
)
from trackway.api._compare import Comparison, compare
from trackway.api._history import axis_metric
from trackway.api._opened import opened_index
from trackway.api._run import StoredRun
from trackway.api._runs import Part, RunGroup, Runs, labels, select
from trackway.backend.file.compact import CompactReport, compact
from trackway.backend.file.folder import default_root, logs, projects
from trackway.backend.file.remove import RemoveReport, remove_run
from trackway.backend.index.contract import RunRef
from trackway.errors import ArgumentError, NotFoundError

if TYPE_CHECKING:
    import numpy as np

    from trackway.api._answers import GroupsAnswer, SeriesAnswer
    from trackway.api._export_folder import ExportReport
    from trackway.backend.index.groups import GroupsAnswer as Groups
    from trackway.backend.index.index import Index
    from trackway.backend.index.keys import KeyNames
    from trackway.backend.index.rows import Rows
    from trackway.backend.index.series import SeriesAnswer as Series
    from trackway.backend.index.table import Group

__all__ = ["Api", "RunGroup", "Runs"]

_RUNS: Final = "runs are what api.runs(), api.run() or api.group() gave, or names and ids of them"


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
            ArgumentError: Another argument is none of its values.
        """
        check_filter(filter)
        by = texts("order", order, "an expression or several, such as '-created'")
        if columns is not None:
            columns = texts("columns", columns, "expressions, such as ['name', 'config.lr']")
        check_whole("offset", offset)
        check_whole("limit", 0 if limit is None else limit)
        if offset < 0 or (limit is not None and limit < 0):
            raise ArgumentError("offset and limit must be 0 or more")
        self._check(project)
        rows, table = self._index.rows_and_table()
        index, matched, total = select(rows, table, project, filter, by, archived)
        if not total:
            check_root(self.root, self.projects())
        end = None if limit is None else offset + limit
        return Runs(self.root, self._index, rows, index[offset:end], matched, total, columns)

    def run(self, which: str) -> StoredRun:
        """One run by ``project/id``, id, or name; the newest where a name was used again.

        The beginning of an id will do, if it has three letters. A run that somebody deleted is
        found by its whole id only.

        Raises:
            NotFoundError: No run, or several ids, fit.
        """
        if not isinstance(which, str):
            raise ArgumentError(f"which={which!r}: a run is its name, its id, or project/id")
        project, slash, run_id = which.rpartition("/")
        there = self.projects()
        for name in [project] if slash else there:
            if name in there and run_id and logs(self.root / name / run_id):
                return StoredRun(self.root, name, run_id, self._index)
        if slash and project not in there:
            check_root(self.root, there)
        for last in (False, True):
            known = self.runs(project if slash else None)
            fitting = self._fitting(known, run_id, which)
            if fitting:
                return known[fitting[0]]
            if not last:
                self._index.look_again()  # it may have begun since the last look at the folders
        raise no_run(which, self.root, there, known)

    def _fitting(self, known: Runs, run_id: str, which: str) -> list[int]:
        """Where the runs are that have this name, or whose id begins so."""
        fitting = [place for place, name in enumerate(known.column("name")) if name == run_id]
        if not fitting and len(run_id) >= SHORTEST:
            fitting = [place for place, id in enumerate(known.ids) if id.startswith(run_id)]
            if len(fitting) > 1:
                told = ", ".join(
                    f"{r.project}/{r.id}" for r in map(known.__getitem__, fitting[:10])
                )
                raise NotFoundError(f"{which!r} fits several runs: {told}")
        return fitting

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
        check_filter(filter)
        names = texts("by", by, "an expression or several, such as 'config.lr'")
        if all_but is not None:
            all_but = texts("all_but", all_but, "names in the config, such as ['config.seed']")
        if aggregates is not None and not isinstance(aggregates, Mapping):
            raise ArgumentError(
                f"aggregates={aggregates!r}: it is functions by expression, such as "
                "{'summary.loss': 'mean'}"
            )
        self._check(project)
        rows, table = self._index.rows_and_table()
        chosen, matched, total = select(rows, table, project, filter, ["created"], None)
        part = Part(rows, chosen).table()
        if all_but is not None:
            # A config that is empty is no value of its own.
            leaves = [path_text(p) for p in rows.paths() if p[0] == "config" and len(p) > 1]
            found = part.group_except(list(all_but), leaves, None, aggregates)
        else:
            found = part.group(None, names, aggregates)
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
        runs: Iterable[StoredRun | str] | None = None,
        *,
        buckets: int | None = 1000,
        x: str = "step",
        start: float | None = None,
        stop: float | None = None,
        attempts: str = "live",
        repeats: str = "last",
    ) -> SeriesAnswer:
        """One metric of many runs as a chart needs it, exactly; see ``StoredRun.series``.

        Args:
            key: The metric's name.
            runs: The runs, or their names and ids; all by default. Each counts once.
            buckets: At most so many; None gives every point.
            x: ``step``, ``time``, ``relative``, or the name of a metric.
            start: Where the range begins; where the first line does, by default.
            stop: Where it ends, likewise.
            attempts: ``live``, or ``all``: with what a later attempt took back.
            repeats: ``last`` arrival of each step, or ``all`` of them.

        Raises:
            NotFoundError: None of the runs has the metric, or it holds no numbers.
            ArgumentError: An argument is none of its values.
        """
        from trackway.api._answers import SeriesAnswer
        from trackway.backend.index.series import SeriesQuery

        options = series_options(key, x, start, stop, buckets, attempts, repeats)
        chosen = self._chosen(runs)
        answer = self._index.series(SeriesQuery(self._numbers(chosen), key, **options))
        self._check_drawn(key, x, chosen, answer)
        return SeriesAnswer.of(answer, self._index.ref)

    def all_series(
        self,
        keys: str | Iterable[str],
        runs: Iterable[StoredRun | str] | None = None,
        *,
        buckets: int | None = 1000,
        x: str = "step",
        start: float | None = None,
        stop: float | None = None,
        attempts: str = "live",
        repeats: str = "last",
    ) -> dict[str, SeriesAnswer]:
        """``series`` of several metrics at once, of one moment.

        Args:
            keys: Names, and patterns with ``*``; names that no run has are left out.
            runs: As for ``series``, and so are all further ones.
            buckets: At most so many; None gives every point.
            x: The axis.
            start: Where the range begins.
            stop: Where it ends.
            attempts: ``live`` or ``all``.
            repeats: ``last`` or ``all``.
        """
        from trackway.api._answers import SeriesAnswer
        from trackway.backend.index.series import SeriesQuery

        options = series_options("", x, start, stop, buckets, attempts, repeats)
        patterns = texts("keys", keys, "a name, names or patterns of metrics")
        chosen = self._chosen(runs)
        query = SeriesQuery(self._numbers(chosen), "", **options)
        there = self._key_names(chosen)
        names: dict[str, None] = {}
        for pattern in patterns:
            names |= dict.fromkeys(there.glob(pattern, limit=None).names)
        found = self._index.several_series(query, list(names))
        return {key: SeriesAnswer.of(answer, self._index.ref) for key, answer in found.items()}

    def groups(
        self,
        key: str,
        groups: Mapping[str, Iterable[StoredRun | str]] | Sequence[RunGroup],
        *,
        buckets: int = 1000,
        x: str = "step",
        start: float | None = None,
        stop: float | None = None,
        attempts: str = "live",
        repeats: str = "last",
    ) -> GroupsAnswer:
        """What groups of runs come to, over all runs of each: mean, median, min, max, std, stderr.

        Args:
            key: The metric's name.
            groups: Runs, or their names and ids, by the name of their group; or what ``group``
                gave.
            buckets: At most so many.
            x: As for ``series``, and so are all further ones.
            start: Where the range begins.
            stop: Where it ends.
            attempts: ``live`` or ``all``.
            repeats: ``last`` or ``all``.

        Raises:
            NotFoundError: None of the runs has the metric, or it holds no numbers.
            ArgumentError: An argument is none of its values.
        """
        from trackway.api._answers import GroupsAnswer
        from trackway.backend.index.groups import GroupsQuery

        options = series_options(key, x, start, stop, buckets, attempts, repeats)
        chosen = {name: self._chosen(runs, "groups") for name, runs in _by_name(groups).items()}
        numbers = {name: self._numbers(runs) for name, runs in chosen.items()}
        answer = self._index.groups(GroupsQuery(numbers, key, **options))
        everyone = [run for runs in chosen.values() for run in runs]
        self._check_drawn(key, x, everyone, answer)
        return GroupsAnswer.of(answer)

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
        if not isinstance(search, str):
            raise ArgumentError(f"search={search!r}: it is a part of a name, or a pattern with *")
        names = self._index.key_names()
        look = names.glob if "*" in search else names.search
        return list(look(search, limit=limit).names)

    def _chosen(
        self, runs: Iterable[StoredRun | str] | None, argument: str = "runs"
    ) -> list[StoredRun]:
        """The runs that were given, those given by what they are called among them."""
        if runs is None:
            return list(self.runs())
        if isinstance(runs, (str, StoredRun)):
            runs = [runs]
        elif isinstance(runs, RunGroup):
            runs = runs.runs
        if not isinstance(runs, Iterable):
            raise ArgumentError(f"{argument}={runs!r}: {_RUNS}")
        found = []
        for run in runs:
            if not isinstance(run, (str, StoredRun)):
                raise ArgumentError(f"{argument}: {run!r} is no run; {_RUNS}")
            found.append(self.run(run) if isinstance(run, str) else run)
        return found

    def _numbers(self, runs: Iterable[StoredRun]) -> tuple[int, ...]:
        """The runs' numbers, each once."""
        numbers: dict[int, None] = {}
        for run in runs:
            self._own(run)
            number = self._index.number(RunRef(run.project, run.id))
            if number is None:
                raise NotFoundError(f"there is no run {run.project}/{run.id} in {self.root}")
            numbers[number] = None
        return tuple(numbers)

    def _key_names(self, runs: Iterable[StoredRun]) -> KeyNames:
        return self._index.key_names([RunRef(run.project, run.id) for run in runs])

    def _check_drawn(
        self, key: str, x: str, runs: Sequence[StoredRun], answer: Series | Groups
    ) -> None:
        """Refuse a metric, or one as the axis, that none of the runs has, or that is no numbers."""
        axis = axis_metric(x)
        if not runs or int(answer.left_out.sum()) < int(answer.total.sum()):
            return
        check_numbers(key, axis, answer.total, answer.left_out)
        there = list(self._key_names(runs).search("", limit=None).names)
        for name in [key] if axis is None else [key, axis]:
            if name not in there:
                told = f"; there are: {', '.join(there[:20]) or 'none'}"
                alike = near(name, there) or told
                who = f"run {runs[0].name} has no" if len(runs) == 1 else "no run has a"
                raise NotFoundError(f"{who} metric {name!r}{alike}")

    def _own(self, run: StoredRun) -> None:
        """Refuse a run of another folder: one here may have the same id."""
        if run._index is not self._index and run._root.resolve() != self.root.resolve():
            raise ArgumentError(f"{run!r} is in {run._root}, not in {self.root}")

    def _check(self, project: str | None) -> None:
        there = self.projects()
        if project is not None and not isinstance(project, str):
            raise ArgumentError(f"project={project!r}: it is the name of a project")
        if project is not None and project not in there:
            check_root(self.root, there)
            told = ", ".join(there) or "none yet"
            raise NotFoundError(f"no project {project!r} in {self.root}; there are: {told}")

    # -- more ------------------------------------------------------------------------------

    def compare(self, runs: Iterable[StoredRun | str]) -> Comparison:
        """What tells runs apart: config, summary, environment, packages, git, patch.

        Args:
            runs: The runs, or their names and ids.
        """
        return compare(self._chosen(runs))

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


def _by_name(groups: object) -> Mapping[str, Iterable[StoredRun | str]]:
    if isinstance(groups, Mapping):
        return groups
    if isinstance(groups, Iterable):
        listed = list(groups)
        if all(isinstance(group, RunGroup) for group in listed):
            return dict(zip(labels(listed), (group.runs for group in listed), strict=True))
    raise ArgumentError(
        f"groups={groups!r}: it is what api.group() gave, or runs by the name of their group"
    )
