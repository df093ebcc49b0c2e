"""The sections of ``show`` about the run itself: how it went, what it measured."""

from __future__ import annotations

import signal
from typing import Any, Final

from rich.text import Text

from trackway.api import Metric, StoredRun
from trackway.api._document import (
    definition_of,
    flatten,
    json_value,
    left_out,
    live_series,
    stated_summary,
)
from trackway.api._verify import damaged_bytes
from trackway.backend.record import Attempt
from trackway.cli._parts import GAP, Column, Columns, Facts, Section, aside
from trackway.cli._screen import state_text
from trackway.cli._spark import spark
from trackway.cli._text import (
    ago,
    clean,
    duration,
    moment,
    number,
    plural,
    shorten,
    value_text,
)

__all__ = ["config", "console_tail", "headline", "metrics", "summary", "traceback", "trouble"]

_METRICS: Final = 40
_NAME: Final = "metric"
_NAME_WIDTH: Final = 24
_CONSOLE_LINES: Final = 10
_STREAMS: Final = {"err": "yellow"}
_STATE_WORDS: Final = {
    "interrupted": "by Ctrl-C",
    "lost": "its machine fell silent",
}


def headline(run: StoredRun) -> tuple[Text, Section]:
    """The name and state, and what belongs right under them."""
    title = Text(clean(shorten(str(run.name))), style="bold") + Text("  ") + state_text(run.state)
    last = run.attempts[-1] if run.attempts else Attempt(1)
    facts = Facts(indented=False)
    facts.add("run", clean(f"{run.project}/{run.id}"))
    facts.add("began", f"{moment(run.created, zone=True)} ({ago(run.created)})")
    facts.add("took" if run.ended else "so far", duration(run.duration_s))
    facts.add("ended", _end_of(last))
    for attempt in run.attempts if len(run.attempts) > 1 else ():
        facts.add(f"attempt {attempt.number}", _told(attempt))
    facts.add("host", clean(last.host))
    facts.add("tags", clean(", ".join(map(str, run.tags))))
    facts.add("group", clean(run.group or ""))
    facts.add("job type", clean(run.job_type or ""))
    facts.add("notes", "\n".join(map(clean, str(run.notes or "").splitlines())))
    return title, Section("", facts.body)


def _told(attempt: Attempt) -> Text:
    told = [f"began {moment(attempt.started)}"]
    if attempt.ended is not None:
        told.append(f"took {duration(attempt.ended - attempt.started)}")
    told += [_end_of(attempt), f"on {clean(attempt.host)}" if attempt.host else ""]
    return state_text(attempt.state).append("".join(f", {part}" for part in told if part))


def _end_of(attempt: Attempt) -> str:
    """Exit code, signal and exception, as far as they are known."""
    if attempt.state == "running":
        return ""
    told = [_STATE_WORDS.get(attempt.state, "")]
    if attempt.exception:
        kind, message = (str(attempt.exception.get(name) or "") for name in ("type", "message"))
        told.append(clean(shorten(f"{kind}: {message}" if message else kind, 200)))
    if attempt.signal:
        told.append(f"by {_signal_name(attempt.signal)}")
    elif attempt.exit_code is not None:
        told.append(f"exit code {attempt.exit_code}")
    else:
        told.append("exit code not captured")
    return ", ".join(filter(None, told))


def _signal_name(number_: int) -> str:
    try:
        return f"{signal.Signals(number_).name} (signal {number_})"
    except ValueError:
        return f"signal {number_}"


def trouble(run: StoredRun) -> Section:
    """What was not recorded, and why."""
    skipped, refused = left_out(run)
    lines = []
    if run.lost_points:
        lines.append(f"{plural(run.lost_points, 'point')} lost: the disk did not take them")
    if damaged := damaged_bytes(run):
        lines.append(f"{plural(damaged, 'byte')} of its logs damaged: trackway verify tells where")
    for entry in run.troubles:
        count = entry.get("count") or 1
        times = f" ({count:,} times)" if isinstance(count, int) and count > 1 else ""
        lines.append(clean(shorten(str(entry.get("sentence")), 600)) + times)
    told = " ".join(lines)
    for name, count in refused.items():
        if f"'{name}'" not in told:
            lines.append(f"{plural(count, 'value')} of {clean(shorten(name))} could not be stored")
    if skipped:
        lines.append(f"{plural(skipped, 'value')} None, skipped")
    return Section("Trouble", [Text(line, style="yellow") for line in lines])


def config(run: StoredRun) -> Section:
    """Configuration, nested names joined by dots, and what was changed while it ran."""
    changes = _changes(run)
    facts = Facts()
    facts.table.add_column(style="yellow")
    for name, value in flatten(run.config).items():
        row = [Text(clean(shorten(name))), Text(value_text(value)), Text(changes.pop(name, ""))]
        facts.table.add_row(*row)
    for name, told in changes.items():
        facts.table.add_row(Text(clean(name)), aside("deleted"), Text(told))
    return Section("Config", facts.body)


def _changes(run: StoredRun) -> dict[str, str]:
    """Of each name that was given another value later: when, and what it was before."""
    before: dict[str, Any] = {}
    changes: dict[str, str] = {}
    for time, name, value in run.config_history:
        for path, inner in flatten({name: value}).items():
            if path in before and not _is_same(before[path], inner):
                was = value_text(before[path], 60)
                when = duration(time - run.created)
                changes[path] = f"changed {when} in, at {moment(time)[11:]}; was {was}"
            before[path] = inner
    return changes


def _is_same(one: object, other: object) -> bool:
    """Whether two configured values are the same, NaN and NaN too, also within lists."""
    return one == other or (type(one) is type(other) and json_value(one) == json_value(other))


def metrics(run: StoredRun, width: int, *, everything: bool = False) -> Section:
    """Statistics and curve of each metric, those with a goal first."""
    keys = run.keys()
    goals = {key: d.goal for key in keys if (d := definition_of(run, key)) and d.goal}
    keys.sort(key=lambda key: (key not in goals, key))
    shown = keys if everything else keys[:_METRICS]
    if not shown:
        return Section("Metrics")
    points = 24 if width >= 140 else 12 if width >= 80 else 0
    rows, curves = [], []
    hidden = 0
    for series in live_series(run, shown):
        hidden += run.arrivals(series.key) - len(series)
        rows.append(_cells(Metric.of(series), goals.get(series.key)))
        curves.append(Text(spark(series, points), "cyan"))
    columns = [
        Column(Text(title), [row[title] for row in rows], right=title != _NAME)
        for title in rows[0]
        if any(row[title] for row in rows)
    ]
    table = Columns([*_fitting(columns, width - points), Column(Text(), curves)])
    return Section("Metrics", [table, *_left_out(len(keys) - len(shown)), *_hidden(hidden)])


def _fitting(columns: list[Column], width: int) -> list[Column]:
    """Those there is room for beside the names, which are cut where nothing else helps."""
    name = columns[0]
    for optional in ("mean", "best at", "points", None):
        room = width - GAP - sum(column.width + GAP for column in columns[1:]) - GAP
        if room >= min(_NAME_WIDTH, name.width):
            break
        columns = [column for column in columns if column.title.plain != optional]
    name.cut(max(room, _NAME_WIDTH // 2))
    return columns


def _hidden(count: int) -> list[Text]:
    """Points that were logged and are not counted here."""
    if not count:
        return []
    why = "logged again at their step, or taken back by a later attempt"
    return [aside(f"{plural(count, 'point')} {why}: export --attempts all --repeats all")]


def _left_out(count: int) -> list[Text]:
    if not count:
        return []
    return [aside(f"and {plural(count, 'metric')} more: --metrics shows all")]


def _cells(metric: Metric, goal: str | None) -> dict[str, Text]:
    best = "bold green"
    arrow = {"maximize": " ↑", "minimize": " ↓"}.get(goal or "", "")
    best_at = {"maximize": metric.max_step, "minimize": metric.min_step}.get(goal or "")
    return {
        _NAME: Text(clean(metric.key) + arrow),
        "last": Text(number(metric.last)),
        "at step": Text(number(metric.last_step)),
        "min": Text(number(metric.min), style=best if goal == "minimize" else ""),
        "max": Text(number(metric.max), style=best if goal == "maximize" else ""),
        "best at": Text(number(best_at), style=best),
        "mean": Text(number(metric.mean)),
        "points": Text(str(metric.count)),
        "NaN": Text(str(metric.nan) if metric.nan else "", style="yellow"),
    }


def summary(run: StoredRun) -> Section:
    """What the program itself put into the summary."""
    facts = Facts()
    for name, value in flatten(stated_summary(run)).items():
        facts.add(clean(name), value_text(value))
    return Section("Summary", facts.body)


def console_tail(run: StoredRun) -> Section:
    """The last lines the program printed."""
    lines = run.console()
    tail = [
        Text(clean(shorten(line.text.expandtabs(), 500)), style=_STREAMS.get(line.stream, ""))
        for line in lines[-_CONSOLE_LINES:]
    ]
    told = f"last {len(tail)} of {plural(len(lines), 'line')}; --console prints all"
    return Section("Console", list(tail), told if len(tail) < len(lines) else "")


def traceback(run: StoredRun) -> Section:
    """The traceback of the exception that ended the last attempt."""
    exception = run.attempts[-1].exception if run.attempts else None
    lines = str((exception or {}).get("traceback") or "").splitlines()
    return Section("Traceback", [Text(clean(line.expandtabs())) for line in lines])
