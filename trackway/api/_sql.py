"""SQL over runs, points and system, by DuckDB over Parquet files in the user's cache.

What is asked about is exported into the cache first, as far as it is not there or has changed;
then DuckDB reads those files and may read and write nothing else.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

from trackway.api._api import Api
from trackway.api._export_files import Files, locked
from trackway.api._export_folder import Options, entry_rows, update
from trackway.api._export_manifest import Manifest
from trackway.api._export_points import points_schema
from trackway.api._export_table import Kinds, runs_batches, runs_schema
from trackway.api._run import StoredRun
from trackway.backend.file.folder import logs
from trackway.errors import ArgumentError, MissingExtraError

__all__ = ["CACHE_VARIABLE", "cache_folder", "opened", "query"]

CACHE_VARIABLE: Final = "TRACKWAY_CACHE_DIR"

_TABLES: Final = ("runs", "points", "system")
_TOLD_COLUMNS: Final = 60
_WORDS: Final = re.compile(r"\w+")
_QUOTED: Final = re.compile(r"""'(?:[^']|'')*'|"((?:[^"]|"")*)\"""")


def cache_folder(
    root: Path, attempts: str = "live", repeats: str = "last", cache: Path | None = None
) -> Path:
    """Where the files for SQL over a root are kept. Everything in it can be deleted."""
    given = os.environ.get(CACHE_VARIABLE)
    if cache is not None:
        base = cache
    elif given:
        base = Path(given).expanduser().absolute()
    else:
        from platformdirs import user_cache_dir

        base = Path(user_cache_dir("trackway"))
    digest = hashlib.sha256(os.fsencode(os.path.realpath(root))).hexdigest()[:16]
    return base / "sql" / f"{digest}-{attempts}-{repeats}"


def query(
    api: Api | str | os.PathLike[str],
    sql: str,
    *,
    project: str | None = None,
    filter: str | None = None,
    attempts: str = "live",
    repeats: str = "last",
    pandas: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Any:
    """The answer to a SQL query over the runs, as a ``pyarrow.Table``.

    The tables are ``runs`` (a line a run; configuration and summary in columns such as
    ``"config.lr"`` and ``"summary.val/acc"``, which need double quotes), ``points`` (a line a
    point: project, run, key, step, time, attempt, value, type, text, big_step) and ``system``
    (likewise, the samples of the machine). Times are seconds since 1970: ``to_timestamp(time)``.
    To DuckDB NaN is the greatest number: ``where not isnan(value)`` leaves it out. It takes names
    that differ only in case for one: all but the first, in sorted order, get ``#2``, ``#3``.

    Args:
        api: The folder with all projects, or an Api on it.
        sql: One query. It can read these tables, and can write nothing.
        project: Only runs of this project are in the tables.
        filter: Only runs that pass.
        attempts: ``live`` leaves out points that a later attempt took back; ``all`` does not.
        repeats: ``last`` takes the last arrival at a step, ``all`` each one.
        pandas: Answer a ``pandas.DataFrame`` instead.
        progress: Called with the number of runs looked at and their total.

    Raises:
        ArgumentError: The query is none, or not one that only reads; the filter is none.
        NotFoundError: There is no such project.
        MissingExtraError: DuckDB, pyarrow or pandas is not installed.
    """
    where = api if isinstance(api, Api) else Api(api)
    with opened(
        where,
        sql,
        project=project,
        filter=filter,
        attempts=attempts,
        repeats=repeats,
        progress=progress,
    ) as result:
        table = result.to_arrow_table()
        return _frame(table) if pandas else table


def _frame(table: Any) -> Any:
    try:
        import pandas
    except ImportError:
        raise MissingExtraError(
            "a data frame needs pandas: pip install 'trackway[export]'"
        ) from None
    assert pandas is not None
    return table.to_pandas()


@contextmanager
def opened(
    api: Api,
    sql: str,
    *,
    project: str | None = None,
    filter: str | None = None,
    attempts: str = "live",
    repeats: str = "last",
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Any]:
    """The answer as a DuckDB relation, for those who read it piece by piece.

    Nobody else exports into the cache while it is open. Arguments and errors as in ``query``.
    """
    duckdb = _duckdb()
    options = Options("parquet", None, attempts, repeats)
    _check(duckdb, sql)
    api.refresh()
    runs = api.runs(project, filter=filter)
    folder = cache_folder(api.root, attempts, repeats, api._cache)
    folder.mkdir(parents=True, exist_ok=True)
    words = {word.lower() for word in _WORDS.findall(sql)}
    parts = [name for name in ("points", "system") if name in words]
    with locked(folder, wait=True):
        paths, table = _exported(api, folder, runs, options, parts, progress)
        names = _told_apart(table.column_names)
        _check_names(sql, names)
        table = table.rename_columns([*names.values()])
        connection = duckdb.connect(":memory:")
        try:
            _arrange(connection, folder, paths, table)
            yield _answer(duckdb, connection, sql)
        except duckdb.Error as error:
            raise _told(connection, error) from None
        finally:
            connection.close()


def _duckdb() -> Any:
    try:
        import duckdb
        import pyarrow
    except ImportError as error:
        needed = "pyarrow" if error.name == "pyarrow" else "DuckDB"
        raise MissingExtraError(f"SQL needs {needed}: pip install 'trackway[sql]'") from None
    assert pyarrow is not None
    return duckdb


def _check(duckdb: Any, sql: str) -> None:
    """Refuse what is not one query that only reads, before anything is exported for it."""
    with duckdb.connect(":memory:") as connection:
        try:
            statements = connection.extract_statements(sql)
        except duckdb.Error as error:
            raise ArgumentError(_message(error)) from None
    kinds = duckdb.StatementType
    if len(statements) != 1:
        raise ArgumentError(f"one query at a time, not {len(statements)}")
    if statements[0].type not in (kinds.SELECT, kinds.EXPLAIN):
        raise ArgumentError(f"only queries that read: {statements[0].type.name} is none")


# -- what the tables are made of -------------------------------------------------------------------


def _exported(
    api: Api,
    folder: Path,
    runs: Sequence[StoredRun],
    options: Options,
    parts: Sequence[str],
    progress: Callable[[int, int], None] | None,
) -> tuple[dict[str, list[str]], Any]:
    """Bring the cache up to date; the files of each table, and the table of runs."""
    with Files(folder) as place:
        try:
            manifest = Manifest(folder, options.told())
        except ArgumentError:  # another release's: it is a cache
            (folder / "manifest.jsonl").unlink()
            manifest = Manifest(folder, options.told())
        try:
            _, order = update(manifest, place, runs, options, parts, progress=progress)
            for run in [run for run in manifest if run not in order]:
                if not logs(api.root / run):
                    entry = manifest.get(run)
                    for path in entry.files if entry else ():
                        place.remove(path)
                    manifest.remove(run)
            table = _runs_table(partial(entry_rows, manifest, order))
            paths = _paths(manifest, folder, order)
            manifest.settle(order, place.beside)
        finally:
            manifest.close()
    return paths, table


def _runs_table(rows: Callable[[], Iterator[dict[str, Any]]]) -> Any:
    import pyarrow as pa

    kinds = Kinds(rows())
    return pa.Table.from_batches(runs_batches(rows(), kinds), schema=runs_schema(kinds))


def _told_apart(names: Iterable[str]) -> dict[str, str]:
    """The name each column has in SQL: DuckDB takes names that differ only in case for one."""
    names = list(names)
    given = {name.casefold() for name in names}
    seen: set[str] = set()
    told: dict[str, str] = {}
    for name in names:  # in sorted order, as the table has them
        told[name] = name
        number = 1
        while told[name].casefold() in seen or (number > 1 and told[name].casefold() in given):
            number += 1
            told[name] = f"{name}#{number}"
        seen.add(told[name].casefold())
    return told


def _check_names(sql: str, names: Mapping[str, str]) -> None:
    """Refuse a name that DuckDB would take for one that differs from it in case.

    Raises:
        ArgumentError: There are several; it says what they are called.
    """
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(name.casefold(), []).append(name)
    for word in (match[1].replace('""', '"') for match in _QUOTED.finditer(sql) if match[1]):
        found = alike.get(word.casefold(), [])
        if len(found) > 1 and names.get(word) != word:
            told = ", ".join(f"{_quoted(name)} is {_quoted(names[name])}" for name in found)
            raise ArgumentError(
                f"{_quoted(word)}: DuckDB ignores case, and there are several: in SQL {told}"
            )


def _paths(manifest: Manifest, folder: Path, order: dict[str, None]) -> dict[str, list[str]]:
    paths: dict[str, list[str]] = {"points": [], "system": []}
    for run in order:
        entry = manifest.get(run)
        for path, told in (entry.files if entry else {}).items():
            if told.get("rows"):
                paths[path.partition("/")[0]].append(str(folder / path))
    return paths


def _arrange(connection: Any, folder: Path, paths: dict[str, list[str]], table: Any) -> None:
    """Make the three tables, then shut DuckDB in with them."""
    connection.execute("SET python_enable_replacements = false")
    connection.execute("SET autoinstall_known_extensions = false")
    connection.execute("SET autoload_known_extensions = false")
    connection.execute(f"SET temp_directory = {_literal(str(folder / 'spill'))}")
    every = ", ".join(_literal(path) for found in paths.values() for path in found)
    connection.execute(f"SET allowed_paths = [{every}]")
    connection.register("runs", table)
    for name, found in paths.items():
        if found:
            files = ", ".join(map(_literal, found))
            # The names are literals: DuckDB takes no parameters in a view.
            connection.execute(f"CREATE VIEW {name} AS FROM read_parquet([{files}])")
        else:
            connection.register(name, points_schema().empty_table())
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _answer(duckdb: Any, connection: Any, sql: str) -> Any:
    relation = connection.sql(sql)
    if relation is None:
        raise ArgumentError("the query has no answer")
    return relation


# -- errors ----------------------------------------------------------------------------------------


def _message(error: Exception) -> str:
    return f"DuckDB: {error}".strip()


def _told(connection: Any, error: Exception) -> ArgumentError:
    """DuckDB's own word, and what there is."""
    lines = [_message(error), "", "There are:"]
    for name in _TABLES:
        columns = [row[0] for row in connection.execute(f"DESCRIBE {name}").fetchall()]
        more = len(columns) - _TOLD_COLUMNS
        told = [_column(column) for column in columns[:_TOLD_COLUMNS]]
        told += [f"and {more:,} more"] if more > 0 else []
        lines.append(f"  {name}: {', '.join(told)}")
    return ArgumentError("\n".join(lines))


def _column(name: str) -> str:
    return name if name.isidentifier() else _quoted(name)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
