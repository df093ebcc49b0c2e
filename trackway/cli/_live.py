"""A metric that is being logged: a few numbers, and a curve of at most 256 buckets."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from trackway.api import Metric, Series

__all__ = ["Live"]

_BUCKETS: Final = 256


@dataclass(slots=True)
class Live:
    """A metric so far.

    Attributes:
        key: Its name.
        count: Points of its live line, NaN included.
        nan: How many of them are NaN.
        min: The smallest value, NaN left out; None where there is no number.
        max: The largest, likewise.
        first: The value at the lowest step.
        last: The value at the highest step.
        step: That step; None before the first point.
        time: When the newest point was logged, seconds since 1970.
        first_time: When the first one was.
        low: Least finite value by number of a bucket of ``width`` steps; NaN where there are
            points and none is finite.
        high: Greatest, likewise.
        arrived: How many points each attempt logged, as far as it was read.
    """

    key: str
    count: int = 0
    nan: int = 0
    min: Any = None
    max: Any = None
    first: Any = None
    last: Any = None
    step: int | None = None
    time: float = 0.0
    first_time: float = 0.0
    attempt: int = 0
    width: int = 1
    low: dict[int, float] = field(default_factory=dict)
    high: dict[int, float] = field(default_factory=dict)
    irregular: bool = False
    arrived: dict[int, int] = field(default_factory=dict)

    def add(self, series: Series, attempt: int) -> None:
        """Take in points of one attempt; ``irregular`` is set where their order forbids it."""
        if not len(series):
            return
        self.time = max(self.time, float(series.times[-1]))
        self.arrive(len(series), attempt)
        if self.irregular or not self._follows(series, attempt):
            self.irregular = True
            return
        self.attempt = attempt
        self._fold(Metric.of(series), float(series.times[0]))
        self._draw(series)

    def arrive(self, count: int, attempt: int) -> None:
        """So many more points of an attempt were read."""
        self.arrived[attempt] = self.arrived.get(attempt, 0) + count

    def replace(self, series: Series) -> None:
        """Begin anew with the live line, whole and in step order."""
        time = self.time
        fresh = Live(self.key, time=time, irregular=True)
        if len(series):
            fresh._fold(Metric.of(series), float(series.times[0]))
            fresh._draw(series)
        for name in ("count", "nan", "min", "max", "first", "last", "step", "first_time"):
            setattr(self, name, getattr(fresh, name))
        self.width, self.low, self.high = fresh.width, fresh.low, fresh.high

    def _follows(self, series: Series, attempt: int) -> bool:
        steps = series.steps
        if steps.dtype == object or attempt < self.attempt:
            return False
        behind = self.step is not None and int(steps[0]) <= self.step
        return not behind and bool((steps[1:] > steps[:-1]).all())

    def _fold(self, metric: Metric, time: float) -> None:
        if not self.count:
            self.first, self.first_time = metric.first, time
        self.count += metric.count
        self.nan += metric.nan
        self.last, self.step = metric.last, metric.last_step
        if metric.min is not None:
            self.min = metric.min if self.min is None else min(self.min, metric.min)
            self.max = metric.max if self.max is None else max(self.max, metric.max)

    def _draw(self, series: Series) -> None:
        if series.values.dtype == object or series.steps.dtype == object:
            return
        steps, values = series.steps, series.values.astype(np.float64)
        values = np.where(np.isfinite(values), values, np.nan)
        anchor = min(self.low, default=0) * self.width
        first = min(anchor, int(steps.min())) if self.low else int(steps.min())
        while (int(steps.max()) - first) // self.width >= _BUCKETS:
            self._widen()
        places = steps // self.width
        for place in np.unique(places).tolist():
            mine = values[places == place] if len(places) > 1 else values
            self._stretch(place, float(np.fmin.reduce(mine)), float(np.fmax.reduce(mine)))

    def _stretch(self, place: int, low: float, high: float) -> None:
        """Let a bucket hold these too; NaN is there only as long as nothing else is."""
        self.low[place] = float(np.fmin(self.low.get(place, math.nan), low))
        self.high[place] = float(np.fmax(self.high.get(place, math.nan), high))

    def _widen(self) -> None:
        self.width *= 2
        low, high = self.low, self.high
        self.low, self.high = {}, {}
        for place, value in low.items():
            self._stretch(place // 2, value, high[place])

    def curve(self, width: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Least and greatest finite value in at most ``width`` equal parts of the steps.

        NaN in a part without one.
        """
        if not self.low:
            return np.empty(0), np.empty(0)
        first, last = min(self.low), max(self.low)
        count = min(width, last - first + 1)
        low, high = np.full(count, np.nan), np.full(count, np.nan)
        places = np.array([(p - first) * count // (last - first + 1) for p in self.low])
        np.fmin.at(low, places, np.array(list(self.low.values())))
        np.fmax.at(high, places, np.array([self.high[place] for place in self.low]))
        return low, high
