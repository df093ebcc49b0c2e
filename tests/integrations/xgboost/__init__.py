"""The xgboost integration, with the real framework."""

import pytest

pytest.importorskip("xgboost")
