"""Tells when a module has been loaded, without loading it and without ever disturbing an import."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from trackway.core._guard import guard

__all__ = ["Finder", "is_loaded"]


def is_loaded(name: str) -> bool:
    """Whether the module is in ``sys.modules`` and has been executed to its end."""
    module = sys.modules.get(name)
    spec = getattr(module, "__spec__", None)
    return module is not None and not getattr(spec, "_initializing", False)


class Finder(MetaPathFinder):
    """Stands first on ``sys.meta_path`` and has the others find the modules that it waits for.

    Args:
        loaded: Called with a module's name after it was executed, guarded.
        names: The modules.
    """

    def __init__(self, names: Mapping[str, object], loaded: Callable[[ModuleType], None]) -> None:
        self._names = names
        self._loaded = loaded
        self._asking: set[str] = set()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec that the other finders give, with a loader that tells us; None for others."""
        if fullname not in self._names or fullname in self._asking:
            return None
        self._asking.add(fullname)
        try:
            spec = find_spec(fullname)
        finally:
            self._asking.discard(fullname)
        if spec is not None and spec.loader is not None:
            with guard("autolog"):
                spec.loader = _Telling(spec.loader, self._loaded)
        return spec


class _Telling(Loader):
    """A loader that says when it has executed its module; in all else it is the original."""

    def __init__(self, loader: Loader, loaded: Callable[[ModuleType], None]) -> None:
        self._loader = loader
        self._loaded = loaded

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """What the original makes."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Execute it as the original does, then tell."""
        with guard("autolog"):
            # What looks at a module's loader later finds the original.
            module.__loader__ = self._loader
            if module.__spec__ is not None:
                module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        with guard("autolog"):
            self._loaded(module)
