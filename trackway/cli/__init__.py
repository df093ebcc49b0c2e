"""The command line: parses arguments, asks the api, and draws what it says.

Only click is imported to parse; a command's own module when that command is used.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any, Final

import click

from trackway.errors import ArgumentError, TrackwayError
from trackway.types import __version__

__all__ = ["cli", "main"]

_COMMANDS: Final = {
    "ls": "List runs, newest first, with what tells them apart.",
    "show": "Show everything needed to explain and repeat a run.",
    "export": "Write a run's points as CSV or JSON lines, exactly.",
    "verify": "Check every byte of every log.",
}

_EPILOG: Final = """\b
Examples:
  trackway ls                            all runs in ./trackway or $TRACKWAY_DIR
  trackway ls digits --order -summary.val/accuracy --limit 5
  trackway show brisk-otter-417
  trackway export brisk-otter-417 --format csv --output run.csv
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
            # Here and not at the interpreter's end, where a reader that is gone (``| head -1``)
            # would be reported.
            sys.stdout.flush()
            return result
        except TrackwayError as error:
            raise _failure(str(error), 2 if isinstance(error, ArgumentError) else 1) from error
        except BrokenPipeError:
            raise
        except OSError as error:
            raise _failure(_reason(error), 1) from error


def _failure(sentence: str, exit_code: int) -> click.ClickException:
    from trackway.cli._text import clean

    failure = click.ClickException(clean(sentence))
    failure.exit_code = exit_code
    return failure


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
    """Read the runs that Trackway has recorded. Nothing here changes them."""
    ctx.obj = folder


def main() -> None:
    """The ``trackway`` command."""
    cli(prog_name="trackway")
