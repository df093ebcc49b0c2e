"""The points of one metric as arrays, put together from what each log has of it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Columns", "Part", "joined"]


@dataclass(frozen=True, slots=True)
class Columns:
    """Every arrival of one metric, in order of arrival.

    Attributes:
        steps: int64 [n] (object where a step needs more than 64 bits).
        times: float64 [n], seconds since 1970.
        values: float64, int64 or bool [n]; object where a value is no such number.
        attempts: int64 [n].
    """

    steps: npt.NDArray[Any]
    times: npt.NDArray[np.float64]
    values: npt.NDArray[Any]
    attempts: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.steps)

    def take(self, index: npt.NDArray[Any]) -> Columns:
        """The points that a mask or an index selects."""
        return Columns(
            self.steps[index], self.times[index], self.values[index], self.attempts[index]
        )


@dataclass(slots=True)
class Part:
    """The points of one metric from one writer; ``type`` is f, i, b or o (objects)."""

    writer: int
    attempt: int
    type: str
    offsets: npt.NDArray[np.int64]
    steps: npt.NDArray[Any]
    times: npt.NDArray[np.float64]
    values: npt.NDArray[Any]

    def kept(self, mask: npt.NDArray[np.bool_] | None) -> Part:
        """The points that the mask selects; all where there is none."""
        if mask is None:
            return self
        return Part(
            self.writer,
            self.attempt,
            self.type,
            self.offsets[mask],
            self.steps[mask],
            self.times[mask],
            self.values[mask],
        )


def joined(parts: list[Part]) -> Columns:
    """All of them in order of arrival."""
    if not parts:
        none = np.empty(0, np.int64)
        return Columns(none, np.empty(0), np.empty(0), none)
    types = {part.type for part in parts}
    joined = np.concatenate(beside_objects(parts) if "o" in types else [p.values for p in parts])
    if len(types) == 1:
        joined = as_declared(joined, types.pop())
    columns = Columns(
        np.concatenate([part.steps for part in parts]),
        np.concatenate([part.times for part in parts]),
        joined,
        np.concatenate([np.full(len(p.steps), p.attempt, np.int64) for p in parts]),
    )
    if len({part.writer for part in parts}) == 1 and _rises(parts):
        return columns
    writers = np.concatenate([np.full(len(p.steps), p.writer, np.int64) for p in parts])
    offsets = np.concatenate([part.offsets for part in parts])
    return columns.take(_arrival(columns, writers, offsets))


def _rises(parts: list[Part]) -> bool:
    """Whether the parts of one writer are in the order of their places, as they mostly are."""
    ends = [(part.offsets[0], part.offsets[-1]) for part in parts if len(part.offsets)]
    inner = all((part.offsets[1:] > part.offsets[:-1]).all() for part in parts)
    return inner and all(a[1] < b[0] for a, b in pairwise(ends))


def as_declared(values: npt.NDArray[Any], type: str) -> npt.NDArray[Any]:
    """Floats as the integers or booleans they were declared to be, where they all are.

    The letter says what the first value was; a later one may be a float of any kind.
    """
    kind = {"i": np.int64, "b": np.bool_}.get(type)
    if kind is None:
        return values
    with np.errstate(invalid="ignore"):
        declared: npt.NDArray[Any] = values.astype(kind)
    back = declared.astype(np.float64).view(np.int64)  # by their bits: -0.0 is no integer
    return declared if (back == np.ascontiguousarray(values).view(np.int64)).all() else values


def beside_objects(parts: list[Part]) -> list[npt.NDArray[Any]]:
    """The values of all parts as objects.

    Whether values that were declared integers are, is decided for all of them together: it must
    not depend on how the reading, or a compaction, happened to cut them into parts.
    """
    values = [np.empty(len(part.values), object) for part in parts]
    for type in {part.type for part in parts}:
        alike = [index for index, part in enumerate(parts) if part.type == type]
        together = np.concatenate([parts[index].values for index in alike])
        told = as_declared(together, type)
        at = 0
        for index in alike:
            size = len(values[index])
            values[index][:] = told[at : at + size].tolist() if type != "o" else parts[index].values
            at += size
    return values


def _arrival(
    columns: Columns, writers: npt.NDArray[np.int64], offsets: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    if (writers == writers[0]).all() and (columns.attempts == columns.attempts[0]).all():
        return np.argsort(offsets, kind="stable")
    # Within a writer the time counts as what it was at most so far, so that a clock that was set
    # back cannot put a later record before an earlier one.
    times = columns.times.copy()
    for writer in np.unique(writers).tolist():
        mine = np.flatnonzero(writers == writer)
        mine = mine[np.argsort(offsets[mine], kind="stable")]
        times[mine] = np.fmax.accumulate(times[mine])
    return np.lexsort((offsets, writers, times, columns.attempts))
