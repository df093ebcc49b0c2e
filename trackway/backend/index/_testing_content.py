"""The part of the contract suite that is about what is stored: exactness, order, removal."""

from __future__ import annotations

import struct
from random import Random
from typing import Any, Final

from trackway.backend.index._testing_random import (
    NAN,
    a_chunk,
    exact,
    fill,
    given,
    revision_now,
    view,
    view_now,
)
from trackway.backend.index.contract import EventRow, Head, IndexStore, LogLine, RunRef

__all__ = ["ContentContract"]

MANY: Final = 10_000
NAMES: Final = (
    *("", "a", "A", "é", "e\u0301", "🦊", "line\nbreak", "nul\0l", "nul\0m", "nul", "%_*?[x]"),
    *("lone \udc80", "'; DROP TABLE run; --", "[1, 2]", " a", "a ", "x" * 5000),
)
INF: Final = float("inf")
QUIET: Final = struct.unpack("<d", bytes.fromhex("010203040506f8ff"))[0]
WHOLE: Final = (0, 1, -1, 2**31, 2**63 - 1, -(2**63), 2**63, 2**64, -(2**70), 10**4400)
REALS: Final = (0.0, -0.0, 1.0, 1e300, 5e-324, 0.1, NAN, QUIET, INF, -INF, float(2**60))


def any_head(random: Random, whole: tuple[int, ...]) -> Head:
    """A head of values that no points have, among them those that are hard to store."""
    values: list[Any] = [random.choice((1, 100, 2**31, 2**40)), random.choice((0, 3)), 0]
    values += random.choices(REALS, k=5) + random.choices(whole, k=2)
    values += random.choices(REALS, k=2) + random.choices(whole, k=2)
    types = random.choice(("f", "i", "b", "o", "fi", "bfio", "", "xé"))
    values += [random.random() < 0.5, types]
    return Head(*values)


class ContentContract:
    """Promises of ``contract`` about lists, names, numbers and bytes."""

    # -- exactness ---------------------------------------------------------------------------------

    def test_heads_are_exact(self, store: IndexStore) -> None:
        """NaN with its payload, both zeros, infinities and integers of any size come back."""
        random = Random(5)
        heads = [any_head(random, WHOLE[: 3 + i % 8]) for i in range(300)]
        with store.write() as writing:
            run, log, (key,) = given(writing)
            writing.add_chunks(a_chunk(run, log, key, i, head=h) for i, h in enumerate(heads))
        with store.read() as reading:
            chunks = reading.chunks([run], [key])
            assert [exact(c.head) for c in chunks] == [exact(head) for head in heads]
            assert [exact(c.head) for c in reading.log_chunks(log)] == [exact(h) for h in heads]

    def test_names_are_exact(self, store: IndexStore) -> None:
        """Any text is a name, and no two texts are the same one."""
        with store.write() as writing:
            runs = [writing.add_run(RunRef(name, name[::-1])) for name in NAMES]
            logs = [writing.add_log(1, name) for name in NAMES]
            keys = writing.key_numbers([("metric", name) for name in NAMES])
            writing.add_events(EventRow(1, i, 1, n, 0.5, b"") for i, n in enumerate(NAMES))
            writing.put_blobs({name: name.encode("utf-16", "surrogatepass") for name in NAMES})
            assert [writing.add_run(RunRef(name, name[::-1])) for name in NAMES] == runs
            assert writing.key_numbers([("metric", name) for name in NAMES]) == keys
        assert runs == logs == keys == list(range(1, len(NAMES) + 1))
        with store.read() as reading:
            expected = [RunRef(name, name[::-1]) for name in NAMES]
            assert reading.runs() == dict(zip(runs, expected, strict=True))
            assert [line.name for line in reading.logs([1])] == list(NAMES)
            assert [key.name for key in reading.keys("metric")] == list(NAMES)
            assert [event.type for event in reading.events([1])] == list(NAMES)
            for i, name in enumerate(NAMES):
                assert [e.offset for e in reading.events([1], [name])] == [i]
                data = name.encode("utf-16", "surrogatepass")
                assert reading.blobs([name, name + "?"]) == {name: data}

    def test_bytes_are_exact(self, store: IndexStore) -> None:
        """Bytes come back as they were put, none at all and a few megabytes among them."""
        for data in (b"", b"\0", bytes(range(256)), b"text", bytes(3_000_000)):
            with store.write() as writing:
                run, log, (key,) = given(writing)
                writing.clear_log(log)
                axis = writing.add_axis(log, data, data[::-1])
                writing.add_chunks([a_chunk(run, log, key, 0, data=data, cells=data)])
                writing.put_state(log, data)
                writing.put_document(run, data)
                writing.put_blobs({"b": data})
                writing.add_events([EventRow(log, 0, 9, "x", 1.5, data)])
            with store.read() as reading:
                (chunk,) = reading.chunks([run], [key], cells=True)
                assert (chunk.data, chunk.cells) == (data, data)
                assert reading.chunk_data([chunk.chunk]) == {chunk.chunk: data}
                assert reading.axes([axis])[axis][1:] == (log, data, data[::-1])
                assert reading.states([log]) == {log: data}
                assert [d.data for d in reading.documents()] == [data]
                assert reading.blobs(["b"]) == {"b": data}
                assert [e.body for e in reading.events([run])] == [data]

    def test_log_lines_are_exact(self, store: IndexStore) -> None:
        """Inodes of 64 bits and times of other centuries come back."""
        with store.write() as writing:
            run, log, _ = given(writing)
            for mtime in (0, 1, -1, 1_700_000_000_123_456_789, -(10**19), 2 * 10**19):
                line = LogLine(log, run, "a.log", 2**64 - 1, 2**50, mtime, 2**50 - 1)
                writing.put_logs([line._replace(run=99, name="other"), line._replace(log=99)])
                writing.put_folder(run, mtime)
                assert writing.logs() == [line]
                assert writing.folders() == {run: mtime}

    def test_event_times_are_exact(self, store: IndexStore) -> None:
        """Any time comes back, and an event without its body is not one with an empty body."""
        with store.write() as writing:
            run, log, _ = given(writing)
            rows = [EventRow(log, i, 2**40, "t", real, None) for i, real in enumerate(REALS)]
            writing.add_events(rows)
            found = writing.events([run])
        assert [struct.pack("<d", e.time) for e in found] == [struct.pack("<d", r) for r in REALS]
        assert {e.body for e in found} == {None}

    # -- what a list holds, and its order ----------------------------------------------------------

    def test_chunks_are_ordered(self, store: IndexStore) -> None:
        """Chunks come by (run, key, log, seq), in whatever order they were added or asked for."""
        random = Random(1)
        with store.write() as writing:
            places = []
            for name in "ab":
                run, log, keys = given(writing, name, keys=("x", "y", "z"))
                logs = (log, writing.add_log(run, "second"))
                places += [(run, k, at, s) for k in keys for at in logs for s in (-3, 0, 7, 2**40)]
            random.shuffle(places)
            writing.add_chunks(a_chunk(r, at, k, s) for r, k, at, s in places)
        with store.read() as reading:
            chunks = reading.chunks([2, 1, 2, 77], [3, 1, 3, -1, 2**80])
            found = [(c.run, c.key, c.log, c.seq) for c in chunks]
            assert found == sorted(p for p in places if p[1] != 2)
            assert all(c.data == f"{c.run}/{c.log}/{c.key}/{c.seq}".encode() for c in chunks)
            pairs = [(c.key, c.seq) for c in reading.log_chunks(2)]
            assert pairs == sorted((k, s) for _, k, at, s in places if at == 2)
            assert [c.key for c in reading.log_chunks(2, [3, 1])] == [1] * 4 + [3] * 4
            bare = reading.chunks([1], [1], data=False)
            assert [(c.data, c.cells) for c in bare] == [(None, None)] * 8
            assert reading.chunks([], [1]) == reading.chunks([1], []) == []

    def test_logs_are_ordered(self, store: IndexStore) -> None:
        """Logs come by (run, log)."""
        with store.write() as writing:
            a, b = (writing.add_run(RunRef("p", x)) for x in "ab")
            for run, name in ((b, "z"), (a, "y"), (b, "x"), (a, "w")):
                writing.add_log(run, name)
            assert [(x.run, x.log) for x in writing.logs()] == [(1, 2), (1, 4), (2, 1), (2, 3)]
            assert [x.name for x in writing.logs([b, 9])] == ["z", "x"]
            assert writing.logs([]) == []

    def test_events_are_ordered_and_replaced(self, store: IndexStore) -> None:
        """Events come by (run, log, offset); the last one put at a place is the one there."""
        with store.write() as writing:
            first, second = (given(writing, x) for x in "ab")
            log = writing.add_log(first[0], "late")
            for where in (second[1], log, first[1]):
                rows = [(30, "b"), (10, "a"), (20, "a"), (10, "c")]
                writing.add_events(EventRow(where, at, 5, t, 1.0, b"") for at, t in rows)
        with store.read() as reading:
            found = [(e.log, e.offset, e.type) for e in reading.events([2, 1, 5])]
            expected = [
                (n, at, t) for n in (1, 3, 2) for at, t in ((10, "c"), (20, "a"), (30, "b"))
            ]
            assert found == expected
            pairs = [(e.log, e.offset) for e in reading.events([1, 2], ["c", "a", "none"])]
            assert pairs == [(n, at) for n in (1, 3, 2) for at in (10, 20)]
            assert reading.events([1], []) == []

    def test_keys_of_is_exact(self, store: IndexStore) -> None:
        """A run has the keys that it has chunks of: neither more, nor of another space."""
        with store.write() as writing:
            run, log, keys = given(writing, keys=("a", "b", "c"))
            other, other_log, _ = given(writing, "other")
            (system,) = writing.key_numbers([("system", "a")])
            placed = [(k, seq) for k in (*keys[::-1], system) for seq in (0, 1)]
            writing.add_chunks(a_chunk(run, log, k, seq) for k, seq in placed)
            writing.add_chunks([a_chunk(other, other_log, keys[1], 0)])
            both = {run: keys, other: [keys[1]]}
            assert writing.keys_of([other, run, 9], "metric") == both
            assert writing.keys_of([other, run], "system") == {run: [system]}
            assert writing.keys_of([run], "none") == {}
            half = [c.chunk for c in writing.chunks([run], keys[:2]) if (c.key, c.seq) != (1, 1)]
            writing.remove_chunks([*half, *half, 10**6])
            assert writing.keys_of([run], "metric") == {run: [keys[0], keys[2]]}
            writing.clear_log(log)
            assert writing.keys_of([run, other], "metric") == {other: [keys[1]]}
            assert [k.name for k in writing.keys(None)] == ["a", "b", "c", "k", "a"]

    def test_documents_since(self, store: IndexStore) -> None:
        """A document's revision is that of the commit that put it last."""
        revisions = [revision_now(store)]
        for put in ((2, 1), (3,), (), (1,)):
            with store.write() as writing:
                for run in put:
                    given(writing, "a"), given(writing, "b"), given(writing, "c")
                    writing.put_document(run, bytes([run, len(revisions)]))
                writing.put_blobs({"x": b"y"})
            revisions.append(revision_now(store))
        with store.read() as reading:
            found = [(d.run, d.revision, d.data[1]) for d in reading.documents()]
            assert found == [(1, revisions[4], 4), (2, revisions[1], 1), (3, revisions[2], 2)]
            for i, runs in enumerate(([1, 2, 3], [1, 3], [1], [1], [])):
                assert [d.run for d in reading.documents(since=revisions[i])] == runs
            assert [d.run for d in reading.documents([3, 2, 9])] == [2, 3]
            assert [d.run for d in reading.documents([3, 2], since=revisions[1])] == [3]
            assert reading.documents([]) == []

    def test_ten_thousand_in_one_call(self, store: IndexStore) -> None:
        """Every list of numbers or names may be ten thousand long, with unknown ones among them."""
        with store.write() as writing:
            runs = [writing.add_run(RunRef("p", str(i))) for i in range(200)]
            keys = writing.key_numbers([("metric", str(i)) for i in range(50)])
            logs = [writing.add_log(run, "a") for run in runs]
            writing.add_chunks(
                a_chunk(r, at, k, 0) for r, at in zip(runs, logs, strict=True) for k in keys
            )
            axes = [writing.add_axis(log, b"s", b"t") for log in logs]
            writing.add_events(EventRow(log, 0, 1, "t", 1.0, b"") for log in logs)
            writing.put_blobs({str(i): b"" for i in range(MANY)})
            for log in logs:
                writing.put_state(log, b"s")
                writing.put_document(log, b"d")
        many = range(-5, MANY + 5)
        with store.read() as reading:
            assert len(reading.chunks(many, many)) == MANY
            assert len(reading.chunks(many, [7])) == 200
            assert len(reading.chunk_data(many)) == MANY
            assert len(reading.log_chunks(5, many)) == 50
            assert len(reading.keys_of(many, "metric")) == 200
            for found in (reading.axes(many), reading.states(many), reading.logs(many)):
                assert len(found) == len(axes)
            assert len(reading.events(many, [*map(str, many), "t"])) == 200
            assert len(reading.documents(many)) == 200
            assert len(reading.blobs([*map(str, many)])) == MANY
        with store.write() as writing:
            writing.remove_chunks(many)
            writing.put_blobs({str(i): None for i in many})
            assert (writing.chunks(many, many), writing.blobs([*map(str, many)])) == ([], {})

    # -- removing ----------------------------------------------------------------------------------

    def test_removing_takes_all_of_it_and_nothing_else(self, store: IndexStore) -> None:
        """A run, a log, a log's content: gone with all that belongs to it, the rest untouched."""
        fill(store, "a")
        kept = view_now(store)
        fill(store, "b")
        with store.write() as writing:
            writing.remove_run(2)
            writing.remove_run(2)
            writing.remove_run(99)
            seen = view(writing)
            for view_of in (seen, kept):
                del view_of["keys"], view_of["spaces"]
            assert seen == kept
            lines = writing.logs([1])
            writing.clear_log(lines[0].log)
            writing.clear_log(99)
            assert writing.logs([1]) == [lines[0]._replace(offset=0), *lines[1:]]
            assert writing.log_chunks(lines[0].log) == []
            assert [e for e in writing.events([1]) if e.log == lines[0].log] == []
            assert sorted(writing.states([1, 2])) == [lines[1].log]
            assert {axis.log for axis in writing.axes(range(99)).values()} == {lines[1].log}
            assert {c.log for c in writing.chunks([1], range(99))} == {lines[1].log}
            writing.remove_log(lines[1].log)
            writing.remove_log(99)
            assert [line.log for line in writing.logs()] == [lines[0].log]
            assert (writing.chunks([1], range(99)), writing.axes(range(99))) == ([], {})
            assert [d.run for d in writing.documents()] == [1]

    def test_sweeping_keeps_the_axes_in_use(self, store: IndexStore) -> None:
        """Only the axes of that log that no chunk of it uses are removed."""
        with store.write() as writing:
            run, log, (key,) = given(writing)
            other = writing.add_log(run, "other")
            axes = [writing.add_axis(at, b"", b"") for at in (log, log, log, other)]
            writing.add_chunks(
                a_chunk(run, log, key, i, axis=a) for i, a in enumerate((axes[1], axes[1], axes[2]))
            )
            writing.sweep_axes(log)
            assert sorted(writing.axes(axes)) == axes[1:]
            writing.remove_chunks([3])
            writing.sweep_axes(99)
            writing.sweep_axes(log)
            assert sorted(writing.axes(axes)) == [axes[1], axes[3]]
