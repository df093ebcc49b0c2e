"""Forks, spawned processes, kills: every value that was acknowledged is found."""

from __future__ import annotations

import os
import pickle
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import trackway as tw
from trackway.api import StoredRun
from trackway.backend.file.folder import logs
from trackway.core.run import Run

from .conftest import Program

Begin = Callable[..., Run]
Stored = Callable[[Run], StoredRun]


def in_child(work: Callable[[], None]) -> int:
    """Do it in a forked child and return its wait status."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        except BaseException:  # noqa: BLE001 - a forked test must never go on as pytest
            os._exit(99)
    return os.waitpid(pid, 0)[1]


def test_a_forked_child_writes_a_log_of_its_own(begin: Begin, stored: Stored) -> None:
    """Parent and child both log on; the run ends with the parent alone."""
    run = begin()
    run.log({"x": 1.0})

    def work() -> None:
        run.log({"x": 2.0, "child": 1.0}, step=5)
        run.config.update({"from": "child"})
        run.finish()

    assert in_child(work) == 0
    assert stored(run).state == "running"
    run.log({"x": 3.0})
    run.finish()
    back = stored(run)
    assert len(logs(back.path)) == 2
    found = back.history("x", repeats="all")["x"]
    assert sorted(zip(found.steps.tolist(), found.values.tolist(), strict=True)) == [
        (0, 1.0),
        (1, 3.0),
        (5, 2.0),
    ]
    assert (back.state, back.config, back.keys()) == ("finished", {"from": "child"}, ["child", "x"])


def test_a_forked_child_that_logs_nothing_leaves_no_file(begin: Begin, stored: Stored) -> None:
    """DataLoader workers cost nothing."""
    run = begin()
    assert in_child(lambda: None) == 0
    run.finish()
    assert len(logs(stored(run).path)) == 1


def test_a_forked_child_that_exits_does_not_end_the_run(program: Program) -> None:
    """The child's atexit, exception and sys.exit are its own affair."""
    code, out, err = program.run(
        """
        import os, sys
        import trackway as tw
        run = tw.init()
        run.log({"x": 1.0})
        for how in ("exit", "raise", "end"):
            sys.stdout.flush()
            if os.fork() == 0:
                if how == "exit":
                    sys.exit(3)
                if how == "raise":
                    raise ValueError("in the child")
                sys.exit()
            os.wait()
        run.log({"x": 2.0})
        """
    )
    assert (code, out) == (0, b"")
    assert err.count(b"ValueError: in the child") == 1
    assert b"trackway" not in err.replace(b"train.py", b"")
    run = program.settled(lambda run: run.state == "finished")
    assert run.history("x")["x"].values.tolist() == [1.0, 2.0]
    assert len(run.attempts) == 1


def test_a_forked_child_does_not_hold_the_lifeline(program: Program) -> None:
    """A worker that outlives a killed training does not keep the run running."""
    process = program.start(
        """
        import os, time
        import trackway as tw
        run = tw.init()
        run.log({"x": 1.0})
        if os.fork() == 0:
            os.setsid()
            time.sleep(15)
            os._exit(0)
        print("up", flush=True)
        time.sleep(60)
        """
    )
    assert process.stdout is not None
    process.stdout.readline()
    program.settled(lambda run: run.environment is not None)
    process.send_signal(signal.SIGKILL)
    process.wait()
    run = program.settled(
        lambda run: run.state == "killed" and run.attempts[-1].signal is not None, 10
    )
    assert run.attempts[-1].signal == signal.SIGKILL


def _spawned(run: Run, number: int) -> None:
    for index in range(50):
        run.log({f"worker/{number}": float(index)})
    run.finish()


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing_workers_log_into_the_run(
    begin: Begin, stored: Stored, method: str
) -> None:
    """A run passed to a worker records there, whatever way it was started."""
    import multiprocessing

    run = begin(name="parent")
    context = multiprocessing.get_context(method)
    workers = [context.Process(target=_spawned, args=(run, number)) for number in range(2)]  # type: ignore[attr-defined]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    run.finish()
    back = stored(run)
    for number in range(2):
        series = back.history(f"worker/{number}")[f"worker/{number}"]
        assert series.values.tolist() == [float(index) for index in range(50)]
        assert series.steps.tolist() == list(range(50))
    assert (back.state, back.name) == ("finished", "parent")


def test_a_pickled_run_keeps_its_identity(begin: Begin) -> None:
    """Name, tags, id and project arrive."""
    run = begin(name="n", tags=["t"])
    copy: Run = pickle.loads(pickle.dumps(run))
    assert (copy.id, copy.project, copy.name, copy.tags) == (run.id, run.project, "n", ("t",))


def _records(run: Run) -> None:
    run.config["api_key"] = "sk-" + "Ab1" * 12
    run.log({"x": 1.0})


def test_what_a_worker_stores_is_masked_too(begin: Begin, stored: Stored) -> None:
    """A pickled run takes the filter, the user's rules and the configuration along."""
    settings = {"companion": False, "console": False, "quiet": True, "redact_names": ["badge"]}
    run = begin(config={"a": 1}, settings=settings)
    copy: Run = pickle.loads(pickle.dumps(run))
    assert copy.config.as_dict() == {"a": 1}
    _records(copy)
    copy.config.badge = "12345"
    run.finish()
    assert stored(run).config == {"a": 1, "api_key": "[masked]", "badge": "[masked]"}


def test_a_disabled_run_is_disabled_everywhere(begin: Begin, root: Path) -> None:
    """Sent to another process it still records nothing."""
    run = begin(mode="disabled")
    copy: Run = pickle.loads(pickle.dumps(run))
    _records(copy)
    assert copy.disabled
    assert not root.exists()


def test_a_fork_closes_no_file_of_the_programs_own(begin: Begin, tmp_path: Path) -> None:
    """The number of our descriptor may have become another file's: it is left alone."""
    run = begin()
    number = run._writer.fd
    os.close(number)
    mine = os.open(tmp_path / "mine", os.O_CREAT | os.O_WRONLY)
    assert mine == number
    assert in_child(lambda: (os.write(mine, b"child"), None)[1]) == 0
    run._writer.check(time.time())  # as every second, and at the end
    run.finish()
    os.write(mine, b" parent")
    os.close(mine)
    assert (tmp_path / "mine").read_bytes() == b"child parent"


def test_eight_processes_of_eight_threads(program: Program) -> None:
    """64 threads in 8 processes join one run: every value is found, exactly once."""
    code = """
        import sys, threading
        import trackway as tw
        run = tw.init(id="shared", settings={"companion": False, "console": False})
        me = int(sys.argv[1])
        def work(thread):
            for index in range(300):
                run.log({f"p{me}/t{thread}": float(index), "all": float(me)}, step=index)
        threads = [threading.Thread(target=work, args=(t,)) for t in range(8)]
        [t.start() for t in threads]; [t.join() for t in threads]
        """
    program.start(code, "0").communicate()  # writes the script; the others run it too
    processes = [program.start(code, str(number)) for number in range(1, 8)]
    for process in processes:
        said = process.communicate(timeout=100)[1].decode().splitlines()
        # 64 threads that do nothing but write may well find the disk slow; nothing else is said.
        assert all("writes take" in line or "written normally" in line for line in said), said
        assert process.returncode == 0
    run = tw.Api(program.root).run("p/shared")
    for me in range(8):
        for thread in range(8):
            series = run.history(f"p{me}/t{thread}")[f"p{me}/t{thread}"]
            assert series.values.tolist() == [float(index) for index in range(300)]
    every = run.history("all", attempts="all", repeats="all")["all"]
    assert len(every) == 8 * 8 * 300
    assert {float(me): 2400 for me in range(8)} == {
        float(me): int((every.values == me).sum()) for me in range(8)
    }


TRAINING = """
    import sys, time
    import torch
    from sklearn.datasets import load_digits
    import trackway as tw

    torch.set_num_threads(1)
    data = load_digits()
    x = torch.tensor(data.data, dtype=torch.float32) / 16
    y = torch.tensor(data.target)
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    run = tw.init(id="digits", config={"lr": 0.1})
    acknowledged = open(sys.argv[1], "a", buffering=1)
    step = 0
    while True:
        batch = torch.randint(len(x), (32,))
        loss = torch.nn.functional.cross_entropy(model(x[batch]), y[batch])
        optimizer.zero_grad(); loss.backward(); optimizer.step()
        run.log({"train/loss": loss.item(), "step/now": step})
        acknowledged.write(f"{loss.item()!r}\\n")
        step += 1
"""


@pytest.mark.timeout(300)
def test_a_killed_training_loses_nothing_and_resumes(program: Program, tmp_path: Path) -> None:
    """Every loss that log() took is on disk after SIGKILL, and again after a resume and a kill."""
    told = tmp_path / "acknowledged"
    for attempt in (1, 2):
        # Measuring coverage would multiply what it takes to import the frameworks.
        quick = {"COVERAGE_PROCESS_CONFIG": "", "COVERAGE_PROCESS_START": ""}
        process = program.start(TRAINING, str(told), **quick)
        deadline = time.monotonic() + 120
        had = len(told.read_text().splitlines()) if told.exists() else 0
        while not told.exists() or len(told.read_text().splitlines()) < had + 300:
            assert time.monotonic() < deadline
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        run = program.settled(lambda run: run.state == "killed")
        losses = [float(line) for line in told.read_text().splitlines()]
        found = run.history("train/loss", attempts="all", repeats="all", order="arrival")[
            "train/loss"
        ]
        # The process may have been killed between the log call and the test's own line, once
        # in each attempt.
        assert len(found) - attempt <= len(losses) <= len(found)
        if attempt == 1:
            assert found.values.tolist()[: len(losses)] == losses
            assert found.steps.tolist() == list(range(len(found)))
        else:
            assert set(losses) <= set(found.values.tolist())
            assert found.attempts.tolist() == sorted(found.attempts.tolist())
    assert [a.number for a in run.attempts] == [1, 2]
    assert [a.state for a in run.attempts] == ["killed", "killed"]
    live = run.history("train/loss")["train/loss"]
    assert live.steps.tolist() == list(range(len(live)))
