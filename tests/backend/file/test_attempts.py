from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from trackway.backend.file import attempts
from trackway.backend.file.attempts import Standing, first_header, standing
from trackway.backend.file.format import (
    Header,
    Keyset,
    encode_event,
    encode_header,
    encode_keyset,
    encode_row,
)
from trackway.backend.file.process import host_name, process_started

from .given import HEADER, NOW

ME = msgspec.structs.replace(
    HEADER, host=host_name(), pid=os.getpid(), process_started=process_started(os.getpid())
)
DEAD = msgspec.structs.replace(ME, process_started=1.0)  # this pid, but another process
AWAY = msgspec.structs.replace(HEADER, host="elsewhere.example")


def log(folder: Path, header: Header, *frames: bytes, age_s: float = 0.0, **changes: Any) -> Path:
    """A log in this folder; its name is its number."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{len(list(folder.iterdir()))}.log"
    path.write_bytes(encode_header(msgspec.structs.replace(header, **changes)) + b"".join(frames))
    then = time.time() - age_s
    os.utime(path, (then, then))
    return path


NOWHERE, HERE, ELSEWHERE = (False, False), (True, False), (False, True)


def stands(attempt: int, where: tuple[bool, bool], next_step: int) -> Standing:
    """At this attempt, with a process that is at it here or elsewhere, at this step."""
    return Standing(attempt, *where, next_step)


def rows(*steps: int) -> bytes:
    """Rows at these steps."""
    return encode_keyset(Keyset(0, ("x",), "f")) + b"".join(
        encode_row(0, step, NOW, [1.0]) for step in steps
    )


def end(next_step: object = None) -> bytes:
    """The end of a run."""
    return encode_event("end", NOW, {"state": "finished", "next_step": next_step})


# -- where a run stands ----------------------------------------------------------------------------


def test_a_run_that_never_was_stands_nowhere(tmp_path: Path) -> None:
    """No folder, an empty one, one with a log that has not begun."""
    assert standing(tmp_path / "no") is None
    assert standing(tmp_path) is None
    (tmp_path / "a.log").touch()
    assert standing(tmp_path) is None


def test_a_fresh_run_is_live_at_step_0(tmp_path: Path) -> None:
    """Its process is there, and it has logged nothing."""
    log(tmp_path / "r", ME)
    assert standing(tmp_path / "r") == stands(1, HERE, 0)


def test_a_live_run_goes_on_behind_its_highest_step(tmp_path: Path) -> None:
    """Steps may have come in any order."""
    log(tmp_path / "r", ME, rows(0, 7, 3))
    assert standing(tmp_path / "r") == stands(1, HERE, 8)


def test_a_finished_run_is_not_live(tmp_path: Path) -> None:
    """Though its process goes on with other things. The end knows the next step best."""
    log(tmp_path / "r", ME, rows(0, 1), end(40))
    assert standing(tmp_path / "r") == stands(1, NOWHERE, 40)


@pytest.mark.parametrize("odd", [None, "40", 1.5, [], -3])
def test_an_end_without_a_next_step_leaves_it_to_the_rows(tmp_path: Path, odd: object) -> None:
    """What is no step is none."""
    log(tmp_path / "r", ME, rows(0, 1), end(odd))
    assert standing(tmp_path / "r") == stands(1, NOWHERE, 2)


def test_a_killed_run_is_not_live(tmp_path: Path) -> None:
    """Its process is gone, or its pid is another's now."""
    log(tmp_path / "r", DEAD, rows(0, 1, 2))
    assert standing(tmp_path / "r") == stands(1, NOWHERE, 3)


def test_the_highest_attempt_counts(tmp_path: Path) -> None:
    """For number and life; the step follows the highest of all attempts."""
    log(tmp_path / "r", ME, rows(50))
    log(tmp_path / "r", DEAD, rows(9), attempt=3)
    log(tmp_path / "r", ME, rows(20), end(), attempt=2)
    assert standing(tmp_path / "r") == stands(3, NOWHERE, 51)


def test_a_worker_that_lives_keeps_the_run_live(tmp_path: Path) -> None:
    """Its end is not the run's, either."""
    log(tmp_path / "r", DEAD, rows(1))
    log(tmp_path / "r", ME, rows(5), role="worker")
    assert standing(tmp_path / "r") == stands(1, HERE, 6)
    log(tmp_path / "r", ME, end(), role="worker")
    assert standing(tmp_path / "r") == stands(1, HERE, 6)


def test_an_editor_neither_lives_nor_steps(tmp_path: Path) -> None:
    """Who renames a run does not run it."""
    log(tmp_path / "r", DEAD, rows(1))
    log(tmp_path / "r", ME, rows(99), role="editor")
    assert standing(tmp_path / "r") == stands(1, NOWHERE, 2)


def test_a_companion_neither_lives_nor_steps(tmp_path: Path) -> None:
    """It outlives its training for a moment, and numbers its samples by itself."""
    log(tmp_path / "r", DEAD, rows(3))
    log(tmp_path / "r", ME, rows(1000), role="companion")
    assert standing(tmp_path / "r") == stands(1, NOWHERE, 4)


@pytest.mark.parametrize(("age_s", "live"), [(0, True), (50, True), (70, False), (7200, False)])
def test_on_another_machine_a_log_that_grew_lately_is_live(
    tmp_path: Path, age_s: float, live: bool
) -> None:
    """Nobody can ask after its process from here."""
    log(tmp_path / "r", AWAY, rows(3), age_s=age_s)
    assert standing(tmp_path / "r") == stands(1, ELSEWHERE if live else NOWHERE, 4)


def test_on_another_machine_the_companion_speaks_for_a_silent_training(tmp_path: Path) -> None:
    """It samples while the training computes one long step; until it saw the training die."""
    log(tmp_path / "r", AWAY, rows(3), age_s=3000)
    companion = log(tmp_path / "r", AWAY, rows(1000), role="companion")
    assert standing(tmp_path / "r") == stands(1, ELSEWHERE, 4)
    with companion.open("ab") as file:
        file.write(encode_event("death", NOW, {"exit_code": None, "signal": 9, "known": True}))
    assert standing(tmp_path / "r") == stands(1, NOWHERE, 4)


def test_a_death_on_another_rank_ends_no_run(tmp_path: Path) -> None:
    """A companion speaks for the host it is on."""
    log(tmp_path / "r", AWAY, rows(3))
    death = encode_event("death", NOW, {"exit_code": 1})
    log(tmp_path / "r", AWAY, death, role="companion", host="third.example")
    assert standing(tmp_path / "r") == stands(1, ELSEWHERE, 4)


def test_steps_of_values_that_are_no_numbers_count(tmp_path: Path) -> None:
    """A run that logged text alone does not begin again at 0."""
    value = encode_event("value", NOW, {"step": 17, "data": {"x": "text"}})
    odd = encode_event("value", NOW, {"step": None, "data": {}})
    log(tmp_path / "r", DEAD, value, odd)
    assert standing(tmp_path / "r") == stands(1, NOWHERE, 18)


def test_a_step_far_from_the_end_is_found(tmp_path: Path) -> None:
    """Behind the last row there may be megabytes of console output."""
    console = encode_event("console", NOW, {"lines": ["x" * 1_000_000]})
    log(tmp_path / "r", DEAD, rows(41), console, console, console)
    assert standing(tmp_path / "r") == stands(1, NOWHERE, 42)


def test_the_end_of_a_long_log_is_read_from_any_byte(tmp_path: Path) -> None:
    """Where reading begins is in the middle of a frame."""
    whole = rows(*range(8000))
    for count in range(7960, 8001):
        path = log(tmp_path / str(count), DEAD, whole[: len(whole) - 37 * (8000 - count)])
        assert path.stat().st_size > 256 << 10
        assert standing(path.parent) == stands(1, NOWHERE, count)


def test_events_that_are_none_are_passed_over(tmp_path: Path) -> None:
    """A later version's, with a sound checksum; and a row too short to be one."""
    from trackway.backend.file.format import frame

    log(tmp_path / "r", DEAD, rows(3), frame(b"\x04" + bytes(8) + b"\xc1"), frame(b"\x03"))
    assert standing(tmp_path / "r") == stands(1, NOWHERE, 4)


@pytest.mark.parametrize("at", [0, 4, 9, 30, 150])
def test_a_log_with_a_damaged_header_is_of_the_first_attempt(tmp_path: Path, at: int) -> None:
    """Its steps count; whether somebody still writes it, its age tells."""
    path = log(tmp_path / "r", DEAD, rows(5), attempt=7)
    data = bytearray(path.read_bytes())
    data[at] ^= 0x40
    path.write_bytes(data)
    assert first_header(path) is None
    assert standing(tmp_path / "r") == stands(1, ELSEWHERE, 6)
    os.utime(path, (0, 0))
    assert standing(tmp_path / "r") == stands(1, NOWHERE, 6)
    log(tmp_path / "r", DEAD, rows(2), attempt=2)
    assert standing(tmp_path / "r") == stands(2, NOWHERE, 6)


def test_a_log_that_cannot_be_read_does_not_hide_the_others(tmp_path: Path) -> None:
    """A folder of that name, a link to nowhere."""
    log(tmp_path / "r", DEAD, rows(5))
    (tmp_path / "r" / "x.log").mkdir()
    (tmp_path / "r" / "y.log").symlink_to(tmp_path / "nowhere")
    (tmp_path / "r" / "notes.txt").write_text("not a log")
    found = standing(tmp_path / "r")
    assert found is not None
    assert (found.attempt, found.next_step) == (1, 6)


def test_a_log_that_goes_while_it_is_looked_at_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before it was opened, or after its header was read."""
    log(tmp_path / "r", AWAY, rows(5))
    going = log(tmp_path / "r", AWAY, rows(50))
    monkeypatch.setattr(attempts, "logs", lambda folder: [folder / "0.log", going])

    def read_and_gone(path: Path) -> Header | None:
        header = first_header(path)
        if path == going:
            path.unlink()
        return header

    with monkeypatch.context() as patch:
        patch.setattr(attempts, "first_header", read_and_gone)
        assert standing(tmp_path / "r") == stands(1, ELSEWHERE, 6)
    assert not going.exists()
    assert standing(tmp_path / "r") == stands(1, ELSEWHERE, 6)
    os.utime(tmp_path / "r" / "0.log", (0, 0))
    assert standing(tmp_path / "r") == stands(1, NOWHERE, 6)
    going.write_bytes(encode_header(AWAY))
    monkeypatch.setattr(attempts, "first_header", read_and_gone)
    assert standing(tmp_path / "r") == stands(1, NOWHERE, 6)


# -- headers ---------------------------------------------------------------------------------------


def test_the_first_header_is_read_alone(tmp_path: Path) -> None:
    """Whatever follows it."""
    path = tmp_path / "w.log"
    path.write_bytes(encode_header(ME) + b"garbage")
    assert first_header(path) == ME


@pytest.mark.parametrize("cut", [0, 5, 8, 60, -1])
def test_half_a_header_is_none(tmp_path: Path, cut: int) -> None:
    """Its writer died there, or is still at it."""
    path = tmp_path / "w.log"
    path.write_bytes(encode_header(ME)[:cut])
    assert first_header(path) is None
    assert first_header(tmp_path / "no.log") is None


def test_another_first_frame_is_no_header(tmp_path: Path) -> None:
    """An event, or no log at all."""
    path = tmp_path / "w.log"
    for data in (end(), b"text, and no log\n" * 10, b"\xff" * 100):
        path.write_bytes(data)
        assert first_header(path) is None


# -- a real process --------------------------------------------------------------------------------


def test_a_run_is_live_as_long_as_its_process(tmp_path: Path) -> None:
    """Running, then killed."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        started = process_started(process.pid)
        log(tmp_path / "r", ME, rows(0), pid=process.pid, process_started=started)
        assert standing(tmp_path / "r") == stands(1, HERE, 1)
    finally:
        process.kill()
        process.communicate()
    assert standing(tmp_path / "r") == stands(1, NOWHERE, 1)
