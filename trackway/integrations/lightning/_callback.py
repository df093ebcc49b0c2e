"""The callback's hooks; ``_hooks`` makes a callback of Lightning's of them."""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter
from typing import Any

from trackway.core._guard import guard
from trackway.core.run import Run
from trackway.integrations.lightning._session import Session, elsewhere
from trackway.integrations.lightning._values import Pace, batch_size, learning_rates, stepped

__all__ = ["CallbackHooks"]


class CallbackHooks:
    """Learning rates, pace, and the run in each checkpoint; see ``TrackwayCallback``."""

    def __init__(
        self,
        run: Run | None = None,
        *,
        every: int = 1,
        prefix: str = "",
        watch: bool | Mapping[str, Any] = False,
    ) -> None:
        super().__init__()
        self._alone = Session(run, every, prefix, watch, None)
        self._watch = watch
        self._fitting: Session | None = None
        self._pace = Pace()
        self._epoch_began = 0.0
        self._steps = 0
        self._rates: dict[str, Any] | None = None
        self._monitored = False

    def _session(self, trainer: Any) -> Session:
        for logger in trainer.loggers:
            session = getattr(logger, "_session", None)
            if isinstance(session, Session):
                return session
        return self._alone

    def _begin(self, trainer: Any, module: Any) -> Session | None:
        """The use of the Trainer has begun; None where there is nothing to record into."""
        if trainer.fast_dev_run or elsewhere():
            return None
        session = self._session(trainer)
        session.begin(trainer, module, self._watch)
        return session if session.handle.recording else None

    # -- one hook after another ------------------------------------------------------------

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Open the run: a checkpoint to go on from has been read by now."""
        with guard("lightning"):
            self._monitored = _monitored(trainer)
            self._fitting = self._begin(trainer, pl_module)
            self._pace = Pace(trainer.global_step)

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Note the time."""
        self._epoch_began = perf_counter()

    def on_train_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        """Take the learning rates of a batch that is logged, before a schedule changes them."""
        if self._fitting is None:
            return
        with guard("lightning"):
            self._fitting.release()
            every = trainer.log_every_n_steps
            if every and (stepped(trainer) + 1) % every == 0:
                self._steps = trainer.global_step
                self._rates = {} if self._monitored else learning_rates(trainer.optimizers)
            else:
                self._rates = None

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Record learning rates and pace of a batch after which an optimizer stepped."""
        if self._fitting is None:
            return
        with guard("lightning"):
            self._pace.batch(batch_size(batch))
            if self._rates is None:
                return
            steps = trainer.global_step
            if steps != self._steps:
                row = {**self._rates, **self._pace.rates(steps)}
                self._fitting.hold(row, wait=self._fitting is not self._alone)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Record how long the epoch took."""
        if self._fitting is None:
            return
        with guard("lightning"):
            row = {"epoch_s": perf_counter() - self._epoch_began}
            self._fitting.log_at_step(row, back=1)

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """Stop the clock; validation alone begins here."""
        with guard("lightning"):
            self._pace.pause()
            if self._fitting is None:
                self._begin(trainer, pl_module)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Let the clock go on."""
        with guard("lightning"):
            self._pace.resume()

    def on_test_start(self, trainer: Any, pl_module: Any) -> None:
        """A test alone begins here."""
        with guard("lightning"):
            self._begin(trainer, pl_module)

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: Any) -> None:
        """Put the run into the checkpoint, beside what Lightning keeps there of callbacks.

        It is no callback's state: that would have Lightning warn whoever loads it without us.
        """
        with guard("lightning"):
            _, project, id = self._session(trainer).place()
            checkpoint["trackway"] = {"project": project, "id": id}

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: Any) -> None:
        """Go on with the run that the checkpoint was written by."""
        with guard("lightning"):
            self._session(trainer).loading(checkpoint)
            if trainer.state.fn == "fit":
                self._session(trainer).adopt(checkpoint.get("trackway"))

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """End a run of the callback's own; the logger is told after this."""
        self._over(trainer, "failed", exception)

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """End a run of the callback's own; the logger is told after this."""
        self._over(trainer, "success", None)

    def _over(self, trainer: Any, status: str, error: BaseException | None) -> None:
        with guard("lightning"):
            self._fitting = None
            if self._session(trainer) is self._alone:
                self._alone.end(status, error)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_fitting": None, "_pace": None, "_rates": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _pace=Pace())


def _monitored(trainer: Any) -> bool:
    """Whether Lightning's own monitor logs the learning rates."""
    return any(type(each).__name__ == "LearningRateMonitor" for each in trainer.callbacks)
