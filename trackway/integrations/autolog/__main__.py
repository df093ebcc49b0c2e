"""``python -m trackway.integrations.autolog``: the status of every framework, as JSON.

With ``--check`` each installed framework is imported and patched, in a process of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from trackway.integrations._versions import FRAMEWORKS
from trackway.integrations.autolog import autolog
from trackway.integrations.autolog._status import Status

__all__ = ["main"]

_AT_ONCE = 2
_LONGEST_S = 180


def main(arguments: Sequence[str]) -> int:
    """Print the status; returns the exit code.

    Args:
        arguments: Nothing, or ``--check``, or ``--check`` and the name of one framework.
    """
    if list(arguments[:1]) != ["--check"]:
        autolog()
        _print([status.as_dict() for status in autolog.status()])
    elif len(arguments) > 1:
        _print([_patched(arguments[1])])
    else:
        _print(_checked())
    return 0


def _print(items: list[dict[str, Any]]) -> None:
    sys.stdout.write(json.dumps(items) + "\n")


def _checked() -> list[dict[str, Any]]:
    from concurrent.futures import ThreadPoolExecutor

    autolog()
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(_check, autolog.status()))


def _check(status: Status) -> dict[str, Any]:
    """What a process says that imports this framework alone, and patches it."""
    if status.installed is None:
        return status.as_dict()
    home = str(Path(__file__).parents[3])
    code = f"import sys; sys.path.append({home!r}); import {__package__}.__main__ as m; m.main("
    words = [sys.executable, "-c", f"{code}['--check', {status.framework!r}])"]
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, check=False, timeout=_LONGEST_S
        )
        said: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
        return said[0]
    except subprocess.TimeoutExpired:
        told = f"its import took longer than {_LONGEST_S} s"
    except (ValueError, IndexError):
        told = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    return {**status.as_dict(), "state": "failed", "error": told, "errors": 1}


def _patched(name: str) -> dict[str, Any]:
    """Import this framework and patch it, in this process."""
    autolog(only=[name])
    framework = FRAMEWORKS[name]
    for trigger in framework.triggers:
        try:
            import_module(trigger)
        except ModuleNotFoundError as error:
            if (error.name or "") != trigger.partition(".")[0]:
                raise
    status = next(status for status in autolog.status() if status.framework == name)
    if not status.points and status.error is None:
        told = "none of its modules that are patched was found"
        status = status._replace(state="failed", error=told, errors=1)
    return status.as_dict()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
