"""What the view of a run, the table of rollouts and the search in them cost at size: 100,000 rollouts and 1,000,000 spans in one file.

python benchmarks/run_view.py
"""

import argparse
import json
import platform
import random
import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agentlightning_nb.store import LightningStore
from agentlightning_nb.types import PromptTemplate
from agentlightning_nb.views.compare import compare_view, matrix_view
from agentlightning_nb.views.groups import groups_view
from agentlightning_nb.views.listing import rollouts_view
from agentlightning_nb.views.runs import look, run_told, run_view, runs_view
from agentlightning_nb.views.versions import sides_view, versions_view

METRICS = [
    "loss",
    "entropy",
    "kl",
    "grad_norm",
    "clip_fraction",
    "logprob_gap",
    "same_reward_groups",
    "truncated",
    "response_tokens",
    "calls",
    "tokens",
    "reward",
]


def build(path: Path, steps: int, rollouts: int, spans: int) -> None:
    "A file with one run of so many steps, rollouts a step, and spans a rollout."
    with LightningStore(path) as store:
        store.add_run("run-1", algorithm="GRPO")
        store.update_run("run-1", state={"max_steps": steps + 10})
        prompts = [PromptTemplate(f"Answer in {i} words.") for i in range(-(-steps // 10))]
        versions = [
            store.add_resources({"prompt": prompt}, note=f"{i}").resources_id for i, prompt in enumerate(prompts)
        ]
    conn, chance = sqlite3.connect(path), random.Random(0)
    asked, said = json.dumps({"q": "x" * 50}), json.dumps({"gen_ai.operation.name": "chat", "m": "y" * 300})
    for step in range(steps):
        at = time.time() - 2 * (steps - step)
        names = [
            (f"ro-{step:05d}{i:05d}", f"at-{step:05d}{i:05d}", float(chance.random() < step / steps))
            for i in range(rollouts)
        ]
        conn.executemany(
            """INSERT INTO rollout (rollout_id, task_id, run_id, group_id, step, mode, status, reward, start_time, end_time, input,
               attempt_id, resources_id) VALUES (?, ?, 'run-1', ?, ?, 'train', 'succeeded', ?, ?, ?, ?, ?, ?)""",
            [
                (r, f"t{i}", f"run-1/{step}/{i // 8}", step, reward, at, at + 1, asked, a, versions[step // 10])
                for i, (r, a, reward) in enumerate(names)
            ],
        )
        conn.executemany(
            """INSERT INTO attempt (attempt_id, rollout_id, sequence_id, status, reward, rewards, worker_id, start_time, end_time,
               model, calls, prompt_tokens, response_tokens, proxied) VALUES (?, ?, 1, 'succeeded', ?, ?, ?, ?, ?, 'm', 3, 300, 120, 1)""",
            [
                (a, r, reward, json.dumps({"style": reward / 2}), f"w{i % 8}", at, at + 1)
                for i, (r, a, reward) in enumerate(names)
            ],
        )
        conn.executemany(
            """INSERT INTO span (attempt_id, rollout_id, sequence_id, trace_id, span_id, name, start_time, end_time, attributes)
               VALUES (?, ?, ?, 't', ?, 'chat m', ?, ?, ?)""",
            [(a, r, k, f"s{k}", at, at + 1, said) for r, a, _ in names for k in range(spans)],
        )
        conn.executemany(
            "INSERT INTO metric (run_id, step, name, value, time) VALUES ('run-1', ?, ?, ?, ?)",
            [(step, name, chance.random(), at + 1.5) for name in METRICS],
        )
    conn.commit()
    conn.close()


def best_ms(call: Callable[[], Any], times: int = 5) -> float:
    "Milliseconds of the fastest of a few calls."
    found = []
    for _ in range(times):
        began = time.perf_counter()
        call()
        found.append(1000 * (time.perf_counter() - began))
    return min(found)


def search(store: LightningStore) -> None:
    "A first search, how long it is until all is read, and searches after that."
    began = time.perf_counter()
    found = rollouts_view(store, text="yyyy")
    print(f"| a first search, which has covered some of it | {1000 * (time.perf_counter() - began):.1f} |")
    while any("so far" in said for said in found["says"]) and time.perf_counter() - began < 300:
        time.sleep(0.5)
        found = rollouts_view(store, text="yyyy")
    print(f"| until all words are read, on a thread | {1000 * (time.perf_counter() - began):.0f} |")
    for name, words in (("a word that all rollouts have", "yyyy"), ("a word that none has", "nothing")):
        print(f"| a search after that: {name} | {best_ms(lambda words=words: rollouts_view(store, text=words)):.1f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--rollouts", type=int, default=250, help="in a step")
    parser.add_argument("--spans", type=int, default=10, help="of a rollout")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "big.db")
        build(path, args.steps, args.rollouts, args.spans)
        total = args.steps * args.rollouts
        size = path.stat().st_size / 1e6
        print(
            f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {total:,} rollouts, {total * args.spans:,} spans, {size:.0f} MB\n"
        )
        with LightningStore(path, readonly=True) as store:
            before = look(store, "run-1")
            told = run_told(before, now=time.time())
            cases = {
                "the view of the run, all of it": lambda: run_view(store, "run-1"),
                "looking again while it goes on": lambda: look(store, "run-1", before),
                "computing what is shown": lambda: run_told(before, now=time.time(), metrics=told["metrics"]),
                "the list of runs": lambda: runs_view(store),
            }
            after = {"after": str(total // 2)}
            cases |= {
                "the table of rollouts, first page": lambda: rollouts_view(store),
                "a page from its middle": lambda: rollouts_view(store, **after),
                "of one run": lambda: rollouts_view(store, run_id="run-1"),
                "best first": lambda: rollouts_view(store, sort="best"),
                "the thousandth page, skipping": lambda: rollouts_view(store, start=50 * (total // 100)),
                "by a part of an id": lambda: rollouts_view(store, id_contains="0039"),
            }
            ends = [v.resources_id for v in store.query_resources(sort_order="asc").items][
                :: max(1, args.steps // 10 - 1)
            ]
            cases |= {
                "the lineage, with the reward that each version reached": lambda: versions_view(store, run_id="run-1"),
                "what a change did: the same tasks under two versions": lambda: sides_view(
                    store, *ends[:2], run_id="run-1"
                ),
                "tasks by versions, and which moved most": lambda: matrix_view(store, "run-1"),
                "the groups of a step": lambda: groups_view(store, run_id="run-1"),
                "runs against each other": lambda: compare_view(store, ["run-1"]),
            }
            print("| what | ms |\n|---|---|")
            for name, call in cases.items():
                print(f"| {name} | {best_ms(call):.1f} |")
            search(store)
            print(f"\n{len(json.dumps(told)) / 1000:.0f} kB are sent to draw it the first time.")


if __name__ == "__main__":
    main()
