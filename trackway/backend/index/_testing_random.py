"""What the contract suite is made of: states to compare, contents to fill in, random histories."""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import Any, Final, TypeVar

from trackway.backend.index.contract import (
    Chunk,
    EventRow,
    Head,
    IndexStore,
    LogLine,
    Reading,
    RunRef,
    Writing,
)

__all__ = [
    "NAN",
    "Undone",
    "a_chunk",
    "a_head",
    "changes",
    "exact",
    "fill",
    "fill_more",
    "given",
    "in_thread",
    "play",
    "revision_now",
    "view",
    "view_now",
    "view_of_nothing",
]

_T = TypeVar("_T")

NAN: Final = float("nan")
BLOBS: Final = ("b", "c", "d\0", "e\n")
SPACES: Final = ("metric", "system")
AXES: Final = 3000
"""No test that looks at all axes makes more."""


class Undone(Exception):
    """Raised inside a block that is to change nothing."""


# -- looking ---------------------------------------------------------------------------------------


def exact(head: Head) -> tuple[Any, ...]:
    """A head in a form in which equal means equal to the bit."""
    reals = (head.min, head.max, head.sum, head.first, head.last, head.low_time, head.high_time)
    whole = (head.n, head.nan, head.inf, head.low, head.high, head.min_step, head.max_step)
    return (struct.pack("<7d", *reals), whole, head.rises, head.types)


def view(reading: Reading) -> dict[str, Any]:
    """Everything that can be read, in a form that can be compared."""
    runs = list(reading.runs())
    keys = reading.keys()
    chunks = reading.chunks(runs, [key.key for key in keys], cells=True)
    return {
        "runs": reading.runs(),
        "folders": reading.folders(),
        "logs": reading.logs(),
        "states": reading.states([line.log for line in reading.logs()]),
        "keys": keys,
        "spaces": [reading.keys(space) for space in SPACES if reading.keys(space)],
        "keys_of": [reading.keys_of(runs, space) for space in SPACES if chunks],
        "chunks": [(*chunk[:6], exact(chunk.head), *chunk[7:]) for chunk in chunks],
        "axes": reading.axes(range(AXES)),
        "events": reading.events(runs),
        "documents": [(document.run, document.data) for document in reading.documents()],
        "blobs": reading.blobs(BLOBS),
    }


def view_of_nothing() -> dict[str, Any]:
    """What ``view`` says of an empty store."""
    maps, lists = (
        ("runs", "folders", "states", "axes", "blobs"),
        (*("logs", "keys", "spaces", "keys_of", "chunks", "events", "documents"),),
    )
    return {**{name: {} for name in maps}, **{name: [] for name in lists}}


def view_now(store: IndexStore) -> dict[str, Any]:
    """The whole state committed last."""
    with store.read() as reading:
        return view(reading)


def revision_now(store: IndexStore) -> int:
    """The revision committed last."""
    with store.read() as reading:
        return reading.revision()


def in_thread(work: Callable[[], _T]) -> _T:
    """Do it in a thread of its own, which is over on return."""
    answers: list[_T] = []
    thread = threading.Thread(target=lambda: answers.append(work()))
    thread.start()
    thread.join()
    return answers[0]


# -- filling ---------------------------------------------------------------------------------------


def a_head(n: int = 1, *, value: float = 0.5, low: int = 0, types: str = "f") -> Head:
    """A head of ``n`` equal points."""
    return Head(
        *(n, 0, 0, value, value, n * value, value, value, low, low + n - 1),
        *(1e9, 1e9 + n, low, low, True, types),
    )


def a_chunk(run: int, log: int, key: int, seq: int, **other: Any) -> Chunk:
    """A chunk whose number the store has to give."""
    data = f"{run}/{log}/{key}/{seq}".encode()
    return Chunk(0, run, log, key, seq, 1, a_head(), data)._replace(**other)


def given(
    writing: Writing, run: str = "r", log: str = "a.log", keys: tuple[str, ...] = ("k",)
) -> tuple[int, int, list[int]]:
    """A run, a log of it, and keys."""
    number = writing.add_run(RunRef("p", run))
    return number, writing.add_log(number, log), writing.key_numbers([("metric", k) for k in keys])


def fill(store: IndexStore, name: str = "r") -> None:
    """Put something of everything into a run of that name, in one transaction."""
    with store.write() as writing:
        run, log, keys = given(writing, name, keys=("k", name))
        writing.put_folder(run, 123)
        for at in (log, writing.add_log(run, "b.log")):
            axis = writing.add_axis(at, b"steps", b"times")
            chunks = [a_chunk(run, at, key, 0, axis=axis) for key in keys]
            writing.add_chunks([*chunks, chunks[0]._replace(seq=1, cells=b"cells")])
            writing.put_state(at, b"state")
            writing.put_logs([LogLine(at, run, "", 1, 20, 3, 10)])
            writing.add_events([EventRow(at, 0, 10, "config", 1.5, b"{}")])
        writing.put_document(run, name.encode())


def fill_more(writing: Writing) -> None:
    """One change of every kind, to what ``fill`` made."""
    for change in changes():
        change(writing)


def changes() -> list[Callable[[Writing], object]]:
    """One change of each kind; to be made in this order."""
    return [
        lambda w: w.add_run(RunRef("p", "more")),
        lambda w: w.put_folder(1, 77),
        lambda w: w.add_log(1, "more.log"),
        lambda w: w.put_logs([LogLine(1, 1, "", 9, 8, 7, 6)]),
        lambda w: w.put_state(1, b"more"),
        lambda w: w.key_numbers([("system", "more")]),
        lambda w: [w.add_axis(1, b"more", b"") for _ in range(2)],
        lambda w: w.add_chunks([a_chunk(1, 1, 1, 99)]),
        lambda w: w.add_events([EventRow(1, 99, 1, "more", 0.0, None)]),
        lambda w: w.put_document(1, b"more"),
        lambda w: w.put_blobs({"b": b"more"}),
        lambda w: w.sweep_axes(1),
        lambda w: w.remove_chunks([w.log_chunks(1)[0].chunk]),
        lambda w: w.put_blobs({"b": None}),
        lambda w: w.clear_log(1),
        lambda w: w.remove_log(1),
        lambda w: w.remove_run(1),
    ]


# -- random histories ------------------------------------------------------------------------------


def play(random: Random, store: IndexStore, reference: IndexStore, rounds: int) -> None:
    """Do the same to two empty stores, and compare them after each transaction."""
    for n in range(rounds):
        steps = [_step(random) for _ in range(random.randrange(1, 8))]
        undone = random.random() < 0.15
        for place in (store, reference):
            with suppress(Undone), place.write() as writing:
                for seed, step in steps:
                    step(Random(seed), writing)
                if undone:
                    raise Undone
        assert view_now(store) == view_now(reference), f"they differ after transaction {n}"
        _compare_questions(random.randrange(2**32), store, reference)


def _compare_questions(seed: int, store: IndexStore, reference: IndexStore) -> None:
    answers = []
    for place in (store, reference):
        random = Random(seed)
        with place.read() as reading:
            some, few = random.choices(range(9), k=5), random.choices(range(60), k=20)
            space = random.choice(SPACES)
            answers.append(
                (
                    [c[:6] for c in reading.chunks(some, few, data=False)],
                    [c[:6] for c in reading.log_chunks(some[0], few)],
                    [c[:6] for c in reading.log_chunks(some[0])],
                    reading.keys_of(some, space),
                    reading.events(some, ["a", "b"]),
                    reading.logs(some),
                    reading.chunk_data(few),
                    [document.run for document in reading.documents(some)],
                )
            )
    assert answers[0] == answers[1]


def _step(random: Random) -> tuple[int, Callable[[Random, Writing], None]]:
    weights = (8, 5, 1, 2, 3, 2, 2, 2, 1)
    return random.randrange(2**32), random.choices(_STEPS, weights)[0]


def _log(random: Random, writing: Writing) -> LogLine:
    lines = writing.logs()
    if lines and random.random() < 0.8:
        return random.choice(lines)
    run = writing.add_run(RunRef("p", random.choice("abcdef")))
    log = writing.add_log(run, random.choice(("x", "y", "z")))
    return next(line for line in writing.logs([run]) if line.log == log)


def _add(random: Random, writing: Writing) -> None:
    line = _log(random, writing)
    axis = writing.add_axis(line.log, random.randbytes(3), b"")
    names = [(random.choice(SPACES), random.choice("klmn")) for _ in range(4)]
    keys = sorted(set(writing.key_numbers(names)))
    seq = 1 + max((chunk.seq for chunk in writing.log_chunks(line.log)), default=0)
    head = a_head(3, value=random.choice((NAN, 0.5, -0.0)), low=random.choice((0, 2**70)))
    writing.add_chunks(
        a_chunk(
            line.run, line.log, key, seq, axis=axis, head=head, cells=random.choice((b"", None))
        )
        for key in keys
    )


def _merge(random: Random, writing: Writing) -> None:
    chunks = writing.log_chunks(_log(random, writing).log)
    gone = random.sample(chunks, len(chunks) // 2)
    writing.remove_chunks([chunk.chunk for chunk in gone] + [10**6])
    writing.add_chunks(chunk._replace(data=b"merged") for chunk in gone[:1])


def _remove_run(random: Random, writing: Writing) -> None:
    writing.remove_run(random.choice([*sorted(writing.runs()), 99]))


def _remove_log(random: Random, writing: Writing) -> None:
    (writing.remove_log, writing.clear_log)[random.randrange(2)](_log(random, writing).log)


def _put_log(random: Random, writing: Writing) -> None:
    line = _log(random, writing)
    writing.put_logs([line._replace(size=random.randrange(9), mtime_ns=5, offset=3)])
    writing.put_state(line.log, random.randbytes(2))
    writing.put_folder(line.run, random.randrange(9))


def _events(random: Random, writing: Writing) -> None:
    log = _log(random, writing).log
    writing.add_events(
        EventRow(log, random.randrange(5), 1, random.choice("abc"), 1.0, None) for _ in range(3)
    )


def _document(random: Random, writing: Writing) -> None:
    writing.put_document(_log(random, writing).run, random.randbytes(2))


def _blobs(random: Random, writing: Writing) -> None:
    writing.put_blobs({name: random.choice((b"x", b"", None)) for name in BLOBS})


def _sweep(random: Random, writing: Writing) -> None:
    writing.sweep_axes(_log(random, writing).log)


_STEPS: Final = (
    *(_add, _merge, _remove_run, _remove_log, _put_log),
    *(_events, _document, _blobs, _sweep),
)
