"""What GRPO learns beside the demo's agent, on every seed: a curve with its spread, and held-out accuracy before and after.

    python benchmarks/learning.py --task sorting --seeds 0 1 2 3 4

Tiny real models (some 130,000 parameters), made and taught on the spot, then trained through the whole loop: agent, proxy, store, algorithm.
  doors     exploration: six doors have a code of one digit each; the model is taught to say a wrong one, and the right one once in fifty times
  sorting   five digits in order; two thirds of what it is taught is wrong
  addition  the honest hard case: two numbers under 100 added in the head, one token at a time, without a tool
"""

import argparse
import hashlib
import random
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from aiohttp import ClientSession

from agentlightning_nb.algorithms.grpo import GRPO
from agentlightning_nb.litagent import rollout
from agentlightning_nb.rl.options import KL
from agentlightning_nb.rl.taught import Lesson, make_taught
from agentlightning_nb.rl.tiny import is_held_out
from agentlightning_nb.trainer import Trainer

DOORS = "abcdef"
Question = tuple[str, str]  # what is asked, and what it should say


def code(door: str) -> str:
    "The code of a door."
    return str(int.from_bytes(hashlib.blake2b(f"door/{door}".encode(), digest_size=8).digest()) % 10)


def door(rng: random.Random) -> Question:
    name = rng.choice(DOORS)
    return name, code(name)


def wrong_code(rng: random.Random, right: str) -> str:
    return str((int(right) + rng.randint(1, 9)) % 10)


def digits(rng: random.Random) -> Question:
    found = [rng.randint(0, 9) for _ in range(5)]
    return "sort " + " ".join(map(str, found)), " ".join(map(str, sorted(found)))


def swapped(rng: random.Random, right: str) -> str:
    found, i = right.split(), rng.randrange(4)
    found[i], found[i + 1] = found[i + 1], str(rng.randint(0, 9))
    return " ".join(found)


def addition(rng: random.Random) -> Question:
    a, b = rng.randint(0, 99), rng.randint(0, 99)
    return f"{a} + {b}", str(a + b)


def nearby(rng: random.Random, right: str) -> str:
    return str(abs(int(right) + rng.choice((-10, -1, 1, 10))))


@dataclass(frozen=True)
class Task:
    "Questions, how they are answered in lessons, and how the model is trained on them."

    ask: Callable[[random.Random], Question]
    wrong: Callable[[random.Random, str], str]
    right: float  # share of right answers in lessons
    teach: Mapping[str, Any]
    steps: int
    options: Mapping[str, Any]
    questions: tuple[str, ...] = ()  # all there are, where they are few; nothing is held out then
    goal: float = 0.95  # greedy accuracy that counts as learnt

    def lesson(self, rng: random.Random) -> Lesson:
        "A question that is not held out, with an answer that may be wrong."
        asked, right = self.question(rng, held_out=False)
        good = rng.random() < self.right
        said = right if good else self.wrong(rng, right)
        return Lesson([{"role": "user", "content": asked}, {"role": "assistant", "content": said}], right=good)

    def question(self, rng: random.Random, *, held_out: bool) -> Question:
        while True:
            asked, right = self.ask(rng)
            if self.questions or is_held_out(asked) == held_out:
                return asked, right

    def tasks(self, n: int, seed: int, *, held_out: bool) -> list[dict[str, str]]:
        "Different questions."
        rng, found = random.Random(f"{seed}/{held_out}"), {}
        while len(found) < (len(self.questions) or n):
            asked, right = self.question(rng, held_out=held_out)
            found[asked] = {"question": asked, "answer": right}
        return list(found.values())


TASKS = {
    "doors": Task(
        door,
        wrong_code,
        0.02,
        {"max_steps": 60},
        100,
        {"n": 32, "batch_size": 6, "lr": 3e-3, "lr_end": 1.0, "max_tokens": 4, "kl": KL(0.04), "advantage": "max_rl"},
        questions=tuple(DOORS),
        goal=1.0,
    ),
    "sorting": Task(
        digits, swapped, 0.33, {"max_steps": 120}, 80, {"n": 8, "batch_size": 24, "lr": 1e-3, "max_tokens": 12}
    ),
    "addition": Task(
        addition,
        nearby,
        1.0,
        {"max_steps": 400, "forks": 0, "enough": 0.5},
        200,
        {"n": 8, "batch_size": 32, "lr": 1e-3, "max_tokens": 6},
        goal=0.75,
    ),
}


@rollout
async def agent(task: Any, llm: Any) -> float:
    "One answer, right or wrong."
    body = {"model": llm.model, "messages": [{"role": "user", "content": task.input["question"]}], **llm.sampling}
    async with ClientSession(headers={"Authorization": f"Bearer {llm.api_key}"}) as session:
        async with session.post(f"{llm.base_url}/chat/completions", json=body) as reply:
            reply.raise_for_status()
            said = (await reply.json())["choices"][0]["message"]["content"] or ""
    return float(said.strip() == task.input["answer"])


def measure(task: Task, seed: int, steps: int) -> tuple[float, float, list[float], float]:
    "Greedy accuracy on held-out questions before and after, mean reward of each step, and CPU seconds."
    started = time.process_time()
    model, tokenizer = make_taught(task.lesson, seed=seed, **task.teach)
    algorithm = GRPO(model, tokenizer, max_steps=steps, seed=seed, eval_every=steps, **task.options)
    asked, held_out = task.tasks(2000, seed, held_out=False), task.tasks(200, seed, held_out=True)
    with Trainer(n_workers=64) as trainer:
        run = trainer.fit(agent, algorithm=algorithm, tasks=asked, val_tasks=held_out, progress=False)
        if run.status != "succeeded":
            raise SystemExit(f"Seed {seed}: {run.reason}")
        means = run.rewards().groupby(["mode", "step"])["reward"].mean()
    val, curve = means["val"], [float(v) for v in means["train"]]
    return float(val.iloc[0]), float(val.iloc[-1]), curve, time.process_time() - started


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", choices=TASKS, default="sorting")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--steps", type=int, help="instead of the task's own number")
    given = parser.parse_args()
    task = TASKS[given.task]
    steps, curves, learnt = given.steps or task.steps, [], 0
    print("| seed | before | after | sampled, first and last five steps | CPU s |\n|---|---|---|---|---|", flush=True)
    for seed in given.seeds:
        before, after, curve, cpu_s = measure(task, seed, steps)
        curves.append(curve)
        learnt += after >= task.goal
        ends = f"{fmean(curve[:5]):.3f}, {fmean(curve[-5:]):.3f}"
        print(f"| {seed} | {before:.3f} | {after:.3f} | {ends} | {cpu_s:.0f} |", flush=True)
    at = [*range(0, steps - 1, max(steps // 6, 1)), steps - 1]
    each = [[curve[step] for curve in curves] for step in at]
    spread = [f"{fmean(v):.2f} ± {stdev(v):.2f}" if len(v) > 1 else f"{v[0]:.2f}" for v in each]
    print("\n| step | " + " | ".join(map(str, at)) + " |\n|" + "---|" * (len(at) + 1))
    print("| reward | " + " | ".join(spread) + " |")
    print(f"\n{learnt} of {len(given.seeds)} seeds reached {task.goal:g}.")
    return 0 if learnt == len(given.seeds) else 1


if __name__ == "__main__":
    sys.exit(main())
