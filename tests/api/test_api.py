"""The runs of a folder: which, in what order, in what groups, and what they come to."""

from __future__ import annotations

import copy
import math
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import trackway as tw
from tests.api.conftest import SEEDS, Record, accuracy, loss
from tests.cli.conftest import BEGAN
from trackway import api as public
from trackway.api import MISSING, Api, Runs, StoredRun
from trackway.errors import ArgumentError, NotFoundError, TrackwayError

NAMES = [f"lr{lr}-seed{seed}" for lr in (0.1, 0.01, 0.001) for seed in SEEDS]
"""Of the sweep, in the order of creation."""

CARET = """there is no field 'stat'; did you mean 'state', or config.stat?
stat == 1
^"""


# -- which runs ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("sweep")
def test_newest_first(api: Api) -> None:
    """Without arguments there is every run, the newest first."""
    assert api.projects() == ["digits"]
    assert api.runs().column("name") == NAMES[::-1]
    assert api.runs("digits").ids == [f"run0000{number}" for number in range(5, -1, -1)]


@pytest.mark.usefixtures("sweep")
@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"order": "created"}, [0, 1, 2, 3, 4, 5]),
        ({"order": ["-config.seed", "config.lr"]}, [5, 3, 1, 4, 2, 0]),
        ({"filter": "config.lr < 0.05 and state == 'finished'"}, [4, 3, 2]),
        ({"filter": "'baseline' in tags", "order": "created", "limit": 1}, [2]),
        ({"offset": 4}, [1, 0]),
        ({"offset": 1, "limit": 2}, [4, 3]),
        ({"limit": 0}, []),
        ({"offset": 99}, []),
        ({"filter": "config.lr > 1"}, []),
        ({"filter": "  "}, [5, 4, 3, 2, 1, 0]),
        ({"archived": True}, []),
        ({"archived": False, "limit": 1}, [5]),
    ],
)
def test_what_is_asked_for(api: Api, asked: dict[str, Any], expected: list[int]) -> None:
    """Filter, order, offset and limit are as in a slice of the sorted list."""
    assert api.runs("digits", **asked).column("name") == [NAMES[place] for place in expected]


@pytest.mark.usefixtures("sweep")
def test_how_many_fit(api: Api, record: Record) -> None:
    """A page knows how many runs fit, and how many there are of the project."""
    record("other000", "speech").end()
    page = api.runs("digits", filter="config.seed == 1", offset=1, limit=1)
    assert (len(page), page.matched, page.total) == (1, 3, 6)
    assert repr(page) == "<Runs: 1 of 3 that fit, of 6>"
    assert (api.runs().matched, api.runs().total) == (7, 7)


@pytest.mark.usefixtures("sweep")
def test_runs_are_a_sequence(api: Api) -> None:
    """Slices, places from either end, iteration and columns tell of the same runs."""
    runs = api.runs(order="created")
    assert [run.name for run in runs] == NAMES
    assert (runs[0].name, runs[-1].name) == (NAMES[0], NAMES[-1])
    part = runs[4:0:-2]
    assert isinstance(part, Runs)
    assert part.column("name") == [run.name for run in part] == [NAMES[4], NAMES[2]]
    assert part.ids == ["run00004", "run00002"]
    assert part[1:].column("config.lr") == [0.01]
    assert len(runs[9:]) == 0
    assert runs[2] in runs and runs.index(api.run("run00002")) == 2
    assert len({*runs, *api.runs()}) == 6 and runs[0] != "run00000"
    assert api.runs(order=[]).ids == runs.ids and repr(api) == f"<Api on {api.root}>"
    with pytest.raises(IndexError):
        runs[6]


@pytest.mark.usefixtures("sweep")
def test_runs_that_were_removed_stay_in_their_page(api: Api) -> None:
    """A page can be cut and looked through although one of its runs is there no more."""
    runs = api.runs(order="created")
    api.remove(runs[0])
    assert len(api.runs()) == 5
    assert runs[:2].ids == ["run00000", "run00001"]
    assert runs[:2].column("name") == NAMES[:2]


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        ({"project": "nope"}, NotFoundError, "no project 'nope' in {root}; there are: digits"),
        ({"filter": "stat == 1"}, public.FilterError, CARET),
        ({"order": "-stat == 1"}, public.FilterError, None),
        ({"limit": -1}, ArgumentError, "offset and limit must be 0 or more"),
        ({"offset": -1}, ArgumentError, "offset and limit must be 0 or more"),
    ],
)
@pytest.mark.usefixtures("sweep")
def test_what_is_wrong_is_said(
    api: Api, root: Path, asked: dict[str, Any], error: type[Exception], message: str | None
) -> None:
    """A wrong argument raises, and the message says what would be right."""
    with pytest.raises(error) as told:
        api.runs(**asked)
    if message is None:
        assert "stat == 1\n ^" in str(told.value)
    else:
        assert str(told.value) == message.format(root=root)


@pytest.mark.parametrize("ask", [Api.projects, Api.runs, Api.refresh, lambda a: a.group("name")])
def test_no_folder(ask: Any, root: Path) -> None:
    """A folder that is not there is an error, and is not made."""
    with pytest.raises(NotFoundError, match="there is no folder"):
        ask(Api(root))
    assert not root.exists()


def test_a_folder_without_runs(root: Path) -> None:
    """An empty folder has no projects and no runs."""
    root.mkdir()
    assert (Api(root).projects(), len(Api(root).runs()), Api(root).keys()) == ([], 0, [])


def test_the_root_is_said_by_the_environment(
    record: Record, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TRACKWAY_DIR is the root; without it, the folder ``trackway`` here."""
    record().end()
    monkeypatch.setenv("TRACKWAY_DIR", str(root))
    assert tw.Api().runs().ids == ["abc12345"]
    monkeypatch.delenv("TRACKWAY_DIR")
    assert tw.Api().root == Path.cwd() / "trackway"


# -- one run ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("sweep")
def test_a_run_by_what_it_is_called(api: Api) -> None:
    """An id, the beginning of one, a name, and either behind the project lead to a run."""
    for which in ("run00003", "digits/run00003", NAMES[3], f"digits/{NAMES[3]}"):
        assert api.run(which).id == "run00003"
    api.runs()[0].edit(name=NAMES[3])
    assert api.run(NAMES[3]).id == "run00005"
    with pytest.raises(NotFoundError) as told:
        api.run("run000")
    names = ", ".join(f"digits/run0000{n}" for n in range(5, -1, -1))
    assert str(told.value) == f"'run000' fits several runs: {names}"


@pytest.mark.usefixtures("sweep")
@pytest.mark.parametrize("which", ["", "/", "digits/", "digits/..", "ru", "nobody", "digits/x"])
def test_no_such_run(api: Api, root: Path, which: str) -> None:
    """What is no run's name is an error that tells the newest."""
    with pytest.raises(NotFoundError, match=r"no run|no project"):
        api.run(which)


@pytest.mark.usefixtures("sweep")
def test_a_run_is_in_the_root(api: Api, root: Path) -> None:
    """No path leads out of the root, nor to a run by another way than its project."""
    for which in (f"../{root.name}/digits/run00001", f"{root}/digits/run00001"):
        with pytest.raises(NotFoundError, match="no project"):
            api.run(which)
    with pytest.raises(NotFoundError):
        Api(root / "digits").run("../digits/run00001")


# -- columns ---------------------------------------------------------------------------------------


def values(record: Record) -> None:
    """Three runs that have, lack and mix values."""
    one = record("run00001", created=BEGAN).named("one", tags=["a"])
    one.config(i=1, f=0.5, b=True, t="x", gap=3, n=None, mix=1, l=[1, 2]).end()
    two = record("run00002", created=BEGAN + 1).named("two")
    two.config(i=2, f=2, b=False, t="y", n=1.0, mix="1", l=[]).end(after=10)
    record("run00003", created=BEGAN + 2).config(i=-3, f=math.nan, b=True, t="", mix=True).end()


def test_a_column_has_the_values_as_they_were_set(record: Record, api: Api) -> None:
    """One value a run, of the type it was set with; MISSING where there is none."""
    values(record)
    runs = api.runs(order="created")
    assert runs.column("config.gap") == [3, MISSING, MISSING]
    assert runs.column("config.n") == [None, 1.0, MISSING]
    mixed = runs.column("config.mix")
    assert mixed == [1, "1", True] and list(map(type, mixed)) == [int, str, bool]
    assert runs.column("config.l") == [[1, 2], [], MISSING]
    assert runs.column("tags") == [["a"], [], []]
    assert runs.column("config.i * 2 + 1") == [3.0, 5.0, -5.0]
    assert runs.column("upper(config.t)") == ["X", "Y", ""]
    assert runs.column("duration") == [60.0, 10.0, 60.0]
    with pytest.raises(public.FilterError):
        runs.column("config.i +")


def test_a_table_has_types(record: Record, api: Api) -> None:
    """Integers and booleans of all runs are such; gaps make floats NaN and all else objects."""
    values(record)
    table = api.runs(order="created").table()
    assert list(table) == [
        *("id", "name", "project", "state", "created", "duration"),
        *(f"config.{name}" for name in ("b", "f", "gap", "i", "l", "mix", "n", "t")),
    ]
    assert {name: str(column.dtype) for name, column in table.items()} == {
        **dict.fromkeys(("id", "name", "project", "state"), "object"),
        **dict.fromkeys(("created", "duration", "config.f", "config.gap"), "float64"),
        **dict.fromkeys(("config.l", "config.mix", "config.n", "config.t"), "object"),
        "config.b": "bool",
        "config.i": "int64",
    }
    assert table["config.i"].tolist() == [1, 2, -3]
    assert table["config.f"].tolist()[:2] == [0.5, 2.0] and math.isnan(table["config.f"][2])
    assert table["config.l"].tolist() == [[1, 2], [], None]
    assert table["created"].tolist() == [BEGAN, BEGAN + 1, BEGAN + 2]


def test_columns_that_were_asked_for(record: Record, api: Api) -> None:
    """``columns`` are the table's, in their order, and those of its slices."""
    values(record)
    runs = api.runs(order="created", columns=["config.gap", "name", "config.i % 2 == 0"])
    table = runs[1:].table()
    assert {name: column.tolist() for name, column in table.items()} == {
        "config.gap": [None, None],
        "name": ["two", "run00003"],
        "config.i % 2 == 0": [True, False],
    }
    with pytest.raises(public.FilterError, match="there is no field 'nope'"):
        api.runs(columns=["nope"]).table()


def test_documents(record: Record, api: Api) -> None:
    """A document has everything, nested as it was set."""
    record().config(optimizer__lr=0.5).row(0, {"val/loss": 1.0}, after=0).end()
    (document,) = api.runs().documents()
    assert document["config"] == {"optimizer": {"lr": 0.5}}
    assert document["summary"] == {"val/loss": 1.0}
    assert (document["id"], document["project"]) == ("abc12345", "digits")


def test_missing_is_false_and_one() -> None:
    """MISSING is false, and a copy of it is itself."""
    assert not MISSING and repr(MISSING) == "MISSING"
    assert pickle.loads(pickle.dumps(MISSING)) is copy.deepcopy(MISSING) is MISSING


# -- groups ----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("sweep")
def test_groups_by_a_value(api: Api) -> None:
    """Runs that agree are a group; groups and their runs are in the order of creation."""
    groups = api.group("config.lr")
    assert [(group.by, group.runs.ids) for group in groups] == [
        ({"config.lr": 0.1}, ["run00000", "run00001"]),
        ({"config.lr": 0.01}, ["run00002", "run00003"]),
        ({"config.lr": 0.001}, ["run00004", "run00005"]),
    ]
    assert repr(groups[0]) == "<2 runs with config.lr=0.1>"
    assert [len(group) for group in groups] == [2, 2, 2]
    two = api.group(["state", "config.seed"], filter="config.lr < 0.05", project="digits")
    assert [list(group.by.values()) for group in two] == [
        ["finished", 1],
        ["finished", 2],
        ["failed", 2],
    ]


@pytest.mark.usefixtures("sweep")
def test_the_index_says_nothing_of_the_order(api: Api, root: Path, tmp_path: Path) -> None:
    """Groups are in the same order whichever run was indexed first."""
    shutil.move(root / "digits" / "run00000", tmp_path / "aside")
    other = Api(root, cache=tmp_path / "cache")
    assert len(other.runs()) == 5
    shutil.move(tmp_path / "aside", root / "digits" / "run00000")
    assert [group.by for group in other.group("config.lr")] == [
        group.by for group in api.group("config.lr")
    ]


@pytest.mark.usefixtures("sweep")
def test_aggregates(api: Api) -> None:
    """Each function of each expression is worked out over the runs of the group."""
    told = api.group("config.lr", aggregates={"config.seed": ["mean", "sum"], "name": "first"})
    assert told[1].aggregates == {
        ("config.seed", "mean"): 1.5,
        ("config.seed", "sum"): 3.0,
        ("name", "first"): NAMES[2],
    }


@pytest.mark.usefixtures("sweep")
def test_all_but_the_seed(api: Api) -> None:
    """Replicas are runs whose configs are the same but for the seed."""
    groups = api.group(all_but=["config.seed"])
    assert [group.by for group in groups] == [{"config.lr": lr} for lr in (0.1, 0.01, 0.001)]
    (everything,) = api.group(all_but=["config.seed", "config.lr"])
    assert (everything.by, len(everything)) == ({}, 6)
    assert repr(everything) == "<6 runs with anything>"
    assert len(api.group(all_but=[])) == 6


def test_runs_that_say_nothing(record: Record, api: Api) -> None:
    """Runs without config and summary have a table, and agree with each other."""
    for number in range(2):
        record(f"run0000{number}", created=BEGAN + number).end()
    record("run00002", created=BEGAN + 2).config(a=1).end()
    groups = api.group(all_but=["config.seed"])
    assert [(group.by, len(group)) for group in groups] == [
        ({"config.a": MISSING}, 2),
        ({"config.a": 1}, 1),
    ]
    assert list(api.runs().table())[6:] == ["config.a"]
    assert list(api.runs(order="created")[:2].table())[6:] == []


@pytest.mark.usefixtures("sweep")
def test_wrong_groups(api: Api) -> None:
    """What cannot be grouped by raises."""
    for wrong in ({}, {"by": "name", "all_but": []}):
        with pytest.raises(ArgumentError, match="give by="):
            api.group(**wrong)  # type: ignore[arg-type]
    with pytest.raises(NotFoundError, match="no project 'nope'"):
        api.group("name", project="nope")
    with pytest.raises(ArgumentError, match="there is no aggregate 'nope'"):
        api.group("name", aggregates={"name": "nope"})
    with pytest.raises(ArgumentError, match="not the name of a value"):
        api.group(all_but=["config.seed + 1"])


@pytest.mark.usefixtures("sweep")
def test_bands_over_seeds(api: Api) -> None:
    """Each band is what the means of its runs come to, as worked out by hand."""
    answer = api.groups("train/loss", api.group(all_but=["config.seed"]), buckets=2)
    assert answer.names == ["config.lr=0.1", "config.lr=0.01", "config.lr=0.001"]
    assert (answer.runs, answer.lo, answer.hi) == ([2, 2, 2], 0, 99)
    assert answer.covered.tolist() == answer.total.tolist() == [200, 200, 200]
    bands = answer.bands
    assert bands is not None
    # Steps 0-49 of seed 1 at lr: mean (100 - step) / 100 = 0.755, of seed 2 twice that.
    for row, lr in enumerate((0.1, 0.01, 0.001)):
        assert bands.n[row].tolist() == [2, 2]
        assert bands.count[row].tolist() == [100, 100]
        means = np.array([[0.755 + lr, 0.255 + lr], [1.51 + lr, 0.51 + lr]])
        np.testing.assert_allclose(bands.mean[row], means.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(bands.median[row], means.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(bands.std[row], means.std(axis=0, ddof=1), rtol=1e-9)
        np.testing.assert_allclose(bands.stderr[row], bands.std[row] / math.sqrt(2), rtol=1e-12)
        assert bands.min[row].tolist() == [loss(lr, 1, 49), loss(lr, 1, 99)]
        assert bands.max[row].tolist() == [loss(lr, 2, 0), loss(lr, 2, 50)]


@pytest.mark.usefixtures("sweep")
def test_bands_of_runs_by_name(api: Api) -> None:
    """Groups can be given as runs by name, over any axis, and a run may be in several."""
    runs = api.runs(order="created")
    answer = api.groups("val/acc", {"a": runs[:2], "b": [runs[0]]}, buckets=1, x="epoch", start=5)
    assert (answer.names, answer.lo, answer.hi) == (["a", "b"], 5.0, 9.0)
    assert answer.covered.tolist() == [10, 5]
    assert answer.bands is not None and answer.bands.n.tolist() == [[2], [1]]
    assert answer.bands.max.tolist() == [[accuracy(0.1, 2, 99)], [accuracy(0.1, 1, 99)]]
    assert math.isnan(answer.bands.std[1, 0])


def test_no_two_groups_have_one_name(record: Record, api: Api) -> None:
    """Values that print alike are told apart: no group is lost."""
    for number, value in enumerate((1, "1", True, "True")):
        record(f"run0000{number}", created=BEGAN + number).config(a=value).rows("m", [number]).end()
    groups = api.group("config.a")
    answer = api.groups("m", groups)
    assert answer.names == ["config.a=1", "config.a='1'", "config.a=True", "config.a='True'"]
    assert answer.bands is not None and answer.bands.mean[:, 0].tolist() == [0, 1, 2, 3]
    assert api.groups("m", [groups[0]] * 2).names == ["config.a=1", "config.a=1 (2)"]


# -- series ----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("sweep")
def test_series_of_many_runs(api: Api) -> None:
    """The rows are the runs in the order given, on one grid; others are said to be missing."""
    runs = api.runs(order="created")[:3]
    runs[1].delete_points("val/acc")
    answer = api.series("val/acc", runs, buckets=2)
    assert (len(answer.runs), len(answer.missing), answer.lo, answer.hi) == (2, 1, 0, 99)
    assert answer.buckets is not None
    assert answer.buckets.count.tolist() == [[5, 5], [5, 5]]
    assert answer.buckets.last[:, 1].tolist() == [accuracy(0.1, 1, 99), accuracy(0.01, 1, 99)]
    assert answer.ends.tolist() == [
        [9, accuracy(lr, 1, 9), 99, accuracy(lr, 1, 99)] for lr in (0.1, 0.01)
    ]
    assert api.numbered(answer.runs) == [runs[0], runs[2]]
    assert api.numbered(answer.missing) == [runs[1]]
    with pytest.raises(NotFoundError, match="no run has the number 99"):
        api.numbered([99])
    assert len(api.series("val/acc").runs) == 5


@pytest.mark.usefixtures("sweep")
def test_a_run_of_another_folder(api: Api, root: Path, tmp_path: Path, record: Record) -> None:
    """A run is never taken for the one of the same id in another folder, least of all removed."""
    shutil.copytree(root, tmp_path / "copy")
    other = Api(tmp_path / "copy").run("run00001")
    for wrong in (lambda: api.series("val/acc", [other]), lambda: api.remove(other)):
        with pytest.raises(ArgumentError, match="not in"):
            wrong()
    (tmp_path / "link").symlink_to(root)
    linked = Api(tmp_path / "link").run("run00001")
    assert api.series("val/acc", [linked]).covered.tolist() == [10]


# -- keys, sql, export -----------------------------------------------------------------------------


@pytest.mark.usefixtures("sweep")
def test_keys_are_searched(api: Api) -> None:
    """A part of a name or a pattern finds names; the best match is first."""
    assert api.keys() == ["epoch", "train/loss", "val/acc"]
    assert api.keys("LOSS") == ["train/loss"]
    assert api.keys("*c*") == ["epoch", "val/acc"]
    assert api.keys("c", limit=1) == ["epoch"]
    assert api.keys("nothing") == []
    with pytest.raises(ArgumentError):
        api.keys(limit=-1)


@pytest.mark.usefixtures("sweep")
def test_sql(root: Path, tmp_path: Path) -> None:
    """SQL answers a table or a data frame; what it needs is kept where the index is."""
    api = Api(root, cache=tmp_path / "cache")
    told = api.sql("select count(*) n from runs", project="digits", filter="config.seed == 1")
    assert told.to_pylist() == [{"n": 3}]
    frame = api.sql("select max(value) top from points where key = 'train/loss'", pandas=True)
    assert frame["top"].tolist() == [loss(0.1, 2, 0)]
    assert sorted(path.name for path in (tmp_path / "cache").iterdir() if path.is_dir())[-1] == (
        "sql"
    )
    with pytest.raises(ArgumentError, match="only queries that read"):
        api.sql("drop table runs")


@pytest.mark.usefixtures("sweep")
def test_export(api: Api, tmp_path: Path) -> None:
    """Runs are written in their order, those that were asked for only."""
    report = api.runs(order="created")[:2].export(tmp_path / "a", "jsonl", keys="val/*")
    assert (report.runs, report.written, report.rows) == (2, 2, 20)
    again = api.export(
        tmp_path / "a", "jsonl", filter="config.lr == 0.1", keys="val/*", resume=True
    )
    assert (again.runs, again.kept, again.removed) == (2, 2, 0)
    with pytest.raises(ArgumentError):
        api.export(tmp_path / "a", "nothing")


# -- edits and deletion ----------------------------------------------------------------------------


@pytest.mark.usefixtures("sweep")
def test_edits_are_seen_by_all(api: Api, root: Path, tmp_path: Path) -> None:
    """What was edited is so for every other reader, at once; what was not given stays."""
    other, distant = Api(root), Api(root, cache=tmp_path / "cache")
    assert len(other.runs()) == len(distant.runs()) == 6
    api.run("run00002").edit(name="new", notes="n", group=None, tags=("x",), job_type="eval")
    api.run("run00003").edit(archived=True)
    for reader in (api, other, distant):
        run = reader.run("new")
        assert (run.id, run.notes, run.group, run.tags) == ("run00002", "n", None, ("x",))
        assert (run.job_type, run.config["lr"]) == ("eval", 0.01)
        assert reader.runs(filter="'x' in tags").ids == ["run00002"]
        assert reader.runs(archived=True).ids == ["run00003"]
        assert reader.runs(filter="archived").ids == ["run00003"]
        assert len(reader.runs(archived=False)) == 5 and len(reader.runs()) == 6
        assert reader.run("run00003").archived
    with pytest.raises(ArgumentError):
        api.run("new").edit(name="")


@pytest.mark.usefixtures("sweep")
def test_deleted_points_are_gone_for_all(api: Api, root: Path) -> None:
    """Points that were deleted are in no answer, and compacting changes none."""
    run, other = api.run("run00000"), Api(root).run("run00000")
    assert other.summary["train/loss"] == loss(0.1, 1, 99)
    assert run.delete_points(["train/*"], start=90, stop=95) == 6
    assert run.delete_points("train/loss", start=98) == 2
    assert run.delete_points("nothing") == 0
    wanted = [step for step in range(100) if step not in (*range(90, 96), 98, 99)]

    def told(reader: StoredRun) -> None:
        reader.refresh()
        assert reader.history("train/loss")["train/loss"].steps.tolist() == wanted
        assert reader.metrics["train/loss"].count == 92
        assert reader.metrics["epoch"].count == 100
        assert reader.summary["train/loss"] == loss(0.1, 1, 97)
        assert reader.series("train/loss").covered.tolist() == [92]

    told(run)
    told(other)
    assert api.compact("digits").points_removed == 8
    told(run)
    told(Api(root).run("run00000"))
    with pytest.raises(NotFoundError):
        api.compact("nope")


@pytest.mark.usefixtures("sweep")
def test_a_run_is_deleted_and_restored(api: Api, root: Path) -> None:
    """A deleted run is in no list, no group and no name; its id finds it, to restore it."""
    api.run("run00005").delete()
    other = Api(root)
    assert "run00005" not in other.runs().ids
    assert len(other.group("project")[0]) == 5
    with pytest.raises(NotFoundError):
        other.run(NAMES[5])
    assert other.run("run00005").deleted
    other.run("run00005").restore()
    assert len(api.runs()) == 6 and not api.run(NAMES[5]).deleted
    api.run("run00005").delete()
    assert api.compact().runs == 1
    assert not (root / "digits" / "run00005").exists() and len(api.runs()) == 5


def test_a_live_run_is_not_removed(record: Record, api: Api, alive: dict[str, Any]) -> None:
    """A run that is being recorded is removed by force only."""
    record(**alive).row(0, {"a": 1.0})
    run = api.run("abc12345")
    with pytest.raises(TrackwayError):
        api.remove(run)
    assert run.state == "running" and len(api.runs()) == 1
    assert api.remove(run, force=True).files == 1
    assert len(api.runs()) == 0


def test_a_run_is_read_while_it_is_written(
    record: Record, api: Api, root: Path, alive: dict[str, Any]
) -> None:
    """Each question is answered up to the last record; lists, statistics and charts agree."""
    run = record(**{**alive, "created": BEGAN})
    other = Api(root)
    seen = None
    for step in range(5):
        run.row(step, {"a": float(step)})
        seen = seen or api.run("abc12345")
        assert seen.history("a")["a"].values.tolist() == [float(n) for n in range(step + 1)]
        assert seen.series("a").covered.tolist() == [step + 1]
        assert other.runs(filter="state == 'running'").column("summary.a") == [float(step)]
        assert seen.refresh()
        assert not seen.refresh()
    run.end(after=10)
    assert other.runs().column("state") == ["finished"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs Linux or macOS")
@pytest.mark.usefixtures("sweep")
def test_a_forked_child_may_ask(api: Api) -> None:
    """A child that was forked reads and edits as its parent does."""
    assert len(api.runs()) == 6
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            api.run("run00000").edit(name="child")
            if api.run("child").series("train/loss").covered.tolist() == [100]:
                code = len(api.runs())
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 6
    assert api.run("child").id == "run00000"


# -- the index -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("sweep")
def test_the_cache_may_be_deleted(root: Path, tmp_path: Path) -> None:
    """An index lies in the cache that was named, and nothing is lost with it."""
    first = Api(root, cache=tmp_path / "cache")
    told: list[tuple[int, int]] = []
    first.refresh(lambda done, total: told.append((done, total)))
    assert told[-1][0] == told[-1][1] > 0
    table = first.runs().documents()
    before = {path for path in root.rglob("*")}
    del first
    shutil.rmtree(tmp_path / "cache")
    assert Api(root, cache=tmp_path / "cache").runs().documents() == table
    assert {path for path in root.rglob("*")} == before
    assert any((tmp_path / "cache").rglob("*.*"))


def test_what_users_import() -> None:
    """Every public name of trackway.api is there, the ones that are imported late included."""
    assert all(getattr(public, name) is not None for name in public.__all__)
    assert dir(public) == sorted(public.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        public.nothing  # noqa: B018
