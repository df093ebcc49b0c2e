"""``report_to="trackway"``: our class in transformers' own table of names, once that is loaded."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from trackway.integrations._naming import NAME, Naming

__all__ = ["NAME", "naming"]


def _put(module: ModuleType, callback: type) -> bool:
    table: dict[str, Any] = getattr(module, "INTEGRATION_TO_CALLBACK", {NAME: None})
    if NAME in table:
        return False
    table[NAME] = callback
    return True


naming = Naming(
    "huggingface", "transformers.integrations.integration_utils", "StandbyCallback", _put
)
