"""A run as the run table shows it, and its record, from what the index and the tails hold."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from trackway.backend.file._order import began, events_in_order
from trackway.backend.file.deletions import DELETION_EVENTS, Deletions
from trackway.backend.file.format import METRIC, Event, Header, big_integer, decode_event
from trackway.backend.file.reader import Rows
from trackway.backend.index._points import Points, metrics_of
from trackway.backend.index._tail import LogState, Tail
from trackway.backend.index.contract import Reading, RunRef
from trackway.backend.points import Metric
from trackway.backend.record import (
    Attempt,
    RunRecord,
    judge_silence,
    recorders,
    tell_record,
)

__all__ = [
    "ToldLogs",
    "document_of",
    "rejudged",
    "row_of",
    "run_deletions",
    "summary_of",
    "told_logs",
    "unpack_document",
]


@dataclass(slots=True)
class ToldLog:
    """One log as far as a run's record needs it."""

    number: int
    path: Path
    header: Header | None
    damaged: int = 0
    events: list[tuple[int, Event]] = field(default_factory=list)
    rows: list[Rows] = field(default_factory=list)

    @property
    def attempt(self) -> int:
        """The attempt it belongs to."""
        return self.header.attempt if self.header else 1

    @property
    def name(self) -> str:
        """What deletions call this log."""
        return self.path.stem


class ToldLogs:
    """The logs of a run with their events, from the index and behind it.

    Attributes:
        writers: By the time each began, as ``RunLogs.writers``.
    """

    def __init__(self, logs: Iterable[ToldLog]) -> None:
        self.writers = sorted(logs, key=lambda log: began(log.header, log.path))

    def events(self, types: Iterable[str] | None = None) -> list[tuple[ToldLog, Event]]:
        """The events of these types (or all), in the order of ``RunLogs.events``."""
        return events_in_order(self.writers, types)

    @property
    def damaged(self) -> int:
        """Bytes of the logs that belong to no readable frame."""
        return sum(log.damaged for log in self.writers)

    @property
    def order(self) -> dict[int, tuple[int, int]]:
        """For each log its place in the order of writers, and its attempt."""
        return {log.number: (number, log.attempt) for number, log in enumerate(self.writers)}


def told_logs(
    reading: Reading, run: int, folder: Path, tails: Mapping[int, Tail] | None = None
) -> ToldLogs:
    """The logs of a run.

    Args:
        reading: What the index holds.
        run: The run's number.
        folder: The run's folder.
        tails: What is behind the index, by number of the log.
    """
    tails = tails or {}
    lines = reading.logs([run])
    states = reading.states([line.log for line in lines])
    told: dict[int, ToldLog] = {}
    for line in lines:
        state = LogState.unpack(states.get(line.log))
        log = told[line.log] = ToldLog(
            line.log, folder / line.name, state.position.header, state.damaged
        )
        if state.points and log.header is None:
            log.rows.append(_sign_of_rows(line.mtime_ns / 1e9))
    for row in reading.events([run]):
        if row.body is not None and row.log in told:
            told[row.log].events.append((row.offset, decode_event(row.body)))
    for line in lines:
        tail = tails.get(line.log)
        if tail is not None:
            rest = tail.cut(line.offset)
            told[line.log].header = told[line.log].header or tail.reader.header
            told[line.log].events += rest.events
            told[line.log].rows += rest.rows
            told[line.log].damaged += sum(size for _, size in rest.damage)
    return ToldLogs(told.values())


def _sign_of_rows(time: float) -> Rows:
    """That a log without a header has rows, and about when they were written."""
    none = np.zeros(1, np.int64)
    return Rows(0, none, none, np.array([time]), np.empty((1, 0)))


def run_deletions(reading: Reading, run: int, tails: Iterable[Tail] = ()) -> Deletions:
    """What was deleted of a run, by the index and by these tails."""
    rows = reading.events([run], DELETION_EVENTS)
    events = [decode_event(row.body) for row in rows if row.body is not None]
    for tail in tails:
        events += [event for _, event in tail.written.events if event.type in DELETION_EVENTS]
    return Deletions.of(events) if events else Deletions()


def summary_of(record: RunRecord, metrics: Mapping[str, Metric]) -> dict[str, Any]:
    """One value a metric, as ``define_metric`` asked; what the run stated itself wins."""
    summary: dict[str, Any] = {}
    for key, metric in metrics.items():
        definition = record.definition(key) if record.definitions else None
        kinds = definition.summary if definition else ()
        if not kinds:
            summary[key] = metric.last
            continue
        told = {
            kind: _statistic(metric, kind, definition.goal if definition else None)
            for kind in kinds
            if kind != "none"
        }
        if len(told) == 1:
            summary[key] = next(iter(told.values()))
        elif told:
            summary[key] = told
    return summary | record.summary


def _statistic(metric: Metric, kind: str, goal: str | None) -> Any:
    if kind == "best":
        return metric.max if goal == "maximize" else metric.min
    return getattr(metric, kind)


def row_of(
    ref: RunRef,
    record: RunRecord,
    metrics: Mapping[str, Metric],
    *,
    told: ToldLogs | None = None,
    now: float | None = None,
) -> dict[str, Any]:
    """The run as one row of the run table: plain values, config and summary nested.

    Args:
        ref: Which run.
        record: What its events tell.
        metrics: The statistics of its metrics.
        told: Its logs, for what they say of damage and of who may still be at it.
        now: Up to when a run that runs has taken its time; the present by default.
    """
    now = time.time() if now is None else now
    attempts = record.attempts
    last = attempts[-1] if attempts else None
    environment = record.captures.get("environment", {})
    git = record.captures.get("git", {})
    return {
        "id": ref.id,
        "project": ref.project,
        "name": record.name or ref.id,
        "state": last.state if last else "lost",
        "group": record.group,
        "job_type": record.job_type,
        "notes": record.notes,
        "tags": list(record.tags),
        "created": attempts[0].started if attempts else 0.0,
        "ended": last.ended if last else None,
        "duration": sum(max(0.0, (a.ended or now) - a.started) for a in attempts),
        "archived": record.archived,
        "deleted": record.deleted,
        "attempts": len(attempts),
        "host": (last.host if last else None) or environment.get("host"),
        "user": environment.get("user"),
        "commit": git.get("commit"),
        "branch": git.get("branch"),
        "exit_code": last.exit_code if last else None,
        "points": sum(metric.count for metric in metrics.values()),
        "lost_points": record.lost_points,
        "troubles": len(record.troubles),
        "damaged_bytes": told.damaged if told else 0,
        "goals": _defined(record, metrics, "goal"),
        "hidden": sorted(_defined(record, metrics, "hidden")),
        "config": record.config,
        "summary": summary_of(record, metrics),
    } | ({"open": _open(last, told, now)} if last and told and last.state == "running" else {})


def _open(last: Attempt, told: ToldLogs, now: float) -> dict[str, Any]:
    """What it takes to judge later whether a run that ran is still at it."""
    mine = [log for log in recorders(told.writers) if log.attempt == last.number]
    writers = [
        [log.path.name, log.header.host, log.header.pid, log.header.process_started]
        for log in mine
        if log.header and log.header.role in ("train", "worker")
    ]
    names = [log.path.name for log in mine]
    return {"started": last.started, "writers": writers, "logs": names, "now": now}


def rejudged(row: Mapping[str, Any], folder: Path, now: float) -> dict[str, Any]:
    """A row of a run that ran when it was made, as it is now: it runs still, or it fell silent."""
    opened = row.get("open")
    if not isinstance(opened, Mapping):
        return dict(row)
    attempt = Attempt(1, started=opened["started"])
    known = {name: told for name, *told in opened["writers"]}
    logs = [_Silent.of(folder / name, known.get(name)) for name in opened["logs"]]
    judge_silence(attempt, logs, now)
    since = (attempt.ended or now) - opened["now"]
    return {
        **row,
        "state": attempt.state,
        "ended": attempt.ended,
        "duration": max(0.0, row["duration"] + since),
    }


@dataclass(frozen=True, slots=True)
class _Silent:
    """A log of which only that matters who wrote it, and when last."""

    path: Path
    header: Header | None
    attempt: int = 1
    events: list[tuple[int, Event]] = field(default_factory=list)
    rows: list[Rows] = field(default_factory=list)

    @classmethod
    def of(cls, path: Path, told: Sequence[Any] | None) -> _Silent:
        if told is None:  # a companion's: it says no more than that there was somebody
            return cls(path, Header("", "", "", "", "companion"))
        host, pid, started = told
        return cls(path, Header("", "", "", "", "train", 1, host, pid, started))


def _defined(record: RunRecord, metrics: Mapping[str, Metric], what: str) -> dict[str, Any]:
    """What ``define_metric`` said of the names in the summary, where it did."""
    if not record.definitions:
        return {}
    names = {*metrics, *record.summary}
    found = {name: record.definition(name) for name in names}
    return {
        name: told
        for name, definition in sorted(found.items())
        if definition is not None and (told := getattr(definition, what))
    }


def document_of(
    reading: Reading, run: int, ref: RunRef, root: Path, points: Points | None = None
) -> bytes:
    """A run's row by what is in the index, as bytes for ``Writing.put_document``."""
    told = told_logs(reading, run, root / ref.project / ref.id)
    keys = reading.keys_of([run], METRIC).get(run, [])
    chunks = reading.chunks([run], keys, data=False) if keys else []
    metrics = metrics_of(reading, points or Points(), chunks, told.order)
    return pack_document(row_of(ref, tell_record(told), metrics, told=told))


def pack_document(row: Mapping[str, Any]) -> bytes:
    """The bytes of a row."""
    try:
        return msgspec.msgpack.encode(row)
    except OverflowError:
        return msgspec.msgpack.encode(_packable(row))


def unpack_document(data: bytes) -> dict[str, Any]:
    """The row of these bytes."""
    from trackway.backend.file.format import unpack

    row: dict[str, Any] = unpack(data)
    return row


def _packable(value: Any) -> Any:
    """The value with integers beyond 64 bits as MessagePack can hold them."""
    if isinstance(value, Mapping):
        return {name: _packable(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_packable(inner) for inner in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return big_integer(value)
    return value
