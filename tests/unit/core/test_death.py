from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from trackway.backend.file.process import process_started
from trackway.core.companion import _death
from trackway.core.companion._death import Death, ProcessWatch

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux: /proc and pidfd")

SEGFAULT = "import resource, ctypes; resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); "
SEGFAULT += "ctypes.string_at(0)"

ENDS = [
    ("pass", None, Death(exit_code=0, known=True)),
    ("raise SystemExit(3)", None, Death(exit_code=3, known=True)),
    ("import os; os._exit(7)", None, Death(exit_code=7, known=True)),
    (SEGFAULT, None, Death(signal=signal.SIGSEGV, known=True)),
    ("input()", signal.SIGKILL, Death(signal=signal.SIGKILL, known=True)),
    ("input()", signal.SIGTERM, Death(signal=signal.SIGTERM, known=True)),
]


def _has_exit_in_pidfd() -> bool:
    if sys.platform != "linux":
        return False
    return tuple(map(int, os.uname().release.split(".")[:2])) >= (6, 15)


@contextmanager
def _child(code: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that runs ``code`` once its standard input has a line."""
    process = subprocess.Popen([sys.executable, "-c", f"input(); {code}"], stdin=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _end(process: subprocess.Popen[bytes], by: signal.Signals | None) -> None:
    assert process.stdin is not None
    process.stdin.write(b"\n")
    process.stdin.flush()
    if by is not None:
        process.send_signal(by)


def _wait_until_gone(watch: ProcessWatch) -> None:
    deadline = time.monotonic() + 20
    while not watch.is_gone():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@linux
@pytest.mark.parametrize(("code", "by", "expected"), ENDS)
def test_end_of_an_uncollected_process(
    code: str, by: signal.Signals | None, expected: Death
) -> None:
    """How a process ended is known while its parent has not collected it."""
    with _child(code) as process:
        watch = ProcessWatch(process.pid, process_started(process.pid))
        assert not watch.is_gone()
        _end(process, by)
        _wait_until_gone(watch)
        assert watch.death() == expected
        watch.close()


@pytest.mark.skipif(not _has_exit_in_pidfd(), reason="needs Linux 6.15")
@pytest.mark.parametrize(("code", "by", "expected"), ENDS)
def test_end_of_a_collected_process(code: str, by: signal.Signals | None, expected: Death) -> None:
    """How a process ended is known even after its parent has collected it."""
    with _child(code) as process:
        watch = ProcessWatch(process.pid, process_started(process.pid))
        _end(process, by)
        process.wait()
        assert watch.is_gone()
        assert watch.death() == expected
        watch.close()


@linux
def test_end_is_unknown_where_the_kernel_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a pidfd a collected process is noticed to be gone, and how it ended is unknown."""
    monkeypatch.setattr(_death, "_open_pidfd", lambda pid: None)
    with _child("raise SystemExit(3)") as process:
        watch = ProcessWatch(process.pid, process_started(process.pid))
        assert watch.fd is None
        assert not watch.is_gone()
        _end(process, None)
        process.wait()
        assert watch.is_gone()
        assert watch.death() == Death()


@linux
def test_end_is_known_from_a_zombie_without_pidfd(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a pidfd the exit code of an uncollected process is known all the same."""
    monkeypatch.setattr(_death, "_open_pidfd", lambda pid: None)
    with _child("raise SystemExit(3)") as process:
        watch = ProcessWatch(process.pid, process_started(process.pid))
        _end(process, None)
        _wait_until_gone(watch)
        assert watch.death() == Death(exit_code=3, known=True)


@linux
def test_a_process_dead_before_the_watch_began() -> None:
    """A zombie that we only meet as one still tells how it ended."""
    with _child("raise SystemExit(4)") as process:
        started = process_started(process.pid)
        _end(process, None)
        while _death._stat_field(process.pid, 3) != b"Z":
            time.sleep(0.005)
        watch = ProcessWatch(process.pid, started)
        assert watch.is_gone()
        assert watch.death() == Death(exit_code=4, known=True)
        watch.close()


@pytest.mark.skipif(not _has_exit_in_pidfd(), reason="needs Linux 6.15")
def test_a_process_collected_before_the_watch_began() -> None:
    """Whoever hands over a pidfd in time lets us know how even a collected process ended."""
    with _child("raise SystemExit(4)") as process:
        started = process_started(process.pid)
        pidfd = os.pidfd_open(process.pid)
        _end(process, None)
        process.wait()
        watch = ProcessWatch(process.pid, started, fd=pidfd)
        assert watch.is_gone()
        assert watch.death() == Death(exit_code=4, known=True)
        watch.close()


def test_a_pid_that_never_existed() -> None:
    """A pid nobody has is gone at once, in a way unknown."""
    with _child("pass") as process:
        _end(process, None)
        process.wait()
        watch = ProcessWatch(process.pid)
        assert watch.fd is None
        assert watch.is_gone()
        assert watch.death() == Death()


@linux
def test_a_pid_used_again_is_not_the_process() -> None:
    """A live process that started at another time is not the one meant."""
    watch = ProcessWatch(os.getpid(), 1.0)
    assert watch.fd is None
    assert watch.is_gone()
    assert watch.death() == Death()


def test_a_watch_is_closed_once() -> None:
    """Closing lets go of the pidfd and may be repeated."""
    watch = ProcessWatch(os.getpid(), process_started(os.getpid()))
    watch.close()
    watch.close()
    assert watch.fd is None


def test_fields_of_the_event() -> None:
    """The event has the three fields of the format."""
    death = Death.from_status(signal.SIGKILL)
    assert death.fields() == {"exit_code": None, "signal": 9, "known": True}
    assert Death.from_status(3 << 8).fields() == {"exit_code": 3, "signal": None, "known": True}


@linux
def test_names_with_parentheses_do_not_confuse(tmp_path: Path) -> None:
    """A process whose name holds spaces and parentheses is read aright."""
    odd = tmp_path / "a) Z 1 (b"
    odd.symlink_to("/bin/sleep")
    process = subprocess.Popen([str(odd), "60"])
    try:
        watch = ProcessWatch(process.pid, process_started(process.pid))
        assert not watch.is_gone()
        process.kill()
        _wait_until_gone(watch)
        assert watch.death() == Death(signal=9, known=True)
        watch.close()
    finally:
        process.kill()
        process.wait()
