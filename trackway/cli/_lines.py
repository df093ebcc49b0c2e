"""Errors that point at a place in what was typed, and so need more than one line."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import click

from trackway.cli._text import clean
from trackway.errors import ArgumentError

__all__ = ["in_lines"]


class _Refused(click.ClickException):
    """What was asked for makes no sense: exit code 2, as for any other misuse."""

    exit_code = 2


@contextlib.contextmanager
def in_lines() -> Iterator[None]:
    """Let an argument's error keep its lines; what a terminal would act on shows as text."""
    try:
        yield
    except ArgumentError as error:
        raise _Refused("\n".join(map(clean, str(error).split("\n")))) from error
