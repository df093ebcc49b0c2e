"""Logs of any content, written frame by frame, for tests of what reads them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from trackway.backend.file.format import (
    Header,
    Keyset,
    big_integer,
    encode_event,
    encode_header,
    encode_keyset,
    encode_row,
)
from trackway.backend.file.run_logs import Columns, RunLogs

STARTED = 1_700_000_000.0


@dataclass
class Log:
    """One log that grows."""

    path: Path
    role: str = "train"
    attempt: int = 1
    created: float = STARTED
    generation: str = "0" * 32
    version: int = 1
    keysets: dict[tuple[tuple[str, ...], str, str], int] = field(default_factory=dict)

    def begin(self) -> Log:
        """Write the header."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.append(
            encode_header(
                Header(
                    run=self.path.parent.name,
                    project=self.path.parent.parent.name,
                    writer=self.path.stem,
                    generation=self.generation,
                    role=self.role,
                    attempt=self.attempt,
                    host="elsewhere",
                    pid=1,
                    created=self.created,
                    version=self.version,
                )
            )
        )
        return self

    def append(self, data: bytes) -> None:
        """Add bytes."""
        with self.path.open("ab") as file:
            file.write(data)

    def row(
        self, step: int, values: dict[str, float], *, time: float = STARTED, space: str = "metric"
    ) -> None:
        """Add a row, and the declaration of its names before the first of them."""
        self.append(self.row_bytes(step, values, time=time, space=space))

    def row_bytes(
        self, step: int, values: dict[str, float], *, time: float = STARTED, space: str = "metric"
    ) -> bytes:
        """The bytes that ``row`` adds."""
        names = tuple(values)
        types = "".join(
            "b" if isinstance(v, bool) else "i" if isinstance(v, int) else "f"
            for v in values.values()
        )
        known = self.keysets.get((names, types, space))
        told = b""
        if known is None:
            known = self.keysets[names, types, space] = len(self.keysets)
            told = encode_keyset(Keyset(known, names, types, space))
        return told + encode_row(known, step, time, [float(v) for v in values.values()])

    def event(self, type: str, fields: dict[str, Any], time: float = STARTED) -> None:
        """Add an event."""
        self.append(encode_event(type, time, fields))

    def value(self, step: int, data: dict[str, Any], time: float = STARTED) -> None:
        """Add values that no row can hold."""
        told = {k: big_integer(v) if type(v) is int else v for k, v in data.items()}
        self.event("value", {"step": big_integer(step), "data": told}, time)


def same_columns(found: Columns, wanted: Columns) -> bool:
    """Whether both hold the same points, to the bit, in the same order."""
    return all(
        same_values(getattr(found, name), getattr(wanted, name))
        for name in ("steps", "times", "values", "attempts")
    )


def same_values(found: Any, wanted: Any) -> bool:
    """Whether two arrays hold the same values; NaN is like NaN, 1 like 1.0."""
    if len(found) != len(wanted):
        return False
    if found.dtype.kind == "f" and wanted.dtype.kind == "f":
        return bool(np.array_equal(found, wanted, equal_nan=True))
    return all(same(a, b) for a, b in zip(found.tolist(), wanted.tolist(), strict=True))


def same(a: Any, b: Any) -> bool:
    """Whether two values are the same; NaN is like NaN."""
    if isinstance(a, float) and isinstance(b, float) and math.isnan(a):
        return math.isnan(b)
    return bool(a == b)


def told_by_logs(folder: Path) -> RunLogs:
    """The reference: everything read from the logs."""
    logs = RunLogs(folder)
    logs.refresh()
    return logs


# -- random content --------------------------------------------------------------------------------

NAMES = ["loss", "val/acc", "lr", "epoch", "é \n", ""]
FLOATS = st.one_of(
    st.floats(width=32),
    st.floats(),
    st.sampled_from([0.0, -0.0, math.nan, math.inf, -math.inf, 1e300, 5e-324]),
)
STEPS = st.one_of(
    st.integers(0, 40), st.integers(-5, 300), st.sampled_from([-(1 << 63), (1 << 63) - 1])
)


@st.composite
def records(draw: st.DrawFn, most: int = 40) -> Sequence[tuple[Any, ...]]:
    """What one writer says, in order: rows and values, with mostly rising steps."""
    step = draw(st.integers(0, 20))
    told: list[tuple[Any, ...]] = []
    for _ in range(draw(st.integers(0, most))):
        jump = draw(st.sampled_from([1, 1, 1, 1, 0, -3, 5]))
        step = draw(STEPS) if draw(st.integers(0, 30)) == 0 else step + jump
        step = max(-(1 << 63), min(step, (1 << 63) - 1))
        time = STARTED + draw(st.floats(-5, 100))
        kind = draw(st.integers(0, 20))
        if kind == 0:
            data = draw(
                st.dictionaries(
                    st.sampled_from(NAMES),
                    st.one_of(st.text(max_size=3), st.integers(1 << 60, 1 << 70)),
                    min_size=1,
                    max_size=2,
                )
            )
            told.append(("value", step, data, time))
        else:
            names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True))
            values: dict[str, float] = {}
            for name in names:
                values[name] = draw(st.integers(-3, 1000)) if name == "epoch" else draw(FLOATS)
            told.append(("row", step, values, time))
    return told


def write(log: Log, told: Sequence[tuple[Any, ...]]) -> None:
    """Append records as ``records`` draws them."""
    for kind, step, data, time in told:
        if kind == "row":
            log.row(step, data, time=time)
        else:
            log.value(step, data, time=time)
