from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import trackway
from trackway.backend.file.blobs import BlobStore
from trackway.errors import ArgumentError, NotFoundError

from .given import unmeasured

HOME = str(Path(trackway.__file__).parents[1])
ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def files(root: Path) -> list[str]:
    """Every file of the store, by its path in it."""
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_a_blob_lies_under_its_digest(tmp_path: Path) -> None:
    """Where docs/format/log.md says, with the bytes it was made of, and nothing beside it."""
    blobs = BlobStore(tmp_path)
    assert blobs.put(b"abc") == ABC
    assert files(tmp_path) == [f"blobs/sha256/ba/{ABC}"]
    assert blobs.path(ABC) == tmp_path / "blobs" / "sha256" / "ba" / ABC
    assert blobs.path(ABC).read_bytes() == b"abc"
    assert blobs.get(ABC) == b"abc"


@pytest.mark.parametrize("data", [b"", b"\x00", bytes(range(256)) * 5000])
def test_any_bytes_come_back(tmp_path: Path, data: bytes) -> None:
    """None, one, a megabyte."""
    blobs = BlobStore(tmp_path)
    digest = blobs.put(data)
    assert digest == hashlib.sha256(data).hexdigest()
    assert blobs.get(digest) == data


def test_putting_again_changes_the_time_alone(tmp_path: Path) -> None:
    """The file is the same one, and as young as if it were new: somebody refers to it now."""
    blobs = BlobStore(tmp_path)
    blobs.put(b"abc")
    os.utime(blobs.path(ABC), (1.0, 1.0))
    before = blobs.path(ABC).stat()
    assert blobs.put(b"abc") == ABC
    after = blobs.path(ABC).stat()
    assert before.st_ino == after.st_ino
    assert time.time() - after.st_mtime < 60


def test_a_blob_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    """The message names it."""
    with pytest.raises(NotFoundError, match=f"blob {ABC} is not in this folder"):
        BlobStore(tmp_path).get(ABC)


@pytest.mark.parametrize(
    "digest", ["", "abc", ABC.upper(), ABC + "\n", "../../../etc/passwd", "0" * 63, "g" * 64]
)
def test_what_is_no_digest_is_refused(tmp_path: Path, digest: str) -> None:
    """No path can be made of it."""
    blobs = BlobStore(tmp_path)
    for method in (blobs.path, blobs.get):
        with pytest.raises(ArgumentError, match="64 hexadecimal digits"):
            method(digest)


@pytest.mark.parametrize("content", [b"abd", b"ab", b"", b"abcd"])
def test_a_damaged_blob_is_never_handed_out(tmp_path: Path, content: bytes) -> None:
    """One byte changed, cut off, empty, too long."""
    blobs = BlobStore(tmp_path)
    blobs.put(b"abc")
    blobs.path(ABC).write_bytes(content)
    with pytest.raises(NotFoundError, match=f"blob {ABC} is damaged"):
        blobs.get(ABC)


@pytest.mark.parametrize("content", [b"abd", b"ab", b"", b"abcd"])
def test_a_damaged_blob_is_healed_by_putting_it_again(tmp_path: Path, content: bytes) -> None:
    """Whoever has the bytes makes it whole."""
    blobs = BlobStore(tmp_path)
    blobs.put(b"abc")
    blobs.path(ABC).write_bytes(content)
    assert blobs.put(b"abc") == ABC
    assert blobs.get(ABC) == b"abc"


def test_unfinished_blobs_are_ignored(tmp_path: Path) -> None:
    """What a killed process left beside is no blob, and in nobody's way."""
    blobs = BlobStore(tmp_path)
    place = blobs.path(ABC).parent
    place.mkdir(parents=True)
    (place / f".{ABC}.12345678.beside").write_bytes(b"ab")
    with pytest.raises(NotFoundError):
        blobs.get(ABC)
    assert blobs.put(b"abc") == ABC
    assert blobs.get(ABC) == b"abc"


@pytest.mark.parametrize("call", ["write_bytes", "replace", "mkdir"])
def test_a_blob_that_cannot_be_written_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """No file under the digest and none beside; the next attempt may succeed."""
    original = Path.write_bytes

    def fail(path: Path, *arguments: object, **keywords: object) -> None:
        if call == "write_bytes":
            original(path, b"a")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    blobs = BlobStore(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Path, call, fail)
        with pytest.raises(OSError, match=r"\[Errno 28\]"):
            blobs.put(b"abc")
    assert files(tmp_path) == []
    assert blobs.put(b"abc") == ABC
    assert blobs.get(ABC) == b"abc"


LIMITED = """
import resource, sys
from pathlib import Path
from trackway.backend.file.blobs import BlobStore
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, resource.RLIM_INFINITY))
blobs = BlobStore(Path(sys.argv[1]))
try:
    blobs.put(b"x" * 5001)
except OSError as error:
    print(error.errno)
print(blobs.put(b"x" * 5000))
"""


def test_a_file_that_may_not_be_that_large_leaves_nothing(tmp_path: Path) -> None:
    """EFBIG from a real file, after the first 5000 bytes."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path)],
        cwd=HOME,
        env=unmeasured(),
        capture_output=True,
        text=True,
    )
    digest = hashlib.sha256(b"x" * 5000).hexdigest()
    assert (done.stdout, done.stderr) == (f"{errno.EFBIG}\n{digest}\n", "")
    assert files(tmp_path) == [f"blobs/sha256/{digest[:2]}/{digest}"]


CROWD = """
import sys
from pathlib import Path
from trackway.backend.file.blobs import BlobStore
blobs, me = BlobStore(Path(sys.argv[1])), int(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
for turn in range(100):
    shared = b"shared %d" % turn * 1000
    mine = b"mine %d %d" % (me, turn)
    assert blobs.get(blobs.put(shared)) == shared
    assert blobs.get(blobs.put(mine)) == mine
"""


def test_processes_may_put_the_same_and_different_blobs_at_once(tmp_path: Path) -> None:
    """Six of them: whoever put a blob finds it whole at once, and nothing is left beside."""
    command = [sys.executable, "-c", CROWD, str(tmp_path)]
    crowd = [
        subprocess.Popen(
            [*command, str(me)],
            cwd=HOME,
            env=unmeasured(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for me in range(6)
    ]
    for process in crowd:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
    for process in crowd:
        assert process.stdin is not None
        process.stdin.write(b"go\n")
        process.stdin.flush()
    for process in crowd:
        process.communicate(timeout=60)
        assert process.returncode == 0
    expected = {hashlib.sha256(b"shared %d" % turn * 1000).hexdigest() for turn in range(100)}
    expected |= {
        hashlib.sha256(b"mine %d %d" % (me, turn)).hexdigest()
        for me in range(6)
        for turn in range(100)
    }
    assert [name.rpartition("/")[2] for name in files(tmp_path)] == sorted(expected)
