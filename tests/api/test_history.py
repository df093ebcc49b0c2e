"""The points of one run: every one of them, some of them, joined, on any axis."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tests.api.conftest import Record, loss
from tests.cli.conftest import BEGAN
from trackway.api import Api, History, Series, StoredRun
from trackway.api._samples import sampled
from trackway.backend.file.format import big_integer
from trackway.errors import ArgumentError, NotFoundError

NAN, INF = math.nan, math.inf


@pytest.fixture
def run(record: Record, api: Api) -> StoredRun:
    """A run of two attempts: the second one went on from step 2."""
    first = record()
    for step in range(4):
        first.row(step, {"loss": 1.0 - step / 4, "odd": NAN}, after=step)
    first.row(1, {"loss": 7.0}, after=10)
    first.row(3, {"late": 5.0}, types="i", after=11).end(after=12)
    second = record(attempt=2, created=BEGAN + 100)
    second.row(2, {"loss": 0.25}, after=0).row(5, {"loss": -INF, "odd": 3.0}, after=1).end(after=2)
    return api.run("abc12345")


def points(series: Series) -> list[tuple[Any, ...]]:
    """Step, seconds since the beginning, value, and attempt of each point."""
    columns = series.steps, series.times - BEGAN, series.values, series.attempts
    return list(zip(*(column.tolist() for column in columns), strict=True))


# -- history ---------------------------------------------------------------------------------------


def test_the_live_line(run: StoredRun) -> None:
    """By default the last arrival of each step counts, and nothing that an attempt took back."""
    assert points(run.history()["loss"]) == [
        (0, 0.0, 1.0, 1),
        (1, 10.0, 7.0, 1),
        (2, 100.0, 0.25, 2),
        (5, 101.0, -INF, 2),
    ]
    assert points(run.history()["late"]) == [(3, 11.0, 5, 1)]
    assert run.history("late")["late"].values.dtype == np.int64


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"repeats": "all"}, [1.0, 0.75, 7.0, 0.25, -INF]),
        ({"repeats": "all", "order": "arrival"}, [1.0, 0.75, 7.0, 0.25, -INF]),
        ({"attempts": "all"}, [1.0, 7.0, 0.25, 0.25, -INF]),
        (
            {"attempts": "all", "repeats": "all", "order": "arrival"},
            [1.0, 0.75, 0.5, 0.25, 7.0, 0.25, -INF],
        ),
        ({"attempts": "all", "repeats": "all"}, [1.0, 0.75, 7.0, 0.5, 0.25, 0.25, -INF]),
        ({"attempts": "all", "order": "arrival"}, [1.0, 0.25, 7.0, 0.25, -INF]),
    ],
)
def test_what_else_was_logged(run: StoredRun, asked: dict[str, Any], expected: list[float]) -> None:
    """Attempts and repeats that do not count are there for who asks for them."""
    assert run.history("loss", **asked)["loss"].values.tolist() == expected
    assert run.arrivals("loss") == 7


def test_which_metrics(run: StoredRun) -> None:
    """A name, names and patterns choose metrics; each comes once, sorted."""
    assert run.keys() == ["late", "loss", "odd"]
    assert list(run.history()) == ["late", "loss", "odd"]
    assert list(run.history("l*")) == ["late", "loss"]
    assert list(run.history(["odd", "loss", "lo*"])) == ["loss", "odd"]
    assert len(run.history([])) == 0
    assert repr(run.history("l*")) == "<History of 2 metrics, 5 points>"
    assert repr(run.history()["loss"]) == "<Series loss: 4 points>"


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        ({"keys": "nope"}, NotFoundError, "no metric 'nope'; there are: late, loss, odd"),
        ({"keys": ["loss", "n*"]}, NotFoundError, r"no metric 'n\*'"),
        ({"x": "nope"}, NotFoundError, "no metric 'nope'"),
        ({"x": "lo*"}, NotFoundError, r"no metric 'lo\*'"),
        ({"x": "metric:time"}, NotFoundError, "no metric 'time'"),
        ({"samples": 3}, ArgumentError, "samples=3: it is at least 4"),
        ({"attempts": "some"}, ArgumentError, "attempts='some': it is one of live, all"),
        ({"repeats": "first"}, ArgumentError, "repeats='first': it is one of last, all"),
        ({"order": "time"}, ArgumentError, "order='time': it is one of step, arrival"),
    ],
)
def test_what_is_wrong_is_said(
    run: StoredRun, asked: dict[str, Any], error: type[Exception], message: str
) -> None:
    """A wrong argument raises, and the message says what would be right."""
    with pytest.raises(error, match=message):
        run.history(**asked)


# -- axes ------------------------------------------------------------------------------------------


def test_times_as_the_axis(run: StoredRun) -> None:
    """``time`` is since 1970, ``relative`` since the first attempt began."""
    relative = run.history("loss", x="relative")["loss"].x
    time = run.history("loss", x="time")["loss"].x
    assert relative is not None and relative.tolist() == [0.0, 10.0, 100.0, 101.0]
    assert time is not None and (time - BEGAN).tolist() == [0.0, 10.0, 100.0, 101.0]
    assert run.history("loss")["loss"].x is None


def test_a_metric_as_the_axis(record: Record, api: Api) -> None:
    """A point's place is what the metric was at its step; without one it is left out."""
    writer = record().rows("m", [10.0, 11.0, 12.0, 13.0])
    writer.row(1, {"epoch": 5}, types="i").row(3, {"epoch": 7}, types="i").end()
    run = api.run("abc12345")
    series = run.history("m", x="epoch")["m"]
    assert series.x is not None and series.x.dtype == np.int64
    assert (series.x.tolist(), series.values.tolist()) == ([5, 7], [11.0, 13.0])
    table = run.history(x="epoch").table()
    assert {name: column.tolist() for name, column in table.items()} == {
        "step": [1, 3],
        "epoch": [5, 7],
        "m": [11.0, 13.0],
    }
    answer = run.series("m", x="epoch", buckets=2)
    assert (answer.covered.tolist(), answer.left_out.tolist()) == ([2], [2])
    assert answer.buckets is not None and answer.buckets.mean.tolist() == [[11.0, 13.0]]


def test_metrics_that_are_called_like_an_axis(record: Record, api: Api) -> None:
    """They lose nothing: joined they are ``metric/step``, and ``metric:time`` is one as axis."""
    record().row(0, {"step": 5.0, "time": 6.0, "a": 1.0}, after=0).end()
    run = api.run("abc12345")
    table = run.history(x="time").table()
    assert {name: column.tolist() for name, column in table.items()} == {
        "step": [0],
        "time": [BEGAN],
        "a": [1.0],
        "metric/step": [5.0],
        "metric/time": [6.0],
    }
    assert list(run.scan_history()) == [
        {"step": 0, "time": BEGAN, "a": 1.0, "metric/step": 5.0, "metric/time": 6.0}
    ]
    placed = run.history(["a", "time"], x="metric:time")
    assert placed["a"].x is not None and placed["a"].x.tolist() == [6.0]
    assert {name: column.tolist() for name, column in placed.table().items()} == {
        "step": [0],
        "time": [6.0],
        "a": [1.0],
    }
    assert run.series("a", x="metric:step").ends.tolist() == [[5.0, 1.0, 5.0, 1.0]]


@pytest.mark.parametrize(
    "asked",
    [{"key": "nope"}, {"key": "l*"}, {"key": "loss", "x": "nope"}, {"key": "odd", "x": "o*"}],
)
def test_series_wants_metrics_that_are_there(run: StoredRun, asked: dict[str, str]) -> None:
    """A chart of a metric, or over one, that the run does not have is an error."""
    with pytest.raises(NotFoundError, match="has no metric"):
        run.series(**asked)  # type: ignore[arg-type]


def test_series_of_one_run(run: StoredRun) -> None:
    """A range is widened to whole buckets, and the answer says what it covers."""
    answer = run.series("loss", buckets=3, start=1, stop=5)
    assert (answer.lo, answer.hi, answer.covered.tolist(), answer.total.tolist()) == (
        0,
        5,
        [4],
        [4],
    )
    buckets = answer.buckets
    assert buckets is not None
    assert buckets.count.tolist() == [[2, 1, 1]]
    assert buckets.inf_neg.tolist() == [[0, 0, 1]]
    assert buckets.min[0, :2].tolist() == [1.0, 0.25] and math.isnan(buckets.min[0, 2])
    assert buckets.last.tolist() == [[7.0, 0.25, -INF]]
    raw = run.series("loss", buckets=None, start=1, stop=2).points
    assert raw is not None and raw[0].values.tolist() == [7.0, 0.25]
    for wrong in ({"buckets": 0}, {"buckets": 100_001}, {"start": 2, "stop": 1}, {"start": NAN}):
        with pytest.raises(ArgumentError):
            run.series("loss", **wrong)


# -- joined ----------------------------------------------------------------------------------------


def test_a_table_has_a_line_a_step(run: StoredRun) -> None:
    """Where a metric has no point it is NaN, and its integers are floats then."""
    table = run.history().table()
    assert list(table) == ["step", "late", "loss", "odd"]
    assert table["step"].dtype == np.int64 and table["step"].tolist() == [0, 1, 2, 3, 5]
    np.testing.assert_array_equal(table["late"], [NAN, NAN, NAN, 5.0, NAN])
    np.testing.assert_array_equal(table["loss"], [1.0, 7.0, 0.25, NAN, -INF])
    # Attempts are told apart metric by metric: ``odd`` went on at step 5.
    np.testing.assert_array_equal(table["odd"], [NAN, NAN, NAN, NAN, 3.0])
    with pytest.raises(ArgumentError, match="several points at one step"):
        run.history(repeats="all").table()


def test_types_of_columns(record: Record, api: Api) -> None:
    """Whole columns keep their type; text, lists and large integers are objects, exact."""
    writer = record()
    for step in range(2):
        writer.row(step, {"i": step, "b": step, "f": step}, types="ibf")
    writer.row(0, {"gap": 1}, types="b")
    writer.event("value", 1, step=1, data={"text": "x", "big": big_integer(2**80), "l": [1]}).end()
    table = api.run("abc12345").history().table()
    assert {name: str(column.dtype) for name, column in table.items()} == {
        **dict.fromkeys(("step", "i"), "int64"),
        **dict.fromkeys(("f", "gap"), "float64"),
        **dict.fromkeys(("text", "big", "l"), "object"),
        "b": "bool",
    }
    assert [table[name].tolist() for name in ("text", "big", "l")] == [
        [None, "x"],
        [None, 2**80],
        [None, [1]],
    ]
    assert History({}).table()["step"].dtype == np.int64


def test_scan_says_what_the_table_says(run: StoredRun) -> None:
    """``scan_history`` has a dictionary a step, with what is there, and the last time."""
    for asked in ({}, {"keys": ["l*"]}, {"attempts": "all"}):
        table = run.history(**asked).table()
        rows = list(run.scan_history(**asked))
        assert [row["step"] for row in rows] == table["step"].tolist()
        for key in list(table)[1:]:
            found = [row.get(key, NAN) for row in rows]
            np.testing.assert_array_equal(np.array(found, float), table[key].astype(float))
    rows = list(run.scan_history())
    assert [row["time"] - BEGAN for row in rows] == [0.0, 10.0, 100.0, 11.0, 101.0]
    assert list(rows[3]) == ["step", "time", "late", "odd"] and math.isnan(rows[3]["odd"])
    assert rows[3]["late"] == 5 and type(rows[3]["late"]) is int
    assert rows[4] == {"step": 5, "time": BEGAN + 101, "loss": -INF, "odd": 3.0}


# -- samples ---------------------------------------------------------------------------------------

FLOATS = st.floats(width=64) | st.sampled_from([NAN, INF, -INF, 0.0, 1.0])


@st.composite
def lines(draw: st.DrawFn) -> Series:
    """A line with its x: rising steps, values and places that may be anything."""
    count = draw(st.integers(1, 60))
    steps = np.array(
        sorted(draw(st.sets(st.integers(-(2**40), 2**40), min_size=count, max_size=count))),
        np.int64,
    )
    floats = arrays.arrays(np.float64, count, elements=FLOATS)
    integers = arrays.arrays(np.int64, count, elements=st.integers(-(2**63), 2**63 - 1))
    x = draw(st.none() | floats | integers)
    return Series("m", steps, np.zeros(count), draw(floats | integers), np.ones(count, np.int64), x)


def by_hand(series: Series, samples: int) -> set[int] | None:
    """The points that M4 keeps, by its definition; None where the range has no width."""
    x = [float(place) for place in (series.steps if series.x is None else series.x)]
    there = [place for place in x if math.isfinite(place)]
    parts = samples // 4
    if not there or not max(there) / 2 - min(there) / 2 > 0:
        return None
    low, high = min(there), max(there)
    members: dict[int, list[int]] = {}
    for place in sorted(range(len(x)), key=lambda p: (math.isnan(x[p]), x[p], p)):
        at = high if math.isnan(x[place]) else min(max(x[place], low), high)
        part = int((at / 2 - low / 2) / (high / 2 - low / 2) * parts)
        members.setdefault(min(part, parts - 1), []).append(place)
    kept: set[int] = set()
    for mine in members.values():
        numbers = [place for place in mine if series.values[place] == series.values[place]]
        kept |= {mine[0], mine[-1]}
        if numbers:
            values = [series.values[place].item() for place in numbers]
            kept |= {numbers[values.index(min(values))]}
            assert max(values) >= min(values)
    return kept


@settings(deadline=None, max_examples=150)
@given(lines(), st.integers(4, 40))
def test_samples_keep_what_a_line_shows(series: Series, samples: int) -> None:
    """Of each part the first, lowest, highest and last point stay, and never more than asked."""
    few = sampled(series, samples)
    if len(series) <= samples:
        assert few is series
        return
    assert len(few) <= samples
    places = np.searchsorted(series.steps, few.steps)
    assert (series.steps[places] == few.steps).all() and (np.diff(places) > 0).all()
    np.testing.assert_array_equal(few.values, series.values[places])
    expected = by_hand(series, samples)
    if expected is None:
        assert len(few) == samples and {0, len(series) - 1} <= set(places.tolist())
        return
    assert expected <= set(places.tolist())
    values = series.values[series.values == series.values]
    if len(values):
        kept = few.values[few.values == few.values]
        assert (kept.min(), kept.max()) == (values.min(), values.max())


def test_samples_of_a_run(record: Record, api: Api) -> None:
    """A spike among many points is kept; text is thinned at even distances."""
    values = [0.0] * 1000
    values[487] = 9.0
    writer = record().rows("m", values)
    for step in range(10):
        writer.event("value", step, step=step, data={"text": f"{step}"})
    writer.end()
    history = api.run("abc12345").history(samples=8)
    assert history["m"].steps.tolist() == [0, 487, 499, 500, 999]
    assert history["text"].values.tolist() == ["0", "1", "2", "3", "5", "6", "7", "9"]
    assert len(api.run("abc12345").history("m", samples=1000)["m"]) == 1000


def test_samples_over_a_metric_with_nan(record: Record, api: Api) -> None:
    """One place that is no number does not take the extremes of the others away."""
    writer = record()
    for step in range(100):
        x = NAN if step == 50 else INF if step == 51 else float(step)
        writer.row(step, {"x": x, "m": 5.0 if step == 33 else 0.0})
    writer.end()
    few = api.run("abc12345").history("m", x="x", samples=8)["m"]
    assert len(few) <= 8 and 33 in few.steps


def test_samples_over_what_is_no_number(record: Record, api: Api) -> None:
    """Over a text, or integers beyond any float, points at even distances stay."""
    writer = record().rows("m", range(10))
    for step in range(10):
        data = {"text": "x", "huge": big_integer(2**2000 + step)}
        writer.event("value", step, step=step, data=data)
    writer.end()
    for x in ("text", "huge"):
        few = api.run("abc12345").history("m", x=x, samples=4)["m"]
        assert few.values.tolist() == [0.0, 3.0, 6.0, 9.0]


# -- smoothed --------------------------------------------------------------------------------------


def test_smoothed_is_debiased(record: Record, api: Api) -> None:
    """The weights sum to one from the first point on; NaN leaves the average as it is."""
    writer = record().rows("m", [4.0, 8.0, NAN, 8.0])
    writer.row(0, {"i": 2}, types="i")
    writer.event("value", 0, step=0, data={"text": "x", "big": big_integer(2**80)}).end()
    history = api.run("abc12345").history(x="relative")
    smooth = history.smoothed(0.5)
    expected = [4.0, (4 + 2 * 8) / 3, (4 + 2 * 8) / 3, (4 + 2 * 8 + 4 * 8) / 7]
    np.testing.assert_allclose(smooth["m"].values, expected, rtol=1e-15)
    np.testing.assert_allclose(history.smoothed(halflife=1)["m"].values, expected, rtol=1e-15)
    assert smooth["m"].steps is history["m"].steps and smooth.x == "relative"
    assert smooth["i"].values.dtype == np.float64 and smooth["i"].values.tolist() == [2.0]
    assert (smooth["text"].values.tolist(), smooth["big"].values.tolist()) == (["x"], [2.0**80])
    for wrong in ({}, {"alpha": 0.5, "halflife": 1}, {"alpha": 0.0}, {"halflife": -1}):
        with pytest.raises(ArgumentError):
            History({}).smoothed(**wrong)


# -- what is said of a run -------------------------------------------------------------------------


@pytest.mark.usefixtures("sweep")
def test_what_a_run_says(api: Api) -> None:
    """Its fields, statistics, console and machine, as they were recorded."""
    run = api.run("run00005")
    assert repr(run) == "<run lr0.001-seed2 (digits/run00005), failed>"
    assert (run.created, run.ended, run.duration_s) == (BEGAN + 5000, BEGAN + 5060, 60.0)
    assert [(attempt.started, attempt.state) for attempt in run.attempts] == [
        (BEGAN + 5000, "failed")
    ]
    metric = run.metrics["train/loss"]
    assert (metric.count, metric.nan, metric.first, metric.last) == (100, 0, 2.001, 0.021)
    assert (metric.min, metric.min_step, metric.max, metric.max_step) == (0.021, 99, 2.001, 0)
    assert metric.mean == pytest.approx(sum(loss(0.001, 2, step) for step in range(100)) / 100)
    assert [(line.time - run.created, line.stream, line.text) for line in run.console()] == [
        (1.0, "out", "seed 2"),
        (1.0, "out", "ready"),
    ]
    assert run.console("err") == []
    assert points(run.system()["cpu.percent"])[0][2] == 50.0
    assert list(run.system("cpu.*")) == ["cpu.percent"]
    assert run.packages == {"numpy": "2.4.0", "torch": "2.2.0"}
    assert run.git is not None and run.git["commit"] == "2" * 40
    assert (run.patch(), run.environment, run.masked, run.troubles) == (None, None, [], [])
    assert run.config_history[0][1:] == ("lr", 0.001)
    assert (run.lost_points, run.archived, run.deleted) == (0, False, False)
    with pytest.raises(NotFoundError):
        run.system("gpu.*")
