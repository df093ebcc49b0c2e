"""The points of a run's metrics as NumPy columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from trackway.backend.points import Metric, Series, live_line, resolve
from trackway.errors import ArgumentError, MissingExtraError

if TYPE_CHECKING:
    import pandas

__all__ = ["History", "Metric", "Series", "live_line", "resolve"]


class History(Mapping[str, Series]):
    """Metrics by name. Iterates over the names, sorted."""

    def __init__(self, series: Mapping[str, Series]) -> None:
        self._series = dict(sorted(series.items()))

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
            ``step`` (int64, ascending), then a column a metric. Where a metric has no point at a
            step it is NaN (None in a column of objects); integers with gaps become float64.

        Raises:
            ArgumentError: A series holds several points of one step (``repeats="all"``).
        """
        if not self._series:
            return {"step": np.empty(0, np.int64)}
        steps = np.unique(np.concatenate([series.steps for series in self._series.values()]))
        table: dict[str, npt.NDArray[Any]] = {"step": steps}
        for key, series in self._series.items():
            if len(np.unique(series.steps)) != len(series):
                raise ArgumentError(
                    f"{key!r} has several points at one step: ask history(repeats='last') to join"
                )
            table[key] = _spread(series, steps)
        return table

    def to_pandas(self) -> pandas.DataFrame:
        """``table()`` as a data frame.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise MissingExtraError(
                "a data frame needs pandas: pip install 'trackway[export]'"
            ) from None
        return pandas.DataFrame(self.table())


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
