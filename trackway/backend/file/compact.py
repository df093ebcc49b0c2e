"""Reclaims the bytes of what is deleted: points, and whole runs.

A log is written anew beside its place and renamed into it once it is whole and on the disk, under
a new generation: whoever is killed leaves the old file or the new one, and a reader that has the
old one open goes on reading it. The ``delete`` events stay, so that an old copy that is merged
back later is hidden as before.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from trackway.backend.file._measure import Loss, Source, measure
from trackway.backend.file._rewrite import rewrite
from trackway.backend.file._survey import BusyError, Survey, alone, is_deleted, mentions_deletion
from trackway.backend.file.attempts import first_header, standing
from trackway.backend.file.deletions import DELETION_EVENTS, Deletions, formers_of
from trackway.backend.file.folder import logs, projects, run_folders
from trackway.backend.file.process import host_name, is_alive
from trackway.backend.file.reader import LogReader
from trackway.backend.file.remove import (
    RemoveReport,
    finish_removals,
    note_blobs,
    put_aside,
    put_back,
    run_of,
)
from trackway.errors import ArgumentError, NotFoundError

__all__ = ["CompactReport", "Skipped", "compact"]

QUIET_S: Final = 600.0
"""A log of another machine that tells of no end is left alone until its run was silent for so
long: ten times the slowest heartbeat and more."""

_BESIDE: Final = re.compile(r"\..+\.log\.[0-9a-f]{8}\.beside")

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Skipped:
    """What was left as it is, and why; ``log`` is empty where it is the whole run."""

    project: str
    run: str
    log: str
    reason: str


@dataclass(slots=True)
class CompactReport:
    """What a compaction did.

    Attributes:
        runs: How many runs were made smaller or removed.
        logs: How many logs were written anew.
        bytes_before: Of everything that was written anew or removed.
        bytes_after: Of what took its place.
        points_removed: In logs that were written anew.
        blobs_removed: Files that only deleted points and runs referred to.
        blobs_waiting: Files that nobody refers to, but that a run that is being recorded may be
            about to use; the next compaction looks at them again.
        blobs_wait_until: Seconds since 1970 at which the last of them can go at the latest.
        skipped: What holds something deleted and was left as it is.
    """

    runs: int = 0
    logs: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    points_removed: int = 0
    blobs_removed: int = 0
    blobs_waiting: int = 0
    blobs_wait_until: float = 0.0
    skipped: list[Skipped] = field(default_factory=list)

    def add_removed(self, removed: RemoveReport) -> None:
        """Count what was removed."""
        self.bytes_before += removed.bytes
        self.blobs_removed += removed.blobs
        self.blobs_waiting = removed.blobs_waiting
        self.blobs_wait_until = removed.blobs_wait_until


def compact(
    root: Path,
    project: str | None = None,
    run: str | None = None,
    progress: Progress | None = None,
) -> CompactReport:
    """Reclaim the bytes of deleted points and runs; every answer stays what it was.

    What is being recorded, or may be, is left alone and told, and so are logs with damaged bytes:
    nothing that could be read before is lost.

    Args:
        root: The folder that holds all projects.
        project: Only this one.
        run: Only the run of this id; with ``project``, unless only one project has such a run.
        progress: Called with the number of bytes that were looked at since the last call; all
            logs that are meant are looked at once, those with deletions up to four times.

    Raises:
        NotFoundError: There is no such folder, project or run.
        OSError: The disk refused; what was compacted until then is compacted.
    """
    root = Path(root)
    told = progress or (lambda count: None)
    report = CompactReport()
    folders = _places(root, project, run)
    for folder in folders:
        _clear(folder)
        if any([mentions_deletion(path, told) for path in logs(folder)]):
            _compact_run(folder, report, told)
    _finish(root, report)
    return report


def _finish(root: Path, report: CompactReport) -> None:
    """Remove what was put aside, now or earlier, and the blobs that only this mentioned."""

    def failed(aside: Path, error: OSError) -> None:
        reason = f"{error.strerror or error}; the next compaction goes on with it"
        report.skipped.append(Skipped(*run_of(aside), "", reason))

    try:
        report.add_removed(finish_removals(root, failed))
    except OSError as error:  # it may be a log that nobody can read, and that mentions some
        told = f"{error.strerror or error} ({error.filename})"
        report.skipped.append(Skipped("blobs", "", "", told))


def _places(root: Path, project: str | None, run: str | None) -> list[Path]:
    there = projects(root)
    if project is not None and project not in there:
        raise NotFoundError(f"no project {project!r} in {root}; there are: {', '.join(there)}")
    found = [
        folder
        for name in (there if project is None else [project])
        for folder in sorted(run_folders(root, name))
        if run is None or folder.name == run
    ]
    if run is not None and not found:
        raise NotFoundError(f"there is no run {run!r} in {root / (project or '')}")
    if run is not None and len(found) > 1:
        told = ", ".join(folder.parent.name for folder in found)
        raise ArgumentError(f"several projects have a run {run!r}: {told}; say which")
    return found


def _clear(folder: Path) -> None:
    """Remove what a compaction that was killed left unfinished."""
    with contextlib.suppress(OSError):
        for entry in list(os.scandir(folder)):
            if _BESIDE.fullmatch(entry.name):
                with contextlib.suppress(BusyError), alone(folder):
                    Path(entry.path).unlink(missing_ok=True)


def _compact_run(folder: Path, report: CompactReport, progress: Progress) -> None:
    """Compact one run; or put it aside, where it is deleted."""

    def skip(reason: object, log: str = "") -> None:
        report.skipped.append(Skipped(folder.parent.name, folder.name, log, str(reason)))

    try:
        with alone(folder):
            found = [Survey.of(path) for path in logs(folder)]
            progress(sum(log.reader.offset for log in found))
            if is_deleted(found):
                _put_aside(folder)
                report.runs += 1
            else:
                _compact_logs(folder, found, report, progress, skip)
    except BusyError as error:
        skip(error)
    except FileNotFoundError:
        skip("it was removed meanwhile")
    except PermissionError as error:
        skip(error.strerror)


def _put_aside(folder: Path) -> None:
    """Take a deleted run away, unless somebody wants it back; the folder is locked.

    It is looked at again once it is out of reach: an edit that came before is in its logs, and
    one that comes later fails and says so.

    Raises:
        BusyError: It stays.
    """
    _refuse_if_live(folder)
    if folder.is_symlink():
        raise BusyError("its folder is a link; remove what it leads to, then the link")
    try:
        aside = put_aside(folder)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise BusyError(f"it cannot be removed: {error.strerror or error}") from error
    try:
        _refuse_if_wanted(aside)
    except (BusyError, OSError):
        put_back(aside, folder)
        raise


def _refuse_if_wanted(aside: Path) -> None:
    _refuse_if_live(aside)
    if not is_deleted([Survey.of(path) for path in logs(aside)]):
        raise BusyError("it was restored meanwhile")


def _compact_logs(
    folder: Path,
    found: Sequence[Survey],
    report: CompactReport,
    progress: Progress,
    skip: Callable[[object, str], None],
) -> None:
    deletions = Deletions.of(
        event for log in found for _, event in log.events if event.type in DELETION_EVENTS
    )
    rewritten = 0
    for log in found:
        if not deletions.concerns(log.path.stem, log.generation):
            continue
        try:
            loss = _compact_log(folder, log, found, deletions, report, progress)
        except BusyError as error:
            skip(error, log.path.name)
            continue
        if loss is not None:
            rewritten += 1
    report.logs += rewritten
    report.runs += bool(rewritten)


def _compact_log(
    folder: Path,
    log: Survey,
    found: Sequence[Survey],
    deletions: Deletions,
    report: CompactReport,
    progress: Progress,
) -> Loss | None:
    """Write one log anew; None where nothing of it is deleted.

    Raises:
        BusyError: It has to be left as it is.
    """
    header = first_header(log.path)
    if log.damaged or header is None or header.generation != log.generation:
        raise BusyError("it is damaged; deleted points stay hidden in it")
    source = Source(
        log.path,
        log.generation,
        log.reader.offset,
        log.reader.keysets,
        log.reader.next_keyset,
        [
            former
            for _, event in log.events
            if event.type == "compacted" and event.fields.get("generation") == log.generation
            for former in formers_of(event)
        ],
    )
    loss = measure(source, deletions, progress)
    if not loss.points:
        return None
    _refuse_if_written(folder, log, found)
    # First: whoever is killed behind the renaming would leave blobs that nobody knows of.
    note_blobs(folder.parent.parent, loss.digests)
    size = _replace(log, source, deletions, loss, progress)
    report.points_removed += loss.points
    report.bytes_before += log.status.st_size
    report.bytes_after += size
    return loss


def _refuse_if_live(folder: Path) -> None:
    """Raise BusyError where the run is being recorded."""
    place = standing(folder)
    if place is not None and place.live:
        raise BusyError("the run is still being recorded")
    if place is not None and place.live_elsewhere:
        raise BusyError("the run is still being recorded on another machine")


def _refuse_if_written(folder: Path, log: Survey, found: Sequence[Survey]) -> None:
    """Raise BusyError where somebody may still append to the log."""
    _refuse_if_live(folder)
    if log.ended:
        return
    here = host_name()
    for header in log.headers:
        if header.host == here and is_alive(header.pid, header.process_started):
            raise BusyError(f"the process that writes it (pid {header.pid}) is still alive")
    hosts = {header.host for header in log.headers} - {here}
    heard = max(
        other.status.st_mtime
        for other in found
        if other is log or any(header.role != "editor" for header in other.headers)
    )
    if hosts and time.time() - heard < QUIET_S:
        told = ", ".join(sorted(hosts))
        raise BusyError(f"it tells of no end, and {told} may still be writing to it")


def _replace(
    log: Survey, source: Source, deletions: Deletions, loss: Loss, progress: Progress
) -> int:
    """Put a log without the deleted points in the place of this one; returns its bytes."""
    beside = log.path.with_name(f".{log.path.name}.{os.urandom(4).hex()}.beside")
    points = loss.points
    try:
        with beside.open("xb") as file:
            rewrite(source, deletions, loss, file, progress)
            file.flush()
            os.fsync(file.fileno())
        _check(beside, log, points)
        # The time stays: of a run that nobody saw end, it says when.
        shutil.copystat(log.path, beside)
        with contextlib.suppress(OSError, AttributeError):
            os.chown(beside, log.status.st_uid, log.status.st_gid)
        size = beside.stat().st_size
        now = log.path.stat()
        if _identity(now) != _identity(log.status):
            raise BusyError("it changed meanwhile")
        beside.replace(log.path)
    finally:
        beside.unlink(missing_ok=True)
    _sync(log.path.parent)
    return size


def _identity(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, status.st_size, status.st_mtime_ns


def _check(beside: Path, log: Survey, removed: int) -> None:
    """Read what was written: nothing but the deleted points may be missing.

    Raises:
        OSError: It is not what it should be; the old log stays.
    """
    before, after = _counted(log.path), _counted(beside)
    if before - removed != after:
        raise OSError(0, f"the compacted log has {after} points in place of {before - removed}")


def _counted(path: Path) -> int:
    """The values in a log, those of events included."""
    points = 0
    for batch in LogReader(path).stretches():
        if batch.damage:
            raise OSError(0, "the compacted log is damaged", str(path))
        points += batch.points
        for _, event in batch.events:
            data = event.fields.get("data")
            if event.type == "value" and isinstance(data, dict):
                points += len(data)
    return points


def _sync(folder: Path) -> None:
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
