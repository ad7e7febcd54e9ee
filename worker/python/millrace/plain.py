"""Values that JSON's encoders do not take: what has an obvious JSON form gets
it, the rest is an error that names where it is."""

import enum
import math
import operator
import sys
from collections.abc import Mapping


class PlainError(Exception):
    """A value without a JSON form. path says where, as in state.data[3].name."""

    def __init__(self, path, why):
        super().__init__(f"{path} {why}")
        self.path = path


def join(path, key):
    """The path of a member."""
    if isinstance(key, int):
        return f"{path}[{key}]"
    return f"{path}.{key}" if key.isidentifier() else f"{path}[{key!r}]"


def member(key, path):
    """A member's name as json.dumps writes it."""
    if isinstance(key, str):
        return str(key)
    if key is True or key is False:
        return "true" if key else "false"
    if key is None:
        return "null"
    if isinstance(key, enum.Enum):
        return member(key.value, path)
    if isinstance(key, int):
        return int.__repr__(key)
    if isinstance(key, float):
        return float.__repr__(key)
    text = _text(key)
    if text is not None:
        return text
    raise PlainError(path, f"has a key of type {_name(key)}, which JSON has no form for: {key!r}"[:500])


def _is(value, module, *names):
    """Whether value is of a class of a module. One that was never imported has
    no instances, and need not be imported to find that out."""
    m = sys.modules.get(module)
    return m is not None and isinstance(value, tuple(getattr(m, name) for name in names))


def _text(value):
    """The text that stands for a date, a time or a UUID; None for all else."""
    if _is(value, "datetime", "date", "time"):
        return value.isoformat()
    return str(value) if _is(value, "uuid", "UUID") else None


def _name(value):
    t = type(value)
    return t.__qualname__ if t.__module__ == "builtins" else f"{t.__module__}.{t.__qualname__}"


def to_plain(value, path):
    """A copy made of dict, list, str, int, float, bool and None."""
    try:
        return _plain(value, path, {})
    except RecursionError:
        raise PlainError(path, "is nested too deeply for Python's recursion limit") from None


def _plain(value, path, above):
    if value is None or value is True or value is False:
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, enum.Enum):
        return _plain(value.value, path, above)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    seen = above.get(id(value))
    if seen is not None:
        raise PlainError(path, f"refers back to {seen}: a value that contains itself has no JSON form")
    above[id(value)] = path
    try:
        return _composite(value, path, above)
    finally:
        del above[id(value)]


def _composite(value, path, above):
    if isinstance(value, (list, tuple)):
        return [_plain(v, f"{path}[{i}]", above) for i, v in enumerate(value)]
    if isinstance(value, Mapping):
        result = {}
        for k, v in value.items():
            k = member(k, path)
            result[k] = _plain(v, join(path, k), above)
        return result
    if isinstance(value, type):
        raise PlainError(path, f"is the class {value.__qualname__}, which has no JSON form")
    text = _text(value)
    if text is not None:
        return text
    if hasattr(type(value), "__dataclass_fields__"):
        import dataclasses

        return {f.name: _plain(getattr(value, f.name), join(path, f.name), above) for f in dataclasses.fields(value)}
    hint = ""
    if isinstance(value, (bytes, bytearray, memoryview)):
        hint = "; decode it, encode it as base64, or store it as a key of its own with state.set_raw"
    elif isinstance(value, (set, frozenset)):
        hint = "; make it a list"
    elif callable(getattr(value, "tolist", None)):  # numpy, pandas, array
        return _plain(value.tolist(), path, above)
    elif hasattr(type(value), "__index__"):
        return operator.index(value)
    elif _is(value, "numbers", "Real"):
        return _plain(float(value), path, above)
    raise PlainError(path, f"is of type {_name(value)}, which has no JSON form{hint}")
