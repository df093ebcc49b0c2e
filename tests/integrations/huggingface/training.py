"""A training of a few steps on random tokens, the same each time."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    Trainer,
    TrainingArguments,
    set_seed,
)

from tests.integrations.contract import Boom, Row

_random = random.Random(0)
DATA: list[dict[str, Any]] = [
    {"input_ids": [_random.randrange(32) for _ in range(6)], "labels": _random.randrange(2)}
    for _ in range(12)
]

CONFIG = {
    "vocab_size": 32,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 8,
    "max_position_embeddings": 8,
    "num_labels": 2,
}


class Failing(Trainer):
    """Raises in the middle of the training."""

    def training_step(self, *arguments: Any, **options: Any) -> torch.Tensor:
        """Two steps go well."""
        if self.state.global_step == 2:
            raise Boom
        loss: torch.Tensor = super().training_step(*arguments, **options)
        return loss


def model() -> BertForSequenceClassification:
    """The same each time."""
    set_seed(0)
    return BertForSequenceClassification(BertConfig(**CONFIG))


def arguments(folder: Path, **changes: Any) -> TrainingArguments:
    """Quiet, on the CPU, a row each step."""
    options: dict[str, Any] = {
        "output_dir": str(folder),
        "num_train_epochs": 2,
        "per_device_train_batch_size": 4,
        "learning_rate": 0.01,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        "seed": 0,
    }
    return TrainingArguments(**{**options, **changes})


def trainer(
    folder: Path,
    *,
    callbacks: list[Any] | None = None,
    kind: type[Trainer] | None = None,
    of: Any = None,
    train: Any = DATA,
    evaluated: Any = DATA[:4],
    more: dict[str, Any] | None = None,
    **changes: Any,
) -> Trainer:
    """A trainer of the model; ``changes`` are training arguments, ``more`` the trainer's own."""
    made = (kind or Trainer)(
        of if of is not None or (more and "model_init" in more) else model(),
        arguments(folder, **changes),
        train_dataset=train,
        eval_dataset=evaluated,
        callbacks=callbacks,
        **(more or {}),
    )
    return made


def weights(of: Any) -> bytes:
    """All parameters, to the bit."""
    return b"".join(p.detach().numpy().tobytes() for p in of.parameters())


def logged(history: list[dict[str, Any]], without: tuple[str, ...] = ()) -> list[Row]:
    """The rows that a ``log_history`` amounts to, but for the final one."""
    rows: list[Row] = []
    for entry in history:
        if "train_runtime" in entry:
            continue
        for key, value in entry.items():
            if key == "step":
                continue
            name = "epoch" if key == "epoch" else f"train/{key}"
            if key.startswith("eval_"):
                name = f"eval/{key[5:]}"
            if not (without and name.startswith(without)):
                rows.append((name, entry["step"], value))
    return sorted(rows, key=lambda row: row[:2])
