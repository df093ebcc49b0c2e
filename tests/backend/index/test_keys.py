"""Names: found by any part of them or by a pattern, ranked, in pages."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trackway.backend.index.keys import KeyNames, Names, glob_matches
from trackway.errors import ArgumentError

ALPHABET = "abA/._- ßÄä\0\n*€😀\ud800"
TEXTS = st.text(ALPHABET, max_size=6)


def rank(name: str, text: str) -> int:
    """The obvious way."""
    fold, wanted = name.casefold(), text.casefold()
    if fold == wanted:
        return 0 if wanted else 1
    if fold.startswith(wanted):
        return 1
    return 2 if any(mark + wanted in fold for mark in "/._- ") else 3


@settings(deadline=None, max_examples=200)
@given(st.lists(TEXTS, max_size=12), st.text(ALPHABET, max_size=3), st.integers(0, 5))
def test_search_is_the_obvious_one(names: list[str], text: str, offset: int) -> None:
    """All names that contain the text, case aside: by rank, then by name; a page of them."""
    found = [name for name in set(names) if text.casefold() in name.casefold()]
    found.sort(key=lambda name: (rank(name, text), name.casefold(), name))
    keys = KeyNames(names)
    assert keys.search(text, limit=None) == Names(found, len(found))
    assert keys.search(text, offset, 3) == Names(found[offset : offset + 3], len(found))


@settings(deadline=None, max_examples=200)
@given(st.lists(TEXTS, max_size=12), st.text(ALPHABET + "**", max_size=5), st.integers(0, 5))
def test_glob_is_the_obvious_one(names: list[str], pattern: str, offset: int) -> None:
    """All names that match, case and all, where ``*`` alone is special; a page of them."""
    expression = ".*".join(map(re.escape, pattern.split("*")))
    found = [name for name in set(names) if re.fullmatch(expression, name, re.DOTALL)]
    found.sort(key=lambda name: (name.casefold(), name))
    keys = KeyNames(names)
    assert keys.glob(pattern, limit=None) == Names(found, len(found))
    assert keys.glob(pattern, offset, 2) == Names(found[offset : offset + 2], len(found))
    assert [name for name in names if glob_matches(pattern, name)] == [
        name for name in names if name in found
    ]


def test_ranks() -> None:
    """The name itself, what begins with it, words that begin with it, the rest."""
    names = ["train/loss", "closs", "loss_total", "Loss", "val.loss", "x-loss", "a b", "loss"]
    assert KeyNames(names).search("LOSS").names == [
        "Loss", "loss", "loss_total", "train/loss", "val.loss", "x-loss", "closs",
    ]  # fmt: skip


def test_equal_names_count_once() -> None:
    """A name that is given twice is found once; no names are no trouble."""
    assert len(KeyNames(["a", "a", "A"])) == 2
    assert KeyNames([]).search("a") == Names([], 0)
    assert KeyNames([]).search("") == Names([], 0)
    assert KeyNames([]).glob("*") == Names([], 0)


def test_a_hundred_thousand_names() -> None:
    """Among 100,000 names the page and the count are right, however common the text is."""
    names = [f"layer{number % 100}/block_{number // 100}/grad" for number in range(100_000)]
    keys = KeyNames(names)
    found = keys.search("block_7/", 0, 2)
    assert found == Names(["layer0/block_7/grad", "layer1/block_7/grad"], 100)
    assert keys.search("GRAD", 99_999, 10).names == ["layer99/block_999/grad"]
    assert keys.search("r").matched == 100_000
    assert keys.glob("layer5/*").matched == 1000
    assert keys.glob("*/block_12/*").matched == 100
    assert keys.search("nothing") == Names([], 0)


def test_a_pattern_with_many_stars_ends_soon() -> None:
    """Matching takes linear time: a hard pattern on a long name is no trouble."""
    assert not glob_matches("*a" * 2000 + "b", "a" * 5000)
    assert glob_matches("*a" * 2000, "a" * 5000)


def test_pages_have_no_negative_places() -> None:
    """A negative offset or limit is an error."""
    keys = KeyNames(["a"])
    for offset, limit in ((-1, 5), (0, -5)):
        for look in (keys.search, keys.glob):
            with pytest.raises(ArgumentError, match="0 or more"):
                look("a", offset, limit)
