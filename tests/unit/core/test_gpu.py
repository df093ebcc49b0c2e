from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from trackway.core.companion._gpu import GpuSampler

GIB = 1 << 30


class _RefusedError(Exception):
    """The stand-in's NVMLError."""


class Board:
    """One GPU, or one MIG instance of a GPU."""

    def __init__(self, uuid: str, *, instances: tuple[Board | None, ...] = ()) -> None:
        self.uuid = uuid
        self.instances = instances
        self.refuses: set[str] = set()
        self.compute: list[tuple[int, int | None]] = []
        self.graphics: list[tuple[int, int | None]] = []


class _Nvml:
    """Stands in for ``pynvml``: the same names, the same kinds of answers, made-up boards."""

    NVMLError = _RefusedError
    NVML_TEMPERATURE_GPU = pynvml.NVML_TEMPERATURE_GPU
    NVML_CLOCK_SM = pynvml.NVML_CLOCK_SM

    def __init__(self, *boards: Board) -> None:
        self.boards = boards
        self.starts = 0

    def nvmlInit(self) -> None:  # noqa: N802
        self.starts += 1

    def nvmlSystemGetDriverVersion(self) -> str:  # noqa: N802
        return "570.1"

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self.boards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Board:  # noqa: N802
        return self._ask(self.boards[index], "handle")

    def nvmlDeviceGetUUID(self, board: Board) -> str:  # noqa: N802
        return self._ask(board, "uuid").uuid

    def nvmlDeviceGetName(self, board: Board) -> str:  # noqa: N802
        self._ask(board, "name")
        return "NVIDIA Test"

    def nvmlDeviceGetMemoryInfo(self, board: Board) -> Any:  # noqa: N802
        self._ask(board, "memory")
        memory = pynvml.c_nvmlMemory_t()
        memory.total, memory.free, memory.used = 80 * GIB, 60 * GIB, 20 * GIB
        return memory

    def nvmlDeviceGetUtilizationRates(self, board: Board) -> Any:  # noqa: N802
        self._ask(board, "utilization")
        rates = pynvml.c_nvmlUtilization_t()
        rates.gpu, rates.memory = 97, 12
        return rates

    def nvmlDeviceGetTemperature(self, board: Board, sensor: int) -> int:  # noqa: N802
        assert sensor == pynvml.NVML_TEMPERATURE_GPU
        self._ask(board, "temperature")
        return 61

    def nvmlDeviceGetPowerUsage(self, board: Board) -> int:  # noqa: N802
        self._ask(board, "power")
        return 345_600

    def nvmlDeviceGetEnforcedPowerLimit(self, board: Board) -> int:  # noqa: N802
        self._ask(board, "power limit")
        return 700_000

    def nvmlDeviceGetClockInfo(self, board: Board, kind: int) -> int:  # noqa: N802
        assert kind == pynvml.NVML_CLOCK_SM
        self._ask(board, "clock")
        return 1980

    def nvmlDeviceGetComputeRunningProcesses(self, board: Board) -> list[Any]:  # noqa: N802
        self._ask(board, "processes")
        return [SimpleNamespace(pid=pid, usedGpuMemory=size) for pid, size in board.compute]

    def nvmlDeviceGetGraphicsRunningProcesses(self, board: Board) -> list[Any]:  # noqa: N802
        self._ask(board, "processes")
        return [SimpleNamespace(pid=pid, usedGpuMemory=size) for pid, size in board.graphics]

    def nvmlDeviceGetMaxMigDeviceCount(self, board: Board) -> int:  # noqa: N802
        if not board.instances:
            raise _RefusedError("Not Supported")
        return len(board.instances)

    def nvmlDeviceGetMigDeviceHandleByIndex(self, board: Board, index: int) -> Board:  # noqa: N802
        instance = board.instances[index]
        if instance is None:
            raise _RefusedError("Not Found")
        return instance

    def _ask(self, board: Board, what: str) -> Board:
        if what in board.refuses:
            raise _RefusedError(f"no {what}")
        return board


def _boards(count: int) -> tuple[Board, ...]:
    return tuple(Board(f"GPU-{index}000-aaaa") for index in range(count))


def _indices(sampler: GpuSampler) -> list[object]:
    return [gpu["index"] for gpu in sampler.describe()]


@pytest.mark.parametrize("name", [name for name in vars(_Nvml) if name.startswith("nvml")])
def test_the_stand_in_has_the_names_of_pynvml(name: str) -> None:
    """Every function the stand-in offers exists in the installed pynvml."""
    assert callable(getattr(pynvml, name))


def test_every_reading_has_its_key_and_unit() -> None:
    """One GPU gives exactly these keys, in these units."""
    (board,) = _boards(1)
    board.compute = [(11, 3 * GIB), (99, 5 * GIB)]
    sampler = GpuSampler(lambda: {11, 12}, "0", _Nvml(board))
    assert sampler.reason is None
    assert sampler.sample() == {
        "gpu.0.utilization_percent": 97,
        "gpu.0.memory_used_bytes": 20 * GIB,
        "gpu.0.memory_total_bytes": 80 * GIB,
        "gpu.0.memory_percent": 25.0,
        "gpu.0.temperature_celsius": 61,
        "gpu.0.power_watts": 345.6,
        "gpu.0.power_limit_watts": 700.0,
        "gpu.0.clock_sm_mhz": 1980,
        "gpu.0.process_memory_bytes": 3 * GIB,
    }


def test_description() -> None:
    """A GPU is described by index, name, UUID, memory and driver."""
    sampler = GpuSampler(set, None, _Nvml(*_boards(1)))
    assert sampler.describe() == [
        {
            "index": 0,
            "name": "NVIDIA Test",
            "uuid": "GPU-0000-aaaa",
            "memory_bytes": 80 * GIB,
            "driver": "570.1",
        }
    ]


def test_what_cannot_be_described_is_none() -> None:
    """A GPU that refuses its name and its memory is described all the same."""
    (board,) = _boards(1)
    board.refuses = {"name", "memory"}
    (told,) = GpuSampler(set, None, _Nvml(board)).describe()
    assert told["name"] is None
    assert told["memory_bytes"] is None
    assert told["uuid"] == "GPU-0000-aaaa"


@pytest.mark.parametrize(
    ("refused", "missing"),
    [
        ("utilization", {"utilization_percent"}),
        ("memory", {"memory_used_bytes", "memory_total_bytes", "memory_percent"}),
        ("temperature", {"temperature_celsius"}),
        ("power", {"power_watts"}),
        ("power limit", {"power_limit_watts"}),
        ("clock", {"clock_sm_mhz"}),
        ("processes", {"process_memory_bytes"}),
    ],
)
def test_a_refused_reading_costs_its_own_keys_only(refused: str, missing: set[str]) -> None:
    """What a GPU does not support is left out; all else is there."""
    (board,) = _boards(1)
    board.compute = [(11, GIB)]
    full = set(GpuSampler(lambda: {11}, "0", _Nvml(board)).sample())
    board.refuses = {refused}
    assert full - set(GpuSampler(lambda: {11}, "0", _Nvml(board)).sample()) == {
        f"gpu.0.{name}" for name in missing
    }


@pytest.mark.parametrize(
    ("visible", "owned"),
    [
        ("0,2", [0, 2]),
        (" 2 , 0 ", [2, 0]),
        ("1,1", [1]),
        ("", []),
        ("-1", []),
        ("0,-1,2", [0]),
        ("0,9,2", [0]),
        ("NoDevFiles", []),
        ("GPU-2000-aaaa", [2]),
        ("GPU-1", [1]),
        ("GPU-", []),
        ("GPU-7", []),
        ("MIG-7", []),
    ],
)
def test_visible_gpus_are_the_owned_ones(visible: str, owned: list[int]) -> None:
    """CUDA_VISIBLE_DEVICES is read as CUDA reads it: up to the first item that names no GPU."""
    sampler = GpuSampler(set, visible, _Nvml(*_boards(3)))
    assert _indices(sampler) == owned
    assert (sampler.reason is None) == bool(owned)
    assert {key.split(".")[1] for key in sampler.sample()} == set(map(str, owned))


def test_a_mig_instance_is_named_after_its_gpu() -> None:
    """Memory is the instance's own; temperature, power and clock are those of the whole GPU."""
    instance = Board("MIG-bbbb")
    instance.refuses = {"utilization", "temperature", "power", "power limit", "clock"}
    instance.compute = [(11, GIB)]
    board = Board("GPU-0000", instances=(None, instance))
    sampler = GpuSampler(lambda: {11}, "MIG-bbbb", _Nvml(board))
    assert _indices(sampler) == ["0_mig1"]
    assert sampler.sample() == {
        "gpu.0_mig1.memory_used_bytes": 20 * GIB,
        "gpu.0_mig1.memory_total_bytes": 80 * GIB,
        "gpu.0_mig1.memory_percent": 25.0,
        "gpu.0_mig1.temperature_celsius": 61,
        "gpu.0_mig1.power_watts": 345.6,
        "gpu.0_mig1.power_limit_watts": 700.0,
        "gpu.0_mig1.clock_sm_mhz": 1980,
        "gpu.0_mig1.process_memory_bytes": GIB,
    }


def test_without_the_variable_gpus_with_a_process_of_the_run_are_owned() -> None:
    """All GPUs count until a process of the run is seen on one; that one counts from then on."""
    all_boards = _boards(3)
    sampler = GpuSampler(lambda: {11}, None, _Nvml(*all_boards))
    assert {key.split(".")[1] for key in sampler.sample()} == {"0", "1", "2"}
    all_boards[2].compute = [(11, GIB)]
    assert {key.split(".")[1] for key in sampler.sample()} == {"2"}
    all_boards[2].compute = []
    all_boards[0].graphics = [(11, None)]
    values = sampler.sample()
    assert {key.split(".")[1] for key in values} == {"0", "2"}
    assert values["gpu.0.process_memory_bytes"] == 0
    assert "gpu.2.process_memory_bytes" not in values


def test_a_process_in_both_lists_counts_once() -> None:
    """A process that computes and draws is listed twice by the driver, with the same memory."""
    (board,) = _boards(1)
    board.compute = board.graphics = [(11, 2 * GIB)]
    values = GpuSampler(lambda: {11}, "0", _Nvml(board)).sample()
    assert values["gpu.0.process_memory_bytes"] == 2 * GIB


def test_a_lost_gpu_does_not_hide_the_others() -> None:
    """A GPU that fell off the bus keeps its index, and the others keep theirs."""
    all_boards = _boards(3)
    all_boards[1].refuses = {"handle"}
    assert _indices(GpuSampler(set, None, _Nvml(*all_boards))) == [0, 2]


def test_a_newer_driver_tells_the_temperature_by_its_newer_call() -> None:
    """Where the older call is gone, the newer one is asked."""

    class _Newer(_Nvml):
        nvmlDeviceGetTemperature = None  # type: ignore[assignment]  # noqa: N815

        def nvmlDeviceGetTemperatureV(self, board: Board, sensor: int) -> int:  # noqa: N802
            return 62

    assert GpuSampler(set, "0", _Newer(*_boards(1))).sample()["gpu.0.temperature_celsius"] == 62


def test_a_driver_that_refuses_to_start() -> None:
    """Without a driver there are no GPUs, and the reason is kept."""

    class _Absent(_Nvml):
        def nvmlInit(self) -> None:  # noqa: N802
            raise _RefusedError("Driver Not Loaded")

    sampler = GpuSampler(set, None, _Absent(*_boards(2)))
    assert sampler.reason == "no NVIDIA driver answers: Driver Not Loaded"
    assert sampler.sample() == {}
    assert sampler.describe() == []


def test_a_driver_without_gpus() -> None:
    """A driver that knows no GPU is told apart from a run that may see none."""
    assert GpuSampler(set, None, _Nvml()).reason == "no NVIDIA GPU found"
    assert GpuSampler(set, "", _Nvml(*_boards(1))).reason == "no GPU is visible to the run"


def test_a_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pynvml there are no GPUs, and the reason says so."""
    monkeypatch.setitem(__import__("sys").modules, "pynvml", None)
    sampler = GpuSampler(set, None)
    assert sampler.reason is not None
    assert sampler.reason.startswith("pynvml cannot be imported: ")
    assert sampler.sample() == {}


def test_the_real_driver_or_its_absence() -> None:
    """The real pynvml either finds GPUs or says why not; neither raises."""
    sampler = GpuSampler(set, None)
    if Path("/dev/nvidiactl").exists():
        assert sampler.describe()
        assert all(key.startswith("gpu.") for key in sampler.sample())
    else:
        assert str(sampler.reason).startswith("no NVIDIA driver answers: ")
        assert sampler.sample() == {}
        assert sampler.describe() == []
