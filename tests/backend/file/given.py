"""Logs to test with, and what a reader finds in one, in a form that compares bit by bit."""

from __future__ import annotations

import errno
import itertools
import os
import struct
import threading
import time as real_time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trackway.backend.file._fs import FileSystem
from trackway.backend.file.format import FRAME, Header, Keyset
from trackway.backend.file.reader import Batch, Damage, LogReader
from trackway.backend.file.writer import LogWriter

NOW = 1_800_000_000.25
HEADER = Header(
    run="calm-otter",
    project="digits",
    writer="w",
    generation="0123456789abcdef" * 2,
    host="here",
    pid=4711,
    process_started=NOW - 1,
    created=NOW,
    software="test",
)

Record = tuple[Any, ...]
"""("row", names, step, time, values) with each value's 8 bytes in hexadecimal, or ("row", id, …)
where its names are unknown; ("event", type, time, fields); ("header", generation)."""


def bits(value: float) -> str:
    """The eight bytes of a float."""
    return struct.pack("<d", value).hex()


def row(names: Iterable[str], step: int, values: Iterable[float], time: float = NOW) -> Record:
    """A row as ``records`` tells it."""
    return ("row", tuple(names), step, time, tuple(map(bits, values)))


def event(type: str, fields: dict[str, Any], time: float = NOW) -> Record:
    """An event as ``records`` tells it."""
    return ("event", type, time, fields)


def records(batches: Iterable[Batch], keysets: dict[int, Keyset]) -> list[Record]:
    """Every record of these batches, in the order of the file."""
    found: list[tuple[int, Record]] = []
    for batch in batches:
        for rows in batch.rows:
            known = keysets.get(rows.keyset)
            names = rows.keyset if known is None else known.names
            for at, step, time, values in zip(
                rows.offsets.tolist(), rows.steps.tolist(), rows.times.tolist(), rows.values,
                strict=True,
            ):  # fmt: skip
                hexes = tuple(struct.pack("<d", value).hex() for value in values)
                found.append((at, ("row", names, step, time, hexes)))
        found += [(at, ("event", e.type, e.time, dict(e.fields))) for at, e in batch.events]
    return [record for _, record in sorted(found, key=lambda entry: entry[0])]


@dataclass
class Told:
    """What one reading of a log told."""

    records: list[Record]
    damage: list[Damage]
    pending: int
    unknown: int
    generations: list[str]
    reader: LogReader


def told(path: Path) -> Told:
    """Read a log from its start to its end."""
    reader = LogReader(path)
    batch = reader.read()
    return Told(
        records([batch], reader.keysets),
        batch.damage,
        reader.pending,
        batch.unknown,
        [header.generation for header in batch.headers],
        reader,
    )


def put(path: Path, data: bytes) -> None:
    """Make a new file of these bytes: some file systems flush one that is truncated instead."""
    path.unlink(missing_ok=True)
    path.write_bytes(data)


def told_of(data: bytes, path: Path) -> Told:
    """Read these bytes as a log."""
    put(path, data)
    return told(path)


def spans(data: bytes) -> list[tuple[int, int]]:
    """Where each frame of a sound log begins and ends."""
    found = []
    at = 0
    while at < len(data):
        stop = at + FRAME.size + FRAME.unpack_from(data, at)[0]
        found.append((at, stop))
        at = stop
    assert at == len(data)
    return found


def kind_at(data: bytes, start: int) -> int:
    """The kind of the frame that begins there."""
    return data[start + FRAME.size]


class Disk:
    """A file system whose write can be told to fail, to stop half way, or to take its time.

    Attributes:
        room: Bytes that are left; None for as many as one likes.
        error: What a write raises that finds no room.
        clock: What ``time`` answers.
        cost_s: How much of that time a write takes.
        writes: The size of each write that took something.
        open: Clear, and every write hangs until it is set.
        hanging: Set once a write hangs.
    """

    def __init__(self, room: int | None = None, error: int = errno.ENOSPC) -> None:
        self.room = room
        self.error = error
        self.clock = NOW
        self.cost_s = 0.0
        self.writes: list[int] = []
        self.open = threading.Event()
        self.open.set()
        self.hanging = threading.Event()
        self._waits = itertools.count(1)

    def write(self, descriptor: int, data: bytes) -> int:
        """Append, as far as there is room."""
        if not self.open.is_set():
            self.hanging.set()
            assert self.open.wait(20)
        self.clock += self.cost_s
        if self.room is not None:
            data = data[: self.room]
            if not data:
                raise OSError(self.error, os.strerror(self.error))
            self.room -= len(data)
        self.writes.append(len(data))
        return os.write(descriptor, data)

    def files(self, **others: Any) -> FileSystem:
        """The seam to give to a writer."""
        calls = {"write": self.write, "time": self.time, "waits": self._waits.__next__}
        return FileSystem(**{**calls, **others})

    def time(self) -> float:
        """The time of a clock that stands still between writes."""
        return self.clock


def writer_at(
    path: Path,
    disk: Disk | None = None,
    tell: Callable[[str, str], None] = lambda kind, sentence: None,
    **others: Any,
) -> LogWriter:
    """A writer with a fixed header whose clock stands still."""
    writer = LogWriter(path, HEADER, files=(disk or Disk()).files(**others), tell=tell)
    opened.append(writer)
    return writer


opened: list[LogWriter] = []
"""The writers of the test that runs, to be closed where it failed half way."""


def unmeasured() -> dict[str, str]:
    """The environment for a program that could not write its coverage down: it has no disk."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}


def until(true: Callable[[], object], timeout_s: float = 20.0) -> None:
    """Wait for it."""
    deadline = real_time.monotonic() + timeout_s
    while not true():
        assert real_time.monotonic() < deadline, "it did not come true"
        real_time.sleep(0.002)


def write_rows(writer: LogWriter, names: Sequence[str], steps: Iterable[int]) -> list[Record]:
    """Rows whose values follow from their steps; returns what a reader should tell."""
    made = []
    for step in steps:
        values = [step + index / 8 for index in range(len(names))]
        writer.row(dict(zip(names, values, strict=True)), step, time=NOW)
        made.append(row(names, step, values))
    return made
