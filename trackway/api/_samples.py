"""A few points of many that draw the same line."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trackway.api._history import as_floats
from trackway.api._places import taken
from trackway.backend.points import Series

__all__ = ["sampled"]


def sampled(series: Series, samples: int) -> Series:
    """At most ``samples`` points of a series, in its order, first and last among them.

    The range of ``x`` (or of the steps) is cut into a quarter as many parts, and of each part the
    first, the lowest, the highest and the last point stay (M4: Jugel et al., "M4: A
    Visualization-Oriented Time Series Data Aggregation", VLDB 2014). NaN is neither lowest nor
    highest. A point whose ``x`` is infinite or NaN is in the part at that end, NaN in the last.
    Of values or places that are no numbers, or where all points are at one place, points at even
    distances stay.
    """
    if len(series) <= samples:
        return series
    x = as_floats(series.steps if series.x is None else series.x)
    if x is None or series.values.dtype == object:
        return _thinned(series, samples)
    order = np.argsort(x, kind="stable")
    part = _parts(x[order], samples // 4)
    if part is None:
        return _thinned(series, samples)
    starts = np.flatnonzero(np.append(True, part[1:] != part[:-1]))
    ends = np.append(starts[1:], len(part)) - 1
    values = series.values[order]
    number = np.repeat(np.arange(len(starts)), ends - starts + 1)
    rising = np.lexsort((values, number))
    lowest = rising[starts]  # NaN sorts behind every number
    highest = np.lexsort((-values, number))[starts] if values.dtype.kind == "f" else rising[ends]
    return taken(series, np.unique(order[np.concatenate([starts, lowest, highest, ends])]))


def _thinned(series: Series, samples: int) -> Series:
    return taken(series, np.unique(np.linspace(0, len(series) - 1, samples).astype(np.int64)))


def _parts(x: npt.NDArray[np.float64], parts: int) -> npt.NDArray[np.int64] | None:
    """Which part of the range of rising ``x`` each is in; None where the range has no width."""
    there = x[np.isfinite(x)]
    if not len(there):
        return None
    # Halved: the difference of two float64 may be beyond float64.
    low, width = there[0] / 2, there[-1] / 2 - there[0] / 2
    if not width > 0:
        return None
    within = np.clip(np.nan_to_num(x, nan=np.inf), there[0], there[-1])
    part: npt.NDArray[np.int64] = ((within / 2 - low) / width * parts).astype(np.int64)
    return np.minimum(part, parts - 1)
