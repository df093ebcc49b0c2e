"""What an export has written so far: one line of JSON a run, so that it can be taken up again.

A line is written once the files of its run are in place. Its reader takes the last whole line of
each run, so that a process that was killed in the middle costs the run it was at, and no more.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final

from trackway.api._document import json_value
from trackway.errors import ArgumentError

__all__ = ["MANIFEST", "VERSION", "Entry", "Manifest", "pack", "unpack"]

MANIFEST: Final = "manifest.jsonl"
VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """What was written of one run.

    Attributes:
        run: ``project/id``.
        state: The run's state then; one that was running is written again next time.
        source: By name of a log its size in bytes and when it was last changed, in ns.
        parts: ``points``, ``system``, ``files``: those that were written.
        files: By path in the folder: how many bytes, and rows where it has any.
        missing: Digests of stored files that were not there.
        row: The run's line in the table of runs, as ``pack`` makes it.
    """

    run: str
    state: str = "finished"
    source: Mapping[str, Any] = field(default_factory=dict)
    parts: tuple[str, ...] = ()
    files: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    row: Mapping[str, Any] = field(default_factory=dict)

    def is_whole(self, folder: Path, source: Mapping[str, Any], parts: Iterable[str]) -> bool:
        """Whether it holds these parts of what the logs hold now, and all files are there."""
        if self.state == "running" or self.missing or not {*parts} <= {*self.parts}:
            return False
        return self.source == source and all(
            _size(folder / path) == told["bytes"] for path, told in self.files.items()
        )


class Manifest:
    """The lines of a manifest, found by run; only their places are kept in memory.

    Args:
        folder: The folder of the export, which is there.
        options: What all runs in the folder are written with.

    Raises:
        ArgumentError: The manifest is of other options, or of a later release.
    """

    def __init__(self, folder: Path, options: Mapping[str, Any]) -> None:
        self.path = folder / MANIFEST
        self._head = {"trackway_export": VERSION, **options}
        self._places: dict[str, int] = {}
        self._end = 0
        self._read()
        self._file: BinaryIO = self.path.open("r+b" if self._end else "w+b")
        self._file.truncate(self._end)
        if not self._end:
            self._append(self._head)

    def _read(self) -> None:
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            head = _line(file.readline())
            if head is None:
                return
            self._check(head)
            self._end = file.tell()
            for line in file:
                told = _line(line)
                if told is None:
                    return  # the end of a process that was killed
                self._places[told["run"]] = self._end
                self._end += len(line)

    def _check(self, head: Mapping[str, Any]) -> None:
        if head.get("trackway_export") != VERSION:
            raise ArgumentError(f"{self.path} was written by another release of trackway")
        other = [name for name, value in self._head.items() if head.get(name) != value]
        if other:
            told = ", ".join(f"{name} {head.get(name)!r}" for name in other)
            raise ArgumentError(f"{self.path.parent} holds an export with {told}: go on with that")

    def _append(self, line: Mapping[str, Any]) -> int:
        at = self._file.seek(0, os.SEEK_END)
        self._file.write(json.dumps(line, allow_nan=False).encode() + b"\n")
        self._file.flush()
        return at

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._places))

    def __contains__(self, run: str) -> bool:
        return run in self._places

    def get(self, run: str) -> Entry | None:
        """What was written of a run last."""
        if run not in self._places:
            return None
        self._file.seek(self._places[run])
        told = _line(self._file.readline())
        assert told is not None
        return Entry(**{**told, "parts": tuple(told["parts"]), "missing": tuple(told["missing"])})

    def add(self, entry: Entry) -> None:
        """Note what is in place now; on return a killed process does not forget it."""
        self._places[entry.run] = self._append(asdict(entry))

    def remove(self, run: str) -> None:
        """Forget a run. Lasts from ``settle`` on."""
        self._places.pop(run, None)

    def settle(self, order: Iterable[str], beside: Path) -> None:
        """Write the manifest anew: one line a run, these first, the others as they came."""
        with beside.open("wb") as file:
            file.write(json.dumps(self._head, allow_nan=False).encode() + b"\n")
            for run in dict.fromkeys([*order, *self._places]):
                if run in self._places:
                    self._file.seek(self._places[run])
                    line = self._file.readline()
                    self._places[run] = file.tell()
                    file.write(line)
        self._file.close()
        beside.replace(self.path)
        self._file = self.path.open("r+b")

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


def _line(line: bytes) -> dict[str, Any] | None:
    if not line.endswith(b"\n"):
        return None
    try:
        told = json.loads(line)
    except ValueError:
        return None
    return told if isinstance(told, dict) else None


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def pack(value: object) -> Any:
    """A value of a flattened mapping as JSON, NaN, infinities and any integer told apart."""
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(value)}
    if isinstance(value, int) and value.bit_length() > 64:
        return {"int": hex(value)}
    return json_value(value)


def unpack(told: Any) -> Any:
    """The value that ``pack`` was given; inside of lists NaN and infinities stay text."""
    if isinstance(told, dict) and len(told) == 1:
        if "float" in told:
            return float(told["float"])
        if "int" in told:
            return int(told["int"], 16)
    return told
