"""What ``trackway run`` puts first on PYTHONPATH: Python imports it before the program begins.

It loads nothing of Trackway before the first framework is imported, so a process that imports
none is as it was; and nothing of the standard library but what every interpreter has loaded by
then, since a module that is loaded here would hide the program's own of that name.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

ROOTS = frozenset(
    (
        "accelerate",
        "catboost",
        "keras",
        "lightgbm",
        "lightning",
        "optuna",
        "pytorch_lightning",
        "sklearn",
        "torch",
        "transformers",
        "xgboost",
    )
)


class _First:
    """Waits for the first framework, or for ``argparse``."""

    def __init__(self) -> None:
        self.waits = {*ROOTS, "argparse"}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """None, as it finds nothing itself; what it began then may find it."""
        if fullname not in self.waits:
            return None
        if fullname == "argparse":
            self.waits.discard(fullname)
        else:
            self.waits.clear()
            if self in sys.meta_path:
                sys.meta_path.remove(self)
        _begin(fullname)
        for finder in list(sys.meta_path):
            if finder is not self and hasattr(finder, "find_spec"):
                spec: ModuleSpec | None = finder.find_spec(fullname, path, target)
                if spec is not None:
                    return spec
        return None


def _begin(name: str) -> None:
    added = "trackway" not in sys.modules
    if added:  # last, so that an installed one goes before the one that started this process
        sys.path.append(HOME)
    try:
        if name == "argparse":
            from trackway.integrations.autolog._arguments import watch as begin
        else:
            from trackway.integrations.autolog._autolog import begin
        begin()
    except Exception as error:  # noqa: BLE001 - the guard itself may be what is missing
        if sys.stderr is not None:
            told = f"{type(error).__name__}: {error}"
            sys.stderr.write(f"trackway: this process is not recorded ({told}).\n")
    finally:
        if added and HOME in sys.path:
            sys.path.reverse()
            sys.path.remove(HOME)  # the last one, which is ours
            sys.path.reverse()


def _next() -> None:
    """Import the sitecustomize that would have been imported without us, if there is one."""
    mine = sys.modules.pop("sitecustomize", None)
    try:
        import sitecustomize  # type: ignore[import-not-found] # noqa: F401
    except ImportError as error:
        if error.name != "sitecustomize":
            raise
    finally:
        if mine is not None:
            sys.modules.setdefault("sitecustomize", mine)


def _is_worker() -> bool:
    """Whether joblib started this process, whose fits are parts of one that is recorded."""
    return any("loky" in word for word in getattr(sys, "orig_argv", ())[1:4])


_FOLDER = os.path.split(os.path.abspath(__file__))[0]
HOME = os.path.abspath(f"{_FOLDER}/../../../..")
sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or os.curdir) != _FOLDER]
if not _is_worker():
    sys.meta_path.insert(0, _First())
_next()
