"""Which blobs a file mentions: their digests, as text, anywhere in its bytes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Final

import numpy as np

__all__ = ["digests_in", "mentions"]

_DIGITS: Final = 64
_BLOCK: Final = 32
"""Invariant: any 64 digits in a row fill at least one of these, wherever they begin."""

_PIECE: Final = 8 << 20

_IS_HEX: Final = np.zeros(256, np.bool_)
_IS_HEX[np.frombuffer(b"0123456789abcdef", np.uint8)] = True


def digests_in(data: bytes) -> set[str]:
    """Every 64 hexadecimal digits in a row, also those within longer rows of digits."""
    found: set[str] = set()
    if len(data) < _DIGITS:
        return found
    is_hex = _IS_HEX[np.frombuffer(data, np.uint8)]
    whole = len(data) // _BLOCK * _BLOCK
    full = np.flatnonzero(is_hex[:whole].reshape(-1, _BLOCK).all(axis=1)) * _BLOCK
    done = 0
    for at in full.tolist():
        if at < done:
            continue
        # The row of digits around the block, as far as it may belong to a digest.
        begin = end = at
        while begin > max(done, at - _DIGITS) and is_hex[begin - 1]:
            begin -= 1
        while end < len(data) and is_hex[end]:
            end += 1
        text = data[begin:end].decode("ascii")
        found.update(text[i : i + _DIGITS] for i in range(len(text) - _DIGITS + 1))
        done = end
    return found


def _pieces(path: Path) -> Iterator[bytes]:
    """The bytes of a file, each piece with the end of the one before it."""
    with path.open("rb") as file:
        last = b""
        while data := file.read(_PIECE):
            yield last + data
            last = (last + data)[1 - _DIGITS :]


def mentions(
    path: Path,
    wanted: Collection[str] | None = None,
    progress: Callable[[int], None] = lambda count: None,
) -> set[str]:
    """The digests that a file mentions; of those wanted, where some are.

    Raises:
        OSError: The file cannot be read.
    """
    found: set[str] = set()
    for piece in _pieces(path):
        there = digests_in(piece)
        found |= there if wanted is None else there.intersection(wanted)
        progress(len(piece))
    return found
