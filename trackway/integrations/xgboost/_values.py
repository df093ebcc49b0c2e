"""What XGBoost says of a training, as plain values; no framework is needed here."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from trackway.integrations._boosting import number

__all__ = ["directions", "effective", "given", "row"]

_MORE: Final = ("auc", "aucpr", "pre", "map", "ndcg", "interval-regression-accuracy")
_LESS: Final = (
    "rmse rmsle mae mape mphe logloss error merror mlogloss poisson-nloglik gamma-nloglik "
    "cox-nloglik gamma-deviance tweedie-nloglik aft-nloglik quantile expectile"
).split()

_BLOCKS: Final = (
    "generic_param",
    "learner_train_param",
    "gbtree_train_param",
    "tree_train_param",
    "dart_train_param",
    "gblinear_train_param",
    "linear_train_param",
)
"""The parts of the booster's own configuration that hold hyperparameters."""

_ARGUMENTS: Final = (
    "num_boost_round",
    "early_stopping_rounds",
    "maximize",
    "obj",
    "custom_metric",
    "nfold",
    "stratified",
    "seed",
    "shuffle",
)

History = Mapping[str, Mapping[str, Sequence[Any]]]


def row(history: History, index: int) -> dict[str, Any]:
    """One round's metrics as ``<dataset>/<metric>``; a cross-validation's with ``_std`` too."""
    values: dict[str, Any] = {}
    for dataset, metrics in history.items():
        for metric, series in metrics.items():
            if index >= len(series):
                continue
            value = series[index]
            if isinstance(value, tuple):
                values[f"{dataset}/{metric}"], values[f"{dataset}/{metric}_std"] = value
            else:
                values[f"{dataset}/{metric}"] = value
    return values


def directions(history: History, maximize: bool | None) -> dict[str, bool | None]:
    """Whether more is better: for XGBoost's own metrics, else as ``train`` was told."""
    return {
        f"{dataset}/{metric}": _direction(metric, maximize)
        for dataset, metrics in history.items()
        for metric in metrics
    }


def _direction(metric: str, maximize: bool | None) -> bool | None:
    kind = metric.partition("@")[0].removesuffix("-")
    if kind in _MORE:
        return True
    return False if kind in _LESS else maximize


def effective(config: str) -> dict[str, Any]:
    """The hyperparameters in effect, given or not, from what ``save_config`` returns."""
    learner = json.loads(config)["learner"]
    found: dict[str, Any] = {}
    _collect(learner, found)
    model = learner.get("learner_model_param", {})
    for name in ("num_class", "num_target", "base_score"):
        if name in model:
            found[name] = number(model[name])
    metrics = [metric["name"] for metric in learner.get("metrics", [])]
    if metrics:
        found["eval_metric"] = metrics if len(metrics) > 1 else metrics[0]
    return found


def _collect(tree: Mapping[str, Any], found: dict[str, Any]) -> None:
    for name, value in tree.items():
        if name in _BLOCKS:
            found.update({key: number(text) for key, text in value.items()})
        elif isinstance(value, dict) and name != "learner_model_param":
            _collect(value, found)
    parallel = tree.get("gbtree_model_param", {}).get("num_parallel_tree")
    if parallel is not None:
        found["num_parallel_tree"] = number(parallel)


def given(call: Mapping[str, Any]) -> dict[str, Any]:
    """What ``train`` or ``cv`` was called with: parameters, settings, the sizes of the data."""
    found = dict(call.get("params") or {})
    found.update({name: call[name] for name in _ARGUMENTS if call.get(name) is not None})
    metrics = call.get("metrics")
    if metrics:
        found["eval_metric"] = list(metrics) if len(metrics) > 1 else metrics[0]
    if call.get("xgb_model") is not None:
        found["continued"] = True
    found["n_rows"] = call["dtrain"].num_row()
    evals = {name: data.num_row() for data, name in call.get("evals") or ()}
    if evals:
        found["eval_rows"] = evals
    return found
