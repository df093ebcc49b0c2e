"""The bytes of what is deleted are reclaimed, and no answer changes."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trackway.backend.file import compact as compacting
from trackway.backend.file._references import digests_in, mentions
from trackway.backend.file._survey import alone, is_deleted
from trackway.backend.file.blobs import BlobStore
from trackway.backend.file.compact import CompactReport, compact
from trackway.backend.file.edits import Editor
from trackway.backend.file.format import Event
from trackway.backend.file.reader import LogReader
from trackway.backend.file.remove import put_aside, remove_run
from trackway.backend.file.run_logs import RunLogs
from trackway.backend.file.writer import LogWriter
from trackway.backend.record import tell_record
from trackway.errors import NotFoundError

from .test_deletions import Model, actions, answers, played

SMALL = [("row", 0, step, float(step), {"loss": step / 2, "val/acc": 1.0}) for step in range(50)]


def frames(folder: Path) -> list[tuple[str, int, Event]]:
    """Every event of a run but those of compactions and of values, in order."""
    found = []
    for path in sorted(folder.glob("*.log")):
        for offset, event in LogReader(path).read().events:
            if event.type not in ("compacted", "value"):
                found.append((path.name, 0 * offset, event))
    return found


def a_run(root: Path, name: str = "run", steps: list[tuple[Any, ...]] = SMALL) -> Model:
    """A run of 50 rows, ended."""
    model = Model(root / "project" / name)
    for kind, *arguments in steps:
        getattr(model, kind)(*arguments)
    model.finish()
    return model


@settings(deadline=None, max_examples=80)
@given(steps=actions())
def test_a_compacted_run_answers_what_it_answered_before(steps: list[tuple[Any, ...]]) -> None:
    """Twice over; what was deleted is in no file any more, and a second time nothing is to do."""
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        model = played(root / "project" / "run", steps)
        before, events = answers(model.folder), frames(model.folder)
        report = compact(root)
        gone = sum(point.deleted for point in model.points)
        assert (report.points_removed, report.skipped) == (gone, [])
        assert report.logs == len({point.log for point in model.points if point.deleted})
        assert (answers(model.folder), frames(model.folder)) == (before, events)
        for delete_log in model.folder.glob("editor*.log"):
            aside = delete_log.rename(root / "editor")
            assert answers(model.folder) == before  # the values themselves are gone
            aside.rename(delete_log)
        assert compact(root) == CompactReport()


LATE = st.lists(actions().map(lambda steps: [s for s in steps if s[0] == "delete"]), max_size=2)


@settings(deadline=None, max_examples=40)
@given(steps=actions(), late=LATE)
def test_deletions_that_become_known_late_apply(
    steps: list[tuple[Any, ...]], late: list[list[tuple[Any, ...]]]
) -> None:
    """They name the files as they were before any compaction; each batch comes after one."""
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        model = played(root / "project" / "run", steps)
        known = len(model.deletes)
        for batch in late:
            for _, *arguments in batch:
                model.delete(*arguments)
        unseen = model.deletes[known:]
        expected = model.answers()
        while True:
            assert compact(root).skipped == []
            if not unseen:
                break
            model.note(unseen.pop(0))
        assert answers(model.folder) == expected
        for editor in model.folder.glob("editor*"):
            editor.unlink()
        assert answers(model.folder) == expected


def test_a_deletion_made_before_two_compactions_applies_after_them(tmp_path: Path) -> None:
    """It became known only then, and names a file that was replaced twice."""
    model = a_run(tmp_path)
    late = []
    for keys, start in ((["loss"], 40), (["val/acc"], 45), (["loss"], 30)):
        model.delete(keys, start, None)
        late.append(model.deletes.pop())
    for index, fields in enumerate(late):
        model.note(fields)
        assert compact(tmp_path).points_removed == (10, 5, 10)[index]
    assert answers(model.folder) == model.answers()


def test_the_numbers_of_a_compaction_are_exact(tmp_path: Path) -> None:
    """Bytes as the disk has them, points as they were hidden, progress to the last byte."""
    model = a_run(tmp_path)
    with Editor(tmp_path, "project", "run") as editor:
        assert editor.delete_points("loss", start=10) == 40
    path = model.path(0)
    before = path.stat()
    seen: list[int] = []
    report = compact(tmp_path, progress=seen.append)
    after = path.stat()
    assert (report.runs, report.logs, report.points_removed) == (1, 1, 40)
    assert (report.bytes_before, report.bytes_after) == (before.st_size, after.st_size)
    assert after.st_size < before.st_size - 40 * 8 + 400
    assert (after.st_mtime_ns, after.st_mode) == (before.st_mtime_ns, before.st_mode)
    assert sum(seen) >= before.st_size
    assert list(model.folder.glob(".*")) == []


def test_nothing_deleted_is_nothing_to_do(tmp_path: Path) -> None:
    """No file is touched."""
    model = a_run(tmp_path)
    before = model.path(0).stat()
    assert compact(tmp_path) == CompactReport()
    assert model.path(0).stat() == before or model.path(0).stat().st_ino == before.st_ino


def test_an_old_copy_that_is_merged_back_stays_hidden(tmp_path: Path) -> None:
    """The deletions name its generation; compacted again it is small again."""
    model = a_run(tmp_path)
    with Editor(tmp_path, "project", "run") as editor:
        editor.delete_points("loss")
    before, old = answers(model.folder), model.path(0).read_bytes()
    compact(tmp_path)
    small = model.path(0).stat().st_size
    model.path(0).write_bytes(old)
    assert answers(model.folder) == before
    assert compact(tmp_path).points_removed == 50
    assert model.path(0).stat().st_size == small
    assert answers(model.folder) == before


def test_a_reader_that_has_the_file_open_reads_a_whole_one(tmp_path: Path) -> None:
    """The old one to its end; refreshed, the new one from its start."""
    model = a_run(tmp_path)
    logs = RunLogs(model.folder)
    logs.refresh()
    reader = LogReader(model.path(0))
    stretches = reader.stretches()
    with model.path(0).open("rb") as old:
        Editor(tmp_path, "project", "run").delete_points("loss")
        compact(tmp_path)
        assert len(old.read()) > model.path(0).stat().st_size
    assert sum(batch.points for batch in stretches) == 50
    assert logs.refresh()
    assert (logs.keys(), logs.points) == (["val/acc"], 50)


def test_the_record_of_a_run_stays(tmp_path: Path) -> None:
    """State, times, name: nothing but points goes."""
    model = a_run(tmp_path)
    with Editor(tmp_path, "project", "run") as editor:
        editor.set(name="calm-otter", tags=["a"])
        editor.delete_points()
    logs = RunLogs(model.folder)
    logs.refresh()
    before = tell_record(logs)
    compact(tmp_path)
    logs = RunLogs(model.folder)
    logs.refresh()
    assert tell_record(logs) == before
    assert logs.keys() == []


def test_the_highest_step_stays_known(tmp_path: Path) -> None:
    """A run that is resumed goes on behind it, though no point of it is left."""
    model = Model(tmp_path / "project" / "run")
    for step in range(5):
        model.row(0, step, 0.0, {"loss": 1.0})
    _quiet(model)
    Editor(tmp_path, "project", "run").delete_points()
    compact(tmp_path)
    from trackway.backend.file.attempts import standing

    place = standing(model.folder)
    assert place is not None
    assert place.next_step == 5
    rows = LogReader(model.path(0)).read().rows
    assert [(r.steps.tolist(), r.values.shape) for r in rows] == [([4], (1, 0))]


def _quiet(model: Model) -> None:
    """Let the logs look as if nobody had written for an hour."""
    for number in range(3):
        os.utime(model.path(number), (time.time() - 3600,) * 2)


# -- what is left alone ----------------------------------------------------------------------------


def _living(root: Path) -> LogWriter:
    writer = LogWriter.create(root, project="project", run="alive")
    writer.row({"loss": 1.0, "acc": 2.0}, 0)
    return writer


def test_a_live_run_is_left_alone_and_told(tmp_path: Path) -> None:
    """Its points are hidden, and reclaimed once it has ended."""
    writer = _living(tmp_path)
    assert Editor(tmp_path, "project", "alive").delete_points("loss") == 1
    writer.row({"loss": 3.0, "acc": 2.0}, 1)
    (skipped,) = compact(tmp_path).skipped
    assert (skipped.project, skipped.run) == ("project", "alive")
    assert skipped.reason == "the run is still being recorded"
    writer.event("end", {"state": "finished"})
    writer.close()
    assert compact(tmp_path).points_removed == 1
    logs = RunLogs(tmp_path / "project" / "alive")
    logs.refresh()
    assert logs.columns("loss").steps.tolist() == [1]


def test_a_worker_that_outlives_the_run_is_left_alone(tmp_path: Path) -> None:
    """The run has ended, but this process, which writes a log of it, has not."""
    model = a_run(tmp_path)
    worker = LogWriter.create(tmp_path, project="project", run="run", role="worker")
    worker.row({"loss": 1.0}, 0)
    Editor(tmp_path, "project", "run").delete_points("loss")
    report = compact(tmp_path)
    assert [s.reason for s in report.skipped] == [
        f"the process that writes it (pid {os.getpid()}) is still alive"
    ]
    assert report.points_removed == 50
    worker.row({"loss": 2.0}, 1)
    worker.close()
    logs = RunLogs(model.folder)
    logs.refresh()
    assert logs.columns("loss").values.tolist() == [2.0]


def test_a_machine_that_may_still_write_is_waited_for(tmp_path: Path) -> None:
    """Its log tells of no end, and it was heard of some minutes ago."""
    model = Model(tmp_path / "project" / "run")
    model.row(0, 0, 0.0, {"loss": 1.0})
    _quiet(model)
    os.utime(model.path(1), (time.time() - 300,) * 2)
    Editor(tmp_path, "project", "run").delete_points("loss")
    (skipped,) = compact(tmp_path).skipped
    assert skipped.reason == "it tells of no end, and elsewhere may still be writing to it"
    _quiet(model)
    assert compact(tmp_path).points_removed == 1


def test_a_damaged_log_is_left_alone(tmp_path: Path) -> None:
    """What can be read of it may be what makes it whole again."""
    model = a_run(tmp_path)
    data = bytearray(model.path(0).read_bytes())
    data[len(data) // 2] ^= 1
    model.path(0).write_bytes(data)
    Editor(tmp_path, "project", "run").delete_points("loss")
    before = answers(model.folder)
    (skipped,) = compact(tmp_path).skipped
    assert skipped.log == "log-0.log"
    assert skipped.reason == "it is damaged; deleted points stay hidden in it"
    assert model.path(0).read_bytes() == data
    assert answers(model.folder) == before


def test_what_a_dead_writer_began_is_kept(tmp_path: Path) -> None:
    """The torn tail of a log is at its end as before."""
    model = a_run(tmp_path)
    with model.path(0).open("ab") as file:
        file.write(b"\x20\x00\x00\x00half")
    Editor(tmp_path, "project", "run").delete_points("loss")
    assert compact(tmp_path).points_removed == 50
    reader = LogReader(model.path(0))
    assert reader.read().damage == []
    assert reader.pending == 8
    assert model.path(0).read_bytes().endswith(b"\x20\x00\x00\x00half")


def test_a_log_that_changes_meanwhile_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is compared before it is replaced."""
    model = a_run(tmp_path)
    Editor(tmp_path, "project", "run").delete_points("loss")
    check = compacting._check

    def checked(*arguments: Any) -> None:
        check(*arguments)
        with model.path(0).open("ab") as file:
            file.write(b"\x00")

    monkeypatch.setattr(compacting, "_check", checked)
    (skipped,) = compact(tmp_path).skipped
    assert skipped.reason == "it changed meanwhile"
    assert list(model.folder.glob(".*")) == []


# -- deleted runs and blobs ------------------------------------------------------------------------


def test_a_deleted_run_is_removed_for_good(tmp_path: Path) -> None:
    """With its blobs; one whose deletion was taken back stays."""
    store = BlobStore(tmp_path)
    own = store.put(b"own")
    a_run(tmp_path, "one", [*SMALL, ("value", 0, 1, 0.0, {"image": own})])
    a_run(tmp_path, "two")
    for run in ("one", "two"):
        Editor(tmp_path, "project", run).set(deleted=True)
    Editor(tmp_path, "project", "two").set(deleted=False)
    report = compact(tmp_path)
    assert (report.runs, report.logs, report.blobs_removed, report.skipped) == (1, 0, 1, [])
    assert [path.name for path in (tmp_path / "project").iterdir()] == ["two"]
    assert not store.path(own).exists()
    assert report.bytes_after == 0
    assert report.bytes_before > 50 * 45


def _deleted(root: Path, *names: str) -> list[Path]:
    for name in names:
        a_run(root, name)
        Editor(root, "project", name).set(deleted=True)
    return [root / "project" / name for name in names]


@pytest.mark.parametrize("moment", ["before", "renamed"])
@pytest.mark.parametrize("change", ["restore", "resume"])
def test_a_run_that_somebody_wants_back_meanwhile_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str, change: str
) -> None:
    """Restored or resumed after it was found deleted; the others go all the same."""
    _deleted(tmp_path, "a", "b", "c")
    writers: list[LogWriter | None] = []

    def wanted() -> None:
        if change == "restore":
            Editor(tmp_path, "project", "b").set(deleted=False)
        else:
            writer = LogWriter.create(tmp_path, project="project", run="b", attempt=3)
            writer.row({"loss": 1.0}, 60)
            writers.append(writer)

    def aside(folder: Path) -> Path:
        if folder.name == "b":
            wanted()
        return put_aside(folder)

    def looked(path: Path, told: Any) -> bool:
        if path.parent.name == "b" and not writers:
            writers.append(None)
            wanted()
        return True

    if moment == "renamed":
        monkeypatch.setattr(compacting, "put_aside", aside)
    else:
        monkeypatch.setattr(compacting, "mentions_deletion", looked)
    report = compact(tmp_path)
    reasons = {
        ("restore", "renamed"): ["it was restored meanwhile"],
        ("restore", "before"): [],
        ("resume", "renamed"): ["the run is still being recorded"],
        ("resume", "before"): ["the run is still being recorded"],
    }
    assert [s.reason for s in report.skipped] == reasons[change, moment]
    assert report.runs == 2
    assert [path.name for path in (tmp_path / "project").iterdir()] == ["b"]
    assert len(list((tmp_path / "project" / "b").glob("*.log"))) == 6
    for writer in filter(None, writers):
        writer.close()


def test_a_restore_that_comes_too_late_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No success is told of a run that is gone."""
    _deleted(tmp_path, "a")
    editor, wanted = Editor(tmp_path, "project", "a"), compacting._refuse_if_wanted

    def late(aside: Path) -> None:
        wanted(aside)
        with pytest.raises(NotFoundError):
            editor.set(deleted=False)

    monkeypatch.setattr(compacting, "_refuse_if_wanted", late)
    assert compact(tmp_path).runs == 1
    assert list((tmp_path / "project").iterdir()) == []


@pytest.mark.parametrize("moment", ["found", "renamed"])
def test_a_run_that_another_process_removes_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """It is told, and the others are removed."""
    folders = _deleted(tmp_path, "a", "b", "c")

    def found(logs: Any) -> bool:
        if folders[1].exists() and logs[0].path.parent == folders[1]:
            shutil.rmtree(folders[1])
        return is_deleted(logs)

    def aside(folder: Path) -> Path:
        gone = put_aside(folder)
        if folder == folders[1]:
            shutil.rmtree(gone)
        return gone

    if moment == "found":
        monkeypatch.setattr(compacting, "is_deleted", found)
    else:
        monkeypatch.setattr(compacting, "put_aside", aside)
    report = compact(tmp_path)
    assert [(s.run, s.reason) for s in report.skipped] == [("b", "it was removed meanwhile")]
    assert report.runs == 2
    assert list((tmp_path / "project").iterdir()) == []


@pytest.mark.parametrize("call", ["rename", "rmtree"])
def test_a_run_that_cannot_be_removed_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """It is told, and goes with a later compaction."""
    _deleted(tmp_path, "a", "b", "c")
    rmtree = shutil.rmtree

    def refused(path: Path, do: Any) -> Any:
        if "b" in path.name.split("."):
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return do(path)

    with monkeypatch.context() as patch:
        if call == "rename":
            patch.setattr(compacting, "put_aside", lambda path: refused(path, put_aside))
        else:
            patch.setattr(shutil, "rmtree", lambda path: refused(path, rmtree))
        report = compact(tmp_path)
    (skipped,) = report.skipped
    assert (skipped.project, skipped.run) == ("project", "b")
    assert "Input/output error" in skipped.reason
    assert len(list((tmp_path / "project").iterdir())) == 1
    report = compact(tmp_path)
    assert report.skipped == []
    assert report.bytes_before > 0
    assert list((tmp_path / "project").iterdir()) == []


@pytest.mark.parametrize("killed", [False, True])
def test_blobs_of_deleted_points_wait_for_live_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    """They are written down before the points go, and collected later; also after a kill."""
    store = BlobStore(tmp_path)
    own = store.put(b"own")
    a_run(tmp_path, "one", [("value", 0, 1, 0.0, {"image": own})])
    Editor(tmp_path, "project", "one").delete_points("image")
    writer = _living(tmp_path)
    if killed:
        with monkeypatch.context() as patch:
            patch.setattr(compacting, "_finish", lambda root, report: None)
            assert compact(tmp_path).points_removed == 1
        assert compact(tmp_path).blobs_waiting == 1
    else:
        report = compact(tmp_path)
        until = store.path(own).stat().st_mtime + 3600.0
        assert (report.blobs_removed, report.blobs_waiting) == (0, 1)
        assert report.blobs_wait_until == until
    writer.event("end", {"state": "finished"})
    writer.close()
    assert compact(tmp_path) == CompactReport(bytes_before=3, blobs_removed=1)
    assert not store.path(own).exists()
    assert compact(tmp_path) == CompactReport()


def test_blobs_of_deleted_points_go_unless_somebody_has_them(tmp_path: Path) -> None:
    """The values told of both; another run tells of one."""
    store = BlobStore(tmp_path)
    both, one = store.put(b"both"), store.put(b"one")
    a_run(tmp_path, "one", [("value", 0, 1, 0.0, {"image": [both, one]})])
    a_run(tmp_path, "two", [("value", 0, 1, 0.0, {"image": both})])
    Editor(tmp_path, "project", "one").delete_points("image")
    report = compact(tmp_path)
    assert (report.points_removed, report.blobs_removed) == (1, 1)
    assert (store.path(both).exists(), store.path(one).exists()) == (True, False)


@settings(deadline=None)
@given(
    st.lists(st.one_of(st.binary(max_size=40), st.text("0f3a", max_size=150).map(str.encode))),
    st.binary(max_size=80),
)
def test_digests_are_found_wherever_they_are(parts: list[bytes], behind: bytes) -> None:
    """Every 64 digits in a row, whatever is around them."""
    data = b"".join(parts) + behind
    slow = {
        data[at : at + 64].decode()
        for at in range(len(data) - 63)
        if set(data[at : at + 64]) <= set(b"0123456789abcdef")
    }
    assert digests_in(data) == slow


def test_digests_are_found_across_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However the file is cut."""
    from trackway.backend.file import _references

    path = tmp_path / "log"
    path.write_bytes(b"x" * 37 + b"ab" * 32 + b"y" * 11 + b"01" * 32)
    for size in (1, 7, 64, 100):
        monkeypatch.setattr(_references, "_PIECE", size)
        assert mentions(path) == {"ab" * 32, "01" * 32}
        assert mentions(path, ["ab" * 32, "cd" * 32]) == {"ab" * 32}


# -- death -----------------------------------------------------------------------------------------

CHILD = """
import os, signal, sys
from pathlib import Path
from trackway.backend.file import _rewrite, compact, remove
print("ready", flush=True)
place = sys.stdin.readline().strip()
def die(*arguments, **named):
    os.kill(os.getpid(), signal.SIGKILL)
if place == "fsync":
    os.fsync = die
elif place == "replace":
    Path.replace = die
elif place == "replaced":
    compact._sync = die
elif place == "half":
    _rewrite._Work.finish = die
compact.compact(Path(sys.argv[1]))
print("done", flush=True)
"""


@pytest.fixture
def child(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that compacts the root once it is told where to die."""
    environment = {n: v for n, v in os.environ.items() if not n.startswith("COVERAGE")}
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=Path(__file__).parents[3],
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
        process.kill()


def _tell(process: subprocess.Popen[str], place: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{place}\n")
    process.stdin.flush()


@pytest.mark.parametrize("place", ["half", "fsync", "replace", "replaced"])
def test_a_kill_leaves_the_old_log_or_the_new_one(
    tmp_path: Path, child: subprocess.Popen[str], place: str
) -> None:
    """Never both, never a part; the next compaction clears up and finishes."""
    model = a_run(tmp_path)
    Editor(tmp_path, "project", "run").delete_points("loss", stop=30)
    before, old = answers(model.folder), model.path(0).read_bytes()
    _tell(child, place)
    assert child.wait(30) == -signal.SIGKILL
    assert (model.path(0).read_bytes() == old) is (place != "replaced")
    assert answers(model.folder) == before
    assert len(list(model.folder.glob(".*"))) == (place != "replaced")
    assert compact(tmp_path).points_removed == (0 if place == "replaced" else 31)
    assert list(model.folder.glob(".*")) == []
    assert answers(model.folder) == before


@pytest.mark.parametrize("seed", range(3))
def test_a_kill_at_any_moment_changes_no_answer(
    tmp_path: Path, child: subprocess.Popen[str], seed: int
) -> None:
    """Some megabytes, several logs, a moment by chance."""
    chance = random.Random(seed)
    model = Model(tmp_path / "project" / "run")
    writers = [
        LogWriter.create(tmp_path, project="project", run="run", role=role)
        for role in ("train", "worker")
    ]
    for writer in writers:
        for step in range(8000):
            writer.row({"loss": step / 3, "val/acc": 1.0, "a": 0.5}, step)
        writer.event("end", {"state": "finished"})
        writer.close()
    model.finish()
    Editor(tmp_path, "project", "run").delete_points(["loss"], stop=7000)
    before = answers(model.folder)
    _tell(child, "")
    time.sleep(chance.uniform(0.0, 0.15))
    child.kill()
    child.wait()
    assert answers(model.folder) == before
    compact(tmp_path)
    assert answers(model.folder) == before
    assert list(model.folder.glob(".*")) == []
    assert compact(tmp_path) == CompactReport()
    remove_run(tmp_path, "project", "run")


def test_two_compactions_do_not_meet(tmp_path: Path) -> None:
    """The second one leaves the run to the first."""
    model = a_run(tmp_path)
    Editor(tmp_path, "project", "run").delete_points("loss")
    with alone(model.folder):
        (skipped,) = compact(tmp_path).skipped
    assert skipped.reason == "another process is compacting it"
    assert compact(tmp_path).points_removed == 50
