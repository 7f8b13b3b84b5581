"A list of algorithms is one run with one lineage: steps follow each other, a stop and a resume work across the parts."

import json
from dataclasses import dataclass

import pytest
from aiohttp import ClientSession

from agentlightning_nb.algorithms.base import Algorithm, as_algorithm
from agentlightning_nb.errors import BadRequestError
from agentlightning_nb.litagent import rollout
from agentlightning_nb.trainer import Trainer
from agentlightning_nb.types import LLM, PromptTemplate, Span


@rollout
async def echo(task):
    return float(task.input)


@dataclass(frozen=True)
class Writes(Algorithm):
    "Publishes a text each step."

    text: str
    max_steps: int = 2
    stop_after: int | None = None

    def run(self, run):
        run.plan(self.max_steps)
        for step in range((run.state or {}).get("step", 0), self.max_steps):
            if run.stopping:
                return
            run.collect(run.tasks, step=step)
            run.publish({**run.resources, self.text: PromptTemplate(f"{self.text}{step}")}, note=f"{self.text}{step}")
            run.log(step, **{self.text: float(step)})
            run.checkpoint({"step": step + 1})
            if self.stop_after == step:
                run.stop()


def fit(trainer, algorithm, **options):
    return trainer.fit(echo, algorithm=algorithm, tasks=[1], progress=False, **options)


def test_steps_follow_each_other_and_the_lineage_is_one():
    with Trainer(n_workers=1) as trainer:
        run = fit(trainer, [Writes("a"), Writes("b", max_steps=3)])
        assert (run.status, run.step, run.max_steps) == ("succeeded", 5, 5)
        versions = list(trainer.store.query_resources(sort_order="asc"))
        assert [v.note for v in versions] == ["initial", "a0", "a1", "b0", "b1", "b2"]
        assert [v.parents for v in versions[1:]] == [[v.resources_id] for v in versions[:-1]]
        assert {k: r.template for k, r in run.resources.items()} == {"a": "a1", "b": "b2"}
        assert [r.step for r in trainer.store.query_rollouts(run_id=run.run_id)] == [0, 1, 2, 3, 4]
        logged = [(m["step"], m["name"]) for m in trainer.store.query_metrics(run.run_id)]
        assert logged == [(0, "a"), (1, "a"), (2, "b"), (3, "b"), (4, "b")]


@pytest.mark.parametrize("stop_at", [0, 1])
@pytest.mark.parametrize("part", [0, 1])
def test_a_run_stopped_in_any_part_goes_on_there(stop_at, part):
    parts = [Writes("a"), Writes("b")]
    stopping = [Writes(p.text, stop_after=stop_at if i == part else None) for i, p in enumerate(parts)]
    with Trainer(n_workers=1) as trainer:
        run = fit(trainer, stopping)
        assert (run.status, run.step) == ("stopped", 2 * part + stop_at + 1)
        again = fit(trainer, parts, resume=run)
        assert (again.run_id, again.status, again.step) == (run.run_id, "succeeded", 4)
        notes = [v.note for v in trainer.store.query_resources(sort_order="asc")]
        assert notes == ["initial", "a0", "a1", "b0", "b1"]


def test_a_run_of_something_else_is_not_resumed():
    with Trainer(n_workers=1) as trainer:
        run = fit(trainer, Writes("a"))
        with pytest.raises(BadRequestError, match="begun with"):
            fit(trainer, [Writes("a"), Writes("b")], resume=run)


def test_names_and_objects_can_stand_in_a_list():
    class Keep:
        def optimize_step(self, rollout_results, resources_version):
            return None

    with Trainer(n_workers=1) as trainer:
        assert fit(trainer, [Keep(), Writes("a")]).step == 3
    with pytest.raises(BadRequestError, match="algorithm is a list"):
        as_algorithm([])


def test_weights_that_one_part_trained_are_where_the_next_begins(tmp_path):
    pytest.importorskip("trl")
    from agentlightning_nb.algorithms.grpo import GRPO
    from agentlightning_nb.algorithms.sft import SFT
    from agentlightning_nb.demo import CalculatorAgent
    from agentlightning_nb.rl.tiny import make_model, make_tokenizer
    from agentlightning_nb.rl.weights import load_model

    tokenizer, task = make_tokenizer(), {"question": "1 + 1?", "answer": 2}
    for part in (make_model(tokenizer), tokenizer):
        part.save_pretrained(tmp_path / "tiny")
    with Trainer(n_workers=4) as trainer:
        old = trainer.store.start_rollout(task, mode="train")
        said = [[{"role": "user", "content": task["question"]}], [{"role": "assistant", "content": "3"}]]
        call = {"gen_ai.operation.name": "chat", "agl.request": "{}"}
        call |= {f"gen_ai.{n}.messages": json.dumps(m) for n, m in zip(("input", "output"), said, strict=True)}
        ids = {"rollout_id": old.rollout_id, "attempt_id": old.attempt.attempt_id}
        trainer.store.add_span(Span(**ids, name="chat tiny", attributes=call))
        trainer.store.finish_attempt(*ids.values(), reward=0.0)
        trainer.store.annotate(old.rollout_id, correction="2")
        chain = [SFT(tmp_path / "tiny", epochs=1), GRPO(max_steps=1, n=2, batch_size=1, max_tokens=8)]
        run = trainer.fit(CalculatorAgent(), algorithm=chain, tasks=[task], progress=False)
        assert (run.status, run.step, run.reason) == ("succeeded", 2, "")
        found = {
            v.note: v.resources["weights"].path for v in trainer.store.query_resources() if "weights" in v.resources
        }
        (end, _), (start, _) = load_model(found["SFT epoch 1"]), load_model(found["GRPO step 0"])
        assert all((a == b).all() for a, b in zip(end.parameters(), start.parameters(), strict=True))


def test_a_prompt_that_was_searched_and_the_weights_trained_under_it_are_one_lineage(monkeypatch):
    pytest.importorskip("gepa")
    from agentlightning_nb.algorithms.gepa import GEPA
    from agentlightning_nb.algorithms.grpo import GRPO
    from agentlightning_nb.engines.torch import TorchEngine
    from agentlightning_nb.rl.tiny import make_model, make_tokenizer
    from agentlightning_nb.server import AgentLightningServer
    from agentlightning_nb.testing import ScriptedModel

    @rollout
    async def agent(task, llm, system):
        body = {"model": llm.model, "messages": [{"role": "user", "content": system.format() + task.input}]}
        async with ClientSession(headers={"Authorization": f"Bearer {llm.api_key}"}) as session:
            async with session.post(f"{llm.base_url}/chat/completions", json={**body, "max_tokens": 4}) as reply:
                said = (await reply.json())["choices"][0]["message"]["content"]
        return 0.5 * ("better" in system.template) + 0.5 * (len(said) % 2)

    tokenizer = make_tokenizer()
    model = make_model(tokenizer)
    with (
        AgentLightningServer(upstream=ScriptedModel(lambda body: "```\nBe better.\n```")) as other,
        TorchEngine(model, tokenizer, name="policy") as engine,
        Trainer(n_workers=4, upstream=engine) as trainer,
    ):
        writer = LLM("sim-script", base_url=f"{other.url}/v1")
        monkeypatch.setenv("OPENAI_BASE_URL", writer.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", other.token)
        chain = [
            GEPA(max_steps=1, model=writer, sampling={"temperature": 0.0}),
            GRPO(model, tokenizer, max_steps=1, n=4, batch_size=2, max_tokens=4),
        ]
        first = {"system": PromptTemplate("Be."), "llm": LLM("policy")}
        given = {"tasks": ["1", "22"], "val_tasks": ["3", "44"], "resources": first, "progress": False}
        run = trainer.fit(agent, algorithm=chain, **given)
        assert (run.status, run.step, run.max_steps) == ("succeeded", 2, 2)
        known = {v.note: v for v in trainer.store.query_resources()}
        assert known["GRPO step 0"].parents == [known["GEPA step 0"].resources_id]
        assert known["GRPO step 1"].parents == [known["GRPO step 0"].resources_id]
        for found in (run.resources, run.best_resources):
            assert found["system"].template == "Be better." and found["weights"].path
        trained = [r for r in trainer.store.query_rollouts(run_id=run.run_id, mode="train") if r.step == 1]
        assert {r.resources_id for r in trained} == {known["GRPO step 0"].resources_id} and len(trained) == 8
