"""Which points count as deleted.

A deletion is a record like any other, in the log of whoever deleted: it says which metrics, which
steps, and how far each log of the run went then. So it hides what was there, and nothing that is
logged afterwards. The bytes stay where they are until the run is compacted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from trackway.backend.file.format import Event

__all__ = [
    "DELETION_EVENTS",
    "Deletions",
    "Former",
    "Rule",
    "Spot",
    "escaped",
    "fits",
    "formers_of",
]

DELETION_EVENTS: Final = frozenset({"delete", "compacted"})
"""The types of all events that say which points count as deleted."""

_LOWEST: Final = -(1 << 63)
_HIGHEST: Final = (1 << 63) - 1


class Spot(NamedTuple):
    """How far a log went: everything before ``offset`` was there."""

    writer: str
    generation: str
    offset: int


class Former(NamedTuple):
    """What a compaction has replaced: ``end`` of the old file is ``now`` in the new one."""

    generation: str
    end: int
    now: int


@dataclass(frozen=True, slots=True)
class Rule:
    """One ``delete`` event.

    Attributes:
        keys: Names and patterns; None for every metric.
        start: The lowest step; None for any.
        stop: The highest step; None for any.
        upto: How far each log went.
    """

    keys: frozenset[str] | None
    start: int | None
    stop: int | None
    upto: frozenset[Spot]

    @classmethod
    def of(cls, event: Event) -> Rule | None:
        """The rule of an event; None where it is none that we understand."""
        fields = event.fields
        keys, upto = fields.get("keys"), fields.get("upto")
        start, stop = fields.get("from"), fields.get("to")
        if event.type != "delete" or not isinstance(upto, Mapping):
            return None
        if not (_is_step(start) and _is_step(stop)):
            return None
        if keys is not None and not (isinstance(keys, list) and {*map(type, keys)} <= {str}):
            return None
        return cls(
            None if keys is None else frozenset(keys),
            start,
            stop,
            frozenset(spot for spot in map(_spot, upto.items()) if spot is not None),
        )


class _Active:
    """A rule as it applies to one log."""

    def __init__(self, rule: Rule, offset: int) -> None:
        self.rule = rule
        self.offset = offset
        patterns = [] if rule.keys is None else [_pieces(key) for key in rule.keys]
        self._names = frozenset(pieces[0] for pieces in patterns if len(pieces) == 1)
        self._patterns = [pieces for pieces in patterns if len(pieces) > 1]

    def names(self, key: str) -> bool:
        if self.rule.keys is None or key in self._names:
            return True
        return any(fits(key, pieces) for pieces in self._patterns)

    def hides(
        self, offsets: npt.NDArray[np.int64], steps: npt.NDArray[Any]
    ) -> npt.NDArray[np.bool_]:
        hidden: npt.NDArray[np.bool_] = offsets < self.offset
        start, stop = self.rule.start, self.rule.stop
        if steps.dtype != object:
            # Bounds beyond 64 bits: NumPy would compare as floats, or not at all.
            if (start or 0) > _HIGHEST or (stop or 0) < _LOWEST:
                return np.zeros(len(offsets), np.bool_)
            start = None if start is None else max(start, _LOWEST)
            stop = None if stop is None else min(stop, _HIGHEST)
        if start is not None:
            hidden = hidden & (steps >= start).astype(np.bool_)
        if stop is not None:
            hidden = hidden & (steps <= stop).astype(np.bool_)
        return hidden


class Deletions:
    """All deletions of one run; false where there are none. Never changes."""

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        self.rules = frozenset(rules)
        self._by_log: dict[tuple[str, str], list[_Active]] = {}
        for rule in self.rules:
            for spot in rule.upto:
                active = _Active(rule, spot.offset)
                self._by_log.setdefault((spot.writer, spot.generation), []).append(active)
        self._names = [_Active(rule, 0) for rule in self.rules]

    @classmethod
    def of(cls, events: Iterable[Event]) -> Deletions:
        """The deletions that these events of all logs of a run tell of, in any order.

        Of the types in DELETION_EVENTS; others are passed over. A ``compacted`` event says which
        generation of a log took the place of which: a deletion that names the former goes on
        applying to what is left of it.
        """
        rules: list[Rule] = []
        formers: dict[str, list[tuple[str, str, Former]]] = {}
        for event in events:
            if event.type == "compacted":
                for former in formers_of(event):
                    place = str(event.fields.get("writer")), str(event.fields.get("generation"))
                    formers.setdefault(former.generation, []).append((*place, former))
            elif (rule := Rule.of(event)) is not None and rule.upto:
                rules.append(rule)
        return cls(_followed(rule, formers) for rule in rules)

    def __bool__(self) -> bool:
        return bool(self.rules)

    @property
    def fingerprint(self) -> bytes:
        """16 bytes, equal for the same deletions whatever order they were met in."""
        told = sorted(
            repr(
                (
                    None if rule.keys is None else sorted(rule.keys),
                    rule.start,
                    rule.stop,
                    sorted(rule.upto),
                )
            )
            for rule in self.rules
        )
        text = "\n".join(told).encode("utf-8", "surrogatepass")
        return hashlib.blake2b(text, digest_size=16).digest()

    def names(self, key: str) -> bool:
        """Whether any deletion, of whatever steps, is about this metric."""
        return any(active.names(key) for active in self._names)

    def concerns(self, writer: str, generation: str) -> bool:
        """Whether any deletion is about this log."""
        return (writer, generation) in self._by_log

    def keep(
        self,
        writer: str,
        generation: str,
        key: str,
        offsets: npt.NDArray[np.int64],
        steps: npt.NDArray[Any],
    ) -> npt.NDArray[np.bool_] | None:
        """Which points of a metric in one log are not deleted; None where none is.

        Args:
            writer: The log's name, which is its file's without ``.log``.
            generation: Of the log's first header; empty where no header can be read.
            key: The metric.
            offsets: int64 [n], where each point's frame begins.
            steps: int64 [n], or object where a step needs more than 64 bits.
        """
        hidden: npt.NDArray[np.bool_] | None = None
        for active in self._by_log.get((writer, generation), ()):
            if active.names(key):
                also = active.hides(offsets, steps)
                hidden = also if hidden is None else hidden | also
        return None if hidden is None or not hidden.any() else ~hidden


def escaped(name: str) -> str:
    r"""The pattern that means this name alone: a star in it becomes ``\*``."""
    return name.replace("\\", "\\\\").replace("*", "\\*")


def formers_of(event: Event) -> list[Former]:
    """What a ``compacted`` event says of the generations that it replaced."""
    told = event.fields.get("former")
    return [
        Former(*entry[:3])
        for entry in (told if isinstance(told, list) else ())
        if isinstance(entry, list) and tuple(map(type, entry[:3])) == (str, int, int)
    ]


def _followed(rule: Rule, formers: Mapping[str, list[tuple[str, str, Former]]]) -> Rule:
    """The rule with what it says of replaced generations said of the present ones, too."""
    further = {
        Spot(writer, generation, former.now)
        for spot in rule.upto
        for writer, generation, former in formers.get(spot.generation, ())
        # A deletion that ended earlier in the file has no place in the new one: it was known
        # when the file was compacted, or comes from a copy that was not whole.
        if writer == spot.writer and spot.offset >= former.end
    }
    return Rule(rule.keys, rule.start, rule.stop, rule.upto | further) if further else rule


def _is_step(told: object) -> bool:
    return told is None or (isinstance(told, int) and not isinstance(told, bool))


def _spot(entry: tuple[object, object]) -> Spot | None:
    writer, told = entry
    if not isinstance(writer, str) or not isinstance(told, list) or len(told) < 2:
        return None
    generation, offset = told[:2]
    if not isinstance(generation, str) or not isinstance(offset, int):
        return None
    return Spot(writer, generation, min(max(offset, 0), _HIGHEST))


def _pieces(pattern: str) -> tuple[str, ...]:
    r"""What stands between the stars of a pattern; ``\*`` and ``\\`` stand for themselves."""
    pieces = [""]
    at = 0
    while at < len(pattern):
        letter = pattern[at]
        if letter == "\\" and pattern[at + 1 : at + 2] in ("*", "\\"):
            at += 1
            pieces[-1] += pattern[at]
        elif letter == "*":
            pieces.append("")
        else:
            pieces[-1] += letter
        at += 1
    return tuple(pieces)


def fits(name: str, pieces: Sequence[str]) -> bool:
    """Whether a name is these pieces, two or more, with anything between them; in linear time."""
    first, *inner, last = pieces
    if len(name) < len(first) + len(last) or not (name.startswith(first) and name.endswith(last)):
        return False
    at, end = len(first), len(name) - len(last)
    for piece in inner:
        at = name.find(piece, at, end)
        if at < 0:
            return False
        at += len(piece)
    return True
