from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.backend.index.reference import Lists, Point, bucketed, mean_of, x_of
from trackway.backend.index.grid import WIDE, StepGrid
from trackway.backend.index.series import SeriesAnswer, SeriesQuery, series
from trackway.backend.index.source import CELL_STEPS
from trackway.errors import ArgumentError

EXACT = ("count", "nan", "inf_pos", "inf_neg", "min", "max", "first", "last")

VALUE = st.one_of(
    st.floats(-100, 100),
    st.floats(),
    st.sampled_from([math.nan, math.inf, -math.inf, -0.0, 0.0, 1.0, 1.0, 1.7e308]),
)
TIME = st.one_of(st.floats(1.7e9, 1.7e9 + 100), st.sampled_from([1.7e9, 1.7e9 + 1]))
STEP = st.integers(-30, 300)
POINTS = st.lists(st.tuples(STEP, TIME, VALUE), min_size=1, max_size=40)


@st.composite
def sources(draw: Any, steps: Any = STEP) -> Lists:
    """Up to four runs with the metrics y and u; some have the steps of another."""
    points = st.lists(st.tuples(steps, TIME, VALUE), min_size=1, max_size=40)
    runs = draw(st.lists(points, max_size=4))
    if runs and draw(st.booleans()):
        runs.append([(step, time, value + 1.0) for step, time, value in runs[0]])
    others = draw(st.lists(points, max_size=4))
    arrivals = {"y": dict(enumerate(runs)), "u": dict(enumerate(others))}
    if others and draw(st.booleans()):
        for run, line in arrivals["y"].items():
            arrivals["u"][run] = [(s, t, draw(st.floats(-5, 5))) for s, t, _ in line]
    return Lists(arrivals, started=1.7e9 - 10)


@st.composite
def queries(draw: Any) -> SeriesQuery:
    """A query of y over any x, range and number of buckets."""
    x = draw(st.sampled_from(["step", "relative", "time", "u", "metric:u"]))
    ends = {"relative": (-5.0, 120.0), "time": (1.7e9 - 9, 1.7e9 + 120)}
    low, high = ends.get(x, (-6.0, 6.0))
    end: Any = st.integers(-40, 310) if x == "step" else st.floats(low, high)
    lo, hi = draw(st.none() | end), draw(st.none() | end)
    if lo is not None and hi is not None and lo > hi:
        lo, hi = hi, lo
    return SeriesQuery(
        runs=[3, 0, 1, 2, 4, 9],
        key="y",
        x=x,
        lo=lo,
        hi=hi,
        buckets=draw(st.sampled_from([1, 2, 3, 7, 50, 1000])),
        repeats=draw(st.sampled_from(["last", "all"])),
        compiled=draw(st.booleans()),
    )


def check_buckets(source: Lists, answer: SeriesAnswer) -> None:
    """Every bucket of every line is what a loop finds."""
    assert answer.buckets is not None
    assert answer.grid is not None
    for row, run in enumerate(answer.runs):
        expected = bucketed(source, answer.query, answer.grid, run)
        for name in EXACT:
            told = getattr(answer.buckets, name)[row].tolist()
            wanted = [bucket[name] for bucket in expected]
            if name in ("min", "max"):
                wanted = [value + 0.0 for value in wanted]
            assert list(map(repr, map(float, told))) == list(map(repr, map(float, wanted))), name
        for told, bucket in zip(answer.buckets.mean[row].tolist(), expected, strict=True):
            if math.isnan(bucket["mean"]):
                assert math.isnan(told)
            else:
                assert abs(told - bucket["mean"]) <= 1e-12 * bucket["largest"]
        check_line(source, answer, row, run, sum(bucket["count"] for bucket in expected))


def check_line(source: Lists, answer: SeriesAnswer, row: int, run: int, covered: int) -> None:
    """What the answer says of a line as a whole is true."""
    placed = x_of(source, answer.query, run)
    all_points = source.points("y", run, answer.query.repeats)
    assert answer.covered[row] == covered
    assert answer.total[row] == len(all_points)
    assert answer.left_out[row] == len(all_points) - len(placed)
    lo, hi = answer.lo, answer.hi
    assert lo is not None
    assert hi is not None
    inside = [entry for entry in placed if lo <= entry[0] <= hi]
    assert len(inside) == covered
    wanted = [math.nan] * 4
    if inside:
        (first, one), (last, other) = inside[0], inside[-1]
        wanted = [float(first), one[2], float(last), other[2]]
    assert list(map(repr, answer.ends[row].tolist())) == list(map(repr, wanted))


def check_grid(source: Lists, answer: SeriesAnswer) -> None:
    """The buckets are as many as were asked for at most, aligned, and cover the range."""
    query, grid = answer.query, answer.grid
    assert grid is not None
    assert 1 <= grid.n <= (query.buckets or 0)
    spots = [x for run in answer.runs for x, _ in x_of(source, query, run)]
    lo = min(spots, default=None) if query.lo is None else query.lo
    hi = max(spots, default=None) if query.hi is None else query.hi
    assert answer.lo is not None
    assert answer.hi is not None
    assert lo is None or answer.lo <= lo
    assert hi is None or answer.hi >= hi
    if isinstance(grid, StepGrid):
        assert grid.width >= 1
        assert grid.width < WIDE or grid.width % CELL_STEPS == 0
        assert grid.n == 1 or grid.start % grid.width == 0


@settings(deadline=None, max_examples=150)
@given(sources(), queries())
def test_buckets_are_what_a_loop_finds(source: Lists, query: SeriesQuery) -> None:
    """Any points over any x in any range and any buckets, compiled or not."""
    answer = series(source, query)
    there = source.arrivals["y"]
    assert answer.runs == [run for run in query.runs if run in there]
    assert answer.missing == [run for run in query.runs if run not in there]
    assert answer.exact
    if answer.buckets is None:
        spots = [x for run in answer.runs for x, _ in x_of(source, query, run)]
        assert not spots
        assert None in (query.lo, query.hi)
        assert answer.covered.tolist() == [0] * len(answer.runs)
        return
    check_grid(source, answer)
    check_buckets(source, answer)


@settings(deadline=None, max_examples=60)
@given(sources(), queries())
def test_points_are_what_a_loop_finds(source: Lists, query: SeriesQuery) -> None:
    """Without buckets the points in the range come in order of x, each as it was logged."""
    answer = series(source, replace(query, buckets=None))
    assert answer.buckets is None
    assert answer.points is not None
    for line, run in zip(answer.points, answer.runs, strict=True):
        wanted = [
            (x, *point)
            for x, point in x_of(source, query, run)
            if (query.lo is None or x >= query.lo) and (query.hi is None or x <= query.hi)
        ]
        told = zip(line.x, line.steps, line.times, line.values, strict=True)
        assert line.run == run
        assert [repr(tuple(v.item() for v in entry)) for entry in told] == list(map(repr, wanted))


@settings(deadline=None, max_examples=60)
@given(
    sources(st.integers(-500, 3000)),
    st.sampled_from([1, 2, 5, 40]),
    st.sampled_from([(None, None), (-100, 2000), (70, None), (None, 900), (4000, None)]),
    st.sampled_from([1, 3, 10]),
)
def test_cells_and_points_say_the_same(
    source: Lists, buckets: int, ends: tuple[int | None, int | None], chunk: int
) -> None:
    """What comes from pyramids, with points beside, is what the points say."""
    query = SeriesQuery([0, 1, 2, 3, 4], "y", lo=ends[0], hi=ends[1], buckets=buckets)
    plain = series(source, query)
    usable = all(
        sum(abs(point[2]) for point in line if math.isfinite(point[2])) < 1e308
        for line in source.arrivals["y"].values()
    )
    if plain.buckets is None or not usable:
        return
    source.chunk = chunk
    answer = series(source, query)
    assert answer.grid == plain.grid
    check_buckets(source, answer)
    assert answer.buckets is not None
    for name in EXACT:
        mine, other = getattr(answer.buckets, name), getattr(plain.buckets, name)
        assert np.array_equal(mine, other, equal_nan=mine.dtype.kind == "f"), name


def line_of(values: list[float], first: int = 0, stride: int = 1) -> list[Point]:
    """Points at even steps."""
    return [(first + i * stride, 1e9 + i, value) for i, value in enumerate(values)]


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("narrow", [False, True])
def test_lines_of_equal_steps(compiled: bool, narrow: bool) -> None:
    """Many lines are reduced together, with NaN in some, the ends cut short or not."""
    rng = np.random.default_rng(3)
    arrivals: dict[int, list[Point]] = {}
    for run in range(9):
        values = rng.normal(size=133).astype(np.float32).astype(np.float64)
        values[rng.random(133) < (0.05 if run % 3 == 1 else 0.0)] = math.nan
        arrivals[run] = line_of(values.tolist(), first=-7 if run != 4 else 2)
    source = Lists({"y": arrivals}, narrow=narrow)
    for buckets in (1, 2, 13, 14, 70, 140, 500):
        answer = series(source, SeriesQuery(range(9), "y", buckets=buckets, compiled=compiled))
        check_grid(source, answer)
        check_buckets(source, answer)
        assert answer.buckets is not None
        assert answer.buckets.min.dtype == (np.float32 if narrow else np.float64)


HUGE = [-(1 << 63), -(1 << 63) + 1, -65, 0, 1 << 62, (1 << 63) - 2, (1 << 63) - 1]


@pytest.mark.parametrize("buckets", [1, 2, 3, 100, 100_000])
@pytest.mark.parametrize("held", [HUGE, HUGE[:2], HUGE[-2:], HUGE[:1], HUGE[-1:]])
@pytest.mark.parametrize("chunk", [0, 1])
def test_steps_at_the_ends_of_64_bits(buckets: int, held: list[int], chunk: int) -> None:
    """Steps near both ends of int64 are in their buckets."""
    source = Lists({"y": {0: [(step, 1.0, float(i)) for i, step in enumerate(held)]}}, chunk=chunk)
    answer = series(source, SeriesQuery([0], "y", buckets=buckets))
    assert answer.grid is not None
    assert answer.grid.n <= buckets
    if buckets <= 100:
        check_buckets(source, answer)
    assert answer.covered.tolist() == [len(held)]
    everything = series(source, SeriesQuery([0], "y", buckets=2, lo=-math.inf, hi=math.inf))
    assert everything.covered.tolist() == [len(held)]
    assert (everything.lo, everything.hi) == (-(1 << 63), (1 << 63) - 1)


@pytest.mark.parametrize("compiled", [False, True])
def test_sums_beyond_float64(compiled: bool) -> None:
    """The mean of finite values is finite, also where their sum is not."""
    values = [1.7e308, 1.6e308, math.nan, 1.7e308, -1.0, math.inf]
    source = Lists({"y": {0: line_of(values)}})
    answer = series(source, SeriesQuery([0], "y", buckets=1, compiled=compiled))
    assert answer.buckets is not None
    wanted = mean_of([1.7e308, 1.6e308, 1.7e308, -1.0])
    assert abs(answer.buckets.mean[0, 0] / wanted - 1) < 1e-12
    assert answer.buckets.max[0, 0] == 1.7e308


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_nothing_finite(value: float) -> None:
    """Of a bucket without a finite value only the counts and the ends are told."""
    source = Lists({"y": {0: line_of([value] * 5)}})
    answer = series(source, SeriesQuery([0], "y", buckets=1))
    assert answer.buckets is not None
    assert answer.buckets.count.tolist() == [[5]]
    for part in (answer.buckets.min, answer.buckets.max, answer.buckets.mean):
        assert np.isnan(part).all()
    assert repr(answer.buckets.last.tolist()) == repr([[value]])


def test_times_that_go_back() -> None:
    """Over time the points are in order of time, those of one time in order of steps."""
    source = Lists({"y": {0: [(0, 5.0, 1.0), (1, 3.0, 2.0), (2, 3.0, 3.0), (3, 9.0, 4.0)]}})
    answer = series(source, SeriesQuery([0], "y", x="time", buckets=None))
    assert answer.points is not None
    assert answer.points[0].values.tolist() == [2.0, 3.0, 1.0, 4.0]
    assert answer.points[0].steps.tolist() == [1, 2, 0, 3]


def test_another_metric_as_x() -> None:
    """Points without a partner at their step, or one that is not finite, are counted as left out.

    A metric that is called like a kind of x is meant with ``metric:`` before its name.
    """
    source = Lists(
        {
            "y": {0: line_of([1.0, 2.0, 3.0, 4.0])},
            "time": {0: [(0, 0.0, 7.0), (1, 0.0, math.inf), (3, 0.0, 5.0), (3, 0.0, 6.0)]},
        }
    )
    answer = series(source, SeriesQuery([0], "y", x="metric:time", buckets=2, repeats="all"))
    assert answer.left_out.tolist() == [2]
    assert answer.total.tolist() == [4]
    assert answer.ends.tolist() == [[6.0, 4.0, 7.0, 1.0]]


def test_a_range_beside_the_points() -> None:
    """A range without a point has buckets, all empty; the answer still knows the lines."""
    source = Lists({"y": {0: line_of([1.0] * 10)}})
    answer = series(source, SeriesQuery([0, 1], "y", lo=100, hi=199, buckets=10))
    assert answer.buckets is not None
    assert answer.buckets.count.sum() == 0
    assert (answer.lo, answer.hi, answer.missing) == (100, 199, [1])
    assert (answer.covered.tolist(), answer.total.tolist()) == ([0], [10])
    open_end = series(source, SeriesQuery([0], "y", x="relative", lo=1e12, buckets=10))
    assert open_end.covered.tolist() == [0]


@pytest.mark.parametrize(
    "given",
    [
        {"buckets": 0},
        {"buckets": 100_001},
        {"buckets": 1.5},
        {"lo": math.nan},
        {"lo": 2, "hi": 1},
        {"x": "time", "lo": -math.inf},
        {"attempts": "some"},
        {"repeats": "first"},
    ],
)
def test_bad_questions(given: dict[str, Any]) -> None:
    """A question that has no answer is refused with its argument's name."""
    source = Lists({"y": {0: line_of([1.0])}})
    with pytest.raises(ArgumentError):
        series(source, SeriesQuery([0], "y", **given))
