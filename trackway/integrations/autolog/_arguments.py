"""The arguments of the program: what its own ``argparse`` parser found last.

Imports nothing itself, for the reason given in ``_finder``.
"""

from __future__ import annotations

import sys

from trackway.integrations.autolog._finder import Finder, is_loaded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType, ModuleType
    from typing import Any

    from trackway.core.run import Run

__all__ = ["into", "stop", "watch"]


class _Arguments:
    """What is known of the program's arguments.

    Attributes:
        found: What its parser found last.
        depth: How many calls of parsers are under way, one in the other.
    """

    found: Any = None
    depth = 0
    finder: Finder | None = None
    original: Any = None
    patched: Any = None


def watch() -> None:
    """Remember what the program's parser finds, from now on."""
    if is_loaded("argparse"):
        _patch(sys.modules["argparse"])
    elif _Arguments.finder is None:
        _Arguments.finder = Finder(("argparse",), _patch)
        sys.meta_path.insert(0, _Arguments.finder)


def stop() -> None:
    """Put ``argparse`` back as it was; what was found is kept."""
    if _Arguments.finder in sys.meta_path:
        sys.meta_path.remove(_Arguments.finder)
    _Arguments.finder = None
    if _Arguments.patched is not None:
        parser: Any = sys.modules["argparse"].ArgumentParser
        if parser.__dict__.get("parse_known_args") is _Arguments.patched:
            parser.parse_known_args = _Arguments.original
        _Arguments.patched = None


def into(run: Run) -> None:
    """Put what was found into the run's configuration, under ``args``."""
    if _Arguments.found is not None:
        run.config.update({"args": dict(vars(_Arguments.found))})


def _patch(module: ModuleType) -> None:
    import functools

    parser: Any = module.ArgumentParser
    original = parser.parse_known_args
    if _Arguments.patched is not None or hasattr(original, "_trackway"):
        return

    @functools.wraps(original)
    def parse_known_args(*args: Any, **kwargs: Any) -> Any:
        _Arguments.depth += 1
        try:
            answer = original(*args, **kwargs)
        finally:
            _Arguments.depth -= 1
        if _Arguments.patched is parse_known_args and _Arguments.depth == 0:
            _remember(args, answer, sys._getframe(1))
        return answer

    parse_known_args._trackway = True  # type: ignore[attr-defined]
    _Arguments.original, _Arguments.patched = original, parse_known_args
    parser.parse_known_args = parse_known_args


def _remember(args: tuple[Any, ...], answer: Any, caller: FrameType | None) -> None:
    from trackway.core._guard import guard

    with guard("autolog"):
        own = {"argparse", type(args[0]).__module__} - {"__main__"}
        while caller is not None and caller.f_globals.get("__name__") in own:
            caller = caller.f_back
        if caller is not None and _of_program(caller.f_globals):
            _Arguments.found = answer[0]


def _of_program(names: dict[str, Any]) -> bool:
    """Whether a module is the program's own: its main one, of its package, or beside it."""
    main = sys.modules.get("__main__")
    if names.get("__name__") == "__main__":
        return True
    package = str(getattr(main, "__package__", None) or "").partition(".")[0]
    if package:
        return str(names.get("__name__", "")).partition(".")[0] == package
    script, file = getattr(main, "__file__", None), names.get("__file__")
    if not script or not file or "site-packages" in script:
        return False
    import os

    folder = os.path.split(os.path.abspath(script))[0]
    place = os.path.abspath(file)
    return place.startswith(folder + os.sep) and "site-packages" not in place[len(folder) :]
