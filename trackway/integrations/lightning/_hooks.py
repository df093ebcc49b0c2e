"""A ``Logger`` and a ``Callback``: the two places where Lightning offers to be listened to.

The logger gets what is logged, hyperparameters, the model and the checkpoints, with the steps
that Lightning gives them. The callback sees what no logger is told: learning rates, throughput,
the run that a checkpoint belongs to. Either works without the other.

``lightning`` and ``pytorch_lightning`` each have classes of their own, and neither takes the
other's for granted. So these here inherit from those of every package that is loaded when they
are first used, and the other package is never imported.

Tested with 2.6.6, under both names; no patching, nothing happens at import.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final

from trackway.core._guard import guard
from trackway.core.run import Run
from trackway.integrations._base import requires
from trackway.integrations.lightning._callback import CallbackHooks
from trackway.integrations.lightning._session import Session, elsewhere

__all__ = ["TrackwayCallback", "TrackwayLogger"]

_PACKAGES: Final = {"lightning": "lightning.pytorch", "pytorch_lightning": "pytorch_lightning"}


def _loaded() -> list[str]:
    """The packages that the program uses already; else the one that there is."""
    found = [full for name, full in _PACKAGES.items() if sys.modules.get(name) is not None]
    if found:
        return found
    try:
        import_module("lightning")
    except ModuleNotFoundError as error:
        if error.name != "lightning":
            raise
        return [_PACKAGES["pytorch_lightning"]]
    return [_PACKAGES["lightning"]]


def _base(module: str, name: str) -> Any:
    bases = [getattr(import_module(f"{package}.{module}"), name) for package in _loaded()]
    return bases[0] if len(bases) == 1 else type(name, tuple(bases), {})


with requires("lightning"):
    _Logger: Any = _base("loggers.logger", "Logger")
    _Callback: Any = _base("callbacks.callback", "Callback")


class TrackwayLogger(_Logger):
    """Records everything that a ``Trainer`` or a ``Fabric`` logs, with its own steps.

    The run is the one passed in, else the current one, else its own. That one is opened when
    there is something to record, and finished when the Trainer has done what it was asked to;
    what the same logger records after that is the run's next attempt.

    Args:
        run: The run to record into; it is left open.
        every: Record each n-th row of training batches, of those with the same names; evaluations
            and whole epochs are always recorded.
        prefix: Goes before the name of every metric, joined by ``/``.
        watch: Watch the gradients of the model that is fitted; options of ``Run.watch`` if it
            is a mapping.
        init: Arguments of ``trackway.init`` for a run of its own.

    Raises:
        ArgumentError: An argument is wrong.
    """

    def __init__(
        self,
        run: Run | None = None,
        *,
        every: int = 1,
        prefix: str = "",
        watch: bool | Mapping[str, Any] = False,
        init: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self._session = Session(run, every, prefix, watch, init)
        self._aside: str | None = None
        """Set where nobody asked for a logger: then files go where they go without one."""

    @property
    def name(self) -> str:
        """The run's project."""
        return self._session.place()[1] if self._aside is None else ""

    @property
    def version(self) -> str:
        """The run's id, known before the run is opened."""
        return self._session.place()[2] if self._aside is None else ""

    @property
    def save_dir(self) -> str | None:
        """The folder of all runs: checkpoints without a ``dirpath`` go into the run's own.

        None where nothing can be written there: then they go where they go without a logger.
        """
        return self._session.folder() if self._aside is None else self._aside

    @property
    def experiment(self) -> Run:
        """The run; on ranks other than zero one that records nothing.

        Before each use of a Trainer, Lightning reads this so that every logger makes its run.
        Which run it is may be known only after that, from a checkpoint, and for predictions
        there need not be any: none is opened then.
        """
        caller = sys._getframe(1).f_globals.get("__name__", "")
        run = None if elsewhere() else self._session.handle.run
        if run is None and not elsewhere() and caller not in _SETUP:
            run = self._session.run()
        return run or self._session.silent()

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Record a row at the step that Lightning gives it."""
        with guard("lightning"):
            if not elsewhere():
                self._session.log(metrics, step)

    def log_hyperparams(self, params: Any, metrics: Any = None, *args: Any, **kwargs: Any) -> None:
        """Record hyperparameters; metrics given with them go into the summary.

        What Lightning itself hands over waits for ``log_graph``, which it calls next: only that
        tells what the Trainer is about to do.
        """
        caller = sys._getframe(1).f_globals.get("__name__", "")
        with guard("lightning"):
            if caller in _SETTINGS:
                self._session.waiting = params
            elif not elsewhere():
                self._session.hyperparameters(params, metrics)

    def log_graph(self, model: Any, input_array: Any = None) -> None:
        """Record what the model is made of, and what its Trainer is set up with; runs nothing."""
        with guard("lightning"):
            trainer = getattr(model, "_trainer", None)
            if trainer is not None and not trainer.predicting and not elsewhere():
                self._session.begin(trainer, model)

    def after_save_checkpoint(self, checkpoint_callback: Any) -> None:
        """Record where the checkpoint lies, and which one is the best."""
        with guard("lightning"):
            if not elsewhere():
                self._session.checkpoint(checkpoint_callback)

    def save(self) -> None:
        """Do nothing: every row is written when it is logged."""

    def finalize(self, status: str) -> None:
        """Finish the run if it is our own, as failed if it was left by an exception."""
        with guard("lightning"):
            self._session.end(status, None if status == "success" else sys.exc_info()[1])


_SETUP: Final = tuple(f"{package}.trainer.call" for package in _PACKAGES.values())
"""Where Lightning reads ``experiment`` of every logger."""

_SETTINGS: Final = tuple(f"{package}.loggers.utilities" for package in _PACKAGES.values())
"""Where Lightning hands hyperparameters over, and then the model."""


class TrackwayCallback(CallbackHooks, _Callback):
    """Records what no logger is told; beside a ``TrackwayLogger``, into the same run.

    Learning rates, steps and samples a second, seconds an epoch. And it puts the run into every
    checkpoint: ``fit(ckpt_path=...)`` goes on with it.

    Args:
        run: The run to record into. This, ``every`` and ``prefix`` are those of the logger where
            there is one.
        every: Record each n-th row of training batches; whole epochs are always recorded.
        prefix: Goes before the name of every metric, joined by ``/``.
        watch: Watch the gradients of the model that is fitted; options of ``Run.watch`` if it
            is a mapping.

    Raises:
        ArgumentError: An argument is wrong.
    """
