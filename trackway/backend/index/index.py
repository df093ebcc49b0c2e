"""The index of one root: what readers ask instead of the logs, with the same answers."""

from __future__ import annotations

import contextlib
import os
import threading
import time
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeVar

from trackway.backend.file.folder import logs
from trackway.backend.file.format import METRIC, Event
from trackway.backend.file.run_logs import Columns, joined
from trackway.backend.index._points import Points
from trackway.backend.index._view import StaleError, View
from trackway.backend.index.contract import (
    IndexBusyError,
    IndexDamagedError,
    IndexReplacedError,
    IndexStore,
    RunRef,
)
from trackway.backend.index.document import ToldLog, rejudged, row_of, unpack_document
from trackway.backend.index.groups import GroupsAnswer, GroupsQuery, groups
from trackway.backend.index.indexer import Changes, Indexer, IndexUnwritableError, Progress
from trackway.backend.index.keys import KeyNames
from trackway.backend.index.memory import MemoryStore
from trackway.backend.index.place import index_place
from trackway.backend.index.rows import Rows, remake_snapshot
from trackway.backend.index.series import SeriesAnswer, SeriesQuery, series
from trackway.backend.index.source import CellLine, Line
from trackway.backend.index.sqlite import SqliteStore, delete
from trackway.backend.index.table import Table
from trackway.backend.index.watching import Lookout
from trackway.backend.points import Metric
from trackway.backend.record import RunRecord, tell_record
from trackway.errors import FormatError

__all__ = ["Index"]

LOOK_SHARE: Final = 20
"""Where nobody tells what changed, the whole root is looked at again when LOOK_SHARE times what the
last look took has passed: a reader that asks without end spends a twentieth of its time on that.
What a query names is always looked at."""

RUNNING_S: Final = 1.0
"""How long the row of a run that runs and wrote nothing stands: its duration grows."""

_NUMBERS: Final = 1 << 40
"""More runs than a store will ever number."""

_TRIES: Final = 5

T = TypeVar("T")

_all: weakref.WeakSet[Index] = weakref.WeakSet()


class Index:
    """Answers questions about the runs of a root, as its logs are when the question is asked.

    What the logs have said before comes from a store that lies in the user's cache and can be
    deleted at any time; what they have said since is read from their ends. For several threads.

    Args:
        root: The folder that holds all projects.
        open_store: Opens the store, or makes an empty one.
        delete_store: Removes a store that cannot be read.

    Attributes:
        root: The folder.
        kept: Whether what is indexed will be there the next time.
    """

    def __init__(
        self,
        root: Path,
        open_store: Callable[[], IndexStore],
        delete_store: Callable[[], None] = lambda: None,
    ) -> None:
        self.root = root
        self.kept = True
        self._open_store = open_store
        self._delete_store = delete_store
        self._lock = threading.RLock()
        self._started: dict[int, float] = {}
        self._started_at = -1
        self._offset = 0
        self._former: dict[int, RunRef] = {}
        self._rows: Rows | None = None
        self._weighed = -1  # the revision at which it was decided whether a snapshot is due
        self._live: dict[int, _LiveRow] = {}
        self._table: tuple[Rows, Table] | None = None
        self._lookout = Lookout(root)
        self._pid = os.getpid()
        _all.add(self)
        self._begin()

    @classmethod
    def open(cls, root: Path, cache: Path | None = None) -> Index:
        """The index of a root, in the user's cache.

        Where nothing can be written there, it is kept in memory, and made anew the next time.

        Args:
            root: The folder that holds all projects.
            cache: A folder for indexes; ``TRACKWAY_CACHE_DIR``, else the user's, by default.
        """
        place = index_place(root, cache)
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            return cls(root, lambda: SqliteStore(place), lambda: delete(place))
        except OSError:
            index = cls(root, MemoryStore)
            index.kept = False
            return index

    def _begin(self) -> None:
        former = getattr(self, "_indexer", None)
        if former is not None:
            # Another store numbers the runs anew: what was given out must mean no other run.
            self._former.update({n + self._offset: ref for n, ref in former.refs.items()})
            self._offset += _NUMBERS
        try:
            self._store = self._open_store()
        except IndexDamagedError:
            self._delete_store()
            self._store = self._open_store()
        self._points = Points()
        self._indexer = Indexer(self.root, self._store, self._points)
        self._started.clear()
        self._lookout.forget()
        self._rows = self._table = None

    def close(self) -> None:
        """Let go of the store. The index must not be used afterwards."""
        with self._lock:
            self._lookout.close()
            self._store.close()

    # -- keeping up ------------------------------------------------------------------------

    def refresh(
        self, refs: Collection[RunRef] | None = None, progress: Progress | None = None
    ) -> Changes:
        """Read what is new in these runs, or in the whole root.

        Args:
            refs: The runs; None for all, those included that are new.
            progress: Is told how many bytes of how many were read.
        """
        return self._healed(lambda: self._refresh(refs, progress))

    def _refresh(
        self, refs: Collection[RunRef] | None = None, progress: Progress | None = None
    ) -> Changes:
        with self._lock:
            self._after_fork()
            started = time.perf_counter()
            try:
                changes = self._indexer.refresh(refs, progress)
            except BaseException:
                self._lookout.forget()  # the indexer may have dropped what it had read of any run
                raise
            if refs is None:
                self._lookout.looked(started, is_quiet=not changes)
            for run in changes.runs | changes.gone:
                self._started.pop(run, None)
            return changes

    def _after_fork(self) -> None:
        """A child has no use for its parent's connection, and must not close it either."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._parents = self._store  # kept from being collected
            self._begin_again(delete=False)

    def look_again(self) -> None:
        """Look at the whole root now, however short ago that was done."""
        with self._lock:
            self._after_fork()
            self._lookout.begin()
            self._refresh()

    def _look(self) -> None:
        """Refresh: the whole root if that is due, else what is known to change."""
        with self._lock:
            self._after_fork()
            told = self._lookout.due(LOOK_SHARE)
            if told is None:
                self._lookout.begin()
                self._refresh()
                return
            self._indexer.sync()
            refs = self._indexer.refs
            tails = {refs[run] for run in self._indexer.tails if run in refs}
            self._refresh(told | tails | self._indexer.unreadable.keys() | self._indexer.moved)
            self._lookout.done(told)

    def _healed(self, ask: Callable[[], T]) -> T:
        """What was asked; if the index turns out to be damaged, from one that is made anew.

        One that cannot be written is left alone: what it lacks is made anew in memory.
        """
        for _ in range(_TRIES):
            try:
                return ask()
            except IndexUnwritableError:
                with self._lock:
                    self._store.close()
                    self._begin_in_memory()
            except (IndexDamagedError, FormatError) as error:
                with self._lock:
                    self._store.close()
                    self._begin_again(delete=not isinstance(error, IndexReplacedError))
        return ask()

    def _begin_again(self, *, delete: bool) -> None:
        try:
            if delete:
                self._delete_store()
            self._begin()
        except (OSError, IndexDamagedError):
            self._begin_in_memory()

    def _begin_in_memory(self) -> None:
        self._open_store, self._delete_store, self.kept = MemoryStore, lambda: None, False
        self._begin()

    @contextlib.contextmanager
    def _view(self, refs: Collection[RunRef]) -> Iterator[View]:
        """These runs as they are now. A run that is not there is not among the view's."""
        with self._lock:
            for _ in range(_TRIES):
                self._refresh(refs)
                numbers = {
                    number: ref
                    for ref in refs
                    if (number := self._indexer.numbers.get(ref)) is not None
                }
                if len(refs) == 1 and (error := self._indexer.unreadable.get(next(iter(refs)))):
                    raise error
                with self._indexer.reading() as reading:
                    if not self._indexer.joins(reading, numbers):
                        continue
                    if reading.revision() != self._started_at:
                        # An earlier log may have been merged in, by us or by another process.
                        self._started_at = reading.revision()
                        self._started.clear()
                    try:
                        view = View(
                            reading,
                            self.root,
                            numbers,
                            self._indexer.tails,
                            self._points,
                            self._started,
                        )
                    except StaleError:
                        self._indexer.forget(numbers)
                        continue
                    yield view
                    return
            raise IndexBusyError("the index changes faster than it can be read: ask again")

    def _ask(self, refs: Collection[RunRef], question: Callable[[View], T]) -> T:
        def ask() -> T:
            with self._view(refs) as view:
                return question(view)

        return self._healed(ask)

    # -- runs ------------------------------------------------------------------------------

    def refs(self) -> list[RunRef]:
        """Every run that is there now, sorted; those included that somebody deleted."""
        with self._lock:
            self._healed(self._look)
            return sorted(self._indexer.numbers)

    def number(self, ref: RunRef) -> int | None:
        """The number by which queries call a run; None where there is no such run.

        It means this run as long as this index is open, whatever becomes of the store.
        """
        with self._lock:
            known = self._indexer.numbers.get(ref)
            if known is None and logs(self.root / ref.project / ref.id):
                self.refresh([ref])
                known = self._indexer.numbers.get(ref)
            return None if known is None else known + self._offset

    def ref(self, number: int) -> RunRef:
        """The run that has this number.

        Raises:
            KeyError: No run has it, or had it when it was given out.
        """
        with self._lock:
            known = self._indexer.refs.get(number - self._offset)
            return self._former[number] if known is None else known

    def version(self, ref: RunRef) -> tuple[object, ...]:
        """Changes when anything about the run does."""
        with self._lock:
            self.refresh([ref])
            return self._indexer.version(ref)

    def rows(self) -> Rows:
        """The run table's values, as far as all runs are known."""
        return self._healed(self._current_rows)

    def table(self) -> Table:
        """The run table: rows are numbered as in ``rows()``, taken at the same moment."""
        return self.rows_and_table()[1]

    def rows_and_table(self) -> tuple[Rows, Table]:
        """Both, of one moment."""
        with self._lock:
            rows = self.rows()
            if self._table is None or self._table[0] is not rows:
                self._table = rows, Table(len(rows), rows.column)
            return self._table

    def _current_rows(self) -> Rows:
        with self._lock:
            self._look()
            with self._indexer.reading() as reading:
                revision = reading.revision()
            if self.kept and revision != self._weighed:
                self._weighed = revision
                with contextlib.suppress(OSError):  # it would only save time
                    remake_snapshot(self._store)
            over = self._live_rows()
            rows = self._rows
            with self._indexer.reading() as reading:
                # Rows that stayed are the same objects, so comparing them takes no time.
                if rows is None or rows.revision != reading.revision() or rows.over != over:
                    present = list(self._indexer.refs)
                    rows = Rows(self._store_columns, reading, present, over, rows, self._offset)
            self._rows = rows
            return rows

    def _store_columns(self) -> IndexStore:
        return self._store

    def _live_rows(self) -> dict[int, dict[str, object]]:
        """Rows of runs that run, or that have something behind the index."""
        refs = self._indexer.refs
        behind = {run: refs[run] for run in self._indexer.tails if run in refs}
        ran = {run: refs[run] for run in self._running() if run in refs and run not in behind}
        now = time.time()
        kept, self._live = self._live, {}
        stale: list[RunRef] = []
        unread: list[int] = []
        for run, ref in (behind | ran).items():
            entry = kept.get(run)
            if entry is None or entry.version != self._indexer.version(ref):
                unread.append(run) if run in ran else stale.append(ref)
            else:
                self._live[run] = entry.judged(self.root, ref, now)
        if unread:
            with self._indexer.reading() as reading:
                for document in reading.documents(unread):
                    ref = ran[document.run]
                    row = unpack_document(document.data)
                    entry = _LiveRow(self._indexer.version(ref), row, row, 0.0)
                    self._live[document.run] = entry.judged(self.root, ref, now)
        if stale:
            with self._view(stale) as view:
                for run in view.runs:
                    ref, told = view.ref(run), view.told(run)
                    row = row_of(ref, tell_record(told), view.metrics(run), told=told, now=now)
                    self._live[run] = _LiveRow(self._indexer.version(ref), row, row, now)
        return {run: entry.row for run, entry in self._live.items() if run in refs}

    def _running(self) -> frozenset[int]:
        """Runs that ran when their rows were made: their silence is judged anew."""
        if self._rows is None:
            with self._indexer.reading() as reading:
                rows = Rows(self._store_columns, reading, list(self._indexer.refs), {}, None)
            self._rows = rows
        return self._rows.running

    # -- one run ---------------------------------------------------------------------------

    def record(self, ref: RunRef) -> RunRecord:
        """Everything about a run but its points, packages and console."""

        def tell(view: View) -> RunRecord:
            return tell_record(view.told(next(iter(view.runs)))) if view.runs else RunRecord()

        return self._ask([ref], tell)

    def damaged(self, ref: RunRef) -> int:
        """Bytes of a run's logs that belong to no readable frame."""
        return self._ask([ref], lambda view: sum(view.told(run).damaged for run in view.runs))

    def unreadable(self) -> dict[RunRef, OSError]:
        """Why logs of these runs could not be read, when it was last tried."""
        return dict(self._indexer.unreadable)

    def keys(self, ref: RunRef, space: str = METRIC) -> list[str]:
        """The names of a run's metrics, sorted."""
        return self._ask(
            [ref], lambda view: [name for run in view.runs for name in view.keys(run, space)]
        )

    def metrics(self, ref: RunRef) -> dict[str, Metric]:
        """Exact statistics of the live line of each metric of a run."""
        return self._ask(
            [ref],
            lambda view: {k: m for run in view.runs for k, m in view.metrics(run).items()},
        )

    def columns(
        self, ref: RunRef, keys: Collection[str] | None = None, space: str = METRIC
    ) -> dict[str, Columns]:
        """Every arrival of these metrics of a run (or of all), of one moment.

        Steps and times of metrics that were logged together are the same arrays, and cannot be
        written to. A metric that the run does not have is empty.
        """

        def told(view: View) -> dict[str, Columns]:
            if not view.runs:
                return {key: joined([]) for key in keys or ()}
            (run,) = view.runs
            wanted = view.keys(run, space) if keys is None else keys
            return {key: view.columns(run, key, space) for key in wanted}

        return self._ask([ref], told)

    def latest(self, ref: RunRef, keys: Collection[str], count: int) -> dict[str, Columns]:
        """At least the last ``count`` arrivals of these metrics of a run, of one moment."""

        def told(view: View) -> dict[str, Columns]:
            if not view.runs:
                return {key: joined([]) for key in keys}
            (run,) = view.runs
            return {key: view.latest(run, key, count) for key in keys}

        return self._ask([ref], told)

    def arrivals(self, ref: RunRef, key: str) -> int:
        """How many points of a metric arrived."""
        return self._ask([ref], lambda view: sum(view.arrivals(run, key) for run in view.runs))

    def events(
        self, ref: RunRef, types: Collection[str] | None = None
    ) -> list[tuple[ToldLog, Event]]:
        """The events of these types (or all but single values), whole, in order.

        What the index keeps only the place of is read from the logs.
        """

        def told(view: View) -> list[tuple[ToldLog, Event]]:
            found: list[tuple[ToldLog, Event]] = []
            for run in view.runs:
                found += view.events(run, types)
            return found

        return self._ask([ref], told)

    # -- queries ---------------------------------------------------------------------------

    def series(self, query: SeriesQuery) -> SeriesAnswer:
        """See ``series.series``; the runs of the query are those of ``number``."""
        return self.several_series(query, [query.key])[query.key]

    def several_series(self, query: SeriesQuery, keys: Sequence[str]) -> dict[str, SeriesAnswer]:
        """The same question about several metrics, of one moment; the query's own is ignored."""
        refs = self._refs(query.runs)

        def told(view: View) -> dict[str, SeriesAnswer]:
            given, here = _renumbering(refs, view)
            source = _Source(view)
            inner = replace(query, runs=[here[number] for number in query.runs if number in here])
            answers = {key: series(source, replace(inner, key=key)) for key in keys}
            for key, answer in answers.items():
                answer.query = replace(query, key=key)
                answer.runs = [given[run] for run in answer.runs]
                there = set(answer.runs)
                answer.missing = [number for number in query.runs if number not in there]
                if answer.points is not None:
                    answer.points = [replace(line, run=given[line.run]) for line in answer.points]
            return answers

        return self._ask(list(refs.values()), told)

    def groups(self, query: GroupsQuery) -> GroupsAnswer:
        """See ``groups.groups``."""
        refs = self._refs([run for members in query.groups.values() for run in members])

        def told(view: View) -> GroupsAnswer:
            given, here = _renumbering(refs, view)
            members = {
                name: [here[number] for number in numbers if number in here]
                for name, numbers in query.groups.items()
            }
            answer = groups(_Source(view), replace(query, groups=members))
            gone = [[n for n in numbers if n not in here] for numbers in query.groups.values()]
            answer.query = query
            answer.missing = [
                [*(given[run] for run in missing), *lost]
                for missing, lost in zip(answer.missing, gone, strict=True)
            ]
            return answer

        return self._ask(list(dict.fromkeys(refs.values())), told)

    def _refs(self, numbers: Sequence[int]) -> dict[int, RunRef]:
        """The runs that these numbers mean; unknown numbers are left out."""
        with self._lock:
            refs, former, offset = self._indexer.refs, self._former, self._offset
            told = {number: refs.get(number - offset) or former.get(number) for number in numbers}
            return {number: ref for number, ref in told.items() if ref is not None}

    def key_names(self, refs: Collection[RunRef] | None = None, space: str = METRIC) -> KeyNames:
        """The names of the metrics of these runs, or of all runs, to be searched."""

        def told(view: View) -> KeyNames:
            return KeyNames(view.all_keys(space))

        if refs is None:
            refs = self.refs()
        return self._ask(list(refs), told)


def _free_locks() -> None:
    """In a forked child: the threads that held them are not there to let go of them."""
    for index in list(_all):
        index._lock = threading.RLock()


os.register_at_fork(after_in_child=_free_locks)


@dataclass(frozen=True, slots=True)
class _LiveRow:
    """The row of a run that runs, as it was made and as it was judged last."""

    version: object
    made: dict[str, Any]
    row: dict[str, Any]
    at: float

    def judged(self, root: Path, ref: RunRef, now: float) -> _LiveRow:
        """The row as it is now; this one while it is young, so that it stays the same object."""
        if (self.row.get("state") != "running" and self.at) or now - self.at < RUNNING_S:
            return self
        return replace(self, row=rejudged(self.made, root.joinpath(*ref), now), at=now)


def _renumbering(refs: Mapping[int, RunRef], view: View) -> tuple[dict[int, int], dict[int, int]]:
    """From the view's numbers to those that were given, and back."""
    now = {view.ref(run): run for run in view.runs}
    here = {number: now[ref] for number, ref in refs.items() if ref in now}
    return {run: number for number, run in here.items()}, here


class _Source:
    """A view as the queries ask it."""

    def __init__(self, view: View) -> None:
        self._view = view

    def lines(
        self,
        runs: Sequence[int],
        key: str,
        *,
        attempts: str = "live",
        repeats: str = "last",
        times: bool = True,
    ) -> list[Line]:
        return self._view.lines(runs, key, attempts=attempts, repeats=repeats, times=times)

    def extent(self, runs: Sequence[int], key: str) -> tuple[int, int] | None:
        return self._view.extent(runs, key)

    def cells(self, runs: Sequence[int], key: str, lo: int, hi: int) -> dict[int, CellLine]:
        return self._view.cells(runs, key, lo, hi)
