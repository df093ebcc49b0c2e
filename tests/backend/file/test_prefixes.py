from __future__ import annotations

import os
from pathlib import Path

import pytest

from trackway.backend.file.format import EVENT, HEADER, ROW
from trackway.backend.file.reader import LogReader
from trackway.backend.file.writer import LogWriter

from .given import HEADER as SAMPLE
from .given import (
    NOW,
    Disk,
    Record,
    event,
    kind_at,
    put,
    records,
    row,
    spans,
    told,
    write_rows,
    writer_at,
)

LOSS, WIDE, NONE = ["train/loss"], [f"layer {n}/μ" for n in range(14)], list[str]()


def mixed_log(path: Path) -> list[Record]:
    """A log of header, keysets, interleaved rows and events; returns its records."""
    writer = writer_at(path)
    made: list[Record] = []
    fields = {"set": [[["lr"], 0.001], [["model", "name"], "ε/🦦\n"]], "del": []}
    writer.event("config", fields, NOW)
    made.append(event("config", fields))
    for step in range(0, 18, 3):
        made += write_rows(writer, LOSS, [step, step + 1])
        made += write_rows(writer, WIDE, [step])
        made += write_rows(writer, NONE, [step])
        lines = {"stream": "out", "first": step, "lines": ["x" * step, ""]}
        writer.event("console", lines, NOW)
        made.append(event("console", lines))
    writer.row({"gpu": 0.5}, 0, space="system", time=NOW)
    made.append(row(["gpu"], 0, [0.5]))
    made += write_rows(writer, LOSS, range(100, 110))
    writer.close()
    return made


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, list[Record]]:
    """The bytes of the mixed log, and its records."""
    path = tmp_path_factory.mktemp("log") / "w.log"
    made = mixed_log(path)
    return path.read_bytes(), made


def test_the_log_is_mixed(log: tuple[bytes, list[Record]], tmp_path: Path) -> None:
    """It holds everything there is, and a reader finds exactly that."""
    data, made = log
    kinds = [kind_at(data, start) for start, _ in spans(data)]
    assert (kinds[0], kinds.count(ROW), kinds.count(EVENT), len(kinds)) == (HEADER, 35, 7, 51)
    assert 3000 < len(data) < 5000
    path = tmp_path / "w.log"
    path.write_bytes(data)
    found = told(path)
    assert (found.records, found.damage, found.pending) == (made, [], 0)


def reopen(path: Path, reader: LogReader) -> LogWriter:
    """Go on in a log that this reader has read."""
    return LogWriter.reopen(
        path,
        end=reader.offset,
        header=reader.header or SAMPLE,
        next_keyset=reader.next_keyset,
        files=Disk().files(),
    )


@pytest.mark.parametrize("quarter", range(4))
def test_every_prefix_reopens_with_its_whole_records_and_goes_on(
    log: tuple[bytes, list[Record]], tmp_path: Path, quarter: int
) -> None:
    """Cut at any byte: exactly the whole records, then new ones behind them, and no damage.

    The new rows include one of other names than any before: it does not take the place of what
    the first writer had declared.
    """
    data, made = log
    path = tmp_path / "w.log"
    frames = spans(data)
    recorded = [stop for start, stop in frames if kind_at(data, start) in (ROW, EVENT)]
    boundaries = {0, *(stop for _, stop in frames)}
    for size in range(quarter, len(data) + 1, 4):
        put(path, data[:size])
        reader = LogReader(path)
        before = reader.read()
        whole = [record for stop, record in zip(recorded, made, strict=True) if stop <= size]
        assert records([before], reader.keysets) == whole, size
        assert before.damage == []
        assert reader.offset == max(boundary for boundary in boundaries if boundary <= size)
        assert reader.pending == size - reader.offset

        writer = reopen(path, reader)
        new = write_rows(writer, ["other", "names"], [7]) + write_rows(writer, LOSS, [8])
        writer.event("end", {"state": "finished"}, NOW)
        new.append(event("end", {"state": "finished"}))
        writer.close()

        after = reader.read()
        assert records([before, after], reader.keysets) == whole + new, size
        assert (after.damage, reader.pending, reader.restarts) == ([], 0, 0)
        if size % 7 == 0 or size > len(data) - 60:
            again = told(path)
            assert (again.records, again.damage, again.pending) == (whole + new, [], 0)
            assert len(set(again.generations)) == len(again.generations)


def test_a_log_that_went_on_twice_keeps_every_name(tmp_path: Path) -> None:
    """Each writer declares its own keysets; none gives another's rows its names."""
    path = tmp_path / "w.log"
    writer = writer_at(path)
    made = write_rows(writer, ["a", "b"], [0, 1])
    writer.close()
    for names in (["c", "d"], ["e", "f"], ["a", "b"]):
        reader = LogReader(path)
        reader.read()
        writer = reopen(path, reader)
        made += write_rows(writer, names, [5])
        writer.close()
    assert told(path).records == made


def test_a_file_that_cannot_be_cut_is_not_gone_on_with(tmp_path: Path) -> None:
    """The error is raised, and the descriptor is closed."""
    path = tmp_path / "w.log"
    path.write_bytes(b"")
    closed: list[int] = []

    def truncate(descriptor: int, size: int) -> None:
        raise PermissionError(1, "no")

    files = Disk().files(truncate=truncate, close=closed.append)
    with pytest.raises(PermissionError):
        LogWriter.reopen(path, end=0, header=SAMPLE, next_keyset=0, files=files)
    assert len(closed) == 1
    os.close(closed[0])
