"""``TrackwayCallback``: a ``TrainingCallback``, which ``train``, ``cv`` and the estimators take.

Hooks: ``before_training`` opens, ``after_iteration`` records the round, ``after_training`` ends.
A callback that stands before this one and stops the training keeps the round from it; the round
is then recorded by ``after_training`` out of the history, which is one object all along. What the
training was called with is read from the frame of ``train`` or ``cv``. Nothing is patched, nothing
happens at import. Tried with XGBoost 3.2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from trackway.core._guard import guard
from trackway.core.run import Run
from trackway.integrations._base import requires
from trackway.integrations._boosting import Rounds, frame_of
from trackway.integrations.xgboost._values import directions, effective, given, row

with requires("xgboost"):
    import xgboost
    from xgboost import collective

__all__ = ["TrackwayCallback"]

_KINDS: Final = ("weight", "gain", "cover", "total_gain", "total_cover")


class TrackwayCallback(xgboost.callback.TrainingCallback):
    """Records a training: pass it in ``callbacks``.

    Args:
        run: The run to record into; by default the current one, else one of its own.
        every: Record the rounds whose step is a multiple of it.
        prefix: Goes before the name of every metric, joined by ``/``.
        importance: The importance that orders the table of features (``gain``, ``weight``,
            ``cover``, ``total_gain``, ``total_cover``; all are recorded), or None for no table.

    Raises:
        ArgumentError: An argument is wrong.
    """

    def __init__(
        self,
        run: Run | None = None,
        *,
        every: int = 1,
        prefix: str = "",
        importance: str | None = "gain",
    ) -> None:
        super().__init__()
        self._rounds = Rounds(
            "xgboost", run, every=every, prefix=prefix, importance=importance, kinds=_KINDS
        )
        self._clear()

    def _clear(self) -> None:
        self._given: dict[str, Any] | None = None
        self._history: Mapping[str, Mapping[str, Sequence[Any]]] = {}
        self._offset = 0  # the step of the training's first round
        self._next = 0  # the training's own index of the round that is recorded next

    # -- hooks -----------------------------------------------------------------------------

    def before_training(self, model: Any) -> Any:
        """The training begins."""
        with guard("xgboost"):
            self._clear()
            if collective.get_rank() == 0 and self._rounds.begin():
                frame = frame_of("xgboost.training", ("train", "cv"))
                self._given = {} if frame is None else given(frame.f_locals)
                self._rounds.configure(self._given)
        return model

    def before_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        """A round begins."""
        self._history = evals_log
        return False

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        """A round is over: its row."""
        if self._rounds.under_way:
            with guard("xgboost"):
                self._history = evals_log
                if self._next == 0:
                    self._start(model, epoch)
                self._record(epoch)
        return False

    def after_training(self, model: Any) -> Any:
        """The training is over."""
        with guard("xgboost"):
            self._rounds.end(lambda: self._results(model))
            self._clear()
        return model

    # -- what they record ------------------------------------------------------------------

    def _start(self, model: Any, epoch: int) -> None:
        """After the first round: the booster has set itself up, and the metrics are known."""
        booster = _booster(model)
        self._offset = booster.num_boosted_rounds() - 1 - epoch
        self._rounds.aims(directions(self._history, (self._given or {}).get("maximize")))
        with guard("xgboost"):
            self._rounds.configure(
                {
                    **effective(booster.save_config()),
                    "n_features": booster.num_features(),
                    **(self._given or {}),
                }
            )

    def _record(self, epoch: int) -> None:
        """The rows up to that round."""
        while self._next <= epoch:
            index, self._next = self._next, self._next + 1
            self._rounds.add(self._offset + index, row(self._history, index))

    def _results(self, model: Any) -> dict[str, Any]:
        seen = max(
            (len(v) for metrics in self._history.values() for v in metrics.values()), default=0
        )
        if seen > self._next:  # another callback ended the training before this one was told
            if self._next == 0:
                self._start(model, seen - 1)
            self._record(seen - 1)
        booster = _booster(model)
        if booster is model and self._rounds.wants_importances:
            with guard("xgboost"):
                self._rounds.importances(*_importances(model))
        best = booster.attributes()
        if "best_iteration" not in best:
            return {}
        return {
            "best_iteration": int(best["best_iteration"]),
            "best_score": float(best["best_score"]),
        }

    def __getstate__(self) -> dict[str, Any]:
        copy = TrackwayCallback.__new__(TrackwayCallback)
        copy.__dict__.update(self.__dict__)
        copy._clear()
        return copy.__dict__


def _booster(model: Any) -> Any:
    """The booster; of a cross-validation, that of the first fold."""
    folds = getattr(model, "cvfolds", None)
    return folds[0].bst if folds else model


def _importances(booster: Any) -> tuple[list[str], dict[str, list[float]]]:
    """The features and their importances; a feature that is in no tree has 0."""
    features = booster.feature_names or [f"f{i}" for i in range(booster.num_features())]
    found: dict[str, list[float]] = {}
    for kind in _KINDS:
        try:
            scores = booster.get_score(importance_type=kind)
        except xgboost.core.XGBoostError:  # a linear booster has weights only
            continue
        found.update(_columns(features, kind, scores))
    return features, found


def _columns(features: Sequence[str], kind: str, scores: dict[str, Any]) -> dict[str, list[float]]:
    """One column; of a linear booster with several outputs, one for each."""
    width = max((len(v) for v in scores.values() if isinstance(v, list)), default=0)
    if not width:
        return {kind: [scores.get(feature, 0.0) for feature in features]}
    absent = [0.0] * width
    return {
        f"{kind}_{i}": [scores.get(feature, absent)[i] for feature in features]
        for i in range(width)
    }
