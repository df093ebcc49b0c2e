"""What ``ls`` knows of a run, and in which order the runs stand."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from trackway.api import Api
from trackway.api._document import flatten
from trackway.backend.file.attempts import first_header
from trackway.backend.file.folder import logs, run_folders
from trackway.backend.index._documents import value_at
from trackway.backend.index._operators import is_none
from trackway.backend.index.columns import Column
from trackway.backend.index.expression import FilterError, compile_expression, path_text
from trackway.backend.index.table import Table
from trackway.cli._text import plural
from trackway.errors import ArgumentError, NotFoundError

__all__ = [
    "Listed",
    "expression_of",
    "ordered",
    "paths_of",
    "run_places",
    "split_expressions",
    "table_of",
]

_PLAIN_ORDERS: Final = ("created", "name", "duration", "state")
_BARE: Final = re.compile(r"""[^\s()\[\]"']*""")

_FIELDS: Final = {
    name: name
    for name in (
        "project id name state created ended duration_s attempts tags notes group job_type "
        "config summary lost_points troubles damaged_bytes"
    ).split()
} | {"duration_s": "duration"}
"""What ``--json`` says of a run, by the run table's name for it."""


_WRONG: Final = frozenset({"failed", "killed", "lost"})
_LACKING: Final = ("lost_points", "damaged_bytes", "troubles")


@dataclass(frozen=True, slots=True)
class Listed:
    """One run, as much of it as a list needs; its points are no longer in memory.

    Attributes:
        document: What ``ls --json`` says of it.
        row: Its row of the run table.
        config: Flattened with dots.
        summary: Likewise.
        goals: ``minimize`` or ``maximize`` by name in ``summary``.
        hidden: Names in ``summary`` that are not to be shown unasked.
        notes: What there is to know of how it went, in a few words each.
        strange: Whether something is out of the ordinary: it went wrong, or not all is there.
    """

    document: dict[str, Any]
    row: Mapping[str, Any]
    config: dict[str, Any]
    summary: dict[str, Any]
    goals: dict[str, str]
    hidden: frozenset[str]
    notes: tuple[str, ...]
    strange: bool

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Listed:
        """What a list needs of this row of the run table."""
        document = {field: row[name] for field, name in _FIELDS.items()}
        summary = flatten(document["summary"])
        return cls(
            document,
            row,
            flatten(document["config"]),
            summary,
            _by_leaf(summary, row["goals"]),
            frozenset(_by_leaf(summary, dict.fromkeys(row["hidden"], ""))),
            _notes(document),
            document["state"] in _WRONG or any(document[name] for name in _LACKING),
        )


def _by_leaf(summary: Mapping[str, Any], defined: Mapping[str, str]) -> dict[str, str]:
    """Of ``val/loss``, and of ``val/loss.min`` where the summary holds several statistics."""
    if not defined:
        return {}
    near = ((name, name if name in defined else name.rpartition(".")[0]) for name in summary)
    return {name: defined[known] for name, known in near if known in defined}


def _notes(document: dict[str, Any]) -> tuple[str, ...]:
    told = []
    if document["attempts"] > 1:
        told.append(plural(document["attempts"], "attempt"))
    if document["lost_points"]:
        told.append(f"{plural(document['lost_points'], 'point')} lost")
    if document["damaged_bytes"]:
        told.append(f"{plural(document['damaged_bytes'], 'byte')} damaged")
    if document["troubles"]:
        told.append(plural(document["troubles"], "trouble"))
    return tuple(told)


# -- reading ---------------------------------------------------------------------------------------


def run_places(api: Api, project: str | None) -> list[tuple[str, Path]]:
    """(project, folder) of each run, newest first, by what their logs begin with.

    Raises:
        NotFoundError: There is no such folder or project.
    """
    there = api.projects()
    if project is not None and project not in there:
        told = ", ".join(there) or "none yet"
        raise NotFoundError(f"no project {project!r} in {api.root}; there are: {told}")
    found = [
        (_began(folder), name, folder)
        for name in (there if project is None else [project])
        for folder in run_folders(api.root, name)
    ]
    found = [place for place in found if place[0] is not None]
    return [(name, folder) for _, name, folder in sorted(found, key=lambda f: (-(f[0] or 0), f[2]))]


def _began(folder: Path) -> float | None:
    """When the first attempt began; None for a folder without logs."""
    paths = logs(folder)
    if not paths:
        return None
    headers = [header for path in paths if (header := first_header(path))]
    own = [(header.attempt, header.created) for header in headers if header.role != "editor"]
    return min(own)[1] if own else 0.0


# -- order -----------------------------------------------------------------------------------------


def ordered(runs: Sequence[Listed], order: str) -> list[Listed]:
    """The runs by this key, falling with a leading ``-``; without a value, last.

    Raises:
        ArgumentError: It is no expression, or no run has a value for it.
    """
    key = order.strip().removeprefix("-").strip()
    table = table_of(runs)
    text = expression_of(runs, key)
    try:
        column = table.values(text)
    except FilterError as error:
        if not _BARE.fullmatch(key):
            raise
        if key.partition(".")[0] in ("config", "summary"):
            raise _no_value(runs, key) from error
        choices = ", ".join(_PLAIN_ORDERS)
        raise ArgumentError(
            f"cannot order by {key!r}: it is {choices}, config.NAME or summary.NAME"
        ) from error
    if runs and is_none(column).all():
        raise _no_value(runs, key)
    sign = "-" if order.strip().startswith("-") else ""
    return [runs[row] for row in table.select(order=sign + text).index.tolist()]


def table_of(runs: Sequence[Listed]) -> Table:
    """The runs as a table for expressions, in this order."""
    return Table(len(runs), lambda path: Column.of([value_at(run.row, path) for run in runs]))


def expression_of(runs: Sequence[Listed], name: str) -> str:
    """The expression; ``summary.val/acc`` may stand for ``summary["val/acc"]`` if a run has it."""
    space, dot, rest = name.partition(".")
    if dot and space in ("config", "summary") and any(rest in getattr(run, space) for run in runs):
        return path_text((space, *rest.split(".")))
    return name


def paths_of(runs: Sequence[Listed], order: str) -> tuple[tuple[str, ...], ...]:
    """The names in an order of these runs that ``ordered`` took."""
    key = order.strip().removeprefix("-").strip()
    return compile_expression(expression_of(runs, key)).paths


def split_expressions(text: str) -> list[str]:
    """The parts between commas that stand in no quotes, brackets or parentheses."""
    parts, depth, quote = [""], 0, ""
    for char in text:
        depth += 0 if quote else (char in "([") - (char in ")]")
        if char in "\"'":
            quote = "" if char == quote else quote or char
        if char == "," and not quote and depth <= 0:
            parts.append("")
        else:
            parts[-1] += char
    return [part.strip() for part in parts if part.strip()]


def _no_value(runs: Sequence[Listed], key: str) -> ArgumentError:
    return ArgumentError(f"no run has a value for {key!r} to order by; there are: {_keys(runs)}")


def _keys(runs: Sequence[Listed]) -> str:
    keys = dict.fromkeys(
        f"{space}.{k}" for space in ("config", "summary") for r in runs for k in getattr(r, space)
    )
    return ", ".join([*_PLAIN_ORDERS, *list(keys)[:20]])
