"""The golden vectors, both ways."""

import json
import os
import re
import unittest

import stub  # first: it sets the path
from millrace import wire
from millrace.wire import Block, Envelope, Message, ProtocolError, Ref, Table

VECTORS = os.path.join(os.path.dirname(stub.ROOT), os.pardir, "ipc", "testdata", "vectors.json")


def snake(name):
    return re.sub("[A-Z]", lambda m: "_" + m[0].lower(), name)


def number(v):
    return int(v) if isinstance(v, str) else v


def envelope(vector):
    head = {snake(k): v for k, v in vector["head"].items()}
    for field, kind in wire.FIELDS[vector["type"]]:
        v = head[field]
        if kind == "blocks":
            v = [Block(*(number(b[k]) for k in Block._fields)) for b in v]
        elif kind == "verdicts":
            v = [(x["taken"], x["error"]) for x in v]
        elif kind == "u64s":
            v = [number(x) for x in v]
        elif kind.startswith("u"):
            v = number(v)
        head[field] = v
    rows = tuple(
        (row["key"], tuple(Ref(*(number(s[k]) for k in Ref._fields)) for s in row["spans"]))
        for row in vector["table"]["rows"]
    )
    table = Table(vector["table"]["kind"], rows)
    return Envelope(Message(vector["type"], **head), number(vector["id"]), table, 9 if vector["files"] else -1)


class Vectors(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        with open(VECTORS, encoding="utf-8") as f:
            cls.vectors = json.load(f)

    def test_every_type_has_a_vector(self):
        self.assertEqual({v["type"] for v in self.vectors["frames"]}, set(wire.FIELDS))

    def test_encode(self):
        for v in self.vectors["frames"]:
            with self.subTest(v["name"]):
                if not v.get("decodeOnly"):
                    self.assertEqual(wire.encode(envelope(v)).hex(), v["hex"])

    def test_decode(self):
        for v in self.vectors["frames"]:
            with self.subTest(v["name"]):
                want, got = envelope(v), wire.decode(bytes.fromhex(v["hex"]))
                self.assertEqual(got.message.__dict__, want.message.__dict__)
                self.assertEqual((got.id, got.table), (want.id, want.table))

    def test_bad_frames(self):
        for v in self.vectors["badFrames"]:
            with self.subTest(v["name"]), self.assertRaises(ProtocolError):
                wire.decode(bytes.fromhex(v["hex"]))

    def test_every_cut_is_refused(self):
        for v in self.vectors["frames"]:
            frame = bytes.fromhex(v["hex"])
            for n in range(len(frame)):
                with self.assertRaises(ProtocolError):
                    wire.decode(frame[:n])


class Encode(unittest.TestCase):
    def table(self, *rows):
        return Envelope(Message("done", started=0, finished=0, blocks=[], decoded=0, encoded=0, verdicts=[]), 1, Table(1, rows))

    def test_too_large(self):
        rows = [(str(i), (Ref(1, 0, 1),)) for i in range(200_000)]
        with self.assertRaises(wire.FrameSizeError) as caught:
            wire.encode(self.table(*rows))
        self.assertGreater(caught.exception.size, wire.MAX_FRAME_SIZE)

    def test_what_a_peer_would_refuse(self):
        for rows in ([("a", ())], [("a", (Ref(1, 0, 1),))] * 2, [("a", (Ref(1, 0, 1, 4),))], [("\ud800", (Ref(1, 0, 1),))]):
            with self.assertRaises(ValueError):
                wire.encode(self.table(*rows))

    def test_lone_surrogates_in_text_are_replaced(self):
        frame = wire.encode(Envelope(Message("cancel", reason="a\ud800b")))
        self.assertEqual(wire.decode(frame).message.reason, "a\ufffdb")
