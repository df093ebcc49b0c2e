"""``watch``: a model's gradients, read where the optimizer has just used them.

Only the optimizer's step-post hook sees a gradient as it was used: accumulated, unscaled, clipped,
averaged over ranks, after a closure, and outside of what ``torch.compile`` compiles. Weights before
the step are copied in the step-pre hook, at the few steps whose update is measured. Without an
optimizer the hooks are those of all optimizers, of which the ones that hold a watched parameter
count. Nothing is put on the model; what is on the optimizer is not pickled or copied with it.

An ordinary step is a counter. Tried with PyTorch 2.4 to 2.13.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from trackway.core import current
from trackway.core._guard import guard
from trackway.core.run import Run
from trackway.errors import ArgumentError
from trackway.integrations._base import requires

with requires("pytorch"):
    from torch import nn
    from torch.optim import Optimizer

from trackway.integrations.pytorch._model import inner
from trackway.integrations.pytorch._watch import Watch, watches

__all__ = ["Watch", "is_watched", "unwatch", "watch"]


def watch(
    models: nn.Module | Iterable[nn.Module] | None,
    optimizer: Optimizer | Iterable[Optimizer] | None = None,
    *,
    run: Run | None = None,
    log: str | None = "gradients",
    every: int | None = None,
    histograms: bool = True,
    update_ratio: bool = True,
    budget: float = 0.01,
    prefix: str = "",
    start: int | None = None,
    log_freq: int | None = None,
    criterion: object = None,
    log_graph: bool = False,
    idx: int | None = None,
) -> Watch:
    """Record gradients, updates and learning rates of a model from now on.

    Args:
        models: The model, or several.
        optimizer: The optimizer, or several; by default every one that holds a parameter of the
            models, once it makes a step.
        run: The run; the current one by default, and if there is none, one is opened.
        log: ``"gradients"``, ``"parameters"`` (their histograms), ``"all"``, or None for learning
            rates alone.
        every: Read at each n-th step of the optimizer, and at the first. By default as often as
            the budget allows, each tenth step at most.
        histograms: Record how the values are distributed.
        update_ratio: Record how far a step moves each parameter, relative to its norm.
        budget: The share of the training's time that may be used.
        prefix: Goes before the name of every metric.
        start: The optimizer's steps before this one. By default what its state says, once
            that was loaded; without such a count, in a run that is resumed, the run's last step.
        log_freq: The same as ``every``.
        criterion: Accepted for scripts written for other trackers.
        log_graph: Accepted likewise: the tree of modules is always recorded.
        idx: Accepted likewise: further models are told apart by themselves.

    Returns:
        What watches; ``close()`` ends it, and so does the end of a ``with`` block.

    Raises:
        ArgumentError: An argument is wrong.
    """
    found = Watch(
        _several("models", models, nn.Module),
        [_plain(each) for each in _several("optimizer", optimizer, Optimizer)],
        run=run,
        log=log,
        every=every if every is not None else log_freq,
        histograms=histograms,
        update_ratio=update_ratio,
        budget=budget,
        prefix=prefix,
        start=start,
    )
    with guard("watch"):
        found._begin()
    return found


def unwatch(run: Run, models: nn.Module | Iterable[nn.Module] | None = None) -> None:
    """No longer watch these models for a run; all of them by default."""
    wanted = {inner(model) for model in _several("models", models, nn.Module)}
    for each in list(watches.get(run, ())):
        if models is None or wanted & {model for _, model in each._names.alive()}:
            each.close()


def is_watched(optimizer: Optimizer) -> bool:
    """Whether an optimizer is watched for a run that is open."""
    found = [each for run in current.open_runs() for each in watches.get(run, ())]
    return any(each.watches(_plain(optimizer)) for each in found)


def _plain(optimizer: Optimizer) -> Optimizer:
    """The optimizer inside of what wraps it, such as accelerate's: its hooks are those called."""
    while isinstance(inside := getattr(optimizer, "optimizer", None), Optimizer):
        optimizer = inside
    return optimizer


def _several(name: str, given: Any, kind: type[Any]) -> list[Any]:
    """One or several as a list.

    Raises:
        ArgumentError: One of them is none of these.
    """
    if given is None:
        return []
    if isinstance(given, kind) and not isinstance(given, nn.ModuleList):
        return [given]
    found = list(given) if isinstance(given, Iterable) else [given]
    for each in found:
        if not isinstance(_plain(each) if kind is Optimizer else each, kind):
            wanted = "torch.nn.Module" if kind is nn.Module else "torch.optim.Optimizer"
            raise ArgumentError(f"{name}: {type(each).__name__} is no {wanted}")
    return found
