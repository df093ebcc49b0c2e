"""``trackway verify``: what is whole, what is damaged, and where."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Command, Recording
from trackway.backend.file.format import FRAME, VERSION, Header, encode_header, frame

Record = Callable[..., Recording]


def five_rows(record: Record, **header: Any) -> Recording:
    """A finished run of five rows of two metrics."""
    run = record(**header).named("one")
    for step in range(5):
        run.row(step, {"a": float(step), "b": 0.5})
    return run.end()


def log_of(document: Any) -> Any:
    """What is said of the first log."""
    return document["runs"][0]["logs"][0]


def flip(run: Recording, at: int) -> None:
    """Change one byte of the log."""
    data = bytearray(run.path.read_bytes())
    data[at] ^= 0xFF
    run.path.write_bytes(data)


def test_a_whole_run_is_sound(trackway: Command, record: Record, root: Path) -> None:
    """Frames, rows, points and events are counted exactly, and the exit code is 0."""
    run = five_rows(record)
    size = run.path.stat().st_size
    document = trackway.json("verify")
    assert document["root"] == str(root)
    assert document["sound"] is True
    # A header, the name, a keyset twice, five rows, the end.
    counts = {"bytes": size, "frames": 10, "rows": 5, "points": 10, "events": 2, "unknown": 0}
    assert document["totals"] == {"runs": 1, "logs": 1, **counts, "blobs": 0}
    assert document["runs"] == [
        {
            "project": "digits",
            "id": "abc12345",
            "sound": True,
            "logs": [
                {
                    "path": str(run.path),
                    **counts,
                    "sound": True,
                    "damage": [],
                    "tail": None,
                    "nameless_rows": 0,
                    "problem": None,
                }
            ],
            "blobs": [],
        }
    ]
    told = f"1 run, 1 log, {size} B, 10 frames, 10 points, 2 events, 0 stored files: sound\n"
    assert trackway("verify") == told


def test_a_damaged_frame_is_told_with_its_place(trackway: Command, record: Record) -> None:
    """A wrong byte in a row is damage of its frame's length at its offset; exit code 1."""
    run = five_rows(record)
    at = run.path.read_bytes().index(struct.pack("<d", 3.0))
    flip(run, at)
    start, size = at - FRAME.size - 21, FRAME.size + 21 + 16
    document = trackway.json("verify", code=1)
    assert document["sound"] is False
    assert log_of(document)["damage"] == [{"offset": start, "bytes": size}]
    assert log_of(document)["points"] == 8
    output = trackway("verify", code=1)
    place = f"digits/abc12345/{run.path.name}"
    assert output.splitlines()[0] == f"{place}: {size} bytes damaged at offset {start}"
    assert output.splitlines()[-1].endswith(": 1 run damaged")


@pytest.mark.parametrize("left", [1, 7, 8, 20])
def test_a_torn_tail_of_a_dead_writer_is_no_damage(
    trackway: Command, record: Record, left: int
) -> None:
    """What a killed writer began and never finished is told, and the exit code is 0."""
    run = five_rows(record)
    size = run.path.stat().st_size
    with run.path.open("ab") as file:
        file.write(frame(b"\x03" + bytes(36))[:left])
    document = trackway.json("verify")
    assert document["sound"] is True
    assert log_of(document)["tail"] == {"offset": size, "bytes": left}
    noun = "byte" if left == 1 else "bytes"
    expected = f"{run.path.name}: {left} {noun} of an unfinished record at offset {size}"
    assert trackway("verify").splitlines()[0].endswith(expected)


@pytest.mark.parametrize(
    "tail", [b"\0" * 64, frame(b"\x04" + bytes(30))[:-1] + b"\xff", b"\xff" * 16]
)
def test_a_tail_that_nobody_began_is_damage(trackway: Command, record: Record, tail: bytes) -> None:
    """Zeros after a power cut, a last frame with a wrong byte, and rubbish are damage."""
    run = five_rows(record)
    size = run.path.stat().st_size
    with run.path.open("ab") as file:
        file.write(tail)
    document = trackway.json("verify", code=1)
    assert log_of(document)["damage"] == [{"offset": size, "bytes": len(tail)}]
    assert log_of(document)["tail"] is None


def test_a_damaged_last_frame_is_damage(trackway: Command, record: Record) -> None:
    """The end of a finished run is missed where its last byte is wrong."""
    run = five_rows(record)
    flip(run, run.path.stat().st_size - 1)
    document = trackway.json("verify", code=1)
    assert len(log_of(document)["damage"]) == 1
    assert log_of(document)["events"] == 1


def test_rows_without_names_are_damage(trackway: Command, record: Record) -> None:
    """Rows whose keyset was damaged in every declaration are counted."""
    run = five_rows(record)
    data = run.path.read_bytes()
    first = data.index(b"\x92\xa1a\xa1b")
    flip(run, first)
    assert trackway.json("verify", code=1)["runs"][0]["logs"][0]["nameless_rows"] == 0
    flip(run, data.index(b"\x92\xa1a\xa1b", first + 1))
    document = trackway.json("verify", code=1)
    assert log_of(document)["nameless_rows"] == 5
    assert "5 rows whose names were lost with their declaration" in trackway("verify", code=1)


def test_unknown_frames_are_told_and_no_damage(trackway: Command, record: Record) -> None:
    """A sound frame of a later version's kind is counted."""
    run = five_rows(record)
    with run.path.open("ab") as file:
        file.write(frame(b"\x09later") + frame(b"\x04too short for an event"))
    document = trackway.json("verify")
    assert log_of(document)["unknown"] == 2
    assert "2 frames of a kind this release does not know" in trackway("verify")


def test_a_later_format_version_cannot_be_vouched_for(trackway: Command, root: Path) -> None:
    """A log of a format version that this release cannot read is a problem."""
    header = Header("abc12345", "digits", "w", "0" * 32, version=VERSION + 1)
    path = root / "digits" / "abc12345" / "w.log"
    path.parent.mkdir(parents=True)
    path.write_bytes(encode_header(header))
    document = trackway.json("verify", code=1)
    told = f"has format version {VERSION + 1}; this release reads up to {VERSION}"
    assert log_of(document)["problem"] == told


@pytest.mark.parametrize("content", [b"hello, world", b"x" * 100_000, bytes(50)])
def test_a_file_that_is_no_log(trackway: Command, root: Path, content: bytes) -> None:
    """A file that ends in .log and is none has no header and is damage."""
    path = root / "digits" / "abc12345" / "notes.log"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    document = trackway.json("verify", code=1)
    assert log_of(document)["problem"] == "has no header of a Trackway log"
    assert "has no header of a Trackway log" in trackway("verify", code=1)


@pytest.mark.parametrize("left", [0, 1, 8, 12, 40])
def test_a_writer_that_died_at_birth(
    trackway: Command, record: Record, root: Path, left: int
) -> None:
    """An empty file, or one with the first bytes of a header, holds nothing that was lost."""
    run = five_rows(record)
    other = run.path.with_name("other.log")
    other.write_bytes(run.path.read_bytes()[:left])
    document = trackway.json("verify")
    log = next(log for log in document["runs"][0]["logs"] if log["path"] == str(other))
    assert log["tail"] == (None if left == 0 else {"offset": 0, "bytes": left})
    assert log["problem"] is None


def test_a_running_run_is_sound(trackway: Command, record: Record, alive: dict[str, Any]) -> None:
    """A log that is being written, with half a record at its end, is sound."""
    run = record(**alive).row(0, {"a": 1.0})
    with run.path.open("ab") as file:
        file.write(b"\x25\x00\x00\x00half")
    assert trackway.json("verify")["sound"] is True


def with_blobs(record: Record) -> tuple[Recording, list[str]]:
    """A run whose git event refers to three stored files, one of them in a submodule."""
    run = record()
    digests = [run.blobs.put(text) for text in (b"patch", b"file", b"deep")]
    patch, file, deep = ({"blob": digest, "bytes": 5} for digest in digests)
    inner = {"path": "lib", "patch": None, "untracked": [{"path": "x", **deep}]}
    entry = {"path": "a.py", "mode": "100644", **file}
    run.event("git", found=True, patch=patch, untracked=[entry], submodules=[inner])
    run.config(blob="0" * 64, nested={"blob": "1" * 64})
    run.event("value", step=0, data={"x": {"blob": "2" * 64}}).end()
    return run, digests


def test_stored_files_are_checked(trackway: Command, record: Record) -> None:
    """Every digest a capture names is checked; one in the user's own values is no reference."""
    _, digests = with_blobs(record)
    document = trackway.json("verify")
    assert document["runs"][0]["blobs"] == [
        {"digest": digest, "state": "ok", "bytes": size}
        for digest, size in zip(digests, (5, 4, 4), strict=True)
    ]
    assert trackway("verify").endswith("3 stored files: sound\n")


@pytest.mark.parametrize(
    ("harm", "state"),
    [
        (lambda path: path.unlink(), "missing"),
        (lambda path: path.write_bytes(b"other"), "damaged"),
        (lambda path: path.write_bytes(b""), "damaged"),
        (lambda path: (path.unlink(), path.mkdir()), "unreadable"),
    ],
)
def test_a_missing_or_damaged_stored_file(
    trackway: Command, record: Record, harm: Callable[[Path], object], state: str
) -> None:
    """A stored file that is gone or has other bytes is told by its digest; exit code 1."""
    run, digests = with_blobs(record)
    harm(run.blobs.path(digests[1]))
    document = trackway.json("verify", code=1)
    assert [blob["state"] for blob in document["runs"][0]["blobs"]] == ["ok", state, "ok"]
    told = f"digits/abc12345: stored file {digests[1]} is {state}"
    assert told in trackway("verify", code=1).splitlines()


def test_a_reference_that_is_no_digest_is_missing(trackway: Command, record: Record) -> None:
    """A digest that is none leads to no file, wherever it points."""
    record().event("media", blob="../../../etc/passwd").end()
    document = trackway.json("verify", code=1)
    assert document["runs"][0]["blobs"][0]["state"] == "missing"


def test_a_log_that_cannot_be_read(
    trackway: Command, record: Record, refuse: Callable[[Path], None]
) -> None:
    """A log that the system does not let us read is a problem and hides no other."""
    refuse(five_rows(record, host="a").path)
    five_rows(record, host="b", role="worker")
    document = trackway.json("verify", code=1)
    assert log_of(document)["problem"] == "cannot be read: Permission denied"
    assert document["runs"][0]["logs"][1]["sound"] is True


def test_what_is_checked_can_be_chosen(trackway: Command, record: Record) -> None:
    """A project's name means all its runs, a run's name or id that run alone."""
    for project, run in (("digits", "one00001"), ("digits", "two00002"), ("speech", "three003")):
        record(run, project).named(f"name-{run}").end()

    def checked(*what: str) -> list[str]:
        return sorted(run["id"] for run in trackway.json("verify", *what)["runs"])

    assert checked() == ["one00001", "three003", "two00002"]
    assert checked("digits") == ["one00001", "two00002"]
    assert checked("one00001") == ["one00001"]
    assert checked("name-three003") == ["three003"]
    assert checked("speech/three003") == ["three003"]


def test_nothing_to_check(trackway: Command, root: Path) -> None:
    """A folder without runs is sound."""
    root.mkdir()
    expected = "0 runs, 0 logs, 0 B, 0 frames, 0 points, 0 events, 0 stored files: sound\n"
    assert trackway("verify") == expected


def test_a_log_larger_than_one_stretch(trackway: Command, record: Record, root: Path) -> None:
    """A log that is read in several pieces is counted exactly, with damage in its middle."""
    run = record().row(0, {f"m{n}": 0.5 for n in range(100)})
    row = run.path.read_bytes()[-829:]
    assert FRAME.unpack_from(row)[0] == 821
    with run.path.open("ab") as file:
        for _ in range(50):
            file.write(row * 1000)
    size = run.path.stat().st_size
    with run.path.open("r+b") as file:
        file.seek(-829 * 25_000 - 10, os.SEEK_END)
        file.write(b"\xee")
    document = trackway.json("verify", code=1)
    assert log_of(document)["bytes"] == size
    assert log_of(document)["rows"] == 50_000
    assert log_of(document)["points"] == 5_000_000
    assert log_of(document)["damage"] == [{"offset": size - 829 * 25_001, "bytes": 829}]
