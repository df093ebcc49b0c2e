from __future__ import annotations

import importlib.util
import sys
import threading
import time

import pytest

from trackway.backend.file import _fs
from trackway.backend.file._fs import FileSystem

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs Linux or another Unix")


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux, which tells it for each thread")
def test_a_thread_that_waited_is_told_from_one_that_did_not() -> None:
    """Sleeping counts, computing does not, and other threads' sleep does not, either."""
    files = FileSystem()
    before = files.waits()
    time.sleep(0.001)
    after = files.waits()
    assert after > before
    sleeper = threading.Thread(target=time.sleep, args=(0.01,))
    sleeper.start()
    sum(range(10_000))
    assert files.waits() - after < 5
    sleeper.join()


def test_where_the_system_does_not_tell_every_slow_write_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A new number each time: also on a system without the module that would tell."""
    monkeypatch.setitem(sys.modules, "resource", None)
    spec = importlib.util.spec_from_file_location("_fs_elsewhere", _fs.__file__)
    assert spec is not None
    assert spec.loader is not None
    elsewhere = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(elsewhere)
    assert elsewhere.resource is None
    files = elsewhere.FileSystem()
    assert len({files.waits() for _ in range(5)}) == 5


def test_one_call_can_be_replaced() -> None:
    """The others stay."""
    files = FileSystem().but(time=lambda: 7.0)
    assert files.time() == 7.0
    assert files.write is FileSystem().write
