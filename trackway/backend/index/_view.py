"""Some runs of an index as they are at one moment: chunks of one committed state, and tails."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from trackway.backend.file._order import began
from trackway.backend.file.format import METRIC, Event
from trackway.backend.file.reader import read_event
from trackway.backend.file.run_logs import Columns, Part, Written, as_declared, parts_of
from trackway.backend.index._points import Heads, Points, columns_of, follow, metric_of
from trackway.backend.index._tail import LogState, Tail
from trackway.backend.index.contract import Chunk, LogLine, Reading, RunRef
from trackway.backend.index.document import ToldLog, ToldLogs, run_deletions, told_logs
from trackway.backend.index.source import CELL_STEPS, CellLine, Cells, Line
from trackway.backend.points import Metric, Series, resolve

__all__ = ["StaleError", "View"]

Values = npt.NDArray[Any]

CELLS_FROM: Final = 1 << 16
"""Points from which on a line is asked for as cells."""

_INTEGERS: Final = ("id", "count", "nan", "inf_pos", "inf_neg")
_NO_CELLS: Final[dict[str, Values]] = {
    **{name: np.empty(0, np.int64) for name in _INTEGERS},
    **{name: np.empty(0, np.uint8) for name in ("low", "high")},
    **{name: np.empty(0) for name in ("min", "max", "sum", "first", "last")},
}


class StaleError(Exception):
    """Somebody else changed the index below a tail: the runs are to be refreshed."""


class View:
    """What a store and some tails say of some runs. Belongs to one ``read()`` block.

    Args:
        reading: The block.
        root: The folder that holds all projects.
        refs: The runs by number.
        tails: What is behind the index, by run and log.
        points: What decodes chunks.
        started: When runs began; what is found out is added to it.

    Raises:
        StaleError: A tail does not join what the store holds.
    """

    def __init__(
        self,
        reading: Reading,
        root: Path,
        refs: Mapping[int, RunRef],
        tails: Mapping[int, Mapping[int, Tail]],
        points: Points,
        started: dict[int, float],
    ) -> None:
        self.reading = reading
        self.runs = list(refs)
        self._root = root
        self._refs = refs
        self._points = points
        self._revision = reading.revision()
        self._started = started
        self._shared: dict[tuple[int, ...], tuple[Values, Values]] = {}
        self._orders: dict[int, dict[int, tuple[int, int]]] = {}
        self._tails = tails
        self._behind: dict[int, list[tuple[LogLine, Tail, Written]]] = {}
        mine = tails.keys() & refs.keys()
        for line in reading.logs(mine) if mine else ():
            tail = tails[line.run].get(line.log)
            if tail is None:
                continue
            if line.offset < tail.start or tail.afresh:
                raise StaleError
            rest = tail.cut(line.offset)
            if rest.rows or rest.events:
                self._behind.setdefault(line.run, []).append((line, tail, rest))

    # -- what a run says -------------------------------------------------------------------

    def ref(self, run: int) -> RunRef:
        """Which run has this number."""
        return self._refs[run]

    def told(self, run: int) -> ToldLogs:
        """The run's logs with their events."""
        ref = self._refs[run]
        return told_logs(self.reading, run, self._root / ref.project / ref.id, self._tails.get(run))

    def events(self, run: int, types: Collection[str] | None = None) -> list[tuple[ToldLog, Event]]:
        """The events of these types (or all but single values), whole, in order."""
        told = self.told(run)
        by_number = {log.number: log for log in told.writers}
        for row in self.reading.events([run], types):
            log = by_number.get(row.log)
            if row.body is None and log is not None:
                event = read_event(log.path, row.offset)
                if event is not None and event.type == row.type:
                    log.events.append((row.offset, event))
        return [entry for entry in told.events(types) if entry[1].type != "value"]

    def order(self, run: int) -> dict[int, tuple[int, int]]:
        """For each log of the run its place in the order of writers, and its attempt."""
        known = self._orders.get(run)
        if known is None:
            lines = self.reading.logs([run])
            states = self.reading.states([line.log for line in lines])
            headers = {
                line.log: LogState.unpack(states.get(line.log)).position.header for line in lines
            }
            for line in lines:
                tail = self._tails.get(run, {}).get(line.log)
                if headers[line.log] is None and tail is not None:
                    headers[line.log] = tail.reader.header
            ranked = sorted(lines, key=lambda line: began(headers[line.log], Path(line.name)))
            known = self._orders[run] = {
                line.log: (place, h.attempt if (h := headers[line.log]) else 1)
                for place, line in enumerate(ranked)
            }
            starts = [h.created for h in headers.values() if h is not None and h.role != "editor"]
            self._started[run] = min(starts, default=0.0)
        return known

    def started(self, run: int) -> float:
        """When the run's first writer began, seconds since 1970."""
        if run not in self._started:
            self.order(run)
        return self._started[run]

    def keys(self, run: int, space: str = METRIC) -> list[str]:
        """The names of a run's metrics, sorted."""
        keys = self.reading.keys_of([run], space).get(run, [])
        known = self._points.names(self.reading, keys)
        names = {known[key] for key in keys}
        for _, _, rest in self._behind.get(run, ()):
            names.update(name for name, places in rest.places(space).items() if places)
            if space == METRIC:
                names.update(rest.values())
        if space == METRIC and self._behind.get(run):
            deletions = run_deletions(self.reading, run, self._tails_of(run))
            hidden = {name for name in names if deletions.names(name)}
            names -= {name for name in hidden if not len(self.columns(run, name))}
        return sorted(names)

    def all_keys(self, space: str = METRIC) -> set[str]:
        """The names of the metrics that any of the runs has."""
        sealed = [run for run in self.runs if run not in self._behind]
        keys = {key for keys in self.reading.keys_of(sealed, space).values() for key in keys}
        known = self._points.names(self.reading, keys)
        names = {known[key] for key in keys}
        for run in self._behind:
            names.update(self.keys(run, space))
        return names

    def _tails_of(self, run: int) -> list[Tail]:
        return [tail for _, tail, _ in self._behind.get(run, ())]

    # -- points ----------------------------------------------------------------------------

    def _chunks(self, runs: Sequence[int], name: str, space: str, *, cells: bool = False) -> Heads:
        key = self._points.number(self.reading, space, name)
        if key is None:
            return Heads()
        return self._points.heads(self.reading, self._revision, runs, key, cells=cells)

    def _parts(self, run: int, name: str, space: str) -> list[Part]:
        """The points of a metric that are behind the index."""
        behind = self._behind.get(run)
        if not behind:
            return []
        order = self.order(run)
        deletions = run_deletions(self.reading, run, self._tails_of(run))
        parts: list[Part] = []
        for line, tail, rest in behind:
            number, attempt = order[line.log]
            generation = tail.reader.header.generation if tail.reader.header else ""
            for part in parts_of(number, rest, name, space):
                part.attempt = attempt
                kept = part
                if space == METRIC and deletions:
                    mask = deletions.keep(
                        tail.path.stem, generation, name, part.offsets, part.steps
                    )
                    kept = part.kept(mask)
                if len(kept.steps):
                    parts.append(kept)
        return parts

    def columns(self, run: int, name: str, space: str = METRIC) -> Columns:
        """Every arrival of one metric, as ``RunLogs.columns`` gives it.

        Steps and times may be shared with other answers: they cannot be written to.
        """
        chunks = self._chunks([run], name, space).get(run, [])
        return self._columns(run, chunks, self._parts(run, name, space))

    def latest(self, run: int, name: str, count: int) -> Columns:
        """At least the last ``count`` arrivals of a metric (all, where there are fewer).

        Where points simply follow each other only the last chunks are looked at.
        """
        chunks = self._chunks([run], name, METRIC).get(run, [])
        tail = self._parts(run, name, METRIC)
        if chunks and self._is_straight(run, chunks, tail):
            have, first = sum(len(part.steps) for part in tail), len(chunks)
            while first and have < count:
                first -= 1
                have += chunks[first].head.n
            chunks = chunks[first:]
        return self._columns(run, chunks, tail)

    def _columns(self, run: int, chunks: Sequence[Chunk], tail: list[Part]) -> Columns:
        if chunks and not tail and self._is_straight(run, chunks, tail):
            return self._straight_columns(run, chunks)
        return columns_of(self.reading, self._points, chunks, self.order(run), tail)

    def _straight_columns(self, run: int, chunks: Sequence[Chunk]) -> Columns:
        """Columns where nothing is to be put in order: metrics logged together share theirs."""
        axes = tuple(chunk.axis for chunk in chunks)
        shared = self._shared.get(axes)
        if shared is None:
            encoded = self._points.axes(self.reading, set(axes))
            times = self._points.times(self.reading, set(axes))
            shared = self._shared[axes] = (
                _joined([self._points.steps(encoded[axis]) for axis in axes]),
                _joined([times[axis] for axis in axes]),
            )
            for part in shared:
                part.flags.writeable = False
        values = np.concatenate(self._points.values(self.reading, chunks), dtype=np.float64)
        types = {chunk.head.types for chunk in chunks}
        if len(types) == 1:
            values = as_declared(values, types.pop())
        attempt = self.order(run)[chunks[0].log][1]
        attempts = np.broadcast_to(np.int64(attempt), values.shape)
        return Columns(*shared, values, attempts)

    def metrics(self, run: int, names: Iterable[str] | None = None) -> dict[str, Metric]:
        """The statistics of the live lines of these metrics, or of all."""
        keys = self.reading.keys_of([run], METRIC).get(run, [])
        known = self._points.names(self.reading, keys)
        wanted = set(self.keys(run) if names is None else names)
        mine = [key for key in keys if known[key] in wanted]
        by_name: dict[str, list[Chunk]] = {name: [] for name in sorted(wanted)}
        for chunk in self.reading.chunks([run], mine, data=False) if mine else ():
            by_name[known[chunk.key]].append(chunk)
        told = {}
        for name, chunks in by_name.items():
            metric = self._metric(run, name, chunks)
            if metric.count:
                told[name] = metric
        return told

    def _metric(self, run: int, name: str, chunks: list[Chunk]) -> Metric:
        tail = self._parts(run, name, METRIC)
        if chunks and not tail:
            metric = metric_of(name, chunks, self.order(run))
            if metric is not None:
                return metric
        columns = self._columns(run, chunks, tail)
        return Metric.of(resolve(name, columns, attempts="live", repeats="last", order="step"))

    def arrivals(self, run: int, name: str) -> int:
        """How many points of a metric arrived, without those that were deleted."""
        chunks = self._chunks([run], name, METRIC).get(run, [])
        tail = self._parts(run, name, METRIC)
        return sum(chunk.head.n for chunk in chunks) + sum(len(part.steps) for part in tail)

    # -- lines -----------------------------------------------------------------------------

    def lines(
        self, runs: Sequence[int], name: str, *, attempts: str, repeats: str, times: bool
    ) -> list[Line]:
        """See ``source.Source.lines``."""
        chunks = self._chunks(runs, name, METRIC)
        steps_of = self._points.axes(
            self.reading, {chunk.axis for found in chunks.values() for chunk in found}
        )
        straight: dict[int, list[Chunk]] = {}
        tails: dict[int, list[Part]] = {}
        for run in runs:
            tail = tails[run] = self._parts(run, name, METRIC)
            if run in chunks and self._is_straight(run, chunks[run], tail, chunks):
                straight[run] = chunks[run]
        ordered = [chunk for found in straight.values() for chunk in found]
        values = dict(
            zip(
                (chunk.chunk for chunk in ordered),
                self._points.values(self.reading, ordered),
                strict=True,
            )
        )
        clocks = (
            self._points.times(self.reading, {chunk.axis for chunk in ordered}) if times else {}
        )
        shares: dict[tuple[bytes, ...], int] = {}
        lines: list[Line] = []
        for run in runs:
            tail = tails[run]
            if run in straight:
                mine = straight[run]
                encoded = tuple(steps_of[chunk.axis] for chunk in mine)
                lines.append(
                    Line(
                        run,
                        _joined(
                            [*map(self._points.steps, encoded), *(part.steps for part in tail)]
                        ),
                        _joined([*(clocks[c.axis] for c in mine), *(p.times for p in tail)])
                        if times
                        else np.empty(0),
                        _joined([*(values[c.chunk] for c in mine), *(p.values for p in tail)]),
                        self.started(run) if times else 0.0,
                        None if tail else shares.setdefault(encoded, len(shares)),
                    )
                )
            elif run in chunks or tail:
                columns = self._columns(run, chunks.get(run, []), tail)
                series = resolve(name, columns, attempts=attempts, repeats=repeats, order="step")
                if len(series):
                    lines.append(_line_of(run, series, self.started(run)))
        return lines

    def _is_straight(
        self, run: int, chunks: Sequence[Chunk], tail: Sequence[Part], heads: Heads | None = None
    ) -> bool:
        """Whether the points simply follow each other: numbers of one log, each step higher."""
        if not (follow(chunks) if heads is None else run in heads.straight):
            return False
        if len(tail) > 1:
            return False
        for part in tail:
            if part.type == "o" or part.writer != self.order(run)[chunks[0].log][0]:
                return False
            if int(part.steps[0]) <= chunks[-1].head.high:
                return False
            if not (part.steps[1:] > part.steps[:-1]).all():
                return False
        return True

    def extent(self, runs: Sequence[int], name: str) -> tuple[int, int] | None:
        """See ``source.Source.extent``."""
        lows: list[int] = []
        highs: list[int] = []
        for found in self._chunks(runs, name, METRIC).values():
            lows += [chunk.head.low for chunk in found]
            highs += [chunk.head.high for chunk in found]
        for run in self._behind.keys() & set(runs):
            for part in self._parts(run, name, METRIC):
                lows.append(int(part.steps.min()))
                highs.append(int(part.steps.max()))
        return (min(lows), max(highs)) if lows else None

    def cells(self, runs: Sequence[int], name: str, lo: int, hi: int) -> dict[int, CellLine]:
        """See ``source.Source.cells``."""
        chunks = self._chunks(runs, name, METRIC)
        wanted = [
            run
            for run in runs
            if run in chunks
            and sum(chunk.head.n for chunk in chunks[run]) > CELLS_FROM
            and self._is_straight(run, chunks[run], self._parts(run, name, METRIC), chunks)
        ]
        if not wanted:
            return {}
        chunks = self._chunks(wanted, name, METRIC, cells=True)
        return {
            run: self._cell_line(run, chunks[run], self._parts(run, name, METRIC), lo, hi)
            for run in wanted
        }

    def _cell_line(
        self, run: int, chunks: list[Chunk], tail: list[Part], lo: int, hi: int
    ) -> CellLine:
        inside = [chunk for chunk in chunks if chunk.head.high >= lo and chunk.head.low <= hi]
        plain = [chunk for chunk in inside if chunk.cells is None]
        cells = [self._points.cells(c.chunk, c.cells) for c in inside if c.cells is not None]
        steps_of = self._points.axes(self.reading, {chunk.axis for chunk in plain})
        steps = [self._points.steps(steps_of[chunk.axis]) for chunk in plain]
        values = self._points.values(self.reading, plain)
        steps += [part.steps for part in tail]
        values += [part.values for part in tail]
        joined_steps = _joined(steps) if steps else np.empty(0, np.int64)
        joined_values = _joined(values) if values else np.empty(0)
        within = slice(
            int(np.searchsorted(joined_steps, lo, "left")),
            int(np.searchsorted(joined_steps, hi, "right")),
        )
        return CellLine(
            run,
            _cut_cells(cells, lo, hi),
            joined_steps[within],
            joined_values[within],
            sum(chunk.head.n for chunk in chunks) + sum(len(part.steps) for part in tail),
        )


def _joined(parts: Sequence[Values]) -> Values:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _line_of(run: int, series: Series, started: float) -> Line:
    """A resolved series as a line: of its numbers, as far as steps fit into 64 bits."""
    if series.steps.dtype != object and series.values.dtype != object:
        values = series.values
        if values.dtype != np.float64:
            values = values.astype(np.float64)
        return Line(run, series.steps, series.times, values, started)
    kept, numbers = [], []
    for place, (step, value) in enumerate(zip(series.steps, series.values, strict=True)):
        if isinstance(value, (int, float)) and -(1 << 63) <= int(step) < 1 << 63:
            try:
                numbers.append(float(value))
            except OverflowError:
                continue
            kept.append(place)
    index = np.array(kept, np.int64)
    return Line(
        run,
        series.steps[index].astype(np.int64),
        series.times[index],
        np.array(numbers, np.float64),
        started,
        None,
        len(series) - len(kept),
    )


def _cut_cells(cells: Sequence[Cells], lo: int, hi: int) -> Cells:
    joined = {
        name: np.concatenate([getattr(part, name) for part in cells]) if cells else _NO_CELLS[name]
        for name in _NO_CELLS
    }
    first = -(-lo // CELL_STEPS)
    last = (hi + 1) // CELL_STEPS
    inside = slice(
        int(np.searchsorted(joined["id"], first, "left")),
        int(np.searchsorted(joined["id"], last, "left")),
    )
    return Cells(**{name: column[inside] for name, column in joined.items()})
