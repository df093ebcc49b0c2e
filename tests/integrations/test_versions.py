"""One table of frameworks and versions, and everything that repeats it."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from trackway.integrations._versions import FRAMEWORKS, Framework

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

ROOT = Path(__file__).parents[2]

every = pytest.mark.parametrize("framework", FRAMEWORKS.values(), ids=list(FRAMEWORKS))


def key(version: str) -> tuple[int, ...]:
    """A version that can be compared; what is local to a build does not count."""
    return tuple(map(int, version.partition("+")[0].split(".")))


def extras() -> dict[str, list[str]]:
    """The optional dependencies."""
    project: Any = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    found: dict[str, list[str]] = project["project"]["optional-dependencies"]
    return found


def pins() -> dict[str, str]:
    """Distributions and the versions that the tests run with."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    found = (re.match(r"([\w.-]+)==([\w.+]+)", line) for line in lines)
    return {match[1]: match[2] for match in found if match}


def installed(framework: Framework) -> dict[str, str]:
    """Which of the framework's distributions are installed, with their versions."""
    found = {}
    for name in framework.distributions:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


@every
def test_extra(framework: Framework) -> None:
    """The extra of the framework's name asks for its lowest version."""
    wanted = f"{framework.distributions[0]}>={framework.lowest}"
    assert wanted in extras()[framework.name]


@every
def test_lowest_is_the_same_everywhere(framework: Framework) -> None:
    """Wherever else the distribution is asked for, it is from the same version or a later one."""
    for requirements in extras().values():
        for line in requirements:
            match = re.match(r"([\w-]+)>=([\d.]+)", line)
            if match and match[1] in framework.distributions:
                assert key(match[2]) >= key(framework.lowest), line


@every
def test_latest_is_what_the_tests_run_with(framework: Framework) -> None:
    """The newest version that was tried is the pinned one, and the lowest is not above it."""
    told = pins()
    assert {told[name] for name in framework.distributions} == {framework.latest}
    assert key(framework.lowest) <= key(framework.latest)


@every
def test_installed(framework: Framework) -> None:
    """What is installed is supported, and on a Python that has it, it is the pinned version."""
    found = installed(framework)
    if not found:
        pytest.skip(f"{framework.name} is not installed")
    for version in found.values():
        assert key(framework.lowest) <= key(version) <= key(framework.latest)


def test_readme() -> None:
    """The table for users has each framework once, in order, with its versions."""
    text = (ROOT / "docs" / "integrations" / "README.md").read_text(encoding="utf-8")
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("| [")
    ]
    assert [row[:3] for row in rows] == [
        [
            f"[{each.name}]({each.name}.md)",
            f"`pip install 'trackway[{each.name}]'`",
            f"{each.lowest} – {each.latest}",  # noqa: RUF001 - as it is printed
        ]
        for each in FRAMEWORKS.values()
    ]
    assert all(row[3] for row in rows)


@every
def test_each_has_all_that_belongs_to_it(framework: Framework) -> None:
    """Documentation with its headings, an example, tests, and what ``autolog`` calls."""
    name = framework.name
    page = (ROOT / "docs" / "integrations" / f"{name}.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (.+)$", page, re.MULTILINE)
    wanted = ["Install", "Ten lines", "What is logged, at which step", "Limits"]
    assert [heading for heading in headings if heading in wanted] == wanted
    assert f"trackway[{name}]" in page
    assert list((ROOT / "examples" / "integrations").glob(f"{name}_*.py"))
    assert list((ROOT / "tests" / "integrations" / name).glob("test_*.py"))
    folder = ROOT / "trackway" / "integrations" / name
    assert {"__init__.py", "_autolog.py", "_hooks.py"} <= {path.name for path in folder.iterdir()}


def test_every_folder_is_in_the_table() -> None:
    """There is no integration that the table does not know."""
    folders = (ROOT / "trackway" / "integrations").iterdir()
    found = {path.name for path in folders if (path / "_hooks.py").exists()}
    assert found == set(FRAMEWORKS)


def test_importing_loads_no_framework() -> None:
    """All integrations together import none, and each says what its public names are."""
    modules = sorted({module for each in FRAMEWORKS.values() for module in each.modules})
    code = f"""
import sys
from importlib import import_module
for name in {list(FRAMEWORKS)!r}:
    module = import_module("trackway.integrations." + name)
    assert module.__all__ and module.__all__ == sorted(module.__all__), name
    assert module.__doc__.count("\\n") > 5, name
    try:
        module.nothing
    except AttributeError as error:
        assert "nothing" in str(error)
    else:
        raise AssertionError(name)
import trackway
trackway.autolog()
loaded = sorted({{name.partition(".")[0] for name in sys.modules}} & set({modules!r}))
assert not loaded, loaded
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
