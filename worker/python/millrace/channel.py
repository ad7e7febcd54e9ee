"""One end of the control channel: whole frames over a Unix stream socket.

Any thread may send; one at a time receives. Descriptors that come become the
receiver's, to close.
"""

import os
import socket
import struct
import threading

from . import wire
from .wire import ProtocolError

_READ_SIZE = 64 << 10
_MAX_FILES = 8
_ANCILLARY = socket.CMSG_SPACE(_MAX_FILES * 4)
#: How long a send waits for a peer that does not read, in seconds.
WRITE_TIMEOUT = 10


class HangUp(Exception):
    """The supervisor closed its end."""


class Channel:
    """Takes sock over."""

    def __init__(self, sock):
        self.sock = sock
        sock.setblocking(True)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", WRITE_TIMEOUT, 0))
        self._sending = threading.Lock()
        self._buffer = bytearray()
        self._files = []

    def fileno(self):
        return self.sock.fileno()

    def send(self, message, id=0, table=wire.NO_TABLE, file=-1):
        """Sends one message; file stays the caller's. FrameSizeError and
        ValueError fail that message alone."""
        frame = wire.encode((message, id, table, file))
        try:
            with self._sending:
                if file >= 0:
                    sent = socket.send_fds(self.sock, [frame], [file])
                    frame = frame[sent:]
                    if not frame:
                        return
                self.sock.sendall(frame)
        except BlockingIOError:
            raise HangUp(f"the supervisor did not read its socket for {WRITE_TIMEOUT} s") from None
        except OSError as e:
            raise HangUp(str(e)) from e

    def receive(self):
        """The next message; waits for it."""
        while True:
            e = self.next()
            if e is not None:
                return e
            self.fill()

    def next(self):
        """The next message that is here wholly, or None. It does not read."""
        b = self._buffer
        if len(b) < wire.HEADER_SIZE:
            return None
        h = wire.parse_header(b)
        if len(b) < h.size:
            return None
        e = wire.decode_body(h, b, 0)
        del b[: h.size]
        if h.files:
            if not self._files:
                raise ProtocolError("a descriptor was declared and none was sent")
            e = e._replace(file=self._files.pop(0))
        if not b and self._files:
            raise ProtocolError(f"{len(self._files)} descriptors came that no frame declares")
        return e

    def fill(self):
        """Reads once, waiting for something to come."""
        try:
            data, ancillary, flags, _ = self.sock.recvmsg(_READ_SIZE, _ANCILLARY, socket.MSG_CMSG_CLOEXEC)
        except ConnectionError as e:
            raise HangUp(str(e)) from e
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                n = len(content) // 4
                self._files += struct.unpack(f"{n}i", content[: 4 * n])
        if flags & socket.MSG_CTRUNC or len(self._files) > _MAX_FILES:
            raise ProtocolError("too many descriptors")
        if not data:
            raise HangUp("hang-up" if not self._buffer else "hang-up in the middle of a frame")
        self._buffer += data

    def close(self):
        for fd in self._files:
            os.close(fd)
        self._files = []
        self.sock.close()
