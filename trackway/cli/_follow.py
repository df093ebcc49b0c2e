"""A run that is being written, as far as a person at a terminal follows it.

Each refresh reads what is new in the logs and nothing else: it costs as much for a run of a week
as for one of a minute. What was read is folded into a few numbers and at most 256 buckets a
metric. Only where points come in another order (a step logged again, an attempt that goes back)
is a metric worked out from all of its points, once each time it changes; of these as many count
as that refresh has read, so that all there is to see is of one moment. After a deletion the logs
are read from their start.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from trackway.api import ConsoleLine, Series, StoredRun
from trackway.backend.file.deletions import Deletions
from trackway.backend.file.folder import logs
from trackway.backend.file.format import SYSTEM, Event
from trackway.backend.file.reader import Batch, LogReader, Rows
from trackway.backend.file.run_logs import Columns, RunLogs, Written, data_of
from trackway.backend.points import resolve
from trackway.backend.record import RunRecord, tell_record
from trackway.cli._live import Live

__all__ = ["Follow", "Live", "chosen", "config_total"]

_WINDOW_S: Final = 60.0
_APART_S: Final = 0.2
_EXACT: Final = 1 << 53
_TRIES: Final = 3
_PASSED: Final = frozenset({"console", "value"})


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
        step: The highest step that the newest attempt logged so far, in metrics of numbers.
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
        self._newest = 0
        self._counted = True

    def refresh(self, now: float | None = None) -> bool:
        """Read what is new; returns whether there was anything."""
        found, void, changed = self._read()
        for _ in range(_TRIES):
            deletions = self._told_deletions()
            if not void and deletions.rules == self._logs.deletions.rules:
                break
            self._begin_anew(deletions)
            _, void, changed = self._read()
        self._work_out(changed)
        self.record = tell_record(self._logs, now)
        return found

    def _read(self) -> tuple[bool, bool, set[str]]:
        """Take in what is new: was there anything, is what was taken in void, which metrics."""
        found = void = False
        changed: set[str] = set()
        for written, batch in self._logs.news():
            found = True
            void |= batch is None
            if batch is not None:
                changed |= self._take(written, batch)
        return found, void, changed

    def _told_deletions(self) -> Deletions:
        events = (event for written in self._logs.writers for _, event in written.events)
        return Deletions.of(events)

    def _begin_anew(self, deletions: Deletions) -> None:
        self._logs = _Kept(self.run.path)
        self._logs.deletions = deletions
        self.metrics, self.system, self.step = {}, {}, None
        self._newest, self._counted = 0, True
        self._console.clear()
        self._pace.clear()

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
                self._counted = False  # once it is declared the index counts these, and we cannot
                continue
            if keyset.space == SYSTEM:
                self.system |= zip(keyset.names, rows.values[-1].tolist(), strict=False)
                continue
            self._keep_pace(rows, written.attempt)
            for column, key in enumerate(keyset.names[: rows.values.shape[1]]):
                values = _declared(rows.values[:, column], keyset.types[column])
                series = Series(key, rows.steps, rows.times, values, rows.steps)
                keep = self._logs.keep(written, key, rows.offsets, rows.steps)
                self._add(series if keep is None else _kept(series, keep), written.attempt)
                changed.add(key)
        for offset, event in batch.events:
            if event.type == "console":
                self._print(written, event)
            elif event.type == "value":
                changed |= self._add_values(written, offset, event)
        return changed

    def _add(self, series: Series, attempt: int) -> None:
        if not len(series):
            return
        live = self.metrics.get(series.key)
        if live is None:
            live = self.metrics[series.key] = Live(series.key)
        live.add(series, attempt)

    def _add_values(self, written: Written, offset: int, event: Event) -> set[str]:
        """Values that were stored as events may lie between rows: they are never simply behind."""
        step, data = event.fields.get("step"), data_of(event)
        if not isinstance(step, int):
            return set()
        place, steps = np.array([offset]), np.array([step])
        changed = set()
        for key in data:
            if self._logs.keep(written, key, place, steps) is not None:
                continue
            live = self.metrics.setdefault(key, Live(key))
            live.irregular = True
            live.time = max(live.time, event.time)
            live.arrive(1, written.attempt)
            changed.add(key)
        return changed

    def _keep_pace(self, rows: Rows, attempt: int) -> None:
        if not len(rows.steps) or attempt < self._newest:
            return
        if attempt > self._newest:
            # Where an attempt goes on from an earlier step, what was behind it is taken back.
            self._newest, self.step = attempt, None
            self._pace.clear()
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

    def _work_out(self, changed: set[str]) -> None:
        keys = [key for key in changed if key in self.metrics and self.metrics[key].irregular]
        if not keys:
            return
        self.run.refresh()
        there = {*self.run.keys()}
        for key in keys:
            if key in there:
                self.metrics[key].replace(self._line(key))

    def _line(self, key: str) -> Series:
        """The live line of the points that were read; the index may have more by now."""
        every = self.run.history([key], attempts="all", repeats="all", order="arrival")[key]
        columns = Columns(every.steps, every.times, every.values, every.attempts)
        if self._counted:
            columns = columns.take(_first(every.attempts, self.metrics[key].arrived))
        return resolve(key, columns, attempts="live", repeats="last", order="step")


def _first(attempts: npt.NDArray[np.int64], counts: Mapping[int, int]) -> npt.NDArray[np.bool_]:
    """The first so many arrivals of each attempt."""
    keep = np.zeros(len(attempts), np.bool_)
    for attempt, count in counts.items():
        keep[np.flatnonzero(attempts == attempt)[:count]] = True
    return keep


def _kept(series: Series, keep: npt.NDArray[np.bool_]) -> Series:
    taken = (series.steps[keep], series.times[keep], series.values[keep], series.attempts[keep])
    return Series(series.key, *taken)


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
