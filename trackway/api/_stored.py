"""Tables, checkpoints and models as they are read back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from trackway.api._frames import Columnar

__all__ = ["Checkpoint", "StoredModel", "StoredTable", "TableName", "whole"]

_EXACT: Final = 1 << 53
_I64: Final = 1 << 63


@dataclass(frozen=True, slots=True)
class TableName:
    """What tables there are of one name.

    Attributes:
        name: What they are called.
        kind: What the last one is to be drawn as; None for a plain table.
        steps: The steps that have one, rising; None for one without a step comes first.
        rows: How many rows the last one has.
    """

    name: str
    kind: str | None
    steps: list[int | None]
    rows: int


@dataclass(frozen=True, slots=True, repr=False)
class StoredTable(Columnar):
    """A table that was recorded.

    Attributes:
        name: What it is called.
        step: Where in the training it belongs, if it was said.
        kind: What it is to be drawn as; None for a plain table.
        about: What holds for the whole of it.
        columns: Its values as they were recorded, lists of one length.
        missing: How many rows are not there: the program died as it wrote them.
        time: When it was recorded, seconds since 1970.
        attempt: The attempt that recorded it.
    """

    name: str
    step: int | None
    kind: str | None
    about: dict[str, Any] = field(default_factory=dict)
    columns: dict[str, list[Any]] = field(default_factory=dict)
    missing: int = 0
    time: float = 0.0
    attempt: int = 1

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def __getitem__(self, column: str) -> list[Any]:
        return self.columns[column]

    def __repr__(self) -> str:
        at = "" if self.step is None else f" at step {self.step}"
        lost = f", {self.missing} missing" if self.missing else ""
        return f"<table {self.name}{at}: {len(self)} rows, {len(self.columns)} columns{lost}>"

    def table(self) -> dict[str, npt.NDArray[Any]]:
        """The columns as arrays: int64, float64 or bool where all values are, else objects.

        None among numbers is NaN; ``columns`` has them apart.
        """
        return {name: _array(values) for name, values in self.columns.items()}


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint that the training wrote; the file or folder itself is not looked at.

    Attributes:
        path: Where it was put.
        bytes: Its size then, if it could be measured.
        modified: When it was last changed then, seconds since 1970.
        step: The step that it holds.
        epoch: The epoch that it holds.
        score: What it was judged by.
        metric: The name of what it was judged by.
        aliases: ``best``, ``latest``: each belongs to the last checkpoint that was given it.
        removed: The training has removed it.
        time: When it was last spoken of, seconds since 1970.
        attempt: The attempt that last spoke of it.
    """

    path: str
    bytes: int | None = None
    modified: float | None = None
    step: int | None = None
    epoch: float | None = None
    score: float | None = None
    metric: str | None = None
    aliases: tuple[str, ...] = ()
    removed: bool = False
    time: float = 0.0
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class StoredModel:
    """What a model is made of.

    Attributes:
        name: ``model``, where there is only one.
        about: All that was recorded of it.
        time: When, seconds since 1970.
        attempt: The attempt that recorded it.
    """

    name: str
    about: dict[str, Any]
    time: float = 0.0
    attempt: int = 1

    @property
    def class_name(self) -> str | None:
        """Its class."""
        name = self.about.get("class")
        return name if isinstance(name, str) else None

    @property
    def parameters(self) -> int | None:
        """How many parameters it has."""
        return whole(self.about.get("parameters"))

    @property
    def trainable(self) -> int | None:
        """How many of them are trained."""
        return whole(self.about.get("trainable"))

    @property
    def bytes(self) -> int | None:
        """What its parameters take in memory."""
        return whole(self.about.get("bytes"))

    @property
    def tree(self) -> list[dict[str, Any]]:
        """Its modules, outer ones before inner ones."""
        tree = self.about.get("tree")
        return [dict(m) for m in tree if isinstance(m, dict)] if isinstance(tree, list) else []


def whole(value: object) -> int | None:
    """A whole number of 64 bits, and nothing that is none."""
    return value if type(value) is int and -_I64 <= value < _I64 else None


def _array(values: list[Any]) -> npt.NDArray[Any]:
    kinds = set(map(type, values))
    if kinds == {bool}:
        return np.array(values, bool)
    if kinds == {int} and all(-_I64 <= value < _I64 for value in values):
        return np.array(values, np.int64)
    numbers = kinds <= {int, float, type(None)} and kinds & {int, float}
    if numbers and all(type(v) is not int or -_EXACT <= v <= _EXACT for v in values):
        return np.array([np.nan if v is None else v for v in values], np.float64)
    column = np.empty(len(values), object)
    for place, value in enumerate(values):
        column[place] = value
    return column
