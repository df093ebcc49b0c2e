"""The records of a run: one each of a fit, of an incremental training, of a cross-validation."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Mapping
from typing import Any, Final, Protocol

from trackway.core.records import record_model, record_table
from trackway.core.run import Run
from trackway.integrations._base import RunHandle, named
from trackway.integrations.sklearn import _values
from trackway.integrations.sklearn._score import Scoring

__all__ = ["Fit", "Increment", "Ledger", "Record", "Validation", "ledger_of"]

_DATA: Final = ("X", "raw_documents", "X_", "Y")


class Record(Protocol):
    """One outermost call."""

    estimator: Any

    def after(self, result: Any, seconds: float) -> None:
        """The call has returned."""


class Ledger:
    """What is counted within one run: outermost calls, those of each class, incremental ones."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls = 0
        self._of_class: dict[str, int] = {}
        self._increments: dict[int, Counted] = {}
        self._said: dict[str, Any] = {}

    def next_call(self) -> int:
        """The number of an outermost call: the first is 1."""
        with self._lock:
            self._calls += 1
            return self._calls

    def next_name(self, kind: str) -> str:
        """What the series of a class are called: the first by its name, later ones numbered."""
        with self._lock:
            number = self._of_class[kind] = self._of_class.get(kind, 0) + 1
        return kind if number == 1 else f"{kind}/{number}"

    def counted(self, estimator: Any) -> Counted:
        """The count of one incremental estimator."""
        found = self._increments.get(id(estimator))
        if found is None or found.estimator() is not estimator:
            name = self.next_name(type(estimator).__name__)
            found = self._increments[id(estimator)] = Counted(estimator, name)
        return found

    def is_news(self, name: str, said: Any) -> bool:
        """Whether this differs from what was said last under the name."""
        if self._said.get(name) == said:
            return False
        self._said[name] = said
        return True


class Counted:
    """One incremental estimator: calls of ``partial_fit`` and rows so far."""

    __slots__ = ("calls", "estimator", "name", "rows")

    def __init__(self, estimator: Any, name: str) -> None:
        self.estimator = weakref.ref(estimator)
        self.name = name
        self.calls = 0
        self.rows = 0


_ledgers: weakref.WeakKeyDictionary[Run, Ledger] = weakref.WeakKeyDictionary()
_ledgers_lock = threading.Lock()


def ledger_of(run: Run) -> Ledger:
    """The ledger of a run, shared by all that record into it here."""
    ledger = _ledgers.get(run)
    if ledger is None:
        with _ledgers_lock:
            ledger = _ledgers.setdefault(run, Ledger())
    return ledger


class Fit:
    """An outermost ``fit``, ``fit_transform`` or ``fit_predict``.

    Args:
        handle: Where it is recorded.
        ledger: What is counted in that run.
        estimator: What is fitted.
        args: What it is called with, itself first.
        kwargs: The same by name.
        lean: Another integration records this training: no parameters, no results.
        scoring: Takes the training score.
    """

    def __init__(
        self,
        handle: RunHandle,
        ledger: Ledger,
        estimator: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        lean: bool,
        scoring: Scoring | None,
    ) -> None:
        self.estimator = estimator
        self._handle = handle
        self._ledger = ledger
        self._lean = lean
        self._scoring = scoring
        self._data = _data(args, kwargs)
        self._target = args[2] if len(args) > 2 else kwargs.get("y")
        self._kind = type(estimator).__name__
        self._step = ledger.next_call()
        self._name = ledger.next_name(self._kind)
        _configure(handle, ledger, self._kind, estimator, self._data, lean)

    def after(self, result: Any, seconds: float) -> None:
        """Record what came of it."""
        kind, estimator = self._kind, self.estimator
        row: dict[str, float] = {"fit_s": seconds}
        learned = _values.learner(estimator)
        if not self._lean:
            row.update(_values.results(learned))
            if self._scoring is not None:
                score = self._scoring.score(estimator, self._data, self._target, seconds)
                if score is not None:
                    row["training_score"] = score
        self._handle.log(named(row, kind), self._step)
        if self._lean:
            return
        for iteration, values in _values.series(learned).items():
            if self._handle.due(iteration):
                self._handle.log(named(values, self._name), iteration)
        if isinstance(getattr(estimator, "cv_results_", None), Mapping):
            self._search()
        self._model(learned)

    def _search(self) -> None:
        columns, about = _values.search_table(self.estimator)
        _table(self._handle, f"{self._kind}/cv_results_", columns, self._step, "search", about)
        self._handle.summarize(named(_values.search_results(self.estimator), self._kind))

    def _model(self, learned: Any) -> None:
        about = _values.model_facts(learned)
        if learned is not self.estimator:
            about["within"] = self._kind
        run = self._handle.run
        if run is not None and self._ledger.is_news(f"model {self._kind}", about):
            record_model(run, _prefixed(self._handle, self._kind), about)


class Increment:
    """One call of ``partial_fit``: a point each, at the number of the estimator's call."""

    def __init__(
        self,
        handle: RunHandle,
        ledger: Ledger,
        estimator: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        lean: bool,
    ) -> None:
        self.estimator = estimator
        self._handle = handle
        self._lean = lean
        self._counted = counted = ledger.counted(estimator)
        data = _data(args, kwargs)
        counted.calls += 1
        counted.rows += _rows(data)
        if counted.calls == 1:
            _configure(handle, ledger, type(estimator).__name__, estimator, data, lean)

    def after(self, result: Any, seconds: float) -> None:
        """Record how far it is."""
        counted = self._counted
        if not self._handle.due(counted.calls):
            return
        row: dict[str, float] = {"partial_fit_s": seconds, "n_samples": counted.rows}
        if not self._lean:
            row.update(_values.progress(self.estimator))
        self._handle.log(named(row, counted.name), counted.calls)


class Validation:
    """A call of ``cross_validate`` or one of its siblings."""

    def __init__(
        self,
        handle: RunHandle,
        ledger: Ledger,
        function: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        self.estimator = args[0] if args else kwargs.get("estimator")
        self._handle = handle
        self._function = function
        self._step = ledger.next_call()
        self._kind = type(self.estimator).__name__
        data = args[1] if len(args) > 1 else kwargs.get("X")
        _configure(handle, ledger, self._kind, self.estimator, data, False)

    def after(self, result: Any, seconds: float) -> None:
        """Record its scores as one table, their means and deviations as results."""
        from trackway.integrations.sklearn._validation import summary_of, table_of

        place = f"{self._kind}/{self._function}"
        self._handle.log({f"{place}_s": seconds}, self._step)
        columns, about = table_of(self._function, result)
        if columns:
            _table(self._handle, place, columns, self._step, self._function, about)
        self._handle.summarize(named(summary_of(self._function, result), self._kind))


# -- what they share ------------------------------------------------------------------------


def _data(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    if len(args) > 1:
        return args[1]
    return next((kwargs[name] for name in (*_DATA, "y") if name in kwargs), None)


def _rows(data: Any) -> int:
    shape = getattr(data, "shape", None)
    if shape:
        return int(shape[0])
    return len(data) if hasattr(data, "__len__") else 0


def _prefixed(handle: RunHandle, name: str) -> str:
    return next(iter(named({name: None}, handle.prefix)))


def _table(
    handle: RunHandle,
    name: str,
    columns: Mapping[str, list[Any]],
    step: int,
    kind: str,
    about: Mapping[str, object],
) -> None:
    run = handle.run
    if run is not None:
        record_table(run, _prefixed(handle, name), columns, step=step, kind=kind, about=about)


def _configure(
    handle: RunHandle, ledger: Ledger, kind: str, estimator: Any, data: Any, lean: bool
) -> None:
    """The parameters under ``sklearn.<class>``, beside those of other classes."""
    facts = _values.data_facts(data)
    found = {"data": facts} if lean else {**_values.parameters(estimator), "data": facts}
    if ledger.is_news(f"{handle.prefix} sklearn {kind}", found):
        handle.configure_at(("sklearn", kind), found)
