"A group beside each other, asked of every kind of store: advantages, where rollouts part, hostile and missing parts."

import json

import pytest

from agentlightning_nb.errors import BadRequestError, NotFoundError
from agentlightning_nb.types import AttemptError, Span
from agentlightning_nb.views.groups import parting, token_parting
from agentlightning_nb.views.questions import answer

HOSTILE = "<script>alert(1)</script>\u202e {x}"


def said(store, replies, reward, *, task="t1", group="g1", step=2, tokens=(), status=None, question="6 * 7?"):
    "A rollout whose model answers in turn; `tokens` are `(prompt ids, response ids, logprobs)` by call."
    known = {"run_id": "run-1", "step": step, "task_id": task, "group_id": group}
    at = store.start_rollout({"question": question}, mode="train", **known).attempt
    messages = [{"role": "user", "content": question}]
    for i, reply in enumerate(replies):
        told = {"gen_ai.operation.name": "chat", "gen_ai.input.messages": json.dumps(messages)}
        told["gen_ai.output.messages"] = json.dumps([{"role": "assistant", "content": reply}])
        if tokens:
            told |= dict(zip(("prompt_token_ids", "response_token_ids", "response_logprobs"), tokens[i], strict=True))
        span = Span(
            rollout_id=at.rollout_id, attempt_id=at.attempt_id, name="chat", attributes=told, start_time=float(i)
        )
        store.add_span(span)
        messages += [{"role": "assistant", "content": reply}, {"role": "user", "content": "Sure?"}]
    error = AttemptError(type="KeyError", message=HOSTILE) if status == "failed" else None
    store.finish_attempt(at.rollout_id, at.attempt_id, reward=reward, status=status or "succeeded", error=error)
    return at.rollout_id


@pytest.fixture
def group(store):
    store.add_run("run-1")
    good = said(store, ["I say 42.", "Yes."], 1.0, tokens=[([1, 2], [5, 6], [-0.1, -0.2]), ([1, 2, 3], [9], [-0.3])])
    doubts = said(store, ["I say 42.", "No."], 0.5, tokens=[([1, 2], [5, 6], [-0.1, -0.2]), ([1, 2, 3], [8], [-1.3])])
    bad = said(store, [f"I say {HOSTILE}."], 0.0, tokens=[([1, 2], [5, 7], [-0.1, -2.0])])
    failed = said(store, [], None, status="failed")
    return good, doubts, bad, failed


def test_the_best_comes_first_and_each_says_where_it_parts_from_it(store, group):
    good, doubts, bad, failed = group
    told = answer(store, "group", {"rollout_id": bad})
    assert [r["rollout_id"] for r in told["rollouts"]] == [*group] and told["reference"] == good
    assert [r["advantage"] for r in told["rollouts"]] == [0.5, 0.0, -0.5, None]
    assert (told["n"], told["mean"], told["asked"], told["shared"]) == (4, 0.5, "6 * 7?", 0)
    parts = [r["differs"] for r in told["rollouts"]]
    assert parts[0] is None
    there = {"call": 1, "at": 0, "kind": "sampled", "here": [None, 8, -1.3], "there": [None, 9, -0.3]}
    assert parts[1] == {"turn": 3, "char": 0, "token": there}
    assert (parts[2]["turn"], parts[2]["char"], parts[2]["token"]["here"]) == (1, 6, [None, 7, -2.0])
    assert (parts[3]["turn"], parts[3]["token"]) == (0, None)
    assert told["rollouts"][3]["error"] == f"KeyError: {HOSTILE}" and told["rollouts"][3]["turns"] == []


def test_another_may_be_the_reference_and_any_rollouts_stand_beside_each_other(store, group):
    good, doubts, bad, _ = group
    told = answer(store, "group", {"rollouts": [bad, doubts], "reference": bad})
    assert [r["rollout_id"] for r in told["rollouts"]] == [doubts, bad] and told["reference"] == bad
    assert [r["advantage"] for r in told["rollouts"]] == [None, None]
    assert told["rollouts"][0]["differs"]["token"]["there"] == [None, 7, -2.0] and told["shared"] == 1


def test_the_trainers_advantage_is_shown_when_it_was_kept(store, group):
    rows = [{"rollout_id": group[0], "advantage": 1.25, "tokens": 3}, {"rollout_id": group[2], "dropped": "cut off"}]
    store.add_training_rows("run-1", 2, rows)
    told = {r["rollout_id"]: r for r in answer(store, "group", {"rollout_id": group[1]})["rollouts"]}
    assert (told[group[0]]["advantage"], told[group[0]]["trained"], told[group[1]]["trained"]) == (1.25, True, False)
    assert told[group[2]]["dropped"] == "cut off"


def test_the_groups_of_a_step_stand_by_how_much_they_differ_within(store, group):
    for reward in (1.0, 1.0):
        said(store, ["four"], reward, task="t2", group="g2", question="2 + 2?")
    told = answer(store, "groups", {"run_id": "run-1"})
    assert [(g["task_id"], g["n"], g["failed"], g["mean"]) for g in told["groups"]] == [
        ("t1", 4, 1, 0.5),
        ("t2", 2, 0, 1.0),
    ]
    assert (told["step"], told["steps"], told["flat"], told["all_groups"]) == (2, [2], 1, 2)
    assert [r for r, _ in told["groups"][0]["rollouts"]] == [*group]
    assert answer(store, "groups", {"run_id": "run-1", "step": 9})["groups"] == []


def test_what_cannot_be_compared_is_said(store, group):
    for params, error in (
        ({"rollout_id": "no"}, NotFoundError),
        ({"rollouts": [group[0], "no"]}, NotFoundError),
        ({"rollout_id": group[0], "reference": "no"}, NotFoundError),
        ({"rollouts": []}, BadRequestError),
        ({}, BadRequestError),
        ({"rollout_id": group[0], "rollouts": [group[0]]}, BadRequestError),
    ):
        with pytest.raises(error):
            answer(store, "group", params)
    with pytest.raises(NotFoundError):
        answer(store, "groups", {"run_id": "no"})


@pytest.mark.parametrize(
    "here, there, found",
    [
        ("a cat sat", "a car sat", {"turn": 0, "char": 2}),  # the word, not the letter
        ("", "x", {"turn": 0, "char": 0}),
        ("same", "same and more", {"turn": 0, "char": 4}),
        ("equal", "equal", None),
    ],
)
def test_texts_part_at_a_word(here, there, found):
    turns = ([{"role": "assistant", "text": text, "tools": []}] for text in (here, there))
    assert parting(*turns) == found


def test_tokens_part_in_what_was_given_before_what_was_sampled():
    assert token_parting([[[1], [5], None]], [[[2], [6], None]])["kind"] == "given"
    assert token_parting([[[1], [5], None]], [[[1], [5, 6], None]])["here"] is None  # it had ended
    assert token_parting([], []) is None
