"""Tables, histograms, checkpoints and models as they are read back."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import trackway as tw
from tests.cli.conftest import Recording
from trackway.api import Api, StoredRun
from trackway.api._histograms import BINS, edges
from trackway.core import records
from trackway.core._values import plain

Record = Callable[..., Recording]

HOSTILE: list[Any] = [
    None,
    True,
    -1,
    plain(2**70),
    plain(10**5000),
    1.5,
    math.nan,
    "x",
    b"x",
    [],
    {},
    [[]],
    {"a": 1},
]


@pytest.fixture
def read(api: Api) -> Callable[[], StoredRun]:
    """The run as it is on disk now."""
    return lambda: api.run("abc12345")


def part(name: str = "t", **fields: Any) -> dict[str, Any]:
    """What a table event says."""
    told: dict[str, Any] = {
        "name": name,
        "step": None,
        "kind": None,
        "about": {},
        "rows": 2,
        "first": 0,
    }
    return {**told, "columns": [["a", [1, 2]]], **fields}


# -- tables ----------------------------------------------------------------------------------------


def test_a_table(record: Record, read: Callable[[], StoredRun]) -> None:
    """Columns come back as they were, and as arrays and data frames."""
    columns = [["i", [1, 2]], ["f", [0.5, None]], ["b", [True, False]], ["o", ["x", [1]]]]
    record().event("table", **part(step=3, kind="roc", about={"auc": 0.5}, columns=columns))
    table = read().table("t")
    assert (table.name, table.step, table.kind, table.about) == ("t", 3, "roc", {"auc": 0.5})
    assert (len(table), table.missing, table.attempt) == (2, 0, 1)
    assert table["f"] == [0.5, None]
    assert {name: column.dtype.kind for name, column in table.table().items()} == {
        "i": "i",
        "f": "f",
        "b": "b",
        "o": "O",
    }
    assert list(table.to_pandas()["o"]) == ["x", [1]]
    assert repr(table) == "<table t at step 3: 2 rows, 4 columns>"


def test_as_the_program_records_it(root: Path) -> None:
    """What ``record_table`` wrote in several events is one table, whatever its size."""
    settings = {"quiet": True, "companion": False, "console": False}
    with tw.init(project="p", dir=root, settings=settings) as run:
        columns: dict[str, Any] = {
            "n": np.arange(35_000),
            "x": [float(n) for n in range(35_000)],
            "c": "ab" * 17_500,
        }
        records.record_table(run, "large", columns, kind="points", about={"of": "n"})
        records.record_table(run, "empty", {"a": []})
    stored = Api(root).run(f"p/{run.id}")
    assert len(stored.events("table")) == 3
    table = stored.table("large")
    assert table.missing == 0
    assert table.columns == {name: list(values) for name, values in columns.items()}
    assert table.about == {"of": "n"}
    assert [(each.name, each.rows) for each in stored.tables()] == [("empty", 0), ("large", 35_000)]


def test_last_one_wins(record: Record, read: Callable[[], StoredRun]) -> None:
    """The last table of a name and step counts, also where a later attempt recorded it."""
    first = record()
    first.event("table", 1, **part(step=1))
    first.event("table", 2, **part(step=2, columns=[["a", [3, 4]]]))
    first.end()
    second = record(attempt=2)
    second.event("table", 100, **part(step=1, kind="k", columns=[["a", [5, 6]]]))
    run = read()
    assert run.table("t", 1)["a"] == [5, 6]
    assert run.table("t", 2)["a"] == [3, 4]
    assert run.table("t")["a"] == [5, 6]
    (name,) = run.tables()
    assert (name.name, name.kind, name.steps, name.rows) == ("t", "k", [1, 2], 2)


def test_parts_that_are_missing(record: Record, read: Callable[[], StoredRun]) -> None:
    """A table whose end was never written does not take a whole one's place, and says so alone."""
    run = record()
    run.event("table", 1, **part())
    run.event("table", 2, **part(rows=4))
    run.event("table", 2, **part("torn", rows=4, columns=[["a", [7, 8]]]))
    run.event("table", 3, **part("headless", rows=4, first=2))
    assert read().table("t")["a"] == [1, 2]
    torn = read().table("torn")
    assert (torn["a"], torn.missing) == ([7, 8], 2)
    assert "2 missing" in repr(torn)
    run.event("table", 4, **part("torn", rows=4, first=2, columns=[["a", [9]], ["b", [0, 1]]]))
    torn = read().table("torn")
    assert (torn.columns, torn.missing) == ({"a": [7, 8, 9, None], "b": [None, None, 0, 1]}, 0)
    assert [each.name for each in read().tables()] == ["t", "torn"]


def test_no_such_table(record: Record, read: Callable[[], StoredRun]) -> None:
    """The message names those that there are."""
    record().event("table", **part("confusion", step=5))
    with pytest.raises(tw.NotFoundError, match=r"no table 'confusoin'.*confusion"):
        read().table("confusoin")
    with pytest.raises(tw.NotFoundError, match="has no step 4; its steps are: 5"):
        read().table("confusion", 4)


# -- histograms ------------------------------------------------------------------------------------


def key(value: float) -> int:
    """The bin of a single, by the format's words: its upper 11 bits."""
    bits: int = struct.unpack("<I", struct.pack("<f", value))[0]
    return bits >> 21


def hist(data: dict[str, Any], step: Any = 1, **fields: Any) -> dict[str, Any]:
    """What a histograms event says."""
    told = {"of": "gradients", "step": step, "scheme": "float-bits-11", "sharded": False}
    return {**told, "data": data, **fields}


def pieces(values: list[float]) -> list[Any]:
    """Values counted into bins, each a piece of its own."""
    return [[key(value), [1]] for value in values]


def test_edges_are_exact() -> None:
    """Every finite single lies in the bin that its bits name, at both ends of it."""
    found = edges()
    assert len(found) == 2041
    assert (np.diff(found) > 0).all()
    assert found[1020] == 0
    assert found[-1] == -found[0] == 2.0**128
    for number in range(1020):
        low, high = (
            struct.unpack("<f", struct.pack("<I", bits))[0]
            for bits in (number << 21, ((number + 1) << 21) - 1)
        )
        assert found[1020 + number] == low
        assert low <= high < found[1021 + number]


def test_values_fall_between_their_edges(record: Record, read: Callable[[], StoredRun]) -> None:
    """Counts on the edges are NumPy's, zero, subnormals, infinities and NaN are told apart."""
    numbers = np.random.default_rng(1).normal(0, 3, 500).astype(np.float32).tolist()
    odd = [0.0, -0.0, 1e-45, 2.0**-127, -1.25 * 2.0**-127, math.inf, -math.inf, -math.inf, math.nan]
    record().event("histograms", **hist({"w": pieces(numbers + odd)}))
    (found,) = read().histograms()
    assert (found.name, found.step, found.of, found.ranks) == ("w", 1, "gradients", 1)
    assert found.counts.sum() == found.finite == 505
    expected = np.histogram([value for value in numbers + odd if math.isfinite(value)], found.edges)
    assert found.counts[1020] == 2  # 0.0 and the least subnormal; -0.0 is in the bin before
    assert found.counts[1019] == 1
    expected[0][1019:1021] = 1, 2
    assert found.counts.tolist() == expected[0].tolist()
    assert (found.zeros, found.subnormals, found.nans, found.total) == (3, 2, 1, 509)
    assert (found.positive_infinities, found.negative_infinities) == (1, 2)
    low, high = found.largest
    assert low <= max(map(abs, numbers)) < high


@pytest.mark.parametrize("q", [0, 0.01, 0.25, 0.5, 0.9, 1])
def test_quantiles(record: Record, read: Callable[[], StoredRun], q: float) -> None:
    """A quantile lies within the bounds that are given for it, and so does the guess."""
    values = np.random.default_rng(2).normal(1, 2, 999).astype(np.float32)
    record().event("histograms", **hist({"w": pieces(values.tolist())}))
    (found,) = read().histograms()
    guess, low, high = found.quantile(q)
    exact = float(np.quantile(values, q, method="inverted_cdf"))
    assert low <= exact <= high
    assert low <= guess <= high
    assert high - low <= max(abs(low), abs(high)) / 4


def test_quantiles_of_nothing(record: Record, read: Callable[[], StoredRun]) -> None:
    """Where nothing is finite there is no quantile."""
    record().event("histograms", **hist({"w": pieces([math.nan])}))
    (found,) = read().histograms()
    assert all(map(math.isnan, found.quantile(0.5)))
    assert all(map(math.isnan, found.largest))
    with pytest.raises(tw.ArgumentError, match="between 0 and 1"):
        found.quantile(2)


def test_shards_are_added(record: Record, read: Callable[[], StoredRun]) -> None:
    """Counts of ranks are added; of a rank the last counts, and of attempts the last one."""
    for attempt in (1, 2):
        for rank in (0, 1):
            run = record(attempt=attempt, host=f"n{rank}", extra={"rank": rank})
            for again in (0, 1):
                data = {"w": [[5, [10 * attempt + rank + again]]]}
                run.event("histograms", 100 * attempt + again, **hist(data, sharded=True))
    (found,) = read().histograms()
    assert (found.bins.tolist(), found.occupied.tolist(), found.ranks) == ([5], [43], 2)


def test_which_histograms(record: Record, read: Callable[[], StoredRun]) -> None:
    """Steps rise, tensors stay in the model's order; what is asked for is what is given."""
    run = record()
    for step in (20, 10):
        run.event("histograms", **hist({"b": pieces([1.0]), "a": pieces([2.0, 2.0])}, step))
    run.event("histograms", **hist({"a": pieces([4.0])}, 10))
    run.event("histograms", **hist({"a": []}, of="parameters"))
    found = read().histograms()
    assert [(each.step, each.name, each.total) for each in found] == [
        (10, "b", 1),
        (10, "a", 1),
        (20, "b", 1),
        (20, "a", 2),
    ]
    assert (found.names, found.steps, len(found[1:3])) == (["b", "a"], [10, 20], 2)
    assert [each.step for each in read().histograms(name="b*")] == [10, 20]
    assert read().histograms("parameters")[0].total == 0
    table = found.table()
    assert table["low"].tolist() == [1, 4, 1, 2]
    assert table["high"].tolist() == [1.25, 5, 1.25, 2.5]
    assert table["count"].tolist() == [1, 1, 1, 2]
    assert len(read().histograms("nothing").table()["low"]) == 0
    with pytest.raises(tw.ArgumentError, match="of=3"):
        read().histograms(3)  # type: ignore[arg-type]


def test_bins_that_are_not_finite_in_a_table(record: Record, read: Callable[[], StoredRun]) -> None:
    """Infinities and NaN have themselves for edges."""
    record().event("histograms", **hist({"w": pieces([math.inf, -math.inf, math.nan, -1.0])}))
    table = read().histograms().table()
    assert [table[name].tolist()[:2] for name in ("low", "high")] == [
        [math.inf, pytest.approx(math.nan, nan_ok=True)],
        [math.inf, pytest.approx(math.nan, nan_ok=True)],
    ]
    assert [(table["low"][n], table["high"][n]) for n in (2, 3)] == [
        (-1.25, -1.0),
        (-math.inf, -math.inf),
    ]


# -- checkpoints and models ------------------------------------------------------------------------


def saved(path: str, **fields: Any) -> dict[str, Any]:
    """What a checkpoint event says."""
    told = {"bytes": 10, "modified": 1.0, "step": 1, "epoch": 0.5, "score": 0.1, "metric": "loss"}
    return {"path": path, **told, "aliases": [], "removed": False, **fields}


def test_checkpoints(record: Record, read: Callable[[], StoredRun]) -> None:
    """An alias belongs to the last that was given it; what was removed is known as such."""
    run = record()
    run.event("checkpoint", 1, **saved("/a", aliases=["latest", "best"]))
    run.event("checkpoint", 2, **saved("/b", aliases=["latest"], step=2))
    run.event("checkpoint", 3, **saved("/c", aliases=["latest", "best"], step=3, score=math.nan))
    run.event("checkpoint", 4, **saved("/a", removed=True, step=None, bytes=None, score=None))
    run.event("checkpoint", 5, **saved("/b", aliases=["final"], step=9))
    a, c, b = read().checkpoints
    assert (a.path, a.aliases, a.removed, a.step, a.bytes, a.score) == ("/a", (), True, 1, 10, 0.1)
    assert (b.path, b.aliases, b.step, b.removed) == ("/b", ("final",), 9, False)
    assert (c.aliases, c.metric, c.epoch) == (("latest", "best"), "loss", 0.5)
    assert math.isnan(c.score or 0)


def test_models(record: Record, read: Callable[[], StoredRun]) -> None:
    """The last word on a name counts; ``model`` is the one of that name, else the first."""
    run = record()
    assert (read().model, read().models) == (None, {})
    run.event("model", 1, name="generator", about={"class": "G", "parameters": 3})
    run.event("model", 2, name="critic", about={"tree": [{"path": ""}, 3], "trainable": "all"})
    run.event("model", 3, name="generator", about={"class": "G", "parameters": 4, "bytes": 16})
    model = read().model
    assert model is not None
    assert (model.name, model.class_name, model.parameters, model.bytes) == (
        "generator",
        "G",
        4,
        16,
    )
    critic = read().models["critic"]
    assert (critic.class_name, critic.trainable, critic.tree) == (None, None, [{"path": ""}])
    run.event("model", 4, name="model", about={})
    assert read().model == read().models["model"]


# -- what no writer writes -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("type_", "fields"),
    [
        ("table", part("bad")),
        ("histograms", hist({"bad": [[3, [1]]]})),
        ("checkpoint", saved("/bad")),
        ("model", {"name": "bad", "about": {"parameters": 1, "tree": [{}]}}),
    ],
)
def test_fields_that_no_writer_writes(
    record: Record, read: Callable[[], StoredRun], type_: str, fields: dict[str, Any]
) -> None:
    """Whatever a field holds, reading raises nothing, and what is whole is there."""
    run = record()
    good = {
        "table": part("good"),
        "histograms": hist({"good": [[3, [1]]]}, 0),
        "checkpoint": saved("/good"),
        "model": {"name": "good", "about": {}},
    }[type_]
    run.event(type_, **good)
    for name in fields:
        run.event(type_, **{k: v for k, v in fields.items() if k != name})
        for value in HOSTILE:
            run.event(type_, **{**fields, name: value})
    stored = read()
    assert all(isinstance(name, str) for name in stored.models)
    for each in stored.tables():
        for step in each.steps:
            stored.table(each.name, step).table()
    assert "good" in {
        *(table.name for table in stored.tables()),
        *(each.name for each in stored.histograms()),
        *(each.path[1:] for each in stored.checkpoints),
        *stored.models,
    }
    stored.histograms("x").table()


@pytest.mark.parametrize(
    "wrong",
    [
        *HOSTILE,
        [[BINS, [1]]],
        [[BINS - 1, [1, 1]]],
        [[-1, [1]]],
        [[0, [-1]]],
        [[0, [2**60]]],
        [[0, [True]]],
        [[0, 1]],
        [[0]],
        [["0", [1]]],
    ],
)
def test_bins_that_there_are_not(
    record: Record, read: Callable[[], StoredRun], wrong: object
) -> None:
    """A tensor whose bins are none is left out; those beside it stay."""
    record().event("histograms", **hist({"bad": wrong, "good": [[0, [1]], [2047, [2]]]}))
    found = {each.name: each for each in read().histograms()}
    assert found["good"].total == 3
    assert wrong == [] or "bad" not in found
