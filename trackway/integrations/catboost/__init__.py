"""CatBoost: parameters, every metric of every round, best iteration, importances.

    from catboost import CatBoostClassifier
    from trackway.integrations.catboost import TrackwayCallback

    CatBoostClassifier(iterations=200, depth=4).fit(
        X_train,
        y_train,
        eval_set=(X_valid, y_valid),
        callbacks=[TrackwayCallback()],
    )

``catboost.train`` and ``catboost.cv`` take no callbacks: ``trackway.autolog()`` records them too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trackway.integrations.catboost._hooks import TrackwayCallback

__all__ = ["TrackwayCallback"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from trackway.integrations.catboost import _hooks

    return getattr(_hooks, name)
