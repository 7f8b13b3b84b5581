"""GEPA and APO against random edits on the simulated desk, at the same budget of rollouts: share of the oracle, bookkeeping, event-loop lag.

Everything here is simulated (see agentlightning_nb.simulated): the figures are about the searches, never about a model.
    python benchmarks/prompt_search.py --seeds 20 --rollouts 1000
"""

import argparse
import asyncio
import json
import logging
import random
import re
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

from agentlightning_nb.algorithms.apo import APO
from agentlightning_nb.algorithms.base import Algorithm
from agentlightning_nb.algorithms.gepa import GEPA
from agentlightning_nb.algorithms.prompts import Budget, Search, SearchOptions, texts_of
from agentlightning_nb.run import TrainingRun
from agentlightning_nb.server import AgentLightningServer
from agentlightning_nb.simulated import (
    IN_TOOL,
    PHRASES,
    RULE,
    RULES,
    SPAN,
    TOPICS,
    Clerk,
    Desk,
    desk_tasks,
    first_texts,
)
from agentlightning_nb.trainer import Trainer
from agentlightning_nb.types import PromptTemplate


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
    "Each search, and how many validation tasks it gets."
    yield "random edits", RandomEdits(**more), 40
    published = {"max_steps": 3, "beam_width": 4, "branches": 4, "batch_size": 4, "race": False}
    yield (
        "APO with agent-lightning 0.3's defaults: 4 x 4, 3 rounds, batches of 4, 16 for validation",
        APO(**published, **more),
        16,
    )
    yield "APO, beam 2 x 4", APO(max_steps=100, beam_width=2, branches=4, **more), 40
    yield "GEPA", GEPA(max_steps=200, **more), 40


class Timed:
    "The CPU seconds of the thread on which a search runs, less those inside collect and ask."

    def __init__(self):
        self.own = self.inside = 0.0
        self._wrap(TrainingRun, "collect", "inside"), self._wrap(TrainingRun, "ask", "inside")
        self._wrap(Search, "through", "own")

    def _wrap(self, owner, name, sum_of):
        original = getattr(owner, name)

        def measured(*args, **kwargs):
            started = time.thread_time()
            try:
                return original(*args, **kwargs)
            finally:
                setattr(self, sum_of, getattr(self, sum_of) + time.thread_time() - started)

        setattr(owner, name, measured)


LAG = """
import asyncio, statistics, time
async def lags_until(done):
    lags = []
    while not done():
        started = time.perf_counter()
        await asyncio.sleep(0.005)
        lags.append(1000 * (time.perf_counter() - started - 0.005))
    return max(lags), statistics.quantiles(lags, n=100)[98] if len(lags) > 1 else lags[0]
"""
exec(LAG)
BESIDE = """
import select, sys
print(*asyncio.run(lags_until(lambda: select.select([sys.stdin], [], [], 0)[0])))
"""


def lag_beside(run):
    "The lag of this kernel's loop while a run goes on, and of a loop in a process that does nothing else: worst and p99, ms."
    idle = subprocess.Popen(
        [sys.executable, "-c", LAG + BESIDE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    own = asyncio.run(lags_until(lambda: run.done))  # noqa: F821
    said, _ = idle.communicate("\n", timeout=60)
    return *own, *map(float, said.split())


def one(algorithm, n_val, seed, took):
    clerk = Clerk(seed)
    with Trainer(n_workers=16, upstream=clerk) as trainer:
        took.own, took.inside, began, used = 0.0, 0.0, time.perf_counter(), time.process_time()
        run = trainer.start(
            Desk(),
            algorithm=algorithm,
            tasks=desk_tasks(clerk, 40, seed=2 * seed),
            val_tasks=desk_tasks(clerk, n_val, seed=2 * seed + 1),
            resources=first_texts(),
        )
        lags = lag_beside(run)
        run.wait()
        seconds, used = time.perf_counter() - began, time.process_time() - used
        rollouts = [r for r in trainer.store.query_rollouts(run_id=run.run_id) if r.mode]
        share = clerk.worth(run.best_resources) / clerk.oracle()
        return share, len(rollouts), *(1000 * t / len(rollouts) for t in (took.own - took.inside, used)), seconds, *lags


class Reviewers(Clerk):
    "The clerk, and the two writers whom agent-lightning 0.3's APO asks: the same rules behind its words for a review and an edit."

    def _said(self, body):
        text = "\n".join(str(m["content"]) for m in body["messages"])
        if body["model"] == "sim-critic":
            rules = self._rules_for(text, [t for t in TOPICS if t not in IN_TOOL])  # there is no tool to describe
            return " ".join(["The prompt should say:", *rules])
        if body["model"] == "sim-editor":
            prompt, critique = re.split(
                r"#+ (?:Critique|CRITIQUE)\n", re.split(r"#+ (?:Prompt Template|PROMPT)\n", text)[1]
            )
            rules = RULE.findall(critique)[: 1 if "ONE critique point" in text else None]
            return reduce(lambda current, rule: self._added(current, rule, SPAN["system"]), rules, prompt.strip())
        return super()._said(body)


def theirs(python, seed):
    "Share of the oracle and rollouts of 0.3's own APO; the share of what a prompt alone can reach is the third."
    clerk, first = Reviewers(seed), first_texts()
    said = lambda n, part: [t.input for t in desk_tasks(clerk, n, seed=2 * seed + part)]  # noqa: E731
    told = {"seed": seed, "system": first["system"].template, "tasks": said(40, 0), "val_tasks": said(40, 1)}
    function = {"name": "lookup", "description": first["lookup"].description, "parameters": first["lookup"].parameters}
    with AgentLightningServer(upstream=clerk) as server:
        told |= {"url": server.url, "token": server.token, "tool": {"type": "function", "function": function}}
        script = Path(__file__).with_name("agl03_apo.py")
        done = subprocess.run([python, script], input=json.dumps(told), capture_output=True, text=True, timeout=3000)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    found = json.loads(done.stdout.splitlines()[-1])
    worth = clerk.worth(first | {"system": PromptTemplate(found["system"])})
    best = " ".join([first["system"].template, *(RULES[t] for t in TOPICS[: SPAN["system"]])])
    return worth / clerk.oracle(), found["rollouts"], worth / clerk.worth(first | {"system": PromptTemplate(best)})


def beside(python, seeds):
    "The table's row of 0.3's own APO; it waits most of the time, so all seeds at once."
    with ThreadPoolExecutor(len(seeds)) as pool:
        share, n, alone = zip(*pool.map(lambda seed: theirs(python, seed), seeds), strict=True)
    print(
        f"agent-lightning 0.3.0's own APO, prompt only: mean {statistics.fmean(share):.3f} of the oracle, worst {min(share):.3f}, "
        f"{statistics.fmean(alone):.3f} of what a prompt alone can reach, {sum(a >= 0.9 for a in alone)} seeds at 0.9 of that, {statistics.fmean(n):.0f} rollouts"
    )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--rollouts", type=int, default=1000)
    parser.add_argument("--json", action="store_true", help="print the measurements too, seed by seed")
    parser.add_argument(
        "--agl03", help="an interpreter with agentlightning==0.3.0 and poml: measure its own APO, and nothing else"
    )
    options = parser.parse_args()
    if options.agl03:
        return beside(options.agl03, range(options.first, options.first + options.seeds))
    logging.disable(logging.WARNING)
    took, found = Timed(), {}
    for seed in range(options.first, options.first + options.seeds):
        for name, algorithm, n_val in searches(Budget(rollouts=options.rollouts), seed):
            found.setdefault(name, []).append(one(algorithm, n_val, seed, took))
    if options.json:
        print(json.dumps(found))
    print(
        f"simulated desk, {options.seeds} seeds, at most {options.rollouts} rollouts each; shares of the oracle on 400 held-out questions"
    )
    print(
        "| search | mean | worst | seeds at 0.9 | beats random | rollouts | CPU ms a rollout: the search, all | loop lag, ms: worst, p99 | of an idle process | s |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    base = [row[0] for row in found["random edits"]]
    for name, rows in found.items():
        share, n, cost, whole, seconds, worst, p99, idle_worst, idle = map(list, zip(*rows, strict=True))
        beats = sum(a > b for a, b in zip(share, base, strict=True))
        print(
            f"| {name} | {statistics.fmean(share):.3f} | {min(share):.3f} | {sum(s >= 0.9 for s in share)} | {beats} | "
            f"{statistics.fmean(n):.0f} | {statistics.fmean(cost):.2f}, {statistics.fmean(whole):.1f} | {max(worst):.0f}, {statistics.median(p99):.1f} | "
            f"{max(idle_worst):.0f}, {statistics.median(idle):.1f} | {statistics.fmean(seconds):.1f} |"
        )


if __name__ == "__main__":
    main()
