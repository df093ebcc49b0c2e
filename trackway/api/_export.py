"""A run's points as CSV or JSON lines, every value exact, a chunk at a time."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from trackway.api._document import json_value, run_document
from trackway.api._export_folder import ExportReport, export_runs
from trackway.api._export_rows import (
    Chunk,
    Rows,
    Write,
    arrival_chunks,
    chunk_size,
    json_chunks,
    system_rows,
    write_lines,
)
from trackway.api._export_text import floats, integers, quoted, texts
from trackway.api._history import column_names
from trackway.api._records import Group, Index, Records
from trackway.api._run import StoredRun
from trackway.backend.file.format import VERSION
from trackway.errors import ArgumentError

__all__ = [
    "ExportReport",
    "export_csv",
    "export_jsonl",
    "export_runs",
    "export_system_csv",
    "export_system_jsonl",
]

Progress = Callable[[int, int], None]


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
    rows = Rows(records, [group for group in groups if order == "arrival"])
    steps = _steps_of(groups) if order == "step" else np.empty(0, np.int64)
    samples, system = system_rows(run) if include_system else (None, [])
    total = len(steps) + rows.count + (samples.count if samples else 0)
    head = [*lead, *column_names(lead, names), *(f"system/{key}" for key in system)]
    write((",".join(quoted(name, empty='""') for name in head) + "\n").encode())
    done = 0
    if order == "step":
        chunks = _joined_chunks(records, groups, names, steps)
    else:
        chunks = arrival_chunks(rows, names)
    for first, cells in chunks:
        done += write_lines(write, first, cells, after="," * len(system))
        _tell(progress, done, total)
    for first, cells in arrival_chunks(samples, system) if samples else ():
        first = [[""] * len(first[0]), *first[1 : len(lead)]]
        done += write_lines(write, first, cells, before="," * len(names))
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
    rows = [("row", Rows(records, groups))]
    if include_system:
        rows.append(("system", system_rows(run)[0]))
    total = sum(each.count for _, each in rows)
    first = {"type": "run", "format": VERSION, **json_value(run_document(run))}
    write(json.dumps(first, allow_nan=False).encode() + b"\n")
    done = 0
    for kind, each in rows:
        for lines in json_chunks(each, kind):
            write(("\n".join(lines) + "\n").encode())
            done += len(lines)
            _tell(progress, done, total)
    return done


def export_system_csv(run: StoredRun, write: Write) -> int:
    """Write the samples of the machine as CSV, a line a sample: ``step``, ``time``, ``attempt``.

    Returns:
        How many lines were written, the header not counted.
    """
    run.keys()  # reads the logs
    rows, names = system_rows(run)
    lead = ["step", "time", "attempt"]
    head = [*lead, *column_names(lead, names)]
    write((",".join(quoted(name, empty='""') for name in head) + "\n").encode())
    return sum(write_lines(write, first, cells) for first, cells in arrival_chunks(rows, names))


def export_system_jsonl(run: StoredRun, write: Write) -> int:
    """Write the samples of the machine as lines of JSON, as ``export_jsonl`` does.

    Returns:
        How many lines were written.
    """
    run.keys()  # reads the logs
    done = 0
    for lines in json_chunks(system_rows(run)[0], "system"):
        write(("\n".join(lines) + "\n").encode())
        done += len(lines)
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
    size = chunk_size(len(names))
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
        yield [integers(chunk), floats(times)], [cells[name] for name in names if name in cells]


def _cells(
    records: Records, keys: Sequence[str], index: Index, places: Index, count: int
) -> dict[str, list[str]]:
    """A column of text a metric: the values of these records, each at its place, else nothing."""
    parts = list(records.by_block(index))
    found: dict[str, list[str]] = {}
    for key in keys:
        if len(parts) == 1 and len(index) == count:
            block, _, inner = parts[0]
            found[key] = texts(block, key, inner)
            continue
        column = [""] * count
        for block, at, inner in parts:
            for place, text in zip(places[at].tolist(), texts(block, key, inner), strict=True):
                column[place] = text
        found[key] = column
    return found
