"""``autolog`` for LightGBM: ``train`` and ``cv`` get a ``TrackwayCallback``.

LightGBM has no place below them that both pass; they are bound in its package, in its engine and,
for the estimators, in ``lightgbm.sklearn``. What is imported after this module was patched has
taken the wrapper already.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from trackway.integrations._patch import Call, Patches

__all__ = ["OPTIONS", "patch"]

OPTIONS: frozenset[str] = frozenset({"every", "importance", "prefix"})


def patch(patches: Patches, module: ModuleType) -> None:
    """Insert the callback into every training, unless there is one."""
    originals = {name: module.__dict__[name] for name in ("train", "cv")}
    for holder in (module, *map(sys.modules.get, ("lightgbm", "lightgbm.sklearn"))):
        for name, original in originals.items():
            if holder is not None and _is(holder.__dict__.get(name), original):
                patches.wrap(holder, name, before=_inserting(patches, original), after=_end)


def _is(function: Any, original: Callable[..., Any]) -> bool:
    """Whether it is that function, perhaps in a wrapper that an earlier ``autolog`` has left."""
    return function is not None and inspect.unwrap(function) is inspect.unwrap(original)


def _inserting(patches: Patches, original: Callable[..., Any]) -> Callable[[Call], None]:
    signature = inspect.signature(original)

    def insert(call: Call) -> None:
        from trackway.integrations.lightgbm._hooks import TrackwayCallback

        bound = signature.bind(*call.args, **call.kwargs)
        callbacks = list(bound.arguments.get("callbacks") or ())
        if not any(isinstance(callback, TrackwayCallback) for callback in callbacks):
            call.state = TrackwayCallback(**patches.options)
            bound.arguments["callbacks"] = [call.state, *callbacks]
            call.args, call.kwargs = bound.args, bound.kwargs

    return insert


def _end(call: Call) -> None:
    if call.state is not None:
        call.state.end(call.error)
