"""The filter expressions of the run table: a small language, parsed by us and never ``eval``.

``docs/filter.md`` tells it to users. A compiled expression holds no data and no clock: it may be
kept, and used by several threads.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import tzinfo
from functools import lru_cache

import numpy as np

from trackway.backend.index._evaluate import Evaluation
from trackway.backend.index._lexer import TEXT_LIMIT, FilterError
from trackway.backend.index._nodes import (
    FIELDS,
    Arithmetic,
    Call,
    Compare,
    Field,
    Items,
    Literal,
    Logic,
    Match,
    Negative,
    Node,
    Not,
)
from trackway.backend.index._parser import DEPTH_LIMIT, parse
from trackway.backend.index._pattern import SlowPatternError
from trackway.backend.index.columns import Column, Mask

__all__ = [
    "DEPTH_LIMIT",
    "FIELDS",
    "TEXT_LIMIT",
    "Columns",
    "Expression",
    "FilterError",
    "compile_expression",
    "compile_filter",
    "path_text",
]

Columns = Callable[[tuple[str, ...]], Column]
"""Gives the column of a path such as ``("config", "optimizer", "lr")``."""

_CACHED = 512


@dataclass(frozen=True, slots=True)
class Expression:
    """A compiled expression.

    Attributes:
        text: As written.
        paths: The paths of the columns it looks at, each once, in the order of the text.
    """

    text: str
    paths: tuple[tuple[str, ...], ...]
    _node: Node

    @property
    def path(self) -> tuple[str, ...] | None:
        """The path, if the expression is the bare name of a value; else None."""
        return self._node.path if isinstance(self._node, Field) else None

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All parts of it, in the order of the text; each before what it consists of."""
        return tuple(_walk(self._node))

    def truth(
        self, n: int, column: Columns, *, now: float | None = None, zone: tzinfo | None = None
    ) -> Mask:
        """Where the expression is true, bool[n].

        Args:
            n: How many runs there are.
            column: Gives the columns, each of length ``n``.
            now: Seconds since 1970; None for the clock's.
            zone: The time zone of times that name none; None for the machine's own.

        Raises:
            FilterError: A regular expression takes too long on these texts.
        """
        evaluation = Evaluation(column, time.time() if now is None else now, zone)
        try:
            return np.array(np.broadcast_to(evaluation.truth(self._node), n))
        except SlowPatternError as error:
            raise self._too_slow(error) from error

    def values(
        self, n: int, column: Columns, *, now: float | None = None, zone: tzinfo | None = None
    ) -> Column:
        """What the expression comes to, a column of length ``n``; arguments as for ``truth``."""
        evaluation = Evaluation(column, time.time() if now is None else now, zone)
        try:
            found = evaluation.value(self._node)
        except SlowPatternError as error:
            raise self._too_slow(error) from error
        return found if len(found) == n else found.take(np.zeros(n, np.int64))

    def _too_slow(self, error: SlowPatternError) -> FilterError:
        at = next((node for node in _walk(self._node) if isinstance(node, Match)), self._node)
        reason = f"the pattern is too slow: {error}; use fewer of '*' and '+'"
        return FilterError(reason, self.text, at.position, at.length)


@lru_cache(_CACHED)
def compile_expression(text: str) -> Expression:
    """Compile any expression of the language: a condition, a name, an arithmetic term.

    Raises:
        FilterError: It is none; the error points at the character.
    """
    node = parse(text)
    paths = dict.fromkeys(part.path for part in _walk(node) if isinstance(part, Field))
    return Expression(text, tuple(paths), node)


def compile_filter(text: str) -> Expression:
    """Compile a filter. A text alone, which would let every run pass, is refused.

    Raises:
        FilterError: It is no filter; the error points at the character.
    """
    made = compile_expression(text)
    node = made._node
    if isinstance(node, Literal) and isinstance(node.value, str):
        reason = "a text alone is no condition; write e.g. name ~ before it"
        raise FilterError(reason, text, node.position, node.length)
    return made


def path_text(path: tuple[str, ...]) -> str:
    """How a path is written in the language: ``config.lr``, ``summary["val/acc"]``."""
    if all(part.isascii() and part.isidentifier() for part in path):
        return ".".join(path)
    name = ".".join(path[1:])
    for char, escape in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("\t", "\\t")):
        name = name.replace(char, escape)
    return f'{path[0]}["{name}"]'


def _walk(node: Node) -> Iterator[Node]:
    """The node and all below it, in the order of the text."""
    yield node
    for child in _children(node):
        yield from _walk(child)


def _children(node: Node) -> tuple[Node, ...]:
    if isinstance(node, Call):
        return node.arguments
    if isinstance(node, Logic):
        return node.parts
    if isinstance(node, Items):
        return node.items
    if isinstance(node, (Arithmetic, Compare)):
        return (node.first, *(operand for _, operand in node.rest))
    return (node.operand,) if isinstance(node, (Match, Negative, Not)) else ()
