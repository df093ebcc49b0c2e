"""The examples, run as a reader would run them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import trackway as tw

HOME = Path(tw.__file__).parents[1]
EXAMPLES = sorted((HOME / "examples" / "integrations").glob("*.py"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example(example: Path, root: Path, tmp_path: Path) -> None:
    """It runs from any folder without an argument, nothing goes wrong, its runs are finished."""
    environment = {**os.environ, "PYTHONPATH": str(HOME)}
    environment.pop("TRACKWAY_PROJECT")
    done = subprocess.run(
        [sys.executable, str(example)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    assert "trackway:" not in done.stderr
    api = tw.Api(root)
    runs = [run for project in api.projects() for run in api.runs(project)]
    assert runs
    assert {run.state for run in runs} == {"finished"}
    assert all(run.keys() or run.summary for run in runs)
    assert [run.troubles for run in runs if run.troubles] == []
