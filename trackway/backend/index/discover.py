"""Finds what changed in a root without opening a file: folder times, then sizes and times of logs.

A folder's listing can only change with its ctime (its mtime can be set back, as rsync does when it
has filled a folder), so a folder that looks as it did is not listed again; of every known log there
is one ``stat``. For 10,000 runs with two logs each that is a tenth of a second; what a query asks
for is looked at by itself, in microseconds a run.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from trackway.backend.index.contract import RunRef

__all__ = ["Look", "Seen", "Sight"]

SETTLED_NS: Final = 2_000_000_000
"""A folder that changed less than this ago may change once more within the same tick of its clock:
its time is not relied on. Nor is a ctime before the mtime: not every file system keeps one."""


class Seen(NamedTuple):
    """How a log looked."""

    inode: int
    size: int
    mtime_ns: int


@dataclass(slots=True)
class Look:
    """What one look found.

    Attributes:
        looked: The runs that were looked at, those that are gone among them.
        gone: Runs without a folder, or without a log in it.
        logs: Of each run that is there: its logs.
        folders: Of each run that is there: its folder's ctime in ns; 0 where that is not to be
            relied on.
        unreadable: Runs whose folder could not be looked into; they are in none of the others.
    """

    gone: set[RunRef] = field(default_factory=set)
    logs: dict[RunRef, dict[str, Seen]] = field(default_factory=dict)
    folders: dict[RunRef, int] = field(default_factory=dict)
    unreadable: dict[RunRef, OSError] = field(default_factory=dict)


class Sight:
    """Looks at a root again and again.

    Args:
        root: The folder that holds all projects.
    """

    def __init__(self, root: Path) -> None:
        self._root = str(root)
        self._projects: dict[str, tuple[int, list[str]]] = {}
        self._folders: dict[RunRef, tuple[int, list[str]]] = {}

    def remember(self, ref: RunRef, ctime_ns: int, logs: Iterable[str]) -> None:
        """What is known from an earlier time of a run's folder; ctime 0 is not relied on."""
        self._folders[ref] = (ctime_ns, list(logs))

    def all(self) -> Look:
        """Look at every run of the root; a root that is not there has none."""
        look = Look()
        present: set[RunRef] = set()
        for project in self._listed(self._root, "", self._projects, skip=("blobs",)):
            place = f"{self._root}/{project}"
            for run in self._listed(place, project, self._projects):
                ref = RunRef(project, run)
                present.add(ref)
                self._look_at(ref, f"{place}/{run}", look)
        for ref in set(self._folders) - present:
            self._gone(ref, look)
        return look

    def at(self, refs: Collection[RunRef]) -> Look:
        """Look at these runs only."""
        look = Look()
        for ref in refs:
            self._look_at(ref, f"{self._root}/{ref.project}/{ref.id}", look)
        return look

    def _gone(self, ref: RunRef, look: Look) -> None:
        self._folders.pop(ref, None)
        look.gone.add(ref)

    def _look_at(self, ref: RunRef, place: str, look: Look) -> None:
        try:
            status = os.stat(place)  # noqa: PTH116 - 10,000 times
            known = self._folders.get(ref)
            if known is None or known[0] != status.st_ctime_ns:
                names, is_whole = _listing(place, _is_log)
                known = self._folders[ref] = (_settled(status) if is_whole else 0, names)
        except (FileNotFoundError, NotADirectoryError):
            self._gone(ref, look)
            return
        except OSError as error:
            look.unreadable[ref] = error
            return
        seen: dict[str, Seen] = {}
        for name in known[1]:
            try:
                status = os.stat(f"{place}/{name}")  # noqa: PTH116
            except FileNotFoundError:
                continue
            except OSError as error:
                look.unreadable[ref] = error
                return
            if status.st_size:
                told = status.st_ino, status.st_size, status.st_mtime_ns
                seen[name] = tuple.__new__(Seen, told)  # twice as quick, and there are many
        if not seen:
            look.gone.add(ref)
            return
        # An empty log is not told of, and whoever remembers this folder would not look for it.
        look.folders[ref] = known[0] if len(seen) == len(known[1]) else 0
        look.logs[ref] = seen

    def _listed(
        self,
        place: str,
        name: str,
        known: dict[str, tuple[int, list[str]]],
        skip: Collection[str] = (),
    ) -> list[str]:
        """The folders in a folder, listed again only if it changed."""
        try:
            status = os.stat(place)  # noqa: PTH116
            before = known.get(name)
            if before is None or before[0] != status.st_ctime_ns:
                names, is_whole = _listing(place, _is_shown_folder)
                names = [found for found in names if found not in skip]
                before = known[name] = (_settled(status) if is_whole else 0, names)
        except (FileNotFoundError, NotADirectoryError):
            known.pop(name, None)
            return []
        except OSError:
            # What was there is looked at by itself, and found to be unreadable there.
            if not name:
                raise
            return known.get(name, (0, []))[1]
        return before[1]


def _settled(status: os.stat_result) -> int:
    """The ctime, where it can be relied on to change with the folder's listing."""
    ctime = status.st_ctime_ns
    is_old = time.time_ns() - ctime > SETTLED_NS
    return ctime if is_old and ctime >= status.st_mtime_ns else 0


def _is_log(entry: os.DirEntry[str]) -> bool:
    return entry.name.endswith(".log") and entry.is_file()


def _is_shown_folder(entry: os.DirEntry[str]) -> bool:
    return entry.name[0] != "." and entry.is_dir()


def _listing(place: str, wanted: Callable[[os.DirEntry[str]], bool]) -> tuple[list[str], bool]:
    """The names of the wanted entries, sorted, and whether only the folder can change them.

    Where a link leads to may come and go elsewhere.
    """
    names: list[str] = []
    is_whole = True
    with os.scandir(place) as entries:
        for entry in entries:
            try:
                is_wanted = wanted(entry)
            except OSError:  # a link that leads to itself, or where nobody may look
                is_wanted = False
            if is_wanted:
                names.append(entry.name)
            elif is_whole and entry.is_symlink():
                is_whole = False
    return sorted(names), is_whole
