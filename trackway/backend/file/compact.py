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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from trackway.backend.file._measure import Loss, Source, measure
from trackway.backend.file._rewrite import rewrite
from trackway.backend.file._survey import BusyError, Survey, is_deleted, mentions_deletion
from trackway.backend.file.attempts import first_header, standing
from trackway.backend.file.deletions import DELETION_EVENTS, Deletions, formers_of
from trackway.backend.file.folder import logs, projects, run_folders
from trackway.backend.file.process import host_name, is_alive
from trackway.backend.file.reader import LogReader
from trackway.backend.file.remove import RemoveReport, finish_removals, remove_blobs, remove_runs
from trackway.errors import ArgumentError, NotFoundError

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

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
        skipped: What holds something deleted and was left as it is.
    """

    runs: int = 0
    logs: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    points_removed: int = 0
    blobs_removed: int = 0
    skipped: list[Skipped] = field(default_factory=list)

    def add_removed(self, removed: RemoveReport) -> None:
        """Count what was removed."""
        self.bytes_before += removed.bytes
        self.blobs_removed += removed.blobs


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
    report.add_removed(finish_removals(root))
    orphans: set[str] = set()
    deleted: list[Path] = []
    for folder in folders:
        _clear(folder)
        if any([mentions_deletion(path, told) for path in logs(folder)]):
            orphans |= _compact_run(folder, report, told, deleted)
    if orphans:
        report.add_removed(remove_blobs(root, orphans))
    if deleted:
        removed = remove_runs(root, [(folder.parent.name, folder.name) for folder in deleted])
        report.add_removed(removed)
        report.runs += len(deleted)
    return report


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
                with contextlib.suppress(BusyError), _alone(folder):
                    Path(entry.path).unlink(missing_ok=True)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let no other compaction work on the run; where the file system can tell.

    Raises:
        BusyError: Another one does.
    """
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError("another process is compacting it") from None
        except OSError:
            pass  # no locks here: the file is compared before it is replaced
        yield
    finally:
        os.close(descriptor)


def _compact_run(
    folder: Path, report: CompactReport, progress: Progress, deleted: list[Path]
) -> set[str]:
    """Compact one run, or put it among those that are to be removed.

    Returns:
        The blobs that its deleted points mentioned.
    """

    def skip(reason: object, log: str = "") -> None:
        report.skipped.append(Skipped(folder.parent.name, folder.name, log, str(reason)))

    try:
        with _alone(folder):
            found = [Survey.of(path) for path in logs(folder)]
            progress(sum(log.reader.offset for log in found))
            if not is_deleted(found):
                return _compact_logs(folder, found, report, progress, skip)
            _refuse_if_live(folder)
            if folder.is_symlink():
                raise BusyError("its folder is a link; remove what it leads to, then the link")
            deleted.append(folder)
    except BusyError as error:
        skip(error)
    except FileNotFoundError:
        skip("it was removed meanwhile")
    except PermissionError as error:
        skip(error.strerror)
    return set()


def _compact_logs(
    folder: Path,
    found: Sequence[Survey],
    report: CompactReport,
    progress: Progress,
    skip: Callable[[object, str], None],
) -> set[str]:
    deletions = Deletions.of(
        event for log in found for _, event in log.events if event.type in DELETION_EVENTS
    )
    digests: set[str] = set()
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
            digests |= loss.digests
    report.logs += rewritten
    report.runs += bool(rewritten)
    return digests


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
