"""A small transformer learns the digits of scikit-learn, row by row, with the ``Trainer``."""

import tempfile

import numpy as np
from sklearn.datasets import load_digits
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

from trackway.integrations.huggingface import TrackwayCallback

digits = load_digits()
# Four pixels together are one of 17 shades, and 16 of those are a sentence.
shades = digits.images.reshape(-1, 4, 2, 4, 2).mean(axis=(2, 4)).astype(int).reshape(-1, 16)
examples = [
    {"input_ids": sentence, "labels": label}
    for sentence, label in zip(shades, digits.target, strict=True)
]
config = BertConfig(
    vocab_size=17,
    hidden_size=32,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=32,
    max_position_embeddings=16,
    num_labels=10,
)


def accuracy(predicted: tuple[np.ndarray, np.ndarray]) -> dict[str, float]:
    """The share of digits that were told right."""
    logits, labels = predicted
    return {"accuracy": float((logits.argmax(-1) == labels).mean())}


with tempfile.TemporaryDirectory() as folder:
    trainer = Trainer(
        BertForSequenceClassification(config),
        TrainingArguments(
            output_dir=folder,
            num_train_epochs=2,
            per_device_train_batch_size=16,
            per_device_eval_batch_size=256,
            learning_rate=1e-2,
            logging_steps=10,
            eval_strategy="epoch",
            save_strategy="epoch",
            metric_for_best_model="accuracy",
            disable_tqdm=True,
            use_cpu=True,
        ),
        train_dataset=examples[:800],
        eval_dataset=examples[800:1200],
        compute_metrics=accuracy,
        callbacks=[TrackwayCallback()],
    )
    trainer.train()
