"""One stored run, read from its folder."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from trackway.api._history import History, Metric, resolve
from trackway.backend.file.blobs import BlobStore
from trackway.backend.file.format import SYSTEM
from trackway.backend.file.run_logs import RunLogs
from trackway.backend.record import Attempt, RunRecord, tell_record
from trackway.errors import ArgumentError, NotFoundError

__all__ = ["ConsoleLine", "StoredRun"]


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


class StoredRun:
    """A run in a folder. Reading is lazy; ``refresh`` takes in what was written since.

    Attributes:
        project: The project's name.
        id: The run's id.
        path: The run's folder.
    """

    def __init__(self, root: Path, project: str, id: str) -> None:
        self.project = project
        self.id = id
        self.path = root / project / id
        self._blobs = BlobStore(root)
        self._logs = RunLogs(self.path)
        self._record: RunRecord | None = None
        self._metrics: dict[str, Metric] | None = None

    def refresh(self) -> bool:
        """Read what was written since; returns whether there was anything new."""
        changed = self._logs.refresh()
        self._record = None
        self._metrics = None
        return changed

    @property
    def _told(self) -> RunRecord:
        if self._record is None:
            self._logs.refresh()
            self._record = tell_record(self._logs)
        return self._record

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
        import time

        now = time.time()
        return sum(max(0.0, (a.ended or now) - a.started) for a in self.attempts)

    # -- points ----------------------------------------------------------------------------

    def keys(self) -> list[str]:
        """The names of all metrics, sorted."""
        self._told  # noqa: B018 - reads the logs
        return self._logs.keys()

    def history(
        self,
        keys: str | Iterable[str] | None = None,
        *,
        attempts: str = "live",
        repeats: str = "last",
        order: str = "step",
    ) -> History:
        """Every point of the metrics, at full fidelity.

        Args:
            keys: A name, names, or patterns with ``*``; all by default.
            attempts: ``live`` leaves out what a later attempt took back by going on from an
                earlier step; ``all`` keeps it.
            repeats: ``last`` keeps the last arrival of each step; ``all`` keeps every one.
            order: ``step`` (points of one step in order of arrival), or ``arrival``.

        Raises:
            NotFoundError: There is no metric of a name that was asked for.
        """
        for argument, value, choices in (
            ("attempts", attempts, ("live", "all")),
            ("repeats", repeats, ("last", "all")),
            ("order", order, ("step", "arrival")),
        ):
            if value not in choices:
                raise ArgumentError(f"{argument}={value!r}: it is one of {', '.join(choices)}")
        return History(
            {
                key: resolve(
                    key,
                    self._logs.columns(key),
                    attempts=attempts,
                    repeats=repeats,
                    order=order,
                )
                for key in self._matching(keys, self.keys())
            }
        )

    def system(self, keys: str | Iterable[str] | None = None) -> History:
        """Samples of the machine and of the run's processes, in order of time.

        Names say the unit (``memory.used_bytes``, ``gpu.0.power_watts``). ``steps`` number the
        samples of one attempt; draw them against ``times``.
        """
        self._told  # noqa: B018 - reads the logs
        names = self._matching(keys, self._logs.keys(SYSTEM))
        return History(
            {
                key: resolve(
                    key,
                    self._logs.columns(key, SYSTEM),
                    attempts="all",
                    repeats="all",
                    order="arrival",
                )
                for key in names
            }
        )

    def _matching(self, wanted: str | Iterable[str] | None, there: Sequence[str]) -> list[str]:
        if wanted is None:
            return list(there)
        found: list[str] = []
        for pattern in [wanted] if isinstance(wanted, str) else wanted:
            exact = [pattern] if pattern in there else []
            fitting = exact or [key for key in there if fnmatchcase(key, pattern)]
            if not fitting:
                near = ", ".join(list(there)[:20]) or "none"
                raise NotFoundError(f"run {self.name} has no metric {pattern!r}; there are: {near}")
            found += fitting
        return list(dict.fromkeys(found))

    @property
    def metrics(self) -> dict[str, Metric]:
        """Exact statistics of each metric's live line."""
        if self._metrics is None:
            # One at a time: the columns of all take more memory than the rows.
            live = {"attempts": "live", "repeats": "last", "order": "step"}
            self._metrics = {
                key: Metric.of(resolve(key, self._logs.columns(key), **live)) for key in self.keys()
            }
        return self._metrics

    def arrivals(self, key: str) -> int:
        """How many points of a metric were logged.

        More than the live line has, where steps were logged again or a later attempt took some
        back; ``history(key, attempts="all", repeats="all")`` gives every one.
        """
        self._told  # noqa: B018 - reads the logs
        return self._logs.arrivals(key)

    @property
    def summary(self) -> dict[str, Any]:
        """One value a metric, and what the run stated itself.

        A metric's value is its last, or what ``define_metric(summary=…)`` asked for: the
        statistic itself where it is one, a dictionary of them where they are several. What was
        assigned to ``run.summary`` wins.
        """
        record = self._told
        summary: dict[str, Any] = {}
        for key, metric in self.metrics.items():
            definition = record.definition(key)
            kinds = definition.summary if definition else ()
            told = {kind: _statistic(metric, kind, definition.goal) for kind in kinds if definition}
            told.pop("none", None)
            if not kinds:
                summary[key] = metric.last
            elif len(told) == 1:
                summary[key] = next(iter(told.values()))
            elif told:
                summary[key] = told
        return summary | record.summary

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
        return dict(self._told.captures.get("packages", {}).get("items") or {})

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
        self._told  # noqa: B018 - reads the logs
        lines: dict[tuple[object, str, int], ConsoleLine] = {}
        for written, event in self._logs.events(["console"]):
            source = str(event.fields.get("stream"))
            first = int(event.fields.get("first") or 0)
            if stream not in (None, source):
                continue
            for number, text in enumerate(event.fields.get("lines") or (), first):
                place = (written.reader.path, source, number)
                lines[place] = ConsoleLine(event.time, source, text, written.attempt)
        return list(lines.values())

    def __repr__(self) -> str:
        return f"<run {self.name} ({self.project}/{self.id}), {self.state}>"


def _statistic(metric: Metric, kind: str, goal: str | None) -> Any:
    if kind == "best":
        return metric.max if goal == "maximize" else metric.min
    return None if kind == "none" else getattr(metric, kind)
