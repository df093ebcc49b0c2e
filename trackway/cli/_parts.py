"""Pieces that the sections of ``show`` are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from trackway.cli._screen import heading
from trackway.cli._text import shorten

__all__ = ["GAP", "Column", "Columns", "Facts", "Section", "aside", "fitting", "print_lines"]

GAP: Final = 2
"""Blanks between two columns."""

_LONGEST: Final = 2000
_LONGEST_NAME: Final = 80
_INDENT: Final = (0, 0, 0, 2)


@dataclass(frozen=True, slots=True)
class Section:
    """A titled part of the page; it is left out where nothing is in it."""

    title: str
    body: Sequence[RenderableType | Columns] = ()
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
        self.print_body(screen)

    def print_body(self, screen: Console) -> None:
        """Draw what is below the title."""
        for part in self.body:
            if isinstance(part, Columns):
                print_lines(screen, part.text(indent=2))
            elif isinstance(part, Text):
                # No line break of ours: what is copied from here must still work.
                screen.print(Text("  ") + part, soft_wrap=True)
            else:
                screen.print(part)


class Facts:
    """Lines of a name and what it is; indented, as below a title, unless told otherwise."""

    def __init__(self, *, indented: bool = True) -> None:
        self.table = Table.grid(padding=_INDENT if indented else (0, 2, 0, 0), pad_edge=indented)
        self.table.add_column(style="dim", no_wrap=True)
        self.table.add_column(overflow="fold")

    def add(self, name: str, told: str | Text | None) -> None:
        """Add a line, unless there is nothing to tell; a very long one is shortened."""
        if isinstance(told, str):
            told = Text(shorten(told, _LONGEST))
        if told:
            self.table.add_row(Text(shorten(name, _LONGEST_NAME)), told)

    @property
    def body(self) -> list[RenderableType]:
        """The lines; none where there are none."""
        return [self.table] if self.table.row_count else []


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """A column of a table."""

    title: Text
    cells: list[Text]
    right: bool = False

    @property
    def width(self) -> int:
        """Cells on the screen that its widest line needs."""
        return max(cell.cell_len for cell in [self.title, *self.cells])

    def cut(self, width: int) -> None:
        """Make no line wider than this."""
        for text in [self.title, *self.cells]:
            text.truncate(width, overflow="ellipsis")


@dataclass(frozen=True, slots=True)
class Columns:
    """A table without lines. rich has one too, which takes seconds for ten thousand rows."""

    columns: Sequence[Column]

    def text(self, indent: int = 0) -> Text:
        """The table, one line a row."""
        widths = [column.width for column in self.columns]
        titles = [column.title.copy() for column in self.columns]
        for title in titles:
            title.stylize("dim")
        rows = [titles, *zip(*(column.cells for column in self.columns), strict=True)]
        lines = []
        for row in rows if any(title.plain for title in titles) else rows[1:]:
            line = Text(" " * indent)
            gap = 0
            for cell, column, width in zip(row, self.columns, widths, strict=True):
                rest = width - cell.cell_len
                line.append(" " * (gap + (rest if column.right else 0)))
                line.append_text(cell)
                gap = GAP + (0 if column.right else rest)
            line.rstrip()
            lines.append(line)
        return Text("\n").join(lines)


def fitting(columns: Sequence[Column], room: float) -> tuple[list[Column], list[Column]]:
    """Those that fit into so many cells, first come first served, and those that do not."""
    shown: list[Column] = []
    left_out: list[Column] = []
    for column in columns:
        fits = column.width + GAP <= room
        (shown if fits else left_out).append(column)
        room -= column.width + GAP if fits else 0
    return shown, left_out


def print_lines(screen: Console, lines: Text) -> None:
    """Print many lines. Where there are no colours, rich is not asked: it takes its time."""
    if screen.is_terminal:
        screen.print(lines, soft_wrap=True)
    else:
        screen.file.write(f"{lines.plain}\n")


def aside(text: str) -> Text:
    """A remark."""
    return Text(text, style="dim")
