"""What is read of gradients and parameters, on the host and on a device, and how it gets home.

On a device nothing is asked of it: all results of one reading are packed into one tensor, which is
copied behind the work already queued, and looked at when the copy has arrived.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from trackway.core._devices import device_mark
from trackway.core._guard import note
from trackway.integrations.pytorch import _bits
from trackway.integrations.pytorch._together import Together, fits

__all__ = ["Entry", "Packet", "Ratios", "flat", "local", "measure", "norms", "pack", "prepare"]

_WIDE: Final = (torch.float32, torch.float64)
_NARROW: Final = (torch.float16, torch.bfloat16)

EXACT: Final = 16_000_000
"""Elements up to which the whole update is compared, not a sample of it."""


class Entry(NamedTuple):
    """One parameter of a reading.

    Attributes:
        key: The parameter's identity.
        order: Its place in the model.
        name: Its name.
        parameter: Its own values, on this rank.
        values: Its gradient's values in one dimension; those that are stored, if it is sparse.
        absent: How many zeros are not stored.
        sharded: Other ranks have other parts of it.
        counted: Whether this rank's counts are to be added to those of the others.
    """

    key: int
    order: int
    name: str
    parameter: Any
    values: Any
    absent: int
    sharded: bool
    counted: bool


def local(tensor: Tensor) -> Tensor:
    """This rank's part, detached. No other rank takes part in this."""
    whole = tensor.detach()
    return whole.to_local() if hasattr(whole, "to_local") else whole


def placed(tensor: Tensor) -> tuple[bool, bool]:
    """Whether other ranks have other parts of it, and whether this rank's part is the one to count.

    Of several ranks that hold the same part, the first one's counts.
    """
    placements = getattr(tensor, "placements", None)
    mesh: Any = getattr(tensor, "device_mesh", None)
    if placements is None or mesh is None:
        return False, True
    at = mesh.get_coordinate() or [0] * len(placements)
    sharded = any(p.is_shard() and mesh.size(d) > 1 for d, p in enumerate(placements))
    first = all(at[d] == 0 for d, p in enumerate(placements) if p.is_replicate())
    return sharded, first


def flat(tensor: Tensor) -> Tensor:
    """The values in one dimension, in the order of memory: without a copy where there is none."""
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor.resolve_conj())
    if tensor.is_neg():
        tensor = tensor.resolve_neg()
    if not tensor.is_contiguous():
        strides = tensor.stride()
        tensor = tensor.permute(sorted(range(tensor.dim()), key=lambda d: -strides[d]))
    tensor = tensor.reshape(-1)
    return tensor if tensor.dtype in _WIDE + _NARROW else tensor.to(torch.float32)


def _sample(tensor: Tensor, stride: int) -> Tensor:
    """Every n-th value."""
    values = flat(tensor)
    return values if stride == 1 else values.as_strided((-(-values.numel() // stride),), (stride,))


def prepare(gradient: Tensor) -> tuple[Tensor, int] | None:
    """The gradient's values and the number of zeros not stored; None if it cannot be read."""
    if gradient.is_meta:
        return None
    if gradient.layout is torch.strided:
        return flat(local(gradient)), 0
    if gradient.layout is torch.sparse_coo:
        found = local(gradient)
        if found.is_cpu:
            found = found.coalesce()
        if found.is_coalesced():  # else values of the same place are not added yet
            values = flat(found.values())
            return values, found.numel() * (2 if found.is_complex() else 1) - values.numel()
    where = f"{gradient.layout} on {gradient.device.type}"
    note("watch", where, f"gradients that are {where} are not watched: reading them would wait.")
    return None


# -- norms ---------------------------------------------------------------------------------


def norms(flats: Sequence[Tensor]) -> Tensor:
    """The norm of each tensor, in the widest type of the device; equal neighbours in one call."""
    found: list[Tensor] = []
    at = 0
    while at < len(flats):
        dtype = flats[at].dtype
        end = at + 1
        while end < len(flats) and flats[end].dtype is dtype:
            end += 1
        wide = torch.float32 if dtype in _NARROW else None
        group = torch._foreach_norm(list(flats[at:end]), 2, dtype=wide)
        found.append(torch.stack(group).to(widest(flats[at].device)))
        at = end
    return torch.cat(found) if len(found) > 1 else found[0]


def widest(device: torch.device) -> torch.dtype:
    """The widest type that a device has."""
    return torch.float32 if device.type == "mps" else torch.float64


class Results(NamedTuple):
    """What was read of one device.

    Attributes:
        tensors: ``norms``, ``bad``, ``gradients`` and ``parameters`` (counts), ``moved``.
        orders: Whose each row is, of what is not in the order of the entries.
    """

    tensors: dict[str, Tensor]
    orders: dict[str, list[int]]


def measure(
    entries: Sequence[Entry],
    kinds: set[str],
    lap: Callable[[str], None] = lambda kind: None,
    together: Together | None = None,
) -> Results:
    """What is asked of the gradients of one device: on a device nothing that it has to answer.

    Args:
        entries: The parameters.
        kinds: What is asked.
        lap: Called after each kind.
        together: Holds the values, if they are small ones of the host.
    """
    values = [entry.values for entry in entries]
    host = values[0].is_cpu
    found: dict[str, Tensor] = {}
    orders: dict[str, list[int]] = {}
    if "norms" in kinds:
        if together is None:
            found["norms"] = norms(values)
        else:
            found["norms"] = torch.from_numpy(together.norms())
        if host:
            found["bad"] = _exact(values, found["norms"])
        elif "histograms" not in kinds:
            found["bad"], orders["bad"] = _bits.bad(values)
        lap("norms")
    for kind, name in (("histograms", "gradients"), ("parameters", "parameters")):
        if kind not in kinds:
            continue
        if together is not None:
            if kind == "parameters":
                together.load([entry.parameter for entry in entries])
            counts = together.counts()
            found[name] = counts.clone() if kind == "parameters" else counts
            lap(kind)
            continue
        flats = values if kind == "histograms" else [flat(entry.parameter) for entry in entries]
        if host:
            found[name] = torch.from_numpy(_bits.count(flats))
        else:
            found[name], orders[name] = _bits.count_there(flats)
        lap(kind)
    return Results(found, orders)


def _exact(values: Sequence[Tensor], found: Tensor) -> Tensor:
    """How many values are not finite; norms that only the type could not hold are mended."""
    bad = torch.zeros(len(values), dtype=torch.int32)
    if math.isfinite(float(found.sum())):
        return bad
    for index, norm in enumerate(found.tolist()):
        if not math.isfinite(norm):
            bad[index] = int(_bits.bad([values[index]])[0].item())
            if not bad[index]:
                found[index] = torch.linalg.vector_norm(values[index], dtype=torch.float64)
    return bad


# -- updates -------------------------------------------------------------------------------


class Ratios:
    """How far a step moves each parameter, relative to its norm before the step.

    The weights before the step are copied into buffers that are kept. Above ``EXACT`` elements it
    is every n-th element of each parameter, the same ones each time.
    """

    def __init__(self) -> None:
        self.stride = 1
        self._buffers: dict[int, Tensor] = {}
        self._fresh = False
        self._seen: list[tuple[int, torch.Size, torch.dtype, torch.device]] = []
        self._small: list[Tensor] = []
        self._large: list[Tensor] = []
        self._places: dict[int, int] = {}
        self._olds: Together | None = None
        self._news: Together | None = None
        self._moved: np.ndarray[Any, Any] | None = None

    def before(self, parameters: Sequence[Tensor]) -> None:
        """A step is about to be made."""
        seen = [(id(p), p.shape, p.dtype, p.device) for p in parameters]
        if seen != self._seen:
            self._divide([p for p in parameters if not p.is_meta])
            self._seen = seen
        self._moved = None
        if self._olds is not None:
            self._olds.load(self._small)
        parts = [(id(p), local(p)) for p in self._large]
        values = [_sample(part, self.stride) for _, part in parts]
        buffers = {
            key: self._buffer(key, part) for (key, _), part in zip(parts, values, strict=True)
        }
        self._buffers = buffers
        if buffers:
            torch._foreach_copy_(list(buffers.values()), values)
        self._fresh = bool(buffers or self._small)

    def _divide(self, parameters: Sequence[Tensor]) -> None:
        """The small ones of the host apart."""
        self.stride = max(1, math.ceil(sum(local(p).numel() for p in parameters) / EXACT))
        apart = [self.stride == 1 and _ours(p) for p in parameters]
        self._small = [p for p, small in zip(parameters, apart, strict=True) if small]
        self._large = [p for p, small in zip(parameters, apart, strict=True) if not small]
        self._places = {id(p): place for place, p in enumerate(self._small)}
        shapes = [p.shape for p in self._small]
        self._olds = Together(shapes) if shapes else None
        self._news = Together(shapes) if shapes else None

    def _buffer(self, key: int, like: Tensor) -> Tensor:
        """The parameter's buffer, a new one if it has changed."""
        kept = self._buffers.get(key)
        same = kept is not None and (kept.shape, kept.dtype, kept.device) == (
            like.shape,
            like.dtype,
            like.device,
        )
        return kept if kept is not None and same else torch.empty_like(like)

    def after(self, entries: Sequence[Entry]) -> Tensor:
        """The step was made: how far it moved each, and, in a second row, the norms before it."""
        if self._places and all(entry.key in self._places for entry in entries):
            return torch.from_numpy(self._of_small(entries))
        large = [entry for entry in entries if entry.key not in self._places]
        olds = [self._buffers[entry.key] for entry in large]
        news = [_sample(entry.parameter, self.stride) for entry in large]
        sizes = norms(olds)
        torch._foreach_sub_(olds, news)
        found = torch.stack([norms(olds), sizes])
        if len(large) == len(entries):
            return found
        small = [entry.key in self._places for entry in entries]
        whole = np.empty((2, len(entries)))
        whole[:, np.logical_not(small)] = found.numpy()
        whole[:, small] = self._of_small([e for e in entries if e.key in self._places])
        return torch.from_numpy(whole)

    def _of_small(self, entries: Sequence[Entry]) -> np.ndarray[Any, Any]:
        if self._moved is None:
            assert self._news is not None
            assert self._olds is not None
            self._news.load(self._small)
            self._news.subtract_from(self._olds)
            self._moved = np.stack([self._news.norms(), self._olds.norms()])
        return self._moved[:, [self._places[entry.key] for entry in entries]]

    def forget(self) -> None:
        """Give the buffers back."""
        self._buffers, self._fresh, self._seen = {}, False, []
        self._divide([])

    def forget_values(self) -> None:
        """What the buffers hold is not of the step that is to be made."""
        self._fresh = False

    def has(self, key: int) -> bool:
        """Whether the parameter's weights before this step are known."""
        return self._fresh and (key in self._buffers or key in self._places)


def _ours(parameter: Tensor) -> bool:
    """Whether it is small, and nothing but a tensor of the host."""
    return type(parameter) in (Tensor, torch.nn.Parameter) and fits(parameter)


# -- the way home --------------------------------------------------------------------------


def pack(tensors: dict[str, Tensor]) -> tuple[Tensor, list[tuple[str, torch.dtype, list[int]]]]:
    """All in one tensor of bytes, the widest types first, and what is where."""
    ordered = sorted(tensors.items(), key=lambda item: -item[1].dtype.itemsize)
    layout = [(name, tensor.dtype, list(tensor.shape)) for name, tensor in ordered]
    return torch.cat([t.contiguous().view(-1).view(torch.uint8) for _, t in ordered]), layout


class Packet:
    """Results of one device on their way to the host; on the host itself they are there already."""

    def __init__(self, device: torch.device, results: Results) -> None:
        self._results = results
        self._arrived: Callable[[], bool] | None = None
        if device.type == "cpu":
            return
        packed, self._layout = pack(results.tensors)
        self._results = Results({}, results.orders)
        # Into pinned memory, which PyTorch allocates for it and keeps until the copy is done.
        self._host = packed.to("cpu", non_blocking=True)
        self._arrived = device_mark(torch, device)

    def ready(self) -> bool:
        """Whether everything has arrived. Never waits."""
        return self._arrived is None or self._arrived()

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        """The results by name, once they have arrived."""
        if self._arrived is None:
            return {name: tensor.numpy() for name, tensor in self._results.tensors.items()}
        found = {}
        at = 0
        for name, dtype, shape in self._layout:
            size = math.prod(shape) * dtype.itemsize
            array = self._host[at : at + size].view(dtype).view(shape).numpy()
            order = self._results.orders.get(name)
            if order is not None:
                sorted_ = np.empty_like(array)
                sorted_[order] = array
                array = sorted_
            found[name] = array
            at += size
        return found
