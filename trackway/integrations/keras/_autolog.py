"""``autolog`` for Keras: our callback at the beginning of every list of callbacks that is built.

There it is told of an epoch before any other callback can raise; at the very end of a training it
is told last, by a second one, when the others have written and removed their files.

``CallbackList`` is built by ``fit``, ``evaluate`` and ``predict`` of every backend, and by a
training loop of one's own. The callback is added once the list stands: whether Keras calls the
user's callbacks asynchronously is then decided as without us.
"""

from __future__ import annotations

from types import ModuleType

from trackway.integrations._patch import Call, Patches

__all__ = ["OPTIONS", "patch"]

OPTIONS: frozenset[str] = frozenset({"checkpoints", "every", "gradients", "prefix", "weights"})


def patch(patches: Patches, module: ModuleType) -> None:
    """Add the callback to every list; ``module`` is Keras's ``callback_list``."""

    def after(call: Call) -> None:
        if call.error is None:
            _add(patches, call.args[0])

    patches.wrap(module.CallbackList, "__init__", after=after)


def _add(patches: Patches, callbacks: object) -> None:
    from trackway.integrations.keras._hooks import Ending, Recorder, TrackwayCallback

    present: list[object] = vars(callbacks)["callbacks"]  # the list's own, not the user's
    if any(isinstance(callback, Recorder) for callback in present):
        return
    ours = TrackwayCallback(**patches.options)
    ours.outermost_only = True
    model = getattr(callbacks, "_model", None)  # ``model`` would synchronise JAX's state
    if model is not None:
        ours.set_model(model)
    params = getattr(callbacks, "params", None)
    if params:
        ours.set_params(params)
    ours.has_ending = True
    present.insert(0, ours)
    present.append(Ending(ours))
