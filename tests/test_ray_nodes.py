"Ray: how long it lives, and workers as actors over several nodes, where a node that dies takes its attempts with it to be run again on another."

import importlib.util
import threading

import pytest
from waiting import until

from agentlightning_nb.errors import BadRequestError
from agentlightning_nb.litagent import LitAgent
from agentlightning_nb.server import AgentLightningServer
from agentlightning_nb.store import LightningStore
from agentlightning_nb.types import EnqueueRolloutRequest, RolloutConfig

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(600),
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed"),
]


@pytest.fixture
def nodes(monkeypatch):
    "A cluster of this machine's own, of a head without room for workers and two nodes that have some."
    import ray
    from ray.cluster_utils import Cluster

    from agentlightning_nb.cluster import PATIENCE

    for name, value in PATIENCE.items():
        monkeypatch.setenv(name, value)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    ends = [cluster.add_node(num_cpus=1) for _ in range(2)]
    cluster.wait_for_nodes(120)
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    yield cluster, ends
    ray.shutdown()
    cluster.shutdown()


def slow(takes_s):
    "An agent that tells by its reward which task it was, after a while."

    class Slow(LitAgent):
        def training_rollout(self, task, rollout_id, resources):
            import time

            time.sleep(takes_s)
            return float(task.input)

    return Slow()


def test_what_ran_on_a_node_that_died_is_run_again_on_another(nodes):
    from agentlightning_nb.workers.ray import RayPool

    cluster, (one, _) = nodes

    store = LightningStore()
    with AgentLightningServer(store, token="t") as server:
        config = RolloutConfig(max_attempts=4, retry_condition=["unresponsive", "failed"])
        with RayPool(store, slow(0.4), n_workers=4, server_url=server.url, server_token="t") as pool:
            until(lambda: sum(h.ready for h in pool.handles) == 4, 120)
            asked = store.enqueue_many_rollouts([EnqueueRolloutRequest(input=i, config=config) for i in range(40)])
            until(lambda: any(r.status == "succeeded" for r in store.query_rollouts()), 120)
            cluster.remove_node(one, allow_graceful=False)
            ids = [r.rollout_id for r in asked]
            until(lambda: all(r.end_time for r in store.query_rollouts(rollout_id_in=ids)), 240.0)
            assert pool.error is None
        rows = {r.rollout_id: r for r in store.query_rollouts(rollout_id_in=ids)}
        assert [rows[i].reward for i in ids] == [float(i) for i in range(40)]
        tries = [len(store.query_attempts(i)) for i in ids]
        assert max(tries) > 1  # somebody died in the middle of something
    store.close()


def test_a_node_that_joins_gets_actors_and_costs_no_attempt(nodes):
    from agentlightning_nb.workers.ray import RayPool

    cluster, (one, two) = nodes
    cluster.remove_node(two)
    store = LightningStore()
    with AgentLightningServer(store, token="t") as server:
        config = RolloutConfig(max_attempts=3, retry_condition=["unresponsive"])
        with RayPool(store, slow(0.2), n_workers=4, server_url=server.url, server_token="t") as pool:
            until(lambda: sum(h.ready for h in pool.handles) == 4, 120)
            assert {h.node for h in pool.handles} == {one.node_id}
            asked = store.enqueue_many_rollouts([EnqueueRolloutRequest(input=i, config=config) for i in range(20)])
            until(lambda: any(r.status == "succeeded" for r in store.query_rollouts()), 120)
            three = cluster.add_node(num_cpus=1)
            shared = lambda: sum(h.ready and h.node == three.node_id for h in pool.handles) == 2  # noqa: E731
            until(lambda: shared() and len(pool.handles) == 4, 120)
            more = store.enqueue_many_rollouts([EnqueueRolloutRequest(input=i, config=config) for i in range(20, 40)])
            ids = [r.rollout_id for r in (*asked, *more)]
            until(lambda: all(r.end_time for r in store.query_rollouts(rollout_id_in=ids)), 120)
            there = {h.worker_id for h in pool.handles if h.node == three.node_id}
            assert pool.error is None
        rows = {r.rollout_id: r for r in store.query_rollouts(rollout_id_in=ids)}
        assert [rows[i].reward for i in ids] == [float(i) for i in range(40)]
        attempts = [a for i in ids for a in store.query_attempts(i)]
        assert len(attempts) == 40
        assert there & {a.worker_id for a in attempts}
    store.close()


def test_no_more_is_claimed_than_there_are_actors_and_a_stalled_store_slows_them_down(nodes, tmp_path):
    from agentlightning_nb.storage.turns import Op
    from agentlightning_nb.workers.ray import RayPool

    store, tick, goes_on = LightningStore(tmp_path / "run.db"), threading.Event(), threading.Event()

    def under_way():
        return len(store.query_rollouts(status_in=["preparing", "running"]))

    def ended():
        return sum(bool(r.end_time) for r in store.query_rollouts())

    with AgentLightningServer(store, token="t") as server:
        with RayPool(store, slow(0.2), n_workers=3, server_url=server.url, server_token="t") as pool:
            until(lambda: sum(h.ready for h in pool.handles) == 3, 120)
            asked = store.enqueue_many_rollouts([EnqueueRolloutRequest(input=i) for i in range(30)])
            until(lambda: ended() >= 3, 120)
            stall = threading.Thread(target=store._do, args=(Op(lambda turn: goes_on.wait(60)),))
            stall.start()  # the one writer of the file is busy with this
            tick.wait(0.5)
            before = ended()
            for _ in range(30):  # in three seconds these actors could do the rest
                assert under_way() <= 3 and ended() == before
                tick.wait(0.1)
            assert before < 30
            goes_on.set()
            stall.join(60)
            ids = [r.rollout_id for r in asked]
            while ended() < 30:
                assert under_way() <= 3 and pool.error is None
                tick.wait(0.05)
        assert sorted(r.reward for r in store.query_rollouts(rollout_id_in=ids)) == [float(i) for i in range(30)]
        assert all(len(store.query_attempts(i)) == 1 for i in ids)
    store.close()


def test_ray_outlives_the_thread_that_asked_for_it_and_begins_again(monkeypatch):
    import ray

    from agentlightning_nb.cluster import begin_ray

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    for number in range(2):
        ends = []
        asking = threading.Thread(target=lambda: ends.append(begin_ray(options={"num_cpus": 1})))  # noqa: B023
        asking.start()
        asking.join()  # Linux kills what this thread has started, if it was this one
        try:
            assert ray.get(ray.remote(lambda x: x + 1).remote(number), timeout=120) == number + 1
            with pytest.raises(BadRequestError, match="'A': '1'"):
                begin_ray(env={"A": "1"})
            assert begin_ray() is None
        finally:
            ends[0]()
        assert not ray.is_initialized()
