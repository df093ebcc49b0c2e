"""The transformers ``Trainer``: an official ``TrainerCallback``.

    from transformers import Trainer, TrainingArguments
    from trackway.integrations.huggingface import TrackwayCallback

    trainer = Trainer(
        model,
        TrainingArguments(output_dir="out", logging_steps=10),
        train_dataset=data,
        callbacks=[TrackwayCallback()],
    )
    trainer.train()

Once this module is imported, before or after transformers, ``report_to="trackway"`` in the
training arguments does the same. A training resumed from a checkpoint continues its run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trackway.integrations.huggingface._name import naming

if TYPE_CHECKING:
    from trackway.integrations.huggingface._hooks import TrackwayCallback

__all__ = ["TrackwayCallback"]

naming.offer()


def __getattr__(name: str) -> object:
    if name in __all__:
        from trackway.integrations.huggingface import _hooks

        return getattr(_hooks, name)
    raise AttributeError(name)
