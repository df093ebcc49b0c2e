"""The index in one SQLite file, which several processes share.

The file is in write-ahead mode: a reader's block is a snapshot, one process writes, and only
writers wait, for each other. It must lie on a disk of this machine, not on a network disk. Each
thread has a connection of its own, opened when it first needs one, closed when the thread ends.

Damage, another version and another application's file raise IndexDamagedError. A disk that is full,
read-only or failing is none of these: it raises OSError, and the transaction did nothing.

SQLite has no checksums. What this engine decodes is sealed with its own, and chunks are counted;
the bytes of chunks and axes are to carry a checksum inside, as those of ``codec`` do.
"""

from __future__ import annotations

import sqlite3
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trackway.backend.index._sqlite_file import (
    connect,
    delete,
    identity,
    query,
    waiting,
)
from trackway.backend.index._sqlite_reading import SqliteReading
from trackway.backend.index._sqlite_writing import SqliteWriting
from trackway.backend.index.contract import IndexReplacedError, IndexStore, Reading, Writing

__all__ = ["SqliteStore", "delete"]


class _Session:
    """One thread's connection."""

    def __init__(self, path: Path) -> None:
        self.connection, self.identity = connect(path)
        self.open = False
        # The session dies with its thread, and the connection with it.
        self.close = weakref.finalize(self, self.connection.close)


class SqliteStore(IndexStore):
    """One root's index in the file at ``path``, which is made where there is none.

    Args:
        path: Of the file; the directories above it are made, too. Beside it lie ``-wal`` and
            ``-shm`` while it is open, and ``-lock``.

    Raises:
        IndexDamagedError: What lies there is no index, is damaged or of another version.
        IndexBusyError: Another process kept it for longer than BUSY_S.
        OSError: The place cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = Path(path)
        self._local = threading.local()
        self._lock = threading.Lock()
        self._sessions: weakref.WeakSet[_Session] = weakref.WeakSet()
        self._closed = False
        self._session()

    def _session(self) -> _Session:
        session: _Session | None = getattr(self._local, "session", None)
        if self._closed:
            raise ValueError("the index was closed")
        if session is None:
            session = self._local.session = _Session(self._path)
            with self._lock:
                self._sessions.add(session)
        elif session.open:
            raise RuntimeError("a block of this thread is open already; they do not nest")
        return session

    @contextmanager
    def _block(self, begin: str) -> Iterator[sqlite3.Connection]:
        """A transaction, which is undone unless it was committed inside."""
        session = self._session()
        if identity(self._path) != session.identity:
            raise IndexReplacedError(
                f"{self._path} was deleted or replaced; it is to be opened anew"
            )
        connection = session.connection
        session.open = True
        try:
            waiting(lambda: query(connection, begin))
            yield connection
        finally:
            session.open = False
            if connection.in_transaction:
                query(connection, "ROLLBACK")

    @contextmanager
    def read(self) -> Iterator[Reading]:
        """A block that sees the state committed last."""
        with self._block("BEGIN") as connection:
            reading = SqliteReading(connection)
            try:
                # SQLite takes the snapshot at the first read.
                waiting(reading.revision)
                yield reading
            finally:
                reading.end()

    @contextmanager
    def write(self) -> Iterator[Writing]:
        """A block that commits at its end, or does nothing."""
        with self._block("BEGIN IMMEDIATE") as connection:
            writing = SqliteWriting(connection)
            try:
                yield writing
                writing.finish()
                query(connection, "COMMIT")
            finally:
                writing.end()

    def close(self) -> None:
        """Close the connections of all threads. No block may be open."""
        with self._lock:
            self._closed = True
            for session in list(self._sessions):
                session.close()
