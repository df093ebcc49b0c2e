"""Every engine of the index keeps the promises of the contract."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random

import pytest

from trackway.backend.index._testing_random import play
from trackway.backend.index.contract import IndexStore
from trackway.backend.index.memory import MemoryStore
from trackway.backend.index.sqlite import SqliteStore
from trackway.backend.index.testing import IndexStoreContract


class TestMemory(IndexStoreContract):
    """The reference."""

    @pytest.fixture
    def reopen(self) -> None:
        """What is in memory ends with its object."""
        return

    @pytest.fixture
    def store(self) -> MemoryStore:
        """An empty store."""
        return MemoryStore()


class TestSqlite(IndexStoreContract):
    """The embedded engine."""

    SHARED = True

    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Callable[[], IndexStore]:
        """Opens a store at the place of the test."""
        return partial(SqliteStore, tmp_path / "index.db")

    @pytest.fixture
    def store(self, reopen: Callable[[], IndexStore]) -> Iterator[IndexStore]:
        """An empty store."""
        store = reopen()
        yield store
        store.close()

    @pytest.mark.parametrize("seed", range(1, 7))
    def test_other_histories(self, store: IndexStore, seed: int) -> None:
        """Other random histories end like the reference, too."""
        play(Random(seed), store, MemoryStore(), 60)


@pytest.mark.parametrize("engine", ["memory", "sqlite"])
def test_blocks_do_not_nest(engine: str, tmp_path: Path) -> None:
    """A second block of one thread is refused, and the first goes on."""
    store = MemoryStore() if engine == "memory" else SqliteStore(tmp_path / "index.db")
    with store.read() as reading:
        with pytest.raises(RuntimeError, match="do not nest"), store.read():
            pass
        with pytest.raises(RuntimeError, match="do not nest"), store.write():
            pass
        assert reading.runs() == {}
    store.close()
