"""One filter for everything that is stored: what is secret becomes ``[masked]``.

Three questions are asked of a text, from the surest to the least sure:

1. Does it have the *shape* of a known credential (``ghp_…``, a PEM private key, ``user:pass@``)?
2. Does it stand after a *name* that always holds a secret (``password``, ``client_secret``)?
3. Does it stand after a key-like name (``token``, ``key``) and *look random*?

Names are read as words (``hubToken``, ``HF_TOKEN`` and ``hub-token`` are the same two), so that
``tokenizer``, ``max_tokens`` and ``monkey`` are no secrets. Source code is treated with more care
than console text: only literals and comments are masked there, never an expression, so a masked
program is still the same program.

Every pattern is bounded or cannot overlap itself: the time is linear in the length of the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from trackway.core._secrets import (
    _BARE,
    _BY_NEEDLE,
    _CODE_HEAD,
    _COUNT,
    _HEAD,
    _KEY,
    _KEY_BODY,
    _KEY_END,
    _KEY_LINES,
    _KEY_RUN,
    _MAX_DEPTH,
    _MAX_NAMES,
    _MAX_PLACES,
    _MAX_PLAIN,
    _NAME_NEEDLES,
    _PARAMETER,
    _PATCH_HEADERS,
    _PATH,
    _PLACEHOLDER,
    _QUOTED,
    _USER_INFO,
    _WEAK_BARE,
    MASK,
    _is,
    _is_credential,
    _is_reference,
    _Kind,
    _kind_of,
    _looks_random,
    _quote_after,
    _re,
    _Shape,
    _shape_re,
    _Source,
    _source_of,
    _suspicious,
    _words,
)
from trackway.errors import ArgumentError

__all__ = ["MASK", "Masked", "Redactor"]


@dataclass(frozen=True, slots=True)
class Masked:
    """What was masked at one place: how often and by which rule, never the value."""

    where: str
    rule: str
    count: int


class Redactor:
    """The filter between what is captured and what is stored.

    One per process. Several threads may use it; a count may then be one too low.

    Args:
        names: Further names whose values are masked, matched by their words in any spelling.
        patterns: Further regular expressions whose every match is masked (in patches: within
            one line).

    Raises:
        ArgumentError: A pattern does not compile, or a name has no letters.
    """

    def __init__(self, names: Iterable[str] = (), patterns: Iterable[str] = ()) -> None:
        names = (names,) if isinstance(names, str) else tuple(names)
        patterns = (patterns,) if isinstance(patterns, str) else tuple(patterns)
        self._patterns = [_compiled(pattern) for pattern in patterns]
        self._names = [_named(name) for name in names]
        self._needles = tuple(max(words, key=len) for words in self._names)
        self._kinds: dict[str, _Kind] = {}
        self._counts: dict[tuple[str, str], int] = {}
        # Where a private key has begun and not ended, and how many more lines it may have.
        self._keys: dict[str, int] = {}

    def text(self, text: str, where: str) -> str:
        """The text without its secrets; its number of lines stays the same.

        Args:
            text: A console line or any other free text.
            where: What the text is part of. A private key that is printed line by line is
                followed through calls with the same ``where``.
        """
        low = text.lower()
        if not (_suspicious(low) or self._keys or self._patterns or self._needles):
            return text
        return self._text(text, where)

    def value(self, name: str, value: object, where: str) -> object:
        """The value without its secrets; the same object where nothing was masked.

        Strings and bytes are masked, at any depth of dicts, lists, tuples and sets; numbers,
        booleans, None and objects of other kinds stay as they are.

        Args:
            name: The full name of the value (``"optimizer.api_key"``, ``"HF_TOKEN"``).
            value: What it holds.
            where: The capture it belongs to; ``masked()`` shows the place as ``where.name``.
        """
        return self._value(name, value, where, 0)

    def argv(self, argv: Sequence[str]) -> list[str]:
        """The command line without its secrets, one item for each of the given ones."""
        shown: list[str] = []
        option = ""
        for item in argv:
            pair = _re(r"(?s:(?:--?|\+{1,2}|~)?([A-Za-z_][\w.\-/@]*)=(.*))").fullmatch(item)
            if pair:
                shown.append(item[: pair.start(2)] + self._string(pair[1], pair[2], "argv"))
            elif option and not item.startswith("--"):
                shown.append(self._string(option, item, "argv"))
            else:
                shown.append(self._text(item, "argv"))
            match = _re(r"-{1,2}([A-Za-z][\w.\-]*)").fullmatch(item)
            option = match[1] if match else ""
            if option in ("p", "k", "t"):
                option = "token"
        self._keys.pop("argv", None)
        return shown

    def url(self, url: str) -> str:
        """The address without user, password or token; ``git@host:path`` stays as it is."""
        scheme, mark, rest = url.partition("://")
        if not mark:
            return self._text(url, "url")
        authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
        if "@" not in authority:
            _, colon, port = authority.partition(":")
            if colon and not port.isdigit():  # a password with an unescaped slash
                authority = rest
        user, at, _ = authority.rpartition("@")
        if at and _is_credential(scheme, user):
            self._count("url", "url-credentials")
            rest = rest[len(user) + 1 :]
        return self._text(_re(_PARAMETER).sub(self._parameter, f"{scheme}://{rest}"), "url")

    def patch(self, data: bytes, where: str) -> bytes:
        """A patch or a text file without its secrets, byte for byte the same elsewhere.

        Number and kind of the lines stay, so git can still apply a patch, as long as no context
        line and no removed line held a secret. Binary sections are left alone.

        Args:
            data: A git patch or the content of a text file, in any encoding.
            where: What it is; a file's suffix at its end says whether it is source code.
        """
        text = data.decode("utf-8", "surrogateescape")
        if text.startswith("diff --git ") or "\ndiff --git " in text:
            lines = self._patch_lines(text.split("\n"), where)
        else:
            lines = self._lines(self._own(text, where).split("\n"), where, _source_of(where))
        self._keys.pop(where, None)
        shown = "\n".join(lines)
        return data if shown == text else shown.encode("utf-8", "surrogateescape")

    def masked(self) -> list[Masked]:
        """What has been masked so far, in the order it first happened."""
        return [Masked(*place, count) for place, count in list(self._counts.items())]

    def _count(self, where: str, rule: str) -> None:
        place = (where[:300], rule)
        if place not in self._counts and len(self._counts) >= _MAX_PLACES:
            place = ("further places", rule)
        self._counts[place] = self._counts.get(place, 0) + 1

    def _value(self, name: str, value: object, where: str, depth: int) -> object:
        place = f"{where}.{name}" if name else where
        if isinstance(value, str):
            return self._string(name, value, place)
        if isinstance(value, bytes):
            rule = self._verdict(self._kind(name), value.decode("latin-1"))
        elif isinstance(value, dict | list | tuple | set | frozenset):
            if depth < _MAX_DEPTH:
                return self._container(name, value, where, depth + 1)
            rule = "too-deep"
        else:
            return value
        if rule:
            self._count(place, rule)
        return MASK if rule else value

    def _container(self, name: str, value: object, where: str, depth: int) -> object:
        if isinstance(value, dict):
            shown: dict[object, object] = {}
            same = True
            for key, item in value.items():
                kept = self._string("", key, where) if isinstance(key, str) else key
                path = f"{name}.{kept}" if name else str(kept)
                shown[kept] = self._value(path, item, where, depth)
                same = same and kept is key and shown[kept] is item
            return value if same else shown
        assert isinstance(value, list | tuple | set | frozenset)
        old = list(value)
        new = [self._value(name, item, where, depth) for item in old]
        if all(one is other for one, other in zip(new, old, strict=True)):
            return value
        return tuple(new) if isinstance(value, tuple) else new

    def _string(self, name: str, value: str, where: str) -> str:
        rule = self._verdict(self._kind(name), value.strip(" \t\r\n\"'"))
        if rule:
            self._count(where, rule)
            return MASK
        shown = self._text(value, where)
        self._keys.pop(where, None)
        return shown

    def _kind(self, name: str) -> _Kind:
        kind = self._kinds.get(name)
        if kind is None:
            words = _words(name)
            spelt = f" {' '.join(words)} "
            custom = any(f" {' '.join(own)} " in spelt for own in self._names)
            kind = _Kind.CUSTOM if custom else _kind_of(words)
            if len(self._kinds) >= _MAX_NAMES:
                self._kinds.clear()
            self._kinds[name] = kind
        return kind

    def _verdict(self, kind: _Kind, value: str) -> str | None:
        """The rule by which a value after such a name is masked; None to keep it."""
        if kind is _Kind.NONE or _is_reference(value):
            return None
        if kind is _Kind.CUSTOM:
            return "custom-name"
        if kind is _Kind.WEAK:
            return "random-value" if _looks_random(value) else None
        plain = len(value) <= _MAX_PLAIN and (
            _is(_COUNT, value)
            or (kind is _Kind.STRONG and (_is(_PATH, value) or _is(_PLACEHOLDER, value)))
        )
        if plain:
            return None
        return "secret-name"

    def _parameter(self, match: re.Match[str]) -> str:
        rule = self._verdict(self._kind(match["name"]), match["s"])
        if not rule:
            return match[0]
        self._count("url", rule)
        return f"{match['name']}={MASK}"

    def _text(self, text: str, where: str) -> str:
        lines = self._own(text, where).split("\n")
        shown = "\n".join(self._lines(lines, where, _Source.TEXT))
        return text if shown == text else shown

    def _own(self, text: str, where: str) -> str:
        """The text without what the user's own patterns match."""
        for pattern in self._patterns:
            text = pattern.sub(lambda match: self._blank(match[0], where), text)
        return text

    def _blank(self, match: str, where: str) -> str:
        if not match or match == MASK:
            return match
        self._count(where, "custom-pattern")
        return MASK + "\n" * match.count("\n")

    def _lines(self, lines: Sequence[str], where: str, source: _Source) -> list[str]:
        shown: list[str] = []
        for line in lines:
            begun = where in self._keys
            shown.append(self._line(line, where, source))
            if "-----END" in line and not begun:
                self._mask_key_before(shown, 0, where)
        return shown

    def _patch_lines(self, lines: Sequence[str], where: str) -> list[str]:
        shown: list[str] = []
        source, in_hunk, binary = _Source.TEXT, False, False
        for line in lines:
            begun, kept = where in self._keys, 0
            if line.startswith("diff --git "):
                source, in_hunk, binary = _source_of(line), False, False
                kept = len(line)
            elif line == "GIT binary patch":
                binary = True
            elif line.startswith("@@ "):
                in_hunk = True
                self._keys.pop(where, None)
                kept = line.find(" @@", 3) + 3  # the heading after it may quote any line
            else:
                kept = 1 if in_hunk else 0
            if binary or (not in_hunk and line.startswith(_PATCH_HEADERS)):
                kept = len(line)
            shown.append(line[:kept] + self._line(self._own(line[kept:], where), where, source))
            if in_hunk and "-----END" in line and not begun:
                self._mask_key_before(shown, 1, where)
        return shown

    def _line(self, line: str, where: str, source: _Source) -> str:
        low = line.lower()
        if self._keys or "private key" in low:
            line = self._key_line(line, where)
        own = any(map(low.__contains__, self._needles))
        if not (own or _suspicious(low)):
            return line
        for needle, shape in _BY_NEEDLE:
            if needle in low:
                line = self._shape(shape, line, where)
        if "://" in low:
            line = self._user_infos(line, where)
        if own or any(map(low.__contains__, _NAME_NEEDLES)):
            line = self._assignments(line, where, source)
        return line

    def _shape(self, shape: _Shape, line: str, where: str) -> str:
        def mask(match: re.Match[str]) -> str:
            if shape.if_random and not _looks_random(match["s"], least=1.5):
                return match[0]
            self._count(where, shape.rule)
            start, stop = match.start("s") - match.start(), match.end("s") - match.start()
            return match[0][:start] + MASK + match[0][stop:]

        return _shape_re(shape.pattern).sub(mask, line)

    def _user_infos(self, line: str, where: str) -> str:
        def mask(match: re.Match[str]) -> str:
            scheme = line[max(0, match.start() - 40) : match.start() - 3]
            if match["s"] == MASK or not _is_credential(scheme, match["s"]):
                return match[0]
            self._count(where, "url-credentials")
            return f"{MASK}@"

        return _re(_USER_INFO).sub(mask, line)

    def _key_line(self, line: str, where: str) -> str:
        """The line without its share of a PEM private key, which may span many lines."""
        left = self._keys.get(where)
        if left is not None:
            end = _re(_KEY_END).search(line)
            body = None if end or not left else _re(_KEY_BODY).fullmatch(line)
            if body:
                self._keys[where] = left - 1
                return f"{body['before']}{MASK}{body['after']}"
            if end:
                line = _re(_KEY_RUN).sub(MASK, line[: end.start()]) + line[end.start() :]
            if end or line.strip():
                self._keys.pop(where, None)

        def mask(match: re.Match[str]) -> str:
            if match["end"] is None:
                self._keys[where] = _KEY_LINES
            self._count(where, "private-key")
            start, stop = match.start("s") - match.start(), match.end("s") - match.start()
            return match[0][:start] + _re(_KEY_RUN).sub(MASK, match["s"]) + match[0][stop:]

        return _re(_KEY).sub(mask, line)

    def _mask_key_before(self, shown: list[str], skip: int, where: str) -> None:
        """Mask what precedes the end of a private key whose beginning was not seen."""
        if not _re(_KEY_END).search(shown[-1]):
            return
        for index in range(len(shown) - 2, max(-1, len(shown) - _KEY_LINES), -1):
            line = shown[index]
            body = _re(_KEY_BODY).fullmatch(line, skip)
            if not body or (len(body["s"]) < 40 and index != len(shown) - 2):
                return
            if body["s"] != MASK:
                shown[index] = line[:skip] + f"{body['before']}{MASK}{body['after']}"
                self._count(where, "private-key")

    def _assignments(self, line: str, where: str, source: _Source) -> str:
        parts: list[str] = []
        done = at = 0
        quote = ""
        for head in _re(_CODE_HEAD if source is _Source.CODE else _HEAD).finditer(line):
            kind = self._kind(head["option"] or head["name"])
            if kind is _Kind.NONE or head.start() < done:
                continue
            if source is _Source.CODE:
                quote, at = _quote_after(line, at, head.end(), quote), head.end()
            found = _assigned(line, head, kind, source, quote)
            if found is None:
                continue
            start, stop = found
            value = line[start:stop]
            rule = self._verdict(_Kind.WEAK if _is_listed(head, source) else kind, value)
            if rule is None:
                continue
            self._count(where, rule)
            parts += (line[done:start], MASK)
            done = stop
        return "".join(parts) + line[done:] if parts else line


def _is_listed(head: re.Match[str], source: _Source) -> bool:
    """Whether name and value are but neighbours in a list, which proves little."""
    return head["sep"] == "," and (source is _Source.CODE or not head[0].startswith("--"))


def _assigned(
    line: str, head: re.Match[str], kind: _Kind, source: _Source, quote: str
) -> tuple[int, int] | None:
    """Where the value after this name begins and ends; None if there is none to mask.

    Args:
        line: The line that holds the name.
        head: The match of the name and its separator.
        kind: What the name says.
        source: What the line is part of.
        quote: In source code, the quote (or ``#``) that is open where the value begins.
    """
    start = head.end()
    if source is _Source.SHELL and line[start : start + 2].lstrip('"').startswith(("$", "`")):
        return None
    quoted = _re(_QUOTED).match(line, start)
    if quoted and not (quote and line.startswith(quote, start)):
        group = quoted.lastgroup or "a"
        formatted = "f" in quoted["prefix"].lower() and "{" in quoted[group]
        return None if formatted and source is _Source.CODE else quoted.span(group)
    if source is _Source.CODE and (not quote or line.startswith(quote, start)):
        return None
    if kind is _Kind.WEAK:
        bare = _re(_WEAK_BARE).match(line, start)
        return bare.span("s") if bare else None
    in_url = line[head.start() - 1 : head.start()] in ("?", "&")
    bare = _re(_BARE % ("&" if in_url else "\\\\" if source is _Source.CODE else "")).match(
        line, start
    )
    if bare is None or (head["option"] and bare["s"].startswith("--")):
        return None
    start, value = bare.start("s"), bare["s"]
    first = head.start() < 40 and not line[: head.start()].strip(" \t-")
    if first and kind is _Kind.ALWAYS and head["sep"] == ":" and source is _Source.TEXT:
        return start, len(line.rstrip())  # a line of YAML: the value is the rest of it
    if _is_reference(value):
        return None
    return start, start + len(value.rstrip(",;)]}>") or value)


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ArgumentError(
            f"redact_patterns: {pattern!r} is no regular expression: {error}"
        ) from (error)


def _named(name: str) -> list[str]:
    words = _words(name)
    if not words:
        raise ArgumentError(f"redact_names: {name!r} holds no letters to compare names by")
    return words
