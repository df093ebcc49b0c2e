"""Tells when a module has been loaded, without loading it and without ever disturbing an import.

Imports nothing itself: ``trackway run`` has it stand in every process from the start, and a
module of the standard library that was loaded there would hide the program's own of that name.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

__all__ = ["Finder", "found", "is_loaded"]


def is_loaded(name: str) -> bool:
    """Whether the module is in ``sys.modules`` and has been executed to its end."""
    module = sys.modules.get(name)
    spec = getattr(module, "__spec__", None)
    return module is not None and not getattr(spec, "_initializing", False)


def found(
    name: str, path: Sequence[str] | None, target: ModuleType | None, without: object
) -> ModuleSpec | None:
    """What the finders of this process say, all but one."""
    for finder in list(sys.meta_path):
        ask = None if finder is without else getattr(finder, "find_spec", None)
        spec: ModuleSpec | None = None if ask is None else ask(name, path, target)
        if spec is not None:
            return spec
    return None


class Finder:
    """Stands first on ``sys.meta_path`` and has the others find the modules that it waits for.

    Args:
        names: The modules.
        loaded: Called with a module after it was executed, guarded; again after a reload.
    """

    def __init__(self, names: Collection[str], loaded: Callable[[ModuleType], None]) -> None:
        self._names = frozenset(names)
        self._loaded = loaded
        # Modules that were just being executed when we came: looked at with the next import.
        self._late = {name for name in names if name in sys.modules and not is_loaded(name)}
        self._asking: set[tuple[int, str]] = set()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec that the other finders give, with a loader that tells us; None for others."""
        if self._late:
            self._catch_up()
        if fullname not in self._names:
            return None
        # Another such finder asks us in turn; two that ask each other must come to an end.
        from _thread import get_ident

        asking = (get_ident(), fullname)
        if asking in self._asking:
            return None
        self._asking.add(asking)
        try:
            spec = found(fullname, path, target, self)
        finally:
            self._asking.discard(asking)
        if spec is not None and hasattr(spec.loader, "exec_module"):
            spec.loader = _Telling(spec.loader, self._tell)  # type: ignore[assignment]
        return spec

    def _catch_up(self) -> None:
        for name in [name for name in self._late if is_loaded(name)]:
            self._late.discard(name)
            self._tell(sys.modules[name])

    def _tell(self, module: ModuleType) -> None:
        from trackway.core._guard import guard

        with guard("autolog"):
            self._loaded(module)


class _Telling:
    """A loader that says when it has executed its module; in all else it is the original."""

    def __init__(self, loader: Any, told: Callable[[ModuleType], None]) -> None:
        self.__dict__.update(_loader=loader, _told=told)

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return type(self.__dict__["_loader"])

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_loader"], name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self.__dict__["_loader"], name, value)

    def __eq__(self, other: object) -> bool:
        return bool(self.__dict__["_loader"] == other)

    def __hash__(self) -> int:
        return hash(self.__dict__["_loader"])

    def __reduce__(self) -> tuple[Any, ...]:
        return _same, (self.__dict__["_loader"],)

    def __repr__(self) -> str:
        return repr(self.__dict__["_loader"])

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """What the original makes."""
        module: ModuleType | None = self.__dict__["_loader"].create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Execute it as the original does, then tell."""
        loader = self.__dict__["_loader"]
        # What looks at a module's loader later finds the original.
        module.__loader__ = loader
        if module.__spec__ is not None:
            module.__spec__.loader = loader
        loader.exec_module(module)
        self.__dict__["_told"](module)


# The frame counts as one of the import machinery's, so that the traceback of a module that cannot
# be imported is the very one that is printed without us.
_Telling.exec_module.__code__ = _Telling.exec_module.__code__.replace(
    co_filename="<frozen importlib._bootstrap>"
)


def _same(loader: object) -> object:
    return loader
