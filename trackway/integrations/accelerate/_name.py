"""``log_with="trackway"``: our class registered with accelerate, once that is loaded."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any, Final

from trackway.core._guard import guard
from trackway.integrations._finder import Finder, is_loaded

__all__ = ["NAME", "enter", "offer_name", "register"]

NAME: Final = "trackway"
_TABLE: Final = "accelerate.tracking"
_HOOKS: Final = "trackway.integrations.accelerate._hooks"


def offer_name() -> None:
    """The name is registered: now, or as soon as accelerate has loaded its trackers."""
    if is_loaded(_TABLE):
        with guard("accelerate"):
            register(sys.modules[_TABLE])
    else:
        sys.meta_path.insert(0, Finder((_TABLE,), _loaded))


def _loaded(module: ModuleType) -> None:
    register(module)


def register(module: ModuleType) -> bool:
    """Register the class; False if it is already, or our hooks are only being imported.

    At their end they call ``enter``.
    """
    if _HOOKS in sys.modules and not is_loaded(_HOOKS):
        return False
    hooks: Any = import_module(_HOOKS)
    return enter(hooks.TrackwayTracker, module)


def enter(tracker: type, module: ModuleType | None = None) -> bool:
    """Register the class; False if nothing was to be done, or accelerate is older than 1.15."""
    if module is None:
        module = sys.modules.get(_TABLE) if is_loaded(_TABLE) else None
    put: Any = getattr(module, "register_tracker_class", None)
    if put is None or NAME in getattr(module, "LOGGER_TYPE_TO_CLASS", ()):
        return False
    put(tracker)
    return True
