"""Which losses made the gradient that an optimizer's step has used: for one thread of the program.

Loss and gradient belong together: the scalars whose ``backward`` reached an optimizer's parameters
since these were cleared, which is seen by looking at a few of them. A gradient that another thread
writes at the same time must not be looked at: each optimizer belongs to the thread that has stepped
it last, and with every thread that begins, to nobody until it is stepped again.
"""

from __future__ import annotations

from typing import Any, Final
from weakref import WeakKeyDictionary, ref

import torch
from torch import Tensor

from trackway.core.run import Run
from trackway.integrations._base import RunHandle
from trackway.integrations.pytorch._series import Series, Value

__all__ = ["Backward", "Optimizer", "Thread", "is_cleared", "mark_scaled", "value_of"]

_LOOKED_AT: Final = 4
"""Parameters of each optimizer by which is seen whether a backward has reached it."""

_DEEP: Final = 32
"""Nodes of a loss's graph in which a scaled loss is looked for."""

_UNSCALED: Final = "_trackway_unscaled"
_SCALED: Final = "trackway_scaled"

Marks = list[tuple[int, int] | None]


class Optimizer:
    """One optimizer, and the loss whose gradient its next step uses.

    Attributes:
        loss: The sum of the losses that have reached its parameters.
        marks: What its gradients looked like at last.
        thread: Whose it is.
        sure: Whether it was stepped by that thread since the last one began.
        shared: Whether several threads have stepped it: then it is nobody's.
        series: What is recorded of it, for each run.
    """

    __slots__ = ("loss", "marks", "series", "shared", "some", "sure", "thread")

    def __init__(self, optimizer: torch.optim.Optimizer, thread: Thread | None) -> None:
        self.loss: Value | None = None
        self.marks: Marks = []
        self.thread = thread
        self.sure = False
        self.shared = False
        self.series: WeakKeyDictionary[Run, Series] = WeakKeyDictionary()
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        some = [p for p in parameters if p.requires_grad]
        stride = max(1, len(some) // (_LOOKED_AT - 1))
        self.some = [ref(parameter) for parameter in some[::stride][:_LOOKED_AT]]

    def look(self) -> Marks:
        """By what is seen whether gradients have changed."""
        found: Marks = []
        for reference in self.some:
            parameter = reference()
            gradient = None if parameter is None else parameter.grad
            if gradient is None:
                found.append(None)
            elif type(gradient) is Tensor:
                found.append((id(gradient), gradient._version))
            else:  # a DTensor is not told of what is added to its part
                part: Any = getattr(gradient, "_local_tensor", gradient)
                found.append((id(gradient), part._version))
        return found

    def add(self, value: Value) -> None:
        """Another function's gradient was added to the gradients."""
        self.loss = value if self.loss is None else self.loss + value

    def shares(self, other: Optimizer) -> bool:
        """Whether the two hold some of the same parameters."""
        mine = {id(reference()) for reference in self.some}
        return any(reference() is not None and id(reference()) in mine for reference in other.some)


def is_cleared(before: Marks, now: Marks) -> bool:
    """Whether there are other gradients now than before: what is only changed in place is not."""
    return any(
        old is not None and (new is None or new[0] != old[0])
        for old, new in zip(before, now, strict=False)
    )


class Backward:
    """One call of ``backward`` that is under way."""

    __slots__ = ("seen", "value")

    def __init__(self, value: Value, seen: list[tuple[Optimizer, Marks]]) -> None:
        self.value = value
        self.seen = seen


class Thread:
    """What is known in one thread.

    Attributes:
        bound: The optimizers that it has made or stepped.
        others: What reached none of these since the last step.
        recent: All losses since the last step.
        under_way: The calls of ``backward``, one in the other.
        began: Whether it has called ``backward`` at all.
        foreign: Whether Python has not started it, but PyTorch: for what happens in a backward.
        scaler: The ``GradScaler`` it has used.
        pending: Whether that has scaled something since the last step.
        handle: The run it records into.
    """

    __slots__ = (
        "began",
        "bound",
        "foreign",
        "handle",
        "others",
        "pending",
        "recent",
        "scaler",
        "under_way",
    )

    def __init__(self, *, foreign: bool) -> None:
        self.bound: dict[int, Optimizer] = {}
        self.others: Value | None = None
        self.recent: Value | None = None
        self.under_way: list[Backward] = []
        self.began = False
        self.foreign = foreign
        self.scaler: ref[Any] | None = None
        self.pending = False
        self.handle: RunHandle | None = None

    def reached(self, backward: Backward, *, some: bool) -> None:
        """A backward is over; ``some``: it reached an optimizer that is known."""
        value = backward.value
        self.recent = value if self.recent is None else self.recent + value
        if not some:
            self.others = value if self.others is None else self.others + value

    def taken(self, each: Optimizer, *, looked: bool) -> Value | None:
        """The function whose gradient the step that was just made has used.

        Args:
            each: The optimizer.
            looked: Whether its gradients were looked at; else it is all since the last step.
        """
        loss, each.loss = each.loss, None
        others, self.others = self.others, None
        recent, self.recent = self.recent, None
        self.pending = False
        if not looked:
            loss = others = recent
        if self.under_way and loss is None:  # the step is made inside of backward
            return self.under_way[-1].value
        return others if loss is None else loss


# -- values --------------------------------------------------------------------------------


def value_of(loss: object, gradient: object, thread: Thread) -> Value | None:
    """The scalar that ``backward`` is called on, without its graph; None if it is none.

    On the host it is read; on a device it is copied there, as its memory may be used again. What a
    ``GradScaler`` has multiplied is divided again; where it is not known by what, it is None.
    """
    if type(loss) is not Tensor or loss.numel() != 1 or loss.is_meta:
        return None
    kept: Value | None = loss.__dict__.get(_UNSCALED) if thread.scaler is not None else None
    if kept is None:
        kept = _plain(loss)
        if thread.scaler is not None and kept is not None:
            kept = _unscaled(kept, loss, thread)
    if kept is None or isinstance(kept, complex):
        return None
    if type(gradient) is Tensor and gradient.numel() == 1:
        with torch.no_grad():
            return kept * (gradient.item() if gradient.is_cpu else gradient.detach())
    return kept


def _plain(loss: Tensor) -> Value:
    return loss.item() if loss.is_cpu else loss.detach().clone()


def mark_scaled(losses: Any, results: Any, scaler: Any, thread: Thread) -> None:
    """A ``GradScaler`` made these of those."""
    if isinstance(losses, Tensor) and isinstance(results, Tensor):
        if results is losses:  # it is not enabled
            return
        thread.scaler = ref(scaler)
        thread.pending = True
        node: Any = results.grad_fn
        if node is not None:
            node.metadata[_SCALED] = thread.scaler
        if type(losses) is Tensor and losses.numel() == 1 and not losses.is_meta:
            results.__dict__[_UNSCALED] = _plain(losses)
    elif isinstance(losses, (list, tuple)):
        for loss, result in zip(losses, results, strict=True):
            mark_scaled(loss, result, scaler, thread)


def _unscaled(value: Value, loss: Tensor, thread: Thread) -> Value | None:
    """The value divided by the scale, if it was made of what was scaled."""
    found = _scaler(loss)
    if found is None and thread.pending:
        found = thread.scaler
    if found is None:
        return value
    scale: Any = getattr(found(), "_scale", None)
    if not isinstance(scale, Tensor):
        return None
    with torch.no_grad():
        if scale.is_cpu and not isinstance(value, Tensor):
            return value / scale.item()
        scale = scale.detach().clone()  # it is updated in its place
        divided: Value = value / scale.to(loss.device, non_blocking=True)
        return divided


def _scaler(loss: Tensor) -> ref[Any] | None:
    """What scaled a part of which the loss was made, if that lies near the end of its graph."""
    nodes: list[Any] = [loss.grad_fn]
    for node in nodes:  # which grows meanwhile
        if node is None:
            continue
        found: ref[Any] | None = node.metadata.get(_SCALED)
        if found is not None:
            return found
        if len(nodes) < _DEEP:
            nodes += [before for before, _ in node.next_functions]
    return None
