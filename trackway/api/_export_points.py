"""A run's points as a Parquet file: one line a point, every value exact."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from trackway.api._document import json_value
from trackway.api._history import Series, resolve
from trackway.api._run import StoredRun
from trackway.backend.file.format import EXACT, METRIC, SYSTEM
from trackway.errors import MissingExtraError

__all__ = ["GROUP_ROWS", "needs_pyarrow", "points_schema", "write_points"]

GROUP_ROWS: Final = 131_072
"""Lines of a row group: what is in memory at once, beside the columns of one metric."""

_SYSTEM_POINTS: Final = 8192
"""How many samples a measure of the machine is taken to have: those of a day."""

TYPES: Final = ("float", "int", "bool", "text", "json")
_FLOAT, _INT, _BOOL, _TEXT, _JSON = range(5)


def needs_pyarrow() -> Any:
    """The module, or the word how to install it.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        import pyarrow
    except ImportError:
        raise MissingExtraError("Parquet needs pyarrow: pip install 'trackway[export]'") from None
    return pyarrow


def points_schema() -> Any:
    """The columns of a file of points."""
    pa = needs_pyarrow()
    word = pa.dictionary(pa.int32(), pa.string())
    return pa.schema(
        [
            ("project", word),
            ("run", word),
            ("key", word),
            ("step", pa.int64()),
            ("time", pa.float64()),
            ("attempt", pa.int64()),
            ("value", pa.float64()),
            ("type", word),
            ("text", pa.string()),
            ("big_step", pa.string()),
        ]
    )


def write_points(
    run: StoredRun,
    path: Path,
    keys: Iterable[str],
    *,
    attempts: str = "live",
    repeats: str = "last",
    space: str = METRIC,
) -> int:
    """Write the points of these metrics, metric after metric, and return how many.

    Within a metric they come in the order of steps; with ``repeats="all"`` in order of arrival.
    """
    import pyarrow.parquet as pq

    plain = ["step", "attempt"]
    encodings = {
        **dict.fromkeys(plain, "DELTA_BINARY_PACKED"),
        **dict.fromkeys(["time", "value"], "BYTE_STREAM_SPLIT"),
    }
    schema = points_schema()
    rows = 0
    with pq.ParquetWriter(
        path,
        schema,
        compression="zstd",
        use_dictionary=["project", "run", "key", "type", "text"],
        column_encoding=encodings,
    ) as writer:
        for group in _groups(_series(run, keys, attempts, repeats, space)):
            table = _table(run, group, schema)
            writer.write_table(table, row_group_size=GROUP_ROWS)
            rows += table.num_rows
    return rows


def _series(
    run: StoredRun, keys: Iterable[str], attempts: str, repeats: str, space: str
) -> Iterator[Series]:
    """The points of one metric after the other, those of few in memory at a time."""
    if space == SYSTEM:
        attempts = repeats = "all"
    order = "step" if repeats == "last" else "arrival"
    for some in _portions(run, keys, space):
        for key, columns in run._index.columns(run._ref, some, space).items():
            yield resolve(key, columns, attempts=attempts, repeats=repeats, order=order)


def _portions(run: StoredRun, keys: Iterable[str], space: str) -> Iterator[list[str]]:
    """Metrics that are read together: as many as have the points of a row group, one at least."""
    counts = {} if space == SYSTEM else {key: m.count for key, m in run.metrics.items()}
    some: list[str] = []
    points = 0
    for key in keys:
        count = counts.get(key, _SYSTEM_POINTS)
        if some and points + count > GROUP_ROWS:
            yield some
            some, points = [], 0
        some.append(key)
        points += count
    if some:
        yield some


def _groups(found: Iterable[Series]) -> Iterator[list[Series]]:
    """Pieces of series that together have GROUP_ROWS points, the last ones fewer."""
    group: list[Series] = []
    size = 0
    for series in found:
        begin = 0
        while begin < len(series):
            end = min(len(series), begin + GROUP_ROWS - size)
            group.append(_part(series, begin, end))
            size += end - begin
            begin = end
            if size == GROUP_ROWS:
                yield group
                group, size = [], 0
    if group:
        yield group


def _part(series: Series, begin: int, end: int) -> Series:
    part = slice(begin, end)
    return Series(
        series.key,
        series.steps[part],
        series.times[part],
        series.values[part],
        series.attempts[part],
    )


def _table(run: StoredRun, group: list[Series], schema: Any) -> Any:
    import pyarrow as pa

    lengths = [len(series) for series in group]
    rows = sum(lengths)
    steps, big = _steps(group)
    values, kinds, texts = _values(group)
    keys = np.repeat(np.arange(len(group), dtype=np.int32), lengths)
    same = np.zeros(rows, np.int32)
    return pa.table(
        [
            pa.DictionaryArray.from_arrays(same, pa.array([run.project])),
            pa.DictionaryArray.from_arrays(same, pa.array([run.id])),
            pa.DictionaryArray.from_arrays(keys, pa.array([series.key for series in group])),
            steps,
            pa.array(np.concatenate([series.times for series in group])),
            pa.array(np.concatenate([series.attempts for series in group])),
            values,
            pa.DictionaryArray.from_arrays(kinds, pa.array(TYPES)),
            texts,
            big,
        ],
        schema=schema,
    )


def _steps(group: list[Series]) -> tuple[Any, Any]:
    """Steps of 64 bits, and in decimal those that need more."""
    import pyarrow as pa

    steps = np.concatenate([series.steps for series in group])
    if steps.dtype != object:
        return pa.array(steps), pa.nulls(len(steps), pa.string())
    fits = [-(1 << 63) <= int(step) < 1 << 63 for step in steps]
    small = [int(step) if fit else None for step, fit in zip(steps, fits, strict=True)]
    large = [
        None if fit else str(json_value(int(step))) for step, fit in zip(steps, fits, strict=True)
    ]
    return pa.array(small, pa.int64()), pa.array(large, pa.string())


def _values(group: list[Series]) -> tuple[Any, npt.NDArray[np.int32], Any]:
    """As numbers, a number for each one's type, and what no f64 holds exactly as text."""
    import pyarrow as pa

    if all(series.values.dtype != object for series in group):
        kinds = [np.full(len(s), _kind_of(s.values.dtype), np.int32) for s in group]
        numbers = np.concatenate([series.values.astype(np.float64) for series in group])
        return pa.array(numbers), np.concatenate(kinds), pa.nulls(len(numbers), pa.string())
    cells = [_cell(value) for series in group for value in _each(series)]
    return (
        pa.array([number for number, _, _ in cells], pa.float64(), from_pandas=False),
        np.array([kind for _, kind, _ in cells], np.int32),
        pa.array([text for _, _, text in cells], pa.string()),
    )


def _each(series: Series) -> list[Any]:
    values: list[Any] = series.values.tolist()
    return values


def _kind_of(kind: np.dtype[Any]) -> int:
    return {"b": _BOOL, "i": _INT}.get(kind.kind, _FLOAT)


def _cell(value: Any) -> tuple[float | None, int, str | None]:
    if isinstance(value, bool):
        return float(value), _BOOL, None
    if isinstance(value, float):
        return value, _FLOAT, None
    if isinstance(value, int):
        return _near(value), _INT, None if abs(value) <= EXACT else str(json_value(value))
    if isinstance(value, str):
        return None, _TEXT, value
    return None, _JSON, json.dumps(json_value(value), allow_nan=False)


def _near(number: int) -> float | None:
    try:
        return float(number)
    except OverflowError:
        return None
