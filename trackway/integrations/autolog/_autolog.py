"""``autolog``: which frameworks, what was patched, and the way back."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any

from trackway.core._guard import guard
from trackway.errors import ArgumentError
from trackway.integrations import _base
from trackway.integrations._patch import Patches
from trackway.integrations._versions import FRAMEWORKS
from trackway.integrations.autolog._finder import Finder, is_loaded

__all__ = ["Autolog", "autolog"]


class Autolog:
    """Call it to record every training of every framework; see ``__call__``."""

    def __init__(self) -> None:
        self._patches: dict[str, Patches] = {}
        self._finder: Finder | None = None
        self._waiting: dict[str, str] = {}

    def __call__(
        self,
        *,
        only: Iterable[str] | None = None,
        init: Mapping[str, Any] | None = None,
        **frameworks: bool | Mapping[str, Any],
    ) -> None:
        """Record every training of every framework from now on, before or after its import.

        A run is opened when training starts if none is open, and finished if it was opened here.
        Objects passed to a framework explicitly win: nothing is recorded twice. Called again, the
        new arguments hold.

        Args:
            only: The frameworks; all by default.
            init: Arguments of ``trackway.init`` for the runs that are opened.
            **frameworks: ``keras=False`` leaves one out; ``keras={"every": 10}`` gives arguments
                to the object that is inserted.

        Raises:
            ArgumentError: There is no framework of that name.
        """
        chosen = list(FRAMEWORKS) if only is None else list(only)
        unknown = sorted({*chosen, *frameworks} - set(FRAMEWORKS))
        if unknown:
            raise ArgumentError(f"autolog: no framework {unknown}; there are {[*FRAMEWORKS]}")
        self.disable()
        _base.defaults.update(init or {})
        for name in chosen:
            options = frameworks.get(name, True)
            if options is False:
                continue
            self._patches[name] = Patches(name, options if isinstance(options, Mapping) else {})
            self._waiting.update(dict.fromkeys(FRAMEWORKS[name].triggers, name))
        self._finder = Finder(self._waiting, self._loaded)
        sys.meta_path.insert(0, self._finder)
        for trigger in list(self._waiting):
            if is_loaded(trigger):
                with guard("autolog"):
                    self._loaded(sys.modules[trigger])

    def _loaded(self, module: ModuleType) -> None:
        name = self._waiting.get(module.__name__)
        if name is not None and name in self._patches:
            patching: Any = import_module(f"trackway.integrations.{name}._autolog")
            patching.patch(self._patches[name], module)

    def disable(self) -> None:
        """Put every framework back as it was."""
        for patches in self._patches.values():
            patches.undo()
        self._patches.clear()
        self._waiting.clear()
        _base.defaults.clear()
        if self._finder in sys.meta_path:
            sys.meta_path.remove(self._finder)
        self._finder = None


autolog = Autolog()
