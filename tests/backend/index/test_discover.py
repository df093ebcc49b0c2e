"""What changed in a root is found, whatever was done to it, and nothing is listed in vain."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from trackway.backend.index import discover
from trackway.backend.index.contract import RunRef
from trackway.backend.index.discover import Look, Seen, Sight

REF = RunRef("p", "run")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An empty root."""
    root = tmp_path / "runs"
    root.mkdir()
    return root


def put(path: Path, data: bytes = b"data") -> Path:
    """A file, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def listed(root: Path) -> dict[RunRef, dict[str, Seen]]:
    """The slow reference: everything is listed."""
    told: dict[RunRef, dict[str, Seen]] = {}
    for path in root.glob("*/*/*.log"):
        project, run = path.parent.parent.name, path.parent.name
        hidden = project.startswith(".") or run.startswith(".") or project == "blobs"
        if not hidden and path.is_file() and path.stat().st_size:
            status = path.stat()
            seen = Seen(status.st_ino, status.st_size, status.st_mtime_ns)
            told.setdefault(RunRef(project, run), {})[path.name] = seen
    return told


def settle(sight: Sight, monkeypatch: pytest.MonkeyPatch) -> Look:
    """Look when all that was done is long past."""
    with monkeypatch.context() as patch:
        now = time.time_ns() + 10 * discover.SETTLED_NS
        patch.setattr(time, "time_ns", lambda: now)
        return sight.all()


# -- any sequence of changes -----------------------------------------------------------------------


def changes(root: Path, beside: Path, chance: random.Random) -> list[Callable[[], object]]:
    """Things that may be done to a root now."""
    place = root / chance.choice(["p", "q", ".hidden", "blobs"]) / chance.choice("abc")
    log = place / chance.choice(["w1.log", "w2.log", ".w3.log", "notes.txt", "log"])
    folders = [path for path in root.glob("*/*") if path.is_dir()]
    files = [path for path in root.glob("*/*/*") if path.is_file()]
    old = chance.choice([0, 10**9, 1_600_000_000 * 10**9, time.time_ns() + 10**12])
    told: list[Callable[[], object]] = [lambda: put(log, b"x" * chance.randint(0, 3))] * 3
    if files:
        one, other = chance.choice(files), chance.choice(files)
        told += [lambda: put(one, one.read_bytes() + b"more")] * 2
        told += [
            lambda: os.truncate(one, 0),
            one.unlink,
            lambda: one.rename(other),
            lambda: one.rename(one.with_suffix(".log.copy")),
            lambda: os.utime(one, ns=(old, old)),
            lambda: shutil.copy2(one, beside / "copy") and (beside / "copy").rename(other),
        ]
    if folders:
        folder = chance.choice(folders)
        target = beside / f"away{chance.randint(0, 10**9)}"
        name = folder.parent / chance.choice(["d", "e", ".f"])
        told += [
            lambda: shutil.rmtree(folder) if not folder.is_symlink() else folder.unlink(),
            lambda: os.utime(folder, ns=(old, old)),
            lambda: os.utime(folder.parent, ns=(old, old)),
            lambda: None if name.exists() else folder.rename(name),
            lambda: swapped(folder, shutil.copytree(folder, target)),
            lambda: None if folder.is_symlink() else moved_out(folder, target),
            lambda: shutil.rmtree(folder.parent),
        ]
    return told


def swapped(folder: Path, copy: Path) -> None:
    """Another folder with the same times, and one more log, takes a folder's place."""
    times = folder.stat()
    put(copy / "swapped.log")
    os.utime(copy, ns=(times.st_atime_ns, times.st_mtime_ns))
    folder.rename(copy.with_suffix(".old"))
    copy.rename(folder)


def moved_out(folder: Path, target: Path) -> None:
    """A folder is moved elsewhere, and a link left."""
    folder.rename(target)
    folder.symlink_to(target)


@pytest.mark.parametrize("seed", range(12))
def test_whatever_is_done_is_found(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Each look, by the one that saw it all and one that remembers, is what listing tells."""
    chance = random.Random(seed)
    beside = tmp_path / "beside"
    beside.mkdir()
    sight, known = Sight(root), Look()
    for _ in range(60):
        for _ in range(chance.randint(1, 3)):
            chance.choice(changes(root, beside, chance))()
        wanted = listed(root)
        look = settle(sight, monkeypatch) if chance.random() < 0.7 else sight.all()
        assert look.logs == wanted
        assert look.gone >= known.logs.keys() - wanted.keys()
        assert not look.gone & wanted.keys() and not look.unreadable
        later = Sight(root)
        for ref, ctime in look.folders.items():
            later.remember(ref, ctime, look.logs[ref])
        refs = [RunRef(p, r) for p in "pq" for r in "abcde"]
        chance.choice(changes(root, beside, chance))()
        wanted = listed(root)
        for eyes in (later, sight):
            found = eyes.at(refs)
            assert found.logs == {ref: logs for ref, logs in wanted.items() if ref in refs}
            assert found.gone == set(refs) - wanted.keys()
            known = eyes.all()
            assert known.logs == wanted


# -- by themselves ---------------------------------------------------------------------------------


def test_nothing_is_listed_where_nothing_changed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Growing logs change no folder."""
    log = put(root / "p" / "run" / "w.log")
    sight = Sight(root)
    settle(sight, monkeypatch)

    def refuse(place: str) -> None:
        raise AssertionError(f"{place} was listed")

    with log.open("ab") as file:
        file.write(b"more")
    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", refuse)
        assert sight.all().logs[REF]["w.log"].size == 8
        assert sight.at([REF]).logs[REF]["w.log"].size == 8


def test_a_folder_whose_time_was_set_back_is_listed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As rsync does once it has filled it: the time is the same as before."""
    put(root / "p" / "run" / "a.log")
    for folder in (root / "p" / "run", root / "p", root):
        os.utime(folder, (1e9, 1e9))
    sight = Sight(root)
    settle(sight, monkeypatch)
    put(root / "p" / "run" / "b.log")
    put(root / "p" / "other" / "c.log")
    put(root / "q" / "run" / "d.log")
    for folder in (root / "p" / "run", root / "p", root):
        os.utime(folder, (1e9, 1e9))
    assert settle(sight, monkeypatch).logs == listed(root)
    assert len(listed(root)) == 3


def test_a_young_folder_is_listed_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its time may not have ticked on since."""
    put(root / "p" / "run" / "a.log")
    sight = Sight(root)
    look = sight.all()
    assert look.folders[REF] == 0
    listings: list[str] = []
    scandir = os.scandir

    def listing(place: str) -> object:
        listings.append(place)
        return scandir(place)

    monkeypatch.setattr(os, "scandir", listing)
    sight.at([REF])
    assert listings == [str(root / "p" / "run")]


def test_an_empty_log_is_waited_for(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also by whoever remembers the folder from a time when it was empty."""
    put(root / "p" / "run" / "a.log")
    late = put(root / "p" / "run" / "late.log", b"")
    look = settle(Sight(root), monkeypatch)
    assert look.logs[REF].keys() == {"a.log"}
    sight = Sight(root)
    sight.remember(REF, look.folders[REF], look.logs[REF])
    late.write_bytes(b"now")
    assert sight.all().logs[REF].keys() == {"a.log", "late.log"}


def test_a_file_system_without_ctime_is_listed_each_time(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ctime before the mtime is not relied on."""
    put(root / "p" / "run" / "a.log")
    future = time.time() + 1e6
    os.utime(root / "p" / "run", (future, future))
    assert settle(Sight(root), monkeypatch).folders[REF] == 0


def test_a_root_that_is_not_there_has_no_runs(root: Path, tmp_path: Path) -> None:
    """Nor has one that is a file; both may become one."""
    sight = Sight(tmp_path / "later")
    assert sight.all() == Look()
    put(tmp_path / "later")
    assert sight.all() == Look()
    (tmp_path / "later").unlink()
    put(tmp_path / "later" / "p" / "run" / "w.log")
    assert sight.all().logs.keys() == {REF}


def test_what_is_no_run_is_passed_over(root: Path) -> None:
    """Files in the place of projects and runs, hidden folders, blobs, links in a circle."""
    put(root / "p" / "run" / "w.log")
    put(root / "file")
    put(root / "p" / "file")
    put(root / "p" / "run" / "notes.txt")
    put(root / "p" / "without" / "notes.txt")
    put(root / ".git" / "run" / "w.log")
    put(root / "p" / ".run" / "w.log")
    put(root / "blobs" / "ab" / "w.log")
    (root / "circle").symlink_to("circle")
    (root / "p" / "circle").symlink_to("circle")
    (root / "p" / "run" / "c.log").symlink_to("c.log")
    look = Sight(root).all()
    assert look.logs.keys() == {REF}
    assert look.logs[REF].keys() == {"w.log"}


def test_links_are_followed(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To projects, runs and logs; also when what they lead to comes later, and goes."""
    away = tmp_path / "away"
    root.joinpath("p").mkdir()
    (root / "p" / "run").symlink_to(away / "run")
    (root / "q").symlink_to(away)
    sight = Sight(root)
    assert settle(sight, monkeypatch).logs == {}
    put(away / "run" / "w.log")
    (away / "run" / "v.log").symlink_to(tmp_path / "v")
    assert settle(sight, monkeypatch).logs == listed(root)
    put(tmp_path / "v", b"later")
    look = settle(sight, monkeypatch)
    assert look.logs == listed(root)
    assert look.logs[RunRef("q", "run")].keys() == look.logs[REF].keys() == {"v.log", "w.log"}
    shutil.rmtree(away)
    assert settle(sight, monkeypatch).gone == {REF, RunRef("q", "run")}


def test_a_name_that_is_no_text_is_found(root: Path) -> None:
    """Bytes that are no UTF-8, as a file system may hold."""
    path = os.fsencode(root / "p") + b"/r\xff"
    os.makedirs(path)  # noqa: PTH103 - paths hold text only
    with open(path + b"/w\xfe.log", "wb") as file:  # noqa: PTH123
        file.write(b"data")
    (ref,) = Sight(root).all().logs
    assert os.fsencode(ref.id) == b"r\xff"
