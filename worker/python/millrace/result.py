"""From what a step returned to a table. Cleaning happens here, at the top
level: what was never touched, or only read, is passed on by reference."""

import io
import types
from collections.abc import Mapping

from . import plain
from .jsoncodec import SCALARS
from .state import Row, State
from .wire import NO_TABLE, OBJECT, VALUE, Block, Table

STREAM_TEXT = "[stream]"
_LONG_TEXT = 1024
_NO_VALUES = (
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodType,
    types.ModuleType,
    types.GeneratorType,
    type,
)


class KeyFailure(Exception):
    """An error that belongs to one key; its cause says what."""

    def __init__(self, key):
        super().__init__(key)
        self.key = key


def to_table(result, given, value_row, input, drop_keys):
    """The table of a step's result. given is what it was called with, value_row
    the row of a bare value."""
    if result is None:  # the state, as the step has left it
        if value_row is not None:
            return Table(VALUE, (("", _row_spans(value_row, "state")),))
        result = given
    if not isinstance(result, (Mapping, list, tuple, *SCALARS)) and input.row_of(result) is None:
        result = plain.to_plain(result, "state")  # a dataclass, say
    if isinstance(result, State):
        if result._absent and not result._items:
            return NO_TABLE
        result = result._items
    if not isinstance(result, Mapping):
        return Table(VALUE, (("", _spans(result, "state", input)),))
    rows = {}
    for key, value in result.items():
        key = plain.member(key, "state")
        if key.startswith("_") or key in drop_keys or isinstance(value, _NO_VALUES):
            continue
        try:
            rows[key] = _spans(value, plain.join("state", key), input)
        except Exception as e:
            raise KeyFailure(key) from e
    return Table(OBJECT, tuple(rows.items()))


def _spans(value, path, input):
    if type(value) is Row:
        return _row_spans(value, path)
    # A small scalar may be the same object in many places: cheap to write.
    if not isinstance(value, SCALARS) or type(value) is str and len(value) >= _LONG_TEXT:
        row = input.row_of(value)
        if row is not None:
            return _row_spans(row, path)
    if isinstance(value, io.IOBase):
        value = STREAM_TEXT
    return input.encode(value, path)


def _row_spans(row, path):
    if row.fresh is None:
        row.fresh = row.input.encode(row.value, path) if row.changed() else row.spans
    return row.fresh


def blocks_of(table):
    """The blocks that a table's references name."""
    return {Block(s.segment, s.offset, s.length) for _, spans in table.rows for s in spans}
