"""The run that a training belongs to which ``BackupAndRestore`` goes on with.

Beside the folder of the backup lies a small file with the run's name and project for as long as
the training has not ended well. It counts only where there is a backup to go on from.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from trackway.core.run import Run

__all__ = ["forget_run", "store_run", "stored_run"]

_ENDING: Final = ".trackway.json"
_WRITTEN: Final = "training_metadata.json"


def stored_run(callbacks: Iterable[Any]) -> dict[str, Any]:
    """The arguments of ``init`` for the run of the training that is gone on with, if there are."""
    for folder in _folders(callbacks):
        with suppress(OSError, ValueError):
            found = json.loads(_place(folder).read_text("utf-8"))
            if (folder / _WRITTEN).exists() and isinstance(found, dict):
                return {name: str(found[name]) for name in ("id", "project") if name in found}
    return {}


def store_run(callbacks: Iterable[Any], run: Run) -> None:
    """Write down whose training it is, before there is a backup of it."""
    for folder in _folders(callbacks):
        with suppress(OSError):
            place = _place(folder)
            place.parent.mkdir(parents=True, exist_ok=True)
            written = place.with_name(f"{place.name}.{os.getpid()}")
            written.write_text(json.dumps({"id": run.id, "project": run.project}), "utf-8")
            written.replace(place)


def forget_run(callbacks: Iterable[Any]) -> None:
    """The training has ended well: another one with this folder is another one."""
    for folder in _folders(callbacks):
        with suppress(OSError):
            _place(folder).unlink()


def _folders(callbacks: Iterable[Any]) -> Iterator[Path]:
    for callback in callbacks:
        folder = getattr(callback, "backup_dir", None)
        if hasattr(callback, "save_freq") and isinstance(folder, (str, os.PathLike)):
            name = str(os.fspath(folder))
            if "://" not in name:
                yield Path(name).absolute()


def _place(folder: Path) -> Path:
    return folder.with_name(folder.name + _ENDING)
