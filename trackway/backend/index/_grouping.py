"""Groups of rows, and what the values of a group come to."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

import numpy as np

from trackway.backend.index._sorting import identity
from trackway.backend.index.columns import Column, Indices
from trackway.errors import ArgumentError

__all__ = ["AGGREGATES", "Group", "aggregate", "split", "varies"]


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Runs that agree in some values.

    Attributes:
        by: What they agree in, as expressions.
        values: Their values, one for each of ``by``; ``MISSING`` where the runs have none.
        index: int64: the rows of its runs, in the order of the table.
        aggregates: What was asked for, by (expression, function); None where there is no answer.
    """

    by: tuple[str, ...]
    values: tuple[Any, ...]
    index: Indices
    aggregates: dict[tuple[str, str], Any]

    @property
    def count(self) -> int:
        """How many runs it has."""
        return len(self.index)


def split(columns: Sequence[Column], rows: Indices) -> list[Indices]:
    """The rows by equal values in all columns; groups in the order of their first rows."""
    if not len(rows):
        return []
    if not columns:
        return [rows]
    parts = [identity(column) for column in columns]
    if len(rows) < len(columns[0]):
        parts = [(kinds[rows], bits[rows]) for kinds, bits in parts]
    parts = [part for part in parts if any((array != array[0]).any() for array in part)]
    if not parts:
        return [rows]
    kinds = np.stack([part[0] for part in parts], axis=1)
    bits = np.stack([part[1] for part in parts], axis=1)
    packed = np.concatenate([bits.view(np.uint8), kinds], axis=1)
    keys = np.ascontiguousarray(packed).view(f"V{packed.shape[1]}").ravel().tolist()
    places: dict[bytes, int] = {}
    labels = np.array([places.setdefault(key, len(places)) for key in keys], np.int64)
    ordered = np.argsort(labels, kind="stable")
    ends = np.cumsum(np.bincount(labels, minlength=len(places)))
    return [rows[part] for part in np.split(ordered, ends[:-1])]


def varies(column: Column, rows: Indices) -> bool:
    """Whether two of the rows hold different values."""
    return any(bool((array[rows] != array[rows[0]]).any()) for array in identity(column))


# -- aggregates ------------------------------------------------------------------------------------


def _mean(numbers: list[float]) -> float:
    return _sum(numbers) / len(numbers)


def _sum(numbers: list[float]) -> float:
    try:
        return math.fsum(numbers)
    except (OverflowError, ValueError):  # beyond float64, or infinities of both signs
        return sum(numbers)


def _std(numbers: list[float]) -> float | None:
    if len(numbers) < 2:
        return None
    if not all(map(math.isfinite, numbers)):
        return math.nan
    middle = _mean(numbers)
    scale = max(abs(number - middle) for number in numbers) or 1.0
    squares = math.fsum(((number - middle) / scale) ** 2 for number in numbers)
    return scale * math.sqrt(squares / (len(numbers) - 1))


_OF_NUMBERS: Final[dict[str, Callable[[list[float]], float | None]]] = {
    "max": max,
    "mean": _mean,
    "median": median,
    "min": min,
    "std": _std,
    "sum": _sum,
}
AGGREGATES: Final = ("count", "first", "max", "mean", "median", "min", "std", "sum")


def aggregate(function: str, column: Column, groups: Sequence[Indices]) -> list[Any]:
    """One value for each group.

    ``count`` is how many rows have a value, ``first`` the first such value. The others are of
    numbers (bools count as 0 and 1), NaN left out; None where there is none. ``std`` divides by
    n - 1 and is None for a single number.
    """
    if function == "count":
        return [int(np.count_nonzero(column.kinds[rows])) for rows in groups]
    if function == "first":
        return [_first(column, rows) for rows in groups]
    if function not in _OF_NUMBERS:
        known = ", ".join(AGGREGATES)
        raise ArgumentError(f"there is no aggregate {function!r}; there are {known}")
    apply = _OF_NUMBERS[function]
    return [apply(values) if values else None for values in _numbers(column, groups)]


def _numbers(column: Column, groups: Sequence[Indices]) -> Iterator[list[float]]:
    """The numbers of each group."""
    if not groups:
        return
    rows = np.concatenate(groups)
    numbers = column.numbers[rows]
    usable = ~np.isnan(numbers)
    values = numbers[usable].tolist()
    ends = np.cumsum(np.fromiter(map(len, groups), np.int64, len(groups)))
    start = 0
    for end in np.concatenate([[0], np.cumsum(usable)])[ends].tolist():
        yield values[start:end]
        start = end


def _first(column: Column, rows: Indices) -> Any:
    there = np.flatnonzero(column.kinds[rows])
    return column.value(int(rows[there[0]])) if len(there) else None
