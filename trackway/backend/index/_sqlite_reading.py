"""What a block of the SQLite engine can be asked: its statements.

Lists of numbers travel as one JSON text, so that a question about 10,000 runs is one statement.
The order of a list is made here, not by the plan SQLite happens to choose: sorting what is sorted
already costs next to nothing.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from operator import itemgetter
from typing import Any, Final, NoReturn, TypeVar

from msgspec.json import decode

from trackway.backend.index._sqlite_file import query
from trackway.backend.index._sqlite_rows import (
    as_name,
    as_text,
    chunks_of,
    document_of,
    event_of,
    lines_of,
    numbers,
    unseal,
)
from trackway.backend.index.contract import (
    Axis,
    Chunk,
    Document,
    EventRow,
    IndexDamagedError,
    Key,
    LogLine,
    Reading,
    RunRef,
)

__all__ = ["LISTED", "NAMES", "SqliteReading", "marks", "pieces"]

_T = TypeVar("_T")

NAMES: Final = 500
"""Names in one statement; each is a parameter."""

_PROBED: Final = 32
"""Up to so many keys are looked up one by one in each run; beyond, the run's keys are scanned."""

LISTED: Final = "IN (SELECT value FROM json_each(?))"


def pieces(values: Iterable[_T], size: int) -> Iterator[list[_T]]:
    """The values in lists of at most that size."""
    rest = iter(values)
    while piece := list(islice(rest, size)):
        yield piece


def marks(values: Sequence[object]) -> str:
    """As many parameters."""
    return ",".join("?" * len(values))


def _where(keys: Collection[int] | None, table: str = "") -> str:
    """The condition on the key column; with a plus, no index is used for it."""
    if keys is None:
        return ""
    return f" AND {'' if len(keys) <= _PROBED else '+'}{table}key {LISTED}"


class SqliteReading(Reading):
    """One snapshot of the file."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection: sqlite3.Connection | None = connection

    def end(self) -> None:
        """The block is over."""
        self._connection = None

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            raise RuntimeError("the block that this belongs to has ended")
        return self._connection

    def _rows(self, sql: str, *values: Any) -> list[Any]:
        return query(self._open(), sql, values)

    def _pairs(self, sql: str, *values: Any) -> list[Any]:
        """Rows of (number, bytes)."""
        rows = self._rows(sql, *values)
        if not {type(row[1]) for row in rows} <= {bytes}:
            _missing("bytes")
        return rows

    def revision(self) -> int:
        ((revision,),) = self._rows("SELECT revision FROM meta")
        return int(revision)

    def runs(self) -> dict[int, RunRef]:
        rows = self._rows("SELECT run, project, id FROM run ORDER BY run")
        return {run: RunRef(as_name(project), as_name(id)) for run, project, id in rows}

    def folders(self) -> dict[int, int]:
        rows = self._rows("SELECT run, folder FROM run WHERE folder IS NOT NULL")
        try:
            return {run: int(folder) for run, folder in rows}
        except (TypeError, ValueError):
            _missing("a time")

    def logs(self, runs: Collection[int] | None = None) -> list[LogLine]:
        sql = "SELECT name, line FROM log"
        if runs is None:
            rows = self._rows(sql)
        else:
            rows = self._rows(f"{sql} WHERE run {LISTED}", numbers(runs))
        lines = lines_of(rows)
        lines.sort(key=itemgetter(1, 0))
        return lines

    def states(self, logs: Collection[int]) -> dict[int, bytes]:
        rows = self._rows(f"SELECT log, state FROM state WHERE log {LISTED}", numbers(logs))
        return {log: unseal(state, log) for log, state in rows}

    def keys(self, space: str | None = None) -> list[Key]:
        sql = "SELECT key, space, name FROM key"
        if space is None:
            rows = self._rows(f"{sql} ORDER BY key")
        else:
            rows = self._rows(f"{sql} WHERE +space = ? ORDER BY key", as_text(space))
        return [Key(key, as_name(where), as_name(name)) for key, where, name in rows]

    def keys_of(self, runs: Collection[int], space: str) -> dict[int, list[int]]:
        rows = self._rows(
            "SELECT h.run, json_group_array(h.key) FROM held h CROSS JOIN key k ON k.key = h.key"
            f" WHERE h.run {LISTED} AND k.space = ? GROUP BY h.run",
            numbers(runs),
            as_text(space),
        )
        return {run: sorted(decode(keys, type=list[int])) for run, keys in sorted(rows)}

    def chunks(
        self,
        runs: Collection[int],
        keys: Collection[int],
        *,
        data: bool = True,
        cells: bool = False,
    ) -> list[Chunk]:
        values = (numbers(runs), numbers(keys))
        found = chunks_of(
            self._rows(
                "SELECT c.chunk, c.run, c.log, c.key, c.seq, axis, head,"
                f" {'data' if data else 'NULL'}, {'cells' if cells else 'NULL'} FROM chunk c"
                f"{' CROSS JOIN data d ON d.chunk = c.chunk' if data else ''}"
                f"{' LEFT JOIN cells p ON p.chunk = c.chunk' if cells else ''}"
                f" WHERE c.run {LISTED}{_where(keys, 'c.')}",
                *values,
            )
        )
        held = self._rows(f"SELECT run, key, n FROM held WHERE run {LISTED}{_where(keys)}", *values)
        if Counter((c.run, c.key) for c in found) != {(run, key): n for run, key, n in held}:
            _missing("chunks")
        found.sort(key=lambda c: (c.run, c.key, c.log, c.seq))
        return found

    def chunk_data(self, chunks: Collection[int]) -> dict[int, bytes]:
        sql = f"SELECT chunk, data FROM data WHERE chunk {LISTED}"
        return dict(self._pairs(sql, numbers(chunks)))

    def log_chunks(self, log: int, keys: Collection[int] | None = None) -> list[Chunk]:
        rows = self._rows(
            "SELECT c.chunk, c.run, c.log, c.key, c.seq, axis, head, data, NULL"
            " FROM chunk c CROSS JOIN data d ON d.chunk = c.chunk"
            " WHERE c.run = (SELECT run FROM log WHERE log = ?1) AND c.log = ?1"
            f"{_where(keys, 'c.')}",
            log,
            *(() if keys is None else (numbers(keys),)),
        )
        return sorted(chunks_of(rows), key=lambda c: (c.key, c.seq))

    def axes(self, axes: Collection[int]) -> dict[int, Axis]:
        sql = f"SELECT axis, log, steps, times FROM axis WHERE axis {LISTED}"
        found = {row[0]: Axis(*row) for row in self._rows(sql, numbers(axes))}
        if not {type(x) for axis in found.values() for x in axis[2:]} <= {bytes}:
            _missing("axes")
        return found

    def events(self, runs: Collection[int], types: Collection[str] | None = None) -> list[EventRow]:
        sql = (
            "SELECT l.run, l.log, e.offset, e.type, e.line, e.body FROM log l"
            f" CROSS JOIN event e ON e.log = l.log WHERE l.run {LISTED}"
        )
        if types is None:
            rows = self._rows(sql, numbers(runs))
        else:
            rows = []
            for piece in pieces(map(as_text, set(types)), NAMES):
                rows += self._rows(f"{sql} AND e.type IN ({marks(piece)})", numbers(runs), *piece)
        return [event_of(row) for row in sorted(rows, key=lambda row: row[:3])]

    def documents(self, runs: Collection[int] | None = None, *, since: int = 0) -> list[Document]:
        sql = "SELECT run, revision, data FROM document WHERE revision > ?"
        if runs is None:
            rows = self._rows(sql, since)
        else:
            rows = self._rows(f"{sql} AND run {LISTED}", since, numbers(runs))
        return sorted(map(document_of, rows), key=lambda document: document.run)

    def blobs(self, names: Collection[str]) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for piece in pieces(map(as_text, set(names)), NAMES):
            sql = f"SELECT name, data FROM blob WHERE name IN ({marks(piece)})"
            for stored, data in self._rows(sql, *piece):
                name = as_name(stored)
                found[name] = unseal(data, name)
        return found


def _missing(what: str) -> NoReturn:
    raise IndexDamagedError(f"the index is damaged: {what} went missing")
