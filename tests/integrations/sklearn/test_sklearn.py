"""scikit-learn: what the shared suite asks of every integration, with a small network."""

from __future__ import annotations

import contextlib
import functools
from typing import Any, ClassVar

import numpy as np
import pytest
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.datasets import load_iris
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline

from tests.integrations.contract import Boom, IntegrationContract, Row
from trackway.integrations.sklearn import _score, watch

pytestmark = [pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")]

EPOCHS = 5


@pytest.fixture(autouse=True)
def scored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fits as short as these are scored too."""
    monkeypatch.setattr(_score, "SHARE", 1e6)


class Half(TransformerMixin, BaseEstimator):
    """The user's own step of a pipeline."""

    def __init__(self, fails: bool = False) -> None:
        self.fails = fails

    def fit(self, x: Any, y: Any = None) -> Half:
        """Learn nothing, or fail."""
        if self.fails:
            raise Boom
        self.fitted_ = True
        return self

    def transform(self, x: Any) -> Any:
        """Halve it."""
        return x / 2


def network() -> MLPClassifier:
    """A network that keeps two series."""
    return MLPClassifier((4,), max_iter=EPOCHS, early_stopping=True, random_state=0)


@functools.lru_cache(maxsize=1)
def fitted() -> Any:
    """The network when trained without tracking, and its score."""
    x, y = load_iris(return_X_y=True)
    model = network().fit(x, y)
    return model, model.score(x, y)


class TestSklearn(IntegrationContract):
    framework = "sklearn"
    explicit_name = "watch"
    unmeasured: ClassVar[tuple[str, ...]] = ("MLPClassifier/fit_s", "Pipeline/fit_s")

    def hook(self, **arguments: Any) -> Any:
        return watch(**arguments)

    def train(self, hook: Any, *, fail: bool = False) -> bytes:
        x, y = load_iris(return_X_y=True)
        with contextlib.nullcontext() if hook is None else hook:
            if fail:
                make_pipeline(Half(fails=True), network()).fit(x, y)
            model = network().fit(x, y)
        drawn: Any = np.random.get_state()
        return b"".join([*(w.tobytes() for w in model.coefs_), drawn[1].tobytes()])

    def expected(self) -> list[Row]:
        return self._expected(1)

    def expected_every_2(self) -> list[Row]:
        return self._expected(2)

    def _expected(self, every: int) -> list[Row]:
        model, score = fitted()
        rows = [
            (f"MLPClassifier/{name}", iteration, value)
            for name in ("loss_curve_", "validation_scores_")
            for iteration, value in enumerate(getattr(model, name), 1)
            if iteration % every == 0
        ]
        single = {
            "n_iter_": EPOCHS,
            "loss_": model.loss_,
            "best_validation_score_": model.best_validation_score_,
            "training_score": score,
        }
        rows += [(f"MLPClassifier/{name}", 1, value) for name, value in single.items()]
        return sorted(rows, key=lambda row: row[:2])

    def expected_config(self) -> dict[str, Any]:
        return {
            "sklearn.MLPClassifier.alpha": 0.0001,
            "sklearn.MLPClassifier.hidden_layer_sizes": [4],
            "sklearn.MLPClassifier.data.n_samples": 150,
            "sklearn.MLPClassifier.data.n_features": 4,
            "sklearn.MLPClassifier.data.sparse": False,
        }
