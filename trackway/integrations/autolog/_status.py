"""What ``autolog`` has done: for each framework its version, its points, its last error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from trackway.core._guard import troubles
from trackway.integrations._patch import Patches
from trackway.integrations._versions import FRAMEWORKS, Framework

__all__ = ["Status", "statuses"]


class Status(NamedTuple):
    """One framework.

    Attributes:
        framework: Its name: ``keras`` …
        installed: The version that is installed, None where there is none. Nothing is imported to
            learn it.
        lowest: The oldest version that is supported.
        latest: The newest version that was tried.
        state: ``patched``, ``waiting`` (for its import), ``failed``, ``not installed`` or ``off``.
        points: What is patched there.
        error: The last error of ours in it, in one sentence.
        errors: How many errors of ours there were.
    """

    framework: str
    installed: str | None
    lowest: str
    latest: str
    state: str
    points: tuple[str, ...]
    error: str | None
    errors: int

    @property
    def newer(self) -> bool:
        """Whether the installed version is newer than the newest that was tried."""
        return self.installed is not None and _key(self.installed) > _key(self.latest)

    @property
    def older(self) -> bool:
        """Whether the installed version is older than the oldest that is supported."""
        return self.installed is not None and _key(self.installed) < _key(self.lowest)

    def as_dict(self) -> dict[str, Any]:
        """For JSON and for a run's log."""
        return {
            **self._asdict(),
            "points": list(self.points),
            "newer": self.newer,
            "older": self.older,
        }


def statuses(
    patches: Mapping[str, Patches], failed: Mapping[str, str], *, begun: bool = False
) -> list[Status]:
    """The state of every framework, in the order of the table.

    Args:
        patches: Those that are switched on.
        failed: Why patching a framework failed.
        begun: Only those that were patched or failed.
    """
    names = [name for name in FRAMEWORKS if not begun or name in failed or _points(patches, name)]
    return [_status(FRAMEWORKS[name], patches.get(name), failed.get(name)) for name in names]


def _points(patches: Mapping[str, Patches], name: str) -> list[str]:
    return patches[name].points if name in patches else []


def _status(framework: Framework, patches: Patches | None, failed: str | None) -> Status:
    installed = installed_version(framework)
    points = () if patches is None else tuple(patches.points)
    if patches is None:
        state = "off"
    elif failed is not None:
        state = "failed"
    elif points:
        state = "patched"
    else:
        state = "waiting" if installed is not None else "not installed"
    ours = [trouble for trouble in troubles() if trouble.place == framework.name]
    return Status(
        framework.name,
        installed,
        framework.lowest,
        framework.latest,
        state,
        points,
        failed or (ours[-1].sentence if ours else None),
        sum(trouble.count for trouble in ours),
    )


def installed_version(framework: Framework) -> str | None:
    """The version of the first of its distributions that is installed; imports none of them."""
    from importlib.metadata import PackageNotFoundError, version

    for name in framework.distributions:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return None


def _key(text: str) -> tuple[int, ...]:
    """The release's numbers, without what may follow them; trailing zeros do not count."""
    numbers: list[int] = []
    for part in text.partition("+")[0].split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
        if digits != part:
            break
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)
