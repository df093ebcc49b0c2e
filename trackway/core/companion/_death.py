"""Notices the death of a process that is not our child, and finds out how it ended.

Linux tells anyone who holds a pidfd: that the process is gone (the pidfd becomes readable), and
from 6.15 on with which exit status, even after its parent has collected it. Before, the status
stands in ``/proc/<pid>/stat`` for as long as the parent has not. Elsewhere we look whether the
process is still there, and how it ended stays unknown.
"""

from __future__ import annotations

import os
import select
import struct
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from trackway.backend.file.process import is_alive, process_started

__all__ = ["Death", "ProcessWatch"]

# struct pidfd_info of linux/pidfd.h, as first published: mask, cgroupid, then 12 ids of which
# the last place now holds the exit code.
_PIDFD_INFO: Final = struct.Struct("=QQ11Ii")
_PIDFD_INFO_EXIT: Final = 1 << 3
_PIDFD_GET_INFO: Final = 3 << 30 | _PIDFD_INFO.size << 16 | 0xFF << 8 | 11  # _IOWR(0xFF, 11)

_TOLERANCE_S: Final = 2.0
"""The clock of the machine may be set between two readings of a start time."""

_PATIENCE_S: Final = 0.5
"""A dead process is between two states for a moment: no zombie any more, not yet collected."""


@dataclass(frozen=True, slots=True)
class Death:
    """How a process ended: by exit code or by signal, or unknown to us (``known`` is False)."""

    exit_code: int | None = None
    signal: int | None = None
    known: bool = False

    @classmethod
    def from_status(cls, status: int) -> Death:
        """The meaning of a wait status."""
        if os.WIFSIGNALED(status):
            return cls(signal=os.WTERMSIG(status), known=True)
        return cls(exit_code=os.WEXITSTATUS(status), known=True)

    def fields(self) -> dict[str, object]:
        """The fields of the ``death`` event."""
        return {"exit_code": self.exit_code, "signal": self.signal, "known": self.known}


class ProcessWatch:
    """One process, from now until it is gone. A pid used again is never taken for it.

    Args:
        pid: The process.
        started: When it started, in seconds since 1970; None takes whoever has the pid now.
        fd: A pidfd of the process, which is sure to be the one meant; it is closed by ``close``.

    Attributes:
        fd: A pidfd, readable once the process is gone; None where there is none.
    """

    def __init__(self, pid: int, started: float | None = None, *, fd: int | None = None) -> None:
        self.pid = pid
        self._started = started
        self.fd = _open_pidfd(pid) if fd is None else fd
        # Read after the pidfd was opened: if this is the process, the pidfd is of the process.
        self._ticks = _stat_field(pid, 22)
        is_same = _is_process(pid, started)
        self._is_other = not is_same and fd is None
        if not is_same:
            self._ticks = None
        if self._is_other:
            self.close()

    def is_gone(self) -> bool:
        """Whether the process has ended; a zombie has."""
        if self._is_other:
            return True
        if self.fd is not None:
            poll = select.poll()
            poll.register(self.fd, select.POLLIN)
            return bool(poll.poll(0))
        return not is_alive(self.pid, self._started)

    def death(self) -> Death:
        """How the process ended; asked of a process that ``is_gone``. Takes half a second at most.

        Call it at once: on kernels before 6.15 the answer is there until the parent has it.
        """
        if self._is_other:
            return Death()
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            # In this order: what is collected before we look leaves its status in the pidfd.
            is_collected = self._ticks is None or _stat_field(self.pid, 22) != self._ticks
            status = self._status_of_zombie()
            if status is None:
                status = self._status_of_pidfd()
            if status is not None:
                return Death.from_status(status)
            if is_collected or time.monotonic() > deadline:
                return Death()
            time.sleep(0.01)

    def close(self) -> None:
        """Let go of the pidfd; a second call does nothing."""
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None

    def _status_of_zombie(self) -> int | None:
        state = _stat_field(self.pid, 3)
        status = _stat_field(self.pid, 52)
        if state != b"Z" or status is None or self._ticks is None:
            return None
        if _stat_field(self.pid, 22) != self._ticks:
            return None
        # The kernel shows 0 to those who may not know.
        if status == b"0" and not _may_know(self.pid):
            return None
        return int(status)

    def _status_of_pidfd(self) -> int | None:
        if self.fd is None:
            return None
        import fcntl

        request = _PIDFD_INFO.pack(_PIDFD_INFO_EXIT, *[0] * 13)
        try:
            answer = _PIDFD_INFO.unpack(fcntl.ioctl(self.fd, _PIDFD_GET_INFO, request))
        except OSError:  # a kernel before 6.13
            return None
        return answer[-1] if answer[0] & _PIDFD_INFO_EXIT else None


def _open_pidfd(pid: int) -> int | None:
    if sys.platform != "linux" or not hasattr(os, "pidfd_open"):
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:  # gone, or forbidden in this container, or an old kernel
        return None


def _is_process(pid: int, started: float | None) -> bool:
    """Whether the pid is that of the process meant, a zombie included."""
    now = process_started(pid)
    if now is None or started is None:
        return now is not None or is_alive(pid, None)
    return abs(now - started) < _TOLERANCE_S


def _stat_field(pid: int, number: int) -> bytes | None:
    """One field of /proc/<pid>/stat, counted from 1 as in its manual; not the second."""
    try:
        # The second field is the name in parentheses and may hold anything.
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[number - 3]
    except (OSError, IndexError):
        return None


def _may_know(pid: int) -> bool:
    try:
        return os.geteuid() in (0, Path(f"/proc/{pid}").stat().st_uid)
    except OSError:
        return False
