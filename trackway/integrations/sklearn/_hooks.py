"""``watch``: every outermost call of ``fit`` and its like becomes one record.

scikit-learn has no callback that all estimators know, so the methods themselves are wrapped while
something watches (``_install``), and put back when nothing does. ``sklearn.callback`` is not used:
six estimators of two hundred take such callbacks, they stay on the user's estimator and in its
pickles, and the loss of an iteration is given only with arguments that make each one dearer.

Versions: ``_versions.py``.
"""

from __future__ import annotations

import copy
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import nullcontext
from types import TracebackType
from typing import Any, Final

from trackway.core._guard import guard
from trackway.core.run import Run
from trackway.errors import ArgumentError
from trackway.integrations._base import RunHandle, joinable, requires, searching
from trackway.integrations.sklearn import _records
from trackway.integrations.sklearn._install import FUNCTIONS, begin_watching, end_watching
from trackway.integrations.sklearn._others import recorded_elsewhere
from trackway.integrations.sklearn._score import Scoring

with requires("sklearn"):
    from sklearn.base import BaseEstimator

__all__ = ["watch"]

_PREDICTS: Final = ("predict", "fit_predict", "score", "decision_function", "kneighbors")


class watch:  # noqa: N801 - reads as a statement: ``with watch():``
    """Record every outermost fit while it is open: with it as a context, or from ``open()`` on.

    A call counts as outermost unless scikit-learn itself makes it: the steps of a pipeline, the
    candidates of a search and the folds of a cross-validation belong to the call around them.

    Args:
        run: The run; by default the current one, else one that is opened at the first fit, and
            ended by ``close()``, or as failed by a fit that raises.
        every: Of series that have one point an iteration, and of calls of ``partial_fit``: record
            each n-th.
        prefix: Goes before the name of every metric.
        training_score: Score sklearn's own classifiers and regressors on rows of the training
            data after a fit, where that is cheap.

    Raises:
        ArgumentError: An argument is wrong.
    """

    def __init__(
        self,
        run: Run | None = None,
        *,
        every: int = 1,
        prefix: str = "",
        training_score: bool = True,
    ) -> None:
        if not isinstance(training_score, bool):
            raise ArgumentError(f"training_score={training_score!r}: it is True or False")
        self._handle = RunHandle("sklearn", run, prefix=prefix, every=every)
        self._given = run
        self._scoring = Scoring(training_score)
        self.thread = 0
        self.standing = False
        self._calls = 0
        self._error: BaseException | None = None
        self._last: Callable[[], Any] = _nothing
        self._lock = threading.RLock()
        self._threads: threading.local | None = None
        self._others: weakref.WeakSet[watch] = weakref.WeakSet()

    # -- from when to when -----------------------------------------------------------------

    def open(self) -> watch:
        """Begin to record, in every thread; what was opened last wins."""
        self.thread = threading.get_ident()
        begin_watching(self, BaseEstimator)
        return self

    def close(self) -> None:
        """Record no more, and end the run if it was opened here."""
        end_watching(self)
        for each in (self, *self._others):
            with guard("sklearn"):
                each._handle.end()

    def _opened_by_autolog(self) -> watch:
        """Open for all trainings to come: a run of its own lasts as long as one of them.

        Trainings in several threads at once have a run each: each thread has a copy of this.
        """
        self.standing = True
        self._threads = threading.local()
        return self.open()

    def _here(self) -> watch:
        """What watches in this thread."""
        if self._threads is None:
            return self
        mine: watch | None = getattr(self._threads, "watch", None)
        if mine is None:
            mine = self._threads.watch = copy.copy(self)
            mine._handle = copy.deepcopy(self._handle)
            mine.standing = True
            self._others.add(mine)
        return mine

    def __enter__(self) -> watch:
        return self.open()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        end_watching(self)
        with guard("sklearn"):
            self._handle.end(error)

    def __getstate__(self) -> dict[str, Any]:
        fresh = {"_lock": None, "_last": None, "_error": None, "_calls": 0, "thread": 0}
        alone = {"_threads": None, "_others": None}
        return {**self.__dict__, **fresh, **alone, "standing": False}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(
            state, _lock=threading.RLock(), _last=_nothing, _others=weakref.WeakSet()
        )

    # -- one call --------------------------------------------------------------------------

    def outermost(
        self, original: Callable[..., Any], name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Call the original, exactly once, and record it."""
        if self._threads is not None:
            return self._here().outermost(original, name, args, kwargs)
        record: _records.Record | None = None
        with guard("sklearn"):
            record = self._begun(name, args, kwargs)
        if record is None:
            return original(*args, **kwargs)
        started = time.perf_counter()
        try:
            with searching() if _tries_out(name, record.estimator) else nullcontext():
                result = original(*args, **kwargs)
        except BaseException as error:
            with guard("sklearn"):
                self._ended(record, error)
            raise
        seconds = time.perf_counter() - started
        with guard("sklearn"):
            record.after(result, seconds)
        with guard("sklearn"):
            self._ended(record, None)
        return result

    def _begun(
        self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> _records.Record | None:
        subject = args[0] if args else kwargs.get("self", kwargs.get("estimator"))
        is_function = name in FUNCTIONS
        if not is_function and not isinstance(subject, BaseEstimator):
            return None
        with self._lock:
            if not self._ready(subject, name, is_function):
                return None
            self._calls += 1
        made: _records.Record | None = None
        try:
            made = self._made(subject, name, args, kwargs)
            return made
        finally:
            if made is None:
                self._done(None, keep=False)

    def _made(
        self, subject: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> _records.Record | None:
        run = self._handle.run
        if run is None:
            return None
        ledger = _records.ledger_of(run)
        if name in FUNCTIONS:
            return _records.Validation(self._handle, ledger, name, args, kwargs)
        lean = recorded_elsewhere(subject)
        if name == "partial_fit":
            return _records.Increment(self._handle, ledger, subject, args, kwargs, lean)
        scoring = None if lean else self._scoring
        return _records.Fit(self._handle, ledger, subject, args, kwargs, lean, scoring)

    def _ready(self, subject: Any, name: str, is_function: bool) -> bool:
        """Whether there is a run to record into."""
        if self._calls == 0 and self._handle.run is not None:
            self._settle(subject, name)
        if self._handle.run is None and self.standing and not joinable():
            # A scaler alone is no training: it is recorded where a run is open, and opens none.
            trains = is_function or any(hasattr(type(subject), each) for each in _PREDICTS)
            return trains and self._handle.ensure()
        return self._handle.ensure()

    def _settle(self, subject: Any, name: str) -> None:
        """Between two calls: which run the next one belongs to is asked anew."""
        run = self._handle.run
        if self._handle.owns:
            goes_on = not self.standing or (name == "partial_fit" and self._last() is subject)
        else:
            goes_on = self._given is not None or joinable()[-1:] == [run]
        if run is None or run._finished or not goes_on:
            self._handle.end()

    def _ended(self, record: _records.Record, error: BaseException | None) -> None:
        incremental = isinstance(record, _records.Increment)
        try:
            if incremental:
                self._last = weakref.ref(record.estimator)
        finally:
            self._done(error, keep=incremental or not self.standing)

    def _done(self, error: BaseException | None, *, keep: bool) -> None:
        """A call is over; with the last one that is under way, so is a run opened for them."""
        with self._lock:
            self._calls -= 1
            self._error = self._error or error
            if self._calls:
                return
            error, self._error = self._error, None
            if self._handle.owns and (error is not None or not keep):
                self._handle.end(error)


def _tries_out(name: str, estimator: Any) -> bool:
    """Whether the call trains one estimator several times: over folds, or with many parameters."""
    return name in FUNCTIONS or {"estimator", "cv"} <= getattr(estimator, "__dict__", {}).keys()


def _nothing() -> None:
    return None
