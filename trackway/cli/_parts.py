"""Pieces that the sections of ``show`` are made of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from trackway.cli._screen import heading

__all__ = ["Facts", "Section", "aside", "grid"]


@dataclass(slots=True)
class Section:
    """A titled part of the page; it is left out where nothing is in it."""

    title: str
    body: list[RenderableType] = field(default_factory=list)
    aside: str = ""

    def print(self, screen: Console) -> None:
        """Draw it, if there is anything in it."""
        if not self.body:
            return
        title = heading(self.title)
        if self.aside:
            title.append(f"  {self.aside}", style="not bold dim")
        screen.print()
        screen.print(title, soft_wrap=True)
        for part in self.body:
            if isinstance(part, Text):
                # No line break of ours: what is copied from here must still work.
                screen.print(Text("  ") + part, soft_wrap=True)
            else:
                screen.print(Padding(part, (0, 0, 0, 2)))


class Facts:
    """Lines of a name and what it is."""

    def __init__(self) -> None:
        self.table = Table.grid(padding=(0, 2, 0, 0))
        self.table.add_column(style="dim", no_wrap=True)
        self.table.add_column(overflow="fold")

    def add(self, name: str, told: str | Text | None) -> None:
        """Add a line, unless there is nothing to tell."""
        if told:
            self.table.add_row(Text(name), Text(told) if isinstance(told, str) else told)

    @property
    def body(self) -> list[RenderableType]:
        """The lines; none where there are none."""
        return [self.table] if self.table.row_count else []


def grid(titles: Iterable[str], *, left: int = 1) -> Table:
    """A table without lines; all columns but the first ``left`` ones hold numbers."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for place, title in enumerate(titles):
        table.add_column(
            title,
            justify="left" if place < left else "right",
            no_wrap=True,
            overflow="ellipsis",
            min_width=None if place < left else 4,
        )
    return table


def aside(text: str) -> Text:
    """A remark."""
    return Text(text, style="dim")
