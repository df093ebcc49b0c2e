"""What the logs of a run say that is to be compacted, apart from its points."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from trackway.backend.file._order import began, events_in_order
from trackway.backend.file.deletions import DELETION_EVENTS
from trackway.backend.file.format import Event, Header
from trackway.backend.file.reader import LogReader

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

__all__ = ["BusyError", "Survey", "alone", "is_deleted", "mentions_deletion"]

_PIECE: Final = 8 << 20


class BusyError(Exception):
    """Something cannot be compacted now; the message says why."""


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Let no other compaction or removal work on the folder; where the file system can tell.

    The lock stays with the folder when it is renamed.

    Raises:
        BusyError: Another one does.
    """
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError("another process is compacting it") from None
        except OSError:
            pass  # no locks here: what is there is compared before anything is replaced
        yield
    finally:
        os.close(descriptor)


@dataclass(slots=True)
class Survey:
    """What one log says, apart from its points."""

    path: Path
    reader: LogReader
    status: os.stat_result
    events: list[tuple[int, Event]] = field(default_factory=list)
    headers: list[Header] = field(default_factory=list)
    damaged: bool = False
    told_end: bool = False

    @classmethod
    def of(cls, path: Path) -> Survey:
        log = cls(path, LogReader(path), path.stat())
        for batch in log.reader.stretches():
            log.events += [
                (offset, event)
                for offset, event in batch.events
                if event.type in DELETION_EVENTS or event.type == "run"
            ]
            log.damaged |= bool(batch.damage)
            log.told_end |= any(event.type in ("end", "death") for _, event in batch.events)
            log.headers += batch.headers
        return log

    @property
    def ended(self) -> bool:
        """Whether its writer said that nothing more comes, and nobody went on in it."""
        return self.told_end and len(self.headers) == 1

    @property
    def generation(self) -> str:
        return self.reader.header.generation if self.reader.header else ""


def is_deleted(found: Sequence[Survey]) -> bool:
    """Whether the last word on it is that the run is deleted."""
    writers = sorted(found, key=lambda log: began(log.reader.header, log.path))
    deleted = False
    for _, event in events_in_order(writers, ["run"]):
        told = event.fields.get("set")
        if isinstance(told, dict) and "deleted" in told:
            deleted = told["deleted"] is True
    return deleted


def mentions_deletion(path: Path, progress: Callable[[int], None]) -> bool:
    """Whether the log may hold a deletion; most do not, and need no reading."""
    found, last = False, b""
    try:
        with path.open("rb") as file:
            while data := file.read(_PIECE):
                progress(len(data))
                found = found or b"delete" in last + data[:16] or b"delete" in data
                last = data[-16:]
    except OSError:
        return True  # it is told when it is read
    return found
