"""Which optimizer is whose: what a run has watched before, and steps made inside of others."""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Callable, Collection
from typing import Any, Final

import torch
from torch import Tensor
from torch.optim import Optimizer

from trackway.core._guard import note
from trackway.core._settings import process_rank
from trackway.core.run import Run
from trackway.integrations.pytorch._track import Track

__all__ = ["MOST", "Copied", "Making", "Met", "hook", "off", "parameters_of", "silent", "steps_of"]

MOST: Final = 16
"""Optimizers of a run that have names of their own, of one prefix."""

_LAZY: Final = {"xla", "lazy"}

_STEP: Final = Optimizer.profile_hook_step(lambda *arguments: None).__code__
"""What runs around every optimizer's step, and calls the hooks."""


def parameters_of(optimizer: Optimizer) -> list[Tensor]:
    """All that it steps."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def steps_of(optimizer: Optimizer) -> int:
    """How many steps its state has seen: what was loaded, before the first one is made here.

    A count on a device is waited for. A fresh optimizer has none.
    """
    found = [s["step"] for s in optimizer.state.values() if isinstance(s, dict) and "step" in s]
    counts = [int(step) for step in found if type(step) in (int, float)]
    tensors: dict[torch.device, list[Tensor]] = {}
    for step in found:
        if type(step) is Tensor and step.numel() == 1 and not step.is_meta:
            tensors.setdefault(step.device, []).append(step.detach().reshape(()))
    for several in tensors.values():
        counts.append(int(torch.stack([step.to(torch.int64) for step in several]).max().item()))
    return max(counts, default=0)


class Met:
    """What a run has watched so far: the numbers given, and the last track of each optimizer."""

    def __init__(self) -> None:
        self.numbers: dict[tuple[str, str], int] = {}
        self._of: weakref.WeakKeyDictionary[Optimizer, Track] = weakref.WeakKeyDictionary()
        self._like: dict[tuple[str, frozenset[int]], Track] = {}
        self.replaced: weakref.WeakSet[Optimizer] = weakref.WeakSet()

    def number(self, what: str, prefix: str) -> int:
        """How many of these there were before, and one more from now on."""
        found = self.numbers.get((what, prefix), 0)
        self.numbers[what, prefix] = found + 1
        return found

    def full(self, prefix: str) -> bool:
        """Whether no further optimizer gets a name."""
        return self.numbers.get(("optimizer", prefix), 0) >= MOST

    def keep(self, prefix: str, optimizer: Optimizer, track: Track) -> None:
        """This is the optimizer's track now."""
        self._of[optimizer] = track
        self._like[prefix, frozenset(map(id, parameters_of(optimizer)))] = track

    def former(
        self, prefix: str, optimizer: Optimizer, given: Collection[Optimizer | None]
    ) -> Track | None:
        """The track that it continues: its own, or that of one with the same parameters.

        The other one is gone, or has made steps that end here, as far as is known. If it makes a
        further one after all, both train the same parameters, and it is told apart from then on.

        Args:
            prefix: What the names begin with.
            optimizer: The optimizer.
            given: Those that were named together, and thus are different ones.
        """
        own = self._of.get(optimizer)
        if own is not None or optimizer in self.replaced:
            return own
        parameters = parameters_of(optimizer)
        found = self._like.get((prefix, frozenset(map(id, parameters))))
        if found is None or not found.of(parameters):
            return None
        other = found.optimizer()
        if other is None:
            return found
        return found if found.begun and other not in given else None

    def replace(self, track: Track) -> Optimizer | None:
        """Another optimizer continues the track; returns the one that it was of, if it exists."""
        other = track.optimizer()
        if other is not None:
            self._of.pop(other, None)
            self.replaced.add(other)
        return other


class Making(threading.local):
    """The steps that a thread is making: a wrapper's step is one, with that of what it wraps.

    Attributes:
        under_way: The identity of each optimizer, the outermost first; its track; and whether its
            step belongs to an outer one.
    """

    def __init__(self) -> None:
        self.under_way: list[tuple[int, Track | None, bool]] = []

    def inside(self, optimizer: Optimizer) -> bool:
        """Whether a step that is about to begin belongs to another one, of the same parameters."""
        # A step left by an exception is still listed; its frame is gone.
        frame: Any = sys._getframe()
        around = 0
        while frame is not None and around < 2:
            around += frame.f_code is _STEP
            frame = frame.f_back
        if around < 2:
            self.under_way.clear()
            return False
        keys = set(map(id, parameters_of(optimizer)))
        tracks = [track for _, track, _ in self.under_way if track is not None]
        return any(not keys.isdisjoint(track.keys) for track in tracks)

    def leaves(self, optimizer: Optimizer) -> bool:
        """A step was made; returns whether it belongs to another one."""
        while self.under_way:
            which, _, inside = self.under_way.pop()
            if which == id(optimizer):
                return inside
        return False


class Copied:
    """What remains of a ``Watch`` in a copy."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings

    def close(self) -> None:
        """Do nothing."""


# -- what is hooked, and how -------------------------------------------------------------


def silent(run: Run) -> bool:
    """Whether this process records nothing: it is not rank zero."""
    return run.disabled or (process_rank() > 0 and not run._settings.all_ranks)


def off(optimizer: Optimizer) -> bool:
    """Whether its parameters are computed when they are looked at: that would cut the graph."""
    types = {p.device.type for group in optimizer.param_groups for p in group["params"]}
    found = sorted(types & _LAZY)
    if found:
        note("watch", found[0], f"models on {found[0]} devices are not watched.")
    return bool(found)


def hook(call: Callable[[Optimizer], None]) -> Callable[[Optimizer, Any, Any], None]:
    """The hook. Where a step is compiled it stays outside; elsewhere that costs nothing."""
    outside = torch.compiler.disable(call)

    def called(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if torch.compiler.is_compiling():
            outside(optimizer)
        else:
            call(optimizer)

    if torch.__version__ < "2.6":  # after a graph break, older ones compile what is called here

        def always(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
            outside(optimizer)

        return always
    return called
