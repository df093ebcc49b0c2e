"""What a run's folder says to somebody about to write into it: which attempt, from which step."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final
from zlib import crc32

import msgspec

from trackway.backend.file.folder import logs
from trackway.backend.file.format import (
    EVENT,
    FRAME,
    HEADER,
    MAX_PAYLOAD,
    ROW,
    ROW_HEAD,
    Event,
    Header,
    decode_event,
    decode_header,
)
from trackway.backend.file.process import host_name, is_alive
from trackway.errors import FormatError

__all__ = ["Standing", "standing"]

TAIL_BYTES: Final = 256 << 10

FRESH_S: Final = 60.0
"""A log of another machine that grew within this time has a living writer."""


class Standing(msgspec.Struct, frozen=True):
    """Where a run stands.

    Attributes:
        attempt: The highest attempt so far.
        live: Whether a process of that attempt is still at it on this machine.
        live_elsewhere: Whether one on another machine wrote within the last minute.
        next_step: One more than the highest step near the end of any log.
    """

    attempt: int
    live: bool
    live_elsewhere: bool
    next_step: int


class _Log(msgspec.Struct, frozen=True):
    """One log of the run; without a header where that is damaged."""

    path: Path
    header: Header | None

    @property
    def attempt(self) -> int:
        return self.header.attempt if self.header else 1

    @property
    def role(self) -> str:
        return self.header.role if self.header else "train"

    @property
    def host(self) -> str:
        return self.header.host if self.header else ""


def standing(folder: Path) -> Standing | None:
    """Where the run in this folder stands; None where nothing was ever written."""
    found = [_Log(path, first_header(path)) for path in logs(folder) if _is_begun(path)]
    if not found:
        return None
    attempt = max(log.attempt for log in found)
    tails = [(log, _Tail.of(log.path)) for log in found if log.role in ("train", "worker")]
    latest = [log for log in found if log.attempt == attempt]
    ended = any(t.ended for log, t in tails if log.attempt == attempt and log.role == "train")
    here = [log for log in latest if log.host == host_name()]
    if ended or _saw_death(latest):
        latest = here = []
    live = any(map(_writes_still, here))
    live_elsewhere = any(_writes_still(log) for log in latest if log not in here)
    return Standing(
        attempt, live, live_elsewhere, max((tail.next_step for _, tail in tails), default=0)
    )


def first_header(path: Path) -> Header | None:
    """The header a log begins with, or None where it is damaged or not there yet."""
    try:
        with path.open("rb") as file:
            head = file.read(FRAME.size)
            if len(head) < FRAME.size:
                return None
            length, checksum = FRAME.unpack(head)
            payload = file.read(min(length, MAX_PAYLOAD))
        if len(payload) != length or payload[:1] != bytes([HEADER]) or crc32(payload) != checksum:
            return None
        return decode_header(payload)
    except (OSError, FormatError):
        return None


def _is_begun(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except OSError:
        return False


def _writes_still(log: _Log) -> bool:
    if log.role == "editor":
        return False
    if log.header and log.header.host == host_name():
        # A companion outlives its training for a moment.
        return log.role != "companion" and is_alive(log.header.pid, log.header.process_started)
    try:
        return time.time() - log.path.stat().st_mtime < FRESH_S
    except OSError:
        return False


def _saw_death(found: list[_Log]) -> bool:
    """Whether the companion of the training process, one on its host, saw it die."""
    hosts = {log.host for log in found if log.role == "train"}
    companions = [log for log in found if log.role == "companion" and log.host in hosts]
    return any(_Tail.of(log.path).ended for log in companions)


class _Tail(msgspec.Struct, frozen=True):
    """What the last frames of a log say."""

    ended: bool
    next_step: int

    @classmethod
    def of(cls, path: Path) -> _Tail:
        """As much of the end as it takes to find a step or an end."""
        size = TAIL_BYTES
        while True:
            data, is_all = _last_bytes(path, size)
            tail = cls._in(data)
            if is_all or tail.ended or tail.next_step:
                return tail
            size *= 16

    @classmethod
    def _in(cls, data: bytes) -> _Tail:
        from trackway.backend.file.scan import scan  # NumPy: only when a run is resumed

        ended, next_step = False, 0
        found = scan(data)
        for start, length in zip(found.starts.tolist(), found.lengths.tolist(), strict=True):
            payload = memoryview(data)[start + FRAME.size :][:length]
            if payload[0] == ROW and length >= ROW_HEAD.size:
                next_step = max(next_step, ROW_HEAD.unpack_from(payload)[2] + 1)
            elif payload[0] == EVENT:
                try:
                    event = decode_event(payload)
                except FormatError:
                    continue
                ended |= event.type in ("end", "death")
                next_step = max(next_step, _step_behind(event))
        return cls(ended, next_step)


def _step_behind(event: Event) -> int:
    """The step that follows what an event tells of; 0 where it tells of none."""
    if event.type == "end":
        step = event.fields.get("next_step")
        return step if isinstance(step, int) else 0
    if event.type == "value":
        step = event.fields.get("step")
        return step + 1 if isinstance(step, int) else 0
    return 0


def _last_bytes(path: Path, size: int) -> tuple[bytes, bool]:
    """The last bytes of a file, and whether they are all of it."""
    try:
        with path.open("rb") as file:
            length = file.seek(0, 2)
            file.seek(max(0, length - size))
            return file.read(), length <= size
    except OSError:
        return b"", True
