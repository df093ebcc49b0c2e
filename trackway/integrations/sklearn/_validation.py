"""What ``cross_validate`` and its siblings return, as tables and as numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["summary_of", "table_of"]

Columns = dict[str, list[Any]]


def table_of(function: str, result: Any) -> tuple[Columns, dict[str, object]]:
    """The scores, a row for each fold, each size of the training set, or each permutation."""
    columns = _columns(function, result)
    rows = max(map(len, columns.values()), default=0)
    return columns, {"function": function, "rows": rows} if columns else {}


def _columns(function: str, result: Any) -> Columns:
    if function == "cross_validate":
        keys = [key for key in result if key not in ("estimator", "indices")]
        columns: Columns = {"fold": list(range(len(result[keys[0]])))} if keys else {}
        columns.update((key, result[key].tolist()) for key in keys)
        return columns
    if function == "cross_val_score":
        return {"fold": list(range(len(result))), "test_score": result.tolist()}
    if function == "permutation_test_score":
        return {"permutation_score": result[1].tolist()}
    if function == "learning_curve":
        return {"train_size": result[0].tolist(), **_curves(result[1], result[2])}
    if function == "validation_curve":
        return _curves(result[0], result[1])
    return {}


def _curves(training: Any, test: Any) -> Columns:
    """Mean and deviation over the folds, of each point of a curve."""
    columns: Columns = {}
    for name, scores in (("train_score", training), ("test_score", test)):
        columns[f"mean_{name}"] = scores.mean(axis=1).tolist()
        columns[f"std_{name}"] = scores.std(axis=1).tolist()
    return columns


def summary_of(function: str, result: Any) -> dict[str, Any]:
    """The means and deviations over the folds."""
    found: dict[str, Any] = {}
    if function == "cross_validate" and isinstance(result, Mapping):
        scores = {key: result[key] for key in result if key.startswith(("test_", "train_"))}
    elif function == "cross_val_score":
        scores = {"test_score": result}
    elif function == "permutation_test_score":
        return {"score": float(result[0]), "p_value": float(result[2])}
    else:
        scores = {}
    for name, values in scores.items():
        found[f"mean_{name}"] = float(values.mean())
        found[f"std_{name}"] = float(values.std())
    return found
