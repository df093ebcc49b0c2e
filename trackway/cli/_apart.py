"""What tells listed runs apart: which metrics and settings ``ls`` shows, the most telling first.

A setting that a person chose tells more than one that an integration found out by itself, of which
there are hundreds; and a column that few of the runs have a value in tells nothing of the rest.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

from rich.cells import cell_len

from trackway.api._document import json_value
from trackway.cli._listing import Listed
from trackway.cli._text import clean

__all__ = ["INTEGRATIONS", "Measure", "best", "differing", "headings", "measures"]

INTEGRATIONS: Final = frozenset(
    "pytorch lightning keras huggingface accelerate sklearn xgboost lightgbm catboost "
    "optuna".split()
)
"""The names under which integrations say what they found; reading needs none of them loaded."""

_FURTHER_MEASURES: Final = 4
"""How many metrics without a goal are shown beside those with one."""

_FEW: Final = 5
"""Less than one of so many runs is too few for a column."""

_WORDS: Final = re.compile(r"[^\W\d_]+")
_HELD_OUT: Final = frozenset("val valid validation eval evaluation test dev holdout".split())
_JUDGING: Final = frozenset(
    "acc accuracy auc auroc auprc f f1 score error err mae mse rmse mape r2 iou dice bleu rouge "
    "perplexity ppl precision recall reward return value objective map psnr ssim wer cer nll elbo "
    "fid".split()
)
_BOOKKEEPING: Final = re.compile(
    r"(?i)(.*/)?((global_)?step|epoch|iteration|rounds|trials|lr([-/].*)?|learning_rate)"
    r"|.*_(s|std|time|step|steps|runtime|per_second)|(.*/)?(gradients|updates|parameters)/.*"
)
_TELLING: Final = 3


@dataclass(frozen=True, slots=True)
class Measure:
    """A summary value to compare runs by.

    Attributes:
        name: Its name in the summary, flattened with dots.
        goal: ``minimize``, ``maximize`` or None.
        rank: 0 with a goal, then results on data held out, then other results, then the rest.
    """

    name: str
    goal: str | None = None
    rank: int = 0

    @property
    def is_result(self) -> bool:
        """Whether it says how well the training went, as far as a name can tell."""
        return self.rank <= _TELLING


def measures(runs: Sequence[Listed]) -> list[Measure]:
    """What to compare the runs by: metrics with a goal, then a few more, of those most runs have.

    One that only few of the runs have is none, unless there is no other.
    """
    counts: dict[str, int] = {}
    goals: dict[str, str] = {}
    hidden: set[str] = set()
    for run in runs:
        hidden |= run.hidden
        goals = run.goals | goals
        for name, value in run.summary.items():
            if isinstance(value, (int, float)):
                counts[name] = counts.get(name, 0) + 1
    # A metric that repeats a configured value, such as the learning rate, tells little.
    hidden |= {name for run in runs for name in run.config}
    names = [name for name in counts if name in goals or name not in hidden]
    names.sort(key=lambda name: (_rank(name) > _TELLING + 1, -counts[name], _rank(name)))
    common = set(_common(names, counts, len(runs)))
    every = [Measure(n, goals.get(n), 0 if n in goals else _rank(n)) for n in counts if n in common]
    every.sort(key=lambda m: (m.rank, -counts[m.name], _rank(m.name), "" if m.goal else m.name))
    further = [measure for measure in every if not measure.goal]
    return [*(m for m in every if m.goal), *further[:_FURTHER_MEASURES]]


def _common(names: Sequence[str], counts: Mapping[str, int], runs: int) -> list[str]:
    """Those that not just few of the runs have; if there is none, the first one."""
    return [name for name in names if counts[name] * _FEW >= runs] or list(names[:1])


def _rank(name: str) -> int:
    """How much a metric of this name tells of how well it went; 1 is most."""
    if _BOOKKEEPING.fullmatch(name):
        return _TELLING + 2
    words = {word.lower() for word in _WORDS.findall(name)}
    judges = bool(words & _JUDGING) or any("loss" in word for word in words)
    if words & _HELD_OUT:
        return 1 if judges else 2
    return _TELLING if judges else _TELLING + 1


def best(runs: Sequence[Listed], measure: Measure) -> float | None:
    """The best value any of the runs has by the measure's goal."""
    values = [
        value
        for run in runs
        if isinstance(value := run.summary.get(measure.name), (int, float)) and value == value
    ]
    if measure.goal is None or len(runs) < 2 or not values:
        return None
    return max(values) if measure.goal == "maximize" else min(values)


# -- settings --------------------------------------------------------------------------------------


def differing(runs: Sequence[Listed]) -> tuple[list[str], list[str]]:
    """Names in the configuration whose values differ: a person's own, and an integration's.

    Each numbers first, then texts, short first. Of a person's own, those are left out that only
    few of the runs have, unless there is no other; of an integration's, those most do not have.
    """
    counts = Counter(chain.from_iterable(run.config for run in runs))
    found = {name for name in counts if _is_found(name)}
    own = [n for n in counts if n not in found and len(_values(runs, n, absent=True)) > 1]
    own.sort(key=lambda name: -counts[name])
    most = [n for n in counts if n in found and 2 * counts[n] > len(runs)]
    apart = [name for name in most if len(_values(runs, name)) > 1]
    return _short_first(runs, _common(own, counts, len(runs))), _short_first(runs, apart)


def _is_found(name: str) -> bool:
    """Whether an integration found it out: it stands under its name, and that behind a prefix."""
    parts = name.split(".")
    return not INTEGRATIONS.isdisjoint(parts[:-1][:2])


def _values(runs: Sequence[Listed], name: str, *, absent: bool = False) -> set[object]:
    """The different values, that there is none of them being one if ``absent`` counts."""
    found: set[object] = {_canonical(run.config[name]) for run in runs if name in run.config}
    if absent and any(name not in run.config for run in runs):
        found.add(None)
    return found


def _short_first(runs: Sequence[Listed], names: Iterable[str]) -> list[str]:
    return sorted(names, key=lambda name: _length(runs, name))


def _length(runs: Sequence[Listed], name: str) -> int:
    """0 for numbers, which are compared at a glance; else the length of the longest value."""
    values = [run.config[name] for run in runs if name in run.config]
    if all(isinstance(value, (bool, int, float)) or value is None for value in values):
        return 0
    return max(len(value) if isinstance(value, str) else len(_json(value)) for value in values)


def _canonical(value: Any) -> object:
    """Something that is equal for equal values, NaN too; never None."""
    if isinstance(value, (str, int, float)) and value == value:
        return type(value), value
    return _json(value)


def _json(value: object) -> str:
    return json.dumps(json_value(value), sort_keys=True)


# -- headings --------------------------------------------------------------------------------------


def headings(names: Sequence[str], width: int) -> dict[str, str]:
    """A heading for each name: what is too long loses its beginning, which differs least.

    Where two would be the same, they lose their middle instead, or else nothing.
    """
    told = {name: clean(name) for name in names}
    found: dict[str, str] = {}
    for cut in (_end, _both_ends, _whole):
        rest = {name: cut(text, width) for name, text in told.items() if name not in found}
        counts = Counter(rest.values())
        found |= {name: text for name, text in rest.items() if counts[text] == 1}
    return {name: found.get(name, told[name]) for name in names}


def _whole(text: str, width: int) -> str:
    return text


def _end(text: str, width: int) -> str:
    if cell_len(text[: width + 1]) <= width:
        return text
    text = text[-width:]
    while cell_len(text) >= width:
        text = text[1:]
    return f"…{text}"


def _both_ends(text: str, width: int) -> str:
    if cell_len(text[: width + 1]) <= width:
        return text
    first = text[: width // 3]
    return first + _end(text, width - cell_len(first))
