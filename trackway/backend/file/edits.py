"""Changes that somebody makes to a stored run: records in a log of their own, beside the run's."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from trackway.backend.file._fs import FileSystem
from trackway.backend.file._survey import Survey
from trackway.backend.file.attempts import standing
from trackway.backend.file.deletions import Deletions, Rule, escaped
from trackway.backend.file.folder import logs as logs_of
from trackway.backend.file.format import Event
from trackway.backend.file.run_logs import RunLogs
from trackway.backend.file.writer import LogWriter
from trackway.errors import ArgumentError, NotFoundError

__all__ = ["UNCHANGED", "Editor", "run_folder"]

UNCHANGED: Final[Any] = object()
"""What ``Editor.set`` is not to change."""

_KEYS_BYTES: Final = 1 << 20
"""Names in one ``delete`` event: more go into further ones, so that each fits into a frame."""

_BEHIND_S: Final = 1e-3
"""An edit comes so long after the last one, where the clock here says that it came before."""

_NO_FOLDER_SYNC: Final = {errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EBADF}


def run_folder(root: Path, project: str, run_id: str) -> Path:
    """The folder of a run that is there.

    Raises:
        NotFoundError: There is no such run.
    """
    folder = root / project / run_id
    plain = all(
        name and not name.startswith(".") and name == Path(name).name for name in (project, run_id)
    )
    if not plain or project == "blobs" or standing(folder) is None:
        raise NotFoundError(f"there is no run {project}/{run_id} in {root}")
    return folder


class Editor:
    """Changes one run. Every change is on the disk when the call returns.

    Used in a ``with`` block, it writes one log for all changes in it; else one for each call. Not
    to be shared by threads. Whether the run is still being recorded makes no difference.

    Args:
        root: The folder that holds all projects.
        project: The project's name.
        run_id: The run's id.
        files: The operating system, replaceable in tests.

    Raises:
        NotFoundError: There is no such run.
    """

    def __init__(
        self, root: Path, project: str, run_id: str, *, files: FileSystem | None = None
    ) -> None:
        self.root, self.project, self.id = Path(root), project, run_id
        self.folder = run_folder(self.root, project, run_id)
        self._files = files or FileSystem()
        self._writer: LogWriter | None = None
        self._written = 0
        self._inside = False

    def __enter__(self) -> Editor:
        self._inside = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._inside = False
        self.close()

    def set(
        self,
        *,
        name: str = UNCHANGED,
        notes: str | None = UNCHANGED,
        tags: Iterable[str] = UNCHANGED,
        group: str | None = UNCHANGED,
        job_type: str | None = UNCHANGED,
        archived: bool = UNCHANGED,
        deleted: bool = UNCHANGED,
    ) -> None:
        """Say anew what the run is called and where it belongs; what is not given stays.

        Args:
            name: The name for people; not empty.
            notes: Free text, or None for none.
            tags: All its labels; repeated ones count once.
            group: The group it belongs to, or None for none.
            job_type: What part of a larger job it is, or None for none.
            archived: Whether it is put out of the way.
            deleted: Whether it counts as deleted; a compaction then removes it for good.

        Raises:
            ArgumentError: A value is of the wrong type or empty, or none is given.
            NotFoundError: The run is gone.
            OSError: It could not be written; the run is as it was.
        """
        given = {
            "name": _text("name", name, required=True),
            "notes": _text("notes", notes),
            "tags": _texts("tags", tags),
            "group": _text("group", group),
            "job_type": _text("job_type", job_type),
            "archived": _flag("archived", archived),
            "deleted": _flag("deleted", deleted),
        }
        changes = {key: value for key, value in given.items() if value is not UNCHANGED}
        if not changes:
            raise ArgumentError("there is nothing to change; give name=, notes=, tags=, …")
        self._write([("run", {"set": changes})])

    def delete_points(
        self,
        keys: str | Iterable[str] | None = None,
        *,
        start: int | None = None,
        stop: int | None = None,
    ) -> int:
        """Hide the points that are there now; what is logged afterwards is not concerned.

        Args:
            keys: A metric's name, names, or patterns such as ``val/*``; every metric by default.
            start: The lowest step to hide; all by default.
            stop: The highest step to hide; all by default.

        Returns:
            How many points it hides that were not hidden before. Where that is 0, nothing is
            written.

        Raises:
            ArgumentError: An argument is of the wrong type, or ``start`` is above ``stop``.
            NotFoundError: The run is gone.
            OSError: It could not be written; the run is as it was, or, where there were so many
                names that it took several records, only some of the points are hidden.
        """
        told, count = self._chosen(keys, start, stop)
        if count:
            self._write([("delete", fields) for fields in told])
        return count

    def count_points(
        self,
        keys: str | Iterable[str] | None = None,
        *,
        start: int | None = None,
        stop: int | None = None,
    ) -> int:
        """How many points ``delete_points`` would hide; nothing is written.

        Raises:
            ArgumentError: As there.
        """
        return self._chosen(keys, start, stop)[1]

    def _chosen(
        self, keys: str | Iterable[str] | None, start: int | None, stop: int | None
    ) -> tuple[list[dict[str, Any]], int]:
        """What hides these points, and how many they are."""
        _check_steps(start, stop)
        patterns = (
            None if keys is None else _texts("keys", [keys] if isinstance(keys, str) else keys)
        )
        logs = RunLogs(self.folder)
        logs.refresh()
        upto = {
            written.name: [written.generation, written.reader.offset]
            for written in logs.writers
            if written.reader.offset and not (written.header and written.header.role == "editor")
        }
        names = logs.keys()
        chosen = None if patterns is None else _matching(patterns, names)
        told = [
            {"keys": part, "from": start, "to": stop, "upto": upto} for part in _portions(chosen)
        ]
        return told, _newly_hidden(logs, names, told)

    def close(self) -> None:
        """Finish the log; a later change begins another."""
        writer, self._writer, self._written = self._writer, None, 0
        if writer is not None:
            # Not ``close``: it keeps the descriptor's number taken for a while, for the sake of
            # threads in the middle of a log call. Here are none, and edits come by the thousand.
            writer.abandon()

    def _write(self, events: Sequence[tuple[str, Mapping[str, object]]]) -> None:
        writer = self._writer or self._begin()
        moment = _after_all(self.folder)
        try:
            for type, fields in events:
                writer.event(type, fields, moment)
            # A record that was kept in memory is no success: it must be in the file by now.
            if not writer.flush(durable=True) or writer.loss.records:
                raise _failure(writer)
            _sync_folder(writer.path.parent)
        except OSError:
            self._take_back(writer)
            raise
        self._written += 1
        if not self._inside:
            self.close()

    def _begin(self) -> LogWriter:
        place = standing(self.folder)
        if place is None:
            raise NotFoundError(f"there is no run {self.project}/{self.id} in {self.root} any more")
        self._writer = LogWriter.create(
            self.root,
            project=self.project,
            run=self.id,
            role="editor",
            attempt=place.attempt,
            # Invariant: an edit never brings back the folder of a run that was removed meanwhile.
            files=self._files.but(make_folder=_must_be_there),
        )
        return self._writer

    def _take_back(self, writer: LogWriter) -> None:
        """Leave nothing of an edit that failed, where nothing else is in the same log."""
        self._writer = None
        writer.close(timeout_s=0.0)
        if not self._written:
            with contextlib.suppress(OSError):
                writer.path.unlink()
        self._written = 0


def _after_all(folder: Path) -> float:
    """Now; or later, where a clock that was ahead of this one told of a change to the run.

    The last change counts, by time: a later one must not lose to it.
    """
    now = time.time()
    for path in logs_of(folder):
        with contextlib.suppress(OSError):
            for _, event in Survey.of(path).events:
                if event.type == "run" and now <= event.time < math.inf:
                    now = max(event.time + _BEHIND_S, math.nextafter(event.time, math.inf))
    return now


def _must_be_there(folder: Path) -> None:
    folder.stat()


def _failure(writer: LogWriter) -> OSError:
    why = writer.trouble or next(iter(writer.loss.reasons), "the disk did not take it")
    return OSError(errno.EIO, f"the edit could not be stored: {why}", str(writer.path))


def _sync_folder(folder: Path) -> None:
    """Make a new file's name survive a power cut, where the system can."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(descriptor)


# -- arguments -----------------------------------------------------------------------------------


def _text(argument: str, value: object, *, required: bool = False) -> object:
    if value is UNCHANGED or (value is None and not required):
        return value
    if not isinstance(value, str):
        raise ArgumentError(f"{argument}={value!r}: it is a text{'' if required else ' or None'}")
    if required and not value.strip():
        raise ArgumentError(f"{argument}={value!r}: it must not be empty")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ArgumentError(f"{argument}={value!r}: it holds half of a character") from None
    return value


def _texts(argument: str, value: Any) -> Any:
    if value is UNCHANGED:
        return value
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        raise ArgumentError(f"{argument}={value!r}: it is a list of texts")
    return list(dict.fromkeys(str(_text(argument, item, required=True)) for item in value))


def _flag(argument: str, value: object) -> object:
    if value is not UNCHANGED and not isinstance(value, bool):
        raise ArgumentError(f"{argument}={value!r}: it is True or False")
    return value


def _check_steps(start: object, stop: object) -> None:
    for argument, value in (("start", start), ("stop", stop)):
        whole = isinstance(value, int) and not isinstance(value, bool)
        if value is not None and not (whole and -(1 << 63) <= value < 1 << 63):  # type: ignore[operator]
            raise ArgumentError(f"{argument}={value!r}: it is a step, an integer of 64 bits")
    if isinstance(start, int) and isinstance(stop, int) and start > stop:
        raise ArgumentError(f"start={start} is above stop={stop}")


# -- points --------------------------------------------------------------------------------------


def _matching(patterns: Iterable[str], names: Sequence[str]) -> list[str]:
    """What the patterns mean in this run, as a ``delete`` event says it.

    A pattern of stars alone stays one, it is shorter; everything else becomes the names it fits.
    """
    there = frozenset(names)
    chosen: dict[str, None] = {}
    for pattern in patterns:
        if pattern in there:
            chosen[escaped(pattern)] = None
        elif "*" in pattern and not {*"?[\\"} & {*pattern}:
            chosen[pattern] = None
        else:
            chosen |= {escaped(name): None for name in names if fnmatchcase(name, pattern)}
    return list(chosen)


def _portions(keys: list[str] | None) -> Iterator[list[str] | None]:
    if keys is None:
        yield None
        return
    portion: list[str] = []
    size = 0
    for key in keys:
        if size > _KEYS_BYTES:
            yield portion
            portion, size = [], 0
        portion.append(key)
        size += len(key.encode()) + 5
    if portion:
        yield portion


def _newly_hidden(logs: RunLogs, names: Sequence[str], told: Iterable[Mapping[str, Any]]) -> int:
    rules = [Rule.of(Event("delete", 0.0, fields)) for fields in told]
    new = Deletions(rule for rule in rules if rule is not None)
    count = 0
    for key in filter(new.names, names):
        for written in logs.writers:
            for part in logs.parts(0, written, key):
                kept = new.keep(written.name, written.generation, key, part.offsets, part.steps)
                count += 0 if kept is None else len(kept) - int(kept.sum())
    return count
