"""What Keras's own frames tell when training begins: a callback is not told it.

Which other callbacks there are, how large a batch is, with which epoch it begins. Where the frames
look different, as in a training loop of one's own, less is known, and nothing else happens.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from types import FrameType
from typing import Any

from trackway.integrations.keras._values import FIT, samples_an_epoch

__all__ = ["Around", "inside_another"]


class Around:
    """What surrounds a callback.

    Attributes:
        callbacks: All callbacks of the training.
        arguments: What ``fit`` was told, and the data it has made of it.
        samples: Samples in an epoch, where that is known.
    """

    def __init__(
        self, callbacks: list[Any] | None = None, arguments: Mapping[str, Any] | None = None
    ) -> None:
        self.callbacks = callbacks or []
        self.arguments = arguments or {}
        self.samples = samples_an_epoch(self.arguments)

    @classmethod
    def here(cls) -> Around:
        """As told by the frames below this one, up to the first that is not Keras's."""
        callbacks: list[Any] = []
        for frame in _keras_frames():
            name = frame.f_code.co_name
            if name == "on_train_begin" and not callbacks:
                callbacks = list(getattr(frame.f_locals.get("self"), "callbacks", ()))
            elif name == "fit":
                variables = frame.f_locals
                return cls(callbacks, {key: variables.get(key) for key in (*FIT, "epoch_iterator")})
        return cls(callbacks)


def inside_another() -> bool:
    """Whether this training was begun by a callback of another one."""
    return sum(frame.f_code.co_name == "fit" for frame in _keras_frames(beyond=True)) > 1


def _keras_frames(*, beyond: bool = False) -> Iterator[FrameType]:
    """Keras's frames on this stack, inner ones first; also beyond those that are the user's."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if package == "keras":
            yield frame
        elif package != "trackway" and not beyond:
            return
        frame = frame.f_back
