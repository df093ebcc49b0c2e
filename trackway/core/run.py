"""The run: its log call, its configuration, its end."""

from __future__ import annotations

import operator
import sys
import threading
import time as clock
from collections import deque
from collections.abc import Callable, Mapping
from importlib import import_module
from itertools import count
from pathlib import Path
from time import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final
from zlib import crc32

import msgspec

from trackway.backend.file.format import EXACT, FRAME, ROW
from trackway.backend.file.writer import MOST_DECLARED, SLOW_WRITE_S, LogWriter, split_names
from trackway.core._described import Described
from trackway.core._end import LEFT, End, end_of, of_process, spoke
from trackway.core._guard import guard, guarded_log, note, tell, troubles
from trackway.core._tree import Tree
from trackway.core._values import (
    TOO_LARGE,
    Sorted,
    encodable,
    exact,
    flatten,
    is_too_large,
    plain,
    sort_values,
)
from trackway.types import Settings

if TYPE_CHECKING:
    from trackway.core._console import Console
    from trackway.core._devices import Copies
    from trackway.core._launch import Lifeline
    from trackway.core._redact import Redactor

__all__ = ["Run"]

_I64: Final = 1 << 63
_head: Final = FRAME.pack

_LARGE: Final = float(EXACT // 2)
"""A sum below this hides no integer beyond 2**53, unless others of like size cancel it."""

FINISH_S: Final = 10.0
"""How long ``finish`` waits for devices and disks."""

_NAMED: Final = 20
"""How many different refused names are told; further ones are counted together."""

_STATISTICS: Final = ("min", "max", "mean", "last", "first", "best", "none")
_GOALS: Final = ("minimize", "maximize")


class _Pending:
    """A row that waits for scalars from a device."""

    __slots__ = ("copies", "found", "step", "time")

    def __init__(self, found: Sorted, copies: Copies, step: int, time: float) -> None:
        self.found = found
        self.copies = copies
        self.step = step
        self.time = time


class _Closed:
    """What a run has for a writer before the first record of a child, or after its end."""

    plans: dict[object, Any] = {}  # noqa: RUF012 - stays empty: every call takes the careful way


class Run(Described):
    """One run. Made by ``trackway.init``; every method may be called from any thread.

    Nothing here raises once the run exists: trouble is counted and told in one sentence, and
    ``finish`` says what was lost, if anything was.

    Attributes:
        id: Names the run for ever, within its project.
        project: The project's name.
        name: A name for people; assign to rename.
        config: Hyperparameters: items and attributes, nested; each change is kept with its time.
        summary: Results stated explicitly; they win over what is derived from the metrics.
        attempt: 1, and one more each time the run is resumed.
        root: The folder that holds all projects.
        path: The run's own folder.
    """

    def __init__(
        self,
        *,
        root: Path,
        project: str,
        id: str,
        attempt: int,
        writer: LogWriter | None,
        redactor: Redactor | None = None,
        first_step: int = 0,
        rank: int | None = None,
        child: bool = False,
    ) -> None:
        self.root = root
        self.project = project
        self.id = id
        self.attempt = attempt
        self.rank = rank
        self._child = child
        self._writer: Any = writer if writer is not None else _Closed
        self._open_lock = threading.RLock()
        self._redactor = redactor
        self._fields: dict[str, Any] = {}
        self._first_step = first_step
        self._steps = count(first_step)
        self._reached = first_step - 1
        self._jumped = False
        self._pending: deque[_Pending] = deque()
        self._skipped = 0
        self._refused: dict[str, int] = {}
        self._finished = False
        self._unended = False  # opened for a training that has not come to its end
        self._troubles_before = {(t.place, t.reason): t.count for t in troubles()}
        self._settings: Settings = Settings()
        self._console: Console | None = None
        self._lifeline: Lifeline | None = None
        self._before_end: list[Callable[[], None]] = []
        self._at_finish: Callable[[Run], None] = lambda run: None
        self.config = Tree(self._config_changed)
        self.summary = Tree(self._summary_changed)

    # -- logging ---------------------------------------------------------------------------

    def _log_fast(self, data: Any, step: Any) -> bool:  # noqa: C901 - flat, because it is hot
        """Rows of names seen before whose values are plain numbers; False for anything else.

        ``sum`` is the type check: a sum of floats and integers is a float, whereas a tensor, a
        NumPy scalar, a list or a text makes it something else or raises, and a large integer or
        a NaN makes it large or NaN; only then the types are looked at. Names first seen as
        integers are looked at one by one, as two large ones could cancel each other.
        """
        writer = self._writer
        plan = writer.plans.get(tuple(data))
        if plan is None or self._pending:
            return False
        values = data.values()
        total = sum(values, 0.0)
        if (type(total) is not float or not -_LARGE < total < _LARGE) and not exact(values):
            return False
        if plan.integers:
            for name in plan.integers:
                if not -EXACT <= data[name] <= EXACT:
                    return False
        now = time()
        if step is None:
            step = self._next_after_jump() if self._jumped else next(self._steps)
            payload = plan.pack(ROW, plan.id, step, now, *values)
        elif type(step) is not int:
            return False
        else:
            payload = plan.pack(ROW, plan.id, step, now, *values)
            if step > self._reached:
                self._reached = step
                self._jumped = True
        frame = _head(plan.length, crc32(payload)) + payload
        try:
            stored = writer.write(writer.fd, frame)
        except OSError as error:
            writer.failed(frame, 0, error)
            return True
        if stored != plan.size:
            writer.failed(frame, stored, None)
            return True
        after = time()
        if after - now > SLOW_WRITE_S:
            writer.slow(after, after - now)
        if after > writer.next_check:
            writer.check(after)
        return True

    def _log_any(self, data: object, step: object, commit: object) -> None:
        """Any values: sorted, stored in what form they need, refused ones named and counted."""
        now = clock.time()
        if not isinstance(data, Mapping):
            kind = type(data).__name__
            note("log", kind, f"log() takes a dictionary of values, not a {kind}; it is counted.")
            return
        number = self._step(step, hold=commit is False and step is None)
        found = self._record(flatten(data), number, now, tuple(data))
        if not found.devices:
            names = tuple(data)
            if names == tuple(found.numbers):
                self._learn(names, found)

    def _log_beside(self, data: Mapping[str, Any], step: int) -> None:
        """Record at a step of a count that is not the program's: its own next step stays."""
        with guard("log"):
            self._record(data, step, clock.time(), tuple(data))

    def _record(
        self, flat: Mapping[str, Any], step: int, now: float, names: tuple[Any, ...]
    ) -> Sorted:
        found = sort_values(flat)
        self._count_refused(found)
        if self._pending:
            self._harvest()
        if found.devices:
            # A sum of these would be work for the device: such names take the careful way.
            self._writer.plans.pop(names, None)
            self._begin_copies(found, step, now)
        elif any(waiting.step == step for waiting in self._pending):
            self._begin_copies(found, step, now)  # behind what came before it at this step
        else:
            self._store(found, step, now)
        return found

    @guarded_log(_log_fast, _log_any)
    def log(
        self, data: Mapping[Any, Any], step: int | None = None, commit: bool | None = None
    ) -> None:
        """Record values at a step.

        On return the values are in the file and survive the death of the process; those still on
        a device follow as soon as they have been computed, without anything waiting for them. Any
        step may come in any order and any number of times: nothing is refused, and readers show the
        last arrival unless asked for all.

        Args:
            data: Name to value. Numbers of Python, NumPy, PyTorch, JAX and TensorFlow; booleans;
                integers of any size; text and lists; None is skipped. Nested dictionaries are
                joined with ``/``.
            step: Any integer; this writer's next step by default.
            commit: ``False`` without a step: the next call without a step shares this one's step.
        """

    def _step(self, step: object, *, hold: bool = False) -> int:
        if step is None:
            with self._open_lock:
                number = self._next_after_jump() if self._jumped else next(self._steps)
                if hold:
                    self._steps = count(number)
            return number
        try:
            number = operator.index(step)  # type: ignore[arg-type]
        except TypeError:
            number = int(step)  # type: ignore[call-overload]
            if number != step:
                note(
                    "step",
                    "fraction",
                    f"a step is a whole number: {step!r} was recorded as {number}.",
                )
        if number > self._reached:
            self._reached = number
            self._jumped = True
        return number

    def _next_after_jump(self) -> int:
        with self._open_lock:
            self._jumped = False
            number = next(self._steps)
            if number <= self._reached:
                number = int(self._reached) + 1
                self._steps = count(number + 1)
            return number

    def _store(self, found: Sorted, step: int, time: float) -> None:
        writer = self._live_writer()
        fits = -_I64 <= step < _I64
        if not fits:
            kinds = {"f": float, "i": int, "b": bool}
            for name, number in found.numbers.items():
                found.others[name] = kinds[found.letters[name]](number)
            found.numbers = {}
        if found.numbers or (fits and not found.others):
            letters = "".join(found.letters[name] for name in found.numbers)
            writer.row(found.numbers, step, time=time, types=letters)
        data = {}
        for name, value in found.others.items():
            if is_too_large(value):
                found.refused.append((name, TOO_LARGE))
            else:
                data[name] = self._redacted(name, value, "log")
        if data:
            writer.event("value", {"step": plain(step), "data": data}, time)
        self._count_refused(found)

    def _learn(self, names: tuple[Any, ...], found: Sorted) -> None:
        """Let the next call with these names take the fast way."""
        plans = self._writer.plans
        if plans is _Closed.plans or set(map(type, names)) - {str}:
            return
        if len(plans) >= MOST_DECLARED:
            plans.clear()
        if names not in plans and len(split_names(names)) == 1:
            plans[names] = self._writer.plan(names, "".join(found.letters[n] for n in names))

    def _begin_copies(self, found: Sorted, step: int, time: float) -> None:
        from trackway.core._devices import start_copies

        copies = start_copies(found.devices)
        self._pending.append(_Pending(found, copies, step, time))

    def _harvest(self) -> None:
        """Write the rows whose device values have arrived, in the order of their calls.

        Never waits: it stops at the first whose values are still on their way.
        """
        while self._pending:
            try:
                waiting = self._pending.popleft()
            except IndexError:
                return
            if not waiting.copies.ready():
                self._pending.appendleft(waiting)
                return
            found = waiting.found
            found.refused = waiting.copies.refused
            for name, number in waiting.copies.items().items():
                if isinstance(number, tuple):
                    found.numbers[name], found.letters[name] = number
                else:
                    found.refused.append((name, number or "it is no number that f64 holds"))
            self._count_refused(found)
            self._store(found, waiting.step, waiting.time)

    def _count_refused(self, found: Sorted) -> None:
        self._skipped += found.skipped
        found.skipped = 0
        for name, why in found.refused:
            self._refused[name] = self._refused.get(name, 0) + 1
            if len(self._refused) <= _NAMED:
                note("log", f"value {name}", f"'{name}' was not stored: {why}; this is counted.")
        found.refused = []

    # -- configuration, summary, metrics ---------------------------------------------------

    def _config_changed(
        self, entries: list[tuple[tuple[str, ...], Any]], deleted: list[tuple[str, ...]]
    ) -> None:
        self._changed("config", entries, deleted)

    def _summary_changed(
        self, entries: list[tuple[tuple[str, ...], Any]], deleted: list[tuple[str, ...]]
    ) -> None:
        self._changed("summary", entries, deleted)

    def _changed(
        self, type: str, entries: list[tuple[tuple[str, ...], Any]], deleted: list[tuple[str, ...]]
    ) -> None:
        with guard(type):
            sets = []
            for path, value in entries:
                name, stored = ".".join(path), plain(value)
                if is_too_large(stored):
                    note(type, name, f"{type} {name!r} was not stored: {TOO_LARGE}.")
                else:
                    sets.append([list(path), self._redacted(name, stored, type)])
            self._event(type, {"set": sets, "del": [list(path) for path in deleted]})

    def _redacted(self, name: str, value: object, where: str) -> object:
        if self._redactor is None:
            return value
        return self._redactor.value(name, value, where)

    def define_metric(
        self,
        name: str,
        step_metric: str | None = None,
        *,
        summary: str | None = None,
        goal: str | None = None,
        hidden: bool = False,
        step_sync: bool | None = None,
    ) -> None:
        """Say how a metric is to be shown and summed up.

        Args:
            name: A metric, or a pattern with ``*`` (``val/*``); the last definition that fits wins.
            step_metric: The metric to draw it against.
            summary: What the run's summary holds: ``min``, ``max``, ``mean``, ``last``,
                ``first``, ``best`` (by the goal) or ``none``; several joined by commas.
            goal: ``minimize`` or ``maximize``.
            hidden: Do not draw it unless asked.
            step_sync: Accepted for scripts written for other trackers; axes are always joined.
        """
        with guard("define_metric"):
            kinds = [part for part in (summary or "").replace(" ", "").split(",") if part]
            wrong = [kind for kind in kinds if kind not in _STATISTICS]
            goal = {"min": "minimize", "max": "maximize"}.get(goal or "", goal)
            if wrong or (goal is not None and goal not in _GOALS):
                note(
                    "define_metric",
                    str(name),
                    f"define_metric({name!r}): summary is of {', '.join(_STATISTICS)} and goal "
                    f"minimize or maximize, not {wrong or goal!r}; the rest of it holds.",
                )
                kinds = [kind for kind in kinds if kind in _STATISTICS]
                goal = goal if goal in _GOALS else None
            fields = {
                "name": encodable(str(name)),
                "step_metric": None if step_metric is None else encodable(str(step_metric)),
                "summary": kinds or None,
                "goal": goal,
                "hidden": bool(hidden),
            }
            self._event("define", fields)

    def watch(self, models: Any, optimizer: Any = None, **options: Any) -> Any:
        """Record what happens to a PyTorch model while it trains, from now on.

        Gradients, updates and learning rates are read where the optimizer has just used them.

        Args:
            models: The model, or several.
            optimizer: The optimizer, or several; found by themselves, if not given.
            **options: ``log``, ``every``, ``histograms``, ``update_ratio``, ``budget``, ``prefix``,
                ``start`` and more, as ``trackway.integrations.pytorch.watch`` says.

        Returns:
            What watches; its ``close()`` ends that.

        Raises:
            ArgumentError: An argument is wrong.
            MissingExtraError: PyTorch is not installed.
        """
        # By name and when called: nothing here depends on integrations, which depend on this.
        integration = import_module("trackway.integrations.pytorch")
        return integration.watch(models, optimizer, run=self, **options)

    def unwatch(self, models: Any = None) -> None:
        """No longer watch these models; all of them by default."""
        # Without the hooks' module nothing was ever watched.
        hooks = sys.modules.get("trackway.integrations.pytorch._hooks")
        if hooks is not None:
            with guard("watch"):
                hooks.unwatch(self, models)

    @property
    def disabled(self) -> bool:
        """Whether nothing is recorded."""
        return False

    def __repr__(self) -> str:
        return f"<trackway run {self.name} ({self.project}/{self.id})>"

    # -- the writer ------------------------------------------------------------------------

    def _event(self, type: str, fields: dict[str, Any]) -> None:
        self._live_writer().event(type, fields)

    def _live_writer(self) -> LogWriter:
        """This process's own log: opened on first use in a child, and again after ``finish``."""
        writer = self._writer
        if isinstance(writer, LogWriter):
            return writer
        with self._open_lock:
            if not isinstance(self._writer, LogWriter):
                if self._finished:
                    note(
                        "log",
                        "finished",
                        f"run {self.name} was already finished; what comes now is still stored.",
                    )
                self._writer = LogWriter.create(
                    self.root,
                    project=self.project,
                    run=self.id,
                    role="worker",
                    attempt=self.attempt,
                    extra={} if self.rank is None else {"rank": self.rank},
                    tell=_told,
                )
            return self._writer

    def _forked(self) -> None:
        """In a forked child: this process gets a log of its own, when it first records."""
        self._child = True
        writer, self._writer = self._writer, _Closed
        if isinstance(writer, LogWriter):
            writer.abandon()
        lifeline, self._lifeline = self._lifeline, None
        if lifeline is not None:
            lifeline.forked()
        self._open_lock = threading.RLock()
        self._pending.clear()
        self._console = None

    def __reduce__(self) -> tuple[Callable[..., Run], tuple[Any, ...]]:
        """A run sent to another process records there into a log of its own."""
        who = (str(self.root), self.project, self.id, self.attempt, self.rank)
        return _attach, (*who, self._fields, self.config.as_dict(), self._settings)

    def __copy__(self) -> Run:
        """A copy of what holds a run holds the same run."""
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Run:
        """A copy of what holds a run holds the same run."""
        return self

    # -- the end ---------------------------------------------------------------------------

    def flush(self, *, durable: bool = False) -> bool:
        """Write everything that has arrived.

        Args:
            durable: Also wait until the device confirms it: on True it survives a power cut.

        Returns:
            Whether all of it is stored.
        """
        with guard("flush"):
            self._harvest()
            if self._console is not None:
                self._console.flush()
            writer = self._writer
            stored = not isinstance(writer, LogWriter) or writer.flush(durable=durable)
            return stored and not self._pending
        return False

    def finish(
        self, exit_code: int | None = None, timeout_s: float = FINISH_S, quiet: bool | None = None
    ) -> None:
        """End the run. A second call does nothing.

        Args:
            exit_code: Not zero: the run counts as failed.
            timeout_s: Wait no longer for devices and disks; what is not stored by then is
                counted, and said in one sentence.
            quiet: Accepted for scripts written for other trackers.
        """
        end = End("finished", 0)
        with guard("finish"):
            if exit_code is not None:
                end = End("failed" if exit_code else "finished", int(exit_code))
        self._end(end, timeout_s)

    def _end(self, end: End, timeout_s: float = FINISH_S) -> None:
        if self._finished:
            return
        self._finished = True
        patience: Any = timeout_s
        if not isinstance(patience, (int, float)):
            patience = FINISH_S
        deadline = clock.monotonic() + patience
        for call in tuple(self._before_end):
            with guard("finish"):
                call()
        with guard("finish"):
            self._await_devices(deadline)
        with guard("finish"):
            if self._console is not None:
                self._console.stop()
            if not self._child:
                self._record_end(end)
        with guard("finish"):
            writer, self._writer = self._writer, _Closed
            if isinstance(writer, LogWriter):
                writer.close(max(0.0, deadline - clock.monotonic()))
                self._say_losses(writer)
        with guard("finish"):
            if self._lifeline is not None:
                self._lifeline.close()
            self._at_finish(self)

    def _await_devices(self, deadline: float) -> None:
        self._harvest()
        while self._pending and clock.monotonic() < deadline:
            clock.sleep(0.001)
            self._harvest()

    def _record_end(self, end: End) -> None:
        writer = self._live_writer()
        mask = self._redactor.text if self._redactor is not None else lambda text, where: text
        exception = {k: mask(text, "exception") for k, text in (end.exception or {}).items()}
        for trouble in troubles():
            count = trouble.count - self._troubles_before.get((trouble.place, trouble.reason), 0)
            if not count:
                continue  # some other run's
            fields = {
                "place": trouble.place,
                "reason": mask(trouble.reason, "trouble"),
                "count": count,
                "sentence": mask(trouble.sentence, "trouble"),
            }
            writer.event("trouble", plain(fields))
        self._tell_masked()
        writer.event(
            "end",
            {
                "state": end.state,
                "exit_code": end.exit_code,
                "exception": plain(exception) or None,
                "at_exit": end.at_exit,
                "skipped": self._skipped,
                "refused": dict(list(self._refused.items())[:1000]),
                "lost_records": writer.loss.records,
                "lost_points": writer.loss.points,
                "next_step": plain(max(int(self._reached) + 1, next(self._steps))),
            },
        )

    def _tell_masked(self) -> None:
        """Record what has been masked so far: where, by which rule, how often."""
        items = [] if self._redactor is None else self._redactor.masked()
        if items:
            told = [{"where": m.where, "rule": m.rule, "count": m.count} for m in items]
            self._event("masked", {"items": told})

    def _say_losses(self, writer: LogWriter) -> None:
        lost = writer.loss
        if self._pending:
            waiting = len(self._pending)
            self._pending.clear()
            tell(
                f"{waiting} rows of run {self.name} were lost: their device did not answer in time."
            )
        if lost.records:
            why = "; ".join(lost.reasons)
            tell(
                f"{lost.points} points ({lost.records} records) of run {self.name} are lost: {why}."
            )

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        end = End("finished", 0)
        with guard("finish"):
            end = end_of(kind, error, trace) if kind is not None else end
        self._end(end)

    def _end_with_process(self) -> None:
        """At the end of the interpreter."""
        end = End()
        with guard("finish"):
            end = msgspec.structs.replace(of_process(), at_exit=True)
            if self._unended and end.state == "finished" and not spoke():
                end = LEFT
        self._end(end)


def _told(kind: str, sentence: str) -> None:
    note("log file", kind, sentence)


def _attach(
    root: str,
    project: str,
    id: str,
    attempt: int,
    rank: int | None,
    fields: dict[str, Any],
    config: dict[str, Any],
    settings: Settings,
) -> Run:
    """The run in the process that a pickled one arrived in."""
    from trackway.core._redact import Redactor

    run = Run(
        root=Path(root),
        project=project,
        id=id,
        attempt=attempt,
        writer=None,
        redactor=Redactor(settings.redact_names, settings.redact_patterns),
        rank=rank,
        child=True,
    )
    run._fields = dict(fields)
    run._settings = settings
    run.config = Tree(run._config_changed, (), config)
    return run
