from __future__ import annotations

import math
import struct
import threading
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from trackway.backend.index import codec
from trackway.backend.index.contract import IndexDamagedError
from trackway.backend.index.source import CELL_STEPS

ANY_64 = hnp.arrays(np.uint64, st.integers(0, 300), elements=st.integers(0, (1 << 64) - 1))
INT_64 = st.integers(-(1 << 63), (1 << 63) - 1)
SPECIAL = [math.nan, math.inf, -math.inf, -0.0, 0.0, 5e-324, 1.7976931348623157e308]


def bits(values: Any) -> list[int]:
    """Each float as 64 bits."""
    return list(map(int, np.ascontiguousarray(values, np.float64).view(np.uint64)))


def same_values(values: Any) -> bytes:
    """The values as bytes, from which they come back."""
    packed = codec.encode_values(values)
    assert bits(codec.decode_values(packed)) == bits(values)
    return packed


@settings(deadline=None)
@given(ANY_64)
def test_any_bits_come_back(raw: Any) -> None:
    """Values, steps and times of any 64 bits are the same bits again, also what a NaN carries."""
    packed = codec.encode_values(raw.view(np.float64))
    back = codec.decode_values(packed)
    if back.dtype == np.float64:
        assert back.view(np.uint64).tolist() == raw.tolist()
    else:
        assert back.astype(np.float64).view(np.uint64).tolist() == raw.tolist()
    steps = codec.decode_steps(codec.encode_steps(raw.view(np.int64)))
    assert steps.dtype == np.int64
    assert steps.view(np.uint64).tolist() == raw.tolist()
    times = codec.decode_times(codec.encode_times(raw.view(np.float64)))
    assert times.view(np.uint64).tolist() == raw.tolist()


@settings(deadline=None)
@given(
    st.lists(
        st.one_of(
            st.floats(width=32),
            st.sampled_from(SPECIAL),
            st.integers(-(1 << 60), 1 << 60).map(float),
            st.tuples(st.integers(-99999, 99999), st.integers(0, 7)).map(
                lambda pair: pair[0] / 10.0 ** pair[1]
            ),
        )
    ),
    st.integers(1, 40),
)
def test_values_of_any_kind_come_back(values: list[float], times: int) -> None:
    """Rounded numbers, narrow floats and odd ones among them come back, few or many."""
    same_values(np.array(values * times, np.float64))


def test_what_is_stored_as_what() -> None:
    """Each kind of data takes the bytes its kind needs."""
    rng = np.random.default_rng(5)
    n = 10_000
    rounded = np.round(1 + 0.1 * rng.normal(size=n), 4)
    assert len(same_values(np.full(n, 0.1))) == 25
    assert len(same_values(rounded)) < 1.7 * n
    assert len(same_values(np.where(rng.random(n) < 0.01, math.nan, rounded))) < 2.1 * n
    assert len(same_values(np.arange(n) // 10 * 1.0)) < 0.1 * n
    assert len(same_values(np.cumsum(rng.normal(size=n)))) < 6.8 * n
    narrow = same_values(np.cumsum(rng.normal(size=n)).astype(np.float32).astype(np.float64))
    assert len(narrow) < 3.4 * n
    assert codec.decode_values(narrow).dtype == np.float32


def test_a_column_of_a_matrix() -> None:
    """Values, times and steps need not lie side by side in memory."""
    matrix = np.arange(600.0).reshape(100, 6) ** 0.5
    same_values(matrix[:, 3])
    times = codec.decode_times(codec.encode_times(matrix[:, 1]))
    assert times.tolist() == matrix[:, 1].tolist()
    steps = np.arange(600).reshape(100, 6)[:, 2]
    assert codec.decode_steps(codec.encode_steps(steps)).tolist() == steps.tolist()


@pytest.mark.parametrize(("start", "stride"), [(0, 1), (-7, 100), (-(1 << 63), 1 << 62), (5, -1)])
def test_a_stride_is_small(start: int, stride: int) -> None:
    """Steps of a constant stride take 25 bytes."""
    steps = np.array([start + i * stride for i in range(4)], np.int64)
    packed = codec.encode_steps(steps)
    assert len(packed) == 25
    assert codec.decode_steps(packed).tolist() == steps.tolist()


def test_steps_beyond_64_bits() -> None:
    """Steps that are objects come back as objects."""
    steps = np.array([1 << 70, -3, 1 << 64, 0], object)
    back = codec.decode_steps(codec.encode_steps(steps))
    assert back.dtype == object
    assert back.tolist() == steps.tolist()


OBJECTS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 80), 1 << 80)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, max_examples=30)
@given(st.lists(OBJECTS, max_size=5))
def test_objects_come_back(values: list[Any]) -> None:
    """Whatever MessagePack holds comes back, and integers of any size, with their types."""
    back = codec.decode_objects(codec.encode_objects(values))
    assert back.dtype == object
    assert repr(back.tolist()) == repr(values)


def test_an_extension_comes_back() -> None:
    """An extension of another's making is kept, beside an integer beyond 64 bits too."""
    values = [msgspec.msgpack.Ext(77, b"abc"), 1 << 90]
    assert codec.decode_objects(codec.encode_objects(values)).tolist() == values


def made() -> list[tuple[bytes, Callable[[bytes], Any]]]:
    """Pieces of every kind, each with what decodes it."""
    rng = np.random.default_rng(1)
    steps, walk = np.arange(0, 600, 2), np.cumsum(rng.normal(size=300))
    odd = np.where(rng.random(300) < 0.02, math.nan, np.round(walk, 3))
    return [
        (codec.encode_values(np.full(300, 0.5)), codec.decode_values),
        (codec.encode_values(np.round(walk, 3)), codec.decode_values),
        (codec.encode_values(odd), codec.decode_values),
        (codec.encode_values(walk.astype(np.float32)), codec.decode_values),
        (codec.encode_values(walk), codec.decode_values),
        (codec.encode_steps(steps), codec.decode_steps),
        (codec.encode_steps(rng.integers(0, 99, 300)), codec.decode_steps),
        (codec.encode_steps(np.array([1 << 70, 1], object)), codec.decode_steps),
        (codec.encode_times(walk), codec.decode_times),
        (codec.encode_objects(["a", 1 << 70, [1.5, None]]), codec.decode_objects),
        (codec.cells_of(steps, walk) or b"", codec.decode_cells),
        (codec.cells_of(steps, np.round(walk)) or b"", codec.decode_cells),
    ]


def told(value: Any) -> Any:
    """A decoded piece in a form that can be compared."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, repr(value.tolist())
    return [told(getattr(value, name)) for name in type(value).__slots__]


def test_damaged_bytes_are_told() -> None:
    """A flipped bit, a cut or other bytes give what was stored or IndexDamagedError: no more."""
    for packed, decode in made():
        whole = told(decode(packed))
        damaged = [packed[:cut] for cut in range(0, len(packed), max(len(packed) // 60, 1))]
        for place in range(0, len(packed), max(len(packed) // 120, 1)):
            changed = bytearray(packed)
            changed[place] ^= 1 << place % 8
            damaged.append(bytes(changed))
        for data in damaged:
            try:
                assert told(decode(data)) == whole
            except IndexDamagedError:
                continue


@settings(deadline=None, max_examples=40)
@given(st.binary(max_size=60), st.integers(0, 11))
def test_foreign_bytes_are_told(noise: bytes, which: int) -> None:
    """Bytes that were never encoded raise IndexDamagedError."""
    _, decode = made()[which]
    with pytest.raises(IndexDamagedError):
        decode(noise)


def test_one_kind_is_not_another() -> None:
    """Bytes of one kind are not taken for another's."""
    values, steps = codec.encode_values(np.arange(9) ** 0.5), codec.encode_steps(np.arange(9) ** 2)
    objects = codec.encode_objects([1])
    for decode, packed in (
        (codec.decode_values, steps),
        (codec.decode_values, objects),
        (codec.decode_steps, values),
        (codec.decode_times, values),
        (codec.decode_objects, values),
        (codec.decode_cells, values),
    ):
        with pytest.raises(IndexDamagedError):
            decode(packed)


def test_threads_at_once() -> None:
    """Several threads may encode and decode at once."""
    columns = [np.random.default_rng(seed).normal(size=5000) for seed in range(4)]
    wrong = []

    def work(values: Any) -> None:
        for _ in range(20):
            if bits(codec.decode_values(codec.encode_values(values))) != bits(values):
                wrong.append(1)

    threads = [threading.Thread(target=work, args=(column,)) for column in columns]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


VALUE = st.one_of(st.floats(), st.sampled_from([*SPECIAL, 1.0, 1.0, -2.0]))


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(-20, 20), st.floats(0, 1e9), VALUE), min_size=1))
def test_head_of_floats(points: list[tuple[int, float, float]]) -> None:
    """A head is what a loop over the points finds."""
    steps, times, values = map(list, zip(*points, strict=True))
    head = codec.head_of(np.array(steps), np.array(times), np.array(values), "f")
    there = [(v, s) for s, v in zip(steps, values, strict=True) if v == v]
    finite = [v for v, _ in there if math.isfinite(v)]
    low, high = (min(v for v, _ in there), max(v for v, _ in there)) if there else (math.nan,) * 2
    assert (head.n, head.nan) == (len(steps), len(steps) - len(there))
    assert head.inf == len(there) - len(finite)
    assert repr((head.first, head.last)) == repr((values[0], values[-1]))
    assert (head.low, head.high) == (min(steps), max(steps))
    assert (head.low_time, head.high_time) == (min(times), max(times))
    assert head.rises == all(a < b for a, b in pairwise(steps))
    assert head.types == "f"
    assert (head.min, head.max) == (low, high) or not there
    assert head.min_step == min((s for v, s in there if v == low), default=0)
    assert head.max_step == min((s for v, s in there if v == high), default=0)
    try:
        exact = math.fsum(finite)
    except OverflowError:
        return
    if math.isfinite(head.sum):
        bound = math.ldexp(max(map(abs, finite), default=0.0), -40) * len(finite)
        assert abs(head.sum - exact) <= bound


def test_head_of_objects() -> None:
    """Of objects the numbers count; an integer beyond float64 is the largest, and no infinity."""
    values = np.empty(6, object)
    values[:] = ["text", 1 << 60, math.nan, -math.inf, -(10**400), [1]]
    steps = np.array([5, 4, 3, 2, 1 << 70, 0], object)
    head = codec.head_of(steps, np.arange(6.0), values, "of")
    assert (head.n, head.nan, head.inf) == (6, 1, 1)
    assert (head.min, head.min_step, head.max, head.max_step) == (-math.inf, 2, 2.0**60, 4)
    assert math.isnan(head.first)
    assert math.isnan(head.last)
    assert (head.low, head.high, head.rises, head.sum) == (0, 1 << 70, False, 2.0**60)
    none = codec.head_of(steps[:1], np.zeros(1), values[:1], "o")
    assert math.isnan(none.min)
    assert (none.min_step, none.sum, none.rises) == (0, 0.0, True)


@settings(deadline=None)
@given(st.dictionaries(st.integers(-400, 400), VALUE, min_size=1))
def test_cells(points: dict[int, float]) -> None:
    """Each cell is what a loop over its points finds, and comes back from bytes exactly."""
    steps = sorted(points)
    packed = codec.cells_of(np.array(steps), np.array([points[s] for s in steps]))
    held: dict[int, list[tuple[int, float]]] = {}
    for step in steps:
        held.setdefault(step // CELL_STEPS, []).append((step, points[step]))
    sums = [sum(v for _, v in cell if math.isfinite(v)) for cell in held.values()]
    if packed is None:
        assert any(abs(value) > 1e300 for value in points.values())
        return
    cells = codec.decode_cells(packed)
    assert cells.id.tolist() == list(held)
    for row, (number, cell) in enumerate(held.items()):
        values = [v for _, v in cell]
        finite = [v for v in values if math.isfinite(v)]
        assert int(cells.low[row]) + number * CELL_STEPS == cell[0][0]
        assert int(cells.high[row]) + number * CELL_STEPS == cell[-1][0]
        assert cells.count[row] == len(cell)
        assert cells.nan[row] == sum(v != v for v in values)
        assert cells.inf_pos[row] == values.count(math.inf)
        assert cells.inf_neg[row] == values.count(-math.inf)
        told = cells.min[row], cells.max[row]
        assert told == (min(finite), max(finite)) if finite else np.isnan(told).all()
        assert bits([cells.first[row], cells.last[row]]) == bits([values[0], values[-1]])
        bound = 1e-13 * max(map(abs, finite), default=0.0) * len(cell)
        assert abs(cells.sum[row] - sums[row]) <= bound


def test_no_cells() -> None:
    """There is no pyramid of steps that repeat or are no int64, of objects, of sums beyond f64."""
    floats = np.array([1.0, 2.0])
    assert codec.cells_of(np.array([3, 3]), floats) is None
    assert codec.cells_of(np.array([3, 2]), floats) is None
    assert codec.cells_of(np.array([3, 1 << 70], object), floats) is None
    assert codec.cells_of(np.array([3, 4]), np.array(["a", 1], object)) is None
    assert codec.cells_of(np.array([3, 4]), np.array([1.7e308, 1.7e308])) is None
    assert codec.cells_of(np.array([], np.int64), np.array([])) is None


def test_ends_of_64_bits_have_cells() -> None:
    """The cells at both ends of int64 are right."""
    cells = codec.decode_cells(
        codec.cells_of(np.array([-(1 << 63), (1 << 63) - 1]), np.array([1.0, 2.0])) or b""
    )
    assert cells.id.tolist() == [-(1 << 55), (1 << 55) - 1]
    assert (cells.low.tolist(), cells.high.tolist()) == ([0, 255], [0, 255])
    assert struct.pack("<2d", *cells.sum) == struct.pack("<2d", 1.0, 2.0)
