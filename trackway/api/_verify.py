"""Every frame of every log checked, every blob against its digest; memory stays bounded."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from trackway.api._run import StoredRun
from trackway.backend.file.blobs import BlobStore
from trackway.backend.file.folder import logs
from trackway.backend.file.format import FRAME, HEADER, MAGIC, MAX_PAYLOAD, VERSION
from trackway.backend.file.reader import Batch, LogReader
from trackway.errors import ArgumentError

__all__ = ["BlobReport", "LogReport", "RunReport", "Verifier", "damaged_bytes"]

_PIECE: Final = 1 << 20
_HEADER_BEGINS: Final = FRAME.size + 1 + len(MAGIC)
_USERS_OWN: Final = frozenset({"config", "console", "define", "run", "summary", "value"})
"""Events whose fields hold what the user made: a ``blob`` in there is no reference of ours."""

Progress = Callable[[int], None]


@dataclass(slots=True)
class LogReport:
    """What one log holds, and what is wrong with it.

    Attributes:
        path: The file.
        bytes: Its size.
        frames: Whole frames with a right checksum.
        rows: How many of them are rows.
        points: The values in those rows.
        events: How many frames are events.
        unknown: Sound frames of a kind this release does not know.
        damage: (offset, bytes) of each stretch that belongs to no frame.
        tail: (offset, bytes) of what a writer began and never finished, or is just writing; it
            was never acknowledged, so nothing is lost.
        nameless: Rows whose metrics' names were lost with a damaged declaration.
        problem: Why the log cannot be read, or not as one of ours.
    """

    path: Path
    bytes: int = 0
    frames: int = 0
    rows: int = 0
    points: int = 0
    events: int = 0
    unknown: int = 0
    damage: list[tuple[int, int]] = field(default_factory=list)
    tail: tuple[int, int] | None = None
    nameless: int = 0
    problem: str | None = None

    @property
    def sound(self) -> bool:
        """Whether everything that was written can be read."""
        return not (self.damage or self.nameless or self.problem)


@dataclass(frozen=True, slots=True)
class BlobReport:
    """A stored file that a run refers to; ``state`` is ok, missing, damaged or unreadable."""

    digest: str
    state: str
    bytes: int = 0

    @property
    def sound(self) -> bool:
        """Whether its bytes are what was stored."""
        return self.state == "ok"


@dataclass(slots=True)
class RunReport:
    """The logs of one run and the blobs they refer to."""

    project: str
    id: str
    logs: list[LogReport] = field(default_factory=list)
    blobs: list[BlobReport] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        """Whether everything that was recorded is there and whole."""
        return all(log.sound for log in self.logs) and all(blob.sound for blob in self.blobs)


class Verifier:
    """Checks runs of one root; a blob that several of them refer to is read once.

    Args:
        root: The folder that holds all projects.
        progress: Called with the number of bytes that were read since the last call.
    """

    def __init__(self, root: Path, progress: Progress | None = None) -> None:
        self._root = root
        self._store = BlobStore(root)
        self._blobs: dict[str, BlobReport] = {}
        self._progress = progress or (lambda count: None)

    def run(self, project: str, run_id: str) -> RunReport:
        """Check all logs of a run, then the blobs they refer to. Raises nothing the disk does."""
        report = RunReport(project, run_id)
        digests: dict[str, None] = {}
        for path in logs(self._root / project / run_id):
            report.logs.append(self._log(path, digests))
        report.blobs = [self._blob(digest) for digest in digests]
        return report

    def _log(self, path: Path, digests: dict[str, None]) -> LogReport:
        report = LogReport(path)
        reader = LogReader(path)
        widths: dict[tuple[int, int], int] = {}
        told = 0
        try:
            for batch in reader.stretches():
                _count(report, batch, widths)
                for _, event in batch.events:
                    if event.type not in _USERS_OWN:
                        digests.update(dict.fromkeys(_blobs_in(event.fields)))
                self._progress(reader.offset - told)
                told = reader.offset
            report.bytes = reader.offset + reader.pending
            self._progress(report.bytes - told)
            _judge_end(report, reader)
        except OSError as error:
            report.problem = f"cannot be read: {error.strerror or error}"
            return report
        for (keyset, width), count in widths.items():
            known = reader.keysets.get(keyset)
            if known is None or len(known.names) != width:
                report.nameless += count
        return report

    def _blob(self, digest: str) -> BlobReport:
        if digest not in self._blobs:
            self._blobs[digest] = self._check(digest)
        return self._blobs[digest]

    def _check(self, digest: str) -> BlobReport:
        sha, size = hashlib.sha256(), 0
        try:
            with self._store.path(digest).open("rb") as file:
                while piece := file.read(_PIECE):
                    sha.update(piece)
                    size += len(piece)
                    self._progress(len(piece))
        except (FileNotFoundError, ArgumentError):
            return BlobReport(digest, "missing")
        except OSError:
            return BlobReport(digest, "unreadable", size)
        return BlobReport(digest, "ok" if sha.hexdigest() == digest else "damaged", size)


def damaged_bytes(run: StoredRun) -> int:
    """How many bytes of a run's logs were passed over as damaged when it was read."""
    return run._index.damaged(run._ref)


def _count(report: LogReport, batch: Batch, widths: dict[tuple[int, int], int]) -> None:
    report.frames += batch.frames
    report.points += batch.points
    report.unknown += batch.unknown
    report.events += len(batch.events)
    report.damage += [(damage.offset, damage.size) for damage in batch.damage]
    for rows in batch.rows:
        report.rows += len(rows.steps)
        kind = rows.keyset, rows.values.shape[1]
        widths[kind] = widths.get(kind, 0) + len(rows.steps)


def _judge_end(report: LogReport, reader: LogReader) -> None:
    """A frame that was begun is a torn tail; anything else behind the last frame is damage."""
    with report.path.open("rb") as file:
        file.seek(reader.offset)
        head = file.read(_HEADER_BEGINS)
    if reader.pending:
        length = FRAME.unpack_from(head)[0] if len(head) >= FRAME.size else 1
        begun = 0 < length <= MAX_PAYLOAD and FRAME.size + length > reader.pending
        end = (reader.offset, reader.pending)
        report.tail = end if begun else None
        report.damage += [] if begun else [end]
    header = reader.header
    if header is not None and header.version > VERSION:
        report.problem = f"has format version {header.version}; this release reads up to {VERSION}"
    elif header is None and not (report.tail and _begins_a_header(report, head)):
        report.problem = "has no header of a Trackway log" if report.bytes else None


def _begins_a_header(report: LogReport, head: bytes) -> bool:
    """Whether the file is nothing but the first bytes of a header: its writer died at birth."""
    expected = bytes([HEADER]) + MAGIC
    return report.frames == 0 and expected.startswith(head[FRAME.size : _HEADER_BEGINS])


def _blobs_in(value: object) -> Iterator[str]:
    """Every digest that stands under the name ``blob``, however deep."""
    inner: Iterable[Any] = ()
    if isinstance(value, Mapping):
        if isinstance(value.get("blob"), str):
            yield value["blob"]
        inner = value.values()
    elif isinstance(value, (list, tuple)):
        inner = value
    for part in inner:
        yield from _blobs_in(part)
