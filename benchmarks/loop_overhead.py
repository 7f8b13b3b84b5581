"""What the loop costs without a model: an agent that returns at once, thread workers, a file store.

    python benchmarks/loop_overhead.py

A step enqueues its rollouts, workers claim and finish them, the algorithm reads the rewards and publishes the next resources.
"""

import argparse
import platform
import sqlite3
import statistics
import tempfile
import time
from pathlib import Path

from agentlightning_nb.litagent import rollout
from agentlightning_nb.trainer import Trainer


@rollout
async def asynchronous(task):
    return 1.0


@rollout
def synchronous(task):
    return 1.0


class Keep:
    "An algorithm that changes nothing and notes when its steps come."

    def __init__(self):
        self.wall, self.cpu = [], []

    def optimize_step(self, rollout_results, resources_version):
        self.wall.append(time.perf_counter())
        self.cpu.append(time.process_time())
        return {"version": resources_version, "resources": {}}


def measure(agent, n_workers: int, rollouts: int, steps: int) -> tuple[list[float], list[float]]:
    "Rollouts a second, and milliseconds of CPU a rollout, for each step but the first."
    keep = Keep()
    with (
        tempfile.TemporaryDirectory() as scratch,
        Trainer(n_workers=n_workers, store=Path(scratch, "run.db")) as trainer,
    ):
        trainer.fit(agent, algorithm=keep, tasks=list(range(rollouts)), max_steps=steps, progress=False)
    wall = [b - a for a, b in zip(keep.wall, keep.wall[1:], strict=False)]
    cpu = [b - a for a, b in zip(keep.cpu, keep.cpu[1:], strict=False)]
    return [rollouts / s for s in wall], [1000 * s / rollouts for s in cpu]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rollouts", type=int, default=500, help="in a step")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    cases = [(agent, n) for agent in (asynchronous, synchronous) for n in (1, 8, 64)]
    found: dict[tuple, tuple[list[float], list[float]]] = {case: ([], []) for case in cases}
    for _ in range(args.rounds):
        for case in cases:
            rate, cpu = measure(*case, args.rollouts, args.steps)
            found[case][0].extend(rate)
            found[case][1].extend(cpu)
    print(
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {platform.machine()}, {args.rollouts} rollouts a step\n"
    )
    print("| agent | workers | rollouts/s (median) | ms CPU a rollout |\n|---|---|---|---|")
    for (agent, n), (rate, cpu) in found.items():
        print(f"| {agent.__name__} | {n} | {statistics.median(rate):.0f} | {statistics.median(cpu):.2f} |")


if __name__ == "__main__":
    main()
