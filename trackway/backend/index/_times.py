"""Times and durations as a filter writes them: ``2 days ago``, ``2026-11-20``, ``2h30m``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone, tzinfo
from typing import Final

__all__ = ["Moment", "parse_duration", "parse_moment"]

_SECONDS: Final = {
    "second": 1.0,
    "minute": 60.0,
    "hour": 3600.0,
    "day": 86400.0,
    "week": 604800.0,
}
_AGO: Final = re.compile(
    r"(\d{1,9}(?:\.\d{1,9})?)\s+(second|minute|hour|day|week|month|year)s?\s+ago"
)
_ISO: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)"
    r"(?:[Tt ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?\s*([Zz]|[+-]\d\d:?\d\d)?)?"
)
_DURATION: Final = re.compile(
    r"(\d{1,12}(?:\.\d{1,9})?)\s*"
    r"(weeks?|w|days?|d|hours?|h|minutes?|min|m|seconds?|s|milliseconds?|ms)(?![a-z])\s*"
)
_UNITS: Final = {"w": 604800.0, "d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}


@dataclass(frozen=True, slots=True)
class Moment:
    """A time, some of which depend on the clock.

    Attributes:
        text: As it was written.
        start: What it says when it does not depend on the clock: year to microsecond.
        zone: The time zone it names; None for the reader's.
        day: Whether it is a whole day.
        ago: How many of ``unit`` before now.
        unit: ``second`` to ``year``, or ``today``.
    """

    text: str
    start: datetime | None = None
    zone: tzinfo | None = None
    day: bool = False
    ago: float = 0.0
    unit: str = ""

    def at(self, now: float, zone: tzinfo | None) -> float:
        """Seconds since 1970; of a day, its first moment.

        Args:
            now: Seconds since 1970.
            zone: Where the reader is; None for the machine's own time zone.
        """
        if self.unit in _SECONDS:
            return now - self.ago * _SECONDS[self.unit]
        return _timestamp(self._local(now, zone), self.zone or zone)

    def end(self, now: float, zone: tzinfo | None) -> float:
        """Of a day, the first moment of the next one, in seconds since 1970."""
        start = self._local(now, zone)
        if start is None or start.date() == datetime.max.date():
            return float("inf")
        return _timestamp(start + timedelta(days=1), self.zone or zone)

    def _local(self, now: float, zone: tzinfo | None) -> datetime | None:
        if self.start is not None:
            return self.start
        here = datetime.fromtimestamp(now, zone).replace(tzinfo=None)
        if self.unit == "today":
            midnight = here.replace(hour=0, minute=0, second=0, microsecond=0)
            return midnight - timedelta(days=int(self.ago))
        return _months_before(here, int(self.ago) * (12 if self.unit == "year" else 1))


def _timestamp(local: datetime | None, zone: tzinfo | None) -> float:
    """Seconds since 1970; infinite for what lies outside of what the platform can convert."""
    if local is None:
        return float("-inf")
    try:
        return local.replace(tzinfo=zone).timestamp()
    except (OverflowError, ValueError, OSError):
        return float("-inf") if local.year < 1970 else float("inf")


def _months_before(moment: datetime, months: int) -> datetime | None:
    """The same day of an earlier month, or that month's last day; None before the year 1."""
    year, month = divmod(moment.year * 12 + moment.month - 1 - months, 12)
    if year < 1:
        return None
    following = datetime(year + month // 11, (month + 1) % 12 + 1, 1) if year < 9999 else None
    last = 31 if following is None else (following - timedelta(days=1)).day
    return moment.replace(year=year, month=month + 1, day=min(moment.day, last))


def parse_moment(text: str) -> Moment | None:
    """The time a text stands for; None where it is no time."""
    plain = " ".join(text.lower().split())
    if plain == "now":
        return Moment(text, unit="second")
    if plain in ("today", "yesterday"):
        return Moment(text, day=True, unit="today", ago=float(plain == "yesterday"))
    if found := _AGO.fullmatch(plain):
        amount, unit = float(found[1]), found[2]
        if unit in ("month", "year") and not amount.is_integer():
            return None
        return Moment(text, ago=amount, unit=unit)
    return _iso(text.strip())


def _iso(text: str) -> Moment | None:
    found = _ISO.fullmatch(text)
    if found is None:
        return None
    try:
        micros = int((found[7] or "0").ljust(6, "0")[:6])
        clock = [int(part or 0) for part in found.group(4, 5, 6)]
        date = [int(part) for part in found.group(1, 2, 3)]
        start = datetime(date[0], date[1], date[2], clock[0], clock[1], clock[2], micros)
        return Moment(text, start, _zone(found[8]), day=found[4] is None)
    except ValueError:  # the 31st of February, or 25 o'clock
        return None


def _zone(text: str | None) -> tzinfo | None:
    if text is None:
        return None
    if text in "Zz":
        return timezone.utc
    minutes = int(text[1:3]) * 60 + int(text[-2:])
    return timezone(timedelta(minutes=-minutes if text[0] == "-" else minutes))


def parse_duration(text: str) -> float | None:
    """Seconds in a text such as ``2h30m``, ``90 s`` or ``1.5 days``; None where it is no such."""
    plain = text.strip().lower()
    sign, plain = (-1.0, plain[1:]) if plain.startswith("-") else (1.0, plain)
    total, place = 0.0, 0
    while found := _DURATION.match(plain, place):
        unit = found[2]
        scale = 0.001 if unit.startswith(("ms", "milli")) else _UNITS[unit[0]]
        total += float(found[1]) * scale
        place = found.end()
    return sign * total if place and place == len(plain) else None
