"""The capture of git: what is stored is enough to build the working tree again."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from trackway.core._redact import Redactor
from trackway.core.companion._git import capture_git

SECRET = "ghp_" + "aB3x" * 9
Tree = dict[bytes, tuple[str, bytes]]


class Blobs:
    """A blob store in memory."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    def put(self, data: bytes) -> str:
        """Keep the bytes."""
        digest = hashlib.sha256(data).hexdigest()
        self.kept[digest] = data
        return digest

    def holds(self, needle: str) -> bool:
        """Whether the bytes of any blob contain the text."""
        return any(needle.encode() in data for data in self.kept.values())


class FullDisk:
    """A blob store without room."""

    def put(self, data: bytes) -> str:
        """Refuse the bytes."""
        raise OSError(28, "No space left on device")


def run(folder: Path, *arguments: str | bytes, **extra: str) -> bytes:
    """The output of a git command, which has to succeed."""
    identity = ("-c", "user.name=A", "-c", "user.email=a@example.com")
    command = ["git", *identity, "-c", "protocol.file.allow=always", *arguments]
    return subprocess.run(
        command, cwd=folder, check=True, capture_output=True, env={**os.environ, **extra}
    ).stdout


def repository(folder: Path, files: Mapping[str, bytes], *options: str) -> Path:
    """A repository with one commit of these files."""
    folder.mkdir(parents=True)
    run(folder, "init", "-q", "-b", "main", *options)
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    run(folder, "add", "-A")
    run(folder, "commit", "-q", "-m", "first change", "--allow-empty")
    return folder


def capture(start: Path, blobs: Any = None, **changed: Any) -> dict[str, Any]:
    """The captured fields; asserts that msgpack can hold them."""
    arguments: dict[str, Any] = {
        "fallback": None,
        "blobs": Blobs() if blobs is None else blobs,
        "redactor": Redactor(),
        "patch_limit_bytes": 64 << 20,
        "untracked_limit_bytes": 1 << 20,
        "exclude": None,
    }
    fields = capture_git(start, **{**arguments, **changed})
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(fields)) == fields
    return fields


def tree(folder: Path) -> Tree:
    """Every file below the folder with its mode and content, without what belongs to git."""
    found: Tree = {}
    for path in folder.rglob("*"):
        short = path.relative_to(folder)
        if ".git" in short.parts:
            continue
        if path.is_symlink():
            found[bytes(short)] = ("link", os.fsencode(path.readlink()))
        elif path.is_file():
            mode = "x" if path.stat().st_mode & 0o100 else "-"
            found[bytes(short)] = (mode, path.read_bytes())
    return found


def write_untracked(git: Mapping[str, Any], blobs: Blobs, target: Path) -> None:
    """Step three of the way back: the untracked files."""
    for entry in git["untracked"]:
        assert entry["omitted"] is None
        name = entry["path"]
        path = target / (os.fsdecode(name) if isinstance(name, bytes) else name)
        path.parent.mkdir(parents=True, exist_ok=True)
        data = blobs.kept[entry["blob"]]
        if entry["mode"] == "120000":
            path.symlink_to(os.fsdecode(data))
        else:
            path.write_bytes(data)
            path.chmod(0o755 if entry["mode"] == "100755" else 0o644)


def rebuild(git: Mapping[str, Any], blobs: Blobs, source: Path, target: Path) -> Path:
    """The way back that the module describes."""
    if git["commit"] is None:
        form = run(source, "rev-parse", "--show-object-format").decode().strip()
        run(source, "init", "-q", f"--object-format={form}", str(target))
    else:
        run(source, "clone", "-q", "--no-checkout", f"file://{source}", str(target))
        run(target, "checkout", "-q", "--detach", git["commit"])
    if git["patch"]:
        with tempfile.NamedTemporaryFile() as patch:
            patch.write(blobs.kept[git["patch"]["blob"]])
            patch.flush()
            run(target, "apply", "--binary", "--whitespace=nowarn", patch.name)
    write_untracked(git, blobs, target)
    for inner in git["submodules"]:
        place = target / inner["path"]
        if place.exists():
            place.rmdir()
        rebuild(inner, blobs, source / inner["path"], place)
    return target


FILES = {
    "kept.py": b"a = 1\n",
    "staged.py": b"one\ntwo\nthree\n",
    "unstaged.py": b"one\ntwo\nthree\n",
    "both.py": b"1\n2\n3\n4\n5\n6\n7\n8\n9\n",
    "gone.py": b"gone\n",
    "moved.py": b"moved\n" * 20,
    "moved too.py": b"changed\n" * 20,
    "mode.sh": b"#!/bin/sh\n",
    "binary.bin": bytes(range(256)) * 4,
    "crlf.txt": b"one\r\ntwo\r\nthree\r\n",
    "no newline.txt": b"one\ntwo",
    "latin.txt": b"caf\xe9\nbar\n",
    "becomes link": b"text\n",
    "empty": b"",
    "deep/er/file.py": b"x\n",
}


def change(folder: Path) -> None:
    """Every kind of change that git knows."""
    (folder / "staged.py").write_bytes(b"one\nTWO\nthree\n")
    (folder / "both.py").write_bytes(b"1\nstaged\n3\n4\n5\n6\n7\n8\n9\n")
    (folder / "added.py").write_bytes(b"added = 1\n")
    (folder / "added then gone.py").write_bytes(b"x\n")
    (folder / "only staged").write_bytes(b"")
    run(folder, "add", "-A")
    (folder / "added then gone.py").unlink()
    (folder / "both.py").write_bytes(b"1\nstaged\n3\n4\n5\n6\n7\n8\nunstaged\n")
    (folder / "unstaged.py").write_bytes(b"one\nTWO\nthree\n")
    (folder / "gone.py").unlink()
    run(folder, "mv", "moved.py", "deep/moved.py")
    run(folder, "mv", "moved too.py", "moved\tand\nchanged.py")
    (folder / "moved\tand\nchanged.py").write_bytes(b"changed\n" * 19 + b"last\n")
    (folder / "mode.sh").chmod(0o755)
    (folder / "binary.bin").write_bytes(bytes(range(255, -1, -1)) * 4)
    (folder / "crlf.txt").write_bytes(b"one\r\nTWO\r\nthree\nfour\r")
    (folder / "no newline.txt").write_bytes(b"one\nTWO\nthree")
    (folder / "latin.txt").write_bytes(b"caf\xe9\nb\xe4r\xff\n")
    (folder / "becomes link").unlink()
    (folder / "becomes link").symlink_to("deep/er/file.py")
    (folder / "empty").write_bytes(b"no longer\n")
    run(folder, "rm", "-q", "--cached", "kept.py")
    (folder / "later.py").write_bytes(b"intended\n")
    run(folder, "add", "-N", "later.py")
    (folder / ".gitignore").write_bytes(b"*.log\n")
    (folder / "ignored.log").write_bytes(b"no\n")
    (folder / "new folder/a b").mkdir(parents=True)
    (folder / "new folder/a b/n\u00e4w\nline.py").write_bytes(b"caf\xe9 \xff\r\nlast")
    (folder / "new folder/tool").write_bytes(b"#!/bin/sh\n")
    (folder / "new folder/tool").chmod(0o755)
    (folder / "new folder/link").symlink_to("../no such target")
    (folder / os.fsdecode(b"new folder/\xff\xfe.txt")).write_bytes(b"name\n")


def expected(folder: Path) -> Tree:
    """What has to come back: all but the ignored files."""
    return {name: value for name, value in tree(folder).items() if not name.endswith(b".log")}


@pytest.mark.parametrize("place", ["repo", "with space/r\u00e9po (1)"])
@pytest.mark.parametrize("form", ["sha1", "sha256"])
def test_every_kind_of_change_comes_back(tmp_path: Path, place: str, form: str) -> None:
    """Staged, unstaged, binary, renamed, deleted, untracked: the rebuilt tree is the same."""
    source = repository(tmp_path / place, FILES, f"--object-format={form}")
    change(source)
    blobs = Blobs()
    git = capture(source / "deep", blobs)
    assert git["reason"] is None
    assert git["dirty"] is True
    assert git["root"] == Path(place).name
    assert git["prefix"] == "deep"
    assert git["message"] == "first change"
    assert git["patch"]["masked"] is False
    assert git["patch"]["applies"] is True
    assert tree(rebuild(git, blobs, source, tmp_path / "again")) == expected(source)


def test_fields_of_a_clean_repository(tmp_path: Path) -> None:
    """A clean tree has a commit, a branch and a remote, and nothing to store."""
    origin = repository(tmp_path / "origin", {"a.py": b"a\n"})
    run(tmp_path, "clone", "-q", str(origin), "work")
    blobs = Blobs()
    git = capture(tmp_path / "work", blobs)
    assert git.pop("committed_at") == pytest.approx(time.time(), abs=100)
    assert git == {
        "found": True,
        "reason": None,
        "commit": run(origin, "rev-parse", "HEAD").decode().strip(),
        "branch": "main",
        "detached": False,
        "message": "first change",
        "remote": str(origin),
        "upstream": "origin/main",
        "dirty": False,
        "bare": False,
        "shallow": False,
        "root": "work",
        "prefix": "",
        "patch": None,
        "untracked": [],
        "untracked_left_out": 0,
        "submodules": [],
    }
    assert blobs.kept == {}


def test_patch_says_how_much_changed(tmp_path: Path) -> None:
    """The patch carries its own numbers."""
    source = repository(tmp_path / "r", {"a": b"1\n2\n3\n", "b": b"1\n"})
    (source / "a").write_bytes(b"1\nx\ny\n3\n")
    (source / "b").write_bytes(b"")
    blobs = Blobs()
    patch = capture(source, blobs)["patch"]
    assert patch == {
        "blob": patch["blob"],
        "bytes": len(blobs.kept[patch["blob"]]),
        "files": 2,
        "insertions": 2,
        "deletions": 2,
        "masked": False,
        "applies": True,
    }


def test_no_repository(tmp_path: Path) -> None:
    """Where there is none, the reason says so; the fallback is looked at next."""
    assert capture(tmp_path) == {"found": False, "reason": "not in a git repository"}
    gone = capture(tmp_path / "gone")
    assert gone == {"found": False, "reason": "the folder is gone"}
    source = repository(tmp_path / "r", {"a": b"1\n"})
    assert capture(tmp_path, fallback=source)["root"] == "r"
    assert capture(source, fallback=tmp_path)["root"] == "r"


def test_detached_head(tmp_path: Path) -> None:
    """A detached HEAD has a commit and no branch."""
    source = repository(tmp_path / "r", {"a": b"1\n"})
    run(source, "checkout", "-q", "--detach")
    git = capture(source)
    assert (git["branch"], git["detached"], git["upstream"]) == (None, True, None)
    assert git["commit"] == run(source, "rev-parse", "HEAD").decode().strip()


def test_bare_repository(tmp_path: Path) -> None:
    """A bare repository has a commit and no tree."""
    source = repository(tmp_path / "r", {"a": b"1\n"})
    run(tmp_path, "clone", "-q", "--bare", str(source), "bare.git")
    git = capture(tmp_path / "bare.git")
    assert (git["found"], git["bare"], git["root"]) == (True, True, "bare.git")
    assert git["commit"] == run(source, "rev-parse", "HEAD").decode().strip()
    assert (git["patch"], git["untracked"], git["prefix"]) == (None, [], None)


def test_shallow_clone(tmp_path: Path) -> None:
    """A shallow clone is captured like any other, and says that it is one."""
    source = repository(tmp_path / "r", {"a": b"1\n"})
    run(source, "commit", "-q", "--allow-empty", "-m", "second")
    run(tmp_path, "clone", "-q", "--depth=1", f"file://{source}", "shallow")
    (tmp_path / "shallow/a").write_bytes(b"2\n")
    git = capture(tmp_path / "shallow")
    assert (git["shallow"], git["dirty"], git["patch"]["files"]) == (True, True, 1)


@pytest.mark.parametrize("form", ["sha1", "sha256"])
def test_no_commit_yet(tmp_path: Path, form: str) -> None:
    """Before the first commit the patch holds everything that is staged."""
    source = tmp_path / "r"
    source.mkdir()
    run(source, "init", "-q", "-b", "trunk", f"--object-format={form}")
    (source / "staged.py").write_bytes(b"a\n")
    (source / "data.bin").write_bytes(b"\0\1\2")
    run(source, "add", "-A")
    (source / "staged.py").write_bytes(b"a\nb")
    (source / "new.py").write_bytes(b"new\n")
    blobs = Blobs()
    git = capture(source, blobs)
    assert (git["commit"], git["branch"], git["detached"]) == (None, "trunk", False)
    assert git["reason"] is None
    assert tree(rebuild(git, blobs, source, tmp_path / "again")) == tree(source)


def test_worktree(tmp_path: Path) -> None:
    """A linked worktree is a tree of its own."""
    source = repository(tmp_path / "r", {"a": b"1\n"})
    run(source, "worktree", "add", "-q", "-b", "side", "../linked tree")
    (tmp_path / "linked tree/a").write_bytes(b"2\n")
    git = capture(tmp_path / "linked tree")
    assert (git["root"], git["branch"], git["dirty"]) == ("linked tree", "side", True)
    assert capture(source)["dirty"] is False


def test_submodule_with_changes(tmp_path: Path) -> None:
    """A submodule is captured like a repository: its own commit, patch and files."""
    inner = repository(tmp_path / "inner", {"lib.py": b"one\n"})
    source = repository(tmp_path / "r", {"a": b"1\n"})
    run(source, "submodule", "add", "-q", f"file://{inner}", "sub")
    run(source, "commit", "-q", "-m", "with submodule")
    run(source / "sub", "commit", "-q", "--allow-empty", "-m", "moved on")
    (source / "sub/lib.py").write_bytes(b"two\n")
    (source / "sub/new.py").write_bytes(b"new\n")
    blobs = Blobs()
    git = capture(source, blobs)
    assert git["dirty"] is True
    assert [item["path"] for item in git["submodules"]] == ["sub"]
    sub = git["submodules"][0]
    assert sub["commit"] == run(source / "sub", "rev-parse", "HEAD").decode().strip()
    assert (sub["registered"], sub["dirty"], sub["patch"]["files"]) == (True, True, 1)
    assert [entry["path"] for entry in sub["untracked"]] == ["new.py"]
    assert tree(rebuild(git, blobs, source, tmp_path / "again")) == tree(source)


def test_dirty_submodule_alone_makes_the_tree_dirty(tmp_path: Path) -> None:
    """A change in a submodule is a change of the whole, though the parent has no patch."""
    inner = repository(tmp_path / "inner", {"lib.py": b"one\n"})
    source = repository(tmp_path / "r", {"a": b"1\n"})
    run(source, "submodule", "add", "-q", f"file://{inner}", "sub")
    run(source, "commit", "-q", "-m", "with submodule")
    assert capture(source)["dirty"] is False
    (source / "sub/lib.py").write_bytes(b"two\n")
    git = capture(source)
    assert (git["patch"], git["dirty"]) == (None, True)
    run(tmp_path, "clone", "-q", str(source), "flat")
    (sub,) = capture(tmp_path / "flat")["submodules"]
    assert (sub["reason"], sub["dirty"]) == ("not checked out", None)
    assert sub["commit"] == run(inner, "rev-parse", "HEAD").decode().strip()


def test_clone_within_the_tree(tmp_path: Path) -> None:
    """A clone that lies in the tree without being a submodule is captured as well."""
    inner = repository(tmp_path / "inner", {"lib.py": b"one\n"})
    source = repository(tmp_path / "r", {"a": b"1\n"})
    run(source, "clone", "-q", str(inner), "third party")
    (source / "third party/lib.py").write_bytes(b"two\n")
    blobs = Blobs()
    git = capture(source, blobs)
    (found,) = git["submodules"]
    assert (found["path"], found["registered"]) == ("third party", False)
    assert found["remote"] == str(inner)
    assert (git["dirty"], found["dirty"], git["untracked"]) == (False, True, [])
    assert tree(rebuild(git, blobs, source, tmp_path / "again")) == tree(source)


def test_repositories_within_repositories_are_bounded(tmp_path: Path) -> None:
    """A chain of clones is followed to a limit, and a damaged one costs only itself."""
    folder = repository(tmp_path / "r", {"a": b"1\n"})
    deeper = folder
    for _ in range(8):
        deeper = repository(deeper / "in", {"a": b"1\n"})
    broken = repository(folder / "broken", {"a": b"1\n"})
    (broken / ".git/config").write_bytes(b"[core\n")
    git = capture(folder)
    trees = {inner["path"]: inner for inner in git["submodules"]}
    assert "bad config" in trees["broken"]["reason"]
    depth, inner = 0, trees["in"]
    while inner["submodules"]:
        depth, inner = depth + 1, inner["submodules"][0]
    assert (depth, inner["reason"]) == (5, "beyond the limits of one capture")


def test_patch_over_the_limit_is_described(tmp_path: Path) -> None:
    """A patch that is too large is not stored: its size and a summary are."""
    source = repository(tmp_path / "r", {"a": b"1\n", "b.py": b"x\n"})
    (source / "a").write_bytes(b"line\n" * 50_000)
    blobs = Blobs()
    git = capture(source, blobs, patch_limit_bytes=10_000)
    assert git["dirty"] is True
    assert git["patch"]["omitted"] == "larger than 10000 bytes"
    assert 300_000 < git["patch"]["bytes"] < 301_000
    assert "1 file changed, 50000 insertions(+), 1 deletion(-)" in git["patch"]["stat"]
    assert blobs.kept == {}
    assert capture(source, patch_limit_bytes=git["patch"]["bytes"])["patch"]["files"] == 1


def test_untracked_files_that_are_not_stored(tmp_path: Path) -> None:
    """Large, binary and private files are listed with their size and the reason."""
    source = repository(tmp_path / "r", {"a": b"1\n"})
    (source / "large.py").write_bytes(b"x" * 2000)
    (source / "model.pt").write_bytes(b"PK\0\0")
    (source / ".env").write_bytes(b"X=1\n")
    (source / ".env.example").write_bytes(b"X=1\n")
    (source / "id_rsa").write_bytes(b"k\n")
    (source / "runs/p/1").mkdir(parents=True)
    (source / "runs/p/1/w.log").write_bytes(b"log\n")
    git = capture(source, untracked_limit_bytes=1000, exclude=source / "runs")
    listed = {e["path"]: (e["bytes"], e["omitted"], bool(e["blob"])) for e in git["untracked"]}
    assert listed == {
        ".env": (4, "may hold credentials", False),
        ".env.example": (4, None, True),
        "id_rsa": (2, "may hold credentials", False),
        "large.py": (2000, "larger than 1000 bytes", False),
        "model.pt": (4, "binary", False),
    }


def test_sources_are_stored_before_data(tmp_path: Path) -> None:
    """Where there are too many files, sources come first, and the list stays bounded."""
    source = repository(tmp_path / "r", {"a": b"1\n"})
    (source / "labels").mkdir()
    for number in range(5100):
        (source / f"labels/{number:04}.txt").write_bytes(b"")
    (source / "zz_train.py").write_bytes(b"x" * 500)
    git = capture(source)
    assert len(git["untracked"]) == 5000
    assert git["untracked_left_out"] == 101
    blobs = Blobs()
    capture(source, blobs)
    assert b"x" * 500 in blobs.kept.values()
    assert sum(entry["blob"] is not None for entry in git["untracked"]) == 1999


def test_tracked_files_of_the_tracker_are_left_out(tmp_path: Path) -> None:
    """The tracker's own folder is no part of the patch, even if someone committed it."""
    source = repository(tmp_path / "r", {"[x] runs/w.log": b"1\n", "a": b"1\n"})
    (source / "[x] runs/w.log").write_bytes(b"1\n2\n")
    assert capture(source, exclude=source / "[x] runs")["patch"] is None
    assert capture(source, exclude=tmp_path)["patch"]["files"] == 1
    assert capture(source, exclude=source)["patch"]["files"] == 1


SETTINGS = [
    ("diff.noprefix", "true"),
    ("diff.mnemonicPrefix", "true"),
    ("diff.external", "false"),
    ("color.ui", "always"),
    ("core.pager", "false"),
    ("diff.suppressBlankEmpty", "true"),
    ("diff.context", "0"),
    ("diff.interHunkContext", "9"),
    ("diff.relative", "true"),
    ("diff.renames", "copies"),
    ("diff.orderFile", "/no/such/file"),
    ("diff.algorithm", "patience"),
    ("diff.submodule", "log"),
    ("diff.ignoreSubmodules", "all"),
    ("diff.wsErrorHighlight", "all"),
    ("diff.colorMoved", "zebra"),
    ("diff.indentHeuristic", "false"),
    ("core.quotePath", "false"),
    ("core.fsmonitor", "true"),
    ("core.safecrlf", "true"),
    ("diff.x.textconv", "false"),
    ("diff.x.command", "false"),
    ("log.showSignature", "true"),
    ("status.showUntrackedFiles", "no"),
    ("core.abbrev", "5"),
]


@pytest.mark.parametrize(("name", "value"), SETTINGS)
def test_user_settings_change_nothing(tmp_path: Path, name: str, value: str) -> None:
    """Whatever the user has set for diffs, the patch is the same and applies."""
    source = repository(tmp_path / "r", {**FILES, ".gitattributes": b"*.py diff=x\n"})
    change(source)
    plain = capture(source)
    run(source, "config", name, value)
    blobs = Blobs()
    git = capture(source, blobs)
    assert git["patch"] == plain["patch"]
    assert git["message"] == "first change"
    run(source, "config", "--unset-all", name)
    assert tree(rebuild(git, blobs, source, tmp_path / "again")) == expected(source)


def test_environment_of_a_hook_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training started by a hook of one repository captures the one it lies in."""
    source = repository(tmp_path / "r", {"a": b"1\n"})
    other = repository(tmp_path / "other", {"b": b"1\n"})
    (source / "a").write_bytes(b"2\n")
    plain = capture(source)
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other / ".git/index"))
    monkeypatch.setenv("GIT_EXTERNAL_DIFF", "false")
    monkeypatch.setenv("GIT_DIFF_OPTS", "-u0")
    monkeypatch.setenv("GIT_LITERAL_PATHSPECS", "1")
    assert capture(source, exclude=source / "runs") == plain


def test_secrets_reach_no_blob(tmp_path: Path) -> None:
    """Secrets in the remote, in new lines, in new files and in messages are stored nowhere."""
    source = repository(tmp_path / "r", {"a.py": b"a = 1\n"})
    run(source, "commit", "-q", "--allow-empty", "-m", f"use {SECRET}")
    run(source, "remote", "add", "origin", f"https://bob:{SECRET}@example.com/r.git")
    (source / "a.py").write_bytes(f"a = 1\nTOKEN = '{SECRET}'\n".encode())
    (source / "new.py").write_bytes(f'password = "hunter2"\nTOKEN = "{SECRET}"\n'.encode())
    blobs, redactor = Blobs(), Redactor()
    git = capture(source, blobs, redactor=redactor)
    assert SECRET not in repr(git)
    assert git["remote"] == "https://example.com/r.git"
    assert git["message"] == "use [masked]"
    assert not blobs.holds(SECRET)
    assert not blobs.holds("hunter2")
    assert git["patch"]["masked"] is True
    assert git["untracked"][0]["masked"] is True
    again = rebuild(git, blobs, source, tmp_path / "again")
    assert (again / "a.py").read_bytes() == b"a = 1\nTOKEN = '[masked]'\n"
    assert (again / "new.py").read_bytes() == b'password = "[masked]"\nTOKEN = "[masked]"\n'
    assert {item.where for item in redactor.masked()} == {
        "url",
        "git.message",
        "patch:a.py",
        "untracked:new.py",
    }


@pytest.mark.parametrize("form", ["sha1", "sha256"])
@pytest.mark.parametrize("end", ["\n", "", "\r\n"])
def test_secrets_in_old_lines(tmp_path: Path, form: str, end: str) -> None:
    """A secret that stands in the old text reaches no blob, and the patch still applies.

    The lines that did not change come back with the secret, from the commit itself.
    """
    old = [f"line {number}" for number in range(400)]
    old[0] = f"first = '{SECRET}'"
    old[10] = f"TOKEN = '{SECRET}'"
    old[200] = f"again = '{SECRET}'"
    old[-1] = f"last = '{SECRET}'"
    text = "\n".join(old) + end
    source = repository(
        tmp_path / "r",
        {"a.py": text.encode(), "gone.py": text.encode(), "b.py": b"1\n", "link": b""},
        f"--object-format={form}",
    )
    new = [f"new = '{SECRET}'", *old]
    new[11] = "TOKEN = environ['TOKEN']"
    new[200:200] = ["x" * 300, "caf\u00e9"]
    new[-2:] = [new[-1] + "  # changed"]
    (source / "a.py").write_bytes(("\n".join(new) + ("" if end else "\n")).encode())
    (source / "gone.py").unlink()
    (source / "b.py").write_bytes(b"2\n")
    blobs = Blobs()
    git = capture(source, blobs)
    assert git["patch"]["applies"] is True
    assert not blobs.holds(SECRET)
    wanted = (source / "a.py").read_text()
    for shown in (new[0], new[-1]):
        wanted = wanted.replace(shown, shown.replace(SECRET, "[masked]"))
    again = rebuild(git, blobs, source, tmp_path / "again")
    assert (again / "a.py").read_text() == wanted
    assert not (again / "gone.py").exists()
    assert (again / "b.py").read_bytes() == b"2\n"
    patch = blobs.kept[git["patch"]["blob"]]
    assert b"# -TOKEN = '[masked]'\n# +TOKEN = environ['TOKEN']\n" in patch


def test_merge_conflict(tmp_path: Path) -> None:
    """In the midst of a merge the tree is captured as it stands."""
    source = repository(tmp_path / "r", {"a": b"1\n", "b": b"1\n"})
    run(source, "checkout", "-q", "-b", "side")
    (source / "a").write_bytes(b"side\n")
    run(source, "commit", "-q", "-am", "side")
    run(source, "checkout", "-q", "main")
    (source / "a").write_bytes(b"main\n")
    run(source, "commit", "-q", "-am", "main")
    with pytest.raises(subprocess.CalledProcessError):
        run(source, "merge", "side")
    (source / "b").write_bytes(b"2\n")
    blobs = Blobs()
    git = capture(source, blobs)
    assert tree(rebuild(git, blobs, source, tmp_path / "again")) == tree(source)


def test_no_git_executable(tmp_path: Path) -> None:
    """Without a git executable the reason says so; nothing is raised."""
    source = repository(tmp_path / "r", {"a": b"1\n"})
    code = (
        "import os, sys\n"
        "os.environ['PATH'] = ''\n"
        "from pathlib import Path\n"
        "from trackway.core._redact import Redactor\n"
        "from trackway.core.companion._git import capture_git\n"
        "print(capture_git(Path(sys.argv[1]), fallback=None, blobs=None, redactor=Redactor(),\n"
        "    patch_limit_bytes=1, untracked_limit_bytes=1, exclude=None))\n"
        "assert 'GIT_PYTHON_REFRESH' not in os.environ\n"
    )
    done = _python(code, str(source))
    assert done == "{'found': False, 'reason': 'there is no git executable'}\n"


def test_no_gitpython(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without GitPython the reason says so."""
    monkeypatch.setitem(sys.modules, "git", None)
    assert capture(tmp_path) == {"found": False, "reason": "GitPython is not installed"}


def test_environment_is_left_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable that keeps GitPython quiet is put back."""
    monkeypatch.setenv("GIT_PYTHON_REFRESH", "warn")
    before = dict(os.environ)
    capture(repository(tmp_path / "r", {"a": b"1\n"}))
    assert dict(os.environ) == before


def test_module_imports_no_gitpython() -> None:
    """GitPython is loaded by the capture and not by the import."""
    assert _python("import sys, trackway.core.companion._git; print('git' in sys.modules)") == (
        "False\n"
    )


def _python(code: str, *arguments: str) -> str:
    root = Path(__file__).parents[3]
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=root).stdout


def test_hanging_git_ends_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A git that does not answer, with a child that holds its pipe, is given up in time."""
    source = repository(tmp_path / "r", {"a": b"1\n"})
    slow = tmp_path / "bin/git"
    slow.parent.mkdir()
    slow.write_text("#!/bin/sh\nsleep 600 &\nsleep 600\n")
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{slow.parent}:{os.environ['PATH']}")
    began = time.monotonic()
    git = capture(source, timeout_s=1.0)
    assert time.monotonic() - began < 10
    assert git == {"found": False, "reason": "git rev-parse did not finish in 1 s"}


def test_slow_filter_costs_only_the_patch(tmp_path: Path) -> None:
    """Where one command takes too long, the parts that were had before it remain."""
    source = repository(tmp_path / "r", {"a.txt": b"1\n", ".gitattributes": b"*.txt filter=slow\n"})
    run(source, "config", "filter.slow.clean", "sleep 600")
    (source / "a.txt").write_bytes(b"2\n")
    began = time.monotonic()
    git = capture(source, timeout_s=3.0)
    assert time.monotonic() - began < 15
    assert git["found"] is True
    assert git["commit"] == run(source, "rev-parse", "HEAD").decode().strip()
    assert git["dirty"] is None
    assert "git diff did not finish in" in git["reason"]


def test_repository_of_another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where git refuses, commit and branch are read from the files, and the reason tells why."""
    source = repository(tmp_path / "r", {"a": b"1\n"})
    commit = run(source, "rev-parse", "HEAD").decode().strip()
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    git = capture(source)
    assert (git["found"], git["commit"], git["branch"]) == (True, commit, "main")
    assert "safe.directory" in git["reason"]
    assert git["dirty"] is None


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (".git/HEAD", b"garbage\0\xff"),
        (".git/HEAD", b""),
        (".git/index", b"DIRC garbage"),
        (".git/config", b"[core\n"),
        (".git/config", b"\xff\xfe\0"),
        (".git/refs/heads/main", b"1234567890123456789012345678901234567890\n"),
        (".git/refs/heads/main", b"\xff\n"),
        (".git/objects", None),
    ],
)
def test_broken_repository(tmp_path: Path, name: str, content: bytes | None) -> None:
    """A damaged repository gives a reason, never an error."""
    source = repository(tmp_path / "r", {"a": b"1\n"})
    (source / "a").write_bytes(b"2\n")
    if content is None:
        (source / name).rename(tmp_path / "elsewhere")
    else:
        (source / name).write_bytes(content)
    git = capture(source)
    assert isinstance(git["found"], bool)
    assert git["reason"] or git["commit"] is None


def test_lost_commit(tmp_path: Path) -> None:
    """A branch that names a commit which is not there is reported, and nothing is stored."""
    source = repository(tmp_path / "r", {"a": b"1\n"})
    (source / ".git/refs/heads/main").write_text("1" * 40 + "\n")
    git = capture(source)
    assert (git["commit"], git["reason"]) == ("1" * 40, "the commit of HEAD cannot be read")
    assert (git["patch"], git["dirty"]) == (None, None)


@pytest.mark.parametrize("content", [b"gitdir: /no/such/folder\n", b"\xff\xfe", b""])
def test_broken_link_to_a_repository(tmp_path: Path, content: bytes) -> None:
    """A .git file that leads nowhere is no repository."""
    (tmp_path / "r").mkdir()
    (tmp_path / "r/.git").write_bytes(content)
    assert capture(tmp_path / "r")["found"] is False


def test_full_disk(tmp_path: Path) -> None:
    """Where the blobs cannot be stored, everything is still described."""
    source = repository(tmp_path / "r", {"a": b"1\n"})
    (source / "a").write_bytes(b"2\n")
    (source / "b").write_bytes(b"2\n")
    git = capture(source, FullDisk())
    assert git["patch"]["omitted"] == "could not be stored: No space left on device"
    assert git["untracked"][0]["omitted"] == "could not be stored: No space left on device"
    assert git["dirty"] is True


def test_capture_writes_nothing(tmp_path: Path) -> None:
    """The user's repository is left as it was: no lock, no refreshed index."""
    source = repository(tmp_path / "r", {"a": b"1\n"})
    (source / "a").touch()
    before = {p: p.stat().st_mtime_ns for p in (source / ".git").rglob("*")}
    assert capture(source)["dirty"] is False
    assert {p: p.stat().st_mtime_ns for p in (source / ".git").rglob("*")} == before
    (source / ".git/index.lock").write_bytes(b"")
    assert capture(source)["reason"] is None
