"""The contract with a Keras training, on the backend of this process."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, ClassVar

import keras
import numpy as np
import pytest

from tests.integrations.contract import Boom, IntegrationContract, Row
from tests.integrations.keras.models import (
    DATA,
    KERAS_AND_NUMPY,
    UNMEASURED,
    Explode,
    dense,
    rows_of_history,
)
from trackway.integrations.keras import TrackwayCallback

pytestmark = pytest.mark.filterwarnings(KERAS_AND_NUMPY)


@lru_cache
def fitted(every: int = 1) -> list[Row]:
    """The rows of the contract's training, by Keras's own History."""
    model = trained(())
    return rows_of_history(model.history, 3, every=every)


def trained(callbacks: Any) -> Any:
    """The model of the contract's training."""
    model = dense()
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5)
    model.compile(keras.optimizers.SGD(schedule, momentum=0.5, name="sgd"), "mse", metrics=["mae"])
    model.fit(*DATA, epochs=4, batch_size=4, validation_split=0.2, verbose=0, callbacks=callbacks)
    return model


class TestKeras(IntegrationContract):
    """What holds for every integration."""

    framework = "keras"
    unmeasured: ClassVar[tuple[str, ...]] = UNMEASURED

    def hook(self, **arguments: Any) -> Any:
        """The callback."""
        return TrackwayCallback(**arguments)

    def train(self, hook: Any, *, fail: bool = False) -> bytes:
        """Four epochs of three batches; the weights after."""
        callbacks = [found for found in (hook, Explode(Boom) if fail else None) if found]
        return b"".join(np.asarray(w).tobytes() for w in trained(callbacks).get_weights())

    def expected(self) -> list[Row]:
        """Every epoch."""
        return fitted()

    def expected_every_2(self) -> list[Row]:
        """The epochs 0 and 2."""
        return fitted(2)

    def expected_config(self) -> dict[str, Any]:
        """What the training above was given."""
        return {
            "keras.optimizer.class": "SGD",
            "keras.optimizer.momentum": 0.5,
            "keras.optimizer.learning_rate.class": "ExponentialDecay",
            "keras.optimizer.learning_rate.initial_learning_rate": 0.1,
            "keras.optimizer.learning_rate.decay_steps": 2,
            "keras.loss": "mse",
            "keras.metrics": ["mae"],
            "keras.backend": keras.backend.backend(),
            "keras.version": keras.__version__,
            "keras.model.class": "Sequential",
            "keras.model.name": "net",
            "keras.model.parameters": 19,
            "keras.fit.epochs": 4,
            "keras.fit.steps": 3,
            "keras.fit.batch_size": 4,
            "keras.fit.validation_split": 0.2,
            "keras.steps_per_execution": 1,
            "keras.dtype_policy": "float32",
        }

    @pytest.mark.parametrize("wrong", [{"weights": -1}, {"weights": "all"}, {"gradients": 0.5}])
    def test_bad_intervals(self, wrong: dict[str, Any]) -> None:
        """An interval that is none raises where the callback is built."""
        self.test_bad_arguments(wrong)
