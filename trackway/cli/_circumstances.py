"""The sections of ``show`` about what was around the run: code, machine, packages, secrets."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from rich.table import Table
from rich.text import Text

from trackway.api import StoredRun
from trackway.cli._parts import Column, Columns, Facts, Section, aside
from trackway.cli._text import (
    clean,
    duration,
    path_text,
    plural,
    shell,
    shorten,
    size,
    value_text,
    with_unit,
)

__all__ = ["environment", "git", "masked", "notable_packages", "packages", "system"]

_UNTRACKED: Final = 10

_NOTABLE: Final = re.compile(
    r"(?i)accelerate|datasets|diffusers|flax|jax(lib)?|keras|lightgbm|(pytorch-)?lightning|numpy"
    r"|optax|pandas|peft|scikit-learn|scipy|tensorflow(-cpu|-gpu)?|timm|tokenizers"
    r"|torch(audio|vision)?|trackway|transformers|triton|vllm|xgboost|catboost|deepspeed"
)

_OF_INTEREST: Final = (
    r"process\.(cpu_percent|memory_rss_bytes|read_bytes_per_s|write_bytes_per_s)",
    r"cpu\.percent",
    r"memory\.percent",
    r"gpu\..+\.(utilization_percent|process_memory_bytes|memory_used_bytes|power_watts)",
    r"gpu\..+\.temperature_celsius",
    r"(disk|network)\..+_bytes_per_s",
)


def git(run: StoredRun) -> Section:
    """Commit, branch, remote, and what was not committed."""
    state = run.git
    if state is None:
        return Section("Git")
    if not state.get("found", True):
        reason = state.get("reason")
        told = f"no repository: {clean(str(reason))}" if reason else "no repository"
        return Section("Git", [aside(told)])
    facts = Facts()
    _add_repository(facts, state)
    for module in _mappings(state.get("submodules")):
        place = f"{clean(path_text(module.get('path')))} at {clean(str(module.get('commit')))}"
        facts.add("submodule", ", ".join(filter(None, [place, _changes(module)])))
    return Section("Git", facts.body)


def _add_repository(facts: Facts, state: Mapping[str, Any]) -> None:
    facts.add("commit", clean(str(state.get("commit") or "none yet")))
    branch = state.get("branch")
    facts.add("branch", clean(str(branch)) if branch else "none: the commit was checked out itself")
    facts.add("remote", clean(str(state.get("remote") or "none")))
    facts.add("folder", clean(str(state.get("root") or "")))
    kinds = [name for name in ("bare", "shallow") if state.get(name)]
    facts.add("kind", ", ".join(kinds))
    facts.add("changes", _changes(state) or ("none" if state.get("dirty") is False else ""))
    files = _mappings(state.get("untracked"))
    for entry in files[:_UNTRACKED]:
        stored = f"({_omitted(entry)})" if entry.get("omitted") else ""
        bytes_ = entry.get("bytes")
        extent = size(bytes_) if isinstance(bytes_, int) else ""
        told = [clean(path_text(entry.get("path"))), extent, stored]
        facts.add("untracked", "  ".join(filter(None, told)))
    if len(files) > _UNTRACKED:
        facts.add("", f"and {plural(len(files) - _UNTRACKED, 'file')} more")


def _changes(state: Mapping[str, Any]) -> str:
    patch = state.get("patch")
    if not isinstance(patch, Mapping):
        uncommitted = state.get("dirty") and not state.get("untracked")
        return "uncommitted, not stored" if uncommitted else ""
    count, added, removed = (patch.get(name) for name in ("files", "insertions", "deletions"))
    told = plural(count, "file") if isinstance(count, int) else "files"
    told += f" changed, +{added} -{removed}" if added is not None else " changed"
    if patch.get("omitted"):
        return f"{told}; the patch was not stored ({_omitted(patch)})"
    return f"{told}; --patch prints them"


def _omitted(entry: Mapping[str, Any]) -> str:
    reason = entry.get("omitted")
    return "not stored" if reason is True else f"not stored: {clean(shorten(str(reason)))}"


def _mappings(value: object) -> list[Mapping[str, Any]]:
    entries = value if isinstance(value, Sequence) and not isinstance(value, str) else ()
    return [entry for entry in entries if isinstance(entry, Mapping)]


def environment(run: StoredRun) -> Section:
    """Command line, machine and jobs."""
    told = dict(run.environment or {})
    facts = Facts()
    argv = told.pop("argv", None)
    if argv:
        facts.add("command", " ".join(shell(str(word)) for word in argv))
    if told.pop("argv_truncated", False):
        facts.add("", "shortened: it was too long to be kept whole")
    gpus = _mappings(told.pop("gpus", None))
    reason = told.pop("gpus_reason", None)
    for name, value in told.items():
        _add_fact(facts, name, value)
    for gpu in gpus:
        facts.add(f"gpu {clean(str(gpu.get('index', '')))}".strip(), _gpu(gpu))
    if not gpus and reason:
        facts.add("gpu", f"none: {clean(str(reason))}")
    return Section("Environment", facts.body)


def _add_fact(facts: Facts, name: str, value: object, prefix: str = "") -> None:
    """A fact under its name; those of a mapping under its name and theirs."""
    label = f"{prefix} {name}".strip().replace("_", " ")
    if isinstance(value, Mapping):
        for inner_name, inner in value.items():
            # Environment variables keep their spelling.
            facts.add(clean(f"{label} {inner_name}"), value_text(inner))
    elif isinstance(value, (int, float)) and name.endswith("_bytes"):
        facts.add(clean(label.removesuffix(" bytes")), size(value))
    elif value not in (None, "", [], ()):
        facts.add(clean(label), value_text(value))


def _gpu(gpu: Mapping[str, Any]) -> str:
    memory = gpu.get("memory_bytes")
    driver = gpu.get("driver")
    told = [
        clean(str(gpu.get("name") or "name not captured")),
        size(memory) if isinstance(memory, (int, float)) else "",
        f"driver {clean(str(driver))}" if driver else "",
    ]
    return ", ".join(filter(None, told))


def notable_packages(run: StoredRun) -> dict[str, str]:
    """The packages a person asks for first, and their versions."""
    found = run.packages.items()
    return {name: version for name, version in found if _NOTABLE.fullmatch(name)}


def packages(run: StoredRun) -> Section:
    """How many there were, and the ones that matter most for a training."""
    count = len(run.packages)
    notable = [f"{clean(name)} {clean(version)}" for name, version in notable_packages(run).items()]
    if not count:
        return Section("Packages")
    body = Table.grid()
    body.add_row(Text(", ".join(notable) or f"{count} packages"))
    return Section("Packages", [body], f"{count} installed; --packages lists all")


def system(run: StoredRun) -> Section:
    """Mean and maximum of what a person looks at first."""
    history = run.system()
    keys = [
        key for pattern in _OF_INTEREST for key in history if re.fullmatch(pattern, key, re.DOTALL)
    ]
    rows = []
    for key in dict.fromkeys(keys):
        values = history[key].values.astype(np.float64)
        values = values[np.isfinite(values)]
        if len(values):
            told = with_unit(key, float(values.mean())), with_unit(key, float(values.max()))
            rows.append((Text(clean(key)), Text(told[0]), Text(told[1])))
    if not rows:
        return Section("System")
    table = Columns(
        [
            Column(Text(title), list(cells), right=bool(title))
            for title, cells in zip(("", "mean", "max"), zip(*rows, strict=True), strict=True)
        ]
    )
    times = np.concatenate([history[key].times for key in keys])
    samples = max(len(history[key]) for key in keys)
    over = duration(float(times.max() - times.min()))
    return Section("System", [table], f"{plural(samples, 'sample')} over {over}")


def masked(run: StoredRun) -> Section:
    """What was taken for a secret: never the secret."""
    facts = Facts()
    for item in run.masked:
        count = item.get("count")
        times = plural(count, "time") if isinstance(count, int) else ""
        facts.add(clean(str(item.get("where"))), f"{clean(str(item.get('rule')))}, {times}")
    return Section("Masked secrets", facts.body)
