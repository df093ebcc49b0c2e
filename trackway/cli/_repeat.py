"""The shell commands that bring a run's code and packages back and start it again.

Whatever was not captured is said to be so; nothing is made up in its place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, Final

from trackway.api import StoredRun
from trackway.cli._text import clean, plural, shell, shorten

__all__ = ["commands", "requirement_lines"]

_COMMIT: Final = re.compile(r"[0-9a-f]{40,64}")
_REQUIREMENT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_VERSION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.!+_-]*")


def commands(run: StoredRun, root: str) -> list[str]:
    """Lines for a shell, comments among them.

    Args:
        run: The run to repeat.
        root: The folder that holds all projects; the commands work from anywhere.
    """
    show = f"trackway --dir {shell(root)} show {shell(f'{run.project}/{run.id}')}"
    return [*_code(run, show), *_packages(run, show), *_start(run)]


def _code(run: StoredRun, show: str) -> list[str]:
    state = run.git
    if state is None:
        return ["# code: not captured" + (" yet" if run.state == "running" else "")]
    commit = str(state.get("commit") or "")
    if not state.get("found", True) or not _COMMIT.fullmatch(commit):
        return ["# code: not captured, it was in no git repository with a commit"]
    lines = [*_checkout(state, run), f"git checkout {commit}", *_changes(state, show)]
    modules = [m for m in state.get("submodules") or () if isinstance(m, Mapping)]
    if modules:
        lines.append("git submodule update --init --recursive")
    for module in modules:
        lines += _submodule(module, show)
    if any("patch" in str(item.get("where")) for item in run.masked):
        lines.append("# secrets in the patch were masked; put yours in their place")
    return lines


def _checkout(state: Mapping[str, Any], run: StoredRun) -> list[str]:
    remote, root = str(state.get("remote") or ""), str(state.get("root") or "")
    if remote:
        folder = PurePosixPath(root).name or "code"
        return [f"git clone -- {shell(remote)} {shell(folder)} && cd {shell(folder)}"]
    host = clean(run.attempts[-1].host) if run.attempts else ""
    told = f"# the repository had no remote; it was on {host or 'a host not captured'} in"
    return [f"{told} {clean(root) or 'a folder not captured'}"] + (
        [f"cd {shell(root)}"] if root else []
    )


def _changes(state: Mapping[str, Any], show: str, more: str = "", git: str = "git") -> list[str]:
    """What was not committed: the patch, and the files git did not know."""
    lines = []
    patch = state.get("patch")
    if isinstance(patch, Mapping) and patch.get("blob"):
        lines.append(f"{show} --patch{more} | {git} apply --binary")
    elif isinstance(patch, Mapping):
        lines.append(f"# the patch was not stored: {clean(shorten(str(patch.get('omitted'))))}")
    files = [f for f in state.get("untracked") or () if isinstance(f, Mapping)]
    left_out = [clean(shorten(str(f.get("path")), 100)) for f in files if not f.get("blob")]
    if len(left_out) < len(files):
        folder = git.removeprefix("git -C ") if git != "git" else "."
        lines.append(f"{show} --untracked {folder}{more}")
    if left_out:
        told = ", ".join(left_out[:5]) + (", …" if len(left_out) > 5 else "")
        verb = "was" if len(left_out) == 1 else "were"
        lines.append(f"# {plural(len(left_out), 'untracked file')} {verb} not stored: {told}")
    return lines


def _submodule(module: Mapping[str, Any], show: str) -> list[str]:
    path, commit = str(module.get("path") or ""), str(module.get("commit") or "")
    git = f"git -C {shell(path)}"
    lines = [f"{git} checkout {commit}"] if _COMMIT.fullmatch(commit) else []
    return lines + _changes(module, show, f" --submodule {shell(path)}", git)


def _packages(run: StoredRun, show: str) -> list[str]:
    environment = run.environment or {}
    version = environment.get("python_version") or environment.get("python")
    told = clean(str(version)) if version else "version not captured"
    lines = [f"# Python {told}"]
    if not run.packages:
        return [*lines, "# packages: not captured"]
    file = shell(f"{run.id}-requirements.txt")
    return [*lines, f"{show} --requirements > {file} && pip install -r {file}"]


def _start(run: StoredRun) -> list[str]:
    environment, state = run.environment or {}, run.git or {}
    lines = []
    if prefix := str(state.get("prefix") or ""):
        lines.append(f"cd {shell(prefix)}")
    argv = environment.get("argv")
    if not isinstance(argv, Sequence) or not argv:
        return [*lines, "# command line: not captured"]
    words = [str(word) for word in argv]
    if environment.get("argv_truncated"):
        lines.append("# the command line was too long to be kept whole; what is left of it:")
    root = str(state.get("root") or "")
    if root and any(word.startswith(root + "/") for word in words):
        lines.append(f"# paths as they were; {clean(root)} is now where you cloned it")
    return [*lines, " ".join(map(shell, words))]


def requirement_lines(run: StoredRun) -> list[str]:
    """The installed packages as ``pip install -r`` takes them, sorted by name."""
    lines = []
    for name, version in sorted(run.packages.items(), key=lambda item: item[0].lower()):
        sound = _REQUIREMENT.fullmatch(name) and _VERSION.fullmatch(version)
        lines.append(f"{name}=={version}" if sound else f"# {clean(f'{name} {version}')}")
    return lines
