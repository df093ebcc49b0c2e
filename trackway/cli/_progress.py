"""How far a run is, and when it will be done, where its configuration says how far it goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from trackway.cli._follow import Follow, Live, config_total

__all__ = ["Progress", "progress_of"]

_STEPS: Final = frozenset(
    "max_steps total_steps num_steps n_steps train_steps num_train_steps num_training_steps"
    " max_train_steps iterations max_iters max_iterations num_iterations total_iterations"
    " total_iters n_iters num_iters".split()
)
_EPOCHS: Final = frozenset(
    "epochs max_epochs num_epochs n_epochs total_epochs num_train_epochs".split()
)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is.

    Attributes:
        unit: ``step`` or ``epoch``.
        done: How many are done.
        total: How many there are to be.
        eta_s: Seconds until then at the present pace; None where that is not known.
    """

    unit: str
    done: float
    total: float
    eta_s: float | None


def progress_of(follow: Follow, config: Mapping[str, Any]) -> Progress | None:
    """By steps where their total is known, else by a metric of epochs; None where neither is."""
    total = config_total(config, _STEPS)
    if total is not None and follow.step is not None:
        # Steps are mostly counted from 0.
        done = min(float(follow.step + 1), total)
        rate = follow.steps_per_s()
        return Progress("step", done, total, None if rate is None else (total - done) / rate)
    total = config_total(config, _EPOCHS)
    epochs = _epochs(follow)
    return None if total is None or epochs is None else _by_epochs(epochs, total)


def _epochs(follow: Follow) -> Live | None:
    for key in sorted(follow.metrics, key=len):
        live = follow.metrics[key]
        is_one = key.lower().rpartition("/")[2] in ("epoch", "epochs")
        if is_one and isinstance(live.last, (int, float)) and live.last == live.last:
            return live
    return None


def _by_epochs(live: Live, total: float) -> Progress:
    last, first = float(live.last), float(live.first)
    whole = last.is_integer() and first.is_integer()
    # Whole epochs counted from 0 are named by what is under way: the 0th one is the first.
    done = min(last + 1 if whole and first == 0 else last, total)
    spent = live.time - live.first_time
    rate = (last - first) / spent if spent > 0 and last > first else None
    return Progress("epoch", done, total, None if rate is None else (total - done) / rate)
