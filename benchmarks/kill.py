"""Steps that ``log`` had accepted and that nobody finds after SIGKILL.

The child logs 10 scalars a step and counts, in memory shared with this process, each step whose
call has returned; after 2 s it is killed. Then whatever it started may finish what it is doing, and
the store is read: the steps counted and not found are lost.
"""

from __future__ import annotations

import mmap
import struct
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks._contest import FailedError, contestant, rotated
from benchmarks._figures import Figure, missing

KEYS: Final = 10
SECONDS: Final = 2.0
PACES: Final = {"a step a ms": 0.001, "as fast as it goes": 0.0}


def measure(folder: Path, *, quick: bool, peers: Sequence[str]) -> list[Figure]:
    """At the pace of a fast training, and with nothing between the calls."""
    figures = []
    names = ["trackway", *peers]
    for pace, pause_s in PACES.items():
        lost: dict[str, list[float]] = {who: [] for who in names}
        acknowledged: dict[str, list[int]] = {who: [] for who in names}
        failed: dict[str, str] = {}
        for number in range(1 if quick else 5):
            for who in rotated(names, number):
                if who in failed:
                    continue
                try:
                    count, missed = _kill(folder, who, pause_s)
                except FailedError as error:
                    failed[who] = str(error)
                    continue
                acknowledged[who].append(count)
                lost[who].append(missed)
        for who in names:
            budget = 0.0 if who == "trackway" else None
            if who in failed:
                figures.append(missing(pace, who, "steps lost", failed[who], budget=budget))
                continue
            counts = sorted(acknowledged[who])
            note = f"of {counts[0]} .. {counts[-1]} acknowledged"
            figures.append(Figure.of(pace, who, lost[who], "steps lost", budget=budget, note=note))
    return figures


def _kill(folder: Path, who: str, pause_s: float) -> tuple[int, int]:
    counter = folder / f"counter-{who}"
    counter.write_bytes(bytes(8))
    arguments: dict[str, Any] = {"counter": str(counter), "keys": KEYS, "pause_s": pause_s}
    with counter.open("r+b") as file, contestant("until_killed", who, folder, **arguments) as child:
        shared = mmap.mmap(file.fileno(), 8)
        child.answer()
        time.sleep(SECONDS)
        if child.process.poll() is not None:
            child.answer()  # raises, with the reason
        child.kill()
        count: int = struct.unpack_from("<q", shared)[0]
        shared.close()
        child.settle()
        with contestant("stored", who, folder, store=str(child.folder)) as reader:
            found = set(reader.answer()["values"])
    return count, sum(float(step) not in found for step in range(count))
