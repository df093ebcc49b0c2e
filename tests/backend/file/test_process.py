from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from trackway.backend.file import process as process_module
from trackway.backend.file.process import host_name, is_alive, process_started

from .given import until

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux and its /proc")
ME = os.getpid()


def test_this_process_is_alive() -> None:
    """With the start time it has, or where none is known."""
    assert is_alive(ME, process_started(ME))
    assert is_alive(ME, None)


@linux
def test_the_start_is_when_the_process_was_made() -> None:
    """To within the tick of the kernel's clock; the same as psutil's."""
    assert process_started(ME) == pytest.approx(psutil.Process(ME).create_time(), abs=0.02)
    before = time.time()
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = process_started(child.pid)
    child.communicate()
    assert started is not None
    assert before - 1.1 < started < time.time() + 1.1


@linux
def test_a_pid_that_is_used_again_is_another_process() -> None:
    """The pid lives, but it began at another time."""
    started = process_started(ME)
    assert started is not None
    assert not is_alive(ME, started - 10)
    assert not is_alive(ME, started + 10)
    assert is_alive(ME, started + 0.5)


def test_a_process_that_ended_is_dead() -> None:
    """Its pid is nobody's."""
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    started = process_started(child.pid)
    child.wait()
    assert not is_alive(child.pid, started)
    assert not is_alive(child.pid, None)
    assert process_started(child.pid) is None


@linux
def test_a_zombie_is_dead() -> None:
    """It has ended, though its parent has not asked after it yet."""
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    started = process_started(child.pid)
    until(lambda: psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE)
    assert not is_alive(child.pid, started)
    assert not is_alive(child.pid, None)
    child.wait()


@linux
def test_a_process_of_any_name_is_understood(tmp_path: Path) -> None:
    """The name in /proc may hold spaces and parentheses."""
    odd = tmp_path / ") S 1 (x y"
    odd.symlink_to("/bin/sleep")
    child = subprocess.Popen([odd, "60"])
    try:
        started = process_started(child.pid)
        assert started == pytest.approx(psutil.Process(child.pid).create_time(), abs=0.02)
        assert is_alive(child.pid, started)
    finally:
        child.kill()
        child.wait()


def test_a_pid_that_never_was_is_dead() -> None:
    """Beyond the largest the kernel gives."""
    assert not is_alive(2**22 + 1, None)
    assert process_started(2**22 + 1) is None


@pytest.fixture
def no_proc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A system without /proc."""

    def elsewhere(path: str) -> Path:
        return tmp_path / path.lstrip("/")

    monkeypatch.setattr(process_module, "Path", elsewhere)


@pytest.mark.usefixtures("no_proc")
def test_without_proc_the_signal_0_tells() -> None:
    """Alive, dead, and somebody else's."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert process_started(child.pid) is None
    assert is_alive(child.pid, 5.0)
    child.communicate()
    assert not is_alive(child.pid, 5.0)


@pytest.mark.usefixtures("no_proc")
def test_without_proc_a_process_of_another_user_is_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may not be signalled, and so it is there."""

    def kill(pid: int, signal: int) -> None:
        raise PermissionError(1, "not yours")

    monkeypatch.setattr(os, "kill", kill)
    assert is_alive(1, None)


def test_what_proc_refuses_to_tell_is_taken_for_dead(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A stat without fields."""
    stat = tmp_path / "proc" / "7" / "stat"
    stat.parent.mkdir(parents=True)
    stat.write_bytes(b"7 (x)")
    monkeypatch.setattr(process_module, "Path", lambda path: tmp_path / path.lstrip("/"))
    assert not is_alive(7, None)
    assert process_started(7) is None
    stat.write_bytes(b"7 (x) S " + b"0 " * 30)
    (tmp_path / "proc" / "stat").write_bytes(b"cpu 1 2 3\n")
    assert process_started(7) is None
    assert is_alive(7, 5.0)


def test_the_host_has_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one it has in the network; on systems that do not tell it, their own."""
    assert host_name() == socket.gethostname()
    monkeypatch.delattr(os, "uname")
    monkeypatch.setenv("COMPUTERNAME", "DESK")
    assert host_name() == "DESK"
    monkeypatch.delenv("COMPUTERNAME")
    assert host_name() == "localhost"
