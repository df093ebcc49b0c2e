"""``trackway compact``: the bytes of deleted points and runs, reclaimed."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click
from rich.text import Text

from trackway.api import Api
from trackway.backend.file.compact import CompactReport, Skipped, compact
from trackway.backend.file.folder import logs, projects, run_folders
from trackway.cli._options import api_option, as_json, json_option
from trackway.cli._screen import Bar, console
from trackway.cli._text import clean, moment, plural, size


@click.command(
    epilog="""\b
Examples:
  trackway compact                    everything
  trackway compact --project digits
  trackway compact brisk-otter-417    one run

\b
Logs are written anew without what trackway rm has hidden, beside their place,
and renamed into it: it may be interrupted at any time. What is being recorded
is left alone and told. Every answer stays what it was.
"""
)
@click.argument("run", required=False)
@click.option("--project", "-p", metavar="P", help="Only the runs of this project.")
@json_option
@api_option
def command(api: Api, run: str | None, project: str | None, for_program: bool) -> None:
    """Reclaim the bytes of deleted points and runs, of all or of RUN."""
    run_id = None
    if run is not None:
        stored = api.run(run if project is None or "/" in run else f"{project}/{run}")
        project, run_id = stored.project, stored.id
    total = _size(api.root, project, run_id)
    with Bar("Looking for what is deleted", total, unit="B") as bar:
        report = compact(api.root, project, run_id, bar.advance)
    if for_program:
        told = asdict(report) | {"bytes_reclaimed": report.bytes_before - report.bytes_after}
        click.echo(as_json({"root": str(api.root), **told}))
    else:
        _print(report)


def _size(root: Path, project: str | None, run: str | None) -> int:
    return sum(
        path.stat().st_size
        for name in (projects(root) if project is None else [project])
        for folder in run_folders(root, name)
        if run in (None, folder.name)
        for path in logs(folder)
    )


def _print(report: CompactReport) -> None:
    screen = console()
    for skipped in report.skipped:
        screen.print(Text(clean(_told(skipped)), "yellow"), soft_wrap=True)
    if report.blobs_waiting:
        files = plural(report.blobs_waiting, "stored file")
        line = f"{files} left, as a run that is being recorded might use the same; compact again "
        line += f"once none is, or after {moment(report.blobs_wait_until)}"
        screen.print(Text(line, "yellow"), soft_wrap=True)
    if not report.bytes_before:
        screen.print(Text("Nothing to reclaim."), soft_wrap=True)
        return
    saved = report.bytes_before - report.bytes_after
    # Names are declared anew for the rows that lost some: a small log may even grow by that.
    grown = f"Deleted for good, for {size(-saved)} more"
    title = f"{size(saved)} reclaimed" if saved >= 0 else grown
    told = [plural(report.runs, "run"), plural(report.points_removed, "point")]
    if report.blobs_removed:
        told.append(plural(report.blobs_removed, "stored file"))
    shrunk = f"{size(report.bytes_before)} became {size(report.bytes_after)}"
    summary = Text.assemble((title, "bold"), f": {', '.join(told)}; {shrunk}")
    screen.print(summary, soft_wrap=True)


def _told(skipped: Skipped) -> str:
    place = "/".join(filter(None, (skipped.project, skipped.run, skipped.log)))
    return f"{place} left as it is: {skipped.reason}"
