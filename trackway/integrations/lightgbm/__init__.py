"""LightGBM: parameters, every metric of every round, best iteration, importances.

    import lightgbm
    from trackway.integrations.lightgbm import TrackwayCallback

    lightgbm.train(
        {"objective": "binary", "num_leaves": 15},
        train_set,
        num_boost_round=200,
        valid_sets=[valid_set],
        callbacks=[TrackwayCallback(), lightgbm.early_stopping(10)],
    )

``lightgbm.cv(..., callbacks=[TrackwayCallback()])`` and
``LGBMClassifier().fit(X, y, callbacks=[TrackwayCallback()])`` are the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trackway.integrations.lightgbm._hooks import TrackwayCallback

__all__ = ["TrackwayCallback"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from trackway.integrations.lightgbm import _hooks

    return getattr(_hooks, name)
