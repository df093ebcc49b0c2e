"""Logs made many rows at a time: the same bytes that a writer appends one row after the other.

Rows of one keyset have one length, so they are one array of structures. The CRC-32 of messages of
one length is linear over the bits in which they differ: it is the checksum of the message without
them, XOR one table entry for each 16 bits. So checksums are computed column by column, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import starmap
from pathlib import Path
from struct import iter_unpack
from typing import Any, Final
from zlib import crc32

import numpy as np
import numpy.typing as npt

from trackway.backend.file.format import (
    FRAME,
    KEYSET_HEAD,
    METRIC,
    ROW,
    ROW_HEAD,
    Header,
    Keyset,
    encode_event,
    encode_header,
    encode_keyset,
)

__all__ = ["Floats", "Integers", "Log", "row_frames"]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_AT_ONCE: Final = 1 << 14
"""Rows whose columns stay in the processor's cache while their checksums are put together."""

_WIDEST: Final = 3
"""Keys up to which tables are faster than one call of ``crc32`` a row."""

_WORD: Final = 1 << 16


class Log:
    """The bytes of one log, in the order of the calls.

    Args:
        header: Who writes.
    """

    def __init__(self, header: Header) -> None:
        self.header = header
        self.points = 0
        self._parts: list[bytes] = [encode_header(header)]
        self._keysets: dict[tuple[tuple[str, ...], str, str], int] = {}

    def event(self, type: str, time: float, fields: Mapping[str, object]) -> None:
        """Append an event."""
        self._parts.append(encode_event(type, time, fields))

    def rows(
        self,
        names: Sequence[str],
        steps: Integers,
        times: Floats,
        values: Floats,
        *,
        types: str = "",
        space: str = METRIC,
    ) -> None:
        """Append rows, and the declaration of their keyset where it is new.

        Args:
            names: k names.
            steps: [n].
            times: [n], seconds since 1970.
            values: [n, k].
            types: k letters; all floats by default.
            space: ``metric`` or ``system``.
        """
        kind = (tuple(names), types or "f" * len(names), space)
        number = self._keysets.get(kind)
        if number is None:
            number = self._keysets[kind] = len(self._keysets)
            self._parts.append(encode_keyset(Keyset(number, *kind)) * 2)
        self._parts += [
            row_frames(
                number,
                steps[begin : begin + _AT_ONCE],
                times[begin : begin + _AT_ONCE],
                values[begin : begin + _AT_ONCE],
            )
            for begin in range(0, len(steps), _AT_ONCE)
        ]
        self.points += values.size

    def write(self, root: Path) -> Path:
        """Write the log where its header says it belongs; returns the file."""
        folder = root / self.header.project / self.header.run
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.header.writer}.log"
        with path.open("wb", buffering=0) as file:
            file.write(b"".join(self._parts))
        return path


def row_frames(keyset: int, steps: Integers, times: Floats, values: Floats) -> bytes:
    """The frames of rows of one keyset.

    Args:
        keyset: Its id.
        steps: [n].
        times: [n].
        values: [n, k].
    """
    width = values.shape[1]
    length = ROW_HEAD.size + 8 * width
    names = ("length", "checksum", "kind", "keyset", "step", "time", "values")
    formats: list[Any] = ["<u4", "<u4", "u1", "<u4", "<i8", "<f8", ("<f8", (width,))]
    frames = np.empty(len(steps), np.dtype(list(zip(names, formats, strict=True))))
    for name, column in zip(names[2:], (ROW, keyset, steps, times, values), strict=True):
        frames[name] = column
    frames["length"] = length
    frames["checksum"] = 0
    if width <= _WIDEST:
        frames["checksum"] = _checksums(keyset, steps, times, values)
        return frames.tobytes()
    data = frames.tobytes()
    frames["checksum"] = np.fromiter(
        starmap(crc32, iter_unpack(f"<{FRAME.size}x{length}s", data)), np.uint32, len(frames)
    )
    return frames.tobytes()


def _checksums(
    keyset: int, steps: Integers, times: Floats, values: Floats
) -> npt.NDArray[np.uint32]:
    width = values.shape[1]
    head = KEYSET_HEAD.pack(ROW, keyset)
    sums = np.full(len(steps), crc32(head + bytes(16 + 8 * width)), np.uint32)
    tables = _tables(width)
    columns: list[npt.NDArray[Any]] = [steps.astype("<i8"), times.astype("<f8")]
    columns += [values[:, key].astype("<f8") for key in range(width)]
    for number, column in enumerate(columns):
        words = column.view("<u2").reshape(-1, 4)
        for word in range(4):
            part = words[:, word]
            if part.any():  # the entry of 0 is 0
                sums ^= tables[4 * number + word][part]
    return sums


@lru_cache(maxsize=4)
def _tables(width: int) -> list[npt.NDArray[np.uint32]]:
    """What each value of each 16 bits behind the keyset's id does to a row's checksum."""
    length = ROW_HEAD.size + 8 * width
    nothing = crc32(bytes(length))
    tables = []
    for at in range(KEYSET_HEAD.size, length, 2):
        low, high = (
            np.array(
                [
                    crc32(bytes(place) + bytes([byte]) + bytes(length - 1 - place)) ^ nothing
                    for byte in range(256)
                ],
                np.uint32,
            )
            for place in (at, at + 1)
        )
        tables.append((high[:, None] ^ low[None, :]).reshape(_WORD))
    return tables
