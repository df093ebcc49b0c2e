"""The console capture: the streams behave as before, and the lines are recorded."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TextIO

import pytest

import trackway
from trackway.core import _guard
from trackway.core._console import Console

posix = pytest.mark.skipif(sys.platform == "win32", reason="there is no such thing on Windows")


class Record:
    """A console with everything it emitted."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.events: list[tuple[str, int, list[str]]] = []
        self.console = Console(self.emit, self.redact, clock)

    def emit(self, stream: str, first: int, lines: list[str]) -> None:
        """Keep an event."""
        self.events.append((stream, first, lines))

    def redact(self, line: str, place: str) -> str:
        """Mask the word *secret*."""
        assert place == "console"
        return line.replace("secret", "***")

    def lines(self, stream: str = "out") -> list[str]:
        """The recorded lines of a stream, from the first to the last."""
        return replay(self.events, stream)


def replay(events: list[tuple[str, int, list[str]]], stream: str) -> list[str]:
    """What a reader shows: a number that comes again replaces its line."""
    known: dict[int, str] = {}
    for name, first, lines in events:
        if name == stream:
            known.update(enumerate(lines, first))
    assert sorted(known) == list(range(len(known)))
    return [known[number] for number in sorted(known)]


@pytest.fixture(autouse=True)
def nothing_swallowed(request: pytest.FixtureRequest) -> Iterator[None]:
    """No error of ours hides behind the guard."""
    _guard.reset()
    yield
    hidden = list(_guard.swallowed)
    _guard.reset()
    assert not hidden or request.node.get_closest_marker("swallows")


class Streams:
    """Real text files in the place of ``sys.stdout`` and ``sys.stderr``.

    To be opened by the test itself: pytest puts its own streams there before it runs the test.
    """

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.monkeypatch = monkeypatch
        self.opened: list[TextIO] = []
        self.records: list[Record] = []

    def open(self) -> TextIO:
        """Put the files in their places; the one for standard output is returned."""
        for name in ("stderr", "stdout"):
            stream = (self.folder / name).open("w", encoding="utf-8", newline="")
            self.monkeypatch.setattr(sys, name, stream)
            self.opened.append(stream)
        return stream

    def record(self) -> Record:
        """A console that is open until the end of the test, unless it stops it."""
        record = Record()
        self.records.append(record)
        record.console.start()
        return record

    def close(self) -> None:
        """Stop and close everything; nothing of ours remains."""
        for record in self.records:
            record.console.stop()
        for stream in self.opened:
            assert "write" not in vars(stream)
            stream.close()


@pytest.fixture
def streams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Streams]:
    """Files to be put in the place of the standard streams."""
    streams = Streams(tmp_path, monkeypatch)
    yield streams
    streams.close()


def written(stream: TextIO) -> str:
    """What has arrived in the file."""
    stream.flush()
    return Path(stream.name).read_bytes().decode()


class Clock:
    now = 100.0

    def __call__(self) -> float:
        """The time it was set to."""
        return self.now


# ------------------------------------------------------------------------ what is recorded, when


def test_both_streams_are_recorded_line_by_line(streams: Streams) -> None:
    """A print is one event at once, whatever pieces it writes; numbers count per stream."""
    out = streams.open()
    record = streams.record()
    print("a", "b")
    sys.stdout.write("c\nd\n")
    print("e", file=sys.stderr)
    print()
    assert record.events == [
        ("out", 0, ["a b"]),
        ("out", 1, ["c", "d"]),
        ("err", 0, ["e"]),
        ("out", 3, [""]),
    ]
    assert written(out) == "a b\nc\nd\n\n"


def test_what_write_returns_is_returned(streams: Streams) -> None:
    """The number of characters, as before."""
    streams.open()
    record = streams.record()
    assert sys.stdout.write("héllo\n") == 6
    assert record.lines() == ["héllo"]


def test_every_line_is_redacted(streams: Streams) -> None:
    """Before it is emitted, and not on the terminal."""
    out = streams.open()
    record = streams.record()
    print("my secret")
    sys.stdout.write("a\nsecret\nsecret 2")
    record.console.flush()
    assert record.lines() == ["my ***", "a", "***", "*** 2"]
    assert written(out) == "my secret\na\nsecret\nsecret 2"


def test_an_unfinished_line_is_recorded_once_a_second(streams: Streams) -> None:
    """A progress bar stays one line; its end is recorded at once."""
    streams.open()
    clock = Clock()
    record = Record(clock)
    record.console.start()
    for step in range(41):
        sys.stdout.write(f"\r{step}/40")
        clock.now += 0.25
    assert record.events == [("out", 0, [f"{n}/40"]) for n in range(4, 40, 5)]
    sys.stdout.write("\n")
    assert record.events[-1] == ("out", 0, ["40/40"])
    record.console.stop()
    assert len(record.events) == 9


def test_a_redrawn_line_is_recorded_once_a_second(streams: Streams) -> None:
    """Lines that were complete and change again do not make an event for each newline."""
    streams.open()
    clock = Clock()
    record = Record(clock)
    record.console.start()
    print("a 0\nb 0")
    for step in range(1, 31):
        print(f"\x1b[2A\x1b[2Ka {step}\n\x1b[2Kb {step}")
        clock.now += 0.25
    assert [lines for _, _, lines in record.events[2:]] == [
        [f"a {n}", f"b {n}"] for n in range(5, 31, 5)
    ]
    record.console.stop()
    assert record.lines() == ["a 30", "b 30"]


def test_flush_records_the_unfinished_line(streams: Streams) -> None:
    """Once: a second flush has nothing to say, and the line's end adds nothing new."""
    streams.open()
    record = streams.record()
    print("loading", end="")
    assert record.events == []
    record.console.flush()
    record.console.flush()
    assert record.events == [("out", 0, ["loading"])]
    print()
    assert record.events == [("out", 0, ["loading"])]
    print(" x", end="")
    record.console.stop()
    assert record.lines() == ["loading", " x"]


def test_many_small_pieces_are_one_line(streams: Streams) -> None:
    """Dots one by one, more than are held back."""
    streams.open()
    record = streams.record()
    for _ in range(1000):
        print(".", end="", flush=True)
    print()
    assert record.events == [("out", 0, ["." * 1000])]


def test_a_huge_write_is_several_events(streams: Streams) -> None:
    """None of them is larger than about a megabyte, and together they are complete."""
    streams.open()
    record = streams.record()
    lines = [f"{n:0100}" for n in range(50_000)]
    print("\n".join(lines))
    assert record.lines() == lines
    assert all(sum(map(len, part)) <= 1 << 20 for _, _, part in record.events)


def test_anything_but_text_is_not_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that takes bytes, or the text under a name, still gets exactly what was given."""
    got: list[object] = []

    class Loose(io.StringIO):
        def write(self, string: Any = "nothing") -> int:
            got.append(string)
            return 0

    monkeypatch.setattr(sys, "stdout", Loose())
    record = Record()
    record.console.start()
    stream: Any = sys.stdout
    stream.write(b"bytes\n")
    stream.write(string="named\n")
    stream.write()
    with pytest.raises(TypeError, match="takes from 1 to 2 positional arguments"):
        stream.write("a", "b")
    record.console.stop()
    assert got == [b"bytes\n", "named\n", "nothing"]
    assert record.lines() == ["named"]


def test_lone_surrogates_are_recorded_as_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of files that are not UTF-8 can be stored."""
    buffer = io.BytesIO()
    stream = io.TextIOWrapper(buffer, "utf-8", "surrogateescape")
    monkeypatch.setattr(sys, "stdout", stream)
    record = Record()
    record.console.start()
    print("name-\udcff")
    record.console.stop()
    stream.flush()
    assert record.lines() == ["name-\\udcff"]
    assert buffer.getvalue() == b"name-\xff\n"


# ----------------------------------------------------------------------------- the streams remain


def test_the_stream_stays_the_same_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Identity and every property hold, and after stop nothing is left on it."""

    def properties(out: TextIO) -> list[object]:
        return [out.isatty(), out.encoding, out.errors, out.fileno(), out.buffer, out.newlines]

    with (tmp_path / "out").open("w", encoding="utf-8") as out:
        monkeypatch.setattr(sys, "stdout", out)
        before = properties(out)
        record = Record()
        record.console.start()
        record.console.start()
        assert sys.stdout is out
        assert properties(out) == before
        print("during")
        record.console.stop()
        record.console.stop()
        assert "write" not in vars(out)
        print("after")
    assert record.events == [("out", 0, ["during"])]
    assert (tmp_path / "out").read_text(encoding="utf-8") == "during\nafter\n"


def test_one_object_as_both_streams_is_recorded_once(
    streams: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under ``2>&1`` in Python, what is written counts as standard output."""
    out = streams.open()
    monkeypatch.setattr(sys, "stderr", out)
    record = Record()
    record.console.start()
    print("a")
    print("b", file=sys.stderr)
    record.console.stop()
    assert record.events == [("out", 0, ["a"]), ("out", 1, ["b"])]


def test_no_streams_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under pythonw both are None; they stay None and print stays silent."""
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    record = Record()
    record.console.start()
    print("nobody hears this")
    record.console.flush()
    record.console.stop()
    assert sys.stdout is None
    assert record.events == []


def test_errors_of_the_stream_are_the_users_own(streams: Streams) -> None:
    """They are raised unchanged, and what was not written is not recorded."""
    out = streams.open()
    record = streams.record()
    error = OSError(28, "No space left on device")

    def full(text: str) -> int:
        raise error

    record.console.stop()
    object.__setattr__(out, "write", full)
    failing = Record()
    failing.console.start()
    with pytest.raises(OSError, match="No space left") as caught:
        print("lost")
    assert caught.value is error
    failing.console.stop()
    assert vars(out).pop("write") is full
    assert failing.events == []


def test_two_consoles_see_what_is_written_while_they_are_open(streams: Streams) -> None:
    """Each counts its own lines; the last one to stop gives the stream back."""
    out = streams.open()
    first, second = Record(), Record()
    print("before")
    first.console.start()
    print("one")
    second.console.start()
    print("two")
    first.console.stop()
    print("three")
    second.console.stop()
    assert "write" not in vars(out)
    print("after")
    assert first.lines() == ["one", "two"]
    assert second.lines() == ["two", "three"]
    assert written(out) == "before\none\ntwo\nthree\nafter\n"


def test_a_redirected_stream_is_left_alone(streams: Streams) -> None:
    """What goes elsewhere is not recorded; stop in the middle undoes nothing."""
    out = streams.open()
    record = streams.record()
    print("a")
    with contextlib.redirect_stdout(io.StringIO()) as elsewhere:
        print("b")
        record.console.stop()
        assert sys.stdout is elsewhere
        print("c")
    assert sys.stdout is out
    print("d")
    assert elsewhere.getvalue() == "b\nc\n"
    assert record.lines() == ["a"]
    assert written(out) == "a\nd\n"


def test_a_stream_put_in_later_is_seen_by_the_next_console(streams: Streams) -> None:
    """StringIO takes the hook like any other stream."""
    streams.open()
    record = streams.record()
    with contextlib.redirect_stdout(io.StringIO()) as elsewhere:
        second = Record()
        second.console.start()
        print("a")
        second.console.stop()
        assert "write" not in vars(elsewhere)
    assert elsewhere.getvalue() == "a\n"
    assert second.lines() == ["a"]
    assert record.lines() == []


def test_a_patch_put_on_after_us_stays_and_works(streams: Streams) -> None:
    """Stop leaves it; the next console records each line once, above it or below it."""
    out = streams.open()
    record = Record()
    record.console.start()
    ours = out.write
    calls: list[str] = []

    def theirs(text: str) -> int:
        calls.append(text)
        return ours(text)

    object.__setattr__(out, "write", theirs)
    print("a")
    record.console.stop()
    print("b")
    assert out.write is theirs
    above = Record()
    above.console.start()
    print("c")
    above.console.stop()
    assert out.write is theirs
    object.__setattr__(out, "write", ours)  # theirs goes and puts back what it found
    below = Record()
    below.console.start()
    print("d")
    below.console.stop()
    assert "write" not in vars(out)
    print("e")
    assert calls == ["a", "\n", "b", "\n", "c", "\n"]
    assert [r.lines() for r in (record, above, below)] == [["a"], ["c"], ["d"]]
    assert written(out) == "a\nb\nc\nd\ne\n"


def test_a_patch_that_was_there_before_us_is_put_back(streams: Streams) -> None:
    """The stream's own attribute is the original then."""
    out = streams.open()
    original = out.write

    def theirs(text: str) -> int:
        return original(text.upper())

    object.__setattr__(out, "write", theirs)
    record = Record()
    record.console.start()
    print("a")
    record.console.stop()
    assert out.write is theirs
    print("b")
    object.__delattr__(out, "write")
    assert record.lines() == ["a"]
    assert written(out) == "A\nB\n"


class Slotted:
    """A stream that takes no attributes."""

    __slots__ = ("inner", "mode_name")
    inner: TextIO
    mode_name: str

    def __init__(self, inner: TextIO) -> None:
        self.inner = inner

    def write(self, text: str) -> int:
        """As the inner stream does."""
        return self.inner.write(text)

    def writelines(self, lines: list[str]) -> None:
        """Past the own ``write``."""
        self.inner.writelines(lines)

    def flush(self) -> None:
        """As the inner stream does."""
        self.inner.flush()

    def __iter__(self) -> Iterator[str]:
        return iter(["x"])

    def __next__(self) -> str:
        return "y"

    def __enter__(self) -> Slotted:
        return self

    def __exit__(self, *error: object) -> None:
        self.inner.write("exit\n")

    def __repr__(self) -> str:
        return "<slotted>"


def test_a_stream_without_attributes_is_stood_for(
    streams: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in sys.stdout then looks like the stream in every respect, and goes at stop."""
    out = streams.open()
    stream: Any = Slotted(out)
    monkeypatch.setattr(sys, "stdout", stream)
    first, second = Record(), Record()
    first.console.start()
    second.console.start()
    proxy: Any = sys.stdout
    assert proxy is not stream
    assert isinstance(proxy, Slotted)
    assert repr(proxy) == "<slotted>"
    assert proxy.inner is out
    assert (list(proxy), next(proxy)) == (["x"], "y")
    proxy.mode_name = "m"
    assert stream.mode_name == "m"
    del proxy.mode_name
    assert not hasattr(stream, "mode_name")
    with proxy as entered:
        assert entered is proxy
        print("a", flush=True)
    sys.stdout.writelines(["b\n", "c\n"])
    first.console.stop()
    assert sys.stdout is proxy
    second.console.stop()
    assert sys.stdout is stream
    assert first.lines() == second.lines() == ["a", "b", "c"]
    assert written(out) == "a\nexit\nb\nc\n"


def test_a_stand_in_that_someone_kept_goes_on_working(
    streams: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After stop it only passes through; put back into sys.stdout, it serves the next console."""
    out = streams.open()
    stream: Any = Slotted(out)
    monkeypatch.setattr(sys, "stdout", stream)
    first, second = Record(), Record()
    first.console.start()
    proxy = sys.stdout
    with contextlib.redirect_stdout(io.StringIO()):
        first.console.stop()
    assert sys.stdout is proxy
    print("a")
    second.console.start()
    print("b")
    second.console.stop()
    assert sys.stdout is stream
    print("c", file=proxy)
    assert (first.lines(), second.lines()) == ([], ["b"])
    assert written(out) == "a\nb\nc\n"


def test_a_wrapper_that_hands_attributes_on(
    streams: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its inner stream is not touched, and the two do not call each other for ever."""
    out = streams.open()

    class Forwarding:
        def __init__(self, inner: TextIO) -> None:
            object.__setattr__(self, "inner", inner)

        def write(self, text: str) -> int:
            return out.write(text)

        def __getattr__(self, name: str) -> Any:
            return getattr(out, name)

        def __setattr__(self, name: str, value: object) -> None:
            setattr(out, name, value)

        def __delattr__(self, name: str) -> None:
            delattr(out, name)

    wrapper: Any = Forwarding(out)
    monkeypatch.setattr(sys, "stdout", wrapper)
    record = Record()
    record.console.start()
    assert "write" not in vars(out)
    print("a")
    record.console.stop()
    print("b")
    assert list(vars(wrapper)) == ["inner"]
    assert record.lines() == ["a"]
    assert written(out) == "a\nb\n"


def test_a_stream_that_hides_its_attributes(
    streams: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the hook would not be seen, a stand-in is used and nothing is left behind."""
    out = streams.open()

    class Hiding:
        def __getattribute__(self, name: str) -> Any:
            return object.__getattribute__(self, name) if name == "__dict__" else getattr(out, name)

    stream: Any = Hiding()
    monkeypatch.setattr(sys, "stdout", stream)
    record = Record()
    record.console.start()
    print("a")
    record.console.stop()
    assert sys.stdout is stream
    assert vars(stream) == {}
    assert record.lines() == ["a"]


class Shell:
    """The part of IPython 9 that concerns us: ``write`` is replaced for the time of a cell."""

    def __init__(self) -> None:
        self.callbacks: list[Callable[[object], None]] = []
        self.events = self
        self.seen: list[str] = []

    def register(self, event: str, callback: Callable[[object], None]) -> None:
        """Call it within every cell, before the cell's code."""
        assert event == "pre_run_cell"
        self.callbacks.append(callback)

    def unregister(self, event: str, callback: Callable[[object], None]) -> None:
        """Call it no longer."""
        self.callbacks.remove(callback)

    @contextlib.contextmanager
    def cell(self) -> Iterator[None]:
        """What happens around a cell."""
        stream: Any = sys.stdout
        original = stream.write

        def write(data: str) -> Any:
            self.seen.append(data)
            return original(data)

        stream.write = write
        for callback in list(self.callbacks):
            callback(None)
        yield
        stream.write = original


def test_a_notebook_that_resets_write_after_each_cell(
    streams: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every line is recorded once in each later cell too, wherever the console was started."""
    out = streams.open()
    shell = Shell()
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    within, before = Record(), Record()
    with shell.cell():
        within.console.start()
        print("1")
    with shell.cell():
        print("2")
    before.console.start()
    for n in range(3, 5):
        with shell.cell():
            print(n)
    with shell.cell():
        print("5")
        within.console.stop()
        print("6")
    with shell.cell():
        before.console.stop()
        print("7")
    print("8")
    assert within.lines() == ["1", "2", "3", "4", "5"]
    assert before.lines() == ["3", "4", "5", "6"]
    assert "".join(shell.seen) == "1\n2\n3\n4\n5\n6\n7\n"
    assert written(out) == "1\n2\n3\n4\n5\n6\n7\n8\n"
    assert shell.callbacks == []
    object.__delattr__(out, "write")


# --------------------------------------------------------------- our own trouble, threads, signals


@pytest.mark.swallows
def test_a_failure_of_ours_never_reaches_print(streams: Streams) -> None:
    """It is counted, told once, and the other console does not notice."""
    out = streams.open()

    def fails(stream: str, first: int, lines: list[str]) -> None:
        raise ValueError("disk on fire")

    failing, working = Console(fails, lambda line, place: line), Record()
    failing.start()
    working.console.start()
    for n in range(3):
        print(n)
    print("unfinished", end="")
    failing.stop()
    working.console.stop()
    assert "write" not in vars(out)
    assert written(out) == "0\n1\n2\nunfinished"
    assert working.lines() == ["0", "1", "2", "unfinished"]
    (trouble,) = _guard.troubles()
    assert (trouble.place, trouble.reason) == ("console", "ValueError")
    assert trouble.count == 5  # three prints, the sentence itself, and stop
    assert written(sys.stderr).count("disk on fire") == 1


def test_an_emit_that_prints_does_not_loop(streams: Streams) -> None:
    """What it writes is recorded along with the next write."""
    out = streams.open()
    record = Record()

    def emit(stream: str, first: int, lines: list[str]) -> None:
        record.emit(stream, first, lines)
        print(f"emitted {first}")

    console = Console(emit, record.redact)
    console.start()
    print("a")
    assert record.events == [("out", 0, ["a"])]
    print("b")
    assert record.events[1:] == [("out", 1, ["emitted 0", "b"])]
    console.stop()
    assert record.lines() == ["a", "emitted 0", "b", "emitted 1"]
    assert written(out) == "a\nemitted 0\nb\nemitted 1\nemitted 3\n"


def test_an_emit_that_prints_a_flood_is_bounded(streams: Streams) -> None:
    """A thousand writes are kept, the rest is counted in a line of its own."""
    streams.open()
    record = Record()

    def emit(stream: str, first: int, lines: list[str]) -> None:
        record.emit(stream, first, lines)
        for n in range(1500 if len(record.events) == 1 else 0):
            sys.stdout.write(f"{n}\n")

    console = Console(emit, record.redact)
    console.start()
    print("a")
    sys.stdout.write("b\n")
    console.stop()
    kept = [str(n) for n in range(1000)]
    assert record.lines() == ["a", *kept, "b", "… [500 writes left out]"]


def test_threads_lose_no_line_and_mix_none(streams: Streams) -> None:
    """Eight threads at once: every line is recorded once, each thread's own in order."""
    out = streams.open()
    record = streams.record()

    def work(name: int) -> None:
        for n in range(300):
            sys.stdout.write(f"{name} {n}\n")

    threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    record.console.flush()
    lines = record.lines()
    assert sorted(lines) == sorted(written(out).split("\n")[:-1])
    for name in range(8):
        own = [line for line in lines if line.startswith(f"{name} ")]
        assert own == [f"{name} {n}" for n in range(300)]


def test_a_stuck_thread_does_not_hold_up_the_others(streams: Streams) -> None:
    """Their writes go through after a moment, and are recorded when it comes free again."""
    out = streams.open()
    inside, go_on = threading.Event(), threading.Event()
    record = Record()

    def emit(stream: str, first: int, lines: list[str]) -> None:
        inside.set()
        assert go_on.wait(60)
        record.emit(stream, first, lines)

    console = Console(emit, record.redact)
    console.start()
    thread = threading.Thread(target=print, args=("stuck",))
    thread.start()
    assert inside.wait(60)
    start = time.monotonic()
    for n in range(20):
        print(n)
    assert time.monotonic() - start < 5
    lines = ["stuck", *map(str, range(20))]
    assert written(out).split() == lines
    go_on.set()
    thread.join()
    console.stop()
    assert record.lines() == lines


def test_stop_does_not_wait_for_ever(streams: Streams) -> None:
    """With a thread stuck in emit it gives the streams back all the same."""
    out = streams.open()
    inside, go_on = threading.Event(), threading.Event()

    def emit(stream: str, first: int, lines: list[str]) -> None:
        inside.set()
        assert go_on.wait(60)

    console = Console(emit, lambda line, place: line)
    console.start()
    thread = threading.Thread(target=print, args=("stuck",))
    thread.start()
    assert inside.wait(60)
    start = time.monotonic()
    console.stop()
    assert time.monotonic() - start < 10
    assert "write" not in vars(out)
    go_on.set()
    thread.join()


@posix
def test_a_signal_handler_may_print_while_we_record(streams: Streams) -> None:
    """In the same thread, with the lock held: nothing hangs, and its line is recorded."""
    out = streams.open()
    record = Record()

    def emit(stream: str, first: int, lines: list[str]) -> None:
        if not record.events:
            signal.raise_signal(signal.SIGUSR1)
        record.emit(stream, first, lines)

    former = signal.signal(signal.SIGUSR1, lambda *_: print("handler"))
    try:
        console = Console(emit, record.redact)
        console.start()
        print("a")
        console.stop()
    finally:
        signal.signal(signal.SIGUSR1, former)
    assert record.lines() == ["a", "handler"]
    assert sorted(written(out).split()) == ["a", "handler"]


@posix
def test_a_signal_handler_may_stop_us_while_we_record(streams: Streams) -> None:
    """From then on nothing is emitted, and the interrupted print goes on."""
    out = streams.open()
    record = Record()

    def redact(line: str, place: str) -> str:
        signal.raise_signal(signal.SIGUSR1)
        return line

    console = Console(record.emit, redact)
    former = signal.signal(signal.SIGUSR1, lambda *_: console.stop())
    try:
        console.start()
        print("a\nb")
        print("c")
    finally:
        signal.signal(signal.SIGUSR1, former)
    assert "write" not in vars(out)
    assert written(out) == "a\nb\nc\n"
    assert record.events == []


def test_ctrl_c_while_we_record_is_the_users(streams: Streams) -> None:
    """KeyboardInterrupt passes through, and recording goes on afterwards."""
    streams.open()
    record = Record()

    def emit(stream: str, first: int, lines: list[str]) -> None:
        if first == 0:
            raise KeyboardInterrupt
        record.emit(stream, first, lines)

    console = Console(emit, record.redact)
    console.start()
    with pytest.raises(KeyboardInterrupt):
        print("a")
    print("b")
    console.stop()
    assert record.events == [("out", 1, ["b"])]


# ---------------------------------------------------------------------------------- real processes

DRIVER = """
import atexit, json, runpy, sys
from trackway.core import _guard
from trackway.core._console import Console
mode, script, path = sys.argv[1:]
sys.argv = [script]
events = []
console = Console(lambda *event: events.append(event), lambda line, place: line)
def save():
    if mode == "on":
        console.stop()
    with open(path, "w", encoding="utf-8") as file:
        json.dump([events, [repr(error) for error in _guard.swallowed]], file)
if mode != "off":
    console.start()
atexit.register(save)
runpy.run_path(script, {"console": console, "events": events}, "__main__")
"""


class Result:
    """How a real Python process went."""

    def __init__(self, code: int, out: bytes, err: bytes, events: list[Any]) -> None:
        self.code, self.out, self.err, self.events = code, out, err, events

    def lines(self, stream: str = "out") -> list[str]:
        """The recorded lines of a stream, from the first to the last."""
        return replay(self.events, stream)


class Runner:
    """Runs scripts with the capture on, off, or never stopped ("open")."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def command(self, mode: str, code: str) -> list[str]:
        """The command line that runs the code."""
        script = self.folder / "script.py"
        script.write_text(code, encoding="utf-8")
        return [sys.executable, "-c", DRIVER, mode, str(script), str(self.folder / "events")]

    def environment(self, **more: str) -> dict[str, str]:
        """The variables it runs with."""
        root = str(Path(trackway.__file__).parents[1])
        return {**os.environ, "PYTHONPATH": root, "PYTHONUTF8": "1", "COLUMNS": "70", **more}

    def events(self) -> list[Any]:
        """What the last process recorded."""
        events, swallowed = json.loads((self.folder / "events").read_text(encoding="utf-8"))
        assert swallowed == []
        return list(events)

    def run(self, mode: str, code: str, **more: str) -> Result:
        """Run the code with both streams as pipes."""
        done = subprocess.run(
            self.command(mode, code),
            env=self.environment(**more),
            capture_output=True,
            timeout=100,
            check=False,
        )
        return Result(done.returncode, done.stdout, done.stderr, self.events())

    def both(self, code: str, **more: str) -> Result:
        """The result with capture, after checking that it is the same as without."""
        off, on = self.run("off", code, **more), self.run("on", code, **more)
        assert (on.code, on.out, on.err) == (off.code, off.out, off.err)
        return on

    def on_terminal(self, mode: str, code: str) -> Result:
        """Run the code with both streams on one terminal of 61 columns."""
        import fcntl
        import pty
        import struct
        import termios

        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 61, 0, 0))
        environment = self.environment(TERM="xterm-256color")
        del environment["COLUMNS"]
        process = subprocess.Popen(
            self.command(mode, code), env=environment, stdin=slave, stdout=slave, stderr=slave
        )
        os.close(slave)
        chunks = []
        with contextlib.suppress(OSError):  # the end of a terminal is an error on Linux
            while chunk := os.read(master, 65536):
                chunks.append(chunk)
        os.close(master)
        return Result(process.wait(100), b"".join(chunks), b"", self.events())


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    """Runs scripts in a folder of their own."""
    return Runner(tmp_path)


def test_plain_writing_is_byte_for_byte_the_same(runner: Runner) -> None:
    """print, write, writelines, logging, warnings, and a traceback at the end."""
    result = runner.both(
        """
import logging, sys, warnings
print("a", "b", sep="-", end="!\\n")
print("naïve 🙂", flush=True)
print(sys.stdout.write("w\\n"))
sys.stdout.writelines(["l1\\n", "l2\\n"])
logging.basicConfig(format="%(levelname)s %(message)s")
logging.warning("careful")
warnings.warn("old")
print("no end", end="")
1 / 0
"""
    )
    assert result.code == 1
    assert result.lines() == ["a-b!", "naïve 🙂", "w", "2", "l1", "l2", "no end"]
    assert result.out == "a-b!\nnaïve 🙂\nw\n2\nl1\nl2\nno end".encode()
    errors = result.lines("err")
    assert errors[0] == "WARNING careful"
    assert errors[1].endswith("script.py:9: UserWarning: old")
    assert "Traceback (most recent call last):" in errors
    assert errors[-1] == "ZeroDivisionError: division by zero"
    assert "\n".join(errors) + "\n" == result.err.decode()


def test_exit_codes_are_the_same(runner: Runner) -> None:
    """A message to sys.exit goes to standard error, and the code is what it was."""
    result = runner.both("import sys; print('a'); sys.exit('stopped')")
    assert (result.code, result.err) == (1, b"stopped\n")
    assert result.lines("err") == ["stopped"]
    assert runner.both("import sys; sys.exit(7)").code == 7


BARS = """
from tqdm import tqdm
shape = dict(mininterval=0, bar_format="{desc}|{bar:10}|{n_fmt}/{total_fmt}")
for i in tqdm(range(3), desc="outer", **shape):
    for j in tqdm(range(4), desc="inner", position=1, leave=False, **shape):
        pass
    tqdm.write(f"epoch {i}")
print("done")
"""


def test_tqdm_is_the_same_and_stays_one_line(runner: Runner) -> None:
    """Nested bars and tqdm.write: the bars' last state, and the prints on their own stream."""
    result = runner.both(BARS)
    assert result.err.count(b"\r") > 20
    assert result.lines("err") == ["outer|██████████|3/3"]
    assert result.lines() == ["epoch 0", "epoch 1", "epoch 2", "done"]


def test_rich_progress_is_the_same_and_stays_in_place(runner: Runner) -> None:
    """Two bars redrawn again and again, with a print through the live display."""
    result = runner.both(
        """
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
console = Console(force_terminal=True, width=60)
columns = TextColumn("{task.description}"), BarColumn(10), TextColumn("{task.completed}")
with Progress(*columns, console=console, auto_refresh=False) as progress:
    first, second = progress.add_task("first", total=5), progress.add_task("second", total=5)
    for i in range(5):
        progress.update(first, advance=1)
        progress.update(second, advance=0.5)
        progress.refresh()
        if i == 2:
            print("through")
print("done")
"""
    )
    assert result.out.count(b"\x1b[1A") > 3
    assert [line.rstrip() for line in result.lines()] == [
        "through",
        f"first  {'━' * 10} 5",
        f"second {'━' * 5}╺{'━' * 4} 2.5",
        "done",
    ]


@posix
def test_a_terminal_is_the_same(runner: Runner) -> None:
    """It says that it is one, its size is true, and the same bytes arrive, colours included."""
    code = """
import os, sys
print(sys.stdout.isatty(), sys.stderr.isatty(), os.get_terminal_size(sys.stdout.fileno()).columns)
print("\\x1b[1;31mred\\x1b[0m")
"""
    off, on = (runner.on_terminal(mode, code + BARS) for mode in ("off", "on"))
    assert (on.code, on.out) == (off.code, off.out) == (0, off.out)
    assert b"\x1b[1;31mred" in on.out
    assert on.lines() == ["True True 61", "red", "epoch 0", "epoch 1", "epoch 2", "done"]
    assert on.lines("err") == ["outer|██████████|3/3"]


@posix
def test_a_pipe_nobody_reads_ends_the_program_as_before(runner: Runner) -> None:
    """BrokenPipeError and the exit code are Python's own."""
    code = """
import sys
sys.stdin.readline()
for n in range(100_000):
    print(n)
"""
    codes = []
    for mode in ("off", "on"):
        process = subprocess.Popen(
            runner.command(mode, code),
            env=runner.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdin and process.stdout and process.stderr
        process.stdout.close()
        process.stdin.write(b"go\n")
        process.stdin.close()
        error = process.stderr.read()
        process.stderr.close()
        assert b"BrokenPipeError: [Errno 32] Broken pipe" in error
        codes.append(process.wait(100))
    assert codes[0] == codes[1] != 0


def test_a_character_the_terminal_cannot_show(runner: Runner) -> None:
    """The UnicodeEncodeError is the user's own; only what was written is recorded."""
    result = runner.both(
        """
try:
    print("a", "🙂", "b")
except UnicodeEncodeError as error:
    print(ascii(error))
""",
        PYTHONIOENCODING="ascii",
        PYTHONUTF8="0",
    )
    assert result.code == 0
    assert result.out.startswith(b"a UnicodeEncodeError('ascii', '\\U0001f642', 0, 1,")
    assert result.lines() == [result.out.decode().rstrip("\n")]


@posix
def test_a_closed_standard_output(runner: Runner) -> None:
    """Started with >&- there is no sys.stdout; the program runs as it did."""
    for mode in ("off", "on"):
        command = runner.command(mode, "import sys; print('x'); print(sys.stdout, file=sys.stderr)")
        shell = ["/bin/sh", "-c", 'exec "$@" >&-', "sh", *command]
        done = subprocess.run(
            shell, env=runner.environment(), stderr=subprocess.PIPE, timeout=100, check=False
        )
        assert (done.returncode, done.stderr) == (0, b"None\n")
    assert runner.events() == [["err", 0, ["None"]]]


LATE = """
import atexit, builtins, sys, threading, time
class Late:
    def __del__(self):
        print("deleted", self.name)
        sys.stderr.write("deleted\\n")
    def __init__(self, name):
        self.name = name
builtins.kept = Late("at last")
atexit.register(print, "at exit")
def late():
    time.sleep(0.2)
    print("thread")
threading.Thread(target=late).start()
print("main")
"""


@pytest.mark.parametrize("mode", ["on", "open"])
def test_printing_during_shutdown_works(runner: Runner, mode: str) -> None:
    """From atexit handlers and __del__, after stop, and also if nobody ever stopped us."""
    off, other = runner.run("off", LATE), runner.run(mode, LATE)
    assert (other.code, other.out, other.err) == (off.code, off.out, off.err)
    assert (off.out, off.err) == (b"main\nthread\nat exit\ndeleted at last\n", b"deleted\n")


@posix
def test_a_forked_child_is_not_recorded(runner: Runner) -> None:
    """Its output arrives; the parent's goes on being recorded; inherited consoles do nothing."""
    result = runner.run(
        "on",
        """
import os, sys
print("before", flush=True)
print("unfinished", end="", flush=True)
child = os.fork()
if child == 0:
    print(" child", flush=True)
    console.flush()
    console.stop()
    console.stop()
    print(len(events), "write" in vars(sys.stdout), flush=True)
    os._exit(0)
os.waitpid(child, 0)
print(" parent")
""",
    )
    assert result.out == b"before\nunfinished child\n1 False\n parent\n"
    assert result.lines() == ["before", "unfinished parent"]


@posix
def test_a_forked_child_may_record_for_itself(runner: Runner) -> None:
    """A console started in the child sees the child's lines only, and gives the stream back."""
    result = runner.run(
        "on",
        """
import os, sys
from trackway.core._console import Console
print("parent 1", flush=True)
if os.fork() == 0:
    events = []
    own = Console(lambda *event: events.append(event), lambda line, place: line)
    own.start()
    print("child", flush=True)
    own.stop()
    print(events, "write" in vars(sys.stdout), flush=True)
    os._exit(0)
os.wait()
print("parent 2")
""",
    )
    assert result.out == b"parent 1\nchild\n[('out', 0, ['child'])] False\nparent 2\n"
    assert result.lines() == ["parent 1", "parent 2"]


@posix
def test_a_fork_while_a_thread_records_does_not_hang_the_child(runner: Runner) -> None:
    """The locks that thread held belong to nobody in the child, and are not taken there."""
    result = runner.run(
        "off",
        """
import os, threading, warnings
from trackway.core._console import Console
warnings.simplefilter("ignore")
inside, go_on = threading.Event(), threading.Event()
def emit(stream, first, lines):
    inside.set()
    go_on.wait(60)
console = Console(emit, lambda line, place: line)
console.start()
thread = threading.Thread(target=print, args=("thread",), kwargs={"flush": True})
thread.start()
inside.wait(60)
child = os.fork()
if child == 0:
    print("child", flush=True)
    again = Console(lambda *event: None, lambda line, place: line)
    again.start()
    print("still child", flush=True)
    console.flush()
    console.stop()
    again.stop()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
go_on.set()
thread.join()
console.stop()
""",
    )
    assert (result.code, result.err) == (0, b"")
    assert b"child\nstill child\n" in result.out
