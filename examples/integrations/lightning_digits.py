"""Train a small network on handwritten digits with Lightning, and track it.

    python examples/integrations/lightning_digits.py

The data ships inside scikit-learn, so there is nothing to download.
"""

from __future__ import annotations

import logging
import warnings

import lightning as L  # noqa: N812 - as its users write it
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset, random_split

from trackway.integrations.lightning import TrackwayCallback, TrackwayLogger


class Digits(L.LightningModule):  # type: ignore[misc]
    """Two layers; 64 pixels in, 10 digits out."""

    def __init__(self, lr: float = 3e-3, hidden: int = 64) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.model = nn.Sequential(nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, 10))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """The loss of a batch."""
        loss = cross_entropy(self.model(batch[0]), batch[1])
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Loss and the share of digits that are told right."""
        self._judge("val", *batch)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """The same for digits that were never looked at."""
        self._judge("test", *batch)

    def _judge(self, name: str, images: Tensor, labels: Tensor) -> None:
        scores = self.model(images)
        right = (scores.argmax(dim=1) == labels).float().mean()
        self.log_dict({f"{name}/loss": cross_entropy(scores, labels), f"{name}/accuracy": right})

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam, with the learning rate that is among the hyperparameters."""
        return torch.optim.Adam(self.parameters(), lr=self.hparams["lr"])


def loaders() -> tuple[DataLoader[tuple[Tensor, ...]], ...]:
    """Digits to train with, to validate with and to test with."""
    images, labels = load_digits(return_X_y=True)
    images = torch.tensor(images / 16, dtype=torch.float32)
    whole = TensorDataset(images, torch.tensor(labels))
    parts = random_split(whole, [0.7, 0.15, 0.15], torch.Generator().manual_seed(0))
    return tuple(DataLoader(part, batch_size=32, shuffle=part is parts[0]) for part in parts)


def main() -> None:
    """Train, then test; both are recorded in one run."""
    warnings.filterwarnings("ignore", ".*does not have many workers")
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    L.seed_everything(0, verbose=False)
    training, validation, test = loaders()
    logger = TrackwayLogger(init={"project": "digits-lightning"})
    trainer = L.Trainer(
        max_epochs=8,
        accelerator="cpu",
        log_every_n_steps=5,
        logger=logger,
        callbacks=[
            TrackwayCallback(),
            L.pytorch.callbacks.ModelCheckpoint(monitor="val/accuracy", mode="max"),
        ],
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    model = Digits()
    trainer.fit(model, training, validation)
    (result,) = trainer.test(model, test, verbose=False)
    print(f"run {logger.version}: test accuracy {result['test/accuracy']:.1%}")


if __name__ == "__main__":
    main()
