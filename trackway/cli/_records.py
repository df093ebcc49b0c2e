"""The sections of ``show`` about models, checkpoints, tables and gradients."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Final

from rich.text import Text

from trackway.api import Checkpoint, StoredRun
from trackway.cli._parts import Facts, Section, aside
from trackway.cli._text import clean, number, plural, shorten, size, value_text

__all__ = ["checkpoints", "document", "gradients", "model", "tables"]

_SHOWN: Final = 10
_NORMS: Final = "gradients/norm", "gradients/shard_norm"
_FIRST: Final = "gradients/first_nonfinite"


def model(run: StoredRun) -> Section:
    """What each model is, and how many parameters it has."""
    facts = Facts()
    for name, each in list(run.models.items())[:_SHOWN]:
        told = [clean(shorten(each.class_name or ""))]
        if each.parameters:
            told.append(plural(each.parameters, "parameter"))
        if each.trainable is not None and each.trainable != (each.parameters or 0):
            told.append(f"{each.trainable:,} trainable")
        facts.add(clean(name), ", ".join(filter(None, told)) or "no size recorded")
    return Section("Model", facts.body)


def checkpoints(run: StoredRun) -> Section:
    """Those that are called something, such as best and latest; how many there are."""
    found = run.checkpoints
    facts = Facts()
    for each in found:
        if each.aliases:
            facts.add(clean(", ".join(each.aliases)), _checkpoint(each))
    if found and not facts.body:
        facts.add("last", _checkpoint(found[-1]))
    removed = sum(each.removed for each in found)
    told = f"{plural(len(found), 'checkpoint')} written"
    return Section("Checkpoints", facts.body, told + (f", {removed:,} removed" if removed else ""))


def _checkpoint(each: Checkpoint) -> str:
    told = [clean(shorten(each.path, 200))]
    if each.step is not None:
        told.append(f"step {each.step:,}")
    if each.score is not None:
        told.append(f"{clean(each.metric or 'score')} {number(each.score)}")
    if each.bytes is not None:
        told.append(size(each.bytes))
    return ", ".join([*told, *(["removed"] if each.removed else [])])


def tables(run: StoredRun) -> Section:
    """The names of the tables, and how many rows each has."""
    found = run.tables()
    facts = Facts()
    for each in found[:_SHOWN]:
        told = [plural(each.rows, "row")]
        if len(each.steps) > 1:
            told.append(f"at {plural(len(each.steps), 'step')}")
        facts.add(clean(each.name), ", ".join(told))
    body = list(facts.body)
    if len(found) > _SHOWN:
        body.append(aside(f"and {plural(len(found) - _SHOWN, 'table')} more"))
    return Section("Tables", body, "--table NAME prints one")


def gradients(run: StoredRun) -> Section:
    """The last norm of all gradients, and where they first were not finite."""
    facts = Facts()
    names = run.keys()
    for name in names:
        if name.endswith(_NORMS):
            metric = run.metrics.get(name)
            if metric is not None:
                last = f"{number(metric.last)} at step {number(metric.last_step)}"
                facts.add(clean(name), last)
    for name, first in run.summary.items():
        if name.endswith(_FIRST) and isinstance(first, dict):
            where = f"{value_text(first.get('parameter'))} at step {number(first.get('step'))}"
            facts.add(clean(name), Text(where, style="yellow"))
    return Section("Gradients", facts.body)


def document(run: StoredRun) -> dict[str, Any]:
    """The same for a program; of tables and histograms what there is, not what they hold."""
    return {
        "models": [asdict(each) for each in run.models.values()],
        "checkpoints": [asdict(each) for each in run.checkpoints],
        "tables": [asdict(each) for each in run.tables()],
    }
