"""What ``autolog`` records of one optimizer in one run: names, steps, rates, norms."""

from __future__ import annotations

from time import perf_counter
from typing import Any, Final

import torch
from torch import Tensor

from trackway.integrations._base import named
from trackway.integrations.pytorch._model import rates
from trackway.integrations.pytorch._read import norms, placed, prepare
from trackway.integrations.pytorch._schedule import Schedule

__all__ = ["Series", "Value", "steps_made"]

_BUDGET: Final = 0.01

Value = float | Tensor


class Series:
    """One optimizer's rows in one run.

    Args:
        start: The names of its metrics begin with this; None where they are not recorded.
        steps: The steps made before.
    """

    __slots__ = ("last", "names", "schedule", "start", "steps", "timed")

    def __init__(self, start: str | None, steps: int) -> None:
        self.start = start
        self.names = tuple(f"{start}{name}" for name in ("loss", "step_s", "lr"))
        self.steps = steps
        self.last: float | None = None
        self.timed: tuple[int, float] = (0, 0.0)
        self.schedule = Schedule(("norms",), None, _BUDGET)

    def row(
        self,
        optimizer: torch.optim.Optimizer,
        loss: Value | None,
        now: float,
        *,
        every: int,
        watched: bool,
    ) -> dict[str, object]:
        """What is recorded of a step that was made just now."""
        self.steps += 1
        last, self.last = self.last, now
        row: dict[str, object] = {}
        if self.start is None:
            return row
        due = self.steps % every == 0
        if due and loss is not None:
            row[self.names[0]] = loss
        if due and last is not None:
            row[self.names[1]] = now - last
        if due and not watched:
            self._rate(optimizer, row)
        if not watched and self.steps >= self.schedule.next:
            self._measure(optimizer, row, now)
        return row

    def _rate(self, optimizer: torch.optim.Optimizer, row: dict[str, object]) -> None:
        groups = optimizer.param_groups
        if len(groups) == 1 and type(groups[0]["lr"]) is float:
            row[self.names[2]] = groups[0]["lr"]
        else:
            row.update(named(rates(optimizer), self.start or ""))

    def _measure(
        self, optimizer: torch.optim.Optimizer, row: dict[str, object], now: float
    ) -> None:
        steps, time = self.timed
        if steps:
            made = self.steps - steps
            self.schedule.took((now - time) / made, made)
        if "norms" in self.schedule.due(self.steps):
            norm = _norm(optimizer)
            if norm is not None:
                row[f"{self.start}gradients/norm"] = norm
            self.schedule.cost("norms", perf_counter() - now)
            self.schedule.passed(self.steps, {"norms"})
            self.schedule.adapt()
        # From here on: what reading took does not count for the steps that it is to be a share of.
        self.timed = (self.steps, perf_counter())


def steps_made(optimizer: torch.optim.Optimizer) -> int:
    """The steps that the optimizer itself has counted, in an earlier process too; 0 if it has not.

    Asked once for each optimizer, as the count may be on a device.
    """
    most = 0
    capturing = torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()
    for state in optimizer.state.values():
        step = state.get("step") if isinstance(state, dict) else None
        if isinstance(step, Tensor):
            if step.is_cpu:
                most = max(most, int(step.item()))
            elif step.is_meta or capturing or most:  # one on a device is enough
                continue
            else:
                most = int(step.item())
        elif isinstance(step, int):
            most = max(most, step)
    return most


def _norm(optimizer: torch.optim.Optimizer) -> Value | None:
    """The norm of all gradients together; None where there are none, or only a part is here."""
    flats = []
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.grad is None:
                continue
            found = prepare(parameter.grad)
            if found is None or placed(parameter)[0] or _is_part(parameter):
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


def _is_part(parameter: Any) -> bool:
    """Whether the older FSDP has made it, of whose parameters each rank holds a part."""
    if not getattr(parameter, "_fsdp_flattened", False):
        return False
    return torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1
