"""What a log would lose by a compaction, found without writing anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from trackway.backend.file._references import digests_in
from trackway.backend.file.deletions import Deletions, Former
from trackway.backend.file.format import (
    EVENT,
    FRAME,
    METRIC,
    ROW,
    ROW_HEAD,
    Event,
    Keyset,
    decode_event,
)
from trackway.backend.file.reader import STRETCH
from trackway.backend.file.run_logs import data_of
from trackway.backend.file.scan import Offsets, scan
from trackway.errors import FormatError

__all__ = [
    "Bytes",
    "Group",
    "Loss",
    "Mask",
    "Source",
    "Stretch",
    "event_of",
    "group_of",
    "hidden_names",
    "measure",
    "rows_of",
    "stretches",
    "values_of",
]

Bytes = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]


@dataclass(slots=True)
class Source:
    """A log that is to be written anew.

    Attributes:
        path: The file.
        generation: Of its first header.
        end: Where its last whole frame ends; what follows is kept as it is.
        keysets: All that it declares.
        next_keyset: The first id that is free.
        formers: What earlier compactions replaced.
    """

    path: Path
    generation: str
    end: int
    keysets: dict[int, Keyset]
    next_keyset: int
    formers: list[Former] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.path.stem


@dataclass(slots=True)
class Loss:
    """What a log loses.

    Attributes:
        points: How many.
        dead: Keysets that no row is left of.
        marker: The highest step of the log, where only deleted rows reached it: a row of that
            step stays, without values, so that a run that is resumed goes on behind it.
        digests: What the deleted values mention.
    """

    points: int = 0
    dead: set[int] = field(default_factory=set)
    marker: int | None = None
    digests: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Stretch:
    """Whole frames of the log, in order."""

    offset: int
    data: bytes
    starts: Offsets
    lengths: Offsets
    kinds: npt.NDArray[np.uint8]

    def payload(self, index: int) -> bytes:
        start = int(self.starts[index]) + FRAME.size
        return self.data[start : start + int(self.lengths[index])]

    def window(self, rows: Offsets, length: int) -> Bytes:
        """The frames of these rows, uint8 [n, bytes], a copy."""
        view = np.frombuffer(self.data, np.uint8)
        windows = np.lib.stride_tricks.sliding_window_view(view, length + FRAME.size)
        return windows[self.starts[rows]]


@dataclass(frozen=True, slots=True)
class Group:
    """Rows of one keyset and one length in a stretch, some of whose values are deleted.

    Attributes:
        rows: Which frames of the stretch.
        hidden: bool [n, names].
        spare: Whether the rows have values beyond the keyset's names.
    """

    keyset: Keyset
    length: int
    rows: Offsets
    steps: npt.NDArray[np.int64]
    hidden: Mask
    spare: bool

    @property
    def gone(self) -> Mask:
        """Which rows lose everything."""
        if self.spare:
            return np.zeros(len(self.rows), np.bool_)
        gone: Mask = np.all(self.hidden, axis=1)
        return gone


def measure(source: Source, deletions: Deletions, progress: Callable[[int], None]) -> Loss:
    """What the log would lose, without writing anything."""
    loss = Loss()
    rows: dict[int, int] = {}
    touched: dict[int, int] = {}
    kept_step = gone_step = -(1 << 63)
    for stretch in stretches(source):
        for found in rows_of(stretch):
            keyset, _, mine, steps = found
            rows[keyset] = rows.get(keyset, 0) + len(mine)
            group = group_of(source, deletions, stretch, found)
            if group is None:
                kept_step = max(kept_step, int(steps.max()))
                continue
            loss.points += int(group.hidden.sum())
            touched[keyset] = touched.get(keyset, 0) + int(group.hidden.any(axis=1).sum())
            gone = group.gone
            gone_step = max(gone_step, int(steps.max(where=gone, initial=gone_step)))
            kept_step = max(kept_step, int(steps.max(where=~gone, initial=kept_step)))
        for index, event in values_of(stretch):
            names = hidden_names(source, deletions, stretch, index, event)
            step = event.fields["step"]
            if names:
                loss.points += len(names)
                loss.digests |= digests_in(stretch.payload(index))
            if len(names) == len(data_of(event)):
                gone_step = max(gone_step, step)
            else:
                kept_step = max(kept_step, step)
        progress(len(stretch.data))
    loss.dead = {keyset for keyset, count in touched.items() if count and count == rows[keyset]}
    loss.marker = gone_step if gone_step > kept_step else None
    return loss


def stretches(source: Source) -> Iterator[Stretch]:
    """The whole frames of the log up to its end; the log is known to be undamaged."""
    at = 0
    with source.path.open("rb") as file:
        while at < source.end:
            file.seek(at)
            data = file.read(min(STRETCH, source.end - at))
            found = scan(data)
            if found.end == 0 or found.damage:
                raise OSError(0, "the log changed while it was read", str(source.path))
            kinds = np.frombuffer(data, np.uint8)[found.starts + FRAME.size]
            yield Stretch(at, data[: found.end], found.starts, found.lengths, kinds)
            at += found.end


def rows_of(
    stretch: Stretch,
) -> Iterator[tuple[int, int, Offsets, npt.NDArray[np.int64]]]:
    """Keyset, payload length, frames and steps of each kind of row."""
    rows = np.flatnonzero((stretch.kinds == ROW) & (stretch.lengths >= ROW_HEAD.size))
    if not len(rows):
        return
    heads = _heads(stretch, rows)
    ids, steps = heads["keyset"].astype(np.int64), heads["step"].astype(np.int64)
    lengths = stretch.lengths[rows]
    kinds = np.stack([ids, lengths], axis=1)
    for keyset, length in np.unique(kinds, axis=0).tolist():
        mine = (ids == keyset) & (lengths == length)
        yield keyset, length, rows[mine], steps[mine]


def _heads(stretch: Stretch, rows: Offsets) -> npt.NDArray[np.void]:
    size = FRAME.size + ROW_HEAD.size
    kind = np.dtype(
        {
            "names": ["keyset", "step"],
            "formats": ["<u4", "<i8"],
            "offsets": [FRAME.size + 1, FRAME.size + 5],
            "itemsize": size,
        }
    )
    return np.frombuffer(stretch.window(rows, ROW_HEAD.size).tobytes(), kind)


def group_of(
    source: Source,
    deletions: Deletions,
    stretch: Stretch,
    found: tuple[int, int, Offsets, npt.NDArray[np.int64]],
) -> Group | None:
    """The rows with what of them is deleted; None where nothing is."""
    number, length, rows, steps = found
    keyset = source.keysets.get(number)
    if keyset is None or keyset.space != METRIC:
        return None
    count = (length - ROW_HEAD.size) // 8
    names = keyset.names[:count]
    hidden = np.zeros((len(rows), len(names)), np.bool_)
    offsets = stretch.starts[rows] + stretch.offset
    for column, name in enumerate(names):
        kept = deletions.keep(source.name, source.generation, name, offsets, steps)
        if kept is not None:
            hidden[:, column] = ~kept
    if not hidden.any():
        return None
    return Group(keyset, length, rows, steps, hidden, count > len(names))


def values_of(stretch: Stretch) -> Iterator[tuple[int, Event]]:
    """The ``value`` events that a reader takes points from."""
    for index in np.flatnonzero(stretch.kinds == EVENT).tolist():
        payload = stretch.payload(index)
        if b"value" not in payload:
            continue
        event = event_of(payload)
        if event and event.type == "value" and isinstance(event.fields.get("step"), int):
            yield index, event


def event_of(payload: bytes) -> Event | None:
    try:
        return decode_event(payload)
    except FormatError:
        return None


def hidden_names(
    source: Source, deletions: Deletions, stretch: Stretch, index: int, event: Event
) -> set[str]:
    offsets = np.array([stretch.starts[index] + stretch.offset], np.int64)
    steps = np.array([event.fields["step"]], object)
    return {
        name
        for name in data_of(event)
        if deletions.keep(source.name, source.generation, name, offsets, steps) is not None
    }
