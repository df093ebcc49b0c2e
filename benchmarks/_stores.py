"""Reads what each tracker stored: which steps are there, and whole runs as NumPy columns.

Trackway, MLflow and Trackio are read through their own readers. TensorBoardX has none, and
wandb's offline file is read by its service alone; both files are framed records, which are taken
apart here with the message definitions that these packages bring.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

__all__ = ["READERS", "peak_bytes", "steps"]

KEY: Final = "train/m0"
Columns = tuple[float, int, float]


def steps(who: str, folder: Path) -> list[float]:
    """The stored values of the metric that counts the steps."""
    return [values[KEY] for values in READERS[who](folder) if KEY in values]


def peak_bytes() -> int:
    """The most memory that this process has had."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmHWM")))
    except (OSError, StopIteration):
        scale = 1 if sys.platform == "darwin" else 1024
        return scale * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


# -- to columns: (seconds, points, the last value of the metric that counts the steps) ---------


def columns_api(folder: Path) -> Columns:
    """Trackway, as a user reads it."""
    from trackway import Api

    begin = time.perf_counter()
    history = Api(folder / "trackway").runs("bench")[0].history()
    found = {key: (series.steps, series.values) for key, series in history.items()}
    seconds = time.perf_counter() - begin
    return seconds, sum(len(v) for _, v in found.values()), float(found[KEY][1][-1])


def columns_reader(folder: Path) -> Columns:
    """Trackway's reader of one log, every checksum checked."""
    from trackway.backend.file.reader import LogReader

    path = _log(folder)
    begin = time.perf_counter()
    reader = LogReader(path)
    batch = reader.read()
    rows = [part for part in batch.rows if KEY in reader.keysets[part.keyset].names]
    values = np.concatenate([part.values for part in rows])
    columns = {name: values[:, i] for i, name in enumerate(reader.keysets[0].names)}
    seconds = time.perf_counter() - begin
    return seconds, values.size, float(columns[KEY][-1])


def columns_floor(folder: Path) -> Columns:
    """The same bytes read at once and taken apart with one stride; nothing is checked."""
    path = _log(folder)
    begin = time.perf_counter()
    data = np.fromfile(path, np.uint8)
    size = 8 + 21 + 80
    # Rows stand in long runs of one size; where something stands between them does not matter to
    # what it costs to take so many apart.
    rows = data[: len(data) // size * size].reshape(-1, size)[:, 29:]
    columns = np.ascontiguousarray(rows).view("<f8").T.copy()
    seconds = time.perf_counter() - begin
    return seconds, columns.size, 0.0


def _log(folder: Path) -> Path:
    """The log of the training process: the largest."""
    return max(folder.glob("trackway/*/*/*.log"), key=lambda path: path.stat().st_size)


def _columns_of(who: str, folder: Path) -> Columns:
    begin = time.perf_counter()
    lists: dict[str, list[float]] = {}
    for values in READERS[who](folder):
        for key, value in values.items():
            lists.setdefault(key, []).append(value)
    columns = {key: np.array(each) for key, each in lists.items() if key.startswith("train/")}
    seconds = time.perf_counter() - begin
    return seconds, sum(map(len, columns.values())), float(columns[KEY][-1])


def columns_wandb(folder: Path) -> Columns:
    """Wandb's offline file, record by record."""
    return _columns_of("wandb", folder)


def columns_mlflow(folder: Path) -> Columns:
    """MLflow's client, metric by metric."""
    importlib.import_module("mlflow")
    begin = time.perf_counter()
    columns = {
        key: np.array([(m.step, m.value) for m in history])
        for key, history in _mlflow(folder).items()
    }
    seconds = time.perf_counter() - begin
    return seconds, sum(map(len, columns.values())), float(columns[KEY][-1][1])


def columns_tensorboardX(folder: Path) -> Columns:  # noqa: N802 - as the package is spelled
    """TensorBoardX's event file, record by record."""
    return _columns_of("tensorboardX", folder)


def columns_trackio(folder: Path) -> Columns:
    """Trackio's own storage class."""
    os.environ["TRACKIO_DIR"] = str(folder / "trackio")  # read when the module is imported
    importlib.import_module("trackio.sqlite_storage")
    return _columns_of("trackio", folder)


# -- row by row ----------------------------------------------------------------------------


def _read_trackway(folder: Path) -> Iterator[dict[str, float]]:
    from trackway import Api

    for run in Api(folder / "trackway").runs("bench"):
        for value in run.history(KEY, repeats="all")[KEY].values.tolist():
            yield {KEY: value}


def _mlflow(folder: Path) -> dict[str, list[Any]]:
    mlflow = importlib.import_module("mlflow")
    client = mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    run = client.search_runs(["0"])[0]
    return {key: client.get_metric_history(run.info.run_id, key) for key in run.data.metrics}


def _read_mlflow(folder: Path) -> Iterator[dict[str, float]]:
    for metric in _mlflow(folder).get(KEY, []):
        yield {KEY: metric.value}


def _read_trackio(folder: Path) -> Iterator[dict[str, float]]:
    os.environ["TRACKIO_DIR"] = str(folder / "trackio")
    storage = importlib.import_module("trackio.sqlite_storage").SQLiteStorage
    for record in storage.get_run_records("bench"):
        for row in storage.get_logs("bench", record["name"], run_id=record["id"]):
            yield {k: v for k, v in row.items() if isinstance(v, float)}


def _read_tensorboardx(folder: Path) -> Iterator[dict[str, float]]:
    """TFRecord: u64 length, u32 checksum, the event, u32 checksum."""
    proto = importlib.import_module("tensorboardX.proto.event_pb2")
    for path in sorted((folder / "tensorboardx").glob("events.*")):
        data = path.read_bytes()
        at = 0
        while at + 12 <= len(data):
            size = struct.unpack_from("<Q", data, at)[0]
            if at + 16 + size > len(data):
                break
            event = proto.Event.FromString(data[at + 12 : at + 12 + size])
            at += 16 + size
            for value in event.summary.value:
                yield {value.tag: value.simple_value}


def _read_wandb(folder: Path) -> Iterator[dict[str, float]]:
    proto = importlib.import_module("wandb.proto.wandb_internal_pb2")
    for path in folder.glob("wandb/offline-run-*/*.wandb"):
        for record in _wandb_records(path.read_bytes()):
            message = proto.Record.FromString(record)
            if message.WhichOneof("record_type") == "history":
                items = message.history.item
                found = {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in items}
                yield {k: v for k, v in found.items() if isinstance(v, (int, float))}


def _wandb_records(data: bytes) -> Iterator[bytes]:
    """LevelDB's log: blocks of 32 KiB, chunks of u32 checksum, u16 length, u8 kind."""
    at = 7  # the file begins with its own mark
    parts: list[bytes] = []
    while at + 7 <= len(data):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        _, size, kind = struct.unpack_from("<IHB", data, at)
        chunk = data[at + 7 : at + 7 + size]
        if kind == 0 or len(chunk) < size:
            return
        at += 7 + size
        parts.append(chunk)
        if kind in (1, 4):  # whole, or the last part
            yield b"".join(parts)
            parts = []


READERS: Final = {
    "trackway": _read_trackway,
    "wandb": _read_wandb,
    "mlflow": _read_mlflow,
    "tensorboardX": _read_tensorboardx,
    "trackio": _read_trackio,
}
