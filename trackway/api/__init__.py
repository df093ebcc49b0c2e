"""Reading runs back, while they are being written or years later.

import trackway as tw

for run in tw.Api("./trackway").runs("digits"):
    print(run.name, run.config, run.summary["val/accuracy"])

``docs/api.md`` shows the whole of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trackway.api._api import Api
from trackway.api._compare import MISSING, Comparison
from trackway.api._history import History, Metric, Series
from trackway.api._run import ConsoleLine, StoredEvent, StoredRun
from trackway.api._runs import RunGroup, Runs
from trackway.api._stored import Checkpoint, StoredModel, StoredTable, TableName

if TYPE_CHECKING:
    from trackway.api._answers import GroupsAnswer, SeriesAnswer
    from trackway.api._export_folder import ExportReport
    from trackway.api._histograms import Histogram, Histograms
    from trackway.backend.index.expression import FilterError

__all__ = [
    "MISSING",
    "Api",
    "Checkpoint",
    "Comparison",
    "ConsoleLine",
    "ExportReport",
    "FilterError",
    "GroupsAnswer",
    "Histogram",
    "Histograms",
    "History",
    "Metric",
    "RunGroup",
    "Runs",
    "Series",
    "SeriesAnswer",
    "StoredEvent",
    "StoredModel",
    "StoredRun",
    "StoredTable",
    "TableName",
]

_HOMES = {
    "ExportReport": "trackway.api._export_folder",
    "FilterError": "trackway.backend.index.expression",
    "GroupsAnswer": "trackway.api._answers",
    "Histogram": "trackway.api._histograms",
    "Histograms": "trackway.api._histograms",
    "SeriesAnswer": "trackway.api._answers",
}
"""What is imported when it is first used: an Api alone does not need it."""


def __getattr__(name: str) -> object:
    from importlib import import_module

    try:
        home = _HOMES[name]
    except KeyError:
        raise AttributeError(f"module 'trackway.api' has no attribute {name!r}") from None
    value: object = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
