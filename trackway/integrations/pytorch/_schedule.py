"""When something is read: often enough to see what happens, rarely enough not to be felt."""

from __future__ import annotations

from collections import deque
from statistics import median
from typing import Final

__all__ = ["FIRST", "KINDS", "Schedule"]

KINDS: Final[tuple[str, ...]] = ("norms", "ratios", "histograms", "parameters")
"""What is read, in the order in which the budget is given out."""

FIRST: Final = 10
"""Steps between two readings at the least, as long as nothing else is asked for."""

_SHARE: Final = {"norms": 0.4, "ratios": 0.5, "histograms": 0.9, "parameters": 1.0}
"""How much of the budget may be given out once a kind has got its own."""

_RARER: Final = 10
"""How much rarer parameters are read than gradients."""

_KEPT: Final = 5


class Schedule:
    """The steps at which each kind is due. The first step is one for all of them.

    With ``every`` a kind is due at its multiples. Without, intervals are 10, 20, 40 … steps, such
    that all of it together stays within the budget, a share of the time that steps take.

    Args:
        kinds: What is read at all.
        every: A fixed interval, or None.
        budget: The share of the time that may be used.
    """

    def __init__(self, kinds: tuple[str, ...], every: int | None, budget: float) -> None:
        self.every = every
        self.budget = budget
        start = every or FIRST
        self.intervals = {
            kind: start * (_RARER if kind == "parameters" else 1) for kind in KINDS if kind in kinds
        }
        self._due = dict.fromkeys(self.intervals, 1)
        self._costs: dict[str, deque[float]] = {kind: deque(maxlen=_KEPT) for kind in KINDS}
        self._times = dict.fromkeys(KINDS, 0)
        self._steps: deque[float] = deque(maxlen=_KEPT)
        self.next = 1 if self._due else 1 << 62
        self.next_ratio = self._due.get("ratios", 1 << 62)

    def due(self, step: int) -> set[str]:
        """What is to be read at this step."""
        return {kind for kind, at in self._due.items() if at <= step}

    def passed(self, step: int, done: set[str]) -> None:
        """These were read, or had to be left out: find the steps at which they are due again."""
        for kind in done:
            interval = self.intervals[kind]
            self._due[kind] = step - step % interval + interval
        if self.every is None and not self._steps and step == 1:
            # What the first reading costs is mostly that of starting: the second one counts.
            self._due = {
                k: FIRST if k == "norms" else max(2 * FIRST, d) for k, d in self._due.items()
            }
        self.next = min(self._due.values())
        self.next_ratio = self._due.get("ratios", 1 << 62)

    def cost(self, kind: str, seconds: float) -> None:
        """A kind took this long."""
        self._times[kind] += 1
        if self._times[kind] > 1:  # the first time includes what is needed once only
            self._costs[kind].append(seconds)

    def took(self, seconds: float) -> None:
        """A step of the training itself took this long, on the average since the last call."""
        self._steps.append(seconds)

    def adapt(self, sharing: int = 1) -> bool:
        """Fit the intervals to the budget; returns whether one of them has changed.

        Args:
            sharing: How many schedules the budget is for.
        """
        if self.every is not None or not self._steps:
            return False
        budget = self.budget * median(self._steps) / sharing
        spent = 0.0
        changed = False
        for kind, interval in self.intervals.items():
            costs = self._costs[kind]
            if not costs:
                continue
            cost = median(costs)
            wanted = self._fit(kind, cost, max(budget * _SHARE[kind] - spent, budget * 0.05))
            # Shorter only where there is room for half of that: intervals are to be steady.
            if wanted > interval or wanted * 4 <= interval:
                self.intervals[kind] = wanted
                changed = True
            spent += cost / self.intervals[kind]
        if changed:
            self._move()
        return changed

    def _fit(self, kind: str, cost: float, room: float) -> int:
        interval = FIRST * (_RARER if kind == "parameters" else 1)
        while cost > room * interval and interval < 1 << 40:
            interval *= 2
        return interval

    def _move(self) -> None:
        """Steps already fixed move to the next multiple of an interval that has become longer."""
        for kind, interval in self.intervals.items():
            at = self._due[kind]
            self._due[kind] = at + -at % interval
        self.next = min(self._due.values())
        self.next_ratio = self._due.get("ratios", 1 << 62)
