"""The run that was begun last and is still open, as module-level names.

``tw.run``, ``tw.config`` and ``tw.summary`` are looked up anew each time; ``tw.log``,
``tw.define_metric`` and ``tw.finish`` call it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from trackway.core._guard import note

if TYPE_CHECKING:
    from trackway.core._tree import Tree
    from trackway.core.run import Run

__all__ = ["config", "define_metric", "finish", "log", "run", "summary"]

_open: list[Run] = []

if TYPE_CHECKING:
    run: Run | None
    config: Tree
    summary: Tree


def opened(new: Run) -> None:
    """The run is the current one until it is finished."""
    _open.append(new)
    new._at_finish = _closed


def _closed(old: Run) -> None:
    if old in _open:
        _open.remove(old)
    if not _open:
        from trackway.core._end import stop_watching

        stop_watching()


def open_runs() -> list[Run]:
    """Every run that is not finished, in the order they were begun."""
    return list(_open)


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
        return _open[-1] if _open else None
    if name in ("config", "summary"):
        if not _open:
            raise AttributeError(f"trackway.{name}: no run is open; call trackway.init() first")
        return getattr(_open[-1], name)
    raise AttributeError(name)


def _current(call: str) -> Run | None:
    if _open:
        return _open[-1]
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


def finish(
    exit_code: int | None = None, timeout_s: float = 10.0, quiet: bool | None = None
) -> None:
    """``Run.finish`` of the current run; without one, does nothing."""
    if _open:
        _open[-1].finish(exit_code, timeout_s, quiet)
