"""A tiny Lightning training, the same each time, under either package's name."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

PACKAGE = os.environ.get("TEST_LIGHTNING_PACKAGE", "lightning.pytorch")
pl: Any = importlib.import_module(PACKAGE)

QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
    "log_every_n_steps": 1,
    "max_epochs": 2,
    "logger": False,
}


class Net(pl.LightningModule):  # type: ignore[misc,unused-ignore]
    """One linear layer whose learning rate is halved after every step."""

    def __init__(self, lr: float = 0.1, hidden: Any = (1, 2), extra: Any = None) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.layer = torch.nn.Linear(4, 1)

    def loss(self, batch: tuple[Tensor, ...]) -> Tensor:
        x, y = batch
        return torch.nn.functional.mse_loss(self.layer(x), y)

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> Tensor:
        loss = self.loss(batch)
        self.log("train_loss", loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        self.log("val_loss", self.loss(batch), on_step=True, on_epoch=True)

    def test_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        self.log("test_loss", self.loss(batch))

    def predict_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> Any:
        return self.layer(batch[0])

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=self.hparams["lr"])
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


def loader(batches: int = 3) -> Any:
    """Batches of two samples."""
    chance = torch.Generator().manual_seed(1)
    x = torch.randn(2 * batches, 4, generator=chance)
    return DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=2)


def net(kind: type[Any] = Net, **arguments: Any) -> Any:
    """A network with the same weights each time."""
    torch.manual_seed(0)
    return kind(**arguments)


def trainer(*hooks: Any, **arguments: Any) -> Any:
    """A Trainer with these loggers and callbacks."""
    loggers = [each for each in hooks if hasattr(each, "log_metrics")]
    callbacks = [each for each in hooks if not hasattr(each, "log_metrics")]
    given: dict[str, Any] = {"callbacks": callbacks, **({"logger": loggers} if loggers else {})}
    return pl.Trainer(**{**QUIET, **given, **arguments})


def fit(*hooks: Any, model: Any = None, **arguments: Any) -> Any:
    """Train; returns the Trainer."""
    path = arguments.pop("ckpt_path", None)
    training = trainer(*hooks, **arguments)
    training.fit(net() if model is None else model, loader(), loader(2), ckpt_path=path)
    return training


def weights(model: Any) -> bytes:
    """The weights, to the bit."""
    return b"".join(each.detach().numpy().tobytes() for each in model.parameters())


_Logger: Any = importlib.import_module(f"{PACKAGE}.loggers.logger").Logger


class Book(_Logger):  # type: ignore[misc,unused-ignore]
    """A logger that keeps what Lightning gives to loggers."""

    name = version = "book"

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[int | None, dict[str, float]]] = []

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.rows.append((step, dict(metrics)))

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        pass


def main(strategy: str, folder: str) -> None:
    """Train on two processes, test, and print what the rank that records would say."""
    from trackway.integrations.lightning import TrackwayCallback, TrackwayLogger

    book, logger = Book(), TrackwayLogger()
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    training = trainer(
        book,
        logger,
        TrackwayCallback(),
        _Show(folder),
        strategy=strategy,
        devices=2,
        enable_checkpointing=True,
        default_root_dir=folder,
    )
    model = net()
    training.fit(model, loader(4), loader(2))
    rank = os.environ.get("LOCAL_RANK", "0") if strategy == "ddp" else "0"
    if rank == "0":
        Path(folder, "main.txt").write_text(f"{logger.version} {weights(model).hex()}")


class Broken(Net):
    """Raises in its second batch."""

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> Tensor:
        if batch_idx == 1:
            raise ValueError("so it is")
        return super().training_step(batch, batch_idx)


def twice(strategy: str, folder: str) -> None:
    """Train on two processes while a run is open; then with a model that fails."""
    import pytest
    from torch.multiprocessing.spawn import ProcessRaisedException

    import trackway as tw
    from trackway.integrations.lightning import TrackwayCallback, TrackwayLogger

    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    options = {"strategy": strategy, "devices": 2, "default_root_dir": folder, "max_epochs": 1}
    with tw.init(name="mine") as mine:
        trainer(TrackwayLogger(), TrackwayCallback(), **options).fit(net(), loader(4))
        mine.log({"after": 1.0}, step=9)
    with pytest.raises(ProcessRaisedException, match="so it is"):
        trainer(TrackwayLogger(), **options).fit(net(Broken), loader(4))


class _Show(pl.Callback):  # type: ignore[misc,unused-ignore]
    """Writes down what another logger was given, on each rank."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        book = trainer.loggers[0]
        Path(self.folder, f"rows.{trainer.global_rank}").write_text(repr(book.rows))


if __name__ == "__main__":
    {"main": main, "twice": twice}[sys.argv[1]](*sys.argv[2:])
