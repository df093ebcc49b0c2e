"""Values as a person reads them on a terminal. What comes from a run is never printed raw."""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from trackway.api._document import json_value

__all__ = [
    "ago",
    "clean",
    "duration",
    "moment",
    "number",
    "path_text",
    "plural",
    "shell",
    "shorten",
    "size",
    "value_text",
    "with_unit",
]

_UNSEEN: Final = re.compile(
    # Control characters, and those that hide or turn around the text beside them. The joiners
    # of emoji and of several scripts (U+200C, U+200D) are text.
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    "\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)
_LONGEST: Final = 300
_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_UNITS: Final = {
    "percent": "%",
    "celsius": "°C",
    "watts": "W",
    "mhz": "MHz",
    "s": "s",
}


def clean(told: object) -> str:
    r"""One line of text without anything a terminal would act on; ``\x1b`` shows as such."""
    text = str(told)
    if text.isascii() and text.isprintable():
        return text
    return _UNSEEN.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape", "surrogatepass").decode("ascii")


def shorten(text: str, limit: int = _LONGEST) -> str:
    """The text if it is short, else its beginning and how long it is."""
    if len(text) <= limit:
        return text
    return f"{text[:limit].rstrip()}… ({len(text):,} characters)"


def path_text(path: object) -> str:
    """A path as text; one that is no UTF-8 is stored as bytes."""
    return os.fsdecode(path) if isinstance(path, (str, bytes)) else str(path)


def value_text(value: object, limit: int = _LONGEST) -> str:
    """A configured or logged value: floats exact, text plain unless it could be taken for more."""
    if isinstance(value, bool) or value is None:
        return str(value)
    if isinstance(value, str):
        return clean(shorten(value, limit)) if _is_plain(value) else clean(repr(value))
    if isinstance(value, float):
        return repr(value)
    plain = json_value(value)
    told = plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)
    return clean(shorten(told, limit))


def _is_plain(text: str) -> bool:
    if len(text) > 40:
        return True
    if text in ("", "None", "True", "False") or text != text.strip():
        return False
    try:
        float(text)
    except ValueError:
        return True
    return False


def number(value: object) -> str:
    """A measured value in four significant digits; integers whole."""
    if isinstance(value, Mapping):
        return ", ".join(f"{clean(name)} {number(inner)}" for name, inner in value.items())
    if not isinstance(value, float):
        return "" if value is None else value_text(value, 40)
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    if 1e4 <= abs(value) < 1e9:
        return f"{value:.0f}"
    return f"{value:.4g}"


def plural(count: int, noun: str, many: str | None = None) -> str:
    """``1 run``, ``2 runs``, ``1,000 runs``."""
    return f"{count:,} {noun if count == 1 else many or noun + 's'}"


def duration(seconds: float) -> str:
    """How long something took, in the two largest units."""
    if not math.isfinite(seconds):
        return "unknown"
    seconds = max(0.0, seconds)
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE:02} s"
    if whole < _DAY:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE:02} min"
    return f"{whole // _DAY} d {whole % _DAY // _HOUR:02} h"


def ago(moment_s: float, now: float | None = None) -> str:
    """How long ago, coarsely; a date where that is more than a month or lies ahead."""
    seconds = (time.time() if now is None else now) - moment_s
    if not -_MINUTE < seconds < 30 * _DAY:
        return moment(moment_s)[:10]
    if seconds < _MINUTE:
        return f"{max(0, int(seconds))} s ago"
    if seconds < _HOUR:
        return f"{int(seconds // _MINUTE)} min ago"
    if seconds < _DAY:
        return f"{int(seconds // _HOUR)} h ago"
    return f"{plural(int(seconds // _DAY), 'day')} ago"


def moment(seconds: float, *, zone: bool = False) -> str:
    """Date and time here; ``unknown`` where a clock was so wrong that there is none."""
    try:
        local = datetime.fromtimestamp(seconds).astimezone()
        return local.strftime("%Y-%m-%d %H:%M:%S %Z" if zone else "%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return "unknown"


def size(count: float) -> str:
    """Bytes in binary units."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(count) < 1024 or unit == "TiB":
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError("unreachable")


def with_unit(key: str, value: Any) -> str:
    """A sample of the machine with the unit that its name ends with."""
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        return number(value)
    if key.endswith("bytes_per_s"):
        return f"{size(value)}/s"
    if key.endswith("bytes"):
        return size(value)
    unit = _UNITS.get(re.split(r"[._]", key)[-1])
    if unit is None:
        return number(float(value))
    return f"{value:.0f} {unit}" if abs(value) >= 100 else f"{value:.1f} {unit}"


def shell(word: str) -> str:
    """The word as a shell takes it, in visible characters alone."""
    if not _UNSEEN.search(word):
        return shlex.quote(word)
    escaped = word.replace("\\", "\\\\").replace("'", "\\'")
    return "$'" + _UNSEEN.sub(_shell_escape, escaped) + "'"


def _shell_escape(match: re.Match[str]) -> str:
    # A surrogate is a byte that was no UTF-8, as in a file name.
    raw = match[0].encode(
        "utf-8", "surrogateescape" if "\udc80" <= match[0] <= "\udcff" else "replace"
    )
    return "".join(f"\\x{byte:02x}" for byte in raw)
