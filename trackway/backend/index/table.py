"""The run table: which runs a filter lets pass, in which order, and how they fall into groups."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from typing import Any

import numpy as np

from trackway.backend.index._grouping import AGGREGATES, Group, aggregate, split, varies
from trackway.backend.index._sorting import order_of
from trackway.backend.index.columns import Column, Indices
from trackway.backend.index.expression import (
    Columns,
    Expression,
    FilterError,
    compile_expression,
    compile_filter,
    path_text,
)
from trackway.errors import ArgumentError

__all__ = ["AGGREGATES", "Group", "PathInfo", "Selection", "Table", "paths"]


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """A page of the runs that a filter lets pass.

    Attributes:
        index: int64: the rows of the page, in order.
        matched: How many runs the filter lets pass.
        total: How many runs the table has.
    """

    index: Indices
    matched: int
    total: int


@dataclass(frozen=True, slots=True)
class Table:
    """``n`` runs as columns; it reads only those that a question names.

    Attributes:
        n: How many runs there are.
        column: Gives the column of a path, of length ``n``; it is asked anew for each question,
            so it should keep what it made.
        clock: Seconds since 1970, for times such as ``2 days ago``.
        zone: Of times that name none; None for the machine's own.
    """

    n: int
    column: Columns
    clock: Callable[[], float] = time.time
    zone: tzinfo | None = None

    def select(
        self,
        filter: str | None = None,
        order: str | Sequence[str] | None = None,
        offset: int = 0,
        limit: int | None = None,
    ) -> Selection:
        """Filter, sort, and take a page.

        Args:
            filter: An expression (``docs/filter.md``); None or blanks let every run pass.
            order: Expressions to sort by, the first one counting most; a ``-`` before one means
                falling. Numbers come first, then NaN, texts, others, and missing values, in this
                order both ways. Equal runs stay in the order of the table.
            offset: How many runs to pass over.
            limit: How many runs to give at most; None for all.

        Raises:
            FilterError: The filter or an order is wrong.
            ArgumentError: The offset or the limit is negative.
        """
        if offset < 0 or (limit is not None and limit < 0):
            raise ArgumentError("offset and limit must be 0 or more")
        rows = self.rows(filter)
        matched = len(rows)
        if order:
            keys = [order] if isinstance(order, str) else order
            rows = order_of([self._order_key(text) for text in keys], rows)
        end = None if limit is None else offset + limit
        return Selection(rows[offset:end], matched, self.n)

    def rows(self, filter: str | None = None) -> Indices:
        """The rows that a filter lets pass, in the order of the table."""
        if filter is None or not filter.strip():
            return np.arange(self.n)
        truth = compile_filter(filter).truth(self.n, self.column, now=self.clock(), zone=self.zone)
        return np.flatnonzero(truth)

    def values(self, expression: str) -> Column:
        """What an expression comes to for each run.

        Raises:
            FilterError: It is wrong.
        """
        return self._values(compile_expression(expression))

    def group(
        self,
        filter: str | None = None,
        by: Sequence[str] = (),
        aggregates: Mapping[str, str | Sequence[str]] | None = None,
    ) -> list[Group]:
        """Groups of runs that agree in every expression of ``by``, in the order of the table.

        1 and 1.0 are the same value, True and 1 are not; runs that miss a value agree in that.

        Args:
            filter: As for ``select``.
            by: Expressions; with none, all runs are one group.
            aggregates: For each expression one or more of AGGREGATES.

        Raises:
            FilterError: An expression is wrong.
            ArgumentError: There is no such aggregate.
        """
        columns = [self.values(text) for text in by]
        parts = split(columns, self.rows(filter))
        return self._groups(tuple(by), columns, parts, aggregates or {})

    def group_except(
        self,
        keys: Sequence[str],
        candidates: Iterable[str],
        filter: str | None = None,
        aggregates: Mapping[str, str | Sequence[str]] | None = None,
    ) -> list[Group]:
        """Groups of runs that agree in all candidates but these: replicas that differ in a seed.

        Args:
            keys: What may differ; a name stands for all below it as well.
            candidates: Names of all values to compare, such as every leaf of the configs.
            filter: As for ``select``.
            aggregates: As for ``group``.

        Returns:
            Groups whose ``by`` are the candidates in which they differ from each other.

        Raises:
            FilterError: A name is wrong.
            ArgumentError: Something is no name, or there is no such aggregate.
        """
        free = [_path(text) for text in keys]
        names = [
            text
            for text in candidates
            if not any(_path(text)[: len(path)] == path for path in free)
        ]
        columns = [self.values(text) for text in names]
        rows = self.rows(filter)
        parts = split(columns, rows)
        differing = [
            place for place, column in enumerate(columns) if len(rows) and varies(column, rows)
        ]
        by = tuple(names[place] for place in differing)
        return self._groups(by, [columns[place] for place in differing], parts, aggregates or {})

    # -- inside ------------------------------------------------------------------------------------

    def _values(self, expression: Expression) -> Column:
        if expression.path is not None:
            return self.column(expression.path)
        return expression.values(self.n, self.column, now=self.clock(), zone=self.zone)

    def _order_key(self, text: str) -> tuple[Column, bool]:
        start = len(text) - len(text.lstrip())
        if not text.startswith("-", start):
            return self.values(text), False
        try:
            return self.values(text[start + 1 :]), True
        except FilterError as error:
            place = error.position + start + 1
            raise FilterError(error.reason, text, place, error.length) from error

    def _groups(
        self,
        by: tuple[str, ...],
        columns: Sequence[Column],
        parts: Sequence[Indices],
        aggregates: Mapping[str, str | Sequence[str]],
    ) -> list[Group]:
        told: dict[tuple[str, str], list[Any]] = {}
        for text, functions in aggregates.items():
            column = self.values(text)
            for function in [functions] if isinstance(functions, str) else functions:
                told[text, function] = aggregate(function, column, parts)
        firsts = np.array([rows[0] for rows in parts if len(rows)], np.int64)
        values = [column.take(firsts).values() for column in columns]
        return [
            Group(
                by,
                tuple(found[place] for found in values),
                rows,
                {key: found[place] for key, found in told.items()},
            )
            for place, rows in enumerate(parts)
        ]


def _path(text: str) -> tuple[str, ...]:
    path = compile_expression(text).path
    if path is None:
        raise ArgumentError(f"{text!r} is not the name of a value; write e.g. config.seed")
    return path


# -- what there is ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PathInfo:
    """A value that runs have.

    Attributes:
        path: ``("config", "optimizer", "lr")``.
        text: The same as an expression: ``config.optimizer.lr``.
        count: How many runs have it.
        kinds: How many of them have it as ``number``, ``text``, ``bool``, ``none``, ``list``,
            ``map`` (an empty one) or ``other``.
    """

    path: tuple[str, ...]
    text: str
    count: int
    kinds: dict[str, int]


_KINDS: Mapping[type, str] = {
    bool: "bool",
    dict: "map",
    float: "number",
    int: "number",
    list: "list",
    str: "text",
    tuple: "list",
    type(None): "none",
}
_Counts = Counter[tuple[str, type]]


def paths(
    documents: Iterable[Mapping[str, Any]], roots: Sequence[str] = ("config", "summary")
) -> list[PathInfo]:
    """Every value that some of these runs have below ``roots``, ordered by path."""
    counts: dict[tuple[str, ...], Counter[str]] = {}
    flat: dict[str, _Counts] = {root: Counter() for root in roots}
    for document in documents:
        for root in roots:
            found = document.get(root)
            if isinstance(found, dict):
                _count(found, "", flat[root])
    for root, found in flat.items():
        for (name, kind), count in found.items():
            kinds = counts.setdefault((root, *name.split(".")), Counter())
            kinds[_KINDS.get(kind, "other")] += count
    return [
        PathInfo(path, path_text(path), sum(kinds.values()), dict(sorted(kinds.items())))
        for path, kinds in sorted(counts.items())
    ]


def _count(values: dict[str, Any], prefix: str, counts: _Counts) -> None:
    names: Iterable[str] = [prefix + name for name in values] if prefix else values
    if dict not in set(map(type, values.values())):
        counts.update(zip(names, map(type, values.values()), strict=True))
        return
    for name, value in zip(names, values.values(), strict=True):
        if isinstance(value, dict) and value:
            _count(value, f"{name}.", counts)
        else:
            counts[name, type(value)] += 1
