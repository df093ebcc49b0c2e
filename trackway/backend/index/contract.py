"""What an engine of the index promises: the one contract of memory, SQLite and any other store.

The index is a disposable copy of what the logs of a root say, in a shape that answers questions
quickly. It holds nothing that the logs do not: whoever deletes it loses time, no data. So an
engine needs no durability, only consistency: what is read is some committed state, whole.

**Numbers.** Runs, logs, keys, axes and chunks are numbered by the store from 1 upwards; a number
that was used is never used again, also after its bearer was removed: readers keep caches by number.
What a transaction gave out that did not commit was not used.

**Transactions.** All writing happens inside ``write()``. It commits when its block ends, and does
nothing at all when the block raises or the process dies anywhere inside it. One writer at a time;
a second one waits for it (up to BUSY_S, then IndexBusyError). Within ``write()`` the writer reads
its own changes. All reading outside happens inside ``read()``: every call within one block sees
the same committed state, also while another thread or process commits. Readers never wait for a
writer, a writer never waits for readers.

**Threads and processes.** A store object may be used by several threads at once; a block
(``read()`` or ``write()``) belongs to the thread that opened it. A store object must not be used
in a forked child: open another. Several processes may open the same place at once (where the
engine says it is shared).

**Trouble.** Where the place cannot be written (a full disk, no permission), writing raises
OSError, and what was read before can be read still.

**Damage.** A store that finds its own data unreadable, at opening or later, raises
IndexDamagedError: the caller deletes the place and builds it anew. So does one written by another
version of this contract (see VERSION).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Final, NamedTuple

import msgspec

from trackway.errors import TrackwayError

__all__ = [
    "Axis",
    "Chunk",
    "Document",
    "EventRow",
    "Head",
    "IndexBusyError",
    "IndexDamagedError",
    "IndexReplacedError",
    "IndexStore",
    "Key",
    "LogLine",
    "Reading",
    "RunRef",
    "Writing",
]

VERSION: Final = 1
"""Rises whenever what is stored, or how, changes: an index of another version is built anew."""

BUSY_S: Final = 30.0


class IndexDamagedError(TrackwayError):
    """The index cannot be read; it is to be deleted and built anew. No data is lost by that."""


class IndexReplacedError(IndexDamagedError):
    """The place holds another index than the one that was opened, or none: open it again.

    It must not be deleted: whoever put it there is using it.
    """


class IndexBusyError(TrackwayError):
    """Another process kept the index for longer than BUSY_S."""


class RunRef(NamedTuple):
    """Which run of the root."""

    project: str
    id: str


class LogLine(NamedTuple):
    """A log as it was when it was last looked at, in a form that is cheap to load by the 10,000.

    Attributes:
        log: The log's number.
        run: Its run's number.
        name: The file's name.
        inode: Of the file.
        size: Bytes, when last looked at; never less than ``offset``.
        mtime_ns: Of the file, when last looked at.
        offset: Bytes that are in the index; the rest is the tail, which readers read themselves.
    """

    log: int
    run: int
    name: str
    inode: int
    size: int
    mtime_ns: int
    offset: int


class Key(NamedTuple):
    """A metric's name; keys are shared by all runs of the root.

    Attributes:
        key: The key's number.
        space: ``metric`` or ``system``.
        name: Any text.
    """

    key: int
    space: str
    name: str


class Head(msgspec.Struct, frozen=True):
    """What the points of one chunk come to. NaN counts as a point, and as no value.

    Attributes:
        n: Points, at least 1.
        nan: How many of them are NaN.
        inf: How many are infinite.
        min: Smallest value (infinities included); NaN where there is none or they are no numbers.
        max: Largest value, likewise.
        sum: Of all finite values, pairwise in float64; infinite where it is beyond that.
        first: The first value in order of arrival; NaN where it is no number.
        last: The last one.
        low: Lowest step.
        high: Highest step.
        low_time: Smallest time.
        high_time: Greatest time.
        min_step: The lowest step at which ``min`` was reached; 0 where there is no min.
        max_step: The lowest step at which ``max`` was reached.
        rises: Whether each step is higher than the one before.
        types: The letters of the values' types (f, i, b, o), each once, sorted.
    """

    n: int
    nan: int
    inf: int
    min: float
    max: float
    sum: float
    first: float
    last: float
    low: int
    high: int
    low_time: float
    high_time: float
    min_step: int
    max_step: int
    rises: bool
    types: str


class Axis(NamedTuple):
    """The steps and times that chunks of one log share; the store does not look into the bytes."""

    axis: int
    log: int
    steps: bytes
    times: bytes


class Chunk(NamedTuple):
    """Consecutive arrivals of one key in one log.

    Attributes:
        chunk: The chunk's number.
        seq: Orders the chunks of one key in one log by arrival; unique there.
        axis: The number of its axis.
        data: The encoded values; None where it was not asked for.
        cells: Its pyramid; None where there is none, or it was not asked for.
    """

    chunk: int
    run: int
    log: int
    key: int
    seq: int
    axis: int
    head: Head
    data: bytes | None = None
    cells: bytes | None = None


class EventRow(NamedTuple):
    """An event of a log.

    Attributes:
        log: The log's number.
        offset: Of its frame in the file; orders the events of one log.
        size: Bytes of the whole frame.
        type: The event's type.
        time: Seconds since 1970.
        body: Its payload as it is in the frame; None where only its place is kept (read the file).
    """

    log: int
    offset: int
    size: int
    type: str
    time: float
    body: bytes | None


class Document(NamedTuple):
    """What the sealed part of a run's logs says of it, apart from its points.

    Attributes:
        run: The run's number.
        revision: The store's revision when it was put.
        data: Bytes the store does not look into.
    """

    run: int
    revision: int
    data: bytes


class Reading(ABC):
    """One committed state. Lists come in the order that is stated, or in none."""

    @abstractmethod
    def revision(self) -> int:
        """Rises by at least one with each transaction that changed something; 0 when new."""

    @abstractmethod
    def runs(self) -> dict[int, RunRef]:
        """All runs by number."""

    @abstractmethod
    def folders(self) -> dict[int, int]:
        """For each run whose folder was looked at: the folder's mtime in ns, as it was put."""

    @abstractmethod
    def logs(self, runs: Collection[int] | None = None) -> list[LogLine]:
        """The logs of these runs, or of all, ordered by (run, log). Unknown runs have none."""

    @abstractmethod
    def states(self, logs: Collection[int]) -> dict[int, bytes]:
        """What the indexer put beside these logs; unknown logs are left out."""

    @abstractmethod
    def keys(self, space: str | None = None) -> list[Key]:
        """All keys of a space (or all) that any chunk has or had, ordered by number."""

    @abstractmethod
    def keys_of(self, runs: Collection[int], space: str) -> dict[int, list[int]]:
        """For each of these runs that has chunks in the space: the numbers of their keys, sorted.

        Exact: a key whose last chunk was removed is not among them.
        """

    @abstractmethod
    def chunks(
        self,
        runs: Collection[int],
        keys: Collection[int],
        *,
        data: bool = True,
        cells: bool = False,
    ) -> list[Chunk]:
        """The chunks of these keys in these runs, ordered by (run, key, log, seq).

        Args:
            runs: Numbers of runs; unknown ones have no chunks.
            keys: Numbers of keys; likewise.
            data: Whether to load the values.
            cells: Whether to load the pyramids.
        """

    @abstractmethod
    def chunk_data(self, chunks: Collection[int]) -> dict[int, bytes]:
        """The values of these chunks; unknown chunks are left out."""

    @abstractmethod
    def log_chunks(self, log: int, keys: Collection[int] | None = None) -> list[Chunk]:
        """The chunks of one log (of these keys, or all), with their values, by (key, seq)."""

    @abstractmethod
    def axes(self, axes: Collection[int]) -> dict[int, Axis]:
        """These axes by number; unknown ones are left out."""

    @abstractmethod
    def events(self, runs: Collection[int], types: Collection[str] | None = None) -> list[EventRow]:
        """The events of these runs' logs (of these types, or all), by (run, log, offset)."""

    @abstractmethod
    def documents(self, runs: Collection[int] | None = None, *, since: int = 0) -> list[Document]:
        """The documents of these runs (or all) that were put after revision ``since``, by run."""

    @abstractmethod
    def blobs(self, names: Collection[str]) -> dict[str, bytes]:
        """Named bytes that were put with ``put_blobs``; unknown names are left out."""


class Writing(Reading):
    """A transaction. Numbers it gives out are final when it commits."""

    @abstractmethod
    def add_run(self, ref: RunRef) -> int:
        """The run's number; its existing one where it is already there."""

    @abstractmethod
    def remove_run(self, run: int) -> None:
        """Forget a run with its logs, chunks, axes, events and document. Unknown: nothing."""

    @abstractmethod
    def put_folder(self, run: int, mtime_ns: int) -> None:
        """Remember how the run's folder looked."""

    @abstractmethod
    def add_log(self, run: int, name: str) -> int:
        """The log's number, with inode, size, mtime and offset 0; its existing one if there."""

    @abstractmethod
    def put_logs(self, logs: Iterable[LogLine]) -> None:
        """Replace inode, size, mtime and offset of these logs; run and name are not changed."""

    @abstractmethod
    def put_state(self, log: int, state: bytes) -> None:
        """Keep bytes beside a log."""

    @abstractmethod
    def clear_log(self, log: int) -> None:
        """Forget a log's chunks, axes, events and state, and set its offset to 0."""

    @abstractmethod
    def remove_log(self, log: int) -> None:
        """Forget a log and everything of it. Unknown: nothing."""

    @abstractmethod
    def key_numbers(self, names: Sequence[tuple[str, str]]) -> list[int]:
        """The numbers of keys given as (space, name), which are added where they are new."""

    @abstractmethod
    def add_axis(self, log: int, steps: bytes, times: bytes) -> int:
        """Store an axis; returns its number."""

    @abstractmethod
    def add_chunks(self, chunks: Iterable[Chunk]) -> None:
        """Store chunks; their numbers are given by the store, ``chunk`` is ignored."""

    @abstractmethod
    def remove_chunks(self, chunks: Collection[int]) -> None:
        """Remove chunks by number; unknown ones are passed over."""

    @abstractmethod
    def sweep_axes(self, log: int) -> None:
        """Remove the axes of a log that none of its chunks uses."""

    @abstractmethod
    def add_events(self, events: Iterable[EventRow]) -> None:
        """Store events; one at the place (log, offset) of another replaces it."""

    @abstractmethod
    def put_document(self, run: int, data: bytes) -> None:
        """Replace a run's document; its revision is the one this transaction commits."""

    @abstractmethod
    def put_blobs(self, blobs: Mapping[str, bytes | None]) -> None:
        """Keep named bytes; None removes."""


class IndexStore(ABC):
    """A place that holds one root's index."""

    @abstractmethod
    def read(self) -> AbstractContextManager[Reading]:
        """A block that sees one committed state. Blocks of one thread do not nest."""

    @abstractmethod
    def write(self) -> AbstractContextManager[Writing]:
        """A block that commits at its end, or does nothing. Not inside a ``read()`` block."""

    @abstractmethod
    def close(self) -> None:
        """Let go of everything. Blocks must have ended; closing twice does nothing."""
