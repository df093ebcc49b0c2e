"""What ``watch`` records: values as the optimizer used them, however a model is trained."""

from __future__ import annotations

import copy
import gc
import io
import math
import pickle
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import trackway as tw
from tests.integrations.contract import IntegrationContract, Row
from trackway.api import StoredRun
from trackway.core import _guard
from trackway.integrations.pytorch import watch
from trackway.integrations.pytorch._rows import total

pytestmark = pytest.mark.filterwarnings(
    "ignore:Complex modules are a new feature:UserWarning",
    "ignore:You are using .torch.load. with:FutureWarning",
    "ignore:.torch.jit.script.*. is deprecated:DeprecationWarning",
)

Begin = Callable[..., Any]
Read = Callable[..., StoredRun]


def net(dtype: torch.dtype = torch.float32) -> Any:
    """A model with four parameters, the same each time."""
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return model.to(dtype)


def batch(index: int = 0, rows: int = 8) -> tuple[Tensor, Tensor]:
    """Inputs and targets."""
    generator = torch.Generator().manual_seed(index)
    return (
        torch.randn(rows, 8, generator=generator),
        torch.randn(rows, 4, generator=generator),
    )


def loss_of(model: nn.Module, index: int = 0) -> Tensor:
    """A loss."""
    x, y = batch(index)
    return nn.functional.mse_loss(model(x), y)


def norm_of(gradients: list[Tensor]) -> float:
    """The norm of all of them, by another way than ours."""
    return math.sqrt(sum(float(g.double().square().sum()) for g in gradients))


class Truth:
    """Norms of what an optimizer uses, noted where the user could: right before the update."""

    def __init__(self) -> None:
        self.norms: list[float] = []

    def note(self, model: nn.Module) -> None:
        """These gradients are used."""
        self.norms.append(norm_of([p.grad for p in model.parameters() if p.grad is not None]))


def series(run: StoredRun, name: str) -> tuple[list[int], list[float]]:
    """Steps and values."""
    found = run.history(name)[name]
    return found.steps.tolist(), found.values.tolist()


def names_of(run: StoredRun) -> list[str]:
    """The names of all metrics."""
    return sorted(run.keys())


def assert_norms(run: StoredRun, truth: list[float], name: str = "gradients/norm") -> None:
    """The total norm is that of every step."""
    steps, values = series(run, name)
    assert steps == list(range(1, len(truth) + 1))
    assert values == pytest.approx(truth, rel=1e-6)


class TestWatch(IntegrationContract):
    """The shared suite; the hook is a ``watch`` for the time of a ``with`` block."""

    framework = "pytorch"
    explicit_name = "watch"
    autologs = False  # ``autolog`` of a plain loop records other things, tested beside it
    unmeasured = ("steps_per_s",)

    def hook(self, **arguments: Any) -> Any:
        """The arguments."""
        fixed = {"every": 1, "histograms": False, "update_ratio": False, "start": 0}
        return {**fixed, **arguments}

    def train(self, hook: Any, *, fail: bool = False) -> bytes:
        """Four steps."""
        from tests.integrations.contract import Boom

        model = net()
        optimizer = torch.optim.SGD(model.parameters(), 0.1)

        def loop() -> None:
            for index in range(4):
                optimizer.zero_grad()
                loss_of(model, index).backward()
                optimizer.step()
                if fail and index == 2:
                    raise Boom

        if hook is None:
            loop()
        else:
            with watch(model, optimizer, **hook):
                loop()
        return b"".join(p.detach().numpy().tobytes() for p in model.parameters())

    def expected(self) -> list[Row]:
        """Norms of each gradient, from a training without tracking."""
        model = net()
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        rows: list[Any] = []
        for step in range(1, 5):
            optimizer.zero_grad()
            loss_of(model, step - 1).backward()
            norms = {}
            for name, parameter in model.named_parameters():
                assert parameter.grad is not None
                values = parameter.grad.flatten().numpy()
                norms[name] = math.sqrt(values.dot(values))
                rows.append((f"gradients/norm/{name}", step, norms[name]))
            rows.append(("gradients/norm", step, total(list(norms.values()))))
            rows.append(("gradients/nonfinite", step, 0.0))
            rows.append(("lr", step, 0.1))
            optimizer.step()
        return sorted(rows)

    def expected_every_2(self) -> list[Row]:
        """The first step, and every second one."""
        return [row for row in self.expected() if row[1] in (1, 2, 4)]

    def expected_config(self) -> dict[str, Any]:
        """Of optimizer and watch."""
        return {"pytorch.optimizer.class": "SGD", "pytorch.optimizer.lr": 0.1}

    @pytest.mark.parametrize(
        "wrong",
        [
            {"every": 0},
            {"prefix": 3},
            {"run": "mine"},
            {"log": "weights"},
            {"budget": 0},
            {"start": -1},
            {"start": True},
            {"models": 3},
            {"optimizer": 3},
        ],
    )
    def test_bad_arguments(self, wrong: dict[str, Any]) -> None:
        """A bad argument raises where the object is built, and says what to pass."""
        with pytest.raises(tw.ArgumentError, match=next(iter(wrong))):
            watch(**{"models": net(), **wrong})


# -- gradients as the optimizer used them --------------------------------------------------


def test_accumulation(begin: Begin, stored: Read) -> None:
    """Under accumulation a step is the optimizer's, and its gradient is the sum."""
    run, model, truth = begin(), net(), Truth()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    run.watch(model, optimizer, every=1)
    for index in range(8):
        (loss_of(model, index) / 4).backward()
        if index % 4 == 3:
            truth.note(model)
            optimizer.step()
            optimizer.zero_grad()
    assert len(truth.norms) == 2
    assert_norms(stored(run), truth.norms)


def test_clipping(begin: Begin, stored: Read) -> None:
    """Clipped gradients are recorded as clipped."""
    run, model = begin(), net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    run.watch(model, optimizer, every=1)
    (100 * loss_of(model)).backward()
    before = float(nn.utils.clip_grad_norm_(model.parameters(), 0.5))
    optimizer.step()
    assert before > 1
    assert series(stored(run), "gradients/norm")[1] == pytest.approx([0.5], rel=1e-5)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("unscale", [False, True])
def test_grad_scaler(begin: Begin, stored: Read, fused: bool, unscale: bool) -> None:
    """Gradients are recorded unscaled, also where a fused optimizer unscales them itself."""
    run, model = begin(), net()
    loss_of(model).backward()
    truth = norm_of([p.grad for p in model.parameters() if p.grad is not None])
    model.zero_grad()
    optimizer = torch.optim.AdamW(model.parameters(), 0.1, fused=fused)
    run.watch(model, optimizer, every=1)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    scaler.scale(loss_of(model)).backward()
    if unscale:
        scaler.unscale_(optimizer)
    scaler.step(optimizer)
    scaler.update()
    assert_norms(stored(run), [truth])


def test_grad_scaler_skips(begin: Begin, stored: Read) -> None:
    """A step that a fused optimizer skips is counted, and its NaN is not taken for the model's."""
    run, model = begin(), net()
    optimizer = torch.optim.AdamW(model.parameters(), 0.1, fused=True)
    run.watch(model, optimizer, every=1)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for index, factor in enumerate((1.0, math.inf, 1.0)):
        optimizer.zero_grad()
        scaler.scale(loss_of(model, index) * factor).backward()
        scaler.step(optimizer)
        scaler.update()
    found = stored(run)
    assert series(found, "skipped_steps") == ([1, 2, 3], [0, 1, 1])
    assert "gradients/first_nonfinite" not in found.summary
    assert _guard.troubles() == []


def test_grad_scaler_skips_unfused(begin: Begin, stored: Read) -> None:
    """A step that the scaler skips is none of the optimizer's."""
    run, model = begin(), net()
    optimizer = torch.optim.AdamW(model.parameters(), 0.1)
    run.watch(model, optimizer, every=1)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for index, factor in enumerate((1.0, math.inf, 1.0)):
        optimizer.zero_grad()
        scaler.scale(loss_of(model, index) * factor).backward()
        scaler.step(optimizer)
        scaler.update()
    assert series(stored(run), "gradients/norm")[0] == [1, 2]


def test_closure(begin: Begin, stored: Read) -> None:
    """A closure's gradients are recorded, once a step."""
    run, model, truth = begin(), net(), Truth()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    run.watch(model, optimizer, every=1)
    for index in range(3):

        def closure(index: int = index) -> Tensor:
            optimizer.zero_grad()
            loss = loss_of(model, index)
            loss.backward()
            truth.note(model)
            return loss

        optimizer.step(closure)
    assert_norms(stored(run), truth.norms)


def test_lbfgs(begin: Begin, stored: Read) -> None:
    """LBFGS evaluates several times a step; the last gradient of each step is recorded."""
    run, model, lasts = begin(), net(), []
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=4)
    run.watch(model, optimizer, every=1)
    for _ in range(2):

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = loss_of(model)
            loss.backward()
            return loss

        optimizer.step(closure)
        lasts.append(norm_of([p.grad for p in model.parameters() if p.grad is not None]))
    assert_norms(stored(run), lasts)


def test_optimizer_in_backward(begin: Begin, stored: Read) -> None:
    """An optimizer for each parameter: each records under the parameter's name, without totals."""
    run, model = begin(), net()
    optimizers = {p: torch.optim.SGD([p], 0.1) for p in model.parameters()}
    run.watch(model, every=1)
    truth: dict[str, list[float]] = {name: [] for name, _ in model.named_parameters()}
    names = {p: name for name, p in model.named_parameters()}

    def step(parameter: Any) -> None:
        assert parameter.grad is not None
        truth[names[parameter]].append(norm_of([parameter.grad]))
        optimizers[parameter].step()
        optimizers[parameter].zero_grad()

    for parameter in model.parameters():
        parameter.register_post_accumulate_grad_hook(step)
    for index in range(2):
        loss_of(model, index).backward()
    found = stored(run)
    for name, norms in truth.items():
        assert_norms(found, norms, f"gradients/norm/{name}")
        assert series(found, f"lr/{name}") == ([1, 2], [0.1, 0.1])
    assert "gradients/norm" not in names_of(found)
    assert found.config["pytorch"]["optimizer"]["per_parameter"] is True


class Tied(nn.Module):
    """Two modules with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(10, 8)
        self.out = nn.Linear(8, 10, bias=False)
        self.out.weight = self.embedding.weight

    def forward(self, index: Tensor) -> Tensor:
        """Of indices."""
        out: Tensor = self.out(self.embedding(index))
        return out


def test_tied_weights(begin: Begin, stored: Read) -> None:
    """A weight of two modules has one name and counts once, in norms and in the model's tree."""
    run, model = begin(), Tied()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    run.watch(model, optimizer, every=1)
    model(torch.arange(10)).square().mean().backward()
    assert model.out.weight.grad is not None
    truth = norm_of([model.out.weight.grad])
    optimizer.step()
    found = stored(run)
    assert_norms(found, [truth])
    assert [k for k in names_of(found) if k.startswith("gradients/norm/")] == [
        "gradients/norm/embedding.weight"
    ]
    assert found.events("model")[0].fields["about"]["parameters"] == 80


def test_sparse(begin: Begin, stored: Read) -> None:
    """A sparse gradient's repeated indices are added up; what it does not hold is zero."""
    run, model = begin(), nn.Embedding(100, 8, sparse=True)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    run.watch(model, optimizer, every=1)
    model(torch.tensor([1, 1, 2])).sum().backward()
    optimizer.step()
    found = stored(run)
    assert_norms(found, [math.sqrt(8 * 4 + 8)])
    bins = found.events("histograms")[0].fields["data"]["weight"]
    assert bins[0] == [0, [98 * 8]]
    assert sum(sum(counts) for _, counts in bins) == 800


def test_frozen_then_unfrozen(begin: Begin, stored: Read) -> None:
    """Frozen parameters are left out, and appear once they are trained."""
    run, model = begin(), net()
    first = model[0]
    first.requires_grad_(False)
    optimizer = torch.optim.SGD(model[2].parameters(), 0.1)
    run.watch(model, optimizer, every=1)
    for index in range(4):
        if index == 2:
            first.requires_grad_(True)
            optimizer.add_param_group({"params": first.parameters(), "lr": 0.01})
        optimizer.zero_grad()
        loss_of(model, index).backward()
        optimizer.step()
    found = stored(run)
    assert series(found, "gradients/norm/2.weight")[0] == [1, 2, 3, 4]
    assert series(found, "gradients/norm/0.weight")[0] == [3, 4]
    assert series(found, "lr") == ([1, 2], [0.1, 0.1])
    assert series(found, "lr/1") == ([3, 4], [0.01, 0.01])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64, torch.complex64])
def test_dtypes(begin: Begin, stored: Read, dtype: torch.dtype) -> None:
    """Norms of other types are as exact as singles; complex numbers are two values each."""
    run, model = begin(), nn.Linear(8, 4).to(dtype)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    run.watch(model, optimizer, every=1)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape).to(dtype) * 100
    parts = [p.grad for p in model.parameters() if p.grad is not None]
    truth = norm_of([torch.view_as_real(g) if g.is_complex() else g for g in parts])
    optimizer.step()
    found = stored(run)
    assert_norms(found, [truth])
    counts = found.events("histograms")[0].fields["data"]["weight"]
    assert sum(sum(c) for _, c in counts) == 32 * (2 if dtype.is_complex else 1)


def test_meta_and_empty(begin: Begin, stored: Read) -> None:
    """Parameters without memory or without elements are no trouble."""
    run = begin()
    model = nn.ModuleDict({"meta": nn.Linear(2, 2, device="meta"), "real": nn.Linear(2, 2)})
    model.register_parameter("none", nn.Parameter(torch.empty(0)))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    run.watch(model, optimizer, every=1)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    assert_norms(stored(run), [math.sqrt(6)])


def test_norm_beyond_single(begin: Begin, stored: Read) -> None:
    """Gradients whose squares a single cannot hold have their norm, and are finite."""
    run, model = begin(), nn.Linear(2, 2, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), 0.0)
    run.watch(model, optimizer, every=1)
    model.weight.grad = torch.full((2, 2), 1e30)
    optimizer.step()
    found = stored(run)
    assert series(found, "gradients/norm")[1] == pytest.approx([2e30])
    assert series(found, "gradients/nonfinite")[1] == [0]


def test_first_nonfinite(begin: Begin, stored: Read, capsys: pytest.CaptureFixture[str]) -> None:
    """The first layer whose gradient is not finite is in the summary, and said once."""
    run, model = begin(), net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    run.watch(model, optimizer, every=1)
    for index in range(4):
        optimizer.zero_grad()
        loss_of(model).backward()
        if index >= 2:
            assert model[0].bias.grad is not None
            assert model[2].weight.grad is not None
            model[0].bias.grad[:3] = math.nan
            model[2].weight.grad[0, 0] = math.inf
        optimizer.step()
    found = stored(run)
    assert found.summary["gradients/first_nonfinite"] == {
        "parameter": "0.bias",
        "step": 3,
        "last_finite_step": 2,
    }
    assert series(found, "gradients/nonfinite")[1][:3] == [0, 0, 4]
    assert math.isnan(series(found, "gradients/norm")[1][2])
    assert math.isnan(series(found, "gradients/norm/0.bias")[1][2])
    assert series(found, "gradients/norm/2.weight")[1][2] == math.inf
    said = capsys.readouterr().err
    assert said.count("0.bias is not finite, first seen at step 3; the reading before") == 1
    assert "at step 2, was finite." in said


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_nonfinite_between_readings(
    begin: Begin, stored: Read, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where it began is not known more exactly than that; the row of that step shows it too."""
    run, model = begin(), net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    run.watch(model, optimizer, every=40)
    for index in range(80):
        optimizer.zero_grad()
        (loss_of(model) * (math.nan if index == 50 else 1)).backward()
        optimizer.step()
    found = stored(run)
    assert found.summary["gradients/first_nonfinite"] == {
        "parameter": "0.weight",
        "step": 80,
        "last_finite_step": 40,
    }
    steps, counts = series(found, "gradients/nonfinite")
    assert steps == [1, 40, 80]
    assert [count > 0 for count in counts] == [False, False, True]
    said = "first seen at step 80; the reading before it, at step 40, was finite."
    assert capsys.readouterr().err.count(said) == 1


def test_nonfinite_in_histograms(begin: Begin, stored: Read) -> None:
    """Where histograms alone are due, the row says what they show."""
    run, model = begin(), net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    watched = run.watch(model, optimizer, every=1)
    for index in range(2):
        optimizer.zero_grad()
        (loss_of(model) * (math.nan if index == 1 else 1)).backward()
        optimizer.step()
        watched._all[0].schedule._due["norms"] = 10
    found = stored(run)
    assert found.summary["gradients/first_nonfinite"]["step"] == 2
    steps, counts = series(found, "gradients/nonfinite")
    assert (steps, counts[0], counts[1] > 0) == ([1, 2], 0, True)
    assert series(found, "gradients/norm")[0] == [1]


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    """Train."""
    for _ in range(steps):
        optimizer.zero_grad()
        loss_of(model).backward()
        optimizer.step()


def test_runs_after_runs(begin: Begin) -> None:
    """What ends with a run: its hooks, and the run itself, also if what watches is kept."""
    from torch.optim import optimizer as of_torch

    before = [
        len(of_torch._global_optimizer_pre_hooks),
        len(of_torch._global_optimizer_post_hooks),
    ]
    runs, kept = [], []
    for index in range(20):
        run, model = begin(), net()
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        kept.append(run.watch(model, optimizer if index % 4 == 0 else None))
        train(model, optimizer, 2)
        if index % 4 == 1:
            kept[-1].close()
        run.finish()
        assert not optimizer._optimizer_step_post_hooks
        assert not optimizer._optimizer_step_pre_hooks
        runs.append(weakref.ref(run))
    del run
    gc.collect()
    assert [
        len(of_torch._global_optimizer_pre_hooks),
        len(of_torch._global_optimizer_post_hooks),
    ] == before
    assert [ref() for ref in runs] == [None] * 20
    for each in kept:
        each.close()


@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("kind", ["AdamW", "SGD"])
@pytest.mark.parametrize("load", [True, False])
def test_resumed(begin: Begin, stored: Read, kind: str, load: bool, given: bool) -> None:
    """A resumed run's steps go on: by the optimizer's own count, else from the run's last step."""
    run, model = begin(id="r"), net()
    optimizer = getattr(torch.optim, kind)(model.parameters(), 1e-3)
    run.watch(model, optimizer if given else None, every=10)
    train(model, optimizer, 100)
    run.log({"other": 1.0}, step=100)
    run.finish()
    state = optimizer.state_dict()
    run, model = begin(id="r", resume="must"), net()
    optimizer = getattr(torch.optim, kind)(model.parameters(), 1e-3)
    run.watch(model, optimizer if given else None, every=10)
    run.log({"other": 1.0})
    if load:
        optimizer.load_state_dict(state)
    train(model, optimizer, 10)
    run.finish()
    steps = [1, *range(10, 101, 10), 101, 110]
    assert series(stored(run), "gradients/norm")[0] == steps
    assert series(stored(run), "updates/ratio/0.bias")[0] == steps


@pytest.mark.parametrize("update_ratio", [True, False])
def test_start(begin: Begin, stored: Read, update_ratio: bool) -> None:
    """Steps go on from the number given, or from what was loaded into the optimizer."""
    model = net()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    train(model, optimizer, 3)
    run = begin()
    with run.watch(model, every=1, update_ratio=update_ratio, prefix="a"):
        train(model, optimizer, 1)
    with run.watch(model, every=1, update_ratio=update_ratio, prefix="b", start=7):
        train(model, optimizer, 2)
    with run.watch(model, every=1, update_ratio=update_ratio, prefix="b"):
        train(model, optimizer, 1)
    assert series(stored(run), "a/lr")[0] == [4]
    assert series(stored(run), "b/lr")[0] == [8, 9, 10]


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("watching", ["once", "each", "given"])
def test_optimizers_after_optimizers(begin: Begin, stored: Read, kept: bool, watching: str) -> None:
    """A new optimizer of the same parameters goes on where the one before it has ended."""
    run, model = begin(), net()
    optimizers = []
    if watching == "once":
        run.watch(model, every=1)
    for index in range(20):
        optimizer = torch.optim.SGD(model.parameters(), 0.01 * (1 + index))
        if watching != "once":
            run.watch(model, optimizer if watching == "given" else None, every=1)
        train(model, optimizer, 2)
        optimizers += [optimizer] * kept
    found = stored(run)
    assert series(found, "lr")[0] == list(range(1, 41))
    assert not [name for name in names_of(found) if name.startswith("optimizer")]


def test_optimizers_by_turns(begin: Begin, stored: Read) -> None:
    """Two optimizers of the same parameters that go on both are told apart once that is seen."""
    run, model = begin(), net()
    run.watch(model, every=1)
    first = torch.optim.SGD(model.parameters(), 0.1)
    second = torch.optim.SGD(model.parameters(), 0.2)
    for _ in range(3):
        train(model, first, 1)
        train(model, second, 1)
    found = stored(run)
    assert series(found, "lr") == ([1, 2, 3, 4], [0.1, 0.2, 0.2, 0.2])
    assert series(found, "optimizer1/lr") == ([1, 2], [0.1, 0.1])


def test_many_optimizers(begin: Begin, stored: Read, capsys: pytest.CaptureFixture[str]) -> None:
    """The first 16 have names; that there are more is said once."""
    run = begin()
    model = nn.Sequential(*(nn.Linear(2, 2) for _ in range(20)))
    run.watch(model, every=1, histograms=False)
    for layer in model:
        torch.optim.SGD(layer.parameters(), 0.1)
        optimizer = torch.optim.SGD(layer.parameters(), 0.1)
        model(torch.ones(1, 2)).sum().backward()
        optimizer.step()
    found = stored(run)
    names = {name.split("/")[0] for name in names_of(found) if name.startswith("optimizer")}
    assert names == {f"optimizer{number}" for number in range(1, 16)}
    assert capsys.readouterr().err.count("the first 16 optimizers of a run are watched") == 1


class Around(torch.optim.Optimizer):
    """An optimizer that wraps another one, which makes the steps."""

    fails = False

    def __init__(self, base: torch.optim.Optimizer) -> None:
        self.base = base
        super().__init__([p for g in base.param_groups for p in g["params"]], {"lr": 0.5})
        self.param_groups = base.param_groups

    def step(self, closure: Any = None) -> Any:
        """Let the other one make a step."""
        if self.fails:
            raise ArithmeticError
        return self.base.step(closure)


@pytest.mark.parametrize("given", [True, False])
def test_wrapping_optimizer(begin: Begin, stored: Read, given: bool) -> None:
    """A step of an optimizer that wraps others is one, also after one that has failed."""
    run, model = begin(), net()
    base = torch.optim.SGD(model.parameters(), 0.1)
    around = Around(Around(base))
    run.watch(model, [around, base] if given else None, every=1)
    train(model, around, 2)
    around.fails = True
    with pytest.raises(ArithmeticError):
        around.step()
    if given:
        train(model, base, 1)  # alone, it is another one
    around.fails = False
    train(model, around, 1)
    found = stored(run)
    assert series(found, "gradients/norm")[0] == [1, 2, 3]
    assert found.config["pytorch"]["optimizer"]["class"] == "Around"
    if given:
        assert series(found, "optimizer1/lr")[0] == [1]
    else:
        assert "optimizer1" not in found.config["pytorch"]


def test_step_inside_of_another(begin: Begin, stored: Read) -> None:
    """A step of other parameters, made during a step, is one of its own."""
    run, one, other = begin(), nn.Linear(2, 1), nn.Linear(2, 1)
    inner = torch.optim.SGD(other.parameters(), 0.1)
    outer = torch.optim.SGD(one.parameters(), 0.1)
    run.watch([one, other], every=1)

    def closure() -> float:
        (one(torch.ones(1, 2)) + other(torch.ones(1, 2))).sum().backward()
        inner.step()
        return 0.0

    for _ in range(2):
        outer.step(closure)
    assert len(series(stored(run), "lr")[0]) == 2
    assert len(series(stored(run), "optimizer1/lr")[0]) == 2


def test_several_optimizers(begin: Begin, stored: Read) -> None:
    """A generator and a discriminator: each optimizer has its own steps, and nothing is lost."""
    run = begin()
    generator, critic = nn.Linear(4, 4), nn.Linear(4, 1)
    first = torch.optim.SGD(generator.parameters(), 0.1)
    second = torch.optim.Adam(critic.parameters(), 0.2)
    run.watch([generator, critic], every=1)
    for index in range(6):
        for p in (*generator.parameters(), *critic.parameters()):
            p.grad = torch.ones_like(p)
        second.step()
        if index % 3 == 2:
            first.step()
    found = stored(run)
    assert series(found, "gradients/norm/1.weight")[0] == [1, 2, 3, 4, 5, 6]
    assert series(found, "optimizer1/gradients/norm/0.weight") == ([1, 2], [4, 4])
    assert series(found, "lr")[1] == [0.2] * 6
    assert series(found, "optimizer1/lr")[1] == [0.1] * 2
    assert found.config["pytorch"]["optimizer1"]["class"] == "SGD"


def test_two_watches_with_prefixes(begin: Begin, stored: Read) -> None:
    """Two watches of one run are told apart by their prefixes."""
    run = begin()
    models = {name: nn.Linear(2, 2) for name in ("g", "d")}
    for name, model in models.items():
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        run.watch(model, optimizer, every=1, prefix=name)
        for p in model.parameters():
            p.grad = torch.ones_like(p)
        optimizer.step()
    found = stored(run)
    for name in models:
        assert series(found, f"{name}/gradients/norm")[1] == pytest.approx([math.sqrt(6)])
        assert found.config[name]["pytorch"]["optimizer"]["class"] == "SGD"
    assert [event.fields["name"] for event in found.events("model")] == ["g/model", "d/model"]


def test_updates(begin: Begin, stored: Read) -> None:
    """The ratio is the norm of what a step changed over the norm before; zeros have none."""
    run, model = begin(), net()
    with torch.no_grad():
        model[2].bias.zero_()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    run.watch(model, optimizer, every=1)
    truth = []
    for index in range(3):
        before = model[0].weight.detach().clone()
        optimizer.zero_grad()
        loss_of(model, index).backward()
        optimizer.step()
        after = model[0].weight.detach()
        truth.append(float((after - before).double().norm() / before.double().norm()))
    found = stored(run)
    steps, values = series(found, "updates/ratio/0.weight")
    assert steps == [1, 2, 3]
    assert values == pytest.approx(truth, rel=1e-4)
    assert series(found, "updates/ratio/2.bias")[0] == [2, 3]


def test_updates_of_a_sample(begin: Begin, stored: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of large models an evenly spread sample is compared, and the settings say so."""
    from trackway.integrations.pytorch import _read

    monkeypatch.setattr(_read, "EXACT", 100)
    run, model = begin(), net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    run.watch(model, optimizer, every=1)
    before = model[0].weight.detach().clone().reshape(-1)[::3]
    loss_of(model).backward()
    optimizer.step()
    after = model[0].weight.detach().reshape(-1)[::3]
    truth = float((after - before).norm() / before.norm())
    assert sum(p.numel() for p in model.parameters()) == 212
    assert series(stored(run), "updates/ratio/0.weight")[1] == pytest.approx([truth], rel=1e-4)
    assert stored(run).config["pytorch"]["watch"]["update_stride"] == 3


# -- learning rates, configuration, model --------------------------------------------------


def test_learning_rates(begin: Begin, stored: Read) -> None:
    """The rate is the one just used, a series each group, by the group's name where it has one."""
    run, model = begin(), net()
    groups: list[Any] = [
        {"params": model[0].parameters(), "lr": 0.5, "name": "body"},
        {"params": model[2].parameters()},
    ]
    optimizer = torch.optim.SGD(groups, 1.0, momentum=0.9)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    run.watch(model, optimizer, every=1, log=None)
    for index in range(3):
        loss_of(model, index).backward()
        optimizer.step()
        schedule.step()
    found = stored(run)
    assert series(found, "lr/body")[1] == [0.5, 0.25, 0.125]
    assert series(found, "lr/1")[1] == [1.0, 0.5, 0.25]
    assert {k for k in names_of(found) if not k.startswith("lr/")} == {"steps_per_s"}
    config = found.config["pytorch"]["optimizer"]
    assert config["class"] == "SGD"
    assert config["momentum"] == 0.9
    assert config["groups"]["body"]["lr"] == 0.5
    assert config["groups"]["1"]["parameters"] == 68


def test_model_tree(begin: Begin, stored: Read) -> None:
    """The model's modules are recorded with class and counts, its wrappers are not."""
    run, model = begin(), net()
    model[0].requires_grad_(False)
    run.watch(torch.compile(model, backend="eager"))
    (event,) = stored(run).events("model")
    about = event.fields["about"]
    assert event.fields["name"] == "model"
    assert (about["class"], about["parameters"], about["trainable"]) == ("Sequential", 212, 68)
    assert about["bytes"] == 212 * 4
    assert about["dtypes"] == {"float32": 212}
    assert about["tree"][1] == {
        "path": "0",
        "class": "Linear",
        "parameters": 144,
        "trainable": 0,
        "own": 144,
    }


def test_parameters_histograms(begin: Begin, stored: Read) -> None:
    """Parameters' histograms are asked for, and ten times as rare."""
    run, model = begin(), net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    run.watch(model, optimizer, every=2, log="all")
    for index in range(21):
        optimizer.zero_grad()
        loss_of(model, index).backward()
        optimizer.step()
    steps: dict[str, list[int]] = {"gradients": [], "parameters": []}
    for event in stored(run).events("histograms"):
        steps[event.fields["of"]].append(event.fields["step"])
    assert steps == {"gradients": [1, *range(2, 22, 2)], "parameters": [1, 20]}


# -- the model, the optimizer and the training stay what they are --------------------------


@pytest.mark.parametrize("with_optimizer", [True, False])
def test_pickle_and_copy(begin: Begin, with_optimizer: bool) -> None:
    """Model, optimizer and what watches can be pickled and copied while watched."""
    run, model = begin(), net()
    optimizer = torch.optim.AdamW(model.parameters(), 0.1)
    watched = run.watch(model, optimizer if with_optimizer else None, every=1)
    loss_of(model).backward()
    optimizer.step()
    torch.save(model, io.BytesIO())
    torch.save(optimizer.state_dict(), io.BytesIO())
    for each in (model, optimizer, watched):
        pickle.loads(pickle.dumps(each))
        copy.deepcopy(each)
    copied = copy.deepcopy((model, optimizer))
    loss_of(copied[0]).backward()
    copied[1].step()
    assert next(iter(watched.settings["intervals"].values()))["norms"] == 1


def test_nothing_is_kept_alive(begin: Begin) -> None:
    """Model and optimizer are freed as ever."""
    run, model = begin(), net()
    optimizer = torch.optim.AdamW(model.parameters(), 0.1)
    run.watch(model, every=1)
    other = net()
    its = torch.optim.AdamW(other.parameters(), 0.1)
    run.watch(other, its, every=1)
    for each, one in ((model, optimizer), (other, its)):
        loss_of(each).backward()
        one.step()
    seen = [weakref.ref(x) for x in (model, optimizer, other, its, model[0].weight)]
    del model, optimizer, other, its, each, one
    gc.collect()
    assert [ref() for ref in seen] == [None] * 5


def test_gradients_are_freed(begin: Begin) -> None:
    """No gradient is held from one step to the next."""
    run, model = begin(), nn.Sequential(nn.Linear(8, 4), nn.Linear(4, 5000), nn.Linear(5000, 1))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    run.watch(model, optimizer, every=1)
    model(torch.ones(2, 8)).sum().backward()
    optimizer.step()
    seen = [weakref.ref(p.grad.untyped_storage()) for p in model.parameters() if p.grad is not None]
    held = [weakref.ref(p.grad) for p in model.parameters() if p.grad is not None]
    optimizer.zero_grad()
    gc.collect()
    assert [ref() for ref in held + seen] == [None] * 12


def test_parameters_that_are_replaced(begin: Begin, stored: Read) -> None:
    """Histograms of parameters and updates are of the values that they have at that step."""
    run, model = begin(), net()
    optimizer = torch.optim.SGD(model.parameters(), 1.0)
    run.watch(model, optimizer, every=1, log="all")
    for value in (1.0, 2.0):
        for parameter in model.parameters():
            parameter.data = torch.full_like(parameter, value)
            parameter.grad = torch.full_like(parameter, value / 4)
        optimizer.step()
    found = stored(run)
    assert series(found, "updates/ratio/2.bias") == ([1, 2], [0.25, 0.25])
    (event,) = [e for e in found.events("histograms") if e.fields["of"] == "parameters"]
    assert event.fields["data"]["2.bias"] == [[506, [4]]]  # 0.75: exponent 126, mantissa 2 of 4


def test_close_and_unwatch(begin: Begin, stored: Read) -> None:
    """After ``close`` or ``unwatch`` nothing is recorded, and no hook is left."""
    from torch.optim.optimizer import _global_optimizer_post_hooks

    before = len(_global_optimizer_post_hooks)
    run, model = begin(), net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for end in (lambda w: w.close(), lambda w: run.unwatch(), lambda w: tw.unwatch(model)):
        watched = tw.watch(model, every=1)
        loss_of(model).backward()
        optimizer.step()
        end(watched)
        watched.close()
        optimizer.step()
    assert len(_global_optimizer_post_hooks) == before
    assert series(stored(run), "lr")[0] == [1, 2, 3]


def test_watched_again(begin: Begin, stored: Read) -> None:
    """Watching a model again takes the place of the first time, and steps go on."""
    run, model = begin(), net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(2):
        run.watch(model, optimizer, every=1)
        loss_of(model).backward()
        optimizer.step()
    assert series(stored(run), "lr")[0] == [1, 2]


def test_finished_run(begin: Begin, stored: Read) -> None:
    """After the run has ended nothing is recorded, and nothing is said."""
    run, model = begin(), net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    run.watch(model, optimizer, every=1)
    for _ in range(2):
        loss_of(model).backward()
        optimizer.step()
        run.finish()
    assert series(stored(run), "lr")[0] == [1]
    assert _guard.troubles() == []


class Late:
    """A device that answers when it is told to."""

    answers = False

    def __init__(self, packet: Any) -> None:
        self.arrays = packet.arrays

    def ready(self) -> bool:
        """Whether everything has arrived."""
        return Late.answers


def test_what_is_on_its_way_at_the_end(
    begin: Begin, stored: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a device has not answered yet when the run is finished is recorded all the same."""
    from trackway.integrations.pytorch import _track

    packet: Any = vars(_track)["Packet"]
    monkeypatch.setattr(_track, "Packet", lambda *arguments: Late(packet(*arguments)))
    monkeypatch.setattr(Late, "answers", False)
    run, model = begin(), net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    run.watch(model, optimizer, every=1)
    loss_of(model).backward()
    optimizer.step()
    assert "gradients/norm" not in names_of(stored(run))
    monkeypatch.setattr(Late, "answers", True)
    run.finish()
    assert series(stored(run), "gradients/norm")[0] == [1]
    assert [event.fields["step"] for event in stored(run).events("histograms")] == [1]


def test_lazy_devices(
    begin: Begin, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where reading a value would run what is queued nothing is read, and that is said once."""
    from trackway.integrations.pytorch import _met

    monkeypatch.setattr(_met, "_LAZY", {"cpu"})
    run, model = begin(), net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    watched = run.watch(model, optimizer, every=1)
    for _ in range(2):
        loss_of(model).backward()
        optimizer.step()
    assert watched.settings["intervals"] == {}
    assert capsys.readouterr().err.count("models on cpu devices are not watched") == 1


def test_gradients_that_change(begin: Begin, stored: Read) -> None:
    """Norms and counts are those of each step, whatever becomes of the gradients between."""
    run, model, truth = begin(), net(), Truth()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    run.watch(model, optimizer, every=1)
    for index in range(7):
        optimizer.zero_grad(set_to_none=index % 2 == 0)
        model[0].weight.requires_grad_(index != 2)
        if index == 2:
            model[0].weight.grad = None
        if index == 4:
            model.to(torch.float64)
        x, y = (t.to(model[0].weight.dtype) for t in batch(index))
        nn.functional.mse_loss(model(x), y).backward()
        if index == 6:
            assert model[0].bias.grad is not None
            model[0].bias.grad = model[0].bias.grad.to_sparse()
        truth.norms.append(
            norm_of([p.grad.to_dense() for p in model.parameters() if p.grad is not None])
        )
        optimizer.step()
    found = stored(run)
    assert_norms(found, truth.norms)
    assert series(found, "gradients/norm/0.weight")[0] == [1, 2, 4, 5, 6, 7]
    for event in found.events("histograms"):
        counted = {k: sum(sum(c) for _, c in v) for k, v in event.fields["data"].items()}
        sizes = {"0.weight": 128, "0.bias": 16, "2.weight": 64, "2.bias": 4}
        if event.fields["step"] == 3:
            del sizes["0.weight"]
        assert counted == sizes


def test_disabled_run(begin: Begin) -> None:
    """On a disabled run nothing is hooked."""
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    watched = begin(mode="disabled").watch(model, optimizer, every=1)
    assert len(optimizer._optimizer_step_post_hooks) == 0
    watched.close()


def test_random_state(begin: Begin) -> None:
    """The random state is never touched."""
    run, model = begin(), net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    loss_of(model).backward()
    before = torch.get_rng_state()
    run.watch(model, optimizer, every=1, log="all")
    optimizer.step()
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("compiled_step", [False, True])
def test_compile(begin: Begin, stored: Read, compiled_step: bool) -> None:
    """A compiled model is one graph without a break; names are without wrappers."""
    import torch._dynamo as dynamo

    run, model, truth = begin(), net(), Truth()
    dynamo.reset()
    dynamo.utils.counters.clear()
    compiled: Any = torch.compile(model, backend="eager")
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    run.watch(compiled, optimizer, every=2)
    step = torch.compile(optimizer.step, backend="eager") if compiled_step else optimizer.step
    for index in range(6):
        optimizer.zero_grad()
        loss_of(compiled, index).backward()
        truth.note(model)
        step()
    if not compiled_step:
        assert dynamo.utils.counters["stats"]["unique_graphs"] == 1
        assert sum(dynamo.utils.counters["graph_break"].values()) == 0
    steps, values = series(stored(run), "gradients/norm/0.weight")
    assert steps == [1, 2, 4, 6]
    values = series(stored(run), "gradients/norm")[1]
    assert values == pytest.approx([truth.norms[s - 1] for s in steps], rel=1e-6)


@pytest.mark.swallows
def test_trouble_is_not_tried_at_every_step(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails is counted, and tried again when it is due again."""
    from trackway.integrations.pytorch import _track

    def fail(*arguments: Any) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(_track, "measure", fail)
    run, model = begin(), net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    run.watch(model, optimizer, every=5, update_ratio=False)
    for index in range(10):
        loss_of(model, index).backward()
        optimizer.step()
    assert sum(trouble.count for trouble in _guard.troubles()) == 3
