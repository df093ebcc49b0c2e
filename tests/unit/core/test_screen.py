"""The line discipline: text with control characters in, the lines a person would see out."""

from __future__ import annotations

import tracemalloc
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trackway.core._screen import HISTORY, LIMIT, Screen

UP, CLEAR = "\x1b[A", "\x1b[2K"


def seen(*texts: str) -> list[str]:
    """The lines on the screen after these writes, the unfinished one included if not empty."""
    screen = Screen()
    for text in texts:
        screen.feed(text)
    lines = replay({}, screen.take(partial=True))
    assert sorted(lines) == list(range(len(lines)))
    return [lines[number] for number in sorted(lines)]


def replay(lines: dict[int, str], groups: list[tuple[int, list[str]]]) -> dict[int, str]:
    """What a reader knows after these groups: a number that comes again replaces its line."""
    for first, texts in groups:
        lines.update(enumerate(texts, first))
    return lines


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("a\nb\n", ["a", "b"]),
        ("a\n\nb", ["a", "", "b"]),
        ("a\r\nb\r\n", ["a", "b"]),
        ("a\tb \n", ["a\tb "]),
        ("hello world\rabc", ["abclo world"]),
        ("10%\r100%", ["100%"]),
        ("100%\r99% \r", ["99%"]),
        ("abc\b\bX", ["aXc"]),
        ("a\b\b\bX", ["X"]),
        ("spin -\b\\\b|\n", ["spin |"]),
        ("abc\x1b[2DX", ["aXc"]),
        ("abc\x1b[99DX", ["Xbc"]),
        ("a\x1b[3CX", ["a   X"]),
        ("abcdef\x1b[3GX", ["abXdef"]),
        ("abcdef\x1b[GX", ["Xbcdef"]),
        ("abcdef\r\x1b[3C\x1b[K", ["abc"]),
        ("abcdef\r\x1b[3C\x1b[0K", ["abc"]),
        ("abcdef\r\x1b[2C\x1b[1K", ["   def"]),
        ("abcdef\x1b[2KX", ["      X"]),
        ("abcdef\r\x1b[2KX", ["X"]),
        ("a\nb\nc\x1b[2AX", ["aX", "b", "c"]),
        ("a\nb\nc\x1b[2FX", ["X", "b", "c"]),
        ("a\nb\nc\x1b[2A\x1b[1BX", ["a", "bX", "c"]),
        ("a\nb\nc\x1b[2A\x1b[EX", ["a", "X", "c"]),
        ("a\nb\x1b[7BX", ["a", "bX"]),
        ("a\nb\x1b[99AX", ["aX", "b"]),
        ("ab\ncd\nef\x1b[2A\r\x1b[JX", ["X", ""]),
        ("old\nframe\x1b[2J\x1b[Hnew", ["old", "frame", "new"]),
        ("old\n\x1b[H\x1b[3Jnew", ["old", "new"]),
        ("old\x1b[1J\x1b[7K", ["old"]),
        ("\x1b[1;31mred\x1b[0m \x1b[38;2;1;2;3mx\x1b[m\n", ["red x"]),
        ("\x1b[?25lhidden cursor\x1b[?25h\n", ["hidden cursor"]),
        ("\x1b]0;title\x07a\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\\n", ["alink"]),
        ("\x1bPq#0;2;0\x1b\\after\n", ["after"]),
        ("\x1b(Ba\x1b7b\x1b8c\x1b=d\n", ["abcd"]),
        ("\x1b]0;never ended\nnext\n", ["", "next"]),
        ("\x1b[12\nnext\n", ["", "next"]),
        ("a\x1b\x1b[31mb\n", ["ab"]),
        ("a\x1b[9999999999999999999999Db", ["b"]),
        ("naïve 🙂 日本\n", ["naïve 🙂 日本"]),
        ("e\u0301\n", ["e\u0301"]),
        ("bad \udc80 \ud83d\n", ["bad \\udc80 \\ud83d"]),
        ("bell\x07 nul\x00 feed\x0c\n", ["bell\x07 nul\x00 feed\x0c"]),
    ],
)
def test_lines_are_those_a_terminal_would_show(text: str, lines: list[str]) -> None:
    """Control characters have done their work and are gone; everything else is kept as it is."""
    assert seen(text) == lines


@pytest.mark.parametrize(
    "text",
    [
        "a\x1b[1;31mred\x1b[0m\n",
        "10%\x1b[1K\r\x1b[2Kdone\r\nnext",
        "\x1b]8;;http://example.org\x1b\\link\x1b]8;;\x07 end\n",
        "one\ntwo\x1b[1A\rONE\n\x1b(B\x1b[?25h",
    ],
)
def test_a_sequence_may_be_split_anywhere(text: str) -> None:
    """Written in two pieces, or character by character, the same lines result."""
    whole = seen(text)
    assert seen(*text) == whole
    assert all(seen(text[:cut], text[cut:]) == whole for cut in range(len(text)))


def test_an_unfinished_sequence_is_not_text() -> None:
    """What follows an escape character is not shown before it is known what it means."""
    screen = Screen()
    screen.feed("a\x1b[3")
    assert screen.take(partial=True) == [(0, ["a"])]
    screen.feed("1mb\n")
    assert screen.take() == [(0, ["ab"])]


def test_a_huge_escape_sequence_is_not_remembered() -> None:
    """Megabytes of an inline image in pieces leave nothing behind; text after it is seen."""
    pieces = ["\x1b]1337;File=:", *["QUJD" * 25_000] * 20, "\x07after\n"]
    assert seen(*pieces) == ["after"]
    assert seen("\x1b[" + "1" * 100_000, "2Aafter\n") == ["2Aafter"]


def test_take_gives_complete_lines_once() -> None:
    """A complete line is given once, and the unfinished one only when asked for."""
    screen = Screen()
    screen.feed("a\nb\nc")
    assert (screen.fresh, screen.waiting) == (True, True)
    assert screen.take() == [(0, ["a", "b"])]
    assert screen.take() == []
    assert (screen.fresh, screen.waiting) == (False, True)
    assert screen.take(partial=True) == [(2, ["c"])]
    assert (screen.fresh, screen.waiting) == (False, False)
    assert screen.take(partial=True) == []


def test_an_unfinished_line_is_given_again_only_if_it_changed() -> None:
    """Ended unchanged it is not repeated, continued it is; a line emptied again is given empty."""
    screen = Screen()
    screen.feed("a")
    assert screen.take(partial=True) == [(0, ["a"])]
    screen.feed("\n")
    assert screen.take(partial=True) == []
    screen.feed("b")
    assert screen.take(partial=True) == [(1, ["b"])]
    screen.feed("c\n")
    assert screen.take(partial=True) == [(1, ["bc"])]
    screen.feed("d")
    assert screen.take(partial=True) == [(2, ["d"])]
    screen.feed("\r" + CLEAR)
    assert screen.take(partial=True) == [(2, [""])]
    screen.feed("\n")
    assert screen.take() == []
    screen.feed("\n")
    assert screen.take() == [(3, [""])]


def test_a_line_redrawn_as_it_was_is_not_given_again() -> None:
    """A display that draws itself anew gives only the lines that look different."""
    screen = Screen()
    screen.feed("a 1\nb 1\n")
    screen.take()
    screen.feed(f"{UP}{CLEAR}{UP}{CLEAR}a 1\nb 2\n")
    assert not screen.fresh
    assert screen.waiting
    assert screen.take() == [(1, ["b 2"])]


def test_neighbouring_lines_come_in_one_group() -> None:
    """Changed lines that follow upon one another are one group, others a group of their own."""
    screen = Screen()
    screen.feed("0\n1\n2\n3\n")
    screen.take()
    screen.feed("\x1b[4AX\n\x1b[2BY\nZ\n")
    assert screen.take() == [(0, ["X"]), (3, ["Y", "Z"])]


def test_nested_bars_change_their_own_lines() -> None:
    """The sequence by which tqdm draws a bar one line below keeps two bars on two lines."""
    screen = Screen()
    lines: dict[int, str] = {}
    for outer in range(3):
        screen.feed(f"\router {outer}")
        for inner in range(3):
            screen.feed("\n")
            screen.feed(f"\rinner {inner}")
            screen.feed(UP)
            replay(lines, screen.take())
    screen.feed("\n\r       \r")
    screen.feed("done\n")
    assert replay(lines, screen.take(partial=True)) == {0: "outer 2", 1: "done"}


def test_the_cursor_goes_up_a_hundred_lines_and_no_further() -> None:
    """A line further above than that is final."""
    screen = Screen()
    screen.feed("".join(f"{n}\n" for n in range(1000)))
    assert screen.take()[0][0] == 0
    screen.feed("\x1b[5000Anew")
    assert screen.take() == [(1000 - HISTORY, ["new"])]


def test_a_line_without_end_is_kept_up_to_its_limit() -> None:
    """A hundred million characters without a newline take little memory, and are counted."""
    piece = "x" * 1_000_000
    screen = Screen()
    tracemalloc.start()
    for _ in range(100):
        screen.feed(piece)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    note = f" … [{100_000_000 - LIMIT} characters left out]"
    assert screen.take(partial=True) == [(0, ["x" * LIMIT + note])]
    assert peak < 8_000_000
    screen.feed("\nnext\n")
    assert screen.take() == [(1, ["next"])]


def test_a_long_line_among_others_is_cut_alone() -> None:
    """In one write, at any place, and each with its own count."""
    long = "y" * (LIMIT + 5)
    cut = "y" * LIMIT + " … [5 characters left out]"
    assert seen(f"{long}\na\n{long}\nb\n{long}") == [cut, "a", cut, "b", cut]
    assert seen("a\n", f"{long}\nb\n") == ["a", cut, "b"]


def test_a_long_line_that_is_erased_is_short_again() -> None:
    """What was left out of it goes with the rest; overwriting its beginning does not shorten it."""
    long = "y" * (LIMIT + 5)
    assert seen(long, f"\r{CLEAR}a") == ["a"]
    assert seen(long, "\r\x1b[3C\x1b[K") == ["yyy"]
    assert seen(long, "\rabc") == ["abc" + "y" * (LIMIT - 3) + " … [5 characters left out]"]
    assert seen(long, "z\n") == ["y" * LIMIT + " … [6 characters left out]"]


def test_counts_of_forgotten_lines_are_forgotten() -> None:
    """A program that writes nothing but overlong lines does not make the screen grow."""
    screen = Screen()
    for _ in range(3 * HISTORY):
        screen.write("y" * (LIMIT + 1) + "\n")
    assert len(screen._left_out) <= 2 * HISTORY + 1
    assert len(screen._rows) <= 2 * HISTORY + 1


def test_plain_lines_are_forgotten_too() -> None:
    """A program that writes whole lines one by one does not make the screen grow."""
    screen = Screen()
    for number in range(10 * HISTORY):
        assert screen.write(f"{number}\n") == [(number, [f"{number}"])]
        assert len(screen._rows) <= 2 * HISTORY + 1
    screen.feed("\x1b[3Anew")
    assert screen.take() == [(10 * HISTORY - 3, ["new"])]


TEXTS = ["a", "bc", " ", "é", "\n", "x\n", "p q\nr\n", "\r", "\b", "\r\n"]
SEQUENCES = ["[A", "[2B", "[C", "[2D", "[4G", "[K", "[1K", "[2K", "[J", "[31m", "]0;t\x07"]
BROKEN = ["\x1b", "[", "\x1b[3", "\udc80"]
WHOLE = [*TEXTS, *(f"\x1b{sequence}" for sequence in SEQUENCES)]


@given(st.lists(st.sampled_from([*WHOLE, *BROKEN]), max_size=30))
def test_what_is_given_in_between_adds_up_to_the_same_lines(pieces: list[str]) -> None:
    """A reader who follows every change ends up with what one look at the end would show."""
    whole, quick, slow = Screen(), Screen(), Screen()
    followed: dict[int, str] = {}
    taken: dict[int, str] = {}
    for number, piece in enumerate(pieces):
        whole.feed(piece)
        replay(followed, quick.write(piece))
        slow.feed(piece)
        replay(taken, slow.take(partial=number % 3 == 0))
    expected = replay({}, whole.take(partial=True))
    last = max([*expected, -1]) + 1  # an unfinished line, given and then emptied again
    for lines in (
        replay(followed, quick.take(partial=True)),
        replay(taken, slow.take(partial=True)),
    ):
        assert lines in (expected, {**expected, last: ""})


@given(st.lists(st.sampled_from(WHOLE), max_size=30))
def test_a_plain_grid_of_cells_shows_the_same(pieces: list[str]) -> None:
    """Against a model that moves a cursor over a grid cell by cell, blanks at the end aside."""
    shown = [line.rstrip(" ") for line in seen("".join(pieces))]
    expected = Grid().play(pieces)
    if expected[-1] == "" and len(shown) == len(expected) - 1:
        expected.pop()
    assert shown == expected


class Grid:
    """The simplest terminal: a dictionary of cells."""

    moves: ClassVar = {"\x1b[A": (-1, 0), "\x1b[2B": (2, 0), "\x1b[C": (0, 1), "\x1b[2D": (0, -2)}
    erased: ClassVar = {
        "\x1b[K": (False, True, False),
        "\x1b[1K": (True, False, False),
        "\x1b[2K": (True, True, False),
        "\x1b[J": (False, True, True),
    }

    def __init__(self) -> None:
        self.cells: dict[tuple[int, int], str] = {}
        self.row = self.col = self.bottom = 0

    def play(self, pieces: list[str]) -> list[str]:
        """The lines after all pieces, without blanks at their ends."""
        for piece in pieces:
            if piece in self.moves:
                down, right = self.moves[piece]
                self.row = min(max(self.row + down, 0), self.bottom)
                self.col = max(self.col + right, 0)
            elif piece in self.erased:
                self.erase(*self.erased[piece])
            elif piece == "\x1b[4G":
                self.col = 3
            elif not piece.startswith("\x1b"):
                for char in piece:
                    self.put(char)
        width = max([col for _, col in self.cells], default=0) + 1
        return [
            "".join(self.cells.get((row, col), " ") for col in range(width)).rstrip(" ")
            for row in range(self.bottom + 1)
        ]

    def erase(self, left: bool, right: bool, below: bool) -> None:
        """Remove cells around the cursor."""
        for row, col in list(self.cells):
            here = (left and col <= self.col) or (right and col >= self.col)
            if (row == self.row and here) or (below and row > self.row):
                del self.cells[row, col]

    def put(self, char: str) -> None:
        """Do what one character does."""
        if char == "\n":
            self.row, self.col = self.row + 1, 0
            self.bottom = max(self.bottom, self.row)
        elif char == "\r":
            self.col = 0
        elif char == "\b":
            self.col = max(self.col - 1, 0)
        else:
            self.cells[self.row, self.col] = char
            self.col += 1
