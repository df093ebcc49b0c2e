"""What ``autolog`` knows of hand-written loops: the optimizers, their losses, their run."""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping
from time import perf_counter
from typing import Any, Final
from weakref import ref

import torch
from torch import Tensor

from trackway.core import current
from trackway.core._guard import note
from trackway.core.run import Run
from trackway.integrations._base import RunHandle, named, training_under_way
from trackway.integrations.pytorch._model import about_optimizer, rates
from trackway.integrations.pytorch._read import norms, placed, prepare
from trackway.integrations.pytorch._schedule import Schedule

__all__ = ["Loops"]

_LOOKED_AT: Final = 4
"""Parameters of each optimizer by which is seen whether a backward has reached it."""

_MOST: Final = 16
"""Optimizers of one run that are recorded."""

_BUDGET: Final = 0.01

_UNSCALED: Final = "_trackway_unscaled"
_HOOKS: Final = "trackway.integrations.pytorch._hooks"

Marks = list[tuple[int, int] | None]
Value = float | Tensor


class _Optimizer:
    """One optimizer: its steps, and the loss whose gradient its next step uses."""

    __slots__ = (
        "label",
        "last",
        "loss",
        "marks",
        "names",
        "run",
        "schedule",
        "some",
        "steps",
        "timed",
    )

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.steps = 0
        self.loss: Value | None = None
        self.marks: Marks = []
        self.last: float | None = None
        self.timed: tuple[int, float] = (0, 0.0)
        self.run: Run | None = None
        self.name("")
        self.schedule = Schedule(("norms",), None, _BUDGET)
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        some = [p for p in parameters if p.requires_grad]
        stride = max(1, len(some) // (_LOOKED_AT - 1))
        self.some = [ref(parameter) for parameter in some[::stride][:_LOOKED_AT]]

    def name(self, label: str) -> None:
        """The names of its metrics begin with this from now on."""
        self.label = label
        self.names = tuple(label + name for name in ("loss", "step_s", "lr"))

    def look(self) -> Marks:
        """By what is seen whether gradients have changed."""
        found: Marks = []
        for reference in self.some:
            parameter = reference()
            gradient = None if parameter is None else parameter.grad
            found.append(None if gradient is None else (id(gradient), gradient._version))
        return found

    def add(self, value: Value) -> None:
        """Another function's gradient was added to the gradients."""
        self.loss = value if self.loss is None else self.loss + value


class _Backward:
    """One call of ``backward`` that is under way."""

    __slots__ = ("seen", "value")

    def __init__(self, value: Value, seen: list[tuple[_Optimizer, Marks]]) -> None:
        self.value = value
        self.seen = seen


class Loops:
    """The hand-written loops of this process.

    Args:
        options: ``every`` and ``prefix``, as the explicit objects take them.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = {"every": 1, "prefix": "", **options}
        self._optimizers: dict[int, _Optimizer] = {}
        self._gone: dict[int, ref[torch.optim.Optimizer]] = {}
        self._others: Value | None = None  # since the last step, for optimizers not yet known
        self._under_way: list[_Backward] = []
        self._handle: RunHandle | None = None
        self._run: Run | None = None
        self._labels = 0
        self._scaling = False

    def known(self, optimizer: torch.optim.Optimizer) -> _Optimizer:
        """What is known of an optimizer."""
        number = id(optimizer)
        found = self._optimizers.get(number)
        if found is None:
            found = self._optimizers[number] = _Optimizer(optimizer)
            self._gone[number] = ref(optimizer, functools.partial(self._forget, number))
        return found

    def _forget(self, number: int, _: object) -> None:
        self._optimizers.pop(number, None)
        self._gone.pop(number, None)

    # -- losses ----------------------------------------------------------------------------

    def before(
        self, loss: Tensor, gradient: Tensor | None = None, *_: object, **__: object
    ) -> _Backward | None:
        """A backward begins; None where there is nothing to remember of it."""
        if training_under_way():
            return None
        value = _value(loss, gradient, scaling=self._scaling)
        if value is None:
            return None
        seen = []
        for each in tuple(self._optimizers.values()):
            marks = each.look()
            if marks != each.marks:  # cleared since the last one
                each.loss = None
            seen.append((each, marks))
        backward = _Backward(value, seen)
        self._under_way.append(backward)
        return backward

    def after(self, backward: _Backward, *, failed: bool) -> None:
        """A backward is over: which optimizers' gradients did it change?"""
        self._under_way.remove(backward)
        if failed:
            return
        reached = False
        for each, before in backward.seen:
            each.marks = each.look()
            if each.marks != before:
                each.add(backward.value)
                reached = True
        if not reached:
            others = self._others
            self._others = backward.value if others is None else others + backward.value

    def scaled(self, losses: Any, results: Any) -> None:
        """A ``GradScaler`` made these of those."""
        self._scaling = True
        if isinstance(losses, Tensor) and isinstance(results, Tensor):
            value = _value(losses, None, scaling=True) if results is not losses else None
            if value is not None:
                results.__dict__[_UNSCALED] = value
        elif isinstance(losses, (list, tuple)):
            for loss, result in zip(losses, results, strict=True):
                self.scaled(loss, result)

    def _loss(self, each: _Optimizer) -> Value | None:
        """The function whose gradient the step that was just made has used."""
        loss, each.loss = each.loss, None
        others, self._others = self._others, None
        if self._under_way and loss is None:  # the step is made inside of backward
            return self._under_way[-1].value
        return others if loss is None else loss

    # -- steps -----------------------------------------------------------------------------

    def stepped(self, optimizer: torch.optim.Optimizer) -> None:
        """An optimizer made a step."""
        now = perf_counter()
        each = self._optimizers.get(id(optimizer)) or self.known(optimizer)
        each.steps += 1
        loss = self._loss(each)
        last, each.last = each.last, now
        if training_under_way():
            return
        handle = self._joined()
        if handle is None:
            return
        if each.run is not self._run:
            self._name(handle, each, optimizer)
        if each.label != "-":
            self._record(handle, each, optimizer, loss, last, now)

    def _record(
        self,
        handle: RunHandle,
        each: _Optimizer,
        optimizer: torch.optim.Optimizer,
        loss: Value | None,
        last: float | None,
        now: float,
    ) -> None:
        step = each.steps
        row: dict[str, object] = {}
        due = step % handle.every == 0
        if due:
            if loss is not None:
                row[each.names[0]] = loss
            if last is not None:
                row[each.names[1]] = now - last
        if _HOOKS not in sys.modules or not _is_watched(optimizer):
            if due:
                _rate(each, optimizer, row)
            if step >= each.schedule.next:
                _measure(each, optimizer, row, now)
        if row:
            handle.log(row, step)

    def _joined(self) -> RunHandle | None:
        """The run that is current, else one of our own, which ends with the program."""
        runs = current._open
        if self._run is None or not runs or runs[-1] is not self._run:
            self._handle = RunHandle("pytorch", **self._options)
            self._handle.ensure()
            self._run = self._handle.run
            self._labels = 0
        return self._handle if self._run is not None and not self._run.disabled else None

    def _name(self, handle: RunHandle, each: _Optimizer, optimizer: torch.optim.Optimizer) -> None:
        """Give an optimizer that is new in this run its names; ``-`` where there are too many."""
        each.run = handle.run
        each.name(f"optimizer{self._labels}/" if self._labels else "")
        self._labels += 1
        if self._labels > _MOST:
            each.name("-")
            told = f"more than {_MOST} optimizers: the loops of the others are not recorded."
            note("pytorch", "optimizers", told)
        elif not _is_watched(optimizer):
            name = each.label.rstrip("/") or "optimizer"
            _configure(handle, name, about_optimizer(optimizer))


def _rate(each: _Optimizer, optimizer: torch.optim.Optimizer, row: dict[str, object]) -> None:
    groups = optimizer.param_groups
    if len(groups) == 1 and type(groups[0]["lr"]) is float:
        row[each.names[2]] = groups[0]["lr"]
    else:
        row.update(named(rates(optimizer), each.label))


def _measure(
    each: _Optimizer, optimizer: torch.optim.Optimizer, row: dict[str, object], now: float
) -> None:
    steps, time = each.timed
    if steps:
        made = each.steps - steps
        each.schedule.took((now - time) / made, made)
    if "norms" in each.schedule.due(each.steps):
        norm = _norm(optimizer)
        if norm is not None:
            row[each.label + "gradients/norm"] = norm
        each.schedule.cost("norms", perf_counter() - now)
        each.schedule.passed(each.steps, {"norms"})
        each.schedule.adapt()
    # From here on: what reading took does not count for the steps that it is to be a share of.
    each.timed = (each.steps, perf_counter())


def _configure(handle: RunHandle, name: str, about: dict[str, Any]) -> None:
    """Record one entry under ``pytorch``, and leave the others."""
    assert handle.run is not None
    tree: Any = handle.run.config
    for part in [part for part in handle.prefix.split("/") if part] + ["pytorch"]:
        if not isinstance(tree.get(part), Mapping):
            tree[part] = {}
        tree = tree[part]
    tree[name] = about


def _value(loss: object, gradient: object, *, scaling: bool) -> Value | None:
    """The scalar that ``backward`` is called on, without its graph; None if it is none.

    On the host it is read; on a device it is copied there, as its memory may be used again.
    """
    if type(loss) is not Tensor or loss.numel() != 1:
        return None
    kept: Value | None = loss.__dict__.get(_UNSCALED) if scaling else None
    if kept is None and loss.is_cpu:
        kept = loss.item()
    elif kept is None and not loss.is_meta:
        kept = loss.detach().clone()
    if kept is None or isinstance(kept, complex):
        return None
    if type(gradient) is Tensor and gradient.numel() == 1:
        with torch.no_grad():
            factor = gradient.item() if gradient.device.type == "cpu" else gradient.detach()
            return kept * factor
    return kept


def _norm(optimizer: torch.optim.Optimizer) -> Value | None:
    """The norm of all gradients together; None where there are none, or only a part is here."""
    flats = []
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.grad is None:
                continue
            found = prepare(parameter.grad)
            if found is None or placed(parameter)[0]:
                return None
            flats.append(found[0])
    if not flats:
        return None
    with torch.no_grad():
        groups: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
        for flat in flats:
            groups.setdefault((flat.device, flat.dtype), []).append(flat)
        parts = [torch.linalg.vector_norm(norms(group)) for group in groups.values()]
        first = parts[0].device
        whole = torch.stack([part.to(first, non_blocking=True) for part in parts])
        norm = torch.linalg.vector_norm(whole)
    return float(norm) if norm.is_cpu else norm


def _is_watched(optimizer: torch.optim.Optimizer) -> bool:
    """Whether ``watch`` records this optimizer already."""
    hooks = sys.modules.get(_HOOKS)
    asked = getattr(hooks, "is_watched", None)
    return bool(asked(optimizer)) if asked is not None else False
