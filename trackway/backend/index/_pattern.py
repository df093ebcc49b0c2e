"""Regular expressions that cannot hang: which patterns a filter accepts, and how it searches.

Python's ``re`` tries again from every place where it could have gone on differently. That takes
exponential time where a repetition repeats something that itself can match in several ways, as in
``(a+)+b``; no such pattern is accepted. What is left takes at most about
``ways * comb(L + k + 1, k + 1)`` steps on L characters. Here k is the number of wide repetitions
(``*``, ``+``, ``{2,}``, ``{0,50}``); ``ways`` is the product of what each other choice may come to:
2 for ``?``, 4 for ``{0,3}``, the number of its alternatives for a group in which several may begin
with the same character. A repeated group has no such choice in it, so that nothing is to be
multiplied by how often it is repeated. A text for which that exceeds STEPS_LIMIT is refused. A text
is searched up to its TEXT_LIMIT-th character, and all texts together for DEADLINE_S.
"""

from __future__ import annotations

import math
import re
import time
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

__all__ = ["PATTERN_LIMIT", "TEXT_LIMIT", "Pattern", "PatternError", "SlowPatternError"]

PATTERN_LIMIT: Final = 500
TEXT_LIMIT: Final = 10_000
DEADLINE_S: Final = 2.0
STEPS_LIMIT: Final = 3e8
_WIDE_REPEATS: Final = 8
_WIDE: Final = 16
"""From how many counts on a counted repetition is as good as an open one."""
_WAYS_LIMIT: Final = 1 << 16
_CHOICE_STEPS: Final = 8
"""What going back to a choice costs, measured in steps of an open repetition."""
_GROUP_DEPTH: Final = 20
_COUNT_LIMIT: Final = 1000
_COUNTED: Final = re.compile(r"\{(\d*)(,?)(\d*)\}")
_GROUP_KIND: Final = re.compile(r"\?(?:P<\w*>|<[=!]|[=!:>]|[aimsu-]+:?)")


class PatternError(Exception):
    """The pattern is not accepted.

    Attributes:
        place: The character of the pattern it is about.
    """

    def __init__(self, message: str, place: int = 0) -> None:
        super().__init__(message)
        self.place = place


class SlowPatternError(Exception):
    """The texts took too long."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern that was accepted.

    Attributes:
        text: As written.
        compiled: For ``search``.
        longest: Characters of a text that can be searched in bounded time.
    """

    text: str
    compiled: re.Pattern[str] = field(compare=False)
    longest: int = TEXT_LIMIT

    @classmethod
    def of(cls, text: str) -> Pattern:
        """Compile a pattern.

        Raises:
            PatternError: It is wrong, too long, or might take for ever.
        """
        if len(text) > PATTERN_LIMIT:
            raise PatternError(f"the pattern is longer than {PATTERN_LIMIT} characters; shorten it")
        guard = _Guard(text)
        guard.check()
        longest = _longest(guard.repeats + 1, guard.ways)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return cls(text, re.compile(text), longest)
        except re.error as error:
            raise PatternError(f"the pattern is wrong: {error.msg}", error.pos or 0) from error
        except (OverflowError, RecursionError) as error:
            raise PatternError("the pattern is too large; shorten it") from error

    def found_in(self, texts: Iterable[object]) -> list[bool]:
        """For each, whether it is a text in which the pattern is found.

        Raises:
            SlowPatternError: A text is too long for this pattern, or all together took too long.
        """
        search, found, deadline = self.compiled.search, [], time.monotonic() + DEADLINE_S
        for text in texts:
            found.append(isinstance(text, str) and search(self._fitting(text)) is not None)
            if time.monotonic() > deadline:
                raise SlowPatternError(f"searching all texts took longer than {DEADLINE_S:g} s")
        return found

    def _fitting(self, text: str) -> str:
        if len(text) <= self.longest or self.longest >= TEXT_LIMIT:
            return text[:TEXT_LIMIT]
        raise SlowPatternError(f"it may take for ever on a text of {len(text)} characters")


def _longest(degree: int, ways: int) -> int:
    """The most characters on which the steps stay within STEPS_LIMIT."""
    low, high = 0, TEXT_LIMIT
    ways *= min(ways, _CHOICE_STEPS)
    while low < high:
        middle = (low + high + 1) // 2
        fits = math.comb(middle + degree, degree) * ways <= STEPS_LIMIT
        low, high = (middle, high) if fits else (low, middle - 1)
    return low


class _Group:
    """What is known of an open group: whether it can match in several ways."""

    __slots__ = ("begins", "firsts", "start", "varies")

    def __init__(self, start: int) -> None:
        self.start = start
        self.varies = False
        self.firsts: list[str] = []  # what each alternative begins with; "" where that is not known
        self.begins = True

    def first(self, atom: str) -> None:
        """Take note of an atom, if it is the first of its alternative; "" for an unknown one."""
        if self.begins:
            self.firsts.append(atom.lower() if atom.isascii() else "")
            self.begins = False

    def ambiguous(self) -> bool:
        """Whether repeating it could go several ways over the same text."""
        if self.varies:
            return True
        several = len(self.firsts) > 1 or self.begins
        return several and ("" in self.firsts or len(set(self.firsts)) < len(self.firsts))


class _Guard:
    """Reads a pattern just closely enough to see what is repeated. ``re`` judges the rest."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.place = 0
        self.open: list[_Group] = [_Group(0)]
        self.repeats = 0
        self.ways = 1
        self.atom: _Group | None = None  # the group that ended just before, which may be repeated

    def check(self) -> None:
        while self.place < len(self.text):
            start, char = self.place, self.text[self.place]
            self.place += 1
            if char in "*+?" or (char == "{" and _COUNTED.match(self.text, start)):
                self._repeat(start, char)
            else:
                self._atom(start, char)
        self._choose(self.open[0])

    def _atom(self, start: int, char: str) -> None:
        closed = None
        if char == "(":
            self._group(start)
        elif char == ")":
            closed = self._close()
        elif char == "|":
            group = self.open[-1]
            if group.begins:
                group.firsts.append("")
            group.begins = True
        elif char == "[":
            self._set(start)
            self.open[-1].first("")
        elif char == "\\":
            self._escape(start)
        else:
            self.open[-1].first("" if char in ".^$" else char)
        self.atom = closed

    def _escape(self, start: int) -> None:
        following = self.text[self.place : self.place + 1]
        if following.isdigit() and following != "0":
            raise PatternError(
                "a pattern may not refer to its own groups (\\1); leave that out", start
            )
        self.place += 1
        self.open[-1].first("" if following.isalnum() else following)

    def _group(self, start: int) -> None:
        kind = _GROUP_KIND.match(self.text, self.place)
        if kind is None and self.text.startswith("?", self.place):
            raise PatternError("a pattern may not have this kind of group; use (?:…)", start)
        if len(self.open) > _GROUP_DEPTH:
            raise PatternError("the pattern has too many groups within groups; flatten it", start)
        self.open[-1].first("")
        self.open.append(_Group(start))
        if kind is not None:
            self.place = kind.end()

    def _close(self) -> _Group | None:
        if len(self.open) == 1:
            return None  # unbalanced: re says so
        group = self.open.pop()
        if group.begins:
            group.firsts.append("")
            group.begins = False
        self._choose(group)
        outer = self.open[-1]
        outer.varies = outer.varies or group.varies or len(group.firsts) > 1
        return group

    def _choose(self, group: _Group) -> None:
        """Count the alternatives of a group that has ended, if more than one may be tried."""
        if len(group.firsts) > 1 and group.ambiguous():
            self._multiply(len(group.firsts), group.start)

    def _multiply(self, ways: int, place: int) -> None:
        self.ways *= ways
        if self.ways > _WAYS_LIMIT:
            raise PatternError(
                "the pattern has too many choices ('?', counts, alternatives), which may take for "
                "ever; use fewer",
                place,
            )

    def _set(self, start: int) -> None:
        """Pass over a set of characters; a ``]`` that comes first belongs to it."""
        place = start + 1
        place += self.text.startswith("^", place)
        place += self.text.startswith("]", place)
        while place < len(self.text) and self.text[place] != "]":
            place += 2 if self.text[place] == "\\" else 1
        self.place = place + 1

    def _repeat(self, start: int, char: str) -> None:
        low, high = self._bounds(start, char)
        group, self.atom = self.atom, None
        if high > 1 and group is not None and group.ambiguous():
            raise PatternError(
                "the pattern repeats a group that can match in several ways, which may take for "
                "ever; write it without a repetition inside a repetition",
                group.start,
            )
        self._count(start, high - low + 1)
        if not low == high == 1:
            self.open[-1].varies = True
        self.place += self.text.startswith(("?", "+"), self.place)  # lazy or possessive

    def _count(self, start: int, ways: float) -> None:
        """Take note of a repetition that may take place in so many numbers."""
        if ways <= _WIDE:
            self._multiply(max(int(ways), 1), start)
            return
        self.repeats += 1
        if self.repeats > _WIDE_REPEATS:
            raise PatternError(
                f"the pattern has more than {_WIDE_REPEATS} open repetitions (*, + or a wide "
                "count); use fewer",
                start,
            )

    def _bounds(self, start: int, char: str) -> tuple[float, float]:
        if char in "*+":
            return (0 if char == "*" else 1), float("inf")
        if char == "?":
            return 0, 1
        counted = _COUNTED.match(self.text, start)
        assert counted is not None
        self.place = counted.end()
        low = int(counted[1][:9] or 0)
        high = int(counted[3][:9]) if counted[3] else (float("inf") if counted[2] else low)
        if low > _COUNT_LIMIT or _COUNT_LIMIT < high < float("inf"):
            raise PatternError(f"the pattern counts beyond {_COUNT_LIMIT}; count less", start)
        return low, high
