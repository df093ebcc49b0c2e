"""Series as trainings log them: values of many characters, and the ways in which they arrive.

Everything is drawn from the generator that is passed: the same seed gives the same bits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = ["ARRIVALS", "SPARSE_EVERY", "VALUES", "Arrivals", "arrivals", "clock", "values"]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Random = np.random.Generator

SPARSE_EVERY: Final = 1000
"""Steps from one validation to the next."""

STEP_S: Final = 0.05


# -- values --------------------------------------------------------------------------------


def _walk(random: Random, n: int) -> Floats:
    return np.cumsum(random.standard_normal(n)) * 0.01


def _walk32(random: Random, n: int) -> Floats:
    return _walk(random, n).astype(np.float32).astype(np.float64)


def _noisy(random: Random, n: int) -> Floats:
    """A loss that falls like a power of the step, with noise that shrinks along."""
    loss = 2.5 * (np.arange(n) + 10.0) ** -0.25 + 0.1
    noisy: Floats = loss * (1.0 + 0.08 * random.standard_normal(n))
    return noisy


def _rounded(random: Random, n: int) -> Floats:
    return np.round(_noisy(random, n), 4)


def _spiky(random: Random, n: int) -> Floats:
    """One point in 500 is up to a thousand times as high."""
    found = _noisy(random, n)
    where = random.choice(n, size=n // 500 or 1, replace=False)
    found[where] *= 10.0 ** random.uniform(0.5, 3.0, len(where))
    return found


def _nan(random: Random, n: int) -> Floats:
    """Single NaN, and one stretch of a twentieth in which the training has diverged."""
    found = _noisy(random, n)
    found[random.random(n) < 0.01] = np.nan
    begin = n // 2
    found[begin : begin + max(1, n // 20)] = np.nan
    return found


def _inf(random: Random, n: int) -> Floats:
    """Infinities of both signs, and NaN beside them."""
    found = _noisy(random, n)
    what = random.random(n)
    found[what < 0.004] = np.inf
    found[(what >= 0.004) & (what < 0.008)] = -np.inf
    found[(what >= 0.008) & (what < 0.012)] = np.nan
    found[0] = np.inf
    found[-1] = -np.inf
    return found


def _constant(random: Random, n: int) -> Floats:
    return np.full(n, round(float(random.uniform(1e-5, 1e-3)), 6))


VALUES: Final[dict[str, Callable[[Random, int], Floats]]] = {
    "walk": _walk,
    "walk32": _walk32,
    "noisy": _noisy,
    "rounded": _rounded,
    "spiky": _spiky,
    "nan": _nan,
    "inf": _inf,
    "constant": _constant,
}
"""``walk``: a random walk whose values need all 64 bits. ``walk32``: one whose values are exact as
float32, as those of ``loss.item()``. ``noisy``: a falling loss. ``rounded``: it, to 4 digits."""


def values(kind: str, random: Random, n: int) -> Floats:
    """n values of a kind of VALUES; float64 [n]."""
    return VALUES[kind](random, n) if n else np.empty(0)


# -- arrivals ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Arrivals:
    """When the points of one attempt arrive, in order of arrival.

    Attributes:
        attempt: 1 and upwards.
        steps: int64 [n].
        times: float64 [n], rising, seconds since the run began.
        drawn: How many values a metric has to draw.
        index: int64 [n]: which of those it logs.
    """

    attempt: int
    steps: Integers
    times: Floats
    drawn: int
    index: Integers

    def logged(self, kind: str, random: Random) -> Floats:
        """What a metric with values of a kind of VALUES logs; float64 [n]."""
        return values(kind, random, self.drawn)[self.index]


def clock(random: Random, n: int, step_s: float = STEP_S) -> Floats:
    """Rising times of n steps, seconds since the first; some steps take longer than others."""
    each = step_s * (1.0 + 0.2 * random.random(n))
    times: Floats = np.round(np.cumsum(each) - each[:1], 6)
    return times


def _all(n: int) -> Integers:
    return np.arange(n, dtype=np.int64)


def _plain(random: Random, n: int) -> list[Arrivals]:
    return [Arrivals(1, _all(n), clock(random, n), n, _all(n))]


def _resumed(random: Random, n: int) -> list[Arrivals]:
    """Three attempts; each goes on from a checkpoint, before the end of the one before."""
    cuts = [(0, n // 2), (n * 2 // 5, n * 4 // 5), (n * 7 // 10, n)]
    found, begin = [], 0.0
    for attempt, (low, high) in enumerate(cuts, 1):
        steps = _all(n)[low:high]
        times = begin + clock(random, len(steps))
        found.append(Arrivals(attempt, steps, times, n, steps))
        begin = (float(times[-1]) if len(times) else begin) + 600.0
    return found


def _out_of_order(random: Random, n: int) -> list[Arrivals]:
    """Steps come up to 50 places early or late, as from workers that overtake each other."""
    places = np.arange(n) + random.uniform(0.0, 50.0, n)
    steps = np.argsort(places, kind="stable").astype(np.int64)
    return [Arrivals(1, steps, clock(random, n), n, steps)]


def _repeated(random: Random, n: int) -> list[Arrivals]:
    """Each step up to three times, with values of their own; the last one counts."""
    steps = np.repeat(_all(n), random.integers(1, 4, n))
    return [Arrivals(1, steps, clock(random, len(steps)), len(steps), _all(len(steps)))]


def _sparse(random: Random, n: int) -> list[Arrivals]:
    """A validation each SPARSE_EVERY steps."""
    steps = _all(n)[::SPARSE_EVERY]
    return [Arrivals(1, steps, clock(random, n)[steps], len(steps), _all(len(steps)))]


ARRIVALS: Final[dict[str, Callable[[Random, int], list[Arrivals]]]] = {
    "plain": _plain,
    "resumed": _resumed,
    "out-of-order": _out_of_order,
    "repeated": _repeated,
    "sparse": _sparse,
}


def arrivals(how: str, random: Random, steps: int) -> list[Arrivals]:
    """When points arrive in a training of so many steps, an entry an attempt.

    Args:
        how: One of ARRIVALS.
        random: Where chance comes from.
        steps: Of the training.
    """
    return ARRIVALS[how](random, steps)
