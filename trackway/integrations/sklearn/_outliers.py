"""What ``evaluate`` says of a model that detects outliers: -1 is an outlier, 1 is none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trackway.errors import ArgumentError
from trackway.integrations.sklearn import _curves

__all__ = ["measure", "truth"]


def truth(y: Any) -> Any:
    """Whether each sample is an outlier.

    Raises:
        ArgumentError: It cannot be told which label stands for outliers.
    """
    import numpy as np

    found = np.asarray(y).ravel()
    if found.dtype == bool:
        return found
    if not np.isin(found, (-1, 1)).all():
        raise ArgumentError(
            "y holds other labels than -1 and 1: pass -1 for outliers and 1 for the others, as "
            "predict() does, or True for outliers and False for the others"
        )
    return found == -1


def measure(
    model: Any, data: Any, y: Any, predicted: Any, scores: Any, keep: Callable[..., None]
) -> dict[str, float]:
    """The share of outliers, how the scores are distributed, and what of it is true."""
    import numpy as np

    outliers = np.asarray(predicted) == -1
    numbers = {"outliers": float(outliers.mean())}
    if scores is not None:
        columns = _curves.distribution(np.asarray(scores, dtype=float).ravel())
        keep("outlier_scores", columns, samples=len(outliers), threshold=0.0)
    if y is not None:
        hits = float((outliers & y).sum())
        for name, of in (("precision", outliers), ("recall", y)):
            if of.any():
                numbers[name] = hits / float(of.sum())
    return numbers
