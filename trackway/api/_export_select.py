"""Which runs are meant: by name or id, by project, by what a filter says of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from trackway.api._api import Api
from trackway.api._export_table import run_document_row
from trackway.api._run import StoredRun
from trackway.backend.file.folder import logs

__all__ = ["filtered", "is_project", "selected"]


def is_project(api: Api, target: str) -> bool:
    """Whether the word names a project, and no run has it for its id."""
    there = api.projects()
    if target not in there:
        return False
    return not any(logs(api.root / name / target) for name in there)


def selected(api: Api, targets: Iterable[str] = (), text: str | None = None) -> list[StoredRun]:
    """The runs that are meant, each once, in the order of the words, newest first.

    Args:
        api: The folder they are in.
        targets: Projects, and runs as ``Api.run`` takes them; without any all runs.
        text: A filter that they must pass too, as ``config.lr < 0.1 and state == "finished"``.

    Raises:
        NotFoundError: There is no such run.
        ArgumentError: The filter is none.
    """
    words = list(targets)
    found: dict[tuple[str, str], StoredRun] = {}
    for word in words:
        runs = api.runs(word) if is_project(api, word) else [api.run(word)]
        found.update({(run.project, run.id): run for run in runs})
    runs = list(found.values()) if words else api.runs()
    return runs if text is None else filtered(runs, text)


def filtered(runs: Sequence[StoredRun], text: str) -> list[StoredRun]:
    """The runs that pass a filter, in their order.

    Raises:
        ArgumentError: The filter is none; the message has the place.
    """
    from trackway.backend.index.columns import Column, value_at
    from trackway.backend.index.table import Table

    documents = [_document(run) for run in runs]

    def column(path: tuple[str, ...]) -> Column:
        return Column.of([value_at(document, path) for document in documents])

    index = Table(len(documents), column).select(text, None).index
    return [runs[place] for place in sorted(index.tolist())]


def _document(run: StoredRun) -> dict[str, Any]:
    # Read anew: what is read to judge the runs is not to stay in memory for all of them.
    return run_document_row(StoredRun(run.path.parent.parent, run.project, run.id))
