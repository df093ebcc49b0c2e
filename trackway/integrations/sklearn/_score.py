"""The training score: on few rows, where it is cheap, and without a trace of having been asked."""

from __future__ import annotations

import random
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

__all__ = ["Scoring", "generators_kept", "quiet"]

ROWS: Final = 1000
"""On how many rows, evenly spaced over the training data, the score is taken at most."""

SHARE = 0.005
"""The share of the time of all fits so far that all scores so far may have taken."""

FIRST_S: Final = 0.001
"""What the first score of a class is expected to take: so fits of 0.2 s come before it."""

_PROBE: Final = 32

_warnings_lock = threading.Lock()


class Scoring:
    """Decides whether a fit is scored, and scores it: only where the cost fits into the share.

    Args:
        wanted: False never does.
    """

    def __init__(self, wanted: bool) -> None:
        self._wanted = wanted
        self._fit_s = 0.0
        self._score_s = 0.0
        self._costs: dict[type, float] = {}

    def score(self, estimator: Any, data: Any, target: Any, fit_s: float) -> float | None:
        """``estimator.score`` on rows of its training data; None where that is not cheap."""
        self._fit_s += fit_s
        if not self._wanted or data is None or target is None:
            return None
        kind = type(estimator)
        left_s = SHARE * self._fit_s - self._score_s
        if left_s < self._costs.get(kind, FIRST_S):
            return None
        started = time.perf_counter()
        try:
            if not _is_quiet(estimator):
                return None
            with generators_kept(), quiet():
                return _on_rows(estimator, data, target, left_s)
        finally:
            self._costs[kind] = time.perf_counter() - started
            self._score_s += self._costs[kind]


def _is_quiet(estimator: Any) -> bool:
    """Whether predicting draws no number, prints nothing and calls nobody's code.

    That is known of scikit-learn's own classifiers and regressors, whose parameters say it.
    """
    from sklearn.base import is_classifier, is_regressor

    if not _is_own(estimator) or hasattr(estimator, "cv_results_"):
        return False
    if not is_classifier(estimator) and not is_regressor(estimator):
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
    kind: type = type(estimator)
    return kind.__module__.startswith("sklearn.") and not kind.__name__.startswith("Dummy")


def _is_tame(value: Any) -> bool:
    if hasattr(value, "get_params"):
        return _is_own(value)
    if isinstance(value, (list, tuple)):
        return all(_is_tame(item) for item in value)
    if callable(value):
        module = str(getattr(value, "__module__", None))
        return module.partition(".")[0] in ("sklearn", "numpy", "scipy")
    return type(value).__name__ not in ("RandomState", "Generator")


@contextmanager
def generators_kept() -> Iterator[None]:
    """The global generators of random numbers are afterwards what they were before."""
    import numpy as np

    numbers, states = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(numbers)
        np.random.set_state(states)


@contextmanager
def quiet() -> Iterator[None]:
    """No warning of what we compute reaches the program."""
    with _warnings_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _on_rows(estimator: Any, data: Any, target: Any, left_s: float) -> float | None:
    """The score on as many rows as can be predicted in the time that is left."""
    import numpy as np
    from sklearn.utils import _safe_indexing

    total = data.shape[0] if hasattr(data, "shape") else len(data)
    if total < 2:
        return None
    rows = min(total, ROWS)
    if rows > _PROBE:
        started = time.perf_counter()
        estimator.predict(_safe_indexing(data, np.arange(_PROBE)))
        each = (time.perf_counter() - started) / _PROBE
        rows = max(_PROBE, min(rows, int(left_s / max(each, 1e-9)) - _PROBE))
    if rows < total:
        chosen = np.linspace(0, total - 1, rows).astype(np.intp)
        data, target = _safe_indexing(data, chosen), _safe_indexing(target, chosen)
    score: float = float(estimator.score(data, target))
    return score
