"Whatever an agent raises is recorded on its attempt: it stops no worker, no other agent and no run."

import asyncio
import threading
import time

import pytest

from agentlightning_nb.errors import LightningError, ServerError
from agentlightning_nb.litagent import LitAgent, rollout
from agentlightning_nb.server import AgentLightningServer
from agentlightning_nb.trainer import Trainer
from agentlightning_nb.types import AttemptError


class Speechless(Exception):
    def __str__(self):
        raise RuntimeError("no words")


CRASHES = {
    "exit": SystemExit(3),
    "interrupt": KeyboardInterrupt(),
    "cancelled": asyncio.CancelledError(),
    "generator": GeneratorExit(),
    "group": BaseExceptionGroup("several", [KeyboardInterrupt()]),
    "own": type("Own", (BaseException,), {})("mine"),
    "speechless": Speechless(),
    "surrogate": ValueError("cut off \ud83d"),
    "recursion": RecursionError("deep"),
    "stop": StopIteration(1),
}


class Sync(LitAgent):
    def training_rollout(self, task, rollout_id, resources):
        if task.input in CRASHES:
            raise CRASHES[task.input]
        return 1.0


class Async(LitAgent):
    async def training_rollout(self, task, rollout_id, resources):
        await asyncio.sleep(0)
        return Sync().training_rollout(task, rollout_id, resources)


@pytest.mark.parametrize("agent", [Sync(), Async()])
def test_a_crash_costs_one_attempt(agent):
    tasks = [row for crash in CRASHES for row in (crash, "fine")]
    with Trainer(n_workers=2) as trainer:
        told = trainer.evaluate(agent, tasks, timeout_s=30)
        attempts = [r.attempt for r in trainer.store.query_rollouts()]
    assert told["status"].tolist() == ["failed", "succeeded"] * len(CRASHES)
    assert {a.status for a in attempts} == {"failed", "succeeded"}  # none ran into its time limit
    kinds = dict(zip(told["input"], told["error"], strict=True))
    assert kinds["exit"].startswith("SystemExit: 3") and kinds["own"].startswith("Own: mine")
    assert kinds["speechless"] == "Speechless: (its __str__ raised RuntimeError)"
    assert kinds["surrogate"] == r"ValueError: cut off \ud83d"


def test_the_words_of_an_error_can_always_be_kept(store):
    made = store.start_rollout(1)
    error = AttemptError(type="E", message="half \ud83d", traceback="\ude00")
    kept = store.finish_attempt(made.rollout_id, made.attempt.attempt_id, status="failed", error=error)
    assert kept.error.message == r"half \ud83d"
    with pytest.raises(LightningError):
        store.finish_attempt(made.rollout_id, "latest", status="failed", error=5)


def test_a_run_ends_when_its_server_has_gone_for_good(tmp_path, monkeypatch):
    monkeypatch.setenv("AGENTLIGHTNING_HOME", str(tmp_path))
    begun, uncaught = threading.Event(), []
    monkeypatch.setattr(threading, "excepthook", uncaught.append)

    @rollout
    def waits(task):
        begun.set()
        time.sleep(0.2)
        return 1.0

    class Look:
        def optimize_step(self, rollout_results, resources_version):
            pass

    with AgentLightningServer() as server, Trainer(n_workers=1, backend=server.url) as trainer:
        run = trainer.start(waits, algorithm=Look(), tasks=[1], max_steps=100)
        assert begun.wait(30)
        server.stop()
        with pytest.raises(ServerError):
            run.wait(60)
        assert run.status == "failed" and "cannot be reached" in run.reason
        for thread in [t for t in threading.enumerate() if t.name == f"agentlightning-{run.run_id}"]:
            thread.join(30)
    assert not uncaught
