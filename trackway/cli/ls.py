"""``trackway ls``: the runs, newest first, with what tells them apart."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import Any, Final

import click
from rich.console import Console
from rich.text import Text

from trackway.api import MISSING, Api
from trackway.backend.index.expression import compile_filter, path_text
from trackway.backend.index.hints import hint
from trackway.backend.index.table import paths
from trackway.cli._apart import Measure, best, differing, headings, measures
from trackway.cli._lines import in_lines
from trackway.cli._listing import (
    Listed,
    expression_of,
    ordered,
    paths_of,
    split_expressions,
    table_of,
)
from trackway.cli._options import api_option, as_json, json_option
from trackway.cli._parts import GAP, Column, Columns, fitting, print_lines
from trackway.cli._screen import Bar, console, state_text
from trackway.cli._text import ago, clean, duration, number, plural, value_text
from trackway.errors import ArgumentError

Path = tuple[str, ...]

_WIDEST: Final = 28
_TITLE: Final = 26
_WIDEST_WORDS: Final = 60
_NARROWEST: Final = 8
_MOST_COLUMNS: Final = 12
"""Where no screen's width says how many there is room for."""

_CONSIDERED: Final = 40
"""So many settings at most become columns, to see whether there is room for them."""

_ALWAYS: Final = ("name", "id", "state", "created", "duration", "project")
_ABSENT: Final = object()
_ARROWS: Final = {"maximize": " ↑", "minimize": " ↓"}

_FIRST_STEPS: Final = """\
Record a first one:

  import trackway as tw

  with tw.init(project="first", config={"lr": 0.1}) as run:
      run.log({"loss": 0.5})

If your runs are elsewhere: trackway --dir PATH ls, or set TRACKWAY_DIR."""


@click.command(
    epilog="""\b
Examples:
  trackway ls
  trackway ls digits --order -summary.val/accuracy --limit 5
  trackway ls --order config.lr --columns 'name,config.lr,summary.val/acc'
  trackway ls --filter 'summary["val/acc"] > 0.9 and created > "2 days ago"'
  trackway ls --json | jq -r '.runs[] | select(.state == "failed").id'
"""
)
@click.argument("project", required=False)
@click.option(
    "--order",
    metavar="KEY",
    default="-created",
    show_default=True,
    help="created, name, duration, state, config.NAME, summary.NAME or any expression of "
    "docs/filter.md; with a leading - descending. Runs without a value come last.",
)
@click.option(
    "--filter",
    "filter",
    metavar="EXPR",
    help="Only runs that fit, such as 'config.lr < 0.01 and state == \"finished\"'; see "
    "docs/filter.md.",
)
@click.option("--limit", type=click.IntRange(min=1), help="At most so many runs.")
@click.option("--archived", is_flag=True, help="The runs that were archived, instead of the rest.")
@click.option(
    "--columns",
    metavar="A,B,C",
    help="These columns instead, in this order: fields, config.NAME, summary.NAME or expressions.",
)
@json_option
@api_option
def command(
    api: Api,
    project: str | None,
    order: str,
    filter: str | None,
    limit: int | None,
    archived: bool,
    columns: str | None,
    for_program: bool,
) -> None:
    """List the runs of PROJECT, or of all projects, newest first.

    Beside each run stand the metrics and configuration values that tell the runs apart, as many
    as there is room for: first what --order and --filter name, then the metrics with a goal
    (define_metric), the best value in bold, then other results, then what was configured, and last
    what a framework's integration found out. Where the output is no terminal, 12 columns.
    """
    with Bar("Reading new records", unit="B") as bar:
        api.refresh(bar.update)
    with in_lines():
        named = compile_filter(filter).paths if filter and filter.strip() else ()
        asked = archived or (None if ("archived",) in named else False)
        found = api.runs(project, filter=filter, archived=asked)
    _tell_unreadable(api)
    total = len(found)
    if limit is not None and order in ("created", "-created"):
        found = found[:limit] if order == "-created" else found[-limit:]
    every = [Listed.of(row) for row in found.documents()]
    with in_lines():
        chosen = ordered(every, order)[:limit]
    if for_program:
        click.echo(as_json({"root": str(api.root), "runs": [run.document for run in chosen]}))
        return
    screen = console()
    if not chosen:
        _tell_nothing(api, screen, project, filter, archived=archived)
        return
    if columns is None:
        first = [*paths_of(every, order), *named]
        _print_runs(chosen, screen, lambda own: _print_table(screen, own, first))
    else:
        with in_lines():
            _print_runs(chosen, screen, lambda own: _print_columns(screen, own, columns))
    if len(chosen) < total:
        _tell(screen, f"{len(chosen)} of {plural(total, 'run')}")


def _tell_nothing(
    api: Api, screen: Console, project: str | None, filter: str | None, *, archived: bool
) -> None:
    place = clean(f"{api.root}" if project is None else f"project {project} in {api.root}")
    runs = api.runs(project)
    there = len(runs)
    if there and (filter or archived):
        told = "fit" if filter else "were archived"
        screen.print(Text(f"None of {plural(there, 'run')} in {place} {told}."), soft_wrap=True)
        reason = hint(compile_filter(filter), paths(runs.documents())) if filter else None
        if reason:
            _tell(screen, clean(reason))
        return
    if there:
        told = f"All {plural(there, 'run')} in {place} were archived: trackway ls --archived."
        screen.print(Text(told), soft_wrap=True)
        return
    screen.print(Text(f"No runs in {place} yet. {_FIRST_STEPS}"), soft_wrap=True)


def _tell_unreadable(api: Api) -> None:
    for name, error in api.unreadable().items():
        click.echo(clean(f"{name} cannot be read: {error.strerror or error}"), err=True)


def _print_runs(
    runs: Sequence[Listed], screen: Console, draw: Callable[[list[Listed]], None]
) -> None:
    by_project: dict[str, list[Listed]] = {}
    for run in runs:
        by_project.setdefault(run.document["project"], []).append(run)
    for number_, (project, own) in enumerate(by_project.items()):
        if len(by_project) > 1:
            if number_:
                screen.print()
            told = (f"  {plural(len(own), 'run')}", "dim")
            screen.print(Text.assemble((clean(project), "bold"), told))
        draw(own)


def _print_table(screen: Console, runs: Sequence[Listed], first: Sequence[Path]) -> None:
    asked = _asked_columns(runs, first)
    fixed = _fixed_columns(runs, screen.width, asked[:1])
    compared = [m for m in measures(runs) if _path("summary", m) not in first]
    own, found = ([n for n in s if _path("config", n) not in first] for s in differing(runs))
    considered = [*own, *found][:_CONSIDERED]
    titles = headings([m.name for m in compared], _TITLE) | headings(considered, _TITLE)
    results = [_measure_column(runs, m, titles[m.name]) for m in compared if m.is_result]
    further = [_measure_column(runs, m, titles[m.name]) for m in compared if not m.is_result]
    configs = [_config_column(runs, name, titles[name]) for name in considered]
    tags = _words_column("tags", [", ".join(map(str, run.document["tags"])) for run in runs], "")
    tags = [] if ("tags",) in first else tags
    notes = _words_column("notes", ["; ".join(run.notes) for run in runs], "yellow")
    in_turn = [c for pair in zip_longest(results, configs[: len(own)]) for c in pair if c]
    rest = [*in_turn[:4], *notes, *in_turn[4:], *tags, *further, *configs[len(own) :]]
    wanted = [*asked, *sorted(rest, key=lambda column: column not in notes and _is_same(column))]
    shown, left_out = _chosen(screen, fixed, wanted)
    marked = any(column in left_out for column in notes) and any(run.strange for run in runs)
    if marked:
        fixed.insert(0, _mark_column(runs))
        shown, left_out = _chosen(screen, fixed, [c for c in wanted if c not in notes])
    in_order = [*asked, *results, *further, *configs, *tags, *notes]
    drawn = Columns([*fixed, *(column for column in in_order if column in shown)])
    print_lines(screen, drawn.text())
    if marked:
        _tell(screen, "! something is out of the ordinary: trackway show RUN tells")
    _tell_left_out(screen, left_out, len(own) + len(found) - len(considered))


def _tell_left_out(screen: Console, left_out: Sequence[Column], others: int) -> None:
    if not left_out:
        return
    names = ", ".join(column.title.plain for column in left_out[:6])
    rest = max(0, len(left_out) - 6) + others
    more = f" and {rest} more" if rest else ""
    _tell(screen, f"no room for {names}{more}; --columns chooses, --json has everything")


def _print_columns(screen: Console, runs: Sequence[Listed], columns: str) -> None:
    names = split_expressions(columns)
    if not names:
        raise ArgumentError("--columns names no column; write e.g. name,config.lr")
    drawn = Columns([_expression_column(runs, name) for name in names])
    print_lines(screen, drawn.text())


def _is_seen() -> bool:
    """Whether the width of a screen counts, as in ``console``."""
    return sys.stdout.isatty() or "COLUMNS" in os.environ


def _chosen(
    screen: Console, fixed: Sequence[Column], wanted: Sequence[Column]
) -> tuple[list[Column], list[Column]]:
    """Those there is room for beside ``fixed``, the first ones first, and those there is not."""
    if not _is_seen():
        many = max(0, _MOST_COLUMNS - len(fixed))
        return list(wanted[:many]), list(wanted[many:])
    return fitting(wanted, screen.width + GAP - sum(column.width + GAP for column in fixed))


def _is_same(column: Column) -> bool:
    """Whether its value is the same in every run, so that it tells nothing apart."""
    return len(column.cells) > 1 and len({cell.plain for cell in column.cells}) == 1


def _tell(screen: Console, sentence: str) -> None:
    screen.print(Text(sentence, style="dim"), soft_wrap=True)


_DRAWN: Final[dict[str, Callable[[Any], Text | str]]] = {
    "created": ago,
    "duration": duration,
    "ended": ago,
    "id": clean,
    "name": lambda name: Text(clean(name), style="bold"),
    "project": clean,
    "state": lambda state: state_text(clean(state)),
}


def _fixed_columns(runs: Sequence[Listed], width: int, beside: Sequence[Column]) -> list[Column]:
    """Name, id and circumstances, so that ``beside`` fits as well."""
    now = time.time()
    told = [run.document for run in runs]
    columns = [
        Column(Text("name"), [_cut(Text(clean(run["name"]), style="bold")) for run in told]),
        Column(Text("id"), [Text(clean(run["id"])) for run in told]),
        Column(Text("state"), [state_text(clean(run["state"])) for run in told]),
        Column(Text("created"), [Text(ago(run["created"], now)) for run in told]),
        Column(Text("took"), [Text(duration(run["duration_s"])) for run in told], right=True),
    ]
    if not _is_seen():
        return columns
    # On a narrow screen what is least needed goes first.
    for place in (4, 3):
        if sum(column.width + GAP for column in [*columns, *beside]) > width + GAP * bool(beside):
            del columns[place]
    over = sum(column.width + GAP for column in [*columns, *beside]) - GAP - width
    if beside and over > 0:
        columns[0].cut(max(columns[0].width - over, _NARROWEST))
    return columns


def _asked_columns(runs: Sequence[Listed], names: Sequence[Path]) -> list[Column]:
    """A column for each of these names that has none anyway, if a run has a value."""
    known = {_path("summary", measure): measure for measure in measures(runs)}
    columns = []
    for path in dict.fromkeys(names):
        if path in known:
            columns.append(_measure_column(runs, known[path], _heading(known[path].name)))
        elif path[0] not in _ALWAYS:
            columns.append(_expression_column(runs, path_text(path), ".".join(path[1:])))
    return [column for column in columns if any(cell.plain for cell in column.cells)]


def _path(space: str, name: str | Measure) -> Path:
    return (space, *(name.name if isinstance(name, Measure) else name).split("."))


def _expression_column(runs: Sequence[Listed], name: str, title: str = "") -> Column:
    text = expression_of(runs, name)
    values = table_of(runs).values(text).values()
    draw = _DRAWN.get(text, number if text.startswith("summary") else _plain)
    cells = [Text("") if value is MISSING else draw(value) for value in values]
    numbers = all(isinstance(v, (int, float)) for v in values if v is not MISSING)
    return Column(
        Text(_heading(title or name)), [_cut(_text(cell)) for cell in cells], right=numbers
    )


def _text(told: Text | str) -> Text:
    return told if isinstance(told, Text) else Text(told)


def _plain(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return clean(", ".join(map(str, value)))
    return value_text(value, 100)


def _mark_column(runs: Sequence[Listed]) -> Column:
    return Column(Text(""), [Text("!" if run.strange else "", style="yellow") for run in runs])


def _config_column(runs: Sequence[Listed], name: str, title: str) -> Column:
    values = [run.config.get(name, _ABSENT) for run in runs]
    cells = [Text("" if v is _ABSENT else value_text(v, 100), style="cyan") for v in values]
    numbers = all(isinstance(v, (int, float)) for v in values if v is not _ABSENT)
    return Column(Text(title), [_cut(cell) for cell in cells], right=numbers)


def _measure_column(runs: Sequence[Listed], measure: Measure, title: str) -> Column:
    leading = best(runs, measure)
    cells = []
    for run in runs:
        value = run.summary.get(measure.name)
        is_best = leading is not None and value == leading
        cells.append(_cut(Text(number(value), style="bold green" if is_best else "")))
    return Column(Text(title + _ARROWS.get(measure.goal or "", "")), cells, right=True)


def _words_column(title: str, words: Sequence[str], style: str) -> list[Column]:
    """The column, or none where there is nothing to say in it."""
    if not any(words):
        return []
    cells = [_cut(Text(clean(text), style=style), _WIDEST_WORDS) for text in words]
    return [Column(Text(title), cells)]


def _heading(name: str) -> str:
    return headings([name], _TITLE)[name]


def _cut(text: Text, width: int = _WIDEST) -> Text:
    text.truncate(width, overflow="ellipsis")
    return text
