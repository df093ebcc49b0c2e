"""The page that ``watch`` draws: as much of a run as the terminal has room for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
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
    table.add_column("metric", no_wrap=True, overflow="ellipsis", max_width=_NAME)
    titles = ["last"] if width < _NARROW else ["last", "min", "max", "count"]
    for title in titles:
        table.add_column(title, justify="right", no_wrap=True)
    names = max(min(_NAME, len(live.key)) for live in metrics)
    room = min(_CURVE, width - names - 13 * len(titles) - 2)
    if room >= 8:
        table.add_column("", no_wrap=True)
    for live in metrics:
        told = [live.last, live.min, live.max]
        cells = [number(value) for value in told[: 1 if width < _NARROW else 3]]
        cells += [f"{live.count:,}"] if width >= _NARROW else []
        curve = [Text(_curve(live, room), "cyan")] if room >= 8 else []
        table.add_row(Text(clean(live.key)), *map(Text, cells), *curve)
    return table


def _curve(live: Live, width: int) -> str:
    low, high = live.curve(width)
    return drawn(low, high) if len(low) and not np.isnan(low).all() else ""
