"""All logs of one run together: columns of a metric, and every event in order."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trackway.backend.file._columns import (
    Columns,
    Part,
    as_declared,
    beside_objects,
    joined,
)
from trackway.backend.file._order import began, events_in_order
from trackway.backend.file.deletions import DELETION_EVENTS, Deletions
from trackway.backend.file.folder import logs
from trackway.backend.file.format import METRIC, Event, Header
from trackway.backend.file.reader import Damage, LogReader, Rows

__all__ = [
    "Columns",
    "Part",
    "RunLogs",
    "Written",
    "as_declared",
    "beside_objects",
    "data_of",
    "joined",
    "parts_of",
]


_Place = tuple[Rows, int, str]
_Value = tuple[int, int, float, Any]


@dataclass(slots=True)
class Written:
    """What one writer wrote, as far as it was read."""

    reader: LogReader
    rows: list[Rows] = field(default_factory=list)
    events: list[tuple[int, Event]] = field(default_factory=list)
    damage: list[Damage] = field(default_factory=list)
    frames: int = 0
    points: int = 0
    unknown: int = 0
    _places: dict[str, dict[str, list[_Place]]] = field(default_factory=dict)
    _values: dict[str, list[_Value]] | None = None

    @property
    def header(self) -> Header | None:
        """Who wrote it; None where the header is damaged."""
        return self.reader.header

    @property
    def attempt(self) -> int:
        """The attempt it belongs to."""
        return self.header.attempt if self.header else 1

    @property
    def path(self) -> Path:
        """The file."""
        return self.reader.path

    @property
    def name(self) -> str:
        """What deletions call this log: its file's name without ``.log``."""
        return self.reader.path.stem

    @property
    def generation(self) -> str:
        """Of its first header; empty where no header can be read."""
        return self.header.generation if self.header else ""

    def places(self, space: str) -> dict[str, list[_Place]]:
        """Where the values of each metric are: rows, column, type letter."""
        known = self._places.get(space)
        if known is None:
            known = self._places[space] = {}
            for rows in self.rows:
                keyset = self.reader.keysets.get(rows.keyset)
                if keyset is None or keyset.space != space:
                    continue
                width = rows.values.shape[1]
                for column, (name, type) in enumerate(zip(keyset.names, keyset.types, strict=True)):
                    if column < width:
                        known.setdefault(name, []).append((rows, column, type))
        return known

    def values(self) -> dict[str, list[_Value]]:
        """The values that were stored as events, by metric: offset, step, time, value."""
        if self._values is None:
            self._values = {}
            for offset, event in self.events:
                step = event.fields.get("step")
                if event.type == "value" and isinstance(step, int):
                    for name, value in data_of(event).items():
                        entry = (offset, step, event.time, value)
                        self._values.setdefault(name, []).append(entry)
        return self._values

    def grow(self) -> None:
        """More was read: what was worked out is worked out again."""
        self._places = {}
        self._values = None

    def clear(self) -> None:
        """Forget what was read: the file is read again from its start."""
        self.rows, self.events, self.damage = [], [], []
        self.frames = self.points = self.unknown = 0


class RunLogs:
    """The logs in a run's folder; ``refresh`` reads on where the last one stopped.

    Deleted points count as never logged: they are in no column, no number, no list of metrics.

    Args:
        folder: The run's folder.

    Attributes:
        deletions: Those that were read so far.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.deletions = Deletions()
        self._written: dict[Path, Written] = {}

    @property
    def writers(self) -> list[Written]:
        """One entry a log, by the time its writer began."""
        return sorted(self._written.values(), key=lambda w: began(w.header, w.path))

    def refresh(self) -> bool:
        """Read what is new in every log; returns whether there was anything."""
        changed = False
        present = logs(self.folder)
        for gone in set(self._written) - set(present):
            del self._written[gone]
            changed = True
        for path in present:
            written = self._written.setdefault(path, Written(LogReader(path)))
            changed |= self._read_on(written)
        if changed:
            self._learn_deletions()
        return changed

    def _learn_deletions(self) -> None:
        self.deletions = Deletions.of(
            event
            for written in self._written.values()
            for _, event in written.events
            if event.type in DELETION_EVENTS
        )

    def _read_on(self, written: Written) -> bool:
        restarts = written.reader.restarts
        try:
            batch = written.reader.read()
        except FileNotFoundError:
            del self._written[written.reader.path]
            return True
        restarted = written.reader.restarts != restarts
        if restarted:
            written.clear()
        written.rows += batch.rows
        written.events += batch.events
        written.damage += batch.damage
        written.frames += batch.frames
        written.points += batch.points
        written.unknown += batch.unknown
        written.grow()
        return restarted or batch.frames > 0

    def events(self, types: Iterable[str] | None = None) -> list[tuple[Written, Event]]:
        """The events of these types (or all) with their writers, by time, then place in the log."""
        return events_in_order(self.writers, types)

    def keys(self, space: str = METRIC) -> list[str]:
        """The names of all metrics, sorted; without those whose points are all deleted."""
        names: set[str] = set()
        for written in self._written.values():
            for keyset in written.reader.keysets.values():
                if keyset.space == space:
                    names.update(keyset.names)
            if space == METRIC:
                names.update(written.values())
        if space == METRIC and self.deletions:
            # Also where no point of it is left: a compaction must not bring the name back that
            # another log only declares.
            gone = {n for n in names if self.deletions.names(n) and not self.arrivals(n)}
            names -= gone
        return sorted(names)

    def columns(self, key: str, space: str = METRIC) -> Columns:
        """Every arrival of one metric; empty where there is none of this name.

        Order of arrival: by attempt; then by time between writers, and by place in the log within
        one writer (its clock may have been set back).
        """
        parts = [
            part
            for number, written in enumerate(self.writers)
            for part in self.parts(number, written, key, space)
        ]
        return joined(parts)

    def parts(self, number: int, written: Written, key: str, space: str = METRIC) -> list[Part]:
        """The points of one metric from one writer, the ``number``-th, that are not deleted."""
        parts = parts_of(number, written, key, space)
        if space != METRIC or not self.deletions.concerns(written.name, written.generation):
            return parts
        kept = [part.kept(self.keep(written, key, part.offsets, part.steps)) for part in parts]
        # Invariant: a part without points has no say in the type of the column.
        return [part for part in kept if len(part.steps)]

    def keep(
        self, written: Written, key: str, offsets: npt.NDArray[np.int64], steps: npt.NDArray[Any]
    ) -> npt.NDArray[np.bool_] | None:
        """Which points of a metric in this log are not deleted; None where none is."""
        return self.deletions.keep(written.name, written.generation, key, offsets, steps)

    def arrivals(self, key: str) -> int:
        """How many points of a metric arrived, repeated and superseded ones included."""
        return sum(self._arrived(written, key) for written in self._written.values())

    def _arrived(self, written: Written, key: str) -> int:
        if self.deletions.concerns(written.name, written.generation):
            return sum(len(part.steps) for part in self.parts(0, written, key))
        rows = sum(len(rows.steps) for rows, _, _ in written.places(METRIC).get(key, ()))
        return rows + len(written.values().get(key, ()))

    @property
    def points(self) -> int:
        """How many values of rows were read that are not deleted."""
        written = self._written.values()
        return sum(w.points for w in written) - sum(self._hidden(w) for w in written)

    def _hidden(self, written: Written) -> int:
        """How many values of rows are deleted in one log."""
        if not self.deletions.concerns(written.name, written.generation):
            return 0
        count = 0
        for key, places in written.places(METRIC).items():
            for rows, _, _ in places:
                kept = self.keep(written, key, rows.offsets, rows.steps)
                count += 0 if kept is None else len(kept) - int(kept.sum())
        return count


def parts_of(number: int, written: Written, key: str, space: str) -> list[Part]:
    """Everything one writer, the ``number``-th, has of a metric, deleted points included."""
    parts = [
        Part(
            number,
            written.attempt,
            type,
            rows.offsets,
            rows.steps,
            rows.times,
            rows.values[:, column],
        )
        for rows, column, type in written.places(space).get(key, ())
    ]
    if space == METRIC:
        part = _part_of_events(number, written, key)
        parts += [] if part is None else [part]
    return parts


def data_of(event: Event) -> dict[str, Any]:
    """What a ``value`` event holds; nothing where that is no map of texts."""
    data = event.fields.get("data")
    return data if isinstance(data, dict) and {*map(type, data)} <= {str} else {}


def _part_of_events(number: int, written: Written, key: str) -> Part | None:
    """Values that were stored as events: large integers, text, lists."""
    found = written.values().get(key)
    if not found:
        return None
    values = np.empty(len(found), object)
    steps = np.empty(len(found), object)
    for index, (_, step, _, value) in enumerate(found):
        values[index], steps[index] = value, step
    with_64_bits = all(-(1 << 63) <= step < 1 << 63 for step in steps)
    return Part(
        number,
        written.attempt,
        "o",
        np.array([offset for offset, _, _, _ in found], np.int64),
        steps.astype(np.int64) if with_64_bits else steps,
        np.array([time for _, _, time, _ in found], np.float64),
        values,
    )
