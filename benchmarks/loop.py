"""A training loop of 2 ms steps that logs 10 scalars each: how much slower, and at what cost.

Slower: every contestant trains in turns of a tenth of a second, one after the other, stopped with
all its threads while it is not its turn. Each turn is divided by the bare turns of the same round.
A second bare program is a contestant like any other: what it shows is noise. Behind each figure
stands its standard error.

Processor time: what the whole process used, less what the thread that trains used inside the
steps, less the same of the bare program. So threads of the tracker count, and the steps' own
noise does not. Once in that loop, whose steps push everything else out of the processor's
caches, and once call after call with nothing between.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from benchmarks._contest import Contestant, FailedError, contestant, rotated
from benchmarks._figures import Figure, missing, progress, standard_error

KEYS: Final = 10
STEP_S: Final = 0.002
TURN_STEPS: Final = 50
AGAIN: Final = "bare again"


def measure(folder: Path, *, quick: bool, peers: Sequence[str]) -> list[Figure]:
    """The slowdown, then the processor time."""
    with contestant("calibrate", "bare", folder, step_s=STEP_S) as child:
        repeats = child.answer()["repeats"]
    figures = _slowdown(folder, repeats, 40 if quick else 400, peers)
    figures += _processor(folder, "processor per call, in the loop", repeats, quick, peers)
    return figures + _processor(folder, "processor per call, call after call", 0, quick, peers)


def _slowdown(folder: Path, repeats: int, rounds: int, peers: Sequence[str]) -> list[Figure]:
    what = "slower than the bare loop"
    children: dict[str, Contestant] = {}
    turns: dict[str, list[float]] = {}
    failed: dict[str, str] = {}
    with ExitStack() as stack:
        for who in ("bare", "trackway", AGAIN, "floor", *peers):
            try:
                child = contestant("turns", who, folder, repeats=repeats, keys=KEYS)
                children[who] = stack.enter_context(child)
                children[who].answer()
                children[who].ask(steps=50)
                children[who].pause()
                turns[who] = []
            except FailedError as error:
                failed[who] = str(error)
        names = list(turns)
        for number in range(rounds):
            for who in rotated(names, number):
                if who in failed or (who in peers and number >= 100):
                    continue
                progress(f"loop: round {number + 1} of {rounds}, {who}")
                try:
                    turns[who].append(_turn(children[who]))
                except FailedError as error:
                    failed[who] = str(error)
    figures = []
    for who in ("trackway", "floor", AGAIN, *peers):
        budget = 0.5 if who == "trackway" else None
        if who in failed:
            figures.append(missing(what, who, "%", failed[who], budget=budget))
            continue
        bare = [
            first if who == AGAIN else (first + second) / 2
            for first, second in zip(turns["bare"], turns[AGAIN], strict=True)
        ]
        each = [100 * (own / base - 1) for own, base in zip(turns[who], bare, strict=False)]
        error_of = f"+- {standard_error(each):.2f} %"
        note = f"{error_of}: the noise" if who == AGAIN else error_of
        figures.append(Figure.of(what, who, each, "%", budget=budget, note=note))
    return figures


def _turn(child: Contestant) -> float:
    child.resume()
    wall: float = child.ask(steps=TURN_STEPS)["wall"]
    child.pause()
    return wall


def _processor(
    folder: Path, what: str, repeats: int, quick: bool, peers: Sequence[str]
) -> list[Figure]:
    arguments: dict[str, Any] = {
        "repeats": repeats,
        "keys": KEYS,
        "steps": (1_000 if quick else 5_000) if repeats else 100_000,
        "limit_s": 15.0 if repeats and not quick else 5.0,
    }
    names = ["bare", "trackway", "floor", *peers]
    found: dict[str, list[dict[str, Any]]] = {who: [] for who in names}
    failed: dict[str, str] = {}
    for number in range(2 if quick else 3):
        for who in rotated(names, number):
            if who in failed or (who in peers and number):
                continue
            try:
                with contestant("processor", who, folder, **arguments) as child:
                    found[who].append(child.answer())
            except FailedError as error:
                failed[who] = str(error)
    base = statistics.median(one["loop_ns"] / one["steps"] for one in found["bare"])
    figures = []
    for included in (False, True):
        whole = {who: _per_call(one, base, included) for who, one in found.items() if one}
        floor = statistics.median(whole["floor"])
        for who in ("floor", "trackway", *peers):
            told = f"{what}; with init and finish" if included else what
            budget = 6.0 if who == "trackway" else None
            if who in failed:
                figures.append(missing(told, who, "µs", failed[who], budget=budget))
                continue
            more: dict[str, Any] = {"budget": budget, "note": _note(found[who], included)}
            more["floor"] = None if who == "floor" else floor
            figures.append(Figure.of(told, who, whole[who], "µs", **more))
    return figures


def _per_call(found: list[dict[str, Any]], base: float, included: bool) -> list[float]:
    """Microseconds beyond the bare loop, of each round."""
    each = []
    for one in found:
        beyond = one["start_ns"] + one["finish_ns"] if included else 0
        each.append(((one["loop_ns"] + beyond) / one["steps"] - base) / 1000)
    return each


def _note(found: list[dict[str, Any]], included: bool) -> str:
    steps, start, finish = (
        statistics.median(one[key] for one in found) for key in ("steps", "start_ns", "finish_ns")
    )
    note = f"{steps:.0f} calls"
    return note + f"; init {start / 1e6:.1f} ms, finish {finish / 1e6:.1f} ms" if included else note
