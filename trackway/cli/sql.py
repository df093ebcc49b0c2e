"""``trackway sql``: a query over all runs and their points."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from trackway.api import Api
from trackway.api._document import json_value
from trackway.api._export_files import placed
from trackway.api._sql import opened
from trackway.cli._lines import in_lines
from trackway.cli._options import api_option, as_json, json_option
from trackway.cli._screen import Bar, console
from trackway.cli._text import clean, moment, plural, value_text
from trackway.errors import ArgumentError

_BATCH_ROWS: Final = 8192
_LONGEST: Final = 300
_UNBOUNDED: Final = 1 << 20
_MOMENTS: Final = frozenset({"created", "ended"})
"""Columns of seconds since 1970 that a person wants to read as a date."""


@click.command(
    epilog="""\b
Examples:
  trackway sql 'select name, "config.lr", "summary.acc" from runs
                where not isnan("summary.acc") order by 3 desc limit 10'
  trackway sql "select key, count(*), max(value) filter (not isnan(value))
                from points group by key" --project digits
  trackway sql "select * from points where key = 'loss'" --format csv > loss.csv
  trackway sql "describe runs"

\b
Tables:
  runs     a line a run; configuration and summary as "config.…" and "summary.…"
  points   project, run, key, step, time, attempt, value, type, text, big_step
  system   the same columns; the samples of the machine

\b
NaN is the greatest number to DuckDB, in points and in summary columns alike:
  max() gives it, and a falling order begins with it. Leave it out with isnan().
Names that differ only in case are one to DuckDB: "config.LR" keeps its name,
  and "config.lr" beside it is "config.lr#2", as "describe runs" lists them.
A table that is too wide is shown a line a value; created and ended as local
  time there, and as seconds since 1970 in every other format.
"""
)
@click.argument("query")
@click.option("--project", "-p", metavar="NAME", help="Only the runs of this project.")
@click.option("--filter", "filter_", metavar="EXPR", help="Only runs that pass.")
@click.option(
    "--format",
    "format_",
    type=click.Choice(["table", "csv", "jsonl", "json", "parquet"]),
    default="table",
    show_default=True,
    help="How the answer comes; parquet needs --output.",
)
@click.option(
    "--output",
    "-o",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write to FILE instead of standard output.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    default=100,
    show_default=True,
    help="Lines of the table that are shown; 0 for all. Other formats are always whole.",
)
@click.option(
    "--attempts",
    type=click.Choice(["live", "all"]),
    default="live",
    show_default=True,
    help="Whether points leaves out what a resumed run took back.",
)
@click.option(
    "--repeats",
    type=click.Choice(["last", "all"]),
    default="last",
    show_default=True,
    help="Where a step was logged again: the last point, or each one.",
)
@json_option
@api_option
def command(
    api: Api,
    query: str,
    project: str | None,
    filter_: str | None,
    format_: str,
    output: Path | None,
    limit: int,
    attempts: str,
    repeats: str,
    for_program: bool,
) -> None:
    """Answer a SQL QUERY (DuckDB's) over runs, points and system; it cannot write.

    What it needs is exported into the user's cache first, as far as it is not there yet.
    """
    format_ = "json" if for_program else format_
    if format_ == "parquet" and output is None:
        raise ArgumentError("Parquet goes into a file: give --output FILE")
    with in_lines(), contextlib.ExitStack() as stack:
        with Bar("Reading runs") as bar:
            relation = stack.enter_context(
                opened(
                    api,
                    query,
                    project=project,
                    filter=filter_,
                    attempts=attempts,
                    repeats=repeats,
                    progress=bar.update,
                )
            )
        reader = relation.to_arrow_reader(_BATCH_ROWS)
        if format_ == "parquet":
            assert output is not None
            _write_parquet(reader, output)
        elif format_ == "table" and output is None:
            _show(reader, limit)
        else:
            _write(_lines(reader, "csv" if format_ == "table" else format_), output)


def _write(lines: Iterator[str], output: Path | None) -> None:
    if output is None:
        for line in lines:
            sys.stdout.write(line)
        return
    with placed(output) as beside, beside.open("w", encoding="utf-8", newline="") as file:
        file.writelines(lines)


def _write_parquet(reader: Any, output: Path) -> None:
    import pyarrow.parquet as pq

    with (
        placed(output) as beside,
        # Opened here: an error of Arrow's own opening names the file beside.
        beside.open("wb") as file,
        pq.ParquetWriter(file, reader.schema, compression="zstd") as writer,
    ):
        for batch in reader:
            writer.write_batch(batch)


def _rows(reader: Any) -> Iterator[tuple[Any, ...]]:
    for batch in reader:
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _lines(reader: Any, format_: str) -> Iterator[str]:
    names = list(reader.schema.names)
    if format_ == "csv":
        yield _csv_line(names)
        for row in _rows(reader):
            yield _csv_line([_cell(value) for value in row])
    elif format_ == "jsonl":
        for row in _rows(reader):
            document = json_value(dict(zip(names, row, strict=True)))
            yield json.dumps(document, allow_nan=False) + "\n"
    else:
        rows = [list(row) for row in _rows(reader)]
        yield as_json({"columns": names, "rows": rows}) + "\n"


def _csv_line(cells: list[str | None]) -> str:
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerow(cells)
    return file.getvalue()


def _cell(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, (list, dict)):
        return json.dumps(json_value(value), allow_nan=False)
    return str(value)


def _show(reader: Any, limit: int) -> None:
    names = [clean(name) for name in reader.schema.names]
    count = 0
    rows: list[tuple[Any, ...]] = []
    for row in _rows(reader):
        count += 1
        if not limit or count <= limit:
            rows.append(row)
    screen = console()
    table = _table(reader.schema, [[*map(_shown, names, row)] for row in rows])
    options = screen.options.update(max_width=_UNBOUNDED)
    if len(names) == 1 or screen.measure(table, options=options).maximum <= screen.width:
        screen.print(table)
    else:
        _show_upright(screen, names, rows)
    told = plural(count, "line")
    if limit and count > limit:
        told += f", the first {limit:,} shown; --limit 0 shows all"
    click.echo(told, err=True)


def _table(schema: Any, rows: Sequence[Sequence[str]]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for field in schema:
        kind = str(field.type)
        right = kind.startswith(("int", "uint", "double", "float", "decimal"))
        right = right and field.name not in _MOMENTS
        table.add_column(Text(clean(field.name)), justify="right" if right else "left")
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _show_upright(screen: Console, names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
    """A line a value, and a rule between two rows: what is wider than the terminal stays whole."""
    for number, row in enumerate(rows):
        if number:
            screen.print(Text("─" * min(40, screen.width), "dim"))
        for name, value in zip(names, row, strict=True):
            told = _shown(name, value, _LONGEST)
            line = Text.assemble(
                (f"{name}:", "bold"), "\n" if "\n" in told else " " if told else "", told
            )
            screen.print(line, soft_wrap=True)


def _shown(name: str, value: Any, limit: int = 80) -> str:
    if name in _MOMENTS and isinstance(value, float):
        return moment(value)
    if isinstance(value, str) and "\n" in value:  # the plan that EXPLAIN draws
        return "\n".join(map(clean, value.split("\n")))
    return "" if value is None else value_text(value, limit)
