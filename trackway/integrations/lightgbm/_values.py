"""What LightGBM says of a training, as plain values; no framework is needed here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from trackway.integrations._boosting import number

__all__ = ["Result", "best", "directions", "effective", "given", "results", "row"]


_MACHINE: Final = ("gpu_", "num_gpu", "num_machines", "machine", "local_listen_port", "time_out")
"""How the names begin of what says where a model is trained, not how."""


class Result(NamedTuple):
    """One evaluated metric."""

    dataset: str
    metric: str
    value: Any
    maximize: bool
    std: Any = None


def results(found: Iterable[Any] | None) -> list[Result]:
    """What ``evaluation_result_list`` holds: named tuples, or plain ones before LightGBM 4.7."""
    return [_result(item) for item in found or ()]


def _result(item: Any) -> Result:
    if hasattr(item, "metric_value"):
        return Result(
            item.dataset_name, item.metric_name, item.metric_value, item.maximize,
            item.metric_std_dev,
        )  # fmt: skip
    dataset, metric, value, maximize = item[:4]
    if dataset == "cv_agg":  # then the dataset's name stands before the metric's
        dataset, _, metric = metric.partition(" ")
    return Result(dataset, metric, value, maximize, item[4] if len(item) > 4 else None)


def row(found: Iterable[Result]) -> dict[str, Any]:
    """A round's metrics as ``<dataset>/<metric>``; a cross-validation's with ``_std`` too."""
    values: dict[str, Any] = {}
    for result in found:
        name = f"{result.dataset}/{result.metric}"
        values[name] = result.value
        if result.std is not None:
            values[f"{name}_std"] = result.std
    return values


def directions(found: Iterable[Result]) -> dict[str, bool | None]:
    """Whether more is better, as LightGBM says it with every value."""
    return {f"{result.dataset}/{result.metric}": bool(result.maximize) for result in found}


def best(iteration: int, scores: Iterable[Any]) -> dict[str, Any]:
    """Results for the summary: the best iteration as LightGBM counts it, and its scores."""
    scored = row(result._replace(std=None) for result in results(scores))
    return {
        "best_iteration": iteration,
        **{f"best_score/{name}": value for name, value in scored.items()},
    }


def effective(model: str) -> dict[str, Any]:
    """The hyperparameters in effect, given or not, from a model's text."""
    found: dict[str, Any] = {}
    for line in model.partition("\nparameters:\n")[2].splitlines():
        if line.startswith("end of parameters"):
            break
        name, _, value = line.strip("[]").partition(": ")
        if value and not name.startswith(_MACHINE):
            found[name] = number(value)
    return found


def given(env: Any, call: Mapping[str, Any]) -> dict[str, Any]:
    """What ``train`` or ``cv`` was called with: parameters, settings, the sizes of the data."""
    found = dict(env.params)
    found["num_boost_round"] = env.end_iteration - env.begin_iteration
    if env.begin_iteration:
        found["continued"] = True
    folds = getattr(env.model, "boosters", None)
    if isinstance(folds, list):
        found["nfold"] = len(folds)
    if call.get("fobj") is not None:
        found["objective"] = call["fobj"]
    for callback in call.get("callbacks_after_iter", ()):
        rounds = getattr(callback, "stopping_rounds", None)
        if rounds is not None:
            found["early_stopping_rounds"] = rounds
    if "train_set" in call:
        found["n_rows"] = call["train_set"].num_data()
    names, sets = call.get("name_valid_sets") or (), call.get("reduced_valid_sets") or ()
    sizes = {name: data.num_data() for name, data in zip(names, sets, strict=False)}
    if sizes:
        found["eval_rows"] = sizes
    return found
