"""The runs that a command is to change: named so that no other can be meant."""

from __future__ import annotations

from collections.abc import Sequence

from trackway.api import Api
from trackway.api._run import StoredRun
from trackway.backend.file.folder import logs
from trackway.cli._text import moment
from trackway.errors import ArgumentError

__all__ = ["chosen", "named"]


def chosen(api: Api, given: Sequence[str]) -> list[StoredRun]:
    """Each run once, in the order given.

    Raises:
        NotFoundError: One of them is not there.
        ArgumentError: Several runs fit one of them; the message has a line for each.
    """
    found: dict[tuple[str, str], StoredRun] = {}
    for which in given:
        run = api.run(which)
        fitting = _fitting(api, which, run)
        if len(fitting) > 1:
            told = [f"{len(fitting)} runs are called {which!r}; say which one by its project/id:"]
            told += [f"  {r.project}/{r.id}  {r.state}  {moment(r.created)}" for r in fitting]
            raise ArgumentError("\n".join(told))
        found[run.project, run.id] = run
    return list(found.values())


def named(api: Api, name: str, project: str | None = None) -> list[StoredRun]:
    """The runs of exactly this name, newest first; of one project or of all."""
    known = api.runs(project)
    return [known[at] for at, other in enumerate(known.column("name")) if other == name]


def _fitting(api: Api, which: str, run: StoredRun) -> list[StoredRun]:
    """What else ``Api.run`` might have answered with."""
    project, slash, last = which.rpartition("/")
    if last != run.id:
        return named(api, last, project if slash else None) if last == run.name else [run]
    others = [] if slash else [name for name in api.projects() if name != run.project]
    return [run] + [api.run(f"{n}/{last}") for n in others if logs(api.root / n / last)]
