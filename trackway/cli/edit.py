"""``trackway edit``: what a run is called, and where it belongs."""

from __future__ import annotations

from typing import Any

import click
from rich.text import Text

from trackway.api import Api
from trackway.backend.file.edits import Editor
from trackway.cli._options import api_option, as_json, json_option
from trackway.cli._screen import console
from trackway.cli._text import clean, value_text
from trackway.errors import ArgumentError


@click.command(
    epilog="""\b
Examples:
  trackway edit brisk-otter-417 --name baseline --tag paper --untag draft
  trackway edit k3v9x2ab --notes "diverged after the second warm-up"
  trackway edit digits/k3v9x2ab --archive

\b
An edit is a record beside the run's own logs: nothing that was recorded is
changed, a run that is being recorded goes on, and the last edit counts.
"""
)
@click.argument("run")
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
    run: str,
    name: str | None,
    notes: str | None,
    tags: tuple[str, ...],
    untags: tuple[str, ...],
    group: str | None,
    job_type: str | None,
    archived: bool | None,
    for_program: bool,
) -> None:
    """Change what RUN (a name, an id, or project/id) is called and where it belongs."""
    stored = api.run(run)
    changes: dict[str, Any] = {}
    if name is not None:
        changes["name"] = name
    for field, text in (("notes", notes), ("group", group), ("job_type", job_type)):
        if text is not None:
            changes[field] = text or None
    if tags or untags:
        changes["tags"] = _tagged(stored.tags, tags, untags)
    if archived is not None:
        changes["archived"] = archived
    if not changes:
        raise ArgumentError("nothing to change; trackway edit --help lists what can be")
    with Editor(api.root, stored.project, stored.id) as editor:
        editor.set(**changes)
    place = f"{stored.project}/{stored.id}"
    if for_program:
        click.echo(as_json({"run": place, "set": changes}))
        return
    screen = console()
    screen.print(Text(clean(place), "bold"), soft_wrap=True)
    for field, value in changes.items():
        screen.print(Text(f"  {field}: {value_text(value)}"), soft_wrap=True)


def _tagged(present: tuple[str, ...], add: tuple[str, ...], remove: tuple[str, ...]) -> list[str]:
    both = sorted({*add} & {*remove})
    if both:
        raise ArgumentError(f"--tag and --untag both name {both[0]!r}")
    absent = [tag for tag in remove if tag not in present]
    if absent:
        there = ", ".join(present) or "none"
        raise ArgumentError(f"the run has no tag {absent[0]!r}; there are: {there}")
    return list(dict.fromkeys([*(tag for tag in present if tag not in remove), *add]))
