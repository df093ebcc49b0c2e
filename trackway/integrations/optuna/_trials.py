"""A run for one trial."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from trackway.core._guard import guard
from trackway.core._names import new_id
from trackway.core.init import init
from trackway.core.run import Run
from trackway.integrations._base import named
from trackway.integrations.optuna._study import metric_names

if TYPE_CHECKING:
    from optuna.trial import Trial

__all__ = ["begin", "end_failed", "end_pruned", "end_told"]

INTERMEDIATE = "intermediate_value"


def begin(trial: Trial, parent: Run, *, group: str, prefix: str) -> Run:
    """Open the trial's run beside the study's; what surrounds the program is in the study's.

    What the trial reports is a point of the run from now on, until the trial ends.
    """
    quiet = {"companion": False, "console": False, "quiet": True}
    about = {"study_name": trial.study.study_name, "number": trial.number, "run": parent.id}
    run = init(
        project=parent.project,
        dir=parent.root,
        id=new_id(),
        name=f"{trial.study.study_name}-{trial.number}",
        group=group,
        job_type="trial",
        config={"optuna": about},
        reinit="create_new",
        settings=msgspec.structs.replace(parent._settings, **quiet),
    )
    trial.report = partial(_report, run, trial, prefix)
    return run


def _report(run: Run, trial: Trial, prefix: str, value: float, step: int) -> None:
    """``Trial.report``; a module's function, so that the trial can still be pickled."""
    type(trial).report(trial, value, step)
    with guard("optuna"):
        _configure(run, trial)
        run.log(named({INTERMEDIATE: value}, prefix), step=step)


def _configure(run: Run, trial: Trial) -> None:
    """The parameters suggested so far; what the program says itself under their names stands."""
    fresh = {name: value for name, value in trial.params.items() if name not in run.config}
    if fresh:
        run.config.update(fresh)


def _end(run: Run, trial: Trial, state: str) -> None:
    trial.__dict__.pop("report", None)
    _configure(run, trial)
    run.tags = (*run.tags, state)


def end_told(run: Run | None, trial: Trial, result: object, prefix: str) -> None:
    """The objective returned: the trial is complete if Optuna takes its values, else failed."""
    if run is None:
        return
    names = metric_names(trial.study)
    values = list(result) if isinstance(result, Sequence) else [result]
    numbers = [number for value in values if (number := _number(value)) is not None]
    told = len(numbers) == len(values) == len(names)
    if told:
        run.summary.update(named(dict(zip(names, numbers, strict=True)), prefix))
    _end(run, trial, "complete" if told else "failed")
    run.finish(0 if told else 1)


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return None if math.isnan(number) else number


def end_pruned(run: Run | None, trial: Trial) -> None:
    """The trial was pruned, which is no failure."""
    if run is None:
        return
    _end(run, trial, "pruned")
    run.finish(0)


def end_failed(run: Run | None, trial: Trial, error: BaseException) -> None:
    """The objective raised."""
    if run is None:
        return
    with guard("optuna"):
        _end(run, trial, "failed")
    run.__exit__(type(error), error, error.__traceback__)
