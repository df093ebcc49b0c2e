"""``report_to="trackway"``: our class in transformers' own table of names, once that is loaded."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any, Final

from trackway.core._guard import guard
from trackway.integrations._finder import Finder, is_loaded

__all__ = ["NAME", "enter", "offer_name", "register"]

NAME: Final = "trackway"
_TABLE: Final = "transformers.integrations.integration_utils"
_HOOKS: Final = "trackway.integrations.huggingface._hooks"


def offer_name() -> None:
    """The name is in the table: now, or as soon as transformers has loaded it."""
    if is_loaded(_TABLE):
        with guard("huggingface"):
            register(sys.modules[_TABLE])
    else:
        sys.meta_path.insert(0, Finder((_TABLE,), _loaded))


def _loaded(module: ModuleType) -> None:
    register(module)


def register(module: ModuleType) -> bool:
    """Enter the name; False if it is there already, or our hooks are only being imported.

    At their end they call ``enter``.
    """
    if _HOOKS in sys.modules and not is_loaded(_HOOKS):
        return False
    hooks: Any = import_module(_HOOKS)
    return enter(hooks.StandbyCallback, module)


def enter(callback: type, module: ModuleType | None = None) -> bool:
    """Enter the class into the table, if that is loaded; False if nothing was to be done."""
    if module is None:
        module = sys.modules.get(_TABLE) if is_loaded(_TABLE) else None
    table: dict[str, Any] = getattr(module, "INTEGRATION_TO_CALLBACK", {NAME: None})
    if NAME in table:
        return False
    table[NAME] = callback
    return True
