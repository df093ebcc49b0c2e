"""The companion: samples the machine, captures what the run is made of, and records its end.

The main thread waits for the next sample or for the training to end. What may hang has a daemon
thread: the captures (git on a dead network disk), and the GPU driver. So neither sampling nor
the end ever waits for them.
"""

from __future__ import annotations

import contextlib
import os
import queue
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Container
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from trackway.core._guard import guard, troubles
from trackway.core.companion._death import ProcessWatch
from trackway.core.companion._spec import GOODBYE, CompanionSpec
from trackway.types import Settings

if TYPE_CHECKING:
    from trackway.backend.file.writer import LogWriter
    from trackway.core._redact import Redactor
    from trackway.core.companion._system import SystemSampler

__all__ = ["Companion", "detach", "main", "next_beat", "read_spec"]

HEARTBEAT_S: Final = 30.0
SHORTEST_INTERVAL_S: Final = 0.1

LINGER_S: Final = 10.0
"""After goodbye the process usually ends too, and with which exit code is worth a wait."""

TERMINATED_S: Final = 10.0
"""Whoever sends us SIGTERM often ends the training with the same stroke; a second one ends us."""

UNFINISHED_S: Final = 10.0
"""How long captures may go on after the training has ended."""

GPU_START_S: Final = 5.0
"""How long the environment waits for the GPU driver, which may have to wake the GPUs."""

WATCH_S: Final = 0.25
CALM_WATCH_S: Final = 5.0
"""Between two looks whether the process is there, where there is no pidfd: once its lifeline
has ended, and before."""


def main(read_fd: int, pidfd: int | None = None) -> None:
    """Accompany the run whose spec the lifeline holds, and return when it has ended.

    Args:
        read_fd: Our end of the lifeline.
        pidfd: The training process, where the system has such descriptors.
    """
    detach({read_fd, pidfd})
    line = read_spec(read_fd)
    if line is None:
        return
    try:
        spec = CompanionSpec.decode(line)
        settings = spec.read_settings()
    except msgspec.MsgspecError:
        return
    Companion(spec, settings, read_fd, pidfd).run()


def detach(kept: Container[int | None]) -> None:
    """Be nobody's burden: no signal, folder or descriptor of the training, and last in line.

    Args:
        kept: The descriptors beside the three streams that stay open.
    """
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(OSError):  # the leader of a session already
        os.setsid()
    # What C libraries left inheritable, a listening socket say, must not live on in us.
    for fd in _open_descriptors():
        if fd > 2 and fd not in kept:
            with contextlib.suppress(OSError):
                os.close(fd)
    with contextlib.suppress(OSError):
        os.chdir("/")
    with contextlib.suppress(OSError):
        os.nice(10)


def _open_descriptors() -> list[int]:
    folder = Path("/proc/self/fd" if sys.platform == "linux" else "/dev/fd")
    try:
        return [int(path.name) for path in folder.iterdir()]
    except OSError:
        return []


def read_spec(read_fd: int) -> bytes | None:
    """The line the lifeline begins with; None where it ends before one is whole."""
    line = bytearray()
    while not line.endswith(b"\n"):
        byte = os.read(read_fd, 1)
        if not byte:
            return None
        line += byte
    return bytes(line)


def next_beat(due: float, now: float, interval: float) -> float:
    """The first time after ``now`` on the schedule that ``due`` is on; missed beats are skipped."""
    missed = max(0.0, (now - due) // interval)
    return due + (missed + 1) * interval


class Companion:
    """One run's companion, alive until ``run`` returns.

    Args:
        spec: The run.
        settings: What to capture.
        read_fd: Our end of the lifeline, past the spec.
        pidfd: The training process, where the system has such descriptors.
    """

    def __init__(
        self, spec: CompanionSpec, settings: Settings, read_fd: int, pidfd: int | None = None
    ) -> None:
        self._watch = ProcessWatch(spec.pid, spec.process_started, fd=pidfd)
        self._spec = spec
        self._settings = settings
        self._root = Path(spec.cwd or "/") / spec.root
        self._lifeline: int | None = read_fd
        self._deadline: float | None = None
        self._terminations = 0
        self._woken, self._wake = os.pipe()
        os.set_blocking(self._wake, False)
        interval = settings.system_interval_s if settings.system else HEARTBEAT_S
        self._interval = max(SHORTEST_INTERVAL_S, interval)
        self._due: float | None = time.monotonic()
        self._step = 0
        self._told: dict[tuple[str, str], int] = {}
        self._threads: list[threading.Thread] = []
        self._gpu_steps: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._gpu_facts: dict[str, object] = {"gpus": []}
        self._gpu_known = threading.Event()
        self._system: SystemSampler | None = None
        self._redactor: Redactor | None = None
        self._writer = self._open_log()

    def run(self) -> None:
        """Record until the training ends or we are told to."""
        signal.signal(signal.SIGTERM, self._terminate)
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        self._begin()
        while not self._watch.is_gone() and not self._is_past_deadline():
            self._wait()
            self._heed_signals()
            if self._due is not None and time.monotonic() >= self._due:
                self._beat()
            self._tell_troubles()
        self._finish()

    # -- beginning and end -----------------------------------------------------------------

    def _open_log(self) -> LogWriter:
        from trackway.backend.file.writer import LogWriter

        spec = self._spec
        return LogWriter.create(
            self._root, project=spec.project, run=spec.run, role="companion", attempt=spec.attempt
        )

    def _begin(self) -> None:
        if self._settings.system:
            with guard("companion.system"):
                from trackway.core.companion._system import SystemSampler, be_idle

                be_idle()
                self._system = SystemSampler(self._spec.pid, self._spec.process_started, self._root)
        self._beat()
        if self._settings.system or self._settings.environment:
            self._start(self._attend_gpus)
        self._start(self._capture)

    def _start(self, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target, daemon=True)
        thread.start()
        self._threads.append(thread)

    def _finish(self) -> None:
        # Asked first: on older kernels the answer is there for a moment only.
        death = self._watch.death() if self._watch.is_gone() else None
        self._end_beats()
        if death is not None:
            self._writer.event("death", death.fields())
        self._gpu_steps.put(None)
        deadline = time.monotonic() + (1.0 if self._terminations else UNFINISHED_S)
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._tell_troubles(final=True)
        self._writer.close()
        self._watch.close()

    def _terminate(self, number: int, frame: object) -> None:
        # A signal handler runs between any two steps of the main thread: it only leaves word.
        self._terminations += 1

    def _heed_signals(self) -> None:
        if self._terminations:
            self._end_beats()
            self._end_in(TERMINATED_S if self._terminations == 1 else 0.0)

    def _end_in(self, seconds: float) -> None:
        moment = time.monotonic() + seconds
        self._deadline = moment if self._deadline is None else min(self._deadline, moment)

    def _is_past_deadline(self) -> bool:
        return self._deadline is not None and time.monotonic() >= self._deadline

    # -- waiting ---------------------------------------------------------------------------

    def _wait(self) -> None:
        """Until the next beat, or until the lifeline or the process ends, or a signal comes."""
        waited = [fd for fd in (self._woken, self._lifeline, self._watch.fd) if fd is not None]
        ready = select.select(waited, [], [], self._timeout_s())[0]
        if self._woken in ready:
            os.read(self._woken, 4096)
        if self._lifeline in ready:
            self._hear(self._lifeline)

    def _timeout_s(self) -> float:
        now = time.monotonic()
        until = [HEARTBEAT_S]
        if self._watch.fd is None:
            until.append(CALM_WATCH_S if self._lifeline is not None else WATCH_S)
        until += [moment - now for moment in (self._due, self._deadline) if moment is not None]
        return max(0.0, min(until))

    def _hear(self, lifeline: int) -> None:
        said = os.read(lifeline, 4096)
        if GOODBYE in said:
            self._end_beats()
            self._end_in(LINGER_S)
        if not said:
            # No reason to end as long as the process is there: descriptors get closed, too, by
            # programs that make daemons of themselves.
            os.close(lifeline)
            self._lifeline = None

    # -- samples ---------------------------------------------------------------------------

    def _beat(self) -> None:
        if self._due is not None:
            self._due = next_beat(self._due, time.monotonic(), self._interval)
        if not self._settings.system:
            self._writer.event("heartbeat", {})
            return
        step, self._step = self._step, self._step + 1
        if self._gpu_steps.empty():  # else the driver has not answered for the last one
            self._gpu_steps.put(step)
        with guard("companion.system"):
            values = self._system.sample() if self._system is not None else {}
            if values:
                self._writer.row(values, step, space="system")

    def _end_beats(self) -> None:
        """Take the last sample; a second call does nothing."""
        if self._due is not None:
            self._due = None
            if self._settings.system:
                self._beat()

    def _attend_gpus(self) -> None:
        """A thread: sample the GPUs whenever a step is asked for, until None is."""
        try:
            with guard("companion.gpu"):
                from trackway.core.companion._gpu import GpuSampler

                visible = os.environ.get("CUDA_VISIBLE_DEVICES")
                gpus = GpuSampler(self._pids, visible)
                self._gpu_facts = {"gpus": gpus.describe()}
                if gpus.reason is not None:
                    self._gpu_facts["gpus_reason"] = gpus.reason
        finally:
            self._gpu_known.set()
        if not self._settings.system or not self._gpu_facts["gpus"]:
            return
        while (step := self._gpu_steps.get()) is not None:
            with guard("companion.gpu"):
                values = gpus.sample()
                if values:
                    self._writer.row(values, step, space="system")

    def _pids(self) -> set[int]:
        return self._system.pids() if self._system is not None else {self._spec.pid}

    # -- captures --------------------------------------------------------------------------

    def _capture(self) -> None:
        """A thread: everything that is captured once."""
        with guard("companion.redact"):
            from trackway.core._redact import Redactor

            settings = self._settings
            self._redactor = Redactor(settings.redact_names, settings.redact_patterns)
        redactor = self._redactor
        if redactor is None:  # what cannot be masked is not stored
            return
        for wanted, place, capture in (
            (settings.environment, "environment", self._capture_environment),
            (settings.git, "git", self._capture_git),
            (settings.packages, "packages", self._capture_packages),
            (True, "masked", self._tell_masked),
        ):
            if wanted and (place != "masked" or redactor.masked()):
                with guard(f"companion.{place}"):
                    self._writer.event(place, capture(redactor))

    def _capture_environment(self, redactor: Redactor) -> dict[str, object]:
        from trackway.core.companion._environment import capture_environment

        spec = self._spec
        facts = capture_environment(
            argv=spec.argv,
            cwd=spec.cwd,
            script=spec.script,
            environ=spec.environment(os.environ),
            redactor=redactor,
        )
        gpus: dict[str, object]
        if self._gpu_known.wait(GPU_START_S):
            gpus = self._gpu_facts
        else:
            gpus = {"gpus": [], "gpus_reason": "the NVIDIA driver does not answer"}
        return {**facts, "argv_truncated": spec.argv_truncated, **gpus}

    def _capture_git(self, redactor: Redactor) -> dict[str, object]:
        from trackway.backend.file.blobs import BlobStore
        from trackway.core.companion._git import capture_git

        folder = Path(self._spec.cwd or "/")
        script = self._spec.script
        return capture_git(
            folder if script is None else Path(script).parent,
            fallback=folder,
            blobs=BlobStore(self._root),
            redactor=redactor,
            patch_limit_bytes=self._settings.patch_limit_bytes,
            untracked_limit_bytes=self._settings.untracked_limit_bytes,
            exclude=self._root,
        )

    def _capture_packages(self, redactor: Redactor) -> dict[str, object]:
        from trackway.core.companion._environment import capture_packages

        return {"items": capture_packages()}

    def _tell_masked(self, redactor: Redactor) -> dict[str, object]:
        return {
            "items": [
                {"where": m.where, "rule": m.rule, "count": m.count} for m in redactor.masked()
            ]
        }

    def _tell_troubles(self, *, final: bool = False) -> None:
        """Record each kind of trouble once, and how often it was when all is over."""
        for trouble in troubles():
            kind = trouble.place, trouble.reason
            told = self._told.get(kind, 0)
            if told == 0 or (final and trouble.count > told):
                self._told[kind] = trouble.count
                # An error may quote what it stumbled over; without a filter it is not quoted.
                sentence = f"{trouble.place} did not work ({trouble.reason})"
                if self._redactor is not None:
                    sentence = self._redactor.text(trouble.sentence, "trouble")
                fields = {"place": trouble.place, "reason": trouble.reason}
                self._writer.event(
                    "trouble", {**fields, "count": trouble.count, "sentence": sentence}
                )
