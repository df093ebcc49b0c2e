"""XGBoost: ``train``, ``cv`` and the estimators, recorded by the callback and by ``autolog``."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import xgboost
import xgboost.sklearn
import xgboost.training
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import GridSearchCV

import trackway as tw
from tests.integrations.contract import Boom, IntegrationContract, Row, rows_of
from trackway.api import StoredRun
from trackway.core import current
from trackway.integrations.xgboost import TrackwayCallback
from trackway.integrations.xgboost._values import directions

X, Y = load_breast_cancer(return_X_y=True)
X, Y = X[:200], Y[:200]
PARAMS = {
    "objective": "binary:logistic",
    "max_depth": 2,
    "eta": 0.2,
    "subsample": 0.7,
    "seed": 3,
    "nthread": 1,
    "eval_metric": ["logloss", "auc"],
}
UNMEASURED = ("rounds_per_s",)


def data() -> tuple[xgboost.DMatrix, xgboost.DMatrix]:
    """Data to train with, and to evaluate with."""
    return xgboost.DMatrix(X[:150], Y[:150]), xgboost.DMatrix(X[150:], Y[150:])


class Bomb(xgboost.callback.TrainingCallback):
    """The user's own callback, which raises in the third round."""

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        """Raise."""
        if epoch == 2:
            raise Boom
        return False


class Stop(xgboost.callback.TrainingCallback):
    """The user's own callback, which ends the training after a round."""

    def __init__(self, last: int) -> None:
        super().__init__()
        self.last = last

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        """End it."""
        return epoch == self.last


def train(hook: Any = None, rounds: int = 5, **arguments: Any) -> Any:
    """A tiny training; returns the booster, with its history as ``history``."""
    train_data, valid = data()
    history: dict[str, Any] = {}
    callbacks = ([] if hook is None else [hook]) + arguments.pop("callbacks", [])
    params = {**PARAMS, **arguments.pop("params", {})}
    arguments.setdefault("evals", [(train_data, "train"), (valid, "valid")])
    booster = xgboost.train(
        params,
        train_data,
        rounds,
        evals_result=history,
        verbose_eval=False,
        callbacks=callbacks,
        **arguments,
    )
    return booster, history


def rows(history: dict[str, Any], first: int = 0) -> list[Row]:
    """The rows of a history, the first round being that step."""
    return sorted(
        (
            (f"{dataset}/{metric}", first + i, value)
            for dataset, metrics in history.items()
            for metric, values in metrics.items()
            for i, value in enumerate(values)
        ),
        key=lambda row: row[:2],
    )


def table(run: StoredRun) -> dict[str, list[Any]]:
    """The columns of the run's one table of importances."""
    (event,) = list(run.events("table"))
    assert event.fields["kind"] == event.fields["name"] == "feature_importance"
    return dict(event.fields["columns"])


class TestXGBoost(IntegrationContract):
    """The shared suite, with ``xgboost.train``."""

    framework = "xgboost"
    unmeasured = UNMEASURED
    history: dict[str, Any]

    @classmethod
    def setup_class(cls) -> None:
        """XGBoost's own history of the training, before anything records it."""
        _, cls.history = train()

    def hook(self, **arguments: Any) -> Any:
        """The callback."""
        return TrackwayCallback(**arguments)

    def train(self, hook: Any, *, fail: bool = False) -> bytes:
        """Five rounds; the model as it is saved."""
        booster, _ = train(hook, callbacks=[Bomb()] if fail else [])
        return bytes(booster.save_raw("ubj"))

    def expected(self) -> list[Row]:
        """What XGBoost's own history holds."""
        return rows(self.history)

    def expected_every_2(self) -> list[Row]:
        """The even rounds."""
        return [row for row in self.expected() if row[1] % 2 == 0]

    def expected_config(self) -> dict[str, Any]:
        """What was given, what was not, and what ``train`` was called with."""
        return {
            "xgboost.max_depth": 2,
            "xgboost.eta": 0.2,
            "xgboost.learning_rate": 0.2,
            "xgboost.objective": "binary:logistic",
            "xgboost.eval_metric": ["logloss", "auc"],
            "xgboost.booster": "gbtree",
            "xgboost.lambda": 1,
            "xgboost.num_boost_round": 5,
            "xgboost.n_rows": 150,
            "xgboost.n_features": 30,
            "xgboost.eval_rows": {"train": 150, "valid": 50},
        }


@pytest.mark.parametrize("last", [0, 2])
def test_no_round_is_lost_behind_a_callback_that_stops(
    last: int, stored: Callable[..., StoredRun]
) -> None:
    """A callback before ours that returns True keeps no round from it."""
    _, history = train(callbacks=[Stop(last), TrackwayCallback()])
    assert len(history["valid"]["auc"]) == last + 1
    assert rows_of(stored(), UNMEASURED) == rows(history)
    assert stored().state == "finished"
    assert stored().summary["rounds"] == last + 1


def test_early_stopping(stored: Callable[..., StoredRun]) -> None:
    """Best iteration and score are in the summary, and every round is there."""
    booster, history = train(TrackwayCallback(), 60, early_stopping_rounds=2)
    assert len(history["valid"]["auc"]) < 60
    run = stored()
    assert rows_of(run, UNMEASURED) == rows(history)
    assert run.summary["best_iteration"] == booster.best_iteration
    assert run.summary["best_score"] == booster.best_score
    assert run.config["xgboost"]["early_stopping_rounds"] == 2


def test_continued_training_goes_on(stored: Callable[..., StoredRun]) -> None:
    """Steps are the model's rounds: a training that goes on with a model does not begin at 0."""
    booster, _ = train()
    _, history = train(TrackwayCallback(), 3, xgb_model=booster)
    assert rows_of(stored(), UNMEASURED) == rows(history, first=5)
    assert stored().config["xgboost"]["continued"] is True


def test_cross_validation(stored: Callable[..., StoredRun]) -> None:
    """``cv`` gives means under the metric's name and deviations under ``_std``."""
    result = xgboost.cv(
        PARAMS, data()[0], 3, nfold=2, as_pandas=False, callbacks=[TrackwayCallback()]
    )
    expected = []
    for name, values in result.items():
        series = name.replace("-", "/", 1).removesuffix("-mean").replace("-std", "_std")
        expected += [(series, i, value) for i, value in enumerate(values)]
    run = stored()
    assert rows_of(run, UNMEASURED) == sorted(expected)
    assert run.config["xgboost"]["nfold"] == 2
    assert run.config["xgboost"]["max_depth"] == 2
    assert list(run.events("table")) == []
    assert run.state == "finished"


def test_without_evaluation(stored: Callable[..., StoredRun]) -> None:
    """Without data to evaluate there are no metrics; rounds and parameters are there."""
    train(TrackwayCallback(), evals=[])
    assert rows_of(stored(), UNMEASURED) == []
    assert stored().summary["rounds"] == 5
    assert len(table(stored())["feature"]) == 30


def test_importances(stored: Callable[..., StoredRun]) -> None:
    """All importances of all features are one table; a feature in no tree has 0."""
    booster, _ = train(TrackwayCallback(importance="cover"))
    columns = table(stored())
    assert sorted(columns["feature"]) == sorted(f"f{i}" for i in range(30))
    for kind in ("weight", "gain", "cover", "total_gain", "total_cover"):
        scores = booster.get_score(importance_type=kind)
        assert len(scores) < 30
        assert columns[kind] == [scores.get(feature, 0.0) for feature in columns["feature"]]
    assert columns["cover"] == sorted(columns["cover"], reverse=True)


def test_no_importances(stored: Callable[..., StoredRun]) -> None:
    """``importance=None`` records none; what is no importance is told where it is passed."""
    train(TrackwayCallback(importance=None))
    assert list(stored().events("table")) == []
    with pytest.raises(tw.ArgumentError, match="importance='gane'"):
        TrackwayCallback(importance="gane")


@pytest.mark.parametrize(
    ("params", "columns"),
    [
        ({"booster": "gblinear", "subsample": None}, ["feature", "weight"]),
        (
            {
                "booster": "gblinear",
                "objective": "multi:softprob",
                "num_class": 2,
                "eval_metric": "mlogloss",
            },
            ["feature", "weight_0", "weight_1"],
        ),
        (
            {"booster": "dart", "rate_drop": 0.5},
            ["feature", "weight", "gain", "cover", "total_gain", "total_cover"],
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:.*:UserWarning:xgboost")
def test_other_boosters(
    params: dict[str, Any], columns: list[str], stored: Callable[..., StoredRun]
) -> None:
    """Linear boosters have weights alone, one column for each output; dart is as trees are."""
    params = {k: v for k, v in {**PARAMS, **params}.items() if v is not None}
    train_data, valid = data()
    history: dict[str, Any] = {}
    xgboost.train(
        params,
        train_data,
        3,
        evals=[(valid, "valid")],
        evals_result=history,
        verbose_eval=False,
        callbacks=[TrackwayCallback()],
    )
    run = stored()
    assert rows_of(run, UNMEASURED) == rows(history)
    assert list(table(run)) == columns
    assert run.config["xgboost"]["booster"] == params["booster"]
    assert "learning_rate" in run.config["xgboost"]


@pytest.mark.parametrize("strategy", ["one_output_per_tree", "multi_output_tree"])
def test_several_outputs(strategy: str, stored: Callable[..., StoredRun]) -> None:
    """Models with several outputs are recorded as others are."""
    model = xgboost.XGBRegressor(
        n_estimators=2, multi_strategy=strategy, n_jobs=1, callbacks=[TrackwayCallback()]
    )
    target = np.stack([Y, 1 - Y], axis=1)
    model.fit(X, target, eval_set=[(X, target)], verbose=False)
    assert rows_of(stored(), UNMEASURED) == rows(model.evals_result())
    assert stored().config["xgboost"]["multi_strategy"] == strategy


def test_custom_objective_and_metric(stored: Callable[..., StoredRun]) -> None:
    """They are known by name, and the custom metric's direction as ``train`` was told it."""

    def squared(predicted: Any, train_data: Any) -> Any:
        return predicted - train_data.get_label(), np.ones_like(predicted)

    def closeness(predicted: Any, valid: Any) -> Any:
        return "closeness", float(-np.abs(predicted - valid.get_label()).mean())

    _, history = train(TrackwayCallback(), obj=squared, custom_metric=closeness, maximize=True)
    run = stored()
    assert "valid/closeness" in set(run.keys())
    assert rows_of(run, UNMEASURED) == rows(history)
    assert run.config["xgboost"]["obj"].endswith("squared")
    assert run.config["xgboost"]["custom_metric"].endswith("closeness")
    assert directions({"v": {"auc": [], "logloss": [], "error@0.7": [], "own": []}}, None) == {
        "v/auc": True,
        "v/logloss": False,
        "v/error@0.7": False,
        "v/own": None,
    }
    assert directions({"v": {"ndcg@5-": [], "own": []}}, True) == {"v/ndcg@5-": True, "v/own": True}


def test_estimator(stored: Callable[..., StoredRun]) -> None:
    """An estimator has the callback among its parameters: it is cloned, pickled, not recorded."""
    hook = TrackwayCallback()
    model = xgboost.XGBClassifier(
        n_estimators=40, early_stopping_rounds=2, n_jobs=1, callbacks=[hook], eval_metric="logloss"
    )
    model.fit(X[:150], Y[:150], eval_set=[(X[150:], Y[150:])], verbose=False)
    run = stored()
    assert rows_of(run, UNMEASURED) == rows(model.evals_result())
    assert run.summary["best_iteration"] == model.best_iteration
    assert "callbacks" not in run.config["xgboost"]
    assert len(pickle.dumps(model)) > 0
    clone(model).fit(X[:150], Y[:150], eval_set=[(X[150:], Y[150:])], verbose=False)
    assert stored().id != run.id
    assert rows_of(stored(), UNMEASURED) == rows_of(run, UNMEASURED)


def test_search(root: Any) -> None:
    """A search copies the callback: each of its trainings has a run of its own."""
    model = xgboost.XGBClassifier(n_estimators=2, n_jobs=1, callbacks=[TrackwayCallback()])
    search = GridSearchCV(model, {"max_depth": [1, 2]}, cv=2)
    search.fit(X, Y)
    runs = tw.Api(root).runs("p")
    assert [run.state for run in runs] == ["finished"] * 5
    assert sorted(run.config["xgboost"]["max_depth"] for run in runs)[:2] == [1, 1]


def test_copies(begin: Callable[..., Any], stored: Callable[..., StoredRun]) -> None:
    """A copy made while a training is under way records a training of its own."""
    mine = begin()
    made: list[Any] = []

    class Copies(xgboost.callback.TrainingCallback):
        """Copies our callback in the middle of the training."""

        def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
            """Copy it."""
            made[:] = [copy.deepcopy(hook), pickle.loads(pickle.dumps(hook))]
            return False

    hook = TrackwayCallback(run=mine)
    _, history = train(hook, callbacks=[Copies()])
    for made_hook in made:
        other = begin()
        train(made_hook, 2)
        assert stored(other).keys() == []
        other.finish()
    assert len(rows_of(stored(mine), UNMEASURED)) == len(rows(history)) + 2 * 8


@pytest.mark.parametrize(
    "fit",
    [
        lambda: xgboost.train(PARAMS, data()[0], 2),
        lambda: xgboost.training.train(PARAMS, data()[0], 2),
        lambda: xgboost.cv(PARAMS, data()[0], 2, nfold=2),
        lambda: xgboost.XGBClassifier(n_estimators=2, n_jobs=1).fit(X, Y),
        lambda: xgboost.XGBRegressor(n_estimators=2, n_jobs=1).fit(X, Y),
        lambda: xgboost.XGBRFClassifier(n_estimators=2, n_jobs=1).fit(X, Y),
        lambda: xgboost.XGBRanker(n_estimators=2, n_jobs=1).fit(X, Y, qid=np.repeat([0, 1], 100)),
    ],
)
def test_autolog_reaches_every_way(
    fit: Callable[[], Any], root: Any, stored: Callable[..., StoredRun]
) -> None:
    """One point reaches ``train`` under each of its names, ``cv`` and every estimator."""
    tw.autolog(only=["xgboost"])
    fit()
    assert [run.state for run in tw.Api(root).runs("p")] == ["finished"]
    assert "objective" in stored().config["xgboost"]
    assert current.open_runs() == []


def test_autolog_leaves_the_users_list(stored: Callable[..., StoredRun]) -> None:
    """The user's list is not changed, and its callbacks stand behind ours."""
    tw.autolog(only=["xgboost"], xgboost={"every": 2, "importance": None})
    mine: list[Any] = [Stop(2)]
    train_data, valid = data()
    xgboost.train(
        PARAMS, train_data, 5, evals=[(valid, "valid")], verbose_eval=False, callbacks=mine
    )
    assert len(mine) == 1
    assert [row[1] for row in rows_of(stored(), UNMEASURED)] == [0, 2, 0, 2]
    assert list(stored().events("table")) == []


def test_one_after_another(begin: Callable[..., Any], stored: Callable[..., StoredRun]) -> None:
    """In one run, what only an earlier training was given or found is not left beside a later."""
    with begin() as run:
        run.summary["best_of_mine"] = 1
        train(TrackwayCallback(), 9, early_stopping_rounds=2)
        assert {"best_iteration", "best_score"} <= set(run.summary)
        train(TrackwayCallback(), 3, evals=[])
    found = stored(run)
    assert set(found.summary) >= {"best_of_mine", "rounds"}
    assert not {"best_iteration", "best_score"} & set(found.summary)
    assert found.config["xgboost"]["num_boost_round"] == 3
    assert not {"early_stopping_rounds", "eval_rows"} & set(found.config["xgboost"])


def test_two_in_one_training(begin: Callable[..., Any], stored: Callable[..., StoredRun]) -> None:
    """Two callbacks, by prefix or by run, both record all of one training."""
    hooks = [TrackwayCallback(prefix="x"), TrackwayCallback(prefix="y")]
    with begin() as run:
        _, history = train(callbacks=hooks)
    named = [(f"{p}/{name}", step, v) for p in "xy" for name, step, v in rows(history)]
    assert rows_of(stored(run), UNMEASURED) == sorted(named, key=lambda row: row[:2])
    assert {"x/rounds", "y/rounds"} <= set(stored(run).summary)
    _, history = train(callbacks=[TrackwayCallback(prefix="x"), TrackwayCallback(prefix="y")])
    assert rows_of(stored(), UNMEASURED) == sorted(named, key=lambda row: row[:2])
    assert stored().state == "finished"
    one, two = begin(), begin()
    train(callbacks=[TrackwayCallback(one), TrackwayCallback(two)])
    assert rows_of(stored(one), UNMEASURED) == rows_of(stored(two), UNMEASURED) == rows(history)


def test_search_under_autolog(begin: Callable[..., Any], stored: Callable[..., StoredRun]) -> None:
    """What a search of scikit-learn tries out is in its table, and floods no series."""
    tw.autolog(only=["xgboost", "sklearn"])
    mine = begin()
    given = xgboost.XGBClassifier(n_estimators=2, n_jobs=1, callbacks=[TrackwayCallback(mine)])
    with begin() as run:
        plain = xgboost.XGBClassifier(n_estimators=2, n_jobs=1, base_score=0.5)
        search = GridSearchCV(plain, {"max_depth": [1, 2]}, cv=2).fit(X, Y)
        GridSearchCV(given, {"max_depth": [1]}, cv=2, refit=False).fit(X, Y)
        names = {event.fields["name"] for event in stored(run).events("table")}
        assert not any("feature_importance" in name for name in names)
        assert "xgboost" not in stored(run).config
        search.best_estimator_.fit(X, Y, eval_set=[(X, Y)], verbose=False)
    assert len(stored(run).history("validation_0/logloss")["validation_0/logloss"].steps) == 2
    assert stored(run).config["xgboost"]["num_boost_round"] == 2
    assert len([*stored(mine).events("table")]) == 2
