"""The run that was begun last and is still open, as module-level names.

``tw.run``, ``tw.config`` and ``tw.summary`` are looked up anew each time; ``tw.log``,
``tw.define_metric``, ``tw.watch``, ``tw.unwatch`` and ``tw.finish`` call it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from trackway.core._guard import note

if TYPE_CHECKING:
    from trackway.core._tree import Tree
    from trackway.core.run import Run

__all__ = ["apart", "config", "define_metric", "finish", "log", "run", "summary"]

_open: list[Run] = []

before_use: list[Callable[[], None]] = []
"""Called before the current run is used, while it is one that was opened for a training: which may
have been left by an exception meanwhile, and its run is then no longer the current one."""

_apart: ContextVar[list[Run] | None] = ContextVar("trackway_runs_apart", default=None)

if TYPE_CHECKING:
    run: Run | None
    config: Tree
    summary: Tree


def opened(new: Run) -> None:
    """The run is the current one until it is finished."""
    mine = _apart.get()
    if mine is None:
        _open.append(new)
    else:
        mine.append(new)
        _open.insert(0, new)  # for other threads, whatever else is open comes before it
    new._at_finish = _closed


def _closed(old: Run) -> None:
    if old in _open:
        _open.remove(old)
    if not _open:
        from trackway.core._end import stop_watching

        stop_watching()


@contextmanager
def apart() -> Iterator[None]:
    """A run begun in the block is the current one in this thread alone.

    For runs that several threads record at once, each its own.
    """
    token = _apart.set([])
    try:
        yield
    finally:
        _apart.reset(token)


def open_runs() -> list[Run]:
    """Every run that is not finished, in the order they were begun; the last is the current one.

    Those begun ``apart`` come first, but for this thread's own, which come last.
    """
    every = list(_open)
    mine = [each for each in _apart.get() or () if each in every]
    return [each for each in every if each not in mine] + mine


def _last() -> Run | None:
    if _open and _open[-1]._unended:
        for call in before_use:
            call()
    for each in reversed(_apart.get() or ()):
        if each in _open:
            return each
    return _open[-1] if _open else None


def end_all() -> None:
    """Finish every open run, newest first, as the interpreter ends."""
    for each in reversed(open_runs()):
        each._end_with_process()


def _after_fork() -> None:
    for each in _open:
        each._forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def __getattr__(name: str) -> Any:
    if name == "run":
        return _last()
    if name in ("config", "summary"):
        found = _last()
        if found is None:
            raise AttributeError(f"trackway.{name}: no run is open; call trackway.init() first")
        return getattr(found, name)
    raise AttributeError(name)


def _current(call: str) -> Run | None:
    found = _last()
    if found is not None:
        return found
    note(
        call,
        "no run",
        f"trackway.{call}() found no open run, so nothing was done; call init() first.",
    )
    return None


def log(data: Mapping[Any, Any], step: int | None = None, commit: bool | None = None) -> None:
    """``Run.log`` of the current run."""
    current = _current("log")
    if current is not None:
        current.log(data, step, commit)


def define_metric(name: str, step_metric: str | None = None, **rules: Any) -> None:
    """``Run.define_metric`` of the current run."""
    current = _current("define_metric")
    if current is not None:
        current.define_metric(name, step_metric, **rules)


def watch(models: Any, optimizer: Any = None, **options: Any) -> Any:
    """``Run.watch`` of the current run; None without one."""
    current = _current("watch")
    return None if current is None else current.watch(models, optimizer, **options)


def unwatch(models: Any = None) -> None:
    """``Run.unwatch`` of the current run; without one, does nothing."""
    current = _last()
    if current is not None:
        current.unwatch(models)


def finish(
    exit_code: int | None = None, timeout_s: float = 10.0, quiet: bool | None = None
) -> None:
    """``Run.finish`` of the current run; without one, does nothing."""
    found = _last()
    if found is not None:
        found.finish(exit_code, timeout_s, quiet)
