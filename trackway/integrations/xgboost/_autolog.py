"""``autolog`` for XGBoost: every ``CallbackContainer`` gets a ``TrackwayCallback``.

``train``, ``cv`` and the estimators all build one, by whatever name they were imported.
"""

from __future__ import annotations

import inspect
from types import ModuleType

from trackway.integrations._patch import Call, Patches

__all__ = ["OPTIONS", "patch"]

OPTIONS: frozenset[str] = frozenset({"every", "importance", "prefix"})


def patch(patches: Patches, module: ModuleType) -> None:
    """Insert the callback where it is first asked, unless there is one."""
    container = module.CallbackContainer
    signature = inspect.signature(container.__init__)

    def insert(call: Call) -> None:
        from trackway.integrations.xgboost._hooks import TrackwayCallback

        bound = signature.bind(*call.args, **call.kwargs)
        callbacks = list(bound.arguments["callbacks"] or ())
        if not any(isinstance(callback, TrackwayCallback) for callback in callbacks):
            bound.arguments["callbacks"] = [TrackwayCallback(**patches.options), *callbacks]
            call.args, call.kwargs = bound.args, bound.kwargs

    patches.wrap(container, "__init__", before=insert)
