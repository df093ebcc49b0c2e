"""autolog's core: the guarded finder, status, and what a run says of it."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import trackway as tw
from trackway.integrations._versions import FRAMEWORKS

HOME = Path(tw.__file__).parents[1]

FINDER = """
import sys
from trackway.integrations.autolog._finder import Finder
seen = []
finder = Finder(NAMES, lambda module: seen.append(module.__name__))
sys.meta_path.insert(0, finder)
"""


@pytest.fixture
def python(tmp_path: Path) -> Callable[..., str]:
    """Run code in a new interpreter, in a folder with two modules; what it printed."""
    (tmp_path / "one.py").write_text("X = 1\n")
    (tmp_path / "broken.py").write_text("import nothing_of_that_name\n")
    package = tmp_path / "package"
    package.mkdir()
    lazy = "def __getattr__(name):\n    import package.lazy as m\n    return m\n"
    (package / "__init__.py").write_text(lazy)
    (package / "lazy.py").write_text("Y = 2\n")
    (package / "data.txt").write_text("data")

    def run(code: str, *options: str, code_: int = 0, names: str = "()") -> str:
        text = FINDER.replace("NAMES", names) + textwrap.dedent(code)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(HOME)])}
        words = [sys.executable, *options, "-c", text]
        done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == code_, done.stderr
        return done.stdout if code_ == 0 else done.stderr

    return run


def test_imports_no_framework_and_is_light(python: Callable[..., str]) -> None:
    """Switched on, it has loaded neither a framework, nor NumPy, nor what a run needs."""
    said = python("""
        import trackway; trackway.autolog()
        heavy = ("numpy", "msgspec", "importlib.metadata", "trackway.core.run")
        print([name for name in heavy if name in sys.modules])
    """)
    assert said == "[]\n"


def test_tells_of_a_module_once_it_is_loaded(python: Callable[..., str]) -> None:
    """Told after its execution, again after a reload; not when somebody only looks for it."""
    said = python(
        """
        import importlib, importlib.util
        importlib.util.find_spec("one"); print(seen)
        import one; print(seen, one.X)
        importlib.reload(one); print(seen)
        import package; print(seen); package.lazy; print(seen)
        """,
        names="('one', 'package.lazy')",
    )
    assert said == (
        "[]\n['one'] 1\n['one', 'one']\n['one', 'one']\n['one', 'one', 'package.lazy']\n"
    )


def test_loader_is_the_original(python: Callable[..., str]) -> None:
    """A module that was waited for can be inspected, listed, read and pickled by as ever."""
    said = python(
        """
        import importlib.resources, importlib.util, inspect, pickle, pkgutil
        from importlib.machinery import SourceFileLoader
        spec = importlib.util.find_spec("package")
        assert isinstance(spec.loader, SourceFileLoader)
        assert spec.loader.is_package("package") and spec.loader.get_code("package")
        assert pickle.loads(pickle.dumps(spec.loader)).name == "package"
        import package, one
        assert type(one.__loader__) is SourceFileLoader is type(one.__spec__.loader)
        assert inspect.getsource(one) == "X = 1\\n"
        assert importlib.resources.files(package).joinpath("data.txt").read_text() == "data"
        assert pkgutil.get_data("package", "data.txt") == b"data"
        assert [m.name for m in pkgutil.iter_modules(package.__path__)] == ["lazy"]
        print(seen)
        """,
        names="('one', 'package')",
    )
    assert said == "['package', 'one']\n"


def test_lazy_loader(python: Callable[..., str]) -> None:
    """A module behind ``importlib.util.LazyLoader`` is told of when it is executed at last."""
    said = python(
        """
        import importlib.util
        spec = importlib.util.find_spec("one")
        spec.loader = importlib.util.LazyLoader(spec.loader)
        module = importlib.util.module_from_spec(spec)
        sys.modules["one"] = module
        spec.loader.exec_module(module)
        print(seen); print(module.X, seen)
        """,
        names="('one',)",
    )
    assert said == "[]\n1 ['one']\n"


@pytest.mark.parametrize("name", ["absent", "broken", "absent.inner"])
def test_failing_import_is_pythons_own(python: Callable[..., str], name: str) -> None:
    """A module that is missing or cannot be imported has exactly the traceback as without."""
    without = python(f"import {name}", code_=1)
    names = f"('absent', 'broken', 'absent.inner', {name!r})"
    assert python(f"import {name}", code_=1, names=names) == without


def test_hook_that_raises(python: Callable[..., str]) -> None:
    """An error of ours never reaches the import."""
    said = python(
        """
        finder._loaded = lambda module: 1 / 0
        import one; print(one.X)
        """,
        names="('one',)",
    )
    assert said == "1\n"


def test_threads(python: Callable[..., str]) -> None:
    """Imported by many threads at once, a module is executed and told of once."""
    said = python(
        """
        import threading, importlib
        load = importlib.import_module
        threads = [threading.Thread(target=load, args=("one",)) for _ in range(16)]
        [t.start() for t in threads]; [t.join() for t in threads]
        print(seen)
        """,
        names="('one',)",
    )
    assert said == "['one']\n"


def test_two_such_finders(python: Callable[..., str]) -> None:
    """Two finders that each have the others find come to an end, and both are told."""
    said = python(
        """
        sys.meta_path.insert(0, Finder(("one",), lambda module: seen.append("second")))
        import one; print(sorted(seen))
        """,
        "-X",
        "importtime",
        names="('one',)",
    )
    assert said == "['one', 'second']\n"


def test_module_that_is_being_loaded(python: Callable[..., str]) -> None:
    """What was just being executed when the finder came is told of with the next import."""
    said = python(
        """
        import types, importlib.machinery
        module = types.ModuleType("late")
        module.__spec__ = importlib.machinery.ModuleSpec("late", None)
        module.__spec__._initializing = True
        sys.modules["late"] = module
        sys.meta_path.insert(0, Finder(("late",), lambda module: seen.append("late")))
        import one; print(seen)
        module.__spec__._initializing = False
        import package; print(seen)
        """,
    )
    assert said == "[]\n['late']\n"


def test_status_before_and_after() -> None:
    """Off, then waiting or patched for what is installed; the versions without any import."""
    names = list(FRAMEWORKS)
    assert [each.framework for each in tw.autolog.status()] == names
    assert {each.state for each in tw.autolog.status()} == {"off"}
    tw.autolog(only=["sklearn", "xgboost"])
    states = {each.framework: each.state for each in tw.autolog.status()}
    assert set(states.values()) <= {"off", "waiting", "patched", "not installed"}
    assert [name for name, state in states.items() if state != "off"] == ["sklearn", "xgboost"]
    tw.autolog.disable()
    assert {each.state for each in tw.autolog.status()} == {"off"}


@pytest.mark.swallows
def test_patching_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """A framework whose patch fails is said to have failed, with its error."""
    pytest.importorskip("optuna.study.study")
    from trackway.integrations.optuna import _autolog

    def patch(patches: Any, module: Any) -> None:
        raise ValueError("not today")

    monkeypatch.setattr(_autolog, "patch", patch)
    tw.autolog(only=["optuna"])
    status = next(each for each in tw.autolog.status() if each.framework == "optuna")
    assert (status.state, status.errors) == ("failed", 1)
    assert status.error is not None


def test_imports_next_to_nothing() -> None:
    """Called in a program that never trains, it loads neither our core nor what Python is slow at.

    Nor does it load any module of the standard library that ``import trackway`` does not, but for
    ``_thread``, which is built in.
    """
    code = """
        import sys
        import trackway
        from importlib import import_module
        before = set(sys.modules)
        trackway.autolog()
        print(*sorted(set(sys.modules) - before))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(tw.__file__).parents[1],
    )
    assert done.stdout.split() == [
        "trackway.core",
        "trackway.core._guard",
        "trackway.errors",
        "trackway.integrations",
        "trackway.integrations._finder",
        "trackway.integrations._patch",
        "trackway.integrations._versions",
        "trackway.integrations.autolog",
        "trackway.integrations.autolog._arguments",
        "trackway.integrations.autolog._autolog",
        "trackway.integrations.autolog._finder",
    ]


def test_versions_are_compared_by_their_numbers() -> None:
    """``2.13.0+cpu`` is 2.13; what is newer than tried or older than supported says so."""
    from trackway.integrations.autolog import Status

    def status(installed: str) -> Status:
        return Status("pytorch", installed, "2.4", "2.13.0", "waiting", (), None, 0)

    versions = ("2.3.1", "2.4", "2.13+cpu", "2.13.1", "3.0rc1")
    told = [(status(v).older, status(v).newer) for v in versions]
    assert told == [(True, False), (False, False), (False, False), (False, True), (False, True)]


def test_wrong_arguments() -> None:
    """An unknown framework is refused, with the names that there are."""
    with pytest.raises(tw.ArgumentError, match=r"no framework.*kears.*keras"):
        tw.autolog(only=["kears"])
    with pytest.raises(tw.ArgumentError, match="no framework"):
        tw.autolog(kears=False)


def test_startup_knows_the_frameworks() -> None:
    """What ``trackway run`` waits for are the frameworks of the table."""
    text = Path(tw.__file__).parent / "integrations" / "autolog" / "startup" / "sitecustomize.py"
    start = text.read_text().partition("frozenset(")[2].partition("\n)\n")[0]
    modules = {module for each in FRAMEWORKS.values() for module in each.modules}
    assert {word.strip('" ,()\n') for word in start.split(",")} - {""} == modules


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            {"evry": 10},
            r"xgboost has no arguments \['evry'\]; .*'every', 'imp.*'prefix'",
        ),
        ({"every": 0}, "every=0"),
        ({"prefix": 1}, "prefix=1"),
        (3, "xgboost=3"),
    ],
)
def test_wrong_options(options: Any, told: str) -> None:
    """An argument that the object has not is refused at once, and nothing is switched on."""
    with pytest.raises(tw.ArgumentError, match=told):
        tw.autolog(xgboost=options)
    assert {each.state for each in tw.autolog.status()} == {"off"}


def test_checking_options_imports_no_framework(python: Callable[..., str]) -> None:
    """The arguments of every framework are known without it."""
    said = python("""
        import trackway as tw
        from trackway.integrations._versions import FRAMEWORKS
        tw.autolog(**{name: {} for name in FRAMEWORKS})
        modules = {module for each in FRAMEWORKS.values() for module in each.modules}
        print(sorted(modules & set(sys.modules)))
    """)
    assert said == "[]\n"


OBJECTS = {"lightning": "TrackwayLogger", "sklearn": "watch", "pytorch": None, "accelerate": None}


@pytest.mark.parametrize("name", list(FRAMEWORKS))
def test_options_are_those_of_the_object(name: str) -> None:
    """What autolog takes for a framework is what its explicit object takes, but for the run."""
    known = import_module(f"trackway.integrations.{name}._autolog").OPTIONS
    wanted = OBJECTS.get(name, "TrackwayCallback")
    if wanted is None:  # a loop has no object; of a tracker only the name is registered
        assert known == ({"every", "prefix"} if name == "pytorch" else set())
        return
    home = import_module(f"trackway.integrations.{name}")
    try:
        made = getattr(home, wanted)
    except tw.MissingExtraError:
        pytest.skip(f"{name} is not installed")
    parameters = inspect.signature(made).parameters.values()
    assert known == {each.name for each in parameters if each.name != "run"}
