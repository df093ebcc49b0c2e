"""Roots full of plausible data, made in seconds: ``python -m benchmarks data --help``.

Every generator draws from a generator of its own, seeded by its arguments: the same call writes
the same bytes, and a run does not depend on how many others there are. What is written are logs as
docs/format/log.md has them; everything that reads a root reads these.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks._data_frames import Floats, Integers, Log
from benchmarks._data_sweep import (
    Plan,
    curves,
    environment,
    git,
    metric_names,
    packages,
    plan,
)
from benchmarks._data_values import ARRIVALS, VALUES, arrivals, clock, values
from trackway.backend.file.format import SYSTEM, Header

__all__ = ["KINDS", "UNTIL", "Made", "long_run", "main", "many_runs", "series", "wide"]

UNTIL: Final = 1_767_225_600.0
"""The end of the time in which the runs were made, unless another is passed: 2026-01-01, UTC."""

SOFTWARE: Final = "trackway benchmarks"

_SYSTEM_METRICS: Final = ("cpu.percent", "memory.used_bytes", "memory.percent", "gpu.0.percent")


@dataclass
class Made:
    """What was written.

    Attributes:
        root: Where.
        runs: How many.
        logs: How many files.
        points: In rows of metrics; those of the system are not counted.
        bytes: Of all logs.
    """

    root: Path
    runs: int = 0
    logs: int = 0
    points: int = 0
    bytes: int = 0

    def add(self, log: Log, *, counted: bool = True, modified: float | None = None) -> None:
        """Write a log; ``modified`` is when it says it was last written to."""
        path = log.write(self.root)
        self.logs += 1
        self.points += log.points if counted else 0
        self.bytes += path.stat().st_size
        if modified is not None:
            os.utime(path, (modified, modified))


def _header(
    project: str,
    run: str,
    created: float,
    *,
    role: str = "train",
    attempt: int = 1,
    host: str = "gpu-node-01",
    pid: int = 4711,
) -> Header:
    """A header whose name and generation follow from its fields, and not from chance."""
    word = f"{project}/{run}/{role}/{attempt}/{created}".encode()
    chance = np.random.default_rng(list(word)).bytes(20).hex()
    return Header(
        run=run,
        project=project,
        writer=f"{host}.{pid}.{int(created * 1000)}.{chance[:8]}",
        generation=chance[8:],
        role=role,
        attempt=attempt,
        host=host,
        pid=pid,
        process_started=round(created - 1.5, 2),
        created=created,
        software=SOFTWARE,
    )


def _end(state: str, steps: int, exception: tuple[str, str] | None = None) -> dict[str, Any]:
    told = None
    if exception is not None:
        told = {
            "type": exception[0],
            "message": exception[1],
            "traceback": f"{': '.join(exception)}",
        }
    return {
        "state": state,
        "exit_code": {"finished": 0, "interrupted": 130}.get(state, 1),
        "exception": told,
        "at_exit": False,
        "skipped": 0,
        "refused": {},
        "lost_records": 0,
        "lost_points": 0,
        "next_step": steps,
    }


# -- a sweep of many short runs --------------------------------------------------------------


def many_runs(
    root: Path,
    *,
    runs: int = 10_000,
    config: int = 100,
    summary: int = 100,
    points: int = 10,
    projects: Sequence[str] = ("sweep",),
    companion: bool = True,
    until: float = UNTIL,
    seed: int = 0,
) -> Made:
    """Many short runs: what a run table is made of.

    Args:
        root: Where to write.
        runs: How many, dealt out among the projects.
        config: Leaves of each configuration; 25 are always there.
        summary: Metrics of each run, whose last values are its summary.
        points: Of each metric. The second half of the metrics has every second one.
        projects: Their names.
        companion: Whether a second log tells environment, git, packages and the system's load.
        until: When the last run was created. Runs of state ``running`` began as long before as
            they last.
        seed: Where chance begins.
    """
    made = Made(root)
    for number in range(runs):
        project = projects[number % len(projects)]
        run = plan(seed, number, config=config, until=until)
        random = np.random.default_rng([seed, number, 1])
        last = run.created + run.duration
        modified = last if run.state == "lost" else None
        made.runs += 1
        made.add(_trained(project, run, random, summary, points), modified=modified)
        if companion:
            made.add(_observed(project, run, random, points), counted=False, modified=modified)
        if run.archived:
            log = Log(_header(project, run.id, last + 60.0, role="editor", host="laptop"))
            log.event("run", last + 60.0, {"set": {"archived": True}})
            made.add(log, modified=modified)
    return made


def _trained(project: str, run: Plan, random: np.random.Generator, width: int, points: int) -> Log:
    log = Log(_header(project, run.id, run.created, host=run.host, pid=run.pid))
    told = {
        "name": run.name,
        "group": run.group,
        "job_type": run.job_type,
        "tags": run.tags,
        "notes": run.notes,
    }
    log.event("run", run.created, {"set": {k: v for k, v in told.items() if v is not None}})
    leaves = [[[name], value] for name, value in run.config.items()]
    log.event("config", run.created + 0.01, {"set": leaves, "del": []})
    names = metric_names(width)
    found = curves(random, width, points, run.quality)
    steps = np.arange(1, points + 1, dtype=np.int64) * 100
    times = run.created + run.duration * np.arange(1, points + 1) / (points + 1)
    often = (width + 1) // 2
    rare = slice((points - 1) % 2, None, 2)  # the last point is among them
    log.rows(names[:often], steps, times, found[:, :often])
    if width > often:
        log.rows(names[often:], steps[rare], times[rare], found[rare, often:])
    end = run.created + run.duration
    if run.state in ("finished", "failed", "interrupted"):
        best = round(float(found[-1, 0]), 6) if width else 0.0
        log.event("summary", end, {"set": [[["best_loss"], best]], "del": []})
        log.event("end", end, _end(run.state, 100 * points + 1, run.exception))
    return log


def _observed(project: str, run: Plan, random: np.random.Generator, points: int) -> Log:
    begin = run.created + 0.2
    log = Log(_header(project, run.id, begin, role="companion", host=run.host, pid=run.pid + 2))
    log.event("environment", begin + 0.1, environment(run))
    log.event("git", begin + 0.2, git(run))
    log.event("packages", begin + 0.3, packages(run))
    load = np.round(100.0 * random.random((points, len(_SYSTEM_METRICS))), 1)
    steps = np.arange(points, dtype=np.int64)
    times = begin + run.duration * (steps + 0.5) / (points + 1)
    log.rows(_SYSTEM_METRICS, steps, times, load, space=SYSTEM)
    end = run.created + run.duration
    if run.state == "killed":
        log.event("death", end, {"exit_code": None, "signal": 9, "known": True})
    elif run.state not in ("running", "lost"):
        code = _end(run.state, 0)["exit_code"]
        log.event("death", end + 0.1, {"exit_code": code, "signal": None, "known": True})
    return log


# -- long, wide and awkward series -------------------------------------------------------------


def _begun(project: str, run: str, created: float, *, attempt: int = 1) -> Log:
    log = Log(_header(project, run, created, attempt=attempt))
    if attempt == 1:
        log.event("run", created, {"set": {"name": run}})
    return log


def _finish(log: Log, time: float, steps: int) -> None:
    log.event("end", time + 0.1, _end("finished", steps))


@dataclass(frozen=True)
class _Table:
    """Rows of one keyset; times since the run began."""

    steps: Integers
    times: Floats
    values: Floats


def _plain_run(
    made: Made, project: str, run: str, created: float, names: Sequence[str], table: _Table
) -> None:
    log = _begun(project, run, created)
    log.rows(names, table.steps, created + table.times, table.values)
    last = float(table.times[-1]) if len(table.times) else 0.0
    _finish(log, created + last, len(table.steps))
    made.runs += 1
    made.add(log)


def _names(keys: int) -> list[str]:
    return [f"train/m{key}" for key in range(keys)]


def long_run(
    root: Path,
    *,
    steps: int = 1_000_000,
    keys: int = 10,
    kind: str = "walk32",
    project: str = "long",
    until: float = UNTIL,
    seed: int = 0,
) -> Made:
    """One run, ``long``, of metrics ``train/m0`` … that are logged together at each step.

    Args:
        root: Where to write.
        steps: How many.
        keys: How many metrics.
        kind: Of their values; one of VALUES.
        project: Its name.
        until: When the run ended.
        seed: Where chance begins.
    """
    made = Made(root)
    random = np.random.default_rng([seed, steps, keys])
    columns = [values(kind, random, steps) for _ in range(keys)]
    times = clock(random, steps)
    table = _Table(np.arange(steps, dtype=np.int64), times, np.stack(columns, axis=1))
    begin = until - (float(times[-1]) if steps else 0.0)
    _plain_run(made, project, "long", round(begin, 6), _names(keys), table)
    return made


def wide(
    root: Path,
    *,
    runs: int = 1000,
    steps: int = 10_000,
    keys: int = 1,
    kind: str = "walk32",
    project: str = "wide",
    until: float = UNTIL,
    seed: int = 0,
) -> Made:
    """Runs ``run-0000`` … of metrics ``train/m0`` … that all have the same steps.

    Args:
        root: Where to write.
        runs: How many.
        steps: Of each run.
        keys: Metrics of each run.
        kind: Of their values; one of VALUES.
        project: Its name.
        until: When the last run began.
        seed: Where chance begins.
    """
    made = Made(root)
    every = np.arange(steps, dtype=np.int64)
    times = clock(np.random.default_rng([seed, steps]), steps)
    for number in range(runs):
        random = np.random.default_rng([seed, number, keys])
        columns = [values(kind, random, steps) for _ in range(keys)]
        table = _Table(every, times, np.stack(columns, axis=1))
        begin = until - 3600.0 * (runs - 1 - number)
        _plain_run(made, project, f"run-{number:04d}", begin, _names(keys), table)
    return made


def series(
    root: Path,
    *,
    steps: int = 10_000,
    copies: int = 1,
    project: str = "series",
    until: float = UNTIL,
    seed: int = 0,
) -> Made:
    """Every kind of values in every way of arriving.

    A run for each of ARRIVALS (``plain-0``, ``resumed-0``, ``out-of-order-0``, ``repeated-0``,
    ``sparse-0``), in which one call logs a metric for each of VALUES, called as it is.

    Args:
        root: Where to write.
        steps: Of each training.
        copies: How many runs of each way of arriving, with values of their own.
        project: Its name.
        until: When the runs began.
        seed: Where chance begins.
    """
    made = Made(root)
    for way, how in enumerate(ARRIVALS):
        for number in range(copies):
            _awkward(made, project, f"{how}-{number}", how, steps, until, [seed, way, number])
    return made


def _awkward(
    made: Made, project: str, run: str, how: str, steps: int, begin: float, seed: list[int]
) -> None:
    parts = arrivals(how, np.random.default_rng(seed), steps)
    for part in parts:
        times = begin + part.times
        log = _begun(project, run, float(times[0]) if len(times) else begin, attempt=part.attempt)
        columns = [
            part.logged(kind, np.random.default_rng([*seed, part.attempt, column]))
            for column, kind in enumerate(VALUES)
        ]
        log.rows(tuple(VALUES), part.steps, times, np.stack(columns, axis=1))
        if part is parts[-1]:  # the earlier ones were cut off
            _finish(log, float(times[-1]) if len(times) else begin, steps)
        made.add(log)
    made.runs += 1


# -- command line ----------------------------------------------------------------------------

KINDS: Final[dict[str, Callable[..., Made]]] = {
    "many-runs": many_runs,
    "long-run": long_run,
    "wide": wide,
    "series": series,
}

_TAKEN: Final = {
    "many-runs": ("runs", "config", "summary", "points", "seed"),
    "long-run": ("steps", "keys", "kind", "seed"),
    "wide": ("runs", "steps", "keys", "kind", "seed"),
    "series": ("copies", "steps", "seed"),
}
"""The options of each kind that are passed on where they are given."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Write data of one kind, or of all, and say how much it is."""
    options = _options(arguments)
    options.root.mkdir(parents=True, exist_ok=True)
    for kind in KINDS if options.kind_of_data == "all" else (options.kind_of_data,):
        given = {name: getattr(options, name) for name in _TAKEN[kind]}
        more = {name: value for name, value in given.items() if value is not None}
        if options.now:
            more["until"] = time.time()
        if options.project:
            more["projects" if kind == "many-runs" else "project"] = (
                (options.project,) if kind == "many-runs" else options.project
            )
        begin = time.perf_counter()
        made = KINDS[kind](options.root, **more)
        seconds = time.perf_counter() - begin
        print(
            f"{kind}: {made.runs:,} runs, {made.logs:,} logs, {made.points:,} points, "
            f"{made.bytes / 1e6:,.1f} MB in {seconds:.1f} s"
        )


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks data", description=__doc__)
    parser.add_argument("kind_of_data", metavar="KIND", choices=(*KINDS, "all"), help=_kinds_help())
    parser.add_argument("--root", type=Path, required=True, help="where to write")
    parser.add_argument("--project", help="its name (default: one for each kind)")
    parser.add_argument("--now", action="store_true", help="the last run is of this moment")
    for name in ("runs", "steps", "keys", "copies", "config", "summary", "points", "seed"):
        parser.add_argument(f"--{name}", type=int, metavar="N")
    parser.add_argument(
        "--values", dest="kind", choices=tuple(VALUES), help="what the series are like"
    )
    return parser.parse_args(arguments)


def _kinds_help() -> str:
    return (
        "; ".join(
            f"{kind} ({(made.__doc__ or '').partition(chr(10))[0].rstrip('.')})"
            for kind, made in KINDS.items()
        )
        + "; or all"
    )


if __name__ == "__main__":
    main()
