"""However a program ends, it ends as it would have without us, and the run says how."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable

import pytest

import trackway as tw
from trackway.api import StoredRun
from trackway.core import _end
from trackway.core.run import Run

from .conftest import Program

Begin = Callable[..., Run]

PROLOGUE = """\
import os, signal, sys, time
WITH = os.environ.get("WITH_TRACKWAY") == "1"
if WITH:
    import trackway as tw
    run = tw.init(config={"lr": 1})
    run.log({"x": 1.0})
"""

ENDS: dict[str, tuple[str, str, int | None]] = {
    # name: (code, state, exit code as the run tells it)
    "to its end": ("", "finished", 0),
    "finish": ("if WITH: run.finish()", "finished", 0),
    "finish with a code": ("if WITH: run.finish(exit_code=4)", "failed", 4),
    "exception": ("def f():\n    1 / 0\nf()", "failed", 1),
    "exception with cause": (
        "try:\n    {}['k']\nexcept KeyError as e:\n    raise ValueError('worse 🙂') from e",
        "failed",
        1,
    ),
    "syntax error at run time": ("compile('a b', 'x.py', 'exec')", "failed", 1),
    "sys.exit(3)": ("sys.exit(3)", "failed", 3),
    "sys.exit(0)": ("sys.exit(0)", "finished", 0),
    "sys.exit()": ("sys.exit()", "finished", 0),
    "sys.exit(text)": ("sys.exit('a message')", "failed", 1),
    "sys.exit(300)": ("sys.exit(300)", "failed", 44),
    "sys.exit caught": ("try:\n    sys.exit(3)\nexcept SystemExit:\n    pass", "finished", 0),
    "raise SystemExit(2)": ("raise SystemExit(2)", "failed", 2),
    "argparse": ("import argparse\nargparse.ArgumentParser().parse_args(['--no'])", "failed", 2),
    "exit in a function": ("from sys import exit\ndef f():\n    exit(5)\nf()", "failed", 5),
    "ctrl-c": ("os.kill(os.getpid(), signal.SIGINT)\ntime.sleep(30)", "interrupted", 130),
    "sigterm": ("os.kill(os.getpid(), signal.SIGTERM)\ntime.sleep(30)", "killed", None),
    "sigkill": ("os.kill(os.getpid(), signal.SIGKILL)\ntime.sleep(30)", "killed", None),
    "abort": ("os.abort()", "killed", None),
}


@pytest.mark.parametrize("name", ENDS)
def test_the_program_ends_as_ever_and_the_run_says_how(program: Program, name: str) -> None:
    """Exit code and both streams are byte for byte those of the program without Trackway."""
    code, state, exit_code = ENDS[name]
    without = program.run(PROLOGUE + code)
    with_us = program.run(PROLOGUE + code, WITH_TRACKWAY="1")
    assert with_us == without
    run = program.settled(
        lambda run: run.state == state and run.attempts[-1].exit_code == exit_code
    )
    assert run.history("x")["x"].values.tolist() == [1.0]
    assert run.ended is not None
    if name == "exception":
        assert run.attempts[-1].exception is not None
        assert run.attempts[-1].exception["type"] == "ZeroDivisionError"
        assert run.attempts[-1].exception["message"] == "division by zero"
        assert "in f\n    1 / 0" in run.attempts[-1].exception["traceback"]


def test_os_exit_is_seen_from_outside(program: Program) -> None:
    """os._exit runs nothing of Python: the companion asks the kernel, or calls it killed."""
    without = program.run(PROLOGUE + "os._exit(7)")
    assert program.run(PROLOGUE + "os._exit(7)", WITH_TRACKWAY="1") == without
    run = program.settled(lambda run: run.state != "running" and run.attempts[-1].ended is not None)
    known = run.attempts[-1].exit_code is not None
    assert (run.state, run.attempts[-1].exit_code) == (("failed", 7) if known else ("killed", None))


def test_a_signal_is_named(program: Program) -> None:
    """Where the kernel tells, the run says which signal it was."""
    process = program.start(PROLOGUE + "print('up', flush=True)\ntime.sleep(60)", WITH_TRACKWAY="1")
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    program.settled(lambda run: bool(run.environment))
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == -signal.SIGTERM
    run = program.settled(lambda run: run.state == "killed" and run.attempts[-1].ended is not None)
    assert run.attempts[-1].signal in (signal.SIGTERM, None)


def test_a_hook_of_the_users_own_still_runs(program: Program) -> None:
    """Set before or after init(), sys.excepthook gets the error, and the run knows it too."""
    hook = "def hook(k, e, t):\n    print('mine', e)\n"
    for before, after in (
        (hook + "sys.excepthook = hook\n", ""),
        ("", hook + "sys.excepthook = hook\n"),
    ):
        code, out, err = program.run(
            "import sys\n" + before + PROLOGUE + after + "raise ValueError('x')", WITH_TRACKWAY="1"
        )
        assert (code, out, err) == (1, b"mine x\n", b"")
    states = sorted(run.state for run in tw.Api(program.root).runs("p"))
    # A hook that replaced ours hides the exception; the exit code still tells.
    assert states == ["failed", "failed"]


def test_the_hooks_are_put_back(begin: Begin) -> None:
    """After the last run nothing of ours is left in sys."""
    before = sys.excepthook, sys.exit
    first, second = begin(), begin()
    assert sys.excepthook is _end._on_exception
    first.finish()
    assert sys.excepthook is _end._on_exception
    second.finish()
    assert (sys.excepthook, sys.exit) == before


def test_a_hook_chained_to_ours_survives_a_second_run(program: Program) -> None:
    """Somebody's hook calls ours, runs end and begin: each is called once, and nothing loops."""
    code, out, err = program.run(
        """
        import sys
        import trackway as tw
        tw.init(settings={"companion": False}).finish()
        tw.init(settings={"companion": False})
        before = sys.excepthook, sys.exit
        def hook(*error):
            print("theirs")
            before[0](*error)
        def leave(status=None):
            print("leaving")
            before[1](status)
        sys.excepthook, sys.exit = hook, leave
        tw.finish()
        run = tw.init(settings={"companion": False}, id="last")
        try:
            sys.exit(3)
        except SystemExit:
            pass
        raise ValueError("x")
        """
    )
    assert (code, out) == (1, b"leaving\ntheirs\n")
    assert err.count(b"ValueError: x") == 1
    assert tw.Api(program.root).run("last").state == "failed"


def test_a_finished_run_stays_finished_when_its_program_fails_later(program: Program) -> None:
    """In a sweep, the crash of one run is not that of those before it."""
    program.run(
        """
        import trackway as tw
        with tw.init(name="first"): pass
        tw.init(name="second").finish()
        tw.init(name="third")
        raise ValueError("x")
        """
    )
    program.settled(lambda run: "death" in [event.type for _, event in run._logs.events()])
    deadline = time.monotonic() + 20
    while True:
        runs = tw.Api(program.root).runs("p")
        for run in runs:
            run.refresh()
        if all("death" in [event.type for _, event in run._logs.events()] for run in runs):
            break
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert {run.name: run.state for run in runs} == {
        "first": "finished",
        "second": "finished",
        "third": "failed",
    }


def test_a_caught_exit_under_m_is_corrected_from_outside(program: Program) -> None:
    """python -m gives no sign that an exit was caught; the companion's exit code decides."""
    (program.folder / "mod.py").write_text(
        "import sys\nimport trackway as tw\nrun = tw.init()\n"
        "try:\n    sys.exit(3)\nexcept SystemExit:\n    pass\n"
    )
    program.run("import runpy, sys\nsys.argv[0] = 'x'\nrunpy.run_module('mod')")
    run = program.settled(lambda run: "death" in [event.type for _, event in run._logs.events()])
    assert (run.state, run.attempts[-1].exit_code) == ("finished", 0)


@pytest.mark.parametrize(
    ("error", "state", "code"),
    [
        (None, "finished", 0),
        (ValueError("v"), "failed", 1),
        (SystemExit(0), "finished", 0),
        (SystemExit(6), "failed", 6),
        (KeyboardInterrupt(), "interrupted", 130),
    ],
)
def test_a_with_block_ends_the_run(
    begin: Begin,
    stored: Callable[[Run], StoredRun],
    error: BaseException | None,
    state: str,
    code: int,
) -> None:
    """The exception passes through, and the run ends with it."""
    raised: BaseException | None = None
    try:
        with begin() as run:
            if error is not None:
                raise error
    except BaseException as caught:  # noqa: BLE001 - that it is the very same one is the test
        raised = caught
    assert raised is error
    attempt = stored(run).attempts[-1]
    assert (attempt.state, attempt.exit_code) == (state, code)


def test_finish_twice_is_once(begin: Begin, stored: Callable[[Run], StoredRun]) -> None:
    """The first end counts."""
    run = begin()
    run.finish(exit_code=1)
    run.finish()
    assert stored(run).state == "failed"


def test_secrets_in_a_traceback_are_masked(program: Program) -> None:
    """An error message that quotes a token is stored without it."""
    token = "ghp_" + "a1B2" * 9
    program.run(PROLOGUE + f"raise ValueError('denied for {token}')", WITH_TRACKWAY="1")
    exception = program.stored().attempts[-1].exception
    assert exception is not None
    assert exception["message"] == "denied for [masked]"
    assert token not in exception["traceback"]


def test_a_pipeline_does_not_wait_for_the_companion(program: Program) -> None:
    """`python train.py | cat` ends when training does: the companion holds no stream of ours."""
    code = PROLOGUE + "print('done')"
    process = program.start(code, WITH_TRACKWAY="1", TRACKWAY_SYSTEM_INTERVAL_S="0.5")
    out, err = process.communicate(timeout=20)
    assert (out, err) == (b"done\n", b"")


def test_children_of_the_program_are_its_own(program: Program) -> None:
    """os.wait() meets only the program's children, and a SIGCHLD handler only their ends."""
    code, out, err = program.run(
        PROLOGUE
        + """
seen = []
signal.signal(signal.SIGCHLD, lambda *a: seen.append(a))
time.sleep(1.0)
assert not seen, seen
try:
    os.waitpid(-1, os.WNOHANG)
    raise AssertionError("a child that is not ours")
except ChildProcessError:
    print("none")
""",
        WITH_TRACKWAY="1",
    )
    assert (code, out, err) == (0, b"none\n", b"")
