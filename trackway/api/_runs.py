"""Runs that fit a question, and groups of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, overload

import numpy as np
import numpy.typing as npt

from trackway.api._frames import Columnar
from trackway.api._run import StoredRun
from trackway.backend.index.columns import MISSING, Column

if TYPE_CHECKING:
    from trackway.api._export_folder import ExportReport
    from trackway.backend.index.contract import RunRef
    from trackway.backend.index.index import Index
    from trackway.backend.index.rows import Rows
    from trackway.backend.index.table import Table

__all__ = ["Part", "RunGroup", "Runs", "labels", "select"]

_SHOWN: Final = ("id", "name", "project", "state", "created", "duration")


class Runs(Columnar, Sequence[StoredRun]):
    """Runs that fit a question, in the order that was asked for.

    Which runs they are is decided when it is made; each is read when it is looked at.

    Attributes:
        matched: How many runs fit, of which a page may be here.
        total: How many runs there are in all.
    """

    def __init__(
        self,
        root: Path,
        index: Index,
        rows: Rows,
        chosen: npt.NDArray[np.int64],
        matched: int,
        total: int,
        columns: Sequence[str] | None,
        refs: Sequence[RunRef] | None = None,
    ) -> None:
        self.matched = matched
        self.total = total
        self._root = root
        self._index = index
        self._rows = rows
        self._chosen = chosen
        self._names = columns
        # A page of runs keeps those that were removed since: their numbers are known no more.
        self._refs = (
            [index.ref(number) for number in rows.runs[chosen].tolist()] if refs is None else refs
        )

    def __len__(self) -> int:
        return len(self._refs)

    @overload
    def __getitem__(self, place: int) -> StoredRun: ...

    @overload
    def __getitem__(self, place: slice) -> Runs: ...

    def __getitem__(self, place: int | slice) -> StoredRun | Runs:
        if isinstance(place, slice):
            return Runs(
                self._root,
                self._index,
                self._rows,
                self._chosen[place],
                self.matched,
                self.total,
                self._names,
                self._refs[place],
            )
        ref = self._refs[place]
        return StoredRun(self._root, ref.project, ref.id, self._index)

    def __iter__(self) -> Iterator[StoredRun]:
        for ref in self._refs:
            yield StoredRun(self._root, ref.project, ref.id, self._index)

    def __repr__(self) -> str:
        return f"<Runs: {len(self)} of {self.matched} that fit, of {self.total}>"

    @property
    def ids(self) -> list[str]:
        """The runs' ids."""
        return [ref.id for ref in self._refs]

    def column(self, name: str) -> list[Any]:
        """One value a run: a field, ``config.lr``, ``summary["val/acc"]``, or any expression.

        A run that has no such value has ``MISSING``.
        """
        from trackway.backend.index.table import Table

        column: Column = Table(len(self._rows), self._rows.column).values(name)
        return column.take(self._chosen).values()

    def table(self) -> dict[str, npt.NDArray[Any]]:
        """One row a run, with the columns that ``Api.runs`` was asked for.

        By default those are id, name, project, state, created, duration, and every leaf of config
        and summary that any of the runs has.
        """
        return {name: _array(self.column(name)) for name in self._names or self._all_names()}

    def _all_names(self) -> list[str]:
        from trackway.backend.index.expression import path_text

        found = [
            path
            for path in self._rows.paths()
            if len(path) > 1  # a config or summary that is empty is no value of its own
            and self._rows.column(path).take(self._chosen).kinds.any()
        ]
        return [*_SHOWN, *(path_text(path) for path in found)]

    def documents(self) -> list[dict[str, Any]]:
        """Each run whole: fields, config and summary as nested dictionaries."""
        return self._rows.documents(self._chosen.tolist())

    def export(
        self, folder: str | os.PathLike[str], format: str = "parquet", **options: Any
    ) -> ExportReport:
        """Write these runs into a folder, every value exact.

        ``docs/export.md`` says what lies there.

        Args:
            folder: Where to; it is made. One that holds anything is refused without ``resume``.
            format: ``parquet`` (a line a point), ``csv`` (a line a step) or ``jsonl`` (a line a
                ``log`` call).
            options: ``keys`` (names or patterns), ``attempts`` (``live``, ``all``), ``repeats``
                (``last``, ``all``), ``system``, ``files``, ``resume`` (booleans), ``progress`` (is
                told how many runs of how many are done).

        Raises:
            ArgumentError: The folder holds something else, or an export made otherwise; another
                export is writing to it; an argument is none of its values.
            MissingExtraError: Parquet, and PyArrow is not installed.
        """
        from trackway.api._export_folder import export_runs

        return export_runs(self, Path(folder).expanduser(), format, **options)


class RunGroup:
    """Runs that agree in something.

    Attributes:
        by: The expressions they agree in, and the value of each.
        runs: The runs.
        aggregates: What was asked to be worked out over them, by (expression, function).
    """

    def __init__(
        self, by: Mapping[str, Any], runs: Runs, aggregates: Mapping[tuple[str, str], Any]
    ) -> None:
        self.by = dict(by)
        self.runs = runs
        self.aggregates = dict(aggregates)

    def __len__(self) -> int:
        return len(self.runs)

    def __repr__(self) -> str:
        told = ", ".join(f"{name}={value!r}" for name, value in self.by.items())
        return f"<{len(self)} runs with {told or 'anything'}>"


def _array(values: Sequence[Any]) -> npt.NDArray[Any]:
    """A column as an array: numbers as such, missing ones NaN; all else as objects."""
    kinds = {type(value) for value in values if value is not MISSING}
    missing = any(value is MISSING for value in values)
    if kinds and kinds <= {int, float} and (float in kinds or missing):
        if all(abs(v) <= 1 << 53 for v in values if type(v) is int):
            return np.array([np.nan if v is MISSING else v for v in values], np.float64)
    elif kinds == {int} and all(-(1 << 63) <= v < 1 << 63 for v in values):
        return np.array(values, np.int64)
    elif kinds == {bool} and not missing:
        return np.array(values, np.bool_)
    column = np.empty(len(values), object)
    for place, value in enumerate(values):
        column[place] = None if value is MISSING else value
    return column


class Part:
    """Some rows of a table, as a table."""

    def __init__(self, rows: Rows, chosen: npt.NDArray[np.int64]) -> None:
        self._rows = rows
        self._chosen = chosen

    def table(self) -> Table:
        from trackway.backend.index.table import Table

        return Table(
            len(self._chosen), lambda path: self._rows.column(tuple(path)).take(self._chosen)
        )


def select(
    rows: Rows,
    table: Table,
    project: str | None,
    filter: str | None,
    order: Sequence[str],
    archived: bool | None,
) -> tuple[npt.NDArray[np.int64], int, int]:
    """The rows that fit, in order; how many they are, and of how many."""
    index = table.select(filter, [*order, "id"]).index
    there = np.ones(len(rows), np.bool_)
    if project is not None:
        there &= np.array(
            [name == project for name in rows.column(("project",)).values()], np.bool_
        )
    total = int(there.sum())
    if archived is not None:
        column = rows.column(("archived",))
        there &= (column.numbers == 1.0) == archived
    index = index[there[index]]
    return index, len(index), total


def labels(groups: Sequence[RunGroup]) -> list[str]:
    """A name a group, no two the same: with quotes where a text looks like another value."""
    plain = [_label(group, str) for group in groups]
    names = plain if len(set(plain)) == len(plain) else [_label(group, repr) for group in groups]
    told: dict[str, None] = {}
    for name in names:
        number, label = 1, name
        while label in told:
            number += 1
            label = f"{name} ({number})"
        told[label] = None
    return list(told)


def _label(group: RunGroup, text: Callable[[Any], str]) -> str:
    return ", ".join(f"{name}={text(value)}" for name, value in group.by.items()) or "all"
