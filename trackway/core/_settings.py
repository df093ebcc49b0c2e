"""Settings from arguments and from the environment."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

import msgspec

from trackway.errors import ArgumentError
from trackway.types import Settings

__all__ = ["make_settings", "process_rank"]

_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off", ""}


def make_settings(given: Settings | Mapping[str, Any] | None) -> Settings:
    """The settings that hold: the argument's fields, else the environment's, else the defaults.

    Raises:
        ArgumentError: An unknown field, or a value that is not of its kind.
    """
    if isinstance(given, Settings):
        return _checked(given)
    fields = {field.name: field for field in msgspec.structs.fields(Settings)}
    explicit = dict(given or {})
    unknown = sorted(set(explicit) - set(fields))
    if unknown:
        raise ArgumentError(f"settings: unknown {unknown}; there are {sorted(fields)}")
    values: dict[str, Any] = {}
    for name, field in fields.items():
        text = os.environ.get(f"TRACKWAY_{name.upper()}")
        if name in explicit:
            values[name] = explicit[name]
        elif text is not None:
            values[name] = _parsed(name, text, field.default)
    return _checked(Settings(**values))


def _parsed(name: str, text: str, default: object) -> object:
    variable = f"TRACKWAY_{name.upper()}"
    if isinstance(default, bool):
        if text.strip().lower() in _TRUE | _FALSE:
            return text.strip().lower() in _TRUE
        raise ArgumentError(f"{variable}={text!r}: say 1 or 0")
    if isinstance(default, tuple):
        separator = "\n" if "pattern" in name else ","
        return tuple(part.strip() for part in text.split(separator) if part.strip())
    try:
        return type(default)(text)  # type: ignore[call-arg]
    except ValueError:
        kind = type(default).__name__
        raise ArgumentError(f"{variable}={text!r} is not a number ({kind})") from None


def _checked(settings: Settings) -> Settings:
    for field in msgspec.structs.fields(Settings):
        value, default = getattr(settings, field.name), field.default
        if isinstance(default, bool) != isinstance(value, bool):
            raise ArgumentError(
                f"settings: {field.name} is {type(default).__name__}, not {value!r}"
            )
        if isinstance(default, (int, float)) and not isinstance(value, (int, float)):
            raise ArgumentError(f"settings: {field.name} is a number, not {value!r}")
        if isinstance(default, tuple) and isinstance(value, str):
            raise ArgumentError(f"settings: {field.name} is a list of texts, not one text")
    if not settings.system_interval_s >= 0.1:
        raise ArgumentError(
            f"settings: system_interval_s is at least 0.1, not {settings.system_interval_s}"
        )
    return msgspec.structs.replace(
        settings,
        redact_names=tuple(settings.redact_names),
        redact_patterns=tuple(settings.redact_patterns),
    )


def process_rank() -> int:
    """This process's rank in its distributed job; 0 outside one.

    Asked in order: PyTorch's process group, where there is one; then what the launcher says in the
    environment: torchrun and most launchers, Slurm (more than one task), Open MPI, MPICH,
    then launchers that tell the local and the node's rank only.
    """
    rank = _group_rank()
    if rank is not None:
        return rank
    environ = os.environ
    if (environ.get("SLURM_NTASKS") or "1") != "1" and "RANK" not in environ:
        rank = _number(environ.get("SLURM_PROCID"))
        if rank is not None:
            return rank
    for name in ("RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK"):
        rank = _number(environ.get(name))
        if rank is not None:
            return rank
    local = _number(environ.get("LOCAL_RANK")) or 0
    node = _number(environ.get("NODE_RANK")) or _number(environ.get("GROUP_RANK")) or 0
    return local + node * max(1, _number(environ.get("LOCAL_WORLD_SIZE")) or 1)


def _group_rank() -> int | None:
    """The rank in PyTorch's process group, if PyTorch is loaded and has one."""
    distributed: Any = sys.modules.get("torch.distributed")
    try:
        if distributed is not None and distributed.is_available() and distributed.is_initialized():
            return int(distributed.get_rank())
    except (AttributeError, RuntimeError, ValueError):  # half imported, or being torn down
        pass
    return None


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None
