"""What ``autolog`` knows of hand-written loops: the optimizers, their losses, their run."""

from __future__ import annotations

import functools
import os
import sys
import threading
from collections.abc import Mapping
from time import perf_counter
from typing import Any, Final
from weakref import WeakKeyDictionary, WeakSet, ref

import torch
from torch import Tensor

from trackway.core import current
from trackway.core._guard import guard, note
from trackway.core.run import Run
from trackway.integrations._base import RunHandle, training_under_way
from trackway.integrations.pytorch._autolog import INHERITED, inherited
from trackway.integrations.pytorch._losses import (
    Backward,
    Optimizer,
    Thread,
    is_cleared,
    mark_scaled,
    value_of,
)
from trackway.integrations.pytorch._model import about_optimizer
from trackway.integrations.pytorch._series import Series, Value, steps_made

__all__ = ["Loops"]

_MOST: Final = 16
"""Optimizers of one run that are recorded."""

_BESIDE: Final = "loop"
"""The prefix in a run that the loop has not opened itself: its plain names are the program's."""

_HOOKS: Final = "trackway.integrations.pytorch._hooks"


class _Joined:
    """What is known of one run: how its metrics begin, how many optimizers have their names."""

    __slots__ = ("labels", "prefix")

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix.rstrip("/") + "/" if prefix else ""
        self.labels = 0


class Loops:
    """The hand-written loops of this process.

    Args:
        options: ``every`` and ``prefix``, as the explicit objects take them.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._plain = "prefix" not in options
        self._options = {"every": 1, "prefix": "", **options}
        self._optimizers: dict[int, Optimizer] = {}
        self._gone: dict[int, ref[torch.optim.Optimizer]] = {}
        self._joined: WeakKeyDictionary[Run, _Joined] = WeakKeyDictionary()
        self._inherits = _parent_records()
        self._local = threading.local()
        self._lock = threading.RLock()  # while gradients are looked at, and a thread begins
        self._several = False
        self._first: Thread | None = None
        self._running: list[Thread] = []
        _all.add(self)

    def _forked(self) -> None:
        """In a forked child: what is open here is the parent's."""
        self._local = threading.local()
        self._lock = threading.RLock()
        self._inherits = _parent_records()
        self._several, self._first = False, None
        self._running = []
        for each in list(self._optimizers.values()):
            each.thread, each.sure = None, False

    # -- threads and optimizers ------------------------------------------------------------

    def _thread(self) -> Thread:
        """What is known in this thread."""
        found: Thread | None = getattr(self._local, "thread", None)
        if found is None:
            # What PyTorch starts for a backward on a device, threading has not made.
            foreign = type(threading.current_thread()).__name__ == "_DummyThread"
            found = self._local.thread = Thread(foreign=foreign)
        return found

    def _stepping(self) -> Thread:
        """In whose name a step is made: a step inside of backward on a device is its caller's."""
        thread = self._thread()
        if thread.foreign and not thread.began:
            running = list(self._running)
            if len(running) == 1:
                return running[0]
        return thread

    def _begins(self, thread: Thread) -> None:
        """A thread calls ``backward`` for the first time: it may use any optimizer from now on."""
        with self._lock:
            thread.began = True
            if self._first is None:
                self._first = thread
                return
            self._several = True
            for each in list(self._optimizers.values()):
                each.sure = False

    def known(self, optimizer: torch.optim.Optimizer, *, made: bool = True) -> Optimizer:
        """What is known of an optimizer."""
        number = id(optimizer)
        found = self._optimizers.get(number)
        if found is None:
            thread = self._thread() if made else None
            found = self._optimizers[number] = Optimizer(optimizer, thread)
            self._gone[number] = ref(optimizer, functools.partial(self._forget, number))
            if thread is not None:
                thread.bound[number] = found
        return found

    def _forget(self, number: int, _: object) -> None:
        self._gone.pop(number, None)
        found = self._optimizers.pop(number, None)
        if found is not None and found.thread is not None:
            found.thread.bound.pop(number, None)

    def _may_look(self, each: Optimizer) -> bool:
        return not self._several or (each.sure and not each.shared)

    def _bind(self, number: int, each: Optimizer, thread: Thread) -> bool:
        """The thread has stepped the optimizer; returns whether its gradients were looked at."""
        looked = each.thread is thread and self._may_look(each)
        if each.thread is not thread:
            if each.thread is not None:
                each.thread.bound.pop(number, None)
                each.shared = each.shared or each.sure
            each.thread = thread
            thread.bound[number] = each
        each.sure = True
        return looked

    # -- losses ----------------------------------------------------------------------------

    def before(
        self, loss: Tensor, gradient: Tensor | None = None, *_: object, **__: object
    ) -> Backward | None:
        """A backward begins; None where there is nothing to remember of it."""
        thread = self._thread()
        if not thread.began:
            self._begins(thread)
        if training_under_way():
            return None
        value = value_of(loss, gradient, thread)
        if value is None:
            return None
        seen = []
        with self._lock:
            for each in tuple(thread.bound.values()):
                if self._may_look(each):
                    marks = each.look()
                    if is_cleared(each.marks, marks):
                        each.loss = None
                    seen.append((each, marks))
        backward = Backward(value, seen)
        thread.under_way.append(backward)
        self._running.append(thread)
        return backward

    def after(self, backward: Backward, *, failed: bool) -> None:
        """A backward is over: which optimizers' gradients did it change?"""
        thread = self._thread()
        thread.under_way.remove(backward)
        self._running.remove(thread)
        if failed:
            return
        some = False
        with self._lock:
            for each, before in backward.seen:
                if each.thread is thread and self._may_look(each):
                    each.marks = each.look()
                    if each.marks != before:
                        each.add(backward.value)
                        some = True
        thread.reached(backward, some=some)

    def zeroing(self) -> list[tuple[Optimizer, Any]]:
        """Gradients are about to be cleared in their place: what they look like."""
        with self._lock:
            bound = tuple(self._thread().bound.values())
            return [(each, each.look()) for each in bound if self._may_look(each)]

    def zeroed(self, seen: list[tuple[Optimizer, Any]]) -> None:
        """They were cleared."""
        with self._lock:
            for each, before in seen:
                if self._may_look(each) and each.look() != before:
                    each.loss = None

    def begun_anew(self, optimizer: torch.optim.Optimizer) -> None:
        """The gradients of an optimizer were cleared: that counts where nobody looks at them."""
        each = self._optimizers.get(id(optimizer))
        thread = self._thread()
        if each is not None and not (each.thread is thread and self._may_look(each)):
            thread.recent = None

    def scaled(self, scaler: Any, losses: Any, results: Any) -> None:
        """A ``GradScaler`` made these of those."""
        mark_scaled(losses, results, scaler, self._thread())

    # -- steps -----------------------------------------------------------------------------

    def stepped(self, optimizer: torch.optim.Optimizer) -> None:
        """An optimizer made a step."""
        now = perf_counter()
        number = id(optimizer)
        each = self._optimizers.get(number) or self.known(optimizer, made=False)
        outer = _outer()
        if outer is not None and outer is not optimizer and self.known(outer).shares(each):
            each.loss = None
            return
        thread = self._stepping()
        loss = thread.taken(each, looked=self._bind(number, each, thread))
        if training_under_way():
            return
        handle = self._join(thread)
        if handle is not None and handle.run is not None:
            self._record(handle, handle.run, each, optimizer, loss, now)

    def _record(
        self,
        handle: RunHandle,
        run: Run,
        each: Optimizer,
        optimizer: torch.optim.Optimizer,
        loss: Value | None,
        now: float,
    ) -> None:
        series = each.series.get(run) or self._begin(handle, run, each, optimizer)
        watched = _HOOKS in sys.modules and _is_watched(optimizer)
        row = series.row(optimizer, loss, now, every=handle.every, watched=watched)
        if row:
            run._log_beside(row, series.steps)

    def _join(self, thread: Thread) -> RunHandle | None:
        """The run that is current in this thread, else one of our own, until the program ends."""
        run = current._last()
        if self._inherits and (run is None or run in inherited):
            return None
        handle = thread.handle
        if handle is None or run is None or run is not handle.run:
            with self._lock:  # of two threads one opens a run
                handle = thread.handle = RunHandle("pytorch", **self._options)
                handle.begin(ends=False)  # other threads may join it
                if handle.run is not None and handle.run not in self._joined:
                    beside = self._plain and not handle.owns
                    self._joined[handle.run] = _Joined(_BESIDE if beside else handle.prefix)
        return handle if handle.recording else None

    def _begin(
        self, handle: RunHandle, run: Run, each: Optimizer, optimizer: torch.optim.Optimizer
    ) -> Series:
        """The first step of an optimizer in this run: it gets its names, and its count."""
        with self._lock:
            joined = self._joined[run]
            number = joined.labels
            joined.labels += 1
        if number >= _MOST:
            told = f"more than {_MOST} optimizers: the loops of the others are not recorded."
            note("pytorch", "optimizers", told)
            found = each.series[run] = Series(None, 0)
            return found
        name = f"optimizer{number}" if number else "optimizer"
        start = joined.prefix + (name + "/" if number else "")
        steps = 0
        with guard("pytorch"):
            if not len(each.series):
                steps = max(0, steps_made(optimizer) - 1)
            if steps == 0 and run.attempt > 1:
                steps = max(0, run._first_step - 1)
        found = each.series[run] = Series(start, steps)
        if not _is_watched(optimizer):
            handle.configure_at(("pytorch", name), about_optimizer(optimizer))
        return found


_all: WeakSet[Loops] = WeakSet()


def _after_fork() -> None:
    for each in list(_all):
        each._forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _parent_records() -> bool:
    """Whether the program that has started this process had a run open."""
    process: Any = sys.modules.get("multiprocessing.process")
    if current._open and len(inherited):
        return True
    return process is not None and bool(process.current_process()._config.get(INHERITED))


def _outer() -> torch.optim.Optimizer | None:
    """The optimizer inside of whose step the one is made whose hook this is, if there is one."""
    frame: Any = sys._getframe(2)
    code = None
    while frame is not None:
        if code is None:
            if frame.f_code.co_name == "wrapper" and frame.f_globals.get("__name__") == _HOME:
                code = frame.f_code
        elif frame.f_code is code:
            arguments = frame.f_locals.get("args")
            found = arguments[0] if arguments else None
            return found if isinstance(found, torch.optim.Optimizer) else None
        frame = frame.f_back
    return None


_HOME: Final = "torch.optim.optimizer"


def _is_watched(optimizer: torch.optim.Optimizer) -> bool:
    """Whether ``watch`` records this optimizer already."""
    hooks = sys.modules.get(_HOOKS)
    asked = getattr(hooks, "is_watched", None)
    return bool(asked(optimizer)) if asked is not None else False
