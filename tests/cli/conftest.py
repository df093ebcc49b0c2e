"""Runs written with the real writer, and the command line called on them."""

from __future__ import annotations

import errno
import json
import os
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from trackway.backend.file.blobs import BlobStore
from trackway.backend.file.format import Header
from trackway.backend.file.process import process_started
from trackway.backend.file.reader import Batch, LogReader
from trackway.backend.file.writer import LogWriter
from trackway.cli import cli

BEGAN = 1_750_000_000.0
"""When the runs of the tests began, unless they say otherwise: 15 June 2025."""


class Recording:
    """A run as it is being written; every method appends to its log."""

    def __init__(self, root: Path, project: str, run: str, **header: Any) -> None:
        self.root, self.project, self.id = root, project, run
        self.began = float(header.pop("created", BEGAN))
        told = {"role": "train", "host": "somewhere", "pid": 1, "attempt": 1, **header}
        name = f"{told['host']}.{told['attempt']}.{told['role']}.log"
        self.path = root / project / run / name
        self.writer = LogWriter(
            self.path,
            Header(
                run, project, self.path.stem, f"{os.urandom(16).hex()}", created=self.began, **told
            ),
        )
        self.blobs = BlobStore(root)

    def event(self, type: str, after: float = 0.0, **fields: object) -> Recording:
        """Append an event, so many seconds after the run began."""
        assert self.writer.event(type, fields, self.began + after)
        return self

    def named(self, name: str, **fields: object) -> Recording:
        """Set the name, and tags, notes, group, job_type."""
        return self.event("run", set={"name": name, **fields})

    def assign(
        self, type: str, *pairs: object, after: float = 0.0, deleted: Iterable[object] = ()
    ) -> Recording:
        """Assign [path, value] pairs of ``config`` or ``summary``, and delete paths."""
        fields: dict[str, Any] = {"set": list(pairs), "del": list(deleted)}
        return self.event(type, after, **fields)

    def config(self, after: float = 0.0, **values: object) -> Recording:
        """Assign configuration values; a double underscore stands for a dot."""
        return self.assign("config", *_pairs(values), after=after)

    def summary(self, **values: object) -> Recording:
        """Assign summary values."""
        return self.assign("summary", *_pairs(values))

    def define(self, name: str, goal: str | None = None, *kinds: str, **more: object) -> Recording:
        """Define a metric."""
        fields: dict[str, Any] = {"summary": list(kinds) or None, "goal": goal, "hidden": False}
        return self.event("define", **{"name": name, "step_metric": None, **fields, **more})

    def row(
        self,
        step: int,
        values: Mapping[str, float],
        *,
        after: float | None = None,
        types: str | None = None,
        space: str = "metric",
    ) -> Recording:
        """Append a row, by default as many seconds after the beginning as its step."""
        time = self.began + (step if after is None else after)
        assert self.writer.row(values, step, space=space, time=time, types=types)
        return self

    def rows(self, key: str, values: Iterable[float]) -> Recording:
        """A value of one metric at steps 0, 1, 2, …"""
        for step, value in enumerate(values):
            self.row(step, {key: value})
        return self

    def end(self, after: float = 60.0, state: str = "finished", **fields: object) -> Recording:
        """Let the run end, and close its log."""
        told: dict[str, Any] = {"exit_code": 0, "exception": None, "lost_points": 0, "skipped": 0}
        self.event("end", after, **{"state": state, "refused": {}, **told, **fields})
        self.writer.close()
        return self


def _pairs(values: Mapping[str, object]) -> list[object]:
    return [[name.split("__"), value] for name, value in values.items()]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder for runs."""
    return tmp_path / "runs"


@pytest.fixture
def record(root: Path) -> Callable[..., Recording]:
    """Begin to write a run, of project ``digits`` and id ``abc12345`` unless told."""

    def begin(run: str = "abc12345", project: str = "digits", **header: Any) -> Recording:
        return Recording(root, project, run, **header)

    return begin


@pytest.fixture
def alive() -> dict[str, Any]:
    """Header fields of a writer that is a living process: this one."""
    pid = os.getpid()
    return {"host": socket.gethostname(), "pid": pid, "process_started": process_started(pid)}


@pytest.fixture
def refuse(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Let the system refuse to open this log, as it would one of another user."""

    def refused(path: Path) -> None:
        opened = LogReader.stretches

        def stretches(reader: LogReader) -> Iterator[Batch]:
            if reader.path == path:
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return opened(reader)

        monkeypatch.setattr(LogReader, "stretches", stretches)

    return refused


class Command:
    """The command line, on the test's folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __call__(self, *arguments: str, width: int = 160, code: int = 0) -> str:
        """What the command prints; it must end with this exit code."""
        result = self.result(*arguments, width=width)
        assert result.exit_code == code, (result.output, result.exception)
        return result.stdout

    def result(self, *arguments: str, width: int = 160) -> Result:
        """How the command ends."""
        return CliRunner().invoke(
            cli,
            ["--dir", str(self.root), *arguments],
            env={"COLUMNS": str(width), "TERM": "dumb", "NO_COLOR": "1"},
            prog_name="trackway",
            catch_exceptions=False,
        )

    def colours(self, *arguments: str) -> str:
        """What the command prints on a terminal that shows colours."""
        return (
            CliRunner()
            .invoke(
                cli,
                ["--dir", str(self.root), *arguments],
                env={"COLUMNS": "160", "TERM": "xterm", "FORCE_COLOR": "1", "NO_COLOR": None},
                prog_name="trackway",
                catch_exceptions=False,
                color=True,
            )
            .stdout
        )

    def json(self, *arguments: str, code: int = 0) -> Any:
        """The document that the command prints with ``--json``."""
        return json.loads(self(*arguments, "--json", code=code), parse_constant=pytest.fail)


@pytest.fixture
def trackway(root: Path) -> Command:
    """The command line, on the test's folder."""
    return Command(root)
