"""Where ``autolog`` puts the callback: on the ``CallbackHandler`` of every ``Trainer``."""

from __future__ import annotations

from types import ModuleType

from trackway.integrations._patch import Call, Patches
from trackway.integrations.huggingface._name import NAME, naming

__all__ = ["OPTIONS", "patch"]

OPTIONS: frozenset[str] = frozenset({"every", "prefix", "watch"})


def patch(patches: Patches, module: ModuleType) -> None:
    """Add the callback where none of ours is, and offer the name for ``report_to``."""
    if hasattr(module, "INTEGRATION_TO_CALLBACK"):
        # For good: nobody uses the name who does not mean us.
        naming.register(module)
        patches.registered(f"report_to={NAME!r}", lambda: None)
        return
    patches.wrap(module.CallbackHandler, "__init__", before=lambda call: _insert(patches, call))


def _insert(patches: Patches, call: Call) -> None:
    from trackway.integrations.huggingface._hooks import StandbyCallback, TrackwayCallback

    by_name = "callbacks" in call.kwargs
    given = list(call.kwargs["callbacks"] if by_name else call.args[1])
    kinds = [each if isinstance(each, type) else type(each) for each in given]
    if any(issubclass(kind, TrackwayCallback) for kind in kinds):
        return
    given.append(StandbyCallback(**patches.options))
    if by_name:
        call.kwargs["callbacks"] = given
    else:
        call.args = (call.args[0], given, *call.args[2:])
