"""The steps of TestFlows in Python."""

import os
import time

import millrace


def main(state):
    gate = state["given"]["gate"]
    results = state.each([{"i": i, "gate": gate} for i in range(3)], "late", 3)
    order = []
    for r in results:
        assert r["i"] == results.index, (r["i"], results.index)
        order.append(r["i"])
        open(f"{gate}-{len(order)}", "w").close()
    first, collect = [], []
    try:
        for r in state.each(range(5), "odd", 1):
            first.append(str(r["data"]))
    except millrace.CallError as e:
        first.append(f"{type(e).__name__} {e.step}")
    results = state.each(range(5), "odd", 2, errors="collect")
    for r in results:
        failed = isinstance(r, millrace.CallError)
        collect.append(f"{results.index} {type(r).__name__} {r.step}" if failed else str(r["data"]))
    try:
        state.call("fails")
    except millrace.CallError as e:
        error = [e.name, e.severity, e.step]
    for i in range(3):
        sizes = state.call("sizes", state | {"note": "x" * (i + 3)})["sizes"]
    results = state.each(range(3), "shard", 2, until="leaf")
    for r in results:
        state[f"shard-{results.index}"] = r["packed"]
    state.update(order=order, first=first, collect=sorted(collect), error=error, sizes=sizes)
    state["nested"] = state.call("nests", {"n": 4})["n"]
    return state.forward("aggregate", head="new")


def aggregate(state):
    given = state.pop("given")
    pages = ({"page": i, "items": given["items"]} for i in range(given["pages"]))
    for r in state.each(pages, "page", 3):
        state.append("all", r, "data")


def page(state):
    page, items = state["data"]["page"], state["data"]["items"]
    return {"data": list(range(page * items, (page + 1) * items))}


def late(state):
    """Ends after as many results were taken as are to come before it."""
    i, gate = state["data"]["i"], state["data"]["gate"]
    before = (i + 2) % 3
    while before and not os.path.exists(f"{gate}-{before}"):
        time.sleep(0.002)
    return {"i": i}


def odd(state):
    if state["data"] % 2:
        raise ValueError("odd")


def fails(state):
    raise ValueError("no use")


def sizes(state):
    return {"sizes": [state.raw("big").nbytes, state.raw("note").nbytes]}


def nests(state):
    n = state["n"]
    return {"n": n + (state.call("nests", {"n": n - 1})["n"] if n else 0)}


def shard(state):
    return {"data": [f"shard {state['data']}"] * 1000}
