"""Where the points of a metric lie on an axis other than the step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from trackway.backend.points import Series

__all__ = ["Places", "taken"]


@dataclass(frozen=True, slots=True)
class Places:
    """An axis: ``step``, ``time``, ``relative`` to a beginning, or another metric's values."""

    name: str
    began: float
    steps: npt.NDArray[Any] | None = None
    values: npt.NDArray[Any] | None = None

    @classmethod
    def of(cls, name: str, series: Series | None, began: float) -> Places:
        """The axis of this name; with the metric's series where it is a metric.

        Where a step has several values of that metric, the last one counts.
        """
        if series is None or name in ("step", "time", "relative"):
            return cls(name, began)
        order = np.argsort(series.steps, kind="stable")
        steps, values = series.steps[order], series.values[order]
        last = np.append(steps[1:] != steps[:-1], True) if len(steps) else np.zeros(0, np.bool_)
        return cls(name, began, steps[last], values[last])

    def of_series(self, series: Series) -> Series:
        """The series with its ``x``; without the points that have no place."""
        if self.name == "step":
            return series
        if self.steps is None or self.values is None:
            return replace(series, x=series.times - self.began)
        if not len(self.steps):
            return replace(taken(series, np.zeros(len(series), np.bool_)), x=self.values)
        place = np.minimum(np.searchsorted(self.steps, series.steps), len(self.steps) - 1)
        found = self.steps[place] == series.steps
        return replace(taken(series, found), x=self.values[place[found]])


def taken(series: Series, index: npt.NDArray[Any] | slice) -> Series:
    """The points that a mask, an index or a slice selects."""
    return Series(
        series.key,
        series.steps[index],
        series.times[index],
        series.values[index],
        series.attempts[index],
        None if series.x is None else series.x[index],
    )
