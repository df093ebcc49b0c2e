"""A second reader, written from docs/format/log.md alone: nothing of Trackway is imported."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import msgspec


def frames(data: bytes) -> list[bytes]:
    """The payloads of a log without damage."""
    payloads = []
    at = 0
    while at < len(data):
        length, checksum = struct.unpack_from("<II", data, at)
        payload = data[at + 8 : at + 8 + length]
        assert 1 <= length == len(payload) <= 4_194_304
        assert zlib.crc32(payload) == checksum
        payloads.append(payload)
        at += 8 + length
    return payloads


def integer(code: int, data: memoryview) -> Any:
    """Extension 1."""
    assert code == 1
    return int(bytes(data).decode("ascii"), 16)


def unpack(data: bytes) -> Any:
    """MessagePack."""
    return msgspec.msgpack.decode(data, ext_hook=integer)


def read(path: Path) -> list[tuple[Any, ...]]:
    """Each record: header, keyset, row (with its values as bits), event, or a kind unknown."""
    records: list[tuple[Any, ...]] = []
    for payload in frames(path.read_bytes()):
        kind = payload[0]
        if kind == 1:
            magic, version = struct.unpack_from("<8sH", payload, 1)
            assert (magic, version) == (b"TRACKWAY", 1)
            records.append(("header", unpack(payload[11:])))
        elif kind == 2:
            (number,) = struct.unpack_from("<I", payload, 1)
            names, types, space = unpack(payload[5:])
            records.append(("keyset", number, names, types, space))
        elif kind == 3:
            number, step, time = struct.unpack_from("<Iqd", payload, 1)
            assert (len(payload) - 21) % 8 == 0
            bits = struct.unpack_from(f"<{(len(payload) - 21) // 8}Q", payload, 21)
            records.append(("row", number, step, time, bits))
        elif kind == 4:
            (time,) = struct.unpack_from("<d", payload, 1)
            fields = unpack(payload[9:])
            records.append(("event", fields.pop("type"), time, fields))
        else:
            records.append(("unknown", kind))
    return records
