"""One value for each run, in arrays: what the run table filters, sorts and groups by.

Numbers lie in one float64 array. Everything else (texts, lists, maps, None, and integers that a
float64 would change) lies once in a vocabulary, and each row holds a code into it: an operation on
texts is done once for each distinct text. A column never changes; ``with_values`` makes another.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from itertools import compress
from typing import Any, Final, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from trackway.backend.file.format import big_integer, unpack
from trackway.backend.index._documents import MISSING, Missing, value_at
from trackway.backend.index.contract import IndexDamagedError
from trackway.errors import FormatError

__all__ = [
    "BOOL",
    "KIND_NAMES",
    "MISSING",
    "NUMBER",
    "OTHER",
    "TEXT",
    "Column",
    "Missing",
    "value_at",
]

Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
T = TypeVar("T")

ABSENT: Final = 0
NUMBER: Final = 1
TEXT: Final = 2
BOOL: Final = 3
OTHER: Final = 4
KIND_NAMES: Final = ("missing", "number", "text", "bool", "other")

_INTEGER: Final = 5  # while a column is made: a number that is an integer
_EXACT: Final = 2.0**53  # float64 holds every integer up to here
_MEMOS: Final = 64
_MAGIC: Final = b"twc1"
_HEADER: Final = struct.Struct("<4sBxxxII")  # magic, flags, rows, bytes of the vocabulary
_CRC: Final = struct.Struct("<I")  # of all other bytes; behind the header
_START: Final = _HEADER.size + _CRC.size
_KINDS, _WHOLE, _CODES, _NUMBERS, _ALL_WHOLE = 1, 2, 4, 8, 16


class _KindOf(dict[type, int]):
    def __missing__(self, key: type) -> int:
        return next((self[base] for base in (float, int, str) if issubclass(key, base)), OTHER)


_KIND_OF: Final = _KindOf(
    {float: NUMBER, int: _INTEGER, str: TEXT, bool: BOOL, Missing: ABSENT, type(None): OTHER}
)


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """Values of ``n`` rows.

    Attributes:
        kinds: uint8[n]: 0 missing, 1 number, 2 text, 3 bool, 4 other (None, lists, maps).
        numbers: float64[n]: numbers, bools as 0 and 1; NaN where there is neither.
        whole: bool[n]: whether the number is an integer.
        codes: int32[n] into ``vocabulary``; -1 for what ``numbers`` alone says exactly.
        vocabulary: Texts, others, and the exact value of integers that float64 would round (their
            kind is number). The same text stands in it at most once in a column made by ``of``.
    """

    kinds: npt.NDArray[np.uint8]
    numbers: Floats
    whole: Mask
    codes: npt.NDArray[np.int32]
    vocabulary: tuple[Any, ...] = ()
    _memos: dict[Hashable, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, values: Sequence[Any]) -> Column:
        """The column of these Python values; ``MISSING`` for rows that have none."""
        types = set(map(type, values))
        if types == {float}:
            return cls.of_numbers(np.fromiter(values, np.float64, len(values)))
        if types == {int}:
            try:
                integers = np.fromiter(values, np.int64, len(values))
            except OverflowError:
                return _of_mixed(values)
            if integers.min() > -_EXACT and integers.max() < _EXACT:
                return cls.of_numbers(integers.astype(np.float64), whole=True)
        return _of_mixed(values)

    @classmethod
    def of_numbers(
        cls, numbers: Floats, *, present: Mask | None = None, whole: bool = False
    ) -> Column:
        """The column of these numbers; rows that are not ``present`` are missing."""
        kinds = np.full(len(numbers), NUMBER, np.uint8)
        wholes = np.full(len(numbers), whole)
        if present is not None and not present.all():
            numbers = np.where(present, numbers, np.nan)
            kinds[~present] = ABSENT
            wholes &= present
        return cls(kinds, numbers, wholes, np.full(len(numbers), -1, np.int32))

    @classmethod
    def of_truths(cls, truths: Mask) -> Column:
        """The column of these bools."""
        made = cls.of_numbers(truths.astype(np.float64))
        made.kinds[:] = BOOL
        return made

    @classmethod
    def missing(cls, n: int) -> Column:
        """A column of ``n`` rows that have no value."""
        return cls.of_numbers(np.full(n, np.nan), present=np.zeros(n, np.bool_))

    def __len__(self) -> int:
        return len(self.kinds)

    def __repr__(self) -> str:
        counts = np.bincount(self.kinds, minlength=len(KIND_NAMES))
        told = [f"{count} {name}" for count, name in zip(counts, KIND_NAMES, strict=True) if count]
        return f"<Column of {len(self)}: {', '.join(told) or 'no rows'}>"

    @property
    def numeric(self) -> Mask:
        """Which rows are numbers or bools."""
        found: Mask = (self.kinds == NUMBER) | (self.kinds == BOOL)
        return found

    @property
    def wide(self) -> Mask:
        """Which rows are integers that ``numbers`` holds only rounded."""
        found: Mask = (self.codes >= 0) & (self.kinds == NUMBER)
        return found

    def value(self, row: int) -> Any:
        """The Python value of a row, exactly as given; MISSING where there is none."""
        if self.codes[row] >= 0:
            return self.vocabulary[self.codes[row]]
        kind, number = int(self.kinds[row]), float(self.numbers[row])
        if kind == NUMBER:
            return int(number) if self.whole[row] else number
        return MISSING if kind == ABSENT else bool(number)

    def values(self) -> list[Any]:
        """The Python values of all rows, as ``value`` gives them."""
        found: list[Any] = self.numbers.tolist()
        plain = self.codes < 0
        for row in np.flatnonzero(self.whole & plain).tolist():
            found[row] = int(found[row])
        for row in np.flatnonzero(self.kinds == BOOL).tolist():
            found[row] = bool(found[row])
        for row in np.flatnonzero(self.kinds == ABSENT).tolist():
            found[row] = MISSING
        coded = np.flatnonzero(~plain)
        for row, code in zip(coded.tolist(), self.codes[coded].tolist(), strict=True):
            found[row] = self.vocabulary[code]
        return found

    def take(self, index: Indices) -> Column:
        """The column of these rows, in this order."""
        return Column(
            self.kinds[index],
            self.numbers[index],
            self.whole[index],
            self.codes[index],
            self.vocabulary,
        )

    def with_values(self, index: Indices, values: Sequence[Any]) -> Column:
        """The column with these rows replaced; this one stays as it is."""
        other = Column.of(values)
        made = Column(
            self.kinds.copy(),
            self.numbers.copy(),
            self.whole.copy(),
            self.codes.copy(),
            self.vocabulary + other.vocabulary,
        )
        made.kinds[index] = other.kinds
        made.numbers[index] = other.numbers
        made.whole[index] = other.whole
        shift = len(self.vocabulary)
        made.codes[index] = np.where(other.codes >= 0, other.codes + shift, -1)
        return made

    def by_entry(self, flags: Mask) -> Mask:
        """For each row the flag of its entry in the vocabulary; False for rows without one."""
        return np.append(flags, False)[self.codes]

    def memo(self, key: Hashable, make: Callable[[], T]) -> T:
        """What ``make`` returns, kept with the column under ``key``."""
        found = self._memos.get(key, MISSING)
        if found is MISSING:
            if len(self._memos) >= _MEMOS:
                self._memos.clear()
            found = self._memos[key] = make()
        made: T = found
        return made

    # -- bytes -------------------------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        """The column as bytes, exactly; not compressed."""
        flags, parts = 0, []
        if self.numeric.any():
            flags |= _NUMBERS
            parts.append(self.numbers.astype("<f8").tobytes())
        if (self.codes >= 0).any():
            flags |= _CODES
            parts.append(self.codes.astype("<i4").tobytes())
        if (self.kinds != NUMBER).any():
            flags |= _KINDS
            parts.append(self.kinds.tobytes())
        if len(self) and self.whole.all():
            flags |= _ALL_WHOLE
        elif self.whole.any():
            flags |= _WHOLE
            parts.append(np.packbits(self.whole).tobytes())
        words = _packed(self.vocabulary) if self.vocabulary else b""
        body = b"".join([*parts, words])
        head = _HEADER.pack(_MAGIC, flags, len(self), len(words))
        return head + _CRC.pack(zlib.crc32(body, zlib.crc32(head))) + body

    @classmethod
    def from_bytes(cls, data: bytes) -> Column:
        """What ``to_bytes`` made them of.

        Raises:
            IndexDamagedError: The bytes are not a column.
        """
        try:
            magic, flags, n, words = _HEADER.unpack_from(data)
            (crc,) = _CRC.unpack_from(data, _HEADER.size)
            body = memoryview(data)[_START:]
            if magic != _MAGIC or zlib.crc32(body, zlib.crc32(data[: _HEADER.size])) != crc:
                raise IndexDamagedError("a column of the index is damaged")
            return _decoded(body, flags, n, words)
        except (struct.error, FormatError, ValueError) as error:
            raise IndexDamagedError("a column of the index cannot be read") from error


def _decoded(body: memoryview, flags: int, n: int, words: int) -> Column:
    place = 0

    def part(bit: int, dtype: str, size: int) -> npt.NDArray[Any] | None:
        nonlocal place
        if not flags & bit:
            return None
        found = np.frombuffer(body, dtype, size, place)
        place += found.nbytes
        return found

    numbers = part(_NUMBERS, "<f8", n)
    codes = part(_CODES, "<i4", n)
    kinds = part(_KINDS, "u1", n)
    packed = part(_WHOLE, "u1", (n + 7) // 8)
    if packed is None:
        whole = np.full(n, bool(flags & _ALL_WHOLE))
    else:
        whole = np.unpackbits(packed, count=n).astype(np.bool_)
    return Column(
        np.full(n, NUMBER, np.uint8) if kinds is None else kinds,
        np.full(n, np.nan) if numbers is None else numbers,
        whole,
        np.full(n, -1, np.int32) if codes is None else codes,
        tuple(unpack(body[len(body) - words :])) if words else (),
    )


def _packed(vocabulary: tuple[Any, ...]) -> bytes:
    try:
        return msgspec.msgpack.encode(vocabulary)
    except OverflowError:  # an integer beyond 64 bits
        return msgspec.msgpack.encode(_packable(vocabulary))


def _packable(value: Any) -> Any:
    """The value with integers beyond 64 bits replaced by their extension."""
    if isinstance(value, int) and not isinstance(value, bool):
        return big_integer(value)
    if isinstance(value, (list, tuple)):
        return [_packable(part) for part in value]
    if isinstance(value, dict):
        return {key: _packable(part) for key, part in value.items()}
    return value


# -- from Python values ----------------------------------------------------------------------------


def _of_mixed(values: Sequence[Any]) -> Column:
    n = len(values)
    kinds = np.fromiter(map(_KIND_OF.__getitem__, map(type, values)), np.uint8, n)
    whole = kinds == _INTEGER
    kinds[whole] = NUMBER
    numbers = np.full(n, np.nan)
    numeric = (kinds == NUMBER) | (kinds == BOOL)
    count = int(numeric.sum())
    if count:
        chosen = list(compress(values, numeric.tolist()))
        numbers[numeric] = _floats(chosen)
    codes = np.full(n, -1, np.int32)
    vocabulary: list[Any] = []
    _encode_texts(values, kinds == TEXT, codes, vocabulary)
    _encode_others(values, (kinds == OTHER) | _rounded(values, numbers, whole), codes, vocabulary)
    return Column(kinds, numbers, whole, codes, tuple(vocabulary))


def _floats(values: list[Any]) -> Floats:
    try:
        return np.fromiter(values, np.float64, len(values))
    except OverflowError:  # an integer beyond the range of float64
        return np.fromiter(map(_float, values), np.float64, len(values))


def _float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def _rounded(values: Sequence[Any], numbers: Floats, whole: Mask) -> Mask:
    """Which integers their float64 does not say exactly."""
    found = np.zeros(len(values), np.bool_)
    for row in np.flatnonzero(whole & (np.abs(numbers) >= _EXACT)).tolist():
        number = float(numbers[row])
        found[row] = math.isinf(number) or int(number) != values[row]
    return found


def _encode_texts(
    values: Sequence[Any], rows: Mask, codes: npt.NDArray[np.int32], vocabulary: list[Any]
) -> None:
    count = int(rows.sum())
    if not count:
        return
    texts = list(compress(values, rows.tolist())) if count < len(values) else values
    place = {text: code for code, text in enumerate(dict.fromkeys(texts))}
    codes[rows] = np.fromiter(map(place.__getitem__, texts), np.int32, count)
    vocabulary.extend(place)


def _encode_others(
    values: Sequence[Any], rows: Mask, codes: npt.NDArray[np.int32], vocabulary: list[Any]
) -> None:
    """Others are told apart as they are written: 1, 1.0 and True stay what they are."""
    places: dict[str, int] = {}
    for row in np.flatnonzero(rows).tolist():
        value = values[row]
        code = places.setdefault(repr(value), len(vocabulary))
        if code == len(vocabulary):
            vocabulary.append(value)
        codes[row] = code
