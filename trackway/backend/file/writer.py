"""Appends records to one log: one ``write`` a record.

The common path is in ``Plan`` and ``LogWriter.write``: encode, append, return. No lock, no
thread, no queue. ``write`` is an attribute so that trouble costs the common path nothing: when
the disk refuses, vanishes or crawls, it is exchanged for ``_keep``, which stores the record in
a bounded buffer; a daemon thread that lives only as long as the trouble does puts the file in
order and writes the buffer out, and the next record then goes straight to the file again.

Invariants:
    * Bytes once written whole are never truncated or rewritten by this process.
    * A record is written whole or completed later: after a short write the rest of that same
      record is the next thing appended (or, if another record got in between, the record is
      appended again and its first half is damage that a reader passes over).
    * A keyset is declared before the first row that uses it, twice, so that no single damaged
      byte can take the names away from other rows; if memory could not hold the declaration, it
      follows the rows.
"""

from __future__ import annotations

import os
import time as clock
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from trackway.backend.file._fs import FileSystem
from trackway.backend.file._pieces import Loss, reason
from trackway.backend.file._trouble import CHECK_S, SLOW_WRITE_S, Troubled
from trackway.backend.file.format import (
    METRIC,
    Header,
    Keyset,
    encode_event,
    encode_header,
    encode_keyset,
)
from trackway.backend.file.plan import Plan, split_names
from trackway.backend.file.process import host_name, process_started
from trackway.errors import FormatError
from trackway.types import __version__

__all__ = ["MOST_DECLARED", "SLOW_WRITE_S", "LogWriter", "Loss", "Plan", "split_names"]

MOST_DECLARED: Final = 4096
"""Keysets kept ready; of more, the writer begins anew."""

UNSTORABLE: Final = (
    FormatError,
    TypeError,
    ValueError,
    OverflowError,
    RecursionError,
    msgspec.MsgspecError,
)
"""What encoding an event raises when its fields are not MessagePack-able."""


class LogWriter(Troubled):
    """One log file, appended to by this process alone.

    ``row`` and ``event`` return at once and raise nothing the disk does: on return a record
    survives the death of the process, unless ``trouble`` says that records are being kept in
    memory. Any thread may call them. ``close`` makes the last attempt and fills ``loss``.

    Args:
        path: The file, which must not exist.
        header: Who writes; see ``create``.
        tell: Called with a kind (disk, slow, well, …) and one sentence when the disk starts to
            fail or crawl, and when it is well again.
        files: The operating system, replaceable in tests.
    """

    def __init__(
        self,
        path: Path,
        header: Header,
        *,
        tell: Callable[[str, str], None] = lambda kind, sentence: None,
        files: FileSystem | None = None,
    ) -> None:
        super().__init__(path, header, tell, files or FileSystem())
        self.plans: dict[object, Plan] = {}
        self._declared: dict[tuple[tuple[str, ...], str, str], Plan] = {}
        self._next_keyset = 0
        try:
            self._open()
        except OSError as error:
            with self._lock:
                self._enter(f"cannot open the log ({reason(error)})", slow=False)

    @classmethod
    def create(
        cls,
        root: Path,
        *,
        project: str,
        run: str,
        role: str = "train",
        attempt: int = 1,
        extra: Mapping[str, object] | None = None,
        tell: Callable[[str, str], None] = lambda kind, sentence: None,
        files: FileSystem | None = None,
    ) -> LogWriter:
        """A new log of a run, named after host, process, time and chance."""
        created = clock.time()
        host = host_name()
        safe = "".join(c if c.isalnum() or c == "-" else "-" for c in host)[:40]
        writer = f"{safe}.{os.getpid()}.{int(created * 1000)}.{os.urandom(4).hex()}"
        header = Header(
            run=run,
            project=project,
            writer=writer,
            generation=os.urandom(16).hex(),
            role=role,
            attempt=attempt,
            host=host,
            pid=os.getpid(),
            process_started=process_started(os.getpid()),
            created=created,
            software=f"trackway {__version__}",
            extra=extra or {},
        )
        return cls(root / project / run / f"{writer}.log", header, tell=tell, files=files)

    @classmethod
    def reopen(
        cls,
        path: Path,
        *,
        end: int,
        header: Header,
        next_keyset: int,
        files: FileSystem | None = None,
    ) -> LogWriter:
        """Go on in a log whose writer is gone, after its last whole frame at ``end``.

        What lies behind ``end`` is a record that was never acknowledged; it is cut off. The log
        continues under a new generation. A reader of the whole log knows ``end`` (its
        ``offset``) and ``next_keyset``.

        Raises:
            OSError: The file cannot be opened or cut.
        """
        files = files or FileSystem()
        descriptor = files.open_again(path)
        try:
            files.truncate(descriptor, end)
        except OSError:
            files.close(descriptor)
            raise
        taken = {path: descriptor}

        def open_again(again: Path) -> int:
            return taken.pop(again) if again in taken else _fresh(again)

        _fresh = files.open_new
        fresh = msgspec.structs.replace(
            header, generation=os.urandom(16).hex(), created=clock.time()
        )
        writer = cls(path, fresh, files=files.but(open_new=open_again))
        # Invariant: an id has one meaning in a log, for all who write there.
        writer._next_keyset = next_keyset
        return writer

    def _open(self) -> None:
        """Open the file and begin it with the header."""
        self._files.make_folder(self.path.parent)
        self.fd = self._files.open_new(self.path)
        self._remember()
        self.next_check = self._files.time() + CHECK_S
        head = encode_header(self.header)
        if self._keeping:
            # The flusher opens a file that could not be opened before: the header comes first.
            self._put_first(head)
        else:
            self.write_frame(head)

    # -- records ---------------------------------------------------------------------------

    def row(
        self,
        values: Mapping[str, float],
        step: int,
        *,
        space: str = METRIC,
        time: float | None = None,
        types: str | None = None,
    ) -> bool:
        """Append one row, or several where there are too many names for one.

        Args:
            values: Name to number; every number must convert to a float exactly or be one.
            step: Any i64.
            space: ``metric``, or ``system`` for samples of the machine.
            time: Seconds since 1970; now by default.
            types: One letter a name (f, i, b); all f by default.

        Returns:
            Whether the record is in the file; if not, it waits for the disk or was counted.
        """
        now = self._files.time() if time is None else time
        names = tuple(values)
        letters = types or "f" * len(names)
        numbers = tuple(values.values())
        stored = True
        for start, stop in split_names(names):
            plan = self.plan(names[start:stop], letters[start:stop], space)
            stored &= self.write_frame(plan.frame(step, now, numbers[start:stop]))
        return stored

    def event(self, type: str, fields: Mapping[str, object], time: float | None = None) -> bool:
        """Append one event; returns whether it is in the file.

        Fields must be MessagePack-able; an event that is not, or that needs more than 4 MiB,
        is counted as lost.
        """
        now = self._files.time() if time is None else time
        try:
            data = encode_event(type, now, fields)
        except UNSTORABLE as error:
            with self._lock:
                self.loss.add(0, f"{type} event: {reason(error)}")
            return False
        return self.write_frame(data)

    def plan(self, names: tuple[str, ...], types: str, space: str = METRIC) -> Plan:
        """The plan of a keyset, declared in the log by the time it is returned."""
        key = (names, types, space)
        with self._lock:
            known = self._declared.get(key)
            if known is None:
                if len(self._declared) >= MOST_DECLARED:
                    # Those in use are declared again, under another id, when they are met again.
                    self._declared.clear()
                    self._declared_bytes = 0
                # Taken before it is used: a signal handler may log in between.
                number, self._next_keyset = self._next_keyset, self._next_keyset + 1
                known = Plan(Keyset(number, names, types, space))
                declaration = encode_keyset(known.keyset)
                self._declared[key] = known
                self._declared_bytes += len(declaration)
                # Twice, so that a damaged byte in one declaration costs no row its names.
                self.write_frame(declaration * 2)
            return known

    def _declarations(self) -> bytes:
        return b"".join(encode_keyset(plan.keyset) for plan in list(self._declared.values()))

    def write_frame(self, data: bytes) -> bool:
        """Append whole frames; returns whether they are in the file."""
        started = self._files.time()
        try:
            count = self.write(self.fd, data)
        except OSError as error:
            self.failed(data, 0, error)
            return False
        if count != len(data):
            self.failed(data, count, None)
            return False
        now = self._files.time()
        if now - started > SLOW_WRITE_S:
            self.slow(now, now - started)
        if now > self.next_check:
            self.check(now)
        return not (self._keeping or self._closed)
