"""Which runs are meant: by name or id, by project, by what a filter says of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from trackway.api._api import Api
from trackway.api._run import StoredRun
from trackway.backend.file.folder import logs
from trackway.backend.index.contract import RunRef

__all__ = ["is_project", "selected"]


def is_project(api: Api, target: str) -> bool:
    """Whether the word names a project, and no run has it for its id."""
    there = api.projects()
    if target not in there:
        return False
    return not any(logs(api.root / name / target) for name in there)


def selected(api: Api, targets: Iterable[str] = (), text: str | None = None) -> Sequence[StoredRun]:
    """The runs that are meant, each once, in the order of the words, newest first.

    Args:
        api: The folder they are in.
        targets: Projects, and runs as ``Api.run`` takes them; without any all runs.
        text: A filter that they must pass too, as ``config.lr < 0.1 and state == "finished"``.

    Raises:
        NotFoundError: There is no such run.
        ArgumentError: The filter is none.
    """
    api.refresh()
    words = list(targets)
    if not words:
        return api.runs(filter=text)
    found: dict[RunRef, StoredRun] = {}
    for word in words:
        runs = api.runs(word) if is_project(api, word) else [api.run(word)]
        found.update({RunRef(run.project, run.id): run for run in runs})
    if text is not None:
        passing = {RunRef(run.project, run.id) for run in api.runs(filter=text)}
        found = {ref: run for ref, run in found.items() if ref in passing}
    return list(found.values())
