"""Public data types without logic."""

from __future__ import annotations

import msgspec

__all__ = ["Settings", "__version__"]

__version__ = "0.1.0"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What a run captures by itself. Every capture can be switched off.

    Each field can also be set by an environment variable, ``TRACKWAY_`` and the field's name
    in capitals (``TRACKWAY_CONSOLE=0``); an argument to ``trackway.init`` wins over it.

    Attributes:
        companion: Start the companion process, which samples system metrics, captures git and
            the environment, and records the end of a run that could not say goodbye.
        console: Record what Python writes to ``sys.stdout`` and ``sys.stderr``.
        system: Sample system and GPU metrics.
        system_interval_s: Seconds between two samples; at least 0.1.
        git: Record commit, branch, remote, and the patch of uncommitted work.
        packages: Record the installed distributions and their versions.
        environment: Record command line, host, operating system, and job ids.
        patch_limit_bytes: A patch larger than this is described, not stored.
        untracked_limit_bytes: An untracked file larger than this is listed, not stored.
        redact_names: Further names whose values are masked (``"mycorp_key"``), matched
            case-insensitively against configuration keys, environment variables and options.
        redact_patterns: Further regular expressions whose every match is masked.
        all_ranks: Record on every rank of a distributed job, not on rank zero alone.
        quiet: Say nothing on the terminal when a run starts.
    """

    companion: bool = True
    console: bool = True
    system: bool = True
    system_interval_s: float = 10.0
    git: bool = True
    packages: bool = True
    environment: bool = True
    patch_limit_bytes: int = 64 << 20
    untracked_limit_bytes: int = 1 << 20
    redact_names: tuple[str, ...] = ()
    redact_patterns: tuple[str, ...] = ()
    all_ranks: bool = False
    quiet: bool = False
