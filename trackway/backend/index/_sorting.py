"""The order of rows by a column, and what makes rows equal when they are grouped."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from trackway.backend.index.columns import ABSENT, NUMBER, OTHER, TEXT, Column, Floats, Indices

__all__ = ["frozen", "identity", "order_of", "sort_keys"]

_RANK_NUMBER, _RANK_NAN, _RANK_TEXT, _RANK_OTHER, _RANK_MISSING = range(5)


# -- order -----------------------------------------------------------------------------------------


def sort_keys(column: Column, *, falling: bool) -> tuple[npt.NDArray[np.uint8], Floats]:
    """The rank of each row's kind, and a number by which rows of one kind are in order.

    Numbers (and bools), NaN, texts by code point, others as they are written, missing ones: in
    this order both ways. ``falling`` turns round the order within each kind.
    """
    ranks, numbers = column.memo("sort_keys", lambda: _sort_keys(column))
    return ranks, -numbers if falling else numbers


def _sort_keys(column: Column) -> tuple[npt.NDArray[np.uint8], Floats]:
    ranks = np.full(len(column), _RANK_NUMBER, np.uint8)
    nan = np.isnan(column.numbers)
    if nan.any():
        ranks[nan] = _RANK_NAN
        for kind, rank in ((TEXT, _RANK_TEXT), (OTHER, _RANK_OTHER), (ABSENT, _RANK_MISSING)):
            ranks[column.kinds == kind] = rank
    numbers = np.where(nan, 0.0, column.numbers) + 0.0
    if column.vocabulary:
        coded = column.codes >= 0
        numbers[coded] = _entry_ranks(column)[column.codes[coded]]
        if column.wide.any():
            rows = np.flatnonzero(ranks == _RANK_NUMBER)
            numbers[rows] = _exact_ranks(column, rows)
    return ranks, numbers


def _entry_ranks(column: Column) -> Floats:
    """For each entry of the vocabulary its place among the texts, or among the others."""
    words = column.vocabulary
    texts = [word if isinstance(word, str) else None for word in words]
    if None in texts:
        spelled = [
            repr(word) if text is None else text for word, text in zip(words, texts, strict=True)
        ]
    else:
        spelled = [text for text in texts if text is not None]
    places = {text: float(place) for place, text in enumerate(sorted(set(spelled)))}
    return np.fromiter(map(places.__getitem__, spelled), np.float64, len(spelled))


def _exact_ranks(column: Column, rows: Indices) -> list[float]:
    """Numbers of which some do not fit into a float64, as their places in exact order."""
    values = [column.value(row) for row in rows.tolist()]
    places: dict[Any, float] = {}
    for value in sorted(values):
        places.setdefault(value, float(len(places)))
    return [places[value] for value in values]


def order_of(keys: list[tuple[Column, bool]], rows: Indices) -> Indices:
    """These rows in order of the columns, the first one counting most; equal rows as they stand."""
    levels: list[npt.NDArray[Any]] = []
    for column, falling in reversed(keys):
        ranks, numbers = (part[rows] for part in sort_keys(column, falling=falling))
        levels.append(numbers)
        if len(ranks) and ranks.min() != ranks.max():
            levels.append(ranks)
    if not levels:
        return rows
    if len(levels) == 1:
        return rows[np.argsort(levels[0], kind="stable")]
    return rows[np.lexsort(levels)]


# -- sameness --------------------------------------------------------------------------------------


def frozen(value: Any) -> Any:
    """Something hashable that is equal for values that fall into one group, and only for these.

    1 and 1.0 are the same, and so are all NaN; True and 1 are not.
    """
    if isinstance(value, bool):
        return ("bool", value)
    if isinstance(value, float) and value != value:
        return ("nan",)
    if isinstance(value, (list, tuple)):
        return ("list", *map(frozen, value))
    if isinstance(value, dict):
        return ("map", frozenset((key, frozen(part)) for key, part in value.items()))
    if isinstance(value, (int, float, str, bytes)) or value is None:
        return value
    return ("other", type(value).__name__, repr(value))


_NAN_BITS: Final = np.array(np.nan).view(np.int64)[()]


def identity(column: Column) -> tuple[npt.NDArray[np.uint8], Indices]:
    """Two arrays that agree in two rows exactly where these hold the same value."""

    def make() -> tuple[npt.NDArray[np.uint8], Indices]:
        kinds = column.kinds.astype(np.uint8)
        numbers = column.numbers + 0.0  # -0.0 becomes 0.0
        bits = numbers.view(np.int64).copy()
        bits[np.isnan(numbers)] = _NAN_BITS
        coded = column.codes >= 0
        if coded.any():
            places: dict[Any, int] = {}
            entries = [places.setdefault(frozen(word), len(places)) for word in column.vocabulary]
            bits[coded] = np.array(entries, np.int64)[column.codes[coded]]
            kinds[coded & (kinds == NUMBER)] = OTHER + 1  # a wide integer equals no float64
        return kinds, bits

    return column.memo("identity", make)
