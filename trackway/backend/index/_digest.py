"""What the points of one chunk come to."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from trackway.backend.index.contract import Head

__all__ = ["head_of"]

Array = npt.NDArray[Any]


def head_of(steps: Array, times: npt.NDArray[np.float64], values: Array, types: str) -> Head:
    """The head of a chunk of at least one point.

    Args:
        steps: int64 [n] in order of arrival; object where a step needs more than 64 bits.
        times: float64 [n].
        values: float64 [n]; or objects, of which the numbers count.
        types: The letters of the values' types.
    """
    rises = bool((steps[1:] > steps[:-1]).all())
    low, high = (steps[0], steps[-1]) if rises else (steps.min(), steps.max())
    low_time, high_time = float(times.min()), float(times.max())
    if low_time != low_time:
        low_time, high_time = float(np.fmin.reduce(times)), float(np.fmax.reduce(times))
    numbers, counted = (_numbers(values), steps) if values.dtype == object else (values, steps)
    there = numbers
    nan = inf = 0
    if values.dtype == object:
        mask = np.fromiter((isinstance(v, (int, float)) for v in values), np.bool_, len(values))
        there, counted = numbers[mask], steps[mask]
    total = float(_sum(there))
    if not math.isfinite(total):
        is_nan = np.isnan(there)
        nan = int(is_nan.sum())
        inf = int(np.isinf(there).sum()) - _beyond(values)
        total = float(_sum(there[np.isfinite(there)]))
        there, counted = there[~is_nan], counted[~is_nan]
    smallest, min_step, largest, max_step = _ends(there, counted, rises)
    return Head(
        n=len(steps),
        nan=nan,
        inf=inf,
        min=smallest,
        max=largest,
        sum=total,
        first=float(numbers[0]),
        last=float(numbers[-1]),
        low=int(low),
        high=int(high),
        low_time=low_time,
        high_time=high_time,
        min_step=min_step,
        max_step=max_step,
        rises=rises,
        types=types,
    )


def _sum(values: Array) -> Any:
    with np.errstate(over="ignore", invalid="ignore"):
        return np.add.reduce(values, dtype=np.float64)


def _ends(values: Array, steps: Array, rises: bool) -> tuple[float, int, float, int]:
    """The smallest value and the lowest step it was reached at, and the largest one likewise."""
    if not len(values):
        return math.nan, 0, math.nan, 0
    low, high = int(values.argmin()), int(values.argmax())
    if rises:
        low_step, high_step = steps[low], steps[high]
    else:
        low_step = steps[values == values[low]].min()
        high_step = steps[values == values[high]].min()
    return float(values[low]), int(low_step), float(values[high]), int(high_step)


def _numbers(values: Array) -> npt.NDArray[np.float64]:
    """Objects as float64: NaN for what is no number, an infinity for what is beyond it."""
    return np.fromiter((_number(value) for value in values), np.float64, len(values))


def _number(value: Any) -> float:
    if not isinstance(value, (int, float)):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _beyond(values: Array) -> int:
    """How many integers are beyond float64: no infinities, though they come to such."""
    if values.dtype != object:
        return 0
    return sum(isinstance(v, int) and math.isinf(_number(v)) for v in values)
