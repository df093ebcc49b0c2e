"""``autolog`` in hand-written loops: which loss belongs to a step, where it is not plain."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import trackway as tw
from trackway.api import StoredRun

torch = pytest.importorskip("torch")
nn = torch.nn

pytestmark = pytest.mark.filterwarnings("ignore:.*CUDA is not available:UserWarning")

Stored = Callable[..., StoredRun]


@pytest.fixture(autouse=True)
def loops(quiet_runs: Path) -> Iterator[None]:
    """autolog for PyTorch alone."""
    torch.manual_seed(0)
    tw.autolog(only=["pytorch"])
    yield
    tw.autolog.disable()


def rows(run: StoredRun, name: str = "loss") -> list[Any]:
    """(step, value) of a metric, every arrival."""
    metric = run.history(name, repeats="all")[name]
    return list(zip(metric.steps.tolist(), metric.values.tolist(), strict=True))


def made() -> tuple[Any, Any]:
    """A tiny model and its optimizer."""
    model = nn.Linear(3, 1)
    return model, torch.optim.SGD(model.parameters(), lr=0.1)


def loss_of(model: Any, seed: int) -> Any:
    """A loss."""
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(seed))
    return model(x).square().mean()


@pytest.mark.parametrize("sums", [False, True])
def test_scaled_and_worked_with(stored: Stored, sums: bool) -> None:
    """What stands between the scaled loss and backward changes nothing: no scale is recorded."""
    model, optimizer = made()
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    expected = []
    for step in (1, 2):
        optimizer.zero_grad()
        whole = 0.0
        for part in range(2):
            one, two = (loss_of(model, 10 * step + part + k) for k in (0, 5))
            if sums:
                (scaler.scale(one) + scaler.scale(two)).backward()
                whole += (one + two).item()
            else:
                (scaler.scale(one) / 2).backward()
                whole += one.item() / 2
        scaler.step(optimizer)
        scaler.update()
        expected.append((step, pytest.approx(whole, rel=1e-6)))
    assert rows(stored()) == expected


def test_scaled_beside_plain(stored: Stored) -> None:
    """Two optimizers: one under a GradScaler whose step was made before, the other without."""
    model, optimizer = made()
    other, second = made()
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    a, b = loss_of(model, 1), loss_of(other, 2)
    late = scaler.scale(b) / 2
    scaler.scale(a).backward()
    scaler.step(optimizer)
    late.backward()
    second.step()
    third = loss_of(model, 3)
    optimizer.zero_grad()
    third.backward()
    optimizer.step()
    assert rows(stored()) == [(1, a.item()), (2, third.item())]
    assert rows(stored(), "optimizer1/loss") == [(1, pytest.approx(b.item() / 2))]


def test_gradients_changed_in_between(stored: Stored) -> None:
    """Clipped after every part, the gradient still is that of all parts."""
    model, optimizer = made()
    expected = []
    for step in (1, 2):
        optimizer.zero_grad()
        whole = 0.0
        for part in range(3):
            loss = loss_of(model, 10 * step + part) / 3
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.01)
            whole += loss.item()
        optimizer.step()
        expected.append((step, whole))
    assert rows(stored()) == expected


@pytest.mark.parametrize("owner", ["optimizer", "model"])
@pytest.mark.parametrize("to_none", [True, False])
def test_cleared_without_a_step(stored: Stored, owner: str, to_none: bool) -> None:
    """Gradients that were cleared before any step have no part in the next one."""
    model, optimizer = made()
    loss_of(model, 1).backward()
    (model if owner == "model" else optimizer).zero_grad(set_to_none=to_none)
    loss = loss_of(model, 2)
    loss.backward()
    optimizer.step()
    assert rows(stored()) == [(1, loss.item())]


class Ahead(torch.optim.Optimizer):  # type: ignore[name-defined]
    """An optimizer that has another one make its steps."""

    def __init__(self, base: Any) -> None:
        self.base = base
        super().__init__([p for g in base.param_groups for p in g["params"]], {"lr": 0.1})
        self.param_groups = base.param_groups

    def step(self, closure: Any = None) -> Any:
        """A step of the other one."""
        return self.base.step(closure)


def test_optimizer_in_an_optimizer(stored: Stored) -> None:
    """One step inside of another, of the same parameters, is one step, with its loss."""
    model, base = made()
    outer = Ahead(base)
    expected = []
    for step in (1, 2):
        outer.zero_grad()
        loss = loss_of(model, step)
        loss.backward()
        outer.step()
        expected.append((step, loss.item()))
    assert rows(stored()) == expected
    assert set(stored().keys()) == {"loss", "lr", "step_s", "gradients/norm"}
