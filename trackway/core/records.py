"""What a run records besides points: tables, histograms, checkpoints, models.

The events are in ``docs/format/log.md``. Nothing here raises for what a value may be; who calls
from a hook does so inside ``guard``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from trackway.core._values import plain

if TYPE_CHECKING:
    from trackway.core.run import Run

__all__ = [
    "BITS_11",
    "record_checkpoint",
    "record_histograms",
    "record_model",
    "record_table",
]

BITS_11: Final = "float-bits-11"
"""Bins by the upper 11 bits of an IEEE single: sign, 8 of exponent, 2 of mantissa."""

_CELLS: Final = 100_000
"""Cells of a table that go into one event; a larger one is told in several."""

_COUNTS: Final = 200_000
"""Counts that go into one event of histograms."""


def record_table(
    run: Run,
    name: str,
    columns: Mapping[str, Iterable[object]],
    *,
    step: int | None = None,
    kind: str | None = None,
    about: Mapping[str, object] | None = None,
) -> None:
    """Record a table; one recorded later under the same name and step takes its place.

    Args:
        run: The run.
        name: What it is called; ``/`` groups.
        columns: Name to values, all of one length: NumPy arrays or anything that can be iterated.
        step: Where in the training it belongs.
        kind: What it is to be drawn as, such as ``roc_curve``; None for a plain table.
        about: What holds for the whole of it.
    """
    lists = {str(column): _cells(run, f"{name}.{column}", v) for column, v in columns.items()}
    rows = max(map(len, lists.values()), default=0)
    size = max(1, _CELLS // max(1, len(lists)))
    for first in range(0, max(1, rows), size):
        fields = {
            "name": plain(name),
            "step": plain(step),
            "kind": kind,
            "about": plain(dict(about or {})) if first == 0 else {},
            "rows": rows,
            "first": first,
            "columns": [[c, cells[first : first + size]] for c, cells in lists.items()],
        }
        run._event("table", fields)


def _cells(run: Run, name: str, values: Any) -> list[Any]:
    found = plain(list(values.tolist() if hasattr(values, "tolist") else values))
    masked = run._redacted(name, found, "table")
    return masked if isinstance(masked, list) else [masked] * len(found)


def record_histograms(
    run: Run,
    data: Mapping[str, Sequence[tuple[int, Sequence[int]]]],
    *,
    of: str,
    step: int,
    scheme: str = BITS_11,
    sharded: bool = False,
) -> None:
    """Record how the values of several tensors are distributed at a step.

    Args:
        run: The run.
        data: The tensor's name to its occupied bins: pieces of ``(first bin, counts)``.
        of: What they are of: ``gradients`` or ``parameters``.
        step: The optimizer's step.
        scheme: What the bins are.
        sharded: Each rank has a part of every tensor, and a reader adds the ranks' counts.
    """
    part: dict[str, Sequence[tuple[int, Sequence[int]]]] = {}
    size = 0
    for name, pieces in data.items():
        part[plain(name)] = pieces
        size += sum([len(counts) for _, counts in pieces]) + 2
        if size >= _COUNTS:
            _histograms(run, part, of, step, scheme, sharded)
            part, size = {}, 0
    if part:
        _histograms(run, part, of, step, scheme, sharded)


def _histograms(
    run: Run, data: dict[str, Any], of: str, step: int, scheme: str, sharded: bool
) -> None:
    fields = {"of": of, "step": plain(step), "scheme": scheme, "sharded": sharded, "data": data}
    run._event("histograms", fields)


def record_checkpoint(
    run: Run,
    path: str | os.PathLike[str],
    *,
    step: int | None = None,
    epoch: float | None = None,
    score: object = None,
    metric: str | None = None,
    aliases: Sequence[str] = (),
    removed: bool = False,
) -> None:
    """Record that a checkpoint lies at a path; the last word on a path counts.

    Args:
        run: The run.
        path: A file or a folder. What is not there any more is recorded without a size.
        step: The step of the training that it holds.
        epoch: The epoch of the training that it holds.
        score: What it was judged by, a number.
        metric: The name of what it was judged by.
        aliases: ``best``, ``latest``: the last checkpoint that has an alias is what it means.
        removed: It was there, and the training has removed it.
    """
    place = os.path.abspath(path)  # as given: a link stays a link
    bytes_, modified = _measured(place)
    fields = {
        "path": run._redacted("path", plain(place), "checkpoint"),
        "bytes": bytes_,
        "modified": modified,
        "step": plain(step),
        "epoch": plain(epoch),
        "score": plain(score),
        "metric": plain(metric),
        "aliases": [plain(alias) for alias in aliases],
        "removed": removed,
    }
    run._event("checkpoint", fields)


def _measured(place: str) -> tuple[int | None, float | None]:
    """Bytes and the time of the last change; a folder's are those of the files right in it."""
    path = Path(place)
    try:
        if not path.is_dir():
            found = path.stat()
            return found.st_size, found.st_mtime
        files = [inner.stat() for inner in path.iterdir() if inner.is_file()]
    except OSError:
        return None, None
    return sum(f.st_size for f in files), max((f.st_mtime for f in files), default=None)


def record_model(run: Run, name: str, about: Mapping[str, object]) -> None:
    """Record what a model is made of; the last word on a name counts.

    Args:
        run: The run.
        name: ``model``, where there is only one.
        about: ``class``, ``parameters``, ``trainable``, ``bytes`` (numbers), ``dtypes`` (name to
            number of parameters), ``tree`` (an array of ``{path, class, parameters, trainable}``,
            outer modules before inner ones), and whatever else the framework tells.
    """
    run._event("model", {"name": plain(name), "about": plain(dict(about))})
