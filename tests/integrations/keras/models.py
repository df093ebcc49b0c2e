"""Tiny models and data for the tests, and what Keras itself says of their trainings."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np

from tests.integrations.contract import Row

UNMEASURED = ("epoch_s", "steps_per_s", "samples_per_s")

KERAS_AND_NUMPY = "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning:keras"
"""Keras's own way of making arrays of its variables."""

_random = np.random.RandomState(0)
X = _random.rand(15, 4).astype("float32")
Y = X.sum(axis=1, keepdims=True)
DATA = (X, Y)


def dense(name: str = "net") -> Any:
    """A model of 19 parameters, the same each time."""
    keras.utils.set_random_seed(0)
    layers = [
        keras.Input((4,)),
        keras.layers.Dense(3, name="hidden"),
        keras.layers.Dense(1, name="out"),
    ]
    return keras.Sequential(layers, name=name)


class Explode(keras.callbacks.Callback):
    """Raises at the beginning of the second epoch."""

    def __init__(self, kind: type[Exception]) -> None:
        super().__init__()
        self._kind = kind

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Raise."""
        if epoch == 1:
            raise self._kind("in the middle")


def rows_of_history(history: Any, batches: int, *, every: int = 1, first: int = 0) -> list[Row]:
    """What a training has to have recorded, by Keras's own record of it.

    Args:
        history: Keras's History.
        batches: Steps in an epoch.
        every: Each n-th epoch only.
        first: The optimizer's steps before the training.
    """
    rows: list[Any] = []
    for index, epoch in enumerate(history.epoch):
        if epoch % every:
            continue
        step = first + (index + 1) * batches
        rows.append(("epoch", step, float(epoch)))
        for name, values in history.history.items():
            value = float(values[index])
            rows.append((name, step, None if math.isnan(value) else value))
        if "learning_rate" not in history.history:
            rows.append(("learning_rate", step, rate_at(history.model.optimizer, step)))
    return sorted(rows, key=lambda row: row[:2])


def rate_at(optimizer: Any, step: int) -> float:
    """The learning rate at a step, by the schedule if there is one."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    rate = inner._learning_rate
    if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
        return float(keras.ops.convert_to_numpy(rate(step)))
    return float(keras.ops.convert_to_numpy(rate.value))
