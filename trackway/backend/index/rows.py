"""The run table's columns: a snapshot of all runs in arrays, and what changed since laid over it.

Ten thousand documents take half a second to decode; a column of them takes a millisecond to load.
So once many runs have changed, every column is made and kept in the store, and until then the few
changed documents are decoded and laid over. The answer is the same with and without a snapshot.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from trackway.backend.index._documents import value_at
from trackway.backend.index.columns import MISSING, Column
from trackway.backend.index.contract import IndexBusyError, IndexStore, Reading
from trackway.backend.index.document import unpack_document

__all__ = ["Rows", "leaf_paths"]

REMAKE_SHARE: Final = 0.05
REMAKE_LEAST: Final = 500
"""The snapshot is made anew when so many runs, and so large a share of them, changed since."""

MOST_PATHS: Final = 4000
"""Columns in a snapshot; names that only few runs have are looked up in the documents."""

MOST_CELLS: Final = 8_000_000
"""Values in a snapshot: while it is made, each takes some 32 bytes."""

_ROWS: Final = "table/rows"
_COLUMN: Final = "table/column/"

Path = tuple[str, ...]
Index = npt.NDArray[np.int64]


class _Snapshot(msgspec.Struct, frozen=True):
    """Which runs the columns are about, when, and which columns there are."""

    revision: int
    runs: bytes
    paths: frozenset[str]
    complete: bool

    @classmethod
    def of(cls, reading: Reading) -> _Snapshot | None:
        data = reading.blobs([_ROWS]).get(_ROWS)
        return None if data is None else msgspec.msgpack.decode(data, type=cls)


def _name(path: Path) -> str:
    return msgspec.json.encode(path).decode()


def _canonical(path: Path) -> Path:
    """A path with its dotted names taken apart: ``value_at`` finds a value under any cut."""
    return (path[0], *".".join(path[1:]).split(".")) if len(path) > 1 else path


class Rows:
    """One value a run and path, at one moment. Never changes.

    Args:
        store: Gives the store that columns are loaded from when they are asked for.
        reading: The moment.
        present: The numbers of the runs that are there.
        over: Rows of runs that are not as the store says, because something is behind the index.
        before: The former moment; what it had loaded is not loaded again.
        offset: What ``runs`` adds to the store's numbers.

    Rows are those of the snapshot first, newer runs behind. Runs that somebody deleted are left
    out.
    """

    def __init__(
        self,
        store: Callable[[], IndexStore],
        reading: Reading,
        present: Sequence[int],
        over: Mapping[int, Mapping[str, Any]],
        before: Rows | None = None,
        offset: int = 0,
    ) -> None:
        self._offset = offset
        self._store = store
        self.revision = reading.revision()
        self._snapshot = _Snapshot.of(reading)
        since = self._snapshot.revision if self._snapshot else 0
        self._documents = _documents(reading, since, before)
        self.over = over
        same = before is not None and before._same_snapshot(self._snapshot)
        self._loaded: dict[str, Column | None] = before._loaded if before and same else {}
        self._columns: dict[Path, Column] = {}
        self._reading: Reading | None = reading
        self._lay(sorted(present))
        self._reading = None

    def _same_snapshot(self, other: _Snapshot | None) -> bool:
        mine = self._snapshot
        return mine is not None and other is not None and mine.revision == other.revision

    def _lay(self, present: Sequence[int]) -> None:
        """Decide which row is which run's, and which rows the snapshot does not tell."""
        known = (
            np.frombuffer(self._snapshot.runs, np.int64)
            if self._snapshot
            else np.empty(0, np.int64)
        )
        there = np.asarray(present, np.int64)
        changed = self._documents.keys() | self.over.keys()
        told_of = np.fromiter(changed, np.int64, len(changed))
        # A run of which nothing could be read has no document, and is no row.
        new = np.intersect1d(np.setdiff1d(there, known), told_of)
        kept = np.flatnonzero(np.isin(known, there))
        runs = np.concatenate([known[kept], new])
        told = np.flatnonzero(np.isin(runs, told_of))
        # Row 0 of the snapshot stands in for those it does not have: they are laid over.
        self._take = np.concatenate([kept, np.zeros(len(new), np.int64)])
        self._is_whole = not len(new) and len(kept) == len(known)
        self._runs, self._told = runs, told
        self._rows = [self._row(int(runs[place])) for place in told.tolist()]
        gone = self.column(("deleted",))
        deleted = (gone.kinds == 3) & (gone.numbers == 1.0)
        if deleted.any():
            live = np.flatnonzero(~deleted)
            back = np.full(len(runs), -1, np.int64)
            back[live] = np.arange(len(live))
            keep = back[told] >= 0
            self._rows = [
                row for row, stays in zip(self._rows, keep.tolist(), strict=True) if stays
            ]
            self._told = back[told[keep]]
            self._take, self._runs = self._take[live], runs[live]
            self._is_whole = False
            self._columns = {}

    @property
    def runs(self) -> Index:
        """The run's number by row, as the index gives it."""
        return self._runs + self._offset

    def __len__(self) -> int:
        return len(self._runs)

    @property
    def changed(self) -> int:
        """How many runs the snapshot does not tell, for the store's part."""
        return len(self._documents)

    @functools.cached_property
    def running(self) -> frozenset[int]:
        """The runs that ran when the store's part of their rows was made."""
        states = self._base(("state",))
        told = {run for run, row in self._documents.items() if row.get("state") == "running"}
        if states is not None and self._snapshot is not None:
            codes = [code for code, text in enumerate(states.vocabulary) if text == "running"]
            runs = np.frombuffer(self._snapshot.runs, np.int64)
            before = runs[np.isin(states.codes, codes)].tolist() if codes else []
            told.update(run for run in before if run not in self._documents)
        return frozenset(told)

    def _row(self, run: int) -> Mapping[str, Any]:
        over = self.over.get(run)
        return self._documents[run] if over is None else over

    def column(self, path: Path) -> Column:
        """The values at a path of the runs' documents, by row."""
        path = _canonical(path)
        column = self._columns.get(path)
        if column is None:
            column = self._columns[path] = self._made(path)
        return column

    def _made(self, path: Path) -> Column:
        base = self._base(path)
        count = len(self._runs)
        if base is None or not len(base):
            column = Column.missing(count)
        elif self._is_whole:
            column = base
        else:
            column = base.take(self._take)
        if len(self._told):
            column = column.with_values(self._told, [value_at(row, path) for row in self._rows])
        return column

    def _base(self, path: Path) -> Column | None:
        """The column as the snapshot has it; None where no run of it has such a value."""
        if self._snapshot is None:
            return None
        name = _name(path)
        if name in self._loaded:
            return self._loaded[name]
        column: Column | None = None
        if name in self._snapshot.paths:
            with self._read() as reading:
                current = _Snapshot.of(reading)
                data = reading.blobs([_COLUMN + name]).get(_COLUMN + name)
            if current == self._snapshot and data:
                column = Column.from_bytes(data)
                if self._is_inner(path):
                    column = self._filled(column, path)
            else:  # another process has just made it anew
                column = self._searched(path)
        elif not self._snapshot.complete or self._is_inner(path):
            column = self._searched(path)
        self._loaded[name] = column
        return column

    def _read(self) -> AbstractContextManager[Reading]:
        """A block of the store; while this is being made, the one it is made in."""
        return self._store().read() if self._reading is None else nullcontext(self._reading)

    def _is_inner(self, path: Path) -> bool:
        """Whether there are values below this path, so that it leads to maps."""
        assert self._snapshot is not None
        start = _name(path)[:-1] + ","
        return any(name.startswith(start) for name in self._snapshot.paths)

    def _filled(self, column: Column, path: Path) -> Column:
        """The column with the maps of those runs that have values below the path instead."""
        assert self._snapshot is not None
        missing = np.flatnonzero(column.kinds == 0)
        if not len(missing):
            return column
        known = np.frombuffer(self._snapshot.runs, np.int64)[missing].tolist()
        with self._read() as reading:
            rows = {d.run: unpack_document(d.data) for d in reading.documents(known)}
        return column.with_values(missing, [value_at(rows.get(run, {}), path) for run in known])

    def _searched(self, path: Path) -> Column:
        """The column, from the documents."""
        assert self._snapshot is not None
        known = np.frombuffer(self._snapshot.runs, np.int64).tolist()
        with self._read() as reading:
            rows = {d.run: unpack_document(d.data) for d in reading.documents(known)}
        return Column.of([value_at(rows.get(run, {}), path) for run in known])

    def document(self, row: int) -> dict[str, Any]:
        """One row whole."""
        return self.documents([row])[0]

    def documents(self, rows: Sequence[int]) -> list[dict[str, Any]]:
        """These rows whole."""
        numbers = [int(self._runs[row]) for row in rows]
        told = {int(self._runs[p]): r for p, r in zip(self._told.tolist(), self._rows, strict=True)}
        missing = [number for number in numbers if number not in told]
        found: dict[int, Mapping[str, Any]] = {}
        if missing:
            with self._store().read() as reading:
                found = {d.run: unpack_document(d.data) for d in reading.documents(missing)}
        return [dict(told.get(number) or found.get(number, {})) for number in numbers]

    def paths(self) -> dict[Path, int]:
        """The paths of config and summary that any run has, and how many runs have each."""
        names = self._snapshot.paths if self._snapshot else frozenset()
        paths = {tuple(msgspec.json.decode(name)) for name in names}
        for row in self._rows:
            paths.update(leaf_paths(row))
        told = {}
        for path in sorted(path for path in paths if path[0] in ("config", "summary")):
            count = int((self.column(path).kinds != 0).sum())
            if count:
                told[path] = count
        return told


def _documents(reading: Reading, since: int, before: Rows | None) -> dict[int, dict[str, Any]]:
    """The documents that were put since, decoded once."""
    known = before._documents if before is not None else {}
    floor = before.revision if before is not None else -1
    told: dict[int, dict[str, Any]] = {}
    for document in reading.documents(since=since):
        old = known.get(document.run) if document.revision <= floor else None
        told[document.run] = old if old is not None else unpack_document(document.data)
    return told


def leaf_paths(row: Mapping[str, Any]) -> list[Path]:
    """The paths of a row's values: fields, and the leaves of config and summary."""
    return [path for path, _ in _leaves(row)]


def _leaves(row: Mapping[str, Any]) -> Iterator[tuple[Path, Any]]:
    """Each leaf with its path; as for ``value_at``, a field that is None is missing."""
    stack: list[tuple[Path, Mapping[str, Any]]] = [((), row)]
    while stack:
        path, tree = stack.pop()
        for name, value in tree.items():
            if isinstance(value, dict) and value:
                stack.append(((*path, name), value))
            elif path or value is not None:
                yield _path_of(path, name), value


@functools.lru_cache(1 << 16)
def _path_of(path: Path, name: str) -> Path:
    return _canonical((*path, name))


def remake_snapshot(store: IndexStore) -> bool:
    """Make the snapshot anew if enough runs changed since; returns whether it was made.

    One document is decoded at a time: all of them as Python values would take half a gigabyte.
    """
    with store.read() as reading:
        old = _Snapshot.of(reading)
        changed = len(reading.documents(since=old.revision if old else 0))
        if changed < REMAKE_LEAST or changed < REMAKE_SHARE * len(reading.runs()):
            return False
        documents = reading.documents()
    counts: Counter[Path] = Counter()
    for document in documents:
        counts.update(leaf_paths(unpack_document(document.data)))
    most = max(1, min(MOST_PATHS, MOST_CELLS // len(documents)))
    columns = {path: [MISSING] * len(documents) for path, _ in counts.most_common(most)}
    for place, document in enumerate(documents):
        for path, value in _leaves(unpack_document(document.data)):
            column = columns.get(path)
            if column is not None:
                column[place] = value
    blobs: dict[str, bytes | None] = {}
    for path in list(columns):
        blobs[_COLUMN + _name(path)] = Column.of(columns.pop(path)).to_bytes()
    names = frozenset(_name(path) for path, _ in counts.most_common(most))
    runs = np.array([document.run for document in documents], np.int64)
    revision = max(document.revision for document in documents)
    snapshot = _Snapshot(revision, runs.tobytes(), names, len(counts) <= most)
    blobs[_ROWS] = msgspec.msgpack.encode(snapshot)
    try:
        with store.write() as writing:
            before = _Snapshot.of(writing)
            if before is not None:
                blobs.update({_COLUMN + name: None for name in before.paths - names})
            writing.put_blobs(blobs)
    except (IndexBusyError, OSError):  # it would only save time
        return False
    return True
