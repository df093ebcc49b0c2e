"""What runs have in common, and what tells them apart."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tests.api.conftest import Record
from tests.cli.conftest import BEGAN
from trackway.api import MISSING, Api, Comparison
from trackway.errors import ArgumentError

NAN = math.nan


def of(api: Api) -> Comparison:
    """All runs of the folder side by side, oldest first."""
    return api.compare(api.runs(order="created"))


def test_nested_and_missing_values(record: Record, api: Api) -> None:
    """Leaves are compared by their dotted names; a run without one has MISSING, not None."""
    record("run00000").config(lr=0.1, opt__name="adam", opt__beta=0.9, none=None, same=[1]).end()
    second = record("run00001", created=BEGAN + 1)
    second.config(lr=0.2, opt__name="adam", opt__momentum=None, empty={}, same=[1]).end()
    told = of(api)
    assert told.runs == ["run00000", "run00001"]
    assert told.config == {
        "lr": [0.1, 0.2],
        "opt.beta": [0.9, MISSING],
        "opt.momentum": [MISSING, None],
        "none": [None, MISSING],
        "empty": [MISSING, {}],
    }
    assert told.same_config == {"opt.name": "adam", "same": [1]}
    assert told


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        (1, 1.0, True),
        (1, True, False),
        (0, False, False),
        (NAN, NAN, True),
        (NAN, 1.0, False),
        ("1", 1, False),
        (None, 0, False),
        ([1, NAN], [1.0, NAN], True),
        ([1], [True], False),
        ([1, 2], [1], False),
        ([], None, False),
        ([[NAN], "a"], [[NAN], "a"], True),
        ({}, {}, True),
        ({}, [], False),
    ],
)
def test_what_is_the_same(record: Record, api: Api, one: Any, other: Any, alike: bool) -> None:
    """1 is 1.0 and NaN is NaN, in lists too; True is not 1."""
    record("run00000").config(a=one).end()
    record("run00001", created=BEGAN + 1).config(a=other).end()
    told = of(api)
    assert (list(told.same_config), list(told.config)) == ((["a"], []) if alike else ([], ["a"]))
    assert bool(told) is not alike


def test_summaries_do_not_count_as_a_difference(record: Record, api: Api) -> None:
    """The summary is told, and runs that differ in nothing else are the same experiment."""
    record("run00000").row(0, {"loss": 1.0}).summary(note="x").end()
    record("run00001", created=BEGAN + 1).row(0, {"loss": 2.0}).summary(note="x").end()
    told = of(api)
    assert told.summary == {"loss": [1.0, 2.0]}
    assert not told


@pytest.mark.usefixtures("sweep")
def test_packages_and_git(api: Api) -> None:
    """Versions and commits are listed where they differ, and only there."""
    same = api.compare([api.run("run00000"), api.run("run00001")])
    assert (same.config, same.packages, same.git) == ({"seed": [1, 2]}, {}, {})
    told = api.compare(api.run(f"run0000{number}") for number in (4, 0, 2))
    assert told.runs == ["run00004", "run00000", "run00002"]
    assert told.packages == {"torch": ["2.2.0", "2.0.0", "2.1.0"]}
    assert told.git == {"commit": ["2" * 40, "0" * 40, "1" * 40]}
    assert told.same_config == {"seed": 1, "optimizer.name": "adam"}


def test_patches_and_circumstances(record: Record, api: Api) -> None:
    """Uncommitted work, host, hardware and variables are compared; what differs is named."""
    one, two = record("run00000"), record("run00001", created=BEGAN + 1)
    digest = one.blobs.put(b"diff")
    one.event("git", commit="a" * 40, branch="main", dirty=True, patch={"blob": digest})
    two.event("git", commit="a" * 40, branch="main", dirty=False)
    told: dict[str, Any] = {"command": ["python", "t.py"], "user": "u"}
    gpu, other = {"name": "A"}, {"name": "B"}
    one.event("environment", **told, host="x", python={"version": "3.11"}, gpus=[gpu, gpu])
    two.event("environment", **told, host="y", python={"version": "3.12"}, gpus=[gpu, other])
    one.end()
    two.end()
    found = of(api)
    assert found.git == {"dirty": [True, False]}
    assert found.patches == [digest, None]
    assert found.environment == {
        "host": ["x", "y"],
        "python.version": ["3.11", "3.12"],
        "gpus": [["A", "A"], ["A", "B"]],
    }


@pytest.mark.usefixtures("sweep")
def test_runs_by_name_and_as_columns(api: Api) -> None:
    """Names and ids will do; the columns are a row for all that differs, a column a run."""
    told = api.compare(["lr0.1-seed1", "run00002", "run00002"])
    assert told.runs == ["run00000", "run00002", "run00002"]
    assert repr(told) == "<3 runs; differences: config 1, packages 1, git 1, summary 2>"
    table = {name: column.tolist() for name, column in told.table().items()}
    assert list(table) == ["of", "name", "run00000", "run00002", "run00002 (2)"]
    rows = list(zip(*table.values(), strict=True))
    assert rows[:2] == [
        ("config", "lr", 0.1, 0.01, 0.01),
        ("packages", "torch", "2.0.0", "2.1.0", "2.1.0"),
    ]
    assert told.to_pandas().shape == (5, 5)
    same = api.compare(["run00000", "run00000"])
    assert repr(same) == "<2 runs; differences: none>" and len(same.table()["of"]) == 0
    with pytest.raises(ArgumentError, match=r"runs: 3 is no run; runs are what api\.runs\(\)"):
        api.compare([3])  # type: ignore[list-item]


def test_a_value_that_is_missing_is_none_in_a_table(record: Record, api: Api) -> None:
    """MISSING is for Python; a data frame knows None."""
    record("run00000").config(a=1).end()
    record("run00001", created=BEGAN + 1).end()
    assert of(api).table()["run00001"].tolist() == [None]


@pytest.mark.usefixtures("sweep")
def test_one_run_and_none(api: Api) -> None:
    """A run is like itself, and nothing is like nothing."""
    told = api.compare([api.run("run00000")])
    assert not told and told.config == {} and told.same_config["lr"] == 0.1
    assert not api.compare([]) and api.compare([]).runs == []
