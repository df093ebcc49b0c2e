"""Runs written with the real writer, and what reads them."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import BEGAN, Recording
from trackway.api import Api
from trackway.backend.file.process import process_started

Record = Callable[..., Recording]

LEARNING_RATES = 0.1, 0.01, 0.001
SEEDS = 1, 2


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder for runs."""
    return tmp_path / "runs"


@pytest.fixture
def record(root: Path) -> Record:
    """Begin to write a run, of project ``digits`` and id ``abc12345`` unless told."""

    def begin(run: str = "abc12345", project: str = "digits", **header: Any) -> Recording:
        return Recording(root, project, run, **header)

    return begin


@pytest.fixture
def alive() -> dict[str, Any]:
    """Header fields of a writer that is a living process: this one."""
    pid = os.getpid()
    return {"host": socket.gethostname(), "pid": pid, "process_started": process_started(pid)}


@pytest.fixture
def api(root: Path) -> Api:
    """What reads the folder."""
    return Api(root)


@pytest.fixture
def sweep(record: Record) -> None:
    """The runs of ``docs/api.md``: three learning rates, two seeds each, a hundred steps."""
    for number in range(6):
        lr, seed = LEARNING_RATES[number // 2], SEEDS[number % 2]
        run = record(f"run0000{number}", created=BEGAN + 1000 * number)
        run.named(f"lr{lr}-seed{seed}", tags=["baseline"] if lr == 0.01 else [], group="sweep")
        run.config(lr=lr, seed=seed, optimizer__name="adam")
        for step in range(100):
            run.row(step, {"train/loss": loss(lr, seed, step)}, after=step / 2)
            run.row(step, {"epoch": step // 10}, types="i", after=step / 2)
            if step % 10 == 9:
                run.row(step, {"val/acc": accuracy(lr, seed, step)}, after=step / 2)
        run.row(0, {"cpu.percent": 50.0}, space="system")
        run.event("git", commit=f"{number // 2}" * 40, branch="main", remote=None, dirty=False)
        run.event("packages", items={"numpy": "2.4.0", "torch": f"2.{number // 2}.0"})
        run.event("console", 1, stream="out", first=0, lines=[f"seed {seed}", "ready"])
        run.end(state="failed" if number == 5 else "finished")


def loss(lr: float, seed: int, step: int) -> float:
    """What ``train/loss`` of the sweep is at a step."""
    return round((100 - step) * seed / 100 + lr, 4)


def accuracy(lr: float, seed: int, step: int) -> float:
    """What ``val/acc`` of the sweep is at a step."""
    return round(step / 110 - lr + seed / 100, 4)
