"""The points of a run as lines of text, a chunk at a time, a line a ``log`` call."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import numpy as np

from trackway.api._export_text import JSON_SPECIAL, floats, integers, texts
from trackway.api._records import Block, Group, Index, Records
from trackway.api._run import StoredRun
from trackway.backend.file.format import SYSTEM

__all__ = [
    "Chunk",
    "Rows",
    "Write",
    "arrival_chunks",
    "chunk_size",
    "json_chunks",
    "system_rows",
    "write_lines",
]

Write = Callable[[bytes], object]
Chunk = tuple[list[list[str]], list[list[str]]]
"""Columns of text, all of one length: those that lead each line, and a column a metric."""

CELLS_A_CHUNK: Final = 200_000
ROWS_A_CHUNK: Final = 8192


def chunk_size(width: int) -> int:
    """How many lines of so many cells are made at a time."""
    return max(1, min(ROWS_A_CHUNK, CELLS_A_CHUNK // max(1, width)))


class Rows:
    """The records that count in order of arrival, those of one ``log`` call together.

    Such a call is stored as several records where it holds more than numbers, or very many
    names. They share their writer, step and time, and no name.
    """

    def __init__(self, records: Records, groups: Sequence[Group]) -> None:
        self.records = records
        self.index = records.arrivals() if groups else np.empty(0, np.int64)
        self.group_of = {key: group.number for group in groups for key in group.keys}
        self._numbers = self._number_rows()
        self.count = int(self._numbers[-1]) + 1 if len(self.index) else 0

    def _number_rows(self) -> Index:
        blocks = self.records.block_of(self.index)
        alike = blocks[1:] != blocks[:-1]
        for name in ("writer", "steps", "times"):
            values = self.records.gather(name, self.index)
            alike &= np.asarray(values[1:] == values[:-1], np.bool_)
        begins = np.append(True, ~alike)[: len(self.index)]
        names: set[str] = set()
        for place in np.flatnonzero(alike).tolist():
            own = self.records.blocks[blocks[place]].columns.keys()
            names = {*own} if begins[place] else names | own
            begins[place + 1] = not names.isdisjoint(self.records.blocks[blocks[place + 1]].columns)
        return np.cumsum(begins) - 1

    def chunks(self, size: int) -> Iterator[tuple[Index, Index]]:
        """The records of some rows at a time, with the number of each one's row in the chunk."""
        for begin in range(0, self.count, size):
            low, high = np.searchsorted(self._numbers, [begin, begin + size])
            yield self.index[low:high], self._numbers[low:high] - begin

    def lead(self, index: Index, rows: Index) -> list[list[str]]:
        """Step, time and attempt of each row, as text."""
        first = index[np.searchsorted(rows, np.arange(int(rows[-1]) + 1))]
        return [
            integers(self.records.gather("steps", first)),
            floats(self.records.gather("times", first)),
            integers(self.records.gather("attempt", first)),
        ]


def arrival_chunks(rows: Rows, names: Sequence[str]) -> Iterator[Chunk]:
    """Lines of CSV, in order of arrival."""
    size = chunk_size(len(names))
    for index, numbers in rows.chunks(size):
        lead = rows.lead(index, numbers)
        columns = {name: [""] * len(lead[0]) for name in names}
        for block, places, inner in rows.records.by_block(index):
            for key in block.columns.keys() & rows.group_of.keys():
                kept = block.kept[rows.group_of[key]][inner]
                at = numbers[places[kept]].tolist()
                for place, text in zip(at, texts(block, key, inner[kept]), strict=True):
                    columns[key][place] = text
        yield lead, list(columns.values())


def json_chunks(rows: Rows, kind: str) -> Iterator[list[str]]:
    """Lines of JSON, in order of arrival."""
    widest = max((len(block.columns) for block in rows.records.blocks), default=1)
    for index, numbers in rows.chunks(chunk_size(widest)):
        steps, times, attempts = rows.lead(index, numbers)
        values: list[str] = [""] * len(steps)
        for block, places, inner in rows.records.by_block(index):
            fragments = _fragments(rows, block, inner)
            for row, fragment in zip(numbers[places].tolist(), fragments, strict=True):
                # Blocks come by number, not by place: a row's parts stay in one order throughout.
                values[row] = f"{values[row]},{fragment}" if values[row] else fragment
        yield [
            f'{{"type":"{kind}","step":{step},"time":{JSON_SPECIAL.get(time, time)},'
            f'"attempt":{attempt},"values":{{{value}}}}}'
            for step, time, attempt, value in zip(steps, times, attempts, values, strict=True)
        ]


def _fragments(rows: Rows, block: Block, inner: Index) -> list[str]:
    """Of each of these records, ``"name":value`` of the points that count, joined by commas."""
    columns: list[list[str]] = []
    whole = True
    for key in block.columns:
        if key not in rows.group_of:
            continue
        name = json.dumps(key)
        kept = block.kept[rows.group_of[key]][inner]
        pairs = [f"{name}:{text}" for text in texts(block, key, inner[kept], for_json=True)]
        if not kept.all():
            whole = False
            spread = [""] * len(inner)
            for place, text in zip(np.flatnonzero(kept).tolist(), pairs, strict=True):
                spread[place] = text
            pairs = spread
        columns.append(pairs)
    lines = zip(*columns, strict=True)
    return [",".join(line if whole else filter(None, line)) for line in lines]


def system_rows(run: StoredRun) -> tuple[Rows, list[str]]:
    """The samples of the machine, and their names."""
    logs = run._logs
    records = Records(logs, SYSTEM)
    names = logs.keys(SYSTEM)
    groups = records.groups(names, attempts="all", repeats="all", order="arrival")
    return Rows(records, groups), names


def write_lines(
    write: Write,
    lead: list[list[str]],
    cells: list[list[str]],
    *,
    before: str = "",
    after: str = "",
) -> int:
    """Write the lines of a chunk of CSV, and say how many; commas stand for empty columns."""
    heads = map(",".join, zip(*lead, strict=True))
    bodies = map(",".join, zip(*cells, strict=True))
    lines = [f"{head}{before},{body}{after}\n" for head, body in zip(heads, bodies, strict=True)]
    write("".join(lines).encode())
    return len(lines)
