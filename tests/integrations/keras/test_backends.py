"""The same trainings on the backends that this process does not have, each in a process."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from importlib.util import find_spec
from pathlib import Path

import keras
import pytest

ROOT = Path(__file__).parents[3]
TRAININGS = Path(__file__).with_name("test_trainings.py")
CORE = (
    "test_batches or test_gradient_accumulation or test_steps_per_execution or asynchronous"
    " or (as_used and True) or test_mixed_precision or test_subclassed or (test_best and False)"
    " or test_weight_histograms or test_gradients or test_autolog_within or test_evaluate_alone"
    " or test_backend_of"
)
"""What could differ from one backend to another; a compiled step takes long to compile."""


OTHERS = sorted({"jax", "tensorflow", "torch"} - {keras.backend.backend()})


@pytest.mark.parametrize("backend", OTHERS)
def test_other_backends(backend: str) -> None:
    """The trainings of ``test_trainings`` are recorded alike on the other backends."""
    if find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    command = [sys.executable, "-m", "pytest", "-q", "-k", CORE, str(TRAININGS)]
    done = subprocess.run(
        command, env=_environment(backend), cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-6000:]


def test_no_other_backend_is_needed(tmp_path: Path) -> None:
    """On JAX everything is recorded where TensorFlow and torch cannot be imported."""
    if find_spec("jax") is None:
        pytest.skip("jax is not installed")
    code = """
        import sys

        class Absent:
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] in ("tensorflow", "torch"):
                    raise ModuleNotFoundError(f"No module named {name!r}", name=name)

        sys.meta_path.insert(0, Absent())
        import numpy as np, keras, trackway as tw
        from trackway.integrations.keras import TrackwayBatchCallback, TrackwayCallback

        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
        ours = [TrackwayCallback(weights=True), TrackwayBatchCallback()]
        model.fit(np.ones((4, 2)), np.ones(4), batch_size=2, verbose=0, callbacks=ours)
        (run,) = tw.Api().runs("p")
        print(*sorted(name for name in run.keys() if not name.endswith("_s")))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**_environment("jax"), "TRACKWAY_DIR": str(tmp_path)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "batch/epoch batch/loss epoch learning_rate loss\n", done.stderr
    assert "trackway:" not in done.stderr


def _environment(backend: str) -> dict[str, str]:
    quiet = {"CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3", "TRACKWAY_PROJECT": "p"}
    return {**os.environ, **quiet, "KERAS_BACKEND": backend, "TRACKWAY_QUIET": "1"}
