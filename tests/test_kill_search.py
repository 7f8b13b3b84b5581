"A search whose process is killed with -9 goes on from its file: the same result as an uninterrupted one, nothing paid twice."

import json
import os
import signal
import subprocess
import sys

import pytest
from waiting import until

SCRIPT = """
import json, sys, time
from agentlightning_nb.algorithms.apo import APO
from agentlightning_nb.algorithms.budget import Budget
from agentlightning_nb.algorithms.gepa import GEPA
from agentlightning_nb.algorithms.texts import texts_of
from agentlightning_nb.simulated import Clerk, Desk, desk_tasks, first_texts
from agentlightning_nb.trainer import Trainer

path, name, resume, slow = sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4])
budget = Budget(rollouts=60)
search = APO(max_steps=2, beam_width=2, branches=2, budget=budget) if name == "apo" else GEPA(max_steps=8, budget=budget)


class Slow(Desk):
    async def training_rollout(self, task, rollout_id, resources):
        time.sleep(slow)  # so that a kill comes in the middle of something
        return await super().training_rollout(task, rollout_id, resources)


clerk = Clerk(seed=1)
with Trainer(n_workers=1, upstream=clerk, store=path) as trainer:
    run = trainer.start(
        Slow(), algorithm=search, resources=None if resume else first_texts(), resume=resume or None,
        tasks=desk_tasks(clerk, 12, seed=0), val_tasks=desk_tasks(clerk, 10, seed=1),
    )
    print(run.run_id, flush=True)
    run.wait()
    versions = {v.resources_id: v for v in trainer.store.query_resources()}
    rows = [r for r in trainer.store.query_rollouts(run_id=run.run_id)]
    paid = [[versions[r.resources_id].content_hash, r.task_id, r.mode] for r in rows if r.mode and r.status != "cancelled"]
    asked = [r.metadata["optimiser"] for r in rows if r.mode is None and r.status == "succeeded"]
    made = sorted([v.note, json.dumps(texts_of(v.resources))] for v in versions.values())
    best = texts_of(run.best_resources)
    print(json.dumps({"status": run.status, "best": best, "versions": made, "paid": paid, "asked": asked}))
"""


def begun(path, name, resume="", slow=0.0):
    command = [sys.executable, "-c", SCRIPT, str(path), name, resume, str(slow)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)


def outcome(process):
    "What a run that ended by itself says."
    said, _ = process.communicate(timeout=180)
    assert process.returncode == 0
    return json.loads(said.splitlines()[-1])


def rollouts_in(path, run_id):
    "How many rollouts of the run have ended, read beside its writer."
    import sqlite3

    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as conn:
        asked = "SELECT count(*) FROM rollout WHERE run_id = ? AND status = 'succeeded'"
        return conn.execute(asked, (run_id,)).fetchone()[0]


def killed(path, name, after, resume=""):
    "Begin a search, or go on with it, and kill its process once so many of its rollouts have ended; the run's id."
    process = begun(path, name, resume, slow=0.02)
    try:
        run_id = process.stdout.readline().strip()
        until(lambda: rollouts_in(path, run_id) >= after or process.poll() is not None, 120)
        assert process.poll() is None, "it ended before it was killed"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)
        process.stdout.close()
    return run_id


@pytest.mark.slow
@pytest.mark.parametrize("name", ["apo", "gepa"])
def test_a_killed_search_goes_on_to_what_the_uninterrupted_one_finds(name, tmp_path):
    whole = outcome(begun(tmp_path / "whole.db", name))
    path = tmp_path / "killed.db"
    run_id = killed(path, name, after=13)
    killed(path, name, after=35, resume=run_id)  # and once more, while it goes on
    resumed = outcome(begun(path, name, resume=run_id))
    assert resumed["status"] == "succeeded"
    assert resumed["best"] == whole["best"]
    assert resumed["versions"] == whole["versions"]
    for paid in ("paid", "asked"):
        keys = sorted(json.dumps(k, sort_keys=True) for k in resumed[paid])
        assert len(keys) == len(set(keys)), "paid twice"
        assert keys == sorted(json.dumps(k, sort_keys=True) for k in whole[paid])
