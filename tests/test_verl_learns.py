"A policy gets better under verl, and does not without a learning rate; whatever is killed, the run ends with a sentence and can be gone on with."

import contextlib
import importlib.util
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from statistics import fmean

import pytest
from verl_agents import TASKS, alive, asks_once, descendants, options
from waiting import until

from agentlightning_nb.algorithms.verl import VERL
from agentlightning_nb.store import LightningStore
from agentlightning_nb.trainer import Trainer
from agentlightning_nb.verl.session import Session

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(
        any(importlib.util.find_spec(m) is None for m in ("verl", "ray", "vllm")), reason="verl is not installed"
    ),
]
STEPS = 24


def rewards(tmp_path, lr):
    "The mean training reward of each step, and the largest gap of probability."
    algorithm = VERL(lr=lr, n=4, batch_size=4, max_steps=STEPS, max_tokens=16, eval_every=STEPS, **options())
    with Trainer(n_workers=8, store=tmp_path / f"{lr}.db") as trainer:
        run = trainer.fit(asks_once, algorithm=algorithm, tasks=TASKS, progress=False)
        assert run.status == "succeeded" and run.step == STEPS
        told = list(trainer.store.query_metrics(run.run_id))
    named = {name: [m["value"] for m in told if m["name"] == name] for name in ("reward", "probability_gap")}
    print(f"lr {lr:g}: rewards {[round(r, 3) for r in named['reward']]}, gap {max(named['probability_gap']):.2g}")
    return named["reward"], max(named["probability_gap"])


def test_the_reward_rises_with_a_learning_rate_and_stays_without(tmp_path):
    learnt, gap = rewards(tmp_path, 1e-3)
    control, control_gap = rewards(tmp_path, 0.0)
    rise = lambda found: fmean(found[-6:]) - fmean(found[:6])  # noqa: E731
    assert rise(learnt) > 0.1 and abs(rise(control)) < 0.1 and rise(learnt) > 2 * abs(rise(control))
    assert max(gap, control_gap) < 1e-4


def test_a_run_whose_trainer_dies_ends_with_a_sentence_and_goes_on_from_its_checkpoint(tmp_path, monkeypatch):
    import ray

    whole, killed = Session.update, []

    def update(self, groups):
        if self.step == 2 and not killed:
            killed.append(self.step)
            ray.kill(self.trainer.actor_rollout_wg.workers[0])
        return whole(self, groups)

    monkeypatch.setattr(Session, "update", update)
    algorithm = VERL(
        lr=1e-3, n=3, batch_size=2, max_steps=3, max_tokens=16, eval_every=2, step_timeout_s=120, **options()
    )
    with Trainer(n_workers=6, store=tmp_path / "run.db") as trainer:
        with pytest.warns(RuntimeWarning, match="ended early"):
            run = trainer.fit(asks_once, algorithm=algorithm, tasks=TASKS, progress=False)
        print(run.reason)
        assert run.status == "failed" and "verl: step 3 failed" in run.reason
        run = trainer.fit(asks_once, algorithm=algorithm, tasks=TASKS, resume=run, progress=False)
        assert run.status == "succeeded" and run.step == 3


def pid_of(what):
    "The process below this one that is called so."
    (found,) = (pid for pid, said in descendants(os.getpid()).items() if said.startswith(what))
    return found


@pytest.mark.parametrize(
    "what, when, said",
    [
        ("ray::vLLMHttpServer", "sample", "verl's server did not answer: ActorDiedError: vLLMHttpServer"),
        ("VLLM::EngineCore", "sample", "verl's server did not answer: .*EngineDeadError"),
        ("ray::WorkerDict", "update", "verl: step 3 failed: ActorDiedError: WorkerDict"),
    ],
)
def test_what_is_killed_in_the_middle_of_a_step_is_named(tmp_path, monkeypatch, what, when, said):
    killed, calls = [], []
    sample, update = Session.sample, Session._update

    async def sampled(self, *args):
        calls.append(self.step)
        if when == "sample" and self.step == 2 and calls.count(2) == 3 and not killed:
            killed.append(os.kill(pid_of(what), signal.SIGKILL))
        return await sample(self, *args)

    def updated(self, groups):
        update_actor = self.trainer._update_actor

        def dying(*args, **kwargs):
            if when == "update" and self.step == 2 and not killed:
                killed.append(os.kill(pid_of(what), signal.SIGKILL))
            return update_actor(*args, **kwargs)

        monkeypatch.setattr(self.trainer, "_update_actor", dying)
        return update(self, groups)

    monkeypatch.setattr(Session, "sample", sampled)
    monkeypatch.setattr(Session, "_update", updated)
    algorithm = VERL(
        lr=1e-3, n=6, batch_size=4, max_steps=3, max_tokens=16, eval_every=2, step_timeout_s=120, **options()
    )
    with Trainer(n_workers=6, store=tmp_path / "run.db") as trainer:
        run = trainer.start(asks_once, algorithm=algorithm, tasks=TASKS)
        run.wait(600)
        below = descendants(os.getpid())
        print(run.reason)
        assert killed and run.status == "failed" and run.step == 2 and run.state["step"] == 2
        assert re.search(said, run.reason)
    until(lambda: not alive(below), 60)


def step_of(path):
    "How far the run in a file is that somebody else writes."
    with contextlib.suppress(sqlite3.OperationalError):  # it is being made
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
            return db.execute("select coalesce(max(step), -1) from metric").fetchone()[0]
    return -1


def test_a_killed_kernel_takes_everything_along_and_another_one_goes_on(tmp_path):
    path, begun, left, tick = tmp_path / "run.db", [], {}, threading.Event()
    script = str(Path(__file__).with_name("verl_killed.py"))

    def kernel(*resume):
        command = [sys.executable, script, str(path), "4", *resume]
        with open(tmp_path / f"{len(begun)}.log", "w") as out:
            begun.append(subprocess.Popen(command, stdout=out, stderr=out))
        return begun[-1]

    def killed_after(step, running):
        until(lambda: running.poll() is not None or (path.exists() and step_of(path) >= step), 420)
        assert running.poll() is None, (tmp_path / f"{len(begun) - 1}.log").read_text()[-2000:]
        tick.wait(0.35)  # somewhere in the next step
        below = descendants(running.pid)
        assert any("raylet" in said for said in below.values()) and any("VLLM::" in said for said in below.values())
        running.kill()
        running.wait(10)
        until(lambda: all("Agent" in said for said in alive(below).values()), 60)
        left.update(alive(below))  # Ray's own agents look for its dead head for a minute

    try:
        killed_after(1, kernel())
        with LightningStore(path) as store:
            (run,) = store.query_runs()
        assert kernel(run["run_id"]).wait(420) == 0, (tmp_path / "1.log").read_text()[-2000:]
        until(lambda: not alive(left), 120)
    finally:
        for running in begun:
            running.kill()
    with LightningStore(path) as store:
        (run,) = store.query_runs()
        assert run["status"] == "succeeded" and run["state"]["algorithm"]["step"] == 4
        steps = [m["step"] for m in store.query_metrics(run["run_id"]) if m["name"] == "reward"]
        assert sorted(set(steps)) == list(range(4))
        version, notes = run["state"]["resources_id"], []
        while version:
            update = store.get_resources_by_id(version)
            notes.append(update.note)
            version = (update.parents or [None])[0]
    assert notes[0] == "verl step 4" and notes[-1] == "initial"
    for step in range(1, 5):
        assert f"verl step {step}" in notes
