"""Anything a training script may log or configure, as numbers and plain values.

No framework is imported here: a value can only be a torch tensor if torch is already loaded, so
``sys.modules`` is asked. Nothing waits for a device; such values are handed to ``_devices``.
"""

from __future__ import annotations

import datetime
import enum
import math
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import PurePath
from typing import Any, Final

import msgspec

from trackway.backend.file.format import EXACT, MAX_PAYLOAD, big_integer

__all__ = ["Sorted", "as_mapping", "flatten", "plain", "sort_values"]

DEEPEST: Final = 64
LONGEST_ARRAY: Final = 10_000
LONGEST_TEXT: Final = 1 << 20

Number = tuple[float, str]


class Sorted:
    """The values of one call, by how they are stored.

    Attributes:
        numbers: What becomes a row.
        letters: The type letter of each number (f, i, b).
        others: What becomes a ``value`` event: integers beyond 2**53, text, lists.
        devices: Scalars on a device, to be copied without waiting.
        skipped: How many were None.
        refused: Name and reason of each value that cannot be stored.
    """

    __slots__ = ("devices", "letters", "numbers", "others", "refused", "skipped")

    def __init__(self) -> None:
        self.numbers: dict[str, float] = {}
        self.letters: dict[str, str] = {}
        self.others: dict[str, object] = {}
        self.devices: dict[str, Any] = {}
        self.skipped = 0
        self.refused: list[tuple[str, str]] = []

    def put(self, name: str, value: object) -> None:
        """Sort one value."""
        if value is None:
            self.skipped += 1
            return
        number = number_of(value)
        if isinstance(number, str):
            self.refused.append((name, number))
        elif number is DEVICE:
            self.devices[name] = value
        elif number is not None:
            assert isinstance(number, tuple)
            self.numbers[name], self.letters[name] = number
        else:
            try:
                self.others[name] = plain(value, strict=True)
            except UnplainError as error:
                self.refused.append((name, str(error)))


class UnplainError(Exception):
    """A value of this kind has no plain form."""


class _Device:
    """The mark of a scalar that is not in the memory of this process yet."""


DEVICE: Final = _Device()


def flatten(data: Mapping[Any, object]) -> dict[str, object]:
    """Nested dictionaries as one, the names joined by ``/``."""
    flat: dict[str, object] = {}
    _flatten_into(flat, "", data, 0)
    return flat


def _flatten_into(
    flat: dict[str, object], prefix: str, data: Mapping[Any, object], depth: int
) -> None:
    if depth > DEEPEST:
        raise RecursionError(f"values are nested deeper than {DEEPEST} dictionaries")
    for key, value in data.items():
        name = prefix + (key if isinstance(key, str) else str(key))
        if isinstance(value, Mapping):
            _flatten_into(flat, name + "/", value, depth + 1)
        else:
            flat[encodable(name)] = value


_PLAIN: dict[type, bool] = {float: False, int: True, bool: False}
"""Types that ``struct`` packs as f64 just as ``number_of`` would; True: if not too large."""


def exact(values: Iterable[Any]) -> bool:
    """Whether all values are numbers of Python or NumPy that f64 holds exactly."""
    kinds = {*map(type, values)}
    if not _PLAIN.keys() >= kinds:
        return False
    if not any(_PLAIN[kind] for kind in kinds):
        return True
    return all(-EXACT <= value <= EXACT for value in values if _PLAIN[type(value)])


def _learn_numpy(numpy: Any) -> None:
    """NumPy is loaded: its scalar types are plain from now on."""
    for name in ("float16", "float32", "float64", "bool_"):
        _PLAIN[getattr(numpy, name)] = False
    for name in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"):
        _PLAIN[getattr(numpy, name)] = True


def sort_values(flat: Mapping[str, object]) -> Sorted:
    """Sort all values of one call."""
    found = Sorted()
    if len(_PLAIN) == 3 and hasattr(sys.modules.get("numpy"), "uint64"):
        _learn_numpy(sys.modules["numpy"])
    for name, value in flat.items():
        found.put(name, value)
    return found


def number_of(value: object) -> Number | _Device | str | None:
    """The value as a number and its type letter, if it is one.

    Returns:
        ``(number, letter)``; DEVICE for a scalar whose reading would wait; None for what is not
        a number that f64 holds exactly (text, lists, large integers); a string saying why for
        a number-like value that cannot be stored.
    """
    kind = type(value)
    if kind is float:
        return value, "f"  # type: ignore[return-value]
    if kind is bool:
        return float(value), "b"  # type: ignore[arg-type]
    if isinstance(value, int) and not isinstance(value, enum.Enum):
        return (float(value), "i") if -EXACT <= value <= EXACT else None
    if isinstance(value, float):
        return float(value), "f"
    if isinstance(value, (str, bytes, list, tuple, enum.Enum)):
        return None
    return _foreign_number(value)


def _foreign_number(value: object) -> Number | _Device | str | None:
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, _attribute(torch, "Tensor")):
        return _torch_number(value)
    jax = sys.modules.get("jax")
    if jax is not None and isinstance(value, _attribute(jax, "Array")):
        return _jax_number(value, jax)
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(
        value, (_attribute(numpy, "generic"), _attribute(numpy, "ndarray"))
    ):
        return _numpy_number(value)
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is not None and _is_tensorflow(value, tensorflow):
        return _tensorflow_number(value)
    if hasattr(value, "__float__") and not hasattr(value, "__len__"):
        try:
            return float(value), "f"
        except (TypeError, ValueError, ArithmeticError) as error:
            return f"{type(value).__name__} gave no number: {error}"
    return None


def _attribute(module: object, name: str) -> Any:
    """A type of a module that may still be half imported; an empty tuple matches nothing."""
    return getattr(module, name, ())


def from_python(item: object) -> Number | str | None:
    """The number a framework's ``item()`` gave."""
    if isinstance(item, bool):
        return float(item), "b"
    if isinstance(item, int):
        return (float(item), "i") if -EXACT <= item <= EXACT else None
    if isinstance(item, float):
        return item, "f"
    return f"a {type(item).__name__} is not a real number"


def _torch_number(value: Any) -> Number | _Device | str | None:
    if type(value).__name__ == "DTensor":
        # A distributed tensor: asking it for a number would be a collective call.
        if not all(placement.is_replicate() for placement in value.placements):
            return "a sharded tensor has only a part of the value on this rank"
        value = value.to_local()
    if value.numel() != 1:
        return None
    if value.is_cpu:
        return from_python(value.item())
    return "a tensor on the meta device has no value" if value.is_meta else DEVICE


def _jax_number(value: Any, jax: Any) -> Number | _Device | str | None:
    if isinstance(value, jax.core.Tracer):
        return "a traced JAX value has no number yet: log outside jit"
    if value.size != 1:
        return None
    if not value.is_fully_addressable:
        if not value.is_fully_replicated:
            return "a sharded array has only a part of the value in this process"
        value = value.addressable_data(0)
    return from_python(value.item()) if value.is_ready() else DEVICE


def _numpy_number(value: Any) -> Number | str | None:
    kind = value.dtype.kind
    if value.size != 1 or kind in "OSUMm":
        return None
    if kind == "c":
        return "a complex number is not a real number"
    item = value.item()
    # bfloat16 and its like are of kind V; they, and long doubles, come back as themselves.
    return (float(item), "f") if kind in "fV" else from_python(item)


def _is_tensorflow(value: object, tensorflow: Any) -> bool:
    kinds = (_attribute(tensorflow, "Tensor"), _attribute(tensorflow, "Variable"))
    return any(kind and isinstance(value, kind) for kind in kinds)


def _tensorflow_number(value: Any) -> Number | str | None:
    if not hasattr(value, "numpy"):
        return "a symbolic TensorFlow value has no number yet: log outside the graph"
    array = value.numpy()
    if getattr(array, "size", 1) != 1:
        return None
    return from_python(array.item()) if hasattr(array, "item") else from_python(array)


TOO_LARGE: Final = "it needs more than 4 MiB; save it as a file"


def is_too_large(value: object) -> bool:
    """Whether a plain value does not fit into one event."""
    if isinstance(value, (list, dict)) or (isinstance(value, (str, bytes)) and len(value) > 1000):
        return len(msgspec.msgpack.encode(value)) > MAX_PAYLOAD - 4096
    return False


# -- plain values ------------------------------------------------------------------------------


def encodable(text: str) -> str:
    """The text, with what UTF-8 cannot hold (lone surrogates) as backslash escapes."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode()
    return text


def plain(value: object, *, strict: bool = False, depth: int = 0) -> Any:
    """The value as MessagePack can hold it: None, bool, int, float, str, bytes, list, dict.

    Args:
        value: Anything.
        strict: Raise UnplainError for what has no plain form, in place of keeping its ``repr``.
        depth: How deep inside another value this one is.
    """
    if value is None or type(value) in (bool, float):
        return value
    if isinstance(value, str):
        return encodable(value if type(value) is str else str.__str__(value))
    if isinstance(value, enum.Enum):
        return plain(value.value, strict=strict, depth=depth + 1)
    if isinstance(value, int):
        return big_integer(int(value))
    if isinstance(value, float):
        return float(value)
    if isinstance(value, (bytes, bytearray)):
        return bytes(value)
    if depth > DEEPEST:
        return "…"
    return _plain_container(value, strict, depth)


def _plain_container(value: object, strict: bool, depth: int) -> Any:
    def inner(item: object) -> Any:
        return plain(item, strict=strict, depth=depth + 1)

    if isinstance(value, Mapping):
        return {encodable(str(key)): inner(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, range)) or type(value).__name__ == "deque":
        return [inner(item) for item in value]  # type: ignore[attr-defined]
    if isinstance(value, (set, frozenset)):
        return sorted(map(inner, value), key=repr)
    if isinstance(value, (PurePath, datetime.timedelta, datetime.date, datetime.time)):
        return encodable(str(value))
    return _plain_object(value, strict, inner)


def _plain_object(value: object, strict: bool, inner: Callable[[object], Any]) -> Any:
    mapping = None if isinstance(value, type) else _foreign_mapping(value)
    if mapping is not None:
        return inner(mapping)
    array = _plain_array(value, strict)
    if array is not None:
        return array
    number = None if isinstance(value, type) else _foreign_number(value)
    if isinstance(number, tuple):
        return plain(int(number[0]) if number[1] == "i" else number[0])
    return _described(value, strict)


def _plain_array(value: object, strict: bool) -> Any:
    """A small array in the memory of this process as lists; larger ones in words."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, _attribute(torch, "Tensor")):
        if value.device.type != "cpu" or value.is_meta:
            return None
        value = value.detach()
    shape = getattr(value, "shape", None)
    if shape is None or isinstance(value, type) or not hasattr(value, "tolist"):
        return None
    if math.prod(shape) > LONGEST_ARRAY:
        if strict:
            raise UnplainError(
                f"an array of shape {tuple(shape)} has more than {LONGEST_ARRAY} elements; "
                "log a few numbers of it, or save it as a file"
            )
        return f"<{type(value).__name__} of shape {tuple(shape)}>"
    return plain(value.tolist())


def _described(value: object, strict: bool) -> str:
    """What has no plain form, by name: functions and classes by theirs, the rest by repr."""
    if strict:
        raise UnplainError(
            f"a {type(value).__module__}.{type(value).__qualname__} is no number or text"
        )
    name = getattr(value, "__qualname__", None)
    if name is not None:
        return f"{getattr(value, '__module__', '?')}.{name}"
    return encodable(repr(value)[:1000])


def _foreign_mapping(value: object) -> Mapping[str, object] | None:
    """What a configuration library's object holds, if it is one."""
    fields = getattr(type(value), "__dataclass_fields__", None)
    if fields is not None:
        return {name: getattr(value, name) for name in fields if hasattr(value, name)}
    module = type(value).__module__.partition(".")[0]
    if module == "omegaconf":
        omegaconf: Any = sys.modules["omegaconf"]
        if omegaconf.OmegaConf.is_config(value):
            return omegaconf.OmegaConf.to_container(value, resolve=True)  # type: ignore[no-any-return]
    for method in ("flag_values_dict", "model_dump", "to_dict", "_asdict"):
        if method == "to_dict" and module in ("pandas", "polars"):
            continue
        call = getattr(value, method, None)
        if callable(call):
            found = call()
            if isinstance(found, Mapping):
                return found
    if type(value).__name__ in ("Namespace", "SimpleNamespace", "AttributeDict"):
        return vars(value)
    attributes: Any = getattr(type(value), "__attrs_attrs__", None)
    if attributes is not None:
        return {a.name: getattr(value, a.name) for a in attributes}
    return None


def nested(value: object) -> Mapping[str, object] | None:
    """The entries of a model or namespace inside a configuration; None for any other value."""
    return None if isinstance(value, type) else _foreign_mapping(value)


def as_mapping(value: object) -> Mapping[str, object]:
    """A configuration given as dict, argparse, dataclass, pydantic, OmegaConf, absl or attrs.

    Raises:
        TypeError: The object is none of these.
    """
    if isinstance(value, Mapping):
        return value
    found = None if isinstance(value, type) else _foreign_mapping(value)
    if found is None:
        raise TypeError(
            f"a configuration is a dict, an argparse namespace, a dataclass, a pydantic or attrs "
            f"model, an OmegaConf or absl object, not {type(value).__name__}"
        )
    return found


def pairs(data: object) -> Iterable[tuple[str, object]]:
    """The entries of ``as_mapping``, names as text."""
    return [(encodable(str(name)), value) for name, value in as_mapping(data).items()]
