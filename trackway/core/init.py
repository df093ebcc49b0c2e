"""``trackway.init``: from arguments and environment to a run that records."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from trackway.backend.file.attempts import Standing, standing
from trackway.backend.file.folder import default_root, make_root
from trackway.backend.file.process import process_started
from trackway.backend.file.writer import LogWriter
from trackway.core import current
from trackway.core._end import watch_for_end
from trackway.core._guard import guard, note, tell
from trackway.core._names import check_id, check_project, new_id, new_name
from trackway.core._settings import make_settings, process_rank
from trackway.core._values import as_mapping, plain
from trackway.core.disabled import DisabledRun
from trackway.core.run import Run, _told
from trackway.errors import ArgumentError
from trackway.types import Settings

if TYPE_CHECKING:
    from trackway.core._redact import Redactor

__all__ = ["init"]

_MODES = ("offline", "disabled")
_RESUME: dict[object, str] = {
    None: "allow",
    "allow": "allow",
    True: "allow",
    "must": "must",
    "never": "never",
    False: "never",
}
_REINIT: dict[object, str] = {
    True: "finish_previous",
    "finish_previous": "finish_previous",
    False: "return_previous",
    "return_previous": "return_previous",
    "create_new": "create_new",
}


def init(
    *,
    project: str | None = None,
    config: object = None,
    name: str | None = None,
    id: str | None = None,
    tags: Iterable[str] = (),
    notes: str | None = None,
    group: str | None = None,
    job_type: str | None = None,
    resume: str | bool | None = None,
    reinit: str | bool | None = None,
    mode: str | None = None,
    dir: str | os.PathLike[str] | None = None,
    server: str | None = None,
    settings: Settings | Mapping[str, Any] | None = None,
) -> Run:
    """Begin a run, or a further attempt of one.

    Everything the run is about to record goes into ``<dir>/<project>/<id>/``. Captures that take
    time (git, packages, hardware) happen in a companion process; this call does not wait for it.

    Args:
        project: The folder of related runs; ``TRACKWAY_PROJECT``, else ``default``.
        config: Hyperparameters: a dict, argparse namespace, dataclass, pydantic or attrs model,
            OmegaConf or absl object.
        name: A name for people; a memorable one by default.
        id: Names the run for ever; ``TRACKWAY_RUN_ID``, else by chance. Where the run exists, its
            next *attempt* begins: nothing is destroyed. Where it is being recorded by a living
            process, this process joins it.
        tags: Labels.
        notes: Free text.
        group: The group of runs that this one belongs to.
        job_type: What part of a larger job the run is.
        resume: ``allow`` (the default), ``must`` (the run has to exist) or ``never`` (it must not).
        reinit: What to do with a run still open in this program: ``create_new`` (leave it open;
            the default in scripts), ``finish_previous`` (the default in notebooks, where a cell is
            run again) or ``return_previous``.
        mode: ``offline`` (record into the folder) or ``disabled`` (record nothing);
            ``TRACKWAY_MODE``.
        dir: The folder that holds all projects; ``TRACKWAY_DIR``, else ``./trackway``.
        server: Reserved for a server's address.
        settings: What is captured; see ``trackway.Settings``.

    Returns:
        The open run, which is also ``trackway.run``. It ends with ``finish``, at the end of its
        ``with`` block, or with the program. On a rank other than zero of a distributed job it
        records nothing, unless ``settings.all_ranks``.

    Raises:
        ArgumentError: An argument is wrong; the message says what to pass. A disk that cannot be
            written raises nothing: the run is recorded elsewhere, and a sentence says where.
    """
    chosen = make_settings(settings)
    project = check_project(project or os.environ.get("TRACKWAY_PROJECT") or "default")
    run_id = check_id(id or os.environ.get("TRACKWAY_RUN_ID") or new_id())
    given_id = bool(id or os.environ.get("TRACKWAY_RUN_ID"))
    mode = _check_mode(mode, server)
    policy = _choice("resume", resume, _RESUME)
    root = _root(dir)
    fields = _fields(name, tags, notes, group, job_type)
    entries = {} if config is None else _check_config(config)
    previous = _previous(reinit)
    if previous is not None:
        return previous

    rank = process_rank()
    if mode == "disabled" or (rank > 0 and not chosen.all_ranks):
        run: Run = DisabledRun(project, run_id, root)
        run._fields.update(fields)
    else:
        if rank > 0 and not given_id:
            raise ArgumentError(
                "all_ranks: every rank needs the same run id; pass id= or set TRACKWAY_RUN_ID"
            )
        found = standing(root / project / run_id) if given_id else None
        if policy == "must" and found is None:
            raise ArgumentError(f"resume='must': there is no run {run_id!r} in {root / project}")
        if policy == "never" and found is not None:
            raise ArgumentError(f"resume='never': run {run_id!r} is already in {root / project}")
        run = _begin(root, project, run_id, found, fields, chosen, rank)
    current.opened(run)
    if entries:
        run.config.update(entries)
    run._tell_masked()
    return run


def _begin(
    root: Path,
    project: str,
    run_id: str,
    found: Standing | None,
    fields: dict[str, Any],
    settings: Settings,
    rank: int,
) -> Run:
    from trackway.core._redact import Redactor

    redactor = Redactor(settings.redact_names, settings.redact_patterns)
    # Whether a log of another machine that grew a moment ago means a living process of this
    # attempt, or one that was killed there just before this job was started again here.
    shared = rank > 0 or settings.all_ranks
    root = _usable(root, project, run_id)
    joins = found is not None and (found.live or (found.live_elsewhere and shared))
    attempt = 1 if found is None else found.attempt + (0 if joins else 1)
    child = rank > 0 or joins
    writer = LogWriter.create(
        root,
        project=project,
        run=run_id,
        role="worker" if child else "train",
        attempt=attempt,
        extra={"rank": rank} if rank or settings.all_ranks else {},
        tell=_told,
    )
    run = Run(
        root=root,
        project=project,
        id=run_id,
        attempt=attempt,
        writer=writer,
        redactor=redactor,
        first_step=0 if found is None or joins else found.next_step,
        rank=rank if settings.all_ranks else None,
        child=child,
    )
    run._settings = settings
    if found is None and "name" not in fields:
        fields["name"] = new_name()
    if fields:
        run._set(**fields)
    if not child:
        watch_for_end(current.end_all)
    if settings.console:
        _begin_console(run, redactor)
    if settings.companion and (not child or _first_here(rank)):
        _begin_companion(run, settings)
    if not settings.quiet and not child:
        with guard("greeting"):
            _greet(run)
    return run


def _root(dir: str | os.PathLike[str] | None) -> Path:
    try:
        return default_root() if dir is None else Path(dir).expanduser().absolute()
    except (OSError, RuntimeError):
        # The working directory was removed, or there is no home. A folder that is nowhere cannot
        # be written, and the run is recorded elsewhere.
        return Path("/") / "nowhere" / (dir or "trackway")


def _fields(
    name: str | None,
    tags: Iterable[str],
    notes: str | None,
    group: str | None,
    job_type: str | None,
) -> dict[str, Any]:
    if isinstance(tags, str):
        raise ArgumentError(f"tags={tags!r}: tags are several texts; write tags=[{tags!r}]")
    try:
        labels = list(dict.fromkeys(map(str, tags or ())))
    except TypeError:
        raise ArgumentError(f"tags={tags!r}: tags are a list of texts") from None
    texts = {"name": name, "notes": notes, "group": group, "job_type": job_type}
    for argument, value in texts.items():
        if value is not None and not isinstance(value, str):
            raise ArgumentError(f"{argument}={value!r}: it is a text")
    fields = {argument: value for argument, value in texts.items() if value}
    return fields | ({"tags": labels} if labels else {})


def _check_mode(mode: str | None, server: str | None) -> str:
    asked = mode or os.environ.get("TRACKWAY_MODE") or "offline"
    if mode is None and asked == "dryrun":
        asked = "offline"
    if server is not None or asked == "online":
        raise ArgumentError(
            "this release records into a folder: leave out server= and use mode='offline'"
        )
    if asked not in _MODES:
        raise ArgumentError(f"mode={asked!r}: it is one of {', '.join(_MODES)}")
    return asked


def _choice(argument: str, value: object, choices: dict[object, str]) -> str:
    try:
        return choices[value]
    except (KeyError, TypeError):
        told = ", ".join(sorted({repr(c) for c in choices.values()}))
        raise ArgumentError(f"{argument}={value!r}: it is one of {told}") from None


def _check_config(config: object) -> Mapping[str, object]:
    try:
        return as_mapping(config)
    except TypeError as error:
        raise ArgumentError(f"config: {error}") from None


def _previous(reinit: str | bool | None) -> Run | None:
    """The open run to go on with, if that is what is wanted; finishes it where that is."""
    wanted = "finish_previous" if _in_notebook() else "create_new"
    if reinit is not None:
        wanted = _choice("reinit", reinit, _REINIT)
    for call in current.before_use:
        call()
    runs = current.open_runs()
    if not runs or wanted == "create_new":
        return None
    if wanted == "return_previous":
        return runs[-1]
    runs[-1].finish()
    return None


def _in_notebook() -> bool:
    ipython: Any = sys.modules.get("IPython")
    if ipython is None:
        return False
    shell = getattr(ipython, "get_ipython", lambda: None)()
    return shell is not None and type(shell).__name__ == "ZMQInteractiveShell"


def _usable(root: Path, project: str, run_id: str) -> Path:
    """The root if the run's folder can be made and written there, else one that can.

    A folder that cannot be written must not cost the training its record.
    """
    try:
        _try(root, project, run_id)
    except OSError as error:
        import tempfile

        elsewhere = Path(tempfile.gettempdir()) / f"trackway-{_user()}"
        try:
            _try(elsewhere, project, run_id)
        except OSError:
            return root  # kept in memory, and tried again for as long as the run lasts
        reason = error.strerror or type(error).__name__
        note(
            "init",
            f"root {root}",
            f"{root} cannot be written ({reason}); this run is recorded in {elsewhere} instead. "
            f"Later, copy {elsewhere / project} into {root}.",
        )
        return elsewhere
    return root


def _try(root: Path, project: str, run_id: str) -> None:
    make_root(root)
    folder = root / project / run_id
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(13, "Permission denied")


def _user() -> str:
    return str(os.getuid()) if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")


def _first_here(rank: int) -> bool:
    """Whether this is the first process of a distributed job on this machine."""
    return rank > 0 and os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", "1")) == "0"


def _begin_console(run: Run, redactor: Redactor) -> None:
    from trackway.core._console import Console

    def emit(stream: str, first: int, lines: list[str]) -> None:
        run._event("console", {"stream": stream, "first": first, "lines": lines})

    with guard("console"):
        run._console = Console(emit, redactor.text)
        run._console.start()


def _begin_companion(run: Run, settings: Settings) -> None:
    with guard("companion"):
        from trackway.core._launch import launch
        from trackway.core.companion._spec import CompanionSpec

        main = sys.modules.get("__main__")
        script = getattr(main, "__file__", None)
        spec = CompanionSpec(
            root=str(run.root),
            project=run.project,
            run=run.id,
            attempt=run.attempt,
            pid=os.getpid(),
            process_started=process_started(os.getpid()),
            argv=list(map(str, getattr(sys, "orig_argv", sys.argv))),
            cwd=_folder(),
            script=None if script is None else str(Path(script).absolute()),
            settings=plain(msgspec.structs.asdict(settings)),
        )
        run._lifeline = launch(spec)
        if run._lifeline.reason:
            note("companion", "not started", f"no companion was started: {run._lifeline.reason}.")


def _folder() -> str:
    try:
        return str(Path.cwd())
    except OSError:
        return ""  # it was removed; the script's folder still says where the code is


def _greet(run: Run) -> None:
    try:
        where = os.path.relpath(run.path)
    except (ValueError, OSError):
        where = str(run.path)
    again = f", attempt {run.attempt}" if run.attempt > 1 else ""
    tell(f"run {run.name} ({run.id}{again}) is recorded in {min(where, str(run.path), key=len)}")
