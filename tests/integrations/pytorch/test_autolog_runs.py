"""``autolog`` in hand-written loops: threads, processes, and whose run it is."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import trackway as tw
from tests.integrations.conftest import QUIET
from trackway.api import StoredRun
from trackway.core import current

torch = pytest.importorskip("torch")
nn = torch.nn

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*CUDA is not available:UserWarning",
    "ignore:.*multi-threaded, use of fork:DeprecationWarning",
)

Stored = Callable[..., StoredRun]


@pytest.fixture(autouse=True)
def loops(quiet_runs: Path) -> Iterator[None]:
    """autolog for PyTorch alone."""
    tw.autolog(only=["pytorch"])
    yield
    tw.autolog.disable()


def made(kind: Any = None, rate: float = 0.1) -> tuple[Any, Any]:
    """A tiny model and its optimizer."""
    torch.manual_seed(1)
    model = nn.Linear(3, 1)
    return model, (kind or torch.optim.SGD)(model.parameters(), lr=rate)


def steps(model: Any, optimizer: Any, count: int = 3, times: float = 1.0) -> list[float]:
    """A loop; the losses of its steps."""
    losses = []
    for _ in range(count):
        optimizer.zero_grad()
        loss = model(torch.ones(2, 3)).square().mean() * times
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def rows(run: StoredRun, name: str) -> list[Any]:
    """(step, value) of a metric, every arrival."""
    metric = run.history(name, repeats="all")[name]
    return list(zip(metric.steps.tolist(), metric.values.tolist(), strict=True))


def python(code: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run code in a new interpreter."""
    environment = {**os.environ, "PYTHONPATH": str(Path(tw.__file__).parents[1])}
    return subprocess.run(
        [sys.executable, "-c", code, *words],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )


THREADS = """
import threading, torch, trackway as tw
tw.autolog(only=["pytorch"])
torch.set_num_threads(1)
made = [torch.nn.Linear(64, 64) for _ in range(4)]
optimizers = [torch.optim.SGD(model.parameters(), lr=0.0) for model in made]
def loop(k):
    for _ in range(400):
        optimizers[k].zero_grad()
        ((made[k](torch.ones(8, 64)) * 0).sum() + k).backward()
        optimizers[k].step()
threads = [threading.Thread(target=loop, args=(k,)) for k in range(1, 4)]
[each.start() for each in threads]
loop(0)
[each.join() for each in threads]
"""


def test_threads(stored: Stored) -> None:
    """Loops in several threads, of optimizers made elsewhere: no row is lost, none is another's."""
    done = python(THREADS)
    assert done.returncode == 0, done.stderr
    names = ["loss", *(f"optimizer{k}/loss" for k in range(1, 4))]
    found = [rows(stored(), name) for name in names]
    assert [[step for step, _ in each] for each in found] == [[*range(1, 401)]] * 4
    assert sorted(each[0][1] for each in found) == [0.0, 1.0, 2.0, 3.0]
    assert all(len({value for _, value in each}) == 1 for each in found)


def test_apart(begin: Callable[..., Any], stored: Stored) -> None:
    """Each thread records into the run that is current there, with names counted in that run."""
    outer = begin()
    inside: list[Any] = []

    def work() -> None:
        with current.apart():
            run = begin()
            first, second = made(), made(rate=0.2)
            for _ in range(3):
                steps(*first, 1)
                steps(*second, 1)
            inside.append(run)
            run.finish()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(work).result()
    found = stored(inside[0])
    assert rows(found, "loop/lr") == [(1, 0.1), (2, 0.1), (3, 0.1)]
    assert rows(found, "loop/optimizer1/lr") == [(1, 0.2), (2, 0.2), (3, 0.2)]
    assert stored(outer).keys() == []


def test_one_run_for_two_threads(stored: Stored, root: Path) -> None:
    """Of two threads that begin at once one opens the run, and the other joins it."""
    gate = threading.Barrier(2)

    def work() -> None:
        own = made()
        gate.wait()
        steps(*own)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(tw.Api(root).runs("p")) == 1
    assert [len(rows(stored(), name)) for name in ("loss", "optimizer1/loss")] == [3, 3]


def test_the_programs_own_rows(begin: Callable[..., Any], stored: Stored) -> None:
    """In the program's run the loop's names are its own, and the program's steps stay as they are.

    Automatic ones go on by one, and nothing lies at a step that the program has not given.
    """
    model, optimizer = made()
    with begin() as run:
        mine = []
        for _ in range(4):
            mine += steps(model, optimizer, 1)
            run.log({"loss": mine[-1], "lr": 7.0})
    found = stored(run)
    assert rows(found, "loss") == list(enumerate(mine))
    assert rows(found, "lr") == [(step, 7.0) for step in range(4)]
    assert rows(found, "loop/loss") == list(enumerate(mine, 1))
    assert set(found.keys()) == {"loss", "lr"} | {
        f"loop/{name}" for name in ("loss", "lr", "step_s", "gradients/norm")
    }


def test_the_programs_steps_in_a_run_of_ours(stored: Stored) -> None:
    """What the program logs into the run that the loop opened has the program's own steps."""
    model, optimizer = made()
    for index in range(4):
        steps(model, optimizer, 1)
        tw.log({"mine": index})
    assert rows(stored(), "mine") == [(step, step) for step in range(4)]
    assert [step for step, _ in rows(stored(), "loss")] == [1, 2, 3, 4]


def test_given_prefix(begin: Callable[..., Any], stored: Stored) -> None:
    """A prefix that was asked for holds in every run, an empty one too."""
    for prefix, name in (("teacher", "teacher/lr"), ("", "lr")):
        tw.autolog(only=["pytorch"], pytorch={"prefix": prefix})
        with begin() as run:
            steps(*made())
        assert rows(stored(run), name) == [(1, 0.1), (2, 0.1), (3, 0.1)]


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.SGD])
def test_resumed(begin: Callable[..., Any], stored: Stored, kind: Any) -> None:
    """A later attempt goes on at the optimizer's own count, else behind what was recorded."""
    model, optimizer = made(kind)
    with begin(id="again") as run:
        losses = steps(model, optimizer, 10)
    state = optimizer.state_dict()
    optimizer = kind(model.parameters(), lr=0.5)
    optimizer.load_state_dict(state)
    with begin(id="again") as run:
        losses += steps(model, optimizer, 5)
    assert run.attempt == 2
    assert rows(stored(run), "loop/loss") == list(enumerate(losses, 1))


def test_restarted(begin: Callable[..., Any], stored: Stored) -> None:
    """Where the state was not loaded again nothing is hidden either."""
    for _ in range(2):
        with begin(id="again") as run:
            steps(*made(torch.optim.Adam), 3)
    assert [step for step, _ in rows(stored(run), "loop/lr")] == [1, 2, 3, 4, 5, 6]


def test_same_optimizer_in_a_second_run(begin: Callable[..., Any], stored: Stored) -> None:
    """Each run has the steps that were made in it, from 1, and its norms."""
    model, optimizer = made()
    for _ in range(2):
        with begin() as run:
            steps(model, optimizer)
        assert [step for step, _ in rows(stored(run), "loop/lr")] == [1, 2, 3]
        assert [step for step, _ in rows(stored(run), "loop/gradients/norm")] == [1]


PROCESSES = """
import sys, multiprocessing, torch, trackway as tw
tw.autolog(only=["pytorch"])
torch.set_num_threads(1)
def loop(_=0):
    model = torch.nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.ones(2, 3)).square().mean().backward()
        optimizer.step()
if __name__ == "__main__":
    run = tw.init() if sys.argv[2] == "open" else None
    started = [multiprocessing.get_context(sys.argv[1]).Process(target=loop) for _ in range(2)]
    [each.start() for each in started]
    [each.join() for each in started]
    if run is not None:
        loop()
"""


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize("parent", ["open", "none"])
def test_processes(tmp_path: Path, root: Path, method: str, parent: str) -> None:
    """Where the parent has a run open, its children's loops are silent; else each has its own."""
    script = tmp_path / "program.py"
    script.write_text(PROCESSES)
    environment = {**os.environ, "PYTHONPATH": str(Path(tw.__file__).parents[1])}
    words = [sys.executable, str(script), method, parent]
    subprocess.run(words, check=True, env=environment, capture_output=True)
    name = "loop/lr" if parent == "open" else "lr"
    found = [rows(run, name) for run in tw.Api(root).runs("p")]
    assert found == [[(1, 0.1), (2, 0.1), (3, 0.1)]] * (1 if parent == "open" else 2)


def _rank(rank: int, port: int, kind: str, folder: str) -> None:
    import torch.distributed as dist

    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=2)
    tw.autolog(only=["pytorch"], init={"settings": QUIET})
    torch.manual_seed(0)
    model: Any = nn.Linear(4, 2)
    if kind == "ddp":
        model = nn.parallel.DistributedDataParallel(model)
    elif kind == "fsdp":
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        fully_shard(model, mesh=init_device_mesh("cpu", (2,)))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    told = []
    for index in range(3):
        optimizer.zero_grad()
        whole = 0.0
        for part in range(2):
            x = torch.full((3, 4), 1.0 + index + 10 * part + 100 * rank)
            loss = model(x).square().mean() / 2
            loss.backward()
            whole += loss.item()
        if index == 0 and kind == "ddp":
            norm = torch.cat([p.grad.double().flatten() for p in model.parameters()]).norm()
            told.append(float(norm))
        optimizer.step()
        told.append(whole)
    Path(folder, f"told-{rank}").write_text(" ".join(map(repr, told)))
    tw.finish()
    dist.destroy_process_group()


def _start(kind: str, folder: str) -> None:
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    processes: Any = torch.multiprocessing
    processes.start_processes(_rank, args=(port, kind, folder), nprocs=2, start_method="fork")


@pytest.mark.skipif(torch.__version__ < "2.6", reason="it shards on GPUs only")
@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_ranks(tmp_path: Path, root: Path, stored: Stored, kind: str) -> None:
    """Rank zero records its own losses, accumulated ones as sums; the other creates nothing."""
    code = f"import sys; from {__name__} import _start; _start({kind!r}, {str(tmp_path)!r})"
    done = python(code)
    assert done.returncode == 0, done.stderr
    told = [float(word) for word in (tmp_path / "told-0").read_text().split()]
    assert len(tw.Api(root).runs("p")) == 1
    if kind == "ddp":
        assert rows(stored(), "gradients/norm")[0] == (1, pytest.approx(told.pop(0), rel=1e-6))
    else:
        assert "gradients/norm" not in stored().keys()  # noqa: SIM118 - a method, not a mapping
    assert rows(stored(), "loss") == list(enumerate(told, 1))
    assert len(list(stored().path.rglob("*.log"))) <= 1
