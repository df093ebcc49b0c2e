"""The page that ``watch`` draws: as much of a run as the terminal has room for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.table import Table
from rich.text import Text

from trackway.cli._follow import Follow, Live, chosen
from trackway.cli._progress import progress_of
from trackway.cli._screen import state_text
from trackway.cli._spark import drawn
from trackway.cli._text import ago, clean, duration, number, with_unit

__all__ = ["Page"]

_NARROW: Final = 60
_CURVE: Final = 40
_NAME: Final = 40
_WORDS: Final = 24
_FEWEST: Final = 8
_MACHINE: Final = (
    ("cpu", r"process\.cpu_percent"),
    ("machine cpu", r"cpu\.percent"),
    ("memory", r"process\.memory_rss_bytes"),
    ("machine memory", r"memory\.percent"),
    ("gpu {}", r"gpu\.(.+)\.utilization_percent"),
    ("memory {}", r"gpu\.(.+)\.memory_used_bytes"),
    ("temperature {}", r"gpu\.(.+)\.temperature_celsius"),
    ("power {}", r"gpu\.(.+)\.power_watts"),
)


class Page:
    """What there is to see of a run, drawn to fit.

    Args:
        follow: The run, as far as it was read.
        keys: Names of metrics or patterns; all where there is none.
        now: Seconds since 1970.
        height: How many lines there are; None for as many as it takes.
    """

    def __init__(self, follow: Follow, keys: Sequence[str], now: float, height: int | None) -> None:
        self._follow = follow
        self._keys = keys
        self._now = now
        self._height = height

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = options.max_width
        top = [*self._head(), *self._machine()]
        lines = self._lines()
        metrics = chosen(self._follow, self._keys)
        room = len(metrics)
        if self._height is not None:
            # A line each: the title of the table, what does not fit, the gap above the lines.
            taken = len(top) + 2 + (len(lines) + 1 if lines else 0)
            room = max(1, min(room, self._height - taken))
        parts: list[Any] = [*top]
        if metrics:
            parts.append(_table(metrics[:room], width))
        if len(metrics) > room:
            parts.append(Text(f"… and {len(metrics) - room:,} more metrics", "dim"))
        if not metrics:
            parts.append(Text("no metric yet" if not self._keys else "no such metric yet", "dim"))
        if lines:
            parts += [Text(""), *lines]
        yield Group(*parts)

    def _head(self) -> Iterator[Text]:
        follow = self._follow
        title = Text(clean(follow.name), "bold", no_wrap=True, overflow="ellipsis")
        title.append(f"  {clean(follow.run.project)}/{clean(follow.run.id)}  ", "dim")
        title.append_text(state_text(clean(follow.state)))
        title.append(f"  {duration(follow.runtime_s(self._now))}")
        if follow.record.attempts and follow.record.attempts[-1].number > 1:
            title.append(f"  attempt {follow.record.attempts[-1].number}", "dim")
        yield title
        yield Text(" · ".join(self._facts()), no_wrap=True, overflow="ellipsis")

    def _facts(self) -> Iterator[str]:
        follow = self._follow
        if follow.step is None:
            yield "no step yet"
        else:
            yield f"step {follow.step:,}"
        rate = follow.steps_per_s()
        if rate is not None:
            yield f"{number(rate)} steps/s" if rate >= 1 else f"{number(1 / rate)} s a step"
        newest = max((live.time for live in follow.metrics.values()), default=0.0)
        running = follow.state == "running"
        if newest and running and self._now - newest > 60:
            yield f"last point {ago(newest, self._now)}"
        progress = progress_of(follow, follow.record.config)
        if progress is not None:
            share = 100 * progress.done / progress.total
            yield f"{progress.unit} {progress.done:,.6g} of {progress.total:,.6g} ({share:.0f} %)"
            if running and progress.eta_s is not None:
                yield f"{duration(progress.eta_s)} left"

    def _machine(self) -> list[Text]:
        told = []
        for title, pattern in _MACHINE:
            for key in sorted(self._follow.system):
                match = re.fullmatch(pattern, key, re.DOTALL)
                if match:
                    name = title.format(*match.groups())
                    told.append(f"{clean(name)} {with_unit(key, self._follow.system[key])}")
        line = Text(" · ".join(told), "dim", no_wrap=True, overflow="ellipsis")
        return [line] if told else []

    def _lines(self) -> list[Text]:
        return [
            Text(
                clean(line.text.expandtabs()),
                "red" if line.stream == "err" else "",
                no_wrap=True,
                overflow="ellipsis",
            )
            for line in self._follow.console()
        ]


def _table(metrics: Sequence[Live], width: int) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    names = [Text(clean(live.key)) for live in metrics]
    widest = max(6, *(name.cell_len for name in names))
    columns = _columns(metrics, _WORDS, wide=width >= _NARROW)
    over = widest + _taken(columns) - width
    if over > 0:
        columns = _columns(metrics, max(_FEWEST, _WORDS - over), wide=width >= _NARROW)
    taken = _taken(columns)
    most = max(_NAME, width - taken)
    widest = min(most, widest)
    table.add_column("metric", no_wrap=True, overflow="ellipsis", max_width=most)
    for title in columns:
        table.add_column(title, justify="right", no_wrap=True)
    room = min(_CURVE, width - widest - taken - 2)
    if room >= 8:
        table.add_column("", no_wrap=True)
    for place, (live, name) in enumerate(zip(metrics, names, strict=True)):
        cells = [Text(cells[place]) for cells in columns.values()]
        curve = [Text(_curve(live, room), "cyan")] if room >= 8 else []
        table.add_row(name, *cells, *curve)
    return table


def _taken(columns: Mapping[str, Sequence[str]]) -> int:
    """How wide they are, with the blanks before them."""
    return sum(max(map(cell_len, [title, *cells])) + 2 for title, cells in columns.items())


def _columns(metrics: Sequence[Live], words: int, *, wide: bool) -> dict[str, list[str]]:
    """The cells beside the names, by title; text in at most so many cells of the terminal."""
    columns = {"last": [_last(live.last, words) for live in metrics]}
    if not wide:
        return columns
    columns["min"] = [number(live.min) for live in metrics]
    columns["max"] = [number(live.max) for live in metrics]
    columns["count"] = [f"{live.count:,}" for live in metrics]
    if any(live.nan for live in metrics):
        columns["nan"] = [f"{live.nan:,}" if live.nan else "" for live in metrics]
    return columns


def _last(value: Any, words: int) -> str:
    """A number whole; of anything else the beginning."""
    told = Text(number(value))
    if not isinstance(value, (int, float)):
        told.truncate(words, overflow="ellipsis")
    return told.plain


def _curve(live: Live, width: int) -> str:
    low, high = live.curve(width)
    return drawn(low, high) if len(low) and not np.isnan(low).all() else ""
