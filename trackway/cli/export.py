"""``trackway export``: a run's points as CSV or JSON lines, exactly."""

from __future__ import annotations

import contextlib
import secrets
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from trackway.api import Api
from trackway.api._export import export_csv, export_jsonl
from trackway.cli._options import api_option, as_json, json_option
from trackway.cli._screen import Bar
from trackway.errors import ArgumentError


@click.command(
    epilog="""\b
Examples:
  trackway export brisk-otter-417 --format csv > run.csv
  trackway export k3v9x2ab --format jsonl --output run.jsonl
  trackway export k3v9x2ab --format csv --keys 'val/*' --keys train/loss

\b
CSV: step, time, then a column a metric; a line a step, in the order of steps.
  time is the latest at which a point of the line was logged, seconds since 1970.
  Floats in the shortest form that reads back exactly, nan, inf, -inf; empty
  where there is no point. With --repeats all a line a log() call, in order of
  arrival: step, time, attempt, then the metrics.

\b
JSONL: a line for the run, then a line a log() call, in order of arrival, of the
  points that count; NaN and infinities as "NaN", "Infinity", "-Infinity".
"""
)
@click.argument("run")
@click.option(
    "--format",
    "format_",
    type=click.Choice(["csv", "jsonl"]),
    default="csv",
    show_default=True,
    help="CSV for tables, JSON lines for everything exactly as it was logged.",
)
@click.option(
    "--output",
    "-o",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write to FILE instead of standard output; it appears once it is whole.",
)
@click.option(
    "--keys",
    "-k",
    metavar="K",
    multiple=True,
    help="A metric, or a pattern such as 'val/*'; may be repeated.  [default: all]",
)
@click.option(
    "--attempts",
    type=click.Choice(["live", "all"]),
    default="live",
    show_default=True,
    help="Whether to leave out what a resumed run took back.",
)
@click.option(
    "--repeats",
    type=click.Choice(["last", "all"]),
    default="last",
    show_default=True,
    help="Where a step was logged again: the last point, or each one.",
)
@click.option(
    "--include-system",
    is_flag=True,
    help="The samples of the machine too; in CSV lines of their own, with an empty step.",
)
@json_option
@api_option
def command(
    api: Api,
    run: str,
    format_: str,
    output: Path | None,
    keys: tuple[str, ...],
    attempts: str,
    repeats: str,
    include_system: bool,
    for_program: bool,
) -> None:
    """Write the points of RUN (a name, an id, or project/id) as CSV or JSON lines.

    With --json, and --output, a document says on standard output what was written.
    """
    if for_program and output is None:
        raise ArgumentError("--json tells what was written to --output FILE; give one")
    stored = api.run(run)
    write_as = export_csv if format_ == "csv" else export_jsonl
    # A bar on the terminal that the lines themselves go to would tear them apart.
    hidden = output is None and sys.stdout.isatty()
    with _sink(output) as write, Bar("Exporting", hidden=hidden) as bar:
        lines = write_as(
            stored,
            write,
            keys=keys or None,
            attempts=attempts,
            repeats=repeats,
            include_system=include_system,
            progress=bar.update,
        )
    if for_program:
        click.echo(
            as_json(
                {
                    "run": f"{stored.project}/{stored.id}",
                    "format": format_,
                    "output": str(output),
                    "lines": lines,
                }
            )
        )


def _standard_output(data: bytes) -> None:
    sys.stdout.buffer.write(data)


@contextlib.contextmanager
def _sink(output: Path | None) -> Iterator[Callable[[bytes], object]]:
    """Where the bytes go: standard output, or a file that is renamed into place at the end."""
    if output is None or str(output) == "-":
        yield _standard_output
        return
    target = output.resolve()
    if target.exists() and not target.is_file():  # a pipe, a device
        with target.open("wb") as file:
            yield file.write
        return
    beside = target.with_name(f".{target.name[:100]}.{secrets.token_hex(4)}.beside")
    try:
        with beside.open("xb") as file:
            yield file.write
        beside.replace(target)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
