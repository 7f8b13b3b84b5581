"Worker threads: concurrency, cancellation, faults."

import asyncio
import threading
import time

import pytest

from agentlightning_nb.errors import ServerError
from agentlightning_nb.litagent import rollout
from agentlightning_nb.store import LightningStore
from agentlightning_nb.types import LLM
from agentlightning_nb.workers import WorkerPool


@pytest.fixture
def store():
    with LightningStore() as s:
        yield s


def ask(store, *inputs, **config):
    rows = [{"input": i, "config": config} if config else {"input": i} for i in inputs]
    return [r.rollout_id for r in store.enqueue_many_rollouts(rows)]


def wait(store, ids):
    return store.wait_for_rollouts(rollout_ids=ids, timeout=30)


def test_async_agents_run_together_on_one_loop(store):
    loops, together = set(), asyncio.Barrier(4)

    @rollout
    async def agent(task):
        loops.add(id(asyncio.get_running_loop()))
        await asyncio.wait_for(together.wait(), 20)  # passes only when four are under way at once
        return 1.0

    with WorkerPool(store, agent, n_workers=4):
        done = wait(store, ask(store, *range(4)))
    assert [r.reward for r in done] == [1.0] * 4 and len(loops) == 1


def test_sync_agents_run_on_threads_of_their_own(store):
    together = threading.Barrier(3, timeout=20)

    @rollout
    def agent(task):
        together.wait()
        return 1.0

    with WorkerPool(store, agent, n_workers=3):
        assert [r.status for r in wait(store, ask(store, *range(3)))] == ["succeeded"] * 3


def test_a_crash_is_recorded_with_its_traceback_and_retried(store):
    tries = []

    @rollout
    def agent(task):
        tries.append(1)
        if len(tries) == 1:
            raise KeyError("first")
        return 1.0

    ids = ask(store, "x", max_attempts=2, retry_condition=["failed"])
    with WorkerPool(store, agent, n_workers=1):
        (done,) = wait(store, ids)
    first, second = store.query_attempts(done.rollout_id)
    assert (done.status, done.reward, len(tries)) == ("succeeded", 1.0, 2)
    assert first.error.type == "KeyError" and 'raise KeyError("first")' in first.error.traceback
    assert second.status == "succeeded"


def test_workers_that_wait_for_a_rollout_leave_when_the_pool_stops(store, monkeypatch):
    monkeypatch.setattr("agentlightning_nb.workers.threads.CLAIM_S", 60.0)

    @rollout
    def agent(task):
        return 1.0

    with WorkerPool(store, agent, n_workers=3) as pool:
        wait(store, ask(store, 1))
    assert not any(w.is_alive() for w in pool.workers)
    ask(store, 2)
    assert store.dequeue_rollout().input == 2


@pytest.mark.parametrize("kind", ["async", "sync"])
def test_an_agent_that_never_returns_is_cancelled_at_its_time_limit(store, kind):
    seen = threading.Event()

    @rollout
    async def waits(task):
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            seen.set()
            raise

    @rollout
    def spins(task):
        try:
            while True:
                time.sleep(0.001)
        finally:
            seen.set()

    ids = ask(store, "x", timeout_seconds=0.2)
    with WorkerPool(store, waits if kind == "async" else spins, n_workers=1, heartbeat_s=0.05):
        (done,) = wait(store, ids)
        assert seen.wait(10)
    assert done.status == "failed" and store.get_latest_attempt(done.rollout_id).status == "timeout"


def test_a_thread_that_is_stuck_is_left_behind_and_replaced(store):
    release = threading.Event()

    @rollout
    def agent(task):
        if task.input == "stuck":
            release.wait(60)  # one long wait in C: no exception gets in
        return 1.0

    ids = ask(store, "stuck", timeout_seconds=0.1) + ask(store, "fine")
    with WorkerPool(store, agent, n_workers=1, heartbeat_s=0.05, grace_s=0.1) as pool:
        stuck, fine = wait(store, ids)
        assert (stuck.status, fine.status) == ("failed", "succeeded")
        release.set()
        pool.stop()
    assert store.get_rollout_by_id(ids[0]).status == "failed"


def test_cancelling_a_rollout_cancels_its_agent(store):
    started, ended = threading.Event(), threading.Event()

    @rollout
    async def agent(task):
        started.set()
        try:
            await asyncio.sleep(3600)
        finally:
            ended.set()

    (rollout_id,) = ask(store, "x")
    with WorkerPool(store, agent, n_workers=1, heartbeat_s=0.05):
        assert started.wait(10)
        store.update_rollout(rollout_id, status="cancelled")
        assert ended.wait(10)
    assert store.get_rollout_by_id(rollout_id).status == "cancelled"


def test_nan_is_a_failed_rollout_with_a_named_reason(store):
    with WorkerPool(store, rollout(lambda task: float("nan")), n_workers=1):
        (done,) = wait(store, ask(store, "x"))
    error = store.get_latest_attempt(done.rollout_id).error
    assert (done.status, done.reward, error.type) == ("failed", None, "RewardError") and "nan" in error.message


def test_a_pool_takes_only_the_rollouts_of_its_run(store):
    other = store.enqueue_rollout("other", run_id="run-other")
    mine = store.enqueue_rollout("mine", run_id="run-mine")
    with WorkerPool(store, rollout(lambda task: 1.0), n_workers=1, run_id="run-mine"):
        wait(store, [mine.rollout_id])
    assert store.get_rollout_by_id(other.rollout_id).status == "queuing"


def test_a_stopped_pool_leaves_no_thread(store):
    before = set(threading.enumerate())
    with WorkerPool(store, rollout(lambda task: 1.0), n_workers=4):
        wait(store, ask(store, *range(8)))
    left = [t for t in set(threading.enumerate()) - before if t.name.startswith("agentlightning")]
    assert [t.name for t in left if "writer" not in t.name] == []


def test_a_version_is_read_once_for_all_workers_and_anew_after_a_failure(store, monkeypatch):
    together, reads, read = threading.Barrier(8, timeout=20), [], store.get_resources_by_id

    def counted(version):
        reads.append(version)
        time.sleep(0.05)  # the others ask meanwhile
        if len(reads) == 1:
            raise ServerError("away for a moment")
        return read(version)

    @rollout
    def agent(task, llm):
        together.wait()
        return float(llm.model == "m")

    version = store.add_resources({"llm": LLM("m")}).resources_id
    monkeypatch.setattr(store, "get_resources_by_id", counted)
    ids = [r.rollout_id for r in store.enqueue_many_rollouts([{"input": i, "resources_id": version} for i in range(8)])]
    with WorkerPool(store, agent, n_workers=8):
        assert [r.reward for r in wait(store, ids)] == [1.0] * 8
    assert 2 <= len(reads) <= 3
