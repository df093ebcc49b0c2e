"""The shell commands that bring a run's code and packages back and start it again.

Whatever was not captured is said to be so; nothing is made up in its place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, Final

from trackway.api import StoredRun
from trackway.cli._text import clean, path_text, plural, shell, shorten

__all__ = ["commands", "inner_trees", "requirement_lines"]

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


def inner_trees(state: Mapping[str, Any], above: str = "") -> list[tuple[str, Mapping[str, Any]]]:
    """(path from the root, state) of each submodule, and of each clone that lies in the tree."""
    found = []
    for tree in state.get("submodules") or ():
        if isinstance(tree, Mapping):
            path = f"{above}{path_text(tree.get('path'))}"
            found += [(path, tree), *inner_trees(tree, f"{path}/")]
    return found


def _code(run: StoredRun, show: str) -> list[str]:
    state = run.git
    if state is None:
        return ["# code: not captured" + (" yet" if run.state == "running" else "")]
    if not state.get("found", True):
        return [f"# code: not captured, {clean(state.get('reason') or 'no git repository')}"]
    lines = [*_checkout(state, run), *_changes(state, show)]
    trees = inner_trees(state)
    if any(tree.get("registered", True) for _, tree in trees):
        lines.append("git submodule update --init --recursive")
    for path, tree in trees:
        lines += _inner_tree(path, tree, show)
    if reason := state.get("reason"):
        lines.append(f"# not captured: {clean(reason)}")
    return lines


def _checkout(state: Mapping[str, Any], run: StoredRun) -> list[str]:
    folder = PurePosixPath(path_text(state.get("root") or "")).name or "code"
    commit = str(state.get("commit") or "")
    if not _COMMIT.fullmatch(commit):
        told = "# there was no commit yet" if "dirty" in state else "# commit: not captured"
        return [told, f"git init {_operand(folder)} && cd {_operand(folder)}"]
    if state.get("remote"):
        clone = f"git clone {_url(state['remote'])} {_operand(folder)} && cd {_operand(folder)}"
        return [clone, f"git checkout {commit}"]
    place = _repository(run.environment or {}, state) or folder
    host = f" on {clean(run.attempts[-1].host)}" if run.attempts else ""
    told = f"# the repository had no remote: go to where it is ({clean(place)}{host})"
    # A tree of its own, because that which is there may hold other work by now.
    beside = shell(f"../{folder}-{run.id}")
    return [told, f"git worktree add --detach {beside} {commit} && cd {beside}"]


def _repository(environment: Mapping[str, Any], state: Mapping[str, Any]) -> PurePosixPath | None:
    """Where the repository was, if that can be told.

    Of its folder only the name was stored, and the way from it to the folder it was looked for
    from: the script's, or that in which the run was started.
    """
    prefix = PurePosixPath(path_text(state.get("prefix") or ""))
    tail = (PurePosixPath(path_text(state.get("root") or "")) / prefix).parts
    script, cwd = (PurePosixPath(str(environment.get(name) or "")) for name in ("script", "cwd"))
    for folder in (script.parent, cwd):
        if tail and folder.parts[-len(tail) :] == tail:
            return PurePosixPath(*folder.parts[: len(folder.parts) - len(prefix.parts)])
    return None


def _operand(path: str) -> str:
    """A path from the log, which must be no option to the command it is given to."""
    return shell(f"./{path}" if path.startswith("-") else path)


def _url(remote: object) -> str:
    url = shell(str(remote))
    return f"-- {url}" if str(remote).startswith("-") else url


def _changes(state: Mapping[str, Any], show: str, path: str = "") -> list[str]:
    """What was not committed: the patch, and the files git did not know."""
    more = f" --submodule {shell(path)}" if path else ""
    git = f"git -C {shell(path)}" if path else "git"
    lines = []
    patch = state.get("patch")
    if isinstance(patch, Mapping) and patch.get("blob"):
        lines.append(f"{show} --patch{more} | {git} apply --binary --whitespace=nowarn")
        if patch.get("applies") is False:
            lines.append("# does not apply by itself: secrets in lines it compares were masked")
        elif patch.get("masked"):
            lines.append("# secrets in the patch were masked: put yours in place of [masked]")
    elif isinstance(patch, Mapping):
        lines.append(f"# the patch was not stored: {clean(shorten(str(patch.get('omitted'))))}")
    files = [f for f in state.get("untracked") or () if isinstance(f, Mapping)]
    left_out = [clean(shorten(path_text(f.get("path")), 80)) for f in files if not f.get("blob")]
    if len(left_out) < len(files):
        lines.append(f"{show} --untracked {shell(path or '.')}{more}")
    missing = len(left_out) + int(state.get("untracked_left_out") or 0)
    if missing:
        told = ", ".join(left_out[:5]) + (", …" if missing > 5 else "")
        verb = "was" if missing == 1 else "were"
        lines.append(f"# {plural(missing, 'untracked file')} {verb} not stored: {told}")
    return lines


def _inner_tree(path: str, tree: Mapping[str, Any], show: str) -> list[str]:
    commit, remote = str(tree.get("commit") or ""), tree.get("remote")
    lines = []
    if not tree.get("registered", True):
        clone = f"git clone {_url(remote)} {_operand(path)}"
        lines.append(clone if remote else f"# {clean(path)} was a clone without a remote")
    if _COMMIT.fullmatch(commit):
        lines.append(f"git -C {shell(path)} checkout {commit}")
    if tree.get("reason"):
        lines.append(f"# {clean(path)}: {clean(tree['reason'])}")
    return lines + _changes(tree, show, path)


def _packages(run: StoredRun, show: str) -> list[str]:
    python = (run.environment or {}).get("python")
    version = python.get("version") if isinstance(python, Mapping) else python
    lines = [f"# Python {clean(version) if version else 'version not captured'}"]
    if not run.packages:
        return [*lines, "# packages: not captured"]
    file = shell(f"{run.id}-requirements.txt")
    python = "python" + ".".join(str(version or 3).split(".")[:2])
    lines.append(f"{show} --requirements > {file}")
    lines.append(f"{shell(python)} -m venv .venv && . .venv/bin/activate && pip install -r {file}")
    for name in sorted(n for n, v in run.packages.items() if v.endswith("(editable)")):
        lines.append(f"pip install -e .  # where {clean(name)}'s sources are: it was editable")
    return lines


def _start(run: StoredRun) -> list[str]:
    environment = run.environment or {}
    lines = _enter(environment, run.git or {})
    command = environment.get("command")
    if not isinstance(command, Sequence) or isinstance(command, str) or not command:
        return [*lines, "# command line: not captured"]
    words = [str(word) for word in command]
    if environment.get("argv_truncated"):
        lines.append("# the command line was too long to be kept whole; this is its beginning")
    if any("[masked]" in word for word in words):
        lines.append("# secrets in it were masked: put yours in place of [masked]")
    if any(word.startswith(("/", "~")) for word in words[1:]):
        lines.append(f"# the paths in it are those of {clean(environment.get('host'))}")
    return [*lines, " ".join(map(shell, words))]


def _enter(environment: Mapping[str, Any], state: Mapping[str, Any]) -> list[str]:
    """Go from the repository's folder to that in which the run was started."""
    cwd = environment.get("cwd")
    repository = _repository(environment, state)
    if not environment.get("script"):
        inner = path_text(state.get("prefix") or "")  # it was looked for from where it was started
    elif not cwd:
        return ["# the folder it was started in: not captured"]
    elif repository is None:
        return [f"# it was started in {clean(cwd)}"]
    else:
        try:
            inner = str(PurePosixPath(str(cwd)).relative_to(repository))
        except ValueError:
            return [f"# it was started outside of the repository, in {clean(cwd)}"]
    return [f"cd {_operand(inner)}"] if inner not in ("", ".") else []


def requirement_lines(run: StoredRun) -> list[str]:
    """The installed packages as ``pip install -r`` takes them, sorted by name."""
    lines = []
    for name, version in sorted(run.packages.items(), key=lambda item: item[0].lower()):
        sound = _REQUIREMENT.fullmatch(name) and _VERSION.fullmatch(version)
        lines.append(f"{name}=={version}" if sound else f"# {clean(f'{name} {version}')}")
    return lines
