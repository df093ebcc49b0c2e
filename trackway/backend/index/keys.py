"""Finding names among very many: by a part of them, or by a pattern with ``*``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from trackway.backend.file.deletions import fits
from trackway.errors import ArgumentError

__all__ = ["KeyNames", "Names", "glob_matches"]

_BETWEEN: Final = 0xFF  # occurs in no UTF-8
_BEGINS_WORD: Final = np.isin(np.arange(256), list(b"/._- "))
_EXACT, _PREFIX, _WORD, _ELSEWHERE, _NOWHERE = range(5)


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
        parts = [fold.encode("utf-8", "surrogatepass") for fold, _ in folded]
        between = bytes([_BETWEEN])
        joined = between + between.join(parts) + between
        self._bytes = np.frombuffer(joined, np.uint8)
        self._often = np.bincount(self._bytes, minlength=256)
        self._sizes = np.fromiter(map(len, parts), np.int64, len(parts))
        # Of each byte, the name it belongs to; the one after a name belongs to it as well.
        owner = np.repeat(np.arange(len(parts), dtype=np.int32), self._sizes + 1)
        self._owner = np.concatenate([np.zeros(1, np.int32), owner])

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
        wanted = text.casefold().encode("utf-8", "surrogatepass")
        ranks = self._ranks(wanted)
        order = np.concatenate([np.flatnonzero(ranks == rank) for rank in range(_NOWHERE)])
        page = order[offset : None if limit is None else offset + limit]
        return Names([self._names[place] for place in page.tolist()], len(order))

    def glob(self, pattern: str, offset: int = 0, limit: int | None = 100) -> Names:
        """Names that match a pattern, in which ``*`` stands for any characters, or for none.

        Raises:
            ArgumentError: The offset or the limit is negative.
        """
        _check(offset, limit)
        first, *middle = pattern.split("*")
        names = self._likely([first, *middle])
        if pattern == "*":
            hits = self._names
        elif middle == [""]:
            hits = [name for name in names if name.startswith(first)]
        elif len(middle) == 1 and not first:
            hits = [name for name in names if name.endswith(middle[0])]
        else:
            hits = [name for name in names if glob_matches(pattern, name)]
        end = None if limit is None else offset + limit
        return Names(hits[offset:end], len(hits))

    # -- inside ------------------------------------------------------------------------------------

    def _ranks(self, wanted: bytes) -> npt.NDArray[np.uint8]:
        """For each name how well it fits."""
        if not wanted:
            return np.full(len(self._names), _PREFIX, np.uint8)
        ranks = np.full(len(self._names), _NOWHERE, np.uint8)
        found = self._find(wanted)
        owners, before = self._owner[found], self._bytes[found - 1]
        ranks[owners] = _ELSEWHERE
        ranks[owners[_BEGINS_WORD[before]]] = _WORD
        starting = owners[before == _BETWEEN]
        ranks[starting] = _PREFIX
        ranks[starting[self._sizes[starting] == len(wanted)]] = _EXACT
        return ranks

    def _find(self, wanted: bytes) -> npt.NDArray[Any]:
        """Where the bytes occur: looked for by the rarest of them, then by the next rarest."""
        places = sorted(range(len(wanted)), key=lambda place: self._often[wanted[place]])
        found = np.flatnonzero(self._bytes == wanted[places[0]]) - places[0]
        found = found[(found >= 1) & (found + len(wanted) <= len(self._bytes))]
        for place in places[1:]:
            found = found[self._bytes[found + place] == wanted[place]]
        return found

    def _likely(self, parts: list[str]) -> list[str]:
        """The names that hold the longest of the parts, as far as case does not count."""
        longest = max(parts, key=len).casefold().encode("utf-8", "surrogatepass")
        if not longest:
            return self._names
        hits = np.unique(self._owner[self._find(longest)])
        return [self._names[place] for place in hits.tolist()]


def glob_matches(pattern: str, name: str) -> bool:
    """Whether a name matches a pattern in which only ``*`` is special; in linear time."""
    pieces = pattern.split("*")
    return pattern == name if len(pieces) == 1 else fits(name, pieces)


def _check(offset: int, limit: int | None) -> None:
    if offset < 0 or (limit is not None and limit < 0):
        raise ArgumentError("offset and limit must be 0 or more")
