"A rollout opened through questions: order and depth of spans, pages of tokens, and what cannot be found."

import pytest

from agentlightning_nb.errors import BadRequestError, NotFoundError
from agentlightning_nb.views.questions import answer

CALL = {
    "gen_ai.operation.name": "chat",
    "prompt_token_ids": [1, 2],
    "response_token_ids": [3],
    "response_logprobs": [-0.5],
}


@pytest.fixture
def opened(store):
    "A rollout with a model call, a tool inside it, and two spans that are each other's parents."
    rollout = store.start_rollout("6 * 7")
    at = {"rollout_id": rollout.rollout_id, "attempt_id": rollout.attempt.attempt_id, "trace_id": "t" * 32}
    spans = [("b", "a", 1.5, {"result": "42"}), ("a", None, 1.0, CALL), ("c", "d", 3.0, {}), ("d", "c", 4.0, {})]
    store.add_many_spans(
        [
            at
            | {"span_id": s, "parent_id": p, "sequence_id": i, "name": s, "start_time": t, "end_time": t + 0.25}
            | {"attributes": a}
            for i, (s, p, t, a) in enumerate(spans, 1)
        ]
    )
    return store, rollout.rollout_id


def test_spans_stand_under_their_parents_and_a_circle_loses_none(opened):
    store, rollout_id = opened
    spans = answer(store, "trace", {"rollout_id": rollout_id})["spans"]
    assert [(s["name"], s["depth"], s["kind"]) for s in spans] == [
        ("a", 0, "model call"),
        ("b", 1, "tool"),
        ("c", 0, "other"),
        ("d", 1, "other"),
    ]


def test_tokens_come_in_pages(opened):
    store, rollout_id = opened
    pages = [answer(store, "tokens", {"rollout_id": rollout_id, "start": i, "limit": 1}) for i in range(4)]
    assert [[token[:5] for token in p["tokens"]] for p in pages] == [
        [[1, 1, None, False, None]],
        [[1, 2, None, False, None]],
        [[1, 3, None, True, -0.5]],
        [],
    ]
    assert {p["total"] for p in pages} == {3}


def test_what_is_not_there_is_said(opened):
    store, rollout_id = opened
    for question, params in [
        ("rollout", {"rollout_id": "ro-nothing"}),
        ("trace", {"rollout_id": rollout_id, "attempt_id": "at-nothing"}),
        ("call", {"rollout_id": rollout_id, "sequence_id": 9}),
    ]:
        with pytest.raises(NotFoundError, match=r"nothing|9"):
            answer(store, question, params)
    with pytest.raises(BadRequestError):
        answer(store, "tokens", {"rollout_id": rollout_id, "limit": 0})


@pytest.mark.parametrize(
    "options, bounds, clipped",
    [
        ({"clip_low": 0.2, "clip_high": 0.28}, [0.2, 0.28], True),
        ({"clip_low": 0.2, "clip_high": 0.28, "loss": "gspo"}, None, None),
        ({"clip_low": 0.2, "clip_high": 0.28, "mismatch": {"how": "tis"}}, None, None),
        ({}, None, None),
    ],
)
def test_a_token_is_called_clipped_only_where_its_own_ratio_is_what_was_clipped(store, options, bounds, clipped):
    store.add_run("run-1", config={"options": options})
    at = store.start_rollout("6 * 7", run_id="run-1", step=0).attempt
    ids = {"rollout_id": at.rollout_id, "attempt_id": at.attempt_id}
    store.add_span(ids | {"span_id": "a", "name": "chat", "start_time": 1.0, "end_time": 2.0, "attributes": CALL})
    row = {"rollout_id": at.rollout_id, "advantage": 1.0, "tokens": 1, "logprobs": [-0.125], "calls": ["a"]}
    store.add_training_rows("run-1", 0, [row])
    told = answer(store, "tokens", {"rollout_id": at.rollout_id})
    assert (told["bounds"] and list(told["bounds"]), told["tokens"][-1][7]) == (bounds, clipped)
    assert told["tokens"][-1][6] == pytest.approx(1.4549914)
