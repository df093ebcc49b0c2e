"""Starts the companion process, and holds the lifeline by which it notices our end.

The companion is a grandchild: ``/bin/sh`` starts it in the background and ends, so it is never
among the children that ``os.wait`` or a SIGCHLD handler of the user's program meets. It has a
session of its own, so no signal of the terminal reaches it, and none of our streams, so
``python train.py | tee log`` ends when training does. ``os.posix_spawn`` needs neither the
``subprocess`` module nor a copy of our page tables.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from trackway.core.companion._spec import GOODBYE, CompanionSpec

__all__ = ["Lifeline", "launch"]

SPEC_LIMIT: Final = 60_000
"""An empty pipe takes 64 KiB without blocking ..."""

SPEC_LIMIT_POOR: Final = 4_000
"""... but one page only, where the user has very many pipes open."""

SHELL: Final = "/bin/sh"

# Invariant: nothing of the working directory is imported, neither through '' nor through an
# empty item of PYTHONPATH: a script's random.py or git.py is not ours to run. The package that
# is imported is the very one that launched us, whatever else is installed.
_PROGRAM: Final = """# trackway companion
import os, sys
home = sys.argv[1]
try:
    here = os.getcwd()
except OSError:
    here = ''
sys.path[:] = [p for p in sys.path if p and p != here]
if home not in sys.path:
    sys.path.append(home)
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
spec = PathFinder.find_spec('trackway', [home])
package = sys.modules['trackway'] = module_from_spec(spec)
spec.loader.exec_module(package)
from trackway.core.companion._main import main
main(*map(int, sys.argv[2:]))
os._exit(0)
"""

_STARTUP: Final = str(Path("trackway", "integrations", "autolog", "startup"))
"""What ``trackway run`` puts on PYTHONPATH: the companion and git are no part of the program."""

_WITHHELD: Final = ("PYTHON", "COVERAGE_", "COV_CORE_")
_PASSED: Final = frozenset(
    {
        "PYTHONCASEOK",
        "PYTHONDONTWRITEBYTECODE",
        "PYTHONEXECUTABLE",
        "PYTHONHOME",
        "PYTHONNOUSERSITE",
        "PYTHONPATH",
        "PYTHONPLATLIBDIR",
        "PYTHONPYCACHEPREFIX",
        "PYTHONUSERBASE",
        "PYTHONUTF8",
    }
)


class Lifeline:
    """The end of a pipe whose closing, however it comes about, tells the companion.

    Args:
        fd: The write end; None where no companion was started.
        pid: A companion that is our own child and must be reaped.
        reason: Why there is no companion; None when one was started.
    """

    __slots__ = ("_child", "_ends", "_owner", "reason")

    def __init__(
        self, fd: int | None = None, *, pid: int | None = None, reason: str | None = None
    ) -> None:
        self.reason = reason
        self._child = pid
        self._owner = os.getpid()
        # A list, because pop() lets exactly one of several threads have the descriptor.
        self._ends = [] if fd is None else [(fd, _identity(fd))]

    def close(self) -> None:
        """Let the companion finish. A second call does nothing; raises nothing."""
        self._release(goodbye=os.getpid() == self._owner)

    def forked(self) -> None:
        """In a forked child: let go of the parent's lifeline, and of nothing else."""
        self._child = None
        self._release(goodbye=False)

    def reap(self) -> None:
        """Collect a companion that ended, where it is our own child; never waits."""
        child = self._child
        if child is None:
            return
        with contextlib.suppress(ChildProcessError):
            if os.waitpid(child, os.WNOHANG)[0] == 0:
                return
        self._child = None

    def _release(self, *, goodbye: bool) -> None:
        try:
            fd, identity = self._ends.pop()
        except IndexError:
            return
        # The program may have closed our descriptor and its number may now be a file of theirs.
        if _identity(fd) != identity:
            return
        if goodbye:
            _write_unkilled(fd, GOODBYE)
        with contextlib.suppress(OSError):
            os.close(fd)


def launch(spec: CompanionSpec) -> Lifeline:
    """Start a companion without waiting until it is up, and return the lifeline to it.

    Where none can be started, the lifeline's ``reason`` says why.

    Raises:
        OSError: The system refused a pipe or a process.
    """
    reason = _hindrance()
    if reason is not None:
        return Lifeline(reason=reason)
    environment, withheld = _split_environment()
    try:
        lines = _lines(msgspec.structs.replace(spec, withheld=withheld))
    except UnicodeEncodeError:
        return Lifeline(reason="the run's folder has a name that is not text")
    read_fd, write_fd = _filled_pipe(lines)
    given = [read_fd]
    try:
        # Ours from the start, so that not even a training of a millisecond ends unobserved.
        if spec.pid == os.getpid():
            given += _own_pidfd()
        pid = _spawn(given, environment)
        return Lifeline(write_fd, pid=pid)
    except BaseException:
        os.close(write_fd)
        raise
    finally:
        for fd in given:
            os.close(fd)


def _hindrance() -> str | None:
    """Why no companion can be started here, if so."""
    if os.name != "posix":
        return "the companion needs Linux or macOS"
    if getattr(sys, "frozen", False):
        return "the program is frozen: it has no Python interpreter to start a companion with"
    name = Path(sys.executable or "").name
    # An embedding host (uwsgi, an editor) names itself there; it would start a second time.
    if "py" not in name.lower() or not os.access(sys.executable, os.X_OK):
        return f"sys.executable is no Python interpreter: {sys.executable!r}"
    return None


def _split_environment() -> tuple[dict[str, str], dict[str, str]]:
    """Our environment for the companion, and what of it would slow down or divert it."""
    passed: dict[str, str] = {}
    withheld: dict[str, str] = {}
    for name, value in os.environ.items():
        keep = name in _PASSED or not name.startswith(_WITHHELD)
        (passed if keep else withheld)[name] = value
    if "PYTHONPATH" in passed:
        entries = passed["PYTHONPATH"].split(os.pathsep)
        passed["PYTHONPATH"] = os.pathsep.join(e for e in entries if not e.endswith(_STARTUP))
    return passed, withheld


def _lines(spec: CompanionSpec) -> list[bytes]:
    """The spec's line, and a shorter one for a pipe that does not take it."""
    try:
        return [_line(spec, SPEC_LIMIT), _line(spec, SPEC_LIMIT_POOR)]
    except UnicodeEncodeError:
        clean = msgspec.structs.replace(
            spec,
            argv=[_text(argument) for argument in spec.argv],
            cwd=_text(spec.cwd),
            script=None if spec.script is None else _text(spec.script),
            withheld={_text(name): _text(value) for name, value in spec.withheld.items()},
        )
        return [_line(clean, SPEC_LIMIT), _line(clean, SPEC_LIMIT_POOR)]


def _text(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _line(spec: CompanionSpec, limit: int) -> bytes:
    """The spec in less than ``limit`` bytes, arguments shortened as far as that needs."""
    line = spec.encode()
    for budget in (limit // 2, limit // 8, 0):
        if len(line) < limit:
            return line
        argv = _shortened(spec.argv, budget)
        withheld = spec.withheld if limit == SPEC_LIMIT else {}
        line = msgspec.structs.replace(
            spec, argv=argv, argv_truncated=True, withheld=withheld
        ).encode()
    return line if len(line) < limit else b""


def _shortened(argv: list[str], budget: int) -> list[str]:
    """The leading arguments that fit a budget of encoded bytes; the last one may be cut."""
    kept: list[str] = []
    for argument in argv:
        size = len(msgspec.json.encode(argument)) + 1
        if size > budget:
            cut = argument[: budget // 6]  # no character needs more than six bytes in JSON
            return [*kept, cut] if cut else kept
        kept.append(argument)
        budget -= size
    return kept


def _filled_pipe(lines: list[bytes]) -> tuple[int, int]:
    """A pipe that holds the first of the lines it takes whole: (read end, write end)."""
    for line in filter(None, lines):
        read_fd, write_fd = os.pipe()
        try:
            read_fd, write_fd = _above_streams(read_fd), _above_streams(write_fd)
            os.set_blocking(write_fd, False)
            if os.write(write_fd, line) == len(line):
                return read_fd, write_fd
        except BlockingIOError:
            pass
        except BaseException:
            os.close(read_fd)
            os.close(write_fd)
            raise
        os.close(read_fd)
        os.close(write_fd)
    raise OSError(errno.E2BIG, "no pipe takes what the companion must know")


def _above_streams(fd: int) -> int:
    """The descriptor, moved above 2: a program without streams must not print into a pipe."""
    if fd > 2:
        return fd
    import fcntl

    moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    os.close(fd)
    return moved


def _own_pidfd() -> list[int]:
    """A descriptor of this process; none where the system has none."""
    if sys.platform != "linux" or not hasattr(os, "pidfd_open"):
        return []
    try:
        return [os.pidfd_open(os.getpid())]
    except OSError:
        return []


def _spawn(given: list[int], environment: dict[str, str]) -> int | None:
    """Start the companion with these descriptors; returns its pid where it became our child."""
    # Renumbering clears close-on-exec in the child alone. To mark our own descriptors as
    # inheritable would hand them to whatever another thread starts in the meantime.
    targets = [number for number in range(3, 3 + 2 * len(given)) if number not in given]
    renumbered = list(zip(given, targets, strict=False))
    actions: list[tuple[object, ...]] = [
        *((os.POSIX_SPAWN_DUP2, fd, target) for fd, target in renumbered),
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDWR, 0),
        (os.POSIX_SPAWN_DUP2, 0, 1),
        (os.POSIX_SPAWN_DUP2, 0, 2),
    ]
    home = Path(__file__).absolute().parents[2]
    command = [sys.executable, "-W", "ignore", "-c", _PROGRAM, str(home)]
    command += [str(target) for _, target in renumbered]
    if not os.access(SHELL, os.X_OK):
        return _start(command, environment, actions)
    with _unseen_child():
        shell = _start([SHELL, "-c", '"$@" &', "sh", *command], environment, actions)
        with contextlib.suppress(ChildProcessError):  # the program ignores SIGCHLD
            os.waitpid(shell, 0)
    return None


def _start(
    command: list[str], environment: dict[str, str], actions: list[tuple[object, ...]]
) -> int:
    import signal

    defaults = [signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD]
    options: dict[str, Any] = {"file_actions": actions, "setsigmask": [], "setsigdef": defaults}
    try:
        return os.posix_spawn(command[0], command, environment, setsid=True, **options)
    except NotImplementedError:  # an old system; the companion makes its session itself
        return os.posix_spawn(command[0], command, environment, **options)


@contextlib.contextmanager
def _unseen_child() -> Iterator[None]:
    """Keep the end of a child that is born and collected in the block from SIGCHLD handlers."""
    import signal

    number = signal.SIGCHLD
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {number})
    was_pending = number in signal.sigpending()
    try:
        yield
        # One pending signal may stand for several children: it is taken only if ours was the one.
        if not was_pending and number in signal.sigpending() and not _has_dead_child():
            signal.sigwait({number})
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _has_dead_child() -> bool:
    """Whether a child waits to be collected, as far as the system tells without collecting it."""
    if not hasattr(os, "waitid"):
        return True
    changes = os.WEXITED | os.WSTOPPED | os.WCONTINUED
    try:
        return os.waitid(os.P_ALL, 0, changes | os.WNOWAIT | os.WNOHANG) is not None
    except ChildProcessError:
        return False


def _write_unkilled(fd: int, data: bytes) -> None:
    """Write to a pipe nobody may read any more, where SIGPIPE may end the program."""
    import signal

    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGPIPE})
    try:
        os.write(fd, data)
    except OSError:
        # The signal went to this thread and waits; once taken it cannot strike.
        if signal.SIGPIPE not in before and signal.SIGPIPE in signal.sigpending():
            signal.sigwait({signal.SIGPIPE})
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _identity(fd: int) -> tuple[int, int] | None:
    try:
        status = os.fstat(fd)
    except OSError:
        return None
    return status.st_dev, status.st_ino
