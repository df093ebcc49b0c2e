"""One stored run, read from its folder."""

from __future__ import annotations

import heapq
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trackway.api._asked import check_numbers, near, series_options, texts
from trackway.api._history import History, Metric, axis_metric, column_names, resolve
from trackway.api._opened import opened_index
from trackway.api._places import Places, taken
from trackway.api._recorded import Recorded
from trackway.api._samples import sampled
from trackway.backend.file.blobs import BlobStore
from trackway.backend.file.edits import UNCHANGED, Editor
from trackway.backend.file.format import SYSTEM
from trackway.backend.file.run_logs import RunLogs
from trackway.backend.index.contract import RunRef
from trackway.backend.index.document import summary_of
from trackway.backend.record import Attempt, RunRecord
from trackway.errors import ArgumentError, NotFoundError

if TYPE_CHECKING:
    from trackway.api._answers import SeriesAnswer
    from trackway.backend.index.index import Index

__all__ = ["ConsoleLine", "StoredEvent", "StoredRun"]


@dataclass(frozen=True, slots=True)
class ConsoleLine:
    """One line of what the program printed.

    Attributes:
        time: When it was last changed, seconds since 1970.
        stream: ``out`` or ``err``.
        text: The line as a terminal would show it, without colours.
        attempt: The attempt that printed it.
    """

    time: float
    stream: str
    text: str
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """Something that was recorded of a run, besides points.

    Attributes:
        time: Seconds since 1970.
        type: What it is.
        fields: What it says.
        attempt: The attempt that recorded it.
    """

    time: float
    type: str
    fields: dict[str, Any]
    attempt: int = 1


class StoredRun(Recorded):
    """A run in a folder.

    What it is called and how it went is read once, and again after ``refresh``. Points, console
    and events are read anew each time they are asked for, up to what was logged a moment ago.

    Attributes:
        project: The project's name.
        id: The run's id.
        path: The run's folder.
    """

    def __init__(self, root: Path, project: str, id: str, index: Index | None = None) -> None:
        self.project = project
        self.id = id
        self.path = root / project / id
        self._root = root
        self._ref = RunRef(project, id)
        self._index = opened_index(root) if index is None else index
        self._blobs = BlobStore(root)
        self._record: RunRecord | None = None
        self._metrics: dict[str, Metric] | None = None
        self._version: object = None
        self._read: RunLogs | None = None

    def refresh(self) -> bool:
        """Read what was written since; returns whether there was anything new."""
        version = self._index.version(self._ref)
        changed = version != self._version
        self._version = version
        self._record = None
        self._metrics = None
        return changed

    @property
    def _told(self) -> RunRecord:
        if self._record is None:
            self._record = self._index.record(self._ref)
        return self._record

    @property
    def _logs(self) -> RunLogs:
        """The logs themselves, read from their start to their end: slow, and all there is."""
        if self._read is None:
            self._read = RunLogs(self.path)
        self._read.refresh()
        return self._read

    # -- what it is called and how it went -------------------------------------------------

    @property
    def name(self) -> str:
        """The name for people."""
        return self._told.name or self.id

    @property
    def tags(self) -> tuple[str, ...]:
        """Its labels."""
        return self._told.tags

    @property
    def notes(self) -> str | None:
        """Free text about it."""
        return self._told.notes

    @property
    def group(self) -> str | None:
        """The group it belongs to."""
        return self._told.group

    @property
    def job_type(self) -> str | None:
        """What part of a larger job it is."""
        return self._told.job_type

    @property
    def config(self) -> dict[str, Any]:
        """Hyperparameters, nested, as they were last set."""
        return self._told.config

    @property
    def config_history(self) -> list[tuple[float, str, Any]]:
        """Each assignment as (time, dotted path, value), in order; None for a deletion."""
        return self._told.config_history

    @property
    def attempts(self) -> list[Attempt]:
        """Its attempts, first to last."""
        return self._told.attempts

    @property
    def state(self) -> str:
        """The last attempt's state.

        ``running``, ``finished``, ``failed``, ``interrupted``, ``killed`` or ``lost``.
        """
        return self.attempts[-1].state if self.attempts else "lost"

    @property
    def created(self) -> float:
        """When the first attempt began, seconds since 1970."""
        return self.attempts[0].started if self.attempts else 0.0

    @property
    def ended(self) -> float | None:
        """When the last attempt ended; None while it runs."""
        return self.attempts[-1].ended if self.attempts else None

    @property
    def duration_s(self) -> float:
        """Seconds of all attempts together, up to now for one that runs."""
        now = time.time()
        return sum(max(0.0, (a.ended or now) - a.started) for a in self.attempts)

    # -- points ----------------------------------------------------------------------------

    def keys(self) -> list[str]:
        """The names of all metrics, sorted."""
        return self._index.keys(self._ref)

    def history(
        self,
        keys: str | Iterable[str] | None = None,
        *,
        x: str = "step",
        samples: int | None = None,
        attempts: str = "live",
        repeats: str = "last",
        order: str = "step",
    ) -> History:
        """Every point of the metrics, at full fidelity; or some of them, for drawing.

        Args:
            keys: A name, names, or patterns with ``*``; all by default.
            x: What each point's ``x`` is: ``step``, ``time`` (seconds since 1970), ``relative``
                (seconds since the run began), or the name of a metric: its value at the same step;
                points at whose step it has none are left out. ``metric:NAME`` is a metric of any
                name, also of one of those three.
            samples: At most so many points a metric, at least 4; every point by default. They are
                points that were logged, chosen so that a line drawn through them is the line
                through all of them, as wide as a quarter of ``samples`` in pixels: of each part of
                the range the first, lowest, highest and last one (M4, Jugel et al. 2014).
            attempts: ``live`` leaves out what a later attempt took back by going on from an
                earlier step; ``all`` keeps it.
            repeats: ``last`` keeps the last arrival of each step; ``all`` keeps every one.
            order: ``step`` (points of one step in order of arrival), or ``arrival``.

        Raises:
            NotFoundError: There is no metric of a name that was asked for.
            ArgumentError: ``samples`` is less than 4, or another argument is none of its values.
        """
        for argument, value, choices in (
            ("attempts", attempts, ("live", "all")),
            ("repeats", repeats, ("last", "all")),
            ("order", order, ("step", "arrival")),
        ):
            if value not in choices:
                raise ArgumentError(f"{argument}={value!r}: it is one of {', '.join(choices)}")
        if samples is not None and samples < 4:
            raise ArgumentError(f"samples={samples!r}: it is at least 4, or None for every point")
        names = self._matching(keys, self.keys())
        axis = axis_metric(x)
        wanted = list(dict.fromkeys([*names, *([] if axis is None else [self._metric(axis)])]))
        found = {
            key: resolve(key, columns, attempts=attempts, repeats=repeats, order=order)
            for key, columns in self._index.columns(self._ref, wanted).items()
        }
        began = self.created if x == "relative" else 0.0
        places = Places.of(x, None if axis is None else found[axis], began)
        told = {key: places.of_series(found[key]) for key in names}
        if samples is not None:
            told = {key: sampled(series, samples) for key, series in told.items()}
        return History(told, x)

    def scan_history(
        self, keys: str | Iterable[str] | None = None, *, attempts: str = "live"
    ) -> Iterator[dict[str, Any]]:
        """The live line as one dictionary a step, in step order.

        Yields:
            ``step``, ``time`` (when the last of its values was logged, seconds since 1970), and the
            value of each metric that has one at this step, exactly as logged. A metric that is
            itself called ``step`` or ``time`` comes as ``metric/step``, ``metric/time``.
        """
        history = self.history(keys, attempts=attempts)
        yield from _steps_of(history)

    def tail(self, keys: str | Iterable[str] | None = None, count: int = 100) -> History:
        """The last points of each metric's live line: what has just been logged.

        Args:
            keys: A name, names, or patterns with ``*``; all by default.
            count: At most so many points a metric, at least 1.
        """
        if count < 1:
            raise ArgumentError(f"count={count!r}: it is at least 1")
        names = self._matching(keys, self.keys())
        # Out of order, or taken back, the last arrivals are not the last of the line: all are read.
        found = self._index.latest(self._ref, names, count)
        live = {"attempts": "live", "repeats": "last", "order": "step"}
        lines = {key: resolve(key, columns, **live) for key, columns in found.items()}
        return History({key: taken(line, slice(-count, None)) for key, line in lines.items()})

    def events(self, types: str | Iterable[str] | None = None) -> list[StoredEvent]:
        """What was recorded besides points, in order of time: as ``docs/format/log.md`` lists it.

        Args:
            types: ``console``, ``config``, ``git`` …; all by default.
        """
        wanted = (
            None if types is None else texts("types", types, "names of events, or None for all")
        )
        return [
            StoredEvent(event.time, event.type, dict(event.fields), log.attempt)
            for log, event in self._index.events(self._ref, None if wanted is None else {*wanted})
        ]

    def series(
        self,
        key: str,
        *,
        buckets: int | None = 1000,
        x: str = "step",
        start: float | None = None,
        stop: float | None = None,
        attempts: str = "live",
        repeats: str = "last",
    ) -> SeriesAnswer:
        """One metric as a chart needs it: exact min, max, mean, first, last and count per bucket.

        Args:
            key: The metric's name.
            buckets: At most so many; None gives every point.
            x: ``step``, ``time``, ``relative``, or the name of a metric.
            start: Where the range begins; where the metric does, by default.
            stop: Where it ends, likewise.
            attempts: ``live``, or ``all``: with what a later attempt took back.
            repeats: ``last`` arrival of each step, or ``all`` of them.

        Returns:
            The buckets, and as data frames a row each (``to_pandas()``).

        Raises:
            NotFoundError: There is no such metric, or it holds no numbers.
            ArgumentError: An argument is none of its values.
        """
        from trackway.api._answers import SeriesAnswer
        from trackway.backend.index.series import SeriesQuery

        options = series_options(key, x, start, stop, buckets, attempts, repeats)
        self._metric(key)
        axis = axis_metric(x)
        if axis is not None:
            self._metric(axis)
        number = self._index.number(self._ref)
        assert number is not None  # it has metrics
        answer = self._index.series(SeriesQuery((number,), key, **options))
        check_numbers(key, axis, answer.total, answer.left_out)
        return SeriesAnswer.of(answer, self._index.ref)

    def system(self, keys: str | Iterable[str] | None = None) -> History:
        """Samples of the machine and of the run's processes, in order of time.

        Names say the unit (``memory.used_bytes``, ``gpu.0.power_watts``). ``steps`` number the
        samples of one attempt; draw them against ``times``.
        """
        names = self._matching(keys, self._index.keys(self._ref, SYSTEM))
        every = {"attempts": "all", "repeats": "all", "order": "arrival"}
        found = self._index.columns(self._ref, names, SYSTEM)
        return History({key: resolve(key, columns, **every) for key, columns in found.items()})

    def _metric(self, name: str) -> str:
        there = self.keys()
        if name not in there:
            raise self._unknown(name, there)
        return name

    def _unknown(self, name: str, there: Sequence[str]) -> NotFoundError:
        alike = near(name, there) if len(there) > 20 else ""
        told = f"; there are: {', '.join(there[:20]) or 'none'}"
        return NotFoundError(f"run {self.name} has no metric {name!r}{alike or told}")

    def _matching(self, wanted: str | Iterable[str] | None, there: Sequence[str]) -> list[str]:
        if wanted is None:
            return list(there)
        found: list[str] = []
        for pattern in texts("keys", wanted, "a name, names or patterns, or None for all"):
            exact = [pattern] if pattern in there else []
            fitting = exact or [key for key in there if fnmatchcase(key, pattern)]
            if not fitting:
                raise self._unknown(pattern, there)
            found += fitting
        return list(dict.fromkeys(found))

    @property
    def metrics(self) -> dict[str, Metric]:
        """Exact statistics of each metric's live line."""
        if self._metrics is None:
            self._metrics = self._index.metrics(self._ref)
        return self._metrics

    def arrivals(self, key: str) -> int:
        """How many points of a metric were logged.

        More than the live line has, where steps were logged again or a later attempt took some
        back; ``history(key, attempts="all", repeats="all")`` gives every one.
        """
        return self._index.arrivals(self._ref, key)

    @property
    def summary(self) -> dict[str, Any]:
        """One value a metric, and what the run stated itself.

        A metric's value is its last, or what ``define_metric(summary=…)`` asked for: the
        statistic itself where it is one, a dictionary of them where they are several. What was
        assigned to ``run.summary`` wins.
        """
        return summary_of(self._told, self.metrics)

    # -- circumstances ---------------------------------------------------------------------

    @property
    def git(self) -> dict[str, Any] | None:
        """Commit, branch, remote, and what was not committed; None where it was not captured."""
        return self._told.captures.get("git")

    @property
    def environment(self) -> dict[str, Any] | None:
        """Command line, host, hardware, job ids."""
        return self._told.captures.get("environment")

    @property
    def packages(self) -> dict[str, str]:
        """Installed distributions and their versions."""
        found = self._index.events(self._ref, {"packages"})
        return dict(found[-1][1].fields.get("items") or {}) if found else {}

    @property
    def masked(self) -> list[dict[str, Any]]:
        """What was taken for a secret and masked: where, by which rule, how often."""
        return self._told.masked

    @property
    def troubles(self) -> list[dict[str, Any]]:
        """What went wrong while recording: place, reason, count, sentence."""
        return self._told.troubles

    @property
    def lost_points(self) -> int:
        """Points that a disk did not take before the run ended."""
        return self._told.lost_points

    def patch(self) -> bytes | None:
        """The patch of uncommitted work against the commit, as ``git apply --binary`` takes it.

        Returns:
            None where there was nothing uncommitted, or it was too large to be stored.
        """
        digest = ((self.git or {}).get("patch") or {}).get("blob")
        return None if digest is None else self._blobs.get(digest)

    def blob(self, digest: str) -> bytes:
        """The bytes of a stored file, checked against its digest."""
        return self._blobs.get(digest)

    def console(self, stream: str | None = None) -> list[ConsoleLine]:
        """What the program printed, line by line in the order the lines first appeared.

        Args:
            stream: ``out`` or ``err``; both by default.
        """
        lines: dict[tuple[object, str, int], ConsoleLine] = {}
        for written, event in self._index.events(self._ref, {"console"}):
            source = str(event.fields.get("stream"))
            first = int(event.fields.get("first") or 0)
            if stream not in (None, source):
                continue
            for number, text in enumerate(event.fields.get("lines") or (), first):
                place = (written.path, source, number)
                lines[place] = ConsoleLine(event.time, source, text, written.attempt)
        return list(lines.values())

    # -- edits -----------------------------------------------------------------------------

    @property
    def archived(self) -> bool:
        """Whether somebody put it out of the way."""
        return self._told.archived

    @property
    def deleted(self) -> bool:
        """Whether somebody deleted it; its bytes are there until the root is compacted."""
        return self._told.deleted

    def edit(
        self,
        *,
        name: str = UNCHANGED,
        notes: str | None = UNCHANGED,
        tags: Iterable[str] = UNCHANGED,
        group: str | None = UNCHANGED,
        job_type: str | None = UNCHANGED,
        archived: bool = UNCHANGED,
    ) -> None:
        """Change what is said of the run; what is not given stays.

        An edit is a record in a log of its own: no training is disturbed, and the last one counts.
        It is on disk when this returns.

        Raises:
            ArgumentError: A value is of the wrong type, or a name is empty.
            OSError: It could not be stored.
        """
        self._editor.set(
            name=name, notes=notes, tags=tags, group=group, job_type=job_type, archived=archived
        )
        self.refresh()

    def delete_points(
        self,
        keys: str | Iterable[str] | None = None,
        *,
        start: int | None = None,
        stop: int | None = None,
    ) -> int:
        """Delete points that are there now; what is logged afterwards stays.

        They are gone from every answer at once. ``Api.compact`` reclaims their bytes.

        Args:
            keys: A name, names, or patterns with ``*``; every metric by default.
            start: The first step, of all by default.
            stop: The last step, likewise.

        Returns:
            How many points were deleted.
        """
        count = self._editor.delete_points(keys, start=start, stop=stop)
        self.refresh()
        return count

    def delete(self) -> None:
        """Delete the run: it is listed no more, and ``Api.compact`` reclaims its bytes.

        Until then ``restore`` brings it back. ``Api.remove`` deletes for real, at once.
        """
        self._editor.set(deleted=True)
        self.refresh()

    def restore(self) -> None:
        """Take ``delete`` back."""
        self._editor.set(deleted=False)
        self.refresh()

    @property
    def _editor(self) -> Editor:
        return Editor(self._root, self.project, self.id)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StoredRun) and self.path == other.path

    def __hash__(self) -> int:
        return hash(self.path)

    def __repr__(self) -> str:
        return f"<run {self.name} ({self.project}/{self.id}), {self.state}>"


def _steps_of(history: History) -> Iterator[dict[str, Any]]:
    """A history step by step; each series rises, so the next step is the least of their next."""
    ahead = [(int(series.steps[0]), 0, key) for key, series in history.items() if len(series)]
    heapq.heapify(ahead)
    values = {key: series.values.tolist() for key, series in history.items()}
    names = dict(zip(history, column_names(("step", "time"), list(history)), strict=True))
    while ahead:
        step = ahead[0][0]
        told: dict[str, Any] = {"step": step, "time": float("-inf")}
        while ahead and ahead[0][0] == step:
            _, place, key = heapq.heappop(ahead)
            series = history[key]
            told[names[key]] = values[key][place]
            told["time"] = max(told["time"], float(series.times[place]))
            if place + 1 < len(series):
                heapq.heappush(ahead, (int(series.steps[place + 1]), place + 1, key))
        yield told
