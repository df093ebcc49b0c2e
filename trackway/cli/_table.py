"""One recorded table, as ``show --table`` prints it."""

from __future__ import annotations

from typing import Any, Final

from rich.console import Console
from rich.text import Text

from trackway.api import StoredTable
from trackway.cli._parts import GAP, Column, Columns, aside, fitting, print_lines
from trackway.cli._text import clean, number, plural, value_text

__all__ = ["document", "print_table"]

_ROWS: Final = 50
"""So many rows are printed unless more are asked for."""

_WIDEST: Final = 60


def print_table(screen: Console, table: StoredTable, rows: int | None, *, is_seen: bool) -> None:
    """Draw the first rows, and say how many more there are and how to get them.

    Args:
        screen: Where to.
        table: What.
        rows: How many rows at most.
        is_seen: Columns that the screen has no room for are left out.
    """
    many = min(_ROWS if rows is None else rows, len(table))
    columns = [_column(name, values[:many]) for name, values in table.columns.items()]
    left_out: list[Column] = []
    if is_seen:
        columns, left_out = fitting(columns, screen.width + GAP)
    if columns:
        print_lines(screen, Columns(columns).text())
    for told in _remarks(table, many, left_out):
        screen.print(aside(told), soft_wrap=True)


def _column(name: str, values: list[Any]) -> Column:
    numbers = all(isinstance(value, (int, float)) or value is None for value in values)
    cells = [Text(_cell(value)) for value in values]
    column = Column(Text(clean(name)), cells, right=numbers)
    column.cut(_WIDEST)
    return column


def _cell(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return "" if value is None else value_text(value, 100)
    return number(value)


def _remarks(table: StoredTable, many: int, left_out: list[Column]) -> list[str]:
    told = []
    size = plural(len(table), "row")
    if not len(table):
        told.append("the table has no rows")
    if many < len(table):
        told.append(
            f"{many:,} of {size}: --rows {len(table)} prints all; --json has the exact values"
        )
    if left_out:
        names = ", ".join(column.title.plain for column in left_out[:6])
        more = f" and {len(left_out) - 6} more" if len(left_out) > 6 else ""
        told.append(f"no room for {names}{more}; --json has everything")
    if table.missing:
        told.append(f"{plural(table.missing, 'row')} missing: the program died as it wrote them")
    return told


def document(table: StoredTable, rows: int | None) -> dict[str, Any]:
    """The same for a program: all rows unless fewer were asked for, column by column."""
    return {
        "name": table.name,
        "step": table.step,
        "kind": table.kind,
        "about": table.about,
        "rows": len(table),
        "missing": table.missing,
        "columns": {name: values[:rows] for name, values in table.columns.items()},
    }
