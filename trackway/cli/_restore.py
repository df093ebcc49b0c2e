"""Writes a run's stored untracked files into a folder, and never outside of it.

What the log says is not trusted: a path that leads out, or through a link, is refused, and a file
that is there is left alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from trackway.api import StoredRun
from trackway.cli._text import path_text
from trackway.errors import NotFoundError

__all__ = ["restore"]


def restore(
    run: StoredRun, entries: Iterable[Mapping[str, Any]], folder: Path
) -> tuple[list[str], list[tuple[str, str]]]:
    """Write the files of these entries under ``folder``, which is made.

    Returns:
        The paths that were written, and (path, reason) of those that were not.

    Raises:
        OSError: The folder cannot be made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written, refused = [], []
    for entry in entries:
        path = path_text(entry.get("path"))
        try:
            _write(run, entry, _target(folder, path))
        except (NotFoundError, ValueError) as error:
            refused.append((path, str(error)))
        except OSError as error:
            refused.append((path, error.strerror or str(error)))
        else:
            written.append(path)
    return written, refused


def _target(folder: Path, path: str) -> Path:
    """Where the file goes; its folder is made. ValueError where that is not below ``folder``."""
    parts = PurePosixPath(path).parts
    leads_out = path.startswith("/") or ".." in parts or (os.sep == "\\" and "\\" in path)
    if not parts or leads_out or "\0" in path:
        raise ValueError("its path leads out of the folder")
    if ".git" in (part.lower() for part in parts):
        raise ValueError("its path leads into a .git folder")
    parent = folder
    for part in parts[:-1]:
        parent = parent / part
        if parent.is_symlink():
            raise ValueError("its path leads through a symbolic link")
        parent.mkdir(exist_ok=True)
    return parent / parts[-1]


def _write(run: StoredRun, entry: Mapping[str, Any], target: Path) -> None:
    if not isinstance(entry.get("blob"), str):
        raise ValueError(f"it was not stored: {entry.get('omitted')}")
    data = run.blob(entry["blob"])
    if os.path.lexists(target):
        if not target.is_symlink() and target.read_bytes() == data:
            return
        raise ValueError("there is another file in its place")
    mode = _mode(entry.get("mode"))
    if mode & 0o170000 == 0o120000:
        _link(target, os.fsdecode(data))
        return
    with target.open("xb") as file:
        file.write(data)
    if mode & 0o111:
        target.chmod(target.stat().st_mode | 0o111)


def _link(target: Path, destination: str) -> None:
    # What is written later goes through no link, so where it leads does not matter here.
    target.symlink_to(destination)


def _mode(mode: object) -> int:
    """The mode as git has it, given as a number or as octal digits."""
    if isinstance(mode, int):
        return mode
    try:
        return int(str(mode), 8)
    except ValueError:
        return 0
