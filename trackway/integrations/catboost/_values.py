"""What CatBoost says of a training, as plain values; no framework is needed here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

__all__ = ["best", "cross_validated", "given", "grown", "histories"]

Metrics = Mapping[str, Mapping[str, Sequence[Any]]]


def grown(metrics: Metrics, seen: dict[str, int]) -> dict[str, Any]:
    """The values that came with this iteration, as ``<dataset>/<metric>``.

    With a ``metric_period`` not every iteration has been evaluated.

    Args:
        metrics: The histories up to this iteration.
        seen: How long each of them was before; is brought up to date.
    """
    values: dict[str, Any] = {}
    for dataset, of_dataset in metrics.items():
        for metric, history in of_dataset.items():
            name = f"{dataset}/{metric}"
            if len(history) > seen.get(name, 0):
                seen[name] = len(history)
                values[name] = history[-1]
    return values


def histories(metrics: Metrics, period: int, iterations: int) -> Iterator[tuple[int, Any]]:
    """The rows of a training that is over: each iteration that was evaluated, and its values.

    Args:
        metrics: The histories.
        period: Each so many iterations were evaluated, and the last one.
        iterations: How many there were to be.
    """
    longest = max((len(v) for of_set in metrics.values() for v in of_set.values()), default=0)
    for index in range(longest):
        values = {
            f"{dataset}/{metric}": history[index]
            for dataset, of_dataset in metrics.items()
            for metric, history in of_dataset.items()
            if index < len(history)
        }
        yield min(index * period, iterations - 1), values


def cross_validated(results: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of what ``cv`` returned: ``<dataset>/<metric>``, and the same with ``_std``."""
    table = results[0] if isinstance(results, tuple) else results
    columns = {str(name): list(table[name]) for name in table}
    steps = columns.pop("iterations", None)
    names = {column: _series(column) for column in columns}
    for index in range(max(map(len, columns.values()), default=0)):
        step = index if steps is None else int(steps[index])
        yield step, {names[column]: values[index] for column, values in columns.items()}


def _series(column: str) -> str:
    """``test-Logloss-mean`` is ``test/Logloss``, and ``test-Logloss-std`` ``test/Logloss_std``."""
    dataset, _, metric = column.partition("-")
    if metric.endswith("-std"):
        return f"{dataset}/{metric.removesuffix('-std')}_std"
    return f"{dataset}/{metric.removesuffix('-mean')}"


def given(call: Mapping[str, Any]) -> dict[str, Any]:
    """What ``fit`` was called with: parameters, settings, the sizes of the data."""
    found = {k: v for k, v in dict(call.get("params") or {}).items() if k != "callbacks"}
    if call.get("init_model") is not None:
        found["continued"] = True
    pool = call.get("train_pool")
    if pool is not None:
        found["n_rows"], found["n_features"] = pool.num_row(), pool.num_col()
    sets = (call.get("train_params") or {}).get("eval_sets") or []
    if sets:
        found["eval_rows"] = [data.num_row() for data in sets]
    return found


def best(model: Any) -> dict[str, Any]:
    """Results for the summary: best iteration and scores, and how many trees the model has."""
    found: dict[str, Any] = {"trees": model.tree_count_}
    if model.best_iteration_ is not None:
        found["best_iteration"] = model.best_iteration_
    for dataset, metrics in (model.best_score_ or {}).items():
        found.update({f"best_score/{dataset}/{name}": value for name, value in metrics.items()})
    return found
