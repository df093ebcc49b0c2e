"""Faults of real files: limits of the operating system, a small disk, folders without rights."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

import trackway
from trackway.backend.file import _trouble as trouble_module
from trackway.backend.file.blobs import BlobStore
from trackway.backend.file.writer import LogWriter

from .given import HEADER, row, told, unmeasured, until, write_rows

HOME = str(Path(trackway.__file__).parents[1])
PRELUDE = """
import os, resource, sys, time
from pathlib import Path
from trackway.backend.file import _trouble as module
from trackway.backend.file.format import Header
from trackway.backend.file.writer import LogWriter
module.RETRY_S = 0.01
path = Path(sys.argv[1])
def full(size):
    # No file of this process may grow beyond it: a write comes back short, the next one fails.
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
def free():
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
def row(step):
    return writer.row({"x": step / 8, "y": -step}, step, time=1.0)
"""


def child(code: str, *arguments: object) -> str:
    """What a program printed that did this and ended well."""
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(code), *map(str, arguments)],
        cwd=HOME,
        env=unmeasured(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def rows(steps: range) -> list[object]:
    """What the rows of the child program are read as."""
    return [row(["x", "y"], step, [step / 8, -step], 1.0) for step in steps]


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trouble_module, "RETRY_S", 0.01)


def test_a_file_that_may_not_grow_is_completed_when_it_may(tmp_path: Path) -> None:
    """The limit falls at each byte of a row in turn: short writes and EFBIG of a real file."""
    out = child(
        """
        for part in range(45):
            writer = LogWriter(path / f"{part}.log", Header("r", "p", "w", "g"))
            for step in range(3):
                assert row(step)
            full(os.fstat(writer.fd).st_size + 45 + part)
            assert row(3)
            assert [row(step) for step in range(4, 8)] == [False] * 4
            free()
            assert writer.flush()
            assert row(8)
            writer.close()
            print(writer.loss.records, writer.trouble)
        """,
        tmp_path,
    )
    assert out == "0 None\n" * 45
    for part in range(45):
        found = told(tmp_path / f"{part}.log")
        assert found.records == rows(range(9))
        assert (found.damage, found.pending) == ([], 0)


def test_a_file_that_may_never_grow_again_is_counted(tmp_path: Path) -> None:
    """Stored and lost together are all there was, and the reason is the system's."""
    path = tmp_path / "w.log"
    out = child(
        """
        module.BUFFER_LIMIT = 4500
        writer = LogWriter(path, Header("r", "p", "w", "g"))
        row(0)
        full(os.fstat(writer.fd).st_size + 450)
        for step in range(1, 1001):
            row(step)
        print(writer.loss.records, writer.loss.points, list(writer.loss.reasons))
        writer.close(0.1)
        print(writer.loss.records, writer.loss.points, writer.loss.reasons)
        """,
        path,
    )
    found = told(path)
    assert found.records == rows(range(11))
    assert (found.damage, found.pending) == ([], 0)
    assert out.splitlines() == [
        "890 1780 ['File too large']",
        "990 1980 {'File too large': 990}",
    ]


def test_what_comes_after_a_long_trouble_is_readable(tmp_path: Path) -> None:
    """Names first seen when there was no room for them, too."""
    path = tmp_path / "w.log"
    out = child(
        """
        module.BUFFER_LIMIT = 4500
        writer = LogWriter(path, Header("r", "p", "w", "g"))
        full(os.fstat(writer.fd).st_size)
        for step in range(1000):
            row(step)
        for step in range(100):
            writer.row({"a name first seen now": 1.0}, step)
        lost = writer.loss.records
        free()
        assert writer.flush()
        writer.row({"a name first seen now": 7.0}, 7, time=1.0)
        row(1000)
        writer.close()
        print(lost == writer.loss.records, lost)
        """,
        path,
    )
    found = told(path)
    assert found.records[-2] == row(["a name first seen now"], 7, [7.0], 1.0)
    assert found.records[-1] == rows(range(1000, 1001))[0]
    kept = len(found.records) - 2
    assert found.records[:kept] == rows(range(kept))
    assert out == f"True {1100 - kept}\n"
    assert (found.damage, found.pending) == ([], 0)


# -- a small disk ----------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("needs root, and Linux, to mount a small file system")
    if subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("needs root that may mount a small file system")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_disk_that_fills_and_is_freed_loses_nothing(small_disk: Path) -> None:
    """Somebody else's file fills it, and goes; each record is there once, none damaged."""
    path = small_disk / "w.log"
    writer = LogWriter(path, HEADER)
    made = write_rows(writer, ["x", "y"], range(100))
    ballast = small_disk / "ballast"
    with pytest.raises(OSError, match=r"\[Errno 28\]"), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    made += write_rows(writer, ["x", "y"], range(100, 2000))
    assert "your program goes on, up to 16 MiB" in str(writer.trouble)
    ballast.unlink()
    assert writer.flush()
    made += write_rows(writer, ["x", "y"], range(2000, 2100))
    writer.close()
    assert writer.trouble is None
    found = told(path)
    assert found.records == made
    assert (found.damage, found.pending, writer.loss.records) == ([], 0, 0)


def test_a_disk_that_fills_itself_counts_the_rest(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log alone fills it: what is stored is whole, and what is not is counted."""
    monkeypatch.setattr(trouble_module, "BUFFER_LIMIT", 100_000)
    path = small_disk / "w.log"
    writer = LogWriter(path, HEADER)
    names = [f"n{index}" for index in range(100)]
    made = write_rows(writer, names, range(3000))
    writer.close(0.1)
    found = told(path)
    stored = len(found.records)
    assert 1000 < stored < 1300
    assert found.records == made[:stored]
    assert (writer.loss.records, writer.loss.points) == (3000 - stored, 100 * (3000 - stored))
    reasons = writer.loss.reasons
    assert sum(reasons.values()) == 3000 - stored
    assert reasons["No space left on device"] > 0
    assert set(reasons) <= {"No space left on device", "the disk took only a part of a record"}
    assert found.damage == []


def test_a_blob_that_does_not_fit_leaves_nothing(small_disk: Path) -> None:
    """No part of it stays, under its digest or beside it, and the room is free again."""
    blobs = BlobStore(small_disk)
    with pytest.raises(OSError, match=r"\[Errno 28\]"):
        blobs.put(bytes(2 << 20))
    assert [file for file in small_disk.rglob("*") if file.is_file()] == []
    digest = blobs.put(b"x" * (512 << 10))
    assert blobs.get(digest) == b"x" * (512 << 10)


# -- folders and descriptors -----------------------------------------------------------------------


def test_a_removed_folder_comes_back_within_seconds(tmp_path: Path) -> None:
    """With the real clock: rm -rf while a program logs on."""
    path = tmp_path / "run" / "w.log"
    writer = LogWriter(path, HEADER)
    made = write_rows(writer, ["x"], range(100))
    shutil.rmtree(path.parent)
    step = 100

    def back() -> bool:
        nonlocal step
        made.extend(write_rows(writer, ["x"], [step]))
        step += 1
        return path.exists() and writer.trouble is None

    until(back, 10)
    writer.close()
    found = told(path)
    assert found.records == made
    assert (found.damage, writer.loss.records) == ([], 0)


def test_a_folder_without_rights_is_told_and_used_once_it_has_them(tmp_path: Path) -> None:
    """Records wait in memory until somebody makes it writable."""
    folder = tmp_path / "runs"
    folder.mkdir()
    folder.chmod(0o555)
    try:
        out = child(
            """
            os.chdir(path)  # the folders above may be closed to nobody, who we are now
            root = os.geteuid() == 0
            def become(user):
                if root: os.seteuid(user)
            become(65534)
            writer = LogWriter(Path("p", "w.log"), Header("r", "p", "w", "g"))
            for step in range(10):
                assert not row(step)
            print(writer.trouble.split(";")[0])
            become(0)
            os.chmod(".", 0o777)
            become(65534)
            assert writer.flush()
            row(10)
            writer.close()
            print(writer.loss.records)
            """,
            folder,
        )
    finally:
        folder.chmod(0o777)
    assert out == "cannot open the log (Permission denied)\n0\n"
    assert told(folder / "p" / "w.log").records == rows(range(11))


def test_a_file_in_place_of_the_folder_is_told(tmp_path: Path) -> None:
    """Everything is counted, and the file is left alone."""
    (tmp_path / "run").write_text("a file")
    writer = LogWriter(tmp_path / "run" / "w.log", HEADER)
    write_rows(writer, ["x"], range(3))
    writer.close(0.05)
    assert (tmp_path / "run").read_text() == "a file"
    assert (writer.loss.records, writer.loss.points) == (3, 3)


def test_a_program_without_descriptors_left_gets_its_log_later(tmp_path: Path) -> None:
    """EMFILE at the start; once one is free, everything is written."""
    path = tmp_path / "w.log"
    out = child(
        """
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        held = []
        try:
            while True:
                held.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            pass
        writer = LogWriter(path, Header("r", "p", "w", "g"))
        for step in range(5):
            assert not row(step)
        print(writer.trouble.split(";")[0])
        for descriptor in held:
            os.close(descriptor)
        assert writer.flush()
        assert row(5)
        for _ in range(50):
            held.append(os.dup(0))
        try:
            while True:
                held.append(os.dup(0))
        except OSError:
            pass
        assert row(6)
        writer.close()
        print(writer.loss.records)
        """,
        path,
    )
    assert out == "cannot open the log (Too many open files)\n0\n"
    found = told(path)
    assert (found.records, found.damage) == (rows(range(7)), [])


def test_a_program_that_becomes_a_daemon_keeps_its_log(tmp_path: Path) -> None:
    """It closes every descriptor; the log is opened again."""
    path = tmp_path / "w.log"
    child(
        """
        writer = LogWriter(path, Header("r", "p", "w", "g"))
        for step in range(5):
            row(step)
        os.closerange(3, 256)
        for step in range(5, 10):
            row(step)
        writer.close(5)
        assert writer.loss.records == 0
        """,
        path,
    )
    found = told(path)
    assert (found.records, found.damage) == (rows(range(10)), [])


def test_the_end_of_the_interpreter_writes_what_waits(tmp_path: Path) -> None:
    """``close`` from an exit handler, on a disk that was freed a moment before."""
    path = tmp_path / "w.log"
    child(
        """
        import atexit
        writer = LogWriter(path, Header("r", "p", "w", "g"))
        row(0)
        full(os.fstat(writer.fd).st_size + 20)
        def end():
            free()
            writer.close(5)
            assert writer.loss.records == 0
        atexit.register(end)
        for step in range(1, 10):
            row(step)
        """,
        path,
    )
    found = told(path)
    assert (found.records, found.damage, found.pending) == (rows(range(10)), [], 0)
