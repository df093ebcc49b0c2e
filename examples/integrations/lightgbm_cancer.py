"""Train and cross-validate gradient boosted trees on the breast cancer data, and track both.

    python examples/integrations/lightgbm_cancer.py

The data ships inside scikit-learn, so there is nothing to download.
"""

from __future__ import annotations

import lightgbm
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

from trackway.integrations.lightgbm import TrackwayCallback

PARAMS = {
    "objective": "binary",
    "num_leaves": 7,
    "learning_rate": 0.1,
    "num_threads": 1,  # for data this small, threads cost more than they bring
    "metric": ["binary_logloss", "auc"],
    "verbosity": -1,
}


def main() -> None:
    """One run for the training, one for the cross-validation."""
    table, target = load_breast_cancer(return_X_y=True, as_frame=True)
    table.columns = table.columns.str.replace(" ", "_")  # LightGBM's rule for names of features
    x_train, x_valid, y_train, y_valid = train_test_split(table, target, random_state=0)
    train = lightgbm.Dataset(x_train, y_train)
    valid = lightgbm.Dataset(x_valid, y_valid, reference=train)

    booster = lightgbm.train(
        PARAMS,
        train,
        num_boost_round=200,
        valid_sets=[train, valid],
        valid_names=["train", "valid"],
        callbacks=[TrackwayCallback(), lightgbm.early_stopping(10, verbose=False)],
    )
    print(f"best round {booster.best_iteration}: AUC {booster.best_score['valid']['auc']:.4f}")

    folds = lightgbm.cv(
        PARAMS,
        lightgbm.Dataset(x_train, y_train),
        num_boost_round=50,
        callbacks=[TrackwayCallback(prefix="cv")],
    )
    mean, deviation = folds["valid auc-mean"][-1], folds["valid auc-stdv"][-1]
    print(f"cross-validated AUC {mean:.4f} ± {deviation:.4f}")


if __name__ == "__main__":
    main()
