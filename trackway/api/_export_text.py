"""Values as CSV and JSON hold them: every text reads back as the value it was made of."""

from __future__ import annotations

import json
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from trackway.api._document import json_value
from trackway.api._records import Block, Index

__all__ = ["JSON_SPECIAL", "floats", "integers", "object_text", "quoted", "texts"]

JSON_SPECIAL: Final = {"nan": '"NaN"', "inf": '"Infinity"', "-inf": '"-Infinity"'}


def texts(block: Block, key: str, inner: Index, *, for_json: bool = False) -> list[str]:
    """The values of one name in these records of a block, as text."""
    column = block.columns[key]
    values = block.values[inner, column]
    letter = block.types[column]
    if letter == "o":
        return [object_text(value, for_json=for_json) for value in values.tolist()]
    if letter == "b" and np.isin(values, (0.0, 1.0)).all():
        return ["true" if value else "false" for value in values.tolist()]
    if letter == "i" and (np.abs(values) <= 1 << 53).all() and (values % 1 == 0).all():
        return list(map(str, values.astype(np.int64).tolist()))
    texts = floats(values)
    return [JSON_SPECIAL.get(text, text) for text in texts] if for_json else texts


def floats(values: npt.NDArray[np.float64]) -> list[str]:
    """``repr`` of each value. In the middle range msgspec's form is the same, and much faster."""
    size = np.abs(values)
    middle = ((size >= 1e-4) & (size < 1e15)) | (size == 0)
    if not len(values):
        return []
    texts = msgspec.json.encode(np.where(middle, values, 0.0).tolist())[1:-1].decode().split(",")
    for place in np.flatnonzero(~middle).tolist():
        texts[place] = repr(float(values[place]))
    return texts


def integers(values: npt.NDArray[Any]) -> list[str]:
    """Integers of any size in decimal."""
    return [str(json_value(value)) for value in values.tolist()]


def object_text(value: object, *, for_json: bool = False) -> str:
    """Any one value: JSON, or the cell of a CSV line."""
    plain = json_value(value)
    if for_json:
        return json.dumps(plain, allow_nan=False)
    if isinstance(value, float):
        return repr(value)
    if isinstance(plain, str):
        return quoted(plain, empty='""')
    return quoted(json.dumps(plain, allow_nan=False))


def quoted(text: str, empty: str = "") -> str:
    """The text as a cell of a CSV line, in quotes where it needs them."""
    if not text:
        return empty
    if text.isalnum() or not any(c in text for c in ',"\r\n'):
        return text if text == text.strip() else f'"{text}"'
    return '"' + text.replace('"', '""') + '"'
