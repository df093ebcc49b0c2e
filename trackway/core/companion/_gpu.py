"""Samples the NVIDIA GPUs that the run owns.

A GPU is named by its NVML index, which follows the PCI bus, as in ``nvidia-smi``; a MIG instance
by its GPU's index and its own (``0_mig1``). A reading that a GPU or driver does not support is
left out. An instance shares temperature, power and clock with its whole GPU.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

__all__ = ["GpuSampler"]


class _Gpu(NamedTuple):
    label: str
    handle: Any
    uuid: str
    board: Any  # the whole GPU's handle: the same, except for a MIG instance


class GpuSampler:
    """The run's GPUs, one dict of numbers a sample.

    The run owns the GPUs that ``CUDA_VISIBLE_DEVICES`` names. Without it, it owns those on which
    one of its processes has been seen; until then, and in a container whose processes the driver
    does not know by our numbers, all.

    The driver may take seconds to answer, the first time above all.

    Args:
        pids: The run's processes now.
        visible: Value of ``CUDA_VISIBLE_DEVICES``; None when it is not set.
        nvml: Stands in for the ``pynvml`` module in tests.

    Attributes:
        reason: Why there are no GPUs; None when there are.
    """

    def __init__(self, pids: Callable[[], set[int]], visible: str | None, nvml: Any = None) -> None:
        self.reason: str | None = None
        self._pids = pids
        self._nvml: Any = nvml
        self._gpus: list[_Gpu] = []
        self._chosen: list[_Gpu] | None = None
        self._seen: set[str] = set()
        self._start(visible)

    def sample(self) -> dict[str, float]:
        """What can be read now."""
        pids = self._pids()
        used = {gpu.label: self._process_memory(gpu, pids) for gpu in self._candidates()}
        self._seen.update(label for label, size_bytes in used.items() if size_bytes is not None)
        values: dict[str, float] = {}
        for gpu in self._owned():
            for reading in (self._utilization, self._memory, self._temperature, self._power,
                            self._power_limit, self._clock):  # fmt: skip
                with contextlib.suppress(self._nvml.NVMLError):
                    values.update((f"gpu.{gpu.label}.{name}", v) for name, v in reading(gpu))
            size_bytes = used.get(gpu.label)
            if size_bytes is not None:
                values[f"gpu.{gpu.label}.process_memory_bytes"] = size_bytes
        return values

    def describe(self) -> list[dict[str, object]]:
        """Index, name, UUID, memory and driver of each GPU; None for what cannot be read."""
        if self.reason is not None:
            return []
        nvml = self._nvml
        driver = self._told(nvml.nvmlSystemGetDriverVersion)
        told: list[dict[str, object]] = []
        for gpu in self._owned():
            memory = self._told(nvml.nvmlDeviceGetMemoryInfo, gpu.handle)
            told.append(
                {
                    "index": int(gpu.label) if gpu.label.isdigit() else gpu.label,
                    "name": self._told(nvml.nvmlDeviceGetName, gpu.handle),
                    "uuid": gpu.uuid,
                    "memory_bytes": None if memory is None else memory.total,
                    "driver": driver,
                }
            )
        return told

    def _start(self, visible: str | None) -> None:
        try:
            if self._nvml is None:
                self._nvml = importlib.import_module("pynvml")
            self._nvml.nvmlInit()
        except ImportError as error:
            self.reason = f"pynvml cannot be imported: {error}"
            return
        except self._nvml.NVMLError as error:
            self.reason = f"no NVIDIA driver answers: {error}"
            return
        self._gpus = list(self._find())
        if visible is not None:
            self._chosen = self._choose(visible)
        if not self._candidates():
            self.reason = "no GPU is visible to the run" if self._gpus else "no NVIDIA GPU found"

    def _find(self) -> Iterator[_Gpu]:
        nvml = self._nvml
        for index in range(self._told(nvml.nvmlDeviceGetCount) or 0):
            with contextlib.suppress(nvml.NVMLError):  # one lost GPU does not hide the others
                handle = nvml.nvmlDeviceGetHandleByIndex(index)
                yield _Gpu(str(index), handle, nvml.nvmlDeviceGetUUID(handle), handle)

    def _find_instances(self) -> Iterator[_Gpu]:
        nvml = self._nvml
        for gpu in self._gpus:
            for index in range(self._told(nvml.nvmlDeviceGetMaxMigDeviceCount, gpu.handle) or 0):
                with contextlib.suppress(nvml.NVMLError):  # a place without an instance
                    handle = nvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu.handle, index)
                    uuid = nvml.nvmlDeviceGetUUID(handle)
                    yield _Gpu(f"{gpu.label}_mig{index}", handle, uuid, gpu.handle)

    def _choose(self, visible: str) -> list[_Gpu]:
        """The GPUs a value of CUDA_VISIBLE_DEVICES names.

        As for CUDA, the first item that names no GPU ends the list, and a UUID may be cut short.
        """
        chosen: list[_Gpu] = []
        for item in visible.split(","):
            name = item.strip()
            if name.isdecimal():
                named = [gpu for gpu in self._gpus if gpu.label == str(int(name))]
            elif name.startswith(("GPU-", "MIG-")):
                known = self._gpus if name.startswith("GPU-") else self._find_instances()
                named = [gpu for gpu in known if gpu.uuid.startswith(name)]
            else:
                named = []
            if len(named) != 1:
                break
            chosen += [gpu for gpu in named if gpu not in chosen]
        return chosen

    def _candidates(self) -> list[_Gpu]:
        return self._gpus if self._chosen is None else self._chosen

    def _owned(self) -> list[_Gpu]:
        if self._chosen is None and self._seen:
            return [gpu for gpu in self._gpus if gpu.label in self._seen]
        return self._candidates()

    def _told(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """The function's answer; None where the driver refuses one."""
        try:
            return function(*arguments)
        except self._nvml.NVMLError:
            return None

    def _process_memory(self, gpu: _Gpu, pids: set[int]) -> float | None:
        """GPU memory of the run's processes; None where none of them is on this GPU."""
        nvml = self._nvml
        found: dict[int, int] = {}
        for function in (
            nvml.nvmlDeviceGetComputeRunningProcesses,
            nvml.nvmlDeviceGetGraphicsRunningProcesses,
        ):
            for process in self._told(function, gpu.handle) or ():
                if process.pid in pids:
                    # A process that computes and draws is in both lists, with all its memory.
                    found[process.pid] = process.usedGpuMemory or 0
        return float(sum(found.values())) if found else None

    def _utilization(self, gpu: _Gpu) -> Iterator[tuple[str, float]]:
        yield "utilization_percent", self._nvml.nvmlDeviceGetUtilizationRates(gpu.handle).gpu

    def _memory(self, gpu: _Gpu) -> Iterator[tuple[str, float]]:
        memory = self._nvml.nvmlDeviceGetMemoryInfo(gpu.handle)
        yield "memory_used_bytes", memory.used
        yield "memory_total_bytes", memory.total
        if memory.total:
            yield "memory_percent", 100 * memory.used / memory.total

    def _temperature(self, gpu: _Gpu) -> Iterator[tuple[str, float]]:
        nvml = self._nvml
        # The older call is to be removed from new drivers, the newer one is not in old ones.
        for name in ("nvmlDeviceGetTemperature", "nvmlDeviceGetTemperatureV"):
            function = getattr(nvml, name, None)
            if function is not None:
                celsius = self._told(function, gpu.board, nvml.NVML_TEMPERATURE_GPU)
                if celsius is not None:
                    yield "temperature_celsius", celsius
                    return

    def _power(self, gpu: _Gpu) -> Iterator[tuple[str, float]]:
        yield "power_watts", self._nvml.nvmlDeviceGetPowerUsage(gpu.board) / 1000

    def _power_limit(self, gpu: _Gpu) -> Iterator[tuple[str, float]]:
        yield "power_limit_watts", self._nvml.nvmlDeviceGetEnforcedPowerLimit(gpu.board) / 1000

    def _clock(self, gpu: _Gpu) -> Iterator[tuple[str, float]]:
        nvml = self._nvml
        yield "clock_sm_mhz", nvml.nvmlDeviceGetClockInfo(gpu.board, nvml.NVML_CLOCK_SM)
