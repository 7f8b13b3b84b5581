"""A training step of ours beside one of Hugging Face TRL's GRPOTrainer: same model, task, group size and steps, alternating.

    pip install -e '.[train]' trl
    python benchmarks/grpo_vs_trl.py

The task has one turn: call the calculator with the expression that the question asks for, or refuse what is no arithmetic. Three ways
of a step are timed, each 16 tasks x 8 samples, one optimizer step, one torch thread:
  trl   GRPOTrainer: generate with transformers, reward function, update
  core  ours without a store: TorchEngine samples, Policy updates
  loop  ours as a user has it: agents call the model by HTTP through the proxy, everything is recorded in a SQLite file
"""

import argparse
import asyncio
import json
import logging
import platform
import re
import statistics
import tempfile
import time
import warnings
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import torch
import transformers

from agentlightning_nb.algorithms.grpo import GRPO
from agentlightning_nb.engines.toolcalls import parse_message
from agentlightning_nb.engines.torch import TorchEngine
from agentlightning_nb.litagent import rollout
from agentlightning_nb.rl.advantages import group_advantages
from agentlightning_nb.rl.options import Optim
from agentlightning_nb.rl.policy import Policy
from agentlightning_nb.rl.rows import rows_of
from agentlightning_nb.rl.tiny import REFUSAL, TOOLS, calculator_tasks, make_tiny
from agentlightning_nb.trainer import Trainer
from agentlightning_nb.types import Triplet

TASKS, GROUP, TOKENS, RATE = 16, 8, 40, 1e-3


def rows() -> list[dict]:
    "Questions, each with the expression that the calculator should be called with, None for what should be refused."
    found = []
    for task in calculator_tasks(2000):
        terms = re.search(r"(\d+) ([-+*]) (\d+)", task["question"])
        found.append({"question": task["question"], "expression": "".join(terms.groups()) if terms else None})
    return found


def grade(message: dict, expression: str | None) -> float:
    "1 for the right call or the right refusal."
    calls = message.get("tool_calls") or []
    if expression is None:
        return float(message.get("content") == REFUSAL)
    return float(len(calls) == 1 and calls[0]["function"]["arguments"] == json.dumps({"expression": expression}))


def core_steps(model, tokenizer, steps: int) -> list[tuple[float, float, float, float]]:
    "Seconds of each step: all of it, sampling, update, and those of the processor."

    async def sample(engine, batch):
        ask = lambda row: engine.chat(  # noqa: E731
            {"messages": [{"role": "user", "content": row["question"]}], "tools": TOOLS, "max_tokens": TOKENS}
        )
        return await asyncio.gather(*(ask(row) for row in batch))

    policy, times, data = Policy(model, tokenizer, optim=Optim(lr=RATE, muon=False)), [], rows()
    with TorchEngine(model, tokenizer) as engine:
        for step in range(steps):
            started, cpu = time.perf_counter(), time.process_time()
            batch = [row for row in data[step * TASKS : (step + 1) * TASKS] for _ in range(GROUP)]
            replies = asyncio.run(sample(engine, batch))
            sampled = time.perf_counter()
            rewards = [
                grade(r.body["choices"][0]["message"], row["expression"]) for r, row in zip(replies, batch, strict=True)
            ]
            advantages = group_advantages(rewards, [i // GROUP for i in range(len(batch))])
            trained = []
            for reply, advantage in zip(replies, advantages, strict=True):
                (row,) = rows_of([Triplet(reply.prompt_ids, reply.response_ids, reply.logprobs, temperature=1.0)])
                trained.append(replace(row, advantage=advantage))
            with engine.paused():
                policy.update(trained)
            ended = time.perf_counter()
            times.append((ended - started, sampled - started, ended - sampled, time.process_time() - cpu))
    return times


def loop_steps(model, tokenizer, steps: int) -> list[float]:
    "Seconds between the ends of steps of `Trainer.fit`."
    from aiohttp import ClientSession

    @rollout
    async def agent(task, llm):
        async with ClientSession(headers={"Authorization": f"Bearer {llm.api_key}"}) as session:
            body = {
                "model": llm.model,
                "messages": [{"role": "user", "content": task.input["question"]}],
                "tools": TOOLS,
            }
            async with session.post(f"{llm.base_url}/chat/completions", json=body | llm.sampling) as reply:
                message = (await reply.json())["choices"][0]["message"]
        return grade(message, task.input["expression"])

    algorithm = GRPO(
        model,
        tokenizer,
        n=GROUP,
        batch_size=TASKS,
        lr=RATE,
        optim=Optim(muon=False),
        max_tokens=TOKENS,
        eval_every=10_000,
    )
    with tempfile.TemporaryDirectory() as scratch, Trainer(n_workers=128, store=Path(scratch, "run.db")) as trainer:
        run = trainer.fit(agent, algorithm=algorithm, tasks=rows(), max_steps=steps, progress=False)
        ends = [m["time"] for m in trainer.store.query_metrics(run.run_id, name="reward")]
    return [b - a for a, b in zip(ends, ends[1:], strict=False)]


def trl_steps(model, tokenizer, steps: int) -> list[tuple[float, float]]:
    "Seconds of each step of TRL's trainer, and those of the processor."
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    class Clock(transformers.TrainerCallback):
        def __init__(self):
            self.times, self.started = [], (0.0, 0.0)

        def on_step_begin(self, *_, **__):
            self.started = time.perf_counter(), time.process_time()

        def on_step_end(self, *_, **__):
            self.times.append((time.perf_counter() - self.started[0], time.process_time() - self.started[1]))

    def reward(completions, expression, **_):
        return [grade(parse_message(text), wanted) for text, wanted in zip(completions, expression, strict=True)]

    def prompt(row):
        said = [{"role": "user", "content": row["question"]}]
        return tokenizer.apply_chat_template(said, tools=TOOLS, tokenize=False, add_generation_prompt=True)

    data = Dataset.from_list([{"prompt": prompt(r), "expression": r["expression"]} for r in rows()])
    clock = Clock()
    with tempfile.TemporaryDirectory() as scratch:
        config = GRPOConfig(
            output_dir=scratch,
            per_device_train_batch_size=TASKS * GROUP,
            num_generations=GROUP,
            max_completion_length=TOKENS,
            max_steps=steps,
            learning_rate=RATE,
            lr_scheduler_type="constant",
            temperature=1.0,
            beta=0.0,
            scale_rewards=False,
            gradient_checkpointing=False,
            bf16=False,
            use_cpu=not torch.cuda.is_available(),
            report_to=[],
            save_strategy="no",
            logging_steps=10_000,
            disable_tqdm=True,
        )
        GRPOTrainer(
            model, reward, args=config, train_dataset=data, processing_class=tokenizer, callbacks=[clock]
        ).train()
    return clock.times


def milliseconds(times: list[float]) -> str:
    ordered = sorted(times)
    low, high = ordered[len(ordered) // 10], ordered[-1 - len(ordered) // 10]
    return f"{1000 * statistics.median(times):.0f} ({1000 * low:.0f}-{1000 * high:.0f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=12, help="steps in a round, of which two are warm-up")
    parser.add_argument("--rounds", type=int, default=4)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("trl").setLevel(logging.ERROR)
    transformers.utils.logging.set_verbosity_error()
    torch.set_num_threads(1)
    import trl

    model, tokenizer = make_tiny()
    core, loop, peer = [], [], []
    for number in range(args.rounds):
        core += core_steps(deepcopy(model), tokenizer, args.steps)[2:]
        peer += trl_steps(deepcopy(model), tokenizer, args.steps)[2:]
        loop += loop_steps(deepcopy(model), tokenizer, args.steps)[1:]
        print(f"round {number + 1} of {args.rounds}", flush=True)
    whole, sampling, update, cpu = zip(*core, strict=True)
    peer, peer_cpu = zip(*peer, strict=True)
    middle = statistics.median
    print(
        f"\ntorch {torch.__version__}, transformers {transformers.__version__}, trl {trl.__version__}, {platform.machine()}"
    )
    print(f"A step of {TASKS} x {GROUP} samples, ms: median (10-90 %), {len(peer)} steps each\n")
    print("| way | ms a step | TRL takes | ms of the processor | TRL uses |\n|---|---|---|---|---|")
    print(f"| TRL GRPOTrainer | {milliseconds(peer)} | 1 | {milliseconds(peer_cpu)} | 1 |")
    longer, more = middle(peer) / middle(whole), middle(peer_cpu) / middle(cpu)
    print(
        f"| ours, core | {milliseconds(whole)} | {longer:.1f} times as long | {milliseconds(cpu)} | {more:.1f} times as much |"
    )
    print(f"| ours, whole loop | {milliseconds(loop)} | {middle(peer) / middle(loop):.2f} times as long | | |")
    print(
        f"\nWhere it goes: sampling {milliseconds(sampling)}, rows and update {milliseconds(update)}, and in the whole loop"
    )
    print(f"{1000 * (middle(loop) - middle(whole)):.0f} ms for agents, HTTP, proxy and store.")


if __name__ == "__main__":
    main()
