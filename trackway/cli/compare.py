"""``trackway compare``: what tells runs apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import click
from rich.console import Console
from rich.text import Text

from trackway.api import MISSING, Api, Comparison, StoredRun
from trackway.cli._options import api_option, as_json, json_option
from trackway.cli._parts import GAP, Column, Columns, Section
from trackway.cli._screen import console
from trackway.cli._text import clean, number, plural, shorten, value_text
from trackway.errors import ArgumentError

_WIDEST: Final = 60
_NARROWEST: Final = 12
_WIDEST_NAME: Final = 40
_INDENT: Final = 2


@click.command(
    epilog="""\b
Examples:
  trackway compare brisk-otter-417 calm-heron-102
  trackway compare k3v9x2ab p7q4m1cd w2x8z5ef
  trackway compare k3v9x2ab p7q4m1cd --json | jq .config
"""
)
@click.argument("runs", nargs=-1, required=True, metavar="RUN RUN...")
@json_option
@api_option
def command(api: Api, runs: tuple[str, ...], for_program: bool) -> None:
    """Show in what runs differ: configuration, environment, packages, git, patch, summary.

    Each RUN is a name, an id, or project/id, and a column. Long values are cut; --json has them
    whole.
    """
    stored = list(dict.fromkeys(api.run(run) for run in runs))
    if len(stored) < 2:
        raise ArgumentError("compare needs two different runs or more")
    apart = api.compare(stored)
    if for_program:
        click.echo(as_json(_document(stored, apart)))
        return
    _print(console(), stored, apart)


def _document(runs: Sequence[StoredRun], apart: Comparison) -> dict[str, Any]:
    """Values by run, as ``project/id``; what a run does not have is not there."""
    names = [f"{run.project}/{run.id}" for run in runs]
    told = [{"run": name, "name": run.name} for name, run in zip(names, runs, strict=True)]
    parts = {
        part: {name: _by_run(names, values) for name, values in differing.items()}
        for part, differing in apart.differences().items()
    }
    return {"runs": told, "differ": bool(apart), **parts, "same_config": apart.same_config}


def _by_run(names: Sequence[str], values: Sequence[Any]) -> dict[str, Any]:
    return {name: value for name, value in zip(names, values, strict=True) if value is not MISSING}


def _print(screen: Console, runs: Sequence[StoredRun], apart: Comparison) -> None:
    differing = apart.differences()
    if not any(differing.values()):
        same = plural(len(apart.same_config), "configuration value")
        told = f"Nothing differs between these {len(runs)} runs; {same} the same."
        screen.print(Text(told), soft_wrap=True)
        return
    names = _name_column(differing, screen.width // 3)
    shown, width = _fitting(len(runs), screen.width - names - _INDENT)
    titles = _titles(runs[:shown])
    for part, values in differing.items():
        if values:
            body = [_columns(titles, values, part, names, width)]
            Section(part.capitalize(), body, plural(len(values), "difference")).print(screen)
    if not apart or shown < len(runs):
        screen.print()
    if not apart:
        _tell(screen, "Nothing differs but the summary.")
    if shown < len(runs):
        _tell(screen, f"no room for {plural(len(runs) - shown, 'more run')}; --json has all")


def _name_column(differing: Mapping[str, Mapping[str, Any]], widest: int) -> int:
    """How wide the names are, the same in all sections."""
    widths = [Text(clean(name)).cell_len for told in differing.values() for name in told]
    return min(max(widths), _WIDEST_NAME, widest)


def _fitting(runs: int, room: int) -> tuple[int, int]:
    """How many runs there is room for, at least one, and how wide the values of each may be."""
    shown = max(1, min(runs, room // (_NARROWEST + GAP)))
    return shown, max(_NARROWEST, min(_WIDEST, room // shown - GAP))


def _titles(runs: Sequence[StoredRun]) -> list[str]:
    """The runs' names; their ids beside them where two have the same."""
    names = [run.name for run in runs]
    alike = len(set(names)) < len(names)
    return [clean(f"{run.id} {run.name}" if alike else run.name) for run in runs]


def _columns(
    titles: Sequence[str], differing: Mapping[str, Sequence[Any]], part: str, names: int, width: int
) -> Columns:
    first = Column(Text(""), [Text(clean(name), style="dim") for name in differing])
    first.cut(names)
    # As wide in every section, so that a run stays in its column.
    first.cells[0].pad_right(names - first.cells[0].cell_len)
    columns = [first]
    for place, title in enumerate(titles):
        cells = [_cell(values[place], part) for values in differing.values()]
        column = Column(Text(title), cells)
        column.cut(width)
        if place < len(titles) - 1:
            column.title.pad_right(width - column.title.cell_len)
        columns.append(column)
    return Columns(columns)


def _cell(value: object, part: str) -> Text:
    if value is MISSING or (value is None and part == "patch"):
        return Text("none" if part == "patch" else "-", style="dim")
    if part == "summary":
        return Text(number(value))
    if part == "config" or not isinstance(value, str):
        return Text(value_text(value), style="cyan" if part == "config" else "")
    return Text(clean(shorten(value)))  # all of these are text: 2.0 of a package, too


def _tell(screen: Console, sentence: str) -> None:
    screen.print(Text(sentence, style="dim"), soft_wrap=True)
