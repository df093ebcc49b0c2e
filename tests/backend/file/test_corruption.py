from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trackway.backend.file.format import (
    HEADER,
    KEYSET,
    Keyset,
    encode_event,
    encode_header,
    encode_keyset,
    encode_row,
)
from trackway.backend.file.reader import Damage

from .given import HEADER as SAMPLE
from .given import NOW, Record, event, kind_at, row, spans, told_of

quick = settings(
    max_examples=80,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

AB, C = Keyset(0, ("a/b", "ε 🦦"), "ff"), Keyset(1, ("c",), "i", "system")
NAN = struct.unpack("<d", bytes.fromhex("010000000000f87f"))[0]
PIECES: list[tuple[bytes, Record | None]] = [
    (encode_header(SAMPLE), None),
    (encode_keyset(AB), None),
    (encode_keyset(AB), None),
    (encode_row(0, 0, NOW, [0.5, -0.0]), row(AB.names, 0, [0.5, -0.0])),
    (encode_row(0, 1, NOW, [1.5, NAN]), row(AB.names, 1, [1.5, NAN])),
    (encode_row(0, 2, NOW, [2.5, 1e308]), row(AB.names, 2, [2.5, 1e308])),
    (encode_row(0, 3, NOW, [3.5, -1e-320]), row(AB.names, 3, [3.5, -1e-320])),
    (
        encode_event("config", NOW, {"set": [[["lr"], 0.1]]}),
        event("config", {"set": [[["lr"], 0.1]]}),
    ),
    (encode_keyset(C), None),
    (encode_keyset(C), None),
    (encode_row(1, -7, NOW, [7.0]), row(C.names, -7, [7.0])),
    (encode_row(0, 4, NOW, [4.5, 4.0]), row(AB.names, 4, [4.5, 4.0])),
    (encode_row(1, -8, NOW, [8.0]), row(C.names, -8, [8.0])),
    (encode_event("end", NOW, {"state": "finished"}), event("end", {"state": "finished"})),
    (encode_row(0, 5, NOW, [5.5, 5.0]), row(AB.names, 5, [5.5, 5.0])),
]
LOG = b"".join(data for data, _ in PIECES)
SPANS = spans(LOG)
RECORDS = [record for _, record in PIECES]
LAST = SPANS[-1][0]


def kept(begin: int, end: int) -> list[Record]:
    """The records none of whose bytes are in [begin, end)."""
    return [
        record
        for (start, stop), record in zip(SPANS, RECORDS, strict=True)
        if record is not None and (stop <= begin or start >= end)
    ]


def subsequence(some: list[Record], of: list[Record]) -> bool:
    """Whether these records are found among those, in their order."""
    rest: Iterator[Record] = iter(of)
    return all(record in rest for record in some)


def only_true_records(found: list[Record]) -> bool:
    """Whether each was written. A row whose names are lost counts by its numbers."""
    numbers = {record[2:] for record in RECORDS if record and record[0] == "row"}
    return all(
        record in RECORDS if record[0] == "event" or isinstance(record[1], tuple)
        else record[2:] in numbers
        for record in found
    )  # fmt: skip


def test_the_log_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Without damage, everything is found and nothing is reported."""
    found = told_of(LOG, tmp_path / "a.log")
    assert (found.records, found.damage, found.pending) == (kept(0, 0), [], 0)
    assert found.generations == [SAMPLE.generation]


@pytest.mark.parametrize("change", [0x01, 0x80, 0xFF])
def test_a_changed_byte_costs_the_frame_it_is_in(tmp_path: Path, change: int) -> None:
    """Every offset: all other records are exact, and the damage is exactly that frame.

    At the end of the log the damage cannot be told from a frame that is still being written:
    its bytes are pending.
    """
    path = tmp_path / "a.log"
    for start, stop in SPANS:
        for at in range(start, stop):
            data = bytearray(LOG)
            data[at] ^= change
            found = told_of(bytes(data), path)
            assert found.records == kept(start, stop), at
            if start == LAST:
                assert (found.damage, found.pending) == ([], stop - start), at
            else:
                assert (found.damage, found.pending) == ([Damage(start, stop - start)], 0), at
            assert (found.generations == []) == (kind_at(LOG, start) == HEADER), at
            names = {keyset.id: keyset for keyset in (AB, C)}
            assert found.reader.keysets == names, at


def test_two_changed_bytes_cost_the_frames_they_are_in(tmp_path: Path) -> None:
    """Two neighbouring bytes anywhere, across frames too: the rest is exact."""
    path = tmp_path / "a.log"
    for at in range(len(LOG) - 1):
        data = bytearray(LOG)
        data[at] ^= 0x55
        data[at + 1] ^= 0xAA
        found = told_of(bytes(data), path)
        assert only_true_records(found.records), at
        hit = [span for span in SPANS if span[0] <= at + 1 and span[1] > at]
        if not all(kind_at(LOG, start) == KEYSET for start, _ in hit):
            assert found.records == kept(at, at + 2), at
        assert sum(size for _, size in found.damage) + found.pending == sum(
            stop - start for start, stop in hit
        )


def changed(path: Path, data: bytes, begin: int, end: int) -> None:
    """Check a log that differs from LOG in what was at [begin, end)."""
    found = told_of(data, path)
    assert only_true_records(found.records)
    names_left = all(
        any(
            RECORDS[index] is None
            and PIECES[index][0] == encode_keyset(keyset)
            and (stop <= begin or start >= end)
            for index, (start, stop) in enumerate(SPANS)
        )
        for keyset in (AB, C)
    )
    if names_left:
        assert subsequence(kept(begin, end), found.records)
    rows = [record[2:] for record in found.records if record[0] == "row"]
    assert subsequence([r[2:] for r in kept(begin, end) if r[0] == "row"], rows)


ranges = st.tuples(st.integers(0, len(LOG)), st.integers(0, 120)).map(
    lambda drawn: (drawn[0], min(drawn[0] + drawn[1], len(LOG)))
)


@given(ranges)
@quick
def test_a_deleted_range_costs_what_it_cut(tmp_path: Path, where: tuple[int, int]) -> None:
    """Every frame outside is found, and nothing that was not written."""
    begin, end = where
    changed(tmp_path / "a.log", LOG[:begin] + LOG[end:], begin, end)


@given(st.integers(0, len(LOG)), st.binary(min_size=1, max_size=100))
@quick
def test_an_inserted_range_costs_the_frame_it_splits(tmp_path: Path, at: int, more: bytes) -> None:
    """Every frame before and behind is found, and nothing that was not written."""
    changed(tmp_path / "a.log", LOG[:at] + more + LOG[at:], at, at)


@given(ranges, st.sampled_from([0x00, 0xFF]))
@quick
def test_a_blanked_block_costs_the_frames_it_touches(
    tmp_path: Path, where: tuple[int, int], byte: int
) -> None:
    """Zeros, or ones, as a lost disk block leaves them."""
    begin, end = where
    data = LOG[:begin] + bytes([byte]) * (end - begin) + LOG[end:]
    changed(tmp_path / "a.log", data, begin, end)


@given(ranges, st.integers(0, len(LOG)))
@quick
def test_a_duplicated_block_changes_no_value(
    tmp_path: Path, where: tuple[int, int], at: int
) -> None:
    """A block that is there twice: some records may be, too, and all are as they were."""
    begin, end = where
    changed(tmp_path / "a.log", LOG[:at] + LOG[begin:end] + LOG[at:], at, at)


@given(st.lists(st.tuples(st.integers(0, len(LOG) - 1), st.integers(0, 255)), max_size=12))
@quick
def test_any_change_costs_the_frames_it_touches(
    tmp_path: Path, edits: list[tuple[int, int]]
) -> None:
    """Any bytes exchanged for any others: what is found was written, the untouched is found."""
    data = bytearray(LOG)
    touched = set()
    for at, byte in edits:
        data[at] = byte
    for index, (start, stop) in enumerate(SPANS):
        if data[start:stop] != LOG[start:stop]:
            touched.add(index)
    found = told_of(bytes(data), tmp_path / "a.log")
    assert only_true_records(found.records)
    rows = [record[2:] for record in found.records if record[0] == "row"]
    untouched = [record for i, record in enumerate(RECORDS) if record and i not in touched]
    assert subsequence([r[2:] for r in untouched if r[0] == "row"], rows)
    events = [record for record in found.records if record[0] == "event"]
    assert subsequence([r for r in untouched if r[0] == "event"], events)


def test_two_logs_one_behind_the_other(tmp_path: Path) -> None:
    """A log appended to another one, as a bad merge leaves it: the records of both are there."""
    found = told_of(LOG + LOG, tmp_path / "a.log")
    assert found.records == kept(0, 0) * 2
    assert (found.damage, found.generations) == ([], [SAMPLE.generation] * 2)
