"""Writes a log anew without the points that are deleted, frame by frame and in its order.

Frames that lose nothing are copied as they are. A row that loses some of its metrics becomes a
row of another keyset, one that loses all of them goes; ``value`` events likewise. Memory stays
bounded by a stretch of the log.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Iterator
from itertools import pairwise, starmap
from struct import iter_unpack
from typing import Any, Final, NamedTuple
from zlib import crc32

import msgspec
import numpy as np
import numpy.typing as npt

from trackway.backend.file._measure import (
    Bytes,
    Group,
    Loss,
    Source,
    Stretch,
    event_of,
    group_of,
    hidden_names,
    rows_of,
    stretches,
    values_of,
)
from trackway.backend.file.deletions import Deletions, Former
from trackway.backend.file.format import (
    EVENT,
    EVENT_HEAD,
    FRAME,
    HEADER,
    HEADER_HEAD,
    KEYSET,
    ROW_HEAD,
    Event,
    Keyset,
    decode_header,
    encode_event,
    encode_keyset,
    frame,
)
from trackway.backend.file.run_logs import data_of
from trackway.backend.file.scan import Offsets
from trackway.errors import FormatError

__all__ = ["rewrite"]

_RAW: Final = 0
_GONE: Final = -1


class _Block(NamedTuple):
    """New frames of one size, uint8 [n, bytes], and the keyset that they need; -1 for none."""

    frames: Bytes
    keyset: int = -1


def rewrite(
    source: Source,
    deletions: Deletions,
    loss: Loss,
    target: io.BufferedWriter,
    progress: Callable[[int], None],
) -> None:
    """Write the log anew; ``loss`` is what ``measure`` found.

    Raises:
        OSError: It cannot be read or written.
    """
    work = _Work(source, deletions, loss, target)
    for stretch in stretches(source):
        work.take(stretch)
        progress(len(stretch.data))
    work.finish()


class _Work:
    """The new log as far as it is written."""

    def __init__(
        self, source: Source, deletions: Deletions, loss: Loss, target: io.BufferedWriter
    ) -> None:
        self._source = source
        self._deletions = deletions
        self._loss = loss
        self._target = target
        self._at = 0
        self._generation = ""
        self._keysets: dict[tuple[int, tuple[int, ...]], Keyset] = {}
        self._next_keyset = source.next_keyset
        self._undeclared: dict[int, Keyset] = {}
        self._moved: dict[int, int] = {}  # where earlier ends are now

    def take(self, stretch: Stretch) -> None:
        """Write what stays of a stretch."""
        count = len(stretch.starts)
        treatment = np.full(count, _RAW, np.int64)
        place = np.zeros(count, np.int64)
        blocks: list[_Block] = []
        for found in rows_of(stretch):
            group = group_of(self._source, self._deletions, stretch, found)
            for rows, block in self._parts(stretch, group) if group else ():
                if block is None:
                    treatment[rows] = _GONE
                else:
                    blocks.append(block)
                    treatment[rows] = len(blocks)
                    place[rows] = np.arange(len(rows))
        for index, data in self._others(stretch):
            treatment[index] = _GONE
            if data:
                blocks.append(_Block(np.frombuffer(data, np.uint8)[None, :]))
                treatment[index] = len(blocks)
        self._put(stretch, treatment, place, blocks)

    def _parts(self, stretch: Stretch, group: Group) -> Iterator[tuple[Offsets, _Block | None]]:
        """The rows that lose something, by what they lose, and what becomes of them."""
        packed = np.packbits(group.hidden, axis=1)
        patterns, which = np.unique(packed, axis=0, return_inverse=True)
        gone = group.gone
        for number in range(len(patterns)):
            mine = np.flatnonzero(which.reshape(-1) == number)
            hidden = group.hidden[mine[0]]
            if not hidden.any():
                continue
            columns = tuple(np.flatnonzero(~hidden).tolist())
            if gone[mine[0]]:
                marked = mine[group.steps[mine] == self._loss.marker][-1:]
                yield group.rows[np.setdiff1d(mine, marked)], None
                self._loss.marker = None if len(marked) else self._loss.marker
                mine = marked
            if len(mine):
                keyset = self._keyset(group.keyset, columns)
                frames = _narrowed(stretch, group, mine, columns, keyset.id)
                yield group.rows[mine], _Block(frames, keyset.id)

    def _keyset(self, former: Keyset, columns: tuple[int, ...]) -> Keyset:
        known = self._keysets.get((former.id, columns))
        if known is None:
            known = self._keysets[former.id, columns] = Keyset(
                self._next_keyset,
                tuple(former.names[column] for column in columns),
                "".join(former.types[column] for column in columns),
                former.space,
            )
            self._next_keyset += 1
            self._undeclared[known.id] = known
        return known

    def _others(self, stretch: Stretch) -> Iterator[tuple[int, bytes]]:
        """Frames other than rows that change, and what becomes of them; nothing: they go."""
        for index in np.flatnonzero((stretch.kinds == HEADER) | (stretch.kinds == KEYSET)).tolist():
            payload = stretch.payload(index)
            if stretch.kinds[index] == HEADER:
                yield index, self._header(payload)
            else:
                yield index, self._declaration(payload)
        for index in np.flatnonzero(stretch.kinds == EVENT).tolist():
            payload = stretch.payload(index)
            if b"compacted" in payload and getattr(event_of(payload), "type", "") == "compacted":
                yield index, b""  # what it says is said again at the end
        for index, event in values_of(stretch):
            names = hidden_names(self._source, self._deletions, stretch, index, event)
            if names:
                yield index, self._value(stretch.payload(index), event, names)

    def _declaration(self, payload: bytes) -> bytes:
        """The declaration, unless no row needs it, and those of the keysets made from it."""
        number = int.from_bytes(payload[1:5], "little")
        made = [encode_keyset(k) for (id, _), k in self._keysets.items() if id == number]
        return b"".join([b"" if number in self._loss.dead else frame(payload), *made])

    def _header(self, payload: bytes) -> bytes:
        """The header with a new generation: the bytes behind it are others."""
        try:
            decode_header(payload)
        except FormatError:
            return frame(payload)  # a later version's
        fields = msgspec.msgpack.decode(payload[HEADER_HEAD.size :], type=dict[str, msgspec.Raw])
        generation = os.urandom(16).hex()
        self._generation = self._generation or generation
        fields["generation"] = msgspec.Raw(msgspec.msgpack.encode(generation))
        return frame(payload[: HEADER_HEAD.size] + msgspec.msgpack.encode(fields))

    def _value(self, payload: bytes, event: Event, names: set[str]) -> bytes:
        """The event without these names, every other byte of it as it was."""
        if len(names) == len(data_of(event)):
            if event.fields["step"] != self._loss.marker:
                return b""
            self._loss.marker = None
        fields = msgspec.msgpack.decode(payload[EVENT_HEAD.size :], type=dict[str, msgspec.Raw])
        data = msgspec.msgpack.decode(fields["data"], type=dict[str, msgspec.Raw])
        left = {name: value for name, value in data.items() if name not in names}
        fields["data"] = msgspec.Raw(msgspec.msgpack.encode(left))
        return frame(payload[: EVENT_HEAD.size] + msgspec.msgpack.encode(fields))

    def _put(
        self,
        stretch: Stretch,
        treatment: npt.NDArray[np.int64],
        place: npt.NDArray[np.int64],
        blocks: list[_Block],
    ) -> None:
        """Write the frames in their order, as many at once as are treated alike."""
        count = len(treatment)
        ends = {former.now - stretch.offset for former in self._source.formers}
        inside = (end for end in ends if 0 < end <= len(stretch.data))
        cuts = {int(np.searchsorted(stretch.starts, end)): end for end in inside}
        changes = np.flatnonzero(np.diff(treatment)) + 1
        bounds = sorted({0, count, *changes.tolist(), *cuts})
        for begin, end in pairwise(bounds):
            self._note(stretch, cuts, begin)
            kind = int(treatment[begin])
            if kind == _RAW:
                last = int(stretch.starts[end - 1] + FRAME.size + stretch.lengths[end - 1])
                self._write(stretch.data[int(stretch.starts[begin]) : last])
            elif kind != _GONE:
                block, first = blocks[kind - 1], int(place[begin])
                keyset = self._undeclared.pop(block.keyset, None)
                if keyset is not None:
                    self._write(encode_keyset(keyset) * 2)  # as a writer does
                self._write(block.frames[first : first + end - begin].tobytes())
        self._note(stretch, cuts, count)

    def _note(self, stretch: Stretch, cuts: dict[int, int], index: int) -> None:
        """Where a former end of the file is now."""
        if index in cuts:
            self._moved[cuts[index] + stretch.offset] = self._at

    def _write(self, data: bytes) -> None:
        self._target.write(data)
        self._at += len(data)

    def finish(self) -> None:
        """Say what was replaced, and put behind it what its writer never finished."""
        source = self._source
        formers = [
            Former(former.generation, former.end, self._moved[former.now])
            for former in source.formers
            if former.now in self._moved
        ]
        formers.append(Former(source.generation, source.end, self._at))
        fields: dict[str, Any] = {
            "writer": source.name,
            "generation": self._generation,
            "former": [list(former) for former in formers],
        }
        self._write(encode_event("compacted", time.time(), fields))
        with source.path.open("rb") as file:
            file.seek(source.end)
            self._write(file.read())


def _narrowed(
    stretch: Stretch, group: Group, rows: Offsets, columns: tuple[int, ...], keyset: int
) -> Bytes:
    """These rows of a group with some of their columns, under another keyset."""
    values = FRAME.size + ROW_HEAD.size
    width = group.hidden.shape[1]
    kept = [np.arange(values)]
    kept += [np.arange(values + 8 * column, values + 8 * column + 8) for column in columns]
    kept.append(np.arange(values + 8 * width, FRAME.size + group.length))
    narrow = stretch.window(group.rows[rows], group.length)[:, np.concatenate(kept)]
    length = narrow.shape[1] - FRAME.size
    narrow[:, 0:4] = np.frombuffer(length.to_bytes(4, "little"), np.uint8)
    at = FRAME.size + 1
    narrow[:, at : at + 4] = np.frombuffer(keyset.to_bytes(4, "little"), np.uint8)
    payloads = iter_unpack(f"<{FRAME.size}x{length}s", narrow.tobytes())
    sums = np.fromiter(starmap(crc32, payloads), np.uint32, len(narrow))
    narrow[:, 4:8] = sums.astype("<u4").view(np.uint8).reshape(-1, 4)
    return narrow
