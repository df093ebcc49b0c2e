"""The filter language: what every operator means, where errors point, and that nothing escapes."""

from __future__ import annotations

import math
import operator
import pickle
import re
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trackway.backend.index import _pattern
from trackway.backend.index.columns import MISSING, Column, value_at
from trackway.backend.index.expression import (
    DEPTH_LIMIT,
    FIELDS,
    TEXT_LIMIT,
    FilterError,
    compile_expression,
    compile_filter,
    path_text,
)
from trackway.backend.index.hints import hint
from trackway.backend.index.table import paths
from trackway.errors import ArgumentError

ZONE: Final = timezone(timedelta(hours=2))
NOW: Final = datetime(2026, 3, 31, 12, 0, tzinfo=ZONE).timestamp()
Doc = dict[str, Any]
Told = tuple[str, Callable[[Doc], Any]]
"""The text of an expression, and what it comes to for one run, in plain Python."""


def columns_of(documents: list[Doc]) -> Callable[[tuple[str, ...]], Column]:
    """The columns of these runs."""
    return lambda path: Column.of([value_at(document, path) for document in documents])


def truths(text: str, documents: list[Doc]) -> list[bool]:
    """Of which runs the filter holds."""
    found = compile_filter(text).truth(len(documents), columns_of(documents), now=NOW, zone=ZONE)
    assert found.dtype == np.bool_
    return [bool(flag) for flag in found]


def values(text: str, documents: list[Doc]) -> list[Any]:
    """What the expression comes to, run by run."""
    made = compile_expression(text)
    return made.values(len(documents), columns_of(documents), now=NOW, zone=ZONE).values()


def holds(text: str, **document: Any) -> bool:
    """Whether the filter holds of one run."""
    return truths(text, [document])[0]


def value(text: str, **document: Any) -> Any:
    """What the expression comes to for one run."""
    return values(text, [document])[0]


# -- the slow reference ----------------------------------------------------------------------------


def is_number(one: Any) -> bool:
    """A bool is one."""
    return isinstance(one, (bool, int, float))


def same(one: Any, other: Any) -> bool:
    """Equality of the language."""
    if one is MISSING or other is MISSING or is_number(one) != is_number(other):
        return False
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return type(one) is type(other) and bool(one == other) if not is_number(one) else one == other


def ordered(word: str, one: Any, other: Any) -> bool:
    """Order of the language."""
    tests = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
    if (is_number(one) and is_number(other)) or (isinstance(one, str) and isinstance(other, str)):
        return bool(tests[word](one, other))
    return False


def compared(word: str, one: Any, other: Any) -> bool:
    """Any comparison."""
    if word == "==":
        return same(one, other)
    return not same(one, other) if word == "!=" else ordered(word, one, other)


def contained(item: Any, container: Any) -> bool:
    """What ``in`` says."""
    if isinstance(container, str):
        return isinstance(item, str) and item in container
    return isinstance(container, list) and any(same(item, part) for part in container)


def calculated(word: str, one: Any, other: Any) -> Any:
    """Arithmetic in Python's floats."""
    if not (is_number(one) and is_number(other)):
        return MISSING
    left, right = as_float(one), as_float(other)
    try:
        if word == "/":
            return left / right
        if word == "//":
            return left // right
        if word == "%":
            return left % right
    except ZeroDivisionError:
        return MISSING
    return {"+": left + right, "-": left - right, "*": left * right}[word]


def as_float(number: Any) -> float:
    """The nearest float."""
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def true(one: Any) -> bool:
    """Truth of the language."""
    return one is not MISSING and bool(one)


# -- random expressions ----------------------------------------------------------------------------

TEXTS: Final = ("", "a", "ab", "b", "resnet-18", "Ä")
NUMBERS: Final = (0, 1, -1, 2, 7, 0.5, -2.5, 1e308, 2**53, 2**53 + 1, -(2**53) - 1, 10**30, 10**400)
ATOMS: Final = (
    st.sampled_from(TEXTS)
    | st.sampled_from(NUMBERS)
    | st.sampled_from([True, False, None, math.nan, math.inf, -math.inf, -0.0])
    | st.floats(width=16)
)
VALUES: Final = ATOMS | st.lists(st.sampled_from([0, 1, True, "a", None, 0.5]), max_size=3)
PATHS: Final = (
    ("config.a", ("config", "a")),
    ('config["b.c"]', ("config", "b", "c")),
    ('summary["val/acc"]', ("summary", "val/acc")),
    ("name", ("name",)),
    ("tags", ("tags",)),
)


@st.composite
def documents(draw: st.DrawFn) -> Doc:
    """A run that has some of the values of PATHS, of any kind."""
    found: Doc = {"config": {}, "summary": {}}
    if draw(st.booleans()):
        found["config"]["a"] = draw(VALUES)
    if draw(st.booleans()):
        found["config"]["b"] = {"c": draw(VALUES)}
    if draw(st.booleans()):
        found["summary"]["val/acc"] = draw(VALUES)
    if draw(st.booleans()):
        found["name"] = draw(st.sampled_from(TEXTS))
    if draw(st.booleans()):
        found["tags"] = draw(st.lists(st.sampled_from(TEXTS), max_size=2))
    return found


def at(path: tuple[str, ...]) -> Callable[[Doc], Any]:
    """Looks a path up in nested maps."""

    def look(document: Doc) -> Any:
        found: Any = document
        for part in path:
            if part not in found:
                return MISSING
            found = found[part]
        return found

    return look


def written(literal: Any) -> str:
    """A literal as one writes it."""
    if isinstance(literal, list):
        return "[" + ", ".join(map(written, literal)) + "]"
    return repr(literal)


def constant(literal: Any) -> Told:
    """A literal."""
    return written(literal), lambda _: literal


LITERALS: Final = st.sampled_from([*TEXTS, *NUMBERS[:-1], True, False, [0, "a"], [1.0], []])
LEAVES: Final = LITERALS.map(constant) | st.sampled_from([(text, at(path)) for text, path in PATHS])


def arithmetic(parts: tuple[Told, str, Told]) -> Told:
    """An operation on two terms."""
    (left, one), word, (right, other) = parts
    return f"({left}) {word} ({right})", lambda row: calculated(word, one(row), other(row))


def negative(part: Told) -> Told:
    """A term with a minus."""
    text, one = part
    return f"-({text})", lambda row: calculated("*", one(row), -1)


TERMS: Final = st.recursive(
    LEAVES,
    lambda inner: (
        st.tuples(inner, st.sampled_from("+ - * / // %".split()), inner).map(arithmetic)
        | inner.map(negative)
    ),
    max_leaves=4,
)


def comparison(parts: tuple[Told, list[tuple[str, Told]]]) -> Told:
    """A chain of comparisons."""
    (text, first), rest = parts
    text += "".join(f" {word} {'(' + other + ')'}" for word, (other, _) in rest)

    def test(row: Doc) -> bool:
        left, found = first(row), True
        for word, (_, other) in rest:
            right = other(row)
            found = found and compared(word, left, right)
            left = right
        return found

    return text, test


def membership(parts: tuple[Told, str, Told]) -> Told:
    """A term in a value."""
    (left, one), word, (right, other) = parts

    def test(row: Doc) -> bool:
        return contained(one(row), other(row)) == (word == "in")

    return f"({left}) {word} ({right})", test


def listing(parts: tuple[Told, list[Told]]) -> Told:
    """A term in a list."""
    (left, one), items = parts
    listed = ", ".join(text for text, _ in items)
    return f"({left}) in [{listed}]", lambda row: any(same(one(row), i(row)) for _, i in items)


def matching(parts: tuple[Told, str, str]) -> Told:
    """A term and a pattern."""
    (left, one), word, pattern = parts

    def test(row: Doc) -> bool:
        text = one(row)
        found = isinstance(text, str) and re.search(pattern, text) is not None
        return found == (word == "~")

    return f"({left}) {word} {written(pattern)}", test


def none(parts: tuple[Told, str]) -> Told:
    """A comparison with None."""
    (left, one), word = parts
    return f"({left}) {word} None", lambda row: (one(row) in (MISSING, None)) == (word == "==")


def existence(parts: tuple[Told, str]) -> Told:
    """Whether there is a value."""
    (left, one), word = parts
    return f"{word}({left})", lambda row: (one(row) is MISSING) == (word == "missing")


def truthful(part: Told) -> Told:
    """A term alone."""
    text, one = part
    return f"({text})", lambda row: true(one(row))


CONDITIONS: Final = st.one_of(
    st.tuples(
        TERMS,
        st.lists(
            st.tuples(st.sampled_from("== != < <= > >=".split()), TERMS), min_size=1, max_size=2
        ),
    ).map(comparison),
    st.tuples(TERMS, st.sampled_from(["in", "not in"]), LEAVES).map(membership),
    st.tuples(TERMS, st.lists(LEAVES, max_size=3)).map(listing),
    st.tuples(
        LEAVES, st.sampled_from(["~", "!~"]), st.sampled_from(["a", "^a", "b$", r"\d+", "x|Ä", ""])
    ).map(matching),
    st.tuples(
        st.sampled_from([(text, at(path)) for text, path in PATHS]), st.sampled_from(["==", "!="])
    ).map(none),
    st.tuples(TERMS, st.sampled_from(["exists", "missing"])).map(existence),
    TERMS.map(truthful),
)


def logic(parts: tuple[Told, str, Told]) -> Told:
    """Two conditions."""
    (left, one), word, (right, other) = parts
    if word == "and":
        return f"({left}) and ({right})", lambda row: true(one(row)) and true(other(row))
    return f"({left}) or ({right})", lambda row: true(one(row)) or true(other(row))


FILTERS: Final = st.recursive(
    CONDITIONS,
    lambda inner: (
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(logic)
        | inner.map(lambda part: (f"not ({part[0]})", lambda row: not true(part[1](row))))
    ),
    max_leaves=3,
)


@settings(deadline=None, max_examples=250)
@given(told=FILTERS, rows=st.lists(documents(), max_size=6))
def test_agrees_with_plain_python(told: Told, rows: list[Doc]) -> None:
    """Every operator comes to what plain Python says, run by run."""
    text, test = told
    made = compile_expression(text).truth(len(rows), columns_of(rows), now=NOW, zone=ZONE)
    assert made.tolist() == [true(test(row)) for row in rows]


@settings(deadline=None, max_examples=150)
@given(told=TERMS, rows=st.lists(documents(), max_size=6))
def test_values_agree_with_plain_python(told: Told, rows: list[Doc]) -> None:
    """A term comes to the same values, to the last bit, and is missing in the same runs."""
    text, one = told
    assert list(map(repr, map(plainly, values(text, rows)))) == [
        repr(plainly(one(row))) for row in rows
    ]


def plainly(one: Any) -> Any:
    """Numbers as floats."""
    return as_float(one) + 0.0 if is_number(one) else one  # the sign of a zero aside


@settings(deadline=None, max_examples=300)
@given(
    st.lists(
        st.sampled_from(
            "1 2 3 0.5 + - * / // % ** < <= == != > and or not ( ) in [1,2] True".split()
        ),
        min_size=1,
        max_size=12,
    )
)
@pytest.mark.filterwarnings("ignore::SyntaxWarning")
def test_precedence_is_that_of_python(words: list[str]) -> None:
    """A text that is Python too is read as Python reads it."""
    text = " ".join(words)
    try:
        expected = eval(text, {"__builtins__": {}})
    except (SyntaxError, TypeError, ZeroDivisionError, OverflowError):
        return
    if isinstance(expected, (complex, tuple, list)) or " ** " in text or " [1,2] " in f" {text} ":
        return
    if "and" in words or "or" in words:
        expected = bool(expected)
    assert value(text) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("-2 ** 2", -4),
        ("2 ** 3 ** 2", 512),
        ("2 ** -1", 0.5),
        ("7 - 2 - 1", 4),
        ("8 / 2 / 2", 2),
        ("7 // 2 * 2", 6),
        ("-7 // 2", -4),
        ("-7 % 3", 2),
        ("1 + 2 * 3", 7),
        ("(1 + 2) * 3", 9),
        ("+5", 5),
        ("- - 5", 5),
        ("1_000.5e-1", 100.05),
        (".5", 0.5),
        ("not 1 == 2", True),
        ("1 < 2 < 3", True),
        ("1 < 3 < 2", False),
        ("True == 1", True),
        ("true and not false", True),
        ("null == None", True),
        ("0 ** -1", MISSING),
        ("(-8) ** 0.5", MISSING),
        ("1 / 0", MISSING),
        ("1 // 0", MISSING),
        ("1 % 0", MISSING),
        ("10 ** 400 > 1", True),
    ],
)
def test_constants(text: str, expected: Any) -> None:
    """Constants come to what Python says; what has no answer is missing."""
    assert value(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("abs(-3)", 3),
        ("min(3, 1, 2)", 1),
        ("max(3, 1, 2)", 3),
        ("max([1, 4, 2])", 4),
        ("min([])", MISSING),
        ("max(['a'])", MISSING),
        ("min(1, 'a')", MISSING),
        ("len('abc')", 3),
        ("len([1, 2])", 2),
        ("len(5)", MISSING),
        ("lower('ÄB')", "äb"),
        ("upper('ab')", "AB"),
        ("upper(1)", MISSING),
        ("'Ab'.lower()", "ab"),
        ("name.lower().startswith('res')", True),
        ("round(2.5)", 2),
        ("round(2.675, 2)", 2.67),
        ("round(1234, -2)", 1200),
        ("round(1.5, 0.5)", MISSING),
        ("round(1.7e308, -308)", math.inf),
        ("log(1)", 0),
        ("log(0)", MISSING),
        ("log(-1)", MISSING),
        ("log10(1000)", 3),
        ("sqrt(9)", 3),
        ("sqrt(-1)", MISSING),
        ("float('2.5')", 2.5),
        ("float('x')", MISSING),
        ("float(True)", 1.0),
        ("int(-2.7)", -2),
        ("int('9007199254740993')", 9007199254740993),
        ("int(9007199254740993)", 9007199254740993),
        ("int(1e400)", MISSING),
        ("int('x')", MISSING),
        ("int([1])", MISSING),
        ("startswith('resnet', 'res')", True),
        ("endswith('resnet', 'net')", True),
        ("endswith('resnet', 5)", False),
        ("contains('resnet', 'sn')", True),
        ("contains(tags, 'a')", True),
        ("contains(tags, name)", False),
        ("exists(name)", True),
        ("missing(config.x)", True),
        ("exists(1 / 0)", False),
        ("lower(config.x)", MISSING),
        ("[config.x, 1]", MISSING),
        ("[name, 1]", ["ResNet", 1]),
    ],
)
def test_functions(text: str, expected: Any) -> None:
    """Every function, and what it does with what it is not made for."""
    found = value(text, name="ResNet", tags=["a", "b"])
    assert (found, type(found) is bool) == (expected, type(expected) is bool)


def test_missing_values() -> None:
    """No comparison with a missing value holds but ``!=``, which is always ``not ==``."""
    for word in ("==", "<", "<=", ">", ">="):
        assert not holds(f"config.lr {word} 1")
        assert not holds(f"config.lr {word} config.lr")
    assert holds("config.lr != 1")
    assert holds("config.lr not in [1]")
    assert holds("not config.lr")
    assert holds("config.lr !~ 'x'")


def test_none_and_missing() -> None:
    """``== None`` holds for None and for missing values; ``missing`` only for the latter."""
    rows: list[Doc] = [{"config": {"a": None}}, {"config": {}}, {"config": {"a": 0}}, {}]
    assert truths("config.a == None", rows) == [True, True, False, True]
    assert truths("config.a in [null, 5]", rows) == [True, True, False, True]
    assert truths("missing(config.a)", rows) == [False, True, False, True]
    assert truths("exists(config.a)", rows) == [True, False, True, False]


def test_dotted_names() -> None:
    """A dotted name finds nested and flat configurations alike, in each way of writing it."""
    rows: list[Doc] = [
        {"config": {"opt": {"lr": 1}}},
        {"config": {"opt.lr": 1}},
        {"config": {"opt": {"x": 2}, "opt.lr": 1}},
        {"config": {"opt": 1}},
    ]
    for text in ("config.opt.lr", 'config["opt.lr"]', 'config["opt"]["lr"]', 'config.opt["lr"]'):
        assert truths(f"{text} == 1", rows) == [True, True, True, False]
        assert compile_expression(text).path == ("config", "opt", "lr")


def test_big_integers_are_exact() -> None:
    """Integers beyond 2**53 are compared exactly, also with floats and as lists."""
    seed = 2**53 + 1
    assert holds(f"config.seed == {seed}", config={"seed": seed})
    assert not holds(f"config.seed == {seed - 1}", config={"seed": seed})
    assert holds(f"config.seed > {float(2**53)!r}", config={"seed": seed})
    assert holds(f"config.seed in [1, {seed}]", config={"seed": seed})
    assert not holds(f"config.seed in [1, {seed - 1}]", config={"seed": seed})
    assert holds(f"config.seed == -{10**400}", config={"seed": -(10**400)})


def test_paths_are_told() -> None:
    """An expression knows which columns it looks at, each once, in the order of the text."""
    made = compile_filter('summary["a/b"] > config.x or (state in [name, "x"] and not state)')
    assert made.paths == (("summary", "a/b"), ("config", "x"), ("state",), ("name",))
    assert made.path is None


@pytest.mark.parametrize(
    "path",
    [
        ("config", "lr"),
        ("config", "a b", "c"),
        ("summary", 'x"\\n/\n\t'),
        ("state",),
        ("config", "ä", ""),
    ],
)
def test_path_text(path: tuple[str, ...]) -> None:
    """A path that is written as an expression is read as that path."""
    assert compile_expression(path_text(path)).path == path


def test_every_field_is_a_name() -> None:
    """All fields of a run may be named."""
    for name in FIELDS:
        assert compile_expression(name).path == (name,)


# -- times -----------------------------------------------------------------------------------------


def stamp(text: str) -> float:
    """Seconds since 1970, in ZONE."""
    return datetime.fromisoformat(text).replace(tzinfo=ZONE).timestamp()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("now", NOW),
        ("today", stamp("2026-03-31")),
        (" Yesterday ", stamp("2026-03-30")),
        ("2 days ago", NOW - 2 * 86400),
        ("1.5 hours ago", NOW - 5400),
        ("90 seconds ago", NOW - 90),
        ("1 minute ago", NOW - 60),
        ("3 weeks  ago", NOW - 21 * 86400),
        ("1 month ago", stamp("2026-02-28T12:00")),
        ("13 months ago", stamp("2025-02-28T12:00")),
        ("25 months ago", stamp("2024-02-29T12:00")),
        ("3 months ago", stamp("2025-12-31T12:00")),
        ("2 years ago", stamp("2024-03-31T12:00")),
        ("9999 years ago", -math.inf),
        ("2026-03-01", stamp("2026-03-01")),
        ("2026-03-01 14:30", stamp("2026-03-01T14:30")),
        ("2026-03-01T14:30:15.25", stamp("2026-03-01T14:30:15.250")),
        ("2026-03-01T14:30Z", stamp("2026-03-01T16:30")),
        ("2026-03-01T14:30+05:30", stamp("2026-03-01T11:00")),
        ("2026-03-01 14:30 -0100", stamp("2026-03-01T17:30")),
    ],
)
def test_times(text: str, expected: float) -> None:
    """What a text compared with a time stands for; the reader's time zone unless one is named."""
    assert holds(f"created >= '{text}'", created=expected if expected > -math.inf else -1e300)
    assert not holds(f"created > '{text}'", created=expected)
    assert holds(f"'{text}' <= ended", ended=max(expected, -1e300))


@pytest.mark.parametrize("field", ["created", "ended", "duration", "ended - created"])
@pytest.mark.parametrize("empty", ["[]", "()"])
def test_times_and_empty_lists(field: str, empty: str) -> None:
    """No time and no duration is in an empty list, or equal to one."""
    row = {"created": NOW, "ended": NOW + 5, "duration": 5.0}
    for word, expected in (("in", False), ("not in", True), ("==", False), ("!=", True)):
        assert holds(f"{field} {word} {empty}", **row) is expected
    assert holds(f"{field} < {empty}", **row) is False
    assert holds(f"{field} in [{empty}]", **row) is False


def test_a_day_is_equal_to_its_moments() -> None:
    """``==`` holds throughout a day; the order of a day is that of its first moment."""
    start = stamp("2026-03-31")
    rows: list[Doc] = [{"created": start + shift} for shift in (-1, 0, 86399, 86400)]
    assert truths("created == 'today'", rows) == [False, True, True, False]
    assert truths("'2026-03-31' == created", rows) == [False, True, True, False]
    assert truths("created != 'today'", rows) == [True, False, False, True]
    assert truths("created in ['today', '2026-04-01']", rows) == [False, True, True, True]
    assert truths("created > 'today'", rows) == [False, False, True, True]
    assert truths("created < '2026-04-01' and created >= 'today'", rows) == [
        False,
        True,
        True,
        False,
    ]


def test_local_days_follow_the_clock_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a time zone the machine's own holds, and a day may have 23 hours."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        day = compile_filter("created == '2026-03-29'")
        start = datetime(2026, 3, 28, 23, tzinfo=timezone.utc).timestamp()
        column = Column.of([start - 1, start, start + 23 * 3600 - 1, start + 23 * 3600])
        found = day.truth(4, lambda _: column, now=NOW)
        assert found.tolist() == [False, True, True, False]
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("2h30m", 9000), ("90s", 90), ("1.5 days", 129600), ("250ms", 0.25), ("1w 1 d", 691200),
     ("2 hours 5 min", 7500), ("-5 minutes", -300), ("1 millisecond", 0.001)],
)  # fmt: skip
def test_durations(text: str, seconds: float) -> None:
    """What a text compared with a duration stands for, also with the difference of two times."""
    assert holds(f"duration == '{text}'", duration=seconds)
    assert holds(f"ended - created >= '{text}'", created=0.0, ended=seconds)
    assert holds(f"max(duration) == '{text}' and not -duration == '{text}'", duration=seconds)


def test_times_shift_by_seconds() -> None:
    """A time plus a number of seconds is a time; a duration times a number is a number."""
    assert holds("created + 3600 > '1 hour ago'", created=NOW - 3600)
    assert holds("duration / 3600 > 2", duration=9000.0)
    assert not holds("duration / 3600 > '2h'", duration=9000.0)


# -- errors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "position", "length", "part"),
    [
        ("", 0, 1, "empty"),
        ("   ", 3, 1, "empty"),
        ("lr < 1", 0, 2, "config.lr"),
        ("stat == 1", 0, 4, "did you mean 'state'"),
        ("confg.lr == 1", 0, 5, "did you mean 'config'"),
        ("config < 1", 0, 6, "name one"),
        ("config. < 1", 8, 1, "write a name"),
        ("config[0] < 1", 7, 1, "in quotes"),
        ("config['a' < 1", 11, 1, "not closed"),
        ("config.lr <", 11, 1, "missing at the end"),
        ("config.lr = 1", 10, 1, "'=='"),
        ("state == 'x' && name", 13, 2, "'and'"),
        ("state == 'x' || name", 13, 2, "'or'"),
        ("!archived", 0, 1, "'not'"),
        ("state =~ 'x'", 6, 2, "'~'"),
        ("state is None", 6, 2, "'=='"),
        ("state == 'x' AND name", 13, 3, "'and'"),
        ("(state == 'x'", 13, 1, "not closed"),
        ("state == 'x')", 12, 1, "cannot stand"),
        ("state == 'x", 9, 2, "does not end"),
        ("state in ['a' 'b']", 14, 3, "list is not closed"),
        ("state 'x'", 6, 3, "two values"),
        ("name[0]", 4, 1, "config and summary"),
        ("name.first == 1", 5, 5, "config and summary"),
        ("name.strip() == 1", 5, 5, "no such method"),
        ("1 + not name", 4, 3, "parentheses"),
        ("config.lr < 1e-3x", 12, 5, "followed by"),
        ("duration > 2h", 11, 2, "quotes"),
        ("lenght(name) > 1", 0, 6, "did you mean len()"),
        ("foo(name)", 0, 3, "there are abs"),
        ("len > 1", 0, 3, "write len("),
        ("len() > 1", 0, 3, "1 argument;"),
        ("round(1, 2, 3)", 0, 5, "1 to 2 arguments"),
        ("name ~ config.x", 7, 8, "in quotes"),
        ("name ~ 'a(b'", 9, 1, "pattern is wrong"),
        ("name ~ r'a(b'", 10, 1, "pattern is wrong"),
        ("name ~ 'x(a+)+b'", 9, 1, "for ever"),
        ("name ~ 'a' ~ 'b'", 11, 1, "chained"),
        ("created > 'tomorow'", 10, 9, "no time"),
        ("created > '2026-02-30'", 10, 12, "no time"),
        ("created in ['today', 'x']", 21, 3, "no time"),
        ("created > '1.5 months ago'", 10, 16, "no time"),
        ("created > '2026-01-01T10:00+25:00'", 10, 24, "no time"),
        ("duration > '2 parsecs'", 11, 11, "no duration"),
        ("'resnet'", 0, 8, "no condition"),
        ("name == 'x' $", 12, 1, "means nothing"),
        ("\tname ==\t\t$", 10, 1, "means nothing"),
        ("{}", 0, 1, "maps"),
        ("* 1", 0, 1, "a value before"),
        ("state == 'a'\n and foo", 18, 3, "config.foo"),
        ("9" * 1001, 0, 1001, "digits"),
        ("summary.val/acc > 0.9", 0, 15, 'summary["val/acc"]'),
        ("config.a < 1 and summary.val/acc.min > 1", 17, 19, 'summary["val/acc.min"]'),
        ("config.a/lr > 1", 0, 11, 'config["a/lr"]'),
        ("val/acc > 0.5", 0, 7, 'summary["val/acc"]'),
        ("train/loss < 0.1", 0, 10, 'summary["train/loss"]'),
        ("config.a / b > 1", 11, 1, "write config.b"),
        ("points/loss > 1", 7, 4, "write config.loss"),
        ("config.optimizer.name == adam", 25, 4, 'needs quotes: "adam"'),
        ("state in [running]", 10, 7, 'needs quotes: "running"'),
        ("big in tags", 0, 3, 'needs quotes: "big"'),
        ("big not in tags", 0, 3, 'needs quotes: "big"'),
    ],
)
def test_error_points_at_the_character(text: str, position: int, length: int, part: str) -> None:
    """Three lines: what is wrong, the line, and a caret below the character it is about."""
    with pytest.raises(FilterError) as caught:
        compile_filter(text)
    error = caught.value
    assert (error.position, error.length) == (position, length)
    reason, line, below = str(error).split("\n")
    assert part in reason
    assert reason == error.reason
    if len(text) < 100:
        start = text.rfind("\n", 0, position) + 1
        assert line == text[start:].split("\n")[0]
        assert below.index("^") == position - start == len(below) - 1
        assert all(char in " \t\u3000" for char in below[:-1])


def test_caret_below_tabs_and_wide_characters() -> None:
    """The space before the caret is as wide as the text above it."""
    with pytest.raises(FilterError) as caught:
        compile_filter("name ==\t'日本' $")
    assert str(caught.value).split("\n")[2] == " " * 7 + "\t" + " \u3000\u3000 " + " ^"


def test_long_lines_are_cut() -> None:
    """Of a long text the message shows what surrounds the place."""
    with pytest.raises(FilterError) as caught:
        compile_filter("name == 'x' or " * 200 + "$" + " or name == 'x'" * 200)
    _, line, below = str(caught.value).split("\n")
    assert len(line) <= 122
    assert line[below.index("^")] == "$"
    assert (line[0], line[-1]) == ("…", "…")


def test_error_is_an_argument_error_that_travels() -> None:
    """It is a ValueError, and comes whole out of another process."""
    with pytest.raises(ArgumentError) as caught:
        compile_filter("lr < 1")
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (type(copy), str(copy), copy.position) == (FilterError, str(caught.value), 0)


def test_limits() -> None:
    """Long and deep texts are refused; wide ones are not."""
    compile_filter(" or ".join(["name"] * 1000))
    compile_filter(" + ".join(["1"] * 2000))
    compile_filter("(" * (DEPTH_LIMIT - 1) + "1" + ")" * (DEPTH_LIMIT - 1))
    for text in ("(" * 5000 + "1", "not " * 2000 + "1", "-" * 5000 + "x", "2 ** " * 1500 + "1",
                 "[" * 5000, "abs(" * 2000, "1 < (" * 1500):  # fmt: skip
        with pytest.raises(FilterError, match=f"deeper than {DEPTH_LIMIT}"):
            compile_filter(text)
    with pytest.raises(FilterError, match="longer than"):
        compile_filter("1" + " " * TEXT_LIMIT)


def test_deep_trees_are_evaluated() -> None:
    """What the parser accepts is evaluated without running out of stack."""
    assert value("-abs(" * 40 + "1" + ")" * 40) == -1
    assert holds("not " * 98 + "archived", archived=True)


@settings(deadline=None, max_examples=400)
@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    """No text makes the parser raise anything but its own error."""
    try:
        compile_filter(text)
    except FilterError as error:
        assert 0 <= error.position <= len(text)
        assert error.length >= 1
        assert str(error).count("\n") == 2 or "\n" in error.reason


WORDS: Final = (
    "ended [] () '1h' config . [ ] ( ) , 'a' \"b\" 1 2.5 name created duration in not and or ~ !~"
    " == < - + ** len( exists( min( None '2 days ago' '(a+)+' __import__ eval( summary .x ['y']"
).split()


@settings(deadline=None, max_examples=250)
@given(words=st.lists(st.sampled_from(WORDS), max_size=14), rows=st.lists(documents(), max_size=3))
def test_any_words_are_evaluated_or_refused(words: list[str], rows: list[Doc]) -> None:
    """Whatever compiles gives a bool for each run."""
    text = " ".join(words)
    try:
        made = compile_filter(text)
    except FilterError:
        return
    assert made.truth(len(rows), columns_of(rows), now=NOW, zone=ZONE).shape == (len(rows),)


@pytest.mark.parametrize(
    "text",
    ["__import__('os').system('x')", "(lambda: 1)()", "name.__class__", "config.__class__()",
     "[x for x in tags]", "name if name else 1", "exec('1')", "f'{name}'", "name := 1"],
)  # fmt: skip
def test_python_is_not_evaluated(text: str) -> None:
    """What would be code in Python is refused."""
    with pytest.raises(FilterError):
        compile_filter(text)


def test_dunder_names_are_only_keys() -> None:
    """A name with underscores is looked up in the config, never on an object."""
    assert value("config.__class__", config={}) is MISSING
    assert value("config.__class__", config={"__class__": 1}) == 1


# -- patterns --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pattern",
    ["(a+)+b", "(a*)*", "(a|a)*b", "(a|ab)+c", "((ab)*)*", "(a?){50}", "(.|a)+x", "([ab]|a)*x",
     "(?:a+)+b", "(?P<x>a+)+b", "(?i:a|A)*b", "(a{1,5}){5}", r"(\w|\d)*x", "((a|b){3})*", "(a|)*",
     r"(a)\1", "(?P<x>a)(?P=x)", "(a)?(?(1)b|c)", "(?x)a", "(?#x)a", "a*" * 9, "a" * 501,
     "a?" * 40 + "b", "(|a)" * 40 + "b", "(?:a{0,50}){1}" * 30 + "b", "(a|ab)" * 17 + "c",
     "a{0,15}" * 5, "a{0,16}" * 9, "(?:a{0,3}b?)" * 6,
     "a{1001}", "a{1,1001}", "(" * 30 + ")" * 30, "(a{0}b|b)*c", "(\u017f|s)*x"],
)  # fmt: skip
def test_catastrophic_patterns_are_refused(pattern: str) -> None:
    """A pattern that could take exponential time, or cannot be judged, is not compiled."""
    with pytest.raises(_pattern.PatternError):
        _pattern.Pattern.of(pattern)


@pytest.mark.parametrize(
    "pattern",
    ["resnet.*", r"^v\d+\.\d+$", "(adam|sgd)", "(ab)+", "(foo|bar)*", "[a+]+", r"\(a+\)+", "a{3}",
     "a{,3}", "x{", "(?i)resnet", "(?:ab|cd){2}", "(?=a)b", "(?<!a)b", "a+?", "[]a]+", r"[\]a]*",
     "(a+)?", "v?a?b?-?c?d?e?", r"\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}", "(a|b|c)" * 20,
     "^a.*b.*c$", "", "[[]"],
)  # fmt: skip
def test_plain_patterns_are_accepted(pattern: str) -> None:
    """What people write is accepted, and means what ``re`` says."""
    made = _pattern.Pattern.of(pattern)
    texts = ["", "a", "ab", "resnet-18", "v1.20", "adam", "(a)", "abc", "cdab", "x{", "[", 5, None]
    assert made.found_in(texts) == [
        isinstance(text, str) and re.search(pattern, text) is not None for text in texts
    ]


@settings(deadline=None, max_examples=300)
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@given(st.text(alphabet="ab()|*+?{}1,[]\\^$.:=<!Pi-", max_size=14))
def test_any_accepted_pattern_ends_soon(pattern: str) -> None:
    """Whatever the guard accepts is found or not found at once in a text made to be hard."""
    try:
        made = _pattern.Pattern.of(pattern)
    except _pattern.PatternError as error:
        assert 0 <= error.place <= len(pattern)
        return
    texts = [
        "a" * 40 + "!",
        "ab" * 20 + "!",
    ]  # what is exponential would not end before the timeout
    assert made.found_in(texts) == [re.search(pattern, text) is not None for text in texts]


def test_a_text_too_long_for_its_pattern_is_refused() -> None:
    """A polynomial pattern is not let loose on a long text: the error points at it."""
    rows: list[Doc] = [{"notes": "ab" * 2000}]
    text = "exists(notes) and notes ~ '(a.*)(b.*)(c.*)d'"
    with pytest.raises(FilterError, match="too slow") as caught:
        truths(text, rows)
    assert caught.value.position == text.index("notes ~")
    assert truths("notes ~ 'b.*a$'", rows) == [False]


@pytest.mark.parametrize("repeat", ["a{0,1000}", "a{0,16}", "a*", "a+", "a{1,}"])
def test_wide_counts_weigh_as_much_as_open_repetitions(repeat: str) -> None:
    """Eight of them are searched in ten characters and refused in forty."""
    made = _pattern.Pattern.of(repeat * 8 + "b")
    assert made.found_in(["a" * 10, "a" * 10 + "b"]) == [False, True]
    with pytest.raises(_pattern.SlowPatternError, match="40 characters"):
        made.found_in(["a" * 40])


def test_texts_together_end_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock is looked at after each text, not after a few."""
    monkeypatch.setattr(_pattern, "DEADLINE_S", -1.0)
    searched: list[str] = []

    def texts() -> Any:
        for text in ("a", "b"):
            searched.append(text)
            yield text

    with pytest.raises(_pattern.SlowPatternError, match="all texts"):
        _pattern.Pattern.of("a").found_in(texts())
    assert searched == ["a"]


def test_patterns_search_the_beginning_of_a_long_text() -> None:
    """A text is searched up to its 10,000th character."""
    rows: list[Doc] = [{"notes": "a" * 9_999 + "b"}, {"notes": "a" * 10_000 + "b"}]
    assert truths("notes ~ 'b'", rows) == [True, False]


def test_a_pattern_is_searched_once_for_each_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten thousand runs with two names cost two searches, and none the second time."""
    searched: list[Any] = []
    found_in = _pattern.Pattern.found_in

    def counted(self: _pattern.Pattern, texts: Any) -> list[bool]:
        searched.extend(texts)
        return found_in(self, texts)

    monkeypatch.setattr(_pattern.Pattern, "found_in", counted)
    column = Column.of(["a", "b"] * 5000)
    made = compile_filter("name ~ 'a'")
    for _ in range(2):
        assert int(made.truth(10_000, lambda _: column).sum()) == 5000
    assert searched == ["a", "b"]


# -- hints ---------------------------------------------------------------------------------------

THERE: Final[list[Doc]] = [
    {"config": {"lr": 0.1, "opt": {"name": "adam"}, "flag": True}, "summary": {"val/acc": 0.5}},
    {"config": {"lr": 1, "mixed": "a"}, "summary": {}},
    {"config": {"mixed": 1, "lr": None}},
]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("config.lrr < 1", "no run has config.lrr; did you mean config.lr?"),
        ("config.val > 0 or config.xyz", "no run has config.val; did you mean"),
        ("summary['val/ac'] > 0", 'no run has summary["val/ac"]; did you mean summary["val/acc"]?'),
        ("summary.acc > 0", 'no run has summary.acc; did you mean summary["val/acc"]?'),
        ("summary.lr > 0", "no run has summary.lr; did you mean config.lr?"),
        ("config.qqqqqqqqqq > 0", "no run has config.qqqqqqqqqq; trackway show RUN tells"),
        ("exists(config.lrr)", "no run has config.lrr; did you mean config.lr?"),
        ("state == 'Finished'", 'there is no state "Finished"; did you mean "finished"?'),
        ("'done' == state", 'there is no state "done"; there are running, finished, failed, '
         "interrupted, killed, lost"),
        ("not archived and state in ['crashed', 'x']", 'there is no state "crashed"; there are'),
        ("tags == 'big'", 'tags is a list; write "big" in tags'),
        ("config.lr == '0.1'", 'config.lr is a number, and "0.1" a text; write 0.1 without quotes'),
        ("config.lr == 'x'", 'config.lr is a number, and "x" a text'),
        ("config.lr in ['0.1', '1']", 'config.lr is a number, and "0.1" a text; write 0.1'),
        ("config.opt.name == 1", 'config.opt.name is a text; write "1"'),
        ("name == 18", 'name is a text; write "18"'),
        ("points > '5'", 'points is a number, and "5" a text; write 5 without quotes'),
        ("config.lr ~ '0'", "config.lr is a number, and ~ searches texts"),
    ],
)  # fmt: skip
def test_hints(text: str, expected: str) -> None:
    """A name, a state or a kind of value that no run has is told, with what may be meant."""
    told = hint(compile_filter(text), paths(THERE))
    assert told is not None
    assert told.startswith(expected)


@pytest.mark.parametrize(
    "text",
    ["config.lr > 5", "config.opt == 1", "state == 'lost'", "'x' in tags", "config.mixed == 'b'",
     "config.mixed == 2", "missing(config.nothing)", "config.nothing == None", "tags == ['x']",
     "state != 'Finished'", "name == 'x'", "config.lr == [1]", "state in ['lost', 'Lost']",
     "created > 'now'", "'a' in config.opt.name", "config.lr == config.opt.name", "False"],
)  # fmt: skip
def test_no_hints(text: str) -> None:
    """A filter that might let a run pass, though none does, is told nothing about."""
    assert hint(compile_filter(text), paths(THERE)) is None


# -- the page --------------------------------------------------------------------------------------

PAGE: Final = Path(__file__).parents[3] / "docs" / "filter.md"


def examples() -> list[tuple[str, str]]:
    """Each line ``expression    → runs`` of the page's code blocks."""
    return re.findall(r"^(\S.*?) +→ (.+)$", PAGE.read_text("utf-8"), re.MULTILINE)


RUNS: Final[list[Doc]] = [
    {
        "id": "a", "name": "resnet-18", "state": "finished", "tags": ["baseline"], "group": "g1",
        "created": NOW - 3600.0, "ended": NOW, "duration": 3600.0, "archived": False,
        "config": {"lr": 1e-3, "optimizer": {"name": "adam"}, "layers": [64, 64], "seed": 1},
        "summary": {"val/acc": 0.91, "loss": 0.31},
    },
    {
        "id": "b", "name": "resnet-50", "state": "failed", "tags": [],
        "created": NOW - 3 * 86400.0, "ended": NOW - 2.9 * 86400, "duration": 8640.0,
        "archived": True, "exit_code": 1,
        "config": {"lr": 1e-1, "optimizer": {"name": "sgd"}, "layers": [128], "seed": 2},
        "summary": {"loss": float("nan")},
    },
    {
        "id": "c", "name": "vit-b16", "state": "running", "tags": ["baseline", "big"],
        "created": NOW - 90000.0, "archived": False, "notes": "second try",
        "config": {"lr": None, "optimizer": {"name": "adam"}, "seed": 12345678901234567890},
        "summary": {"val/acc": 0.95, "loss": 0.2},
    },
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), examples())
def test_examples_of_the_page(text: str, expected: str) -> None:
    """Every example of docs/filter.md lets just those runs pass that it says."""
    found = [run["id"] for run, flag in zip(RUNS, truths(text, RUNS), strict=True) if flag]
    assert (" ".join(found) or "none") == expected


def test_the_page_has_examples_and_names_everything() -> None:
    """The page has many examples, and every field and function stands in it."""
    page = PAGE.read_text("utf-8")
    assert len(examples()) >= 30
    from trackway.backend.index._nodes import FUNCTIONS

    for name in (*FIELDS, *FUNCTIONS):
        assert f"`{name}" in page, name
