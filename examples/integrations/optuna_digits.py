"""A small search with Optuna: how a linear classifier of digits is best trained.

Each trial has a run of its own, grouped by the study; ``trackway ls`` shows them.
"""

from __future__ import annotations

import optuna
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import train_test_split

from trackway.integrations.optuna import TrackwayCallback

EPOCHS = 8


def objective(trial: optuna.Trial) -> float:
    """The accuracy on held-out digits, reported after each epoch."""
    data, digits = load_digits(return_X_y=True)
    train, held_out, train_digits, held_out_digits = train_test_split(
        data / 16, digits, random_state=0
    )
    model = SGDClassifier(
        alpha=trial.suggest_float("alpha", 1e-6, 1e-1, log=True),
        penalty=trial.suggest_categorical("penalty", ["l2", "l1"]),
        random_state=0,
    )
    accuracy = 0.0
    for epoch in range(EPOCHS):
        model.partial_fit(train, train_digits, classes=range(10))
        accuracy = float(model.score(held_out, held_out_digits))
        trial.report(accuracy, epoch)
        if trial.should_prune():
            raise optuna.TrialPruned
    return accuracy


def main() -> None:
    """Search, and say what was best."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        study_name="digits",
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=0),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=3),
    )
    study.optimize(objective, n_trials=12, callbacks=[TrackwayCallback(trials="runs")])
    print(f"best of {len(study.trials)} trials: {study.best_value:.3f} with {study.best_params}")


if __name__ == "__main__":
    main()
