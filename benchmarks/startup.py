"""How long ``import``, ``init`` and ``finish`` take, and what they load.

An import is the wall time of a whole fresh interpreter less that of ``python -c pass``, which
alternates with it; processor time, which a busy machine disturbs less, is said beside it. ``init``
is timed inside a fresh process, after the import.
"""

from __future__ import annotations

import os
import secrets
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from benchmarks._contest import FailedError, contestant, rotated
from benchmarks._figures import Figure, missing, progress
from benchmarks._trackers import environment, installed

STEPS: Final = 100_000
IMPORTS: Final = {
    "import trackway": "trackway",
    "from trackway import init": "trackway",
}
BUDGET_MS: Final = {"import trackway": 50.0, "from trackway import init": 50.0}

LOADED: Final = """
import sys
before = set(sys.modules)
{program}
names = {{name.partition('.')[0] for name in set(sys.modules) - before}}
names -= {{*sys.stdlib_module_names, 'trackway', '__mp_main__'}}
print(' '.join(sorted(name for name in names if not name.startswith('__'))))
"""
RUN: Final = """
from trackway import init
run = init(project='bench', settings={'quiet': True, 'console': False})
run.log({'a': 1.0, 'b': 2})
run.config['lr'] = 1e-3
run.finish()
"""


def measure(folder: Path, *, quick: bool, peers: Sequence[str]) -> list[Figure]:
    """Imports, loaded modules, beginning and end."""
    figures = _imports(folder, 7 if quick else 31, peers)
    figures += _loaded(folder, {"by the import": "from trackway import init", "by a run": RUN})
    return figures + _runs(folder, 3 if quick else 9, peers)


def _imports(folder: Path, rounds: int, peers: Sequence[str]) -> list[Figure]:
    programs = {"pass": "python", **IMPORTS, **{f"import {peer}": peer for peer in peers}}
    missed = {text: who for text, who in programs.items() if not installed(who)}
    measured: dict[str, list[_Taken]] = {text: [] for text in programs if text not in missed}
    names = list(measured)
    for number in range(-1, rounds):  # the first round fills the caches and is not kept
        for text in rotated(names, max(0, number)):
            if text.startswith("import") and programs[text] in peers and number >= 15:
                continue
            progress(f"startup: {text}")
            taken = _interpreter(folder, text)
            if number >= 0:
                measured[text].append(taken)
    bare = measured.pop("pass")
    bare_ms = statistics.median(taken.wall_ms for taken in bare)
    bare_cpu_ms = statistics.median(taken.cpu_ms for taken in bare)
    figures = []
    for text, each in measured.items():
        over = [taken.wall_ms - bare_ms for taken in each]
        cpu = statistics.median(taken.cpu_ms for taken in each) - bare_cpu_ms
        note = f"processor {cpu:.1f} ms"
        if text == names[1]:
            note += f"; bare Python {bare_ms:.1f} ms, processor {bare_cpu_ms:.1f} ms"
        budget = BUDGET_MS.get(text)
        figures.append(Figure.of(text, programs[text], over, "ms", budget=budget, note=note))
    figures += [missing(text, who, "ms", "not installed") for text, who in missed.items()]
    return figures


class _Taken(NamedTuple):
    wall_ms: float
    cpu_ms: float


def _interpreter(folder: Path, program: str) -> _Taken:
    """A fresh interpreter from its start to its end."""
    quiet = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1, 2)]
    command = [sys.executable, "-c", program]
    begin = time.perf_counter()
    pid = os.posix_spawn(command[0], command, environment(folder), file_actions=quiet)
    _, status, used = os.wait4(pid, 0)
    wall = time.perf_counter() - begin
    if status:
        raise FailedError(f"python -c {program!r} failed")
    return _Taken(1000 * wall, 1000 * (used.ru_utime + used.ru_stime))


def _loaded(folder: Path, programs: dict[str, str]) -> list[Figure]:
    """How many packages other than msgspec, and those it loads itself, are in ``sys.modules``."""
    figures = []
    try:
        allowed = _packages(folder, "import msgspec")
    except FailedError as error:
        return [missing("loaded", "trackway", "packages", str(error), budget=0.0)]
    for what, program in programs.items():
        try:
            found = _packages(folder, program)
        except FailedError as error:
            figures.append(
                missing(f"loaded {what}", "trackway", "packages", str(error), budget=0.0)
            )
            continue
        beyond = sorted(found - allowed)
        note = f"beyond {', '.join(sorted(allowed))}" + "".join(f" {name}" for name in beyond)
        figures.append(
            Figure(
                f"loaded {what}", "trackway", float(len(beyond)), "packages", budget=0.0, note=note
            )
        )
    return figures


def _packages(folder: Path, program: str) -> set[str]:
    """The third-party packages that a program loads."""
    place = folder / f"loaded-{secrets.token_hex(4)}"
    place.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", LOADED.format(program=program)],
        cwd=place,
        env=environment(place),
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise FailedError(done.stderr.strip()[-160:])
    return set(done.stdout.split())


def _runs(folder: Path, rounds: int, peers: Sequence[str]) -> list[Figure]:
    names = ["trackway", *peers]
    measured: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    failed: dict[str, str] = {}
    for number in range(rounds):
        for who in rotated(names, number):
            if who in failed or (who in peers and number >= 5):
                continue
            try:
                with contestant("begin_and_end", who, folder, steps=STEPS, limit_s=5.0) as child:
                    measured[who].append(child.answer())
            except FailedError as error:
                failed[who] = str(error)
    figures = []
    for what, field, budget in (
        ("first init", "init", 20.0),
        ("second init", "again", 20.0),
        ("finish", "finish", 50.0),
    ):
        for who in names:
            limit = budget if who == "trackway" else None
            if who in failed:
                figures.append(missing(what, who, "ms", failed[who], budget=limit))
                continue
            each = [found[field] * 1000 for found in measured[who] if found[field] is not None]
            steps = statistics.median(found["steps"] for found in measured[who])
            note = f"after {steps:.0f} steps" if field == "finish" else ""
            if each:
                figures.append(Figure.of(what, who, each, "ms", budget=limit, note=note))
    return figures
