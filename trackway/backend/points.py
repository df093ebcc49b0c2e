"""What the arrivals of a metric come to: the line that counts, and its exact statistics."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trackway.backend.file.run_logs import Columns

__all__ = ["Metric", "Series", "live_line", "resolve"]


_SHRINK = 2.0**-64


@dataclass(frozen=True, slots=True)
class Series:
    """The points of one metric; all arrays have the same length.

    Attributes:
        key: The metric's name.
        steps: int64.
        times: float64, seconds since 1970.
        values: float64; int64 or bool where every value was logged as such; object where
            some are text, lists or integers beyond 2**53. NaN and infinities are exact.
        attempts: int64, the attempt each point was logged by.
        x: Where each point lies on the axis that was asked for; None where that is the step.
    """

    key: str
    steps: npt.NDArray[Any]
    times: npt.NDArray[np.float64]
    values: npt.NDArray[Any]
    attempts: npt.NDArray[np.int64]
    x: npt.NDArray[Any] | None = None

    def __len__(self) -> int:
        return len(self.steps)

    def __repr__(self) -> str:
        return f"<Series {self.key}: {len(self)} points>"


@dataclass(frozen=True, slots=True)
class Metric:
    """What the points of a metric's live line come to.

    Attributes:
        key: The metric's name.
        count: How many points there are, NaN included.
        nan: How many of them are NaN.
        min: The smallest value, NaN left out; None where there is no number.
        max: The largest value, likewise.
        mean: Of all numbers that are not NaN.
        first: The value at the lowest step.
        last: The value at the highest step, exactly as logged.
        last_step: That step.
        min_step: The first step at which the smallest value was reached.
        max_step: The first step at which the largest was.
    """

    key: str
    count: int = 0
    nan: int = 0
    min: Any = None
    max: Any = None
    mean: float | None = None
    first: Any = None
    last: Any = None
    last_step: int | None = None
    min_step: int | None = None
    max_step: int | None = None

    @classmethod
    def of(cls, series: Series) -> Metric:
        """Exact statistics of a series that is in step order."""
        count = len(series)
        if not count:
            return cls(series.key)
        told: dict[str, Any] = {
            "count": count,
            "first": _python(series.values[0]),
            "last": _python(series.values[-1]),
            "last_step": int(series.steps[-1]),
        }
        told |= _numbers(series) if series.values.dtype != object else _some_numbers(series)
        return cls(series.key, **told)


def _some_numbers(series: Series) -> dict[str, Any]:
    """Of a series that holds large integers, text or lists: of its numbers only, exactly."""
    found = [
        (value, int(step))
        for step, value in zip(series.steps, series.values, strict=True)
        if isinstance(value, (int, float))
    ]
    there = [(value, step) for value, step in found if value == value]
    told: dict[str, Any] = {"nan": len(found) - len(there)}
    if there:
        low = min(there, key=lambda entry: entry[0])
        high = max(there, key=lambda entry: entry[0])
        told |= {"min": low[0], "min_step": low[1], "max": high[0], "max_step": high[1]}
        with contextlib.suppress(OverflowError, ValueError):  # beyond f64, or inf - inf
            told["mean"] = math.fsum(value for value, _ in there) / len(there)
    return told


def _numbers(series: Series) -> dict[str, Any]:
    values = series.values
    nan = np.isnan(values) if values.dtype.kind == "f" else np.zeros(len(values), np.bool_)
    there = values[~nan]
    if not len(there):
        return {"nan": int(nan.sum())}
    steps = series.steps[~nan]
    low, high = int(there.argmin()), int(there.argmax())
    with np.errstate(invalid="ignore", over="ignore"):
        mean = float(there.mean(dtype=np.float64))
        if not np.isfinite(mean) and np.isfinite(there).all():
            # The sum is beyond float64, and the mean is not: in smaller units.
            mean = float((there * _SHRINK).mean(dtype=np.float64) / _SHRINK)
    return {
        "nan": int(nan.sum()),
        "min": _python(there[low]),
        "max": _python(there[high]),
        "mean": mean,
        "min_step": int(steps[low]),
        "max_step": int(steps[high]),
    }


def _python(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def live_line(columns: Columns) -> Columns:
    """Leave out what a later attempt took back.

    When an attempt goes on from an earlier step, what earlier attempts logged of this metric at
    that step or behind it describes a model that is no more.
    """
    if not len(columns) or (columns.attempts == columns.attempts[0]).all():
        return columns
    attempts = np.unique(columns.attempts)
    keep = np.ones(len(columns), np.bool_)
    resumed_at = None
    for attempt in attempts[::-1].tolist():
        mine = columns.attempts == attempt
        if resumed_at is not None:
            keep &= ~mine | (columns.steps < resumed_at)
        lowest = columns.steps[mine].min()
        resumed_at = lowest if resumed_at is None else min(resumed_at, lowest)
    return columns.take(keep)


def resolve(key: str, columns: Columns, *, attempts: str, repeats: str, order: str) -> Series:
    """A metric's arrivals as the series that was asked for."""
    if attempts == "live":
        columns = live_line(columns)
    # Most series are logged step after step: then nothing is to be sorted, and none repeats.
    if not (columns.steps[1:] > columns.steps[:-1]).all():
        index = np.argsort(columns.steps, kind="stable")
        if repeats == "last":
            # Stable: the last of equal steps is the last that arrived.
            steps = columns.steps[index]
            index = index[np.append(steps[1:] != steps[:-1], True)]
        columns = columns.take(index if order == "step" else np.sort(index))
    return Series(key, columns.steps, columns.times, columns.values, columns.attempts)
