from __future__ import annotations

import errno
import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from trackway.backend.file import _trouble as trouble_module
from trackway.backend.file import writer as writer_module
from trackway.backend.file.format import FRAME, Keyset, encode_keyset, encode_row
from trackway.backend.file.writer import LogWriter

from .given import NOW, Disk, Record, event, opened, row, told, until, write_rows, writer_at

ROW_BYTES = len(encode_row(0, 0, NOW, [0.0]))


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A writer in trouble tries again after milliseconds rather than a second."""
    monkeypatch.setattr(trouble_module, "RETRY_S", 0.01)
    opened.clear()
    yield
    for writer in opened:
        writer.close(0.05)


@pytest.fixture
def disk() -> Iterator[Disk]:
    """A disk on which nothing hangs for ever."""
    made = Disk()
    yield made
    made.open.set()


class Heard:
    """What a writer told."""

    def __init__(self) -> None:
        self.kinds: list[str] = []
        self.sentences: list[str] = []

    def __call__(self, kind: str, sentence: str) -> None:
        """Remember it."""
        self.kinds.append(kind)
        self.sentences.append(sentence)


def sound(path: Path, made: list[Record]) -> None:
    """The log holds exactly these records, in this order, and no byte else."""
    found = told(path)
    assert found.records == made
    assert (found.damage, found.pending) == ([], 0)


def write_until_well(writer: LogWriter, names: list[str], step: int) -> list[Record]:
    """Rows until one of them goes straight to the file again."""
    made = []

    def well() -> bool:
        nonlocal step
        made.extend(write_rows(writer, names, [step]))
        step += 1
        return writer.trouble is None

    until(well)
    return made


# -- a full disk -----------------------------------------------------------------------------------


def test_a_row_cut_at_any_byte_is_completed(tmp_path: Path) -> None:
    """Whatever part of a record the disk takes: the rest follows, and nothing is damaged."""
    for part in range(ROW_BYTES):
        disk = Disk()
        path = tmp_path / f"{part}.log"
        writer = writer_at(path, disk)
        made = write_rows(writer, ["x"], [0])
        disk.room = part
        made += write_rows(writer, ["x"], [1, 2])
        disk.room = None
        made += write_rows(writer, ["x"], [3])
        writer.close(5)
        sound(path, made)
        assert writer.loss.records == 0


def test_a_declaration_cut_at_any_byte_is_completed(tmp_path: Path) -> None:
    """A keyset is written twice in one write: cut in the first or in the second."""
    size = 2 * len(encode_keyset(Keyset(1, ("y",), "f")))
    for part in range(size):
        disk = Disk()
        path = tmp_path / f"{part}.log"
        writer = writer_at(path, disk)
        made = write_rows(writer, ["x"], [0])
        disk.room = part
        made += write_rows(writer, ["y"], [1])
        disk.room = None
        made += write_rows(writer, ["x"], [2])
        writer.close(5)
        sound(path, made)


def test_a_flush_cut_at_any_byte_is_completed(tmp_path: Path) -> None:
    """Several records that waited are written at once, and cut; none is there twice."""
    for part in range(1, 4 * ROW_BYTES, 3):
        disk = Disk()
        path = tmp_path / f"{part}.log"
        writer = writer_at(path, disk)
        made = write_rows(writer, ["x"], [0])
        disk.room = 0
        made += write_rows(writer, ["x"], [1, 2, 3, 4])
        disk.room = part
        assert not writer.flush()
        disk.room = None
        made += write_rows(writer, ["x"], [5])
        writer.close(5)
        sound(path, made)


def test_a_disk_that_takes_a_few_bytes_at_a_time(tmp_path: Path) -> None:
    """Every write comes back short: all records are there in the end, in order, once."""
    path = tmp_path / "w.log"
    disk = Disk()

    def write(descriptor: int, data: bytes) -> int:
        return os.write(descriptor, data[:7])

    writer = writer_at(path, disk, write=write)
    made = write_rows(writer, ["x"], range(3))
    writer.event("end", {"state": "finished"}, NOW)
    writer.close(20)
    sound(path, [*made, event("end", {"state": "finished"})])
    assert writer.loss.records == 0


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EFBIG])
def test_a_disk_that_refuses_and_recovers_loses_nothing(
    tmp_path: Path, disk: Disk, error: int
) -> None:
    """What comes meanwhile waits in memory; later records go straight to the file again."""
    path = tmp_path / "w.log"
    heard = Heard()
    writer = writer_at(path, disk, heard)
    made = write_rows(writer, ["x"], range(5))
    disk.room, disk.error = 0, error
    assert not writer.row({"x": 5.0}, 5, time=NOW)
    made.append(row(["x"], 5, [5.0]))
    made += write_rows(writer, ["new", "names"], range(6, 100))
    assert not writer.event("console", {"lines": ["z"]}, NOW)
    made.append(event("console", {"lines": ["z"]}))
    assert not writer.flush()
    assert writer.trouble == heard.sentences[0]
    assert heard.sentences[0].startswith(
        os.strerror(error) + "; your program goes on, up to 16 MiB"
    )
    disk.room = None
    made += write_until_well(writer, ["new", "names"], 100)
    count = len(disk.writes)
    assert writer.row({"x": 0.0}, 500, time=NOW)
    made.append(row(["x"], 500, [0.0]))
    assert len(disk.writes) == count + 1
    assert heard.kinds == ["disk", "well"]
    writer.close()
    sound(path, made)
    assert (writer.loss.records, writer.loss.points, writer.loss.reasons) == (0, 0, {})


def test_a_header_that_found_no_room_still_comes_first(tmp_path: Path, disk: Disk) -> None:
    """A disk that is full from the start: the log begins with its header all the same."""
    for room in (0, 1, 50):
        path = tmp_path / f"{room}.log"
        disk.room = room
        writer = writer_at(path, disk)
        made = write_rows(writer, ["x"], range(3))
        disk.room = None
        writer.close(5)
        sound(path, made)
        assert told(path).reader.header is not None


def test_a_disk_that_stays_full_loses_what_the_buffer_does_not_hold(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted exactly in records and points, with the reason; nothing else is missing."""
    monkeypatch.setattr(trouble_module, "BUFFER_LIMIT", 1000)
    path = tmp_path / "w.log"
    writer = writer_at(path, disk)
    made = write_rows(writer, ["a", "b"], [0])
    size = len(encode_row(0, 0, NOW, [0.0, 0.0]))
    disk.room = 0
    rows = write_rows(writer, ["a", "b"], range(1, 101))
    fit = 1000 // size
    assert (writer.loss.records, writer.loss.points) == (100 - fit, 2 * (100 - fit))
    writer.event("console", {"lines": ["lost"]}, NOW)
    assert (writer.loss.records, writer.loss.points) == (101 - fit, 2 * (100 - fit))
    writer.close(0.05)
    assert (writer.loss.records, writer.loss.points) == (101, 200)
    assert writer.loss.reasons == {"No space left on device": 101}
    sound(path, made)
    assert len(rows) == 100


def test_rows_after_a_lost_declaration_are_readable(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The declaration did not fit into the buffer and rows did: it is made up for.

    Also for a caller that keeps a plan, as the fast path of ``log`` does.
    """
    monkeypatch.setattr(trouble_module, "BUFFER_LIMIT", 600)
    path = tmp_path / "w.log"
    writer = writer_at(path, disk)
    long = ["a name that is long enough " * 5, "and another one " * 10]
    made = write_rows(writer, ["x"], [0])
    disk.room = 0
    made += write_rows(writer, ["x"], [1, 2])
    kept = writer.plan(tuple(long), "ff")
    assert writer.write_frame(kept.frame(3, NOW, [3.0, 3.125])) is False
    made.append(row(long, 3, [3.0, 3.125]))
    assert writer.loss.records == 0
    disk.room = None
    made += write_until_well(writer, ["x"], 4)
    assert writer.write_frame(kept.frame(5, NOW, [5.0, 5.125]))
    made.append(row(long, 5, [5.0, 5.125]))
    made += write_rows(writer, long, [6])
    writer.close()
    sound(path, made)


def test_threads_lose_exactly_what_is_missing(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight threads against a disk that is full again and again: stored plus lost is all."""
    monkeypatch.setattr(trouble_module, "BUFFER_LIMIT", 5000)
    path = tmp_path / "w.log"
    writer = writer_at(path, disk)
    over = threading.Event()

    def work(me: int) -> None:
        for step in range(400):
            writer.row({f"thread {me}": step / 8}, step, time=NOW)

    def torment() -> None:
        while not over.is_set():
            disk.room = 300
            time.sleep(0.005)
            disk.room = None
            time.sleep(0.03)

    threads = [threading.Thread(target=work, args=(me,)) for me in range(8)]
    tormentor = threading.Thread(target=torment)
    for thread in (*threads, tormentor):
        thread.start()
    for thread in threads:
        thread.join()
    over.set()
    tormentor.join()
    disk.room = None
    writer.close(10)
    found = told(path).records
    assert len(found) == len({record[:3] for record in found})
    assert len(found) + writer.loss.records == 8 * 400
    assert writer.loss.points == writer.loss.records
    assert sum(writer.loss.reasons.values()) == writer.loss.records
    for me in range(8):
        mine = [record for record in found if record[1] == (f"thread {me}",)]
        assert mine == [row([f"thread {me}"], record[2], [record[2] / 8]) for record in mine]


# -- a folder that goes ----------------------------------------------------------------------------


def test_a_removed_folder_comes_back_while_writing(tmp_path: Path, disk: Disk) -> None:
    """Noticed within a second of the writer's clock; the file is there again with everything."""
    path = tmp_path / "run" / "w.log"
    heard = Heard()
    writer = writer_at(path, disk, heard)
    made = write_rows(writer, ["x"], range(10))
    shutil.rmtree(path.parent)
    made += write_rows(writer, ["x"], range(10, 20))
    disk.clock += 1.5
    made += write_rows(writer, ["x"], [20])
    until(path.exists)
    made += write_until_well(writer, ["x"], 21)
    writer.close()
    sound(path, made)
    assert heard.kinds == ["disk", "well"]
    assert heard.sentences[0].startswith("the folder of the run was removed; your program goes on")
    assert [file.name for file in path.parent.iterdir()] == ["w.log"]


def test_a_folder_removed_just_before_the_end_comes_back(tmp_path: Path) -> None:
    """Closing looks once more."""
    path = tmp_path / "run" / "w.log"
    writer = writer_at(path)
    made = write_rows(writer, ["x"], range(10))
    shutil.rmtree(path.parent)
    writer.close()
    sound(path, made)


def test_a_folder_that_was_restored_from_a_copy_is_written_whole(
    tmp_path: Path, disk: Disk
) -> None:
    """Removed and put back from a backup of a while ago: the log is complete again."""
    path = tmp_path / "run" / "w.log"
    writer = writer_at(path, disk)
    made = write_rows(writer, ["x"], range(5))
    shutil.copytree(path.parent, tmp_path / "backup")
    made += write_rows(writer, ["x"], range(5, 10))
    shutil.rmtree(path.parent)
    shutil.copytree(tmp_path / "backup", path.parent)
    disk.clock += 1.5
    made += write_until_well(writer, ["x"], 10)
    writer.close()
    sound(path, made)


def test_a_folder_that_cannot_be_made_again_is_tried_again(tmp_path: Path, disk: Disk) -> None:
    """A file is in its place, and then is not."""
    path = tmp_path / "run" / "w.log"
    writer = writer_at(path, disk)
    made = write_rows(writer, ["x"], range(5))
    shutil.rmtree(path.parent)
    path.parent.write_text("in the way")
    disk.clock += 1.5
    made += write_rows(writer, ["x"], range(5, 10))
    assert not writer.flush()
    path.parent.unlink()
    made += write_until_well(writer, ["x"], 10)
    writer.close()
    sound(path, made)


def test_a_full_disk_on_the_way_back_leaves_no_part_of_a_log(tmp_path: Path, disk: Disk) -> None:
    """The copy is whole or not there."""
    path = tmp_path / "run" / "w.log"
    writer = writer_at(path, disk)
    made = write_rows(writer, ["x"], range(50))
    shutil.rmtree(path.parent)
    disk.clock += 1.5
    disk.room = 500
    made += write_rows(writer, ["x"], [50])
    assert not writer.flush()
    disk.room = 500
    assert not writer.flush()
    until(lambda: disk.room == 0 and list(path.parent.iterdir()) == [])
    disk.room = None
    made += write_until_well(writer, ["x"], 51)
    writer.close()
    sound(path, made)


def test_a_moved_folder_is_written_where_it_went(tmp_path: Path, disk: Disk) -> None:
    """The file goes on in its new place, and nothing appears in the old one."""
    path = tmp_path / "run" / "w.log"
    writer = writer_at(path, disk)
    made = write_rows(writer, ["x"], range(5))
    path.parent.rename(tmp_path / "moved")
    disk.clock += 1.5
    made += write_rows(writer, ["x"], range(5, 10))
    writer.close()
    sound(tmp_path / "moved" / "w.log", made)
    assert not path.parent.exists()


# -- descriptors -----------------------------------------------------------------------------------


def test_a_program_that_closes_our_descriptor_loses_nothing(tmp_path: Path, disk: Disk) -> None:
    """As one that becomes a daemon does: the log is opened again and goes on."""
    path = tmp_path / "w.log"
    writer = writer_at(path, disk)
    made = write_rows(writer, ["x"], range(5))
    os.close(writer.fd)
    made += write_until_well(writer, ["x"], 5)
    writer.close()
    sound(path, made)


def test_a_descriptor_that_was_closed_with_its_file_removed_begins_again(
    tmp_path: Path, disk: Disk
) -> None:
    """The former bytes are beyond reach; what comes now is readable, names and all."""
    path = tmp_path / "w.log"
    writer = writer_at(path, disk)
    write_rows(writer, ["x"], range(5))
    os.close(writer.fd)
    path.unlink()
    made = write_until_well(writer, ["x"], 5)
    writer.close()
    sound(path, made)
    assert told(path).reader.header is not None


def test_a_descriptor_that_became_another_file_is_let_go(tmp_path: Path, disk: Disk) -> None:
    """Closed behind our back and used again by the program: that file is left alone."""
    path, other = tmp_path / "w.log", tmp_path / "other"
    writer = writer_at(path, disk)
    made = write_rows(writer, ["x"], range(5))
    os.close(writer.fd)
    descriptor = os.open(other, os.O_CREAT | os.O_RDWR)
    assert descriptor == writer.fd
    disk.clock += 1.5
    writer.check(disk.clock)
    made += write_until_well(writer, ["x"], 5)
    writer.close()
    sound(path, made)
    assert os.write(descriptor, b"mine") == 4
    os.close(descriptor)
    assert other.read_bytes() == b"mine"


def test_a_log_that_cannot_be_opened_is_opened_later(tmp_path: Path, disk: Disk) -> None:
    """No descriptor is left, or the folder is read-only: records wait, and are written."""
    for number in (errno.EMFILE, errno.EROFS, errno.EACCES):
        failing = [number] * 3
        path = tmp_path / f"{number}.log"
        heard = Heard()

        def open_new(new: Path, failing: list[int] = failing) -> int:
            if failing:
                raise OSError(failing[-1], os.strerror(failing.pop()))
            return os.open(new, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL)

        writer = writer_at(path, disk, heard, open_new=open_new)
        made = write_rows(writer, ["x"], range(5))
        assert writer.trouble is not None
        made += write_until_well(writer, ["x"], 5)
        writer.close()
        sound(path, made)
        expected = (
            f"cannot open the log ({os.strerror(number)}); your program goes on, up to 16 MiB"
        )
        assert heard.sentences[0].startswith(expected)


def test_a_log_that_can_never_be_opened_counts_everything(tmp_path: Path, disk: Disk) -> None:
    """Each row and each event, once; there is no file."""

    def make_folder(folder: Path) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    writer = writer_at(tmp_path / "no" / "w.log", disk, make_folder=make_folder)
    write_rows(writer, ["a", "b", "c"], range(10))
    writer.event("end", {"state": "finished"}, NOW)
    writer.close(0.05)
    assert (writer.loss.records, writer.loss.points) == (11, 30)
    assert writer.loss.reasons == {"Permission denied": 11}
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_does_not_confirm_is_told(tmp_path: Path, disk: Disk) -> None:
    """``flush(durable=True)`` says no, and why; the records are in the file."""
    heard = Heard()

    def fsync(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    path = tmp_path / "w.log"
    writer = writer_at(path, disk, heard, fsync=fsync)
    made = write_rows(writer, ["x"], [0])
    assert writer.flush()
    assert not writer.flush(durable=True)
    assert heard.sentences == ["the disk did not confirm the log (Input/output error)."]
    writer.close()
    sound(path, made)


def test_a_confirmed_flush_calls_fsync(tmp_path: Path, disk: Disk) -> None:
    """Once, on the log."""
    asked: list[int] = []
    writer = writer_at(tmp_path / "w.log", disk, fsync=asked.append)
    write_rows(writer, ["x"], [0])
    assert writer.flush(durable=True)
    assert asked == [writer.fd]
    writer.close()


def test_after_the_end_records_are_counted(tmp_path: Path, disk: Disk) -> None:
    """Whatever way the log ended."""
    for number, trouble in enumerate((False, True)):
        path = tmp_path / f"{number}.log"
        writer = writer_at(path, disk)
        made = write_rows(writer, ["x"], [0])
        if trouble:
            disk.room = 0
            made += write_rows(writer, ["x"], [1])
            disk.room = None
        writer.close(5)
        writer.close(5)
        assert not writer.row({"x": 2.0}, 2)
        assert not writer.event("end", {})
        assert (writer.loss.records, writer.loss.points) == (2, 1)
        assert writer.loss.reasons == {"the run was already finished": 2}
        sound(path, made)


# -- a disk that crawls ----------------------------------------------------------------------------


def test_a_crawling_disk_is_written_behind(tmp_path: Path, disk: Disk) -> None:
    """Past a bound records are written many at a time; told once; in order; nothing is lost."""
    path = tmp_path / "w.log"
    heard = Heard()
    writer = writer_at(path, disk, heard)
    disk.cost_s = 0.01
    made: list[Record] = []
    for step in range(40):
        made += write_rows(writer, ["x"], [step])
    assert heard.kinds == ["slow"]
    assert heard.sentences[0] == (
        "writes take 10.0 ms; records of this run are now written once a second, and a kill "
        "could cost the last second."
    )
    direct = [size for size in disk.writes if size == ROW_BYTES]
    assert 20 <= len(direct) < 40
    made += write_rows(writer, ["x"], range(40, 1000))
    writer.close(5)
    sound(path, made)
    assert len(disk.writes) < 200
    assert writer.loss.records == 0


def test_a_disk_that_is_quick_again_is_written_directly(tmp_path: Path, disk: Disk) -> None:
    """After some quick writes each record goes to the file by itself, before ``row`` returns."""
    path = tmp_path / "w.log"
    heard = Heard()
    writer = writer_at(path, disk, heard)
    disk.cost_s = 0.3
    made = write_rows(writer, ["x"], [0, 1])
    assert heard.kinds == ["slow"]
    disk.cost_s = 0.0
    step = 2
    deadline = time.monotonic() + 20
    while writer.trouble is not None:
        made += write_rows(writer, ["x"], [step])
        step += 1
        assert time.monotonic() < deadline
    assert heard.kinds == ["slow", "well"]
    assert writer.row({"x": -1.0}, -1, time=NOW)
    made.append(row(["x"], -1, [-1.0]))
    assert told(path).records == made
    writer.close()
    sound(path, made)


def test_single_slow_writes_are_forgiven(tmp_path: Path, disk: Disk) -> None:
    """A write of 2 ms once in a second changes nothing."""
    heard = Heard()
    writer = writer_at(tmp_path / "w.log", disk, heard)
    for step in range(500):
        disk.cost_s = 0.002
        write_rows(writer, ["x"], [step])
        disk.clock += 1.0
    assert heard.kinds == []
    writer.close()


def test_a_busy_machine_is_no_slow_disk(tmp_path: Path) -> None:
    """Time in which the thread waited for nothing, but others had the processor, does not count."""
    disk = Disk()
    heard = Heard()
    writer = writer_at(tmp_path / "w.log", disk, heard, waits=lambda: 0)
    disk.cost_s = 0.1
    write_rows(writer, ["x"], range(20))
    assert heard.kinds == []
    writer.close()


def test_busy_threads_are_no_slow_disk(tmp_path: Path, disk: Disk) -> None:
    """Where other threads keep the interpreter for as long, the write may have taken nothing."""

    def give_way() -> None:
        disk.clock += 0.08

    heard = Heard()
    writer = writer_at(tmp_path / "w.log", disk, heard, give_way=give_way)
    disk.cost_s = 0.1
    write_rows(writer, ["x"], range(20))
    assert heard.kinds == []
    writer.close()


# -- a disk that hangs -----------------------------------------------------------------------------


def hang(path: Path, disk: Disk, heard: Heard) -> tuple[LogWriter, list[Record]]:
    """A writer whose records are written behind, on a disk that begins to hang."""
    writer = writer_at(path, disk, heard)
    disk.cost_s = 0.3
    made = write_rows(writer, ["x"], [0, 1])
    assert heard.kinds == ["slow"]
    until(writer.flush)
    disk.open.clear()
    return writer, made


def test_a_hanging_disk_does_not_block_once_written_behind(tmp_path: Path, disk: Disk) -> None:
    """Records are taken at once; when the disk comes back, all are there."""
    path = tmp_path / "w.log"
    writer, made = hang(path, disk, Heard())
    made += write_rows(writer, ["x"], range(2, 10))
    assert disk.hanging.wait(20)
    started = time.monotonic()
    made += write_rows(writer, ["x", "y"], range(10, 100))
    writer.event("console", {"lines": []}, NOW)
    made.append(event("console", {"lines": []}))
    assert time.monotonic() - started < 1
    disk.open.set()
    writer.close(10)
    sound(path, made)
    assert writer.loss.records == 0


def test_close_on_a_hanging_disk_returns_in_time(tmp_path: Path, disk: Disk) -> None:
    """What the disk did not take by then is counted, what hangs in it included."""
    path = tmp_path / "w.log"
    writer, made = hang(path, disk, Heard())
    descriptor = writer.fd
    write_rows(writer, ["x", "y"], range(2, 10))
    assert disk.hanging.wait(20)
    write_rows(writer, ["x"], range(10, 12))
    started = time.monotonic()
    writer.close(0.2)
    assert 0.2 <= time.monotonic() - started < 2
    assert (writer.loss.records, writer.loss.points) == (10, 18)
    assert writer.loss.reasons == {"writes take 300.0 ms": 10}
    sound(path, made)
    # The thread that hangs holds the number of the descriptor: nobody else may get it.
    os.fstat(descriptor)
    disk.open.set()


def test_close_on_a_disk_that_hangs_only_then_returns_in_time(tmp_path: Path, disk: Disk) -> None:
    """The closing thread itself never waits in a write."""
    path = tmp_path / "w.log"
    writer = writer_at(path, disk)
    made = write_rows(writer, ["x"], [0])
    disk.room = 0
    write_rows(writer, ["x"], [1, 2])
    disk.open.clear()
    started = time.monotonic()
    writer.close(0.2)
    assert time.monotonic() - started < 2
    assert (writer.loss.records, writer.loss.points) == (2, 2)
    sound(path, made)
    disk.open.set()


def test_flush_on_a_hanging_disk_returns_in_time(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says no."""
    monkeypatch.setattr(trouble_module, "FLUSH_WAIT_S", 0.1)
    writer, _ = hang(tmp_path / "w.log", disk, Heard())
    write_rows(writer, ["x"], [2])
    assert disk.hanging.wait(20)
    started = time.monotonic()
    assert not writer.flush()
    assert time.monotonic() - started < 2
    disk.open.set()
    assert writer.flush()
    writer.close(10)


def test_without_threads_the_closing_thread_writes(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the interpreter goes down no thread can be started: nothing is lost all the same."""

    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    path = tmp_path / "w.log"
    writer = writer_at(path, disk)
    disk.room = 0
    made = write_rows(writer, ["x"], range(5))
    disk.room = None
    writer.close(5)
    sound(path, made)
    assert writer.loss.records == 0


def test_the_thread_lives_no_longer_than_the_trouble(tmp_path: Path, disk: Disk) -> None:
    """No thread before, none after, one again at the next trouble."""

    def ours() -> list[str]:
        return [thread.name for thread in threading.enumerate() if "trackway" in thread.name]

    path = tmp_path / "w.log"
    writer = writer_at(path, disk)
    made = write_rows(writer, ["x"], [0])
    for turn in range(3):
        until(lambda: not ours())
        disk.room = 0
        made += write_rows(writer, ["x"], [1 + turn])
        assert ours() == ["trackway-disk"]
        disk.room = None
        made += write_until_well(writer, ["x"], 10 * turn + 10)
    writer.close()
    until(lambda: not ours())
    sound(path, made)


# -- declarations ----------------------------------------------------------------------------------


def test_names_are_declared_again_while_a_log_grows(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once for each so many bytes, and never as much as the rows themselves."""
    monkeypatch.setattr(trouble_module, "REDECLARE_BYTES", 1000)
    path = tmp_path / "w.log"
    writer = writer_at(path, disk)
    declaration = 2 * FRAME.size + 100
    names = [[f"{n}/{'long name ' * 10}"] for n in range(20)]
    for each in names:
        write_rows(writer, each, [0])
    begun = path.stat().st_size
    for step in range(2000):
        disk.clock += 1.01
        write_rows(writer, names[0], [step])
    writer.close()
    size = path.stat().st_size
    rows = 2000 * ROW_BYTES
    again = size - begun - rows
    assert declaration < again < rows / 4


def test_a_log_of_events_alone_declares_nothing(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However large it grows."""
    monkeypatch.setattr(trouble_module, "REDECLARE_BYTES", 100)
    path = tmp_path / "w.log"
    writer = writer_at(path, disk)
    for _ in range(20):
        disk.clock += 1.5
        writer.event("console", {"lines": ["x" * 50]}, NOW)
    writer.close()
    assert disk.writes[1:] == [disk.writes[1]] * 20
    assert sum(disk.writes) == path.stat().st_size


def test_very_many_keysets_are_not_all_remembered(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that come again are declared again, under another id; every row has its names."""
    monkeypatch.setattr(writer_module, "MOST_DECLARED", 10)
    path = tmp_path / "w.log"
    writer = writer_at(path, disk)
    kept = writer.plan(("kept",), "f")
    made = []
    for turn in range(3):
        for number in range(25):
            made += write_rows(writer, [f"name {number}"], [turn])
        writer.write_frame(kept.frame(turn, NOW, [turn]))
        made.append(row(["kept"], turn, [turn]))
    writer.close()
    sound(path, made)


# -- rare moments ----------------------------------------------------------------------------------


def test_several_writes_that_failed_at_once_are_all_kept(tmp_path: Path, disk: Disk) -> None:
    """As the fast path of ``log`` reports them, from several threads."""
    path = tmp_path / "w.log"
    heard = Heard()
    writer = writer_at(path, disk, heard)
    made = write_rows(writer, ["x"], [0])
    disk.room = 0
    plan = writer.plan(("x",), "f")
    for step in (1, 2):
        writer.failed(plan.frame(step, NOW, [step]), 0, OSError(errno.EIO, "Input/output error"))
        made.append(row(["x"], step, [step]))
    disk.room = None
    writer.close(5)
    sound(path, made)
    assert heard.kinds == ["disk"]


def test_a_half_record_that_another_got_behind_is_written_again(tmp_path: Path, disk: Disk) -> None:
    """Its first part is damage that readers pass over; nothing is lost, nothing is there twice."""
    path = tmp_path / "w.log"
    writer = writer_at(path, disk)
    made = write_rows(writer, ["x"], [0])
    half = writer.plan(("x",), "f").frame(1, NOW, [1.0])
    os.write(writer.fd, half[:20])
    made += write_rows(writer, ["x"], [2])
    writer.failed(half, 20, None)
    writer.close(5)
    found = told(path)
    assert found.records == [*made, row(["x"], 1, [1.0])]
    assert [damage.size for damage in found.damage] == [20]
    assert (found.pending, writer.loss.records) == (0, 0)


def test_trouble_that_comes_back_at_once_is_the_same_threads(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread of the former trouble is still there and takes this one, too."""
    monkeypatch.setattr(trouble_module, "RETRY_S", 5.0)
    path = tmp_path / "w.log"
    heard = Heard()
    writer = writer_at(path, disk, heard)
    made = write_rows(writer, ["x"], [0])
    for turn in range(3):
        disk.room = 0
        made += write_rows(writer, ["x"], [10 * turn + 1])
        disk.room = None
        assert writer.flush()
        made += write_until_well(writer, ["x"], 10 * turn + 2)
        names = [thread.name for thread in threading.enumerate()]
        assert names.count("trackway-disk") == 1
    writer.close()
    sound(path, made)
    assert heard.kinds == ["disk", "well"] * 3


def test_a_header_that_is_never_stored_is_no_lost_record(tmp_path: Path, disk: Disk) -> None:
    """Only rows and events count."""
    disk.room = 0
    writer = writer_at(tmp_path / "w.log", disk)
    write_rows(writer, ["x"], [0])
    writer.close(0.05)
    assert (writer.loss.records, writer.loss.points) == (1, 1)


def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """As at the end of the interpreter: the writer can start none."""
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "trackway-disk":
            raise RuntimeError("can't create new thread at interpreter shutdown")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)


def test_without_threads_a_full_disk_is_tried_until_the_end(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what it did not take is counted."""
    no_threads(monkeypatch)
    writer = writer_at(tmp_path / "w.log", disk)
    disk.room = 0
    write_rows(writer, ["x"], range(5))
    assert not writer.flush()
    writer.close(0.1)
    assert (writer.loss.records, writer.loss.reasons) == (5, {"No space left on device": 5})


def test_without_threads_nobody_waits_for_a_thread_that_hangs(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One flush hangs; another one says no, after the time it may take."""
    no_threads(monkeypatch)
    monkeypatch.setattr(trouble_module, "FLUSH_WAIT_S", 0.05)
    path = tmp_path / "w.log"
    writer = writer_at(path, disk)
    disk.room = 0
    made = write_rows(writer, ["x"], range(5))
    disk.room = None
    disk.open.clear()
    answers: list[bool] = []
    stuck = threading.Thread(target=lambda: answers.append(writer.flush()))
    stuck.start()
    assert disk.hanging.wait(20)
    assert not writer.flush()
    disk.open.set()
    stuck.join()
    assert answers == [True]
    writer.close(5)
    sound(path, made)


def test_a_record_that_hangs_half_written_at_the_end_is_counted(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may still arrive; nobody waits to see."""
    monkeypatch.setattr(trouble_module, "RETRY_S", 60.0)
    path = tmp_path / "w.log"
    writer = writer_at(path, disk)
    made = write_rows(writer, ["x"], [0])
    disk.room = 20
    made += write_rows(writer, ["x"], [1])
    disk.room = None
    disk.open.clear()
    writer.close(0.1)
    assert disk.hanging.is_set()
    assert (writer.loss.records, writer.loss.points) == (1, 1)
    disk.open.set()
    until(lambda: "trackway-disk" not in [thread.name for thread in threading.enumerate()])
    sound(path, made)


def test_a_record_that_the_disk_refuses_after_the_end_is_counted_once(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that hung finds the log closed, and leaves everything as it is."""
    monkeypatch.setattr(trouble_module, "RETRY_S", 60.0)
    path = tmp_path / "w.log"
    writer = writer_at(path, disk)
    made = write_rows(writer, ["x"], [0])
    disk.room = 0
    write_rows(writer, ["x"], [1, 2])
    disk.open.clear()
    writer.close(0.1)
    assert disk.hanging.is_set()
    disk.open.set()
    until(lambda: "trackway-disk" not in [thread.name for thread in threading.enumerate()])
    assert (writer.loss.records, writer.loss.points) == (2, 2)
    assert writer.loss.reasons == {"No space left on device": 2}
    sound(path, made)


def test_a_flush_that_comes_after_the_end_does_nothing(tmp_path: Path, disk: Disk) -> None:
    """The thread of the trouble was about to begin when the log was closed."""
    path = tmp_path / "w.log"
    writer = writer_at(path, disk)
    made = write_rows(writer, ["x"], [0])
    disk.room = 0
    write_rows(writer, ["x"], [1])
    writer.close(0.05)
    path.unlink()
    disk.room = None
    assert not writer._flush()
    assert not path.exists()
    assert (len(made), writer.loss.records) == (1, 1)


def test_a_log_whose_state_cannot_be_asked_is_opened_again(tmp_path: Path, disk: Disk) -> None:
    """A network file system that lost the file's handle; a half record is written again whole."""
    path = tmp_path / "w.log"
    stale = False

    def fstat(descriptor: int) -> os.stat_result:
        if stale and descriptor == first:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return os.fstat(descriptor)

    heard = Heard()
    writer = writer_at(path, disk, heard, fstat=fstat)
    first = writer.fd
    made = write_rows(writer, ["x"], [0])
    disk.room = 20
    stale = True
    made += write_rows(writer, ["x"], [1])
    disk.room = None
    made += write_until_well(writer, ["x"], 2)
    assert writer.fd != first
    writer.close()
    os.close(first)
    found = told(path)
    assert found.records == made
    assert [damage.size for damage in found.damage] == [20]


def test_a_log_whose_state_cannot_be_asked_at_first_is_written(tmp_path: Path) -> None:
    """Who it is is then told by its path."""
    path = tmp_path / "w.log"
    failing = [True]

    def fstat(descriptor: int) -> os.stat_result:
        if failing:
            failing.clear()
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return os.fstat(descriptor)

    writer = writer_at(path, fstat=fstat)
    made = write_rows(writer, ["x"], range(3))
    writer.close()
    sound(path, made)
    assert writer.trouble is None


def test_a_descriptor_that_became_another_file_while_ours_was_removed(
    tmp_path: Path, disk: Disk
) -> None:
    """The other file is left alone; the log begins again."""
    path, other = tmp_path / "run" / "w.log", tmp_path / "other"
    writer = writer_at(path, disk)
    write_rows(writer, ["x"], [0])
    os.close(writer.fd)
    descriptor = os.open(other, os.O_CREAT | os.O_RDWR)
    assert descriptor == writer.fd
    shutil.rmtree(path.parent)
    writer.check(disk.clock)
    made = write_until_well(writer, ["x"], 1)
    writer.close()
    sound(path, made)
    os.close(descriptor)
    assert other.read_bytes() == b""


def test_a_disk_that_takes_nothing_of_a_copy_is_full(tmp_path: Path, disk: Disk) -> None:
    """No bytes and no error, as some file systems answer: tried again later."""
    path = tmp_path / "run" / "w.log"
    nothing = False

    def write(descriptor: int, data: bytes) -> int:
        return 0 if nothing else disk.write(descriptor, data)

    writer = writer_at(path, disk, write=write)
    made = write_rows(writer, ["x"], range(3))
    shutil.rmtree(path.parent)
    nothing = True
    disk.clock += 1.5
    made += write_rows(writer, ["x"], [3])
    assert not writer.flush()
    nothing = False
    made += write_until_well(writer, ["x"], 4)
    writer.close()
    sound(path, made)


def test_a_log_that_does_not_close_cleanly_is_told(tmp_path: Path, disk: Disk) -> None:
    """An error that a network file system kept for the end."""

    def close(descriptor: int) -> None:
        os.close(descriptor)
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    heard = Heard()
    path = tmp_path / "w.log"
    writer = writer_at(path, disk, heard, close=close)
    made = write_rows(writer, ["x"], [0])
    writer.close()
    assert heard.sentences == ["the log did not close cleanly (Disk quota exceeded)."]
    sound(path, made)


def test_an_abandoned_log_is_left_as_it_is(tmp_path: Path, disk: Disk) -> None:
    """What it held in memory is dropped, what comes goes nowhere, and nothing is said."""
    path = tmp_path / "w.log"
    heard = Heard()
    writer = writer_at(path, disk, heard)
    write_rows(writer, ["x"], range(3))
    disk.room = 10
    write_rows(writer, ["x"], [3])
    before = path.read_bytes()
    descriptor = writer.fd
    writer.abandon()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
    disk.room = None
    assert not writer.row({"x": 9.0, "y": 1.0}, 9)
    assert writer.flush()
    writer.close()
    writer.abandon()
    assert path.read_bytes() == before
    assert (heard.kinds, writer.loss.records) == (["disk"], 0)


def test_a_descriptor_that_became_another_file_is_not_abandoned(tmp_path: Path, disk: Disk) -> None:
    """A child that closed everything and opened files of its own keeps those."""
    writer = writer_at(tmp_path / "w.log", disk)
    os.close(writer.fd)
    descriptor = os.open(tmp_path / "other", os.O_CREAT | os.O_RDWR)
    assert descriptor == writer.fd
    writer.abandon()
    assert os.write(descriptor, b"mine") == 4
    os.close(descriptor)
    writer = writer_at(tmp_path / "w2.log", disk)
    os.close(writer.fd)
    writer.abandon()
