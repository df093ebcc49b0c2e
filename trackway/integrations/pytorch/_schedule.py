"""When something is read: often enough to see what happens, rarely enough not to be felt."""

from __future__ import annotations

import math
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

_AGAIN: Final = 0.5
"""What a second reading is expected to cost, of the first one, which is mostly that of starting."""

_NEVER: Final = 1 << 62


class Schedule:
    """The steps at which each kind is due. The first step is one for all of them.

    With ``every`` a kind is due at its multiples. Without, intervals are 10, 20, 40 … steps, such
    that all of it together stays within the budget, a share of the time that steps take; and
    nothing is read before the time that has passed allows for it, with all that was spent so far.

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
        self._firsts: dict[str, float] = {}
        self._steps: deque[float] = deque(maxlen=_KEPT)
        self._elapsed = 0.0
        self._spent = 0.0
        self._plan_next()

    def due(self, step: int, sharing: int = 1) -> set[str]:
        """What is to be read at this step; what the budget does not allow for yet is put off.

        Args:
            step: The step just made.
            sharing: How many schedules the budget is for.
        """
        due = [kind for kind, at in self._due.items() if at <= step]
        if self.every is not None or not self._firsts:
            return set(due)
        found = set()
        left = self.budget * self._elapsed / sharing - self._spent
        for kind in due:
            left -= self._expected(kind)
            if left >= 0:
                found.add(kind)
            else:
                self._put_off(kind, step, -left * sharing)
                left += self._expected(kind)
        self._look_ahead(step, left, sharing)
        if not found:
            self._plan_next()
        return found

    def _look_ahead(self, step: int, left: float, sharing: int) -> None:
        """Put off now what will not be allowed for: what the step begins with is then not done."""
        if not self._steps:
            return
        rate = self.budget * median(self._steps) / sharing
        for kind, at in self._due.items():
            lacking = self._expected(kind) - left - rate * (at - step)
            if at > step and lacking > 0:
                self._put_off(kind, at, lacking * sharing)

    def _expected(self, kind: str) -> float:
        costs = self._costs[kind]
        return median(costs) if costs else self._firsts.get(kind, 0.0) * _AGAIN

    def _put_off(self, kind: str, step: int, lacking: float) -> None:
        """To the next multiple of its interval at which it is allowed for."""
        interval = self.intervals[kind]
        steps = 1
        if self._steps:
            steps = math.ceil(lacking / (self.budget * median(self._steps)))
        at = step + max(1, min(steps, 1 << 40))
        self._due[kind] = at + -at % interval

    def passed(self, step: int, done: set[str]) -> None:
        """These were read, or had to be left out: find the steps at which they are due again."""
        for kind in done:
            interval = self.intervals[kind]
            first = len(self._costs[kind]) == 0 and self.every is None and kind != "norms"
            self._due[kind] = step - step % interval + interval * (2 if first else 1)
        self._plan_next()

    def _plan_next(self) -> None:
        self.next = min(self._due.values(), default=_NEVER)
        self.next_ratio = self._due.get("ratios", _NEVER)

    def cost(self, kind: str, seconds: float) -> None:
        """A kind took this long."""
        self._spent += seconds
        if kind in self._firsts:  # the first time includes what is needed once only
            self._costs[kind].append(seconds)
        else:
            self._firsts[kind] = seconds

    def spend(self, seconds: float) -> None:
        """Something else took this long."""
        self._spent += seconds

    def took(self, seconds: float, steps: int = 1) -> None:
        """So many steps of the training itself took this long, each, on the average."""
        self._steps.append(seconds)
        self._elapsed += seconds * steps

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
        self._plan_next()
