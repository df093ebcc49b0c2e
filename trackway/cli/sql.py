"""``trackway sql``: a query over all runs and their points."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click
from rich.table import Table
from rich.text import Text

from trackway.api import Api
from trackway.api._document import json_value
from trackway.api._sql import opened
from trackway.cli._lines import in_lines
from trackway.cli._options import api_option, as_json, json_option
from trackway.cli._screen import Bar, console
from trackway.cli._text import clean, plural, value_text
from trackway.errors import ArgumentError

_BATCH_ROWS: Final = 8192


@click.command(
    epilog="""\b
Examples:
  trackway sql 'select name, "config.lr", "summary.val/acc" from runs order by 3 desc limit 10'
  trackway sql "select key, count(*), max(value) from points group by key" --project digits
  trackway sql "select * from points where key = 'loss'" --format csv > loss.csv
  trackway sql "describe runs"

\b
Tables:
  runs     a line a run; configuration and summary as "config.…" and "summary.…"
  points   project, run, key, step, time, attempt, value, type, text, big_step
  system   the same columns; the samples of the machine
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
    beside = output.with_name(f".{output.name[:100]}.beside")
    try:
        with beside.open("w", encoding="utf-8", newline="") as file:
            file.writelines(lines)
        beside.replace(output)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def _write_parquet(reader: Any, output: Path) -> None:
    import pyarrow.parquet as pq

    beside = output.with_name(f".{output.name[:100]}.beside")
    try:
        with pq.ParquetWriter(beside, reader.schema, compression="zstd") as writer:
            for batch in reader:
                writer.write_batch(batch)
        beside.replace(output)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


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
    table = Table(box=None, header_style="bold", pad_edge=False)
    for field in reader.schema:
        kind = str(field.type)
        right = kind.startswith(("int", "uint", "double", "float", "decimal"))
        table.add_column(Text(clean(field.name)), justify="right" if right else "left")
    count = 0
    for row in _rows(reader):
        count += 1
        if not limit or count <= limit:
            table.add_row(*(Text(_shown(value)) for value in row))
    screen = console()
    screen.print(table)
    told = plural(count, "line")
    if limit and count > limit:
        told += f", the first {limit:,} shown; --limit 0 shows all"
    click.echo(told, err=True)


def _shown(value: Any) -> str:
    if isinstance(value, str) and "\n" in value:  # the plan that EXPLAIN draws
        return "\n".join(map(clean, value.split("\n")))
    return "" if value is None else value_text(value, 80)
