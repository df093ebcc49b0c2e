"""Train and cross-validate gradient boosted trees on the breast cancer data, and track both.

    python examples/integrations/catboost_cancer.py

The data ships inside scikit-learn, so there is nothing to download.
"""

from __future__ import annotations

import tempfile

import catboost
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

import trackway as tw
from trackway.integrations.catboost import TrackwayCallback

PARAMS = {
    "loss_function": "Logloss",
    "custom_metric": ["AUC"],
    "depth": 3,
    "learning_rate": 0.1,
    "thread_count": 1,  # for data this small, threads cost more than they bring
    "logging_level": "Silent",
}


def main() -> None:
    """One run for the training, one for the cross-validation."""
    table, target = load_breast_cancer(return_X_y=True, as_frame=True)
    x_train, x_valid, y_train, y_valid = train_test_split(table, target, random_state=0)

    model = catboost.CatBoostClassifier(iterations=200, allow_writing_files=False, **PARAMS)
    model.fit(
        x_train,
        y_train,
        eval_set=(x_valid, y_valid),
        early_stopping_rounds=10,
        callbacks=[TrackwayCallback()],
    )
    best = model.best_score_["validation"]["Logloss"]
    print(f"best round {model.best_iteration_}: log loss {best:.4f}")

    tw.autolog(only=["catboost"], catboost={"prefix": "cv"})  # ``cv`` takes no callbacks
    with tempfile.TemporaryDirectory() as folder:
        folds = catboost.cv(
            catboost.Pool(x_train, y_train),
            {**PARAMS, "train_dir": folder},
            iterations=50,
            as_pandas=False,
        )
    mean, deviation = folds["test-Logloss-mean"][-1], folds["test-Logloss-std"][-1]
    print(f"cross-validated log loss {mean:.4f} ± {deviation:.4f}")


if __name__ == "__main__":
    main()
