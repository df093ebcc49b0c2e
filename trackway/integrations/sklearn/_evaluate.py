"""``evaluate``: what a fitted model does on data, as numbers and as tables to be drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from trackway.core._guard import guard, note
from trackway.core.records import record_table
from trackway.core.run import Run
from trackway.errors import ArgumentError
from trackway.integrations._base import RunHandle, named
from trackway.integrations.sklearn import _curves, _outliers
from trackway.integrations.sklearn._values import learner

__all__ = ["evaluate"]

_CLASSES: Final = 20
"""Of how many classes the curves are kept: of those with the most samples."""

_SAMPLE: Final = 2000
"""On how many rows the silhouette is taken, which costs the square of them."""

_SEED: Final = 0

_PAIRS: Final = (
    "evaluate: with decision_function_shape='ovo' scores are those of pairs of classes, so there "
    "are no curves and no areas; 'ovr' gives them."
)
_WITHIN: Final = 12

_DELEGATES: Final = ("final_estimator_", "estimator_", "estimator")
"""Where estimators keep the one whose decision function is theirs."""

Numbers = dict[str, float]
Keep = Callable[..., None]


def evaluate(
    model: Any,
    X: Any,  # noqa: N803 - as scikit-learn calls it
    y: Any = None,
    *,
    run: Run | None = None,
    prefix: str = "",
    step: int | None = None,
) -> Numbers:
    """Predict, and record what the predictions are worth.

    Numbers go to the summary, or with a step to a row at it. Beside them are tables: of a
    classifier ``confusion_matrix``, ``classes``, ``roc_curve``, ``pr_curve``, ``calibration``; of a
    regressor ``residuals``, ``predicted_vs_true``; of a clustering ``clusters``; of what detects
    outliers ``outlier_scores``; of each whose estimator tells, ``feature_importance``. Nothing is
    drawn or changed but by the model's own ``predict`` and the like.

    Args:
        model: A fitted classifier, regressor, clustering or outlier detector, or a pipeline or
            search of such.
        X: The samples; of a clustering without ``predict``, those that it was fitted on.
        y: The truth; not needed for a clustering. Of outliers -1 or True, of others 1 or False.
        run: The run; by default the current one, else one for this alone.
        prefix: Goes before every name: ``test`` makes ``test/accuracy``.
        step: Where in the training the model is.

    Returns:
        The numbers, without the prefix.

    Raises:
        ArgumentError: An argument is wrong. What the model itself raises passes unchanged.
    """
    handle = RunHandle("sklearn", run, prefix=prefix)
    numbers: Numbers = {}
    kind = _kind(model)
    y = _truth(kind, y)
    predicted = _predicted(model, X)
    scores = _scores(model, X, kind)
    handle.ensure()
    keep = _keeper(handle, step)
    with guard("sklearn"):
        numbers = _MEASURES[kind](model, X, y, predicted, scores, keep)
    with guard("sklearn"):
        _importance(model, keep)
    with guard("sklearn"):
        if step is None:
            handle.summarize(numbers)
        else:
            handle.log(numbers, step)
    handle.end()
    return numbers


def _truth(kind: str, y: Any) -> Any:
    if kind == "outliers":
        return y if y is None else _outliers.truth(y)
    if kind != "cluster" and y is None:
        raise ArgumentError(f"y=None: the truth is needed to evaluate a {kind}")
    return y


def _predicted(model: Any, data: Any) -> Any:
    if hasattr(model, "predict"):
        return model.predict(data)
    labels = getattr(learner(model), "labels_", None)
    if labels is None:
        raise ArgumentError(f"model={model!r}: it has neither predict() nor labels_")
    count = data.shape[0] if hasattr(data, "shape") else len(data)
    if len(labels) != count:
        raise ArgumentError(
            f"X has {count} samples and model.labels_ {len(labels)}: {type(model).__name__} has "
            "no predict(), so pass the samples that it was fitted on"
        )
    return labels


def _keeper(handle: RunHandle, step: int | None) -> Keep:
    def keep(kind: str, columns: Mapping[str, Any], **about: object) -> None:
        run = handle.run
        if run is not None and columns:
            name = next(iter(named({kind: None}, handle.prefix)))
            record_table(run, name, columns, step=step, kind=kind, about=about)

    return keep


def _kind(model: Any) -> str:
    from sklearn.base import is_classifier, is_outlier_detector, is_regressor

    if not hasattr(model, "predict") and not hasattr(learner(model), "labels_"):
        raise ArgumentError(f"model={model!r}: it has neither predict() nor labels_")
    if is_outlier_detector(model):
        return "outliers"
    if is_classifier(model):
        return "classifier"
    if is_regressor(model):
        return "regressor"
    if hasattr(learner(model), "labels_") or hasattr(model, "fit_predict"):
        return "cluster"
    return "classifier" if hasattr(model, "classes_") else "regressor"


def _scores(model: Any, data: Any, kind: str) -> Any:
    """Probabilities, else the decision function, a column for each class; else None.

    Of what detects outliers, the decision function as it is.
    """
    import numpy as np

    if kind == "outliers":
        return model.decision_function(data) if hasattr(model, "decision_function") else None
    if kind != "classifier":
        return None
    if hasattr(model, "predict_proba"):
        found = model.predict_proba(data)
    elif hasattr(model, "decision_function"):
        found = model.decision_function(data)
        if found.ndim > 1 and _is_one_vs_one(model):
            note("sklearn", "ovo", _PAIRS)
            return None
    else:
        return None
    if isinstance(found, list):  # several outputs
        return None
    return np.column_stack([-found, found]) if found.ndim == 1 else found


def _is_one_vs_one(model: Any) -> bool:
    """Whether a column of the decision function is a pair of classes: of three, they are three."""
    for _ in range(_WITHIN):
        model = learner(model)
        if getattr(model, "decision_function_shape", None) == "ovo":
            return True
        held = getattr(model, "__dict__", {})
        inner = [held[name] for name in _DELEGATES if hasattr(held.get(name), "get_params")]
        if not inner:
            break
        model = inner[0]
    return False


# -- classifiers ----------------------------------------------------------------------------


def _classifier(model: Any, data: Any, y: Any, predicted: Any, scores: Any, keep: Keep) -> Numbers:
    import numpy as np
    from sklearn import metrics

    truth = np.asarray(y)
    numbers = {"accuracy": float(metrics.accuracy_score(truth, predicted))}
    several = truth.ndim > 1 and truth.shape[1] > 1
    for name in ("precision", "recall", "f1"):
        score = getattr(metrics, f"{name}_score")
        found = score(truth, predicted, average="macro", zero_division=0)
        numbers[f"{name}_macro"] = float(found)
    if several:
        return numbers
    truth = truth.ravel()
    labels = np.unique(np.concatenate([truth, np.asarray(predicted).ravel()]))
    matrix = _curves.confusion(truth, np.asarray(predicted).ravel(), labels)
    recalls = [row[i] / row.sum() for i, row in enumerate(matrix) if row.sum()]
    numbers["balanced_accuracy"] = float(np.mean(recalls))
    keep("confusion_matrix", _curves.matrix_table(labels, matrix), samples=len(truth))
    _classes(truth, predicted, labels, keep)
    classes = getattr(model, "classes_", None)
    if scores is not None and classes is not None and scores.shape[1] == len(classes):
        numbers.update(_ranked(truth, scores, np.asarray(classes), keep))
        if hasattr(model, "predict_proba"):
            numbers.update(_probable(truth, scores, np.asarray(classes), keep))
    return numbers


def _classes(truth: Any, predicted: Any, labels: Any, keep: Keep) -> None:
    from sklearn.metrics import precision_recall_fscore_support

    found = precision_recall_fscore_support(truth, predicted, labels=labels, zero_division=0)
    names = ("precision", "recall", "f1", "support")
    keep("classes", {"class": labels, **dict(zip(names, found, strict=True))})


def _chosen(truth: Any, classes: Any) -> list[int]:
    """Which classes have curves: the second of two, else those with the most samples.

    Those of which there are no samples, or nothing but, have none.
    """
    counts = [int((truth == each).sum()) for each in classes]
    columns = [1] if len(classes) == 2 else sorted(range(len(classes)), key=lambda i: -counts[i])
    return sorted(i for i in columns[:_CLASSES] if 0 < counts[i] < len(truth))


def _ranked(truth: Any, scores: Any, classes: Any, keep: Keep) -> Numbers:
    """ROC and precision-recall, each class against the rest; their areas, averaged over classes."""
    import numpy as np
    from sklearn import metrics

    roc, precisions = _curves.Curves("fpr", "tpr"), _curves.Curves("recall", "precision")
    for column in _chosen(truth, classes):
        positive, score = truth == classes[column], scores[:, column]
        fpr, tpr, thresholds = metrics.roc_curve(positive, score)
        area = float(metrics.auc(fpr, tpr))
        roc.add(classes[column], fpr, tpr, thresholds, area)
        precision, recall, thresholds = metrics.precision_recall_curve(positive, score)
        area = float(metrics.average_precision_score(positive, score))
        precisions.add(classes[column], recall, precision, np.append(thresholds, np.inf), area)
    keep("roc_curve", roc.columns, **roc.about(len(classes)))
    keep("pr_curve", precisions.columns, **precisions.about(len(classes)))
    if not roc.areas:
        return {}
    return {
        "roc_auc": float(np.mean(roc.areas)),
        "average_precision": float(np.mean(precisions.areas)),
    }


def _probable(truth: Any, scores: Any, classes: Any, keep: Keep) -> Numbers:
    """Log loss and calibration."""
    import numpy as np
    from sklearn import metrics

    chosen = _chosen(truth, classes)
    tables = [_curves.calibration(truth == classes[i], scores[:, i], classes[i]) for i in chosen]
    keep("calibration", _curves.joined(tables), bins=_curves.BINS, classes=len(classes))
    if not np.isin(truth, classes).all():  # a class that was never learned has no probability
        return {}
    return {"log_loss": float(metrics.log_loss(truth, scores, labels=classes))}


# -- regressors, clusterings ----------------------------------------------------------------


def _regressor(model: Any, data: Any, y: Any, predicted: Any, scores: Any, keep: Keep) -> Numbers:
    import numpy as np
    from sklearn import metrics

    truth, found = np.asarray(y, dtype=float), np.asarray(predicted, dtype=float)
    found = found.reshape(truth.shape)
    mse = float(metrics.mean_squared_error(truth, found))
    mae = float(metrics.mean_absolute_error(truth, found))
    numbers = {"mse": mse, "rmse": mse**0.5, "mae": mae}
    if len(truth) > 1:
        numbers["r2"] = float(metrics.r2_score(truth, found))
    if truth.ndim == 1:
        numbers["max_error"] = float(np.abs(truth - found).max())
        keep("residuals", _curves.distribution(truth - found), samples=len(truth))
        keep("predicted_vs_true", _curves.pairs(truth, found), samples=len(truth))
    return numbers


def _cluster(model: Any, data: Any, y: Any, predicted: Any, scores: Any, keep: Keep) -> Numbers:
    import numpy as np
    from sklearn import metrics
    from sklearn.utils import _safe_indexing

    labels = np.asarray(predicted)
    names, counts = np.unique(labels, return_counts=True)
    keep("clusters", {"cluster": names, "samples": counts}, samples=len(labels))
    numbers: Numbers = {"clusters": float((names >= 0).sum())}
    if y is not None:
        truth = np.asarray(y)
        numbers["adjusted_rand"] = float(metrics.adjusted_rand_score(truth, labels))
        mutual = metrics.normalized_mutual_info_score(truth, labels)
        numbers["normalized_mutual_info"] = float(mutual)
    if len(labels) > _SAMPLE:
        rows = np.random.RandomState(_SEED).permutation(len(labels))[:_SAMPLE]
        data, labels = _safe_indexing(data, rows), labels[rows]
    if 1 < len(np.unique(labels)) < len(labels):
        numbers["silhouette"] = float(metrics.silhouette_score(data, labels))
        if not hasattr(data, "tocsr"):
            numbers["davies_bouldin"] = float(metrics.davies_bouldin_score(data, labels))
            numbers["calinski_harabasz"] = float(metrics.calinski_harabasz_score(data, labels))
    return numbers


_MEASURES: Final = {
    "classifier": _classifier,
    "regressor": _regressor,
    "cluster": _cluster,
    "outliers": _outliers.measure,
}


def _importance(model: Any, keep: Keep) -> None:
    columns, about = _curves.importance(model, learner(model))
    keep("feature_importance", columns, **about)
