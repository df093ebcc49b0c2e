"""What the boosting libraries share: rounds as rows, their rate, the table of importances."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from time import perf_counter
from types import FrameType
from typing import Any, Final

from trackway.core.records import record_table
from trackway.core.run import Run
from trackway.errors import ArgumentError
from trackway.integrations._base import RunHandle, named

__all__ = ["Rounds", "frame_of", "number", "parameters"]

_FEATURES: Final = 1000
"""Rows of the table of importances: the most important features."""

_RATE_S: Final = 1.0
"""The rate is told at most once in so many seconds."""


class Rounds:
    """The rounds of a training, one row each, and what is known at its end.

    Args:
        name: The integration's name.
        run: The run, if it was passed in.
        every: Record the rounds whose step is a multiple of it.
        prefix: Goes before the name of every metric.
        importance: The kind of importance by which features are ordered; None for no table.
        kinds: The kinds that the framework has.
        roots: The framework's packages, where they are more than the table of versions says.

    Raises:
        ArgumentError: An argument is wrong.
    """

    def __init__(
        self,
        name: str,
        run: Run | None,
        *,
        every: int,
        prefix: str,
        importance: str | None,
        kinds: tuple[str, ...],
        roots: tuple[str, ...] = (),
    ) -> None:
        if importance is not None and importance not in kinds:
            raise ArgumentError(f"importance={importance!r}: it is one of {[*kinds]}, or None")
        self.handle = RunHandle(name, run, every=every, prefix=prefix, roots=roots)
        self._importance = importance
        self._forget()

    def _forget(self) -> None:
        self.under_way = False
        self._timed = True
        self.last: int | None = None
        self._count = 0
        self._first = self._now = self._marked = 0.0
        self._marked_count = 0

    def begin(self, *, timed: bool = True) -> bool:
        """A training begins; returns whether there is anything to record into.

        Args:
            timed: Whether rounds are added as they end, and so tell the training's rate.
        """
        self._forget()
        self._timed = timed
        self.under_way = self.handle.begin()
        return self.under_way

    def configure(self, values: Mapping[str, Any]) -> None:
        """Record hyperparameters, under the integration's name."""
        self.handle.configure({self.handle.name: parameters(values)})

    def aims(self, maximize: Mapping[str, bool | None]) -> None:
        """Say for every metric whether more is better, where that is known."""
        run = self.handle.run
        for name, more in named(maximize, self.handle.prefix).items():
            if run is not None and more is not None:
                run.define_metric(name, goal="maximize" if more else "minimize")

    def add(self, step: int, values: dict[str, Any]) -> None:
        """A round is over.

        Args:
            step: Its index.
            values: What was evaluated in it; a dictionary that is ours to change.
        """
        now = self._now = perf_counter()
        self.last = step
        self._count += 1
        if self._count == 1:  # the first round's time is the start's
            self._first = self._marked = now
            self._marked_count = 1
        if not self.handle.due(step):
            return
        if now - self._marked >= _RATE_S:
            values["rounds_per_s"] = (self._count - self._marked_count) / (now - self._marked)
            self._marked, self._marked_count = now, self._count
        self.handle.log(values, step)

    def importances(self, features: Sequence[str], kinds: Mapping[str, Sequence[float]]) -> None:
        """Record how much each feature counts, the most important ones first."""
        run, by = self.handle.run, self._importance
        if run is None or not kinds:
            return
        if by is None or by not in kinds:
            by = next(iter(kinds))
        order = sorted(range(len(features)), key=lambda i: -abs(kinds[by][i]))[:_FEATURES]
        columns: dict[str, list[Any]] = {"feature": [str(features[i]) for i in order]}
        for kind, values in kinds.items():
            columns[kind] = [float(values[i]) for i in order]
        record_table(
            run,
            next(iter(named({"feature_importance": None}, self.handle.prefix))),
            columns,
            step=self.last,
            kind="feature_importance",
            about={"by": by, "features": len(features)},
        )

    @property
    def wants_importances(self) -> bool:
        """Whether a table of importances was asked for."""
        return self._importance is not None

    def end(
        self,
        tell: Callable[[], Mapping[str, Any]] | None = None,
        error: BaseException | None = None,
    ) -> None:
        """The training is over.

        Args:
            tell: Records what else there is, and returns results for the summary. If it fails,
                the run is ended all the same.
            error: What ended the training, if it was left by an error.
        """
        if not self.under_way:
            return
        try:
            told = {} if tell is None else tell()  # may add the last rounds
            self.handle.summarize({**self._rate(), **told}, whole=True)
        finally:
            self._forget()
            self.handle.end(error)

    def _rate(self) -> dict[str, Any]:
        if not self._timed:
            return {}
        found: dict[str, Any] = {"rounds": self._count}
        if self._now > self._first:
            found["rounds_per_s"] = (self._count - 1) / (self._now - self._first)
        return found

    def __getstate__(self) -> dict[str, Any]:
        copy = Rounds.__new__(Rounds)
        copy.handle, copy._importance = self.handle, self._importance
        copy._forget()
        return copy.__dict__


def frame_of(module: str, functions: Iterable[str]) -> FrameType | None:
    """The innermost frame on this stack that runs one of a module's functions.

    What a training was called with is told to no callback; it is in the framework's own frame,
    where it is read and never changed. None where the framework has put it elsewhere.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name in functions and frame.f_globals.get("__name__") == module:
            return frame
        frame = frame.f_back
    return None


def parameters(values: Mapping[str, Any]) -> dict[str, Any]:
    """Hyperparameters with names in the place of functions, and without what was not given."""
    return {str(k): _named(value) for k, value in values.items() if value is not None}


def _named(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_named(item) for item in value]
    if callable(value):
        return str(getattr(value, "__qualname__", type(value).__qualname__))
    return value


def number(text: Any) -> Any:
    """The number that a text is, as the user would have written it; else the text.

    Frameworks print single precision with nine digits: 0.2 comes as 0.200000003.
    """
    if not isinstance(text, str):
        return text
    try:
        whole = int(text)
        return whole if abs(whole) < 2**63 else text
    except ValueError:
        pass
    try:
        return float(f"{float(text):.7g}")
    except ValueError:
        return text
