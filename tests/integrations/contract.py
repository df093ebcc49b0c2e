"""What holds for every integration, as one suite that each of them passes with a real training.

A test module makes a class of it::

    class TestKeras(IntegrationContract):
        framework = "keras"

        def hook(self, **arguments): ...   # the explicit object
        def train(self, hook, *, fail=False): ...  # a tiny training; its weights as bytes
"""

from __future__ import annotations

import math
import pickle
import random
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import trackway as tw
from trackway.api import StoredRun
from trackway.core import _guard, current
from trackway.core.run import Run
from trackway.integrations._versions import FRAMEWORKS

Row = tuple[str, int, float]


class Boom(Exception):
    """What the user's own code raises."""


def _broken(*arguments: Any) -> Any:
    raise RuntimeError("no run can be begun")


class FailingRun(Run):
    """A run whose every record fails, in whatever way it is made."""

    def _event(self, type: str, fields: dict[str, Any]) -> None:
        raise RuntimeError("this backend is broken")

    def log(self, data: Any, step: Any = None, commit: Any = None) -> None:
        """Fail."""
        raise RuntimeError("this backend is broken")

    @property
    def disabled(self) -> bool:
        """Not, and so everything is tried."""
        return False


def rows_of(run: StoredRun, without: tuple[str, ...] = ()) -> list[Row]:
    """Every point of a run as (name, step, value), sorted; NaN as None for comparison."""
    found: list[Any] = []
    for key in sorted(run.keys()):
        if without and key.startswith(without):
            continue
        metric = run.history(key, repeats="all")[key]
        found += [
            (key, int(step), None if math.isnan(value) else value)
            for step, value in zip(metric.steps.tolist(), metric.values.tolist(), strict=True)
        ]
    return sorted(found, key=lambda row: row[:2])


class IntegrationContract:
    """The suite. Every test is a real training of the framework."""

    framework: ClassVar[str]
    autologs: ClassVar[bool] = True
    """Whether ``autolog`` records such a training just as the explicit object does."""

    unmeasured: ClassVar[tuple[str, ...]] = ()
    """How the names begin of metrics that no test can foresee (seconds, rates): not in rows."""

    explicit_name: ClassVar[str] = "TrackwayCallback"
    """What the integration's one public name is."""

    # -- what an integration fills in ------------------------------------------------------

    def hook(self, **arguments: Any) -> Any:
        """The explicit object: ``run=``, ``every=``, ``prefix=`` and what else it takes."""
        raise NotImplementedError

    def train(self, hook: Any, *, fail: bool = False) -> bytes:
        """A tiny training, the same each time, without a hook where it is None.

        Args:
            hook: The explicit object, or None.
            fail: The user's own code raises ``Boom`` in the middle of the training.

        Returns:
            The weights or predictions, to the bit.
        """
        raise NotImplementedError

    def expected(self) -> list[Row]:
        """Every row of the training, from what the framework itself says of it."""
        raise NotImplementedError

    def expected_every_2(self) -> list[Row]:
        """The rows with ``every=2``."""
        raise NotImplementedError

    def expected_config(self) -> dict[str, Any]:
        """Some hyperparameters by dotted name, as they have to be in the run's config."""
        raise NotImplementedError

    def config_of(self, run: StoredRun) -> dict[str, Any]:
        """The configuration, without what is another one each time."""
        return run.config

    # -- what holds ------------------------------------------------------------------------

    def rows(self, run: StoredRun) -> list[Row]:
        """The run's rows, without those that no test can foresee."""
        return rows_of(run, self.unmeasured)

    def test_rows_and_own_run(self, stored: Callable[..., StoredRun]) -> None:
        """Every row is as expected, and the run that was opened for the training is finished."""
        self.train(self.hook())
        run = stored()
        assert self.rows(run) == self.expected()
        assert run.state == "finished"
        assert current.open_runs() == []

    def test_callers_run_stays_open(
        self, begin: Callable[..., Any], stored: Callable[..., StoredRun]
    ) -> None:
        """A run that was passed in is recorded into and left open."""
        mine = begin()
        other = begin()
        self.train(self.hook(run=mine))
        assert current.open_runs() == [mine, other]
        assert self.rows(stored(mine)) == self.expected()
        assert stored(other).keys() == []

    def test_current_run_stays_open(
        self, begin: Callable[..., Any], stored: Callable[..., StoredRun]
    ) -> None:
        """Without one, the current run is recorded into and left open."""
        mine = begin()
        self.train(self.hook())
        assert current.open_runs() == [mine]
        assert self.rows(stored(mine)) == self.expected()

    def test_hyperparameters(self, stored: Callable[..., StoredRun]) -> None:
        """Hyperparameters are in the config without being told."""
        self.train(self.hook())
        config = stored().config
        for name, value in self.expected_config().items():
            found: Any = config
            for part in name.split("."):
                assert part in found, f"{name}: there are {sorted(found)}"
                found = found[part]
            assert found == value, name

    def test_training_is_the_same(self, begin: Callable[..., Any]) -> None:
        """Weights or predictions are the same to the bit, and so is every generator's state."""
        without = self._seeded(None)
        assert self._seeded(self.hook()) == without
        assert self._seeded(self.hook(run=begin(mode="disabled"))) == without

    def _seeded(self, hook: Any) -> tuple[bytes, list[Any]]:
        """The training from the same state of the global generators, and their state after it."""
        torch = sys.modules.get("torch")
        random.seed(0)
        np.random.seed(0)
        if torch is not None:
            torch.manual_seed(0)
        trained = self.train(hook)
        states: list[Any] = [random.getstate(), np.random.get_state()[1].tolist()]  # type: ignore[index]
        if torch is not None:
            states.append(torch.get_rng_state().tolist())
        return trained, states

    @pytest.mark.swallows
    def test_failing_backend(self, root: Path) -> None:
        """With a backend that fails at every call training is the same; failures are counted."""
        without = self.train(None)
        broken = FailingRun(root=root, project="p", id="broken", attempt=1, writer=None)
        broken._settings = tw.Settings(companion=False, console=False)
        assert self.train(self.hook(run=broken)) == without
        assert sum(trouble.count for trouble in _guard.troubles()) > 0

    @pytest.mark.swallows
    def test_failing_init(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where no run can be begun training is the same, with the object and by ``autolog``."""
        without = self.train(None)
        monkeypatch.setattr("trackway.core.init._begin", _broken)
        assert self.train(self.hook()) == without
        if self.autologs:
            tw.autolog(only=[self.framework])
            assert self.train(None) == without

    def test_unwritable_root(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """Where the folder cannot be written training is the same, and recorded elsewhere."""
        without, expected = self.train(None), self.expected()
        (tmp_path / "file").write_text("no folder")
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.setenv("TRACKWAY_DIR", str(tmp_path / "file" / "runs"))
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "elsewhere"))
        assert self.train(self.hook()) == without
        (found,) = (tmp_path / "elsewhere").glob("trackway-*")
        assert self.rows(tw.Api(found).runs("p")[0]) == expected

    def test_users_exception(self, stored: Callable[..., StoredRun]) -> None:
        """An exception of the user's passes unchanged, and the run ends as failed."""
        with pytest.raises(Boom):
            self.train(self.hook(), fail=True)
        first = stored()
        self.train(self.hook())
        assert [run.state for run in tw.Api(stored().path.parents[1]).runs("p")] == [
            "finished",
            "failed",
        ]
        assert stored().id != first.id

    def test_prefix(self, stored: Callable[..., StoredRun]) -> None:
        """A prefix goes before the name of every metric."""
        self.train(self.hook(prefix="teacher"))
        without = tuple(f"teacher/{name}" for name in self.unmeasured)
        found = rows_of(stored(), without)
        assert found == [(f"teacher/{name}", step, value) for name, step, value in self.expected()]

    def test_every(self, stored: Callable[..., StoredRun]) -> None:
        """``every`` leaves out what is between."""
        self.train(self.hook(every=2))
        assert self.rows(stored()) == self.expected_every_2()

    @pytest.mark.parametrize("wrong", [{"every": 0}, {"prefix": 3}, {"run": "mine"}])
    def test_bad_arguments(self, wrong: dict[str, Any]) -> None:
        """A bad argument raises where the object is built, and says what to pass."""
        with pytest.raises(tw.ArgumentError, match=next(iter(wrong))):
            self.hook(**wrong)

    def test_other_ranks_are_silent(self, monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
        """On a rank other than zero nothing is created, and training is the same."""
        without = self.train(None)
        monkeypatch.setenv("RANK", "1")
        assert self.train(self.hook()) == without
        assert not root.exists()

    def test_pickles(self, begin: Callable[..., Any], stored: Callable[..., StoredRun]) -> None:
        """The object can be pickled, and works after."""
        mine = begin()
        copy = pickle.loads(pickle.dumps(self.hook(run=mine)))
        self.train(copy)
        assert self.rows(stored(mine)) == self.expected()

    def test_resume(self, begin: Callable[..., Any], stored: Callable[..., StoredRun]) -> None:
        """A run that is resumed takes a second training as its next attempt."""
        first = begin(id="again")
        self.train(self.hook())
        first.finish()
        second = begin(id="again", resume="must")
        self.train(self.hook())
        second.finish()
        run = stored(second)
        assert [attempt.number for attempt in run.attempts] == [1, 2]
        assert self.rows(run) == self.expected()
        for key in {name for name, _, _ in self.expected()}:
            arrivals = run.history(key, attempts="all", repeats="all")[key]
            assert arrivals.attempts.tolist().count(1) == arrivals.attempts.tolist().count(2), key

    def test_missing_package(self) -> None:
        """Without the framework the message is exactly the one that helps."""
        framework = FRAMEWORKS[self.framework]
        code = f"""
            import sys
            for name in {framework.modules!r}:
                sys.modules[name] = None
            import trackway.integrations.{self.framework} as integration
            try:
                integration.{self.explicit_name}
            except ImportError as error:
                print(type(error).__name__, error)
        """
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(tw.__file__).parents[1],
        )
        assert done.stdout == (
            f"MissingExtraError trackway.integrations.{self.framework} needs "
            f"{framework.distributions[0]}: pip install 'trackway[{self.framework}]'\n"
        )

    def test_autolog(self, stored: Callable[..., StoredRun]) -> None:
        """``autolog`` alone records the same rows and config as the explicit object."""
        if not self.autologs:
            return
        self.train(self.hook())
        explicit = stored()
        without, expected = self.train(None), self.expected()
        tw.autolog(only=[self.framework])
        assert self.train(None) == without
        run = stored()
        assert run.id != explicit.id
        assert self.rows(run) == expected
        assert self.config_of(run) == self.config_of(explicit)
        assert run.state == "finished"
        tw.autolog.disable()
        self.train(None)
        assert stored().id == run.id

    def test_explicit_wins_over_autolog(
        self, begin: Callable[..., Any], stored: Callable[..., StoredRun]
    ) -> None:
        """Beside an explicit object ``autolog`` adds nothing: every row is there once."""
        if not self.autologs:
            return
        expected = self.expected()
        tw.autolog(only=[self.framework])
        mine = begin()
        self.train(self.hook(run=mine))
        assert self.rows(stored(mine)) == expected

    def test_autolog_exception(self, stored: Callable[..., StoredRun]) -> None:
        """With ``autolog`` an exception of the user's passes unchanged; the run ends as failed."""
        if not self.autologs:
            return
        tw.autolog(only=[self.framework])
        with pytest.raises(Boom):
            self.train(None, fail=True)
        self.train(None)
        runs = tw.Api(stored().path.parents[1]).runs("p")
        assert [run.state for run in runs] == ["finished", "failed"]
