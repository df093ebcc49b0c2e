"""The examples of the documentation, run as they stand."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

import trackway
from trackway.api import Api, FilterError

DOCS = Path(__file__).parents[2] / "docs"


def session(page: str) -> str:
    """The Python examples of a page, in order, as one session; empty lines for all else.

    The page calls errors by the names that users import; a traceback says where they are defined.
    """
    kept, within = [], False
    for line in (DOCS / page).read_text(encoding="utf-8").splitlines():
        within = line == "```python" if line.startswith("```") else within
        line = re.sub(r"^(\w+Error)(?=: )", lambda found: defined(found[1]), line)
        kept.append(line if within and not line.startswith("```") else "")
    return "\n".join(kept) + "\n"


def defined(name: str) -> str:
    """Where an error is defined, with its name."""
    error = FilterError if name == "FilterError" else getattr(trackway, name)
    return f"{error.__module__}.{name}"


@pytest.mark.usefixtures("sweep")
@pytest.mark.parametrize("page", ["api.md", "export.md"])
def test_examples_print_what_the_page_says(
    page: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each example of the page does what it says, one after another, in the root of the sweep."""
    monkeypatch.chdir(root.parent)
    names = {"api": Api(root)} if page != "api.md" else {}
    test = doctest.DocTestParser().get_doctest(session(page), names, page, str(DOCS / page), 0)
    told: list[str] = []
    runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.REPORT_NDIFF)
    failed, tried = runner.run(test, out=told.append)
    assert failed == 0, "".join(told)
    assert tried >= {"api.md": 90, "export.md": 5}[page]


@pytest.mark.parametrize("page", ["api.md", "export.md", "filter.md", "README.md"])
def test_links_lead_somewhere(page: str) -> None:
    """Every relative link of the page is a file that exists."""
    text = (DOCS / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", text):
        assert (DOCS / target).exists(), target
