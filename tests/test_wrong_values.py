"A store refuses what makes no sense in the same words in memory, in a file and over HTTP, and never with an error of somebody else."

import pytest

from agentlightning_nb.client import LightningClient
from agentlightning_nb.errors import BadRequestError, LightningError, RewardError
from agentlightning_nb.export import export_run
from agentlightning_nb.store import LightningStore
from agentlightning_nb.types import LLM, AgentLightningTask, PromptTemplate, RolloutConfig, check_reward, plain


def begun(store) -> str:
    return store.start_rollout(1).rollout_id


WRONG = {
    "object": (lambda s: s.enqueue_rollout(object()), "which is not JSON"),
    "metadata": (lambda s: s.enqueue_rollout(1, metadata={"x": object()}), "which is not JSON"),
    "requests": (lambda s: s.enqueue_many_rollouts(None), "rollouts is None; give a list"),
    "claim": (lambda s: s.dequeue_many_rollouts(limit="x"), "limit is 'x'; give a whole number"),
    "claimed by": (lambda s: s.dequeue_rollout(worker_id=5), "worker_id is 5; give text"),
    "claim many": (lambda s: s.dequeue_many_rollouts(limit=2**70), "give a whole number"),
    "claim wait": (lambda s: s.dequeue_rollout(wait_s="x"), "wait_s is 'x'; give seconds"),
    "no id": (lambda s: s.update_rollout(None, status="failed"), "rollout_id is None; give text"),
    "get": (lambda s: s.get_rollout_by_id(5), "rollout_id is 5; give text"),
    "empty id": (lambda s: s.get_rollout_by_id(""), "rollout_id is ''; give text"),
    "start": (lambda s: s.start_attempt(None), "rollout_id is None; give text"),
    "status": (lambda s: s.query_rollouts(status_in=["bad"]), "'bad' is no status"),
    "one status": (lambda s: s.query_rollouts(status_in="queuing"), "status_in is 'queuing'; give a list"),
    "ids": (lambda s: s.query_rollouts(rollout_id_in=[5]), "rollout_id_in is [5]; give a list of texts"),
    "limit": (lambda s: s.query_rollouts(limit="a"), "limit is 'a'; give a whole number"),
    "much": (lambda s: s.query_rollouts(limit=2**70), "give a whole number"),
    "order": (lambda s: s.query_rollouts(sort_order="up"), "sort_order is 'up'; give one of asc, desc"),
    "logic": (lambda s: s.query_rollouts(filter_logic="xor"), "filter_logic is 'xor'; give one of and, or"),
    "step": (lambda s: s.enqueue_rollout(1, step=2**70), "64 bits"),
    "attempt": (lambda s: s.query_spans(begun(s), 5), "attempt_id is 5; give text"),
    "spans": (lambda s: s.add_many_spans(None), "spans is None; give a list"),
    "last spans": (lambda s: s.finish_attempt(begun(s), "latest", spans=5), "spans is 5; give a list"),
    "heartbeat": (lambda s: s.heartbeat("at-1"), "attempt_ids is 'at-1'; give a list of texts"),
    "wait": (lambda s: s.wait_for_rollouts(rollout_ids=None), "rollout_ids is None; give a list of texts"),
    "wait for one": (lambda s: s.wait_for_rollouts(rollout_ids="ro-1", timeout=0), "give a list of texts"),
    "wait long": (lambda s: s.wait_for_rollouts(rollout_ids=[], timeout="x"), "timeout is 'x'; give seconds"),
    "worker": (lambda s: s.update_worker(None), "worker_id is None; give text"),
    "no worker": (lambda s: s.update_worker(""), "worker_id is ''; give text"),
    "workers": (lambda s: s.query_workers(status_in=["bad"]), "'bad' is no status"),
    "version": (lambda s: s.update_resources(None, {"llm": LLM("m")}), "resources_id is None; give text"),
    "resources": (lambda s: s.add_resources([LLM("m")]), "give a dict of resources by name"),
    "parents": (lambda s: s.add_resources({}, parents="rs-1"), "parents is 'rs-1'; give a list of texts"),
    "tasks": (lambda s: s.query_tasks(limit="x"), "limit is 'x'; give a whole number"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_makes_no_sense_is_refused_in_a_sentence(store, case):
    call, said = WRONG[case]
    with pytest.raises(BadRequestError) as refused:
        call(store)
    assert said in str(refused.value)


def test_half_a_surrogate_pair_comes_back_as_it_was_said(store):
    "A model that is cut off in the middle of an emoji says such a thing."
    said = {"answer": "so \ud83d", "big": 2**70}
    rollout = store.enqueue_rollout(said, metadata={"raw": "\ude00"})
    assert store.get_rollout_by_id(rollout.rollout_id).input == said
    assert store.query_rollouts().items[0].metadata == {"raw": "\ude00"}


def test_ids_of_workers_and_versions_may_have_slashes_in_them(store):
    "Another program chooses them: a host and a number, a branch."
    store.update_resources("prompts/v1 ü?#%", {"p": PromptTemplate("a")})
    assert store.get_resources_by_id("prompts/v1 ü?#%").resources["p"].template == "a"
    assert store.update_worker("host/0", {"cpu": 1}).worker_id == "host/0"
    assert store.get_worker_by_id("host/0").heartbeat_stats == {"cpu": 1}
    assert store.get_rollout_by_id("a/b") is None


def test_a_bottomless_value_is_refused(store):
    knot: list = []
    knot.append(knot)
    with pytest.raises(BadRequestError, match="nested too deeply"):
        store.enqueue_rollout(knot)
    with pytest.raises(BadRequestError, match="nested too deeply"):
        AgentLightningTask(input=knot)


@pytest.mark.parametrize(
    "make",
    [
        lambda: AgentLightningTask(mode="exam"),
        lambda: AgentLightningTask(name=5),
        lambda: AgentLightningTask(metadata=[1]),
        lambda: LLM(5),
        lambda: LLM("m", sampling=[1]),
        lambda: PromptTemplate("x", "mustache"),
        lambda: RolloutConfig(max_attempts=0),
        lambda: RolloutConfig(timeout_seconds=-1),
    ],
)
def test_a_record_says_which_of_its_fields_is_wrong(make):
    with pytest.raises(BadRequestError, match=r"^\w+\.\w+: "):
        make()


def test_a_task_takes_its_fields_by_place():
    task = AgentLightningTask("name", "context", {"a": 1}, {"b": 2}, "task-1", "val")
    assert (task.name, task.context, task.input, task.metadata) == ("name", "context", {"a": 1}, {"b": 2})
    assert (task.task_id, task.mode) == ("task-1", "val")


def test_an_array_of_several_numbers_is_no_reward():
    numpy = pytest.importorskip("numpy")
    assert check_reward(numpy.float32(0.5)) == 0.5
    with pytest.raises(RewardError, match="give one finite number"):
        check_reward(numpy.ones(2))


def test_every_refusal_is_one_of_ours(store):
    with pytest.raises(LightningError):
        store.get_rollout_by_id(["a"])
    assert plain({"a": (1,)}) == {"a": [1]}


def test_what_opens_and_reads_a_store(tmp_path):
    for path in (None, 5):
        with pytest.raises(BadRequestError, match="give a file's path"):
            LightningStore(path)
    with LightningStore() as store:
        with pytest.raises(BadRequestError, match="give a function"):
            store.rescore(None)
        for options in ({"best_of": "x"}, {"threshold": "x"}):
            with pytest.raises(BadRequestError):
                store.export_dataset(tmp_path / "rows.jsonl", **options)


def test_rewards_are_numbers_by_name(store):
    made = store.start_rollout(1)
    for rewards in (5, [1.0], {"acc": "x"}):
        with pytest.raises(BadRequestError):
            store.finish_attempt(made.rollout_id, "latest", rewards=rewards)


@pytest.mark.parametrize("url", [None, 5, "", "localhost:8000", "ftp://x", "http://", "http://[::1", "http://x:99999"])
def test_a_client_wants_the_url_of_a_server(url):
    with pytest.raises(BadRequestError, match="http://localhost:8000"):
        LightningClient(url)


def test_a_page_that_cannot_be_written_says_so(tmp_path):
    with LightningStore() as store:
        store.add_run("run-1", algorithm="a")
        for path, said in (
            (tmp_path / "no" / "page.html", "cannot be written"),
            (tmp_path, "is a folder"),
            (5, "path is 5"),
        ):
            with pytest.raises(LightningError, match=said):
                export_run(store, "run-1", path)
