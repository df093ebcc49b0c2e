"""``trackway show``: everything a person needs to explain and repeat a run."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import click
from rich.text import Text

from trackway.api import Api, StoredRun
from trackway.api._document import run_document
from trackway.api._verify import damaged_bytes
from trackway.cli import _circumstances as around
from trackway.cli import _records as recorded
from trackway.cli import _sections as about
from trackway.cli import _table as tabular
from trackway.cli._options import api_option, as_json, json_option
from trackway.cli._parts import Section
from trackway.cli._repeat import commands, inner_trees, requirement_lines
from trackway.cli._restore import restore
from trackway.cli._screen import console
from trackway.cli._text import clean, plural
from trackway.errors import ArgumentError, NotFoundError

_CONSOLE_LINES: Final = 10
_WIDEST: Final = 160


@click.command(
    epilog="""\b
Examples:
  trackway show brisk-otter-417          by name; by id or project/id too
  trackway show k3v9x2ab --patch | git apply --binary
  trackway show k3v9x2ab --untracked .
  trackway show k3v9x2ab --requirements > requirements.txt
  trackway show k3v9x2ab --table confusion_matrix --rows 100
  trackway show k3v9x2ab --json | jq .metrics
"""
)
@click.argument("run")
@click.option("--metrics", "part", flag_value="metrics", help="Only the metrics, all of them.")
@click.option("--packages", "part", flag_value="packages", help="Only the packages, all of them.")
@click.option("--console", "part", flag_value="console", help="Only what it printed, all of it.")
@click.option(
    "--requirements",
    "part",
    flag_value="requirements",
    help="The packages as pip install -r takes them.",
)
@click.option(
    "--patch", "part", flag_value="patch", help="The patch of uncommitted work, byte for byte."
)
@click.option(
    "--untracked",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write the stored files that git did not track into DIR.",
)
@click.option("--table", metavar="NAME", help="This table alone; the page lists their names.")
@click.option(
    "--step",
    type=int,
    metavar="N",
    help="With --table: the one of this step, where there are several; else the last one.",
)
@click.option(
    "--rows", type=click.IntRange(min=0), metavar="N", help="With --table: at most so many rows."
)
@click.option(
    "--submodule", metavar="PATH", help="With --patch or --untracked: those of this submodule."
)
@json_option
@api_option
def command(
    api: Api,
    run: str,
    part: str | None,
    untracked: Path | None,
    table: str | None,
    step: int | None,
    rows: int | None,
    submodule: str | None,
    for_program: bool,
) -> None:
    """Show how RUN (a name, an id, or project/id) went and what it was made of.

    Options choose one part of it, whole; without any, the page has everything in short and ends
    with the commands that repeat the run.
    """
    _check(part, untracked, submodule, for_program)
    _check_table(table, part or ("untracked" if untracked else None), step, rows)
    stored = api.run(run)
    if table is not None:
        _show_table(stored, table, step, rows, for_program)
    elif untracked is not None:
        _restore(stored, _code_state(stored, submodule), untracked)
    elif part == "patch":
        _print_patch(stored, _code_state(stored, submodule))
    elif part == "requirements":
        click.echo("\n".join(requirement_lines(stored)))
    elif for_program:
        document = _document(api, stored) if part is None else {part: _part_document(stored, part)}
        click.echo(as_json(document))
    elif part is None:
        _print_page(api, stored)
    else:
        _print_part(stored, part)


def _check(
    part: str | None, untracked: Path | None, submodule: str | None, for_program: bool
) -> None:
    if part is not None and untracked is not None:
        raise ArgumentError(f"--{part} and --untracked: one at a time")
    if submodule is not None and part != "patch" and untracked is None:
        raise ArgumentError("--submodule goes with --patch or --untracked")
    if for_program and (part in ("patch", "requirements") or untracked is not None):
        raise ArgumentError("--json goes with the page, --metrics, --packages and --console")


def _check_table(table: str | None, other: str | None, step: int | None, rows: int | None) -> None:
    if table is not None and other is not None:
        raise ArgumentError(f"--table and --{other}: one at a time")
    if table is None and (step is not None or rows is not None):
        raise ArgumentError("--step and --rows go with --table")


# -- the page --------------------------------------------------------------------------------------


def _print_page(api: Api, run: StoredRun) -> None:
    screen = console()
    screen.width = min(screen.width, _WIDEST)
    title, first = about.headline(run)
    screen.print(title, soft_wrap=True)
    first.print_body(screen)
    sections = [
        about.trouble(run),
        about.traceback(run),
        about.config(run),
        about.metrics(run, screen.width),
        about.summary(run),
        recorded.model(run),
        recorded.checkpoints(run),
        recorded.tables(run),
        recorded.gradients(run),
        around.git(run),
        around.environment(run),
        around.packages(run),
        around.system(run),
        about.console_tail(run),
        around.masked(run),
        Section("Repeat it", [_command_text(line) for line in commands(run, str(api.root))]),
    ]
    for section in sections:
        section.print(screen)


def _command_text(line: str) -> Text:
    return Text(line, style="dim" if line.startswith("#") else "cyan")


def _document(api: Api, run: StoredRun) -> dict[str, Any]:
    lines = run.console()
    samples = {
        key: {"count": m.count, "mean": m.mean, "min": m.min, "max": m.max, "last": m.last}
        for key, m in _system_metrics(run).items()
    }
    return {
        **run_document(run),
        "metrics": _part_document(run, "metrics"),
        **recorded.document(run),
        "system": samples,
        "console": {
            "lines": len(lines),
            "last": [asdict(line) for line in lines[-_CONSOLE_LINES:]],
        },
        "damaged_bytes": damaged_bytes(run),
        "repeat": commands(run, str(api.root)),
    }


def _system_metrics(run: StoredRun) -> dict[str, Any]:
    from trackway.api._history import Metric

    return {key: Metric.of(series) for key, series in run.system().items()}


# -- one part --------------------------------------------------------------------------------------


def _part_document(run: StoredRun, part: str) -> Any:
    if part == "metrics":
        return {key: asdict(metric) for key, metric in run.metrics.items()}
    if part == "packages":
        return run.packages
    return [asdict(line) for line in run.console()]


def _print_part(run: StoredRun, part: str) -> None:
    if part == "console":
        for line in run.console():
            click.echo("\t".join(map(clean, line.text.split("\t"))))
        return
    if part == "packages":
        for name, version in sorted(run.packages.items(), key=lambda item: item[0].lower()):
            click.echo(clean(f"{name} {version}"))
        return
    screen = console()
    about.metrics(run, screen.width, everything=True).print_body(screen)


def _show_table(
    run: StoredRun, name: str, step: int | None, rows: int | None, for_program: bool
) -> None:
    table = run.table(name, step)
    if for_program:
        click.echo(as_json({"table": tabular.document(table, rows)}))
        return
    is_seen = sys.stdout.isatty() or "COLUMNS" in os.environ
    tabular.print_table(console(), table, rows, is_seen=is_seen)


# -- code ------------------------------------------------------------------------------------------


def _code_state(run: StoredRun, submodule: str | None) -> Mapping[str, Any]:
    """What git said, of the whole or of one submodule."""
    state = run.git
    if state is None:
        raise NotFoundError(f"the state of the code of run {run.name} was not captured")
    if submodule is None:
        return state
    trees = dict(inner_trees(state))
    if submodule not in trees:
        told = ", ".join(trees) or "none"
        raise NotFoundError(f"run {run.name} had no submodule {submodule!r}; it had: {told}")
    return trees[submodule]


def _print_patch(run: StoredRun, state: Mapping[str, Any]) -> None:
    patch = state.get("patch") or {}
    if not patch.get("blob"):
        clean_tree = state.get("dirty") is False
        known = "there were no changes to files that git tracks" if clean_tree else "not captured"
        reason = patch.get("omitted") or state.get("reason") or known
        raise NotFoundError(f"run {run.name} has no patch: {reason}")
    data = run.blob(patch["blob"])
    if sys.stdout.isatty():
        # For eyes: what a terminal would act on is shown, not sent.
        for line in data.decode(errors="backslashreplace").splitlines():
            click.echo("\t".join(map(clean, line.split("\t"))))
        return
    sys.stdout.buffer.write(data)


def _restore(run: StoredRun, state: Mapping[str, Any], folder: Path) -> None:
    written, refused = restore(run, state.get("untracked") or (), folder)
    for path, reason in refused:
        click.echo(clean(f"not written: {path}: {reason}"), err=True)
    click.echo(clean(f"{plural(len(written), 'file')} written into {folder}"))
    if refused:
        raise click.exceptions.Exit(1)
