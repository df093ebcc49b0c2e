"""``trackway edit``: what a run is called, changed by a record."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Command, Recording

Begin = Callable[..., Recording]


def test_an_edit_is_told_and_stays(trackway: Command, record: Begin) -> None:
    """A line for each change; the logs of the run are not touched."""
    run = record().named("brisk-otter", tags=["draft", "paper"]).end()
    before = run.path.read_bytes()
    told = trackway(
        "edit", "brisk-otter", "--name", "baseline", "--notes", "works", "--tag", "best",
        "--untag", "draft", "--group", "g",
    )  # fmt: skip
    assert told.splitlines() == [
        "digits/abc12345",
        "  name: baseline",
        "  notes: works",
        "  group: g",
        '  tags: ["paper", "best"]',
    ]
    assert run.path.read_bytes() == before
    shown = trackway.json("show", "baseline")
    assert (shown["name"], shown["notes"], shown["group"]) == ("baseline", "works", "g")
    assert shown["tags"] == ["paper", "best"]


def test_what_is_empty_is_removed(trackway: Command, record: Begin) -> None:
    """Notes, group and job type; a name cannot be."""
    record().named("otter", notes="n", group="g", job_type="j").end()
    document = trackway.json("edit", "otter", "--notes", "", "--group", "", "--job-type", "")
    assert document == {
        "run": "digits/abc12345",
        "set": {"notes": None, "group": None, "job_type": None},
    }
    assert trackway.json("show", "otter")["notes"] is None
    trackway("edit", "otter", "--name", "", code=2)


def test_a_run_is_archived_and_brought_back(trackway: Command, record: Begin) -> None:
    """The last word counts."""
    record().named("otter").end()
    assert trackway.json("edit", "abc12345", "--archive")["set"] == {"archived": True}
    assert trackway.json("edit", "digits/abc12345", "--unarchive")["set"] == {"archived": False}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "nothing to change"),
        (("--untag", "b"), "the run has no tag 'b'; there are: a"),
        (("--tag", "b", "--untag", "b"), "--tag and --untag both name 'b'"),
    ],
)
def test_an_edit_without_sense_is_refused(
    trackway: Command, record: Begin, root: Path, arguments: tuple[str, ...], sentence: str
) -> None:
    """With one sentence; nothing is written."""
    run = record().named("otter", tags=["a"]).end()
    result = trackway.result("edit", "otter", *arguments)
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert list(run.path.parent.iterdir()) == [run.path]


def test_a_hostile_name_draws_nothing(trackway: Command, record: Begin) -> None:
    """Control characters are shown, not sent."""
    record().named("otter").end()
    assert "\x1b" not in trackway("edit", "otter", "--name", "a\x1b[31m", "--tag", "b\x07")


def test_no_such_run(trackway: Command, record: Begin) -> None:
    """Exit code 1, and the names there are."""
    record().named("otter").end()
    result = trackway.result("edit", "none", "--name", "x")
    assert result.exit_code == 1
    assert "otter" in result.stderr
