"""``trackway watch``: what a run is at, at a cost that does not depend on its length."""

from __future__ import annotations

import json
import math
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.cli.conftest import BEGAN, Command, Recording
from trackway.api import Api, Series, StoredRun
from trackway.backend.file.reader import LogReader
from trackway.cli._follow import Follow, Live, config_total
from trackway.cli._progress import progress_of

Record = Callable[..., Recording]
HOME = str(Path(__file__).parents[2])
COMMAND = [sys.executable, "-c", "from trackway.cli import main; main()"]


def finished(record: Record) -> Recording:
    """A run of a hundred steps, ten a second, that printed something."""
    run = record().named("brave-1").config(trainer__max_steps=200, lr=0.1)
    for step in range(100):
        run.row(step, {"loss": 1 / (step + 1), "n": step}, types="fi", after=step / 10)
    run.row(50, {"val": math.nan}, after=5).event("value", 7, step=7, data={"note": "text"})
    run.row(0, {"process.cpu_percent": 250.0, "gpu.0.utilization_percent": 99.0}, space="system")
    lines = ["one", "two\x1b[31m", "three"]
    run.event("console", 2, stream="out", first=0, lines=lines)
    return run.end(60)


# -- one look --------------------------------------------------------------------------------------


def test_once_shows_a_page(trackway: Command, record: Record) -> None:
    """One look has the state, the pace, the machine, each metric and the last lines."""
    finished(record)
    lines = [
        x.rstrip() for x in trackway("watch", "abc12345", "--once", "--lines", "2").splitlines()
    ]
    assert lines[:3] == [
        "brave-1  digits/abc12345  finished  1 min 00 s",
        "step 99 · 10 steps/s · step 100 of 200 (50 %)",
        "cpu 250 % · gpu 0 99.0 %",
    ]
    assert [line.split()[:5] for line in lines[3:8]] == [
        ["metric", "last", "min", "max", "count"],  # and nan
        ["loss", "0.01", "0.01", "1", "100"],
        ["n", "99", "0", "99", "100"],
        ["note", "text", "1"],
        ["val", "nan", "1", "1"],
    ]
    assert lines[4].split()[5].startswith("█") and len(lines[4].split()[5]) == 40
    assert lines[8:] == ["", "two\\x1b[31m", "three"]


def test_once_as_json_is_exact(trackway: Command, record: Record) -> None:
    """The document has every number exactly, those that changed last first."""
    finished(record)
    document = json.loads(trackway("watch", "abc12345", "--once", "--json"))
    assert document.pop("time") > BEGAN
    assert document.pop("steps_per_s") == pytest.approx(10.0)
    assert list(document["metrics"]) == ["loss", "n", "note", "val"]
    assert document == {
        "project": "digits",
        "id": "abc12345",
        "name": "brave-1",
        "state": "finished",
        "runtime_s": 60.0,
        "step": 99,
        "progress": {
            "unit": "step",
            "done": 100.0,
            "total": 200.0,
            "eta_s": document["progress"]["eta_s"],
        },
        "metrics": {
            "loss": {
                "last": 0.01,
                "min": 0.01,
                "max": 1.0,
                "count": 100,
                "nan": 0,
                "step": 99,
                "time": BEGAN + 9.9,
            },
            "n": {
                "last": 99,
                "min": 0,
                "max": 99,
                "count": 100,
                "nan": 0,
                "step": 99,
                "time": BEGAN + 9.9,
            },
            "note": {
                "last": "text",
                "min": None,
                "max": None,
                "count": 1,
                "nan": 0,
                "step": 7,
                "time": BEGAN + 7,
            },
            "val": {
                "last": "NaN",
                "min": None,
                "max": None,
                "count": 1,
                "nan": 1,
                "step": 50,
                "time": BEGAN + 5,
            },
        },
        "system": {"gpu.0.utilization_percent": 99.0, "process.cpu_percent": 250.0},
        "console": ["one", "two\x1b[31m", "three"],
    }
    assert document["progress"]["eta_s"] == pytest.approx(10.0)


def test_a_pipe_gets_one_look(trackway: Command, record: Record, alive: dict[str, Any]) -> None:
    """Where nobody looks at a terminal, also a run that goes on is shown once."""
    record(**alive).row(0, {"a": 1.0})
    assert "running" in trackway("watch", "abc12345")


def test_keys_choose_metrics(trackway: Command, record: Record) -> None:
    """--keys takes names and patterns; one that fits nothing yet is no error."""
    finished(record)
    document = json.loads(trackway("watch", "abc12345", "--json", "-k", "l*", "-k", "val"))
    assert list(document["metrics"]) == ["loss", "val"]
    assert "no such metric yet" in trackway("watch", "abc12345", "--keys", "nope")


def test_a_narrow_terminal(trackway: Command, record: Record) -> None:
    """No line is wider than the terminal, whatever it is."""
    finished(record)
    for width in (20, 40, 59, 60, 80, 200):
        lines = trackway("watch", "abc12345", width=width).splitlines()
        assert max(map(len, lines)) <= width


def test_a_run_without_anything(trackway: Command, record: Record) -> None:
    """A run that logged nothing yet has a page too."""
    record().end(1)
    assert trackway("watch", "abc12345").splitlines()[1:] == ["no step yet", "no metric yet"]


# -- what is new -----------------------------------------------------------------------------------


def same(follow: Follow, run: StoredRun) -> None:
    """What was followed is what reading all of the run says."""
    run.refresh()
    assert follow.metrics.keys() == run.metrics.keys()
    for key, metric in run.metrics.items():
        live = follow.metrics[key]
        for name in ("count", "min", "max", "first", "last"):
            found, wanted = getattr(live, name), getattr(metric, name)
            assert found == wanted or (found != found and wanted != wanted), (key, name)
        assert live.step == metric.last_step


@pytest.mark.parametrize("seed", range(6))
def test_following_is_reading(record: Record, root: Path, seed: int) -> None:
    """Whatever the order of steps, attempts and writers: as if all was read at once."""
    generator = np.random.default_rng(seed)
    runs = {a: record(attempt=a, created=BEGAN + 100 * a) for a in (1, 2)}
    follow, stored = Follow(Api(root).run("abc12345")), Api(root).run("abc12345")
    for turn in range(12):
        run = runs[1 if turn < 6 else int(generator.integers(1, 3))]
        begin = 10 * turn if generator.random() < 0.7 else int(generator.integers(0, 60))
        for step in range(begin, begin + int(generator.integers(1, 12))):
            values = {k: generator.choice([generator.normal(), math.nan, math.inf]) for k in "abc"}
            run.row(step, {k: v for k, v in values.items() if generator.random() < 0.8} or {"a": 1})
        if generator.random() < 0.2:
            run.event("value", turn, step=begin, data={"a": "text"})
        assert follow.refresh()
        same(follow, stored)
    for run in runs.values():
        run.end()
    follow.refresh()
    stored.refresh()
    assert follow.state == stored.state == "finished"


def test_a_look_reads_only_what_is_new(
    record: Record, root: Path, alive: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long the run, a look decodes the new records and asks for no history."""
    run = record(**alive)
    for step in range(5000):
        run.row(step, {"a": float(step)})
    follow = Follow(Api(root).run("abc12345"))
    decoded: list[int] = []
    stretches = LogReader.stretches

    def counted(reader: LogReader) -> Any:
        for batch in stretches(reader):
            decoded.append(batch.frames)
            yield batch

    def never(*arguments: object, **more: object) -> None:
        raise AssertionError("the whole run was read")

    monkeypatch.setattr(LogReader, "stretches", counted)
    monkeypatch.setattr(StoredRun, "history", never)
    monkeypatch.setattr(StoredRun, "keys", never)
    follow.refresh()
    first = sum(decoded)
    run.row(5000, {"a": -1.0}).row(5001, {"a": 7.0})
    assert follow.refresh()
    assert sum(decoded) - first == 2
    assert not follow.refresh() or sum(decoded) - first == 2
    live = follow.metrics["a"]
    assert (live.count, live.min, live.max, live.last, live.step) == (5002, -1.0, 4999.0, 7.0, 5001)
    assert len(live.low) <= 256
    kept = [len(rows.steps) for written in follow._logs.writers for rows in written.rows]
    assert kept == [1]


def test_a_curve_is_of_all_points(record: Record, root: Path) -> None:
    """Minimum and maximum of each part of the curve are exact, however they came in."""
    run = record()
    values = np.sin(np.arange(3000) / 50) * np.arange(3000)
    follow = Follow(Api(root).run("abc12345"))
    for step, value in enumerate(values.tolist()):
        run.row(step, {"a": value})
        if step % 700 == 3:
            follow.refresh()
    run.end()
    follow.refresh()
    live = follow.metrics["a"]
    assert (live.width, len(live.low)) == (16, 188)
    for place in live.low:
        part = values[16 * place : 16 * (place + 1)]
        assert (live.low[place], live.high[place]) == (part.min(), part.max())
    low, high = live.curve(30)
    assert (low.min(), high.max(), len(low)) == (values.min(), values.max(), 30)


def test_a_log_that_is_replaced_is_read_anew(record: Record, root: Path) -> None:
    """A log that was swapped for another one counts for what it is now."""
    record().rows("a", [1.0, 2.0]).end()
    follow, stored = Follow(Api(root).run("abc12345")), Api(root).run("abc12345")
    follow.refresh()
    for path in (root / "digits/abc12345").iterdir():
        path.unlink()
    record().rows("b", [5.0]).end()
    follow.refresh()
    same(follow, stored)
    assert [*follow.metrics] == ["b"]


def test_a_look_is_of_one_moment(
    record: Record, root: Path, alive: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes while a look is worked out is in none of its numbers, and in the next look's."""
    run = record(**alive)
    run.row(0, {"b": 9.0}).row(0, {"b": 0.0, "a": 0.0}).row(1, {"a": 1.0, "b": 1.0})
    run.event("value", 2, step=2, data={"t": "first"})
    follow = Follow(Api(root).run("abc12345"))
    work_out = Follow._work_out

    def late(follow: Follow, *arguments: Any) -> None:
        step = (follow.step or 0) + 1
        run.row(step, {"a": float(step), "b": float(step)})
        run.event("value", step, step=step, data={"t": f"late {step}"})
        work_out(follow, *arguments)

    monkeypatch.setattr(Follow, "_work_out", late)
    for step in (1, 2, 3):
        follow.refresh()
        assert {key: follow.metrics[key].last for key in "ab"} == {"a": step, "b": step}
        assert {follow.metrics[key].step for key in "ab"} == {follow.step} == {step}
        assert follow.metrics["t"].last == ("first" if step == 1 else f"late {step}")


def test_the_step_is_that_of_the_newest_attempt(trackway: Command, record: Record) -> None:
    """Where an attempt goes on from an earlier step, the steps behind it are no more."""
    run = record()
    for step in range(100):
        run.row(step, {"a": 0.0})
    run.end(100, "failed")
    again = record(attempt=2, created=BEGAN + 200)
    again.row(40, {"a": 0.0}, after=0).row(41, {"a": 1.0}, after=2).end()
    document = json.loads(trackway("watch", "abc12345", "--json"))
    assert (document["step"], document["metrics"]["a"]["step"]) == (41, 41)
    assert document["steps_per_s"] == 0.5


def test_deleted_points_are_none(record: Record, root: Path, alive: dict[str, Any]) -> None:
    """A deletion takes out what it names of a run that is followed, and later points count."""
    run = record(**alive)
    run.row(0, {"a": 5.0, "b": 1.0}).row(1, {"a": 1.0, "b": 1.0})
    follow, stored = Follow(Api(root).run("abc12345")), Api(root).run("abc12345")
    follow.refresh()
    upto = {run.path.stem: [LogReader(run.path).read().headers[0].generation, 1 << 40]}
    told: dict[str, Any] = {"keys": ["a"], "from": None, "to": 0, "upto": upto}
    editor = record(role="editor", created=BEGAN + 5)
    editor.event("delete", **told).writer.close()
    follow.refresh()
    same(follow, stored)
    assert (follow.metrics["a"].count, follow.metrics["a"].max) == (1, 1.0)
    assert follow.metrics["b"].count == 2
    run.row(2, {"a": 2.0})
    follow.refresh()
    same(follow, stored)
    assert not follow.metrics["a"].irregular


# -- what cannot be drawn --------------------------------------------------------------------------


def test_nan_is_counted_and_a_gap(trackway: Command, record: Record) -> None:
    """NaN has a column where there is one, and leaves a gap at its place in the curve."""
    record().rows("a", [0.0, math.nan, 1.0, math.nan, math.nan]).rows("b", [1.0] * 5).end()
    document = json.loads(trackway("watch", "abc12345", "--json"))["metrics"]
    assert {key: told["nan"] for key, told in document.items()} == {"a": 3, "b": 0}
    lines = trackway("watch", "abc12345").splitlines()[2:]
    assert lines[0].split() == ["metric", "last", "min", "max", "count", "nan"]
    assert lines[1].split()[:6] == ["a", "nan", "0", "1", "5", "3"]
    assert lines[1].partition("3 ")[2].rstrip("\n")[1:4] == "▁ █"
    assert "nan" not in trackway("watch", "abc12345", "--keys", "b")


def test_nan_keeps_its_place_in_a_long_curve() -> None:
    """Where buckets are joined, one without a finite value gives way to the other."""
    live = Live("a")
    values = np.where(np.arange(1024) < 512, np.nan, 1.0)
    steps = np.arange(1024)
    for part in np.split(steps, 8):
        live.add(Series("a", part, part.astype(float), values[part], part), 1)
    low, _ = live.curve(4)
    assert np.isnan(low).tolist() == [True, True, False, False]
    assert (live.count, live.nan, len(live.low)) == (1024, 512, 256)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_long_text_takes_no_room_from_numbers(
    trackway: Command, record: Record, width: int
) -> None:
    """The text is cut; names and numbers are whole, and curves are drawn where there is room."""
    run = record().rows("a/metric/with/a/name", [1234567890.25, 0.5])
    run.event("value", 1, step=1, data={"note": "word " * 100}).end()
    lines = trackway("watch", "abc12345", width=width).splitlines()[2:]
    table = {line.split()[0]: line.split() for line in lines}
    assert table["a/metric/with/a/name"][1:5] == ["0.5", "0.5", "1.235e+09", "2"]
    assert table["note"][1] == "word" and "…" in "".join(table["note"])
    assert max(map(len, lines)) <= width
    assert (len(table["a/metric/with/a/name"]) > 5) == (width >= 80)


# -- how far it is ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        ({"max_steps": 10}, 10.0),
        ({"trainer": {"args": {"MAX_STEPS": 7}}, "other": 3}, 7.0),
        ({"a": {"max_steps": 5}, "max_steps": 9}, 9.0),
        ({"max_steps": -1}, None),
        ({"max_steps": True}, None),
        ({"max_steps": "100"}, None),
        ({"max_steps": math.inf}, None),
        ({}, None),
    ],
)
def test_the_total_is_found_in_the_configuration(
    config: dict[str, Any], wanted: float | None
) -> None:
    """A positive number of that name counts, the least nested first."""
    assert config_total(config, frozenset({"max_steps"})) == wanted


@pytest.mark.parametrize(
    ("epochs", "done", "eta"),
    [
        ([0, 1, 2], 3.0, 70.0),
        ([1, 2, 3], 3.0, 70.0),
        ([0.5, 1.0, 1.5], 1.5, 170.0),
        ([4], 4.0, None),
    ],
)
def test_epochs(
    record: Record, root: Path, epochs: list[float], done: float, eta: float | None
) -> None:
    """Where epochs are the total, a metric called epoch says how far it is, from 0 or from 1."""
    run = record().config(train__num_train_epochs=10)
    for step, epoch in enumerate(epochs):
        run.row(step, {"train/epoch": epoch}, after=10 * step)
    run.end()
    follow = Follow(Api(root).run("abc12345"))
    follow.refresh()
    progress = progress_of(follow, follow.record.config)
    assert progress is not None
    assert (progress.unit, progress.done, progress.total) == ("epoch", done, 10.0)
    assert progress.eta_s == (None if eta is None else pytest.approx(eta))


def test_pace_is_that_of_the_last_minute(record: Record, root: Path) -> None:
    """Steps a second count from a minute before the newest point, not from the beginning."""
    run = record()
    for step in range(100):
        run.row(step, {"a": 0.0}, after=step * 100)
    for step in range(1000):
        run.row(100 + step, {"a": 0.0}, after=9900 + 100 + step / 10)
    run.end()
    follow = Follow(Api(root).run("abc12345"))
    follow.refresh()
    rate = follow.steps_per_s()
    assert rate is not None and rate == pytest.approx(10.0, rel=0.05)


def test_an_empty_metric_has_no_curve() -> None:
    """A metric without a finite value draws nothing."""
    low, high = Live("a").curve(10)
    assert (len(low), len(high)) == (0, 0)


# -- live ------------------------------------------------------------------------------------------

TRAINING = """
import sys, time, trackway as tw
run = tw.init(project="p", dir=sys.argv[1], id="live0000", config={"max_steps": 100000})
print("begun", flush=True)
for step in range(100000):
    run.log({"loss": 1 / (step + 1)}, step=step)
    time.sleep(0.005)
    if sys.stdin in __import__("select").select([sys.stdin], [], [], 0)[0]:
        break
run.finish()
"""


def training(root: Path) -> subprocess.Popen[bytes]:
    """A real run in a process of its own; it finishes when its input is closed."""
    process = subprocess.Popen(
        [sys.executable, "-c", TRAINING, str(root)],
        env={**os.environ, "PYTHONPATH": HOME},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"begun\n"
    return process


class Terminal:
    """The command on a terminal of its own."""

    def __init__(self, root: Path, *arguments: str) -> None:
        self.pid, self._handle = pty.fork()
        if self.pid == 0:
            os.environ.update(PYTHONPATH=HOME, TERM="xterm", COLUMNS="100", LINES="30")
            os.execv(sys.executable, [*COMMAND, "--dir", str(root), "watch", *arguments])
        self.seen = b""

    def read(self, until: Callable[[bytes], bool] | None = None) -> bytes:
        """What is drawn, until that is enough, or to its end."""
        limit = time.monotonic() + 60
        while time.monotonic() < limit and not (until and until(self.seen)):
            if not select.select([self._handle], [], [], 1)[0]:
                continue
            try:
                data = os.read(self._handle, 65536)
            except OSError:  # the other side is closed
                break
            if not data:
                break
            self.seen += data
        return self.seen

    def wait(self) -> int:
        """Its exit code."""
        self.read()
        limit = time.monotonic() + 30
        while not (ended := os.waitpid(self.pid, os.WNOHANG))[0]:
            if time.monotonic() > limit:
                os.kill(self.pid, signal.SIGKILL)
            time.sleep(0.01)
        status = ended[1]
        os.close(self._handle)
        return os.waitstatus_to_exitcode(status)


def test_a_live_run_is_followed_to_its_end(root: Path) -> None:
    """On a terminal the page is drawn again and again, and stays with the final state."""
    process = training(root)
    terminal = Terminal(root, "live0000", "--interval", "0.1", "--lines", "0")
    terminal.read(lambda seen: seen.count(b"live0000") >= 5 and b"steps/s" in seen)
    assert b"running" in terminal.seen
    process.communicate(b"x", timeout=60)
    assert terminal.wait() == 0
    last = terminal.seen.rpartition(b"p/live0000")[2]
    assert b"finished" in last and b"running" not in last and b"loss" in last


def test_ctrl_c_leaves_calmly(root: Path) -> None:
    """Ctrl-C shows the last page and ends with exit code 0; the run goes on."""
    process = training(root)
    terminal = Terminal(root, "live0000", "--interval", "0.1")
    terminal.read(lambda seen: seen.count(b"live0000") >= 3)
    os.kill(terminal.pid, signal.SIGINT)
    assert terminal.wait() == 0
    assert b"Traceback" not in terminal.seen and b"Aborted" not in terminal.seen
    assert b"\x1b[?25h" in terminal.seen  # the cursor is shown again
    assert process.poll() is None
    process.communicate(b"x", timeout=60)


def test_json_has_a_line_a_look(root: Path) -> None:
    """With --json each look is a line, also where it is no terminal, and the last says the end."""
    process = training(root)
    watch = subprocess.Popen(
        [*COMMAND, "--dir", str(root), "watch", "live0000", "--json", "--interval", "0.1"],
        env={**os.environ, "PYTHONPATH": HOME},
        stdout=subprocess.PIPE,
    )
    assert watch.stdout is not None
    lines = [json.loads(watch.stdout.readline()) for _ in range(4)]
    process.communicate(b"x", timeout=60)
    lines += map(json.loads, watch.stdout)
    assert watch.wait(60) == 0
    watch.stdout.close()
    steps = [line["step"] or 0 for line in lines]
    assert steps == sorted(steps) and steps[-1] > steps[0]
    assert [line["state"] for line in lines] == ["running"] * (len(lines) - 1) + ["finished"]
    last = lines[-1]["metrics"]["loss"]
    metric = Api(root).run("live0000").metrics["loss"]
    assert (last["last"], last["count"], last["step"]) == (
        metric.last,
        metric.count,
        metric.last_step,
    )


def test_forever_goes_on(record: Record, root: Path, trackway: Command) -> None:
    """With --forever the end of the run is no reason to stop."""
    record().rows("a", [1.0]).end()
    watch = subprocess.Popen(
        [*COMMAND, "--dir", str(root), *"watch abc12345 --json --interval 0.1 --forever".split()],
        env={**os.environ, "PYTHONPATH": HOME},
        stdout=subprocess.PIPE,
    )
    assert watch.stdout is not None
    assert [json.loads(watch.stdout.readline())["state"] for _ in range(3)] == ["finished"] * 3
    record(attempt=2, created=time.time()).row(5, {"a": 2.0}).end(1)
    while json.loads(watch.stdout.readline())["metrics"]["a"]["last"] != 2.0:
        pass
    watch.kill()
    watch.communicate()
