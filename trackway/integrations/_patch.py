"""What ``autolog`` changes in a framework: the original is called exactly once, whatever we do.

A wrapper has three parts: before, the original, after. The first and the last are guarded; an
exception of the original passes unchanged. ``disable`` puts the original back; whoever had taken
the wrapper by name meanwhile keeps one that does nothing but call the original.

Imports next to nothing, as ``autolog`` may be called in programs that never train.
"""

from __future__ import annotations

from trackway.core._guard import attempt, guard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from trackway.core.run import Run

__all__ = ["Call", "Patches", "defaults", "watchers"]

defaults: dict[str, Any] = {}
"""What ``autolog`` was told about runs that integrations open themselves: arguments of ``init``."""

watchers: list[Callable[[Run, bool], None]] = []
"""Called with each run that an integration opens or joins, and whether it is its own to end."""


class Call:
    """One call of a patched function.

    Attributes:
        args: Positional arguments, ``self`` first where it is a method; may be replaced before.
        kwargs: Keyword arguments; may be changed before.
        state: Whatever ``before`` leaves here for ``after``.
        result: What the original returned, for ``after``.
        error: What the original raised, for ``after``; it is raised again behind it.
    """

    __slots__ = ("args", "error", "kwargs", "result", "state")

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.args = args
        self.kwargs = kwargs
        self.state: Any = None
        self.result: Any = None
        self.error: BaseException | None = None


class Patches:
    """What is changed in one framework, and the way back.

    Attributes:
        name: The integration's name.
        options: Keyword arguments for the explicit objects that are inserted: ``every`` …
        enabled: False makes every wrapper fall through.
        points: What is patched, in words for ``trackway integrations``.
    """

    def __init__(self, name: str, options: Mapping[str, Any] | None = None) -> None:
        self.name = name
        self.options = dict(options or {})
        self.enabled = True
        self.points: list[str] = []
        self._undo: list[Callable[[], None]] = []

    def wrap(
        self,
        owner: Any,
        attribute: str,
        *,
        before: Callable[[Call], None] | None = None,
        after: Callable[[Call], None] | None = None,
        around: Callable[[Callable[..., Any]], Callable[..., Any]] | None = None,
    ) -> None:
        """Put ``before`` and ``after`` around a function of a module, or a method of a class.

        A second call for the same owner and attribute does nothing while the first one stands.

        Args:
            owner: The module or class.
            attribute: The function's name there.
            before: Called with the call before the original.
            after: Called with the call behind it, however it ended.
            around: Gets the function that is to be put there, and gives what is put there.
        """
        original = owner.__dict__[attribute]
        if isinstance(original, (staticmethod, classmethod)):
            raise TypeError(f"{attribute} is a {type(original).__name__}: wrap its function")
        if getattr(original, "_trackway_patches", None) is self:
            return
        wrapper = _wrapper(self, original, before, after)
        if around is not None:
            wrapper = around(wrapper)
        setattr(owner, attribute, wrapper)
        self.points.append(f"{_name(owner)}.{attribute}")

        def undo() -> None:
            if owner.__dict__.get(attribute) is wrapper:
                setattr(owner, attribute, original)

        self._undo.append(undo)

    def registered(self, point: str, undo: Callable[[], Any]) -> None:
        """Something was registered where the framework offers it; ``undo`` takes it back."""
        self.points.append(point)
        self._undo.append(undo)

    def undo(self) -> None:
        """Put everything back."""
        self.enabled = False
        while self._undo:
            with guard(self.name):
                self._undo.pop()()
        self.points.clear()


def _name(owner: Any) -> str:
    if isinstance(owner, type):
        return f"{owner.__module__}.{owner.__qualname__}"
    return str(getattr(owner, "__name__", owner))


def _wrapper(
    patches: Patches,
    original: Callable[..., Any],
    before: Callable[[Call], None] | None,
    after: Callable[[Call], None] | None,
) -> Callable[..., Any]:
    import functools

    prepare = None if before is None else attempt(patches.name, before)
    conclude = None if after is None else attempt(patches.name, after)

    @functools.wraps(original)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if not patches.enabled:
            return original(*args, **kwargs)
        call = Call(args, dict(kwargs))
        if prepare is not None and not prepare(call):
            # What it may have changed by half is not passed on.
            call.args, call.kwargs = args, kwargs
        try:
            call.result = original(*call.args, **call.kwargs)
            return call.result
        except BaseException as error:
            call.error = error
            raise
        finally:
            if conclude is not None:
                conclude(call)
            # A raised error holds this frame: holding it in turn would keep both until the
            # collector comes, and with them the user's tensors.
            call.error = call.result = None

    wrapped._trackway_patches = patches  # type: ignore[attr-defined]
    return wrapped
