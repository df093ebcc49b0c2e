"""What every command takes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

import click

from trackway.api import Api
from trackway.api._document import json_value

__all__ = ["api_option", "as_json", "json_option"]

_Command = TypeVar("_Command", bound=Callable[..., Any])


def api_option(command: _Command) -> _Command:
    """Give the command ``--dir``, also where it stood before its name, as ``api``."""

    def chosen(ctx: click.Context, parameter: click.Parameter, folder: str | None) -> Api:
        return Api(folder if folder is not None else ctx.obj)

    return click.option(
        "--dir",
        "api",
        metavar="PATH",
        callback=chosen,
        help="The folder that holds all projects  [default: $TRACKWAY_DIR, else ./trackway]",
    )(command)


def json_option(command: _Command) -> _Command:
    """Give the command ``--json``, as ``for_program``."""
    return click.option(
        "--json",
        "for_program",
        is_flag=True,
        help="One JSON document, for programs; NaN and infinities as text.",
    )(command)


def as_json(document: object) -> str:
    """The document as JSON in ASCII, so that no terminal and no encoding can object to it."""
    return json.dumps(json_value(document), indent=2, allow_nan=False)
