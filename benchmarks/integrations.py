"""What the integrations cost: trainings with and without them, and beside wandb's own.

Every contestant trains in turns, one after the other, stopped with all its threads while it is not
its turn. Each turn is divided by the bare turns of the same round; a second bare training is a
contestant like any other, and what it shows is noise. Behind each figure stands its standard error.
So it is done twice, in the same turns: with the clock on the wall, and with the processor time of
the whole process, which other work on the machine disturbs less.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from benchmarks._contest import Contestant, FailedError, contestant, rotated
from benchmarks._figures import Figure, missing, progress, standard_error
from benchmarks._frameworks import FRAMEWORKS, MODELS

STEP_S: Final = 0.010
TURN_STEPS: Final = 20
EVERY: Final = 10
AGAIN: Final = "bare again"

WITHOUT_WANDB: Final = {
    "pytorch": "has nothing for a loop of one's own",
    "sklearn": "has nothing for fit",
    "optuna": "has nothing for a study",
}
Turns = dict[str, list[dict[str, float]]]
"""By contestant: seconds of each turn, by clock."""

_IMPORTED_AS: Final = {"pytorch": "torch", "huggingface": "transformers"}


def measure(folder: Path, *, quick: bool, peers: Sequence[str]) -> list[Figure]:
    """Importing, watching at defaults and at equal interval, then every integration."""
    peers = [name for name in peers if name == "wandb"]
    figures = _imports(5 if quick else 25)
    rounds = 10 if quick else 80
    for model in MODELS:
        figures += _watching(folder, model, None, rounds, peers)
    for model in MODELS:
        figures += _watching(folder, model, EVERY, rounds // 2, peers)
    with contestant("calibrate", "bare", folder, step_s=STEP_S) as child:
        repeats = child.answer()["repeats"]
    for framework in FRAMEWORKS:
        figures += _training(folder, framework, repeats, rounds, peers)
    return figures


# -- import --------------------------------------------------------------------------------


def _imports(rounds: int) -> list[Figure]:
    """Fresh interpreters that do nothing, import, and switch autolog on."""
    programs = {
        "nothing": "pass",
        "import trackway": "import trackway",
        "import trackway; trackway.autolog()": "import trackway; trackway.autolog()",
        "after init: import trackway; trackway.autolog()": (
            "from trackway import init; import trackway; trackway.autolog()"
        ),
        "from trackway import init": "from trackway import init",
    }
    found: dict[str, list[float]] = {name: [] for name in programs}
    for number in range(rounds):
        for name in rotated(list(programs), number):
            began = time.perf_counter()
            subprocess.run([sys.executable, "-c", programs[name]], check=True)
            found[name].append(1000 * (time.perf_counter() - began))
    nothing, begun = found["nothing"], found["from trackway import init"]
    alone = found["import trackway; trackway.autolog()"]
    beside = found["after init: import trackway; trackway.autolog()"]
    return [
        Figure.of(
            "autolog() beside what init() imports anyway",
            "trackway",
            [own - base for own, base in zip(beside, begun, strict=True)],
            "ms",
            budget=10.0,
        ),
        Figure.of(
            "import trackway; trackway.autolog(), alone",
            "trackway",
            [own - base for own, base in zip(alone, nothing, strict=True)],
            "ms",
        ),
    ]


# -- watch ---------------------------------------------------------------------------------


def _watching(
    folder: Path, model: str, every: int | None, rounds: int, peers: Sequence[str]
) -> list[Figure]:
    told = "defaults" if every is None else f"every {every} steps"
    what = f"watch, {model}, {told}"
    names = ["bare", "trackway", AGAIN, *peers]
    turns, failed = _turns(
        folder, "watched", names, what, rounds, 10 * EVERY, model=model, every=every
    )
    figures = _slower(what, turns, failed, names, budget=1.0 if every is None else None)
    if every is not None and {"bare", "trackway", "wandb"} <= set(turns):
        figures.append(_beside(what, turns))
    return figures


def _beside(what: str, turns: Turns) -> Figure:
    """Our cost as a share of wandb's, at the same interval."""
    bare = _bare(turns, "processor")
    ours, theirs = (
        statistics.median(
            own["processor"] - base for own, base in zip(turns[who], bare, strict=False)
        )
        for who in ("trackway", "wandb")
    )
    each = [ours / theirs] if theirs > 0 else []
    if not each:
        return missing(f"{what}: cost by wandb's", "trackway", "x", "wandb's was within the noise")
    note = f"{1000 * ours / EVERY:.2f} ms against {1000 * theirs / EVERY:.2f} ms a watched step"
    return Figure.of(f"{what}: cost by wandb's", "trackway", each, "x", budget=0.2, note=note)


# -- every framework -----------------------------------------------------------------------


def _training(
    folder: Path, framework: str, repeats: int, rounds: int, peers: Sequence[str]
) -> list[Figure]:
    what = f"{framework}, steps of {1000 * STEP_S:.0f} ms"
    if find_spec(_IMPORTED_AS.get(framework, framework)) is None:
        return [missing(what, "trackway", "%", "the framework is not installed", budget=0.5)]
    beside = [name for name in peers if framework not in WITHOUT_WANDB]
    names = ["bare", "trackway", AGAIN, *beside]
    turns, failed = _turns(
        folder, "train", names, what, rounds, TURN_STEPS, framework=framework, repeats=repeats
    )
    figures = _slower(what, turns, failed, names, budget=0.5)
    if framework in WITHOUT_WANDB and peers:
        figures.append(missing(what, "wandb", "%", WITHOUT_WANDB[framework]))
    return figures


# -- turns ---------------------------------------------------------------------------------


def _turns(
    folder: Path,
    job: str,
    names: Sequence[str],
    what: str,
    rounds: int,
    steps: int,
    **arguments: Any,
) -> tuple[Turns, dict[str, str]]:
    """Seconds of each turn, by contestant; and why others have none."""
    children: dict[str, Contestant] = {}
    turns: Turns = {}
    failed: dict[str, str] = {}
    with ExitStack() as stack:
        for who in names:
            try:
                children[who] = stack.enter_context(contestant(job, who, folder, **arguments))
                if job == "train":
                    children[who].answer()  # its first step
                for _ in range(3):  # until whatever is done once is done
                    children[who].ask(steps=steps)
                children[who].pause()
                turns[who] = []
            except FailedError as error:
                failed[who] = str(error)
        for number in range(rounds):
            for who in rotated(list(turns), number):
                progress(f"{what}: round {number + 1} of {rounds}, {who}")
                try:
                    children[who].resume()
                    turns[who].append(children[who].ask(steps=steps))
                    children[who].pause()
                except FailedError as error:
                    failed[who] = str(error)
                    del turns[who]
    return turns, failed


def _bare(turns: Turns, clock: str) -> list[float]:
    pairs = zip(turns["bare"], turns[AGAIN], strict=True)
    return [(first[clock] + second[clock]) / 2 for first, second in pairs]


def _slower(
    what: str,
    turns: Turns,
    failed: dict[str, str],
    names: Sequence[str],
    *,
    budget: float | None,
) -> list[Figure]:
    """Percent slower than the bare training, for each contestant, by each clock."""
    figures = []
    for clock, told in (("wall", what), ("processor", f"{what}: processor")):
        for who in [name for name in names if name != "bare"]:
            limit = budget if who == "trackway" else None
            if who not in turns or AGAIN not in turns or "bare" not in turns:
                reason = failed.get(who, "the bare training failed")
                figures.append(missing(told, who, "%", reason, budget=limit))
                continue
            bare = _bare(turns, clock)
            if who == AGAIN:
                bare = [turn[clock] for turn in turns["bare"]]
            own = [turn[clock] for turn in turns[who]]
            each = [100 * (mine / base - 1) for mine, base in zip(own, bare, strict=True)]
            note = f"+- {standard_error(each):.2f} %" + (": the noise" if who == AGAIN else "")
            figures.append(Figure.of(told, who, each, "%", budget=limit, note=note))
    return figures
