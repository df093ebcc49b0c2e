"""The command as a whole: help, errors, exit codes, pipes, and what it imports."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

import trackway as tw
from tests.cli.conftest import Command, Recording
from trackway.cli import cli

HOME = str(Path(tw.__file__).parents[1])
PROGRAM = "from trackway.cli import main; main()"


def process(*arguments: str, **more: str) -> subprocess.Popen[bytes]:
    """The command line in a process of its own."""
    paths = [HOME, *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), **more},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_names_every_command_and_gives_examples(option: str) -> None:
    """Help lists the four commands in the order a newcomer needs them, then examples."""
    result = CliRunner().invoke(cli, [option], prog_name="trackway")
    assert result.exit_code == 0
    listed = [line.split()[0] for line in result.stdout.splitlines() if line.startswith("  ")]
    places = [listed.index(name) for name in ("ls", "show", "export", "verify")]
    assert places == sorted(places)
    assert "trackway show brisk-otter-417" in result.stdout


@pytest.mark.parametrize("name", ["ls", "show", "export", "verify"])
def test_each_command_has_help_with_examples(name: str) -> None:
    """The help of each command has its options and examples of its use."""
    result = CliRunner().invoke(cli, [name, "--help"], prog_name="trackway")
    assert result.exit_code == 0
    assert f"Usage: trackway {name}" in result.stdout
    assert "--json" in result.stdout
    assert "--dir PATH" in result.stdout
    assert "Examples:" in result.stdout


def test_version() -> None:
    """--version tells the version of the package."""
    result = CliRunner().invoke(cli, ["--version"], prog_name="trackway")
    assert result.stdout == f"trackway {tw.__version__}\n"


def test_help_imports_neither_numpy_nor_rich() -> None:
    """Asking for help imports click and nothing that takes longer."""
    code = (
        "import sys\nfrom trackway.cli import cli\n"
        "try:\n cli(['--help'])\nexcept SystemExit:\n pass\n"
        "print({m.partition('.')[0] for m in sys.modules} & {'numpy', 'rich'})"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("COVERAGE")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**environment, "PYTHONPATH": HOME},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "set()"


def test_dir_stands_before_or_after_the_command(
    root: Path, record: Callable[..., Recording]
) -> None:
    """--dir means the same before and after the command's name; behind it, it wins."""
    record().named("one").end()
    before = CliRunner().invoke(cli, ["--dir", str(root), "ls", "--json"])
    after = CliRunner().invoke(cli, ["ls", "--dir", str(root), "--json"])
    both = CliRunner().invoke(cli, ["--dir", "/nowhere", "ls", "--dir", str(root), "--json"])
    assert before.exit_code == after.exit_code == both.exit_code == 0
    assert before.stdout == after.stdout == both.stdout


def test_the_folder_of_the_environment_is_read(
    root: Path, record: Callable[..., Recording], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without --dir, TRACKWAY_DIR says where the runs are."""
    record().named("one").end()
    monkeypatch.setenv("TRACKWAY_DIR", str(root))
    assert "one" in CliRunner().invoke(cli, ["ls"]).stdout


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["ls", "speech"], 1, "no project 'speech' in"),
        (["show", "nobody"], 1, "no run 'nobody' in"),
        (["export", "nobody", "--format", "csv"], 1, "no run 'nobody' in"),
        (["export", "abc12345", "--format", "csv", "--keys", "x"], 1, "has no metric 'x'"),
        (["verify", "nobody"], 1, "no run 'nobody' in"),
        (["ls", "--order", "speed"], 2, "cannot order by 'speed'"),
        (["ls", "--order", "summary.x"], 2, "no run has a value for 'summary.x'"),
        (["export", "abc12345", "--format", "xml"], 2, "'xml' is not one of 'csv', 'jsonl'"),
        (["show", "abc12345", "--patch", "--untracked", "x"], 2, "one at a time"),
        (["show", "abc12345", "--submodule", "x"], 2, "goes with --patch or --untracked"),
        (["show", "abc12345", "--patch", "--json"], 2, "--json goes with"),
        (["export", "abc12345", "--format", "csv", "--json"], 2, "give one"),
        (["fly"], 2, "No such command 'fly'"),
    ],
)
def test_an_error_is_one_line_on_stderr(
    trackway: Command,
    record: Callable[..., Recording],
    arguments: list[str],
    code: int,
    sentence: str,
) -> None:
    """What is not there gives exit code 1, misuse 2; both one clear line and no traceback."""
    record().row(0, {"loss": 1.0}).end()
    result = trackway.result(*arguments)
    assert result.exit_code == code
    assert result.stdout == ""
    last = result.stderr.splitlines()[-1]
    assert last.startswith("Error: ")
    assert sentence in last
    assert "Traceback" not in result.stderr


def test_a_folder_that_is_not_there(trackway: Command) -> None:
    """A missing folder is told with the ways to name another one, exit code 1."""
    result = trackway.result("ls")
    assert result.exit_code == 1
    expected = f"Error: there is no folder {trackway.root}; pass --dir (dir=) or set TRACKWAY_DIR\n"
    assert result.stderr == expected


def test_a_reader_that_goes_away_is_no_error(root: Path, record: Callable[..., Recording]) -> None:
    """``trackway export … | head -1`` ends without a word on stderr."""
    run = record()
    for step in range(20_000):
        run.row(step, {"loss": step / 3})
    run.end()
    command = process("--dir", str(root), "export", "abc12345", "--format", "csv")
    assert command.stdout is not None
    assert command.stderr is not None
    assert command.stdout.readline() == b"step,time,loss\n"
    command.stdout.close()
    assert command.stderr.read() == b""
    command.stderr.close()
    command.wait(30)


def test_a_reader_that_is_gone_before_the_end_is_no_error(
    root: Path, record: Callable[..., Recording]
) -> None:
    """Also where all output is still buffered when the reader has gone."""
    record().named("one").end()
    for arguments in (["ls"], ["ls", "--json"], ["show", "abc12345"], ["verify"], ["--help"]):
        command = process("--dir", str(root), *arguments)
        assert command.stdout is not None
        assert command.stderr is not None
        command.stdout.close()
        assert command.stderr.read() == b"", arguments
        command.stderr.close()
        command.wait(30)


def test_no_colours_in_a_pipe_and_colours_where_they_are_forced(
    root: Path, record: Callable[..., Recording]
) -> None:
    """Piped output holds no escape sequence, unless FORCE_COLOR asks for them."""
    record().named("one").row(0, {"loss": 1.0}).end()
    plain, _ = process("--dir", str(root), "ls").communicate()
    forced, _ = process("--dir", str(root), "ls", FORCE_COLOR="1", TERM="xterm").communicate()
    assert b"\x1b" not in plain
    assert b"\x1b[32mfinished" in forced


def test_an_encoding_without_our_signs_is_no_error(
    root: Path, record: Callable[..., Recording]
) -> None:
    """Where the output's encoding lacks a character, it is escaped."""
    record().named("Küche 🍳").rows("loss", [1, 2, 3]).end()
    command = process("--dir", str(root), "show", "abc12345", PYTHONIOENCODING="ascii")
    out, err = command.communicate()
    assert (command.returncode, err) == (0, b"")
    assert rb"K\xfcche \U0001f373" in out


def test_a_folder_that_cannot_be_read_is_told(
    trackway: Command, root: Path, record: Callable[..., Recording]
) -> None:
    """An error of the file system is one line with the reason and the place."""
    record().end()
    (root / "digits" / "abc12345" / "x.log").mkdir()
    result = trackway.result("show", "abc12345")
    assert result.exit_code == 1
    place = root / "digits" / "abc12345" / "x.log"
    assert result.stderr == f"Error: Is a directory ({place})\n"
