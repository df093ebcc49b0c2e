"""A plain PyTorch loop on scikit-learn's digits, with gradients, updates and learning rate."""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from torch import nn

import trackway as tw


def main() -> None:
    """Train for five epochs."""
    images, labels = load_digits(return_X_y=True)
    x = torch.tensor(images, dtype=torch.float32) / 16
    y = torch.tensor(labels)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=5)

    with tw.init(project="pytorch-loop", config={"epochs": 5}) as run:
        run.watch(model, optimizer)
        for epoch in range(5):
            for rows in torch.randperm(len(x)).split(64):
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(model(x[rows]), y[rows])
                loss.backward()
                optimizer.step()
                run.log({"loss": loss.detach()})
            accuracy = (model(x).argmax(1) == y).float().mean()
            run.log({"epoch": epoch, "accuracy": accuracy})
            schedule.step()
        print(f"accuracy {accuracy:.3f}, recorded in {run.path}")


if __name__ == "__main__":
    main()
