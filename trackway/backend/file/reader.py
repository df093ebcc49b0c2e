"""Reads one log from a byte offset on, while its writer may still be appending to it."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from zlib import crc32

import msgspec
import numpy as np
import numpy.typing as npt

from trackway.backend.file.format import (
    EVENT,
    FRAME,
    HEADER,
    KEYSET,
    MAX_PAYLOAD,
    ROW,
    ROW_HEAD,
    Event,
    Header,
    Keyset,
    decode_event,
    decode_header,
    decode_keyset,
)
from trackway.backend.file.scan import Damage, Offsets, Scan, scan
from trackway.errors import FormatError

__all__ = ["Batch", "Damage", "LogReader", "Position", "Rows", "read_event"]

STRETCH: Final = 8 * MAX_PAYLOAD
"""Bytes read at once. Invariant: larger than the largest frame, or a scan could not advance."""


_MARK: Final = 32
"""Bytes before the offset that must be as they were, or the file is another one."""


class Position(msgspec.Struct, frozen=True):
    """Where a reader stands, so that another one can go on from there.

    Attributes:
        offset: Everything before this byte is judged.
        first: The first frame's length and checksum, and so the log's generation.
        mark: The last bytes before ``offset``.
        header: The log's first header, or None where none was sound.
        keysets: Every keyset declared so far.
    """

    offset: int = 0
    first: bytes = b""
    mark: bytes = b""
    header: Header | None = None
    keysets: tuple[Keyset, ...] = ()


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of one keyset in file order.

    Attributes:
        keyset: The keyset's id in this log.
        offsets: int64 [n], file offset of each row's frame: the order of arrival.
        steps: int64 [n].
        times: float64 [n], seconds since 1970.
        values: float64 [n, keys], in the order of the keyset's names.
    """

    keyset: int
    offsets: Offsets
    steps: npt.NDArray[np.int64]
    times: npt.NDArray[np.float64]
    values: npt.NDArray[np.float64]


@dataclass(slots=True)
class Batch:
    """What one ``read`` found, and what it could not use.

    ``payloads`` has the bytes of each event, where the reader was told to keep them.
    """

    rows: list[Rows] = field(default_factory=list)
    events: list[tuple[int, Event]] = field(default_factory=list)
    payloads: list[bytes] = field(default_factory=list)
    headers: list[Header] = field(default_factory=list)
    damage: list[Damage] = field(default_factory=list)
    frames: int = 0
    unknown: int = 0
    points: int = 0


class LogReader:
    """An incremental reader of one log.

    Each ``read`` returns what has become whole since the last one. Rows may come before the
    declaration of their keyset (the declaration was damaged and is repeated later): ask
    ``keysets`` after reading. A file that shrank, or that is not the one it was (it begins
    otherwise, or what lies before ``offset`` does), is read again from its start; ``restarts``
    counts how often. A longer copy in the file's place is the same log.

    Args:
        path: The file.
        position: Where to go on; the start by default.
        keep_payloads: Whether batches hold the bytes of their events, too.

    Attributes:
        offset: Everything before this byte is judged.
        keysets: Every keyset declared so far, by id.
        next_keyset: The first id that no keyset and no row of the log has.
        header: The first header found, or None.
        pending: Bytes after ``offset`` that form no whole frame yet.
    """

    def __init__(
        self, path: Path, position: Position | None = None, *, keep_payloads: bool = False
    ) -> None:
        position = position or Position()
        self.path = path
        self.keep_payloads = keep_payloads
        self.offset = position.offset
        self.pending = 0
        self.restarts = 0
        self.header: Header | None = position.header
        self.keysets: dict[int, Keyset] = {keyset.id: keyset for keyset in position.keysets}
        self.next_keyset = max(self.keysets, default=-1) + 1
        self.status: os.stat_result | None = None  # of the file, when it was last opened
        # Invariant: an inode number says nothing, the next file may get it again.
        self._first = position.first
        self._mark = position.mark

    @property
    def position(self) -> Position:
        """Where this reader stands."""
        return Position(
            self.offset, self._first, self._mark, self.header, tuple(self.keysets.values())
        )

    def read(self) -> Batch:
        """Everything whole since the last read.

        Raises:
            OSError: The file cannot be opened or read.
        """
        batch = Batch()
        for part in self.stretches():
            batch.rows += part.rows
            batch.events += part.events
            batch.payloads += part.payloads
            batch.headers += part.headers
            batch.damage += part.damage
            batch.frames += part.frames
            batch.unknown += part.unknown
            batch.points += part.points
        return batch

    def stretches(self) -> Iterator[Batch]:
        """Like ``read``, a stretch of at most STRETCH bytes at a time: memory stays bounded."""
        with self.path.open("rb", buffering=0) as file:
            status = self.status = os.fstat(file.fileno())
            first = bytes(_read_at(file, 0, FRAME.size))
            if self.offset and not (
                status.st_size >= self.offset
                and first.startswith(self._first)
                and _read_at(file, self.offset - len(self._mark), len(self._mark)) == self._mark
            ):
                self._restart()
            self._first = first
            while self.offset < status.st_size:
                size = min(STRETCH, status.st_size - self.offset)
                data = _read_at(file, self.offset, size)
                if not data:
                    break
                found = scan(data)
                batch = self._decode(data, found)
                self.pending = len(data) - found.end
                self.offset += found.end
                self._mark = (self._mark + data[max(0, found.end - _MARK) : found.end])[-_MARK:]
                yield batch  # last: whoever stops here has read it and will not get it again
                if found.end == 0 or len(data) < size:
                    break

    def _restart(self) -> None:
        self.offset = self.pending = 0
        self._mark = b""
        self.header = None
        self.keysets = {}
        self.next_keyset = 0
        self.restarts += 1

    def _decode(self, data: bytearray, found: Scan) -> Batch:
        batch = Batch(frames=len(found.starts))
        batch.damage = [Damage(self.offset + at, size) for at, size in found.damage]
        if not len(found.starts):
            return batch
        view = np.frombuffer(data, np.uint8)
        kinds = view[found.starts + FRAME.size]
        rows = np.flatnonzero((kinds == ROW) & (found.lengths >= ROW_HEAD.size))
        if len(rows):
            self._decode_rows(view, found.starts[rows], found.lengths[rows], batch)
        others = np.flatnonzero((kinds != ROW) | (found.lengths < ROW_HEAD.size))
        for index in others.tolist():
            start = int(found.starts[index])
            payload = memoryview(data)[start + FRAME.size :][: int(found.lengths[index])]
            self._decode_other(int(kinds[index]), self.offset + start, payload, batch)
        return batch

    def _decode_rows(
        self, view: npt.NDArray[np.uint8], starts: Offsets, lengths: Offsets, batch: Batch
    ) -> None:
        """Group the rows by (keyset, length); each group is one strided copy, or one gather."""
        heads = starts + FRAME.size + 1
        ids = view[heads].astype(np.int64)
        for byte in (1, 2, 3):
            ids |= view[heads + byte].astype(np.int64) << (8 * byte)
        kinds = ids << 32 | lengths
        for kind in np.unique(kinds).tolist():
            mine = starts if kind == kinds[0] and (kinds == kind).all() else starts[kinds == kind]
            # An id from 2**31 on has made the sum negative; its bits are all there.
            keyset, length = kind >> 32 & 0xFFFFFFFF, kind & 0xFFFFFFFF
            count = (length - ROW_HEAD.size) // 8
            rows = _rows_at(view, mine, length, count)
            batch.points += len(mine) * count
            self.next_keyset = max(self.next_keyset, keyset + 1)
            batch.rows.append(
                Rows(
                    keyset,
                    mine + self.offset,
                    rows["step"].astype(np.int64),
                    rows["time"].astype(np.float64),
                    # One metric after the other: columns are what is asked for.
                    np.asfortranarray(rows["values"], np.float64),
                )
            )

    def _decode_other(self, kind: int, offset: int, payload: memoryview, batch: Batch) -> None:
        try:
            if kind == EVENT:
                batch.events.append((offset, decode_event(payload)))
                if self.keep_payloads:
                    batch.payloads.append(bytes(payload))
            elif kind == KEYSET:
                keyset = decode_keyset(payload)
                self.keysets[keyset.id] = keyset
                self.next_keyset = max(self.next_keyset, keyset.id + 1)
            elif kind == HEADER:
                header = decode_header(payload)
                batch.headers.append(header)
                self.header = self.header or header
            else:
                batch.unknown += 1
        except FormatError:
            # Its checksum holds, so it is what was written: a later version's, not damage.
            batch.unknown += 1


def read_event(path: Path, offset: int) -> Event | None:
    """The event whose frame begins at this offset; None where there is no sound one (any more)."""
    try:
        with path.open("rb", buffering=0) as file:
            head = bytes(_read_at(file, offset, FRAME.size))
            if len(head) < FRAME.size:
                return None
            length, checksum = FRAME.unpack(head)
            payload = bytes(_read_at(file, offset + FRAME.size, min(length, MAX_PAYLOAD)))
        if crc32(payload) != checksum or payload[:1] != bytes([EVENT]):
            return None
        return decode_event(payload)
    except (OSError, FormatError):
        return None


def _rows_at(
    view: npt.NDArray[np.uint8], starts: Offsets, length: int, count: int
) -> npt.NDArray[np.void]:
    stride = length + FRAME.size
    kind = np.dtype(
        {
            "names": ["step", "time", "values"],
            "formats": ["<i8", "<f8", ("<f8", (count,))],
            "offsets": [13, 21, FRAME.size + ROW_HEAD.size],
            "itemsize": stride,
        }
    )
    first = int(starts[0])
    if int(starts[-1]) - first == (len(starts) - 1) * stride:
        return np.frombuffer(view, kind, len(starts), first)
    gathered = np.lib.stride_tricks.sliding_window_view(view, stride)[starts]
    return np.frombuffer(gathered.tobytes(), kind)


def _read_at(file: io.FileIO, offset: int, size: int) -> bytearray:
    """Up to ``size`` bytes; fewer only where the file ends before."""
    data = bytearray(size)
    view = memoryview(data)
    file.seek(offset)
    got = 0
    while got < size:
        count = file.readinto(view[got:])
        if not count:
            break
        got += count
    if got < size:
        view.release()
        del data[got:]
    return data
