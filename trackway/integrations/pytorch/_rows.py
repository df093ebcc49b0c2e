"""From what was read to what is recorded: the row of metrics and the histograms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from trackway.integrations.pytorch._bits import Pieces, nonfinite, pieces
from trackway.integrations.pytorch._read import Entry

__all__ = ["Columns", "Found", "found", "histograms", "metrics", "total"]

Arrays = dict[str, "np.ndarray[Any, Any]"]
Floats = npt.NDArray[np.float64]


class Columns:
    """The names of what is read, and the order of the model.

    Args:
        groups: The parameters as they are read.
    """

    def __init__(self, groups: Sequence[Sequence[Entry]]) -> None:
        entries = [entry for group in groups for entry in group]
        self.order = np.array(
            sorted(range(len(entries)), key=lambda index: entries[index].order), np.intp
        )
        self.entries = [entries[index] for index in self.order.tolist()]
        self.names = [entry.name for entry in self.entries]
        parts = ["shard_" if entry.sharded else "" for entry in self.entries]
        self.part = "shard_" if any(parts) else ""
        self.norms = [f"gradients/{p}norm/{n}" for p, n in zip(parts, self.names, strict=True)]
        self.ratios = [f"updates/{p}ratio/{n}" for p, n in zip(parts, self.names, strict=True)]
        # The entries hold tensors: only what is said of them is kept.
        self.entries = [entry._replace(parameter=None, values=None) for entry in self.entries]


class Found(NamedTuple):
    """What was read, in the order of the model.

    Attributes:
        columns: Whose it is.
        norms: The norms, if they were asked for.
        bad: How many values are not finite.
        moved: How far each moved, and the norm before; NaN where that is not known.
        read: Whether gradients were read at all.
    """

    columns: Columns
    norms: Floats | None
    bad: npt.NDArray[np.int64]
    moved: npt.NDArray[Any] | None
    known: npt.NDArray[np.bool_] | None
    read: bool

    def first_bad(self) -> str | None:
        """The first parameter, in the order of the model, whose gradient is not finite."""
        where = np.flatnonzero(self.bad)
        return self.columns.names[where[0]] if len(where) else None


def found(
    columns: Columns, groups: Sequence[tuple[list[Entry], list[int]]], arrays: Sequence[Arrays]
) -> Found:
    """What was read of each parameter, in the order of the model.

    Args:
        columns: The parameters.
        groups: Those of each group, and the places of those whose update was measured.
        arrays: What was read of each group.
    """
    order = columns.order
    norms = None
    if arrays and all("norms" in each for each in arrays):
        norms = np.concatenate([each["norms"] for each in arrays]).astype(np.float64)[order]
    bad = [_bad(len(e), each) for (e, _), each in zip(groups, arrays, strict=True)]
    moved, known = _moved(columns, groups, arrays)
    joined = np.concatenate([np.zeros(0, np.int64), *bad])
    read = any("bad" in each or "gradients" in each for each in arrays)
    return Found(columns, norms, joined[order] if bad else joined, moved, known, read)


def _bad(size: int, arrays: Arrays) -> npt.NDArray[np.int64]:
    if "bad" in arrays:
        return arrays["bad"].astype(np.int64)
    if "gradients" in arrays:
        return nonfinite(arrays["gradients"])
    return np.zeros(size, np.int64)


def _moved(
    columns: Columns, groups: Sequence[tuple[list[Entry], list[int]]], arrays: Sequence[Arrays]
) -> tuple[npt.NDArray[Any] | None, npt.NDArray[np.bool_] | None]:
    if not any("moved" in each for each in arrays):
        return None, None
    moved = np.zeros((2, len(columns.names)))
    known = np.zeros(len(columns.names), np.bool_)
    start = 0
    for (entries, places), each in zip(groups, arrays, strict=True):
        if "moved" in each:
            at = start + np.array(places, np.intp)
            moved[:, at] = each["moved"]
            known[at] = True
        start += len(entries)
    return moved[:, columns.order], known[columns.order]


def metrics(found: Found, alone: bool) -> dict[str, float]:
    """The metrics of a reading. What is a part only is called so.

    Args:
        found: What was read.
        alone: There is no total: the optimizer holds one parameter out of many.
    """
    row: dict[str, float] = {}
    columns = found.columns
    if found.read and not alone and len(found.bad):
        row[f"gradients/{columns.part}nonfinite"] = int(found.bad.sum())
    if found.norms is not None and len(found.norms):
        if not alone:
            row[f"gradients/{columns.part}norm"] = total(found.norms)
        row.update(zip(columns.norms, found.norms.tolist(), strict=True))
    if found.moved is not None and found.known is not None:
        distances, sizes = found.moved
        shown = found.known & (sizes != 0)  # a parameter that was all zeros has no ratio
        with np.errstate(all="ignore"):
            ratios = (distances / sizes).tolist()
        if shown.all():
            row.update(zip(columns.ratios, ratios, strict=True))
        else:
            row.update(
                (name, ratio)
                for name, ratio, show in zip(columns.ratios, ratios, shown.tolist(), strict=True)
                if show
            )
    return row


def total(norms: Sequence[float] | Floats) -> float:
    """The norm of all from the norms of each, also where their squares would be too large."""
    values = np.asarray(norms, np.float64)
    largest = float(np.abs(values).max())
    if largest == 0 or not np.isfinite(largest):
        return largest if not np.isnan(values).any() else float("nan")
    return largest * float(np.sqrt(np.square(values / largest).sum()))


def histograms(
    columns: Columns,
    groups: Sequence[tuple[list[Entry], list[int]]],
    arrays: Sequence[Arrays],
    of: str,
) -> dict[bool, dict[str, Pieces]]:
    """The occupied bins of each parameter: of those that are whole, and of parts of them."""
    every: list[Pieces] = []
    for (entries, _), each in zip(groups, arrays, strict=True):
        if of not in each:
            return {}
        counts = each[of]
        if of == "gradients" and any(entry.absent for entry in entries):
            counts = counts.copy()
            counts[:, 0] += np.array([entry.absent for entry in entries], counts.dtype)
        every += pieces(counts)
    data: dict[bool, dict[str, Pieces]] = {False: {}, True: {}}
    for entry, index in zip(columns.entries, columns.order.tolist(), strict=True):
        if entry.counted:
            data[entry.sharded][entry.name] = every[index]
    return data
