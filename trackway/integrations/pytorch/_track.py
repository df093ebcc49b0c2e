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
from trackway.integrations.pytorch._plan import Plan
from trackway.integrations.pytorch._read import Entry, Packet, Ratios, Results, measure
from trackway.integrations.pytorch._schedule import KINDS, Schedule

__all__ = ["Track", "capturing"]

_UNDER_WAY: Final = 2
"""Readings that may be on their way from a device; a further one is left out, and counted."""

_NOTHING: Final = Plan([], False)


class _Reading(NamedTuple):
    """What was read at a step, and may still be on its way."""

    step: int
    due: set[str]
    row: dict[str, Any]
    columns: _rows.Columns
    groups: list[tuple[list[Entry], list[int]]]
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
        optimizer: The optimizer, held weakly.
        keys: The identities of its parameters.
        steps: How many steps it has made, those that a fused optimizer skipped included.
        about: What was last said of the optimizer.
        described: How often that was.
        begun: Whether ``steps`` is known: it is, from its first step here.
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
        self.names = names
        self.handle = handle
        self.schedule = schedule
        self.label = label
        self.alone = alone
        self.gradients = gradients
        self.rows = rows
        self.steps = 0
        self.begun = False
        self.about: dict[str, Any] = {}
        self.described = 0
        self.left_out = 0
        self.ratios = Ratios()
        self.adapted: Callable[[], None] = lambda: None
        self.sharing: Callable[[], int] = lambda: 1
        self._pending: deque[_Reading] = deque()
        self._skipped: Tensor | None = None
        self._skipping: Tensor | None = None
        self._last: tuple[int, float] | None = None
        self._woken: tuple[int, float] | None = None
        self._own = 0.0
        self._laps: dict[str, float] = {}
        self._plan: Plan | None = None
        self._held: list[tuple[Tensor, Known]] = []
        self._parameters: list[Tensor] = []
        self._counted = 0.0
        self._told = False
        self._finite: int | None = None
        self._sharded_outside = names.sharded()
        self._of: list[weakref.ref[Tensor]] = []
        self.optimizer: weakref.ref[torch.optim.Optimizer]
        self.renew(optimizer)

    # -- whose it is -----------------------------------------------------------------------

    def renew(self, optimizer: torch.optim.Optimizer) -> None:
        """It is this optimizer's from now on; nothing is held once that is gone."""
        me = weakref.ref(self)

        def gone(ref: weakref.ref[torch.optim.Optimizer]) -> None:
            track = me()
            if track is not None and track.optimizer is ref:
                track.forget()

        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self._of = [weakref.ref(p) for p in parameters]
        self.keys = frozenset(map(id, parameters))
        self.optimizer = weakref.ref(optimizer, gone)

    def of(self, parameters: list[Tensor]) -> bool:
        """Whether its parameters are these, and not others that have their identities by now."""
        alive = {id(p) for ref in self._of if (p := ref()) is not None}
        return alive == set(map(id, parameters)) and len(self._of) == len(parameters)

    # -- what the hooks call ---------------------------------------------------------------

    def before(self, optimizer: torch.optim.Optimizer) -> None:
        """The step about to be made is one whose update is measured."""
        began = perf_counter()
        self.ratios.forget_values()
        if not capturing():
            with torch.no_grad():
                stride = self.ratios.stride
                self.ratios.before([parameter for parameter, _ in self._watched(optimizer)])
            if self.ratios.stride != stride:
                self.adapted()
        lap = perf_counter() - began
        self._laps["ratios"] = self._laps.get("ratios", 0.0) + lap
        self._own += lap

    def after(self, optimizer: torch.optim.Optimizer) -> None:
        """A step was made, and something is due."""
        began = perf_counter()
        if capturing():
            self.steps -= 1
            return
        self._wake(began)
        self.harvest()
        due = self.schedule.due(self.steps, self.sharing())
        try:
            if due:
                self._do(optimizer, due, began)
        finally:
            self.schedule.passed(self.steps, due)
        if due and self.schedule.adapt(self.sharing()):
            self.adapted()
        if self._pending:
            self.schedule.next = self.steps + 1
        own = perf_counter() - began
        self._own += own
        self.schedule.spend(own - self._counted)
        self._counted = 0.0

    def _wake(self, now: float) -> None:
        """How long steps took since the last time that one was looked at, readings aside."""
        if self._woken is not None:
            steps, then = self._woken
            self.schedule.took(
                max(now - then - self._own, 1e-9) / max(1, self.steps - steps), self.steps - steps
            )
        self._woken, self._own = (self.steps, now), 0.0

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

    def forget(self) -> None:
        """Hold no parameter any more, nor what was copied of them."""
        self.ratios.forget()
        self._plan, self._held, self._parameters = None, [], []

    # -- reading ---------------------------------------------------------------------------

    def _do(self, optimizer: torch.optim.Optimizer, due: set[str], began: float) -> None:
        """Read what is due; what lies on the host is recorded at once."""
        if len(self._pending) >= _UNDER_WAY:
            self.left_out += 1
            return
        before = self._laps.get("ratios", 0.0)
        row = self._row(optimizer) if "norms" in due else {}
        with torch.no_grad():
            self._pending.append(self._read(optimizer, due, row))
        self.harvest()
        # What is of no kind, such as finding the gradients, counts with the first one.
        first = next(kind for kind in KINDS if kind in due)
        rest = perf_counter() - began - (sum(self._laps.values()) - before)
        self._laps[first] = self._laps.get(first, 0.0) + rest
        for kind, seconds in self._laps.items():
            self.schedule.cost(kind, seconds)
        self._counted = sum(self._laps.values()) - before
        self._laps = {}

    def _watched(self, optimizer: torch.optim.Optimizer) -> list[tuple[Tensor, Known]]:
        """The optimizer's parameters that have a name, in the order of the model."""
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        if self._held and list(map(id, parameters)) == list(map(id, self._parameters)):
            return self._held
        self._plan = None
        found = [(p, self.names.of(p)) for p in parameters]
        if any(known is None for _, known in found):
            self.names.learn()
            found = [(p, self.names.of(p)) for p in parameters]
        known = [(p, place) for p, place in found if place is not None]
        self._parameters = parameters
        self._held = sorted(known, key=lambda item: item[1].order)
        return self._held

    def _planned(self, optimizer: torch.optim.Optimizer) -> Plan:
        """What can be read, with the gradients as they are now."""
        watched = self._watched(optimizer)
        if self._plan is None or not self._plan.load():
            self._plan = Plan(watched, self._sharded_outside)
            self._plan.load()
        return self._plan

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
        plan = self._planned(optimizer) if wanted else _NOTHING
        for group in plan.groups:
            entries = group.entries
            results = measure(entries, wanted, lap, group.together)
            places = [at for at, entry in enumerate(entries) if self.ratios.has(entry.key)]
            if "ratios" in due and places:
                results.tensors["moved"] = self.ratios.after([entries[at] for at in places])
                lap("ratios")
            group.release()
            groups.append((group.entries, places))
            packets.append(Packet(group.device, results))
        skips = None
        if self._skipped is not None and self._skipping is not None:
            both = torch.cat([self._skipped, self._skipping])
            skips = Packet(both.device, Results({"skips": both}, {}))
            self._skipping = None
        return _Reading(self.steps, due, row, plan.columns, groups, packets, skips)

    def _row(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """What is known without reading a tensor: learning rates, steps a second."""
        row: dict[str, Any] = dict(rates(optimizer, self.alone))
        now = perf_counter()
        if self._last is not None:
            steps, then = self._last
            seconds = max(now - then, 1e-9)
            row["steps_per_s"] = (self.steps - steps) / seconds
        self._last = self.steps, now
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
        found = _rows.found(reading.columns, reading.groups, arrays)
        row.update(_rows.metrics(found, bool(self.alone)))
        if self.rows and row:
            self.handle.log(named(row, self.label) if self.label else row, step=reading.step)
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
        every = _rows.histograms(reading.columns, reading.groups, arrays, of)
        for sharded, data in every.items():
            if run is not None and data and (sharded or self.rows):
                data = named(named(data, self.label), self.handle.prefix)
                record_histograms(run, data, of=of, step=reading.step, sharded=sharded)

    def _say_first_bad(self, found: _rows.Found, step: int) -> None:
        name = found.first_bad()
        if name is None:
            self._finite = step if found.read else self._finite
            return
        self._told = True
        first = {"parameter": name, "step": step, "last_finite_step": self._finite}
        self.handle.summarize(named({"gradients/first_nonfinite": first}, self.label))
        before = (
            "that was the first reading"
            if self._finite is None
            else f"the reading before it, at step {self._finite}, was finite"
        )
        note(
            "watch",
            f"{self.label}nonfinite {id(self)}",
            f"the gradient of {name} is not finite, first seen at step {step}; {before}.",
        )


def capturing() -> bool:
    """Whether a CUDA graph is being captured: nothing may be done then."""
    return torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()
