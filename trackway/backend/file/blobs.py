"""Content-addressed files: a blob is written beside its place, then renamed into it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from pathlib import Path

from trackway.errors import ArgumentError, NotFoundError

_PART_BYTES = 1 << 20
_DIGEST = re.compile(r"[0-9a-f]{64}")


class BlobStore:
    """Bytes under the SHA-256 of their content, in ``<root>/blobs/sha256/ab/<digest>``.

    Any number of processes may put the same or different blobs at once: a blob is complete
    from the moment it has its name, and putting it again changes nothing but its time, which says
    that it is in use: whoever removes blobs that nothing refers to spares the young ones.
    """

    def __init__(self, root: Path) -> None:
        self._folder = Path(root) / "blobs" / "sha256"

    def path(self, digest: str) -> Path:
        """Where the blob of this digest is, or would be."""
        if not _DIGEST.fullmatch(digest):
            raise ArgumentError(f"a blob is named by 64 hexadecimal digits, not {digest!r}")
        return self._folder / digest[:2] / digest

    def put(self, data: bytes) -> str:
        """Store the bytes and return their digest.

        On return a killed process loses nothing; a power cut may.

        Raises:
            OSError: The bytes could not be written; no partial blob is left under the digest.
        """
        digest = hashlib.sha256(data).hexdigest()
        target = self.path(digest)
        with contextlib.suppress(OSError):
            # A power cut can leave a renamed file that is short, or whose blocks are zeros: only
            # a whole one counts as there.
            if target.stat().st_size == len(data) and _holds(target, data) and _touched(target):
                return digest
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = target.with_name(f".{digest}.{os.urandom(4).hex()}.beside")
        try:
            beside.write_bytes(data)
            beside.replace(target)
        except OSError:
            with contextlib.suppress(OSError):
                beside.unlink()
            raise
        return digest

    def get(self, digest: str) -> bytes:
        """The bytes of a blob, checked against their digest.

        Raises:
            NotFoundError: There is no such blob, or its bytes are not what was stored.
        """
        try:
            data = self.path(digest).read_bytes()
        except FileNotFoundError:
            raise NotFoundError(f"blob {digest} is not in this folder") from None
        if hashlib.sha256(data).hexdigest() != digest:
            raise NotFoundError(f"blob {digest} is damaged: its content has another digest")
        return data


def _touched(path: Path) -> bool:
    """Mark the blob as in use; False where it was removed just now."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    except OSError:  # another user's, or a disk that is read only: it is there all the same
        return True
    return True


def _holds(path: Path, data: bytes) -> bool:
    """Whether the file begins with these bytes; reads a part of it at a time."""
    view = memoryview(data)
    with path.open("rb") as file:
        return all(
            file.read(_PART_BYTES) == view[at : at + _PART_BYTES]
            for at in range(0, len(data), _PART_BYTES)
        )
