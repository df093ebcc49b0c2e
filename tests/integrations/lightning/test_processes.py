"""Trainings on two processes, started in each of Lightning's ways, and the other package."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import trackway as tw
from tests.integrations.contract import rows_of
from trackway.api import StoredRun

HERE = Path(__file__).parents[3]
RATES = ("steps_per_s", "samples_per_s", "epoch_s")


def program(*arguments: str, **variables: str) -> str:
    """Run Python in the test's folder; returns what it printed."""
    threads = {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    environment = {**os.environ, **threads, "PYTHONPATH": str(HERE), **variables}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize("strategy", ["ddp", "ddp_spawn", "ddp_fork"])
def test_one_run_for_all_ranks(
    tmp_path: Path, root: Path, strategy: str, stored: Callable[..., StoredRun]
) -> None:
    """Two ranks make one run, planned before there were two, with the rows of rank zero."""
    program("-m", "tests.integrations.lightning._training", "main", strategy, str(tmp_path))
    (run,) = tw.Api(root).runs("p")
    assert run.state == "finished"
    assert [attempt.number for attempt in run.attempts] == [1]
    assert len(list(root.rglob("*.log"))) == 1
    assert [entry.name for entry in (root / "p").iterdir()] == [run.id]

    given = ast.literal_eval((tmp_path / "rows.0").read_text())
    expected: list[Any] = [(n, step, v) for step, row in given for n, v in row.items()]
    expected += [("trainer/global_step", s, float(s + 1)) for s, row in given if "epoch" in row]
    expected += [("lr-SGD", step, 0.1 * 0.5**step) for step in range(4)]
    assert rows_of(stored(), RATES) == sorted(expected, key=lambda row: row[:2])
    assert run.id == (tmp_path / "main.txt").read_text().split()[0]
    assert run.config["lightning"]["world_size"] == 2
    assert {event.fields["epoch"] for event in run.events("checkpoint")} == {0, 1}


def test_open_run_and_exception(tmp_path: Path, root: Path) -> None:
    """A run that is open takes the rows and stays open; an exception ends a run of its own."""
    program("-m", "tests.integrations.lightning._training", "twice", "ddp_fork", str(tmp_path))
    failed, mine = tw.Api(root).runs("p")
    assert (mine.name, mine.state) == ("mine", "finished")
    assert len(mine.attempts) == 1
    steps = [(name, step) for name, step, _ in rows_of(mine)]
    assert [step for name, step in steps if name == "train_loss_step"] == [0, 1]
    assert [step for name, step in steps if name == "lr-SGD"] == [0, 1]
    assert ("after", 9) in steps
    assert failed.state == "failed"
    assert len(failed.attempts) == 1
    told = failed.events("end")[-1].fields["exception"]
    assert (told["type"], told["message"]) == ("ValueError", "so it is")
    assert [step for name, step, _ in rows_of(failed) if name == "train_loss_step"] == [0]


ONE = """
    import logging, sys
    import {package} as package
    for name in ("lightning.pytorch", "pytorch_lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    from tests.integrations.lightning._training import Book, fit
    import trackway as tw
    from trackway.integrations.lightning import TrackwayCallback, TrackwayLogger
    fit(TrackwayLogger(), TrackwayCallback())
    tw.autolog(only=["lightning"])
    fit()
    print("{other}" in sys.modules)
"""


def test_pytorch_lightning(root: Path) -> None:
    """Under its other name it is all the same, and the package of the first is not imported."""
    code = ONE.format(package="pytorch_lightning", other="lightning")
    said = program("-c", textwrap.dedent(code), TEST_LIGHTNING_PACKAGE="pytorch_lightning")
    assert said.split() == ["False"]
    first, second = tw.Api(root).runs("p")
    assert rows_of(first, RATES) == rows_of(second, RATES)
    assert {step for name, step, _ in rows_of(first) if name == "lr-SGD"} == set(range(6))
    assert first.config == second.config
    assert first.state == second.state == "finished"


BOTH = """
    import importlib, logging, os
    import lightning, pytorch_lightning
    for name in ("lightning.pytorch", "pytorch_lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    from trackway.integrations.lightning import TrackwayCallback, TrackwayLogger
    import tests.integrations.lightning._training as training
    for package in ("lightning.pytorch", "pytorch_lightning"):
        os.environ["TEST_LIGHTNING_PACKAGE"] = package
        training = importlib.reload(training)
        logger, callback = TrackwayLogger(), TrackwayCallback()
        assert isinstance(logger, training._Logger)
        training.pl.Trainer(**{**training.QUIET, "logger": logger, "callbacks": callback}).fit(
            training.net(), training.loader(), training.loader(2)
        )
"""


def test_both_packages_at_once(root: Path) -> None:
    """Where both are loaded, one logger and callback are taken by either for its own."""
    program("-c", textwrap.dedent(BOTH))
    first, second = tw.Api(root).runs("p")
    assert rows_of(first, RATES) == rows_of(second, RATES)
    assert len(rows_of(first, RATES)) == 40
