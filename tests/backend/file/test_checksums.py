"""One checksum for many: it holds exactly when each of them does."""

from __future__ import annotations

from zlib import crc32

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trackway.backend.file._checksums import all_hold


def rows_of(count: int, length: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Random rows with their checksums."""
    rows = np.random.default_rng(seed).integers(0, 256, (count, length), np.uint8)
    return rows, np.array([crc32(row.tobytes()) for row in rows], np.uint32)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 255, 1000])
@pytest.mark.parametrize("length", [1, 2, 21, 29, 101])
def test_checksums_that_hold_are_found_to(count: int, length: int) -> None:
    """For any number of rows of any length."""
    rows, sums = rows_of(count, length, 1)
    assert all_hold(rows, sums)


@settings(deadline=None)
@given(
    count=st.integers(1, 300),
    length=st.integers(1, 60),
    places=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 7)), min_size=1, max_size=4),
)
def test_any_changed_bit_is_found(count: int, length: int, places: list[tuple[int, int]]) -> None:
    """Whether in a row or in a checksum; unless the changes take each other back."""
    rows, sums = rows_of(count, length, 2)
    before = rows.copy(), sums.copy()
    stored = sums.view(np.uint8)
    for place, bit in places:
        at = place % (rows.size + stored.size)
        if at < rows.size:
            rows.reshape(-1)[at] ^= 1 << bit
        else:
            stored[at - rows.size] ^= 1 << bit
    same = (rows == before[0]).all() and (sums == before[1]).all()
    assert all_hold(rows, sums) == same


def test_equal_damage_in_several_rows_is_found() -> None:
    """Rows that were exchanged, zeroed with their checksums, or hit by the same error."""
    rows, sums = rows_of(64, 29, 3)
    for first, second in ((3, 4), (0, 63), (10, 42)):
        changed = rows.copy()
        changed[[first, second]] ^= 0x10
        assert not all_hold(changed, sums)
        changed = rows.copy()
        changed[[first, second]] = changed[[second, first]]
        assert not all_hold(changed, sums)
        zeroed, none = rows.copy(), sums.copy()
        zeroed[[first, second]], none[[first, second]] = 0, 0
        assert not all_hold(zeroed, none)


def test_no_rows_hold() -> None:
    """Nothing is in order."""
    assert all_hold(np.empty((0, 9), np.uint8), np.empty(0, np.uint32))
