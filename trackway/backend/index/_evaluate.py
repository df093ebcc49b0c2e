"""What a tree comes to, for all runs at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import tzinfo
from functools import reduce
from itertools import pairwise
from typing import Any, Final

import numpy as np

from trackway.backend.index._functions import PREDICATES, VALUES
from trackway.backend.index._nodes import (
    Arithmetic,
    Call,
    Compare,
    Field,
    Instant,
    Items,
    Literal,
    Logic,
    Match,
    Negative,
    Node,
    Not,
)
from trackway.backend.index._operators import (
    arithmetic,
    compare,
    included,
    included_in_all,
    is_none,
    truth,
)
from trackway.backend.index.columns import MISSING, Column, Mask

__all__ = ["Evaluation"]

_NEGATIVE: Final = Column.of([-1])


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One pass over a tree.

    Attributes:
        column: The column of a path; all have the same length.
        now: Seconds since 1970.
        zone: Of times that name none; None for the machine's own.
    """

    column: Callable[[tuple[str, ...]], Column]
    now: float
    zone: tzinfo | None

    def truth(self, node: Node) -> Mask:
        """Where the node is true: an array of one for each run, or of one for all."""
        found = _TRUTHS.get(type(node))
        return truth(self.value(node)) if found is None else found(self, node)

    def value(self, node: Node) -> Column:
        """The node's values: a column of one row for each run, or of one for all."""
        found = _VALUES.get(type(node))
        return Column.of_truths(self.truth(node)) if found is None else found(self, node)

    # -- conditions --------------------------------------------------------------------------------

    def logic(self, node: Logic) -> Mask:
        combine = np.logical_and if node.word == "and" else np.logical_or
        found: Mask = reduce(combine, map(self.truth, node.parts))
        return found

    def negation(self, node: Not) -> Mask:
        return ~self.truth(node.operand)

    def match(self, node: Match) -> Mask:
        column, pattern = self.value(node.operand), node.pattern
        if not column.vocabulary:
            return np.zeros(len(column), np.bool_)
        flags = column.memo(
            ("~", pattern.text), lambda: np.array(pattern.found_in(column.vocabulary), np.bool_)
        )
        return column.by_entry(flags)

    def comparison(self, node: Compare) -> Mask:
        nodes = [node.first, *(operand for _, operand in node.rest)]
        words = [word for word, _ in node.rest]
        pairs = zip(words, pairwise(nodes), strict=True)
        found: Mask = reduce(
            np.logical_and, (self.pair(word, left, right) for word, (left, right) in pairs)
        )
        return found

    def pair(self, word: str, left: Node, right: Node) -> Mask:
        if word == "in":
            return self.membership(left, right)
        if word == "not in":
            return ~self.membership(left, right)
        if word == "!=":
            return ~self.equality(left, right)
        if word == "==":
            return self.equality(left, right)
        return compare(word, self.value(left), self.value(right))

    def equality(self, left: Node, right: Node) -> Mask:
        if isinstance(left, (Instant, Literal)):
            left, right = right, left
        if isinstance(right, Literal) and right.value is None:
            return is_none(self.value(left))
        if isinstance(right, Instant) and right.moment.day:
            return self.during(left, right)
        return compare("==", self.value(left), self.value(right))

    def during(self, node: Node, day: Instant) -> Mask:
        """Where the time lies within a day."""
        column = self.value(node)
        end = Column.of([day.moment.end(self.now, self.zone)])
        return compare(">=", column, self.value(day)) & compare("<", column, end)

    def membership(self, item: Node, container: Node) -> Mask:
        if not isinstance(container, Items):
            return included(self.value(item), self.value(container))
        if container.plain:
            return included_in_all(self.value(item), container.value)
        found: Mask = reduce(
            np.logical_or, (self.equality(item, other) for other in container.items)
        )
        return found

    def predicate(self, node: Call) -> Mask:
        if node.name in PREDICATES:
            return PREDICATES[node.name](*map(self.value, node.arguments))
        return truth(self.value(node))

    # -- values ------------------------------------------------------------------------------------

    def field(self, node: Field) -> Column:
        return self.column(node.path)

    def literal(self, node: Literal) -> Column:
        return Column.of([node.value])

    def instant(self, node: Instant) -> Column:
        return Column.of([node.moment.at(self.now, self.zone)])

    def items(self, node: Items) -> Column:
        """Lists, one for each run; missing where one of the items is."""
        if node.plain:
            return Column.of([list(node.value)])
        columns = [self.value(item) for item in node.items]
        n = max(map(len, columns)) if all(map(len, columns)) else 0
        parts = [column.values() * (n if len(column) == 1 else 1) for column in columns]
        rows = [list(row) for row in zip(*parts, strict=False)]
        return Column.of([MISSING if MISSING in row else row for row in rows[:n]])

    def negative(self, node: Negative) -> Column:
        return arithmetic("*", self.value(node.operand), _NEGATIVE)

    def arithmetic(self, node: Arithmetic) -> Column:
        found = self.value(node.first)
        for word, operand in node.rest:
            found = arithmetic(word, found, self.value(operand))
        return found

    def call(self, node: Call) -> Column:
        if node.name in PREDICATES:
            return Column.of_truths(self.predicate(node))
        first, *others = map(self.value, node.arguments)
        constants = node.arguments[1:]
        if not all(isinstance(other, Literal) for other in constants):
            return VALUES[node.name](first, *others)
        key = (node.name, *(repr(other.value) for other in constants if isinstance(other, Literal)))
        return first.memo(key, lambda: VALUES[node.name](first, *others))


_TRUTHS: Final[dict[type[Node], Callable[[Evaluation, Any], Mask]]] = {
    Call: Evaluation.predicate,
    Compare: Evaluation.comparison,
    Logic: Evaluation.logic,
    Match: Evaluation.match,
    Not: Evaluation.negation,
}
_VALUES: Final[dict[type[Node], Callable[[Evaluation, Any], Column]]] = {
    Arithmetic: Evaluation.arithmetic,
    Call: Evaluation.call,
    Field: Evaluation.field,
    Instant: Evaluation.instant,
    Items: Evaluation.items,
    Literal: Evaluation.literal,
    Negative: Evaluation.negative,
}
