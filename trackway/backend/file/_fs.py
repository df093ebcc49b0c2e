"""The only calls a log writer makes to the operating system, in one replaceable place."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

resource: Any
try:
    import resource
except ImportError:  # Windows
    resource = None


def _open_new(path: Path) -> int:
    """A new file, appended to by every write and closed in programs started from here."""
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0)
    return os.open(path, flags | getattr(os, "O_BINARY", 0), 0o666)


def _open_again(path: Path) -> int:
    flags = os.O_RDWR | os.O_APPEND | getattr(os, "O_CLOEXEC", 0)
    return os.open(path, flags | getattr(os, "O_BINARY", 0))


def _waits() -> int:
    """How often this thread gave up the processor to wait for something.

    A new number each time where the system does not tell.
    """
    who = getattr(resource, "RUSAGE_THREAD", None)
    return time.perf_counter_ns() if who is None else resource.getrusage(who).ru_nvcsw


class FileSystem(msgspec.Struct):
    """File calls and clocks; a test replaces one of them to make the disk fail or crawl.

    ``write`` must be one append: whole, short, or ``OSError``.
    """

    open_new: Callable[[Path], int] = _open_new
    open_again: Callable[[Path], int] = _open_again
    write: Callable[[int, bytes], int] = os.write
    fstat: Callable[[int], os.stat_result] = os.fstat
    fsync: Callable[[int], None] = os.fsync
    truncate: Callable[[int, int], None] = os.ftruncate
    close: Callable[[int], None] = os.close
    make_folder: Callable[[Path], None] = lambda path: os.makedirs(path, exist_ok=True)
    waits: Callable[[], int] = _waits
    give_way: Callable[[], None] = lambda: time.sleep(1e-4)
    time: Callable[[], float] = time.time

    def but(self, **calls: Any) -> FileSystem:
        """The same with some calls replaced."""
        return msgspec.structs.replace(self, **calls)
