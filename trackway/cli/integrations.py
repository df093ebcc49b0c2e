"""``trackway integrations``: which frameworks are recorded, and what is patched in them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from trackway.api import Api, StoredRun
from trackway.api._stored import whole
from trackway.cli._options import api_option, as_json, json_option
from trackway.cli._screen import console
from trackway.cli._text import clean, plural, shorten
from trackway.errors import ArgumentError, TrackwayError

__all__ = ["command", "framework_names"]

_HOME: Final = Path(__file__).parents[2]
_NEWER: Final = "newer than tried"
_OLDER: Final = "older than supported"
_STYLES: Final = {
    "patched": "green",
    "ready": "green",
    "failed": "red",
    _NEWER: "yellow",
    _OLDER: "yellow",
    "not installed": "dim",
    "off": "dim",
}
_WITHOUT: Final = (
    "autolog was not on, or no framework was loaded that it knows; what was recorded, the program "
    "itself asked for"
)


@click.command(
    epilog="""\b
Examples:
  trackway integrations                    what is installed and supported
  trackway integrations --check            import and patch each of them now
  trackway integrations brisk-otter-417    what was patched in that run

\b
The exit code of --check is 1 where patching an installed framework failed.
"""
)
@click.argument("run", required=False)
@click.option("--check", is_flag=True, help="Import and patch each installed framework.")
@json_option
@api_option
def command(api: Api, run: str | None, check: bool, for_program: bool) -> None:
    """List the frameworks that are recorded by themselves: versions, what is patched, state."""
    if run is not None and check:
        raise ArgumentError("--check looks at this installation, not at a run: leave one out")
    items = _asked(check) if run is None else _of_run(api.run(run))
    if for_program:
        click.echo(as_json({"run": run, "integrations": items}))
    elif run is not None and not items:
        click.echo(clean(f"{run}: {_WITHOUT}"))
    else:
        _print(console(), items)
    if check and any(item["state"] == "failed" for item in items):
        raise click.exceptions.Exit(1)


def framework_names() -> list[str]:
    """The frameworks by the names that people say."""
    return [item["framework"] for item in _asked(False)]


def _asked(check: bool) -> list[dict[str, Any]]:
    """What the integrations say of themselves, in a process of their own."""
    words = [sys.executable, "-c", _PROGRAM, str(_HOME), *(["--check"] if check else [])]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    try:
        items: list[dict[str, Any]] = json.loads(done.stdout)
    except ValueError:
        told = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise TrackwayError(f"the integrations could not be asked: {told}") from None
    return [{**item, "state": _state(item)} for item in items]


def _state(item: Mapping[str, Any]) -> str:
    """The state in words: nothing is loaded yet, so what waits is what could be recorded."""
    if item.get("state") != "waiting":
        return str(item.get("state"))
    return _NEWER if item.get("newer") else _OLDER if item.get("older") else "ready"


# The working directory is not searched: its files are not ours to run.
_PROGRAM: Final = """
import sys
sys.path[0:1] = []
sys.path.append(sys.argv[1])
from trackway.integrations.autolog.__main__ import main
sys.exit(main(sys.argv[2:]))
"""


def _of_run(run: StoredRun) -> list[dict[str, Any]]:
    """What was patched in a run, with the errors of ours that it ended with."""
    told = run.events("integrations")
    if not told:
        return []
    said = told[-1].fields.get("items")
    items = [dict(i) for i in said if isinstance(i, Mapping)] if isinstance(said, list) else []
    for item in items:
        name = item.get("framework")
        ours = [e.fields for e in run.events("trouble") if e.fields.get("place") == name]
        if ours:
            item["error"] = ours[-1].get("sentence")
            item["errors"] = sum(whole(fields.get("count")) or 0 for fields in ours)
    return items


def _print(screen: Console, items: Sequence[Mapping[str, Any]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("FRAMEWORK", "INSTALLED", "SUPPORTED", "STATE", "PATCHED"):
        table.add_column(heading, overflow="fold")
    for item in items:
        state, points = clean(item.get("state")), item.get("points")
        points = points if isinstance(points, list) else []
        table.add_row(
            clean(item.get("framework")),
            Text(clean(item.get("installed") or "-")),
            Text(_supported(item)),
            Text(state, _STYLES.get(state, "")),
            Text("\n".join(map(clean, points)) or "-"),
        )
    screen.print(table)
    for item in items:
        if item.get("error"):
            count = plural(whole(item.get("errors")) or 1, "error")
            told = f"{item.get('framework')}: {count}, the last: {item['error']}"
            screen.print(Text(clean(shorten(told)), "red"), soft_wrap=True)


def _supported(item: Mapping[str, Any]) -> str:
    told = f"{clean(item.get('lowest'))} to {clean(item.get('latest'))}"
    if item.get("state") in (_NEWER, _OLDER):
        return told
    if item.get("newer"):
        return f"{told} (yours is newer than tried)"
    return f"{told} (yours is too old)" if item.get("older") else told
