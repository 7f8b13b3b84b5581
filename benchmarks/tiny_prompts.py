"""Prompt searches on a tiny real model: held-out reward before and after, over seeds. Nothing is simulated.

The model is made and taught on the spot (agentlightning_nb.instructed): it takes instructions from its system prompt and its tool's
description, and it writes the edits too, as variations that the search selects from. Selection is on validation tasks; the figures are on
held-out questions that neither the model's training nor the search has seen, answered greedily.
    python benchmarks/tiny_prompts.py --seeds 5
"""

import argparse
import logging
import statistics
import time

from agentlightning_nb.algorithms.apo import APO
from agentlightning_nb.algorithms.budget import Budget
from agentlightning_nb.algorithms.gepa import GEPA
from agentlightning_nb.algorithms.texts import texts_of
from agentlightning_nb.engines.torch import TorchEngine
from agentlightning_nb.instructed import REWRITE, InstructedAgent, first_instructions, make_instructed
from agentlightning_nb.rl.tiny import calculator_tasks
from agentlightning_nb.trainer import Trainer
from agentlightning_nb.types import LLM

GREEDY = {"temperature": 0.0, "max_tokens": 48}


def searches(rollouts: int, seed: int):
    options = {"budget": Budget(rollouts=rollouts), "sampling": GREEDY, "seed": seed}
    options["model_sampling"] = {"temperature": 0.8, "max_tokens": 96, "seed": seed}
    yield "APO", APO(max_steps=50, beam_width=2, branches=4, critique=None, edit=REWRITE, **options)
    yield "GEPA", GEPA(max_steps=200, edits="all", reflection=REWRITE, **options)


def held_out_reward(trainer: Trainer, resources, tasks) -> float:
    found = trainer.evaluate_rollouts(InstructedAgent(), tasks, resources, sampling=GREEDY)
    return statistics.fmean(r.final_reward or 0.0 for r in found)


def one(engine: TorchEngine, algorithm, seed: int):
    resources = first_instructions() | {"llm": LLM(engine.name)}
    tasks, val = calculator_tasks(40, seed=100 + seed), calculator_tasks(24, seed=200 + seed)
    held_out = calculator_tasks(200, seed=300 + seed, held_out=True)
    with Trainer(n_workers=32, upstream=engine) as trainer:
        before = held_out_reward(trainer, resources, held_out)
        began = time.perf_counter()
        run = trainer.fit(
            InstructedAgent(), algorithm=algorithm, tasks=tasks, val_tasks=val, resources=resources, progress=False
        )
        took = time.perf_counter() - began
        best = run.best_resources
        rollouts = [r for r in trainer.store.query_rollouts(run_id=run.run_id) if r.mode]
        return before, held_out_reward(trainer, best, held_out), len(rollouts), took, texts_of(best)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--search", choices=("APO", "GEPA"), help="only this one")
    parser.add_argument("--rollouts", type=int, default=1000)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    print("| seed | search | held-out reward before | after | rollouts | s | what it found |")
    print("|---|---|---|---|---|---|---|")
    for seed in range(options.first, options.first + options.seeds):
        model, tokenizer = make_instructed(seed=seed)
        with TorchEngine(model, tokenizer, name="tiny", seed=seed) as engine:
            for name, algorithm in searches(options.rollouts, seed):
                if options.search not in (None, name):
                    continue
                before, after, n, took, found = one(engine, algorithm, seed)
                words = " / ".join(found.values())
                print(f"| {seed} | {name} | {before:.3f} | {after:.3f} | {n} | {took:.0f} | {words} |", flush=True)


if __name__ == "__main__":
    main()
