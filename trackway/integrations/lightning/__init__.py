"""Track a Lightning training, with ``lightning`` or ``pytorch_lightning``.

import lightning as L
from trackway.integrations.lightning import TrackwayCallback, TrackwayLogger

trainer = L.Trainer(
    max_epochs=10, logger=TrackwayLogger(), callbacks=[TrackwayCallback()]
)
trainer.fit(model, loader)     # opens a run, and finishes it when the training ends
trainer.test(model, tests)     # goes into the same run

Which package is served is decided when one of the two names is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trackway.integrations.lightning._hooks import TrackwayCallback, TrackwayLogger

__all__ = ["TrackwayCallback", "TrackwayLogger"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from trackway.integrations.lightning import _hooks

        return getattr(_hooks, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
