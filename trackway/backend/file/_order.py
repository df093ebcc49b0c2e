"""The order of writers and of their events, as section 4 of the log format has it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from trackway.backend.file.format import Event, Header

__all__ = ["began", "events_in_order"]


class _Told(Protocol):
    @property
    def events(self) -> list[tuple[int, Event]]:
        """Events with their places in the log."""


ToldT = TypeVar("ToldT", bound=_Told)


def began(header: Header | None, path: Path) -> tuple[float, Path]:
    """What the logs of a run are ordered by: when their writers began, then their names."""
    return header.created if header else 0.0, path


def events_in_order(
    writers: Sequence[ToldT], types: Iterable[str] | None = None
) -> list[tuple[ToldT, Event]]:
    """The events of these types (or all), by time, then writer, then place in the log.

    Args:
        writers: The logs of a run, ordered by ``began``.
        types: The types; all by default.
    """
    wanted = None if types is None else frozenset(types)
    found = [
        (event.time, number, offset, written, event)
        for number, written in enumerate(writers)
        for offset, event in written.events
        if wanted is None or event.type in wanted
    ]
    found.sort(key=lambda entry: entry[:3])
    return [(written, event) for _, _, _, written, event in found]
