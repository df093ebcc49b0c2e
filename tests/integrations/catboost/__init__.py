"""The catboost integration, with the real framework."""

import pytest

pytest.importorskip("catboost")
