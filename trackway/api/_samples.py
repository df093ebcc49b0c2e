"""A few points of many that draw the same line."""

from __future__ import annotations

import numpy as np

from trackway.api._places import taken
from trackway.backend.points import Series

__all__ = ["sampled"]


def sampled(series: Series, samples: int) -> Series:
    """At most ``samples`` points of a series, in its order, first and last among them.

    The range of ``x`` (or of the steps) is cut into a quarter as many parts, and of each part the
    first, the lowest, the highest and the last point stay (M4: Jugel et al., "M4: A
    Visualization-Oriented Time Series Data Aggregation", VLDB 2014). NaN is neither lowest nor
    highest. Of values that are no numbers points at even distances stay.
    """
    if len(series) <= samples:
        return series
    if series.values.dtype == object:
        return taken(series, np.unique(np.linspace(0, len(series) - 1, samples).astype(np.int64)))
    x = np.asarray(series.steps if series.x is None else series.x, np.float64)
    order = np.argsort(x, kind="stable")
    parts = samples // 4
    low, high = x[order[0]], x[order[-1]]
    width = (high - low) / parts
    if not width > 0:  # one place, or none that is a number
        return taken(series, np.unique(np.linspace(0, len(series) - 1, samples).astype(np.int64)))
    part = np.minimum(((x[order] - low) / width).astype(np.int64), parts - 1)
    starts = np.flatnonzero(np.append(True, part[1:] != part[:-1]))
    ends = np.append(starts[1:], len(part)) - 1
    values = series.values[order].astype(np.float64)
    number = np.repeat(np.arange(len(starts)), ends - starts + 1)
    lowest = np.lexsort((values, number))[starts]  # NaN sorts behind every number
    highest = np.lexsort((-values, number))[starts]
    return taken(series, np.unique(order[np.concatenate([starts, lowest, highest, ends])]))
