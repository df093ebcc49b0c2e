"""Finding names among very many: by a part of them, or by a pattern with ``*``."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from itertools import accumulate, islice
from typing import Final, NamedTuple

import numpy as np

from trackway.errors import ArgumentError

__all__ = ["KeyNames", "Names", "glob_matches"]

_SEPARATORS: Final = str.maketrans(dict.fromkeys("._- ", "/"))
_RARE: Final = 2000
_LAST: Final = "\U0010ffff"


class Names(NamedTuple):
    """A page of names.

    Attributes:
        names: In order.
        matched: How many names there are in all.
    """

    names: list[str]
    matched: int


class KeyNames:
    """An unchanging set of names, prepared for searching.

    Case does not count in ``search``; it does in ``glob``. Names of one rank are ordered without
    regard to case, and where that leaves them equal, by code point.
    """

    def __init__(self, names: Iterable[str]) -> None:
        folded = sorted((name.casefold(), name) for name in set(names))
        self._names = [name for _, name in folded]
        self._folded = [fold for fold, _ in folded]
        self._joined = "\0".join(self._folded)
        ends = accumulate(len(fold) + 1 for fold in self._folded)
        self._starts = np.fromiter((0, *ends), np.int64, len(folded) + 1)
        self._words: list[str] | None = None

    def __len__(self) -> int:
        return len(self._names)

    def search(self, text: str, offset: int = 0, limit: int | None = 100) -> Names:
        """Names that contain the text.

        Ranked: the name itself, names that begin with it, names in which a word (after ``/``,
        ``.``, ``_``, ``-`` or a blank) begins with it, all others.

        Raises:
            ArgumentError: The offset or the limit is negative.
        """
        _check(offset, limit)
        wanted = text.casefold()
        hits = self._containing(wanted)
        end = len(hits) if limit is None else min(offset + limit, len(hits))
        found = islice(self._ranked(hits, wanted), offset, max(end, offset))
        return Names([self._names[place] for place in found], len(hits))

    def glob(self, pattern: str, offset: int = 0, limit: int | None = 100) -> Names:
        """Names that match a pattern, in which ``*`` stands for any characters, or for none.

        Raises:
            ArgumentError: The offset or the limit is negative.
        """
        _check(offset, limit)
        hits = [name for name in self._likely(pattern) if glob_matches(pattern, name)]
        end = None if limit is None else offset + limit
        return Names(hits[offset:end], len(hits))

    # -- inside ------------------------------------------------------------------------------------

    def _containing(self, wanted: str) -> list[int]:
        """The places of all names that contain the text, rising."""
        if not wanted:
            return list(range(len(self._names)))
        if "\0" in wanted or self._joined.count(wanted) > _RARE:
            return [place for place, fold in enumerate(self._folded) if wanted in fold]
        found, at = [], self._joined.find(wanted)
        while at >= 0:
            found.append(at)
            at = self._joined.find(wanted, at + 1)
        places = np.searchsorted(self._starts, np.array(found, np.int64), side="right") - 1
        distinct: list[int] = np.unique(places).tolist()
        return distinct

    def _ranked(self, hits: list[int], wanted: str) -> Iterator[int]:
        """The hits by rank; a rank is looked at only when it is reached."""
        first = bisect_left(self._folded, wanted)
        same = bisect_right(self._folded, wanted)
        begins = bisect_left(self._folded, wanted + _LAST, same)
        yield from range(first, begins)  # those that are equal come first in order, too
        rest = [place for place in hits if not first <= place < begins]
        others = []
        for place in rest:
            if self._begins_word(place, wanted):
                yield place
            else:
                others.append(place)
        yield from others

    def _begins_word(self, place: int, wanted: str) -> bool:
        if self._words is None:
            self._words = [fold.translate(_SEPARATORS) for fold in self._folded]
        likely = "/" + wanted.translate(_SEPARATORS)
        if likely not in self._words[place]:
            return False
        fold = self._folded[place]
        return any(mark + wanted in fold for mark in "/._- ")

    def _likely(self, pattern: str) -> Iterable[str]:
        """The names that begin as the pattern does, as far as case does not count."""
        start = pattern.split("*", 1)[0].casefold()
        first = bisect_left(self._folded, start)
        last = bisect_left(self._folded, start + _LAST, first) if start else len(self._names)
        parts = [part for part in pattern.split("*") if part]
        longest = max(parts, key=len, default="")
        return [name for name in self._names[first:last] if longest in name]


def glob_matches(pattern: str, name: str) -> bool:
    """Whether a name matches a pattern in which only ``*`` is special; in linear time."""
    first, *middle = pattern.split("*")
    if not middle:
        return pattern == name
    last = middle.pop()
    if len(name) < len(first) + len(last) or not (name.startswith(first) and name.endswith(last)):
        return False
    at, end = len(first), len(name) - len(last)
    for part in middle:
        at = name.find(part, at, end)
        if at < 0:
            return False
        at += len(part)
    return True


def _check(offset: int, limit: int | None) -> None:
    if offset < 0 or (limit is not None and limit < 0):
        raise ArgumentError("offset and limit must be 0 or more")
