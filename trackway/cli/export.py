"""``trackway export``: runs as CSV, JSON lines or Parquet, every value exact."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from trackway.api import Api, StoredRun
from trackway.api._export import ExportReport, export_csv, export_jsonl, export_runs
from trackway.api._export_files import placed
from trackway.api._export_folder import NotEmptyError
from trackway.api._export_select import is_project, selected
from trackway.cli._lines import in_lines
from trackway.cli._options import api_option, as_json, json_option
from trackway.cli._screen import Bar
from trackway.cli._text import clean, plural, size
from trackway.errors import ArgumentError


@click.command(
    epilog="""\b
Examples:
  trackway export brisk-otter-417 --format csv > run.csv
  trackway export k3v9x2ab --format jsonl --output run.jsonl
  trackway export k3v9x2ab --format csv --keys 'val/*' --keys train/loss
  trackway export digits --format parquet --out digits-export
  trackway export --filter 'config.lr < 0.01' --format parquet --out small --resume

\b
CSV: step, time, then a column a metric; a line a step, in the order of steps.
  time is the latest at which a point of the line was logged, seconds since 1970.
  Floats in the shortest form that reads back exactly, nan, inf, -inf; empty
  where there is no point. With --repeats all a line a log() call, in order of
  arrival: step, time, attempt, then the metrics.

\b
JSONL: a line for the run, then a line a log() call, in order of arrival, of the
  points that count; NaN and infinities as "NaN", "Infinity", "-Infinity".

\b
Several runs, a project, a filter, or Parquet: a folder with runs.FORMAT (a line a
  run, configuration and summary as columns), points/PROJECT/RUN.FORMAT, and
  files/PROJECT/RUN/ with the document, console, patch and sources of each run.
  An export that was stopped goes on with --resume.
"""
)
@click.argument("targets", metavar="[TARGET]...", nargs=-1)
@click.option(
    "--format",
    "format_",
    type=click.Choice(["csv", "jsonl", "parquet"]),
    default="csv",
    show_default=True,
    help="CSV for tables, JSON lines for everything exactly as it was logged, "
    "Parquet for programs (needs pyarrow).",
)
@click.option(
    "--output",
    "--out",
    "-o",
    metavar="PATH",
    type=click.Path(path_type=Path),
    help="For one run the file to write instead of standard output; it appears once it is "
    "whole. For several, and Parquet, the folder.",
)
@click.option(
    "--filter",
    "filter_",
    metavar="EXPR",
    help="Only runs that pass, as 'config.lr < 0.1 and state == \"finished\"'.",
)
@click.option("--all", "everything", is_flag=True, help="All runs of all projects.")
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
    "--system",
    is_flag=True,
    help="The samples of the machine too; in the CSV of one run lines with an empty step.",
)
@click.option("--no-files", is_flag=True, help="In a folder: leave out files/.")
@click.option("--resume", is_flag=True, help="Go on with the export that the folder holds.")
@json_option
@api_option
def command(
    api: Api,
    targets: tuple[str, ...],
    format_: str,
    output: Path | None,
    filter_: str | None,
    everything: bool,
    resume: bool,
    no_files: bool,
    for_program: bool,
    **options: Any,
) -> None:
    """Write runs as CSV, JSON lines or Parquet.

    A TARGET is a run (a name, an id, or project/id) or a project. One run goes to standard
    output or into a file; several, and Parquet, into a folder. With --json, and --output, a
    document says on standard output what was written.
    """
    if not targets and filter_ is None and not everything:
        raise ArgumentError("name a run or a project, or give --filter, or --all")
    if targets and everything:
        raise ArgumentError("--all is all runs; name none beside it")
    many = format_ == "parquet" or len(targets) != 1 or filter_ is not None or resume
    if not (many or is_project(api, targets[0])):
        document = _one(api.run(targets[0]), format_, output, for_program, **options)
    elif output is None:
        raise ArgumentError("this writes a folder; say which with --out DIR")
    else:
        with in_lines():
            runs = selected(api, targets, filter_)
        document = _folder(runs, format_, output, resume, not no_files, **options)
    if for_program:
        click.echo(as_json(document))
    elif "folder" in document:
        click.echo(_sentence(document), err=True)
    elif output is not None and str(output) != "-" and sys.stderr.isatty():
        told = plural(document["lines"], "line")
        click.echo(f"{clean(document['run'])}: {told} in {clean(output)}", err=True)


# -- one run ---------------------------------------------------------------------------------------


def _one(
    run: StoredRun, format_: str, output: Path | None, for_program: bool, **options: Any
) -> dict[str, Any]:
    if for_program and output is None:
        raise ArgumentError("--json tells what was written to --output FILE; give one")
    if output is not None and output.is_dir():
        raise click.BadParameter(
            f"File '{output}' is a directory.", param_hint="'--output' / '--out' / '-o'"
        )
    write_as = export_csv if format_ == "csv" else export_jsonl
    keys = options.pop("keys") or None
    # A bar on the terminal that the lines themselves go to would tear them apart.
    hidden = output is None and sys.stdout.isatty()
    with _sink(output) as write, Bar("Exporting", hidden=hidden) as bar:
        lines = write_as(run, write, keys=keys, progress=bar.update, **options)
    return {
        "run": f"{run.project}/{run.id}",
        "format": format_,
        "output": str(output),
        "lines": lines,
    }


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
    with placed(target) as beside, beside.open("xb") as file:
        yield file.write


# -- a folder --------------------------------------------------------------------------------------


def _folder(
    runs: Sequence[StoredRun],
    format_: str,
    output: Path,
    resume: bool,
    files: bool,
    *,
    keys: tuple[str, ...],
    attempts: str,
    repeats: str,
    include_system: bool,
) -> dict[str, Any]:
    with Bar("Exporting runs", len(runs)) as bar, _in_options():
        report = export_runs(
            runs,
            output,
            format_,
            keys=keys or None,
            attempts=attempts,
            repeats=repeats,
            system=include_system,
            files=files,
            resume=resume,
            progress=bar.update,
        )
    return _told(report, format_)


@contextlib.contextmanager
def _in_options() -> Iterator[None]:
    """Let the error of a folder that is taken speak of the option."""
    try:
        yield
    except NotEmptyError as error:
        raise ArgumentError(error.told("--resume")) from None


def _told(report: ExportReport, format_: str) -> dict[str, Any]:
    return {"format": format_, **asdict(report), "folder": str(report.folder)}


def _sentence(document: dict[str, Any]) -> str:
    told = [f"{plural(document['runs'], 'run')} in {clean(document['folder'])}"]
    told.append(f"{document['written']:,} written, {document['kept']:,} kept")
    if document["removed"]:
        told.append(f"{document['removed']:,} removed")
    told.append(size(document["size_bytes"]))
    if document["missing"]:
        told.append(f"{plural(document['missing'], 'stored file')} not found")
    if document["refused"]:
        told.append(f"{plural(document['refused'], 'path')} left out")
    return "; ".join(told)
