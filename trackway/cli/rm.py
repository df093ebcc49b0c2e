"""``trackway rm``: removes runs for good, or hides points of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
from rich.text import Text

from trackway.api import Api
from trackway.api._run import StoredRun
from trackway.backend.file.attempts import standing
from trackway.backend.file.edits import Editor
from trackway.backend.file.folder import logs
from trackway.backend.file.format import METRIC
from trackway.backend.file.reader import LogReader
from trackway.backend.file.remove import RemoveReport, remove_runs
from trackway.cli._chosen import chosen
from trackway.cli._lines import in_lines
from trackway.cli._options import api_option, as_json, json_option
from trackway.cli._screen import Bar, console
from trackway.cli._text import clean, moment, plural, size
from trackway.errors import ArgumentError, NotFoundError


@click.command(
    epilog="""\b
Examples:
  trackway rm brisk-otter-417                  the whole run, for good
  trackway rm k3v9x2ab m2c8q4tz --yes
  trackway rm k3v9x2ab --key 'debug/*'         some of its metrics
  trackway rm k3v9x2ab --key loss --from 1000  points from step 1000 on

\b
With --key, --from or --to the points are hidden, which cannot be undone: what
is logged afterwards is not hidden, and trackway compact reclaims the bytes.
Without them the run is removed for good, with the files that no other run
refers to; its id is free again. A name that several runs have is refused.
"""
)
@click.argument("runs", metavar="RUN...", nargs=-1, required=True)
@click.option(
    "--key",
    "-k",
    "keys",
    metavar="K",
    multiple=True,
    help="A metric, or a pattern such as 'val/*'.",
)
@click.option("--from", "start", metavar="STEP", type=int, help="The lowest step to hide.")
@click.option("--to", "stop", metavar="STEP", type=int, help="The highest step to hide.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--force", is_flag=True, help="Remove a run also while it is being recorded.")
@json_option
@api_option
def command(
    api: Api,
    runs: tuple[str, ...],
    keys: tuple[str, ...],
    start: int | None,
    stop: int | None,
    yes: bool,
    force: bool,
    for_program: bool,
) -> None:
    """Remove each RUN (a name, an id, or project/id) for good, or hide points of it."""
    with in_lines():
        stored = chosen(api, runs)
    if keys or start is not None or stop is not None:
        _hide(api, stored, _Points(keys or None, start, stop), yes, for_program)
        return
    if not force:
        for run in stored:
            place = standing(run.path)
            if place is not None and (place.live or place.live_elsewhere):
                raise ArgumentError(
                    f"run {run.name} ({run.project}/{run.id}) is still being recorded; "
                    "end it first, or insist with --force"
                )
    if not yes:
        _ask(stored)
    _remove(api, stored, force, for_program)


@dataclass(frozen=True, slots=True)
class _Weight:
    """What a run's folder holds."""

    points: int
    bytes: int

    @classmethod
    def of(cls, folder: Path, bar: Bar) -> _Weight:
        points = count = 0
        for path in logs(folder):
            reader = LogReader(path)
            rows: dict[int, int] = {}
            for batch in reader.stretches():
                for found in batch.rows:
                    rows[found.keyset] = rows.get(found.keyset, 0) + found.values.size
                points += sum(_values(event.fields) for _, event in batch.events)
                bar.advance(batch.frames)
            points += sum(n for id, n in rows.items() if _is_metric(reader, id))
            count += reader.offset + reader.pending
        return cls(points, count)


def _is_metric(reader: LogReader, keyset: int) -> bool:
    known = reader.keysets.get(keyset)
    return known is not None and known.space == METRIC


def _values(fields: Any) -> int:
    data = fields.get("data")
    return len(data) if isinstance(data, dict) and "step" in fields else 0


def _ask(runs: Sequence[StoredRun]) -> None:
    """Name what would be removed, and go on only where the answer is yes."""
    with Bar("Reading runs") as bar:
        weights = [_Weight.of(run.path, bar) for run in runs]
    for run, weight in zip(runs, weights, strict=True):
        told = f"{run.name} ({run.project}/{run.id}), {run.state}: "
        told += f"{plural(weight.points, 'point')}, {size(weight.bytes)}"
        click.echo(clean(told), err=True)
    question = "Remove this run for good?" if len(runs) == 1 else f"Remove these {len(runs)} runs?"
    click.confirm(question, abort=True, err=True)


def _remove(api: Api, runs: Sequence[StoredRun], force: bool, for_program: bool) -> None:
    names = [f"{run.name} ({run.project}/{run.id})" for run in runs]
    report = remove_runs(api.root, [(run.project, run.id) for run in runs], force=force)
    if for_program:
        removed = [f"{run.project}/{run.id}" for run in runs]
        click.echo(as_json({"removed": removed, **asdict(report)}))
        return
    screen = console()
    for name in names:
        screen.print(Text(clean(f"Removed {name}.")), soft_wrap=True)
    blobs = f", {plural(report.blobs, 'stored file')} among it" if report.blobs else ""
    screen.print(Text(f"{size(report.bytes)} freed{blobs}.", "dim"), soft_wrap=True)
    if report.blobs_waiting:
        screen.print(Text(_waiting(report), "yellow"), soft_wrap=True)


def _waiting(report: RemoveReport) -> str:
    return (
        f"{plural(report.blobs_waiting, 'stored file')} will go later, as a run that is being "
        "recorded might use the same: trackway compact removes what nobody uses once no run is "
        f"recorded, or after {moment(report.blobs_wait_until)}."
    )


@dataclass(frozen=True, slots=True)
class _Points:
    """Which points of a run."""

    keys: tuple[str, ...] | None
    start: int | None
    stop: int | None

    def count(self, api: Api, run: StoredRun) -> int:
        editor = Editor(api.root, run.project, run.id)
        return editor.count_points(self.keys, start=self.start, stop=self.stop)

    def hide(self, api: Api, run: StoredRun) -> int:
        with Editor(api.root, run.project, run.id) as editor:
            return editor.delete_points(self.keys, start=self.start, stop=self.stop)

    def __str__(self) -> str:
        told = ", ".join(self.keys) if self.keys else "all metrics"
        told += f" from step {self.start}" if self.start is not None else ""
        return told + (f" to step {self.stop}" if self.stop is not None else "")


def _ask_points(api: Api, runs: Sequence[StoredRun], points: _Points) -> None:
    """Name what would be hidden, and go on only where the answer is yes."""
    with Bar("Reading runs") as bar:
        counts = []
        for run in runs:
            counts.append(points.count(api, run))
            bar.advance(1)
    if not any(counts):
        return  # it is told in a moment that there are none
    for run, count in zip(runs, counts, strict=True):
        told = f"{run.name} ({run.project}/{run.id}), {run.state}: "
        click.echo(clean(f"{told}{plural(count, 'point')} of {points}"), err=True)
    question = f"Hide {plural(sum(counts), 'point')}? It cannot be undone."
    click.confirm(question, abort=True, err=True)


def _hide(
    api: Api,
    runs: Sequence[StoredRun],
    points: _Points,
    yes: bool,
    for_program: bool,
) -> None:
    if not yes:
        _ask_points(api, runs, points)
    counts = {f"{run.project}/{run.id}": points.hide(api, run) for run in runs}
    if not any(counts.values()):
        there = ", ".join(runs[0].keys()[:20]) or "none"
        raise NotFoundError(f"there are no such points; the metrics of {runs[0].name}: {there}")
    if for_program:
        hidden_in = [{"run": place, "points": count} for place, count in counts.items()]
        click.echo(as_json({"hidden": hidden_in}))
        return
    screen = console()
    for place, count in counts.items():
        screen.print(Text(clean(f"{place}: {plural(count, 'point')} hidden")), soft_wrap=True)
    screen.print(Text("trackway compact reclaims the bytes.", "dim"), soft_wrap=True)
