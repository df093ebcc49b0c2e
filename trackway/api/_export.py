"""A run's points as CSV or JSON lines, every value exact, a chunk at a time."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from trackway.api._document import json_value, run_document
from trackway.api._records import Block, Group, Index, Records
from trackway.api._run import StoredRun
from trackway.backend.file.format import SYSTEM, VERSION
from trackway.errors import ArgumentError

__all__ = ["export_csv", "export_jsonl"]

Write = Callable[[bytes], object]
Progress = Callable[[int, int], None]
Chunk = tuple[list[list[str]], list[list[str]]]
"""Columns of text, all of one length: those that lead each line, and a column a metric."""

_CELLS_A_CHUNK: Final = 200_000
_ROWS_A_CHUNK: Final = 8192
_JSON_SPECIAL: Final = {"nan": '"NaN"', "inf": '"Infinity"', "-inf": '"-Infinity"'}


def export_csv(
    run: StoredRun,
    write: Write,
    *,
    keys: str | Iterable[str] | None = None,
    attempts: str = "live",
    repeats: str = "last",
    include_system: bool = False,
    progress: Progress | None = None,
) -> int:
    r"""Write a run's points as CSV, in UTF-8, lines ending in ``\n``.

    With ``repeats="last"`` there is one line a step, in the order of steps: ``step``, ``time``
    (the latest time at which one of the line's points was logged, seconds since 1970), then a
    column a metric. With ``repeats="all"`` there is one line a ``log`` call, in order of
    arrival: ``step``, ``time``, ``attempt``, then a column a metric.

    Integers and booleans (``true``, ``false``) come as such, floats in the shortest form that
    reads back as the same float, NaN and infinities as ``nan``, ``inf``, ``-inf``; lists as
    JSON. A cell is empty where there is no point; an empty text is ``""``. A metric that is
    itself called like one of the first columns comes as ``metric/step``.

    Args:
        run: What to export, as far as it is written now.
        write: Takes the bytes, a piece at a time.
        keys: Names of metrics, or patterns (``val/*``); all by default.
        attempts: ``live`` leaves out what a later attempt took back; ``all`` does not.
        repeats: ``last`` takes the last arrival at a step, ``all`` each one.
        include_system: Let the samples of the machine follow, a line each with an empty step,
            in columns ``system/…``.
        progress: Called with the number of lines written and their total.

    Returns:
        How many lines were written, the header not counted.

    Raises:
        ArgumentError: ``attempts`` or ``repeats`` is neither of its values.
        NotFoundError: There is no such metric.
    """
    names = _wanted(run, keys, attempts, repeats)
    lead = ["step", "time"] if repeats == "last" else ["step", "time", "attempt"]
    records = Records(run._logs)
    order = "step" if repeats == "last" else "arrival"
    groups = records.groups(names, attempts=attempts, repeats=repeats, order=order)
    rows = _Rows(records, [group for group in groups if order == "arrival"])
    steps = _steps_of(groups) if order == "step" else np.empty(0, np.int64)
    samples, system = _system_rows(run) if include_system else (None, [])
    total = len(steps) + rows.count + (samples.count if samples else 0)
    head = [*lead, *_column_names(lead, names), *(f"system/{key}" for key in system)]
    write((",".join(_quoted(name, empty='""') for name in head) + "\n").encode())
    done = 0
    if order == "step":
        chunks = _joined_chunks(records, groups, names, steps)
    else:
        chunks = _arrival_chunks(rows, names)
    for first, cells in chunks:
        done += _write_lines(write, first, cells, after="," * len(system))
        _tell(progress, done, total)
    for first, cells in _arrival_chunks(samples, system) if samples else ():
        first = [[""] * len(first[0]), *first[1 : len(lead)]]
        done += _write_lines(write, first, cells, before="," * len(names))
        _tell(progress, done, total)
    return done


def export_jsonl(
    run: StoredRun,
    write: Write,
    *,
    keys: str | Iterable[str] | None = None,
    attempts: str = "live",
    repeats: str = "last",
    include_system: bool = False,
    progress: Progress | None = None,
) -> int:
    r"""Write a run as lines of JSON, in ASCII: the run first, then its points.

    The first line has ``"type": "run"`` and holds everything but points and console. Then comes
    one line a ``log`` call, in order of arrival: ``{"type": "row", "step": …, "time": …,
    "attempt": …, "values": {name: value}}`` with the points of that call that count; one
    without any is left out. Samples of the machine follow as lines of the ``"type": "system"``.

    Numbers are exact: floats in the shortest form that reads back as the same float and never
    without point or exponent, integers as integers, NaN and infinities as the texts ``"NaN"``,
    ``"Infinity"``, ``"-Infinity"``, integers of more than 4096 bits in hexadecimal as text.

    Args:
        run: What to export, as far as it is written now.
        write: Takes the bytes, a piece at a time.
        keys: Names of metrics, or patterns (``val/*``); all by default.
        attempts: ``live`` leaves out what a later attempt took back; ``all`` does not.
        repeats: ``last`` takes the last arrival of a metric at a step, ``all`` each one.
        include_system: Let the samples of the machine follow.
        progress: Called with the number of points' lines written and their total.

    Returns:
        How many lines were written, the first not counted.

    Raises:
        ArgumentError: ``attempts`` or ``repeats`` is neither of its values.
        NotFoundError: There is no such metric.
    """
    names = _wanted(run, keys, attempts, repeats)
    records = Records(run._logs)
    groups = records.groups(names, attempts=attempts, repeats=repeats, order="arrival")
    rows = [("row", _Rows(records, groups))]
    if include_system:
        rows.append(("system", _system_rows(run)[0]))
    total = sum(each.count for _, each in rows)
    first = {"type": "run", "format": VERSION, **json_value(run_document(run))}
    write(json.dumps(first, allow_nan=False).encode() + b"\n")
    done = 0
    for kind, each in rows:
        for lines in _json_chunks(each, kind):
            write(("\n".join(lines) + "\n").encode())
            done += len(lines)
            _tell(progress, done, total)
    return done


# -- what is wanted --------------------------------------------------------------------------------


def _wanted(
    run: StoredRun, keys: str | Iterable[str] | None, attempts: str, repeats: str
) -> list[str]:
    for argument, value, choices in (
        ("attempts", attempts, ("live", "all")),
        ("repeats", repeats, ("last", "all")),
    ):
        if value not in choices:
            raise ArgumentError(f"{argument}={value!r}: it is one of {', '.join(choices)}")
    return run._matching(keys, run.keys())


def _system_rows(run: StoredRun) -> tuple[_Rows, list[str]]:
    records = Records(run._logs, SYSTEM)
    names = run._logs.keys(SYSTEM)
    groups = records.groups(names, attempts="all", repeats="all", order="arrival")
    return _Rows(records, groups), names


def _column_names(lead: Sequence[str], keys: Sequence[str]) -> list[str]:
    taken = {*lead, *keys}
    names = []
    for key in keys:
        name = key
        while name in lead or (name != key and name in taken):
            name = f"metric/{name}"
        names.append(name)
    return names


def _tell(progress: Progress | None, done: int, total: int) -> None:
    if progress is not None:
        progress(done, total)


# -- one line a step -------------------------------------------------------------------------------


def _steps_of(groups: Sequence[Group]) -> npt.NDArray[Any]:
    if not groups:
        return np.empty(0, np.int64)
    first = groups[0].steps
    if all(np.array_equal(first, group.steps) for group in groups[1:]):
        return first
    return np.unique(np.concatenate([group.steps for group in groups]))


def _joined_chunks(
    records: Records, groups: Sequence[Group], names: Sequence[str], steps: npt.NDArray[Any]
) -> Iterator[Chunk]:
    size = max(1, min(_ROWS_A_CHUNK, _CELLS_A_CHUNK // max(1, len(names))))
    for begin in range(0, len(steps), size):
        chunk = steps[begin : begin + size]
        times = np.full(len(chunk), np.nan)
        cells: dict[str, list[str]] = {}
        for group in groups:
            low = np.searchsorted(group.steps, chunk[:1], "left")[0]
            high = np.searchsorted(group.steps, chunk[-1:], "right")[0]
            index = group.index[low:high]
            places = np.searchsorted(chunk, group.steps[low:high])
            times[places] = np.fmax(times[places], records.gather("times", index))
            cells |= _cells(records, group.keys, index, places, len(chunk))
        yield [_integers(chunk), _floats(times)], [cells[name] for name in names if name in cells]


def _cells(
    records: Records, keys: Sequence[str], index: Index, places: Index, count: int
) -> dict[str, list[str]]:
    """A column of text a metric: the values of these records, each at its place, else nothing."""
    parts = list(records.by_block(index))
    found: dict[str, list[str]] = {}
    for key in keys:
        if len(parts) == 1 and len(index) == count:
            block, _, inner = parts[0]
            found[key] = _texts(block, key, inner)
            continue
        column = [""] * count
        for block, at, inner in parts:
            for place, text in zip(places[at].tolist(), _texts(block, key, inner), strict=True):
                column[place] = text
        found[key] = column
    return found


# -- one line a call -------------------------------------------------------------------------------


class _Rows:
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
            _integers(self.records.gather("steps", first)),
            _floats(self.records.gather("times", first)),
            _integers(self.records.gather("attempt", first)),
        ]


def _arrival_chunks(rows: _Rows, names: Sequence[str]) -> Iterator[Chunk]:
    size = max(1, min(_ROWS_A_CHUNK, _CELLS_A_CHUNK // max(1, len(names))))
    for index, numbers in rows.chunks(size):
        lead = rows.lead(index, numbers)
        columns = {name: [""] * len(lead[0]) for name in names}
        for block, places, inner in rows.records.by_block(index):
            for key in block.columns.keys() & rows.group_of.keys():
                kept = block.kept[rows.group_of[key]][inner]
                at = numbers[places[kept]].tolist()
                for place, text in zip(at, _texts(block, key, inner[kept]), strict=True):
                    columns[key][place] = text
        yield lead, list(columns.values())


def _json_chunks(rows: _Rows, kind: str) -> Iterator[list[str]]:
    widest = max((len(block.columns) for block in rows.records.blocks), default=1)
    for index, numbers in rows.chunks(max(1, min(_ROWS_A_CHUNK, _CELLS_A_CHUNK // max(1, widest)))):
        steps, times, attempts = rows.lead(index, numbers)
        values: list[str] = [""] * len(steps)
        for block, places, inner in rows.records.by_block(index):
            fragments = _fragments(rows, block, inner)
            for row, fragment in zip(numbers[places].tolist(), fragments, strict=True):
                # Blocks come by number, not by place: a row's parts stay in one order throughout.
                values[row] = f"{values[row]},{fragment}" if values[row] else fragment
        yield [
            f'{{"type":"{kind}","step":{step},"time":{_JSON_SPECIAL.get(time, time)},'
            f'"attempt":{attempt},"values":{{{value}}}}}'
            for step, time, attempt, value in zip(steps, times, attempts, values, strict=True)
        ]


def _fragments(rows: _Rows, block: Block, inner: Index) -> list[str]:
    """Of each of these records, ``"name":value`` of the points that count, joined by commas."""
    columns: list[list[str]] = []
    whole = True
    for key in block.columns:
        if key not in rows.group_of:
            continue
        name = json.dumps(key)
        kept = block.kept[rows.group_of[key]][inner]
        texts = [f"{name}:{text}" for text in _texts(block, key, inner[kept], for_json=True)]
        if not kept.all():
            whole = False
            spread = [""] * len(inner)
            for place, text in zip(np.flatnonzero(kept).tolist(), texts, strict=True):
                spread[place] = text
            texts = spread
        columns.append(texts)
    lines = zip(*columns, strict=True)
    return [",".join(line if whole else filter(None, line)) for line in lines]


# -- values as text --------------------------------------------------------------------------------


def _texts(block: Block, key: str, inner: Index, *, for_json: bool = False) -> list[str]:
    column = block.columns[key]
    values = block.values[inner, column]
    letter = block.types[column]
    if letter == "o":
        return [_object(value, for_json=for_json) for value in values.tolist()]
    if letter == "b" and np.isin(values, (0.0, 1.0)).all():
        return ["true" if value else "false" for value in values.tolist()]
    if letter == "i" and (np.abs(values) <= 1 << 53).all() and (values % 1 == 0).all():
        return list(map(str, values.astype(np.int64).tolist()))
    texts = _floats(values)
    return [_JSON_SPECIAL.get(text, text) for text in texts] if for_json else texts


def _floats(values: npt.NDArray[np.float64]) -> list[str]:
    """``repr`` of each value. In the middle range msgspec's form is the same, and much faster."""
    size = np.abs(values)
    middle = ((size >= 1e-4) & (size < 1e15)) | (size == 0)
    if not len(values):
        return []
    texts = msgspec.json.encode(np.where(middle, values, 0.0).tolist())[1:-1].decode().split(",")
    for place in np.flatnonzero(~middle).tolist():
        texts[place] = repr(float(values[place]))
    return texts


def _integers(values: npt.NDArray[Any]) -> list[str]:
    return [str(json_value(value)) for value in values.tolist()]


def _object(value: object, *, for_json: bool) -> str:
    plain = json_value(value)
    if for_json:
        return json.dumps(plain, allow_nan=False)
    if isinstance(value, float):
        return repr(value)
    if isinstance(plain, str):
        return _quoted(plain, empty='""')
    return _quoted(json.dumps(plain, allow_nan=False))


def _quoted(text: str, empty: str = "") -> str:
    if not text:
        return empty
    if text.isalnum() or not any(c in text for c in ',"\r\n'):
        return text if text == text.strip() else f'"{text}"'
    return '"' + text.replace('"', '""') + '"'


def _write_lines(
    write: Write,
    lead: list[list[str]],
    cells: list[list[str]],
    *,
    before: str = "",
    after: str = "",
) -> int:
    heads = map(",".join, zip(*lead, strict=True))
    bodies = map(",".join, zip(*cells, strict=True))
    lines = [f"{head}{before},{body}{after}\n" for head, body in zip(heads, bodies, strict=True)]
    write("".join(lines).encode())
    return len(lines)
