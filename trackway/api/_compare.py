"""What runs have in common, and what tells them apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from trackway.api._document import flatten
from trackway.api._frames import Columnar
from trackway.backend.index.columns import MISSING

if TYPE_CHECKING:
    from trackway.api._run import StoredRun

__all__ = ["MISSING", "Comparison", "compare"]

_ENVIRONMENT: Final = "command script cwd host user executable".split()


_PARTS: Final = "config", "environment", "packages", "git", "summary"


@dataclass(frozen=True, slots=True, repr=False)
class Comparison(Columnar):
    """Several runs side by side; every list has one value a run, in their order.

    A value that a run does not have is ``MISSING``, which is false and prints as such.

    Attributes:
        runs: Their ids.
        config: Dotted names whose values differ.
        same_config: Dotted names whose values are the same in all.
        summary: Names of the summary whose values differ.
        environment: What differs of command, script, folder, host, user, Python, hardware, and
            variables.
        packages: Distributions whose versions differ.
        git: What differs of commit, branch, remote and dirty.
        patches: The digest of each run's uncommitted work, if any differ.
    """

    runs: list[str]
    config: dict[str, list[Any]] = field(default_factory=dict)
    same_config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, list[Any]] = field(default_factory=dict)
    environment: dict[str, list[Any]] = field(default_factory=dict)
    packages: dict[str, list[Any]] = field(default_factory=dict)
    git: dict[str, list[Any]] = field(default_factory=dict)
    patches: list[str | None] = field(default_factory=list)

    def __bool__(self) -> bool:
        """Whether anything but the summary differs."""
        return any((self.config, self.environment, self.packages, self.git, self.patches))

    def __repr__(self) -> str:
        counts = {part: len(values) for part, values in self.differences().items() if values}
        told = ", ".join(f"{part} {count}" for part, count in counts.items())
        return f"<{len(self.runs)} runs; differences: {told or 'none'}>"

    def differences(self) -> dict[str, dict[str, list[Any]]]:
        """All that differs, by what it is of; the patches as ``patch``."""
        parts = {part: dict(getattr(self, part)) for part in _PARTS}
        patches = {"digest": list(self.patches)} if self.patches else {}
        return {**parts, "patch": patches}

    def table(self) -> dict[str, npt.NDArray[Any]]:
        """A row for all that differs: ``of``, ``name``, then a column a run, named by its id.

        The columns hold objects; None where a run has no such value.
        """
        found = [
            (part, name, values)
            for part, told in self.differences().items()
            for name, values in told.items()
        ]
        table = {
            "of": _objects([part for part, _, _ in found]),
            "name": _objects([name for _, name, _ in found]),
        }
        for place, run in enumerate(self.runs):
            number, title = 1, run
            while title in table:
                number += 1
                title = f"{run} ({number})"
            table[title] = _objects([values[place] for _, _, values in found])
        return table


def compare(runs: Sequence[StoredRun]) -> Comparison:
    """Compare runs; see Comparison."""
    config, same = _split([flatten(run.config) for run in runs])
    summary, _ = _split([flatten(run.summary) for run in runs])
    environment, _ = _split([_surroundings(run.environment or {}) for run in runs])
    packages, _ = _split([dict(run.packages) for run in runs])
    git = [run.git or {} for run in runs]
    told, _ = _split(
        [
            {k: v for k in ("commit", "branch", "remote", "dirty") if (v := g.get(k)) is not None}
            for g in git
        ]
    )
    patches = [(g.get("patch") or {}).get("blob") for g in git]
    return Comparison(
        [run.id for run in runs],
        config,
        same,
        summary,
        environment,
        packages,
        told,
        patches if len(set(patches)) > 1 else [],
    )


def _objects(values: Sequence[Any]) -> npt.NDArray[Any]:
    column = np.empty(len(values), object)
    for place, value in enumerate(values):
        column[place] = None if value is MISSING else value
    return column


def _surroundings(environment: Mapping[str, Any]) -> dict[str, Any]:
    told = {name: environment[name] for name in _ENVIRONMENT if environment.get(name) is not None}
    for name in ("os", "python", "cpu", "memory", "container", "job", "variables"):
        inner = environment.get(name)
        if isinstance(inner, Mapping):
            told |= flatten(inner, f"{name}.")
    gpus = environment.get("gpus")
    if gpus:
        told["gpus"] = [gpu.get("name") for gpu in gpus if isinstance(gpu, Mapping)]
    return told


def _split(told: Sequence[Mapping[str, Any]]) -> tuple[dict[str, list[Any]], dict[str, Any]]:
    """Names whose values differ, and those whose values do not."""
    names = list(dict.fromkeys(name for one in told for name in one))
    differ: dict[str, list[Any]] = {}
    same: dict[str, Any] = {}
    for name in names:
        values = [one.get(name, MISSING) for one in told]
        if all(_alike(value, values[0]) for value in values[1:]):
            same[name] = values[0]
        else:
            differ[name] = values
    return differ, same


def _alike(a: Any, b: Any) -> bool:
    """Whether two values say the same: NaN is like NaN, and True is not like 1."""
    if isinstance(a, bool) is not isinstance(b, bool):
        return False
    if isinstance(a, float) and isinstance(b, float) and a != a and b != b:
        return True
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(map(_alike, a, b))
    return bool(a == b)
