"""``autolog`` in hand-written loops: loss, learning rate, step time and gradient norm."""

from __future__ import annotations

import copy
import gc
import io
import math
import os
import pickle
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import trackway as tw
from tests.integrations.contract import Boom, rows_of
from trackway.api import StoredRun
from trackway.core import current
from trackway.integrations import _base

torch = pytest.importorskip("torch")
nn = torch.nn

pytestmark = pytest.mark.filterwarnings(
    "ignore:Detected call of `lr_scheduler.step:UserWarning",
    "ignore:.*CUDA is not available:UserWarning",
)

Stored = Callable[..., StoredRun]


@pytest.fixture(autouse=True)
def loops(quiet_runs: Path) -> Iterator[None]:
    """autolog for PyTorch alone."""
    torch.manual_seed(0)
    tw.autolog(only=["pytorch"])
    yield
    tw.autolog.disable()


def line(outputs: int = 1) -> Any:
    """A tiny model, the same each time."""
    torch.manual_seed(1)
    return nn.Linear(3, outputs)


def batch(seed: int = 2, size: int = 5) -> Any:
    """Inputs, the same for the same seed."""
    return torch.randn(size, 3, generator=torch.Generator().manual_seed(seed))


def norm_of(model: Any) -> float:
    """The norm of all its gradients."""
    grads = [p.grad.double().flatten() for p in model.parameters() if p.grad is not None]
    return float(torch.cat(grads).norm())


def loss_rows(run: StoredRun, name: str = "loss") -> list[Any]:
    """(step, value) of a metric."""
    metric = run.history(name)[name]
    return list(zip(metric.steps.tolist(), metric.values.tolist(), strict=True))


def train(steps: int = 4) -> tuple[Any, list[tuple[str, int, float]]]:
    """A hand-written loop; its model, and the rows that it should leave."""
    model = line()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    rows = []
    for step in range(1, steps + 1):
        optimizer.zero_grad()
        loss = model(batch(step)).square().mean()
        loss.backward()
        rows += [("loss", step, loss.item()), ("lr", step, optimizer.param_groups[0]["lr"])]
        if step == 1:
            rows.append(("gradients/norm", step, pytest.approx(norm_of(model), rel=1e-6)))
        optimizer.step()
        schedule.step()
    return model, sorted(rows, key=lambda row: row[:2])


def test_every_row(stored: Stored) -> None:
    """Loss, learning rate and norm are exactly the loop's, each at the optimizer's own step."""
    _, expected = train()
    assert rows_of(stored(), ("step_s",)) == expected
    times = loss_rows(stored(), "step_s")
    assert [step for step, _ in times] == [2, 3, 4]
    assert all(seconds > 0 for _, seconds in times)


def test_run_and_configuration(stored: Stored) -> None:
    """The run is opened at the first step, stays open, and says what the optimizer was."""
    assert current.open_runs() == []
    train()
    assert len(current.open_runs()) == 1
    config = stored().config["pytorch"]["optimizer"]
    assert config["class"] == "SGD"
    assert (config["lr"], config["momentum"]) == (0.5, 0.9)
    (told,) = stored().events("integrations")
    (item,) = told.fields["items"]
    assert (item["framework"], item["state"]) == ("pytorch", "patched")
    assert "torch.Tensor.backward" in item["points"]


def test_training_is_the_same() -> None:
    """The weights are the same to the bit with and without, and so is the random state."""
    with_, _ = train()
    state = torch.get_rng_state()
    tw.autolog.disable()
    without, _ = train()
    assert torch.equal(with_.weight, without.weight)
    assert torch.equal(state, torch.get_rng_state())


def test_current_run_is_joined(begin: Callable[..., Any], stored: Stored) -> None:
    """An open run is recorded into and left open; a later one from its begin on."""
    first = begin()
    _, expected = train()
    expected = [(f"loop/{name}", step, value) for name, step, value in expected]
    assert current.open_runs() == [first]
    assert rows_of(stored(first), ("loop/step_s",)) == expected
    with begin() as second:
        train()
    assert rows_of(stored(second), ("loop/step_s",)) == expected
    assert rows_of(stored(first), ("loop/step_s",)) == expected


def test_accumulation(stored: Stored) -> None:
    """The loss is the sum of what backward was called on: the function whose gradient was used."""
    model = line()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    expected = []
    for step in (1, 2):
        optimizer.zero_grad()
        whole = 0.0
        for part in range(3):
            loss = model(batch(10 * step + part)).square().mean() / 3
            loss.backward()
            whole += loss.item()
        expected.append((step, whole))
        optimizer.step()
    assert loss_rows(stored()) == expected


@pytest.mark.parametrize("to_none", [True, False])
def test_gan(stored: Stored, to_none: bool) -> None:
    """Each of two optimizers has its names, its steps, and the losses that reached its own."""
    generator, critic = line(3), line(1)
    first = torch.optim.SGD(critic.parameters(), lr=0.1)
    second = torch.optim.SGD(generator.parameters(), lr=0.2)
    losses: dict[str, list[Any]] = {"loss": [], "optimizer1/loss": []}
    for step in (1, 2, 3):
        critic.zero_grad(set_to_none=to_none)
        real = critic(batch(step)).mean()
        real.backward()
        made = generator(batch(step + 50))
        fake = -critic(made.detach()).mean()
        fake.backward()
        losses["loss"].append((step, real.item() + fake.item()))
        first.step()
        generator.zero_grad(set_to_none=to_none)
        loss = critic(made).mean()
        loss.backward()
        losses["optimizer1/loss"].append((step, loss.item()))
        second.step()
    run = stored()
    assert {name: loss_rows(run, name) for name in losses} == losses
    assert loss_rows(run, "optimizer1/lr") == [(step, 0.2) for step in (1, 2, 3)]
    assert set(run.config["pytorch"]) == {"optimizer", "optimizer1"}


def test_several_backwards(stored: Stored) -> None:
    """Called twice on one graph a loss counts twice, as its gradient does; with a factor, so."""
    model = line()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loss = model(batch()).square().mean()
    loss.backward(retain_graph=True)
    loss.backward(gradient=torch.tensor(0.5))
    optimizer.step()
    assert loss_rows(stored()) == [(1, loss.item() + 0.5 * loss.item())]


def test_no_scalar(stored: Stored) -> None:
    """Where backward is called on no scalar, or not at all, there is no loss, and all else is."""
    model = line(2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    out = model(batch())
    out.backward(gradient=torch.ones_like(out))
    optimizer.step()
    optimizer.step()
    run = stored()
    assert set(run.keys()) == {"lr", "step_s", "gradients/norm"}
    assert loss_rows(run, "lr") == [(1, 0.1), (2, 0.1)]


def test_failed_backward(stored: Stored) -> None:
    """A backward that raises does so as ever, and its loss is none."""
    model = line()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with torch.no_grad():
        loss = model(batch()).mean()
    with pytest.raises(RuntimeError, match="does not require grad"):
        loss.backward()
    good = model(batch()).mean()
    good.backward()
    optimizer.step()
    assert loss_rows(stored()) == [(1, good.item())]


def test_scaled_loss(stored: Stored) -> None:
    """Under a GradScaler the loss is the one that was scaled."""
    model = line()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    expected = []
    for step in (1, 2):
        optimizer.zero_grad()
        loss = model(batch(step)).square().mean()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        expected.append((step, loss.item()))
    assert loss_rows(stored()) == expected


def test_closure(stored: Stored) -> None:
    """LBFGS evaluates a closure many times: the loss is that of the last evaluation."""
    model = line()
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=4)
    seen: list[float] = []

    def closure() -> Any:
        optimizer.zero_grad()
        loss = model(batch()).square().mean()
        loss.backward()
        seen.append(loss.item())
        return loss

    optimizer.step(closure)
    assert len(seen) > 1
    assert loss_rows(stored()) == [(1, seen[-1])]


def test_optimizer_from_before(stored: Stored) -> None:
    """An optimizer made before autolog, or unpickled, has its loss from the first step on."""
    tw.autolog.disable()
    model = line()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    tw.autolog(only=["pytorch"])
    loss = model(batch()).mean()
    loss.backward()
    optimizer.step()
    assert loss_rows(stored()) == [(1, loss.item())]


def test_groups(stored: Stored) -> None:
    """Each group has its learning rate."""
    model = line()
    groups = [{"params": [model.weight], "lr": 0.1}, {"params": [model.bias], "lr": 0.2}]
    optimizer = torch.optim.SGD(groups)
    model(batch()).mean().backward()
    optimizer.step()
    assert loss_rows(stored(), "lr/0") == [(1, 0.1)]
    assert loss_rows(stored(), "lr/1") == [(1, 0.2)]


def test_nan_stays(stored: Stored) -> None:
    """A loss that is no number is recorded as such."""
    model = line()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    (model(batch()).mean() * math.nan).backward()
    optimizer.step()
    ((step, value),) = loss_rows(stored())
    assert step == 1
    assert math.isnan(value)


def test_silent_while_a_framework_trains(root: Path) -> None:
    """Nothing is recorded while an integration's training is under way."""
    training = _base._Training(_base.RunHandle("pytorch"), None)
    _base._under_way.append(training)
    try:
        train()
    finally:
        _base._under_way.remove(training)
    assert not root.exists()


def test_beside_watch(begin: Callable[..., Any], stored: Stored) -> None:
    """Of a watched optimizer only what ``watch`` does not record: every row is there once."""
    pytest.importorskip("trackway.integrations.pytorch._hooks")
    from trackway.integrations.pytorch import watch

    model = line()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with begin() as run:
        watch(model, optimizer, run=run)
        loss = model(batch()).mean()
        loss.backward()
        optimizer.step()
    for name in ("lr", "gradients/norm", "loop/loss"):
        metric = stored(run).history(name, repeats="all")[name]
        assert metric.steps.tolist() == [1], name
    assert not {"loop/lr", "loop/gradients/norm"} & set(stored(run).keys())


def test_other_ranks(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    """A rank other than zero creates nothing."""
    monkeypatch.setenv("RANK", "1")
    train()
    assert not root.exists()


def test_nothing_is_kept(stored: Stored) -> None:
    """Neither loss nor graph, model or optimizer live any longer than without."""
    model = line()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loss = model(batch()).mean()
    loss.backward()
    optimizer.step()
    seen = [weakref.ref(each) for each in (loss, model, optimizer, model.weight)]
    del loss, optimizer, model
    gc.collect()
    assert [reference() for reference in seen] == [None] * 4


def test_pickle_and_copy() -> None:
    """Model and optimizer can be pickled and copied, before and after they were recorded."""
    model = line()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(batch()).mean().backward()
    optimizer.step()
    for each in (model, optimizer, optimizer.state_dict()):
        torch.save(each, io.BytesIO())
        pickle.dumps(each)
        copy.deepcopy(each)


def test_disable(stored: Stored) -> None:
    """After disable() nothing more is recorded, also through a function taken before."""
    backward = torch.Tensor.backward
    model, expected = train(2)
    tw.autolog.disable()
    assert torch.Tensor.backward is not backward
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    backward(model(batch()).mean())
    optimizer.step()
    assert rows_of(stored(), ("step_s",)) == expected


def test_options(stored: Stored) -> None:
    """``every`` and ``prefix`` are those of the explicit objects."""
    tw.autolog(only=["pytorch"], pytorch={"every": 2, "prefix": "teacher"})
    _, expected = train()
    assert rows_of(stored(), ("teacher/step_s",)) == [
        (f"teacher/{name}", step, value)
        for name, step, value in expected
        if step % 2 == 0 or name == "gradients/norm"
    ]


@pytest.mark.swallows
def test_our_trouble_is_not_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of ours in a hook changes nothing but its count."""
    from trackway.integrations.pytorch import _loop

    tw.autolog.disable()
    without, _ = train()
    tw.autolog(only=["pytorch"])
    for name in ("before", "after", "stepped", "known"):
        monkeypatch.setattr(_loop.Loops, name, lambda *_, **__: 1 / 0)
    model, _ = train()
    assert torch.equal(model.weight, without.weight)
    status = next(each for each in tw.autolog.status() if each.framework == "pytorch")
    assert status.errors > 0
    assert "ZeroDivisionError" in str(status.error)


COMPILED = """
import sys, torch, torch._dynamo as dynamo, trackway as tw
if sys.argv[1] == "1":
    tw.autolog(only=["pytorch"])
def counts(which):
    dynamo.reset(); dynamo.utils.counters.clear(); torch.manual_seed(0)
    model = torch.nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x = torch.randn(5, 3)
    def whole():
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
    step = whole
    if which == "model":
        model = torch.compile(model, backend="aot_eager")
    elif which == "step":
        optimizer.step = torch.compile(optimizer.step, backend="aot_eager")
    else:
        step = torch.compile(whole, backend="aot_eager")
    for _ in range(5):
        step()
    stats = dynamo.utils.counters
    return stats["stats"]["unique_graphs"], sum(stats["graph_break"].values())
print([counts(which) for which in ("model", "step", "whole")])
"""


def test_compiled(stored: Stored) -> None:
    """A compiled model, optimizer or whole step has the same graphs and breaks as without."""
    said = []
    for on in ("0", "1"):
        environment = {**os.environ, "PYTHONPATH": str(Path(tw.__file__).parents[1])}
        words = [sys.executable, "-c", COMPILED, on]
        done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == 0, done.stderr
        said.append(done.stdout)
    assert said[0] == said[1]
    assert len(loss_rows(stored())) == 5


def test_program_that_fails(tmp_path: Path, stored: Stored) -> None:
    """A program ended by an exception leaves a failed run; its traceback is the program's."""
    code = (
        "import trackway as tw; tw.autolog(only=['pytorch']); import torch\n"
        "m = torch.nn.Linear(3, 1); o = torch.optim.SGD(m.parameters(), lr=0.1)\n"
        "m(torch.ones(2, 3)).sum().backward(); o.step(); raise ValueError('mine')\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(tw.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 1
    assert done.stderr.endswith("ValueError: mine\n")
    assert stored().state == "failed"


def test_users_exception_passes() -> None:
    """An exception raised in backward by the user's own hook passes unchanged."""
    model = line()
    loss = model(batch()).mean()

    def hook(gradient: Any) -> None:
        raise Boom

    model.weight.register_hook(hook)
    with pytest.raises(Boom):
        loss.backward()
