"""The functions of a filter, on columns. They compute in float64, and are total: see _operators."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any, Final

import numpy as np

from trackway.backend.index._operators import by_pairs, included
from trackway.backend.index.columns import ABSENT, MISSING, Column, Floats, Mask

__all__ = ["PREDICATES", "VALUES"]

_TEXT_LIMIT: Final = 1000  # characters of a text that is read as a number
_SCALE_LIMIT: Final = 400  # decimal digits: beyond these no float64 changes


def _of_numbers(function: Callable[[Floats], Floats]) -> Callable[[Column], Column]:
    """Of a number; where a number has no answer (``function`` makes it NaN) that is missing."""

    def apply(column: Column) -> Column:
        with np.errstate(all="ignore"):
            found = function(column.numbers)
        answered = ~np.isnan(found) | np.isnan(column.numbers)
        return Column.of_numbers(found, present=column.numeric & answered)

    return apply


def _of_words(function: Callable[[Any], Any]) -> Callable[[Column], Column]:
    """Of what lies in the vocabulary, once for each entry; anything else is missing."""

    def apply(column: Column) -> Column:
        if not column.vocabulary:
            return Column.missing(len(column))
        return Column.of([*map(function, column.vocabulary), MISSING]).take(
            column.codes.astype(np.int64)
        )

    return apply


def _with_words(column: Column, numbers: Column, function: Callable[[Any], Any]) -> Column:
    """``numbers``, and ``function`` of the vocabulary in the rows that have a word."""
    if not column.vocabulary:
        return numbers
    words, here = _of_words(function)(column), column.codes >= 0
    return Column(
        np.where(here, words.kinds, numbers.kinds),
        np.where(here, words.numbers, numbers.numbers),
        np.where(here, words.whole, numbers.whole),
        np.where(here, words.codes, -1).astype(np.int32),
        words.vocabulary,
    )


def _positive(numbers: Floats) -> Floats:
    return np.where(numbers > 0, numbers, np.nan)


# -- texts and lists -------------------------------------------------------------------------------


def _len(entry: Any) -> Any:
    return len(entry) if isinstance(entry, (str, list, tuple, dict)) else MISSING


def _lower(entry: Any) -> Any:
    return entry.lower() if isinstance(entry, str) else MISSING


def _upper(entry: Any) -> Any:
    return entry.upper() if isinstance(entry, str) else MISSING


def _startswith(text: Any, start: Any) -> bool:
    return isinstance(text, str) and isinstance(start, str) and text.startswith(start)


def _endswith(text: Any, end: Any) -> bool:
    return isinstance(text, str) and isinstance(end, str) and text.endswith(end)


# -- numbers ---------------------------------------------------------------------------------------


def _float(column: Column) -> Column:
    numbers = Column.of_numbers(column.numbers, present=column.numeric)
    return _with_words(column, numbers, _as_float)


def _as_float(entry: Any) -> Any:
    if not isinstance(entry, (str, int)) or (isinstance(entry, str) and len(entry) > _TEXT_LIMIT):
        return MISSING
    try:
        return float(entry)
    except ValueError:
        return MISSING
    except OverflowError:
        return float("inf") if int(entry) > 0 else float("-inf")


def _int(column: Column) -> Column:
    present = column.numeric & np.isfinite(column.numbers)
    numbers = Column.of_numbers(np.trunc(column.numbers), present=present, whole=True)
    return _with_words(column, numbers, _as_int)


def _as_int(entry: Any) -> Any:
    if isinstance(entry, str) and len(entry) <= _TEXT_LIMIT:
        try:
            return int(entry)
        except ValueError:
            return MISSING
    return entry if isinstance(entry, int) else MISSING


def _round(column: Column, digits: Column | None = None) -> Column:
    if digits is None:
        return Column.of_numbers(np.rint(column.numbers), present=column.numeric)
    fitting = digits.numeric & (digits.numbers == np.rint(digits.numbers))
    present = column.numeric & fitting & (np.abs(digits.numbers) <= _SCALE_LIMIT)
    numbers, scales = np.broadcast_arrays(column.numbers, digits.numbers)
    found = np.full(len(present), np.nan)
    rows = np.flatnonzero(present)
    pairs = zip(numbers[rows].tolist(), scales[rows].tolist(), strict=True)
    found[rows] = [_rounded(number, int(scale)) for number, scale in pairs]
    return Column.of_numbers(found, present=present)


def _rounded(number: float, digits: int) -> float:
    try:
        return round(number, digits)
    except OverflowError:  # rounded up beyond the largest float
        return float("inf") if number > 0 else float("-inf")


def _least(choose: Any) -> Callable[..., Column]:
    """min() or max(): of several numbers, or of the numbers in a list; NaN where one is NaN."""

    def of_list(entry: Any) -> Any:
        if isinstance(entry, int):
            return entry
        if not isinstance(entry, (list, tuple)) or not entry:
            return MISSING
        if not all(isinstance(part, (int, float)) for part in entry):
            return MISSING
        return float(choose.reduce(Column.of(entry).numbers))

    def apply(*columns: Column) -> Column:
        numeric = reduce(np.logical_and, (column.numeric for column in columns))
        found = reduce(choose, (column.numbers for column in columns))
        numbers = Column.of_numbers(found, present=numeric)
        return numbers if len(columns) > 1 else _with_words(columns[0], numbers, of_list)

    return apply


# -- the tables ------------------------------------------------------------------------------------


def _exists(column: Column) -> Mask:
    found: Mask = column.kinds != ABSENT
    return found


PREDICATES: Final[dict[str, Callable[..., Mask]]] = {
    "contains": lambda container, item: included(item, container),
    "endswith": lambda text, end: by_pairs(text, end, _endswith),
    "exists": _exists,
    "missing": lambda column: ~_exists(column),
    "startswith": lambda text, start: by_pairs(text, start, _startswith),
}
"""Functions that tell whether something holds."""

VALUES: Final[dict[str, Callable[..., Column]]] = {
    "abs": _of_numbers(np.abs),
    "float": _float,
    "int": _int,
    "len": _of_words(_len),
    "log": _of_numbers(lambda numbers: np.log(_positive(numbers))),
    "log10": _of_numbers(lambda numbers: np.log10(_positive(numbers))),
    "lower": _of_words(_lower),
    "max": _least(np.maximum),
    "min": _least(np.minimum),
    "round": _round,
    "sqrt": _of_numbers(np.sqrt),
    "upper": _of_words(_upper),
}
"""Functions that make a value."""
