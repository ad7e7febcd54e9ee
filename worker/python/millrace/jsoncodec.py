"""JSON, in and out of shared memory.

Decoding reads straight from the mapping. Encoding yields pieces, so that the
text of a large value never exists beside the value. Both use ``orjson`` when
it is installed and ``MILLRACE_PYTHON_JSON`` is not ``stdlib``.

What the fast encoder refuses goes through :mod:`millrace.plain`, which converts
what has a JSON form and names the path of what has none; so the result does
not depend on which encoder is there.
"""

import gc
import json
import marshal
import os
from itertools import islice

from .plain import to_plain

try:
    if os.environ.get("MILLRACE_PYTHON_JSON") == "stdlib":
        raise ImportError
    import orjson
except ImportError:
    orjson = None

SCALARS = (str, int, float, bool, type(None))
_PIECE = 256 << 10
_SMALL = 256  # up to how many nodes a value is not taken apart
_DEPTH = 3  # how deep a value is taken apart


def _refuse(constant):
    raise ValueError(f"{constant} is no JSON")


_decoder = json.JSONDecoder(parse_constant=_refuse)
_encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_ascii_encoder = json.JSONEncoder(allow_nan=False, separators=(",", ":"))


def decode(view):
    """Decodes a memoryview. ValueError: it is no JSON."""
    # The collector would look at the objects again and again while they are
    # made, and find nothing: half of the time that a large value takes.
    collecting = gc.isenabled()
    gc.disable()
    try:
        if orjson is not None:
            try:
                return orjson.loads(view)
            except ValueError:
                pass  # a lone surrogate, deep nesting: or an error to be told
        return _decoder.decode(str(view, "utf-8"))
    except RecursionError:
        raise ValueError("it is nested too deeply for Python's recursion limit") from None
    finally:
        if collecting:
            gc.enable()


def _dump(value):
    return _encoder.encode(value).encode()


def _dump_any(value):
    """For plain values. A lone surrogate is written as an escape."""
    text = _encoder.encode(value)
    try:
        return text.encode()
    except UnicodeEncodeError:
        return _ascii_encoder.encode(value).encode()


if orjson is not None:
    _OPTIONS = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME

    def _fast_dump(value):
        return orjson.dumps(value, None, _OPTIONS)
else:
    _fast_dump = _dump

#: What the encoders raise for a value that is not theirs.
REFUSALS = (TypeError, ValueError, RecursionError)


def encode(value, write):
    """Encodes value through write(bytes), called with one piece after the
    other. Returns False, with some pieces maybe written already, when the value
    must be encoded by encode_plain instead.
    """
    try:
        for piece in _pieces(value, _fast_dump, 0):
            write(piece)
    except REFUSALS:
        return False
    return True


def encode_plain(value, write, path):
    """Like encode, for any value. path is its name in errors. PlainError: it
    holds something that has no JSON form."""
    for piece in _pieces(to_plain(value, path), _dump_any, 0):
        write(piece)


def dumps(value, path):
    """The JSON of one value of moderate size. PlainError as encode_plain."""
    try:
        return _fast_dump(value)
    except REFUSALS:
        return _dump_any(to_plain(value, path))


def _is_small(value, budget=_SMALL):
    """Whether value has few nodes."""
    todo = [value]
    while todo:
        v = todo.pop()
        if type(v) is dict:
            budget -= len(v)
            if budget < 0:
                return False
            todo.extend(x for x in v.values() if type(x) is dict or type(x) is list)
        elif type(v) is list:
            budget -= len(v)
            if budget < 0:
                return False
            todo.extend(x for x in v if type(x) is dict or type(x) is list)
        budget -= 1
        if budget < 0:
            return False
    return True


def _pieces(value, dump, depth):
    t = type(value)
    if (t is not list and t is not dict) or not value or depth >= _DEPTH or depth == 0 and _is_small(value):
        yield dump(value)
        return
    is_list = t is list
    items = iter(value) if is_list else iter(value.items())
    sep = b"[" if is_list else b"{"
    n = 1
    while True:
        part = list(islice(items, n))
        if not part:
            break
        yield sep
        sep = b","
        inner = part[0] if is_list else part[0][1]
        if n == 1 and (type(inner) is list or type(inner) is dict):
            size = 0
            if not is_list:
                if type(part[0][0]) is not str:
                    raise TypeError
                yield dump(part[0][0])
                yield b":"
            for piece in _pieces(inner, dump, depth + 1):
                size += len(piece)
                yield piece
        else:
            encoded = dump(part if is_list else dict(part))
            size = len(encoded)
            yield memoryview(encoded)[1:-1]
        n = max(1, min(2 * n, _PIECE * n // (size + 1)))
    yield b"]" if is_list else b"}"


def fingerprint(value):
    """What changes when the value's JSON form changes, or None when that cannot
    be told. Comparable within this process only."""
    marks = []
    try:
        _mark(value, marks, 0)
    except REFUSALS:
        return None
    return marks


# Without orjson marshal: five times faster than JSON's encoder, and it too sees
# the order of keys and the difference between 1, 1.0 and True. Version 2,
# because later ones depend on reference counts.
_mark_dump = _fast_dump if orjson is not None else lambda value: marshal.dumps(value, 2)


def _mark(value, marks, depth):
    t = type(value)
    if (t is not list and t is not dict) or depth >= _DEPTH or depth == 0 and _is_small(value):
        marks.append(hash(_mark_dump(value)))
        return
    marks += (t, len(value))
    if len(value) > 64:
        items = iter(value) if t is list else iter(value.items())
        while True:
            part = list(islice(items, 256))
            if not part:
                return
            marks.append(hash(_mark_dump(part)))
    if t is dict:
        marks.append(hash(tuple(value)))
        value = value.values()
    for v in value:
        _mark(v, marks, depth + 1)
