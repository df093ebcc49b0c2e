"""Values as a person reads them."""

from __future__ import annotations

import math
import shlex
import subprocess
import time
from typing import Any

import pytest

from trackway.cli._text import (
    ago,
    clean,
    duration,
    moment,
    number,
    plural,
    shell,
    shorten,
    size,
    value_text,
    with_unit,
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("Küche 日本 🍳 👩\u200d🔬", "Küche 日本 🍳 👩\u200d🔬"),
        ("a\x1b[31mred", r"a\x1b[31mred"),
        ("a\x9b31m", r"a\x9b31m"),
        ("one\ntwo\r\tthree\x07\x00\x7f", r"one\ntwo\r\tthree\x07\x00\x7f"),
        ("safe\u202eexe.txt", r"safe\u202eexe.txt"),
        ("zero\u200bwidth\ufeff", r"zero\u200bwidth\ufeff"),
        ("line\u2028end", r"line\u2028end"),
        ("file\udcff", r"file\udcff"),
        (b"bytes", "b'bytes'"),
        (3, "3"),
    ],
)
def test_clean_shows_what_a_terminal_would_act_on(text: object, shown: str) -> None:
    """Control and direction characters are escaped; letters, emoji and joiners are not."""
    assert clean(text) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0"),
        (-0.0, "-0"),
        (1.0, "1"),
        (0.123456, "0.1235"),
        (0.00012345, "0.0001234"),
        (1.23456e-9, "1.235e-09"),
        (12345.678, "12346"),
        (1.5e9, "1.5e+09"),
        (math.nan, "nan"),
        (-math.inf, "-inf"),
        (123456789, "123456789"),
        (True, "True"),
        (None, ""),
        ("text", "text"),
        ({"min": 0.5, "max": 1.0}, "min 0.5, max 1"),
    ],
)
def test_number(value: object, shown: str) -> None:
    """Floats have four significant digits, integers all of theirs."""
    assert number(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.1 + 0.2, "0.30000000000000004"),
        (3e-4, "0.0003"),
        (1.0, "1.0"),
        (1, "1"),
        ("1", "'1'"),
        ("1e3", "'1e3'"),
        ("nan", "'nan'"),
        ("None", "'None'"),
        (None, "None"),
        ("True", "'True'"),
        (True, "True"),
        ("", "''"),
        (" x", "' x'"),
        ("adam", "adam"),
        ("a\x1b[0m", r"a\x1b[0m"),
        ([1, "a", math.nan], '[1, "a", "NaN"]'),
        ({}, "{}"),
        ("x" * 400, f"{'x' * 300}… (400 characters)"),
        (1 << 5000, "0x1" + "0" * 297 + "… (1,253 characters)"),
    ],
)
def test_value_text(value: object, shown: str) -> None:
    """Configured floats are exact, and a text that looks like another value is quoted."""
    assert value_text(value) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (185, "3 min 05 s"),
        (3600, "1 h 00 min"),
        (86399, "23 h 59 min"),
        (86400 * 2 + 3600 * 5, "2 d 05 h"),
        (-5, "0.0 s"),
        (math.inf, "unknown"),
    ],
)
def test_duration(seconds: float, shown: str) -> None:
    """A duration has its two largest units."""
    assert duration(seconds) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-5, "0 s ago"),
        (59, "59 s ago"),
        (60, "1 min ago"),
        (3599, "59 min ago"),
        (7200, "2 h ago"),
        (86400, "1 day ago"),
        (86400 * 29.5, "29 days ago"),
    ],
)
def test_ago(seconds: float, shown: str) -> None:
    """How long ago is told in one unit, rounded down."""
    assert ago(1e9 - seconds, 1e9) == shown


def test_ago_is_a_date_for_long_ago_and_the_future() -> None:
    """What is more than a month away, or lies ahead, is a date."""
    assert ago(1e9, 1e9 + 86400 * 31) == moment(1e9)[:10]
    assert ago(1e9 + 3600, 1e9) == moment(1e9 + 3600)[:10]


@pytest.mark.parametrize("seconds", [math.nan, math.inf, 1e300, -1e300])
def test_a_time_that_cannot_be_is_unknown(seconds: float) -> None:
    """A time beyond the calendar is told as unknown, not an error."""
    assert moment(seconds) == "unknown"


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (3 << 30, "3.0 GiB"),
        (5 << 50, "5120.0 TiB"),
    ],
)
def test_size(count: int, shown: str) -> None:
    """Bytes come in binary units."""
    assert size(count) == shown


@pytest.mark.parametrize(
    ("key", "value", "shown"),
    [
        ("process.cpu_percent", 93.25, "93.2 %"),
        ("gpu.0.power_watts", 312.7, "313 W"),
        ("gpu.0.temperature_celsius", 60.0, "60.0 °C"),
        ("memory.used_bytes", 3 << 30, "3.0 GiB"),
        ("disk.read_bytes_per_s", 2048.0, "2.0 KiB/s"),
        ("gpu.0.clock_sm_mhz", 1980.0, "1980 MHz"),
        ("load.1m", 1.5, "1.5"),
        ("process.threads", math.nan, "nan"),
    ],
)
def test_with_unit(key: str, value: float, shown: str) -> None:
    """A sample has the unit that its name ends with."""
    assert with_unit(key, value) == shown


def test_moment_names_the_time_zone_where_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times are those of this machine, and the zone can be told."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        told = moment(1e9), moment(1e9, zone=True)
    time.tzset()
    assert told == ("2001-09-09 10:46:40", "2001-09-09 10:46:40 JST")


def test_plural_and_shorten() -> None:
    """Counts agree with their nouns; a long text tells how long it was."""
    assert [plural(n, "run") for n in (0, 1, 2000)] == ["0 runs", "1 run", "2,000 runs"]
    assert shorten("abc", 3) == "abc"
    assert shorten("abcdef", 3) == "abc… (6 characters)"


@pytest.mark.parametrize(
    "word",
    [
        "plain",
        "",
        "a b",
        "it's",
        "$HOME `id` \\",
        "tab\tnew\nline",
        "esc\x1b[31m'\\",
        "Küche",
        "dir\u202eection",
        b"byte\xff\x80".decode("utf-8", "surrogateescape"),
    ],
)
def test_shell_words_come_out_of_bash_as_they_went_in(word: str) -> None:
    """What is printed for a shell is visible characters only, and means the same bytes."""
    shown = shell(word)
    assert clean(shown) == shown
    done = subprocess.run(["bash", "-c", f"printf %s {shown}"], capture_output=True, check=True)
    assert done.stdout == word.encode("utf-8", "surrogateescape")


def test_shell_quotes_only_where_it_must() -> None:
    """Ordinary words are left as they are."""
    words: list[Any] = ["python", "train.py", "--lr=1e-3"]
    assert [shell(word) for word in words] == words
    assert shell("a b") == shlex.quote("a b")
