from __future__ import annotations

import math
import statistics
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.backend.index.reference import Lists, bucketed
from trackway.backend.index.ema import ema
from trackway.backend.index.groups import GroupsQuery, groups
from trackway.errors import ArgumentError

VALUE = st.one_of(st.floats(-100, 100), st.sampled_from([math.nan, math.inf, 1.0, 1.0]))
LINE = st.lists(st.tuples(st.integers(-5, 30), st.floats(0, 50), VALUE), min_size=1, max_size=20)


def close(told: float, wanted: float, scale: float) -> bool:
    """Whether both are NaN, or alike."""
    if math.isnan(wanted) or math.isnan(told):
        return math.isnan(wanted) and math.isnan(told)
    return abs(told - wanted) <= 1e-11 * scale


@settings(deadline=None, max_examples=80)
@given(
    st.dictionaries(st.integers(0, 6), LINE),
    st.dictionaries(st.sampled_from("abc"), st.lists(st.integers(0, 8), max_size=6), max_size=3),
    st.sampled_from(["step", "time"]),
    st.integers(1, 20),
)
def test_bands_are_what_a_loop_finds(
    lines: dict[int, Any], grouped: dict[str, list[int]], x: str, buckets: int
) -> None:
    """Each band is what ``statistics`` makes of the runs' means, over all runs of the group."""
    source = Lists({"y": lines})
    query = GroupsQuery(grouped, "y", x=x, buckets=buckets)
    answer = groups(source, query)
    assert answer.names == list(grouped)
    assert answer.missing == [[r for r in grouped[n] if r not in lines] for n in grouped]
    if answer.bands is None or answer.grid is None:
        assert not any(run in lines for runs in grouped.values() for run in runs)
        return
    for row, name in enumerate(answer.names):
        runs = [run for run in dict.fromkeys(grouped[name]) if run in lines]
        assert answer.runs[row] == len(runs)
        told = [bucketed(source, _Asked(x), answer.grid, run) for run in runs]
        assert answer.covered[row] == sum(b["count"] for line in told for b in line)
        for place in range(answer.grid.n):
            check_band(answer.bands, row, place, [line[place] for line in told])


class _Asked:
    key, repeats = "y", "last"

    def __init__(self, x: str) -> None:
        self.x = x


def check_band(bands: Any, row: int, place: int, found: list[dict[str, Any]]) -> None:
    """One bucket of one group."""
    means = [bucket["mean"] for bucket in found if not math.isnan(bucket["mean"])]
    assert bands.n[row, place] == len(means)
    assert bands.count[row, place] == sum(bucket["count"] for bucket in found)
    lows = [bucket["min"] for bucket in found if not math.isnan(bucket["min"])]
    highs = [bucket["max"] for bucket in found if not math.isnan(bucket["max"])]
    scale = max([1e-300, *(abs(value) for value in lows + highs)])
    std = statistics.stdev(means) if len(means) > 1 else math.nan
    wanted = {
        "mean": statistics.fmean(means) if means else math.nan,
        "median": statistics.median(means) if means else math.nan,
        "std": std,
        "stderr": std / math.sqrt(len(means)) if means else math.nan,
    }
    for name, value in wanted.items():
        assert close(getattr(bands, name)[row, place], value, scale), name
    assert repr(float(bands.min[row, place])) == repr(min(lows, default=math.nan) + 0.0)
    assert repr(float(bands.max[row, place])) == repr(max(highs, default=math.nan) + 0.0)


def test_runs_weigh_the_same() -> None:
    """A run that logs more often does not weigh more; a run may be in two groups."""
    often = [(step, 0.0, 10.0) for step in range(100)]
    source = Lists({"y": {0: often, 1: [(50, 0.0, 20.0)], 2: [(50, 0.0, 60.0)]}})
    answer = groups(source, GroupsQuery({"a": [0, 1, 2], "b": [1, 1]}, "y", buckets=1))
    assert answer.bands is not None
    assert answer.bands.mean.tolist() == [[30.0], [20.0]]
    assert answer.bands.median.tolist() == [[20.0], [20.0]]
    assert answer.bands.count.tolist() == [[102], [1]]
    assert answer.bands.std[0, 0] == pytest.approx(26.457513110645905)
    assert math.isnan(answer.bands.std[1, 0])


def test_large_values_have_a_deviation() -> None:
    """Neither the sum of means nor a square leaves float64."""
    source = Lists({"y": {run: [(0, 0.0, 1.5e308)] for run in range(3)}})
    answer = groups(source, GroupsQuery({"a": [0, 1, 2]}, "y"))
    assert answer.bands is not None
    assert answer.bands.mean.tolist() == [[1.5e308]]
    assert answer.bands.median.tolist() == [[1.5e308]]
    assert answer.bands.std.tolist() == [[0.0]]


def test_too_many_buckets() -> None:
    """The number of buckets is bounded."""
    with pytest.raises(ArgumentError):
        groups(Lists({}), GroupsQuery({"a": [0]}, "y", buckets=100_001))


@settings(deadline=None)
@given(st.lists(st.one_of(st.floats(-10, 10), st.just(math.nan))), st.floats(0.01, 1.0))
def test_ema_is_the_weighted_mean(values: list[float], alpha: float) -> None:
    """At each point the average is the weighted mean of what came so far, NaN left out."""
    told = ema(np.array(values, np.float64), alpha)
    seen: list[float] = []
    for value, average in zip(values, told.tolist(), strict=True):
        seen += [value] if value == value else []
        weights = [(1 - alpha) ** back for back in range(len(seen))][::-1]
        if seen:
            wanted = math.fsum(w * v for w, v in zip(weights, seen, strict=True)) / sum(weights)
            assert average == pytest.approx(wanted, rel=1e-9, abs=1e-9)
        else:
            assert math.isnan(average)


def test_halflife() -> None:
    """After ``halflife`` points a weight is halved."""
    assert ema(np.array([0.0, 3.0]), halflife=1.0).tolist() == [0.0, 2.0]


@pytest.mark.parametrize(
    ("alpha", "halflife"), [(None, None), (0.5, 1.0), (0.0, None), (1.5, None), (None, 0.0)]
)
def test_bad_decay(alpha: float | None, halflife: float | None) -> None:
    """Either alpha or halflife is given, within its range."""
    with pytest.raises(ArgumentError):
        ema(np.array([1.0]), alpha, halflife=halflife)
