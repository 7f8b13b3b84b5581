"The store over HTTP: what only the client can get wrong. That its verbs are the store's is tested by the store's own contract."

import inspect
import socket
import threading

import pytest
from waiting import until

from agentlightning_nb.client import LightningClient, known_token, servers_folder
from agentlightning_nb.errors import (
    BadRequestError,
    NotFoundError,
    RewardError,
    ServerError,
    TransitionError,
    UnauthorizedError,
)
from agentlightning_nb.server import AgentLightningServer
from agentlightning_nb.store import LightningStore
from agentlightning_nb.types import LLM, AgentLightningTask, AttemptedRollout, ModelWeights, Rollout, Span


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("AGENTLIGHTNING_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("AGENTLIGHTNING_TOKEN", raising=False)


@pytest.fixture
def server():
    with LightningStore() as store, AgentLightningServer(store) as s:
        yield s


@pytest.fixture
def client(server):
    with LightningClient(server.url, server.token) as c:
        yield c


def public(cls):
    return {n: f for n, f in inspect.getmembers(cls, inspect.isfunction) if not n.startswith("_")}


def test_the_client_has_the_verbs_of_the_store_with_the_same_arguments():
    store, client = public(LightningStore), public(LightningClient)
    only_with_the_file = {"prune", "vacuum"}
    assert set(store) - set(client) == only_with_the_file
    for name, verb in ((n, v) for n, v in store.items() if n not in only_with_the_file):
        ours, theirs = inspect.signature(client[name]).parameters, inspect.signature(verb).parameters
        assert {n: (p.kind, p.name) for n, p in ours.items()} == {n: (p.kind, p.name) for n, p in theirs.items()}, name


def test_records_come_back_as_what_they_are(client):
    version = client.add_resources(
        {"llm": LLM("tiny", sampling={"temperature": 0.5}), "w": ModelWeights("x", step=3)}, note="n"
    )
    assert (
        isinstance(version.resources["llm"], LLM) and version.resources["llm"].base_url is None and version.note == "n"
    )
    assert client.get_resources_by_id(version.resources_id) == version == client.get_latest_resources()
    made = client.enqueue_rollout(
        {"q": [1, None, "ü"]}, resources_id=version.resources_id, step=4, run_id="run-1", metadata={"a": 1}
    )
    assert type(made) is Rollout and made.step == 4
    claimed = client.dequeue_rollout("w1", run_id="run-1")
    assert type(claimed) is AttemptedRollout and claimed.input == {"q": [1, None, "ü"]}
    span = Span(
        rollout_id=claimed.rollout_id,
        attempt_id=claimed.attempt.attempt_id,
        name="chat tiny",
        attributes={"prompt_token_ids": [1, 2], "response_token_ids": [3], "response_logprobs": [-0.25]},
    )
    assert client.add_span(span).span_id == span.span_id
    client.finish_attempt(claimed.rollout_id, claimed.attempt.attempt_id, reward=0.5, rewards={"style": 1.0})
    (triplet,) = client.query_triplets([claimed.rollout_id])[claimed.rollout_id]
    assert (triplet.prompt_ids, triplet.response_ids, triplet.logprobs, triplet.reward) == ([1, 2], [3], [-0.25], 0.5)
    assert client.query_rollouts(run_id="run-1", step=4)[0].attempt.rewards["style"] == 1.0


def test_runs_metrics_tasks_and_frames_travel(client):
    client.add_tasks([AgentLightningTask(context="Add 1 and 2")])
    assert client.query_tasks()[0].context == "Add 1 and 2"
    client.add_run("run-1", algorithm="grpo", config={"lr": 0.1})
    assert client.update_run("run-1", status="succeeded", state={"step": 3}, end=True)["state"] == {"step": 3}
    client.add_metrics("run-1", 1, {"reward": 0.5, "loss": float("nan")})
    assert [m["value"] for m in client.query_metrics("run-1", name="reward")] == [0.5]
    assert client.get_run("run-none") is None and client.query_runs()[0]["run_id"] == "run-1"
    claimed = client.start_rollout(1, run_id="run-1", step=1)
    client.finish_attempt(claimed.rollout_id, claimed.attempt.attempt_id, reward=1.0)
    assert (
        list(client.rewards_df("run-1")["reward"]) == [1.0]
        and len(client.rollouts_df()) == 1
        and len(client.spans_df()) == 0
    )
    assert client.reward_points("run-1")


def test_errors_are_the_class_they_were_raised_as(client):
    with pytest.raises(NotFoundError, match="ro-none"):
        client.update_rollout("ro-none", status="cancelled")
    made = client.enqueue_rollout(1)
    with pytest.raises(TransitionError, match="cannot become"):
        client.update_rollout(made.rollout_id, status="succeeded")
    with pytest.raises(BadRequestError):
        client.query_rollouts(sort_by="nonsense")
    assert client.get_rollout_by_id("ro-none") is None and client.get_latest_attempt("ro-none") is None
    assert client.get_resources_by_id("rs-none") is None and client.get_worker_by_id("w-none") is None


def test_a_reward_that_is_no_number_is_refused_before_it_travels(client):
    claimed = client.start_rollout(1)
    with pytest.raises(RewardError):
        client.finish_attempt(claimed.rollout_id, claimed.attempt.attempt_id, reward=float("nan"))
    assert client.get_rollout_by_id(claimed.rollout_id).status == "preparing"


def test_ids_with_odd_characters_stay_ids(client):
    for odd in ("../runs", "a/b", "a?b=c", "ü %00"):
        assert client.get_rollout_by_id(odd) is None
        with pytest.raises(NotFoundError):
            client.update_rollout(odd, status="cancelled")


def test_the_token_of_this_users_server_is_found_and_a_wrong_one_is_said(server):
    with LightningClient(server.url) as c:
        assert c.token == server.token and c.statistics() is not None
    with LightningClient(server.url.replace("127.0.0.1", "localhost")) as c:
        assert c.statistics() is not None
    with LightningClient(server.url, token="wrong") as c, pytest.raises(UnauthorizedError, match="token"):
        c.statistics()


def test_no_token_is_sent_to_another_machine_or_to_the_heir_of_a_dead_server(server):
    port = server.url.rsplit(":", 1)[1]
    assert known_token(f"http://example.org:{port}") == ""
    file = servers_folder() / f"{port}.json"
    file.write_text(file.read_text().replace('"pid": ', '"pid": 99999999, "was": '))
    assert known_token(server.url) == ""


def test_a_server_that_is_away_is_said_in_words():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    with LightningClient(f"http://127.0.0.1:{port}") as c, pytest.raises(ServerError, match="Is it running"):
        c.statistics()
    with pytest.raises(BadRequestError, match="http://localhost:8000"):
        LightningClient("localhost:8000")


def test_a_client_survives_a_restart_of_its_server(tmp_path):
    with LightningStore(tmp_path / "a.db") as store:
        first = AgentLightningServer(store, token="t").start()
        port = int(first.url.rsplit(":", 1)[1])
        with LightningClient(first.url, "t") as c:
            made = c.enqueue_rollout("kept")
            first.stop()
            with AgentLightningServer(store, port=port, token="t"):
                assert c.get_rollout_by_id(made.rollout_id).input == "kept"


def test_many_threads_share_a_client_and_nothing_is_claimed_twice(client):
    made = {r.rollout_id for r in client.enqueue_many_rollouts([{"input": i} for i in range(200)])}
    claimed, lock = [], threading.Lock()

    def work(name):
        while (one := client.dequeue_rollout(name)) is not None:
            client.finish_attempt(one.rollout_id, one.attempt.attempt_id, reward=1.0)
            with lock:
                claimed.append(one.rollout_id)

    threads = [threading.Thread(target=work, args=(f"w{i}",)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(claimed) == 200 and set(claimed) == made
    assert len(client.query_rollouts(status_in=["succeeded"])) == 200


def test_submit_waits_without_blocking(client):
    made = client.enqueue_rollout(1)
    waiting = client.submit("wait_for_rollouts", rollout_ids=[made.rollout_id])
    client.update_rollout(made.rollout_id, status="cancelled")
    assert [r.rollout_id for r in waiting.result(30)] == [made.rollout_id]
    assert waiting.exception() is None
    failing = client.submit("update_rollout", "ro-none", status="cancelled")
    assert isinstance(failing.exception(30), NotFoundError)


def test_waiting_stops_at_its_timeout_and_names_strangers(client):
    made = client.enqueue_rollout(1)
    assert client.wait_for_rollouts(rollout_ids=[made.rollout_id], timeout=0.01) == []
    with pytest.raises(NotFoundError):
        client.wait_for_rollouts(rollout_ids=["ro-none"], timeout=0.01)


def test_closing_ends_requests_that_wait(server):
    client = LightningClient(server.url)
    waiting = client.submit("dequeue_rollout", "w1", wait_s=25)
    client.statistics()
    until(lambda: client._connections._busy)
    client.close()
    assert isinstance(waiting.exception(30), ServerError)
    with pytest.raises(ServerError, match="closed"):
        client.statistics()


def test_a_proxy_beside_a_remote_store_records_there(server):
    from agentlightning_nb.engines.base import Reply

    class Parrot:
        models = ["parrot"]

        async def chat(self, body, *, session=None):
            choice = {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}
            return Reply(
                {"id": "c", "object": "chat.completion", "model": "parrot", "choices": [choice]}, [1], [2], [-0.5]
            )

    import openai

    kept = []

    class Slow(LightningClient):
        def add_many_spans(self, spans):
            threading.Event().wait(0.2)  # the answer would overtake it
            kept.extend(super().add_many_spans(spans))

    with Slow(server.url) as remote, AgentLightningServer(remote, upstream=Parrot()) as here:
        claimed = remote.start_rollout(1)
        base = f"{here.url}/rollout/{claimed.rollout_id}/attempt/{claimed.attempt.attempt_id}/v1"
        openai.OpenAI(base_url=base, api_key=here.token).chat.completions.create(
            model="m", messages=[{"role": "user", "content": "x"}]
        )
        assert len(kept) == 1
        remote.finish_attempt(claimed.rollout_id, claimed.attempt.attempt_id, reward=1.0)
        assert [len(t) for t in server.store.query_triplets([claimed.rollout_id]).values()] == [1]
