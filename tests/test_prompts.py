"APO and GEPA: budgets, the evaluation cache, going on after a kill, refusals, failures and equal scores."

import json
import random
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from agentlightning_nb.algorithms.apo import APO
from agentlightning_nb.algorithms.gepa import GEPA
from agentlightning_nb.algorithms.prompts import Budget, refusal, texts_of, with_texts
from agentlightning_nb.errors import BadRequestError
from agentlightning_nb.litagent import rollout
from agentlightning_nb.simulated import PHRASES, Clerk, Desk, desk_tasks, first_texts
from agentlightning_nb.testing import Answer, ScriptedModel, reply_to
from agentlightning_nb.tracer import emit_message
from agentlightning_nb.trainer import Trainer
from agentlightning_nb.types import LLM, PromptTemplate, ToolDefinition
from agentlightning_nb.views import reward_curve

SEARCHES = {
    "apo": lambda **more: APO(**{"max_steps": 2, "beam_width": 2, "branches": 2, **more}),
    "gepa": lambda **more: GEPA(**{"max_steps": 8, **more}),
}
both = pytest.mark.parametrize("search", SEARCHES.values(), ids=SEARCHES)


def fit(trainer, algorithm, agent=None, **more):
    clerk = Clerk(seed=1)
    given = {"tasks": desk_tasks(clerk, 12, seed=0), "val_tasks": desk_tasks(clerk, 10, seed=1)}
    given |= {"resources": first_texts(), "progress": False}
    return trainer.fit(agent or Desk(), algorithm=algorithm, **(given | more))


def evaluations(store, run):
    return [r for r in store.query_rollouts(run_id=run.run_id) if r.mode is not None]


def found_by(store, run):
    "Everything that a search decided: contents, parents' contents and notes of its versions, and what it found best."
    versions = {v.resources_id: v for v in store.query_resources()}
    said = [
        (texts_of(v.resources), [texts_of(versions[p].resources) for p in v.parents], v.note) for v in versions.values()
    ]
    return sorted(said, key=json.dumps), texts_of(run.best_resources)


@both
def test_a_search_finds_better_texts_and_the_run_has_them(search):
    clerk = Clerk(seed=1)
    with Trainer(n_workers=4, upstream=clerk) as trainer:
        run = fit(trainer, search(max_steps=4) if search is SEARCHES["apo"] else search(max_steps=20))
        assert run.status == "succeeded"
        assert clerk.worth(run.best_resources) > clerk.worth(first_texts())
        assert run.best_resources == run.resources
        known = {v.resources_id: v for v in trainer.store.query_resources()}
        assert {p for v in known.values() for p in v.parents} <= set(known)
        assert {r.resources_id for r in evaluations(trainer.store, run)} <= set(known)


@both
@pytest.mark.parametrize("most", [10, 17, 40])
def test_a_budget_in_rollouts_is_kept_to_the_unit(search, most):
    with Trainer(n_workers=4, upstream=Clerk(seed=1)) as trainer:
        run = fit(trainer, search(budget=Budget(rollouts=most), max_steps=50))
        assert len(evaluations(trainer.store, run)) <= most
        assert f"The budget of {most} rollouts is spent" in run.reason
        assert run.status == "succeeded"


@both
def test_budgets_in_tokens_and_money_are_kept(search):
    for budget in (Budget(tokens=3000), Budget(money=0.003, prices={"sim-": (1.0, 1.0)})):
        with Trainer(n_workers=4, upstream=Clerk(seed=1)) as trainer:
            run = fit(trainer, search(budget=budget, max_steps=50))
            calls = trainer.store.run_sums(run.run_id)["calls"]
            tokens = sum(c["prompt_tokens"] + c["response_tokens"] for c in calls)
            assert 1500 < tokens <= 3000, run.reason
            assert "is spent" in run.reason


def test_a_budget_that_does_not_cover_the_first_look_is_refused_before_anything_is_spent():
    with Trainer(upstream=Clerk()) as trainer:
        with pytest.raises(BadRequestError, match="does not cover one look at 10 validation tasks"):
            fit(trainer, APO(budget=Budget(rollouts=9)))
        with pytest.raises(BadRequestError, match="needs the price of 'sim-clerk'"):
            fit(trainer, APO(budget=Budget(money=1.0)))
        assert len(trainer.store.query_rollouts()) == 0


@both
def test_nothing_is_paid_twice(search):
    with Trainer(n_workers=4, upstream=Clerk(seed=1)) as trainer:
        run = fit(trainer, search())
        versions = {v.resources_id: v.content_hash for v in trainer.store.query_resources()}
        keys = [(versions[r.resources_id], r.task_id, r.mode) for r in evaluations(trainer.store, run)]
        assert len(keys) == len(set(keys))


def test_evaluations_of_other_runs_count_only_when_asked_for():
    with Trainer(n_workers=4, upstream=Clerk(seed=1)) as trainer:
        fit(trainer, APO(max_steps=1, branches=1))
        again = fit(trainer, APO(max_steps=1, branches=1))
        assert len(evaluations(trainer.store, again)) > 0
        free = fit(trainer, APO(max_steps=1, branches=1, everywhere=True))
        assert evaluations(trainer.store, free) == []
        assert texts_of(free.best_resources) == texts_of(again.best_resources)


class Whimsical(Clerk):
    "A clerk whose edits follow from the seed that it is asked with; without one, from how often it was asked."

    def __init__(self, seed):
        super().__init__(seed)
        self.seeds = []

    def _said(self, body):
        text = body["messages"][-1]["content"]
        if not text.startswith("Rewrite:"):
            return super()._said(body)
        self.seeds.append(body.get("seed"))
        texts = dict(re.findall(r'<text name="(\w+)">(.*?)</text>', text, re.DOTALL))
        drawn = random.Random(body.get("seed", len(self.seeds)))
        return "".join(f'<text name="{n}">{t} {drawn.choice(PHRASES)}</text>' for n, t in texts.items())


@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_with_seeds_is_the_same_whenever_it_is_run(name):
    more = {"critique": None, "edit": "Rewrite: {texts}"} if name == "apo" else {"reflection": "Rewrite: {texts}"}
    found, asked = [], []
    for workers in (1, 6):
        clerk = Whimsical(seed=1)
        with Trainer(n_workers=workers, upstream=clerk) as trainer:
            run = fit(trainer, SEARCHES[name](model_sampling={"seed": 5}, **more))
            found.append(found_by(trainer.store, run))
            asked.append(sorted(clerk.seeds))
    assert found[0] == found[1] and asked[0] == asked[1]
    assert min(asked[0]) == 5
    if name == "apo":  # which asks about one parent several times: the same words again have another seed
        assert max(asked[0]) > 5


def test_no_seed_is_sent_where_none_is_asked_for():
    clerk = Whimsical(seed=1)
    with Trainer(n_workers=2, upstream=clerk) as trainer:
        fit(trainer, SEARCHES["apo"](max_steps=1, critique=None, edit="Rewrite: {texts}"))
    assert set(clerk.seeds) == {None}


class Cut(Exception):
    "Stands for the end of a kernel."


class Failing(Desk):
    "Ends the run after some rollouts, as a kernel that is killed would."

    def __init__(self, after: int):
        self.left, self.run, self.lock = after, None, threading.Lock()

    async def training_rollout(self, task, rollout_id, resources):
        with self.lock:
            self.left -= 1
        if self.left < 0 and self.run is not None:
            self.run.stop(now=True)
        return await super().training_rollout(task, rollout_id, resources)


@both
@pytest.mark.parametrize("after", [5, 14, 23, 31])
def test_a_run_that_was_cut_off_goes_on_to_what_the_uninterrupted_one_finds(search, after, tmp_path):
    budget = Budget(rollouts=60)
    with Trainer(n_workers=1, upstream=Clerk(seed=1)) as trainer:
        whole = fit(trainer, search(budget=budget))
        expected, spent = found_by(trainer.store, whole), len(evaluations(trainer.store, whole))
    path = tmp_path / "cut.db"
    with Trainer(n_workers=1, upstream=Clerk(seed=1), store=path) as trainer:
        clerk, agent = Clerk(seed=1), Failing(after)
        given = {"tasks": desk_tasks(clerk, 12, seed=0), "val_tasks": desk_tasks(clerk, 10, seed=1)}
        agent.run = run = trainer.start(agent, algorithm=search(budget=budget), resources=first_texts(), **given)
        run.wait(60)
        assert run.status == "stopped"
    with Trainer(n_workers=1, upstream=Clerk(seed=1), store=path) as trainer:
        resumed = fit(trainer, search(budget=budget), resources=None, resume=run.run_id)
        assert found_by(trainer.store, resumed) == expected
        ended = [r for r in evaluations(trainer.store, resumed) if r.status != "cancelled"]
        assert len(ended) == spent
        steps = [(m["step"], m["name"]) for m in trainer.store.query_metrics(resumed.run_id)]
        assert len(steps) == len(set(steps))


def test_an_edit_that_drops_a_placeholder_is_refused_before_it_is_spent_on():
    def writer(body):
        text = body["messages"][-1]["content"]
        if "keeps the rewards low" in text:
            return "shorter"
        return '<text name="system">Just answer.</text>' if "A reviewer says" in text else "wrong"

    with Trainer(n_workers=4, upstream=ScriptedModel(writer)) as trainer:
        run = fit(trainer, APO(max_steps=2, branches=2))
        assert {r.resources_id for r in evaluations(trainer.store, run)} == {run.version}
        assert len(trainer.store.query_resources()) == 1
        assert run.latest["refused"] > 0


def test_a_tool_keeps_its_name_and_schema():
    parameters = {"type": "object", "properties": {"description": {"type": "string", "description": "What."}}}
    old = {"tool": ToolDefinition("find", "Find.", parameters)}
    assert refusal(old, with_texts(old, {"tool": "Find it.", "tool.description": "Which."})) is None
    other = {"type": "object", "properties": {}}
    assert "its schema has changed" in refusal(old, {"tool": ToolDefinition("find", "Find.", other)})
    assert "its name became" in refusal(old, {"tool": ToolDefinition("seek", "Find.", parameters)})


@both
def test_equal_scores_are_said_in_words(search):
    @rollout
    async def indifferent(task):
        return 0.5

    with Trainer(n_workers=4, upstream=Clerk(seed=1)) as trainer:
        run = fit(trainer, search(max_steps=2), agent=indifferent)
        assert "Every score was 0.5, so nothing tells one candidate from another." in run.reason
        assert texts_of(run.best_resources) == texts_of(first_texts())


def test_a_candidate_whose_rollouts_fail_scores_lowest_and_loses():
    class Touchy(Desk):
        async def training_rollout(self, task, rollout_id, resources):
            if "[rule" in resources["system"].template:
                raise ValueError("too many rules")
            emit_message(f"the handbook has a rule for {task.input['topic']}")
            return 0.4 if task.input["number"] % 2 else 0.6

    with Trainer(n_workers=4, upstream=Clerk(seed=1)) as trainer:
        run = fit(trainer, APO(max_steps=2, branches=2), agent=Touchy())
        assert run.status == "succeeded"
        assert "[rule" not in run.best_resources["system"].template
        assert any(r.status == "failed" for r in evaluations(trainer.store, run))


def test_an_agent_that_fails_from_the_start_ends_the_run():
    @rollout
    async def broken(task):
        raise ValueError("no")

    with Trainer(n_workers=4, upstream=Clerk(seed=1)) as trainer, pytest.warns(RuntimeWarning, match="10 of 10"):
        assert fit(trainer, APO(), agent=broken).status == "failed"


@both
def test_the_optimisers_calls_are_recorded_and_no_curve_counts_them(search):
    with Trainer(n_workers=4, upstream=Clerk(seed=1)) as trainer:
        run = fit(trainer, search())
        rows = list(trainer.store.query_rollouts(run_id=run.run_id))
        asked = [r for r in rows if r.mode is None]
        assert asked and all("optimiser" in r.metadata and r.reward is None for r in asked)
        spans = trainer.store.query_spans(asked[0].rollout_id)
        assert spans[0].attributes["gen_ai.usage.output_tokens"] > 0
        assert reward_curve(trainer.store, run.run_id).rollouts == len(rows) - len(asked)


def test_a_model_that_does_not_answer_ends_the_run_with_its_words():
    def mute(body):
        return "" if "keeps the rewards low" in body["messages"][-1]["content"] else "wrong"

    with (
        Trainer(n_workers=4, upstream=ScriptedModel(mute)) as trainer,
        pytest.warns(RuntimeWarning, match="did not answer"),
    ):
        assert fit(trainer, APO()).status == "failed"


def test_pausing_holds_a_search_and_stopping_keeps_its_best():
    clerk = Clerk(seed=1)
    with Trainer(n_workers=2, upstream=clerk) as trainer:
        given = {"tasks": desk_tasks(clerk, 12, seed=0), "val_tasks": desk_tasks(clerk, 10, seed=1)}
        run = trainer.start(Desk(), algorithm=APO(max_steps=500), resources=first_texts(), **given)
        held = threading.Event()
        run.subscribe(lambda: held.set() if run.status == "paused" else None)
        run.pause()
        assert held.wait(30)
        run.stop()
        run.wait(30)
        assert run.status == "stopped"
        assert set(run.best_resources) == {"system", "lookup", "llm"}


class Elsewhere(BaseHTTPRequestHandler):
    "An endpoint of its own, with a simulated writer behind it."

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(body)
        told = json.dumps(reply_to(body, Answer("no idea"), "sim-writer").body).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)

    def log_message(self, *_):
        "Nothing."


def test_the_model_may_have_an_address_of_its_own():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere)
    server.asked = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    writer = LLM("sim-writer", base_url=f"http://127.0.0.1:{server.server_port}/v1", sampling={"temperature": 0.5})
    try:
        with Trainer(n_workers=4, upstream=Clerk(seed=1)) as trainer:
            run = fit(trainer, APO(model=writer, max_steps=1, branches=1))
            used = {c["model"] for c in trainer.store.run_sums(run.run_id)["calls"]}
    finally:
        server.shutdown()
        server.server_close()
    assert used == {"sim-writer", "sim-clerk"}
    assert {(b["model"], b["temperature"]) for b in server.asked} == {("sim-writer", 0.5)}


@pytest.mark.slow
def test_merges_have_two_parents():
    for seed in range(6):
        clerk = Clerk(seed=seed)
        with Trainer(n_workers=4, upstream=clerk) as trainer:
            tasks = desk_tasks(clerk, 30, seed=seed)
            fit(trainer, GEPA(max_steps=20, seed=seed), tasks=tasks, val_tasks=tasks)
            merged = [v for v in trainer.store.query_resources() if v.note == "GEPA merge"]
            if merged:
                assert all(len(set(v.parents)) == 2 for v in merged)
                return
    pytest.fail("no search merged anything")


class Unlucky(Clerk):
    "Knows only what its texts say, so the first texts score 0."

    def _lucky(self, topic, number):
        return False


@pytest.mark.parametrize("worth", [lambda score: score, lambda score: score - 1.0], ids=["zero", "negative"])
def test_merges_over_a_worthless_ancestor_do_not_end_the_search(worth):
    class Worthless(Desk):
        async def training_rollout(self, task, rollout_id, resources):
            return worth(await super().training_rollout(task, rollout_id, resources))

    for seed in range(4):  # without the remedy one of these fails inside the library
        clerk = Unlucky(seed=seed)
        with Trainer(n_workers=4, upstream=clerk) as trainer:
            tasks = desk_tasks(clerk, 8, seed=seed)
            run = fit(trainer, GEPA(max_steps=16, seed=seed), Worthless(), tasks=tasks, val_tasks=tasks)
            assert run.status == "succeeded"


def test_plain_texts_have_no_placeholders_and_missing_variables_are_named():
    with pytest.raises(BadRequestError, match="The template needs name"):
        PromptTemplate("Hello {name}").format()
    with pytest.raises(BadRequestError, match="The template needs name"):
        PromptTemplate("Hello {{ name }}", engine="jinja").format(other=1)
    with pytest.raises(BadRequestError, match="cannot be rendered"):
        PromptTemplate("{{ ''.__class__.__mro__ }}", engine="jinja").format()
    said = 'Say {"n": 1} and {{ nothing }}.'
    assert PromptTemplate(said, engine="plain").format(n=2) == said


@pytest.mark.parametrize("text", ["{q", "{q!z}", "{q:{width}}", "{q.real}", "{}"])
def test_a_template_that_cannot_be_filled_says_so_and_is_refused(text):
    with pytest.raises(BadRequestError):
        PromptTemplate(text).format(q=1)
    assert refusal({"system": PromptTemplate("{q}")}, {"system": PromptTemplate(text)})


def test_what_a_jinja_template_does_wrong_is_said_as_its_fault():
    for text in ("{{ 1 // 0 }}", "{{ 'a' + 1 }}", "{% for i in range(10**9) %}{{ i }}{% endfor %}", "{% if %}"):
        with pytest.raises(BadRequestError, match="The jinja template cannot be"):
            PromptTemplate(text, engine="jinja").format()
    with pytest.raises(BadRequestError, match="cannot be filled"):
        PromptTemplate("{q:d}").format(q="a")


def test_a_plain_text_may_be_edited_freely():
    before = {"system": PromptTemplate("Say {n}.", engine="plain")}
    assert refusal(before, with_texts(before, {"system": "Say {anything {."})) is None
    assert refusal(before, with_texts(before, {"system": " "})) == "the template system: it is empty"


def test_what_to_edit_and_who_writes_is_asked_for():
    with Trainer(upstream=Clerk()) as trainer:
        with pytest.raises(BadRequestError, match="There is nothing to edit"):
            fit(trainer, APO(), resources={"llm": LLM("sim-clerk")})
        with pytest.raises(BadRequestError, match="Which model writes the edits"):
            fit(trainer, APO(), resources={"system": PromptTemplate("x")})
