"""What is changed in scikit-learn while something watches, and which calls are outermost.

A wrapper takes its place in the class that defines the method, and classes to come are met by
``BaseEstimator.__init_subclass__``. Functions such as ``cross_validate`` keep their identity: what
is exchanged is the function that their parameter validation calls, so names that were imported
before are met as well.

Whoever kept a wrapper keeps one that does nothing but call the original. A wrapper refers to
``call`` alone: a class that is sent to a worker by value takes it along, by name.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
from collections.abc import Callable
from types import CellType, FrameType, FunctionType, ModuleType
from typing import Any, Final, Protocol

from trackway.core._guard import guard

__all__ = ["Watcher", "begin_watching", "call", "end_watching"]

Undo = Callable[[], None]

METHODS: Final = ("fit", "fit_transform", "fit_predict", "partial_fit")

FUNCTIONS: Final = (
    "cross_validate",
    "cross_val_score",
    "cross_val_predict",
    "learning_curve",
    "validation_curve",
    "permutation_test_score",
)

_VALIDATION: Final = "sklearn.model_selection._validation"

_AROUND: Final = ("sklearn.utils._set_output", "sklearn.utils._param_validation")
"""Modules whose decorators lie around ours: their frames do not make a call an inner one."""

_base_estimator: Any = None
_undo: list[Undo] = []
_watchers: list[Watcher] = []
_lock = threading.RLock()
_thread = threading.local()
_active: list[bool] = []
"""Of each outermost call that is under way: whether a pool of joblib made it, for the program."""


class Watcher(Protocol):
    """Who is told of outermost calls."""

    thread: int
    standing: bool

    def outermost(
        self, original: Callable[..., Any], name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Call the original, exactly once, and return what it returns."""


# -- which calls ----------------------------------------------------------------------------


def call(
    original: Callable[..., Any], name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """What a wrapper does: the original, told of where the call is an outermost one."""
    if not _watchers or getattr(_thread, "inside", False):
        return original(*args, **kwargs)
    watcher = _chosen()
    caller = _caller()
    if watcher is None or caller == "sklearn" or (caller == "joblib" and False in _active):
        return original(*args, **kwargs)
    _thread.inside = True
    _active.append(caller == "joblib")
    try:
        return watcher.outermost(original, name, args, kwargs)
    finally:
        _thread.inside = False
        _active.remove(caller == "joblib")


def _chosen() -> Watcher | None:
    """This thread's own watch, else the newest explicit one, else that of ``autolog``."""
    watchers = _watchers[::-1]
    here = threading.get_ident()
    explicit = [watcher for watcher in watchers if not watcher.standing]
    for watcher in explicit:
        if watcher.thread == here:
            return watcher
    return next(iter(explicit or watchers), None)


def _caller() -> str:
    """Who makes this call: ``sklearn`` itself, a pool of ``joblib``, or the program (empty).

    It asks the stack, as the threads of a pool do not share the variables of the thread that they
    work for. A thread that a program started for a training of its own has no such frame.
    """
    frame: FrameType | None = sys._getframe(2)
    found = ""
    while frame is not None:
        module = str(frame.f_globals.get("__name__", ""))
        package = module.partition(".")[0]
        if package == "sklearn" and module not in _AROUND:
            return package
        if package == "joblib":
            found = package
        frame = frame.f_back
    return found


# -- what is changed ------------------------------------------------------------------------


def begin_watching(watcher: Watcher, base_estimator: Any) -> None:
    """Tell a watcher of outermost calls from now on."""
    with _lock:
        if watcher in _watchers:
            return
        if not _watchers:
            _install(base_estimator)
        _watchers.append(watcher)


def end_watching(watcher: Watcher) -> None:
    """Tell it no more; with the last one, put everything back."""
    with _lock:
        if watcher in _watchers:
            _watchers.remove(watcher)
        if not _watchers:
            while _undo:
                with guard("sklearn"):
                    _undo.pop()()


def _install(base_estimator: Any) -> None:
    global _base_estimator
    _base_estimator = base_estimator
    had = "__init_subclass__" in base_estimator.__dict__
    before = base_estimator.__dict__.get("__init_subclass__")

    def undo() -> None:
        if had:
            base_estimator.__init_subclass__ = before
        else:
            del base_estimator.__init_subclass__

    def subclassed(cls: Any, /, **arguments: Any) -> None:
        if before is not None:
            before.__get__(None, cls)(**arguments)
        else:
            super(base_estimator, cls).__init_subclass__(**arguments)
        with guard("sklearn"):
            _wrap_class(cls)
            _wrap_functions()

    base_estimator.__init_subclass__ = classmethod(subclassed)
    _undo.append(undo)
    for cls in _subclasses(base_estimator):
        with guard("sklearn"):
            _wrap_class(cls)
    _wrap_functions()


def _subclasses(cls: type) -> set[type]:
    found: set[type] = set()
    waiting: list[type] = [cls]
    each: type
    while waiting:
        for each in type.__subclasses__(waiting.pop()):
            if each not in found:
                found.add(each)
                waiting.append(each)
    return found


def _wrap_class(cls: type) -> None:
    """Wrap the methods that an estimator class defines, or has from a mixin of scikit-learn."""
    for owner in cls.__mro__:
        ours = issubclass(owner, _base_estimator) or owner.__module__.startswith("sklearn.")
        if ours:
            for name in METHODS:
                if name in owner.__dict__:
                    _wrap_method(owner, name)


def _wrap_method(owner: Any, name: str) -> None:
    found = owner.__dict__[name]
    if isinstance(found, FunctionType):
        holder, attribute, original = owner, name, found
    elif isinstance(getattr(found, "fn", None), FunctionType):  # available_if
        holder, attribute, original = found, "fn", found.fn
    else:
        return
    if hasattr(original, "_trackway"):  # ours, or what was put around ours
        return
    wrapper = _wrapper(original, name)
    setattr(holder, attribute, wrapper)

    def undo() -> None:
        if vars(holder).get(attribute) is wrapper:
            setattr(holder, attribute, original)

    _undo.append(undo)


def _wrapper(original: Callable[..., Any], name: str) -> Callable[..., Any]:
    @functools.wraps(original)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return call(original, name, args, kwargs)

    wrapped._trackway = True  # type: ignore[attr-defined]
    return wrapped


def _wrap_functions() -> None:
    """The functions of ``model_selection``, as soon as that module is there."""
    module = sys.modules.get(_VALIDATION)
    if module is None or not hasattr(module, FUNCTIONS[-1]):
        return
    for name in FUNCTIONS:
        with guard("sklearn"):
            _wrap_function(module, name)


def _wrap_function(module: ModuleType, name: str) -> None:
    function = getattr(module, name)
    cell = _called(function)
    original = function if cell is None else cell.cell_contents
    if hasattr(original, "_trackway"):
        return
    wrapper = _wrapper(original, name)
    if cell is None:
        setattr(module, name, wrapper)
        _undo.append(functools.partial(setattr, module, name, original))
    else:
        cell.cell_contents = wrapper
        _undo.append(functools.partial(setattr, cell, "cell_contents", original))


def _called(function: Any) -> CellType | None:
    """Where a decorated function keeps what it calls."""
    inner = getattr(function, "__wrapped__", None)
    for cell in getattr(function, "__closure__", None) or ():
        held = cell.cell_contents
        if inner is not None and (held is inner or getattr(held, "__wrapped__", None) is inner):
            found: CellType = cell
            return found
    return None


def _after_fork() -> None:
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
