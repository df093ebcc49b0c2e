"""The points of a run's metrics as NumPy columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from trackway.api._frames import Columnar
from trackway.backend.points import Metric, Series, live_line, resolve
from trackway.errors import ArgumentError

__all__ = ["History", "Metric", "Series", "live_line", "resolve"]


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
            metric. Where a metric has no point at a
            step it is NaN (None in a column of objects); integers with gaps become float64.

        Raises:
            ArgumentError: A series holds several points of one step (``repeats="all"``).
        """
        if not self._series:
            return {"step": np.empty(0, np.int64)}
        steps = np.unique(np.concatenate([series.steps for series in self._series.values()]))
        table: dict[str, npt.NDArray[Any]] = {"step": steps}
        if self.x != "step":
            table[self.x] = self._places(steps)
        for key, series in self._series.items():
            if len(np.unique(series.steps)) != len(series):
                raise ArgumentError(
                    f"{key!r} has several points at one step: ask history(repeats='last') to join"
                )
            if key not in table:
                table[key] = _spread(series, steps)
        return table

    def _places(self, steps: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Where each step lies on the axis: as the last metric says that has a point there."""
        column: npt.NDArray[Any] = np.full(len(steps), np.nan)
        for series in self._series.values():
            x = series.steps if series.x is None else series.x
            if x.dtype == object and column.dtype != object:
                column = column.astype(object)
            column[np.searchsorted(steps, series.steps)] = x
        return column


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
