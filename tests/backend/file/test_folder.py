from __future__ import annotations

from pathlib import Path

import pytest

from trackway.backend.file.folder import default_root, logs, make_root, projects, run_folders
from trackway.errors import NotFoundError


def test_the_root_is_the_environments_or_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``TRACKWAY_DIR``, with a tilde, relative or absolute; else ``./trackway``."""
    assert default_root() == tmp_path / "trackway"
    monkeypatch.setenv("TRACKWAY_DIR", "here/runs")
    assert default_root() == tmp_path / "here" / "runs"
    monkeypatch.setenv("TRACKWAY_DIR", "~/runs")
    assert default_root() == Path.home() / "runs"
    monkeypatch.setenv("TRACKWAY_DIR", "")
    assert default_root() == tmp_path / "trackway"


def test_the_root_is_never_a_python_package(tmp_path: Path) -> None:
    """Who works on Trackway itself does not get runs among its sources."""
    (tmp_path / "trackway").mkdir()
    assert default_root() == tmp_path / "trackway"
    (tmp_path / "trackway" / "__init__.py").touch()
    assert default_root() == tmp_path / "trackway-data"


def test_a_new_root_is_kept_out_of_git(tmp_path: Path) -> None:
    """A folder that was there before is left as it is, and so is its .gitignore."""
    root = tmp_path / "a" / "runs"
    make_root(root)
    assert (root / ".gitignore").read_text() == "*\n"
    (root / ".gitignore").write_text("mine")
    make_root(root)
    assert (root / ".gitignore").read_text() == "mine"
    (tmp_path / "old").mkdir()
    make_root(tmp_path / "old")
    assert list((tmp_path / "old").iterdir()) == []


def test_a_root_that_another_process_makes_at_once_is_shared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both see that it is not there; the second finds it made."""
    root = tmp_path / "runs"
    make_root(root)
    (root / ".gitignore").write_text("the other's")
    seen, is_dir = iter([False]), Path.is_dir
    monkeypatch.setattr(Path, "is_dir", lambda path: next(seen, None) or is_dir(path))
    make_root(root)
    assert (root / ".gitignore").read_text() == "the other's"


def test_projects_are_folders_that_are_not_hidden(tmp_path: Path) -> None:
    """Sorted; neither files nor the blobs."""
    for name in ("b", "a b", "ü", ".hidden", "blobs"):
        (tmp_path / name).mkdir()
    (tmp_path / "file").touch()
    assert projects(tmp_path) == ["a b", "b", "ü"]


def test_no_root_is_not_found(tmp_path: Path) -> None:
    """The message says what to pass; a file is no root, either."""
    (tmp_path / "file").touch()
    for root in (tmp_path / "no", tmp_path / "file"):
        with pytest.raises(NotFoundError, match=f"there is no folder {root}; pass --dir"):
            projects(root)


def test_runs_are_folders_that_are_not_hidden(tmp_path: Path) -> None:
    """None where there is no such project."""
    for name in ("r1", "r2", ".beside"):
        (tmp_path / "p" / name).mkdir(parents=True)
    (tmp_path / "p" / "file").touch()
    assert sorted(run_folders(tmp_path, "p")) == [tmp_path / "p" / "r1", tmp_path / "p" / "r2"]
    assert list(run_folders(tmp_path, "no")) == []
    assert list(run_folders(tmp_path / "p", "file")) == []


def test_logs_are_the_files_of_that_name(tmp_path: Path) -> None:
    """Sorted; no folder, no link to nowhere, nothing that is still being put in its place."""
    for name in ("b.log", "a.log", "notes.txt", ".c.log.beside"):
        (tmp_path / name).touch()
    (tmp_path / "d.log").mkdir()
    (tmp_path / "e.log").symlink_to(tmp_path / "nowhere")
    (tmp_path / "f.log").symlink_to(tmp_path / "a.log")
    assert logs(tmp_path) == [tmp_path / "a.log", tmp_path / "b.log", tmp_path / "f.log"]
    assert logs(tmp_path / "no") == []
    assert logs(tmp_path / "a.log") == []
