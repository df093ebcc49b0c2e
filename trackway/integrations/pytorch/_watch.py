"""What watches: the hooks, and the optimizers they meet."""

from __future__ import annotations

import copy
import os
import weakref
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Final

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from trackway.core._guard import guard, note
from trackway.core._settings import process_rank
from trackway.core.records import record_model
from trackway.core.run import Run
from trackway.errors import ArgumentError
from trackway.integrations._base import RunHandle, named
from trackway.integrations.pytorch._model import Names, about_model, about_optimizer
from trackway.integrations.pytorch._schedule import Schedule
from trackway.integrations.pytorch._track import Track

__all__ = ["Watch", "watches"]

_LOGS: Final = ("gradients", "parameters", "all", None)
_UNKNOWN: Final = object()
_LAST_WAIT_S: Final = 2.0
_LAZY: Final = {"xla", "lazy"}


class _Met:
    """What a run has watched so far: the numbers given, and the last track of each optimizer."""

    def __init__(self) -> None:
        self.numbers: dict[tuple[str, str], int] = {}
        self.tracks: weakref.WeakKeyDictionary[Optimizer, Track] = weakref.WeakKeyDictionary()

    def number(self, what: str, prefix: str) -> int:
        """How many of these there were before, and one more from now on."""
        found = self.numbers.get((what, prefix), 0)
        self.numbers[what, prefix] = found + 1
        return found


_met: weakref.WeakKeyDictionary[Run, _Met] = weakref.WeakKeyDictionary()


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
    ) -> None:
        if log not in _LOGS:
            raise ArgumentError(f"log={log!r}: it is 'gradients', 'parameters', 'all' or None")
        if type(budget) not in (int, float) or not 0 < budget <= 1:
            raise ArgumentError(f"budget={budget!r}: it is a share of time, such as 0.01")
        if not models and not optimizers:
            raise ArgumentError("models=None: pass the model that is trained")
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
        self._handles: list[Any] = []
        self._process = os.getpid()

    # -- beginning and end -----------------------------------------------------------------

    def _begin(self) -> None:
        handle = self._handle
        handle.ensure()
        run = handle.run
        if run is None or _silent(run):
            return
        for each in list(watches.get(run, ())):
            if each._same(self):
                each.close()
        watches.setdefault(run, []).append(self)
        run._before_end.append(self._arrive)
        met = _met.setdefault(run, _Met())
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
        after, before = _hook(self._stepped), _hook(self._steps)
        moves = self.settings["update_ratio"] and self.settings["log"] is not None
        given = [optimizer for ref in self._given if (optimizer := ref()) is not None]
        for optimizer in given:
            self._handles.append(optimizer.register_step_post_hook(after))
            if moves:
                self._handles.append(optimizer.register_step_pre_hook(before))
        if not given:
            self._handles.append(register_optimizer_step_post_hook(after))
            if moves:
                self._handles.append(register_optimizer_step_pre_hook(before))

    def close(self, error: BaseException | None = None) -> None:
        """Stop watching; a run that was opened for it is finished, as failed if there is an error.

        A second call does nothing.
        """
        with guard("watch"):
            self._disarm()
            self._arrive()
            run = self._handle.run
            if run is not None and self in watches.get(run, ()):
                watches[run].remove(self)
                run._before_end.remove(self._arrive)
            self._handle.end(error)

    def _arrive(self) -> None:
        """Record what is on its way, before it is too late."""
        if os.getpid() == self._process:
            for track in self._live():
                track.harvest(_LAST_WAIT_S)

    def _disarm(self) -> None:
        handles, self._handles = self._handles, []
        for handle in handles:
            handle.remove()
        for track in self._live():
            track.forget()

    def watches(self, optimizer: Optimizer) -> bool:
        """Whether it watches this optimizer, or will once that makes a step."""
        if not self._handles:
            return False
        if self._given:
            return any(ref() is optimizer for ref in self._given)
        return bool(self._names.held(optimizer))

    def _live(self) -> list[Track]:
        return [track for track in self._tracks.values() if track is not None]

    def _same(self, other: Watch) -> bool:
        """Whether it watches one of the models with one of the optimizers that the other does."""
        models = {model for _, model in self._names.alive()}
        mine, others = {r() for r in self._given}, {r() for r in other._given}
        return (
            self._handle.prefix == other._handle.prefix
            and (bool(models & {m for _, m in other._names.alive()}))
            and (not mine or not others or bool(mine & others))
        )

    # -- the hooks -------------------------------------------------------------------------

    def _steps(self, optimizer: Optimizer) -> None:
        """A step is about to be made."""
        track: Any = self._tracks.get(optimizer, _UNKNOWN)
        if track is _UNKNOWN:
            track = self._meet(optimizer)
        if isinstance(track, Track) and track.steps + 1 >= track.schedule.next_ratio:
            with guard("watch"):
                track.before(optimizer)

    def _stepped(self, optimizer: Optimizer) -> None:
        """A step was made."""
        track: Any = self._tracks.get(optimizer, _UNKNOWN)
        if track is _UNKNOWN:
            track = self._meet(optimizer)
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

    def _wanted(self) -> bool:
        """Whether there still is a run to record into, and this process is one that records."""
        run = self._handle.run
        if run is None or run._finished:
            self._disarm()
            return False
        if os.getpid() != self._process:
            self._process = os.getpid()
            if _silent(run):
                self._disarm()
                return False
        return True

    def _meet(self, optimizer: Optimizer) -> Track | None:
        """An optimizer not seen before: it is watched if it holds a parameter of the models."""
        self._tracks[optimizer] = None
        with guard("watch"):
            run = self._handle.run
            if run is None or _silent(run):
                return None
            self._names.learn()
            held = self._names.held(optimizer)
            if _off(optimizer):
                return None
            if held or any(ref() is optimizer for ref in self._given):
                track = self._tracks[optimizer] = self._track(run, optimizer, held)
                track.adapted = self._configure
                track.sharing = lambda: max(1, len(self._live()))
                self._describe(optimizer, track)
                if not self._given:
                    self._configure()
        return self._tracks[optimizer]

    def _track(self, run: Run, optimizer: Optimizer, held: list[str]) -> Track:
        met = _met.setdefault(run, _Met())
        former = met.tracks.get(optimizer)
        alone = held[0] if len(held) == 1 and self._names.trainable() > 1 else ""
        label = "" if former is None else former.label
        if former is None and not alone:
            number = met.number("optimizer", self._handle.prefix)
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
        if former is not None:
            track.steps = former.steps
        met.tracks[optimizer] = track
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
        name = track.label or "optimizer"
        if not track.alone:
            self._state(name, about_optimizer(optimizer))
        elif sum(t.alone != "" for t in self._live()) == 1:
            about = {**about_optimizer(optimizer), "per_parameter": True}
            self._state(name, about)

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
        if self._handle.run is None:
            return
        tree: Any = self._handle.run.config
        path = [*(part for part in self._handle.prefix.split("/") if part), "pytorch", name]
        while len(path) > 1 and isinstance(tree.get(path[0]), Mapping):
            tree = tree[path.pop(0)]
        for part in reversed(path[1:]):
            value = {part: value}
        tree[path[0]] = copy.deepcopy(value)

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

    def __reduce__(self) -> tuple[Callable[..., _Copied], tuple[dict[str, Any]]]:
        """A copy watches nothing: whatever holds one can be pickled and copied."""
        return _Copied, (dict(self.settings),)


class _Copied:
    """What remains of a ``Watch`` in a copy."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings

    def close(self) -> None:
        """Do nothing."""


def _silent(run: Run) -> bool:
    """Whether this process records nothing: it is not rank zero."""
    return run.disabled or (process_rank() > 0 and not run._settings.all_ranks)


def _off(optimizer: Optimizer) -> bool:
    """Whether its parameters are computed when they are looked at: that would cut the graph."""
    types = {p.device.type for group in optimizer.param_groups for p in group["params"]}
    found = sorted(types & _LAZY)
    if found:
        note("watch", found[0], f"models on {found[0]} devices are not watched.")
    return bool(found)


def _hook(call: Callable[[Optimizer], None]) -> Callable[[Optimizer, Any, Any], None]:
    """The hook. Where a step is compiled it stays outside; elsewhere that costs nothing."""
    outside = torch.compiler.disable(call)

    def hook(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if torch.compiler.is_compiling():
            outside(optimizer)
        else:
            call(optimizer)

    if torch.__version__ < "2.6":  # after a graph break, older ones compile what is called here

        def always(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
            outside(optimizer)

        return always
    return hook


watches: weakref.WeakKeyDictionary[Run, list[Watch]] = weakref.WeakKeyDictionary()
"""What watches for each run."""
