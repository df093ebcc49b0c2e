"""``TrackwayTracker``, an ``accelerate.tracking.GeneralTracker``.

Hooks: ``start`` opens the run (not the constructor: the processes do not know each other by
then), ``store_init_configuration``, ``log`` and ``finish``. The loop between them is the
program's own: neither an end nor an exception of it can be seen here. Versions:
``trackway.integrations._versions``. Nothing is patched; importing this registers the name.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from trackway.core import current
from trackway.core._guard import guard
from trackway.integrations._base import RunHandle, requires
from trackway.integrations.accelerate import _name

with requires("accelerate"):
    from accelerate.state import AcceleratorState, GradientState, is_initialized
    from accelerate.tracking import GeneralTracker

if TYPE_CHECKING:
    from trackway.core.run import Run

__all__ = ["TrackwayTracker"]

_started: list[tuple[weakref.ref[TrackwayTracker], RunHandle]] = []
"""Those with a run of their own that ``end_training`` has not finished."""


class TrackwayTracker(GeneralTracker):  # type: ignore[misc,unused-ignore]
    """Records what ``Accelerator.log`` is given, and what ``init_trackers`` is told.

    Args:
        project_name: The project of a run of its own, positional only; ``init_trackers`` gives it
            if it makes the tracker from its name.
        run: The run to record into; the current one by default, else one of its own from
            ``init_trackers`` to ``end_training``.
        every: Record rows whose step is a multiple of it; without steps, each n-th row.
        prefix: Goes before every metric's name.
        **init: Arguments of ``trackway.init`` for a run of its own; with the name, those in
            ``init_kwargs={"trackway": {...}}``.

    Raises:
        ArgumentError: An argument is wrong.
    """

    name = _name.NAME
    requires_logging_directory = False

    def __init__(
        self,
        project_name: str | None = None,
        /,
        *,
        run: Run | None = None,
        every: int = 1,
        prefix: str = "",
        **init: Any,
    ) -> None:
        super().__init__()
        own = {**({"project": project_name} if project_name else {}), **init}
        # The training is the program's own loop: no frame of the framework's lasts as long.
        self._handle = RunHandle("accelerate", run, every=every, prefix=prefix, init=own)
        self._rows = itertools.count()

    @property
    def tracker(self) -> Run | None:
        """The run; ``get_tracker("trackway", unwrap=True)`` gives it."""
        return self._handle.run

    def start(self) -> None:
        """The processes know each other: the run is opened on the main one.

        A run of its own was left where its tracker is gone, or is started again. That of another
        tracker which is still there is not joined: its ``end_training`` would end it.
        """
        with guard("accelerate"):
            self._leave_those_gone()
            beside = any(run is handle.run for _, handle in _started for run in _current())
            fields: dict[str, Any] = {"reinit": "create_new"} if beside else {}
            self._handle.begin(ends=False, fresh=beside, **fields)
            if self._handle.owns:
                _started.append((weakref.ref(self), self._handle))
            if self._handle.recording:
                self._handle.configure({"accelerate": _facts()})

    def _leave_those_gone(self) -> None:
        for each in list(_started):
            ref, handle = each
            if ref() is None or ref() is self:
                _started.remove(each)
                handle._left()

    def store_init_configuration(self, values: Mapping[str, Any]) -> None:
        """Hyperparameters, by the names that they were given."""
        with guard("accelerate"):
            self._handle.configure(values)

    def log(self, values: Mapping[str, Any], step: int | None = None, **_: Any) -> None:
        """A row."""
        with guard("accelerate"):
            if self._handle.due(next(self._rows) if step is None else int(step)):
                self._handle.log(values, step)

    def finish(self) -> None:
        """``end_training``: a run of its own is finished."""
        with guard("accelerate"):
            _started[:] = [each for each in _started if each[1] is not self._handle]
            self._handle.end()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_rows": itertools.count()}


def _current() -> list[Run]:
    """The run that a tracker without one would join, if there is any."""
    return current.open_runs()[-1:]


def _facts() -> dict[str, Any]:
    """What the accelerator is like; asks for nothing that would make one."""
    if not is_initialized():
        return {}
    state = AcceleratorState()
    return {
        "distributed_type": str(getattr(state.distributed_type, "value", state.distributed_type)),
        "num_processes": state.num_processes,
        "mixed_precision": state.mixed_precision,
        "device": str(state.device),
        "gradient_accumulation_steps": GradientState().num_steps,
    }


_name.naming.enter(TrackwayTracker)
