"""Columns as the data frames of other libraries, when those are installed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from trackway.errors import MissingExtraError

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

__all__ = ["Columnar"]


def _missing(library: str) -> MissingExtraError:
    return MissingExtraError(f"this needs {library}: pip install 'trackway[export]'")


class Columnar:
    """Something that is columns of one length.

    NumPy arrays by name are what ``table()`` gives. Missing values are NaN in a column of floats,
    and None in a column of objects.

    In pandas a column of objects holds the objects. Arrow and Polars have a type for each column:
    texts, booleans, and lists of one kind have theirs, and None is null there. Where kinds are
    mixed, or there are maps or integers beyond 64 bits, every value of the column is its JSON text.
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
        """``table()`` as a PyArrow table; see the class for what its columns are.

        Raises:
            MissingExtraError: PyArrow is not installed.
        """
        try:
            import pyarrow
        except ImportError:
            raise _missing("pyarrow") from None
        return pyarrow.table({name: _arrow(column) for name, column in self.table().items()})

    def to_polars(self) -> polars.DataFrame:
        """``table()`` as a Polars data frame; see the class for what its columns are.

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


def _cells(column: npt.NDArray[Any]) -> Any:
    return column.tolist() if column.dtype == object else column


def _arrow(column: npt.NDArray[Any]) -> Any:
    import pyarrow

    if column.dtype != object:
        return pyarrow.array(np.ascontiguousarray(column))
    values = column.tolist()
    if not any(map(_nested, values)):
        try:
            return pyarrow.array(values)
        except (
            pyarrow.ArrowInvalid,
            pyarrow.ArrowTypeError,
            OverflowError,
            UnicodeEncodeError,
        ):
            pass  # of several kinds, or nothing that Arrow has a type for
    import json

    from trackway.api._document import json_value  # which is made of what is columns itself

    texts = [None if v is None else json.dumps(json_value(v), allow_nan=False) for v in values]
    return pyarrow.array(texts, pyarrow.string())


def _nested(value: Any) -> bool:
    """Whether there is a map in it: as structs all maps of a column would have the same names."""
    return isinstance(value, dict) or (isinstance(value, list) and any(map(_nested, value)))
