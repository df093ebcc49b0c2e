"""What the ``Trainer`` says, as names and values of ours; nothing here imports the framework."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

__all__ = [
    "about_model",
    "checkpoint_folder",
    "fields",
    "hyperparameters",
    "is_evaluation",
    "is_final",
    "judged",
    "renamed",
    "store_run",
    "stored_run",
]

_KEY: Final = "trackway"
"""Under it the run stands among the callbacks' states, in a checkpoint's ``trainer_state.json``."""

_PACE: Final = "_samples_per_second"
"""Ends a name in every result of an evaluation, whatever that is called."""


# -- metrics ---------------------------------------------------------------------------------------


def is_final(logs: Mapping[str, Any]) -> bool:
    """Whether it is the result of a whole training, which ``Trainer`` logs at its end."""
    return "train_runtime" in logs and "train_loss" in logs


def is_evaluation(logs: Mapping[str, Any]) -> bool:
    """Whether it is what an evaluation or a prediction found."""
    return bool(_origin(logs)) or any(name.startswith(("eval_", "test_")) for name in logs)


def renamed(logs: Mapping[str, Any]) -> dict[str, Any]:
    """The values by origin: ``eval_loss`` is ``eval/loss``; ``loss`` is ``train/loss``."""
    origin = _origin(logs)
    return {_name(name, origin): value for name, value in logs.items()}


def _origin(logs: Mapping[str, Any]) -> str:
    """What ``metric_key_prefix`` the evaluation was given; empty for a training."""
    for name in logs:
        if name.endswith(_PACE) and not name.startswith("train_"):
            return name[: -len(_PACE)]
    return ""


def _name(name: str, origin: str) -> str:
    if name == "epoch":
        return name
    for start in ("eval", "test", origin):
        if start and name.startswith(start + "_"):
            return f"{start}/{name[len(start) + 1 :]}"
    return f"train/{name}"


# -- hyperparameters and the model -----------------------------------------------------------------


def hyperparameters(args: Any, state: Any, model: Any) -> dict[str, Any]:
    """``args``, ``model``, ``peft`` and ``trial``, as far as there are any."""
    found = {
        "args": _mapping(args),
        "model": _mapping(getattr(model, "config", None)),
        "peft": _adapters(getattr(model, "peft_config", None)),
        "trial": _mapping(getattr(state, "trial_params", None)),
    }
    return {name: values for name, values in found.items() if values}


def _mapping(value: Any) -> dict[str, Any]:
    if callable(getattr(value, "to_dict", None)):
        value = value.to_dict()
    return {str(name): each for name, each in value.items()} if isinstance(value, Mapping) else {}


def _adapters(configs: Any) -> dict[str, Any]:
    """A single adapter's configuration as it is; several ones by their names."""
    found = {name: _mapping(config) for name, config in _mapping(configs).items()}
    return next(iter(found.values())) if len(found) == 1 else found


def about_model(model: Any) -> dict[str, Any]:
    """What the model is made of; a parameter that several modules share counts once in each."""
    parameters = list(model.parameters())
    dtypes: dict[str, int] = {}
    for parameter in parameters:
        dtype = str(parameter.dtype).removeprefix("torch.")
        dtypes[dtype] = dtypes.get(dtype, 0) + _size(parameter)
    total, trainable = _counts(parameters)
    return {
        "class": type(model).__name__,
        "parameters": total,
        "trainable": trainable,
        "bytes": sum(_size(each) * each.element_size() for each in parameters),
        "dtypes": dtypes,
        "tree": [_branch(path, module) for path, module in model.named_modules()],
    }


def _branch(path: str, module: Any) -> dict[str, Any]:
    total, trainable = _counts(list(module.parameters()))
    kind = type(module).__name__
    return {"path": path, "class": kind, "parameters": total, "trainable": trainable}


def _counts(parameters: list[Any]) -> tuple[int, int]:
    trainable = [each for each in parameters if each.requires_grad]
    return sum(map(_size, parameters)), sum(map(_size, trainable))


def _size(parameter: Any) -> int:
    """Its number of elements, also where DeepSpeed has taken them away for a time."""
    return int(getattr(parameter, "ds_numel", None) or parameter.numel())


# -- checkpoints and the run -----------------------------------------------------------------------


def checkpoint_folder(args: Any, state: Any) -> Path | None:
    """The folder just saved; a trial of a search has its own one inside the output folder."""
    name = f"checkpoint-{state.global_step}"
    output = Path(args.output_dir)
    folders = [output / name]
    if state.is_hyper_param_search:
        folders += output.glob(f"*/{name}")
    found = [folder for folder in folders if folder.is_dir()]
    return max(found, key=lambda folder: folder.stat().st_mtime, default=None)


def judged(args: Any, state: Any) -> tuple[str | None, Any]:
    """The metric that checkpoints are compared by, and what it was at this step."""
    name = getattr(args, "metric_for_best_model", None)
    if not name:
        return None, None
    name = name if name.startswith("eval_") else f"eval_{name}"
    for row in reversed(state.log_history or []):
        if row.get("step") != state.global_step:
            break
        if name in row:
            return _name(name, ""), row[name]
    return _name(name, ""), None


def store_run(state: Any, run: Any) -> None:
    """Have every checkpoint name the run.

    Not as an ``ExportableState``: with one, ``Trainer`` raises ``KeyError`` when it saves after
    resuming from a checkpoint that was written without it.
    """
    state.stateful_callbacks[_KEY] = {"run": run.id, "project": run.project}


def fields(args: Any, state: Any, search: str | None) -> dict[str, Any]:
    """What is known of a run, as arguments of ``init``; a trial's is one of its search's group."""
    told = args.run_name if args.run_name != args.output_dir else None
    found = {"name": state.trial_name or told}
    if state.is_hyper_param_search:
        # The program's own run stays open beside it, in a notebook too.
        found |= {"group": search, "reinit": "create_new"}
    return {name: value for name, value in found.items() if value}


def stored_run(state: Any) -> dict[str, Any]:
    """The run that the checkpoint names from which training goes on, as arguments of ``init``."""
    stored = (state.stateful_callbacks or {}).get(_KEY)
    if not isinstance(stored, Mapping) or os.environ.get("TRACKWAY_RUN_ID"):
        return {}
    found = {"id": stored.get("run"), "project": stored.get("project")}
    return {name: value for name, value in found.items() if isinstance(value, str)}
