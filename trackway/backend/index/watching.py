"""What changed in a root, told by the system: for readers that ask the same root again and again.

Linux tells who asks (inotify) which folder something happened in, so a reader of 10,000 runs learns
of every change at once, without looking at every file. It is an advantage, never a need: where it
is not to be had, or cannot be relied on, everything is looked at as before.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Final

from trackway.backend.index._inotify import (
    ATTRIB,
    CLOSE_WRITE,
    CREATE,
    DELETE,
    DELETE_SELF,
    DONT_FOLLOW,
    IGNORED,
    MODIFY,
    MOVE_SELF,
    MOVED_FROM,
    MOVED_TO,
    ONLYDIR,
    OVERFLOW,
    UNMOUNT,
    Inotify,
)
from trackway.backend.index.contract import RunRef

__all__ = ["Lookout", "Watcher"]

SHORT_S: Final = 0.005
"""A root that is looked at in less is looked at every time, and needs no watcher."""

WATCH_FROM: Final = 3
"""The question at which a watcher is worth its start: who asks once must not pay for it."""

WATCHED_S: Final = 60.0
"""With a watcher, the whole root is still looked at so often. The system does not tell of what is
written through mapped memory, through another hard link of a log or the target of a linked one,
nor of a folder that is mounted over; such a change is found with that delay, not never."""

LOCAL: Final = frozenset(
    "bcachefs btrfs ext2 ext3 ext4 f2fs jfs overlay ramfs reiserfs tmpfs xfs zfs".split()
)
"""File systems that only this machine writes to. Of what another machine writes to a shared one
(NFS, Lustre, CIFS, most of FUSE), inotify says nothing; one that is not known is not relied on."""

WATCH_SHARE: Final = 2
"""At most one in WATCH_SHARE of the user's watches is taken: editors want some too."""

_SELF: Final = DELETE_SELF | MOVE_SELF
_ENTRIES: Final = CREATE | DELETE | MOVED_FROM | MOVED_TO | ATTRIB
_FOLDER: Final = _ENTRIES | _SELF | ONLYDIR | DONT_FOLLOW
_RUN: Final = _FOLDER | MODIFY | CLOSE_WRITE

_LIMIT: Final = "/proc/sys/fs/inotify/max_user_watches"
_MOUNTS: Final = "/proc/self/mountinfo"


class _LostError(Exception):
    """From here on not every change would be told of."""


class Watcher:
    """Tells in which runs of a root something changed. Not for several threads at once.

    Made by ``start``. There is no thread: what happened waits in the system until it is asked for.
    Once ``changed`` has answered None it always does, and another watcher has to be started.
    """

    def __init__(self, root: Path, system: Inotify, most: int) -> None:
        self._given = str(root)
        self._root = os.path.realpath(root)
        self._system = system
        self._most = most
        self._pid = os.getpid()
        self._identity = _identity(self._root)
        self._is_lost = False
        self._places: dict[int, RunRef] = {}  # ("", "") is the root, (project, "") a project
        self._watches: dict[RunRef, int] = {}
        self._runs: dict[str, set[str]] = {}
        self._restless: set[RunRef] = set()  # what cannot be watched is named every time

    @classmethod
    def start(cls, root: Path) -> Watcher | None:
        """Watch a root: what changes after this returns is told of.

        Args:
            root: The folder that holds all projects.

        Returns:
            None where that is not to be had: on other systems, on file systems that other machines
            write to, for roots that links or mounts lead out of, and beyond the system's limits.
        """
        if not sys.platform.startswith("linux") or not _is_local(os.path.realpath(root)):
            return None
        system = None
        try:
            system = Inotify()
            watcher = cls(root, system, _most_watches())
            watcher._watch_root()
        except (_LostError, OSError, AttributeError):  # a libc may lack the functions
            if system is not None:
                system.close()
            return None
        return watcher

    def close(self) -> None:
        """Give everything back."""
        self._is_lost = True
        self._system.close()
        for kept in (self._places, self._watches, self._runs, self._restless):
            kept.clear()

    def changed(self) -> set[RunRef] | None:
        """The runs in which something changed since this was last asked.

        New runs and removed ones are among them, and some where nothing of interest happened. A
        run that is named must be looked at after the call, not before.

        Returns:
            None where everything has to be looked at: more happened than the system remembers, a
            folder could not be watched, the root is another folder, or this is a forked child.
        """
        if self._is_lost or self._pid != os.getpid():
            return None
        try:
            found = self._told()
            if _identity(self._given) != self._identity:
                raise _LostError
        except (_LostError, OSError):
            self.close()
            return None
        except BaseException:  # an interrupt: what was told is not told again
            self.close()
            raise
        return found | self._restless

    # -- what happened ---------------------------------------------------------------------

    def _told(self) -> set[RunRef]:
        """Sort what happened by run; what is new is watched from here on.

        Invariant: a folder is watched before it is listed or looked at, and whatever appeared is
        named, so what was put into it before it was watched is found.
        """
        runs: set[RunRef] = set()
        appeared: set[RunRef] = set()
        for watch, mask, name in self._system.events():
            if mask & (OVERFLOW | UNMOUNT):
                raise _LostError
            place = self._places.get(watch)
            if place is None:
                continue
            if mask & IGNORED:
                self._drop(place, watch)
            elif not place.id:
                appeared |= _touched(place, name)
            else:
                (appeared if mask & _SELF else runs).add(place)
        for place in appeared:
            if place.id:
                self._watch_run(place)
                runs.add(place)
            else:
                runs |= self._watch_project(place.project)
        return runs

    def _watch_root(self) -> None:
        self._watch(RunRef("", ""), self._root, _FOLDER)
        if _identity(self._given) != self._identity:
            raise _LostError
        for name in _names(self._root):
            for place in _touched(RunRef("", ""), name):
                self._watch_project(place.project)

    def _watch_project(self, project: str) -> set[RunRef]:
        """Watch a project that appeared, or forget one that is gone; which runs that concerns."""
        path = f"{self._root}/{project}"
        before = self._runs.get(project, set()) | {
            ref.id for ref in self._restless if ref.project == project
        }
        try:
            self._watch(RunRef(project, ""), path, _FOLDER)
            now = {name for name in _names(path) if name[0] != "."}
        except (FileNotFoundError, NotADirectoryError):
            if Path(path).is_symlink():
                raise _LostError from None
            now = set()
            self._drop(RunRef(project, ""))
        concerned = {RunRef(project, run) for run in before | now}
        for ref in concerned:
            self._watch_run(ref)
        return concerned

    def _watch_run(self, ref: RunRef) -> None:
        path = f"{self._root}/{ref.project}/{ref.id}"
        self._restless.discard(ref)
        try:
            self._watch(ref, path, _RUN)
            self._runs.setdefault(ref.project, set()).add(ref.id)
        except (FileNotFoundError, NotADirectoryError):
            self._drop(ref)
            if Path(path).is_symlink():
                self._restless.add(ref)
        except PermissionError:
            self._drop(ref)
            self._restless.add(ref)

    def _watch(self, ref: RunRef, path: str, mask: int) -> None:
        """Watch what is at this path now; the same folder under a new name keeps its watch."""
        watch = self._system.add(path, mask)
        old = self._watches.get(ref)
        if old is not None and old != watch:
            self._drop(ref)
        self._places[watch] = ref
        self._watches[ref] = watch
        if len(self._places) > self._most:
            raise _LostError

    def _drop(self, ref: RunRef, ended: int | None = None) -> None:
        """Let go of the watch of a place, unless it is another place's by now.

        Args:
            ref: The place.
            ended: A watch that the system let go of by itself.
        """
        watch = self._watches.get(ref) if ended is None else ended
        if watch is None:
            return
        if self._places.get(watch) == ref:
            del self._places[watch]
            if ended is None:
                self._system.remove(watch)
        if self._watches.get(ref) == watch:
            del self._watches[ref]
            self._runs.get(ref.project, set()).discard(ref.id)


def _touched(place: RunRef, name: str) -> set[RunRef]:
    """The run or project that an event in the root or in a project is about, if any."""
    if not name:  # the folder itself; the root is recognized by its identity
        return {place} if place.project else set()
    if name[0] == "." or (not place.project and name == "blobs"):
        return set()
    return {RunRef(place.project, name) if place.project else RunRef(name, "")}


def _names(path: str) -> list[str]:
    """The names of the folders and links in a folder."""
    with os.scandir(path) as entries:
        return [e.name for e in entries if e.is_symlink() or e.is_dir(follow_symlinks=False)]


def _identity(path: str) -> tuple[int, int]:
    status = os.stat(path)  # noqa: PTH116 - at every question
    return status.st_dev, status.st_ino


def _most_watches() -> int:
    try:
        return int(Path(_LIMIT).read_text()) // WATCH_SHARE
    except (OSError, ValueError):
        return sys.maxsize


def _is_local(root: str) -> bool:
    """Whether only this machine writes to a root, and nothing else is mounted in it."""
    best, kind = "", ""
    try:
        with Path(_MOUNTS).open("rb") as lines:
            for line in lines:
                fields = line.split()
                place = os.fsdecode(_unescaped(fields[4]))
                if place.startswith(root.rstrip("/") + "/"):
                    return False
                # A later mount at the same place lies over an earlier one.
                if f"{root}/".startswith(place.rstrip("/") + "/") and len(place) >= len(best):
                    best, kind = place, os.fsdecode(fields[fields.index(b"-") + 1])
    except (OSError, ValueError, IndexError):
        return False
    return kind in LOCAL


def _unescaped(point: bytes) -> bytes:
    """A path as it is: blanks and the like are told as a backslash and three octal digits."""
    first, *others = point.split(b"\\")
    return first + b"".join(bytes([int(part[:3], 8)]) + part[3:] for part in others)


class Lookout:
    """Decides what of a root has to be looked at, from question to question.

    Args:
        root: The folder that holds all projects.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._watcher: Watcher | None = None
        self._try_at = float("-inf")
        self._asked = 0
        self._waiting: set[RunRef] = set()  # told of, not looked at yet
        self.forget()

    def forget(self) -> None:
        """The next look is at everything."""
        self._looked_at = float("-inf")
        self._quiet_s = self._took_s = 0.0

    def close(self) -> None:
        """Watch no more."""
        if self._watcher is not None:
            self._watcher.close()
            self._watcher = None

    def due(self, share: float) -> set[RunRef] | None:
        """The runs in which something is known to have changed; None: look at everything.

        Args:
            share: Without a watcher, everything is looked at when so many times what the last look
                took has passed.
        """
        self._asked += 1
        waited = time.perf_counter() - self._looked_at
        found = None if self._watcher is None else self._watcher.changed()
        if found is None:
            self.close()
            is_due = waited >= share * self._quiet_s or self._quiet_s < SHORT_S
        else:
            self._waiting |= found
            is_due = waited >= WATCHED_S
        return None if is_due else set(self._waiting)

    def begin(self) -> None:
        """Everything is about to be looked at: what changes from here on is watched for.

        Invariant: a watcher is started before the look that it is relied on to complete.
        """
        wants = self._asked >= WATCH_FROM and self._took_s >= SHORT_S
        if self._watcher is None and wants and time.perf_counter() >= self._try_at:
            self._watcher = Watcher.start(self._root)
            if self._watcher is None:
                self._try_at = time.perf_counter() + WATCHED_S

    def looked(self, started: float, *, is_quiet: bool) -> None:
        """Everything was looked at.

        Args:
            started: When that began, by ``time.perf_counter``.
            is_quiet: Nothing new was found, so it took what a look takes.
        """
        self._looked_at = time.perf_counter()
        self._took_s = self._looked_at - started
        self._quiet_s = self._took_s if is_quiet else 0.0
        self._waiting.clear()

    def done(self, runs: set[RunRef]) -> None:
        """These runs were looked at."""
        self._waiting -= runs
