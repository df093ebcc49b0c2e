"""``trackway sql``: exact answers over runs and points, nothing else to be read or written."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq  # noqa: TID253 - the reader that the files are for
import pytest

from tests.cli.conftest import BEGAN, Command, Recording
from trackway.api import Api
from trackway.api._sql import cache_folder, query
from trackway.errors import ArgumentError, NotFoundError

Record = Callable[..., Recording]
HOME = str(Path(__file__).parents[2])


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    monkeypatch.setenv("TRACKWAY_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def two_runs(record: Record) -> None:
    """A run of each of two projects."""
    one = record("one00000").named("one").config(lr=0.1)
    one.rows("loss", [0.5, math.nan, 0.25]).row(0, {"cpu.percent": 7.0}, space="system").end()
    two = record("two00000", "words", created=BEGAN + 5).named("two").config(lr=0.5)
    two.rows("loss", [math.inf, -0.0]).event("value", 9, step=9, data={"loss": 2**63}).end()


def exported(cache: Path) -> list[str]:
    """Which files of points the cache holds."""
    return sorted(
        str(path.relative_to(path.parents[2]))
        for path in cache.rglob("*.parquet")
        if path.is_file()
    )


def test_runs_and_points_are_joined(trackway: Command, record: Record) -> None:
    """A query over both tables answers exactly what was logged."""
    two_runs(record)
    sql = (
        'select name, "config.lr" lr, step, value, type, text from points p join runs r '
        "on p.run = r.id and p.project = r.project order by name, step"
    )
    answer = trackway.json("sql", sql)
    assert answer["columns"] == ["name", "lr", "step", "value", "type", "text"]
    assert answer["rows"] == [
        ["one", 0.1, 0, 0.5, "float", None],
        ["one", 0.1, 1, "NaN", "float", None],
        ["one", 0.1, 2, 0.25, "float", None],
        ["two", 0.5, 0, "Infinity", "float", None],
        ["two", 0.5, 1, -0.0, "float", None],
        ["two", 0.5, 9, 2.0**63, "int", str(2**63)],
    ]


def test_every_format_holds_the_same(trackway: Command, record: Record, tmp_path: Path) -> None:
    """Table, CSV, JSON lines and Parquet give the same values."""
    two_runs(record)
    sql = "select step, value from points where project = 'words' order by step"
    table = trackway("sql", sql)
    assert [line.split() for line in table.splitlines()] == [
        ["step", "value"],
        ["0", "inf"],
        ["1", "-0.0"],
        ["9", "9.223372036854775e+18"],
    ] or [line.split()[0] for line in table.splitlines()] == ["step", "0", "1", "9"]
    lines = list(csv.reader(io.StringIO(trackway("sql", sql, "--format", "csv"))))
    assert lines == [["step", "value"], ["0", "inf"], ["1", "-0.0"], ["9", repr(2.0**63)]]
    objects = [json.loads(x) for x in trackway("sql", sql, "--format", "jsonl").splitlines()]
    assert objects == [
        {"step": 0, "value": "Infinity"},
        {"step": 1, "value": -0.0},
        {"step": 9, "value": 2.0**63},
    ]
    target = tmp_path / "answer.parquet"
    trackway("sql", sql, "--format", "parquet", "--output", str(target))
    assert pq.read_table(target).to_pydict() == {
        "step": [0, 1, 9],
        "value": [math.inf, -0.0, 2.0**63],
    }
    assert not list(tmp_path.glob(".*beside"))


def test_a_long_table_is_cut(trackway: Command) -> None:
    """On the terminal a hundred lines are shown, and how many there are."""
    Path(trackway.root).mkdir()
    result = trackway.result("sql", "select range from range(1000)")
    assert len(result.stdout.splitlines()) == 101
    assert result.stderr == "1,000 lines, the first 100 shown; --limit 0 shows all\n"
    assert (
        len(trackway("sql", "select range from range(1000)", "--limit", "0").splitlines()) == 1001
    )


def test_only_what_is_needed_is_exported(trackway: Command, record: Record, cache: Path) -> None:
    """A query over runs exports no points, and one over a project no other's."""
    two_runs(record)
    assert trackway.json("sql", "select name from runs order by 1")["rows"] == [["one"], ["two"]]
    assert exported(cache) == []
    assert trackway.json("sql", "select count(*) from points", "--project", "digits")["rows"] == [
        [3]
    ]
    assert exported(cache) == ["points/digits/one00000.parquet"]
    rows = trackway.json("sql", "select count(*) from points", "--filter", "config.lr > 0.2")
    assert rows["rows"] == [[3]]
    assert exported(cache) == ["points/digits/one00000.parquet", "points/words/two00000.parquet"]
    assert trackway.json("sql", "select key, value from system")["rows"] == [["cpu.percent", 7.0]]


def test_the_tables_follow_the_runs(
    trackway: Command, record: Record, root: Path, cache: Path
) -> None:
    """What changed, came or went since the last query is so in the next one's answer."""
    two_runs(record)
    sql = "select run, count(*) from points group by 1 order by 1"
    assert trackway.json("sql", sql)["rows"] == [["one00000", 3], ["two00000", 3]]
    kept = next(cache.rglob("one00000.parquet"))
    before = kept.stat().st_mtime_ns
    for path in (root / "words/two00000").iterdir():
        path.unlink()
    record("three000").rows("loss", [1.0]).end()
    assert trackway.json("sql", sql)["rows"] == [["one00000", 3], ["three000", 1]]
    assert kept.stat().st_mtime_ns == before
    assert exported(cache) == ["points/digits/one00000.parquet", "points/digits/three000.parquet"]
    record("one00000", attempt=2, created=BEGAN + 100).row(7, {"loss": 9.0}, after=0).end()
    assert trackway.json("sql", sql)["rows"] == [["one00000", 4], ["three000", 1]]
    record("one00000", role="editor", created=BEGAN + 500).named("renamed").writer.close()
    names = trackway.json("sql", "select name from runs where id = 'one00000'")["rows"]
    assert names == [["renamed"]]


@pytest.mark.parametrize(
    ("sql", "told"),
    [
        ("copy (select 1) to 'x.csv'", "COPY"),
        ("create table t as select 1", "CREATE"),
        ("attach 'x.db'", "ATTACH"),
        ("install httpfs", "LOAD"),
        ("set memory_limit = '1GB'", "SET"),
        ("select 1; select 2", "one query at a time, not 2"),
        ("", "one query at a time, not 0"),
    ],
)
def test_only_a_query_is_taken(trackway: Command, record: Record, sql: str, told: str) -> None:
    """Whatever writes, loads or sets is refused before anything is read for it."""
    two_runs(record)
    result = trackway.result("sql", sql)
    assert (result.exit_code, result.stdout) == (2, "")
    assert told in result.stderr
    assert not Path("x.csv").exists() and not Path("x.db").exists()


@pytest.mark.parametrize(
    "source",
    [
        "read_csv('{}')",
        "read_text('{}')",
        "'{}'",
        "glob('{}')",
        "read_parquet('{}')",
        "read_blob('{}')",
    ],
)
def test_no_other_file_can_be_read(
    trackway: Command, record: Record, tmp_path: Path, source: str
) -> None:
    """DuckDB sees the exported files and no other."""
    two_runs(record)
    secret = tmp_path / "secret.csv"
    secret.write_text("a,b\n1,2\n")
    result = trackway.result("sql", f"select * from {source.format(secret)}")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "DuckDB:" in result.stderr


def test_an_error_says_what_there_is(trackway: Command, record: Record) -> None:
    """A wrong name gives DuckDB's message, line by line, and the tables with their columns."""
    two_runs(record)
    result = trackway.result("sql", "select nope from points")
    assert (result.exit_code, result.stdout) == (2, "")
    lines = result.stderr.splitlines()
    assert lines[0].startswith('Error: DuckDB: Binder Error: Referenced column "nope" not found')
    assert lines[-2] == (
        "  points: project, run, key, step, time, attempt, value, type, text, big_step"
    )
    assert '"config.lr", "summary.loss"' in lines[-3]
    assert "Traceback" not in result.stderr


def test_from_python(record: Record, root: Path) -> None:
    """``query`` answers a pyarrow table, or a data frame."""
    two_runs(record)
    table = query(root, 'select id, "config.lr" from runs order by id')
    assert table.to_pydict() == {"id": ["one00000", "two00000"], "config.lr": [0.1, 0.5]}
    frame = query(root, "select step from points where run = 'two00000'", pandas=True)
    assert sorted(frame["step"].tolist()) == [0, 1, 9]
    with pytest.raises(NotFoundError, match="no project 'nope'"):
        query(root, "select 1", project="nope")
    with pytest.raises(ArgumentError, match="attempts='some'"):
        query(root, "select 1", attempts="some")


def test_attempts_and_repeats(record: Record, root: Path) -> None:
    """By default the points are the live line; each choice has files of its own."""
    record().row(0, {"a": 1.0}).row(0, {"a": 2.0}).end()
    sql = "select value from points order by value"
    assert query(root, sql)["value"].to_pylist() == [2.0]
    assert query(root, sql, repeats="all")["value"].to_pylist() == [1.0, 2.0]
    assert query(root, sql)["value"].to_pylist() == [2.0]


def test_no_variable_of_the_program_is_a_table(record: Record, root: Path) -> None:
    """A name in a query is never taken for a Python variable."""
    two_runs(record)
    secret = query(root, "select 1 one")
    assert secret.num_rows == 1
    for name in ("secret", "sql"):
        with pytest.raises(ArgumentError, match="does not exist"):
            query(root, f"select * from {name}")


def test_the_cache_is_that_of_the_real_folder(
    record: Record, root: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link to a root shares its cache; without a word it is in the user's cache folder."""
    two_runs(record)
    link = tmp_path / "link"
    link.symlink_to(root)
    assert cache_folder(link) == cache_folder(root)
    assert cache_folder(root).parent == cache / "sql"
    monkeypatch.delenv("TRACKWAY_CACHE_DIR")
    assert cache_folder(root).is_relative_to(Path(os.environ["XDG_CACHE_HOME"]))


def test_a_broken_cache_is_made_anew(trackway: Command, record: Record, cache: Path) -> None:
    """A manifest of another release, and files that are gone, cost time and nothing else."""
    two_runs(record)
    sql = "select count(*) from points"
    assert trackway.json("sql", sql)["rows"] == [[6]]
    next(cache.rglob("manifest.jsonl")).write_text('{"trackway_export": 99}\n')
    next(cache.rglob("one00000.parquet")).unlink()
    assert trackway.json("sql", sql)["rows"] == [[6]]


@pytest.mark.parametrize(("module", "name"), [("duckdb", "DuckDB"), ("pyarrow", "pyarrow")])
def test_without_duckdb(record: Record, root: Path, module: str, name: str) -> None:
    """Where a package is missing the command says what to install, with exit code 1."""
    two_runs(record)
    code = (
        "import sys\n"
        "class No:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] == {module!r}:\n"
        f"            raise ModuleNotFoundError(name, name={module!r})\n"
        "sys.meta_path.insert(0, No())\n"
        "from trackway.cli import main; main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "--dir", str(root), "sql", "select 1"],
        env={**os.environ, "PYTHONPATH": HOME},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"Error: SQL needs {name}: pip install 'trackway[sql]'\n"


def test_two_at_once(record: Record, root: Path) -> None:
    """Processes that ask at the same time wait for each other and all get the whole answer."""
    two_runs(record)
    code = (
        "import sys; from trackway.api._sql import query\n"
        "print(query(sys.argv[1], 'select count(*) c from points')['c'].to_pylist())"
    )
    environment = {**os.environ, "PYTHONPATH": HOME}
    asking: list[Any] = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(root)], env=environment, stdout=subprocess.PIPE
        )
        for _ in range(3)
    ]
    assert [process.communicate(timeout=60)[0] for process in asking] == [b"[6]\n"] * 3


# -- names, NaN, and what fits ---------------------------------------------------------------------


def test_names_that_differ_in_case_are_told_apart(trackway: Command, record: Record) -> None:
    """Each value is under a name of its own, and a name that could be another is refused."""
    run = record().config(lr=1, LR=2, Lr=3)
    run.assign("config", [["lr#2"], 4]).row(0, {"a": 1.0, "A": 5.0}).end()
    names = [row[0] for row in trackway.json("sql", "describe runs")["rows"] if "." in row[0]]
    assert names == [
        *("config.LR", "config.Lr#3", "config.lr#4", "config.lr#2"),
        *("summary.A", "summary.a#2"),
    ]
    told = trackway.json("sql", "select " + ", ".join(f'"{name}"' for name in names) + " from runs")
    assert told["rows"] == [[2, 3, 1, 4, 5.0, 1.0]]
    result = trackway.result("sql", 'select "config.lr" from runs')
    assert (result.exit_code, result.stdout) == (2, "")
    assert '"config.lr" is "config.lr#4"' in result.stderr
    assert trackway.json("sql", "select '\"config.lr\"' x from runs")["rows"] == [['"config.lr"']]


def test_the_examples_pass_over_nan(trackway: Command, record: Record) -> None:
    """The queries that the help shows find the greatest number, not NaN."""
    for place, values in enumerate([[0.5, 0.9], [0.7, math.nan], [0.1, 0.2]]):
        record(f"run0000{place}").named(f"r{place}").config(lr=0.1).rows("acc", values).end()
    shown = trackway("sql", "--help").partition("Examples:")[2]
    first, second = (" ".join(part.split()) for part in shown.split("trackway sql ")[1:3])
    answer = trackway.json("sql", first.strip("'"))
    assert [row[0] for row in answer["rows"]] == ["r0", "r2"]
    answer = trackway.json("sql", second.partition('" --project')[0].strip('"'))
    assert answer["rows"] == [["acc", 6, 0.9]]


def test_a_wide_answer_is_shown_upright(trackway: Command, record: Record) -> None:
    """What does not fit is a line a value, with a rule between rows; no word of it is lost."""
    two_runs(record)
    shown = trackway("sql", "select * from runs order by name limit 2", width=80).splitlines()
    rule = "─" * 40
    assert shown.count(rule) == 1
    first, second = shown[: shown.index(rule)], shown[shown.index(rule) + 1 :]
    assert first[:2] == ["project: digits", "id: one00000"]
    assert {"name: one", "config.lr: 0.1", "summary.loss: '0.25'"} <= {*first}
    assert {"name: two", "config.lr: 0.5"} <= {*second}
    assert trackway("sql", "select id, name from runs order by 1").split()[:2] == ["id", "name"]


def test_times_are_dates_for_a_person(trackway: Command, record: Record) -> None:
    """The table has created and ended as local time, every other format the number."""
    record().end(60)
    sql = "select created, ended from runs"
    began = datetime.fromtimestamp(BEGAN).strftime("%Y-%m-%d %H:%M:%S")
    assert trackway("sql", sql).splitlines()[1].startswith(began)
    assert trackway.json("sql", sql)["rows"] == [[BEGAN, BEGAN + 60]]
    assert trackway("sql", sql, "--format", "csv").splitlines()[1] == f"{BEGAN},{BEGAN + 60}"


@pytest.mark.parametrize("format_", ["csv", "parquet"])
def test_a_file_that_cannot_be_is_named(
    trackway: Command, record: Record, tmp_path: Path, format_: str
) -> None:
    """The error is about the file that was asked for."""
    two_runs(record)
    target = tmp_path / "no/x.out"
    result = trackway.result("sql", "select 1", "--format", format_, "--output", str(target))
    assert result.exit_code == 1
    assert str(target) in result.stderr and "beside" not in result.stderr


def test_a_new_run_is_in_the_next_answer(record: Record, root: Path) -> None:
    """What appeared a moment ago is there, also for an Api that has been asked before."""
    two_runs(record)
    api = Api(root)
    for count in range(2, 7):
        assert query(api, "select count(*) c from runs")["c"].to_pylist() == [count]
        record(f"more{count:04}").row(0, {"a": 1.0}).end()
