"""The command as a whole: help, errors, exit codes, pipes, and what it imports."""

from __future__ import annotations

import contextlib
import os
import pty
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


def test_python_m_is_the_command() -> None:
    """``python -m trackway`` does what ``trackway`` does, under its name."""
    done = subprocess.run(
        [sys.executable, "-m", "trackway", "ls", "--no-such-option"],
        env={**os.environ, "PYTHONPATH": HOME},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Usage: trackway ls ")


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


def test_a_log_that_cannot_be_read_is_told(
    trackway: Command, record: Callable[..., Recording], refuse: Callable[[Path], None]
) -> None:
    """An error of the file system is one line with the reason and the place."""
    path = record().end().path
    refuse(path)
    result = trackway.result("show", "abc12345")
    assert result.exit_code == 1
    assert result.stderr == f"Error: Permission denied ({path})\n"


class Terminal:
    """A pseudo terminal that a process writes to."""

    def __init__(self) -> None:
        self._ours, self.theirs = pty.openpty()

    def drawn(self) -> bytes:
        """Everything that was written, once the process has ended."""
        os.close(self.theirs)
        drawn = b""
        with contextlib.suppress(OSError):  # what Linux says at the end
            while piece := os.read(self._ours, 1 << 16):
                drawn += piece
        os.close(self._ours)
        return drawn


def on_terminal(root: Path, *arguments: str, stdout: bool, before: str = "") -> tuple[bytes, bytes]:
    """(other output, what the terminal shows) with stdout, or stderr, on a terminal."""
    terminal = Terminal()
    paths = [HOME, *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, "-c", f"{before}\n{PROGRAM}", "--dir", str(root), *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "TERM": "xterm", "COLUMNS": "100"},
        stdin=subprocess.DEVNULL,
        stdout=terminal.theirs if stdout else subprocess.PIPE,
        stderr=subprocess.PIPE if stdout else terminal.theirs,
        check=True,
    )
    return (done.stderr if stdout else done.stdout), terminal.drawn()


IMPATIENT = "import trackway.cli._screen as screen; screen._PATIENCE_S = 0"


@pytest.mark.parametrize(
    ("arguments", "title"),
    [
        (["export", "abc12345"], b"Exporting"),
        (["verify"], b"Checking"),
        (["ls"], b"Reading new records"),
    ],
)
def test_a_bar_on_a_terminal(
    root: Path, record: Callable[..., Recording], arguments: list[str], title: bytes
) -> None:
    """Where stderr is a terminal, a bar shows there how far long work is, then goes away."""
    record().rows("loss", range(100)).end()
    output, drawn = on_terminal(root, *arguments, stdout=False, before=IMPATIENT)
    quiet, nothing = on_terminal(root, *arguments, stdout=False)
    assert title in drawn
    assert b"\x1b[2K" in drawn
    assert title not in output
    assert (quiet, nothing) == (output, b"")


def test_no_bar_where_the_lines_go_to_a_terminal(
    root: Path, record: Callable[..., Recording]
) -> None:
    """An export to the terminal itself is not torn apart by a bar."""
    record().row(0, {"a": 1.0}, after=0).end()
    err, drawn = on_terminal(root, "export", "abc12345", stdout=True, before=IMPATIENT)
    assert err == b""
    assert drawn == b"step,time,a\r\n0,1750000000.0,1.0\r\n"


def test_a_patch_on_a_terminal_is_shown_and_not_sent(
    root: Path, record: Callable[..., Recording]
) -> None:
    """On a terminal the patch's control characters are visible; tabs stay."""
    run = record()
    patch = {"blob": run.blobs.put(b"+a\tb\x1b[2J\xff\n+c\n")}
    run.event("git", found=True, commit="a" * 40, dirty=True, patch=patch).end()
    _, drawn = on_terminal(root, "show", "abc12345", "--patch", stdout=True)
    assert drawn.expandtabs() == b"+a      b\\x1b[2J\\xff\r\n+c\r\n"


def test_an_interrupt_ends_quietly(root: Path, record: Callable[..., Recording]) -> None:
    """Ctrl-C ends a command with one word and no traceback, and leaves no file behind."""
    run = record()
    for step in range(50_000):
        run.row(step, {"a": step / 3, "b": step / 7})
    run.end()
    target = root / "out.csv"
    before = (
        "import os, signal, trackway.api._export as e\n"
        "e._tell = lambda *a: os.kill(os.getpid(), signal.SIGINT)"
    )
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"{before}\n{PROGRAM}",
            "--dir",
            str(root),
            "export",
            "abc12345",
            "--output",
            str(target),
        ],
        env={**os.environ, "PYTHONPATH": HOME},
        capture_output=True,
    )
    assert done.returncode == 1
    assert done.stderr == b"\nAborted!\n"
    assert sorted(path.name for path in root.iterdir()) == ["digits"]
