"""LightGBM: ``train``, ``cv`` and the estimators, recorded by the callback and by ``autolog``."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Callable
from typing import Any

import lightgbm
import lightgbm.engine
import numpy as np
import pytest
from lightgbm.callback import EarlyStopException
from sklearn.datasets import load_breast_cancer

import trackway as tw
from tests.integrations.contract import Boom, IntegrationContract, Row, rows_of
from trackway.api import StoredRun
from trackway.core import current
from trackway.integrations.lightgbm import TrackwayCallback, _ending, _hooks
from trackway.integrations.lightgbm._values import results, row

X, Y = load_breast_cancer(return_X_y=True)
X, Y = X[:200], Y[:200]
PARAMS = {
    "objective": "binary",
    "metric": ["binary_logloss", "auc"],
    "num_leaves": 4,
    "eta": 0.2,
    "bagging_fraction": 0.7,
    "bagging_freq": 1,
    "seed": 3,
    "num_threads": 1,
    "verbosity": -1,
}
UNMEASURED = ("rounds_per_s",)
MADE = EarlyStopException.__init__


def data() -> tuple[Any, Any]:
    """Data to train with, and to evaluate with."""
    train_set = lightgbm.Dataset(X[:150], Y[:150])
    return train_set, lightgbm.Dataset(X[150:], Y[150:], reference=train_set)


class Bomb:
    """The user's own callback, which raises something in a round."""

    def __init__(self, at: int, error: Exception, order: int = 5) -> None:
        self.at, self.error, self.order = at, error, order

    def __call__(self, env: Any) -> None:
        """Raise."""
        if env.iteration == self.at:
            raise self.error


class Stop(Bomb):
    """The user's own callback, which stops the training in a round."""

    def __init__(self, at: int, order: int = 5) -> None:
        super().__init__(at, Exception(), order)

    def __call__(self, env: Any) -> None:
        """Stop."""
        if env.iteration == self.at:
            raise EarlyStopException(0, env.evaluation_result_list)


def train(hook: Any = None, rounds: int = 5, **arguments: Any) -> tuple[Any, dict[str, Any]]:
    """A tiny training; returns the booster and its history."""
    train_set, valid = data()
    history: dict[str, Any] = {}
    callbacks = [*arguments.pop("callbacks", []), *([] if hook is None else [hook])]
    arguments.setdefault("valid_sets", [train_set, valid])
    arguments.setdefault("valid_names", ["train", "valid"])
    if arguments["valid_sets"]:
        callbacks.append(lightgbm.record_evaluation(history))
    booster = lightgbm.train(
        {**PARAMS, **arguments.pop("params", {})},
        train_set,
        rounds,
        callbacks=callbacks,
        **arguments,
    )
    return booster, history


def rows(history: dict[str, Any], first: int = 0) -> list[Row]:
    """The rows of a history, the first round being that step."""

    def name(dataset: str, metric: str) -> str:
        text = f"{dataset}/{metric}".replace("-mean", "").replace("-stdv", "_std")
        return text.replace("cv_agg/valid ", "valid/")  # before LightGBM 4.7

    found = [
        (name(dataset, metric), first + i, value)
        for dataset, metrics in history.items()
        for metric, values in metrics.items()
        for i, value in enumerate(values)
    ]
    return sorted(found, key=lambda row: row[:2])


def table(run: StoredRun) -> dict[str, list[Any]]:
    """The columns of the run's one table of importances."""
    (event,) = list(run.events("table"))
    assert event.fields["kind"] == event.fields["name"] == "feature_importance"
    return dict(event.fields["columns"])


@pytest.fixture(autouse=True)
def as_before() -> Any:
    """A training that has ended has left nothing behind in LightGBM."""
    yield
    _ending._patches.undo()  # one that was left by an error waits for the next one
    assert EarlyStopException.__init__ is MADE


class TestLightGBM(IntegrationContract):
    """The shared suite, with ``lightgbm.train``."""

    framework = "lightgbm"
    unmeasured = UNMEASURED
    history: dict[str, Any]

    @classmethod
    def setup_class(cls) -> None:
        """LightGBM's own history of the training, before anything records it."""
        _, cls.history = train()

    def hook(self, **arguments: Any) -> Any:
        """The callback."""
        return TrackwayCallback(**arguments)

    def train(self, hook: Any, *, fail: bool = False) -> bytes:
        """Five rounds; the model's text."""
        booster, _ = train(hook, callbacks=[Bomb(2, Boom())] if fail else [])
        return str(booster.model_to_string()).encode()

    def expected(self) -> list[Row]:
        """What LightGBM's own history holds."""
        return rows(self.history)

    def expected_every_2(self) -> list[Row]:
        """The even rounds."""
        return [row for row in self.expected() if row[1] % 2 == 0]

    def expected_config(self) -> dict[str, Any]:
        """What was given, what was not, and what ``train`` was called with."""
        return {
            "lightgbm.num_leaves": 4,
            "lightgbm.eta": 0.2,
            "lightgbm.learning_rate": 0.2,
            "lightgbm.objective": "binary",
            "lightgbm.metric": ["binary_logloss", "auc"],
            "lightgbm.boosting": "gbdt",
            "lightgbm.min_data_in_leaf": 20,
            "lightgbm.num_boost_round": 5,
            "lightgbm.n_rows": 150,
            "lightgbm.n_features": 30,
            "lightgbm.eval_rows": {"valid": 50},
        }


@pytest.mark.parametrize("position", ["before", "after"])
@pytest.mark.parametrize("rounds", [60, 3, 1])
def test_early_stopping(position: str, rounds: int, stored: Callable[..., StoredRun]) -> None:
    """However a training with early stopping ends, its run is finished with all there is."""
    stopping = lightgbm.early_stopping(2, verbose=False)
    hook = TrackwayCallback()
    callbacks = [stopping, hook] if position == "before" else [hook, stopping]
    booster, history = train(None, rounds, callbacks=callbacks)
    assert current.open_runs() == []
    run = stored()
    assert run.state == "finished"
    assert rows_of(run, UNMEASURED) == rows(history)
    assert run.summary["best_iteration"] == booster.best_iteration
    for dataset, scores in booster.best_score.items():
        for metric, value in scores.items():
            assert run.summary[f"best_score/{dataset}/{metric}"] == value
    assert run.config["lightgbm"]["early_stopping_rounds"] == 2
    assert table(run)["split"] == sorted_as(booster, table(run)["feature"], "split")
    assert EarlyStopException.__init__ is MADE


def sorted_as(booster: Any, features: list[str], kind: str) -> list[float]:
    """The booster's importances in the order of those features."""
    values = dict(zip(booster.feature_name(), booster.feature_importance(kind), strict=True))
    return [float(values[feature]) for feature in features]


@pytest.mark.parametrize("order", [-100, 100])
@pytest.mark.parametrize("at", [0, 1, 4])
def test_users_own_stop(at: int, order: int, stored: Callable[..., StoredRun]) -> None:
    """Any callback may stop a training, in any round and wherever it stands."""
    train(TrackwayCallback(), callbacks=[Stop(at, order)])
    assert current.open_runs() == []
    run = stored()
    assert run.state == "finished"
    assert run.summary["best_iteration"] == 1
    assert {step for _, step, _ in rows_of(run, UNMEASURED)} == set(range(at + 1))


def test_stops_by_parameter(stored: Callable[..., StoredRun]) -> None:
    """``early_stopping_round`` among the parameters is the same."""
    booster, history = train(TrackwayCallback(), 60, params={"early_stopping_round": 2})
    assert rows_of(stored(), UNMEASURED) == rows(history)
    assert stored().state == "finished"
    assert stored().summary["best_iteration"] == booster.best_iteration


def test_without_the_engines_list(
    stored: Callable[..., StoredRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If LightGBM keeps its callbacks elsewhere, the last round ends the training all the same."""
    monkeypatch.setattr(_hooks, "frame_of", lambda *_: None)
    _, history = train(TrackwayCallback(), 3)
    assert current.open_runs() == []
    assert rows_of(stored(), UNMEASURED) == rows(history)
    assert stored().state == "finished"
    assert stored().summary["rounds"] == 3


def test_continued_training_goes_on(stored: Callable[..., StoredRun]) -> None:
    """Steps are LightGBM's own: a training that goes on with a model does not begin at 0."""
    booster, _ = train()
    _, history = train(TrackwayCallback(), 3, init_model=booster)
    assert rows_of(stored(), UNMEASURED) == rows(history, first=5)
    assert stored().config["lightgbm"]["continued"] is True
    assert stored().config["lightgbm"]["num_boost_round"] == 3


@pytest.mark.parametrize("callbacks", [0, 1])
def test_cross_validation(callbacks: int, stored: Callable[..., StoredRun]) -> None:
    """``cv`` gives means under the metric's name and deviations under ``_std``."""
    history: dict[str, Any] = {}
    stopping = [lightgbm.early_stopping(2, verbose=False)][:callbacks]
    found = lightgbm.cv(
        PARAMS,
        data()[0],
        4,
        nfold=2,
        callbacks=[TrackwayCallback(), lightgbm.record_evaluation(history), *stopping],
    )
    run = stored()
    assert rows_of(run, UNMEASURED) == rows(history)
    assert {name.removesuffix("_std") for name in list(run.keys())} == {
        "valid/auc",
        "valid/binary_logloss",
    }
    assert run.config["lightgbm"]["nfold"] == 2
    assert run.config["lightgbm"]["n_rows"] == 150
    assert list(run.events("table")) == []
    assert run.state == "finished"
    if callbacks:
        assert run.summary["best_iteration"] == len(found["valid auc-mean"])


def test_without_evaluation(stored: Callable[..., StoredRun]) -> None:
    """Without data to evaluate there are no metrics; rounds and parameters are there."""
    train(TrackwayCallback(), valid_sets=None, valid_names=None)
    assert rows_of(stored(), UNMEASURED) == []
    assert stored().summary["rounds"] == 5
    assert len(table(stored())["feature"]) == 30


def test_importances(stored: Callable[..., StoredRun]) -> None:
    """Both importances of all features are one table, ordered by the one that was chosen."""
    booster, _ = train(TrackwayCallback(importance="split"))
    columns = table(stored())
    for kind in ("gain", "split"):
        # What was trained is written and read again by LightGBM behind the training's end.
        found = sorted_as(booster, columns["feature"], kind)
        assert columns[kind] == pytest.approx(found, rel=1e-5)
    assert columns["split"] == sorted(columns["split"], reverse=True)
    train(TrackwayCallback(importance=None))
    assert list(stored().events("table")) == []
    with pytest.raises(tw.ArgumentError, match="importance='cover'"):
        TrackwayCallback(importance="cover")


def test_dart_and_changing_parameters(stored: Callable[..., StoredRun]) -> None:
    """Dart, and parameters that another callback changes, are recorded as ever."""
    _, history = train(
        TrackwayCallback(),
        params={"boosting": "dart", "drop_rate": 0.5},
        callbacks=[lightgbm.reset_parameter(learning_rate=[0.5, 0.4, 0.3, 0.2, 0.1])],
    )
    assert rows_of(stored(), UNMEASURED) == rows(history)
    assert stored().config["lightgbm"]["boosting"] == "dart"


def test_custom_objective_and_metric(stored: Callable[..., StoredRun]) -> None:
    """A custom metric is there with its direction; a custom objective is known by name."""

    def squared(predicted: Any, train_set: Any) -> Any:
        return predicted - train_set.get_label(), np.ones_like(predicted)

    def closeness(predicted: Any, valid: Any) -> Any:
        return "closeness", float(-np.abs(predicted - valid.get_label()).mean()), True

    _, history = train(TrackwayCallback(), params={"objective": squared}, feval=closeness)
    run = stored()
    assert "valid/closeness" in set(run.keys())
    assert rows_of(run, UNMEASURED) == rows(history)
    assert run.config["lightgbm"]["objective"].endswith("squared")
    goals = {e.fields["name"]: e.fields["goal"] for e in run.events("define")}
    assert goals["valid/closeness"] == goals["valid/auc"] == "maximize"
    assert goals["valid/binary_logloss"] == "minimize"


def test_results_of_older_versions() -> None:
    """Before 4.7 results are plain tuples, and in ``cv`` all of one data set ``cv_agg``."""
    found = results([("valid", "auc", 0.5, True), ("cv_agg", "valid l2", 0.25, False, 0.1)])
    assert row(found) == {"valid/auc": 0.5, "valid/l2": 0.25, "valid/l2_std": 0.1}
    assert [result.maximize for result in found] == [True, False]
    assert results(None) == []


def test_error_then_another_training(stored: Callable[..., StoredRun], root: Any) -> None:
    """After an error the same object records another training, and early stopping still ends it."""
    hook = TrackwayCallback()
    with pytest.raises(Boom):
        train(hook, callbacks=[Bomb(1, Boom())])
    train(hook, 60, callbacks=[lightgbm.early_stopping(2, verbose=False)])
    assert [run.state for run in tw.Api(root).runs("p")] == ["finished", "failed"]
    assert EarlyStopException.__init__ is MADE


def test_two_trainings_at_once(begin: Callable[..., Any], stored: Callable[..., StoredRun]) -> None:
    """A training inside another one ends alone: early stopping of the inner is not the outer's."""
    outer, inner = begin(), begin()

    class Trains:
        """Trains in the second round."""

        order = 3

        def __call__(self, env: Any) -> None:
            """Train."""
            if env.iteration == 1:
                hook = TrackwayCallback(run=inner)
                train(hook, 60, callbacks=[lightgbm.early_stopping(1, verbose=False)])

    _, history = train(TrackwayCallback(run=outer), callbacks=[Trains()])
    assert rows_of(stored(outer), UNMEASURED) == rows(history)
    assert "best_iteration" in stored(inner).summary
    assert "best_iteration" not in stored(outer).summary


def test_copies(begin: Callable[..., Any], stored: Callable[..., StoredRun]) -> None:
    """A copy made while a training is under way records a training of its own."""
    mine = begin()
    made: list[Any] = []

    class Copies:
        """Copies our callback in the middle of the training."""

        def __call__(self, env: Any) -> None:
            """Copy it."""
            made[:] = [copy.deepcopy(hook), pickle.loads(pickle.dumps(hook))]

    hook = TrackwayCallback(run=mine)
    _, history = train(hook, callbacks=[Copies()])
    for made_hook in made:
        train(made_hook, 2)
    assert len(rows_of(stored(mine), UNMEASURED)) == len(rows(history)) + 2 * 8


@pytest.mark.parametrize(
    "fit",
    [
        lambda: lightgbm.train(PARAMS, data()[0], 2),
        lambda: lightgbm.engine.train(PARAMS, data()[0], 2),
        lambda: lightgbm.cv(PARAMS, data()[0], 2, nfold=2),
        lambda: lightgbm.engine.cv(PARAMS, data()[0], 2, nfold=2),
        lambda: lightgbm.LGBMClassifier(n_estimators=2, n_jobs=1, verbosity=-1).fit(X, Y),
        lambda: lightgbm.LGBMRegressor(n_estimators=2, n_jobs=1, verbosity=-1).fit(X, Y),
        lambda: lightgbm.LGBMRanker(n_estimators=2, n_jobs=1, verbosity=-1).fit(
            X, Y, group=[100, 100]
        ),
    ],
)
def test_autolog_reaches_every_way(
    fit: Callable[[], Any], root: Any, stored: Callable[..., StoredRun]
) -> None:
    """``train`` and ``cv`` under each of their names, and every estimator; once each."""
    for _ in range(2):  # again, as in a notebook
        tw.autolog(only=["lightgbm"])
    fit()
    assert [run.state for run in tw.Api(root).runs("p")] == ["finished"]
    assert stored().summary["rounds"] == 2
    assert "objective" in stored().config["lightgbm"]


def test_autolog_leaves_the_users_list(stored: Callable[..., StoredRun]) -> None:
    """The user's list is not changed, also where it is passed by position."""
    tw.autolog(only=["lightgbm"], lightgbm={"every": 2, "importance": None})
    mine: list[Any] = [Stop(2)]
    train_set, valid = data()
    call = inspect.signature(lightgbm.train).bind(PARAMS, train_set, 5, [valid], callbacks=mine)
    call.apply_defaults()
    lightgbm.train(*call.args)
    assert len(mine) == 1
    assert [row[1] for row in rows_of(stored(), UNMEASURED)] == [0, 2, 0, 2]
    assert stored().summary["best_iteration"] == 1


def test_autolog_tells_the_error(stored: Callable[..., StoredRun]) -> None:
    """With ``autolog`` the run ends with the error itself, and at once."""
    tw.autolog(only=["lightgbm"])
    with pytest.raises(Boom):
        train(callbacks=[Bomb(1, Boom())])
    assert stored().state == "failed"
    assert current.open_runs() == []


def test_one_after_another(begin: Callable[..., Any], stored: Callable[..., StoredRun]) -> None:
    """In one run, what only an earlier training was given or found is not left beside a later."""
    with begin() as run:
        train(TrackwayCallback(), 9, callbacks=[lightgbm.early_stopping(2, verbose=False)])
        assert "best_iteration" in run.summary
        train(TrackwayCallback(), 3)
    found = stored(run)
    assert not [name for name in found.summary if name.startswith("best_")]
    assert found.config["lightgbm"]["num_boost_round"] == 3
    assert not found.config["lightgbm"].get("early_stopping_rounds")


def test_two_in_one_training(begin: Callable[..., Any], stored: Callable[..., StoredRun]) -> None:
    """Two callbacks, by prefix or by run, both record all of one training."""
    with begin() as run:
        _, history = train(callbacks=[TrackwayCallback(prefix="x"), TrackwayCallback(prefix="y")])
    named = [(f"{p}/{name}", step, v) for p in "xy" for name, step, v in rows(history)]
    named.sort(key=lambda found: found[:2])
    assert rows_of(stored(run), UNMEASURED) == named
    assert {"x/rounds", "y/rounds"} <= set(stored(run).summary)
    train(callbacks=[TrackwayCallback(prefix="x"), TrackwayCallback(prefix="y")])
    assert rows_of(stored(), UNMEASURED) == named
    assert stored().state == "finished"
    one, two = begin(), begin()
    train(callbacks=[TrackwayCallback(one), TrackwayCallback(two)])
    assert rows_of(stored(one), UNMEASURED) == rows_of(stored(two), UNMEASURED) == rows(history)
