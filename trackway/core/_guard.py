"""The one place where an error of ours is swallowed.

A hook, a capture or a log call runs inside ``guard(place)``. An ``Exception`` there is counted
and told once per place and kind, in one sentence, and the user's program goes on. What is not an
``Exception`` (Ctrl-C, ``SystemExit``) always passes.

Imports next to nothing: ``autolog`` needs it before any framework is there.
"""

from __future__ import annotations

import os
import sys
from _thread import RLock

TYPE_CHECKING = False  # as type checkers read it, without the cost of importing typing
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any, Final, ParamSpec, TypeVar

    P = ParamSpec("P")
    R = TypeVar("R")

__all__ = [
    "Trouble",
    "attempt",
    "guard",
    "guarded",
    "note",
    "reset",
    "swallowed",
    "tell",
    "troubles",
]

_KEPT: Final = 100

swallowed: list[tuple[str, BaseException]] = []
"""The first swallowed errors, kept so that our own tests can raise them."""

_lock = RLock()


def _renew_lock() -> None:
    """In a forked child: the lock may be held by a thread that is not there any more."""
    global _lock
    _lock = RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


class Trouble:
    """One kind of trouble: where, why, how often, and the sentence that was told."""

    __slots__ = ("count", "place", "reason", "sentence")

    def __init__(self, place: str, reason: str, sentence: str) -> None:
        self.place = place
        self.reason = reason
        self.sentence = sentence
        self.count = 0


_troubles: dict[tuple[str, str], Trouble] = {}


def troubles() -> list[Trouble]:
    """Everything that went wrong in this process so far, in the order it first happened."""
    return list(_troubles.values())


def reset() -> None:
    """Forget all counts and all kept errors."""
    with _lock:
        _troubles.clear()
        swallowed.clear()


def tell(sentence: str) -> None:
    """Say one sentence on the terminal; never raises, and is silent where there is none."""
    stream = sys.stderr
    if stream is None:
        return
    try:
        stream.write(f"trackway: {sentence}\n")
        stream.flush()
    except Exception:  # noqa: S110 - saying is a courtesy, and a stream may be anything
        pass


def note(place: str, reason: str, sentence: str) -> Trouble:
    """Count one case of trouble; the sentence is told the first time for (place, reason)."""
    with _lock:
        trouble = _troubles.get((place, reason))
        if trouble is None:
            trouble = _troubles[place, reason] = Trouble(place, reason, sentence)
        trouble.count += 1
    if trouble.count == 1:
        tell(sentence)
    return trouble


def _swallow(place: str, error: Exception) -> None:
    if len(swallowed) < _KEPT:
        # The frames would keep the user's tensors alive, so only the error itself stays.
        swallowed.append((place, error.with_traceback(None)))
    reason = type(error).__name__
    told = " ".join(f"{reason}: {error}".split())[:200]
    note(place, reason, f"{place} did not work ({told}); your program goes on, this is counted.")


class guard:  # noqa: N801 - reads as a statement: ``with guard("console"):``
    """Swallow and report an ``Exception`` raised in the block; anything else passes.

    Wrap the body of a hook, not its return: the value the host expects is returned outside.
    """

    __slots__ = ("_place",)

    def __init__(self, place: str) -> None:
        self._place = place

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        if isinstance(error, Exception):
            _swallow(self._place, error)
            return True
        return False


def guarded(place: str, function: Callable[P, R], otherwise: R) -> Callable[P, R]:
    """The function, swallowing every ``Exception`` and returning ``otherwise`` in its stead."""

    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            _swallow(place, error)
            return otherwise

    return call


def attempt(place: str, function: Callable[[R], object]) -> Callable[[R], bool]:
    """The function of one argument, guarded: it returns whether it came to its end.

    Where nothing is raised it costs less than ``guard``: for what is called in every step.
    """

    def call(argument: R) -> bool:
        try:
            function(argument)
        except Exception as error:
            _swallow(place, error)
            return False
        return True

    return call


def guarded_log(
    fast: Callable[[Any, Any, Any], bool], careful: Callable[[Any, Any, Any, Any], None]
) -> Callable[[Callable[P, None]], Callable[P, None]]:
    """Make a log call: the fast way where it applies, else the careful one, and never an error.

    ``fast`` stores nothing unless it returns True, whatever it raises. The decorated function
    gives its name, signature and docstring.
    """
    from functools import wraps

    def decorate(described: Callable[P, None]) -> Callable[P, None]:
        @wraps(described)
        def log(self: Any, data: Any, step: Any = None, commit: Any = None) -> None:
            try:
                if commit is None and fast(self, data, step):
                    return
            except Exception:  # noqa: S110 - it only says that these values need the careful way
                pass
            try:
                careful(self, data, step, commit)
            except Exception as error:
                _swallow("log", error)

        return log  # type: ignore[return-value]

    return decorate
