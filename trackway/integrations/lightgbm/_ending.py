"""How the end of a LightGBM training is noticed, for which LightGBM has no hook.

A training ends after its last round, or by an ``EarlyStopException`` that some callback makes in
whatever round. For the former, a second callback stands behind all others of this one training.
For the latter, making such an exception is noticed while a training is under way: the only thing
that is patched, and it is put back with the last training's end.
"""

from __future__ import annotations

from collections.abc import Callable
from types import FrameType
from typing import Any

from trackway.integrations._base import RunHandle
from trackway.integrations._boosting import frame_of
from trackway.integrations._patch import Call, Patches

__all__ = ["Ending"]


class Ending:
    """Waits for the end of one training.

    Args:
        handle: Whose training it is.
        frame: The frame of ``train`` or ``cv``, known by number afterwards: holding it would hold
            the user's data.
        ended: Called at the end, with the exception if it was early.
        early: ``EarlyStopException``.

    Attributes:
        behind: Whether ``after_round`` is called by LightGBM, after all other callbacks.
    """

    def __init__(
        self,
        handle: RunHandle,
        frame: FrameType | None,
        ended: Callable[[BaseException | None], None],
        early: type[BaseException],
    ) -> None:
        self.handle = handle
        self.engine = id(frame)
        self._ended = ended
        callbacks = None if frame is None else frame.f_locals.get("callbacks_after_iter")
        self.behind = isinstance(callbacks, list)
        if isinstance(callbacks, list):
            callbacks.append(self.after_round)
        _watch(self, early)

    def after_round(self, env: Any) -> None:
        """A round is over; perhaps the last one."""
        if env.iteration + 1 >= env.end_iteration:
            self._ended(None)

    def stopped(self, error: BaseException) -> None:
        """Some callback ends the training."""
        self._ended(error)

    def forget(self) -> None:
        """It is over."""
        if self in _waiting:
            _waiting.remove(self)
        if not _waiting:
            _patches.undo()


_waiting: list[Ending] = []
_patches = Patches("lightgbm")


def _watch(ending: Ending, early: type[BaseException]) -> None:
    # A training that was left by an exception told nobody; its handle has no run any more.
    _waiting[:] = [other for other in _waiting if other.handle.run is not None]
    _waiting.append(ending)
    _patches.enabled = True
    _patches.wrap(early, "__init__", after=_made)


def _made(call: Call) -> None:
    engine = id(frame_of("lightgbm.engine", ("train", "cv")))
    if call.error is None:
        for ending in list(_waiting):
            if ending.engine == engine:
                ending.stopped(call.args[0])
