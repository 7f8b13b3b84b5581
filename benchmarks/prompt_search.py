"""GEPA and APO against random edits on the simulated desk, at the same budget of rollouts: share of the oracle, bookkeeping, event-loop lag.

Everything here is simulated (see agentlightning_nb.simulated): the figures are about the searches, never about a model.
    python benchmarks/prompt_search.py --seeds 20 --rollouts 1000
"""

import argparse
import asyncio
import json
import logging
import random
import statistics
import time
from dataclasses import dataclass

from agentlightning_nb.algorithms.apo import APO
from agentlightning_nb.algorithms.base import Algorithm
from agentlightning_nb.algorithms.gepa import GEPA
from agentlightning_nb.algorithms.prompts import Budget, Search, SearchOptions, texts_of
from agentlightning_nb.run import TrainingRun
from agentlightning_nb.simulated import PHRASES, SPAN, Clerk, Desk, desk_tasks, first_texts
from agentlightning_nb.trainer import Trainer


@dataclass(frozen=True)
class RandomEdits(SearchOptions, Algorithm):
    "Adds a random rule to a random text of the best candidate so far, and keeps what is better on validation."

    seed: int = 0

    def run(self, run):
        Search(run, self).through(self._steps)

    def _steps(self, search):
        drawn, clerk = random.Random(self.seed), Clerk(self.seed)
        for step in range(100_000):
            best = search.best
            name = drawn.choice(list(SPAN))
            text = clerk._added(texts_of(best.resources)[name], drawn.choice(PHRASES), SPAN[name])
            edit = search.propose([best], {name: text}, "random edit")
            if edit is not None:
                search.mean(edit, step=step)
            search.log(step)


def searches(budget, seed):
    more = {"budget": budget, "seed": seed}
    yield "random edits", RandomEdits(**more)
    yield "APO, beam 4 x 4 (0.3's published defaults: 3 rounds)", APO(max_steps=3, **more)
    yield "APO, beam 2 x 4", APO(max_steps=100, beam_width=2, branches=4, **more)
    yield "GEPA", GEPA(max_steps=200, **more)


def timed():
    "Makes collect and ask of every run add up the seconds that they take."
    took = {"inside": 0.0}

    def wrap(name):
        original = getattr(TrainingRun, name)

        def measured(self, *args, **kwargs):
            started = time.perf_counter()
            try:
                return original(self, *args, **kwargs)
            finally:
                took["inside"] += time.perf_counter() - started

        setattr(TrainingRun, name, measured)

    wrap("collect"), wrap("ask")
    return took


async def followed(run):
    "The worst and the 99th percentile of the lag of this loop while the run goes on, in milliseconds."
    lags = []
    while not run.done:
        started = time.perf_counter()
        await asyncio.sleep(0.005)
        lags.append(1000 * (time.perf_counter() - started - 0.005))
    return max(lags), statistics.quantiles(lags, n=100)[98] if len(lags) > 1 else lags[0]


def one(name, algorithm, seed, took):
    clerk = Clerk(seed)
    with Trainer(n_workers=16, upstream=clerk) as trainer:
        took["inside"], began = 0.0, time.perf_counter()
        run = trainer.start(
            Desk(),
            algorithm=algorithm,
            tasks=desk_tasks(clerk, 40, seed=2 * seed),
            val_tasks=desk_tasks(clerk, 40, seed=2 * seed + 1),
            resources=first_texts(),
        )
        worst, p99 = asyncio.run(followed(run))
        run.wait()
        inside = took["inside"]
        seconds = time.perf_counter() - began
        rollouts = [r for r in trainer.store.query_rollouts(run_id=run.run_id) if r.mode]
        share = clerk.worth(run.best_resources) / clerk.oracle()
        return share, len(rollouts), 1000 * (seconds - inside) / len(rollouts), worst, p99, seconds


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--rollouts", type=int, default=1000)
    parser.add_argument("--json", action="store_true", help="print the measurements too, seed by seed")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    took, found = timed(), {}
    for seed in range(options.first, options.first + options.seeds):
        for name, algorithm in searches(Budget(rollouts=options.rollouts), seed):
            found.setdefault(name, []).append(one(name, algorithm, seed, took))
    if options.json:
        print(json.dumps(found))
    print(
        f"simulated desk, {options.seeds} seeds, at most {options.rollouts} rollouts each; shares of the oracle on 400 held-out questions"
    )
    print(
        "| search | mean | worst | seeds at 0.9 | beats random | rollouts | bookkeeping, ms a rollout | loop lag, ms: worst, p99 | s |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    base = [row[0] for row in found["random edits"]]
    for name, rows in found.items():
        share, n, cost, worst, p99, seconds = map(list, zip(*rows, strict=True))
        beats = sum(a > b for a, b in zip(share, base, strict=True))
        print(
            f"| {name} | {statistics.fmean(share):.3f} | {min(share):.3f} | {sum(s >= 0.9 for s in share)} | {beats} | "
            f"{statistics.fmean(n):.0f} | {statistics.fmean(cost):.2f} | {max(worst):.1f}, {statistics.median(p99):.1f} | {statistics.fmean(seconds):.1f} |"
        )


if __name__ == "__main__":
    main()
