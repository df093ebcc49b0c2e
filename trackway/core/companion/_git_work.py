"""Git commands through GitPython: no locks, not the user's settings, never past a deadline."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    import git


_COMMAND_S: Final = 30.0
_OUTPUT_BYTES: Final = 64 << 20  # of any command but the diff
_SETTINGS: Final = (
    "core.fsmonitor=false",
    "core.quotePath=true",
    "core.safecrlf=false",  # its warnings come once per file
    "diff.relative=false",
    "diff.suppressBlankEmpty=false",
    "log.showSignature=false",
    "protocol.allow=never",  # a partial clone fetches nothing for us
)


class _Trouble(Exception):
    """Git could not answer; the message is the reason, to be shown to the user."""


class _Answer(NamedTuple):
    status: int
    out: bytes  # its first bytes, up to the limit
    size: int  # of all there was
    error: str


class _Drain(threading.Thread):
    """Reads a pipe to its end and keeps its first bytes."""

    def __init__(self, stream: IO[bytes], limit: int) -> None:
        super().__init__(name="trackway-git", daemon=True)
        self.kept = bytearray()
        self.size = 0
        self._stream = stream
        self._limit = limit
        self.start()

    def run(self) -> None:
        with contextlib.suppress(OSError, ValueError), self._stream:
            while piece := self._stream.read(1 << 16):
                self.size += len(piece)
                self.kept += piece[: max(0, self._limit - len(self.kept))]


class _Work:
    """A repository that can be asked; each question ends in time."""

    def __init__(self, repo: git.Repo, deadline: float) -> None:
        self.repo = repo
        self.deadline = deadline
        self._environment = {
            "GIT_OPTIONAL_LOCKS": "0",
            "GIT_NO_LAZY_FETCH": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_DIFF_OPTS": "",
            "GIT_LITERAL_PATHSPECS": "0",
            "GIT_GLOB_PATHSPECS": "0",
            "GIT_NOGLOB_PATHSPECS": "0",
            "GIT_ICASE_PATHSPECS": "0",
        }
        # Set where the training was started by a hook or by ``git rebase --exec``; GitPython puts
        # GIT_DIR right, these two would still point to another tree.
        if "GIT_WORK_TREE" in os.environ and repo.working_tree_dir:
            self._environment["GIT_WORK_TREE"] = str(repo.working_tree_dir)
        if "GIT_INDEX_FILE" in os.environ:
            self._environment["GIT_INDEX_FILE"] = str(Path(repo.git_dir) / "index")

    def ask(self, *arguments: str, limit: int = _OUTPUT_BYTES) -> _Answer:
        """What a git command answers, whatever its exit status.

        Raises:
            _Trouble: Git is missing, could not be started, or took too long.
        """
        left = min(_COMMAND_S, self.deadline - time.monotonic())
        process = self._start(arguments) if left > 0 else None
        if process is None or process.stdout is None or process.stderr is None:
            raise _Trouble(f"no time was left for git {arguments[0]}")
        out, error = _Drain(process.stdout, limit), _Drain(process.stderr, 1 << 16)
        out.join(left)
        error.join(1.0 if not out.is_alive() else 0.0)
        try:
            if out.is_alive():
                raise subprocess.TimeoutExpired(arguments[0], left)
            process.wait(1.0)
        except subprocess.TimeoutExpired:
            _kill(process)
            raise _Trouble(f"git {arguments[0]} did not finish in {left:.0f} s") from None
        told = error.kept.decode("utf-8", "replace")
        return _Answer(process.returncode, bytes(out.kept), out.size, told)

    def _start(self, arguments: tuple[str, ...]) -> subprocess.Popen[bytes]:
        from git.exc import GitCommandNotFound, GitError

        command = [self.repo.git.GIT_PYTHON_GIT_EXECUTABLE or "git", "--no-pager"]
        for setting in _SETTINGS:
            command += ("-c", setting)
        try:
            handle = self.repo.git.execute(
                [*command, *arguments],
                as_process=True,
                env=self._environment,
                start_new_session=True,
            )
        except GitCommandNotFound:
            raise _Trouble("there is no git executable") from None
        except (GitError, OSError, ValueError) as error:
            raise _Trouble(f"git could not be started: {type(error).__name__}") from None
        # The handle would wait for the process for ever when it is collected.
        process, handle.proc = handle.proc, None
        if process is None:
            raise _Trouble("git could not be started")
        return process

    def get(self, *arguments: str, limit: int = _OUTPUT_BYTES) -> bytes:
        """The output of a command that has to succeed.

        Raises:
            _Trouble: It did not, or its output is longer than the limit.
        """
        answer = self.ask(*arguments, limit=limit)
        if answer.status != 0:
            told = answer.error.strip().splitlines()[:1]
            raise _Trouble(f"git {arguments[0]} failed: {''.join(told)[:300] or answer.status}")
        if answer.size > limit:
            raise _Trouble(f"git {arguments[0]} answered {answer.size} bytes")
        return answer.out

    def line(self, *arguments: str) -> str | None:
        """The one line a command answers, or None if it fails or answers nothing."""
        answer = self.ask(*arguments)
        text = answer.out.decode("utf-8", "replace").removesuffix("\n")
        return text if answer.status == 0 and text else None


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End git and its filters; a process that hangs in the kernel is left behind."""
    with contextlib.suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        process.kill()
        process.wait(1.0)
