"""Processes that Lightning starts with multiprocessing, and what may be written where."""

from __future__ import annotations

import os
import sys
import tempfile
import weakref
from multiprocessing import context, process, util
from pathlib import Path
from typing import Any

from trackway.core import current
from trackway.core._guard import guard
from trackway.core.init import _user
from trackway.core.run import Run
from trackway.integrations._base import RunHandle

__all__ = ["callers_run", "can_be_made", "end_with_process", "usable"]


def callers_run() -> Run | None:
    """The current run, where an object is just being sent to a process that is spawned."""
    runs = current.open_runs() if context.get_spawning_popen() is not None else []
    return runs[-1] if runs else None


def end_with_process(handle: RunHandle) -> None:
    """A run of its own ends with this process, if that was started by multiprocessing.

    Such a process is not told to exit: an exception is put away for its parent, who knows of no
    run, and the process is gone. What is called here is the only thing called before.
    """
    if process.parent_process() is not None and handle.owns:
        util.Finalize(None, _end, (weakref.ref(handle),), exitpriority=0)


def _end(ref: weakref.ref[RunHandle]) -> None:
    handle = ref()
    if handle is None or not handle.owns:
        return
    with guard("lightning"):
        error = sys.exc_info()[1]
        if isinstance(error, SystemExit) and error.__context__ is not None:
            error = error.__context__
        if error is None:
            handle._left()
        else:
            handle.end(error)


def usable(root: Path, project: str, id: str) -> Path:
    """The root, if a run's folder can be made in it; else the one ``init`` would turn to.

    Makes nothing.
    """
    other = Path(tempfile.gettempdir()) / f"trackway-{_user()}"
    if can_be_made(root / project / id) or not can_be_made(other / project / id):
        return root
    return other


def can_be_made(folder: Path) -> bool:
    """Whether a folder is there or can be made, and written to."""
    there: Any = next((each for each in (folder, *folder.parents) if os.path.lexists(each)), None)
    return there is not None and there.is_dir() and os.access(there, os.W_OK | os.X_OK)
