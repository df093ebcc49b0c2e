"""Optuna: a study and its trials, in one run or in a run each.

    import optuna
    from trackway.integrations.optuna import TrackwayCallback

    def objective(trial):
        return (trial.suggest_float("x", -10, 10) - 2) ** 2

    study = optuna.create_study(study_name="parabola")
    study.optimize(objective, n_trials=50, callbacks=[TrackwayCallback()])

``TrackwayCallback(trials="runs")`` gives each trial a run of its own as well, which is the current
one inside the objective.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trackway.integrations.optuna._hooks import TrackwayCallback

__all__ = ["TrackwayCallback"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from trackway.integrations.optuna import _hooks

    return getattr(_hooks, name)
