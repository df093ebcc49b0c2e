"""``trackway integrations``: what is installed, supported, patched; now or in a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.cli.conftest import Command, Recording
from trackway.cli import integrations

Record = Callable[..., Recording]

ITEM = {
    "framework": "pytorch",
    "installed": "2.99.0",
    "lowest": "2.4",
    "latest": "2.13.0",
    "state": "patched",
    "points": ["torch.Tensor.backward"],
    "error": None,
    "errors": 0,
    "newer": True,
    "older": False,
}


def test_every_framework_is_listed(trackway: Command) -> None:
    """Each framework of the table has a line: its name, versions and state."""
    items = trackway.json("integrations")["integrations"]
    assert [item["framework"] for item in items][:3] == ["pytorch", "lightning", "keras"]
    assert {item["state"] for item in items} <= {
        "ready", "newer than tried", "older than supported", "not installed",
    }  # fmt: skip
    assert "SUPPORTED" in trackway("integrations")


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ({}, "ready"),
        ({"newer": True}, "newer than tried"),
        ({"older": True}, "older than supported"),
        ({"state": "not installed"}, "not installed"),
        ({"state": "failed", "newer": True}, "failed"),
    ],
)
def test_states(fields: dict[str, Any], state: str) -> None:
    """What waits for its import is ready, unless its version is another than those tried."""
    item = {**ITEM, "state": "waiting", "newer": False, **fields}
    assert integrations._state(item) == state


def test_of_a_run(trackway: Command, record: Record) -> None:
    """With a run: what was patched in it, and the errors of ours that it ended with."""
    run = record().named("one").event("integrations", items=[ITEM])
    trouble: dict[str, Any] = {
        "place": "pytorch",
        "reason": "KeyError",
        "count": 3,
        "sentence": "it did not work",
    }
    run.event("trouble", **trouble).end()
    document = trackway.json("integrations", "one")
    assert document["integrations"] == [{**ITEM, "error": "it did not work", "errors": 3}]
    said = trackway("integrations", "one")
    assert "newer than tried" in said
    assert "torch.Tensor.backward" in said
    assert "pytorch: 3 errors, the last: it did not work" in said


def test_run_without(trackway: Command, record: Record) -> None:
    """A run whose program recorded all itself says so, and not that something failed."""
    record().named("one").end()
    assert trackway("integrations", "one") == (
        "one: autolog was not on, or no framework was loaded that it knows; what was recorded, the "
        "program itself asked for\n"
    )


@pytest.mark.parametrize("odd", ["many", None, -1.5, [1], {}])
def test_odd_logs(trackway: Command, record: Record, odd: object) -> None:
    """What no writer of ours says is passed over: counts, points and items that are none."""
    item = {**ITEM, "points": odd, "errors": odd, "installed": odd}
    run = record().named("one").event("integrations", items=[item, odd])
    run.event("trouble", place="pytorch", reason="x", count=odd, sentence=odd).end()
    assert "pytorch" in trackway("integrations", "one")
    assert trackway.json("integrations", "one")["integrations"][0]["errors"] == 0


@pytest.mark.parametrize("odd", ["many", None, -1.5, {}, ["many"]])
def test_odd_items(trackway: Command, record: Record, odd: object) -> None:
    """Items that are no list, or hold no item, are none."""
    record().event("integrations", items=odd).end()
    assert trackway.json("integrations", "abc12345")["integrations"] == []


def test_failed_check(trackway: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """A framework that cannot be patched gives exit code 1 and its error."""
    bad = {**ITEM, "state": "failed", "error": "it is gone", "errors": 1}
    monkeypatch.setattr(integrations, "_asked", lambda check: [bad])
    assert "it is gone" in trackway("integrations", "--check", code=1)


def test_check_of_a_run(trackway: Command, record: Record) -> None:
    """--check and a run are refused together."""
    record().named("one").end()
    trackway("integrations", "one", "--check", code=2)
