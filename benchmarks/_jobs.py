"""What a contestant does in its own process. One function a job, named as the job is.

The parent's halves are in the modules of the benchmarks. Nothing is imported here that a bare
program would not have: the memory of this process is compared.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from array import array
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from zlib import crc32

from benchmarks._trackers import Log, Mlflow, Tracker, make

if TYPE_CHECKING:
    from benchmarks._worker import Channel

KEPT: Final = 256
"""How many different dictionaries are logged in turn."""

LIMIT_S: Final = 2.0

CALM_S: Final = 3.0
"""What a tracker does at the side when a run begins is over after this time."""


def rows(keys: int, kind: str = "float") -> list[dict[str, Any]]:
    """Dictionaries of values to log, alike in names and different in values."""
    convert: Callable[[float], Any] = float
    if kind == "numpy":
        import numpy as np

        convert = np.float32
    elif kind == "torch":
        import torch

        convert = torch.tensor
    made = []
    for row in range(KEPT):
        values = {f"train/m{key}": convert(0.1 * row + key + 0.5) for key in range(keys)}
        if kind == "int":
            values[f"train/m{keys - 1}"] = row
        made.append(values)
    return made


# -- log_call ------------------------------------------------------------------------------


def log_call(channel: Channel, who: str, cases: Sequence[tuple[str, int, str]], calls: int) -> None:
    """Time every single call; answers nanoseconds by case."""
    tracker = make(who) if who != "floor" else None
    log = tracker.start() if tracker else None
    time.sleep(CALM_S)
    times: dict[str, Any] = {}
    for name, keys, kind in cases:
        try:
            values = rows(keys, kind)
        except ImportError as error:
            times[name] = f"{error.name} is not installed"
            continue
        call = log if log is not None else floor(keys, Path(f"floor-{keys}.log"))
        items = values if log is not None else [tuple(map(float, v.values())) for v in values]
        timed(call, items, min(1000, calls), LIMIT_S / 4)
        each = timed(call, items, calls, LIMIT_S)
        empty = timed(None, items, min(5000, calls), LIMIT_S)
        pair = empty[len(empty) // 2]
        each = [max(0, ns - pair) for ns in each]
        times[name] = {
            "p50": each[len(each) // 2],
            "p99": each[int(0.99 * len(each))],
            "calls": len(each),
            "pair": pair,
        }
    channel.send(times=times)
    if tracker:
        tracker.finish()


def floor(keys: int, path: Path) -> Callable[[Any], object]:
    """Pack, checksum, join, write: a frame of the size that Trackway writes, by itself."""
    pack = struct.Struct(f"<BIqd{keys}d").pack
    size = struct.calcsize(f"<BIqd{keys}d")
    head = struct.Struct("<II").pack
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    write = os.write

    def append(values: Sequence[float]) -> None:
        payload = pack(3, 0, 0, 0.0, *values)
        write(fd, head(size, crc32(payload)) + payload)

    return append


def timed(
    call: Callable[[Any], object] | None, items: Sequence[Any], calls: int, limit_s: float
) -> list[int]:
    """Nanoseconds of each call, sorted; of an empty pair of clock readings where call is None."""
    each = array("q", bytes(8 * calls))
    clock = time.perf_counter_ns
    end = clock() + int(limit_s * 1e9)
    done = 0
    for done in range(calls):
        item = items[done % KEPT]
        if call is None:
            begin = clock()
            stop = clock()
        else:
            begin = clock()
            call(item)
            stop = clock()
        each[done] = stop - begin
        if stop > end:
            break
    return sorted(each[: done + 1])


# -- startup -------------------------------------------------------------------------------


def begin_and_end(channel: Channel, who: str, steps: int, limit_s: float) -> None:
    """Seconds of a first and a second ``init`` and of ``finish`` after so many steps.

    The second run is begun after the first has ended, as in a sweep.
    """
    begin_s, tracker, log = _begun(who)
    done = _log_for(log, rows(10), steps, limit_s)
    finishing = time.perf_counter()
    tracker.finish()
    finish_s = time.perf_counter() - finishing
    again_s, tracker, log = _begun(who)
    log(rows(10)[0])
    channel.send(init=begin_s, again=again_s, finish=finish_s, steps=done)
    tracker.finish()


def _begun(who: str) -> tuple[float, Tracker, Log]:
    """A tracker that has begun a run, and the seconds which that took after the import."""
    tracker = make(who)
    tracker.load()
    begin = time.perf_counter()
    log = tracker.start()
    return time.perf_counter() - begin, tracker, log


# -- loop ----------------------------------------------------------------------------------


def training_step(repeats: int) -> Callable[[], None]:
    """NumPy work of a fixed amount that releases the interpreter lock now and then."""
    import numpy as np

    given = np.linspace(0.0, 3.0, 8192)
    result = np.empty_like(given)
    sin = np.sin

    def step() -> None:
        for _ in range(repeats):
            sin(given, out=result)

    return step


def calibrate(channel: Channel, who: str, step_s: float) -> None:
    """How many repeats make a step of this length."""
    once = training_step(10)
    once()
    each = []
    for _ in range(200):
        begin = time.perf_counter()
        once()
        each.append(time.perf_counter() - begin)
    # The quickest tenth: other load lengthens a step, and nothing shortens it.
    channel.send(repeats=max(1, round(10 * step_s / sorted(each)[len(each) // 10])))


def turns(channel: Channel, who: str, repeats: int, keys: int) -> None:
    """Train so many steps whenever asked; answers the wall time of each turn."""
    step = training_step(repeats)
    values = rows(keys)
    tracker = make(who)
    log = tracker.start()
    time.sleep(CALM_S)
    channel.send()
    for request in channel.requests():
        wall = _loop(step, None if who.startswith("bare") else log, values, request["steps"])
        channel.send(wall=wall)
    tracker.finish()


def _loop(
    step: Callable[[], None], log: Log | None, values: Sequence[Mapping[str, Any]], steps: int
) -> float:
    begin = time.perf_counter()
    if log is None:
        for _ in range(steps):
            step()
    else:
        for number in range(steps):
            step()
            log(values[number % KEPT])
    return time.perf_counter() - begin


def processor(
    channel: Channel, who: str, repeats: int, keys: int, steps: int, limit_s: float
) -> None:
    """Processor time of the whole process less what the steps themselves took.

    Threads that a tracker runs in this process are in it: they count against the process, and
    not against the thread that trains.
    """
    step = training_step(repeats)
    values = rows(keys)
    tracker = make(who)
    tracker.load()
    time.sleep(CALM_S)  # threads that NumPy's import began spin for a while
    own, whole = time.thread_time_ns, time.process_time_ns
    begin = whole()
    log = tracker.start()
    time.sleep(CALM_S)
    log(values[0])  # what only the first call has to do belongs to the beginning
    started = whole()
    training = done = 0
    end = time.perf_counter() + limit_s
    for done in range(1, steps + 1):
        before = own()
        step()
        training += own() - before
        log(values[done % KEPT])
        if time.perf_counter() > end:
            break
    looped = whole()
    tracker.finish()
    channel.send(
        steps=done,
        loop_ns=looped - started - training,
        start_ns=started - begin,
        finish_ns=whole() - looped,
    )


# -- memory, disk, read --------------------------------------------------------------------


def hold(channel: Channel, who: str, keys: int, steps: int, limit_s: float) -> None:
    """Log, then wait to be looked at before the run ends."""
    values = rows(keys)
    tracker = make(who)
    log = tracker.start()
    channel.send(steps=_log_for(log, values, steps, limit_s))
    channel.wait()
    tracker.finish()


def linger(channel: Channel, who: str, seconds: float) -> None:
    """A quiet training of so many seconds, for the companion to watch."""
    tracker = make(who)
    log = tracker.start()
    channel.send()
    end = time.monotonic() + seconds
    values = rows(10)
    while time.monotonic() < end:
        log(values[0])
        time.sleep(0.05)
    channel.send()
    channel.wait()
    tracker.finish()


def record(
    channel: Channel, who: str, keys: int, steps: int, limit_s: float, bulk: bool = False
) -> None:
    """A whole run whose first metric counts the steps.

    With ``bulk``, by the fastest way there is: the run is only made to be read.
    """
    tracker = make(who)
    log = tracker.start()
    made = rows(keys)
    if bulk and isinstance(tracker, Mlflow):
        tracker.record_in_bulk(made, steps)
        channel.send(steps=steps)
        return
    end = time.perf_counter() + limit_s
    done = 0
    for done in range(1, steps + 1):
        values = made[done % KEPT]
        values["train/m0"] = float(done - 1)
        log(values)
        if time.perf_counter() > end:
            break
    tracker.finish()
    channel.send(steps=done)


def _log_for(log: Log, values: Sequence[Mapping[str, Any]], steps: int, limit_s: float) -> int:
    end = time.perf_counter() + limit_s
    for number in range(steps):
        log(values[number % KEPT])
        if not number & 0xFF and time.perf_counter() > end:
            return number + 1
    return steps


def read(channel: Channel, who: str, how: str, store: str) -> None:
    """Read a stored run to columns; answers seconds, points, and the peak of memory."""
    from benchmarks import _stores

    begin = time.process_time()
    seconds, points, last = getattr(_stores, f"columns_{how}")(Path(store))
    channel.send(
        seconds=seconds,
        cpu=time.process_time() - begin,
        points=points,
        last=last,
        peak=_stores.peak_bytes(),
    )


def stored(channel: Channel, who: str, store: str) -> None:
    """Answers the values of the metric that counts the steps, as far as they can be read."""
    from benchmarks import _stores

    channel.send(values=_stores.steps(who, Path(store)))


# -- kill ----------------------------------------------------------------------------------


def until_killed(channel: Channel, who: str, counter: str, keys: int, pause_s: float) -> None:
    """Log steps without end, and say after each call, in shared memory, how many are done."""
    with open(counter, "r+b") as file:  # noqa: PTH123 - nothing is imported for it
        shared = mmap.mmap(file.fileno(), 8)
    made = rows(keys)
    tracker = make(who)
    log = tracker.start()
    put = struct.Struct("<q").pack_into
    clock = time.perf_counter
    channel.send()
    step = 0
    due = clock()
    while True:
        values = made[step % KEPT]
        values["train/m0"] = float(step)
        log(values)
        step += 1
        put(shared, 0, step)
        if pause_s:
            due += pause_s
            time.sleep(max(0.0, due - clock()))  # meanwhile threads of the tracker may work


# -- integrations --------------------------------------------------------------------------


def train(channel: Channel, who: str, framework: str, repeats: int) -> None:
    """Train with a framework, turn by turn."""
    from benchmarks import _frameworks

    _frameworks.train(channel, who, framework, repeats)


def watched(channel: Channel, who: str, model: str, every: int | None) -> None:
    """Train a network whose gradients are watched, turn by turn."""
    from benchmarks import _frameworks

    _frameworks.watched(channel, who, model, every)
