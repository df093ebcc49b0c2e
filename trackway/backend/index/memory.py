"""The index in memory: the obvious reference that every other engine is measured against.

A state is a handful of dictionaries that are never changed once they are committed. A writer
copies them (which takes time in proportion to everything stored: this engine is for tests and for
small roots), changes the copies and puts them in the place of the old ones; a reader keeps the
state it began with.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from typing import TypeVar

from trackway.backend.index.contract import (
    BUSY_S,
    Axis,
    Chunk,
    Document,
    EventRow,
    IndexBusyError,
    IndexStore,
    Key,
    LogLine,
    Reading,
    RunRef,
    Writing,
)

__all__ = ["MemoryStore"]

_K = TypeVar("_K")
_V = TypeVar("_V")


@dataclass(slots=True)
class _State:
    """Everything that is stored. No value in the dictionaries is ever changed in place."""

    revision: int = 0
    numbers: dict[str, int] = field(default_factory=dict)
    runs: dict[int, RunRef] = field(default_factory=dict)
    folders: dict[int, int] = field(default_factory=dict)
    logs: dict[int, LogLine] = field(default_factory=dict)
    states: dict[int, bytes] = field(default_factory=dict)
    keys: dict[int, Key] = field(default_factory=dict)
    chunks: dict[int, Chunk] = field(default_factory=dict)
    axes: dict[int, Axis] = field(default_factory=dict)
    events: dict[tuple[int, int], EventRow] = field(default_factory=dict)
    documents: dict[int, Document] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)

    def copy(self) -> _State:
        draft = replace(self)
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, dict):
                setattr(draft, item.name, value.copy())
        return draft


def _some(known: Mapping[_K, _V], wanted: Collection[_K]) -> dict[_K, _V]:
    return {key: known[key] for key in wanted if key in known}


def _place(chunk: Chunk) -> tuple[int, int, int, int]:
    return (chunk.run, chunk.key, chunk.log, chunk.seq)


class _MemoryReading(Reading):
    """One state, looked at."""

    def __init__(self, state: _State) -> None:
        self._state = state

    def revision(self) -> int:
        return self._state.revision

    def runs(self) -> dict[int, RunRef]:
        return dict(self._state.runs)

    def folders(self) -> dict[int, int]:
        return dict(self._state.folders)

    def logs(self, runs: Collection[int] | None = None) -> list[LogLine]:
        wanted = None if runs is None else set(runs)
        lines = [x for x in self._state.logs.values() if wanted is None or x.run in wanted]
        return sorted(lines, key=lambda line: (line.run, line.log))

    def states(self, logs: Collection[int]) -> dict[int, bytes]:
        return _some(self._state.states, logs)

    def keys(self, space: str | None = None) -> list[Key]:
        return [k for _, k in sorted(self._state.keys.items()) if space in (None, k.space)]

    def keys_of(self, runs: Collection[int], space: str) -> dict[int, list[int]]:
        wanted = set(runs)
        found: dict[int, set[int]] = {}
        for chunk in self._state.chunks.values():
            if chunk.run in wanted and self._state.keys[chunk.key].space == space:
                found.setdefault(chunk.run, set()).add(chunk.key)
        return {run: sorted(keys) for run, keys in sorted(found.items())}

    def chunks(
        self,
        runs: Collection[int],
        keys: Collection[int],
        *,
        data: bool = True,
        cells: bool = False,
    ) -> list[Chunk]:
        runs, keys = set(runs), set(keys)
        found = [c for c in self._state.chunks.values() if c.run in runs and c.key in keys]
        return [
            chunk._replace(data=chunk.data if data else None, cells=chunk.cells if cells else None)
            for chunk in sorted(found, key=_place)
        ]

    def chunk_data(self, chunks: Collection[int]) -> dict[int, bytes]:
        return {n: c.data or b"" for n, c in _some(self._state.chunks, chunks).items()}

    def log_chunks(self, log: int, keys: Collection[int] | None = None) -> list[Chunk]:
        wanted = None if keys is None else set(keys)
        found = [
            chunk._replace(cells=None)
            for chunk in self._state.chunks.values()
            if chunk.log == log and (wanted is None or chunk.key in wanted)
        ]
        return sorted(found, key=_place)

    def axes(self, axes: Collection[int]) -> dict[int, Axis]:
        return _some(self._state.axes, axes)

    def events(self, runs: Collection[int], types: Collection[str] | None = None) -> list[EventRow]:
        run_of = {line.log: line.run for line in self.logs(runs)}
        found = [
            event
            for event in self._state.events.values()
            if event.log in run_of and (types is None or event.type in types)
        ]
        return sorted(found, key=lambda event: (run_of[event.log], event.log, event.offset))

    def documents(self, runs: Collection[int] | None = None, *, since: int = 0) -> list[Document]:
        wanted = None if runs is None else set(runs)
        return [
            document
            for run, document in sorted(self._state.documents.items())
            if document.revision > since and (wanted is None or run in wanted)
        ]

    def blobs(self, names: Collection[str]) -> dict[str, bytes]:
        return _some(self._state.blobs, names)


class _MemoryWriting(_MemoryReading, Writing):
    """A state that is a writer's own until it is committed."""

    def __init__(self, state: _State) -> None:
        super().__init__(state)
        self._base = state.revision

    def _change(self) -> _State:
        self._state.revision = self._base + 1
        return self._state

    def _number(self, what: str) -> int:
        numbers = self._change().numbers
        numbers[what] = numbers.get(what, 0) + 1
        return numbers[what]

    def add_run(self, ref: RunRef) -> int:
        for run, known in self._state.runs.items():
            if known == ref:
                return run
        run = self._number("run")
        self._state.runs[run] = RunRef(*ref)
        return run

    def remove_run(self, run: int) -> None:
        if self._change().runs.pop(run, None) is None:
            return
        for line in self.logs([run]):
            self.remove_log(line.log)
        self._state.folders.pop(run, None)
        self._state.documents.pop(run, None)

    def put_folder(self, run: int, mtime_ns: int) -> None:
        if run in self._state.runs:
            self._change().folders[run] = mtime_ns

    def add_log(self, run: int, name: str) -> int:
        for line in self.logs([run]):
            if line.name == name:
                return line.log
        log = self._number("log")
        self._state.logs[log] = LogLine(log, run, name, 0, 0, 0, 0)
        return log

    def put_logs(self, logs: Iterable[LogLine]) -> None:
        known = self._change().logs
        for line in logs:
            old = known.get(line.log)
            if old is not None:
                known[line.log] = LogLine(*line)._replace(run=old.run, name=old.name)

    def put_state(self, log: int, state: bytes) -> None:
        if log in self._state.logs:
            self._change().states[log] = state

    def clear_log(self, log: int) -> None:
        state = self._change()
        state.chunks = {n: c for n, c in state.chunks.items() if c.log != log}
        state.axes = {n: a for n, a in state.axes.items() if a.log != log}
        state.events = {p: e for p, e in state.events.items() if e.log != log}
        state.states.pop(log, None)
        if log in state.logs:
            state.logs[log] = state.logs[log]._replace(offset=0)

    def remove_log(self, log: int) -> None:
        self.clear_log(log)
        self._state.logs.pop(log, None)

    def key_numbers(self, names: Sequence[tuple[str, str]]) -> list[int]:
        known = {(k.space, k.name): k.key for k in self._state.keys.values()}
        for space, name in names:
            if (space, name) not in known:
                key = known[space, name] = self._number("key")
                self._state.keys[key] = Key(key, space, name)
        return [known[space, name] for space, name in names]

    def add_axis(self, log: int, steps: bytes, times: bytes) -> int:
        axis = self._number("axis")
        self._state.axes[axis] = Axis(axis, log, steps, times)
        return axis

    def add_chunks(self, chunks: Iterable[Chunk]) -> None:
        for chunk in chunks:
            number = self._number("chunk")
            self._state.chunks[number] = chunk._replace(chunk=number)

    def remove_chunks(self, chunks: Collection[int]) -> None:
        for chunk in chunks:
            self._change().chunks.pop(chunk, None)

    def sweep_axes(self, log: int) -> None:
        state = self._change()
        used = {chunk.axis for chunk in state.chunks.values() if chunk.log == log}
        state.axes = {n: a for n, a in state.axes.items() if a.log != log or n in used}

    def add_events(self, events: Iterable[EventRow]) -> None:
        for event in events:
            self._change().events[event.log, event.offset] = event

    def put_document(self, run: int, data: bytes) -> None:
        if run in self._state.runs:
            self._change().documents[run] = Document(run, self._base + 1, data)

    def put_blobs(self, blobs: Mapping[str, bytes | None]) -> None:
        state = self._change()
        for name, data in blobs.items():
            if data is None:
                state.blobs.pop(name, None)
            else:
                state.blobs[name] = data


class MemoryStore(IndexStore):
    """An index that lives as long as its object; not shared between processes."""

    def __init__(self) -> None:
        self._state = _State()
        self._writer = threading.Lock()
        self._local = threading.local()

    @contextmanager
    def _block(self) -> Iterator[None]:
        if getattr(self._local, "open", False):
            raise RuntimeError("a block of this thread is open already; they do not nest")
        self._local.open = True
        try:
            yield
        finally:
            self._local.open = False

    @contextmanager
    def read(self) -> Iterator[Reading]:
        """A block that sees the state committed last."""
        with self._block():
            yield _MemoryReading(self._state)

    @contextmanager
    def write(self) -> Iterator[Writing]:
        """A block whose state takes the place of the old one where it ends."""
        with self._block():
            if not self._writer.acquire(timeout=BUSY_S):
                raise IndexBusyError(f"another thread kept the index for {BUSY_S:g} s")
            try:
                draft = self._state.copy()
                yield _MemoryWriting(draft)
                self._state = draft
            finally:
                self._writer.release()

    def close(self) -> None:
        """Nothing is held that would have to be let go of."""
