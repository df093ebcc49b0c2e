"""What holds for every test: a clean environment, and no error of ours swallowed in silence."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Final

import pytest

ACCEPTED_SKIPS: Final = ("needs root", "needs a GPU", "needs Python ", "needs macOS", "needs Linux")
"""How the reason of a skip begins that the machine at hand could not have removed."""

_RANKS: Final = (
    "GROUP_RANK",
    "JAX_PROCESS_ID",
    "LOCAL_RANK",
    "LOCAL_WORLD_SIZE",
    "NODE_RANK",
    "RANK",
    "WORLD_SIZE",
)
_PREFIXES: Final = ("TRACKWAY_", "SLURM_", "PMI_", "PMIX_", "OMPI_", "KUBERNETES_", "GIT_")


def pytest_configure() -> None:
    """Let Ctrl-C mean what it means, also where a shell started all this in the background.

    Such a shell has its children ignore SIGINT, and theirs inherit it.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)


# -- isolation -------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _isolated(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Run the test in its ``tmp_path``, with an empty home and nothing said by the environment.

    The patches are the fixture's own: a test that undoes ``monkeypatch`` keeps the isolation.
    The home lies elsewhere, so that nothing but the test puts files into ``tmp_path``.
    """
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name in _RANKS or name.startswith(_PREFIXES):
                patch.delenv(name)
        patch.setenv("HOME", str(home))
        patch.setenv("USERPROFILE", str(home))
        patch.setenv("XDG_CACHE_HOME", str(home / ".cache"))
        patch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
        patch.setenv("GIT_CONFIG_NOSYSTEM", "1")
        patch.chdir(tmp_path)
        yield


# -- the guard -------------------------------------------------------------------------------------


def _guard_errors() -> list[tuple[str, BaseException]]:
    guard = sys.modules.get("trackway.core._guard")
    return [] if guard is None else list(guard.swallowed)


def _reset_guard() -> None:
    guard = sys.modules.get("trackway.core._guard")
    if guard is not None:
        guard.reset()


def _settle(item: pytest.Item) -> None:
    """Raise what the guard swallowed, unless the test is about just that."""
    errors = _guard_errors()
    if errors and item.get_closest_marker("swallows") is None:
        place, error = errors[0]
        _reset_guard()
        raise AssertionError(
            f"{len(errors)} error(s) of ours were swallowed, the first in {place!r}; "
            "mark the test with 'swallows' if that is what it is about"
        ) from error


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    """Begin each test with a guard that has swallowed nothing."""
    _reset_guard()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Fail a test in which the guard swallowed an error, or did not where it was to."""
    try:
        result = yield
    except BaseException:
        # It failed or was skipped for a reason of its own; what was swallowed is told beside it.
        for place, error in _guard_errors():
            item.add_report_section("call", "guard", f"swallowed in {place!r}: {error!r}")
        _reset_guard()
        raise
    _settle(item)
    if item.get_closest_marker("swallows") is not None:
        assert _guard_errors(), "the test is marked 'swallows' and the guard swallowed nothing"
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    """Fail a test whose fixtures made the guard swallow an error on their way out."""
    result = yield
    _settle(item)
    _reset_guard()
    return result


# -- skips -----------------------------------------------------------------------------------------

_avoidable: list[str] = []


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that CI runs with."""
    parser.addoption(
        "--no-avoidable-skips",
        action="store_true",
        help=f"fail when a test is skipped for a reason other than: {', '.join(ACCEPTED_SKIPS)}",
    )


def _note_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    reason = reason.removeprefix("Skipped: ")
    if not reason.startswith(ACCEPTED_SKIPS):
        _avoidable.append(f"{report.nodeid}: {reason}")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Remember a test that was skipped."""
    _note_skip(report)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """Remember a module that was skipped whole."""
    _note_skip(report)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Let avoidable skips fail the session where they are not accepted."""
    if _avoidable and session.config.getoption("--no-avoidable-skips"):
        session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name the avoidable skips where they failed the session."""
    if _avoidable and terminalreporter.config.getoption("--no-avoidable-skips"):
        terminalreporter.section("skipped, and need not have been")
        for line in _avoidable:
            terminalreporter.line(line)
