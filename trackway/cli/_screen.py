"""Where commands draw: a console that takes no markup from data, and a bar that waits."""

from __future__ import annotations

import os
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

__all__ = ["Bar", "console", "heading", "state_text"]

_PIPED_WIDTH: Final = 160
"""Columns where nobody looks: enough for a file or a log of a CI job."""

_PATIENCE_S: Final = 0.5

_STATES: Final = {
    "running": "cyan",
    "finished": "green",
    "failed": "red",
    "interrupted": "yellow",
    "killed": "red",
    "lost": "magenta",
}


def console() -> Console:
    """Standard output. Colours only on a terminal; NO_COLOR and FORCE_COLOR are heard."""
    known = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(
        file=sys.stdout,
        width=None if known else _PIPED_WIDTH,
        markup=False,
        emoji=False,
        highlight=False,
    )


def state_text(state: str) -> Text:
    """A run's state as a coloured word."""
    return Text(state, style=_STATES.get(state, ""))


def heading(text: str) -> Text:
    """The title of a section."""
    return Text(text, style="bold")


class Bar:
    """Progress on standard error, on a terminal only, and only of what takes a while.

    Args:
        what: What is going on, in a word or two.
        total: How much there is to do; ``update`` may tell it later.
        unit: ``B`` for bytes, else things are counted.
        hidden: Draw nothing.
    """

    def __init__(
        self, what: str, total: int | None = None, *, unit: str = "", hidden: bool = False
    ) -> None:
        self._what = what
        self._total = total
        self._unit = unit
        self._done = 0
        self._began = time.monotonic()
        self._hidden = hidden or not sys.stderr.isatty()
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Bar:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def advance(self, count: int = 1) -> None:
        """So much more is done."""
        self.update(self._done + count)

    def update(self, done: int, total: int | None = None) -> None:
        """So much is done, of so much."""
        self._done = done
        self._total = self._total if total is None else total
        if self._hidden or time.monotonic() - self._began < _PATIENCE_S:
            return
        if self._progress is None or self._task is None:
            self._progress, self._task = self._begin()
        self._progress.update(self._task, completed=done, total=self._total)

    def _begin(self) -> tuple[Progress, TaskID]:
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        amount = DownloadColumn(binary_units=True) if self._unit == "B" else MofNCompleteColumn()
        progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            amount,
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        progress.start()
        return progress, progress.add_task(self._what, total=self._total)
