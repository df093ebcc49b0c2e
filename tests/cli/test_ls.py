"""``trackway ls``: which runs, in which order, with which columns."""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.cli.conftest import BEGAN, Command, Recording
from trackway.backend.file.format import encode_event
from trackway.cli import cli
from trackway.cli._apart import INTEGRATIONS
from trackway.cli._text import moment
from trackway.integrations._versions import FRAMEWORKS

Record = Callable[..., Recording]


def columns(output: str) -> list[str]:
    """The titles of the first table, without the arrows."""
    return [title for title in output.splitlines()[0].split() if title not in "↑↓"]


def names(output: str) -> list[str]:
    """The first word of each row of the first table."""
    lines = output.splitlines()[1:]
    return [line.split()[0] for line in lines if line and not line.startswith("no room")]


def sweep(record: Record) -> None:
    """Three runs of one sweep."""
    for place, (name, lr, accuracy) in enumerate(
        [("first", 0.1, 0.5), ("second", 0.01, 0.9), ("third", 0.001, 0.7)]
    ):
        run = record(f"{name}00", created=BEGAN + place * 1000).named(name, tags=["demo"])
        run.config(lr=lr, seed=0, optim__name="sgd")
        run.define("val/acc", "maximize", "max")
        run.row(0, {"val/acc": accuracy, "loss": 1 - accuracy}).row(1, {"val/acc": 0.1})
        run.end(60 + place)


def test_a_run_has_its_circumstances_in_columns(trackway: Command, record: Record) -> None:
    """Name, id, state, date, duration, tags and a metric stand in a row."""
    record().named("brisk-otter", tags=["a", "b"]).row(3, {"loss": 0.25}).end(75)
    title, row = trackway("ls").splitlines()
    assert title.split() == ["name", "id", "state", "created", "took", "loss", "tags"]
    assert row.split("  ")[0] == "brisk-otter"
    assert row.split()[:4] == ["brisk-otter", "abc12345", "finished", moment(BEGAN)[:10]]
    assert row.split()[4:] == ["1", "min", "15", "s", "0.25", "a,", "b"]


def test_the_newest_run_comes_first(trackway: Command, record: Record) -> None:
    """Without --order, runs are listed from the newest to the oldest."""
    sweep(record)
    assert names(trackway("ls", "digits")) == ["third", "second", "first"]


def test_columns_are_what_tells_runs_apart(trackway: Command, record: Record) -> None:
    """Of the configuration only keys with different values are shown, and metrics with a goal."""
    sweep(record)
    expected = ["name", "id", "state", "created", "took", "val/acc", "loss", "lr", "tags"]
    assert columns(trackway("ls")) == expected


def test_a_key_that_some_runs_lack_tells_them_apart(trackway: Command, record: Record) -> None:
    """A configuration key is shown where a run does not have it; its cell is empty."""
    record("one00001", created=BEGAN + 1).named("one").config(seed=0, warmup=5).end()
    record("two00002").named("two").config(seed=0).end()
    output = trackway("ls")
    assert columns(output) == ["name", "id", "state", "created", "took", "warmup"]
    assert output.splitlines()[1].endswith("5")
    assert output.splitlines()[2].split()[-1] == "s"


def test_numbers_tell_more_than_long_texts(trackway: Command, record: Record) -> None:
    """Where there is no room for all keys, those with numbers and short texts come first."""
    for place in range(2):
        run = record(f"run0000{place}", created=BEGAN + place).named(f"r{place}")
        run.config(folder=f"/a/very/long/folder/number/{place}", opt="ab"[place], lr=place / 10)
        run.end()
    assert columns(trackway("ls"))[5:] == ["lr", "opt", "folder"]
    narrow = trackway("ls", width=66)
    assert columns(narrow)[5:] == ["lr", "opt"]
    assert narrow.splitlines()[-1] == (
        "no room for folder; --columns chooses, --json has everything"
    )


@pytest.mark.parametrize(("goal", "best"), [("maximize", 0.9), ("minimize", 0.5), (None, None)])
def test_the_best_value_is_bold(
    trackway: Command, record: Record, goal: str | None, best: float | None
) -> None:
    """Of a metric with a goal, the best value of all runs is bold, and NaN is never the best."""
    for place, value in enumerate([0.5, 0.9, math.nan]):
        run = record(f"run0000{place}", created=BEGAN + place)
        run.define("m", goal, "last").row(0, {"m": value}).end()
    bold = re.findall("\x1b\\[1;32m(.*?)\x1b", trackway.colours("ls"))
    assert bold == ([] if best is None else [str(best)])


def test_several_statistics_of_a_metric_are_columns_of_their_own(
    trackway: Command, record: Record
) -> None:
    """A summary of minimum and last value is two columns, both with the metric's goal."""
    run = record().define("loss", "minimize", "min", "last")
    run.rows("loss", [3.0, 1.0, 2.0]).end()
    title, row = trackway("ls").splitlines()
    assert title.split()[5:] == ["loss.min", "↓", "loss.last", "↓"]
    assert row.split()[-2:] == ["1", "2"]


def test_hidden_metrics_and_those_that_repeat_the_configuration_are_left_out(
    trackway: Command, record: Record
) -> None:
    """A hidden metric has no column, nor has one that is called like a configured value."""
    run = record().config(lr=0.1).define("secret", hidden=True)
    run.row(0, {"secret": 1.0, "lr": 0.1, "loss": 0.5}).end()
    assert columns(trackway("ls"))[5:] == ["loss"]


def test_four_metrics_without_a_goal_are_shown(trackway: Command, record: Record) -> None:
    """Of many metrics those come first that most runs have, then by name; four of them."""
    record("one00001").row(0, {f"m{n}": 0.0 for n in range(9)}).end()
    record("two00002").row(0, {"m7": 1.0}).end()
    assert columns(trackway("ls"))[5:] == ["m7", "m0", "m1", "m2"]


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("created", ["first", "second", "third"]),
        ("-created", ["third", "second", "first"]),
        ("name", ["first", "second", "third"]),
        ("-name", ["third", "second", "first"]),
        ("duration", ["first", "second", "third"]),
        ("-duration", ["third", "second", "first"]),
        ("config.lr", ["third", "second", "first"]),
        ("-config.lr", ["first", "second", "third"]),
        ("summary.val/acc", ["first", "third", "second"]),
        ("-summary.val/acc", ["second", "third", "first"]),
        ("config.optim.name", ["third", "second", "first"]),
        ('summary["val/acc"]', ["first", "third", "second"]),
        ('-summary["val/acc"]', ["second", "third", "first"]),
        (" - summary.val/acc", ["second", "third", "first"]),
        ("abs(config.lr - 0.01)", ["second", "third", "first"]),
        ("-len(name) + config.lr", ["second", "first", "third"]),
        ('-summary["val/acc"] - 10 * config.lr', ["second", "third", "first"]),
        ("ended", ["first", "second", "third"]),
    ],
)
def test_order(trackway: Command, record: Record, order: str, expected: list[str]) -> None:
    """Runs are ordered by any of their values, with a leading minus from high to low."""
    sweep(record)
    assert names(trackway("ls", "--order", order)) == expected


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("config.x", ["low", "high", "nan", "text", "none"]),
        ("-config.x", ["high", "low", "nan", "text", "none"]),
    ],
)
def test_runs_without_a_value_come_last(
    trackway: Command, record: Record, order: str, expected: list[str]
) -> None:
    """Numbers, NaN, texts, nothing: in this order in either direction."""
    every: list[tuple[str, dict[str, Any]]] = [
        ("nan", {"x": math.nan}),
        ("none", {}),
        ("text", {"x": "a"}),
        ("high", {"x": 2.5}),
        ("low", {"x": 1}),
    ]
    for place, (name, values) in enumerate(every):
        record(f"{name}00", created=BEGAN + place).named(name).config(**values).end()
    assert names(trackway("ls", "--order", order)) == expected


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--limit", "2"], ["third", "second"]),
        (["--limit", "2", "--order", "created"], ["first", "second"]),
        (["--limit", "1", "--order", "-summary.val/acc"], ["second"]),
    ],
)
def test_limit(
    trackway: Command, record: Record, arguments: list[str], expected: list[str]
) -> None:
    """--limit takes the first of the order and tells of how many."""
    sweep(record)
    output = trackway("ls", *arguments)
    assert names(output)[:-1] == expected
    assert output.splitlines()[-1] == f"{len(expected)} of 3 runs"


def test_a_list_is_made_without_reading_a_run(
    trackway: Command, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the index has is all that is needed: however many runs there are, none is opened."""
    sweep(record)
    wanted = trackway("ls")
    assert len(wanted.splitlines()) == 4
    monkeypatch.setattr("trackway.api._run.StoredRun.__init__", None)
    assert trackway("ls") == wanted


def test_filter_picks_runs(trackway: Command, record: Record) -> None:
    """Only those that fit are listed, and a wrong filter is told with the place in it."""
    sweep(record)
    told = trackway("ls", "--filter", "config.lr < 0.05", "--order", "name")
    assert [line.split()[0] for line in told.splitlines()[1:]] == ["second", "third"]
    nothing = trackway("ls", "--filter", "config.lr > 1e9")
    assert re.fullmatch(r"None of 3 runs in .* fit\.\n", nothing)
    wrong = trackway.result("ls", "--filter", "config.lr < < 1")
    assert wrong.exit_code == 2
    _, text, caret = wrong.stderr.splitlines()
    assert (text.strip(), caret.index("^") - text.index("c")) == ("config.lr < < 1", 12)


@pytest.mark.parametrize(
    ("order", "part"),
    [
        ("summary.nothing", "no run has a value for 'summary.nothing' to order by; there are: "),
        ("-summary.val/nothing", "no run has a value for 'summary.val/nothing' to order by"),
        ('summary["nothing"]', "no run has a value for 'summary[\"nothing\"]' to order by"),
        ("group", "no run has a value for 'group' to order by"),
        ("speed", "cannot order by 'speed'"),
        ("config.lr +", "something is missing at the end; write a value here\nconfig.lr +\n"),
    ],
)
def test_a_wrong_order_is_refused(trackway: Command, record: Record, order: str, part: str) -> None:
    """A name that no run has, or what is no expression, is told."""
    sweep(record)
    result = trackway.result("ls", "--order", order)
    assert result.exit_code == 2
    assert part in result.stderr


@pytest.mark.parametrize(
    ("filter", "reason"),
    [
        ("config.lrr < 1", "no run has config.lrr; did you mean config.lr?"),
        ("state == 'Finished'", 'there is no state "Finished"; did you mean "finished"?'),
        ("tags == 'demo'", 'tags is a list; write "demo" in tags'),
        ("config.lr == '0.1'", 'config.lr is a number, and "0.1" a text; write 0.1 without quotes'),
        ("config.optim.name == 1", 'config.optim.name is a text; write "1"'),
    ],
)
def test_a_filter_that_nothing_can_fit_says_why(
    trackway: Command, record: Record, filter: str, reason: str
) -> None:
    """Below 'None of' stands what in the filter fits no run there is."""
    sweep(record)
    first, *rest = trackway("ls", "--filter", filter).splitlines()
    assert first.startswith("None of 3 runs in ")
    assert rest == [reason]


def test_archived_runs_are_listed_if_the_filter_names_them(
    trackway: Command, record: Record
) -> None:
    """'archived' in a filter decides itself which runs there are."""
    sweep(record)
    record("old00001", created=BEGAN - 5).named("old").event("run", set={"archived": True}).end()
    assert names(trackway("ls")) == ["third", "second", "first"]
    assert names(trackway("ls", "--filter", "archived")) == ["old"]
    assert names(trackway("ls", "--filter", "archived or name == 'first'")) == ["first", "old"]
    assert names(trackway("ls", "--filter", "not archived")) == ["third", "second", "first"]
    assert names(trackway("ls", "--filter", "name ~ 'o'")) == ["second"]
    assert names(trackway("ls", "--filter", "archived or True", "--archived")) == ["old"]


def many(record: Record) -> None:
    """Two runs with more to tell than a narrow screen has room for."""
    for place in range(2):
        run = record(f"run0000{place}", created=BEGAN + place).named(
            f"a-name-that-is-long-{place}", tags=["the-same-in-both"]
        )
        run.config(batch_size=64 + place, learning_rate=0.1 + place, seed=1)
        run.define("goal", "maximize", "last")
        run.row(0, {"goal": 0.5 + place, **{f"m{n}": n + place / 8 for n in range(9)}, "same": 1.0})
        run.end()


@pytest.mark.parametrize("width", [50, 60, 80, 100])
def test_what_is_sorted_by_is_seen(trackway: Command, record: Record, width: int) -> None:
    """The metric sorted by has a column however narrow the screen is, as has one filtered by."""
    many(record)
    for arguments, title in (
        (["--order", "-summary.m8"], "m8"),
        (["--order", 'summary["goal"]'], "goal"),
        (["--filter", "summary.m7 > 1"], "m7"),
        (["--order", "config.seed"], "seed"),
    ):
        lines = trackway("ls", *arguments, width=width).splitlines()
        assert title in columns(lines[0])
        assert max(map(len, lines[:3])) <= width
    assert lines[1].split()[-1] != "…"


def test_names_in_order_and_filter_come_first(trackway: Command, record: Record) -> None:
    """Their columns stand left of the others, and none stands twice."""
    many(record)
    told = trackway("ls", "--order", "-summary.m8", "--filter", "config.seed == 1", width=200)
    expected = "m8 seed goal m0 m1 m2 m3 batch_size learning_rate tags".split()
    assert columns(told)[5:] == expected
    assert len(set(columns(told))) == len(columns(told))


def test_what_is_the_same_in_all_runs_gives_way_first(trackway: Command, record: Record) -> None:
    """Tags that all runs have are left out where the metrics that differ have room."""
    many(record)
    told = trackway("ls", width=130)
    assert "tags" not in columns(told)
    assert columns(told)[5:] == "goal m0 m1 m2 m3 batch_size learning_rate".split()
    assert told.splitlines()[-1] == "no room for tags; --columns chooses, --json has everything"


def piped(trackway: Command, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> list[str]:
    """The lines where the output is no terminal and nobody says how wide it is."""
    monkeypatch.delenv("COLUMNS", raising=False)
    done = CliRunner().invoke(cli, ["--dir", str(trackway.root), "ls", *arguments])
    assert done.exit_code == 0
    return done.stdout.splitlines()


def test_a_pipe_takes_twelve_columns(
    trackway: Command, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a screen's width twelve columns are shown and the rest told; --columns has all."""
    for place in range(2):
        run = record(f"run0000{place}", created=BEGAN + place)
        run.config(**{f"a_rather_long_name_{n:02}": n + place for n in range(50)}).end()
    names = [f"a_rather_long_name_{n:02}" for n in range(50)]
    lines = piped(trackway, monkeypatch)
    assert columns(lines[0])[5:] == names[:7]
    first = ", ".join(names[7:13])
    assert lines[-1] == (
        f"no room for {first} and 37 more; --columns chooses, --json has everything"
    )
    assert not [line for line in lines if line != line.rstrip()]
    chosen = ",".join(f"config.{name}" for name in names)
    assert len(columns(piped(trackway, monkeypatch, "--columns", chosen)[0])) == 50


def frameworks(record: Record) -> None:
    """Ten runs of one project: eight of a hand-written loop, and two of frameworks."""
    for place in range(8):
        run = record(f"loop000{place}", created=BEGAN + place).named(f"loop{place}")
        run.config(lr=place / 8, args={"seed": place % 2}, batch_size=64)
        run.config(pytorch={"optimizer": {"lr": place / 8}, "watch": {"every": 10}})
        values = {"steps_per_s": 9.0, "epoch": 3, "loss": 0.5, "val_loss": place / 4, "other": 1.0}
        run.row(1, {**values, "gradients/norm": 1.0}).end()
    run = record("xgb00001", created=BEGAN + 10).named("xgb")
    run.config(cv={"xgboost": {f"option_{n}": n for n in range(40)}}, own=1)
    run.define("cv/test/auc", "maximize", "last").row(0, {"cv/test/auc": 0.5}).end()
    run = record("skl00001", created=BEGAN + 11).named("skl")
    run.config(sklearn={"Pipeline": {f"option_{n}": None for n in range(40)}}).end()


def test_what_an_integration_found_does_not_flood_the_columns(
    trackway: Command, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Results come first, those on held-out data ahead, then what a person set; rarities never."""
    frameworks(record)
    lines = piped(trackway, monkeypatch)
    assert columns(lines[0])[5:] == [
        "val_loss", "loss", "other", "epoch", "lr", "args.seed", "batch_size",
    ]  # fmt: skip
    assert lines[-1] == (
        "no room for pytorch.optimizer.lr; --columns chooses, --json has everything"
    )
    assert max(map(len, lines)) < 160
    wide = trackway("ls", width=200).splitlines()
    assert columns(wide[0])[-1] == "pytorch.optimizer.lr"


def test_every_integration_is_known_by_name() -> None:
    """The names that settings of integrations stand under are those of the table of frameworks."""
    assert {*FRAMEWORKS} == INTEGRATIONS


def test_the_only_one_is_shown_even_if_few_have_it(trackway: Command, record: Record) -> None:
    """A metric and a setting that one of many runs has are columns where there are no others."""
    for place in range(9):
        run = record(f"run0000{place}", created=BEGAN + place)
        if place == 4:
            run.config(mine=1).row(0, {"lr": 0.1, "val/loss": 0.5})
        run.end()
    assert columns(trackway("ls"))[5:] == ["val/loss", "mine"]


def test_results_rank_by_what_their_names_say(trackway: Command, record: Record) -> None:
    """Held-out results, then other results, then the rest, what is counted or timed at the end."""
    names = "epoch train/loss zeta val/f1 fit_s test/throughput lr-Adam".split()
    record().row(0, dict.fromkeys(names, 1.0)).end()
    assert columns(trackway("ls"))[5:] == ["val/f1", "test/throughput", "train/loss", "zeta"]


def test_held_out_goals_come_before_others(trackway: Command, record: Record) -> None:
    """Of metrics with a goal that as many runs have, those on held-out data come first."""
    run = record()
    for name in ("train/loss", "val/loss"):
        run.define(name, "minimize", "last")
    run.row(0, {"train/loss": 1.0, "val/loss": 2.0}).end()
    assert columns(trackway("ls"))[5:] == ["val/loss", "train/loss"]


def test_headings_lose_their_beginning(trackway: Command, record: Record) -> None:
    """A long name keeps its end, by which it differs; where that is the same, both ends."""
    for place in range(2):
        run = record(f"run0000{place}", created=BEGAN + place)
        tail = "of.a.pipeline.steps.clf"
        run.config(
            **{
                f"first.{tail}.C": place,
                f"first.{tail}.gamma": place,
                f"one.and.the.same.{tail}.tol": place,
                f"two.and.the.same.{tail}.tol": place,
            }
        ).end()
    assert columns(trackway("ls", width=200))[5:] == [
        "…of.a.pipeline.steps.clf.C",
        "….pipeline.steps.clf.gamma",
        "one.and.…ine.steps.clf.tol",
        "two.and.…ine.steps.clf.tol",
    ]


def test_columns_can_be_chosen(trackway: Command, record: Record) -> None:
    """--columns takes fields, names and expressions, and shows these alone, in this order."""
    sweep(record)
    asked = "summary.val/acc, name,config.lr,state, max(config.lr, 0.05),summary['loss'],tags,group"
    told = trackway("ls", "--columns", asked, "--order", "name", width=40).splitlines()
    assert re.split("  +", told[0].strip()) == [
        "summary.val/acc", "name", "config.lr", "state", "max(config.lr, 0.05)", "summary['loss']",
        "tags", "group",
    ]  # fmt: skip
    assert [line.split() for line in told[1:]] == [
        ["0.5", "first", "0.1", "finished", "0.1", "0.5", "demo"],
        ["0.9", "second", "0.01", "finished", "0.05", "0.1", "demo"],
        ["0.7", "third", "0.001", "finished", "0.05", "0.3", "demo"],
    ]
    wrong = trackway.result("ls", "--columns", "name,lr")
    assert (wrong.exit_code, "there is no field 'lr'" in wrong.stderr) == (2, True)
    empty = trackway.result("ls", "--columns", ",")
    assert (empty.exit_code, "names no column" in empty.stderr) == (2, True)


def test_projects_are_grouped(trackway: Command, record: Record) -> None:
    """Without PROJECT each project has a title and a table, that with the newest run first."""
    record("one00001", "digits", created=BEGAN).config(lr=1).end()
    record("two00002", "speech", created=BEGAN + 5).end()
    record("three003", "digits", created=BEGAN + 3).config(lr=2).end()
    lines = trackway("ls").splitlines()
    assert lines[0] == "speech  1 run"
    assert lines[2].startswith("two00002")
    assert lines[4] == "digits  2 runs"
    assert lines[5].split() == ["name", "id", "state", "created", "took", "lr"]
    assert trackway("ls", "speech").splitlines()[0].startswith("name")


def test_what_is_out_of_the_ordinary_is_marked(trackway: Command, record: Record) -> None:
    """Further attempts, lost points, damaged bytes and troubles are told beside the run."""
    first = record(attempt=1)
    first.row(0, {"loss": 1.0}).event("death", 5, exit_code=None, signal=9, known=True)
    first.writer.close()
    second = record(attempt=2, created=BEGAN + 100).row(1, {"loss": 0.5})
    second.event("trouble", place="log", reason="x", count=1, sentence="'x' was not stored.")
    second.end(lost_points=7)
    with first.path.open("r+b") as file:
        file.seek(first.path.stat().st_size - 4)
        file.write(b"\0\0\0\0")
    with first.path.open("ab") as file:
        file.write(encode_event("heartbeat", BEGAN + 5, {}))
    note = trackway("ls").splitlines()[1].partition("finished")[2]
    assert "2 attempts; 7 points lost; " in note
    assert " bytes damaged; 1 trouble" in note
    narrow = trackway("ls", width=70).splitlines()
    assert narrow[1].startswith("!")
    assert narrow[2] == "! something is out of the ordinary: trackway show RUN tells"


def resumed(record: Record, run: str, **end: Any) -> None:
    """A run of two attempts, both of which ended."""
    record(run, attempt=1).end(5, state="interrupted")
    record(run, attempt=2, created=BEGAN + 100).row(1, {"loss": 0.5}).end(**end)


def test_a_resumed_run_is_nothing_out_of_the_ordinary(trackway: Command, record: Record) -> None:
    """Two attempts that ended well are told where there is room, but are no reason for a mark."""
    resumed(record, "fine0001")
    assert trackway("ls").splitlines()[1].endswith("2 attempts")
    assert "!" not in trackway("ls", width=50)


@pytest.mark.parametrize("end", [{"state": "failed"}, {"lost_points": 3}])
def test_what_went_wrong_is_marked(trackway: Command, record: Record, end: dict[str, Any]) -> None:
    """Beside a run that is fine, one that failed or lacks points has the mark."""
    resumed(record, "fine0001")
    resumed(record, "wrong001", **end)
    lines = trackway("ls", width=50).splitlines()
    assert [line.split()[0] for line in lines[1:3] if line.startswith("!")] == ["!"]
    assert next(line for line in lines if line.startswith("!")).split()[1] == "wrong001"


@pytest.mark.parametrize(
    ("event", "fields", "state"),
    [
        ("end", {"state": "failed", "exit_code": 1, "exception": None}, "failed"),
        ("end", {"state": "interrupted", "exit_code": 130, "exception": None}, "interrupted"),
        ("death", {"exit_code": None, "signal": 9, "known": True}, "killed"),
        ("heartbeat", {}, "lost"),
    ],
)
def test_states(
    trackway: Command, record: Record, event: str, fields: dict[str, Any], state: str
) -> None:
    """Each state is a word in the list."""
    run = record().event(event, 10, **fields)
    run.writer.close()
    os.utime(run.path, (BEGAN, BEGAN))
    assert trackway("ls").splitlines()[1].split()[2] == state


def test_a_running_run(trackway: Command, record: Record, alive: dict[str, Any]) -> None:
    """A run that is being written is listed as running, with its values so far."""
    run = record(created=time.time() - 90, **alive).named("live").row(0, {"loss": 0.5})
    row = trackway("ls").splitlines()[1]
    assert row.split()[:3] == ["live", "abc12345", "running"]
    assert row.split()[3:8] == ["1", "min", "ago", "1", "min"]
    run.row(1, {"loss": 0.25})
    assert trackway("ls").splitlines()[1].rstrip().endswith("0.25")
    run.end()


def test_a_run_without_points(trackway: Command, record: Record) -> None:
    """A run that logged nothing is listed."""
    record().named("empty").end()
    assert trackway("ls").splitlines()[1].split()[:3] == ["empty", "abc12345", "finished"]


def test_json_has_everything(trackway: Command, root: Path, record: Record) -> None:
    """--json is one document with stable keys, NaN as text."""
    run = record().named("one", tags=["a"], notes="hi", group="g", job_type="train")
    run.config(lr=0.1, optim__name="sgd").row(0, {"loss": math.nan, "big": 1.0}).end(60)
    assert trackway.json("ls") == {
        "root": str(root),
        "runs": [
            {
                "project": "digits",
                "id": "abc12345",
                "name": "one",
                "state": "finished",
                "created": BEGAN,
                "ended": BEGAN + 60,
                "duration_s": 60.0,
                "attempts": 1,
                "tags": ["a"],
                "notes": "hi",
                "group": "g",
                "job_type": "train",
                "config": {"lr": 0.1, "optim": {"name": "sgd"}},
                "summary": {"loss": "NaN", "big": 1.0},
                "lost_points": 0,
                "troubles": 0,
                "damaged_bytes": 0,
            }
        ],
    }


def test_an_empty_folder_says_what_to_do(trackway: Command, root: Path) -> None:
    """Where there is no run yet, a first one is shown how."""
    root.mkdir()
    output = trackway("ls")
    assert output.startswith(f"No runs in {root} yet.")
    assert "import trackway as tw" in output
    assert "TRACKWAY_DIR" in output
    assert trackway.json("ls") == {"root": str(root), "runs": []}


def test_an_empty_project(trackway: Command, root: Path) -> None:
    """A project without runs is told to be empty."""
    (root / "digits").mkdir(parents=True)
    assert trackway("ls", "digits").startswith(f"No runs in project digits in {root} yet.")


def test_a_folder_without_logs_is_no_run(trackway: Command, root: Path, record: Record) -> None:
    """A folder that holds no log is passed over."""
    record().end()
    (root / "digits" / "stray").mkdir()
    assert [run["id"] for run in trackway.json("ls")["runs"]] == ["abc12345"]


def test_a_run_that_cannot_be_read_does_not_hide_the_others(
    trackway: Command, record: Record, refuse: Callable[[Path], None]
) -> None:
    """A run whose log cannot be read is told on stderr, and the others are listed."""
    record("good0001").end()
    refuse(record("bad00002").end().path)
    result = trackway.result("ls", "--json")
    assert result.exit_code == 0
    assert result.stderr == "digits/bad00002 cannot be read: Permission denied\n"
    assert '"id": "good0001"' in result.stdout
    assert '"id": "bad00002"' not in result.stdout


def test_a_narrow_terminal_keeps_name_id_and_state(trackway: Command, record: Record) -> None:
    """What there is no room for is left out, the least needed first, and nothing is wrapped."""
    sweep(record)
    lines = trackway("ls", width=40).splitlines()
    assert columns(lines[0])[:3] == ["name", "id", "state"]
    assert max(map(len, lines[:4])) <= 40
