"""What comes from a run never reaches the terminal as more than text."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.cli.conftest import BEGAN, Command, Recording

Record = Callable[..., Recording]

EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m[red]x[/red]\r\n\u202e:smile:"
SAFE = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def everywhere(record: Record) -> Recording:
    """A run that holds the same hostile text wherever a text can be."""
    run = record().named(EVIL, tags=[EVIL], notes=EVIL, group=EVIL, job_type=EVIL)
    run.assign("config", [[EVIL], EVIL], [["nested", EVIL], [EVIL]])
    run.assign("config", [[EVIL], "other"], after=5)
    run.assign("summary", [[EVIL], EVIL])
    run.define(EVIL, "minimize", "min")
    run.row(0, {EVIL: 1.0, "ok": 2.0}).row(0, {f"gpu.{EVIL}.power_watts": 1.0}, space="system")
    run.event("value", step=1, data={"text": EVIL, "list": [EVIL]})
    run.event("console", stream="out", first=0, lines=[EVIL, EVIL])
    run.event("trouble", place=EVIL, reason=EVIL, count=2, sentence=EVIL)
    run.event("masked", items=[{"where": EVIL, "rule": EVIL, "count": 1}])
    run.event("packages", items={EVIL: EVIL})
    tree: dict[str, Any] = {
        "commit": EVIL,
        "branch": EVIL,
        "remote": EVIL,
        "message": EVIL,
        "root": EVIL,
        "prefix": EVIL,
        "reason": EVIL,
        "dirty": True,
        "patch": {"omitted": EVIL, "files": 1, "insertions": 1, "deletions": 1},
        "untracked": [{"path": EVIL, "bytes": 1, "omitted": EVIL}],
    }
    run.event("git", found=True, **tree, submodules=[{"path": EVIL, **tree}])
    unknown: dict[str, Any] = {EVIL: EVIL}
    run.event(
        "environment",
        command=[EVIL],
        cwd=EVIL,
        host=EVIL,
        os={"name": EVIL, "distribution": EVIL},
        python={"version": EVIL, "environment": {"kind": EVIL, "path": EVIL}},
        cpu={"model": EVIL, "logical": 1, "usable": 2},
        memory={"total": EVIL, "limit": EVIL},
        container={"kind": EVIL, "image": EVIL},
        job={EVIL: {EVIL: EVIL}},
        variables={EVIL: EVIL},
        gpus=[{"index": EVIL, "name": EVIL, "memory_bytes": EVIL, "driver": EVIL}],
        **unknown,
    )
    exception = {"type": EVIL, "message": EVIL, "traceback": EVIL}
    return run.end(5, "failed", exit_code=1, exception=exception, refused={EVIL: 1})


@pytest.mark.parametrize(
    "arguments",
    [
        ["ls"],
        ["show", "abc12345"],
        ["show", "abc12345", "--metrics"],
        ["show", "abc12345", "--packages"],
        ["show", "abc12345", "--console"],
        ["show", "abc12345", "--requirements"],
        ["verify"],
        ["ls", "--json"],
        ["show", "abc12345", "--json"],
    ],
)
@pytest.mark.parametrize("width", [60, 160])
def test_control_characters_are_shown_and_not_sent(
    trackway: Command, record: Record, arguments: list[str], width: int
) -> None:
    """Escape sequences, returns and direction marks come out as visible text everywhere."""
    everywhere(record)
    output = trackway(*arguments, width=width)
    assert SAFE.findall(output) == []


@pytest.mark.parametrize("arguments", [["ls"], ["show", "abc12345"]])
def test_on_a_terminal_the_only_escape_sequences_are_our_colours(
    trackway: Command, record: Record, arguments: list[str]
) -> None:
    """With colours on, what is sent beside text are colours, and they stand where we put them."""
    everywhere(record)
    output = re.sub(r"\x1b\[[0-9;]*m", "", trackway.colours(*arguments))
    assert SAFE.findall(output) == []
    assert r"\x1b[2J" in output or arguments == ["ls"]


def test_markup_and_emoji_codes_are_text(trackway: Command, record: Record) -> None:
    """Square brackets and colons mean nothing: they are printed as they are."""
    record().named("[bold]x[/bold] [/] :smile:").config(a="[red]r[/red]").end()
    assert "[bold]x[/bold] [/] :smile:" in trackway("ls")
    page = trackway("show", "abc12345")
    assert page.startswith("[bold]x[/bold] [/] :smile:  finished")
    assert "[red]r[/red]" in page


@pytest.mark.parametrize(
    "arguments",
    [
        ["show", EVIL],
        ["ls", EVIL],
        ["ls", "--order", f"config.no{EVIL}"],
        ["verify", EVIL],
        ["export", "abc12345", "--keys", EVIL + "x"],
    ],
)
def test_errors_are_clean_too(trackway: Command, record: Record, arguments: list[str]) -> None:
    """An error that repeats what was asked for, or what there is, is one clean line."""
    everywhere(record)
    result = trackway.result(*arguments)
    assert result.exit_code in (1, 2)
    assert SAFE.findall(result.stderr) == []
    # What cannot be read as an expression is shown, with a mark below the place, and still clean.
    assert len(result.stderr.splitlines()) == (3 if "--order" in arguments else 1)


def test_a_run_that_cannot_be_restored_is_told_cleanly(
    trackway: Command, record: Record, tmp_path: Any
) -> None:
    """The paths of files that are not written are clean as well."""
    everywhere(record)
    result = trackway.result("show", "abc12345", "--untracked", str(tmp_path / "out"))
    assert result.exit_code == 1
    assert SAFE.findall(result.stderr) == []


def test_very_long_values_are_shortened(trackway: Command, record: Record) -> None:
    """A page stays short whatever a run holds; what was cut says how long it was."""
    text = "x" * 1_000_000
    run = record().named(text, notes=text, tags=[text], group=text)
    run.assign("config", [["a"], text], [[text], 1], [["l"], [1] * 100_000])
    run.assign("summary", [["s"], text])
    run.event("console", stream="out", first=0, lines=[text])
    run.event("value", step=0, data={"v": text})
    run.event("packages", items={"torch": "1"})
    run.event("environment", command=["x", text[:1000]], cwd=text)
    run.end()
    page = trackway("show", "abc12345")
    assert len(page) < 30_000
    assert "x… (1,000,000 characters)" in page
    assert len(trackway("ls")) < 2_000


def test_times_that_cannot_be(trackway: Command, record: Record) -> None:
    """A clock that was NaN or beyond the calendar is no error."""
    run = record(created=1e300)
    run.writer.event("config", {"set": [[["a"], 1]], "del": []}, math.nan)
    run.writer.row({"x": 1.0}, 0, time=math.inf)
    run.writer.event("end", {"state": "finished", "exit_code": 0, "exception": None}, math.inf)
    run.writer.close()
    assert "unknown" in trackway("ls")
    assert "unknown" in trackway("show", "abc12345")
    assert trackway("export", "abc12345") == "step,time,x\n0,inf,1.0\n"
    assert trackway.json("show", "abc12345")["ended"] == "Infinity"


def test_ten_thousand_metrics_in_a_list_and_on_a_page(trackway: Command, record: Record) -> None:
    """A list and a page of a run with ten thousand metrics stay short."""
    record().row(0, {f"layer.{n}/norm": float(n) for n in range(10_000)}).end()
    assert len(trackway("ls").splitlines()) == 2
    page = trackway("show", "abc12345")
    assert len(page.splitlines()) < 60
    assert "and 9,960 metrics more: --metrics shows all" in page


def test_wide_characters_keep_columns_in_line(trackway: Command, record: Record) -> None:
    """Names of double width are measured as a terminal draws them."""
    record("one00001", created=BEGAN + 1).named("実験").end()
    record("two00002").named("plain").end()
    _, first, second = trackway("ls").splitlines()
    assert first.index("one00001") + 2 == second.index("two00002")
