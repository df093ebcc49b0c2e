"""What scikit-learn's objects say of themselves: parameters, data, series, results."""

from __future__ import annotations

import functools
import math
import weakref
from collections.abc import Iterable, Mapping
from typing import Any, Final

from trackway.core._guard import guard

__all__ = [
    "data_facts",
    "learner",
    "model_facts",
    "parameters",
    "progress",
    "results",
    "search_results",
    "search_table",
    "series",
]

SERIES: Final = (
    "loss_curve_",
    "validation_scores_",
    "train_score_",
    "validation_score_",
    "oob_scores_",
    "oob_improvement_",
    "estimator_errors_",
    "estimator_weights_",
    "lower_bounds_",
    "scores_",
    "error_",
)
"""What iterative estimators keep of each iteration."""

RESULTS: Final = (
    "n_iter_",
    "loss_",
    "best_loss_",
    "best_validation_score_",
    "inertia_",
    "oob_score_",
    "lower_bound_",
    "reconstruction_err_",
    "kl_divergence_",
    "stress_",
    "dual_gap_",
    "n_estimators_",
    "best_score_",
)
"""What they keep as one number."""

PROGRESS: Final = ("loss_", "inertia_", "bound_", "t_", "n_samples_seen_")
"""What incremental estimators say after each call."""

_ITEMS: Final = 100
_DEEPEST: Final = 12

_names: weakref.WeakKeyDictionary[type, tuple[str, ...]] = weakref.WeakKeyDictionary()


# -- parameters -----------------------------------------------------------------------------


def parameters(estimator: Any, depth: int = 0) -> dict[str, Any]:
    """Its parameters; an inner estimator is a mapping of its class and its own parameters."""
    return {name: _shown(value, depth) for name, value in _own_parameters(estimator).items()}


def _own_parameters(estimator: Any) -> dict[str, Any]:
    """``get_params(deep=False)``; where that is scikit-learn's own, without its inspection."""
    kind = type(estimator)
    method = getattr(kind, "get_params", None)
    if getattr(method, "__module__", None) != "sklearn.base":
        found = dict(estimator.get_params(deep=False))
        for listed in ("steps", "transformers", "estimators", "transformer_list"):
            if listed in found and isinstance(found[listed], (list, tuple)):
                found[listed] = _Named(found[listed])
        return found
    names = _names.get(kind)
    if names is None:
        names = _names[kind] = tuple(estimator.get_params(deep=False))
    return {name: getattr(estimator, name, None) for name in names}


class _Named(list):  # type: ignore[type-arg]
    """The inner estimators of a composition: tuples of a name, an estimator, and what else."""

    def shown(self, depth: int) -> dict[str, Any]:
        return {str(item[0]): _shown(item[1], depth) for item in self}


def _shown(value: Any, depth: int) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if depth > _DEEPEST:
        return type(value).__name__
    if isinstance(value, type):
        return value.__name__
    if isinstance(value, _Named):
        with guard("sklearn"):
            return value.shown(depth + 1)
        return None
    if hasattr(value, "get_params"):
        return {"class": type(value).__name__, **parameters(value, depth + 1)}
    return _plain(value, depth)


def _plain(value: Any, depth: int) -> Any:
    shape = getattr(value, "shape", None)
    if shape is not None:
        if math.prod(shape) > _ITEMS:
            return f"{type(value).__name__} of {'x'.join(map(str, shape))}"
        return value.tolist() if hasattr(value, "tolist") else repr(value)[:200]
    if isinstance(value, Mapping):
        return {str(k): _shown(v, depth + 1) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        items = [_shown(item, depth + 1) for item in list(value)[:_ITEMS]]
        return items if len(value) <= _ITEMS else [*items, f"… {len(value)} in all"]
    if callable(value):
        return getattr(value, "__qualname__", type(value).__name__)
    said = str(value)[:500]
    return type(value).__name__ if " at 0x" in said else said


# -- data -----------------------------------------------------------------------------------


def data_facts(data: Any) -> dict[str, Any]:
    """Rows, columns, whether sparse, and the type of what was passed to ``fit``."""
    shape = getattr(data, "shape", None)
    found: dict[str, Any] = {}
    if shape:
        found["n_samples"] = int(shape[0])
        if len(shape) > 1:
            found["n_features"] = int(shape[1])
    elif hasattr(data, "__len__"):
        found["n_samples"] = len(data)
        if isinstance(data, (list, tuple)) and data and isinstance(data[0], (list, tuple)):
            found["n_features"] = len(data[0])
    found["sparse"] = hasattr(data, "tocsr")
    dtype = getattr(data, "dtype", None)
    found["type"] = type(data).__name__ if dtype is None else _type_of(type(data).__name__, dtype)
    return found


@functools.lru_cache(maxsize=64)
def _type_of(kind: str, dtype: Any) -> str:
    return f"{kind} of {dtype}"


# -- what was fitted ------------------------------------------------------------------------


def learner(estimator: Any) -> Any:
    """The estimator that learned: the last step of a pipeline, the best one of a search."""
    for _ in range(_DEEPEST):
        inner = getattr(estimator, "best_estimator_", None)
        steps = getattr(estimator, "steps", None)
        if inner is None and isinstance(steps, list) and steps and len(steps[-1]) == 2:
            inner = steps[-1][1]
        if inner is None or isinstance(inner, str):
            break
        estimator = inner
    return estimator


def results(estimator: Any) -> dict[str, float]:
    """The numbers that it keeps of its training."""
    return _numbers(estimator, RESULTS)


def progress(estimator: Any) -> dict[str, float]:
    """The numbers that it keeps of a training which goes on."""
    return _numbers(estimator, PROGRESS)


def _numbers(estimator: Any, names: Iterable[str]) -> dict[str, float]:
    held = getattr(estimator, "__dict__", {})
    found = {}
    for name in names:
        value = held.get(name)
        if value is not None:
            number = _number(value)
            if number is not None:
                found[name] = number
    return found


def _number(value: Any) -> float | None:
    """A number; of an array of them (``n_iter_`` per class), the largest."""
    if isinstance(value, (int, float)):
        return value
    value = value if hasattr(value, "dtype") else None
    if getattr(value, "ndim", 0) == 1 and 0 < value.size <= _ITEMS:
        value = value.max()
    if getattr(value, "shape", None) == () and value.dtype.kind in "iuf":
        number: float = value.item()
        return number
    return None


def series(estimator: Any) -> dict[int, dict[str, float]]:
    """What it keeps of each iteration: the iteration's number to its values."""
    rows: dict[int, dict[str, float]] = {}
    held = getattr(estimator, "__dict__", {})
    for name in SERIES:
        if name not in held:
            continue
        values = _sequence(held[name])
        first = _first(estimator, len(values))
        for iteration, value in enumerate(values, first):
            rows.setdefault(iteration, {})[name] = value
    return rows


def _sequence(value: Any) -> list[float]:
    if hasattr(value, "tolist") and getattr(value, "ndim", 0) == 1:
        value = value.tolist()
    if isinstance(value, list) and all(isinstance(item, (int, float)) for item in value):
        return value
    return []


def _first(estimator: Any, count: int) -> int:
    """Iterations count from 1, but some estimators keep the state before the first one as well."""
    iterations = getattr(estimator, "n_iter_", None)
    return 0 if isinstance(iterations, int) and count == iterations + 1 else 1


def model_facts(estimator: Any) -> dict[str, Any]:
    """What a fitted estimator is."""
    kind = type(estimator)
    found: dict[str, Any] = {"class": kind.__name__, "module": kind.__module__}
    held = getattr(estimator, "__dict__", {})
    for name in ("n_features_in_", "n_outputs_", "n_classes_"):
        if isinstance(held.get(name), int):
            found[name] = held[name]
    for name in ("classes_", "feature_names_in_"):
        value = held.get(name)
        if getattr(value, "ndim", 0) == 1:
            found[name] = held[name][:_ITEMS].tolist()
    coefficients = [held.get("coef_"), held.get("intercept_")]
    for name in ("coefs_", "intercepts_"):
        coefficients += held.get(name) or []
    found["parameters"] = sum(int(getattr(each, "size", 0)) for each in coefficients)
    return found


# -- searches -------------------------------------------------------------------------------


def search_table(search: Any) -> tuple[dict[str, list[Any]], dict[str, Any]]:
    """All candidates of a search, one row each, and what holds for the whole of it."""
    found = search.cv_results_
    columns: dict[str, list[Any]] = {}
    for name, values in found.items():
        if name == "params":
            continue
        cells = values.tolist() if hasattr(values, "tolist") else list(values)
        columns[name] = [_shown(cell, 0) for cell in cells]
    best = getattr(search, "best_index_", None)
    rows = len(found["params"])
    if best is not None:
        columns["best"] = [row == best for row in range(rows)]
    about = {"class": type(search).__name__, "candidates": rows}
    if best is not None:
        about["best"] = int(best)
    if isinstance(getattr(search, "n_splits_", None), int):
        about["splits"] = search.n_splits_
    return columns, about


def search_results(search: Any) -> dict[str, Any]:
    """The best candidate of a search."""
    found: dict[str, Any] = {}
    for name in ("best_params_", "best_score_", "best_index_", "refit_time_"):
        value = getattr(search, name, None)
        if value is not None:
            found[name] = _shown(value, 0)
    return found
