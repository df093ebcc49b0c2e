"""The words of a filter expression, each with its place; and the error that points at one."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Any, Final

from trackway.errors import ArgumentError

__all__ = ["TEXT_LIMIT", "FilterError", "Token", "joined_names", "tokenize"]

TEXT_LIMIT: Final = 10_000
_BEFORE, _AFTER = 60, 60  # characters of a long line that are shown around the place
_DIGITS: Final = 1000

_SPACE: Final = re.compile(r"\s+")
_NUMBER: Final = re.compile(r"(?:\d+(?:_\d+)*(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_NAME: Final = re.compile(r"[^\W\d]\w*")
_OPERATOR: Final = re.compile(r"\*\*|//|==|!=|<=|>=|!~|[-+*/%<>~()\[\],.]")
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", "'": "'", '"': '"'}
_ADVICE: Final = {
    "&&": "write 'and'",
    "||": "write 'or'",
    "&": "write 'and'",
    "|": "write 'or'",
    "!": "write 'not'",
    "=~": "write '~'",
    "=": "write '==' to compare",
    "{": "maps cannot be written here",
    ";": "a filter is one expression; join conditions with 'and'",
}


class FilterError(ArgumentError):
    """A filter expression is wrong.

    The message has three lines: what is wrong and what to do, the text, and a caret under the
    character it is about.

    Attributes:
        reason: The first line alone.
        position: The character it is about, counted from 0; at most the length of the text.
        length: How many characters it is about, 1 or more.
    """

    def __init__(self, reason: str, text: str, position: int, length: int = 1) -> None:
        self.reason = reason
        self.text = text
        self.position = min(position, len(text))
        self.length = max(length, 1)
        super().__init__(f"{reason}\n{_shown(text, self.position)}")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.reason, self.text, self.position, self.length)


def _shown(text: str, position: int) -> str:
    """The line of the text that holds the position, and a caret below it."""
    breaks = re.compile(r"[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")
    start = max((found.end() for found in breaks.finditer(text, 0, position)), default=0)
    end_of_line = breaks.search(text, position)
    end = end_of_line.start() if end_of_line else len(text)
    low, high = max(start, position - _BEFORE), min(end, position + _AFTER)
    left, right = "…" * (low > start), "…" * (high < end)
    below = "".join(map(_space_below, left + text[low:position]))
    return f"{left}{text[low:high]}{right}\n{below}^"


def _space_below(char: str) -> str:
    """A blank as wide as the character: one character for one character."""
    if char == "\t":
        return char
    return "\u3000" if unicodedata.east_asian_width(char) in "WF" else " "


@dataclass(frozen=True, slots=True)
class Token:
    """A word of the text.

    Attributes:
        kind: ``number``, ``text``, ``name``, ``operator`` or ``end``.
        text: As written, for names and operators.
        position: Its first character.
        length: How many characters it has; 1 for the end.
        value: What it stands for, for numbers and texts.
    """

    kind: str
    text: str
    position: int
    length: int
    value: Any = None


def tokenize(text: str) -> list[Token]:
    """All words, and the end.

    Raises:
        FilterError: There is something that is no word.
    """
    if len(text) > TEXT_LIMIT:
        raise FilterError(
            f"the filter is longer than {TEXT_LIMIT} characters; shorten it", text, TEXT_LIMIT
        )
    tokens, place = [], 0
    while place < len(text):
        space = _SPACE.match(text, place)
        if space is None:
            tokens.append(_token(text, place))
            place += tokens[-1].length
        else:
            place = space.end()
    return [*tokens, Token("end", "", len(text), 1)]


def joined_names(tokens: list[Token], place: int) -> tuple[int, int]:
    """The first and the last word of a row such as ``val/acc.min`` around a name.

    Its names are joined with ``/`` and ``.``, without a blank.
    """
    low = high = place
    while _joins(tokens, low - 1):
        low -= 2
    while _joins(tokens, high + 1):
        high += 2
    return low, high


def _joins(tokens: list[Token], place: int) -> bool:
    if not 0 < place < len(tokens) - 1:
        return False
    before, token, after = tokens[place - 1 : place + 2]
    return (
        token.text in ("/", ".")
        and before.kind == after.kind == "name"
        and before.position + before.length == token.position
        and token.position + token.length == after.position
    )


def _token(text: str, place: int) -> Token:
    char = text[place]
    if char in "\"'" or (char in "rR" and text[place + 1 : place + 2] in ("'", '"')):
        return _quoted(text, place)
    if found := _NUMBER.match(text, place):
        return _number(text, place, found[0])
    if found := _NAME.match(text, place):
        return Token("name", found[0], place, len(found[0]))
    for wrong in (text[place : place + 2], char):
        if wrong in _ADVICE and not _OPERATOR.match(text, place):
            raise FilterError(
                f"{wrong!r} is no operator: {_ADVICE[wrong]}", text, place, len(wrong)
            )
    if found := _OPERATOR.match(text, place):
        return Token("operator", found[0], place, len(found[0]))
    raise FilterError(f"the character {char!r} means nothing here; take it out", text, place)


def _number(text: str, place: int, word: str) -> Token:
    following = _NAME.match(text, place + len(word))
    if following is not None:
        raise FilterError(
            f"a number cannot be followed by {following[0]!r}; put an operator between, or quotes "
            "around a name or a duration",
            text,
            place,
            len(word) + len(following[0]),
        )
    if len(word) > _DIGITS:
        raise FilterError(
            f"the number has more than {_DIGITS} digits; shorten it", text, place, len(word)
        )
    plain = word.replace("_", "")
    value = int(plain) if plain.isdigit() else float(plain)
    return Token("number", word, place, len(word), value)


def _quoted(text: str, place: int) -> Token:
    raw = text[place] in "rR"
    quote = text[place + raw]
    parts: list[str] = []
    at = place + raw + 1
    while at < len(text) and text[at] != quote:
        if text[at] == "\\" and at + 1 < len(text):
            pair = text[at : at + 2]
            parts.append(pair if raw else _ESCAPES.get(pair[1], pair))
            at += 2
        else:
            parts.append(text[at])
            at += 1
    if at >= len(text):
        raise FilterError(
            f"this text does not end; close it with {quote}", text, place, len(text) - place
        )
    return Token("text", "", place, at + 1 - place, "".join(parts))
