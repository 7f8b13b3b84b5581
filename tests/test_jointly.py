"Operations that come together are done together, as if each had come for itself."

import threading

import pytest

from agentlightning_nb.errors import NotFoundError
from agentlightning_nb.storage import recording
from agentlightning_nb.storage.incoming import arrived, incoming_of
from agentlightning_nb.storage.turns import Op
from agentlightning_nb.store import LightningStore
from agentlightning_nb.types import Span

CALL = {"gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": 3, "gen_ai.usage.output_tokens": 2}


@pytest.fixture
def store(tmp_path):
    with LightningStore(tmp_path / "store.db") as store:
        yield store


def span(rollout, number, name="work", attempt_id=None, **attributes):
    "A span on its way."
    ids = {"rollout_id": rollout.rollout_id, "attempt_id": attempt_id or rollout.attempt.attempt_id}
    told = Span(**ids, name=name, span_id=f"{number:016x}", trace_id="a" * 32, attributes=attributes)
    return incoming_of(told)


def together(store, *operations):
    "The futures of operations that are in one batch of the writer."
    begun, released = threading.Event(), threading.Event()
    store._writer.submit(Op(lambda turn: (begun.set(), released.wait(20))))
    assert begun.wait(20)
    futures = [store.submit(verb, *args) for verb, *args in operations]
    released.set()
    return futures


def adding(*spans):
    return "add_incoming", spans


@pytest.fixture
def calls(monkeypatch):
    "How many spans came with each call of the joint way."
    sizes, really = [], recording.add_jointly

    def watched(turn, spans):
        sizes.append(len(spans))
        return really(turn, spans)

    monkeypatch.setattr(recording, "add_jointly", watched)
    return sizes


def usage(store, rollout):
    sql = "SELECT calls, prompt_tokens, response_tokens, last_span FROM attempt WHERE rollout_id = ?"
    return store._read(lambda conn: conn.execute(sql, (rollout.rollout_id,)).fetchone())


def names(store, rollout):
    return [(s.sequence_id, s.span_id[-2:]) for s in store.query_spans(rollout.rollout_id)]


def test_spans_of_many_requests_are_numbered_and_counted_at_once(store, calls):
    one, other = store.start_rollout(1), store.start_rollout(2)
    found = together(store, *[adding(span([one, other][i % 2], i, **CALL)) for i in range(16)])
    assert [f.result(10) for f in found] == [None] * 16 and calls == [16]
    assert names(store, one) == [(i + 1, f"{2 * i:02x}") for i in range(8)]
    assert usage(store, one) == usage(store, other) == (8, 24, 16, 8)
    assert {r.status for r in store.query_rollouts()} == {"running"}


def test_what_comes_between_is_done_in_its_turn(store, calls):
    rollout = store.start_rollout(1)
    finish = ("finish_attempt", rollout.rollout_id, rollout.attempt.attempt_id)
    found = together(
        store, *map(adding, [span(rollout, 1), span(rollout, 2)]), finish, *map(adding, [span(rollout, 3)] * 2)
    )
    assert [f.exception(10) for f in found] == [None] * 5 and calls == [2, 2]
    assert [s.attributes.get("agl.late", False) for s in store.query_spans(rollout.rollout_id)] == [False, False, True]


def test_a_span_of_nobody_fails_alone(store, calls):
    rollout = store.start_rollout(1)
    found = together(
        store, adding(span(rollout, 1)), adding(span(rollout, 2, attempt_id="at-none")), adding(span(rollout, 3))
    )
    assert [type(f.exception(10)) for f in found] == [type(None), NotFoundError, type(None)] and calls == [3]
    assert names(store, rollout) == [(1, "01"), (2, "03")]


def test_a_call_that_is_told_twice_is_counted_once(store, calls):
    rollout = store.start_rollout(1)
    store.add_incoming([span(rollout, 1, **CALL)])
    found = together(store, *[adding(span(rollout, n, **CALL)) for n in (1, 2, 2, 3, 1)])
    assert [f.exception(10) for f in found] == [None] * 5
    assert usage(store, rollout)[:3] == (3, 9, 6)
    assert [name for _, name in names(store, rollout)] == ["01", "02", "03"]
    again = together(store, *[adding(span(rollout, n, **CALL)) for n in (1, 2)])
    assert [f.exception(10) for f in again] == [None] * 2 and usage(store, rollout)[:3] == (3, 9, 6)


def test_rewards_come_one_after_the_other(store, calls):
    rollout = store.start_rollout(1)
    told = [
        {"agentlightning.reward.0.value": 1.0, "agentlightning.reward.1.value": 0.5},
        {"agentlightning.reward.0.value": 2.0},
    ]
    found = together(store, *[adding(span(rollout, i, "agentlightning.annotation", **a)) for i, a in enumerate(told)])
    assert [f.exception(10) for f in found] == [None] * 2 and calls == []
    attempt = store.query_attempts(rollout.rollout_id)[0]
    assert (attempt.reward, attempt.rewards) == (2.0, {"reward_1": 0.5})


def test_a_number_that_cannot_be_kept_fails_alone(store, calls):
    rollout = store.start_rollout(1)
    bad = span(rollout, 2)
    bad.row[9] = object()  # no value of SQLite's
    found = together(store, adding(span(rollout, 1)), adding(bad), adding(span(rollout, 3)))
    assert [f.exception(10) is None for f in found] == [True, False, True] and calls == [3]
    assert [name for _, name in names(store, rollout)] == ["01", "03"]


def test_a_body_with_a_reward_is_no_part_of_the_joint_way(store):
    rollout = store.start_rollout(1)
    ids = f'"rollout_id": "{rollout.rollout_id}", "attempt_id": "{rollout.attempt.attempt_id}"'
    body = f'{{{ids}, "name": "agentlightning.annotation", "attributes": {{"agentlightning.reward.0.value": 1}}}}'
    assert store._add_incoming(arrived(body.encode()).spans).joint is None
    assert store._add_incoming([span(rollout, 1)]).joint is recording.add_jointly
