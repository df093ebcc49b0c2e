"""A line discipline: what a program writes to a terminal in, the lines a person would see out.

Only what progress bars need is understood: carriage return, backspace, moves of the cursor within
the last hundred lines, and erasing. Colours and every other escape sequence are dropped. There is
no width: a long line stays one line, and one code point is one cell.
"""

from __future__ import annotations

import re

__all__ = ["Screen"]

HISTORY = 100
"""How many lines above the last one the cursor can go back to."""

LIMIT = 64 * 1024
"""How many characters of one line are kept; the rest is counted."""

_REACH = 1000  # a terminal stops the cursor at its right edge; ours has none and stops it here
_COLOUR = re.compile(r"(?<!\x1b)\x1b\[[0-9;:]*m")
# Every escape character matches one of the alternatives, malformed sequences included: they are
# dropped up to the character that broke them. A string sequence (title, link, image) ends at a
# newline at the latest, so that a stray introducer never swallows more than its own line.
_TOKEN = re.compile(
    r"(?P<text>[^\n\r\b\x1b]+)"
    r"|(?P<char>[\n\r\b])"
    r"|\x1b\[(?P<params>[0-?]*)[ -/]*(?P<final>[@-~]?)"
    r"|\x1b[\]PX^_][^\x07\x1b\n]*(?:\x07|\x1b\\)?"
    r"|\x1b[ -/]*[0-~]?"
)
_UNFINISHED = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|[\]PX^_][^\x07\x1b\n]*\x1b?|[ -/]*)\Z")


class Screen:
    """The lines that text fed piece by piece leaves on a terminal, numbered from 0.

    A line above the last one is complete; the last one is unfinished, also when it is empty.
    Not safe for use by several threads at once.
    """

    def __init__(self) -> None:
        # Invariant: outside take(), no row leaves the list; the cursor is on one of the last
        # HISTORY + 1 rows, and rows are added only while it is on the last.
        self._rows = [""]
        self._first = 0
        self._row = 0
        self._col = 0
        self._new = 0
        self._shown = -1
        # Line number -> its text when it was last given (None: it differs for certain).
        self._changed: dict[int, str | None] = {}
        self._left_out: dict[int, int] = {}
        self._pending = ""

    @property
    def fresh(self) -> bool:
        """Whether a line has become complete for the first time since the last ``take``."""
        return self._first + len(self._rows) - 1 > self._new

    @property
    def waiting(self) -> bool:
        """Whether ``take(partial=True)`` may have something to give."""
        return bool(self._changed) or self.fresh

    def feed(self, text: str) -> None:
        """Write text at the cursor. Lone surrogates become backslash escapes."""
        if not text.isascii():
            text = _encodable(text)
        if self._pending or "\x1b" in text:
            text = self._plain(text)
        at_end = self._row == len(self._rows) - 1 and self._col == len(self._rows[-1])
        if at_end and not ("\r" in text or "\b" in text or "\x1b" in text):
            self._append(text)
        else:
            self._play(text.replace("\r\n", "\n"))

    def write(self, text: str) -> list[tuple[int, list[str]]]:
        """``feed(text)``, and ``take()`` if a line became complete; quick for plain whole lines."""
        rows = self._rows
        at_rest = not (rows[-1] or self._changed or self._col or self._pending)
        if not at_rest or self._row != len(rows) - 1 or not _is_plain(text):
            self.feed(text)
            return self.take() if self.fresh else []
        lines = text.split("\n")
        rows[-1:] = lines
        number = self._first + self._row
        self._row += len(lines) - 1
        self._new = self._first + self._row
        if len(rows) > 2 * HISTORY:
            self._forget()
        lines.pop()
        return [(number, lines)]

    def take(self, partial: bool = False) -> list[tuple[int, list[str]]]:
        """The complete lines that are new or changed since the last call.

        Args:
            partial: Also give the unfinished line, if it changed.

        Returns:
            Groups of neighbouring lines: the number of the first, and the lines, in order.
        """
        last = self._first + len(self._rows) - 1
        groups: list[tuple[int, list[str]]] = []
        start = self._new
        if self._changed:
            for number in sorted(n for n in self._changed if n < start and self._differs(n)):
                self._group(groups, number, number + 1)
            if start == self._shown and not self._differs(start):
                start += 1
        elif start == self._shown:
            start += 1
        if start < last:
            self._group(groups, start, last)
        if partial and self._differs(last):
            self._group(groups, last, last + 1)
            self._shown = last
        if self._changed:
            keep = not partial and last in self._changed
            self._changed = {last: self._changed[last]} if keep else {}
        self._new = last
        if len(self._rows) > 2 * HISTORY:
            self._forget()
        return groups

    def _group(self, groups: list[tuple[int, list[str]]], start: int, end: int) -> None:
        lines = self._rows[start - self._first : end - self._first]
        if self._left_out:
            lines = [
                f"{line} … [{out} characters left out]" if (out := self._left_out.get(n)) else line
                for n, line in enumerate(lines, start)
            ]
        if groups and groups[-1][0] + len(groups[-1][1]) == start:
            groups[-1][1].extend(lines)
        else:
            groups.append((start, lines))

    def _differs(self, number: int) -> bool:
        return number in self._changed and (
            self._changed[number] != self._rows[number - self._first]
        )

    def _forget(self) -> None:
        excess = len(self._rows) - 1 - HISTORY
        del self._rows[:excess]
        self._first += excess
        self._row -= excess
        if self._left_out:
            self._left_out = {n: c for n, c in self._left_out.items() if n >= self._first}

    def _plain(self, text: str) -> str:
        """The text without colours, and without a sequence that is still to be continued."""
        text = _COLOUR.sub("", self._pending + text)
        self._pending = ""
        unfinished = _UNFINISHED.search(text)
        if unfinished is None:
            return text
        sequence = unfinished.group()
        if sequence[1:2] in tuple("]PX^_"):
            # What a string sequence says is dropped anyway; an image may be megabytes long.
            sequence = sequence[:2] + ("\x1b" if sequence.endswith("\x1b") else "")
        if len(sequence) <= 64:
            self._pending = sequence
        return text[: unfinished.start()]

    def _append(self, text: str) -> None:
        """Add text at the very end; it holds no control characters but newlines."""
        first, *lines = text.split("\n")
        if first:
            self._put(first)
        if not lines:
            return
        if len(text) > LIMIT:
            for number, line in enumerate(lines, self._first + len(self._rows)):
                if len(line) > LIMIT:
                    self._left_out[number] = len(line) - LIMIT
        self._col = len(lines[-1])
        self._rows.extend(line[:LIMIT] for line in lines)
        self._row = len(self._rows) - 1
        if lines[-1]:
            self._changed[self._first + self._row] = None

    def _play(self, text: str) -> None:
        for match in _TOKEN.finditer(text):
            plain, char, final = match.group("text", "char", "final")
            if plain:
                self._put(plain)
            elif char == "\n":
                self._newline()
            elif char == "\r":
                self._col = 0
            elif char:
                self._col = max(self._col - 1, 0)
            elif final and match["params"][:1] not in tuple("<=>?"):
                self._control(final, match["params"])

    def _put(self, text: str) -> None:
        """Overwrite from the cursor on; a gap beyond the end of the line becomes blanks."""
        row, col = self._rows[self._row], self._col
        self._col = end = col + len(text)
        number = self._first + self._row
        self._changed.setdefault(number, row)
        if end > LIMIT:
            self._left_out[number] = max(self._left_out.get(number, 0), end - LIMIT)
            self._changed[number] = None
            text = text[: max(LIMIT - col, 0)]
        if col == len(row):
            row += text
        elif col > len(row):
            row = row.ljust(col) + text if text else row
        else:
            # Blanks that overwrite the end of a line erase it; the cursor may stand beyond the end.
            row = (row[:col] + text + row[col + len(text) :]).rstrip(" ")
        self._rows[self._row] = row

    def _newline(self) -> None:
        self._row += 1
        self._col = 0
        if self._row == len(self._rows):
            self._rows.append("")

    def _control(self, final: str, params: str) -> None:
        digits = params.split(";", 1)[0][:5]
        number = int(digits) if digits.isdecimal() else 0
        if final in "ABCDEFG":
            self._move(final, max(number, 1))
        elif final == "K":
            self._erase(number)
        elif final == "J" and number == 0:
            self._erase(0)
            for row in range(self._row + 1, len(self._rows)):
                self._replace(row, "")
        elif final in "Hf" or (final == "J" and number > 1):
            # A cleared screen begins again below: what was said stays said.
            self._row = len(self._rows) - 1
            self._col = 0
            if self._rows[-1]:
                self._newline()

    def _move(self, final: str, count: int) -> None:
        if final in "AF":
            self._row = max(self._row - count, len(self._rows) - 1 - HISTORY, 0)
        elif final in "BE":
            self._row = min(self._row + count, len(self._rows) - 1)
        if final in "EF":
            self._col = 0
        elif final in "CDG":
            col = {"C": self._col + count, "D": self._col - count, "G": count - 1}[final]
            self._col = min(max(col, 0), max(_REACH, len(self._rows[self._row])))

    def _erase(self, mode: int) -> None:
        row, col = self._rows[self._row], self._col
        if mode == 0 and col <= LIMIT:
            self._replace(self._row, row[:col])
        elif mode == 1:
            self._replace(self._row, (" " * min(col + 1, len(row)) + row[col + 1 :]).rstrip(" "))
        elif mode == 2:
            self._replace(self._row, "")

    def _replace(self, row: int, text: str) -> None:
        number = self._first + row
        self._changed.setdefault(number, self._rows[row])
        self._rows[row] = text
        if len(text) < LIMIT and self._left_out.pop(number, 0):
            self._changed[number] = None


def _is_plain(text: str) -> bool:
    """Whether the text is short whole lines without anything to interpret."""
    return (
        text.isascii()
        and text.endswith("\n")
        and len(text) <= LIMIT
        and not ("\r" in text or "\b" in text or "\x1b" in text)
    )


def _encodable(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode(errors="backslashreplace").decode()
    return text
