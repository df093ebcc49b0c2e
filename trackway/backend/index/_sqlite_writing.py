"""What a transaction of the SQLite engine can change: its statements."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

from trackway.backend.index._sqlite_file import translated
from trackway.backend.index._sqlite_reading import LISTED, NAMES, SqliteReading, marks, pieces
from trackway.backend.index._sqlite_rows import (
    as_name,
    as_text,
    lines_of,
    numbers,
    pack_event,
    pack_head,
    pack_line,
    seal,
)
from trackway.backend.index.contract import Chunk, EventRow, LogLine, RunRef, Writing

__all__ = ["SqliteWriting"]

_KINDS: Final = ("run", "log", "key", "axis", "chunk")


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
        chunks = "(SELECT chunk FROM chunk WHERE run = ?)"
        logs = "(SELECT log FROM log WHERE run = ?)"
        for table in ("cells", "data"):
            self._rows(f"DELETE FROM {table} WHERE chunk IN {chunks}", run)
        for table in ("chunk", "held"):
            self._rows(f"DELETE FROM {table} WHERE run = ?", run)
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
        known = dict(self._rows(f"SELECT log, run FROM log WHERE log {LISTED}", numbers(wanted)))
        self._many(
            "UPDATE log SET line = ? WHERE log = ?",
            [(pack_line(wanted[log]._replace(run=run)), log) for log, run in known.items()],
        )

    def put_state(self, log: int, state: bytes) -> None:
        sql = "INSERT OR REPLACE INTO state SELECT log, ? FROM log WHERE log = ?"
        self._rows(sql, seal(state, log), log)

    def clear_log(self, log: int) -> None:
        rows = self._rows("SELECT name, line FROM log WHERE log = ?", log)
        if not rows:
            return
        (line,) = lines_of(rows)
        where = "WHERE run = ? AND log = ?"
        place = (line.run, log)
        for table in ("cells", "data"):
            sql = f"DELETE FROM {table} WHERE chunk IN (SELECT chunk FROM chunk {where})"
            self._rows(sql, *place)
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
            for piece in pieces(wanted, NAMES):
                sql = f"SELECT name, key FROM key WHERE space = ? AND name IN ({marks(piece)})"
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
        for piece in pieces(chunks, 1000):
            heads, values, cells = [], [], []
            for chunk in piece:
                number = self._number("chunk")
                place = (chunk.run, chunk.key, chunk.log, chunk.seq)
                heads.append((*place, number, chunk.axis, pack_head(number, chunk)))
                values.append((number, *place, chunk.data))
                if chunk.cells is not None:
                    cells.append((number, chunk.cells))
            self._many("INSERT INTO chunk VALUES (?, ?, ?, ?, ?, ?, ?)", heads)
            self._many("INSERT INTO data VALUES (?, ?, ?, ?, ?, ?)", values)
            self._many("INSERT INTO cells VALUES (?, ?)", cells)
            held = Counter((chunk.run, chunk.key) for chunk in piece)
            self._many(
                "INSERT INTO held VALUES (?, ?, ?)"
                " ON CONFLICT (run, key) DO UPDATE SET n = n + excluded.n",
                [(run, key, n) for (run, key), n in held.items()],
            )

    def _release(self, held: list[Any]) -> None:
        """Chunks of (run, key) are about to go, so many of each."""
        self._many("UPDATE held SET n = n - ?3 WHERE run = ?1 AND key = ?2", held)
        empty = [(run, key) for run, key, _ in held]
        self._many("DELETE FROM held WHERE run = ? AND key = ? AND n <= 0", empty)

    def remove_chunks(self, chunks: Collection[int]) -> None:
        gone = numbers(chunks)
        where = f"WHERE chunk {LISTED}"
        places = self._rows(f"SELECT run, key, log, seq, chunk FROM data {where}", gone)
        held = Counter(place[:2] for place in places)
        self._release([(run, key, n) for (run, key), n in held.items()])
        self._many(
            "DELETE FROM chunk WHERE run = ? AND key = ? AND log = ? AND seq = ? AND chunk = ?",
            places,
        )
        for table in ("cells", "data"):
            self._rows(f"DELETE FROM {table} {where}", gone)

    def sweep_axes(self, log: int) -> None:
        self._rows(
            "DELETE FROM axis WHERE log = ?1 AND axis NOT IN (SELECT axis FROM chunk"
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
