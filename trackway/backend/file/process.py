"""Which process is meant by a pid: a pid is used again, a pid and a start time are not."""

from __future__ import annotations

import os
from pathlib import Path

_TOLERANCE_S = 2.0
"""The clock of the machine may be set between two readings of its boot time."""


def process_started(pid: int) -> float | None:
    """When the process started, in seconds since 1970; None where there is no /proc.

    The same value, to within the resolution of the kernel's clock tick, as
    ``psutil.Process(pid).create_time()``.
    """
    try:
        # The name in parentheses may hold anything, so fields are counted from behind it.
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        for line in Path("/proc/stat").read_bytes().splitlines():
            if line.startswith(b"btime "):
                ticks = os.sysconf("SC_CLK_TCK")
                return int(line.split()[1]) + int(fields[19]) / ticks
    except (OSError, ValueError, IndexError):
        pass
    return None


def host_name() -> str:
    """The name of this machine, as its logs carry it."""
    if hasattr(os, "uname"):
        return os.uname().nodename or "localhost"
    return os.environ.get("COMPUTERNAME", "localhost")


def is_alive(pid: int, started: float | None) -> bool:
    """Whether this very process is still there (a zombie is not)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0]
        if state in (b"Z", b"X"):
            return False
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return False
    except (OSError, IndexError):
        return False
    else:
        now = process_started(pid)
        return started is None or now is None or abs(now - started) < _TOLERANCE_S
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
