"""The benchmarks' data: real logs, the same each time, and as awkward as they say."""

from __future__ import annotations

import struct
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks._data_frames import row_frames
from benchmarks._data_sweep import STATES, curves, flat, metric_names, plan
from benchmarks._data_values import ARRIVALS, SPARSE_EVERY, VALUES, arrivals, clock, values
from benchmarks.data import UNTIL, long_run, main, many_runs, series, wide
from trackway import Api
from trackway.api._verify import Verifier
from trackway.backend.file.format import ROW, frame
from trackway.backend.file.reader import LogReader

CORE = 25
"""Leaves that every configuration has."""

BITS = st.integers(0, 2**64 - 1)
STEPS = st.integers(-(2**63), 2**63 - 1)


def _files(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*.log"))}


def _sound(root: Path) -> bool:
    verifier = Verifier(root)
    folders = [p for p in root.glob("*/*") if p.is_dir()]
    return bool(folders) and all(verifier.run(p.parent.name, p.name).sound for p in folders)


def _generator(*seed: int) -> np.random.Generator:
    return np.random.default_rng(list(seed))


def _same(left: npt.NDArray[np.float64], right: npt.NDArray[np.float64]) -> bool:
    return left.astype("<f8").tobytes() == right.astype("<f8").tobytes()


# -- bytes -------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(st.data(), st.integers(0, 6), st.integers(0, 20), st.integers(0, 2**32 - 1))
def test_rows_in_bulk_are_the_bytes_of_rows_one_by_one(
    data: st.DataObject, width: int, count: int, keyset: int
) -> None:
    """Whatever the bits of steps, times and values, frames and checksums are the encoder's."""
    steps = np.array(data.draw(st.lists(STEPS, min_size=count, max_size=count)), np.int64)
    bits = data.draw(st.lists(BITS, min_size=count * (width + 1), max_size=count * (width + 1)))
    table = np.array(bits, np.uint64).view(np.float64).reshape(count, width + 1)
    made = row_frames(keyset, steps, table[:, 0], table[:, 1:])
    assert len(made) == count * (29 + 8 * width)
    words = np.array(bits, np.uint64).reshape(count, width + 1).tolist()
    layout = struct.Struct(f"<BIq{width + 1}Q")
    rows = [layout.pack(ROW, keyset, step, *row) for step, row in zip(steps, words, strict=True)]
    assert made == b"".join(map(frame, rows))


@pytest.mark.parametrize("width", [1, 3, 4])
def test_many_rows_are_checked_by_the_reader(tmp_path: Path, width: int) -> None:
    """More rows than are made at once come back whole, by both ways of making checksums."""
    made = long_run(tmp_path, steps=40_000, keys=width, kind="walk")
    log = next(tmp_path.rglob("*.log"))
    batch = LogReader(log).read()
    assert (batch.points, batch.damage, made.points) == (40_000 * width, [], 40_000 * width)


# -- long and wide -----------------------------------------------------------------------------


def test_a_long_run_has_the_values_of_its_generator(tmp_path: Path) -> None:
    """What the Api reads are the steps, and bit for bit the values, that were drawn."""
    made = long_run(tmp_path, steps=5_000, keys=2, kind="walk", seed=3)
    random = _generator(3, 5_000, 2)
    first, second = values("walk", random, 5_000), values("walk", random, 5_000)
    history = Api(tmp_path).run("long").history()
    assert np.array_equal(history["train/m0"].steps, np.arange(5_000))
    assert _same(history["train/m0"].values, first)
    assert _same(history["train/m1"].values, second)
    assert (made.runs, made.logs, made.points) == (1, 1, 10_000)
    assert made.bytes == sum(map(len, _files(tmp_path).values()))
    assert _sound(tmp_path)


def test_wide_runs_share_their_steps_and_not_their_values(tmp_path: Path) -> None:
    """Every run has the same steps, values of its own, and a beginning of its own."""
    wide(tmp_path, runs=3, steps=50, keys=2)
    runs = Api(tmp_path).runs("wide")
    assert sorted(run.id for run in runs) == ["run-0000", "run-0001", "run-0002"]
    lines = [run.history()["train/m1"] for run in runs]
    assert all(np.array_equal(line.steps, np.arange(50)) for line in lines)
    assert len({line.values.tobytes() for line in lines}) == 3
    assert {run.created for run in runs} == {UNTIL, UNTIL - 3600.0, UNTIL - 7200.0}
    assert {run.state for run in runs} == {"finished"}


def test_a_run_does_not_depend_on_how_many_others_there_are(tmp_path: Path) -> None:
    """The first runs of a sweep of 5 are, byte for byte, those of a sweep of 3."""
    many_runs(tmp_path / "few", runs=3, config=40, summary=12, points=4)
    many_runs(tmp_path / "more", runs=5, config=40, summary=12, points=4)
    few, more = _files(tmp_path / "few"), _files(tmp_path / "more")
    assert few.items() < more.items()


def test_the_same_call_writes_the_same_bytes(tmp_path: Path) -> None:
    """All generators are seeded by their arguments alone; another seed gives other values."""
    for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
        root = tmp_path / folder
        many_runs(root, runs=4, points=3, seed=seed)
        series(root, steps=300, seed=seed)
        wide(root, runs=2, steps=20, seed=seed)
        long_run(root, steps=20, seed=seed)
    first, again, other = (_files(tmp_path / folder) for folder in "abc")
    assert first == again
    assert not set(first.values()) & set(other.values())


# -- sweeps ------------------------------------------------------------------------------------


def test_a_sweep_is_read_back_as_it_was_planned(tmp_path: Path) -> None:
    """Names, states, configurations, environments and last values are those of the plan."""
    made = many_runs(tmp_path, runs=30, config=60, summary=20, points=5, seed=7)
    assert _sound(tmp_path)
    runs = {run.id: run for run in Api(tmp_path).runs("sweep")}
    assert (made.runs, len(runs)) == (30, 30)
    assert made.points == 30 * (10 * 5 + 10 * 3)
    for number in range(30):
        planned = plan(7, number, config=60, until=UNTIL)
        run = runs[planned.id]
        assert (run.name, run.state, run.created) == (planned.name, planned.state, planned.created)
        assert (run.config, len(flat(run.config))) == (planned.config, 60)
        assert (list(run.tags), run.group) == (planned.tags, planned.group)
        assert run.git is not None and run.git["commit"] == planned.commit
        assert run.environment is not None and run.environment["host"] == planned.host
        drawn = curves(_generator(7, number, 1), 20, 5, planned.quality)
        last = {name: run.summary[name] for name in metric_names(20)}
        assert last == dict(zip(metric_names(20), drawn[-1].tolist(), strict=True))


def test_states_come_about_as_often_as_they_should() -> None:
    """Of 2000 planned runs every state has its share, to within three standard deviations."""
    count = Counter(plan(0, number, config=0, until=UNTIL).state for number in range(2000))
    for state, share in STATES.items():
        assert abs(count[state] - 2000 * share) <= 3 * (2000 * share * (1 - share)) ** 0.5


def test_ids_and_names_of_a_sweep_are_unique() -> None:
    """10,000 runs have 10,000 ids, none created after the end of the sweep."""
    plans = [plan(0, number, config=0, until=UNTIL) for number in range(0, 10_000, 20)]
    assert len({p.id for p in plans}) == len({p.name for p in plans}) == len(plans)
    assert all(p.created + p.duration <= UNTIL + 1e-3 for p in plans)
    assert all(len(flat(p.config)) == CORE for p in plans)


def test_projects_take_turns_and_the_companion_may_be_left_out(tmp_path: Path) -> None:
    """Runs are dealt out among the projects; without companions a run has one log."""
    made = many_runs(tmp_path, runs=5, projects=("a", "b"), companion=False, points=1)
    assert [len(Api(tmp_path).runs(name)) for name in ("a", "b")] == [3, 2]
    archived = sum(plan(0, n, config=100, until=UNTIL).archived for n in range(5))
    assert made.logs == 5 + archived


# -- values and arrivals -----------------------------------------------------------------------


def test_values_are_of_the_character_they_are_named_for() -> None:
    """NaN and infinities are where they belong; float32, four digits and 64 bits are exact."""
    drawn = {kind: values(kind, _generator(5), 20_000) for kind in VALUES}
    assert np.array_equal(drawn["walk32"].astype(np.float32), drawn["walk32"])
    assert not np.array_equal(drawn["walk"].astype(np.float32), drawn["walk"])
    assert np.array_equal(np.round(drawn["rounded"], 4), drawn["rounded"])
    assert np.isnan(drawn["nan"][10_000:11_000]).all()
    assert not np.isinf(drawn["nan"]).any()
    assert (drawn["inf"][0], drawn["inf"][-1]) == (np.inf, -np.inf)
    assert np.isnan(drawn["inf"]).any()
    assert drawn["spiky"].max() > 10 * drawn["noisy"].max()
    assert len(set(drawn["constant"])) == 1
    finite = {kind for kind, column in drawn.items() if np.isfinite(column).all()}
    assert finite == set(VALUES) - {"nan", "inf"}


@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize("n", [0, 1, 2])
def test_there_may_be_few_values(kind: str, n: int) -> None:
    """Every kind has as many values as are asked for, also none and one."""
    assert values(kind, _generator(1), n).shape == (n,)


def test_arrivals_are_what_they_are_named_for() -> None:
    """Overlaps, order, repeats and gaps are there, and times never go back within an attempt."""
    found = {how: arrivals(how, _generator(2), 5_000) for how in ARRIVALS}
    for parts in found.values():
        assert all((np.diff(part.times) >= 0).all() for part in parts)
    resumed = found["resumed"]
    spans = [(p.attempt, int(p.steps[0]), int(p.steps[-1])) for p in resumed]
    assert spans == [(1, 0, 2499), (2, 2000, 3999), (3, 3500, 4999)]
    assert all(a.times[-1] < b.times[0] for a, b in pairwise(resumed))
    mixed = found["out-of-order"][0].steps
    assert (np.diff(mixed) < 0).any()
    assert np.array_equal(np.sort(mixed), np.arange(5_000))
    repeats = np.bincount(found["repeated"][0].steps)
    assert set(repeats) == {1, 2, 3}
    assert found["sparse"][0].steps.tolist() == list(range(0, 5_000, SPARSE_EVERY))


def test_awkward_series_are_read_back_exactly(tmp_path: Path) -> None:
    """Each way of arriving gives the live line that its draws give by the rules of the format."""
    series(tmp_path, steps=2_000, seed=4)
    assert _sound(tmp_path)
    api = Api(tmp_path)
    for way, how in enumerate(ARRIVALS):
        parts = arrivals(how, _generator(4, way, 0), 2_000)
        for column, kind in enumerate(VALUES):
            expected: dict[int, float] = {}
            for part in parts:
                drawn = part.logged(kind, _generator(4, way, 0, part.attempt, column))
                first = int(part.steps.min())
                expected = {step: v for step, v in expected.items() if step < first}
                expected.update(zip(part.steps.tolist(), drawn.tolist(), strict=True))
            line = api.run(f"{how}-0").history(kind)[kind]
            assert line.steps.tolist() == sorted(expected)
            assert _same(line.values, np.array([expected[step] for step in sorted(expected)]))


def test_a_clock_rises_from_zero() -> None:
    """Times begin at 0 and rise."""
    times = clock(_generator(1), 100)
    assert times[0] == 0.0
    assert (np.diff(times) > 0).all()


# -- command line ------------------------------------------------------------------------------


def test_the_command_line_writes_every_kind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """``all`` makes a project of each kind in the sizes given, and says how much that is."""
    options = ["--runs", "3", "--steps", "40", "--points", "2", "--keys", "2", "--values", "nan"]
    main(["all", "--root", str(tmp_path / "root"), *options])
    api = Api(tmp_path / "root")
    assert api.projects() == ["long", "series", "sweep", "wide"]
    assert [len(api.runs(name)) for name in api.projects()] == [1, 5, 3, 3]
    told = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in told] == ["many-runs", "long-run", "wide", "series"]
    assert "3 runs, 3 logs, 240 points" in told[2]


def test_a_kind_that_is_not_there_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message names the kinds; nothing is written."""
    with pytest.raises(SystemExit) as ended:
        main(["tall", "--root", str(tmp_path / "root")])
    assert ended.value.code == 2
    assert "many-runs" in capsys.readouterr().err
    assert not (tmp_path / "root").exists()
