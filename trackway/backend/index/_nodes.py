"""The tree of a filter expression. Every node knows which characters of the text it stands for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from trackway.backend.index._pattern import Pattern
from trackway.backend.index._times import Moment

__all__ = [
    "FIELDS",
    "FUNCTIONS",
    "Arithmetic",
    "Call",
    "Compare",
    "Field",
    "Instant",
    "Items",
    "Literal",
    "Logic",
    "Match",
    "Negative",
    "Node",
    "Not",
    "dimension_of",
]

FIELDS: Final = (
    "id",
    "name",
    "project",
    "state",
    "group",
    "job_type",
    "notes",
    "tags",
    "created",
    "ended",
    "duration",
    "archived",
    "attempts",
    "host",
    "user",
    "commit",
    "branch",
    "exit_code",
    "points",
)
"""What every run has, beside ``config`` and ``summary``."""

FUNCTIONS: Final = {
    "abs": (1, 1),
    "contains": (2, 2),
    "endswith": (2, 2),
    "exists": (1, 1),
    "float": (1, 1),
    "int": (1, 1),
    "len": (1, 1),
    "log": (1, 1),
    "log10": (1, 1),
    "lower": (1, 1),
    "max": (1, 100),
    "min": (1, 100),
    "missing": (1, 1),
    "round": (1, 2),
    "sqrt": (1, 1),
    "startswith": (2, 2),
    "upper": (1, 1),
}
"""Each function, with the least and the greatest number of its arguments."""


@dataclass(frozen=True, slots=True)
class Node:
    """A part of the text.

    Attributes:
        position: Its first character, counted from 0.
        length: How many characters it has, 1 or more.
    """

    position: int
    length: int


@dataclass(frozen=True, slots=True)
class Literal(Node):
    """A number, text, bool or None."""

    value: Any


@dataclass(frozen=True, slots=True)
class Instant(Node):
    """A text that is a time, because it is compared with one."""

    moment: Moment


@dataclass(frozen=True, slots=True)
class Field(Node):
    """A value of the run."""

    path: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Items(Node):
    """A list.

    Attributes:
        items: Its items.
        plain: Whether every item is a literal, or a list of literals.
        value: The items' values, if ``plain``.
    """

    items: tuple[Node, ...]
    plain: bool
    value: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Negative(Node):
    """Unary minus."""

    operand: Node


@dataclass(frozen=True, slots=True)
class Arithmetic(Node):
    """A row of operations of equal rank, done from left to right."""

    first: Node
    rest: tuple[tuple[str, Node], ...]


@dataclass(frozen=True, slots=True)
class Compare(Node):
    """A row of comparisons, all of which are to hold; ``in`` and ``not in`` among them."""

    first: Node
    rest: tuple[tuple[str, Node], ...]


@dataclass(frozen=True, slots=True)
class Match(Node):
    """Whether a pattern is found in a text."""

    operand: Node
    pattern: Pattern


@dataclass(frozen=True, slots=True)
class Logic(Node):
    """All of the parts (``and``) or any of them (``or``)."""

    word: str
    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Not(Node):
    """The contrary."""

    operand: Node


@dataclass(frozen=True, slots=True)
class Call(Node):
    """A function of FUNCTIONS, with a fitting number of arguments."""

    name: str
    arguments: tuple[Node, ...]


def dimension_of(node: Node) -> str:
    """``time`` or ``duration`` for what is measured in seconds since 1970, or in seconds."""
    if isinstance(node, Field):
        if node.path in (("created",), ("ended",)):
            return "time"
        return "duration" if node.path == ("duration",) else ""
    if isinstance(node, Call) and node.name in ("abs", "max", "min", "round"):
        return dimension_of(node.arguments[0])
    if isinstance(node, Negative):
        return dimension_of(node.operand)
    if not isinstance(node, Arithmetic):
        return ""
    found = dimension_of(node.first)
    for word, operand in node.rest:
        other = dimension_of(operand)
        if word == "-" and found == other == "time":
            found = "duration"
        elif word in "+-" and found == "":
            found = other
        elif word not in "+-" and other:
            found = ""
    return found
