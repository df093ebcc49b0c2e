"""The index: taking logs in, every query, its size and its memory; beside NumPy and the peers.

The roots are those of ``benchmarks.data``. Each query is asked in a process that asks all of them
one after the other, whose memory is one of the figures; what stands behind ``first`` is the first
time in that process. Floors are NumPy on arrays that lie in memory already. Peers read stores of
their own, smaller ones; their figures are by the point.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from benchmarks._contest import FailedError
from benchmarks._figures import Figure, missing, progress
from benchmarks._index_jobs import TABLE
from benchmarks._peers_read import Answer, measure_peers
from benchmarks._trackers import environment
from benchmarks.data import Made, long_run, many_runs, wide

NUMPY: Final = "trackway, NumPy"
COMPILED: Final = "trackway, numba"

LIMIT_S: Final = 240.0

MEMORY_MB: Final = 400.0

SERIES_MS: Final[dict[str, tuple[float, float]]] = {
    "long": (5.0, 5.0),
    "few": (15.0, 15.0),
    "many": (150.0, 40.0),
}
"""Milliseconds that a series may take: with NumPy alone, and compiled."""


@dataclass(frozen=True)
class Scale:
    """How much data there is.

    Attributes:
        long: Steps of the long run, of 10 metrics.
        wide: Runs of 10,000 steps.
        sweep: Runs of the run table.
        rounded: Runs of rounded values.
        rounds: Of every query.
    """

    long: int = 1_000_000
    wide: int = 1_000
    sweep: int = 10_000
    rounded: int = 200
    rounds: int = 15


QUICK: Final = Scale(long=100_000, wide=100, sweep=1_000, rounded=20, rounds=5)
STEPS: Final = 10_000


def measure(folder: Path, *, quick: bool, peers: Sequence[str]) -> list[Figure]:
    """Data, floors, the index, then the peers (all, where any are wanted)."""
    base = folder / "index"
    base.mkdir()
    scale = QUICK if quick else Scale()
    made = _data(base, scale)
    shares = {"few": min(100, scale.wide // 2), "many": scale.wide}
    floors = _job(
        base,
        "floors",
        long=scale.long,
        wide=STEPS,
        shares=shares,
        table=scale.sweep,
        sweep=str(made["sweep"].root),
        log=str(max(made["wide"].root.glob("*/*/*.log"))),
        rounds=scale.rounds,
    )
    floors["per point"] = floors["fill"]["first"] * 1e6 / floors["fill"]["answer"]
    figures = _taken_in(base, made, floors)
    figures += _asked(base, made, shares, floors, scale)
    figures += _opened(base, made, floors, scale)
    figures += _seen(base, made)
    shutil.rmtree(base, ignore_errors=True)
    if peers:
        figures += _peers(folder, figures, quick)
    return figures


def _data(base: Path, scale: Scale) -> dict[str, Made]:
    progress("index: data")
    return {
        "wide": wide(base / "wide", runs=scale.wide, steps=STEPS, kind="walk"),
        "rounded": wide(base / "rounded", runs=scale.rounded, steps=STEPS, kind="rounded"),
        "long": long_run(base / "long", steps=scale.long),
        "walk10": long_run(base / "walk10", steps=scale.long // 4, kind="walk"),
        "rounded10": long_run(base / "rounded10", steps=scale.long // 4, kind="rounded"),
        "sweep": many_runs(base / "sweep", runs=scale.sweep),
    }


def _job(base: Path, job: str, **arguments: Any) -> dict[str, Any]:
    """What a process of its own answers.

    Raises:
        FailedError: It does not.
    """
    progress(f"index: {job}")
    env = {**environment(base), "TRACKWAY_CACHE_DIR": str(base / "cache")}
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks._index_jobs", job, json.dumps(arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=base,
        env=env,
        start_new_session=True,
    )
    try:
        out, told = process.communicate(timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise FailedError(f"not done within {LIMIT_S:.0f} s") from None
    finally:
        progress("")
    if process.returncode:
        lines = [line.strip() for line in told.splitlines() if line.strip()]
        raise FailedError(f"failed: {lines[-1][:160] if lines else process.returncode}")
    answer: dict[str, Any] = json.loads(out.splitlines()[-1])
    return answer


def _index_bytes(base: Path) -> int:
    return sum(p.stat().st_size for p in (base / "cache").rglob("*") if p.is_file())


# -- the figures of the index ------------------------------------------------------------------


def _taken_in(base: Path, made: Mapping[str, Made], floors: Mapping[str, Any]) -> list[Figure]:
    """Speed and size: every root is indexed here for the first time."""
    kinds = {
        "long": "10 metrics a step, float32 walks",
        "walk10": "10 metrics a step, random walks",
        "rounded10": "10 metrics a step, rounded",
        "wide": "1 metric a step, random walks",
        "rounded": "1 metric a step, rounded",
        "sweep": "sweep of short runs",
    }
    # Of a step with a single metric, half of the bytes are its time, and half of the work its row.
    budgets = {"walk10": 7.0, "rounded10": 2.0}
    speeds, sizes = [], []
    for name, kind in kinds.items():
        what = f"index logs, {kind}"
        before = _index_bytes(base)
        speed = 200.0 if name in ("long", "walk10", "rounded10") else None
        try:
            answer = _job(base, "fill", root=str(made[name].root))
        except FailedError as error:
            speeds.append(missing(what, "trackway", "ns/pt", str(error), budget=speed))
            continue
        points = made[name].points
        note = f"{points / answer['seconds'] / 1e6:.2f} Mpt/s; peak {answer['peak'] / 1e6:.0f} MB"
        value = answer["seconds"] * 1e9 / points
        floor = floors["per point"] if name == "wide" else None
        speeds.append(
            Figure(what, "trackway", value, "ns/pt", floor=floor, budget=speed, note=note)
        )
        taken = _index_bytes(base) - before
        note = f"{taken / 1e6:.1f} MB for {made[name].bytes / 1e6:.1f} MB of logs"
        what = f"disk of the index, {kind}"
        sizes.append(
            Figure(what, "trackway", taken / points, "B/pt", budget=budgets.get(name), note=note)
        )
    return speeds + sizes


def _asked(
    base: Path,
    made: Mapping[str, Made],
    shares: dict[str, int],
    floors: Mapping[str, Any],
    scale: Scale,
) -> list[Figure]:
    figures: list[Figure] = []
    roots = {name: str(made[name].root) for name in ("long", "wide", "sweep")}
    names = {
        "long": f"series, 1 run x {scale.long:,}",
        **{name: f"series, {runs:,} runs x {STEPS:,}" for name, runs in shares.items()},
    }
    found: dict[str, dict[str, Any] | str] = {}
    for who, numba in ((NUMPY, False), (COMPILED, True)):
        if numba and find_spec("numba") is None:
            found[who] = "numba is not installed"
            continue
        try:
            found[who] = _job(base, "ask", **roots, shares=shares, rounds=scale.rounds, numba=numba)
        except FailedError as error:
            found[who] = str(error)
    for name, what in names.items():
        for (who, answer), budget in zip(found.items(), SERIES_MS[name], strict=True):
            figures.append(_asked_one(what, who, answer, name, floors[name], budget=budget))
    history = f"full history, {scale.long:,} x 10"
    plain = found[NUMPY]
    figures.append(_asked_one(history, NUMPY, plain, "history", floors["history"], budget=150.0))
    for name in TABLE:
        figures += _table(plain, name, floors["table"], scale.sweep)
    for who, answer in found.items():
        figures.append(_memory(who, answer))
    return figures


def _asked_one(
    what: str,
    who: str,
    answer: dict[str, Any] | str,
    name: str,
    floor: Mapping[str, Any],
    **more: float,
) -> Figure:
    each = answer if isinstance(answer, str) else answer[name]
    if isinstance(each, str) or "reason" in each:
        return missing(what, who, "ms", each if isinstance(each, str) else each["reason"], **more)
    note = f"first {each['first']:.1f} ms; {each['answer']:,} points"
    return Figure.of(what, who, each["rounds"], "ms", floor=_middle(floor), note=note, **more)


def _table(
    answer: dict[str, Any] | str, name: str, floor: Mapping[str, Any], runs: int
) -> list[Figure]:
    what = f"table of {runs:,} runs, {name}"
    first, again = f"{what}, first", f"{what}, again"
    each = answer if isinstance(answer, str) else answer[f"table: {name}"]
    if isinstance(each, str) or "reason" in each:
        why = each if isinstance(each, str) else each["reason"]
        return [
            missing(first, "trackway", "ms", why, budget=30.0),
            missing(again, "trackway", "ms", why, budget=5.0),
        ]
    more: dict[str, Any] = {"floor": _middle(floor), "note": f"{each['answer']:,} runs matched"}
    return [
        Figure(first, "trackway", each["first"], "ms", budget=30.0, **more),
        Figure.of(again, "trackway", each["rounds"], "ms", budget=5.0, **more),
    ]


def _memory(who: str, answer: dict[str, Any] | str) -> Figure:
    what = "memory of the reading process"
    if isinstance(answer, str):
        return missing(what, who, "MB", answer, budget=MEMORY_MB)
    peaks = {name: each["peak"] / 1e6 for name, each in answer.items()}
    note = ", ".join(f"{name} {peak:.0f}" for name, peak in peaks.items())
    return Figure(what, who, max(peaks.values()), "MB", budget=MEMORY_MB, note=f"after {note}")


def _middle(floor: Mapping[str, Any]) -> float:
    rounds = sorted(floor["rounds"])
    return float(rounds[len(rounds) // 2])


def _opened(
    base: Path, made: Mapping[str, Made], floors: Mapping[str, Any], scale: Scale
) -> list[Figure]:
    what = f"open {scale.sweep:,} indexed runs"
    each, peaks = [], []
    try:
        for _ in range(max(3, scale.rounds // 3)):
            answer = _job(base, "opening", root=str(made["sweep"].root))
            each.append(1000 * answer["seconds"])
            peaks.append(answer["peak"])
    except FailedError as error:
        return [missing(what, "trackway", "ms", str(error), budget=300.0)]
    note = f"peak {max(peaks) / 1e6:.0f} MB; floor: every folder looked at"
    floor = _middle(floors["opening"])
    return [Figure.of(what, "trackway", each, "ms", floor=floor, budget=300.0, note=note)]


def _seen(base: Path, made: Mapping[str, Made]) -> list[Figure]:
    what = "a new point of another process is in series after"
    try:
        answer = _job(base, "visible", root=str(made["rounded"].root), rounds=20)
    except FailedError as error:
        return [missing(what, "trackway", "ms", str(error), budget=200.0)]
    return [Figure.of(what, "trackway", answer["rounds"], "ms", budget=200.0)]


# -- the peers -----------------------------------------------------------------------------------


def _peers(folder: Path, figures: Sequence[Figure], quick: bool) -> list[Figure]:
    """By the point, or by the run of the table; the floor is what Trackway takes, in this round."""
    scale = QUICK if quick else Scale()
    answers = measure_peers(folder, quick=quick)
    few = min(100, scale.wide // 2)
    ours = {
        "ingest": _value(figures, "index logs, 1 metric a step, random", 1.0),
        "one": _value(figures, "full history", 1e6 / (10 * scale.long)),
        "many": _value(figures, f"series, {few:,} runs", 1e6 / (few * STEPS)),
        "table": _value(figures, "table of", 1e3 / scale.sweep),
    }
    whats = {
        "ingest": ("ingest, by the point (floor: Trackway)", "ns/pt"),
        "one": ("a long series, by the point (floor: Trackway's history)", "ns/pt"),
        "many": ("a metric of many runs, by the point (floor: Trackway's series)", "ns/pt"),
        "table": ("filter and sort, by the run (floor: Trackway, first)", "µs/run"),
    }
    return [
        _peer(*whats[task], ours[task], answer)
        for task in whats
        for answer in answers
        if answer.task == task
    ]


def _value(figures: Sequence[Figure], what: str, scale: float) -> float | None:
    """Trackway's first figure whose name begins so, in another unit."""
    found = next((f.value for f in figures if f.what.startswith(what)), None)
    return None if found is None else found * scale


def _peer(what: str, unit: str, ours: float | None, answer: Answer) -> Figure:
    if not answer.seconds:
        return missing(what, answer.who, unit, answer.note, floor=ours)
    count = answer.points or answer.runs
    scale = 1e9 if answer.points else 1e6
    of = f"{answer.points:,} points" if answer.points else f"{answer.runs:,} runs"
    each = [seconds * scale / count for seconds in answer.seconds]
    return Figure.of(what, answer.who, each, unit, floor=ours, note=f"{of}; {answer.note}")
