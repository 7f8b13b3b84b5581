"""The writer's rate beside a bare `executemany` of the same rows in transactions of their own: batches of 100 spans of 2 kB, synchronous FULL.

    python benchmarks/writer.py [--rounds 8]

Both in this process, alternating, each on a file of its own; prints medians of each round's ratio. The batches are queued all at once, or each
when the one before is kept. Ours also looks its attempt up, numbers the spans, counts what was used and keeps the attempt alive."""

import argparse
import json
import platform
import sqlite3
import statistics
import tempfile
import time
from itertools import count
from pathlib import Path

from store_http import span

from agentlightning_nb.migrations import migrate
from agentlightning_nb.storage.files import connect_writer
from agentlightning_nb.storage.incoming import arrived
from agentlightning_nb.storage.spans import SPAN_COLUMNS
from agentlightning_nb.store import LightningStore

INSERT = f"INSERT INTO span ({SPAN_COLUMNS}) VALUES ({', '.join('?' * 17)})"
BATCHES, SPANS = 40, 100


def bare(conn, batches):
    "Each batch in a transaction."
    for batch in batches:
        conn.execute("BEGIN IMMEDIATE")
        conn.executemany(INSERT, [one.row for one in batch])
        conn.execute("COMMIT")


def queued(store, batches):
    "All batches are queued, then waited for."
    for future in [store.submit("add_incoming", batch) for batch in batches]:
        future.result()


def awaited(store, batches):
    "Each batch waits for the one before."
    for batch in batches:
        store.add_incoming(batch)


def timed(work, *args):
    "Seconds."
    since = time.perf_counter()
    work(*args)
    return time.perf_counter() - since


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=8)
    args = parser.parse_args()
    print(f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}\n")
    print("| batches are | spans/s, ours | bare | ours / bare |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch, LightningStore(Path(scratch) / "ours.db") as store:
        conn = connect_writer(str(Path(scratch) / "bare.db"))
        migrate(conn)
        started, numbers = store.start_rollout("measured"), count(1)
        ids = {"rollout_id": started.rollout_id, "attempt_id": started.attempt.attempt_id}

        def batches():
            bodies = [json.dumps([span(ids, next(numbers)) for _ in range(SPANS)]).encode() for _ in range(BATCHES)]
            return [arrived(body).spans for body in bodies]

        for work in (queued, awaited):
            pairs = [(timed(work, store, batches()), timed(bare, conn, batches())) for _ in range(args.rounds + 1)][1:]
            ours, theirs = (BATCHES * SPANS / statistics.median(side) for side in zip(*pairs, strict=True))
            share = statistics.median(b / a for a, b in pairs)
            print(f"| {work.__name__} | {ours:,.0f} | {theirs:,.0f} | {share:.2f} |")
        conn.close()


if __name__ == "__main__":
    main()
