"""Where things are inside a root: ``<root>/<project>/<run>/<writer>.log`` and ``<root>/blobs``."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from trackway.errors import NotFoundError

__all__ = ["default_root", "logs", "make_root", "projects", "run_folders"]

DIR_VARIABLE: Final = "TRACKWAY_DIR"
_RESERVED: Final = {"blobs"}


def default_root() -> Path:
    """The folder of ``TRACKWAY_DIR``, else ``./trackway``.

    Where ``./trackway`` is a Python package (somebody works on Trackway itself), it is
    ``./trackway-data``: data never goes among sources.
    """
    given = os.environ.get(DIR_VARIABLE)
    if given:
        return Path(given).expanduser().absolute()
    usual = Path("trackway").absolute()
    if (usual / "__init__.py").exists():
        return usual.with_name("trackway-data")
    return usual


def make_root(root: Path) -> None:
    """Make the folder, and keep it out of the git repository it may lie in.

    Raises:
        OSError: It cannot be made.
    """
    if root.is_dir():
        return
    root.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError), (root / ".gitignore").open("x") as file:
        file.write("*\n")


def projects(root: Path) -> list[str]:
    """The projects in a root, sorted by name.

    Raises:
        NotFoundError: There is no such folder.
    """
    try:
        entries = list(os.scandir(root))
    except (FileNotFoundError, NotADirectoryError):
        raise NotFoundError(
            f"there is no folder {root}; pass --dir (dir=) or set {DIR_VARIABLE}"
        ) from None
    return sorted(
        entry.name
        for entry in entries
        if _is_folder(entry) and not entry.name.startswith(".") and entry.name not in _RESERVED
    )


def run_folders(root: Path, project: str) -> Iterator[Path]:
    """The folders of a project's runs, in no order; empty where there is no such project."""
    try:
        entries = list(os.scandir(root / project))
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        if _is_folder(entry) and not entry.name.startswith("."):
            yield Path(entry.path)


def logs(folder: Path) -> list[Path]:
    """The logs of one run, sorted by name; empty where the folder is gone."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        return sorted(
            Path(entry.path) for entry in entries if entry.name.endswith(".log") and _is_file(entry)
        )
    return []


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder; a link that leads in a circle is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False
