"""The SQLite engine under what real files and real processes meet."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Any

import pytest

from trackway.backend.index import _sqlite_file
from trackway.backend.index._testing_random import (
    a_chunk,
    exact,
    fill,
    given,
    in_thread,
    view_now,
    view_of_nothing,
)
from trackway.backend.index.contract import (
    VERSION,
    IndexBusyError,
    IndexDamagedError,
    IndexReplacedError,
    Reading,
    RunRef,
)
from trackway.backend.index.sqlite import SqliteStore, delete

# A child opens a store of its own; the parent has none open while it forks.
FORK = multiprocessing.get_context("fork")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the index of the test lies."""
    return tmp_path / "cache" / "index.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    """An empty index."""
    with closing(SqliteStore(path)) as store:
        yield store


# -- killed ----------------------------------------------------------------------------------------


def _write_for_ever(path: Path, told: Connection) -> None:
    store = SqliteStore(path)
    while True:
        with store.write() as writing:
            run, log, keys = given(writing, keys=("a", "b", "c"))
            done = int(writing.blobs(["done"]).get("done", b"0")) + 1
            writing.add_chunks([a_chunk(run, log, key, done) for key in keys])
            axis = writing.add_axis(log, b"s" * 3000, b"t")
            writing.put_document(run, str(axis).encode())
            writing.put_blobs({"done": str(done).encode()})
        told.send(done)


def _stop_inside(path: Path, told: Connection) -> None:
    store = SqliteStore(path)
    with store.write() as writing:
        run, log, keys = given(writing, "unfinished")
        # More than the cache holds: some of it is in the file already.
        writing.add_chunks(a_chunk(run, log, keys[0], i, data=bytes(9000)) for i in range(2000))
        told.send(0)
        time.sleep(60)


def _killed(path: Path, work: Callable[[Path, Connection], None], after_s: float) -> int:
    """What a process told last before it was killed."""
    heard, told = FORK.Pipe(duplex=False)
    process = FORK.Process(target=work, args=(path, told))
    process.start()
    told.close()
    last = int(heard.recv())
    time.sleep(after_s)
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    with suppress(EOFError):
        while True:
            last = int(heard.recv())
    heard.close()
    return last


def test_killed_between_and_inside_transactions(path: Path) -> None:
    """After SIGKILL at any moment all that was committed is there, and nothing by halves."""
    random = Random(3)
    for _ in range(25):
        told = _killed(path, _write_for_ever, random.uniform(0, 0.02))
        with closing(SqliteStore(path)) as store, store.read() as reading:
            done = int(reading.blobs(["done"])["done"])
            assert told <= done <= told + 1
            assert [len(reading.chunks([1], [key])) for key in (1, 2, 3)] == [done] * 3
            assert sorted(reading.axes(range(done + 9))) == list(range(1, done + 1))
            assert [document.data for document in reading.documents()] == [str(done).encode()]


def test_killed_inside_a_large_transaction(path: Path) -> None:
    """A large transaction that was killed leaves nothing, and its numbers are free."""
    with closing(SqliteStore(path)) as store:
        fill(store)
        before = view_now(store)
    for _ in range(3):
        _killed(path, _stop_inside, 0)
        with closing(SqliteStore(path)) as store:
            assert view_now(store) == before
    with closing(SqliteStore(path)) as store, store.write() as writing:
        assert writing.add_run(RunRef("p", "next")) == 2


# -- several processes -----------------------------------------------------------------------------


def _move_about(path: Path, go: Any) -> None:
    store, random = SqliteStore(path), Random(1)
    go.wait()
    for round in range(150):
        with store.write() as writing:
            a = int(writing.blobs(["a"])["a"]) - random.randrange(5)
            writing.put_blobs({"a": str(a).encode()})
            given(writing, f"run {round}")
            writing.put_blobs({"b": str(1000 - a).encode()})
    store.close()


def _look_on(path: Path, go: Any, told: Connection) -> None:
    store, seen, runs = SqliteStore(path), set(), 0
    go.wait()
    while runs < 150:
        with store.read() as reading:
            runs = len(reading.runs())
            found = reading.blobs(["a", "b"])
            assert int(found["a"]) + int(found["b"]) == 1000
            assert len(reading.logs()) == len(reading.runs()) == runs
            seen.add(runs)
    told.send(len(seen))
    store.close()


def test_two_readers_beside_a_writer(path: Path) -> None:
    """What readers of other processes see is always one committed state."""
    with closing(SqliteStore(path)) as store, store.write() as writing:
        writing.put_blobs({"a": b"500", "b": b"500"})
    go, (heard, told) = FORK.Event(), FORK.Pipe(duplex=False)
    readers = [FORK.Process(target=_look_on, args=(path, go, told)) for _ in range(2)]
    processes = [*readers, FORK.Process(target=_move_about, args=(path, go))]
    for process in processes:
        process.start()
    go.set()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert heard.recv() >= 1
    heard.close()
    told.close()


def _open_at_once(path: Path, barrier: Any, name: str) -> None:
    barrier.wait()
    with closing(SqliteStore(path)) as store, store.write() as writing:
        writing.add_run(RunRef("p", name))


def test_eight_processes_make_it_at_once(path: Path) -> None:
    """All of them get the same index, whoever made it."""
    for _ in range(5):
        barrier = FORK.Barrier(8)
        names = [str(i) for i in range(8)]
        made = [FORK.Process(target=_open_at_once, args=(path, barrier, name)) for name in names]
        for process in made:
            process.start()
        for process in made:
            process.join()
        assert [process.exitcode for process in made] == [0] * 8
        with closing(SqliteStore(path)) as store, store.read() as reading:
            assert sorted(run.id for run in reading.runs().values()) == names
        delete(path)


def test_writer_gives_up_on_a_busy_index(
    store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer that waited for BUSY_S says so, and can write when the other is done."""
    monkeypatch.setattr(_sqlite_file, "BUSY_S", 0.05)
    with closing(SqliteStore(path)) as other:
        with other.write() as writing:
            writing.add_run(RunRef("p", "first"))
            with pytest.raises(IndexBusyError, match=r"kept the index for 0\.05 s"), store.write():
                pass
        with store.write() as writing:
            assert writing.add_run(RunRef("p", "second")) == 2


# -- deleted ---------------------------------------------------------------------------------------


def test_deleted_under_open_readers(path: Path) -> None:
    """An open block goes on; the next one says that the index was replaced, and harms nothing."""
    old = SqliteStore(path)
    fill(old)
    with old.read() as reading:
        runs = reading.runs()
        delete(path)
        assert reading.runs() == runs
        assert len(reading.chunks([1], [1, 2])) == 6
    with pytest.raises(IndexReplacedError, match="deleted or replaced"), old.read():
        pass
    new = SqliteStore(path)
    assert view_now(new) == view_of_nothing()
    fill(new, "new")
    with pytest.raises(IndexReplacedError), old.write():
        pass
    # Whoever closes the old one last must not take the log of the new one away.
    old.close()
    with closing(SqliteStore(path)) as third:
        assert view_now(third) == view_now(new)
        fill(third, "third")
        assert view_now(third) == view_now(new)
    new.close()


def test_delete_leaves_only_the_lock(path: Path) -> None:
    """Nothing is left of a deleted index but its lock file; deleting nothing is no error."""
    delete(path)
    assert not path.parent.exists()
    with closing(SqliteStore(path)) as store:
        fill(store)
        delete(path)
        assert [file.name for file in path.parent.iterdir()] == ["index.db-lock"]
    delete(path)
    with closing(SqliteStore(path)) as store:
        assert view_now(store) == view_of_nothing()


# -- damaged ---------------------------------------------------------------------------------------


def _rows(reading: Reading) -> dict[str, list[Any]]:
    """All that an index holds, but for the bytes that its user has to check, and the names."""
    runs = range(50)
    return {
        "chunks": [(*c[:6], exact(c.head)) for c in reading.chunks(runs, range(500))],
        "log_chunks": [(*c[:6], exact(c.head)) for c in reading.log_chunks(1)],
        "logs": [line._replace(name="") for line in reading.logs()],
        "events": reading.events(runs),
        "states": sorted(reading.states(range(99)).items()),
        "documents": [(document.run, document.data) for document in reading.documents()],
        "keys": [(key.key, key.space) for key in reading.keys("metric")],
        "keys_of": sorted(reading.keys_of(runs, "metric")),
        "axes": sorted(reading.axes(range(99))),
        "folders": sorted(reading.folders()),
        "blobs": sorted(reading.blobs(["b"]).items()),
        "values": sorted(reading.chunk_data(range(9999))),
    }


def _damage(random: Random, data: bytes) -> bytes:
    damaged = bytearray(data)
    kind = random.randrange(4)
    if kind == 0:
        return bytes(damaged[: random.randrange(len(data))])
    for _ in range(random.randrange(1, 4)):
        at = random.randrange(len(data))
        size = 1 if kind == 1 else random.choice((4, 16, 512, 4096))
        size = min(size, len(data) - at)
        damaged[at : at + size] = random.randbytes(size) if kind < 3 else bytes(size)
    return bytes(damaged)


def test_random_damage(path: Path) -> None:
    """Of a damaged index come sound rows or IndexDamagedError; deleted, it can be made anew."""
    with closing(SqliteStore(path)) as store:
        for i in range(12):
            fill(store, f"run {i}")
        with store.write() as writing:
            run, log, keys = given(writing, "wide", keys=tuple(f"k{i}" for i in range(200)))
            writing.add_chunks(a_chunk(run, log, key, 0, data=bytes(700)) for key in keys)
            writing.put_blobs({"b": bytes(20_000)})
        with store.read() as reading:
            sound = {what: set(map(repr, rows)) for what, rows in _rows(reading).items()}
    data, random, noticed = path.read_bytes(), Random(8), 0
    for _ in range(150):
        path.write_bytes(_damage(random, data))
        try:
            with closing(SqliteStore(path)) as store:
                with store.read() as reading:
                    found = _rows(reading)
                fill(store, "again")
        except IndexDamagedError:
            noticed += 1
        else:
            for what in ("chunks", "log_chunks", "logs", "events", "states", "documents", "blobs"):
                assert set(map(repr, found[what])) <= sound[what]
        delete(path)
    assert noticed > 50
    with closing(SqliteStore(path)) as store:
        assert view_now(store) == view_of_nothing()


def test_rows_that_went_missing_are_noticed(path: Path) -> None:
    """An index from which chunks vanished does not answer as if they had never been."""
    with closing(SqliteStore(path)) as store:
        fill(store)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM chunk WHERE chunk = 2")
    with (
        closing(SqliteStore(path)) as store,
        store.read() as reading,
        pytest.raises(IndexDamagedError, match="chunks went missing"),
    ):
        reading.chunks([1], [1, 2])


@pytest.mark.parametrize(
    "content", [b"x" * 600, b"text, no database\n" * 500, bytes(100), bytes(9000)]
)
def test_not_a_database(path: Path, content: bytes) -> None:
    """What is no database is damage, and may be deleted."""
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(IndexDamagedError, match="damaged"):
        SqliteStore(path)
    delete(path)
    SqliteStore(path).close()


def test_another_version(path: Path) -> None:
    """An index of another version is refused by its number."""
    SqliteStore(path).close()
    for version in (VERSION + 1, 0):
        with closing(sqlite3.connect(path)) as connection:
            connection.execute(f"PRAGMA user_version = {version}")
        with pytest.raises(IndexDamagedError, match=f"of version {version}; .* reads {VERSION}"):
            SqliteStore(path)


def test_another_application(path: Path) -> None:
    """Another application's database is no index, and is not touched."""
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE run (run)")
    before = path.read_bytes()
    with pytest.raises(IndexDamagedError, match="another application"):
        SqliteStore(path)
    assert path.read_bytes() == before


def test_empty_file_is_a_new_index(path: Path) -> None:
    """An empty file, as a killed process may leave it, becomes an index."""
    path.parent.mkdir()
    path.touch()
    with closing(SqliteStore(path)) as store:
        assert view_now(store) == view_of_nothing()


# -- the disk --------------------------------------------------------------------------------------


def test_place_that_cannot_be_written(tmp_path: Path) -> None:
    """A place that is none raises OSError, which is not damage."""
    (tmp_path / "file").touch()
    for place in (tmp_path / "file" / "index.db", tmp_path / "file" / "deeper" / "index.db"):
        with pytest.raises(OSError, match="file"):
            SqliteStore(place)
    with pytest.raises(OSError, match="unable to open database file"):
        SqliteStore(tmp_path)


def test_full_disk_changes_nothing(store: SqliteStore) -> None:
    """A transaction for which there is no room raises OSError and does nothing."""
    fill(store)
    before = view_now(store)
    connection = store._session().connection
    ((pages,),) = connection.execute("PRAGMA page_count")
    connection.execute(f"PRAGMA max_page_count = {pages + 3}")
    with pytest.raises(OSError, match="database or disk is full"), store.write() as writing:
        writing.put_blobs({"large": bytes(100_000)})
    assert view_now(store) == before
    connection.execute("PRAGMA max_page_count = 1000000")
    fill(store, "later")
    assert view_now(store) != before


# -- blocks and threads ----------------------------------------------------------------------------


def test_a_thread_takes_its_connection_along(store: SqliteStore) -> None:
    """A connection is closed when its thread ends."""
    for _ in range(5):
        in_thread(lambda: view_now(store))
    assert len(store._sessions) == 1


def test_nothing_works_after_its_end(path: Path) -> None:
    """A reading cannot be used after its block, nor a store after it was closed."""
    store = SqliteStore(path)
    with store.read() as reading:
        pass
    with pytest.raises(RuntimeError, match="has ended"):
        reading.runs()
    store.close()
    with pytest.raises(ValueError, match="was closed"), store.read():
        pass
