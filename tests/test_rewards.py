"A judge: what it is asked, what of its answers counts, and what is done with those that do not."

import asyncio
import logging

import pytest

from agentlightning_nb.algorithms.base import Algorithm
from agentlightning_nb.errors import BadRequestError, RewardError
from agentlightning_nb.litagent import rollout
from agentlightning_nb.rewards import Judge, agreement, scores_in
from agentlightning_nb.server import AgentLightningServer
from agentlightning_nb.store import LightningStore
from agentlightning_nb.testing import Answer, Failure, ScriptedModel
from agentlightning_nb.trainer import Trainer
from agentlightning_nb.types import LLM


class Once(Algorithm):
    def run(self, run):
        self.found = run.collect(run.tasks, mode="test", step=0)


def judged(judge, script, tasks, *, store=None, n_workers=1):
    "The rollouts of an agent that hands each task's input to the judge, and what the judge's model was asked."

    @rollout
    async def agent(task, llm):
        verdict = await judge.judge(task.input, model=llm)
        return verdict.score

    once, model = Once(), ScriptedModel(script)
    with Trainer(n_workers=n_workers, upstream=model, store=store) as trainer:
        trainer.fit(agent, algorithm=once, tasks=tasks, resources={"llm": LLM("sim-script")}, progress=False)
        spans = [[s for s in r.traces if s.name == "judge"] for r in once.found]
    return once.found, spans, model.requests


def test_a_group_is_seen_side_by_side_and_ranked():
    judge = Judge("Be right.")
    (found,), ((told,),), requests = judged(judge, ['B is right.\n{"scores": [0.1, 0.9]}'], [["A", "B"]])
    assert found.final_reward == 0.1
    assert "<answer 1>\nA\n</answer 1>\n<answer 2>\nB" in requests[0]["messages"][0]["content"]
    assert told.attributes["reasoning"].startswith("B is right.")


def test_an_answer_without_a_verdict_is_asked_for_again_and_then_fails_the_rollout():
    found, spans, requests = judged(Judge("r"), ["what?", '{"scores": [7]}'], [["A"]])
    assert found[0].status == "failed" and found[0].final_reward is None
    assert found[0].error.type == "RewardError" and "7 is no score" in found[0].error.message
    assert requests[1]["messages"][-1]["content"] == 'There is no line {"scores": [...]}. Answer again.'


def test_the_same_question_is_asked_once_and_failures_are_not_remembered():
    script = [Failure(400, "busy"), '{"scores": [1]}']
    found, spans, requests = judged(Judge("r"), script, [["A"], ["A"], ["A"]])
    assert [r.status for r in found] == ["failed", "succeeded", "succeeded"]
    assert len(requests) == 2 and spans[2][0].attributes["cached"] is True


def test_a_verdict_outlives_the_judge_that_gave_it_and_its_kernel(tmp_path):
    path, group = tmp_path / "runs.db", ["A", "B"]
    first = judged(Judge("r"), ['B.\n{"scores": [0.2, 0.9]}'], [group], store=path)
    again = judged(Judge("r"), [], [group, group], store=path)  # another trainer, another judge, nothing to say
    assert [len(first[2]), len(again[2])] == [1, 0]
    assert [r.final_reward for r in again[0]] == [0.2, 0.2]
    told = again[1][0][0].attributes
    assert told["cached"] is True and told["reasoning"].startswith("B.")
    other = judged(Judge("another rubric"), ['{"scores": [0.5, 0.5]}'], [group], store=path)
    assert other[0][0].final_reward == 0.5, "another rubric is another question"


def test_a_question_that_is_being_asked_is_waited_for():
    slow = Answer('{"scores": [1]}', delay_s=0.3)
    found, _, requests = judged(Judge("r"), [slow] * 8, [["A"]] * 8, n_workers=8)
    assert [r.final_reward for r in found] == [1.0] * 8
    assert len(requests) == 1


def test_verdicts_are_kept_by_what_was_asked(store):
    assert store.get_verdict("k") is None
    store.keep_verdict("k", [0.5, 1], reasoning="so", model="m", rubric="r")
    store.keep_verdict("k", [0, 0])
    kept = store.get_verdict("k")
    assert (kept.scores, kept.reasoning, kept.model, kept.rubric) == ([0.5, 1.0], "so", "m", "r")
    for bad in ({"key": "", "scores": [1]}, {"key": "k", "scores": []}, {"key": "k", "scores": [float("nan")]}):
        with pytest.raises(BadRequestError):
            store.keep_verdict(**bad)


def test_a_judge_outside_an_agent_keeps_its_verdicts_in_the_store_it_is_given():
    with LightningStore() as store, AgentLightningServer(upstream=ScriptedModel(['{"scores": [0.4]}'])) as server:
        model = LLM("sim-script", base_url=f"{server.url}/v1", api_key=server.token)
        for _ in range(2):
            assert asyncio.run(Judge("r", model, store=store).score("A")) == 0.4


@pytest.mark.parametrize(
    "bad", ['{"scores": "1"}', '{"scores": [true]}', '{"scores": [-0.1]}', '{"scores": []}', "[1]", ""]
)
def test_nothing_but_scores_from_0_to_1_counts(bad):
    with pytest.raises(RewardError):
        scores_in(bad, 1)


async def _no_model():
    await Judge("r").score("A")


def test_a_judge_without_a_model_says_so():
    with pytest.raises(BadRequestError, match="needs a model with an address"):
        asyncio.run(_no_model())


def test_a_judge_that_people_disagree_with_is_warned_of(store, caplog):
    for reward, thumb in ((0.1, 1), (0.9, -1)):
        claimed = store.start_rollout("x")
        store.finish_attempt(claimed.rollout_id, claimed.attempt.attempt_id, reward=reward)
        store.annotate(claimed.rollout_id, thumb=thumb)
    with caplog.at_level(logging.WARNING):
        found = agreement(store)
    assert (found.pairs, found.share, len(found.disputed)) == (1, 0.0, 2)
    assert "agree on 0% of 1 pairs" in caplog.text
