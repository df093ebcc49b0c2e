"""A nested mapping whose every change is reported: what ``run.config`` and ``run.summary`` are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any

from trackway.core._guard import guard
from trackway.core._values import DEEPEST, nested, pairs

__all__ = ["Tree"]

Change = Callable[[list[tuple[tuple[str, ...], Any]], list[tuple[str, ...]]], None]


class Tree(MutableMapping[str, Any]):
    """Item and attribute access to nested values; every assignment is passed on.

    ``tree.model.depth = 3`` and ``tree["model"]["depth"] = 3`` are the same. Values are kept as
    they were given; what is stored is their plain form at the time of the assignment.

    Args:
        changed: Called with the assignments (path, value) and the deleted paths of one change.
        path: Where this mapping is inside the outermost one.
        data: The entries, shared with the outer mapping.
    """

    __slots__ = ("_changed", "_data", "_path")

    def __init__(
        self, changed: Change, path: tuple[str, ...] = (), data: dict[str, Any] | None = None
    ) -> None:
        object.__setattr__(self, "_changed", changed)
        object.__setattr__(self, "_path", path)
        object.__setattr__(self, "_data", {} if data is None else data)

    def __getitem__(self, name: str) -> Any:
        value = self._data[name]
        if isinstance(value, dict):
            return Tree(self._changed, (*self._path, name), value)
        return value

    def __setitem__(self, name: str, value: object) -> None:
        self.update({name: value})

    def __delitem__(self, name: str) -> None:
        del self._data[name]
        self._changed([], [(*self._path, name)])

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._data))

    def __len__(self) -> int:
        return len(self._data)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in Tree.__slots__:
            raise AttributeError(name)
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"{name!r} is not set; there are: {sorted(self._data)}") from None

    def __setattr__(self, name: str, value: object) -> None:
        self[name] = value

    def __delattr__(self, name: str) -> None:
        try:
            del self[name]
        except KeyError:
            raise AttributeError(name) from None

    def __reduce__(self) -> tuple[type, tuple[dict[str, Any]]]:
        """Copied or sent to another process, it is a plain dictionary."""
        return dict, (self.as_dict(),)

    def __repr__(self) -> str:
        return repr(self._data)

    def update(self, data: Any = (), /, allow_val_change: bool = True, **more: object) -> None:
        """Set several entries at once, from a dict or any object a configuration may come from.

        Args:
            data: A mapping, namespace, dataclass, model, or pairs.
            allow_val_change: Accepted for scripts written for other trackers; every change is
                allowed and kept with its time.
            **more: Further entries.
        """
        with guard(self._path[0] if self._path else "update"):
            nothing = data is None or (isinstance(data, tuple) and not data)
            given = [] if nothing else pairs(dict(data) if _is_pairs(data) else data)
            entries = [*given, *pairs(more)]
            for name, value in entries:
                self._data[name] = _own(value)
            if entries:
                self._changed([((*self._path, name), value) for name, value in entries], [])

    def setdefault(self, name: str, default: Any = None) -> Any:
        """The entry's value, set to ``default`` first where there is none."""
        if name not in self._data:
            self[name] = default
        return self[name]

    def as_dict(self) -> dict[str, Any]:
        """A copy as plain nested dictionaries."""
        return _copy(self._data)


def _is_pairs(data: object) -> bool:
    return isinstance(data, (list, tuple)) and not hasattr(data, "_asdict")


def _own(value: object, depth: int = 0) -> object:
    """Nested mappings and models as dictionaries of ours, so that they can be assigned into."""
    if isinstance(value, Tree):
        return value.as_dict()
    if depth > DEEPEST:
        return value
    mapping = value if isinstance(value, Mapping) else nested(value)
    if mapping is not None:
        return {str(name): _own(item, depth + 1) for name, item in mapping.items()}
    return value


def _copy(data: dict[str, Any]) -> dict[str, Any]:
    return {k: _copy(v) if isinstance(v, dict) else v for k, v in data.items()}
