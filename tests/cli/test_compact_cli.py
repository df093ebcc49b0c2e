"""``trackway compact``: what was reclaimed, and what was left alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from .conftest import Command, Recording

Begin = Callable[..., Recording]


def test_nothing_to_reclaim(trackway: Command, record: Begin) -> None:
    """And nothing is done."""
    record().named("otter").rows("loss", [1.0]).end()
    assert trackway("compact") == "Nothing to reclaim.\n"


def test_what_was_reclaimed_is_told(trackway: Command, record: Begin) -> None:
    """In bytes as the disk has them."""
    run = record().named("otter").rows("loss", [float(n) for n in range(1000)]).end()
    trackway("rm", "otter", "--yes", "--key", "loss", "--to", "989")
    before = run.path.stat().st_size
    document = trackway.json("compact", "otter")
    after = run.path.stat().st_size
    assert document == {
        "root": str(run.root),
        "runs": 1,
        "logs": 1,
        "bytes_before": before,
        "bytes_after": after,
        "bytes_reclaimed": before - after,
        "points_removed": 990,
        "blobs_removed": 0,
        "blobs_waiting": 0,
        "blobs_wait_until": 0.0,
        "skipped": [],
    }
    assert before - after > 990 * 37 - 200
    assert trackway.json("show", "otter")["metrics"]["loss"]["count"] == 10
    assert trackway("verify").endswith("sound\n")


def test_it_is_told_in_words(trackway: Command, record: Begin) -> None:
    """One line."""
    record().named("otter").rows("loss", [1.0] * 1000).end()
    trackway("rm", "otter", "--yes", "--key", "loss")
    told = trackway("compact", "--project", "digits")
    assert told.count("\n") == 1
    assert "KiB reclaimed: 1 run, 1,000 points; " in told


def test_one_run_alone(trackway: Command, record: Begin) -> None:
    """Others are not touched."""
    for name in ("one", "two"):
        record(f"{name}12345").named(name).rows("loss", [1.0]).end()
    trackway("rm", "one", "two", "--yes", "--key", "loss")
    assert trackway.json("compact", "one")["points_removed"] == 1
    assert trackway.json("compact", "one")["points_removed"] == 0
    assert trackway.json("compact", "two12345", "--project", "digits")["points_removed"] == 1


def test_what_is_live_is_left_alone_and_told(
    trackway: Command, record: Begin, alive: dict[str, Any]
) -> None:
    """With the reason."""
    run = record(**alive).named("live").rows("loss", [1.0])
    trackway("rm", "live", "--yes", "--key", "loss")
    told = trackway("compact")
    place = Path("digits", "abc12345", run.path.name)
    assert told.splitlines() == [
        f"{place} left as it is: the run is still being recorded",
        "Nothing to reclaim.",
    ]
    (skipped,) = trackway.json("compact")["skipped"]
    assert skipped == {
        "project": "digits",
        "run": "abc12345",
        "log": run.path.name,
        "reason": "the run is still being recorded",
    }
    run.writer.close()


def test_no_such_project(trackway: Command, record: Begin) -> None:
    """Exit code 1."""
    record().end()
    trackway("compact", "--project", "none", code=1)
    trackway("compact", "none", code=1)


def test_files_that_wait_are_told(
    trackway: Command, record: Begin, alive: dict[str, Any], root: Path
) -> None:
    """How many, and from when on they can go; then they go."""
    run = record("one12345").named("one")
    digest = run.blobs.put(b"patch")
    run.event("git", patch={"blob": digest}).end()
    live = record("two12345", **alive).named("live")
    told = trackway("rm", "one", "--yes")
    assert "1 stored file will go later, as a run that is being recorded might use" in told
    told = trackway("compact")
    assert told.startswith("1 stored file left, as a run that is being recorded might use the same")
    assert told.endswith("Nothing to reclaim.\n")
    assert run.blobs.path(digest).exists()
    live.end()
    assert trackway.json("compact")["blobs_removed"] == 1
    assert not run.blobs.path(digest).exists()
