"""A watcher tells of every change, so that a reader who asks often looks at nothing else.

Where it cannot tell, it says so, and everything is looked at.
"""

from __future__ import annotations

import errno
import gc
import multiprocessing
import os
import random
import resource
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from trackway.backend.index import _inotify, discover, watching
from trackway.backend.index._inotify import Inotify
from trackway.backend.index.contract import RunRef
from trackway.backend.index.discover import Look, Seen, Sight
from trackway.backend.index.index import Index
from trackway.backend.index.watching import Lookout, Watcher

from .logs import STARTED, Log
from .test_discover import changes, listed, put
from .test_indexer import in_child

REF = RunRef("p", "run")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with one run; where a temporary folder cannot be watched, there is nothing to test."""
    root = tmp_path / "runs"
    put(root / "p" / "run" / "w1.log")
    watcher = Watcher.start(root)
    if watcher is None:
        pytest.skip("the system does not tell what changes in the temporary folder")
    watcher.close()
    return root


@pytest.fixture
def watcher(root: Path) -> Iterator[Watcher]:
    """Watches the root; told of everything that was there before."""
    watcher = started(root)
    yield watcher
    watcher.close()


def started(root: Path) -> Watcher:
    """A watcher that is there."""
    watcher = Watcher.start(root)
    assert watcher is not None
    assert watcher.changed() == set()
    return watcher


def queues() -> int:
    """How many queues of the system this process has open."""
    gc.collect()
    found = 0
    for fd in os.listdir("/proc/self/fd"):  # noqa: PTH208
        try:
            found += os.readlink(f"/proc/self/fd/{fd}") == "anon_inode:inotify"  # noqa: PTH115
        except FileNotFoundError:  # that of the listing itself
            continue
    return found


# -- every kind of change ------------------------------------------------------------------


def append(run: Path) -> None:
    """A log grows."""
    put(run / "w1.log", b"longer than it was")


def replace_log(run: Path) -> None:
    """Another log takes a log's place."""
    put(run.parent / "beside.log", b"others").rename(run / "w1.log")


def replace_run(run: Path) -> None:
    """Another folder takes a run's place."""
    put(run.parent.parent / "new" / "w1.log", b"others")
    shutil.rmtree(run)
    (run.parent.parent / "new").rename(run)


def made_again(run: Path) -> None:
    """A run is removed, and one of its name made."""
    shutil.rmtree(run)
    put(run / "w1.log", b"others")


def project_made_again(run: Path) -> None:
    """A whole project is removed, and one of its name made."""
    shutil.rmtree(run.parent)
    put(run / "w1.log", b"others")


def moved_in(run: Path) -> None:
    """A tree of a project with two runs is moved in."""
    away = run.parent.parent.parent / "away"
    put(away / "a" / "w1.log")
    put(away / "b" / "w1.log")
    away.rename(run.parent.parent / "q")


KINDS: dict[str, tuple[Callable[[Path], object], set[RunRef]]] = {
    "new project": (lambda run: put(run.parent.parent / "q" / "a" / "w"), {RunRef("q", "a")}),
    "new run": (lambda run: put(run.parent / "a" / "w1.log"), {RunRef("p", "a")}),
    "new log": (lambda run: put(run / "w2.log"), {REF}),
    "append": (append, {REF}),
    "truncate": (lambda run: os.truncate(run / "w1.log", 1), {REF}),
    "rename": (lambda run: (run / "w1.log").rename(run / "w2.log"), {REF}),
    "remove": (lambda run: (run / "w1.log").unlink(), {REF}),
    "touch": (lambda run: os.utime(run / "w1.log"), {REF}),
    "replace a log": (replace_log, {REF}),
    "replace a run": (replace_run, {REF}),
    "rename a run": (lambda run: run.rename(run.parent / "a"), {REF, RunRef("p", "a")}),
    "remove a run": (shutil.rmtree, {REF}),
    "remove a project": (lambda run: shutil.rmtree(run.parent), {REF}),
    "make a run again": (made_again, {REF}),
    "make a project again": (project_made_again, {REF}),
    "rename a project": (
        lambda run: run.parent.rename(run.parent.parent / "q"),
        {REF, RunRef("q", "run")},
    ),
    "move a project in": (moved_in, {RunRef("q", "a"), RunRef("q", "b")}),
    "move a run out": (lambda run: run.rename(run.parent.parent.parent / "a"), {REF}),
    "what is no run": (lambda run: put(run.parent.parent / "blobs" / "a" / "w"), set()),
    "what is hidden": (lambda run: put(run.parent / ".a" / "w"), set()),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_change_is_told_once(root: Path, watcher: Watcher, kind: str) -> None:
    """By the name of the run; and afterwards what that run does next."""
    change, wanted = KINDS[kind]
    change(root / "p" / "run")
    found = watcher.changed()
    assert found is not None and found >= wanted
    assert found - {RunRef("p", "beside.log")} == wanted
    assert watcher.changed() == set()
    for ref in wanted:
        run = root / ref.project / ref.id
        if run.exists():
            put(run / "later.log")
            assert watcher.changed() == {ref}


def test_what_other_processes_do_is_told(root: Path, watcher: Watcher) -> None:
    """A change counts as soon as its call has returned there."""
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=put, args=(root / "p" / "other" / "w1.log",))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert watcher.changed() == {RunRef("p", "other")}


def test_a_name_that_is_no_text_is_told(root: Path, watcher: Watcher) -> None:
    """As the listing tells it."""
    name = os.fsdecode(b"a\xff\xc3\xa4")
    put(root / "p" / name / "w1.log")
    assert watcher.changed() == {RunRef("p", name)}


def test_two_runs_that_change_places_keep_being_told_apart(root: Path, watcher: Watcher) -> None:
    """A folder's watch goes by where the folder is now."""
    one, other, away = root / "p" / "run", root / "p" / "other", root / "p" / ".away"
    put(other / "w1.log")
    one.rename(away)
    other.rename(one)
    away.rename(other)
    assert watcher.changed() == {REF, RunRef("p", "other")}
    append(one)
    assert watcher.changed() == {REF}
    append(other)
    assert watcher.changed() == {RunRef("p", "other")}


def test_a_run_that_was_moved_out_is_told_of_no_more(root: Path, watcher: Watcher) -> None:
    """And its watch is given back."""
    away = root.parent / "away"
    (root / "p" / "run").rename(away)
    assert watcher.changed() == {REF}
    append(away)
    assert watcher.changed() == set()
    assert len(watcher._places) == 2


# -- races ---------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
def test_whatever_is_done_is_told(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Who looks only at the runs that are named knows what listing everything tells.

    Things happen also while the watcher lists a folder that it has just begun to watch.
    """
    chance = random.Random(seed)
    beside = tmp_path / "beside"
    beside.mkdir()
    names = watching._names

    def slow_names(path: str) -> list[str]:
        found = names(path)
        chance.choice(changes(root, beside, chance))()
        return found

    watcher, sight = started(root), Sight(root)
    monkeypatch.setattr(watching, "_names", slow_names)
    known = sight.all().logs
    for _ in range(120):
        for _ in range(chance.randint(1, 3)):
            chance.choice(changes(root, beside, chance))()
        known = told(watcher, sight, known)
        if watcher._system.pending() == 0:
            assert known == listed(root)
    monkeypatch.setattr(watching, "_names", names)
    assert told(watcher, sight, known) == listed(root)
    # Nothing is kept of what is no more.
    assert len(watcher._places) <= 1 + len(list(root.glob("*"))) + len(list(root.glob("*/*")))
    watcher.close()


def told(
    watcher: Watcher, sight: Sight, known: dict[RunRef, dict[str, Seen]]
) -> dict[RunRef, dict[str, Seen]]:
    """What is known after one more look at what is told of."""
    found = watcher.changed()
    assert found is not None
    look: Look = sight.at(found)
    assert not look.unreadable
    return {ref: logs for ref, logs in known.items() if ref not in look.gone} | look.logs


def test_a_writer_without_end_does_not_keep_the_reader(root: Path, watcher: Watcher) -> None:
    """What is told is what happened before the question."""
    append(root / "p" / "run")
    events = watcher._system.events()
    next(events)
    for number in range(100):
        put(root / "p" / f"r{number}" / "w1.log")
    assert {mask for _, mask, _ in events} <= {_inotify.MODIFY, _inotify.CLOSE_WRITE}
    assert watcher.changed() == {RunRef("p", f"r{number}") for number in range(100)}


# -- where nothing can be told -------------------------------------------------------------


def test_more_than_the_system_remembers_is_said_so(root: Path, watcher: Watcher) -> None:
    """Everything has to be looked at, and the queue is given back."""
    before = queues()
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    if limit > 100_000:
        pytest.skip("the system remembers very much")
    one, other = root / "p" / "run" / "w1.log", root / "p" / "run" / "w2.log"
    other.touch()
    for _ in range(limit // 2 + 1):  # the same twice in a row would be told once
        os.utime(one)
        os.utime(other)
    assert watcher.changed() is None
    assert watcher.changed() is None
    assert queues() == before - 1


def test_a_root_that_is_another_folder_is_said_so(root: Path, watcher: Watcher) -> None:
    """Nothing is told of a folder that somebody else will fill."""
    root.rename(root.parent / "old")
    put(root / "p" / "new" / "w1.log")
    assert watcher.changed() is None


def test_a_root_whose_parent_is_renamed_is_said_so(tmp_path: Path, root: Path) -> None:
    """The folder that is watched is the same, but it is not the root any more."""
    (tmp_path / "above").mkdir()
    root = root.rename(tmp_path / "above" / "runs")
    watcher = started(root)
    (tmp_path / "above").rename(tmp_path / "moved")
    assert watcher.changed() is None


def test_a_root_that_goes_is_said_so(root: Path, watcher: Watcher) -> None:
    """It may come back as another one."""
    shutil.rmtree(root)
    assert watcher.changed() is None
    assert Watcher.start(root) is None


def test_a_root_behind_a_link_is_watched_as_long_as_the_link_stays(
    root: Path, tmp_path: Path
) -> None:
    """The link is looked at again at every question."""
    link = tmp_path / "link"
    link.symlink_to(root)
    watcher = started(link)
    append(root / "p" / "run")
    assert watcher.changed() == {REF}
    link.unlink()
    link.symlink_to(tmp_path)
    assert watcher.changed() is None


def test_a_run_behind_a_link_is_named_every_time(root: Path, tmp_path: Path) -> None:
    """What happens where the link leads is not told of; a linked project is not watched at all."""
    put(tmp_path / "elsewhere" / "w1.log")
    (root / "p" / "linked").symlink_to(tmp_path / "elsewhere")
    watcher = Watcher.start(root)
    assert watcher is not None
    linked = RunRef("p", "linked")
    assert watcher.changed() == watcher.changed() == {linked}
    (root / "p" / "linked").unlink()
    assert watcher.changed() == {linked}
    assert watcher.changed() == set()
    (root / "q").symlink_to(tmp_path / "elsewhere")
    assert watcher.changed() is None
    assert Watcher.start(root) is None


def test_a_run_that_may_not_be_looked_into_is_named_every_time(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until it may, and is watched."""
    is_closed = [True]
    add = Inotify.add

    def guarded(self: Inotify, path: str, mask: int) -> int:
        if path.endswith("/run") and is_closed:
            raise PermissionError(errno.EACCES, "no", path)
        return add(self, path, mask)

    monkeypatch.setattr(Inotify, "add", guarded)
    watcher = Watcher.start(root)
    assert watcher is not None
    assert watcher.changed() == watcher.changed() == {REF}
    is_closed.clear()
    (root / "p" / "run").chmod(0o700)
    assert watcher.changed() == {REF}
    assert watcher.changed() == set()


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.ENOMEM, errno.EMFILE])
@pytest.mark.parametrize("place", ["", "/p", "/p/run"])
def test_limits_are_met_calmly(
    root: Path, monkeypatch: pytest.MonkeyPatch, error: int, place: str
) -> None:
    """At the start and later: everything is given back, and said to be unknown."""
    before = queues()
    watcher = started(root)
    add = Inotify.add

    def limited(self: Inotify, path: str, mask: int) -> int:
        if path == f"{root.resolve()}{place}":
            raise OSError(error, os.strerror(error), path)
        return add(self, path, mask)

    monkeypatch.setattr(Inotify, "add", limited)
    assert Watcher.start(root) is None
    shutil.rmtree(root / "p")
    put(root / "p" / "run" / "w1.log")
    if place:
        assert watcher.changed() is None
    watcher.close()
    assert queues() == before


def test_without_a_free_file_nothing_is_watched(root: Path) -> None:
    """The system's own answer, in a process that may open no more files."""

    def work() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
        with pytest.raises(OSError, match="open files"):
            Inotify()

    assert Watcher.start(root / "missing") is None
    assert in_child(work) == 0


def test_half_of_the_watches_are_left_to_others(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A root with more folders is not watched; one that comes to have more is no longer."""
    limit = tmp_path / "limit"
    monkeypatch.setattr(watching, "_LIMIT", str(limit))
    limit.write_text("4\n")
    assert Watcher.start(root) is None
    limit.write_text("6\n")
    watcher = started(root)
    put(root / "p" / "other" / "w1.log")
    assert watcher.changed() is None
    limit.unlink()
    started(root).close()


@pytest.mark.parametrize("kind", ["nfs4", "lustre", "cifs", "fuse.sshfs", "9p", "unheard-of"])
def test_what_other_machines_write_to_is_not_watched(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """The nearest and latest mount counts; and any mount in the root, whatever it is."""
    table = tmp_path / "mounts"
    monkeypatch.setattr(watching, "_MOUNTS", str(table))
    here = str(root.resolve())
    near, inside = here.rsplit("/", 1)[0], f"{here}/p"

    def is_watched(*mounts: tuple[str, str]) -> bool:
        lines = [f"1 0 0:1 / {at} rw shared:1 - {fs} dev rw\n" for at, fs in mounts]
        table.write_text("".join(lines))
        watcher = Watcher.start(root)
        if watcher is not None:
            watcher.close()
        return watcher is not None

    assert is_watched(("/", kind), (near, "ext4"))
    assert is_watched(("/", "ext4"), (f"{here}-other", kind), (near[:-1], kind))
    assert is_watched((near, kind), (near, "xfs"))
    assert not is_watched(("/", kind))
    assert not is_watched((near, kind), ("/", "ext4"))
    assert not is_watched((near, "ext4"), (near, kind))
    assert not is_watched((here, kind), ("/", "tmpfs"))
    assert not is_watched(("/", "ext4"), (inside, "ext4"))
    assert not is_watched()
    table.write_text("no such table\n")
    assert Watcher.start(root) is None
    table.unlink()
    assert Watcher.start(root) is None


def test_a_mount_with_a_blank_in_its_name_is_recognized(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system tells blanks by their number."""
    root = root.rename(tmp_path / "my runs")
    table = tmp_path / "mounts"
    place = str(root.resolve()).replace(" ", "\\040")
    table.write_text(f"1 0 0:1 / / rw - ext4 d rw\n2 0 0:2 / {place} rw - nfs d rw\n")
    monkeypatch.setattr(watching, "_MOUNTS", str(table))
    assert Watcher.start(root) is None


def test_on_other_systems_nothing_is_watched(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """None, not an error."""
    monkeypatch.setattr(sys, "platform", "darwin")
    assert Watcher.start(root) is None


def test_a_forked_child_takes_nothing_from_its_parent(root: Path, watcher: Watcher) -> None:
    """It is told nothing, closes what it has, and may start its own."""
    append(root / "p" / "run")

    def work() -> None:
        assert watcher.changed() is None
        watcher.close()
        own = started(root)
        put(root / "p" / "child" / "w1.log")
        assert own.changed() == {RunRef("p", "child")}
        own.close()

    assert in_child(work) == 0
    assert watcher.changed() == {REF, RunRef("p", "child")}


def test_after_an_interrupt_nothing_is_taken_for_unchanged(
    root: Path, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was told till then is not told again, so everything has to be looked at."""
    put(root / "p" / "other" / "w1.log")

    def interrupted(self: Inotify, path: str, mask: int) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Inotify, "add", interrupted)
        with pytest.raises(KeyboardInterrupt):
            watcher.changed()
    assert watcher.changed() is None


def test_nothing_is_left_open(root: Path) -> None:
    """Closed, closed twice, or forgotten."""
    before = queues()
    watcher = started(root)
    assert queues() == before + 1
    watcher.close()
    watcher.close()
    assert queues() == before
    assert watcher.changed() is None
    watcher = started(root)
    del watcher
    assert queues() == before


# -- what is looked at ---------------------------------------------------------------------


class Eyes:
    """Counts looks at everything."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.looks = 0
        self.may_look = True
        sight_all = Sight.all

        def counted(sight: Sight) -> Look:
            assert self.may_look, "everything was looked at"
            self.looks += 1
            return sight_all(sight)

        monkeypatch.setattr(discover.Sight, "all", counted)


@pytest.fixture
def eyes(monkeypatch: pytest.MonkeyPatch) -> Eyes:
    """Any root is worth a watcher, from the third question on."""
    monkeypatch.setattr(watching, "SHORT_S", 0.0)
    monkeypatch.setattr("trackway.backend.index.index.LOOK_SHARE", 0)
    return Eyes(monkeypatch)


@pytest.fixture
def logs(root: Path) -> Path:
    """A root with two runs that can be read."""
    shutil.rmtree(root / "p")
    log(root, "one")
    log(root, "two")
    return root


@pytest.fixture
def index(logs: Path, tmp_path: Path, eyes: Eyes) -> Iterator[Index]:
    """An index that has been asked often enough to watch."""
    index = Index.open(logs, tmp_path / "cache")
    for _ in range(3):
        assert losses(index) == {"one": 2.0, "two": 2.0}
    eyes.may_look = False
    yield index
    index.close()


def log(root: Path, run: str, name: str = "w1", *, project: str = "p", steps: int = 3) -> Log:
    """A log of a loss."""
    log = Log(root / project / run / f"{name}.log").begin()
    for step in range(steps):
        log.row(step, {"loss": float(step)}, time=STARTED + step)
    return log


def losses(index: Index) -> dict[str, Any]:
    """The last loss of each run, by the run table."""
    rows = index.rows()
    names = rows.column(("id",)).values()
    return dict(zip(names, rows.column(("summary", "loss")).values(), strict=True))


def test_a_watched_root_is_not_looked_at(index: Index, logs: Path) -> None:
    """And every change is in the next answer."""
    one = Log(logs / "p" / "one" / "w1.log")
    assert losses(index) == {"one": 2.0, "two": 2.0}
    log(logs, "three")
    assert losses(index) == {"one": 2.0, "two": 2.0, "three": 2.0}
    log(logs, "three", "w2", steps=6)
    assert losses(index)["three"] == 5.0
    log(logs, "four", project="q", steps=4)
    assert losses(index)["four"] == 3.0
    one.path.unlink()
    log(logs, "one", steps=9)
    assert losses(index)["one"] == 8.0
    os.truncate(one.path, one.path.stat().st_size - 1)
    assert losses(index)["one"] == 7.0
    log(logs.parent / "beside", "one", steps=5).path.replace(one.path)
    assert losses(index)["one"] == 4.0
    shutil.rmtree(logs / "p" / "two")
    assert losses(index).keys() == {"one", "three", "four"}
    log(logs, "two", steps=2)
    assert losses(index)["two"] == 1.0
    (logs / "q").rename(logs / "r")
    assert [ref for ref in index.refs() if ref.id == "four"] == [RunRef("r", "four")]
    shutil.rmtree(logs / "r")
    assert losses(index) == {"one": 4.0, "three": 5.0, "two": 1.0}


def test_who_asks_once_pays_nothing(logs: Path, tmp_path: Path, eyes: Eyes) -> None:
    """The third question starts the watcher, before the look that it relies on."""
    before = queues()
    index = Index.open(logs, tmp_path / "cache")
    for _ in range(2):
        index.rows()
        assert queues() == before
    index.rows()
    assert queues() == before + 1
    assert eyes.looks == 3
    for _ in range(5):
        index.rows()
    assert eyes.looks == 3
    index.close()
    assert queues() == before


def test_a_small_root_is_not_watched(logs: Path, tmp_path: Path) -> None:
    """Looking at it takes less than a watcher would save."""
    before = queues()
    index = Index.open(logs, tmp_path / "cache")
    index.rows()  # reads the logs, which may take any time
    for _ in range(10):
        index._lookout._took_s = 0.0
        index.rows()
    assert queues() == before
    index.close()


def test_what_changes_while_a_watcher_starts_is_found(
    logs: Path, tmp_path: Path, eyes: Eyes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the look after it."""
    start = Watcher.start

    def slow(root: Path) -> Watcher | None:
        watcher = start(root)
        log(logs, "three")
        return watcher

    monkeypatch.setattr(Watcher, "start", slow)
    index = Index.open(logs, tmp_path / "cache")
    index.rows(), index.rows()
    assert losses(index).keys() == {"one", "two", "three"}
    index.close()


def test_a_watched_root_is_looked_at_once_a_while(
    index: Index, logs: Path, eyes: Eyes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What nobody is told of is found then: here, a log behind a link."""
    target = log(logs.parent / "elsewhere", "x", steps=5)
    (logs / "p" / "one" / "w2.log").symlink_to(target.path)
    assert losses(index)["one"] == 4.0
    target.row(5, {"loss": 5.0})
    monkeypatch.setattr(watching, "WATCHED_S", 0.0)
    eyes.may_look = True
    assert losses(index)["one"] == 5.0


def test_after_an_overflow_everything_is_looked_at(
    index: Index, logs: Path, eyes: Eyes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a new watcher tells of what comes then."""
    log(logs, "three")
    events = Inotify.events
    monkeypatch.setattr(Inotify, "events", lambda _: iter([(-1, _inotify.OVERFLOW, "")]))
    eyes.may_look, before = True, eyes.looks
    assert losses(index).keys() == {"one", "two", "three"}
    assert eyes.looks == before + 1
    monkeypatch.setattr(Inotify, "events", events)
    eyes.may_look = False
    log(logs, "four")
    assert losses(index).keys() == {"one", "two", "three", "four"}


def test_where_nothing_can_be_watched_all_is_as_before(
    logs: Path, tmp_path: Path, eyes: Eyes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried once a minute."""
    tried: list[Path] = []
    monkeypatch.setattr(Watcher, "start", lambda root: tried.append(root))
    index = Index.open(logs, tmp_path / "cache")
    for number in range(6):
        log(logs, f"r{number}")
        assert len(losses(index)) == 3 + number
    assert tried == [logs]
    assert eyes.looks == 6
    index._lookout._try_at -= watching.WATCHED_S
    index.rows(), index.rows()
    assert tried == [logs, logs]
    index.close()


def write_much(root: Path, seed: int) -> None:
    """Runs come, grow, lose logs, are moved and go, as fast as may be."""
    chance = random.Random(seed)
    for number in range(150):
        run = root / f"q{seed}" / f"r{chance.randint(0, 9)}"
        if not run.exists():
            log(root, run.name, f"w{number}", project=run.parent.name, steps=number)
        elif (kind := chance.randint(0, 5)) == 0:
            shutil.rmtree(run)
        elif kind == 1:
            log(root, run.name, f"w{number}", project=run.parent.name, steps=number)
        elif kind == 2:
            target = run.with_name(f"r{chance.randint(0, 9)}")
            None if target.exists() else run.rename(target)
        elif kind == 3 and number % 10 == 0:
            shutil.rmtree(run.parent)
        elif files := sorted(run.iterdir()):
            data = files[0].read_bytes()
            files[0].write_bytes(data if kind == 4 else data[: chance.randint(0, len(data))])


def table(index: Index) -> dict[tuple[Any, Any], Any]:
    """The last loss of each run of each project."""
    rows = index.rows()
    columns = [rows.column(path).values() for path in (("project",), ("id",), ("summary", "loss"))]
    return {(project, run): loss for project, run, loss in zip(*columns, strict=True)}


def test_writers_in_other_processes_are_kept_up_with(
    index: Index, logs: Path, tmp_path: Path, eyes: Eyes
) -> None:
    """Once they are done, the next answer is that of an index that has just been made."""
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=write_much, args=(logs, seed)) for seed in range(2)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        index.rows()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    found = table(index)
    fresh = Index.open(logs, tmp_path / "another")
    eyes.may_look = True
    assert found == table(fresh)
    assert len(found) > 2
    fresh.close()


def test_what_was_told_is_not_lost_when_the_look_fails(
    index: Index, logs: Path, eyes: Eyes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is looked at the next time, with everything else: what had been read is dropped."""
    log(logs, "three")
    with monkeypatch.context() as patch:

        def failing(sight: Sight, refs: object) -> Look:
            raise KeyboardInterrupt

        patch.setattr(discover.Sight, "at", failing)
        with pytest.raises(KeyboardInterrupt):
            index.rows()
    eyes.may_look = True
    assert losses(index).keys() == {"one", "two", "three"}


def test_an_index_that_is_made_anew_looks_at_everything(
    index: Index, logs: Path, eyes: Eyes
) -> None:
    """Its watcher has told it nothing of what did not change."""
    eyes.may_look = True
    with index._lock:
        index._store.close()
        index._begin_again(delete=True)
    assert losses(index) == {"one": 2.0, "two": 2.0}


def test_what_another_process_puts_into_the_index_is_not_lost(
    index: Index, logs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may drop what this one had read of a run, and read it on itself, behind the index.

    Here it finds a run gone, and then another of the same name, between two looks of this one.
    """
    other = Index.open(logs, tmp_path / "cache")
    one, away = logs / "p" / "one", logs.parent / "away"
    for _ in range(3):
        one.rename(away)
        other.refresh([RunRef("p", "one")])
        log(logs, "one", steps=7)
        assert losses(index)["one"] == 6.0
        other.refresh([RunRef("p", "one")])
        assert losses(index) == {"one": 6.0, "two": 2.0}
        shutil.rmtree(away)
        with other._lock:  # as if by one that saw the folder while it was gone
            number = other._indexer.numbers[RunRef("p", "one")]
            with other._store.write() as writing:
                writing.remove_run(number)
        other.refresh([RunRef("p", "one")])
        assert losses(index) == {"one": 6.0, "two": 2.0}
    other.close()


def test_a_forked_child_of_a_reader_asks_on(index: Index, logs: Path, eyes: Eyes) -> None:
    """With a look of its own; its parent is told of everything all the same."""
    log(logs, "three")

    def work() -> None:
        eyes.may_look = True
        for _ in range(4):
            assert losses(index).keys() == {"one", "two", "three"}
        eyes.may_look = False
        log(logs, "four")
        assert "four" in losses(index)

    assert in_child(work) == 0
    assert losses(index).keys() == {"one", "two", "three", "four"}


def test_what_is_told_waits_until_it_was_looked_at(root: Path) -> None:
    """Also where the watcher is lost in between."""
    lookout = Lookout(root)
    lookout._asked, lookout._took_s = 5, 1.0
    assert lookout.due(20) is None
    lookout.begin()
    lookout.looked(0.0, is_quiet=True)
    append(root / "p" / "run")
    assert lookout.due(20) == lookout.due(20) == {REF}
    assert lookout._watcher is not None
    lookout._watcher.close()
    assert lookout.due(20) == {REF}
    lookout.done({REF})
    assert lookout.due(20) == set()
    lookout.forget()
    assert lookout.due(20) is None
