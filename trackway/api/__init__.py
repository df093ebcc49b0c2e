"""Reading runs back, while they are being written or years later.

import trackway as tw

for run in tw.Api("./trackway").runs("digits"):
    print(run.name, run.config, run.summary["val/accuracy"])
"""

from __future__ import annotations

from trackway.api._api import Api
from trackway.api._history import History, Metric, Series
from trackway.api._run import ConsoleLine, StoredRun

__all__ = ["Api", "ConsoleLine", "History", "Metric", "Series", "StoredRun"]
