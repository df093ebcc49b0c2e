"""Which run an integration records into, and what becomes of it: ``RunHandle`` by itself."""

from __future__ import annotations

import sys
import threading
import types
from collections.abc import Callable
from typing import Any

import pytest

import trackway as tw
from tests.integrations.contract import Boom
from trackway.api import StoredRun
from trackway.core import current
from trackway.integrations import _base
from trackway.integrations._base import RunHandle, training_under_way

FRAMEWORK = types.ModuleType("catboost_for_a_test")
exec(
    """
def train(hooks, work):
    for hook in hooks:
        hook.begin()
    work()
    for hook in hooks:
        hook.end()
""",
    FRAMEWORK.__dict__,
)


def handle(**arguments: Any) -> RunHandle:
    """A handle of a framework that has nothing but ``train``."""
    return RunHandle("catboost", roots=("catboost_for_a_test",), **arguments)


def train(hooks: list[RunHandle], work: Callable[[], Any] = lambda: None) -> None:
    """A training of that framework."""
    FRAMEWORK.train(hooks, work)


def fail() -> None:
    """What the user's code does."""
    raise Boom


def states(root: Any) -> list[str]:
    """The states of all runs, newest first."""
    return [run.state for run in tw.Api(root).runs("p")]


def test_two_in_one_training(root: Any) -> None:
    """Two handles of one training are both in it to its end, in one run."""
    one, two = handle(prefix="one"), handle(prefix="two")

    def work() -> None:
        one.log({"loss": 1.0}, 0)
        two.log({"loss": 2.0}, 0)

    train([one, two], work)
    (run,) = tw.Api(root).runs("p")
    assert sorted(run.keys()) == ["one/loss", "two/loss"]
    assert run.state == "finished"


def test_left_and_begun_again(root: Any) -> None:
    """A training after one that was left has its own run, again and again."""
    hook = handle()
    for _ in range(3):
        with pytest.raises(Boom):
            train([hook], fail)
    train([hook])
    assert states(root) == ["finished", "failed", "failed", "failed"]


def test_left_by_another(root: Any) -> None:
    """Whichever object begins the next training, the run of the one that was left is failed."""
    with pytest.raises(Boom):
        train([handle()], fail)
    train([handle()])
    assert states(root) == ["finished", "failed"]


def test_nested(root: Any) -> None:
    """A training inside another one goes into its run, and leaves it open."""
    outer, inner = handle(), handle()

    def work() -> None:
        train([inner])
        assert outer.run is not None
        assert current.open_runs() == [outer.run]

    train([outer], work)
    assert states(root) == ["finished"]


def test_what_comes_after_is_the_programs_own(root: Any) -> None:
    """After an exception that was caught, ``tw.run`` is no longer the run of that training."""
    with pytest.raises(Boom):
        train([handle()], fail)
    assert tw.run is None
    assert states(root) == ["failed"]
    assert not training_under_way()


def test_own_run_of_another_thread(root: Any) -> None:
    """Trainings in two threads at once have a run each, and each ends as its own training did."""
    began, go_on = threading.Event(), threading.Event()

    def work() -> None:
        began.set()
        assert go_on.wait(10)

    other = threading.Thread(target=train, args=([handle()], work))
    other.start()
    assert began.wait(10)
    assert not training_under_way()
    with pytest.raises(Boom):
        train([handle()], fail)
    go_on.set()
    other.join()
    train([handle()])
    assert sorted(states(root)) == ["failed", "finished", "finished"]


def test_a_subclass_between(root: Any) -> None:
    """A method of the program's own between the framework and us does not hide the training."""

    class Mine:
        def __init__(self) -> None:
            self.handle = handle()

        def begin(self) -> None:
            self.handle.begin()

    mine: Any = Mine()
    with pytest.raises(Boom):
        train([mine], fail)
    assert tw.run is None
    assert states(root) == ["failed"]


def test_nothing_is_kept_alive(root: Any) -> None:
    """What the training held is free once the exception is, with its run still open."""
    import gc
    import weakref

    class Model:
        pass

    kept: list[weakref.ref[Any]] = []

    def work() -> None:
        model = Model()
        kept.append(weakref.ref(model))
        raise Boom

    hook = handle()
    with pytest.raises(Boom):
        train([hook], work)
    gc.collect()
    assert kept[0]() is None
    assert hook.run is not None


class Nothing:
    """A hook that does nothing."""

    def begin(self) -> None:
        """Do nothing."""

    def end(self) -> None:
        """Do nothing."""


def traced(hook: Any) -> list[tuple[str, int]]:
    """Every event that a debugger sees in the framework's frame."""
    seen: list[tuple[str, int]] = []

    def local(frame: Any, event: str, arg: Any) -> Any:
        seen.append((event, frame.f_lineno))
        return local

    def trace(frame: Any, event: str, arg: Any) -> Any:
        return local if frame.f_globals is names else None

    names = FRAMEWORK.__dict__
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        train([hook])
    finally:
        sys.settrace(before)
    return seen


def test_a_debugger_goes_on(root: Any) -> None:
    """Whoever traces the framework's frame sees every line as without us."""
    assert traced(handle()) == traced(Nothing())


def test_configuration_of_two_trainings(
    begin: Callable[..., Any], stored: Callable[..., StoredRun]
) -> None:
    """What a training says takes the place of what another said; what it adds stands beside it."""
    run, hook = begin(), handle(prefix="a")
    hook.begin()
    hook.configure({"catboost": {"depth": 3, "od_wait": 5}})
    hook.configure({"catboost": {"rows": 10}})
    hook.end()
    assert stored(run).config == {"a": {"catboost": {"depth": 3, "od_wait": 5, "rows": 10}}}
    hook.begin()
    hook.configure({"catboost": {"depth": 4}})
    hook.configure_at(("other", "x"), 1)
    hook.end()
    assert stored(run).config == {"a": {"catboost": {"depth": 4}, "other": {"x": 1}}}
    assert _base._under_way == []
