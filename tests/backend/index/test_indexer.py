"""Whatever kills, disturbs or doubles an indexer: the index goes on to say what the logs say."""

from __future__ import annotations

import errno
import math
import os
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

from trackway.backend.file.edits import Editor
from trackway.backend.file.format import METRIC
from trackway.backend.index import _seal, index as index_module, indexer, rows
from trackway.backend.index.codec import decode_cells, decode_steps, decode_times, head_of
from trackway.backend.index._points import decoded
from trackway.backend.index.contract import IndexStore, Reading, RunRef, Writing
from trackway.backend.index.document import row_of
from trackway.backend.index.index import Index
from trackway.backend.index.memory import MemoryStore
from trackway.backend.index.place import index_place
from trackway.backend.index.series import SeriesQuery
from trackway.backend.index.sqlite import SqliteStore
from trackway.backend.points import Metric, resolve
from trackway.backend.record import tell_record

from .logs import STARTED, Log, same_columns, told_by_logs
from .test_index import agrees

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
    for key in logs.keys():
        line = resolve(key, logs.columns(key), attempts="live", repeats="last", order="step")
        if len(line):
            metrics[key] = Metric.of(line)
    return row_of(ref, tell_record(logs), metrics)


def assert_same_row(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """All fields are the same but the duration, which grows while one looks."""
    assert found.keys() == wanted.keys()
    for name in wanted.keys() - {"duration"}:
        assert repr(found[name]) == repr(wanted[name]), name


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

    def __call__(self, what: str) -> None:
        """One more."""
        if what != "read":
            self.count += 1
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
    for at in range(1, counted.count + 1, counted.count // 40):
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
