"""scikit-learn: every outermost fit, search and cross-validation as one record.

    from sklearn.datasets import load_digits
    from sklearn.neural_network import MLPClassifier

    import trackway as tw
    from trackway.integrations.sklearn import evaluate, watch

    X, y = load_digits(return_X_y=True)
    with tw.init(project="digits"), watch():
        model = MLPClassifier().fit(X[:1200], y[:1200])
        evaluate(model, X[1200:], y[1200:], prefix="test")

``docs/integrations/sklearn.md`` tells what is recorded, and at which step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trackway.integrations.sklearn._evaluate import evaluate
    from trackway.integrations.sklearn._hooks import watch

__all__ = ["evaluate", "watch"]

_HOMES = {"evaluate": "_evaluate", "watch": "_hooks"}


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # The hooks are what says, in one sentence, that scikit-learn is not installed.
    import_module(f"{__name__}._hooks")
    value: object = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    return value
