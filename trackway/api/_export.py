"""A run's points as CSV or JSON lines, every value exact.

Points are taken from the rows as they were stored, a chunk at a time, so that beside the rows
themselves only an index a group of metrics is in memory.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from trackway.api._document import json_value, run_document
from trackway.api._history import resolve
from trackway.api._run import StoredRun
from trackway.backend.file.format import METRIC, SYSTEM, VERSION
from trackway.backend.file.run_logs import Columns, RunLogs, Written, _joined, _Part
from trackway.errors import ArgumentError

__all__ = ["export_csv", "export_jsonl"]

Write = Callable[[bytes], object]
Progress = Callable[[int, int], None]
Index = npt.NDArray[np.int64]

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
    """Write a run's points as CSV, in UTF-8, lines ending in ``\\n``.

    With ``repeats="last"`` there is one line a step, in the order of steps: ``step``, ``time``
    (the latest time at which one of the line's points was logged, seconds since 1970), then a
    column a metric. With ``repeats="all"`` there is one line a ``log`` call, in order of
    arrival: ``step, time, attempt``, then a column a metric.

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
    wanted = _wanted(run, keys, attempts, repeats)
    joined = repeats == "last"
    first = ["step", "time"] if joined else ["step", "time", "attempt"]
    system = _Records(run._logs, SYSTEM) if include_system else None
    names = _column_names(first, wanted)
    names += [f"system/{key}" for key in system.keys] if system else []
    write((",".join(map(_quoted, [*first, *names])) + "\n").encode())
    table = _Table(_Records(run._logs, METRIC), wanted, attempts, repeats)
    tables = [table]
    if system:
        table.pad = "," * len(system.keys)
        tables.append(_Table(system, system.keys, "all", "all"))
        tables[1].lead = ",".join(["", "{time}", *first[2:]]).replace("attempt", "{attempt}")
        tables[1].lead += "," * len(wanted)
    return _write_chunks([(t, t.csv_steps() if t.joined else t.csv_rows()) for t in tables], write, progress)
