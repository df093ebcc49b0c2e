"""What Python writes to ``sys.stdout`` and ``sys.stderr``, recorded as numbered lines.

The streams stay the objects they are: only the attribute ``write`` of each is replaced, by a
function that calls the original first and returns or raises exactly what that did. Output that
bypasses ``write`` (``sys.stdout.buffer``, C libraries, child processes) is not seen.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, TextIO

from trackway.core._guard import guard, guarded
from trackway.core._screen import Screen

__all__ = ["Console"]

Emit = Callable[[str, int, list[str]], None]
Redact = Callable[[str, str], str]

PARTIAL_S: Final = 1.0
"""An unfinished or redrawn line is recorded at most this often."""

_WAIT_S: Final = 0.05  # how long a write may wait for another thread's; then it is recorded later
_CLOSE_WAIT_S: Final = 1.0
_HELD_WRITES: Final = 64  # that many pieces of a line are held back at most, and such a long one
_HELD_CHARS: Final = 4096
_LATE_WRITES: Final = 1000
_EVENT_CHARS: Final = 1 << 20


class Console:
    """Records the console of one run, from ``start`` to ``stop``.

    Several may be open at once; each sees everything written while it is. A stream that the
    program puts in the place of ``sys.stdout`` later is not followed. In a forked child the
    capture is off, and the methods of an inherited console do nothing. In a notebook the output
    of cells is recorded; what a thread prints between two cells may be missed.

    Args:
        emit: Called with ``"out"`` or ``"err"``, the number of the first line, and the lines. A
            number that comes again replaces that line. It may be called by any thread that
            prints, but only by one at a time for each stream; what it raises is swallowed.
        redact: Called with each line and ``"console"``; returns the line to record.
        clock: Seconds, for the pace at which progress bars are recorded.
    """

    def __init__(
        self, emit: Emit, redact: Redact, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._emit = emit
        self._redact = redact
        self._clock = clock
        self._open: list[_Recorder] = []

    def start(self) -> None:
        """Begin to record; a second call does nothing. To be used once. Never raises."""
        with guard("console"), _lock:
            if self._open:
                return
            out, err = sys.stdout, sys.stderr
            for stream, name in ((out, "out"), (None if err is out else err, "err")):
                if stream is not None and hasattr(stream, "write"):  # pythonw: None
                    recorder = _Recorder(name, self._emit, self._redact, self._clock)
                    self._open.append(recorder)
                    _subscribe(stream, recorder)
            _follow_cells()

    def flush(self) -> None:
        """Record the unfinished lines as they are now."""
        for recorder in self._open:
            with guard("console"):
                recorder.flush()

    def stop(self) -> None:
        """Record what is left, and give the streams back if no other console is open.

        A second call does nothing. Whatever else has been put on or around the streams since
        ``start`` is left as it is.
        """
        with _lock:
            ended, self._open = self._open, []
        for recorder in ended:
            with guard("console"):
                recorder.flush()
            recorder.closed = True
            with guard("console"), _lock:
                _unsubscribe(recorder)


class _Recorder:
    """One stream of one console: text in, numbered lines out.

    Everything written goes to the inbox first, which takes no lock; a newline, the clock or a
    full inbox makes the writing thread empty it into the screen.
    """

    def __init__(self, name: str, emit: Emit, redact: Redact, clock: Callable[[], float]) -> None:
        self.closed = False
        self._name = name
        self._emit = emit
        self._redact = redact
        self._clock = clock
        self._screen = Screen()
        self._inbox: deque[str] = deque()
        self._lost = 0
        self._due: float | None = None
        # Re-entrant, because a signal handler may print between taking the lock and noting the
        # owner. While there is an owner, nobody else touches the screen.
        self._lock = threading.RLock()
        self._owner = 0
        self._stuck = False

    def record(self, text: object) -> None:
        """Record what was written; takes microseconds, and never waits for long."""
        if not isinstance(text, str):
            return
        self._inbox.append(text)
        if "\n" not in text and len(text) <= _HELD_CHARS and len(self._inbox) <= _HELD_WRITES:
            due, now = self._due, self._clock()
            if due is None:
                self._due = now + PARTIAL_S
                return
            if now < due:
                return
        self._empty(0 if self._stuck else _WAIT_S)

    def flush(self) -> None:
        """Record everything written so far, the unfinished line included."""
        if not self.closed:
            self._empty(_CLOSE_WAIT_S, partial=True)

    def _empty(self, wait_s: float, partial: bool = False) -> None:
        """Record what is in the inbox, or leave it there for the next call.

        It is left if the present thread is in here already (``emit`` itself wrote, or a signal
        handler interrupted us), and if another thread does not come out of here (perhaps it
        waits for something that the present thread holds).
        """
        me = threading.get_ident()
        if self._owner == me:
            self._limit_inbox()
            return
        if not (self._lock.acquire(False) or self._lock.acquire(timeout=wait_s)):
            self._stuck = True
            self._limit_inbox()
            return
        try:
            self._owner = me
            self._stuck = False
            screen, inbox = self._screen, self._inbox
            text = ""
            while inbox:
                text += inbox.popleft()
            if self._lost and (partial or text.endswith("\n")):
                text += f"… [{self._lost} writes left out]\n"
                self._lost = 0
            self._give(screen.write(text))
            if partial or screen.waiting:
                self._settle(partial)
            else:
                self._due = None
        finally:
            self._owner = 0
            self._lock.release()

    def _settle(self, partial: bool) -> None:
        """Record what has not led to a complete line, if it is time to."""
        screen = self._screen
        due, self._due = self._due, None
        if partial or (due is not None and self._clock() >= due):
            self._give(screen.take(partial=True))
        else:
            self._due = due or self._clock() + PARTIAL_S

    def _limit_inbox(self) -> None:
        if len(self._inbox) > _LATE_WRITES:
            self._inbox.pop()
            self._lost += 1

    def _give(self, groups: list[tuple[int, list[str]]]) -> None:
        for first, lines in groups:
            redacted = [self._redact(line, "console") for line in lines]
            for start, part in _portions(redacted):
                if self.closed:  # by a signal handler, in the middle of a write
                    return
                self._emit(self._name, first + start, part)


def _portions(lines: list[str]) -> list[tuple[int, list[str]]]:
    """The lines in portions of about a megabyte, each with the index of its first line."""
    if len(lines) == 1:
        return [(0, lines)]
    cuts, size = [0], 0
    for i, line in enumerate(lines):
        size += len(line) + 1
        if size > _EVENT_CHARS and i > cuts[-1]:
            cuts.append(i)
            size = len(line) + 1
    return [(i, lines[i:end]) for i, end in zip(cuts, [*cuts[1:], len(lines)], strict=True)]


class _Tap:
    """Stands in front of one stream's ``write``; without recorders it only passes through."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.recorders: tuple[_Recorder, ...] = ()
        self._records: tuple[Callable[..., None], ...] = ()
        self._original = stream.write
        self.hook = self._write  # one bound method, so that identity tells whether it is in place
        self._proxy: _Proxy | None = None

    def _write(self, *args: Any, **keywords: Any) -> Any:
        result = self._original(*args, **keywords)
        # What is not inside the guarded functions cannot raise.
        text = args[0] if args else next(iter(keywords.values()), None)
        for record in self._records:
            record(text)
        return result

    def serve(self, recorders: tuple[_Recorder, ...]) -> None:
        """From now on, tell these what is written."""
        self.recorders = recorders
        self._records = tuple(guarded("console", recorder.record, None) for recorder in recorders)

    def attach(self) -> None:
        """Put the hook on the stream or, if that takes no attributes, a proxy in its place."""
        if _set_write(self.stream, self.hook):
            return
        self._proxy = _Proxy(self)
        for name in ("stdout", "stderr"):
            if getattr(sys, name) is self.stream:
                setattr(sys, name, self._proxy)

    def detach(self) -> None:
        """Take away what ``attach`` put there, unless someone has built upon it since."""
        if self._proxy is not None:
            for name in ("stdout", "stderr"):
                if getattr(sys, name) is self._proxy:
                    setattr(sys, name, self.stream)
        elif self.stream.write is self.hook:
            object.__delattr__(self.stream, "write")
            if self.stream.write != self._original:  # it was an attribute of the stream before us
                _set_write(self.stream, self._original)

    def renewed(self) -> _Tap:
        """The tap to go on with: another one where someone has covered or removed the hook."""
        if self._proxy is not None or self.stream.write is self.hook:
            return self
        tap, recorders = _Tap(self.stream), self.recorders
        # The old hook may still be called by what covers it, and then only passes through.
        self.serve(())
        tap.serve(recorders)
        tap.attach()
        return tap

    def owns(self, stream: object) -> bool:
        """Whether this tap stands in front of that stream."""
        return stream is self.stream or stream is self._proxy


def _set_write(stream: TextIO, write: Callable[..., Any]) -> bool:
    # Past the stream's own __setattr__: one that hands attributes on to an inner stream would
    # put the hook where the original leads to, and the two would call each other for ever.
    try:
        object.__setattr__(stream, "write", write)
    except (AttributeError, TypeError):
        return False
    if stream.write is write:
        return True
    object.__delattr__(stream, "write")
    return False


class _Proxy:
    """Looks and behaves like the stream it stands for, except that ``write`` is observed."""

    __slots__ = ("_tap", "write")

    def __init__(self, tap: _Tap) -> None:
        object.__setattr__(self, "_tap", tap)
        object.__setattr__(self, "write", tap.hook)

    def writelines(self, lines: Iterable[str], /) -> None:
        for line in lines:
            self.write(line)

    def __getattribute__(self, name: str) -> Any:
        if name in ("write", "writelines"):
            return object.__getattribute__(self, name)
        return getattr(object.__getattribute__(self, "_tap").stream, name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(_stream_of(self), name, value)

    def __delattr__(self, name: str) -> None:
        delattr(_stream_of(self), name)

    def __iter__(self) -> Iterator[str]:
        return iter(_stream_of(self))

    def __next__(self) -> str:
        return next(_stream_of(self))

    def __enter__(self) -> _Proxy:
        _stream_of(self).__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        _stream_of(self).__exit__(*error)

    def __repr__(self) -> str:
        return repr(_stream_of(self))


def _stream_of(proxy: _Proxy) -> TextIO:
    tap: _Tap = object.__getattribute__(proxy, "_tap")
    return tap.stream


_taps: list[_Tap] = []
_shells: list[Any] = []
_lock = threading.RLock()


def _subscribe(stream: TextIO, recorder: _Recorder) -> None:
    tap = next((tap for tap in _taps if tap.owns(stream)), None)
    if tap is None:
        # Someone who patched us while we were open may have put our hook back after we left.
        former = getattr(stream.write, "__self__", None)
        if isinstance(former, _Tap) and former.owns(stream):
            tap = former
        else:
            tap = _Tap(stream)
            tap.attach()
        _taps.append(tap)
    tap.serve((*tap.recorders, recorder))


def _unsubscribe(recorder: _Recorder) -> None:
    for tap in list(_taps):
        tap.serve(tuple(other for other in tap.recorders if other is not recorder))
        if not tap.recorders:
            _taps.remove(tap)
            tap.detach()
    while _shells and not _taps:
        _shells.pop().events.unregister("pre_run_cell", _before_cell)


def _follow_cells() -> None:
    """Stay on the streams of a notebook.

    From 9.1 on, IPython puts a ``write`` of its own on both streams for the time of a cell and
    then puts back the one it found, which removes a hook that was attached during the cell.
    """
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is not None and shell not in _shells:
        shell.events.register("pre_run_cell", _before_cell)
        _shells.append(shell)


def _before_cell(*_: object) -> None:
    with guard("console"), _lock:
        _taps[:] = [tap.renewed() for tap in _taps]


def _after_fork_in_child() -> None:
    # Locks may be held by threads that do not exist here: leave them, take none of them.
    global _lock
    _lock = threading.RLock()
    for tap in _taps:
        for recorder in tap.recorders:
            recorder.closed = True
        tap.serve(())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
