"""The table of runs: a line a run, configuration and summary as columns."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final

from trackway.api._document import flatten, json_value
from trackway.api._export_manifest import pack
from trackway.api._export_text import object_text, quoted
from trackway.api._run import StoredRun

__all__ = ["Kinds", "run_document_row", "run_row", "runs_batches", "runs_schema", "write_runs"]

Row = Mapping[str, Any]
Rows = Callable[[], Iterator[Row]]
"""The lines, from the first on at each call: they are read twice."""

_FIXED: Final = {
    "project": "text",
    "id": "text",
    "name": "text",
    "state": "text",
    "created": "float",
    "ended": "float",
    "duration": "float",
    "archived": "bool",
    "attempts": "int",
    "exit_code": "int",
    "tags": "list",
    "group": "text",
    "job_type": "text",
    "notes": "text",
    "host": "text",
    "user": "text",
    "commit": "text",
    "branch": "text",
    "points": "int",
}
_BATCH_ROWS: Final = 1024
_EXACT: Final = 1 << 53


def run_document_row(run: StoredRun) -> dict[str, Any]:
    """The run as a filter sees it: plain values, configuration and summary nested."""
    from trackway.backend.index.contract import RunRef
    from trackway.backend.index.document import row_of

    return row_of(RunRef(run.project, run.id), run._told, run.metrics)


def run_row(run: StoredRun) -> dict[str, Any]:
    """A run's line, packed: what ``unpack`` makes the values again of."""
    document = run_document_row(run)
    inner = {name: document.pop(name) for name in ("config", "summary")}
    told = {name: _fitting(document.get(name), kind) for name, kind in _FIXED.items()}
    told |= flatten(inner["config"], "config.") | flatten(inner["summary"], "summary.")
    return {name: pack(value) for name, value in told.items()}


def _fitting(value: Any, kind: str) -> Any:
    """What a log says of a run is not trusted to be of the type it ought to be."""
    if value is None or (kind == "int" and not _is_int64(value)):
        return None
    if kind == "text":
        return value if isinstance(value, str) else str(value)
    if kind == "list":
        return [str(each) for each in value]
    return float(value) if kind == "float" else value


def _is_int64(value: Any) -> bool:
    return type(value) is int and -(1 << 63) <= value < 1 << 63


class Kinds:
    """What the columns of the table hold, from the values of all lines.

    A column of one kind has that kind: bool, int (of 64 bits), float, text. Integers among
    floats make it float where every one of them is exact as such. Everything else, and every
    list, makes it a column of JSON.
    """

    def __init__(self, rows: Iterable[Row]) -> None:
        found: dict[str, set[str]] = {}
        for row in rows:
            for name, value in row.items():
                if name not in _FIXED:
                    found.setdefault(name, set()).add(_kind(value))
        self.columns = {**_FIXED, **{name: _common(found[name]) for name in sorted(found)}}


def _kind(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        if abs(value) <= _EXACT:
            return "int"
        return "long" if _is_int64(value) else "json"
    if isinstance(value, float):
        return "float"
    return "text" if isinstance(value, str) else "json"


def _common(kinds: set[str]) -> str:
    kinds = kinds - {"none"}
    if kinds == {"int", "float"}:
        return "float"
    if kinds and kinds <= {"int", "long"}:
        return "int"
    return kinds.pop() if len(kinds) == 1 else "json"


def write_runs(rows: Rows, path: Path, format: str) -> int:
    """Write the table of runs, and return how many lines it has.

    Args:
        rows: Gives the lines, values as they are; called twice.
        path: The file, which is made or replaced.
        format: ``parquet``, ``csv`` or ``jsonl``.
    """
    kinds = Kinds(rows())
    if format == "parquet":
        return _write_parquet(rows(), kinds, path)
    with path.open("wb") as file:
        write = _csv_lines if format == "csv" else _json_lines
        count = -1 if format == "csv" else 0
        for line in write(rows(), list(kinds.columns)):
            file.write(line.encode("utf-8", "backslashreplace") + b"\n")
            count += 1
    return count


def _csv_lines(rows: Iterable[Row], names: Sequence[str]) -> Iterator[str]:
    yield ",".join(quoted(name) for name in names)
    for row in rows:
        yield ",".join(_csv_cell(row.get(name)) for name in names)


def _csv_cell(value: object) -> str:
    return "" if value is None else object_text(value)


def _json_lines(rows: Iterable[Row], names: Sequence[str]) -> Iterator[str]:
    for row in rows:
        told = {name: json_value(row[name]) for name in names if name in row}
        yield json.dumps(told, allow_nan=False)


def _write_parquet(rows: Iterator[Row], kinds: Kinds, path: Path) -> int:
    import pyarrow.parquet as pq

    count = 0
    with pq.ParquetWriter(path, runs_schema(kinds), compression="zstd") as writer:
        for batch in runs_batches(rows, kinds):
            writer.write_batch(batch)
            count += batch.num_rows
    return count


def runs_schema(kinds: Kinds) -> Any:
    """The Arrow schema of the table; columns of JSON say so in their metadata."""
    import pyarrow as pa

    types = {
        "text": pa.string(),
        "float": pa.float64(),
        "int": pa.int64(),
        "bool": pa.bool_(),
        "list": pa.list_(pa.string()),
        "json": pa.string(),
    }
    return pa.schema(
        [
            pa.field(name, types[_stored(kind)], metadata={"trackway.type": _stored(kind)})
            for name, kind in kinds.columns.items()
        ]
    )


def _stored(kind: str) -> str:
    return "int" if kind == "long" else kind


def runs_batches(rows: Iterator[Row], kinds: Kinds) -> Iterator[Any]:
    """The table as Arrow batches."""
    import pyarrow as pa

    schema = runs_schema(kinds)
    while part := list(islice(rows, _BATCH_ROWS)):
        columns = [
            pa.array([_stored_value(row.get(name), kind) for row in part], schema.field(name).type)
            for name, kind in kinds.columns.items()
        ]
        yield pa.record_batch(columns, schema=schema)


def _stored_value(value: Any, kind: str) -> Any:
    if kind == "json" and value is not None:
        return json.dumps(json_value(value), allow_nan=False)
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    return float(value) if kind == "float" and value is not None else value
