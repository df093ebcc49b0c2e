"""Runs as a folder of files: exact values, bounded pieces, and an end that a kill cannot change."""

from __future__ import annotations

import csv
import json
import math
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq  # noqa: TID253 - the reader that the files are for
import pytest

from tests.cli.conftest import BEGAN, Recording
from trackway.api import Api
from trackway.api import _export_points as points_module
from trackway.api._export import export_csv, export_jsonl, export_runs
from trackway.api._export_files import locked
from trackway.api._export_select import selected
from trackway.backend.file.format import big_integer
from trackway.errors import ArgumentError

HOME = str(Path(__file__).parents[2])
Record = Callable[..., Recording]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder for runs."""
    return tmp_path / "runs"


@pytest.fixture
def record(root: Path) -> Record:
    """Begin to write a run, of project ``digits`` and id ``abc12345`` unless told."""

    def begin(run: str = "abc12345", project: str = "digits", **header: Any) -> Recording:
        return Recording(root, project, run, **header)

    return begin


def several(record: Record, count: int = 4) -> None:
    """Some runs with points, system, console, patch and a source each."""
    for number in range(count):
        run = record(f"run{number:05}", created=BEGAN + number)
        run.named(f"name-{number}", tags=["a", f"t{number}"]).config(lr=0.1 * number, seed=number)
        for step in range(50):
            run.row(step, {"loss": 1 / (step + 1), "acc": step / 50 + number})
        run.row(0, {"cpu.percent": 50.0}, space="system")
        run.event("value", 3, step=3, data={"note": "text"})
        run.event("console", 1, stream="out", first=0, lines=[f"hello {number}", "é"])
        patch, source = run.blobs.put(b"diff %d\n" % number), run.blobs.put(b"print()\n")
        files = [{"path": "a/b.py", "blob": source, "mode": "100644"}]
        run.event("git", commit="c" * 40, branch="main", patch={"blob": patch}, untracked=files)
        run.end()


def tree(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def bits(value: float) -> bytes:
    """The eight bytes of a float."""
    return struct.pack("<d", value)


# -- points ----------------------------------------------------------------------------------------


def test_parquet_holds_every_point_exactly(record: Record, root: Path, tmp_path: Path) -> None:
    """A line a point: floats to the bit, the type of each, and as text what no float holds."""
    hard = [0.1, 5e-324, -0.0, math.nan, math.inf, -math.inf, 1.7976931348623157e308]
    run = record().rows("x", hard).row(0, {"n": 7, "ok": 1}, types="ib", after=0)
    data = {"n": big_integer(2**80), "text": 'a "b"\n', "list": [1, math.nan], "big": 2**63}
    run.event("value", 9, step=9, data=data)
    run.event("value", 10, step=big_integer(2**70), data={"text": ""}).end()
    export_runs(Api(root).runs(), tmp_path / "out")
    table = pq.read_table(tmp_path / "out/points/digits/abc12345.parquet")
    assert table.column_names == points_module.points_schema().names
    rows = table.to_pylist()
    assert {(row["project"], row["run"], row["attempt"]) for row in rows} == {
        ("digits", "abc12345", 1)
    }
    found = [row for row in rows if row["key"] == "x"]
    assert [bits(row["value"]) for row in found] == list(map(bits, hard))
    assert [row["step"] for row in found] == list(range(7))
    assert [row["time"] for row in found] == [BEGAN + step for step in range(7)]
    others = [
        (row["key"], row["step"], row["value"], row["type"], row["text"], row["big_step"])
        for row in rows
        if row["key"] != "x"
    ]
    assert others == [
        ("big", 9, 2.0**63, "int", str(2**63), None),
        ("list", 9, None, "json", '[1, "NaN"]', None),
        ("n", 0, 7.0, "int", None, None),
        ("n", 9, 2.0**80, "int", str(2**80), None),
        ("ok", 0, 1.0, "bool", None, None),
        ("text", 9, None, "text", 'a "b"\n', None),
        ("text", None, None, "text", "", str(2**70)),
    ]


def test_nan_is_a_value_and_not_a_missing_one(record: Record, root: Path, tmp_path: Path) -> None:
    """No reader takes NaN for null: not beside numbers, and not beside text."""
    run = record().rows("x", [math.nan, 1.0]).row(0, {"y": math.nan})
    run.event("value", 1, step=1, data={"y": "text"}).end()
    export_runs(Api(root).runs(), tmp_path / "out")
    table = pq.read_table(tmp_path / "out/points/digits/abc12345.parquet")
    assert table["value"].is_null().to_pylist() == [False, False, False, True]


def test_row_groups_are_bounded(
    record: Record, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many points there are, no more than a row group's are put together at once."""
    monkeypatch.setattr(points_module, "GROUP_ROWS", 100)
    run = record().rows("a", range(250)).row(0, {f"k{n:03}": n for n in range(130)})
    run.end()
    export_runs(Api(root).runs(), tmp_path / "out")
    path = tmp_path / "out/points/digits/abc12345.parquet"
    meta = pq.ParquetFile(path).metadata
    sizes = [meta.row_group(n).num_rows for n in range(meta.num_row_groups)]
    assert sizes == [100, 100, 100, 80]
    table = pq.read_table(path)
    assert table["value"].to_pylist() == [*map(float, range(250)), *map(float, range(130))]
    assert table["key"].to_pylist() == ["a"] * 250 + [f"k{n:03}" for n in range(130)]


@pytest.mark.parametrize("repeats", ["last", "all"])
@pytest.mark.parametrize("attempts", ["live", "all"])
def test_parquet_follows_the_rules_of_history(
    record: Record, root: Path, tmp_path: Path, attempts: str, repeats: str
) -> None:
    """Attempts and repeats are as ``history`` has them, for each metric."""
    first = record(attempt=1)
    for step in (0, 1, 1, 3):
        first.row(step, {"a": step + 0.5, "b": 1.0}, after=step)
    first.end()
    second = record(attempt=2, created=BEGAN + 100)
    second.row(1, {"a": 7.0}, after=1).row(2, {"a": 8.0}, after=2).end()
    export_runs(Api(root).runs(), tmp_path / "out", attempts=attempts, repeats=repeats)
    order = "step" if repeats == "last" else "arrival"
    history = Api(root).run("abc12345").history(attempts=attempts, repeats=repeats, order=order)
    table = pq.read_table(tmp_path / "out/points/digits/abc12345.parquet")
    assert [
        (row["key"], row["step"], row["time"], row["attempt"], row["value"])
        for row in table.to_pylist()
    ] == [
        (key, *point)
        for key, series in history.items()
        for point in zip(
            series.steps.tolist(),
            series.times.tolist(),
            series.attempts.tolist(),
            series.values.tolist(),
            strict=True,
        )
    ]


@pytest.mark.parametrize(("format_", "export"), [("csv", export_csv), ("jsonl", export_jsonl)])
def test_text_files_are_those_of_one_run(
    record: Record, root: Path, tmp_path: Path, format_: str, export: Callable[..., int]
) -> None:
    """Each run's CSV or JSON lines are the bytes that exporting that run alone gives."""
    several(record)
    report = export_runs(Api(root).runs(), tmp_path / "out", format_, keys=["l*", "note"])
    assert (report.runs, report.written, report.rows) == (
        4,
        4,
        4 * (50 if format_ == "csv" else 51),
    )
    for run in Api(root).runs():
        pieces: list[bytes] = []
        export(run, pieces.append, keys=["loss", "note"])
        path = tmp_path / f"out/points/digits/{run.id}.{format_}"
        assert path.read_bytes() == b"".join(pieces)


def test_system_is_a_file_of_its_own(record: Record, root: Path, tmp_path: Path) -> None:
    """The samples of the machine lie beside the points, in the same form."""
    several(record, 1)
    for format_ in ("parquet", "csv", "jsonl"):
        export_runs(Api(root).runs(), tmp_path / format_, format_, system=True)
    row = pq.read_table(tmp_path / "parquet/system/digits/run00000.parquet").to_pylist()
    assert [(r["key"], r["step"], r["value"]) for r in row] == [("cpu.percent", 0, 50.0)]
    assert (tmp_path / "csv/system/digits/run00000.csv").read_text() == (
        "step,time,attempt,cpu.percent\n0,1750000000.0,1,50.0\n"
    )
    assert json.loads((tmp_path / "jsonl/system/digits/run00000.jsonl").read_text()) == {
        "type": "system",
        "step": 0,
        "time": BEGAN,
        "attempt": 1,
        "values": {"cpu.percent": 50.0},
    }


def test_deleted_points_are_in_no_export(record: Record, root: Path, tmp_path: Path) -> None:
    """What was deleted of one metric is left out of its column, and of no other."""
    run = record()
    for step in range(6):
        run.row(step, {"a": float(step), "b": float(step)}, after=step)
    run.end()
    size = run.path.stat().st_size
    generation = Api(root).run("abc12345")
    generation.keys()
    header = generation._logs.writers[0].header
    assert header is not None
    editor = record(role="editor", created=BEGAN + 1000)
    upto = {run.path.stem: [header.generation, size]}
    editor.event("delete", 1, keys=["a"], upto=upto, **{"from": 2, "to": 3})
    editor.writer.close()
    stored = Api(root).run("abc12345")
    assert stored.history("a")["a"].steps.tolist() == [0, 1, 4, 5]
    pieces: list[bytes] = []
    export_csv(stored, pieces.append)
    rows = list(csv.reader(b"".join(pieces).decode().splitlines()))[1:]
    assert [row[2] for row in rows] == ["0.0", "1.0", "", "", "4.0", "5.0"]
    assert [row[3] for row in rows] == [f"{step}.0" for step in range(6)]
    pieces = []
    export_jsonl(stored, pieces.append)
    lines = [json.loads(line)["values"] for line in b"".join(pieces).splitlines()[1:]]
    assert [sorted(values) for values in lines] == [["a", "b"]] * 2 + [["b"]] * 2 + [["a", "b"]] * 2
    export_runs(Api(root).runs(), tmp_path / "out")
    table = pq.read_table(tmp_path / "out/points/digits/abc12345.parquet").to_pylist()
    assert [row["step"] for row in table if row["key"] == "a"] == [0, 1, 4, 5]


# -- the table of runs -----------------------------------------------------------------------------


def runs_with_types(record: Record) -> None:
    """Two runs whose configuration has every kind of value, and columns of several kinds."""
    one = record("run00001", created=BEGAN + 1).named("one", tags=["x", "y"], notes="n\n1")
    one.config(i=1, f=0.1, b=True, t="adam", mixed=1, widened=1, none=None, empty={}, list=[1, 2])
    one.config(big=big_integer(2**80), long=2**62, longer=2**62, optimizer__lr=0.5, text_number="1")
    one.summary(acc=math.nan, best=math.inf).row(0, {"val/loss": 0.25}, after=0).end()
    two = record("run00002", created=BEGAN)
    two.config(i=-5, f=-0.0, b=False, t="sgd", mixed="one", widened=0.5, longer=0.5).end()


def test_runs_parquet_has_exact_types(record: Record, root: Path, tmp_path: Path) -> None:
    """A column of one kind has its type; what mixes kinds is JSON, and says so."""
    runs_with_types(record)
    export_runs(Api(root).runs(), tmp_path / "out")
    table = pq.read_table(tmp_path / "out/runs.parquet")
    types = {
        name.removeprefix("config."): str(table.schema.field(name).type)
        for name in table.column_names
        if name.startswith("config.")
    }
    assert types == {
        "b": "bool",
        "big": "string",
        "empty": "string",
        "f": "double",
        "i": "int64",
        "list": "string",
        "long": "int64",
        "longer": "string",
        "mixed": "string",
        "none": "string",
        "optimizer.lr": "double",
        "t": "string",
        "text_number": "string",
        "widened": "double",
    }
    marked = [field.name for field in table.schema if field.metadata[b"trackway.type"] == b"json"]
    assert marked == [f"config.{n}" for n in ("big", "empty", "list", "longer", "mixed", "none")]
    one, two = table.to_pylist()
    assert (one["id"], one["name"], one["tags"], one["notes"]) == (
        "run00001",
        "one",
        ["x", "y"],
        "n\n1",
    )
    assert (one["created"], one["ended"], one["duration"]) == (BEGAN + 1, BEGAN + 61, 60.0)
    assert (one["state"], one["points"], one["attempts"], one["exit_code"]) == ("finished", 1, 1, 0)
    assert one["config.i"] == 1 and one["config.long"] == 2**62 and one["config.b"] is True
    assert one["config.big"] == str(2**80) and one["config.longer"] == str(2**62)
    assert (one["config.mixed"], two["config.mixed"]) == ("1", '"one"')
    assert (one["config.widened"], two["config.widened"]) == (1.0, 0.5)
    assert one["config.list"] == "[1, 2]" and one["config.empty"] == "{}"
    assert one["config.none"] is None and two["config.none"] is None
    assert math.isnan(one["summary.acc"]) and one["summary.best"] == math.inf
    assert one["summary.val/loss"] == 0.25 and two["summary.val/loss"] is None
    assert bits(two["config.f"]) == bits(-0.0)


def test_runs_as_text(record: Record, root: Path, tmp_path: Path) -> None:
    """JSON lines keep the type of each value, CSV the text; both have every column."""
    runs_with_types(record)
    export_runs(Api(root).runs(), tmp_path / "j", "jsonl")
    export_runs(Api(root).runs(), tmp_path / "c", "csv")
    one, two = map(json.loads, (tmp_path / "j/runs.jsonl").read_text().splitlines())
    assert one["config.big"] == 2**80 and one["config.mixed"] == 1 and two["config.mixed"] == "one"
    assert (one["summary.acc"], one["summary.best"]) == ("NaN", "Infinity")
    assert one["tags"] == ["x", "y"] and one["config.none"] is None and one["config.b"] is True
    assert "config.none" not in two
    text = (tmp_path / "c/runs.csv").read_text()
    first, second = csv.DictReader(text.splitlines(keepends=True))
    assert (first["config.big"], first["summary.acc"], first["config.b"]) == (
        str(2**80),
        "nan",
        "true",
    )
    assert first["tags"] == '["x", "y"]' and first["notes"] == "n\n1"
    assert second["config.mixed"] == "one" and second["config.big"] == ""
    export_runs(Api(root).runs(), tmp_path / "p")
    assert [*first] == pq.read_table(tmp_path / "p/runs.parquet").column_names


# -- files -----------------------------------------------------------------------------------------


def test_files_lie_beside(record: Record, root: Path, tmp_path: Path) -> None:
    """Document, console, patch and sources of each run are there as they were stored."""
    several(record, 1)
    export_runs(Api(root).runs(), tmp_path / "out")
    base = tmp_path / "out/files/digits/run00000"
    assert (base / "console.txt").read_text() == "hello 0\né\n"
    assert (base / "patch.diff").read_bytes() == b"diff 0\n"
    assert (base / "untracked/a/b.py").read_bytes() == b"print()\n"
    document = json.loads((base / "run.json").read_text())
    assert document["config"] == {"lr": 0.0, "seed": 0} and document["git"]["branch"] == "main"
    assert not (tmp_path / "out/.beside").exists()


@pytest.mark.parametrize("path", ["../../../evil", "/evil", "a/../../../../evil", "", "a\0b"])
def test_a_path_never_leads_out(record: Record, root: Path, tmp_path: Path, path: str) -> None:
    """What a log calls a source is not trusted: nothing is written outside of the run's folder."""
    run = record()
    digest = run.blobs.put(b"evil")
    run.event("git", commit="c" * 40, untracked=[{"path": path, "blob": digest}]).end()
    before = {*tmp_path.rglob("*")}
    report = export_runs(Api(root).runs(), tmp_path / "out")
    assert report.refused == 1
    new = {*tmp_path.rglob("*")} - before
    assert all(entry == tmp_path / "out" or tmp_path / "out" in entry.parents for entry in new)
    assert not [name for name in new if name.is_file() and name.read_bytes() == b"evil"]


def test_a_missing_blob_is_asked_for_again(record: Record, root: Path, tmp_path: Path) -> None:
    """A stored file that is not there is told, and comes with a later resume when it is."""
    several(record, 1)
    blob = next(
        path
        for path in (root / "blobs").rglob("*")
        if path.is_file() and b"diff" in path.read_bytes()
    )
    data = blob.read_bytes()
    blob.unlink()
    report = export_runs(Api(root).runs(), tmp_path / "out")
    assert (report.written, report.missing) == (1, 1)
    blob.write_bytes(data)
    report = export_runs(Api(root).runs(), tmp_path / "out", resume=True)
    assert (report.written, report.missing) == (1, 0)
    assert (tmp_path / "out/files/digits/run00000/patch.diff").read_bytes() == data
    assert export_runs(Api(root).runs(), tmp_path / "out", resume=True).kept == 1


# -- going on --------------------------------------------------------------------------------------


def test_resume_writes_what_changed_and_nothing_else(
    record: Record, root: Path, tmp_path: Path
) -> None:
    """Whole and unchanged runs stay; changed, damaged and new ones are written; others go."""
    several(record, 4)
    out = tmp_path / "out"
    export_runs(Api(root).runs(), out)
    times = {path: path.stat().st_mtime_ns for path in (out / "points").rglob("*.parquet")}
    record("run00001", role="editor", created=BEGAN + 99).named("renamed").writer.close()
    (out / "points/digits/run00002.parquet").write_bytes(b"short")
    record("new00000", created=BEGAN + 50).rows("loss", [1.0]).end()
    chosen = [run for run in Api(root).runs() if run.id != "run00003"]
    report = export_runs(chosen, out, resume=True)
    assert (report.runs, report.written, report.kept, report.removed) == (4, 3, 1, 1)
    kept = out / "points/digits/run00000.parquet"
    assert kept.stat().st_mtime_ns == times[kept]
    assert not (out / "points/digits/run00003.parquet").exists()
    assert not (out / "files/digits/run00003").exists()
    fresh = tmp_path / "fresh"
    export_runs(chosen, fresh)
    assert tree(out) == tree(fresh)
    assert "renamed" in pq.read_table(out / "runs.parquet")["name"].to_pylist()


def test_a_running_run_is_written_again(record: Record, root: Path, tmp_path: Path) -> None:
    """A run that was running is looked at again even where its logs did not grow."""
    header = {"host": os.uname().nodename, "pid": os.getpid()}
    record(created=BEGAN, **header).row(0, {"a": 1.0})
    export_runs(Api(root).runs(), tmp_path / "out")
    state = pq.read_table(tmp_path / "out/runs.parquet")["state"].to_pylist()
    assert state == ["running"]
    assert export_runs(Api(root).runs(), tmp_path / "out", resume=True).written == 1


KILLED = """
import os, signal, sys
from pathlib import Path
from trackway.api import Api
from trackway.api._export import export_runs
from trackway.api._export_files import Files
from trackway.api._export_manifest import Manifest
root, out, format, place, count = sys.argv[1:]
left = int(count)
def die():
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
write, replace, add, settle = Files.write, Path.replace, Manifest.add, Manifest.settle
if place == "renaming":
    Path.replace = lambda self, target: (die(), replace(self, target))[1]
elif place == "written":
    Files.write = lambda self, *a: (write(self, *a), die())[0]
elif place == "noting":
    def half(self, entry):
        add(self, entry)
        size = self.path.stat().st_size
        if left == 1:
            os.truncate(self.path, size - 7)
        die()
    Manifest.add = half
export_runs(Api(root).runs(), Path(out), format, system=True, resume=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("format_", ["parquet", "csv"])
@pytest.mark.parametrize("place", ["renaming", "written", "noting"])
def test_a_killed_export_that_goes_on_is_one_in_one_go(
    record: Record, root: Path, tmp_path: Path, place: str, format_: str
) -> None:
    """SIGKILL anywhere, several times in a row, then resumed: the same folder, byte for byte."""
    several(record, 3)
    export_runs(Api(root).runs(), tmp_path / "once", format_, system=True)
    out = tmp_path / "killed"
    for count in (2, 2) if place == "noting" else (4, 9):
        done = subprocess.run(
            [sys.executable, "-c", KILLED, str(root), str(out), format_, place, str(count)],
            env={**os.environ, "PYTHONPATH": HOME},
            timeout=60,
        )
        assert done.returncode == -signal.SIGKILL
    assert tree(out) != tree(tmp_path / "once")
    report = export_runs(Api(root).runs(), out, format_, system=True, resume=True)
    assert report.runs == 3
    assert tree(out) == tree(tmp_path / "once")


def test_a_folder_that_is_in_use_is_refused(record: Record, root: Path, tmp_path: Path) -> None:
    """Neither a folder with something else, nor one that another export writes to, is touched."""
    several(record, 1)
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").write_text("mine")
    for resume in (False, True):
        with pytest.raises(ArgumentError, match="choose another folder"):
            export_runs(Api(root).runs(), out, resume=resume)
    assert [path.name for path in out.iterdir()] == ["thesis.tex"]
    (out / "thesis.tex").unlink()
    with locked(out, wait=False), pytest.raises(ArgumentError, match="another export"):
        export_runs(Api(root).runs(), out)
    export_runs(Api(root).runs(), out)
    with pytest.raises(ArgumentError, match="resume=True"):
        export_runs(Api(root).runs(), out)
    with pytest.raises(ArgumentError, match="format 'parquet'"):
        export_runs(Api(root).runs(), out, "csv", resume=True)


def test_one_run_is_in_memory_at_a_time(record: Record, root: Path, tmp_path: Path) -> None:
    """The runs that were given hold nothing of what was read of them."""
    several(record, 3)
    runs = list(Api(root).runs())
    export_runs(runs, tmp_path / "out")
    assert [(run._read, run._record, run._metrics) for run in runs] == [(None, None, None)] * 3


def test_without_pyarrow(root: Path, record: Record, tmp_path: Path) -> None:
    """Parquet says what to install; CSV needs nothing."""
    several(record, 1)
    code = (
        "import sys\n"
        "class No:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] == 'pyarrow': raise ImportError(name)\n"
        "sys.meta_path.insert(0, No())\n"
        "from pathlib import Path\n"
        "from trackway.api import Api\n"
        "from trackway.api._export import export_runs\n"
        "from trackway.errors import MissingExtraError\n"
        f"runs, out = Api({str(root)!r}).runs(), Path({str(tmp_path / 'out')!r})\n"
        "print(export_runs(runs, out / 'c', 'csv').written)\n"
        "try: export_runs(runs, out / 'p')\n"
        "except MissingExtraError as e: print(e)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": HOME},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "1\nParquet needs pyarrow: pip install 'trackway[export]'\n"
    assert not (tmp_path / "out/p").exists()


def test_python_is_told_of_the_argument(record: Record, root: Path, tmp_path: Path) -> None:
    """From Python a folder that holds an export is gone on with by ``resume=True``."""
    several(record, 1)
    export_runs(Api(root).runs(), tmp_path / "out")
    with pytest.raises(ArgumentError, match=r"go on with it \(resume=True\)") as caught:
        export_runs(Api(root).runs(), tmp_path / "out")
    assert "--resume" not in str(caught.value)


def test_runs_are_chosen_as_they_are_now(
    record: Record, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder is looked at anew before runs are chosen from it."""
    several(record, 1)
    api, asked = Api(root), []
    refresh = Api.refresh

    def counted(api: Api) -> None:
        asked.append(1)
        refresh(api)

    monkeypatch.setattr(Api, "refresh", counted)
    assert [run.id for run in selected(api)] == ["run00000"]
    record("new00000", created=BEGAN + 9).row(0, {"a": 1.0}).end()
    assert [run.id for run in selected(api)] == ["new00000", "run00000"]
    assert len(asked) == 2
