"""Figures, their statistics, and the plain table they are printed as."""

from __future__ import annotations

import math
import os
import platform
import statistics
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

__all__ = ["Figure", "circumstances", "missing", "quantile", "standard_error", "table"]


@dataclass
class Figure:
    """One measured number, and what it is held against.

    Attributes:
        what: What was measured.
        who: Who was measured.
        value: The median over the rounds; None where it could not be measured.
        unit: Of the value, the floor and the budget.
        rounds: The value of each round.
        floor: The same work without any tracker.
        budget: The value that may not be exceeded.
        budget_ratio: The multiple of the floor that may not be exceeded.
        note: Anything to be said beside it; why there is no value.
    """

    what: str
    who: str
    value: float | None
    unit: str
    rounds: Sequence[float] = ()
    floor: float | None = None
    budget: float | None = None
    budget_ratio: float | None = None
    note: str = ""

    @classmethod
    def of(cls, what: str, who: str, rounds: Iterable[float], unit: str, **more: Any) -> Figure:
        """The figure of several rounds."""
        each = list(rounds)
        return cls(what, who, statistics.median(each), unit, each, **more)

    @property
    def ratio(self) -> float | None:
        """The value as a multiple of the floor."""
        return self.value / self.floor if self.value is not None and self.floor else None

    @property
    def verdict(self) -> str:
        """``met`` or ``missed``; nothing where there is no budget."""
        if self.budget is None and self.budget_ratio is None:
            return ""
        if self.value is None:
            return "not measured"
        fine = self.budget is None or self.value <= self.budget
        if self.budget_ratio is not None:
            fine = fine and self.ratio is not None and self.ratio <= self.budget_ratio
        return "met" if fine else "MISSED"

    def as_dict(self) -> dict[str, Any]:
        """The figure as JSON can hold it."""
        return asdict(self) | {"ratio": self.ratio, "verdict": self.verdict}


def missing(what: str, who: str, unit: str, reason: str, **more: Any) -> Figure:
    """The figure of a contestant that is not installed or failed."""
    return Figure(what, who, None, unit, note=reason, **more)


def quantile(sorted_values: Sequence[float], share: float) -> float:
    """The value below which a share of the sorted values lies."""
    return sorted_values[min(len(sorted_values) - 1, int(share * len(sorted_values)))]


def standard_error(values: Sequence[float]) -> float:
    """Of the median, from the median absolute deviation: one loud round does not blow it up."""
    middle = statistics.median(values)
    spread = 1.4826 * statistics.median([abs(value - middle) for value in values])
    return 1.2533 * spread / math.sqrt(len(values))


def circumstances() -> dict[str, str]:
    """What the figures depend on."""
    load = f"{os.getloadavg()[0]:.2f}" if hasattr(os, "getloadavg") else "unknown"
    about = {
        "Python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "load": load,
    }
    for name in ("msgspec", "numpy", "torch", "wandb", "mlflow", "tensorboardX", "trackio"):
        try:
            about[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return about


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _number(value: float | None, unit: str = "") -> str:
    if value is None:
        return "-"
    digits = 0 if value == int(value) and abs(value) >= 10 else 1 if abs(value) >= 100 else 2
    text = f"{value:.{digits}f}"
    return f"{text} {unit}".rstrip()


def _budget(figure: Figure) -> str:
    parts = []
    if figure.budget is not None:
        parts.append(f"<= {figure.budget:g} {figure.unit}")
    if figure.budget_ratio is not None:
        parts.append(f"<= {figure.budget_ratio:g}x")
    return ", ".join(parts)


def _cells(figure: Figure) -> list[str]:
    spread = ""
    if len(figure.rounds) > 1:
        spread = f"{_number(min(figure.rounds))} .. {_number(max(figure.rounds))}"
    return [
        figure.what,
        figure.who,
        _number(figure.value, figure.unit),
        spread,
        _number(figure.floor) if figure.floor is not None else "",
        f"{figure.ratio:.2f}x" if figure.ratio is not None else "",
        _budget(figure),
        figure.verdict,
        figure.note,
    ]


def table(figures: Sequence[Figure]) -> str:
    """Figures as text in columns; a name that repeats is said once."""
    head = ["", "", "median", "rounds", "floor", "ratio", "budget", "", ""]
    rows = [head, *map(_cells, figures)]
    for row, before in reversed(list(zip(rows[2:], rows[1:], strict=False))):
        if row[0] == before[0]:
            row[0] = ""
    used = [index for index in range(len(head)) if any(row[index] for row in rows[1:])]
    widths = {index: max(len(row[index]) for row in rows) for index in used}
    numbers = {2, 4, 5}
    lines = []
    for row in rows:
        cells = [row[i].rjust(widths[i]) if i in numbers else row[i].ljust(widths[i]) for i in used]
        lines.append("  " + "  ".join(cells).rstrip())
    return "\n".join(lines)


def progress(text: str) -> None:
    """Say on a terminal what is being done; a log file is spared it."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()
