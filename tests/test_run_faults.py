"What goes wrong while a run goes on: interrupts, agents that crash or hang, rewards that are none, full disks, taken ports."

import asyncio
import math
import os
import signal
import socket
import sqlite3
import threading

import pytest
from waiting import until

from agentlightning_nb.errors import PortInUseError, RunError, SchemaError, StoreError
from agentlightning_nb.litagent import rollout
from agentlightning_nb.server import AgentLightningServer
from agentlightning_nb.store import LightningStore
from agentlightning_nb.trainer import Trainer


class Keep:
    "Changes nothing, and interrupts the kernel in the steps it is told to."

    def __init__(self, *interrupted):
        self.steps, self.interrupted = 0, interrupted

    def optimize_step(self, rollout_results, resources_version):
        if self.steps in self.interrupted:
            os.kill(os.getpid(), signal.SIGINT)
        self.steps += 1
        return {"version": resources_version, "resources": {}}


@rollout
async def echo(task):
    return float(task.input)


@pytest.fixture
def trainer():
    with Trainer(n_workers=2) as t:
        yield t


def fit(trainer, agent=echo, algorithm=None, **options):
    return trainer.fit(agent, algorithm=algorithm or Keep(), progress=False, **{"tasks": [1, 2, 3], **options})


def threads():
    return {t for t in threading.enumerate() if t.name.startswith("agentlightning")}


def test_interrupting_the_kernel_ends_at_a_step_boundary_and_the_run_goes_on_from_there(trainer):
    run = fit(trainer, algorithm=Keep(2), max_steps=100_000)
    assert run.status == "stopped" and 3 <= run.step < 100_000
    rows = trainer.store.query_rollouts(run_id=run.run_id)
    assert {r.status for r in rows} == {"succeeded"} and len(rows) == 3 * run.step
    went_on = Keep()
    again = fit(trainer, algorithm=went_on, max_steps=run.step + 2, resume=run)
    assert (again.status, went_on.steps) == ("succeeded", 2)


def test_a_second_interrupt_ends_at_once_and_cancels_what_is_under_way(trainer):
    cancelled = []

    @rollout
    async def hangs(task):
        try:
            for _ in range(2):
                threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
                await asyncio.sleep(0.3)
            await asyncio.sleep(600)
        finally:
            cancelled.append(task.input)

    run = fit(trainer, agent=hangs, tasks=[1])
    assert run.status == "stopped" and "cancelled" in run.reason
    (row,) = trainer.store.query_rollouts(run_id=run.run_id)
    assert row.status == "cancelled" and cancelled == [1]


def test_an_agent_that_never_returns_costs_its_time_limit_and_is_cancelled(trainer):
    cancelled = []

    @rollout
    async def hangs(task):
        if task.input == 1:
            try:
                await asyncio.sleep(600)
            finally:
                cancelled.append(task.input)
        return 1.0

    run = fit(trainer, agent=hangs, timeout_s=0.3)
    rows = trainer.store.query_rollouts(run_id=run.run_id)
    assert run.status == "succeeded" and [r.status for r in rows] == ["failed", "succeeded", "succeeded"]
    assert rows[0].attempt.status == "timeout" and cancelled == [1]


@pytest.mark.parametrize("reward", [math.nan, math.inf, "good"])
def test_a_reward_that_is_no_number_fails_its_rollout_by_name(trainer, reward):
    @rollout
    async def odd(task):
        return reward if task.input == 1 else 1.0

    run = fit(trainer, agent=odd)
    rows = trainer.store.query_rollouts(run_id=run.run_id)
    assert run.status == "succeeded" and [r.status for r in rows] == ["failed", "succeeded", "succeeded"]
    assert rows[0].attempt.error.type == "RewardError" and str(reward) in rows[0].attempt.error.message


def test_when_most_fail_the_run_stops_and_says_with_what(trainer):
    @rollout
    async def crash(task):
        raise RuntimeError("the tool is broken")

    with pytest.warns(RuntimeWarning, match="3 of 3 rollouts of step 0 failed.*the tool is broken"):
        run = fit(trainer, agent=crash, max_steps=5)
    assert (run.status, run.step) == ("failed", 0)


def test_a_full_disk_ends_the_run_with_its_reason_and_it_goes_on_when_there_is_room(tmp_path):
    with LightningStore(tmp_path / "run.db") as store, Trainer(n_workers=2, store=store) as trainer:
        first = fit(trainer, max_steps=1)
        used = store._writer.conn.execute("PRAGMA page_count").fetchone()[0]
        store._writer.conn.execute(f"PRAGMA max_page_count = {used}")
        with pytest.raises(StoreError, match="full"):
            fit(trainer, tasks=["1" + "0" * 10_000] * 30, max_steps=3, resume=first)
        assert trainer.run.done and trainer.run.status == "failed"
        store._writer.conn.execute("PRAGMA max_page_count = 1000000")
        again = fit(trainer, max_steps=3, resume=first)
        assert (again.status, again.step) == ("succeeded", 3)


def test_a_file_of_a_newer_version_is_refused_before_anything_starts(tmp_path):
    LightningStore(tmp_path / "run.db").close()
    with sqlite3.connect(tmp_path / "run.db") as conn:
        conn.execute("PRAGMA user_version = 9999")
    conn.close()
    before = threads()
    with Trainer(store=tmp_path / "run.db") as trainer, pytest.raises(SchemaError, match="newer"):
        fit(trainer)
    assert threads() == before


def test_a_taken_port_is_said_before_anything_starts():
    before = threads()
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with (
            Trainer() as trainer,
            pytest.raises(PortInUseError, match=f"{port} on 127.0.0.1 is in use by pid {os.getpid()}"),
        ):
            fit(trainer, backend=AgentLightningServer(LightningStore(), port=port))
    assert threads() - before == set() or all("store" in t.name for t in threads() - before)


def test_a_worker_pool_that_cannot_go_on_ends_the_run(trainer):
    run = trainer.start(echo, algorithm=Keep(), tasks=[1], max_steps=100_000)
    until(lambda: run.step >= 2)
    trainer.close()
    assert run.done and run.status in ("stopped", "failed")


def test_a_run_under_way_is_not_trampled_on(trainer):
    run = trainer.start(echo, algorithm=Keep(), tasks=[1], max_steps=100_000)
    with pytest.raises(RunError, match="still going on. Call .stop"):
        fit(trainer)
    run.stop()
    assert run.wait(20).status == "stopped"
