"""Runs that threads record at once, each its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

import trackway as tw
from trackway.core import current

Begin = Callable[..., Any]


def test_a_run_begun_apart_is_this_threads_alone(begin: Begin) -> None:
    """It is the current run here; elsewhere, and after the block, the one before it is."""
    common = begin()
    elsewhere: list[object] = []
    with current.apart():
        assert tw.run is common
        mine = begin()
        inner = begin()
        assert tw.run is inner
        assert current.open_runs() == [common, mine, inner]
        inner.finish()
        assert tw.run is mine
        thread = threading.Thread(target=lambda: elsewhere.append(tw.run))
        thread.start()
        thread.join()
    assert elsewhere == [common]
    assert tw.run is common
    assert current.open_runs() == [mine, common]
    mine.finish()
    tw.finish()
    assert tw.run is None
    with pytest.raises(AttributeError, match="no run is open"):
        tw.config  # noqa: B018
