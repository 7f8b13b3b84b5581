"""Our server over a durable file (synchronous FULL) beside agent-lightning's LightningStoreServer over its store in memory.

    python benchmarks/store_http.py --peer /path/to/python-with-agentlightning [--rounds 5]

Both speak `/v1/agl`; the same raw client sends both the same bodies, in turn within each round. Spans in lists are ours alone: the peer
takes them one by one, 16 in flight. CPU is of the server's process, all threads. Every rollout must be claimed exactly once.
The peer's interpreter may also be named by AGENTLIGHTNING03_PYTHON; without one, ours is measured alone. Takes about two minutes."""

import argparse
import asyncio
import json
import os
import platform
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from itertools import count
from pathlib import Path

from otlp import KINDS, PROTOBUF, batch
from side_by_side import OURS, Connection, Figures, Process, free_port, measure, median, percentile, ratio

THEIRS = """
import asyncio, sys
from agentlightning.store.client_server import LightningStoreServer
from agentlightning.store.memory import InMemoryLightningStore
async def main():
    server = LightningStoreServer(InMemoryLightningStore(thread_safe=True), '127.0.0.1', int(sys.argv[1]))
    await server.start()
    print(f'http://127.0.0.1:{sys.argv[1]}', flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop()
asyncio.run(main())
"""
ATTRIBUTES = KINDS["a model call"] | {"gen_ai.tool.definitions": "a tool that adds two numbers; " * 30}  # 2 kB in all


def span(ids, number):
    "A span of about 2 kB as both take it."
    named = {"trace_id": f"{number:032x}", "span_id": f"{number:016x}", "parent_id": None, "name": "chat tiny"}
    empty = {"events": [], "links": [], "context": None, "parent": None}
    told = {"status": {"status_code": "OK", "description": None}, "attributes": ATTRIBUTES}
    times = {"sequence_id": number, "start_time": 1.0, "end_time": 2.0}
    return {**ids, **named, **told, **times, **empty, "resource": {"attributes": {}, "schema_url": ""}}


class Side:
    "One of the servers, with its connections and figures."

    def __init__(self, name, server):
        self.name, self.server, self.figures = name, server, defaultdict(Figures)
        self.connections = [Connection(server.url, {"Authorization": "Bearer bench"}) for _ in range(16)]
        self.numbers = count(1)

    async def started(self):
        "The ids of a rollout under way."
        told = await self.connections[0].json("POST", "/v1/agl/rollouts", {"input": {"q": 1}})
        return {"rollout_id": told["rollout_id"], "attempt_id": told["attempt"]["attempt_id"]}

    async def run(self, what, requests, job, at_once=16):
        "A round of one operation."
        await measure(self.figures[what], self.server, self.connections[:at_once], requests, job)

    def close(self):
        "Hang up."
        for connection in self.connections:
            connection.close()


async def spans(side):
    "Spans one at a time, and 100 of them."
    ids = await side.started()
    bodies = [json.dumps(span(ids, next(side.numbers))).encode() for _ in range(500)]

    async def one(connection, number):
        await connection.ask("POST", "/v1/agl/spans", bodies[number])
        return 1

    await side.run("span POST, 1 in flight", 100, one, at_once=1)
    bodies = bodies[100:]
    await side.run("span POST, 16 in flight", 400, one)
    if side.name != "ours":  # one by one is the only way
        alone, many = side.figures["span POST, 16 in flight"], side.figures["spans by the hundred"]
        many.rate, many.cpu_us = list(alone.rate), list(alone.cpu_us)
        return
    lists = [json.dumps([span(ids, next(side.numbers)) for _ in range(100)]).encode() for _ in range(20)]

    async def hundred(connection, number):
        await connection.ask("POST", "/v1/agl/spans", lists[number])
        return 100

    await side.run("spans by the hundred", 20, hundred, at_once=4)


async def otlp(side):
    "Spans by OTLP, and reading a hundred of them."
    ids = await side.started()
    named = {f"agentlightning.{k}": v for k, v in ids.items()}
    bodies = [batch(ATTRIBUTES, named, PROTOBUF, next(side.numbers) + 1000) for _ in range(10)]

    async def export(connection, number):
        await connection.ask("POST", "/v1/traces", bodies[number], PROTOBUF)
        return 100

    await side.run("OTLP protobuf, a span", 10, export, at_once=4)
    alone = await side.started()
    named = {f"agentlightning.{k}": v for k, v in alone.items()}
    await side.connections[0].ask(
        "POST", "/v1/traces", batch(ATTRIBUTES, named, PROTOBUF, next(side.numbers) + 1000), PROTOBUF
    )

    async def query(connection, number):
        path = f"/v1/agl/spans?rollout_id={alone['rollout_id']}&attempt_id={alone['attempt_id']}"
        told = await connection.ask("GET", path)
        if not number:
            assert len(json.loads(told)["items"]) == 100
        return 1

    await side.run("query of 100 spans", 40, query, at_once=4)


async def rollouts(side):
    "Enqueue, then claim and finish by 16 workers."
    body, claimed = (
        json.dumps({"rollouts": [{"input": {"question": "What is 20 + 22?"}, "mode": "train"}]}).encode(),
        [],
    )
    made = []

    async def enqueue(connection, number):
        made.extend(json.loads(await connection.ask("POST", "/v1/agl/queues/rollouts/enqueue", body)))
        return 1

    await side.run("enqueue, 16 in flight", 300, enqueue)

    async def work(connection, number):
        ask = b'{"limit":1,"worker_id":"w%d"}' % side.connections.index(connection)
        (taken,) = json.loads(await connection.ask("POST", "/v1/agl/queues/rollouts/dequeue", ask))
        claimed.append(taken["rollout_id"])
        path = f"/v1/agl/rollouts/{taken['rollout_id']}/attempts/{taken['attempt']['attempt_id']}"
        await connection.ask("POST", path, b'{"status":"succeeded"}')
        return 1

    await side.run("claim and finish, 16 workers", 300, work)
    assert sorted(claimed) == sorted(r["rollout_id"] for r in made), f"{side.name} lost rollouts or gave them twice"


async def waits(side, times=60):
    "From enqueue to claimed by a worker that waits; ours alone, the peer has no such call."
    enqueuer, waiter = side.connections[:2]
    for _ in range(times):
        waiting = asyncio.ensure_future(waiter.ask("POST", "/v1/agl/queues/rollouts/dequeue", b'{"wait_s":10}'))
        await asyncio.sleep(0.005)  # it waits by now; should it not, the time is shorter
        since = time.perf_counter()
        await enqueuer.ask("POST", "/v1/agl/queues/rollouts/enqueue", b'{"rollouts":[{"input":1}]}')
        (claimed,) = json.loads(await waiting)
        side.figures["enqueue to claimed"].latency_ms.append((time.perf_counter() - since) * 1e3)
        path = f"/v1/agl/rollouts/{claimed['rollout_id']}/attempts/{claimed['attempt']['attempt_id']}"
        await enqueuer.ask("POST", path, b'{"status":"succeeded"}')


async def compare(sides, rounds):
    "All rounds; the first one warms up and is not counted."
    for number in range(rounds + 1):
        for part in (spans, otlp, rollouts):
            for side in sides if number % 2 else reversed(sides):
                await part(side)
        await waits(next(s for s in sides if s.name == "ours"))
        if not number:
            for side in sides:
                side.figures.clear()
    for side in sides:
        side.close()


def show(sides):
    "The table."
    ours, theirs = sides[0].figures, sides[1].figures if len(sides) > 1 else {}
    print("| operation | ours/s | theirs/s | times | ours µs CPU | theirs µs CPU | times | ours p50 / p99 ms |")
    print("|---|---|---|---|---|---|---|---|")
    for what, mine in ours.items():
        if not mine.rate:
            continue
        peer = theirs.get(what, Figures())
        faster = ratio(peer.rate, mine.rate) if peer.rate else "-"
        cheaper = ratio(mine.cpu_us, peer.cpu_us) if peer.rate else "-"
        late = f"{mine.percentile(0.5):.1f} / {mine.percentile(0.99):.1f}"
        rates = f"{median(mine.rate)} | {median(peer.rate)} | {faster}"
        print(f"| {what} | {rates} | {median(mine.cpu_us)} | {median(peer.cpu_us)} | {cheaper} | {late} |")
    waited = ours["enqueue to claimed"].latency_ms
    print(f"\nEnqueue to claimed by a long poll: p50 {median(waited, 1)} ms, p99 {percentile(waited, 0.99):.1f} ms.")
    print("Resident memory: " + ", ".join(f"{s.name} {s.server.memory_mb():.0f} MB" for s in sides))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", default=os.environ.get("AGENTLIGHTNING03_PYTHON", ""), help="a Python that has it")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    quiet = {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    peer = "missing: name its Python by --peer"
    if args.peer:
        version = "import importlib.metadata as m; print(m.version('agentlightning'))"
        peer = subprocess.run([args.peer, "-c", version], capture_output=True, text=True).stdout.strip() or "missing"
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        own = {"AGENTLIGHTNING_HOME": scratch}
        command = [sys.executable, "-c", OURS, str(folder / "store.db"), ""]
        with Process(command, env=own, log=folder / "ours.log") as server:
            sides = [Side("ours", server)]
            print(f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}; agent-lightning {peer}\n")
            if peer.startswith("missing"):
                asyncio.run(compare(sides, args.rounds))
                return show(sides)
            command = [args.peer, "-c", THEIRS, str(free_port())]
            with Process(command, env=quiet, log=folder / "theirs.log") as theirs:
                sides.append(Side("theirs", theirs))
                asyncio.run(compare(sides, args.rounds))
                show(sides)


if __name__ == "__main__":
    main()
