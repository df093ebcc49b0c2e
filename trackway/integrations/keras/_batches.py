"""Batches, recorded from whatever thread Keras calls its callbacks in."""

from __future__ import annotations

from typing import Any

from trackway.core._guard import guard
from trackway.core.run import Run
from trackway.integrations.keras._hooks import Recorder
from trackway.integrations.keras._values import raw_iterations

__all__ = ["TrackwayBatchCallback"]


class TrackwayBatchCallback(Recorder):
    """Records batches: what Keras says of the epoch so far, as ``batch/loss`` and so on.

    It may be called from another thread than the training's, in any order, and reads nothing of
    the model there: the step is the optimizer's iterations where the epoch began, and one for each
    batch since.

    Args:
        run: The run; else the current one, else one of its own for each ``fit``.
        every: Record only the steps that are a multiple of it; where Keras tells of several steps
            at once, the first that it tells of at or behind a multiple.
        prefix: Goes before the name of every metric, joined by ``/``.

    Raises:
        ArgumentError: An argument is wrong.
    """

    async_safe = True

    def __init__(self, run: Run | None = None, *, every: int = 1, prefix: str = "") -> None:
        super().__init__(run, every, prefix)
        self._first = _Epoch(0, 0, 1, 1, None)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Take the optimizer's count, while nothing is under way."""
        with guard("keras"):
            if self._handle.recording:
                made, each = raw_iterations(self._optimizers(), self.to_numpy)
                at_once = int(getattr(self.model, "steps_per_execution", None) or 1)
                self._first = _Epoch(epoch, made, each, at_once, (self.params or {}).get("steps"))

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Record a batch; with ``steps_per_execution`` the last one of several."""
        with guard("keras"):
            first, every = self._first, self._handle.every
            before, step = first.steps(batch)
            if self._handle.recording and step // every > before // every:
                row = {f"batch/{name}": self.number(value) for name, value in (logs or {}).items()}
                self._handle.log({**row, "batch/epoch": first.epoch}, step)


class _Epoch:
    """Where an epoch began: the optimizer's calls so far, and what makes a step of them."""

    __slots__ = ("at_once", "batches", "each", "epoch", "made")

    def __init__(self, epoch: int, made: int, each: int, at_once: int, batches: object) -> None:
        self.epoch = epoch
        self.made = made
        self.each = each
        self.at_once = at_once
        self.batches = batches if isinstance(batches, int) else None

    def steps(self, batch: int) -> tuple[int, int]:
        """The steps that were made before a batch, or several at once, and after."""
        before = batch // self.at_once * self.at_once
        after = batch + 1 if self.batches is None else min(batch + 1, self.batches)
        return (self.made + before) // self.each, (self.made + after) // self.each
