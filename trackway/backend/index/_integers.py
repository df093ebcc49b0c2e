"""Integers of 64 bits that follow each other, by their differences; the bits of times likewise."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from trackway.backend.index._numbers import (
    HEAD_BYTES,
    pack_head,
    pack_integers,
    unpack_head,
    unpack_integers,
)
from trackway.backend.index.contract import IndexDamagedError

__all__ = ["decode_integers", "encode_integers"]

_STRIDE: Final = 8
_DELTAS: Final = 9


def encode_integers(values: npt.NDArray[Any]) -> bytes:
    """int64 as bytes; a constant stride takes 25."""
    count = len(values)
    if not count:
        return pack_head(_STRIDE, 0)
    # Modulo 2**64, so that a difference beyond int64 comes back as well as any other.
    plain = np.ascontiguousarray(values, np.int64).view(np.uint64)
    deltas = (plain[1:] - plain[:-1]).view(np.int64)
    start = int(plain[0])
    if count == 1 or (deltas == deltas[0]).all():
        return pack_head(_STRIDE, count, start, int(deltas[0]) if count > 1 else 0)
    low, width, body = pack_integers(deltas)
    return pack_head(_DELTAS | width << 4, count, start, low) + body


def decode_integers(data: bytes) -> npt.NDArray[np.int64]:
    """What ``encode_integers`` made."""
    kind, count, start, second = unpack_head(data)
    if kind == _STRIDE:
        values = np.arange(count, dtype=np.uint64)
        values *= np.uint64(second)
        values += np.uint64(start)
        return values.view(np.int64)
    if kind & 15 != _DELTAS or count < 2:
        raise IndexDamagedError(f"a piece of the index holds no steps or times: kind {kind}")
    values = np.empty(count, np.uint64)
    values[0] = start
    values[1:] = unpack_integers(data, HEAD_BYTES, kind >> 4, count - 1, second)
    return np.cumsum(values, out=values).view(np.int64)
