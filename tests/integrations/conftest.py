"""Runs in a folder of the test's own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import trackway as tw
from trackway.api import StoredRun
from trackway.core import current

QUIET = {"companion": False, "console": False, "quiet": True}


@pytest.fixture(autouse=True)
def quiet_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Runs that integrations open themselves go into the test's root and capture nothing."""
    root = tmp_path / "runs"
    monkeypatch.setenv("TRACKWAY_DIR", str(root))
    monkeypatch.setenv("TRACKWAY_PROJECT", "p")
    for name in ("COMPANION", "CONSOLE"):
        monkeypatch.setenv(f"TRACKWAY_{name}", "0")
    monkeypatch.setenv("TRACKWAY_QUIET", "1")
    yield root
    autolog = sys.modules.get("trackway.integrations.autolog")
    if autolog is not None:
        autolog.autolog.disable()
    for run in current.open_runs():
        run.finish()


@pytest.fixture
def root(quiet_runs: Path) -> Path:
    """The root of the test's runs."""
    return quiet_runs


@pytest.fixture
def begin(root: Path) -> Callable[..., Any]:
    """``trackway.init`` into the test's root, capturing nothing unless asked."""

    def init(**arguments: Any) -> Any:
        return tw.init(**{"project": "p", "dir": root, "settings": QUIET, **arguments})

    return init


@pytest.fixture
def stored(root: Path) -> Callable[..., StoredRun]:
    """A run as a reader finds it on disk; the newest one, if none is named."""

    def read(run: Any = None) -> StoredRun:
        api = tw.Api(root)
        return api.runs("p")[0] if run is None else api.run(f"p/{run.id}")

    return read
