"""All that the integrations share: the missing package, the run, the names of metrics."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import Any

from trackway.core import current
from trackway.core._end import LEFT
from trackway.core._guard import guard
from trackway.core.run import Run
from trackway.errors import ArgumentError, MissingExtraError
from trackway.integrations._patch import defaults, watchers
from trackway.integrations._versions import FRAMEWORKS

__all__ = ["RunHandle", "named", "requires", "training_under_way"]


@contextmanager
def requires(name: str) -> Iterator[None]:
    """Around the import of a framework: its absence is said with the command that installs it.

    Raises:
        MissingExtraError: The framework is not installed. A framework that is there and cannot be
            imported raises its own error.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in FRAMEWORKS[name].modules:
            raise
        raise MissingExtraError(
            f"trackway.integrations.{name} needs {FRAMEWORKS[name].distributions[0]}: "
            f"pip install 'trackway[{name}]'"
        ) from None


def named(data: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """The values by their names behind the prefix; the two are joined by one ``/``."""
    if not prefix:
        return dict(data)
    start = prefix if prefix.endswith("/") else prefix + "/"
    return {start + name: value for name, value in data.items()}


class RunHandle:
    """Which run an integration records into, and whether that is its own to end.

    It is the run that was passed in, else the current one, else one that is opened when training
    begins, and ended when training ends, however it ends. Copied, it records into the same run;
    sent to another process, it records there into a log of its own.

    Args:
        name: The integration's name.
        run: The run, if it was passed in.
        prefix: Goes before the name of every metric, joined by ``/``.
        every: Record each n-th time only.
        roots: The framework's packages: their frames on the stack are how long a training lasts.
        init: Arguments of ``trackway.init`` for a run of its own.

    Raises:
        ArgumentError: An argument is wrong.
    """

    def __init__(
        self,
        name: str,
        run: Run | None = None,
        *,
        prefix: str = "",
        every: int = 1,
        roots: tuple[str, ...] = (),
        init: Mapping[str, Any] | None = None,
    ) -> None:
        if run is not None and not isinstance(run, Run):
            raise ArgumentError(f"run={run!r}: pass what trackway.init() returned, or nothing")
        if not isinstance(prefix, str):
            raise ArgumentError(f"prefix={prefix!r}: it is a text, such as 'teacher'")
        if type(every) is not int or every < 1:
            raise ArgumentError(f"every={every!r}: it is a whole number, 1 or more")
        self.name = name
        self.prefix = prefix
        self.every = every
        self.roots = roots or FRAMEWORKS[name].modules
        self._given = run
        self._init = dict(init or {})
        self._run: Run | None = None
        self._own = False

    # -- the training ----------------------------------------------------------------------

    def begin(
        self,
        *,
        ends: bool = True,
        keep: bool = False,
        fresh: bool = False,
        beside: bool = False,
        **fields: Any,
    ) -> bool:
        """A training begins.

        Args:
            ends: Whether ``end`` will be called. If so, a run of its own whose training was left
                by an exception ends as failed, at the next training or with the program.
            keep: A run that ``ensure`` has opened is that of this training; otherwise it is taken
                for what an earlier one has left.
            fresh: A run of its own also where another one is open, unless one was passed in.
            beside: Another object of ours has begun this very training already, and stays with it.
            **fields: Arguments of ``trackway.init`` that the framework knows, for a run of its own.

        Returns:
            Whether there is anything to record into.
        """
        with guard(self.name):
            entry = _entry(self.roots)
            if self._run is not None and not keep:
                self._left()
            if not beside:
                _sweep(entry)
            if self._run is None:
                self._open(fields, fresh)
            if ends:
                _under_way.append(_Training(self, entry))
                if self._own and self._run is not None:
                    self._run._unended = True
        return self.recording

    def ensure(self, **fields: Any) -> bool:
        """There is a run, also where no training has begun: evaluation alone records too."""
        if self._run is None:
            with guard(self.name):
                _sweep(_entry(self.roots))
                self._open(fields)
        return self.recording

    @property
    def recording(self) -> bool:
        """Whether there is anything to record into: not on a rank other than zero."""
        return self._run is not None and not self._run.disabled

    def _open(self, fields: dict[str, Any], fresh: bool = False) -> None:
        runs = [] if fresh else current.open_runs()
        self._run = self._given or (runs[-1] if runs else None)
        if self._run is None:
            self._run = self._opened(fields)
            self._own = True
        if not self._run.disabled:
            for told in watchers:
                told(self._run, self._own)

    def _opened(self, fields: dict[str, Any]) -> Run:
        from trackway.core.init import init

        return init(**{**fields, **defaults, **self._init})

    def end(self, error: BaseException | None = None) -> None:
        """The training is over: a run of its own is finished; as failed, if an error is given."""
        run = self._forget()
        if run is not None and error is None:
            run.finish()
        elif run is not None and error is not None:
            run.__exit__(type(error), error, error.__traceback__)

    def _left(self) -> None:
        """The training was left by an exception that the program caught."""
        run = self._forget()
        if run is not None:
            run._end(LEFT)

    def _forget(self) -> Run | None:
        """Nothing is under way any more; returns the run that is to be ended."""
        _under_way[:] = [training for training in _under_way if training.handle is not self]
        run, own = self._run, self._own
        self._run, self._own = None, False
        return run if own else None

    @property
    def run(self) -> Run | None:
        """The run of the training that is under way."""
        return self._run

    @property
    def owns(self) -> bool:
        """Whether the run was opened here."""
        return self._own

    # -- what is recorded ------------------------------------------------------------------

    def log(self, data: Mapping[str, Any], step: int | None) -> None:
        """Record values at the framework's own step, behind the prefix."""
        if self._run is not None and data:
            self._run.log(named(data, self.prefix), step=step)

    def due(self, counter: int) -> bool:
        """Whether it is an n-th time: whether ``counter`` is a multiple of ``every``."""
        return counter % self.every == 0

    def summarize(self, data: Mapping[str, Any]) -> None:
        """State results, behind the prefix."""
        if self._run is not None and data:
            self._run.summary.update(named(data, self.prefix))

    def configure(self, data: Mapping[str, Any]) -> None:
        """Record hyperparameters beside those that are there; with a prefix, under it."""
        if self._run is None or not data:
            return
        parts = [part for part in self.prefix.split("/") if part]
        tree: dict[str, Any] = dict(data)
        for part in reversed(parts):
            tree = {part: tree}
        _merge(self._run.config, tree)

    # -- copies ----------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        run = self._given if self._run is None else self._run
        return {**self.__dict__, "_given": run, "_run": None, "_own": False}

    def __deepcopy__(self, memo: dict[int, Any]) -> RunHandle:
        copy = RunHandle.__new__(RunHandle)
        copy.__dict__.update(self.__dict__, _run=None, _own=False, _init=dict(self._init))
        return copy


def _merge(into: Any, data: Mapping[str, Any]) -> None:
    """Set the entries; mappings on both sides are merged, so that what is there stays there."""
    flat = {}
    for name, value in data.items():
        there = into.get(name)
        if isinstance(there, Mapping) and isinstance(value, Mapping) and there:
            _merge(there, value)
        else:
            flat[name] = value
    if flat:
        into.update(flat)


class _Training:
    """One training that has begun: its handle, and the framework's frame that it lasts as long as.

    The frame is known by number and code: holding it would hold the user's model and data.
    """

    __slots__ = ("code", "frame", "handle", "thread")

    def __init__(self, handle: RunHandle, entry: FrameType | None) -> None:
        self.handle = handle
        self.thread = threading.get_ident()
        self.frame = 0 if entry is None else id(entry)
        self.code: CodeType | None = None if entry is None else entry.f_code

    def lives(self, beginning: FrameType | None) -> bool:
        """Whether its frame is still on its thread's stack.

        Args:
            beginning: The frame of the training that begins just now: a frame that is gone may
                have left it its number.
        """
        if self.code is None:
            return True
        frame = sys._current_frames().get(self.thread)
        while frame is not None:
            if id(frame) == self.frame and frame.f_code is self.code and frame is not beginning:
                return True
            frame = frame.f_back
        return False


_under_way: list[_Training] = []


def _entry(roots: tuple[str, ...]) -> FrameType | None:
    """The framework's outermost frame on this stack, above which the program's own begin.

    None where there is none: then it is not known how long the training lasts.
    """
    frame: FrameType | None = sys._getframe(1)
    entry = None
    while frame is not None:
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if package in roots:
            entry = frame
        elif package != "trackway":
            break
        frame = frame.f_back
    return entry


def _sweep(beginning: FrameType | None) -> None:
    """End the runs of trainings that were left by an exception, before another one begins."""
    for training in list(_under_way):
        if not training.lives(beginning):
            training.handle._left()


def training_under_way() -> bool:
    """Whether a framework is training now, whose integration records what there is to record."""
    if _under_way:
        _sweep(None)
    return bool(_under_way)
