"""The points of a run's metrics as NumPy columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from trackway.api._frames import Columnar
from trackway.backend.points import Metric, Series, live_line, resolve
from trackway.errors import ArgumentError

__all__ = [
    "History",
    "Metric",
    "Series",
    "as_floats",
    "axis_metric",
    "column_names",
    "live_line",
    "resolve",
]

_METRIC: Final = "metric:"


class History(Columnar, Mapping[str, Series]):
    """Metrics by name. Iterates over the names, sorted.

    Attributes:
        x: The axis that was asked for.
    """

    def __init__(self, series: Mapping[str, Series], x: str = "step") -> None:
        self._series = dict(sorted(series.items()))
        self.x = x

    def __getitem__(self, key: str) -> Series:
        return self._series[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._series)

    def __len__(self) -> int:
        return len(self._series)

    def __repr__(self) -> str:
        points = sum(map(len, self._series.values()))
        return f"<History of {len(self)} metrics, {points} points>"

    def table(self) -> dict[str, npt.NDArray[Any]]:
        """All metrics joined on their steps, as columns of one length.

        Returns:
            ``step`` (int64, ascending), then the axis where it is another one, then a column a
            metric. Where a metric has no point at a step it is NaN (None in a column of objects);
            integers and booleans with gaps become float64. A metric that is itself called like
            one of the first columns comes as ``metric/step``.

        Raises:
            ArgumentError: A series holds several points of one step (``repeats="all"``).
        """
        if not self._series:
            return {"step": np.empty(0, np.int64)}
        steps = np.unique(np.concatenate([series.steps for series in self._series.values()]))
        table: dict[str, npt.NDArray[Any]] = {"step": steps}
        axis = axis_metric(self.x)
        if axis is None and self.x != "step":
            table[self.x] = self._places(steps)
        keys = [] if axis is None else [axis]
        keys += [key for key in self._series if key != axis]
        for key, name in zip(keys, column_names(list(table), keys), strict=True):
            table[name] = self._places(steps) if key == axis else self._spread(key, steps)
        return table

    def smoothed(self, alpha: float | None = None, *, halflife: float | None = None) -> History:
        """Each metric as its exponential moving average, for export; charts smooth by themselves.

        The average is debiased: the weights of all points so far sum to one. It goes from point
        to point in the order of the series, whatever lies between them. NaN has no weight, and
        the average stays there what it was. Values become float64; metrics with text or lists stay
        as they are.

        Args:
            alpha: Weight of the newest point, above 0 and at most 1. Either this ...
            halflife: ... or after how many points a weight is halved, above 0.

        Raises:
            ArgumentError: Neither or both, or outside their range.
        """
        from trackway.backend.index.ema import ema

        ema(np.empty(0), alpha, halflife=halflife)  # the arguments count without a point, too
        told = {}
        for key, series in self._series.items():
            values = as_floats(series.values)
            if values is not None:
                series = replace(series, values=ema(values, alpha, halflife=halflife))
            told[key] = series
        return History(told, self.x)

    def _spread(self, key: str, steps: npt.NDArray[Any]) -> npt.NDArray[Any]:
        series = self._series[key]
        if len(np.unique(series.steps)) != len(series):
            raise ArgumentError(
                f"{key!r} has several points at one step: ask history(repeats='last') to join"
            )
        return _spread(series, steps)

    def _places(self, steps: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Where each step lies on the axis: as the last metric says that has a point there."""
        places = [series.steps if series.x is None else series.x for series in self.values()]
        # Each step is one of some series, and all of them have their x from the same values.
        column = np.empty(len(steps), places[0].dtype)
        for series, x in zip(self.values(), places, strict=True):
            column[np.searchsorted(steps, series.steps)] = x
        return column


def axis_metric(x: str) -> str | None:
    """The name of the metric that an axis is; None for ``step``, ``time`` and ``relative``."""
    return None if x in ("step", "time", "relative") else x.removeprefix(_METRIC)


def column_names(lead: Sequence[str], keys: Sequence[str]) -> list[str]:
    """A name a metric, none of them one of the first columns': those come as ``metric/step``."""
    taken = {*lead, *keys}
    names = []
    for key in keys:
        name = key
        while name in lead or (name != key and name in taken):
            name = f"metric/{name}"
        names.append(name)
    return names


def as_floats(values: npt.NDArray[Any]) -> npt.NDArray[np.float64] | None:
    """Numbers as float64; None where some are none, or beyond float64."""
    if values.dtype == object and not all(isinstance(v, (int, float)) for v in values):
        return None
    try:
        return values.astype(np.float64)
    except OverflowError:
        return None


def _spread(series: Series, steps: npt.NDArray[Any]) -> npt.NDArray[Any]:
    places = np.searchsorted(steps, series.steps)
    if len(series) == len(steps):
        column = np.empty(len(steps), series.values.dtype)
    elif series.values.dtype == object:
        column = np.full(len(steps), None, object)
    else:
        column = np.full(len(steps), np.nan)
    column[places] = series.values
    return column
