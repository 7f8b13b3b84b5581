"Allowances: what a rollout's model calls may use is kept back before each call, so that one dear call cannot overshoot a budget."

import dataclasses
import json
import threading

import aiohttp
import pytest

from agentlightning_nb.algorithms.apo import APO
from agentlightning_nb.algorithms.base import Algorithm
from agentlightning_nb.algorithms.budget import Budget, over_budget
from agentlightning_nb.algorithms.gepa import GEPA
from agentlightning_nb.engines.allowance import Allowance
from agentlightning_nb.litagent import LitAgent
from agentlightning_nb.simulated import Clerk, Desk, desk_tasks, first_texts
from agentlightning_nb.testing import Answer, ScriptedModel
from agentlightning_nb.trainer import Trainer
from agentlightning_nb.types import LLM

LONG = 5000  # words of an answer that nothing limits


def limit_of(body):
    return body.get("max_completion_tokens") or body.get("max_tokens") or LONG


def talkative(body):
    "Says a lot, or as much as it may."
    said = min(limit_of(body), LONG)
    return Answer(" ".join(["word"] * said), finish_reason="length" if said < LONG else None)


class Asks(LitAgent):
    "Sends its task's bodies to a route, one after the other, and keeps the statuses."

    def __init__(self, route="chat/completions"):
        self.route, self.statuses, self.lock = route, [], threading.Lock()

    async def training_rollout(self, task, rollout_id, resources):
        llm, failed = resources["llm"], 0
        async with aiohttp.ClientSession() as session:
            for body in task.input["bodies"]:
                asked = {"model": llm.model, **body}
                head = {"Authorization": f"Bearer {llm.api_key}", "anthropic-version": "2023-06-01"}
                async with session.post(f"{llm.base_url}/{self.route}", json=asked, headers=head) as reply:
                    told = (await reply.read()).decode()
                    with self.lock:
                        self.statuses.append((reply.status, told))
                    failed += reply.status != 200
        return float(failed == 0)


class Once(Algorithm):
    def __init__(self, allowance):
        self.allowance = allowance

    def run(self, run):
        self.found = run.collect(run.tasks, mode="test", step=0, allowance=self.allowance)


def ran(allowance, bodies, *, route="chat/completions", script=talkative):
    "What an agent with this allowance was told, its rollout, and the tokens that it used."
    once, agent, model = Once(allowance), Asks(route), ScriptedModel(script)
    with Trainer(n_workers=1, upstream=model) as trainer:
        tasks, named = [{"bodies": bodies}], {"llm": LLM("sim-script")}
        run = trainer.fit(agent, algorithm=once, tasks=tasks, resources=named, progress=False)
        calls = trainer.store.run_sums(run.run_id)["calls"]
        spans = once.found[0].traces
    return agent.statuses, spans, sum(c["prompt_tokens"] + c["response_tokens"] for c in calls), model


HELLO = [{"role": "user", "content": "hello"}]


def test_a_call_that_might_take_more_than_is_left_is_refused_before_it_is_made():
    statuses, spans, used, model = ran(Allowance(tokens=500), [{"messages": HELLO, "max_tokens": 600}])
    assert statuses[0][0] == 402 and "may take" in json.loads(statuses[0][1])["error"]["message"]
    assert (model.requests, used) == ([], 0)
    assert over_budget(spans) and spans[0].status.status_code == "ERROR"


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_without_a_limit_gets_what_is_left(stream):
    statuses, spans, used, model = ran(Allowance(tokens=500), [{"messages": HELLO, "stream": stream}] * 20)
    assert {statuses[0][0], statuses[-1][0]} == {200, 402}
    assert 450 < used <= 500
    assert 0 < model.requests[0]["max_completion_tokens"] < 500
    assert over_budget(spans[:1])  # it was cut off


def test_what_a_call_did_not_use_is_left_for_the_next():
    bodies = [{"messages": HELLO, "max_tokens": 400}] * 3
    statuses, spans, used, _ = ran(Allowance(tokens=500), bodies, script=lambda body: "short")
    assert [s for s, _ in statuses] == [200, 200, 200] and used < 100
    assert not over_budget(spans)


def test_money_is_kept_by_the_prices_of_the_model_that_is_asked():
    allowance = Allowance(money=0.001, prices={"sim-": (0.0, 10.0)})  # 100 tokens of answers
    statuses, _, used, model = ran(allowance, [{"messages": HELLO, "max_tokens": 101}, {"messages": HELLO}])
    assert [s for s, _ in statuses] == [402, 200]
    assert model.requests[0]["max_completion_tokens"] == 100


@pytest.mark.parametrize(
    ("route", "body", "limit"),
    [
        ("responses", {"input": "hello"}, "max_output_tokens"),
        ("messages", {"messages": HELLO}, "max_tokens"),
    ],
)
def test_every_dialect_is_held_to_it(route, body, limit):
    statuses, _, used, model = ran(Allowance(tokens=500), [body, {**body, limit: 499}], route=route)
    assert [s for s, _ in statuses] == [200, 402], statuses
    assert used <= 500 and limit_of(model.requests[0]) < 500


class Dear(Clerk):
    "A clerk that talks and talks once its texts have a rule."

    def __init__(self, seed=1):
        super().__init__(seed)
        clerk = self.script
        self.script = lambda body: (
            talkative(body) if "[rule" in body["messages"][-1]["content"] and "tools" in body else clerk(body)
        )


@pytest.mark.parametrize("search", [APO(beam_width=2, branches=2), GEPA(max_steps=20)], ids=["apo", "gepa"])
@pytest.mark.parametrize(
    "budget", [Budget(tokens=4000), Budget(money=0.004, prices={"sim-": (1.0, 1.0)})], ids=["tokens", "money"]
)
def test_one_dear_call_cannot_overshoot_a_searchs_budget(search, budget):
    clerk = Dear()
    with Trainer(n_workers=4, upstream=clerk) as trainer:
        run = trainer.fit(
            Desk(),
            algorithm=dataclasses.replace(search, budget=budget),
            tasks=desk_tasks(clerk, 12, seed=0),
            val_tasks=desk_tasks(clerk, 10, seed=1),
            resources=first_texts(),
            progress=False,
        )
        calls = trainer.store.run_sums(run.run_id)["calls"]
        used = sum(c["prompt_tokens"] + c["response_tokens"] for c in calls)
        found = run.best_resources
    assert run.status == "succeeded"
    assert 1000 < used <= 4000, run.reason
    assert "are left." in run.reason
    assert found == first_texts(), "an answer that was cut off is no evaluation"
