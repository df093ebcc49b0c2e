"""Runs in a folder of the test's own, and programs in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import trackway as tw
from trackway.api import StoredRun
from trackway.core import current

QUIET = {"companion": False, "console": False, "quiet": True}
PACKAGE_HOME = str(Path(tw.__file__).parents[1])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An empty root for runs."""
    return tmp_path / "runs"


@pytest.fixture(autouse=True)
def no_run_is_left() -> Iterator[None]:
    """Each test ends every run it began."""
    yield
    left = current.open_runs()
    for run in left:
        run.finish()


@pytest.fixture
def begin(root: Path) -> Callable[..., Any]:
    """``trackway.init`` into the test's root, capturing nothing unless asked."""

    def init(**arguments: Any) -> Any:
        return tw.init(**{"project": "p", "dir": root, "settings": QUIET, **arguments})

    return init


@pytest.fixture
def stored(root: Path) -> Callable[[Any], StoredRun]:
    """The run as a reader finds it on disk."""
    return lambda run: tw.Api(root).run(f"{run.project}/{run.id}")


class Program:
    """A Python program in a process of its own, with a root to record into."""

    def __init__(self, folder: Path, root: Path) -> None:
        self.folder = folder
        self.root = root
        self._started: list[subprocess.Popen[bytes]] = []

    def environment(self, **more: str) -> dict[str, str]:
        """The environment the programs run in; a variable that is to be empty is left out."""
        paths = [PACKAGE_HOME, *filter(None, [os.environ.get("PYTHONPATH")])]
        given = {
            **os.environ,
            "TRACKWAY_DIR": str(self.root),
            "TRACKWAY_PROJECT": "p",
            "TRACKWAY_QUIET": "1",
            "PYTHONPATH": os.pathsep.join(paths),
            **more,
        }
        return {name: value for name, value in given.items() if value or name not in more}

    def start(self, code: str, *arguments: str, **more: str) -> subprocess.Popen[bytes]:
        """Start it; standard streams are pipes."""
        script = self.folder / "train.py"
        text = textwrap.dedent(code)
        if not script.exists() or script.read_text() != text:
            script.write_text(text)  # not again under a program that is just reading it
        process = subprocess.Popen(
            [sys.executable, str(script), *arguments],
            cwd=self.folder,
            env=self.environment(**more),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._started.append(process)
        return process

    def end(self) -> None:
        """Kill what still runs."""
        for process in self._started:
            process.kill()
            process.communicate()

    def run(self, code: str, *arguments: str, **more: str) -> tuple[int, bytes, bytes]:
        """Run it to its end: exit code, standard output, standard error."""
        process = self.start(code, *arguments, **more)
        out, err = process.communicate(timeout=100)
        return process.returncode, out, err

    def stored(self) -> StoredRun:
        """The newest run it recorded."""
        run = tw.Api(self.root).runs("p")[0]
        run.refresh()
        return run

    def settled(self, until: Callable[[StoredRun], bool], timeout_s: float = 20.0) -> StoredRun:
        """The newest run, once the companion has recorded what is waited for."""
        deadline = time.monotonic() + timeout_s
        while True:
            run = self.stored()
            if until(run):
                return run
            assert time.monotonic() < deadline, (
                f"not settled: {run!r} {run.attempts} {run.troubles}"
            )
            time.sleep(0.05)


@pytest.fixture
def program(tmp_path: Path, root: Path) -> Iterator[Program]:
    """Programs that record into the test's root."""
    folder = tmp_path / "code"
    folder.mkdir()
    program = Program(folder, root)
    yield program
    program.end()
