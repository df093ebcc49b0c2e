"""The end of a log that is not in the index: read from the file, kept in memory."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from trackway.backend.file.deletions import DELETION_EVENTS
from trackway.backend.file.reader import Batch, LogReader, Position, Rows
from trackway.backend.file.run_logs import Written
from trackway.backend.index.discover import Seen
from trackway.errors import FormatError

__all__ = ["LogState", "Tail"]


class LogState(msgspec.Struct, frozen=True):
    """What the index keeps beside a log.

    Attributes:
        position: Where reading goes on.
        deletions: Which deletions the chunks were made with.
        orphans: Keysets that rows had before they were declared; those rows are in no chunk.
        points: Points in the rows that were read, deleted ones included.
        frames: Frames that were read.
        damaged: Bytes that belong to no frame.
    """

    position: Position = Position()
    deletions: bytes = b""
    orphans: tuple[int, ...] = ()
    points: int = 0
    frames: int = 0
    damaged: int = 0

    def is_outdated(self, deletions: bytes) -> bool:
        """Whether there may be chunks that were made with other deletions than these.

        An editor's log has no points: it is not taken in again, which would take away for a while
        what it tells, and so outdate all others.
        """
        header = self.position.header
        is_editor = header is not None and header.role == "editor" and not self.points
        return bool(self.position.offset) and not is_editor and self.deletions != deletions

    def pack(self) -> bytes:
        """The bytes that ``unpack`` takes."""
        return msgspec.msgpack.encode(self)

    @classmethod
    def unpack(cls, data: bytes | None) -> LogState:
        """The state of these bytes; None is a log of which nothing was read.

        Raises:
            FormatError: They are no state.
        """
        if not data:
            return cls()
        try:
            return msgspec.msgpack.decode(data, type=cls)
        except msgspec.DecodeError as error:
            raise FormatError(f"not the state of a log: {error}") from error


class Tail:
    """One log from where the index ends.

    Invariant: ``written`` holds what lies in the file from ``start`` to ``reader.offset``.

    Attributes:
        base: The state in the index that this tail goes on from, as bytes.
        afresh: The log is to be taken into the index anew, from its start.
        seen: How the file looked when it was last read; None where it was not.
    """

    def __init__(self, log: int, run: int, path: Path, base: bytes | None) -> None:
        self.log = log
        self.run = run
        self.path = path
        self.base = base
        self.state = LogState.unpack(base)
        self.afresh = False
        self.seen: Seen | None = None
        self.payloads: list[bytes] = []
        self._begin(self.state.position)

    @property
    def rows(self) -> int:
        """Rows that are not in the index."""
        return sum(len(rows.steps) for rows in self.written.rows)

    @property
    def size(self) -> int:
        """Bytes that are not in the index."""
        return self.reader.offset - self.start

    @property
    def tells_deletions(self) -> bool:
        """Whether something is deleted in what is not in the index."""
        return any(event.type in DELETION_EVENTS for _, event in self.written.events)

    def begin_afresh(self) -> None:
        """Take the log in from its start; keysets that are known stay known."""
        self.afresh = True
        known = self.reader.keysets
        self.state = LogState()
        self._begin(Position())
        self.reader.keysets.update(known)

    def _begin(self, position: Position) -> None:
        self.start = position.offset
        self.reader = LogReader(self.path, position, keep_payloads=True)
        self.written = Written(self.reader)
        self.payloads = []

    def absorb(self, batch: Batch) -> None:
        """Take in what the reader found next."""
        self.note_restart()
        self.written.rows += batch.rows
        self.written.events += batch.events
        self.written.damage += batch.damage
        self.written.frames += batch.frames
        self.written.points += batch.points
        self.payloads += batch.payloads
        self.written.grow()

    def note_restart(self) -> None:
        """If the file is another one, what was read of the former is void."""
        if self.reader.restarts:
            self.afresh = True
            self.reader.restarts = 0
            self.start = 0
            self.state = LogState()
            self.written = Written(self.reader)
            self.payloads = []

    def found_orphans(self) -> bool:
        """Whether a keyset was declared after rows of it went into the index without names."""
        return any(keyset in self.reader.keysets for keyset in self.state.orphans)

    def next_state(self, deletions: bytes) -> LogState:
        """The state once everything read is in the index."""
        undeclared = {rows.keyset for rows in self.written.rows} - set(self.reader.keysets)
        return LogState(
            self.reader.position,
            deletions,
            tuple(sorted({*self.state.orphans, *undeclared})),
            self.state.points + self.written.points,
            self.state.frames + self.written.frames,
            self.state.damaged + sum(damage.size for damage in self.written.damage),
        )

    def sealed(self, state: LogState) -> None:
        """Everything read is in the index now."""
        self.base = state.pack()
        self.state = state
        self.afresh = False
        self.start = self.reader.offset
        self.written = Written(self.reader)
        self.payloads = []

    def cut(self, offset: int) -> Written:
        """What lies behind this offset: somebody else put the rest into the index meanwhile."""
        if offset <= self.start:
            return self.written
        rest = Written(self.reader)
        for rows in self.written.rows:
            mine = slice(int(np.searchsorted(rows.offsets, offset)), None)
            if len(rows.offsets[mine]):
                rest.rows.append(
                    Rows(
                        rows.keyset,
                        rows.offsets[mine],
                        rows.steps[mine],
                        rows.times[mine],
                        rows.values[mine],
                    )
                )
        rest.damage = [damage for damage in self.written.damage if damage.offset >= offset]
        rest.events = [entry for entry in self.written.events if entry[0] >= offset]
        return rest
