"""How far one SQLite file goes: simulated workers over HTTP, the file's growth, and what retention gives back.

    python benchmarks/scale.py [--workers 10 100 1000] [--rollouts 2000] [--spans 4]

The server is a process of its own over a durable file (synchronous FULL). The workers are SIMULATED: one process holds a connection for each, claims
a rollout with it, tells its spans of about 2 kB as one list, finishes it and claims the next; no agent runs. Every rollout must be claimed exactly
once. Sizes for a million rollouts are extrapolated from the growth of the file, not measured. Takes a minute or two."""

import argparse
import asyncio
import json
import os
import platform
import resource
import sqlite3
import sys
import tempfile
import time
from pathlib import Path

from side_by_side import OURS, Connection, Process
from store_http import ATTRIBUTES

from agentlightning_nb.store import LightningStore


def spans(ids, number, of):
    "The spans of one attempt, as a list."
    empty = {"events": [], "links": [], "context": None, "parent": None, "parent_id": None}
    told = {"status": {"status_code": "OK", "description": None}, "attributes": ATTRIBUTES, "name": "chat tiny"}
    rest = {"resource": {"attributes": {}, "schema_url": ""}, "start_time": 1.0, "end_time": 2.0}
    return [
        {
            **ids,
            **empty,
            **told,
            **rest,
            "trace_id": f"{number:032x}",
            "span_id": f"{number * of + i:016x}",
            "sequence_id": i,
        }
        for i in range(of)
    ]


async def worker(url, name, claimed, of):
    "One simulated worker, until nothing is queued."
    connection = Connection(url, {"Authorization": "Bearer bench"})
    ask = json.dumps({"limit": 1, "worker_id": name}).encode()
    while taken := json.loads(await connection.ask("POST", "/v1/agl/queues/rollouts/dequeue", ask)):
        rollout = taken[0]
        ids = {"rollout_id": rollout["rollout_id"], "attempt_id": rollout["attempt"]["attempt_id"]}
        claimed.append(ids["rollout_id"])
        await connection.ask("POST", "/v1/agl/spans", json.dumps(spans(ids, len(claimed), of)).encode())
        path = f"/v1/agl/rollouts/{ids['rollout_id']}/attempts/{ids['attempt_id']}"
        await connection.ask("POST", path, b'{"status":"succeeded"}')
    connection.close()


async def load(url, workers, rollouts, of):
    "Queue the rollouts, work them off; the seconds that the work took."
    first = Connection(url, {"Authorization": "Bearer bench"})
    asked = {"rollouts": [{"input": {"question": f"What is {i} + 22?"}, "mode": "train"} for i in range(500)]}
    made = []
    for _ in range(rollouts // 500):
        made += await first.json("POST", "/v1/agl/queues/rollouts/enqueue", asked)
    first.close()
    claimed, since = [], time.perf_counter()
    await asyncio.wait_for(asyncio.gather(*[worker(url, f"sim-{i}", claimed, of) for i in range(workers)]), 600)
    took = time.perf_counter() - since
    assert sorted(claimed) == sorted(r["rollout_id"] for r in made), "rollouts were lost or given twice"
    return took


def size_mb(path):
    "The file with what stands beside it."
    return sum(p.stat().st_size for p in path.parent.glob(path.name + "*")) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--rollouts", type=int, default=2000, help="for each number of workers, in steps of 500")
    parser.add_argument("--spans", type=int, default=4, help="of a rollout")
    args = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    print(
        f"SQLite {sqlite3.sqlite_version}, Python {platform.python_version()}, {os.cpu_count()} cores, spans of about 2 kB\n"
    )
    print(
        "| simulated workers | rollouts/s | spans/s | ms CPU of the server a rollout | server's memory |\n|---|---|---|---|---|"
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scale.db"
        with Process([sys.executable, "-c", OURS, str(path), ""], log=Path(folder) / "server.log") as server:
            for workers in args.workers:
                cpu = server.cpu_s()
                took = asyncio.run(load(server.url, workers, args.rollouts, args.spans))
                each = (server.cpu_s() - cpu) / args.rollouts * 1e3
                rate = args.rollouts / took
                print(
                    f"| {workers} | {rate:.0f} | {rate * args.spans:.0f} | {each:.2f} | {server.memory_mb():.0f} MB |",
                    flush=True,
                )
        whole, n = size_mb(path), args.rollouts * len(args.workers)
        print(
            f"\nFile: {whole:.1f} MB for {n} rollouts with {args.spans} spans each, {whole / n * 1e3:.1f} kB a rollout;"
        )
        print(f"a million such rollouts: {whole / n * 1e3:.1f} GB (extrapolated).")
        with LightningStore(path) as store:
            since = time.perf_counter()
            gone = store.prune(keep=n // 10)
            pruned = time.perf_counter() - since
            left = store.vacuum()
        print(
            f"prune(keep={n // 10}): the spans of {gone} rollouts gone in {pruned:.2f} s; vacuum: {size_mb(path):.1f} MB left ({left:.1f} s)."
        )


if __name__ == "__main__":
    main()
