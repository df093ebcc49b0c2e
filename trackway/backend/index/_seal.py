"""Puts what was read of a log into the index: chunks, merged with small ones before them.

Chunks of a key in a log are like the digits of a binary counter: a new one takes in those before
it that are not larger than twice what it holds, up to CHUNK_POINTS. So a series of n points has
about log2(n) chunks while it grows, and each point is rewritten about as often.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from trackway.backend.file.deletions import Deletions
from trackway.backend.file.format import METRIC, SYSTEM
from trackway.backend.file.run_logs import Written, beside_objects, parts_of
from trackway.backend.index import codec
from trackway.backend.index._heads import heads_of
from trackway.backend.index._points import decoded
from trackway.backend.index.contract import Chunk, Head, Writing
from trackway.backend.index.source import CELL_STEPS

__all__ = ["CHUNK_POINTS", "PYRAMID_POINTS", "Bunch", "bunches", "seal_points"]

CHUNK_POINTS: Final = 1 << 15
"""Points a chunk holds at most. Measured: 100 points a chunk cost four times what 10,000 do."""

CELL_POINTS: Final = 16
"""Points that a cell has to hold on average, or there are none."""

PYRAMID_POINTS: Final = 1 << 16
"""A series longer than this gets a pyramid; a shorter one is bucketed as fast without."""

Values = npt.NDArray[Any]


@dataclass(slots=True)
class Bunch:
    """Metrics that were logged together: their points share steps and times.

    Attributes:
        space: ``metric`` or ``system``.
        names: Their names.
        types: For each the letters of its values' types.
        values: For each its values: float64, or objects.
    """

    space: str
    names: list[str]
    types: list[str]
    steps: Values
    times: npt.NDArray[np.float64]
    values: list[Values]

    def __len__(self) -> int:
        return len(self.steps)


def bunches(written: Written, deletions: Deletions) -> Iterator[Bunch]:
    """The points of one log in order of their places, without those that were deleted."""
    for space in (METRIC, SYSTEM):
        objects = written.values() if space == METRIC else {}
        spoilt = space == METRIC and deletions.concerns(written.name, written.generation)
        together: dict[tuple[int, ...], list[str]] = {}
        places = written.places(space)
        for name, found in places.items():
            if name not in objects and not spoilt:
                together.setdefault(tuple(id(rows) for rows, _, _ in found), []).append(name)
        for names in together.values():
            yield _shared(written, space, names)
        for name in {*places, *objects} if spoilt else objects:
            bunch = _alone(written, space, name, deletions)
            if bunch is not None:
                yield bunch


def _shared(written: Written, space: str, names: list[str]) -> Bunch:
    places = written.places(space)
    first = [rows for rows, _, _ in places[names[0]]]
    types = ["".join(sorted({type for _, _, type in places[name]})) for name in names]
    if len(first) == 1:
        values = [first[0].values[:, places[name][0][1]] for name in names]
        return Bunch(space, names, types, first[0].steps, first[0].times, values)
    order = np.argsort(np.concatenate([rows.offsets for rows in first]), kind="stable")
    return Bunch(
        space,
        names,
        types,
        np.concatenate([rows.steps for rows in first])[order],
        np.concatenate([rows.times for rows in first])[order],
        [
            np.concatenate([rows.values[:, column] for rows, column, _ in places[name]])[order]
            for name in names
        ],
    )


def _alone(written: Written, space: str, name: str, deletions: Deletions) -> Bunch | None:
    parts = parts_of(0, written, name, space)
    if space == METRIC:
        log = written.name, written.generation
        parts = [p.kept(deletions.keep(*log, name, p.offsets, p.steps)) for p in parts]
    parts = [part for part in parts if len(part.steps)]
    if not parts:
        return None
    types = "".join(sorted({part.type for part in parts}))
    plain = beside_objects(parts) if "o" in types else [part.values for part in parts]
    steps = np.concatenate([part.steps for part in parts])
    times = np.concatenate([part.times for part in parts])
    order = np.argsort(np.concatenate([part.offsets for part in parts]), kind="stable")
    return Bunch(space, [name], [types], steps[order], times[order], [np.concatenate(plain)[order]])


@dataclass(slots=True)
class _Trail:
    """What comes before a bunch in the index: the chunks it takes in, first to last."""

    chunks: list[Chunk]
    next_seq: int
    points: int


def seal_points(
    writing: Writing, run: int, log: int, found: list[Bunch], *, is_first: bool = False
) -> None:
    """Add the points of one log to its chunks. Inside the transaction that moves its offset.

    Args:
        writing: The transaction.
        run: The run's number.
        log: The log's number.
        found: The points.
        is_first: Whether the log is known to have no chunks yet.
    """
    merged: list[int] = []
    chunks: list[Chunk] = []
    for bunch in found:
        keys = writing.key_numbers([(bunch.space, name) for name in bunch.names])
        trails = {key: _Trail([], 0, 0) for key in keys}
        if not is_first:
            _find_trails(writing, run, log, trails, len(bunch))
        alike: dict[tuple[int, ...], list[int]] = {}
        for place, key in enumerate(keys):
            before = tuple(chunk.axis for chunk in trails[key].chunks)
            alike.setdefault(before, []).append(place)
        for places in alike.values():
            mine = [trails[keys[place]] for place in places]
            merged += [chunk.chunk for trail in mine for chunk in trail.chunks]
            grown = _grown(writing, bunch, places, mine)
            chunks += _chunks(writing, run, log, [keys[place] for place in places], grown, mine)
    writing.add_chunks(chunks)
    if merged:
        writing.remove_chunks(merged)
        writing.sweep_axes(log)


def _find_trails(
    writing: Writing, run: int, log: int, trails: dict[int, _Trail], count: int
) -> None:
    for chunk in writing.chunks([run], list(trails), data=False):
        if chunk.log == log:
            trail = trails[chunk.key]
            trail.chunks.append(chunk)
            trail.next_seq = chunk.seq + 1
            trail.points += chunk.head.n
    for trail in trails.values():
        taken, total = 0, count
        for chunk in reversed(trail.chunks):
            if chunk.head.n > 2 * total or chunk.head.n + total > CHUNK_POINTS:
                break
            taken += 1
            total += chunk.head.n
        trail.chunks = trail.chunks[len(trail.chunks) - taken :]


def _grown(writing: Writing, bunch: Bunch, places: list[int], trails: list[_Trail]) -> Bunch:
    """A part of a bunch behind the chunks it takes in, which have the same axes for all of it."""
    grown = Bunch(
        bunch.space,
        [bunch.names[place] for place in places],
        [bunch.types[place] for place in places],
        bunch.steps,
        bunch.times,
        [bunch.values[place] for place in places],
    )
    before = trails[0].chunks
    if not before:
        return grown
    axes = writing.axes([chunk.axis for chunk in before])
    found = [axes[chunk.axis] for chunk in before]
    grown.steps = _joined([*(codec.decode_steps(axis.steps) for axis in found), bunch.steps])
    grown.times = np.concatenate([*(codec.decode_times(axis.times) for axis in found), bunch.times])
    data = writing.chunk_data([chunk.chunk for trail in trails for chunk in trail.chunks])
    for place, trail in enumerate(trails):
        letters = {*grown.types[place]}.union(*(chunk.head.types for chunk in trail.chunks))
        grown.types[place] = "".join(sorted(letters))
        parts = [decoded(data[chunk.chunk], chunk.head.types) for chunk in trail.chunks]
        grown.values[place] = _joined([*parts, grown.values[place]])
    return grown


def _joined(parts: list[Values]) -> Values:
    if any(part.dtype == object for part in parts):
        return np.concatenate([_objects(part) for part in parts])
    wide = np.int64 if parts[-1].dtype.kind == "i" else np.float64
    return np.concatenate(parts, dtype=wide)


def _objects(values: Values) -> Values:
    if values.dtype == object:
        return values
    objects = np.empty(len(values), object)
    objects[:] = values.tolist()
    return objects


def _chunks(
    writing: Writing, run: int, log: int, keys: list[int], grown: Bunch, trails: list[_Trail]
) -> list[Chunk]:
    chunks: list[Chunk] = []
    for number, start in enumerate(range(0, len(grown), CHUNK_POINTS)):
        part = slice(start, start + CHUNK_POINTS)
        steps, times = grown.steps[part], grown.times[part]
        axis = writing.add_axis(log, codec.encode_steps(steps), codec.encode_times(times))
        values = [column[part] for column in grown.values]
        heads = heads_of(steps, times, values, grown.types)
        data = _encoded(values, heads)
        for place, (key, trail) in enumerate(zip(keys, trails, strict=True)):
            is_long = trail.points + len(grown) > PYRAMID_POINTS
            chunks.append(
                Chunk(
                    0,
                    run,
                    log,
                    key,
                    trail.next_seq + number,
                    axis,
                    heads[place],
                    data[place],
                    codec.cells_of(steps, values[place])
                    if is_long and _is_dense(heads[place])
                    else None,
                )
            )
    return chunks


def _is_dense(head: Head) -> bool:
    """Whether cells are few beside the points: for sparse steps a cell would hold one or two."""
    return "o" not in head.types and head.high - head.low < head.n * CELL_STEPS // CELL_POINTS


def _encoded(values: list[Values], heads: list[Head]) -> list[bytes]:
    if any("o" in head.types for head in heads):
        return [
            codec.encode_objects(column.tolist())
            if "o" in head.types
            else codec.encode_values(column)
            for column, head in zip(values, heads, strict=True)
        ]
    return codec.encode_columns(values)
