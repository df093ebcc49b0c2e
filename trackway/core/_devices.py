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


class _Copy:
    """One asynchronous copy: of which names, whether it has arrived, and what arrived."""

    __slots__ = ("arrived", "fetch", "names")

    def __init__(
        self, names: list[str], arrived: Callable[[], bool], fetch: Callable[[], list[Any]]
    ) -> None:
        self.names = names
        self.arrived = arrived
        self.fetch = fetch


class Copies:
    """The asynchronous copies of one call's device scalars.

    Attributes:
        refused: Name and reason of each value whose device gave none.
    """

    def __init__(self) -> None:
        self.refused: list[tuple[str, str]] = []
        self._under_way: list[_Copy] = []
        self._arrived: dict[str, Number | str | None] = {}

    def begin(self, names: list[str], start: Callable[[], _Copy]) -> None:
        """Begin one copy; a device that refuses costs its own values only."""
        try:
            self._under_way.append(start())
        except (RuntimeError, NotImplementedError, AttributeError) as error:
            self._refuse(names, error)

    def ready(self) -> bool:
        """Whether every copy has arrived or failed. Never waits."""
        while self._under_way:
            copy = self._under_way[-1]
            try:
                if not copy.arrived():
                    return False
                items = copy.fetch()
                self._arrived.update(zip(copy.names, map(from_python, items), strict=True))
            except RuntimeError as error:  # the device failed behind us
                self._refuse(copy.names, error)
            self._under_way.pop()
        return True

    def items(self) -> dict[str, Number | str | None]:
        """The numbers that have arrived, as ``number_of`` gives them."""
        return self._arrived

    def _refuse(self, names: list[str], error: Exception) -> None:
        why = " ".join(str(error).split())[:200]
        self.refused += [(name, why) for name in names]


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
            _begin_jax(copies, name, value)
    for (device, _), members in groups.items():
        _begin_torch(copies, torch, device, members)
    return copies


def _begin_jax(copies: Copies, name: str, value: Any) -> None:
    def start() -> _Copy:
        array = value if value.is_fully_addressable else value.addressable_data(0)
        array.copy_to_host_async()
        return _Copy([name], array.is_ready, lambda: [array.item()])

    copies.begin([name], start)


def _begin_torch(copies: Copies, torch: Any, device: Any, members: dict[str, Any]) -> None:
    """One stacked copy for the scalars of one device and dtype, and an event behind it."""

    def start() -> _Copy:
        cuda = torch.cuda
        if device.type == "cuda" and cuda.is_initialized() and cuda.is_current_stream_capturing():
            raise RuntimeError("its CUDA graph is being captured")
        with torch.no_grad():
            scalars = [member.detach().reshape(()) for member in members.values()]
            stacked = torch.stack(scalars) if len(scalars) > 1 else scalars[0].reshape(1)
            # Into pinned memory: PyTorch allocates it for a non-blocking copy, and its host
            # allocator keeps the block until the copy is done.
            host = stacked.to("cpu", non_blocking=True)
        return _Copy(list(members), device_mark(torch, device), host.tolist)

    copies.begin(list(members), start)


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
