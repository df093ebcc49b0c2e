"""The heads of many chunks with one axis at once: for a short one a head is mostly overhead."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from trackway.backend.index.codec import head_of
from trackway.backend.index.contract import Head

__all__ = ["heads_of"]

_SMALL: Final = 4096
"""Points from which on a column is worth the calls it takes by itself."""

Values = npt.NDArray[Any]


def heads_of(
    steps: Values, times: npt.NDArray[np.float64], values: Sequence[Values], types: Sequence[str]
) -> list[Head]:
    """``head_of`` for each of several columns over the same steps and times."""
    rises = steps.dtype != object and bool((steps[1:] > steps[:-1]).all())
    plain = all(column.dtype == np.float64 for column in values)
    if len(values) < 4 or len(steps) > _SMALL or not rises or not plain:
        return [
            head_of(steps, times, column, letters)
            for column, letters in zip(values, types, strict=True)
        ]
    matrix = np.stack(list(values), axis=1)
    nan = np.isnan(matrix)
    finite = np.isfinite(matrix)
    low, high = np.fmin.reduce(matrix, axis=0), np.fmax.reduce(matrix, axis=0)
    none = nan.all(axis=0)
    rows = zip(
        nan.sum(axis=0).tolist(),
        (~finite & ~nan).sum(axis=0).tolist(),
        low.tolist(),
        high.tolist(),
        np.where(finite, matrix, 0.0).sum(axis=0).tolist(),
        matrix[0].tolist(),
        matrix[-1].tolist(),
        np.where(none, 0, steps[(matrix == low).argmax(axis=0)]).tolist(),
        np.where(none, 0, steps[(matrix == high).argmax(axis=0)]).tolist(),
        types,
        strict=True,
    )
    n, first_step, last_step = len(steps), int(steps[0]), int(steps[-1])
    first_time, last_time = float(times.min()), float(times.max())
    return [
        Head(
            n=n,
            nan=nans,
            inf=infinities,
            min=lowest,
            max=highest,
            sum=total,
            first=first,
            last=last,
            low=first_step,
            high=last_step,
            low_time=first_time,
            high_time=last_time,
            min_step=min_step,
            max_step=max_step,
            rises=True,
            types=letters,
        )
        for (
            nans,
            infinities,
            lowest,
            highest,
            total,
            first,
            last,
            min_step,
            max_step,
            letters,
        ) in rows
    ]
