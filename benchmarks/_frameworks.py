"""What a contestant trains, framework by framework: one function each, driven step by step.

``gate`` is the user's own code inside each training (a batch, a metric, a callback of the
program): it does the work of a step, and at the end of a turn it answers and waits. It is the same
with and without a tracker.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks._jobs import training_step

if TYPE_CHECKING:
    from benchmarks._worker import Channel

__all__ = ["FRAMEWORKS", "MODELS", "Gate", "train", "watched"]

FOREVER: Final = 1_000_000


class Gate:
    """The work of one step, and the turns.

    Args:
        channel: To the parent.
        repeats: How much work a step does.
    """

    def __init__(self, channel: Channel, repeats: int) -> None:
        self._channel = channel
        self._requests: Iterator[dict[str, Any]] = channel.requests()
        self._work = training_step(repeats)
        self._left = 1
        self._began = time.perf_counter(), time.process_time()

    def step(self) -> None:
        """Work; at the end of a turn, answer and wait for the next one."""
        self._work()
        self._left -= 1
        if self._left:
            return
        self._channel.send(**_since(self._began))
        request = next(self._requests, None)
        if request is None:
            os._exit(0)  # the parent has hung up; no framework may have its own idea of that
        self._left = request["steps"]
        self._began = time.perf_counter(), time.process_time()


def _since(began: tuple[float, float]) -> dict[str, float]:
    """Seconds on the wall, and of the processor by all threads of this process."""
    wall, processor = began
    return {"wall": time.perf_counter() - wall, "processor": time.process_time() - processor}


def train(channel: Channel, who: str, framework: str, repeats: int) -> None:
    """Train until the parent hangs up."""
    if who.startswith("trackway"):
        import trackway

        trackway.init(project="bench")
    elif who == "wandb":
        import wandb

        wandb.init(project="bench", mode="offline")
    FRAMEWORKS[framework](Gate(channel, repeats), who)


# -- one training each ---------------------------------------------------------------------


def _pytorch(gate: Gate, who: str) -> None:
    import torch

    if who == "trackway":
        import trackway

        trackway.autolog(only=["pytorch"])
    model = torch.nn.Linear(8, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    x = torch.randn(16, 8)
    while True:
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
        gate.step()


def _lightning(gate: Gate, who: str) -> None:
    import lightning
    import torch

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(8, 1)

        def training_step(self, batch: Any, index: int) -> Any:
            gate.step()
            loss = self.layer(batch).square().mean()
            self.log("loss", loss)
            return loss

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=1e-3)

    logger: Any = False
    callbacks: list[Any] = []
    if who == "trackway":
        from trackway.integrations.lightning import TrackwayCallback, TrackwayLogger

        logger, callbacks = TrackwayLogger(), [TrackwayCallback()]
    elif who == "wandb":
        from lightning.pytorch.loggers import WandbLogger

        logger = WandbLogger()
    data = [torch.randn(4, 8)] * 50_000
    trainer = lightning.Trainer(
        max_epochs=-1,
        logger=logger,
        callbacks=callbacks,
        accelerator="cpu",
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    trainer.fit(Module(), torch.utils.data.DataLoader(data, batch_size=None))


def _keras(gate: Gate, who: str) -> None:
    import keras
    import numpy as np

    def batches() -> Iterator[Any]:
        x, y = np.ones((16, 8), "float32"), np.ones((16, 1), "float32")
        while True:
            gate.step()
            yield x, y

    callbacks: list[Any] = []
    if who == "trackway":
        from trackway.integrations.keras import TrackwayCallback

        callbacks = [TrackwayCallback()]
    elif who == "wandb":
        from wandb.integration.keras import WandbMetricsLogger

        callbacks = [WandbMetricsLogger()]
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(batches(), steps_per_epoch=50, epochs=FOREVER, callbacks=callbacks, verbose=0)


def _huggingface(gate: Gate, who: str) -> None:
    import torch
    from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

    class Data(torch.utils.data.Dataset[Any]):
        def __len__(self) -> int:
            return 50_000

        def __getitem__(self, index: int) -> dict[str, Any]:
            gate.step()
            return {"input_ids": [1, 2, 3, 4], "labels": index % 2}

    config = BertConfig(
        vocab_size=16,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=8,
    )
    callbacks: list[Any] = []
    if who == "trackway":
        from trackway.integrations.huggingface import TrackwayCallback

        callbacks = [TrackwayCallback()]
    arguments = TrainingArguments(
        output_dir=tempfile.mkdtemp(),
        per_device_train_batch_size=1,
        num_train_epochs=FOREVER,
        report_to="wandb" if who == "wandb" else "none",
        logging_steps=10,
        save_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
    )
    model = BertForSequenceClassification(config)
    Trainer(model, arguments, train_dataset=Data(), callbacks=callbacks).train()


def _table() -> tuple[Any, Any]:
    import numpy as np

    values = np.random.default_rng(0)
    x = values.normal(size=(200, 4))
    return x, x[:, 0] + values.normal(size=200)


def _xgboost(gate: Gate, who: str) -> None:
    import xgboost

    class Working(xgboost.callback.TrainingCallback):
        def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
            gate.step()
            return False

    callbacks: list[Any] = [Working()]
    if who == "trackway":
        from trackway.integrations.xgboost import TrackwayCallback

        callbacks.append(TrackwayCallback())
    elif who == "wandb":
        from wandb.integration.xgboost import WandbCallback

        callbacks.append(WandbCallback())
    data = xgboost.DMatrix(*_table())
    options = {"max_depth": 1, "nthread": 1}
    xgboost.train(
        options, data, FOREVER, evals=[(data, "train")], verbose_eval=False, callbacks=callbacks
    )


def _lightgbm(gate: Gate, who: str) -> None:
    import lightgbm

    callbacks: list[Any] = [lambda env: gate.step()]
    if who == "trackway":
        from trackway.integrations.lightgbm import TrackwayCallback

        callbacks.append(TrackwayCallback())
    elif who == "wandb":
        from wandb.integration.lightgbm import wandb_callback

        callbacks.append(wandb_callback())
    data = lightgbm.Dataset(*_table())
    options = {"num_leaves": 2, "verbose": -1, "num_threads": 1}
    lightgbm.train(options, data, FOREVER, valid_sets=[data], callbacks=callbacks)


def _catboost(gate: Gate, who: str) -> None:
    import catboost

    class Working:
        def after_iteration(self, info: Any) -> bool:
            gate.step()
            return True

    callbacks: list[Any] = [Working()]
    if who == "trackway":
        from trackway.integrations.catboost import TrackwayCallback

        callbacks.append(TrackwayCallback())
    elif who == "wandb":
        from wandb.integration.catboost import WandbCallback

        callbacks.append(WandbCallback())
    model = catboost.CatBoostRegressor(
        iterations=100_000, depth=1, thread_count=1, verbose=False, allow_writing_files=False
    )
    x, y = _table()
    model.fit(x, y, eval_set=(x, y), callbacks=callbacks)


def _sklearn(gate: Gate, who: str) -> None:
    from sklearn.linear_model import SGDClassifier

    watching: Any = nullcontext()
    if who == "trackway":
        from trackway.integrations.sklearn import watch

        watching = watch()
    x, y = _table()
    model = SGDClassifier(random_state=0)
    with watching:
        while True:
            model.partial_fit(x, y > 0, classes=[False, True])
            gate.step()


def _optuna(gate: Gate, who: str) -> None:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    callbacks: list[Any] = []
    if who == "trackway":
        from trackway.integrations.optuna import TrackwayCallback

        callbacks = [TrackwayCallback()]

    def objective(trial: Any) -> float:
        gate.step()
        value: float = trial.suggest_float("x", 0.0, 1.0)
        return value

    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(objective, n_trials=FOREVER, callbacks=callbacks)


FRAMEWORKS: Final[dict[str, Callable[[Gate, str], None]]] = {
    "pytorch": _pytorch,
    "lightning": _lightning,
    "keras": _keras,
    "huggingface": _huggingface,
    "sklearn": _sklearn,
    "xgboost": _xgboost,
    "lightgbm": _lightgbm,
    "catboost": _catboost,
    "optuna": _optuna,
}


# -- watching gradients --------------------------------------------------------------------


def _mlp(torch: Any) -> tuple[Any, Callable[[], Any]]:
    nn = torch.nn
    model = nn.Sequential(
        nn.Linear(784, 1024), nn.ReLU(), nn.Linear(1024, 512), nn.ReLU(), nn.Linear(512, 10)
    )
    x, y = torch.randn(128, 784), torch.randint(0, 10, (128,))
    return model, lambda: nn.functional.cross_entropy(model(x), y)


def _transformer(torch: Any) -> tuple[Any, Callable[[], Any]]:
    nn = torch.nn
    layer = nn.TransformerEncoderLayer(128, 4, 512, 0.0, batch_first=True, norm_first=True)
    encoder = nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)
    model = nn.Sequential(nn.Embedding(1024, 128), encoder, nn.Linear(128, 1024))
    x, y = torch.randint(0, 1024, (8, 64)), torch.randint(0, 1024, (8 * 64,))
    return model, lambda: nn.functional.cross_entropy(model(x).flatten(0, 1), y)


def _deep(torch: Any) -> tuple[Any, Callable[[], Any]]:
    nn = torch.nn
    layers = [layer for _ in range(100) for layer in (nn.Linear(64, 64), nn.LayerNorm(64))]
    model = nn.Sequential(*layers)
    x = torch.randn(64, 64)
    return model, lambda: model(x).pow(2).mean()


MODELS: Final = {
    "MLP, 1.3 M in 6 tensors": _mlp,
    "transformer, 1.1 M in 51 tensors": _transformer,
    "400 small tensors": _deep,
}


def watched(channel: Channel, who: str, model: str, every: int | None) -> None:
    """Train a network, its gradients watched by ``who``; each step's loss is logged.

    Args:
        channel: To the parent.
        who: bare, trackway or wandb.
        model: Which of MODELS.
        every: Watch each n-th step; None for each tracker's own default.
    """
    import torch

    torch.manual_seed(0)
    torch.set_num_threads(1)  # as many as give steady steps beside the other contestants
    network, loss_of = MODELS[model](torch)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-4)
    log: Callable[[dict[str, Any]], object] = lambda values: None  # noqa: E731
    if who == "trackway":
        import trackway

        run = trackway.init(project="bench", dir=Path("runs"))
        run.watch(network, optimizer, every=every)
        log = run.log
    elif who == "wandb":
        import wandb

        other = wandb.init(project="bench", mode="offline")
        other.watch(network, log_freq=1000 if every is None else every)
        log = other.log
    for request in channel.requests():
        began = time.perf_counter(), time.process_time()
        for _ in range(request["steps"]):
            optimizer.zero_grad()
            loss = loss_of()
            loss.backward()
            optimizer.step()
            log({"loss": loss.item()})
        channel.send(**_since(began))
