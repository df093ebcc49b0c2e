"""Bytes on disk a point, for 1, 10 and 100 metrics a step.

The size of everything a finished run left in its folder, less that of a run without a single step,
divided by the points.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks._contest import FailedError, contestant
from benchmarks._figures import Figure, missing

STEPS: Final = {10: 100_000, 1: 100_000, 100: 10_000}
"""By metrics a step. A peer stores as many as it takes in 15 s."""

FLOOR_BYTES: Final = 8.0
"""A number as f64."""


def measure(folder: Path, *, quick: bool, peers: Sequence[str]) -> list[Figure]:
    """One run a width and contestant: sizes do not vary from run to run."""
    limit_s = 3.0 if quick else 15.0
    figures = []
    empty: dict[str, int] = {}
    for keys, steps in STEPS.items():
        what = f"{keys} a step"
        for who in ("trackway", *peers):
            budget = 12.0 if who == "trackway" and keys == 10 else None
            try:
                if who not in empty:
                    empty[who] = _size(folder, who, keys, 0, limit_s)[0]
                size, done = _size(folder, who, keys, steps // 10 if quick else steps, limit_s)
            except FailedError as error:
                figures.append(missing(what, who, "B", str(error), budget=budget))
                continue
            value = (size - empty[who]) / (done * keys)
            note = f"{done} steps; an empty run {empty[who] / 1000:.1f} kB"
            figures.append(
                Figure(what, who, value, "B", floor=FLOOR_BYTES, budget=budget, note=note)
            )
    return figures


def _size(folder: Path, who: str, keys: int, steps: int, limit_s: float) -> tuple[int, int]:
    arguments: dict[str, Any] = {"keys": keys, "steps": steps, "limit_s": limit_s}
    with contestant("record", who, folder, **arguments) as child:
        done = child.answer()["steps"]
        child.end()
        files = [path for path in child.folder.rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in files if path.name != "printed.txt")
    return size, done
