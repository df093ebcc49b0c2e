"""The ``Trainer`` callback: the shared suite, and what is transformers' own."""

from __future__ import annotations

import copy
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

import trackway as tw
from tests.integrations.contract import Boom, IntegrationContract, Row, rows_of
from tests.integrations.huggingface.training import (
    DATA,
    Failing,
    logged,
    model,
    trainer,
    weights,
)
from trackway.api import StoredRun
from trackway.core import current
from trackway.integrations.huggingface import TrackwayCallback
from trackway.integrations.huggingface._values import renamed

# transformers' own, while it saves and resumes.
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")

UNMEASURED_EVALUATIONS = tuple(
    f"{start}{name}"
    for start in ("eval/", "eval/a_", "eval/b_", "test/", "held_out/")
    for name in ("runtime", "samples_per_second", "steps_per_second", "model_preparation_time")
)
UNMEASURED = ("train/steps_per_s", *UNMEASURED_EVALUATIONS)


class TestHuggingface(IntegrationContract):
    """The shared suite, with a classifier of one layer: two epochs, evaluated after each."""

    framework = "huggingface"
    unmeasured = UNMEASURED

    history: ClassVar[list[dict[str, Any]]] = []

    @pytest.fixture(autouse=True)
    def own_folder(self, tmp_path: Path) -> None:
        """The same one for every training of a test."""
        self.folder = tmp_path / "out"

    def config_of(self, run: StoredRun) -> dict[str, Any]:
        """Without the folder for TensorBoard, which older versions name by the time of day."""
        config = run.config
        return {**config, "args": {**config["args"], "logging_dir": None}}

    def hook(self, **options: Any) -> Any:
        """The callback."""
        return TrackwayCallback(**options)

    def train(self, hook: Any, *, fail: bool = False) -> bytes:
        """Six steps."""
        made = trainer(
            self.folder,
            callbacks=None if hook is None else [hook],
            kind=Failing if fail else None,
            eval_strategy="epoch",
        )
        made.train()
        type(self).history = made.state.log_history
        return weights(made.model)

    def expected(self) -> list[Row]:
        """What the ``Trainer`` itself has kept."""
        return logged(self.history, self.unmeasured)

    def expected_every_2(self) -> list[Row]:
        """Every second step, and all evaluations."""
        kept = [row for row in self.history if row["step"] % 2 == 0 or "eval_loss" in row]
        return logged(kept, self.unmeasured)

    def expected_config(self) -> dict[str, Any]:
        """Arguments of the training, and the model's."""
        return {
            "args.learning_rate": 0.01,
            "args.per_device_train_batch_size": 4,
            "args.output_dir": str(self.folder),
            "model.hidden_size": 8,
            "model.model_type": "bert",
        }


# -- the run ---------------------------------------------------------------------------------------


def test_several_on_one_trainer(
    tmp_path: Path, begin: Callable[..., Any], stored: Callable[..., StoredRun]
) -> None:
    """By name, by ``autolog`` and explicitly at once, every row is there once, in the explicit."""
    tw.autolog(only=["huggingface"])
    mine, other = begin(), begin()
    named = trainer(tmp_path, report_to="trackway", callbacks=[TrackwayCallback(mine)])
    named.train()
    rows = rows_of(stored(mine), UNMEASURED)
    assert rows == logged(named.state.log_history)
    late = trainer(tmp_path, report_to="trackway")
    late.add_callback(TrackwayCallback(mine, prefix="late"))
    late.add_callback(TrackwayCallback(other))
    late.train()
    found = rows_of(stored(mine), (*UNMEASURED, "late/train/steps_per_s"))
    assert [row for row in found if not row[0].startswith("late/")] == rows
    assert [(name[5:], *rest) for name, *rest in found if name.startswith("late/")] == rows
    assert stored(other).keys() == []


def test_by_name(tmp_path: Path, stored: Callable[..., StoredRun]) -> None:
    """``report_to="trackway"`` records the training, its evaluation before the first step too."""
    made = trainer(tmp_path, report_to="trackway", eval_on_start=True, run_name="mine")
    made.train()
    run = stored()
    assert rows_of(run, UNMEASURED) == logged(made.state.log_history, UNMEASURED)
    assert ("eval/loss", 0) in [row[:2] for row in rows_of(run)]
    assert (run.name, run.state) == ("mine", "finished")


def test_again(tmp_path: Path, stored: Callable[..., StoredRun], root: Path) -> None:
    """A second ``train`` of one trainer is a run of its own; so is one after a crash."""
    made = trainer(tmp_path, callbacks=[TrackwayCallback()], max_steps=1)
    made.train()
    made.train()
    assert [run.state for run in tw.Api(root).runs("p")] == ["finished", "finished"]


def test_evaluation_belongs_to_its_training(
    tmp_path: Path, stored: Callable[..., StoredRun], root: Path
) -> None:
    """``evaluate`` and ``predict`` after ``train`` are in its run, though that is finished."""
    made = trainer(tmp_path, callbacks=[TrackwayCallback()])
    made.train()
    first = stored()
    found = made.evaluate(DATA[:2])
    made.evaluate(DATA[:2], metric_key_prefix="held_out")
    predicted = made.predict(DATA[:3])
    (run,) = tw.Api(root).runs("p")
    assert (run.id, run.state, len(run.attempts)) == (first.id, "finished", 1)
    rows = rows_of(run, UNMEASURED)
    assert ("eval/loss", 6, found["eval_loss"]) in rows
    assert ("held_out/loss", 6, found["eval_loss"]) in rows
    assert ("test/loss", 6, predicted.metrics["test_loss"]) in rows
    assert current.open_runs() == []


def test_evaluation_of_either_trainer(
    tmp_path: Path, stored: Callable[..., StoredRun], root: Path
) -> None:
    """With one callback on two trainers, each evaluation is in the run of its own trainer."""
    hook = TrackwayCallback()
    first = trainer(tmp_path, callbacks=[hook], max_steps=1)
    second = trainer(tmp_path, callbacks=[hook], max_steps=2)
    first.train()
    of_first = stored().id
    second.train()
    of_second = stored().id
    first.evaluate()
    second.evaluate()
    first.evaluate(metric_key_prefix="again")
    assert {run.id for run in tw.Api(root).runs("p")} == {of_first, of_second}
    found = {
        run.id: [row[:2] for row in rows_of(run) if row[0].endswith("/loss")]
        for run in tw.Api(root).runs("p")
    }
    assert found == {
        of_first: [("again/loss", 1), ("eval/loss", 1), ("train/loss", 1)],
        of_second: [("eval/loss", 2), ("train/loss", 1), ("train/loss", 2)],
    }


def test_evaluation_after_another_was_left(
    tmp_path: Path, stored: Callable[..., StoredRun], root: Path
) -> None:
    """A trainer's evaluation is not in the run of another one that an exception has left."""
    hook = TrackwayCallback()
    first = trainer(tmp_path, callbacks=[hook], kind=Failing)
    with pytest.raises(Boom):
        first.train()
    trainer(tmp_path, callbacks=[hook]).evaluate()
    evaluated, failed = tw.Api(root).runs("p")
    assert (failed.state, evaluated.state) == ("failed", "finished")
    assert "eval/loss" not in list(failed.keys())
    assert [row[:2] for row in rows_of(evaluated) if row[0] == "eval/loss"] == [("eval/loss", 0)]


def test_evaluation_alone(tmp_path: Path, stored: Callable[..., StoredRun], root: Path) -> None:
    """Without a training, evaluations and predictions of one trainer have one run of their own."""
    made = trainer(
        tmp_path, callbacks=[TrackwayCallback()], evaluated={"a": DATA[:4], "b": DATA[4:6]}
    )
    assert not root.exists()
    found = made.evaluate()
    predicted = made.predict(DATA[:3])
    (run,) = tw.Api(root).runs("p")
    assert run.state == "finished"
    # Versions before 5.1 tell no epoch where nothing was trained.
    epochs = [] if made.state.epoch is None else [("epoch", 0, 0.0)] * 2
    assert rows_of(run, UNMEASURED_EVALUATIONS) == [
        *epochs,
        ("eval/a_loss", 0, found["eval_a_loss"]),
        ("eval/b_loss", 0, found["eval_b_loss"]),
        ("test/loss", 0, predicted.metrics["test_loss"]),
    ]
    assert run.config["model"]["hidden_size"] == 8


def test_callers_run_takes_evaluations(
    tmp_path: Path, begin: Callable[..., Any], stored: Callable[..., StoredRun]
) -> None:
    """Where a run is open, what comes after the training is in it, and it stays open."""
    mine = begin()
    made = trainer(tmp_path, callbacks=[TrackwayCallback()])
    made.train()
    made.evaluate()
    assert current.open_runs() == [mine]
    assert ("eval/loss", 6) in [row[:2] for row in rows_of(stored(mine))]
    assert len(stored(mine).events("model")) == 1


def test_summary(tmp_path: Path, stored: Callable[..., StoredRun]) -> None:
    """The results of a training are its summary, and no row."""
    made = trainer(tmp_path, callbacks=[TrackwayCallback()])
    made.train()
    result = made.state.log_history[-1]
    run = stored()
    for name in ("train_loss", "train_runtime", "train_samples_per_second", "total_flos"):
        assert run.summary[f"train/{name}"] == result[name]
        assert rows_of(run, ("train/loss",)) == rows_of(run, ("train/loss", f"train/{name}"))


def test_accumulated_steps(tmp_path: Path, stored: Callable[..., StoredRun]) -> None:
    """Steps are the optimizer's, and the loss is as the ``Trainer`` says, also when it adds up."""
    made = trainer(
        tmp_path,
        callbacks=[TrackwayCallback()],
        per_device_train_batch_size=2,
        gradient_accumulation_steps=3,
    )
    made.train()
    rows = rows_of(stored(), UNMEASURED)
    assert rows == logged(made.state.log_history)
    assert [step for name, step, _ in rows if name == "train/loss"] == [1, 2, 3, 4]


# -- hyperparameters and the model -----------------------------------------------------------------


def test_config(tmp_path: Path, stored: Callable[..., StoredRun]) -> None:
    """Arguments, model and adapter stand under prefixes of their own; a token is nowhere."""
    peft = pytest.importorskip("peft")
    adapter = peft.LoraConfig(r=2, target_modules=["query", "key"])
    small = peft.get_peft_model(model(), adapter)
    made = trainer(
        tmp_path, of=small, callbacks=[TrackwayCallback()], max_steps=1, hub_token="hf_thesecret"
    )
    made.train()
    run = stored()
    assert run.config["peft"]["r"] == 2
    assert run.config["peft"]["target_modules"] == ["key", "query"]
    assert run.config["model"]["hidden_size"] == 8
    assert run.config["args"]["max_steps"] == 1
    (told,) = run.events("model")
    about = told.fields["about"]
    assert (told.fields["name"], about["class"]) == ("model", type(small).__name__)
    assert about["parameters"] == sum(p.numel() for p in small.parameters())
    assert about["trainable"] == small.get_nb_trainable_parameters()[0]
    assert about["dtypes"] == {"float32": about["parameters"]}
    assert about["tree"][0]["parameters"] == about["parameters"]
    assert b"thesecret" not in b"".join(
        path.read_bytes() for path in run.path.rglob("*") if path.is_file()
    )


def test_tokens(tmp_path: Path, stored: Callable[..., StoredRun]) -> None:
    """Where the ``Trainer`` counts tokens, they are there, and their rate from the second row."""
    made = trainer(tmp_path, callbacks=[TrackwayCallback()], include_num_input_tokens_seen=True)
    made.train()
    rows = rows_of(stored())
    seen = [row[1:] for row in rows if row[0] == "train/num_input_tokens_seen"]
    assert seen == [(step, 24.0 * step) for step in range(1, 7)]
    for name in ("train/tokens_per_s", "train/steps_per_s"):
        rates = [row for row in rows if row[0] == name]
        assert [step for _, step, _ in rates] == [2, 3, 4, 5, 6]
        assert all(rate > 0 for _, _, rate in rates)


WATCH = {"every": 1, "histograms": False, "budget": 1.0}


def norms(run: StoredRun, name: str = "gradients/norm") -> list[int]:
    """The steps at which the norm of all gradients was read."""
    return [step for found, step, _ in rows_of(run) if found == name]


def test_watch(tmp_path: Path, begin: Callable[..., Any], stored: Callable[..., StoredRun]) -> None:
    """``watch`` reads the gradients of each training at the steps of its ``Trainer``."""
    from trackway.integrations.pytorch._watch import watches

    mine = begin()
    hook = TrackwayCallback(watch=WATCH, prefix="a")
    made = trainer(tmp_path, callbacks=[hook], save_strategy="steps", save_steps=4)
    made.train()
    assert not watches.get(mine), "the watch has ended with the training"
    made.evaluate()
    mine.flush()
    assert norms(stored(mine), "a/gradients/norm") == [1, 2, 3, 4, 5, 6]
    mine.finish()
    other = begin()
    again = trainer(tmp_path, callbacks=[TrackwayCallback(watch=WATCH)])
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    assert not watches.get(other)
    other.flush()
    assert norms(stored(other)) == [5, 6]


def test_watch_in_a_run_of_its_own(tmp_path: Path, stored: Callable[..., StoredRun]) -> None:
    """Two trainings of one trainer are two runs, watched from the first step of each."""
    made = trainer(tmp_path, callbacks=[TrackwayCallback(watch=WATCH)], max_steps=2)
    for _ in range(2):
        made.train()
        assert norms(stored()) == [1, 2]


# -- checkpoints -----------------------------------------------------------------------------------


def test_checkpoints(tmp_path: Path, stored: Callable[..., StoredRun]) -> None:
    """Each is told with its score; best and latest are known; so are those removed again."""
    made = trainer(
        tmp_path,
        callbacks=[TrackwayCallback()],
        eval_strategy="epoch",
        save_strategy="epoch",
        metric_for_best_model="loss",
        save_total_limit=1,
        num_train_epochs=3,
    )
    made.train()
    run = stored()
    told = [event.fields for event in run.events("checkpoint")]
    saved = [each for each in told if not each["removed"]]
    losses = {row["step"]: row["eval_loss"] for row in made.state.log_history if "eval_loss" in row}
    # Older versions save the last step twice, at its end and at that of the epoch.
    assert {each["step"]: each["score"] for each in saved} == losses
    assert {each["metric"] for each in saved} == {"eval/loss"}
    assert all("latest" in each["aliases"] for each in saved)
    best = [each["path"] for each in saved if "best" in each["aliases"]][-1]
    assert best == made.state.best_model_checkpoint
    kept = {str(path) for path in tmp_path.glob("checkpoint-*")}
    assert {each["path"] for each in saved} - {e["path"] for e in told if e["removed"]} == kept
    (defined,) = run.events("define")
    assert (defined.fields["name"], defined.fields["goal"]) == ("eval/loss", "minimize")


def test_resume_is_the_same_run(
    tmp_path: Path, stored: Callable[..., StoredRun], root: Path
) -> None:
    """A training resumed from a checkpoint is the next attempt of the run that wrote it."""
    whole = trainer(tmp_path / "whole", callbacks=[TrackwayCallback()])
    whole.train()
    expected = rows_of(stored(), UNMEASURED)
    with pytest.raises(Boom):
        trainer(
            tmp_path / "out",
            callbacks=[TrackwayCallback()],
            kind=Failing,
            save_strategy="steps",
            save_steps=1,
        ).train()
    first = stored()
    assert trainer_state(tmp_path / "out" / "checkpoint-1") == {"run": first.id, "project": "p"}
    again = trainer(tmp_path / "out", callbacks=[TrackwayCallback()], save_strategy="epoch")
    again.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-1"))
    run = stored()
    assert len(tw.Api(root).runs("p")) == 2
    assert run.id == first.id
    assert [attempt.state for attempt in run.attempts] == ["failed", "finished"]
    assert rows_of(run, UNMEASURED) == expected
    assert weights(again.model) == weights(whole.model)


def test_resume_of_others(
    tmp_path: Path,
    begin: Callable[..., Any],
    stored: Callable[..., StoredRun],
    root: Path,
) -> None:
    """A checkpoint written without us is resumed and saved again; an open run is not left."""
    trainer(tmp_path, save_strategy="epoch", num_train_epochs=1).train()
    mine = begin()
    made = trainer(
        tmp_path,
        callbacks=[TrackwayCallback()],
        save_strategy="epoch",
        restore_callback_states_from_checkpoint=True,
    )
    made.train(resume_from_checkpoint=True)
    assert current.open_runs() == [mine]
    assert trainer_state(tmp_path / "checkpoint-6") == {"run": mine.id, "project": "p"}
    steps = [step for name, step, _ in rows_of(stored(mine)) if name == "train/loss"]
    assert steps == [4, 5, 6]
    mine.finish()
    other = begin()
    more = trainer(tmp_path, callbacks=[TrackwayCallback()], num_train_epochs=3)
    more.train(resume_from_checkpoint=True)
    assert len(stored(mine).attempts) == 1
    assert ("train/loss", 7) in [row[:2] for row in rows_of(stored(other))]


def trainer_state(checkpoint: Path) -> Any:
    """What the checkpoint says of the run."""
    state = json.loads((checkpoint / "trainer_state.json").read_text("utf-8"))
    return state["stateful_callbacks"]["trackway"]


# -- searches --------------------------------------------------------------------------------------


def test_search(
    tmp_path: Path, begin: Callable[..., Any], stored: Callable[..., StoredRun], root: Path
) -> None:
    """One run a trial, beside an open one: grouped, named, with the trial's parameters."""
    pytest.importorskip("optuna").logging.set_verbosity(50)
    rates = iter([0.01, 0.02])
    outer = begin()
    made = trainer(
        tmp_path,
        callbacks=[TrackwayCallback()],
        more={"model_init": model},
        save_strategy="epoch",
        num_train_epochs=1,
    )
    made.hyperparameter_search(
        lambda trial: {"learning_rate": trial.suggest_float("learning_rate", *2 * [next(rates)])},
        n_trials=2,
        backend="optuna",
        hp_name=lambda trial: f"trial-{trial.number}",
    )
    assert current.open_runs() == [outer]
    assert stored(outer).keys() == []
    runs = [run for run in tw.Api(root).runs("p") if run.id != outer.id]
    assert [run.name for run in runs] == ["trial-1", "trial-0"]
    assert [run.state for run in runs] == ["finished", "finished"]
    assert {run.group for run in runs} == {outer.id}
    for run, rate in zip(runs, (0.02, 0.01), strict=True):
        assert run.config["trial"] == {"learning_rate": rate}
        assert run.config["args"]["learning_rate"] == rate
        assert [s for name, s, _ in rows_of(run) if name == "train/loss"] == [1, 2, 3]
        assert [s for name, s, _ in rows_of(run) if name == "eval/loss"] == [3]
        (told,) = run.events("checkpoint")
        assert Path(told.fields["path"]) == tmp_path / run.name / "checkpoint-3"


# -- processes -------------------------------------------------------------------------------------


def test_two_processes(root: Path, tmp_path: Path) -> None:
    """Of two real processes the first records, by name, and the second creates nothing.

    In both, ours is imported before transformers.
    """
    script = tmp_path / "script.py"
    script.write_text(SCRIPT, "utf-8")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc_per_node", "2", str(script), str(tmp_path)),
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(tw.__file__).parents[1])},
        check=False,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    history = json.loads((tmp_path / "history0").read_text("utf-8"))
    assert (tmp_path / "history1").exists()
    (run,) = tw.Api(f"{root}0").runs("p")
    assert run.state == "finished"
    assert rows_of(run, UNMEASURED) == logged(history, UNMEASURED)
    assert {event.fields["step"] for event in run.events("checkpoint")} == {3}
    assert not Path(f"{root}1").exists()
    assert not root.exists()


SCRIPT = """
import json, os, pathlib, sys
assert "transformers" not in sys.modules
import trackway.integrations.huggingface
assert "transformers" not in sys.modules
from tests.integrations.huggingface.training import trainer

os.environ["TRACKWAY_DIR"] += os.environ["RANK"]
folder = pathlib.Path(sys.argv[1])
made = trainer(
    folder / "out",
    report_to="trackway",
    per_device_train_batch_size=2,
    num_train_epochs=1,
    eval_strategy="epoch",
    save_strategy="epoch",
)
made.train()
text = json.dumps(made.state.log_history)
(folder / ("history" + os.environ["RANK"])).write_text(text)
import torch
torch.distributed.destroy_process_group()
"""


# -- names, without the framework ------------------------------------------------------------------


def test_names() -> None:
    """A value's name says where it comes from, as users of the ``Trainer`` know it."""
    assert renamed({"loss": 1, "grad_norm": 2, "epoch": 3}) == {
        "train/loss": 1,
        "train/grad_norm": 2,
        "epoch": 3,
    }
    assert renamed({"eval_loss": 1, "eval_x_samples_per_second": 2, "epoch": 3}) == {
        "eval/loss": 1,
        "eval/x_samples_per_second": 2,
        "epoch": 3,
    }
    assert renamed({"held_loss": 1, "held_samples_per_second": 2, "other": 3}) == {
        "held/loss": 1,
        "held/samples_per_second": 2,
        "train/other": 3,
    }
    assert renamed({"train_loss": 1, "train_samples_per_second": 2}) == {
        "train/train_loss": 1,
        "train/train_samples_per_second": 2,
    }


def test_copies(begin: Callable[..., Any]) -> None:
    """A copy and a pickled one record into the run they were given."""
    mine = begin()
    hook = TrackwayCallback(mine, every=2)
    for other in (copy.deepcopy(hook), pickle.loads(pickle.dumps(hook))):
        assert other._handle.ensure()
        assert (other._handle.run or mine).id == mine.id
        assert other._handle.every == 2
