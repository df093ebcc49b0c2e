"""Which calls are records: outermost ones, each once, whatever runs inside or beside them."""

from __future__ import annotations

import contextlib
import inspect
import os
import pickle
import random
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import SkipTest

import joblib  # type: ignore[import-untyped]
import numpy as np
import pytest
import sklearn
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA, DictionaryLearning
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import (
    GradientBoostingRegressor,
    RandomForestClassifier,
    StackingClassifier,
)
from sklearn.linear_model import LogisticRegression, Ridge, SGDClassifier
from sklearn.model_selection import GridSearchCV, cross_val_score, cross_validate, learning_curve
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.estimator_checks import check_estimator
from sklearn.utils.metadata_routing import get_routing_for_object
from sklearn.utils.validation import has_fit_parameter

import trackway as tw
from tests.integrations.contract import Boom, FailingRun, rows_of
from trackway.api import StoredRun
from trackway.core import _guard
from trackway.integrations.sklearn import _score, evaluate, watch

Begin = Callable[..., Any]
Stored = Callable[..., StoredRun]

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:scipy.optimize.*`iprint`:DeprecationWarning"),
]

X, Y = load_iris(return_X_y=True)


def fits(run: StoredRun) -> list[tuple[str, int]]:
    """Every outermost call, by class and number."""
    ends = ("/fit_s", "/cross_validate_s", "/cross_val_score_s", "/learning_curve_s")
    rows = [(name, step) for name, step, _ in rows_of(run) if name.endswith(ends)]
    return sorted(((name.removesuffix("/fit_s"), step) for name, step in rows), key=lambda r: r[1])


def tables(run: StoredRun) -> list[dict[str, Any]]:
    """Every table, in order."""
    return [event.fields for event in run.events("table")]


def outcomes_of(model: Any) -> list[tuple[str, str]]:
    """The checks of scikit-learn, and how each one ended."""
    if "on_fail" in inspect.signature(check_estimator).parameters:  # 1.6 and later
        results = check_estimator(model, on_fail=None)
        return [(result["check_name"], result["status"]) for result in results]
    found = []
    for subject, check in check_estimator(model, generate_only=True):
        status = "passed"
        try:
            check(subject)
        except (AssertionError, SkipTest) as error:
            status = type(error).__name__
        found.append((check.func.__name__, status))
    return found


class Clock:
    """A clock that goes on only while something predicts, and notes how many rows that were."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.rows: list[int] = []
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)

    def predicts(self, model: Any, call_s: float = 0.0, row_s: float = 0.0) -> Any:
        """The model, whose predictions take that long."""
        original = model.predict
        self.rows = []

        def predict(x: Any) -> Any:
            self.rows.append(len(x))
            self.now += call_s + row_s * len(x)
            return original(x)

        model.predict = predict
        return model


class Own(ClassifierMixin, BaseEstimator):
    """An estimator of the user's that fits another one inside."""

    def __init__(self, fails: bool = False) -> None:
        self.fails = fails

    def fit(self, x: Any, y: Any, weight: Any = None) -> Own:
        """Fit a tree."""
        if self.fails:
            raise Boom
        self.tree_ = DecisionTreeClassifier(max_depth=2, random_state=0).fit(x, y)
        self.classes_ = self.tree_.classes_
        return self

    def predict(self, x: Any) -> Any:
        """What the tree says; nobody else may ask."""
        self.asked_ = getattr(self, "asked_", 0) + 1
        return self.tree_.predict(x)


class TestOutermost:
    def test_each_fit_of_a_loop_is_a_record(self, begin: Begin, stored: Stored) -> None:
        """Several fits in one run are numbered from 1, under the names of their classes."""
        run = begin()
        with watch():
            for depth in (1, 2):
                DecisionTreeClassifier(max_depth=depth).fit(X, Y)
            KMeans(2, n_init=1).fit_predict(X)
            PCA(2).fit_transform(X)
        assert fits(stored(run)) == [
            ("DecisionTreeClassifier", 1),
            ("DecisionTreeClassifier", 2),
            ("KMeans", 3),
            ("PCA", 4),
        ]
        config = stored(run).config["sklearn"]
        assert sorted(config) == ["DecisionTreeClassifier", "KMeans", "PCA"]
        assert config["DecisionTreeClassifier"]["max_depth"] == 2

    def test_inner_estimators_are_no_records(self, begin: Begin, stored: Stored) -> None:
        """Steps, stacked estimators, label encoders, parts of an own estimator are no records."""
        run = begin()
        stack = StackingClassifier([("t", DecisionTreeClassifier()), ("n", GaussianNB())], cv=2)
        with watch():
            make_pipeline(StandardScaler(), LogisticRegression()).fit(X, Y)
            stack.fit(X, Y)
            Own().fit(X, Y)
        assert [name for name, _ in fits(stored(run))] == ["Pipeline", "StackingClassifier", "Own"]

    def test_parameters_are_deep(self, begin: Begin, stored: Stored) -> None:
        """Inner estimators are told by class, with their own parameters."""
        run = begin()
        model = make_pipeline(StandardScaler(), LogisticRegression(C=3.0))
        with watch():
            GridSearchCV(model, {"logisticregression__C": [1.0, 2.0]}, cv=2).fit(X, Y)
        config = stored(run).config["sklearn"]["GridSearchCV"]
        assert config["estimator"]["class"] == "Pipeline"
        steps = config["estimator"]["steps"]
        assert steps["logisticregression"]["class"] == "LogisticRegression"
        assert steps["logisticregression"]["C"] == 3.0
        assert config["param_grid"] == {"logisticregression__C": [1.0, 2.0]}

    def test_classes_that_come_later(self, begin: Begin, stored: Stored) -> None:
        """A class that is defined while something watches is recorded as well."""
        run = begin()
        with watch():

            class Later(BaseEstimator):
                def fit(self, x: Any, y: Any = None) -> Any:
                    return self

                def fit_transform(self, x: Any, y: Any = None) -> Any:
                    return self.fit(x, y) and x

            class Shown(sklearn.base.TransformerMixin, Later):
                def fit_transform(self, x: Any, y: Any = None) -> Any:
                    return x

            Later().fit(X)
            assert Shown().fit_transform(X) is X
        assert [name for name, _ in fits(stored(run))] == ["Later", "Shown"]
        Later().fit(X)
        assert Shown().fit_transform(X) is X
        assert len(fits(stored(run))) == 2

    def test_threads_of_a_pool_are_inner(self, begin: Begin, stored: Stored) -> None:
        """A search whose fits run in threads of joblib is one record."""
        run = begin()
        with watch(), joblib.parallel_backend("threading"):
            GridSearchCV(GaussianNB(), {"var_smoothing": [1e-9, 1e-3]}, cv=2, n_jobs=2).fit(X, Y)
            cross_validate(GaussianNB(), X, Y, cv=2, n_jobs=2)
        assert [name for name, _ in fits(stored(run))] == [
            "GridSearchCV",
            "GaussianNB/cross_validate_s",
        ]

    def test_threads_of_the_users_pool(self, begin: Begin, stored: Stored) -> None:
        """Fits that the program itself hands to joblib are outermost; those of a fit are inner."""

        class Pooled(BaseEstimator):
            def fit(self, x: Any, y: Any = None) -> Any:
                joblib.Parallel(n_jobs=2, prefer="threads")(
                    joblib.delayed(Slow().fit)(x, y) for _ in range(2)
                )
                return self

        class Slow(BaseEstimator):
            def fit(self, x: Any, y: Any = None) -> Any:
                time.sleep(0.05)
                return self

        run = begin()
        with watch():
            joblib.Parallel(n_jobs=2, prefer="threads")(
                joblib.delayed(Slow().fit)(X, Y) for _ in range(2)
            )
            Pooled().fit(X, Y)
        assert fits(stored(run)) == [("Slow", 1), ("Slow", 2), ("Pooled", 3)]

    def test_users_threads_are_outermost(self, begin: Begin, stored: Stored) -> None:
        """Fits that two threads of the program began at the same time are two records."""
        meeting = threading.Barrier(2, timeout=20)

        class Waits(BaseEstimator):
            def fit(self, x: Any, y: Any = None) -> Any:
                meeting.wait()
                return self

        run = begin()
        with watch():
            threads = [threading.Thread(target=Waits().fit, args=(X,)) for _ in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert fits(stored(run)) == [("Waits", 1), ("Waits", 2)]

    def test_own_watch_of_a_thread(self, begin: Begin, stored: Stored) -> None:
        """Two threads that watch into a run each do not meet."""
        runs = [begin(), begin()]
        meeting = threading.Barrier(2, timeout=20)

        def train(run: Any, model: Any) -> None:
            with watch(run):
                meeting.wait()
                model.fit(X, Y)
                meeting.wait()

        models = [GaussianNB(), DecisionTreeClassifier()]
        threads = [
            threading.Thread(target=train, args=pair) for pair in zip(runs, models, strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = [fits(stored(run)) for run in runs]
        assert found == [[("GaussianNB", 1)], [("DecisionTreeClassifier", 1)]]

    def test_worker_processes_stay_silent(self, tmp_path: Path, begin: Begin) -> None:
        """A search over a class of the script itself runs in two processes, and is one record."""
        script = tmp_path / "train.py"
        script.write_text(
            textwrap.dedent("""
                from sklearn.base import BaseEstimator, ClassifierMixin
                from sklearn.datasets import load_iris
                from sklearn.model_selection import GridSearchCV
                from sklearn.naive_bayes import GaussianNB
                from trackway.integrations.sklearn import watch

                class Mine(ClassifierMixin, BaseEstimator):
                    def __init__(self, a=1):
                        self.a = a

                    def fit(self, X, y):
                        self.inner_ = GaussianNB().fit(X, y)
                        self.classes_ = self.inner_.classes_
                        return self

                    def predict(self, X):
                        return self.inner_.predict(X)

                X, y = load_iris(return_X_y=True)
                with watch():
                    search = GridSearchCV(Mine(), {"a": [1, 2]}, cv=2, n_jobs=2).fit(X, y)
                print(len(search.cv_results_["params"]))
            """)
        )
        done = subprocess.run(
            [sys.executable, str(script)],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(tw.__file__).parents[1])},
        )
        assert (done.stdout, done.stderr) == ("2\n", "")
        [run] = tw.Api(tmp_path / "runs").runs("p")
        assert [name for name, _ in fits(run)] == ["GridSearchCV"]


class TestUnchanged:
    def test_signatures_and_pickles(self) -> None:
        """Signatures, routing, clones and pickles are what they are without."""
        model = LogisticRegression(C=2.0).fit(X, Y)

        def seen() -> list[Any]:
            return [
                inspect.signature(LogisticRegression.fit),
                inspect.signature(model.fit),
                has_fit_parameter(model, "sample_weight"),
                str(get_routing_for_object(model)),
                pickle.dumps(model),
                pickle.dumps(clone(model)),
                model.__dict__.keys(),
                LogisticRegression.fit.__qualname__,
                pickle.dumps(LogisticRegression.fit),
                str(inspect.signature(cross_validate)),
                pickle.dumps(cross_validate),
            ]

        without = seen()
        with watch():
            assert seen() == without
        assert seen() == without

    def test_metadata_routing(self, begin: Begin, stored: Stored) -> None:
        """Weights are routed through a pipeline just as without."""
        weights = np.linspace(0.1, 1.0, len(X))

        def routed() -> Any:
            model = GaussianNB().set_fit_request(sample_weight=True)
            scaler = StandardScaler().set_fit_request(sample_weight=True)
            return make_pipeline(scaler, model).fit(X, Y, sample_weight=weights).predict_proba(X)

        run = begin()
        with sklearn.config_context(enable_metadata_routing=True):
            without = routed()
            with watch():
                assert np.array_equal(routed(), without)
        assert fits(stored(run)) == [("Pipeline", 1)]

    def test_check_estimator(self, begin: Begin, stored: Stored) -> None:
        """The checks of scikit-learn have the same outcomes, and are no records."""

        def outcomes() -> list[tuple[str, str, str]]:
            found = []
            for model in (GaussianNB(), Ridge(), StandardScaler()):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    checked = outcomes_of(model)
                found += [(type(model).__name__, *outcome) for outcome in checked]
            return found

        without = outcomes()
        run = begin()
        with watch():
            assert outcomes() == without
        assert fits(stored(run)) == []
        assert len(without) > 100

    def test_everything_is_put_back(self) -> None:
        """When nothing watches any more, every class and function is what it was."""
        original = (GaussianNB.fit, vars(BaseEstimator).get("__init_subclass__"))
        with watch(), watch():
            during = GaussianNB.fit
            assert during is not original[0]
        assert (GaussianNB.fit, vars(BaseEstimator).get("__init_subclass__")) == original

    def test_wrappers_kept_fall_through(self, begin: Begin, stored: Stored) -> None:
        """Methods and functions that were taken while something watched go on working."""
        run = begin()
        model = GaussianNB()
        with watch():
            fit, function = model.fit, cross_val_score
        assert fit(X, Y) is model
        assert len(function(model, X, Y, cv=3)) == 3
        assert fits(stored(run)) == []

    def test_generators_of_random_numbers(self, begin: Begin) -> None:
        """A training score draws nothing, and estimators that draw to predict are not scored."""
        begin()
        shared = np.random.RandomState(3)
        with watch():
            DummyClassifier(strategy="stratified").fit(X, Y)
            DummyClassifier(strategy="stratified", random_state=shared).fit(X, Y)
            np.random.seed(3)
            DecisionTreeClassifier(random_state=0).fit(X, Y)
        expected = np.random.RandomState(3).rand()
        assert np.random.rand() == expected
        assert shared.rand() == expected

    def test_users_estimators_are_not_asked(self, begin: Begin, stored: Stored) -> None:
        """What the user wrote is neither called by us, nor are his scorers."""
        run = begin()
        asked: list[int] = []

        def scorer(model: Any, x: Any, y: Any) -> float:
            asked.append(len(x))
            return 0.5

        with watch():
            own = Own().fit(X, Y)
            GridSearchCV(GaussianNB(), {}, cv=2, scoring=scorer).fit(X, Y)
        assert not hasattr(own, "asked_")
        assert asked == [75, 75]
        assert not any("training_score" in name for name in stored(run).keys())  # noqa: SIM118

    @pytest.mark.parametrize("wanted", [True, False])
    def test_training_score(
        self, wanted: bool, begin: Begin, stored: Stored, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is the estimator's own score on its training data, unless it is not wanted."""
        monkeypatch.setattr(_score, "SHARE", 1e6)
        run = begin()
        with watch(training_score=wanted):
            model = DecisionTreeClassifier(max_depth=1).fit(X, Y)
        rows = [row for row in rows_of(stored(run)) if row[0].endswith("training_score")]
        expected = [("DecisionTreeClassifier/training_score", 1, model.score(X, Y))]
        assert rows == (expected if wanted else [])

    def test_training_score_of_short_fits(self, begin: Begin, stored: Stored) -> None:
        """A fit so short that scoring it would be felt is not scored, the first one included."""
        run = begin()
        with watch():
            GaussianNB().fit(X, Y)
        rows = [name for name, _, _ in rows_of(stored(run))]
        assert "GaussianNB/fit_s" in rows
        assert "GaussianNB/training_score" not in rows

    def test_training_score_keeps_to_its_share(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Rows are predicted as long as the share of the fit's own time lasts, and no longer."""
        clock = Clock(monkeypatch)
        x, y = np.tile(X, (20, 1)), np.tile(Y, 20)
        for each_s, scored in ((0.0, True), (1e-5, True), (3e-5, True), (3e-4, False)):
            model = clock.predicts(GaussianNB().fit(x, y), call_s=1e-4, row_s=each_s)
            started = clock.now
            found = _score.Scoring(wanted=True).score(model, x, y, 1.0)
            assert (found is not None) is scored
            assert clock.now - started <= 0.005 + each_s
            assert sum(clock.rows) <= 1000
            assert (sum(clock.rows) >= 32) is scored
        assert clock.rows[0] == 1

    def test_training_score_given_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where one row is too dear, none is predicted until there is twice as much to spend."""
        clock = Clock(monkeypatch)
        model = clock.predicts(GaussianNB().fit(X, Y), call_s=0.01, row_s=0.0)
        scoring = _score.Scoring(wanted=True)
        assert [scoring.score(model, X, Y, 1.0) for _ in range(5)] == [None] * 5
        assert clock.rows == [1]
        assert scoring.score(model, X, Y, 3.9) is None
        assert clock.rows == [1]
        assert scoring.score(model, X, Y, 20.0) is not None

    def test_training_score_of_large_models(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A forest, and a model that keeps its data, are not asked where that cannot be cheap."""
        clock = Clock(monkeypatch)
        x, y = np.tile(X, (2000, 2)), np.tile(Y, 2000)
        neighbours = clock.predicts(KNeighborsClassifier(algorithm="brute").fit(x, y))
        assert _score.Scoring(wanted=True).score(neighbours, x, y, 0.6) is None
        forest = clock.predicts(RandomForestClassifier(100, max_depth=1).fit(X, Y))
        assert _score.Scoring(wanted=True).score(forest, X, Y, 2.0) is None
        assert clock.rows == []

    @pytest.mark.parametrize(
        "model",
        [
            SVC(),
            KNeighborsClassifier(),
            RandomForestClassifier(4),
            make_pipeline(StandardScaler(), LogisticRegression()),
            StackingClassifier([("n", GaussianNB())], cv=2),
            Ridge(),
            GradientBoostingRegressor(n_estimators=4),
        ],
        ids=lambda model: type(model).__name__,
    )
    def test_training_score_is_the_models(
        self, model: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is what ``score`` says, of all kinds of estimators, and of lists and frames too."""
        monkeypatch.setattr(_score, "SHARE", 1e6)
        pandas = pytest.importorskip("pandas")
        for x, y in ((X, Y), (X.tolist(), Y.tolist()), (pandas.DataFrame(X), pandas.Series(Y))):
            model.fit(x, y)
            found = _score.Scoring(wanted=True).score(model, x, y, 1.0)
            assert found == pytest.approx(model.score(x, y))

    def test_training_score_that_would_draw(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What draws to predict, or calls what the user wrote, is not asked."""
        monkeypatch.setattr(_score, "SHARE", 1e6)

        def weights(distances: Any) -> Any:
            return 1.0 / (distances + 1.0)

        for model in (
            DummyClassifier(strategy="stratified"),
            DecisionTreeClassifier(random_state=np.random.RandomState(0)),
            KNeighborsClassifier(weights=weights),
            make_pipeline(DictionaryLearning(2, max_iter=1, random_state=0), GaussianNB()),
            make_pipeline(FunctionTransformer(np.log1p), GaussianNB()),
            make_pipeline(Own()),
        ):
            assert _score.Scoring(wanted=True).score(model.fit(X, Y), X, Y, 1.0) is None

    def test_other_threads_are_left_alone(
        self, begin: Begin, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What another thread draws meanwhile is drawn once, and no filter of warnings changes."""
        monkeypatch.setattr(_score, "SHARE", 1e6)
        begin()
        meeting = threading.Barrier(2, timeout=20)
        drawn: list[tuple[float, float]] = []
        filters: list[Any] = []

        def draw() -> None:
            with contextlib.suppress(threading.BrokenBarrierError):
                while True:
                    meeting.wait()
                    drawn.append((np.random.rand(), random.random()))
                    meeting.wait()

        def predict(self: Any, x: Any) -> Any:
            filters.append(warnings.filters)
            meeting.wait()
            meeting.wait()
            return original(self, x)

        original, here = GaussianNB.predict, warnings.filters
        monkeypatch.setattr(GaussianNB, "predict", predict)
        thread = threading.Thread(target=draw)
        thread.start()
        with watch():
            for _ in range(3):
                evaluate(GaussianNB().fit(X, Y), X, Y)
        meeting.abort()
        thread.join()
        assert all(each is here for each in filters)
        assert len(filters) == len(drawn) == len(set(drawn)) >= 6


class TestErrors:
    def test_own_run_fails(self, stored: Stored) -> None:
        """A fit that raises ends a run of its own as failed, also where the program catches it."""
        with watch():
            with pytest.raises(Boom):
                Own(fails=True).fit(X, Y)
            assert stored().state == "failed"
            GaussianNB().fit(X, Y)
        assert stored().state == "finished"
        assert fits(stored()) == [("GaussianNB", 1)]

    def test_inner_errors_end_nothing(self, begin: Begin, stored: Stored) -> None:
        """Fits that fail inside of a search do not end what the search is recorded into."""
        run = begin()
        search = GridSearchCV(Own(), {"fails": [True, False]}, cv=2, error_score=0.0)
        with watch(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            search.fit(X, Y)
            DecisionTreeClassifier().fit(X, Y)
        assert fits(stored(run)) == [("GridSearchCV", 1), ("DecisionTreeClassifier", 2)]

    @pytest.mark.swallows
    def test_called_exactly_once(self, root: Path) -> None:
        """Whatever fails on our side, the original is called once, with what was passed."""
        broken = FailingRun(root=root, project="p", id="broken", attempt=1, writer=None)
        calls: list[Any] = []

        class Counts(BaseEstimator):
            def get_params(self, deep: bool = True) -> Any:
                raise RuntimeError("not now")

            def fit(self, x: Any, y: Any = None) -> Any:
                calls.append(x)
                return self

        with watch(broken):
            Counts().fit(X)
        assert len(calls) == 1
        assert calls[0] is X
        assert _guard.troubles()

    def test_read_only_directory(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Where the runs' folder cannot be written the fit goes on, and it is told once."""
        blocked = tmp_path / "blocked"
        blocked.write_text("a file, not a folder")
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        monkeypatch.setenv("TRACKWAY_DIR", str(blocked))
        tw.autolog(only=["sklearn"])
        for _ in range(3):
            assert GaussianNB().fit(X, Y).score(X, Y) > 0.9
        assert capsys.readouterr().err.count("cannot be written") == 1


class TestSearches:
    def test_one_table(self, begin: Begin, stored: Stored) -> None:
        """A search is one run with one table of all candidates, the best one marked."""
        run = begin()
        with watch():
            search = GridSearchCV(DecisionTreeClassifier(), {"max_depth": [1, 2, None]}, cv=3)
            search.fit(X, Y)
        [table] = tables(stored(run))
        assert (table["name"], table["kind"], table["step"]) == (
            "GridSearchCV/cv_results_",
            "search",
            1,
        )
        columns = dict(table["columns"])
        assert columns["param_max_depth"] == [1, 2, None]
        assert columns["mean_test_score"] == search.cv_results_["mean_test_score"].tolist()
        assert columns["best"].index(True) == search.best_index_
        assert table["about"] == {
            "class": "GridSearchCV",
            "candidates": 3,
            "best": int(search.best_index_),
            "splits": 3,
        }
        summary = stored(run).summary
        assert summary["GridSearchCV/best_score_"] == search.best_score_
        assert summary["GridSearchCV/best_params_"] == search.best_params_
        [model] = [event.fields for event in stored(run).events("model")]
        assert (model["name"], model["about"]["class"], model["about"]["within"]) == (
            "GridSearchCV",
            "DecisionTreeClassifier",
            "GridSearchCV",
        )

    def test_cross_validate(self, begin: Begin, stored: Stored) -> None:
        """Scores are a table, their mean and deviation results; the fits inside are not records."""
        run = begin()
        with watch():
            scores = cross_validate(GaussianNB(), X, Y, cv=3, return_train_score=True)
        [table] = tables(stored(run))
        columns = dict(table["columns"])
        assert table["name"] == "GaussianNB/cross_validate"
        assert columns["test_score"] == scores["test_score"].tolist()
        assert columns["train_score"] == scores["train_score"].tolist()
        summary = stored(run).summary
        assert summary["GaussianNB/mean_test_score"] == scores["test_score"].mean()
        assert summary["GaussianNB/std_test_score"] == scores["test_score"].std()
        assert fits(stored(run)) == [("GaussianNB/cross_validate_s", 1)]

    def test_siblings(self, begin: Begin, stored: Stored) -> None:
        """Names that were imported before anything watched are recorded as well."""
        run = begin()
        with watch():
            scores = cross_val_score(GaussianNB(), X, Y, cv=3)
            sizes, _, test = learning_curve(GaussianNB(), X, Y, cv=3, train_sizes=[0.6, 1.0])
        first, second = tables(stored(run))
        assert dict(first["columns"])["test_score"] == scores.tolist()
        assert dict(second["columns"])["train_size"] == sizes.tolist()
        assert dict(second["columns"])["mean_test_score"] == test.mean(axis=1).tolist()
        assert len(fits(stored(run))) == 2


class TestIncremental:
    def test_every_call_is_a_point(self, begin: Begin, stored: Stored) -> None:
        """A point each n-th call, at the number of the call; the parameters once."""
        run = begin()
        model = SGDClassifier(random_state=0)
        with watch(every=2):
            for part in range(5):
                model.partial_fit(X[part::5], Y[part::5], classes=[0, 1, 2])
        rows = [row for row in rows_of(stored(run)) if not row[0].endswith("_s")]
        assert rows == [
            ("SGDClassifier/n_samples", 2, 60.0),
            ("SGDClassifier/n_samples", 4, 120.0),
            ("SGDClassifier/t_", 2, 61.0),
            ("SGDClassifier/t_", 4, 121.0),
        ]
        assert stored(run).config["sklearn"]["SGDClassifier"]["data"]["n_samples"] == 30

    def test_two_of_a_class(self, begin: Begin, stored: Stored) -> None:
        """Two incremental estimators of one class do not mix: the second one's name has a 2."""
        run = begin()
        models = [MiniBatchKMeans(2, n_init=1), MiniBatchKMeans(3, n_init=1)]
        with watch():
            for _ in range(2):
                for model in models:
                    model.partial_fit(X)
        rows = [row for row in rows_of(stored(run)) if row[0].endswith("/n_samples")]
        assert rows == [
            ("MiniBatchKMeans/2/n_samples", 1, 150.0),
            ("MiniBatchKMeans/2/n_samples", 2, 300.0),
            ("MiniBatchKMeans/n_samples", 1, 150.0),
            ("MiniBatchKMeans/n_samples", 2, 300.0),
        ]

    def test_autolog_keeps_one_run(self, stored: Stored) -> None:
        """All calls of one estimator's ``partial_fit`` go into one run, which the next fit ends."""
        tw.autolog(only=["sklearn"])
        model = SGDClassifier(random_state=0)
        for _ in range(3):
            model.partial_fit(X, Y, classes=[0, 1, 2])
        first = stored()
        assert len(first.history("SGDClassifier/n_samples")["SGDClassifier/n_samples"].steps) == 3
        GaussianNB().fit(X, Y)
        runs = tw.Api(first.path.parents[1]).runs("p")
        assert [run.state for run in runs] == ["finished", "finished"]


class TestAutolog:
    def test_scaler_opens_no_run(self, root: Path, stored: Stored) -> None:
        """A transformer alone opens no run; where one is open it is recorded."""
        tw.autolog(only=["sklearn"])
        StandardScaler().fit_transform(X)
        assert not root.exists()
        GaussianNB().fit(X, Y)
        assert fits(stored()) == [("GaussianNB", 1)]

    def test_before_the_import(self, root: Path) -> None:
        """Called before scikit-learn is imported it records just the same."""
        code = """
            import sys
            import trackway as tw
            tw.autolog(only=["sklearn"])
            assert "sklearn" not in sys.modules
            from sklearn.datasets import load_iris
            from sklearn.model_selection import cross_validate
            from sklearn.pipeline import make_pipeline
            from sklearn.naive_bayes import GaussianNB
            from sklearn.preprocessing import StandardScaler
            X, y = load_iris(return_X_y=True)
            make_pipeline(StandardScaler(), GaussianNB()).fit(X, y)
            cross_validate(GaussianNB(), X, y, cv=2)
        """
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)],
            capture_output=True,
            text=True,
            cwd=Path(tw.__file__).parents[1],
        )
        assert (done.stdout, done.stderr) == ("", "")
        runs = tw.Api(root).runs("p")
        found = [name for run in runs for name, _ in fits(run)]
        assert found == ["GaussianNB/cross_validate_s", "Pipeline"]

    def test_booster_is_left_to_its_own(self, begin: Begin, stored: Stored) -> None:
        """Where XGBoost's own integration is at work only shape and seconds are recorded here."""
        xgboost = pytest.importorskip("xgboost")
        run = begin()
        model = xgboost.XGBClassifier(n_estimators=2, max_depth=2)
        with watch():
            model.fit(X, Y)
        assert stored(run).config["sklearn"]["XGBClassifier"]["max_depth"] == 2
        other = begin()
        tw.autolog(only=["sklearn", "xgboost"])
        model.fit(X, Y)
        assert list(stored(other).config["sklearn"]["XGBClassifier"]) == ["data"]

    def test_boosters_of_a_search(self, begin: Begin, stored: Stored) -> None:
        """What a search or a cross-validation tries out has no series; a fit beside it has."""
        xgboost = pytest.importorskip("xgboost")
        tw.autolog(only=["sklearn", "xgboost"])
        run = begin()
        model = xgboost.XGBClassifier(n_estimators=2, max_depth=2)
        GridSearchCV(model, {"max_depth": [1, 2]}, cv=2).fit(X, Y)
        cross_validate(model, X, Y, cv=2)
        names = {name for name, _, _ in rows_of(stored(run))}
        assert names == {"GridSearchCV/fit_s", "XGBClassifier/cross_validate_s"}
        assert "xgboost" not in stored(run).config
        model.fit(X, Y, eval_set=[(X, Y)], verbose=False)
        assert "validation_0/mlogloss" in {name for name, _, _ in rows_of(stored(run))}

    def test_boosters_of_a_search_in_its_own_run(self, root: Path) -> None:
        """Also where the search opened the run: there is one, and the search is all it holds."""
        xgboost = pytest.importorskip("xgboost")
        tw.autolog(only=["sklearn", "xgboost"])
        model = xgboost.XGBClassifier(n_estimators=2, max_depth=2)
        GridSearchCV(model, {"max_depth": [1, 2]}, cv=2).fit(X, Y)
        [run] = tw.Api(root).runs("p")
        assert [name for name, _, _ in rows_of(run)] == ["GridSearchCV/fit_s"]
        assert list(run.config) == ["sklearn"]
        assert run.state == "finished"

    def test_forest(self, begin: Begin, stored: Stored) -> None:
        """Trees of a forest, which are fitted in threads, are not records."""
        run = begin()
        tw.autolog(only=["sklearn"])
        RandomForestClassifier(4, n_jobs=2, random_state=0).fit(X, Y)
        assert fits(stored(run)) == [("RandomForestClassifier", 1)]
