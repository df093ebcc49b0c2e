"""Keeps an index up with the logs of a root: exactly once, whoever else does so at the same time.

What is put into the index and how far the log was read commit in one transaction, so a process
that is killed anywhere has either indexed a stretch or not. Two indexers at once are no harm: each
checks within its transaction that the log stands where it began to read, and drops its work if not.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from trackway.backend.file.deletions import Deletions
from trackway.backend.file.format import FRAME, VERSION
from trackway.backend.index._points import Points
from trackway.backend.index._seal import bunches, seal_points
from trackway.backend.index._tail import LogState, Tail
from trackway.backend.index.contract import (
    EventRow,
    IndexBusyError,
    IndexStore,
    LogLine,
    Reading,
    RunRef,
    Writing,
)
from trackway.backend.index.discover import Look, Seen, Sight
from trackway.backend.index.document import document_of, run_deletions
from trackway.errors import TrackwayError

__all__ = ["Changes", "IndexUnwritableError", "Indexer"]

SEAL_ROWS: Final = 1000
"""A log with fewer rows behind the index stays a tail. Measured: chunks of 100 points cost four
times what longer ones do."""

SEAL_BYTES: Final = 1 << 20
QUIET_S: Final = 10.0
"""A log that did not grow for so long is put into the index to its end."""

MOST_TAILS: Final = 256
"""Runs that may have tails; beyond, they are put into the index however short they are."""

BATCH_BYTES: Final = 32 << 20
BATCH_RUNS: Final = 256

_PLACE_ONLY: Final = frozenset({"console", "packages"})
"""Events that are kept as a place in the log: large, and asked for one run at a time."""

_TRIES: Final = 100

_LEFT_OUT: Final = frozenset({"heartbeat", "value"})

Progress = Callable[[int, int], None]


class IndexUnwritableError(TrackwayError):
    """The place of the index is of no use: its disk is full or failing, or may not be written."""


@dataclass(slots=True)
class Changes:
    """What a refresh found.

    Attributes:
        runs: Numbers of the runs of which something was read, those that are new among them.
        gone: Numbers of the runs that are no more.
        bytes: How much was read.
    """

    runs: set[int] = field(default_factory=set)
    gone: set[int] = field(default_factory=set)
    bytes: int = 0

    def __bool__(self) -> bool:
        return bool(self.runs or self.gone)


class Indexer:
    """Reads logs into a store. Not for several threads at once.

    Args:
        root: The folder that holds all projects.
        store: Where to put it.
        points: What decodes chunks.

    Attributes:
        numbers: The store's number of each run that is there.
        refs: The same the other way round.
        tails: What is not in the index, by number of the run and of the log.
        unreadable: Why logs of a run could not be read, when it was last tried.
        moved: Runs of which another process put something into the store, and that were not looked
            at since: what had been read of them behind the index may have been dropped.
    """

    def __init__(self, root: Path, store: IndexStore, points: Points) -> None:
        self.root = root
        self.store = store
        self.points = points
        self.numbers: dict[RunRef, int] = {}
        self.refs: dict[int, RunRef] = {}
        self.tails: dict[int, dict[int, Tail]] = {}
        self._sight = Sight(root)
        self._logs: dict[RunRef, dict[str, int]] = {}  # numbers by name
        self._covered: dict[RunRef, dict[str, Seen]] = {}  # what the index holds to its end
        self._revision = -1
        self.unreadable: dict[RunRef, OSError] = {}
        self.moved: set[RunRef] = set()
        self._waiting: list[Tail] = []
        self._waiting_bytes = 0

    # -- what is known ---------------------------------------------------------------------

    def sync(self) -> None:
        """Take over what other processes put into the index."""
        with self.reading() as reading:
            revision = reading.revision()
            if revision == self._revision:
                return
            self._take_over(reading, reading.runs(), reading.logs())
            if self._revision < 0:
                self._remember_folders(reading)
            self._revision = revision

    def _take_over(
        self, reading: Reading, refs: dict[int, RunRef], lines: Iterable[LogLine]
    ) -> None:
        numbered, self.refs = self.refs, refs
        self.numbers = {ref: number for number, ref in refs.items()}
        before, self._logs, self._covered = self._covered, {}, {}
        present = set()
        # Twenty thousand lines whenever a root is opened: they come by run, and what a name costs
        # counts.
        new = tuple.__new__
        by_run: dict[int, tuple[dict[str, int], dict[str, Seen]]] = {run: ({}, {}) for run in refs}
        for log, run, name, inode, size, mtime_ns, _ in lines:
            logs, seen = by_run[run]
            logs[name] = log
            seen[name] = new(Seen, (inode, size, mtime_ns))
            present.add(log)
        for run, ref in refs.items():
            self._logs[ref], self._covered[ref] = by_run[run]
        self.moved |= {ref for ref, seen in self._covered.items() if before.get(ref) != seen}
        self.moved |= before.keys() - self._covered.keys()
        tails = list(self._all_tails())
        states = reading.states([tail.log for tail in tails]) if tails else {}
        for tail in tails:
            # A tail goes on from one state; another one may be that of another file.
            if tail.log not in present or states.get(tail.log) != tail.base:
                self._drop(tail.run, tail.log)
                if tail.run in numbered:
                    self.moved.add(numbered[tail.run])

    def _all_tails(self) -> Iterator[Tail]:
        return (tail for tails in self.tails.values() for tail in tails.values())

    def _drop(self, run: int, log: int) -> None:
        tails = self.tails.get(run, {})
        tails.pop(log, None)
        if not tails:
            self.tails.pop(run, None)

    def _remember_folders(self, reading: Reading) -> None:
        for run, mtime_ns in reading.folders().items():
            ref = self.refs.get(run)
            if ref is not None:
                self._sight.remember(ref, mtime_ns, self._logs[ref])

    def forget(self, runs: Collection[int]) -> None:
        """Drop what is kept in memory of these runs: the store goes on without it."""
        for run in runs:
            self.tails.pop(run, None)
        self._revision = -1

    def joins(self, reading: Reading, refs: Mapping[int, RunRef]) -> bool:
        """Whether the index says of these runs what this indexer and its tails go by.

        Another process may have put something else there since the last ``refresh``.
        """
        if reading.revision() == self._revision:
            return True
        logs: dict[RunRef, dict[str, int]] = {ref: {} for ref in refs.values()}
        for line in reading.logs(refs):
            ref = refs[line.run]
            logs[ref][line.name] = line.log
            if line.log not in self.tails.get(line.run, {}):
                seen = Seen(line.inode, line.size, line.mtime_ns)
                if self._covered[ref].get(line.name) != seen:
                    return False
        tails = [tail for run in refs for tail in self.tails.get(run, {}).values()]
        states = reading.states([tail.log for tail in tails]) if tails else {}
        if any(states.get(tail.log) != tail.base for tail in tails):
            return False
        return all(self._logs.get(ref) == found for ref, found in logs.items())

    def version(self, ref: RunRef) -> tuple[object, ...]:
        """Changes when anything about the run does."""
        covered = self._covered.get(ref, {})
        tails = self.tails.get(self.numbers.get(ref, 0), {})
        return tuple(
            (log, covered.get(name), tail.seen if (tail := tails.get(log)) else None)
            for name, log in sorted(self._logs.get(ref, {}).items())
        )

    # -- keeping up ------------------------------------------------------------------------

    def refresh(
        self, refs: Collection[RunRef] | None = None, progress: Progress | None = None
    ) -> Changes:
        """Read what is new in these runs, or in all of the root.

        Args:
            refs: The runs; None looks at the whole root, which also finds new runs.
            progress: Is told how many bytes of how many were read.
        """
        changes = Changes()
        try:
            for _ in range(_TRIES):
                more = self._refresh(refs, progress)
                changes.runs = (changes.runs | more.runs) & self.refs.keys()
                changes.gone |= more.gone
                changes.bytes += more.bytes
                if self._revision >= 0:
                    return changes
                # Somebody else indexed the same: what lies behind that is read again.
        except BaseException:
            # What is kept in memory may be half of what it should be: it is read again.
            self.abandon()
            raise
        raise IndexBusyError("others index the same runs faster than they can be read: ask again")

    def abandon(self) -> None:
        """Drop all that is kept in memory: the store goes on without it."""
        self.tails.clear()
        self._waiting, self._waiting_bytes = [], 0
        self._revision = -1

    def _refresh(self, refs: Collection[RunRef] | None, progress: Progress | None) -> Changes:
        self.sync()
        look = self._sight.all() if refs is None else self._sight.at(refs)
        self.moved = set() if refs is None else self.moved.difference(refs)
        changes = Changes()
        todo = [ref for ref, logs in look.logs.items() if self._covered.get(ref) != logs]
        if self.unreadable:
            for ref in look.logs.keys() | look.gone:
                self.unreadable.pop(ref, None)
        self.unreadable.update(look.unreadable)
        gone = [ref for ref in look.gone if ref in self.numbers]
        if refs is None:  # also those that another process found, and we never saw
            there = look.logs.keys() | look.unreadable.keys() | look.gone
            gone += [ref for ref in self.numbers if ref not in there]
        if not todo and not gone:
            return changes
        self._register(todo, gone, look, changes)
        size = _sum_of_new(todo, look, self._covered)
        for ref in todo:
            self._read_run(ref, look.logs[ref], changes)
            if progress is not None:
                progress(changes.bytes, max(size, changes.bytes))
        self._flush()
        return changes

    def _register(
        self, todo: list[RunRef], gone: list[RunRef], look: Look, changes: Changes
    ) -> None:
        """Give new runs and logs their numbers, and forget what is no more."""
        new = [
            ref
            for ref in todo
            if ref not in self.numbers or look.logs[ref].keys() != self._logs[ref].keys()
        ]
        if not new and not gone:
            return
        with self._write() as writing:
            for ref in gone:
                writing.remove_run(self.numbers[ref])
            for ref in new:
                self._register_logs(writing, ref, look)
        for ref in gone:
            number = self.numbers.pop(ref)
            changes.gone.add(number)
            del self.refs[number], self._logs[ref]
            self.tails.pop(number, None)
            self._covered.pop(ref, None)

    def _register_logs(self, writing: Writing, ref: RunRef, look: Look) -> None:
        number = writing.add_run(ref)
        self.numbers[ref], self.refs[number] = number, ref
        known = self._logs.setdefault(ref, {})
        covered = self._covered.setdefault(ref, {})
        writing.put_folder(number, look.folders[ref])
        for name in look.logs[ref].keys() - known.keys():
            known[name] = writing.add_log(number, name)
            covered.setdefault(name, Seen(0, 0, 0))
        missing = known.keys() - look.logs[ref].keys()
        for name in missing:
            log = known.pop(name)
            covered.pop(name, None)
            writing.remove_log(log)
            self._drop(number, log)
        if missing:
            # What was deleted may have been told in a log that is no more.
            self._take_up_deletions(writing, number, run_deletions(writing, number))
            writing.put_document(number, document_of(writing, number, ref, self.root, self.points))

    def _read_run(self, ref: RunRef, logs: dict[str, Seen], changes: Changes) -> None:
        number = self.numbers[ref]
        covered = self._covered[ref]
        changed = [name for name, seen in logs.items() if covered.get(name) != seen]
        read: list[Tail] = []
        self.unreadable.pop(ref, None)
        for name in changed:
            log = self._logs[ref][name]
            tail = self.tails.get(number, {}).get(log)
            if tail is not None and tail.seen == logs[name] and not _is_due(tail):
                continue
            tail = tail or self._tail(ref, name, log)
            before = tail.reader.offset
            if self._read_on(tail):
                read.append(tail)
                changes.bytes += max(0, tail.reader.offset - before)
                changes.runs.add(number)
        if any(tail.tells_deletions for tail in read):
            for tail in read:  # those that tell it are asked when the others are put into the index
                self.tails.setdefault(number, {})[tail.log] = tail
            read = self._apply_deletions(ref, read)
        for tail in read:
            self.tails.setdefault(number, {})[tail.log] = tail
            if _is_due(tail) or len(self.tails) > MOST_TAILS:
                self._wait(tail)

    def _tail(self, ref: RunRef, name: str, log: int) -> Tail:
        with self.reading() as reading:
            state = reading.states([log]).get(log)
        return Tail(log, self.numbers[ref], self.root / ref.project / ref.id / name, state)

    def _read_on(self, tail: Tail) -> bool:
        try:
            for batch in tail.reader.stretches():
                _check_version(tail)
                tail.absorb(batch)
                if tail.size > BATCH_BYTES // 2:
                    # Invariant: what is put down as seen is in the index to its end. A process that
                    # is killed here finds the file longer than that, and goes on.
                    tail.seen = _seen(tail)._replace(size=tail.reader.offset, mtime_ns=0)
                    self._wait(tail)
                    self._flush()
            tail.note_restart()  # also where nothing is left to be read
        except FileNotFoundError:
            return False
        except OSError as error:
            # One log that cannot be read must not keep the others from being found.
            self.unreadable[self.refs[tail.run]] = error
            return False
        tail.seen = _seen(tail)
        if tail.found_orphans():
            tail.begin_afresh()
            return self._read_on(tail)
        return True

    def _apply_deletions(self, ref: RunRef, read: list[Tail]) -> list[Tail]:
        """Points were deleted: every log whose points that concerns is taken in anew."""
        self._flush()
        number = self.numbers[ref]
        with self.reading() as reading:
            fingerprint = run_deletions(reading, number, read).fingerprint
            states = reading.states(self._logs[ref].values())
        mine = {tail.log: tail for tail in read}
        for name, log in self._logs[ref].items():
            if not LogState.unpack(states.get(log)).is_outdated(fingerprint):
                continue
            tail = mine.get(log) or self.tails.get(number, {}).get(log)
            tail = tail or self._tail(ref, name, log)
            if tail.start:
                tail.begin_afresh()
                if self._read_on(tail):
                    mine[log] = tail
                else:
                    mine.pop(log, None)
        return list(mine.values())

    def _take_up_deletions(self, writing: Writing, run: int, deletions: Deletions) -> None:
        """Have the logs that were indexed with other deletions read again, from their start."""
        for line in writing.logs([run]):
            state = LogState.unpack(writing.states([line.log]).get(line.log))
            if state.is_outdated(deletions.fingerprint):
                writing.clear_log(line.log)
                writing.put_logs([line._replace(inode=0, size=0, mtime_ns=0, offset=0)])
                self._revision = -1
                self._drop(run, line.log)
                self._covered[self.refs[run]][line.name] = Seen(0, 0, 0)

    @contextmanager
    def reading(self) -> Iterator[Reading]:
        """A block of the store; nothing else is touched in it, so what fails is the store."""
        try:
            with self.store.read() as reading:
                yield reading
        except OSError as error:
            raise IndexUnwritableError(f"the index cannot be read: {error}") from error

    @contextmanager
    def _write(self) -> Iterator[Writing]:
        """A transaction; nothing but the store is touched in it, so what fails is the store."""
        try:
            with self.store.write() as writing:
                yield writing
        except BaseException as error:
            # What the transaction numbered did not come to be: the numbers are given out again.
            self.points.forget()
            if isinstance(error, OSError):
                raise IndexUnwritableError(f"the index cannot be written: {error}") from error
            raise

    # -- sealing ---------------------------------------------------------------------------

    def _wait(self, tail: Tail) -> None:
        """Put a tail into the next transaction."""
        if tail not in self._waiting:
            self._waiting.append(tail)
            self._waiting_bytes += tail.size
        if self._waiting_bytes > BATCH_BYTES or len(self._waiting) > BATCH_RUNS:
            self._flush()

    def _flush(self) -> None:
        waiting, self._waiting, self._waiting_bytes = self._waiting, [], 0
        if not waiting:
            return
        sealed: list[tuple[Tail, LogState]] = []
        stale: list[Tail] = []
        try:
            with self._write() as writing:
                by_run: dict[int, list[Tail]] = {}
                for tail in waiting:
                    by_run.setdefault(tail.run, []).append(tail)
                for run, tails in by_run.items():
                    self._seal_run(writing, run, tails, sealed, stale)
        except (IndexBusyError, IndexUnwritableError):
            if any(tail.afresh for tail in waiting):
                raise
            return  # the tails stay in memory, and are as good there
        for tail, state in sealed:
            tail.sealed(state)
            assert tail.seen is not None
            self._covered[self.refs[tail.run]][tail.path.name] = tail.seen
            if _is_quiet(tail.seen) or len(self.tails) > MOST_TAILS:
                self._drop(tail.run, tail.log)
        for tail in stale:
            self._drop(tail.run, tail.log)
            self._revision = -1

    def _seal_run(
        self,
        writing: Writing,
        run: int,
        tails: list[Tail],
        sealed: list[tuple[Tail, LogState]],
        stale: list[Tail],
    ) -> None:
        lines = {line.log: line for line in writing.logs([run])}
        states = writing.states([tail.log for tail in tails])
        fresh: list[Tail] = []
        for tail in tails:
            same = tail.log in lines and states.get(tail.log) == tail.base
            (fresh if same else stale).append(tail)
        if not fresh:
            return
        # Also what is told behind the index: it was seen, and the answers go by it already.
        known = self.tails.get(run, {}) | {tail.log: tail for tail in fresh}
        deletions = run_deletions(writing, run, known.values())
        alters = False
        for tail in fresh:
            alters |= tail.afresh or tail.tells_deletions
            if not tail.afresh and tail.state.is_outdated(deletions.fingerprint):
                stale.append(tail)
                alters = True
                continue
            state = tail.next_state(deletions.fingerprint)
            self._seal(writing, tail, deletions, state, lines[tail.log])
            sealed.append((tail, state))
        if alters:
            # Invariant: in no committed state are there chunks made with other deletions than it
            # tells. What is not sealed here is read again, from its start.
            self._take_up_deletions(writing, run, deletions)
        writing.put_document(run, document_of(writing, run, self.refs[run], self.root, self.points))

    def _seal(
        self, writing: Writing, tail: Tail, deletions: Deletions, state: LogState, line: LogLine
    ) -> None:
        if tail.afresh:
            writing.clear_log(tail.log)
        found = list(bunches(tail.written, deletions))
        seal_points(writing, tail.run, tail.log, found, is_first=not tail.start)
        writing.add_events(_event_rows(tail))
        assert tail.seen is not None
        inode, size, mtime_ns = tail.seen
        offset = tail.reader.offset
        writing.put_state(tail.log, state.pack())
        writing.put_logs(
            [line._replace(inode=inode, size=max(size, offset), mtime_ns=mtime_ns, offset=offset)]
        )


def _sum_of_new(todo: list[RunRef], look: Look, covered: dict[RunRef, dict[str, Seen]]) -> int:
    return sum(
        max(0, seen.size - covered[ref].get(name, Seen(0, 0, 0)).size)
        for ref in todo
        for name, seen in look.logs[ref].items()
    )


def _check_version(tail: Tail) -> None:
    """A later version may mean something else by the same bytes: better no answer than a wrong one.

    Raises:
        OSError: The log is of a later version of the format.
    """
    header = tail.reader.header
    if header is not None and header.version > VERSION:
        raise OSError(
            errno.ENOTSUP,
            f"a newer Trackway wrote it (log format {header.version}, this one reads {VERSION}): "
            "pip install --upgrade trackway",
            str(tail.path),
        )


def _seen(tail: Tail) -> Seen:
    status = tail.reader.status
    assert status is not None  # the file was opened
    return Seen(status.st_ino, status.st_size, status.st_mtime_ns)


def _is_quiet(seen: Seen) -> bool:
    return time.time() - seen.mtime_ns / 1e9 > QUIET_S


def _is_due(tail: Tail) -> bool:
    if tail.afresh or tail.rows >= SEAL_ROWS or tail.size >= SEAL_BYTES:
        return True
    return tail.seen is not None and _is_quiet(tail.seen)


def _event_rows(tail: Tail) -> Iterable[EventRow]:
    for (offset, event), payload in zip(tail.written.events, tail.payloads, strict=True):
        if event.type not in _LEFT_OUT:
            body = None if event.type in _PLACE_ONLY else payload
            yield EventRow(
                tail.log, offset, len(payload) + FRAME.size, event.type, event.time, body
            )
