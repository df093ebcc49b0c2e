"""``trackway watch``: a run while it runs, in the terminal."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from typing import Any, Final

import click

from trackway.api import Api
from trackway.api._document import json_value
from trackway.cli._follow import Follow, Live, chosen
from trackway.cli._options import api_option
from trackway.cli._progress import progress_of
from trackway.cli._screen import console
from trackway.cli._watch_page import Page

_LEAST_S: Final = 0.05


@click.command(
    epilog="""\b
Examples:
  trackway watch brisk-otter-417         until the run ends, or Ctrl-C
  trackway watch k3v9x2ab --keys 'val/*' --keys loss --lines 20
  trackway watch k3v9x2ab --once         what there is now
  trackway watch k3v9x2ab --json | jq .steps_per_s

\b
It ends with the run, with exit code 0. The time left is known where the configuration
  has a total (max_steps, iterations, …; epochs where a metric is called epoch).
"""
)
@click.argument("run")
@click.option(
    "--interval",
    metavar="S",
    type=click.FloatRange(min=_LEAST_S),
    default=1.0,
    show_default=True,
    help="Seconds between two looks.",
)
@click.option(
    "--keys",
    "-k",
    metavar="K",
    multiple=True,
    help="A metric, or a pattern such as 'val/*'; may be repeated.  [default: all]",
)
@click.option(
    "--lines",
    metavar="N",
    type=click.IntRange(min=0),
    default=5,
    show_default=True,
    help="How many of the last lines that it printed are shown.",
)
@click.option("--once", is_flag=True, help="Show what there is now, and leave.")
@click.option("--forever", is_flag=True, help="Go on when the run has ended: it may be resumed.")
@click.option(
    "--json",
    "for_program",
    is_flag=True,
    help="A line of JSON for each look, for programs; NaN and infinities as text.",
)
@api_option
def command(
    api: Api,
    run: str,
    interval: float,
    keys: tuple[str, ...],
    lines: int,
    once: bool,
    forever: bool,
    for_program: bool,
) -> None:
    """Follow RUN (a name, an id, or project/id): state, pace, metrics, last lines.

    Where standard output is no terminal it shows what there is now, once; with --json it goes
    on there too.
    """
    follow = Follow(api.run(run), lines)
    follow.refresh()
    if for_program:
        _stream(follow, keys, interval, once=once, forever=forever)
    elif once or not sys.stdout.isatty():
        screen = console()
        screen.print(Page(follow, keys, time.time(), height=None))
    else:
        _live(follow, keys, interval, forever=forever)


def _stream(
    follow: Follow, keys: tuple[str, ...], interval: float, *, once: bool, forever: bool
) -> None:
    while True:
        click.echo(json.dumps(json_value(_document(follow, keys, time.time())), allow_nan=False))
        if once or (follow.state != "running" and not forever):
            return
        time.sleep(interval)
        follow.refresh()


def _live(follow: Follow, keys: tuple[str, ...], interval: float, *, forever: bool) -> None:
    from rich.live import Live as Screen

    screen = console()
    with (
        Screen(console=screen, auto_refresh=False, transient=True) as live,
        contextlib.suppress(KeyboardInterrupt),
    ):
        while True:
            live.update(Page(follow, keys, time.time(), screen.size.height - 1), refresh=True)
            if follow.state != "running" and not forever:
                break
            time.sleep(interval)
            follow.refresh()
    # What stays on the terminal is whole, however low it is.
    screen.print(Page(follow, keys, time.time(), height=None))


def _document(follow: Follow, keys: tuple[str, ...], now: float) -> dict[str, Any]:
    progress = progress_of(follow, follow.record.config)
    return {
        "time": now,
        "project": follow.run.project,
        "id": follow.run.id,
        "name": follow.name,
        "state": follow.state,
        "runtime_s": follow.runtime_s(now),
        "step": follow.step,
        "steps_per_s": follow.steps_per_s(),
        "progress": None
        if progress is None
        else {
            "unit": progress.unit,
            "done": progress.done,
            "total": progress.total,
            "eta_s": progress.eta_s,
        },
        "metrics": {live.key: _metric(live) for live in chosen(follow, keys)},
        "system": dict(sorted(follow.system.items())),
        "console": [line.text for line in follow.console()],
    }


def _metric(live: Live) -> dict[str, Any]:
    return {
        "last": live.last,
        "min": live.min,
        "max": live.max,
        "count": live.count,
        "nan": live.nan,
        "step": live.step,
        "time": live.time,
    }
