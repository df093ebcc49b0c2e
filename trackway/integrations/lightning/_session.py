"""What the logger and the callback share: the run, and what has been told of the training."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from copy import copy
from pathlib import Path
from typing import Any

from trackway.backend.file.folder import default_root
from trackway.core import current
from trackway.core._names import new_id
from trackway.core.disabled import DisabledRun
from trackway.core.records import record_model
from trackway.core.run import Run
from trackway.integrations._base import RunHandle, named
from trackway.integrations.lightning._checkpoints import Checkpoints
from trackway.integrations.lightning._processes import (
    callers_run,
    can_be_made,
    end_with_process,
    usable,
)
from trackway.integrations.lightning._values import (
    hyperparameters,
    loaded,
    model_facts,
    stepped,
    trainer_facts,
    within_batch,
)

__all__ = ["Session", "elsewhere"]

_STEP = "trainer/global_step"


def elsewhere() -> bool:
    """Whether Lightning knows this process as a rank other than zero."""
    module: Any = sys.modules.get("lightning_utilities.core.rank_zero")
    return bool(getattr(getattr(module, "rank_zero_only", None), "rank", 0))


class Session:
    """One run for every use of a Trainer, one after another.

    A run of its own is finished when a use of the Trainer ends. Its id was chosen before, so a
    further use, in this process or in one that this object was sent to, is the next attempt of
    the same run.

    Args:
        run: The run, if it was passed in.
        every: Record each n-th row of a kind of those of training batches.
        prefix: Goes before the name of every metric.
        watch: Watch the model's gradients; options of ``Run.watch`` if it is a mapping.
        init: Arguments of ``trackway.init`` for a run of its own.
    """

    def __init__(
        self,
        run: Run | None,
        every: int,
        prefix: str,
        watch: bool | Mapping[str, Any],
        init: Mapping[str, Any] | None,
    ) -> None:
        self.handle = RunHandle("lightning", run, every=every, prefix=prefix, init=init)
        self.watch = watch
        self._init = dict(init or {})
        self._own: dict[str, Any] = {"id": new_id()}
        self.trainer: Any = None
        self.waiting: Any = None
        self._begun = False
        self._asked = False
        self._watching: Any = None
        self._rows: dict[Any, int] = {}
        self._held: tuple[int, dict[str, Any]] | None = None
        self._told: dict[str, Any] = {}
        self._checkpoints = Checkpoints()
        self._known: tuple[Path, str, str] | None = None
        self._loaded: tuple[int, int] | None = None
        """Step and epoch of the checkpoint that was loaded for this use of the Trainer."""

    # -- the run ---------------------------------------------------------------------------

    def place(self) -> tuple[Path, str, str]:
        """Root, project and id of the run: of the one there is, else of the one there will be."""
        runs = current.open_runs()
        run = self.handle.run or self.handle._given or (runs[-1] if runs else None)
        if run is not None:
            return run.root, run.project, run.id
        options = {**self._fields(), **self._init}
        project = options.get("project") or os.environ.get("TRACKWAY_PROJECT") or "default"
        id = options.get("id") or os.environ.get("TRACKWAY_RUN_ID") or ""
        given = options.get("dir")
        root = default_root() if given is None else Path(given).absolute()
        return usable(root, project, id), project, id

    def folder(self) -> str | None:
        """Where files may be put, below the run's project and id; None where Lightning says."""
        root, project, id = self.place()
        return str(root) if can_be_made(root / project / id) else None

    def _fields(self) -> dict[str, Any]:
        if "project" not in self._own and os.environ.get("TRACKWAY_RUN_ID"):
            return {}
        return self._own

    def ensure(self, *, asked: bool = False) -> bool:
        """There is a run to record into; ``asked`` for by the user, it stays until a training."""
        if not self._begun:
            self._drop_finished()
        if self.handle.run is None:
            self.handle.ensure(**self._fields())
            self._asked = asked
            self._keep()
        return self.handle.recording

    def _drop_finished(self) -> None:
        """Let go of a run that the program has finished meanwhile."""
        if self.handle.run is not None and self.handle.run._finished:
            self.handle.end()

    def run(self) -> Run | None:
        """The run, for the user."""
        self.ensure(asked=True)
        return self.handle.run

    def silent(self) -> Run:
        """A run that records nothing."""
        root, project, id = self.place()
        return DisabledRun(project, id, root)

    def adopt(self, state: Any) -> None:
        """Go on with the run that a checkpoint tells of, unless there is a reason for another."""
        other = self.handle._given is not None or self.handle.run is not None or "id" in self._init
        if other or os.environ.get("TRACKWAY_RUN_ID") or not isinstance(state, Mapping):
            return
        if state.get("id") and state.get("project"):
            self._own = {"id": state["id"], "project": state["project"]}

    def _keep(self) -> None:
        run = self.handle.run
        if run is None:
            return
        who = run.root, run.project, run.id
        if who != self._known:
            self._known = who
            self._told.clear()
            self._checkpoints.clear()
        if self.handle.owns:
            self._own = {"id": run.id, "project": run.project, "dir": run.root, "name": run.name}

    # -- the training ----------------------------------------------------------------------

    def begin(self, trainer: Any, module: Any, watch: bool | Mapping[str, Any] = False) -> None:
        """A use of the Trainer begins: tell what it is set up with, and of which model."""
        self.trainer = trainer
        self._loaded = loaded(trainer) or self._loaded
        if not self._begun:
            self._begun = True
            self._rows.clear()
            self._drop_finished()
            self.handle.begin(keep=True, **self._fields())
            end_with_process(self.handle)
            self._keep()
        run = self.handle.run
        if run is None or not self.handle.recording:
            return
        waiting, self.waiting = self.waiting, None
        if waiting is not None:
            self.handle.configure(hyperparameters(waiting))
        if trainer.training or "lightning" not in self._told:
            # A test after the training would tell of learning rates as they have become.
            self._tell("lightning", trainer_facts(trainer))
        facts = model_facts(module)
        if self._told.get("model") != facts:
            self._told["model"] = facts
            record_model(run, next(iter(named({"model": 0}, self.handle.prefix))), facts)
        watch = watch or self.watch
        if watch and self._watching is None and trainer.training:
            self._watch(run, module, {} if watch is True else dict(watch))

    def _tell(self, name: str, facts: dict[str, Any]) -> None:
        if self._told.get(name) != facts:
            self._told[name] = facts
            self.handle.configure({name: facts})

    def _watch(self, run: Run, module: Any, options: dict[str, Any]) -> None:
        step = self.trainer.global_step if self._loaded is None else self._loaded[0]
        options = {"prefix": self.handle.prefix, "start": step, **options}
        self._watching = run.watch(module, **options)

    def end(self, status: str, error: BaseException | None) -> None:
        """A use of the Trainer is over. A run of our own ends, any other one is written out."""
        self.release()
        run = self.handle.run
        self._checkpoints.sweep(run)
        callbacks = [] if self.trainer is None else self.trainer.checkpoint_callbacks
        self.handle.summarize(self._checkpoints.results(callbacks))
        self._unwatch()
        self.trainer = self._loaded = None
        failed = status != "success"
        if run is None or (self._asked and not self._begun and not failed):
            return
        self._begun = self._asked = False
        self._keep()
        if not self.handle.owns:
            run.flush()
        elif failed and error is None:
            run.finish(exit_code=1)
        self.handle.end(error)

    def _unwatch(self) -> None:
        watching, self._watching = self._watching, None
        close = getattr(watching, "close", None)
        if callable(close):
            close()

    # -- what is recorded ------------------------------------------------------------------

    def log(self, row: Mapping[str, Any], step: int | None, kind: Any = None) -> None:
        """Record a row, unless ``every`` leaves it out.

        Where Lightning puts ``epoch``, the optimizers' steps are put beside it: both are not in
        the rows of single validation batches, which are on an axis of their own.
        """
        if not self.ensure() or (self._thinned() and not self._due(kind or tuple(row))):
            return
        if self.trainer is not None and "epoch" in row and _STEP not in row:
            row = self._dated(row)
        held, self._held = self._held, None
        if held is not None:
            if held[0] == step and held[1].keys().isdisjoint(row):
                row = {**row, **held[1]}
            else:
                self.handle.log(held[1], held[0])
        self.handle.log(row, step)

    def _dated(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """With the optimizers' steps; both they and the epoch are those of loaded weights."""
        if self._loaded is not None and self.trainer.state.fn != "fit":
            return {**row, _STEP: self._loaded[0], "epoch": self._loaded[1]}
        return {**row, _STEP: self.trainer.global_step}

    def _thinned(self) -> bool:
        """Whether ``every`` applies: evaluations and whole epochs are always recorded."""
        return self.trainer is None or (self.trainer.training and within_batch(self.trainer))

    def hold(self, row: dict[str, Any], *, wait: bool) -> None:
        """Record a row of the callback's, together with that of the logger for the same step.

        Args:
            row: What the callback has to say of the batch that was just trained.
            wait: Whether Lightning may be about to log that batch; ``release`` comes in any case.
        """
        self.release()
        if self.ensure() and self._due("pace"):
            self._held = stepped(self.trainer), row
            if not wait:
                self.release()

    def release(self) -> None:
        """Record the row that is held, if nothing has come that it could go with."""
        held, self._held = self._held, None
        if held is not None:
            self.handle.log(held[1], held[0])

    def _due(self, kind: Any) -> bool:
        """Count a row; whether ``every`` leaves it in."""
        number = self._rows.get(kind, 0)
        self._rows[kind] = number + 1
        return self.handle.due(number)

    def log_at_step(self, row: Mapping[str, Any], back: int = 0, kind: Any = None) -> None:
        """Record a row at the step that Lightning itself logs with just now."""
        self.log(row, max(0, stepped(self.trainer) - back), kind)

    def hyperparameters(self, params: Any, metrics: Any) -> None:
        """Record hyperparameters, and what they have come to, if that is given."""
        self.waiting = None
        if self.ensure():
            self.handle.configure(hyperparameters(params))
            if metrics is not None:
                self.handle.summarize(hyperparameters(metrics))

    def loading(self, checkpoint: Mapping[str, Any]) -> None:
        """A checkpoint is being loaded."""
        self._loaded = checkpoint.get("global_step", 0), checkpoint.get("epoch", 0)

    def checkpoint(self, saved: Any) -> None:
        """Record what a ``ModelCheckpoint`` has just written, and what it has removed before."""
        if self.ensure():
            epoch = None if self.trainer is None else self.trainer.current_epoch
            self._checkpoints.saved(self.handle.run, saved, epoch)

    # -- copies ----------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        handle = self.handle
        if handle.run is None and handle._given is None and callers_run() is not None:
            handle = copy(handle)
            handle._given = callers_run()
        mine = {
            "handle": handle,
            "trainer": None,
            "waiting": None,
            "_held": None,
            "_watching": None,
            "_loaded": None,
        }
        return {**self.__dict__, **mine, "_begun": False, "_asked": False}
