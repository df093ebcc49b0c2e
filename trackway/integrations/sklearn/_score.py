"""The training score: on few rows, where it is cheap, and without a trace of having been asked."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from trackway.integrations.sklearn._values import learner

__all__ = ["Scoring"]

ROWS: Final = 1000
"""On how many rows, evenly spaced over the training data, the score is taken at most."""

SHARE = 0.005
"""The share of a fit's own time that its score may take."""

LEAST_ROWS: Final = 32
"""On fewer rows (where there are more) a score says too little."""

FIRST_S: Final = 0.001
"""What a score takes at least, before anything is known: so fits of less than 0.2 s have none."""

_PART_S: Final = 2e-4
_NUMBER_S: Final = 1e-9
"""What a member of an ensemble, and a number that was learned, takes of a prediction at least."""

_MEASURE_S: Final = 2e-4
"""What is kept back for the measure itself."""

_GROWTH: Final = 8

_DRAWS: Final = frozenset(
    {
        "DictionaryLearning",
        "DummyClassifier",
        "DummyRegressor",
        "IterativeImputer",
        "MiniBatchDictionaryLearning",
        "MiniBatchNMF",
        "NMF",
        "SparseCoder",
    }
)
"""What draws numbers, or may, when it predicts or transforms."""

_ACCURACY: Final = ("KNeighborsClassifier", "RadiusNeighborsClassifier")
"""Classifiers with a ``score`` of their own that is the accuracy all the same."""

_BULK: Final = 64
"""A call of an ensemble of trees takes twice as long as for one row with about as many rows."""


class Scoring:
    """Decides whether a fit is scored, and scores it: only where the cost fits into the share.

    Args:
        wanted: False never does.
    """

    def __init__(self, wanted: bool) -> None:
        self._wanted = wanted
        self._least_s: dict[type, float] = {}

    def score(self, estimator: Any, data: Any, target: Any, fit_s: float) -> float | None:
        """What ``estimator.score`` says of rows of its training data; None if that is not cheap."""
        started = time.perf_counter()
        kind, budget_s = type(estimator), SHARE * fit_s
        if not self._wanted or data is None or target is None:
            return None
        if budget_s < self._least_s.get(kind, FIRST_S) or budget_s < _expected_s(estimator):
            return None
        measure = _measure(estimator)
        if measure is None:
            return None
        found = _on_rows(estimator, data, target, measure, started + budget_s - _MEASURE_S)
        if found is None:
            # Nothing came of it, so the next attempt has to have twice as much to spend.
            self._least_s[kind] = 2 * max(budget_s, time.perf_counter() - started)
        return found


def _expected_s(estimator: Any) -> float:
    """What a prediction takes at least, by the size of what was learned."""
    held = getattr(learner(estimator), "__dict__", {})
    parts = max((len(held[n]) for n in ("estimators_", "_predictors") if n in held), default=0)
    numbers = sum(getattr(value, "size", 0) for value in held.values() if _is_array(value))
    return FIRST_S + parts * _PART_S + numbers * _NUMBER_S


def _has_trees(estimator: Any) -> bool:
    """Whether it asks many trees, so that a call is dear and a row is cheap."""
    learned = learner(estimator)
    members = getattr(learned, "estimators_", ())
    return hasattr(learned, "_predictors") or (len(members) > 0 and hasattr(_one(members), "tree_"))


def _one(members: Any) -> Any:
    return members[0] if isinstance(members, list) else getattr(members, "flat", [None])[0]


def _is_array(value: Any) -> bool:
    return type(value).__name__ == "ndarray"


# -- of what --------------------------------------------------------------------------------


def _measure(estimator: Any) -> Callable[[Any, Any], float] | None:
    """What its ``score`` computes of truth and predictions; None where asking leaves a trace.

    Predicting must draw no number, print nothing and call nobody's code. That is known of
    scikit-learn's own classifiers and regressors, whose parameters say it.
    """
    from sklearn.base import ClassifierMixin, RegressorMixin, is_classifier, is_regressor

    learned = learner(estimator)
    scores = getattr(type(learned), "score", None)
    if hasattr(estimator, "cv_results_") or not _is_own(learned):
        return None
    plain = scores is ClassifierMixin.score or type(learned).__name__ in _ACCURACY
    if is_classifier(estimator) and plain:
        measure = _accuracy
    elif is_regressor(estimator) and scores is RegressorMixin.score:
        measure = _r2
    else:
        return None
    return measure if _is_quiet(estimator) else None


def _accuracy(truth: Any, predicted: Any) -> float:
    return float((truth == predicted).mean())


def _r2(truth: Any, predicted: Any) -> float:
    from sklearn.metrics import r2_score

    return float(r2_score(truth, predicted))


def _is_quiet(estimator: Any) -> bool:
    if not _is_own(estimator):
        return False
    found = estimator.get_params(deep=True)
    of = {"verbose": False, "n_jobs": False}
    for name, value in found.items():
        last = name.rpartition("__")[2]
        if last in of:
            of[last] = of[last] or last == "n_jobs" or bool(value)
    talks = all(of.values())  # what is run by joblib tells of predicting too
    return not talks and all(_is_tame(value) for value in found.values())


def _is_own(estimator: Any) -> bool:
    kind = type(estimator)
    return kind.__module__.startswith("sklearn.") and kind.__name__ not in _DRAWS


def _is_tame(value: Any) -> bool:
    if hasattr(value, "get_params"):
        return _is_own(value)
    if isinstance(value, (list, tuple)):
        return all(_is_tame(item) for item in value)
    if isinstance(value, Mapping):
        return all(_is_tame(item) for item in value.values())
    if callable(value) and not isinstance(value, type):
        return str(getattr(value, "__module__", None)).startswith("sklearn.")
    return type(value).__name__ not in ("RandomState", "Generator")


# -- on what --------------------------------------------------------------------------------


def _on_rows(
    estimator: Any,
    data: Any,
    target: Any,
    measure: Callable[[Any, Any], float],
    until: float,
) -> float | None:
    """The score on as many rows as are predicted until then; None where those are too few.

    First one row is predicted, then some more if there seems to be time for them, and so on: the
    time is known before it is spent. Whatever their number, they lie all over the data.
    """
    import numpy as np
    from sklearn.utils import _safe_indexing

    total = data.shape[0] if hasattr(data, "shape") else len(data)
    if total < 2 or getattr(data, "format", "csr") != "csr":  # rows of other sparse ones are dear
        return None
    chosen = np.linspace(0, total - 1, min(total, ROWS)).astype(np.intp)
    order = np.random.RandomState(0).permutation(len(chosen))
    bulk = _BULK if _has_trees(estimator) else 0
    least = min(LEAST_ROWS, len(chosen))
    parts: list[Any] = []
    done, last, rows = 0, 0, 1
    with np.errstate(all="ignore"):
        while rows:
            part = chosen[order[done : done + rows]]
            started = time.perf_counter()
            parts.append(estimator.predict(_safe_indexing(data, part)))
            now = time.perf_counter()
            done, last = done + rows, rows
            each_s = max((now - started) / (last + bulk), 1e-9)
            wanted = min(max(last, bulk) * _GROWTH, len(chosen) - done)
            rows = max(0, min(int((until - now) / each_s) - bulk, wanted))
            if rows < wanted and done + rows < least:
                return None
    place = np.argsort(order[:done])
    truth = np.asarray(_safe_indexing(target, chosen[order[:done][place]]))
    predicted = np.concatenate(parts)[place]
    return measure(truth, predicted) if truth.shape == predicted.shape else None
