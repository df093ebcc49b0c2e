"""accelerate: an official ``GeneralTracker``, by name.

    from accelerate import Accelerator
    import trackway.integrations.accelerate

    accelerator = Accelerator(log_with="trackway")
    accelerator.init_trackers("my-project", config={"learning_rate": 0.01})
    for step in range(100):
        accelerator.log({"loss": train()}, step=step)
    accelerator.end_training()

Once this module is imported, before or after accelerate, the name is known. To give arguments:
``Accelerator(log_with=TrackwayTracker(run=run))``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trackway.integrations.accelerate._name import naming

if TYPE_CHECKING:
    from trackway.integrations.accelerate._hooks import TrackwayTracker

__all__ = ["TrackwayTracker"]

naming.offer()


def __getattr__(name: str) -> object:
    if name in __all__:
        from trackway.integrations.accelerate import _hooks

        return getattr(_hooks, name)
    raise AttributeError(name)
