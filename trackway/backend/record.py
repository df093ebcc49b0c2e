"""A run as its events tell it: what it is called, how it was configured, how it ended."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from trackway.backend.file.format import Event, Header
from trackway.backend.file.process import host_name, is_alive
from trackway.backend.file.reader import Rows

__all__ = ["Attempt", "Definition", "RunRecord", "judge_silence", "recorders", "tell_record"]

SILENT_S: Final = 120.0
"""A run on another machine that wrote nothing for this long, and whose companion is silent too,
is lost. Four times the slowest heartbeat."""

_EDITS: Final = frozenset({"run", "delete"})
"""The events of an editor's log."""


class TellingLog(Protocol):
    """What a record needs of one log."""

    @property
    def path(self) -> Path:
        """The file."""

    @property
    def header(self) -> Header | None:
        """Who wrote it; None where the header is damaged."""

    @property
    def attempt(self) -> int:
        """The attempt it belongs to."""

    @property
    def events(self) -> list[tuple[int, Event]]:
        """Its events with their places."""

    @property
    def rows(self) -> list[Rows]:
        """Its rows, as far as they are needed to know that there are some, and since when."""


LogT = TypeVar("LogT", bound=TellingLog)
LogT_co = TypeVar("LogT_co", bound=TellingLog, covariant=True)


class Telling(Protocol[LogT_co]):
    """What a record needs of a run's logs: ``RunLogs``, or what an index kept of them."""

    @property
    def writers(self) -> Sequence[LogT_co]:
        """One entry a log, by the time its writer began."""

    def events(self, types: Iterable[str] | None = None) -> Sequence[tuple[LogT_co, Event]]:
        """The events of these types (or all), by time, then writer, then place in the log."""


@dataclass(slots=True)
class Attempt:
    """One attempt of a run.

    Attributes:
        number: 1 and upwards.
        state: ``running``, ``finished``, ``failed``, ``interrupted`` (Ctrl-C), ``killed`` (ended
            without a word) or ``lost`` (its machine fell silent).
        started: Seconds since 1970.
        ended: Seconds since 1970 of the end, or of the last sign of life; None while running.
        exit_code: What the program gave back, where that is known.
        signal: The signal that ended it, where that is known.
        exception: type, message and traceback, where one ended it.
    """

    number: int
    state: str = "running"
    started: float = 0.0
    ended: float | None = None
    exit_code: int | None = None
    signal: int | None = None
    exception: Mapping[str, str] | None = None
    host: str = ""
    pid: int = 0


@dataclass(frozen=True, slots=True)
class Definition:
    """What ``define_metric`` said of one name or pattern."""

    name: str
    step_metric: str | None = None
    summary: tuple[str, ...] = ()
    goal: str | None = None
    hidden: bool = False


@dataclass(slots=True)
class RunRecord:
    """Everything about a run but its points."""

    name: str | None = None
    tags: tuple[str, ...] = ()
    notes: str | None = None
    group: str | None = None
    job_type: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    config_history: list[tuple[float, str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    definitions: list[Definition] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    captures: dict[str, dict[str, Any]] = field(default_factory=dict)
    masked: list[dict[str, Any]] = field(default_factory=list)
    """What each writer said last, as each counts from its start."""
    troubles: list[dict[str, Any]] = field(default_factory=list)
    lost_points: int = 0
    skipped: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    archived: bool = False
    """Whether somebody put it out of the way."""
    deleted: bool = False
    """Whether somebody deleted it; its bytes are there until the root is compacted."""

    def definition(self, key: str) -> Definition | None:
        """The last definition that fits a metric; one without a pattern wins over any with."""
        fitting = [d for d in self.definitions if fnmatchcase(key, d.name)]
        exact = [d for d in fitting if d.name == key]
        chosen = exact or fitting
        return chosen[-1] if chosen else None


def tell_record(logs: Telling[TellingLog], now: float | None = None) -> RunRecord:
    """Put a run's events together, in the order of their times; the last word counts.

    Args:
        logs: The run's logs, as far as they are read.
        now: The time to judge silence by; the present by default.
    """
    record = RunRecord()
    ends: dict[int, list[Event]] = {}
    masked: dict[int, list[dict[str, Any]]] = {}
    for written, event in logs.events():
        if event.type == "masked":
            masked[id(written)] = event.fields.get("items") or []
        elif event.type in ("end", "death"):
            ends.setdefault(written.attempt, []).append(event)
        else:
            _apply(record, event)
    record.masked = [item for items in masked.values() for item in items]
    by_attempt: dict[int, list[TellingLog]] = {}
    for written in recorders(logs.writers):
        by_attempt.setdefault(written.attempt, []).append(written)
    for number, writers in sorted(by_attempt.items()):
        record.attempts.append(
            _attempt(number, writers, ends.get(number, []), time.time() if now is None else now)
        )
    for event in (event for events in ends.values() for event in events):
        record.lost_points += int(event.fields.get("lost_points") or 0)
        record.skipped += int(event.fields.get("skipped") or 0)
        for name, count in (event.fields.get("refused") or {}).items():
            record.refused[name] = record.refused.get(name, 0) + count
    return record


def recorders(writers: Sequence[LogT]) -> Sequence[LogT]:
    """The logs that testify how the run went: all but those of people who edited it later.

    A log without a header may be an editor's that was never finished or is damaged: it counts
    only where it holds what an editor does not write, or where there is no other.
    """
    able = [w for w in writers if w.header is None or w.header.role != "editor"]
    sure = [w for w in able if w.header is not None or w.rows or _tells_more(w)]
    return sure or able


def _tells_more(written: TellingLog) -> bool:
    return any(event.type not in _EDITS for _, event in written.events)


def _rename(record: RunRecord, fields: Mapping[str, Any]) -> None:
    for name, value in fields.items():
        if name == "tags":
            record.tags = tuple(value or ())
        elif name in ("archived", "deleted"):
            setattr(record, name, value is True)
        elif name in ("name", "notes", "group", "job_type"):
            setattr(record, name, value)


def _apply(record: RunRecord, event: Event) -> None:
    fields = event.fields
    if event.type == "run":
        _rename(record, fields.get("set") or {})
    elif event.type == "config":
        _assign(record.config, fields)
        assigned = [*(fields.get("set") or ()), *((path, None) for path in fields.get("del") or ())]
        record.config_history += [(event.time, ".".join(path), value) for path, value in assigned]
    elif event.type == "summary":
        _assign(record.summary, fields)
    elif event.type == "define":
        record.definitions.append(
            Definition(
                str(fields.get("name")),
                fields.get("step_metric"),
                tuple(fields.get("summary") or ()),
                fields.get("goal"),
                bool(fields.get("hidden")),
            )
        )
    elif event.type in ("git", "environment", "packages"):
        record.captures[event.type] = dict(fields)
    elif event.type == "trouble":
        record.troubles.append(dict(fields))


def _assign(tree: dict[str, Any], fields: Mapping[str, Any]) -> None:
    for path, value in fields.get("set") or ():
        _inner(tree, path[:-1])[path[-1]] = value
    for path in fields.get("del") or ():
        _inner(tree, path[:-1]).pop(path[-1], None)


def _inner(tree: dict[str, Any], path: list[str]) -> dict[str, Any]:
    for name in path:
        inner = tree.get(name)
        if not isinstance(inner, dict):
            inner = tree[name] = {}
        tree = inner
    return tree


def _attempt(number: int, writers: Sequence[TellingLog], ends: list[Event], now: float) -> Attempt:
    main = next((w for w in writers if w.header and w.header.role == "train"), writers[0])
    attempt = Attempt(number)
    headers = [w.header for w in writers if w.header]
    began = [header.created for header in headers]
    if not began:  # the headers are damaged: the first record will do
        began = [event.time for w in writers for _, event in w.events[:1]]
        began += [float(rows.times[0]) for w in writers for rows in w.rows[:1]]
    attempt.started = min(began, default=0.0)
    if main.header:
        attempt.host, attempt.pid = main.header.host, main.header.pid
    told = [event for event in ends if event.type == "end"]
    seen = [event for event in ends if event.type == "death"]
    if told:
        end = told[-1]
        attempt.state = str(end.fields.get("state"))
        attempt.exit_code = end.fields.get("exit_code")
        attempt.exception = end.fields.get("exception")
        attempt.ended = end.time
    if seen:
        at_exit = bool(told and told[-1].fields.get("at_exit"))
        _see_death(attempt, seen[-1], told=bool(told), at_exit=at_exit)
    if not ends:
        judge_silence(attempt, writers, now)
    return attempt


def _see_death(attempt: Attempt, death: Event, *, told: bool, at_exit: bool) -> None:
    """What the companion saw from outside completes what the run said of itself.

    A run that was finished before its program ended is finished, however the program ends.
    """
    code, signal = death.fields.get("exit_code"), death.fields.get("signal")
    if not told or at_exit:
        attempt.signal = signal
    if not told:
        attempt.ended = death.time
        attempt.exit_code = code
        attempt.state = "killed"
        if code is not None and not signal:
            attempt.state = "failed" if code else "finished"
    elif at_exit and code is not None and code != attempt.exit_code:
        # What the run took for the program's end was not how it ended: raise SystemExit(n), an
        # exit that was caught, an error that was only shown.
        attempt.exit_code = code
        attempt.state = "failed" if code else "finished"
    elif at_exit and signal and attempt.state == "finished":
        attempt.state = "killed"


def judge_silence(attempt: Attempt, writers: Sequence[TellingLog], now: float) -> None:
    """No end was recorded: somebody is still at it, or nobody is."""
    here = host_name()
    heard = 0.0
    for written in writers:
        try:
            heard = max(heard, written.path.stat().st_mtime)
        except OSError:
            continue
    alive = [
        is_alive(w.header.pid, w.header.process_started)
        for w in writers
        if w.header and w.header.host == here and w.header.role != "companion"
    ]
    if any(alive) or (not alive and now - heard < SILENT_S):
        return
    attempt.state = "killed" if alive else "lost"
    attempt.ended = heard
