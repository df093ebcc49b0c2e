"""XGBoost: parameters, every metric of every round, best iteration, importances.

    import xgboost
    from trackway.integrations.xgboost import TrackwayCallback

    xgboost.train(
        {"objective": "binary:logistic", "max_depth": 4},
        dtrain,
        num_boost_round=200,
        evals=[(dtrain, "train"), (dvalid, "valid")],
        callbacks=[TrackwayCallback()],
    )

``xgboost.cv(..., callbacks=[TrackwayCallback()])`` and
``XGBClassifier(callbacks=[TrackwayCallback()])`` are the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trackway.integrations.xgboost._hooks import TrackwayCallback

__all__ = ["TrackwayCallback"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from trackway.integrations.xgboost import _hooks

    return getattr(_hooks, name)
