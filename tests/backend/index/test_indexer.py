"""Whatever kills, disturbs or doubles an indexer: the index goes on to say what the logs say."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trackway.backend.file.compact import compact
from trackway.backend.file.edits import Editor
from trackway.backend.file.format import METRIC
from trackway.backend.index import _seal, indexer, rows
from trackway.backend.index import index as index_module
from trackway.backend.index._documents import value_at
from trackway.backend.index._points import decoded
from trackway.backend.index.codec import decode_cells, decode_steps, decode_times, head_of
from trackway.backend.index.columns import Column
from trackway.backend.index.contract import IndexStore, Reading, RunRef, Writing
from trackway.backend.index.document import row_of
from trackway.backend.index.index import Index
from trackway.backend.index.memory import MemoryStore
from trackway.backend.index.place import index_place
from trackway.backend.index.series import SeriesQuery
from trackway.backend.index.sqlite import SqliteStore
from trackway.backend.points import Metric, resolve
from trackway.backend.record import tell_record
from trackway.errors import NotFoundError

from .logs import STARTED, Log, told_by_logs
from .test_index import agrees

SEEDS = 8

REF = RunRef("p", "run")
OTHER = RunRef("p", "other")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An empty root."""
    return tmp_path / "runs"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Where indexes go."""
    return tmp_path / "cache"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds so low that a few hundred rows meet every one of them; all is sealed at once."""
    monkeypatch.setattr(indexer, "SEAL_ROWS", 20)
    monkeypatch.setattr(indexer, "QUIET_S", -1.0)
    monkeypatch.setattr(indexer, "BATCH_BYTES", 8192)
    monkeypatch.setattr(_seal, "CHUNK_POINTS", 128)
    monkeypatch.setattr("trackway.backend.file.reader.STRETCH", 3000)


def log_of(root: Path, run: str = "run", name: str = "w1", **fields: Any) -> Log:
    """A log that has begun."""
    return Log(root / "p" / run / f"{name}.log", **fields).begin()


def rising(log: Log, start: int, stop: int, *keys: str) -> None:
    """Rows of these metrics (``x`` by default) whose value is their step, in one append."""
    log.append(
        b"".join(
            log.row_bytes(step, {key: float(step) for key in keys or ("x",)}, time=STARTED + step)
            for step in range(start, stop)
        )
    )


def refs_on_disk(root: Path) -> list[RunRef]:
    """Every run that has a log."""
    found = {RunRef(path.parent.parent.name, path.parent.name) for path in root.glob("*/*/*.log")}
    return sorted(found)


def agrees_in_all(index: Index, root: Path) -> None:
    """The index says of every run, and of the run table, what the logs say."""
    refs = refs_on_disk(root)
    assert index.refs() == refs
    for ref in refs:
        agrees(index, root, ref)
    documents = {}
    found = index.rows()
    for row in found.documents(range(len(found))):
        documents[RunRef(row["project"], row["id"])] = row
    assert sorted(documents) == refs
    for ref in refs:
        wanted = row_by_logs(root, ref)
        assert_same_row(documents[ref], wanted)
        place = next(
            n
            for n, (project, id) in enumerate(
                zip(
                    found.column(("project",)).values(),
                    found.column(("id",)).values(),
                    strict=True,
                )
            )
            if (project, id) == ref
        )
        assert found.column(("points",)).values()[place] == wanted["points"]


def row_by_logs(root: Path, ref: RunRef) -> dict[str, Any]:
    """A run's row, straight from its logs."""
    logs = told_by_logs(root / ref.project / ref.id)
    metrics = {}
    for key in logs.keys():  # noqa: SIM118 - no mapping
        line = resolve(key, logs.columns(key), attempts="live", repeats="last", order="step")
        if len(line):
            metrics[key] = Metric.of(line)
    damaged = sum(damage.size for writer in logs.writers for damage in writer.damage)
    return row_of(ref, tell_record(logs), metrics) | {"damaged_bytes": damaged}


def assert_same_row(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """All fields are the same but those that change while one looks."""
    for name in wanted.keys() - {"duration", "open"}:
        assert repr(plain(found[name])) == repr(plain(wanted[name])), name


def plain(value: Any) -> Any:
    """The value with its maps sorted; their order says nothing."""
    if isinstance(value, Mapping):
        return {name: plain(value[name]) for name in sorted(value)}
    return [plain(inner) for inner in value] if isinstance(value, list) else value


# -- killed anywhere -------------------------------------------------------------------------------


WRITES = sorted(
    name for name in Writing.__abstractmethods__ if name not in Reading.__abstractmethods__
)


class TroubledStore(IndexStore):
    """A store that calls ``trouble`` before each write, and around each commit."""

    def __init__(self, inner: IndexStore, trouble: Callable[[str], None]) -> None:
        self._inner, self._trouble = inner, trouble

    @contextmanager
    def read(self) -> Iterator[Reading]:
        """As the inner one's."""
        self._trouble("read")
        with self._inner.read() as reading:
            yield reading

    @contextmanager
    def write(self) -> Iterator[Writing]:
        """As the inner one's, with trouble."""
        self._trouble("begin")
        with self._inner.write() as writing:
            for name in WRITES:
                setattr(writing, name, self._troubled(name, getattr(writing, name)))
            yield writing
            self._trouble("before commit")
        self._trouble("after commit")

    def _troubled(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **fields: Any) -> Any:
            self._trouble(name)
            return method(*args, **fields)

        return call

    def close(self) -> None:
        """As the inner one's."""
        self._inner.close()


def troubled(root: Path, cache: Path, trouble: Callable[[str], None]) -> Index:
    """An index in a file whose store has trouble."""
    place = index_place(root, cache)
    return Index(root, lambda: TroubledStore(SqliteStore(place), trouble))


class Countdown:
    """Counts what changes the store, and does something at the ``at``-th."""

    def __init__(self, at: int, act: Callable[[], None]) -> None:
        self.count, self._at, self._act = 0, at, act
        self.boundaries: list[int] = []

    def __call__(self, what: str) -> None:
        """One more."""
        if what != "read":
            self.count += 1
            if what in ("begin", "before commit", "after commit"):
                self.boundaries.append(self.count)
            if self.count == self._at:
                self._act()


def kill_self() -> None:
    """Die at once."""
    os.kill(os.getpid(), signal.SIGKILL)


def in_child(work: Callable[[], None]) -> int:
    """Run something in a forked child; its exit status."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def fill_before(root: Path) -> None:
    """Runs that are in the index when the killing begins."""
    first = log_of(root, "resumed")
    first.event("config", {"set": [[["lr"], 0.1]]})
    rising(first, 0, 200, "x", "y")
    first.value(7, {"big": 1 << 70, "word": "a"})
    rising(log_of(root, "long"), 0, 400, "x")
    rising(log_of(root, "removed"), 0, 100)
    rising(log_of(root, "shrinks"), 0, 50)
    rising(log_of(root, "shrinks", "b"), 0, 50, "y")


def fill_after(root: Path) -> None:
    """What an indexer that is to be killed has to do."""
    second = log_of(root, "resumed", "w2", attempt=2, created=STARTED + 100)
    rising(second, 150, 300, "x", "z")
    second.value(8, {"word": "b"})
    second.event("exit", {"code": 0})
    with (root / "p" / "long" / "w1.log").open("ab") as file:
        other = Log(Path("unused"))
        other.keysets[("x",), "f", METRIC] = 0
        for step in range(400, 800):
            file.write(other.row_bytes(step, {"x": float(step)}))
    Editor(root, "p", "long").delete_points("x", start=100, stop=500)
    Editor(root, "p", "resumed").delete_points("y")
    shutil.rmtree(root / "p" / "removed")
    (root / "p" / "shrinks" / "b.log").unlink()
    rising(log_of(root, "new"), 0, 150)


@pytest.mark.usefixtures("small")
def test_a_process_killed_anywhere_loses_and_doubles_nothing(root: Path, tmp_path: Path) -> None:
    """At each of its writes, before and after each commit: the next one goes on rightly."""
    fill_before(root)
    before = tmp_path / "before"
    Index.open(root, before).refresh()
    fill_after(root)
    counted = Countdown(0, kill_self)
    shutil.copytree(before, tmp_path / "counted")
    index = troubled(root, tmp_path / "counted", counted)
    index.refresh()
    agrees_in_all(index, root)
    index.close()
    assert counted.count > 100
    assert len(counted.boundaries) >= 6
    for at in sorted({*counted.boundaries, *range(1, counted.count + 1, counted.count // 20)}):
        cache = tmp_path / f"cache{at}"
        shutil.copytree(before, cache)

        def work(at: int = at, cache: Path = cache) -> None:
            troubled(root, cache, Countdown(at, kill_self)).refresh()

        assert in_child(work) == -signal.SIGKILL
        index = Index.open(root, cache)
        agrees_in_all(index, root)
        assert not index.refresh()
        index.close()
        shutil.rmtree(cache)


@pytest.mark.usefixtures("small")
def test_processes_killed_while_a_run_grows_do_no_harm(root: Path, cache: Path) -> None:
    """Many in a row, at places that nobody chose, each over what the one before left."""
    place = np.random.default_rng(5)
    log = log_of(root)
    kills = 0
    for round in range(25):
        rising(log, round * 60, round * 60 + 60)
        at = int(place.integers(1, 30))

        def work(at: int = at) -> None:
            troubled(root, cache, Countdown(at, kill_self)).refresh()

        kills += in_child(work) == -signal.SIGKILL
        if round == 12:
            Editor(root, "p", "run").delete_points("x", start=100, stop=200)
    index = Index.open(root, cache)
    agrees_in_all(index, root)
    assert index.arrivals(REF, "x") == 25 * 60 - 101
    assert kills >= 10
    index.close()


def test_an_indexer_killed_at_any_time_beside_a_writer_does_no_harm(
    root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL comes from outside, again and again, while a writer appends."""
    monkeypatch.setattr(indexer, "SEAL_ROWS", 20)
    log = log_of(root)
    rising(log, 0, 10)
    seed = np.random.default_rng(7)
    written = 10
    for _ in range(12):
        pid = os.fork()
        if pid == 0:
            try:
                index = Index.open(root, cache)
                while True:
                    index.refresh()
            finally:
                os._exit(1)
        end = time.monotonic() + seed.uniform(0.01, 0.12)
        while time.monotonic() < end:
            rising(log, written, written + 7)
            written += 7
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    index = Index.open(root, cache)
    agrees_in_all(index, root)
    assert index.arrivals(REF, "x") == written
    index.close()


# -- several at once -------------------------------------------------------------------------------


def ask_until_done(root: Path, cache: Path, done: Path) -> None:
    """Ask in a loop; what is told only grows, and is always some state the log was in."""
    index = Index.open(root, cache)
    highest = 0
    while True:
        is_done = done.exists()
        steps = index.columns(REF, ["x"])["x"].steps
        assert steps.tolist() == list(range(len(steps)))
        assert len(steps) >= highest
        highest = len(steps)
        metric = index.metrics(REF).get("x")
        if metric is not None:
            assert metric.last_step is not None
            assert metric.count == metric.last_step + 1 == metric.last + 1
            assert metric.count >= highest
            highest = metric.count
        if is_done:
            agrees_in_all(index, root)
            break
    index.close()


def test_two_indexers_and_a_writer_at_once(
    root: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each sees whole states that only grow, and all that there is in the end."""
    monkeypatch.setattr(indexer, "SEAL_ROWS", 50)
    done = tmp_path / "done"
    log = log_of(root)
    children = []
    for _ in range(2):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                ask_until_done(root, cache, done)
                code = 0
            finally:
                os._exit(code)
        children.append(pid)
    for start in range(0, 6000, 10):
        rising(log, start, start + 10)
        if start % 100 == 0:
            time.sleep(0.01)
    done.touch()
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0, 0]


@pytest.mark.usefixtures("small")
def test_a_log_taken_in_anew_by_another_process_is_never_half_there(
    root: Path, cache: Path
) -> None:
    """Between looking at the logs and reading the index, somebody else began to index again."""
    log = log_of(root)
    rising(log, 0, 2000)
    mine = Index.open(root, cache)
    assert mine.arrivals(REF, "x") == 2000
    other = Index.open(root, cache)
    other.refresh()
    refresh = mine._refresh
    times: list[int] = []

    def refresh_late(*args: Any) -> Any:
        changes = refresh(*args)
        if not times:
            times.append(1)
            with other._store.write() as writing:  # as an indexer does that is killed right behind
                (line,) = writing.logs()
                writing.clear_log(line.log)
                writing.put_logs([line._replace(inode=0, size=0, mtime_ns=0, offset=0)])
        return changes

    mine._refresh = refresh_late  # type: ignore[method-assign, assignment]
    assert mine.arrivals(REF, "x") == 2000
    agrees_in_all(mine, root)
    mine.close()
    other.close()


class Doer:
    """Does to a root whatever may happen to one."""

    def __init__(self, root: Path, seed: int) -> None:
        self._root, self._chance = root, random.Random(seed)
        self._logs: dict[Path, Log] = {}
        self._at = self._head = 0

    def _log(self, *, begin: bool = False) -> Log:
        folder = self._root / "p" / self._chance.choice(["a", "b"])
        known = [log for path, log in self._logs.items() if path.exists()]
        if begin or not known:
            self._at += 1
            attempt = self._chance.randint(1, 3)
            path = folder / f"{self._chance.choice('mz')}{self._at}.log"
            told: dict[str, Any] = {"attempt": attempt, "created": STARTED + self._at}
            known = [Log(path, generation=f"{self._at:032}", **told).begin()]
            self._head = max(self._head, known[0].path.stat().st_size)
            self._logs[path] = known[0]
        return self._chance.choice(known)

    def do(self) -> None:
        """One thing."""
        log = self._log(begin=self._chance.random() < 0.1)
        sizes = [3, 15, 30, 120]
        start, count = self._chance.randint(0, 300), self._chance.choice(sizes)
        match self._chance.randint(0, 11):
            case 0:
                self._delete(log, start, start + count)
            case 1:
                log.path.unlink()
            case 2:
                size = log.path.stat().st_size
                os.truncate(log.path, self._chance.randint(min(size, self._head), size))
                # Nothing is known to be declared any more; numbers are not used again.
                log.keysets = {((f"{n}",), "gone", "gone"): n for n in range(len(log.keysets))}
            case 3:
                log.path.unlink()
                log.keysets.clear()
                self._at += 1
                log.generation = f"{self._at:032}"
                log.begin()
                rising(log, start, start + count, "x", "z")
            case 4:
                copy = shutil.copy(log.path, log.path.with_suffix(".part"))
                Path(copy).rename(log.path)
            case 5:
                log.value(start, {"x": "text", "big": 1 << 70}, STARTED + start)
            case 6:
                self._forget(log.path.parent)
            case 7:
                os.utime(log.path, (STARTED, STARTED))
            case 8:
                compact(self._root)
            case _:
                rising(log, start, start + count, *self._chance.choice(["x", "xy", "z"]))

    def _delete(self, log: Log, start: int, stop: int) -> None:
        with contextlib.suppress(NotFoundError):
            editor = Editor(self._root, "p", log.path.parent.name)
            editor.delete_points(self._chance.choice(["x", "y", "*"]), start=start, stop=stop)

    def _forget(self, folder: Path) -> None:
        """Remove an editor's log, or now and then all of the run."""
        editors = [path for path in folder.iterdir() if path not in self._logs]
        if editors and self._chance.random() < 0.8:
            editors[0].unlink()
        elif self._chance.random() < 0.5:
            shutil.rmtree(folder)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("seed", range(SEEDS))
def test_two_readers_agree_whatever_happens_between(
    root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """They index in turns, see what the other did, and never anything but what the logs say."""
    chance = random.Random(seed)
    doer = Doer(root, seed)
    monkeypatch.setattr(indexer, "MOST_TAILS", chance.choice([1, 256]))
    indexes = [Index.open(root, cache) for _ in range(2)]
    for _ in range(40):
        for _ in range(chance.randint(1, 3)):
            doer.do()
        monkeypatch.setattr(indexer, "QUIET_S", chance.choice([-1.0, 10.0, 1e9]))
        for index in indexes:
            if chance.random() < 0.6:
                agrees_in_all(index, root)
    for index in indexes:
        agrees_in_all(index, root)
        index.close()


def test_a_forked_child_asks_by_itself(root: Path, cache: Path) -> None:
    """It indexes what its parent did not see, the parent what it did not; both go on."""
    log = log_of(root)
    rising(log, 0, 1500)
    index = Index.open(root, cache)
    assert index.arrivals(REF, "x") == 1500

    def work() -> None:
        rising(log, 1500, 3000)
        agrees_in_all(index, root)
        assert index.arrivals(REF, "x") == 3000
        index.close()

    assert in_child(work) == 0
    agrees_in_all(index, root)
    rising(log, 3000, 4500)
    agrees_in_all(index, root)
    index.close()


def test_a_child_forked_while_another_thread_asks_does_not_hang(root: Path, cache: Path) -> None:
    """The lock that the thread held at the fork is nobody's in the child."""
    rising(log_of(root), 0, 50)
    index = Index.open(root, cache)
    index.refresh()
    held, let_go = threading.Event(), threading.Event()

    def hold() -> None:
        with index._view([REF]):
            held.set()
            let_go.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()

    def work() -> None:
        signal.alarm(20)
        assert index.arrivals(REF, "x") == 50

    assert in_child(work) == 0
    let_go.set()
    thread.join()
    agrees_in_all(index, root)
    index.close()


def test_many_threads_ask_one_index(
    root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a writer logs and new runs come."""
    monkeypatch.setattr(indexer, "SEAL_ROWS", 50)
    monkeypatch.setattr(index_module, "LOOK_SHARE", 0)
    log = log_of(root)
    index = Index.open(root, cache)
    done = threading.Event()
    failures: list[BaseException] = []

    def ask(number: int) -> None:
        highest = 0
        try:
            while not done.is_set():
                steps = index.columns(REF, ["x"])["x"].steps
                assert steps.tolist() == list(range(len(steps)))
                assert len(steps) >= highest
                highest = len(steps)
                assert REF in index.refs()
                if number % 2:
                    assert "run" in index.rows().column(("id",)).values()
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for start in range(0, 3000, 10):
        rising(log, start, start + 10)
        if start % 300 == 0:
            rising(log_of(root, f"r{start}"), 0, 5)
            time.sleep(0.02)
    done.set()
    for thread in threads:
        thread.join()
    assert not failures
    agrees_in_all(index, root)
    index.close()


# -- merged in -------------------------------------------------------------------------------------


def merged(source: Path, target: Path, *, in_place: bool) -> None:
    """Copy a run's folder as ``rsync -a`` does: the folder first, its time set last."""
    target.mkdir(parents=True, exist_ok=True)
    times = source.stat()
    os.utime(target, ns=(times.st_atime_ns, times.st_mtime_ns))
    for path in sorted(source.iterdir()):
        final = target / path.name
        data, old = path.read_bytes(), final.read_bytes() if final.exists() else b""
        into = final if in_place else target / f".{path.name}.Xy12ab"
        with into.open("ab" if in_place else "wb") as file:
            for at in range(len(old) if in_place else 0, len(data), 4000):
                file.write(data[at : at + 4000])
                file.flush()
                time.sleep(0.001)
        status = path.stat()
        os.utime(into, ns=(status.st_atime_ns, status.st_mtime_ns))
        if not in_place:
            into.rename(final)
        os.utime(target, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.mark.parametrize("in_place", [False, True])
def test_a_run_that_is_being_merged_in_is_never_told_wrongly(
    root: Path, cache: Path, tmp_path: Path, in_place: bool
) -> None:
    """What is there is told, and in the end everything; also what comes with old times."""
    logs = [log_of(tmp_path / "far", "run", f"w{n}", created=STARTED + n) for n in range(3)]
    source = tmp_path / "far" / "p" / "run"
    index = Index.open(root, cache)
    for round in range(3):
        for number, log in enumerate(logs):
            rising(log, round * 400, round * 400 + 400, f"x{number}")
            os.utime(log.path, (STARTED, STARTED + round))
        os.utime(source, (STARTED, STARTED))
        thread = threading.Thread(
            target=merged, args=(source, root / "p" / "run"), kwargs={"in_place": in_place}
        )
        thread.start()
        seen = dict.fromkeys(range(3), round * 400)
        while thread.is_alive():
            for number, before in seen.items():
                (key,) = (f"x{number}",)
                steps = index.columns(REF, [key])[key].steps
                assert steps.tolist() == list(range(len(steps)))
                assert len(steps) >= before
                seen[number] = len(steps)
        thread.join()
        agrees_in_all(index, root)
        assert index.arrivals(REF, "x2") == round * 400 + 400
    index.close()


# -- a place that fails ----------------------------------------------------------------------------


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("what", ["write", "read", "any"])
def test_where_the_cache_fails_the_answers_stay(root: Path, cache: Path, what: str) -> None:
    """A disk that is full, read-only or broken from some moment on."""
    fill_before(root)
    index = Index.open(root, cache)
    index.refresh()
    index.close()
    fill_after(root)
    for start in (1, 2, 5, 13, 40, 90, 150):
        calls: list[str] = []

        def trouble(told: str, start: int = start, calls: list[str] = calls) -> None:
            if what == "any" or (told == "read") == (what == "read"):
                calls.append(told)
                if len(calls) >= start:
                    raise OSError(errno.ENOSPC, "no space left on device")

        copy = cache.with_name(f"copy{start}")
        shutil.copytree(cache, copy)
        index = troubled(root, copy, trouble)
        agrees_in_all(index, root)
        index.close()


def test_a_reader_goes_on_when_its_cache_becomes_useless(root: Path, cache: Path) -> None:
    """Its folder is replaced by a file while it is open."""
    log = log_of(root)
    rising(log, 0, 1500)
    index = Index.open(root, cache)
    assert index.arrivals(REF, "x") == 1500
    shutil.rmtree(cache)
    cache.write_text("")
    rising(log, 1500, 3000)
    agrees_in_all(index, root)
    assert not index.kept
    index.close()


def test_an_interrupted_refresh_is_made_good(
    root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C anywhere in it leaves nothing half in memory."""
    monkeypatch.setattr(indexer, "QUIET_S", -1.0)
    fill_before(root)
    index = Index.open(root, cache)

    class Interrupt(Exception):
        pass

    def interrupt() -> None:
        raise Interrupt

    for at in (*range(1, 12), *range(12, 60, 9)):
        index = troubled(root, cache.with_name(f"c{at}"), Countdown(at, interrupt))
        with pytest.raises(Interrupt):
            index.refresh()
        other = Index.open(root, cache.with_name(f"c{at}"))
        if at % 2:  # somebody else takes the numbers that were not given
            rising(log_of(root, "aaa", f"b{at}"), 0, 30)
            other.refresh()
        agrees_in_all(index, root)
        agrees_in_all(other, root)
        index.close()
        other.close()


# -- logs that cannot be read ----------------------------------------------------------------------


def test_a_log_that_cannot_be_read_spares_the_others(
    root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asking for its run says why; the other runs are there; it comes back by itself."""
    rising(log_of(root), 0, 1200)
    rising(log_of(root, "other"), 0, 1200)
    opened = Path.open

    def refuse(self: Path, *args: Any, **fields: Any) -> Any:
        if self.name == "w1.log" and self.parent.name == "run":
            raise PermissionError(errno.EACCES, "not for you", str(self))
        return opened(self, *args, **fields)

    index = Index.open(root, cache)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refuse)
        for _ in range(2):
            agrees(index, root, OTHER)
            for ask in (index.columns, index.metrics, index.keys, index.record):
                with pytest.raises(PermissionError):
                    ask(REF)
        assert REF in index.refs()
        assert len(index.rows()) == 1  # nothing of it is known
    agrees_in_all(index, root)
    index.close()


def test_a_folder_that_cannot_be_read_spares_the_others(
    root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither does it forget what it knew: the folder may come back."""
    rising(log_of(root), 0, 1200)
    rising(log_of(root, "other"), 0, 1200)
    index = Index.open(root, cache)
    index.refresh()
    stat = os.stat

    def refuse(path: Any, *args: Any, **fields: Any) -> Any:
        if str(path) == str(root / "p" / "run"):
            raise OSError(errno.EIO, "the disk is tired")
        return stat(path, *args, **fields)

    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", refuse)
        assert index.refs() == [OTHER, REF]
        assert index.arrivals(OTHER, "x") == 1200
        with pytest.raises(OSError, match="tired"):
            index.columns(REF)
        assert index.number(REF) is not None
    agrees_in_all(index, root)
    index.close()


def test_what_is_no_log_is_passed_over(root: Path, cache: Path) -> None:
    """Folders, links to nowhere and links in a circle, of any name."""
    rising(log_of(root), 0, 30)
    (root / "p" / "run" / "a.log").mkdir()
    (root / "p" / "run" / "b.log").symlink_to("nothing.log")
    (root / "p" / "circle").symlink_to("circle")
    (root / "q").symlink_to("q")
    (root / "p" / "empty").mkdir()
    index = Index.open(root, cache)
    agrees_in_all(index, root)
    rising(Log(root / "p" / "run" / "nothing.log").begin(), 0, 20, "y")
    agrees_in_all(index, root)
    assert index.arrivals(REF, "y") == 40  # by both its names
    (root / "p" / "run" / "c.log").symlink_to("c.log")
    assert index.arrivals(REF, "y") == 40
    assert Index(root, MemoryStore).arrivals(REF, "y") == 40
    index.close()


# -- deletions -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("name", ["aaa", "zzz"])
def test_a_deletion_holds_for_a_log_that_takes_many_transactions(
    root: Path, cache: Path, name: str
) -> None:
    """Whichever of the two logs is read first, and whatever was in the index before."""
    log = log_of(root, name="mmm")
    rising(log, 0, 1000)
    if name == "zzz":
        Index.open(root, cache).refresh()
    Editor(root, "p", "run").delete_points("x", start=10, stop=600)
    (editor,) = (path for path in (root / "p" / "run").iterdir() if path != log.path)
    editor.rename(editor.with_name(f"{name}.log"))
    rising(log, 1000, 2000)
    index = Index.open(root, cache)
    agrees_in_all(index, root)
    assert index.arrivals(REF, "x") == 2000 - 591
    index.close()


# -- what is sealed, and how -----------------------------------------------------------------------


def offset_of(index: Index, ref: RunRef = REF) -> int:
    """How much of the run's only log is in the index."""
    with index._store.read() as reading:
        (line,) = reading.logs([index._indexer.numbers[ref]])
    return line.offset


def test_a_live_log_is_sealed_when_it_pays(root: Path, cache: Path) -> None:
    """Not before 1000 rows while it grows; to its end once it is quiet."""
    log = log_of(root)
    index = Index.open(root, cache)
    rising(log, 0, 999)
    agrees(index, root)
    assert offset_of(index) == 0
    rising(log, 999, 1000)
    agrees(index, root)
    assert offset_of(index) == (size := log.path.stat().st_size)
    rising(log, 1000, 1010)
    agrees(index, root)
    assert offset_of(index) == size
    os.utime(log.path, (STARTED, STARTED))
    agrees(index, root)
    assert offset_of(index) == log.path.stat().st_size
    assert not index._indexer.tails
    index.close()


def test_chunks_stay_few_whole_and_exact(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    """After any growth: as many as a binary counter has digits, each told by its head."""
    monkeypatch.setattr(_seal, "CHUNK_POINTS", 512)
    monkeypatch.setattr(_seal, "PYRAMID_POINTS", 1024)
    monkeypatch.setattr(indexer, "SEAL_ROWS", 8)
    monkeypatch.setattr(indexer, "QUIET_S", 1e9)
    place = np.random.default_rng(11)
    log, index = log_of(root), Index(root, MemoryStore)
    step = 0
    for _ in range(150):
        keys = ["a", "b", "c"][: int(place.integers(1, 4))]
        count = int(place.integers(1, 60))
        rising(log, step, step + count, *keys)
        step += count
        index.refresh()
    monkeypatch.setattr(indexer, "QUIET_S", -1.0)
    agrees_in_all(index, root)
    run = index.number(REF)
    assert run is not None
    with index._store.read() as reading:
        names = {key.key: key.name for key in reading.keys(METRIC)}
        chunks = reading.chunks([run], names, cells=True)
        for key in names:
            mine = [chunk for chunk in chunks if chunk.key == key]
            points = sum(chunk.head.n for chunk in mine)
            assert len(mine) <= math.log2(points / 8) + points / 512 * 2 + 3
            assert all(chunk.head.n <= 512 for chunk in mine)
            assert [chunk.seq for chunk in mine] == sorted({chunk.seq for chunk in mine})
        axes = reading.axes({chunk.axis for chunk in chunks})
        assert_no_orphans(index, chunks)
        for chunk in chunks:
            axis = axes[chunk.axis]
            assert chunk.data is not None
            steps, values = decode_steps(axis.steps), decoded(chunk.data, chunk.head.types)
            times = decode_times(axis.times)
            assert repr(head_of(steps, times, values, chunk.head.types)) == repr(chunk.head)
            if chunk.cells is not None:
                assert decode_cells(chunk.cells).count.sum() == chunk.head.n
        long = {c.key for c in chunks if c.cells is not None}
        total = {key: sum(c.head.n for c in chunks if c.key == key) for key in names}
        assert long == {key for key in names if total[key] > 1024}


def assert_no_orphans(index: Index, chunks: Any) -> None:
    """Each axis of the store is some chunk's."""
    store = index._store
    assert isinstance(store, MemoryStore)
    assert set(store._state.axes) == {chunk.axis for chunk in chunks}


def test_buckets_are_the_same_with_and_without_a_pyramid(
    monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    """Also with points behind the index, and within a part of the steps."""
    log = log_of(root)
    place = np.random.default_rng(3)
    for start in range(0, 90_000, 9000):
        values = place.normal(size=9000)
        log.append(
            b"".join(
                log.row_bytes(start + n, {"x": float(v)}) for n, v in enumerate(values.tolist())
            )
        )
    monkeypatch.setattr(_seal, "CHUNK_POINTS", 1 << 14)
    with_cells = Index(root, MemoryStore)
    with_cells.refresh()
    monkeypatch.setattr(_seal, "PYRAMID_POINTS", 1 << 30)
    without = Index(root, MemoryStore)
    without.refresh()
    log.append(b"".join(log.row_bytes(90_000 + n, {"x": 5.0}) for n in range(500)))
    asked: list[dict[str, Any]] = [{}, {"lo": 1000, "hi": 71_234}, {"lo": 89_990}, {"buckets": 7}]
    for fields in asked:
        answers = []
        for index in (with_cells, without):
            run = index.number(REF)
            assert run is not None
            answers.append(index.series(SeriesQuery((run,), "x", **fields)))
        assert_same_answer(*answers)
    with with_cells._view([REF]) as view:
        assert view.cells([1], "x", 0, 1 << 14)[1].cells.count.sum() > 10_000


def assert_same_answer(one: Any, other: Any) -> None:
    """All fields are the same, sums up to their order."""
    if isinstance(one, np.ndarray):
        if one.dtype.kind == "f":
            np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)
        else:
            np.testing.assert_array_equal(one, other)
    elif hasattr(one, "__dataclass_fields__"):
        for name in one.__dataclass_fields__:
            assert_same_answer(getattr(one, name), getattr(other, name))
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other)
        for mine, theirs in zip(one, other, strict=True):
            assert_same_answer(mine, theirs)
    else:
        assert one == other or one != one


# -- the run table ---------------------------------------------------------------------------------


CONFIGS: list[dict[str, Any]] = [
    {"lr": 0.1, "model": {"size": 3, "name": "a"}},
    {"lr": None, "model": {"size": None}},
    {"lr": "text", "model.size": 7, "é": [1, {"x": 2}]},
    {"model": "flat", "big": 1 << 70, "flag": True},
    {},
]


def begin_run(root: Path, number: int) -> None:
    """A run with a config of its own."""
    log = log_of(root, f"r{number}")
    config = CONFIGS[number % len(CONFIGS)]
    log.event(
        "config", {"set": [[[name], value] for name, value in config.items() if name != "big"]}
    )
    rising(log, 0, number % 4, "x", "val/y")
    log.event("exit", {"code": number % 2})


def assert_same_table(index: Index, root: Path, deleted: set[str]) -> None:
    """The table's columns hold what the documents straight from the logs hold."""
    found = index.rows()
    wanted = [row_by_logs(root, ref) for ref in refs_on_disk(root)]
    by_id = {row["id"]: row for row in wanted if row["id"] not in deleted}
    ids = found.column(("id",)).values()
    assert sorted(ids) == sorted(by_id)
    paths: list[tuple[str, ...]] = [
        ("name",),
        ("tags",),
        ("points",),
        ("exit_code",),
        ("config",),
        ("summary",),
    ]
    paths += [("config", *name.split("/")) for name in ("lr", "model", "model/size", "model.size")]
    paths += [("config", "model/name"), ("config", "é"), ("config", "flag"), ("config", "none")]
    paths += [("summary", "x"), ("summary", "val/y")]
    for path in paths:
        reference = Column.of([value_at(by_id[id], rows._canonical(path)) for id in ids])
        mine, theirs = found.column(path).values(), reference.values()
        assert repr(plain(mine)) == repr(plain(theirs)), path
    for id, document in zip(ids, found.documents(range(len(ids))), strict=True):
        assert_same_row(document, by_id[id])
    fresh = Index(root, MemoryStore).rows()
    assert found.paths() == fresh.paths()


@pytest.mark.parametrize("least", [1, 3, 500])
def test_the_table_is_the_same_with_and_without_a_snapshot(
    root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, least: int
) -> None:
    """Whatever is added, removed, edited and deleted between."""
    monkeypatch.setattr(rows, "REMAKE_LEAST", least)
    monkeypatch.setattr(indexer, "QUIET_S", -1.0)
    for number in range(6):
        begin_run(root, number)
    index = Index.open(root, cache)
    assert_same_table(index, root, set())
    begin_run(root, 7)
    Editor(root, "p", "r1").set(name="named", tags=["t"])
    assert_same_table(index, root, set())
    shutil.rmtree(root / "p" / "r2")
    Editor(root, "p", "r3").set(deleted=True)
    assert_same_table(index, root, {"r3"})
    monkeypatch.setattr(indexer, "QUIET_S", 1e9)
    begin_run(root, 8)
    Editor(root, "p", "r4").set(notes="behind the index")
    assert_same_table(index, root, {"r3"})
    Editor(root, "p", "r3").set(deleted=False)
    Editor(root, "p", "r0").set(deleted=True)
    assert_same_table(index, root, {"r0"})
    index.close()
    index = Index.open(root, cache)
    assert_same_table(index, root, {"r0"})
    for number in range(10, 16):
        begin_run(root, number)
    monkeypatch.setattr(indexer, "QUIET_S", -1.0)
    assert_same_table(index, root, {"r0"})
    index.close()
