from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

import trackway
from trackway.backend.file.process import process_started
from trackway.core import _launch
from trackway.core.companion._main import next_beat
from trackway.types import Settings

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs Linux or macOS")
linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux: pidfd")

HOME = str(Path(trackway.__file__).parents[1])

# Stand-ins for what the companion calls; the companion itself, its processes, signals and
# samples are real. Each record is a line of JSON.
STAND_INS = """
import json, time, types
def module(name, **names):
    sys.modules[name] = types.SimpleNamespace(__spec__=None, **names)

class Recorder:
    def __init__(self, root, header):
        self.file = open(root / 'records', 'a')
        self.put('create', header | {'pid': os.getpid()})
    def put(self, kind, fields, step=None):
        self.file.write(json.dumps([kind, step, fields]) + '\\n')
        self.file.flush()
    def event(self, type, fields, time=None):
        self.put(type, dict(fields))
    def row(self, values, step, *, space='metric', time=None):
        self.put('row ' + space, dict(values), step)
    def close(self):
        self.put('close', {})
    @classmethod
    def create(cls, root, **header):
        return cls(root, header)
module('trackway.backend.file.writer', LogWriter=Recorder)

class Blobs:
    def __init__(self, root): pass
module('trackway.backend.file.blobs', BlobStore=Blobs)

class Redactor:
    def __init__(self, names, patterns): pass
    def text(self, text, where):
        return text.replace('hunter2', '***')
    def masked(self):
        return [types.SimpleNamespace(where='argv', rule='name', count=2)]
module('trackway.core._redact', Redactor=Redactor)
module('trackway.core.companion._git', capture_git=lambda start, **o: {
    'start': str(start), 'fallback': str(o['fallback']), 'exclude': str(o['exclude'])})
module('trackway.core.companion._environment',
    capture_environment=lambda **o: {'argv': list(o['argv']), 'has_home': 'HOME' in o['environ']},
    capture_packages=lambda: {'msgspec': '0.19'})

class Gpus:
    reason = 'no driver'
    def __init__(self, pids, visible): pass
    def describe(self): return []
module('trackway.core.companion._gpu', GpuSampler=Gpus)
from trackway.core.companion import _main, _death
"""


class _Run:
    """A training process, driven line by line, and the records of its companion."""

    def __init__(self, folder: Path, adapt: str, spec: dict[str, Any], **settings: Any) -> None:
        self.folder = folder
        head, _, tail = _launch._PROGRAM.partition("from trackway.core.companion._main")
        program = f"{head}{STAND_INS}\n{adapt}\nfrom trackway.core.companion._main{tail}"
        fields = {"root": str(folder), "project": "p", "run": "r", "cwd": str(folder), **spec}
        defaults = msgspec.structs.asdict(Settings(system_interval_s=0.1))
        (folder / "training.py").write_text(
            f"import sys, os; sys.path.append({HOME!r})\n"
            "from trackway.core import _launch\n"
            "from trackway.core.companion._spec import CompanionSpec\n"
            f"_launch._PROGRAM = {program!r}\n"
            f"fields = {{'pid': os.getpid(), **{fields!r}}}\n"
            f"settings = {defaults | settings!r}\n"
            "line = _launch.launch(CompanionSpec(settings=settings, **fields))\n"
            "assert line.reason is None\n"
            "for text in sys.stdin:\n"
            "    exec(text)\n"
            "    print('done', flush=True)\n"
        )
        self.process = subprocess.Popen(
            [sys.executable, str(folder / "training.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def do(self, line: str) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "done\n"

    def end(self, line: str) -> int:
        return (self.process.communicate(line + "\n"), self.process.returncode)[1]

    def records(self) -> list[tuple[str, int | None, dict[str, Any]]]:
        path = self.folder / "records"
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        return [tuple(json.loads(line)) for line in lines if line.endswith("\n")]

    def kinds(self) -> list[str]:
        return [kind for kind, _, _ in self.records()]

    def only(self, kind: str) -> dict[str, Any]:
        (fields,) = [fields for k, _, fields in self.records() if k == kind]
        return fields

    def wait_for(self, what: str | Callable[[], bool], timeout_s: float = 20) -> None:
        deadline = time.monotonic() + timeout_s
        while not (what in self.kinds() if isinstance(what, str) else what()):
            assert time.monotonic() < deadline, self.records()
            time.sleep(0.01)

    def companion(self) -> psutil.Process:
        self.wait_for("create")
        return psutil.Process(self.only("create")["pid"])

    def wait_for_end(self, timeout_s: float = 20) -> None:
        pid = self.only("create")["pid"]
        self.wait_for("close", timeout_s)
        self.wait_for(lambda: not _is_running(pid), timeout_s)


def _is_running(pid: int) -> bool:
    """Whether the process has not ended; whoever inherits it may take a while to collect it."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., _Run]]:
    """Start a training process whose companion has stand-ins, adapted by some lines of code."""
    runs: list[_Run] = []

    def make(adapt: str = "", spec: dict[str, Any] | None = None, **settings: Any) -> _Run:
        runs.append(_Run(tmp_path, adapt, spec or {}, **settings))
        return runs[-1]

    yield make
    for run in runs:
        run.process.kill()
        run.process.communicate()
        if "create" in run.kinds() and _is_running(run.only("create")["pid"]):
            run.wait_for_end(40)


Start = Callable[..., _Run]


def test_everything_is_recorded_in_order(start: Start, tmp_path: Path) -> None:
    """First a sample, then the captures in order, samples by number, and the death at the end."""
    run = start(spec={"argv": ["train.py"], "script": "/s/train.py", "attempt": 2})
    run.wait_for("masked")
    run.wait_for(lambda: run.kinds().count("row system") >= 4)
    assert run.end("os._exit(3)") == 3
    run.wait_for_end()
    kinds = run.kinds()
    assert kinds[:2] == ["create", "row system"]
    captures = [kind for kind in kinds if kind in ("environment", "git", "packages", "masked")]
    assert captures == ["environment", "git", "packages", "masked"]
    assert kinds[-3:] == ["row system", "death", "close"]
    steps = [step for kind, step, _ in run.records() if kind == "row system"]
    assert steps == list(range(len(steps)))
    header = run.only("create")
    assert (header["project"], header["run"], header["role"], header["attempt"]) == (
        "p",
        "r",
        "companion",
        2,
    )
    assert run.only("environment") == {
        "argv": ["train.py"],
        "has_home": True,
        "gpus": [],
        "gpus_reason": "no driver",
        "argv_truncated": False,
    }
    root = str(tmp_path)
    assert run.only("git") == {"start": "/s", "fallback": root, "exclude": root}
    assert run.only("packages") == {"items": {"msgspec": "0.19"}}
    assert run.only("masked") == {"items": [{"where": "argv", "rule": "name", "count": 2}]}
    assert run.only("death") == {"exit_code": 3, "signal": None, "known": True}


def test_samples_keep_their_schedule(start: Start) -> None:
    """Thirty beats of a tenth of a second take three seconds, however long each sample takes."""
    run = start()
    run.wait_for("row system")
    started, first = time.monotonic(), run.kinds().count("row system")
    run.wait_for(lambda: run.kinds().count("row system") >= first + 30)
    assert 2.7 < time.monotonic() - started < 3.6
    run.end("os._exit(0)")


def test_without_sampling_there_are_heartbeats(start: Start) -> None:
    """With sampling off the companion shows every so often that it is there."""
    run = start("_main.HEARTBEAT_S = 0.1", system=False)
    run.wait_for(lambda: run.kinds().count("heartbeat") >= 3)
    run.end("os._exit(0)")
    run.wait_for_end()
    assert "row system" not in run.kinds()
    assert run.kinds()[1] == "heartbeat"
    assert run.kinds()[-2:] == ["death", "close"]


def test_captures_can_be_switched_off(start: Start) -> None:
    """What is switched off is not recorded; the death is all the same."""
    run = start(system=False, git=False, packages=False, environment=False)
    run.wait_for("masked")
    run.end("os._exit(0)")
    run.wait_for_end()
    assert set(run.kinds()) == {"create", "heartbeat", "masked", "death", "close"}


def test_a_capture_that_raises_is_told_and_costs_itself_only(start: Start) -> None:
    """An error in one capture becomes one masked trouble event; the others are there."""
    run = start(
        "sys.modules['trackway.core.companion._git'].capture_git = lambda *a, **o: {}['hunter2']"
    )
    run.wait_for("masked")
    run.wait_for("trouble")
    run.end("os._exit(0)")
    run.wait_for_end()
    trouble = run.only("trouble")
    assert (trouble["place"], trouble["reason"], trouble["count"]) == (
        "companion.git",
        "KeyError",
        1,
    )
    assert "did not work (KeyError: '***')" in trouble["sentence"]
    assert {"environment", "packages", "masked", "death"} <= set(run.kinds())


def test_without_a_filter_nothing_is_captured(start: Start) -> None:
    """What cannot be masked is not stored; sampling goes on."""
    run = start("del sys.modules['trackway.core._redact'].Redactor")
    run.wait_for("trouble")
    run.wait_for(lambda: run.kinds().count("row system") >= 3)
    run.end("os._exit(0)")
    run.wait_for_end()
    assert set(run.kinds()) == {"create", "row system", "trouble", "death", "close"}
    assert run.only("trouble")["sentence"] == "companion.redact did not work (ImportError)"


def test_repeated_trouble_is_told_once_and_counted_at_the_end(start: Start) -> None:
    """A sampler that always fails is reported at first, and with its count at the end."""
    run = start(
        "from trackway.core.companion import _system\n"
        "_system.SystemSampler.sample = lambda self: 1 / 0"
    )
    run.wait_for("trouble")
    time.sleep(0.5)
    run.end("os._exit(0)")
    run.wait_for_end()
    counts = [fields["count"] for kind, _, fields in run.records() if kind == "trouble"]
    assert len(counts) == 2
    assert counts[0] <= 2
    assert counts[1] >= 5


def test_a_capture_that_hangs_stops_nothing(start: Start) -> None:
    """While git hangs samples are taken, and the companion ends soon after the training."""
    run = start(
        "sys.modules['trackway.core.companion._git'].capture_git = lambda *a, **o: time.sleep(99)\n"
        "_main.UNFINISHED_S = 0.5"
    )
    run.wait_for("environment")
    run.wait_for(lambda: run.kinds().count("row system") >= 5)
    run.end("os._exit(0)")
    run.wait_for_end(5)
    assert run.kinds()[-3:] == ["row system", "death", "close"]
    assert not {"git", "packages", "masked"} & set(run.kinds())


def test_a_slow_capture_is_finished_after_the_death(start: Start) -> None:
    """A short training has its captures, too: the companion finishes them."""
    run = start(
        "def slow(*arguments, **options):\n"
        "    time.sleep(0.5)\n"
        "    return {}\n"
        "sys.modules['trackway.core.companion._git'].capture_git = slow"
    )
    run.wait_for("create")
    run.end("os._exit(0)")
    run.wait_for_end()
    assert {"death", "environment", "git", "packages", "masked"} <= set(run.kinds())


def test_a_driver_that_hangs_stops_nothing(start: Start) -> None:
    """While the GPU driver hangs everything else is recorded, and the reason told."""
    run = start(
        "class Gpus:\n"
        "    def __init__(self, pids, visible): time.sleep(99)\n"
        "sys.modules['trackway.core.companion._gpu'].GpuSampler = Gpus\n"
        "_main.GPU_START_S = 0.3; _main.UNFINISHED_S = 0.5"
    )
    run.wait_for("masked")
    run.wait_for(lambda: run.kinds().count("row system") >= 5)
    run.end("os._exit(0)")
    run.wait_for_end(5)
    assert run.only("environment")["gpus_reason"] == "the NVIDIA driver does not answer"


def test_gpu_samples_have_the_number_of_their_system_sample(start: Start) -> None:
    """Each GPU sample is a row of its own, of the same step as the sample of the machine."""
    run = start(
        "class Gpus:\n"
        "    reason = None\n"
        "    def __init__(self, pids, visible): self.pids = pids\n"
        "    def describe(self): return [{'index': 0}]\n"
        "    def sample(self): return {'gpu.0.power_watts': len(self.pids())}\n"
        "sys.modules['trackway.core.companion._gpu'].GpuSampler = Gpus"
    )
    run.wait_for(lambda: run.kinds().count("row system") >= 8)
    run.end("os._exit(0)")
    run.wait_for_end()
    rows = [(step, fields) for kind, step, fields in run.records() if kind == "row system"]
    gpu = [step for step, fields in rows if "gpu.0.power_watts" in fields]
    machine = [step for step, fields in rows if "load.1m" in fields]
    assert len(gpu) == len(set(gpu)) >= 3
    assert set(gpu) <= set(machine)
    assert rows[3][1].get("gpu.0.power_watts", 1) == 1
    assert run.only("environment")["gpus"] == [{"index": 0}]
    assert "gpus_reason" not in run.only("environment")


@linux
def test_a_training_of_an_instant(tmp_path: Path) -> None:
    """A training that ends before its companion is up has captures, and a known end if it can."""
    run = _Run(tmp_path, "", {})
    assert run.end("os._exit(7)") == 7
    run.wait_for("close")
    assert {"row system", "environment", "git", "packages", "masked"} <= set(run.kinds())
    assert run.only("death")["exit_code"] in (7, None)


def test_a_killed_training(start: Start) -> None:
    """The death of a killed training names the signal."""
    run = start()
    run.wait_for("masked")
    run.process.kill()
    run.process.wait()
    run.wait_for_end()
    assert run.only("death")["signal"] in (9, None)
    assert run.only("death")["exit_code"] is None
    assert run.kinds()[-3:] == ["row system", "death", "close"]


def test_goodbye_and_then_the_end(start: Start) -> None:
    """After goodbye there is one last sample, and the exit code of a process that ends soon."""
    run = start()
    run.wait_for("masked")
    run.do("line.close()")
    time.sleep(0.3)
    count = run.kinds().count("row system")
    time.sleep(0.3)
    assert run.kinds().count("row system") == count
    run.end("os._exit(5)")
    run.wait_for_end()
    assert run.only("death")["exit_code"] == 5
    assert run.kinds().count("row system") == count


def test_goodbye_of_a_process_that_lives_on(start: Start) -> None:
    """A process that goes on after goodbye is left alone, and nobody calls it dead."""
    run = start("_main.LINGER_S = 0.3")
    run.wait_for("masked")
    run.do("line.close()")
    run.wait_for_end()
    assert run.process.poll() is None
    assert "death" not in run.kinds()
    assert run.kinds()[-2:] == ["row system", "close"]


@linux
def test_a_lifeline_closed_by_others_is_not_the_end(start: Start) -> None:
    """A program that closes all descriptors keeps its companion until it really ends."""
    run = start()
    run.wait_for("masked")
    run.do("os.closerange(3, 200)")
    count = run.kinds().count("row system")
    run.wait_for(lambda: run.kinds().count("row system") >= count + 5)
    run.end("os._exit(6)")
    run.wait_for_end()
    assert run.only("death")["exit_code"] == 6


def test_a_stray_process_holding_the_lifeline_delays_nothing(start: Start) -> None:
    """The companion ends with the training, although a forked process has the lifeline open."""
    run = start()
    run.wait_for("masked")
    run.do("import time; stray = os.fork() or (os.closerange(0, 3), time.sleep(20), os._exit(0))")
    run.process.kill()
    run.process.wait()
    run.wait_for_end(10)
    assert "death" in run.kinds()


def test_without_pidfd_the_end_is_noticed_too(start: Start) -> None:
    """Where there is no pidfd the companion looks whether the process is there."""
    run = start("_death._open_pidfd = lambda pid: None")
    run.wait_for("masked")
    run.do("os.closerange(3, 200)")
    count = run.kinds().count("row system")
    run.wait_for(lambda: run.kinds().count("row system") >= count + 5)
    run.end("os._exit(6)")
    run.wait_for_end()
    assert run.only("death")["exit_code"] in (6, None)
    assert run.kinds()[-2:] == ["death", "close"]


def test_signals_of_the_terminal_are_ignored(start: Start) -> None:
    """Ctrl-C, a closed terminal and quit do not end the companion."""
    run = start()
    run.wait_for("masked")
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        run.companion().send_signal(number)
    count = run.kinds().count("row system")
    run.wait_for(lambda: run.kinds().count("row system") >= count + 3)
    run.end("os._exit(0)")
    run.wait_for_end()
    assert "death" in run.kinds()


def test_sigterm_waits_for_the_training_to_end(start: Start) -> None:
    """Terminated together with the training, the companion still records how that ended."""
    run = start()
    run.wait_for("masked")
    run.companion().terminate()
    time.sleep(0.5)
    count = run.kinds().count("row system")
    run.end("os._exit(4)")
    run.wait_for_end()
    assert run.only("death")["exit_code"] == 4
    assert run.kinds().count("row system") == count


@pytest.mark.parametrize(("patience_s", "signals"), [(0.3, 1), (60, 2)])
def test_sigterm_ends_the_companion(start: Start, patience_s: float, signals: int) -> None:
    """Terminated alone, it ends after a while, and at once when asked a second time."""
    run = start(f"_main.TERMINATED_S = {patience_s}")
    run.wait_for("masked")
    for _ in range(signals):
        run.companion().terminate()
        time.sleep(0.2)
    run.wait_for_end(5)
    assert run.process.poll() is None
    assert "death" not in run.kinds()


@linux
def test_a_pid_used_again_ends_the_companion_at_once(start: Start) -> None:
    """When the pid is another process's by now, the training is dead, we cannot tell how."""
    run = start(spec={"pid": os.getpid(), "process_started": 1.0})
    run.wait_for("close")
    assert run.only("death") == {"exit_code": None, "signal": None, "known": False}


@pytest.mark.parametrize("said", [b"", b'{"root"', b"{}\n", b"nonsense\n"])
def test_a_lifeline_without_a_spec(said: bytes) -> None:
    """A companion that is told nothing sensible ends at once and quietly."""
    code = (
        f"import sys; sys.path.append({HOME!r})\n"
        "from trackway.core.companion._main import main; main(0)"
    )
    done = subprocess.run([sys.executable, "-c", code], input=said, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_the_companion_comes_last(start: Start) -> None:
    """It has a low priority, and is not in the folder of the training."""
    run = start()
    run.wait_for("masked")
    companion = run.companion()
    assert companion.nice() == min(19, psutil.Process().nice() + 10)
    assert companion.cwd() == "/"
    if sys.platform == "linux":
        assert companion.ionice().ioclass == psutil.IOPRIO_CLASS_IDLE
    run.end("os._exit(0)")


def test_the_real_start_time_is_accepted(start: Start) -> None:
    """The start time as the training process knows it is the process's as the companion does."""
    run = start(spec={"pid": os.getpid(), "process_started": process_started(os.getpid())})
    run.wait_for(lambda: run.kinds().count("row system") >= 2)
    samples = [fields for kind, _, fields in run.records() if kind == "row system"]
    assert samples[0]["process.count"] >= 1
    assert "death" not in run.kinds()
    run.companion().kill()
    run.wait_for(lambda: not _is_running(run.only("create")["pid"]))


@pytest.mark.parametrize(
    ("due", "now", "expected"),
    [(10.0, 10.0, 12.5), (10.0, 12.4, 12.5), (10.0, 12.5, 15.0), (10.0, 31.0, 32.5)],
)
def test_next_beat(due: float, now: float, expected: float) -> None:
    """The next beat is on the schedule and in the future; missed beats are skipped."""
    assert next_beat(due, now, 2.5) == expected
