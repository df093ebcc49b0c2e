"""Identifiers and memorable names. The program's own random state is never touched."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import TypeVar

from trackway.errors import ArgumentError

T = TypeVar("T")

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # no i, l, o, u: read aloud without mistakes

_ADJECTIVES = (
    "amber agile balmy bold brave breezy bright brisk calm candid cheery clear clever coral "
    "cosmic crisp daring dapper deep eager early earnest easy fabled fair fleet fluent fond "
    "frank fresh gentle giddy glad golden grand handy happy hardy hazel honest humble ivory "
    "jade jolly keen kind lively lucid lucky lunar mellow merry mighty mild mossy neat nimble "
    "noble olive patient plucky polar proud quick quiet rapid ready regal robust rosy royal "
    "rustic sage silver sincere sleek smooth snowy solar solid spry stable steady still stout "
    "sunny swift tidy tranquil trusty upbeat velvet vivid warm wise witty zesty"
).split()

_NOUNS = (
    "acorn alder anchor aspen badger beacon birch bison bough brook canyon cedar cliff comet "
    "condor coral crane creek delta dune eagle elm ember falcon fern finch fjord forest fox "
    "garnet geyser glacier glade grove harbor hawk heron hill hollow inlet island jasper juniper "
    "kestrel lagoon lake lantern larch ledge lichen lynx maple marsh meadow mesa moon moose "
    "nebula oak ocean orchard osprey otter owl path pebble pine plain pond prairie quartz rain "
    "raven reef ridge river robin sail sequoia shore sky sparrow spring spruce star stone "
    "stream summit tern thistle tide trail tundra valley walnut willow wolf wren"
).split()

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_FORBIDDEN = re.compile(r'[\x00-\x1f/\\:*?"<>|\x7f]')
_RESERVED = {"blobs"}


def new_id() -> str:
    """Eight characters of chance: 40 bits."""
    return "".join(_choice(_ALPHABET) for _ in range(8))


def new_name() -> str:
    """A name to remember a run by, such as ``brisk-otter-417``."""
    return f"{_choice(_ADJECTIVES)}-{_choice(_NOUNS)}-{_choice(range(100, 1000))}"


def _choice(choices: Sequence[T]) -> T:
    # 64 bits over at most a thousand choices: the remainder favours none that anybody could see.
    return choices[int.from_bytes(os.urandom(8), "little") % len(choices)]


def check_id(run_id: object) -> str:
    """The id, if a run may have it; ArgumentError otherwise."""
    if not isinstance(run_id, str) or not _ID.fullmatch(run_id):
        raise ArgumentError(
            f"id={run_id!r}: an id is 1 to 128 letters, digits, '.', '_' or '-', and begins with "
            "a letter or digit"
        )
    return run_id


def check_project(project: object) -> str:
    """The project's name, if a folder may have it; ArgumentError otherwise."""
    if (
        not isinstance(project, str)
        or not project.strip()
        or project != project.strip()
        or project.startswith(".")
        or project.casefold() in _RESERVED
        or len(project.encode("utf-8", "replace")) > 128
        or _FORBIDDEN.search(project)
    ):
        raise ArgumentError(
            f"project={project!r}: a project is named like a folder: 1 to 128 bytes, no leading "
            "dot, none of / \\ : * ? \" < > |, and not 'blobs'"
        )
    return project
