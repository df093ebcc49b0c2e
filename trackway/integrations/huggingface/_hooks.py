"""``TrackwayCallback``, a ``transformers.TrainerCallback``.

Hooks: ``on_train_begin`` opens the run and tells hyperparameters; ``on_log`` gives every value
of training and evaluation, and, as the last of a training, its results; ``on_predict`` gives what
does not come by ``on_log``; ``on_save`` tells of checkpoints; ``on_evaluate``, ``on_predict`` and
``on_train_end`` close what was opened. A crash calls no hook: ``RunHandle`` sees that.
Versions: ``trackway.integrations._versions``. Nothing is patched; importing this enters one name
into transformers' table for ``report_to``.
"""

from __future__ import annotations

import itertools
import os
import pickle
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final

from trackway.core import current
from trackway.core._guard import guard
from trackway.core._names import new_id
from trackway.integrations._base import RunHandle, requires, training_under_way
from trackway.integrations.huggingface import _name, _values
from trackway.integrations.huggingface._recorded import Checkpoints, Pace, describe

with requires("huggingface"):
    from transformers.trainer_callback import TrainerCallback

if TYPE_CHECKING:
    from trackway.core.run import Run

__all__ = ["StandbyCallback", "TrackwayCallback"]

_instances = itertools.count()

_LAST: Final = "_trackway_run"
"""Names, on a trainer's state, the run that it was last recorded into. It is no field of the state,
and so in no checkpoint."""


class TrackwayCallback(TrainerCallback):  # type: ignore[misc,unused-ignore]
    """Records what a ``Trainer`` logs, its hyperparameters, results and checkpoints.

    Of several on one trainer the first one records.

    Args:
        run: The run to record into; the current one by default, else one of its own from the
            beginning of a training, or of an evaluation, to its end.
        every: Record training rows whose ``global_step`` is a multiple of it; evaluations are
            always recorded.
        prefix: Goes before every metric's name.
        watch: Watch the gradients of the model while it is trained; options of ``Run.watch`` if
            it is a mapping.

    Raises:
        ArgumentError: An argument is wrong.
    """

    _stands_by: ClassVar[bool] = False

    def __init__(
        self,
        run: Run | None = None,
        *,
        every: int = 1,
        prefix: str = "",
        watch: bool | Mapping[str, Any] = False,
    ) -> None:
        self._handle = RunHandle("huggingface", run, every=every, prefix=prefix)
        self._watch = watch
        self._token = f"{os.getpid()}-{next(_instances)}"
        self._watching: Any = None
        self._training: Any = None
        """The state of the trainer that is training."""
        self._search: str | None = None
        self._described: tuple[str, int] | None = None
        self._pace = Pace()
        self._checkpoints = Checkpoints()

    # -- hooks -----------------------------------------------------------------------------

    def on_init_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """The trainer stands: the first of us on it takes it."""
        with guard("huggingface"):
            self._take(state)

    def on_train_begin(self, args: Any, state: Any, control: Any, **told: Any) -> None:
        """A training begins, or goes on from a checkpoint."""
        with guard("huggingface"):
            if self._take(state):
                self._begin(args, state, told.get("model"))

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **told: Any) -> None:
        """A row of a training, what an evaluation found, or the result of a training."""
        with guard("huggingface"):
            if logs and self._mine(state):
                self._log(self._ready(args, state, told.get("model")), state, logs)

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """An evaluation is over; its values came by ``on_log``."""
        with guard("huggingface"):
            if self._mine(state):
                self._pause(state)

    def on_predict(
        self, args: Any, state: Any, control: Any, metrics: Any = None, **told: Any
    ) -> None:
        """A prediction is over; its values do not come by ``on_log``."""
        with guard("huggingface"):
            if self._mine(state):
                handle = self._ready(args, state, told.get("model"))
                handle.log(_values.renamed(metrics or {}), state.global_step)
                self._close(handle)
                self._pause(state)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """A checkpoint was saved, and perhaps older ones removed."""
        with guard("huggingface"):
            if self._mine(state):
                if self._handle.run is not None:
                    self._checkpoints.saved(self._handle.run, args, state)
                self._pace.go_on(state)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """The training is over."""
        with guard("huggingface"):
            if self._mine(state):
                if self._handle.run is not None:
                    self._checkpoints.removed(self._handle.run)
                self._end(state)

    # -- which of us -----------------------------------------------------------------------

    def _take(self, state: Any) -> bool:
        """Whether the trainer of this state is ours now: an explicit one goes before the others."""
        owner = vars(state).get("_trackway")
        if owner is None or (owner[1] and not self._stands_by):
            # Not a field, and so in no checkpoint.
            vars(state)["_trackway"] = (self._token, self._stands_by)
        return self._mine(state)

    def _mine(self, state: Any) -> bool:
        owner: tuple[str, bool] = vars(state).setdefault(
            "_trackway", (self._token, self._stands_by)
        )
        return owner[0] == self._token

    # -- the run ---------------------------------------------------------------------------

    def _begin(self, args: Any, state: Any, model: Any) -> None:
        self._unwatch()
        self._training = state
        vars(state).pop(_LAST, None)
        self._pace, self._checkpoints = Pace(), Checkpoints()
        fields = {**self._fields(args, state), **_values.stored_run(state)}
        if self._handle.begin(fresh=bool(state.is_hyper_param_search), **fields):
            self._describe(args, state, model)
            _values.store_run(state, self._handle.run)

    def _fields(self, args: Any, state: Any) -> dict[str, Any]:
        """What is known of a run of its own: a trial's is one of the group of its search."""
        if state.is_hyper_param_search and self._search is None:
            runs = current.open_runs()
            self._search = runs[-1].id if runs else new_id()
        return _values.fields(args, state, self._search)

    def _describe(self, args: Any, state: Any, model: Any) -> None:
        run = self._handle.run
        who = None if run is None else (run.id, run.attempt)
        training = self._training is not None
        if run is None or (who == self._described and not training):
            return  # an evaluation after the training, or after another one
        self._described = who
        describe(self._handle, args, state, model)
        if self._watch and training:
            options = {} if self._watch is True else self._watch
            fixed = {"prefix": self._handle.prefix, "start": state.global_step}
            with guard("huggingface"):
                self._watching = run.watch(model, **{**fixed, **options})

    def _unwatch(self) -> None:
        watching, self._watching = self._watching, None
        if watching is not None:
            with guard("huggingface"):
                watching.close()

    def _ready(self, args: Any, state: Any, model: Any) -> RunHandle:
        """Where values go: in a training into its run, after it too, else into one of their own."""
        handle = self._handle
        if self._training is not state:
            # Another trainer with this callback: was a training of the first one's left?
            training_under_way()
        if handle.run is not None:
            return handle
        self._training = None
        last = vars(state).get(_LAST)
        if last is not None and (state.is_hyper_param_search or not current.open_runs()):
            # A finished run takes more from outside of the process that ended it.
            run = pickle.loads(pickle.dumps(last))
            late = RunHandle("huggingface", run, every=handle.every, prefix=handle.prefix)
            late.ensure()
            return late
        if handle.ensure(**self._fields(args, state)):
            self._describe(args, state, model)
        return handle

    def _close(self, handle: RunHandle) -> None:
        """What was opened to record more into a finished run is closed again."""
        if handle is not self._handle and handle.run is not None:
            handle.run.finish()

    def _pause(self, state: Any) -> None:
        """An evaluation is over: it is the end of a run that was opened for it alone."""
        self._pace.go_on(state)
        if self._training is None:
            self._end(state)

    def _end(self, state: Any) -> None:
        if self._handle.owns:
            vars(state)[_LAST] = self._handle.run
        self._training = None
        self._unwatch()
        self._handle.end()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_watching": None, "_training": None}

    # -- what is recorded ------------------------------------------------------------------

    def _log(self, handle: RunHandle, state: Any, logs: dict[str, Any]) -> None:
        step, row = state.global_step, _values.renamed(logs)
        if _values.is_final(logs):
            handle.summarize(row)
        elif _values.is_evaluation(logs):
            handle.log(row, step)
        elif handle.due(step):
            handle.log({**row, **self._pace.rates(state)}, step)
        self._close(handle)


class StandbyCallback(TrackwayCallback):
    """What ``report_to="trackway"`` and ``autolog`` put on a trainer.

    It stands back behind an explicit one, wherever that is in the list: it begins when all the
    others have begun.
    """

    _stands_by = True
    _waits = False

    def on_train_begin(self, args: Any, state: Any, control: Any, **told: Any) -> None:
        """The others first."""
        self._waits = True

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **told: Any) -> None:
        """Nobody else took the trainer."""
        if self._waits:
            self._waits = False
            super().on_train_begin(args, state, control, **told)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **told: Any) -> None:
        """With ``eval_on_start`` an evaluation comes before the first epoch."""
        self.on_epoch_begin(args, state, control, **told)
        super().on_log(args, state, control, logs=logs, **told)

    def on_train_end(self, args: Any, state: Any, control: Any, **told: Any) -> None:
        """Over, perhaps before it began."""
        self.on_epoch_begin(args, state, control, **told)
        super().on_train_end(args, state, control, **told)


_name.naming.enter(StandbyCallback)
