"""What the operators of a filter do to columns.

A column of one row stands for that value in every row (NumPy's broadcasting). Every function here
is total: what has no answer (a text less than a number, a division by zero) is False, or missing.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from trackway.backend.index.columns import (
    ABSENT,
    OTHER,
    TEXT,
    Column,
    Floats,
    Mask,
)

__all__ = [
    "arithmetic",
    "by_pairs",
    "compare",
    "equal",
    "equal_values",
    "included",
    "included_in_all",
    "is_none",
    "truth",
]

_COMPARE: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "==": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_PLAIN: Final = (int, float)  # bool is an int
_LISTS: Final = (list, tuple)


# -- equality and order ----------------------------------------------------------------------------


def equal_values(left: Any, right: Any) -> bool:
    """Whether two Python values are equal: numbers by value, and NaN to nothing."""
    if isinstance(left, _PLAIN) or isinstance(right, _PLAIN):
        return isinstance(left, _PLAIN) and isinstance(right, _PLAIN) and left == right
    if isinstance(left, _LISTS) and isinstance(right, _LISTS):
        return len(left) == len(right) and all(map(equal_values, left, right))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(
            equal_values(value, right[key]) for key, value in left.items()
        )
    return type(left) is type(right) and bool(left == right)


def compare(word: str, left: Column, right: Column) -> Mask:
    """``==``, ``!=``, ``<`` … of two columns. Only ``!=`` holds where there is a missing value."""
    if word == "!=":
        return ~compare("==", left, right)
    test = _COMPARE[word]
    found: Mask = test(left.numbers, right.numbers)  # NaN, also where there is no number: False
    if not left.vocabulary and not right.vocabulary:
        return found
    if left.wide.any() or right.wide.any():
        found = _exactly(test, left, right, found)
    if left.vocabulary and right.vocabulary:
        found = found | _compare_words(word, left, right)
    return found


def _compare_words(word: str, left: Column, right: Column) -> Mask:
    test = _equal_words if word == "==" else _ordered(_COMPARE[word])
    if len(right) == 1 and right.kinds[0] == TEXT:
        return left.by_entry(_compare_texts(word, left.vocabulary, right.value(0)))
    if len(left) == 1 or len(right) == 1:
        return by_pairs(left, right, test)
    kept, found = left.memo(("words", word), lambda: (right, by_pairs(left, right, test)))
    return found if kept is right else by_pairs(left, right, test)


def equal(left: Column, right: Column) -> Mask:
    """Where both have a value, and it is the same."""
    return compare("==", left, right)


def _compare_texts(word: str, entries: tuple[Any, ...], text: str) -> Mask:
    if word == "==":
        return np.fromiter((entry == text for entry in entries), np.bool_, len(entries))
    test = _COMPARE[word]
    flags = (isinstance(entry, str) and test(entry, text) for entry in entries)
    return np.fromiter(flags, np.bool_, len(entries))


def _equal_words(left: Any, right: Any) -> bool:
    return not isinstance(left, _PLAIN) and equal_values(left, right)


def _ordered(test: Callable[[Any, Any], Any]) -> Callable[[Any, Any], bool]:
    def ordered(left: Any, right: Any) -> bool:
        return isinstance(left, str) and isinstance(right, str) and bool(test(left, right))

    return ordered


def _exactly(test: Callable[[Any, Any], Any], left: Column, right: Column, found: Mask) -> Mask:
    """Compare anew, as Python does, the numbers of which one does not fit into a float64."""
    rows = np.flatnonzero((left.wide | right.wide) & (left.numeric & right.numeric))
    found = np.array(found)
    found[rows] = list(map(test, _exact(left, rows), _exact(right, rows)))
    return found


def _exact(column: Column, rows: Any) -> list[Any]:
    if len(column) == 1:
        return [column.value(0)] * len(rows)
    words = column.vocabulary
    pairs = zip(column.codes[rows].tolist(), column.numbers[rows].tolist(), strict=True)
    return [number if code < 0 else words[code] for code, number in pairs]


def by_pairs(left: Column, right: Column, test: Callable[[Any, Any], bool]) -> Mask:
    """``test`` of each pair of words, done once for each distinct pair; False where one is none."""
    if len(right) == 1 and right.codes[0] >= 0:
        word = right.vocabulary[right.codes[0]]
        return left.by_entry(_flags(test(entry, word) for entry in left.vocabulary))
    if len(left) == 1 and left.codes[0] >= 0:
        word = left.vocabulary[left.codes[0]]
        return right.by_entry(_flags(test(word, entry) for entry in right.vocabulary))
    width = len(right.vocabulary) + 1
    pairs = (left.codes.astype(np.int64) + 1) * width + (right.codes + 1)
    distinct, inverse = np.unique(pairs, return_inverse=True)
    flags = np.zeros(len(distinct), np.bool_)
    for place, pair in enumerate(distinct.tolist()):
        one, other = divmod(pair, width)
        if one and other:
            flags[place] = test(left.vocabulary[one - 1], right.vocabulary[other - 1])
    found: Mask = flags[inverse.reshape(pairs.shape)]
    return found


def _flags(found: Any) -> Mask:
    return np.array(list(found), np.bool_)


def is_none(column: Column) -> Mask:
    """Where the value is None, or missing."""
    found: Mask = column.kinds == ABSENT
    if column.vocabulary:
        found = found | column.by_entry(_flags(entry is None for entry in column.vocabulary))
    return found


def truth(column: Column) -> Mask:
    """Where the value is true in the sense of Python; a missing one is not."""
    with np.errstate(invalid="ignore"):
        found: Mask = column.numeric & (column.numbers != 0)
    if column.vocabulary:
        found = found | column.by_entry(_flags(bool(entry) for entry in column.vocabulary))
    return found


# -- membership ------------------------------------------------------------------------------------


def included(item: Column, container: Column) -> Mask:
    """Where a list or map of the container holds the item, or its text the item's text."""
    if not container.vocabulary:
        return np.zeros(max(len(item), len(container)), np.bool_)
    if len(item) == 1:
        value = item.value(0)
        return container.by_entry(_flags(_holds(entry, value) for entry in container.vocabulary))
    found = np.zeros(np.broadcast_shapes(item.kinds.shape, container.kinds.shape), np.bool_)
    if item.vocabulary:
        found |= by_pairs(item, container, lambda value, entry: _holds(entry, value))
    rows = np.flatnonzero(item.numeric & (item.codes < 0) & (container.kinds == OTHER))
    for row in rows.tolist():
        entry = container.value(row if len(container) > 1 else 0)
        found[row] = _holds(entry, item.value(row))
    return found


def _holds(container: Any, value: Any) -> bool:
    if isinstance(container, str):
        return isinstance(value, str) and value in container
    if isinstance(container, dict):
        return isinstance(value, str) and value in container
    return isinstance(container, _LISTS) and any(equal_values(value, part) for part in container)


def included_in_all(item: Column, values: Sequence[Any]) -> Mask:
    """Where the item is one of these values; a None among them stands for missing as well."""
    texts = {value for value in values if isinstance(value, str)}
    plain = {value for value in values if isinstance(value, _PLAIN)}
    small = [float(value) for value in plain if abs(value) <= 2**53]
    found: Mask = np.isin(item.numbers, small) & ~item.wide
    others = [value for value in values if not isinstance(value, (str, *_PLAIN))]
    if item.vocabulary:
        found = found | item.by_entry(
            _flags(
                (entry in texts) if isinstance(entry, str) else _one_of(entry, others)
                for entry in item.vocabulary
            )
        )
    for value in (value for value in plain if not abs(value) <= 2**53):
        found = found | equal(item, Column.of([value]))
    return found | is_none(item) if None in others else found


def _one_of(entry: Any, values: Sequence[Any]) -> bool:
    return not isinstance(entry, _PLAIN) and any(equal_values(entry, value) for value in values)


# -- arithmetic ------------------------------------------------------------------------------------


def _divide(left: Floats, right: Floats) -> Floats:
    return left / right


def _power(left: Floats, right: Floats) -> Floats:
    found: Floats = np.power(left, right)
    found[np.broadcast_to((left == 0) & (right < 0), found.shape)] = np.nan
    return found


_ARITHMETIC: Final[dict[str, Callable[[Floats, Floats], Floats]]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": _divide,
    "//": np.floor_divide,
    "%": np.mod,
    "**": _power,
}


def arithmetic(word: str, left: Column, right: Column) -> Column:
    """``left word right`` in float64; missing where one is no number, or there is no answer."""
    present = left.numeric & right.numeric
    with np.errstate(all="ignore"):
        found = _ARITHMETIC[word](left.numbers, right.numbers)
        if word in ("/", "//", "%"):
            present = present & (right.numbers != 0)
        elif word == "**":
            known = ~np.isnan(left.numbers) & ~np.isnan(right.numbers)
            present = present & ~(np.isnan(found) & known)
    return Column.of_numbers(found, present=present)
