"""What every engine of the index has to pass: one suite, for ours and for anybody's.

An engine's tests subclass ``IndexStoreContract`` and give two pytest fixtures::

    class TestMyStore(IndexStoreContract):
        @pytest.fixture
        def reopen(self, tmp_path):                 # None where the engine keeps nothing
            return functools.partial(MyStore, tmp_path / "place")

        @pytest.fixture
        def store(self, reopen):
            store = reopen()
            yield store
            store.close()

``reopen`` opens another store at the place of ``store``. Where the engine is shared between
processes, it is called in other processes too (so it must be picklable) and ``SHARED`` is True.
"""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import ClassVar, TypeAlias

from trackway.backend.index._testing_content import ContentContract
from trackway.backend.index._testing_random import (
    Undone,
    a_chunk,
    changes,
    fill,
    fill_more,
    given,
    in_thread,
    play,
    revision_now,
    view,
    view_now,
    view_of_nothing,
)
from trackway.backend.index.contract import IndexStore, RunRef
from trackway.backend.index.memory import MemoryStore

__all__ = ["IndexStoreContract"]

Reopen: TypeAlias = "Callable[[], IndexStore] | None"


def commit_in_another_process(reopen: Callable[[], IndexStore], project: str) -> None:
    """Add a run from elsewhere."""
    store = reopen()
    with store.write() as writing:
        writing.add_run(RunRef(project, "elsewhere"))
    store.close()


class IndexStoreContract(ContentContract):
    """The promises of ``contract``, one by one."""

    SHARED: ClassVar[bool] = False
    ROUNDS: ClassVar[int] = 150
    """Transactions of the random history."""

    SEED: ClassVar[int] = 0

    # -- numbers -----------------------------------------------------------------------------------

    def test_new_store_is_empty_and_of_revision_0(self, store: IndexStore) -> None:
        """A new store holds nothing."""
        with store.read() as reading:
            assert reading.revision() == 0
            assert view(reading) == view_of_nothing()

    def test_numbers_begin_at_1_and_are_given_once(self, store: IndexStore) -> None:
        """Each kind is numbered from 1 upwards; who is there already keeps its number."""
        with store.write() as writing:
            assert [writing.add_run(RunRef("p", x)) for x in "abab"] == [1, 2, 1, 2]
            assert writing.add_run(RunRef("q", "a")) == 3
            assert [writing.add_log(1, x) for x in ("x", "y", "x")] == [1, 2, 1]
            assert writing.add_log(2, "x") == 3
            pairs = [("metric", "k"), ("system", "k"), ("metric", "l"), ("metric", "k")]
            assert writing.key_numbers(pairs) == [1, 2, 3, 1]
            assert [writing.add_axis(1, b"", b"") for _ in range(3)] == [1, 2, 3]
            writing.add_chunks([a_chunk(1, 1, 1, 0), a_chunk(1, 1, 1, 1)])
            assert [c.chunk for c in writing.chunks([1], [1])] == [1, 2]

    def test_numbers_are_never_used_again(self, store: IndexStore, reopen: Reopen) -> None:
        """What is removed leaves its number unused, also after the store was opened anew."""
        with store.write() as writing:
            run, log, (key,) = given(writing)
            writing.add_axis(log, b"s", b"t")
            writing.add_chunks([a_chunk(run, log, key, 0)])
        with store.write() as writing:
            writing.remove_run(run)
        again = reopen() if reopen else store
        with again.write() as writing:
            assert given(writing) == (2, 2, [1])
            assert writing.add_axis(2, b"", b"") == 2
            writing.add_chunks([a_chunk(2, 2, 1, 0)])
            assert [c.chunk for c in writing.chunks([2], [1])] == [2]
            writing.remove_chunks([2])
            writing.add_chunks([a_chunk(2, 2, 1, 0)])
            assert [c.chunk for c in writing.log_chunks(2)] == [3]
        again.close()

    def test_key_numbers_of_many(self, store: IndexStore) -> None:
        """Ten thousand keys are numbered in the order they are given, old ones found again."""
        names = [("metric", f"k{i}") for i in range(10_000)]
        with store.write() as writing:
            assert writing.key_numbers(names[5:7]) == [1, 2]
            numbers = writing.key_numbers(names)
            assert numbers == [3, 4, 5, 6, 7, 1, 2, *range(8, 10_001)]
            assert writing.key_numbers([]) == []
            assert [k.key for k in writing.keys("metric")] == list(range(1, 10_001))

    # -- transactions ------------------------------------------------------------------------------

    def test_writer_reads_its_own_changes(self, store: IndexStore) -> None:
        """Within write() all that was changed is seen; before the commit nobody else sees it."""
        with store.write() as writing:
            run, log, (key,) = given(writing)
            writing.put_folder(run, 7)
            writing.add_chunks([a_chunk(run, log, key, 0)])
            writing.put_document(run, b"d")
            writing.put_blobs({"b": b"x"})
            inside = view(writing)
            assert in_thread(lambda: view_now(store)) == view_of_nothing()
        assert view_now(store) == inside

    def test_raising_block_changes_nothing(self, store: IndexStore) -> None:
        """A block that raises leaves no trace, and the store goes on working."""
        fill(store)
        before, revision = view_now(store), revision_now(store)
        for error in (Undone, KeyboardInterrupt, GeneratorExit):
            with suppress(error), store.write() as writing:
                fill_more(writing)
                raise error
            assert (view_now(store), revision_now(store)) == (before, revision)
        with store.write() as writing:
            fill_more(writing)
        assert view_now(store) != before

    def test_revision_rises_with_each_change(self, store: IndexStore) -> None:
        """Each transaction that changed something has a higher revision than the one before."""
        seen = [revision_now(store)]
        for change in changes():
            with store.write() as writing:
                change(writing)
            seen.append(revision_now(store))
        assert seen == sorted(set(seen))
        with store.read() as reading:
            reading.runs()
        assert revision_now(store) == seen[-1]

    def test_reader_keeps_its_state(self, store: IndexStore) -> None:
        """What is read in one block is one state, while another thread commits many."""
        fill(store)
        with store.read() as reading:
            before = view(reading)
            for i in range(3):
                in_thread(lambda: fill(store, f"other {i}"))  # noqa: B023
                assert view(reading) == before
        assert view_now(store) != before

    def test_block_begins_with_what_was_committed(self, store: IndexStore) -> None:
        """The state is that of the block's beginning, also where the first question comes later."""
        with store.read() as reading:
            in_thread(lambda: fill(store))
            assert view(reading) == view_of_nothing()

    def test_snapshots_agree_under_a_busy_writer(self, store: IndexStore) -> None:
        """A reader never sees half of a transaction, however often it looks."""
        with store.write() as writing:
            run, log, keys = given(writing, keys=("a", "b"))
        done = threading.Event()

        def write() -> None:
            for seq in range(60):
                with store.write() as writing:
                    writing.add_chunks([a_chunk(run, log, keys[0], seq)])
                    writing.add_chunks([a_chunk(run, log, keys[1], seq)])
                    writing.put_document(run, str(seq).encode())
            done.set()

        thread = threading.Thread(target=write)
        thread.start()
        looked = 0
        while not done.is_set() or not looked:
            with store.read() as reading:
                a = len(reading.chunks([run], [keys[0]]))
                found = [int(d.data) + 1 for d in reading.documents()] or [0]
                assert (found[0], len(reading.chunks([run], [keys[1]]))) == (a, a)
            looked += 1
        thread.join()

    def test_writers_take_turns(self, store: IndexStore) -> None:
        """Four threads that write at once lose nothing, and no number is given twice."""

        def write(name: int) -> None:
            for i in range(10):
                with store.write() as writing:
                    writing.add_run(RunRef(str(name), str(i)))

        threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with store.read() as reading:
            runs = reading.runs()
        assert sorted(runs) == list(range(1, 41))
        assert set(runs.values()) == {RunRef(str(n), str(i)) for n in range(4) for i in range(10)}

    def test_another_process_commits(self, store: IndexStore, reopen: Reopen) -> None:
        """What another process commits is seen by the next block, and not by one that is open."""
        if not self.SHARED or reopen is None:
            return
        context = multiprocessing.get_context("spawn")
        with store.read() as reading:
            process = context.Process(target=commit_in_another_process, args=(reopen, "p"))
            process.start()
            process.join()
            assert process.exitcode == 0
            assert (reading.runs(), reading.revision()) == ({}, 0)
        with store.read() as reading:
            assert reading.runs() == {1: RunRef("p", "elsewhere")}

    def test_everything_outlives_the_object(self, store: IndexStore, reopen: Reopen) -> None:
        """A store opened anew holds what was committed; closing twice does nothing."""
        if reopen is None:
            return
        fill(store)
        before, revision = view_now(store), revision_now(store)
        store.close()
        store.close()
        again = reopen()
        assert (view_now(again), revision_now(again)) == (before, revision)
        again.close()

    # -- everything at once ------------------------------------------------------------------------

    def test_random_history_ends_like_the_reference(self, store: IndexStore) -> None:
        """A random history leaves what it leaves in memory, after each of its transactions."""
        play(Random(self.SEED), store, MemoryStore(), self.ROUNDS)
