"""Which checkpoints other callbacks have written, seen from outside: by looking at the files.

Nothing is asked of a callback but where it writes, so that any form of file, any signature and a
subclass of the user's are served; what is not there is not recorded.
"""

from __future__ import annotations

import glob
import os
import string
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["Checkpoint", "Written"]

Mark = tuple[int, int, int]


class Checkpoint(NamedTuple):
    """A file that came, changed, or went.

    Attributes:
        path: Where it lies.
        behind: How many batches ago it was written; None where that is not known.
        judged: Name and value that it was judged by.
        aliases: What it is called besides.
        removed: It is not there any more.
    """

    path: str
    behind: int | None = 0
    judged: tuple[str, Any] | None = None
    aliases: tuple[str, ...] = ()
    removed: bool = False


class Written:
    """The files of the callbacks that write checkpoints.

    Args:
        callbacks: All callbacks of the training.
    """

    def __init__(self, callbacks: Iterable[Any]) -> None:
        self._writers = [found for found in callbacks if _template(found) is not None]
        self._seen: dict[str, Mark] = {}
        self._told: set[str] = set()
        for writer in self._writers:
            for path in _matching(writer):
                self._seen[path] = _mark(path) or (0, 0, 0)

    def look(self, epoch: int, logs: Mapping[str, Any]) -> Iterator[Checkpoint]:
        """What has changed since the last look; ``epoch`` and ``logs`` are the last epoch's."""
        for writer in self._writers:
            yield from self._of(writer, epoch, logs)
        for path in sorted(self._told):
            if not Path(path).exists():
                self._told.discard(path)
                self._seen.pop(path, None)
                yield Checkpoint(path, removed=True)

    def _of(self, writer: Any, epoch: int, logs: Mapping[str, Any]) -> Iterator[Checkpoint]:
        changed = []
        for path in _candidates(writer, epoch, logs):
            mark = _mark(path)
            if mark is not None and self._seen.get(path) != mark:
                self._seen[path] = mark
                changed.append((mark, path))
        changed.sort()
        for index, (_, path) in enumerate(changed):
            newest = index == len(changed) - 1
            self._told.add(path)
            yield Checkpoint(
                path, _behind(writer) if newest else None, _judged(writer, logs), _aliases(writer)
            )


def _template(callback: Any) -> str | None:
    """Where a callback writes: ``ModelCheckpoint`` and its like, or ``BackupAndRestore``."""
    if not hasattr(callback, "save_freq"):
        return None
    path = getattr(callback, "filepath", None)
    if isinstance(path, (str, os.PathLike)):
        return os.fspath(path) if isinstance(os.fspath(path), str) else None
    folder = getattr(callback, "backup_dir", None)
    if isinstance(folder, (str, os.PathLike)):
        literal = str(os.fspath(folder)).replace("{", "{{").replace("}", "}}")
        return str(Path(literal) / "latest.weights.h5")
    return None


def _matching(callback: Any) -> list[str]:
    """All files that a callback may have written."""
    try:
        parts = list(string.Formatter().parse(_template(callback) or ""))
    except ValueError:  # Keras will say so itself
        return []
    pattern = "".join(glob.escape(t) + ("" if field is None else "*") for t, field, *_ in parts)
    return glob.glob(pattern)  # noqa: PTH207 - the pattern may be absolute


def _candidates(writer: Any, epoch: int, logs: Mapping[str, Any]) -> list[str]:
    template = _template(writer) or ""
    if writer.save_freq != "epoch":
        return _matching(writer)
    try:
        return [template.format(**{**logs, "epoch": epoch + 1})]
    except (IndexError, KeyError, TypeError, ValueError):  # Keras will say so itself
        return []


def _mark(path: str) -> Mark | None:
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _behind(writer: Any) -> int | None:
    if writer.save_freq == "epoch":
        return 0
    count = getattr(writer, "_batches_seen_since_last_saving", None)
    return count if isinstance(count, int) else None


def _judged(writer: Any, logs: Mapping[str, Any]) -> tuple[str, Any] | None:
    name = getattr(writer, "monitor", None)
    if not isinstance(name, str):
        return None
    best_only = getattr(writer, "save_best_only", False)
    value = getattr(writer, "best", None) if best_only else logs.get(name)
    if value is None or (writer.save_freq != "epoch" and not best_only):
        return None
    return name, value


def _aliases(writer: Any) -> tuple[str, ...]:
    if not hasattr(writer, "filepath"):
        return ()
    return ("latest", "best") if getattr(writer, "save_best_only", False) else ("latest",)
