"""Estimators of other frameworks, whose trainings their own integrations record."""

from __future__ import annotations

import sys
import weakref
from typing import Any, Final

__all__ = ["recorded_elsewhere"]

_RECORDED: Final = {
    "catboost": "catboost",
    "keras": "keras",
    "lightgbm": "lightgbm",
    "scikeras": "keras",
    "skorch": "pytorch",
    "xgboost": "xgboost",
}
"""Packages with estimators of their own, to the integration that records what these learn."""

_known: weakref.WeakKeyDictionary[type, frozenset[str]] = weakref.WeakKeyDictionary()


def recorded_elsewhere(estimator: Any) -> bool:
    """Whether a booster's own integration records this training: then we leave it all but this.

    It does where ``autolog`` has patched that framework, and where the estimator was given one of
    our callbacks.
    """
    found = _foreign(type(estimator))
    if not found:
        return False
    callbacks = getattr(estimator, "callbacks", None)
    if isinstance(callbacks, (list, tuple)):
        modules = [type(each).__module__ for each in callbacks]
        if any(module.startswith("trackway.integrations.") for module in modules):
            return True
    module = sys.modules.get("trackway.integrations.autolog._autolog")
    patched = getattr(getattr(module, "autolog", None), "_patches", {})
    return any(name in patched and patched[name].points for name in found)


def _foreign(kind: type) -> frozenset[str]:
    """The integrations of whose frameworks a class is made."""
    found = _known.get(kind)
    if found is None:
        packages = {each.__module__.partition(".")[0] for each in kind.__mro__}
        found = frozenset(_RECORDED[package] for package in packages & set(_RECORDED))
        _known[kind] = found
    return found
