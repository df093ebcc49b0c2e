"""Chunks back to points: decoded once, kept within a bound, joined as the logs tell them."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from trackway.backend.file.run_logs import Columns, Part, joined
from trackway.backend.index import codec
from trackway.backend.index.contract import Chunk, Head, Reading
from trackway.backend.index.source import Cells
from trackway.backend.points import Metric, resolve

__all__ = ["Points", "Writers", "columns_of", "metric_of", "metrics_of"]

CACHE_BYTES: Final = 128 << 20
HEADS_KEPT: Final = 16
ENCODED_BYTES: Final = 16 << 20
CELL_BYTES: Final = 16 << 20

Values = npt.NDArray[Any]

Writers = Mapping[int, tuple[int, int]]
"""For each log of a run: its place in the order of writers, and the attempt it belongs to."""


class _Kept:
    """What was used last, up to a number of bytes. For several threads."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._bytes = 0
        self._things: OrderedDict[object, tuple[Any, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, name: object) -> Any:
        with self._lock:
            entry = self._things.get(name)
            if entry is None:
                return None
            self._things.move_to_end(name)
            return entry[0]

    def put(self, name: object, thing: Any, size: int) -> None:
        if size > self._limit // 4:
            return
        with self._lock:
            if name not in self._things:
                self._things[name] = thing, size
                self._bytes += size
            while self._bytes > self._limit:
                self._bytes -= self._things.popitem(last=False)[1][1]

    def put_array(self, name: object, array: Values) -> None:
        """Keep an array, which is handed out more than once: it cannot be written to."""
        array.flags.writeable = False
        self.put(name, array, array.nbytes if array.dtype != object else 64 * len(array))

    def clear(self) -> None:
        with self._lock:
            self._things.clear()
            self._bytes = 0


class Heads(dict[int, list[Chunk]]):
    """The chunks of one key by run.

    Attributes:
        straight: The runs whose points simply follow each other.
    """

    straight: frozenset[int] = frozenset()


def follow(chunks: Sequence[Chunk]) -> bool:
    """Whether these are numbers of one log, each at a higher step than the one before."""
    log, last = chunks[0].log, None
    for chunk in chunks:
        head = chunk.head
        if not head.rises or "o" in head.types or chunk.log != log:
            return False
        if last is not None and head.low <= last:
            return False
        last = head.high
    return True


class Points:
    """Decodes what a store holds.

    Numbers of chunks and axes are never used again, so what was decoded stays right; but for those
    that a transaction gave out which then did not happen: whoever opened it calls ``forget``.
    """

    def __init__(self, limit: int = CACHE_BYTES) -> None:
        self._values = _Kept(limit // 2)
        self._axes = _Kept(limit // 2)
        self._encoded = _Kept(ENCODED_BYTES)
        self._names: dict[int, str] = {}
        self._numbers: dict[tuple[str, str], int] = {}
        self._cells = _Kept(CELL_BYTES)
        self._heads: OrderedDict[tuple[Any, ...], Heads] = OrderedDict()
        self._lock = threading.Lock()

    def forget(self) -> None:
        """Keep nothing of what was decoded."""
        with self._lock:
            for kept in (self._values, self._axes, self._encoded):
                kept.clear()
            self._names, self._numbers = {}, {}
            self._cells.clear()
            self._heads.clear()

    def names(self, reading: Reading, keys: Collection[int]) -> Mapping[int, str]:
        """At least the names of these keys, by number."""
        if not self._names.keys() >= set(keys):
            self._learn(reading)
        return self._names

    def number(self, reading: Reading, space: str, name: str) -> int | None:
        """The number of a key; None where no run of the index has or had it."""
        if (space, name) not in self._numbers:
            self._learn(reading)
        return self._numbers.get((space, name))

    def _learn(self, reading: Reading) -> None:
        keys = reading.keys()
        self._names = {key.key: key.name for key in keys}
        self._numbers = {(key.space, key.name): key.key for key in keys}

    def heads(
        self, reading: Reading, revision: int, runs: Sequence[int], key: int, *, cells: bool = False
    ) -> Heads:
        """The chunks of a key in these runs, by run, without their values.

        A chart is asked for again and again: those of the last questions are kept, as long as the
        store is at the same revision.
        """
        question = (revision, tuple(runs), key, cells)
        with self._lock:
            known = self._heads.get(question)
        if known is None:
            known = Heads()
            for chunk in reading.chunks(runs, [key], data=False, cells=cells):
                known.setdefault(chunk.run, []).append(chunk)
            known.straight = frozenset(run for run, found in known.items() if follow(found))
            with self._lock:
                self._heads[question] = known
                while len(self._heads) > HEADS_KEPT:
                    self._heads.popitem(last=False)
        return known

    def cells(self, chunk: int, data: bytes) -> Cells:
        """The pyramid of a chunk."""
        cells: Cells | None = self._cells.get(chunk)
        if cells is None:
            cells = codec.decode_cells(data)
            size = sum(getattr(cells, name).nbytes for name in Cells.__dataclass_fields__)
            self._cells.put(chunk, cells, size)
        return cells

    def values(self, reading: Reading, chunks: Sequence[Chunk]) -> list[Values]:
        """The values of each chunk: float32, float64 or objects. Not to be written to."""
        found = [self._values.get(chunk.chunk) for chunk in chunks]
        missing = [c.chunk for c, values in zip(chunks, found, strict=True) if values is None]
        data = reading.chunk_data(missing) if missing else {}
        told: list[Values] = []
        for chunk, values in zip(chunks, found, strict=True):
            if values is None:
                values = decoded(data[chunk.chunk], chunk.head.types)
                self._values.put_array(chunk.chunk, values)
            told.append(values)
        return told

    def axes(self, reading: Reading, axes: Collection[int]) -> Mapping[int, bytes]:
        """The encoded steps of these axes: equal bytes are equal steps."""
        told: dict[int, bytes] = {}
        missing: list[int] = []
        for axis in axes:
            encoded = self._encoded.get(axis)
            if encoded is None:
                missing.append(axis)
            else:
                told[axis] = encoded
        for number, found in (reading.axes(missing) if missing else {}).items():
            told[number] = found.steps
            self._encoded.put(number, found.steps, len(found.steps) + 100)
        return told

    def steps(self, encoded: bytes) -> Values:
        """The steps that were encoded like this."""
        steps: Values | None = self._axes.get(encoded)
        if steps is None:
            steps = codec.decode_steps(encoded)
            self._axes.put_array(encoded, steps)
        return steps

    def times(self, reading: Reading, axes: Collection[int]) -> dict[int, Values]:
        """The times of these axes."""
        found = {axis: self._axes.get(axis) for axis in axes}
        missing = [axis for axis, times in found.items() if times is None]
        told = {axis: times for axis, times in found.items() if times is not None}
        for number, axis in (reading.axes(missing) if missing else {}).items():
            told[number] = codec.decode_times(axis.times)
            self._axes.put_array(number, told[number])
        return told


def decoded(data: bytes, types: str) -> Values:
    """The values of a chunk with these types."""
    if "o" not in types:
        return codec.decode_values(data)
    told = codec.decode_objects(data)
    values = np.empty(len(told), object)
    for place, value in enumerate(told):  # one by one: NumPy would take lists apart
        values[place] = value
    return values


def columns_of(
    reading: Reading,
    points: Points,
    chunks: Sequence[Chunk],
    writers: Writers,
    tail: Iterable[Part] = (),
) -> Columns:
    """Every arrival of one metric of one run, as ``RunLogs.columns`` gives it.

    Args:
        reading: Where the chunks are.
        points: What decodes them.
        chunks: All chunks of the metric in the run, by (log, seq).
        writers: Of the run's logs.
        tail: What is behind the index; offsets are those in the file.
    """
    parts: list[Part] = []
    times = points.times(reading, {chunk.axis for chunk in chunks})
    encoded = points.axes(reading, {chunk.axis for chunk in chunks})
    for chunk, values in zip(chunks, points.values(reading, chunks), strict=True):
        number, attempt = writers.get(chunk.log, (0, 1))
        # Places in the index come before all that is behind it, and in the order of the chunks.
        offsets = np.arange(-chunk.head.n, 0, dtype=np.int64) + ((chunk.seq - (1 << 31)) << 31)
        if values.dtype == np.float32:
            values = values.astype(np.float64)
        steps = points.steps(encoded[chunk.axis])
        parts.append(
            Part(number, attempt, chunk.head.types, offsets, steps, times[chunk.axis], values)
        )
    return joined([*parts, *tail])


def metrics_of(
    reading: Reading,
    points: Points,
    chunks: Sequence[Chunk],
    writers: Writers,
) -> dict[str, Metric]:
    """The statistics of the live lines of one run's metrics, from the heads where those suffice.

    Args:
        reading: Where the chunks are.
        points: What decodes them.
        chunks: All chunks of some metrics in the run, by (key, log, seq).
        writers: Of the run's logs.
    """
    by_key: dict[int, list[Chunk]] = {}
    for chunk in chunks:
        by_key.setdefault(chunk.key, []).append(chunk)
    names = points.names(reading, by_key)
    told = {}
    for key, mine in by_key.items():
        metric = metric_of(names[key], mine, writers)
        if metric is None:
            columns = columns_of(reading, points, mine, writers)
            live = resolve(names[key], columns, attempts="live", repeats="last", order="step")
            metric = Metric.of(live)
        told[names[key]] = metric
    return told


def metric_of(name: str, chunks: Sequence[Chunk], writers: Writers) -> Metric | None:
    """A metric's statistics from the heads of its chunks alone.

    Returns:
        None where they do not tell: steps repeat or were replaced, or values are no numbers.
    """
    if len(chunks) == 1:
        return _metric_of_head(name, chunks[0].head)
    ordered = chunks
    if any(chunk.log != chunks[0].log for chunk in chunks):
        ordered = sorted(chunks, key=lambda c: (writers.get(c.log, (0, 1))[::-1], c.seq))
    heads = [chunk.head for chunk in ordered]
    if not all(math.isfinite(head.sum) for head in heads):
        return None  # a sum beyond float64, of values that are not
    if any(not head.rises or "o" in head.types for head in heads) or any(
        after.low <= before.high for before, after in pairwise(heads)
    ):
        return None
    plain = _plain({letter for head in heads for letter in head.types}, heads)
    there = [head for head in heads if head.nan < head.n]
    told: dict[str, Any] = {}
    if there:
        low = min(there, key=lambda head: head.min)
        high = max(there, key=lambda head: head.max)
        told = {
            "min": plain(low.min),
            "min_step": low.min_step,
            "max": plain(high.max),
            "max_step": high.max_step,
        }
        if any(head.inf for head in there):
            ends = {head.min for head in there} | {head.max for head in there}
            told["mean"] = sum(end for end in ends if end in (float("inf"), float("-inf")))
        else:
            told["mean"] = sum(head.sum for head in there) / sum(h.n - h.nan for h in there)
    return Metric(
        name,
        count=sum(head.n for head in heads),
        nan=sum(head.nan for head in heads),
        first=plain(heads[0].first),
        last=plain(heads[-1].last),
        last_step=heads[-1].high,
        **told,
    )


def _metric_of_head(name: str, head: Head) -> Metric | None:
    """What ``metric_of`` says of a single chunk, as most metrics of many short runs have."""
    if not head.rises or "o" in head.types or not math.isfinite(head.sum):
        return None
    plain = float if head.types == "f" else _plain({*head.types}, [head])
    first, last = plain(head.first), plain(head.last)
    if head.nan == head.n:
        return Metric(name, head.n, head.nan, first=first, last=last, last_step=head.high)
    mean = head.sum / (head.n - head.nan)
    if head.inf:
        mean = sum({end for end in (head.min, head.max) if math.isinf(end)})
    return Metric(
        name,
        head.n,
        head.nan,
        plain(head.min),
        plain(head.max),
        mean,
        first,
        last,
        head.high,
        head.min_step,
        head.max_step,
    )


def _plain(letters: set[str], heads: Sequence[Any]) -> Any:
    """What makes a value of a head what it was logged as."""
    ends = [v for head in heads for v in (head.first, head.last, head.min, head.max)]
    if letters == {"i"} and all(float(v).is_integer() for v in ends):
        return int
    if letters == {"b"} and all(v in (0.0, 1.0) for v in ends):
        return bool
    return float
