"""The points of a run's metrics as NumPy columns."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from trackway.backend.file.run_logs import Columns
from trackway.errors import ArgumentError, MissingExtraError

if TYPE_CHECKING:
    import pandas

__all__ = ["History", "Metric", "Series", "live_line", "resolve"]


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
    """

    key: str
    steps: npt.NDArray[Any]
    times: npt.NDArray[np.float64]
    values: npt.NDArray[Any]
    attempts: npt.NDArray[np.int64]

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
