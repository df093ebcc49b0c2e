"""Bytes to records and back: the log format of ``docs/format/log.md``. No file is touched here.

A log is a sequence of frames, ``u32 length | u32 crc32(payload) | payload``, little-endian. The
first byte of a payload is its kind. The document is normative; this module follows it.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any, Final
from zlib import crc32

import msgspec

from trackway.errors import FormatError

MAGIC: Final = b"TRACKWAY"
VERSION: Final = 1

HEADER: Final = 1
KEYSET: Final = 2
ROW: Final = 3
EVENT: Final = 4
KIND_LIMIT: Final = 16
"""Kinds below this are reserved for frames; a reader skips those it does not know."""

FRAME: Final = struct.Struct("<II")
ROW_HEAD: Final = struct.Struct("<BIqd")
EVENT_HEAD: Final = struct.Struct("<Bd")
HEADER_HEAD: Final = struct.Struct("<B8sH")
KEYSET_HEAD: Final = struct.Struct("<BI")

MAX_PAYLOAD: Final = 1 << 22
"""No frame is longer: a reader may take any larger length for damage."""

ATTEMPT_LIMIT: Final = 1 << 31

MAX_NAMES: Final = 1 << 15
MAX_NAMES_BYTES: Final = 1 << 20

EXACT: Final = 1 << 53
"""Integers of larger magnitude are not exact as f64 and travel in ``value`` events."""

BIG_INTEGER: Final = 1
"""Extension type of an integer outside 64 bits: its hexadecimal form in ASCII, as ``-0x1f``."""

METRIC: Final = "metric"
SYSTEM: Final = "system"


class Header(msgspec.Struct, frozen=True):
    """Who writes a log. ``generation`` is random: a copy that goes on must take a new one."""

    run: str
    project: str
    writer: str
    generation: str
    role: str = "train"
    attempt: int = 1
    host: str = ""
    pid: int = 0
    process_started: float | None = None
    created: float = 0.0
    software: str = ""
    version: int = VERSION
    extra: Mapping[str, Any] = {}


class Keyset(msgspec.Struct, frozen=True):
    """The names of one kind of row, with a letter each: f float, i integer, b boolean."""

    id: int
    names: tuple[str, ...]
    types: str
    space: str = METRIC


class Event(msgspec.Struct, frozen=True):
    """Everything that is not a row of numbers: a type, a time, and fields."""

    type: str
    time: float
    fields: Mapping[str, Any]


def frame(payload: bytes) -> bytes:
    """One frame around a payload of 1 to MAX_PAYLOAD bytes."""
    if not 0 < len(payload) <= MAX_PAYLOAD:
        raise FormatError(f"a frame holds 1 to {MAX_PAYLOAD} bytes, not {len(payload)}")
    return FRAME.pack(len(payload), crc32(payload)) + payload


_HEADER_FIELDS: Final = (
    "run project writer generation role attempt host pid process_started created software".split()
)


def encode_header(header: Header) -> bytes:
    """The header frame."""
    fields = {name: getattr(header, name) for name in _HEADER_FIELDS} | dict(header.extra)
    head = HEADER_HEAD.pack(HEADER, MAGIC, header.version)
    return frame(head + msgspec.msgpack.encode(fields))


def decode_header(payload: bytes | memoryview) -> Header:
    """The header of a payload of kind HEADER; FormatError if it is not one we can read."""
    try:
        _, magic, version = HEADER_HEAD.unpack_from(payload)
        fields = unpack(payload[HEADER_HEAD.size :])
        known = {name: fields.pop(name) for name in _HEADER_FIELDS if name in fields}
        header = msgspec.convert({**known, "version": version, "extra": fields}, Header)
    except (struct.error, TypeError, AttributeError, msgspec.MsgspecError, FormatError) as error:
        raise FormatError(f"not a Trackway header: {error}") from error
    if magic != MAGIC:
        raise FormatError(f"not a Trackway header: it begins with {bytes(magic)!r}")
    if not 0 < header.attempt < ATTEMPT_LIMIT:
        raise FormatError(f"not a Trackway header: attempt {header.attempt}")
    return header


def encode_keyset(keyset: Keyset) -> bytes:
    """The frame that declares a keyset."""
    body = msgspec.msgpack.encode((keyset.names, keyset.types, keyset.space))
    return frame(KEYSET_HEAD.pack(KEYSET, keyset.id) + body)


def decode_keyset(payload: bytes | memoryview) -> Keyset:
    """The keyset of a payload of kind KEYSET."""
    try:
        _, number = KEYSET_HEAD.unpack_from(payload)
        names, types, space = unpack(payload[KEYSET_HEAD.size :])[:3]
        texts = isinstance(names, list) and {str} >= {*map(type, names), type(types), type(space)}
        if not texts or len(names) != len(types):
            raise FormatError("it has names, and one type letter for each")
        return Keyset(number, tuple(names), types, space)
    except (struct.error, TypeError, ValueError, KeyError) as error:
        raise FormatError(f"not a keyset: {error}") from error


def encode_row(keyset: int, step: int, time: float, values: Sequence[float]) -> bytes:
    """The frame of one row; the writer's fast path builds the same bytes from a plan."""
    return frame(ROW_HEAD.pack(ROW, keyset, step, time) + struct.pack(f"<{len(values)}d", *values))


def encode_event(type: str, time: float, fields: Mapping[str, object]) -> bytes:
    """The frame of one event; FormatError where its fields need more than MAX_PAYLOAD bytes."""
    body = msgspec.msgpack.encode({"type": type, **fields})
    return frame(EVENT_HEAD.pack(EVENT, time) + body)


def decode_event(payload: bytes | memoryview) -> Event:
    """The event of a payload of kind EVENT."""
    try:
        _, time = EVENT_HEAD.unpack_from(payload)
        fields = unpack(payload[EVENT_HEAD.size :])
        name = fields.pop("type")
        if not isinstance(name, str):
            raise FormatError("its type is a text")
        return Event(name, time, fields)
    except (struct.error, TypeError, AttributeError, KeyError, FormatError) as error:
        raise FormatError(f"not an event: {error}") from error


def unpack(data: bytes | memoryview) -> Any:
    """MessagePack to Python values, integers beyond 64 bits included."""
    try:
        return msgspec.msgpack.decode(data, ext_hook=_from_extension)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise FormatError(f"not MessagePack: {error}") from error


def big_integer(number: int) -> int | msgspec.msgpack.Ext:
    """The integer as MessagePack can hold it."""
    if -(1 << 63) <= number < 1 << 64:
        return number
    # hex() is linear and unlimited; str() refuses more than 4300 digits on recent Pythons.
    return msgspec.msgpack.Ext(BIG_INTEGER, hex(number).encode())


def _from_extension(code: int, data: memoryview) -> object:
    if code == BIG_INTEGER:
        return int(bytes(data), 16)
    return msgspec.msgpack.Ext(code, bytes(data))
