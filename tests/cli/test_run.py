"""``trackway run``: to the program everything is as with ``python``."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from ast import literal_eval
from collections.abc import Callable
from pathlib import Path

import pytest

import trackway as tw
from trackway.cli import run as run_module

HOME = str(Path(tw.__file__).parents[1])
MAIN = ["-c", "import sys; del sys.path[0]; from trackway.cli import main; main()"]

SEEN = """
import json, os, sys
print(json.dumps([sys.argv, sys.path, __name__, globals().get("__file__"), __package__,
    sys.flags.interactive, os.getcwd(), sys.stdin.read(), str(__spec__ and __spec__.name)]))
print("sitecustomize said", getattr(sys, "said", None))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a script, a package, and a file that hides a module of the library."""
    (tmp_path / "script.py").write_text(SEEN)
    (tmp_path / "zipped").mkdir()
    (tmp_path / "zipped" / "__main__.py").write_text(SEEN)
    (tmp_path / "hiding").mkdir()
    (tmp_path / "hiding" / "random.py").write_text("WHERE = 'mine'\n")
    (tmp_path / "hiding" / "script.py").write_text("import random\nprint(random.WHERE)\n")
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "helper.py").write_text("HELP = 5\n")
    (package / "train.py").write_text("from .helper import HELP\nprint(HELP)\n" + SEEN)
    return tmp_path


Both = Callable[..., subprocess.CompletedProcess[str]]


def environment(*more: str) -> dict[str, str]:
    """The environment, the package on its path."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([*more, HOME]), "PYTHONNOUSERSITE": "1"}


@pytest.fixture
def both(folder: Path) -> Both:
    """Run words by python and by us; they must agree in all; returns what came of it."""

    def call(
        *words: str, stdin: str = "", path: tuple[str, ...] = ()
    ) -> subprocess.CompletedProcess[str]:
        answers = [
            subprocess.run(
                [sys.executable, *start, *words],
                input=stdin,
                capture_output=True,
                text=True,
                check=False,
                cwd=folder,
                env=environment(*path),
                timeout=60,
            )
            for start in ([], [*MAIN, "run"])
        ]
        told = [(each.returncode, each.stdout, each.stderr) for each in answers]
        assert told[0] == told[1]
        return answers[1]

    return call


@pytest.mark.parametrize(
    "words",
    [
        ["script.py"],
        ["script.py", "--name", "x", "--only", "-h", "--", "-m"],
        ["-m", "package.train", "--project", "p"],
        ["-m", "package"],
        ["-c", SEEN, "--tag", "x"],
        ["hiding/script.py"],
        ["-", "a"],
        [],
        ["zipped", "a"],
        ["./script.py"],
        ["nothing.py"],
        ["nothing"],
        ["-c", "import sys; sys.exit(7)"],
        ["-c", "raise SystemExit('told')"],
        ["-c", "1 / 0"],
        ["-c", "import nothing_of_that_name"],
        ["-c", "import os; os._exit(9)"],
        ["-u", "-W", "ignore", "-X", "utf8", "script.py"],
        ["-i", "-c", "x = 3"],
        ["-V"],
    ],
    ids=lambda words: " ".join(words).strip().split("\n")[0][:40] or "prompt",
)
def test_all_is_as_with_python(both: Both, words: list[str]) -> None:
    """Arguments, path, main module, input, output, exit code and messages are the same."""
    both(*words, stdin="print(x) if 'x' in globals() else print(5)\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_signals(folder: Path, number: signal.Signals) -> None:
    """A signal meets the program itself, under the number of the process that was started."""
    code = "import time; print('ready', flush=True); time.sleep(60)"
    ends = []
    for start in ([], [*MAIN, "run"]):
        child = subprocess.Popen(
            [sys.executable, *start, "-c", code],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=folder,
            env=environment(),
        )
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        time.sleep(0.1)
        child.send_signal(number)
        ends.append((child.communicate(timeout=60), child.returncode))
    assert ends[0] == ends[1]
    assert ends[1][1] == -number


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_multiprocessing(folder: Path, both: Both, method: str) -> None:
    """Processes of multiprocessing work as ever."""
    (folder / "many.py").write_text(
        "import multiprocessing as mp\n"
        "def work(x):\n    return x * x\n"
        "if __name__ == '__main__':\n"
        f"    with mp.get_context({method!r}).Pool(2) as pool:\n"
        "        print(pool.map(work, range(5)))\n"
    )
    assert both("many.py").stdout == "[0, 1, 4, 9, 16]\n"


def test_the_next_sitecustomize(folder: Path, both: Both) -> None:
    """The sitecustomize that Python would have imported is imported; one that fails, too."""
    theirs = folder / "site"
    theirs.mkdir()
    (theirs / "sitecustomize.py").write_text("import sys; sys.said = __file__\n")
    assert str(theirs) in both("script.py", path=(str(theirs),)).stdout.splitlines()[-1]
    # It is the program that has it fail, and not the command that starts the program.
    text = "import sys\nif 'script.py' in sys.orig_argv[1]: raise ValueError('theirs')\n"
    (theirs / "sitecustomize.py").write_text(text)
    assert "theirs" in both("script.py", path=(str(theirs),)).stderr


def test_nothing_is_loaded_before_a_framework(folder: Path) -> None:
    """Neither Trackway nor a module of the library is loaded before the program needs one."""
    code = "import sys; print(sorted(sys.modules))"
    said = [
        subprocess.run(
            [sys.executable, *start, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            cwd=folder,
            env=environment(),
        ).stdout
        for start in ([], [*MAIN, "run"])
    ]
    extra = set(literal_eval(said[1])) - set(literal_eval(said[0]))
    assert extra <= {"sitecustomize", "__future__"}


FRAMEWORK = """
import argparse
parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int)
parser.add_argument("--seed", type=int, default=3)
args = parser.parse_args()
import torch
model = torch.nn.Linear(2, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
for epoch in range(args.epochs):
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
"""


def test_a_training_is_recorded(folder: Path, tmp_path: Path) -> None:
    """A script's training is recorded with its arguments, by name, group, tags and project."""
    pytest.importorskip("torch")
    (folder / "train.py").write_text(FRAMEWORK)
    root = tmp_path / "runs"
    words = ["--dir", str(root), "run", "--project", "digits", "--name", "first", "--group", "g"]
    words += ["--tag=a", "--tag", "b", "--only", "torch", "train.py", "--epochs", "2"]
    done = subprocess.run(
        [sys.executable, *MAIN, *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={**environment(), "TRACKWAY_QUIET": "1", "TRACKWAY_COMPANION": "0"},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    (run,) = tw.Api(root).runs("digits")
    assert (run.name, run.group, sorted(run.tags)) == ("first", "g", ["a", "b"])
    assert run.config["args"] == {"epochs": 2, "seed": 3}
    assert run.history("lr")["lr"].steps.tolist() == [1, 2]
    assert run.state == "finished"


def test_isolated_python_says_so(folder: Path) -> None:
    """Where Python reads no PYTHONPATH nothing can be recorded: a sentence says so."""
    done = subprocess.run(
        [sys.executable, *MAIN, "run", sys.executable, "-I", "-c", "print(1)"],
        capture_output=True,
        text=True,
        check=True,
        cwd=folder,
        env=environment(),
    )
    assert done.stdout == "1\n"
    assert done.stderr == "trackway: python -I reads no PYTHONPATH: nothing is recorded\n"


def test_any_command(folder: Path) -> None:
    """A command is executed as it is, and Python in it finds what records."""
    done = subprocess.run(
        [sys.executable, *MAIN, "run", "sh", "-c", "echo $1; echo $PYTHONPATH", "sh", "--name"],
        capture_output=True,
        text=True,
        check=True,
        cwd=folder,
        env=environment(),
    )
    assert done.stdout == f"--name\n{run_module._STARTUP}{os.pathsep}{HOME}\n"


def test_a_folder_that_is_called_like_a_command(folder: Path) -> None:
    """A folder without ``__main__.py`` is no program: the command of its name is meant."""
    (folder / "sh").mkdir()
    words = [sys.executable, *MAIN, "run", "sh", "-c", "echo here"]
    done = subprocess.run(
        words, capture_output=True, text=True, check=True, cwd=folder, env=environment()
    )
    assert done.stdout == "here\n"
    (folder / "sh" / "__main__.py").write_text("print('the folder')\n")
    done = subprocess.run(
        words, capture_output=True, text=True, check=True, cwd=folder, env=environment()
    )
    assert done.stdout == "the folder\n"


def test_unknown_framework(folder: Path) -> None:
    """A wrong name is refused before anything is run."""
    done = subprocess.run(
        [sys.executable, *MAIN, "run", "--without", "kears", "-c", "print(1)"],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env=environment(),
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "no framework ['kears']" in done.stderr


def test_the_companion_does_not_inherit_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our own processes are no part of the program: nothing of it is on their PYTHONPATH."""
    from trackway.core import _launch

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(run_module._STARTUP), "/theirs"]))
    assert _launch._split_environment()[0]["PYTHONPATH"] == "/theirs"
