"""A study as rows, a table and a summary."""

from __future__ import annotations

import time
from collections.abc import Sequence
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

from trackway.core._guard import guard
from trackway.core.records import record_table
from trackway.integrations._base import RunHandle, named

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

__all__ = ["Following", "metric_names", "settings_of"]

TABLE_S: Final = 60.0
"""The table is told once in so many seconds while the study goes on, and at its end."""

_CONSTRAINTS: Final = "constraints"
_LONGEST: Final = 100


def metric_names(study: Study) -> list[str]:
    """What the user calls the objective's values; else ``value``, or ``value/0``, ``value/1``."""
    names = getattr(study, "metric_names", None)
    count = len(study.directions)
    if names and len(names) == count:
        return [str(name) for name in names]
    return ["value"] if count == 1 else [f"value/{number}" for number in range(count)]


class Following:
    """One study that is being optimised.

    Attributes:
        name: The study's name.
        jobs: How many trials run at once.
        depth: How many optimisations of it are under way.
    """

    def __init__(self, handle: RunHandle, study: Study, arguments: dict[str, Any]) -> None:
        self.name = study.study_name
        self.jobs = arguments.get("n_jobs", 1)
        self.depth = 0
        self._handle = handle
        self._study = study
        self._arguments = arguments
        self._names = metric_names(study)
        self._directions = [direction.name.lower() for direction in study.directions]
        self._best: float | None = None
        self._told = time.monotonic()
        self._lock = Lock()

    def configure(self) -> None:
        """What the study is, before its first trial."""
        study = self._study
        if len(self._names) == 1:
            for trial in study.get_trials(deepcopy=False):
                self._improved(trial)
        self._handle.configure(
            {
                "optuna": {
                    "study_name": self.name,
                    "directions": self._directions,
                    "sampler": settings_of(study.sampler),
                    "pruner": settings_of(study.pruner),
                    "storage": type(study._storage).__name__,
                    **self._arguments,
                }
            }
        )
        run = self._handle.run
        if run is not None:
            for name, direction in zip(self._names, self._directions, strict=True):
                if direction in ("minimize", "maximize"):
                    metric = next(iter(named({name: 0}, self._handle.prefix)))
                    run.define_metric(metric, goal=direction, summary="best")

    def trial(self, trial: FrozenTrial) -> None:
        """A trial ended: its row, at its number."""
        row: dict[str, Any] = {}
        if trial.state.name == "COMPLETE":
            row = dict(zip(self._names, trial.values, strict=True))
            if len(self._names) == 1:
                with self._lock:
                    best = self._improved(trial)
                row.update({} if best is None else {"best_value": best})
        if row and self._handle.due(trial.number):
            self._handle.log(row, trial.number)
        if time.monotonic() - self._told >= TABLE_S:
            self._told = time.monotonic()
            self._table(self._study.get_trials(deepcopy=False))

    def _improved(self, trial: FrozenTrial) -> float | None:
        """The best value so far, this trial's included where it is feasible."""
        if trial.state.name == "COMPLETE" and trial.values and _feasible(trial):
            value, pick = trial.values[0], max if self._directions[0] == "maximize" else min
            self._best = value if self._best is None else pick(self._best, value)
        return self._best

    def finish(self) -> None:
        """The optimisation is over: the whole table, what came of it."""
        trials = self._study.get_trials(deepcopy=False)
        with guard("optuna"):
            self._table(trials)
        with guard("optuna"):
            self._intermediate(trials)
        states = [trial.state.name for trial in trials]
        counts = {
            "trials": len(trials),
            "complete": states.count("COMPLETE"),
            "pruned": states.count("PRUNED"),
            "failed": states.count("FAIL"),
        }
        self._handle.summarize({**counts, **self._best_of()}, whole=True)

    def _best_of(self) -> dict[str, Any]:
        study = self._study
        try:
            if len(self._names) > 1:
                return {"best_trials": [trial.number for trial in study.best_trials]}
            best = study.best_trial
        except ValueError:
            return {}  # no trial is complete, or none is feasible
        return {
            "best_value": best.value,
            "best_number": best.number,
            "best_params": dict(best.params),
        }

    def _table(self, trials: Sequence[FrozenTrial]) -> None:
        about = {"study_name": self.name, "directions": self._directions, "values": self._names}
        self._record("study", columns_of(trials, self._names), about)

    def _intermediate(self, trials: Sequence[FrozenTrial]) -> None:
        points = [
            (trial.number, step, value)
            for trial in trials
            for step, value in sorted(trial.intermediate_values.items())
        ]
        if points:
            columns = zip(("number", "step", "value"), zip(*points, strict=True), strict=True)
            self._record("study/intermediate", dict(columns), {"study_name": self.name})

    def _record(self, name: str, columns: dict[str, Any], about: dict[str, Any]) -> None:
        run = self._handle.run
        if run is not None:
            place = next(iter(named({name: 0}, self._handle.prefix)))
            record_table(run, place, columns, kind=name.replace("/", "_"), about=about)


def _feasible(trial: FrozenTrial) -> bool:
    found = getattr(trial, "constraints", None)
    if not isinstance(found, dict | list | tuple):
        found = trial.system_attrs.get(_CONSTRAINTS)
    values = found.values() if isinstance(found, dict) else found or ()
    return all(value <= 0 for value in values)


def columns_of(trials: Sequence[FrozenTrial], names: Sequence[str]) -> dict[str, list[Any]]:
    """The trials as columns, called as ``Study.trials_dataframe`` calls them.

    Times are seconds since 1970, the duration is in seconds; None for what a trial has not.
    """
    columns: dict[str, list[Any]] = {
        "number": [trial.number for trial in trials],
        "state": [trial.state.name for trial in trials],
    }
    for place, name in enumerate(names):
        title = "value" if len(names) == 1 else f"values_{name.removeprefix('value/')}"
        columns[title] = [trial.values[place] if trial.values else None for trial in trials]
    for held in ("params", "user_attrs"):
        for key in dict.fromkeys(key for trial in trials for key in getattr(trial, held)):
            columns[f"{held}_{key}"] = [getattr(trial, held).get(key) for trial in trials]
    for title in ("datetime_start", "datetime_complete"):
        moments = [getattr(trial, title) for trial in trials]
        columns[title] = [None if moment is None else moment.timestamp() for moment in moments]
    durations = [trial.duration for trial in trials]
    columns["duration"] = [None if d is None else d.total_seconds() for d in durations]
    return columns


def settings_of(part: object) -> dict[str, Any]:
    """A sampler's or pruner's class, and what it was built with, as far as it can be seen.

    Only what the object holds under the names of its constructor's arguments; nothing of it is
    called.
    """
    import inspect

    found: dict[str, Any] = {"class": type(part).__name__}
    held = getattr(part, "__dict__", {})
    for name in inspect.signature(type(part).__init__).parameters:
        value = held.get(f"_{name}", held.get(name))
        short = isinstance(value, dict | list | tuple) and len(value) <= _LONGEST
        if short or isinstance(value, bool | int | float | str):
            found[name] = value
        elif value is not None and type(value).__module__.startswith("optuna."):
            found[name] = settings_of(value)
        elif callable(value):
            found[name] = getattr(value, "__qualname__", type(value).__name__)
    return found
