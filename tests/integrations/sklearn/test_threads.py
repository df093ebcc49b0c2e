"""Trainings in several threads at once: under ``autolog`` each has the run of its own thread."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import optuna
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_iris
from sklearn.neural_network import MLPClassifier

import trackway as tw

pytestmark = [pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")]


class Meeting(ClassifierMixin, BaseEstimator):
    """The user's own classifier, whose fit lasts until all of them have begun."""

    def __init__(self, number: int, barrier: Any) -> None:
        self.number = number
        self.barrier = barrier

    def fit(self, x: Any, y: Any) -> Meeting:
        """Wait for the others."""
        self.barrier.wait(30)
        self.classes_ = [0, 1]
        return self

    def predict(self, x: Any) -> Any:
        """Say nought."""
        return [0] * len(x)


def test_a_run_for_each_thread(root: Path) -> None:
    """Three fits at the same time are three runs, each with the parameters of its own."""
    barrier = threading.Barrier(3)
    tw.autolog(only=["sklearn"])
    fits = [
        threading.Thread(target=Meeting(number, barrier).fit, args=([[0.0], [1.0]], [0, 1]))
        for number in range(3)
    ]
    for thread in fits:
        thread.start()
    for thread in fits:
        thread.join()
    runs = tw.Api(root).runs("p")
    assert sorted(run.config["sklearn"]["Meeting"]["number"] for run in runs) == [0, 1, 2]
    assert {run.state for run in runs} == {"finished"}


def test_trials_in_threads(root: Path) -> None:
    """Of a study with two workers each fit is in the run of its own trial."""
    x, y = load_iris(return_X_y=True)

    def objective(trial: optuna.Trial) -> float:
        width = trial.suggest_int("width", 2, 9)
        model = MLPClassifier((width,), max_iter=5, random_state=0).fit(x, y)
        return float(model.score(x, y))

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    tw.autolog(only=["sklearn", "optuna"], optuna={"trials": "runs"})
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(objective, n_trials=8, n_jobs=2)
    trials = [run for run in tw.Api(root).runs("p") if "width" in run.config]
    assert len(trials) == 8
    for run in trials:
        widths = run.config["sklearn"]["MLPClassifier"]["hidden_layer_sizes"]
        assert widths == [run.config["width"]]
        assert len(run.history("MLPClassifier/loss_curve_")["MLPClassifier/loss_curve_"].steps) == 5
        assert run.troubles == []
