"""Encoding in pieces, decoding, change detection, conversion."""

import copy
import dataclasses
import datetime
import decimal
import enum
import json
import math
import os
import random
import subprocess
import sys
import unittest
import uuid
from array import array
from collections import OrderedDict, namedtuple
from fractions import Fraction

import stub  # first: it sets the path
from millrace import jsoncodec
from millrace.plain import PlainError, to_plain


def encode(value, path="state.x"):
    parts = []
    if not jsoncodec.encode(value, lambda p: parts.append(bytes(p))):
        parts = []
        jsoncodec.encode_plain(value, lambda p: parts.append(bytes(p)), path)
    return b"".join(parts)


def generate(r, depth=0):
    kind = r.choice("ld" if depth == 0 else "sifbnld" if depth < 4 else "sifbn")
    if kind == "s":
        return "".join(r.choice("aé\"\\\n\u2028😀 ") for _ in range(r.randrange(12)))
    if kind == "i":
        return r.choice([0, -1, 7, 2**31, 2**53, -(2**63)])
    if kind == "f":
        return r.choice([0.5, -0.0, 1e300, 1.0, r.random()])
    if kind in "bn":
        return {"b": r.random() < 0.5, "n": None}[kind]
    size = r.choice([0, 1, 3, 5, 70, 600]) if depth < 2 else r.randrange(4)
    if kind == "l":
        return [generate(r, depth + 1) for _ in range(size)]
    return {f"k{i}{r.choice(['', 'é'])}": generate(r, depth + 1) for i in range(size)}


def mutate(r, value):
    """Changes one thing somewhere in value, in place; False when there is none."""
    places, todo = [], [value]
    while todo:
        v = todo.pop()
        if isinstance(v, (dict, list)):
            todo += v.values() if isinstance(v, dict) else v
            places.append(v)
    if not places:
        return False
    place = r.choice(places)
    if isinstance(place, list):
        if place and r.random() < 0.5:
            i = r.randrange(len(place))
            place[i] = [place[i]]
        else:
            place.insert(r.randrange(len(place) + 1), None)
    elif len(place) > 1 and r.random() < 0.3:
        key = next(iter(place))  # to the end: the order of members counts
        place[key] = place.pop(key)
    else:
        place["new"] = 1
    return True


class Codec(unittest.TestCase):
    def test_pieces_join_to_the_whole(self):
        r = random.Random(1)
        for _ in range(25):
            v = generate(r)
            self.assertEqual(json.loads(encode(v)), v)
            text = json.dumps(v, ensure_ascii=False, separators=(",", ":"))
            self.assertEqual(json.dumps(json.loads(encode(v)), ensure_ascii=False, separators=(",", ":")), text)

    def test_large_values_come_in_pieces(self):
        for v in ([{"n": i, "s": "x" * 100} for i in range(30_000)], {"a": {"b": [["y" * 1000] * 10] * 1000}}):
            sizes = []
            self.assertTrue(jsoncodec.encode(v, lambda p: sizes.append(len(p))))
            self.assertLess(max(sizes), 2 << 20)

    def test_decode_refuses_what_is_no_json(self):
        for b in (b"", b"{", b"NaN", b"-Infinity", b"[1,]", b"\xff", b'"\xed\xa0\x80"', b"[" * 100_000, b"1 2"):
            with self.assertRaises(ValueError, msg=b[:20]):
                jsoncodec.decode(memoryview(b))

    def test_decode_keeps_the_last_of_a_double_key(self):
        self.assertEqual(list(jsoncodec.decode(memoryview(b'{"a":1,"b":2,"a":3}')).items()), [("a", 3), ("b", 2)])

    def test_lone_surrogates_pass(self):
        v = jsoncodec.decode(memoryview(b'"\\ud800"'))
        self.assertEqual(jsoncodec.decode(memoryview(encode(v))), v)

    def test_fingerprint_sees_every_change(self):
        r = random.Random(2)
        changes = 0
        for _ in range(60):
            v = jsoncodec.decode(memoryview(encode(generate(r))))
            mark = jsoncodec.fingerprint(v)
            self.assertEqual(jsoncodec.fingerprint(v), mark)
            self.assertEqual(jsoncodec.fingerprint(copy.deepcopy(v)), mark)
            if mutate(r, v):
                changes += 1
                self.assertNotEqual(jsoncodec.fingerprint(v), mark)
        self.assertEqual(changes, 60)

    def test_fingerprint_tells_types_apart(self):
        marks = [jsoncodec.fingerprint([v]) for v in (1, 1.0, True, "1", None, [], {}, {"a": 1}, {"b": 1})]
        for i, m in enumerate(marks):
            self.assertNotIn(m, marks[:i])

    def test_fingerprint_without_a_json_form_is_none(self):
        loop = []
        loop.append(loop)
        self.assertIsNone(jsoncodec.fingerprint(loop))
        self.assertIsNone(jsoncodec.fingerprint({"a": object()}))


@dataclasses.dataclass
class Point:
    x: int
    at: datetime.date


class Colour(enum.Enum):
    RED = "red"


class Number(int):
    pass


Pair = namedtuple("Pair", "a b")


class Conversion(unittest.TestCase):
    def test_what_has_a_form(self):
        u = uuid.UUID(int=5)
        day = datetime.date(2024, 2, 29)
        cases = [
            ((1, 2), [1, 2]),
            (Pair(1, "x"), [1, "x"]),
            (Point(1, day), {"x": 1, "at": "2024-02-29"}),
            (datetime.datetime(2024, 2, 29, 1, 2, tzinfo=datetime.timezone.utc), "2024-02-29T01:02:00+00:00"),
            (datetime.time(3, 4), "03:04:00"),
            (u, str(u)),
            (Colour.RED, "red"),
            (Number(7), 7),
            (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
            ({2: "a", None: "b", True: "c", 1.5: "d"}, {"2": "a", "null": "b", "true": "c", "1.5": "d"}),
            (math.nan, None),
            ([math.inf, 1], [None, 1]),
            (2**70, 2**70),
            (array("d", [1.5]), [1.5]),
            (Fraction(1, 2), 0.5),
        ]
        for value, want in cases:
            with self.subTest(repr(value)):
                self.assertEqual(json.loads(encode(value)), want)
                self.assertEqual(json.loads(encode({"in": [value]})), {"in": [want]})

    def test_what_has_none_is_named(self):
        loop = {"a": [1]}
        loop["a"].append(loop)
        cases = [
            ({"a": [0, {"b": {1, 2}}]}, "state.x.a[1].b", "list"),
            ({"a": b"x"}, "state.x.a", "set_raw"),
            ({"odd key": object()}, "state.x['odd key']", "object"),
            ({"a": {(1, 2): 3}}, "state.x.a", "key"),
            ([lambda: 1], "state.x[0]", "function"),
            ([int], "state.x[0]", "class int"),
            ([decimal.Decimal("1.5")], "state.x[0]", "decimal.Decimal"),
            (loop, "state.x.a[1]", "refers back to state.x:"),
        ]
        for value, path, why in cases:
            with self.subTest(path), self.assertRaises(PlainError) as caught:
                encode(value)
            self.assertEqual(caught.exception.path, path)
            self.assertIn(why, str(caught.exception))

    def test_the_same_value_twice_is_no_cycle(self):
        shared = [1]
        self.assertEqual(to_plain([shared, shared, (shared,)], "x"), [[1], [1], [[1]]])

    def test_depth(self):
        deep = []
        for _ in range(100_000):
            deep = [deep]
        with self.assertRaises(PlainError) as caught:
            encode(deep)
        self.assertIn("nested too deeply", str(caught.exception))
        while deep:  # freeing it at once would recurse, too
            deep = deep[0]
        deep = []
        for _ in range(300):
            deep = [deep]
        self.assertEqual(encode(deep), b"[" * 301 + b"]" * 301)


class WithoutOrjson(unittest.TestCase):
    """The same tests with the other encoder."""

    @unittest.skipIf(jsoncodec.orjson is None, "orjson is not installed")
    def test_all(self):
        env = {**os.environ, "MILLRACE_PYTHON_JSON": "stdlib"}
        command = [sys.executable, "-m", "unittest", "test_json.Codec", "test_json.Conversion"]
        p = subprocess.run(command, cwd=os.path.join(stub.ROOT, "tests"), env=env, capture_output=True, text=True)
        self.assertEqual(p.returncode, 0, p.stderr)
