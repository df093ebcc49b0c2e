"""``trackway export``: every value exact, in CSV and in JSON lines."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import pty
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.cli.conftest import BEGAN, Command, Recording
from trackway.api import Api
from trackway.api._export import export_csv, export_jsonl
from trackway.backend.file.format import big_integer
from trackway.backend.file.writer import LogWriter
from trackway.errors import ArgumentError

Record = Callable[..., Recording]

HARD = [
    0.1,
    1 / 3,
    1e-4,
    9.999e-5,
    1e15,
    1e16,
    123456789012345680.0,
    5e-324,
    1.7976931348623157e308,
    -0.0,
    0.0,
    1.0,
    -2.5,
    math.nan,
    math.inf,
    -math.inf,
]


def rows(lines: str) -> list[Any]:
    """The points' lines of a JSON lines export."""
    return [json.loads(line, parse_constant=pytest.fail) for line in lines.splitlines()[1:]]


# -- CSV -------------------------------------------------------------------------------------------


def test_csv_joins_metrics_on_their_steps(trackway: Command, record: Record) -> None:
    """A line a step in the order of steps, empty where a metric has no point, time the latest."""
    run = record()
    run.row(2, {"a": 0.5}, after=1.25).row(0, {"a": 0.25}, after=2).row(0, {"b": 7.0}, after=1)
    run.row(5, {"b": 8.0}, after=3).end()
    assert trackway("export", "abc12345", "--format", "csv") == (
        "step,time,a,b\n0,1750000002.0,0.25,7.0\n2,1750000001.25,0.5,\n5,1750000003.0,,8.0\n"
    )


def test_csv_floats_read_back_exactly(trackway: Command, record: Record) -> None:
    """A float is written as repr writes it: the shortest text that reads back the same bits."""
    record().rows("x", HARD).end()
    table = list(csv.reader(trackway("export", "abc12345").splitlines()))
    texts = [row[2] for row in table[1:]]
    assert texts == list(map(repr, HARD))
    assert [struct.pack("<d", float(text)) for text in texts] == [
        struct.pack("<d", value) for value in HARD
    ]


def test_random_floats_are_written_as_repr_writes_them(record: Record, root: Path) -> None:
    """The fast way of writing floats gives repr's text for numbers of every size."""
    generator = np.random.default_rng(0)
    numbers = np.frombuffer(generator.bytes(8 * 5000), "<f8").tolist()
    numbers += (10 ** generator.uniform(-6, 18, 5000)).tolist()
    record().rows("x", numbers).end()
    lines: list[bytes] = []
    assert export_csv(Api(root).run("abc12345"), lines.append) == 10_000
    texts = [line.split(",")[2] for line in b"".join(lines).decode().splitlines()[1:]]
    assert texts == list(map(repr, numbers))


def test_csv_keeps_integers_booleans_texts_and_lists(trackway: Command, record: Record) -> None:
    """Integers stay integers of any size, booleans words, texts are quoted, lists are JSON."""
    run = record().row(0, {"epoch": 3, "flag": 1, "x": 3.0}, types="ibf", after=0)
    data = {"epoch": 2**53 + 1, "flag": 'a "b", c', "x": [1, 2.5, "é"]}
    run.event("value", 1, step=1, data=data)
    run.event("value", 2, step=2, data={"epoch": "", "flag": "two\nlines", "x": math.inf})
    run.end()
    output = trackway("export", "abc12345")
    assert output == (
        "step,time,epoch,flag,x\n"
        "0,1750000000.0,3,true,3.0\n"
        '1,1750000001.0,9007199254740993,"a ""b"", c","[1, 2.5, ""\\u00e9""]"\n'
        '2,1750000002.0,"","two\nlines",inf\n'
    )
    assert [row[3] for row in csv.reader(io.StringIO(output))][2:] == ['a "b", c', "two\nlines"]


def test_integers_and_floats_of_one_metric_are_written_as_they_were_logged(
    trackway: Command, record: Record
) -> None:
    """A metric logged as an integer first and as a float later has both forms."""
    record().row(0, {"n": 1}, types="i").row(1, {"n": 1.0}, types="f").end()
    assert [line.split(",")[2] for line in trackway("export", "abc12345").splitlines()[1:]] == [
        "1",
        "1.0",
    ]


def test_a_row_that_lies_about_its_types_is_written_as_floats(
    trackway: Command, record: Record
) -> None:
    """NaN declared as integer, and 7 declared as boolean, are written as what they are."""
    record().row(0, {"i": math.nan, "b": 7.0}, types="ib", after=0).end()
    assert trackway("export", "abc12345").splitlines()[1] == "0,1750000000.0,7.0,nan"


def test_repeated_steps_in_csv(trackway: Command, record: Record) -> None:
    """By default the last arrival at a step counts; with --repeats all each has a line."""
    record().row(1, {"a": 1.0}, after=0).row(0, {"a": 2.0}, after=1).row(
        1, {"a": 3.0, "b": 4.0}, after=2
    ).end()
    assert trackway("export", "abc12345") == (
        "step,time,a,b\n0,1750000001.0,2.0,\n1,1750000002.0,3.0,4.0\n"
    )
    assert trackway("export", "abc12345", "--repeats", "all") == (
        "step,time,attempt,a,b\n"
        "1,1750000000.0,1,1.0,\n"
        "0,1750000001.0,1,2.0,\n"
        "1,1750000002.0,1,3.0,4.0\n"
    )


def resumed(record: Record) -> None:
    """A run that was resumed from step 2, and whose validation was not."""
    first = record(attempt=1)
    for step in range(4):
        first.row(step, {"loss": 10.0 + step}, after=step)
    first.row(3, {"val": 0.5}, after=3.5).end()
    second = record(attempt=2, created=BEGAN + 100)
    for step in (2, 3):
        second.row(step, {"loss": 20.0 + step}, after=step)
    second.end()


def test_a_resumed_run_in_csv(trackway: Command, record: Record) -> None:
    """The live line leaves out what the second attempt took back; --attempts all keeps it."""
    resumed(record)
    lines = trackway("export", "abc12345").splitlines()
    assert [line.split(",")[::2] for line in lines] == [
        ["step", "loss"],
        ["0", "10.0"],
        ["1", "11.0"],
        ["2", "22.0"],
        ["3", "23.0"],
    ]
    lines = trackway("export", "abc12345", "--attempts", "all", "--repeats", "all").splitlines()
    assert [line.split(",")[0:4:2] + line.split(",")[3:] for line in lines] == [
        ["step", "attempt", "loss", "val"],
        ["0", "1", "10.0", ""],
        ["1", "1", "11.0", ""],
        ["2", "1", "12.0", ""],
        ["3", "1", "13.0", ""],
        ["3", "1", "", "0.5"],
        ["2", "2", "22.0", ""],
        ["3", "2", "23.0", ""],
    ]


@pytest.mark.parametrize("repeats", ["last", "all"])
@pytest.mark.parametrize("attempts", ["live", "all"])
def test_csv_and_jsonl_hold_the_points_of_the_api(
    record: Record, root: Path, attempts: str, repeats: str
) -> None:
    """Both exports hold exactly the points that ``history`` answers, by the same rules."""
    generator = np.random.default_rng(3)
    for attempt in (1, 2):
        for role in ("train", "worker"):
            run = record(attempt=attempt, role=role, created=BEGAN + 50 * attempt)
            for _ in range(200):
                some = {k: generator.random() for k in "abc" if generator.random() < 0.6}
                step = int(generator.integers(attempt * 20, attempt * 30 + 30))
                run.row(step, some, after=float(generator.random() * 40))
                if generator.random() < 0.1:
                    run.event("value", float(generator.random()), step=step, data={"b": "text"})
            run.end()
    stored = Api(root).run("abc12345")
    history = stored.history(attempts=attempts, repeats=repeats, order="arrival")
    wanted = {
        (key, step, time, value)
        for key, series in history.items()
        for step, time, value in zip(
            series.steps.tolist(), series.times.tolist(), series.values.tolist(), strict=True
        )
    }
    pieces: list[bytes] = []
    export_jsonl(stored, pieces.append, attempts=attempts, repeats=repeats)
    lines = rows(b"".join(pieces).decode())
    found = [
        (k, line["step"], line["time"], v) for line in lines for k, v in line["values"].items()
    ]
    assert set(found) == wanted
    assert len(found) == sum(map(len, history.values()))
    assert all(line["values"] for line in lines)
    pieces = []
    export_csv(stored, pieces.append, attempts=attempts, repeats=repeats)
    table = list(csv.DictReader(io.StringIO(b"".join(pieces).decode())))
    cells = [(k, int(row["step"]), row[k]) for row in table for k in "abc" if row[k]]
    as_text = [(k, s, v if isinstance(v, str) else repr(v)) for k, s, _, v in wanted]
    assert sorted(cells) == sorted(as_text)


def test_keys_choose_metrics_by_name_and_pattern(trackway: Command, record: Record) -> None:
    """--keys may be repeated and may be a pattern; columns come in the order asked for."""
    record().row(0, {"val/a": 1.0, "val/b": 2.0, "loss": 3.0, "x": 4.0}, after=0).end()
    output = trackway("export", "abc12345", "--keys", "loss", "--keys", "val/*")
    assert output == "step,time,loss,val/a,val/b\n0,1750000000.0,3.0,1.0,2.0\n"


def test_metrics_called_like_our_columns(trackway: Command, record: Record) -> None:
    """A metric that is called step or time does not collide with the column of that name."""
    record().row(0, {"step": 5.0, "time": 6.0, "metric/step": 7.0}, after=0).end()
    output = trackway("export", "abc12345")
    assert output.splitlines()[0] == "step,time,metric/step,metric/metric/step,metric/time"
    assert output.splitlines()[1] == "0,1750000000.0,7.0,5.0,6.0"


def test_names_with_commas_quotes_and_newlines(trackway: Command, record: Record) -> None:
    """A metric may have any name; CSV quotes it."""
    names = ["a,b", 'say "x"', "two\nlines", "", " blank ", "é🍳"]
    record().row(0, dict.fromkeys(names, 1.0)).end()
    table = list(csv.reader(io.StringIO(trackway("export", "abc12345"))))
    assert sorted(table[0][2:]) == sorted(names)


def test_steps_of_any_size(trackway: Command, record: Record) -> None:
    """Negative steps, the largest of 64 bits and larger ones come in order."""
    run = record()
    for step in (2**63 - 1, -(2**63), 0):
        run.row(step, {"a": 1.0}, after=0)
    for step in (2**70, -(2**70)):
        run.event("value", 0, step=big_integer(step), data={"a": 2.0})
    run.end()
    lines = trackway("export", "abc12345").splitlines()[1:]
    steps = [-(2**70), -(2**63), 0, 2**63 - 1, 2**70]
    assert [int(line.split(",")[0]) for line in lines] == steps
    assert (
        sorted(row["step"] for row in rows(trackway("export", "abc12345", "--format", "jsonl")))
        == steps
    )


def test_system_samples_follow_with_an_empty_step(trackway: Command, record: Record) -> None:
    """In CSV the samples of the machine are lines of their own, in columns of their own."""
    run = record().row(0, {"loss": 0.5}, after=0)
    run.row(0, {"cpu.percent": 90.0}, space="system", after=1)
    run.row(1, {"cpu.percent": 80.0, "load.1m": 1.5}, space="system", after=11).end()
    assert trackway("export", "abc12345", "--include-system") == (
        "step,time,loss,system/cpu.percent,system/load.1m\n"
        "0,1750000000.0,0.5,,\n"
        ",1750000001.0,,90.0,\n"
        ",1750000011.0,,80.0,1.5\n"
    )
    assert trackway("export", "abc12345", "--include-system", "--repeats", "all") == (
        "step,time,attempt,loss,system/cpu.percent,system/load.1m\n"
        "0,1750000000.0,1,0.5,,\n"
        ",1750000001.0,1,,90.0,\n"
        ",1750000011.0,1,,80.0,1.5\n"
    )
    lines = rows(trackway("export", "abc12345", "--include-system", "--format", "jsonl"))
    assert [line["type"] for line in lines] == ["row", "system", "system"]
    assert lines[2] == {
        "type": "system",
        "step": 1,
        "time": BEGAN + 11,
        "attempt": 1,
        "values": {"cpu.percent": 80.0, "load.1m": 1.5},
    }


@pytest.mark.parametrize(("format_", "expected"), [("csv", "step,time\n"), ("jsonl", "")])
def test_a_run_without_points(
    trackway: Command, record: Record, format_: str, expected: str
) -> None:
    """A run that logged nothing gives a header, or a line for the run, and no points."""
    record().named("empty").end()
    output = trackway("export", "abc12345", "--format", format_)
    if format_ == "csv":
        assert output == expected
    else:
        assert len(output.splitlines()) == 1
        assert json.loads(output)["name"] == "empty"


# -- JSON lines ------------------------------------------------------------------------------------


def test_jsonl_begins_with_the_run(trackway: Command, record: Record) -> None:
    """The first line is the run with everything but its points."""
    run = record().named("one", tags=["a"]).config(lr=0.1, optim__name="sgd")
    run.define("loss", "minimize", "min").rows("loss", [3.0, math.nan]).summary(params=5)
    run.event("packages", items={"torch": "2.13.0"}).end(60)
    first = json.loads(trackway("export", "abc12345", "--format", "jsonl").splitlines()[0])
    assert first["type"] == "run"
    assert first["format"] == 1
    assert (first["project"], first["id"], first["name"]) == ("digits", "abc12345", "one")
    assert first["config"] == {"lr": 0.1, "optim": {"name": "sgd"}}
    assert first["summary"] == {"loss": 3.0, "params": 5}
    assert first["definitions"] == [
        {
            "name": "loss",
            "step_metric": None,
            "summary": ["min"],
            "goal": "minimize",
            "hidden": False,
        }
    ]
    assert first["packages"] == {"torch": "2.13.0"}
    assert first["attempts"][0]["exit_code"] == 0


def test_jsonl_holds_every_value_exactly(trackway: Command, record: Record) -> None:
    """Floats keep their bits, NaN and infinities are texts, everything else is as logged."""
    record().rows("x", HARD).end()
    lines = rows(trackway("export", "abc12345", "--format", "jsonl"))
    special = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
    values = [special.get(str(line["values"]["x"]), line["values"]["x"]) for line in lines]
    assert all(type(value) is float for value in values)
    assert [struct.pack("<d", v) for v in values] == [struct.pack("<d", v) for v in HARD]


def test_one_log_call_is_one_line(trackway: Command, record: Record) -> None:
    """Numbers, and what was stored beside them because no row can hold it, come together."""
    run = record().row(0, {"loss": 0.5, "n": 3, "ok": 1}, types="fib", after=0)
    data = {"note": 'say "hi"\n\x1b[31m', "list": [1, None, [math.nan]], "text": "é"}
    run.event("value", 0, step=0, data={**data, "big": big_integer(2**80)})
    run.row(0, {"loss": 0.25}, after=0)
    run.event("value", 5, step=0, data={"loss": "later"}).end()
    output = trackway("export", "abc12345", "--format", "jsonl", "--repeats", "all")
    assert output.isascii()
    assert [line["values"] for line in rows(output)] == [
        {
            "loss": 0.5,
            "n": 3,
            "ok": True,
            "note": 'say "hi"\n\x1b[31m',
            "list": [1, None, ["NaN"]],
            "text": "é",
            "big": 2**80,
        },
        {"loss": 0.25},
        {"loss": "later"},
    ]


def test_a_call_of_very_many_names_is_one_line(trackway: Command, record: Record) -> None:
    """A row that had to be cut for its many names is put together again."""
    names = {f"metric/{n:0100}": float(n) for n in range(3_000)}
    record().row(0, names).row(1, {"a": 1.0}).end()
    lines = rows(trackway("export", "abc12345", "--format", "jsonl"))
    assert [line["values"] for line in lines] == [names, {"a": 1.0}]


def test_an_integer_beyond_pythons_limit_is_hexadecimal_text(
    trackway: Command, record: Record
) -> None:
    """An integer of more digits than Python writes at once is exact in hexadecimal."""
    number = 10**5000
    record().event("value", 0, step=0, data={"n": big_integer(number)}).end()
    value = rows(trackway("export", "abc12345", "--format", "jsonl"))[0]["values"]["n"]
    assert int(value, 16) == number


def test_only_points_that_count_are_in_a_line(trackway: Command, record: Record) -> None:
    """A later arrival takes the point out of the earlier line, and an emptied line is left out."""
    run = record().row(0, {"a": 1.0, "b": 2.0}, after=0).row(0, {"a": 3.0}, after=1)
    run.row(1, {"a": 4.0}, after=2).row(1, {"a": 5.0}, after=3).end()
    lines = rows(trackway("export", "abc12345", "--format", "jsonl"))
    assert [(line["step"], line["values"]) for line in lines] == [
        (0, {"b": 2.0}),
        (0, {"a": 3.0}),
        (1, {"a": 5.0}),
    ]


def test_a_long_value_is_never_shortened(trackway: Command, record: Record) -> None:
    """A text of a megabyte is exported whole in both formats."""
    text = "x" * 1_000_000
    record().event("value", 0, step=0, data={"a": text}).end()
    assert rows(trackway("export", "abc12345", "--format", "jsonl"))[0]["values"]["a"] == text
    assert trackway("export", "abc12345").splitlines()[1] == f"0,1750000000.0,{text}"


# -- files, pipes, arguments -----------------------------------------------------------------------


@pytest.mark.parametrize("format_", ["csv", "jsonl"])
def test_a_file_has_the_bytes_of_standard_output(
    trackway: Command, record: Record, tmp_path: Path, format_: str
) -> None:
    """--output writes the same bytes, beside first, and leaves nothing else in the folder."""
    record().rows("loss", [0.5, 0.25]).event("value", 9, step=9, data={"n": "é"}).end()
    folder = tmp_path / "out"
    folder.mkdir()
    target = folder / "run.out"
    target.write_text("old")
    arguments = ("export", "abc12345", "--format", format_)
    document = trackway.json(*arguments, "--output", str(target))
    assert target.read_bytes() == trackway(*arguments).encode()
    assert [path.name for path in folder.iterdir()] == ["run.out"]
    assert document == {
        "run": "digits/abc12345",
        "format": format_,
        "output": str(target),
        "lines": 3,
    }


def test_a_failed_export_leaves_the_old_file(
    trackway: Command, record: Record, tmp_path: Path
) -> None:
    """Where the export fails, the file is what it was, and nothing lies beside it."""
    record().row(0, {"a": 1.0}).end()
    target = tmp_path / "run.csv"
    target.write_text("old")
    before = sorted(tmp_path.iterdir())
    trackway("export", "abc12345", "--keys", "x", "--output", str(target), code=1)
    assert target.read_text() == "old"
    assert sorted(tmp_path.iterdir()) == before


def test_a_file_that_cannot_be_is_named(trackway: Command, record: Record, tmp_path: Path) -> None:
    """The error is about the file that was asked for, not one beside it."""
    record().row(0, {"a": 1.0}).end()
    target = tmp_path / "no/x.csv"
    result = trackway.result("export", "abc12345", "--output", str(target))
    assert result.exit_code == 1
    assert str(target) in result.stderr and "beside" not in result.stderr


def test_a_terminal_is_told_what_was_written(record: Record, root: Path, tmp_path: Path) -> None:
    """On a terminal standard error says what was written where; elsewhere nothing is."""
    record().rows("a", [1.0, 2.0]).end()
    target = tmp_path / "run.csv"
    target.write_text("old")
    code = "from trackway.cli import main; main()"
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", code, "--dir", str(root), "export", "abc12345"]
    for stderr in (theirs, subprocess.PIPE):
        done = subprocess.run(
            [*command, "-o", str(target)],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            stdout=subprocess.PIPE,
            stderr=stderr,
        )
        assert (done.returncode, done.stdout, done.stderr or b"") == (0, b"", b"")
    os.close(theirs)
    told = os.read(ours, 65536).decode()
    os.close(ours)
    assert told == f"digits/abc12345: 2 lines in {target}\r\n"
    assert len(target.read_text().splitlines()) == 3


def test_a_folder_that_is_taken(trackway: Command, record: Record, tmp_path: Path) -> None:
    """The command says which option goes on with an export, and nothing of it elsewhere."""
    record().row(0, {"a": 1.0}).end()
    target = tmp_path / "out"
    trackway("export", "--all", "--out", str(target))
    told = trackway.result("export", "--all", "--out", str(target)).stderr
    assert told == (
        f"Error: {target} holds an export already: "
        "go on with it (--resume), or choose another folder\n"
    )
    other = tmp_path / "other"
    other.mkdir()
    (other / "x").touch()
    told = trackway.result("export", "--all", "--out", str(other)).stderr
    assert told == f"Error: {other} is not empty: choose another folder\n"


def test_a_link_stays_a_link(trackway: Command, record: Record, tmp_path: Path) -> None:
    """Writing to a symbolic link writes the file that it leads to."""
    record().row(0, {"a": 1.0}, after=0).end()
    target, link = tmp_path / "real.csv", tmp_path / "link.csv"
    link.symlink_to(target)
    trackway("export", "abc12345", "--output", str(link))
    assert link.is_symlink()
    assert target.read_text() == "step,time,a\n0,1750000000.0,1.0\n"


def test_a_pipe_is_written_to_and_not_replaced(
    trackway: Command, record: Record, tmp_path: Path
) -> None:
    """--output may be a named pipe."""
    record().row(0, {"a": 1.0}, after=0).end()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    got: list[str] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_text()))
    reader.start()
    trackway("export", "abc12345", "--output", str(pipe))
    reader.join(10)
    assert got == ["step,time,a\n0,1750000000.0,1.0\n"]
    assert pipe.is_fifo()


def test_the_bar_stays_off_a_pipe(root: Path, record: Record) -> None:
    """Where stderr is no terminal, nothing is drawn there."""
    record().rows("a", range(1000)).end()
    code = (
        "import trackway.cli._screen as s; s._PATIENCE_S = 0\nfrom trackway.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "--dir", str(root), "export", "abc12345"],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        check=True,
    )
    assert done.stderr == b""
    assert len(done.stdout.splitlines()) == 1001


def test_progress_counts_up_to_all_lines(record: Record, root: Path) -> None:
    """Progress is told in lines, ends at their total, and the total is known from the start."""
    run = record()
    for step in range(20_000):
        run.row(step, {"a": 0.5})
    run.end()
    for export in (export_csv, export_jsonl):
        told: list[tuple[int, int]] = []
        export(
            Api(root).run("abc12345"),
            lambda data: None,
            progress=lambda *c: told.append(c),  # noqa: B023
        )
        assert [total for _, total in told] == [20_000] * 3
        assert [done for done, _ in told] == [8192, 16384, 20_000]


@pytest.mark.parametrize("argument", ["attempts", "repeats"])
def test_a_wrong_choice_is_an_argument_error(record: Record, root: Path, argument: str) -> None:
    """A choice that is none is told with those there are."""
    record().row(0, {"a": 1.0}).end()
    run = Api(root).run("abc12345")
    choices: dict[str, Any] = {argument: "some"}
    with pytest.raises(ArgumentError, match=f"{argument}='some'"):
        export_csv(run, lambda data: None, **choices)


def test_a_running_run_is_exported_as_far_as_it_is(
    trackway: Command, record: Record, alive: dict[str, Any]
) -> None:
    """A run that is being written gives the points that are there; a half record is none."""
    run = record(**alive).row(0, {"a": 1.0}, after=0)
    with run.path.open("ab") as file:
        file.write(b"\x25\x00\x00\x00half")
    assert trackway("export", "abc12345") == "step,time,a\n0,1750000000.0,1.0\n"


def test_a_damaged_log_gives_what_is_left(trackway: Command, record: Record) -> None:
    """A bad frame costs its own points only."""
    run = record()
    for step in range(5):
        run.row(step, {"a": float(step)}, after=0)
    run.end()
    data = bytearray(run.path.read_bytes())
    data[data.index(struct.pack("<d", 3.0))] ^= 0xFF
    run.path.write_bytes(data)
    lines = trackway("export", "abc12345").splitlines()[1:]
    assert [line.split(",")[2] for line in lines] == ["0.0", "1.0", "2.0", "4.0"]


def test_ten_thousand_metrics(trackway: Command, record: Record) -> None:
    """Ten thousand metrics are as many columns, in the order of their names."""
    names = [f"layer.{n}/norm" for n in range(10_000)]
    run = record()
    for step in range(3):
        run.row(step, {name: n + step / 2 for n, name in enumerate(names)}, after=0)
    run.end()
    table = list(csv.reader(trackway("export", "abc12345").splitlines()))
    assert table[0] == ["step", "time", *sorted(names)]
    assert table[3][2 + sorted(names).index("layer.77/norm")] == "78.0"


def test_points_of_several_writers_at_once(record: Record, root: Path) -> None:
    """Lines of several writers of one attempt come in the order of their times."""
    one, two = record(), record(role="worker")
    for step in range(0, 6, 2):
        one.row(step, {"a": 0.5}, after=step)
        two.row(step + 1, {"a": 0.25}, after=step + 1)
    one.end()
    two.end()
    lines: list[bytes] = []
    export_jsonl(Api(root).run("abc12345"), lines.append)
    assert [line["step"] for line in rows(b"".join(lines).decode())] == [0, 1, 2, 3, 4, 5]


def test_the_writers_own_rows_are_what_is_exported(trackway: Command, root: Path) -> None:
    """A log made by LogWriter.create, with times and types of its own, exports like any."""
    writer = LogWriter.create(root, project="p", run="real0001")
    writer.row({"a": 1.5, "n": 2}, 7, types="fi", time=BEGAN)
    writer.close()
    assert trackway("export", "real0001") == "step,time,a,n\n7,1750000000.0,1.5,2\n"
