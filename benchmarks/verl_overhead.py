"""What of a step under verl is this package's: enqueueing, the proxy, the store, reading trajectories, building verl's batch, rows, versions.

    python benchmarks/verl_overhead.py                    in the environment of `make cluster`, which is a processor's
    python benchmarks/verl_overhead.py --gpus 1 --model Qwen/Qwen3-0.6B --max-tokens 512

verl's part of a step is measured in the same step: its own update, log-probabilities and weight sync, and for its generation the same calls once
more, straight to its servers: as many at a time, the turns of a rollout one after another, as many tokens. What a step takes beyond that is ours,
and so is the agent's own code.
"""

import argparse
import asyncio
import contextlib
import http.client
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from agentlightning_nb.algorithms.verl import VERL
from agentlightning_nb.litagent import rollout
from agentlightning_nb.trainer import Trainer
from agentlightning_nb.types import AgentLightningTask
from agentlightning_nb.verl.cpu import on_cpu

PARTS = ("update", "logprobs", "sync")


@rollout
def asks_twice(task, llm):
    "Two turns of one conversation by the cheapest client there is; the reward is the share of digits."
    at = urlsplit(llm.base_url)
    connection = http.client.HTTPConnection(at.hostname, at.port, timeout=300)
    chat = [{"role": "user", "content": task.context}]
    headers = {"Authorization": f"Bearer {llm.api_key}", "Content-Type": "application/json"}
    for asked in ("Sure?", None):
        body = json.dumps({"model": llm.model, "messages": chat})
        connection.request("POST", f"{at.path}/chat/completions", body, headers)
        said = json.loads(connection.getresponse().read())["choices"][0]["message"]["content"]
        chat += [{"role": "assistant", "content": said}, {"role": "user", "content": asked}]
    connection.close()
    return sum(c.isdigit() for c in said[:12]) / 12


@dataclass
class Step:
    "Seconds of a step, each with those of the processor in this process."

    whole: float = 0.0
    collect: float = 0.0
    generation: float = 0.0  # the same calls, straight to verl's servers
    update: float = 0.0  # verl's part: log-probabilities, update, sync
    batch: float = 0.0  # ours: putting the rows into verl's queue
    kernel: float = 0.0  # of the processor, without the repeated calls
    repeated: float = 0.0  # of the processor, for these
    driver: float = 0.0  # of the processor, by verl's own driver
    parts: dict[str, float] = field(default_factory=dict)

    @property
    def ours(self) -> float:
        return self.whole - self.generation - self.update

    @property
    def ours_cpu(self) -> float:
        return self.kernel - self.repeated - self.driver


@dataclass(frozen=True)
class Measured(VERL):
    "VERL with a clock."

    steps: list[Step] = field(default_factory=list, repr=False)
    at_a_time: int = 16

    def run(self, run: Any) -> None:
        "Train, each step from one `collect` to the next."
        collect, began = run.collect, []

        def timed(*args: Any, **kwargs: Any) -> Any:
            self._close(began)
            self.steps.append(Step())
            began[:] = [time.perf_counter(), time.process_time()]
            found = collect(*args, **kwargs)
            self.steps[-1].collect = time.perf_counter() - began[0]
            return found

        run.collect = timed
        super().run(run)
        self._close(began)

    def _close(self, began: list[float]) -> None:
        if began:
            wall, cpu = time.perf_counter() - began[0], time.process_time() - began[1]
            now = self.steps[-1]
            now.whole, now.kernel = wall - now.parts.pop("repeated", 0.0), cpu

    def _update(self, session: Any, rollouts: Any) -> Any:
        now, since, cpu = self.steps[-1], time.perf_counter(), time.process_time()
        now.generation = asyncio.run(self._again(session, [r.triplets for r in rollouts]))
        now.parts["repeated"], now.repeated = time.perf_counter() - since, time.process_time() - cpu
        with contextlib.ExitStack() as stack:
            for name in ("on_step_begin", "step", "on_step_end", "_compute_metrics"):
                stack.enter_context(replaced(session.trainer, name, lambda call: self._watched(call, "update")))
            manager, buffer = session.trainer.agent_loop_manager, session.trainer.replay_buffer
            stack.enter_context(replaced(manager, "generate_sequences", lambda call: self._watched(call, "batch")))
            stack.enter_context(replaced(session, "_seen", self._beside))
            stack.enter_context(replaced(buffer, "_wait_for_next_poll", self._counted))
            metrics, rows = super()._update(session, rollouts)
        now.update -= now.batch
        now.parts |= {part: metrics.get(f"{part}_s", 0.0) for part in PARTS}
        return metrics, rows

    def _counted(self, call: Callable) -> Callable:
        def counted(*args: Any) -> Any:
            parts = self.steps[-1].parts
            parts["polls"] = parts.get("polls", 0) + 1
            return call(*args)

        return counted

    def _beside(self, call: Callable) -> Callable:
        def read(batch: Any) -> Any:  # while verl's weights are on their way, and ours all the same
            cpu = time.thread_time()
            found = call(batch)
            self.steps[-1].driver -= time.thread_time() - cpu
            return found

        return read

    def _watched(self, call: Callable, name: str) -> Callable:
        def watched(*args: Any, **kwargs: Any) -> Any:
            now, since, cpu = self.steps[-1], time.perf_counter(), time.process_time()
            try:
                return call(*args, **kwargs)
            finally:
                setattr(now, name, getattr(now, name) + time.perf_counter() - since)
                now.driver += (time.process_time() - cpu) * (-1 if name == "batch" else 1)

        return watched

    async def _again(self, session: Any, calls: list[list[Any]]) -> float:
        "Seconds for the same calls without anything of ours between verl and the prompts."
        room, since = asyncio.Semaphore(self.at_a_time), time.perf_counter()

        async def one(place: int, triplets: list[Any]) -> None:
            async with room:
                for t in triplets:
                    asked = {
                        "temperature": 1.0,
                        "max_tokens": len(t.response_ids),
                        "ignore_eos": True,
                        "logprobs": True,
                    }
                    name = f"again-{place}-{since}"
                    await session.client.generate(name, prompt_ids=t.prompt_ids, sampling_params=asked)

        await asyncio.gather(*(one(i, triplets) for i, triplets in enumerate(calls)))
        return time.perf_counter() - since


def bare_model(path: Path, layers: int, hidden: int) -> str:
    "A model with random weights, saved."
    from agentlightning_nb.rl.tiny import make_model, make_tokenizer
    from agentlightning_nb.rl.weights import save_model

    tokenizer = make_tokenizer()
    model = make_model(tokenizer, hidden_size=hidden, layers=layers, heads=hidden // 64, context=1024)
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f} million parameters")
    save_model(model, tokenizer, path)
    return str(path)


@contextlib.contextmanager
def replaced(owner: Any, name: str, by: Callable[[Callable], Callable]) -> Iterator[None]:
    "Another method inside the block, made of the one that is there."
    setattr(owner, name, by(getattr(owner, name)))
    try:
        yield
    finally:
        delattr(owner, name)


def row(name: str, values: Iterable[float], whole: float | None = None) -> str:
    "A line of the table: median, and the sum's share of a whole."
    found = list(values)
    share = "" if whole is None else f"{100 * sum(found) / whole:.1f} %"
    return f"| {name} | {1000 * statistics.median(found):.0f} | {1000 * max(found):.0f} | {share} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--batch-size", type=int, default=4, help="tasks a step")
    parser.add_argument("--n", type=int, default=4, help="rollouts of a task")
    parser.add_argument("--workers", type=int, default=16)
    parser.add_argument("--max-tokens", type=int, default=48)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--layers", type=int, default=0, help="of a model made on the spot that knows nothing")
    parser.add_argument("--hidden", type=int, default=512, help="its width")
    parser.add_argument("--gpus", type=int, default=0, help="0: everything on the processor")
    parser.add_argument("--kind", default="thread", help="thread, process or ray")
    args = parser.parse_args()
    machine = {"gpus": args.gpus} if args.gpus else on_cpu()
    steps: list[Step] = []
    algorithm = Measured(
        **{"model": args.model, "n": args.n, "batch_size": args.batch_size, "max_steps": args.steps + 2, "lr": 1e-4},
        **{"max_tokens": args.max_tokens, "eval_every": args.steps + 2, "steps": steps, "at_a_time": args.workers},
        **machine,
    )
    tasks = [AgentLightningTask(context=f"What is {i} + {i + 3}?") for i in range(4 * args.batch_size)]
    with tempfile.TemporaryDirectory() as scratch:
        if args.layers:
            algorithm = replace(algorithm, model=bare_model(Path(scratch, "model"), args.layers, args.hidden))
        with Trainer(n_workers=args.workers, store=Path(scratch, "run.db"), workers=args.kind) as trainer:
            run = trainer.fit(asks_twice, algorithm=algorithm, tasks=tasks, progress=False)
            if run.status != "succeeded":
                raise SystemExit(run.reason)
    kept = [s for s in steps[1:-1] if s.update]  # not the first, which warms up, nor the last, which saves
    whole = sum(s.whole for s in kept)
    with open("/proc/loadavg") as load:
        told = load.read().split()[:3]
    packages = ", ".join(f"{name} {version(name)}" for name in ("verl", "vllm", "ray", "torch"))
    print(f"Python {platform.python_version()}, {packages}, load {' '.join(told)}, {args}")
    polls = sum(s.parts.get("polls", 0) for s in kept)
    print(
        f"{len(kept)} steps of {args.n * args.batch_size} rollouts of two turns; {polls:.0f} waits for a poll of verl's\n"
    )
    print("| of a step | median, ms | longest, ms | share of all steps |\n|---|---|---|---|")
    print(row("whole", (s.whole for s in kept)))
    print(row("verl: generation", (s.generation for s in kept), whole))
    print(row("verl: the rest", (s.update for s in kept), whole))
    for part in PARTS:
        print(row(f"- {part}", (s.parts[part] for s in kept), whole))
    print(row("ours", (s.ours for s in kept), whole))
    print(row("- around generation", (s.collect - s.generation for s in kept), whole))
    print(row("- verl's batch", (s.batch for s in kept), whole))
    print(row("- the rest", (s.whole - s.collect - s.update - s.batch for s in kept), whole))
    print(row("processor, ours in the kernel", (s.ours_cpu for s in kept), whole))
    print(row("processor, verl's driver in the kernel", (s.driver for s in kept), whole))


if __name__ == "__main__":
    main()
