"""What a block of the SQLite engine can do: its statements.

Lists of numbers travel as one JSON text, so that a question about 10,000 runs is one statement.
The order of a list is made here, not by the plan SQLite happens to choose: sorting what is sorted
already costs next to nothing.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final, NoReturn, TypeVar

from trackway.backend.index._sqlite_file import query, translated
from trackway.backend.index._sqlite_rows import (
    as_name,
    as_text,
    chunk_of,
    document_of,
    event_of,
    line_of,
    numbers,
    pack_event,
    pack_head,
    pack_line,
    seal,
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
    Writing,
)

__all__ = ["SqliteReading", "SqliteWriting"]

_T = TypeVar("_T")

_NAMES: Final = 500
"""Names in one statement; each is a parameter."""

_PROBED: Final = 32
"""Up to so many keys are looked up one by one in each run; beyond, the run's keys are scanned."""

_LISTED: Final = "IN (SELECT value FROM json_each(?))"
_KINDS: Final = ("run", "log", "key", "axis", "chunk")


def _pieces(values: Iterable[_T], size: int) -> Iterator[list[_T]]:
    rest = iter(values)
    while piece := list(islice(rest, size)):
        yield piece


def _marks(values: Sequence[object]) -> str:
    return ",".join("?" * len(values))


def _where(keys: Collection[int] | None) -> str:
    """The condition on the key column; with a plus, no index is used for it."""
    if keys is None:
        return ""
    return f" AND {'' if len(keys) <= _PROBED else '+'}key {_LISTED}"


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
        sql = "SELECT log, run, name, line FROM log"
        if runs is None:
            rows = self._rows(sql)
        else:
            rows = self._rows(f"{sql} WHERE run {_LISTED}", numbers(runs))
        lines = [line_of(row) for row in rows]
        lines.sort(key=lambda line: (line.run, line.log))
        return lines

    def states(self, logs: Collection[int]) -> dict[int, bytes]:
        rows = self._rows(f"SELECT log, state FROM state WHERE log {_LISTED}", numbers(logs))
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
            "SELECT h.run, h.key FROM held h CROSS JOIN key k ON k.key = h.key"
            f" WHERE h.run {_LISTED} AND k.space = ?",
            numbers(runs),
            as_text(space),
        )
        found: dict[int, list[int]] = {}
        for run, key in sorted(rows):
            found.setdefault(run, []).append(key)
        return found

    def chunks(
        self,
        runs: Collection[int],
        keys: Collection[int],
        *,
        data: bool = True,
        cells: bool = False,
    ) -> list[Chunk]:
        where = f"WHERE run {_LISTED}{_where(keys)}"
        values = (numbers(runs), numbers(keys))
        found = [
            chunk_of(row)
            for row in self._rows(
                "SELECT c.chunk, run, log, key, seq, axis, head,"
                f" {'data' if data else 'NULL'}, {'cells' if cells else 'NULL'}"
                " FROM chunk c INDEXED BY chunk_place"
                f"{' LEFT JOIN cells p ON p.chunk = c.chunk' if cells else ''} {where}",
                *values,
            )
        ]
        held = self._rows(f"SELECT run, key, n FROM held {where}", *values)
        if Counter((c.run, c.key) for c in found) != {(run, key): n for run, key, n in held}:
            _missing("chunks")
        found.sort(key=lambda c: (c.run, c.key, c.log, c.seq))
        return found

    def chunk_data(self, chunks: Collection[int]) -> dict[int, bytes]:
        sql = f"SELECT chunk, data FROM chunk WHERE chunk {_LISTED}"
        return dict(self._pairs(sql, numbers(chunks)))

    def log_chunks(self, log: int, keys: Collection[int] | None = None) -> list[Chunk]:
        rows = self._rows(
            "SELECT chunk, run, log, key, seq, axis, head, data, NULL"
            " FROM chunk INDEXED BY chunk_place"
            f" WHERE run = (SELECT run FROM log WHERE log = ?1) AND log = ?1{_where(keys)}",
            log,
            *(() if keys is None else (numbers(keys),)),
        )
        return sorted(map(chunk_of, rows), key=lambda c: (c.key, c.seq))

    def axes(self, axes: Collection[int]) -> dict[int, Axis]:
        sql = f"SELECT axis, log, steps, times FROM axis WHERE axis {_LISTED}"
        found = {row[0]: Axis(*row) for row in self._rows(sql, numbers(axes))}
        if not {type(x) for axis in found.values() for x in axis[2:]} <= {bytes}:
            _missing("axes")
        return found

    def events(self, runs: Collection[int], types: Collection[str] | None = None) -> list[EventRow]:
        sql = (
            "SELECT l.run, l.log, e.offset, e.type, e.line, e.body FROM log l"
            f" CROSS JOIN event e ON e.log = l.log WHERE l.run {_LISTED}"
        )
        if types is None:
            rows = self._rows(sql, numbers(runs))
        else:
            rows = []
            for piece in _pieces(map(as_text, set(types)), _NAMES):
                rows += self._rows(f"{sql} AND e.type IN ({_marks(piece)})", numbers(runs), *piece)
        return [event_of(row) for row in sorted(rows, key=lambda row: row[:3])]

    def documents(self, runs: Collection[int] | None = None, *, since: int = 0) -> list[Document]:
        sql = "SELECT run, revision, data FROM document WHERE revision > ?"
        if runs is None:
            rows = self._rows(sql, since)
        else:
            rows = self._rows(f"{sql} AND run {_LISTED}", since, numbers(runs))
        return sorted(map(document_of, rows), key=lambda document: document.run)

    def blobs(self, names: Collection[str]) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for piece in _pieces(map(as_text, set(names)), _NAMES):
            sql = f"SELECT name, data FROM blob WHERE name IN ({_marks(piece)})"
            for stored, data in self._rows(sql, *piece):
                name = as_name(stored)
                found[name] = unseal(data, name)
        return found


def _missing(what: str) -> NoReturn:
    raise IndexDamagedError(f"the index is damaged: {what} went missing")


class SqliteWriting(SqliteReading, Writing):
    """A transaction. Numbers are counted here and written down when it commits."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        super().__init__(connection)
        ((self._base, *last),) = self._rows(f"SELECT revision, {','.join(_KINDS)} FROM meta")
        self._last = dict(zip(_KINDS, last, strict=True))
        self._changes = connection.total_changes

    def finish(self) -> None:
        """Write down what was counted; to be called once, before the commit."""
        if self._open().total_changes != self._changes:
            values = (self.revision(), *self._last.values())
            sets = ",".join(f"{kind} = ?" for kind in ("revision", *_KINDS))
            self._rows(f"UPDATE meta SET {sets}", *values)

    def revision(self) -> int:
        return int(self._base) + (self._open().total_changes != self._changes)

    def _number(self, kind: str) -> int:
        self._last[kind] += 1
        return int(self._last[kind])

    def _many(self, sql: str, values: Iterable[Sequence[Any]]) -> None:
        try:
            self._open().executemany(sql, values)
        except sqlite3.Error as error:
            raise translated(error) from error

    def add_run(self, ref: RunRef) -> int:
        names = (as_text(ref.project), as_text(ref.id))
        for (run,) in self._rows("SELECT run FROM run WHERE project = ? AND id = ?", *names):
            return int(run)
        run = self._number("run")
        self._rows("INSERT INTO run VALUES (?, ?, ?, NULL)", run, *names)
        return run

    def remove_run(self, run: int) -> None:
        chunks = "(SELECT chunk FROM chunk INDEXED BY chunk_place WHERE run = ?)"
        logs = "(SELECT log FROM log WHERE run = ?)"
        self._rows(f"DELETE FROM cells WHERE chunk IN {chunks}", run)
        self._rows("DELETE FROM chunk INDEXED BY chunk_place WHERE run = ?", run)
        self._rows("DELETE FROM held WHERE run = ?", run)
        for table in ("axis", "event", "state"):
            self._rows(f"DELETE FROM {table} WHERE log IN {logs}", run)
        for table in ("log", "document", "run"):
            self._rows(f"DELETE FROM {table} WHERE run = ?", run)

    def put_folder(self, run: int, mtime_ns: int) -> None:
        fits = -(2**63) <= mtime_ns < 2**63
        self._rows(
            "UPDATE run SET folder = ? WHERE run = ?", mtime_ns if fits else str(mtime_ns), run
        )

    def add_log(self, run: int, name: str) -> int:
        stored = as_text(name)
        for (log,) in self._rows("SELECT log FROM log WHERE run = ? AND name = ?", run, stored):
            return int(log)
        log = self._number("log")
        line = pack_line(LogLine(log, run, name, 0, 0, 0, 0))
        self._rows("INSERT INTO log VALUES (?, ?, ?, ?)", log, run, stored, line)
        return log

    def put_logs(self, logs: Iterable[LogLine]) -> None:
        wanted = {line.log: line for line in logs}
        known = dict(self._rows(f"SELECT log, run FROM log WHERE log {_LISTED}", numbers(wanted)))
        self._many(
            "UPDATE log SET line = ? WHERE log = ?",
            [(pack_line(wanted[log]._replace(run=run)), log) for log, run in known.items()],
        )

    def put_state(self, log: int, state: bytes) -> None:
        sql = "INSERT OR REPLACE INTO state SELECT log, ? FROM log WHERE log = ?"
        self._rows(sql, seal(state, log), log)

    def clear_log(self, log: int) -> None:
        rows = self._rows("SELECT log, run, name, line FROM log WHERE log = ?", log)
        if not rows:
            return
        line = line_of(rows[0])
        where = "INDEXED BY chunk_place WHERE run = ? AND log = ?"
        place = (line.run, log)
        self._rows(f"DELETE FROM cells WHERE chunk IN (SELECT chunk FROM chunk {where})", *place)
        self._release(
            self._rows(f"SELECT run, key, count(*) FROM chunk {where} GROUP BY key", *place)
        )
        self._rows(f"DELETE FROM chunk {where}", *place)
        for table in ("axis", "event", "state"):
            self._rows(f"DELETE FROM {table} WHERE log = ?", log)
        self.put_logs([line._replace(offset=0)])

    def remove_log(self, log: int) -> None:
        self.clear_log(log)
        self._rows("DELETE FROM log WHERE log = ?", log)

    def key_numbers(self, names: Sequence[tuple[str, str]]) -> list[int]:
        known: dict[tuple[str, str], int] = {}
        for space in {space for space, _ in names}:
            wanted = {as_text(name) for where, name in names if where == space}
            for piece in _pieces(wanted, _NAMES):
                sql = f"SELECT name, key FROM key WHERE space = ? AND name IN ({_marks(piece)})"
                for name, key in self._rows(sql, as_text(space), *piece):
                    known[space, as_name(name)] = key
        new = [pair for pair in dict.fromkeys((s, n) for s, n in names) if pair not in known]
        known.update((pair, self._number("key")) for pair in new)
        rows = [(known[s, n], as_text(s), as_text(n)) for s, n in new]
        self._many("INSERT INTO key VALUES (?, ?, ?)", rows)
        return [known[space, name] for space, name in names]

    def add_axis(self, log: int, steps: bytes, times: bytes) -> int:
        axis = self._number("axis")
        self._rows("INSERT INTO axis VALUES (?, ?, ?, ?)", axis, log, steps, times)
        return axis

    def add_chunks(self, chunks: Iterable[Chunk]) -> None:
        for piece in _pieces(chunks, 1000):
            rows, cells = [], []
            for chunk in piece:
                number = self._number("chunk")
                head = pack_head(number, chunk)
                rows.append(
                    (
                        number,
                        chunk.run,
                        chunk.key,
                        chunk.log,
                        chunk.seq,
                        chunk.axis,
                        head,
                        chunk.data,
                    )
                )
                if chunk.cells is not None:
                    cells.append((number, chunk.cells))
            self._many("INSERT INTO chunk VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
            self._many("INSERT INTO cells VALUES (?, ?)", cells)
            held = Counter((chunk.run, chunk.key) for chunk in piece)
            self._many(
                "INSERT INTO held VALUES (?, ?, ?)"
                " ON CONFLICT (run, key) DO UPDATE SET n = n + excluded.n",
                [(run, key, n) for (run, key), n in held.items()],
            )

    def _release(self, held: list[Any]) -> None:
        """Chunks of (run, key) are about to go, so many of each."""
        self._many(
            "UPDATE held SET n = n - ?3 WHERE run = ?1 AND key = ?2",
            held,
        )
        self._many(
            "DELETE FROM held WHERE run = ? AND key = ? AND n <= 0",
            [(run, key) for run, key, _ in held],
        )

    def remove_chunks(self, chunks: Collection[int]) -> None:
        gone = numbers(chunks)
        where = f"WHERE chunk {_LISTED}"
        self._release(
            self._rows(f"SELECT run, key, count(*) FROM chunk {where} GROUP BY run, key", gone)
        )
        self._rows(f"DELETE FROM cells {where}", gone)
        self._rows(f"DELETE FROM chunk {where}", gone)

    def sweep_axes(self, log: int) -> None:
        self._rows(
            "DELETE FROM axis WHERE log = ?1 AND axis NOT IN (SELECT axis FROM chunk"
            " INDEXED BY chunk_place"
            " WHERE run = (SELECT run FROM log WHERE log = ?1) AND log = ?1)",
            log,
        )

    def add_events(self, events: Iterable[EventRow]) -> None:
        self._many(
            "INSERT OR REPLACE INTO event VALUES (?, ?, ?, ?, ?)",
            [(e.log, e.offset, as_text(e.type), pack_event(e), e.body) for e in events],
        )

    def put_document(self, run: int, data: bytes) -> None:
        sql = "INSERT OR REPLACE INTO document SELECT run, ?, ? FROM run WHERE run = ?"
        self._rows(sql, int(self._base) + 1, seal(data, run), run)

    def put_blobs(self, blobs: Mapping[str, bytes | None]) -> None:
        for name, data in blobs.items():
            if data is None:
                self._rows("DELETE FROM blob WHERE name = ?", as_text(name))
            else:
                sql = "INSERT OR REPLACE INTO blob VALUES (?, ?)"
                self._rows(sql, as_text(name), seal(data, name))
