"""One line for every framework: ``trackway.autolog()``.

    import trackway as tw

    tw.autolog()            # before or after the frameworks are imported

It inserts the very objects of ``trackway.integrations`` at one choke point of each framework.
Nothing is imported by it: a framework that is loaded later is patched when it is.
``tw.autolog.status()`` tells what was patched, ``tw.autolog.disable()`` puts everything back.
"""

from __future__ import annotations

TYPE_CHECKING = False  # what `trackway run` puts into every process must import next to nothing
if TYPE_CHECKING:
    from trackway.integrations.autolog._autolog import Autolog, autolog
    from trackway.integrations.autolog._status import Status

__all__ = ["Autolog", "Status", "autolog"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    home = f"{__name__}._status" if name == "Status" else f"{__name__}._autolog"
    value: object = getattr(import_module(home), name)
    globals()[name] = value
    return value
