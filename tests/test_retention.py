"Spans of old rollouts go, their rewards stay, and the file becomes smaller."

import pytest

from agentlightning_nb.errors import BadRequestError
from agentlightning_nb.store import LightningStore


def done(store, reward, size=0):
    claimed = store.start_rollout({"n": reward})
    ids = {"rollout_id": claimed.rollout_id, "attempt_id": claimed.attempt.attempt_id}
    store.add_span({**ids, "name": "said", "attributes": {"text": "x" * size}})
    store.finish_attempt(*ids.values(), reward=reward)
    return claimed.rollout_id


def test_only_spans_of_old_rollouts_go(tmp_path):
    with LightningStore(tmp_path / "a.db") as store:
        ids = [done(store, float(i)) for i in range(5)]
        running = store.start_rollout("still")
        store.add_span({"rollout_id": running.rollout_id, "attempt_id": running.attempt.attempt_id, "name": "now"})
        store.annotate(ids[0], thumb=1)
        assert store.prune(keep=1) == 3
        assert store.prune(keep=1) == 0
        assert [len(store.query_spans(i)) for i in [*ids, running.rollout_id]] == [1, 0, 0, 0, 1, 1]
        assert [r.reward for r in store.query_rollouts(rollout_id_in=ids)] == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_a_file_gives_its_room_back_and_goes_on(tmp_path):
    path = tmp_path / "a.db"
    with LightningStore(path) as store:
        for i in range(20):
            done(store, float(i), size=50_000)
        store.prune(keep=2)
        before = sum(p.stat().st_size for p in tmp_path.glob("a.db*"))
        assert store.vacuum() > 0
        assert sum(p.stat().st_size for p in tmp_path.glob("a.db*")) < before / 2
        done(store, 1.0)
        assert len(store.query_rollouts()) == 21


@pytest.mark.parametrize("keep", [-1, 1.5, True, None])
def test_what_is_no_number_of_rollouts_is_refused(keep):
    with LightningStore() as store, pytest.raises(BadRequestError, match="keep is"):
        store.prune(keep)
    assert LightningStore().vacuum() == 0.0
