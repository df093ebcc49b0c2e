"""Train a small network on handwritten digits, and track it.

    python examples/digits.py               three networks, three learning rates
    python examples/digits.py --lr 0.001    one network

The data ships inside scikit-learn, so there is nothing to download.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import trackway as tw

LEARNING_RATES = (1e-4, 3e-3, 3e-1)  # too small, about right, far too large

Split = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Config:
    """Everything that decides what one training does."""

    lr: float
    epochs: int
    seed: int
    batch_size: int = 32
    hidden: int = 128
    dropout: float = 0.1
    momentum: float = 0.9
    schedule: str = "cosine"


def train(config: Config, folder: str | None) -> None:
    """Train one network and record it as one run."""
    torch.manual_seed(config.seed)
    training, validation = load_data(config.seed)
    model = build_model(config)
    optimizer = torch.optim.SGD(model.parameters(), lr=config.lr, momentum=config.momentum)
    steps = config.epochs * -(-len(training[0]) // config.batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)

    with tw.init(project="digits", config=config, tags=["demo"], group="lr", dir=folder) as run:
        run.define_metric("val/accuracy", summary="max", goal="maximize")
        run.define_metric("val/loss", summary="min", goal="minimize")
        run.summary["parameters"] = sum(weights.numel() for weights in model.parameters())

        step = 0
        for epoch in range(1, config.epochs + 1):
            for loss, norm in train_epoch(model, optimizer, training, config.batch_size):
                lr = schedule.get_last_lr()[0]
                run.log({"train/loss": loss, "train/grad_norm": norm, "lr": lr}, step=step)
                schedule.step()
                step += 1
            val_loss, accuracy = evaluate(model, validation)
            run.log({"val/loss": val_loss, "val/accuracy": accuracy, "epoch": epoch}, step=step)
            show_progress(config, epoch, val_loss, accuracy)


def train_epoch(
    model: nn.Module, optimizer: torch.optim.Optimizer, data: Split, batch_size: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Go once through the data in random order; yields each step's loss and gradient norm."""
    images, labels = data
    model.train()
    for batch in torch.randperm(len(images)).split(batch_size):
        optimizer.zero_grad()
        loss = cross_entropy(model(images[batch]), labels[batch])
        loss.backward()
        norm = nn.utils.get_total_norm(p.grad for p in model.parameters() if p.grad is not None)
        optimizer.step()
        yield loss.detach(), norm


@torch.no_grad()
def evaluate(model: nn.Module, data: Split) -> tuple[float, float]:
    """Mean loss, and the share of digits that are told right."""
    images, labels = data
    model.eval()
    scores = model(images)
    right = scores.argmax(dim=1) == labels
    return cross_entropy(scores, labels).item(), right.float().mean().item()


def build_model(config: Config) -> nn.Module:
    """Two hidden layers; 64 pixels in, 10 digits out."""
    return nn.Sequential(
        nn.Linear(64, config.hidden),
        nn.ReLU(),
        nn.Dropout(config.dropout),
        nn.Linear(config.hidden, config.hidden),
        nn.ReLU(),
        nn.Linear(config.hidden, 10),
    )


def load_data(seed: int) -> tuple[Split, Split]:
    """Three quarters of the 1797 digits to train with, one quarter to validate with."""
    images, labels = load_digits(return_X_y=True)
    x_train, x_val, y_train, y_val = train_test_split(
        torch.tensor(images, dtype=torch.float32),
        torch.tensor(labels),
        test_size=0.25,
        stratify=labels,
        random_state=seed,
    )
    mean, std = x_train.mean(), x_train.std()
    return ((x_train - mean) / std, y_train), ((x_val - mean) / std, y_val)


def show_progress(config: Config, epoch: int, loss: float, accuracy: float) -> None:
    """One line that is written over until the last epoch; only that one where nobody watches."""
    last = epoch == config.epochs
    if not (last or sys.stdout.isatty()):
        return
    line = f"lr {config.lr:<7g} epoch {epoch:>3}/{config.epochs}"
    line += f"   validation loss {loss:7.4f}   accuracy {accuracy:6.1%}"
    print(f"\r{line}", end="\n" if last else "", flush=True)


def best_run(folder: str | None) -> str:
    """The id of the finished run with the highest validation accuracy."""
    finished = [run for run in tw.Api(folder).runs("digits") if run.state == "finished"]
    if not finished:
        sys.exit("No run has finished yet.")
    return max(finished, key=lambda run: run.summary.get("val/accuracy", 0.0)).id


def main() -> None:
    """Train one network for each learning rate, or say which run is the best so far."""
    parser = argparse.ArgumentParser(description="Train small networks on handwritten digits.")
    parser.add_argument("--lr", type=float, nargs="+", default=LEARNING_RATES)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dir", help="where the runs are kept (default: $TRACKWAY_DIR)")
    parser.add_argument("--best", action="store_true", help="print the id of the best run so far")
    options = parser.parse_args()
    if options.best:
        print(best_run(options.dir))
        return
    torch.set_num_threads(1)  # for a network this small, threads cost more than they bring
    for lr in options.lr:
        train(Config(lr=lr, epochs=options.epochs, seed=options.seed), options.dir)


if __name__ == "__main__":
    main()
