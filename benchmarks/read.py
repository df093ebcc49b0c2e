"""Reading 1,000,000 steps of 10 metrics back as NumPy columns.

The run is recorded through ``run.log``. Each reading is a fresh process; the file is in the page
cache. Peers store 20,000 steps (2,000 with --quick), and their time is scaled to the same number of
points. Processor seconds include the imports.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks._contest import FailedError, contestant, rotated
from benchmarks._figures import Figure, missing

STEPS: Final = 1_000_000
KEYS: Final = 10
WAYS: Final = {"api": "Api.run().history()", "reader": "LogReader.read()", "floor": "floor"}


def measure(folder: Path, *, quick: bool, peers: Sequence[str]) -> list[Figure]:
    """Interleaved rounds over stores that are recorded once."""
    what = f"{STEPS:,} steps x {KEYS}"
    stores: dict[str, Path] = {}
    failed: dict[str, str] = {}
    for who in ("trackway", *peers):
        steps = STEPS if who == "trackway" else 2_000 if quick else 20_000
        arguments: dict[str, Any] = {"keys": KEYS, "steps": steps, "limit_s": 120, "bulk": True}
        try:
            with contestant("record", who, folder, keep=True, **arguments) as child:
                child.answer()
                stores[who] = child.folder
        except FailedError as error:
            failed[who] = str(error)
    if "trackway" in failed:
        return [missing(what, "trackway", "s", failed["trackway"], budget=0.5)]
    ways = {**dict.fromkeys(WAYS, "trackway"), **{who: who for who in peers if who in stores}}
    measured = _rounds(folder, ways, stores, failed, 2 if quick else 7)
    return _figures(what, measured, failed, peers)


def _rounds(
    folder: Path,
    ways: dict[str, str],
    stores: dict[str, Path],
    failed: dict[str, str],
    rounds: int,
) -> dict[str, list[dict[str, Any]]]:
    measured: dict[str, list[dict[str, Any]]] = {how: [] for how in ways}
    for number in range(rounds):
        for how in rotated(list(ways), number):
            if how in failed or (how not in WAYS and number >= 3):
                continue
            arguments: dict[str, Any] = {"how": how, "store": str(stores[ways[how]])}
            try:
                with contestant("read", ways[how], folder, **arguments) as child:
                    measured[how].append(child.answer())
            except FailedError as error:
                failed[how] = str(error)
    return measured


def _figures(
    what: str,
    measured: dict[str, list[dict[str, Any]]],
    failed: dict[str, str],
    peers: Sequence[str],
) -> list[Figure]:
    figures = []
    floor: float | None = None
    for how in ("floor", "api", "reader", *peers):
        name = WAYS.get(how, how)
        budget = 0.5 if how in ("api", "reader") else None
        if how in failed:
            figures.append(missing(what, name, "s", failed[how], budget=budget))
            continue
        found = measured[how]
        scale = STEPS * KEYS / found[0]["points"]
        each = [answer["seconds"] * scale for answer in found]
        cpu = statistics.median(answer["cpu"] for answer in found)
        note = f"processor {cpu:.2f} s, " if how in WAYS else ""
        note += f"peak {max(answer['peak'] for answer in found) / 1e6:.0f} MB"
        if how in peers:
            note += f" for {found[0]['points']:,} points, scaled"
        figure = Figure.of(what, name, each, "s", floor=floor, budget=budget, note=note)
        if how == "floor":
            floor = figure.value
        figures.append(figure)
    return figures
