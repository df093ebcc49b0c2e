from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import trackway
from trackway.backend.file import reader as reader_module
from trackway.backend.file import scan as scan_module
from trackway.backend.file.format import (
    Event,
    Keyset,
    encode_event,
    encode_header,
    encode_keyset,
    encode_row,
    frame,
)
from trackway.backend.file.reader import Batch, Damage, LogReader

from .given import HEADER as SAMPLE
from .given import (
    NOW,
    Record,
    event,
    put,
    records,
    row,
    told,
    told_of,
    unmeasured,
    write_rows,
    writer_at,
)
from .test_prefixes import mixed_log

quick = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
HEAD = encode_header(SAMPLE)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, list[Record]]:
    """The bytes of a log of everything, and its records."""
    path = tmp_path_factory.mktemp("log") / "w.log"
    made = mixed_log(path)
    return path.read_bytes(), made


# -- a file that grows -----------------------------------------------------------------------------


@given(st.lists(st.integers(1, 400), max_size=40))
@quick
def test_growth_in_any_pieces_gives_the_same_records(
    log: tuple[bytes, list[Record]], tmp_path: Path, sizes: list[int]
) -> None:
    """Each record is found once, as soon as it is whole; nothing is ever damage."""
    data, made = log
    path = tmp_path / "w.log"
    put(path, b"")
    reader = LogReader(path)
    batches: list[Batch] = []
    at = 0
    for size in [*sizes, len(data)]:
        with path.open("ab") as file:
            file.write(data[at : at + size])
        at = min(at + size, len(data))
        batches.append(reader.read())
        assert reader.offset + reader.pending == at
    assert records(batches, reader.keysets) == made
    assert [batch.damage for batch in batches] == [[]] * len(batches)
    assert (reader.pending, reader.restarts) == (0, 0)


def test_a_record_is_found_the_moment_it_is_whole(tmp_path: Path) -> None:
    """One byte less, and it is waited for."""
    path = tmp_path / "w.log"
    data = HEAD + encode_event("end", NOW, {})
    path.write_bytes(data[:-1])
    reader = LogReader(path)
    assert (reader.read().events, reader.pending) == ([], len(data) - 1 - len(HEAD))
    with path.open("ab") as file:
        file.write(data[-1:])
    assert reader.read().events == [(len(HEAD), Event("end", NOW, {}))]
    assert reader.pending == 0


def test_reading_again_finds_nothing_twice(log: tuple[bytes, list[Record]], tmp_path: Path) -> None:
    """A read without news is empty."""
    path = tmp_path / "w.log"
    path.write_bytes(log[0])
    reader = LogReader(path)
    assert reader.read().frames == 51
    assert reader.read() == Batch()


def test_a_reader_that_stops_early_goes_on_where_it_stopped(
    log: tuple[bytes, list[Record]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stretch that was handed out is not handed out again."""
    monkeypatch.setattr(reader_module, "STRETCH", 600)
    path = tmp_path / "w.log"
    path.write_bytes(log[0])
    reader = LogReader(path)
    batches = [next(reader.stretches()) for _ in range(3)]
    batches.append(reader.read())
    assert records(batches, reader.keysets) == log[1]


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    """The caller decides what that means."""
    with pytest.raises(FileNotFoundError):
        LogReader(tmp_path / "no.log").read()


# -- wait or damage --------------------------------------------------------------------------------


def test_waiting_and_damage_are_told_apart(tmp_path: Path) -> None:
    """The same torn record: pending at the end, damage once another record is behind it."""
    path = tmp_path / "w.log"
    torn = encode_event("config", NOW, {"set": [[["a"], "b" * 50]]})[:-20]
    path.write_bytes(HEAD + torn)
    reader = LogReader(path)
    batch = reader.read()
    assert (batch.damage, reader.pending, reader.offset) == ([], len(torn), len(HEAD))
    with path.open("ab") as file:
        file.write(encode_event("end", NOW, {}))
    batch = reader.read()
    assert batch.damage == [Damage(len(HEAD), len(torn))]
    assert [e.type for _, e in batch.events] == ["end"]
    assert reader.pending == 0


def test_damage_is_reported_once(tmp_path: Path) -> None:
    """A later read does not tell of it again."""
    path = tmp_path / "w.log"
    path.write_bytes(HEAD + b"garbage" + encode_event("end", NOW, {}))
    reader = LogReader(path)
    assert reader.read().damage == [Damage(len(HEAD), 7)]
    with path.open("ab") as file:
        file.write(encode_event("end", NOW, {}))
    assert reader.read().damage == []


def test_a_file_that_shrinks_while_it_is_read_is_read_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Less is there than there was a moment ago."""
    path = tmp_path / "w.log"
    writer = writer_at(path)
    made = write_rows(writer, ["x"], range(5))
    writer.close()
    whole = path.read_bytes()
    reader = LogReader(path)
    size = os.fstat

    def cut(descriptor: int) -> os.stat_result:
        status = size(descriptor)
        os.truncate(path, 0)
        return status

    with monkeypatch.context() as patch:
        patch.setattr(os, "fstat", cut)
        assert reader.read() == Batch()
    path.write_bytes(whole)
    assert records([reader.read()], reader.keysets) == made


# -- a file that is exchanged ----------------------------------------------------------------------


def other_log(path: Path, generation: str) -> None:
    """A log of the same length as any other of its kind, but of its own generation."""
    header = encode_header(type(SAMPLE)("r", "p", "w", generation))
    body = encode_keyset(Keyset(0, ("x",), "f")) + encode_row(0, int(generation, 16), NOW, [1.0])
    put(path, header + body * 3)


@pytest.mark.parametrize("how", ["another file", "the same file"])
def test_another_log_of_the_same_name_is_read_from_its_start(tmp_path: Path, how: str) -> None:
    """Replaced by rename or written anew into the same inode, even at the very same length."""
    path = tmp_path / "w.log"
    other_log(path, "01")
    reader = LogReader(path)
    assert records([reader.read()], reader.keysets) == [row(["x"], 1, [1.0])] * 3
    if how == "another file":
        other_log(tmp_path / "new", "02")
        (tmp_path / "new").replace(path)
    else:
        other_log(tmp_path / "new", "02")
        with path.open("r+b") as file:
            file.write((tmp_path / "new").read_bytes())
    batch = reader.read()
    assert records([batch], reader.keysets) == [row(["x"], 2, [1.0])] * 3
    assert (reader.restarts, reader.header and reader.header.generation) == (1, "02")


@pytest.mark.parametrize("size", [0, 5, 8, 100])
def test_a_file_that_shrank_is_read_from_its_start(tmp_path: Path, size: int) -> None:
    """What it holds now counts; what was declared before does not."""
    path = tmp_path / "w.log"
    writer = writer_at(path)
    write_rows(writer, ["a", "b"], range(5))
    writer.close()
    whole = path.read_bytes()
    reader = LogReader(path)
    reader.read()
    path.write_bytes(whole[:size])
    assert reader.read().frames == 0
    assert (reader.restarts, reader.keysets, reader.next_keyset) == (1, {}, 0)
    with path.open("ab") as file:
        file.write(whole[size:])
    batch = reader.read()
    assert records([batch], reader.keysets) == told(path).records
    assert (reader.restarts, reader.next_keyset) == (1, 1)


def test_a_log_that_begins_late_is_no_other_log(tmp_path: Path) -> None:
    """An empty file that gets its first bytes, and then more of them, was not exchanged."""
    path = tmp_path / "w.log"
    path.write_bytes(b"")
    reader = LogReader(path)
    for at in range(len(HEAD)):
        reader.read()
        with path.open("ab") as file:
            file.write(HEAD[at : at + 1])
    assert len(reader.read().headers) == 1
    assert reader.restarts == 0


# -- what records may be ---------------------------------------------------------------------------


def test_rows_may_come_before_their_declaration(tmp_path: Path) -> None:
    """In another read, too: their names are known once the declaration is."""
    path = tmp_path / "w.log"
    path.write_bytes(HEAD + encode_row(3, 1, NOW, [1.5]) * 3)
    reader = LogReader(path)
    batches = [reader.read()]
    assert records(batches, reader.keysets) == [("row", 3, 1, NOW, ("000000000000f83f",))] * 3
    with path.open("ab") as file:
        file.write(encode_keyset(Keyset(3, ("late",), "f")))
    batches.append(reader.read())
    assert records(batches, reader.keysets) == [row(["late"], 1, [1.5])] * 3
    assert reader.next_keyset == 4


def test_unknown_kinds_are_passed_over_and_counted(tmp_path: Path) -> None:
    """Reserved kinds, others, a row and an event that are none: all sound, none of them damage."""
    later = [b"\x05later", b"\x0f", b"\x10", b"\x00", b"\xff" * 30, b"\x03", b"\x03" * 20]
    broken = [b"\x04" + bytes(8) + b"\xc1", b"\x02" + bytes(4) + b"\x90", b"\x01TRACKWAX"]
    known = encode_event("end", NOW, {"state": "finished"})
    data = HEAD + b"".join(known + frame(payload) for payload in later + broken) + known
    found = told_of(data, tmp_path / "w.log")
    assert found.records == [event("end", {"state": "finished"})] * 11
    assert (found.unknown, found.damage, found.pending) == (10, [], 0)


def test_an_event_of_an_unknown_type_is_an_event(tmp_path: Path) -> None:
    """Who does not know it passes it over; the reader keeps it."""
    found = told_of(HEAD + encode_event("of 2031", NOW, {"x": [1]}), tmp_path / "w.log")
    assert (found.records, found.unknown) == ([event("of 2031", {"x": [1]})], 0)


@pytest.mark.parametrize(
    ("first", "second"),
    [(["a", "b"], ["c", "d"]), (["a"], ["b", "c", "d"]), ([], ["a"])],
    ids=["equal length", "different length", "without names"],
)
@pytest.mark.parametrize("pattern", [(1, 1), (2, 3), (100, 70), (1, 70)])
def test_interleaved_keysets_keep_their_rows(
    tmp_path: Path, first: list[str], second: list[str], pattern: tuple[int, int]
) -> None:
    """Rows of two keysets in turn, alone or in runs, have their own names and values."""
    path = tmp_path / "w.log"
    writer = writer_at(path)
    made = []
    step = 0
    while step < 300:
        for names, count in zip((first, second), pattern, strict=True):
            made += write_rows(writer, names, range(step, step + count))
            step += count
    writer.close()
    found = told(path)
    assert (found.records, found.damage, found.pending) == (made, [], 0)


def test_a_run_longer_than_every_look(tmp_path: Path) -> None:
    """70,000 rows of one keyset, with a row of another among them, as columns."""
    path = tmp_path / "w.log"
    steps = np.arange(70_000, dtype=np.int64)
    layout = np.dtype(
        [("size", "<u4"), ("crc", "<u4"), ("kind", "u1"), ("id", "<u4"),
         ("step", "<i8"), ("time", "<f8"), ("values", "<f8", (2,))]
    )  # fmt: skip
    rows = np.zeros(len(steps), layout)
    rows["size"], rows["kind"], rows["step"], rows["time"] = 37, 3, steps, steps / 2
    rows["values"][:, 0], rows["values"][:, 1] = steps / 8, -steps
    data = bytearray(rows.tobytes())
    from zlib import crc32

    for at in range(0, len(data), 45):
        data[at + 4 : at + 8] = crc32(data[at + 8 : at + 45]).to_bytes(4, "little")
    cut = 45 * 68_000
    odd = encode_row(1, 5, NOW, [0.25])
    path.write_bytes(HEAD + data[:cut] + odd + data[cut:])
    batch = LogReader(path).read()
    found = {rows.keyset: rows for rows in batch.rows}
    assert (batch.points, batch.frames, batch.damage) == (140_001, 70_002, [])
    assert np.array_equal(found[0].steps, steps)
    assert np.array_equal(found[0].times, steps / 2)
    assert np.array_equal(found[0].values, np.stack([steps / 8, -steps], axis=1))
    expected = len(HEAD) + steps * 45 + (steps >= 68_000) * len(odd)
    assert np.array_equal(found[0].offsets, expected)
    assert found[1].values.tolist() == [[0.25]]


def test_columns_own_their_numbers(tmp_path: Path) -> None:
    """What a read returns does not keep the bytes of the file in memory."""
    path = tmp_path / "w.log"
    writer = writer_at(path)
    write_rows(writer, ["a"], range(100))
    writer.close()
    for rows in LogReader(path).read().rows:
        for column in (rows.steps, rows.times, rows.values):
            assert column.flags.owndata
            assert column.flags.writeable


# -- stretches -------------------------------------------------------------------------------------


def merged(damage: list[Damage]) -> list[Damage]:
    """Damage that goes on from one stretch into the next, as one."""
    found: list[Damage] = []
    for offset, size in damage:
        if found and found[-1].offset + found[-1].size == offset:
            found[-1] = Damage(found[-1].offset, found[-1].size + size)
        else:
            found.append(Damage(offset, size))
    return found


@given(st.integers(2, 9), st.data())
@quick
def test_a_log_is_read_alike_in_stretches_of_any_size(
    log: tuple[bytes, list[Record]], tmp_path: Path, factor: int, drawn: st.DataObject
) -> None:
    """Boundaries in the middle of runs, of frames and of damage change nothing."""
    data = bytearray(log[0])
    for _ in range(drawn.draw(st.integers(0, 3))):
        at = drawn.draw(st.integers(0, len(data)))
        data[at:at] = drawn.draw(st.sampled_from([b"\xff" * 3000, bytes(50), b"\x03" * 700]))
    path = tmp_path / "w.log"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan_module, "MAX_PAYLOAD", 300)
        whole = told_of(bytes(data), path)
        patch.setattr(reader_module, "STRETCH", factor * (300 + 8))
        parts = told(path)
    assert parts.records == whole.records
    assert merged(parts.damage) == merged(whole.damage)
    assert (parts.pending, parts.reader.offset) == (whole.pending, whole.reader.offset)


def test_a_log_longer_than_a_stretch(tmp_path: Path) -> None:
    """40 MB with the real sizes: the largest events, rows and garbage across the boundary."""
    path = tmp_path / "w.log"
    blob = encode_event("big", NOW, {"data": "x" * ((1 << 22) - 40)})
    rows = encode_row(0, 1, NOW, [1.0]) * 20_000
    garbage = b"\xff" * 1000
    data = HEAD + blob * 7 + rows + blob + garbage + rows + blob + rows
    assert len(HEAD + blob * 7 + rows) < reader_module.STRETCH < len(data)
    path.write_bytes(data)
    reader = LogReader(path)
    stretches = list(reader.stretches())
    assert len(stretches) == 2
    assert sum(batch.frames for batch in stretches) == 1 + 9 + 60_000
    assert sum(batch.points for batch in stretches) == 60_000
    found = merged([damage for batch in stretches for damage in batch.damage])
    assert found == [Damage(len(HEAD + blob * 8 + rows), 1000)]
    assert (reader.offset, reader.pending) == (len(data), 0)


# -- beside a writer -------------------------------------------------------------------------------

WRITER = """
import sys, time
from pathlib import Path
from trackway.backend.file.format import Header
from trackway.backend.file.writer import LogWriter
writer = LogWriter(Path(sys.argv[1]), Header("r", "p", "w", "g"))
for step in range(20_000):
    writer.row({"a": step / 4, "b": -step}, step, time=1.0)
    if step % 10 == 0:
        writer.event("console", {"first": step, "lines": ["x" * (step % 3000)]}, 1.0)
    if step % 1000 == 0:
        writer.row({f"new/{step}": 1.0}, step, time=1.0)
        time.sleep(0.003)
writer.close()
"""


def test_a_reader_beside_a_writer_sees_every_record_once_and_no_damage(tmp_path: Path) -> None:
    """Another process appends as fast as it can."""
    path = tmp_path / "w.log"
    home = str(Path(trackway.__file__).parents[1])
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], cwd=home, env=unmeasured()
    )
    reader = LogReader(path)
    batches: list[Batch] = []
    over = False
    while not over:
        over = process.poll() is not None
        if path.exists():
            batches.append(reader.read())
    assert process.returncode == 0
    assert sum(len(batch.damage) for batch in batches) == 0
    assert (reader.pending, reader.restarts) == (0, 0)
    assert len(batches) > 1
    steps = [rows.steps for batch in batches for rows in batch.rows if rows.values.shape[1] == 2]
    values = [rows.values for batch in batches for rows in batch.rows if rows.values.shape[1] == 2]
    every = np.arange(20_000)
    assert np.array_equal(np.concatenate(steps), every)
    assert np.array_equal(np.concatenate(values), np.stack([every / 4, -every], axis=1))
    events = [found for batch in batches for _, found in batch.events]
    assert [found.fields["first"] for found in events] == list(range(0, 20_000, 10))
    names = [names for keyset in reader.keysets.values() for names in keyset.names]
    assert names == ["a", "b", *(f"new/{step}" for step in range(0, 20_000, 1000))]
