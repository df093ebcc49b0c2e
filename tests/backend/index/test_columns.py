"""Columns: exactly the values they were made of, whatever these are, and through bytes as well."""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trackway.backend.index.columns import (
    BOOL,
    MISSING,
    NUMBER,
    OTHER,
    TEXT,
    Column,
    value_at,
)
from trackway.backend.index.contract import IndexDamagedError

PLAIN = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=3)
    | st.sampled_from([2**53, 2**53 + 1, -(2**53) - 1, 2**63, 2**64, 10**400, -(10**400), -0.0])
)
VALUES = (
    st.recursive(
        PLAIN,
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner),
        max_leaves=3,
    )
    | st.just(MISSING)
    | st.sampled_from(["a", "b"])
)
COLUMNS = (
    st.lists(VALUES, max_size=8)
    | st.lists(st.floats(), max_size=8)
    | st.lists(st.integers(), max_size=8)
    | st.lists(st.integers(-5, 5) | st.just(MISSING), max_size=8)
    | st.lists(st.text(max_size=2), max_size=8)
    | st.lists(st.booleans(), max_size=8)
)


def spelled(values: list[Any]) -> list[str]:
    """Equal exactly for the same values of the same types, NaN and -0.0 included."""
    return list(map(repr, values))


@settings(deadline=None)
@given(COLUMNS)
def test_values_come_back(values: list[Any]) -> None:
    """A column gives back each value as it was, with its type."""
    column = Column.of(values)
    assert len(column) == len(values)
    assert spelled(column.values()) == spelled(values)
    assert spelled([column.value(row) for row in range(len(values))]) == spelled(values)


@settings(deadline=None)
@given(COLUMNS)
def test_bytes_come_back(values: list[Any]) -> None:
    """Through bytes too, array by array."""
    column = Column.of(values)
    back = Column.from_bytes(column.to_bytes())
    assert spelled(back.values()) == spelled(values)
    for name in ("kinds", "whole", "codes"):
        assert np.array_equal(getattr(back, name), getattr(column, name))
        assert getattr(back, name).dtype == getattr(column, name).dtype
    assert np.array_equal(back.numbers, column.numbers, equal_nan=True)


@settings(deadline=None)
@given(COLUMNS, st.data())
def test_take_and_replace(values: list[Any], data: st.DataObject) -> None:
    """``take`` chooses rows, ``with_values`` replaces some and leaves the column as it was."""
    column = Column.of(values)
    rows = data.draw(st.lists(st.integers(0, len(values) - 1))) if values else []
    index = np.array(rows, np.int64)
    assert spelled(column.take(index).values()) == spelled([values[row] for row in rows])
    distinct = sorted(set(rows))
    fresh = data.draw(st.lists(VALUES, min_size=len(distinct), max_size=len(distinct)))
    other = column.with_values(np.array(distinct, np.int64), fresh)
    expected = list(values)
    for row, value in zip(distinct, fresh, strict=True):
        expected[row] = value
    assert spelled(other.values()) == spelled(expected)
    assert spelled(column.values()) == spelled(values)


def test_arrays() -> None:
    """What lies in which array, kind by kind."""
    column = Column.of([1, 2.5, "b", True, None, MISSING, "a", "b", 2**53 + 1, [1]])
    assert column.kinds.tolist() == [
        NUMBER, NUMBER, TEXT, BOOL, OTHER, 0, TEXT, TEXT, NUMBER, OTHER,
    ]  # fmt: skip
    nan = math.nan
    expected = [1.0, 2.5, nan, 1.0, nan, nan, nan, nan, 2.0**53, nan]
    assert np.array_equal(column.numbers, expected, equal_nan=True)
    assert column.codes.tolist() == [-1, -1, 0, -1, 2, -1, 1, 0, 3, 4]
    assert column.vocabulary == ("b", "a", None, 2**53 + 1, [1])
    assert np.flatnonzero(column.wide).tolist() == [8]
    assert np.flatnonzero(column.numeric).tolist() == [0, 1, 3, 8]
    assert repr(column) == "<Column of 10: 1 missing, 3 number, 3 text, 1 bool, 2 other>"


def test_equal_others_of_different_types_stay_apart() -> None:
    """[1], [1.0] and [True] are equal in Python; each comes back as it was."""
    values = [[1], [1.0], [True], [1]]
    assert spelled(Column.of(values).values()) == spelled(values)


def test_numbers_of_numpy() -> None:
    """A float64 of NumPy is a float of Python: it is a number like any other."""
    column = Column.of([np.float64(0.5), 1])
    assert column.kinds.tolist() == [NUMBER, NUMBER]
    assert column.values() == [0.5, 1]


def test_makers() -> None:
    """Columns of numbers, of bools, and of nothing."""
    assert spelled(
        Column.of_numbers(np.array([1.0, 2.0]), present=np.array([True, False])).values()
    ) == ["1.0", "MISSING"]
    assert spelled(Column.of_truths(np.array([True, False])).values()) == ["True", "False"]
    assert spelled(Column.missing(2).values()) == ["MISSING", "MISSING"]
    assert Column.of([]).values() == []


@pytest.mark.parametrize("values", [[1.0, 2.0], ["a", MISSING], [[1], 2**70], [1, 2.5, True]])
def test_damaged_bytes_are_refused(values: list[Any]) -> None:
    """A changed byte, a missing one, one too many: each is noticed."""
    data = Column.of(values).to_bytes()
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 0x55
        with pytest.raises(IndexDamagedError):
            Column.from_bytes(bytes(changed))
        with pytest.raises(IndexDamagedError):
            Column.from_bytes(data[:place])
    with pytest.raises(IndexDamagedError):
        Column.from_bytes(data + b"x")


def test_memo_is_made_once() -> None:
    """What is remembered is made once; other keys make it anew, and there is a limit to them."""
    column = Column.of([1.0])
    made: list[int] = []

    def make() -> int:
        made.append(len(made))
        return made[-1]

    assert [column.memo(key, make) for key in (1, 1, 2, 1)] == [0, 0, 1, 0]
    for key in range(500):
        column.memo(key, make)
    assert len(column._memos) <= 64


def test_memo_of_many_threads() -> None:
    """Threads that remember at once each get what they asked for."""
    column = Column.of([1.0])
    wrong: list[int] = []

    def ask(start: int) -> None:
        for key in range(start, start + 2000):
            if column.memo(key % 97, lambda key=key: key % 97) != key % 97:  # type: ignore[misc]
                wrong.append(key)

    threads = [threading.Thread(target=ask, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# -- documents -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "path", "expected"),
    [
        ({"name": "x"}, ("name",), "x"),
        ({"name": None}, ("name",), MISSING),
        ({}, ("name",), MISSING),
        ({}, ("config", "a"), MISSING),
        ({"config": None}, ("config", "a"), MISSING),
        ({"config": {"a": None}}, ("config", "a"), None),
        ({"config": {"a": {"b": 1}}}, ("config", "a", "b"), 1),
        ({"config": {"a.b": 1}}, ("config", "a", "b"), 1),
        ({"config": {"a.b": {"c.d": 1}}}, ("config", "a", "b", "c", "d"), 1),
        ({"config": {"a": {"x": 2}, "a.b": 1}}, ("config", "a", "b"), 1),
        ({"config": {"a": {"b": 2}, "a.b": 1}}, ("config", "a", "b"), 2),
        ({"config": {"a": {"b": 2}}}, ("config", "a"), {"b": 2}),
        ({"config": {"a": 1}}, ("config", "a", "b"), MISSING),
        ({"config": {"a.": 1}}, ("config", "a", ""), 1),
        ({"config": {"": 1}}, ("config", ""), 1),
    ],
)
def test_value_at(document: dict[str, Any], path: tuple[str, ...], expected: Any) -> None:
    """A path is found in nested and in dotted maps; a field that is None is missing."""
    assert value_at(document, path) == expected or value_at(document, path) is expected
