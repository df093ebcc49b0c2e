"""The gradients that the optimizer has just used: on torch only, where they stay on the weights.

With TensorFlow and JAX a gradient exists inside the compiled step alone.
"""

from __future__ import annotations

from typing import Any, Final

__all__ = ["NONE", "used"]

NONE: Final = (
    "gradients=True: Keras gives none on this backend, only on torch; everything else is recorded."
)


def used(model: Any) -> dict[str, Any]:
    """The gradients of the last batch by the weight's path: unscaled, and clipped as by Keras."""
    weights = [w for w in model.trainable_weights if getattr(w.value, "grad", None) is not None]
    gradients = [weight.value.grad for weight in weights]
    optimizer = model.optimizer
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    scale = _scale(optimizer, gradients)
    if scale != 1.0:
        gradients = [gradient / scale for gradient in gradients]
    if any(getattr(inner, name, None) for name in ("clipnorm", "global_clipnorm", "clipvalue")):
        gradients = inner._clip_gradients(gradients)
    return {w.path: g.detach() for w, g in zip(weights, gradients, strict=True)}


def _scale(optimizer: Any, gradients: list[Any]) -> float:
    """What the loss was multiplied by in the last step, after which the scale may have changed."""
    if not hasattr(optimizer, "inner_optimizer") or not hasattr(optimizer, "dynamic_scale"):
        return float(getattr(optimizer, "loss_scale_factor", None) or 1.0)
    scale = float(optimizer.dynamic_scale.value)
    if int(optimizer.step_counter.value) > 0:
        return scale
    finite = all(bool(gradient.isfinite().all()) for gradient in gradients)
    return scale / 2 if finite else scale * 2
