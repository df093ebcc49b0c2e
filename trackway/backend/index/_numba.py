"""The kernels as loops, which numba compiles where it is installed and asked for.

Nothing here imports numba until ``load`` is called: importing and compiling take longer than most
answers, so only a process that will give many of them asks for it. As they stand, the loops are
plain Python and can be tested as such.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

__all__ = ["Compiled", "load", "loaded"]

_SHRINK: Final = 2.0**-64


@dataclass(frozen=True, slots=True)
class Compiled:
    """The compiled kernels."""

    weave_4: Any
    weave_8: Any
    reduce_line: Any


_loaded: list[Compiled] = []


def loaded() -> Compiled | None:
    """The compiled kernels, where ``load`` was called before and numba is there."""
    return _loaded[0] if _loaded else None


def load() -> Compiled | None:
    """The compiled kernels; None where numba is not installed. The first call takes seconds."""
    if not _loaded:
        try:
            from numba import njit
        except ImportError:
            return None
        compiler = njit(cache=True, nogil=True)
        _loaded.append(Compiled(compiler(weave_4), compiler(weave_8), compiler(reduce_line)))
    return _loaded[0]


def weave_4(planes: Any, out: Any) -> None:
    """Byte planes [4, n] to uint32 [n]."""
    a, b, c, d = planes[0], planes[1], planes[2], planes[3]
    for i in range(len(out)):
        out[i] = a[i] | (b[i] << 8) | (c[i] << 16) | (d[i] << 24)


def weave_8(planes: Any, out: Any) -> None:
    """Byte planes [8, n] to uint32 [2 n]: the low half of each before the high one."""
    a, b, c, d = planes[0], planes[1], planes[2], planes[3]
    e, f, g, h = planes[4], planes[5], planes[6], planes[7]
    for i in range(len(a)):
        out[2 * i] = a[i] | (b[i] << 8) | (c[i] << 16) | (d[i] << 24)
        out[2 * i + 1] = e[i] | (f[i] << 8) | (g[i] << 16) | (h[i] << 24)


def reduce_line(  # noqa: C901 - one pass over the points, in one compiled function
    values: Any,
    bounds: Any,
    row: Any,
    count: Any,
    nan: Any,
    inf_pos: Any,
    inf_neg: Any,
    least: Any,
    most: Any,
    mean: Any,
    first: Any,
    last: Any,
) -> None:
    """One row of the buckets: bucket b holds values[bounds[b]:bounds[b + 1]]."""
    for b in range(len(bounds) - 1):
        start, end = bounds[b], bounds[b + 1]
        count[row, b] = end - start
        if start == end:
            least[row, b] = most[row, b] = mean[row, b] = first[row, b] = last[row, b] = float(
                "nan"
            )
            continue
        first[row, b], last[row, b] = values[start], values[end - 1]
        low = high = values[start]
        total = 0.0
        for i in range(start, end):
            value = values[i]
            total += value
            # Choices, not branches: which value is lower cannot be foretold.
            low = value if value < low else low
            high = value if value > high else high
        there = end - start
        if total - total != 0.0:  # NaN or infinite: look at each value
            total, there = 0.0, 0
            for i in range(start, end):
                value = values[i]
                if value != value:
                    nan[row, b] += 1
                elif value - value != 0.0:
                    if value > 0:
                        inf_pos[row, b] += 1
                    else:
                        inf_neg[row, b] += 1
                else:
                    if there == 0 or value < low:
                        low = value
                    if there == 0 or value > high:
                        high = value
                    there += 1
                    total += value
        if there == 0:
            least[row, b] = most[row, b] = mean[row, b] = float("nan")
            continue
        least[row, b], most[row, b] = low + 0.0, high + 0.0
        mean[row, b] = total / there
        if total - total != 0.0:  # the sum of finite values is beyond float64: in smaller units
            total = 0.0
            for i in range(start, end):
                value = values[i] * _SHRINK
                if value - value == 0.0:
                    total += value
            mean[row, b] = total / there / _SHRINK
