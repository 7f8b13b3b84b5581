"""Does everything come out right while workers and the server are killed at random?

    python benchmarks/soak.py [--seconds 600] [--seed 0] [--workers 4]

A server on a file and a pool of worker processes, both real. Every second or so something dies: a worker by SIGKILL, a worker that is
halted by SIGSTOP, the server by SIGKILL or SIGTERM, to be started anew over the same file on the same port. Rollouts are queued all the
while. In the end each of them must have succeeded, with the reward that it asked for, by exactly one successful attempt, reported once.
What dies and when follows from the seed; what is hit then follows from the machine. The exit status is 0 when all is accounted for."""

import argparse
import logging
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from agentlightning_nb.client import LightningClient
from agentlightning_nb.errors import ServerError
from agentlightning_nb.litagent import rollout
from agentlightning_nb.store import LightningStore
from agentlightning_nb.tracer import REWARD_SPAN
from agentlightning_nb.workers.processes import ProcessPool

TOKEN = "soak"
CONFIG = {"max_attempts": 1000, "retry_condition": ["unresponsive"], "unresponsive_seconds": 4.0}
SILENCE_S = 4.0


@rollout
def agent(task):
    "Take a while and give back what was asked for."
    time.sleep(0.005 * (task.input % 20))
    return float(task.input)


class Server:
    "The server process, which can be killed and started anew."

    def __init__(self, folder: Path):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.folder, self.url, self.process = folder, f"http://127.0.0.1:{self.port}", None

    def start(self) -> None:
        command = [
            sys.executable,
            "-m",
            "agentlightning_nb.cli",
            "server",
            "start",
            "--db",
            str(self.folder / "soak.db"),
        ]
        command += ["--port", str(self.port), "--token", TOKEN]
        environment = {**os.environ, "AGENTLIGHTNING_HOME": str(self.folder)}
        with open(self.folder / "server.log", "a") as output:
            self.process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)

    def end(self, how: signal.Signals) -> None:
        self.process.send_signal(how)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(20)


def patiently(call: Callable[[], Any], timeout_s: float = 60.0) -> Any:
    "What the call gives once the server answers."
    until = time.monotonic() + timeout_s
    while True:
        try:
            return call()
        except ServerError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)


class Queue:
    "Queues numbers, each once, however often the server dies while it is told."

    def __init__(self, client: LightningClient):
        self.client, self.count = client, 0

    def add(self, n: int) -> None:
        missing = list(range(self.count, self.count + n))
        while missing:
            rows = [{"input": i, "task_id": str(i), "config": CONFIG} for i in missing]
            try:
                self.client.enqueue_many_rollouts(rows)
                break
            except ServerError:  # told, or not told: the server says, when it is back
                missing = [i for i in missing if not patiently(partial(self.knows, i))]
        self.count += n

    def knows(self, i: int) -> bool:
        return bool(self.client.query_rollouts(task_id=str(i)).items)

    def unfinished(self) -> int:
        return self.client.query_rollouts(status_in=["queuing", "requeuing", "preparing", "running"], limit=1).total


def strike(luck: random.Random, server: Server, pool: ProcessPool) -> str:
    "Kill something; what it was."
    what = luck.choices(["worker killed", "worker halted", "server killed", "server stopped"], [6, 2, 2, 1])[0]
    if what.startswith("worker"):
        victims = [h.process.pid for h in list(pool.handles)]
        how = signal.SIGKILL if what == "worker killed" else signal.SIGSTOP
        try:
            os.kill(luck.choice(victims), how)
        except ProcessLookupError:
            return "worker already dead"
        return what
    server.end(signal.SIGKILL if what == "server killed" else signal.SIGTERM)
    time.sleep(luck.uniform(0.0, 1.0))
    server.start()
    return what


def log_of(folder: Path) -> str:
    "The last lines of the server's log."
    return "\n".join((folder / "server.log").read_text().splitlines()[-15:])


def account(path: Path, count: int) -> tuple[list[str], Counter]:
    "What is wrong with the store's file, and attempts by status."
    problems, statuses, seen = [], Counter(), Counter()
    with LightningStore(path) as store:
        for row in store.query_rollouts():
            tried = [a.status for a in store.query_attempts(row.rollout_id)]
            statuses.update(tried)
            seen[row.input] += 1
            spans = [s for s in store.query_spans(row.rollout_id, row.attempt.attempt_id) if s.name == REWARD_SPAN]
            good = row.status == "succeeded" and row.reward == float(row.input) and tried.count("succeeded") == 1
            if not good or len(spans) != 1:
                problems.append(
                    f"{row.input}: {row.status}, reward {row.reward}, attempts {tried}, rewards {len(spans)}"
                )
    problems += [f"{i}: {seen[i]} rollouts" for i in range(count) if seen[i] != 1]
    return problems, statuses


def soak(
    folder: Path,
    *,
    seconds: float,
    seed: int,
    n_workers: int,
    pause_s: float = 1.0,
    least: int = 0,  # strikes, within ten times the seconds, on a machine that is busy with other things
) -> dict[str, Any]:
    "Strike for so many seconds, let it settle, and count."
    luck, strikes, server = random.Random(seed), Counter(), Server(folder)
    server.start()
    client = LightningClient(server.url, TOKEN)
    patiently(client.statistics)
    queue, began = Queue(client), time.monotonic()
    pool = ProcessPool(
        client,
        agent,
        n_workers=n_workers,
        server_url=server.url,
        server_token=TOKEN,
        heartbeat_s=0.5,
        silence_s=SILENCE_S,
    )
    try:
        with pool:
            while pool.error is None and (spent := time.monotonic() - began) < 10 * seconds:
                if spent >= seconds and strikes.total() >= least:
                    break
                if patiently(queue.unfinished) < 100:
                    queue.add(50)
                time.sleep(luck.uniform(0.2, 1.8) * pause_s)
                strikes[strike(luck, server, pool)] += 1
            settled = time.monotonic() + 90
            while patiently(queue.unfinished) and time.monotonic() < settled:
                time.sleep(0.1)
    except ServerError as e:
        raise RuntimeError(f"The server did not come back. Its log ends with:\n{log_of(folder)}") from e
    finally:
        server.end(signal.SIGTERM)
        client.close()
    problems, statuses = account(folder / "soak.db", queue.count)
    if pool.error is not None:
        problems.append(f"the pool gave up: {pool.error}")
    return {
        "seconds": round(time.monotonic() - began, 1),
        "rollouts": queue.count,
        "attempts": dict(statuses),
        "strikes": dict(strikes),
        "problems": problems,
    }


def main(argv: list[str] | None = None) -> int:
    "Soak and print what came of it."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=4)
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        told = soak(Path(folder), seconds=args.seconds, seed=args.seed, n_workers=args.workers)
    for name, value in told.items():
        if name != "problems":
            print(f"{name:>9}: {value}")
    for problem in told["problems"][:20]:
        print(f"  PROBLEM: {problem}")
    print("every rollout is accounted for once" if not told["problems"] else f"{len(told['problems'])} problems")
    return bool(told["problems"])


if __name__ == "__main__":
    sys.exit(main())
