"One contract for the store, in memory, in a file and over HTTP."

import math
import threading
import time

import pytest

from agentlightning_nb.errors import BadRequestError, NotFoundError, RewardError, TransitionError
from agentlightning_nb.types import (
    ATTEMPT_NEXT,
    LLM,
    ROLLOUT_NEXT,
    TERMINAL,
    AgentLightningTask,
    AttemptedRollout,
    AttemptError,
    ModelWeights,
    PromptTemplate,
    RolloutConfig,
    Span,
    ToolDefinition,
)


def a_span(attempted, name="work", sequence_id=0, **attributes):
    return Span(
        rollout_id=attempted.rollout_id,
        attempt_id=attempted.attempt.attempt_id,
        sequence_id=sequence_id,
        name=name,
        attributes=attributes,
    )


def claimed(store, **config):
    "A rollout that somebody works on."
    store.enqueue_rollout({"q": 1}, config=RolloutConfig(**config))
    return store.dequeue_rollout("w")


def rollout_in(store, status):
    "A rollout in this state, reached as it is reached in life."
    if status == "queuing":
        return store.enqueue_rollout(1)
    row = claimed(store)
    if status == "running":
        store.heartbeat([row.attempt.attempt_id])
    elif status in ("succeeded", "failed"):
        store.finish_attempt(row.rollout_id, row.attempt.attempt_id, status=status)
    elif status in ("requeuing", "cancelled"):
        store.update_rollout(row.rollout_id, status=status)
    return store.get_rollout_by_id(row.rollout_id)


def attempt_in(store, status):
    row = claimed(store)
    if status != "preparing":
        store.update_attempt(row.rollout_id, row.attempt.attempt_id, status=status)
    return store.get_latest_attempt(row.rollout_id)


# the queue


def test_first_in_is_first_out_and_every_claim_is_a_new_attempt(store):
    made = store.enqueue_many_rollouts([{"input": {"i": i}, "mode": "train"} for i in range(5)])
    assert [r.status for r in made] == ["queuing"] * 5
    first = store.dequeue_rollout("w1")
    assert isinstance(first, AttemptedRollout) and first.rollout_id == made[0].rollout_id and first.input == {"i": 0}
    assert (first.status, first.attempt.status, first.attempt.sequence_id) == ("preparing", "preparing", 1)
    assert first.attempt.worker_id == "w1"
    rest = store.dequeue_many_rollouts(limit=10)
    assert [r.rollout_id for r in rest] == [r.rollout_id for r in made[1:]]
    assert store.dequeue_rollout() is None and store.dequeue_many_rollouts(limit=3) == []


def test_workers_of_a_run_get_that_runs_rollouts_only(store):
    store.enqueue_rollout("a", run_id="A")
    b = store.enqueue_rollout("b", run_id="B")
    assert store.dequeue_rollout(run_id="B").rollout_id == b.rollout_id
    assert store.dequeue_rollout(run_id="B") is None
    assert store.dequeue_rollout().input == "a"


def test_a_claim_that_waits_gets_what_comes(store):
    got = []
    waiting = threading.Thread(target=lambda: got.append(store.dequeue_rollout("w", wait_s=20)))
    waiting.start()
    time.sleep(0.05)
    assert not got
    made = store.enqueue_rollout("late")
    waiting.join(20)
    assert got[0].rollout_id == made.rollout_id


def test_eight_threads_claim_two_thousand_rollouts_once_each(store):
    made = {r.rollout_id for r in store.enqueue_many_rollouts([{"input": i} for i in range(2000)])}
    taken = [[] for _ in range(8)]

    def work(mine):
        while rows := store.dequeue_many_rollouts(limit=3, worker_id=threading.current_thread().name):
            mine += [r.rollout_id for r in rows]

    threads = [threading.Thread(target=work, args=(mine,)) for mine in taken]
    for t in threads:
        t.start()
    for t in threads:
        t.join(120)
    everything = [i for mine in taken for i in mine]
    assert len(everything) == 2000 and set(everything) == made


# the life cycle


@pytest.mark.parametrize("before", ROLLOUT_NEXT)
def test_rollouts_change_as_the_table_says_and_in_no_other_way(store, before):
    for after in ROLLOUT_NEXT:
        row = rollout_in(store, before)
        assert row.status == before
        if after == before or after in ROLLOUT_NEXT[before]:
            assert store.update_rollout(row.rollout_id, status=after).status == after
        else:
            with pytest.raises(TransitionError, match=f"is {before}; it cannot become {after}"):
                store.update_rollout(row.rollout_id, status=after)
        left = store.get_rollout_by_id(row.rollout_id)
        assert left.status == (after if after in ROLLOUT_NEXT[before] else before)
        assert (left.end_time is not None) == (left.status in TERMINAL)


@pytest.mark.parametrize("before", ATTEMPT_NEXT)
def test_attempts_change_as_the_table_says_and_in_no_other_way(store, before):
    for after in ATTEMPT_NEXT:
        attempt = attempt_in(store, before)
        assert attempt.status == before
        if after == before or after in ATTEMPT_NEXT[before]:
            assert store.update_attempt(attempt.rollout_id, attempt.attempt_id, status=after).status == after
        else:
            with pytest.raises(TransitionError):
                store.update_attempt(attempt.rollout_id, attempt.attempt_id, status=after)
        left = store.get_latest_attempt(attempt.rollout_id)
        assert left.status == (after if after in ATTEMPT_NEXT[before] else before)


def test_a_first_span_or_heartbeat_makes_it_run(store):
    by_span, by_heart = claimed(store), claimed(store)
    store.add_span(a_span(by_span))
    assert store.heartbeat([by_heart.attempt.attempt_id]) == []
    for row in (by_span, by_heart):
        found = store.get_rollout_by_id(row.rollout_id)
        assert (found.status, found.attempt.status) == ("running", "running")


def test_a_late_result_is_refused_and_kept_on_its_attempt(store):
    row = claimed(store)
    ids = row.rollout_id, row.attempt.attempt_id
    store.update_rollout(row.rollout_id, status="cancelled")
    with pytest.raises(TransitionError, match="cancelled|failed"):
        store.finish_attempt(*ids, reward=1.0, spans=[a_span(row, "after the end")])
    found = store.get_rollout_by_id(row.rollout_id)
    assert (found.status, found.reward) == ("cancelled", None)
    late = store.get_latest_attempt(row.rollout_id).metadata["late"]
    assert (late["status"], late["reward"]) == ("succeeded", 1.0)
    (span,) = store.query_spans(row.rollout_id)
    assert span.name == "after the end" and span.attributes["agl.late"] is True
    assert store.heartbeat([ids[1]]) == [ids[1]]


def test_a_failed_attempt_is_tried_again_as_often_as_the_config_says(store):
    config = RolloutConfig(max_attempts=3, retry_condition=["failed", "timeout"])
    rollout_id = store.enqueue_rollout("x", config=config).rollout_id
    for n in (1, 2):
        row = store.dequeue_rollout("w")
        assert row.attempt.sequence_id == n
        store.finish_attempt(
            rollout_id, row.attempt.attempt_id, status="failed", error=AttemptError(type="E", message="no")
        )
        assert store.get_rollout_by_id(rollout_id).status == "requeuing"
    row = store.dequeue_rollout("w")
    store.finish_attempt(rollout_id, row.attempt.attempt_id, reward=0.5)
    assert store.get_rollout_by_id(rollout_id).reward == 0.5
    tried = store.query_attempts(rollout_id)
    assert [a.status for a in tried] == ["failed", "failed", "succeeded"] and tried[0].error.message == "no"


def test_a_failure_that_is_not_to_be_retried_ends_the_rollout(store):
    row = claimed(store, max_attempts=3, retry_condition=["timeout"])
    store.finish_attempt(row.rollout_id, row.attempt.attempt_id, status="failed")
    assert store.get_rollout_by_id(row.rollout_id).status == "failed" and store.dequeue_rollout() is None


@pytest.mark.parametrize(
    ("config", "ends"), [({"timeout_seconds": 0.1}, "timeout"), ({"unresponsive_seconds": 0.1}, "unresponsive")]
)
def test_what_takes_too_long_or_falls_silent_is_ended_and_tried_again(store, config, ends):
    row = claimed(store, max_attempts=2, retry_condition=[ends], **config)
    again = store.dequeue_rollout("w2", wait_s=20)
    assert again.rollout_id == row.rollout_id and again.attempt.sequence_id == 2
    first, second = store.query_attempts(row.rollout_id)
    assert (first.status, second.status) == (ends, "preparing") and first.error is not None
    assert store.heartbeat([row.attempt.attempt_id]) == [row.attempt.attempt_id]
    with pytest.raises(TransitionError):
        store.finish_attempt(row.rollout_id, row.attempt.attempt_id, reward=1.0)


def test_signs_of_life_keep_an_attempt_alive(store):
    row = claimed(store, unresponsive_seconds=1.0)
    for beat in range(8):
        time.sleep(0.2)
        if beat % 2:
            store.add_span(a_span(row))
        else:
            store.update_worker("w", {"load": 1})
    assert store.get_latest_attempt(row.rollout_id).status == "running"


# results


def test_a_result_and_its_spans_are_one_thing(store):
    row = claimed(store)
    spans = [a_span(row, "think"), a_span(row, "answer")]
    store.finish_attempt(row.rollout_id, row.attempt.attempt_id, reward=0.75, rewards={"brief": 0.5}, spans=spans)
    found = store.get_rollout_by_id(row.rollout_id)
    assert (found.status, found.reward, found.attempt.rewards) == ("succeeded", 0.75, {"brief": 0.5})
    assert [(s.name, s.sequence_id) for s in store.query_spans(row.rollout_id)] == [("think", 1), ("answer", 2)]


@pytest.mark.parametrize("reward", [math.nan, math.inf, "much"])
def test_a_reward_that_is_none_is_refused_and_nothing_is_kept(store, reward):
    row = claimed(store)
    with pytest.raises(RewardError):
        store.finish_attempt(row.rollout_id, row.attempt.attempt_id, rewards={"speed": reward}, spans=[a_span(row)])
    assert (
        store.get_rollout_by_id(row.rollout_id).status == "preparing" and list(store.query_spans(row.rollout_id)) == []
    )


def test_the_last_reward_span_is_the_reward(store):
    row = claimed(store)
    for value in (0.2, 0.9):
        named = {"agentlightning.reward.0.name": "main", "agentlightning.reward.0.value": value}
        store.add_span(a_span(row, "agentlightning.annotation", **named))
    assert store.get_latest_attempt(row.rollout_id).reward == 0.9
    store.finish_attempt(row.rollout_id, row.attempt.attempt_id)
    assert store.get_rollout_by_id(row.rollout_id).reward == 0.9


def test_spans_come_back_as_they_went_with_numbers_given_by_the_store(store):
    row = claimed(store)
    ids = {"prompt_token_ids": [1, 2, 3], "response_token_ids": [7, 600], "response_logprobs": [-0.25, -1e-7]}
    sent = store.add_many_spans([a_span(row, "chat m", **ids), a_span(row, "tool", text="é\n", n=[1.5, 2.5])])
    kept = list(store.query_spans(row.rollout_id))
    assert [s.sequence_id for s in sent] == [s.sequence_id for s in kept] == [1, 2]
    assert kept == sent
    assert store.get_next_span_sequence_id(row.rollout_id, row.attempt.attempt_id) == 3
    (triplet,) = store.query_triplets([row.rollout_id] * 2)[row.rollout_id]
    assert (triplet.prompt_ids, triplet.response_ids) == ([1, 2, 3], [7, 600])
    assert triplet.logprobs == [-0.25, -1e-7]


def test_the_same_span_twice_is_kept_once(store):
    row = claimed(store)
    span = a_span(row, sequence_id=1)
    store.add_span(span)
    store.add_span(span)
    assert len(store.query_spans(row.rollout_id)) == 1


def test_spans_are_found_by_what_they_are(store):
    row = claimed(store)
    store.add_many_spans([a_span(row, name) for name in ("chat a", "chat b", "tool")])
    named = lambda **by: [s.name for s in store.query_spans(row.rollout_id, **by)]  # noqa: E731
    assert named(name="tool") == ["tool"] and named(name_contains="chat") == ["chat a", "chat b"]
    assert named(name="tool", name_contains="b", filter_logic="or") == ["chat b", "tool"]
    assert named(sort_order="desc", limit=2) == ["tool", "chat b"] and named(offset=2) == ["tool"]
    assert named(attempt_id="latest") == ["chat a", "chat b", "tool"]
    assert list(store.query_spans("ro-nothing")) == []


# waiting and asking


def test_waiting_ends_when_all_have_ended(store):
    rows = [claimed(store) for _ in range(2)]
    ids = [r.rollout_id for r in rows]
    store.finish_attempt(ids[1], rows[1].attempt.attempt_id, reward=1.0)
    assert [r.rollout_id for r in store.wait_for_rollouts(rollout_ids=ids, timeout=0.05)] == ids[1:]
    later = threading.Timer(0.1, lambda: store.update_rollout(ids[0], status="cancelled"))
    later.start()
    ended = store.wait_for_rollouts(rollout_ids=ids, timeout=30)
    assert [(r.rollout_id, r.status) for r in ended] == [(ids[0], "cancelled"), (ids[1], "succeeded")]
    later.join()


def test_rollouts_are_found_filtered_sorted_and_in_pages(store):
    made = store.enqueue_many_rollouts(
        [
            {"input": i, "mode": ("train", "val")[i % 2], "run_id": "r", "step": i // 2, "task_id": f"t{i}"}
            for i in range(6)
        ]
    )
    store.update_rollout(made[0].rollout_id, status="cancelled")
    inputs = lambda **by: [r.input for r in store.query_rollouts(**by)]  # noqa: E731
    assert inputs() == [0, 1, 2, 3, 4, 5] and inputs(status_in=["cancelled"]) == [0]
    assert inputs(mode="val", step=1) == [3] and inputs(task_id="t4") == [4]
    assert inputs(rollout_id_in=[made[5].rollout_id, made[1].rollout_id]) == [1, 5]
    assert inputs(status_in=["cancelled"], rollout_id_contains=made[2].rollout_id[3:], filter_logic="or") == [0, 2]
    page = store.query_rollouts(sort_by="step", sort_order="desc", limit=2, offset=2)
    assert [r.step for r in page] == [1, 1] and (page.total, page.limit, page.offset) == (6, 2, 2)
    with pytest.raises(BadRequestError, match="sort_by|sort"):
        store.query_rollouts(sort_by="colour")


def test_resources_are_versions_that_never_change(store):
    given = {"p": PromptTemplate("Hello {name}"), "llm": LLM("m"), "w": ModelWeights("/x", step=2)}
    one = store.add_resources(given, note="first")
    two = store.add_resources({**given, "t": ToolDefinition("f", "does")}, parents=[one.resources_id])
    assert two.version == one.version + 1 and two.parents == [one.resources_id]
    assert store.get_resources_by_id(one.resources_id).resources == given
    assert store.get_latest_resources().resources_id == two.resources_id
    assert store.update_resources(one.resources_id, {"p": PromptTemplate("Hi")}).version > two.version
    assert store.get_resources_by_id(one.resources_id).resources == {"p": PromptTemplate("Hi")}
    assert store.get_resources_by_id("rs-nothing") is None


def test_runs_metrics_tasks_and_workers_are_kept(store):
    store.add_run("run-1", algorithm="GRPO", config={"n": 8})
    store.add_metrics("run-1", 0, {"reward": 0.5})
    store.add_metrics("run-1", 1, {"reward": 0.75, "loss": 0.1})
    assert [(m["step"], m["name"], m["value"]) for m in store.query_metrics("run-1", name="reward")] == [
        (0, "reward", 0.5),
        (1, "reward", 0.75),
    ]
    last = store.query_metrics("run-1")[-2]["rowid"]
    assert len(store.query_metrics("run-1", since_rowid=last)) == 1
    store.update_run("run-1", status="succeeded", state={"step": 2}, end=True)
    kept = store.get_run("run-1")
    assert (kept["status"], kept["state"], kept["end_time"] is not None) == ("succeeded", {"step": 2}, True)
    store.add_tasks(
        [AgentLightningTask(task_id="t1", input={"a": 1}, name="n"), AgentLightningTask(task_id="t2", input=2)]
    )
    assert [t.task_id for t in store.query_tasks(task_id_in=["t2"])] == ["t2"]
    row = claimed(store)
    assert store.get_worker_by_id("w").current_rollout_id == row.rollout_id
    store.update_worker("w", {"cpu": 0.5})
    assert [(w.worker_id, w.status, w.heartbeat_stats) for w in store.query_workers()] == [("w", "busy", {"cpu": 0.5})]


def test_unknown_ids_are_clear_errors(store):
    writes = [
        lambda: store.update_rollout("ro-x", status="cancelled"),
        lambda: store.update_attempt("ro-x", "at-x", status="failed"),
        lambda: store.finish_attempt("ro-x", "at-x"),
        lambda: store.start_attempt("ro-x"),
        lambda: store.wait_for_rollouts(rollout_ids=["ro-x"], timeout=0),
        lambda: store.add_span(Span(rollout_id="ro-x", attempt_id="at-x", sequence_id=1, name="n")),
        lambda: store.enqueue_rollout(1, resources_id="rs-x"),
    ]
    for write in writes:
        with pytest.raises(NotFoundError, match="-x"):
            write()
    assert store.get_rollout_by_id("ro-x") is None and store.get_latest_attempt("ro-x") is None
    assert store.query_attempts("ro-x").items == store.query_spans("ro-x").items == []


def test_many_spans_with_one_that_is_wrong_are_none(store):
    row = claimed(store)
    wrong = Span(rollout_id=row.rollout_id, attempt_id="at-x", sequence_id=1, name="n")
    with pytest.raises(NotFoundError):
        store.add_many_spans([a_span(row), wrong])
    assert list(store.query_spans(row.rollout_id)) == []


def test_what_a_worker_tells_is_checked_before_it_is_kept(store):
    "A row that cannot be read back would break every later question about workers."
    row = claimed(store)
    for wrong in ([], "busy", 1):
        with pytest.raises(BadRequestError, match="heartbeat_stats"):
            store.update_worker("w", wrong)
    for wrong in ({"worker_id": 7}, {"last_heartbeat_time": "soon"}):
        with pytest.raises(BadRequestError, match=next(iter(wrong))):
            store.update_attempt(row.rollout_id, row.attempt.attempt_id, **wrong)
    assert [(w.worker_id, w.heartbeat_stats) for w in store.query_workers()] == [("w", None)]
