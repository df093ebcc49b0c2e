"""The sections of ``show`` about what was around the run: code, machine, packages, secrets."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from rich.text import Text

from trackway.api import StoredRun
from trackway.cli._parts import Column, Columns, Facts, Section
from trackway.cli._repeat import inner_trees
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
    facts = Facts()
    if state.get("found", True):
        _add_tree(facts, state)
        for path, tree in inner_trees(state):
            place = f"{clean(path)} at {clean(tree.get('commit') or 'no commit')[:12]}"
            facts.add("submodule", ", ".join(filter(None, [place, _changes(tree)])))
    facts.add("not captured", clean(state.get("reason") or ""))
    return Section("Git", facts.body)


def _add_tree(facts: Facts, state: Mapping[str, Any]) -> None:
    facts.add("commit", clean(state.get("commit") or "none yet"))
    facts.add("", clean(shorten(str(state.get("message") or ""), 100)))
    detached = "none: the commit itself was checked out" if state.get("detached") else ""
    facts.add("branch", clean(state.get("branch") or detached))
    facts.add("remote", clean(state.get("remote") or "none"))
    places = [path_text(state[name]) for name in ("root", "prefix") if state.get(name)]
    facts.add("folder", clean("/".join(places)))
    kinds = [name for name in ("bare", "shallow") if state.get(name)]
    facts.add("kind", ", ".join(kinds))
    facts.add("changes", _changes(state) or ("none" if state.get("dirty") is False else ""))
    files = _mappings(state.get("untracked"))
    for place, entry in enumerate(files[:_UNTRACKED]):
        facts.add("untracked" if place == 0 else "", _untracked(entry))
    more = len(files) - _UNTRACKED + int(state.get("untracked_left_out") or 0)
    if more > 0:
        facts.add("", f"and {plural(more, 'file')} more")


def _changes(state: Mapping[str, Any]) -> str:
    patch = state.get("patch")
    if not isinstance(patch, Mapping):
        return ""
    count, added, removed = (patch.get(name) for name in ("files", "insertions", "deletions"))
    told = f"{plural(count, 'file')} changed" if isinstance(count, int) else "files changed"
    told += f", +{added} -{removed}" if added is not None else ""
    if patch.get("omitted"):
        return f"{told}; the patch was not stored ({clean(patch['omitted'])})"
    masked = ", with secrets masked" if patch.get("masked") else ""
    return f"{told}{masked}; --patch prints them"


def _untracked(entry: Mapping[str, Any]) -> str:
    bytes_, omitted = entry.get("bytes"), entry.get("omitted")
    told = [
        clean(shorten(path_text(entry.get("path")))),
        size(bytes_) if isinstance(bytes_, int) else "",
        f"(not stored: {clean(omitted)})" if omitted else "",
        "(secrets masked)" if entry.get("masked") else "",
    ]
    return "  ".join(filter(None, told))


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _mappings(value: object) -> list[Mapping[str, Any]]:
    entries = value if isinstance(value, Sequence) and not isinstance(value, str) else ()
    return [entry for entry in entries if isinstance(entry, Mapping)]


def environment(run: StoredRun) -> Section:
    """Command line, machine and jobs; what this release does not know is shown as it is."""
    told = dict(run.environment or {})
    facts = Facts()
    command = told.pop("command", None)
    if isinstance(command, Sequence) and not isinstance(command, str):
        facts.add("command", " ".join(shell(str(word)) for word in command))
    if told.pop("argv_truncated", False):
        facts.add("", "shortened: it was too long to be kept whole")
    gpus, reason = _mappings(told.pop("gpus", None)), told.pop("gpus_reason", None)
    variables = {**_mapping(told.pop("job", None)), "variables": told.pop("variables", None)}
    for name, value in told.items():
        known = _IN_WORDS.get(name)
        if known and isinstance(value, Mapping):
            value = known(value)
        if name == "script":
            value = _script(value)
        facts.add(clean(name.replace("_", " ")), value_text(value) if value else "")
    for gpu in gpus:
        facts.add(f"gpu {clean(gpu.get('index', ''))}".strip(), _gpu(gpu))
    if not gpus:
        facts.add("gpu", f"none: {clean(reason)}" if reason else "")
    for kind, values in variables.items():
        for place, (name, value) in enumerate(_mapping(values).items()):
            facts.add(clean(kind) if place == 0 else "", clean(shorten(f"{name}={value}")))
    return Section("Environment", facts.body)


def _script(value: object) -> object:
    """A script's file; ``<stdin>``, which is none, lies in no folder."""
    return "<stdin>" if str(value).endswith("/<stdin>") else value


def _python(told: Mapping[str, Any]) -> str:
    around = told.get("environment")
    place = f"in {around.get('kind')} {around.get('path')}" if isinstance(around, Mapping) else ""
    return _joined(told.get("version"), told.get("implementation"), place)


def _os(told: Mapping[str, Any]) -> str:
    kernel = _joined(told.get("name"), told.get("kernel"), told.get("machine"))
    return ", ".join(filter(None, [str(told.get("distribution") or ""), kernel]))


def _cpu(told: Mapping[str, Any]) -> str:
    usable, logical = told.get("usable"), told.get("logical")
    cores = f"{usable} of {logical} cores" if usable != logical else f"{logical} cores"
    return ", ".join(filter(None, [str(told.get("model") or ""), cores if logical else ""]))


def _memory(told: Mapping[str, Any]) -> str:
    total, limit = told.get("total"), told.get("limit")
    limited = f"limited to {size(limit)}" if isinstance(limit, (int, float)) else ""
    whole = size(total) if isinstance(total, (int, float)) else ""
    return ", ".join(filter(None, [whole, limited]))


def _container(told: Mapping[str, Any]) -> str:
    return _joined(told.get("kind"), told.get("image"))


def _joined(*parts: object) -> str:
    return " ".join(str(part) for part in parts if part)


_IN_WORDS: Final[dict[str, Callable[[Mapping[str, Any]], str]]] = {
    "python": _python,
    "os": _os,
    "cpu": _cpu,
    "memory": _memory,
    "container": _container,
}


def _gpu(gpu: Mapping[str, Any]) -> str:
    memory, driver = gpu.get("memory_bytes"), gpu.get("driver")
    told = [
        clean(gpu.get("name") or "name not captured"),
        size(memory) if isinstance(memory, (int, float)) else "",
        f"driver {clean(driver)}" if driver else "",
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
    aside = f"{count} installed; --packages lists all"
    return Section("Packages", [Text(", ".join(notable) or "none that stands out")], aside)


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
        facts.add(clean(item.get("where")), f"{clean(item.get('rule'))}, {times}")
    return Section("Masked secrets", facts.body)
