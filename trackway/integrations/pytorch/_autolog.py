"""``autolog`` for a training loop that was written by hand.

The points, none of them on the user's objects: the global hook behind every optimizer's step,
``Optimizer.__init__`` (to know an optimizer before its first step), ``Tensor.backward``, the two
``zero_grad`` (gradients that are cleared in their place), ``GradScaler.scale``, and the start of a
process of ``multiprocessing``. Which losses belong to a step is said in ``_losses``.
While a framework trains whose integration records, all of this is silent.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
from collections.abc import Callable
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet

from trackway.core import current
from trackway.core._guard import attempt, guard
from trackway.integrations._patch import Call, Patches

if TYPE_CHECKING:
    from trackway.core.run import Run
    from trackway.integrations.pytorch._loop import Loops

__all__ = ["INHERITED", "OPTIONS", "inherited", "patch"]

OPTIONS: frozenset[str] = frozenset({"every", "prefix"})

INHERITED: Final = "trackway_run_open"
"""In the configuration of a process of ``multiprocessing``: its parent had a run open."""

inherited: WeakSet[Run] = WeakSet()
"""Runs that were open in the process from which this one was forked."""

_SCALER: Final = "torch.amp.grad_scaler"
_PLACES: Final = {
    "scale": (_SCALER, "GradScaler"),
    "zero_grad": ("torch.nn.modules.module", "Module"),
    "start": ("multiprocessing.process", "BaseProcess"),
}
"""What may be loaded after the optimizers: the method, its module and class."""


def _after_fork() -> None:
    inherited.update(current._open)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def patch(patches: Patches, module: ModuleType) -> None:
    """Hook into the optimizers and into ``backward``; ``module`` is ``torch.optim.optimizer``."""
    points = _Points(patches)
    step = attempt(patches.name, points.stepped)

    def stepped(optimizer: Any, args: object, kwargs: object) -> None:
        if patches.enabled:
            step(optimizer)

    register: Any = module.register_optimizer_step_post_hook
    handle = register(_uncompiled(stepped))
    patches.registered("torch.optim.optimizer.register_optimizer_step_post_hook", handle.remove)
    optimizer: Any = module.Optimizer
    patches.wrap(optimizer, "__init__", after=points.made)
    tensor: Any = sys.modules["torch._tensor"].Tensor
    patches.wrap(tensor, "backward", before=points.before, after=points.after, around=_uncompiled)
    patches.wrap(
        optimizer, "zero_grad", before=points.zeroing, after=points.begun_anew, around=_uncompiled
    )
    points.complete()


def _uncompiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, invisible to ``torch.compile`` where what calls it is compiled.

    The compiler is not imported for it: before somebody else has, nothing is compiled. Where it
    traces, or runs what it has compiled, it is told; elsewhere there is nothing to hide from.
    """
    disabled: Callable[..., Any] | None = None
    traced: Callable[[], object] = _always
    callback: Callable[[], object] = _always

    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        nonlocal disabled, traced, callback
        if disabled is None:
            dynamo: Any = sys.modules.get("torch._dynamo")
            with guard("pytorch"):
                disabled = getattr(dynamo, "disable", _same)(function)
                traced, callback = _questions()
            if dynamo is None or disabled is None:
                disabled = None
                return function(*args, **kwargs)
        if traced() or callback() is not None:
            return disabled(*args, **kwargs)
        return function(*args, **kwargs)

    _codes.append(getattr(called, "__code__"))  # noqa: B009 - not every callable has one
    return called


_codes: list[CodeType] = []


def _skip() -> None:
    """Have the compiler, once it is loaded, leave our wrappers as they are."""
    skip: Any = getattr(sys.modules.get("torch._dynamo.eval_frame"), "skip_code", None)
    while skip is not None and _codes:
        skip(_codes.pop())


def _questions() -> tuple[Callable[[], object], Callable[[], object]]:
    """Whether the compiler is tracing, and what it has called for each frame (None: nothing)."""
    traced: Any = getattr(sys.modules.get("torch.compiler"), "is_dynamo_compiling", None)
    frames: Any = sys.modules.get("torch._C._dynamo.eval_frame")
    callback: Any = getattr(frames, "get_eval_frame_callback", None)
    return (_always, _always) if traced is None or callback is None else (traced, callback)


def _always() -> bool:
    return True


def _same(function: Callable[..., Any]) -> Callable[..., Any]:
    return function


class _Points:
    """What is called at the points; ``Loops`` is imported once PyTorch is there as a whole."""

    def __init__(self, patches: Patches) -> None:
        self._patches = patches
        self._loops: Loops | None = None
        self._waiting = dict(_PLACES)
        self._lock = threading.Lock()  # of two threads one makes the loops

    @property
    def loops(self) -> Loops:
        if self._loops is None:
            from trackway.integrations.pytorch._loop import Loops

            with self._lock:
                made = self._loops
                if made is None:
                    made = self._loops = Loops(self._patches.options)
            return made
        return self._loops

    def complete(self) -> None:
        """Patch what may be loaded after the optimizers."""
        _skip()
        for method, (place, name) in list(self._waiting.items()):
            owner: Any = getattr(sys.modules.get(place), name, None)
            if owner is None:
                continue
            del self._waiting[method]
            if method == "scale":
                self._patches.wrap(owner, method, after=self.scaled, around=_uncompiled)
            elif method == "zero_grad":
                wrap = {"before": self.zeroing, "after": self.zeroed}
                self._patches.wrap(owner, method, around=_uncompiled, **wrap)
            else:
                self._patches.wrap(owner, method, before=self.starting)

    def made(self, call: Call) -> None:
        """An optimizer was made."""
        self.complete()
        if call.error is None:
            self.loops.known(call.args[0])

    def before(self, call: Call) -> None:
        """``backward`` is about to be called on a tensor."""
        loops = self._loops or self.loops
        call.state = loops.before(*call.args, **call.kwargs)

    def after(self, call: Call) -> None:
        """``backward`` was called."""
        if call.state is not None:
            (self._loops or self.loops).after(call.state, failed=call.error is not None)

    def scaled(self, call: Call) -> None:
        """A loss was scaled: remember what it was."""
        if call.error is None and len(call.args) > 1:
            self.loops.scaled(call.args[0], call.args[1], call.result)

    def zeroing(self, call: Call) -> None:
        """Gradients are to be cleared: those that are set to None are seen to be."""
        if self._loops is not None and not _to_none(*call.args, **call.kwargs):
            call.state = self._loops.zeroing()

    def zeroed(self, call: Call) -> None:
        """Gradients were cleared."""
        if self._loops is not None and call.state is not None:
            self._loops.zeroed(call.state)

    def begun_anew(self, call: Call) -> None:
        """An optimizer has cleared its gradients."""
        self.zeroed(call)
        if self._loops is not None:
            self._loops.begun_anew(call.args[0])

    def starting(self, call: Call) -> None:
        """A process is to be started: it is told whether a run is open here."""
        if current.open_runs():
            call.args[0]._config[INHERITED] = True

    def stepped(self, optimizer: Any) -> None:
        """An optimizer made a step."""
        (self._loops or self.loops).stepped(optimizer)


def _to_none(owner: object, set_to_none: bool = True, *_: object, **__: object) -> bool:
    return set_to_none
