"""The exponential moving average of a line, for exports: charts smooth by themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from trackway.errors import ArgumentError

__all__ = ["ema"]


def ema(
    values: npt.NDArray[Any], alpha: float | None = None, *, halflife: float | None = None
) -> npt.NDArray[np.float64]:
    """The debiased average at each point: the weights of all points so far sum to one.

    A point k points back weighs (1 - alpha) ** k times as much as the newest. NaN has no weight,
    and the average stays there what it was; before the first value it is NaN. An infinity counts
    as a value, after which the average stays infinite (NaN after both).

    Args:
        values: Float [n].
        alpha: Weight of the newest point, above 0 and at most 1. Either this ...
        halflife: ... or after how many points a weight is halved, above 0.

    Raises:
        ArgumentError: Neither or both, or outside their range.
    """
    decay = _decay(alpha, halflife)
    total = weight = 0.0
    out = np.empty(len(values), np.float64)
    for place, value in enumerate(values.tolist()):
        if value == value:
            total = total * decay + value
            weight = weight * decay + 1.0
        out[place] = total / weight if weight else np.nan
    return out


def _decay(alpha: float | None, halflife: float | None) -> float:
    if (alpha is None) == (halflife is None):
        raise ArgumentError("either alpha or halflife")
    if alpha is not None:
        if not 0.0 < alpha <= 1.0:
            raise ArgumentError(f"alpha={alpha!r}: it is above 0 and at most 1")
        return 1.0 - alpha
    if halflife is None or not halflife > 0.0:
        raise ArgumentError(f"halflife={halflife!r}: it is above 0")
    decay: float = 0.5 ** (1.0 / halflife)
    return decay
