"""Hooks of ``keras.callbacks.Callback``, for Keras 3.9 to 3.15 on each of its backends.

Keras calls its callbacks from another thread than the training's, unless one of them has a method
for batches; so ``TrackwayCallback`` has none, and ``TrackwayBatchCallback`` says that it may be
called so. Which other callbacks there are, and what ``fit`` was told, is read from Keras's own
frames when training begins: a callback is not told. No patching, and nothing happens at import.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Mapping
from typing import Any

from trackway.core import current
from trackway.core._guard import guard, note
from trackway.core.records import record_checkpoint, record_histograms, record_model
from trackway.core.run import Run
from trackway.errors import ArgumentError
from trackway.integrations import _base
from trackway.integrations._base import RunHandle, requires

with requires("keras"):
    import keras

from trackway.integrations.keras import _gradients, _values
from trackway.integrations.keras._around import Around, inside_another
from trackway.integrations.keras._backup import forget_run, store_run, stored_run
from trackway.integrations.keras._written import Checkpoint, Written

__all__ = ["Ending", "Recorder", "TrackwayCallback"]

_fitted: weakref.WeakKeyDictionary[Any, Run] = weakref.WeakKeyDictionary()
"""The run that was opened for a model's last training, where that ended well."""


class Recorder(keras.callbacks.Callback):
    """What both callbacks have in common: the run, and what is known when training begins."""

    outermost_only = False
    """Record nothing of a training inside another one: set where nobody asked for this object."""

    has_ending = False
    """The end of a training is told by an ``Ending``."""

    def __init__(self, run: Run | None, every: int, prefix: str) -> None:
        super().__init__()
        self._handle = RunHandle("keras", run, prefix=prefix, every=every)
        self._around = Around()
        self._unbuilt = False
        self._called = False
        self._fits = False
        self._evaluates = ""

    def set_model(self, model: Any) -> None:
        """A list of callbacks has been built: a training, an evaluation or a prediction begins."""
        super().set_model(model)
        self._called = True

    def on_train_begin(self, logs: Any = None) -> None:
        """Open the run, and record what the model is and what it is trained with."""
        with guard("keras"):
            self._called, self._fits, self._evaluates = False, True, ""
            if self.outermost_only and inside_another():
                return
            self._around = Around.here()
            _fitted.pop(self.model, None)
            if self._handle.begin(**stored_run(self._around.callbacks)):
                if self._handle.owns:
                    store_run(self._around.callbacks, self._run)
                self._begun()

    def _begun(self) -> None:
        self._tell()

    def _tell(self) -> None:
        """Say what is trained; once more when it is built, where Keras builds it in training."""
        model = self.model
        self._unbuilt = not (getattr(model, "built", True) and model.weights)
        if not self._unbuilt:
            record_model(self._run, _at(self._handle.prefix, "model"), _values.model_about(model))
        config = {
            "backend": keras.config.backend(),
            "version": keras.__version__,
            **_values.config(model, self.params or {}, self._around.arguments),
            **_values.optimizer_configs(self._optimizers()),
        }
        self._handle.configure({"keras": config})

    def on_train_end(self, logs: Any = None) -> None:
        """The training is over, but perhaps for what other callbacks do now."""
        if not self.has_ending:
            self.end()
        elif self._handle.recording:
            with guard("keras"):
                self._catch_up()

    def end(self) -> None:
        """State what Keras says of the whole training, and finish a run of its own."""
        with guard("keras"):
            self._fits = False
            if self._handle.recording:
                if self._unbuilt:
                    self._tell()
                self._ended()
                if self._handle.owns:
                    forget_run(self._around.callbacks)
                    _fitted[self.model] = self._run
            self._around = Around()
        self._handle.end()

    def _catch_up(self) -> None:
        """Record what came after the last epoch was recorded."""

    def _ended(self) -> None:
        """What is recorded at the very end."""

    @staticmethod
    def to_numpy(value: Any) -> Any:
        """A NumPy array of what any backend has; of a variable, its value."""
        if isinstance(value, keras.Variable):
            value = value.value
        # NumPy warns of how a variable, and a tensor of TensorFlow's, becomes an array by itself.
        if keras.config.backend() == "tensorflow" and hasattr(value, "numpy"):
            return value.numpy()
        return keras.ops.convert_to_numpy(value)

    def number(self, value: Any) -> Any:
        """A plain number of what any backend has."""
        return _values.number(value, self.to_numpy)

    @property
    def _run(self) -> Run:
        run = self._handle.run
        assert run is not None  # whoever asks has seen that it is recording
        return run

    def _optimizers(self) -> dict[str, Any]:
        return _values.named_optimizers(self.model, keras.optimizers.Optimizer)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_model": None, "_around": Around(), "_fits": False}

    def __deepcopy__(self, memo: dict[int, Any]) -> Recorder:
        copy = type(self).__new__(type(self))
        copy.__dict__.update(self.__getstate__(), _handle=self._handle.__deepcopy__(memo))
        return copy


class Ending(keras.callbacks.Callback):
    """Stands last, for one of ours that stands first, and tells it that the training is over."""

    def __init__(self, ours: Recorder) -> None:
        super().__init__()
        self._ours = ours

    def on_train_end(self, logs: Any = None) -> None:
        """The training is over."""
        self._ours.end()


class TrackwayCallback(Recorder):
    """Records every epoch, the checkpoints that other callbacks write, and evaluations.

    Rows have the optimizer's iterations as their step.

    Args:
        run: The run; else the current one, else one of its own for each ``fit``.
        every: Record each n-th epoch only: those whose index, which begins at 0, is a multiple.
        prefix: Goes before the name of every metric, joined by ``/``.
        weights: Record how each weight's values are distributed, at the end of each epoch, or of
            each n-th one.
        gradients: The same for the gradients of the epoch's last batch; on torch only.
        checkpoints: Record the files that ``ModelCheckpoint`` and ``BackupAndRestore`` write.

    Raises:
        ArgumentError: An argument is wrong.
    """

    def __init__(
        self,
        run: Run | None = None,
        *,
        every: int = 1,
        prefix: str = "",
        weights: bool | int = False,
        gradients: bool | int = False,
        checkpoints: bool = True,
    ) -> None:
        super().__init__(run, every, prefix)
        self._weights = _interval("weights", weights)
        self._gradients = _interval("gradients", gradients)
        self._checkpoints = checkpoints
        self._written = Written(())
        self._epoch = -1
        self._logs: Mapping[str, Any] = {}
        self._row_at: tuple[int, Mapping[str, Any]] | None = None
        self._late: RunHandle | None = None
        self._begun_at = (0.0, 0)
        self._validating = (0.0, 0.0)

    def _begun(self) -> None:
        super()._begun()
        self._epoch, self._logs, self._row_at = -1, {}, None
        self._written = Written(self._around.callbacks if self._checkpoints else ())

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """See what came after the last epoch was recorded."""
        with guard("keras"):
            if self._handle.recording:
                self._catch_up()
                self._begun_at = time.perf_counter(), self._iterations()
                self._validating = (0.0, 0.0)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Record the epoch."""
        with guard("keras"):
            if not self._handle.recording:
                return
            if self._unbuilt:
                self._tell()
            self._epoch, self._logs = epoch, {} if logs is None else logs
            step = self._iterations() or epoch
            if self._handle.due(epoch):
                row = self._row(epoch)
                self._row_at = step, row
                self._handle.log(row, step)
            self._distributions(epoch, step)
            self._look()

    def _row(self, epoch: int) -> dict[str, Any]:
        own = {"epoch": epoch, **_values.rates(self._optimizers(), self.to_numpy), **self._speed()}
        told = {name: self.number(value) for name, value in self._logs.items()}
        return {**own, **told}  # where both have a name, it is Keras's

    def _speed(self) -> dict[str, float]:
        began, first = self._begun_at
        if not began:
            return {}
        seconds = time.perf_counter() - began
        training = max(seconds - self._validating[1], 1e-9)
        found = {"epoch_s": seconds}
        steps = self._iterations() - first
        if steps:
            found["steps_per_s"] = steps / training
        if self._around.samples and not getattr(self.model, "stop_training", False):
            found["samples_per_s"] = self._around.samples / training
        return found

    def _distributions(self, epoch: int, step: int) -> None:
        prefix = self._handle.prefix
        if self._weights and epoch % self._weights == 0:
            data = {
                _at(prefix, v.path): _values.bits_11(self.to_numpy(v)) for v in self.model.weights
            }
            record_histograms(self._run, data, of="parameters", step=step)
        if self._gradients and epoch % self._gradients == 0:
            if keras.config.backend() != "torch":
                note("keras", "gradients", _gradients.NONE)
                return
            found = _gradients.used(self.model)
            data = {
                _at(prefix, name): _values.bits_11(self.to_numpy(g)) for name, g in found.items()
            }
            record_histograms(self._run, data, of="gradients", step=step)

    def _catch_up(self) -> None:
        """What callbacks behind this one have added to the last epoch, and have saved."""
        if self._row_at is not None:
            step, row = self._row_at
            self._row_at = None
            added = {n: self.number(v) for n, v in self._logs.items() if n not in row}
            self._handle.log(added, step)
        self._look()

    def _look(self) -> None:
        if self._epoch >= 0:
            for checkpoint in self._written.look(self._epoch, self._logs):
                self._record(checkpoint)

    def _record(self, checkpoint: Checkpoint) -> None:
        step = None if checkpoint.behind is None else self._iterations() - checkpoint.behind
        name, value = checkpoint.judged or (None, None)
        record_checkpoint(
            self._run,
            checkpoint.path,
            step=step,
            epoch=self._epoch,
            score=None if value is None else self.number(value),
            metric=name,
            aliases=checkpoint.aliases,
            removed=checkpoint.removed,
        )

    def _iterations(self) -> int:
        return _values.iterations(self._optimizers(), self.to_numpy)

    # -- evaluations -----------------------------------------------------------------------

    def on_test_begin(self, logs: Any = None) -> None:
        """See whether it is the training's validation, or an evaluation of the user's."""
        with guard("keras"):
            if self._fits and not self._called:
                self._validating = time.perf_counter(), self._validating[1]
                return
            self._called = False
            _base._sweep()
            self._evaluates = "inside" if self._handle.recording else "alone"
            if self._evaluates == "alone":
                self._fits = False
                self._late = self._after_training()
                if self._late is None:
                    self._handle.begin(job_type="evaluate")

    def on_test_end(self, logs: Any = None) -> None:
        """Record an evaluation; a validation's results are among the epoch's."""
        with guard("keras"):
            if not self._evaluates:
                began, before = self._validating
                self._validating = began, before + time.perf_counter() - began
                return
            told = {n: self.number(v) for n, v in (logs or {}).items()}
            handle = self._late or self._handle
            handle.log({f"evaluate/{n}": v for n, v in told.items()}, self._iterations())
        alone, self._evaluates = self._evaluates == "alone", ""
        late, self._late = self._late, None
        if late is not None and late.run is not None:
            with guard("keras"):
                late.run.finish()
        elif alone:
            self._handle.end()

    def _after_training(self) -> RunHandle | None:
        """The run of the model's training, which is finished: such a one takes more later."""
        run = _fitted.get(self.model)
        if run is None or self._handle._given is not None or current.open_runs():
            return None
        make, arguments = run.__reduce__()
        handle = RunHandle("keras", make(*arguments), prefix=self._handle.prefix)
        handle.ensure()
        return handle

    def on_predict_begin(self, logs: Any = None) -> None:
        """A prediction records nothing."""
        self._called = False

    def _ended(self) -> None:
        self._catch_up()
        found: dict[str, Any] = {}
        for callback in self._around.callbacks:
            found.update(_values.stopped(callback, self.to_numpy))
        self._handle.summarize(found, whole=True)

    def __getstate__(self) -> dict[str, Any]:
        fresh = {"_written": Written(()), "_logs": {}, "_row_at": None, "_late": None}
        return {**super().__getstate__(), **fresh}


def _interval(name: str, value: Any) -> int:
    if isinstance(value, int) and value >= 0:
        return int(value)
    raise ArgumentError(f"{name}={value!r}: it is True, False, or every how many epochs")


def _at(prefix: str, name: str) -> str:
    return f"{prefix.rstrip('/')}/{name}" if prefix else name
