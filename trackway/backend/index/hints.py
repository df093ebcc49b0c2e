"""Why a filter may have let no run pass: what in it fits none of the runs there are."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, Final

from trackway.backend.index._nodes import Call, Compare, Field, Items, Literal, Match, Node
from trackway.backend.index.expression import Expression, path_text
from trackway.backend.index.table import PathInfo

__all__ = ["STATES", "hint"]

STATES: Final = ("running", "finished", "failed", "interrupted", "killed", "lost")
"""Every state a run may be in."""

_NUMBERS: Final = frozenset({"number", "bool"})
_OF_FIELDS: Final = {
    **dict.fromkeys(("attempts", "points", "exit_code", "archived"), "number"),
    **dict.fromkeys(
        ("id", "name", "project", "group", "job_type", "notes", "host", "user", "commit", "branch"),
        "text",
    ),
}
_Known = dict[tuple[str, ...], PathInfo]


def hint(expression: Expression, there: Sequence[PathInfo]) -> str | None:
    """One sentence about the first thing in a filter that can fit no run; None if there is none.

    Args:
        expression: A filter that let no run pass.
        there: The values that runs have, and of which kinds they are: ``table.paths``.
    """
    known = {info.path: info for info in there}
    accepted = set(_asked_to_be_missing(expression))
    found = (_about(node, known, accepted) for node in expression.nodes)
    return next((sentence for sentence in found if sentence is not None), None)


def _asked_to_be_missing(expression: Expression) -> Iterator[tuple[str, ...]]:
    """The paths of which the filter itself says that a run may lack them."""
    for node in expression.nodes:
        if isinstance(node, Call) and node.name in ("exists", "missing"):
            if node.name == "missing" and isinstance(node.arguments[0], Field):
                yield node.arguments[0].path
        elif isinstance(node, Compare):
            for _, left, right in _pairs(node):
                if isinstance(left, Field) and isinstance(right, Literal) and right.value is None:
                    yield left.path


def _about(node: Node, known: _Known, accepted: set[tuple[str, ...]]) -> str | None:
    if isinstance(node, Field):
        return None if node.path in accepted else _absent(node.path, known)
    if isinstance(node, Match):
        return _searched(node, known)
    if isinstance(node, Compare):
        told = (_of_pair(word, left, right, known) for word, left, right in _pairs(node))
        return next((sentence for sentence in told if sentence is not None), None)
    return None


def _pairs(node: Compare) -> Iterator[tuple[str, Node, Node]]:
    """Each comparison of a chain, with the name on its left if one side is a bare name."""
    sides = [node.first, *(operand for _, operand in node.rest)]
    for (word, _), (left, right) in zip(node.rest, pairwise(sides), strict=True):
        turned = isinstance(right, Field) and not isinstance(left, Field) and "in" not in word
        yield (word, right, left) if turned else (word, left, right)


# -- names -----------------------------------------------------------------------------------------


def _absent(path: tuple[str, ...], known: _Known) -> str | None:
    if len(path) == 1 or any(there[: len(path)] == path for there in known):
        return None
    name = path_text(path)
    # Names are compared without their quotes: summary.acc is near to summary["val/acc"].
    plain = {".".join(there): there for there in known}
    near = [text for text, there in plain.items() if there[1:] == path[1:]]
    near = near or difflib.get_close_matches(".".join(path), plain, 1)
    near = near or _ending_alike(path, plain)
    return f"no run has {name}" + (
        f"; did you mean {path_text(plain[near[0]])}?" if near else "; trackway show RUN tells"
    )


def _ending_alike(path: tuple[str, ...], plain: dict[str, tuple[str, ...]]) -> list[str]:
    last = path[-1]
    return [text for text, there in plain.items() if there[-1].rpartition("/")[2] == last]


# -- values ----------------------------------------------------------------------------------------


def _of_pair(word: str, left: Node, right: Node, known: _Known) -> str | None:
    if not isinstance(left, Field) or word in ("!=", "not in"):
        return None
    values = [part.value for part in _literals(right)]
    if left.path == ("state",):
        return _state(values)
    if left.path == ("tags",):
        return None if isinstance(right, Items) else _tags(word, values)
    if word == "in" and not isinstance(right, Items):
        return None
    return _other_kind(left.path, values, known)


def _literals(node: Node) -> list[Literal]:
    """The constants among what a value is compared with."""
    return [
        part
        for part in (node.items if isinstance(node, Items) else (node,))
        if isinstance(part, Literal)
    ]


def _state(values: Sequence[Any]) -> str | None:
    if not values or any(value in STATES for value in values):
        return None
    told = _quoted(values[0])
    near = difflib.get_close_matches(str(values[0]).lower(), STATES, 1)
    if near:
        return f"there is no state {told}; did you mean {_quoted(near[0])}?"
    return f"there is no state {told}; there are {', '.join(STATES)}"


def _tags(word: str, values: Sequence[Any]) -> str | None:
    if word != "==" or not values or not isinstance(values[0], str):
        return None
    return f"tags is a list; write {_quoted(values[0])} in tags"


def _other_kind(path: tuple[str, ...], values: Sequence[Any], known: _Known) -> str | None:
    kinds = _kinds(path, known)
    name = path_text(path)
    if kinds and kinds <= _NUMBERS and _all(values, lambda value: isinstance(value, str)):
        advice = f"; write {values[0]} without quotes" if _is_number(values[0]) else ""
        return f"{name} is a number, and {_quoted(values[0])} a text{advice}"
    if kinds == {"text"} and _all(values, lambda value: isinstance(value, (int, float))):
        return f"{name} is a text; write {_quoted(str(values[0]))}"
    return None


def _kinds(path: tuple[str, ...], known: _Known) -> set[str]:
    """Of which kinds the values of this name are; None counts for nothing."""
    if len(path) == 1:
        return {_OF_FIELDS[path[0]]} if path[0] in _OF_FIELDS else set()
    return set(known[path].kinds) - {"none"} if path in known else set()


def _searched(node: Match, known: _Known) -> str | None:
    if not isinstance(node.operand, Field):
        return None
    kinds = _kinds(node.operand.path, known)
    if kinds and kinds <= _NUMBERS:
        return f"{path_text(node.operand.path)} is a number, and ~ searches texts"
    return None


def _all(values: Sequence[Any], test: Callable[[Any], bool]) -> bool:
    return bool(values) and all(map(test, values))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _quoted(value: object) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)
