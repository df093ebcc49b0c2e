"""One call of ``run.log``: microseconds until it returns.

Each call is timed by itself with ``perf_counter_ns``; what an empty pair of clock readings
costs (its median, measured in the same process) is subtracted from each.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks._contest import FailedError, contestant, rotated
from benchmarks._figures import Figure, missing

CASES: Final = (
    ("10 floats", 10, "float"),
    ("100 floats", 100, "float"),
    ("9 floats, 1 int", 10, "int"),
    ("10 NumPy float32", 10, "numpy"),
    ("10 torch scalars", 10, "torch"),
)
COMPARED: Final = CASES[:2]
BUDGETS: Final[dict[str, dict[str, float]]] = {
    "10 floats": {"budget": 3.0, "budget_ratio": 3.0},
    "100 floats": {"budget": 8.0},
}


def measure(folder: Path, *, quick: bool, peers: Sequence[str]) -> list[Figure]:
    """Interleaved rounds, a fresh process each."""
    names = ["trackway", "floor", *peers]
    rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    failed: dict[str, str] = {}
    for number in range(2 if quick else 7):
        for who in rotated(names, number):
            if who in failed:
                continue
            cases = CASES if who in ("trackway", "floor") else COMPARED
            arguments: dict[str, Any] = {"cases": cases, "calls": 5_000 if quick else 20_000}
            try:
                with contestant("log_call", who, folder, **arguments) as child:
                    rounds[who].append(child.answer()["times"])
            except FailedError as error:
                failed[who] = str(error)
    figures = []
    for case in CASES:
        figures += _figures(case, rounds, failed)
    return figures


def _figures(
    case: tuple[str, int, str], rounds: dict[str, list[dict[str, Any]]], failed: dict[str, str]
) -> list[Figure]:
    name = case[0]
    floor = _median(rounds["floor"], name, "p50")
    figures = []
    for who, measured in rounds.items():
        if who not in ("trackway", "floor") and case not in COMPARED:
            continue
        more = BUDGETS.get(name, {}) if who == "trackway" else {}
        if who in failed:
            figures.append(missing(name, who, "µs", failed[who], **more))
        elif isinstance(measured[0][name], str):
            figures.append(missing(name, who, "µs", measured[0][name], **more))
        else:
            each = [found[name]["p50"] / 1000 for found in measured]
            p99 = _median(measured, name, "p99") or 0.0
            note = f"p99 {p99:.1f} µs"
            own_floor = None if who == "floor" else floor
            figures.append(Figure.of(name, who, each, "µs", floor=own_floor, note=note, **more))
    return figures


def _median(measured: list[dict[str, Any]], name: str, which: str) -> float | None:
    found = [times[name][which] / 1000 for times in measured if isinstance(times[name], dict)]
    return statistics.median(found) if found else None
