"""Charts as tables, which arrivals they are of, and what is said where there is nothing to draw."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.api.conftest import Record, accuracy, loss
from tests.cli.conftest import BEGAN
from trackway.api import Api, GroupsAnswer, SeriesAnswer
from trackway.errors import ArgumentError, NotFoundError

SERIES = ["run", "x_low", "x_high", "count", "nan", "min", "max", "mean", "first", "last"]
GROUPS = ["group", "x_low", "x_high", "n", "count", "mean", "median", "min", "max", "std", "stderr"]
POINTS = ["run", "x", "step", "time", "value"]


def rows(table: dict[str, Any]) -> list[tuple[Any, ...]]:
    """The rows of a table."""
    return list(zip(*(column.tolist() for column in table.values()), strict=True))


@pytest.mark.usefixtures("sweep")
def test_buckets_as_rows(api: Api) -> None:
    """A row a run and bucket, with the run's id, and the bucket's first and last step."""
    answer = api.series("train/loss", ["lr0.1-seed1", "run00002"], buckets=2)
    assert isinstance(answer, SeriesAnswer)
    assert answer.ids == ["run00000", "run00002"]
    assert [run.id for run in api.numbered(answer.runs)] == answer.ids
    assert repr(answer) == "<train/loss over step: 2 runs, 2 buckets, 200 of 200 points>"
    table = answer.table()
    assert list(table) == SERIES and table["x_low"].dtype == np.int64
    mean = float(np.mean([loss(0.1, 1, step) for step in range(50)]))
    first = rows(table)[0]
    assert first[:7] == ("run00000", 0, 49, 50, 0, loss(0.1, 1, 49), loss(0.1, 1, 0))
    assert first[7] == pytest.approx(mean, rel=1e-12)
    assert first[8:] == (loss(0.1, 1, 0), loss(0.1, 1, 49))
    assert [row[:4] for row in rows(table)[1:]] == [
        ("run00000", 50, 99, 50),
        ("run00002", 0, 49, 50),
        ("run00002", 50, 99, 50),
    ]
    assert answer.to_pandas()["run"].tolist() == table["run"].tolist()
    assert answer.to_arrow().num_rows == answer.to_polars().height == 4


@pytest.mark.usefixtures("sweep")
def test_buckets_over_another_axis_and_points_as_rows(api: Api) -> None:
    """Over another axis a row has the bucket's edges; without buckets a row is a point."""
    run = api.run("run00000")
    answer = run.series("val/acc", x="epoch", buckets=3)
    assert answer.table()["x_low"].tolist() == [0.0, 3.0, 6.0]
    assert answer.table()["x_high"].tolist() == [3.0, 6.0, 9.0]
    raw = run.series("val/acc", buckets=None, stop=20)
    assert repr(raw) == "<val/acc over step: 1 runs, points, 2 of 10 points>"
    assert list(raw.table()) == POINTS
    assert rows(raw.table()) == [
        ("run00000", 9, 9, BEGAN + 4.5, accuracy(0.1, 1, 9)),
        ("run00000", 19, 19, BEGAN + 9.5, accuracy(0.1, 1, 19)),
    ]


def test_a_bucket_without_points_is_no_row(record: Record, api: Api) -> None:
    """NaN is a point and has a row; where nothing was logged there is none."""
    record().row(0, {"m": float("nan")}).row(3, {"m": 2.0}).end()
    table = api.series("m", buckets=4).table()
    assert (table["x_low"].tolist(), table["nan"].tolist()) == ([0, 3], [1, 0])
    assert list(api.series("m", []).table()) == SERIES
    assert list(api.groups("m", {}).table()) == GROUPS
    assert list(api.series("m", [], buckets=None).table()) == POINTS


@pytest.mark.usefixtures("sweep")
def test_groups_as_rows(api: Api) -> None:
    """A row a group and bucket; runs may be given by what they are called."""
    answer = api.groups("val/acc", {"a": ["run00000", "lr0.1-seed2"], "b": "run00002"}, buckets=1)
    assert isinstance(answer, GroupsAnswer)
    assert repr(answer) == "<val/acc over step: 2 groups of 3 runs, 1 buckets, 30 of 30 points>"
    table = answer.table()
    assert list(table) == GROUPS
    assert table["group"].tolist() == ["a", "b"] and table["n"].tolist() == [2, 1]
    assert (table["x_low"].tolist(), table["x_high"].tolist()) == ([0, 0], [99, 99])
    assert table["max"].tolist() == [accuracy(0.1, 2, 99), accuracy(0.01, 1, 99)]
    assert answer.to_pandas().shape == (2, 11)
    by_group = api.groups("val/acc", {"a": api.group("config.lr")[0]}, buckets=1)  # type: ignore[dict-item]
    assert by_group.runs == [2]


def test_which_arrivals(record: Record, api: Api) -> None:
    """``repeats`` and ``attempts`` are as for history, in every kind of chart."""
    record().row(0, {"m": 1.0}).row(0, {"m": 2.0}).row(1, {"m": 3.0}).end()
    record("abc12345", attempt=2, created=BEGAN + 50).row(1, {"m": 4.0}).end()
    run = api.run("abc12345")
    for asked, count in (
        ({}, 2),
        ({"repeats": "all"}, 3),
        ({"attempts": "all", "repeats": "all"}, 4),
    ):
        options: dict[str, Any] = asked
        history = run.history("m", **options)["m"]
        assert len(history) == count
        for answer in (
            run.series("m", **options),
            api.series("m", **options),
            api.groups("m", {"a": [run]}, **options),
            api.all_series("m", **options)["m"],
        ):
            assert answer.covered.tolist() == [count]
    for ask in (run.series, api.series, api.all_series):
        with pytest.raises(ArgumentError, match="repeats='some': it is one of last, all"):
            ask("m", repeats="some")


@pytest.mark.usefixtures("sweep")
def test_a_run_counts_once(api: Api) -> None:
    """A run that is given twice, by name and id, is one line."""
    assert api.series("val/acc", ["run00000", "lr0.1-seed1"]).ids == ["run00000"]
    assert api.series("val/acc", "run00000").ids == ["run00000"]
    assert api.series("val/acc", api.group("config.lr")[0].runs).covered.tolist() == [10, 10]


@pytest.mark.usefixtures("sweep")
@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda a: a.series("zzz"), "no run has a metric 'zzz'; there are: epoch, train/loss, "),
        (lambda a: a.series("val/ac"), "no run has a metric 'val/ac'; did you mean 'val/acc'?"),
        (lambda a: a.groups("val/ac", {"a": a.runs()}), "did you mean 'val/acc'?"),
        (lambda a: a.groups("zzz", a.group("config.lr")), "no run has a metric 'zzz'"),
        (lambda a: a.series("val/acc", x="epch"), "no metric 'epch'|a metric 'epch'; did you"),
        (lambda a: a.series("zzz", ["run00000"]), "run lr0.1-seed1 has no metric 'zzz'"),
    ],
)
def test_no_such_metric(api: Api, ask: Callable[[Api], object], message: str) -> None:
    """A metric that none of the runs has is an error which names those that are like it."""
    with pytest.raises(NotFoundError) as told:
        ask(api)
    assert any(part in str(told.value) for part in message.split("|"))


def test_a_metric_of_texts(record: Record, api: Api) -> None:
    """A metric without any number cannot be drawn, and the error says so."""
    record().event("value", step=0, data={"note": "good"}).row(0, {"m": 1.0}).end()
    run = api.run("abc12345")
    assert run.history("note")["note"].values.tolist() == ["good"]
    for ask in (
        lambda: api.series("note"),
        lambda: run.series("note"),
        lambda: api.groups("note", {"a": [run]}),
    ):
        with pytest.raises(NotFoundError, match=r"'note' holds no numbers to draw \(text or lists"):
            ask()


@pytest.mark.usefixtures("sweep")
@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda a: a.runs(filter={"lr": 1}), "filter={'lr': 1}: it is an expression as text"),
        (lambda a: a.runs(order=3), "order=3: it is an expression or several"),
        (lambda a: a.runs(order=["name", 3]), "order=['name', 3]: it is an expression or several"),
        (lambda a: a.runs(columns=3), "columns=3: it is expressions"),
        (lambda a: a.runs(limit="3"), "limit='3': it is a whole number"),
        (lambda a: a.runs(3), "project=3: it is the name of a project"),
        (lambda a: a.run(3), "which=3: a run is its name, its id, or project/id"),
        (lambda a: a.group(3), "by=3: it is an expression or several"),
        (lambda a: a.group(all_but=3), "all_but=3: it is names in the config"),
        (lambda a: a.group("name", filter=3), "filter=3: it is an expression as text"),
        (lambda a: a.group("name", aggregates="mean"), "aggregates='mean': it is functions by"),
        (lambda a: a.run("run00000").history(3), "keys=3: it is a name, names or patterns"),
        (lambda a: a.run("run00000").history({"a": 1}), "keys={'a': 1}: it is a name, names"),
        (lambda a: a.run("run00000").events(3), "types=3: it is names of events"),
        (lambda a: a.run("run00000").series("val/acc", start="a"), "start='a': it is a number"),
        (lambda a: a.series(3), "key=3: it is the name of a metric"),
        (lambda a: a.series("val/acc", 3), "runs=3: runs are what api.runs()"),
        (lambda a: a.series("val/acc", [3]), "runs: 3 is no run; runs are what api.runs()"),
        (lambda a: a.series("val/acc", x=3), "x=3: it is the name of a metric"),
        (lambda a: a.all_series(3), "keys=3: it is a name, names or patterns"),
        (lambda a: a.groups("val/acc", 3), "groups=3: it is what api.group() gave"),
        (lambda a: a.groups("val/acc", {"a": 3}), "groups=3: runs are what api.runs()"),
        (lambda a: a.compare(3), "runs=3: runs are what api.runs()"),
        (lambda a: a.keys(3), "search=3: it is a part of a name"),
    ],
)
def test_wrong_types(api: Api, ask: Callable[[Any], object], message: str) -> None:
    """A wrong argument is an ArgumentError that names it and says what it takes."""
    with pytest.raises(ArgumentError) as told:
        ask(api)
    assert str(told.value).startswith(message)
