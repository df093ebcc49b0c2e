from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

import trackway
from trackway.core import _launch
from trackway.core._launch import Lifeline, launch
from trackway.core.companion._spec import GOODBYE, CompanionSpec

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs Linux or macOS")

HOME = str(Path(trackway.__file__).parents[1])

# Takes the companion's place: tells what it was given, then waits for the lifeline's end.
PROBE = """
import json
from trackway.core.companion._main import detach
fd = int(sys.argv[2])
given = [int(number) for number in sys.argv[2:]]
detach(given)
folder = '/proc/self/fd' if sys.platform == 'linux' else '/dev/fd'
told = {
    'pid': os.getpid(), 'parent': os.getppid(), 'session': os.getsid(0),
    'prefix': sys.prefix, 'path': sys.path, 'environment': dict(os.environ),
    'package': sys.modules['trackway'].__file__,
    'streams': [os.path.samestat(os.fstat(n), os.stat(os.devnull)) for n in (0, 1, 2)],
    'descriptors': sorted(int(n) for n in os.listdir(folder) if os.path.exists(f'{folder}/{n}')),
    'given': given, 'modules': sorted(sys.modules),
    'blocked': [int(n) for n in __import__('signal').pthread_sigmask(0, [])],
}
data = b''
while not data.endswith(b'\\n'):
    data += os.read(fd, 1)
told['spec'] = data.decode()
told['rest'] = ''
with open(os.environ['PROBE'] + '.part', 'w') as file:
    json.dump(told, file)
os.rename(os.environ['PROBE'] + '.part', os.environ['PROBE'])
while rest := os.read(fd, 100):
    told['rest'] += rest.decode()
with open(os.environ['PROBE'] + '.end', 'w') as file:
    file.write(told['rest'])
"""

PROGRAM = _launch._PROGRAM.partition("from trackway.core.companion._main")[0] + PROBE


class _Probe:
    """A program in the companion's place, and what it told."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def told(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(_wait_for(self.path).read_text())
        return answer

    def heard(self) -> str:
        """What the lifeline said after the spec, once it has ended."""
        end = _wait_for(self.path.with_name(self.path.name + ".end"))
        time.sleep(0.02)
        return end.read_text()


def _wait_for(path: Path) -> Path:
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline, path
        time.sleep(0.005)
    return path


@pytest.fixture
def probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> _Probe:
    """What is launched in this test is a probe."""
    path = tmp_path / "told.json"
    monkeypatch.setenv("PROBE", str(path))
    monkeypatch.setattr(_launch, "_PROGRAM", PROGRAM)
    return _Probe(path)


def _make_spec(**changes: Any) -> CompanionSpec:
    fields: dict[str, Any] = {"root": "/r", "project": "p", "run": "r1", "pid": os.getpid()}
    return CompanionSpec(**{**fields, **changes})


def _run_training(code: str, probe: _Probe, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run ``code`` as a training script that has launched a probe; ``line`` is its lifeline."""
    script = probe.path.with_name("training.py")
    script.write_text(
        f"import os, sys; sys.path.append({HOME!r})\n"
        "import signal, time\n"
        "from trackway.core import _launch\n"
        "from trackway.core.companion._spec import CompanionSpec\n"
        f"_launch._PROGRAM = {PROGRAM!r}\n"
        "spec = CompanionSpec(root='/r', project='p', run='r', pid=os.getpid())\n"
        f"{code}\n"
    )
    return subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=60, **options
    )


def test_the_companion_is_nobodys_child_and_has_none_of_our_streams(probe: _Probe) -> None:
    """It has a session of its own, no stream, no descriptor but the lifeline, and no parent."""
    before = psutil.Process().children()
    lifeline = launch(_make_spec())
    assert lifeline.reason is None
    told = probe.told()
    assert told["parent"] != os.getpid()
    assert psutil.Process().children(recursive=True) == before
    assert told["session"] != os.getsid(0)
    assert told["streams"] == [True, True, True]
    assert told["descriptors"] == [0, 1, 2, *told["given"]]
    assert told["blocked"] == []
    assert told["prefix"] == sys.prefix
    assert told["package"] == trackway.__file__
    lifeline.close()
    probe.heard()


def test_the_companion_reads_the_spec_it_was_launched_with(probe: _Probe) -> None:
    """The first line of the lifeline is the spec, with the environment variables withheld."""
    spec = _make_spec(argv=["a", "ü", "\x00"], cwd="/c", script=None, attempt=3)
    lifeline = launch(spec)
    received = CompanionSpec.decode(probe.told()["spec"].encode())
    assert (received.argv, received.cwd, received.script) == (["a", "ü", "\x00"], "/c", None)
    assert (received.run, received.attempt, received.argv_truncated) == ("r1", 3, False)
    assert received.read_settings() == spec.read_settings()
    lifeline.close()
    assert probe.heard() == GOODBYE.decode()


def test_our_variables_do_not_divert_the_companion(
    probe: _Probe, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Variables that steer an interpreter are withheld and told; PYTHONPATH is passed on."""
    (tmp_path / "more").mkdir()
    withheld = {"PYTHONSTARTUP": "/x.py", "PYTHONPROFILEIMPORTTIME": "1", "PYTHONHASHSEED": "7"}
    withheld["COVERAGE_PROCESS_START"] = "/c"
    for name, value in {**withheld, "PYTHONPATH": str(tmp_path / "more"), "KEPT": "1"}.items():
        monkeypatch.setenv(name, value)
    lifeline = launch(_make_spec())
    told = probe.told()
    assert not withheld.keys() & told["environment"].keys()
    assert told["environment"]["KEPT"] == "1"
    assert str(tmp_path / "more") in told["path"]
    spec = CompanionSpec.decode(told["spec"].encode())
    assert withheld.items() <= spec.withheld.items()
    assert spec.environment({"A": "1"}) == {"A": "1", **spec.withheld}
    lifeline.close()
    probe.heard()


def test_nothing_of_the_working_directory_is_imported(
    probe: _Probe, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A script's own json.py or trackway.py is not run, even with an empty item in PYTHONPATH."""
    for name in ("json", "types", "random", "enum", "trackway"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f":{HOME}")
    lifeline = launch(_make_spec())
    told = probe.told()
    assert "" not in told["path"]
    assert str(tmp_path) not in told["path"]
    assert told["package"] == trackway.__file__
    assert not (tmp_path / "ran").exists()
    lifeline.close()
    probe.heard()


def test_the_program_needs_no_working_directory(
    probe: _Probe, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A training whose folder was deleted gets its companion all the same."""
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    lifeline = launch(_make_spec())
    assert probe.told()["package"] == trackway.__file__
    monkeypatch.chdir(tmp_path)
    lifeline.close()
    probe.heard()


def test_the_end_of_a_pipe_is_the_end_of_training(probe: _Probe) -> None:
    """Whoever reads the output of training does not wait for the companion."""
    started = time.monotonic()
    done = _run_training(
        "line = _launch.launch(spec)\n"
        "sleeper = os.fork()\n"
        "if sleeper == 0:\n"
        "    os.closerange(0, 3); time.sleep(20); os._exit(0)\n"
        "print(sleeper)",
        probe,
    )
    # The sleeper holds a copy of the lifeline, so the companion is there after the training.
    companion = psutil.Process(probe.told()["pid"])
    assert companion.is_running()
    os.kill(int(done.stdout), signal.SIGKILL)
    probe.heard()
    assert time.monotonic() - started < 15


def test_no_wait_of_the_program_meets_the_companion(probe: _Probe) -> None:
    """The program's own waitpid finds no child, and its SIGCHLD handler is not even called."""
    done = _run_training(
        "def none():\n"
        "    try: os.waitpid(-1, os.WNOHANG); return False\n"
        "    except ChildProcessError: return True\n"
        "seen = []\n"
        "for handler in (signal.SIG_DFL, signal.SIG_IGN, lambda *a: seen.append(none())):\n"
        "    signal.signal(signal.SIGCHLD, handler)\n"
        "    for _ in range(10):\n"
        "        _launch.launch(spec).close()\n"
        "        assert none()\n"
        "assert seen == [], seen\n"
        "assert not signal.sigpending() and not signal.pthread_sigmask(0, [])",
        probe,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_signal_of_the_programs_own_child_is_not_taken(probe: _Probe) -> None:
    """A child of the program that ends while we launch is told to its SIGCHLD handler."""
    done = _run_training(
        "seen = []\n"
        "signal.signal(signal.SIGCHLD, lambda *a: seen.append(os.waitpid(-1, os.WNOHANG)[0]))\n"
        "spawn = os.posix_spawn\n"
        "def spawn_both(*arguments, **options):\n"
        "    global theirs\n"
        "    theirs = spawn('/bin/sh', ['sh', '-c', 'exit 0'], os.environ)\n"
        "    os.waitid(os.P_PID, theirs, os.WEXITED | os.WNOWAIT)\n"
        "    return spawn(*arguments, **options)\n"
        "os.posix_spawn = spawn_both\n"
        "_launch.launch(spec).close()\n"
        "assert seen == [theirs], seen",
        probe,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_sigkill_ends_the_lifeline_without_goodbye(probe: _Probe) -> None:
    """The end of the process ends the lifeline, and nobody said goodbye."""
    done = _run_training("line = _launch.launch(spec); os.kill(os.getpid(), 9)", probe)
    assert done.returncode == -9
    assert probe.heard() == ""


def test_closing_twice_says_goodbye_once(probe: _Probe) -> None:
    """A second close does nothing."""
    lifeline = launch(_make_spec())
    lifeline.close()
    lifeline.close()
    assert probe.heard() == GOODBYE.decode()


def test_a_forked_child_lets_go_of_the_lifeline(probe: _Probe) -> None:
    """A child told of its fork keeps no end, and neither closing nor dying says goodbye."""
    done = _run_training(
        "line = _launch.launch(spec)\n"
        "os.register_at_fork(after_in_child=line.forked)\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    line.close(); line.reap()\n"
        "    os.closerange(0, 3); time.sleep(30); os._exit(0)\n"
        f"while not os.path.exists({str(probe.path)!r}): time.sleep(0.005)\n"
        "print(child)",
        probe,
    )
    try:
        assert probe.heard() == ""  # although the child still lives
    finally:
        os.kill(int(done.stdout), signal.SIGKILL)


def test_a_child_that_was_not_told_of_its_fork_says_no_goodbye(probe: _Probe) -> None:
    """Only the process that launched the companion may bid it farewell."""
    _run_training(
        "line = _launch.launch(spec)\n"
        "if os.fork() == 0:\n"
        "    line.close(); os._exit(0)\n"
        "os.wait(); os.kill(os.getpid(), 9)",
        probe,
    )
    assert probe.heard() == ""


def test_a_descriptor_used_again_is_left_alone(tmp_path: Path) -> None:
    """When the program closed our descriptor and opened a file, that file stays open."""
    read_fd, write_fd = os.pipe()
    lifeline = Lifeline(write_fd)
    with (tmp_path / "theirs").open("wb", buffering=0) as theirs:
        os.dup2(theirs.fileno(), write_fd)
        lifeline.close()
        lifeline.forked()
        os.write(write_fd, b"still open")
        os.close(write_fd)
    assert (tmp_path / "theirs").read_bytes() == b"still open"
    os.close(read_fd)


@pytest.mark.parametrize("disposition", ["SIG_DFL", "SIG_IGN"])
def test_goodbye_to_a_dead_companion_harms_nobody(probe: _Probe, disposition: str) -> None:
    """A program that dies of SIGPIPE does not die of ours."""
    done = _run_training(
        f"signal.signal(signal.SIGPIPE, signal.{disposition})\n"
        "read, write = os.pipe(); os.close(read)\n"
        "_launch.Lifeline(write).close()\n"
        "assert not signal.sigpending() and not signal.pthread_sigmask(0, [])",
        probe,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_without_a_shell_the_companion_is_a_child_to_reap(
    probe: _Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is no /bin/sh, the companion is our child and is collected without waiting."""
    monkeypatch.setattr(_launch, "SHELL", "/nonexistent/sh")
    lifeline = launch(_make_spec())
    told = probe.told()
    assert told["parent"] == os.getpid()
    assert told["session"] == told["pid"]
    lifeline.reap()
    assert psutil.pid_exists(told["pid"])
    lifeline.close()
    probe.heard()
    deadline = time.monotonic() + 20
    while psutil.pid_exists(told["pid"]):
        lifeline.reap()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    lifeline.reap()


def test_a_program_without_streams(probe: _Probe) -> None:
    """Without streams the lifeline takes none of their numbers, and the companion has its own."""
    _run_training(
        "os.closerange(0, 3)\n"
        "line = _launch.launch(spec)\n"
        f"while not os.path.exists({str(probe.path)!r}): time.sleep(0.005)\n"
        "os._exit(0 if min(fd for fd, _ in line._ends) > 2 else 1)",
        probe,
    )
    told = probe.told()
    assert told["streams"] == [True, True, True]
    assert told["descriptors"] == [0, 1, 2, *told["given"]]


@pytest.mark.parametrize(
    ("executable", "reason"),
    [
        ("", "sys.executable is no Python interpreter: ''"),
        (None, "sys.executable is no Python interpreter: None"),
        ("/bin/ls", "sys.executable is no Python interpreter: '/bin/ls'"),
        ("/gone/python", "sys.executable is no Python interpreter: '/gone/python'"),
    ],
)
def test_no_interpreter_no_companion(
    executable: str | None, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where Python is embedded in another program there is no companion, and the reason is told."""
    monkeypatch.setattr(sys, "executable", executable)
    lifeline = launch(_make_spec())
    assert lifeline.reason == reason
    lifeline.close()
    lifeline.forked()
    lifeline.reap()


def test_no_companion_for_a_frozen_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """A frozen program has no interpreter to start a companion with."""
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert str(launch(_make_spec()).reason).startswith("the program is frozen")


def test_a_system_that_refuses_leaves_no_descriptor_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """When no process can be started, OSError is raised and both ends are closed."""

    def refuse(*arguments: object) -> int:
        raise BlockingIOError("no more processes")

    monkeypatch.setattr(_launch, "_spawn", refuse)
    before = psutil.Process().num_fds()
    with pytest.raises(OSError, match="no more processes"):
        launch(_make_spec())
    assert psutil.Process().num_fds() == before


@pytest.mark.parametrize(
    "argv", [["x" * 100_000], ["\x01" * 20_000], ["é"] * 50_000, ["😀" * 40_000]]
)
def test_a_long_command_line_is_shortened_to_fit(argv: list[str]) -> None:
    """However long the command line is, the spec fits the lifeline and says it was shortened."""
    for limit in (_launch.SPEC_LIMIT, _launch.SPEC_LIMIT_POOR):
        line = _launch._line(_make_spec(argv=["train.py", *argv]), limit)
        spec = CompanionSpec.decode(line)
        assert len(line) < limit
        assert spec.argv_truncated
        assert spec.argv[0] == "train.py"
        assert "".join(["train.py", *argv]).startswith("".join(spec.argv))


def test_a_short_command_line_is_kept() -> None:
    """A command line that fits is not touched."""
    spec = _make_spec(argv=["train.py", "x" * 50_000])
    assert _launch._line(spec, _launch.SPEC_LIMIT) == spec.encode()


def test_text_that_is_not_unicode(probe: _Probe) -> None:
    """Undecodable bytes of arguments and variables arrive as escapes."""
    odd = os.fsdecode(b"\xff")
    lifeline = launch(_make_spec(argv=[odd], cwd=odd, script=odd))
    spec = CompanionSpec.decode(probe.told()["spec"].encode())
    assert (spec.argv, spec.cwd, spec.script) == (["\\udcff"], "\\udcff", "\\udcff")
    lifeline.close()
    probe.heard()
    assert launch(_make_spec(root=odd)).reason == "the run's folder has a name that is not text"


def test_a_pipe_that_takes_little_gets_the_shorter_line() -> None:
    """A line that the pipe does not take whole is not left half in it."""
    read_fd, write_fd = _launch._filled_pipe([b"x" * 100_000 + b"\n", b"short\n"])
    assert os.read(read_fd, 200_000) == b"short\n"
    os.close(read_fd)
    os.close(write_fd)
    before = psutil.Process().num_fds()
    with pytest.raises(OSError, match="no pipe takes"):
        _launch._filled_pipe([b"x" * 100_000, b""])
    assert psutil.Process().num_fds() == before


def test_launching_loads_nothing_that_only_the_companion_needs() -> None:
    """The training process does not pay for samplers and captures."""
    code = (
        f"import sys; sys.path.append({HOME!r}); before = set(sys.modules)\n"
        "from trackway.core._launch import launch\n"
        "from trackway.core.companion._spec import CompanionSpec\n"
        "CompanionSpec(root='/r', project='p', run='r', pid=1).encode()\n"
        "dear = {'psutil', 'numpy', 'git', 'pynvml', 'trackway.core.companion._main'}\n"
        "print(dear & (set(sys.modules) - before))"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("COV")}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    assert done.stdout == "set()\n"
