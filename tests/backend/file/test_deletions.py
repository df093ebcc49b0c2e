"""Which points count as deleted, against an obvious reference on random logs."""

from __future__ import annotations

import struct
import tempfile
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trackway.backend.file.deletions import Deletions, escaped
from trackway.backend.file.format import (
    Event,
    Header,
    Keyset,
    encode_event,
    encode_header,
    encode_keyset,
    encode_row,
)
from trackway.backend.file.run_logs import Columns, RunLogs

NAMES = ("loss", "val/loss", "val/acc", "a*")
LETTERS = {"loss": "f", "val/loss": "f", "val/acc": "i", "a*": "f"}

Answer = list[tuple[str, list[tuple[int, str, str, int]]]]
"""Each metric with its points: step, time and value (with its type) exactly, attempt."""


def bits(value: object) -> str:
    """A value with its type, so that only the same one is equal to it."""
    if isinstance(value, float):
        return f"float {struct.pack('<d', value).hex()}"
    return f"{type(value).__name__} {value!r}"


def told(columns: Columns) -> list[tuple[int, str, str, int]]:
    """The points of columns in a form that compares exactly."""
    return [
        (step, bits(time), bits(value), attempt)
        for step, time, value, attempt in zip(
            columns.steps.tolist(),
            columns.times.tolist(),
            columns.values.tolist(),
            columns.attempts.tolist(),
            strict=True,
        )
    ]


def answers(folder: Path) -> Answer:
    """What the logs in a folder say of all their metrics."""
    logs = RunLogs(folder)
    logs.refresh()
    keys = logs.keys()
    assert [logs.arrivals(key) for key in keys] == [len(logs.columns(key)) for key in keys]
    return [(key, told(logs.columns(key))) for key in keys]


@dataclass
class Point:
    """A point as it was logged."""

    log: int
    place: int
    key: str
    letter: str
    step: int
    time: float
    value: Any
    deleted: bool = False


@dataclass
class Model:
    """A run that is written by hand, and the slow and obvious answer to what it holds.

    Logs 0 and 1 are of the first attempt, log 2 is of the second.
    """

    folder: Path
    points: list[Point] = field(default_factory=list)
    deletes: list[dict[str, Any]] = field(default_factory=list)
    places: int = 0

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        self.keysets: list[dict[tuple[str, ...], int]] = [{}, {}, {}]
        for number in range(3):
            self._append(
                number,
                encode_header(
                    Header(
                        "run",
                        "project",
                        self.path(number).stem,
                        f"{number}" * 32,
                        host="elsewhere",
                        attempt=1 + number // 2,
                        created=float(number),
                    )
                ),
            )

    def path(self, number: int) -> Path:
        """The file of a log."""
        return self.folder / f"log-{number}.log"

    def _append(self, number: int, data: bytes) -> None:
        with self.path(number).open("ab") as file:
            file.write(data)

    def row(self, log: int, step: int, time: float, values: dict[str, float]) -> None:
        """Log a row."""
        names = tuple(values)
        ids = self.keysets[log]
        if names not in ids:
            ids[names] = len(ids)
            letters = "".join(LETTERS[name] for name in names)
            self._append(log, encode_keyset(Keyset(ids[names], names, letters)) * 2)
        self._append(log, encode_row(ids[names], step, time, list(values.values())))
        self._point(log, step, time, {name: (LETTERS[name], values[name]) for name in names})

    def value(self, log: int, step: int, time: float, data: dict[str, Any]) -> None:
        """Log values that no row can hold."""
        self._append(log, encode_event("value", time, {"step": step, "data": data}))
        self._point(log, step, time, {name: ("o", value) for name, value in data.items()})

    def _point(self, log: int, step: int, time: float, values: dict[str, tuple[str, Any]]) -> None:
        self.places += 1
        for name, (letter, value) in values.items():
            self.points.append(Point(log, self.places, name, letter, step, time, value))

    def delete(self, keys: list[str] | None, start: int | None, stop: int | None) -> None:
        """Hide what is there; written down by ``finish``."""
        upto = {self.path(n).stem: [f"{n}" * 32, self.path(n).stat().st_size] for n in range(3)}
        self.deletes.append({"keys": keys, "from": start, "to": stop, "upto": upto})
        for point in self.points:
            named = keys is None or any(
                fnmatchcase(point.key, key) if "\\" not in key else escaped(point.key) == key
                for key in keys
            )
            above = start is None or point.step >= start
            point.deleted |= named and above and (stop is None or point.step <= stop)

    def finish(self) -> None:
        """End the logs, and write the deletions into an editor's."""
        for number in range(3):
            self._append(number, encode_event("end", 99.0, {"state": "finished"}))
        header = Header("run", "project", "editor", "e" * 32, role="editor", created=50.0)
        frames = [encode_event("delete", 60.0, fields) for fields in self.deletes]
        (self.folder / "editor.log").write_bytes(encode_header(header) + b"".join(frames))

    def note(self, fields: dict[str, Any]) -> None:
        """Write down a deletion that was made elsewhere."""
        name = f"editor-{len(list(self.folder.iterdir()))}"
        header = Header("run", "project", name, "e" * 32, role="editor", created=50.0)
        frames = encode_header(header) + encode_event("delete", 60.0, fields)
        (self.folder / f"{name}.log").write_bytes(frames)

    def answers(self) -> Answer:
        """The answer, worked out one point after the other."""
        found: Answer = []
        for key in sorted({point.key for point in self.points}):
            mine = [p for p in self.points if p.key == key and not p.deleted]
            latest: dict[int, float] = {}
            order = []
            for point in mine:  # in the order of their places
                latest[point.log] = max(latest.get(point.log, point.time), point.time)
                order.append((1 + point.log // 2, latest[point.log], point.log, point.place, point))
            order.sort(key=lambda entry: entry[:4])
            kept = [point for *_, point in order]
            if kept:
                shown = _typed(kept)
                found.append(
                    (
                        key,
                        [
                            (p.step, bits(p.time), bits(value), 1 + p.log // 2)
                            for p, value in zip(kept, shown, strict=True)
                        ],
                    )
                )
        return found


def _typed(points: list[Point]) -> list[Any]:
    """Values as a column shows them: integers where all that were declared so are."""
    letters = {point.letter for point in points}
    integers = [point.value for point in points if point.letter == "i"]
    whole = all(
        value.is_integer() and -(2.0**63) <= value < 2.0**63 and bits(value) != bits(-0.0)
        for value in integers
    )
    if letters == {"i"} or "o" in letters:
        return [int(p.value) if p.letter == "i" and whole else p.value for p in points]
    return [float(point.value) for point in points]


STEPS = st.integers(-3, 8)
TIMES = st.sampled_from([0.0, 1.0, 2.0, 3.0, 2.5])
FLOATS = st.one_of(st.sampled_from([1.0, 2.0, 2.5, -0.0, float("nan")]), st.floats(width=64))
PATTERNS = st.sampled_from(["loss", "val/*", "*loss", "*", "val/acc", "a\\*", "none", "*a*"])


@st.composite
def actions(draw: st.DrawFn) -> list[tuple[Any, ...]]:
    """What happens to a run, in order."""
    kinds = {
        "row": st.tuples(
            st.just("row"),
            st.integers(0, 2),
            STEPS,
            TIMES,
            st.dictionaries(st.sampled_from(NAMES), FLOATS, min_size=1, max_size=4),
        ),
        "value": st.tuples(
            st.just("value"),
            st.integers(0, 2),
            STEPS,
            TIMES,
            st.dictionaries(
                st.sampled_from(NAMES), st.sampled_from([1 << 60, "text", [1, 2]]), max_size=3
            ),
        ),
        "delete": st.tuples(
            st.just("delete"),
            st.none() | st.lists(PATTERNS, max_size=2),
            st.none() | STEPS,
            st.none() | STEPS,
        ),
    }
    chosen = st.one_of(kinds["row"], kinds["row"], kinds["value"], kinds["delete"])
    return draw(st.lists(chosen, min_size=1, max_size=25))


def played(folder: Path, steps: list[tuple[Any, ...]]) -> Model:
    """The run to which all this happened."""
    model = Model(folder)
    for kind, *arguments in steps:
        getattr(model, kind)(*arguments)
    model.finish()
    return model


@settings(deadline=None, max_examples=120)
@given(steps=actions())
def test_what_is_deleted_counts_as_never_logged(steps: list[tuple[Any, ...]]) -> None:
    """Whatever is logged and deleted in whatever order: the slow reference says the same."""
    with tempfile.TemporaryDirectory() as place:
        model = played(Path(place) / "run", steps)
        assert answers(model.folder) == model.answers()


# -- one deletion ----------------------------------------------------------------------------------


def delete(
    keys: object = None, start: object = None, stop: object = None, upto: object = None
) -> Event:
    """A deletion of what log w of generation g held before byte 100."""
    where = {"w": ["g", 100]} if upto is None else upto
    return Event("delete", 1.0, {"keys": keys, "from": start, "to": stop, "upto": where})


def kept(deletions: Deletions, key: str = "loss", steps: Any = (1, 2, 3)) -> list[int] | None:
    """Which of these steps stay; their points are at 98, 99 and 100."""
    steps = np.asarray(steps)
    mask = deletions.keep("w", "g", key, np.array([98, 99, 100]), steps)
    return None if mask is None else steps[mask].tolist()


@pytest.mark.parametrize(
    ("event", "stays"),
    [
        (delete(), [3]),
        (delete(["loss"]), [3]),
        (delete(["los*"]), [3]),
        (delete(["*"]), [3]),
        (delete(["acc"]), None),
        (delete([]), None),
        (delete(None, 2), [1, 3]),
        (delete(None, None, 1), [2, 3]),
        (delete(None, 1, 1), [2, 3]),
        (delete(None, 3), None),
        (delete(None, 1 << 70), None),
        (delete(None, None, -(1 << 70)), None),
        (delete(None, -(1 << 70), 1 << 70), [3]),
        (delete(None, None, None, {"w": ["other", 100]}), None),
        (delete(None, None, None, {"other": ["g", 100]}), None),
        (delete(None, None, None, {"w": ["g", 99]}), [2, 3]),
        (delete(None, None, None, {"w": ["g", 1 << 70]}), []),
    ],
)
def test_a_deletion_hides_what_it_names_and_what_was_there(
    event: Event, stays: list[int] | None
) -> None:
    """Of the metric, within both steps, before the place that the log had reached."""
    assert kept(Deletions.of([event])) == stays


@pytest.mark.parametrize(
    "event",
    [
        delete("loss"),
        delete([1]),
        delete(None, "1"),
        delete(None, True),
        delete(None, None, 1.5),
        delete(None, None, None, ["w"]),
        delete(None, None, None, {"w": "g"}),
        delete(None, None, None, {"w": ["g"]}),
        delete(None, None, None, {"w": [1, 100]}),
        delete(None, None, None, {1: ["g", 100]}),
        Event("delete", 1.0, {}),
        Event("run", 1.0, delete().fields),
    ],
)
def test_what_is_no_deletion_hides_nothing(event: Event) -> None:
    """A later version may say more than we understand; half of it is not applied."""
    deletions = Deletions.of([event])
    assert not deletions
    assert kept(deletions) is None


def test_steps_beyond_64_bits_are_compared_exactly() -> None:
    """They come as objects."""
    steps = np.array([1 << 70, 1, -(1 << 70)], object)
    assert kept(Deletions.of([delete(None, 2)]), steps=steps) == [1, -(1 << 70)]
    assert kept(Deletions.of([delete(None, 1 << 69)]), steps=steps) == [1, -(1 << 70)]


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("a*", "abc", True),
        ("a\\*", "a*", True),
        ("a\\*", "abc", False),
        ("a\\\\*", "a\\bc", True),
        ("a\\b", "a\\b", True),
        ("a[b]?", "a[b]?", True),
        ("a[b]?", "ab1", False),
        ("*a*a*", "aa", True),
        ("a*a", "a", False),
        ("*", "", True),
        ("a*b*c", "a\nb\nc", True),
        ("**x", "x", True),
        ("a*b*b", "ab", False),
    ],
)
def test_only_stars_are_patterns(pattern: str, name: str, fits: bool) -> None:
    """Everything else stands for itself, and a star can be made to."""
    assert Deletions.of([delete([pattern])]).names(name) is fits


@settings(deadline=None)
@given(st.text("a*\\b", max_size=6), st.text("a*\\b", max_size=6))
def test_an_escaped_name_means_itself_alone(name: str, other: str) -> None:
    """Whatever stars and backslashes are in it."""
    deletions = Deletions.of([delete([escaped(name)])])
    assert deletions.names(name)
    assert deletions.names(other) is (name == other)


def test_fingerprints_are_equal_for_the_same_deletions_alone() -> None:
    """In any order, and said twice."""
    one, two = delete(["a", "b"], 1), delete(None, None, 5)
    same = {
        Deletions.of(events).fingerprint
        for events in ([one, two], [two, one], [one, two, one], [delete(["b", "a"], 1), two])
    }
    assert len(same) == 1
    others = [[], [one], [two], [one, delete(None, None, 6)], [one, delete(None, 5)]]
    assert len(same | {Deletions.of(events).fingerprint for events in others}) == 6
    assert all(len(fingerprint) == 16 for fingerprint in same)


def test_a_deletion_follows_a_log_that_was_compacted() -> None:
    """What reached to the end of the old file reaches to the same record of the new one."""
    compacted = Event(
        "compacted", 2.0, {"writer": "w", "generation": "g", "former": [["old", 500, 100]]}
    )
    for offset, stays in ((500, [3]), (900, [3]), (499, None)):
        event = delete(None, None, None, {"w": ["old", offset]})
        assert kept(Deletions.of([event, compacted])) == stays
        assert kept(Deletions.of([compacted, event])) == stays
    stranger = delete(None, None, None, {"v": ["old", 500]})
    assert kept(Deletions.of([stranger, compacted])) is None


# -- in a run --------------------------------------------------------------------------------------


def test_a_key_that_is_logged_again_shows_only_what_is_new(tmp_path: Path) -> None:
    """In the same log, also at the same steps."""
    model = Model(tmp_path / "run")
    model.row(0, 0, 0.0, {"loss": 1.0, "val/acc": 1.0})
    model.row(0, 1, 1.0, {"loss": 2.0})
    model.delete(["loss"], None, None)
    model.row(0, 1, 2.0, {"loss": 3.0})
    model.finish()
    logs = RunLogs(model.folder)
    logs.refresh()
    assert told(logs.columns("loss")) == [(1, bits(2.0), bits(3.0), 1)]
    assert (logs.keys(), logs.arrivals("loss"), logs.points) == (["loss", "val/acc"], 1, 2)


def test_a_key_without_a_point_is_gone(tmp_path: Path) -> None:
    """From the names, too; what the machine measured under that name is not."""
    model = Model(tmp_path / "run")
    model.row(0, 0, 0.0, {"loss": 1.0})
    model.value(0, 1, 0.0, {"loss": "text"})
    system = encode_keyset(Keyset(9, ("loss",), "f", "system")) + encode_row(9, 0, 0.0, [7.0])
    model._append(0, system)
    model.delete(None, None, None)
    model.finish()
    logs = RunLogs(model.folder)
    logs.refresh()
    assert (logs.keys(), len(logs.columns("loss")), logs.points) == ([], 0, 1)
    assert (logs.keys("system"), logs.columns("loss", "system").values.tolist()) == (["loss"], [7])


def test_deletions_are_learnt_by_refreshing(tmp_path: Path) -> None:
    """And forgotten with the log that told of them."""
    model = Model(tmp_path / "run")
    model.row(0, 0, 0.0, {"loss": 1.0})
    logs = RunLogs(model.folder)
    logs.refresh()
    assert logs.keys() == ["loss"]
    model.delete(["loss"], None, None)
    model.finish()
    assert logs.refresh()
    assert logs.keys() == []
    (model.folder / "editor.log").unlink()
    assert logs.refresh()
    assert logs.keys() == ["loss"]


def test_a_log_whose_header_is_damaged_can_lose_points_too(tmp_path: Path) -> None:
    """Its generation counts as empty."""
    model = Model(tmp_path / "run")
    model.row(0, 0, 0.0, {"loss": 1.0})
    data = bytearray(model.path(0).read_bytes())
    data[20] ^= 1
    model.path(0).write_bytes(data)
    model.delete(None, None, None)
    model.deletes[0]["upto"]["log-0"][0] = ""
    model.finish()
    logs = RunLogs(model.folder)
    logs.refresh()
    assert logs.keys() == []


def test_values_beside_objects_do_not_depend_on_how_they_were_cut(tmp_path: Path) -> None:
    """Read at once or bit by bit: one value that is no integer makes all of them floats."""
    model = Model(tmp_path / "run")
    logs = RunLogs(model.folder)
    for step, value in enumerate([1.0, 2.5]):
        model.row(0, step, 0.0, {"val/acc": value})
        logs.refresh()
    model.value(0, 2, 0.0, {"val/acc": "text"})
    logs.refresh()
    whole = RunLogs(model.folder)
    whole.refresh()
    expected = [(0, bits(0.0), bits(1.0), 1), (1, bits(0.0), bits(2.5), 1)]
    assert told(logs.columns("val/acc")) == told(whole.columns("val/acc"))
    assert told(logs.columns("val/acc"))[:2] == expected


def test_a_deletion_costs_nothing_where_it_does_not_apply() -> None:
    """No mask is made for a log or a metric that it does not name."""
    deletions = Deletions.of([delete(["loss"])])
    assert not deletions.concerns("w", "other")
    assert deletions.concerns("w", "g")
    assert kept(deletions, "acc") is None


def test_deletions_survive_the_format(tmp_path: Path) -> None:
    """What is written as an event comes back as the same deletion."""
    event = delete(["a", "b*"], -5, 1 << 40)
    stored = msgspec.msgpack.decode(msgspec.msgpack.encode(dict(event.fields)))
    back = Deletions.of([Event("delete", 9.0, stored)])
    assert back.fingerprint == Deletions.of([event]).fingerprint
