"""``autolog`` knows accelerate's trackers by name only: it registers ours.

A loop whose ``Accelerator`` was given no ``log_with`` is a plain PyTorch loop, and is recorded as
one.
"""

from __future__ import annotations

from types import ModuleType

from trackway.integrations._patch import Patches
from trackway.integrations.accelerate._name import NAME, naming

__all__ = ["OPTIONS", "patch"]

OPTIONS: frozenset[str] = frozenset()


def patch(patches: Patches, module: ModuleType) -> None:
    """Register the tracker, for good: it is a name that nobody uses who does not mean us."""
    naming.register(module)
    patches.registered(f"log_with={NAME!r}", lambda: None)
