"""``trackway edit``: what a run is called, and where it belongs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click
from rich.text import Text

from trackway.api import Api
from trackway.api._run import StoredRun
from trackway.backend.file.edits import Editor
from trackway.cli._chosen import chosen, named
from trackway.cli._lines import in_lines
from trackway.cli._options import api_option, as_json, json_option
from trackway.cli._screen import console
from trackway.cli._text import clean, value_text
from trackway.errors import ArgumentError


@click.command(
    epilog="""\b
Examples:
  trackway edit brisk-otter-417 --name baseline --tag paper --untag draft
  trackway edit k3v9x2ab --notes "diverged after the second warm-up"
  trackway edit digits/k3v9x2ab m2c8q4tz --archive

\b
An edit is a record beside the run's own logs: nothing that was recorded is
changed, a run that is being recorded goes on, and the last edit counts.
"""
)
@click.argument("runs", metavar="RUN...", nargs=-1, required=True)
@click.option("--name", help="The name for people.")
@click.option("--notes", help="Free text; an empty one removes it.")
@click.option("--tag", "tags", metavar="T", multiple=True, help="Add a tag; may be repeated.")
@click.option("--untag", "untags", metavar="T", multiple=True, help="Remove a tag.")
@click.option("--group", help="The group it belongs to; an empty one removes it.")
@click.option("--job-type", help="What part of a larger job it is; an empty one removes it.")
@click.option(
    "--archive/--unarchive", "archived", default=None, help="Put it out of the way, or back."
)
@json_option
@api_option
def command(
    api: Api,
    runs: tuple[str, ...],
    name: str | None,
    notes: str | None,
    tags: tuple[str, ...],
    untags: tuple[str, ...],
    group: str | None,
    job_type: str | None,
    archived: bool | None,
    for_program: bool,
) -> None:
    """Change what each RUN (a name, an id, or project/id) is called and where it belongs."""
    with in_lines():
        stored = chosen(api, runs)
    if name is not None and len(stored) > 1:
        raise ArgumentError("--name is for one run: the others would be called the same")
    changes: dict[str, Any] = {}
    if name is not None:
        changes["name"] = name
    for field, text in (("notes", notes), ("group", group), ("job_type", job_type)):
        if text is not None:
            changes[field] = text or None
    if archived is not None:
        changes["archived"] = archived
    if not (changes or tags or untags):
        raise ArgumentError("nothing to change; trackway edit --help lists what can be")
    tagged = _tagged(stored, tags, untags) if tags or untags else [{} for _ in stored]
    edits = [(run, changes | more) for run, more in zip(stored, tagged, strict=True)]
    if name is not None:
        _tell_namesakes(api, stored[0], name)
    for run, edit in edits:
        with Editor(api.root, run.project, run.id) as editor:
            editor.set(**edit)
    _print(edits, for_program)


def _print(edits: Sequence[tuple[StoredRun, dict[str, Any]]], for_program: bool) -> None:
    if for_program:
        told = [{"run": f"{run.project}/{run.id}", "set": changes} for run, changes in edits]
        click.echo(as_json({"edited": told}))
        return
    screen = console()
    for run, changes in edits:
        screen.print(Text(clean(f"{run.project}/{run.id}"), "bold"), soft_wrap=True)
        for field, value in changes.items():
            screen.print(Text(f"  {field}: {value_text(value)}"), soft_wrap=True)


def _tell_namesakes(api: Api, run: StoredRun, name: str) -> None:
    """Say where the name is taken: it is allowed, and the id tells them apart."""
    others = [f"{r.project}/{r.id}" for r in named(api, name, run.project) if r.id != run.id]
    if others:
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        told = f"{', '.join(others[:3])}{more}"
        click.echo(clean(f"{name!r} is also the name of {told}; ids tell them apart."), err=True)


def _tagged(
    runs: Sequence[StoredRun], add: tuple[str, ...], remove: tuple[str, ...]
) -> list[dict[str, Any]]:
    """The tags each run is to have; of several, not all need to have one that is removed."""
    both = sorted({*add} & {*remove})
    if both:
        raise ArgumentError(f"--tag and --untag both name {both[0]!r}")
    present = list(dict.fromkeys(tag for run in runs for tag in run.tags))
    absent = [tag for tag in remove if tag not in present]
    if absent:
        there = ", ".join(present) or "none"
        whose = "the run has" if len(runs) == 1 else "the runs have"
        raise ArgumentError(f"{whose} no tag {absent[0]!r}; there are: {there}")
    return [{"tags": _tags(run.tags, add, remove)} for run in runs]


def _tags(present: tuple[str, ...], add: tuple[str, ...], remove: tuple[str, ...]) -> list[str]:
    return list(dict.fromkeys([*(tag for tag in present if tag not in remove), *add]))
