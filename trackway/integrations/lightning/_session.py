"""What the logger and the callback share: the run, and what has been told of the training."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trackway.backend.file.folder import default_root
from trackway.core import current
from trackway.core._guard import note
from trackway.core._names import new_id
from trackway.core.disabled import DisabledRun
from trackway.core.records import record_checkpoint, record_model
from trackway.core.run import Run
from trackway.integrations._base import RunHandle, named
from trackway.integrations.lightning._values import (
    hyperparameters,
    model_facts,
    stepped,
    trainer_facts,
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
        every: Record each n-th row of a kind.
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
        self._given = run is not None
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
        self._saved: dict[str, dict[str, Any]] = {}
        self._best: dict[str, Any] = {}

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
        root = options.get("dir")
        return (default_root() if root is None else Path(root).absolute()), project, id

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
        other = self._given or self.handle.run is not None or "id" in self._init
        if other or os.environ.get("TRACKWAY_RUN_ID") or not isinstance(state, Mapping):
            return
        if state.get("id") and state.get("project"):
            self._own = {"id": state["id"], "project": state["project"]}

    def _keep(self) -> None:
        run = self.handle.run
        if run is not None and self.handle.owns:
            self._own = {"id": run.id, "project": run.project, "dir": run.root, "name": run.name}

    # -- the training ----------------------------------------------------------------------

    def begin(self, trainer: Any, module: Any, watch: bool | Mapping[str, Any] = False) -> None:
        """A use of the Trainer begins: tell what it is set up with, and of which model."""
        self.trainer = trainer
        if not self._begun:
            self._begun = True
            self._rows.clear()
            self._drop_finished()
            self.handle.begin(keep=True, **self._fields())
            self._keep()
        run = self.handle.run
        if run is None or not self.handle.recording:
            return
        waiting, self.waiting = self.waiting, None
        if waiting is not None:
            self.handle.configure(hyperparameters(waiting))
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
        watch = getattr(run, "watch", None)
        if watch is None:
            note("lightning", "watch", "watch=True: this release has no Run.watch; it is left out.")
            return
        if self.handle.prefix:
            options.setdefault("prefix", self.handle.prefix)
        self._watching = watch(module, **options)

    def end(self, status: str, error: BaseException | None) -> None:
        """A use of the Trainer is over. A run of our own ends, any other one is written out."""
        self.release()
        self._sweep()
        if self._best:
            self.handle.summarize(self._best)
        self._unwatch()
        self.trainer = None
        run = self.handle.run
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
        if not self.ensure() or not self._due(kind or tuple(row)):
            return
        if self.trainer is not None and "epoch" in row and _STEP not in row:
            row = {**row, _STEP: self.trainer.global_step}
        held, self._held = self._held, None
        if held is not None:
            if held[0] == step and held[1].keys().isdisjoint(row):
                row = {**row, **held[1]}
            else:
                self.handle.log(held[1], held[0])
        self.handle.log(row, step)

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

    def checkpoint(self, saved: Any) -> None:
        """Record what a ``ModelCheckpoint`` has just written, and what it has removed before."""
        if not self.ensure():
            return
        best, last = _path(saved, "best_model_path"), _path(saved, "last_model_path")
        path = _path(saved, "_last_checkpoint_saved") or last or best
        kept = {"best_model_path": best, "last_model_path": last}
        self._best = {name: value for name, value in kept.items() if value}
        score = getattr(saved, "best_model_score", None)
        if score is not None:
            self._best["best_model_score"] = _number(score)
        self._sweep()
        if not path:
            return
        about = {
            "step": getattr(saved, "_last_global_step_saved", None),
            "epoch": None if self.trainer is None else self.trainer.current_epoch,
            "score": _number(getattr(saved, "current_score", None)),
            "metric": getattr(saved, "monitor", None),
        }
        self._saved[path] = about
        run = self.handle.run
        if run is not None:
            aliases = ["latest", "best"] if path == best else ["latest"]
            record_checkpoint(run, path, aliases=aliases, **about)

    def _sweep(self) -> None:
        """Record which of the checkpoints are not there any more."""
        run = self.handle.run
        for path in [path for path in self._saved if not Path(path).exists()]:
            about = self._saved.pop(path)
            if run is not None:
                record_checkpoint(run, path, removed=True, **about)

    # -- copies ----------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        mine = {
            "trainer": None,
            "waiting": None,
            "_held": None,
            "_watching": None,
            "_begun": False,
            "_asked": False,
        }
        return {**self.__dict__, **mine, "_begun": False, "_asked": False}


def _path(saved: Any, name: str) -> str:
    return str(getattr(saved, name, None) or "")


def _number(score: Any) -> Any:
    return score.item() if hasattr(score, "item") else score
