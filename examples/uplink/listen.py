"""Reads what `millrace run --uplink unix:PATH` sends, and shows it.

    python3 examples/uplink/listen.py /tmp/uplink.sock &
    millrace run examples/flights-jq.yaml -i data=examples/data/flights-2k.json --uplink unix:/tmp/uplink.sock

docs/uplink.md describes the frames. Only Python's standard library is needed.
"""
import json
import os
import socket
import struct
import sys

PIECE = 1 << 20


def frames(stream):
    """Yields each frame's meta and a function that reads the next value."""
    while header := stream.read(16):
        magic, meta_size, payload_size = struct.unpack("<4sIQ", header)
        if magic != b"MRF1":
            raise ValueError(f"not a frame: it starts with {magic!r}")
        meta = json.loads(stream.read(meta_size))
        left = [payload_size]

        def pieces(size):
            """Yields a value's bytes, a piece at a time."""
            left[0] -= size
            while size:
                piece = stream.read(min(size, PIECE))
                if not piece:
                    raise EOFError("the stream ends in the middle of a frame")
                size -= len(piece)
                yield piece

        yield meta, pieces
        for _ in pieces(left[0]):  # what was not read
            pass


def main(path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen(1)
        print("listening at", path, flush=True)
        connection, _ = server.accept()
        os.unlink(path)
    with connection, connection.makefile("rb") as stream:
        for meta, pieces in frames(stream):
            print(meta["type"], meta.get("step", ""), meta.get("status", ""))
            for state in meta.get("states", []):
                for value in state.get("values", []):
                    start = b""
                    for piece in pieces(value["size"]):
                        start = start or piece[:40]
                    print(f'  {value["key"] or "(whole)"}: {value["size"]} bytes of {value["encoding"]}: {start!r}')


if __name__ == "__main__":
    main(sys.argv[1])
