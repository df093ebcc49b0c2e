"""The section "Repeat it": its commands, in a real shell, bring the very tree back."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

import trackway as tw
from tests.cli.conftest import Command, Recording
from trackway.core._redact import Redactor
from trackway.core.companion._git import capture_git

Record = Callable[..., Recording]

COMMIT = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
HOME = str(Path(tw.__file__).parents[1])
STATE: Mapping[str, Any] = {
    "found": True,
    "reason": None,
    "commit": COMMIT,
    "branch": "main",
    "detached": False,
    "message": "Begin",
    "remote": "https://example.org/a/digits.git",
    "dirty": False,
    "patch": None,
    "untracked": [],
    "untracked_left_out": 0,
    "submodules": [],
    "root": "digits",
    "prefix": "",
    "bare": False,
    "shallow": False,
}


def commands(trackway: Command, *, comments: bool = True) -> list[str]:
    """The lines of the section."""
    lines: list[str] = trackway.json("show", "abc12345")["repeat"]
    page = trackway("show", "abc12345")
    assert page.endswith("Repeat it\n" + "".join(f"  {line}\n" for line in lines))
    return [line for line in lines if comments or not line.startswith("#")]


def with_git(record: Record, **changes: object) -> Recording:
    """A run with a state of its code."""
    return record().event("git", **{**STATE, **changes})


# -- what the commands are -------------------------------------------------------------------------


def test_what_was_not_captured_is_said(trackway: Command, record: Record) -> None:
    """A run that captured nothing says so of each thing, and invents none."""
    record().end()
    assert commands(trackway) == [
        "# code: not captured",
        "# Python version not captured",
        "# packages: not captured",
        "# command line: not captured",
    ]


def test_a_run_that_just_began_may_not_have_captured_it_yet(
    trackway: Command, record: Record, alive: dict[str, Any]
) -> None:
    """Of a running run the code is not captured yet."""
    record(**alive)
    assert commands(trackway)[0] == "# code: not captured yet"


def test_a_clean_commit(trackway: Command, record: Record) -> None:
    """Clone, check out, Python, packages, folder and command line, in this order."""
    run = with_git(record, prefix="experiments/one")
    run.event(
        "environment",
        command=["python", "train.py", "--name", "a b"],
        python={"version": "3.11.7"},
        host="vm",
    )
    run.event("packages", items={"torch": "2.13.0"}).end()
    show = f"trackway --dir {trackway.root} show digits/abc12345"
    assert commands(trackway) == [
        "git clone https://example.org/a/digits.git digits && cd digits",
        f"git checkout {COMMIT}",
        "# Python 3.11.7",
        f"{show} --requirements > abc12345-requirements.txt",
        "python3.11 -m venv .venv && . .venv/bin/activate"
        " && pip install -r abc12345-requirements.txt",
        "cd experiments/one",
        "python train.py --name 'a b'",
    ]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"found": False, "reason": "not in a git repository"},
            ["# code: not captured, not in a git repository"],
        ),
        (
            {"remote": None},
            [
                "# the repository had no remote: go to where it is (digits on somewhere)",
                f"git worktree add --detach ../digits-abc12345 {COMMIT} && cd ../digits-abc12345",
            ],
        ),
        (
            {"commit": None},
            ["# there was no commit yet", "git init digits && cd digits"],
        ),
        (
            {"commit": "$(reboot)"},
            ["# there was no commit yet", "git init digits && cd digits"],
        ),
        (
            {"remote": "--upload-pack=evil", "root": "-x"},
            ["git clone -- --upload-pack=evil ./-x && cd ./-x", f"git checkout {COMMIT}"],
        ),
        (
            {"remote": "https://h/$(reboot)\n;x", "root": "../../a b"},
            ["git clone $'https://h/$(reboot)\\x0a;x' 'a b' && cd 'a b'", f"git checkout {COMMIT}"],
        ),
        (
            {"patch": {"omitted": "larger than 5 bytes", "bytes": 9}, "dirty": True},
            [
                "git clone https://example.org/a/digits.git digits && cd digits",
                f"git checkout {COMMIT}",
                "# the patch was not stored: larger than 5 bytes",
            ],
        ),
        (
            {"reason": "git diff did not finish in 30 s"},
            [
                "git clone https://example.org/a/digits.git digits && cd digits",
                f"git checkout {COMMIT}",
                "# not captured: git diff did not finish in 30 s",
            ],
        ),
    ],
)
def test_states_of_the_code(
    trackway: Command, record: Record, changes: dict[str, Any], expected: list[str]
) -> None:
    """Each state of a repository has its commands, and nothing of it can leave its quotes."""
    with_git(record, **changes).end()
    assert commands(trackway)[: len(expected)] == expected
    assert commands(trackway)[len(expected)] == "# Python version not captured"


def test_uncommitted_work(trackway: Command, record: Record) -> None:
    """The patch is applied and stored files are written; what was not stored is named."""
    run = record()
    patch = {"blob": run.blobs.put(b"diff"), "masked": True, "applies": True}
    files = [
        {"path": "a.py", "mode": "100644", "blob": run.blobs.put(b"a"), "omitted": None},
        {"path": "b.bin", "mode": "100644", "blob": None, "omitted": "binary"},
        {"path": "c.bin", "mode": "100644", "blob": None, "omitted": "binary"},
    ]
    state = {**STATE, "dirty": True, "patch": patch, "untracked": files, "untracked_left_out": 7}
    run.event("git", **state).end()
    show = f"trackway --dir {trackway.root} show digits/abc12345"
    assert commands(trackway)[2:6] == [
        f"{show} --patch | git apply --binary --whitespace=nowarn",
        "# secrets in the patch were masked: put yours in place of [masked]",
        f"{show} --untracked .",
        "# 9 untracked files were not stored: b.bin, c.bin, …",
    ]


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        (
            {"command": ["./run", "--key", "[masked]"]},
            [
                "# secrets in it were masked: put yours in place of [masked]",
                "./run --key '[masked]'",
            ],
        ),
        (
            {"command": ["python", "/home/me/t.py"], "host": "gpu7"},
            [
                "# the paths in it are those of gpu7",
                "python /home/me/t.py",
            ],
        ),
        (
            {"command": ["python", "t.py"], "argv_truncated": True},
            [
                "# the command line was too long to be kept whole; this is its beginning",
                "python t.py",
            ],
        ),
        ({"command": ["x", "\x1b]0;evil\x07"]}, ["x $'\\x1b]0;evil\\x07'"]),
        ({"command": []}, ["# command line: not captured"]),
    ],
)
def test_command_lines(
    trackway: Command, record: Record, environment: dict[str, Any], expected: list[str]
) -> None:
    """What is not as it was in the command line is said before it."""
    record().event("environment", **environment).end()
    assert commands(trackway)[3:] == expected


@pytest.mark.parametrize(
    ("script", "cwd", "prefix", "expected"),
    [
        ("~/work/digits/src/train.py", "~/work/digits", "src", []),
        ("~/work/digits/src/train.py", "~/work/digits/src", "src", ["cd src"]),
        ("~/work/digits/src/train.py", "~/work/digits/a b/c", "src", ["cd 'a b/c'"]),
        ("~/work/digits/train.py", "~/work/digits/-x", "", ["cd ./-x"]),
        (
            "~/work/digits/train.py",
            "~/elsewhere",
            "",
            ["# it was started outside of the repository, in ~/elsewhere"],
        ),
        ("/usr/bin/torchrun", "~/work/digits/src", "src", ["cd src"]),
        ("/opt/link/train.py", "/data", "src", ["# it was started in /data"]),
        ("~/digits/train.py", None, "", ["# the folder it was started in: not captured"]),
        (None, "~/work/digits/src", "src", ["cd src"]),
    ],
)
def test_the_folder_it_was_started_in(
    trackway: Command,
    record: Record,
    script: str | None,
    cwd: str | None,
    prefix: str,
    expected: list[str],
) -> None:
    """The folder is told from the repository on, whether that was found from script or folder."""
    run = with_git(record, prefix=prefix)
    run.event("environment", command=["python", "t.py"], script=script, cwd=cwd).end()
    assert commands(trackway)[4:] == [*expected, "python t.py"]


def test_requirements_are_what_pip_reads(trackway: Command, record: Record) -> None:
    """Versions of an index are pinned; what is none is a comment, whatever it holds."""
    items = {
        "torch": "2.13.0+cpu",
        "Zeta_pkg": "1!2.0rc1",
        "mine": "0.1.0 (editable)",
        "forked": "1.0 (git 0123456789ab)",
        "evil": "1.0\n--index-url http://x",
        "a; b": "1",
    }
    record().event("packages", items=items).end()
    assert trackway("show", "abc12345", "--requirements").splitlines() == [
        "# a; b 1",
        r"# evil 1.0\n--index-url http://x",
        "# forked 1.0 (git 0123456789ab)",
        "# mine 0.1.0 (editable)",
        "torch==2.13.0+cpu",
        "Zeta_pkg==1!2.0rc1",
    ]


# -- what the commands do --------------------------------------------------------------------------


def git(folder: Path, *arguments: str) -> str:
    """Run git there, with an identity of its own."""
    options = ["-c", "user.name=Dev", "-c", "user.email=dev@example.org"]
    options += ["-c", "protocol.file.allow=always"]
    done = subprocess.run(
        ["git", *options, *arguments], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def tree(folder: Path) -> dict[str, object]:
    """Every file below the folder: its bytes and whether it may be run, or where it leads."""
    return {
        str(path.relative_to(folder)): str(path.readlink())
        if path.is_symlink()
        else (path.read_bytes(), bool(path.stat().st_mode & stat.S_IXUSR))
        for path in folder.rglob("*")
        if (path.is_file() or path.is_symlink()) and ".git" not in path.parts
    }


def test_the_commands_bring_the_tree_back(
    trackway: Command, record: Record, tmp_path: Path
) -> None:
    """Staged, changed, deleted and untracked files, links, modes and a submodule are as before."""
    library, work = tmp_path / "library", tmp_path / "it's work"
    for folder in (library, work):
        folder.mkdir()
        git(folder, "init", "-q", "-b", "main")
    (library / "lib.py").write_text("one\n")
    git(library, "add", ".")
    git(library, "commit", "-q", "-m", "library")
    (work / "train.py").write_text("committed\n")
    (work / "gone.py").write_text("gone\n")
    (work / "data.bin").write_bytes(bytes(range(256)))
    git(work, "submodule", "--quiet", "add", str(library), "inner/lib")
    git(work, "add", ".")
    git(work, "commit", "-q", "-m", "work")
    git(tmp_path, "clone", "-q", "--bare", str(work), "remote.git")
    git(work, "remote", "add", "origin", str(tmp_path / "remote.git"))
    (work / "train.py").write_text("staged\n")
    git(work, "add", "train.py")
    (work / "train.py").write_text("changed   \n\n")
    (work / "gone.py").unlink()
    (work / "data.bin").write_bytes(bytes(range(255, -1, -1)))
    (work / "new dir").mkdir()
    (work / "new dir" / "run.sh").write_text("#!/bin/sh\n")
    (work / "new dir" / "run.sh").chmod(0o755)
    (work / "new dir" / "link").symlink_to("run.sh")
    (work / "Küche 'x'.py").write_text("é\n")
    (Path(os.fsdecode(bytes(work) + b"/\xff.py"))).write_text("bytes\n")
    (work / "inner" / "lib" / "lib.py").write_text("two\n")
    (work / "inner" / "lib" / "new.py").write_text("new\n")
    run = record()
    state: Any = capture_git(
        work / "new dir",
        fallback=None,
        blobs=run.blobs,
        redactor=Redactor(),
        patch_limit_bytes=1 << 20,
        untracked_limit_bytes=1 << 20,
        exclude=None,
    )
    run.event("git", **state).event("environment", command=["pwd"]).end()

    script = tmp_path / "bin" / "trackway"
    script.parent.mkdir()
    call = "from trackway.cli import main; main()"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{call}" "$@"\n')
    script.chmod(0o755)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    lines = commands(trackway, comments=False)
    done = subprocess.run(
        ["bash", "-euc", "\n".join(lines)],
        cwd=elsewhere,
        env={
            **os.environ,
            "PATH": f"{script.parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": HOME,
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "protocol.file.allow",
            "GIT_CONFIG_VALUE_0": "always",
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, (lines, done.stderr)
    assert done.stdout.splitlines()[-1] == str(elsewhere / "it's work" / "new dir")
    assert tree(elsewhere / "it's work") == tree(work)


def restored(record: Record, *entries: dict[str, Any]) -> None:
    """A run that stored these untracked files, each with the bytes ``data``."""
    run = record()
    files = []
    for entry in entries:
        data = entry.pop("data", b"text\n")
        files.append({"mode": "100644", "blob": run.blobs.put(data), "omitted": None, **entry})
    run.event("git", **{**STATE, "untracked": files}).end()


def test_untracked_files_are_written_and_never_over_another(
    trackway: Command, record: Record, tmp_path: Path
) -> None:
    """Files are written below the folder; one that is there stays, and is told if it differs."""
    restored(record, {"path": "a/b.py"}, {"path": "same.py"}, {"path": "other.py"})
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "same.py").write_text("text\n")
    (folder / "other.py").write_text("mine\n")
    result = trackway.result("show", "abc12345", "--untracked", str(folder))
    assert result.exit_code == 1
    assert result.stdout == f"2 files written into {folder}\n"
    assert result.stderr == "not written: other.py: there is another file in its place\n"
    assert (folder / "a" / "b.py").read_text() == "text\n"
    assert (folder / "other.py").read_text() == "mine\n"


@pytest.mark.parametrize(
    "path",
    ["../x", "a/../../x", "/etc/x", "", ".", "a\0b", ".git/hooks/pre-commit", "sub/.GIT/config"],
)
def test_no_file_is_written_outside_of_the_folder(
    trackway: Command, record: Record, tmp_path: Path, path: str
) -> None:
    """A path that leads out of the folder, or into git's own, is refused."""
    restored(record, {"path": path})
    before = {p for p in tmp_path.rglob("*") if p.is_file()}
    result = trackway.result("show", "abc12345", "--untracked", str(tmp_path / "out"))
    assert result.exit_code == 1
    assert "not written: " in result.stderr
    assert {p for p in tmp_path.rglob("*") if p.is_file()} == before


def test_no_file_is_written_through_a_link(
    trackway: Command, record: Record, tmp_path: Path
) -> None:
    """A stored link is not followed by what is written after it."""
    outside = tmp_path / "outside"
    outside.mkdir()
    restored(
        record,
        {"path": "door", "mode": "120000", "data": bytes(outside)},
        {"path": "door/x.py"},
    )
    result = trackway.result("show", "abc12345", "--untracked", str(tmp_path / "out"))
    assert result.exit_code == 1
    expected = "not written: door/x.py: its path leads through a symbolic link\n"
    assert result.stderr == expected
    assert list(outside.iterdir()) == []


def test_a_file_that_was_not_stored_or_is_damaged(
    trackway: Command, record: Record, tmp_path: Path
) -> None:
    """What cannot be written is told with the reason."""
    run = record()
    digest = run.blobs.put(b"text")
    run.blobs.path(digest).write_bytes(b"harm")
    files = [
        {"path": "big.bin", "mode": "100644", "blob": None, "omitted": "binary"},
        {"path": "bad.py", "mode": "100644", "blob": digest, "omitted": None},
    ]
    run.event("git", **{**STATE, "untracked": files}).end()
    result = trackway.result("show", "abc12345", "--untracked", str(tmp_path / "out"))
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        "not written: big.bin: it was not stored: binary",
        f"not written: bad.py: blob {digest} is damaged: its content has another digest",
    ]


def test_the_patch_is_printed_byte_for_byte(trackway: Command, record: Record) -> None:
    """--patch writes the stored bytes, whatever they are."""
    run = record()
    patch = b"diff --git a/x b/x\n+\xff\x00\x1b[31m\r\n"
    stored = {"blob": run.blobs.put(patch), "bytes": len(patch)}
    run.event("git", **{**STATE, "dirty": True, "patch": stored}).end()
    assert trackway.result("show", "abc12345", "--patch").stdout_bytes == patch


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, "there were no changes to files that git tracks"),
        ({"dirty": True, "patch": {"omitted": "larger than 5 bytes"}}, "larger than 5 bytes"),
        ({"dirty": None, "reason": "git diff failed"}, "git diff failed"),
    ],
)
def test_a_patch_that_is_not_there(
    trackway: Command, record: Record, changes: dict[str, Any], reason: str
) -> None:
    """Where there is no patch, the reason is told, exit code 1."""
    with_git(record, **changes).end()
    result = trackway.result("show", "abc12345", "--patch")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"Error: run abc12345 has no patch: {reason}\n"


def test_a_submodule_that_is_not_there(trackway: Command, record: Record) -> None:
    """An unknown submodule is told with those there are."""
    inner = {**STATE, "path": "deep", "registered": True}
    with_git(record, submodules=[{**inner, "path": "lib", "submodules": [inner]}]).end()
    result = trackway.result("show", "abc12345", "--patch", "--submodule", "x")
    assert result.exit_code == 1
    expected = "Error: run abc12345 had no submodule 'x'; it had: lib, lib/deep\n"
    assert result.stderr == expected


def test_modes_and_places_that_cannot_be(trackway: Command, record: Record, tmp_path: Path) -> None:
    """A mode may be a number, one that is none counts as ordinary, a file in the way is told."""
    restored(
        record,
        {"path": "number", "mode": 0o100755},
        {"path": "nonsense", "mode": "rwx"},
        {"path": "number/below"},
    )
    folder = tmp_path / "out"
    result = trackway.result("show", "abc12345", "--untracked", str(folder))
    assert result.exit_code == 1
    assert result.stderr == "not written: number/below: File exists\n"
    modes = {path.name: bool(path.stat().st_mode & stat.S_IXUSR) for path in folder.iterdir()}
    assert modes == {"number": True, "nonsense": False}


@pytest.mark.parametrize("option", [["--patch"], ["--untracked", "out"]])
def test_code_that_was_not_captured(trackway: Command, record: Record, option: list[str]) -> None:
    """Where nothing is known of the code, neither patch nor files can be had."""
    record().end()
    result = trackway.result("show", "abc12345", *option)
    assert result.exit_code == 1
    expected = "Error: the state of the code of run abc12345 was not captured\n"
    assert result.stderr == expected


def test_a_clone_that_lies_in_the_tree(trackway: Command, record: Record) -> None:
    """A repository inside of it that is no submodule is cloned, if that had a remote."""
    commit = "b" * 40
    inner = {"commit": commit, "registered": False, "reason": None, "submodules": []}
    trees = [
        {**inner, "path": "one", "remote": "https://example.org/one.git"},
        {**inner, "path": "two", "remote": None, "reason": "git diff failed"},
    ]
    with_git(record, submodules=trees).end()
    assert commands(trackway)[2:7] == [
        "git clone https://example.org/one.git one",
        f"git -C one checkout {commit}",
        "# two was a clone without a remote",
        f"git -C two checkout {commit}",
        "# two: git diff failed",
    ]
