"""Values that were rounded to a few decimals: integers over a power of ten."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, Final
from zlib import crc32

import numpy as np
import numpy.typing as npt

from trackway.backend.index._numbers import (
    HEAD_BYTES,
    compress,
    decompress,
    pack_head,
    pack_integers,
    unpack_integers,
)
from trackway.backend.index.contract import IndexDamagedError

__all__ = ["DECIMAL", "decode_decimals", "encode_decimals", "places_of", "sample_of"]

Floats = npt.NDArray[np.float64]

DECIMAL: Final = 2
_MAX_PLACES: Final = 6
_EXACT: Final = float(1 << 53)
_SAMPLE: Final = 256

_MORE: Final = struct.Struct("<qI")
"""What the head has no room for: the first integer, and the bytes of the exceptions."""

_CHECK: Final = struct.Struct("<I")
_BODY: Final = HEAD_BYTES + _MORE.size + _CHECK.size
_EXCEPTION_BYTES: Final = 12


def sample_of(values: Floats) -> Floats:
    """A few of the values, from all over."""
    return np.ascontiguousarray(values[:: len(values) // _SAMPLE + 1])


def places_of(sample: Floats, narrow: bool) -> Iterator[int]:
    """How many decimals are worth trying.

    Args:
        sample: Some of the values.
        narrow: Whether float32 holds these exactly: then decimals must take less than that.
    """
    for places in range(_MAX_PLACES + 1):
        integers, wrong = _integers(sample, places)
        if int(wrong.sum()) * 16 > len(sample):
            continue
        if not narrow or int(integers.max()) - int(integers.min()) < 1 << 16:
            yield places


def _integers(values: Floats, places: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Each value times a power of ten, and which of them do not come back from that."""
    scale = 10.0**places
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = np.rint(values * scale)
        inside = np.abs(scaled) < _EXACT
        integers = (scaled if inside.all() else np.where(inside, scaled, 0.0)).astype(np.int64)
    # From the integers, by bits: -0.0 is none, and comes back as +0.0.
    return integers, (integers / scale).view(np.int64) != values.view(np.int64)


def encode_decimals(values: Floats, places: int) -> bytes | None:
    """The values as integers and exceptions; None where there are too many of those."""
    integers, wrong = _integers(values, places)
    exceptions = np.flatnonzero(wrong)
    if len(exceptions) * 32 > len(values):
        return None
    beside = b""
    if len(exceptions):
        # What they are replaced by is near their neighbours, so that it costs no width.
        integers[exceptions] = np.median(integers[~wrong]).astype(np.int64)
        beside = compress(
            exceptions.astype("<u4").tobytes() + values[exceptions].view(np.int64).tobytes()
        )
    start = int(integers[0])
    deltas = np.diff(integers, prepend=integers[:1])
    by_deltas = _spread(deltas) < _spread(integers)
    low, width, body = pack_integers(deltas if by_deltas else integers)
    layout = width | places << 8 | by_deltas << 16 | len(exceptions) << 32
    more = _MORE.pack(start, len(beside))
    head = pack_head(DECIMAL, len(values), low, layout)
    return b"".join([head, more, _CHECK.pack(crc32(more)), beside, body])


def _spread(integers: npt.NDArray[np.int64]) -> float:
    """How far from each other the integers are, about: what the entropy coder will see."""
    floats = integers.astype(np.float64)
    return float(np.abs(floats - floats.mean()).sum())


def decode_decimals(data: bytes, count: int, low: int, layout: int) -> npt.NDArray[Any]:
    """What ``encode_decimals`` made, given the head of it."""
    more = data[HEAD_BYTES : _BODY - _CHECK.size]
    check = data[_BODY - _CHECK.size : _BODY]
    if len(check) < _CHECK.size or crc32(more) != _CHECK.unpack(check)[0]:
        raise IndexDamagedError("a piece of the index has a damaged head")
    start, beside = _MORE.unpack(more)
    width, places, exceptions = layout & 255, layout >> 8 & 255, layout >> 32
    integers = unpack_integers(data, _BODY + beside, width, count, low).view(np.int64)
    if layout >> 16 & 1:
        integers[0] += start
        np.cumsum(integers, out=integers)
    values = integers / 10.0**places
    if exceptions:
        body = memoryview(data)[_BODY : _BODY + beside]
        plain = decompress(body, exceptions * _EXCEPTION_BYTES)
        where = np.frombuffer(plain, "<u4", exceptions)
        if int(where.max()) >= count:
            raise IndexDamagedError("a piece of the index has an exception behind its end")
        values[where] = np.frombuffer(plain, np.float64, exceptions, 4 * exceptions)
    return values
