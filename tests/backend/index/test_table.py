"""The run table: pages in the right order, groups of the right runs, exact aggregates."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trackway.backend.index.columns import MISSING, Column, value_at
from trackway.backend.index.expression import FilterError
from trackway.backend.index.table import AGGREGATES, PathInfo, Selection, Table, paths
from trackway.errors import ArgumentError

Doc = dict[str, Any]


def table_of(documents: Sequence[Doc]) -> Table:
    """A table of these runs."""

    def column(path: tuple[str, ...]) -> Column:
        return Column.of([value_at(document, path) for document in documents])

    return Table(len(documents), column, clock=lambda: 1e9)


def table_of_values(*columns: Sequence[Any]) -> Table:
    """A table whose config has ``a``, ``b`` …, one column of values each."""
    names = "abcdefgh"[: len(columns)]
    made: dict[tuple[str, ...], Column] = {
        ("config", name): Column.of(found) for name, found in zip(names, columns, strict=True)
    }
    return Table(len(columns[0]), made.__getitem__)


def page(found: Selection) -> tuple[list[int], int, int]:
    """All that a selection says."""
    return found.index.tolist(), found.matched, found.total


VALUES = st.one_of(
    st.sampled_from([0, 1, 1.0, True, False, -0.0, 0.5, 2**53, 2**53 + 1, -(2**60) - 1, 10**400]),
    st.sampled_from([math.nan, math.inf, -math.inf, None, MISSING, "", "a", "B", "b", "ä"]),
    st.sampled_from([[1], [1.0], [True], ["a"], [], {"x": 1}, {"x": 1.0}, {}, [math.nan]]),
)


# -- order -----------------------------------------------------------------------------------------


def kind_of(value: Any) -> int:
    """The place of a value's kind in the order."""
    if value is MISSING:
        return 4
    if isinstance(value, str):
        return 2
    if not isinstance(value, (bool, int, float)):
        return 3
    return 1 if value != value else 0


def stable(values: Sequence[Any], rows: list[int], falling: bool) -> list[int]:
    """The obvious way: kind by kind, each sorted by Python; equal rows as they stand."""
    found: list[int] = []
    for kind in range(5):
        part = [row for row in rows if kind_of(values[row]) == kind]
        if kind in (0, 2):
            part.sort(key=lambda row: values[row], reverse=falling)
        if kind == 3:
            part.sort(key=lambda row: repr(values[row]), reverse=falling)
        found += part
    return found


@settings(deadline=None, max_examples=120)
@given(st.lists(VALUES, min_size=1, max_size=12), st.booleans())
def test_order_is_that_of_sorted(values: list[Any], falling: bool) -> None:
    """Numbers, NaN, texts, others, missing; in both directions, exact, and stable."""
    found = table_of_values(values).select(order="-config.a" if falling else "config.a")
    assert found.index.tolist() == stable(values, list(range(len(values))), falling)


@settings(deadline=None, max_examples=120)
@given(st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=12), st.booleans(), st.booleans())
def test_order_by_several_keys(pairs: list[tuple[Any, Any]], one: bool, other: bool) -> None:
    """The first key counts most: sorting by the last, then stably by the first, is the same."""
    first, second = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    order = ["-config.a" if one else "config.a", "-config.b" if other else "config.b"]
    expected = stable(first, stable(second, list(range(len(pairs))), other), one)
    assert table_of_values(first, second).select(order=order).index.tolist() == expected


def test_order_by_expressions() -> None:
    """Any expression may be ordered by, and a blank before the minus does no harm."""
    table = table_of_values([3, 1, 2], ["b", "C", "a"])
    assert table.select(order="lower(config.b)").index.tolist() == [2, 0, 1]
    assert table.select(order=" -config.a % 3").index.tolist() == [2, 1, 0]
    assert table.select(order="-(config.a > 1)").index.tolist() == [0, 2, 1]
    assert table.select(order=[]).index.tolist() == [0, 1, 2]
    assert table.select(order="5").index.tolist() == [0, 1, 2]


def test_ties_stay_as_they_stand_in_both_directions() -> None:
    """Equal runs keep the order of the table, also when the order is turned round."""
    table = table_of_values([1, 0, 1.0, True, 0])
    assert table.select(order="config.a").index.tolist() == [1, 4, 0, 2, 3]
    assert table.select(order="-config.a").index.tolist() == [0, 2, 3, 1, 4]


# -- selection -------------------------------------------------------------------------------------


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=30),
    st.integers(0, 9),
    st.integers(0, 40),
    st.none() | st.integers(0, 40),
)
def test_pages(values: list[int], least: int, offset: int, limit: int | None) -> None:
    """A page is a slice of what the filter lets pass, in order; the counts are of all."""
    found = table_of_values(values).select(f"config.a >= {least}", "-config.a", offset, limit)
    rows = stable(values, [row for row, value in enumerate(values) if value >= least], True)
    end = None if limit is None else offset + limit
    assert page(found) == (rows[offset:end], len(rows), len(values))
    assert found.index.dtype == np.int64


def test_no_filter_and_no_runs() -> None:
    """None and blanks let every run pass; a table may be empty."""
    table = table_of_values([2, 1])
    for text in (None, "", "  "):
        assert page(table.select(text)) == ([0, 1], 2, 2)
    assert page(table.select("True")) == ([0, 1], 2, 2)
    assert page(table_of([]).select("config.a > 1 and name ~ 'x'", ["-name", "id"])) == ([], 0, 0)
    assert table_of([]).group(by=["name"]) == []


def test_clock_and_zone() -> None:
    """Times are seen from the table's clock."""
    table = table_of([{"created": 1e9 - 100}, {"created": 1e9 - 5000}])
    assert table.select("created > '1 hour ago'").index.tolist() == [0]
    assert table.values("created > '1 hour ago'").values() == [True, False]


def test_only_the_columns_that_are_named_are_asked_for() -> None:
    """A filter over two values of 200 reads two columns."""
    asked: list[tuple[str, ...]] = []

    def column(path: tuple[str, ...]) -> Column:
        asked.append(path)
        return Column.of([1, 2])

    Table(2, column).select("config.a > 1 or summary.b == 3", "-config.a")
    assert set(asked) == {("config", "a"), ("summary", "b")}


def test_errors() -> None:
    """Wrong arguments say what is wrong; an order's error points into the order as written."""
    table = table_of_values([1])
    with pytest.raises(FilterError) as caught:
        table.select(order=" -lr")
    assert (caught.value.position, str(caught.value).split("\n")[1:]) == (2, [" -lr", "  ^"])
    with pytest.raises(FilterError):
        table.select("config.a =")
    for wrong in ({"offset": -1}, {"limit": -1}):
        with pytest.raises(ArgumentError, match="0 or more"):
            table.select(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="no aggregate 'avg'; there are count, first, max"):
        table.group(aggregates={"config.a": "avg"})
    with pytest.raises(ArgumentError, match="not the name of a value"):
        table.group_except(["config.a + 1"], ["config.a"])


# -- groups ----------------------------------------------------------------------------------------


def alike(one: Any, other: Any) -> bool:
    """Whether two values fall into one group."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, (int, float)) and isinstance(other, (int, float)):
        return one == other or (one != one and other != other)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
    return one is other or (type(one) is type(other) and bool(one == other))


def grouped(rows: Sequence[tuple[Any, ...]]) -> list[list[int]]:
    """The obvious way: each row beside the first one that is alike."""
    found: list[list[int]] = []
    for number, row in enumerate(rows):
        for group in found:
            if all(map(alike, rows[group[0]], row)):
                group.append(number)
                break
        else:
            found.append([number])
    return found


@settings(deadline=None, max_examples=120)
@given(st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=10))
def test_groups_hold_runs_that_agree(rows: list[tuple[Any, Any]]) -> None:
    """1 and 1.0 are the same, True is not; NaN, None, missing, lists and maps by value."""
    table = table_of_values([row[0] for row in rows], [row[1] for row in rows])
    groups = table.group(by=["config.a", "config.b"])
    assert [group.index.tolist() for group in groups] == grouped(rows)
    for group in groups:
        assert repr(group.values) == repr(rows[group.index[0]])
        assert group.count == len(group.index)
        assert group.by == ("config.a", "config.b")


def test_groups_of_a_filter() -> None:
    """Only runs that pass are grouped; without ``by`` all of them are one group."""
    table = table_of_values([1, 2, 1, 3], [5, 6, 7, 8])
    groups = table.group("config.b > 5", ["config.a"])
    assert [(group.values, group.index.tolist()) for group in groups] == [
        ((2,), [1]), ((1,), [2]), ((3,), [3]),
    ]  # fmt: skip
    (everything,) = table.group("config.a < 3")
    assert (everything.values, everything.index.tolist()) == ((), [0, 1, 2])
    assert table.group("config.a > 3", ["config.a"]) == []
    assert table.group("config.a > 3") == []


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.floats(-1e6, 1e6) | st.just(math.nan) | st.just(MISSING)),
        min_size=1,
        max_size=15,
    )
)
def test_aggregates(rows: list[tuple[int, Any]]) -> None:
    """Each aggregate is what Python's own statistics say of the group's numbers."""
    keys, values = [row[0] for row in rows], [row[1] for row in rows]
    groups = table_of_values(keys, values).group(
        by=["config.a"], aggregates={"config.b": AGGREGATES}
    )
    for group in groups:
        there = [value for key, value in rows if key == group.values[0] and value is not MISSING]
        numbers = [value for value in there if value == value]
        told = {function: group.aggregates["config.b", function] for function in AGGREGATES}
        assert told["count"] == len(there)
        assert repr(told["first"]) == repr(there[0] if there else None)
        if not numbers:
            assert [told[name] for name in ("min", "max", "mean", "median", "sum", "std")] == [
                None
            ] * 6
            continue
        assert (told["min"], told["max"]) == (min(numbers), max(numbers))
        assert (told["sum"], told["median"]) == (math.fsum(numbers), statistics.median(numbers))
        assert told["mean"] == math.fsum(numbers) / len(numbers)
        if len(numbers) == 1:
            assert told["std"] is None
        else:
            assert told["std"] == pytest.approx(statistics.stdev(numbers), rel=1e-9, abs=1e-9)


def test_aggregates_of_infinities() -> None:
    """Infinite numbers count; the standard deviation of such is NaN."""
    table = table_of_values([math.inf, 1.0, -math.inf])
    (group,) = table.group(
        aggregates={"config.a": ("max", "sum", "std"), "config.a * 0 + 1": "sum"}
    )
    assert group.aggregates["config.a", "max"] == math.inf
    assert math.isnan(group.aggregates["config.a", "sum"])
    assert math.isnan(group.aggregates["config.a", "std"])
    assert group.aggregates["config.a * 0 + 1", "sum"] == 1.0


RUNS: list[Doc] = [
    {"config": {"lr": 1, "seed": 1, "opt": {"name": "adam", "seed": 7}}},
    {"config": {"lr": 1.0, "seed": 2, "opt": {"name": "adam", "seed": 8}}},
    {"config": {"lr": True, "seed": 1, "opt": {"name": "adam", "seed": 7}}},
    {"config": {"lr": 2, "seed": 1, "opt": {"name": "sgd", "seed": 7}}},
    {"config": {"lr": 2, "opt": {"name": "sgd", "seed": 7}}},
    {"config": {"lr": 2, "seed": 1, "opt": {"name": "sgd", "seed": 7}, "x": None}},
]


def test_all_but_these() -> None:
    """Runs whose configs agree in everything but the named keys; ``by`` is what differs."""
    table = table_of(RUNS)
    names = [info.text for info in paths(RUNS, ["config"])]
    assert names == ["config.lr", "config.opt.name", "config.opt.seed", "config.seed", "config.x"]
    groups = table.group_except(["config.seed", "config.opt.seed"], names)
    assert [group.index.tolist() for group in groups] == [[0, 1], [2], [3, 4], [5]]
    assert groups[0].by == ("config.lr", "config.opt.name", "config.x")
    assert [repr(group.values) for group in groups] == [
        "(1, 'adam', MISSING)",
        "(True, 'adam', MISSING)",
        "(2, 'sgd', MISSING)",
        "(2, 'sgd', None)",
    ]  # fmt: skip


def test_all_but_a_map() -> None:
    """A key stands for all below it."""
    names = [info.text for info in paths(RUNS, ["config"])]
    groups = table_of(RUNS).group_except(
        ["config.opt", "config.seed", "config.x"],
        names,
        "exists(config.seed)",
        {"config.lr": "count"},
    )
    assert [group.index.tolist() for group in groups] == [[0, 1], [2], [3, 5]]
    assert groups[0].by == ("config.lr",)
    assert [group.aggregates["config.lr", "count"] for group in groups] == [2, 1, 2]


def test_all_but_everything() -> None:
    """Where nothing is left to compare, or nothing differs, there is one group."""
    table = table_of(RUNS[:2])
    (group,) = table.group_except(["config.seed"], ["config.lr"])
    assert (group.index.tolist(), group.by, group.values) == ([0, 1], (), ())
    (group,) = table.group_except(["config.seed"], ["config.seed"])
    assert group.index.tolist() == [0, 1]


def test_all_but_these_of_no_runs() -> None:
    """No runs, no groups."""
    assert table_of(RUNS).group_except(["config.seed"], ["config.lr"], "False") == []


# -- paths -----------------------------------------------------------------------------------------


def test_paths() -> None:
    """Every leaf with how many runs have it, as what; nested and dotted names are one."""
    documents: list[Doc] = [
        {"config": {"a": 1, "b": {"c": "x", "d": {}}}, "summary": {"val/acc": 0.5}},
        {"config": {"a": None, "b.c": True, "e": [1]}, "summary": {}},
        {"config": {"a": 2.5, "f": {"": 1}}},
        {"config": None},
    ]
    assert paths(documents) == [
        PathInfo(("config", "a"), "config.a", 3, {"none": 1, "number": 2}),
        PathInfo(("config", "b", "c"), "config.b.c", 2, {"bool": 1, "text": 1}),
        PathInfo(("config", "b", "d"), "config.b.d", 1, {"map": 1}),
        PathInfo(("config", "e"), "config.e", 1, {"list": 1}),
        PathInfo(("config", "f", ""), 'config["f."]', 1, {"number": 1}),
        PathInfo(("summary", "val/acc"), 'summary["val/acc"]', 1, {"number": 1}),
    ]
    assert [info.text for info in paths(documents, ["summary"])] == ['summary["val/acc"]']


@settings(deadline=None)
@given(
    st.lists(
        st.recursive(
            st.dictionaries(st.sampled_from("abc"), st.integers(0, 1), max_size=2),
            lambda inner: st.dictionaries(st.sampled_from("abc"), inner | st.none(), max_size=3),
            max_leaves=4,
        ),
        max_size=4,
    )
)
def test_paths_are_found_where_they_are_said_to_be(configs: list[Doc]) -> None:
    """As many runs as told have a value under a path that paths() lists."""
    documents: list[Doc] = [{"config": config} for config in configs]
    for info in paths(documents):
        found = [value_at(document, info.path) for document in documents]
        leaves = [
            value
            for value in found
            if value is not MISSING and not (value and isinstance(value, dict))
        ]
        assert len(leaves) == info.count == sum(info.kinds.values())
