"""What integrations record of a run besides points: tables, histograms, checkpoints, models.

Read from the events of ``docs/format/log.md``. An event that says something no writer says is
passed over: a log may be of a later version, or of anybody.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final

from trackway.api._asked import check_text, near
from trackway.api._stored import Checkpoint, StoredModel, StoredTable, TableName, whole
from trackway.errors import NotFoundError

if TYPE_CHECKING:
    from trackway.api._histograms import Histograms, Told
    from trackway.backend.file.format import Event
    from trackway.backend.index.contract import RunRef
    from trackway.backend.index.document import ToldLog
    from trackway.backend.index.index import Index

__all__ = ["Recorded"]

_I64: Final = 1 << 63


class Recorded:
    """What a stored run has besides points; a part of ``StoredRun``."""

    _index: Index
    _ref: RunRef

    def _spoken(self, type: str) -> Iterator[tuple[ToldLog, Event]]:
        yield from self._index.events(self._ref, {type})

    # -- tables ----------------------------------------------------------------------------

    def tables(self) -> list[TableName]:
        """The tables' names, sorted, with what is known of each."""
        found: dict[str, list[StoredTable]] = {}
        for table in self._tables().values():
            found.setdefault(table.name, []).append(table)
        return [
            TableName(
                name,
                every[-1].kind,
                sorted((t.step for t in every), key=lambda s: (s is not None, s or 0)),
                len(every[-1]),
            )
            for name, every in sorted(found.items())
        ]

    def table(self, name: str, step: int | None = None) -> StoredTable:
        """A table: the last one that was recorded under its name, or under name and step.

        Raises:
            NotFoundError: There is none.
        """
        found = self._tables()
        every = [table for table in found.values() if table.name == name]
        if not every:
            there = sorted({table.name for table in found.values()})
            told = near(name, there) or f"; there are: {', '.join(there[:20]) or 'none'}"
            raise NotFoundError(f"the run has no table {name!r}{told}")
        if step is None:
            return every[-1]
        if (name, step) not in found:
            steps = ", ".join(str(table.step) for table in every[:20])
            raise NotFoundError(f"table {name!r} has no step {step!r}; its steps are: {steps}")
        return found[name, step]

    def _tables(self) -> dict[tuple[str, int | None], StoredTable]:
        """The last whole table of each name and step, else what there is of one; last one last."""
        found: dict[tuple[str, int | None], StoredTable] = {}
        begun: dict[tuple[object, tuple[str, int | None]], StoredTable] = {}
        for log, event in self._spoken("table"):
            part = _part(event.fields)
            if part is None:
                continue
            first, rows, table = part
            key = table.name, table.step
            if first:
                former = begun.get((log.path, key))
                if former is None or len(former) != first:
                    continue  # what comes before it is missing
                table = _extended(former, table)
            rest = rows - len(table)
            whole = replace(table, missing=rest, time=event.time, attempt=log.attempt)
            begun[log.path, key] = whole
            if whole.missing == 0 or key not in found or found[key].missing:
                found.pop(key, None)
                found[key] = whole
        return found

    # -- histograms ------------------------------------------------------------------------

    def histograms(self, of: str = "gradients", name: str | None = None) -> Histograms:
        """How the values of tensors were distributed, by step and tensor.

        Counts of ranks that have a part each of a tensor are added.

        Args:
            of: ``gradients`` or ``parameters``.
            name: A tensor's name or a pattern with ``*``; all by default.

        Raises:
            ArgumentError: An argument is no text.
        """
        from trackway.api._histograms import joined

        for argument, value in (("of", of), ("name", name or "")):
            check_text(argument, value)
        found: dict[tuple[int, str], list[Told]] = {}
        for log, event in self._spoken("histograms"):
            for key, told in _counts(log, event.fields, of, name):
                found.setdefault(key, []).append(told)
        return joined(of, found)

    # -- checkpoints and models ------------------------------------------------------------

    @property
    def checkpoints(self) -> list[Checkpoint]:
        """The checkpoints, in the order in which they were last written."""
        found: dict[str, Checkpoint] = {}
        owners: dict[str, str] = {}
        for log, event in self._spoken("checkpoint"):
            told = _checkpoint(event, log.attempt)
            if told is None:
                continue
            former = found.get(told.path)
            if told.removed and former is not None:  # what it was stays known
                found[told.path] = _kept(former, told)
            else:
                found.pop(told.path, None)
                found[told.path] = told
            owners.update(dict.fromkeys(told.aliases, told.path))
        return [
            replace(each, aliases=tuple(a for a, path in owners.items() if path == each.path))
            for each in found.values()
        ]

    @property
    def models(self) -> dict[str, StoredModel]:
        """The models by name, in the order in which they were first recorded."""
        found: dict[str, StoredModel] = {}
        for log, event in self._spoken("model"):
            name, about = event.fields.get("name"), event.fields.get("about")
            if isinstance(name, str) and isinstance(about, dict):
                found[name] = StoredModel(name, _named(about), event.time, log.attempt)
        return found

    @property
    def model(self) -> StoredModel | None:
        """The model called ``model``, else the first one; None where none was recorded."""
        models = self.models
        return models.get("model") or next(iter(models.values()), None)


# -- fields ----------------------------------------------------------------------------------------


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _real(value: object) -> float | None:
    return value if type(value) is float else whole(value)


def _named(fields: Mapping[Any, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if isinstance(name, str)}


def _part(fields: Mapping[str, Any]) -> tuple[int, int, StoredTable] | None:
    """The number of its first row, the rows of the whole, and what it holds of them."""
    name, step, about = fields.get("name"), fields.get("step"), fields.get("about")
    first, rows = fields.get("first", 0), fields.get("rows", 0)
    columns = _columns(fields.get("columns"))
    if not isinstance(name, str) or step != whole(step) or columns is None:
        return None
    if type(first) is not int or type(rows) is not int or first < 0:
        return None
    size = max(map(len, columns.values()), default=0)
    if first + size > rows or (first and not size):
        return None
    padded = {c: [*values, *[None] * (size - len(values))] for c, values in columns.items()}
    kind = _text(fields.get("kind"))
    told = _named(about) if isinstance(about, dict) else {}
    return first, rows, StoredTable(name, step, kind, told, padded)


def _columns(value: object) -> dict[str, list[Any]] | None:
    if not isinstance(value, list):
        return None
    columns: dict[str, list[Any]] = {}
    for pair in value:
        if not (isinstance(pair, list) and len(pair) == 2):
            return None
        name, cells = pair
        if not isinstance(name, str) or not isinstance(cells, list):
            return None
        columns[name] = cells
    return columns


def _extended(former: StoredTable, more: StoredTable) -> StoredTable:
    rows, size = len(former), len(more)
    columns = {}
    for name in dict.fromkeys([*former.columns, *more.columns]):
        before = former.columns.get(name) or [None] * rows
        columns[name] = [*before, *(more.columns.get(name) or [None] * size)]
    return replace(former, columns=columns)


def _counts(
    log: ToldLog, fields: Mapping[str, Any], of: str, pattern: str | None
) -> Iterator[tuple[tuple[int, str], Told]]:
    """What an event of histograms says of each tensor that is asked for."""
    from trackway.api._histograms import SCHEME, Told, occupied

    step, data, sharded = fields.get("step"), fields.get("data"), fields.get("sharded") is True
    if fields.get("of") != of or fields.get("scheme") != SCHEME or not isinstance(data, dict):
        return
    if type(step) is not int or whole(step) is None:
        return
    rank = None if log.header is None else log.header.extra.get("rank")
    source = rank if type(rank) is int else log.name
    for name, pieces in data.items():
        if not isinstance(name, str):
            continue
        if pattern is not None and name != pattern and not fnmatchcase(name, pattern):
            continue
        found = occupied(pieces)
        if found is not None:
            yield (step, name), Told(log.attempt, source, sharded, *found)


def _checkpoint(event: Event, attempt: int) -> Checkpoint | None:
    fields = event.fields
    path, aliases = fields.get("path"), fields.get("aliases")
    if not isinstance(path, str):
        return None
    return Checkpoint(
        path,
        whole(fields.get("bytes")),
        _real(fields.get("modified")),
        whole(fields.get("step")),
        _real(fields.get("epoch")),
        _real(fields.get("score")),
        _text(fields.get("metric")),
        tuple(a for a in aliases if isinstance(a, str)) if isinstance(aliases, list) else (),
        fields.get("removed") is True,
        event.time,
        attempt,
    )


def _kept(former: Checkpoint, removal: Checkpoint) -> Checkpoint:
    """A checkpoint that was removed, with what was known of it."""
    return replace(former, removed=True, time=removal.time, attempt=removal.attempt)
