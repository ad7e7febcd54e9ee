"""The state that a step receives: a mapping whose values are decoded when they
are first touched."""

import weakref
from collections.abc import Mapping, MutableMapping

from . import jsoncodec, wire
from .plain import member
from .wire import ARROW, ENCODINGS, JSON, OBJECT, STREAM

_NUMBERS = {name: number for number, name in ENCODINGS.items()}
_NUMBERS["arrow"] = ARROW


def encoding_number(name):
    if name not in _NUMBERS:
        raise ValueError(f"unknown encoding {name!r}: use json, arrow-stream or raw")
    return _NUMBERS[name]


class DecodeError(ValueError):
    """A key's bytes are no JSON."""


class Row:
    """A key's value as it came: references, and the value once it was decoded.

    lease keeps the bytes of a row that came with a call's result, or went with
    its argument. own says that this step has written them."""

    __slots__ = ("key", "spans", "input", "lease", "own", "decoded", "value", "mark", "__weakref__")

    def __init__(self, key, spans, input, lease=None, own=False):
        self.key, self.spans, self.input, self.lease, self.own = key, spans, input, lease, own
        self.decoded = False
        self.value = self.mark = None

    @property
    def encoding(self):
        return self.spans[0].encoding

    @property
    def is_stream(self):
        return bool(self.spans[0].flags & STREAM)

    def keep(self, lease):
        """For an own row whose bytes a call has published."""
        self.lease = self.lease or lease

    def view(self):
        return self.input.view(self.spans, self.lease)

    def get(self):
        if not self.decoded:
            if self.is_stream:
                self.value = self.input.flow.incoming(self.key, self.spans[0])
            elif self.encoding == JSON:
                self.value = self.input.decode(self.key, self.spans)
                if not isinstance(self.value, jsoncodec.SCALARS):
                    self.mark = jsoncodec.fingerprint(self.value)
            else:
                self.value = self.view()
            rows = self.input.rows if self.lease is None else self.input.lent
            rows[id(self.value)] = self
            self.decoded = True
        return self.value

    def changed(self):
        """Whether the value may have been changed in place."""
        if not self.decoded or self.encoding != JSON or self.is_stream or isinstance(self.value, jsoncodec.SCALARS):
            return False
        return self.mark is None or jsoncodec.fingerprint(self.value) != self.mark


class Input:
    """One execution's access to shared memory, shared by its State objects."""

    def __init__(self, segments, arena, shield):
        self.segments, self.arena, self.shield = segments, arena, shield
        self.flow = None  # the step's calls and streams
        self.rows = {}  # id of a decoded value, which its row keeps -> row
        # The same for rows of calls, which nothing but the step's states keeps.
        self.lent = weakref.WeakValueDictionary()
        self.views = []
        self.decoded = self.encoded = 0

    def _open(self, spans):
        with self.shield:
            if len(spans) == 1:
                return self.segments.view(spans[0])
            return memoryview(b"".join([self.segments.view(s) for s in spans]))

    def view(self, spans, lease=None):
        """The bytes of spans, valid until close, or until the lease ends."""
        v = self._open(spans)
        (self.views if lease is None else lease.views).append(v)
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
        row = self.rows.get(id(value)) or self.lent.get(id(value))
        return row if row is not None and row.value is value else None

    def lent_row(self, value):
        row = self.lent.get(id(value))
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
        release(self.views)


def release(views):
    """Ends views; False when something is built on one, which then keeps the
    mapping."""
    free = True
    for v in views:
        try:
            v.release()
        except BufferError:
            free = False
    views.clear()
    return free


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
        return v.get() if isinstance(v, Row) else v

    def __setitem__(self, key, value):
        # A value of a call's result may outlive the result: its row is kept.
        if self._input.lent and not isinstance(value, jsoncodec.SCALARS):
            value = self._input.lent_row(value) or value
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
            if not isinstance(v, Row) or v.decoded:
                return repr(v.value if isinstance(v, Row) else v)
            if v.is_stream:
                return "<stream>"
            return f"<{sum(s.length for s in v.spans)} bytes of {ENCODINGS[v.encoding]}>"

        return "State({" + ", ".join(f"{k!r}: {show(v)}" for k, v in self._items.items()) + "})"

    def __reduce__(self):
        return dict, (dict(self),)

    def encoding(self, key):
        """"json", "arrow-stream" or "raw"; of a stream, that of its items. None
        when there is no such key."""
        v = self._items.get(key)
        if isinstance(v, Row):
            return ENCODINGS[v.encoding]
        return "json" if key in self._items else None

    def raw(self, key):
        """A key's encoded bytes: a read-only memoryview, in shared memory where
        it can be. It ends with the step."""
        v = self._items[key]
        if isinstance(v, Row) and v.is_stream:
            raise TypeError(f"state[{key!r}] is a stream: iterate over state[{key!r}].raw()")
        if isinstance(v, Row) and not v.changed():
            return v.view()
        return self._input.view(self._input.encode(self[key], _path(key)))

    def set_raw(self, key, encoding, data):
        """Sets a key to bytes that are encoded already, copying them into shared
        memory. encoding is "json", "arrow-stream" ("arrow") or "raw"."""
        number = encoding_number(encoding)
        if number == JSON:
            jsoncodec.decode(memoryview(data))
        self._put(key, self._input.write(data, number))

    def _put(self, key, spans):
        self[key] = Row(key, spans, self._input, own=True)

    def append(self, key, piece, piece_key=None):
        """Appends the items of an array to the array under key, which is made
        if need be. piece is a list, or a state whose array under piece_key
        (default: key) is appended by reference: nothing is decoded or copied,
        however large the arrays are."""
        from .rope import append

        append(self, key, piece, key if piece_key is None else piece_key)

    def call(self, step, argument=None, *, until="step", timeout=None):
        """Runs a step of the workflow on argument (default: this state), in
        whatever executor it needs, and returns the state that comes of it, as
        lazy as this one. until="leaf": what comes of the branch that begins with
        the step. timeout is in seconds. CallError: it failed."""
        return self._input.flow.call(step, self if argument is None else argument, until=until, timeout=timeout)

    def each(self, pages, step, concurrency=8, *, until="step", key="data", errors="first", timeout=None):
        """Calls a step for each page, concurrency of them at a time, and returns
        an iterator of the results in the order in which they arrive. A page that
        is a State is the argument; any other is put under key. A result is given
        up when the next one is asked for, unless something still refers to it.

        errors="first": the first CallError is raised, the other calls are
        cancelled. errors="collect": a CallError is given in place of its page's
        result, and the others go on."""
        return self._input.flow.each(pages, step, concurrency, until=until, key=key, errors=errors, timeout=timeout)

    def forward(self, step, **head):
        """Has this step's result go on to a step instead of along its edges;
        sets the keys of head. Returns this state, of which nothing is read."""
        self._input.flow.forward(step)
        self.update(head)
        return self

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


def open_state(table, input, lease=None):
    """What a step is called with: a State, or the value of a bare one and its
    row. lease is that of a call's result."""
    if table.kind == wire.VALUE:
        row = Row("", table.rows[0][1], input, lease)
        return row.get(), row
    items = {key: Row(key, spans, input, lease) for key, spans in table.rows}
    return State(items, input, absent=table.kind != OBJECT), None
