"""From what was read to what is recorded: the row of metrics and the histograms."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from trackway.integrations.pytorch._bits import Counts, nonfinite, pieces
from trackway.integrations.pytorch._read import Entry

__all__ = ["Found", "first_bad", "histograms", "metrics"]

Arrays = dict[str, "np.ndarray[Any, Any]"]


class Found(NamedTuple):
    """What was read of one parameter."""

    entry: Entry
    norm: float | None
    bad: int
    ratio: float | None


def founds(groups: Iterable[tuple[list[Entry], list[Entry], Arrays]]) -> list[Found]:
    """What was read of each parameter, in the order of the model.

    Args:
        groups: For each device the parameters, those of them whose update was measured, and
            the results.
    """
    found: list[Found] = []
    for entries, moving, arrays in groups:
        norms = arrays["norms"].tolist() if "norms" in arrays else [None] * len(entries)
        bad = _bad(entries, arrays)
        ratios = _ratios(moving, arrays)
        found += [
            Found(entry, norm, count, ratios.get(entry.key))
            for entry, norm, count in zip(entries, norms, bad, strict=True)
        ]
    return sorted(found, key=lambda each: each.entry.order)


def _bad(entries: list[Entry], arrays: Arrays) -> list[int]:
    if "bad" in arrays:
        return [int(count) for count in arrays["bad"]]
    if "gradients" in arrays:
        return [int(count) for count in nonfinite(arrays["gradients"])]
    return [0] * len(entries)


def _ratios(moving: list[Entry], arrays: Arrays) -> dict[int, float]:
    """The update relative to the weights; a parameter that was all zeros has none."""
    if "moved" not in arrays:
        return {}
    moved, sizes = arrays["moved"].tolist()
    return {
        entry.key: distance / size
        for entry, distance, size in zip(moving, moved, sizes, strict=True)
        if size != 0
    }


def metrics(found: list[Found], alone: bool) -> dict[str, float]:
    """The metrics of a reading. What is a part only is called so.

    Args:
        found: What was read.
        alone: There is no total: the optimizer holds one parameter out of many.
    """
    row: dict[str, float] = {}
    norms = [each.norm for each in found if each.norm is not None]
    if norms:
        part = "shard_" if any(each.entry.sharded for each in found) else ""
        if not alone:
            row[f"gradients/{part}norm"] = total(norms)
            row[f"gradients/{part}nonfinite"] = sum(each.bad for each in found)
    for each in found:
        if each.norm is not None:
            part = "shard_" if each.entry.sharded else ""
            row[f"gradients/{part}norm/{each.entry.name}"] = each.norm
    for each in found:
        if each.ratio is not None:
            part = "shard_" if each.entry.sharded else ""
            row[f"updates/{part}ratio/{each.entry.name}"] = each.ratio
    return row


def total(norms: list[float]) -> float:
    """The norm of all from the norms of each, also where their squares would be too large."""
    values = np.array(norms, np.float64)
    largest = float(np.abs(values).max())
    if largest == 0 or not np.isfinite(largest):
        return largest if not np.isnan(values).any() else float("nan")
    return largest * float(np.sqrt(np.square(values / largest).sum()))


def first_bad(found: list[Found]) -> str | None:
    """The first parameter, in the order of the model, whose gradient is not finite."""
    return next((each.entry.name for each in found if each.bad), None)


def histograms(
    groups: Iterable[tuple[list[Entry], Arrays]], of: str
) -> dict[bool, dict[str, list[tuple[int, list[int]]]]]:
    """The occupied bins of each parameter: of those that are whole, and of parts of them."""
    data: dict[bool, dict[str, list[tuple[int, list[int]]]]] = {False: {}, True: {}}
    rows: list[tuple[Entry, Counts]] = []
    for entries, arrays in groups:
        if of in arrays:
            rows += list(zip(entries, arrays[of], strict=True))
    for entry, row in sorted(rows, key=lambda item: item[0].order):
        if not entry.counted:
            continue
        if of == "gradients" and entry.absent:
            row = row.copy()
            row[0] += entry.absent
        data[entry.sharded][entry.name] = pieces(row)
    return data
