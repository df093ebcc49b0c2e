"""Whether many checksums hold, found out with one.

The CRC-32 of two messages one behind the other follows from theirs and the second one's length:
``crc(a + b) = shift(crc(a), len(b)) ^ crc(b)``, where ``shift`` is linear over the bits (it is a
multiplication by a power of x; Mark Adler's crc32_combine in zlib does the same). So the stored
checksums of n rows of one length come to that of all rows in a row, which is worked out in one
pass. If both are the same, all hold; damage of any kind gets through as rarely as through a single
checksum. If not, each has to be looked at by itself.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final
from zlib import crc32

import numpy as np
import numpy.typing as npt

__all__ = ["all_hold"]

Words = npt.NDArray[np.uint32]

_POLYNOMIAL: Final = 0xEDB88320  # of CRC-32, its bits in the order they go over the wire
_BITS: Final = 32


def all_hold(payloads: npt.NDArray[np.uint8], checksums: npt.NDArray[Any]) -> bool:
    """Whether the CRC-32 of every row is the one beside it.

    Args:
        payloads: uint8 [n, length].
        checksums: uint32 [n].
    """
    count, length = payloads.shape
    told = crc32(np.ascontiguousarray(payloads).data)
    levels = (count - 1).bit_length() if count else 0
    # Messages of nothing in front change nothing: their checksum is 0, however far it is shifted.
    parts: Words = np.zeros(1 << levels, np.uint32)
    parts[len(parts) - count :] = checksums
    for level in range(levels):
        tables = _tables(length << level)
        before, behind = parts[0::2], parts[1::2]
        parts = (
            tables[0][before & 0xFF]
            ^ tables[1][before >> 8 & 0xFF]
            ^ tables[2][before >> 16 & 0xFF]
            ^ tables[3][before >> 24]
            ^ behind
        )
    return bool(int(parts[0]) == told)


@lru_cache(512)
def _tables(length: int) -> npt.NDArray[np.uint32]:
    """What shifting by so many bytes makes of each byte of a checksum: uint32 [4, 256]."""
    columns = _shift(length)
    tables = np.zeros((4, 256), np.uint32)
    for place in range(4):
        for bit in range(8):
            half = 1 << bit
            tables[place, half : 2 * half] = tables[place, :half] ^ columns[8 * place + bit]
    return tables


@lru_cache(512)
def _shift(length: int) -> tuple[int, ...]:
    """What shifting by so many bytes makes of each bit of a checksum."""
    if length == 1:
        bit = (_POLYNOMIAL, *(1 << place for place in range(_BITS - 1)))
        byte = bit
        for _ in range(3):
            byte = _after(byte, byte)
        return byte
    half = _shift(length // 2)
    twice = _after(half, half)
    return _after(_shift(1), twice) if length % 2 else twice


def _after(second: tuple[int, ...], first: tuple[int, ...]) -> tuple[int, ...]:
    """One shift behind the other."""
    return tuple(_applied(second, column) for column in first)


def _applied(columns: tuple[int, ...], word: int) -> int:
    told = 0
    while word:
        low = word & -word
        told ^= columns[low.bit_length() - 1]
        word ^= low
    return told
