"""What a live panel costs the training loop: the same run with and without one, in a real kernel.

    python benchmarks/panel.py

A Jupyter kernel is started, and runs alternate: one that nobody looks at, one shown in a cell. CPU is that of the whole kernel process a
step; the panel's own CPU is that of the thread that looks at the store, sending to the page included. The first step is left out.
"""

import argparse
import json
import platform
import statistics

from jupyter_client.manager import start_new_kernel

SETUP = """
import json, tempfile, time
from IPython.display import display
from agentlightning_nb.trainer import Trainer
from agentlightning_nb.widgets.run import Follower

looked = []
plain = Follower._pause_s

def counted(self):
    began = time.thread_time()
    try:
        return plain(self)
    finally:
        looked.append(time.thread_time() - began)

Follower._pause_s = counted

def measure(start, shown):
    looked.clear()
    wall, cpu = [], []
    with tempfile.TemporaryDirectory() as folder, Trainer(n_workers=WORKERS, store=f"{folder}/run.db") as trainer:
        run = start(trainer)
        def mark():
            if run.step > len(wall):
                wall.append(time.perf_counter()); cpu.append(time.process_time())
        run.subscribe(mark)
        if shown:
            display(run)
        run.wait()
        assert run.status == "succeeded", run.reason
    steps = lambda marks: [b - a for a, b in zip(marks, marks[1:])]
    print(json.dumps({"wall": steps(wall), "cpu": steps(cpu), "looks": len(looked), "own": sum(looked), "took": wall[-1] - wall[0]}))
"""
LOOPS = {
    "no model": """
from agentlightning_nb.litagent import rollout
WORKERS = 8

@rollout
async def agent(task):
    return 0.5

class Keep:
    def optimize_step(self, rollout_results, resources_version):
        return {"resources": {}}

start = lambda trainer: trainer.start(agent, algorithm=Keep(), tasks=list(range(200)), max_steps=STEPS)
""",
    "GRPO, tiny model": """
import torch
from agentlightning_nb.algorithms.grpo import GRPO
from agentlightning_nb.demo import CalculatorAgent
from agentlightning_nb.rl.tiny import calculator_tasks, make_model, make_tokenizer
WORKERS = 128
torch.set_num_threads(1)

def start(trainer):
    tokenizer = make_tokenizer()
    grpo = GRPO(make_model(tokenizer), tokenizer, max_steps=STEPS, eval_every=STEPS)
    return trainer.start(CalculatorAgent(), algorithm=grpo, tasks=calculator_tasks(200, seed=0))
""",
}


def run_in(client, code: str) -> str:
    "What the code printed."
    said = []

    def heard(message) -> None:
        if message["msg_type"] == "stream" and message["content"]["name"] == "stdout":
            said.append(message["content"]["text"])

    reply = client.execute_interactive(code, output_hook=heard, timeout=600)
    if reply["content"]["status"] != "ok":
        raise RuntimeError("\n".join(reply["content"]["traceback"]))
    return "".join(said)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--loop", choices=list(LOOPS), help="one of the two only")
    args = parser.parse_args()
    print(f"Python {platform.python_version()}, {platform.machine()}, {args.rounds} rounds of {args.steps} steps\n")
    print(
        "| loop | ms CPU a step, without | with | ratio | wall ratio | looks | ms CPU a look | share of CPU |\n|---|---|---|---|---|---|---|---|"
    )
    for name, loop in LOOPS.items():
        if args.loop not in (None, name):
            continue
        manager, client = start_new_kernel(kernel_name="python3")
        try:
            run_in(client, SETUP + f"STEPS = {args.steps}\n" + loop)
            found: dict[bool, list[dict]] = {False: [], True: []}
            run_in(client, "measure(start, True)")  # imports and first use
            for i in range(args.rounds):
                for shown in ((False, True), (True, False))[i % 2]:
                    found[shown].append(json.loads(run_in(client, f"measure(start, {shown})").splitlines()[-1]))
        finally:
            client.stop_channels()
            manager.shutdown_kernel(now=True)
        middle = {
            (k, kind): statistics.median(x for r in found[k] for x in r[kind])
            for k in found
            for kind in ("cpu", "wall")
        }
        looks, own = sum(r["looks"] for r in found[True]), sum(r["own"] for r in found[True])
        total = sum(sum(r["cpu"]) for r in found[True])
        without, shown = 1000 * middle[False, "cpu"], 1000 * middle[True, "cpu"]
        ratios = f"{shown / without:.3f} | {middle[True, 'wall'] / middle[False, 'wall']:.3f}"
        print(
            f"| {name} | {without:.1f} | {shown:.1f} | {ratios} | {looks} | {1000 * own / looks:.1f} | {100 * own / total:.2f} % |",
            flush=True,
        )


if __name__ == "__main__":
    main()
