"The REST surface of the server, as clients of the 0.3 line and our own see it: statuses, shapes, tokens, long polls."

import contextlib
import http.client
import json
import os
import socket
import stat
import threading
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest

from agentlightning_nb.errors import PortInUseError
from agentlightning_nb.server import AgentLightningServer
from agentlightning_nb.store import LightningStore
from agentlightning_nb.types import LLM, ModelWeights, PromptTemplate

AGL = "/v1/agl"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("AGENTLIGHTNING_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def server(home):
    with LightningStore() as store, AgentLightningServer(store) as s:
        yield s


def request(server, method, path, body=None, *, token=None, raw=None):
    "Status and decoded body."
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=30)
    sent = raw if raw is not None else None if body is None else json.dumps(body).encode()
    headers = {
        "Content-Type": "application/json",
        "Authorization": f"Bearer {server.token if token is None else token}",
    }
    try:
        connection.request(method, path, sent, headers)
        answer = connection.getresponse()
        text = answer.read()
        return answer.status, json.loads(text) if text else None
    finally:
        connection.close()


def get(server, path, **query):
    return request(server, "GET", AGL + path + ("?" + urlencode(query, doseq=True) if query else ""))


def post(server, path, body=None):
    return request(server, "POST", AGL + path, body)


def enqueue(server, *inputs, **more):
    status, made = post(server, "/queues/rollouts/enqueue", {"rollouts": [{"input": i, **more} for i in inputs]})
    assert status == 201
    return made


def span(claimed, **more):
    return {
        "rollout_id": claimed["rollout_id"],
        "attempt_id": claimed["attempt"]["attempt_id"],
        "sequence_id": 0,
        "trace_id": "00" * 16,
        "span_id": "01" * 8,
        "parent_id": None,
        "name": "work",
        "status": {"status_code": "OK", "description": None},
        "attributes": {"a": 1},
        "events": [],
        "links": [],
        "start_time": 1.0,
        "end_time": 2.0,
        "context": None,
        "parent": None,
        "resource": {"attributes": {}, "schema_url": ""},
    } | more


# the queue


def test_enqueued_rollouts_are_claimed_in_order(server):
    enqueue(server, "a", {"b": 1}, 3, None)
    status, claimed = post(server, "/queues/rollouts/dequeue", {"limit": 3, "worker_id": "w1"})
    assert status == 200 and [r["input"] for r in claimed] == ["a", {"b": 1}, 3]
    assert {r["status"] for r in claimed} == {"preparing"} and {r["attempt"]["worker_id"] for r in claimed} == {"w1"}
    assert [r["input"] for r in post(server, "/queues/rollouts/dequeue")[1]] == [None]
    assert post(server, "/queues/rollouts/dequeue", {}) == (200, [])


def test_a_claim_waits_for_work(server):
    got = []
    body = {"limit": 1, "wait_s": 30}
    waiting = threading.Thread(target=lambda: got.append(post(server, "/queues/rollouts/dequeue", body)))
    waiting.start()
    made = enqueue(server, "late")
    waiting.join(30)
    assert got[0][1][0]["rollout_id"] == made[0]["rollout_id"]


def test_a_claim_of_a_run_takes_only_its_rollouts(server):
    enqueue(server, "other")
    enqueue(server, "mine", run_id="run-1")
    (claimed,) = post(server, "/queues/rollouts/dequeue", {"limit": 5, "run_id": "run-1"})[1]
    assert claimed["input"] == "mine"


def test_a_claim_whose_caller_has_left_is_not_lost(server):
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=30)
    connection.request(
        "POST",
        AGL + "/queues/rollouts/dequeue",
        json.dumps({"limit": 1, "wait_s": 20}),
        {"Authorization": f"Bearer {server.token}"},
    )
    get(server, "/statistics")
    connection.close()
    get(server, "/statistics")
    made = enqueue(server, "kept")
    claimed = post(server, "/queues/rollouts/dequeue", {"limit": 1, "wait_s": 30})[1]
    assert [r["rollout_id"] for r in claimed] == [made[0]["rollout_id"]]


# rollouts and attempts


def test_a_rollout_begins_and_its_attempt_ends(server):
    status, started = post(server, "/rollouts", {"input": {"q": 1}, "mode": "train", "worker_id": "w1"})
    assert status == 201 and started["attempt"]["sequence_id"] == 1 and started["mode"] == "train"
    rollout_id = started["rollout_id"]
    status, attempt = post(server, f"/rollouts/{rollout_id}/attempts/latest", {"status": "succeeded"})
    assert status == 200 and attempt["status"] == "succeeded" and attempt["end_time"]
    status, rollout = get(server, f"/rollouts/{rollout_id}")
    assert (
        status == 200 and rollout["status"] == "succeeded" and rollout["attempt"]["attempt_id"] == attempt["attempt_id"]
    )
    assert get(server, f"/rollouts/{rollout_id}/attempts/latest")[1]["attempt_id"] == attempt["attempt_id"]


def test_a_second_attempt_is_a_201(server):
    _, started = post(server, "/rollouts", {"input": 1, "config": {"max_attempts": 2, "retry_condition": ["failed"]}})
    rollout_id = started["rollout_id"]
    post(server, f"/rollouts/{rollout_id}/attempts/latest", {"status": "failed"})
    status, second = post(server, f"/rollouts/{rollout_id}/attempts")
    assert status == 201 and second["attempt"]["sequence_id"] == 2
    status, page = get(server, f"/rollouts/{rollout_id}/attempts", sort_order="desc", limit=1)
    assert status == 200 and page["total"] == 2 and page["items"][0]["sequence_id"] == 2
    assert post(server, f"/rollouts/{rollout_id}/attempts/search", {"offset": 1})[1]["items"][0]["sequence_id"] == 2


def test_rollouts_are_filtered_sorted_and_paged(server):
    ids = [r["rollout_id"] for r in enqueue(server, *range(5))]
    post(server, "/queues/rollouts/dequeue", {"limit": 2})
    status, page = get(server, "/rollouts", status_in=["queuing"], limit=2, offset=1)
    assert status == 200 and page["total"] == 3 and (page["limit"], page["offset"]) == (2, 1)
    assert [r["rollout_id"] for r in page["items"]] == ids[3:]
    assert [r["rollout_id"] for r in get(server, "/rollouts", rollout_id_in=ids[1:3])[1]["items"]] == ids[1:3]
    body = {"status_in": ["preparing"], "rollout_id_in": [ids[4]], "filter_logic": "or"}
    assert {r["rollout_id"] for r in post(server, "/rollouts/search", body)[1]["items"]} == {ids[0], ids[1], ids[4]}
    last = get(server, "/rollouts", sort_by="rollout_id", sort_order="desc", limit=1)[1]
    assert last["items"][0]["rollout_id"] == max(ids)


def test_fields_that_are_left_out_are_left_alone_and_null_is_a_value(server):
    (made,) = enqueue(server, "x", metadata={"k": 1}, mode="val")
    status, changed = post(server, f"/rollouts/{made['rollout_id']}", {"mode": None})
    assert status == 200 and changed["mode"] is None and changed["metadata"] == {"k": 1}


def test_finishing_reports_everything_at_once(server):
    _, started = post(server, "/rollouts", {"input": 1})
    path = f"/rollouts/{started['rollout_id']}/attempts/{started['attempt']['attempt_id']}/finish"
    body = {"status": "succeeded", "reward": 0.5, "rewards": {"style": 0.25}, "spans": [span(started)]}
    status, attempt = post(server, path, body)
    assert status == 200 and (attempt["reward"], attempt["rewards"]["style"]) == (0.5, 0.25)
    assert get(server, f"/rollouts/{started['rollout_id']}")[1]["reward"] == 0.5
    assert get(server, "/spans", rollout_id=started["rollout_id"])[1]["total"] == 1
    late = post(server, path, body | {"status": "failed", "reward": 1.0})
    assert late[0] == 409 and late[1]["error"] == "TransitionError"


def test_a_heartbeat_says_which_attempts_have_ended(server):
    _, a = post(server, "/rollouts", {"input": 1})
    _, b = post(server, "/rollouts", {"input": 2})
    ids = [r["attempt"]["attempt_id"] for r in (a, b)]
    post(server, f"/rollouts/{a['rollout_id']}", {"status": "cancelled"})
    status, ended = post(server, "/heartbeat", {"attempt_ids": ids})
    assert status == 200 and ended == [ids[0]]


# spans


def test_a_span_and_a_list_of_spans_are_kept(server):
    _, started = post(server, "/rollouts", {"input": 1})
    status, kept = post(server, "/spans", span(started))
    assert status == 201 and kept["span_id"] == "01" * 8
    assert get(server, "/spans", rollout_id=started["rollout_id"])[1]["items"][0]["sequence_id"] > 0
    status, many = post(server, "/spans", [span(started, span_id=f"{i:016x}", name=f"n{i}") for i in range(10, 13)])
    assert status == 201 and [s["name"] for s in many] == ["n10", "n11", "n12"]
    status, page = get(server, "/spans", rollout_id=started["rollout_id"], attempt_id="latest", name_contains="n1")
    assert status == 200 and page["total"] == 3
    found = post(server, "/spans/search", {"rollout_id": started["rollout_id"], "name": "work"})[1]
    assert [s["name"] for s in found["items"]] == ["work"]
    assert post(server, "/spans", [])[0] == 201


def test_token_arrays_come_back_as_they_went(server):
    _, started = post(server, "/rollouts", {"input": 1})
    tokens = {"prompt_token_ids": [1, 2**31 - 1], "response_token_ids": [3, 4], "response_logprobs": [-0.125, -1e-9]}
    post(server, "/spans", span(started, attributes=tokens))
    (kept,) = get(server, "/spans", rollout_id=started["rollout_id"])[1]["items"]
    assert {k: kept["attributes"][k] for k in tokens} == tokens


def test_span_numbers_are_given_out_once(server):
    _, started = post(server, "/rollouts", {"input": 1})
    body = {"rollout_id": started["rollout_id"], "attempt_id": started["attempt"]["attempt_id"]}
    numbers = [post(server, "/spans/next", body)[1]["sequence_id"] for _ in range(3)]
    assert numbers == sorted(set(numbers))


# resources


def test_resources_travel_in_the_old_form_and_new_kinds_too(server):
    body = {
        "main": {"resource_type": "llm", "endpoint": "", "model": "tiny", "sampling_parameters": {"temperature": 0.5}},
        "prompt": {"resource_type": "prompt_template", "template": "Hi {name}", "engine": "f-string"},
        "weights": {"resource_type": "model_weights", "path": None, "base_model": "tiny", "step": 3},
        "own": {"resource_type": "their_own", "anything": [1]},
    }
    status, made = post(server, "/resources", body)
    assert status == 201 and made["version"] == 1
    main = made["resources"]["main"]
    assert (main["endpoint"], main["model"], main["sampling_parameters"]) == ("", "tiny", {"temperature": 0.5})
    assert made["resources"]["own"]["anything"] == [1]
    assert get(server, "/resources/latest")[1]["resources_id"] == made["resources_id"]
    assert get(server, f"/resources/{made['resources_id']}")[1] == made
    kept = server.store.get_latest_resources().resources
    assert isinstance(kept["main"], LLM) and kept["main"].base_url is None
    assert isinstance(kept["weights"], ModelWeights) and isinstance(kept["prompt"], PromptTemplate)
    status, updated = post(server, f"/resources/{made['resources_id']}", {"prompt": body["prompt"]})
    assert status == 200 and updated["version"] == 2
    assert get(server, "/resources")[1]["total"] == 2


def test_there_are_no_latest_resources_at_first(server):
    assert get(server, "/resources/latest") == (200, None)


# waiting, workers, statistics


def test_waiting_gives_what_has_ended(server):
    a, b = (r["rollout_id"] for r in enqueue(server, 1, 2))
    post(server, f"/rollouts/{b}", {"status": "cancelled"})
    status, ended = post(server, "/waits/rollouts", {"rollout_ids": [a, b], "timeout": 0})
    assert status == 200 and [r["rollout_id"] for r in ended] == [b]
    got = []
    body = {"rollout_ids": [a, b], "timeout": 30}
    waiting = threading.Thread(target=lambda: got.append(post(server, "/waits/rollouts", body)))
    waiting.start()
    post(server, f"/rollouts/{a}", {"status": "cancelled"})
    waiting.join(30)
    assert [r["rollout_id"] for r in got[0][1]] == [a, b]


def test_workers_report_and_are_found(server):
    status, worker = post(server, "/workers/w1", {"heartbeat_stats": {"cpu": 0.5}})
    assert status == 200 and worker["heartbeat_stats"] == {"cpu": 0.5} and worker["last_heartbeat_time"]
    assert get(server, "/workers/w1")[1]["worker_id"] == "w1"
    assert get(server, "/workers", worker_id_contains="w")[1]["total"] == 1
    assert post(server, "/workers/search", {"status_in": ["busy"]})[1]["total"] == 0


def test_statistics_and_health_answer(server):
    enqueue(server, 1)
    assert get(server, "/statistics")[0] == 200
    assert get(server, "/health")[0] == 200


def test_metrics_are_told_as_prometheus_reads_them_and_only_with_the_token(server):
    enqueue(server, 1, 2)
    for token, status in ((server.token, 200), ("", 401)):
        connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=30)
        connection.request("GET", "/metrics", headers={"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        assert answer.status == status
        assert ("agentlightning_queue_length 2\n" in text) == (status == 200)
    assert server.token not in text


# refusals


def refused(answer, status, error):
    got, body = answer
    assert got == status, body
    assert (
        set(body) >= {"error", "detail"}
        and body["error"] == error
        and isinstance(body["detail"], str)
        and body["detail"]
    )


def test_unknown_ids_are_404(server):
    _, started = post(server, "/rollouts", {"input": 1})
    known = started["rollout_id"]
    for method, path, body in (
        ("GET", "/rollouts/ro-none", None),
        ("GET", "/rollouts/ro-none/attempts", None),
        ("POST", "/rollouts/ro-none/attempts/search", {}),
        ("GET", "/rollouts/ro-none/attempts/latest", None),
        ("GET", "/spans?rollout_id=ro-none", None),
        ("POST", "/spans/search", {"rollout_id": "ro-none"}),
        ("POST", "/rollouts/ro-none", {"status": "cancelled"}),
        ("POST", "/rollouts/ro-none/attempts", None),
        ("POST", f"/rollouts/{known}/attempts/at-none", {"status": "failed"}),
        ("POST", "/rollouts/ro-none/attempts/latest", {"status": "failed"}),
        ("POST", "/spans", span({"rollout_id": known, "attempt": {"attempt_id": "at-none"}})),
        ("POST", "/spans/next", {"rollout_id": known, "attempt_id": "at-none"}),
        ("POST", "/waits/rollouts", {"rollout_ids": ["ro-none"], "timeout": 0}),
    ):
        refused(request(server, method, AGL + path, body), 404, "NotFoundError")
    status, body = get(server, "/no/such/route")
    assert status == 404 and set(body) >= {"error", "detail"}


@pytest.mark.parametrize(
    "path,body",
    [
        ("/queues/rollouts/enqueue", {"rollouts": [{"input": 1, "mode": "sideways"}]}),
        ("/queues/rollouts/enqueue", {"rollouts": 3}),
        ("/queues/rollouts/enqueue", {}),
        ("/queues/rollouts/enqueue", [1]),
        ("/queues/rollouts/enqueue", {"rollouts": [{"input": 1, "config": {"max_attempts": 0}}]}),
        ("/queues/rollouts/dequeue", {"limit": "many"}),
        ("/queues/rollouts/dequeue", {"limit": -1}),
        ("/queues/rollouts/dequeue", {"wait_s": "long"}),
        ("/rollouts", {"mode": "sideways", "input": 1}),
        ("/rollouts/search", {"status_in": ["lost"]}),
        ("/rollouts/search", {"sort_by": "no such column"}),
        ("/rollouts/search", {"limit": "x"}),
        ("/spans", {"name": "x"}),
        ("/spans", 3),
        ("/spans/search", {}),
        ("/spans/next", {"rollout_id": 1}),
        ("/resources", {"r": {"template": "no type"}}),
        ("/resources", {"r": 3}),
        ("/resources", []),
        ("/waits/rollouts", {"rollout_ids": "ro-1"}),
        ("/heartbeat", {"attempt_ids": 3}),
    ],
)
def test_bad_values_are_422_in_words(server, path, body):
    answer = post(server, path, body)
    assert answer[0] == 422, answer
    assert set(answer[1]) >= {"error", "detail"} and isinstance(answer[1]["detail"], str)


@pytest.mark.parametrize("raw", [b"{", b"\xff\xfe", b"[" * 100_000, b'{"a": NaN}'])
@pytest.mark.parametrize(
    "path", ["/queues/rollouts/enqueue", "/queues/rollouts/dequeue", "/spans", "/rollouts", "/resources"]
)
def test_a_body_that_is_no_json_is_the_callers_fault(server, path, raw):
    status, body = request(server, "POST", AGL + path, raw=raw)
    assert status in (400, 422) and set(body) >= {"error", "detail"}


def test_queries_that_make_no_sense_are_422(server):
    for query in (
        {"limit": "x"},
        {"status_in": "lost"},
        {"sort_order": "sideways"},
        {"sort_by": "1; DROP TABLE rollout"},
    ):
        assert get(server, "/rollouts", **query)[0] == 422, query
    assert get(server, "/spans")[0] == 422


def test_forbidden_transitions_are_409(server):
    (made,) = enqueue(server, 1)
    refused(post(server, f"/rollouts/{made['rollout_id']}", {"status": "succeeded"}), 409, "TransitionError")
    post(server, f"/rollouts/{made['rollout_id']}", {"status": "cancelled"})
    refused(post(server, f"/rollouts/{made['rollout_id']}", {"status": "running"}), 409, "TransitionError")


def test_a_reward_that_is_no_number_is_refused_by_name(server):
    _, started = post(server, "/rollouts", {"input": 1})
    path = f"/rollouts/{started['rollout_id']}/attempts/{started['attempt']['attempt_id']}/finish"
    status, body = post(server, path, {"status": "succeeded", "reward": "much"})
    assert status == 422 and "reward" in body["detail"]


def test_extra_fields_of_other_clients_are_tolerated(server):
    assert enqueue(server, 1, some_new_field=3)
    _, started = post(server, "/rollouts", {"input": 1, "later": True})
    assert post(server, "/spans", span(started, extra="x"))[0] == 201


def test_what_the_protocol_requires_is_required(server):
    status, told = post(server, "/queues/rollouts/enqueue", {"rollouts": [{"mode": "train"}]})
    assert status == 422 and "input" in told["detail"]
    status, told = post(server, "/resources", {"llm": {"resource_type": "llm", "endpoint": "http://h/v1"}})
    assert status == 422 and told["detail"] == "Resource 'llm' is no llm: it lacks model."


def test_lists_may_stand_alone(server):
    status, made = post(server, "/queues/rollouts/enqueue", [{"input": 1}, {"input": 2}])
    assert status == 201 and [r["input"] for r in made] == [1, 2]
    status, kept = post(server, "/tasks", {"tasks": [{"name": "a", "input": 1}, {"question": "x"}]})
    assert status == 201 and [t["input"] for t in kept] == [1, {"question": "x"}]
    for path in ("/tasks", "/queues/rollouts/enqueue"):
        assert post(server, path, 5)[0] == 422 and post(server, path, {})[0] == 422


def test_a_claim_waits_by_either_name(server):
    for name in ("wait_s", "timeout"):
        later = threading.Timer(0.3, lambda: enqueue(server, "late"))
        later.start()
        status, claimed = post(server, "/queues/rollouts/dequeue", {name: 30})
        later.join()
        assert status == 200 and [c["input"] for c in claimed] == ["late"]


def test_attempts_are_sorted_by_who_made_them(server):
    (made,) = enqueue(server, 1)
    for worker in ("b", "a"):
        assert post(server, f"/rollouts/{made['rollout_id']}/attempts", {"worker_id": worker})[0] == 201
    told = get(server, f"/rollouts/{made['rollout_id']}/attempts", sort_by="worker_id")[1]
    assert [a["worker_id"] for a in told["items"]] == ["a", "b"]


def test_tasks_come_in_pages(server):
    assert post(server, "/tasks", [{"name": name, "input": 1} for name in "abc"])[0] == 201
    status, told = get(server, "/tasks", limit=2, offset=1)
    assert status == 200 and [t["name"] for t in told["items"]] == ["b", "c"] and told["total"] == 3
    assert get(server, "/tasks", limit="x")[0] == 422


# tokens


def test_only_health_answers_without_the_token(server):
    assert request(server, "GET", "/health", token="")[0] == 200
    for method, path in (
        ("GET", AGL + "/rollouts"),
        ("POST", AGL + "/queues/rollouts/dequeue"),
        ("POST", AGL + "/spans"),
        ("GET", AGL + "/statistics"),
        ("GET", "/openapi.json"),
        ("GET", "/docs"),
        ("POST", "/v1/traces"),
        ("GET", "/nowhere"),
    ):
        for token in ("", "wrong"):
            status, body = request(server, method, path, token=token)
            assert status == 401 and body["error"] == "UnauthorizedError", path


def test_health_gives_nothing_away(server):
    assert server.token not in json.dumps(request(server, "GET", "/health", token="")[1])


def test_an_empty_token_switches_it_off(home):
    with LightningStore() as store, AgentLightningServer(store, token="") as s:
        assert request(s, "GET", AGL + "/rollouts", token="")[0] == 200


def test_the_token_is_kept_where_only_this_user_reads_it(home):
    with AgentLightningServer() as s:
        (file,) = (home / "servers").glob("*.json")
        kept = json.loads(file.read_text())
        assert (
            kept["token"] == s.token and kept["pid"] == os.getpid() and kept["url"].endswith(f":{urlsplit(s.url).port}")
        )
        assert len(s.token) >= 32
        if os.name == "posix":
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
            assert stat.S_IMODE(file.parent.stat().st_mode) & 0o077 == 0
    assert not list((home / "servers").glob("*.json"))


def test_tokens_never_reach_a_log(home, caplog):
    caplog.set_level("DEBUG")
    with AgentLightningServer() as s:
        request(s, "GET", AGL + "/rollouts")
        request(s, "GET", AGL + "/rollouts", token="a-wrong-token")
    assert s.token not in caplog.text and "a-wrong-token" not in caplog.text


# the server as an object


def test_start_twice_is_harmless_and_stop_frees_the_port(home):
    before = {t.name for t in threading.enumerate()}
    s = AgentLightningServer()
    assert s.start().url == s.start().url
    port = urlsplit(s.url).port
    s.stop()
    s.stop()
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", port))
    left = {t.name for t in threading.enumerate()} - before
    assert not [name for name in left if "server" in name], left


def test_running_its_cell_again_replaces_the_server(home):
    first = AgentLightningServer().start()
    port = urlsplit(first.url).port
    with AgentLightningServer(port=port, token="second") as second:
        assert request(second, "GET", AGL + "/rollouts")[0] == 200
        assert request(second, "GET", AGL + "/rollouts", token=first.token)[0] == 401
        first.stop()
        assert json.loads(next((home / "servers").glob("*.json")).read_text())["token"] == "second"


def test_a_port_of_somebody_else_is_never_shared(home):
    with socket.create_server(("127.0.0.1", 0)) as other:
        with pytest.raises(PortInUseError, match="in use by"):
            AgentLightningServer(port=other.getsockname()[1]).start()
    assert not (home / "servers").exists() or not list((home / "servers").iterdir())


def test_a_waiting_worker_does_not_hold_a_stopping_server_back(home):
    s = AgentLightningServer().start()
    ended = threading.Event()

    def wait():
        with contextlib.suppress(http.client.HTTPException, OSError):
            post(s, "/queues/rollouts/dequeue", {"wait_s": 25})
        ended.set()

    threading.Thread(target=wait, daemon=True).start()
    get(s, "/statistics")
    s.stop()
    assert ended.wait(10)


def test_what_is_kept_outlives_the_server(home, tmp_path):
    path = tmp_path / "run.db"
    with LightningStore(path) as store, AgentLightningServer(store) as s:
        (made,) = enqueue(s, "x")
    with LightningStore(path) as store:
        assert store.get_rollout_by_id(made["rollout_id"]).input == "x"


def test_the_openapi_page_has_every_route_of_the_protocol(server):
    status, ours = request(server, "GET", "/openapi.json")
    assert status == 200
    expected = Path(__file__).parent / "data" / "agl_routes.txt"
    for line in expected.read_text().splitlines():
        method, path = line.split()
        assert method.lower() in ours["paths"].get(path, {}), line
    for path in ("/v1/messages", "/rollout/{rollout_id}/attempt/{attempt_id}/v1/chat/completions"):
        assert "requestBody" in ours["paths"][path]["post"]


def test_the_proxy_is_in_front(home):
    from agentlightning_nb.engines.base import Reply

    class Parrot:
        models = ["parrot"]

        async def chat(self, body, *, session=None):
            choice = {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}
            return Reply(
                {"id": "c", "object": "chat.completion", "model": "parrot", "choices": [choice]}, [1], [2], [-0.5]
            )

    with AgentLightningServer() as s:
        s.upstream = Parrot()
        _, started = post(s, "/rollouts", {"input": 1})
        base = f"/rollout/{started['rollout_id']}/attempt/{started['attempt']['attempt_id']}/v1"
        status, answer = request(s, "POST", base + "/chat/completions", {"model": "m", "messages": []})
        assert status == 200 and answer["choices"][0]["message"]["content"] == "hi"
        assert get(s, "/spans", rollout_id=started["rollout_id"])[1]["total"] == 1
        assert request(s, "POST", base + "/chat/completions", {"messages": []}, token="wrong")[0] == 401
