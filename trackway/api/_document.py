"""A run as plain values: what ``--json`` and the first line of an export say of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any, Final

from trackway.api._history import Series, resolve
from trackway.api._run import StoredRun
from trackway.backend.record import Definition

__all__ = [
    "definition_of",
    "flatten",
    "json_value",
    "left_out",
    "live_series",
    "run_document",
    "stated_summary",
]

_LONGEST_INTEGER_BITS: Final = 4096
"""Python writes no integer of more than 4300 decimal digits without being asked to."""


def json_value(value: object) -> Any:
    """The value as JSON can hold it without loss.

    NaN and infinities become ``"NaN"``, ``"Infinity"`` and ``"-Infinity"``; integers of more
    than 4096 bits their hexadecimal form (``"0x1f…"``); bytes (a file name that is no UTF-8) text
    with lone surrogates, as Python has such names; names that are no text, text.
    """
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, int):
        return hex(value) if value.bit_length() > _LONGEST_INTEGER_BITS else value
    if isinstance(value, Mapping):
        return {str(name): json_value(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_value(inner) for inner in value]
    if isinstance(value, (bytes, bytearray)):
        return value.decode("utf-8", "surrogateescape")
    return str(value)


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, names joined by dots; an empty mapping stays a value."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{path}.")
        else:
            flat[path] = value
    return flat


def stated_summary(run: StoredRun) -> dict[str, Any]:
    """What the program itself put into the summary."""
    return run._told.summary


def run_document(run: StoredRun) -> dict[str, Any]:
    """Everything about a run but its points and its console, with stable keys."""
    record = run._told
    return {
        "project": run.project,
        "id": run.id,
        "name": run.name,
        "state": run.state,
        "created": run.created,
        "ended": run.ended,
        "duration_s": run.duration_s,
        "tags": list(run.tags),
        "notes": run.notes,
        "group": run.group,
        "job_type": run.job_type,
        "attempts": [asdict(attempt) for attempt in run.attempts],
        "config": run.config,
        "config_history": [
            {"time": time, "name": name, "value": value} for time, name, value in run.config_history
        ],
        "summary": run.summary,
        "definitions": [asdict(definition) for definition in record.definitions],
        "git": run.git,
        "environment": run.environment,
        "packages": run.packages,
        "masked": run.masked,
        "troubles": run.troubles,
        "lost_points": record.lost_points,
        "skipped": record.skipped,
        "refused": record.refused,
    }


def live_series(run: StoredRun, keys: Iterable[str]) -> Iterator[Series]:
    """The live line of each of these metrics in step order, one at a time in memory."""
    run._told  # noqa: B018 - reads the logs
    for key in keys:
        columns = run._logs.columns(key)
        yield resolve(key, columns, attempts="live", repeats="last", order="step")


def left_out(run: StoredRun) -> tuple[int, dict[str, int]]:
    """How many values were None and so skipped; and how often those of a name were refused."""
    return run._told.skipped, run._told.refused


def definition_of(run: StoredRun, key: str) -> Definition | None:
    """What ``define_metric`` said of this metric, if it did."""
    return run._told.definition(key)
