"""``trackway show``: what the page says, and what its parts print."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.cli.conftest import BEGAN, Command, Recording
from trackway.api import Series
from trackway.cli._spark import buckets, spark
from trackway.cli._text import moment
from trackway.core._values import plain

Record = Callable[..., Recording]

TITLES = (
    "Trouble",
    "Traceback",
    "Config",
    "Metrics",
    "Summary",
    "Model",
    "Checkpoints",
    "Tables",
    "Gradients",
    "Git",
    "Environment",
    "Packages",
    "System",
    "Console",
    "Masked secrets",
    "Repeat it",
)


def sections(page: str) -> dict[str, list[str]]:
    """The lines of each section, stripped; those above the first title under ""."""
    found: dict[str, list[str]] = {"": []}
    title = ""
    for line in page.splitlines():
        if line.split("  ")[0] in TITLES and not line.startswith(" "):
            title = line.split("  ")[0]
            found[title] = [line.removeprefix(title).strip()]
        elif line.strip():
            found[title].append(line.strip())
    return found


def fact(lines: list[str], name: str) -> str:
    """What stands behind a name."""
    found = [line.removeprefix(name).strip() for line in lines if line.startswith(f"{name} ")]
    assert len(found) == 1, lines
    return found[0]


# -- the page --------------------------------------------------------------------------------------


def test_a_finished_run(trackway: Command, record: Record) -> None:
    """Name, state, when, how long, how it ended, where, and its labels stand at the top."""
    run = record(host="node7").named(
        "brisk-otter", tags=["a", "b"], notes="first\nsecond", group="sweep", job_type="train"
    )
    run.end(75)
    top = sections(trackway("show", "brisk-otter"))[""]
    assert top[0] == "brisk-otter  finished"
    assert fact(top, "run") == "digits/abc12345"
    assert fact(top, "began") == f"{moment(BEGAN, zone=True)} ({moment(BEGAN)[:10]})"
    assert fact(top, "took") == "1 min 15 s"
    assert fact(top, "ended") == "exit code 0"
    assert fact(top, "host") == "node7"
    assert fact(top, "tags") == "a, b"
    assert fact(top, "group") == "sweep"
    assert fact(top, "job type") == "train"
    assert top[-2:] == ["notes     first", "second"]


@pytest.mark.parametrize(
    ("events", "state", "told"),
    [
        ([("end", {"state": "failed", "exit_code": 3})], "failed", "exit code 3"),
        (
            [
                (
                    "end",
                    {
                        "state": "failed",
                        "exit_code": 1,
                        "exception": {
                            "type": "ValueError",
                            "message": "bad\nvalue",
                            "traceback": "T",
                        },
                    },
                )
            ],
            "failed",
            r"ValueError: bad\nvalue, exit code 1",
        ),
        (
            [("end", {"state": "interrupted", "exit_code": 130})],
            "interrupted",
            "by Ctrl-C, exit code 130",
        ),
        (
            [("death", {"exit_code": None, "signal": 9, "known": True})],
            "killed",
            "by SIGKILL (signal 9)",
        ),
        (
            [("death", {"exit_code": None, "signal": 99, "known": True})],
            "killed",
            "by signal 99",
        ),
        (
            [("death", {"exit_code": None, "signal": None, "known": False})],
            "killed",
            "exit code not captured",
        ),
    ],
)
def test_how_a_run_ended(
    trackway: Command, record: Record, events: list[Any], state: str, told: str
) -> None:
    """Exit code, signal and exception are told as far as they are known."""
    run = record()
    for type_, fields in events:
        run.event(type_, 5, **{"exception": None, **fields})
    run.writer.close()
    top = sections(trackway("show", "abc12345"))[""]
    assert top[0] == f"abc12345  {state}"
    assert fact(top, "ended") == told


def test_a_running_run(trackway: Command, record: Record, alive: dict[str, Any]) -> None:
    """A run that is being written has no end yet, and shows what it has so far."""
    record(created=time.time() - 100, **alive).rows("loss", [3.0, 1.0])
    page = sections(trackway("show", "abc12345"))
    assert page[""][0] == "abc12345  running"
    assert fact(page[""], "so far") == "1 min 40 s"
    assert not any(line.startswith("ended") for line in page[""])
    assert page["Metrics"][2].split()[:2] == ["loss", "1"]


def test_only_sections_with_content(trackway: Command, record: Record) -> None:
    """A run that recorded nothing has a head and says what was not captured."""
    record().end()
    assert list(sections(trackway("show", "abc12345"))) == ["", "Repeat it"]


def test_attempts(trackway: Command, record: Record) -> None:
    """Each attempt of a resumed run is told with its state, time and place."""
    first = record(host="one").row(0, {"a": 1.0})
    first.event("death", 50, exit_code=None, signal=9, known=True).writer.close()
    record(attempt=2, created=BEGAN + 100, host="two").row(1, {"a": 2.0}).end(30)
    top = sections(trackway("show", "abc12345"))[""]
    assert fact(top, "attempt 1") == (
        f"killed, began {moment(BEGAN)}, took 50 s, by SIGKILL (signal 9), on one"
    )
    assert fact(top, "attempt 2") == (
        f"finished, began {moment(BEGAN + 100)}, took 30 s, exit code 0, on two"
    )
    assert fact(top, "took") == "1 min 20 s"
    assert fact(top, "host") == "two"


def test_config_and_what_was_changed_later(trackway: Command, record: Record) -> None:
    """Nested names are joined by dots; a changed value has its time and what it was."""
    run = record().config(lr=0.001, optim__name="sgd", optim__betas=[0.9, 0.999], old=1, same=2)
    run.config(30, lr=0.0005, same=2)
    run.assign("config", after=60, deleted=[["old"]]).end()
    lines = sections(trackway("show", "abc12345"))["Config"]
    when = moment(BEGAN + 30)[11:]
    assert fact(lines, "lr") == f"0.0005        changed 30 s in, at {when}; was 0.001"
    assert fact(lines, "optim.name") == "sgd"
    assert fact(lines, "optim.betas") == "[0.9, 0.999]"
    assert fact(lines, "same") == "2"
    assert fact(lines, "old").startswith("deleted       changed 1 min 00 s in")


def test_nan_that_stays_nan_was_not_changed(trackway: Command, record: Record) -> None:
    """A value NaN that is set again to NaN is the same value, in a list too."""
    run = record().config(error_score=math.nan, many=[1, math.nan], text="NaN")
    run.config(5, error_score=math.nan, many=[1, math.nan], text=math.nan).end()
    lines = sections(trackway("show", "abc12345"))["Config"]
    assert fact(lines, "error_score") == "nan"
    assert fact(lines, "many") == '[1, "NaN"]'
    assert "changed" in fact(lines, "text")


def test_metrics(trackway: Command, record: Record) -> None:
    """Each metric has its statistics; those with a goal come first with where they were best."""
    run = record().define("val/acc", "maximize", "max").define("*loss", "minimize", "min")
    run.rows("epoch", [])
    for step, (accuracy, loss) in enumerate([(0.5, 3.0), (0.9, math.nan), (0.7, 1.0), (0.8, 2.0)]):
        run.row(step, {"val/acc": accuracy, "loss": loss, "epoch": step}, types="ffi")
    run.event("value", 9, step=9, data={"note": "text"}).end()
    lines = sections(trackway("show", "abc12345", width=140))["Metrics"]
    titles = "metric last at step min max best at mean points NaN"
    assert " ".join(lines[1].split()) == titles
    rows = [line.split() for line in lines[2:]]
    assert rows[0] == ["loss", "↓", "2", "3", "1", "3", "2", "2", "4", "1", "█", "▁▅"]
    assert rows[1] == ["val/acc", "↑", "0.8", "3", "0.5", "0.9", "1", "0.725", "4", "▁█▄▇"]
    assert rows[2] == ["epoch", "3", "3", "0", "3", "1.5", "4", "▁▃▆█"]
    assert rows[3] == ["note", "text", "9", "1"]


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 200])
def test_metrics_fit_the_terminal(trackway: Command, record: Record, width: int) -> None:
    """Columns that there is no room for are left out, and the curve on narrow terminals."""
    run = record().define("a/rather/long/name/of/a/metric", "minimize", "min")
    for step in range(100):
        value = -math.pi * 10 ** (step % 20)
        run.row(step, {"a/rather/long/name/of/a/metric": value, "b": value})
    run.end()
    lines = sections(trackway("show", "abc12345", width=width))["Metrics"]
    assert len(lines) == 4
    if width >= 80:
        assert max(map(len, lines)) <= width - 2
        assert "▁" in lines[2]
    else:
        assert "mean" not in lines[1]
        assert "█" not in "".join(lines)


def test_many_metrics_are_counted_and_all_shown_on_demand(
    trackway: Command, record: Record
) -> None:
    """The page has forty metrics and says how many more there are; --metrics has all."""
    record().row(0, {f"layer.{n:03}": float(n) for n in range(100)}).end()
    lines = sections(trackway("show", "abc12345"))["Metrics"]
    assert len(lines) == 1 + 1 + 40 + 1
    assert lines[-1] == "and 60 metrics more: --metrics shows all"
    every = trackway("show", "abc12345", "--metrics").splitlines()
    assert [line.split()[0] for line in every] == ["metric", *(f"layer.{n:03}" for n in range(100))]


def test_summary_is_what_the_program_stated(trackway: Command, record: Record) -> None:
    """The section has what was assigned, not what follows from the metrics."""
    record().rows("loss", [1.0]).summary(parameters=9610, best__epoch=3).end()
    lines = sections(trackway("show", "abc12345"))["Summary"]
    assert lines[1:] == ["parameters  9610", "best.epoch  3"]


def test_git(trackway: Command, record: Record) -> None:
    """Commit, branch, remote, changes, untracked files and submodules are told."""
    run = record()
    patch = {"blob": "0" * 64, "files": 2, "insertions": 5, "deletions": 1, "masked": True}
    run.event(
        "git",
        found=True,
        commit="4b825dc642cb6eb9a060e54bf8d69288fbee4904",
        message="Begin",
        branch="main",
        detached=False,
        remote="https://example.org/x.git",
        root="work",
        prefix="sub/dir",
        bare=False,
        shallow=True,
        dirty=True,
        patch=patch,
        untracked=[
            {"path": "a.py", "bytes": 11, "blob": "1" * 64, "masked": True, "omitted": None},
            {"path": b"\xff.bin", "bytes": 5 << 20, "blob": None, "omitted": "binary"},
        ],
        untracked_left_out=3,
        submodules=[{"path": "lib", "commit": "a" * 40, "patch": None, "submodules": []}],
        reason=None,
    ).end()
    lines = sections(trackway("show", "abc12345"))["Git"]
    assert (
        lines[1:]
        == [
            "commit     4b825dc642cb6eb9a060e54bf8d69288fbee4904",
            "Begin",
            "branch     main",
            "remote     https://example.org/x.git",
            "folder     work/sub/dir",
            "kind       shallow",
            "changes    2 files changed, +5 -1, with secrets masked; --patch prints them",
            "untracked  a.py  11 B  (secrets masked)",
            r"\udcff.bin  5.0 MiB  (not stored: binary)",
            "and 3 files more",
            "submodule  lib at aaaaaaaaaaaa",
        ]
        or lines[1:][-1] == "submodule  lib at aaaaaaaaaaaa"
    )


def test_no_repository(trackway: Command, record: Record) -> None:
    """Where there was no repository, the reason is told."""
    record().event("git", found=False, reason="not in a git repository").end()
    lines = sections(trackway("show", "abc12345"))["Git"]
    assert lines[1:] == ["not captured  not in a git repository"]


def test_environment(trackway: Command, record: Record) -> None:
    """Command line, interpreter, machine, job and variables are told in words."""
    run = record().event(
        "environment",
        command=["python", "train.py", "--name", "a b"],
        argv_truncated=False,
        executable="~/venv/bin/python",
        script="~/w/train.py",
        cwd="~/w",
        host="vm",
        user="me",
        os={"name": "Linux", "kernel": "6.1", "machine": "x86_64", "distribution": "Debian 12"},
        python={
            "version": "3.11.7",
            "implementation": "CPython",
            "environment": {"kind": "virtualenv", "name": "w", "path": "~/venv"},
        },
        cpu={"model": "EPYC", "physical": 32, "logical": 64, "usable": 8, "quota": None},
        memory={"total": 16 << 30, "limit": 8 << 30},
        container=None,
        job={"slurm": {"SLURM_JOB_ID": "12"}},
        variables={"CUDA_VISIBLE_DEVICES": "0", "OMP_NUM_THREADS": "4"},
        gpus=[{"index": 0, "name": "H200", "memory_bytes": 141 << 30, "driver": "550.1"}],
        from_a_later_release=[1, 2],
    )
    run.end()
    lines = sections(trackway("show", "abc12345"))["Environment"][1:]
    assert lines == [
        "command               python train.py --name 'a b'",
        "executable            ~/venv/bin/python",
        "script                ~/w/train.py",
        "cwd                   ~/w",
        "host                  vm",
        "user                  me",
        "os                    Debian 12, Linux 6.1 x86_64",
        "python                3.11.7 CPython in virtualenv ~/venv",
        "cpu                   EPYC, 8 of 64 cores",
        "memory                16.0 GiB, limited to 8.0 GiB",
        "from a later release  [1, 2]",
        "gpu 0                 H200, 141.0 GiB, driver 550.1",
        "slurm                 SLURM_JOB_ID=12",
        "variables             CUDA_VISIBLE_DEVICES=0",
        "OMP_NUM_THREADS=4",
    ]


def test_a_script_from_standard_input_lies_nowhere(trackway: Command, record: Record) -> None:
    """What Python read from its standard input is called so, without a folder."""
    record().event("environment", script="~/w/<stdin>", cwd="~/w").end()
    lines = sections(trackway("show", "abc12345"))["Environment"]
    assert fact(lines, "script") == "<stdin>"


def test_no_gpu_has_a_reason(trackway: Command, record: Record) -> None:
    """Where no GPU was found, the reason is told."""
    record().event("environment", gpus=[], gpus_reason="no NVIDIA driver answers").end()
    lines = sections(trackway("show", "abc12345"))["Environment"][1:]
    assert lines == ["gpu  none: no NVIDIA driver answers"]


def test_packages(trackway: Command, record: Record) -> None:
    """The page counts the packages and names those of machine learning; --packages lists all."""
    items = {"torch": "2.13.0", "numpy": "2.4.6", "zlib-ng": "1", "Attrs": "25.1"}
    record().event("packages", items=items).end()
    lines = sections(trackway("show", "abc12345"))["Packages"]
    assert lines == ["4 installed; --packages lists all", "torch 2.13.0, numpy 2.4.6"]
    expected = "Attrs 25.1\nnumpy 2.4.6\ntorch 2.13.0\nzlib-ng 1\n"
    assert trackway("show", "abc12345", "--packages") == expected
    assert trackway.json("show", "abc12345", "--packages") == {"packages": items}


def test_system(trackway: Command, record: Record) -> None:
    """What a person looks at first has mean and maximum with units, over all samples."""
    run = record()
    for number in range(3):
        values = {
            "process.cpu_percent": 90.0 + number,
            "process.memory_rss_bytes": float((1 + number) << 30),
            "gpu.0.power_watts": 250.0,
            "companion.cpu_percent": 0.1,
        }
        run.row(number, values, space="system", after=number * 10)
    run.row(3, {"process.cpu_percent": math.nan}, space="system", after=30).end()
    lines = sections(trackway("show", "abc12345"))["System"]
    assert [line.split() for line in lines] == [
        ["4", "samples", "over", "30", "s"],
        ["mean", "max"],
        ["process.cpu_percent", "91.0", "%", "92.0", "%"],
        ["process.memory_rss_bytes", "2.0", "GiB", "3.0", "GiB"],
        ["gpu.0.power_watts", "250", "W", "250", "W"],
    ]


def test_console(trackway: Command, record: Record) -> None:
    """The page has the last ten lines, --console all, each as it was last."""
    run = record().event(
        "console", 1, stream="out", first=0, lines=[f"line {n}" for n in range(12)]
    )
    run.event("console", 2, stream="out", first=11, lines=["line 11 again", "last"])
    run.event("console", 3, stream="err", first=0, lines=["a\twarning"]).end()
    lines = sections(trackway("show", "abc12345"))["Console"]
    assert lines[0] == "last 10 of 14 lines; --console prints all"
    assert lines[1:] == [
        *(f"line {n}" for n in range(4, 11)),
        "line 11 again",
        "last",
        "a       warning",
    ]
    every = trackway("show", "abc12345", "--console").splitlines()
    assert every == [*(f"line {n}" for n in range(11)), "line 11 again", "last", "a\twarning"]
    told = trackway.json("show", "abc12345", "--console")["console"]
    assert told[-1] == {"time": BEGAN + 3, "stream": "err", "text": "a\twarning", "attempt": 1}


def test_a_traceback(trackway: Command, record: Record) -> None:
    """The traceback of a failed run stands line by line."""
    trace = 'Traceback:\n  File "a.py", line 1\n\tx\nValueError: bad\n'
    exception = {"type": "ValueError", "message": "bad", "traceback": trace}
    record().end(5, "failed", exit_code=1, exception=exception)
    page = trackway("show", "abc12345")
    start = page.index("Traceback\n")
    assert page[start:].splitlines()[1:5] == [
        "  Traceback:",
        '    File "a.py", line 1',
        "          x",
        "  ValueError: bad",
    ]


def test_masked_secrets(trackway: Command, record: Record) -> None:
    """Where something was masked, by which rule and how often is told."""
    items = [
        {"where": "config", "rule": "a name such as api_key", "count": 1},
        {"where": "argv", "rule": "GitHub token", "count": 2},
    ]
    record().event("masked", items=items).end()
    assert sections(trackway("show", "abc12345"))["Masked secrets"][1:] == [
        "config  a name such as api_key, 1 time",
        "argv    GitHub token, 2 times",
    ]


def test_trouble(trackway: Command, record: Record) -> None:
    """Lost points, troubles, refused and skipped values stand right below the head."""
    run = record().event(
        "trouble", place="log", reason="value x", count=3, sentence="'x' was not stored: a tensor."
    )
    run.end(lost_points=12, skipped=1, refused={"x": 3, "y": 2})
    page = sections(trackway("show", "abc12345"))
    assert list(page)[:2] == ["", "Trouble"]
    assert page["Trouble"][1:] == [
        "12 points lost: the disk did not take them",
        "'x' was not stored: a tensor. (3 times)",
        "2 values of y could not be stored",
        "1 value None, skipped",
    ]


def test_a_damaged_log_is_told(trackway: Command, record: Record) -> None:
    """Bytes that were passed over are told, and the rest of the run is shown."""
    run = record()
    for step in range(3):
        run.row(step, {"loss": float(step)})
    run.end()
    data = bytearray(run.path.read_bytes())
    data[-200] ^= 0xFF
    run.path.write_bytes(data)
    page = sections(trackway("show", "abc12345"))
    assert page["Trouble"][1].endswith("bytes of its logs damaged: trackway verify tells where")
    assert page["Metrics"][2].startswith("loss")


def test_json_has_everything(trackway: Command, record: Record) -> None:
    """--json is one document: the run, its statistics, samples, console and commands."""
    run = record().named("one").config(lr=0.1).rows("loss", [3.0, math.nan, 1.0])
    run.row(0, {"cpu.percent": 50.0}, space="system")
    run.event("console", 1, stream="out", first=0, lines=[f"line {n}" for n in range(12)]).end()
    document = trackway.json("show", "one")
    assert document["metrics"] == {
        "loss": {
            "key": "loss",
            "count": 3,
            "nan": 1,
            "min": 1.0,
            "max": 3.0,
            "mean": 2.0,
            "first": 3.0,
            "last": 1.0,
            "last_step": 2,
            "min_step": 2,
            "max_step": 0,
        }
    }
    assert document["system"] == {
        "cpu.percent": {"count": 1, "mean": 50.0, "min": 50.0, "max": 50.0, "last": 50.0}
    }
    assert document["console"]["lines"] == 12
    assert [line["text"] for line in document["console"]["last"]] == [
        f"line {n}" for n in range(2, 12)
    ]
    assert document["repeat"][0] == "# code: not captured"
    assert document["damaged_bytes"] == 0
    assert document["config_history"] == [{"time": BEGAN, "name": "lr", "value": 0.1}]
    assert (document["state"], document["git"], document["packages"]) == ("finished", None, {})


@pytest.mark.parametrize("which", ["one", "abc12345", "abc1", "digits/abc12345", "digits/one"])
def test_a_run_is_found_by_name_id_or_place(trackway: Command, record: Record, which: str) -> None:
    """A name, an id or its beginning, with or without the project, means the run."""
    record().named("one").end()
    assert trackway("show", which).startswith("one  finished\n")


# -- the curve -------------------------------------------------------------------------------------


def series(values: list[Any], steps: list[int] | None = None) -> Series:
    """A series in step order."""
    count = len(values)
    array = np.array(values, object if values and isinstance(values[0], str) else None)
    at = np.array(range(count) if steps is None else steps, np.int64)
    return Series("x", at, np.zeros(count), array, np.ones(count, np.int64))


def test_buckets_are_exact() -> None:
    """Minimum and maximum of each equal part of the steps; NaN where there is no finite value."""
    given = series([5.0, 1.0, math.nan, math.inf, 2.0, 9.0], [0, 1, 2, 5, 8, 9])
    low, high = buckets(given, 3)
    np.testing.assert_array_equal(low, [1.0, math.nan, 2.0])
    np.testing.assert_array_equal(high, [5.0, math.nan, 9.0])


def test_buckets_of_a_million_points_are_exact() -> None:
    """The same as looking at every point."""
    values = np.random.default_rng(0).normal(size=1_000_000)
    given = series(values.tolist())
    low, high = buckets(given, 16)
    for place, part in enumerate(np.split(values, 16)):
        assert (low[place], high[place]) == (part.min(), part.max())


@pytest.mark.parametrize(
    ("values", "curve"),
    [
        ([], ""),
        ([1.0], "▄"),
        ([2.0, 2.0, 2.0], "▄▄▄"),
        ([0.0, 1.0], "▁█"),
        ([0.0, math.nan, 1.0], "▁ █"),
        ([math.nan, math.inf], ""),
        ([-1.7e308, 1.7e308], "▁█"),
        ([1e-300, 0.0], "█▁"),
        ([True, False], "█▁"),
        (["a", "b"], ""),
    ],
)
def test_curves_of_few_points(values: list[Any], curve: str) -> None:
    """One sign a point, from the lowest to the highest value; a blank for what is no number."""
    assert spark(series(values), 8) == curve


def test_a_single_outlier_shows() -> None:
    """One high point among ten thousand lifts its part of the curve."""
    values = [0.0] * 10_000
    values[5_000] = 1.0
    assert spark(series(values), 8) == "▁▁▁▁█▁▁▁"


def test_points_that_are_not_shown_are_counted(trackway: Command, record: Record) -> None:
    """Repeated steps, and what a later attempt took back, are told with the way to see them."""
    first = record().rows("loss", [1.0] * 5)
    first.row(4, {"loss": 2.0}).end()
    record(attempt=2, created=BEGAN + 100).row(2, {"loss": 3.0}).end()
    metrics = sections(trackway("show", "abc12345"))["Metrics"]
    assert metrics[-1] == (
        "4 points logged again at their step, or taken back by a later attempt: "
        "export --attempts all --repeats all"
    )


# -- what integrations record ----------------------------------------------------------------------


def with_records(run: Recording) -> Recording:
    """A model, two checkpoints, two tables, and gradients that went bad."""
    run.event("model", name="model", about={"class": "Net", "parameters": 1200, "trainable": 200})
    common = {"modified": None, "epoch": None, "metric": "val/acc", "removed": False}
    for step, score, aliases in ((1000, 0.5, ["latest", "best"]), (2000, 0.25, ["latest"])):
        run.event(
            "checkpoint",
            step,
            path=f"/runs/{step}.pt",
            bytes=2048,
            step=step,
            score=score,
            aliases=aliases,
            **common,
        )
    for step in (1, 2):
        fields = {"name": "confusion", "step": step, "kind": None, "about": {}}
        run.event("table", step, rows=2, first=0, columns=[["a", [1, 2]]], **fields)
    run.rows("gradients/norm", [2.0, 1.5])
    run.summary(**{"gradients/first_nonfinite": {"parameter": "head.\x1bweight", "step": 7}})
    return run


def test_what_integrations_record(trackway: Command, record: Record) -> None:
    """Model, named checkpoints, tables and gradients each have a short section."""
    with_records(record()).end()
    page = sections(trackway("show", "abc12345"))
    assert page["Model"][1:] == ["model  Net, 1,200 parameters, 200 trainable"]
    assert page["Checkpoints"] == [
        "2 checkpoints written",
        "best    /runs/1000.pt, step 1,000, val/acc 0.5, 2.0 KiB",
        "latest  /runs/2000.pt, step 2,000, val/acc 0.25, 2.0 KiB",
    ]
    assert page["Tables"] == [
        "--table NAME prints one",
        "confusion  2 rows, at 2 steps",
    ]
    assert fact(page["Gradients"], "gradients/norm") == "1.5 at step 1"
    assert fact(page["Gradients"], "gradients/first_nonfinite") == r"head.\x1bweight at step 7"


def test_records_as_json(trackway: Command, record: Record) -> None:
    """The document has models, checkpoints with their names, and which tables there are."""
    with_records(record()).end()
    document = trackway.json("show", "abc12345")
    assert document["models"][0]["about"]["parameters"] == 1200
    assert [each["aliases"] for each in document["checkpoints"]] == [["best"], ["latest"]]
    assert document["tables"] == [{"name": "confusion", "kind": None, "steps": [1, 2], "rows": 2}]


def test_records_of_anybody(trackway: Command, record: Record) -> None:
    """What no writer of ours writes takes nothing from the page."""
    run = with_records(record())
    for number, odd in enumerate((None, "x\x1b", [], {}, math.inf, plain(10**5000))):
        run.event("model", name=f"m{number}", about={"class": odd, "parameters": odd, "tree": odd})
        told = {"bytes": odd, "step": odd, "score": odd, "metric": odd, "aliases": odd}
        run.event("checkpoint", path="/odd\x1b", removed=odd, **told)
        run.event("table", name="\x1b", step=odd, rows=odd, first=odd, columns=odd)
        run.summary(**{"gradients/first_nonfinite": {"parameter": odd, "step": odd}})
    run.end()
    page = trackway("show", "abc12345")
    assert "\x1b" not in page
    assert list(sections(page))[-5:-1] == ["Model", "Checkpoints", "Tables", "Gradients"]
    assert len(trackway.json("show", "abc12345")["models"]) == 7


def test_a_model_without_a_number_of_parameters(trackway: Command, record: Record) -> None:
    """Where none is known, none is told."""
    run = record().event("model", name="forest", about={"class": "Forest", "parameters": 0})
    run.event("model", name="tree", about={"class": "Tree"}).end()
    lines = sections(trackway("show", "abc12345"))["Model"]
    assert lines[1:] == ["forest  Forest", "tree    Tree"]


# -- one table -------------------------------------------------------------------------------------


def tabled(record: Record) -> None:
    """A run with a short table at two steps, and a long one."""
    run = record().named("one")
    for step in (1, 2):
        columns = [["class", ["a\x1b", None]], ["share", [step / 3, math.nan]]]
        fields: dict[str, Any] = {"name": "short", "step": step, "kind": "pie", "about": {"x": 1}}
        run.event("table", step, rows=2, first=0, columns=columns, **fields)
    columns = [["number", list(range(120))]]
    run.event("table", 3, name="long", step=None, rows=120, first=0, columns=columns).end()


def test_a_table(trackway: Command, record: Record) -> None:
    """--table prints the last table of the name, --step that of a step; nothing raw."""
    tabled(record)
    lines = trackway("show", "one", "--table", "short").splitlines()
    assert lines == ["class   share", "a\\x1b  0.6667", "          nan"]
    first = trackway("show", "one", "--table", "short", "--step", "1").splitlines()
    assert first[1].split() == ["a\\x1b", "0.3333"]


def test_a_table_for_a_program(trackway: Command, record: Record) -> None:
    """--json has the whole table exactly, with what is known of it."""
    tabled(record)
    assert trackway.json("show", "one", "--table", "short")["table"] == {
        "name": "short",
        "step": 2,
        "kind": "pie",
        "about": {"x": 1},
        "rows": 2,
        "missing": 0,
        "columns": {"class": ["a\x1b", None], "share": [2 / 3, "NaN"]},
    }
    long = trackway.json("show", "one", "--table", "long")["table"]
    assert long["columns"]["number"] == list(range(120))
    few = trackway.json("show", "one", "--table", "long", "--rows", "2")["table"]
    assert (few["columns"]["number"], few["rows"]) == ([0, 1], 120)


def test_a_long_table_is_cut_and_says_so(trackway: Command, record: Record) -> None:
    """Fifty rows are printed, with how many there are and how to get them; --rows prints more."""
    tabled(record)
    lines = trackway("show", "one", "--table", "long").splitlines()
    assert len(lines) == 1 + 50 + 1
    assert lines[-1] == "50 of 120 rows: --rows 120 prints all; --json has the exact values"
    every = trackway("show", "one", "--table", "long", "--rows", "120").splitlines()
    assert [line.strip() for line in every] == ["number", *map(str, range(120))]


def test_a_wide_table_says_what_there_is_no_room_for(trackway: Command, record: Record) -> None:
    """On a screen, columns that do not fit are left out and named; missing rows are told."""
    columns = [[f"column_{n:03}", [n]] for n in range(30)]
    record().event("table", name="wide", step=None, rows=4, first=0, columns=columns).end()
    lines = trackway("show", "abc12345", "--table", "wide", width=60).splitlines()
    assert lines[0].split() == [f"column_{n:03}" for n in range(5)]
    assert lines[2].startswith("no room for column_005, column_006, ")
    assert lines[2].endswith(" and 19 more; --json has everything")
    assert lines[3] == "3 rows missing: the program died as it wrote them"


@pytest.mark.parametrize(
    ("arguments", "code", "part"),
    [
        (["--table", "lonk"], 1, "did you mean"),
        (["--table", "short", "--step", "7"], 1, "its steps are: 1, 2"),
        (["--table", "short", "--console"], 2, "one at a time"),
        (["--table", "short", "--untracked", "."], 2, "one at a time"),
        (["--rows", "3"], 2, "go with --table"),
    ],
)
def test_a_table_that_is_not_there(
    trackway: Command, record: Record, arguments: list[str], code: int, part: str
) -> None:
    """A wrong name or step is told with what there is; options that do not fit are refused."""
    tabled(record)
    result = trackway.result("show", "one", *arguments)
    assert (result.exit_code, part in result.stderr) == (code, True), result.stderr


def test_a_table_without_rows(trackway: Command, record: Record) -> None:
    """An empty table has its headings, and says that it has no rows."""
    record().event("table", name="x", step=None, rows=0, first=0, columns=[["a", []]]).end()
    lines = trackway("show", "abc12345", "--table", "x").splitlines()
    assert lines == ["a", "the table has no rows"]
