"""The backend of this process is that of the processes which these tests start."""

from __future__ import annotations

import keras
import pytest


@pytest.fixture(autouse=True)
def same_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test starts has the backend of this process, unless the test says otherwise."""
    monkeypatch.setenv("KERAS_BACKEND", keras.backend.backend())
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
