"""Writes the golden log of format version 1; run it as ``python -m tests.format.make_golden``.

Everything in it is fixed, so that it always gives the same bytes. The file it once wrote is kept:
every later reader must read it to the same values.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Final

from trackway.backend.file.format import (
    Header,
    Keyset,
    big_integer,
    encode_event,
    encode_header,
    encode_keyset,
    encode_row,
    frame,
)

GOLDEN: Final = Path(__file__).with_name("version-1.log")

T: Final = 1_800_000_000.0
ODD_NAN: Final = struct.unpack("<d", bytes.fromhex("010000000000f87f"))[0]
DENORMAL: Final = 5e-324
HEADER: Final = Header(
    run="calm-otter-1",
    project="digits",
    writer="node-7.4711.1800000000000.0a1b2c3d",
    generation="000102030405060708090a0b0c0d0e0f",
    role="train",
    attempt=1,
    host="node-7",
    pid=4711,
    process_started=T - 1.5,
    created=T,
    software="trackway 0.1.0",
    extra={"rank": 0},
)
NAMES: Final = ("train/loss", "épreuve 🦦\n", "", "layer 1/weight.norm")
KEYSETS: Final = (
    Keyset(0, NAMES, "ffib"),
    Keyset(1, (), ""),
    Keyset(2, ("cpu.percent",), "f", "system"),
    Keyset(4_294_967_295, tuple(f"n{index}" for index in range(300)), "f" * 300),
)


def golden() -> bytes:
    """The bytes of the golden log."""
    first, empty, system, wide = KEYSETS
    inf = float("inf")
    return b"".join(
        [
            encode_header(HEADER),
            encode_event("run", T, {"set": {"name": "calm otter", "tags": ["a", "ü"]}}),
            encode_event("config", T + 0.5, {"set": [[["lr"], 0.001], [["n"], 3]], "del": []}),
            encode_row(0, -1, T, [0.5, 1.5, 2.0, 1.0]),  # before its declaration
            encode_keyset(first) * 2,
            *(encode_row(0, step, T + step, [step / 8, -0.0, step, step % 2]) for step in range(9)),
            encode_row(0, 2**63 - 1, T + 9, [inf, -inf, 2.0**53, 0.0]),
            encode_row(0, -(2**63), T + 10, [ODD_NAN, DENORMAL, -(2.0**53), 1.0]),
            encode_keyset(empty) * 2,
            encode_row(1, 7, T + 11, []),
            encode_keyset(system) * 2,
            encode_row(2, 0, T + 12, [99.5]),
            encode_row(0, 7, T + 11, [7.0, 7.25, 7.0, 0.0]),
            encode_keyset(wide) * 2,
            encode_row(wide.id, 8, T + 13, [index / 4 for index in range(300)]),
            encode_event(
                "value",
                T + 14,
                {
                    "step": 8,
                    "data": {
                        "big": big_integer(2**64),
                        "negative": big_integer(-(10**30)),
                        "u64": 2**64 - 1,
                        "text": "line\nline",
                        "list": [1, 2.5, None, True],
                    },
                },
            ),
            frame(b"\x05 a kind of later"),
            encode_event("of a later version", T + 15, {"bytes": b"\x00\xff", "nested": {"": {}}}),
            encode_event("end", T + 16, {"state": "finished", "exit_code": 0, "next_step": 9}),
        ]
    )


if __name__ == "__main__":
    GOLDEN.write_bytes(golden())
