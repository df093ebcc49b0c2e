"""``autolog``: which frameworks, what was patched, and the way back."""

from __future__ import annotations

import os
import sys
from importlib import import_module

from trackway.core._guard import guard
from trackway.errors import ArgumentError
from trackway.integrations._patch import Patches, defaults, watchers
from trackway.integrations._versions import FRAMEWORKS
from trackway.integrations.autolog import _arguments
from trackway.integrations.autolog._finder import Finder, is_loaded

TYPE_CHECKING = False  # whatever is not needed before a training begins is imported then
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import ModuleType
    from typing import Any
    from weakref import WeakKeyDictionary

    from trackway.core.run import Run
    from trackway.integrations.autolog._status import Status

__all__ = ["Autolog", "autolog"]


class Autolog:
    """Call it to record every training of every framework; see ``__call__``."""

    def __init__(self) -> None:
        self._patches: dict[str, Patches] = {}
        self._failed: dict[str, str] = {}
        self._finder: Finder | None = None
        self._waiting: dict[str, str] = {}
        self._told: WeakKeyDictionary[Run, list[str]] | None = None

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
            ArgumentError: There is no framework of that name, or it has no such argument.
        """
        chosen = [only] if isinstance(only, str) else list(FRAMEWORKS if only is None else only)
        unknown = sorted({*chosen, *frameworks} - set(FRAMEWORKS))
        if unknown:
            raise ArgumentError(f"autolog: no framework {unknown}; there are {[*FRAMEWORKS]}")
        for name, given in frameworks.items():
            if not isinstance(given, bool):
                _check(name, given)
        self.disable()
        defaults.update(init or {})
        watchers.append(self._run_begun)
        _arguments.watch()
        for name in chosen:
            options = frameworks.get(name, True)
            if options is False:
                continue
            self._patches[name] = Patches(name, {} if isinstance(options, bool) else options)
            self._waiting.update(dict.fromkeys(FRAMEWORKS[name].triggers, name))
        self._finder = Finder(self._waiting, self._loaded)
        sys.meta_path.insert(0, self._finder)
        for trigger in list(self._waiting):
            if is_loaded(trigger):
                self._loaded(sys.modules[trigger])

    def _loaded(self, module: ModuleType) -> None:
        name = self._waiting.get(module.__name__)
        patches = None if name is None else self._patches.get(name)
        if name is None or patches is None:
            return
        self._failed[name] = "patching it failed"
        with guard(name):
            patching: Any = import_module(f"trackway.integrations.{name}._autolog")
            patching.patch(patches, module)
            del self._failed[name]

    def _run_begun(self, run: Run, own: bool) -> None:
        """A run was opened or joined by an integration: record there what is patched."""
        with guard("autolog"):
            if self._told is None:
                from weakref import WeakKeyDictionary

                self._told = WeakKeyDictionary()
            points = [point for patches in self._patches.values() for point in patches.points]
            if not points or self._told.get(run) == points:
                return
            if own and run not in self._told:
                _arguments.into(run)
            self._told[run] = points
            from trackway.integrations.autolog._status import statuses

            frameworks = statuses(self._patches, self._failed, begun=True)
            run._event("integrations", {"items": [each.as_dict() for each in frameworks]})

    def status(self) -> list[Status]:
        """What was patched: for each framework its versions, state, points and last error."""
        from trackway.integrations.autolog._status import statuses

        return statuses(self._patches, self._failed)

    def disable(self) -> None:
        """Put every framework back as it was."""
        for patches in self._patches.values():
            patches.undo()
        self._patches.clear()
        self._failed.clear()
        self._waiting.clear()
        defaults.clear()
        watchers[:] = [each for each in watchers if each != self._run_begun]
        _arguments.stop()
        if self._finder in sys.meta_path:
            sys.meta_path.remove(self._finder)
        self._finder = None


def _check(name: str, options: Mapping[str, Any]) -> None:
    """Refuse arguments that the object has not, before a training meets them."""
    known = import_module(f"trackway.integrations.{name}._autolog").OPTIONS
    try:
        unknown = sorted(set(dict(options)) - known)
    except (TypeError, ValueError):
        told = f"autolog: {name}={options!r}: it is True, False or a mapping of arguments"
        raise ArgumentError(told) from None
    if unknown:
        raise ArgumentError(
            f"autolog: {name} has no arguments {unknown}; there are {sorted(known)}"
        )
    every, prefix = options.get("every", 1), options.get("prefix", "")
    if type(every) is not int or every < 1:
        raise ArgumentError(f"autolog: {name}: every={every!r}: it is a whole number, 1 or more")
    if not isinstance(prefix, str):
        raise ArgumentError(f"autolog: {name}: prefix={prefix!r}: it is a text, such as 'teacher'")


autolog = Autolog()


def begin(asked: str | None = None) -> None:
    """What ``trackway run`` begins in each process, as its options in the environment ask.

    Args:
        asked: The JSON text in place of the environment's.
    """
    with guard("autolog"):
        import json

        text = os.environ.get("TRACKWAY_AUTOLOG") if asked is None else asked
        options = json.loads(text) if text else {}
        without = dict.fromkeys(options.get("without", ()), False)
        autolog(only=options.get("only"), init=options.get("init"), **without)
