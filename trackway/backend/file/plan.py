"""How rows of one keyset become bytes."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from zlib import crc32

from trackway.backend.file.format import FRAME, MAX_NAMES, MAX_NAMES_BYTES, ROW, Keyset

__all__ = ["Plan", "split_names"]


class Plan:
    """How rows of one keyset are encoded; the log call's fast way does what ``frame`` does."""

    __slots__ = ("id", "integers", "keyset", "length", "pack", "size")

    def __init__(self, keyset: Keyset) -> None:
        count = len(keyset.names)
        layout = struct.Struct(f"<BIqd{count}d")
        self.id = keyset.id
        self.keyset = keyset
        self.integers = tuple(
            name for name, type in zip(keyset.names, keyset.types, strict=True) if type == "i"
        )
        self.pack = layout.pack
        self.length = layout.size
        self.size = FRAME.size + layout.size

    def frame(self, step: int, time: float, values: Sequence[float]) -> bytes:
        """The row's frame; struct.error where a value is no number or the step no i64."""
        payload = self.pack(ROW, self.id, step, time, *values)
        return FRAME.pack(self.length, crc32(payload)) + payload


def split_names(names: Sequence[str]) -> list[tuple[int, int]]:
    """Where to cut a row so that each part's declaration fits into a frame."""
    if len(names) <= MAX_NAMES and sum(map(len, names)) * 4 <= MAX_NAMES_BYTES:
        return [(0, len(names))]
    parts = []
    start = size = 0
    for index, name in enumerate(names):
        size += 4 * len(name) + 5
        if index > start and (index - start >= MAX_NAMES or size > MAX_NAMES_BYTES):
            parts.append((start, index))
            start, size = index, 4 * len(name) + 5
    return [*parts, (start, len(names))]
