"""Several processes: rank zero records, the others create nothing, and nobody waits for anybody."""

from __future__ import annotations

import math
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

import trackway as tw
from tests.integrations.conftest import QUIET
from trackway.api import StoredRun

STEPS = 3


def _port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _model() -> nn.Sequential:
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return model


def _join(rank: int, port: int) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=2)


def _steps(model: nn.Module, optimizer: torch.optim.Optimizer, rank: int) -> None:
    for index in range(STEPS):
        generator = torch.Generator().manual_seed(100 * index + rank)
        x = torch.randn(8, 8, generator=generator)
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()


def _ddp(rank: int, port: int, root: str) -> None:
    """One rank of a data-parallel training."""
    _join(rank, port)
    model = nn.parallel.DistributedDataParallel(_model())
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    run = tw.init(project="p", dir=root, settings=QUIET, id="ddp")
    run.watch(model, optimizer, every=1)
    _steps(model, optimizer, rank)
    if rank == 1:
        assert run.disabled
        assert not optimizer._optimizer_step_post_hooks
    run.finish()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    norms = [float(gradient.double().norm()) for gradient in gradients]
    Path(root, f"last-norm-{rank}").write_text(str(math.hypot(*norms)))
    dist.destroy_process_group()


def _inherited(rank: int, port: int, root: str, run: Any) -> None:
    """One rank, forked from a program that had opened the run."""
    _join(rank, port)
    model = nn.parallel.DistributedDataParallel(_model())
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    run.watch(model, optimizer, every=1)
    _steps(model, optimizer, rank)
    assert bool(optimizer._optimizer_step_post_hooks) == (rank == 0)
    dist.destroy_process_group()
    run.finish()


def _fsdp(rank: int, port: int, root: str, all_ranks: bool) -> None:
    """One rank of a sharded training, one of whose parameters is whole on both."""
    from torch.distributed.device_mesh import init_device_mesh

    try:
        from torch.distributed.fsdp import fully_shard
    except ImportError:  # its place before PyTorch 2.6
        from torch.distributed._composable.fsdp import fully_shard  # type: ignore[attr-defined]

    _join(rank, port)
    mesh = init_device_mesh("cpu", (2,))
    model = _model()
    for layer in (model[0], model[2]):
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    settings = {**QUIET, "all_ranks": all_ranks}
    run = tw.init(project="p", dir=root, settings=settings, id="fsdp")
    run.watch(model, optimizer, every=1)
    _steps(model, optimizer, rank)
    shard: Any = model[0].weight.grad
    Path(root, f"shard-{rank}").write_text(
        f"{float(shard.to_local().double().norm())} {shard.to_local().numel()}"
    )
    run.finish()
    dist.destroy_process_group()


def _start(worker: Callable[..., None], *arguments: Any, method: str = "spawn") -> None:
    processes: Any = mp  # it names more than it exports
    processes.start_processes(worker, args=(_port(), *arguments), nprocs=2, start_method=method)


def _forks_inheriting(root: str) -> None:
    run = tw.init(project="p", dir=root, settings=QUIET)
    _start(_inherited, root, run, method="fork")
    run.finish()


def _forks_sharded(root: str) -> None:
    for all_ranks in (False, True):
        folder = Path(root, str(all_ranks))
        folder.mkdir()
        _start(_fsdp, str(folder), all_ranks, method="fork")


def _fresh(program: Callable[[str], None], root: Path) -> None:
    """Run it in a process that has not used torch yet: only from such a one can be forked."""
    code = f"from {__name__} import {program.__name__} as p; p({str(root)!r})"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(tw.__file__).parents[1])


@pytest.fixture
def folder(root: Path) -> Path:
    """The root, which here exists already."""
    root.mkdir(parents=True)
    return root


def test_ddp_spawned(folder: Path, stored: Callable[..., StoredRun]) -> None:
    """Rank zero records averaged gradients by the model's own names; the other nothing."""
    _start(_ddp, str(folder))
    run = stored()
    found = run.history("gradients/norm")["gradients/norm"]
    last = [float((folder / f"last-norm-{rank}").read_text()) for rank in (0, 1)]
    assert last[0] == last[1]
    assert found.steps.tolist() == [1, 2, 3]
    assert found.values.tolist()[-1] == pytest.approx(last[0], rel=1e-6)
    assert "gradients/norm/0.weight" in run.keys()  # noqa: SIM118 - a method, not a mapping
    assert len(list(run.path.rglob("*.log"))) <= 1
    assert run.state == "finished"


def test_ddp_forked(folder: Path, stored: Callable[..., StoredRun]) -> None:
    """Forked ranks inherit the run: rank zero alone records, in a log of its own."""
    _fresh(_forks_inheriting, folder)
    found = stored().history("gradients/norm")["gradients/norm"]
    assert found.steps.tolist() == [1, 2, 3]
    assert [e.fields["step"] for e in stored().events("histograms")] == [1, 2, 3]


@pytest.mark.skipif(torch.__version__ < "2.6", reason="needs a GPU before PyTorch 2.6")
def test_fsdp(folder: Path) -> None:
    """A shard is called a shard; with all ranks the counts of both add up to the parameter's."""
    _fresh(_forks_sharded, folder)
    name = "gradients/shard_norm/0.weight"
    for all_ranks in (False, True):
        place = folder / str(all_ranks)
        (run,) = tw.Api(place).runs("p")
        names = sorted(run.keys())
        assert not [n for n in names if n.startswith(("gradients/norm", "updates/ratio"))]
        assert "updates/shard_ratio/0.weight" in names
        found = run.history(name)[name]
        shards = [(place / f"shard-{rank}").read_text().split() for rank in (0, 1)]
        assert found.steps.tolist() == [1, 2, 3]
        assert found.values.tolist()[-1] == pytest.approx(float(shards[0][0]), rel=1e-6)
        events = [e for e in run.events("histograms") if e.fields["step"] == 3]
        assert [e.fields["sharded"] for e in events] == [True] * (2 if all_ranks else 1)
        counted = sum(sum(c) for e in events for _, c in e.fields["data"]["0.weight"])
        assert counted == (128 if all_ranks else int(shards[0][1]))
