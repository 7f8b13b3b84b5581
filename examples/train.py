"""Trains one of these examples and says what it reached: `python examples/train.py text_to_sql`.

    python examples/train.py text_to_sql                                      # a tiny real model, on a laptop
    python examples/train.py text_to_sql --model Qwen/Qwen2.5-0.5B-Instruct   # any Hugging Face model, on a GPU
    python examples/train.py room_booking --endpoint http://localhost:8001/v1 --model gpt-5-mini   # a hosted model
    python examples/train.py text_to_sql --small                              # a minute's worth, to see that it runs

The agent stands in `examples/NAME/agent.py`; its README says what it needs, what it costs and what it reaches. A hosted model's weights cannot be
trained: with --endpoint an example that searches prompts does so, and any other only says how good the model is.
"""

import argparse
import importlib.util
import os
import sys
from pathlib import Path
from statistics import fmean
from types import ModuleType
from typing import Any

from agentlightning_nb.trainer import Trainer
from agentlightning_nb.types import LLM

HERE = Path(__file__).parent
sys.dont_write_bytecode = True


def load(name: str) -> ModuleType:
    "The module examples/NAME/agent.py."
    spec = importlib.util.spec_from_file_location(f"example_{name}", HERE / name / "agent.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def names() -> list[str]:
    "The examples that there are."
    return sorted(path.parent.name for path in HERE.glob("*/agent.py"))


def tests_of(example: ModuleType, small: bool) -> list[dict[str, Any]]:
    "The held-out tasks."
    return example.tasks(16 if small else 100, seed=2, held_out=True)


def train_weights(
    example: ModuleType, *, model: str | None, steps: int | None, small: bool, store: str
) -> tuple[float, float]:
    "GRPO on a Hugging Face model, or on a tiny one that is made here and taught to begin; mean reward before and after."
    from agentlightning_nb.algorithms.grpo import GRPO
    from agentlightning_nb.rl.taught import make_taught

    if model is not None:
        algorithm = GRPO(model, max_steps=steps or 100, max_tokens=512)
    else:
        made = make_taught(example.lesson, forks=example.FORKS, enough=0.97, max_steps=60 if small else 400)
        options = {"batch_size": 4, "n": 4} if small else {"batch_size": 16}
        options["trained_agents"] = getattr(example, "TRAINED", ())
        algorithm = GRPO(
            *made, max_steps=steps or (2 if small else getattr(example, "STEPS", 40)), max_tokens=96, **options
        )
    with Trainer(n_workers=32, store=store) as trainer:
        run = trainer.fit(example.agent, algorithm=algorithm, tasks=example.tasks(400, seed=1))
        versions = trainer.store.query_resources(sort_order="asc").items
        first = next(v.resources for v in versions if "weights" in v.resources)
        return tuple(mean_reward(trainer, example, small, r, temperature=0.0) for r in (first, run.best_resources))


def train_prompt(
    example: ModuleType, *, endpoint: str | None, model: str, small: bool, store: str
) -> tuple[float, float]:
    "A prompt search with a hosted model, or with the simulated one; mean reward before and after."
    first = example.resources(model)
    tasks = [example.tasks(20 if small else 40, seed=seed) for seed in (1, 3)]
    with Trainer(n_workers=8, upstream=endpoint or example.simulated(), store=store) as trainer:
        algorithm = example.prompt_search(model, small=small)
        run = trainer.fit(example.agent, algorithm=algorithm, tasks=tasks[0], val_tasks=tasks[1], resources=first)
        return tuple(mean_reward(trainer, example, small, r) for r in (first, run.best_resources))


def mean_reward(
    trainer: Trainer, example: ModuleType, small: bool, resources: dict[str, Any], **sampling: Any
) -> float:
    "On the held-out tasks; a failed rollout counts as 0."
    rollouts = trainer.evaluate_rollouts(example.agent, tests_of(example, small), resources, sampling=sampling)
    return fmean(r.final_reward or 0.0 for r in rollouts)


def ask(example: ModuleType, *, endpoint: str, model: str, small: bool) -> float:
    "Mean reward of a hosted model as it is."
    with Trainer(n_workers=8, upstream=endpoint) as trainer:
        return mean_reward(trainer, example, small, {"llm": LLM(model)})


def make_parser() -> argparse.ArgumentParser:
    "What the command line takes."
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=names())
    parser.add_argument("--model", help="a Hugging Face model instead of the tiny one; with --endpoint, a name there")
    parser.add_argument(
        "--endpoint",
        default=os.environ.get("OPENAI_BASE_URL"),
        help="an OpenAI-compatible URL; its key is in OPENAI_API_KEY",
    )
    parser.add_argument("--steps", type=int, help="of training weights")
    parser.add_argument("--small", action="store_true", help="a minute's worth")
    parser.add_argument("--store", help="where the run is kept; else NAME.db")
    return parser


def main(argv: list[str] | None = None) -> None:
    parser = make_parser()
    given = parser.parse_args(argv)
    if given.endpoint and not given.model:
        parser.error("--endpoint needs --model, the name of a model there")
    example, store = load(given.name), given.store or f"{given.name}.db"
    if hasattr(example, "prompt_search"):
        model = given.model if given.endpoint else example.simulated().name
        before, after = train_prompt(example, endpoint=given.endpoint, model=model, small=given.small, store=store)
    elif given.endpoint:
        reward = ask(example, endpoint=given.endpoint, model=given.model, small=given.small)
        return print(f"Mean reward of {given.model} on held-out tasks: {reward:.2f}")
    else:
        before, after = train_weights(example, model=given.model, steps=given.steps, small=given.small, store=store)
    simulated = " The model is SIMULATED." if hasattr(example, "prompt_search") and not given.endpoint else ""
    print(f"Mean reward on held-out tasks: {before:.2f} before, {after:.2f} after.{simulated} The run is in {store}.")


if __name__ == "__main__":
    main()
