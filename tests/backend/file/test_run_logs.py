from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from trackway.backend.file.format import (
    Header,
    Keyset,
    encode_event,
    encode_header,
    encode_keyset,
    encode_row,
)
from trackway.backend.file.run_logs import Columns, RunLogs

from .given import HEADER

Point = tuple[object, float, object, int]


def a_log(folder: Path, name: str, *frames: bytes, **changes: Any) -> Path:
    """A log of this writer."""
    folder.mkdir(exist_ok=True)
    header = msgspec.structs.replace(HEADER, writer=name, **changes)
    path = folder / f"{name}.log"
    path.write_bytes(encode_header(header) + b"".join(frames))
    return path


def keyset(number: int, types: str = "f", *names: str, space: str = "metric") -> bytes:
    """The declaration of these names, x by default."""
    return encode_keyset(Keyset(number, names or ("x",), types, space))


def x(step: int, value: float, time: float = 0.0, number: int = 0) -> bytes:
    """A row of one value."""
    return encode_row(number, step, time, [value])


def value(step: object, data: object, time: float = 0.0) -> bytes:
    """Values that no row can hold."""
    return encode_event("value", time, {"step": step, "data": data})


def read(folder: Path) -> RunLogs:
    """The logs of the folder, read."""
    logs = RunLogs(folder)
    assert logs.refresh()
    return logs


def points(columns: Columns) -> list[Point]:
    """The points of columns, each as a tuple of Python values."""
    return list(
        zip(
            columns.steps.tolist(),
            columns.times.tolist(),
            columns.values.tolist(),
            columns.attempts.tolist(),
            strict=True,
        )
    )


# -- columns ---------------------------------------------------------------------------------------


def test_a_metric_comes_as_columns_in_order_of_arrival(tmp_path: Path) -> None:
    """Any steps, repeated ones, a clock that was set back: the order is that of the file."""
    a_log(tmp_path, "a", keyset(0), x(5, 0.5, 10.0), x(3, 0.25, 9.0), x(5, 2.0, 11.0))
    columns = read(tmp_path).columns("x")
    assert points(columns) == [(5, 10.0, 0.5, 1), (3, 9.0, 0.25, 1), (5, 11.0, 2.0, 1)]
    assert (columns.steps.dtype.str, columns.values.dtype.str) == ("<i8", "<f8")
    assert len(columns) == 3
    assert points(columns.take(columns.steps == 5)) == [(5, 10.0, 0.5, 1), (5, 11.0, 2.0, 1)]


def test_a_metric_nobody_logged_is_empty(tmp_path: Path) -> None:
    """Nor is one of another space, or one whose names nobody knows."""
    a_log(tmp_path, "a", keyset(0, "f", "gpu", space="system"), x(0, 1.0), x(0, 2.0, number=7))
    logs = read(tmp_path)
    assert points(logs.columns("x")) == []
    assert points(logs.columns("gpu")) == []
    assert points(logs.columns("gpu", "system")) == [(0, 0.0, 1.0, 1)]
    assert (logs.keys(), logs.keys("system"), logs.points) == ([], ["gpu"], 2)


def test_a_metric_of_several_keysets_is_one(tmp_path: Path) -> None:
    """In the order of the file, whatever it was logged with."""
    a_log(
        tmp_path,
        "a",
        keyset(0, "ff", "x", "y"),
        keyset(1, "ff", "z", "x"),
        encode_row(0, 0, 0.0, [1.0, 10.0]),
        encode_row(1, 1, 0.0, [20.0, 2.0]),
        encode_row(0, 2, 0.0, [3.0, 30.0]),
    )
    logs = read(tmp_path)
    assert points(logs.columns("x")) == [(0, 0.0, 1.0, 1), (1, 0.0, 2.0, 1), (2, 0.0, 3.0, 1)]
    assert logs.columns("y").values.tolist() == [10.0, 30.0]
    assert logs.keys() == ["x", "y", "z"]


def test_a_row_shorter_than_its_names_lacks_the_rest(tmp_path: Path) -> None:
    """What is not there is not made up."""
    a_log(tmp_path, "a", keyset(0, "ff", "x", "y"), x(0, 1.0), encode_row(0, 1, 0.0, [2.0, 3.0]))
    logs = read(tmp_path)
    assert logs.columns("x").values.tolist() == [1.0, 2.0]
    assert points(logs.columns("y")) == [(1, 0.0, 3.0, 1)]


@pytest.mark.parametrize(
    ("letter", "values", "kind"),
    [
        ("i", [1.0, -(2.0**53)], np.int64),
        ("i", [1.0, 0.5], np.float64),
        ("i", [1.0, float("nan")], np.float64),
        ("i", [1.0, float("inf")], np.float64),
        ("i", [1.0, -0.0], np.float64),
        ("i", [1.0, 1e300], np.float64),
        ("b", [1.0, 0.0], np.bool_),
        ("b", [1.0, 2.0], np.float64),
        ("b", [1.0, -0.0], np.float64),
        ("f", [1.0, 2.0], np.float64),
        ("?", [1.0, 2.0], np.float64),
    ],
)
def test_types_are_a_hint_and_values_are_exact(
    tmp_path: Path, letter: str, values: list[float], kind: type
) -> None:
    """Integers and booleans come back as such where all of them are; else as the floats they are.

    The letter was chosen by the first value; a later one of the same keyset may be any float.
    """
    a_log(tmp_path, "a", keyset(0, letter), *(x(0, each) for each in values))
    columns = read(tmp_path).columns("x")
    assert columns.values.dtype == kind
    assert columns.values.astype(np.float64).tobytes() == np.array(values).tobytes()


def test_integers_and_floats_together_are_floats(tmp_path: Path) -> None:
    """An integer of a row is exact as a float."""
    a_log(tmp_path, "a", keyset(0, "i"), keyset(1, "f"), x(0, 1.0), x(1, 0.5, number=1))
    columns = read(tmp_path).columns("x")
    assert (columns.values.tolist(), columns.values.dtype.str) == ([1.0, 0.5], "<f8")


def test_values_of_events_and_of_rows_are_one_metric(tmp_path: Path) -> None:
    """Large integers, text, lists; beside them each row's value as what it was declared."""
    a_log(
        tmp_path,
        "a",
        keyset(0, "i"),
        keyset(1, "b"),
        x(0, 1.0),
        value(1, {"x": 2**63, "y": 0}, 5.0),
        x(2, 1.0, number=1),
        value(3, {"x": "text"}),
        value(4, {"x": [1, [2]]}),
    )
    columns = read(tmp_path).columns("x")
    assert points(columns) == [
        (0, 0.0, 1, 1),
        (1, 5.0, 2**63, 1),
        (2, 0.0, True, 1),
        (3, 0.0, "text", 1),
        (4, 0.0, [1, [2]], 1),
    ]
    assert [type(each) for each in columns.values.tolist()[:3]] == [int, int, bool]
    assert columns.steps.dtype == np.int64


def test_a_step_of_any_size_is_kept(tmp_path: Path) -> None:
    """Steps beyond 64 bits travel in events, and make the column one of objects."""
    from trackway.backend.file.format import big_integer

    a_log(tmp_path, "a", keyset(0), x(0, 1.0), value(big_integer(2**70), {"x": 2.0}))
    columns = read(tmp_path).columns("x")
    assert points(columns) == [(0, 0.0, 1.0, 1), (2**70, 0.0, 2.0, 1)]


HOSTILE = [None, 5, "x", ["x"], {}, {1: 2, "x": 3}, {"x": 1.0, None: 2}]


def test_values_that_are_no_map_are_none(tmp_path: Path) -> None:
    """Whatever a later version may have meant by them, reading goes on."""
    frames = [value(0, data) for data in HOSTILE if not isinstance(data, Mapping) or 1 not in data]
    frames.append(encode_event("value", 0.0, {}))
    frames.append(encode_event("value", 0.0, {"step": 1, "data": {1: 2, "x": 3}}))
    a_log(tmp_path, "a", *frames, value(7, {"x": 1.5}))
    logs = read(tmp_path)
    assert logs.keys() == ["x"]
    assert points(logs.columns("x")) == [(7, 0.0, 1.5, 1)]


# -- several writers -------------------------------------------------------------------------------


def test_writers_are_merged_by_time_and_keep_their_own_order(tmp_path: Path) -> None:
    """A clock that was set back within a writer does not put its later record first."""
    a_log(tmp_path, "a", keyset(0), x(0, 0.0, 10.0), x(1, 1.0, 5.0), x(2, 2.0, 20.0), created=1.0)
    a_log(tmp_path, "b", keyset(0), x(3, 3.0, 7.0), x(4, 4.0, 15.0), created=2.0)
    assert read(tmp_path).columns("x").steps.tolist() == [3, 0, 1, 4, 2]


def test_a_later_attempt_comes_later_whatever_its_clock_says(tmp_path: Path) -> None:
    """Order of arrival is by attempt first."""
    a_log(tmp_path, "a", keyset(0), x(0, 1.0, 100.0), attempt=2, created=1.0)
    a_log(tmp_path, "b", keyset(0), x(1, 2.0, 200.0), attempt=1, created=2.0)
    columns = read(tmp_path).columns("x")
    assert points(columns) == [(1, 200.0, 2.0, 1), (0, 100.0, 1.0, 2)]


def test_the_same_id_in_two_logs_is_two_keysets(tmp_path: Path) -> None:
    """An id has a meaning within its log."""
    a_log(tmp_path, "a", keyset(0, "f", "x"), x(0, 1.0))
    a_log(tmp_path, "b", keyset(0, "f", "y"), x(0, 2.0))
    logs = read(tmp_path)
    assert logs.columns("x").values.tolist() == [1.0]
    assert logs.columns("y").values.tolist() == [2.0]


def test_writers_are_listed_by_when_they_began(tmp_path: Path) -> None:
    """One whose header is damaged comes first, as attempt 1."""
    a_log(tmp_path, "z", created=1.0, attempt=4)
    a_log(tmp_path, "a", created=2.0)
    broken = a_log(tmp_path, "m", keyset(0), x(0, 1.0), attempt=9)
    data = bytearray(broken.read_bytes())
    data[20] ^= 1
    broken.write_bytes(data)
    logs = read(tmp_path)
    assert [w.reader.path.stem for w in logs.writers] == ["m", "z", "a"]
    assert [w.attempt for w in logs.writers] == [1, 4, 1]
    assert logs.writers[0].header is None
    assert points(logs.columns("x")) == [(0, 0.0, 1.0, 1)]


def test_events_are_ordered_by_time_then_writer_then_place(tmp_path: Path) -> None:
    """All of them, or those of some types."""
    one, two = encode_event("one", 5.0, {}), encode_event("two", 5.0, {})
    a_log(tmp_path, "a", two, encode_event("late", 9.0, {}), one, created=2.0)
    a_log(tmp_path, "b", encode_event("early", 1.0, {}), one, created=1.0)
    logs = read(tmp_path)
    told = [(written.reader.path.stem, event.type) for written, event in logs.events()]
    assert told == [("b", "early"), ("b", "one"), ("a", "two"), ("a", "one"), ("a", "late")]
    assert [event.type for _, event in logs.events(["late", "two"])] == ["two", "late"]


# -- refreshing ------------------------------------------------------------------------------------


def test_refresh_reads_what_is_new(tmp_path: Path) -> None:
    """And says whether there was anything: rows, a log that came, a log that went."""
    path = a_log(tmp_path, "a", keyset(0), x(0, 1.0))
    logs = read(tmp_path)
    assert not logs.refresh()
    with path.open("ab") as file:
        file.write(x(1, 2.0) + x(2, 3.0)[:-1])
    assert logs.refresh()
    assert logs.columns("x").values.tolist() == [1.0, 2.0]
    assert not logs.refresh()
    with path.open("ab") as file:
        file.write(x(2, 3.0)[-1:])
    assert logs.refresh()
    assert logs.columns("x").values.tolist() == [1.0, 2.0, 3.0]
    assert logs.points == 3
    other = a_log(tmp_path, "b", keyset(0), x(9, 9.0))
    assert logs.refresh()
    assert logs.columns("x").values.tolist() == [1.0, 2.0, 3.0, 9.0]
    other.unlink()
    assert logs.refresh()
    assert logs.columns("x").values.tolist() == [1.0, 2.0, 3.0]
    shutil.rmtree(tmp_path)
    assert logs.refresh()
    assert (logs.writers, logs.keys(), logs.points) == ([], [], 0)
    assert not logs.refresh()


def test_a_log_that_was_replaced_is_forgotten_first(tmp_path: Path) -> None:
    """What it held before is gone, its events and its damage, too."""
    path = a_log(tmp_path, "a", keyset(0), b"junk", x(0, 1.0), encode_event("end", 0.0, {}))
    logs = read(tmp_path)
    (written,) = logs.writers
    assert (len(written.damage), written.frames, written.points) == (1, 4, 1)
    path.write_bytes(encode_header(Header("r", "p", "w", "other")))
    assert logs.refresh()
    (written,) = logs.writers
    assert (written.damage, written.frames, written.points, written.unknown) == ([], 1, 0, 0)
    assert (written.events, logs.keys()) == ([], [])
    path.write_bytes(b"")
    assert logs.refresh()
    assert logs.writers[0].frames == 0


def test_a_log_that_goes_while_it_is_looked_at_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the listing of the folder and the reading."""
    from trackway.backend.file import run_logs

    path = a_log(tmp_path, "a", keyset(0), x(0, 1.0))
    logs = read(tmp_path)
    monkeypatch.setattr(run_logs, "logs", lambda folder: [path])
    path.unlink()
    assert logs.refresh()
    assert logs.writers == []
