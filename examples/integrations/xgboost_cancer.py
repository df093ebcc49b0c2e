"""Train and cross-validate gradient boosted trees on the breast cancer data, and track both.

    python examples/integrations/xgboost_cancer.py

The data ships inside scikit-learn, so there is nothing to download.
"""

from __future__ import annotations

import xgboost
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

from trackway.integrations.xgboost import TrackwayCallback

PARAMS = {
    "objective": "binary:logistic",
    "max_depth": 3,
    "eta": 0.1,
    "nthread": 1,  # for data this small, threads cost more than they bring
    "eval_metric": ["logloss", "auc"],
}


def main() -> None:
    """One run for the training, one for the cross-validation."""
    table, target = load_breast_cancer(return_X_y=True, as_frame=True)
    x_train, x_valid, y_train, y_valid = train_test_split(table, target, random_state=0)
    train, valid = xgboost.DMatrix(x_train, y_train), xgboost.DMatrix(x_valid, y_valid)

    booster = xgboost.train(
        PARAMS,
        train,
        num_boost_round=200,
        evals=[(train, "train"), (valid, "valid")],
        early_stopping_rounds=10,
        verbose_eval=False,
        callbacks=[TrackwayCallback()],
    )
    print(f"best round {booster.best_iteration}: AUC {booster.best_score:.4f}")

    folds = xgboost.cv(
        PARAMS, train, 50, nfold=5, as_pandas=False, callbacks=[TrackwayCallback(prefix="cv")]
    )
    print(f"cross-validated AUC {folds['test-auc-mean'][-1]:.4f} ± {folds['test-auc-std'][-1]:.4f}")


if __name__ == "__main__":
    main()
