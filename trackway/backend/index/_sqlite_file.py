"""The file of the SQLite engine: made, opened, recognised, deleted; and what its errors mean."""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from zlib import crc32

from trackway.backend.index.contract import (
    BUSY_S,
    VERSION,
    IndexBusyError,
    IndexDamagedError,
    IndexReplacedError,
)

__all__ = ["connect", "delete", "identity", "query", "translated", "waiting"]

APPLICATION: Final = 0x54726B77
"""``Trkw``, in the header of the file."""

_POLL_S: Final = 0.002
_STEP_S: Final = 0.2
"""How long SQLite itself waits at a time; between, a signal can be handled."""

_SCHEMA: Final = (
    # One row: the revision, the number given last of each kind, and what the schema looked like.
    "CREATE TABLE meta (id INTEGER PRIMARY KEY, revision INTEGER, run INTEGER, log INTEGER,"
    " key INTEGER, axis INTEGER, chunk INTEGER, schema INTEGER)",
    # Columns without a type keep what they are given: text, or bytes where text will not do.
    "CREATE TABLE run (run INTEGER PRIMARY KEY, project, id, folder, UNIQUE (project, id))",
    "CREATE TABLE log (log INTEGER PRIMARY KEY, run INTEGER, name, line, UNIQUE (run, name))",
    "CREATE TABLE state (log INTEGER PRIMARY KEY, state)",
    "CREATE TABLE key (key INTEGER PRIMARY KEY, space, name, UNIQUE (space, name))",
    "CREATE TABLE axis (axis INTEGER PRIMARY KEY, log INTEGER, steps, times)",
    "CREATE INDEX axis_log ON axis (log)",
    # The heads of a run lie together and apart from the values: whoever asks for one key of a
    # thousand runs reads a page a run. The place stands beside the values, to be found by number.
    "CREATE TABLE chunk (run INTEGER, key INTEGER, log INTEGER, seq INTEGER, chunk INTEGER,"
    " axis INTEGER, head, PRIMARY KEY (run, key, log, seq, chunk)) WITHOUT ROWID",
    "CREATE TABLE data (chunk INTEGER PRIMARY KEY, run INTEGER, key INTEGER, log INTEGER,"
    " seq INTEGER, data)",
    "CREATE TABLE cells (chunk INTEGER PRIMARY KEY, cells)",
    # How many chunks each key of a run has: which keys those are, and whether any went missing.
    "CREATE TABLE held (run INTEGER, key INTEGER, n INTEGER, PRIMARY KEY (run, key)) WITHOUT ROWID",
    "CREATE TABLE event (log INTEGER, offset INTEGER, type, line, body,"
    " PRIMARY KEY (log, offset)) WITHOUT ROWID",
    "CREATE INDEX event_type ON event (log, type)",
    "CREATE TABLE document (run INTEGER PRIMARY KEY, revision INTEGER, data)",
    "CREATE INDEX document_revision ON document (revision)",
    "CREATE TABLE blob (name PRIMARY KEY, data)",
)

_SETTINGS: Final = (
    # Only a power cut can lose what was committed, and what is left is whole all the same.
    "PRAGMA synchronous = NORMAL",
    # For each thread, at most: the heads of a thousand runs, which lie on as many pages, fit.
    "PRAGMA cache_size = -32768",
    # A mapped page of a file that someone cut short kills the process, and counts as its memory.
    "PRAGMA mmap_size = 0",
    # 16 MiB: each page is copied back less often than by default; readers stay quick.
    "PRAGMA wal_autocheckpoint = 2048",
    "PRAGMA journal_size_limit = 33554432",
    # Damage is found where a page is loaded, not where it is used.
    "PRAGMA cell_size_check = ON",
    # Some builds overwrite whatever is deleted, at the price of writing it again.
    "PRAGMA secure_delete = FAST",
    "PRAGMA temp_store = MEMORY",
)


# -- errors ----------------------------------------------------------------------------------------

_SYSTEM: Final = {
    "disk i/o error": errno.EIO,
    "database or disk is full": errno.ENOSPC,
    "unable to open database file": errno.ENOENT,
    "attempt to write a readonly database": errno.EROFS,
    "access permission denied": errno.EACCES,
}
_BUSY: Final = ("database is locked", "database table is locked", "locking protocol")
_SHORT_READ: Final = 522
_MOVED: Final = 1032


def translated(error: sqlite3.Error) -> Exception:
    """What an error of SQLite means to the user of a store.

    The kinds are told apart by their messages, which are part of SQLite: Python has the codes
    from 3.11 on. Whatever is neither the disk's nor the user's doing is damage: our statements
    are right, so the file cannot be.
    """
    text = str(error)
    code = getattr(error, "sqlite_errorcode", None)
    if isinstance(error, sqlite3.ProgrammingError | sqlite3.InterfaceError):
        return error
    if code == _MOVED:
        return IndexReplacedError("the index was moved or deleted; it is to be opened anew")
    if any(text.startswith(known) for known in _BUSY):
        return IndexBusyError(f"the index is in use by another process: {text}")
    number = _SYSTEM.get(text.lower())
    if number is not None and code != _SHORT_READ:
        return OSError(number, f"the index cannot be used: {text}")
    return IndexDamagedError(f"the index is damaged: {text}")


def query(connection: sqlite3.Connection, sql: str, values: Sequence[Any] = ()) -> list[Any]:
    """All rows of one statement."""
    try:
        return connection.execute(sql, values).fetchall()
    except sqlite3.Error as error:
        raise translated(error) from error


def waiting(attempt: Callable[[], Any]) -> None:
    """Try until it is not busy, for BUSY_S at most."""
    end = time.monotonic() + BUSY_S
    while True:
        try:
            attempt()
            return
        except (IndexBusyError, BlockingIOError) as error:
            if time.monotonic() >= end:
                text = f"another process kept the index for {BUSY_S:g} s"
                raise IndexBusyError(text) from error
        time.sleep(_POLL_S)


# -- files -----------------------------------------------------------------------------------------


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keep others from making, opening or deleting the file meanwhile.

    Without it, one process could delete the write-ahead log by its name while another has just
    made a new one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(_beside(path, "-lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        waiting(lambda: fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB))
        yield
    finally:
        os.close(lock)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def delete(path: Path) -> None:
    """Delete an index, as far as it is there.

    Processes that have it open notice at their next block (IndexReplacedError). The lock file
    beside it stays. Any file at this path is deleted, whatever it is.
    """
    if not path.parent.exists():
        return
    with _locked(path):
        # The log goes last: without it, what is in the file may be half a transaction.
        for suffix in ("", "-wal", "-shm", "-journal"):
            _beside(path, suffix).unlink(missing_ok=True)


def identity(path: Path) -> tuple[int, int] | None:
    """Tells the file that lies there from any other."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return (status.st_dev, status.st_ino)


def connect(path: Path) -> tuple[sqlite3.Connection, tuple[int, int] | None]:
    """A connection to the index at this place, which is made where there is none.

    Raises:
        IndexDamagedError: It is no index, or one of another version.
        IndexBusyError: Others kept it for too long.
        OSError: The place cannot be written.
    """
    with _locked(path):
        try:
            connection = sqlite3.connect(
                path, timeout=_STEP_S, isolation_level=None, check_same_thread=False
            )
        except sqlite3.Error as error:
            raise translated(error) from error
        try:
            waiting(lambda: _prepare(connection))
        except BaseException:
            connection.close()
            raise
        return connection, identity(path)


def _prepare(connection: sqlite3.Connection) -> None:
    """Settings, and the schema where there is none yet."""
    ((application,),) = query(connection, "PRAGMA application_id")
    ((version,),) = query(connection, "PRAGMA user_version")
    ((tables,),) = query(connection, "SELECT count(*) FROM sqlite_master")
    new = not (application or version or tables)
    if not new and application != APPLICATION:
        raise IndexDamagedError("the index is damaged: another application's database lies there")
    if not new and version != VERSION:
        raise IndexDamagedError(f"the index is of version {version}; this release reads {VERSION}")
    if new:
        query(connection, "PRAGMA page_size = 8192")
    ((mode,),) = query(connection, "PRAGMA journal_mode = WAL")
    if mode != "wal":
        raise OSError(errno.ENOTSUP, "the index cannot be used: its disk has no shared memory")
    for setting in _SETTINGS:
        query(connection, setting)
    if new:
        _create(connection)
    _check_schema(connection)


def _create(connection: sqlite3.Connection) -> None:
    query(connection, "BEGIN IMMEDIATE")
    try:
        for statement in _SCHEMA:
            query(connection, statement)
        values = (_schema(connection),)
        query(connection, "INSERT INTO meta VALUES (1, 0, 0, 0, 0, 0, 0, ?)", values)
        query(connection, f"PRAGMA application_id = {APPLICATION}")
        query(connection, f"PRAGMA user_version = {VERSION}")
        query(connection, "COMMIT")
    finally:
        if connection.in_transaction:
            query(connection, "ROLLBACK")


def _schema(connection: sqlite3.Connection) -> int:
    rows = query(connection, "SELECT type, name, tbl_name, rootpage, sql FROM sqlite_master")
    return crc32(repr(rows).encode("utf-8", "surrogatepass"))


def _check_schema(connection: sqlite3.Connection) -> None:
    if query(connection, "SELECT schema FROM meta") != [(_schema(connection),)]:
        raise IndexDamagedError("the index is damaged: its tables are not those that were made")
