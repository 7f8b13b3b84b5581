"Agents as classes and functions, and what they record."

import asyncio

import pytest

from agentlightning_nb.errors import BadRequestError, RewardError
from agentlightning_nb.litagent import LitAgent, rollout, run_rollout
from agentlightning_nb.tracer import Recorder, current_recorder, emit_reward, recording, span
from agentlightning_nb.types import LLM, AgentLightningTask, PromptTemplate, Rollout

TASK = AgentLightningTask(context="hi", input=3)
TRAIN, VAL = Rollout(rollout_id="ro-1", mode="train"), Rollout(rollout_id="ro-1", mode="val")


def test_the_decorator_passes_what_the_signature_names():
    @rollout
    def agent(task, rollout_id, prompt, llm: LLM):
        return (task.input, rollout_id, prompt.template, llm.model)

    resources = {"prompt": PromptTemplate("p"), "main_llm": LLM("m")}
    assert run_rollout(agent, TASK, TRAIN, resources) == (3, "ro-1", "p", "m")


def test_parameters_with_defaults_may_be_left_out():
    @rollout
    def agent(task, threshold=0.5):
        return threshold

    assert run_rollout(agent, TASK, TRAIN, {}) == 0.5


def test_a_parameter_that_nothing_fits_is_named():
    @rollout
    def agent(task, retriever):
        return 0.0

    with pytest.raises(BadRequestError, match="wants 'retriever'.*given: prompt"):
        run_rollout(agent, TASK, TRAIN, {"prompt": PromptTemplate("p")})


def test_validation_defaults_to_training_and_may_differ():
    class Same(LitAgent):
        def training_rollout(self, task, rollout_id, resources):
            return 1.0

    class Other(Same):
        def validation_rollout(self, task, rollout_id, resources):
            return 2.0

    assert run_rollout(Same(), TASK, VAL, {}) == 1.0
    assert (run_rollout(Other(), TASK, TRAIN, {}), run_rollout(Other(), TASK, VAL, {})) == (1.0, 2.0)


def test_methods_of_the_newer_signature_work_too():
    class New(LitAgent):
        def training_rollout(self, task, resources, rollout):
            return rollout.rollout_id

    assert run_rollout(New(), TASK, TRAIN, {}) == "ro-1"


def test_positional_names_of_the_users_own_work():
    class Mine(LitAgent):
        def training_rollout(self, t, rid, res):
            return (t.input, rid, res)

    assert run_rollout(Mine(), TASK, TRAIN, {}) == (3, "ro-1", {})


def test_agents_side_by_side_record_apart():
    async def agent(i):
        with recording(Recorder(f"ro-{i}", f"at-{i}")) as rec:
            with span("work"):
                await asyncio.sleep(0)
            emit_reward(float(i))
        return rec

    async def both():
        return await asyncio.gather(agent(1), agent(2))

    for i, rec in enumerate(asyncio.run(both()), 1):
        assert rec.rewards == {"reward": float(i)} and {s.rollout_id for s in rec.spans} == {f"ro-{i}"}
    assert current_recorder() is None


def test_emitted_nan_is_refused_where_it_is_emitted():
    with recording(Recorder("ro-1", "at-1")) as rec, pytest.raises(RewardError):
        emit_reward({"a": 1.0, "b": float("nan")})
    assert rec.rewards == {} and rec.spans == []
