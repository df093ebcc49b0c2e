"""What has just been logged, what was recorded besides, and several metrics at once."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.cli.conftest import BEGAN
from trackway.api import Api, StoredEvent
from trackway.errors import ArgumentError

from .conftest import Record


def test_the_tail_is_the_end_of_the_live_line(api: Api, record: Record) -> None:
    """Of a long series, of a short one, and of one whose last arrivals are not its last steps."""
    run = record()
    for step in range(3000):
        run.row(step, {"loss": step / 2, "rare": 1.0} if step % 1000 == 0 else {"loss": step / 2})
    run.row(7, {"loss": -1.0})
    run.end()
    stored = api.run("abc12345")
    tail = stored.tail(count=3)
    assert list(tail) == ["loss", "rare"]
    assert tail["loss"].steps.tolist() == [2997, 2998, 2999]
    assert tail["loss"].values.tolist() == [1498.5, 1499.0, 1499.5]
    assert tail["rare"].steps.tolist() == [0, 1000, 2000]
    assert stored.tail("rare", count=1)["rare"].steps.tolist() == [2000]
    assert len(stored.tail("loss", count=10**6)["loss"]) == 3000
    with pytest.raises(ArgumentError, match="count=0: it is at least 1"):
        stored.tail(count=0)


def test_the_tail_of_any_length_is_the_end_of_the_history(api: Api, record: Record) -> None:
    """Whether it lies in the index, behind it, or in both."""
    run = record()
    for step in range(2500):
        run.row(step, {"loss": math.sin(step)})
    stored = api.run("abc12345")
    for more in (0, 1, 30):
        for step in range(2500, 2500 + more):
            run.row(step, {"loss": float(step)})
        whole = stored.history("loss")["loss"]
        for count in (1, 5, 31, 999, 1500, 2600):
            tail = stored.tail("loss", count=count)["loss"]
            assert np.array_equal(tail.steps, whole.steps[-count:])
            assert np.array_equal(tail.values, whole.values[-count:])


def test_events_are_told_whole_and_in_order(api: Api, record: Record) -> None:
    """All of them, or those of some types; unknown types too."""
    run = record().named("a-name").config(lr=0.1)
    run.event("alert", 20, title="late", level=2)
    run.event("alert", 10, title="early", level=1)
    run.end()
    stored = api.run("abc12345")
    assert stored.events("alert") == [
        StoredEvent(BEGAN + 10, "alert", {"title": "early", "level": 1}),
        StoredEvent(BEGAN + 20, "alert", {"title": "late", "level": 2}),
    ]
    assert {event.type for event in stored.events(["config", "end"])} == {"config", "end"}
    assert {"run", "config", "alert", "end"} <= {event.type for event in stored.events()}


def test_several_metrics_are_asked_for_at_once(api: Api, record: Record) -> None:
    """By names and patterns; each answer is what ``series`` gives."""
    for number in range(3):
        run = record(f"run0000{number}")
        for step in range(50):
            run.row(step, {"train/loss": step + number, "train/acc": 1.0, "lr": 0.1})
        run.end()
    runs = api.runs()
    found = api.all_series(["train/*", "lr", "nothing"], runs, buckets=10, start=10, stop=39)
    assert list(found) == ["train/acc", "train/loss", "lr"]
    for key, answer in found.items():
        alone = api.series(key, runs, buckets=10, start=10, stop=39)
        # The range is widened to whole buckets, of 4 steps: 8 to 39.
        assert answer.covered.tolist() == alone.covered.tolist() == [32, 32, 32]
        assert answer.buckets is not None
        assert alone.buckets is not None
        assert np.array_equal(answer.buckets.mean, alone.buckets.mean, equal_nan=True)
    assert api.all_series("nothing*") == {}
