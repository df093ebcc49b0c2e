"""Arrays of fixed-width numbers as bytes: a checked head, byte planes, one zstd frame.

The head of every piece carries what is needed to know how large the result will be, and a checksum
of itself; the zstd frame has its own. So no damage makes a reader allocate what was never stored.
"""

from __future__ import annotations

import struct
import threading
from typing import Any, Final
from zlib import crc32

import numpy as np
import numpy.typing as npt
import zstandard

from trackway.backend.index import _numba
from trackway.backend.index.contract import IndexDamagedError

__all__ = ["pack", "pack_head", "pack_integers", "unpack", "unpack_head", "unpack_integers"]

Array = npt.NDArray[Any]

_HEAD: Final = struct.Struct("<BIQQ")
"""Kind, number of elements, and two numbers of 64 bits that the kind gives a meaning."""

_CHECK: Final = struct.Struct("<I")
HEAD_BYTES: Final = _HEAD.size + _CHECK.size

MAX_ELEMENTS: Final = (1 << 32) - 1

_WRAP: Final = (1 << 64) - 1
_UNSIGNED: Final = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}
_ZSTD_LEVEL: Final = 1

_local = threading.local()
"""A compressor or decompressor must not be used by two threads at once."""


def pack_head(kind: int, count: int, first: int = 0, second: int = 0) -> bytes:
    """The head of a piece; ``first`` and ``second`` are taken modulo 2**64."""
    head = _HEAD.pack(kind, count, first & _WRAP, second & _WRAP)
    return head + _CHECK.pack(crc32(head))


def unpack_head(data: bytes) -> tuple[int, int, int, int]:
    """Kind, number of elements and the two numbers; IndexDamagedError where they are not whole."""
    if (
        len(data) < HEAD_BYTES
        or crc32(data[: _HEAD.size]) != _CHECK.unpack_from(data, _HEAD.size)[0]
    ):
        raise IndexDamagedError("a piece of the index has a damaged head")
    kind, count, first, second = _HEAD.unpack_from(data)
    return kind, count, first, second


def compress(data: Any) -> bytes:
    """One zstd frame with its size and a checksum."""
    packed: bytes = _compressor().compress(data)
    return packed


def _compressor() -> zstandard.ZstdCompressor:
    compressor: zstandard.ZstdCompressor | None = getattr(_local, "compressor", None)
    if compressor is None:
        compressor = zstandard.ZstdCompressor(level=_ZSTD_LEVEL, write_checksum=True)
        _local.compressor = compressor
    return compressor


def _compress_planes(planes: npt.NDArray[np.uint8]) -> bytes:
    """One zstd frame, each plane a block of its own.

    The planes of a float are unlike: low ones are noise, which a block of their own leaves as it
    is. Measured on noise: a tenth smaller, and decoded four times as fast as in one block.
    """
    stream = _compressor().compressobj(size=planes.nbytes)
    parts = []
    for plane in planes:
        parts += [stream.compress(plane.data), stream.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)]
    parts.append(stream.flush())
    return b"".join(parts)


def decompress(data: memoryview, size: int) -> bytes:
    """The contents of one zstd frame that holds exactly ``size`` bytes."""
    decompressor = getattr(_local, "decompressor", None)
    if decompressor is None:
        decompressor = _local.decompressor = zstandard.ZstdDecompressor()
    try:
        # Before anything is allocated for it: the frame's own word for its size may be damaged.
        if zstandard.frame_content_size(data) == size:
            plain: bytes = decompressor.decompress(data)
            if len(plain) == size:
                return plain
    except zstandard.ZstdError as error:
        raise IndexDamagedError(f"a piece of the index does not decompress: {error}") from error
    raise IndexDamagedError(f"a piece of the index does not hold the {size} bytes it should")


def pack(values: Array) -> bytes:
    """A contiguous array of numbers of 1, 2, 4 or 8 bytes; its first bytes first, and so on."""
    width = values.dtype.itemsize
    if width == 1:
        return compress(values.data)
    plain = values.view(np.uint8).reshape(-1, width)
    planes = np.empty((width, len(values)), np.uint8)
    for place in range(width):
        planes[place] = plain[:, place]
    return _compress_planes(planes)


def unpack(data: bytes, offset: int, dtype: Any, count: int) -> Array:
    """What ``pack`` made: ``count`` elements of a type; from ``offset`` of the bytes."""
    width = np.dtype(dtype).itemsize
    planes = np.frombuffer(decompress(memoryview(data)[offset:], count * width), np.uint8)
    if width == 1:
        return planes.view(dtype)
    values = np.empty(count, dtype)
    planes = planes.reshape(width, count)
    compiled = _numba.loaded()
    if compiled is not None and width == 4:
        compiled.weave_4(planes, values.view(np.uint32))
    elif compiled is not None and width == 8:
        compiled.weave_8(planes, values.view(np.uint32))
    else:
        target = values.view(np.uint8).reshape(count, width)
        for place in range(width):
            target[:, place] = planes[place]
    return values


def pack_integers(values: npt.NDArray[np.int64]) -> tuple[int, int, bytes]:
    """Integers as (the lowest, the bytes of each, packed): by what they exceed the lowest."""
    low = int(values.min())
    width = _width(int(values.max()) - low)
    # Wraps where the span is beyond int64: in uint64 the difference is right all the same.
    above = (values.view(np.uint64) - np.uint64(low & _WRAP)).astype(_UNSIGNED[width])
    return low, width, pack(above)


def unpack_integers(
    data: bytes, offset: int, width: int, count: int, low: int
) -> npt.NDArray[np.uint64]:
    """What ``pack_integers`` made, modulo 2**64."""
    if width not in _UNSIGNED:
        raise IndexDamagedError(f"a piece of the index has integers of {width} bytes")
    above = unpack(data, offset, _UNSIGNED[width], count).astype(np.uint64)
    above += np.uint64(low & _WRAP)
    return above


def _width(span: int) -> int:
    return next(width for width in _UNSIGNED if span < 1 << (8 * width))
