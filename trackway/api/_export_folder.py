"""Runs as a folder of files: a table of the runs, and beside it the points and files of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any, Final

from trackway.api._export_files import Files, locked, write_run_files
from trackway.api._export_manifest import MANIFEST, Entry, Manifest, unpack
from trackway.api._export_points import needs_pyarrow, write_points
from trackway.api._export_table import Rows, run_row, write_runs
from trackway.api._run import StoredRun
from trackway.backend.file.folder import logs
from trackway.backend.file.format import SYSTEM
from trackway.errors import ArgumentError

__all__ = [
    "FORMATS",
    "ExportReport",
    "NotEmptyError",
    "Options",
    "entry_rows",
    "export_runs",
    "source_of",
    "update",
]

FORMATS: Final = ("parquet", "csv", "jsonl")
Progress = Callable[[int, int], None]


class NotEmptyError(ArgumentError):
    """The folder holds something, and the export was not to go on with it.

    Attributes:
        folder: The folder.
        holds_export: Whether what it holds is an export that can be gone on with.
    """

    def __init__(self, folder: Path, *, holds_export: bool) -> None:
        self.folder = folder
        self.holds_export = holds_export
        super().__init__(self.told("resume=True"))

    def told(self, resume: str) -> str:
        """The message, with what one says to go on."""
        if self.holds_export:
            return (
                f"{self.folder} holds an export already: "
                f"go on with it ({resume}), or choose another folder"
            )
        return f"{self.folder} is not empty: choose another folder"


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What an export did.

    Attributes:
        folder: Where it is.
        runs: How many runs it holds.
        written: How many of them were written now.
        kept: How many were there already, whole and unchanged.
        removed: How many were taken out, as they are not among the runs any more.
        rows: Lines of points in the files that were written now.
        size_bytes: How large all files but the manifest are.
        missing: Stored files (patches, sources) that are not in the folder of the runs.
        refused: Paths of sources that no file here can have.
    """

    folder: Path
    runs: int = 0
    written: int = 0
    kept: int = 0
    removed: int = 0
    rows: int = 0
    size_bytes: int = 0
    missing: int = 0
    refused: int = 0


@dataclass(frozen=True, slots=True)
class Options:
    """How runs are written; all of one folder alike.

    Attributes:
        format: ``parquet``, ``csv`` or ``jsonl``.
        keys: Names of metrics or patterns; None for all.
        attempts: ``live`` or ``all``.
        repeats: ``last`` or ``all``.
    """

    format: str = "parquet"
    keys: tuple[str, ...] | None = None
    attempts: str = "live"
    repeats: str = "last"

    def __post_init__(self) -> None:
        for name, value, choices in (
            ("format", self.format, FORMATS),
            ("attempts", self.attempts, ("live", "all")),
            ("repeats", self.repeats, ("last", "all")),
        ):
            if value not in choices:
                raise ArgumentError(f"{name}={value!r}: it is one of {', '.join(choices)}")
        if self.format == "parquet":
            needs_pyarrow()

    def told(self) -> dict[str, Any]:
        """The options as the manifest has them."""
        keys = None if self.keys is None else list(self.keys)
        return {
            "format": self.format,
            "keys": keys,
            "attempts": self.attempts,
            "repeats": self.repeats,
        }


def export_runs(
    runs: Iterable[StoredRun],
    folder: Path,
    format: str = "parquet",
    *,
    keys: str | Iterable[str] | None = None,
    attempts: str = "live",
    repeats: str = "last",
    system: bool = False,
    files: bool = True,
    resume: bool = False,
    progress: Progress | None = None,
) -> ExportReport:
    """Write runs into a folder: ``runs.<format>``, ``points/``, ``system/``, ``files/``.

    One run is in memory at a time. Every file is written beside its place and then renamed, and
    ``manifest.jsonl`` notes what is there: an export that was killed goes on with ``resume``, and
    then holds exactly what one in one go would hold. Runs that are whole in the folder and did
    not change are left as they are; those not among ``runs`` are taken out.

    Args:
        runs: What to export, in the order the table of runs is to have.
        folder: Where to; it is made. One that holds anything is refused without ``resume``.
        format: ``parquet`` (a line a point), ``csv`` (a line a step, a column a metric) or
            ``jsonl`` (a line a ``log`` call).
        keys: Names of metrics, or patterns (``val/*``); a run without any has no points.
        attempts: ``live`` leaves out what a later attempt took back; ``all`` does not.
        repeats: ``last`` takes the last arrival at a step, ``all`` each one.
        system: Write the samples of the machine too.
        files: Write document, console, patch and sources of each run too.
        resume: Go on with what the folder holds.
        progress: Called with the number of runs done and their total.

    Raises:
        ArgumentError: The folder holds something else, or an export made otherwise; another
            export is writing to it; an argument is none of its values.
        MissingExtraError: Parquet, and pyarrow is not installed.
    """
    chosen = (keys,) if isinstance(keys, str) else None if keys is None else tuple(keys)
    options = Options(format, chosen, attempts, repeats)
    parts = ("points", *(["system"] if system else []), *(["files"] if files else []))
    folder = Path(folder)
    _prepare(folder, resume=resume)
    with locked(folder, wait=False), Files(folder) as place:
        manifest = Manifest(folder, {**options.told(), "parts": list(parts)})
        try:
            report, order = update(manifest, place, runs, options, parts, progress=progress)
            gone = [run for run in manifest if run not in order]
            for run in gone:
                _remove(manifest, place, run)
            place.write(
                f"runs.{format}",
                partial(_write_table, format=format, rows=partial(entry_rows, manifest, order)),
            )
            size = sum(told["bytes"] for told in place.take().values())
            size += sum(_bytes_of(manifest, run) for run in order)
            manifest.settle(order, place.beside)
        finally:
            manifest.close()
    return replace(report, removed=len(gone), size_bytes=size)


def _prepare(folder: Path, *, resume: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    there = [path.name for path in folder.iterdir()]
    if there and not resume:
        raise NotEmptyError(folder, holds_export=MANIFEST in there)
    if there and MANIFEST not in there and not {*there} <= {".beside"}:
        raise ArgumentError(f"{folder} holds no export to go on with: choose another folder")


def _write_table(path: Path, *, format: str, rows: Rows) -> int:
    return write_runs(rows, path, format)


def entry_rows(manifest: Manifest, order: Iterable[str]) -> Iterator[dict[str, Any]]:
    """The lines of the table of runs, of these runs."""
    for run in order:
        entry = manifest.get(run)
        if entry is not None:
            yield {name: unpack(value) for name, value in entry.row.items()}


def source_of(run: StoredRun) -> dict[str, Any]:
    """What a run's logs are now: by name, size in bytes and when last changed, in ns."""
    found = {}
    for path in logs(run.path):
        try:
            status = path.stat()
        except OSError:
            continue
        found[path.name] = [status.st_size, status.st_mtime_ns]
    return found


def update(
    manifest: Manifest,
    files: Files,
    runs: Iterable[StoredRun],
    options: Options,
    parts: Sequence[str],
    *,
    progress: Progress | None = None,
) -> tuple[ExportReport, dict[str, None]]:
    """Write what is not there yet of these runs.

    Returns:
        What was done, and the runs in their order (those that are there: with a log).
    """
    told = {"written": 0, "kept": 0, "rows": 0, "missing": 0, "refused": 0}
    order: dict[str, None] = {}
    total = len(runs) if isinstance(runs, Sequence) else 0
    for done, run in enumerate(runs, 1):
        name = f"{run.project}/{run.id}"
        # Before reading: what is written meanwhile makes the next export look again.
        source = source_of(run)
        if source:
            order[name] = None
            earlier = manifest.get(name)
            if earlier is not None and earlier.is_whole(files.folder, source, parts):
                told["kept"] += 1
            else:
                _write_run(manifest, files, _alone(run), source, options, parts, told)
        if progress is not None:
            progress(done, max(total, done))
    return ExportReport(files.folder, len(order), **told), order


def _alone(run: StoredRun) -> StoredRun:
    """The run read anew, so that what is read of it is let go of when it is written."""
    return StoredRun(run._root, run.project, run.id, run._index)


def _write_run(
    manifest: Manifest,
    files: Files,
    run: StoredRun,
    source: dict[str, Any],
    options: Options,
    parts: Sequence[str],
    told: dict[str, int],
) -> None:
    name = f"{run.project}/{run.id}"
    earlier = manifest.get(name)
    # What is there of other parts stays of the run as it is now.
    parts = sorted({*parts, *(earlier.parts if earlier else ())})
    missing: list[str] = []
    refused: list[str] = []
    if "points" in parts:
        _write_points(files, run, options)
    if "system" in parts and run._index.keys(run._ref, SYSTEM):
        _write_system(files, run, options)
    if "files" in parts:
        missing, refused = write_run_files(files, run)
    written = files.take()
    for path in {*(earlier.files if earlier else ())} - {*written}:
        files.remove(path)
    row = run_row(run)
    state = str(row["state"])
    manifest.add(Entry(name, state, source, tuple(parts), written, tuple(missing), row))
    told["written"] += 1
    told["missing"] += len(missing)
    told["refused"] += len(refused)
    told["rows"] += sum(file.get("rows", 0) for file in written.values())


def _remove(manifest: Manifest, files: Files, run: str) -> None:
    entry = manifest.get(run)
    for path in entry.files if entry else ():
        files.remove(path)
    manifest.remove(run)


def _bytes_of(manifest: Manifest, run: str) -> int:
    entry = manifest.get(run)
    return sum(told["bytes"] for told in entry.files.values()) if entry else 0


# -- the files of one run --------------------------------------------------------------------------


def _keys_of(run: StoredRun, options: Options) -> list[str]:
    there = run.keys()
    if options.keys is None:
        return there
    found: dict[str, None] = {}
    names = frozenset(there)
    for pattern in options.keys:
        fitting = [pattern] if pattern in names else [k for k in there if fnmatchcase(k, pattern)]
        found |= dict.fromkeys(fitting)
    return list(found)


def _write_points(files: Files, run: StoredRun, options: Options) -> None:
    from trackway.api import _export

    keys = _keys_of(run, options)
    path = f"points/{run.project}/{run.id}.{options.format}"
    if options.format == "parquet":
        write = partial(write_points, run, keys=keys)
        files.write(path, partial(write, attempts=options.attempts, repeats=options.repeats))
        return
    export = _export.export_csv if options.format == "csv" else _export.export_jsonl

    def make(place: Path) -> int:
        with place.open("wb") as file:
            return export(
                run,
                file.write,
                keys=keys,
                attempts=options.attempts,
                repeats=options.repeats,
            )

    files.write(path, make)


def _write_system(files: Files, run: StoredRun, options: Options) -> None:
    from trackway.api import _export

    path = f"system/{run.project}/{run.id}.{options.format}"
    if options.format == "parquet":
        keys = run._index.keys(run._ref, SYSTEM)
        files.write(path, lambda place: write_points(run, place, keys, space=SYSTEM))
        return
    export = _export.export_system_csv if options.format == "csv" else _export.export_system_jsonl

    def make(place: Path) -> int:
        with place.open("wb") as file:
            return export(run, file.write)

    files.write(path, make)
