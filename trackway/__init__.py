"""Trackway: every run of your training on your own disk, safe, complete, and comparable.

    import trackway as tw

    run = tw.init(project="digits", config={"lr": 1e-3})
    run.log({"train/loss": 0.31})
    run.finish()

What a name below holds is imported when it is first used.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as type checkers read it, without the cost of importing typing
if TYPE_CHECKING:
    from trackway.api import Api
    from trackway.core.current import (
        config,
        define_metric,
        finish,
        log,
        run,
        summary,
        unwatch,
        watch,
    )
    from trackway.core.init import init
    from trackway.core.run import Run
    from trackway.errors import (
        ArgumentError,
        FormatError,
        MissingExtraError,
        NotFoundError,
        TrackwayError,
    )
    from trackway.integrations.autolog import autolog
    from trackway.types import Settings, __version__

__all__ = [
    "Api",
    "ArgumentError",
    "FormatError",
    "MissingExtraError",
    "NotFoundError",
    "Run",
    "Settings",
    "TrackwayError",
    "__version__",
    "autolog",
    "config",
    "define_metric",
    "finish",
    "init",
    "log",
    "run",
    "summary",
    "unwatch",
    "watch",
]

_HOMES = {
    "Api": "trackway.api",
    "Run": "trackway.core.run",
    "Settings": "trackway.types",
    "__version__": "trackway.types",
    "autolog": "trackway.integrations.autolog",
    "init": "trackway.core.init",
    **dict.fromkeys(
        ("config", "define_metric", "finish", "log", "run", "summary", "unwatch", "watch"),
        "trackway.core.current",
    ),
    **dict.fromkeys(
        ("ArgumentError", "FormatError", "MissingExtraError", "NotFoundError", "TrackwayError"),
        "trackway.errors",
    ),
}

_LIVE = {"run", "config", "summary"}
"""Names whose value is the current run's, and so never kept."""


def __getattr__(name: str) -> object:
    from importlib import import_module

    try:
        home = _HOMES[name]
    except KeyError:
        raise AttributeError(f"module 'trackway' has no attribute {name!r}") from None
    value: object = getattr(import_module(home), name)
    if name not in _LIVE:
        globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
