"""Arguments that make sense, and what to say where nothing has the name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from trackway.backend.file.folder import logs
from trackway.errors import ArgumentError, NotFoundError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from trackway.api._runs import Runs

__all__ = [
    "SHORTEST",
    "check_filter",
    "check_numbers",
    "check_root",
    "check_text",
    "check_whole",
    "near",
    "no_run",
    "series_options",
    "texts",
]

SHORTEST: Final = 3
"""So many letters the beginning of an id has at least."""

_NEWEST: Final = 10


def texts(argument: str, value: object, what: str) -> list[str]:
    """One text or several as a list.

    Raises:
        ArgumentError: It is none; ``what`` says what it should be.
    """
    if isinstance(value, str):
        return [value]
    if isinstance(value, Iterable) and not isinstance(value, (Mapping, bytes)):
        found = list(value)
        if all(isinstance(one, str) for one in found):
            return found
        value = found
    raise ArgumentError(f"{argument}={value!r}: it is {what}")


def check_filter(filter: object) -> None:
    """Raise ArgumentError unless this can be a filter."""
    if filter is not None and not isinstance(filter, str):
        raise ArgumentError(
            f"filter={filter!r}: it is an expression as text, such as 'config.lr < 0.01'; "
            "see docs/filter.md"
        )


def check_text(argument: str, value: object) -> None:
    """Raise ArgumentError unless this is a text."""
    if not isinstance(value, str):
        raise ArgumentError(f"{argument}={value!r}: it is a text")


def check_whole(argument: str, value: object) -> None:
    """Raise ArgumentError unless this is a whole number."""
    if not isinstance(value, int):
        raise ArgumentError(f"{argument}={value!r}: it is a whole number")


def series_options(
    key: str,
    x: str,
    start: float | None,
    stop: float | None,
    buckets: int | None,
    attempts: str,
    repeats: str,
) -> dict[str, Any]:
    """The arguments of a chart by the names that queries have for them.

    Raises:
        ArgumentError: One is of the wrong type; what values it may have is the query's to say.
    """
    for argument, text in (("key", key), ("x", x)):
        if not isinstance(text, str):
            raise ArgumentError(f"{argument}={text!r}: it is the name of a metric, as text")
    for argument, number in (("start", start), ("stop", stop)):
        if number is not None and not hasattr(number, "__float__"):
            raise ArgumentError(f"{argument}={number!r}: it is a number, or None for no end")
    return {
        "x": x,
        "lo": start,
        "hi": stop,
        "buckets": buckets,
        "attempts": attempts,
        "repeats": repeats,
    }


def check_numbers(
    key: str, axis: str | None, total: npt.NDArray[np.int64], left_out: npt.NDArray[np.int64]
) -> None:
    """Raise NotFoundError where there are points, and none is a number.

    Over another metric a point may be left out because it has no partner: nothing is said then.
    """
    points = int(total.sum())
    if axis is None and points and points == int(left_out.sum()):
        raise NotFoundError(
            f"metric {key!r} holds no numbers to draw (text or lists); history() gives its values"
        )


def near(name: str, there: Iterable[str]) -> str:
    """What is there that looks alike, as the end of a sentence; empty where nothing does."""
    found = difflib.get_close_matches(name, list(dict.fromkeys(there)), n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(map(repr, found))}?" if found else ""


def no_run(which: str, root: Path, projects: Sequence[str], known: Runs) -> NotFoundError:
    """The error of a name that no run has; it says what could have been meant."""
    check_root(root, projects)
    name = which.rpartition("/")[2]
    sentence = f"no run {which!r} in {root}"
    newest = [str(one) for one in known[:_NEWEST].column("name")]
    told = f"; the newest are: {', '.join(newest) or 'none'}"
    if which in projects:
        return NotFoundError(f"{sentence}: it is a project, and not a run{told}")
    names = [str(one) for one in known.column("name")]
    alike = near(name, [*names, *known.ids]) if name else ""
    if 0 < len(name) < SHORTEST and any(id.startswith(name) for id in known.ids):
        alike = f"; the beginning of an id has at least {SHORTEST} letters"
    return NotFoundError(f"{sentence}{alike or told}")


def check_root(root: Path, projects: Sequence[str]) -> None:
    """Raise NotFoundError where the folder is a run's, or a project's, and not a root of them."""
    if logs(root):
        raise NotFoundError(f"{root} is a run; its root is {root.parent.parent}")
    if any(logs(root / name) for name in projects):
        raise NotFoundError(f"{root} is a project; its root is {root.parent}")
