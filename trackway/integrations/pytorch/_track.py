"""One optimizer that is watched: its steps, when it is read, and what is recorded of it."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable
from time import perf_counter
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from trackway.core._guard import note
from trackway.core.records import record_histograms
from trackway.integrations._base import RunHandle, named
from trackway.integrations.pytorch import _rows
from trackway.integrations.pytorch._model import Known, Names, rates
from trackway.integrations.pytorch._read import (
    Entry,
    Packet,
    Ratios,
    Results,
    local,
    measure,
    placed,
    prepare,
)
from trackway.integrations.pytorch._schedule import Schedule

__all__ = ["Track"]

_UNDER_WAY: Final = 2
"""Readings that may be on their way from a device; a further one is left out, and counted."""


class _Reading(NamedTuple):
    """What was read at a step, and may still be on its way."""

    step: int
    due: set[str]
    row: dict[str, Any]
    groups: list[tuple[list[Entry], list[Entry]]]
    packets: list[Packet]
    skips: Packet | None


class Track:
    """One optimizer.

    Args:
        optimizer: It; held weakly.
        names: The names of the models' parameters.
        handle: The run.
        schedule: When what is read.
        label: How the names of its metrics begin, where it is not the run's first.
        alone: The name of the only parameter it holds out of many.
        gradients: Whether gradients are read, not learning rates and the like alone.
        rows: Whether metrics are recorded, not histograms alone.

    Attributes:
        steps: How many steps it has made, those that a fused optimizer skipped included.
        left_out: Readings left out because earlier ones were still on their way.
        adapted: Called when intervals have changed.
        sharing: How many optimizers share the budget.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        names: Names,
        handle: RunHandle,
        schedule: Schedule,
        *,
        label: str,
        alone: str,
        gradients: bool,
        rows: bool,
    ) -> None:
        self.optimizer = weakref.ref(optimizer)
        self.names = names
        self.handle = handle
        self.schedule = schedule
        self.label = label
        self.alone = alone
        self.gradients = gradients
        self.rows = rows
        self.steps = 0
        self.left_out = 0
        self.ratios = Ratios()
        self.adapted: Callable[[], None] = lambda: None
        self.sharing: Callable[[], int] = lambda: 1
        self._pending: deque[_Reading] = deque()
        self._skipped: Tensor | None = None
        self._skipping: Tensor | None = None
        self._last: tuple[int, float] | None = None
        self._own = 0.0
        self._laps: dict[str, float] = {}
        self._told = False
        self._sharded_outside = names.sharded()

    # -- what the hooks call ---------------------------------------------------------------

    def before(self, optimizer: torch.optim.Optimizer) -> None:
        """The step about to be made is one whose update is measured."""
        began = perf_counter()
        self.ratios.forget_values()
        if not _capturing():
            with torch.no_grad():
                stride = self.ratios.stride
                self.ratios.before([parameter for parameter, _ in self._watched(optimizer)])
            if self.ratios.stride != stride:
                self.adapted()
        self._laps["ratios"] = perf_counter() - began
        self._own += self._laps["ratios"]

    def after(self, optimizer: torch.optim.Optimizer) -> None:
        """A step was made, and something is due."""
        began = perf_counter()
        if _capturing():
            self.steps -= 1
            return
        self.harvest()
        due = self.schedule.due(self.steps)
        try:
            if due:
                self._do(optimizer, due)
        finally:
            self.schedule.passed(self.steps, due)
        if due and self.schedule.adapt(self.sharing()):
            self.adapted()
        if self._pending:
            self.schedule.next = self.steps + 1
        self._own += perf_counter() - began

    def skips(self, found: Tensor) -> None:
        """The optimizer was told to skip this step if this is not zero: counted where it is."""
        with torch.no_grad():
            self._skipping = (found.detach() != 0).reshape(1).to(torch.int32)
            if self._skipped is None:
                self._skipped = torch.zeros_like(self._skipping)
            self._skipped += self._skipping

    def harvest(self, wait_s: float = 0.0) -> None:
        """Record what has arrived.

        Args:
            wait_s: How long to wait for what is on its way.
        """
        deadline = perf_counter() + wait_s
        while self._pending:
            reading = self._pending[0]
            packets = reading.packets + ([reading.skips] if reading.skips is not None else [])
            self._pending.popleft()  # one that fails is not tried again
            while not all(packet.ready() for packet in packets):
                if perf_counter() >= deadline:
                    self._pending.appendleft(reading)
                    return
            self._record(reading)

    # -- reading ---------------------------------------------------------------------------

    def _do(self, optimizer: torch.optim.Optimizer, due: set[str]) -> None:
        """Read what is due; what lies on the host is recorded at once."""
        if len(self._pending) >= _UNDER_WAY:
            self.left_out += 1
            return
        row = self._row(optimizer) if "norms" in due else {}
        with torch.no_grad():
            self._pending.append(self._read(optimizer, due, row))
        self.harvest()
        for kind, seconds in self._laps.items():
            self.schedule.cost(kind, seconds)
        self._laps = {}

    def _watched(self, optimizer: torch.optim.Optimizer) -> list[tuple[Tensor, Known]]:
        """The optimizer's parameters that have a name, in the order of the model."""
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        found = [(p, self.names.of(p)) for p in parameters]
        if any(known is None for _, known in found):
            self.names.learn()
            found = [(p, self.names.of(p)) for p in parameters]
        known = [(p, place) for p, place in found if place is not None]
        return sorted(known, key=lambda item: item[1].order)

    def _entries(self, optimizer: torch.optim.Optimizer) -> list[list[Entry]]:
        """What can be read, a list for each device; equal types beside each other."""
        groups: dict[torch.device, list[Entry]] = {}
        for parameter, known in self._watched(optimizer):
            prepared = None if parameter.grad is None else prepare(parameter.grad)
            if prepared is None:
                continue
            sharded, counted = placed(parameter)
            entry = Entry(
                id(parameter),
                known.order,
                known.name,
                local(parameter),
                *prepared,
                sharded or self._sharded_outside,
                counted,
            )
            groups.setdefault(entry.values.device, []).append(entry)
        return [sorted(group, key=lambda e: str(e.values.dtype)) for group in groups.values()]

    def _read(
        self, optimizer: torch.optim.Optimizer, due: set[str], row: dict[str, Any]
    ) -> _Reading:
        clock = perf_counter()

        def lap(kind: str) -> None:
            nonlocal clock
            now = perf_counter()
            self._laps[kind] = self._laps.get(kind, 0.0) + now - clock
            clock = now

        wanted = due if self.gradients else due - {"norms", "histograms"}
        groups, packets = [], []
        for entries in self._entries(optimizer) if wanted else []:
            device = entries[0].values.device
            results = measure(entries, wanted, lap)
            moving = [entry for entry in entries if self.ratios.has(entry.key)]
            if "ratios" in due and moving:
                results.tensors["moved"] = self.ratios.after(moving)
                lap("ratios")
            groups.append((entries, moving))
            packets.append(Packet(device, results))
        skips = None
        if self._skipped is not None and self._skipping is not None:
            both = torch.cat([self._skipped, self._skipping])
            skips = Packet(both.device, Results({"skips": both}, {}))
            self._skipping = None
        return _Reading(self.steps, due, row, groups, packets, skips)

    def _row(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """What is known without reading a tensor: learning rates, steps a second."""
        row: dict[str, Any] = dict(rates(optimizer, self.alone))
        now = perf_counter()
        if self._last is not None:
            steps, then = self._last
            seconds = max(now - then, 1e-9)
            row["steps_per_s"] = (self.steps - steps) / seconds
            self.schedule.took(max(seconds - self._own, 1e-9) / (self.steps - steps))
        self._last, self._own = (self.steps, now), 0.0
        if self.alone:
            row.pop("steps_per_s", None)
        return row

    # -- recording -------------------------------------------------------------------------

    def _record(self, reading: _Reading) -> None:
        began = perf_counter()
        arrays = [packet.arrays() for packet in reading.packets]
        row = dict(reading.row)
        skipping = False
        if reading.skips is not None:
            skipped, now = reading.skips.arrays()["skips"].tolist()
            row["skipped_steps"], skipping = skipped, bool(now)
        found = _rows.founds(
            (entries, moving, results)
            for (entries, moving), results in zip(reading.groups, arrays, strict=True)
        )
        row.update(_rows.metrics(found, bool(self.alone)))
        if self.rows and row:
            self.handle.log(named(row, self.label), step=reading.step)
        if not skipping and not self._told:
            self._say_first_bad(found, reading.step)
        self._laps["norms"] = self._laps.get("norms", 0.0) + perf_counter() - began
        for kind, of in (("histograms", "gradients"), ("parameters", "parameters")):
            if kind in reading.due:
                began = perf_counter()
                self._record_histograms(reading, arrays, of)
                self._laps[kind] = self._laps.get(kind, 0.0) + perf_counter() - began

    def _record_histograms(self, reading: _Reading, arrays: list[_rows.Arrays], of: str) -> None:
        run = self.handle.run
        pairs = [(e, found) for (e, _), found in zip(reading.groups, arrays, strict=True)]
        for sharded, data in _rows.histograms(pairs, of).items():
            if run is not None and data and (sharded or self.rows):
                data = named(named(data, self.label), self.handle.prefix)
                record_histograms(run, data, of=of, step=reading.step, sharded=sharded)

    def _say_first_bad(self, found: list[_rows.Found], step: int) -> None:
        name = _rows.first_bad(found)
        if name is None:
            return
        self._told = True
        first = {"parameter": name, "step": step}
        self.handle.summarize(named({"gradients/first_nonfinite": first}, self.label))
        note(
            "watch",
            f"{self.label}nonfinite {id(self)}",
            f"the gradient of {name} is not finite at step {step}; "
            "the summary says where it began.",
        )


def _capturing() -> bool:
    """Whether a CUDA graph is being captured: nothing may be done then."""
    return torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()
