"""A hand-written loop under accelerate, recorded by its own tracker; scikit-learn's digits."""

import torch
from accelerate import Accelerator
from sklearn.datasets import load_digits

import trackway.integrations.accelerate  # noqa: F401 - makes the name known

settings = {"lr": 0.5}
epochs = 3
accelerator = Accelerator(cpu=True, log_with="trackway")
accelerator.init_trackers("digits", config={**settings, "epochs": epochs})

data = load_digits()
pixels = torch.tensor(data.data, dtype=torch.float32) / 16
digits = torch.tensor(data.target)
torch.manual_seed(0)
model = torch.nn.Linear(64, 10)
optimizer = torch.optim.SGD(model.parameters(), lr=settings["lr"])
loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(pixels, digits), batch_size=300)
model, optimizer, loader = accelerator.prepare(model, optimizer, loader)

step = 0
for epoch in range(epochs):
    for batch, target in loader:
        loss = torch.nn.functional.cross_entropy(model(batch), target)
        accelerator.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        step += 1
        accelerator.log({"train/loss": loss.item(), "epoch": epoch}, step=step)

right = (model(pixels).argmax(1) == digits).float().mean().item()
accelerator.log({"accuracy": right}, step=step)
accelerator.end_training()
