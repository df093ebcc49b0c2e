"""What a run's folder says to somebody about to write into it: which attempt, from which step."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

import msgspec

from trackway.backend.file.folder import logs
from trackway.backend.file.format import (
    EVENT,
    FRAME,
    HEADER,
    MAX_PAYLOAD,
    ROW,
    ROW_HEAD,
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
        live: Whether a process of that attempt is still at it.
        next_step: One more than the highest step near the end of any log.
    """

    attempt: int
    live: bool
    next_step: int


def standing(folder: Path) -> Standing | None:
    """Where the run in this folder stands; None where nothing was ever written."""
    found = [(path, header) for path in logs(folder) if (header := first_header(path))]
    if not found:
        return None
    attempt = max(header.attempt for _, header in found)
    tails = [(header, _Tail.of(path)) for path, header in found]
    ended = any(t.ended for h, t in tails if h.attempt == attempt and h.role == "train")
    live = not ended and any(
        _writes_still(path, header)
        for path, header in found
        if header.attempt == attempt and header.role != "editor"
    )
    return Standing(attempt, live, max(tail.next_step for _, tail in tails))


def first_header(path: Path) -> Header | None:
    """The header a log begins with, or None where it is damaged or not there yet."""
    try:
        with path.open("rb") as file:
            head = file.read(FRAME.size)
            if len(head) < FRAME.size:
                return None
            length = min(FRAME.unpack(head)[0], MAX_PAYLOAD)
            payload = file.read(length)
        if not payload or payload[0] != HEADER:
            return None
        return decode_header(payload)
    except (OSError, FormatError):
        return None


def _writes_still(path: Path, header: Header) -> bool:
    if header.host == host_name():
        return is_alive(header.pid, header.process_started)
    try:
        return time.time() - path.stat().st_mtime < FRESH_S
    except OSError:
        return False


class _Tail(msgspec.Struct, frozen=True):
    """What the last frames of a log say."""

    ended: bool
    next_step: int

    @classmethod
    def of(cls, path: Path) -> _Tail:
        from trackway.backend.file.scan import scan  # NumPy: only when a run is resumed

        try:
            with path.open("rb") as file:
                size = file.seek(0, 2)
                file.seek(max(0, size - TAIL_BYTES))
                data = file.read()
        except OSError:
            return cls(False, 0)
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
                if event.type == "end":
                    ended = True
                    next_step = max(next_step, int(event.fields.get("next_step") or 0))
        return cls(ended, next_step)
