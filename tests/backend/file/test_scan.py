from __future__ import annotations

import random
import struct
import time
import tracemalloc
from collections.abc import Callable

import pytest

from trackway.backend.file.format import MAX_PAYLOAD, encode_row, frame
from trackway.backend.file.scan import Damage, Scan, scan

MIB = 1 << 20
SAFETY_S = 20.0
"""Every scan here takes seconds at most; a scan that is not linear would take hours."""


def frames_of(found: Scan) -> list[tuple[int, int]]:
    """Start and length of each frame."""
    return list(zip(found.starts.tolist(), found.lengths.tolist(), strict=True))


@pytest.mark.parametrize("size", range(8))
def test_less_than_a_head_is_waited_for(size: int) -> None:
    """Nothing is judged of fewer than 8 bytes."""
    found = scan(bytes(size))
    assert (frames_of(found), found.damage, found.end) == ([], [], 0)


def test_bytes_bytearray_and_memoryview_are_alike() -> None:
    """Whatever holds the bytes."""
    data = frame(b"\x05a") + frame(b"\x05bc")
    for kind in (bytes, bytearray, memoryview):
        assert frames_of(scan(kind(data))) == [(0, 2), (10, 3)]


def test_an_unfinished_frame_is_waited_for() -> None:
    """Its start is where the next scan begins; it is no damage."""
    data = frame(b"\x05a") + frame(b"\x05" * 100)[:-1]
    found = scan(data)
    assert (frames_of(found), found.damage, found.end) == ([(0, 2)], [], 10)


def test_a_frame_that_was_cut_and_followed_is_damage() -> None:
    """Its writer died and another went on: the gap is reported, what follows is found."""
    torn = frame(b"\x05" * 100)[:60]
    found = scan(frame(b"\x05a") + torn + frame(b"\x05b"))
    assert (frames_of(found), found.damage, found.end) == ([(0, 2), (70, 2)], [Damage(10, 60)], 80)


@pytest.mark.parametrize("head", [struct.pack("<II", 0, 0), struct.pack("<II", MAX_PAYLOAD + 1, 0)])
def test_an_impossible_length_is_damage_once_a_frame_follows(head: bytes) -> None:
    """Until then nobody knows how long it is."""
    before, after = frame(b"\x05a"), frame(b"\x05b")
    found = scan(before + head)
    assert (frames_of(found), found.damage, found.end) == ([(0, 2)], [], 10)
    found = scan(before + head + after)
    assert (frames_of(found), found.damage) == ([(0, 2), (18, 2)], [Damage(10, 8)])


@pytest.mark.parametrize("count", [1, 2, 3, 63, 64, 65, 66, 67, 578, 579, 4700])
@pytest.mark.parametrize("cut", [0, 1, 28])
def test_a_run_of_rows_is_found_whole(count: int, cut: int) -> None:
    """Shorter and longer than the looks it is checked in, its last row whole or not."""
    data = b"".join(encode_row(4, step, 0.5, [1.0, 2.0]) for step in range(count))
    stride = len(data) // count
    found = scan(data[: len(data) - cut])
    whole = count if cut == 0 else count - 1
    assert frames_of(found) == [(index * stride, stride - 8) for index in range(whole)]
    assert (found.damage, found.end) == ([], whole * stride)


@pytest.mark.parametrize("bad", [0, 1, 2, 3, 66, 67, 500, 998, 999])
@pytest.mark.parametrize("byte", [0, 4, 8, 9, 40])
def test_a_bad_row_ends_a_run_and_another_begins(bad: int, byte: int) -> None:
    """Length, checksum, kind, keyset or value: the rows around it are found."""
    data = bytearray(b"".join(encode_row(4, step, 0.5, [1.0, 2.0]) for step in range(1000)))
    stride = len(data) // 1000
    data[bad * stride + byte] ^= 0x41
    found = scan(data)
    whole = [(index * stride, stride - 8) for index in range(1000) if index != bad]
    assert frames_of(found) == whole
    if bad < 999:
        assert (found.damage, found.end) == ([Damage(bad * stride, stride)], len(data))
    else:
        assert (found.damage, found.end) == ([], 999 * stride)


def test_rows_with_no_values_or_less_are_frames_like_others() -> None:
    """A row may hold no value; one too short for a row is still a sound frame."""
    data = encode_row(0, 0, 0.0, []) * 70 + frame(b"\x03short") * 3
    found = scan(data)
    assert len(found.starts) == 73
    assert (found.damage, found.end) == ([], len(data))


def test_a_frame_of_the_largest_size_is_found_behind_damage() -> None:
    """4 MiB within what was passed over."""
    largest = frame(b"\x05" * MAX_PAYLOAD)
    found = scan(b"\xff" * 100 + largest + frame(b"\x05a"))
    assert frames_of(found) == [(100, MAX_PAYLOAD), (100 + len(largest), 2)]
    assert found.damage == [Damage(0, 100)]


def test_garbage_longer_than_a_frame_is_passed_over() -> None:
    """All of it that cannot begin a frame still to come is damage at once."""
    size = 3 * MAX_PAYLOAD
    found = scan(frame(b"\x05a") + b"\xff" * size)
    judged = 10 + size - 8 - MAX_PAYLOAD
    assert (frames_of(found), found.damage) == ([(0, 2)], [Damage(10, judged - 10)])
    assert found.end == judged


# -- what is made to be expensive ------------------------------------------------------------------


def _damaged_rows() -> bytes:
    sound = encode_row(0, 1, 2.0, [1.0])
    broken = bytearray(sound)
    broken[-1] ^= 1
    return (sound + bytes(broken)) * (MIB // 4 // len(sound))


HOSTILE: dict[str, Callable[[], bytes]] = {
    "random bytes": lambda: random.Random(7).randbytes(5 * MIB),
    "zeros": lambda: bytes(5 * MIB),
    "ones": lambda: b"\xff" * (5 * MIB),
    "a long frame every 9 bytes": lambda: (
        struct.pack("<IIB", MAX_PAYLOAD // 2, 0, 3) * (8 * MIB // 9)
    ),
    "a short frame every 4 bytes": lambda: b"\x01\x01\x00\x00" * (MIB // 4),
    "a long frame every 4 bytes": lambda: b"\x0f\x0f\x0f\x00" * (MIB // 4),
    "long frames between sound ones": lambda: (
        (struct.pack("<IIB", MAX_PAYLOAD - 5, 0, 3) + frame(b"\x05x")) * (MIB // 8 // 19)
        + bytes(8 * MIB)
    ),
    "every second row broken": _damaged_rows,
    "rows in pairs": lambda: b"".join(
        encode_row(index // 2 % 2, index, 0.0, [1.0]) for index in range(MIB // 4 // 37)
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_any_bytes_are_scanned_in_linear_time(name: str) -> None:
    """Bytes made to look like thousands of frames cost little more than any others."""
    data = HOSTILE[name]()
    started = time.perf_counter()
    found = scan(data)
    assert time.perf_counter() - started < SAFETY_S
    assert found.end >= len(data) - 8 - MAX_PAYLOAD
    judged = sum(length + 8 for _, length in frames_of(found)) + sum(d.size for d in found.damage)
    assert judged == found.end


def test_memory_is_bounded_by_the_size_of_the_stretch() -> None:
    """No copy of the bytes is made for each look at them."""
    data = b"\xff" * (16 * MIB) + HOSTILE["a short frame every 4 bytes"]()[: MIB // 16]
    tracemalloc.start()
    try:
        scan(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * MIB


def test_the_sound_frames_among_hostile_ones_are_found() -> None:
    """A frame between bytes that only look like frames is not lost by the bound on work."""
    fake = struct.pack("<IIB", MAX_PAYLOAD - 5, 0, 3)
    sound = frame(b"\x05x")
    found = scan((fake + sound) * 2000 + bytes(8 * MIB))
    assert [start for start, _ in frames_of(found)] == list(range(9, 19 * 2000, 19))
