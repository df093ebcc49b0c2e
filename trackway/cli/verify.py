"""``trackway verify``: every byte of every log checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from trackway.api import Api
from trackway.api._verify import LogReport, RunReport, Verifier
from trackway.backend.file.folder import logs
from trackway.cli._listing import run_places
from trackway.cli._options import api_option, as_json, json_option
from trackway.cli._screen import Bar, console
from trackway.cli._text import clean, plural, size

_SOUND = Text("sound", "green")
_COUNTS = ("bytes", "frames", "rows", "points", "events", "unknown")


@click.command(
    epilog="""\b
Examples:
  trackway verify                  everything
  trackway verify digits           a project
  trackway verify brisk-otter-417  a run
  trackway verify --json | jq .sound

\b
The exit code is 1 where anything that was recorded is damaged or missing. The
unfinished last record of a writer that was killed is told, and is no damage:
it was never acknowledged.
"""
)
@click.argument("what", metavar="[RUN|PROJECT]", required=False)
@json_option
@api_option
def command(api: Api, what: str | None, for_program: bool) -> None:
    """Check every frame of every log against its checksum, and every stored file its digest."""
    places = _places(api, what)
    total = sum(_size(path) for _, folder in places for path in logs(folder))
    with Bar("Checking", total, unit="B") as bar:
        verifier = Verifier(api.root, bar.advance)
        reports = [verifier.run(project, folder.name) for project, folder in places]
    sound = all(report.sound for report in reports)
    if for_program:
        click.echo(as_json(_document(api, reports)))
    else:
        _print(console(), reports)
    if not sound:
        raise click.exceptions.Exit(1)


def _places(api: Api, what: str | None) -> list[tuple[str, Path]]:
    """Project and folder of each run that is meant; a project's name goes before a run's."""
    if what is None or what in api.projects():
        return run_places(api, what)
    run = api.run(what)
    return [(run.project, run.path)]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _totals(reports: Sequence[RunReport]) -> dict[str, int]:
    every = [log for report in reports for log in report.logs]
    return {name: sum(getattr(log, name) for log in every) for name in _COUNTS}


def _blobs(reports: Sequence[RunReport]) -> int:
    return len({blob.digest for report in reports for blob in report.blobs})


def _document(api: Api, reports: Sequence[RunReport]) -> dict[str, Any]:
    return {
        "root": str(api.root),
        "sound": all(report.sound for report in reports),
        "totals": {
            "runs": len(reports),
            "logs": sum(len(report.logs) for report in reports),
            **_totals(reports),
            "blobs": _blobs(reports),
        },
        "runs": [
            {
                "project": report.project,
                "id": report.id,
                "sound": report.sound,
                "logs": [_log_document(log) for log in report.logs],
                "blobs": [asdict(blob) for blob in report.blobs],
            }
            for report in reports
        ],
    }


def _log_document(log: LogReport) -> dict[str, Any]:
    return {
        "path": str(log.path),
        **{name: getattr(log, name) for name in _COUNTS},
        "sound": log.sound,
        "damage": [{"offset": offset, "bytes": count} for offset, count in log.damage],
        "tail": log.tail and {"offset": log.tail[0], "bytes": log.tail[1]},
        "nameless_rows": log.nameless,
        "problem": log.problem,
    }


def _print(screen: Console, reports: Sequence[RunReport]) -> None:
    for report in reports:
        for log in report.logs:
            for line in _findings(log):
                screen.print(line, soft_wrap=True)
        for blob in report.blobs:
            if not blob.sound:
                bad = f"{report.project}/{report.id}: stored file {blob.digest} is {blob.state}"
                screen.print(Text(clean(bad), style="red"), soft_wrap=True)
    counts = _totals(reports)
    told = [
        plural(len(reports), "run"),
        plural(sum(len(report.logs) for report in reports), "log"),
        size(counts["bytes"]),
        plural(counts["frames"], "frame"),
        plural(counts["points"], "point"),
        plural(counts["events"], "event"),
        plural(_blobs(reports), "stored file"),
    ]
    count = sum(not report.sound for report in reports)
    verdict = Text(f"{plural(count, 'run')} damaged", "bold red") if count else _SOUND
    screen.print(Text(", ".join(told) + ": ") + verdict, soft_wrap=True)


def _findings(log: LogReport) -> list[Text]:
    """What is to be said of a log, a line each; nothing where it is whole."""
    place = clean(Path(*log.path.parts[-3:]))
    bad = [f"{plural(count, 'byte')} damaged at offset {offset}" for offset, count in log.damage]
    if log.nameless:
        bad.append(f"{plural(log.nameless, 'row')} whose names were lost with their declaration")
    if log.problem:
        bad.append(log.problem)
    mild = []
    if log.tail is not None:
        offset, count = log.tail
        mild.append(f"{plural(count, 'byte')} of an unfinished record at offset {offset}")
    if log.unknown:
        mild.append(f"{plural(log.unknown, 'frame')} of a kind this release does not know")
    return [Text(f"{place}: {clean(told)}", style="red") for told in bad] + [
        Text(f"{place}: {clean(told)}", style="yellow") for told in mild
    ]
