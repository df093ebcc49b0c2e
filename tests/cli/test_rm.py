"""``trackway rm``: runs for good, points by a record."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from trackway.cli import cli

from .conftest import Command, Recording

Begin = Callable[..., Recording]


def two(record: Begin) -> list[Recording]:
    """Two runs of three points and one text, and some samples of the machine."""
    found = []
    for name in ("one", "two"):
        run = record(f"{name}12345").named(name).rows("loss", [3.0, 2.0, 1.0])
        run.row(0, {"memory.used_bytes": 1.0}, space="system")
        found.append(run.event("value", step=0, data={"text": "a"}).end())
    return found


def answered(root: Path, answer: str, *arguments: str) -> Any:
    """How the command ends where this is the answer to its question."""
    return CliRunner().invoke(cli, ["--dir", str(root), "rm", *arguments], input=answer)


def test_a_run_is_removed_once_the_answer_is_yes(
    trackway: Command, record: Begin, root: Path
) -> None:
    """The question names the run, its points and its bytes."""
    one, other = two(record)
    bytes_ = one.path.stat().st_size
    result = answered(root, "n\n", "one")
    assert result.exit_code == 1
    assert f"one (digits/one12345), finished: 4 points, {bytes_} B\n" in result.stderr
    assert "Remove this run for good? [y/N]" in result.stderr
    assert one.path.exists()
    result = answered(root, "y\n", "one")
    assert result.exit_code == 0
    assert result.stdout == f"Removed one (digits/one12345).\n{bytes_} B freed.\n"
    assert not one.path.parent.exists()
    assert other.path.exists()


def test_nobody_to_ask_is_no(record: Begin, root: Path) -> None:
    """A script says --yes."""
    one, _ = two(record)
    assert answered(root, "", "one").exit_code == 1
    assert one.path.exists()


def test_several_runs_at_once(trackway: Command, record: Begin, root: Path) -> None:
    """A run that is named twice is removed once."""
    runs = two(record)
    count = sum(run.path.stat().st_size for run in runs)
    document = trackway.json("rm", "one", "two", "one12345", "--yes")
    assert document == {
        "removed": ["digits/one12345", "digits/two12345"],
        "bytes": count,
        "files": 2,
        "blobs": 0,
        "blobs_waiting": 0,
        "blobs_wait_until": 0.0,
    }
    assert list((root / "digits").iterdir()) == []


def test_one_that_is_not_there_saves_all(trackway: Command, record: Begin) -> None:
    """Nothing is removed where a name fits no run."""
    one, _ = two(record)
    trackway("rm", "one", "none", "--yes", code=1)
    assert one.path.exists()


def test_a_live_run_needs_force(
    trackway: Command, record: Begin, alive: dict[str, Any], root: Path
) -> None:
    """Before anything is asked."""
    run = record(**alive).named("live").rows("loss", [1.0])
    result = trackway.result("rm", "live")
    assert result.exit_code == 2
    assert "still being recorded" in result.stderr
    trackway("rm", "live", "--yes", "--force")
    assert not run.path.parent.exists()
    run.writer.close(timeout_s=0.0)


@pytest.mark.parametrize(
    ("arguments", "points", "left"),
    [
        (("--key", "loss"), 3, ["text"]),
        (("-k", "l*", "-k", "text"), 4, []),
        (("--from", "1"), 2, ["loss", "text"]),
        (("--key", "loss", "--from", "1", "--to", "1"), 1, ["loss", "text"]),
        (("--to", "-1", "--from", "-5"), 0, ["loss", "text"]),
    ],
)
def test_points_are_hidden_for_a_script(
    trackway: Command,
    record: Begin,
    arguments: tuple[str, ...],
    points: int,
    left: list[str],
) -> None:
    """With --yes. How many is told; the log of the run is not touched."""
    one, _ = two(record)
    before = one.path.read_bytes()
    if not points:
        result = trackway.result("rm", "one", *arguments)
        assert result.exit_code == 1
        assert "there are no such points; the metrics of one: loss, text" in result.stderr
    else:
        document = trackway.json("rm", "one", "--yes", *arguments)
        assert document == {"hidden": [{"run": "digits/one12345", "points": points}]}
    assert one.path.read_bytes() == before
    assert sorted(trackway.json("show", "one")["metrics"]) == left


def test_the_way_to_the_bytes_is_told(trackway: Command, record: Begin) -> None:
    """For each run how many points."""
    two(record)
    assert trackway("rm", "one", "two", "--yes", "--key", "loss").splitlines() == [
        "digits/one12345: 3 points hidden",
        "digits/two12345: 3 points hidden",
        "trackway compact reclaims the bytes.",
    ]


def test_steps_the_wrong_way_round_are_refused(trackway: Command, record: Begin) -> None:
    """Exit code 2."""
    two(record)
    trackway("rm", "one", "--from", "2", "--to", "1", code=2)
    trackway("rm", code=2)


@pytest.mark.parametrize(
    ("arguments", "points", "told"),
    [
        (("--key", "loss"), "3 points", "loss"),
        (("-k", "l*", "-k", "text"), "4 points", "l*, text"),
        (("--from", "2"), "1 point", "all metrics from step 2"),
        (("--from", "1", "--to", "1"), "1 point", "all metrics from step 1 to step 1"),
    ],
)
def test_points_are_hidden_once_the_answer_is_yes(
    record: Begin, root: Path, arguments: tuple[str, ...], points: str, told: str
) -> None:
    """The question names the run and the points; nothing is written without a yes."""
    one, _ = two(record)
    for answer in ("n\n", ""):
        result = answered(root, answer, "one", *arguments)
        assert result.exit_code == 1
        assert f"one (digits/one12345), finished: {points} of {told}\n" in result.stderr
        assert f"Hide {points}? It cannot be undone. [y/N]" in result.stderr
        assert list(one.path.parent.iterdir()) == [one.path]
    result = answered(root, "y\n", "one", *arguments)
    assert result.exit_code == 0
    assert f"digits/one12345: {points} hidden\n" in result.stdout


@pytest.mark.parametrize("arguments", [("--yes",), ("--key", "loss", "--yes"), ("--force",)])
def test_a_name_of_several_runs_is_refused(
    trackway: Command, record: Begin, arguments: tuple[str, ...]
) -> None:
    """All of them are told, and nothing is removed, also of other runs."""
    runs = [record(f"{n}12345").named("same").rows("loss", [1.0]).end() for n in ("one", "two")]
    runs.append(record("ten12345", "other").named("ten").rows("loss", [1.0]).end())
    result = trackway.result("rm", "ten", "same", *arguments)
    assert result.exit_code == 2
    assert "2 runs are called 'same'; say which one by its project/id:\n" in result.stderr
    for run in runs[:2]:
        assert f"\n  digits/{run.id}  finished  2025-06-" in result.stderr
    assert [list(run.path.parent.iterdir()) for run in runs] == [[run.path] for run in runs]
    trackway("rm", "digits/one12345", "two12345", "--yes")
    assert not runs[0].path.exists()


def test_an_id_in_several_projects_is_refused(trackway: Command, record: Begin) -> None:
    """With its project it is clear; so is a name that only one of them has."""
    one = record("one12345").named("one").end()
    copy = record("one12345", "other").named("copy").end()
    result = trackway.result("rm", "one12345", "--yes")
    assert result.exit_code == 2
    assert "digits/one12345" in result.stderr
    assert "other/one12345" in result.stderr
    trackway("rm", "other/one12345", "--yes")
    assert (one.path.exists(), copy.path.exists()) == (True, False)
    trackway("rm", "one12345", "--yes")
