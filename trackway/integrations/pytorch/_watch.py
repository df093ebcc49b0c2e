"""What watches: the hooks, and the optimizers they meet."""

from __future__ import annotations

import copy
import os
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final

from torch import nn
from torch.optim import Optimizer
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from trackway.core._guard import guard, note
from trackway.core.records import record_model
from trackway.core.run import Run
from trackway.errors import ArgumentError
from trackway.integrations._base import RunHandle, named
from trackway.integrations.pytorch._met import (
    MOST,
    Copied,
    Making,
    Met,
    hook,
    off,
    silent,
    steps_of,
)
from trackway.integrations.pytorch._model import Names, about_model, about_optimizer
from trackway.integrations.pytorch._schedule import Schedule
from trackway.integrations.pytorch._track import Track, capturing

__all__ = ["Watch", "watches"]

_LOGS: Final = ("gradients", "parameters", "all", None)
_UNKNOWN: Final = object()
_LAST_WAIT_S: Final = 2.0


_met: weakref.WeakKeyDictionary[Run, Met] = weakref.WeakKeyDictionary()
"""Of the runs that have not ended: what is kept for them holds the run."""


class Watch:
    """A watched model. Made by ``watch``.

    Attributes:
        settings: What was asked for, and ``intervals``: the steps between two readings of each
            kind, per optimizer.
    """

    def __init__(
        self,
        models: list[nn.Module],
        optimizers: list[Optimizer],
        *,
        run: Run | None,
        log: str | None,
        every: int | None,
        histograms: bool,
        update_ratio: bool,
        budget: float,
        prefix: str,
        start: int | None,
    ) -> None:
        if log not in _LOGS:
            raise ArgumentError(f"log={log!r}: it is 'gradients', 'parameters', 'all' or None")
        if type(budget) not in (int, float) or not 0 < budget <= 1:
            raise ArgumentError(f"budget={budget!r}: it is a share of time, such as 0.01")
        if not models and not optimizers:
            raise ArgumentError("models=None: pass the model that is trained")
        if start is not None and (type(start) is not int or start < 0):
            raise ArgumentError(f"start={start!r}: it is a whole number of steps, 0 or more")
        self._handle = RunHandle("pytorch", run, prefix=prefix, every=1 if every is None else every)
        self.settings: dict[str, Any] = {
            "log": log,
            "every": every,
            "histograms": bool(histograms),
            "update_ratio": bool(update_ratio),
            "budget": budget,
        }
        self._stated: dict[str, Any] = {}
        self._names = Names(models, optimizers)
        self._given = [weakref.ref(each) for each in optimizers]
        self._tracks: weakref.WeakKeyDictionary[Optimizer, Track | None]
        self._tracks = weakref.WeakKeyDictionary()
        self._all: list[Track] = []
        self._start = start
        self._making = Making()
        self._handles: list[Any] = []
        self._process = os.getpid()

    # -- beginning and end -----------------------------------------------------------------

    def _begin(self) -> None:
        handle = self._handle
        handle.ensure()
        run = handle.run
        if run is None or silent(run) or run._finished:
            return
        for each in list(watches.get(run, ())):
            if each._same(self):
                each.close()
        watches.setdefault(run, []).append(self)
        met = _met_of(run)
        for _, model in self._names.alive():
            number = met.number("model", handle.prefix)
            name = f"model{number}" if number else "model"
            record_model(run, next(iter(named({name: 0}, handle.prefix))), about_model(model))
        for ref in self._given:
            optimizer = ref()
            if optimizer is not None:
                self._meet(optimizer)
        self._register()
        self._configure()

    def _register(self) -> None:
        after, before = hook(self._stepped), hook(self._steps)
        given = [optimizer for ref in self._given if (optimizer := ref()) is not None]
        for optimizer in given:
            self._handles.append(optimizer.register_step_post_hook(after))
            self._handles.append(optimizer.register_step_pre_hook(before))
        if not given:
            self._handles.append(register_optimizer_step_post_hook(after))
            self._handles.append(register_optimizer_step_pre_hook(before))

    def close(self, error: BaseException | None = None) -> None:
        """Stop watching; a run that was opened for it is finished, as failed if there is an error.

        A second call does nothing.
        """
        with guard("watch"):
            self._leave().end(error)

    def _leave(self) -> RunHandle:
        """Nothing is hooked, and nothing here holds the run, from now on; returns what held it."""
        handle = self._handle
        self._disarm()
        try:
            self._arrive()
        finally:
            self._all = []
            self._tracks.clear()
            self._handle = RunHandle("pytorch", prefix=handle.prefix)
            run = handle.run
            if run is not None and self in watches.get(run, ()):
                watches[run].remove(self)
        return handle

    def _arrive(self) -> None:
        """Record what is on its way, before it is too late."""
        if os.getpid() == self._process:
            for track in self._all:
                track.harvest(_LAST_WAIT_S)

    def _disarm(self) -> None:
        handles, self._handles = self._handles, []
        for handle in handles:
            handle.remove()
        for track in self._all:
            track.forget()

    def watches(self, optimizer: Optimizer) -> bool:
        """Whether it watches this optimizer, or will once that makes a step."""
        if not self._handles:
            return False
        if self._given:
            return any(ref() is optimizer for ref in self._given)
        return bool(self._names.held(optimizer))

    def _live(self) -> list[Track]:
        """The tracks of optimizers that exist."""
        return [track for track in self._all if track.optimizer() is not None]

    def _same(self, other: Watch) -> bool:
        """Whether it watches a model with an optimizer that the other does, whose may be gone."""
        models = {model for _, model in self._names.alive()}
        mine, others = {r() for r in self._given}, {r() for r in other._given} - {None}
        return (
            self._handle.prefix == other._handle.prefix
            and (bool(models & {m for _, m in other._names.alive()}))
            and (not mine or not others or bool(mine & others))
        )

    # -- the hooks -------------------------------------------------------------------------

    def _steps(self, optimizer: Optimizer) -> None:
        """A step is about to be made."""
        under_way = self._making.under_way
        if under_way and self._making.inside(optimizer):
            under_way.append((id(optimizer), None, True))
            return
        track: Any = self._tracks.get(optimizer, _UNKNOWN)
        if track is _UNKNOWN:
            track = self._meet(optimizer)
        under_way.append((id(optimizer), track, False))
        if track is None:
            return
        if not track.begun:
            self._count_from(track, optimizer)
        if track.steps + 1 >= track.schedule.next_ratio:
            with guard("watch"):
                track.before(optimizer)

    def _stepped(self, optimizer: Optimizer) -> None:
        """A step was made."""
        if self._making.leaves(optimizer):
            return
        track = self._tracks.get(optimizer)
        if track is None:
            return
        track.steps += 1
        skip = optimizer.__dict__.get("found_inf")
        if skip is None and track.steps < track.schedule.next:
            return
        with guard("watch"):
            if skip is not None:
                track.skips(skip)
            if track.steps >= track.schedule.next and self._wanted():
                track.after(optimizer)

    def _count_from(self, track: Track, optimizer: Optimizer) -> None:
        """How many steps it has made before the first one here."""
        run = self._handle.run
        if run is None or capturing():
            return
        track.begun = True
        with guard("watch"):
            if self._start is not None:
                track.steps = self._start
            else:
                track.steps = steps_of(optimizer) or max(0, run._first_step - 1)

    def _wanted(self) -> bool:
        """Whether there still is a run to record into, and this process is one that records."""
        run = self._handle.run
        if run is None or run._finished:
            self._disarm()
            return False
        if os.getpid() != self._process:
            self._process = os.getpid()
            if silent(run):
                self._disarm()
                return False
        return True

    def _meet(self, optimizer: Optimizer) -> Track | None:
        """An optimizer not seen before: it is watched if it holds a parameter of the models."""
        self._tracks[optimizer] = None
        with guard("watch"):
            run = self._handle.run
            if run is None or run._finished or silent(run):
                return None
            met = _met_of(run)
            given = [ref() for ref in self._given]
            former = met.former(self._handle.prefix, optimizer, given)
            if former is not None and former.optimizer() is not optimizer:
                self._let_go(run, met.replace(former))
            ours = former is not None and former in self._all
            track = former if ours else self._track(run, met, optimizer, former)
            if track is None:
                return None
            track.renew(optimizer)
            self._tracks[optimizer] = track
            met.keep(self._handle.prefix, optimizer, track)
            self._describe(optimizer, track)
            if not self._given and track is not former:
                self._configure()
        return self._tracks[optimizer]

    def _let_go(self, run: Run, other: Optimizer | None) -> None:
        """Another optimizer has taken the place of this one, wherever it is watched."""
        if other is not None:
            for each in watches.get(run, ()):
                if each._handle.prefix == self._handle.prefix:
                    each._tracks.pop(other, None)

    def _track(
        self, run: Run, met: Met, optimizer: Optimizer, former: Track | None
    ) -> Track | None:
        prefix = self._handle.prefix
        self._names.learn()
        held = self._names.held(optimizer)
        if off(optimizer) or not (held or any(r() is optimizer for r in self._given)):
            return None
        alone = held[0] if len(held) == 1 and self._names.trainable() > 1 else ""
        label = "" if former is None else former.label
        if former is None and not alone:
            if met.full(prefix):
                note("watch", "optimizers", f"the first {MOST} optimizers of a run are watched.")
                return None
            number = met.number("optimizer", prefix)
            label = f"optimizer{number}" if number else ""
        track = Track(
            optimizer,
            self._names,
            self._handle,
            Schedule(self._kinds(), self.settings["every"], float(self.settings["budget"])),
            label=label,
            alone=alone,
            gradients=self.settings["log"] in ("gradients", "all"),
            rows=not run.rank,
        )
        if former is not None and former.begun and self._start is None:
            track.steps, track.begun = former.steps, True
        track.adapted = self._configure
        track.sharing = lambda: max(1, len(self._live()))
        self._all.append(track)
        return track

    def _kinds(self) -> tuple[str, ...]:
        log, histograms = self.settings["log"], self.settings["histograms"]
        return (
            "norms",
            *(["ratios"] if self.settings["update_ratio"] and log is not None else []),
            *(["histograms"] if histograms and log in ("gradients", "all") else []),
            *(["parameters"] if histograms and log in ("parameters", "all") else []),
        )

    # -- what is said of it ----------------------------------------------------------------

    def _describe(self, optimizer: Optimizer, track: Track) -> None:
        """What it is; of many that follow each other, that of the first ones."""
        if track.described >= MOST:
            return
        about = about_optimizer(optimizer)
        if track.alone:
            about["per_parameter"] = True
        if about != track.about and (not track.alone or track is self._all[0]):
            track.about, track.described = about, track.described + 1
            self._state(track.label or "optimizer", about)

    def _configure(self) -> None:
        """The settings, and how often what is read at present."""
        intervals: dict[str, Any] = {}
        for track in self._live():
            if track.rows:
                intervals.setdefault(track.label or "optimizer", dict(track.schedule.intervals))
                self.settings["update_stride"] = track.ratios.stride
        self.settings["intervals"] = intervals
        if self.settings != self._stated:
            self._stated = copy.deepcopy(self.settings)
            self._state("watch", self.settings)

    def _state(self, name: str, value: dict[str, Any]) -> None:
        """Record one entry under ``pytorch``, and leave the others."""
        self._handle.configure_at(("pytorch", name), copy.deepcopy(value))

    # -- with, copies ----------------------------------------------------------------------

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close(error)

    def __reduce__(self) -> tuple[Callable[..., Copied], tuple[dict[str, Any]]]:
        """A copy watches nothing: whatever holds one can be pickled and copied."""
        return Copied, (dict(self.settings),)


def _met_of(run: Run) -> Met:
    """What the run has met; until it ends, which ends all that watches for it."""
    found = _met.get(run)
    if found is None:
        found = _met[run] = Met()
        run._before_end.append(lambda: _ended(run))
    return found


def _ended(run: Run) -> None:
    """Nothing holds the run any more."""
    for each in list(watches.get(run, ())):
        with guard("watch"):
            each._leave()
    watches.pop(run, None)
    _met.pop(run, None)


watches: weakref.WeakKeyDictionary[Run, list[Watch]] = weakref.WeakKeyDictionary()
"""What watches for each run."""
