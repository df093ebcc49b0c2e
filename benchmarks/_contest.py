"""Each contestant in a process of its own, which does what it is told line by line.

The child's side is ``_worker``. Requests and answers are lines of JSON through two pipes;
what the child prints goes to a file, whose last line is the reason when it fails.
"""

from __future__ import annotations

import json
import os
import secrets
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import psutil

from benchmarks._figures import progress
from benchmarks._trackers import environment, installed

__all__ = ["Contestant", "FailedError", "contestant", "rotated"]

MARK: Final = "TRACKWAY_BENCHMARK"
"""Is in the environment of a contestant and of all it starts, by which they are found."""

SETTLE_S: Final = 20.0


class FailedError(Exception):
    """A contestant is not installed, or did not do what it was asked."""


class Contestant:
    """A running child.

    Args:
        job: The function of ``_jobs`` that it runs.
        who: Which tracker it uses.
        folder: Where it records; made, and kept.
        cwd: Where it works; the folder by default.
        settings: Further environment variables.
        arguments: Of the job.
    """

    def __init__(
        self,
        job: str,
        who: str,
        folder: Path,
        *,
        cwd: Path | None = None,
        settings: Mapping[str, str] | None = None,
        **arguments: Any,
    ) -> None:
        if not installed(who):
            raise FailedError("not installed")
        folder.mkdir(parents=True, exist_ok=True)
        self.who = who
        self.folder = folder
        self._mark = secrets.token_hex(8)
        self._printed = folder / "printed.txt"
        reader, writer = os.pipe()
        self._answers = reader
        self._rest = b""
        command = [sys.executable, "-m", "benchmarks._worker"]
        with self._printed.open("wb") as printed:
            self.process = subprocess.Popen(
                [*command, str(writer), job, who, json.dumps(arguments)],
                stdin=subprocess.PIPE,
                stdout=printed,
                stderr=printed,
                cwd=cwd or folder,
                env={**environment(folder), **(settings or {}), MARK: self._mark},
                pass_fds=[writer],
            )
        os.close(writer)

    def tell(self, **request: Any) -> None:
        """Send a request without waiting for its answer."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise FailedError(self._reason()) from None

    def answer(self, timeout_s: float = 300.0) -> dict[str, Any]:
        """The next answer."""
        deadline = time.monotonic() + timeout_s
        while b"\n" not in self._rest:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._answers], [], [], left)[0]:
                raise FailedError(f"no answer within {timeout_s:.0f} s")
            data = os.read(self._answers, 1 << 16)
            if not data:
                raise FailedError(self._reason())
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        found: dict[str, Any] = json.loads(line)
        return found

    def ask(self, timeout_s: float = 300.0, **request: Any) -> dict[str, Any]:
        """Send a request; returns its answer."""
        self.tell(**request)
        return self.answer(timeout_s)

    def pause(self) -> None:
        """Stop the process with all its threads, so that it does nothing out of turn."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL, and nothing before it."""
        self.process.kill()
        self.process.wait()

    def others(self) -> list[psutil.Process]:
        """The processes it started that still live."""
        return [p for p in psutil.process_iter() if p.pid != self.process.pid and self._is_ours(p)]

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            return process.environ().get(MARK) == self._mark
        except psutil.Error:
            return False

    def settle(self, timeout_s: float = SETTLE_S) -> None:
        """Wait until whatever it started has ended by itself, then end what has not."""
        deadline = time.monotonic() + timeout_s
        while (others := self.others()) and time.monotonic() < deadline:
            time.sleep(0.05)
        for process in others:
            with suppress(psutil.Error):
                process.kill()

    def end(self) -> None:
        """Let the child end by itself, and all it started."""
        assert self.process.stdin is not None
        self.resume()
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.kill()
        self.settle()

    def close(self) -> None:
        """``end``, and let go of the pipe."""
        self.end()
        os.close(self._answers)

    def _reason(self) -> str:
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        lines = self._printed.read_text(errors="replace").split("\n")
        told = [line.strip() for line in lines if line.strip()]
        return f"failed: {told[-1][:160] if told else f'exit code {self.process.returncode}'}"


@contextmanager
def contestant(
    job: str, who: str, base: Path, *, keep: bool = False, **arguments: Any
) -> Iterator[Contestant]:
    """A contestant with a folder of its own in ``base``, which is removed unless ``keep``."""
    progress(f"{job}: {who}")
    folder = base / f"{job}-{who.replace(' ', '-')}-{secrets.token_hex(4)}"
    child = Contestant(job, who, folder, **arguments)
    try:
        yield child
    finally:
        child.close()
        progress("")
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


def rotated(names: Sequence[str], by: int) -> list[str]:
    """The names in another order each round, so that none always follows the same one."""
    by %= len(names)
    return [*names[by:], *names[:by]]
