from __future__ import annotations

import math
import sys
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trackway.backend.index import _numba, codec
from trackway.backend.index.grid import WIDE, FloatGrid, StepGrid, float_grid, step_grid
from trackway.backend.index.kernels import Buckets, reduce_lines, warm
from trackway.backend.index.source import CELL_STEPS
from trackway.errors import ArgumentError

INT_64 = st.integers(-(1 << 63), (1 << 63) - 1)
VALUE = st.one_of(st.floats(), st.sampled_from([math.nan, math.inf, -math.inf, -0.0, 0.0, 1.7e308]))


def reduced(lines: list[Any], bounds: list[Any], compiled: bool) -> Buckets:
    """Buckets of lines, in rows from the last to the first."""
    narrow = all(line.dtype == np.float32 for line in lines)
    out = Buckets.empty(len(lines), len(bounds[0]) - 1, np.float32 if narrow else np.float64)
    reduce_lines(lines, bounds, out, range(len(lines)), compiled=compiled)
    return out


def check_same(one: Buckets, other: Buckets, lines: list[Any], bounds: list[Any]) -> None:
    """Both are equal to the bit, means within what the order of a sum can do."""
    for part in fields(Buckets):
        a, b = getattr(one, part.name), getattr(other, part.name)
        assert a.dtype == b.dtype
        if part.name != "mean":
            assert [repr(v) for v in a.ravel().tolist()] == [repr(v) for v in b.ravel().tolist()]
    for row, (line, edges) in enumerate(zip(lines, bounds, strict=True)):
        for place in range(len(edges) - 1):
            held = line[edges[place] : edges[place + 1]].astype(np.float64)
            largest = np.abs(held[np.isfinite(held)]).max(initial=0.0)
            a, b = one.mean[row, place].item(), other.mean[row, place].item()
            assert (math.isnan(a) and math.isnan(b)) or abs(a - b) <= 1e-12 * largest


@settings(deadline=None, max_examples=80)
@given(st.data(), st.booleans(), st.integers(1, 4), st.integers(1, 9))
def test_compiled_and_numpy_agree(data: Any, narrow: bool, count: int, buckets: int) -> None:
    """Compiled kernels give what NumPy gives, whatever the values and the bounds."""
    n = data.draw(st.integers(0, 40))
    values = st.floats(width=32) if narrow else VALUE
    dtype = np.float32 if narrow else np.float64
    drawn = data.draw(
        st.lists(st.lists(values, min_size=n, max_size=n), min_size=count, max_size=count)
    )
    lines = [np.array(line, dtype) for line in drawn]
    cuts = data.draw(st.lists(st.integers(0, n), min_size=buckets + 1, max_size=buckets + 1))
    shared = np.array(sorted(cuts), np.int64)
    bounds = [shared if row else shared.copy() for row in range(count)]
    check_same(reduced(lines, bounds, True), reduced(lines, bounds, False), lines, bounds)


@pytest.mark.parametrize("size", [1, 2, 10, 48, 49, 200])
@pytest.mark.parametrize("cut", [0, 1, 5])
@pytest.mark.parametrize("spoilt", [False, True])
def test_even_buckets_agree(size: int, cut: int, spoilt: bool) -> None:
    """Buckets of one size, cut short at the ends or not, with NaN in a line or not."""
    rng = np.random.default_rng(size + cut)
    lines = [rng.normal(size=20 * size + 2 * cut).astype(np.float32) for _ in range(5)]
    if spoilt:
        lines[3][7] = math.nan
    edges = np.concatenate([[0], cut + size * np.arange(0 if cut else 1, 21)])
    edges = np.append(edges, len(lines[0])) if cut else edges
    bounds = [edges] * 5
    check_same(reduced(lines, bounds, True), reduced(lines, bounds, False), lines, bounds)


def test_the_loops_as_plain_python() -> None:
    """The loops say the same before they are compiled."""
    line = np.array([1.0, math.nan, -math.inf, math.inf, -0.0, 2.0, 1.7e308, 1.7e308, math.nan])
    bounds = np.array([0, 1, 4, 6, 6, 8, 9])
    out = Buckets.empty(1, 6, np.float64)
    parts = [getattr(out, part.name) for part in fields(Buckets)]
    with np.errstate(over="ignore", invalid="ignore"):
        _numba.reduce_line(line, bounds, 0, *parts)
    check_same(out, reduced([line], [bounds], False), [line], [bounds])
    planes = np.arange(24, dtype=np.uint8).reshape(4, 6)
    woven = np.empty(6, np.uint32)
    _numba.weave_4(planes.astype(np.uint32), woven)
    assert woven.view(np.uint8).reshape(6, 4).T.tolist() == planes.tolist()
    planes = np.arange(24, dtype=np.uint8).reshape(8, 3)
    woven = np.empty(6, np.uint32)
    _numba.weave_8(planes.astype(np.uint32), woven)
    assert woven.view(np.uint8).reshape(3, 8).T.tolist() == planes.tolist()


def test_decoding_with_compiled_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Values are decoded to the same bits with compiled kernels and without."""
    assert warm()
    rng = np.random.default_rng(0)
    for values in (rng.normal(size=999).astype(np.float32), rng.normal(size=999)):
        packed = codec.encode_values(values)
        woven = codec.decode_values(packed)
        with monkeypatch.context() as patch:
            patch.setattr(_numba, "_loaded", [])
            plain = codec.decode_values(packed)
        assert woven.dtype == plain.dtype == values.dtype
        assert woven.tobytes() == plain.tobytes() == values.tobytes()


def test_without_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where numba is not installed, NumPy answers, also where compiled kernels were asked for."""
    monkeypatch.setattr(_numba, "_loaded", [])
    monkeypatch.setitem(sys.modules, "numba", None)
    assert not warm()
    line, bounds = np.arange(4.0), np.array([0, 2, 4])
    assert reduced([line], [bounds], True).mean.tolist() == [[0.5, 2.5]]


@settings(deadline=None, max_examples=300)
@given(INT_64, INT_64, st.one_of(st.integers(1, 5), st.integers(1, 100_000)))
def test_step_grids(one: int, other: int, buckets: int) -> None:
    """Any range has a grid of at most so many buckets, which covers it, aligned."""
    lo, hi = min(one, other), max(one, other)
    grid = step_grid(lo, hi, buckets)
    assert 1 <= grid.n <= buckets
    assert grid.start <= lo
    assert hi < grid.start + grid.n * grid.width
    assert grid.width < WIDE or grid.width % CELL_STEPS == 0
    assert grid.start % grid.width == 0 or buckets == 1
    assert not (grid.width >= WIDE and grid.start % CELL_STEPS)
    assert grid.start > lo - grid.width
    few = max(buckets - 1, 1)
    needed = -(-(hi - lo + 1) // few)
    assert grid.width <= max(needed + CELL_STEPS - 1, 1) or grid.n == 1


SPANS = [1, 2, 255, 256, 257, 767, 768, 769, 1000, 1001, 767_999, 768_000, 768_001]


@pytest.mark.parametrize("span", SPANS)
def test_small_step_grids(span: int) -> None:
    """A grid is no wider than it must be, and its bounds are where a loop puts the points."""
    for lo in (-530, -1, 0, 1, 256, 999):
        for buckets in (1, 2, 3, 10, 1000):
            check_small(span, lo, buckets)


def check_small(span: int, lo: int, buckets: int) -> None:
    """One grid over so many steps from ``lo``."""
    hi = lo + span - 1
    grid = step_grid(lo, hi, buckets)
    assert lo // grid.width == (grid.start // grid.width) or buckets == 1
    if 1 < grid.width < WIDE and buckets > 1:
        narrower = grid.width - 1
        assert hi // narrower - lo // narrower >= buckets or narrower * buckets < span
    steps = np.arange(lo - 3, hi + 4, max(span // 50, 1))
    bounds = grid.bounds(steps)
    for place in range(0, grid.n, max(grid.n // 7, 1)):
        first, end = grid.start + place * grid.width, grid.start + (place + 1) * grid.width
        held = steps[bounds[place] : bounds[place + 1]].tolist()
        assert held == [step for step in steps.tolist() if first <= step < end]


@settings(deadline=None)
@given(
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(1, 50),
)
def test_float_grids(one: float, other: float, buckets: int) -> None:
    """The edges of any range do not fall, and begin and end with it."""
    lo, hi = min(one, other), max(one, other)
    grid = float_grid(lo, hi, buckets)
    edges = grid.edges()
    assert len(edges) == grid.n + 1
    assert (edges[0], edges[-1]) == (lo, hi)
    assert (edges[1:] >= edges[:-1]).all()
    x = np.unique([lo, hi, *edges])
    bounds = grid.bounds(x)
    assert (bounds[0], bounds[-1]) == (0, len(x))
    assert grid.n == (buckets if lo < hi else 1)


def test_edges() -> None:
    """The edges are where each bucket begins, and where the last one ends."""
    assert step_grid(5, 34, 3).edges().tolist() == [0.0, 12.0, 24.0, 36.0]
    assert step_grid(5, 34, 4) == StepGrid(0, 9, 4)
    assert FloatGrid(0.0, 1.0, 4).edges().tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert FloatGrid(-1e308, 1e308, 2).width == 1e308


@pytest.mark.parametrize(("lo", "hi"), [(-math.inf, 0.0), (0.0, math.nan)])
def test_ranges_that_do_not_end(lo: float, hi: float) -> None:
    """A range of floats is from one finite number to another."""
    with pytest.raises(ArgumentError):
        float_grid(lo, hi, 3)
