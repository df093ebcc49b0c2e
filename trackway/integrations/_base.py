"""All that the integrations share: the missing package, the run, the names of metrics."""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from types import FrameType
from typing import Any, Final

from trackway.core import current
from trackway.core._end import LEFT
from trackway.core._guard import guard
from trackway.core.run import Run
from trackway.errors import ArgumentError, MissingExtraError
from trackway.integrations._patch import defaults, watchers
from trackway.integrations._versions import FRAMEWORKS

__all__ = ["RunHandle", "joinable", "named", "requires", "searching", "training_under_way"]


_BETWEEN: Final = 5
"""Frames of the program's own subclasses that may lie between us and the framework."""


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
        self._said: set[str] = set()

    # -- the training ----------------------------------------------------------------------

    def begin(
        self,
        *,
        ends: bool = True,
        keep: bool = False,
        fresh: bool = False,
        **fields: Any,
    ) -> bool:
        """A training begins.

        Args:
            ends: Whether ``end`` will be called. If so, a run of its own whose training was left
                by an exception ends as failed, at the next training or with the program.
            keep: A run that ``ensure`` has opened is that of this training; otherwise it is taken
                for what an earlier one has left.
            fresh: A run of its own also where another one is open, unless one was passed in.
            **fields: Arguments of ``trackway.init`` that the framework knows, for a run of its own.

        Returns:
            Whether there is anything to record into.
        """
        with guard(self.name):
            self._said = set()
            if self._run is not None and not keep:
                self._left()
            _sweep()
            if self._run is None:
                self._open(fields, fresh, shared=not ends)
            if ends:
                _under_way.append(_Training(self, _entry(self.roots)))
                if self._own and self._run is not None:
                    self._run._unended = True
        return self.recording

    def ensure(self, **fields: Any) -> bool:
        """There is a run, also where no training has begun: evaluation alone records too."""
        if self._run is None:
            with guard(self.name):
                _sweep()
                self._open(fields)
        return self.recording

    @property
    def recording(self) -> bool:
        """Whether there is anything to record into: not on a rank other than zero."""
        if self._run is None or self._run.disabled:
            return False
        return self._given is not None or self._run not in _searched.get()

    def _open(self, fields: dict[str, Any], fresh: bool = False, *, shared: bool = False) -> None:
        runs = [] if fresh else joinable()
        self._run = self._given or (runs[-1] if runs else None)
        if self._run is not None and self._given is None and self._run in _searched.get():
            self._run = None
            return
        if self._run is None:
            self._run = self._opened(fields)
            self._own = True
            if not shared:
                _opened_in[self._run] = threading.get_ident()
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
        for training in [each for each in _under_way if each.handle is self]:
            with suppress(ValueError):  # another thread has taken it out
                _under_way.remove(training)
        run, own = self._run, self._own
        self._run, self._own = None, False
        if run is not None and own:
            _opened_in.pop(run, None)
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
            self._run.log(named(data, self.prefix) if self.prefix else data, step=step)

    def due(self, counter: int) -> bool:
        """Whether it is an n-th time: whether ``counter`` is a multiple of ``every``."""
        return counter % self.every == 0

    def summarize(self, data: Mapping[str, Any], *, whole: bool = False) -> None:
        """State results, behind the prefix.

        Args:
            data: The results.
            whole: These are all that the training has: what an earlier one has stated beside them
                is taken back.
        """
        if self._run is None:
            return
        values = named(data, self.prefix)
        stated = _stated.setdefault(self._run, {}).setdefault((self.name, self.prefix), set())
        if whole:
            for name in stated.difference(values):
                self._run.summary.pop(name, None)
            stated.clear()
        stated.update(values)
        if values:
            self._run.summary.update(values)

    def configure(self, data: Mapping[str, Any]) -> None:
        """Record hyperparameters; with a prefix, under it.

        What a training says first of a name takes the place of all that was there, of an earlier
        training; what it says later is added.
        """
        if self._run is None:
            return
        for name, value in data.items():
            place = self._place()
            merged = name in self._said and isinstance(value, Mapping)
            there = place.get(name) if merged else None
            if isinstance(there, Mapping):
                _merge(there, value)
            else:
                place[name] = value
            self._said.add(name)

    def configure_at(self, path: Sequence[str], value: Any) -> None:
        """Record one hyperparameter or group of them, and leave what stands beside it."""
        if self._run is not None:
            self._place(*path[:-1])[path[-1]] = value

    def _place(self, *path: str) -> Any:
        """The mapping at a path of the configuration, behind the prefix; made where it is not."""
        assert self._run is not None
        place: Any = self._run.config
        for part in (*(part for part in self.prefix.split("/") if part), *path):
            if not isinstance(place.get(part), Mapping):
                place[part] = {}
            place = place[part]
        return place

    # -- copies ----------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        run = self._given if self._run is None else self._run
        return {**self.__dict__, "_given": run, "_run": None, "_own": False}

    def __deepcopy__(self, memo: dict[int, Any]) -> RunHandle:
        copy = RunHandle.__new__(RunHandle)
        copy.__dict__.update(
            self.__dict__, _run=None, _own=False, _said=set(), _init=dict(self._init)
        )
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


_stated: weakref.WeakKeyDictionary[Run, dict[tuple[str, str], set[str]]]
_stated = weakref.WeakKeyDictionary()
"""What integrations have stated in a run's summary, by integration and prefix."""

_searched: ContextVar[tuple[Run, ...]] = ContextVar("trackway_runs_searched", default=())


@contextmanager
def searching() -> Iterator[None]:
    """Around what a search tries out, where the search itself is the record of it.

    A training in the block joins no run that was open before. It records into one that was opened
    in the block, or that was passed in.
    """
    token = _searched.set(tuple(current.open_runs()))
    try:
        yield
    finally:
        _searched.reset(token)


class _Mark:
    """Lies in a frame as its trace function, by which the frame is known again.

    A frame takes no attribute, no weak reference, and its number is used again. Where something
    traces (a debugger, coverage), it is passed through.
    """

    __slots__ = ("_inner",)

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __call__(self, frame: FrameType, event: str, arg: Any) -> Any:
        if self._inner is None:
            return None
        self._inner = self._inner(frame, event, arg) or self._inner
        return self


class _Training:
    """One training that has begun: its handle, and the framework's frame that it lasts as long as.

    The frame is known by its mark: holding it would hold the user's model and data.
    """

    __slots__ = ("handle", "mark", "thread")

    def __init__(self, handle: RunHandle, entry: FrameType | None) -> None:
        self.handle = handle
        self.thread = threading.get_ident()
        self.mark: _Mark | None = None
        if entry is not None:
            if not isinstance(entry.f_trace, _Mark):
                entry.f_trace = _Mark(entry.f_trace)
            self.mark = entry.f_trace

    def lives(self) -> bool:
        """Whether its frame is still on its thread's stack."""
        if self.mark is None:
            return True
        frame = sys._current_frames().get(self.thread)
        while frame is not None:
            if frame.f_trace is self.mark:
                return True
            frame = frame.f_back
        return False


_under_way: list[_Training] = []


_opened_in: weakref.WeakKeyDictionary[Run, int] = weakref.WeakKeyDictionary()
"""Runs that were opened for one training and will be ended with it, and by which thread."""


def joinable() -> list[Run]:
    """The open runs that a training of this thread may go into; the last one is the current one.

    Not one that was opened for a training in another thread, which will end it.
    """
    me = threading.get_ident()
    return [run for run in current.open_runs() if _opened_in.get(run, me) == me]


def _entry(roots: tuple[str, ...]) -> FrameType | None:
    """The framework's outermost frame on this stack, above which the program's own begin.

    None where there is none: then it is not known how long the training lasts. Between us and
    the framework may be the program's own subclass of an object of ours.
    """
    frame: FrameType | None = sys._getframe(1)
    entry = None
    between = 0
    while frame is not None:
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if package in roots:
            entry = frame
        elif package != "trackway":
            between += 1
            if entry is not None or between > _BETWEEN:
                break
        frame = frame.f_back
    return entry


def _sweep() -> None:
    """End the runs of trainings that were left by an exception."""
    for training in list(_under_way):
        if not training.lives():
            training.handle._left()


def training_under_way() -> bool:
    """Whether a framework is training in this thread, whose integration records what there is."""
    me = threading.get_ident()
    if not any(training.thread == me for training in _under_way):
        return False
    _sweep()
    return any(training.thread == me for training in _under_way)


current.before_use.append(_sweep)
