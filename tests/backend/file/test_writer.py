from __future__ import annotations

import math
import os
import socket
import struct
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from trackway.backend.file.format import HEADER, KEYSET, MAX_PAYLOAD, ROW, big_integer
from trackway.backend.file.process import process_started
from trackway.backend.file.reader import LogReader
from trackway.backend.file.writer import LogWriter, split_names

from .given import NOW, Disk, bits, event, kind_at, row, spans, told, write_rows, writer_at


def kinds(path: Path) -> list[int]:
    """The kind of each frame."""
    data = path.read_bytes()
    return [kind_at(data, start) for start, _ in spans(data)]


# -- one write a record ----------------------------------------------------------------------------


def test_a_record_is_one_write_and_in_the_file_at_once(tmp_path: Path) -> None:
    """Header, declaration, row, event: each whole when the call returns."""
    path = tmp_path / "w.log"
    disk = Disk()
    writer = writer_at(path, disk)
    assert kinds(path) == [HEADER]
    assert writer.row({"x": 1.0}, 7, time=NOW)
    assert kinds(path) == [HEADER, KEYSET, KEYSET, ROW]
    assert writer.row({"x": 2.0}, 7, time=NOW)
    assert writer.event("end", {"state": "finished"}, NOW)
    assert told(path).records == [
        row(["x"], 7, [1.0]),
        row(["x"], 7, [2.0]),
        event("end", {"state": "finished"}),
    ]
    sizes = [stop - start for start, stop in spans(path.read_bytes())]
    assert disk.writes == [sizes[0], sizes[1] + sizes[2], *sizes[3:]]
    writer.close()


def test_times_are_the_clocks_where_none_is_given(tmp_path: Path) -> None:
    """Rows and events carry when they were recorded."""
    path = tmp_path / "w.log"
    disk = Disk()
    writer = writer_at(path, disk)
    disk.clock = 12.5
    writer.row({"x": 1.0}, 0)
    disk.clock = 13.5
    writer.event("end", {})
    assert told(path).records == [row(["x"], 0, [1.0], 12.5), event("end", {}, 13.5)]
    writer.close()


def test_values_are_exact(tmp_path: Path) -> None:
    """NaN, infinities, signed zero, denormals, the largest exact integers, booleans."""
    path = tmp_path / "w.log"
    values = [math.nan, math.inf, -math.inf, -0.0, 5e-324, 2**53, -(2**53), True, 0.1]
    writer = writer_at(path)
    writer.row({str(n): value for n, value in enumerate(values)}, 0, time=NOW)
    writer.close()
    (found,) = told(path).records
    assert found[4] == tuple(map(bits, values))
    odd = struct.unpack("<d", bytes.fromhex("efbeadde0000f8ff"))[0]
    assert bits(odd) == "efbeadde0000f8ff"


@pytest.mark.parametrize("step", [0, -1, 2**63 - 1, -(2**63)])
def test_any_step_of_64_bits_is_recorded(tmp_path: Path, step: int) -> None:
    """In any order, any number of times."""
    path = tmp_path / "w.log"
    writer = writer_at(path)
    for each in (step, 5, step):
        writer.row({"x": 1.0}, each, time=NOW)
    writer.close()
    assert [record[2] for record in told(path).records] == [step, 5, step]


def test_what_is_no_row_is_refused_before_it_is_written(tmp_path: Path) -> None:
    """A step beyond 64 bits, a value that is no number: struct.error, and the log goes on."""
    path = tmp_path / "w.log"
    writer = writer_at(path)
    for values, step in (({"x": 1.0}, 2**63), ({"x": "text"}, 0)):
        with pytest.raises(struct.error):
            writer.row(values, step)  # type: ignore[arg-type]
    made = write_rows(writer, ["x"], [1])
    writer.close()
    assert told(path).records == made


def test_a_name_that_cannot_be_encoded_declares_nothing(tmp_path: Path) -> None:
    """The second attempt fails like the first: no row is written under names nobody knows."""
    path = tmp_path / "w.log"
    writer = writer_at(path)
    for _ in range(2):
        with pytest.raises(UnicodeEncodeError):
            writer.row({"\ud800": 1.0}, 0)
    writer.close()
    assert kinds(path) == [HEADER]


def test_a_row_without_values_is_a_row(tmp_path: Path) -> None:
    """The step happened."""
    path = tmp_path / "w.log"
    writer = writer_at(path)
    writer.row({}, 3, time=NOW)
    writer.close()
    assert told(path).records == [row([], 3, [])]


# -- keysets ---------------------------------------------------------------------------------------


def test_a_keyset_is_its_names_in_order_its_types_and_its_space(tmp_path: Path) -> None:
    """Declared once, and twice in the file; each different combination has an id of its own."""
    path = tmp_path / "w.log"
    writer = writer_at(path)
    for _ in range(3):
        writer.row({"a": 1.0, "b": 2.0}, 0, time=NOW)
        writer.row({"b": 2.0, "a": 1.0}, 0, time=NOW)
        writer.row({"a": 1.0, "b": 2.0}, 0, types="fi", time=NOW)
        writer.row({"a": 1.0, "b": 2.0}, 0, space="system", time=NOW)
    writer.close()
    reader = LogReader(path)
    reader.read()
    assert [(k.names, k.types, k.space) for k in reader.keysets.values()] == [
        (("a", "b"), "ff", "metric"),
        (("b", "a"), "ff", "metric"),
        (("a", "b"), "fi", "metric"),
        (("a", "b"), "ff", "system"),
    ]
    assert Counter(kinds(path)) == {HEADER: 1, KEYSET: 8, ROW: 12}


ODD = ["", " ", "a b/c", "/", "\n", "\r\n\t", "\x00", "🦦/é", "e\u0301", "\u2028", "x" * 5000]


def test_names_of_every_kind_are_kept(tmp_path: Path) -> None:
    """Slashes, spaces, emoji, newlines, NUL, nothing at all."""
    path = tmp_path / "w.log"
    writer = writer_at(path)
    made = write_rows(writer, ODD, [0])
    writer.close()
    assert told(path).records == made


@pytest.mark.parametrize(("count", "parts"), [(10_000, 1), (32_768, 1), (32_769, 2), (70_000, 3)])
def test_a_row_of_very_many_names_is_split(tmp_path: Path, count: int, parts: int) -> None:
    """Every name and every value is found, at one step and one time."""
    path = tmp_path / "w.log"
    names = [f"{n}" for n in range(count)]
    writer = writer_at(path)
    write_rows(writer, names, [3])
    write_rows(writer, names, [4])
    writer.close()
    assert Counter(kinds(path)) == {HEADER: 1, KEYSET: 2 * parts, ROW: 2 * parts}
    found = told(path).records
    for step in (3, 4):
        mine = [record for record in found if record[2] == step]
        assert len(mine) == parts
        assert [name for record in mine for name in record[1]] == names
        assert [value for record in mine for value in record[4]] == [
            bits(step + index / 8) for index in range(count)
        ]


def test_a_row_of_very_long_names_is_split(tmp_path: Path) -> None:
    """No declaration comes near the largest frame."""
    path = tmp_path / "w.log"
    names = [f"{n}" + "🦦" * 50_000 for n in range(30)]
    writer = writer_at(path)
    made = write_rows(writer, names, [0])
    writer.close()
    found = told(path).records
    assert [name for record in found for name in record[1]] == names
    assert [value for record in found for value in record[4]] == list(made[0][4])
    assert max(stop - start for start, stop in spans(path.read_bytes())) < MAX_PAYLOAD


@pytest.mark.parametrize(
    ("lengths", "parts"),
    [
        ([], [(0, 0)]),
        ([5], [(0, 1)]),
        ([300_000], [(0, 1)]),
        ([300_000, 5], [(0, 1), (1, 2)]),
        ([5, 300_000, 5], [(0, 1), (1, 2), (2, 3)]),
        ([200_000, 60_000, 60_000], [(0, 2), (2, 3)]),
    ],
)
def test_where_names_are_split(lengths: list[int], parts: list[tuple[int, int]]) -> None:
    """Parts follow one another without gaps, and none is empty but where there is nothing."""
    assert split_names(["x" * length for length in lengths]) == parts


def test_threads_racing_for_the_same_names_get_one_plan(tmp_path: Path) -> None:
    """One id, declared before any of them writes."""
    path = tmp_path / "w.log"
    writer = writer_at(path)
    barrier = threading.Barrier(8)
    plans = []

    def work(me: int) -> None:
        for turn in range(50):
            barrier.wait()
            plan = writer.plan((f"turn {turn}", "x"), "ff")
            plans.append((turn, plan.id))
            writer.write_frame(plan.frame(me, NOW, [turn, me]))

    run_threads(work)
    writer.close()
    assert len(set(plans)) == 50
    assert Counter(kinds(path)) == {HEADER: 1, KEYSET: 100, ROW: 400}
    found = told(path)
    expected = [row([f"turn {turn}", "x"], me, [turn, me]) for turn in range(50) for me in range(8)]
    assert sorted(found.records) == sorted(expected)
    assert found.damage == []


def test_threads_racing_for_different_names_get_different_ids(tmp_path: Path) -> None:
    """No id is given twice."""
    path = tmp_path / "w.log"
    writer = writer_at(path)
    ids: list[int] = []

    def work(me: int) -> None:
        for turn in range(50):
            ids.append(writer.plan((f"{me}/{turn}",), "f").id)
            writer.row({f"{me}/{turn}": me}, turn, time=NOW)

    run_threads(work)
    writer.close()
    assert sorted(ids) == list(range(400))
    expected = [row([f"{me}/{turn}"], turn, [me]) for me in range(8) for turn in range(50)]
    assert sorted(told(path).records) == sorted(expected)


def run_threads(work: object) -> None:
    """Eight of them."""
    threads = [threading.Thread(target=work, args=(me,)) for me in range(8)]  # type: ignore[arg-type]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


# -- events ----------------------------------------------------------------------------------------


def test_integers_beyond_64_bits_travel_in_events(tmp_path: Path) -> None:
    """2**53 + 1, 2**64, minus ten to the thousand: exact."""
    path = tmp_path / "w.log"
    numbers = [2**53 + 1, 2**63, -(2**63) - 1, 2**64, -(10**1000)]
    writer = writer_at(path)
    writer.event("value", {"step": 0, "data": {"n": [big_integer(n) for n in numbers]}}, NOW)
    writer.close()
    assert told(path).records == [event("value", {"step": 0, "data": {"n": numbers}})]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"x": object()}, "TypeError: Encoding objects of type object is unsupported"),
        ({"x": 2**64}, "OverflowError: "),
        ({"x": "\ud800"}, "UnicodeEncodeError: "),
        ({"x": b"x" * MAX_PAYLOAD}, "FormatError: a frame holds 1 to 4194304 bytes, not "),
    ],
    ids=["an object", "a large integer", "a surrogate", "5 MiB"],
)
def test_an_event_that_cannot_be_stored_is_counted(
    tmp_path: Path, fields: dict[str, object], reason: str
) -> None:
    """With its type and the reason; the log goes on."""
    path = tmp_path / "w.log"
    writer = writer_at(path)
    assert not writer.event("config", fields)
    made = write_rows(writer, ["x"], [0])
    writer.close()
    assert (writer.loss.records, writer.loss.points) == (1, 0)
    (found,) = writer.loss.reasons
    assert found.startswith(f"config event: {reason}")
    assert told(path).records == made


def test_an_event_nested_without_end_is_counted(tmp_path: Path) -> None:
    """A list that contains itself."""
    endless: list[object] = []
    endless.append(endless)
    writer = writer_at(tmp_path / "w.log")
    assert not writer.event("config", {"x": endless})
    writer.close()
    assert writer.loss.records == 1


# -- identity --------------------------------------------------------------------------------------


def test_a_new_log_says_who_writes_it(tmp_path: Path) -> None:
    """Run, project, attempt, role, host, process; the file is named after the writer."""
    before = time.time()
    writer = LogWriter.create(
        tmp_path, project="p q", run="r-1", role="worker", attempt=3, extra={"rank": 2}
    )
    writer.close()
    header = told(writer.path).reader.header
    assert header == writer.header
    assert header is not None
    assert (header.run, header.project, header.role, header.attempt) == ("r-1", "p q", "worker", 3)
    assert (header.host, header.pid) == (socket.gethostname(), os.getpid())
    assert header.process_started == process_started(os.getpid())
    assert before <= header.created <= time.time()
    assert (header.version, header.extra) == (1, {"rank": 2})
    assert header.software.startswith("trackway ")
    assert len(bytes.fromhex(header.generation)) == 16
    assert writer.path == tmp_path / "p q" / "r-1" / f"{header.writer}.log"
    assert f".{os.getpid()}." in header.writer


def test_two_writers_never_share_a_file(tmp_path: Path) -> None:
    """Even of one process, in one millisecond."""
    writers = [LogWriter.create(tmp_path, project="p", run="r") for _ in range(50)]
    for writer in writers:
        writer.close()
    assert len({writer.path for writer in writers}) == 50
    assert len({writer.header.generation for writer in writers}) == 50


def test_an_existing_file_is_never_written_into(tmp_path: Path) -> None:
    """Records wait for a place that does not come, and are counted; the file is untouched."""
    path = tmp_path / "w.log"
    path.write_bytes(b"not ours")
    writer = writer_at(path)
    write_rows(writer, ["x"], [0])
    writer.close(0.05)
    assert path.read_bytes() == b"not ours"
    assert (writer.loss.records, writer.loss.reasons) == (1, {"File exists": 1})


def test_the_descriptor_is_not_inherited(tmp_path: Path) -> None:
    """A program started from here does not hold the log open."""
    writer = writer_at(tmp_path / "w.log")
    assert not os.get_inheritable(writer.fd)
    writer.close()


def test_a_closed_log_keeps_its_number_for_a_while(tmp_path: Path) -> None:
    """A thread in the middle of a call cannot write into the file that is opened next."""
    writer = writer_at(tmp_path / "w.log")
    descriptor = writer.fd
    writer.close()
    with (tmp_path / "mine").open("wb") as mine:
        assert mine.fileno() != descriptor
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.write(descriptor, b"late")
    assert (tmp_path / "mine").read_bytes() == b""
