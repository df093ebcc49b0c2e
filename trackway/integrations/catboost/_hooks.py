"""``TrackwayCallback``: an object with ``after_iteration``, as ``fit`` takes it.

It returns True, which to CatBoost means that training goes on. CatBoost has this one hook and none
for the end of a training: that is noticed by the method that it calls on the model when training
has succeeded, which is patched while a training is under way and put back with its end. What the
training was called with is read from the frame of ``CatBoost._fit``. Nothing happens at import.
Tried with CatBoost 1.2.10.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from trackway.core._guard import guard
from trackway.core.run import Run
from trackway.integrations._base import requires
from trackway.integrations._boosting import Rounds, frame_of
from trackway.integrations._patch import Call, Patches
from trackway.integrations.catboost._values import best, cross_validated, given, grown, histories

with requires("catboost"):
    from catboost import CatBoost, CatBoostError
    from catboost.core import is_maximizable_metric

__all__ = ["TrackwayCallback"]

_KINDS: Final = ("PredictionValuesChange",)


class TrackwayCallback:
    """Records a training: pass it in ``callbacks`` of ``fit``.

    Args:
        run: The run to record into; by default the current one, else one of its own.
        every: Record the rounds whose step is a multiple of it.
        prefix: Goes before the name of every metric, joined by ``/``.
        importance: The importance in the table of features (``PredictionValuesChange``), or None
            for no table.
        live: For ``autolog`` alone, where False is the default: everything is recorded when the
            training has succeeded. CatBoost hands callbacks all values so far in every round,
            which costs in long trainings.

    Raises:
        ArgumentError: An argument is wrong.
    """

    def __init__(
        self,
        run: Run | None = None,
        *,
        every: int = 1,
        prefix: str = "",
        importance: str | None = "PredictionValuesChange",
        live: bool = True,
    ) -> None:
        self.live = live
        self._rounds = Rounds(
            "catboost",
            run,
            every=every,
            prefix=prefix,
            importance=importance,
            kinds=_KINDS,
            roots=("catboost", "_catboost"),
        )
        self._clear()

    def _clear(self) -> None:
        self._given: dict[str, Any] = {}
        self._awaited = 0  # the model whose training calls no callback, by its number
        self._fit = 0  # the frame of the training, by its number: holding it would hold the data
        self._offset = 0  # the step of the training's first round
        self._seen: dict[str, int] = {}

    # -- hooks -----------------------------------------------------------------------------

    def after_iteration(self, info: Any) -> bool:
        """A round is over: its row. The first one is also where the training begins."""
        with guard("catboost"):
            if info.iteration == 1 or not self._fit:
                self._begin()
            if self._rounds.under_way:
                self._record(self._offset + info.iteration - 1, grown(info.metrics, self._seen))
        return True

    def fitted(self, model: Any) -> None:
        """A training has succeeded; nothing happens if it is not this one's."""
        if not self._rounds.under_way:
            return
        frame = frame_of("catboost.core", ("_fit",))
        if self._awaited == id(model):
            self.record(model, None if frame is None else frame.f_locals)
        elif self._fit and self._fit == id(frame):
            self.end(model)

    def end(self, model: Any = None, error: BaseException | None = None) -> None:
        """The training is over; called once more, it does nothing."""
        with guard("catboost"):
            told = self._given
            self._clear()
            _forget(self)
            self._rounds.end(None if model is None else lambda: self._results(model, told), error)

    # -- trainings that are recorded from outside, by autolog ------------------------------

    def begin(self, model: Any = None) -> None:
        """A training begins that calls no callback: of this model, or of ``cv``."""
        with guard("catboost"):
            if self._rounds.begin(timed=False) and model is not None:
                self._awaited = id(model)
                self._rounds.configure(given({"params": model.get_params()}))
                _watch(self)

    def record(self, model: Any, call: Mapping[str, Any] | None = None) -> None:
        """It is over: everything from the trained model, and from what ``_fit`` works with."""
        if self._rounds.under_way:
            with guard("catboost"):
                call = {"params": model.get_params()} if call is None else call
                self._given = given(call)
                self._rounds.configure(self._given)
                first = _trees_before(call)
                effective = model.get_all_params()
                period = int(self._given.get("metric_period") or 1)
                rows = histories(model.get_evals_result(), period, effective["iterations"])
                for step, values in rows:
                    self._record(first + step, values)
            self.end(model)

    def record_cv(self, results: Any, settings: Mapping[str, Any]) -> None:
        """It is over: everything from what ``cv`` returned and what it was called with."""
        if self._rounds.under_way:
            with guard("catboost"):
                self._rounds.configure(settings)
                for step, values in cross_validated(results):
                    self._record(step, values)
            self.end()

    # -- what they record ------------------------------------------------------------------

    def _begin(self) -> None:
        self._clear()
        _forget(self)
        frame = frame_of("catboost.core", ("_fit",))
        self._fit = id(frame)
        if not self._rounds.begin() or frame is None:
            return
        call = frame.f_locals
        self._offset = _trees_before(call)
        with guard("catboost"):
            self._given = given(call)
            self._rounds.configure(self._given)
        _watch(self)

    def _record(self, step: int, values: dict[str, Any]) -> None:
        if self._rounds.last is None:
            self._rounds.aims(_directions(values))
        self._rounds.add(step, values)

    def _results(self, model: Any, told: Mapping[str, Any]) -> dict[str, Any]:
        with guard("catboost"):
            self._rounds.configure({**model.get_all_params(), **told})
        if self._rounds.wants_importances:
            with guard("catboost"):
                self._importances(model)
        return best(model)

    def _importances(self, model: Any) -> None:
        if not model._object._has_leaf_weights_in_model():
            return  # it would have to go through the training data again
        kinds = {kind: model.get_feature_importance(type=kind).tolist() for kind in _KINDS}
        self._rounds.importances(model.feature_names_, kinds)

    def __getstate__(self) -> dict[str, Any]:
        copy = TrackwayCallback.__new__(TrackwayCallback)
        copy.__dict__.update(self.__dict__)
        copy._clear()
        return copy.__dict__


def _trees_before(call: Mapping[str, Any]) -> int:
    """How many trees the model has that the training goes on with."""
    started = (call.get("train_params") or {}).get("init_model")
    return 0 if started is None else int(started.tree_count_)


def _directions(names: Iterable[str]) -> dict[str, bool | None]:
    """Whether more is better, as CatBoost says it of its own metrics."""
    found: dict[str, bool | None] = {}
    for name in names:
        metric = name.partition("/")[2].removesuffix("_std")
        try:
            found[name] = None if name.endswith("_std") else is_maximizable_metric(metric)
        except CatBoostError:  # the user's own metric
            found[name] = None
    return found


# -- the end of a training ---------------------------------------------------------------------

_patches = Patches("catboost")
_waiting: list[TrackwayCallback] = []


def _watch(callback: TrackwayCallback) -> None:
    # A training that was left by an exception told nobody; its handle has no run any more.
    _waiting[:] = [other for other in _waiting if other._rounds.handle.run is not None]
    _waiting.append(callback)
    name = "_set_trained_model_attributes"
    owner = next(base for base in CatBoost.__mro__ if name in base.__dict__)
    _patches.enabled = True
    _patches.wrap(owner, name, after=_trained)


def _trained(call: Call) -> None:
    if call.error is None:
        for callback in list(_waiting):
            callback.fitted(call.args[0])


def _forget(callback: TrackwayCallback) -> None:
    if callback in _waiting:
        _waiting.remove(callback)
    if not _waiting:
        _patches.undo()
