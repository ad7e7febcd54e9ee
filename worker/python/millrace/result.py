"""From what a step returned, or passes to a call, to a table. Cleaning happens
here, at the top level: what was never touched, or only read, is passed on by
reference."""

import io
import types
from collections.abc import AsyncIterator, Iterator, Mapping

from . import plain
from .jsoncodec import SCALARS
from .state import Row, State
from .streams import Incoming, Stream
from .wire import NO_TABLE, OBJECT, VALUE, Table

STREAM_TEXT = "[stream]"
_LONG_TEXT = 1024
_NO_VALUES = (
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodType,
    types.ModuleType,
    type,
)


class KeyFailure(Exception):
    """An error that belongs to one key; its cause says what."""

    def __init__(self, key):
        super().__init__(key)
        self.key = key


class Tabulation:
    """Makes one table. Afterwards own lists the rows in it that the step has
    written, and stream is (key, Stream) when the value has one to feed."""

    def __init__(self, input, drop_keys):
        self._input, self._drop_keys = input, drop_keys
        self._fresh = {}  # id of a changed row -> the spans of its new value
        self.own = []
        self.stream = None

    def result(self, result, given, value_row):
        """The table of a step's result. given is what the step was called with,
        value_row the row of a bare value."""
        if result is None:  # the state, as the step has left it
            if value_row is not None:
                return Table(VALUE, (("", self._row_spans(value_row, "state")),))
            result = given
        if _is_stream(result):  # the step's function is a generator
            result = (given if isinstance(given, State) else State({}, self._input)) | {"data": result}
        return self.table(result)

    def table(self, value):
        if not isinstance(value, (Mapping, list, tuple, *SCALARS)) and self._input.row_of(value) is None:
            value = plain.to_plain(value, "state")  # a dataclass, say
        if isinstance(value, State):
            if value._absent and not value._items:
                return NO_TABLE
            value = value._items
        if not isinstance(value, Mapping):
            return Table(VALUE, (("", self._spans(value, "state")),))
        rows = {}
        for key, v in value.items():
            key = plain.member(key, "state")
            if key.startswith("_") or key in self._drop_keys or isinstance(v, _NO_VALUES) or _is_read(v):
                continue
            try:
                if _is_stream(v):
                    self._add_stream(key, v)
                else:
                    rows[key] = self._spans(v, plain.join("state", key))
            except Exception as e:
                raise KeyFailure(key) from e
        return Table(OBJECT, tuple(rows.items()))

    def _add_stream(self, key, value):
        if self.stream is not None:
            raise plain.PlainError(plain.join("state", key), f"is a second stream beside {plain.join('state', self.stream[0])}: a step can feed one")
        self.stream = key, value if isinstance(value, Stream) else Stream(value)

    def _spans(self, value, path):
        if isinstance(value, Row):
            return self._row_spans(value, path)
        # A small scalar may be the same object in many places: cheap to write.
        if not isinstance(value, SCALARS) or type(value) is str and len(value) >= _LONG_TEXT:
            row = self._input.row_of(value)
            if row is not None:
                return self._row_spans(row, path)
        if isinstance(value, io.IOBase):
            value = STREAM_TEXT
        return self._input.encode(value, path)

    def _row_spans(self, row, path):
        if not row.changed():
            if row.own:
                self.own.append(row)
            return row.spans
        spans = self._fresh.get(id(row))
        if spans is None:
            spans = self._fresh[id(row)] = self._input.encode(row.value, path)
        return spans


def _is_stream(value):
    """Whether value yields items: a stream of another step's is passed on as it
    is, and an open file is only named."""
    return isinstance(value, (Iterator, AsyncIterator, Stream)) and not isinstance(value, (Incoming, io.IOBase))


def _is_read(value):
    """Whether value is a stream that this step has begun to read: there is
    nothing left to pass on."""
    if isinstance(value, Row):
        value = value.value if value.is_stream else None
    return isinstance(value, Incoming) and value.begun
