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
    changes = {"notes": None, "group": None, "job_type": None}
    assert document == {"edited": [{"run": "digits/abc12345", "set": changes}]}
    assert trackway.json("show", "otter")["notes"] is None
    trackway("edit", "otter", "--name", "", code=2)


def test_a_run_is_archived_and_brought_back(trackway: Command, record: Begin) -> None:
    """The last word counts."""
    record().named("otter").end()
    for which, option, value in (
        ("abc12345", "--archive", True),
        ("digits/abc12345", "--unarchive", False),
    ):
        (edited,) = trackway.json("edit", which, option)["edited"]
        assert edited["set"] == {"archived": value}


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


def test_several_runs_are_edited_at_once(trackway: Command, record: Begin) -> None:
    """Each keeps its own tags; not all of them need the one that is removed."""
    record("one12345").named("one", tags=["a", "draft"]).end()
    record("two12345").named("two", tags=["b"]).end()
    document = trackway.json(
        "edit", "one", "two", "two12345", "--tag", "paper", "--untag", "draft", "--group", "g",
        "--archive",
    )  # fmt: skip
    rest = {"group": "g", "archived": True}
    assert document["edited"] == [
        {"run": "digits/one12345", "set": {**rest, "tags": ["a", "paper"]}},
        {"run": "digits/two12345", "set": {**rest, "tags": ["b", "paper"]}},
    ]
    assert trackway.json("show", "two12345")["tags"] == ["b", "paper"]


def test_several_runs_get_no_one_name(trackway: Command, record: Begin) -> None:
    """Nothing is changed then."""
    runs = [record(f"{name}12345").named(name).end() for name in ("one", "two")]
    result = trackway.result("edit", "one", "two", "--name", "x", "--tag", "a")
    assert result.exit_code == 2
    assert "--name is for one run" in result.stderr
    assert [list(run.path.parent.iterdir()) for run in runs] == [[run.path] for run in runs]


def test_a_name_of_several_runs_is_refused(trackway: Command, record: Begin) -> None:
    """Their ids are told, and each of them is clear."""
    runs = [record(f"{name}12345").named("same").end() for name in ("one", "two")]
    result = trackway.result("edit", "same", "--tag", "a")
    assert result.exit_code == 2
    assert "2 runs are called 'same'; say which one by its project/id:\n" in result.stderr
    assert "\n  digits/one12345  finished  2025-06-" in result.stderr
    assert "\n  digits/two12345  finished  2025-06-" in result.stderr
    assert [list(run.path.parent.iterdir()) for run in runs] == [[run.path] for run in runs]
    trackway("edit", "one12345", "--tag", "a")


def test_a_name_that_another_run_has_is_given_and_told(trackway: Command, record: Begin) -> None:
    """It is no error; in another project, and the run's own name, nothing is said."""
    record("one12345").named("one").end()
    record("two12345").named("two").end()
    record("ten12345", "other").named("ten").end()
    result = trackway.result("edit", "two", "--name", "one")
    assert result.exit_code == 0
    assert result.stderr == "'one' is also the name of digits/one12345; ids tell them apart.\n"
    assert trackway.json("show", "two12345")["name"] == "one"
    for run, name in (("ten", "one"), ("two12345", "two"), ("two12345", "two")):
        assert trackway.result("edit", run, "--name", name).stderr == ""
