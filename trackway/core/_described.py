"""What people call a run, and where it is."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from trackway.core._guard import guard
from trackway.core._values import plain

__all__ = ["Described"]


class Described:
    """Name, tags and notes of a run: assigned to, they are recorded; the last word counts."""

    root: Path
    project: str
    id: str
    attempt: int
    _fields: dict[str, Any]

    @property
    def name(self) -> str:
        """A name for people; assign to rename."""
        return str(self._fields.get("name") or self.id)

    @name.setter
    def name(self, name: str) -> None:
        self._set(name=str(name))

    @property
    def tags(self) -> tuple[str, ...]:
        """Labels; assign or ``+=`` to change."""
        return tuple(self._fields.get("tags") or ())

    @tags.setter
    def tags(self, tags: Iterable[str] | None) -> None:
        with guard("tags"):
            given = [tags] if isinstance(tags, str) else tags or ()
            self._set(tags=list(dict.fromkeys(map(str, given))))

    @property
    def notes(self) -> str | None:
        """Free text about the run; assign to change."""
        return self._fields.get("notes")

    @notes.setter
    def notes(self, notes: str | None) -> None:
        self._set(notes=notes)

    @property
    def group(self) -> str | None:
        """The group of runs that this one belongs to."""
        return self._fields.get("group")

    @property
    def job_type(self) -> str | None:
        """What part of a larger job the run is, such as ``train`` or ``eval``."""
        return self._fields.get("job_type")

    @property
    def path(self) -> Path:
        """The run's own folder."""
        return self.root / self.project / self.id

    @property
    def resumed(self) -> bool:
        """Whether this is not the run's first attempt."""
        return self.attempt > 1

    def _set(self, **fields: Any) -> None:
        with guard("run"):
            self._fields.update(fields)
            self._event("run", {"set": {name: plain(value) for name, value in fields.items()}})

    def _event(self, type: str, fields: dict[str, Any]) -> None:
        raise NotImplementedError
