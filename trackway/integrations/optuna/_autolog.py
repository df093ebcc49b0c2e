"""``autolog`` for Optuna: our callback before those that ``Study.optimize`` is given."""

from __future__ import annotations

import inspect
from functools import partial
from types import ModuleType

from trackway.integrations._patch import Call, Patches

__all__ = ["OPTIONS", "patch"]

OPTIONS: frozenset[str] = frozenset({"every", "group", "prefix", "trials"})


def patch(patches: Patches, module: ModuleType) -> None:
    """Add the callback to every optimisation; ``module`` is ``optuna.study.study``."""
    signature = inspect.signature(module.Study.optimize)

    def before(call: Call) -> None:
        from trackway.integrations.optuna._hooks import Inserted
        from trackway.integrations.optuna._optimize import starting

        starting(signature, call, partial(Inserted, **patches.options))

    def after(call: Call) -> None:
        from trackway.integrations.optuna._optimize import ending

        ending(call)

    patches.wrap(module.Study, "optimize", before=before, after=after)
