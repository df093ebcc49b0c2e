"""The accelerate tracker: the shared suite, and what is accelerate's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState

import trackway as tw
from tests.integrations.contract import Boom, IntegrationContract, Row, rows_of
from trackway.api import StoredRun
from trackway.core import current
from trackway.integrations.accelerate import TrackwayTracker

ROOT = Path(tw.__file__).parents[1]


LAUNCH = ("--standalone", "--nproc_per_node", "2")


def python(*arguments: str) -> None:
    """Run Python on it; it has to go well."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(autouse=True)
def fresh_state() -> Iterator[None]:
    """An accelerator finds no state of an earlier test's."""
    yield
    AcceleratorState._reset_state(True)
    GradientState._reset_state()


class TestAccelerate(IntegrationContract):
    """The shared suite, with a loop of four steps."""

    framework = "accelerate"
    explicit_name = "TrackwayTracker"
    autologs = False  # it makes the name known and adds no rows; the tests below are about it
    seen: ClassVar[list[float]] = []

    def hook(self, **options: Any) -> Any:
        """The tracker."""
        return TrackwayTracker(**options)

    def train(self, hook: Any, *, fail: bool = False) -> bytes:
        """Four steps of a line's fit."""
        accelerator = Accelerator(cpu=True, log_with=hook)
        if hook is not None:
            accelerator.init_trackers("p", config={"lr": 0.1, "nested": {"depth": 1}})
        torch.manual_seed(0)
        model = torch.nn.Linear(2, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        model, optimizer = accelerator.prepare(model, optimizer)
        self.seen.clear()
        for step in range(4):
            loss = model(torch.ones(3, 2)).square().mean()
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
            self.seen.append(loss.item())
            accelerator.log({"loss": loss.item()}, step=step)
            if fail and step == 1:
                raise Boom
        accelerator.end_training()
        return b"".join(p.detach().numpy().tobytes() for p in model.parameters())

    def expected(self) -> list[Row]:
        """What the loop logged."""
        return [("loss", step, value) for step, value in enumerate(self.seen)]

    def expected_every_2(self) -> list[Row]:
        """Steps 0 and 2."""
        return self.expected()[::2]

    def expected_config(self) -> dict[str, Any]:
        """The program's as given; the accelerator's under its name."""
        return {
            "lr": 0.1,
            "nested.depth": 1,
            "accelerate.num_processes": 1,
            "accelerate.distributed_type": "NO",
            "accelerate.mixed_precision": "no",
            "accelerate.gradient_accumulation_steps": 1,
        }


def test_by_name(stored: Callable[..., StoredRun], root: Path) -> None:
    """The name makes the tracker; what ``init_trackers`` is told is what ``init`` is told."""
    accelerator = Accelerator(cpu=True, log_with="trackway")
    assert not root.exists()
    accelerator.init_trackers("p", init_kwargs={"trackway": {"name": "mine", "prefix": "a"}})
    run = accelerator.get_tracker("trackway", unwrap=True)
    assert run is current.open_runs()[-1]
    accelerator.log({"loss": 1.0}, step=3)
    accelerator.log({"loss": 2.0}, step=4)
    accelerator.end_training()
    read = stored(run)
    assert (read.name, read.state, read.project) == ("mine", "finished", "p")
    assert rows_of(read) == [("a/loss", 3, 1.0), ("a/loss", 4, 2.0)]


def test_project_name(root: Path) -> None:
    """``init_trackers`` names the project, unless ``init_kwargs`` does; so does an object's."""
    for arguments, tracker, project in (
        (("first",), "trackway", "first"),
        (("first", None, {"trackway": {"project": "second"}}), "trackway", "second"),
        (("first",), TrackwayTracker("third"), "third"),
    ):
        accelerator = Accelerator(cpu=True, log_with=tracker)
        accelerator.init_trackers(*arguments)
        accelerator.end_training()
        assert len(tw.Api(root).runs(project)) == 1


def test_without_steps(begin: Callable[..., Any], stored: Callable[..., StoredRun]) -> None:
    """Without a step the run's own counter goes on; ``every`` counts rows."""
    mine = begin()
    accelerator = Accelerator(cpu=True, log_with=TrackwayTracker(every=2))
    accelerator.init_trackers("ignored")
    for value in range(4):
        accelerator.log({"loss": float(value)})
    accelerator.end_training()
    assert current.open_runs() == [mine]
    assert rows_of(stored(mine)) == [("loss", 0, 0.0), ("loss", 1, 2.0)]


def test_registered_once(recwarn: pytest.WarningsRecorder) -> None:
    """The name is known as soon as both modules are, and stays one class under ``autolog``."""
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    assert LOGGER_TYPE_TO_CLASS["trackway"] is TrackwayTracker
    tw.autolog(only=["accelerate"])
    assert LOGGER_TYPE_TO_CLASS["trackway"] is TrackwayTracker
    tw.autolog.disable()
    assert LOGGER_TYPE_TO_CLASS["trackway"] is TrackwayTracker
    assert not recwarn.list


def test_autolog_registers(root: Path) -> None:
    """``autolog`` alone makes the name known, before or after accelerate is imported.

    A program that ends well without ``end_training`` has finished its run all the same.
    """
    for when in ("before", "after"):
        python("-W", "ignore", "-c", SCRIPT, when)
    runs = tw.Api(root).runs("p")
    assert [run.name for run in runs] == ["after", "before"]
    assert [run.state for run in runs] == ["finished", "finished"]
    assert [rows_of(run) for run in runs] == [[("loss", 1, 1.0)]] * 2


SCRIPT = """
import sys
import trackway as tw
when = sys.argv[1]
if when == "before":
    tw.autolog(only=["accelerate"])
from accelerate import Accelerator
if when == "after":
    tw.autolog(only=["accelerate"])
accelerator = Accelerator(cpu=True, log_with="trackway")
accelerator.init_trackers("p", init_kwargs={"trackway": {"name": when}})
accelerator.log({"loss": 1.0}, step=1)
if when == "before":
    accelerator.end_training()
"""


def test_two_processes(root: Path, tmp_path: Path) -> None:
    """Of two real processes the first records, and the second creates nothing."""
    script = tmp_path / "script.py"
    script.write_text(
        """
import json, os, pathlib, sys
import trackway.integrations.accelerate
from accelerate import Accelerator

accelerator = Accelerator(cpu=True, log_with="trackway")
os.environ["TRACKWAY_DIR"] = os.environ["TRACKWAY_DIR"] + os.environ["RANK"]
accelerator.init_trackers("p", config={"seen": accelerator.num_processes})
for step in range(3):
    accelerator.log({"loss": float(step)}, step=step)
tracker = accelerator.get_tracker("trackway", unwrap=True)
pathlib.Path(sys.argv[1], "rank" + os.environ["RANK"]).write_text(json.dumps(repr(tracker)))
accelerator.end_training()
""",
        "utf-8",
    )
    python("-m", "torch.distributed.run", *LAUNCH, str(script), str(tmp_path))
    assert "trackway run" in json.loads((tmp_path / "rank0").read_text())
    (run,) = tw.Api(f"{root}0").runs("p")
    assert run.state == "finished"
    assert rows_of(run) == [("loss", 0, 0.0), ("loss", 1, 1.0), ("loss", 2, 2.0)]
    assert run.config["seen"] == 2
    assert run.config["accelerate"]["num_processes"] == 2
    assert not Path(f"{root}1").exists()
    assert not root.exists()


# -- several at once -------------------------------------------------------------------------------


def test_two_accelerators(root: Path) -> None:
    """Two at once have a run each, in use until the ``end_training`` of each."""
    first = Accelerator(cpu=True, log_with="trackway")
    first.init_trackers("first")
    first.log({"loss": 1.0}, step=1)
    second = Accelerator(cpu=True, log_with="trackway")
    second.init_trackers("second")
    first.log({"loss": 2.0}, step=2)
    second.log({"loss": 3.0}, step=3)
    first.end_training()
    second.log({"loss": 4.0}, step=4)
    second.end_training()
    found = [tw.Api(root).runs(project)[0] for project in ("first", "second")]
    assert [run.state for run in found] == ["finished", "finished"]
    assert [rows_of(run) for run in found] == [
        [("loss", 1, 1.0), ("loss", 2, 2.0)],
        [("loss", 3, 3.0), ("loss", 4, 4.0)],
    ]
    assert current.open_runs() == []


def test_started_again(root: Path) -> None:
    """A run was left whose tracker is gone, or is started again; the next one is a new run."""
    accelerator = Accelerator(cpu=True, log_with=TrackwayTracker("p"))
    accelerator.init_trackers("ignored")
    accelerator.get_tracker("trackway").start()
    del accelerator
    other = Accelerator(cpu=True, log_with="trackway")
    other.init_trackers("p")
    other.end_training()
    states = [run.state for run in tw.Api(root).runs("p")]
    assert states == ["finished", "failed", "failed"]


# -- processes -------------------------------------------------------------------------------------


def test_processes_of_multiprocessing(root: Path, tmp_path: Path) -> None:
    """Of two processes, forked or spawned with one tracker, the first records."""
    script = tmp_path / "script.py"
    script.write_text(PROCESSES, "utf-8")
    python(str(script))
    runs = tw.Api(root).runs("p")
    assert sorted(run.config["method"] for run in runs) == ["fork", "spawn"]
    for run in runs:
        assert run.state == "finished"
        assert len(run.attempts) == 1
        assert run.config["accelerate"]["num_processes"] == 2
        assert rows_of(run) == [("loss", 0, 0.0), ("loss", 1, 1.0)]
    assert len(list(root.rglob("*.log"))) == 2


PROCESSES = """
import os, socket
import torch.multiprocessing
from accelerate import Accelerator
from trackway.integrations.accelerate import TrackwayTracker


def train(rank, tracker, method):
    os.environ["RANK"] = os.environ["LOCAL_RANK"] = str(rank)
    accelerator = Accelerator(cpu=True, log_with=tracker)
    accelerator.init_trackers("p", config={"method": method})
    for step in range(2):
        accelerator.log({"loss": float(step)}, step=step)
    accelerator.end_training()


if __name__ == "__main__":
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1"}
    os.environ.update(common, GLOO_SOCKET_IFNAME="lo")
    for method in ("fork", "spawn"):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            os.environ["MASTER_PORT"] = str(free.getsockname()[1])
        torch.multiprocessing.start_processes(
            train, (TrackwayTracker("p"), method), nprocs=2, start_method=method
        )
"""
