"""What ``log`` takes, and that a reader finds exactly that."""

from __future__ import annotations

import math
import struct
import threading
from collections import OrderedDict
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trackway.api import StoredRun
from trackway.core import _guard
from trackway.core.run import Run

Begin = Callable[..., Run]
Stored = Callable[[Run], StoredRun]


def bits(number: float) -> int:
    """The pattern of a float, so that NaN equals itself and -0.0 is not 0.0."""
    return int(struct.unpack("<q", struct.pack("<d", number))[0])


def points(run: StoredRun, key: str) -> list[tuple[int, Any]]:
    """(step, value) of each arrival, in order."""
    series = run.history(key, repeats="all", order="arrival")[key]
    return list(zip(series.steps.tolist(), series.values.tolist(), strict=True))


def test_a_step_is_counted_up_by_itself(begin: Begin, stored: Stored) -> None:
    """Without a step each call has the next one, from 0."""
    run = begin()
    for value in (3.0, 2.0, 1.0):
        run.log({"loss": value})
    run.finish()
    assert points(stored(run), "loss") == [(0, 3.0), (1, 2.0), (2, 1.0)]


def test_any_step_in_any_order_is_stored(begin: Begin, stored: Stored) -> None:
    """Steps may fall, repeat and be negative; arrival order is kept and the last one wins."""
    run = begin()
    for step, value in ((7, 1.0), (-3, 2.0), (7, 3.0), (0, 4.0), (2**62, 5.0)):
        run.log({"x": value}, step=step)
    run.finish()
    back = stored(run)
    assert points(back, "x") == [(7, 1.0), (-3, 2.0), (7, 3.0), (0, 4.0), (2**62, 5.0)]
    last = back.history("x")["x"]
    assert last.steps.tolist() == [-3, 0, 7, 2**62]
    assert last.values.tolist() == [2.0, 4.0, 3.0, 5.0]


def test_a_call_without_a_step_goes_on_behind_the_highest(begin: Begin, stored: Stored) -> None:
    """After an explicit step the count goes on behind it, but never back."""
    run = begin()
    run.log({"x": 0.0})
    run.log({"x": 1.0}, step=10)
    run.log({"x": 2.0})
    run.log({"x": 3.0}, step=5)
    run.log({"x": 4.0})
    run.finish()
    assert [step for step, _ in points(stored(run), "x")] == [0, 10, 11, 5, 12]


def test_commit_false_shares_the_step_of_the_next_call(begin: Begin, stored: Stored) -> None:
    """``commit=False`` does not use up a step."""
    run = begin()
    run.log({"a": 1.0}, commit=False)
    run.log({"b": 2.0})
    run.log({"b": 3.0})
    run.finish()
    back = stored(run)
    assert points(back, "a") == [(0, 1.0)]
    assert points(back, "b") == [(0, 2.0), (1, 3.0)]


def test_steps_of_numpy_and_whole_floats_are_steps(begin: Begin, stored: Stored) -> None:
    """Anything with ``__index__`` and floats without a fraction are steps."""
    run = begin()
    for _ in range(2):  # the careful way, then the fast one
        run.log({"x": 1.0}, step=np.int64(4))
        run.log({"x": 2.0}, step=6.0)  # type: ignore[arg-type]
    run.finish()
    assert [step for step, _ in points(stored(run), "x")] == [4, 6, 4, 6]


def test_a_fractional_step_is_recorded_whole_and_told(
    begin: Begin, stored: Stored, capsys: pytest.CaptureFixture[str]
) -> None:
    """2.5 becomes 2, and one sentence says so."""
    run = begin()
    run.log({"x": 1.0}, step=2.5)  # type: ignore[arg-type]
    run.log({"x": 1.0}, step=3.5)  # type: ignore[arg-type]
    run.finish()
    assert [step for step, _ in points(stored(run), "x")] == [2, 3]
    assert capsys.readouterr().err.count("a step is a whole number") == 1


def test_a_step_beyond_64_bits_is_stored(begin: Begin, stored: Stored) -> None:
    """Steps have no limit; a reader gets them as Python integers."""
    run = begin()
    run.log({"x": 1.5}, step=2**70)
    run.log({"x": 2.5}, step=1)
    run.finish()
    series = stored(run).history("x")["x"]
    assert list(series.steps) == [1, 2**70]
    assert list(series.values) == [2.5, 1.5]


SPECIAL = [0.0, -0.0, math.inf, -math.inf, math.nan, 5e-324, -5e-324, 1.7976931348623157e308, 0.1]


def test_special_floats_are_exact_to_the_bit(begin: Begin, stored: Stored) -> None:
    """NaN, infinities, negative zero and denormals come back with the same bits."""
    run = begin()
    for _ in range(2):
        for value in SPECIAL:
            run.log({"x": value, "y": 1.0})
    run.finish()
    back = stored(run).history("x")["x"].values
    assert [bits(value) for value in back.tolist()] == [bits(value) for value in SPECIAL] * 2


@pytest.mark.parametrize(
    "number",
    [2**53, 2**53 + 1, -(2**53) - 1, 2**63, 2**64, -(2**200), 16**5000],
    ids=lambda n: f"{n.bit_length()} bits",
)
def test_an_integer_of_any_size_is_exact(begin: Begin, stored: Stored, number: int) -> None:
    """Also behind a call that taught the fast way that this name is an integer, or a float."""
    run = begin()
    run.log({"n": 1, "m": 0.5})
    run.log({"n": number, "m": 0.5})
    run.log({"n": 0.5, "m": 1})
    run.log({"n": 2, "m": number})
    run.finish()
    back = stored(run)
    assert [value for _, value in points(back, "n")] == [1, number, 0.5, 2]
    assert [value for _, value in points(back, "m")] == [0.5, 0.5, 1, number]


def test_types_come_back(begin: Begin, stored: Stored) -> None:
    """Integers as int64, booleans as bool, floats as float64, text as it was."""
    run = begin()
    for index in range(3):
        run.log({"i": index, "b": index > 0, "f": index / 2, "t": f"text {index}", "l": [1, "a"]})
    run.finish()
    history = stored(run).history()
    assert history["i"].values.dtype == np.int64
    assert history["b"].values.dtype == np.bool_
    assert history["f"].values.dtype == np.float64
    assert history["t"].values.tolist() == ["text 0", "text 1", "text 2"]
    assert history["l"].values.tolist() == [[1, "a"]] * 3


def test_nested_dictionaries_are_joined_with_slashes(begin: Begin, stored: Stored) -> None:
    """At any depth, beside flat names, with keys that are no text."""
    run = begin()
    run.log({"train": {"loss": 1.0, "head": {0: 2.0}}, "lr": 3.0, 7: 4.0})
    run.finish()
    back = stored(run)
    assert back.keys() == ["7", "lr", "train/head/0", "train/loss"]
    assert points(back, "train/head/0") == [(0, 2.0)]


def test_one_value_in_a_nested_dictionary(begin: Begin, stored: Stored) -> None:
    """Also as many names as outer keys are no flat call: each is stored under its joined name."""
    run = begin()
    for value in (1.0, 2.0):
        run.log({"train": {"loss": value}})
    run.log({f"{'n' * 500}{index}": 1.0 for index in range(10_000)})
    run.finish()
    back = stored(run)
    assert points(back, "train/loss") == [(0, 1.0), (1, 2.0)]
    assert len(back.keys()) == 10_001


@pytest.mark.parametrize(
    "name",
    ["a/b/c", "with space", "🙂 émoji", "new\nline", "", ".", "../up", "*", "\x00", "a\ud800b"],
)
def test_any_text_is_a_name(begin: Begin, stored: Stored, name: str) -> None:
    """Names hold what they like; a lone surrogate is written as its escape."""
    run = begin()
    run.log({name: 1.5, "text " + name: "v"})
    run.log({name: 2.5, "text " + name: "w"})
    run.finish()
    kept = name.replace("\ud800", "\\ud800")
    assert points(stored(run), kept) == [(0, 1.5), (1, 2.5)]
    assert points(stored(run), "text " + kept) == [(0, "v"), (1, "w")]


def test_an_empty_call_takes_a_step(begin: Begin, stored: Stored) -> None:
    """``log({})`` is no error; the next call has the next step."""
    run = begin()
    run.log({})
    run.log({})
    run.log({"x": 1.0})
    run.finish()
    assert points(stored(run), "x") == [(2, 1.0)]


def test_ten_thousand_names_in_one_call(begin: Begin, stored: Stored) -> None:
    """Wide calls are stored whole, the second (fast) one too; 70,000 names are split over rows."""
    run = begin()
    wide = {f"layer/{index}/grad_norm": index / 3 for index in range(10_000)}
    run.log(wide)
    run.log(wide)
    run.log({f"w{index}": float(index) for index in range(70_000)})
    run.finish()
    back = stored(run)
    assert len(back.keys()) == 80_000
    assert points(back, "layer/9999/grad_norm") == [(0, 3333.0), (1, 3333.0)]
    assert points(back, "w0") == [(2, 0.0)]
    assert points(back, "w69999") == [(2, 69999.0)]


def test_none_is_skipped_and_counted(begin: Begin, stored: Stored) -> None:
    """None is no value: the others of its call are stored."""
    run = begin()
    run.log({"x": None, "y": 1.0})
    run.log({"x": None, "y": 2.0})
    run.finish()
    back = stored(run)
    assert back.keys() == ["y"]
    assert back._told.skipped == 2


def test_what_cannot_be_stored_is_named_once_and_counted(
    begin: Begin, stored: Stored, capsys: pytest.CaptureFixture[str]
) -> None:
    """An object is refused by name; the values beside it are stored."""
    run = begin()
    for _ in range(3):
        run.log({"model": object(), "z": 1 + 2j, "npz": np.complex128(1j), "x": 1.0})
    run.finish()
    told = capsys.readouterr().err
    assert told.count("'model' was not stored: a builtins.object is no number or text") == 1
    assert told.count("'z' was not stored") == 1
    back = stored(run)
    assert back._told.refused == {"model": 3, "z": 3, "npz": 3}
    assert points(back, "x") == [(0, 1.0), (1, 1.0), (2, 1.0)]


def test_log_of_something_else_is_told_not_raised(
    begin: Begin, capsys: pytest.CaptureFixture[str]
) -> None:
    """A list is no dictionary: one sentence, and the program goes on."""
    run = begin()
    wrong: Any = [1, 2]
    run.log(wrong)
    run.log(wrong)
    wrong = None
    run.log(wrong)
    run.finish()
    told = capsys.readouterr().err
    assert told.count("log() takes a dictionary of values, not a list") == 1
    assert told.count("log() takes a dictionary of values, not a NoneType") == 1


@pytest.mark.swallows
def test_an_error_inside_a_value_does_not_reach_the_program(begin: Begin, stored: Stored) -> None:
    """A number whose reading raises costs its own call, and no other."""

    class Bad:
        def __float__(self) -> float:
            raise OverflowError("no")

        def __radd__(self, other: object) -> object:
            raise KeyError("not even that")

    class Worse(dict[str, float]):
        def items(self) -> Any:
            raise LookupError("broken")

    run = begin()
    run.log({"x": 1.0})
    run.log({"x": Bad()})
    run.log(Worse(x=1.0))
    run.log({"x": 2.0})
    run.finish()
    assert [value for _, value in points(stored(run), "x")] == [1.0, 1.0, 2.0]
    run = begin()

    class Worst(OrderedDict[str, float]):
        def __iter__(self) -> Any:
            raise LookupError("broken")

        def items(self) -> Any:
            raise LookupError("broken")

    run.log(Worst(x=1.0))
    run.finish()
    assert _guard.swallowed


def test_ctrl_c_inside_log_is_the_users(begin: Begin) -> None:
    """KeyboardInterrupt passes through ``log`` at once."""

    class Interrupting:
        def __float__(self) -> float:
            raise KeyboardInterrupt

    run = begin()
    with pytest.raises(KeyboardInterrupt):
        run.log({"x": Interrupting()})


def test_numbers_of_numpy_and_the_standard_library(begin: Begin, stored: Stored) -> None:
    """Scalars, 0-d and one-element arrays of every kind, decimals and fractions are numbers."""
    run = begin()
    values: dict[str, Any] = {
        "f16": np.float16(0.5),
        "f32": np.float32(0.1),
        "f64": np.float64(0.1),
        "i8": np.int8(-5),
        "u64": np.uint64(2**64 - 1),
        "bool": np.bool_(True),
        "zero_d": np.array(1.5),
        "one": np.array([[2.5]]),
        "decimal": Decimal("0.25"),
        "fraction": Fraction(1, 4),
        "long": np.longdouble(1.5),
    }
    run.log(values)
    run.log(values)
    run.log({"f32": np.float32(0.1), "f64": np.float64("nan")})
    run.log({"f32": np.float32(0.1), "f64": np.float64(1)})
    run.finish()
    last = {key: metric.last for key, metric in stored(run).metrics.items()}
    assert last["f32"] == float(np.float32(0.1))
    assert last["u64"] == 2**64 - 1
    assert last["i8"] == -5
    assert last["bool"] is True
    assert (last["f16"], last["zero_d"], last["one"], last["decimal"]) == (0.5, 1.5, 2.5, 0.25)
    assert (last["fraction"], last["long"]) == (0.25, 1.5)
    assert stored(run).metrics["f64"].nan == 1


def test_after_finish_values_are_still_stored(
    begin: Begin, stored: Stored, capsys: pytest.CaptureFixture[str]
) -> None:
    """No write is refused: what comes after the end is kept, and one sentence says so."""
    run = begin()
    run.log({"x": 1.0})
    run.finish()
    run.log({"x": 2.0})
    run.log({"x": 3.0})
    assert [value for _, value in points(stored(run), "x")] == [1.0, 2.0, 3.0]
    assert stored(run).state == "finished"
    assert capsys.readouterr().err.count("was already finished") == 1


def test_what_no_record_can_hold_is_refused_by_name(
    begin: Begin, stored: Stored, capsys: pytest.CaptureFixture[str]
) -> None:
    """A text of 5 MB and a large array are named and counted, in the run too; nothing is cut."""
    run = begin(config={"story": "x" * 5_000_000, "lr": 1})
    run.log({"text": "x" * 5_000_000, "short": "y", "array": np.zeros((400, 1000)), "x": 1.0})
    run.finish()
    back = stored(run)
    assert back.keys() == ["short", "x"]
    assert back._told.refused == {"array": 1, "text": 1}
    assert back.config == {"lr": 1}
    told = capsys.readouterr().err
    assert "'text' was not stored: it needs more than 4 MiB" in told
    assert "'array' was not stored: an array of shape (400, 1000)" in told
    assert "config 'story' was not stored" in told
    assert "lost" not in told


def test_steps_beyond_64_bits_go_on(begin: Begin, stored: Stored) -> None:
    """Also without values, with integers, and counted up by themselves."""
    run = begin()
    run.log({"n": 1, "f": 0.5}, step=2**63)
    run.log({})
    run.log({"n": 2, "f": 1.5})
    run.finish()
    back = stored(run)
    assert points(back, "n") == [(2**63, 1), (2**63 + 2, 2)]
    assert [type(value) for _, value in points(back, "n")] == [int, int]


def test_a_runs_troubles_are_its_own(begin: Begin, stored: Stored) -> None:
    """What went wrong in one run is not told by the next one of the program."""
    first = begin()
    first.log({"o": object()})
    first.finish()
    second = begin()
    second.log({"o": object(), "p": object()})
    second.finish()
    assert [(t["reason"], t["count"]) for t in stored(first).troubles] == [("value o", 1)]
    assert [(t["reason"], t["count"]) for t in stored(second).troubles] == [
        ("value o", 1),
        ("value p", 1),
    ]


def test_statistics_of_a_metric_with_large_integers(begin: Begin, stored: Stored) -> None:
    """Text is passed over, and integers beyond 2**53 are exact in min and max."""
    run = begin()
    run.define_metric("n", summary="max")
    for value in (3, 2**70, "text", 1.5, float("nan")):
        run.log({"n": value})
    run.finish()
    metric = stored(run).metrics["n"]
    assert (metric.count, metric.nan, metric.min, metric.max) == (5, 1, 1.5, 2**70)
    assert (metric.min_step, metric.max_step) == (3, 1)
    assert stored(run).summary["n"] == 2**70


def test_threads_share_a_run(begin: Begin, stored: Stored) -> None:
    """Eight threads log without steps: every value is there and every step is used once."""
    run = begin()

    def work(number: int) -> None:
        for index in range(2000):
            run.log({"x": float(number * 10_000 + index)})
            run.log({f"own/{number}": index, "text": "t"} if index % 500 == 0 else {"y": 1.0})

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    run.finish()
    back = stored(run)
    found = points(back, "x")
    assert sorted(value for _, value in found) == sorted(
        float(n * 10_000 + i) for n in range(8) for i in range(2000)
    )
    steps = [s for one in back.history(repeats="all").values() for s in one.steps.tolist()]
    assert len({step for step, _ in found}) == 16_000
    assert max(steps) == 8 * 4000 - 1
    for number in range(8):
        mine = [value for _, value in found if value // 10_000 == number]
        assert mine == sorted(mine)


names = st.sampled_from(["a", "b", "c/d", "e"])
scalars = st.one_of(
    st.floats(),
    st.integers(min_value=-(2**70), max_value=2**70),
    st.booleans(),
    st.floats(width=32).map(np.float32),
    st.integers(min_value=-(2**63), max_value=2**63 - 1).map(np.int64),
)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(st.tuples(st.dictionaries(names, scalars), st.integers(-5, 5)), max_size=30))
def test_whatever_is_logged_is_read_back(
    begin: Begin, stored: Stored, calls: list[tuple[dict[str, Any], int]]
) -> None:
    """For any sequence of calls, each name's arrivals are exactly what was logged, in order."""
    run = begin()
    for data, step in calls:
        run.log(data, step=step)
    run.finish()
    back = stored(run)
    for name in {name for data, _ in calls for name in data}:
        expected = [(step, data[name]) for data, step in calls if name in data]
        found = points(back, name)
        assert [step for step, _ in found] == [step for step, _ in expected]
        for (_, got), (_, wanted) in zip(found, expected, strict=True):
            plain = wanted.item() if isinstance(wanted, np.generic) else wanted
            if isinstance(plain, float):
                assert bits(float(got)) == bits(plain)
            else:
                assert got == plain
