"""Removes runs for good: their folders, and the blobs that nobody else refers to.

A run's folder is renamed first, to a name that no reader looks at; from then on the run is gone,
whole. Its blobs go next and the renamed folder last, so that whoever is killed in between leaves
something that says what is still to be done: the next removal or compaction finishes it. Blobs
that must wait are written down in ``blobs/.<8 hex digits>.waiting`` before the folder goes.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from trackway.backend.file._references import mentions
from trackway.backend.file._survey import BusyError, alone
from trackway.backend.file.attempts import standing
from trackway.backend.file.blobs import BlobStore
from trackway.backend.file.edits import run_folder
from trackway.backend.file.folder import logs, projects, run_folders
from trackway.errors import ArgumentError

__all__ = [
    "RemoveReport",
    "finish_removals",
    "note_blobs",
    "put_aside",
    "put_back",
    "remove_blobs",
    "remove_run",
    "remove_runs",
    "run_of",
]

YOUNG_S: Final = 3600.0
"""A blob that was put within this time may be one that a live run is about to refer to."""

_ASIDE: Final = re.compile(r"\..+\.[0-9a-f]{8}\.removed")
_NOTE: Final = re.compile(r"\.[0-9a-f]{8}\.waiting")

Failed = Callable[[Path, OSError], None]


def _raise(aside: Path, error: OSError) -> None:
    raise error


@dataclass(frozen=True, slots=True)
class RemoveReport:
    """What a removal freed.

    Attributes:
        bytes: Of all removed files, blobs included.
        files: How many files the runs' folders held.
        blobs: How many blobs nobody else referred to.
        blobs_waiting: How many more nobody refers to, but a run that is being recorded may be
            about to; the next removal or compaction looks at them again. Those of earlier
            removals count, too.
        blobs_wait_until: Seconds since 1970 at which the last of them can go at the latest,
            unless somebody uses it again; sooner once no run is being recorded.
    """

    bytes: int = 0
    files: int = 0
    blobs: int = 0
    blobs_waiting: int = 0
    blobs_wait_until: float = 0.0


def remove_run(root: Path, project: str, run_id: str, *, force: bool = False) -> RemoveReport:
    """Remove a run and everything that only it uses; its id may be used again afterwards.

    Args:
        root: The folder that holds all projects.
        project: The project's name.
        run_id: The run's id.
        force: Also where it is still being recorded. A process that records it notices within a
            second and puts its own log back.

    Raises:
        NotFoundError: There is no such run.
        ArgumentError: It is still being recorded, or its folder is a link to another place.
        OSError: Something could not be removed; the run is either as it was or gone, and the
            next removal goes on with the rest.
    """
    return remove_runs(root, [(project, run_id)], force=force)


def remove_runs(
    root: Path, runs: Sequence[tuple[str, str]], *, force: bool = False
) -> RemoveReport:
    """Remove several runs, given as (project, id); all other logs are searched only once.

    Raises:
        NotFoundError: One of them is not there; none was removed. The rest as ``remove_run``.
    """
    root = Path(root)
    folders = [run_folder(root, project, run_id) for project, run_id in dict.fromkeys(runs)]
    for folder in folders:
        if folder.is_symlink():
            raise ArgumentError(f"{folder} is a link; remove what it leads to, then the link")
        if not force and _is_live(folder):
            raise ArgumentError(
                f"run {folder.parent.name}/{folder.name} is still being recorded; "
                "end it first, or insist (force)"
            )
    for folder in folders:
        put_aside(folder)
    return _finish(root, _left({folder.parent for folder in folders}))


def finish_removals(root: Path, failed: Failed = _raise) -> RemoveReport:
    """Go on with the removals that a killed process left unfinished, and with blobs that wait.

    Args:
        root: The folder that holds all projects.
        failed: Called with each run's folder that cannot be removed now, and why.

    Raises:
        OSError: As ``remove_blobs``; without ``failed``, also for a folder.
    """
    return _finish(root, _left([root / project for project in projects(root)]), failed)


def _left(projects: Iterable[Path]) -> list[Path]:
    """The folders in these projects that were renamed and are still there."""
    found = []
    for project in projects:
        with contextlib.suppress(FileNotFoundError), os.scandir(project) as entries:
            found += [Path(entry.path) for entry in entries if _ASIDE.fullmatch(entry.name)]
    return found


def put_aside(folder: Path) -> Path:
    """Take a run away from all readers; what is put aside is removed by ``finish_removals``.

    Raises:
        OSError: It cannot be renamed, or is gone.
    """
    return folder.rename(folder.with_name(f".{folder.name}.{os.urandom(4).hex()}.removed"))


def put_back(aside: Path, folder: Path) -> None:
    """Undo ``put_aside``; also where somebody has made the folder anew meanwhile.

    Raises:
        OSError: It cannot be renamed.
    """
    try:
        aside.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
        for path in list(aside.iterdir()):
            if not (folder / path.name).exists():
                path.rename(folder / path.name)


def run_of(aside: Path) -> tuple[str, str]:
    """Project and id of a run that was put aside."""
    return aside.parent.name, aside.name[1 : -len(".01234567.removed")]


def _finish(root: Path, asides: Sequence[Path], failed: Failed = _raise) -> RemoveReport:
    """Remove what was renamed already. Several processes may be at it at once."""
    digests: set[str] = set()
    decided = []
    for aside in asides:
        try:
            with alone(aside):  # whoever renamed it may still put it back
                digests |= _mentioned(aside)
            decided.append(aside)
        except (FileNotFoundError, BusyError):
            continue
        except OSError as error:
            failed(aside, error)
    report = remove_blobs(root, digests)
    for aside in decided:
        sizes = [size for _, size in _files_in(aside)]
        try:
            while aside.exists():
                with contextlib.suppress(FileNotFoundError):  # another process removed it first
                    shutil.rmtree(aside)
        except OSError as error:
            failed(aside, error)
            continue
        report = replace(report, bytes=report.bytes + sum(sizes), files=report.files + len(sizes))
    return report


def _mentioned(aside: Path) -> set[str]:
    found: set[str] = set()
    for path in logs(aside):
        with contextlib.suppress(FileNotFoundError):
            found |= mentions(path)
    return found


def remove_blobs(root: Path, digests: Collection[str] = ()) -> RemoveReport:
    """Remove those of these blobs, and of those that wait, that no log of any run mentions.

    Blobs that were put within the last hour stay as long as any run is being recorded: it may be
    about to refer to them. They wait: a note of their digests says so until they are decided.

    Raises:
        OSError: A log cannot be read, and might mention one; nothing was removed.
    """
    store = BlobStore(root)
    noted = _noted(root)
    asked = set(digests).union(*noted.values())
    orphans = {digest for digest in asked if store.path(digest).is_file()}
    folders = [folder for project in projects(root) for folder in run_folders(root, project)]
    # Before the search: a run that ends behind it may have told of a blob meanwhile.
    was_live = bool(orphans) and any(map(_is_live, folders))
    for folder in folders if orphans else ():
        for path in logs(folder):
            with contextlib.suppress(FileNotFoundError):
                orphans -= mentions(path, orphans)
        if not orphans:
            break
    young = {digest for digest in orphans if _is_young(store.path(digest))}
    if not (young and (was_live or any(map(_is_live, folders)))):
        young = set()
    sizes = [
        size for digest in orphans - young if (size := _remove_blob(store.path(digest))) is not None
    ]
    waiting = {digest for digest in orphans if store.path(digest).is_file()}
    _note_again(root, waiting, noted)
    return RemoveReport(sum(sizes), 0, len(sizes), len(waiting), _until(store, waiting))


def note_blobs(root: Path, digests: Iterable[str]) -> None:
    """Write down blobs that may lose their last reference now: they are decided later.

    Raises:
        OSError: The note cannot be written.
    """
    store = BlobStore(root)
    there = sorted(digest for digest in set(digests) if store.path(digest).is_file())
    if not there:
        return
    note = root / "blobs" / f".{os.urandom(4).hex()}.waiting"
    with note.open("x") as file:
        file.write("".join(f"{digest}\n" for digest in there))
        file.flush()
        os.fsync(file.fileno())


def _noted(root: Path) -> dict[Path, set[str]]:
    """The notes of blobs that wait, and what each says; of one that is torn, what is whole."""
    found: dict[Path, set[str]] = {}
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for entry in list(os.scandir(root / "blobs")):
            if _NOTE.fullmatch(entry.name):
                with contextlib.suppress(FileNotFoundError, PermissionError):
                    found[Path(entry.path)] = mentions(Path(entry.path))
    return found


def _note_again(root: Path, waiting: set[str], noted: Mapping[Path, set[str]]) -> None:
    """Let the notes say what still waits, and nothing else."""
    if len(noted) == 1 and waiting in noted.values():
        return
    note_blobs(root, waiting)
    for path in noted:
        with contextlib.suppress(FileNotFoundError, PermissionError):
            path.unlink()


def _until(store: BlobStore, waiting: Iterable[str]) -> float:
    """When the youngest of them is old enough, whatever is being recorded."""
    latest = 0.0
    for digest in waiting:
        with contextlib.suppress(FileNotFoundError):
            latest = max(latest, store.path(digest).stat().st_mtime + YOUNG_S)
    return latest


def _is_young(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime < YOUNG_S
    except OSError:
        return True


def _is_live(folder: Path) -> bool:
    place = standing(folder)
    return place is not None and (place.live or place.live_elsewhere)


def _remove_blob(path: Path) -> int | None:
    """Remove a blob, unless somebody put it again just now; returns its bytes, or None."""
    aside = path.with_name(f".{path.name}.{os.urandom(4).hex()}.beside")
    try:
        before = path.stat()
        path.rename(aside)
        # Whoever puts it sets its time, before the renaming or not at all.
        now = aside.stat()
        if now.st_mtime_ns != before.st_mtime_ns:
            aside.rename(path)
            return None
        aside.unlink()
    except FileNotFoundError:
        return None
    return before.st_size


def _files_in(folder: Path) -> Iterator[tuple[Path, int]]:
    """Each file below a folder and its bytes."""
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place, name)
            with contextlib.suppress(OSError):
                yield path, path.lstat().st_size
