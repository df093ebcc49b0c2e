"""Disks that fill, folders that go, companions that die: the training does not notice."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

import trackway as tw
from trackway.api import StoredRun
from trackway.core import _launch
from trackway.core.run import Run

from .conftest import Program

Begin = Callable[..., Run]
Stored = Callable[[Run], StoredRun]

DISK = """
import resource, sys, time
import trackway as tw
run = tw.init(settings={"companion": False, "console": False})
def full(size):
    # No file of this process may grow beyond it: writes come back short, then fail.
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
def free():
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
"""


def test_a_disk_that_fills_and_is_freed_costs_nothing(program: Program) -> None:
    """What was logged meanwhile is kept in memory and written; one sentence told of it."""
    code, out, err = program.run(
        DISK
        + """
for step in range(3000):
    if step == 1000: full(90_000)
    if step == 2000: free()
    run.log({"x": float(step), "y": 1.0})
print("trained")
"""
    )
    assert (code, out) == (0, b"trained\n")
    told = err.decode().splitlines()
    assert len([line for line in told if "your program goes on, up to 16 MiB" in line]) == 1
    assert not [line for line in told if "lost" in line and "nothing was lost" not in line]
    run = program.stored()
    assert run.history("x")["x"].values.tolist() == [float(step) for step in range(3000)]
    assert run.lost_points == 0
    assert not [damage for writer in run._logs.writers for damage in writer.damage]


def test_a_disk_that_stays_full_is_told_with_what_was_lost(program: Program) -> None:
    """The training completes with its own exit code, and the loss is counted in points."""
    code, out, err = program.run(
        DISK
        + """
full(50_000)
for step in range(3000):
    run.log({"x": float(step), "y": 1.0})
print("trained")
run.finish(timeout_s=0.3)
sys.exit(5)
"""
    )
    assert (code, out) == (5, b"trained\n")
    run = program.stored()
    found = run.history("x")["x"].values.tolist()
    assert found == [float(step) for step in range(len(found))]
    assert 1000 < len(found) < 1200
    lost = 2 * (3000 - len(found))
    assert f"trackway: {lost} points (" in err.decode()
    assert "File too large" in err.decode()


def test_a_disk_that_is_full_longer_than_memory_lasts(program: Program) -> None:
    """Past the buffer records are counted as lost; what comes after the disk is freed is found."""
    code, _, err = program.run(
        "import trackway.backend.file._trouble as w\nw.BUFFER_LIMIT = 20_000\n"
        + DISK
        + """
for step in range(3000):
    if step == 500: full(40_000)
    if step == 2500:
        free()
        time.sleep(2.5)
    run.log({"x": float(step)})
run.log({"new name": 1.0})
"""
    )
    assert code == 0
    run = program.stored()
    found = run.history("x")["x"].values.tolist()
    lost = 3000 - len(found)
    assert 500 < lost < 2000
    assert run.lost_points == lost
    assert found[:500] == [float(step) for step in range(500)]
    assert found[-500:] == [float(step) for step in range(2500, 3000)]
    assert run.keys() == ["new name", "x"]
    assert f"{lost} points" in err.decode()


def test_busy_threads_are_not_a_slow_disk(tmp_path: Path) -> None:
    """Waiting for the interpreter is no reason to coalesce: a kill costs nothing."""
    memory = Path("/dev/shm")  # no disk at all, where there is one: this machine's may be slow
    place = tempfile.mkdtemp(dir=memory if os.access(memory, os.W_OK) else tmp_path)
    program = Program(tmp_path, Path(place) / "runs")
    process = program.start(
        """
        import sys, threading, time
        import trackway as tw
        run = tw.init(settings={"companion": False, "console": False})
        def spin():
            while True:
                sum(range(1000))
        for _ in range(3):
            threading.Thread(target=spin, daemon=True).start()
        for step in range(200):
            run.log({"x": float(step)})
            time.sleep(0.01)
        print(run._writer.trouble, flush=True)
        time.sleep(60)
        """
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"None\n"
        process.kill()
        assert len(program.stored().history("x")["x"]) == 200
    finally:
        program.end()
        shutil.rmtree(place)


def test_a_removed_folder_comes_back_with_everything(begin: Begin, root: Path) -> None:
    """rm -rf during training: the next records and all former ones are there at the end."""
    run = begin(config={"lr": 1})
    for step in range(100):
        run.log({"x": float(step)})
    shutil.rmtree(root)
    deadline = time.monotonic() + 20
    step = 100
    while not run.path.exists():
        assert time.monotonic() < deadline
        run.log({"x": float(step)})
        step += 1
        time.sleep(0.01)
    run.log({"x": float(step)})
    run.finish()
    back = tw.Api(root).run(run.id)
    assert back.history("x")["x"].values.tolist() == [float(s) for s in range(step + 1)]
    assert (back.config, back.state, back.lost_points) == ({"lr": 1}, "finished", 0)


def test_a_folder_removed_just_before_the_end_comes_back(begin: Begin, root: Path) -> None:
    """Also when nothing was logged since."""
    run = begin()
    run.log({"x": 1.0})
    shutil.rmtree(root)
    run.finish()
    assert tw.Api(root).run(run.id).history("x")["x"].values.tolist() == [1.0]


def test_a_moved_folder_is_written_where_it_went(begin: Begin, root: Path) -> None:
    """mv during training: the file keeps growing in its new place."""
    run = begin()
    run.log({"x": 1.0})
    root.rename(root.with_name("moved"))
    run.log({"x": 2.0})
    run.finish()
    moved = tw.Api(root.with_name("moved")).run(run.id)
    assert moved.history("x")["x"].values.tolist() == [1.0, 2.0]


def test_where_nothing_can_be_written_training_goes_on(
    begin: Begin,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Neither the folder nor that for temporary files: kept in memory, and the loss is told."""
    import tempfile

    (tmp_path / "file").write_text("")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "file" / "tmp"))
    run = begin(dir=tmp_path / "file" / "runs")
    for step in range(10):
        run.log({"x": float(step), "y": 1.0})
    run.finish(timeout_s=0.1)
    told = capsys.readouterr().err
    assert "Not a directory" in told
    assert "20 points (" in told


def companion_of(run: StoredRun) -> psutil.Process:
    """The process that wrote the companion's log."""
    header = next(w.header for w in run._logs.writers if w.header and w.header.role == "companion")
    return psutil.Process(header.pid)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_companion_that_dies_or_hangs_is_not_noticed(
    program: Program, how: signal.Signals
) -> None:
    """Training goes on and finishes; the run says finished."""
    process = program.start(
        """
        import sys, time
        import trackway as tw
        run = tw.init()
        run.log({"x": 0.0})
        print("up", flush=True)
        sys.stdin = None
        time.sleep(1.5)
        for step in range(1, 1000): run.log({"x": float(step)})
        print("trained", flush=True)
        """
    )
    assert process.stdout is not None
    process.stdout.readline()
    run = program.settled(lambda run: bool(run.system()))
    companion = companion_of(run)
    companion.send_signal(how)
    try:
        out, err = process.communicate(timeout=20)
        assert (process.returncode, out, err) == (0, b"trained\n", b"")
        run = program.stored()
        assert run.state == "finished"
        assert len(run.history("x")["x"]) == 1000
    finally:
        if how == signal.SIGSTOP:
            companion.kill()


def test_a_killed_companion_and_a_killed_training_are_still_told_apart(program: Program) -> None:
    """With nobody left to record the end, readers see that the process is gone: killed."""
    process = program.start(
        """
        import time
        import trackway as tw
        run = tw.init(settings={"companion": False})
        run.log({"x": 0.0})
        print("up", flush=True)
        time.sleep(60)
        """
    )
    assert process.stdout is not None
    process.stdout.readline()
    assert program.stored().state == "running"
    process.kill()
    process.wait()
    run = program.stored()
    assert run.state == "killed"
    assert run.ended is not None


def test_a_companion_that_cannot_be_started_is_told_once(
    begin: Begin, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A frozen program has no interpreter to start: one sentence, and the run records."""
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    run = begin(settings={"console": False})
    run.log({"x": 1.0})
    run.finish()
    assert "no companion was started: the program is frozen" in capsys.readouterr().err


@pytest.mark.swallows
def test_a_system_without_processes_left_is_survived(
    begin: Begin, stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EAGAIN when the companion is to be started: the run lacks it, and nothing else."""

    def refuse(spec: object) -> object:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(_launch, "launch", refuse)
    run = begin(settings={"console": False})
    run.log({"x": 1.0})
    run.finish()
    assert stored(run).history("x")["x"].values.tolist() == [1.0]
    assert stored(run).state == "finished"


def test_a_companion_that_crashes_at_start_is_survived(program: Program) -> None:
    """Its own imports fail (psutil is broken here): training ends as ever."""
    (program.folder / "broken").mkdir()
    (program.folder / "broken" / "psutil.py").write_text("raise ImportError('broken')")
    code, out, err = program.run(
        "import trackway as tw\nrun = tw.init()\nrun.log({'x': 1.0})\nprint('ok')",
        PYTHONPATH=os.pathsep.join(
            [str(program.folder / "broken"), program.environment()["PYTHONPATH"]]
        ),
    )
    assert (code, out, err) == (0, b"ok\n", b"")
    assert program.stored().state == "finished"


def test_modules_beside_the_script_are_not_imported_by_the_companion(program: Program) -> None:
    """A user's json.py, random.py and git.py stay theirs."""
    for name in ("json", "random", "git", "psutil", "select", "types"):
        (program.folder / f"{name}.py").write_text(
            f"open({str(program.folder / 'imported')!r}, 'a').write({name!r})"
        )
    code, _, err = program.run(
        "import sys; sys.path.pop(0)\nimport trackway as tw\nrun = tw.init()\nrun.log({'x': 1.0})\n"
        "import time; time.sleep(1)"
    )
    assert (code, err) == (0, b"")
    run = program.settled(lambda run: bool(run.system()))
    assert not (program.folder / "imported").exists()
    assert run.system()["process.count"].values[0] >= 1


def test_what_went_wrong_is_told_by_the_run(program: Program) -> None:
    """The sentences of a run's troubles are stored with their counts."""
    program.run(
        "import trackway as tw\nrun = tw.init(settings={'companion': False})\n"
        "for _ in range(3): run.log({'o': object()})"
    )
    troubles = program.stored().troubles
    assert [(t["place"], t["reason"], t["count"]) for t in troubles] == [("log", "value o", 3)]
