"""The folder of an export: nothing in it is ever half written, and one process writes at a time."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Final

from trackway.api._document import json_value, run_document
from trackway.api._run import StoredRun
from trackway.errors import ArgumentError, NotFoundError

__all__ = ["Files", "locked", "placed", "write_run_files"]

BESIDE: Final = ".beside"
"""Where files are written before they get their names; of no use to anybody afterwards."""


@contextlib.contextmanager
def locked(folder: Path, *, wait: bool) -> Iterator[None]:
    """Be the only one that writes into the folder, among those who ask.

    Raises:
        ArgumentError: Somebody else is at it, and ``wait`` is False.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise ArgumentError(f"another export is writing to {folder}") from None
        except OSError:
            pass  # a file system without locks, as some network disks are
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def placed(target: Path) -> Iterator[Path]:
    """A file beside ``target`` to write to; it takes its place at the end, or is removed.

    Raises:
        OSError: It cannot be written; the error names ``target``.
    """
    beside = target.with_name(f".{target.name[:100]}.{secrets.token_hex(4)}.beside")
    try:
        yield beside
        beside.replace(target)
    except BaseException as error:
        with contextlib.suppress(OSError):
            beside.unlink()
        if isinstance(error, OSError) and error.filename == str(beside):
            raise OSError(error.errno, error.strerror, str(target)) from None
        raise


class Files:
    """Writes the files of one run after the other, and says what it wrote.

    Args:
        folder: The folder of the export.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._beside = folder / BESIDE
        self.written: dict[str, dict[str, int]] = {}

    def __enter__(self) -> Files:
        shutil.rmtree(self._beside, ignore_errors=True)
        self._beside.mkdir()
        return self

    def __exit__(self, *error: object) -> None:
        shutil.rmtree(self._beside, ignore_errors=True)

    @property
    def beside(self) -> Path:
        """A place on the same disk for a file that has no name yet."""
        return self._beside / "part"

    def write(self, path: str, make: Callable[[Path], int | None]) -> None:
        """Let ``make`` write a file, which then gets its name.

        Args:
            path: Where in the folder, parts joined by slashes.
            make: Takes the place to write at, and returns how many rows it wrote, if any.
        """
        rows = make(self.beside)
        told = {"bytes": self.beside.stat().st_size}
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        self.beside.replace(target)
        self.written[path] = told if rows is None else {**told, "rows": rows}

    def take(self) -> dict[str, dict[str, int]]:
        """What was written since the last time."""
        written, self.written = self.written, {}
        return written

    def remove(self, path: str) -> None:
        """Remove a file that an earlier export wrote, and the folders that it leaves empty."""
        parts = PurePosixPath(path).parts
        if path.startswith("/") or ".." in parts:
            return
        target = self.folder / path
        with contextlib.suppress(OSError):
            target.unlink()
        for parent in list(target.parents)[: len(parts) - 1]:
            try:
                parent.rmdir()
            except OSError:
                return


def write_run_files(files: Files, run: StoredRun) -> tuple[list[str], list[str]]:
    """Write what belongs to a run beside its points.

    ``run.json`` is everything about it but points and console; ``console.txt`` what it printed;
    ``patch.diff`` and ``untracked/…`` the state of the code that no commit has, those of
    submodules under their paths.

    Returns:
        Digests of stored files that are not there, and paths that no file can have here.
    """
    base = f"files/{run.project}/{run.id}"
    document = json.dumps(json_value(run_document(run)), indent=1, allow_nan=False)
    files.write(f"{base}/run.json", partial(_bytes, data=document.encode() + b"\n"))
    if lines := run.console():
        text = "".join(f"{line.text}\n" for line in lines)
        data = text.encode("utf-8", "backslashreplace")
        files.write(f"{base}/console.txt", partial(_bytes, data=data))
    missing: list[str] = []
    refused: list[str] = []
    for path, digest in _code(run.git or {}):
        try:
            data = run.blob(digest)
            files.write(f"{base}/{_inside(path)}", partial(_bytes, data=data))
        except NotFoundError:
            missing.append(digest)
        except (ArgumentError, OSError, ValueError):
            refused.append(path)
    return missing, refused


def _bytes(path: Path, *, data: bytes) -> None:
    path.write_bytes(data)


def _code(state: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """(path, digest) of what was not committed, here and in what lies in the tree."""
    patch = state.get("patch")
    if isinstance(patch, Mapping) and isinstance(patch.get("blob"), str):
        yield (f"submodules/{above}patch.diff" if above else "patch.diff"), patch["blob"]
    for entry in state.get("untracked") or ():
        if isinstance(entry, Mapping) and isinstance(entry.get("blob"), str):
            yield f"untracked/{above}{_text(entry.get('path'))}", entry["blob"]
    for tree in state.get("submodules") or ():
        if isinstance(tree, Mapping):
            yield from _code(tree, f"{above}{_text(tree.get('path'))}/")


def _text(path: object) -> str:
    return os.fsdecode(path) if isinstance(path, (str, bytes)) else str(path)


def _inside(path: str) -> str:
    """The path, which must not lead out: what a log says is not trusted."""
    parts = PurePosixPath(path).parts
    leads_out = path.startswith("/") or path.endswith("/") or "//" in path
    if not parts or leads_out or ".." in parts or "\0" in path:
        raise ValueError("its path leads out of the folder")
    return path
