"""The rows of a run as they are stored, and which of their points count.

What ``StoredRun.history`` copies into a column a metric is left here in the rows it came in, with
an index beside them: metrics that were always logged together share one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from trackway.api._history import resolve
from trackway.backend.file.format import METRIC
from trackway.backend.file.run_logs import (
    Columns,
    Part,
    RunLogs,
    Written,
    data_of,
    joined,
)

__all__ = ["Block", "Group", "Records"]

Index = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(slots=True)
class Block:
    """Records of one writer that hold the same names.

    Attributes:
        columns: Where each name is in ``values``.
        types: A letter a name: f, i, b, or o for an object.
        start: The number of its first record among all of ``Records``.
        kept: By number of a group: which records hold a point of it that counts.
        left: By name: which records hold a point of it that is not deleted; only for names of
            which some are.
    """

    writer: int
    attempt: int
    columns: dict[str, int]
    types: str
    offsets: Index
    steps: npt.NDArray[Any]
    times: npt.NDArray[np.float64]
    values: npt.NDArray[Any]
    start: int = 0
    kept: dict[int, Mask] = field(default_factory=dict)
    left: dict[str, Mask] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.steps)


@dataclass(frozen=True, slots=True)
class Group:
    """Metrics that are in the same blocks, so that the same records hold their points.

    Attributes:
        number: Its place among the groups.
        keys: Their names.
        index: The records whose points count, in order of arrival or of steps.
        steps: The step of each.
    """

    number: int
    keys: tuple[str, ...]
    index: Index
    steps: npt.NDArray[Any]


class Records:
    """All records of one space, numbered through in no particular order."""

    def __init__(self, logs: RunLogs, space: str = METRIC) -> None:
        blocks = (block for block in _blocks(logs, space) if len(block))
        self.blocks = list(_without_deleted(logs, blocks) if space == METRIC else blocks)
        self._starts = np.zeros(len(self.blocks), np.int64)
        total = 0
        for number, block in enumerate(self.blocks):
            block.start = self._starts[number] = total
            total += len(block)
        self.total = total

    def groups(
        self, keys: Iterable[str], *, attempts: str, repeats: str, order: str
    ) -> list[Group]:
        """The points of these metrics that count, by the rules of ``StoredRun.history``."""
        holders: dict[str, list[int]] = {key: [] for key in keys}
        for number, block in enumerate(self.blocks):
            for name in block.columns.keys() & holders.keys():
                holders[name].append(number)
        together: dict[tuple[tuple[int, bytes | None], ...], list[str]] = {}
        for key, numbers in holders.items():
            if numbers:
                # Metrics share what counts of them only where the same points were deleted.
                alike = tuple((number, self._left(number, key)) for number in numbers)
                together.setdefault(alike, []).append(key)
        groups: list[Group] = []
        for places, names in together.items():
            blocks = [self.blocks[place] for place, _ in places]
            left = [block.left.get(names[0]) for block in blocks]
            index, steps = _chosen(blocks, left, attempts=attempts, repeats=repeats, order=order)
            group = Group(len(groups), tuple(names), index, steps)
            self._mark(blocks, group)
            groups.append(group)
        return groups

    def _left(self, number: int, key: str) -> bytes | None:
        mask = self.blocks[number].left.get(key)
        return None if mask is None else mask.tobytes()

    def _mark(self, blocks: list[Block], group: Group) -> None:
        kept = np.zeros(self.total, np.bool_)
        kept[group.index] = True
        for block in blocks:
            block.kept[group.number] = kept[block.start : block.start + len(block)].copy()

    def arrivals(self) -> Index:
        """The records that hold a point that counts, in order of arrival."""
        kept = np.zeros(self.total, np.bool_)
        for block in self.blocks:
            for mask in block.kept.values():
                kept[block.start : block.start + len(block)] |= mask
        blocks = [block for block in self.blocks if block.kept]
        if not blocks:
            return np.empty(0, np.int64)
        every = [None] * len(blocks)
        order, _ = _chosen(blocks, every, attempts="all", repeats="all", order="arrival")
        return order[kept[order]]

    def block_of(self, index: Index) -> Index:
        """The number of the block that holds each record."""
        return np.searchsorted(self._starts, index, side="right") - 1

    def by_block(self, index: Index) -> Iterator[tuple[Block, Index, Index]]:
        """For each block of these records: the block, their places in ``index``, and in it."""
        numbers = self.block_of(index)
        for number in np.unique(numbers).tolist():
            block = self.blocks[number]
            places = np.flatnonzero(numbers == number)
            yield block, places, index[places] - block.start

    def gather(self, name: str, index: Index) -> npt.NDArray[Any]:
        """``steps``, ``times``, ``attempt`` or ``writer`` of these records."""
        parts = list(self.by_block(index))
        found = [
            np.broadcast_to(np.asarray(getattr(block, name)), len(block))[inner]
            for block, _, inner in parts
        ]
        if not found:
            return np.empty(0, np.int64)
        gathered = np.empty(len(index), np.result_type(*found))
        for (_, places, _), values in zip(parts, found, strict=True):
            gathered[places] = values
        return gathered


def _blocks(logs: RunLogs, space: str) -> Iterator[Block]:
    for number, written in enumerate(logs.writers):
        for rows in written.rows:
            keyset = written.reader.keysets.get(rows.keyset)
            if keyset is None or keyset.space != space:
                continue
            columns: dict[str, int] = {}
            for place, name in enumerate(keyset.names[: rows.values.shape[1]]):
                columns.setdefault(name, place)
            yield Block(
                number,
                written.attempt,
                columns,
                keyset.types,
                rows.offsets,
                rows.steps,
                rows.times,
                rows.values,
            )
        if space == METRIC:
            yield from _event_blocks(number, written)


def _without_deleted(logs: RunLogs, blocks: Iterable[Block]) -> Iterator[Block]:
    writers = logs.writers
    for block in blocks:
        written = writers[block.writer]
        if logs.deletions.concerns(written.name, written.generation):
            for key in block.columns:
                mask = logs.keep(written, key, block.offsets, block.steps)
                if mask is not None:
                    block.left[key] = mask
        yield block


def _event_blocks(number: int, written: Written) -> Iterator[Block]:
    """Values that were stored as events: large integers, text, lists."""
    alike: dict[tuple[str, ...], list[tuple[int, Any, float, Any]]] = {}
    for offset, event in written.events:
        data = data_of(event)
        if event.type == "value" and data:
            record = offset, event.fields.get("step"), event.time, tuple(data.values())
            alike.setdefault(tuple(data), []).append(record)
    for names, found in alike.items():
        steps, values = np.empty(len(found), object), np.empty((len(found), len(names)), object)
        for place, (_, step, _, row) in enumerate(found):
            steps[place] = step
            for column, value in enumerate(row):
                values[place, column] = value
        with_64_bits = all(type(s) is int and -(1 << 63) <= s < 1 << 63 for s in steps)
        yield Block(
            number,
            written.attempt,
            {name: column for column, name in enumerate(names)},
            "o" * len(names),
            np.array([offset for offset, _, _, _ in found], np.int64),
            steps.astype(np.int64) if with_64_bits else steps,
            np.array([time for _, _, time, _ in found], np.float64),
            values,
        )


def _chosen(
    blocks: list[Block], left: Sequence[Mask | None], *, attempts: str, repeats: str, order: str
) -> tuple[Index, npt.NDArray[Any]]:
    """The records that count, and their steps; ``left`` says of each block what is not deleted."""
    plain = _already_in_order(blocks)
    if plain is not None and all(mask is None for mask in left):
        return _numbers(blocks), plain
    parts = [
        Part(b.writer, b.attempt, "i", b.offsets, b.steps, b.times, _numbers([b])).kept(mask)
        for b, mask in zip(blocks, left, strict=True)
    ]
    columns: Columns = joined([part for part in parts if len(part.steps)])
    series = resolve("", columns, attempts=attempts, repeats=repeats, order=order)
    return series.values, series.steps


def _already_in_order(blocks: list[Block]) -> npt.NDArray[Any] | None:
    """The steps, where they rise from record to record, so that no rule leaves any out."""
    if len({(block.writer, block.attempt) for block in blocks}) != 1:
        return None
    steps = np.concatenate([block.steps for block in blocks])
    offsets = np.concatenate([block.offsets for block in blocks])
    if steps.dtype == object or (steps[1:] <= steps[:-1]).any():
        return None
    return None if (offsets[1:] <= offsets[:-1]).any() else steps


def _numbers(blocks: list[Block]) -> Index:
    return np.concatenate(
        [np.arange(block.start, block.start + len(block), dtype=np.int64) for block in blocks]
    )
