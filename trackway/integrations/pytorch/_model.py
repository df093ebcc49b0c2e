"""What a model and an optimizer are made of: names of parameters, the tree, hyperparameters."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

__all__ = ["Known", "Names", "about_model", "about_optimizer", "inner", "lr_of", "rates"]

_HOLDERS: Final = {"DistributedDataParallel", "DataParallel", "FullyShardedDataParallel"}
_WRAPPERS: Final = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
_MODULES: Final = 2000
"""Modules of a tree that are recorded; how many there are is said."""


def inner(model: nn.Module) -> nn.Module:
    """The model inside what compiles or distributes it."""
    while True:
        holds = type(model).__name__ in _HOLDERS
        wrapped: object = getattr(model, "module" if holds else "_orig_mod", None)
        if not isinstance(wrapped, nn.Module):
            return model
        model = wrapped


def _clean(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


class Known(NamedTuple):
    """A parameter that has a name."""

    parameter: weakref.ref[Tensor]
    order: int
    name: str


class Names:
    """The names of the models' parameters, in the order of their modules; tied ones have one name.

    Models and parameters are held weakly. Where there are several models, a name begins with the
    model's number. Without a model the names are those that the optimizers know, or numbers.
    """

    def __init__(
        self, models: list[nn.Module], optimizers: Sequence[torch.optim.Optimizer] = ()
    ) -> None:
        self._optimizers = [] if models else [weakref.ref(each) for each in optimizers]
        self.models = [weakref.ref(inner(model)) for model in models]
        self.outer = [weakref.ref(model) for model in models]
        self._known: dict[int, Known] = {}
        self.learn()

    def alive(self) -> list[tuple[str, nn.Module]]:
        """The models that still exist, and how the names of their parameters begin."""
        several = len(self.models) > 1
        pairs = [(f"{i}." if several else "", ref()) for i, ref in enumerate(self.models)]
        return [(start, model) for start, model in pairs if model is not None]

    def learn(self) -> None:
        """Read the names again: parameters may have been added or replaced."""
        known: dict[int, Known] = {}
        for name, parameter in self._all():
            if id(parameter) not in known:
                known[id(parameter)] = Known(weakref.ref(parameter), len(known), name)
        self._known = known

    def _all(self) -> Iterator[tuple[str, Tensor]]:
        for start, model in self.alive():
            for name, parameter in model.named_parameters():
                yield start + _clean(name), parameter
        for ref in self._optimizers:
            optimizer = ref()
            for index, group in enumerate(optimizer.param_groups if optimizer is not None else ()):
                names = group.get("param_names") or map(str, range(len(group["params"])))
                several = optimizer is not None and len(optimizer.param_groups) > 1
                start = f"{_label(group, index)}." if several else ""
                for name, parameter in zip(names, group["params"], strict=False):
                    yield start + _clean(name), parameter

    def held(self, optimizer: torch.optim.Optimizer) -> list[str]:
        """The names of the parameters that an optimizer holds."""
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        return [known.name for p in parameters if (known := self.of(p)) is not None]

    def trainable(self) -> int:
        """How many of the parameters are trained."""
        found = [known.parameter() for known in self._known.values()]
        return sum(parameter is not None and parameter.requires_grad for parameter in found)

    def of(self, parameter: Tensor) -> Known | None:
        """The parameter's name and place, or None for another model's."""
        known = self._known.get(id(parameter))
        return known if known is not None and known.parameter() is parameter else None

    def sharded(self) -> bool:
        """Whether the older FSDP holds parts of the parameters: theirs are plain tensors."""
        outer = [model for ref in self.outer if (model := ref()) is not None]
        if not any(
            type(module).__name__ == "FullyShardedDataParallel"
            for model in outer
            for module in model.modules()
        ):
            return False
        return torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1


# -- the model -----------------------------------------------------------------------------


def _size(parameter: Tensor) -> int:
    return 0 if is_lazy(parameter) else parameter.numel()


def _above(path: str) -> Iterator[str]:
    """The paths of a parameter's module and of all modules around it, inner ones first."""
    while path:
        path = path.rpartition(".")[0]
        yield path


def about_model(model: nn.Module) -> dict[str, Any]:
    """Class, counts and the tree of modules; tied parameters count once."""
    total: dict[str, int] = {}
    trainable: dict[str, int] = {}
    dtypes: dict[str, int] = {}
    bytes_ = 0
    for name, parameter in model.named_parameters():
        size = _size(parameter)
        dtype = str(parameter.dtype).removeprefix("torch.")
        dtypes[dtype] = dtypes.get(dtype, 0) + size
        bytes_ += size * parameter.dtype.itemsize
        for path in _above(name):
            total[path] = total.get(path, 0) + size
            trainable[path] = trainable.get(path, 0) + size * parameter.requires_grad
    modules = list(model.named_modules())
    tree = [
        {
            "path": _clean(path),
            "class": type(module).__name__,
            "parameters": total.get(path, 0),
            "trainable": trainable.get(path, 0),
            "own": sum(_size(p) for p in module.parameters(recurse=False)),
        }
        for path, module in modules[:_MODULES]
    ]
    return {
        "class": type(model).__name__,
        "parameters": total.get("", 0),
        "trainable": trainable.get("", 0),
        "bytes": bytes_,
        "dtypes": dtypes,
        "modules": len(modules),
        "tree": tree,
    }


# -- the optimizer -------------------------------------------------------------------------


def _setting(value: object) -> object:
    """A hyperparameter; a tensor on a device is not waited for."""
    if isinstance(value, Tensor):
        there = value.device.type != "cpu" or value.numel() != 1
        return f"tensor on {value.device}" if there else value.item()
    return value


def _label(group: Mapping[str, Any], index: int) -> str:
    return str(group.get("name", index))


def about_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Class and hyperparameters: those that all groups share, and each group's own."""
    groups = [
        {name: _setting(value) for name, value in group.items() if name not in ("params", "name")}
        for group in optimizer.param_groups
    ]
    about: dict[str, Any] = {"class": type(optimizer).__name__}
    shared = {
        name: value
        for name, value in groups[0].items()
        if all(name in group and group[name] == value for group in groups)
    }
    about.update(shared)
    if len(groups) > 1:
        about["groups"] = {
            _label(whole, index): {
                "parameters": sum(map(_size, whole["params"])),
                **{name: value for name, value in group.items() if name not in shared},
            }
            for index, (whole, group) in enumerate(zip(optimizer.param_groups, groups, strict=True))
        }
    return about


def lr_of(group: Mapping[str, Any]) -> object:
    """The learning rate of a group as it is now, also where it is a tensor that will change."""
    rate = group.get("lr")
    return rate.detach().clone() if isinstance(rate, Tensor) else rate


def rates(optimizer: torch.optim.Optimizer, alone: str = "") -> dict[str, object]:
    """The learning rate by its metric's name, a group each.

    Args:
        optimizer: The optimizer.
        alone: The name of the only parameter it holds out of many.
    """
    groups = optimizer.param_groups
    if len(groups) == 1:
        return {f"lr/{alone}" if alone else "lr": lr_of(groups[0])}
    return {f"lr/{_label(group, index)}": lr_of(group) for index, group in enumerate(groups)}
