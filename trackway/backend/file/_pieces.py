"""What a writer in trouble works with: frames, half frames, losses, descriptors."""

from __future__ import annotations

import errno
import os
import threading
import time as clock
from collections import deque
from collections.abc import Callable
from typing import Final

from trackway.backend.file.format import FRAME, ROW, ROW_HEAD

RETIRED_S: Final = 5.0
FLUSH_BYTES: Final = 1 << 20


class Loss:
    """What could not be stored, and why."""

    __slots__ = ("points", "reasons", "records")

    def __init__(self) -> None:
        self.records = 0
        self.points = 0
        self.reasons: dict[str, int] = {}

    def add(self, points: int, reason: str) -> None:
        """Count one lost record of so many points."""
        self.records += 1
        self.points += points
        self.reasons[reason] = self.reasons.get(reason, 0) + 1


class Half:
    """A record, or several written at once, of which the file has only the first part.

    Attributes:
        rest: The bytes still missing.
        whole: The records that are not whole in the file, from the cut one on.
        part: How many bytes of ``whole`` the file ends with.
        end: The size of the file when it was cut.
    """

    def __init__(self, rest: bytes, whole: list[bytes], part: int, end: int) -> None:
        self.rest = rest
        self.whole = whole
        self.part = part
        self.end = end

    @classmethod
    def cut(cls, records: list[bytes], count: int, end: int) -> Half:
        """The half of a write of several records that took ``count`` bytes."""
        frames = [single for record in records for single in frames_of(record)]
        rest = b"".join(frames)[count:]
        while len(frames[0]) <= count:
            count -= len(frames.pop(0))
        return cls(rest, frames, count, end)

    def is_tail_of(self, descriptor: int, size: int) -> bool:
        """Whether the file still ends with exactly this part."""
        if size != self.end or not hasattr(os, "pread"):
            return False
        part = b"".join(self.whole)[: self.part]
        return os.pread(descriptor, self.part, size - self.part) == part

    def advance(self, count: int) -> None:
        """``count`` more bytes are in the file."""
        self.rest = self.rest[count:]
        self.part += count
        self.end += count
        while self.whole and len(self.whole[0]) <= self.part:
            self.part -= len(self.whole.pop(0))


def frames_of(data: bytes) -> list[bytes]:
    """The single frames of what was written as one."""
    frames = []
    at = 0
    while at < len(data):
        stop = at + FRAME.size + FRAME.unpack_from(data, at)[0]
        frames.append(data[at:stop])
        at = stop
    return frames


def points_of(data: bytes) -> int:
    """How many points the rows in this record hold."""
    return sum(
        (len(single) - FRAME.size - ROW_HEAD.size) // 8
        for single in frames_of(data)
        if single[FRAME.size] == ROW
    )


def copy_removed(source: int, target: int, write: Callable[[int, bytes], int]) -> None:
    """Copy a removed file that is still open."""
    offset = 0
    while data := os.pread(source, FLUSH_BYTES, offset):
        count = write(target, data)
        if count == 0:
            raise OSError(errno.ENOSPC, "the disk took nothing")
        offset += count


_retired: deque[tuple[float, int]] = deque()
"""Descriptors of closed logs and when they were closed."""


def retire(descriptor: int, close: Callable[[int], None]) -> None:
    """Close a log, but keep the number of its descriptor taken for a while.

    A thread in the middle of a log call may hold the number, and would write its record into
    whatever file of the program got that number next.
    """
    nothing = os.open(os.devnull, os.O_RDONLY)  # a write there fails, and so is counted
    try:
        os.dup2(nothing, descriptor, inheritable=False)
    finally:
        close(nothing)
    now = clock.monotonic()
    _retired.append((now, descriptor))
    while _retired and now - _retired[0][0] > RETIRED_S:
        close(_retired.popleft()[1])


def stay_if_starved() -> None:
    """Let a thread that is about to end stay where the program has no descriptor left.

    Older Pythons end a thread through glibc's ``pthread_exit``, which loads a library first, and
    aborts the whole program where it cannot. A thread that waits costs nothing.
    """
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        threading.Event().wait()


def nowhere(descriptor: int, data: bytes) -> int:
    return len(data)


def reason(error: BaseException) -> str:
    """An error as the end of a sentence."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"{type(error).__name__}: {error}"[:200]
