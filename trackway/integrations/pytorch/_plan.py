"""What is read of an optimizer: found once, and again when its gradients are not what they were."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from trackway.integrations.pytorch._model import Known
from trackway.integrations.pytorch._read import Entry, local, placed, prepare
from trackway.integrations.pytorch._rows import Columns
from trackway.integrations.pytorch._together import MOST, Together, fits

__all__ = ["Group", "Plan"]


class Group:
    """Parameters that are read together: those of a device, or small ones of the host.

    Args:
        parameters: They.
        entries: Their names and values.
        together: Where the small ones' values are copied to.
    """

    def __init__(
        self, parameters: list[Tensor], entries: list[Entry], together: Together | None
    ) -> None:
        self.parameters = parameters
        self.entries = entries
        self.together = together
        self.device: torch.device = entries[0].values.device
        self._kinds = [(p.shape, p.dtype) for p in parameters]

    def load(self) -> bool:
        """Take the gradients as they are now; returns whether they are still of this kind."""
        if self.together is None:
            return self._renew()
        gradients = []
        for parameter, (shape, dtype) in zip(self.parameters, self._kinds, strict=True):
            gradient = parameter.grad
            if (
                gradient is None
                or type(gradient) is not Tensor
                or gradient.dtype is not dtype
                or gradient.layout is not torch.strided
                or not gradient.is_cpu
                or gradient.shape != shape
            ):
                return False
            gradients.append(gradient)
        self.together.load(gradients)
        return True

    def _renew(self) -> bool:
        found = []
        for parameter, entry in zip(self.parameters, self.entries, strict=True):
            gradient = parameter.grad
            prepared = None if gradient is None else prepare(gradient)
            if prepared is None or prepared[0].device != self.device:
                return False
            found.append(
                entry._replace(parameter=local(parameter), values=prepared[0], absent=prepared[1])
            )
        self.entries = found
        return True

    def release(self) -> None:
        """Hold no gradient until the next reading."""
        if self.together is None:
            self.entries = [entry._replace(parameter=None, values=None) for entry in self.entries]


class Plan:
    """The groups of an optimizer's parameters that can be read.

    It holds the parameters; who has a plan drops it when the optimizer is gone.

    Args:
        watched: The optimizer's parameters that have a name.
        sharded: Whether other ranks have other parts of them, which these do not know.
    """

    def __init__(self, watched: Sequence[tuple[Tensor, Known]], sharded: bool) -> None:
        self._idle: list[Tensor] = []
        devices: dict[torch.device, list[tuple[Tensor, Entry]]] = {}
        for parameter, known in watched:
            prepared = None if parameter.grad is None else prepare(parameter.grad)
            if prepared is None:
                self._idle.append(parameter)
                continue
            here, counted = placed(parameter)
            entry = Entry(
                id(parameter),
                known.order,
                known.name,
                local(parameter),
                *prepared,
                here or sharded,
                counted,
            )
            devices.setdefault(entry.values.device, []).append((parameter, entry))
        host = {device.type for device in devices} == {"cpu"}
        self.groups: list[Group] = []
        for pairs in devices.values():
            self._divide(pairs, host)
        self.columns = Columns([group.entries for group in self.groups])
        for group in self.groups:
            group.release()

    def _divide(self, pairs: list[tuple[Tensor, Entry]], host: bool) -> None:
        """The small ones of the host apart; beside a device they would not last till it answers."""
        small = [host and _plain(parameter) for parameter, _ in pairs]
        rest = [pair for pair, apart in zip(pairs, small, strict=True) if not apart]
        if rest:
            rest.sort(key=lambda pair: str(pair[1].values.dtype))
            self.groups.append(Group([p for p, _ in rest], [e for _, e in rest], None))
        few: list[tuple[Tensor, Entry]] = []
        size = 0
        for pair, apart in zip(pairs, small, strict=True):
            if apart:
                if size + pair[0].numel() > MOST:
                    self._join(few)
                    few, size = [], 0
                few.append(pair)
                size += pair[0].numel()
        if few:
            self._join(few)

    def _join(self, pairs: list[tuple[Tensor, Entry]]) -> None:
        together = Together([parameter.shape for parameter, _ in pairs])
        entries = [
            entry._replace(parameter=parameter, values=values)
            for (parameter, entry), values in zip(pairs, together.flats, strict=True)
        ]
        self.groups.append(Group([p for p, _ in pairs], entries, together))

    def load(self) -> bool:
        """Take the gradients as they are now; False where another plan is needed."""
        return all(_unread(p) for p in self._idle) and all(group.load() for group in self.groups)


def _plain(parameter: Tensor) -> bool:
    """Whether it is small, and its gradient a tensor of its own kind."""
    gradient = parameter.grad
    return (
        type(gradient) is Tensor
        and fits(parameter)
        and fits(gradient)
        and gradient.dtype is parameter.dtype
        and gradient.shape == parameter.shape
    )


def _unread(parameter: Tensor) -> bool:
    return parameter.grad is None or prepare(parameter.grad) is None
