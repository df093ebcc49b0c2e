"""The golden log of each format version is read to the same values for ever."""

from __future__ import annotations

import hashlib
import struct
from typing import Any

from trackway.backend.file.attempts import Standing, first_header, standing
from trackway.backend.file.format import Header, Keyset
from trackway.backend.file.reader import LogReader
from trackway.backend.file.run_logs import RunLogs

from . import independent
from .make_golden import GOLDEN, golden

T = 1_800_000_000.0
DIGEST = "b5705be5520e65594fc5803c384d5eacc2fbe71c0435af84fa9c21a0f310a807"

FIRST = ("train/loss", "épreuve 🦦\n", "", "layer 1/weight.norm")
WIDE = tuple(f"n{index}" for index in range(300))
KEYSETS = [
    (0, FIRST, "ffib", "metric"),
    (1, (), "", "metric"),
    (2, ("cpu.percent",), "f", "system"),
    (4_294_967_295, WIDE, "f" * 300, "metric"),
]
ROWS: list[tuple[int, int, float, list[int]]] = [
    (0, -1, T, [0x3FE0000000000000, 0x3FF8000000000000, 0x4000000000000000, 0x3FF0000000000000]),
    (0, 0, T, [0, 0x8000000000000000, 0, 0]),
    (0, 1, T + 1, [0x3FC0000000000000, 1 << 63, 0x3FF0000000000000, 0x3FF0000000000000]),
    (0, 2, T + 2, [0x3FD0000000000000, 1 << 63, 0x4000000000000000, 0]),
    (0, 3, T + 3, [0x3FD8000000000000, 1 << 63, 0x4008000000000000, 0x3FF0000000000000]),
    (0, 4, T + 4, [0x3FE0000000000000, 1 << 63, 0x4010000000000000, 0]),
    (0, 5, T + 5, [0x3FE4000000000000, 1 << 63, 0x4014000000000000, 0x3FF0000000000000]),
    (0, 6, T + 6, [0x3FE8000000000000, 1 << 63, 0x4018000000000000, 0]),
    (0, 7, T + 7, [0x3FEC000000000000, 1 << 63, 0x401C000000000000, 0x3FF0000000000000]),
    (0, 8, T + 8, [0x3FF0000000000000, 1 << 63, 0x4020000000000000, 0]),
    (0, 2**63 - 1, T + 9, [0x7FF0000000000000, 0xFFF0000000000000, 0x4340000000000000, 0]),
    (0, -(2**63), T + 10, [0x7FF8000000000001, 1, 0xC340000000000000, 0x3FF0000000000000]),
    (1, 7, T + 11, []),
    (2, 0, T + 12, [0x4058E00000000000]),
    (0, 7, T + 11, [0x401C000000000000, 0x401D000000000000, 0x401C000000000000, 0]),
    (
        4_294_967_295,
        8,
        T + 13,
        [struct.unpack("<Q", struct.pack("<d", index / 4))[0] for index in range(300)],
    ),
]
EVENTS: list[tuple[str, float, dict[str, Any]]] = [
    ("run", T, {"set": {"name": "calm otter", "tags": ["a", "ü"]}}),
    ("config", T + 0.5, {"set": [[["lr"], 0.001], [["n"], 3]], "del": []}),
    (
        "value",
        T + 14,
        {
            "step": 8,
            "data": {
                "big": 18_446_744_073_709_551_616,
                "negative": -1_000_000_000_000_000_000_000_000_000_000,
                "u64": 18_446_744_073_709_551_615,
                "text": "line\nline",
                "list": [1, 2.5, None, True],
            },
        },
    ),
    ("of a later version", T + 15, {"bytes": b"\x00\xff", "nested": {"": {}}}),
    ("end", T + 16, {"state": "finished", "exit_code": 0, "next_step": 9}),
]
FIELDS = {
    "run": "calm-otter-1",
    "project": "digits",
    "writer": "node-7.4711.1800000000000.0a1b2c3d",
    "generation": "000102030405060708090a0b0c0d0e0f",
    "role": "train",
    "attempt": 1,
    "host": "node-7",
    "pid": 4711,
    "process_started": T - 1.5,
    "created": T,
    "software": "trackway 0.1.0",
}
HEADER = Header(**FIELDS, extra={"rank": 0})  # type: ignore[arg-type]


def test_the_golden_log_is_the_one_that_was_released() -> None:
    """Its bytes never change; a new format version gets a new file."""
    assert hashlib.sha256(GOLDEN.read_bytes()).hexdigest() == DIGEST


def test_todays_encoder_still_writes_it() -> None:
    """To the byte."""
    assert golden() == GOLDEN.read_bytes()


def test_the_golden_log_is_read_to_the_same_values() -> None:
    """Every bit of every value, every name, every field, in the order of the file."""
    reader = LogReader(GOLDEN)
    batch = reader.read()
    assert (batch.damage, reader.pending, batch.unknown) == ([], 0, 1)
    assert batch.headers == [HEADER]
    assert list(reader.keysets.values()) == [Keyset(*fields) for fields in KEYSETS]
    rows = [
        (at, (rows.keyset, step, time, values))
        for rows in batch.rows
        for at, step, time, values in zip(
            rows.offsets.tolist(),
            rows.steps.tolist(),
            rows.times.tolist(),
            rows.values.view("<u8").tolist(),
            strict=True,
        )
    ]
    assert [row for _, row in sorted(rows)] == ROWS
    assert [(e.type, e.time, dict(e.fields)) for _, e in batch.events] == EVENTS
    assert (batch.frames, batch.points) == (1 + 8 + 16 + 5 + 1, 13 * 4 + 0 + 1 + 300)


def test_a_reader_written_from_the_document_reads_the_same() -> None:
    """Eighty lines that share no code with ours."""
    found = independent.read(GOLDEN)
    assert found[0] == ("header", {**FIELDS, "rank": 0})
    keysets = [
        (record[1], tuple(record[2]), *record[3:]) for record in found if record[0] == "keyset"
    ]
    assert keysets == [fields for fields in KEYSETS for _ in range(2)]
    assert [(*r[1:4], list(r[4])) for r in found if r[0] == "row"] == ROWS
    assert [record[1:] for record in found if record[0] == "event"] == EVENTS
    assert [record for record in found if record[0] == "unknown"] == [("unknown", 5)]


def test_the_golden_log_is_a_run() -> None:
    """Its folder is read like any other: columns, events, standing."""
    logs = RunLogs(GOLDEN.parent)
    assert logs.refresh()
    assert first_header(GOLDEN) == HEADER
    assert standing(GOLDEN.parent) == Standing(1, False, False, 2**63)
    assert logs.keys() == sorted({*FIRST, *WIDE, "big", "negative", "u64", "text", "list"})
    column = logs.columns("")
    assert column.values.tolist() == [2, *range(9), 2**53, -(2**53), 7]
    assert column.values.dtype == "int64"
    assert column.steps.tolist() == [-1, *range(9), 2**63 - 1, -(2**63), 7]
    assert logs.columns("layer 1/weight.norm").values.tolist()[:3] == [True, False, True]
    assert logs.columns("cpu.percent", "system").values.tolist() == [99.5]
    assert logs.columns("big").values.tolist() == [2**64]
