"""Finds what changed in a root without opening a file: folder times, then sizes and times of logs.

A folder's listing can only change with its mtime, so a folder that looks as it did is not listed
again; of every known log there is one ``stat``. For 10,000 runs with two logs each that is a tenth
of a second; what a query asks for is looked at by itself, in microseconds a run.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from trackway.backend.index.contract import RunRef

__all__ = ["Look", "Seen", "Sight"]

SETTLED_NS: Final = 2_000_000_000
"""A folder that changed less than this ago may change once more within the same tick of its clock:
its time is not relied on."""


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
        folders: Of each run that is there: its folder's mtime in ns; 0 where that is too young to
            be relied on.
    """

    gone: set[RunRef] = field(default_factory=set)
    logs: dict[RunRef, dict[str, Seen]] = field(default_factory=dict)
    folders: dict[RunRef, int] = field(default_factory=dict)


class Sight:
    """Looks at a root again and again.

    Args:
        root: The folder that holds all projects.
    """

    def __init__(self, root: Path) -> None:
        self._root = str(root)
        self._projects: dict[str, tuple[int, list[str]]] = {}
        self._folders: dict[RunRef, tuple[int, list[str]]] = {}

    def remember(self, ref: RunRef, mtime_ns: int, logs: Iterable[str]) -> None:
        """What is known from an earlier time of a run's folder; mtime 0 is not relied on."""
        self._folders[ref] = (mtime_ns, list(logs))

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
            mtime = os.stat(place).st_mtime_ns  # noqa: PTH116 - 10,000 times
            known = self._folders.get(ref)
            if known is None or known[0] != mtime:
                known = self._folders[ref] = (_settled(mtime), _logs_in(place))
        except (FileNotFoundError, NotADirectoryError):
            self._gone(ref, look)
            return
        seen: dict[str, Seen] = {}
        for name in known[1]:
            try:
                status = os.stat(f"{place}/{name}")  # noqa: PTH116
            except FileNotFoundError:
                continue
            if status.st_size:
                seen[name] = Seen(status.st_ino, status.st_size, status.st_mtime_ns)
        if not seen:
            look.gone.add(ref)
            return
        look.folders[ref] = known[0]
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
            mtime = os.stat(place).st_mtime_ns  # noqa: PTH116
            before = known.get(name)
            if before is None or before[0] != mtime:
                with os.scandir(place) as entries:
                    names = sorted(
                        entry.name
                        for entry in entries
                        if entry.name[0] != "." and entry.name not in skip and entry.is_dir()
                    )
                before = known[name] = (_settled(mtime), names)
        except (FileNotFoundError, NotADirectoryError):
            known.pop(name, None)
            return []
        return before[1]


def _settled(mtime_ns: int) -> int:
    return mtime_ns if time.time_ns() - mtime_ns > SETTLED_NS else 0


def _logs_in(place: str) -> list[str]:
    with os.scandir(place) as entries:
        return sorted(e.name for e in entries if e.name.endswith(".log") and e.is_file())
