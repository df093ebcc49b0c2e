"""``trackway compare``: what tells runs apart, on the screen and for programs."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.cli.conftest import BEGAN, Command, Recording

Record = Callable[..., Recording]


def two(record: Record) -> None:
    """Two runs that differ in everything that is compared."""
    for place, name in enumerate(("first", "second")):
        run = record(f"{name}00", created=BEGAN + place).named(name)
        run.config(lr=0.1 / (place + 1), width=64, **({} if place else {"warmup": 5}))
        run.event("environment", host=f"node{place}", user="u")
        run.event("packages", items={"numpy": "2.0", "torch": f"2.{place}"})
        patch = None if place else {"blob": run.blobs.put(b"diff")}
        run.event("git", commit=str(place) * 40, branch="main", dirty=not place, patch=patch)
        run.row(0, {"loss": 0.123456 + place}).end()


def test_a_table_of_what_differs(trackway: Command, record: Record) -> None:
    """A section for each kind, a row a name, a column a run; what is the same is left out."""
    two(record)
    output = trackway("compare", "first", "second00")
    lines = [line.split() for line in output.splitlines() if line.strip()]
    assert ["Config", "2", "differences"] in lines
    assert ["lr", "0.1", "0.05"] in lines
    assert ["warmup", "5", "-"] in lines
    assert ["host", "node0", "node1"] in lines
    assert ["torch", "2.0", "2.1"] in lines
    assert ["dirty", "True", "False"] in lines
    assert ["loss", "0.1235", "1.123"] in lines
    assert lines.count(["first", "second"]) == 6
    assert next(line for line in lines if line[0] == "digest")[2] == "none"
    assert not any(word in output for word in ("width", "numpy", "user", "main"))
    starts = {line.index("first") for line in output.splitlines() if "first" in line}
    assert len(starts) == 1
    assert not any(line.endswith("  ") for line in output.splitlines())


def test_for_programs(trackway: Command, record: Record) -> None:
    """Values by run; what a run does not have is not there."""
    two(record)
    document = trackway.json("compare", "first", "second")
    one, other = "digits/first00", "digits/second00"
    assert document["runs"] == [{"run": one, "name": "first"}, {"run": other, "name": "second"}]
    assert document["differ"] is True
    assert document["config"] == {"lr": {one: 0.1, other: 0.05}, "warmup": {one: 5}}
    assert document["summary"] == {"loss": {one: 0.123456, other: 1.123456}}
    assert document["packages"] == {"torch": {one: "2.0", other: "2.1"}}
    assert document["same_config"] == {"width": 64}
    assert list(document["patch"]["digest"]) == [one, other]


def test_nothing_differs(trackway: Command, record: Record) -> None:
    """Runs that are alike are said to be so; with other results, to differ in these alone."""
    for place in range(3):
        run = record(f"run0000{place}", created=BEGAN + place).config(lr=0.1)
        run.row(0, {"loss": float(place // 2)}).end()
    told = "Nothing differs between these 2 runs; 1 configuration value the same.\n"
    assert trackway("compare", "run00000", "run00001") == told
    output = trackway("compare", "run00000", "run00002")
    assert output.splitlines()[-1] == "Nothing differs but the summary."


@pytest.mark.parametrize("width", [40, 80, 200])
def test_no_line_is_wider_than_the_screen(trackway: Command, record: Record, width: int) -> None:
    """Long values and names are cut, and runs without room are counted."""
    for place in range(6):
        run = record(f"run0000{place}", created=BEGAN + place).named(f"{place}" * 50)
        run.assign("config", [["text"], f"{place}" * 200], [["n" * 60], place]).end()
    output = trackway("compare", *(f"run0000{place}" for place in range(6)), width=width)
    assert max(map(len, output.splitlines())) <= width
    assert ("no room for" in output) is (width < 200)
    assert "…" in output


def test_names_that_are_alike_have_their_ids_beside(trackway: Command, record: Record) -> None:
    """Two runs of one name are told apart by their ids."""
    for place in range(2):
        run = record(f"run0000{place}", created=BEGAN + place).named("same")
        run.config(lr=place).end()
    titles = trackway("compare", "run00000", "run00001").splitlines()[2]
    assert titles.split() == ["run00000", "same", "run00001", "same"]


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["first"], 2, "compare needs two different runs or more"),
        (["first", "first00"], 2, "compare needs two different runs or more"),
        ([], 2, "Missing argument"),
        (["first", "secnd"], 1, "did you mean 'second'"),
        (["first", "digits"], 1, "it is a project"),
    ],
)
def test_misuse(
    trackway: Command, record: Record, arguments: list[str], code: int, sentence: str
) -> None:
    """One run, or one that is not there, is an error in one line."""
    two(record)
    result = trackway.result("compare", *arguments)
    assert result.exit_code == code
    assert sentence in result.stderr and "Traceback" not in result.output
