"""Optuna: the contract, and what is special about studies."""

from __future__ import annotations

import copy
import math
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import trackway as tw
from tests.integrations.contract import Boom, IntegrationContract, Row, rows_of
from trackway.api import StoredRun
from trackway.core import current

optuna = pytest.importorskip("optuna")

from trackway.integrations.optuna import TrackwayCallback  # noqa: E402

Begin = Callable[..., Any]
Stored = Callable[..., StoredRun]

GRID = {"x": [3, 1, 2, 0, 5], "kind": ["a", "b"]}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Optuna says nothing on the terminal."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(before)


def objective(trial: Any) -> float:
    """A value for each of the grid's points."""
    x = trial.suggest_int("x", 0, 5)
    return float((x - 2) ** 2 + (trial.suggest_categorical("kind", ["a", "b"]) == "b") / 4)


def make(**arguments: Any) -> Any:
    """A study whose trials are the same each time."""
    sampler = optuna.samplers.GridSampler(GRID, seed=7)
    return optuna.create_study(**{"study_name": "grid", "sampler": sampler, **arguments})


def values_of(study: Any) -> list[float]:
    """The values of the complete trials, by number."""
    return [trial.value for trial in study.trials if trial.state.name == "COMPLETE"]


def table(run: StoredRun, name: str = "study") -> dict[str, list[Any]]:
    """The last table of a name, by column."""
    events = [e for e in run.events("table") if e.fields["name"] == name]
    return dict(events[-1].fields["columns"])


class TestOptuna(IntegrationContract):
    framework = "optuna"

    def hook(self, **arguments: Any) -> Any:
        return TrackwayCallback(**arguments)

    def train(self, hook: Any, *, fail: bool = False) -> bytes:
        study = make()

        def tried(trial: Any) -> float:
            if fail and trial.number == 2:
                raise Boom("in the objective")
            return objective(trial)

        study.optimize(tried, n_trials=6, callbacks=None if hook is None else [hook])
        return repr([(trial.params, trial.values) for trial in study.trials]).encode()

    def expected(self) -> list[Row]:
        study = make()  # asked and told, which neither object nor ``autolog`` sees
        for _ in range(6):
            trial = study.ask()
            study.tell(trial, objective(trial))
        values = values_of(study)
        best = [min(values[: number + 1]) for number in range(6)]
        return [("best_value", step, value) for step, value in enumerate(best)] + [
            ("value", step, value) for step, value in enumerate(values)
        ]

    def expected_every_2(self) -> list[Row]:
        return [row for row in self.expected() if row[1] % 2 == 0]

    def expected_config(self) -> dict[str, Any]:
        return {
            "optuna.study_name": "grid",
            "optuna.directions": ["minimize"],
            "optuna.sampler.class": "GridSampler",
            "optuna.sampler.search_space": GRID,
            "optuna.pruner.class": "MedianPruner",
            "optuna.pruner.n_startup_trials": 5,
            "optuna.n_trials": 6,
            "optuna.n_jobs": 1,
        }


def test_table_and_summary(stored: Stored) -> None:
    """All trials are one table, called as Optuna calls the columns; the best is in the summary."""
    study = make()
    study.optimize(objective, n_trials=4, callbacks=[TrackwayCallback()])
    run = stored()
    (event,) = run.events("table")
    assert event.fields["name"] == event.fields["kind"] == "study"
    assert event.fields["about"]["directions"] == ["minimize"]
    found = table(run)
    assert list(found) == [
        "number",
        "state",
        "value",
        "params_x",
        "params_kind",
        "datetime_start",
        "datetime_complete",
        "duration",
    ]
    assert found["number"] == [0, 1, 2, 3]
    assert found["state"] == ["COMPLETE"] * 4
    assert found["value"] == values_of(study)
    assert found["params_x"] == [trial.params["x"] for trial in study.trials]
    assert found["datetime_start"] == [t.datetime_start.timestamp() for t in study.trials]
    assert found["duration"] == [t.duration.total_seconds() for t in study.trials]
    summary = run.summary
    assert summary["best_value"] == study.best_value == summary["value"]
    assert summary["best_params"] == study.best_params
    assert summary["best_number"] == study.best_trial.number
    assert [summary[name] for name in ("trials", "complete", "pruned", "failed")] == [4, 4, 0, 0]


def test_built_inside_of_the_parentheses(root: Path) -> None:
    """The first callback of a process is at work in the call that it is built in."""
    code = """
import optuna
from trackway.integrations.optuna import TrackwayCallback
optuna.logging.set_verbosity(optuna.logging.ERROR)
before = optuna.study.Study.optimize, optuna.study.study._optimize
study = optuna.create_study(study_name="s")
assert before == (optuna.study.Study.optimize, optuna.study.study._optimize)
study.optimize(lambda trial: 1.0, n_trials=1, callbacks=[TrackwayCallback(trials="runs")])
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(tw.__file__).parents[1])
    runs = tw.Api(root).runs("p")
    assert {run.job_type: run.state for run in runs} == {"study": "finished", "trial": "finished"}
    assert [len(run.events("table")) for run in runs if run.job_type == "study"] == [1]


def pruning(trial: Any) -> float:
    """Reports twice; every second trial is pruned, every third fails."""
    trial.suggest_float("lr", 0, 1)
    for step in (10, 20):
        trial.report(trial.number + step, step)
    if trial.number % 2:
        raise optuna.TrialPruned
    if trial.number == 2:
        raise ValueError("diverged")
    return float(trial.number)


def test_states(stored: Stored) -> None:
    """Pruned trials and those whose exception was caught are in the table, and in no series."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    study.optimize(pruning, n_trials=5, catch=ValueError, callbacks=[TrackwayCallback()])
    run = stored()
    assert rows_of(run) == [
        ("best_value", 0, 0.0),
        ("best_value", 4, 0.0),
        ("value", 0, 0.0),
        ("value", 4, 4.0),
    ]
    found = table(run)
    assert found["state"] == ["COMPLETE", "PRUNED", "FAIL", "PRUNED", "COMPLETE"]
    assert found["value"] == [0.0, 21.0, None, 23.0, 4.0]
    assert [run.summary[n] for n in ("complete", "pruned", "failed")] == [2, 2, 1]
    reported = table(run, "study/intermediate")
    assert reported["number"] == [n for n in range(5) for _ in range(2)]
    assert reported["step"] == [10, 20] * 5
    assert reported["value"] == [n + step for n in range(5) for step in (10, 20)]
    assert run.state == "finished"


def test_exception_leaves_the_table(stored: Stored) -> None:
    """The trial whose exception ends the study is in the table, though no callback is called."""
    study = make()

    def failing(trial: Any) -> float:
        if trial.number == 1:
            raise Boom
        return objective(trial)

    with pytest.raises(Boom):
        study.optimize(failing, n_trials=3, callbacks=[TrackwayCallback()])
    assert stored().state == "failed"
    assert table(stored())["state"] == ["COMPLETE", "FAIL"]


def test_keyboard_interrupt(stored: Stored) -> None:
    """Ctrl-C passes, and the run is an interrupted one."""

    def interrupted(trial: Any) -> float:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make().optimize(interrupted, n_trials=2, callbacks=[TrackwayCallback()])
    assert stored().state == "interrupted"
    assert current.open_runs() == []


def test_stop_and_callbacks_of_the_user(stored: Stored) -> None:
    """``study.stop`` and what the user's callbacks raise pass; the trial is recorded before."""
    study = make()
    given = [lambda study, trial: study.stop(), TrackwayCallback()]
    study.optimize(objective, n_trials=6, callbacks=given)
    assert len(study.trials) == 1
    assert len(given) == 2
    assert stored().metrics["value"].count == 1

    def raising(study: Any, trial: Any) -> None:
        raise Boom

    with pytest.raises(Boom):
        make().optimize(objective, callbacks=(TrackwayCallback(), raising))
    assert stored().state == "failed"
    assert stored().metrics["value"].count == 1


def test_timeout(stored: Stored) -> None:
    """A study that is out of time before its first trial is a finished run without rows."""
    make().optimize(objective, n_trials=3, timeout=0, callbacks=[TrackwayCallback()])
    run = stored()
    assert (run.state, run.keys(), run.summary["trials"]) == ("finished", [], 0)
    assert run.config["optuna"]["timeout"] == 0


def test_multi_objective(stored: Stored) -> None:
    """Each value has its series; the best trials are those of the Pareto front."""
    study = optuna.create_study(
        directions=["minimize", "maximize"], sampler=optuna.samplers.RandomSampler(seed=3)
    )
    study.optimize(
        lambda trial: (trial.suggest_float("x", 0, 1), float(trial.number)),
        n_trials=3,
        callbacks=[TrackwayCallback()],
    )
    run = stored()
    assert run.keys() == ["value/0", "value/1"]
    assert run.summary["best_trials"] == [trial.number for trial in study.best_trials]
    assert "best_value" not in run.summary
    assert table(run)["values_1"] == [0.0, 1.0, 2.0]


@pytest.mark.filterwarnings("ignore:.*set_metric_names is experimental")
def test_metric_names(stored: Stored) -> None:
    """Values are called as the user called them."""
    study = optuna.create_study(directions=["minimize", "maximize"])
    study.set_metric_names(["loss", "accuracy"])
    study.optimize(lambda trial: (1.0, 2.0), n_trials=1, callbacks=[TrackwayCallback()])
    assert rows_of(stored()) == [("accuracy", 0, 2.0), ("loss", 0, 1.0)]
    assert stored().config["optuna"]["directions"] == ["minimize", "maximize"]


def test_resumed_study(tmp_path: Path, stored: Stored) -> None:
    """A study that is loaded goes on at its next number, and the best so far is remembered."""
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    first = make(storage=storage, direction="maximize")
    first.optimize(objective, n_trials=3, callbacks=[TrackwayCallback()])
    again = make(storage=storage, direction="maximize", load_if_exists=True)
    again.optimize(objective, n_trials=2, callbacks=[TrackwayCallback()])
    values = values_of(again)
    assert rows_of(stored()) == [
        ("best_value", 3, max(values[:4])),
        ("best_value", 4, max(values)),
        ("value", 3, values[3]),
        ("value", 4, values[4]),
    ]
    assert table(stored())["number"] == [0, 1, 2, 3, 4]
    assert str(tmp_path) not in repr(stored().config)
    again._storage.remove_session()
    again._storage._backend.engine.dispose()
    first._storage._backend.engine.dispose()


def test_nan_is_a_failed_trial(stored: Stored) -> None:
    """Optuna takes NaN for a failure, and so it has no row."""
    study = optuna.create_study()
    hook = TrackwayCallback(trials="runs")
    study.optimize(lambda trial: math.nan, n_trials=1, callbacks=[hook])
    runs = tw.Api(stored().path.parents[1]).runs("p")
    assert {run.job_type: (run.state, run.keys()) for run in runs} == {
        "study": ("finished", []),
        "trial": ("failed", []),
    }


@pytest.mark.filterwarnings("ignore:.*constraints_func")
def test_infeasible_trials_are_not_the_best(stored: Stored) -> None:
    """The best value so far is the best feasible one."""

    def constrained(trial: Any) -> float:
        trial.set_user_attr("c", 1.0 if trial.number == 1 else -1.0)
        return float(-trial.number % 3)

    def constraints(trial: Any) -> list[float]:
        return [trial.user_attrs["c"]]

    sampler = optuna.samplers.TPESampler(seed=1, constraints_func=constraints)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.optimize(constrained, n_trials=3, callbacks=[TrackwayCallback()])
    assert values_of(study) == [0.0, 2.0, 1.0]
    found = [row for row in rows_of(stored()) if row[0] == "best_value"]
    assert found == [("best_value", 0, 0.0), ("best_value", 1, 0.0), ("best_value", 2, 1.0)]
    assert stored().summary["best_value"] == study.best_value  # 3.6 looks at no constraints there
    assert table(stored())["user_attrs_c"] == [-1.0, 1.0, -1.0]


# -- a run for each trial --------------------------------------------------------------------------


def trial_runs(stored: Stored) -> dict[int, StoredRun]:
    """The trials' runs by number."""
    runs = tw.Api(stored().path.parents[1]).runs("p")
    return {run.config["optuna"]["number"]: run for run in runs if run.job_type == "trial"}


def test_a_run_for_each_trial(begin: Begin, stored: Stored) -> None:
    """Parameters, reports, value and state of a trial are in its run, grouped by the study."""
    mine = begin()
    study = optuna.create_study(study_name="s", sampler=optuna.samplers.RandomSampler(seed=1))
    hook = TrackwayCallback(trials="runs")
    study.optimize(pruning, n_trials=3, catch=(ValueError,), callbacks=[hook])
    assert current.open_runs() == [mine]
    runs = trial_runs(stored)
    assert {number: (run.state, run.tags) for number, run in runs.items()} == {
        0: ("finished", ("complete",)),
        1: ("finished", ("pruned",)),
        2: ("failed", ("failed",)),
    }
    assert runs[2].attempts[-1].exception["message"] == "diverged"  # type: ignore[index]
    for number, run in runs.items():
        assert run.group == "s"
        assert run.name == f"s-{number}"
        assert run.config["lr"] == study.trials[number].params["lr"]
        assert run.config["optuna"] == {"study_name": "s", "number": number, "run": mine.id}
        assert rows_of(run) == [("intermediate_value", s, number + s) for s in (10, 20)]
    assert runs[0].summary["value"] == 0.0
    assert table(stored(mine))["state"] == ["COMPLETE", "PRUNED", "FAIL"]
    assert all("report" not in vars(trial) for trial in study.trials)


def test_the_trials_run_is_the_current_one(stored: Stored) -> None:
    """Inside the objective the trial's run is the current one, also with several threads."""
    together = threading.Barrier(3)

    def logging(trial: Any) -> float:
        tw.log({"mine": trial.number}, step=1)
        together.wait(20)  # all three are under way
        tw.log({"mine": trial.number}, step=2)
        seen = current.open_runs()[-1]
        assert seen is tw.run
        assert seen.config["optuna"]["number"] == trial.number
        together.wait(20)
        return float(trial.number)

    study = optuna.create_study(study_name="s")
    study.optimize(logging, n_trials=3, n_jobs=3, callbacks=[TrackwayCallback(trials="runs")])
    runs = trial_runs(stored)
    assert sorted(runs) == [0, 1, 2]
    for number, run in runs.items():
        assert rows_of(run) == [("mine", 1, number), ("mine", 2, number)]
    assert current.open_runs() == []
    (parent,) = [r for r in tw.Api(stored().path.parents[1]).runs("p") if r.job_type == "study"]
    assert parent.metrics["value"].count == 3
    assert parent.config["optuna"]["n_jobs"] == 3
    assert parent.summary["best_value"] == 0.0


def test_a_trial_that_is_sent_away(stored: Stored) -> None:
    """A trial whose reports are recorded can still be pickled, and reports from there."""

    def sent(trial: Any) -> float:
        other = pickle.loads(pickle.dumps(trial))
        other.report(1.5, 3)
        trial.report(value=2.5, step=4)
        return 1.0

    study = optuna.create_study()
    study.optimize(sent, n_trials=1, callbacks=[TrackwayCallback(trials="runs")])
    assert ("intermediate_value", 4, 2.5) in rows_of(trial_runs(stored)[0])


def test_threads_with_a_table(stored: Stored) -> None:
    """With several threads every trial has its row, at its number."""
    study = optuna.create_study()
    study.optimize(
        lambda trial: float(trial.number), n_trials=20, n_jobs=4, callbacks=[TrackwayCallback()]
    )
    run = stored()
    assert [row for row in rows_of(run) if row[0] == "value"] == [
        ("value", n, float(n)) for n in range(20)
    ]
    assert run.metrics["best_value"].count == 20
    assert run.state == "finished"


def test_autolog_with_runs(stored: Stored) -> None:
    """``autolog`` takes the callback's options, and leaves nothing behind when it is disabled."""
    before = optuna.study.Study.optimize
    tw.autolog(only=["optuna"], optuna={"trials": "runs"})
    make().optimize(objective, n_trials=2)
    tw.autolog.disable()
    assert optuna.study.Study.optimize is before
    assert sorted(trial_runs(stored)) == [0, 1]


def test_ask_and_tell(stored: Stored) -> None:
    """A loop of one's own is followed as ``optimize`` is."""
    study = make()
    hook = TrackwayCallback(trials="runs")
    tracked = hook.track(objective)
    with hook.follow(study):
        for _ in range(3):
            trial = study.ask()
            hook(study, study.tell(trial, tracked(trial)))
    runs = trial_runs(stored)
    assert [runs[n].summary["value"] for n in range(3)] == values_of(study)
    (parent,) = [r for r in tw.Api(stored().path.parents[1]).runs("p") if r.job_type == "study"]
    assert table(parent)["value"] == values_of(study)
    assert parent.state == "finished"
    assert tracked(optuna.trial.FixedTrial({"x": 2, "kind": "a"})) == 0.0
    with pytest.raises(Boom), hook.follow(study):
        raise Boom
    assert stored().state == "failed"


def test_callbacks_that_can_be_read_once(stored: Stored, root: Path) -> None:
    """An iterator of callbacks is used up by Optuna alone."""
    seen: list[int] = []
    given = iter([lambda study, trial: seen.append(trial.number)])
    tw.autolog(only=["optuna"])
    make().optimize(objective, n_trials=2, callbacks=given)
    assert seen == [0]
    assert not root.exists()


def test_nested_studies(stored: Stored) -> None:
    """One callback in a study inside of another's objective: one run, ended with the outer one."""
    hook = TrackwayCallback()

    def outer(trial: Any) -> float:
        inner = optuna.create_study(study_name="inner")
        inner.optimize(lambda t: 1.0, n_trials=1, callbacks=[hook])
        assert len(current.open_runs()) == 1
        return 2.0

    optuna.create_study(study_name="outer").optimize(outer, n_trials=1, callbacks=[hook])
    assert stored().state == "finished"
    assert len(tw.Api(stored().path.parents[1]).runs("p")) == 1


def test_copies() -> None:
    """The object can be copied deeply while it follows a study."""
    hook = TrackwayCallback(every=3, trials="runs", group="g")

    def copied(study: Any, trial: Any) -> None:
        other = copy.deepcopy(hook)
        assert (other.trials, other.group) == ("runs", "g")

    make().optimize(objective, n_trials=1, callbacks=[hook, copied])


@pytest.mark.parametrize("wrong", [{"trials": "all"}, {"group": 3}])
def test_own_arguments(wrong: dict[str, Any]) -> None:
    """Its own arguments are checked too."""
    with pytest.raises(tw.ArgumentError, match=next(iter(wrong))):
        TrackwayCallback(**wrong)


def test_bad_call_is_the_frameworks_to_refuse(root: Path) -> None:
    """A call that Optuna refuses raises its own error, and nothing is opened."""
    TrackwayCallback()
    with pytest.raises(TypeError, match="unexpected keyword"):
        make().optimize(objective, trials=3)
    assert not root.exists()


@pytest.mark.parametrize("jobs", [1, 2])
def test_trainings_inside(root: Path, begin: Begin, stored: Stored, jobs: int) -> None:
    """What an objective trains floods no series of a study's table; it is in a trial's run."""
    xgboost = pytest.importorskip("xgboost")
    sklearn = pytest.importorskip("sklearn.linear_model")
    from trackway.integrations.xgboost import TrackwayCallback as Explicit

    x, y = [[0.0], [1.0], [2.0], [3.0]], [0, 1, 0, 1]
    mine = begin()

    def trained(trial: Any) -> float:
        data = xgboost.DMatrix(np.array(x), np.array(y))
        params = {"nthread": 1, "max_depth": 1 + trial.suggest_int("x", 0, 5)}
        evals = {"evals": [(data, "train")], "verbose_eval": False}
        xgboost.train(params, data, 3, **evals)
        xgboost.train(
            params, data, 3, **evals, callbacks=[Explicit(mine, prefix=str(trial.number))]
        )
        sklearn.LogisticRegression().fit(x, y)
        tw.log({"by_hand": trial.number})
        return float(trial.number)

    tw.autolog(only=["optuna", "xgboost", "sklearn"])
    with begin() as run:
        sklearn.LogisticRegression(C=2.0).fit(x, y)
        before = list(stored(run).keys())
        make().optimize(trained, n_trials=2, n_jobs=jobs)
        sklearn.LogisticRegression(C=3.0).fit(x, y)
    found = stored(run)
    assert set(found.keys()) - set(before) == {"value", "best_value", "by_hand"}
    assert "xgboost" not in found.config
    assert len(found.history("LogisticRegression/fit_s")["LogisticRegression/fit_s"].steps) == 2
    mine.finish()
    assert {"0/train/rmse", "1/train/rmse"} <= set(stored(mine).keys())
    make().optimize(trained, n_trials=1, callbacks=[TrackwayCallback(trials="runs")], n_jobs=jobs)
    (trial,) = (each for each in tw.Api(root).runs("p") if "train/rmse" in list(each.keys()))
    assert trial.job_type != "study"


def test_trainings_inside_of_a_loop(root: Path, stored: Stored) -> None:
    """The same holds for a loop that asks and tells."""
    xgboost = pytest.importorskip("xgboost")
    tw.autolog(only=["xgboost"])
    data = xgboost.DMatrix(np.array([[0.0], [1.0]]), np.array([0, 1]))

    def trained(trial: Any) -> float:
        xgboost.train({"nthread": 1}, data, 2, evals=[(data, "train")], verbose_eval=False)
        return 1.0

    for trials in ("table", "runs"):
        callback, study = TrackwayCallback(trials=trials), make()
        each = trained if trials == "table" else callback.track(trained)
        with callback.follow(study):
            trial = study.ask()
            callback(study, study.tell(trial, each(trial)))
        runs = list(tw.Api(root).runs("p"))
        assert sum("train/rmse" in list(run.keys()) for run in runs) == (trials == "runs")
