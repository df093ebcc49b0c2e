from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from trackway.backend.file.process import process_started
from trackway.core.companion import _system
from trackway.core.companion._system import SystemSampler, memory_limit

linux = pytest.mark.skipif(
    sys.platform != "linux", reason="needs Linux: psutil tells less elsewhere"
)

NOW_KEYS = {
    "load.1m",
    "memory.used_bytes",
    "memory.available_bytes",
    "memory.percent",
    "disk.used_percent",
    "disk.free_bytes",
    "process.count",
    "process.memory_rss_bytes",
    "process.threads",
    "companion.memory_rss_bytes",
}
RATE_KEYS = {
    "cpu.percent",
    "cpu.per_core_max_percent",
    "disk.read_bytes_per_s",
    "disk.write_bytes_per_s",
    "network.sent_bytes_per_s",
    "network.received_bytes_per_s",
    "process.cpu_percent",
    "process.read_bytes_per_s",
    "process.write_bytes_per_s",
    "companion.cpu_percent",
}
DEPENDS_ON_MACHINE = {
    "swap.used_bytes",
    "swap.percent",
    "cgroup.memory_limit_bytes",
    "cgroup.memory_used_bytes",
}

TRAINING = """
import subprocess, sys
for line in sys.stdin:
    exec(line)
    print("done", flush=True)
"""
BURN = "import time\nwhile time.process_time() < 0.5: pass"


class _Training:
    """A process that runs one line of Python after the other, on request."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.pid = process.pid

    def do(self, line: str) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "done\n"


@contextmanager
def _training() -> Iterator[_Training]:
    process = subprocess.Popen(
        [sys.executable, "-c", TRAINING],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    family = psutil.Process(process.pid)
    try:
        yield _Training(process)
    finally:
        doomed = family.children(recursive=True) if family.is_running() else []
        process.kill()
        for member in doomed:
            member.kill()
        process.communicate()


def _sampler_of(run: _Training) -> SystemSampler:
    return SystemSampler(run.pid, process_started(run.pid), Path())


def _usage(
    cpu_s: float,
    children_cpu_s: float = 0.0,
    *,
    read: float | None = None,
    write: float | None = None,
    created: float = 0.0,
) -> _system._Usage:
    return _system._Usage(cpu_s, children_cpu_s, read, write, created)


@linux
def test_the_first_sample_has_no_rates_and_the_second_has() -> None:
    """A rate is given from the second sample on; what is known at once is in both."""
    with _training() as run:
        sampler = _sampler_of(run)
        first = sampler.sample()
        time.sleep(0.05)
        second = sampler.sample()
    assert set(first) - DEPENDS_ON_MACHINE == NOW_KEYS
    assert set(second) - DEPENDS_ON_MACHINE == NOW_KEYS | RATE_KEYS
    assert all(isinstance(value, (int, float)) for value in second.values())


@linux
def test_values_are_plausible() -> None:
    """Percentages, sizes and counts are in the units their names say."""
    with _training() as run:
        sampler = _sampler_of(run)
        sampler.sample()
        time.sleep(0.2)
        values = sampler.sample()
    assert 0 <= values["cpu.percent"] <= values["cpu.per_core_max_percent"] <= 100
    assert 0 < values["memory.percent"] < 100
    assert 0 < values["memory.used_bytes"] < psutil.virtual_memory().total
    assert 0 < values["disk.used_percent"] < 100
    total = psutil.virtual_memory().total
    assert 1 << 20 < values["process.memory_rss_bytes"] < total
    assert 1 << 20 < values["companion.memory_rss_bytes"] < total
    assert values["process.count"] == 1
    assert values["process.threads"] == 1
    assert min(values.values()) >= 0


@linux
def test_the_tree_is_the_process_and_all_its_descendants() -> None:
    """Children and grandchildren count as soon as the next sample; nobody else does."""
    child = "import subprocess, sys; subprocess.run(['sleep', '60'])"
    with _training() as run:
        sampler = _sampler_of(run)
        assert sampler.sample()["process.count"] == 1
        assert sampler.pids() == {run.pid}
        run.do(f"p = subprocess.Popen([sys.executable, '-c', {child!r}])")
        deadline = time.monotonic() + 20
        while sampler.sample()["process.count"] != 3:
            assert time.monotonic() < deadline
            sampler._tree._next_scan = 0.0
            time.sleep(0.02)
        members = psutil.Process(run.pid).children(recursive=True)
        assert sampler.pids() == {run.pid, *(member.pid for member in members)}


@linux
def test_the_time_of_a_child_that_came_and_went_is_counted() -> None:
    """A child that lived between two samples only has its 0.5 s in the tree's CPU time."""
    with _training() as run:
        sampler = _sampler_of(run)
        sampler.sample()
        started = time.monotonic()
        run.do(f"subprocess.run([sys.executable, '-c', {BURN!r}])")
        values = sampler.sample()
        elapsed_s = time.monotonic() - started
    assert 0.45 < values["process.cpu_percent"] / 100 * elapsed_s < 1.5


@linux
def test_bytes_of_a_child_that_came_and_went_are_counted(tmp_path: Path) -> None:
    """What a child wrote between two samples is in the tree's bytes."""
    write = f"open({str(tmp_path / 'f')!r}, 'wb').write(bytes(10_000_000))"
    with _training() as run:
        sampler = _sampler_of(run)
        sampler.sample()
        started = time.monotonic()
        run.do(f"subprocess.run([sys.executable, '-c', {write!r}])")
        values = sampler.sample()
        elapsed_s = time.monotonic() - started
    written = values["process.write_bytes_per_s"] * elapsed_s
    # tmpfs writes no bytes to a disk
    assert written == pytest.approx(1e7, rel=0.2) or written < 1e5


def test_spent_by_those_who_stayed() -> None:
    """A process in both samples counts what it used in between."""
    spent = dict(
        _system._spent(
            {"a": _usage(5.0, read=100, write=10)}, {"a": _usage(7.5, read=400, write=20)}, 50.0
        )
    )
    assert spent == {
        "process.cpu_percent": 250.0,
        "process.read_bytes_per_s": 300,
        "process.write_bytes_per_s": 10,
    }


def test_spent_by_a_newborn_counts_whole() -> None:
    """A process born since the last sample counts all it used; one merely new to us does not."""
    last = {"a": _usage(5.0)}
    born = {"a": _usage(5.0), "b": _usage(2.0, created=51.0)}
    given = {"a": _usage(5.0), "b": _usage(2.0, created=10.0)}
    assert dict(_system._spent(last, born, 50.0)) == {"process.cpu_percent": 200.0}
    assert dict(_system._spent(last, given, 50.0)) == {"process.cpu_percent": 0.0}


def test_spent_by_a_collected_child_is_not_counted_twice() -> None:
    """Of a child that was seen before it was collected, only what is new counts."""
    last = {"a": _usage(5.0, 1.0, read=0), "b": _usage(3.0, 0.5, read=70)}
    now = {"a": _usage(5.0, 1.0 + 4.5, read=100)}
    assert dict(_system._spent(last, now, 50.0)) == {
        "process.cpu_percent": 100.0,
        "process.read_bytes_per_s": 30,
        "process.write_bytes_per_s": 0,
    }


def test_spent_by_a_lost_child_is_never_negative() -> None:
    """A child that somebody else collected takes away no CPU time, and leaves the bytes unknown."""
    last = {"a": _usage(5.0, read=0), "b": _usage(30.0, read=70)}
    assert dict(_system._spent(last, {"a": _usage(6.0, read=10)}, 50.0)) == {
        "process.cpu_percent": 100.0,
        "process.write_bytes_per_s": 0,
    }


@linux
def test_a_vanished_process_costs_its_own_keys_only() -> None:
    """When the training is gone, the machine is still sampled."""
    with _training() as run:
        sampler = _sampler_of(run)
        sampler.sample()
        run.process.kill()
        run.process.wait()
        time.sleep(0.05)
        values = sampler.sample()
    assert not [key for key in values if key.startswith(("process.", "cgroup."))]
    assert {"cpu.percent", "memory.used_bytes", "companion.cpu_percent"} <= set(values)
    assert sampler.pids() == set()


@linux
def test_a_zombie_is_no_part_of_the_tree() -> None:
    """A training process that nobody has collected yet has no memory and no threads."""
    with _training() as run:
        sampler = _sampler_of(run)
        run.process.kill()
        while psutil.Process(run.pid).status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.005)
        assert not [key for key in sampler.sample() if key.startswith("process.")]


def test_a_pid_used_again_is_not_sampled() -> None:
    """A live process that started at another time is not the training."""
    with _training() as run:
        values = SystemSampler(run.pid, 1.0, Path()).sample()
    assert not [key for key in values if key.startswith("process.")]
    assert "memory.used_bytes" in values


@pytest.mark.parametrize(
    ("function", "error", "lost"),
    [
        ("virtual_memory", psutil.AccessDenied(), "memory.percent"),
        ("disk_usage", FileNotFoundError(), "disk.used_percent"),
        ("cpu_times", NotImplementedError(), "cpu.percent"),
        ("net_io_counters", RuntimeError(), "network.sent_bytes_per_s"),
    ],
)
def test_a_refused_reading_costs_its_own_keys_only(
    function: str, error: Exception, lost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the system refuses to tell is left out; all else is there."""

    def refuse(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(psutil, function, refuse)
    with _training() as run:
        sampler = _sampler_of(run)
        sampler.sample()
        values = sampler.sample()
    assert lost not in values
    assert "load.1m" in values
    assert "companion.memory_rss_bytes" in values


def test_a_vanished_root_costs_its_own_keys_only(tmp_path: Path) -> None:
    """When the folder is deleted, only its volume is missing from the sample."""
    with _training() as run:
        sampler = SystemSampler(run.pid, None, tmp_path / "gone")
        values = sampler.sample()
    assert "disk.used_percent" not in values
    assert "memory.used_bytes" in values


def test_the_tree_is_searched_seldom_where_that_is_dear(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search that took a second is not repeated for five minutes; its members are sampled."""
    with _training() as run:
        sampler = _sampler_of(run)
        tree = sampler._tree
        clock = [1000.0]
        fixed = SimpleNamespace(monotonic=lambda: clock[0], time=time.time)
        monkeypatch.setattr(_system, "time", fixed)
        scans: list[float] = []
        scan = tree._scan

        def slow_scan() -> list[psutil.Process]:
            scans.append(clock[0])
            clock[0] += 1.0
            return scan()

        monkeypatch.setattr(tree, "_scan", slow_scan)
        for _ in range(4):
            assert dict(tree.read())["process.count"] == 1
            clock[0] += 100.0
        assert scans == [1000.0, 1301.0]


def test_a_counter_that_fell_gives_no_rate() -> None:
    """A counter that began anew is passed over once; new counters are not counted from zero."""
    rates = _system._Rates()
    assert list(rates.of("k", {"a": 10.0})) == []
    time.sleep(0.01)
    assert list(rates.of("k", {"a": 5.0})) == []
    time.sleep(0.01)
    ((key, rate),) = rates.of("k", {"a": 6.0, "b": 1e9})
    assert key == "k"
    assert 0 < rate <= 100


def _make_group(folder: Path, **files: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        (folder / name.replace("__", ".")).write_text(f"{value}\n")


def test_memory_limit_of_version_2(tmp_path: Path) -> None:
    """The tightest limit above the process counts, less the cache that can be dropped."""
    stat = "anon 400\ninactive_file 100\nactive_file 7"
    _make_group(tmp_path / "job", memory__max=1000, memory__current=600, memory__stat=stat)
    _make_group(tmp_path / "job/step", memory__max="max", memory__current=50, memory__stat=stat)
    assert memory_limit("0::/job/step\n", tmp_path) == (1000, 500)
    _make_group(tmp_path / "job/step", memory__max=900)
    assert memory_limit("0::/job/step\n", tmp_path) == (900, 0)


def test_memory_limit_of_version_1(tmp_path: Path) -> None:
    """The memory controller's own tree counts, under its own names."""
    stat = "inactive_file 1\ntotal_inactive_file 200"
    _make_group(
        tmp_path / "memory/docker/ab",
        memory__limit_in_bytes=5000,
        memory__usage_in_bytes=700,
        memory__stat=stat,
    )
    groups = "12:cpu,cpuacct:/docker/ab\n4:memory:/docker/ab\n0::/x\n"
    assert memory_limit(groups, tmp_path) == (5000, 500)


def test_memory_limit_inside_a_container(tmp_path: Path) -> None:
    """Where only the topmost group is mounted, its limit is the container's."""
    _make_group(
        tmp_path / "memory",
        memory__limit_in_bytes=5000,
        memory__usage_in_bytes=700,
        memory__stat="",
    )
    assert memory_limit("4:memory:/docker/not-mounted-here\n", tmp_path) == (5000, 700)
    assert memory_limit("4:memory:/../../elsewhere\n", tmp_path) == (5000, 700)


@pytest.mark.parametrize("unlimited", ["max", 9223372036854771712])
def test_no_memory_limit(tmp_path: Path, unlimited: object) -> None:
    """A group without a limit gives none, and neither does a text that is no list of groups."""
    _make_group(tmp_path / "job", memory__max=unlimited, memory__current=600, memory__stat="")
    assert memory_limit("0::/job\n", tmp_path) is None
    assert memory_limit("", tmp_path) is None
    assert memory_limit("nonsense", tmp_path) is None


@linux
def test_the_companion_is_no_part_of_the_tree() -> None:
    """Where orphans are given to the training process, the companion does not count itself."""
    import trackway

    home = str(Path(trackway.__file__).parents[1])
    code = (
        f"import sys, os, subprocess; sys.path.insert(0, {home!r})\n"
        "from pathlib import Path\n"
        "from trackway.core.companion._system import SystemSampler\n"
        "child = subprocess.Popen(['sleep', '60'])\n"
        "sampler = SystemSampler(os.getppid(), None, Path())\n"
        "print(int(sampler.sample()['process.count']), sampler.pids() == {os.getppid()})\n"
        "child.kill(); child.wait()"
    )
    with _training() as run:
        run.do(f"out = subprocess.check_output([sys.executable, '-c', {code!r}])")
        run.do("assert out == b'1 True\\n', out")
