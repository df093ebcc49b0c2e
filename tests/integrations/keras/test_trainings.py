"""Trainings of every kind, on whatever backend this process has."""

from __future__ import annotations

import copy
import math
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import trackway as tw
from tests.integrations.contract import Boom, rows_of
from tests.integrations.keras.models import (
    DATA,
    KERAS_AND_NUMPY,
    UNMEASURED,
    Explode,
    X,
    Y,
    dense,
    rows_of_history,
)
from trackway.api import StoredRun
from trackway.core import _guard
from trackway.integrations.keras import TrackwayBatchCallback, TrackwayCallback
from trackway.integrations.keras._values import bits_11, clean

pytestmark = pytest.mark.filterwarnings(KERAS_AND_NUMPY)

BACKEND = keras.backend.backend()
Stored = Callable[..., StoredRun]


def compiled(model: Any = None, optimizer: Any = None, **more: Any) -> Any:
    """A model, ready to be trained."""
    model = model or dense()
    model.compile(optimizer or keras.optimizers.SGD(0.1), "mse", metrics=["mae"], **more)
    return model


def fit(model: Any, *callbacks: Any, **more: Any) -> Any:
    """Train on 15 samples in 4 batches; returns Keras's History."""
    arguments = {"epochs": 2, "batch_size": 4, "shuffle": False, "verbose": 0, **more}
    return model.fit(*DATA, callbacks=list(callbacks), **arguments)


def rows(run: StoredRun, *without: str) -> Any:
    """The rows that can be foreseen."""
    return rows_of(run, (*UNMEASURED, *without))


def series(run: StoredRun, name: str) -> list[tuple[int, float]]:
    """One metric as (step, value)."""
    found = run.history(name, repeats="all")[name]
    return list(zip(found.steps.tolist(), found.values.tolist(), strict=True))


def events(run: StoredRun, type: str) -> list[Any]:
    """All events of a type."""
    return [event.fields for event in run.events(type)]


class Spy(keras.callbacks.Callback):
    """Keeps what Keras says of every batch."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[dict[str, float]] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Keep it."""
        self.said.append(dict(logs))


# -- batches -------------------------------------------------------------------------------


def test_batches(stored: Stored) -> None:
    """Every batch is recorded at its step, with what Keras says of it, beside the epochs."""
    spy = Spy()
    history = fit(compiled(), spy, TrackwayCallback(), TrackwayBatchCallback())
    run = stored()
    assert series(run, "batch/loss") == [(i + 1, said["loss"]) for i, said in enumerate(spy.said)]
    assert series(run, "batch/mae") == [(i + 1, said["mae"]) for i, said in enumerate(spy.said)]
    assert series(run, "batch/epoch") == [(i + 1, float(i > 3)) for i in range(8)]
    assert rows(run, "batch/") == rows_of_history(history, 4)
    assert run.state == "finished"


def test_batches_alone(stored: Stored) -> None:
    """Batches alone have the config too; ``every`` counts steps, also across epochs."""
    fit(compiled(), TrackwayBatchCallback(every=3, prefix="a"))
    run = stored()
    assert [step for step, _ in series(run, "a/batch/loss")] == [3, 6]
    assert run.config["a"]["keras"]["optimizer"]["class"] == "SGD"
    assert "a/loss" not in list(run.keys())
    assert run.state == "finished"


def test_gradient_accumulation(stored: Stored) -> None:
    """The step is the optimizer's, of which several batches make one."""
    optimizer = keras.optimizers.SGD(0.1, gradient_accumulation_steps=2)
    history = fit(compiled(optimizer=optimizer), TrackwayCallback(), TrackwayBatchCallback())
    run = stored()
    assert [step for step, _ in series(run, "batch/loss")] == [1, 2, 3, 4]
    assert rows(run, "batch/") == rows_of_history(history, 2)


def test_steps_per_execution(stored: Stored) -> None:
    """With several batches an execution the step is the optimizer's; Keras refuses it on torch."""
    if BACKEND == "torch":
        with pytest.raises(ValueError, match="steps_per_execution"):
            fit(compiled(steps_per_execution=3), TrackwayCallback())
        return
    history = fit(compiled(steps_per_execution=3), TrackwayCallback(), TrackwayBatchCallback())
    run = stored()
    assert [step for step, _ in series(run, "batch/loss")] == [3, 4, 7, 8]
    assert rows(run, "batch/") == rows_of_history(history, 4)
    assert run.config["keras"]["steps_per_execution"] == 3


def test_calls_stay_asynchronous() -> None:
    """Neither callback, nor autolog, switches off Keras's asynchronous calls."""
    lists = keras.callbacks.CallbackList
    alone = lists([])._async_train
    assert lists([TrackwayCallback(), TrackwayBatchCallback()])._async_train == alone
    default = keras.callbacks.Callback
    for name in ("on_train_batch_end", "on_test_batch_end", "on_predict_batch_end"):
        assert getattr(TrackwayCallback, name) is getattr(default, name)
    tw.autolog(only=["keras"])
    assert lists([])._async_train == alone
    assert lists(Spy())._async_train == alone  # not so in a list: Keras looks into lists only
    assert lists([Spy()])._async_train is False


# -- optimizers and models -----------------------------------------------------------------


@pytest.mark.parametrize("first", [True, False])
def test_learning_rate_as_used(stored: Stored, first: bool) -> None:
    """Where a callback changes the rate after an epoch, the rate is the one of that epoch."""
    plateau = keras.callbacks.ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=10.0)
    ours = TrackwayCallback()
    history = fit(compiled(), *((ours, plateau) if first else (plateau, ours)), epochs=4)
    assert len(set(history.history["learning_rate"])) > 1
    assert rows(stored()) == rows_of_history(history, 4)


def test_early_stopping(stored: Stored) -> None:
    """What ``EarlyStopping`` says is in the summary, and it restores the same weights."""

    def trained(*callbacks: Any) -> Any:
        stop = keras.callbacks.EarlyStopping(
            "loss", min_delta=10.0, patience=2, restore_best_weights=True
        )
        model = compiled()
        return fit(model, stop, *callbacks, epochs=9), model.get_weights()

    history, weights = trained(TrackwayCallback())
    run = stored()
    assert rows(run) == rows_of_history(history, 4)
    assert run.summary["stopped_epoch"] == 2
    assert run.summary["best_epoch"] == 0
    assert run.summary["best_loss"] == history.history["loss"][0]
    for ours, without in zip(weights, trained()[1], strict=True):
        assert ours.tobytes() == without.tobytes()


def test_mixed_precision(stored: Stored) -> None:
    """A scaled loss leaves step, rate and the inner optimizer's settings as they are."""
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = dense()
    finally:
        keras.config.set_dtype_policy("float32")
    inner = keras.optimizers.Adam(0.01, name="adam")
    optimizer = keras.optimizers.LossScaleOptimizer(inner, initial_scale=1024.0)
    history = fit(compiled(model, optimizer), TrackwayCallback())
    run = stored()
    assert rows(run) == rows_of_history(history, 4)
    found = run.config["keras"]["optimizer"]
    assert (found["class"], found["initial_scale"]) == ("LossScaleOptimizer", 1024.0)
    assert found["inner_optimizer"]["class"] == "Adam"
    assert found["inner_optimizer"]["name"] == "adam"
    assert run.config["keras"]["dtype_policy"] == "mixed_float16"


@keras.saving.register_keras_serializable()
class Blocks(keras.Model):
    """A subclassed model with a step of its own, and a layer within a layer."""

    def __init__(self, **more: Any) -> None:
        super().__init__(name="blocks", **more)
        self.body = keras.Sequential([keras.layers.Dense(3, name="a")], name="body")
        self.head = keras.layers.Dense(1, name="head")

    def call(self, inputs: Any) -> Any:
        """Compute."""
        return self.head(self.body(inputs))

    def train_step(self, *arguments: Any) -> Any:
        """As Keras does it, with whatever arguments the backend has."""
        return super().train_step(*arguments)


def test_subclassed_model(stored: Stored) -> None:
    """A subclassed model with its own ``train_step`` is recorded as any other, with its layers."""
    keras.utils.set_random_seed(0)
    history = fit(compiled(Blocks()), TrackwayCallback())
    run = stored()
    assert rows(run) == rows_of_history(history, 4)
    (model,) = events(run, "model")
    assert model["name"] == "model"
    about = model["about"]
    assert (about["class"], about["parameters"], about["trainable"]) == ("Blocks", 19, 19)
    assert (about["bytes"], about["dtypes"]) == (76, {"float32": 19})
    assert [(entry["path"], entry["parameters"]) for entry in about["tree"]] == [
        ("body", 15),
        ("body/a", 15),
        ("head", 4),
    ]


def test_unbuilt_and_functional_models(stored: Stored) -> None:
    """A Sequential without an input shape, and a functional model with a frozen layer."""
    keras.utils.set_random_seed(0)
    fit(compiled(keras.Sequential([keras.layers.Dense(1, name="d")])), TrackwayCallback())
    assert [entry["parameters"] for entry in events(stored(), "model")[0]["about"]["tree"]] == [5]
    inputs = keras.Input((4,), name="in")
    outputs = keras.layers.Dense(1, name="d", trainable=False)(inputs)
    model = keras.Model(inputs, keras.layers.Dense(1, name="e")(outputs))
    history = fit(compiled(model), TrackwayCallback())
    about = events(stored(), "model")[0]["about"]
    assert (about["parameters"], about["trainable"]) == (7, 2)
    assert [entry["path"] for entry in about["tree"]] == ["in", "d", "e"]
    assert rows(stored()) == rows_of_history(history, 4)


@pytest.mark.filterwarnings("ignore:The model does not have any trainable weights")
def test_nothing_to_train(stored: Stored) -> None:
    """Where the optimizer never steps, the step is the epoch, and nothing is lost."""
    model = dense()
    model.trainable = False
    fit(compiled(model), TrackwayCallback(), epochs=3)
    steps = [step for step, _ in series(stored(), "loss")]
    assert steps in ([0, 1, 2], [4, 8, 12])


@pytest.mark.skipif(BACKEND != "torch", reason="the step is written for torch")
def test_several_optimizers(stored: Stored) -> None:
    """With several optimizers the step is that of the one that steps; each has its rate."""

    class Two(Blocks):
        def compile(self, first: Any, second: Any) -> None:
            super().compile()
            self.first, self.second = first, second

        def train_step(self, data: Any) -> Any:
            loss = keras.losses.mean_squared_error(data[1], self(data[0])).mean()
            self.zero_grad()
            loss.backward()
            for optimizer, part in ((self.first, self.body), (self.second, self.head)):
                weights = part.trainable_weights
                optimizer.apply([weight.value.grad for weight in weights], weights)
            return {"loss": loss.detach()}

    model = Two()
    model.compile(keras.optimizers.SGD(0.25), keras.optimizers.SGD(0.5))
    fit(model, TrackwayCallback(), TrackwayBatchCallback())
    run = stored()
    assert series(run, "learning_rate_first") == [(4, 0.25), (8, 0.25)]
    assert series(run, "learning_rate_second") == [(4, 0.5), (8, 0.5)]
    assert "learning_rate" not in list(run.keys())
    assert [step for step, _ in series(run, "batch/loss")] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert run.config["keras"]["second"]["learning_rate"] == 0.5


def test_losses_that_keras_cannot_serialise(stored: Stored) -> None:
    """A loss of the user's own is named as well as can be; training is not disturbed."""

    def my_loss(truth: Any, found: Any) -> Any:
        return keras.ops.mean(keras.ops.abs(truth - found))

    model = dense()
    model.compile("sgd", my_loss)
    fit(model, TrackwayCallback())
    assert stored().config["keras"]["loss"] == "my_loss"
    assert clean({"class_name": "function", "config": "relu"}) == "relu"
    assert clean([{"class_name": "X", "config": {"a": 1}}]) == [{"class": "X", "a": 1}]


def test_nan_stays(stored: Stored) -> None:
    """A loss that is no number is recorded as such."""
    compiled_ = compiled()
    compiled_.fit(X, Y * math.nan, epochs=1, verbose=0, callbacks=[TrackwayCallback()])
    ((_, value),) = series(stored(), "loss")
    assert math.isnan(value)


# -- one training after another, and in one another ----------------------------------------


def test_training_goes_on(stored: Stored, begin: Callable[..., Any]) -> None:
    """A second ``fit`` with the same callback is a run of its own, and the steps go on."""
    model, ours = compiled(), TrackwayCallback()
    fit(model, ours)
    first = stored()
    history = fit(model, ours, initial_epoch=2, epochs=3)
    assert stored().id != first.id
    assert rows(stored()) == rows_of_history(history, 4, first=8)
    assert stored().config["keras"]["fit"]["initial_epoch"] == 2
    with begin() as run:
        fit(model, ours)
        fit(model, ours)
    assert [step for step, _ in series(stored(run), "loss")] == [16, 20, 24, 28]


def test_evaluate_alone(stored: Stored, root: Path) -> None:
    """An evaluation by itself is a run of its own; a prediction records nothing."""
    model = compiled()
    fit(model)
    assert not root.exists()
    ours = TrackwayCallback()
    model.predict(X, verbose=0, callbacks=[ours])
    assert not root.exists()
    told = model.evaluate(*DATA, verbose=0, callbacks=[ours], return_dict=True)
    run = stored()
    expected = [(f"evaluate/{name}", 8, value) for name, value in sorted(told.items())]
    assert rows(run) == expected
    assert (run.state, run.job_type) == ("finished", "evaluate")
    fit(model, ours)
    assert [step for step, _ in series(stored(), "loss")] == [12, 16]


def test_evaluate_after_crash(stored: Stored) -> None:
    """An evaluation behind a training that raised is not taken for its validation."""
    model, ours = compiled(), TrackwayCallback()
    with pytest.raises(Boom):
        fit(model, ours, Explode(Boom))
    failed = stored()
    model.evaluate(*DATA, verbose=0, callbacks=[ours])
    assert [step for step, _ in series(stored(), "evaluate/loss")] == [4]
    assert (stored().state, stored(failed).state) == ("finished", "failed")


class Within(keras.callbacks.Callback):
    """Evaluates, predicts and trains another model at the end of each epoch."""

    def __init__(self, *callbacks: Any) -> None:
        super().__init__()
        self._callbacks = list(callbacks)
        self.told: list[float] = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Do so."""
        self.model.predict(X, verbose=0, callbacks=self._callbacks)
        found = self.model.evaluate(
            X * 2, Y, verbose=0, callbacks=self._callbacks, return_dict=True
        )
        self.told.append(found["loss"])
        if not self._callbacks:
            fit(compiled(dense("inner")), epochs=1)


def test_evaluate_within(stored: Stored) -> None:
    """An evaluation within a training is told from its validation, and goes into its run."""
    ours = TrackwayCallback()
    within = Within(ours)
    history = fit(compiled(), within, ours, validation_data=DATA)
    run = stored()
    assert [value for _, value in series(run, "evaluate/loss")] == within.told
    assert [step for step, _ in series(run, "evaluate/loss")] == [4, 8]
    assert rows(run, "evaluate/") == rows_of_history(history, 4)


def test_autolog_within(stored: Stored, root: Path) -> None:
    """With autolog a training within another one is not recorded; an evaluation within it is."""
    tw.autolog(only=["keras"])
    within = Within()
    history = fit(compiled(), within)
    (run,) = tw.Api(root).runs("p")
    assert [value for _, value in series(run, "evaluate/loss")] == within.told
    assert rows(run, "evaluate/") == rows_of_history(history, 4)
    assert run.config["keras"]["model"]["name"] == "net"


@pytest.mark.parametrize("form", ["positional", "one", "tuple", "none"])
def test_autolog_forms(stored: Stored, form: str) -> None:
    """However callbacks are passed, autolog adds its own and leaves the user's list alone."""
    tw.autolog(only=["keras"], keras={"every": 2})
    spy = Spy()
    callbacks: Any = {"one": spy, "tuple": (spy,), "none": None}.get(form, [spy])
    if form == "positional":
        history = compiled().fit(X, Y, 4, 3, 0, callbacks)
    else:
        history = compiled().fit(X, Y, batch_size=4, epochs=3, verbose=0, callbacks=callbacks)
    if isinstance(callbacks, list):
        assert callbacks == [spy]
    assert len(spy.said) == (0 if form == "none" else 12)
    assert rows(stored()) == rows_of_history(history, 4, every=2)


def test_own_loop(stored: Stored) -> None:
    """A training loop of one's own with Keras's ``CallbackList`` is recorded too."""
    tw.autolog(only=["keras"])
    model = compiled()
    callbacks = keras.callbacks.CallbackList([], model=model, epochs=2)
    callbacks.on_train_begin()
    for epoch in range(2):
        callbacks.on_epoch_begin(epoch)
        callbacks.on_epoch_end(epoch, {"loss": 0.5 - epoch})
    callbacks.on_train_end()
    assert series(stored(), "loss") == [(0, 0.5), (1, -0.5)]
    assert stored().state == "finished"


def test_copies(begin: Callable[..., Any], stored: Stored) -> None:
    """Copied or pickled after a training, both callbacks work."""
    run = begin()
    epochs, batches = TrackwayCallback(run), TrackwayBatchCallback(run)
    fit(compiled(), epochs, batches)
    fit(compiled(), copy.deepcopy(epochs), copy.deepcopy(batches), epochs=1)
    fit(compiled(), *pickle.loads(pickle.dumps([epochs, batches])), epochs=1)
    assert [step for step, _ in series(stored(run), "loss")] == [4, 4, 4, 8]


def test_one_after_another(begin: Callable[..., Any], stored: Stored) -> None:
    """In one run, what only an earlier training was given or found is not left beside a later."""
    with begin() as run:
        stop = keras.callbacks.EarlyStopping("loss", min_delta=10.0, patience=1)
        fit(compiled(optimizer=keras.optimizers.Adam(0.1)), stop, TrackwayCallback())
        assert {"stopped_epoch", "best_epoch", "best_loss"} <= set(run.summary)
        fit(compiled(), TrackwayCallback())
    found = stored(run)
    assert not {"stopped_epoch", "best_epoch", "best_loss"} & set(found.summary)
    assert found.config["keras"]["optimizer"]["class"] == "SGD"
    assert not {"beta_1", "epsilon"} & set(found.config["keras"]["optimizer"])


def test_two_in_one_training(begin: Callable[..., Any], stored: Stored) -> None:
    """Two callbacks, by prefix or by run, both record all of one training."""

    def both(*arguments: dict[str, Any]) -> Any:
        history = fit(compiled(), *(TrackwayCallback(**each) for each in arguments))
        return rows_of_history(history, 4)

    timed = [f"{prefix}/{name}" for prefix in "xy" for name in UNMEASURED]
    found = both({"prefix": "x"}, {"prefix": "y"})
    named = [(f"{p}/{name}", step, value) for p in "xy" for name, step, value in found]
    assert (rows(stored(), *timed), stored().state) == (named, "finished")
    with begin() as run:
        both({"prefix": "x"}, {"prefix": "y"})
    assert rows(stored(run), *timed) == named
    one, two = begin(), begin()
    both({"run": one}, {"run": two})
    assert rows(stored(one)) == rows(stored(two)) == found


class Adds(keras.callbacks.Callback):
    """Adds a value to what the callbacks behind it see, and raises in the second epoch."""

    def __init__(self, last: int) -> None:
        super().__init__()
        self._last = last

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Do so."""
        logs["mine"] = epoch + 0.5
        if epoch == self._last:
            raise Boom


def test_autolog_stands_first(stored: Stored, tmp_path: Path) -> None:
    """Other callbacks' values and files of an epoch are recorded, and the epoch if they raise."""
    tw.autolog(only=["keras"])
    path = tmp_path / "{epoch}-{mine}.weights.h5"
    save = keras.callbacks.ModelCheckpoint(path, "mine", mode="max", save_weights_only=True)
    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
    fit(compiled(), Adds(9), save, backup)
    run = stored()
    assert series(run, "mine") == [(4, 0.5), (8, 1.5)]
    found = [(Path(e["path"]).name, e["step"], e["removed"]) for e in events(run, "checkpoint")]
    assert found == [
        ("1-0.5.weights.h5", 4, False),
        ("latest.weights.h5", 4, False),
        ("2-1.5.weights.h5", 8, False),
        ("latest.weights.h5", 8, False),
        ("latest.weights.h5", 8, True),
    ]
    assert [e["score"] for e in events(run, "checkpoint")[::2][:2]] == [0.5, 1.5]
    with pytest.raises(Boom):
        fit(compiled(), Adds(1))
    assert series(stored(), "epoch") == [(4, 0.0), (8, 1.0)]


@pytest.mark.parametrize("auto", [True, False])
def test_restored(stored: Stored, root: Path, tmp_path: Path, auto: bool) -> None:
    """A training that ``BackupAndRestore`` goes on with is the next attempt of the same run."""
    if auto:
        tw.autolog(only=["keras"])

    def train(*more: Any, epochs: int = 4) -> Any:
        backup = keras.callbacks.BackupAndRestore(tmp_path / "deep" / "backup")
        ours = [] if auto else [TrackwayCallback()]
        return fit(compiled(), *ours, backup, *more, epochs=epochs)

    with pytest.raises(Boom):
        train(Adds(1))
    failed = stored()
    history = train()
    assert history.epoch == [2, 3]
    (run,) = tw.Api(root).runs("p")
    assert (run.id, run.state, len(run.attempts)) == (failed.id, "finished", 2)
    assert [step for step, _ in series(run, "loss")] == [4, 8, 12, 16]
    assert not list((tmp_path / "deep").iterdir())
    train(epochs=1)
    assert len(list(tw.Api(root).runs("p"))) == 2


def test_restored_elsewhere(begin: Callable[..., Any], stored: Stored, tmp_path: Path) -> None:
    """Where a run is open it is that one; without a backup nothing is gone on with."""

    def train(*more: Any) -> Any:
        backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
        return fit(compiled(), TrackwayCallback(), *more, backup)

    with pytest.raises(Boom):
        train(Adds(1))
    first = stored()
    with begin() as run:
        train()
    assert [step for step, _ in series(stored(run), "loss")] == [8]
    (tmp_path / "backup.trackway.json").write_text('{"id": "x", "project": "p"}')
    train()
    assert stored().id not in ("x", first.id, run.id)


@pytest.mark.parametrize("auto", [True, False])
def test_evaluate_afterwards(stored: Stored, root: Path, auto: bool) -> None:
    """A later evaluation of a model continues the run that its training opened."""
    if auto:
        tw.autolog(only=["keras"])
    model, ours = compiled(), [] if auto else [TrackwayCallback(prefix="a")]
    fit(model, *ours)
    before = stored()
    told = [
        model.evaluate(*DATA, verbose=0, callbacks=ours, return_dict=True),
        model.evaluate(X * 2, Y, verbose=0, callbacks=ours, return_dict=True),
    ]
    (run,) = tw.Api(root).runs("p")
    prefix = "" if auto else "a/"
    losses = series(run, f"{prefix}evaluate/loss")
    assert losses == [(8, each["loss"]) for each in told]
    assert (run.state, len(run.attempts), run.job_type) == ("finished", 1, before.job_type)
    compiled(dense("other")).evaluate(*DATA, verbose=0, callbacks=ours)
    assert (len(list(tw.Api(root).runs("p"))), stored().job_type) == (2, "evaluate")


# -- checkpoints ---------------------------------------------------------------------------


@pytest.mark.parametrize("first", [True, False])
def test_best_checkpoint(stored: Stored, tmp_path: Path, first: bool) -> None:
    """What is saved as best has its score, whichever callback comes first; no file, no record."""
    path = tmp_path / "deep" / "best.weights.h5"
    save = keras.callbacks.ModelCheckpoint(
        path, monitor="loss", save_best_only=True, save_weights_only=True
    )
    never = keras.callbacks.ModelCheckpoint(
        tmp_path / "never.keras", "loss", save_best_only=True, initial_value_threshold=-1.0
    )
    ours = TrackwayCallback()
    history = fit(compiled(), *((ours, save, never) if first else (save, never, ours)))
    losses = history.history["loss"]
    assert losses[1] < losses[0]
    found = events(stored(), "checkpoint")
    assert [(e["path"], e["step"], e["epoch"], e["score"], e["metric"]) for e in found] == [
        (str(path), 4, 0, losses[0], "loss"),
        (str(path), 8, 1, losses[1], "loss"),
    ]
    assert all(event["aliases"] == ["latest", "best"] for event in found)
    assert found[-1]["bytes"] == path.stat().st_size


def test_templated_checkpoints(stored: Stored, tmp_path: Path) -> None:
    """Names with epoch and loss in them; a file that vanishes is no error, and is said."""

    class Remove(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            for path in tmp_path.glob("model-0*"):
                path.unlink()

    (tmp_path / "model-09-0.5.keras").write_text("of an earlier training")
    save = keras.callbacks.ModelCheckpoint(tmp_path / "model-{epoch:02d}-{loss:.3f}.keras")
    history = fit(compiled(), save, TrackwayCallback(), Remove())
    names = [
        f"model-{e + 1:02d}-{loss:.3f}.keras" for e, loss in enumerate(history.history["loss"])
    ]
    found = [(Path(e["path"]).name, e["removed"]) for e in events(stored(), "checkpoint")]
    assert found == [(names[0], False), (names[1], False), (names[0], True)]
    assert [e["aliases"] for e in events(stored(), "checkpoint")] == [["latest"], ["latest"], []]


def test_checkpoints_by_batch(stored: Stored, tmp_path: Path) -> None:
    """Files saved between epochs are seen at the epoch's end; the newest one's step is known."""
    save = keras.callbacks.ModelCheckpoint(
        tmp_path / "{epoch}-{batch}.weights.h5", save_freq=3, save_weights_only=True
    )
    fit(compiled(), save, TrackwayCallback())
    found = [(Path(e["path"]).name, e["step"]) for e in events(stored(), "checkpoint")]
    assert found == [("1-3.weights.h5", 3), ("2-2.weights.h5", 6)]


def test_backup(stored: Stored, tmp_path: Path) -> None:
    """A backup is recorded at each epoch, and when it is removed at the end."""
    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
    fit(compiled(), backup, TrackwayCallback())
    found = [(e["step"], e["removed"], e["aliases"]) for e in events(stored(), "checkpoint")]
    assert found == [(4, False, []), (8, False, []), (8, True, [])]
    fit(compiled(), keras.callbacks.BackupAndRestore(tmp_path), TrackwayCallback(checkpoints=False))
    assert events(stored(), "checkpoint") == []


# -- histograms ----------------------------------------------------------------------------


def test_weight_histograms(stored: Stored) -> None:
    """Every weight's values are counted at the end of each n-th epoch, where asked."""
    model = compiled()
    fit(model, TrackwayCallback(weights=2, prefix="a"), epochs=3)
    found = events(stored(), "histograms")
    assert [(e["of"], e["step"], e["scheme"]) for e in found] == [
        ("parameters", 4, "float-bits-11"),
        ("parameters", 12, "float-bits-11"),
    ]
    last = found[-1]["data"]
    assert sorted(last) == sorted(f"a/{weight.path}" for weight in model.weights)
    for weight, values in zip(model.weights, model.get_weights(), strict=True):
        pieces = bits_11(values)
        assert last[f"a/{weight.path}"] == [[first, counts] for first, counts in pieces]
        assert sum(sum(counts) for _, counts in pieces) == values.size


def test_bits_11() -> None:
    """The bin of a number is its upper 11 bits; nothing is left out."""
    values = np.array([0.0, -0.0, 1.0, 1.26, -2.0, np.inf, -np.inf, np.nan, 1e300])
    found = {}
    for first, counts in bits_11(values):
        found.update({first + i: count for i, count in enumerate(counts) if count})
    assert found == {0: 1, 1024: 1, 508: 1, 509: 1, 1536: 1, 1020: 2, 1022: 1, 2044: 1}
    assert bits_11(np.array([1 + 2j], np.complex64)) == [(508, [1]), (512, [1])]
    assert bits_11(np.array([])) == []
    assert bits_11(np.ones((3, 2), np.float16).T) == [(508, [6])]


def test_gradients(stored: Stored) -> None:
    """Gradients are recorded on torch, as the optimizer used them; elsewhere a sentence says so."""
    model = compiled(optimizer=keras.optimizers.SGD(0.1, global_clipnorm=0.01))
    fit(model, TrackwayCallback(gradients=True))
    found = events(stored(), "histograms")
    if BACKEND != "torch":
        assert found == []
        (trouble,) = [t for t in _guard.troubles() if t.reason == "gradients"]
        assert trouble.count == 2
        return
    assert [(e["of"], e["step"]) for e in found] == [("gradients", 4), ("gradients", 8)]
    assert sorted(found[0]["data"]) == sorted(weight.path for weight in model.weights)
    bins = [first + len(counts) - 1 for p in found[1]["data"].values() for first, counts in p]
    assert max(first % 1024 for first in bins) <= bits_11(np.array([0.01]))[0][0]


# -- backends ------------------------------------------------------------------------------


def test_backend_of_this_process(stored: Stored) -> None:
    """The backend is in the config; with TensorFlow ``tf.keras`` is the same Keras."""
    if BACKEND == "tensorflow":
        assert sys.modules["tensorflow"].keras.callbacks.Callback is keras.callbacks.Callback
    fit(compiled(), TrackwayCallback())
    config = stored().config["keras"]
    assert (config["backend"], config["version"]) == (BACKEND, keras.__version__)
