"""CatBoost: every way of training, recorded by the callback and by ``autolog``."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import catboost
import numpy as np
import pytest
from catboost.core import _CatBoostBase
from sklearn.datasets import load_breast_cancer

import trackway as tw
from tests.integrations.contract import Boom, IntegrationContract, Row, rows_of
from trackway.api import StoredRun
from trackway.core import current
from trackway.integrations.catboost import TrackwayCallback, _hooks
from trackway.integrations.catboost._values import cross_validated, grown, histories

X, Y = load_breast_cancer(return_X_y=True)
X, Y = X[:200], Y[:200]
SETTINGS = {"allow_writing_files": False, "verbose": 0, "thread_count": 1}
PARAMS = {
    **SETTINGS,
    "iterations": 5,
    "depth": 2,
    "learning_rate": 0.2,
    "subsample": 0.7,
    "random_seed": 3,
    "custom_metric": ["AUC"],
}
UNMEASURED = ("rounds_per_s",)
ATTRIBUTES = _CatBoostBase.__dict__["_set_trained_model_attributes"]


class Raise:
    """The user's own callback, which raises in the third round."""

    def after_iteration(self, info: Any) -> bool:
        """Raise."""
        if info.iteration == 3:
            raise Boom
        return True


class Stop:
    """The user's own callback, which ends the training after a round."""

    def __init__(self, iteration: int) -> None:
        self.iteration = iteration

    def after_iteration(self, info: Any) -> bool:
        """End it."""
        return bool(info.iteration < self.iteration)


def train(hook: Any = None, fit: Any = None, **params: Any) -> Any:
    """A tiny training; returns the model."""
    callbacks = [] if hook is None else [hook]
    arguments = {"eval_set": (X[150:], Y[150:]), **(fit or {})}
    callbacks += arguments.pop("callbacks", [])
    model = catboost.CatBoostClassifier(**{**PARAMS, **params})
    return model.fit(X[:150], Y[:150], callbacks=callbacks or None, **arguments)


def rows(model: Any, first: int = 0, period: int = 1) -> list[Row]:
    """The rows of a model's history, the first round being that step."""
    found = [
        (f"{dataset}/{metric}", first + i * period, value)
        for dataset, metrics in model.get_evals_result().items()
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
    """A training that has ended has left nothing behind in CatBoost."""
    yield
    _hooks._patches.undo()  # one that was left by an error waits for the next one
    assert _CatBoostBase.__dict__["_set_trained_model_attributes"] is ATTRIBUTES


class TestCatBoost(IntegrationContract):
    """The shared suite, with ``CatBoostClassifier.fit``."""

    framework = "catboost"
    unmeasured = UNMEASURED
    history: list[Row]

    @classmethod
    def setup_class(cls) -> None:
        """CatBoost's own history of the training, before anything records it."""
        cls.history = rows(train())

    def hook(self, **arguments: Any) -> Any:
        """The callback."""
        return TrackwayCallback(**arguments)

    def train(self, hook: Any, *, fail: bool = False) -> bytes:
        """Five rounds; the raw predictions."""
        try:
            model = train(hook, {"callbacks": [Raise()]} if fail else None)
        except catboost.CatBoostError as error:
            # CatBoost makes its own error, with the text, of whatever a callback raises.
            assert "test_catboost.py" in str(error)
            raise Boom from error
        return bytes(model.predict(X, prediction_type="RawFormulaVal").tobytes())

    def expected(self) -> list[Row]:
        """What CatBoost's own history holds."""
        return self.history

    def expected_every_2(self) -> list[Row]:
        """The even rounds."""
        return [row for row in self.expected() if row[1] % 2 == 0]

    def expected_config(self) -> dict[str, Any]:
        """What was given, what was not, and what ``fit`` was called with."""
        return {
            "catboost.depth": 2,
            "catboost.learning_rate": 0.2,
            "catboost.loss_function": "Logloss",
            "catboost.custom_metric": ["AUC"],
            "catboost.l2_leaf_reg": 3,
            "catboost.iterations": 5,
            "catboost.n_rows": 150,
            "catboost.n_features": 30,
            "catboost.eval_rows": [50],
        }


def test_true_means_continue() -> None:
    """``after_iteration`` returns True, which to CatBoost means that training goes on."""
    info = SimpleNamespace(iteration=2, metrics={})
    hook = TrackwayCallback()
    hook._fit = 1
    assert hook.after_iteration(info) is True
    assert train(TrackwayCallback()).tree_count_ == 5


@pytest.mark.swallows
def test_true_also_when_recording_fails() -> None:
    """Also when our part failed."""
    assert TrackwayCallback().after_iteration(None) is True


def test_early_stopping(stored: Callable[..., StoredRun]) -> None:
    """However the training ends, its run is finished, with the best iteration and its scores."""
    model = train(
        TrackwayCallback(), {"early_stopping_rounds": 2}, iterations=60, learning_rate=0.9
    )
    run = stored()
    assert run.state == "finished"
    assert current.open_runs() == []
    assert model.tree_count_ < 60
    assert rows_of(run, UNMEASURED) == rows(model)
    assert run.summary["best_iteration"] == model.best_iteration_
    assert run.summary["trees"] == model.tree_count_
    for dataset, scores in model.best_score_.items():
        for metric, value in scores.items():
            assert run.summary[f"best_score/{dataset}/{metric}"] == value
    assert run.config["catboost"]["od_wait"] == 2


def test_users_own_stop(stored: Callable[..., StoredRun]) -> None:
    """A callback of the user's, behind ours, ends the training; all rounds are there."""
    model = train(TrackwayCallback(), {"callbacks": [Stop(3)]})
    assert rows_of(stored(), UNMEASURED) == rows(model)
    assert {step for _, step, _ in rows_of(stored(), UNMEASURED)} == {0, 1, 2}
    assert stored().state == "finished"


def test_metric_period(stored: Callable[..., StoredRun]) -> None:
    """What is not evaluated in every round is recorded at the rounds in which it was."""
    model = train(TrackwayCallback(), iterations=7, metric_period=3)
    assert rows_of(stored(), UNMEASURED) == rows(model, period=3)
    assert stored().summary["rounds"] == 7


def test_continued_training_goes_on(stored: Callable[..., StoredRun]) -> None:
    """Steps are the model's trees: a training that goes on with a model does not begin at 0."""
    first = train()
    model = train(TrackwayCallback(), {"init_model": first}, iterations=3, subsample=0.8)
    assert rows_of(stored(), UNMEASURED) == rows(model, first=first.tree_count_)
    assert stored().config["catboost"]["continued"] is True


def test_without_evaluation(stored: Callable[..., StoredRun]) -> None:
    """Without data to evaluate there is what CatBoost learns by, and nothing is best."""
    model = train(TrackwayCallback(), {"eval_set": None})
    assert rows_of(stored(), UNMEASURED) == rows(model)
    assert {name for name, _, _ in rows_of(stored(), UNMEASURED)} == {"learn/Logloss"}
    assert "best_iteration" not in stored().summary


def test_several_sets(stored: Callable[..., StoredRun]) -> None:
    """Several data sets to evaluate have the names that CatBoost gives them."""
    sets = [(X[150:], Y[150:]), (X[100:150], Y[100:150])]
    model = train(TrackwayCallback(), {"eval_set": sets})
    assert rows_of(stored(), UNMEASURED) == rows(model)
    assert "validation_1/AUC" in set(stored().keys())
    assert stored().config["catboost"]["eval_rows"] == [50, 50]


def test_importances(stored: Callable[..., StoredRun]) -> None:
    """The importances of all features are one table, the most important first."""
    model = train(TrackwayCallback())
    columns = table(stored())
    values = dict(zip(model.feature_names_, model.feature_importances_.tolist(), strict=True))
    assert len(columns["feature"]) == 30
    assert columns["PredictionValuesChange"] == sorted(values.values(), reverse=True)
    assert [values[name] for name in columns["feature"]] == columns["PredictionValuesChange"]
    train(TrackwayCallback(importance=None))
    assert list(stored().events("table")) == []
    with pytest.raises(tw.ArgumentError, match="importance='gain'"):
        TrackwayCallback(importance="gain")


class Closeness:
    """A metric of the user's own."""

    def __init__(self) -> None:
        self.sign = -1.0

    def get_final_error(self, error: float, weight: float) -> float:
        """The value."""
        return self.sign * error

    def is_max_optimal(self) -> bool:
        """More is better."""
        return self.sign < 0

    def evaluate(self, predicted: Any, target: Any, weight: Any) -> Any:
        """Evaluate."""
        return self.sign * float(predicted[0][0]), 1.0


@pytest.mark.filterwarnings("ignore:Can't optimze method:UserWarning")
@pytest.mark.filterwarnings("ignore:Failed to import numba:UserWarning")
def test_custom_metric(stored: Callable[..., StoredRun]) -> None:
    """A custom metric is recorded; for CatBoost's own it is said whether more is better."""
    model = train(TrackwayCallback(), eval_metric=Closeness())
    run = stored()
    assert rows_of(run, UNMEASURED) == rows(model)
    assert _hooks._directions(
        ["validation/AUC", "learn/Logloss", "learn/Closeness", "t/AUC_std"]
    ) == {
        "validation/AUC": True,
        "learn/Logloss": False,
        "learn/Closeness": None,
        "t/AUC_std": None,
    }


def test_error_then_another_training(stored: Callable[..., StoredRun], root: Any) -> None:
    """After an error the same object records another training."""
    hook = TrackwayCallback()
    with pytest.raises(catboost.CatBoostError):
        train(hook, {"callbacks": [Raise()]})
    model = train(hook)
    assert [run.state for run in tw.Api(root).runs("p")] == ["finished", "failed"]
    assert rows_of(stored(), UNMEASURED) == rows(model)


def test_training_inside_another(
    begin: Callable[..., Any], stored: Callable[..., StoredRun]
) -> None:
    """The end of a training inside another one is not the outer one's."""
    outer, inner = begin(), begin()

    class Trains:
        """Trains in the second round."""

        def after_iteration(self, info: Any) -> bool:
            """Train."""
            if info.iteration == 2:
                train(TrackwayCallback(run=inner), iterations=2)
            return True

    model = train(TrackwayCallback(run=outer), {"callbacks": [Trains()]})
    assert rows_of(stored(outer), UNMEASURED) == rows(model)
    assert stored(outer).summary["rounds"] == 5
    assert stored(inner).summary["rounds"] == 2


def test_copies(begin: Callable[..., Any], stored: Callable[..., StoredRun]) -> None:
    """A copy made while a training is under way records a training of its own."""
    mine = begin()
    made: list[Any] = []

    class Copies:
        """Copies our callback in the middle of the training."""

        def after_iteration(self, info: Any) -> bool:
            """Copy it."""
            made[:] = [copy.deepcopy(hook), pickle.loads(pickle.dumps(hook))]
            return True

    hook = TrackwayCallback(run=mine)
    model = train(hook, {"callbacks": [Copies()]})
    for made_hook in made:
        train(made_hook, iterations=2)
    assert len(rows_of(stored(mine), UNMEASURED)) == len(rows(model)) + 2 * 6


PLAIN = {**SETTINGS, "iterations": 2}


@pytest.mark.parametrize(
    "fit",
    [
        lambda: catboost.train(catboost.Pool(X, Y), {**PLAIN, "loss_function": "Logloss"}),
        lambda: catboost.CatBoost(dict(PLAIN)).fit(X, Y),
        lambda: catboost.CatBoostClassifier(**PLAIN).fit(X, Y),
        lambda: catboost.CatBoostRegressor(**PLAIN).fit(catboost.Pool(X, Y)),
        lambda: catboost.CatBoostRanker(**PLAIN).fit(X, Y, group_id=np.repeat([0, 1], 100)),
    ],
)
@pytest.mark.parametrize("live", [True, False])
def test_autolog_reaches_every_way(
    live: bool, fit: Callable[[], Any], root: Any, stored: Callable[..., StoredRun]
) -> None:
    """``train`` and ``fit`` of every class, in every round or, if wanted, afterwards."""
    tw.autolog(only=["catboost"], catboost={"live": live})
    model = fit()
    assert [run.state for run in tw.Api(root).runs("p")] == ["finished"]
    assert rows_of(stored(), UNMEASURED) == rows(model)
    assert "loss_function" in stored().config["catboost"]
    assert stored().summary["trees"] == 2


@pytest.mark.parametrize("live", [True, False])
def test_autolog_is_called_in_every_round_only_if_wanted(
    live: bool, monkeypatch: pytest.MonkeyPatch, stored: Callable[..., StoredRun]
) -> None:
    """CatBoost copies all values so far for any callback: by default it gets none of ours."""
    rounds: list[int] = []
    hook = TrackwayCallback.after_iteration

    def after_iteration(self: TrackwayCallback, info: Any) -> bool:
        rounds.append(info.iteration)
        return hook(self, info)

    monkeypatch.setattr(TrackwayCallback, "after_iteration", after_iteration)
    if live:
        tw.autolog(only=["catboost"], catboost={"live": True})
    else:
        tw.autolog(only=["catboost"])
    model = train()
    assert rounds == ([1, 2, 3, 4, 5] if live else [])
    assert rows_of(stored(), UNMEASURED) == rows(model)


def test_autolog_behind_an_init_model(stored: Callable[..., StoredRun]) -> None:
    """A training that goes on with a model's trees has its steps behind them."""
    first = train()
    tw.autolog(only=["catboost"])
    model = train(fit={"init_model": first})
    assert rows_of(stored(), UNMEASURED) == rows(model, 5)
    assert stored().config["catboost"]["continued"] is True


def test_autolog_of_a_training_that_fails(stored: Callable[..., StoredRun]) -> None:
    """Of a training that was left by an error the parameters are recorded, and that it failed."""
    tw.autolog(only=["catboost"])
    with pytest.raises(catboost.CatBoostError):
        train(fit={"callbacks": [Raise()]})
    run = stored()
    assert run.state == "failed"
    assert rows_of(run) == []
    assert run.config["catboost"]["iterations"] == 5


def test_autolog_on_a_gpu(stored: Callable[..., StoredRun]) -> None:
    """On a GPU CatBoost refuses callbacks: none is passed, and its own errors are passed on."""
    tw.autolog(only=["catboost"])
    state = "finished"
    try:
        train(task_type="GPU")
    except catboost.CatBoostError as error:  # this machine has none
        assert "callback" not in str(error).lower()
        state = "failed"
    assert stored().state == state
    assert current.open_runs() == []


def test_autolog_leaves_the_users_list(stored: Callable[..., StoredRun]) -> None:
    """The user's list is not changed, and its callbacks stand behind ours."""
    tw.autolog(only=["catboost"], catboost={"every": 2, "importance": None})
    mine: list[Any] = [Stop(3)]
    catboost.CatBoostRegressor(**PARAMS | {"custom_metric": None}).fit(X, Y, callbacks=mine)
    assert len(mine) == 1
    assert [row[1] for row in rows_of(stored(), UNMEASURED)] == [0, 2]
    assert list(stored().events("table")) == []


@pytest.mark.parametrize("pandas", [True, False])
def test_cross_validation(pandas: bool, tmp_path: Any, stored: Callable[..., StoredRun]) -> None:
    """``cv`` takes no callbacks: ``autolog`` records its means and deviations afterwards."""
    tw.autolog(only=["catboost"])
    params = {**PLAIN, "loss_function": "Logloss", "train_dir": str(tmp_path), "verbose": None}
    params["logging_level"] = "Silent"
    for function in (catboost.cv, catboost.core.cv):
        result = function(catboost.Pool(X, Y), params, fold_count=2, as_pandas=pandas)
        run = stored()
        expected = [
            (f"{dataset}/Logloss{'' if kind == 'mean' else '_std'}", i, value)
            for dataset in ("test", "train")
            for kind in ("mean", "std")
            for i, value in enumerate(result[f"{dataset}-Logloss-{kind}"])
        ]
        assert rows_of(run) == sorted(expected)
        assert run.config["catboost"]["fold_count"] == 2
        assert run.config["catboost"]["iterations"] == 2
        assert "rounds_per_s" not in run.summary
        assert run.state == "finished"


def test_values() -> None:
    """Names with dashes and colons, values that were not evaluated, models with a cv's result."""
    result = {"iterations": [0, 5], "test-Quantile:alpha=0.1-mean": [1.0, 0.5]}
    assert list(cross_validated((result, ["model"]))) == [
        (0, {"test/Quantile:alpha=0.1": 1.0}),
        (5, {"test/Quantile:alpha=0.1": 0.5}),
    ]
    seen: dict[str, int] = {}
    assert grown({"learn": {"RMSE": [3.0]}, "validation": {"RMSE": []}}, seen) == {
        "learn/RMSE": 3.0
    }
    assert grown({"learn": {"RMSE": [3.0]}}, seen) == {}
    assert list(histories({"learn": {"RMSE": [3.0, 2.0, 1.0]}}, 4, 7)) == [
        (0, {"learn/RMSE": 3.0}),
        (4, {"learn/RMSE": 2.0}),
        (6, {"learn/RMSE": 1.0}),
    ]


def test_one_after_another(begin: Callable[..., Any], stored: Callable[..., StoredRun]) -> None:
    """In one run, what only an earlier training was given or found is not left beside a later."""
    with begin() as run:
        train(TrackwayCallback(), early_stopping_rounds=3)
        assert {"best_iteration", "best_score/validation/AUC"} <= set(run.summary)
        train(TrackwayCallback(), {"eval_set": None})
    found = stored(run)
    assert "trees" in found.summary
    assert not [name for name in found.summary if name.startswith("best_score/validation")]
    assert "best_iteration" not in found.summary
    assert not {"early_stopping_rounds", "eval_rows"} & set(found.config["catboost"])


def test_two_in_one_training(begin: Callable[..., Any], stored: Callable[..., StoredRun]) -> None:
    """Two callbacks, by prefix or by run, both record all of one training."""

    def both(*hooks: Any) -> Any:
        return rows(train(fit={"callbacks": list(hooks)}))

    with begin() as run:
        found = both(TrackwayCallback(prefix="x"), TrackwayCallback(prefix="y"))
    named = sorted((f"{p}/{name}", step, value) for p in "xy" for name, step, value in found)
    assert rows_of(stored(run), UNMEASURED) == named
    assert {"x/rounds", "y/rounds"} <= set(stored(run).summary)
    both(TrackwayCallback(prefix="x"), TrackwayCallback(prefix="y"))
    assert rows_of(stored(), UNMEASURED) == named
    assert stored().state == "finished"
    one, two = begin(), begin()
    both(TrackwayCallback(one), TrackwayCallback(two))
    assert rows_of(stored(one), UNMEASURED) == rows_of(stored(two), UNMEASURED) == found
