"""Scalars on a device, read without ever making the program wait for the device.

A value is copied asynchronously behind the work already queued for it; its row is written by a
later call, once the copy has arrived. Steps may therefore be written out of order, which the
format allows.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from trackway.core._values import Number, from_python

__all__ = ["Copies", "start_copies"]


class Copies:
    """Asynchronous copies of one call's device scalars.

    ``ready`` never waits. ``items`` may be asked once it is true.
    """

    def __init__(self) -> None:
        self._arrived: list[Callable[[], bool]] = []
        self._fetch: list[Callable[[], dict[str, Number | str | None]]] = []
        self.refused: list[tuple[str, str]] = []

    def ready(self) -> bool:
        """Whether every copy has arrived."""
        while self._arrived:
            if not self._arrived[-1]():
                return False
            self._arrived.pop()
        return True

    def items(self) -> dict[str, Number | str | None]:
        """The numbers, as ``number_of`` gives them."""
        found: dict[str, Number | str | None] = {}
        for fetch in self._fetch:
            found.update(fetch())
        return found

    def _add(
        self, arrived: Callable[[], bool], fetch: Callable[[], dict[str, Number | str | None]]
    ) -> None:
        self._arrived.append(arrived)
        self._fetch.append(fetch)


def start_copies(values: dict[str, Any]) -> Copies:
    """Begin to copy scalars (torch or JAX) into the memory of this process."""
    copies = Copies()
    torch = sys.modules.get("torch")
    groups: dict[tuple[Any, Any], dict[str, Any]] = {}
    for name, value in values.items():
        if torch is not None and isinstance(value, torch.Tensor):
            local = value.to_local() if type(value).__name__ == "DTensor" else value
            groups.setdefault((local.device, local.dtype), {})[name] = local
        else:
            _start_jax(copies, name, value)
    for (device, _), members in groups.items():
        _start_torch(copies, torch, device, members)
    return copies


def _start_jax(copies: Copies, name: str, value: Any) -> None:
    array = value if value.is_fully_addressable else value.addressable_data(0)
    array.copy_to_host_async()
    copies._add(array.is_ready, lambda: {name: from_python(array.item())})


def _start_torch(copies: Copies, torch: Any, device: Any, members: dict[str, Any]) -> None:
    """One stacked copy for the scalars of one device and dtype, and an event behind it."""
    if device.type == "cuda" and torch.cuda.is_current_stream_capturing():
        copies.refused += [(name, "its CUDA graph is being captured") for name in members]
        return
    with torch.no_grad():
        scalars = [member.detach().reshape(()) for member in members.values()]
        stacked = torch.stack(scalars) if len(scalars) > 1 else scalars[0].reshape(1)
        # Into pinned memory: PyTorch allocates it for a non-blocking copy, and its host
        # allocator keeps the block until the copy is done.
        host = stacked.to("cpu", non_blocking=True)
    arrived = device_mark(torch, device)
    names = list(members)
    copies._add(arrived, lambda: dict(zip(names, map(from_python, host.tolist()), strict=True)))


def device_mark(torch: Any, device: Any) -> Callable[[], bool]:
    """A question that is true once the device has done all that is queued now.

    Raises:
        RuntimeError: The device has no events, so its values cannot be read without waiting.
    """
    module: Any = getattr(torch, device.type, None)
    if not hasattr(module, "Event"):
        raise RuntimeError(
            f"values on {device.type!r} cannot be read without waiting for the device; "
            "log value.item() where waiting is acceptable"
        )
    event = module.Event()
    if device.type == "mps":
        event.record()
    else:
        event.record(module.current_stream(device))
    query: Callable[[], bool] = event.query
    return query
