"""A curve in one line of text."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from trackway.api import Series

__all__ = ["buckets", "drawn", "spark"]

_LEVELS: Final = " ▁▂▃▄▅▆▇█"


def buckets(series: Series, count: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Exact minimum and maximum of the finite values in equal parts of the range of steps.

    Args:
        series: In step order.
        count: How many parts.

    Returns:
        Two arrays of ``count``; NaN in a part without a finite value.
    """
    low, high = np.full(count, np.nan), np.full(count, np.nan)
    if series.values.dtype == object or series.steps.dtype == object:
        return low, high
    values = series.values.astype(np.float64)
    finite = np.isfinite(values)
    values, steps = values[finite], series.steps[finite].astype(np.float64)
    if not len(values):
        return low, high
    first, width = float(series.steps[0]), float(series.steps[-1]) - float(series.steps[0])
    place = ((steps - first) / (width or 1.0) * count).astype(np.int64)
    np.fmin.at(low, np.minimum(place, count - 1), values)
    np.fmax.at(high, np.minimum(place, count - 1), values)
    return low, high


def spark(series: Series, width: int) -> str:
    """The middle between minimum and maximum of each part of the curve, in eighths of its height.

    A single outlier therefore shows. A part without a finite value is blank.
    """
    count = min(width, len(series))
    if not count:
        return ""
    return drawn(*buckets(series, count))


def drawn(low: npt.NDArray[np.float64], high: npt.NDArray[np.float64]) -> str:
    """The curve of the middles between these minima and maxima, NaN for blank."""
    if np.isnan(low).all():
        return ""
    middle = low / 2 + high / 2
    bottom, top = float(np.nanmin(middle)), float(np.nanmax(middle))
    if top == bottom:
        return "".join(" " if np.isnan(value) else _LEVELS[4] for value in middle.tolist())
    return "".join(map(_level, ((middle / 2 - bottom / 2) / (top / 2 - bottom / 2)).tolist()))


def _level(share: Any) -> str:
    return " " if share != share else _LEVELS[1 + min(7, int(share * 8))]
