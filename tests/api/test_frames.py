"""Tables as the data frames of other libraries: every value and every gap."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd  # noqa: TID253 - what the frames are for
import pyarrow as pa  # noqa: TID253
import pytest

from tests.api.conftest import Record
from tests.cli.conftest import BEGAN
from trackway.api import Api
from trackway.api._frames import Columnar

HOME = str(Path(__file__).parents[2])
NAN = math.nan


class Given(Columnar):
    """Columns as they are given; lists are columns of objects."""

    def __init__(self, **columns: Any) -> None:
        self.columns = columns

    def table(self) -> dict[str, Any]:
        """The columns."""
        told = {}
        for name, values in self.columns.items():
            column = values
            if isinstance(values, list):
                column = np.empty(len(values), object)
                column[:] = values
            told[name] = column
        return told


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        (np.array([1, -(2**63)]), "int64", [1, -(2**63)]),
        (np.array([0.1, -0.0]), "double", [0.1, -0.0]),
        (np.array([1.5, 2.0], np.float32), "float", [1.5, 2.0]),
        (np.array([True, False]), "bool", [True, False]),
        (["a", None], "string", ["a", None]),
        ([True, None], "bool", [True, None]),
        ([None, None], "null", [None, None]),
        ([[1, 2], None], "list<item: int64>", [[1, 2], None]),
        ([[1], [0.5]], "list<item: double>", [[1.0], [0.5]]),
        ([2**63, 1], "string", ["9223372036854775808", "1"]),
        ([2**80, None], "string", [str(2**80), None]),
        ([2**60 + 1, 0.5], "string", [str(2**60 + 1), "0.5"]),
        (["a", 1, None], "string", ['"a"', "1", None]),
        ([True, 1], "string", ["true", "1"]),
        ([1, True], "string", ["1", "true"]),
        ([{}, None], "string", ["{}", None]),
        ([{"a": 1}, {"b": NAN}], "string", ['{"a": 1}', '{"b": "NaN"}']),
        ([[{"a": None}], [1]], "string", ['[{"a": null}]', "[1]"]),
        ([[1], "a"], "string", ["[1]", '"a"']),
        (["\udc80", "b"], "string", ['"\\udc80"', '"b"']),
    ],
)
def test_arrow_and_polars_have_types(values: Any, kind: str, expected: list[Any]) -> None:
    """What is of one kind has its type; what is not is JSON, each value of the column."""
    table = Given(a=values).to_arrow()
    assert isinstance(table, pa.Table)
    assert (str(table.schema.field("a").type), table["a"].to_pylist()) == (kind, expected)
    frame = Given(a=values).to_polars()
    assert frame["a"].to_list() == expected


def test_nan_is_no_null() -> None:
    """NaN stays NaN in Arrow and Polars, where null is another thing."""
    given = Given(a=np.array([NAN, 1.0]))
    assert given.to_arrow()["a"].null_count == 0
    assert given.to_polars()["a"].is_nan().to_list() == [True, False]
    assert given.to_polars()["a"].null_count() == 0


def test_pandas_has_the_objects() -> None:
    """pandas gets every value as it was logged."""
    mixed = [2**80, "a", None, [1], {"a": 1}, True]
    frame = Given(mixed=mixed, i=np.arange(6), f=np.array([NAN] * 6)).to_pandas()
    assert isinstance(frame, pd.DataFrame)
    assert frame["mixed"].tolist() == mixed
    assert [str(kind) for kind in frame.dtypes] == ["object", "int64", "float64"]


def test_no_rows_and_no_columns() -> None:
    """Nothing is nothing in each of them."""
    for given, shape in ((Given(), (0, 0)), (Given(a=np.empty(0), b=[]), (0, 2))):
        assert given.to_pandas().shape == given.to_polars().shape == shape
        assert given.to_arrow().shape == shape


def test_runs_and_histories_are_frames(record: Record, api: Api) -> None:
    """The run table and joined metrics give the same columns in all three."""
    one = record("run00001", created=BEGAN).config(lr=0.1, layers=[1], opt__x={})
    one.row(0, {"a": 1.0}).row(1, {"b": 2.0}).end()
    record("run00002", created=BEGAN + 1).config(seed=1).end()
    columns = ["id", "config.lr", "config.seed", "config.layers", "config.opt.x", "tags"]
    runs = api.runs(order="created", columns=columns)
    assert list(runs.to_pandas()) == runs.to_arrow().column_names == columns
    assert runs.to_polars().drop("config.lr", "config.seed").to_dicts() == [
        {"id": "run00001", "config.layers": [1], "config.opt.x": "{}", "tags": []},
        {"id": "run00002", "config.layers": None, "config.opt.x": None, "tags": []},
    ]
    np.testing.assert_array_equal(runs.to_polars()["config.lr"].to_numpy(), [0.1, NAN])
    np.testing.assert_array_equal(runs.to_pandas()["config.seed"], [NAN, 1.0])
    history = api.run("run00001").history()
    for frame in (history.to_pandas(), history.to_polars()):
        assert frame["step"].to_list() == [0, 1]
        np.testing.assert_array_equal(frame["b"].to_numpy(), [NAN, 2.0])
    assert history.to_arrow()["a"].to_pylist()[0] == 1.0


@pytest.mark.parametrize(
    ("blocked", "method", "name"),
    [
        ("pandas", "to_pandas", "pandas"),
        ("polars", "to_polars", "polars"),
        ("pyarrow", "to_polars", "pyarrow"),
        ("pyarrow", "to_arrow", "pyarrow"),
    ],
)
def test_what_is_missing_is_said(
    record: Record, root: Path, blocked: str, method: str, name: str
) -> None:
    """Without the library the error holds the command that installs it; all else goes on."""
    record().row(0, {"a": 1.0}).end()
    code = (
        "import sys\n"
        "class No:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] == {blocked!r}:\n"
        f"            raise ModuleNotFoundError(name, name={blocked!r})\n"
        "sys.meta_path.insert(0, No())\n"
        "import trackway as tw\n"
        "history = tw.Api(sys.argv[1]).run('abc12345').history()\n"
        "print(history.table()['a'].tolist())\n"
        "try:\n"
        f"    history.{method}()\n"
        "except tw.MissingExtraError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(root)],
        env={**os.environ, "PYTHONPATH": HOME},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"[1.0]\nthis needs {name}: pip install 'trackway[export]'\n"


def test_an_api_imports_no_extra(record: Record, root: Path) -> None:
    """Listing, filtering, reading and charts load no data frames, ``trackway`` nothing."""
    record().config(lr=1).row(0, {"a": 1.0}).end()
    code = (
        "import sys, trackway as tw\n"
        "print([m for m in sys.modules if m.startswith(('trackway.', 'numpy'))])\n"
        "api = tw.Api(sys.argv[1])\n"
        "run = api.runs(filter='config.lr == 1')[0]\n"
        "run.history(samples=4), run.series('a'), api.group('config.lr'), api.compare([run])\n"
        "heavy = ('pandas', 'polars', 'pyarrow', 'duckdb', 'numba', 'trackway.core')\n"
        "print([name for name in heavy if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(root)],
        env={**os.environ, "PYTHONPATH": HOME},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[]\n[]\n"
