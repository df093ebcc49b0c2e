"""The way in: a folder, its projects, their runs."""

from __future__ import annotations

import os
from pathlib import Path

from trackway.api._run import StoredRun
from trackway.backend.file.attempts import first_header
from trackway.backend.file.folder import default_root, logs, projects, run_folders
from trackway.errors import NotFoundError

__all__ = ["Api"]


def _begun(paths: list[Path]) -> float:
    """When the first of these logs was begun, by their headers alone."""
    headers = filter(None, map(first_header, paths))
    return min((header.created for header in headers), default=0.0)


class Api:
    """Reads the runs in a folder. Writes nothing, and may be used while runs are recorded.

    Args:
        root: The folder that holds all projects; ``TRACKWAY_DIR``, else ``./trackway``.
    """

    def __init__(self, root: str | os.PathLike[str] | None = None) -> None:
        self.root = default_root() if root is None else Path(root).expanduser().absolute()

    def projects(self) -> list[str]:
        """The names of all projects, sorted.

        Raises:
            NotFoundError: The folder does not exist.
        """
        return projects(self.root)

    def runs(self, project: str | None = None) -> list[StoredRun]:
        """The runs of a project, or of all, newest first.

        Raises:
            NotFoundError: There is no such project.
        """
        there = self.projects()
        if project is not None and project not in there:
            told = ", ".join(there) or "none yet"
            raise NotFoundError(f"no project {project!r} in {self.root}; there are: {told}")
        found = [
            (-_begun(paths), folder.name, StoredRun(self.root, name, folder.name))
            for name in (there if project is None else [project])
            for folder in run_folders(self.root, name)
            if (paths := logs(folder))
        ]
        return [run for _, _, run in sorted(found, key=lambda entry: entry[:2])]

    def run(self, which: str) -> StoredRun:
        """One run by ``project/id``, id, or name; the newest where a name was used again.

        Raises:
            NotFoundError: No run, or several ids, fit.
        """
        project, slash, run_id = which.rpartition("/")
        for name in [project] if slash else self.projects():
            if run_id and logs(self.root / name / run_id):
                return StoredRun(self.root, name, run_id)
        known = self.runs(project or None)
        fitting = [run for run in known if run.name == run_id]
        if not fitting and len(run_id) >= 3:
            fitting = [run for run in known if run.id.startswith(run_id)]
            if len(fitting) > 1:
                told = ", ".join(f"{run.project}/{run.id}" for run in fitting[:10])
                raise NotFoundError(f"{which!r} fits several runs: {told}")
        if not fitting:
            told = ", ".join(run.name for run in known[:10]) or "none"
            raise NotFoundError(f"no run {which!r} in {self.root}; the newest are: {told}")
        return fitting[0]
