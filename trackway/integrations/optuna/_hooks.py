"""``TrackwayCallback`` for ``Study.optimize(callbacks=[...])``.

Optuna calls a callback after each trial that ended, and says nothing of where a study's
optimisation begins and ends, nor of the trial whose exception ends it. So the function that
``Study.optimize`` calls is wrapped when the first callback is built; for studies without one of
ours the wrapper only calls the original. It is not ``Study.optimize`` itself: that has been looked
up already when the callback is built inside of its parentheses. Tested with Optuna 3.6.0 and
5.0.0.
"""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

from trackway.core import current
from trackway.core._guard import guard
from trackway.core.run import Run
from trackway.errors import ArgumentError
from trackway.integrations._base import RunHandle, requires, searching
from trackway.integrations._patch import Patches
from trackway.integrations.optuna import _trials
from trackway.integrations.optuna._optimize import ending, starting
from trackway.integrations.optuna._study import Following

with requires("optuna"):
    from optuna.exceptions import TrialPruned
    from optuna.study import Study
    from optuna.study import study as study_module
    from optuna.trial import FrozenTrial, Trial

__all__ = ["TrackwayCallback"]

_wrapped = Patches("optuna")


class TrackwayCallback:
    """Records a study: a row for each trial, and a table of all of them.

    Args:
        run: The run; the current one, or one for the study, by default.
        every: Record the rows of trials whose number is a multiple of this.
        prefix: Goes before the name of every metric.
        trials: ``table``: rows and a table in the study's run. ``runs``: each trial has a run of
            its own besides, the current one inside the objective.
        group: The group of the trials' runs; the study's name by default.

    Raises:
        ArgumentError: An argument is wrong.
    """

    _wraps = True

    def __init__(
        self,
        run: Run | None = None,
        *,
        every: int = 1,
        prefix: str = "",
        trials: str = "table",
        group: str | None = None,
    ) -> None:
        if trials not in ("table", "runs"):
            raise ArgumentError(f"trials={trials!r}: it is 'table' or 'runs'")
        if group is not None and not isinstance(group, str):
            raise ArgumentError(f"group={group!r}: it is a text, or None for the study's name")
        self.trials = trials
        self.group = group
        self._handle = RunHandle("optuna", run, every=every, prefix=prefix)
        self._begin()

    def _begin(self) -> None:
        self._followed: dict[int, Following] = {}
        self._lock = threading.RLock()
        if self._wraps and not _wrapped.points:
            _wrap()

    # -- the study -------------------------------------------------------------------------

    def __call__(self, study: Study, trial: FrozenTrial) -> None:
        """A trial ended."""
        with guard("optuna"):
            following = self._followed.get(id(study))
            if following is None:  # not called by ``optimize``, or by that of another process
                following = self._follow(study, {})
            if following is not None:
                following.trial(trial)

    @contextmanager
    def follow(self, study: Study) -> Iterator[TrackwayCallback]:
        """Around a loop that asks and tells: the study's run is open inside, and ends with it.

        Inside, call the callback with the study and what ``study.tell`` returned. With
        ``trials="table"`` no training inside is recorded into the study's run.
        """
        with guard("optuna"):
            self.started(study)
        try:
            with searching() if self.trials == "table" else nullcontext():
                yield self
        except BaseException as error:
            with guard("optuna"):
                self.ended(study, error)
            raise
        with guard("optuna"):
            self.ended(study, None)

    def started(self, study: Study, **arguments: Any) -> None:
        """An optimisation of the study begins; arguments are those of ``optimize``."""
        with self._lock:
            following = self._followed.get(id(study)) or self._follow(study, arguments)
            if following is not None:
                following.depth += 1

    def ended(self, study: Study, error: BaseException | None) -> None:
        """An optimisation of the study is over; only the last one's end is the run's."""
        with self._lock:
            following = self._followed.get(id(study))
            if following is not None:
                following.depth -= 1
                if following.depth > 0:
                    return
                del self._followed[id(study)]
        if following is not None:
            with guard("optuna"):
                following.finish()
        if not self._followed:
            self._handle.end(error)

    def _follow(self, study: Study, arguments: dict[str, Any]) -> Following | None:
        with self._lock:
            name = study.study_name
            if self._handle.run is None:
                fields: dict[str, Any] = {}
                if self.trials == "runs":
                    fields = {"group": self.group or name, "job_type": "study"}
                # A trial's training is recorded by whoever trains: the study is none itself.
                self._handle.begin(ends=False, **fields)
            if not self._handle.recording:
                return None
            following = self._followed[id(study)] = Following(self._handle, study, arguments)
        with guard("optuna"):
            following.configure()
        return following

    # -- a trial ---------------------------------------------------------------------------

    def quieten(self, objective: Callable[..., Any]) -> Callable[..., Any]:
        """The objective, in which no training is recorded into the study's run."""

        @functools.wraps(objective)
        def quiet(*args: Any, **kwargs: Any) -> Any:
            with searching():
                return objective(*args, **kwargs)

        return quiet

    def track(self, objective: Callable[..., Any]) -> Callable[..., Any]:
        """The objective, each of whose calls records into a run of the trial's own.

        ``trials="runs"`` does it by itself to what ``Study.optimize`` is given; this is for a loop
        that calls the objective itself, inside ``follow``.
        """
        if getattr(objective, "_trackway_callback", None) is not None:
            return objective

        @functools.wraps(objective)
        def tracked(trial: Trial, *args: Any, **kwargs: Any) -> Any:
            with ExitStack() as stack:
                run: Run | None = None
                with guard("optuna"):
                    run = self._opened(trial, stack)
                try:
                    result = objective(trial, *args, **kwargs)
                except TrialPruned:
                    with guard("optuna"):
                        _trials.end_pruned(run, trial)
                    raise
                except BaseException as error:
                    with guard("optuna"):
                        _trials.end_failed(run, trial, error)
                    raise
                with guard("optuna"):
                    _trials.end_told(run, trial, result, self._handle.prefix)
                return result

        tracked._trackway_callback = self  # type: ignore[attr-defined]
        return tracked

    def _opened(self, trial: Trial, stack: ExitStack) -> Run | None:
        # A FixedTrial, with which an objective is tried, belongs to no study.
        following = self._followed.get(id(getattr(trial, "study", None)))
        parent = self._handle.run
        if following is None or parent is None or parent.disabled:
            return None
        if following.jobs != 1 or threading.current_thread() is not threading.main_thread():
            stack.enter_context(current.apart())
        return _trials.begin(
            trial, parent, group=self.group or following.name, prefix=self._handle.prefix
        )

    # -- copies ----------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        del state["_followed"], state["_lock"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._begin()


def _wrap() -> None:
    found = hasattr(study_module, "_optimize")
    owner, name = (study_module, "_optimize") if found else (Study, "optimize")
    before = functools.partial(starting, inspect.signature(getattr(owner, name)))
    _wrapped.wrap(owner, name, before=before, after=ending)


class Inserted(TrackwayCallback):
    """The callback as ``autolog`` inserts it, whose own wrapper notices beginning and end."""

    _wraps = False
