"""A name by which a framework takes our class: entered once both are loaded, in either order."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any, Final

from trackway.core._guard import guard
from trackway.integrations._finder import Finder, is_loaded

__all__ = ["NAME", "Naming"]

NAME: Final = "trackway"


class Naming:
    """The name of one integration.

    Args:
        integration: Its name.
        table: The framework's module that knows names.
        public: Our class, in the integration's hooks.
        put: Enters the class into the module; False if there was nothing to be done.
    """

    def __init__(
        self,
        integration: str,
        table: str,
        public: str,
        put: Callable[[ModuleType, type], bool],
    ) -> None:
        self._integration = integration
        self._table = table
        self._hooks = f"trackway.integrations.{integration}._hooks"
        self._public = public
        self._put = put

    def offer(self) -> None:
        """Enter the name: now, or as soon as the framework has loaded its table."""
        if is_loaded(self._table):
            with guard(self._integration):
                self.register(sys.modules[self._table])
        else:
            sys.meta_path.insert(0, Finder((self._table,), self._loaded))

    def _loaded(self, module: ModuleType) -> None:
        self.register(module)

    def register(self, module: ModuleType) -> bool:
        """Enter the name; False if it is there already, or our hooks are only being imported.

        At their end they call ``enter``.
        """
        if self._hooks in sys.modules and not is_loaded(self._hooks):
            return False
        hooks: Any = import_module(self._hooks)
        return self._put(module, getattr(hooks, self._public))

    def enter(self, public: type) -> bool:
        """Enter the class if the table is loaded; False if there was nothing to be done."""
        return is_loaded(self._table) and self._put(sys.modules[self._table], public)
