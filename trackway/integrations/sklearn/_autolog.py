"""``autolog``: the very watch of ``_hooks``, open from the moment ``sklearn.base`` is loaded."""

from __future__ import annotations

from types import ModuleType

from trackway.integrations._patch import Patches

__all__ = ["OPTIONS", "patch"]

OPTIONS: frozenset[str] = frozenset({"every", "prefix", "training_score"})


def patch(patches: Patches, module: ModuleType) -> None:
    """Watch every estimator, those of modules to come included.

    Args:
        patches: What is changed, and the way back.
        module: ``sklearn.base``, with which nothing but that module need be loaded.
    """
    from trackway.integrations.sklearn._hooks import watch

    standing = watch(**patches.options)._opened_by_autolog()
    patches.registered(f"{module.__name__}.BaseEstimator", standing.close)
