"""A run that records nothing: switched off, or on a rank that is not zero."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from trackway.core._end import End
from trackway.core.run import FINISH_S, Run

__all__ = ["DisabledRun"]


class DisabledRun(Run):
    """A run that records nothing and costs nothing; everything else works as ever."""

    def __init__(self, project: str, id: str, root: Path) -> None:
        super().__init__(root=root, project=project, id=id, attempt=1, writer=None)

    def log(
        self, data: Mapping[Any, Any], step: int | None = None, commit: bool | None = None
    ) -> None:
        """Do nothing."""

    def _tell_masked(self) -> None:
        """Do nothing."""

    def _event(self, type: str, fields: dict[str, Any]) -> None:
        """Do nothing."""

    def _end(self, end: End, timeout_s: float = FINISH_S) -> None:
        if not self._finished:
            self._finished = True
            self._at_finish(self)

    def _forked(self) -> None:
        """Do nothing."""

    def __reduce__(self) -> tuple[Callable[..., Run], tuple[Any, ...]]:
        """It stays disabled in every process."""
        return DisabledRun, (self.project, self.id, self.root)

    def flush(self, *, durable: bool = False) -> bool:
        """Nothing waits."""
        return True

    @property
    def disabled(self) -> bool:
        """Whether nothing is recorded."""
        return True
