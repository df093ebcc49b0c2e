"""The contestants: each begins a run, logs one step a call, and ends the run.

``log`` of each is what its documentation tells a user to call once a step with a dictionary; a
wrapper is added only where one call cannot take the dictionary or counts no steps. Nothing is
imported before ``start``.
"""

from __future__ import annotations

import importlib
import os
import struct
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any, Final
from zlib import crc32

__all__ = ["PEERS", "ROOT", "Tracker", "environment", "installed", "make"]

PEERS: Final = ("wandb", "mlflow", "tensorboardX", "trackio")

ROOT: Final = Path(__file__).absolute().parents[1]

Log = Callable[[Mapping[str, Any]], object]


class Tracker:
    """Nothing at all: the bare program."""

    def load(self) -> None:
        """Import what ``start`` needs."""

    def start(self) -> Log:
        """Import, begin a run; returns the call for one step."""
        return _nothing

    def finish(self) -> None:
        """End the run."""


def _nothing(values: Mapping[str, Any]) -> None:
    pass


class Floor(Tracker):
    """Pack, checksum, join, write, and nothing else."""

    def start(self) -> Log:
        fd = os.open("floor.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        head, write = struct.Struct("<II").pack, os.write
        formats = {keys: struct.Struct(f"<BIqd{keys}d") for keys in (1, 10, 100)}

        def log(values: Mapping[str, Any]) -> None:
            layout = formats[len(values)]
            payload = layout.pack(3, 0, 0, 0.0, *values.values())
            write(fd, head(layout.size, crc32(payload)) + payload)

        return log


class Trackway(Tracker):
    """With its defaults: companion, console, captures."""

    def load(self) -> None:
        from trackway import init  # noqa: F401

    def start(self) -> Log:
        from trackway import init

        self.run = init(project="bench")
        return self.run.log

    def finish(self) -> None:
        self.run.finish()


class Wandb(Tracker):
    """In offline mode."""

    def load(self) -> None:
        importlib.import_module("wandb")

    def start(self) -> Log:
        wandb = importlib.import_module("wandb")
        self.run = wandb.init(project="bench")
        log: Log = self.run.log
        return log

    def finish(self) -> None:
        self.run.finish()


class Mlflow(Tracker):
    """On its default store (SQLite in the working directory), synchronously."""

    def load(self) -> None:
        importlib.import_module("mlflow")

    def start(self) -> Log:
        self.mlflow = importlib.import_module("mlflow")
        self.mlflow.start_run()
        log_metrics = self.mlflow.log_metrics
        steps = count()

        def log(values: Mapping[str, Any]) -> None:
            log_metrics(values, step=next(steps))

        return log

    def finish(self) -> None:
        self.mlflow.end_run()

    def record_in_bulk(self, rows: Sequence[dict[str, Any]], steps: int) -> None:
        """A run whose first metric counts the steps, 100 steps a call, then its end."""
        metric = importlib.import_module("mlflow.entities").Metric
        client = self.mlflow.MlflowClient()
        run_id = self.mlflow.active_run().info.run_id
        for start in range(0, steps, 100):
            batch = []
            for step in range(start, min(start + 100, steps)):
                values = {**rows[step % len(rows)], "train/m0": float(step)}
                batch += [metric(key, value, step, step) for key, value in values.items()]
            client.log_batch(run_id, metrics=batch)
        self.mlflow.end_run()


class TensorBoardX(Tracker):
    """One ``add_scalar`` a value: ``add_scalars`` would open a file for each name."""

    def load(self) -> None:
        importlib.import_module("tensorboardX")

    def start(self) -> Log:
        self.writer = importlib.import_module("tensorboardX").SummaryWriter("tensorboardx")
        add_scalar = self.writer.add_scalar
        steps = count()

        def log(values: Mapping[str, Any]) -> None:
            step = next(steps)
            for name, value in values.items():
                add_scalar(name, value, step)

        return log

    def finish(self) -> None:
        self.writer.close()


class Trackio(Tracker):
    """With its local database."""

    def load(self) -> None:
        importlib.import_module("trackio")

    def start(self) -> Log:
        self.trackio = importlib.import_module("trackio")
        run = self.trackio.init(project="bench")
        log: Log = run.log
        return log

    def finish(self) -> None:
        self.trackio.finish()


_KINDS: Final[dict[str, type[Tracker]]] = {
    "bare": Tracker,
    "floor": Floor,
    "trackway": Trackway,
    "wandb": Wandb,
    "mlflow": Mlflow,
    "tensorboardX": TensorBoardX,
    "trackio": Trackio,
}


def make(who: str) -> Tracker:
    """The contestant of this name; ``bare again`` is a second bare one."""
    return _KINDS[who.partition(" ")[0]]()


def installed(who: str) -> bool:
    """Whether it can be measured here."""
    return who not in PEERS or find_spec(who) is not None


def environment(folder: Path) -> dict[str, str]:
    """The environment of a contestant that records into ``folder``, which it works in.

    What a peer reports to its maker is switched off: it is not a cost of recording.
    """
    dropped = ("TRACKWAY_", "WANDB_", "MLFLOW_", "TRACKIO_", "COVERAGE_", "PYTHONDONTWRITE")
    kept = {name: text for name, text in os.environ.items() if not name.startswith(dropped)}
    return kept | {
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
        "TRACKWAY_DIR": str(folder / "trackway"),
        "WANDB_MODE": "offline",
        "WANDB_SILENT": "true",
        "WANDB_DIR": str(folder),
        "WANDB_CACHE_DIR": str(folder / "cache"),
        "WANDB_CONFIG_DIR": str(folder / "cache"),
        "WANDB_DATA_DIR": str(folder / "cache"),
        "WANDB_ERROR_REPORTING": "false",
        "MLFLOW_ENABLE_ASYNC_LOGGING": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "TRACKIO_DIR": str(folder / "trackio"),
        "DO_NOT_TRACK": "1",
    }
