"""The lightgbm integration, with the real framework."""

import pytest

pytest.importorskip("lightgbm")
