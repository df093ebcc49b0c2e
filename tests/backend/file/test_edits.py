"""Edits are records in a log of their own: durable, exact, and no sign of life."""

from __future__ import annotations

import errno
import math
import os
import time
from pathlib import Path
from typing import Any

import pytest

from trackway.backend.file._fs import FileSystem
from trackway.backend.file.attempts import standing
from trackway.backend.file.edits import Editor
from trackway.backend.file.format import Event, Header, encode_event, encode_header
from trackway.backend.file.reader import LogReader
from trackway.backend.file.remove import remove_run
from trackway.backend.file.run_logs import RunLogs
from trackway.backend.file.writer import LogWriter
from trackway.backend.record import RunRecord, tell_record
from trackway.errors import ArgumentError, NotFoundError

from .test_deletions import Model


def a_run(root: Path) -> Model:
    """Three rows of a run that is gone without a word, an hour ago, on another machine."""
    model = Model(root / "project" / "run")
    for step in range(3):
        model.row(0, step, float(step), {"loss": 1.0, "val/acc": 2.0, "a*": 3.0})
    for number in range(3):
        os.utime(model.path(number), (time.time() - 3600,) * 2)
    return model


def record(root: Path, run: str = "run") -> RunRecord:
    """What the run's logs say of it."""
    logs = RunLogs(root / "project" / run)
    logs.refresh()
    return tell_record(logs)


def editors(folder: Path) -> list[tuple[Header, list[Event]]]:
    """The logs of editors in a run's folder, by when they began."""
    found = []
    for path in folder.glob("*.log"):
        reader = LogReader(path)
        events = [event for _, event in reader.read().events]
        if reader.header is not None and reader.header.role == "editor":
            found.append((reader.header, events))
    return sorted(found, key=lambda entry: entry[0].created)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"name": "calm-otter"}, "calm-otter"),
        ({"notes": "a\nb"}, "a\nb"),
        ({"notes": None}, None),
        ({"tags": ("b", "a", "b")}, ("b", "a")),
        ({"tags": []}, ()),
        ({"group": "g"}, "g"),
        ({"job_type": "eval"}, "eval"),
        ({"archived": True}, True),
        ({"deleted": True}, True),
    ],
)
def test_what_is_set_is_what_the_record_says(
    tmp_path: Path, change: dict[str, Any], expected: object
) -> None:
    """And nothing else changes."""
    a_run(tmp_path)
    before = record(tmp_path)
    Editor(tmp_path, "project", "run").set(**change)
    after = record(tmp_path)
    (name,) = change
    assert getattr(after, name) == expected
    setattr(before, name, expected)
    assert after == before


def test_the_last_edit_counts(tmp_path: Path) -> None:
    """Each call is a log of its own, a block is one; an archived run can be brought back."""
    model = a_run(tmp_path)
    editor = Editor(tmp_path, "project", "run")
    editor.set(name="one", archived=True)
    editor.set(name="two")
    with editor:
        editor.set(notes="n")
        editor.set(archived=False)
    after = record(tmp_path)
    assert (after.name, after.notes, after.archived) == ("two", "n", False)
    assert [len(events) for _, events in editors(model.folder)] == [1, 1, 2]
    assert {header.attempt for header, _ in editors(model.folder)} == {2}


@pytest.mark.parametrize("ahead", [600.0, 1e9, 1e17])
def test_the_last_edit_counts_also_where_the_clock_is_behind(tmp_path: Path, ahead: float) -> None:
    """Another machine, or this one before its clock was set, told of the run at a later time."""
    model = a_run(tmp_path)
    future = time.time() + ahead
    writer = LogWriter.create(tmp_path, project="project", run="run", role="editor", attempt=2)
    writer.event("run", {"set": {"name": "theirs", "deleted": True, "tags": ["a"]}}, future)
    writer.event("run", {"set": {"notes": "n"}}, float("inf"))
    writer.close()
    editor = Editor(tmp_path, "project", "run")
    editor.set(deleted=False, name="ours")
    after = record(tmp_path)
    assert (after.name, after.deleted, after.tags) == ("ours", False, ("a",))
    with editor:
        editor.set(deleted=True)
        editor.set(tags=["b"])
        editor.delete_points("loss")
    after = record(tmp_path)
    assert (after.name, after.deleted, after.tags) == ("ours", True, ("b",))
    times = [e.time for _, events in editors(model.folder) for e in events if e.time != math.inf]
    assert len({*times}) == len(times) == 5
    assert min(times) == future


def test_an_edit_has_the_time_of_the_clock_here_where_that_is_late_enough(tmp_path: Path) -> None:
    """It says when somebody made the change."""
    model = a_run(tmp_path)
    before = time.time()
    for name in ("one", "two"):
        Editor(tmp_path, "project", "run").set(name=name)
    times = [event.time for _, events in editors(model.folder) for event in events]
    assert before <= times[0] < times[1] <= time.time()


def test_points_are_counted_without_a_word(tmp_path: Path) -> None:
    """As many as would be hidden."""
    model = a_run(tmp_path)
    editor = Editor(tmp_path, "project", "run")
    assert editor.count_points("val/*", start=1) == 2
    assert editors(model.folder) == []
    assert editor.delete_points("val/*", start=1) == 2
    assert editor.count_points("val/*") == 1


def test_an_edit_is_no_sign_of_life(tmp_path: Path) -> None:
    """Neither whole nor unfinished nor with a damaged header; nor are start and end others."""
    model = a_run(tmp_path)
    before, place = record(tmp_path).attempts, standing(model.folder)
    assert [attempt.state for attempt in before] == ["lost", "lost"]
    with Editor(tmp_path, "project", "run") as editor:
        editor.set(name="x")
        editor.delete_points("loss")
    (model.folder / "born.log").touch()
    header = Header("run", "project", "torn", "t" * 32, role="editor", attempt=2)
    (model.folder / "torn.log").write_bytes(encode_header(header)[:30])
    assert standing(model.folder) == place
    damaged = bytearray(encode_header(header) + encode_event("run", time.time(), {"set": {}}))
    damaged[20] ^= 1
    (model.folder / "damaged.log").write_bytes(damaged)
    assert record(tmp_path).attempts == before


def test_a_log_without_a_header_testifies_where_it_is_a_recorders(tmp_path: Path) -> None:
    """It has rows, or there is no other."""
    folder = tmp_path / "project" / "run"
    folder.mkdir(parents=True)
    (folder / "w.log").write_bytes(b"")
    assert [a.state for a in record(tmp_path).attempts] == ["running"]
    model = a_run(tmp_path / "other")
    data = bytearray(model.path(0).read_bytes())
    data[20] ^= 1
    model.path(0).write_bytes(data)
    assert [a.state for a in record(tmp_path / "other").attempts] == ["running", "lost"]


def test_a_live_run_can_be_edited(tmp_path: Path) -> None:
    """It goes on, and what it logs afterwards is not hidden."""
    writer = LogWriter.create(tmp_path, project="project", run="run", attempt=3)
    writer.row({"loss": 1.0}, 0)
    assert Editor(tmp_path, "project", "run").delete_points() == 1
    writer.row({"loss": 2.0}, 1)
    logs = RunLogs(tmp_path / "project" / "run")
    logs.refresh()
    assert logs.columns("loss").values.tolist() == [2.0]
    (header, _) = editors(logs.folder)[0]
    assert (header.role, header.attempt, header.run) == ("editor", 3, "run")
    assert record(tmp_path).attempts[-1].state == "running"
    writer.close()


@pytest.mark.parametrize(
    ("keys", "start", "stop", "count", "left"),
    [
        (None, None, None, 9, []),
        ("loss", None, None, 3, ["a*", "val/acc"]),
        (["val/*", "loss"], None, None, 6, ["a*"]),
        ("a*", None, None, 3, ["loss", "val/acc"]),
        ("?oss", None, None, 3, ["a*", "val/acc"]),
        ("[!l]*", None, None, 6, ["loss"]),
        (["loss"], 1, None, 2, ["a*", "loss", "val/acc"]),
        (["loss"], None, 1, 2, ["a*", "loss", "val/acc"]),
        (None, 1, 1, 3, ["a*", "loss", "val/acc"]),
        ("none", None, None, 0, ["a*", "loss", "val/acc"]),
        ([], None, None, 0, ["a*", "loss", "val/acc"]),
        (None, 7, None, 0, ["a*", "loss", "val/acc"]),
    ],
)
def test_so_many_points_are_hidden(
    tmp_path: Path, keys: Any, start: int | None, stop: int | None, count: int, left: list[str]
) -> None:
    """Exactly; nothing is written where there are none, and hidden ones do not count again."""
    model = a_run(tmp_path)
    editor = Editor(tmp_path, "project", "run")
    assert editor.delete_points(keys, start=start, stop=stop) == count
    assert len(editors(model.folder)) == (count > 0)
    logs = RunLogs(model.folder)
    logs.refresh()
    assert (logs.keys(), logs.points) == (left, 9 - count)
    assert editor.delete_points(keys, start=start, stop=stop) == 0
    assert editor.delete_points() == 9 - count


def test_a_deletion_says_how_far_each_log_went(tmp_path: Path) -> None:
    """To the end of its last whole frame; the logs of editors are not meant."""
    model = a_run(tmp_path)
    ends = {model.path(n).stem: [f"{n}" * 32, model.path(n).stat().st_size] for n in range(3)}
    with model.path(0).open("ab") as file:
        file.write(b"\x20\x00\x00\x00half")
    editor = Editor(tmp_path, "project", "run")
    editor.set(name="x")
    editor.delete_points("val/*", start=-1)
    _, (event,) = editors(model.folder)[-1]
    told = {"keys": ["val/*"], "from": -1, "to": None, "upto": ends}
    assert (event.type, event.fields) == ("delete", told)


def test_a_hundred_thousand_names_fit(tmp_path: Path) -> None:
    """They go into as many records as it takes."""
    writer = LogWriter.create(tmp_path, project="project", run="run")
    names = [f"layer.{number}/{'weight' * 6}" for number in range(60_000)]
    writer.row(dict.fromkeys(names, 1.0), 0)
    writer.close()
    assert Editor(tmp_path, "project", "run").delete_points("?ayer*") == 60_000
    logs = RunLogs(tmp_path / "project" / "run")
    logs.refresh()
    assert logs.keys() == []


def test_thousands_of_edits_take_no_descriptors(tmp_path: Path) -> None:
    """Each log is closed with its call."""
    a_run(tmp_path)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for number in range(50):
        Editor(tmp_path, "project", "run").set(name=f"n{number}")
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert record(tmp_path).name == "n49"


# -- refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"name": ""},
        {"name": "  "},
        {"name": None},
        {"name": 1},
        {"name": "\ud800"},
        {"notes": 1},
        {"tags": "abc"},
        {"tags": None},
        {"tags": [1]},
        {"tags": [""]},
        {"group": b"g"},
        {"archived": 1},
        {"deleted": None},
    ],
)
def test_a_bad_value_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    """Before anything is written."""
    model = a_run(tmp_path)
    with pytest.raises(ArgumentError):
        Editor(tmp_path, "project", "run").set(**change)
    assert editors(model.folder) == []


@pytest.mark.parametrize(
    "arguments",
    [
        {"keys": 1},
        {"keys": [1]},
        {"keys": b"loss"},
        {"keys": {"loss": 1}},
        {"start": "1"},
        {"start": 1.0},
        {"start": True},
        {"stop": 1 << 64},
        {"start": 2, "stop": 1},
    ],
)
def test_a_bad_choice_of_points_is_refused(tmp_path: Path, arguments: dict[str, Any]) -> None:
    """Likewise."""
    model = a_run(tmp_path)
    with pytest.raises(ArgumentError):
        Editor(tmp_path, "project", "run").delete_points(**arguments)
    assert editors(model.folder) == []


@pytest.mark.parametrize(
    ("project", "run"),
    [
        ("project", "none"),
        ("none", "run"),
        ("project", ""),
        ("project", ".."),
        ("project", "../project/run"),
        ("", "run"),
        ("blobs", "sha256"),
    ],
)
def test_a_run_that_is_not_there_is_not_found(tmp_path: Path, project: str, run: str) -> None:
    """Nor is what only looks like one."""
    a_run(tmp_path)
    (tmp_path / "blobs" / "sha256").mkdir(parents=True)
    with pytest.raises(NotFoundError):
        Editor(tmp_path, project, run)


def test_a_removed_run_is_not_brought_back(tmp_path: Path) -> None:
    """An editor that was opened before finds nothing to edit."""
    model = a_run(tmp_path)
    editor = Editor(tmp_path, "project", "run")
    remove_run(tmp_path, "project", "run")
    with pytest.raises(NotFoundError):
        editor.set(name="x")
    assert not model.folder.exists()


# -- a disk that refuses ---------------------------------------------------------------------------


def _refuse(*arguments: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("calls", [{"write": _refuse}, {"open_new": _refuse}, {"fsync": _refuse}])
def test_an_edit_that_cannot_be_stored_raises_and_leaves_nothing(
    tmp_path: Path, calls: dict[str, Any]
) -> None:
    """No success is told of what is only kept in memory, or was not confirmed by the disk."""
    model = a_run(tmp_path)
    before = sorted(path.name for path in model.folder.iterdir())
    editor = Editor(tmp_path, "project", "run", files=FileSystem(**calls))
    with pytest.raises(OSError, match="No space left on device"):
        editor.set(name="x")
    assert sorted(path.name for path in model.folder.iterdir()) == before
    assert record(tmp_path).name is None


def test_a_write_that_comes_back_short_is_completed_or_refused(tmp_path: Path) -> None:
    """What the call says is what a reader finds."""
    a_run(tmp_path)
    budget = iter([5])

    def once(descriptor: int, data: bytes) -> int:
        return os.write(descriptor, data[: next(budget, len(data))])

    Editor(tmp_path, "project", "run", files=FileSystem(write=once)).set(name="x")
    assert record(tmp_path).name == "x"


def test_a_failed_edit_costs_no_earlier_one(tmp_path: Path) -> None:
    """In one block, the first is stored and the second raises."""
    a_run(tmp_path)
    full = False

    def write(descriptor: int, data: bytes) -> int:
        return _refuse() if full else os.write(descriptor, data)

    with Editor(tmp_path, "project", "run", files=FileSystem(write=write)) as editor:
        editor.set(name="x")
        full = True
        with pytest.raises(OSError, match="could not be stored"):
            editor.set(name="y")
        full = False
        editor.set(notes="z")
    after = record(tmp_path)
    assert (after.name, after.notes) == ("x", "z")
