"""Arrays that are appended to without a copy: a key whose value is the
concatenation of pieces of other values and of the punctuation between them."""

from .plain import join
from .state import Row, State
from .steperror import CallError
from .wire import JSON

_SPACE = b" \t\n\r"


class Rope(Row):
    """A row that grows."""

    __slots__ = ("_inner", "_marks", "_spans", "_kept")

    def __init__(self, key, input):
        self._inner = []  # the spans of each piece's items, without brackets
        self._marks = None  # a block of punctuation
        self._spans = None
        self._kept = []  # leases, and own rows, of the pieces
        super().__init__(key, None, input, own=True)

    @property
    def spans(self):
        if self._spans is None:
            # One small block serves all the punctuation.
            if self._marks is None:
                self._marks = self.input.write(b"[,]", JSON)[0]
            mark = [self._marks._replace(offset=self._marks.offset + i, length=1) for i in range(3)]
            spans = [mark[0]]
            for i, piece in enumerate(self._inner):
                if i:
                    spans.append(mark[1])
                spans += piece
            spans.append(mark[2])
            self._spans = tuple(spans)
        return self._spans

    @spans.setter
    def spans(self, spans):
        self._spans = spans

    @property
    def encoding(self):
        return JSON

    @property
    def is_stream(self):
        return False

    def keep(self, lease):
        self._kept.append(lease)

    def add(self, row):
        """Appends the array of another row, JSON that did not change."""
        inner = _inside(row)
        if inner:
            self._inner.append(inner)
        if row.lease is not None:
            self._kept.append(row.lease)
        if row.own:
            self._kept.append(row)
        self._grown()

    def add_items(self, items, path):
        """Appends a list."""
        if items:
            # The brackets are left out by the reference.
            spans = self.input.encode(items, path)
            self._inner.append(_strip(spans, 1, 1))
        self._grown()

    def _grown(self):
        self._spans = None
        if self.decoded:
            self.input.rows.pop(id(self.value), None)
            self.decoded, self.value, self.mark = False, None, None

    def view(self):
        return self.input.view(self.spans)


def append(state, key, piece, piece_key):
    """State.append."""
    if isinstance(piece, CallError):
        raise piece
    rope = _rope_of(state, key)
    if not isinstance(piece, State):
        if not isinstance(piece, (list, tuple)):
            raise TypeError(f"append takes a list or a state, not a {type(piece).__name__}")
        rope.add_items(list(piece), join("state", key))
        return
    v = piece._items.get(piece_key)
    if v is None:
        raise KeyError(piece_key)
    if not isinstance(v, Row) or v.changed():
        v = v.get() if isinstance(v, Row) else v
        if not isinstance(v, (list, tuple)):
            raise TypeError(f"state[{piece_key!r}] is no array, but a {type(v).__name__}")
        rope.add_items(list(v), join("state", piece_key))
        return
    rope.add(v)


def _rope_of(state, key):
    v = state._items.get(key)
    if type(v) is Rope and not v.changed():
        return v
    rope = Rope(key, state._input)
    if key in state._items:
        if isinstance(v, Row) and not v.changed():
            rope.add(v)
        else:
            v = v.get() if isinstance(v, Row) else v
            if not isinstance(v, (list, tuple)):
                raise TypeError(f"state[{key!r}] is no array to append to, but a {type(v).__name__}")
            rope.add_items(list(v), join("state", key))
    state._items[key] = rope
    return rope


def _inside(row):
    """The spans between the brackets of a row's array; none when it is empty."""
    if row.is_stream or row.encoding != JSON:
        raise TypeError(f"state[{row.key!r}] is no array in JSON")
    if type(row) is Rope:
        return _strip(row.spans, 1, 1) if row._inner else ()
    front = _find(row, b"[", False) + 1
    back = _find(row, b"]", True) + 1
    inner = _strip(row.spans, front, back)
    # An array of white space alone is empty.
    for s in inner:
        with row.input.segments.view(s) as view:
            for i in range(0, len(view), 4096):
                if bytes(view[i : i + 4096]).strip(_SPACE):
                    return inner
    return ()


def _find(row, bracket, back):
    """How many bytes of white space come before a bracket at one end."""
    seen = 0
    for s in reversed(row.spans) if back else row.spans:
        with row.input.segments.view(s) as view:
            for i in range(0, len(view), 4096):
                part = bytes(view[max(len(view) - i - 4096, 0) : len(view) - i] if back else view[i : i + 4096])
                rest = part.rstrip(_SPACE) if back else part.lstrip(_SPACE)
                seen += len(part) - len(rest)
                if not rest:
                    continue
                if rest[-1:] != bracket if back else rest[:1] != bracket:
                    raise TypeError(f"state[{row.key!r}] is no array")
                return seen
    raise TypeError(f"state[{row.key!r}] is no array: it is empty")


def _strip(spans, front, back):
    """Spans without some bytes at the ends."""
    left = []
    for s in spans:
        cut = min(front, s.length)
        front -= cut
        if cut < s.length:
            left.append(s._replace(offset=s.offset + cut, length=s.length - cut))
    while back:
        s = left.pop()
        cut = min(back, s.length)
        back -= cut
        if cut < s.length:
            left.append(s._replace(length=s.length - cut))
    return tuple(left)
