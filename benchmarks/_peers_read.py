"""What reading costs the peers, each from a store that it wrote itself.

``measure_peers`` is the caller's side: one process a peer that writes, then fresh processes that
read, all of bounded time; each reading is done twice, and the second one counts. They run in an
interpreter of their own, named by the environment variable TRACKWAY_PEERS_PYTHON (that of a virtual
environment in which the peers are installed), else in this one. The child's side needs NumPy and
its peer, and nothing of Trackway.

Each peer is read as its documentation tells a program to: TensorBoard through its
``EventAccumulator`` (all points kept), MLflow on SQLite through ``get_metric_history`` and
``search_runs``, Aim through ``Repo.query_metrics`` and ``query_runs``.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks._data_values import values
from benchmarks._figures import progress
from benchmarks._trackers import ROOT, environment

__all__ = ["PEERS_READ", "Answer", "Sizes", "measure_peers", "peers_python"]

PYTHON: Final = "TRACKWAY_PEERS_PYTHON"

TASKS: Final = ("ingest", "one", "many", "table")
"""``ingest``: from values to where the peer reads them. ``one``: a long series. ``many``: one
metric of many runs. ``table``: filter by a parameter, sort by a metric, the first 50 runs."""

BATCH: Final = 1000

COUNTS: Final = "counts.json"
"""How many runs of each experiment there was time to write."""

BUILD_LIMIT_S: Final = 120.0
READ_LIMIT_S: Final = 30.0

OPTIMIZERS: Final = ("adamw", "sgd", "lion", "adam")


@dataclass(frozen=True)
class Sizes:
    """How much is written; a slow peer writes as much as it can.

    Attributes:
        steps: Of the long series.
        many: Runs of the short ones.
        short: Steps of those.
        table: Runs of the table.
        width: Parameters and metrics of each run of the table.
        limit_s: Seconds for each of these three.
    """

    steps: int = 100_000
    many: int = 100
    short: int = 1_000
    table: int = 1_000
    width: int = 20
    limit_s: float = 15.0


QUICK: Final = Sizes(steps=10_000, many=20, short=500, table=100, width=10, limit_s=5.0)


@dataclass
class Answer:
    """What one task took one peer.

    Attributes:
        who: The peer, with its version.
        task: One of TASKS.
        seconds: Of each round; empty where there is none.
        points: That were read or written; 0 for a table.
        runs: That took part.
        note: How, or why there is no figure.
    """

    who: str
    task: str
    seconds: list[float] = field(default_factory=list)
    points: int = 0
    runs: int = 0
    note: str = ""


# -- the caller's side -------------------------------------------------------------------------


def peers_python() -> str:
    """The interpreter that has the peers."""
    return os.environ.get(PYTHON) or sys.executable


def measure_peers(
    folder: Path, peers: Sequence[str] | None = None, *, quick: bool = False
) -> list[Answer]:
    """Let each peer write its stores and read them, in processes of their own.

    Args:
        folder: Where to write; what is made there stays.
        peers: Of PEERS_READ; all by default.
        quick: Less of everything, and one round.
    """
    sizes = asdict(QUICK if quick else Sizes())
    found = []
    for who in PEERS_READ if peers is None else peers:
        store = folder / f"read-{who}"
        store.mkdir(parents=True, exist_ok=True)
        progress(f"peers: {who} writes")
        built = _child(who, "ingest", store, sizes, BUILD_LIMIT_S)
        name = built.pop("name", who)
        if "reason" in built:
            found += [Answer(name, task, note=built["reason"]) for task in TASKS]
            continue
        found.append(Answer(name, "ingest", **built))
        for task in TASKS[1:]:
            progress(f"peers: {who} reads, {task}")
            found.append(_rounds(who, name, task, store, sizes, 1 if quick else 2))
    progress("")
    return found


def _rounds(
    who: str, name: str, task: str, store: Path, sizes: dict[str, Any], rounds: int
) -> Answer:
    answer = Answer(name, task)
    for _ in range(rounds):
        read = _child(who, task, store, sizes, READ_LIMIT_S)
        if "reason" in read:
            answer.note = read["reason"]
            return answer
        answer.seconds += read["seconds"]
        answer.points, answer.runs, answer.note = read["points"], read["runs"], read["note"]
    return answer


def _child(
    who: str, task: str, store: Path, sizes: dict[str, Any], limit_s: float
) -> dict[str, Any]:
    """What a fresh process answers; ``reason`` where it does not."""
    process = subprocess.Popen(
        [peers_python(), "-m", "benchmarks._peers_read", who, task, str(store), json.dumps(sizes)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=store,
        env={**environment(store), "PYTHONPATH": str(ROOT)},
        start_new_session=True,
    )
    try:
        out, told = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return {"reason": f"not done within {limit_s:g} s"}
    if process.returncode:
        lines = [line.strip() for line in told.splitlines() if line.strip()]
        return {"reason": f"failed: {lines[-1][:160] if lines else process.returncode}"}
    answer: dict[str, Any] = json.loads(out.splitlines()[-1])
    return answer


# -- the child's side ---------------------------------------------------------------------------


def _series(run: int, steps: int) -> list[float]:
    column: list[float] = values("walk", np.random.default_rng([run, steps]), steps).tolist()
    return column


def _setting(run: int, width: int) -> tuple[dict[str, str], dict[str, float]]:
    """Parameters and metrics of a run of the table."""
    chance = np.random.default_rng([run, width]).random(2 * width).tolist()
    parameters = {f"p{n}": f"{chance[n]:.4f}" for n in range(1, width)}
    metrics = {f"m{n}": chance[width + n] for n in range(1, width)}
    optimizer = OPTIMIZERS[run % len(OPTIMIZERS)]
    return {"optimizer": optimizer, **parameters}, {"loss": chance[width], **metrics}


class Peer:
    """Writes and reads one peer's store; times what it says it times."""

    package = ""
    ingest_note = ""
    note = ""

    def __init__(self, store: Path, sizes: Sizes) -> None:
        self.store = store
        self.sizes = sizes

    def load(self) -> None:
        """Import what is needed: that is not timed."""

    def write_run(self, experiment: str, run: int, steps: int) -> Generator[int, None, None]:
        """One run of one metric, ``loss``; yields how many points it has, at least each BATCH.

        Closing the generator ends the run early.
        """
        raise NotImplementedError

    def write_settings(self, run: int) -> None:
        """One run of the table."""
        raise NotImplementedError

    def read(self, experiment: str) -> int:
        """All series of an experiment to columns; returns the points."""
        raise NotImplementedError

    def table(self) -> int:
        """Filter, sort, first 50; returns how many those are."""
        raise LookupError("has no table of runs to query")

    def close(self) -> None:
        """All is written: do what a reader of the store needs."""

    def loaded(self) -> tuple[float, int] | None:
        """Seconds and points of what counts as ingestion, where it is not the writing."""
        return None


class TensorBoard(Peer):
    """Event files; the loader keeps every point."""

    package = "tensorboard"
    ingest_note = "EventAccumulator.Reload of the event files"
    note = "EventAccumulator, all points kept"

    def load(self) -> None:
        self._writer = importlib.import_module("tensorboard.summary.writer.event_file_writer")
        base = "tensorboard.compat.proto"
        self._event = importlib.import_module(f"{base}.event_pb2").Event
        self._summary = importlib.import_module(f"{base}.summary_pb2").Summary
        name = "tensorboard.backend.event_processing.event_accumulator"
        self._accumulator = importlib.import_module(name)

    def write_run(self, experiment: str, run: int, steps: int) -> Generator[int, None, None]:
        writer = self._writer.EventFileWriter(str(self.store / experiment / f"{run:04d}"))
        try:
            for step, value in enumerate(_series(run, steps)):
                summary = self._summary(value=[{"tag": "loss", "simple_value": value}])
                writer.add_event(self._event(wall_time=1.7e9 + step, step=step, summary=summary))
                if (step + 1) % BATCH == 0 or step + 1 == steps:
                    yield step + 1
        finally:
            writer.close()

    def write_settings(self, run: int) -> None:
        raise LookupError("has no table of runs to query")

    def read(self, experiment: str) -> int:
        points = 0
        for folder in sorted((self.store / experiment).iterdir()):
            guidance = {self._accumulator.SCALARS: 0}
            loader = self._accumulator.EventAccumulator(str(folder), size_guidance=guidance)
            loader.Reload()
            column = np.array([event.value for event in loader.Scalars("loss")])
            points += len(column)
        return points

    def loaded(self) -> tuple[float, int]:
        begin = time.perf_counter()
        points = self.read("one")
        return time.perf_counter() - begin, points


class MLflow(Peer):
    """SQLite, through its client."""

    package = "mlflow"
    ingest_note = "log_batch, 1000 metrics a call"
    note = "sqlite:///, MlflowClient"

    def load(self) -> None:
        mlflow = importlib.import_module("mlflow")
        self._metric = importlib.import_module("mlflow.entities").Metric
        self._param = importlib.import_module("mlflow.entities").Param
        self._client = mlflow.MlflowClient(f"sqlite:///{self.store / 'mlflow.db'}")

    def _experiment(self, name: str) -> str:
        known = self._client.get_experiment_by_name(name)
        found: str = known.experiment_id if known else self._client.create_experiment(name)
        return found

    def write_run(self, experiment: str, run: int, steps: int) -> Generator[int, None, None]:
        run_id = self._client.create_run(self._experiment(experiment)).info.run_id
        column = _series(run, steps)
        for at in range(0, steps, BATCH):
            batch = [
                self._metric("loss", value, 1_700_000_000_000 + step, step)
                for step, value in enumerate(column[at : at + BATCH], at)
            ]
            self._client.log_batch(run_id, metrics=batch)
            yield at + len(batch)

    def write_settings(self, run: int) -> None:
        run_id = self._client.create_run(self._experiment("table")).info.run_id
        parameters, metrics = _setting(run, self.sizes.width)
        self._client.log_batch(
            run_id,
            params=[self._param(name, value) for name, value in parameters.items()],
            metrics=[self._metric(n, value, 1_700_000_000_000, 0) for n, value in metrics.items()],
        )

    def _runs(self, experiment: str, **query: Any) -> list[Any]:
        found: list[Any] = self._client.search_runs([self._experiment(experiment)], **query)
        return found

    def read(self, experiment: str) -> int:
        points = 0
        for run in self._runs(experiment, max_results=1000):
            history = self._client.get_metric_history(run.info.run_id, "loss")
            points += len(np.array([(metric.step, metric.value) for metric in history]))
        return points

    def table(self) -> int:
        chosen = self._runs(
            "table",
            filter_string="params.optimizer = 'adamw' and metrics.loss < 0.8",
            order_by=["metrics.loss ASC"],
            max_results=50,
        )
        return len(chosen)


class Aim(Peer):
    """A repository of its own, through the SDK."""

    package = "aim"
    ingest_note = "Run.track, a call a point"
    note = "Repo.query_metrics, query_runs; reindexed before"

    def load(self) -> None:
        self._aim = importlib.import_module("aim")

    def _repo(self, name: str) -> Any:
        folder = self.store / name
        folder.mkdir(exist_ok=True)
        return self._aim.Repo.from_path(str(folder), init=True)

    def _run(self, name: str) -> Any:
        return self._aim.Run(
            repo=self._repo(name),
            system_tracking_interval=None,
            log_system_params=False,
            capture_terminal_logs=False,
        )

    def write_run(self, experiment: str, run: int, steps: int) -> Generator[int, None, None]:
        into = self._run(experiment)
        try:
            for step, value in enumerate(_series(run, steps)):
                into.track(value, name="loss", step=step)
                if (step + 1) % BATCH == 0 or step + 1 == steps:
                    yield step + 1
        finally:
            into.close()

    def write_settings(self, run: int) -> None:
        into = self._run("table")
        parameters, metrics = _setting(run, self.sizes.width)
        into["config"] = parameters
        for name, value in metrics.items():
            into.track(value, name=name, step=0)
        into.close()

    def read(self, experiment: str) -> int:
        points = 0
        query = self._repo(experiment).query_metrics('metric.name == "loss"', report_mode=0)
        for collection in query.iter_runs():
            points += sum(len(metric.values.sparse_numpy()[1]) for metric in collection)
        return points

    def table(self) -> int:
        query = self._repo("table").query_runs("run.config.optimizer == 'adamw'", report_mode=0)
        found = []
        for collection in query.iter_runs():
            run = collection.run
            loss = next(metric for metric in run.metrics() if metric.name == "loss")
            found.append((loss.values.last_value(), run.hash))
        return len(sorted(pair for pair in found if pair[0] < 0.8)[:50])

    def close(self) -> None:
        for name in ("one", "many", "table"):
            self._repo(name)._recreate_index()  # as `aim storage reindex` does


PEERS_READ: Final[dict[str, Callable[[Path, Sizes], Peer]]] = {
    "tensorboard": TensorBoard,
    "mlflow": MLflow,
    "aim": Aim,
}


def _write(peer: Peer) -> dict[str, Any]:
    """Write all stores; what is ingestion is the long series."""
    sizes = peer.sizes
    counts = {"one": 1, "many": 0, "table": 0}
    begin = time.perf_counter()
    points = _write_run(peer, "one", 0, sizes.steps, begin + sizes.limit_s)
    seconds = time.perf_counter() - begin
    until = time.perf_counter() + sizes.limit_s
    for run in range(sizes.many):
        counts["many"] += bool(_write_run(peer, "many", run, sizes.short, until))
    until = time.perf_counter() + sizes.limit_s
    with suppress(LookupError):
        for run in range(sizes.table):
            if time.perf_counter() > until:
                break
            peer.write_settings(run)
            counts["table"] += 1
    peer.close()
    (peer.store / COUNTS).write_text(json.dumps(counts))
    seconds, points = peer.loaded() or (seconds, points)
    return {"seconds": [seconds], "points": points, "runs": 1, "note": peer.ingest_note}


def _write_run(peer: Peer, experiment: str, run: int, steps: int, until: float) -> int:
    """How many steps there was time for; the run has at least BATCH."""
    if run and time.perf_counter() > until:
        return 0
    with closing(peer.write_run(experiment, run, steps)) as writing:
        for points in writing:
            if points == steps or time.perf_counter() > until:
                return points
    return 0


def _read(peer: Peer, task: str) -> dict[str, Any]:
    seconds = 0.0
    for _ in range(2):
        begin = time.perf_counter()
        found = peer.table() if task == "table" else peer.read(task)
        seconds = time.perf_counter() - begin
    runs = json.loads((peer.store / COUNTS).read_text())[task]
    points = 0 if task == "table" else found
    return {"seconds": [seconds], "points": points, "runs": runs, "note": peer.note}


def main() -> None:
    """``PEER TASK FOLDER SIZES``: do one task of one peer; answers with a line of JSON."""
    who, task, store, sizes = sys.argv[1:5]
    peer = PEERS_READ[who](Path(store), Sizes(**json.loads(sizes)))
    peer.load()
    try:
        answer = _write(peer) if task == "ingest" else _read(peer, task)
    except LookupError as error:
        answer = {"reason": str(error)}
    answer["name"] = f"{who} {metadata.version(peer.package)}"
    sys.stdout.write("\n" + json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
