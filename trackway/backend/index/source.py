"""What the bucket queries ask of whoever holds the points: lines, and cells of a pyramid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["CELL_STEPS", "CellLine", "Cells", "Line", "Source"]

CELL_STEPS: Final = 256
"""Steps in one cell of a pyramid; cells lie at multiples of it, also below zero.

Cells of 64 steps take 0.6 bytes a point, those of 256 take 0.15, and a byte does not suffice to say
where in a wider one a step lies. A million steps have 4,000 of them."""

Values = npt.NDArray[Any]
"""float32 or float64; what a float32 array holds is exactly what was logged."""


@dataclass(slots=True)
class Line:
    """The points of one metric in one run, resolved, in step order.

    Attributes:
        run: The run's number.
        steps: int64, rising; equal steps follow each other in order of arrival (repeats "all").
        times: float64, seconds since 1970.
        values: float32 or float64.
        started: When the run started, seconds since 1970.
        share: Lines of one answer with equal ``share`` have identical ``steps``; None: unknown.
        left_out: Points that are not here because their value is no number, or their step needs
            more than 64 bits.
    """

    run: int
    steps: npt.NDArray[np.int64]
    times: npt.NDArray[np.float64]
    values: Values
    started: float
    share: int | None = None
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class Cells:
    """Cells of a pyramid, all arrays of one length, by rising id.

    Only cells with points are here. An id may come twice where two chunks meet in one cell: then
    the points of the former all have lower steps than those of the latter.

    Attributes:
        id: int64, floor(step / CELL_STEPS).
        low: uint8, the lowest step of a point, less id * CELL_STEPS.
        high: uint8, the highest one, likewise.
        count: int64, points, at least 1.
        nan: int64, how many of them are NaN.
        inf_pos: int64, how many are +inf.
        inf_neg: int64, how many are -inf.
        min: float64, of the finite values; NaN where there is none.
        max: float64, likewise.
        sum: float64, of the finite values; 0.0 where there is none.
        first: float64, the value at the lowest step, whatever it is.
        last: float64, the value at the highest step.
    """

    id: npt.NDArray[np.int64]
    low: npt.NDArray[np.uint8]
    high: npt.NDArray[np.uint8]
    count: npt.NDArray[np.int64]
    nan: npt.NDArray[np.int64]
    inf_pos: npt.NDArray[np.int64]
    inf_neg: npt.NDArray[np.int64]
    min: npt.NDArray[np.float64]
    max: npt.NDArray[np.float64]
    sum: npt.NDArray[np.float64]
    first: npt.NDArray[np.float64]
    last: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.id)


@dataclass(slots=True)
class CellLine:
    """One run's live line between two steps: as cells where there are, as points beside.

    No point is in both. Cells and points may lie between each other, and need not come in one
    order: whoever joins them goes by their steps.

    Attributes:
        run: The run's number.
        cells: Cells that lie wholly between the two steps.
        steps: int64, rising: the points that are in no cell.
        values: float32 or float64, their values.
        total: Points of the whole line, also outside the two steps.
        left_out: As in Line.
    """

    run: int
    cells: Cells
    steps: npt.NDArray[np.int64]
    values: Values
    total: int
    left_out: int = 0


class Source(Protocol):
    """Where the bucket queries get their points from."""

    def lines(
        self,
        runs: Sequence[int],
        key: str,
        *,
        attempts: str = "live",
        repeats: str = "last",
        times: bool = True,
    ) -> list[Line]:
        """The lines of the runs that have the metric, in the order of ``runs``.

        Args:
            runs: Numbers of runs, each once.
            key: The metric's name.
            attempts: ``live``, or ``all``: with what a resumed run replaced.
            repeats: ``last``: the last arrival of each step; ``all``: every arrival.
            times: Whether times and beginnings are needed; without, they may be empty and 0.
        """

    def extent(self, runs: Sequence[int], key: str) -> tuple[int, int] | None:
        """The lowest and the highest step over all these runs, or wider; None without points."""

    def cells(self, runs: Sequence[int], key: str, lo: int, hi: int) -> dict[int, CellLine]:
        """The live lines from step ``lo`` to ``hi`` (both inclusive), last arrivals, as cells.

        Both are at the edge of a cell (or of 64 bits). A run is absent where its pyramid is not
        exact for this (steps that repeat or were replaced), or where it would not help.
        """
