"""Memory added to the training process, and what the companion takes.

Added: unique memory (what would be free again if the process ended) after import, init and 100,000
steps of 10 scalars, less that of a program that does the same without a tracker and has imported
nothing else. Processes that a tracker starts are counted beside it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import psutil

from benchmarks._contest import Contestant, FailedError, contestant, rotated
from benchmarks._figures import Figure, missing, progress
from benchmarks._trackers import ROOT

STEPS: Final = 100_000
KEYS: Final = 10
DEFAULT_INTERVAL_S: Final = 10.0
STARTED_S: Final = 5.0
"""By then the companion has captured what it captures once."""


def measure(folder: Path, *, quick: bool, peers: Sequence[str]) -> list[Figure]:
    """The training process, then the companion."""
    return _added(folder, 2 if quick else 5, peers) + _companion(folder, quick)


def _memory(process: psutil.Process) -> tuple[float, float]:
    """(unique, resident) MB."""
    full = process.memory_full_info()
    return full.uss / 1e6, full.rss / 1e6


def _added(folder: Path, rounds: int, peers: Sequence[str]) -> list[Figure]:
    names = ["bare", "trackway", *peers]
    found: dict[str, list[dict[str, float]]] = {who: [] for who in names}
    failed: dict[str, str] = {}
    for number in range(rounds):
        for who in rotated(names, number):
            if who in failed:
                continue
            try:
                found[who].append(_held(folder, who))
            except FailedError as error:
                failed[who] = str(error)
    bare = {key: statistics.median(one[key] for one in found["bare"]) for key in ("uss", "rss")}
    figures = []
    for key, what in (("uss", "added to the process, unique"), ("rss", "the same, resident")):
        for who in ("trackway", *peers):
            budget = 15.0 if who == "trackway" else None
            if who in failed:
                figures.append(missing(what, who, "MB", failed[who], budget=budget))
                continue
            each = [one[key] - bare[key] for one in found[who]]
            note = f"after {found[who][0]['steps']:.0f} steps"
            if key == "uss":
                others = statistics.median(one["others"] for one in found[who])
                note += f"; its other processes {others:.0f} MB"
            figures.append(Figure.of(what, who, each, "MB", budget=budget, note=note))
    return figures


def _held(folder: Path, who: str) -> dict[str, float]:
    with contestant("hold", who, folder, keys=KEYS, steps=STEPS, limit_s=5.0) as child:
        steps = child.answer()["steps"]
        time.sleep(2.0)
        uss, rss = _memory(psutil.Process(child.process.pid))
        others = sum(_memory(process)[0] for process in child.others())
    return {"uss": uss, "rss": rss, "others": others, "steps": steps}


def _companion(folder: Path, quick: bool) -> list[Figure]:
    """Watches a companion that captures this very repository."""
    seconds = 20.0 if quick else 60.0
    interval = 2.0 if quick else DEFAULT_INTERVAL_S
    settings = {"TRACKWAY_SYSTEM_INTERVAL_S": str(interval)}
    whats = ("companion, unique", "companion, resident", "companion, of a core")
    limits = (50.0, None, 1.0)
    units = ("MB", "MB", "%")
    try:
        with contestant(
            "linger", "trackway", folder, cwd=ROOT, settings=settings, seconds=seconds + 5
        ) as child:
            child.answer()
            started = time.monotonic()
            watched = _watch(child, started + seconds)
    except FailedError as error:
        return [
            missing(what, "trackway", unit, str(error), budget=limit)
            for what, unit, limit in zip(whats, units, limits, strict=True)
        ]
    # The samples are what the interval governs; what is captured once is not.
    sampling = (watched["cpu"] - watched["cpu_once"]) / (seconds - STARTED_S)
    sampling *= interval / DEFAULT_INTERVAL_S
    share = 100 * (watched["cpu_once"] + sampling * (60 - STARTED_S)) / 60
    note = (
        f"over the first 60 s; {watched['cpu_once']:.2f} s of it in the first {STARTED_S:.0f} s, "
        f"then {100 * sampling:.2f} %"
    )
    if quick:
        note += f"; scaled from {seconds:.0f} s at {interval:.0f} s a sample"
    values = (watched["uss"], watched["rss"], share)
    notes = ("the most that was seen", "", note)
    return [
        Figure(what, "trackway", value, unit, budget=limit, note=text)
        for what, value, unit, limit, text in zip(whats, values, units, limits, notes, strict=True)
    ]


def _watch(child: Contestant, until: float) -> dict[str, float]:
    found: dict[str, Any] = {"uss": 0.0, "rss": 0.0, "cpu": 0.0, "cpu_once": 0.0}
    began = time.monotonic()
    companion: psutil.Process | None = None
    while time.monotonic() < until:
        progress(f"memory: the companion, {until - time.monotonic():.0f} s more")
        if companion is None:
            companion = next(iter(p for p in child.others() if _is_companion(p)), None)
        else:
            try:
                uss, rss = _memory(companion)
                used = companion.cpu_times()
            except psutil.Error:
                raise FailedError("the companion ended early") from None
            found["uss"], found["rss"] = max(uss, found["uss"]), max(rss, found["rss"])
            found["cpu"] = used.user + used.system
            if time.monotonic() - began <= STARTED_S:
                found["cpu_once"] = found["cpu"]
        time.sleep(0.2)
    if companion is None:
        raise FailedError("no companion was found")
    return found


def _is_companion(process: psutil.Process) -> bool:
    try:
        return any("trackway companion" in argument for argument in process.cmdline())
    except psutil.Error:
        return False
