"""Frames of the control channel, to bytes and back.

``ipc/PROTOCOL.md`` in the repository is the description, and
``ipc/testdata/vectors.json`` holds the bytes that every implementation is
tested against. Nothing here does I/O.

What a peer sent is untrusted: each length is compared with the bytes that are
there before it is used, and what does not fit raises :class:`ProtocolError`.
"""

import struct
from collections import namedtuple  # typing's takes 3 ms of each process's start

HEADER_SIZE = 24
REF_SIZE = 32
MAX_FRAME_SIZE = 8 << 20
ABSENT, OBJECT, VALUE = 0, 1, 2
JSON, ARROW, RAW = 1, 2, 3
STREAM = 1  # a reference's flag
ENCODINGS = {JSON: "json", ARROW: "arrow-stream", RAW: "raw"}

_HEADER = struct.Struct("<IBBBBQII")
_REF = struct.Struct("<QQQBBHI")
_BLOCK = struct.Struct("<QQQ")
_PAIR = struct.Struct("<II")
_U8, _U16, _U32, _U64 = (struct.Struct("<" + c) for c in "BHIQ")


class ProtocolError(Exception):
    """The peer broke the protocol: its channel is of no further use."""


class FrameSizeError(Exception):
    """A frame over the limit. Nothing of it was sent."""

    def __init__(self, size, limit=MAX_FRAME_SIZE):
        super().__init__(
            f"frame of {size} bytes is over the limit of {limit}: a state has too many "
            "top-level keys or spans; nest keys under one"
        )
        self.size, self.limit = size, limit


Ref = namedtuple("Ref", "segment offset length encoding flags", defaults=(JSON, 0))
Ref.__doc__ = "Bytes in a segment, and how to read them."

Block = namedtuple("Block", "segment offset length")
Block.__doc__ = "A run of bytes in a segment, published once."

Table = namedtuple("Table", "kind rows", defaults=(ABSENT, ()))
Table.__doc__ = "A state in flight: rows of (key, spans) in order."

NO_TABLE = Table()


class Message:
    """A frame's head: its type and the fields that FIELDS lists for it."""

    def __init__(self, type, **fields):
        self.type = type
        self.__dict__.update(fields)

    def __repr__(self):
        fields = ", ".join(f"{k}={v!r}" for k, v in self.__dict__.items() if k != "type")
        return f"{self.type}({fields})"


Envelope = namedtuple("Envelope", "message id table file", defaults=(0, NO_TABLE, -1))
Envelope.__doc__ = "One message with what travels beside it; file is a descriptor's number, or -1."


def _text(s):
    try:
        return s.encode()
    except UnicodeEncodeError:  # a lone surrogate: a peer would refuse it
        return s.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()


class _Encoder:
    """Appends primitives to a list of pieces."""

    def __init__(self):
        self.parts = []
        self.add = self.parts.append

    def u8(self, v):
        self.add(_U8.pack(v))

    def u16(self, v):
        self.add(_U16.pack(v))

    def u32(self, v):
        self.add(_U32.pack(v))

    def u64(self, v):
        self.add(_U64.pack(v))

    def bool(self, v):
        self.add(b"\1" if v else b"\0")

    def str(self, v):
        b = _text(v)
        self.add(_U32.pack(len(b)))
        self.add(b)

    def strs(self, v):
        self.u32(len(v))
        for s in v:
            self.str(s)

    def u64s(self, v):
        self.add(struct.pack(f"<I{len(v)}Q", len(v), *v))

    def blocks(self, v):
        self.u32(len(v))
        for b in v:
            self.add(_BLOCK.pack(*b))

    def verdicts(self, v):
        self.u32(len(v))
        for taken, error in v:
            self.bool(taken)
            self.str(error)


class _Decoder:
    """Reads primitives from what a peer sent."""

    def __init__(self, b, at, end):
        self.b, self.at, self.end = b, at, end

    def _take(self, n):
        at = self.at
        if n > self.end - at:
            raise ProtocolError(f"cut short: {n} bytes wanted, {self.end - at} are there")
        self.at = at + n
        return at

    def u8(self):
        return self.b[self._take(1)]

    def u16(self):
        return _U16.unpack_from(self.b, self._take(2))[0]

    def u32(self):
        return _U32.unpack_from(self.b, self._take(4))[0]

    def u64(self):
        return _U64.unpack_from(self.b, self._take(8))[0]

    def bool(self):
        return self.u8() != 0

    def text(self, n):
        at = self._take(n)
        try:
            return str(self.b[at : at + n], "utf-8")
        except UnicodeDecodeError as e:
            raise ProtocolError("text is not UTF-8") from e

    def str(self):
        return self.text(self.u32())

    def count(self, item_size):
        n = self.u32()
        if n * item_size > self.end - self.at:
            raise ProtocolError(f"list of {n} items in {self.end - self.at} bytes")
        return n

    def strs(self):
        return [self.str() for _ in range(self.count(4))]

    def u64s(self):
        return [self.u64() for _ in range(self.count(8))]

    def blocks(self):
        return [Block(*_BLOCK.unpack_from(self.b, self._take(24))) for _ in range(self.count(24))]

    def verdicts(self):
        return [(self.bool(), self.str()) for _ in range(self.count(5))]


# Head fields in order, with their primitive.
FIELDS = {
    "hello": (("min_version", "u16"), ("max_version", "u16"), ("pid", "u32"), ("language", "str"), ("release", "str"), ("capabilities", "strs"), ("functions", "strs")),
    "welcome": (("version", "u16"), ("executor", "u32"), ("capabilities", "strs"), ("ring_size", "u32"), ("retain_bytes", "u64"), ("prefault_bytes", "u64"), ("drop_keys", "strs")),
    "attach": (("segment", "u64"), ("size", "u64")),
    "detach": (("segments", "u64s"),),
    "release": (("blocks", "blocks"),),
    "prepare": (("code", "u64"), ("kind", "str"), ("spec", "str")),
    "execute": (
        ("code", "u64"), ("run", "str"), ("step", "str"), ("attempt", "u32"), ("timeout", "u64"),
        ("memory_limit", "u64"), ("budget", "u64"), ("upstream", "str"), ("conditions", "strs"), ("after", "u64"), ("needs", "strs"),
    ),
    "done": (("started", "u64"), ("finished", "u64"), ("blocks", "blocks"), ("decoded", "u64"), ("encoded", "u64"), ("verdicts", "verdicts")),
    "fail": (("started", "u64"), ("finished", "u64"), ("severity", "str"), ("name", "str"), ("message", "str"), ("details", "str")),
    "cancel": (("reason", "str"),),
    "log": (("time", "u64"), ("level", "str"), ("source", "str"), ("message", "str"), ("structured", "bool")),
    "ping": (),
    "pong": (),
    "shutdown": (),
    "doorbell": (),
    "from-socket": (),
    "call": (("step", "str"), ("until", "str"), ("timeout", "u64"), ("blocks", "blocks")),
    "result": (("step", "str"),),
    "forget": (("calls", "u64s"),),
    "forward": (("step", "str"),),
    "stream": (("key", "str"), ("encoding", "u8"), ("capacity", "u64"), ("blocks", "blocks")),
    "consume": (("stream", "u64"),),
    "stream-ring": (("stream", "u64"), ("capacity", "u64"), ("max_demand", "u32"), ("min_demand", "u32"), ("manual", "bool")),
    "wake": (("stream", "u64"),),
    "stream-end": (("stream", "u64"), ("severity", "str"), ("name", "str"), ("message", "str")),
}  # fmt: skip
TYPES = dict(enumerate(FIELDS, 1))
NUMBERS = {name: number for number, name in TYPES.items()}
_STATEFUL = frozenset(NUMBERS[name] for name in ("execute", "done", "call", "result", "stream"))
_WITH_FILE = frozenset((NUMBERS["attach"], NUMBERS["stream-ring"]))
_MAY_HAVE_FILE = _WITH_FILE | {NUMBERS["welcome"]}


def _padding(n):
    return bytes(-n % 8)


def encode(envelope):
    """The envelope's frame. ValueError: a peer would refuse it."""
    message, id, table, file = envelope
    number = NUMBERS[message.type]
    if file >= 0 and number not in _MAY_HAVE_FILE:
        raise ValueError(f"{message.type} brings a descriptor")
    if file < 0 and number in _WITH_FILE:
        raise ValueError(f"{message.type} brings no descriptor")
    if table.kind != ABSENT and number not in _STATEFUL:
        raise ValueError(f"{message.type} carries a table")
    head = _Encoder()
    fields = message.__dict__
    for name, kind in FIELDS[message.type]:
        getattr(head, kind)(fields[name])
    body = b"".join(head.parts)
    parts = [b"", body, _padding(len(body))]
    if table.kind != ABSENT or table.rows:
        _check(table)
        for key, spans in table.rows:
            try:
                k = key.encode()
            except UnicodeEncodeError:
                raise ValueError(f"the key {key!r} is not Unicode text") from None
            parts += (_PAIR.pack(len(k), len(spans)), k, _padding(len(k)))
            parts += (_REF.pack(s[0], s[1], s[2], s[3], 0, s[4], 0) for s in spans)
    size = HEADER_SIZE + sum(map(len, parts))
    if size > MAX_FRAME_SIZE:
        raise FrameSizeError(size)
    parts[0] = _HEADER.pack(size, number, table.kind, file >= 0, 0, id, len(body), len(table.rows))
    return b"".join(parts)


Header = namedtuple("Header", "size type kind files reserved id head_size row_count")


def parse_header(b, at=0):
    """Reads and checks a header; the only place that looks at a peer's size."""
    h = Header(*_HEADER.unpack_from(b, at))
    name = TYPES.get(h.type, h.type)
    stateful = h.type in _STATEFUL
    if h.size < HEADER_SIZE or h.size % 8:
        raise ProtocolError(f"frame size {h.size}")
    if h.size > MAX_FRAME_SIZE:
        raise ProtocolError(str(FrameSizeError(h.size)))
    if h.type not in TYPES:
        raise ProtocolError(f"unknown frame type {h.type}")
    if h.head_size > h.size - HEADER_SIZE:
        raise ProtocolError(f"{name}: head of {h.head_size} bytes in a frame of {h.size}")
    if h.files > (h.type in _MAY_HAVE_FILE) or h.files == 0 and h.type in _WITH_FILE:
        raise ProtocolError(f"{name}: {h.files} descriptors declared")
    if h.kind > VALUE or h.kind != ABSENT and not stateful:
        raise ProtocolError(f"{name}: table of kind {h.kind}")
    if h.reserved:
        raise ProtocolError(f"{name}: reserved byte is {h.reserved}")
    return h


def decode(b):
    """One whole frame; the descriptor comes beside the bytes."""
    if len(b) < HEADER_SIZE:
        raise ProtocolError(f"frame of {len(b)} bytes")
    h = parse_header(b)
    if h.size != len(b):
        raise ProtocolError(f"frame says {h.size} bytes, {len(b)} are there")
    return decode_body(h, b, 0)


def decode_body(h, b, start):
    """Decodes the frame at start whose header was checked and whose bytes are all in b."""
    name = TYPES[h.type]
    head = _Decoder(b, start + HEADER_SIZE, start + HEADER_SIZE + h.head_size)
    message = Message(name)
    fields = message.__dict__
    try:
        for field, kind in FIELDS[name]:
            fields[field] = getattr(head, kind)()
        table = _decode_table(h, b, start)
    except ProtocolError as e:
        raise ProtocolError(f"{name}: {e}") from None
    return Envelope(message, h.id, table)


def _decode_table(h, b, start):
    d = _Decoder(b, start, start + h.size)
    d._take(HEADER_SIZE + h.head_size + -h.head_size % 8)
    if h.row_count * (8 + REF_SIZE) > d.end - d.at:
        raise ProtocolError(f"{h.row_count} rows in {d.end - d.at} bytes")
    rows = []
    for _ in range(h.row_count):
        key_size, span_count = _PAIR.unpack_from(b, d._take(8))
        key = d.text(key_size)
        d._take(-key_size % 8)
        if span_count * REF_SIZE > d.end - d.at:
            raise ProtocolError(f"row {key!r}: {span_count} spans in {d.end - d.at} bytes")
        spans = []
        for _ in range(span_count):
            segment, offset, length, encoding, zero, flags, zeros = _REF.unpack_from(b, d._take(REF_SIZE))
            if zero or zeros:
                raise ProtocolError(f"row {key!r}: reserved bytes of a reference are not zero")
            spans.append(Ref(segment, offset, length, encoding, flags))
        rows.append((key, tuple(spans)))
    if d.at != d.end:
        raise ProtocolError(f"{d.end - d.at} bytes after the table")
    if h.kind == ABSENT and not rows:
        return NO_TABLE
    table = Table(h.kind, tuple(rows))
    try:
        _check(table)
    except ValueError as e:
        raise ProtocolError(str(e)) from None
    return table


def _check(table):
    """The form that every table on the wire has, whoever made it."""
    kind, rows = table
    if kind == ABSENT and rows:
        raise ValueError(f"{len(rows)} rows in a message without a state")
    if kind == VALUE and (len(rows) != 1 or rows[0][0] != ""):
        raise ValueError(f"a bare value has 1 row without a key, not {len(rows)}")
    if len(rows) > 1 and len({key for key, _ in rows}) != len(rows):
        raise ValueError("a key twice")
    for key, spans in rows:
        if not spans:
            raise ValueError(f"row {key!r}: no spans")
        encoding = spans[0].encoding
        for s in spans:
            if s.encoding not in ENCODINGS:
                raise ValueError(f"row {key!r}: unknown encoding {s.encoding}")
            if s.encoding != encoding:
                raise ValueError(f"row {key!r}: mixes encodings")
            if s.offset + s.length >= 1 << 64:
                raise ValueError(f"row {key!r}: reference ends past 2^64")
