"""Keras 3, on TensorFlow, JAX or torch; ``tf.keras`` is the same Keras.

    import keras
    from trackway.integrations.keras import TrackwayCallback

    model = keras.Sequential([keras.layers.Dense(16, activation="relu"), keras.layers.Dense(1)])
    model.compile("adam", "mse", metrics=["mae"])
    model.fit(
        x, y, epochs=5, validation_split=0.1,
        callbacks=[TrackwayCallback()],
    )

``TrackwayBatchCallback``, beside it or alone, records batches too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trackway.integrations.keras._batches import TrackwayBatchCallback
    from trackway.integrations.keras._hooks import TrackwayCallback

__all__ = ["TrackwayBatchCallback", "TrackwayCallback"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from trackway.integrations.keras import _batches, _hooks

    return getattr(_hooks if name == "TrackwayCallback" else _batches, name)
