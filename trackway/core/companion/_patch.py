"""A patch taken apart into the changes of single files, and put together again masked."""

from __future__ import annotations

import base64
import hashlib
import re
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    pass

_DIFF: Final = (
    *("diff", "--binary", "--full-index", "--no-ext-diff", "--no-textconv", "--no-color"),
    *("--src-prefix=a/", "--dst-prefix=b/", "--unified=3", "--inter-hunk-context=0"),
    *("--diff-algorithm=myers", "-O/dev/null", "--submodule=short", "--ignore-submodules=dirty"),
    "-M100%",  # renames of unchanged files: exact, cheap, and without a limit on their number
)

# The patch. Invariant: between two lines that begin with "diff --git " lies the change of exactly
# one file, because lines of content have a character before them and base85 has no space.

_INDEX: Final = re.compile(rb"^index (?P<old>[0-9a-f]{40,64})\.\.(?P<new>[0-9a-f]{40,64})", re.M)
_HUNK: Final = re.compile(rb"@@ -(?P<start>\d+)(?:,(?P<count>\d+))? \+")
_NOTE: Final = b"# Masked in the old text of this file; git applies the binary form that follows.\n"


def _sections(data: bytes) -> Iterator[bytes]:
    start = 0
    while start < len(data):
        stop = data.find(b"\ndiff --git ", start) + 1 or len(data)
        yield data[start:stop]
        start = stop


def _section_name(section: bytes) -> str:
    header = section.partition(b"\n")[0].rstrip(b'"')
    return header.rpartition(b"b/")[2].decode("utf-8", "replace")


def _changes_old_text(section: bytes, masked: bytes) -> bool:
    """Whether a line was masked that git compares with the file."""
    if section == masked:
        return False
    pairs = zip(section.split(b"\n"), masked.split(b"\n"), strict=True)
    return any(old != new and old[:1] in (b" ", b"-") for old, new in pairs)


def _as_delta(lines: list[bytes], index: re.Match[bytes], base: bytes) -> bytes:
    """The change of one file as a binary section: pieces of the old file, and the new lines."""
    first = next(at for at, line in enumerate(lines) if line.startswith(b"@@ "))
    header = [line for line in lines[:first] if not line.startswith((b"--- ", b"+++ "))]
    if not index["new"].strip(b"0"):
        return b"\n".join([*header, b"GIT binary patch", *_binary(b"literal", b"")])
    ends = [match.end() for match in re.finditer(rb"[^\n]*\n|[^\n]+$", base)]
    pieces: list[tuple[int, int] | bytes] = []
    at, before = 0, b""  # lines of the old file that are dealt with

    def keep(stop: int) -> None:
        if stop > at:
            pieces.append((ends[at - 1] if at else 0, ends[stop - 1]))

    for line in lines[first:]:
        kind, hunk = line[:1], _HUNK.match(line)
        if hunk:
            begin = int(hunk["start"]) - (hunk["count"] != b"0")
            keep(begin)
            at = begin
        elif kind in (b" ", b"-"):
            if kind == b" ":
                keep(at + 1)
            at += 1
        elif kind == b"+":
            pieces.append(line[1:] + b"\n")
        elif kind == b"\\" and before[:1] == b"+":  # no newline at the end of the file
            pieces[-1] = before[1:]
        before = line
    keep(len(ends))
    new = b"".join(part if isinstance(part, bytes) else base[slice(*part)] for part in pieces)
    hashed = hashlib.new("sha1" if len(index["old"]) == 40 else "sha256", usedforsecurity=False)
    hashed.update(b"blob %d\0" % len(new) + new)
    digest = hashed.hexdigest().encode()
    header = [
        line.replace(b".." + index["new"], b".." + digest) if line.startswith(b"index ") else line
        for line in header
    ]
    delta = _varint(len(base)) + _varint(len(new)) + b"".join(map(_operation, pieces))
    return b"\n".join([*header, b"GIT binary patch", *_binary(b"delta", delta)])


def _varint(number: int) -> bytes:
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _operation(piece: tuple[int, int] | bytes) -> bytes:
    """One step of git's delta format: insert these bytes, or copy from the old file."""
    out = bytearray()
    if isinstance(piece, bytes):
        for at in range(0, len(piece), 127):
            part = piece[at : at + 127]
            out += bytes([len(part)]) + part
        return bytes(out)
    for start in range(piece[0], piece[1], 0xFFFF):
        size = min(0xFFFF, piece[1] - start)
        numbers = start.to_bytes(4, "little") + size.to_bytes(2, "little")
        flags = sum(1 << bit for bit, number in enumerate(numbers) if number)
        out += bytes([0x80 | flags]) + bytes(number for number in numbers if number)
    return bytes(out)


def _binary(kind: bytes, data: bytes) -> Iterator[bytes]:
    """The lines of one hunk of a binary patch, with the empty line that ends it."""
    yield kind + b" %d" % len(data)
    packed = zlib.compress(data, 9)
    for at in range(0, len(packed), 52):
        part = packed[at : at + 52]
        length = 64 + len(part) if len(part) <= 26 else 70 + len(part)
        yield bytes([length]) + base64.b85encode(part, pad=True)
    yield b""
    yield b""
