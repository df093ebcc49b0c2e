"""The Lightning logger and callback, with real trainings."""

from __future__ import annotations

import contextlib
import copy
import logging
import pickle
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import trackway as tw
from tests.integrations.contract import Boom, IntegrationContract, Row, rows_of
from tests.integrations.lightning._training import (
    Book,
    Net,
    fit,
    loader,
    net,
    pl,
    trainer,
    weights,
)
from trackway.api import StoredRun
from trackway.core import current
from trackway.integrations.lightning import TrackwayCallback, TrackwayLogger

pytestmark = [
    pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec.. is deprecated"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*Checkpoint directory .* exists and is not empty"),
    pytest.mark.filterwarnings("ignore:.*tensorboardX. has been removed as a dependency"),
    # Of the oldest versions.
    pytest.mark.filterwarnings("ignore:You are using `torch.load` with:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Detected KeyboardInterrupt:UserWarning"),
]

RATES = ("steps_per_s", "samples_per_s", "epoch_s")

Stored = Callable[..., StoredRun]


@pytest.fixture(autouse=True)
def _calm() -> None:
    """Lightning says on the terminal what it has found; nobody here asks."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)


def told(book: Book, *, rates: bool = True, every: int = 1) -> list[Row]:
    """The rows that have to be there for what Lightning gave to another logger."""
    rows: list[Row] = []
    arrived: dict[Any, int] = {}
    steps: dict[int, None] = {}
    for step, metrics in book.rows:
        assert step is not None
        kind = tuple(metrics)
        arrived[kind] = arrived.get(kind, -1) + 1
        if "train_loss_step" in metrics:
            steps[step] = None
        if arrived[kind] % every and "train_loss_step" in metrics:
            continue
        rows += [(name, step, value) for name, value in metrics.items()]
        if "epoch" in metrics:
            rows.append(("trainer/global_step", step, float(step + 1)))
    if rates:
        rows += [("lr-SGD", step, 0.1 * 0.5**step) for step in list(steps)[::every]]
    return sorted(rows, key=lambda row: row[:2])


@pytest.fixture(scope="module")
def book() -> Book:
    """What Lightning gives to a logger in the training of the contract."""
    found = Book()
    fit(found)
    return found


class TestLightning(IntegrationContract):
    framework = "lightning"
    explicit_name = "TrackwayLogger"
    unmeasured = RATES
    book: Book

    @pytest.fixture(autouse=True)
    def _book(self, book: Book) -> None:
        self.book = book

    def hook(self, **arguments: Any) -> Any:
        return TrackwayLogger(**arguments), TrackwayCallback()

    def train(self, hook: Any, *, fail: bool = False) -> bytes:
        class Failing(Net):
            def training_step(self, batch: Any, batch_idx: int) -> Any:
                if batch_idx == 1:
                    raise Boom
                return super().training_step(batch, batch_idx)

        model = net(Failing if fail else Net, extra=torch.relu)
        fit(*(hook or ()), model=model)
        return weights(model)

    def expected(self) -> list[Row]:
        return told(self.book)

    def expected_every_2(self) -> list[Row]:
        return told(self.book, every=2)

    def expected_config(self) -> dict[str, Any]:
        return {
            "lr": 0.1,
            "hidden": [1, 2],
            "lightning.max_epochs": 2,
            "lightning.precision": "32-true",
            "lightning.strategy": "SingleDeviceStrategy",
            "lightning.devices": 1,
            "lightning.accumulate_grad_batches": 1,
            "lightning.gradient_clip_val": None,
            "lightning.optimizers.SGD.lr": 0.1,
        }


def test_the_steps_are_as_lightning_gives_them(book: Book) -> None:
    """Single validation batches are on an axis of their own, where there is no epoch."""
    given = {(name, step) for step, metrics in book.rows for name in metrics}
    assert {step for name, step in given if name == "val_loss_step"} == {0, 1, 2, 3}
    assert {step for name, step in given if name == "val_loss_epoch"} == {2, 5}
    assert {step for name, step in given if name == "train_loss_step"} == set(range(6))


def test_logger_alone(book: Book, stored: Stored) -> None:
    """Without the callback everything is there but learning rates and pace."""
    fit(TrackwayLogger())
    assert rows_of(stored()) == told(book, rates=False)
    assert stored().state == "finished"
    assert stored().config["lightning"]["max_epochs"] == 2
    assert stored().config["lr"] == 0.1


def test_callback_alone(stored: Stored) -> None:
    """Without the logger the callback has a run of its own, with learning rates and pace."""
    fit(TrackwayCallback())
    assert rows_of(stored(), RATES) == [("lr-SGD", step, 0.1 * 0.5**step) for step in range(6)]
    assert [step for name, step, _ in rows_of(stored()) if name == "epoch_s"] == [2, 5]
    assert stored().state == "finished"
    with pytest.raises(Boom):
        fit(TrackwayCallback(), model=net(Broken, error=Boom()))
    assert stored().state == "failed"


class Broken(Net):
    """Raises in its training."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        raise self.error


@pytest.mark.parametrize("with_callback", [True, False])
def test_an_exception_is_told(stored: Stored, with_callback: bool) -> None:
    """A run that an exception ends says which, also without the callback."""
    hooks = [TrackwayLogger(), TrackwayCallback()] if with_callback else [TrackwayLogger()]
    with pytest.raises(Boom, match="so it is"):
        fit(*hooks, model=net(Broken, error=Boom("so it is")))
    assert stored().state == "failed"
    told = stored().events("end")[-1].fields["exception"]
    assert told["message"] == "so it is"
    assert told["type"].endswith("Boom")
    assert current.open_runs() == []


def test_interrupt(stored: Stored) -> None:
    """Ctrl-C ends the run as interrupted, and the program as Lightning ends it."""
    with contextlib.suppress(SystemExit):  # which versions before 2.4 do not raise
        fit(TrackwayLogger(), model=net(Broken, error=KeyboardInterrupt()))
    assert stored().state == "interrupted"


def test_callers_run_stays_open_after_an_exception(
    begin: Callable[..., Any], stored: Stored
) -> None:
    """A run that was passed in stays open whatever happens to the training."""
    mine = begin()
    with pytest.raises(Boom):
        fit(TrackwayLogger(mine), TrackwayCallback(), model=net(Broken, error=Boom()))
    assert current.open_runs() == [mine]


def test_a_logger_is_one_run(root: Path, stored: Stored) -> None:
    """Fit, test, validation and another fit with one logger are attempts of one run."""
    logger = TrackwayLogger()
    planned = logger.version
    model = net()
    training = fit(logger, TrackwayCallback(), model=model)
    assert stored().id == planned == logger.version
    assert stored().state == "finished"
    training.test(model, loader(), verbose=False)
    assert [attempt.number for attempt in stored().attempts] == [1, 2]
    assert stored().history("test_loss")["test_loss"].steps.tolist() == [6]
    assert stored().history("train_loss_epoch")["train_loss_epoch"].steps.tolist() == [2, 5]
    training.validate(model, loader(), verbose=False)
    fit(logger, TrackwayCallback(), max_epochs=1)
    assert [run.id for run in tw.Api(root).runs("p")] == [planned]
    assert len(stored().attempts) == 4
    assert stored().state == "finished"
    assert current.open_runs() == []


def test_step_of_a_validation_alone(stored: Stored) -> None:
    """A validation after a training knows how far that was, though it logs at its own step."""
    model = net()
    training = fit(TrackwayLogger(), model=model)
    training.validate(model, loader(), verbose=False)
    found = stored().history(["val_loss_epoch", "trainer/global_step"])
    assert found["val_loss_epoch"].steps.tolist()[-1] == 6
    assert found["trainer/global_step"].values.tolist()[-1] == 6


@pytest.mark.filterwarnings("ignore:.*callbacks used to create the checkpoint need to be provided")
@pytest.mark.parametrize("with_callback", [True, False])
def test_validation_of_a_checkpoint(tmp_path: Path, stored: Stored, with_callback: bool) -> None:
    """A Trainer that has trained nothing tells step and epoch of the checkpoint it evaluates."""
    saved = checkpointing(tmp_path / "c")
    fit(saved, enable_checkpointing=True)
    hooks = [TrackwayLogger(), *([TrackwayCallback()] if with_callback else [])]
    fresh = trainer(*hooks)
    fresh.validate(net(), loader(2), ckpt_path=saved.last_model_path, verbose=False)
    assert fresh.global_step == 0
    rows = rows_of(stored(), ("val_",))
    assert rows == [("epoch", 0, 1.0), ("trainer/global_step", 0, 6.0)]
    fresh.test(net(), loader(2), verbose=False)
    last = stored().history("trainer/global_step", repeats="all")["trainer/global_step"]
    assert last.values.tolist()[-1] == 0, "it is not that of the checkpoint any more"


def test_every_thins_training_rows(stored: Stored) -> None:
    """``every`` leaves out rows of training batches, and none of evaluations and epochs."""
    logger = TrackwayLogger(every=4)
    training = fit(logger, TrackwayCallback())
    training.test(net(), loader(), verbose=False)
    found = {
        name: [step for n, step, _ in rows_of(stored()) if n == name]
        for name in (
            "train_loss_step",
            "lr-SGD",
            "val_loss_step",
            "val_loss_epoch",
            "train_loss_epoch",
            "epoch_s",
            "test_loss",
        )
    }
    assert found == {
        "train_loss_step": [0, 4],
        "lr-SGD": [0, 4],
        "val_loss_step": [0, 1, 2, 3],
        "val_loss_epoch": [2, 5],
        "train_loss_epoch": [2, 5],
        "epoch_s": [2, 5],
        "test_loss": [6],
    }


def test_prediction_opens_no_run(root: Path) -> None:
    """Where there is nothing to record no run is opened."""
    training = trainer(TrackwayLogger(), TrackwayCallback())
    training.predict(net(), loader())
    assert not root.exists()


def test_fast_dev_run_opens_no_run(root: Path) -> None:
    """Lightning takes its loggers out of a ``fast_dev_run``; neither is there a run of it."""
    fit(TrackwayLogger(), TrackwayCallback(), fast_dev_run=True)
    tw.autolog(only=["lightning"])
    fit(fast_dev_run=True)
    assert not root.exists()


@pytest.mark.parametrize("tune", ["lr_find", "scale_batch_size"])
@pytest.mark.filterwarnings("ignore:.*weights_only. was not set")
def test_tuner_opens_no_run(root: Path, tune: str) -> None:
    """What a tuner tries is not recorded."""
    from lightning.pytorch.tuner import Tuner

    class Data(pl.LightningDataModule):  # type: ignore[misc,unused-ignore]
        batch_size = 1

        def train_dataloader(self) -> Any:
            return loader()

        val_dataloader = train_dataloader

    training = trainer(TrackwayLogger(), TrackwayCallback())
    tuner = Tuner(training)
    if tune == "lr_find":
        tuner.lr_find(net(), loader(), loader(2), num_training=3, update_attr=False)
    else:
        tuner.scale_batch_size(net(), datamodule=Data(), max_trials=1, steps_per_trial=1)
    assert not root.exists()


def test_nothing_happens_before_a_training(root: Path) -> None:
    """Making a logger, a callback and a Trainer opens nothing, nor does asking for names."""
    logger = TrackwayLogger()
    training = trainer(logger, TrackwayCallback())
    assert logger.name == "p"
    assert logger.save_dir == str(root)
    assert len(logger.version) > 4
    assert logger.version == logger.version == copy.deepcopy(logger).version
    assert training.log_dir == str(root)
    assert not root.exists()
    assert current.open_runs() == []


def test_experiment_is_the_run(stored: Stored) -> None:
    """``experiment`` is the run, open for whatever else is to be recorded."""
    logger = TrackwayLogger()
    logger.experiment.log({"before": 1.0}, step=3)
    run = logger.experiment
    assert run.id == logger.version
    seen = []

    class Asking(Net):
        def on_train_start(self) -> None:
            seen.append(self.logger.experiment)

    fit(logger, model=net(Asking))
    assert seen == [run]
    assert current.open_runs() == []
    assert ("before", 3, 1.0) in rows_of(stored())
    assert len(stored().attempts) == 1


def test_hyperparameters_of_any_kind(stored: Stored) -> None:
    """Hyperparameters are at the top of the config, whatever they are; metrics in the summary."""
    logger = TrackwayLogger()
    logger.log_hyperparams({"lr": 1, "odd": torch.nn.Linear(2, 2), "call": print, 3: object()})
    logger.log_hyperparams(Namespace(depth=3), {"hp_metric": 0.25})
    logger.log_hyperparams({"width": 4}, metrics={"hp/other": -1.0})
    logger.log_hyperparams(object())
    logger.log_hyperparams({"secret": 1}, None, 7, unknown=8)
    logger.finalize("success")
    config = stored().config
    assert (config["lr"], config["depth"], config["width"]) == (1, 3, 4)
    assert {"odd", "call", "3", "hparams", "secret"} <= set(config)
    assert stored().summary["hp_metric"] == 0.25
    assert stored().summary["hp/other"] == -1.0
    assert stored().state == "finished"


def test_save_hyperparameters_with_objects(stored: Stored) -> None:
    """``save_hyperparameters`` with functions, modules and long texts records what it can."""
    extra = {"act": torch.relu, "module": torch.nn.ReLU(), "text": "x" * 10_000, "l": [1, (2,)]}
    fit(TrackwayLogger(), model=net(extra=extra), max_epochs=1)
    assert stored().config["extra"]["l"] == [1, [2]]
    assert len(stored().config["extra"]["text"]) == 10_000


def test_model(stored: Stored) -> None:
    """What the model is made of is recorded once."""
    fit(TrackwayLogger(), TrackwayCallback())
    (event,) = stored().events("model")
    about = event.fields["about"]
    assert about["class"] == "Net"
    assert (about["parameters"], about["trainable"], about["bytes"]) == (5, 5, 20)
    assert about["dtypes"] == {"float32": 5}
    assert about["tree"] == [{"path": "layer", "class": "Linear", "parameters": 5, "trainable": 5}]


def checkpointing(folder: Path, **arguments: Any) -> Any:
    """A ``ModelCheckpoint`` that keeps the best of all epochs and the last of those kept."""
    from lightning.pytorch.callbacks import ModelCheckpoint

    given = {"monitor": "train_loss_epoch", "mode": "min", "save_last": True}
    return ModelCheckpoint(dirpath=folder, filename="{epoch}", **{**given, **arguments})


def test_checkpoints(tmp_path: Path, stored: Stored) -> None:
    """Each checkpoint is recorded with score and aliases; one that is deleted, as removed."""
    saved = checkpointing(tmp_path / "c", save_last=False)
    fit(TrackwayLogger(), TrackwayCallback(), saved, enable_checkpointing=True, max_epochs=3)
    loss = stored().history("train_loss_epoch")["train_loss_epoch"].values.tolist()
    assert loss == sorted(loss, reverse=True), "each epoch is better than the one before"
    events = [event.fields for event in stored().events("checkpoint")]
    assert [
        (Path(e["path"]).name, e["step"], e["epoch"], e["aliases"], e["removed"]) for e in events
    ] == [
        ("epoch=0.ckpt", 3, 0, ["latest", "best"], False),
        ("epoch=1.ckpt", 6, 1, ["latest", "best"], False),
        ("epoch=0.ckpt", 3, 0, [], True),
        ("epoch=2.ckpt", 9, 2, ["latest", "best"], False),
        ("epoch=1.ckpt", 6, 1, [], True),
    ]
    kept = [event for event in events if not event["removed"]]
    assert [event["score"] for event in kept] == loss
    assert {event["metric"] for event in events} == {"train_loss_epoch"}
    assert all(event["bytes"] for event in kept)
    assert stored().summary["best_model_path"] == saved.best_model_path
    assert stored().summary["best_model_score"] == loss[-1]


def test_best_and_latest_are_told_apart(tmp_path: Path, stored: Stored) -> None:
    """The best stays the first where later ones are worse; the last is the latest."""
    saved = checkpointing(tmp_path / "c", mode="max", save_top_k=2)
    fit(TrackwayLogger(), TrackwayCallback(), saved, enable_checkpointing=True)
    events = [event.fields for event in stored().events("checkpoint")]
    assert [(Path(e["path"]).name, e["aliases"]) for e in events] == [
        ("epoch=0.ckpt", ["latest", "best"]),
        ("last.ckpt", ["latest"]),
        ("epoch=1.ckpt", ["latest"]),
        ("last.ckpt", ["latest"]),
    ]
    assert Path(stored().summary["best_model_path"]).name == "epoch=0.ckpt"
    assert Path(stored().summary["last_model_path"]).name == "last.ckpt"


def best_of(run: StoredRun) -> set[str]:
    """The names of the files that are told as the best."""
    events = [event.fields for event in run.events("checkpoint")]
    return {Path(each["path"]).name for each in events if "best" in each["aliases"]}


def test_best_is_of_a_monitor(tmp_path: Path, stored: Stored) -> None:
    """Of several callbacks the one without a monitor has no best, and each has its own score."""
    saved = checkpointing(tmp_path / "a", mode="max")
    every = checkpointing(tmp_path / "b", monitor=None, save_last=False, save_top_k=-1)
    every.filename = "all-{epoch}"
    other = checkpointing(tmp_path / "c", monitor="val_loss_epoch", save_last=False)
    other.filename = "val-{epoch}"
    fit(TrackwayLogger(), TrackwayCallback(), every, saved, other, enable_checkpointing=True)
    run = stored()
    assert best_of(run) == {"epoch=0.ckpt", "val-epoch=0.ckpt", "val-epoch=1.ckpt"}
    summary = run.summary
    assert summary["best_model_path"] == saved.best_model_path
    assert summary["best_model_score"] == saved.best_model_score.item()
    assert summary["best_model_path/val_loss_epoch"] == other.best_model_path
    assert summary["best_model_score/val_loss_epoch"] == other.best_model_score.item()
    assert summary["last_model_path"] == saved.last_model_path


def test_nothing_goes_from_run_to_run(
    tmp_path: Path, begin: Callable[..., Any], stored: Stored
) -> None:
    """One logger in one current run after another tells each all, and nothing of the other's."""
    logger = TrackwayLogger()
    runs = []
    for number in range(2):
        runs.append(begin())
        saved = checkpointing(tmp_path / str(number), save_last=False)
        hooks = [saved] if number == 0 else []
        fit(logger, *hooks, max_epochs=1, enable_checkpointing=bool(hooks))
        runs[-1].finish()
        if hooks:
            Path(saved.best_model_path).unlink()
    first, second = (stored(run) for run in runs)
    assert first.config["lightning"] == second.config["lightning"]
    assert [len(run.events("model")) for run in (first, second)] == [1, 1]
    assert [len(run.events("checkpoint")) for run in (first, second)] == [1, 0]
    assert "best_model_path" in first.summary
    assert "best_model_path" not in second.summary


def test_root_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    """Checkpoints go where the run goes if its root cannot be written."""
    file = tmp_path / "file"
    file.write_text("")
    monkeypatch.setenv("TRACKWAY_DIR", str(file / "runs"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    logger = TrackwayLogger()
    training = fit(logger, TrackwayCallback(), max_epochs=1, enable_checkpointing=True)
    (elsewhere,) = tmp_path.glob("trackway-*")
    (run,) = tw.Api(elsewhere).runs("p")
    assert (run.id, run.state) == (logger.version, "finished")
    best = Path(training.checkpoint_callback.best_model_path)
    assert best.parent == run.path / "checkpoints"
    assert best.exists()


def test_nowhere_to_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    """Where there is no folder for runs at all, files go where Lightning puts them without us."""
    file = tmp_path / "file"
    file.write_text("")
    monkeypatch.setenv("TRACKWAY_DIR", str(file / "runs"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("trackway.integrations.lightning._processes._user", lambda: "none")
    monkeypatch.setattr("trackway.core.init._user", lambda: "none")
    (tmp_path / "trackway-none").write_text("")
    logger = TrackwayLogger()
    assert logger.save_dir is None
    training = fit(logger, max_epochs=1, enable_checkpointing=True, default_root_dir=tmp_path)
    best = Path(training.checkpoint_callback.best_model_path)
    assert best.is_relative_to(tmp_path / "p" / logger.version)
    assert best.exists()


def test_checkpoints_go_into_the_runs_folder(root: Path, stored: Stored) -> None:
    """Without a ``dirpath``, checkpoints are in the folder of the run that they belong to."""
    training = fit(TrackwayLogger(), enable_checkpointing=True)
    best = Path(training.checkpoint_callback.best_model_path)
    assert best.parent == stored().path / "checkpoints"
    assert [run.id for run in tw.Api(root).runs("p")] == [stored().id]


def resume(saved: Any, *hooks: Any) -> None:
    """Go on from the last checkpoint with new objects, for one epoch more."""
    again = checkpointing(Path(saved.dirpath))
    path = saved.last_model_path
    fit(*hooks, again, ckpt_path=path, enable_checkpointing=True, max_epochs=3)


def test_resume_goes_on_with_the_run(tmp_path: Path, root: Path, stored: Stored) -> None:
    """``fit(ckpt_path=...)`` goes on with the run that the checkpoint was written by."""
    saved = checkpointing(tmp_path / "c")
    fit(TrackwayLogger(), TrackwayCallback(), saved, enable_checkpointing=True)
    first = stored()
    resume(saved, TrackwayLogger(), TrackwayCallback())
    assert [run.id for run in tw.Api(root).runs("p")] == [first.id]
    assert [attempt.number for attempt in stored().attempts] == [1, 2]
    steps = stored().history("train_loss_step")["train_loss_step"].steps.tolist()
    assert steps == list(range(9))
    assert stored().config["lightning"]["max_epochs"] == 3


def test_a_checkpoint_needs_no_trackway(tmp_path: Path, root: Path) -> None:
    """A checkpoint can be loaded without us, without a warning, and by weights alone."""
    saved = checkpointing(tmp_path / "c")
    fit(TrackwayLogger(), TrackwayCallback(), saved, enable_checkpointing=True)
    found = torch.load(saved.last_model_path, weights_only=True)
    assert set(found["trackway"]) == {"project", "id"}
    assert not any("Trackway" in str(key) for key in found["callbacks"])
    resume(saved)


def test_resume_into_a_given_run(tmp_path: Path, begin: Callable[..., Any], stored: Stored) -> None:
    """A run that was passed in, or is the current one, wins over that of the checkpoint."""
    saved = checkpointing(tmp_path / "c")
    fit(TrackwayLogger(), TrackwayCallback(), saved, enable_checkpointing=True)
    mine = begin()
    resume(saved, TrackwayLogger(), TrackwayCallback())
    steps = stored(mine).history("train_loss_step")["train_loss_step"].steps.tolist()
    assert steps == [6, 7, 8]


def test_other_loggers_are_beside(book: Book, stored: Stored) -> None:
    """Another logger gets what it gets without ours."""
    beside = Book()
    fit(beside, TrackwayLogger(), TrackwayCallback())
    assert beside.rows == book.rows
    assert rows_of(stored(), RATES) == told(book)


def test_log_dict_and_sanity_check(stored: Stored) -> None:
    """What ``log_dict`` logs is there; the sanity check before the training is not."""

    class Dict(Net):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.log_dict({"val/a": 1.0, "val/b": torch.tensor(float("nan"))})

    fit(TrackwayLogger(), model=net(Dict), max_epochs=1, num_sanity_val_steps=2)
    found: list[Any] = [row for row in rows_of(stored()) if row[0].startswith("val/")]
    assert found == [
        ("val/a", 2, 1.0),
        ("val/b", 2, None),
    ]


def test_several_optimizers_by_hand(stored: Stored) -> None:
    """With manual optimization each optimizer's learning rates are there, by group."""

    class Two(Net):
        automatic_optimization = False

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            for optimizer in self.optimizers():
                optimizer.zero_grad()
                self.manual_backward(self.loss(batch))
                optimizer.step()
            self.log("loss", 1.0)

        def configure_optimizers(self) -> Any:
            groups: Any = [
                {"params": [self.layer.weight]},
                {"params": [self.layer.bias], "lr": 0.5},
            ]
            return [
                torch.optim.SGD(groups, lr=0.25),
                torch.optim.SGD(self.parameters(), lr=0.125),
                torch.optim.Adam(self.parameters(), lr=0.0625, betas=(0.5, 0.75)),
            ]

    fit(TrackwayLogger(), TrackwayCallback(), model=net(Two), max_epochs=1)
    rates = {row[0]: row[2] for row in rows_of(stored()) if row[1] == 2 and row[0][:2] == "lr"}
    assert rates == {
        "lr-SGD/pg1": 0.25,
        "lr-SGD/pg2": 0.5,
        "lr-SGD-1": 0.125,
        "lr-Adam": 0.0625,
    }
    steps = stored().history("trainer/global_step")["trainer/global_step"]
    assert steps.values.tolist() == [3, 6, 9]
    told = stored().config["lightning"]["optimizers"]
    assert told["Adam"]["betas"] == [0.5, 0.75]
    assert told["SGD"]["groups"] == 2


def test_accumulation(stored: Stored) -> None:
    """With accumulation a row is there for each step of the optimizer, not each batch."""
    fit(TrackwayLogger(), TrackwayCallback(), accumulate_grad_batches=2, max_epochs=1)
    assert stored().history("lr-SGD")["lr-SGD"].steps.tolist() == [0, 1]
    assert stored().history("train_loss_step")["train_loss_step"].steps.tolist() == [0, 1]
    assert stored().config["lightning"]["accumulate_grad_batches"] == 2


def test_learning_rate_monitor(stored: Stored) -> None:
    """Where Lightning's own monitor logs learning rates ours does not, and names are the same."""
    from lightning.pytorch.callbacks import LearningRateMonitor

    fit(TrackwayLogger(), TrackwayCallback(), LearningRateMonitor())
    found = stored().history("lr-SGD", repeats="all")["lr-SGD"]
    assert found.steps.tolist() == list(range(6))


def test_pace(stored: Stored) -> None:
    """Steps and samples a second fit each other; the first interval has none."""
    fit(TrackwayLogger(), TrackwayCallback())
    found = stored().history(["steps_per_s", "samples_per_s"])
    assert found["steps_per_s"].steps.tolist() == [1, 2, 3, 4, 5]
    for steps, samples in zip(
        found["steps_per_s"].values, found["samples_per_s"].values, strict=True
    ):
        assert samples == pytest.approx(2 * steps)


WATCH = {"every": 1, "histograms": False, "budget": 1.0}


def test_watch(stored: Stored) -> None:
    """``watch`` reads the gradients of the model that is fitted, until the fit ends."""
    model = net()
    training = fit(TrackwayLogger(watch=WATCH, prefix="a"), TrackwayCallback(), model=model)
    assert stored().history("a/gradients/norm")["a/gradients/norm"].steps.tolist() == [*range(1, 7)]
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    training.test(model, loader(), verbose=False)
    assert stored().history("a/gradients/norm")["a/gradients/norm"].steps.tolist() == [*range(1, 7)]


@pytest.mark.parametrize("by_logger", [True, False])
def test_watch_after_resume(
    tmp_path: Path, begin: Callable[..., Any], stored: Stored, by_logger: bool
) -> None:
    """Where a training goes on, so do the steps of what is watched."""
    saved = checkpointing(tmp_path / "c")
    fit(saved, enable_checkpointing=True)
    mine = begin()
    if by_logger:
        resume(saved, TrackwayLogger(watch=WATCH), TrackwayCallback())
    else:
        resume(saved, TrackwayCallback(watch=WATCH))
    mine.flush()
    found = stored(mine).history("gradients/norm")["gradients/norm"]
    assert found.steps.tolist() == [7, 8, 9]


def test_fabric(stored: Stored) -> None:
    """A ``Fabric`` logs through the logger, with its steps or without."""
    from lightning import Fabric

    logger = TrackwayLogger()
    fabric = Fabric(accelerator="cpu", loggers=[logger])
    fabric.launch()
    fabric.log_dict({"a": 1.0, "b": torch.tensor(2.0)}, step=5)
    fabric.log("a", 3.0)
    assert [run.id for run in current.open_runs()] == [logger.version]
    logger.finalize("success")
    assert rows_of(stored()) == [("a", 5, 1.0), ("a", 6, 3.0), ("b", 5, 2.0)]
    assert stored().state == "finished"


def test_pickled_before_a_run(root: Path, stored: Stored) -> None:
    """A logger and a callback that are sent elsewhere record into the run that was planned."""
    logger = TrackwayLogger()
    copies = pickle.loads(pickle.dumps((logger, TrackwayCallback())))
    assert not root.exists()
    fit(*copies)
    assert stored().id == logger.version


def test_deepcopied_in_use(stored: Stored) -> None:
    """A logger that was used, and its Trainer's model, can be copied."""
    logger = TrackwayLogger()
    seen = []

    class Copying(Net):
        def on_train_epoch_end(self) -> None:
            seen.append(copy.deepcopy(self.trainer.loggers[0]).version)
            seen.append(pickle.loads(pickle.dumps(self.trainer.loggers[0])).version)

    fit(logger, TrackwayCallback(), model=net(Copying), max_epochs=1)
    assert seen == [logger.version] * 2


def test_both_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """The classes are of every package that was loaded, and of none else."""
    from trackway.integrations.lightning import _hooks

    assert "lightning.pytorch" in _hooks._loaded()
    monkeypatch.setitem(sys.modules, "pytorch_lightning", None)
    assert _hooks._loaded() == ["lightning.pytorch"]


# -- autolog ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("logger", [True, None])
def test_autolog_keeps_the_default_logger(
    tmp_path: Path, logger: bool | None, stored: Stored, book: Book
) -> None:
    """Where Lightning would make its own logger, it does, and files go where they would."""
    tw.autolog(only=["lightning"])
    training = fit(logger=logger, default_root_dir=tmp_path, enable_checkpointing=True)
    assert [type(each).__name__ for each in training.loggers] == ["CSVLogger", "TrackwayLogger"]
    assert training.log_dir == str(tmp_path / "lightning_logs" / "version_0")
    assert (tmp_path / "lightning_logs/version_0/metrics.csv").exists()
    assert rows_of(stored(), RATES) == told(book)


def test_autolog_without_a_logger(tmp_path: Path, stored: Stored) -> None:
    """With ``logger=False`` it is recorded all the same, and files go where they went."""
    tw.autolog(only=["lightning"])
    training = fit(default_root_dir=tmp_path, enable_checkpointing=True)
    best = Path(training.checkpoint_callback.best_model_path)
    assert best.parent == tmp_path / "checkpoints"
    assert training.log_dir == str(tmp_path)
    assert stored().state == "finished"


def test_autolog_leaves_the_users_lists_alone(root: Path) -> None:
    """Loggers and callbacks that were passed as lists stay as they were; ours stand beside."""
    from lightning.pytorch.callbacks import Timer

    loggers, callbacks = [Book()], [Timer()]
    tw.autolog(only=["lightning"], lightning={"every": 2})
    training = trainer(logger=loggers, callbacks=callbacks)
    assert [type(each).__name__ for each in loggers] == ["Book"]
    assert [type(each).__name__ for each in callbacks] == ["Timer"]
    assert [type(each).__name__ for each in training.loggers] == ["Book", "TrackwayLogger"]
    assert training.loggers[1]._session.handle.every == 2
    assert [type(each).__name__ for each in training.callbacks[:2]] == ["TrackwayCallback", "Timer"]
    single = trainer(logger=Book(), callbacks=Timer())
    assert [type(each).__name__ for each in single.loggers] == ["Book", "TrackwayLogger"]


def test_autolog_leaves_barebones_alone(root: Path) -> None:
    """A Trainer without anything gets nothing."""
    tw.autolog(only=["lightning"])
    training = pl.Trainer(barebones=True, max_epochs=1, accelerator="cpu")
    assert training.loggers == []
    assert "TrackwayCallback" not in {type(each).__name__ for each in training.callbacks}


def test_autolog_fit_and_test_are_one_run(root: Path, stored: Stored) -> None:
    """What one Trainer does is one run; another Trainer is another run."""
    tw.autolog(only=["lightning"])
    model = net()
    training = fit(model=model)
    training.test(model, loader(), verbose=False)
    fit()
    assert [len(run.attempts) for run in tw.Api(root).runs("p")] == [1, 2]


def test_evaluation_leaves_the_configuration(root: Path) -> None:
    """A test after the training does not tell of learning rates as a schedule has left them."""
    model, logger = net(), TrackwayLogger()
    used = trainer(logger, TrackwayCallback())
    used.fit(model, loader(), loader(2))
    rates = [group["lr"] for group in used.optimizers[0].param_groups]
    assert rates != [0.1]
    before = tw.Api(root).runs("p")[0].config
    used.test(model, loader(2))
    after = tw.Api(root).runs("p")[0].config
    assert before["lightning"]["optimizers"]["SGD"]["lr"] == 0.1
    assert after == before
