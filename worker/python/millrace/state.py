"""The state that a step receives: a mapping whose values are decoded when they
are first touched."""

from collections.abc import Mapping, MutableMapping

from . import jsoncodec, wire
from .plain import member
from .wire import ARROW, ENCODINGS, JSON, OBJECT, RAW

_NUMBERS = {name: number for number, name in ENCODINGS.items()}
_NUMBERS["arrow"] = ARROW


class DecodeError(ValueError):
    """A key's bytes are no JSON."""


class Row:
    """A key's value as it came: references, and the value once it was decoded."""

    __slots__ = ("key", "spans", "input", "decoded", "value", "mark", "fresh")

    def __init__(self, key, spans, input):
        self.key, self.spans, self.input = key, spans, input
        self.decoded = False
        self.value = self.mark = None
        self.fresh = None  # the spans of the changed value, once it is encoded

    @property
    def encoding(self):
        return self.spans[0].encoding

    def view(self):
        return self.input.view(self.spans)

    def get(self):
        if not self.decoded:
            if self.encoding == JSON:
                self.value = self.input.decode(self.key, self.spans)
                if not isinstance(self.value, jsoncodec.SCALARS):
                    self.mark = jsoncodec.fingerprint(self.value)
            else:
                self.value = self.view()
            self.input.rows[id(self.value)] = self
            self.decoded = True
        return self.value

    def changed(self):
        """Whether the value may have been changed in place."""
        if not self.decoded or self.encoding != JSON or isinstance(self.value, jsoncodec.SCALARS):
            return False
        return self.mark is None or jsoncodec.fingerprint(self.value) != self.mark


class Input:
    """One execution's access to shared memory, shared by its State objects."""

    def __init__(self, segments, arena, shield):
        self.segments, self.arena, self.shield = segments, arena, shield
        self.rows = {}  # id of a decoded value, which its row keeps -> row
        self.views = []
        self.decoded = self.encoded = 0

    def _open(self, spans):
        with self.shield:
            if len(spans) == 1:
                return self.segments.view(spans[0])
            return memoryview(b"".join([self.segments.view(s) for s in spans]))

    def view(self, spans):
        """The bytes of spans, valid until close."""
        v = self._open(spans)
        self.views.append(v)
        return v

    def decode(self, key, spans):
        with self._open(spans) as view:
            try:
                value = jsoncodec.decode(view)
            except ValueError as e:
                raise DecodeError(f"state[{key!r}] is no valid JSON: {e}") from None
            self.decoded += view.nbytes
        return value

    def row_of(self, value):
        """The row that value was decoded from, or None."""
        row = self.rows.get(id(value))
        return row if row is not None and row.value is value else None

    def encode(self, value, path):
        """Writes value as JSON; its spans. PlainError, BudgetError."""
        with self.shield:
            w = self.arena.writer()
            try:
                if not jsoncodec.encode(value, w.write):
                    w.abort()
                    w = self.arena.writer()
                    jsoncodec.encode_plain(value, w.write, path)
                self.encoded += w.length
                return w.commit()
            finally:
                w.abort()

    def write(self, data, encoding):
        with self.shield:
            return self.arena.write(data, encoding)

    def close(self):
        """Ends the views handed out, where nothing was built on them."""
        for v in self.views:
            try:
                v.release()
            except BufferError:
                pass  # an array is built on it: it keeps the mapping
        self.views = []


class State(MutableMapping):
    """A step's state. Values are decoded when they are first asked for; keys
    that are never asked for are passed on as they are.

    ``state | {"key": value}`` and ``state.copy()`` make new states without
    decoding; ``dict(state)`` and ``{**state}`` decode every key.
    """

    __slots__ = ("_items", "_input", "_absent")

    def __init__(self, items, input, absent=False):
        self._items, self._input, self._absent = items, input, absent

    def __getitem__(self, key):
        v = self._items[key]
        return v.get() if type(v) is Row else v

    def __setitem__(self, key, value):
        self._items[key] = value
        self._absent = False

    def __delitem__(self, key):
        del self._items[key]

    def __iter__(self):
        return iter(self._items)

    def __reversed__(self):
        return reversed(self._items)

    def __len__(self):
        return len(self._items)

    def __contains__(self, key):
        return key in self._items

    def clear(self):
        self._items.clear()
        self._absent = False

    def copy(self):
        """A new state with the same values; nothing is decoded."""
        return State(dict(self._items), self._input, self._absent)

    __copy__ = copy

    def __deepcopy__(self, memo):
        from copy import deepcopy

        return deepcopy(dict(self), memo)

    def update(self, other=(), /, **more):
        if isinstance(other, State):
            self._items.update(other._items)
            other = ()
        super().update(other, **more)

    def __or__(self, other):
        if not isinstance(other, Mapping):
            return NotImplemented
        s = self.copy()
        s.update(other)
        return s

    def __ror__(self, other):
        if not isinstance(other, Mapping):
            return NotImplemented
        return State(dict(other), self._input) | self

    def __ior__(self, other):
        self.update(other)
        return self

    def __repr__(self):
        def show(v):
            if type(v) is not Row or v.decoded:
                return repr(v.value if type(v) is Row else v)
            return f"<{sum(s.length for s in v.spans)} bytes of {ENCODINGS[v.encoding]}>"

        return "State({" + ", ".join(f"{k!r}: {show(v)}" for k, v in self._items.items()) + "})"

    def __reduce__(self):
        return dict, (dict(self),)

    def encoding(self, key):
        """"json", "arrow-stream" or "raw"; None when there is no such key."""
        v = self._items.get(key)
        if type(v) is Row:
            return ENCODINGS[v.encoding]
        return "json" if key in self._items else None

    def raw(self, key):
        """A key's encoded bytes: a read-only memoryview, in shared memory where
        it can be. It ends with the step."""
        v = self._items[key]
        if type(v) is Row and not v.changed():
            return v.view()
        return self._input.view(self._input.encode(self[key], _path(key)))

    def set_raw(self, key, encoding, data):
        """Sets a key to bytes that are encoded already, copying them into shared
        memory. encoding is "json", "arrow-stream" ("arrow") or "raw"."""
        if encoding not in _NUMBERS:
            raise ValueError(f"unknown encoding {encoding!r}: use json, arrow-stream or raw")
        number = _NUMBERS[encoding]
        if number == JSON:
            jsoncodec.decode(memoryview(data))
        self._put(key, self._input.write(data, number))

    def _put(self, key, spans):
        self[key] = Row(key, spans, self._input)

    def arrow(self, key):
        """A pyarrow RecordBatchStreamReader of a key; its buffers lie in shared
        memory. It needs pyarrow."""
        import pyarrow

        if self.encoding(key) not in ("arrow-stream", "raw", None):
            raise TypeError(f"state[{key!r}] is {self.encoding(key)}, not an Arrow stream")
        return pyarrow.ipc.open_stream(pyarrow.py_buffer(self.raw(key)))

    def set_arrow(self, key, data):
        """Sets a key to a pyarrow Table, RecordBatch or RecordBatchReader,
        written straight into shared memory. It needs pyarrow."""
        import pyarrow

        sink = _Sink(self._input)
        try:
            with pyarrow.ipc.new_stream(pyarrow.PythonFile(sink, mode="w"), data.schema) as writer:
                if isinstance(data, pyarrow.RecordBatchReader):
                    for batch in data:
                        writer.write_batch(batch)
                else:
                    writer.write(data)
            with self._input.shield:
                self._put(key, sink.writer.commit(ARROW))
        finally:
            with self._input.shield:
                sink.writer.abort()


class _Sink:
    """The file that pyarrow writes to."""

    closed = False

    def __init__(self, input):
        self._shield = input.shield
        self.writer = input.arena.writer()

    def write(self, data):
        with self._shield:
            return self.writer.write(data)

    def tell(self):
        return self.writer.length

    def flush(self):
        pass

    def close(self):
        pass


def _path(key):
    from .plain import join

    return join("state", member(key, "state"))


def open_state(table, input):
    """What a step is called with: a State, or the value of a bare one."""
    if table.kind == wire.VALUE:
        row = Row("", table.rows[0][1], input)
        return row.get(), row
    items = {key: Row(key, spans, input) for key, spans in table.rows}
    return State(items, input, absent=table.kind != OBJECT), None
