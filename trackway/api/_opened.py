"""One index a root and process: all that read the root share what it has in memory."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

if TYPE_CHECKING:
    from trackway.backend.index.index import Index

__all__ = ["opened_index"]

_lock = threading.Lock()
_opened: WeakValueDictionary[tuple[str, str], Index] = WeakValueDictionary()


def opened_index(root: Path, cache: Path | None = None) -> Index:
    """The index of a root, opened now if nobody has it open; closed when nobody holds it.

    Args:
        root: The folder that holds all projects.
        cache: Where indexes lie; ``TRACKWAY_CACHE_DIR``, else the user's cache, by default.
    """
    from trackway.backend.index.index import Index
    from trackway.backend.index.place import index_place

    name = os.path.realpath(root), str(index_place(root, cache))
    with _lock:
        index = _opened.get(name)
        if index is None:
            index = _opened[name] = Index.open(root, cache)
        return index
