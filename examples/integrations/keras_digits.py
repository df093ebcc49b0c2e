"""A small network that learns to read digits: one more callback, and everything is recorded.

Run it with ``python examples/integrations/keras_digits.py``, on whichever backend Keras has.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import keras
from sklearn.datasets import load_digits

from trackway.integrations.keras import TrackwayCallback


def main() -> None:
    """Train for five epochs."""
    images, digits = load_digits(return_X_y=True)
    model = keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Rescaling(1 / 16),
            keras.layers.Dense(32, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    rate = keras.optimizers.schedules.CosineDecay(0.01, decay_steps=250)
    model.compile(
        keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    with tempfile.TemporaryDirectory() as folder:
        best = keras.callbacks.ModelCheckpoint(
            Path(folder) / "best.keras", monitor="val_accuracy", save_best_only=True
        )
        history = model.fit(
            images,
            digits,
            epochs=5,
            validation_split=0.2,
            verbose=0,
            callbacks=[best, TrackwayCallback(weights=True)],
        )
    print(f"accuracy on digits not seen: {history.history['val_accuracy'][-1]:.3f}")


if __name__ == "__main__":
    main()
