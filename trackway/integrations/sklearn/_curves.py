"""Tables of bounded size: what of a curve, a matrix or a scatter is kept, and that it says so."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

__all__ = [
    "BINS",
    "POINTS",
    "Curves",
    "calibration",
    "confusion",
    "distribution",
    "importance",
    "joined",
    "matrix_table",
    "pairs",
    "thinned",
]

POINTS: Final = 1000
"""How many points a curve, a scatter or a list of features keeps."""

BINS: Final = 10
_VALUE_BINS: Final = 50
_LABELS: Final = 200

Columns = dict[str, Any]


def thinned(count: int, *extremes: int) -> Any:
    """Which of ``count`` points are kept: evenly spaced ones, both ends, and the extremes."""
    if count <= POINTS:
        return np.arange(count)
    kept = {int(each) for each in extremes}
    spaced = np.linspace(0, count - 1, POINTS - len(kept)).round().astype(int)
    return np.array(sorted(kept.union(spaced.tolist())))


class Curves:
    """Curves of several classes, one below the other in one table."""

    def __init__(self, x: str, y: str) -> None:
        self.columns: Columns = {"class": [], x: [], y: [], "threshold": []}
        self.areas: list[float] = []
        self._axes = (x, y)
        self._classes: list[Any] = []
        self._points: list[int] = []

    def add(self, label: Any, x: Any, y: Any, thresholds: Any, area: float) -> None:
        """Add the curve of a class, and the area below it."""
        kept = thinned(len(x), int(np.argmax(y - x)))
        label = label.item() if hasattr(label, "item") else label
        self.columns["class"] += [label] * len(kept)
        for name, values in zip((*self._axes, "threshold"), (x, y, thresholds), strict=True):
            self.columns[name] += np.asarray(values)[kept].tolist()
        self.areas.append(area)
        self._classes.append(label)
        self._points.append(len(x))

    def about(self, classes: int) -> Columns:
        """The areas, and how many points and classes there were before any was left out."""
        return {
            "area": dict(zip(map(str, self._classes), self.areas, strict=True)),
            "points": dict(zip(map(str, self._classes), self._points, strict=True)),
            "classes": classes,
        }


def confusion(truth: Any, predicted: Any, labels: Any) -> Any:
    """How often each label (a row) was taken for each (a column); ``labels`` are sorted."""
    count = len(labels)
    cells = np.searchsorted(labels, truth) * count + np.searchsorted(labels, predicted)
    return np.bincount(cells, minlength=count * count).reshape(count, count)


def matrix_table(labels: Any, matrix: Any) -> Columns:
    """A confusion matrix, a row for each cell; of more than 200 labels, the most frequent."""
    if len(labels) > _LABELS:
        largest = np.sort(np.argsort(-matrix.sum(axis=1), kind="stable")[:_LABELS])
        labels, matrix = labels[largest], matrix[np.ix_(largest, largest)]
    rows, columns = np.indices(matrix.shape).reshape(2, -1)
    return {"true": labels[rows], "predicted": labels[columns], "count": matrix.ravel()}


def calibration(positive: Any, probability: Any, label: Any) -> Columns:
    """Of each tenth of the probabilities: their mean, the true share, and how many there are."""
    places = np.clip((probability * BINS).astype(int), 0, BINS - 1)
    counts = np.bincount(places, minlength=BINS)
    sums = np.bincount(places, weights=probability, minlength=BINS)
    trues = np.bincount(places, weights=positive, minlength=BINS)
    there = counts > 0
    return {
        "class": [label.item() if hasattr(label, "item") else label] * int(there.sum()),
        "mean_predicted": (sums[there] / counts[there]).tolist(),
        "fraction_positive": (trues[there] / counts[there]).tolist(),
        "count": counts[there].tolist(),
    }


def joined(tables: list[Columns]) -> Columns:
    """Tables of the same columns, one below the other."""
    if not tables:
        return {}
    return {name: [cell for table in tables for cell in table[name]] for name in tables[0]}


def distribution(values: Any) -> Columns:
    """How values are distributed, such as residuals (true minus predicted)."""
    values = values[np.isfinite(values)]
    counts, edges = np.histogram(values, bins=_VALUE_BINS)
    return {"from": edges[:-1], "to": edges[1:], "count": counts}


def pairs(truth: Any, predicted: Any) -> Columns:
    """True and predicted values, of which the worst two are always among those kept."""
    errors = predicted - truth
    kept = thinned(len(truth), int(np.argmax(errors)), int(np.argmin(errors)))
    return {"true": truth[kept], "predicted": predicted[kept]}


# -- features -------------------------------------------------------------------------------


def importance(model: Any, learned: Any) -> tuple[Columns, Columns]:
    """How much each feature weighs, the weightiest first, and what was taken as its weight."""
    held = getattr(learned, "feature_importances_", None)
    source, signed = "feature_importances_", None
    if held is None:
        held, source = getattr(learned, "coef_", None), "coef_"
    if held is None or not hasattr(held, "shape") or hasattr(held, "tocsr"):
        return {}, {}
    if source == "coef_":
        rows = np.atleast_2d(held)
        signed = rows[0] if len(rows) == 1 else None
        held = np.abs(rows).mean(axis=0)
    order = np.argsort(-np.abs(held), kind="stable")[:POINTS]
    names = _feature_names(model, learned, len(held))
    columns: Columns = {"feature": [names[i] for i in order], "importance": held[order]}
    if signed is not None:
        columns["coefficient"] = signed[order]
    return columns, {"source": source, "features": len(held)}


def _feature_names(model: Any, learned: Any, count: int) -> list[str]:
    for _ in range(BINS):
        model = getattr(model, "best_estimator_", model)
        steps = getattr(model, "steps", None)
        if not isinstance(steps, list) or len(steps) < 2 or model is learned:
            break
        names = _names_before(model)
        if len(names) == count:
            return names
        model = steps[-1][1]
    names = [str(name) for name in getattr(learned, "feature_names_in_", ())]
    return names if len(names) == count else [f"x{i}" for i in range(count)]


def _names_before(pipeline: Any) -> list[str]:
    """What the last step of a pipeline is given; nothing where a step before it cannot tell."""
    try:
        return [str(name) for name in pipeline[:-1].get_feature_names_out()]
    except (AttributeError, TypeError, ValueError):
        return []
