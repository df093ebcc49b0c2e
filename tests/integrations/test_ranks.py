"""Two real processes of one job, made by spawn and by fork: rank zero records, and no other."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import trackway as tw

HOME = Path(tw.__file__).parents[1]
FRAMEWORKS = ("sklearn", "xgboost", "lightgbm", "catboost", "optuna", "keras")
"""PyTorch, Lightning, transformers and accelerate have such tests of their own."""

PROGRAM = """
import importlib, os, sys, tempfile

def case(name):
    module = importlib.import_module(f"tests.integrations.{name}.test_{name}")
    kinds = [kind for kind in vars(module).values() if getattr(kind, "framework", None) == name]
    return kinds[0]()

def certain(rows):  # a score is taken where it costs next to nothing, which depends on the machine
    return [row for row in rows if not row[0].endswith("training_score")]

def work(rank, folder, names):
    import torch.distributed as distributed
    store = f"file://{folder}/store"
    distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    for name in names:
        os.environ["TRACKWAY_DIR"] = f"{folder}/{name}-{rank}"
        one = case(name)
        one.train(one.hook())
    distributed.barrier()
    distributed.destroy_process_group()

if __name__ == "__main__":
    import torch.multiprocessing as processes
    how, folder, *names = sys.argv[1:]
    processes.start_processes(work, (folder, names), nprocs=2, start_method=how)
    for name in names:
        import trackway as tw
        one = case(name)
        getattr(type(one), "setup_class", lambda: None)()
        (run,) = tw.Api(f"{folder}/{name}-0").runs("p")
        assert certain(one.rows(run)) == certain(one.expected()), name
        assert run.state == "finished", (name, run.state)
        assert not os.path.exists(f"{folder}/{name}-1"), name
    print("all of them")
"""


@pytest.mark.parametrize("how", ["spawn", "fork"])
def test_ranks(how: str, tmp_path: Path) -> None:
    """With every framework rank zero has one run with exact rows; rank one creates nothing."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    environment = {
        **os.environ,
        "PYTHONPATH": str(HOME),
        "KERAS_BACKEND": "torch",
        "OMP_NUM_THREADS": "1",
        "PYTHONWARNINGS": "ignore",
    }
    done = subprocess.run(
        [sys.executable, str(program), how, str(tmp_path), *FRAMEWORKS],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert done.stdout.splitlines()[-1:] == ["all of them"], done.stderr[-4000:]
