"""The command line: parses arguments, asks the api, and draws what it says.

Only click is imported to parse; a command's own module when that command is used.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from io import TextIOWrapper
from typing import Any, Final

import click

from trackway.errors import ArgumentError, TrackwayError
from trackway.types import __version__

__all__ = ["cli", "main"]

_COMMANDS: Final = {
    "ls": "List runs, newest first, with what tells them apart.",
    "show": "Show everything needed to explain and repeat a run.",
    "compare": "Show in what runs differ.",
    "run": "Run a program as Python does, its trainings recorded.",
    "watch": "Follow a run in the terminal while it runs.",
    "export": "Write runs as CSV, JSON lines or Parquet, exactly.",
    "sql": "Ask all runs and their points in SQL.",
    "edit": "Change a run's name, notes, tags, group, or archive it.",
    "rm": "Remove runs for good, or hide some of their points.",
    "compact": "Reclaim the bytes of what was deleted.",
    "verify": "Check every byte of every log.",
    "integrations": "List the frameworks that are recorded by themselves.",
}

_EPILOG: Final = """\b
Examples:
  trackway ls                            all runs in ./trackway or $TRACKWAY_DIR
  trackway ls digits --order -summary.val/accuracy --limit 5
  trackway show brisk-otter-417
  trackway export brisk-otter-417 --format csv --output run.csv
  trackway edit brisk-otter-417 --tag paper --archive
  trackway verify --json
"""


class _Commands(click.Group):
    """Knows its commands by name and imports one when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order in which a newcomer needs them."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name, its module imported; None where there is none."""
        if cmd_name not in _COMMANDS:
            return None
        command = import_module(f"trackway.cli.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands in the help text, without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; what goes wrong for a reason becomes one line and an exit code."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()  # here a full disk can still be told
            return result
        except TrackwayError as error:
            kind = _Refused if isinstance(error, ArgumentError) else _Failed
            raise kind(_clean(error)) from error
        except BrokenPipeError:
            raise
        except OSError as error:
            raise _Failed(_clean(_reason(error))) from error


class _Failed(click.ClickException):
    """What was asked for is not there, or cannot be read: exit code 1."""


class _Refused(click.ClickException):
    """What was asked for makes no sense: exit code 2, as for any other misuse."""

    exit_code = 2


def _clean(sentence: object) -> str:
    from trackway.cli._text import clean

    return clean(sentence)


def _reason(error: OSError) -> str:
    place = f" ({error.filename})" if error.filename else ""
    return f"{error.strerror or error}{place}"


@click.group(
    cls=_Commands,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--dir",
    "folder",
    metavar="PATH",
    help="The folder that holds all projects  [default: $TRACKWAY_DIR, else ./trackway]",
)
@click.version_option(__version__, prog_name="trackway", message="%(prog)s %(version)s")
@click.pass_context
def cli(ctx: click.Context, folder: str | None) -> None:
    """Read the runs that Trackway has recorded. Only edit, rm and compact change anything."""
    ctx.obj = folder


def main() -> None:
    """The ``trackway`` command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        cli(prog_name="trackway")
    finally:
        _flush()


def _flush() -> None:
    """Write what is buffered; where the reader is gone (``| head -1``), without a word."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
