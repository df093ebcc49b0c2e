"""How the SQLite engine keeps what SQLite alone would not keep exactly, and notices damage to it.

SQLite has no NaN (it becomes NULL), no negative zero, no integer beyond 64 bits and no text with
lone surrogates; and it has no checksums. So a chunk's head is one packed blob: exact, and several
times quicker to load than sixteen columns. What the engine itself decodes or indexes by is sealed
with a CRC over the whole row; the bytes of chunks and axes are not (they are most of the bytes, and
their own encoding has a checksum).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Any, Final
from zlib import crc32

from trackway.backend.index.contract import (
    Chunk,
    Document,
    EventRow,
    Head,
    IndexDamagedError,
    LogLine,
)

__all__ = [
    "as_name",
    "as_text",
    "chunks_of",
    "document_of",
    "event_of",
    "lines_of",
    "numbers",
    "pack_event",
    "pack_head",
    "pack_line",
    "seal",
    "unseal",
]

UNREADABLE: Final = (struct.error, TypeError, ValueError, IndexError)
"""What decoding raises where a damaged page held something of another shape."""

_TOP: Final = 2**63
_CRC: Final = struct.Struct("<I")
_HEAD: Final = struct.Struct("<3I5d2q2d2qBI")
_REALS: Final = struct.Struct("<7d")
_PLACE: Final = struct.Struct("<6q")
_LINE: Final = struct.Struct("<2qQ4qI")
_EVENT: Final = struct.Struct("<qdI")
_NS: Final = 10**9
_RISES: Final = 16
_LETTERS: Final = "bfio"
_TYPES: Final = tuple(
    "".join(c for bit, c in enumerate(_LETTERS) if mask >> bit & 1) for mask in range(16)
)
_MASKED: Final = tuple((mask >= _RISES, _TYPES[mask & 15]) for mask in range(32))
_MASKS: Final = {types: mask for mask, types in enumerate(_TYPES)}


def numbers(values: Iterable[int]) -> str:
    """These numbers as a JSON list: each once, sorted, without what no row can have."""
    return str(sorted({int(value) for value in values if 0 < value < _TOP}))


def as_text(name: str) -> str | bytes:
    """A name as it is stored; as bytes where it has lone surrogates."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return name.encode("utf-8", "surrogatepass")
    return name


def as_name(stored: Any) -> str:
    """What ``as_text`` made of a name."""
    if type(stored) is str:
        return stored
    try:
        return str(stored, "utf-8", "surrogatepass")
    except UNREADABLE as error:
        raise _damaged("a name") from error


def seal(data: bytes, about: int | str) -> bytes:
    """Bytes with a checksum over them and what they belong to."""
    return data + _CRC.pack(crc32(data, crc32(_bytes(about))))


def unseal(stored: Any, about: int | str) -> bytes:
    """What was sealed; IndexDamagedError where it is anything else."""
    if type(stored) is not bytes or len(stored) < 4:
        raise _damaged("a row")
    data = stored[:-4]
    if crc32(data, crc32(_bytes(about))) != _CRC.unpack_from(stored, len(data))[0]:
        raise _damaged("a row")
    return data


def _bytes(about: int | str) -> bytes:
    return str(about).encode("utf-8", "surrogatepass")


def _damaged(what: str) -> IndexDamagedError:
    return IndexDamagedError(f"the index is damaged: {what} in it cannot be read")


# -- chunks ----------------------------------------------------------------------------------------


def pack_head(number: int, chunk: Chunk) -> bytes | str:
    """The head of a chunk that is given this number; text where it does not fit the usual form."""
    h = chunk.head
    place = crc32(_PLACE.pack(number, *chunk[1:6]))
    try:
        mask = _MASKS[h.types] | _RISES * h.rises
        body = _HEAD.pack(
            *(h.n, h.nan, h.inf, h.min, h.max, h.sum, h.first, h.last, h.low, h.high),
            *(h.low_time, h.high_time, h.min_step, h.max_step, mask, 0),
        )
    except (struct.error, KeyError):
        return _wide_head(h, place)
    return body[:-4] + _CRC.pack(crc32(body[:-4], place))


def _wide_head(h: Head, place: int) -> str:
    reals = _REALS.pack(h.min, h.max, h.sum, h.first, h.last, h.low_time, h.high_time)
    whole = (h.n, h.nan, h.inf, h.low, h.high, h.min_step, h.max_step, int(h.rises))
    text = " ".join([reals.hex(), *map(hex, whole), as_bytes(h.types).hex()])
    return f"{text} {crc32(text.encode(), place):x}"


def as_bytes(text: str) -> bytes:
    """Any text at all, as bytes."""
    return text.encode("utf-8", "surrogatepass")


def _head_of_text(stored: str, place: int) -> Head:
    text, _, check = stored.rpartition(" ")
    if int(check, 16) != crc32(text.encode(), place):
        raise _damaged("a chunk")
    reals, *parts, types = text.split(" ")
    n, nan, inf, low, high, min_step, max_step, rises = (int(part, 16) for part in parts)
    min_, max_, sum_, first, last, low_time, high_time = _REALS.unpack(bytes.fromhex(reals))
    return Head(
        *(n, nan, inf, min_, max_, sum_, first, last, low, high, low_time, high_time),
        *(min_step, max_step, bool(rises), as_name(bytes.fromhex(types))),
    )


def chunks_of(rows: Iterable[Sequence[Any]]) -> list[Chunk]:
    """Chunks from rows of (chunk, run, log, key, seq, axis, head, data, cells)."""
    chunks = []
    pack, unpack = _PLACE.pack, _HEAD.unpack
    try:
        for number, run, log, key, seq, axis, stored, data, cells in rows:
            place = crc32(pack(number, run, log, key, seq, axis))
            if type(stored) is str:
                head = _head_of_text(stored, place)
            else:
                *values, mask, check = unpack(stored)
                if check != crc32(stored[:-4], place):
                    raise _damaged("a chunk")
                head = Head(*values, *_MASKED[mask & 31])
            chunks.append(Chunk(number, run, log, key, seq, axis, head, data, cells))
    except UNREADABLE as error:
        raise _damaged("a chunk") from error
    return chunks


# -- logs, events, documents -----------------------------------------------------------------------


def pack_line(line: LogLine) -> bytes:
    """How a log looked. The inode may use all 64 bits, the time may lie centuries away."""
    seconds, ns = divmod(line.mtime_ns, _NS)
    values = (line.log, line.run, line.inode, line.size, seconds, ns, line.offset)
    body = _LINE.pack(*values, 0)[:-4]
    return body + _CRC.pack(crc32(body))


def lines_of(rows: Iterable[Sequence[Any]]) -> list[LogLine]:
    """Logs from rows of (name, line)."""
    lines = []
    # Twenty thousand of them are read whenever a root is opened: what a name costs counts.
    new, unpack = tuple.__new__, _LINE.unpack
    try:
        for name, stored in rows:
            log, run, inode, size, seconds, ns, offset, check = unpack(stored)
            if crc32(stored[:-4]) != check:
                raise _damaged("a log")
            text = name if type(name) is str else as_name(name)
            mtime_ns = seconds * _NS + ns
            lines.append(new(LogLine, (log, run, text, inode, size, mtime_ns, offset)))
    except UNREADABLE as error:
        raise _damaged("a log") from error
    return lines


def pack_event(event: EventRow) -> bytes:
    """What of an event is no column of its own."""
    check = _event_check(event.log, event.offset, event.type, event.size, event.time, event.body)
    return _EVENT.pack(event.size, event.time, check)


def _event_check(
    log: int, offset: int, type: str, size: int, time: float, body: bytes | None
) -> int:
    check = crc32(as_bytes(f"{log} {offset} {type} {body is None}"))
    return crc32(body or b"", crc32(_EVENT.pack(size, time, 0), check))


def event_of(row: Sequence[Any]) -> EventRow:
    """An event from (run, log, offset, type, line, body)."""
    _, log, offset, stored_type, stored, body = row
    try:
        size, time, check = _EVENT.unpack(stored)
        type = as_name(stored_type)
        if check != _event_check(log, offset, type, size, time, body):
            raise _damaged("an event")
    except UNREADABLE as error:
        raise _damaged("an event") from error
    return EventRow(log, offset, size, type, time, body)


def document_of(row: Sequence[Any]) -> Document:
    """A document from (run, revision, data)."""
    run, revision, stored = row
    if type(revision) is not int:
        raise _damaged("a document")
    return Document(run, revision, unseal(stored, run))
