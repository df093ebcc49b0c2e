"""A run that is being written, as far as a person at a terminal follows it.

Each refresh reads what is new in the logs and nothing else: it costs as much for a run of a week
as for one of a minute. What was read is folded into a few numbers and at most 256 buckets a
metric. Only where points come in another order (a step logged again, an attempt that goes back,
a deletion) is a metric worked out from all of its points, once each time it changes.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from trackway.api import ConsoleLine, Metric, Series, StoredRun
from trackway.backend.file.folder import logs
from trackway.backend.file.format import SYSTEM, Event
from trackway.backend.file.reader import Batch, LogReader, Rows
from trackway.backend.file.run_logs import RunLogs, Written, data_of
from trackway.backend.record import RunRecord, tell_record

__all__ = ["Follow", "Live", "chosen", "config_total"]

_BUCKETS: Final = 256
_WINDOW_S: Final = 60.0
_APART_S: Final = 0.2
_EXACT: Final = 1 << 53
_PASSED: Final = frozenset({"console", "value"})


@dataclass(slots=True)
class Live:
    """A metric so far.

    Attributes:
        key: Its name.
        count: Points of its live line, NaN included.
        min: The smallest value, NaN left out; None where there is no number.
        max: The largest, likewise.
        first: The value at the lowest step.
        last: The value at the highest step.
        step: That step; None before the first point.
        time: When the newest point was logged, seconds since 1970.
        first_time: When the first one was.
        low: Least finite value by number of a bucket of ``width`` steps.
        high: Greatest, likewise.
    """

    key: str
    count: int = 0
    min: Any = None
    max: Any = None
    first: Any = None
    last: Any = None
    step: int | None = None
    time: float = 0.0
    first_time: float = 0.0
    attempt: int = 0
    width: int = 1
    low: dict[int, float] = field(default_factory=dict)
    high: dict[int, float] = field(default_factory=dict)
    irregular: bool = False

    def add(self, series: Series, attempt: int) -> None:
        """Take in points of one attempt; ``irregular`` is set where their order forbids it."""
        if not len(series):
            return
        self.time = max(self.time, float(series.times[-1]))
        if self.irregular or not self._follows(series, attempt):
            self.irregular = True
            return
        self.attempt = attempt
        self._fold(Metric.of(series), float(series.times[0]))
        self._draw(series)

    def replace(self, series: Series) -> None:
        """Begin anew with the live line, whole and in step order."""
        time = self.time
        fresh = Live(self.key, time=time, irregular=True)
        if len(series):
            fresh._fold(Metric.of(series), float(series.times[0]))
            fresh._draw(series)
        for name in ("count", "min", "max", "first", "last", "step", "first_time"):
            setattr(self, name, getattr(fresh, name))
        self.width, self.low, self.high = fresh.width, fresh.low, fresh.high

    def _follows(self, series: Series, attempt: int) -> bool:
        steps = series.steps
        if steps.dtype == object or attempt < self.attempt:
            return False
        behind = self.step is not None and int(steps[0]) <= self.step
        return not behind and bool((steps[1:] > steps[:-1]).all())

    def _fold(self, metric: Metric, time: float) -> None:
        if not self.count:
            self.first, self.first_time = metric.first, time
        self.count += metric.count
        self.last, self.step = metric.last, metric.last_step
        if metric.min is not None:
            self.min = metric.min if self.min is None else min(self.min, metric.min)
            self.max = metric.max if self.max is None else max(self.max, metric.max)

    def _draw(self, series: Series) -> None:
        if series.values.dtype == object or series.steps.dtype == object:
            return
        values = series.values.astype(np.float64)
        finite = np.isfinite(values)
        steps, values = series.steps[finite], values[finite]
        if not len(steps):
            return
        anchor = min(self.low, default=0) * self.width
        first = min(anchor, int(steps.min())) if self.low else int(steps.min())
        while (int(steps.max()) - first) // self.width >= _BUCKETS:
            self._widen()
        places = steps // self.width
        for place in np.unique(places).tolist():
            mine = values[places == place] if len(places) > 1 else values
            self.low[place] = min(self.low.get(place, math.inf), float(mine.min()))
            self.high[place] = max(self.high.get(place, -math.inf), float(mine.max()))

    def _widen(self) -> None:
        self.width *= 2
        low: dict[int, float] = {}
        high: dict[int, float] = {}
        for place, value in self.low.items():
            low[place // 2] = min(low.get(place // 2, math.inf), value)
            high[place // 2] = max(high.get(place // 2, -math.inf), self.high[place])
        self.low, self.high = low, high

    def curve(self, width: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Least and greatest finite value in at most ``width`` equal parts of the steps."""
        if not self.low:
            return np.empty(0), np.empty(0)
        first, last = min(self.low), max(self.low)
        count = min(width, last - first + 1)
        low, high = np.full(count, np.nan), np.full(count, np.nan)
        places = np.array([(p - first) * count // (last - first + 1) for p in self.low])
        np.fmin.at(low, places, np.array(list(self.low.values())))
        np.fmax.at(high, places, np.array([self.high[place] for place in self.low]))
        return low, high


class _Kept(RunLogs):
    """The logs without their points and their console: what a record is told from."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.batches: list[tuple[Written, Batch]] = []

    def refresh(self) -> bool:
        """Nothing: ``news`` reads."""
        return False

    def news(self) -> Iterator[tuple[Written, Batch | None]]:
        """What is new, a stretch at a time; None for a log that begins anew or is gone."""
        present = logs(self.folder)
        for path in set(self._written) - {*present}:
            yield self._written.pop(path), None
        for path in present:
            written = self._written.setdefault(path, Written(LogReader(path)))
            yield from self._read(written)

    def _read(self, written: Written) -> Iterator[tuple[Written, Batch | None]]:
        restarts = written.reader.restarts
        try:
            for batch in written.reader.stretches():
                if written.reader.restarts != restarts:
                    restarts = written.reader.restarts
                    written.clear()
                    yield written, None
                written.events += [(at, e) for at, e in batch.events if e.type not in _PASSED]
                if batch.rows and not written.rows:
                    written.rows = [_first_of(batch.rows[0])]
                yield written, batch
        except FileNotFoundError:
            yield written, None


def _first_of(rows: Rows) -> Rows:
    return Rows(
        rows.keyset,
        rows.offsets[:1].copy(),
        rows.steps[:1].copy(),
        rows.times[:1].copy(),
        rows.values[:1].copy(),
    )


class Follow:
    """A run and what is new in it.

    Args:
        run: The run.
        lines: How many of the last lines that it printed are kept.

    Attributes:
        record: Everything about it but points and console.
        metrics: By name.
        system: The latest sample of each measure of the machine.
        step: The highest step logged so far, in metrics of numbers.
    """

    def __init__(self, run: StoredRun, lines: int = 5) -> None:
        self.run = run
        self.metrics: dict[str, Live] = {}
        self.system: dict[str, float] = {}
        self.step: int | None = None
        self.record = RunRecord()
        self._logs = _Kept(run.path)
        self._lines = lines
        self._console: dict[tuple[Path, str, int], ConsoleLine] = {}
        self._pace: deque[tuple[float, int]] = deque()

    def refresh(self, now: float | None = None) -> bool:
        """Read what is new; returns whether there was anything."""
        changed: set[str] = set()
        void = False
        found = False
        for written, batch in self._logs.news():
            found = True
            if batch is None:
                void = True
                continue
            void |= any(event.type in ("delete", "compacted") for _, event in batch.events)
            changed |= self._take(written, batch)
        if void:
            changed = self._begin_anew()
        self._work_out(changed)
        self.record = tell_record(self._logs, now)
        return found

    @property
    def name(self) -> str:
        """The run's name, or its id."""
        return self.record.name or self.run.id

    @property
    def state(self) -> str:
        """The state of the last attempt."""
        return self.record.attempts[-1].state if self.record.attempts else "lost"

    def runtime_s(self, now: float) -> float:
        """Seconds of all attempts together."""
        return sum(max(0.0, (a.ended or now) - a.started) for a in self.record.attempts)

    def steps_per_s(self) -> float | None:
        """Steps a second in the minute before the newest point; None where that says nothing."""
        if len(self._pace) < 2:
            return None
        (began, first), (ended, last) = self._pace[0], self._pace[-1]
        return (last - first) / (ended - began) if ended > began and last > first else None

    def console(self) -> list[ConsoleLine]:
        """The last lines that it printed."""
        return list(self._console.values())[-self._lines :] if self._lines else []

    # -- taking in -------------------------------------------------------------------------

    def _take(self, written: Written, batch: Batch) -> set[str]:
        changed: set[str] = set()
        for rows in batch.rows:
            keyset = written.reader.keysets.get(rows.keyset)
            if keyset is None:
                continue
            if keyset.space == SYSTEM:
                self.system |= zip(keyset.names, rows.values[-1].tolist(), strict=False)
                continue
            self._keep_pace(rows)
            for column, key in enumerate(keyset.names[: rows.values.shape[1]]):
                values = _declared(rows.values[:, column], keyset.types[column])
                self._add(Series(key, rows.steps, rows.times, values, rows.steps), written.attempt)
                changed.add(key)
        for _, event in batch.events:
            if event.type == "console":
                self._print(written, event)
            elif event.type == "value":
                changed |= self._add_values(written, event)
        return changed

    def _add(self, series: Series, attempt: int) -> None:
        live = self.metrics.get(series.key)
        if live is None:
            live = self.metrics[series.key] = Live(series.key)
        live.add(series, attempt)

    def _add_values(self, written: Written, event: Event) -> set[str]:
        """Values that were stored as events may lie between rows: they are never simply behind."""
        step, data = event.fields.get("step"), data_of(event)
        if not isinstance(step, int):
            return set()
        for key in data:
            live = self.metrics.setdefault(key, Live(key))
            live.irregular = True
            live.time = max(live.time, event.time)
        return {*data}

    def _keep_pace(self, rows: Rows) -> None:
        if not len(rows.steps):
            return
        highest = int(rows.steps.max())
        self.step = highest if self.step is None else max(self.step, highest)
        steps, times = np.maximum.accumulate(rows.steps), np.maximum.accumulate(rows.times)
        newest = float(times[-1])
        ticks = np.floor(times / _APART_S)
        # One point of each tick, the last of all, and one from before the window.
        places = np.flatnonzero(np.append(ticks[1:] != ticks[:-1], True))
        begin = max(0, int(np.searchsorted(times[places], newest - _WINDOW_S)) - 1)
        for place in places[begin:].tolist():
            time, step = float(times[place]), int(steps[place])
            if not self._pace or time > self._pace[-1][0]:
                step = max(step, self._pace[-1][1]) if self._pace else step
                self._pace.append((time, step))
        while len(self._pace) > 2 and self._pace[1][0] < newest - _WINDOW_S:
            self._pace.popleft()

    def _print(self, written: Written, event: Event) -> None:
        stream = str(event.fields.get("stream"))
        first = int(event.fields.get("first") or 0)
        for number, text in enumerate(event.fields.get("lines") or (), first):
            place = (written.reader.path, stream, number)
            self._console[place] = ConsoleLine(event.time, stream, str(text), written.attempt)
        # Enough stays for a bar that is drawn anew above the last lines.
        while len(self._console) > max(100, 4 * self._lines):
            del self._console[next(iter(self._console))]

    # -- where the order forbids to go on ----------------------------------------------------

    def _begin_anew(self) -> set[str]:
        self.run.refresh()
        keys = self.run.keys()
        times = {key: live.time for key, live in self.metrics.items()}
        self.metrics = {key: Live(key, time=times.get(key, 0.0), irregular=True) for key in keys}
        return {*keys}

    def _work_out(self, changed: set[str]) -> None:
        keys = [key for key in changed if key in self.metrics and self.metrics[key].irregular]
        if not keys:
            return
        self.run.refresh()
        there = {*self.run.keys()}
        for key in keys:
            if key in there:
                self.metrics[key].replace(self.run.history([key])[key])


def _declared(values: npt.NDArray[Any], letter: str) -> npt.NDArray[Any]:
    """Floats as the integers or booleans that they were declared to be, where they all are."""
    if letter == "i" and (np.abs(values) <= _EXACT).all() and (values % 1 == 0).all():
        return values.astype(np.int64)
    if letter == "b" and np.isin(values, (0.0, 1.0)).all():
        return values.astype(np.bool_)
    return values


def chosen(follow: Follow, keys: Sequence[str]) -> list[Live]:
    """The metrics that are wanted, those that changed last first."""
    found = [
        live
        for live in follow.metrics.values()
        if live.count and (not keys or any(live.key == k or fnmatchcase(live.key, k) for k in keys))
    ]
    return sorted(found, key=lambda live: (-live.time, live.key))


def config_total(config: Mapping[str, Any], names: frozenset[str]) -> float | None:
    """The first positive number under one of these names, the least nested first."""
    level = [config]
    while level:
        for tree in level:
            for name, value in tree.items():
                fits = str(name).lower() in names and not isinstance(value, bool)
                if fits and isinstance(value, (int, float)) and 0 < value < math.inf:
                    return float(value)
        level = [v for tree in level for v in tree.values() if isinstance(v, Mapping)]
    return None
