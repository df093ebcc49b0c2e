"""Where the index of a root lies: in the user's cache, never beside the data."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Final

from trackway.backend.index.contract import VERSION

__all__ = ["CACHE_VARIABLE", "cache_home", "index_place"]

CACHE_VARIABLE: Final = "TRACKWAY_CACHE_DIR"


def cache_home() -> Path:
    """The folder of ``TRACKWAY_CACHE_DIR``, else the user's cache folder for Trackway."""
    given = os.environ.get(CACHE_VARIABLE)
    if given:
        return Path(given).expanduser().absolute()
    import platformdirs

    return platformdirs.user_cache_path("trackway", appauthor=False)


def index_place(root: Path, home: Path | None = None) -> Path:
    """The file of a root's index.

    Two ways to one folder (symbolic links) lead to one index; two versions of Trackway that store
    differently each have their own.
    """
    real = os.fsencode(os.path.realpath(root))
    name = hashlib.blake2b(real, digest_size=16).hexdigest()
    return (home or cache_home()) / "index" / f"{name}.v{VERSION}.db"
