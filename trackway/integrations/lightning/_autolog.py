"""``autolog`` gives every ``Trainer`` a logger and a callback, once it has been made."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from trackway.integrations._patch import Call, Patches

__all__ = ["OPTIONS", "patch"]

OPTIONS: frozenset[str] = frozenset({"every", "init", "prefix", "watch"})


def patch(patches: Patches, module: ModuleType) -> None:
    """Put our objects into a Trainer as its ``__init__`` returns.

    Then it has resolved its arguments, by whatever way they came (positions, environment,
    a subclass), and made its own lists of loggers and callbacks: those of the user are left alone.
    """

    def after(call: Call) -> None:
        if call.error is None:
            _equip(call.args[0], call.kwargs, patches.options)

    patches.wrap(module.Trainer, "__init__", after=after)


def _equip(trainer: Any, arguments: dict[str, Any], options: dict[str, Any]) -> None:
    from trackway.integrations.lightning._hooks import TrackwayCallback, TrackwayLogger

    if trainer.fast_dev_run or trainer.barebones:
        return  # Lightning itself takes every logger out of these
    ours = (TrackwayLogger, TrackwayCallback)
    if any(isinstance(each, ours) for each in [*trainer.loggers, *trainer.callbacks]):
        return
    logger = TrackwayLogger(**options)
    if not trainer.loggers:
        logger._aside = str(trainer.default_root_dir)
    trainer.loggers = [*trainer.loggers, logger]
    trainer.callbacks = [TrackwayCallback(), *trainer.callbacks]
