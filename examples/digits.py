"""Train a small network on handwritten digits, and track it.

    python examples/digits.py               three networks, three learning rates
    python examples/digits.py --lr 0.001    one network

The data ships inside scikit-learn, so there is nothing to download.
"""

from __future__ import annotations

import argparse
import sys

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import trackway as tw

LEARNING_RATES = (1e-4, 3e-3, 3e-1)  # too small, about right, far too large

Split = tuple[Tensor, Tensor]


def main() -> None:
    """Train one network per learning rate, or say which of the runs so far is best."""
    options = parse_arguments()
    if options.best:
        print(best_run(options.dir).id)
        return
    training, validation = load_data(options.seed)
    for lr in options.lr or LEARNING_RATES:
        train(training, validation, lr, options)


def parse_arguments() -> argparse.Namespace:
    """The command line of this example."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lr", type=float, nargs="+", help="learning rate, one network for each")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dir", help="where runs are kept (default: $TRACKWAY_DIR)")
    parser.add_argument("--best", action="store_true", help="print the id of the best run so far")
    return parser.parse_args()


def load_data(seed: int) -> tuple[Split, Split]:
    """Three quarters of the 1797 digits to train on, one quarter to validate with."""
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


def train(training: Split, validation: Split, lr: float, options: argparse.Namespace) -> None:
    """Train one network and record everything about it as one run."""
    config = {"lr": lr, "epochs": options.epochs, "batch_size": 32, "hidden": 128}
    config |= {"momentum": 0.9, "schedule": "cosine", "seed": options.seed}
    torch.manual_seed(options.seed)
    model = build_model(config["hidden"])
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=config["momentum"])
    batches = -(-len(training[0]) // config["batch_size"])
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.epochs * batches)

    with tw.init(
        project="digits", group="learning-rates", tags=["demo"], config=config, dir=options.dir
    ) as run:
        run.define_metric("val/accuracy", summary="max", goal="maximize")
        run.define_metric("val/loss", summary="min", goal="minimize")
        run.summary["parameters"] = sum(p.numel() for p in model.parameters())
        step = 0
        for epoch in range(1, options.epochs + 1):
            for loss, norm in train_epoch(model, optimizer, training, config["batch_size"]):
                step += 1
                run.log({"train/loss": loss, "train/grad_norm": norm, "lr": lr_of(optimizer)}, step=step)
                schedule.step()
            val_loss, accuracy = evaluate(model, validation)
            run.log({"val/loss": val_loss, "val/accuracy": accuracy, "epoch": epoch}, step=step)
            show_progress(f"lr {lr:<8g} epoch {epoch:3}/{options.epochs}", val_loss, accuracy)
    print()
