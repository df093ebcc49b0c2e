"""The processes of the benchmark ``index``: ``python -m benchmarks._index_jobs JOB ARGUMENTS``.

Each job is a function that answers a dictionary, printed as the last line of what it prints. Every
call of the index and the Api is in ``Adapter``. Where the index lies is told by TRACKWAY_CACHE_DIR.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks._data_values import Floats, values
from benchmarks._stores import peak_bytes

__all__ = ["BUCKETS", "TABLE", "points_read"]

BUCKETS: Final = 1000

TABLE: Final[dict[str, tuple[str, str]]] = {
    "plain": ("config.lr < 0.01 and config.batch_size >= 64", "-summary['val/accuracy']"),
    "nested, text": (
        "config.optimizer.name in ['adamw', 'lion'] and state == 'finished'",
        "summary['train/loss']",
    ),
    "arithmetic": (
        "config.model.width * config.model.depth > 10000 and duration > 3600",
        "-summary['train/accuracy']",
    ),
}
"""Filters and orders: no two touch the same columns, so that the first time is a first time."""

WARM: Final = "config.seed >= 0"

Rounds = list[float]


class Adapter:
    """The index of one root, as this benchmark asks it.

    Args:
        root: The folder of all projects.
    """

    def __init__(self, root: Path) -> None:
        from trackway.backend.index.index import Index

        self._root = root
        self._index = Index.open(root)

    def close(self) -> None:
        self._index.close()

    def refresh(self) -> None:
        self._index.refresh()

    def runs(self, project: str) -> list[Any]:
        """The runs of a project, in order of their ids, as ``series`` takes them."""
        refs = [ref for ref in self._index.refs() if ref.project == project]
        return [self._index.number(ref) for ref in refs]

    def series(self, key: str, runs: list[Any], buckets: int = BUCKETS) -> int:
        """Ask for a series; returns how many points the answer stands for."""
        from trackway.backend.index.series import SeriesQuery

        answer = self._index.series(SeriesQuery(runs=runs, key=key, x="step", buckets=buckets))
        return int(answer.covered.sum())

    def table(self, filter: str, order: str, limit: int = 50) -> int:
        """Ask for the first page of a table; returns how many runs matched."""
        return int(self._index.table().select(filter, order, limit=limit).matched)

    def history(self, run: str) -> int:
        """The whole history of a run to columns; returns the points."""
        from trackway import Api

        found = Api(self._root).run(run).history()
        return sum(len(series.values) for _, series in found.items())


def _timed(rounds: int, ask: Callable[[], int]) -> dict[str, Any]:
    """Milliseconds of the first time, and of each further one; and what was answered.

    ``reason`` instead, where it fails: the other questions are asked all the same.
    """
    from trackway.errors import TrackwayError

    each: Rounds = []
    answer = 0
    try:
        for _ in range(rounds + 1):
            begin = time.perf_counter()
            answer = ask()
            each.append(1000 * (time.perf_counter() - begin))
    except (TrackwayError, RuntimeError, OSError) as error:
        return {"reason": f"failed: {type(error).__name__}: {error}"[:160], "peak": peak_bytes()}
    return {"first": each[0], "rounds": each[1:], "answer": answer, "peak": peak_bytes()}


def choose_kernels(numba: bool) -> None:
    """Compile the kernels now, or let every import of numba fail, as where it is not installed."""
    if numba:
        from trackway.backend.index.kernels import warm

        warm()
    else:
        sys.modules["numba"] = None  # type: ignore[assignment]


# -- jobs of the index -----------------------------------------------------------------------


def fill(root: str) -> dict[str, Any]:
    """Index a root that has never been indexed."""
    import trackway.backend.index.index  # noqa: F401 - imports are not what is timed

    begin = time.perf_counter()
    with closing(Adapter(Path(root))) as index:
        opened = time.perf_counter()
        index.refresh()
        done = time.perf_counter()
    return {"seconds": done - begin, "open": opened - begin, "peak": peak_bytes()}


def opening(root: str) -> dict[str, Any]:
    """Open a root that is indexed, and look at what has changed: nothing."""
    import trackway.backend.index.index  # noqa: F401 - imports are not what is timed

    begin = time.perf_counter()
    with closing(Adapter(Path(root))) as index:
        index.refresh()
        took = time.perf_counter() - begin
    return {"seconds": took, "peak": peak_bytes()}


def ask(
    long: str, wide: str, sweep: str, shares: dict[str, int], rounds: int, numba: bool
) -> dict[str, Any]:
    """Every query, one after the other, in one process whose memory is measured.

    Args:
        long: The root of one long run.
        wide: That of many runs of 10,000 steps.
        sweep: That of many short runs.
        shares: How many runs of ``wide`` each question is about.
        rounds: How often each is asked after the first time.
        numba: Whether it may be loaded.
    """
    choose_kernels(numba)
    found: dict[str, Any] = {}
    with closing(Adapter(Path(long))) as index:
        runs = index.runs("long")
        found["long"] = _timed(rounds, lambda: index.series("train/m0", runs))
        if not numba:
            found["history"] = _timed(rounds, lambda: index.history("long"))
    with closing(Adapter(Path(wide))) as index:
        runs = index.runs("wide")
        for name, share in shares.items():
            some = runs[:share]
            found[name] = _timed(rounds, lambda some=some: index.series("train/m0", some))  # type: ignore[misc]
    if not numba:
        with closing(Adapter(Path(sweep))) as index:
            # The third look of a process begins to watch the folders, once: 0.1 s.
            found["table: any"] = _timed(3, lambda: index.table(WARM, "created"))
            for name, (filter, order) in TABLE.items():
                found[f"table: {name}"] = _timed(
                    rounds,
                    lambda f=filter, o=order: index.table(f, o),  # type: ignore[misc]
                )
    return found


def visible(root: str, rounds: int) -> dict[str, Any]:
    """Another process logs a point; how many ms until ``series`` has it."""
    each: Rounds = []
    command = [sys.executable, "-m", "benchmarks._index_jobs", "log_points", json.dumps({})]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=_logging_to(root)
    ) as writer:
        assert writer.stdin is not None and writer.stdout is not None
        writer.stdin.write("\n")
        writer.stdin.flush()
        writer.stdout.readline()
        with closing(Adapter(Path(root))) as index:
            index.refresh()
            runs = index.runs("live")
            have = index.series("loss", runs)
            for _ in range(rounds):
                time.sleep(0.05)
                writer.stdin.write("\n")
                writer.stdin.flush()
                began = float(writer.stdout.readline())
                while index.series("loss", runs) <= have:
                    if time.monotonic() - began > 30.0:
                        raise TimeoutError("the point was not seen within 30 s")
                have += 1
                each.append(1000 * (time.monotonic() - began))
        writer.stdin.close()
    return {"rounds": each, "peak": peak_bytes()}


def _logging_to(root: str) -> dict[str, str]:
    return {**os.environ, "TRACKWAY_DIR": root}


def log_points() -> dict[str, Any]:
    """Log a point for each line of the input; tells when, by the clock all processes share."""
    from trackway import init

    run = init(project="live", settings={"quiet": True, "console": False})
    for step, _ in enumerate(sys.stdin):
        began = time.monotonic()
        run.log({"loss": float(step)})
        sys.stdout.write(f"{began!r}\n")
        sys.stdout.flush()
    run.finish()
    return {}


# -- floors ----------------------------------------------------------------------------------


def floors(
    long: int, wide: int, shares: dict[str, int], table: int, sweep: str, log: str, rounds: int
) -> dict[str, Any]:
    """The same work by NumPy, on data that is in memory already.

    Args:
        long: Steps of the long run.
        wide: Steps of the others.
        shares: How many runs of those each question is about.
        table: Rows of the run table.
        sweep: A root whose folders are looked at.
        log: A log that is taken apart.
        rounds: How often.
    """
    random = np.random.default_rng(7)
    column = values("walk32", random, long)
    found = {"long": _timed(rounds, lambda: bucketed([column], BUCKETS))}
    columns = np.stack([column] * 10, axis=1)
    found["history"] = _timed(rounds, lambda: columns.T.copy().size)
    most = max(shares.values())
    lines = [values("walk", random, wide) for _ in range(most)]
    for name, share in shares.items():
        some = lines[:share]
        found[name] = _timed(rounds, lambda some=some: bucketed(some, BUCKETS))  # type: ignore[misc]
    numbers, other, order = random.random(table), random.integers(0, 9, table), random.random(table)
    found["table"] = _timed(rounds, lambda: filtered(numbers, other, order))
    found["opening"] = _timed(rounds, lambda: looked_at(Path(sweep)))
    found["fill"] = _timed(rounds, lambda: points_read(Path(log)))
    return found


def bucketed(lines: list[Floats], buckets: int) -> int:
    """Least, greatest, mean and last of each bucket of each line, and how many are finite."""
    points = 0
    for line in lines:
        edges = np.linspace(0, len(line), min(buckets, len(line)), endpoint=False).astype(np.int64)
        count = np.diff(edges, append=len(line))
        mean = np.add.reduceat(line, edges) / count
        answer = np.minimum.reduceat(line, edges), np.maximum.reduceat(line, edges), mean
        last = line[edges + count - 1]
        points += int(count.sum()) if len(answer[0]) == len(last) else 0
    return points


def filtered(numbers: Floats, other: Any, order: Floats) -> int:
    """A filter of two columns, then the order by a third."""
    chosen = np.flatnonzero((numbers < 0.5) & (other >= 3))
    return len(chosen[np.argsort(-order[chosen], kind="stable")][:50])


def looked_at(root: Path) -> int:
    """Every run's folder, looked at once."""
    return sum(folder.stat().st_mtime_ns > 0 for p in root.iterdir() for folder in _folders(p))


def _folders(project: Path) -> list[Path]:
    return list(project.iterdir()) if project.is_dir() else []


def points_read(log: Path) -> int:
    """The rows of a log of one key in one read and one stride; nothing is checked."""
    data = np.fromfile(log, np.uint8)
    size = 8 + 21 + 8
    rows = data[: len(data) // size * size].reshape(-1, size)[:, 13:]
    return int(np.ascontiguousarray(rows).view("<f8").T.copy().shape[1])


JOBS: Final[dict[str, Callable[..., dict[str, Any]]]] = {
    job.__name__: job for job in (fill, opening, ask, visible, log_points, floors)
}


def main() -> None:
    """Do one job."""
    answer = JOBS[sys.argv[1]](**json.loads(sys.argv[2]))
    sys.stdout.write("\n" + json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
