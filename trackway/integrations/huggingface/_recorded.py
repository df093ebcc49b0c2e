"""What is recorded besides rows: hyperparameters and model, checkpoints, and how fast it goes."""

from __future__ import annotations

import os
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from trackway.core._guard import guard
from trackway.core.records import record_checkpoint, record_model
from trackway.integrations._base import RunHandle, named
from trackway.integrations.huggingface import _values

if TYPE_CHECKING:
    from trackway.core.run import Run

__all__ = ["Checkpoints", "Pace", "describe"]


def describe(handle: RunHandle, args: Any, state: Any, model: Any) -> None:
    """Record what is known before the first step; each part by itself, as any object may be odd."""
    run = handle.run
    if run is None:
        return
    with guard("huggingface"):
        handle.configure(_values.hyperparameters(args, state, model))
    with guard("huggingface"):
        metric, _ = _values.judged(args, state)
        if metric is not None:
            goal = "minimize" if args.greater_is_better is False else "maximize"
            run.define_metric(_named(metric, handle), goal=goal)
    with guard("huggingface"):
        if hasattr(model, "named_modules"):
            record_model(run, _named("model", handle), _values.about_model(model))


def _named(name: str, handle: RunHandle) -> str:
    return next(iter(named({name: None}, handle.prefix)))


class Pace:
    """Steps and tokens a second between rows, without evaluations and savings."""

    def __init__(self) -> None:
        self._mark: tuple[float, int, int] | None = None

    def rates(self, state: Any) -> dict[str, float]:
        """Since the row before; nothing for the first."""
        before, self._mark = self._mark, _now(state)
        if before is None:
            return {}
        seconds, steps, tokens = (a - b for a, b in zip(self._mark, before, strict=True))
        if seconds <= 0 or steps <= 0:
            return {}
        rates = {"train/steps_per_s": steps / seconds}
        if tokens > 0:
            rates["train/tokens_per_s"] = tokens / seconds
        return rates

    def go_on(self, state: Any) -> None:
        """What took its time until now was no training."""
        if self._mark is not None:
            self._mark = _now(state)


def _now(state: Any) -> tuple[float, int, int]:
    return perf_counter(), state.global_step, int(state.num_input_tokens_seen)


class Checkpoints:
    """The checkpoints of a training, as they come and go."""

    def __init__(self) -> None:
        self._saved: list[Path] = []

    def saved(self, run: Run, args: Any, state: Any) -> None:
        """One was saved, and perhaps older ones removed."""
        folder = _values.checkpoint_folder(args, state)
        if folder is None:
            return
        metric, score = _values.judged(args, state)
        best = state.best_model_checkpoint
        is_best = best is not None and os.path.abspath(best) == os.path.abspath(folder)
        record_checkpoint(
            run,
            folder,
            step=state.global_step,
            epoch=state.epoch,
            score=state.best_metric if is_best else score,
            metric=metric,
            aliases=("latest", "best") if is_best else ("latest",),
        )
        self._saved = [each for each in self._saved if each != folder]
        self.removed(run)
        self._saved.append(folder)

    def removed(self, run: Run) -> None:
        """Tell of those that ``save_total_limit`` has removed."""
        gone = [folder for folder in self._saved if not folder.is_dir()]
        self._saved = [folder for folder in self._saved if folder not in gone]
        for folder in gone:
            record_checkpoint(run, folder, removed=True)
