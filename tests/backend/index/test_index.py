"""The index answers as the logs do, whatever they say and whenever it is asked."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trackway.backend.file.edits import Editor
from trackway.backend.file.format import SYSTEM, Keyset, encode_keyset, encode_row
from trackway.backend.index import indexer
from trackway.backend.index.contract import RunRef, Writing
from trackway.backend.index.groups import GroupsQuery
from trackway.backend.index.index import Index
from trackway.backend.index.memory import MemoryStore
from trackway.backend.index.series import SeriesQuery
from trackway.backend.points import Metric, resolve

from .logs import STARTED, Log, records, same, same_columns, same_values, told_by_logs, write

REF = RunRef("p", "run")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An empty root."""
    return tmp_path / "runs"


@pytest.fixture
def index(root: Path, tmp_path: Path) -> Iterator[Index]:
    """An index of the root, in a file."""
    index = Index.open(root, tmp_path / "cache")
    assert index.kept
    yield index
    index.close()


@pytest.fixture
def begin(root: Path) -> Callable[..., Log]:
    """A log in the root."""

    def make(name: str = "w1", run: str = "run", **fields: Any) -> Log:
        return Log(root / "p" / run / f"{name}.log", **fields).begin()

    return make


def agrees(index: Index, root: Path, ref: RunRef = REF) -> None:
    """The index says of a run exactly what its logs say."""
    logs = told_by_logs(root / ref.project / ref.id)
    named = logs.keys()
    keys = [key for key in named if len(logs.columns(key))]
    assert index.keys(ref) == keys
    found = index.columns(ref)
    metrics = index.metrics(ref)
    assert list(metrics) == keys
    for key in keys:
        wanted = logs.columns(key)
        assert same_columns(found[key], wanted), key
        line = resolve(key, wanted, attempts="live", repeats="last", order="step")
        assert_same_metric(metrics[key], Metric.of(line))
        assert index.arrivals(ref, key) == len(wanted)
    for key in logs.keys(SYSTEM):
        assert same_columns(index.columns(ref, [key], SYSTEM)[key], logs.columns(key, SYSTEM))


def assert_same_metric(found: Metric, wanted: Metric) -> None:
    """All statistics are the same; the mean up to the order of its sum."""
    for name in Metric.__dataclass_fields__:
        mine, theirs = getattr(found, name), getattr(wanted, name)
        if name == "mean" and mine is not None and theirs is not None:
            assert mine == pytest.approx(theirs, rel=1e-9, abs=1e-300, nan_ok=True)
        else:
            assert same(mine, theirs), (name, found, wanted)


# -- any content -----------------------------------------------------------------------------------


@settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    writers=st.lists(
        st.tuples(records(), st.integers(1, 3), st.floats(0, 50)), min_size=1, max_size=4
    ),
    rows=st.sampled_from([1, 3, 10, 1000]),
    cuts=st.lists(st.integers(0, 40), max_size=4),
    points=st.sampled_from([4, 16, 1 << 15]),
)
def test_the_index_says_what_the_logs_say(
    tmp_path_factory: pytest.TempPathFactory,
    writers: list[tuple[Any, int, float]],
    rows: int,
    cuts: list[int],
    points: int,
) -> None:
    """Whatever several writers of several attempts logged, however it was cut into chunks."""
    root = tmp_path_factory.mktemp("root")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(indexer, "SEAL_ROWS", rows)
        patch.setattr(indexer, "QUIET_S", 1e9)
        patch.setattr("trackway.backend.index._seal.CHUNK_POINTS", points)
        index = Index(root, MemoryStore)
        logs = [
            Log(root / "p" / "run" / f"w{n}.log", attempt=attempt, created=STARTED + began).begin()
            for n, (_, attempt, began) in enumerate(writers)
        ]
        edges = [0, *sorted(cuts), 10**6]
        for low, high in pairwise(edges):
            for log, (told, _, _) in zip(logs, writers, strict=True):
                write(log, told[low:high])
            agrees(index, root)
        patch.setattr(indexer, "QUIET_S", -1.0)  # everything is put into the index
        agrees(index, root)
        assert same_state(Index(root, MemoryStore), index)


def same_state(one: Index, other: Index) -> bool:
    """Whether two indexes say the same of the run."""
    ours, theirs = one.columns(REF), other.columns(REF)
    return ours.keys() == theirs.keys() and all(
        same_columns(ours[key], theirs[key]) for key in ours
    )


def test_lines_are_what_resolving_the_arrivals_gives(
    index: Index, begin: Callable[..., Log]
) -> None:
    """Straight ones, resumed ones, and ones with points behind the index."""
    first, second = begin("a"), begin("b", attempt=2, created=STARTED + 10)
    for step in range(3000):
        first.row(step, {"loss": step / 7, "only": 1.0})
    index.refresh()
    for step in range(2000, 2500):
        second.row(step, {"loss": -float(step)}, time=STARTED + 20)
    run = index.number(REF)
    assert run is not None
    with index._view([REF]) as view:
        for key, count in (("loss", 2500), ("only", 3000)):
            (line,) = view.lines([run], key, attempts="live", repeats="last", times=True)
            wanted = resolve(
                key, view.columns(run, key), attempts="live", repeats="last", order="step"
            )
            assert len(line.steps) == count
            assert same_values(line.steps, wanted.steps)
            assert same_values(line.times, wanted.times)
            assert same_values(line.values, wanted.values)


# -- files that are not what they were -------------------------------------------------------------


def test_a_log_that_was_cut_short_is_read_again(
    index: Index, root: Path, begin: Callable[..., Log]
) -> None:
    """Points that are no longer in the file are no longer in the answer."""
    log = begin()
    sizes = []
    for step in range(2000):
        log.row(step, {"loss": float(step)})
        sizes.append(log.path.stat().st_size)
    index.refresh()
    os.truncate(log.path, sizes[499])
    agrees(index, root)
    assert index.arrivals(REF, "loss") == 500


def test_a_log_that_was_replaced_is_read_again(
    index: Index, root: Path, begin: Callable[..., Log]
) -> None:
    """Another file of the same name and a greater length is another log."""
    log = begin()
    for step in range(1500):
        log.row(step, {"loss": 1.0})
    index.refresh()
    log.path.unlink()
    other = begin(generation="1" * 32)
    for step in range(3000):
        other.row(step, {"loss": 2.0})
    agrees(index, root)
    assert index.metrics(REF)["loss"].min == 2.0


def test_a_longer_copy_in_its_place_is_the_same_log(
    index: Index, root: Path, begin: Callable[..., Log]
) -> None:
    """As rsync leaves it: only what is new is read."""
    log = begin()
    for step in range(1500):
        log.row(step, {"loss": 1.0})
    index.refresh()
    beside = log.path.with_suffix(".copy")
    shutil.copy(log.path, beside)
    more = b"".join(log.row_bytes(step, {"loss": 2.0}) for step in range(1500, 1600))
    with beside.open("ab") as file:
        file.write(more)
    size = beside.stat().st_size - log.path.stat().st_size
    beside.rename(log.path)
    assert index.refresh().bytes == size
    agrees(index, root)


def test_a_removed_log_takes_its_points_along(
    index: Index, root: Path, begin: Callable[..., Log]
) -> None:
    """The other writers' points stay."""
    one, other = begin("a"), begin("b", role="worker")
    for step in range(1200):
        one.row(step, {"loss": 1.0})
        other.row(step, {"other": 2.0})
    agrees(index, root)
    other.path.unlink()
    agrees(index, root)
    assert index.keys(REF) == ["loss"]


def test_a_removed_run_is_gone_and_its_id_can_be_used_again(
    index: Index, root: Path, begin: Callable[..., Log]
) -> None:
    """And the others stay."""
    begin(run="keeps").row(1, {"x": 1.0})
    log = begin()
    for step in range(1200):
        log.row(step, {"loss": 1.0})
    assert index.refs() == [RunRef("p", "keeps"), REF]
    shutil.rmtree(root / "p" / "run")
    assert index.refs() == [RunRef("p", "keeps")]
    assert index.keys(REF) == []
    assert [row["id"] for row in index.rows().documents([0])] == ["keeps"]
    begin(generation="2" * 32).row(5, {"loss": 7.0})
    assert index.refs() == [RunRef("p", "keeps"), REF]
    agrees(index, root)


def test_a_run_that_is_merged_in_is_found(
    index: Index, root: Path, tmp_path: Path, begin: Callable[..., Log]
) -> None:
    """A folder that is copied in, and further logs that are copied into a known one."""
    begin("a").row(1, {"x": 1.0})
    assert index.refs() == [REF]
    elsewhere = Log(tmp_path / "other" / "p" / "new" / "w.log").begin()
    elsewhere.row(3, {"y": 1.0})
    shutil.copytree(tmp_path / "other" / "p" / "new", root / "p" / "new")
    more = Log(tmp_path / "other" / "p" / "run" / "b.log", attempt=2, created=STARTED + 5).begin()
    more.row(2, {"x": 2.0})
    shutil.copy(more.path, root / "p" / "run" / "b.log")
    assert index.refs() == [RunRef("p", "new"), REF]
    agrees(index, root)
    agrees(index, root, RunRef("p", "new"))
    assert index.columns(REF)["x"].steps.tolist() == [1, 2]


def test_rows_before_their_names_get_them(
    index: Index, root: Path, begin: Callable[..., Log], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when those rows were taken into the index long before."""
    monkeypatch.setattr(indexer, "QUIET_S", -1.0)
    log = begin()
    log.row(0, {"known": 1.0})
    for step in range(1500):
        log.append(encode_row(7, step, STARTED, [float(step)]))
    agrees(index, root)
    assert index.keys(REF) == ["known"]
    log.append(encode_keyset(Keyset(7, ("late",), "f")))
    log.append(encode_row(7, 1500, STARTED, [1500.0]))
    agrees(index, root)
    assert index.columns(REF)["late"].values.tolist() == [float(step) for step in range(1501)]


def test_damage_costs_what_it_hit(index: Index, root: Path, begin: Callable[..., Log]) -> None:
    """Rows before and behind a damaged stretch are in the index; a torn end is waited for."""
    log = begin()
    for step in range(1500):
        log.row(step, {"x": float(step)})
    log.append(b"\x07" * 100)
    for step in range(1500, 3000):
        log.row(step, {"x": float(step)})
    last = log.row_bytes(3000, {"x": 3000.0})
    log.append(last[:10])
    agrees(index, root)
    assert index.arrivals(REF, "x") == 3000
    log.append(last[10:])
    assert index.arrivals(REF, "x") == 3001


def test_a_log_of_a_later_version_is_not_guessed_at(
    index: Index, begin: Callable[..., Log]
) -> None:
    """Its run cannot be read, and says why; the others can."""
    begin(run="fine").row(1, {"x": 1.0})
    begin(version=2).row(1, {"x": 1.0})
    told = r"a newer Trackway wrote it \(log format 2, this one reads 1\)"
    with pytest.raises(OSError, match=told):
        index.columns(REF)
    assert index.rows().column(("id",)).values() == ["fine"]
    assert [*index.unreadable()] == [REF]


def test_clocks_that_go_backwards_change_nothing(
    index: Index, root: Path, begin: Callable[..., Log]
) -> None:
    """Times in the log fall, and so does the file's own."""
    log = begin()
    for step in range(1500):
        log.row(step % 700, {"x": float(step)}, time=STARTED - step)
        if step == 1100:
            agrees(index, root)
    os.utime(log.path, ns=(0, 0))
    agrees(index, root)
    os.utime(log.path, ns=(1 << 62, 1 << 62))
    log.row(5, {"x": -1.0}, time=0.0)
    agrees(index, root)


# -- the index itself ------------------------------------------------------------------------------


def files_of(folder: Path) -> list[Path]:
    """The files in a folder and below."""
    return [path for path in folder.rglob("*") if path.is_file()]


def fill(begin: Callable[..., Log], runs: int = 3) -> None:
    """Some runs of some thousand points."""
    for number in range(runs):
        log = begin(run=f"r{number}")
        log.event("config", {"set": [[["lr"], number / 10]]})
        for step in range(2000):
            log.row(step, {"loss": step * 0.5 + number})


def loss_of(index: Index, run: str) -> list[float]:
    """The values of a run's loss."""
    values: list[float] = index.columns(RunRef("p", run), ["loss"])["loss"].values.tolist()
    return values


WANTED = [step * 0.5 + 1 for step in range(2000)]


def test_a_deleted_index_changes_no_answer(
    root: Path, tmp_path: Path, begin: Callable[..., Log]
) -> None:
    """It is made anew."""
    fill(begin)
    for _ in range(2):
        index = Index.open(root, tmp_path / "cache")
        assert loss_of(index, "r1") == WANTED
        assert sorted(index.rows().column(("config", "lr")).values()) == [0, 0.1, 0.2]
        index.close()
        shutil.rmtree(tmp_path / "cache")


@pytest.mark.parametrize("at", [0, 18, 60, 100, 5000, 20_000, 50_000])
def test_a_corrupted_index_is_made_anew(
    root: Path, tmp_path: Path, begin: Callable[..., Log], at: int
) -> None:
    """Wherever its bytes were changed, the answers are those of the logs."""
    fill(begin)
    index = Index.open(root, tmp_path / "cache")
    index.refresh()
    index.close()
    (database,) = [path for path in files_of(tmp_path / "cache") if path.name.endswith(".db")]
    data = bytearray(database.read_bytes())
    data[at : at + 600] = os.urandom(min(600, len(data) - at))
    database.write_bytes(data)
    index = Index.open(root, tmp_path / "cache")
    for run in range(3):
        assert loss_of(index, f"r{run}") == [step * 0.5 + run for step in range(2000)]
    assert sorted(index.rows().column(("summary", "loss")).values()) == [999.5, 1000.5, 1001.5]
    index.close()


def test_an_index_deleted_under_its_reader_does_no_harm(
    index: Index, root: Path, tmp_path: Path, begin: Callable[..., Log]
) -> None:
    """The reader goes on, and another one makes it anew."""
    fill(begin)
    assert loss_of(index, "r1") == WANTED
    for path in files_of(tmp_path / "cache"):
        path.unlink()
    begin(run="r9").row(1, {"loss": 4.0})
    assert loss_of(index, "r9") == [4.0]
    other = Index.open(root, tmp_path / "cache")
    assert loss_of(other, "r1") == WANTED
    assert loss_of(other, "r9") == [4.0]
    other.close()


def test_where_nothing_can_be_kept_memory_serves(
    root: Path, tmp_path: Path, begin: Callable[..., Log]
) -> None:
    """A cache that cannot be made costs time, and nothing else."""
    fill(begin)
    (tmp_path / "cache").write_text("a file, where a folder is needed")
    index = Index.open(root, tmp_path / "cache")
    assert not index.kept
    assert loss_of(index, "r1") == WANTED
    index.close()


def test_nothing_is_opened_where_nothing_changed(
    root: Path, tmp_path: Path, begin: Callable[..., Log], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A root that was indexed is opened again without reading any log."""
    fill(begin)
    past = time.time() - 1000
    for path in files_of(root):
        os.utime(path, (past, past))
        os.utime(path.parent, (past, past))
    index = Index.open(root, tmp_path / "cache")
    index.refresh()
    index.close()
    index = Index.open(root, tmp_path / "cache")
    opened: list[object] = []

    def refuse(self: Any) -> Any:
        opened.append(self)
        raise AssertionError("a log was opened")

    monkeypatch.setattr("trackway.backend.file.reader.LogReader.stretches", refuse)
    assert not index.refresh()
    assert loss_of(index, "r1") == WANTED
    assert not opened
    index.close()


# -- edits -----------------------------------------------------------------------------------------


def test_deleted_points_leave_every_answer(
    index: Index, root: Path, begin: Callable[..., Log]
) -> None:
    """At once, those in the index and those behind it; what is logged later is there."""
    log = begin()
    for step in range(1500):
        log.row(step, {"loss": float(step), "acc": 1.0})
    index.refresh()
    for step in range(1500, 1600):
        log.row(step, {"loss": float(step), "acc": 1.0})
    editor = Editor(root, "p", "run")
    assert editor.delete_points("loss", start=100, stop=1549) == 1450
    agrees(index, root)
    assert index.arrivals(REF, "loss") == 150
    log.row(200, {"loss": 5.0, "acc": 1.0})
    agrees(index, root)
    assert index.arrivals(REF, "loss") == 151
    editor.delete_points("acc")
    agrees(index, root)
    assert index.keys(REF) == ["loss"]


def test_a_deletion_whose_log_goes_is_no_more(
    index: Index, root: Path, begin: Callable[..., Log]
) -> None:
    """The points are back when the editor's log is removed."""
    log = begin()
    for step in range(1500):
        log.row(step, {"loss": float(step)})
    before = set(files_of(root))
    Editor(root, "p", "run").delete_points("loss", stop=999)
    assert index.arrivals(REF, "loss") == 500
    for path in set(files_of(root)) - before:
        path.unlink()
    agrees(index, root)
    assert index.arrivals(REF, "loss") == 1500


def test_edits_are_in_the_run_table(index: Index, root: Path, begin: Callable[..., Log]) -> None:
    """Name, tags, archived; a deleted run is not listed, and comes back."""
    fill(begin)
    assert len(index.rows()) == 3
    editor = Editor(root, "p", "r1")
    editor.set(name="best", tags=["a"], archived=True)
    rows = index.rows()
    row = rows.column(("name",)).values().index("best")
    document = rows.document(row)
    assert (document["id"], document["tags"], document["archived"]) == ("r1", ["a"], True)
    assert document["summary"] == {"loss": 1000.5}
    editor.set(deleted=True)
    assert sorted(index.rows().column(("id",)).values()) == ["r0", "r2"]
    editor.set(deleted=False)
    assert sorted(index.rows().column(("id",)).values()) == ["r0", "r1", "r2"]


# -- what must not be remembered -------------------------------------------------------------------


class FailingOnce(MemoryStore):
    """A store whose next transaction that has something to commit fails at its end."""

    armed = False

    @contextlib.contextmanager
    def write(self) -> Iterator[Writing]:
        """As in MemoryStore."""
        with super().write() as writing:
            yield writing
            if self.armed and writing.keys():
                self.armed = False
                raise KeyboardInterrupt


def test_what_did_not_commit_is_not_remembered(root: Path, begin: Callable[..., Log]) -> None:
    """Numbers of a transaction that failed are given out again, and mean other points then."""
    store = FailingOnce()
    index = Index(root, lambda: store)
    for run, key, value in (("one", "a", 1.0), ("two", "zzz", 7.0)):
        log = begin(run=run)
        for step in (5, 5, 4, 4, 3):  # repeated and falling: the points are decoded at indexing
            log.row(step, {key: value})
        os.utime(log.path, (0, 0))
    store.armed = True
    with pytest.raises(KeyboardInterrupt):
        index.refresh([RunRef("p", "one")])
    index.refresh([RunRef("p", "two")])
    index.refresh()
    assert index.columns(RunRef("p", "two"))["zzz"].values.tolist() == [7.0] * 5
    assert index.columns(RunRef("p", "one"))["a"].values.tolist() == [1.0] * 5
    rows = {row["id"]: row["summary"] for row in index.rows().documents([0, 1])}
    assert rows == {"one": {"a": 1.0}, "two": {"zzz": 7.0}}


def test_numbers_mean_the_same_runs_when_the_index_is_made_anew(
    index: Index, root: Path, tmp_path: Path, begin: Callable[..., Log]
) -> None:
    """However the new one numbers them; a run that is gone is missing, not another in its place."""
    for name, value in (("c", 3.0), ("a", 1.0), ("b", 2.0)):
        log = begin(run=name)
        for step in range(10):
            log.row(step, {"loss": value})
        index.refresh()  # numbered in this order; in the order of their names, when made anew
    numbers = {name: index.number(RunRef("p", name)) for name in "abc"}
    for path in files_of(tmp_path / "cache"):
        path.unlink()
    shutil.rmtree(root / "p" / "b")
    asked = [number for name in "cba" if (number := numbers[name]) is not None]
    answer = index.series(SeriesQuery(asked, "loss", buckets=1))
    assert answer.buckets is not None
    assert (answer.runs, answer.missing) == ([numbers["c"], numbers["a"]], [numbers["b"]])
    assert answer.buckets.mean.tolist() == [[3.0], [1.0]]
    points = index.series(SeriesQuery(asked, "loss", buckets=None)).points
    assert [line.run for line in points or ()] == [numbers["c"], numbers["a"]]
    bands = index.groups(GroupsQuery({"x": asked[:2], "y": asked[1:]}, "loss", buckets=1))
    assert bands.bands is not None
    assert bands.bands.mean.tolist() == [[3.0], [1.0]]
    assert bands.missing == [[numbers["b"]], [numbers["b"]]]
    assert [index.ref(number).id for number in asked] == ["c", "b", "a"]
    again = [index.number(RunRef("p", name)) for name in "ac"]
    assert not {*again} & {*asked}


def test_an_earlier_log_moves_the_beginning(
    index: Index, root: Path, tmp_path: Path, begin: Callable[..., Log]
) -> None:
    """Relative time counts from it, also where another process took it in."""
    log = begin(created=STARTED + 500)
    for step in range(10):
        log.row(step, {"loss": 1.0}, time=STARTED + 500 + step)
    number = index.number(REF)
    assert number is not None
    query = SeriesQuery([number], "loss", x="relative", buckets=None)
    assert [line.x[0] for line in index.series(query).points or ()] == [0.0]
    earlier = begin("earlier", created=STARTED)
    earlier.row(0, {"other": 1.0})
    other = Index.open(root, tmp_path / "cache")
    other.refresh()
    other.close()
    assert [line.x[0] for line in index.series(query).points or ()] == [500.0]


def test_means_are_finite_where_values_are(index: Index, begin: Callable[..., Log]) -> None:
    """Also where their sum is beyond float64, in one chunk, in several, and with cells."""
    log = begin()
    for step in range(1200):
        log.row(step, {"huge": 1e308, "both": 1e308 if step % 2 else -1e308})
    metrics = index.metrics(REF)
    assert metrics["huge"].mean == pytest.approx(1e308)
    assert metrics["both"].mean == pytest.approx(0.0, abs=1e293)
    number = index.number(REF)
    assert number is not None
    answer = index.series(SeriesQuery([number], "huge", buckets=1))
    assert answer.buckets is not None
    assert answer.buckets.mean.tolist() == [[pytest.approx(1e308)]]


def test_cells_are_kept_where_they_are_few(
    index: Index, begin: Callable[..., Log], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long series of dense steps has them, one of sparse steps not; both are answered exactly."""
    monkeypatch.setattr("trackway.backend.index._seal.PYRAMID_POINTS", 2000)
    log = begin()
    for step in range(9000):
        log.row(step, {"dense": float(step % 97)})
        log.row(100 * step, {"sparse": float(step % 97)})
    index.refresh()
    for step in range(9000, 9100):  # behind the index, beside the cells of the same bucket
        log.row(step, {"dense": float(step % 97)})
    number = index.number(REF)
    assert number is not None
    with index._view([REF]) as view:
        run = view.runs[0]
        chunks = {
            key: view._chunks([run], key, "metric", cells=True)[run] for key in view.keys(run)
        }
        assert any(chunk.cells for chunk in chunks["dense"])
        assert not any(chunk.cells for chunk in chunks["sparse"])
    monkeypatch.setattr("trackway.backend.index._view.CELLS_FROM", 2000)
    answer = index.series(SeriesQuery([number], "dense", buckets=2))
    whole = index.series(SeriesQuery([number], "dense", buckets=2, repeats="all"))
    assert answer.buckets is not None
    assert whole.buckets is not None
    assert answer.buckets.count.tolist() == whole.buckets.count.tolist() == [[4608, 4492]]
    for name in ("min", "max", "first", "last"):
        assert getattr(answer.buckets, name).tolist() == getattr(whole.buckets, name).tolist()
    assert answer.buckets.last.tolist() == [[4607 % 97, 9099 % 97]]
