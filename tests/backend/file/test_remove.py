"""A run that is removed is gone whole, with what only it used."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from trackway.backend.file import remove
from trackway.backend.file._survey import alone
from trackway.backend.file.blobs import BlobStore
from trackway.backend.file.compact import compact
from trackway.backend.file.remove import RemoveReport, finish_removals, remove_run
from trackway.backend.file.writer import LogWriter
from trackway.errors import ArgumentError, NotFoundError

from .given import unmeasured


def a_run(root: Path, run: str, *digests: str) -> Path:
    """A run that has ended and refers to these blobs."""
    writer = LogWriter.create(root, project="project", run=run)
    writer.row({"loss": 1.0}, 0)
    writer.event("git", {"untracked": [{"blob": digest} for digest in digests]})
    writer.event("end", {"state": "finished"})
    writer.close()
    return root / "project" / run


def test_a_run_goes_with_what_only_it_uses(tmp_path: Path) -> None:
    """Bytes and files are exact, and nothing else is touched."""
    store = BlobStore(tmp_path)
    own, shared, other = (store.put(text) for text in (b"own", b"shared", b"other!"))
    folder = a_run(tmp_path, "one", own, shared)
    a_run(tmp_path, "two", shared)
    (folder / "more").mkdir()
    (folder / "more" / "file").write_bytes(b"12345")
    (tmp_path / ".gitignore").write_text("*\n")
    count = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert remove_run(tmp_path, "project", "one") == RemoveReport(count + 3, 2, 1)
    assert not store.path(own).exists()
    assert store.get(shared) == b"shared"
    assert store.get(other) == b"other!"
    assert [path.name for path in (tmp_path / "project").iterdir()] == ["two"]
    assert (tmp_path / ".gitignore").read_text() == "*\n"


def test_the_id_can_be_used_again(tmp_path: Path) -> None:
    """For a new run, which may be removed as well."""
    for _ in range(2):
        folder = a_run(tmp_path, "one")
        remove_run(tmp_path, "project", "one")
        assert not folder.exists()


@pytest.mark.parametrize("name", ["none", "..", ".hidden", "", "one/two"])
def test_only_runs_can_be_removed(tmp_path: Path, name: str) -> None:
    """Nothing else, whatever it is called."""
    a_run(tmp_path, "one")
    (tmp_path / "project" / ".hidden").mkdir()
    with pytest.raises(NotFoundError):
        remove_run(tmp_path, "project", name)


def test_a_folder_without_a_log_is_no_run(tmp_path: Path) -> None:
    """Somebody else's files are not ours to remove."""
    (tmp_path / "project" / "mine").mkdir(parents=True)
    (tmp_path / "project" / "mine" / "thesis").touch()
    with pytest.raises(NotFoundError):
        remove_run(tmp_path, "project", "mine")


def test_a_link_is_refused(tmp_path: Path) -> None:
    """What it leads to belongs to somebody else."""
    folder = a_run(tmp_path / "elsewhere", "one")
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "one").symlink_to(folder)
    with pytest.raises(ArgumentError, match="is a link"):
        remove_run(tmp_path, "project", "one")
    assert folder.exists()


def test_a_live_run_is_refused_unless_forced(tmp_path: Path) -> None:
    """It would put its log back."""
    writer = LogWriter.create(tmp_path, project="project", run="one")
    writer.row({"loss": 1.0}, 0)
    with pytest.raises(ArgumentError, match="still being recorded"):
        remove_run(tmp_path, "project", "one")
    assert (tmp_path / "project" / "one").exists()
    assert remove_run(tmp_path, "project", "one", force=True).files == 1
    assert not (tmp_path / "project" / "one").exists()
    writer.close(timeout_s=0.0)


# -- blobs -----------------------------------------------------------------------------------------


def test_a_young_blob_stays_while_a_run_is_live(tmp_path: Path) -> None:
    """The live one may be about to refer to it: it has put it, and not yet said so."""
    store = BlobStore(tmp_path)
    young, old = store.put(b"young"), store.put(b"old")
    a_run(tmp_path, "one", young, old)
    writer = LogWriter.create(tmp_path, project="project", run="live")
    an_hour_ago = time.time() - remove.YOUNG_S - 1
    for digest in (young, old):
        os.utime(store.path(digest), (an_hour_ago, an_hour_ago))
    assert store.put(b"young") == young
    assert remove_run(tmp_path, "project", "one").blobs == 1
    assert (store.path(young).exists(), store.path(old).exists()) == (True, False)
    writer.event("git", {"patch": {"blob": young}})
    writer.close()


def test_a_blob_that_is_put_just_now_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it is put while it is being removed."""
    store = BlobStore(tmp_path)
    digest = store.put(b"blob")
    path = store.path(digest)
    os.utime(path, (1.0, 1.0))
    rename = Path.rename

    def renamed(self: Path, target: Path) -> Path:
        if self == path:
            assert store.put(b"blob") == digest
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", renamed)
    report = remove.remove_blobs(tmp_path, {digest})
    waits = RemoveReport(blobs_waiting=1, blobs_wait_until=path.stat().st_mtime + 3600.0)
    assert report == waits
    assert store.get(digest) == b"blob"
    monkeypatch.setattr(Path, "rename", rename)
    assert remove.remove_blobs(tmp_path, {digest}) == RemoveReport(4, 0, 1)
    assert list(path.parent.iterdir()) == []


def test_a_digest_anywhere_in_a_log_keeps_the_blob(tmp_path: Path) -> None:
    """Within a longer word, in another project, in a log that is damaged."""
    store = BlobStore(tmp_path)
    digests = [store.put(bytes([number])) for number in range(3)]
    a_run(tmp_path, "one", *digests)
    writer = LogWriter.create(tmp_path, project="other", run="two")
    writer.event("console", {"lines": [f"abc{digests[0]}def", f"blobs/{digests[1]}.bin"]})
    writer.event("end", {"state": "finished"})
    writer.close()
    data = bytearray(writer.path.read_bytes())
    data[5] ^= 1
    writer.path.write_bytes(data)
    assert remove_run(tmp_path, "project", "one").blobs == 1
    assert [store.path(digest).exists() for digest in digests] == [True, True, False]


def waiting(root: Path) -> list[str]:
    """What the notes of blobs that wait say."""
    return [path.read_text() for path in (root / "blobs").glob(".*.waiting")]


def test_what_waits_goes_with_the_next_removal(tmp_path: Path) -> None:
    """Its digest is written down, though the run that told of it is gone; then it is collected."""
    store = BlobStore(tmp_path)
    patch = store.put(b"a secret")
    a_run(tmp_path, "one", patch)
    writer = LogWriter.create(tmp_path, project="project", run="live")
    writer.row({"loss": 1.0}, 0)
    until = store.path(patch).stat().st_mtime + remove.YOUNG_S
    report = remove_run(tmp_path, "project", "one")
    assert (report.blobs, report.blobs_waiting, report.blobs_wait_until) == (0, 1, until)
    assert waiting(tmp_path) == [f"{patch}\n"]
    for _ in range(2):
        assert finish_removals(tmp_path) == RemoveReport(0, 0, 0, 1, until)
        assert waiting(tmp_path) == [f"{patch}\n"]
    writer.event("end", {"state": "finished"})
    writer.close()
    assert finish_removals(tmp_path) == RemoveReport(8, 0, 1)
    assert not store.path(patch).exists()
    assert waiting(tmp_path) == []


def test_what_waits_goes_once_it_is_old(tmp_path: Path) -> None:
    """Also while a run is live."""
    store = BlobStore(tmp_path)
    one, two = store.put(b"one"), store.put(b"two")
    a_run(tmp_path, "one", one)
    a_run(tmp_path, "two", two)
    writer = LogWriter.create(tmp_path, project="project", run="live")
    writer.row({"loss": 1.0}, 0)
    remove_run(tmp_path, "project", "one")
    assert remove_run(tmp_path, "project", "two").blobs_waiting == 2
    assert waiting(tmp_path) == ["".join(f"{digest}\n" for digest in sorted((one, two)))]
    os.utime(store.path(one), (1.0, 1.0))
    report = compact(tmp_path)
    assert (report.blobs_removed, report.blobs_waiting) == (1, 1)
    assert waiting(tmp_path) == [f"{two}\n"]
    writer.close()


def test_what_a_live_run_came_to_use_waits_no_more(tmp_path: Path) -> None:
    """It belongs to that run now."""
    store = BlobStore(tmp_path)
    patch = store.put(b"patch")
    a_run(tmp_path, "one", patch)
    writer = LogWriter.create(tmp_path, project="project", run="live")
    writer.row({"loss": 1.0}, 0)
    assert remove_run(tmp_path, "project", "one").blobs_waiting == 1
    writer.event("git", {"patch": {"blob": patch}})
    assert finish_removals(tmp_path) == RemoveReport()
    assert waiting(tmp_path) == []
    writer.close()
    assert store.get(patch) == b"patch"


def test_a_folder_that_somebody_may_put_back_is_left_to_him(tmp_path: Path) -> None:
    """It is locked by whoever renamed it, until he has looked at it."""
    folder = a_run(tmp_path, "one")
    with alone(folder):
        aside = remove.put_aside(folder)
        assert finish_removals(tmp_path) == RemoveReport()
        assert aside.exists()
        remove.put_back(aside, folder)
    assert folder.exists()
    remove.put_aside(folder)
    assert finish_removals(tmp_path).files == 1


def test_a_run_is_put_back_beside_what_came_meanwhile(tmp_path: Path) -> None:
    """No log is lost."""
    folder = a_run(tmp_path, "one")
    aside = remove.put_aside(folder)
    names = {path.name for path in aside.iterdir()}
    folder.mkdir()
    (folder / "new.log").write_bytes(b"new")
    remove.put_back(aside, folder)
    assert {path.name for path in folder.iterdir()} == {*names, "new.log"}
    finish_removals(tmp_path)
    assert [path.name for path in (tmp_path / "project").iterdir()] == ["one"]


# -- death -----------------------------------------------------------------------------------------

CHILD = """
import os, shutil, signal, sys
from pathlib import Path
from trackway.backend.file import remove
def die(*arguments, **named):
    os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[2] == "blobs":
    remove.remove_blobs = die
elif sys.argv[2] == "tree":
    shutil.rmtree = die
elif sys.argv[2] == "rename":
    Path.rename = die
remove.remove_run(Path(sys.argv[1]), "project", "one")
"""


@pytest.mark.parametrize("place", ["rename", "blobs", "tree"])
@pytest.mark.parametrize("finisher", ["rm", "compact"])
def test_a_kill_leaves_the_run_or_none(tmp_path: Path, place: str, finisher: str) -> None:
    """What is left is under a name no reader looks at; the next one finishes it."""
    store = BlobStore(tmp_path)
    own = store.put(b"own")
    folder = a_run(tmp_path, "one", own)
    a_run(tmp_path, "two")
    died = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path), place],
        env=unmeasured(),
        cwd=Path(__file__).parents[3],
        check=False,
    )
    assert died.returncode == -signal.SIGKILL
    assert folder.exists() is (place == "rename")
    left = [p.name for p in (tmp_path / "project").iterdir() if p.name not in ("one", "two")]
    assert all(re.fullmatch(r"\.one\.[0-9a-f]{8}\.removed", name) for name in left)
    assert len(left) == (place != "rename")
    if place == "rename":
        remove_run(tmp_path, "project", "one")
    elif finisher == "rm":
        assert finish_removals(tmp_path).files == 1
    else:
        assert compact(tmp_path).bytes_before > 0
    assert [path.name for path in (tmp_path / "project").iterdir()] == ["two"]
    assert not store.path(own).exists()
