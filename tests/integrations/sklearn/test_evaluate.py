"""``evaluate`` and the tables: the numbers are scikit-learn's own, and sizes are bounded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn import metrics
from sklearn.cluster import DBSCAN, KMeans
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.ensemble import (
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    IsolationForest,
    StackingClassifier,
)
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, OneClassSVM
from sklearn.tree import DecisionTreeClassifier

import trackway as tw
from tests.integrations.contract import rows_of
from trackway.api import StoredRun
from trackway.core import _guard
from trackway.integrations.sklearn import _curves, _values, evaluate, watch

Begin = Callable[..., Any]
Stored = Callable[..., StoredRun]

pytestmark = [pytest.mark.filterwarnings("ignore:scipy.optimize.*`iprint`:DeprecationWarning")]


def tables(run: StoredRun) -> dict[str, dict[str, Any]]:
    """Every table by its name."""
    return {event.fields["name"]: event.fields for event in run.events("table")}


def columns(table: dict[str, Any]) -> dict[str, list[Any]]:
    """Its columns by name."""
    return dict(table["columns"])


class TestClassifier:
    def test_two_classes(self, begin: Begin, stored: Stored) -> None:
        """Every number is what scikit-learn says, and goes to the summary behind the prefix."""
        x, y = load_breast_cancer(return_X_y=True)
        model = GaussianNB().fit(x, y)
        run = begin()
        found = evaluate(model, x, y, prefix="test")
        predicted, probable = model.predict(x), model.predict_proba(x)
        assert found == {
            "accuracy": metrics.accuracy_score(y, predicted),
            "balanced_accuracy": pytest.approx(metrics.balanced_accuracy_score(y, predicted)),
            "precision_macro": metrics.precision_score(y, predicted, average="macro"),
            "recall_macro": metrics.recall_score(y, predicted, average="macro"),
            "f1_macro": metrics.f1_score(y, predicted, average="macro"),
            "log_loss": metrics.log_loss(y, probable),
            "roc_auc": pytest.approx(metrics.roc_auc_score(y, probable[:, 1])),
            "average_precision": metrics.average_precision_score(y, probable[:, 1]),
        }
        stored_run = stored(run)
        assert {f"test/{name}": value for name, value in found.items()} == dict(stored_run.summary)
        kept = tables(stored_run)
        assert sorted(kept) == [
            "test/calibration",
            "test/classes",
            "test/confusion_matrix",
            "test/pr_curve",
            "test/roc_curve",
        ]
        assert [kept[f"test/{kind}"]["kind"] for kind in ("roc_curve", "confusion_matrix")] == [
            "roc_curve",
            "confusion_matrix",
        ]
        cells = columns(kept["test/confusion_matrix"])
        assert cells["count"] == metrics.confusion_matrix(y, predicted).ravel().tolist()
        assert sum(columns(kept["test/calibration"])["count"]) == len(y)

    def test_several_classes(self, begin: Begin, stored: Stored) -> None:
        """Each class has its curve against the rest; the area is their mean."""
        x, y = load_iris(return_X_y=True)
        names = np.array(["setosa", "versicolor", "virginica"])[y]
        model = GaussianNB().fit(x, names)
        run = begin()
        found = evaluate(model, x, names, step=7)
        expected = metrics.roc_auc_score(y, model.predict_proba(x), multi_class="ovr")
        assert found["roc_auc"] == pytest.approx(expected)
        roc = tables(stored(run))["roc_curve"]
        assert roc["step"] == 7
        assert set(columns(roc)["class"]) == {"setosa", "versicolor", "virginica"}
        assert sorted(row[:2] for row in rows_of(stored(run))) == sorted((n, 7) for n in found)
        assert dict(stored(run).summary).get("accuracy") == found["accuracy"]

    def test_without_probabilities(self, begin: Begin, stored: Stored) -> None:
        """A decision function is enough for the curves; there is no log loss then."""
        x, y = load_breast_cancer(return_X_y=True)
        model = RidgeClassifier().fit(x, y)
        begin()
        found = evaluate(model, x, y)
        expected = metrics.roc_auc_score(y, model.decision_function(x))
        assert found["roc_auc"] == pytest.approx(expected)
        assert "log_loss" not in found

    @pytest.mark.parametrize("within", ["alone", "pipeline", "search", "stack"])
    def test_scores_of_pairs_of_classes(
        self, within: str, begin: Begin, stored: Stored, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """One against one there are no curves, and it is said once; the others are as they are."""
        x, y = load_iris(return_X_y=True)
        found = []
        for shape in ("ovr", "ovo"):
            model: Any = SVC(decision_function_shape=shape)
            if within != "alone":
                model = make_pipeline(StandardScaler(), model)
            if within == "search":
                model = GridSearchCV(model, {}, cv=2)
            if within == "stack":
                model = StackingClassifier(
                    [("n", GaussianNB())], SVC(decision_function_shape=shape)
                )
            model.fit(x, y)
            run = begin()
            found.append(evaluate(model, x, y))
            found.append(evaluate(model, x, y, prefix="again"))
        assert "roc_auc" in found[0]
        assert (
            found[2]
            == found[3]
            == {
                name: value
                for name, value in found[0].items()
                if name not in ("roc_auc", "average_precision")
            }
        )
        kept = tables(stored(run))
        assert "confusion_matrix" in kept
        assert "roc_curve" not in kept
        assert "pr_curve" not in kept
        assert [trouble.count for trouble in _guard.troubles() if trouble.reason == "ovo"] == [2]
        assert capsys.readouterr().err.count("'ovr' gives them") == 1

    def test_one_pair_of_classes(self, begin: Begin) -> None:
        """Of two classes there is one pair, and its scores are as good as any."""
        x, y = load_breast_cancer(return_X_y=True)
        begin()
        model = SVC(decision_function_shape="ovo").fit(x, y)
        expected = metrics.roc_auc_score(y, model.decision_function(x))
        assert evaluate(model, x, y)["roc_auc"] == pytest.approx(expected)

    def test_labels_the_model_does_not_know(self, begin: Begin) -> None:
        """One class only, or one never learned: what cannot be told is left out."""
        x, y = load_iris(return_X_y=True)
        model = GaussianNB().fit(x[:100], y[:100])
        begin()
        assert evaluate(model, x, y)["accuracy"] == model.score(x, y)
        single = evaluate(model, x[:50], y[:50])
        assert single["accuracy"] == 1.0
        assert "roc_auc" not in single

    def test_curves_are_bounded(self, begin: Begin, stored: Stored) -> None:
        """A long curve keeps at most 1000 points, both ends and its best one, and says so."""
        generator = np.random.RandomState(0)
        y = generator.randint(0, 2, 20_000)
        x = (y + generator.normal(size=len(y)))[:, None]
        model = LogisticRegression().fit(x, y)
        run = begin()
        evaluate(model, x, y)
        roc = tables(stored(run))["roc_curve"]
        kept = columns(roc)
        fpr, tpr, _ = metrics.roc_curve(y, model.predict_proba(x)[:, 1])
        assert roc["rows"] <= _curves.POINTS < len(fpr)
        assert roc["about"]["points"] == {"1": len(fpr)}
        assert (kept["fpr"][0], kept["tpr"][-1]) == (0.0, 1.0)
        assert max(np.subtract(kept["tpr"], kept["fpr"])) == (tpr - fpr).max()


class TestOthers:
    def test_regressor(self, begin: Begin, stored: Stored) -> None:
        """Errors, residuals, predictions beside the truth, and the weights of features."""
        data = load_diabetes()
        x, y = data.data, data.target
        model = make_pipeline(StandardScaler(), LinearRegression()).fit(x, y)
        run = begin()
        found = evaluate(model, x, y)
        predicted = model.predict(x)
        assert found == {
            "mse": metrics.mean_squared_error(y, predicted),
            "rmse": metrics.mean_squared_error(y, predicted) ** 0.5,
            "mae": metrics.mean_absolute_error(y, predicted),
            "r2": metrics.r2_score(y, predicted),
            "max_error": metrics.max_error(y, predicted),
        }
        kept = tables(stored(run))
        assert sorted(kept) == ["feature_importance", "predicted_vs_true", "residuals"]
        assert sum(columns(kept["residuals"])["count"]) == len(y)
        assert columns(kept["predicted_vs_true"])["true"] == y.tolist()
        weights = columns(kept["feature_importance"])
        assert weights["coefficient"][0] == pytest.approx(max(model[-1].coef_, key=abs))
        assert kept["feature_importance"]["about"] == {"source": "coef_", "features": 10}

    def test_feature_names(self, begin: Begin, stored: Stored) -> None:
        """Features are called as in the data frame, also behind a step of a pipeline."""
        pandas = pytest.importorskip("pandas")
        data = load_iris()
        frame = pandas.DataFrame(data.data, columns=list("abcd"))
        model = make_pipeline(StandardScaler(), DecisionTreeClassifier(random_state=0))
        model.fit(frame, data.target)
        run = begin()
        evaluate(model, frame, data.target)
        weights = columns(tables(stored(run))["feature_importance"])
        expected = model[-1].feature_importances_
        assert dict(zip(weights["feature"], weights["importance"], strict=True)) == dict(
            zip("abcd", expected.tolist(), strict=True)
        )

    def test_clusters(self, begin: Begin, stored: Stored) -> None:
        """A clustering needs no truth; the silhouette of many samples is that of 2000."""
        x, y = load_iris(return_X_y=True)
        model = KMeans(3, n_init=1, random_state=0).fit(x)
        run = begin()
        found = evaluate(model, x)
        assert found["silhouette"] == metrics.silhouette_score(x, model.labels_)
        assert found["clusters"] == 3.0
        assert evaluate(model, x, y)["adjusted_rand"] == metrics.adjusted_rand_score(
            y, model.labels_
        )
        assert sum(columns(tables(stored(run))["clusters"])["samples"]) == 150
        many = np.tile(x, (20, 1))
        assert evaluate(model, many) == evaluate(model, many)

    @pytest.mark.parametrize("piped", [False, True])
    def test_outliers(self, piped: bool, begin: Begin, stored: Stored) -> None:
        """The share of outliers, the distribution of scores, and what is true of both."""
        generator = np.random.RandomState(0)
        x = np.concatenate([generator.normal(size=(90, 2)), generator.normal(6, 1, size=(10, 2))])
        y = np.repeat([1, -1], [90, 10])
        model: Any = IsolationForest(n_estimators=10, contamination=0.12, random_state=0)
        model = make_pipeline(StandardScaler(), model) if piped else model
        model.fit(x)
        predicted, scores = model.predict(x), model.decision_function(x)
        run = begin()
        assert evaluate(model, x) == {"outliers": (predicted == -1).mean()}
        found = evaluate(model, x, y)
        assert (
            found
            == evaluate(model, x, y == -1)
            == {
                "outliers": (predicted == -1).mean(),
                "precision": metrics.precision_score(y, predicted, pos_label=-1),
                "recall": metrics.recall_score(y, predicted, pos_label=-1),
            }
        )
        assert 0.5 < found["precision"] < 1.0
        kept = tables(stored(run))
        assert list(kept) == ["outlier_scores"]
        counts, edges = np.histogram(scores, bins=50)
        assert columns(kept["outlier_scores"]) == {
            "from": edges[:-1].tolist(),
            "to": edges[1:].tolist(),
            "count": counts.tolist(),
        }
        assert kept["outlier_scores"]["about"] == {"samples": 100, "threshold": 0.0}

    def test_truth_about_outliers(self, begin: Begin) -> None:
        """Labels that do not say which are outliers are refused; none there leave no recall."""
        x, y = load_iris(return_X_y=True)
        model = OneClassSVM(nu=0.1).fit(x)
        begin()
        with pytest.raises(tw.ArgumentError, match="-1 for outliers"):
            evaluate(model, x, y)
        assert sorted(evaluate(model, x, np.ones(150))) == ["outliers", "precision"]

    def test_labels_of_other_samples(self, begin: Begin, stored: Stored) -> None:
        """A clustering that cannot predict is evaluated on what it was fitted on, and else not."""
        x, y = load_iris(return_X_y=True)
        run = begin()
        for model in (DBSCAN(), make_pipeline(StandardScaler(), DBSCAN())):
            model.fit(x)
            with pytest.raises(tw.ArgumentError, match=r"X has 10 samples and model\.labels_ 150"):
                evaluate(model, x[:10])
        assert tables(stored(run)) == {}
        assert evaluate(DBSCAN().fit(x), x, y)["clusters"] == 2.0

    def test_generators_are_left_alone(self, begin: Begin) -> None:
        """Nothing is drawn from the global generator."""
        x, _ = load_iris(return_X_y=True)
        begin()
        model = KMeans(3, n_init=1, random_state=0).fit(x)
        np.random.seed(5)
        evaluate(model, np.tile(x, (20, 1)))
        assert np.random.rand() == np.random.RandomState(5).rand()

    def test_own_run(self, stored: Stored) -> None:
        """Without a run it opens one, and finishes it."""
        x, y = load_iris(return_X_y=True)
        evaluate(GaussianNB().fit(x, y), x, y)
        assert stored().state == "finished"
        assert stored().summary["accuracy"] == 0.96

    def test_wrong_arguments(self) -> None:
        """They are told before anything is recorded."""
        with pytest.raises(tw.ArgumentError, match="predict"):
            evaluate("model", [[1]])
        x, y = load_iris(return_X_y=True)
        with pytest.raises(tw.ArgumentError, match="y=None"):
            evaluate(GaussianNB().fit(x, y), x)


class TestSeries:
    def test_boosting(self, begin: Begin, stored: Stored) -> None:
        """Losses of gradient boosting are series; an iteration before the first has the number 0.

        Those of a second fit of the class have a 2 in their name.
        """
        x, y = load_diabetes(return_X_y=True)
        labels = (y > 150).astype(int)
        run = begin()
        with watch():
            model = GradientBoostingRegressor(n_estimators=3, random_state=0).fit(x, y)
            GradientBoostingRegressor(n_estimators=2, random_state=0).fit(x, y)
            hist = HistGradientBoostingClassifier(max_iter=2, early_stopping=True, random_state=0)
            hist.fit(x, labels)
        rows = rows_of(stored(run))
        first = [row for row in rows if row[0] == "GradientBoostingRegressor/train_score_"]
        assert [(step, value) for _, step, value in first] == list(
            enumerate(model.train_score_.tolist(), 1)
        )
        second = [row for row in rows if row[0] == "GradientBoostingRegressor/2/train_score_"]
        assert [row[1] for row in second] == [1, 2]
        third = [
            row[1:] for row in rows if row[0] == "HistGradientBoostingClassifier/validation_score_"
        ]
        assert third == list(enumerate(hist.validation_score_.tolist(), 0))

    def test_pipeline(self, begin: Begin, stored: Stored) -> None:
        """The series of a pipeline are those of its last step."""
        x, y = load_diabetes(return_X_y=True)
        run = begin()
        with watch():
            make_pipeline(StandardScaler(), GradientBoostingRegressor(n_estimators=2)).fit(x, y)
        steps = stored(run).history("Pipeline/train_score_")["Pipeline/train_score_"].steps
        assert steps.tolist() == [1, 2]

    def test_odd_parameters(self) -> None:
        """Large arrays, functions and objects are told in a few words."""
        scale = KMeans(2, init=np.zeros((300, 2)))
        assert _values.parameters(scale)["init"] == "ndarray of 300x2"
        assert _values.parameters(make_pipeline(GaussianNB()))["steps"]["gaussiannb"] == {
            "class": "GaussianNB",
            "priors": None,
            "var_smoothing": 1e-9,
        }
        tree = DecisionTreeClassifier(random_state=np.random.RandomState(0))
        assert _values.parameters(tree)["random_state"].startswith("RandomState")

    def test_sparse(self) -> None:
        """Of sparse data it is told that they are."""
        sparse = pytest.importorskip("scipy.sparse")
        facts = _values.data_facts(sparse.csr_matrix((3, 2)))
        assert facts == {
            "n_samples": 3,
            "n_features": 2,
            "sparse": True,
            "type": "csr_matrix of float64",
        }
        assert _values.data_facts(["a", "b"])["n_samples"] == 2
