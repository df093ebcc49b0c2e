"""What Lightning's objects say, as plain values: pure functions that import no framework."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from time import perf_counter
from typing import Any, Final

from trackway.core._values import as_mapping

__all__ = [
    "Pace",
    "batch_size",
    "hyperparameters",
    "learning_rates",
    "loaded",
    "model_facts",
    "stepped",
    "trainer_facts",
    "within_batch",
]

_FACTS: Final = (
    "max_epochs min_epochs max_steps min_steps precision world_size num_nodes "
    "accumulate_grad_batches gradient_clip_val gradient_clip_algorithm log_every_n_steps "
    "val_check_interval check_val_every_n_epoch overfit_batches limit_train_batches "
    "limit_val_batches limit_test_batches reload_dataloaders_every_n_epochs"
).split()


def hyperparameters(params: Any) -> dict[str, Any]:
    """Hyperparameters as they were given: a dict, a namespace, a dataclass, an OmegaConf object."""
    try:
        return dict(as_mapping(params))
    except TypeError:
        return {"hparams": params}


def trainer_facts(trainer: Any) -> dict[str, Any]:
    """How the Trainer was set up, and the optimizers where it has them already."""
    facts = {name: getattr(trainer, name, None) for name in _FACTS}
    facts["gradient_clip_algorithm"] = _enum(facts["gradient_clip_algorithm"])
    facts["devices"] = getattr(trainer, "num_devices", None)
    for name in ("strategy", "accelerator"):
        facts[name] = type(getattr(trainer, name, None)).__name__
    optimizers = named_optimizers(getattr(trainer, "optimizers", None) or ())
    if optimizers:
        facts["optimizers"] = {
            name: {"groups": len(optimizer.param_groups), **_settings(optimizer.param_groups[0])}
            for name, optimizer in optimizers
        }
    schedules = [_schedule(each) for each in getattr(trainer, "lr_scheduler_configs", None) or ()]
    if schedules:
        facts["lr_schedulers"] = schedules
    return facts


def _enum(value: Any) -> Any:
    return getattr(value, "value", value)


def _settings(group: Mapping[str, Any]) -> dict[str, Any]:
    """A parameter group's settings; what is a tensor is told by its value only where that is free.

    A learning rate on a device stays there: reading it would wait for the device.
    """
    return {
        name: value
        for name, value in group.items()
        if name != "params" and isinstance(value, (bool, int, float, str, tuple, list, type(None)))
    }


def _schedule(config: Any) -> dict[str, Any]:
    names = ("interval", "frequency", "monitor")
    told = {name: getattr(config, name, None) for name in names}
    return {"class": type(getattr(config, "scheduler", config)).__name__, **told}


def named_optimizers(optimizers: Iterable[Any]) -> list[tuple[str, Any]]:
    """Each optimizer by its class's name; a second one of a class is ``SGD-1``."""
    seen: dict[str, int] = {}
    found = []
    for each in optimizers:
        optimizer = getattr(each, "optimizer", each)  # some strategies wrap it
        name = type(optimizer).__name__
        number = seen.get(name, 0)
        seen[name] = number + 1
        found.append((f"{name}-{number}" if number else name, optimizer))
    return found


def learning_rates(optimizers: Iterable[Any]) -> dict[str, Any]:
    """Every group's learning rate under the name that ``LearningRateMonitor`` gives it."""
    rates = {}
    for name, optimizer in named_optimizers(optimizers):
        groups = optimizer.param_groups
        for number, group in enumerate(groups, start=1):
            own = group.get("name", f"pg{number}" if len(groups) > 1 else None)
            rates[f"lr-{name}/{own}" if own else f"lr-{name}"] = group["lr"]
    return rates


def stepped(trainer: Any) -> int:
    """The step that Lightning gives its loggers: batches after which the optimizer stepped."""
    return int(trainer.fit_loop.epoch_loop._batches_that_stepped)


def loaded(trainer: Any) -> tuple[int, int] | None:
    """Optimizers' steps and epoch of the checkpoint that the Trainer has just read."""
    connector = getattr(trainer, "_checkpoint_connector", None)
    checkpoint = getattr(connector, "_loaded_checkpoint", None)
    if not checkpoint:
        return None
    return checkpoint.get("global_step", 0), checkpoint.get("epoch", 0)


def within_batch(trainer: Any) -> bool:
    """Whether a batch is being trained, and not the end of an epoch being told of."""
    connector = getattr(trainer, "_logger_connector", None)
    return getattr(connector, "_first_loop_iter", False) is not None


def batch_size(batch: Any) -> int | None:
    """The first dimension of the first array found in a batch."""
    first = batch[0] if type(batch) in (list, tuple) and batch else batch
    shape = getattr(first, "shape", None)
    if shape:
        return int(shape[0])
    for found in _arrays(batch, 4):
        return int(found.shape[0])
    return None


def _arrays(batch: Any, depth: int) -> Iterator[Any]:
    if getattr(batch, "shape", None):
        yield batch
    elif depth and isinstance(batch, Mapping):
        for value in batch.values():
            yield from _arrays(value, depth - 1)
    elif depth and isinstance(batch, (list, tuple)):
        for value in batch:
            yield from _arrays(value, depth - 1)


def model_facts(module: Any) -> dict[str, Any]:
    """Class, numbers of parameters, and the tree of modules, without running any of them."""
    whole = list(module.parameters())
    dtypes: dict[str, int] = {}
    for weights in whole:
        name = str(weights.dtype).removeprefix("torch.")
        dtypes[name] = dtypes.get(name, 0) + _size(weights)
    return {
        "class": type(module).__name__,
        "parameters": sum(map(_size, whole)),
        "trainable": sum(_size(weights) for weights in whole if weights.requires_grad),
        "bytes": sum(_size(weights) * weights.element_size() for weights in whole),
        "dtypes": dtypes,
        "tree": [
            {
                "path": path.replace("_orig_mod.", ""),
                "class": type(part).__name__,
                "parameters": sum(map(_size, part.parameters())),
                "trainable": sum(_size(w) for w in part.parameters() if w.requires_grad),
            }
            for path, part in module.named_modules()
            if path
        ],
    }


def _size(weights: Any) -> int:
    """Elements; of a parameter whose shape is not known yet, none."""
    try:
        return int(weights.numel())
    except ValueError:
        return 0


class Pace:
    """Steps and samples a second between two rows; the time of validation does not count.

    Args:
        steps: How many steps the optimizers had made before.
    """

    __slots__ = ("_paused", "_samples", "_since", "_steps")

    def __init__(self, steps: int = 0) -> None:
        self._since: float | None = None
        self._paused: float | None = None
        self._steps = steps
        self._samples: int | None = 0

    def batch(self, samples: int | None) -> None:
        """A batch of so many samples is done."""
        if samples is None:
            self._samples = None
        elif self._samples is not None:
            self._samples += samples

    def pause(self) -> None:
        """Something begins that is no training."""
        self._paused = perf_counter()

    def resume(self) -> None:
        """It is over."""
        if self._paused is not None and self._since is not None:
            self._since += perf_counter() - self._paused
        self._paused = None

    def rates(self, steps: int) -> dict[str, float]:
        """The rates since the last call; the first interval, which warms up, has none.

        Args:
            steps: How many steps the optimizers have made.
        """
        now = perf_counter()
        found = {}
        if self._since is not None and now > self._since:
            found["steps_per_s"] = (steps - self._steps) / (now - self._since)
            if self._samples:
                found["samples_per_s"] = self._samples / (now - self._since)
        self._since, self._steps, self._samples = now, steps, 0
        return found
