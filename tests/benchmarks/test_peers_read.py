"""The caller's side of the peers' benchmark, with programs in the peers' place."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from benchmarks import _peers_read
from benchmarks._figures import Figure
from benchmarks._peers_read import TASKS, Answer, measure_peers
from benchmarks.index import _peer, _value

ANSWER = '{"name": "aim 1.0", "seconds": [2.0], "points": 4, "runs": 1, "note": "n"}'


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program that is started in the place of the peers' interpreter; the test writes it."""
    path = tmp_path / "program"
    monkeypatch.setenv("TRACKWAY_PEERS_PYTHON", str(path))
    return path


def _write(path: Path, *lines: str) -> None:
    path.write_text("\n".join(("#!/bin/sh", *lines, "")))
    path.chmod(0o755)


def test_the_last_line_of_what_a_peer_prints_is_its_answer(program: Path, tmp_path: Path) -> None:
    """Whatever else is printed is passed over; one round of each task, when it is to be quick."""
    _write(program, "echo welcome to aim", f"echo '{ANSWER}'")
    found = measure_peers(tmp_path, ["aim"], quick=True)
    assert found == [Answer("aim 1.0", task, [2.0], 4, 1, "n") for task in TASKS]


def test_a_peer_is_told_its_task_and_where_its_store_is(program: Path, tmp_path: Path) -> None:
    """The child is run with the peer's name, the task, the folder, and the sizes."""
    _write(program, f'echo "$3 $4 $5" >> {tmp_path}/told', f"echo '{ANSWER}'")
    measure_peers(tmp_path, ["mlflow"], quick=True)
    told = (tmp_path / "told").read_text().splitlines()
    assert told == [f"mlflow {task} {tmp_path / 'read-mlflow'}" for task in TASKS]


def test_a_peer_that_fails_is_a_line_with_the_reason(program: Path, tmp_path: Path) -> None:
    """The last thing it said stands in every task, and nothing is read that was not written."""
    _write(program, "echo No module named aim >&2", "exit 1")
    found = measure_peers(tmp_path, ["aim"], quick=True)
    assert found == [Answer("aim", task, note="failed: No module named aim") for task in TASKS]


def test_a_peer_that_does_not_end_is_ended_with_all_it_started(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the limit the whole process group is gone."""
    monkeypatch.setattr(_peers_read, "BUILD_LIMIT_S", 0.5)
    _write(program, "sleep 100 &", f"echo $! > {tmp_path}/pid", "wait")
    found = measure_peers(tmp_path, ["aim"], quick=True)
    assert {answer.note for answer in found} == {"not done within 0.5 s"}
    deadline = time.monotonic() + 20
    while _lives(int((tmp_path / "pid").read_text())) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not _lives(int((tmp_path / "pid").read_text()))


def _lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().split()[2]
    except FileNotFoundError:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        return not Path("/proc").exists()
    return state != "Z"


def test_a_ratio_is_by_the_point(tmp_path: Path) -> None:
    """A peer's seconds and Trackway's milliseconds become the same unit before they are divided."""
    ours = _value([Figure("series, 50 runs", "trackway", 5.0, "ms")], "series, 50", 1e6 / 500_000)
    figure = _peer("many", "ns/pt", ours, Answer("mlflow", "many", [1.0, 2.0, 4.0], 100_000, 10))
    assert (figure.floor, figure.value, figure.ratio) == (10.0, 20_000.0, 2_000.0)


def test_a_table_is_by_the_run() -> None:
    """A task without points is divided by the runs; one without seconds says why."""
    figure = _peer("table", "µs/run", 2.0, Answer("aim", "table", [0.01], 0, 100, "how"))
    assert (figure.value, figure.ratio, figure.note) == (100.0, 50.0, "100 runs; how")
    nothing = _peer("table", "µs/run", 2.0, Answer("tensorboard", "table", note="has none"))
    assert (nothing.value, nothing.note) == (None, "has none")
