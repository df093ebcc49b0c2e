"""What a log writer does when the disk refuses, vanishes or crawls.

``write`` is an attribute so that trouble costs the common path nothing: it is exchanged for
``_keep``, which stores the record in a bounded buffer; a daemon thread that lives only as long as
the trouble does puts the file in order and writes the buffer out, and the next record then goes
straight to the file again.

Invariant: while there is trouble, only the thread of the trouble touches the file.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time as clock
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

from trackway.backend.file._fs import FileSystem
from trackway.backend.file._pieces import (
    FLUSH_BYTES,
    Half,
    Loss,
    copy_removed,
    frames_of,
    nowhere,
    points_of,
    reason,
    retire,
    stay_if_starved,
)
from trackway.backend.file.format import (
    EVENT,
    FRAME,
    KEYSET,
    ROW,
    Header,
    encode_header,
)
from trackway.backend.file.plan import Plan

BUFFER_LIMIT: Final = 16 << 20
"""Bytes kept in memory while the disk takes none."""

FLUSH_WAIT_S: Final = 1.0
RETRY_S: Final = 1.0
"""Seconds between two attempts to write the buffer, and so what coalescing may cost a SIGKILL."""

SLOW_WRITE_S: Final = 0.0005
SLOW_DEBT_S: Final = 0.25
SLOW_SHARE: Final = 0.01
"""A write past SLOW_WRITE_S adds its time to a debt that is forgiven at SLOW_SHARE of the wall
time; above SLOW_DEBT_S the disk counts as slow and records are coalesced."""

CALM: Final = 3
CONTENDED: Final = 10
CONTENDED_S: Final = 0.002
"""How many times longer a write must take than getting the interpreter back from other threads.

Where those are busy, one of them keeps it for 5 ms, and it goes round: the same turn may take one
of them or all, so that several turns of the one say little about a turn of the other."""

RECOVERED_WRITES: Final = 5

PARTING_S: Final = 0.2
"""How long a log that is closed waits for its thread to see that."""

_ASKED: Final = 5


CHECK_S: Final = 1.0
REDECLARE_BYTES: Final = 1 << 20
REDECLARE_SHARE: Final = 16
"""Keysets are declared again when the log has grown by REDECLARE_BYTES, and by so many times
what declaring all of them takes."""

_FINISHED: Final = "the run was already finished"


class Troubled:
    """The part of a log writer that copes; see ``LogWriter``."""

    plans: dict[object, Plan]

    def __init__(
        self, path: Path, header: Header, tell: Callable[[str, str], None], files: FileSystem
    ) -> None:
        self.path = path
        self.header = header
        self.loss = Loss()
        self.trouble: str | None = None
        self.fd = -1
        self.next_check = 0.0
        self._tell = tell
        self._files = files
        self._lock = threading.RLock()  # keysets, and everything in trouble; never a healthy row
        self._declared_at = 0
        self._declared_bytes = 0
        self._undeclared = False  # a declaration was lost: all are due again
        self._identity: tuple[int, int] | None = None  # of the file: device and inode
        self._debt = 0.0
        self._debt_limit = SLOW_DEBT_S
        self._debt_time = 0.0
        self._slow_writes = 0
        self._slow_s = 0.0
        self._waits = 0
        self._keeping = False
        self._slow = False
        self._well = False
        self._why = ""
        # What waits for the disk. Producers append on the right, one flusher takes from the left;
        # what it is writing is in its hand.
        self._kept: deque[bytes] = deque()
        self._kept_bytes = 0
        self._in_hand: list[bytes] = []
        self._halves: deque[Half] = deque()
        # Requests to write everything out: how many there were, were tried, and were fulfilled.
        self._asked = self._tried = self._done = 0
        self._probe_s: float | None = None
        self._flush_lock = threading.Lock()
        self._flusher: threading.Thread | None = None
        self._gone = threading.Event()
        self._wake = threading.Event()
        self._closed = False
        self.write: Callable[[int, bytes], int] = self._files.write

    def _open(self) -> None:
        raise NotImplementedError

    def _declarations(self) -> bytes:
        raise NotImplementedError

    def write_frame(self, data: bytes) -> bool:
        """Append whole frames; returns whether they are in the file."""
        raise NotImplementedError

    def flush(self, *, durable: bool = False) -> bool:
        """Write what waits in memory now; with ``durable``, also survive a power cut.

        Returns:
            Whether everything is in the file (and on the device, if asked).
        """
        done = self._hurry(FLUSH_WAIT_S, insist=False)
        if durable and done:
            try:
                self._files.fsync(self.fd)
            except OSError as error:
                self._say("fsync", f"the disk did not confirm the log ({reason(error)}).")
                return False
        return done

    def close(self, timeout_s: float = 1.0) -> None:
        """Write what waits, as long as ``timeout_s`` allows, and count the rest as lost."""
        if self._closed:
            return
        self.check(self._files.time())
        self._hurry(timeout_s, insist=True)
        flusher = self._flusher
        with self._lock:
            self._closed = True
            self._keeping = False
            self._wake.set()
            halves = [b"".join(half.whole) for half in self._halves]
            for data in (*self._in_hand, *halves, *self._kept):
                self._lose(data)
            self._halves.clear()
            self._kept.clear()
            self._why = _FINISHED
        if flusher is not None:
            # An interpreter that ends under a thread that is about to wake up ends that thread in a
            # way for which a program without descriptors is aborted: see ``stay_if_starved``.
            self._gone.wait(PARTING_S)
        # A write that hangs holds the descriptor: it stays open, or the number could come to be
        # that of another file.
        if self._flush_lock.acquire(timeout=0.1):
            try:
                self._let_go()
            finally:
                self._flush_lock.release()

    def _let_go(self) -> None:
        descriptor, self.fd = self.fd, -1
        try:
            if descriptor >= 0 and self._is_ours(self._files.fstat(descriptor)):
                retire(descriptor, self._files.close)
        except OSError as error:
            self._say("close", f"the log did not close cleanly ({reason(error)}).")

    def abandon(self) -> None:
        """In a forked child: let go of the parent's file without writing what the parent holds."""
        # Locks may be held by threads that do not exist here.
        self._lock = threading.RLock()
        self._flush_lock = threading.Lock()
        self._closed = True
        self._keeping = False
        self._flusher = None
        self._kept.clear()
        self._halves.clear()
        self._in_hand = []
        self.write = nowhere
        descriptor, self.fd = self.fd, -1
        with contextlib.suppress(OSError):
            if descriptor >= 0 and self._is_ours(self._files.fstat(descriptor)):
                self._files.close(descriptor)

    # -- trouble ---------------------------------------------------------------------------

    def failed(self, data: bytes, count: int, error: OSError | None) -> None:
        """The file took only the first ``count`` bytes of ``data``: keep the rest, begin to mend.

        Raises nothing. Called by whoever called ``write``.
        """
        with self._lock:
            if self._closed:
                self._lose(data)
                return
            if count:
                self._halves.append(Half.cut([data], count, self._size()))
            else:
                self._kept.append(data)
                self._kept_bytes += len(data)
            why = reason(error) if error else "the disk took only a part of a record"
            self._enter(why, slow=False)

    def slow(self, now: float, duration_s: float) -> None:
        """One write took ``duration_s``: past a debt, begin to coalesce."""
        waits = self._files.waits()
        waited, self._waits = waits != self._waits, waits
        if not waited:
            return  # not the disk: the processor was given to somebody else meanwhile
        forgiven = max(0.0, now - self._debt_time) * SLOW_SHARE
        self._debt = max(0.0, self._debt - forgiven) + duration_s
        self._debt_time = now
        self._slow_writes += 1
        self._slow_s += duration_s
        if self._debt <= self._debt_limit or self._keeping or self._closed:
            return
        usual = self._slow_s / self._slow_writes
        self._debt = self._slow_s = 0.0
        self._slow_writes = 0
        others = self._others_take()
        if others * (CONTENDED if others > CONTENDED_S else CALM) > usual:
            # Nor this: getting the interpreter back from busy threads takes as long. Asking costs
            # time, too, so it is asked ever more rarely.
            self._debt_limit *= 2
            return
        with self._lock:
            self._enter(f"writes take {usual * 1000:.1f} ms", slow=True)

    def _others_take(self) -> float:
        """The longest it took to give the interpreter to other threads and have it back.

        Not the mean: now and then no thread takes it, and a few lucky turns would make busy
        threads look like a slow disk. Erring the other way is put right when the next debt is due.
        """
        longest = 0.0
        for _ in range(_ASKED):
            started = self._files.time()
            self._files.give_way()
            longest = max(longest, self._files.time() - started)
        return longest

    def check(self, now: float) -> None:
        """Once a second: is the file still in its folder, and are the names still near?"""
        self.next_check = now + CHECK_S
        if self._keeping or self._closed:
            return
        status = self._status()
        if status is None:
            with self._lock:
                self._enter("the file of the log was closed", slow=False)
        elif status.st_nlink == 0:
            with self._lock:
                self._enter("the folder of the run was removed", slow=False)
        elif self._declared_bytes and status.st_size - self._declared_at > max(
            REDECLARE_BYTES, REDECLARE_SHARE * self._declared_bytes
        ):
            self._declared_at = status.st_size + self._declared_bytes
            self.write_frame(self._declarations())

    def _enter(self, why: str, *, slow: bool) -> None:
        """From now on records are kept in memory and a thread writes them. Lock held."""
        self._why = why
        self._slow = slow
        if self._keeping:
            return
        self._well = False
        self._keeping = True
        self.write = self._keep
        kept = BUFFER_LIMIT >> 20
        self._say(
            "slow" if slow else "disk",
            f"{why}; records of this run are now written once a second, and a kill could cost "
            "the last second."
            if slow
            else f"{why}; your program goes on, up to {kept} MiB of records of this run are kept "
            "in memory and written as soon as that works again.",
        )
        if self._flusher is None or not self._flusher.is_alive():
            self._gone = threading.Event()
            self._flusher = threading.Thread(
                target=self._write_behind, name="trackway-disk", daemon=True
            )
            try:
                self._flusher.start()
            except RuntimeError:
                self._flusher = None  # the interpreter is going down: close() writes the rest

    def _keep(self, descriptor: int, data: bytes) -> int:
        """In place of ``write`` while there is trouble; always takes the whole record."""
        with self._lock:
            # Only a producer goes back, and only over an empty buffer: records keep their order.
            if self._well and not (self._kept or self._in_hand or self._halves or self._closed):
                self._go_back()
            if self._closed or self._keeping:
                if self._closed or self._kept_bytes + len(data) > BUFFER_LIMIT:
                    self._lose(data)
                else:
                    self._kept_bytes += len(data)
                    self._kept.append(data)
                return len(data)
        return self._files.write(self.fd, data)

    def _go_back(self) -> None:
        """From now on records go straight to the file again. Lock held."""
        self._well = self._keeping = False
        self.write = self._files.write
        self._say(
            "well",
            "the log is written normally again; nothing was lost in between."
            if not self.loss.records
            else "the log is written normally again.",
        )

    def _lose(self, data: bytes) -> None:
        """Count what cannot be stored. Lock held.

        A declaration is no loss: it is made up for, and the rows that need it may be stored.
        """
        for single in frames_of(data):
            kind = single[FRAME.size]
            if kind == KEYSET:
                self._undeclared = True
            elif kind in (ROW, EVENT):
                self.loss.add(points_of(single), self._why)

    def _hurry(self, timeout_s: float, *, insist: bool) -> bool:
        """Have everything written that waits; False where that fails or takes longer.

        The flusher does it, for a write may hang and the caller may not.

        Args:
            timeout_s: Wait no longer.
            insist: Try until then, not only once.
        """
        deadline = clock.monotonic() + timeout_s
        pause = 0.001
        with self._lock:
            self._asked += 1
            mine = self._asked
        while self._keeping and self._done < mine:
            if self._flusher is not None:
                self._wake.set()
            elif self._flush():  # no thread can be started any more
                return True
            if clock.monotonic() >= deadline or (self._tried >= mine and not insist):
                return False
            clock.sleep(pause)
            pause = min(2 * pause, 0.05)
        return True

    def _write_behind(self) -> None:
        """The thread of a writer in trouble: try once a second until a producer went back."""
        quick = 0
        while True:
            self._wake.wait(RETRY_S)
            with self._lock:
                self._wake.clear()
                if self._closed or not self._keeping:
                    self._flusher = None
                    break
                asked = self._asked
            done = self._flush()
            if self._probe_s is not None:
                quick = quick + 1 if self._probe_s < SLOW_WRITE_S else 0
            with self._lock:
                self._well = done and (not self._slow or quick >= RECOVERED_WRITES)
                self._tried = asked
                self._done = asked if done else self._done
        self._gone.set()
        stay_if_starved()

    def _flush(self) -> bool:
        """Put the file in order and append what was kept; False where it still does not work."""
        if not self._flush_lock.acquire(timeout=FLUSH_WAIT_S):
            return False
        self._probe_s = None
        try:
            self._mend()
            # Where the disk is slow, the first record goes alone: what it takes is what it would
            # take to write directly.
            limit = 1 if self._slow else FLUSH_BYTES
            while self._kept or self._undeclared:
                self._append_some(limit)
                limit = FLUSH_BYTES
        except OSError as error:
            if not self._closed:
                self._why = reason(error)
            return False
        finally:
            self._flush_lock.release()
        return not self._closed

    def _append_some(self, limit: int) -> None:
        """Append about ``limit`` bytes of kept records; on failure they are kept as before."""
        with self._lock:
            if self._undeclared and not self._kept:
                self._undeclared = False
                self._put_first(self._declarations())
            size = 0
            while self._kept and size < limit:
                self._in_hand.append(self._kept.popleft())
                size += len(self._in_hand[-1])
        count, started = 0, self._files.time()
        try:
            count = self._files.write(self.fd, b"".join(self._in_hand))
            if limit == 1:
                self._probe_s = self._files.time() - started
        finally:
            self._put_back(count, size)
        if count < size:
            raise OSError(errno.ENOSPC, "the disk took only a part of a record")

    def _put_back(self, count: int, size: int) -> None:
        """Keep of what was in hand, ``size`` bytes, all but the first ``count``."""
        end = self._size() if 0 < count < size else -1
        with self._lock:
            taken, self._in_hand = self._in_hand, []
            if self._closed:
                return  # ``close`` has counted it
            if count == 0 < size:
                self._kept.extendleft(reversed(taken))
                return
            self._kept_bytes -= size
            if count < size:
                self._halves.append(Half.cut(taken, count, end))

    def _put_first(self, data: bytes) -> None:
        with self._lock:
            self._kept.appendleft(data)
            self._kept_bytes += len(data)

    def _mend(self) -> None:
        """Open the file if it never was, bring it back if it was removed, complete its tail."""
        if self._closed:
            return
        if self.fd < 0:
            self._open()
        else:
            status = self._status()
            if status is None:
                self._open_again()
            elif status.st_nlink == 0:
                self._bring_back()
        while self._halves:
            half = self._halves[0]
            if half.is_tail_of(self.fd, self._size()):
                half.advance(self._files.write(self.fd, half.rest))
                if half.rest:
                    raise OSError(errno.ENOSPC, "the disk took only a part of a record")
            with self._lock:
                if not self._halves:
                    return  # ``close`` has counted it
                self._halves.popleft()
                if half.rest:
                    # Another record got behind the half one. Its two parts would both be damage,
                    # so it is written again whole.
                    self._put_first(b"".join(half.whole))

    def _size(self) -> int:
        try:
            return self._files.fstat(self.fd).st_size
        except OSError:
            return -1

    def _remember(self) -> None:
        """Note which file the descriptor is, as long as it surely is ours."""
        with contextlib.suppress(OSError):
            status = self._files.fstat(self.fd)
            self._identity = status.st_dev, status.st_ino

    def _is_ours(self, status: os.stat_result) -> bool:
        """Whether the descriptor is still the log.

        A program that becomes a daemon closes every descriptor; the number may then be given to
        another of its files.
        """
        if self._identity == (status.st_dev, status.st_ino):
            return True
        try:
            there = self.path.stat()
        except OSError:
            return False
        return (there.st_dev, there.st_ino) == (status.st_dev, status.st_ino)

    def _status(self) -> os.stat_result | None:
        """The state of the file; None where the descriptor is closed or is another file's."""
        try:
            status = self._files.fstat(self.fd)
        except OSError:
            return None
        return status if self._is_ours(status) else None

    def _open_again(self) -> None:
        """Go on in the file under another descriptor, or begin it anew where it is gone, too."""
        try:
            self.fd = self._files.open_again(self.path)
        except FileNotFoundError:
            self._files.make_folder(self.path.parent)
            self.fd = self._files.open_new(self.path)
            self._put_first(encode_header(self.header) + self._declarations())
        self._remember()

    def _bring_back(self) -> None:
        """The file was removed but is still open: put a new one of the same bytes in its place.

        The descriptor keeps its number, so that no thread can meet a number that now belongs
        to some other file of the program.
        """
        self._files.make_folder(self.path.parent)
        beside = self.path.with_name(f".{self.path.name}.beside")
        beside.unlink(missing_ok=True)
        fresh = self._files.open_new(beside)
        try:
            copy_removed(self.fd, fresh, self._files.write)
            beside.replace(self.path)
            os.dup2(fresh, self.fd, inheritable=False)
        except OSError:
            beside.unlink(missing_ok=True)
            raise
        finally:
            self._files.close(fresh)
        self._remember()

    def _say(self, kind: str, sentence: str) -> None:
        self.trouble = None if kind == "well" else sentence
        self._tell(kind, sentence)
