"""``trackway run``: a program exactly as Python runs it, and its trainings recorded.

Nothing of the program passes through this process: it becomes the program. What records is put on
PYTHONPATH, in front, and is imported by the interpreter before the program begins.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any, Final, NoReturn

import click

from trackway.errors import ArgumentError

__all__ = ["command"]

_STARTUP: Final = Path(__file__).parents[1] / "integrations" / "autolog" / "startup"
_ISOLATING: Final = "IES"
"""Options of Python with which it reads no PYTHONPATH, or imports no ``sitecustomize``."""

_WITH_VALUE: Final = "WX"
"""Options of Python that take what follows them."""


class _Run(click.Command):
    """Takes its own options up to the first word that is none; the rest is the program's."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Tell click where the program's own words begin."""
        names = {name: option for option in self.params for name in option.opts}
        at = 0
        while at < len(args) and args[at].partition("=")[0] in (*names, "--help", "-h"):
            option = names.get(args[at])  # None where the value stands behind a "="
            at += 1 if option is None else 2
        given = args[at + 1 :] if args[at : at + 1] == ["--"] else args[at:]
        return super().parse_args(ctx, [*args[:at], "--", *given])


@click.command(
    cls=_Run,
    epilog="""\b
Examples:
  trackway run train.py --epochs 3
  trackway run -m package.train --epochs 3
  trackway run torchrun --nproc-per-node 2 train.py
  trackway run --project digits --tag first train.py

\b
Options of Trackway stand before the program; all behind it is the program's own.
What Python starts with -I, -E or -S cannot be recorded: it reads no PYTHONPATH.
""",
)
@click.option("--only", metavar="NAMES", help="Record these frameworks only: keras,pytorch.")
@click.option("--without", metavar="NAMES", help="Record all frameworks but these.")
@click.option("--project", metavar="NAME", help="The project of the runs that are begun.")
@click.option("--name", metavar="NAME", help="The name of a run that is begun by itself.")
@click.option("--group", metavar="NAME", help="Its group.")
@click.option("--tag", "tags", metavar="TAG", multiple=True, help="A label for it; repeatable.")
@click.argument("words", metavar="PROGRAM [ARGUMENTS]...", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def command(
    ctx: click.Context,
    words: tuple[str, ...],
    only: str | None,
    without: str | None,
    project: str | None,
    name: str | None,
    group: str | None,
    tags: tuple[str, ...],
) -> NoReturn:
    """Run a program as Python does and record every training in it, without a change to it.

    PROGRAM is a script, -m MODULE, -c CODE, or any command that starts Python, such as torchrun;
    without one, Python's own prompt.
    """
    told = {"name": name, "group": group, "tags": list(tags)}
    _set_environment(
        {
            "only": None if only is None else _names(only),
            "without": [] if without is None else _names(without),
            "init": {key: value for key, value in told.items() if value},
        }
    )
    if project is not None:
        os.environ["TRACKWAY_PROJECT"] = project
    if ctx.obj is not None:
        os.environ["TRACKWAY_DIR"] = str(Path(ctx.obj).absolute())
    file, argv = _program(list(words))
    _warn(argv)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(file, argv)


def _names(text: str) -> list[str]:
    from trackway.cli.integrations import framework_names

    known = framework_names()
    names = text.replace(",", " ").split()
    names = ["pytorch" if name == "torch" else name for name in names]
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise ArgumentError(f"no framework {unknown}; there are {known}")
    return names


def _set_environment(options: dict[str, Any]) -> None:
    given = {key: value for key, value in options.items() if value not in (None, [], {})}
    if given:
        os.environ["TRACKWAY_AUTOLOG"] = json.dumps(given)
    path = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(_STARTUP), *([path] if path else [])])


def _program(words: list[str]) -> tuple[str, list[str]]:
    """What is to be executed: its file, and its words with its own name as the first."""
    first = words[0] if words else "-"
    found = None if _is_for_python(first) else shutil.which(first)
    if found is None:
        return sys.executable, [sys.executable, *words]
    return found, words


def _is_for_python(word: str) -> bool:
    """Whether it is an option of Python's or a program that it runs, and not a command."""
    if word.startswith("-") or word.endswith((".py", ".pyw", ".pyc", ".pyz")):
        return True
    path = Path(word)
    return (path / "__main__.py").is_file() or (path.is_file() and not os.access(path, os.X_OK))


def _warn(argv: list[str]) -> None:
    """Say so where Python is asked not to read what would record."""
    if "py" not in Path(argv[0]).name:
        return
    words = iter(argv[1:])
    for word in words:
        if not word.startswith("-") or word.startswith("--") or word[1:2] in "mc":
            return
        if set(word[1:]) & set(_ISOLATING) and word[1] not in _WITH_VALUE:
            click.echo(
                f"trackway: python {word} reads no PYTHONPATH: nothing is recorded", err=True
            )
            return
        if word[1] in _WITH_VALUE and len(word) == 2:
            next(words, None)
