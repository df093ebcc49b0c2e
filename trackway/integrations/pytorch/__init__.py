"""What happens to a model while it trains: gradients, updates, learning rates.

import torch
import trackway as tw

run = tw.init(project="digits")
model = torch.nn.Linear(64, 10)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
run.watch(model, optimizer)
for x, y in batches:
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(model(x), y).backward()
    optimizer.step()
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from trackway.integrations.pytorch._hooks import Watch, unwatch, watch

__all__ = ["Watch", "unwatch", "watch"]


def __getattr__(name: str) -> object:
    if name in __all__:
        from trackway.integrations.pytorch import _hooks

        return getattr(_hooks, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
