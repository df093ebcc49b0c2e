"""Columns as the data frames of other libraries, when those are installed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from trackway.errors import MissingExtraError

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

__all__ = ["Columnar", "Table"]


def _missing(library: str) -> MissingExtraError:
    return MissingExtraError(f"this needs {library}: pip install 'trackway[export]'")


class Columnar:
    """Something that is columns of one length.

    NumPy arrays by name are what ``table()`` gives. Missing values are NaN in a column of floats,
    and None in a column of objects.
    """

    def table(self) -> dict[str, npt.NDArray[Any]]:
        """The columns by name, in order."""
        raise NotImplementedError

    def to_pandas(self) -> pandas.DataFrame:
        """``table()`` as a pandas data frame.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise _missing("pandas") from None
        return pandas.DataFrame({name: _cells(col) for name, col in self.table().items()})

    def to_arrow(self) -> pyarrow.Table:
        """``table()`` as a PyArrow table; objects of several kinds become their JSON text.

        Raises:
            MissingExtraError: PyArrow is not installed.
        """
        try:
            import pyarrow
        except ImportError:
            raise _missing("pyarrow") from None
        return pyarrow.table({name: _arrow(column) for name, column in self.table().items()})

    def to_polars(self) -> polars.DataFrame:
        """``table()`` as a Polars data frame; objects of several kinds become their JSON text.

        Raises:
            MissingExtraError: Polars (or PyArrow, through which it goes) is not installed.
        """
        try:
            import polars
        except ImportError:
            raise _missing("polars") from None
        frame = polars.from_arrow(self.to_arrow())
        assert isinstance(frame, polars.DataFrame)  # of a table it is one, of an array a series
        return frame


class Table(Columnar, Mapping[str, npt.NDArray[Any]]):
    """Columns of one length, by name."""

    def __init__(self, columns: Mapping[str, npt.NDArray[Any]]) -> None:
        self._columns = dict(columns)

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        return self._columns[name]

    def __iter__(self) -> Any:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

    def __repr__(self) -> str:
        rows = len(next(iter(self._columns.values()), ()))
        return f"<Table of {rows} rows: {', '.join(self._columns) or 'no columns'}>"

    def table(self) -> dict[str, npt.NDArray[Any]]:
        """The columns by name, in order."""
        return dict(self._columns)


def _cells(column: npt.NDArray[Any]) -> Any:
    return column.tolist() if column.dtype == object else column


def _arrow(column: npt.NDArray[Any]) -> Any:
    import pyarrow

    if column.dtype != object:
        return pyarrow.array(np.ascontiguousarray(column))
    values = column.tolist()
    try:
        return pyarrow.array(values)
    except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError, OverflowError):
        import json

        return pyarrow.array([None if v is None else json.dumps(v, default=str) for v in values])
