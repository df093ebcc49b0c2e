"""Where the whole frames of a stretch of log are, and what lies broken between them.

Nothing here trusts a length: a frame counts when its checksum holds. Three cases are told apart:

* *wait*: the stretch ends inside a frame that may still be being written (or whose writer died
  there). ``Scan.end`` is its start; reading goes on from there when the file has grown.
* *damage*: bytes that belong to no frame although a whole frame follows them. They are reported
  with offset and size, and the scan goes on at that next frame.
* *a run of rows*: rows of one keyset have one length, so the next ones are found by stride and
  checked in bulk rather than walked one by one.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import starmap
from struct import Struct, iter_unpack
from typing import Final, NamedTuple
from zlib import crc32

import numpy as np
import numpy.typing as npt

from trackway.backend.file._checksums import all_hold
from trackway.backend.file.format import FRAME, KIND_LIMIT, MAX_PAYLOAD, ROW, ROW_HEAD

Offsets = npt.NDArray[np.int64]

_PREFIX: Final = Struct("<IIBI")  # length, checksum, kind, keyset of a row frame
_FIRST_LOOK: Final = 64
_LONGEST_LOOK: Final = 1 << 16
_MANY: Final = 256
"""Rows from which on one checksum over all of them is quicker than one each."""

_FIRST_WINDOW: Final = 1 << 10
_LONGEST_WINDOW: Final = 1 << 16
_CREDIT_PER_BYTE: Final = 256
_FIRST_CREDIT: Final = 4 * MAX_PAYLOAD
_CHECK_COST: Final = 1 << 10  # what a checksum of nothing costs, in bytes of checksum


class Damage(NamedTuple):
    """Bytes at ``offset`` that are part of no readable frame."""

    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Scan:
    """The frames of one stretch, in file order; positions count from the stretch's start.

    Attributes:
        starts: Position of each frame's first byte, int64.
        lengths: Payload bytes of each frame, int64; the payload begins at ``start + 8``.
        damage: Broken stretches between them.
        end: Everything before this position is judged; from here on bytes are missing.
    """

    starts: Offsets
    lengths: Offsets
    damage: list[Damage]
    end: int


class _Found:
    """Frames found so far: single ones in lists, runs as arrays, in file order."""

    def __init__(self) -> None:
        self._parts: list[tuple[Offsets, Offsets]] = []
        self._starts: list[int] = []
        self._lengths: list[int] = []

    def one(self, start: int, length: int) -> None:
        self._starts.append(start)
        self._lengths.append(length)

    def run(self, start: int, length: int, count: int) -> None:
        self._close()
        stride = length + FRAME.size
        starts = np.arange(start, start + count * stride, stride, dtype=np.int64)
        self._parts.append((starts, np.full(count, length, np.int64)))

    def _close(self) -> None:
        if self._starts:
            self._parts.append(
                (np.array(self._starts, np.int64), np.array(self._lengths, np.int64))
            )
            self._starts, self._lengths = [], []

    def arrays(self) -> tuple[Offsets, Offsets]:
        self._close()
        if not self._parts:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        starts, lengths = zip(*self._parts, strict=True)
        return np.concatenate(starts), np.concatenate(lengths)


def scan(data: bytes | bytearray | memoryview) -> Scan:
    """Find every whole frame in a stretch that begins at a frame boundary.

    Linear in the size of the stretch, whatever it holds.
    """
    view = memoryview(data)
    size = len(view)
    found = _Found()
    search = _Search(view)
    damage: list[Damage] = []
    at = 0
    last_row: tuple[int, int] | None = None  # (length, keyset) of the frame before, if a row
    while size - at >= FRAME.size:
        length = FRAME.unpack_from(view, at)[0]
        stop = at + FRAME.size + length
        plausible = 0 < length <= MAX_PAYLOAD
        if plausible and stop <= size and search.is_sound(at, length):
            found.one(at, length)
            row = _row_of(view, at, length)
            at = stop
            if row is not None and row == last_row:
                count = _run_of_rows(view, at, *row)
                if count:
                    found.run(at, length, count)
                    at += count * (length + FRAME.size)
            last_row = row
            continue
        last_row = None
        following = search.next_sound(at + 1)
        if following is None:
            if not (plausible and stop > size):
                at = _lost_for_sure(at, size, damage)
            break
        damage.append(Damage(at, following - at))
        at = following
    starts, lengths = found.arrays()
    return Scan(starts, lengths, damage, at)


def _lost_for_sure(at: int, size: int, damage: list[Damage]) -> int:
    """No frame was found from ``at`` on: pass over what cannot begin one that ends later."""
    judged = size - FRAME.size - MAX_PAYLOAD
    if judged <= at:
        return at
    damage.append(Damage(at, judged - at))
    return judged


def _row_of(view: memoryview, at: int, length: int) -> tuple[int, int] | None:
    if length < ROW_HEAD.size or view[at + FRAME.size] != ROW:
        return None
    return length, _PREFIX.unpack_from(view, at)[3]


def _run_of_rows(view: memoryview, at: int, length: int, keyset: int) -> int:
    """How many sound rows of this keyset follow one another from ``at`` on."""
    stride = length + FRAME.size
    room = (len(view) - at) // stride
    payloads = f"<8x{length}s"
    kind = np.dtype(
        {
            "names": ["length", "checksum", "kind", "keyset"],
            "formats": ["<u4", "<u4", "u1", "<u4"],
            "offsets": [0, 4, 8, 9],
            "itemsize": stride,
        }
    )
    count, look = 0, _FIRST_LOOK
    while count < room:
        wanted = min(look, room - count)
        begin = at + count * stride
        heads = np.frombuffer(view, kind, wanted, begin)
        alike = (heads["length"] == length) & (heads["kind"] == ROW) & (heads["keyset"] == keyset)
        likely = wanted if alike.all() else int(alike.argmin())
        if likely:
            payload_view = view[begin : begin + likely * stride]
            rows = np.frombuffer(payload_view, np.uint8).reshape(likely, stride)[:, FRAME.size :]
            if likely < _MANY or not all_hold(rows, heads["checksum"][:likely]):
                sums = np.fromiter(
                    starmap(crc32, iter_unpack(payloads, payload_view)), np.uint32, likely
                )
                sound = sums == heads["checksum"][:likely]
                likely = likely if sound.all() else int(sound.argmin())
        count += likely
        if likely < wanted:
            break
        look = min(look * 8, _LONGEST_LOOK)
    return count


class _Search:
    """Checks frames, and looks for the next sound one where there is none.

    Work is bounded: each passed byte earns credit and each checksum that does not hold spends its
    length, so that bytes made to look like thousands of long frames cost no more than any other
    bytes. What the credit does not reach is passed over.
    """

    def __init__(self, view: memoryview) -> None:
        self._view = view
        self._bytes = np.frombuffer(view, np.uint8)
        self._credit = _FIRST_CREDIT
        self._earned_until = 0

    def is_sound(self, start: int, length: int) -> bool:
        """Whether a frame of this length starts here; ``start`` never decreases."""
        self._credit += (start - self._earned_until) * _CREDIT_PER_BYTE
        self._earned_until = start
        cost = length + _CHECK_COST
        if cost > self._credit:
            return False
        begin = start + FRAME.size
        if crc32(self._view[begin : begin + length]) == FRAME.unpack_from(self._view, start)[1]:
            return True
        self._credit -= cost
        return False

    def next_sound(self, begin: int) -> int | None:
        """The first position from ``begin`` on where a whole, sound frame starts."""
        data = self._bytes
        size = len(data)
        last = size - FRAME.size - 1  # a frame holds at least its kind
        window = _FIRST_WINDOW  # damage is mostly short, so the first look is, too
        while begin <= last:
            end = min(begin + window, last + 1)
            lengths = data[begin:end].astype(np.int64)
            for byte in (1, 2, 3):
                lengths |= data[begin + byte : end + byte].astype(np.int64) << (8 * byte)
            kinds = data[begin + FRAME.size : end + FRAME.size]
            room = size - FRAME.size - np.arange(begin, end)
            likely = (lengths > 0) & (lengths <= MAX_PAYLOAD) & (lengths <= room)
            likely &= (kinds > 0) & (kinds < KIND_LIMIT)
            for index in np.flatnonzero(likely).tolist():
                if self.is_sound(begin + index, int(lengths[index])):
                    return int(begin + index)
            begin = end
            window = min(4 * window, _LONGEST_WINDOW)
        return None
