"""Values in the documents of runs: plain nested maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

__all__ = ["MISSING", "Missing", "value_at"]


class Missing:
    """The type of ``MISSING``: the run has no such value. None is a value."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "MISSING"

    def __bool__(self) -> bool:
        return False

    def __reduce__(self) -> str:
        return "MISSING"  # a copy is the same one


MISSING: Final = Missing()


def value_at(document: Mapping[str, Any], path: Sequence[str]) -> Any:
    """What a run's document holds under a path; MISSING where it holds nothing.

    The first part of the path is ``config``, ``summary`` or a field. The others are the parts of
    a dotted name, and a map may hold it in any cut: ``("config", "optimizer", "lr")`` finds
    ``{"optimizer": {"lr": 1}}`` as well as ``{"optimizer.lr": 1}``; the deeper one wins. A field
    of the run that is None is missing; a None in a config or a summary is a value.
    """
    found = document.get(path[0], MISSING)
    if len(path) == 1:
        return MISSING if found is None else found
    return _within(found, path, 1)


def _within(value: Any, path: Sequence[str], place: int) -> Any:
    if place == len(path):
        return value
    if not isinstance(value, Mapping):
        return MISSING
    for end in range(place + 1, len(path) + 1):
        key = path[place] if end == place + 1 else ".".join(path[place:end])
        if key in value:
            found = _within(value[key], path, end)
            if found is not MISSING:
                return found
    return MISSING
