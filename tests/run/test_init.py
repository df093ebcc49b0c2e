"""Arguments, environment, resuming, ranks: how a run begins."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

import trackway as tw
from trackway.api import StoredRun
from trackway.core import current
from trackway.core.run import Run

Begin = Callable[..., Run]
Stored = Callable[[Run], StoredRun]


def test_what_a_run_is_called_is_stored(begin: Begin, stored: Stored) -> None:
    """Name, tags, notes, group and job type come back; tags are unique and keep their order."""
    run = begin(name="n", tags=["b", "a", "b"], notes="why", group="g", job_type="train")
    run.tags += ("c",)
    run.notes = "why not"
    run.name = "m"
    run.finish()
    back = stored(run)
    assert (back.name, back.tags, back.notes) == ("m", ("b", "a", "c"), "why not")
    assert (back.group, back.job_type, back.id, back.project) == ("g", "train", run.id, "p")


def test_a_run_without_a_name_gets_a_memorable_one(begin: Begin, stored: Stored) -> None:
    """Two words and a number, and an id of eight characters."""
    run = begin()
    assert re.fullmatch(r"[a-z]+-[a-z]+-\d{3}", run.name)
    assert re.fullmatch(r"[0-9a-z]{8}", run.id)
    run.finish()
    assert stored(run).name == run.name


def test_the_random_state_of_the_program_is_untouched(begin: Begin) -> None:
    """Seeded training is the same with and without a run."""
    import random

    import numpy as np

    random.seed(5)
    np.random.seed(5)
    before = random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]
    run = begin(config={"a": 1})
    run.log({"x": 1.0})
    run.finish()
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before  # type: ignore[index]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"project": "a/b"}, "project='a/b'"),
        ({"project": "blobs"}, "project='blobs'"),
        ({"project": ".x"}, "project='.x'"),
        ({"id": "../x"}, "id='../x'"),
        ({"id": 7}, "id=7"),
        ({"tags": "one"}, "tags=['one']"),
        ({"tags": 5}, "tags=5"),
        ({"name": 3}, "name=3"),
        ({"config": 3}, "config: a configuration is a dict"),
        ({"resume": "perhaps"}, "resume='perhaps'"),
        ({"reinit": "x"}, "reinit='x'"),
        ({"mode": "ofline"}, "mode='ofline'"),
        ({"mode": "online"}, "leave out server= and use mode='offline'"),
        ({"server": "http://127.0.0.1:1"}, "leave out server="),
        ({"settings": {"gitt": False}}, "unknown ['gitt']"),
        ({"settings": {"git": 3}}, "git is bool, not 3"),
        ({"settings": {"system_interval_s": 0.01}}, "at least 0.1"),
        ({"settings": {"system_interval_s": "x"}}, "system_interval_s is a number"),
        ({"settings": {"redact_names": "x"}}, "a list of texts"),
        ({"settings": {"redact_patterns": ["("]}}, "("),
        ({"resume": "must", "id": "nobody"}, "there is no run 'nobody'"),
    ],
)
def test_a_bad_argument_raises_at_once(
    begin: Begin, root: Path, arguments: dict[str, Any], message: str
) -> None:
    """The error is an ArgumentError that names the argument, and no run is left behind."""
    with pytest.raises(tw.ArgumentError) as caught:
        begin(**arguments)
    assert message in str(caught.value)
    assert tw.run is None
    assert not root.exists()


def test_an_unknown_argument_is_a_type_error(begin: Begin) -> None:
    """A typing mistake does not pass silently."""
    with pytest.raises(TypeError, match="projct"):
        begin(projct="x")


def test_the_environment_gives_defaults(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """TRACKWAY_DIR, _PROJECT, _RUN_ID and the settings; arguments win."""
    for name, value in {
        "DIR": str(tmp_path / "e"),
        "PROJECT": "from-env",
        "RUN_ID": "id-env",
        "COMPANION": "0",
        "CONSOLE": "off",
        "QUIET": "yes",
        "SYSTEM_INTERVAL_S": "2.5",
        "REDACT_NAMES": "a, b",
    }.items():
        monkeypatch.setenv(f"TRACKWAY_{name}", value)
    run = tw.init(settings={"system_interval_s": 3.0})
    assert (run.project, run.id, run.root) == ("from-env", "id-env", tmp_path / "e")
    assert run._settings.system_interval_s == 3.0
    assert run._settings.redact_names == ("a", "b")
    assert not run._settings.companion
    run.finish()
    monkeypatch.setenv("TRACKWAY_GIT", "perhaps")
    with pytest.raises(tw.ArgumentError, match="TRACKWAY_GIT='perhaps': say 1 or 0"):
        tw.init()


def test_the_folder_keeps_itself_out_of_git(begin: Begin, root: Path) -> None:
    """A new root ignores all of itself; an existing folder is left alone."""
    begin().finish()
    assert (root / ".gitignore").read_text() == "*\n"


def test_the_default_folder_is_never_a_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """./trackway, but ./trackway-data where ./trackway holds Python sources."""
    from trackway.backend.file.folder import default_root

    monkeypatch.chdir(tmp_path)
    assert default_root() == tmp_path / "trackway"
    (tmp_path / "trackway").mkdir()
    (tmp_path / "trackway" / "__init__.py").touch()
    assert default_root() == tmp_path / "trackway-data"


@dataclass
class Model:
    """A configuration as a dataclass."""

    depth: int = 3
    widths: list[int] = field(default_factory=lambda: [8, 4])


def test_configurations_of_every_kind(begin: Begin, stored: Stored) -> None:
    """dict, argparse, dataclass, pydantic, OmegaConf, absl, attrs-like and namespaces."""
    import omegaconf
    import pydantic
    from absl import flags

    class Settings(pydantic.BaseModel):
        lr: float = 0.1
        inner: dict[str, int] = {"a": 1}

    values = flags.FlagValues()
    flags.DEFINE_integer("batch", 32, "size", flag_values=values)
    values(["program"])
    parsed = argparse.Namespace(lr=0.1, path=Path("x"))
    cases: list[tuple[object, dict[str, Any]]] = [
        ({"lr": 0.1, "n": {"m": [1, (2, 3)]}}, {"lr": 0.1, "n": {"m": [1, [2, 3]]}}),
        (parsed, {"lr": 0.1, "path": "x"}),
        (Model(), {"depth": 3, "widths": [8, 4]}),
        (Settings(), {"lr": 0.1, "inner": {"a": 1}}),
        (omegaconf.OmegaConf.create({"a": 1, "b": "${a}"}), {"a": 1, "b": 1}),
        (SimpleNamespace(x=1), {"x": 1}),
    ]
    for given, expected in cases:
        run = begin(config=given)
        run.finish()
        assert stored(run).config == expected
    run = begin(config=values)
    run.finish()
    assert stored(run).config["batch"] == 32


def test_config_is_read_and_changed_like_a_dict_and_like_an_object(
    begin: Begin, stored: Stored
) -> None:
    """Nested items and attributes; later changes win and keep their time."""
    run = begin(config={"lr": 0.1, "model": {"depth": 3, "width": 8}})
    assert run.config.lr == run.config["lr"] == 0.1
    assert run.config.model.depth == run.config["model"]["depth"] == 3
    run.config.lr = 0.2
    run.config.model.depth = 5
    run.config["model"]["kind"] = "mlp"
    run.config.update({"seed": 1}, allow_val_change=True)
    run.config.update(extra=2)
    run.config.setdefault("seed", 9)
    del run.config.model["width"]
    assert "lr" in run.config
    assert dict(run.config)["seed"] == 1
    assert run.config.get("nothing", 4) == 4
    with pytest.raises(AttributeError, match="there are"):
        _ = run.config.nothing
    run.finish()
    back = stored(run)
    expected = {"lr": 0.2, "model": {"depth": 5, "kind": "mlp"}, "seed": 1, "extra": 2}
    assert back.config == expected == run.config.as_dict()
    assert [(path, value) for _, path, value in back.config_history if path == "lr"] == [
        ("lr", 0.1),
        ("lr", 0.2),
    ]
    times = [time for time, _, _ in back.config_history]
    assert times == sorted(times)


def test_config_can_be_copied_and_sent(begin: Begin) -> None:
    """copy, deepcopy and pickle give a plain dictionary."""
    import copy
    import pickle

    config = begin(config={"a": {"b": [1]}}).config
    for copied in (copy.copy(config), copy.deepcopy(config), pickle.loads(pickle.dumps(config))):
        assert type(copied) is dict
        assert copied == {"a": {"b": [1]}}


def test_a_model_inside_a_configuration_is_assigned_into(begin: Begin, stored: Stored) -> None:
    """A nested dataclass becomes entries; what refers to itself ends in words."""
    circle: dict[str, Any] = {"x": 1}
    circle["self"] = circle
    run = begin(config={"model": Model(), "circle": circle})
    run.config.model.depth = 7
    run.finish()
    back = stored(run).config
    assert back["model"] == {"depth": 7, "widths": [8, 4]}
    assert back["circle"]["self"]["self"]["x"] == 1


@pytest.mark.swallows
def test_wrong_arguments_after_the_beginning_do_not_raise(begin: Begin, stored: Stored) -> None:
    """They are told; what is right is kept, and the run still ends."""
    run = begin()
    wrong: Any = 5
    run.config.update(wrong)
    wrong = None
    run.config.update(wrong)
    run.tags = wrong
    run.tags = "one"
    run.log({"x": 1.0})
    run.finish(timeout_s=wrong)
    back = stored(run)
    assert (back.state, back.config, back.tags) == ("finished", {}, ("one",))


def test_a_working_directory_that_was_removed(
    begin: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """init() begins the run all the same, with a folder of its own or without one."""
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    for arguments in ({}, {"dir": None}):
        run = begin(settings={"companion": False, "console": False}, **arguments)
        run.log({"x": 1.0})
        run.finish()
        assert tw.Api(run.root).run(run.id).history("x")["x"].values.tolist() == [1.0]


@pytest.mark.parametrize("missing", ["flush", "write"])
def test_any_standard_error_will_do(
    begin: Begin, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    """A stream without flush, or one that raises what it likes, reaches neither init nor log."""
    import sys

    class Stream:
        def write(self, text: str) -> int:
            if missing == "write":
                raise RuntimeError("no")
            return len(text)

    monkeypatch.setattr(sys, "stderr", Stream())
    run = begin(settings={"companion": False, "console": False})
    run.log({"o": object()})
    run.finish()


def test_config_holds_any_value(begin: Begin, stored: Stored) -> None:
    """What has no plain form is kept in words; nothing raises."""
    import datetime
    import enum

    import numpy as np

    class Kind(enum.Enum):
        A = "a"

    run = begin(
        config={
            "big": 2**70,
            "nan": float("nan"),
            "set": {3, 1, 2},
            "function": Model,
            "kind": Kind.A,
            "when": datetime.date(2026, 1, 2),
            "small": np.arange(3),
            "large": np.zeros((100, 1000)),
            "scalar": np.float32(0.5),
            "none": None,
            "bytes": b"x",
            "lone": "a\ud800",
            3: "three",
        }
    )
    run.finish()
    back = stored(run).config
    assert back["big"] == 2**70
    assert back["nan"] != back["nan"]
    assert (back["set"], back["kind"], back["when"]) == ([1, 2, 3], "a", "2026-01-02")
    assert back["function"].endswith("test_init.Model")
    assert (back["small"], back["scalar"], back["none"]) == ([0, 1, 2], 0.5, None)
    assert back["large"] == "<ndarray of shape (100, 1000)>"
    assert (back["bytes"], back["lone"], back["3"]) == (b"x", "a\\ud800", "three")


def test_summary_is_derived_and_what_was_said_wins(begin: Begin, stored: Stored) -> None:
    """Last by default, what define_metric asked for, and explicit values before all."""
    run = begin()
    run.define_metric("val/*", summary="max", goal="maximize")
    run.define_metric("loss", summary="min,mean")
    run.define_metric("best/*", summary="best", goal="minimize")
    run.define_metric("hidden", summary="none")
    for index, value in enumerate((0.5, 0.25, 0.75)):
        run.log(
            {
                "val/acc": value,
                "loss": value,
                "best/x": value,
                "hidden": 1.0,
                "plain": index,
                "y": 1,
            }
        )
    run.summary["y"] = "said"
    run.summary.note = "text"
    run.finish()
    assert stored(run).summary == {
        "val/acc": 0.75,
        "loss": {"min": 0.25, "mean": 0.5},
        "best/x": 0.25,
        "plain": 2,
        "y": "said",
        "note": "text",
    }


def test_a_wrong_definition_is_told_not_raised(
    begin: Begin, stored: Stored, capsys: pytest.CaptureFixture[str]
) -> None:
    """define_metric after the run began never raises."""
    run = begin()
    run.define_metric("a", summary="median", goal="up")
    run.log({"a": 1.0})
    run.finish()
    assert "summary is of min, max" in capsys.readouterr().err
    assert stored(run).summary == {"a": 1.0}


def test_resuming_is_a_new_attempt_and_destroys_nothing(begin: Begin, stored: Stored) -> None:
    """The count goes on; what was superseded is left out of the live line and kept."""
    run = begin(id="r1", config={"lr": 1}, tags=["t"])
    for step in range(10):
        run.log({"x": float(step)}, step=step)
    run.finish()
    again = begin(id="r1", resume="allow")
    assert (again.attempt, again.resumed, run.resumed) == (2, True, False)
    again.log({"x": 100.0})
    again.log({"x": 60.0}, step=6)
    again.finish()
    back = stored(again)
    assert [a.number for a in back.attempts] == [1, 2]
    assert (back.name, back.tags, back.config) == (run.name, ("t",), {"lr": 1})
    live = back.history("x")["x"]
    assert live.steps.tolist() == [0, 1, 2, 3, 4, 5, 6, 10]
    assert live.values.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 60.0, 100.0]
    every = back.history("x", attempts="all", repeats="all", order="arrival")["x"]
    assert every.values.tolist() == [*map(float, range(10)), 100.0, 60.0]
    assert every.attempts.tolist() == [1] * 10 + [2] * 2


def test_resume_policies(begin: Begin) -> None:
    """must needs the run, never forbids it, and allow begins it where there is none."""
    begin(id="a", resume="allow").finish()
    assert begin(id="a", resume="must").attempt == 2
    with pytest.raises(tw.ArgumentError, match="is already in"):
        begin(id="a", resume="never")
    assert begin(id="b", resume=False).attempt == 1


def test_a_second_init_with_the_id_of_a_living_run_joins_it(begin: Begin, stored: Stored) -> None:
    """No new attempt: both write into the same one, and the run ends with the first."""
    first = begin(id="shared")
    second = begin(id="shared")
    assert second.attempt == 1
    first.log({"a": 1.0})
    second.log({"b": 2.0})
    second.finish()
    assert stored(first).state == "running"
    first.finish()
    back = stored(first)
    assert back.state == "finished"
    assert back.keys() == ["a", "b"]


def test_an_attempt_killed_on_another_machine_is_not_joined(begin: Begin, stored: Stored) -> None:
    """A job started again elsewhere, seconds after it was killed, is the next attempt."""
    from trackway.backend.file.writer import LogWriter

    first = begin(id="moved")
    first.finish()
    log = LogWriter.create(first.root, project="p", run="elsewhere")
    log.close()
    log.path.unlink()
    path = log.path.with_name("other.log")
    elsewhere = LogWriter(path, msgspec.structs.replace(log.header, host="node-a"))
    elsewhere.row({"x": 0.0}, 0)
    elsewhere.row({"x": 1.0}, 1)
    elsewhere.close()
    again = begin(id="elsewhere")
    assert (again.attempt, again._child) == (2, False)
    again.log({"x": 2.0})
    again.finish()
    assert stored(again).history("x")["x"].values.tolist() == [0.0, 1.0, 2.0]


def test_several_runs_at_once(begin: Begin, stored: Stored) -> None:
    """Each has its own folder; the newest open one is ``trackway.run``."""
    first = begin()
    second = begin()
    assert tw.run is second
    tw.log({"x": 2.0})
    first.log({"x": 1.0})
    tw.finish()
    assert tw.run is first
    tw.config.update({"k": 1})
    tw.summary["s"] = 2
    tw.define_metric("x", summary="min")
    tw.finish()
    assert current.open_runs() == []
    assert stored(first).history("x")["x"].values.tolist() == [1.0]
    assert stored(second).history("x")["x"].values.tolist() == [2.0]
    assert (stored(first).config, stored(first).summary["s"]) == ({"k": 1}, 2)


def test_reinit_decides_about_a_run_still_open(begin: Begin) -> None:
    """return_previous gives the open one; finish_previous ends it."""
    first = begin()
    assert begin(reinit="return_previous") is first
    second = begin(reinit="finish_previous")
    assert first._finished
    assert current.open_runs() == [second]


def test_in_a_notebook_running_the_cell_again_ends_the_former_run(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where IPython's kernel shell is active, init() finishes the run before it."""
    import sys
    import types

    shell = type("ZMQInteractiveShell", (), {})()
    module = types.ModuleType("IPython")
    module.get_ipython = lambda: shell  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", module)
    first = begin()
    second = begin()
    assert first._finished
    assert current.open_runs() == [second]


def test_module_calls_without_a_run_are_told_not_raised(capsys: pytest.CaptureFixture[str]) -> None:
    """log() before init() does nothing and says so once; config says what to do."""
    tw.log({"x": 1.0})
    tw.log({"x": 1.0})
    tw.finish()
    assert capsys.readouterr().err.count("found no open run") == 1
    assert tw.run is None
    with pytest.raises(AttributeError, match=r"call trackway\.init"):
        _ = tw.config


def test_a_disabled_run_records_nothing(begin: Begin, root: Path) -> None:
    """Everything works, nothing is written."""
    with begin(mode="disabled", config={"lr": 1}, name="n") as run:
        run.log({"x": 1.0})
        run.config.lr = 2
        run.summary["s"] = 1
        run.define_metric("x")
        run.tags = ["t"]
        assert (run.disabled, run.config.lr, run.name, run.flush()) == (True, 2, "n", True)
    assert not root.exists()


@pytest.mark.parametrize(
    "variables",
    [
        {"RANK": "1"},
        {"SLURM_PROCID": "3", "SLURM_NTASKS": "4"},
        {"OMPI_COMM_WORLD_RANK": "2"},
        {"PMI_RANK": "1"},
        {"LOCAL_RANK": "1"},
        {"NODE_RANK": "1", "LOCAL_RANK": "0"},
    ],
)
def test_other_ranks_are_silent(
    begin: Begin, root: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    """A rank that is not zero records nothing, whoever launched it."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    run = begin()
    run.log({"x": 1.0})
    run.finish()
    assert run.disabled
    assert not root.exists()


@pytest.mark.parametrize(
    "variables", [{"RANK": "0"}, {"SLURM_PROCID": "3", "SLURM_NTASKS": "1"}, {"LOCAL_RANK": "0"}]
)
def test_rank_zero_records(
    begin: Begin, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    """Also a Slurm job of one task that was given another procid by its array."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert not begin().disabled


def test_all_ranks_record_into_one_run(
    begin: Begin, stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all_ranks and one id each rank has a log of its own; without an id it is an error."""
    settings = {"companion": False, "console": False, "quiet": True, "all_ranks": True}
    zero = begin(id="job", settings=settings)
    monkeypatch.setenv("RANK", "1")
    one = begin(id="job", settings=settings)
    zero.log({"loss": 1.0})
    one.log({"rank1/loss": 2.0})
    one.finish()
    zero.finish()
    assert stored(zero).keys() == ["loss", "rank1/loss"]
    assert [a.state for a in stored(zero).attempts] == ["finished"]
    with pytest.raises(tw.ArgumentError, match="every rank needs the same run id"):
        begin(settings=settings)


def test_a_folder_that_cannot_be_written_costs_no_data(
    begin: Begin,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The run is recorded in the folder for temporary files instead, and a sentence says where."""
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "file").write_text("a file where a folder should be")
    run = begin(dir=tmp_path / "file" / "runs")
    run.log({"x": 1.0})
    run.finish()
    elsewhere = tmp_path / "tmp" / f"trackway-{os.getuid()}"
    told = capsys.readouterr().err
    assert "cannot be written" in told
    assert str(elsewhere) in told
    assert tw.Api(elsewhere).run(run.id).history("x")["x"].values.tolist() == [1.0]


def test_the_greeting_says_where_the_run_is(
    begin: Begin, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line on standard error, none on standard output."""
    run = begin(settings={"companion": False, "console": False}, name="kind-otter")
    run.finish()
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[0].startswith(f"trackway: run kind-otter ({run.id}) is recorded in ")
    assert len(err.splitlines()) == 1
