"""``autolog`` for CatBoost: every ``CatBoost._fit`` has a ``TrackwayCallback``.

``fit`` of every class and ``train`` come through it. CatBoost copies all values so far for any
callback in every round, takes none on a GPU, and none at all for ``cv``: so what is recorded is
what CatBoost itself has kept when the training is over, unless ``live`` is asked for.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from trackway.integrations._patch import Call, Patches

__all__ = ["OPTIONS", "patch"]

OPTIONS: frozenset[str] = frozenset({"every", "importance", "live", "prefix"})


def patch(patches: Patches, module: ModuleType) -> None:
    """Insert the callback into every training, unless there is one."""
    fit = module.CatBoost.__dict__["_fit"]
    patches.wrap(module.CatBoost, "_fit", before=_inserting(patches, fit), after=_fitted)
    cv = module.__dict__["cv"]
    for holder in (module, sys.modules.get("catboost")):
        bound = None if holder is None else holder.__dict__.get("cv")
        if bound is not None and inspect.unwrap(bound) is inspect.unwrap(cv):
            patches.wrap(holder, "cv", before=_beginning(patches, cv), after=_cross_validated)


def _inserting(patches: Patches, fit: Callable[..., Any]) -> Callable[[Call], None]:
    signature = inspect.signature(fit)

    def insert(call: Call) -> None:
        from trackway.integrations.catboost._hooks import TrackwayCallback

        bound = signature.bind(*call.args, **call.kwargs)
        callbacks = list(bound.arguments.get("callbacks") or ())
        if any(isinstance(callback, TrackwayCallback) for callback in callbacks):
            return
        callback = TrackwayCallback(**{"live": False, **patches.options})
        call.state = callback, callback.live and call.args[0].get_param("task_type") != "GPU"
        if call.state[1]:
            bound.arguments["callbacks"] = [callback, *callbacks]
            call.args, call.kwargs = bound.args, bound.kwargs
        else:
            callback.begin(call.args[0])

    return insert


def _fitted(call: Call) -> None:
    if call.state is None:
        return
    callback, live = call.state
    if not live and call.error is None:
        callback.record(call.args[0])
    callback.end(error=call.error)


def _beginning(patches: Patches, cv: Callable[..., Any]) -> Callable[[Call], None]:
    signature = inspect.signature(cv)

    def begin(call: Call) -> None:
        from trackway.integrations.catboost._hooks import TrackwayCallback

        arguments = signature.bind(*call.args, **call.kwargs).arguments
        data = {"pool", "dtrain", "params", "log_cout", "log_cerr"}
        settings = {name: value for name, value in arguments.items() if name not in data}
        call.state = (
            TrackwayCallback(**{"live": False, **patches.options}),
            {
                **(arguments.get("params") or {}),
                **settings,
            },
        )
        call.state[0].begin()

    return begin


def _cross_validated(call: Call) -> None:
    if call.state is not None:
        callback, settings = call.state
        if call.error is None:
            callback.record_cv(call.result, settings)
        callback.end(error=call.error)
