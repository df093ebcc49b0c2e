"""Columns to bytes and back, exactly to the bit: values, steps, times, objects, and pyramids.

What is written is only ever read by the same version of the index (``contract.VERSION``), so the
bytes are free to change with it. Whatever bytes a decoder is given, it returns what was encoded
or raises IndexDamagedError. What a decoder returns may be read-only.

Values are tried, on a sample first, as: one constant; decimals (integers over a power of ten, with
a few exceptions such as NaN beside); float32 where that holds the same bits; float64. Steps and
times are stored by their differences, a constant stride in 25 bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final
from zlib import crc32

import msgspec
import numpy as np
import numpy.typing as npt

from trackway.backend.file.format import big_integer
from trackway.backend.file.format import unpack as from_msgpack
from trackway.backend.index._decimals import (
    DECIMAL,
    decode_decimals,
    encode_decimals,
    places_of,
    sample_of,
)
from trackway.backend.index._digest import head_of
from trackway.backend.index._integers import decode_integers, encode_integers
from trackway.backend.index._numbers import (
    HEAD_BYTES,
    compress,
    decompress,
    pack,
    pack_head,
    unpack,
    unpack_head,
)
from trackway.backend.index._pyramid import cells_of, decode_cells
from trackway.backend.index.contract import IndexDamagedError
from trackway.errors import FormatError

__all__ = [
    "cells_of",
    "decode_cells",
    "decode_objects",
    "decode_steps",
    "decode_times",
    "decode_values",
    "encode_columns",
    "encode_objects",
    "encode_steps",
    "encode_times",
    "encode_values",
    "head_of",
]

Array = npt.NDArray[Any]

_CONSTANT: Final = 1
_FLOAT_32: Final = 3
_FLOAT_64: Final = 4
_PLAIN_32: Final = 5
_PLAIN_64: Final = 6
_OBJECTS: Final = 10

_SHORT: Final = 128
"""Values that are stored as they are: trying to make so few smaller takes longer than it gains."""


def encode_columns(columns: Sequence[Array]) -> list[bytes]:
    """``encode_values`` of several columns of one length: for short ones much faster."""
    if not columns or len(columns[0]) > _SHORT or len(columns[0]) < 2:
        return [encode_values(column) for column in columns]
    rows = np.array(columns, np.float64)
    bits = rows.view(np.int64)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        narrow = rows.astype(np.float32)
        fits = (narrow.astype(np.float64).view(np.int64) == bits).all(axis=1).tolist()
    constant = (bits == bits[:, :1]).all(axis=1).tolist()
    count = rows.shape[1]
    packed = []
    for place, is_narrow in enumerate(fits):
        if constant[place]:
            packed.append(pack_head(_CONSTANT, count, int(bits[place, 0])))
        elif is_narrow:
            packed.append(_as_it_is(_PLAIN_32, narrow[place]))
        else:
            packed.append(_as_it_is(_PLAIN_64, rows[place]))
    return packed


def _as_it_is(kind: int, values: Array) -> bytes:
    data: bytes = values.tobytes()
    return pack_head(kind, len(values), crc32(data)) + data


def _taken_as_it_is(data: bytes, kind: int, count: int, checksum: int) -> Array:
    body = data[HEAD_BYTES:]
    if crc32(body) != checksum or len(body) != count * (4 if kind == _PLAIN_32 else 8):
        raise IndexDamagedError("a piece of the index does not hold the values it should")
    return np.frombuffer(body, np.float32 if kind == _PLAIN_32 else np.float64)


def encode_values(values: Array) -> bytes:
    """float64 [n] as bytes, exactly: also the sign of zero and what a NaN carries."""
    plain = np.ascontiguousarray(values, np.float64)
    bits = plain.view(np.int64)
    count = len(plain)
    if not count or (bits[0] == bits[-1] and (bits == bits[0]).all()):
        return pack_head(_CONSTANT, count, int(bits[0]) if count else 0)
    sample = sample_of(plain)
    narrow = _narrow(sample) is not None
    for places in places_of(sample, narrow):
        packed = encode_decimals(plain, places)
        if packed is not None:
            return packed
    if narrow:
        floats = _narrow(plain)
        if floats is not None:
            return pack_head(_FLOAT_32, count) + pack(floats)
    return pack_head(_FLOAT_64, count) + pack(plain)


def _narrow(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float32] | None:
    """As float32, where that holds the same bits."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        narrow = values.astype(np.float32)
        same = (narrow.astype(np.float64).view(np.int64) == values.view(np.int64)).all()
    return narrow if same else None


def decode_values(data: bytes) -> Array:
    """What ``encode_values`` was given: float32 [n] where that holds it exactly, or float64."""
    kind, count, first, second = unpack_head(data)
    if kind == _FLOAT_32:
        return unpack(data, HEAD_BYTES, np.float32, count)
    if kind == _FLOAT_64:
        return unpack(data, HEAD_BYTES, np.float64, count)
    if kind == DECIMAL:
        return decode_decimals(data, count, first, second)
    if kind in (_PLAIN_32, _PLAIN_64):
        return _taken_as_it_is(data, kind, count, first)
    if kind == _CONSTANT:
        return np.full(count, first, np.uint64).view(np.float64)
    raise IndexDamagedError(f"a piece of the index holds no values: kind {kind}")


def encode_steps(steps: Array) -> bytes:
    """int64 [n] as bytes; object [n] where steps need more than 64 bits."""
    return encode_objects(steps.tolist()) if steps.dtype == object else encode_integers(steps)


def decode_steps(data: bytes) -> Array:
    """What ``encode_steps`` was given, of the same type."""
    return decode_objects(data) if data[:1] == bytes([_OBJECTS]) else decode_integers(data)


def encode_times(times: npt.NDArray[np.float64]) -> bytes:
    """float64 [n] as bytes, exactly."""
    return encode_integers(np.ascontiguousarray(times, np.float64).view(np.int64))


def decode_times(data: bytes) -> npt.NDArray[np.float64]:
    """What ``encode_times`` was given."""
    return decode_integers(data).view(np.float64)


def encode_objects(values: Iterable[Any]) -> bytes:
    """Any values that MessagePack holds as bytes; integers of any size."""
    listed = list(values)
    try:
        plain = msgspec.msgpack.encode(listed)
    except OverflowError:
        plain = msgspec.msgpack.encode(_packable(listed))
    return pack_head(_OBJECTS, len(listed), len(plain)) + compress(plain)


def _packable(value: Any) -> Any:
    if isinstance(value, int):
        return big_integer(value)
    if isinstance(value, (list, tuple)):
        return [_packable(part) for part in value]
    if isinstance(value, dict):
        return {name: _packable(part) for name, part in value.items()}
    return value


def decode_objects(data: bytes) -> Array:
    """What ``encode_objects`` was given, as object [n]."""
    kind, count, size, _ = unpack_head(data)
    if kind != _OBJECTS:
        raise IndexDamagedError(f"a piece of the index holds no objects: kind {kind}")
    try:
        listed = from_msgpack(decompress(memoryview(data)[HEAD_BYTES:], size))
    except FormatError as error:
        raise IndexDamagedError(f"a piece of the index holds no objects: {error}") from error
    if not isinstance(listed, list) or len(listed) != count:
        raise IndexDamagedError(f"a piece of the index does not hold {count} objects")
    values = np.empty(count, object)
    for place, value in enumerate(listed):  # one by one: lists of one length are not a matrix
        values[place] = value
    return values
