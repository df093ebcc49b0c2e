"""The checkpoints of a run: as they come and go, and which of them are the best."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from trackway.core.records import record_checkpoint

if TYPE_CHECKING:
    from trackway.core.run import Run

__all__ = ["Checkpoints"]


class Checkpoints:
    """What the ``ModelCheckpoint`` callbacks of one run have written, and removed again."""

    def __init__(self) -> None:
        self._there: dict[str, dict[str, Any]] = {}
        self._best: dict[str, tuple[str | None, dict[str, Any]]] = {}

    def saved(self, run: Run | None, callback: Any, epoch: Any) -> None:
        """A callback has just written one, and perhaps removed others before."""
        best, last = _path(callback, "best_model_path"), _path(callback, "last_model_path")
        path = _path(callback, "_last_checkpoint_saved") or last or best
        monitor = getattr(callback, "monitor", None)
        if monitor is None:
            best = ""  # without a monitor, Lightning calls the newest one so
        kept = {"best_model_path": best, "last_model_path": last}
        found: dict[str, Any] = {name: value for name, value in kept.items() if value}
        score = getattr(callback, "best_model_score", None)
        if best and score is not None:
            found["best_model_score"] = _number(score)
        self._best[str(getattr(callback, "state_key", ""))] = monitor, found
        self.sweep(run)
        if not path:
            return
        about = {
            "step": getattr(callback, "_last_global_step_saved", None),
            "epoch": epoch,
            "score": _number(getattr(callback, "current_score", None)),
            "metric": monitor,
        }
        self._there[path] = about
        if run is not None:
            aliases = ["latest", "best"] if path == best else ["latest"]
            record_checkpoint(run, path, aliases=aliases, **about)

    def sweep(self, run: Run | None) -> None:
        """Record which of them are not there any more."""
        for path in [path for path in self._there if not Path(path).exists()]:
            about = self._there.pop(path)
            if run is not None:
                record_checkpoint(run, path, removed=True, **about)

    def results(self, callbacks: list[Any]) -> dict[str, Any]:
        """The best and the last ones, for the summary.

        Those of the Trainer's first callback have plain names; where others say the same of
        another monitor, that is behind the name.

        Args:
            callbacks: The Trainer's, in its order.
        """
        order = [str(getattr(each, "state_key", "")) for each in callbacks]
        keys = sorted(self._best, key=lambda key: order.index(key) if key in order else len(order))
        found: dict[str, Any] = {}
        for key in keys:
            monitor, values = self._best[key]
            taken = "best_model_path" in found
            for name, value in values.items():
                if name == "last_model_path" or not taken:
                    found.setdefault(name, value)
                else:
                    found.setdefault(f"{name}/{monitor}", value)
        return found

    def clear(self) -> None:
        """Another run begins."""
        self._there.clear()
        self._best.clear()


def _path(callback: Any, name: str) -> str:
    return str(getattr(callback, name, None) or "")


def _number(score: Any) -> Any:
    return score.item() if hasattr(score, "item") else score
