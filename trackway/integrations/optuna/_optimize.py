"""Before and after an optimisation, by whichever wrapper it was noticed."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from trackway.integrations._patch import Call

if TYPE_CHECKING:
    from trackway.integrations.optuna._hooks import TrackwayCallback

__all__ = ["ending", "starting"]

_ARGUMENTS = ("n_trials", "timeout", "n_jobs")


def starting(
    signature: inspect.Signature,
    call: Call,
    make: Callable[[], TrackwayCallback] | None = None,
) -> None:
    """Begin to follow the study, if there is a callback of ours, or one is made for it.

    The user's list is never changed. Ours comes first: a callback that raises or stops the study
    leaves the trial recorded.

    Args:
        signature: The original's.
        call: The call.
        make: Makes the callback that is added where there is none.
    """
    from trackway.integrations.optuna._hooks import TrackwayCallback

    try:
        bound = signature.bind(*call.args, **call.kwargs)
    except TypeError:
        return  # the original says what is wrong with the call
    bound.apply_defaults()
    given = bound.arguments.get("callbacks")
    if isinstance(given, Iterator):
        return  # looking at it would use it up
    callbacks = list(given or ())
    ours = next((each for each in callbacks if isinstance(each, TrackwayCallback)), None)
    if ours is None:
        if make is None:
            return
        ours = make()
        bound.arguments["callbacks"] = [ours, *callbacks]
    study: Any = bound.arguments[next(iter(signature.parameters))]
    call.state = partial(ours.ended, study)
    ours.started(study, **{name: bound.arguments.get(name) for name in _ARGUMENTS})
    each = ours.track if ours.trials == "runs" else ours.quieten
    bound.arguments["func"] = each(bound.arguments["func"])
    call.args, call.kwargs = bound.args, bound.kwargs


def ending(call: Call) -> None:
    """The call is over, however it ended."""
    ended: Any = call.state
    if ended is not None:
        ended(call.error)
