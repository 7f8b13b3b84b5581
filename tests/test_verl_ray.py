"Agents as Ray actors on the cluster that verl uses: one that the kernel has begun, and one that was there before and stays."

import importlib.util
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import openai
import pytest
from verl_agents import TASKS, alive, asks_twice, assert_same_trajectories, descendants, keeping, options
from waiting import until

from agentlightning_nb.algorithms.verl import VERL
from agentlightning_nb.litagent import rollout
from agentlightning_nb.trainer import Trainer
from agentlightning_nb.verl.session import Session
from agentlightning_nb.views.runs import run_view

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        any(importlib.util.find_spec(m) is None for m in ("verl", "ray", "vllm")), reason="verl is not installed"
    ),
    pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs Linux"),
]


def two_steps(tmp_path, monkeypatch, then=lambda trainer: None, **more):
    "A run whose agents are actors; the processes that there were below this one."
    held: list[tuple] = []
    monkeypatch.setattr(Session, "_seen", keeping(Session._seen, held))
    algorithm = VERL(lr=1e-3, n=3, batch_size=2, max_steps=2, max_tokens=16, eval_every=2, **options() | more)
    with Trainer(n_workers=4, store=tmp_path / "run.db", workers="ray") as trainer:
        run = trainer.fit(asks_twice, algorithm=algorithm, tasks=TASKS, progress=False)
        assert (run.status, run.step, run.reason) == ("succeeded", 2, "")
        assert_same_trajectories(trainer.store, run.run_id, held)
        rollouts = list(trainer.store.query_rollouts(run_id=run.run_id))
        assert len(rollouts) == 12 and all(r.reward is not None for r in rollouts)
        assert {len(t) for t in trainer.store.query_triplets([r.rollout_id for r in rollouts]).values()} == {3}
        assert len({w.worker_id for w in trainer.store.query_workers()}) >= 4
        assert held and run.latest["probability_gap"] < 1e-4
        then(trainer)
        return descendants(os.getpid())


@rollout
def pays_anything(task, llm):
    "One turn, whatever it says."
    client = openai.OpenAI(base_url=llm.base_url, api_key=llm.api_key, max_retries=0, timeout=120)
    client.chat.completions.create(model=llm.model, messages=[{"role": "user", "content": task.context}], max_tokens=4)
    return 1.0


def a_reward_that_says_nothing(trainer):
    "A second run on the same Ray: health says of it what it says of any."
    algorithm = VERL(n=4, batch_size=4, max_steps=2, eval_every=2, **options())
    run = trainer.fit(pays_anything, algorithm=algorithm, tasks=TASKS, progress=False)
    assert (run.status, run.step, run.latest["skipped"]) == ("succeeded", 2, 1.0)
    found = {f["name"]: f for f in run_view(trainer.store, run.run_id)["health"]}
    assert found["one reward"]["says"] == "All 32 rewards are 1, so there is nothing to learn from."


def test_agents_are_actors_of_the_cluster_that_verl_has_begun_and_nothing_stays(tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    begun = two_steps(tmp_path, monkeypatch, a_reward_that_says_nothing)
    assert any("raylet" in said for said in begun.values()) and any("VLLM::" in said for said in begun.values())
    until(lambda: not alive(begun), 120)


@pytest.fixture
def head(tmp_path, monkeypatch):
    "A cluster that somebody else has begun: its address."
    from agentlightning_nb.cluster import PATIENCE

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).parent / "ray"), "start", "--head", "--block", f"--port={port}"]
    command += ["--node-ip-address=127.0.0.1", "--num-cpus=8", "--num-gpus=1", "--object-store-memory=200000000"]
    command += ["--include-dashboard=false", "--disable-usage-stats"]
    with open(tmp_path / "head.log", "w") as log:
        begun = subprocess.Popen(
            command,
            env=os.environ | PATIENCE | {"RAY_AUTH_MODE": "disabled"},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        until(lambda: "Ray runtime started" in (tmp_path / "head.log").read_text() or begun.poll() is not None, 180)
        assert begun.poll() is None, (tmp_path / "head.log").read_text()
        yield f"127.0.0.1:{port}", begun.pid
    finally:
        begun.terminate()
        try:
            begun.wait(60)
        except subprocess.TimeoutExpired:
            begun.kill()


ASK = "import ray, sys; ray.init(sys.argv[1], log_to_driver=False); print(ray.available_resources())"


def test_a_cluster_that_was_there_is_joined_and_left_as_it_was(tmp_path, monkeypatch, head):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    address, pid = head
    sample, calls, killed = Session.sample, [], []

    async def sampled(self, *args):
        calls.append(self.step)
        if calls.count(1) == 3 and not killed:  # in the middle of the second step an actor dies
            killed.append(min(p for p, said in descendants(pid).items() if said.startswith("ray::RayWorker")))
            os.kill(killed[0], signal.SIGKILL)
        return await sample(self, *args)

    def somebody_tried_twice(trainer):
        tries = [len(trainer.store.query_attempts(r.rollout_id)) for r in trainer.store.query_rollouts()]
        assert killed and sorted(tries)[-2:] == [1, 2]

    monkeypatch.setattr(Session, "sample", sampled)
    below = two_steps(tmp_path, monkeypatch, somebody_tried_twice, address=address, ray={})
    theirs = descendants(pid)
    assert not any("raylet" in said for p, said in below.items() if p not in theirs)  # none of its own
    assert any("raylet" in said for said in theirs.values())

    def resources():
        asked = subprocess.run([sys.executable, "-c", ASK, address], capture_output=True, text=True, timeout=120)
        assert asked.returncode == 0, asked.stderr
        return asked.stdout

    until(lambda: "'GPU': 1.0" in resources() and "'CPU': 8.0" in resources(), 120)
    left = [said for said in descendants(pid).values() if "VLLM::" in said or "ray::" in said and "IDLE" not in said]
    assert not [said for said in left if "Agent" not in said]
