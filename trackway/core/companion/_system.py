"""Samples the machine and the run's processes.

Every key carries its unit. What cannot be known is left out, never given as zero: a rate has no
value in the first sample, and a reading that fails costs its own keys only.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import psutil

__all__ = ["SystemSampler", "be_idle", "memory_limit"]

Reading = Iterator[tuple[str, float]]

_UNREADABLE: Final = (psutil.Error, OSError, ValueError, RuntimeError, NotImplementedError)
"""What psutil raises where the system does not tell, or tells in a form it does not know."""

_PSEUDO_DISKS: Final = ("loop", "ram", "zram", "dm-", "md", "sr", "fd")

_UNLIMITED_BYTES: Final = 1 << 60

_CLOCK_TOLERANCE_S: Final = 2.0
"""The clock of the machine may be set between two readings of a start time."""

_SCAN_PAUSE: Final = 300
"""Finding the tree reads every process of the machine: at most this fraction of the time."""


class SystemSampler:
    """The state of the machine and of one process tree, one dict of numbers a sample.

    Args:
        pid: The training process, root of the tree. The companion itself never counts to it.
        process_started: When it started, in seconds since 1970; None takes whoever has the pid.
        root: Folder whose volume is measured.
    """

    def __init__(self, pid: int, process_started: float | None, root: Path) -> None:
        self._root = root
        self._tree = _ProcessTree(pid, process_started)
        self._own = psutil.Process()
        self._rates = _Rates()
        self._cores: list[tuple[float, float]] = []
        self._real_disks = _devices(Path("/sys/block"), virtual="/devices/virtual/block/")
        self._real_networks = _devices(Path("/sys/class/net"), virtual="/devices/virtual/net/")
        self._parts: tuple[Callable[[], Reading], ...] = (
            self._cpu,
            self._load,
            self._memory,
            self._swap,
            self._volume,
            self._disks,
            self._network,
            self._tree.read,
            self._cgroup,
            self._companion_cpu,
            self._companion_memory,
        )

    def sample(self) -> dict[str, float]:
        """What can be read now; rates are means since the last sample."""
        values: dict[str, float] = {}
        for part in self._parts:
            with contextlib.suppress(*_UNREADABLE):
                values.update(part())
        return values

    def pids(self) -> set[int]:
        """The process tree as the last sample found it."""
        return set(self._tree.pids)

    def _cpu(self) -> Reading:
        cores = [_busy_and_total(times) for times in psutil.cpu_times(percpu=True)]
        before, self._cores = self._cores, cores
        if len(before) != len(cores):
            return
        spent = [(b - b0, t - t0) for (b, t), (b0, t0) in zip(cores, before, strict=True)]
        total = sum(t for _, t in spent)
        if total > 0:
            yield "cpu.percent", _percent(sum(b for b, _ in spent), total)
            yield "cpu.per_core_max_percent", max(_percent(b, t) for b, t in spent if t > 0)

    def _load(self) -> Reading:
        yield "load.1m", os.getloadavg()[0]

    def _memory(self) -> Reading:
        memory = psutil.virtual_memory()
        yield "memory.used_bytes", memory.used
        yield "memory.available_bytes", memory.available
        yield "memory.percent", memory.percent

    def _swap(self) -> Reading:
        swap = psutil.swap_memory()
        if swap.total > 0:
            yield "swap.used_bytes", swap.used
            yield "swap.percent", swap.percent

    def _volume(self) -> Reading:
        usage = psutil.disk_usage(os.fspath(self._root))
        yield "disk.used_percent", usage.percent
        yield "disk.free_bytes", usage.free

    def _disks(self) -> Reading:
        counters = psutil.disk_io_counters(perdisk=True, nowrap=False) or {}
        names = self._real_disks & counters.keys() or {
            name for name in counters if not name.startswith(_PSEUDO_DISKS)
        }
        if names:
            read = {name: counters[name].read_bytes for name in names}
            written = {name: counters[name].write_bytes for name in names}
            yield from self._rates.of("disk.read_bytes_per_s", read)
            yield from self._rates.of("disk.write_bytes_per_s", written)

    def _network(self) -> Reading:
        counters = psutil.net_io_counters(pernic=True, nowrap=False)
        # A bridge or tunnel repeats what a real card carries; a container has no real card.
        names = self._real_networks & counters.keys() or {
            name for name in counters if not name.startswith("lo")
        }
        if names:
            sent = {name: counters[name].bytes_sent for name in names}
            received = {name: counters[name].bytes_recv for name in names}
            yield from self._rates.of("network.sent_bytes_per_s", sent)
            yield from self._rates.of("network.received_bytes_per_s", received)

    def _cgroup(self) -> Reading:
        groups = Path(f"/proc/{self._tree.pid}/cgroup").read_text()
        limit = memory_limit(groups)
        if limit is not None:
            yield "cgroup.memory_limit_bytes", limit.limit_bytes
            yield "cgroup.memory_used_bytes", limit.used_bytes

    def _companion_cpu(self) -> Reading:
        times = os.times()
        spent = times.user + times.system + times.children_user + times.children_system
        for key, rate in self._rates.of("companion.cpu_percent", {"": spent}):
            yield key, 100 * rate

    def _companion_memory(self) -> Reading:
        yield "companion.memory_rss_bytes", self._own.memory_info().rss


def be_idle() -> None:
    """Let every other process have the disk first; only Linux knows how."""
    if psutil.LINUX:
        with contextlib.suppress(*_UNREADABLE):
            psutil.Process().ionice(psutil.IOPRIO_CLASS_IDLE)


class _Rates:
    """Counters that only rise, as a rate since they were last read."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[float, Mapping[str, float]]] = {}

    def of(self, key: str, counters: Mapping[str, float]) -> Reading:
        """The summed rate of the counters known from last time; nothing where there is none."""
        now = time.monotonic()
        last = self._last.get(key)
        self._last[key] = now, counters
        if last is None or now <= last[0]:
            return
        before = last[1]
        rises = [value - before[name] for name, value in counters.items() if name in before]
        if rises and min(rises) >= 0:  # a counter that fell began anew
            yield key, sum(rises) / (now - last[0])


class _Usage(NamedTuple):
    """What one process has used since it started, and its collected children with it."""

    cpu_s: float
    children_cpu_s: float
    read_bytes: float | None
    write_bytes: float | None
    created: float


class _ProcessTree:
    """The training process and all its descendants, ours excepted.

    Children come and go between samples. Their counters do not vanish: when a parent collects
    a child, the kernel adds what the child used to the parent's ``children`` counters.
    """

    def __init__(self, pid: int, started: float | None) -> None:
        self.pid = pid
        self.pids: set[int] = set()
        self._root: psutil.Process | None = None
        self._last: dict[psutil.Process, _Usage] = {}
        self._last_clock = 0.0
        self._family: list[psutil.Process] = []
        self._next_scan = 0.0
        self._scanned = self._scanned_before = 0.0
        with contextlib.suppress(*_UNREADABLE):
            root = psutil.Process(pid)
            if started is None or abs(root.create_time() - started) < _CLOCK_TOLERANCE_S:
                self._root = root

    def read(self) -> Reading:
        """Memory and threads as they are now, times and bytes as rates."""
        clock = time.monotonic()
        usages: dict[psutil.Process, _Usage] = {}
        rss_bytes = threads = 0
        self.pids = set()
        for process in self._processes():
            with contextlib.suppress(psutil.NoSuchProcess), process.oneshot():
                usages[process] = _usage(process)
                if process.status() == psutil.STATUS_ZOMBIE:
                    continue
                rss_bytes += process.memory_info().rss
                threads += process.num_threads()
                self.pids.add(process.pid)
        last, self._last = self._last, usages
        elapsed_s, self._last_clock = clock - self._last_clock, clock
        if not self.pids:
            return
        yield "process.count", len(self.pids)
        yield "process.memory_rss_bytes", rss_bytes
        yield "process.threads", threads
        if last and elapsed_s > 0:
            for key, spent in _spent(last, usages, self._scanned_before):
                yield key, spent / elapsed_s

    def _processes(self) -> list[psutil.Process]:
        started = time.monotonic()
        if started < self._next_scan:
            return [process for process in self._family if process.is_running()]
        self._scanned_before, self._scanned = self._scanned, time.time()
        self._family = self._scan()
        self._next_scan = started + _SCAN_PAUSE * (time.monotonic() - started)
        return self._family

    def _scan(self) -> list[psutil.Process]:
        root = self._root
        if root is None or root.status() == psutil.STATUS_ZOMBIE:
            return []
        family = [root, *root.children(recursive=True)]
        ours = os.getpid()
        # In a container the training process can be the one that orphans are given to, us too.
        if root.pid != ours and any(process.pid == ours for process in family):
            own = {ours, *(child.pid for child in psutil.Process().children(recursive=True))}
            return [process for process in family if process.pid not in own]
        return family


def _usage(process: psutil.Process) -> _Usage:
    cpu = process.cpu_times()
    read_bytes = write_bytes = None
    if hasattr(process, "io_counters"):
        with contextlib.suppress(psutil.AccessDenied):
            counters = process.io_counters()
            read_bytes, write_bytes = counters.read_bytes, counters.write_bytes
    children_s = getattr(cpu, "children_user", 0.0) + getattr(cpu, "children_system", 0.0)
    return _Usage(cpu.user + cpu.system, children_s, read_bytes, write_bytes, process.create_time())


def _spent(last: Mapping[Any, _Usage], usages: Mapping[Any, _Usage], since: float) -> Reading:
    """What the tree used between two samples, children that came or went included."""
    own_s = children_s = read_bytes = write_bytes = 0.0
    for process, usage in usages.items():
        before = last.get(process)
        if before is None:
            # Unless born since the tree was last searched, it was given to this tree by another,
            # and what it used until now is not of this interval.
            is_new = usage.created >= since - _CLOCK_TOLERANCE_S
            before = _Usage(0, 0, 0, 0, 0) if is_new else usage
        own_s += usage.cpu_s - before.cpu_s
        children_s += usage.children_cpu_s - before.children_cpu_s
        read_bytes += (usage.read_bytes or 0) - (before.read_bytes or 0)
        write_bytes += (usage.write_bytes or 0) - (before.write_bytes or 0)
    for process, before in last.items():
        if process not in usages:
            # Part of what its parent's counters rose by was in the last sample already.
            children_s -= before.cpu_s + before.children_cpu_s
            read_bytes -= before.read_bytes or 0
            write_bytes -= before.write_bytes or 0
    yield "process.cpu_percent", 100 * (own_s + max(0.0, children_s))
    known = any(usage.read_bytes is not None for usage in usages.values())
    # Below zero, somebody else collected a child: what it used is lost to us.
    if known and read_bytes >= 0:
        yield "process.read_bytes_per_s", read_bytes
    if known and write_bytes >= 0:
        yield "process.write_bytes_per_s", write_bytes


class _Limit(NamedTuple):
    limit_bytes: int
    used_bytes: int


def memory_limit(groups: str, mount: Path = Path("/sys/fs/cgroup")) -> _Limit | None:
    """The tightest memory limit above a process, and what counts against it there.

    Page cache that the kernel would drop first is not counted as used.

    Args:
        groups: Text of ``/proc/<pid>/cgroup``.
        mount: Where the cgroup file systems are mounted.
    """
    found: _Limit | None = None
    for line in groups.splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "":
            names = "memory.max", "memory.current", "inactive_file"
            base = mount
        elif "memory" in controllers.split(","):
            names = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
            base = mount / "memory"
        else:
            continue
        for folder in _upwards(base, path):
            limit = _limit_in(folder, *names)
            if limit is not None and (found is None or limit.limit_bytes < found.limit_bytes):
                found = limit
    return found


def _upwards(base: Path, path: str) -> Iterator[Path]:
    """The group's folder and every one above it; a container may show the topmost only."""
    parts = [part for part in path.split("/") if part not in ("", "..")]
    for count in range(len(parts), -1, -1):
        yield base.joinpath(*parts[:count])


def _limit_in(folder: Path, limit_name: str, used_name: str, inactive: str) -> _Limit | None:
    try:
        limit_bytes = int((folder / limit_name).read_text())  # "max" is no number
        if limit_bytes >= _UNLIMITED_BYTES:
            return None
        used_bytes = int((folder / used_name).read_text())
        for line in (folder / "memory.stat").read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == inactive:
                used_bytes -= int(value)
    except (OSError, ValueError):
        return None
    return _Limit(limit_bytes, max(0, used_bytes))


def _busy_and_total(times: Any) -> tuple[float, float]:
    # The kernel counts a guest's time as user time too.
    total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    return total - times.idle - getattr(times, "iowait", 0.0), total


def _percent(part: float, whole: float) -> float:
    return min(100.0, max(0.0, 100 * part / whole))


def _devices(folder: Path, virtual: str) -> set[str]:
    """Names of the devices in a folder of /sys that stand for hardware."""
    try:
        return {path.name for path in folder.iterdir() if virtual not in str(path.resolve())}
    except (OSError, RuntimeError):
        return set()
