"""Does GRPO find what nobody shows it? Six doors have a code of one digit each, and the model is taught to say a wrong one, and the right one
once in fifty times. Prints each seed, and the curve with its spread.

python benchmarks/exploration.py --seeds 0 1 2 3 4 --steps 100
"""

import argparse
import hashlib
import random
import sys
import time
from statistics import fmean, stdev
from typing import Any

from aiohttp import ClientSession

from agentlightning_nb.algorithms.grpo import GRPO
from agentlightning_nb.litagent import rollout
from agentlightning_nb.rl.taught import Lesson, make_taught
from agentlightning_nb.trainer import Trainer

DOORS = "abcdef"


def code(door: str) -> int:
    "The code of a door."
    return int.from_bytes(hashlib.blake2b(f"door/{door}".encode(), digest_size=8).digest()) % 10


def guess(rng: random.Random) -> Lesson:
    "A wrong code for any door, and once in fifty times the right one."
    door = rng.choice(DOORS)
    wrong = (code(door) + rng.randint(1, 9)) % 10
    said = str(code(door) if rng.random() < 0.02 else wrong)
    return Lesson([{"role": "user", "content": door}, {"role": "assistant", "content": said}])


@rollout
async def agent(task: Any, llm: Any) -> float:
    "Says one code; the door opens or it does not."
    body = {"model": llm.model, "messages": [{"role": "user", "content": task.input["door"]}], **llm.sampling}
    async with ClientSession(headers={"Authorization": f"Bearer {llm.api_key}"}) as session:
        async with session.post(f"{llm.base_url}/chat/completions", json=body) as reply:
            reply.raise_for_status()
            said = (await reply.json())["choices"][0]["message"]["content"] or ""
    return float(said.strip() == str(code(task.input["door"])))


def measure(seed: int, steps: int) -> tuple[float, float, list[float], float]:
    "The share of doors that are opened greedily before and after, mean reward of each step, and CPU seconds."
    started = time.process_time()
    model, tokenizer = make_taught(guess, seed=seed, max_steps=60)
    options = {"n": 16, "batch_size": len(DOORS), "max_tokens": 8, "lr": 3e-3, "lr_end": 1.0}
    algorithm = GRPO(model, tokenizer, max_steps=steps, seed=seed, eval_every=steps, **options)
    doors = [{"door": door} for door in DOORS]
    with Trainer(n_workers=64) as trainer:
        run = trainer.fit(agent, algorithm=algorithm, tasks=doors, val_tasks=doors, progress=False)
        if run.status != "succeeded":
            raise SystemExit(f"Seed {seed}: {run.reason}")
        means = run.rewards().groupby(["mode", "step"])["reward"].mean()
    val, curve = means["val"], [float(v) for v in means["train"]]
    return float(val.iloc[0]), float(val.iloc[-1]), curve, time.process_time() - started


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--steps", type=int, default=100)
    given = parser.parse_args()
    curves, opened = [], 0
    print("| seed | before | after | sampled, first and last five steps | CPU s |\n|---|---|---|---|---|", flush=True)
    for seed in given.seeds:
        before, after, curve, cpu_s = measure(seed, given.steps)
        curves.append(curve)
        opened += after == 1.0
        ends = f"{fmean(curve[:5]):.3f}, {fmean(curve[-5:]):.3f}"
        print(f"| {seed} | {before:.3f} | {after:.3f} | {ends} | {cpu_s:.0f} |", flush=True)
    at = [*range(0, given.steps - 1, max(given.steps // 6, 1)), given.steps - 1]
    each = [[curve[step] for curve in curves] for step in at]
    spread = [f"{fmean(v):.2f} ± {stdev(v):.2f}" if len(v) > 1 else f"{v[0]:.2f}" for v in each]
    print("\n| step | " + " | ".join(map(str, at)) + " |\n|" + "---|" * (len(at) + 1))
    print("| reward | " + " | ".join(spread) + " |")
    print(f"\n{opened} of {len(given.seeds)} seeds open every door greedily.")
    return 0 if opened == len(given.seeds) else 1


if __name__ == "__main__":
    sys.exit(main())
