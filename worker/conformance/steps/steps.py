"""The steps that the conformance runner has a Python executor run."""

import logging
import os
import time


def identity(state):
    return state


def read(state):
    if len(state["read"]["list"]) != 1000:
        raise ValueError("read %d" % len(state["read"]["list"]))
    return state


def set(state):
    state["added"] = {"list": [1, 2, 3], "text": 'a"b\\c\x01\u00e9\U0001f600'}
    return state


def delete(state):
    del state["gone"]
    return state


def rename(state):
    value = state["from"]
    del state["from"]
    state["to"] = value
    return state


def mutate(state):
    state["data"]["nested"]["n"] += 1
    return state


def append(state):
    state["value"].append("end")
    return state


def copy(state):
    state["copy"] = state["value"]
    return state


def keys(state):
    state["keys"] = list(state)
    return state


def fresh(state):
    return {"fresh": True}


def private(state):
    state["_secret"] = 1
    state["configuration"] = {"token": 1}
    state["kept"] = True
    return state


def allocate(state):
    state["big"] = "x" * 8388608
    return state


def throw(state):
    raise RuntimeError("conformance: thrown")


def log(state):
    logging.getLogger("conformance").warning("conformance: hello")
    return state


def sleep(state):
    time.sleep(60)
    return state


def nap(state):
    time.sleep(0.3)
    state["napped"] = True
    return state


def unserialisable(state):
    bad = {}
    bad["self"] = bad
    state["bad"] = bad
    return state


def value(state):
    return [1, 2, 3]


def noise(state):
    os.write(1, b"\x00\xffMILLRACE\x18\x00\x00\x00" * 100)
    state["noisy"] = True
    return state


def call(state):
    return state.call("other")


def call_new(state):
    state["result"] = state.call("other", {"data": [1, 2, 3]})["value"]


def call_catch(state):
    try:
        state.call("other")
    except Exception as e:
        state["error"] = [e.name, e.severity, e.step]


def each(state):
    order = []
    results = state.each(state["pages"], "other", 3)
    for r in results:
        order.append(results.index)
        state.append("all", r, "data")
    state["order"] = order


def each_count(state):
    n = 0
    for _ in state.each(state["pages"], "other", 2):
        n += 1
    return {"n": n}


def feed(state):
    n = state["n"]
    state["items"] = ({"i": i} for i in range(n))


def feed_fail(state):
    def items():
        for i in range(3):
            yield {"i": i}
        raise ValueError("conformance: thrown")

    state["items"] = items()


def drain(state):
    state["sum"] = sum(item["i"] for item in state["items"])


def drain_three(state):
    got = 0
    for _ in state["items"]:
        got += 1
        if got == 3:
            break
    state["got"] = got


def forward(state):
    return state.forward("other", head="new")
