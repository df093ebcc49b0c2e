"""``log_with="trackway"``: our class registered with accelerate, once that is loaded."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from trackway.integrations._naming import NAME, Naming

__all__ = ["NAME", "naming"]


def _put(module: ModuleType, tracker: type) -> bool:
    put: Any = getattr(module, "register_tracker_class", None)
    if put is None or NAME in getattr(module, "LOGGER_TYPE_TO_CLASS", ()):
        return False
    put(tracker)
    return True


naming = Naming("accelerate", "accelerate.tracking", "TrackwayTracker", _put)
