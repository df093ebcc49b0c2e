"""How a program ended, noticed without changing how it ends.

The except hook is chained: the user's own (or Python's) runs exactly as before, after the error
was noted. ``sys.exit`` is wrapped to note its code and then does what it always did. What cannot
be noticed from inside (a signal, ``os._exit``, a crash) the companion sees from outside.
"""

from __future__ import annotations

import atexit
import sys

# Not imported later: what it imports calls eval() on text, upon which CPython forgets that a
# KeyboardInterrupt is ending the program and gives back 1 in place of dying of SIGINT.
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, NoReturn

import msgspec

from trackway.core._guard import guard

__all__ = ["LEFT", "End", "end_of", "of_process", "spoke", "watch_for_end"]

LONGEST_TRACEBACK: Final = 64 << 10


class End(msgspec.Struct, frozen=True):
    """The end of a run as its own process knows it."""

    state: str = "finished"
    exit_code: int | None = None
    exception: dict[str, str] | None = None
    at_exit: bool = False


LEFT: Final = End(
    state="failed",
    exception={
        "type": "",
        "message": "training was left by an exception that the program caught",
        "traceback": "",
    },
)
"""How a run ends that was opened for a training which did not end."""


class _Watch:
    """What has been noticed in this process, and what our hooks call when they have noticed."""

    def __init__(self) -> None:
        self.end: End | None = None
        self.exit_code: int | None = None
        self.excepthook: Callable[..., Any] | None = None
        self.exit: Callable[..., NoReturn] | None = None
        self.at_exit: Callable[[], None] | None = None


_watch = _Watch()


def watch_for_end(at_exit: Callable[[], None]) -> None:
    """Begin to notice (once a process); ``at_exit`` is called when the interpreter ends."""
    # A hook that somebody chained to stays in that chain after ``stop_watching``. It goes on
    # serving: chaining a second time would make it call itself.
    if _watch.excepthook is None:
        _watch.excepthook, sys.excepthook = sys.excepthook, _on_exception
    if _watch.exit is None:
        _watch.exit, sys.exit = sys.exit, _on_exit
    if _watch.at_exit is None:
        _watch.at_exit = at_exit
        atexit.register(at_exit)


def stop_watching() -> None:
    """Put back what was chained, where nobody chained after us."""
    if sys.excepthook is _on_exception and _watch.excepthook is not None:
        sys.excepthook, _watch.excepthook = _watch.excepthook, None
    if sys.exit is _on_exit and _watch.exit is not None:
        sys.exit, _watch.exit = _watch.exit, None
    if _watch.at_exit is not None:
        atexit.unregister(_watch.at_exit)
        _watch.at_exit = None


def _on_exception(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    with guard("except hook"):
        if not hasattr(sys, "ps1"):  # at a prompt the program goes on
            _watch.end = end_of(kind, error, trace)
    (_watch.excepthook or sys.__excepthook__)(kind, error, trace)


def _on_exit(status: Any = None, /) -> NoReturn:
    with guard("exit"):
        _watch.exit_code = code_of(status)
    (_watch.exit or _exit)(status)


def _exit(status: object) -> NoReturn:
    raise SystemExit(status)


def code_of(status: object) -> int:
    """The exit code of ``SystemExit(status)``."""
    if status is None:
        return 0
    if isinstance(status, int):
        return status & 0xFF
    return 1


def end_of(
    kind: type[BaseException] | None,
    error: BaseException | None,
    trace: TracebackType | None,
) -> End:
    """How a block or program ended that was left with this exception (or with none)."""
    if kind is None or error is None:
        return End("finished")
    if isinstance(error, SystemExit):
        code = code_of(error.code)
        return End("failed" if code else "finished", code)
    told = {
        "type": f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins."),
        "message": _message(error),
        "traceback": "".join(traceback.format_exception(kind, error, trace))[-LONGEST_TRACEBACK:],
    }
    if isinstance(error, KeyboardInterrupt):
        return End("interrupted", 130, told)
    return End("failed", 1, told)


def _message(error: BaseException) -> str:
    try:
        return str(error)[:4096]
    except ValueError:
        return "(its message could not be read)"


def of_process() -> End:
    """How this process is ending, as far as was noticed."""
    if _watch.end is not None:
        return _watch.end
    error = _last_error()
    if error is not None:
        return end_of(type(error), error, error.__traceback__)
    if _script_ran_to_its_end():
        return End("finished", 0)
    if _watch.exit_code is None:
        return End("finished", None)  # perhaps by ``raise SystemExit(n)``; the companion may know
    return End("failed" if _watch.exit_code else "finished", _watch.exit_code)


def _last_error() -> BaseException | None:
    """The error that Python printed last, where somebody's except hook took the place of ours.

    Not at a prompt or in a notebook, where it is that of some earlier input.
    """
    if hasattr(sys, "ps1") or "ipykernel" in sys.modules:
        return None
    error = getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)
    return error if isinstance(error, BaseException) else None


def _script_ran_to_its_end() -> bool:
    """Whether the interpreter ended because the script did, and not by an escaping SystemExit.

    CPython takes ``__file__`` out of a script's namespace when it has run to its end, but not
    when SystemExit leaves it. Only used to tell an exit that was caught from one that was not;
    programs started in other ways (``-m``, ``-c``) answer False.
    """
    main = sys.modules.get("__main__")
    started_as_script = getattr(main, "__spec__", None) is None and sys.argv[0] not in (
        "",
        "-",
        "-c",
    )
    return started_as_script and not hasattr(main, "__file__")


def spoke() -> bool:
    """Whether the program has ended itself by ``sys.exit``, and so said how it went."""
    return _watch.exit_code is not None and not _script_ran_to_its_end()
