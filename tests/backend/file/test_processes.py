"""Many writers at once, forks, and kills, with real processes."""

from __future__ import annotations

import os
import random
import signal
import struct
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from mmap import mmap
from pathlib import Path

import trackway
from trackway.backend.file.folder import logs
from trackway.backend.file.format import Header
from trackway.backend.file.reader import LogReader
from trackway.backend.file.writer import LogWriter

from .given import Disk, row, told, unmeasured, write_rows, writer_at

HOME = str(Path(trackway.__file__).parents[1])

CROWD = """
import sys, threading
from pathlib import Path
from trackway.backend.file.writer import LogWriter
me = int(sys.argv[2])
writer = LogWriter.create(Path(sys.argv[1]), project="p", run="r")
def work(thread):
    for step in range(120):
        writer.row({"shared": step, "who": me * 8 + thread}, step, time=1.0)
        names = {f"p{me}/t{thread}/{step % 10}": step, "x": thread}
        writer.row(names, step, time=1.0)
        if step % 50 == 0:
            writer.event("value", {"step": step, "data": {"p": me, "t": thread}}, 1.0)
threads = [threading.Thread(target=work, args=(thread,)) for thread in range(8)]
print("ready", flush=True)
sys.stdin.readline()
for thread in threads: thread.start()
for thread in threads: thread.join()
writer.close()
assert writer.loss.records == 0
"""


def test_eight_processes_of_eight_threads_lose_and_double_nothing(tmp_path: Path) -> None:
    """Each value of 64 threads and 650 keysets is found exactly once, under its own name."""
    command = [sys.executable, "-c", CROWD, str(tmp_path)]
    crowd = [
        subprocess.Popen(
            [*command, str(me)],
            cwd=HOME,
            env=unmeasured(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for me in range(8)
    ]
    for process in crowd:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
    for process in crowd:
        process.communicate(b"go\n", timeout=60)
        assert process.returncode == 0
    files = logs(tmp_path / "p" / "r")
    assert len(files) == 8
    found = []
    for path in files:
        log = told(path)
        assert (log.damage, log.pending, len(log.reader.keysets)) == ([], 0, 81)
        found += log.records
    expected = []
    for me in range(8):
        for thread in range(8):
            for step in range(120):
                expected.append(row(["shared", "who"], step, [step, me * 8 + thread], 1.0))
                names = [f"p{me}/t{thread}/{step % 10}", "x"]
                expected.append(row(names, step, [step, thread], 1.0))
                if step % 50 == 0:
                    value = {"step": step, "data": {"p": me, "t": thread}}
                    expected.append(("event", "value", 1.0, value))
    assert len(found) == len(expected)
    assert sorted(map(repr, found)) == sorted(map(repr, expected))


# -- forks -----------------------------------------------------------------------------------------


def in_child(work: Callable[[], object]) -> None:
    """Do it in a forked child, which must end well."""
    with warnings.catch_warnings():
        # A fork of a process with threads may deadlock in the child: that is what is tested.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        except BaseException as error:  # noqa: BLE001 - a forked test must never go on as pytest
            os.write(2, f"{error!r}\n".encode())
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0


def test_a_forked_child_leaves_the_parents_log_alone(tmp_path: Path) -> None:
    """It abandons it, writes its own, and even what it writes into the old one goes nowhere."""
    path = tmp_path / "parent.log"
    writer = writer_at(path)
    made = write_rows(writer, ["x"], range(3))

    def work() -> None:
        writer.abandon()
        assert not writer.row({"x": 99.0}, 99)
        writer.close()
        own = writer_at(tmp_path / "child.log")
        write_rows(own, ["x"], range(10, 13))
        own.close()

    in_child(work)
    made += write_rows(writer, ["x"], range(3, 6))
    writer.close()
    assert told(path).records == made
    assert told(tmp_path / "child.log").records == [
        row(["x"], step, [float(step)]) for step in range(10, 13)
    ]


def test_a_child_of_a_parent_in_trouble_does_not_write_what_the_parent_holds(
    tmp_path: Path,
) -> None:
    """What waits in memory for the disk is written once, by the parent."""
    path = tmp_path / "w.log"
    disk = Disk()
    writer = writer_at(path, disk)
    made = write_rows(writer, ["x"], [0])
    disk.room = 10
    made += write_rows(writer, ["x"], [1, 2])

    def work() -> None:
        writer.abandon()
        disk.room = None
        writer.flush()
        writer.close()

    in_child(work)
    disk.room = None
    writer.close(5)
    found = told(path)
    assert (found.records, found.damage) == (made, [])


def test_a_child_forked_while_a_thread_holds_the_lock_is_not_stuck(tmp_path: Path) -> None:
    """The lock belongs to a thread that does not exist in the child."""
    writer = writer_at(tmp_path / "w.log")

    def work() -> None:
        writer.abandon()
        late = threading.Thread(target=writer.row, args=({"y": 1.0}, 0), daemon=True)
        late.start()
        late.join(10)
        assert not late.is_alive()

    with writer._lock:
        in_child(work)
    writer.close()


# -- kills -----------------------------------------------------------------------------------------

VICTIM = """
import sys, mmap, struct
from pathlib import Path
from trackway.backend.file.format import Header
from trackway.backend.file.writer import LogWriter
path, shared, end, next_keyset = Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:])
header = Header("r", "p", "w", "g")
if path.exists():
    writer = LogWriter.reopen(path, end=end, header=header, next_keyset=next_keyset)
else:
    writer = LogWriter(path, header)
with shared.open("r+b") as file:
    page = mmap.mmap(file.fileno(), 8)
step = struct.unpack("<q", page[:8])[0]
print("up", flush=True)
while True:
    writer.row({"a": step / 4, "b": -step, f"n{step % 3}": 1.0}, step, time=1.0)
    step += 1
    page[:8] = struct.pack("<q", step)  # one copy; pack_into would write zeros first
"""


def test_a_kill_costs_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """SIGKILL at 20 random moments of one log: each time it is reopened and goes on.

    What a child had been told was stored is there; at most the one record it was in the middle
    of is, too, or is torn.
    """
    path, shared = tmp_path / "w.log", tmp_path / "count"
    shared.write_bytes(bytes(8))
    chance = random.Random(11)
    reader = LogReader(path)
    found: list[int] = []
    for turn in range(20):
        known = (reader.offset, reader.next_keyset)
        process = subprocess.Popen(
            [sys.executable, "-c", VICTIM, str(path), str(shared), *map(str, known)],
            cwd=HOME,
            env=unmeasured(),
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        time.sleep(chance.uniform(0, 0.03))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        with shared.open("r+b") as file, mmap(file.fileno(), 8) as page:
            (acknowledged,) = struct.unpack("<q", page[:8])
            batch = reader.read()
            assert batch.damage == []
            assert reader.restarts == 0
            for rows in batch.rows:
                names = reader.keysets[rows.keyset].names
                for step, values in zip(rows.steps.tolist(), rows.values.tolist(), strict=True):
                    assert names == ("a", "b", f"n{step % 3}")
                    assert values == [step / 4, -step, 1.0]
                    found.append(step)
            found.sort()
            assert acknowledged <= len(found) <= acknowledged + 1, turn
            assert found == list(range(len(found)))
            page[:8] = struct.pack("<q", len(found))
    assert len(found) > 20
    writer = LogWriter.reopen(
        path,
        end=reader.offset,
        header=reader.header or Header("r", "p", "w", "g"),
        next_keyset=reader.next_keyset,
    )
    writer.row({"last": 0.5}, 0, time=1.0)
    writer.close()
    end = told(path)
    assert end.records[-1] == row(["last"], 0, [0.5], 1.0)
    assert (end.damage, end.pending, len(end.generations)) == ([], 0, 21)
    assert len(set(end.generations)) == 21
