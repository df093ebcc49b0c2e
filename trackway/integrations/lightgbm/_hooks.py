"""``TrackwayCallback``: a callback after each round, as ``train``, ``cv`` and ``fit`` take it.

It is called first in a round (``order``), so that no other callback can keep a round from it.
LightGBM has no hook for the end of a training; how it is noticed is in ``_ending``. What the
training was called with is in ``env``, and in the frame of ``train`` or ``cv``. Nothing happens at
import. Tried with LightGBM 4.7.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Final

from trackway.core._guard import guard
from trackway.core.run import Run
from trackway.integrations._base import requires
from trackway.integrations._boosting import Rounds, frame_of
from trackway.integrations.lightgbm._ending import Ending
from trackway.integrations.lightgbm._values import best, directions, effective, given, results, row

with requires("lightgbm"):
    from lightgbm.callback import EarlyStopException

__all__ = ["TrackwayCallback"]

_KINDS: Final = ("gain", "split")


class TrackwayCallback:
    """Records a training: pass it in ``callbacks``.

    Args:
        run: The run to record into; by default the current one, else one of its own.
        every: Record the rounds whose step is a multiple of it.
        prefix: Goes before the name of every metric, joined by ``/``.
        importance: The importance that orders the table of features (``gain`` or ``split``; both
            are recorded), or None for no table.

    Raises:
        ArgumentError: An argument is wrong.
    """

    before_iteration = False

    def __init__(
        self,
        run: Run | None = None,
        *,
        every: int = 1,
        prefix: str = "",
        importance: str | None = "gain",
    ) -> None:
        self.order = -sys.maxsize
        self._rounds = Rounds(
            "lightgbm", run, every=every, prefix=prefix, importance=importance, kinds=_KINDS
        )
        self._clear()

    def _clear(self) -> None:
        self._model: Any = None
        self._ending: Ending | None = None

    # -- hooks -----------------------------------------------------------------------------

    def __call__(self, env: Any) -> None:
        """A round is over: its row. The first one is also where the training begins."""
        first = env.iteration == env.begin_iteration
        if first or self._rounds.under_way:
            with guard("lightgbm"):
                if first:
                    self._begin(env)
                self._record(env, first)

    def end(self, stop: BaseException | None = None) -> None:
        """The training is over; called once more, it does nothing.

        Args:
            stop: The ``EarlyStopException`` or the error that ended it, if there was one.
        """
        with guard("lightgbm"):
            model, ending = self._model, self._ending
            self._clear()
            if ending is not None:
                ending.forget()
            early = stop if isinstance(stop, EarlyStopException) else None
            error = stop if early is None else None
            self._rounds.end(lambda: self._results(model, early), error)

    # -- what they record ------------------------------------------------------------------

    def _begin(self, env: Any) -> None:
        if self._ending is not None:
            self._ending.forget()
        self._clear()
        if not self._rounds.begin():
            return
        frame = frame_of("lightgbm.engine", ("train", "cv"))
        self._model = env.model
        self._ending = Ending(self._rounds.handle, frame, self.end, EarlyStopException)
        booster = _booster(env.model)
        with guard("lightgbm"):
            self._rounds.configure(
                {
                    **effective(booster.model_to_string(num_iteration=1)),
                    "n_features": booster.num_feature(),
                    **given(env, {} if frame is None else frame.f_locals),
                }
            )

    def _record(self, env: Any, first: bool) -> None:
        found = results(env.evaluation_result_list)
        if first:
            self._rounds.aims(directions(found))
        self._rounds.add(env.iteration, row(found))
        if self._ending is not None and not self._ending.behind:
            self._ending.after_round(env)

    def _results(self, model: Any, early: EarlyStopException | None) -> Mapping[str, Any]:
        if _booster(model) is model and self._rounds.wants_importances:
            with guard("lightgbm"):
                rounds = None if early is None else early.best_iteration + 1
                kinds = {kind: model.feature_importance(kind, rounds).tolist() for kind in _KINDS}
                self._rounds.importances(model.feature_name(), kinds)
        return {} if early is None else best(early.best_iteration + 1, early.best_score)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_model": None, "_ending": None}


def _booster(model: Any) -> Any:
    """The booster; of a cross-validation, that of the first fold."""
    folds = getattr(model, "boosters", None)
    return folds[0] if isinstance(folds, list) else model
