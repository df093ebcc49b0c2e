"""Removes runs for good: their folders, and the blobs that nobody else refers to.

A run's folder is renamed first, to a name that no reader looks at; from then on the run is gone,
whole. Its blobs go next and the renamed folder last, so that whoever is killed in between leaves
something that says what is still to be done: the next removal or compaction finishes it.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from trackway.backend.file._references import mentions
from trackway.backend.file.attempts import standing
from trackway.backend.file.blobs import BlobStore
from trackway.backend.file.edits import run_folder
from trackway.backend.file.folder import logs, projects, run_folders
from trackway.errors import ArgumentError

__all__ = ["RemoveReport", "finish_removals", "remove_blobs", "remove_run", "remove_runs"]

YOUNG_S: Final = 3600.0
"""A blob that was put within this time may be one that a live run is about to refer to."""

_ASIDE: Final = re.compile(r"\..+\.[0-9a-f]{8}\.removed")


@dataclass(frozen=True, slots=True)
class RemoveReport:
    """What a removal freed.

    Attributes:
        bytes: Of all removed files, blobs included.
        files: How many files the runs' folders held.
        blobs: How many blobs nobody else referred to.
    """

    bytes: int = 0
    files: int = 0
    blobs: int = 0

    def __add__(self, other: RemoveReport) -> RemoveReport:
        return RemoveReport(
            self.bytes + other.bytes, self.files + other.files, self.blobs + other.blobs
        )


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
        folder.rename(folder.with_name(f".{folder.name}.{os.urandom(4).hex()}.removed"))
    return _finish(root, _left({folder.parent for folder in folders}))


def finish_removals(root: Path) -> RemoveReport:
    """Go on with the removals that a killed process left unfinished."""
    return _finish(root, _left([root / project for project in projects(root)]))


def _left(projects: Iterable[Path]) -> list[Path]:
    """The folders in these projects that were renamed and are still there."""
    found = []
    for project in projects:
        with contextlib.suppress(FileNotFoundError), os.scandir(project) as entries:
            found += [Path(entry.path) for entry in entries if _ASIDE.fullmatch(entry.name)]
    return found


def _finish(root: Path, asides: Sequence[Path]) -> RemoveReport:
    """Remove what was renamed already. Several processes may be at it at once."""
    digests: set[str] = set()
    for path in (path for aside in asides for path in logs(aside)):
        with contextlib.suppress(FileNotFoundError):
            digests |= mentions(path)
    report = remove_blobs(root, digests)
    for aside in asides:
        sizes = [size for _, size in _files_in(aside)]
        while aside.exists():
            with contextlib.suppress(FileNotFoundError):  # another process removed it first
                shutil.rmtree(aside)
        report += RemoveReport(sum(sizes), len(sizes))
    return report


def remove_blobs(root: Path, digests: Collection[str]) -> RemoveReport:
    """Remove those of these blobs that no log of any run mentions.

    Blobs that were put within the last hour stay as long as any run is being recorded: it may be
    about to refer to them.

    Raises:
        OSError: A log cannot be read, and might mention one; nothing was removed.
    """
    store = BlobStore(root)
    orphans = {digest for digest in digests if store.path(digest).is_file()}
    folders = [folder for project in projects(root) for folder in run_folders(root, project)]
    for folder in folders if orphans else ():
        for path in logs(folder):
            with contextlib.suppress(FileNotFoundError):
                orphans -= mentions(path, orphans)
        if not orphans:
            break
    young = {digest for digest in orphans if _is_young(store.path(digest))}
    if young and any(map(_is_live, folders)):
        orphans -= young
    sizes = [size for digest in orphans if (size := _remove_blob(store.path(digest))) is not None]
    return RemoveReport(sum(sizes), 0, len(sizes))


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
