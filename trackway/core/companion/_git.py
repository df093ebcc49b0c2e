"""What the working tree was: commit, uncommitted changes and untracked sources.

Enough to build the tree again, byte for byte:

1. clone ``remote`` and check out ``commit`` (none: ``git init``);
2. ``git apply --binary --whitespace=nowarn`` the blob of ``patch`` at the root, if there is one;
3. write each of ``untracked``: the blob is a file's content, or the target of a symbolic link
   (mode ``120000``); a path that is no UTF-8 is given as bytes;
4. do the same for each of ``submodules`` in its folder. The last folders of the list that are
   not ``registered`` are clones that lie in the tree without being submodules.

What can differ: masked secrets, files listed with a reason in ``omitted``, ignored files, empty
folders, and line ends where ``core.autocrlf`` or a filter differs between the two machines.

Git is run by GitPython, without any lock in the user's repository, without the user's settings
for diffs, and never past a deadline. Reading is all that happens, except that git runs the clean
filters (such as git-lfs) that the repository's owner has configured.
"""

from __future__ import annotations

import configparser
import contextlib
import os
import re
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

if TYPE_CHECKING:
    import git

    from trackway.core._redact import Redactor

from trackway.core.companion._git_work import (
    _Trouble,
    _Work,
)
from trackway.core.companion._patch import (
    _DIFF,
    _INDEX,
    _NOTE,
    _as_delta,
    _changes_old_text,
    _section_name,
    _sections,
)

__all__ = ["Blobs", "capture_git"]


_ALL_S: Final = 60.0


_UNTRACKED_FILES: Final = 2000


_UNTRACKED_BYTES: Final = 16 << 20


_UNTRACKED_LISTED: Final = 5000


_REPOSITORIES: Final = 50


_DEPTH: Final = 5


_SOURCES: Final = frozenset(
    (
        ".py .pyi .pyx .ipynb .yaml .yml .toml .cfg .ini .sh .bash .sbatch .slurm .c .cc .cpp .cu "
        ".cuh .h .hpp .rs .go .java .js .ts .r .jl .lua .sql .proto .tf .mk .cmake .gin .jsonnet"
    ).split()
)


_PRIVATE: Final = re.compile(
    r"(?:\.netrc|_netrc|\.pgpass|\.htpasswd|\.git-credentials|\.pypirc|\.npmrc|\.env|\.env\..*"
    r"|id_(?:rsa|dsa|ecdsa|ed25519).*|kaggle\.json|credentials(?:\.json)?"
    r"|.*\.(?:pem|key|p12|pfx|jks|keystore|kdbx|ppk))",
    re.IGNORECASE,
)


class Blobs(Protocol):
    """Where the captured bytes go."""

    def put(self, data: bytes) -> str:
        """Store the bytes and return the name of the blob; raises OSError."""
        ...


class _Limits:
    """What one capture may still store, over all repositories within the first."""

    def __init__(self, patch_bytes: int, file_bytes: int) -> None:
        self.patch_bytes = patch_bytes
        self.file_bytes = file_bytes
        self.files = _UNTRACKED_FILES
        self.bytes = _UNTRACKED_BYTES
        self.repositories = _REPOSITORIES


class _Capture(NamedTuple):
    """What is the same for all repositories of one capture."""

    blobs: Blobs
    redactor: Redactor
    exclude: Path | None
    deadline: float
    limits: _Limits


def capture_git(
    start: Path,
    *,
    fallback: Path | None,
    blobs: Blobs,
    redactor: Redactor,
    patch_limit_bytes: int,
    untracked_limit_bytes: int,
    exclude: Path | None,
    timeout_s: float = _ALL_S,
) -> dict[str, object]:
    """The fields of the ``git`` event: what the code was, and what it takes to have it again.

    This returns in whatever state the repository is: ``found`` is False, or parts are missing,
    and ``reason`` tells why. The values are what msgpack can hold.

    Args:
        start: Folder whose repository is wanted.
        fallback: Folder to look from if ``start`` lies in no repository.
        blobs: Takes the patches and the untracked files, masked.
        redactor: Masks everything that is returned or stored.
        patch_limit_bytes: A longer patch is described and not stored.
        untracked_limit_bytes: A larger untracked file is listed and not stored.
        exclude: Folder of the tracker, which is no part of the code.
        timeout_s: Seconds after which the rest is left out.
    """
    deadline = time.monotonic() + timeout_s
    limits = _Limits(patch_limit_bytes, untracked_limit_bytes)
    capture = _Capture(blobs, redactor, exclude, deadline, limits)
    reason = "no folder to look in"
    for folder in (start, fallback):
        if folder is None:
            continue
        try:
            with contextlib.closing(_opened(folder, parents=True)) as repo:
                return _whole(capture, repo, folder)
        except _Trouble as trouble:
            reason = redactor.text(str(trouble), "git.reason")
    return {"found": False, "reason": reason}


def _opened(folder: Path, *, parents: bool) -> git.Repo:
    before = os.environ.get("GIT_PYTHON_REFRESH")
    os.environ["GIT_PYTHON_REFRESH"] = "quiet"  # or the import fails where git is missing
    try:
        import git
    except ImportError:
        raise _Trouble("GitPython is not installed") from None
    finally:
        if before is None:
            del os.environ["GIT_PYTHON_REFRESH"]
        else:
            os.environ["GIT_PYTHON_REFRESH"] = before
    try:
        return git.Repo(folder.absolute(), search_parent_directories=parents, expand_vars=False)
    except git.NoSuchPathError:
        raise _Trouble("the folder is gone") from None
    except git.InvalidGitRepositoryError:
        raise _Trouble("not in a git repository") from None
    except (git.GitError, OSError, ValueError, configparser.Error) as error:
        raise _Trouble(f"the repository cannot be read: {type(error).__name__}") from None


def _whole(capture: _Capture, repo: git.Repo, folder: Path) -> dict[str, object]:
    """All fields of the event, for the repository that holds the folder."""
    work = _Work(repo, capture.deadline)
    try:
        root, place = _place(work)
    except _Trouble as trouble:
        if "dubious ownership" not in str(trouble):
            raise
        return _of_another_user(repo)
    if root is not None:
        with contextlib.suppress(ValueError, OSError):
            inner = folder.resolve().relative_to(root.resolve())
            place["prefix"] = "" if inner == Path() else _name(bytes(inner))
    return {"found": True, **place, **_Tree(capture, work, root, 0).fields()}


def _place(work: _Work) -> tuple[Path | None, dict[str, object]]:
    """The root of the working tree, if any, and what kind of repository it is."""
    asked = work.get(
        "rev-parse", "--is-bare-repository", "--is-inside-work-tree", "--is-shallow-repository"
    )
    bare, inside, shallow = (answer == b"true" for answer in asked.split()[:3])
    root = None
    if inside:
        root = Path(os.fsdecode(work.get("rev-parse", "--show-toplevel").removesuffix(b"\n")))
    name = (root or Path(work.repo.git_dir)).name
    place: dict[str, object] = {"root": _name(os.fsencode(name)), "prefix": None}
    return root, {**place, "bare": bare, "shallow": shallow}


def _of_another_user(repo: git.Repo) -> dict[str, object]:
    """What the files of a repository say which git itself refuses to read."""
    import git

    fields: dict[str, object] = {**_NOTHING, "found": True}
    fields["reason"] = (
        "git refuses a repository of another user; "
        "'git config --global --add safe.directory <folder>' allows it"
    )
    with contextlib.suppress(git.GitError, OSError, ValueError, TypeError):
        fields["commit"] = git.SymbolicReference.dereference_recursive(repo, "HEAD")
        fields["detached"] = repo.head.is_detached
        fields["branch"] = None if repo.head.is_detached else repo.head.reference.name
    return fields


_NOTHING: Final[dict[str, object]] = {
    "reason": None,
    "commit": None,
    "branch": None,
    "detached": False,
    "message": None,
    "committed_at": None,
    "remote": None,
    "upstream": None,
    "dirty": None,
    "patch": None,
    "untracked": [],
    "untracked_left_out": 0,
    "submodules": [],
}


class _Tree:
    """One working tree, or one bare repository where ``root`` is None."""

    def __init__(self, capture: _Capture, work: _Work, root: Path | None, depth: int) -> None:
        self._capture = capture
        self._work = work
        self._root = root
        self._depth = depth
        self._base: str | None = None  # what the tree is compared with
        self._branch: str | None = None
        self._clones: list[bytes] = []  # untracked folders that are repositories themselves
        self._redactor = capture.redactor

    def fields(self) -> dict[str, object]:
        """Everything but the place; ``reason`` joins what could not be had."""
        parts = [self._head, self._origin]
        if self._root is not None:
            parts += [self._changes, self._untracked, self._inner]
        fields, reasons = dict(_NOTHING), []
        for part in parts:
            try:
                fields.update(part())
            except _Trouble as trouble:
                reasons.append(self._redactor.text(str(trouble), "git.reason"))
        inner = fields["submodules"]
        if isinstance(inner, list) and any(tree["dirty"] for tree in inner if tree["registered"]):
            fields["dirty"] = True
        fields["reason"] = "; ".join(dict.fromkeys(reasons)) or None
        return fields

    def _head(self) -> dict[str, object]:
        work = self._work
        commit = work.line("rev-parse", "--verify", "--quiet", "HEAD^{commit}")
        self._branch = work.line("symbolic-ref", "--quiet", "--short", "HEAD")
        fields: dict[str, object] = {"commit": commit, "branch": self._branch}
        if commit is None:
            lost = work.line("rev-parse", "--verify", "--quiet", "HEAD")
            if lost is None:
                self._base = work.line("hash-object", "-t", "tree", "--stdin")  # the empty tree
            return {**fields, "commit": lost}
        self._base = commit
        told = work.get("log", "-1", "--encoding=UTF-8", "--format=%ct%n%s", commit)
        when, _, subject = told.decode("utf-8", "replace").rstrip("\n").partition("\n")
        fields["detached"] = self._branch is None
        fields["committed_at"] = int(when) if when.isdigit() else None
        fields["message"] = self._redactor.text(subject[:1000], "git.message")
        return fields

    def _origin(self) -> dict[str, object]:
        upstream = None
        if self._branch is not None:
            names = ("--abbrev-ref", "--symbolic-full-name", "@{upstream}")
            upstream = self._work.line("rev-parse", *names)
        listed = self._work.ask("config", "--null", "--get-regexp", r"^remote\..*\.url$")
        remotes: dict[str, str] = {}
        for entry in listed.out.decode("utf-8", "replace").split("\0"):
            key, _, url = entry.partition("\n")
            if url:
                remotes.setdefault(key[len("remote.") : -len(".url")], url)
        ranked = sorted(
            remotes,
            key=lambda name: (not (upstream or "").startswith(f"{name}/"), name != "origin"),
        )
        remote = self._redactor.url(remotes[ranked[0]]) if ranked else None
        return {"remote": remote, "upstream": upstream}

    def _pathspec(self) -> tuple[str, ...]:
        """What leaves the tracker's own folder out."""
        assert self._root is not None
        if self._capture.exclude is None:
            return ()
        try:
            inner = self._capture.exclude.resolve().relative_to(self._root.resolve())
        except (ValueError, OSError):
            return ()
        name = inner.as_posix()
        return () if name == "." else ("--", ":(top)", f":(top,exclude,literal){name}")

    def _changes(self) -> dict[str, object]:
        if self._base is None:
            raise _Trouble("the commit of HEAD cannot be read")
        limit = self._capture.limits.patch_bytes
        changed = (self._base, *self._pathspec())
        answer = self._work.ask(*_DIFF, *changed, limit=limit)
        if answer.status != 0:
            told = answer.error.strip().splitlines()[:1]
            raise _Trouble(f"git diff failed: {''.join(told)[:300]}")
        if answer.size == 0:
            return {"dirty": False}
        if answer.size <= limit:
            return {"dirty": True, "patch": self._stored_patch(answer.out)}
        shown = ("diff", "--stat=120", "--stat-count=100", "--no-ext-diff", "--no-color", "-M100%")
        stat = self._work.ask(*shown, "--ignore-submodules=dirty", *changed, limit=1 << 16).out
        return {
            "dirty": True,
            "patch": {
                "omitted": f"larger than {limit} bytes",
                "bytes": answer.size,
                "stat": self._redactor.text(stat.decode("utf-8", "replace"), "git.stat"),
            },
        }

    def _stored_patch(self, data: bytes) -> dict[str, object]:
        files = insertions = deletions = 0
        applies = True
        shown: list[bytes] = []
        for section in _sections(data):
            _, hunks, text = section.partition(b"\n@@ -")
            files += 1
            insertions += text.count(b"\n+")
            deletions += text.count(b"\n-")
            masked = self._redactor.patch(section, f"patch:{_section_name(section)}")
            if hunks and _changes_old_text(section, masked):
                try:
                    masked = self._without_old_text(section, masked)
                except _Trouble:
                    applies = False
            shown.append(masked)
        stored = b"".join(shown)
        fields: dict[str, object] = {"bytes": len(stored), "files": files, "applies": applies}
        fields |= {"insertions": insertions, "deletions": deletions, "masked": stored != data}
        return {**fields, **_put(self._capture.blobs, stored)}

    def _without_old_text(self, section: bytes, masked: bytes) -> bytes:
        """The section as comment, then as a delta that git can apply without the old text.

        Git compares context and removed lines with the file, so it would refuse them masked.
        """
        index = _INDEX.search(section)
        if index is None:
            raise _Trouble("no index line")
        base = self._work.get("cat-file", "blob", index["old"].decode("ascii"))
        lines = masked.removesuffix(b"\n").split(b"\n")
        comment = b"".join(b"# " + line + b"\n" for line in lines)
        return _NOTE + comment + _as_delta(lines, index, base)

    def _untracked(self) -> dict[str, object]:
        listed = self._work.get(
            "ls-files", "--others", "--exclude-standard", "-z", *self._pathspec()
        )
        names = sorted(filter(None, listed.split(b"\0")))
        self._clones = [name.rstrip(b"/") for name in names if name.endswith(b"/")]
        files = [self._untracked_file(name) for name in names if not name.endswith(b"/")]
        # Sources first and small ones before large ones, so that a folder of data cannot take
        # the room of the program.
        for entry in sorted(files, key=_rank):
            self._store(entry)
        shown = files[:_UNTRACKED_LISTED]
        return {"untracked": shown, "untracked_left_out": len(files) - len(shown)}

    def _untracked_file(self, name: bytes) -> dict[str, object]:
        entry: dict[str, object] = {"path": _name(name), "mode": "100644", "blob": None}
        entry |= {"bytes": 0, "masked": False, "omitted": None}
        try:
            found = self._path(name).lstat()
        except OSError as error:
            return {**entry, "omitted": _why(error)}
        entry["bytes"] = found.st_size
        if stat.S_ISLNK(found.st_mode):
            entry["mode"] = "120000"
        elif not stat.S_ISREG(found.st_mode):
            entry["omitted"] = "not a file"
        elif found.st_mode & stat.S_IXUSR:
            entry["mode"] = "100755"
        return entry

    def _store(self, entry: dict[str, object]) -> None:
        """Put one untracked file into the blobs, or say in the entry why not."""
        limits = self._capture.limits
        size = entry["bytes"]
        assert isinstance(size, int)
        if entry["omitted"] is None:
            entry["omitted"] = self._refusal(entry, size)
        if entry["omitted"] is not None:
            return
        try:
            data = self._content(entry)
        except OSError as error:
            entry["omitted"] = _why(error)
            return
        if len(data) > limits.file_bytes:
            entry["omitted"] = f"larger than {limits.file_bytes} bytes"
        elif b"\0" in data[:8192]:
            entry["omitted"] = "binary"
        else:
            limits.files -= 1
            limits.bytes -= len(data)
            shown = self._redactor.patch(data, f"untracked:{_shown(entry['path'])}")
            entry["masked"] = shown != data
            entry.update(_put(self._capture.blobs, shown))

    def _refusal(self, entry: dict[str, object], size: int) -> str | None:
        limits = self._capture.limits
        name = _shown(entry["path"]).rpartition("/")[2]
        if _PRIVATE.fullmatch(name) and not name.endswith((".example", ".sample", ".template")):
            return "may hold credentials"
        if size > limits.file_bytes:
            return f"larger than {limits.file_bytes} bytes"
        if limits.files <= 0 or size > limits.bytes:
            return "beyond the limits of one capture"
        return None

    def _content(self, entry: dict[str, object]) -> bytes:
        name = entry["path"]
        path = self._path(name if isinstance(name, bytes) else str(name).encode())
        if entry["mode"] == "120000":
            return os.fsencode(path.readlink())
        with path.open("rb") as file:
            return file.read(self._capture.limits.file_bytes + 1)

    def _path(self, name: bytes) -> Path:
        assert self._root is not None
        return self._root / os.fsdecode(name)

    def _inner(self) -> dict[str, object]:
        """The submodules, and the clones that lie in the tree, each like a repository."""
        trees: list[dict[str, object]] = []
        staged = self._work.get("ls-files", "--stage", "-z")
        for entry in staged.split(b"\0"):
            about, _, name = entry.partition(b"\t")
            if about.startswith(b"160000 "):
                trees.append(self._inner_tree(name, about.split()[1].decode("ascii")))
        trees += [self._inner_tree(name, None) for name in self._clones]
        return {"submodules": trees}

    def _inner_tree(self, name: bytes, recorded: str | None) -> dict[str, object]:
        limits = self._capture.limits
        about: dict[str, object] = {"path": _name(name), "registered": recorded is not None}
        tree = {**_NOTHING, **about, "commit": recorded}
        folder = self._path(name)
        if limits.repositories <= 0 or self._depth >= _DEPTH:
            return {**tree, "reason": "beyond the limits of one capture"}
        limits.repositories -= 1
        try:
            if not (folder / ".git").exists():
                return {**tree, "reason": "not checked out"}
            with contextlib.closing(_opened(folder, parents=False)) as repo:
                work = _Work(repo, self._capture.deadline)
                root, _ = _place(work)
                return {**_Tree(self._capture, work, root, self._depth + 1).fields(), **about}
        except _Trouble as trouble:
            return {**tree, "reason": self._redactor.text(str(trouble), "git.reason")}
        except OSError as error:
            return {**tree, "reason": _why(error)}


def _name(name: bytes) -> str | bytes:
    """A file name as text, or as its bytes where those are no UTF-8."""
    try:
        return name.decode("utf-8")
    except UnicodeDecodeError:
        return name


def _shown(name: object) -> str:
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)


def _why(error: OSError) -> str:
    return error.strerror or type(error).__name__


def _put(blobs: Blobs, data: bytes) -> dict[str, object]:
    try:
        return {"blob": blobs.put(data)}
    except OSError as error:
        return {"blob": None, "omitted": f"could not be stored: {_why(error)}"}


def _rank(entry: dict[str, object]) -> tuple[bool, object]:
    name = _shown(entry["path"]).rpartition("/")[2].lower()
    return Path(name).suffix not in _SOURCES, entry["bytes"]
