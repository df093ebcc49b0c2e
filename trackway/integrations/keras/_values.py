"""What Keras tells, made plain: numbers, configurations, layers, histograms."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

import numpy as np

__all__ = [
    "FIT",
    "bits_11",
    "clean",
    "compiled",
    "config",
    "fitted",
    "iterations",
    "model_about",
    "named_optimizers",
    "number",
    "optimizer_configs",
    "parameters",
    "rates",
    "raw_iterations",
    "samples_an_epoch",
    "stopped",
]

_CHUNK: Final = 1 << 24
FIT: Final = (
    "initial_epoch",
    "steps_per_epoch",
    "shuffle",
    "validation_split",
    "validation_steps",
    "validation_batch_size",
    "validation_freq",
)
_UNSERIALISABLE: Final = (AttributeError, KeyError, NotImplementedError, TypeError, ValueError)

ToNumpy = Callable[[Any], Any]


def number(value: Any, to_numpy: ToNumpy) -> Any:
    """A plain number of what any backend has; what is not a single one stays as it is."""
    if isinstance(value, (int, float)):
        return value
    try:
        array = np.asarray(to_numpy(value))
    except _UNSERIALISABLE:
        return value
    return array.item() if array.size == 1 else array


# -- optimizers ----------------------------------------------------------------------------


def named_optimizers(model: Any, kind: type) -> dict[str, Any]:
    """The optimizers that a model has, by the name of its attribute; the compiled one first."""
    main = getattr(model, "optimizer", None)
    found = {} if main is None else {"optimizer": main}
    for name, value in vars(model).items():
        if isinstance(value, kind) and not any(value is other for other in found.values()):
            found[name.lstrip("_")] = value
    return found


def iterations(optimizers: Mapping[str, Any], to_numpy: ToNumpy) -> int:
    """The steps that were made: the compiled optimizer's, else the busiest one's."""
    counts = [int(number(found.iterations, to_numpy)) for found in _steppers(optimizers)]
    return counts[0] if counts and counts[0] > 0 else max(counts, default=0)


def raw_iterations(optimizers: Mapping[str, Any], to_numpy: ToNumpy) -> tuple[int, int]:
    """Calls of the optimizer so far, and how many of them make one step."""
    for found in _steppers(optimizers):
        inner = getattr(found, "inner_optimizer", found)
        made = int(number(getattr(inner, "_iterations", inner.iterations), to_numpy))
        if made > 0:
            return made, int(getattr(inner, "gradient_accumulation_steps", None) or 1)
    first = next(iter(_steppers(optimizers)), None)
    inner = getattr(first, "inner_optimizer", first)
    return 0, int(getattr(inner, "gradient_accumulation_steps", None) or 1)


def _steppers(optimizers: Mapping[str, Any]) -> list[Any]:
    return [found for found in optimizers.values() if hasattr(found, "iterations")]


def rates(optimizers: Mapping[str, Any], to_numpy: ToNumpy) -> dict[str, Any]:
    """The learning rates as they stand, schedules evaluated; one name for each optimizer.

    Several in one are named as Keras names them. A compiled optimizer that never steps, because
    the model's own ``train_step`` has others, is left out.
    """
    found = {}
    for name, optimizer in optimizers.items():
        inner = getattr(optimizer, "optimizers", None)
        if isinstance(inner, (list, tuple)):
            each = {f"learning_rate_{one.name}": one for one in inner}
        else:
            own = "learning_rate" if name == "optimizer" else f"learning_rate_{name}"
            each = {own: optimizer}
        for label, one in each.items():
            if hasattr(one, "learning_rate"):
                found[label] = number(one.learning_rate, to_numpy)
    if len(optimizers) > 1 and not number(optimizers["optimizer"].iterations, to_numpy):
        found.pop("learning_rate", None)
    return found


def optimizer_configs(optimizers: Mapping[str, Any]) -> dict[str, Any]:
    """All optimizers by name, as ``optimizer_config``."""
    return {name: optimizer_config(optimizer) for name, optimizer in optimizers.items()}


def optimizer_config(optimizer: Any) -> dict[str, Any]:
    """An optimizer's class and everything it was built with."""
    return {"class": type(optimizer).__name__, **_configured(optimizer)}


def _configured(thing: Any) -> dict[str, Any]:
    try:
        found = clean(thing.get_config())
    except _UNSERIALISABLE:
        return {}
    return found if isinstance(found, dict) else {}


# -- configurations ------------------------------------------------------------------------


def clean(value: Any) -> Any:
    """Keras's serialised objects in fewer words: a class by its name beside its arguments."""
    if isinstance(value, Mapping):
        if "class_name" in value and "config" in value:
            return _object(str(value["class_name"]), clean(value["config"]))
        return {str(key): clean(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [clean(inner) for inner in value]
    return value


def _object(name: str, config: Any) -> Any:
    if name == "function":
        return config
    if name == "__lambda__":
        return "<lambda>"
    if name == "DTypePolicy" and isinstance(config, dict):
        return config.get("name")
    return {"class": name, **(config if isinstance(config, dict) else {"config": config})}


def config(model: Any, params: Mapping[str, Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What is trained, and how."""
    about = {"class": type(model).__name__, "name": model.name, **parameters(model)}
    found = {"model": about, "fit": fitted(params, arguments), **compiled(model)}
    policy = getattr(getattr(model, "dtype_policy", None), "name", None)
    return found if policy is None else {**found, "dtype_policy": policy}


def stopped(callback: Any, to_numpy: ToNumpy) -> dict[str, Any]:
    """What ``EarlyStopping`` says of a training."""
    if not hasattr(callback, "stopped_epoch") or not hasattr(callback, "best_epoch"):
        return {}
    found: dict[str, Any] = {}
    if callback.stopped_epoch > 0:
        found["stopped_epoch"] = callback.stopped_epoch
    if callback.best is not None:
        found["best_epoch"] = callback.best_epoch
        found[f"best_{callback.monitor}"] = number(callback.best, to_numpy)
    return found


def compiled(model: Any) -> dict[str, Any]:
    """What the model was compiled with, besides its optimizer."""
    try:
        told = clean(model.get_compile_config())
    except _UNSERIALISABLE:  # a loss or metric of the user's that Keras cannot serialise
        told = {"loss": _called(getattr(model, "loss", None))}
    names = ("loss", "loss_weights", "metrics", "weighted_metrics")
    found = {name: told[name] for name in names if told.get(name) is not None}
    for name in ("run_eagerly", "jit_compile", "steps_per_execution", "auto_scale_loss"):
        value = getattr(model, name, None)
        if isinstance(value, (bool, int, str)):
            found[name] = value
    return found


def _called(thing: Any) -> Any:
    if isinstance(thing, Mapping):
        return {str(key): _called(value) for key, value in thing.items()}
    if isinstance(thing, (list, tuple)):
        return [_called(value) for value in thing]
    if thing is None or isinstance(thing, str):
        return thing
    thing = getattr(thing, "func", thing)
    return str(getattr(thing, "__name__", None) or type(thing).__name__)


def fitted(params: Mapping[str, Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What ``fit`` was told, as far as it is plain."""
    found = {name: params.get(name) for name in ("epochs", "steps")}
    adapter = getattr(arguments.get("epoch_iterator"), "data_adapter", None)
    found["batch_size"] = getattr(adapter, "batch_size", None)
    found.update((name, arguments.get(name)) for name in FIT)
    return {key: value for key, value in found.items() if isinstance(value, (bool, int, float))}


def samples_an_epoch(arguments: Mapping[str, Any]) -> int | None:
    """How many samples an epoch has, where ``fit`` knows without reading them."""
    data = arguments.get("epoch_iterator")
    adapter = getattr(data, "data_adapter", None)
    batches, size = getattr(data, "num_batches", None), getattr(adapter, "batch_size", None)
    if not isinstance(batches, int) or not isinstance(size, int):
        return None
    missing = 0
    if arguments.get("steps_per_epoch") is None and getattr(adapter, "has_partial_batch", False):
        partial = getattr(adapter, "partial_batch_size", None)
        missing = size - partial if isinstance(partial, int) else 0
    return batches * size - missing


# -- models --------------------------------------------------------------------------------


def parameters(layer: Any) -> dict[str, int]:
    """How many numbers a model or layer has learnt or keeps, without those of its optimizer."""
    trainable = _numbers(getattr(layer, "trainable_weights", ()))
    frozen = _numbers(getattr(layer, "non_trainable_weights", ()))
    return {"parameters": trainable + frozen, "trainable": trainable}


def _numbers(weights: Iterable[Any]) -> int:
    return sum(int(np.prod([n or 0 for n in weight.shape], dtype=np.int64)) for weight in weights)


def model_about(model: Any) -> dict[str, Any]:
    """A model's class, counts and layers, outer ones before inner ones."""
    dtypes: dict[str, int] = {}
    size = 0
    for weight in model.weights:
        kind, count = str(weight.dtype), _numbers([weight])
        dtypes[kind] = dtypes.get(kind, 0) + count
        size += count * _width(kind)
    about = {"class": type(model).__name__, **parameters(model), "bytes": size, "dtypes": dtypes}
    return {**about, "name": model.name, "tree": list(_layers(model, "", set()))}


def _width(kind: str) -> int:
    digits = "".join(letter for letter in kind.partition("_")[0] if letter.isdigit())
    if kind.startswith("float8"):
        return 1
    return max(1, int(digits or 8) // 8)


def _layers(layer: Any, above: str, seen: set[int]) -> Iterator[dict[str, Any]]:
    inside = getattr(layer, "layers", None) or getattr(layer, "_layers", None) or ()
    for inner in inside:
        if id(inner) in seen or not hasattr(inner, "trainable_weights"):
            continue
        seen.add(id(inner))
        path = f"{above}/{inner.name}" if above else str(inner.name)
        yield {"path": path, "class": type(inner).__name__, **parameters(inner)}
        yield from _layers(inner, path, seen)


# -- histograms ----------------------------------------------------------------------------


def bits_11(values: Any) -> list[tuple[int, list[int]]]:
    """Counts by the upper 11 bits of an IEEE single, as pieces ``(first bin, counts)``.

    NaN and the infinities have bins of their own, and so has zero: nothing is left out.
    """
    array = np.asarray(values)
    if np.iscomplexobj(array):
        array = np.stack([array.real, array.imag])
    flat = array.reshape(-1)
    counts = np.zeros(2048, np.int64)
    for first in range(0, flat.size, _CHUNK):
        with np.errstate(over="ignore"):
            part = np.ascontiguousarray(flat[first : first + _CHUNK], dtype=np.float32)
        counts += np.bincount(part.view(np.uint32) >> np.uint32(21), minlength=2048)
    return _pieces(counts)


def _pieces(counts: Any) -> list[tuple[int, list[int]]]:
    occupied = np.flatnonzero(counts)
    if not occupied.size:
        return []
    breaks = np.flatnonzero(np.diff(occupied) > 2) + 1
    return [
        (int(run[0]), counts[run[0] : run[-1] + 1].tolist()) for run in np.split(occupied, breaks)
    ]
