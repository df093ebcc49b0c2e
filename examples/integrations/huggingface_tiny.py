"""A small transformer learns the digits of scikit-learn, row by row, with the ``Trainer``."""

import tempfile

import numpy as np
from sklearn.datasets import load_digits
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

from trackway.integrations.huggingface import TrackwayCallback

digits = load_digits()
# 64 pixels of 17 shades are 64 words out of 17; every second image is enough here.
examples = [
    {"input_ids": pixels, "labels": label}
    for pixels, label in zip(digits.data[::2].astype(int).tolist(), digits.target[::2].tolist())
]
config = BertConfig(
    vocab_size=17,
    hidden_size=32,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=64,
    max_position_embeddings=64,
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
            per_device_train_batch_size=32,
            learning_rate=3e-3,
            logging_steps=5,
            eval_strategy="epoch",
            save_strategy="epoch",
            metric_for_best_model="accuracy",
            disable_tqdm=True,
            use_cpu=True,
        ),
        train_dataset=examples[:700],
        eval_dataset=examples[700:],
        compute_metrics=accuracy,
        callbacks=[TrackwayCallback()],
    )
    trainer.train()
