"""Every path, parameter and field of the protocol is there. `data/agl_protocol.json` is the protocol as facts: operations with their statuses,
parameters and bodies, records with the kinds of their fields (`@Name` a record, `[kind]` a list, `{kind}` named ones, `=a|b` one of the words)."""

import copy
import http.client
import json
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest

from agentlightning_nb.server import AgentLightningServer
from agentlightning_nb.store import LightningStore

PROTOCOL = json.loads((Path(__file__).parent / "data" / "agl_protocol.json").read_text())
OPERATIONS, RECORDS, NEEDED = PROTOCOL["operations"], PROTOCOL["records"], PROTOCOL["needed"]
REFUSED = {"POST /v1/metrics", "POST /v1/logs", "POST /v1/development/profiles"}  # in words: only spans are kept
OURS = [name for name in OPERATIONS if name not in REFUSED | {"POST /v1/traces"}]
SORTS = {"rollouts": "start_time", "attempts": "sequence_id", "workers": "worker_id", "resources": "version"}
SORTS |= {"spans": "start_time"}


class Place:
    "A server with something of everything, and the ids of it."

    def __init__(self, server, store):
        self.server = server
        store.update_worker("w", {"cpu": 1})
        version = store.add_resources({"p": {"resource_type": "prompt_template", "template": "x", "engine": "jinja"}})
        for i in range(3):
            store.enqueue_rollout({"i": i}, mode="train", resources_id=version.resources_id)
        claimed = store.dequeue_rollout("w")
        ids = {"rollout_id": claimed.rollout_id, "attempt_id": claimed.attempt.attempt_id}
        full = {"trace_id": "0a" * 16, "span_id": "0b" * 8, "parent_id": "0c" * 8, "name": "n", "start_time": 1.0}
        context = {"trace_id": "0a" * 16, "span_id": "0d" * 8, "is_remote": True, "trace_state": {"a": "b"}}
        rare = {"events": [{"name": "e"}], "links": [{"context": context}], "context": context, "parent": context}
        store.add_span({**ids, **full, **rare, "resource": {"attributes": {"a": 1}, "schema_url": "u"}})
        self.values = {
            **{name: full[name] for name in ("trace_id", "span_id", "parent_id", "name")},
            **ids,
            "worker_id": "w",
            "resources_id": version.resources_id,
            "rollout_ids": [claimed.rollout_id],
            "rollout_id_in": [claimed.rollout_id],
            "status": "running",
            "status_code": "OK",
            "timeout": 0,
            "trace_state": {"a": "b"},
        }

    def ask(self, method, path, body=None, query=None):
        "Status and decoded body."
        for name in ("rollout_id", "attempt_id", "worker_id", "resources_id"):
            path = path.replace(f"{{{name}}}", self.values[name])
        connection = http.client.HTTPConnection(urlsplit(self.server.url).netloc, timeout=30)
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.server.token}"}
        sent = None if body is None else json.dumps(body).encode()
        connection.request(method, path + ("?" + urlencode(query, doseq=True) if query else ""), sent, headers)
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        return answer.status, json.loads(text) if text else None

    def value(self, kinds, name, path):
        "A value of such a kind, for a field of this name."
        if name == "sort_by":
            return SORTS[[p for p in path.split("/") if p in SORTS][-1]]
        if name.endswith("_contains"):
            return "0"
        kind = next(k for k in kinds if k != "null")
        if kind[0] == "[":
            return self.values.get(name) or [self.value([kind[1:-1]], "", path)]
        if kind[0] == "@":
            return {n: self.value(k, n, path) for n, k in RECORDS[kind[1:]].items()}
        if kind[0] == "{":
            return {"one": self.value([kind[1:-1].split("/")[0]], "", path)}
        if kind[0] == "=":
            return self.values.get(name, kind[1:].split("|")[0])
        plain = {"string": "x", "integer": 1, "number": 1.5, "boolean": True, "object": {"a": 1}, "any": [1, None]}
        return self.values.get(name, plain[kind])


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("AGENTLIGHTNING_HOME", str(tmp_path))
    with LightningStore() as store, AgentLightningServer(store) as server:
        yield Place(server, store)


def wrong(value, kinds, where="answer"):
    "What is missing from a value or is of another kind, as text; nothing when all is there."
    found = [_wrong(value, kind, where) for kind in kinds]
    return None if None in found else min(found, key=len)


def _wrong(value, kind, where):
    types = {"null": type(None), "string": str, "integer": int, "number": int | float, "boolean": bool, "object": dict}
    if kind == "any":
        return None
    if kind[0] == "[":
        listed = (
            [wrong(v, kind[1:-1].split("/"), f"{where}[{i}]") for i, v in enumerate(value)]
            if isinstance(value, list)
            else [where]
        )
        return next((w for w in listed if w), None)
    if kind[0] == "{":
        return next((w for n, v in value.items() if (w := wrong(v, kind[1:-1].split("/"), f"{where}.{n}"))), None)
    if kind[0] == "=":
        return None if value in kind[1:].split("|") else f"{where} is {value!r}, not {kind}"
    if kind[0] == "@":
        if not isinstance(value, dict):
            return f"{where} is {value!r:.60}, not {kind}"
        fields = RECORDS[kind[1:]]
        secret = {"api_key"}  # never sent
        lacking = [f"{where} lacks {name}" for name in fields if name not in value and name not in secret]
        inside = [w for n, k in fields.items() if n in value and (w := wrong(value[n], k, f"{where}.{n}"))]
        return next(iter(lacking + inside), None)
    return None if isinstance(value, types[kind]) else f"{where} is {value!r:.60}, not {kind}"


def body_of(place, operation, path):
    kinds = OPERATIONS[operation].get("body")
    return None if kinds is None else place.value(kinds, "", path)


def test_a_missing_field_is_seen():
    whole = {"limit": 1, "offset": 0, "total": 1, "items": [{"worker_id": "w"}]}
    assert wrong(whole, ["@PaginatedResult_Worker_"]) == "answer.items[0] lacks status"
    assert wrong({"sequence_id": "1"}, ["@NextSequenceIdResponse"]) == "answer.sequence_id is '1', not integer"


@pytest.mark.parametrize("operation", OURS)
def test_an_operation_takes_and_gives_every_field(place, operation):
    (method, path), told = operation.split(), OPERATIONS[operation]
    query = {name: place.value(kinds, name, path) for name, kinds in told.get("query", {}).items()}
    status, answer = place.ask(method, path, body_of(place, operation, path), query)
    assert status == told["status"], answer
    assert wrong(answer, told["answer"]) is None
    if (
        isinstance(answer, dict)
        and "items" in answer
        and "offset" not in {**query, **(body_of(place, operation, path) or {})}
    ):
        assert answer["items"]


@pytest.mark.parametrize(
    "operation", [o for o in OURS if "body" in OPERATIONS[o] and "{" not in OPERATIONS[o]["body"][0]]
)
def test_a_field_may_be_null_or_absent_where_the_protocol_says_so(place, operation):
    (method, path), whole = operation.split(), body_of(place, operation, operation.split()[1])
    record = OPERATIONS[operation]["body"][0][1:]
    needed = {
        name: whole[name] for name in [*NEEDED.get(record, []), *({"timeout"} & set(whole))]
    }  # or it waits for ever
    nullable = {
        n: None for n, kinds in RECORDS[record].items() if "null" in kinds and n != "timeout"
    }  # which is for ever
    for body in (needed, needed | nullable):
        status, answer = place.ask(method, path, copy.deepcopy(body))
        assert status in (OPERATIONS[operation]["status"], 409), (body, answer)


@pytest.mark.parametrize(
    "operation", [o for o in OURS if "body" in OPERATIONS[o] and "{" not in OPERATIONS[o]["body"][0]]
)
def test_a_field_of_another_kind_is_refused_in_words(place, operation):
    (method, path), whole = operation.split(), body_of(place, operation, operation.split()[1])
    fields = RECORDS[OPERATIONS[operation]["body"][0][1:]]
    for name, kinds in fields.items():
        if "any" in kinds:
            continue
        for bad in ([[]], "nonsense") if "string" not in kinds else ([[]],):
            status, answer = place.ask(method, path, copy.deepcopy(whole) | {name: bad})
            assert status == 422 and set(answer) == {"error", "detail"}, (name, bad, answer)


@pytest.mark.parametrize("operation", [o for o in OURS if "query" in OPERATIONS[o]])
def test_a_parameter_of_another_kind_is_refused_in_words(place, operation):
    (method, path), told = operation.split(), OPERATIONS[operation]["query"]
    needed = {"rollout_id": place.values["rollout_id"]} if "rollout_id" in told else {}
    for name, kinds in told.items():
        if name != "sort_by" and {"string", "[string]"} & set(kinds):
            continue
        status, answer = place.ask(method, path, query=needed | {name: "nonsense"})
        assert status == 422 and set(answer) == {"error", "detail"}, (name, answer)


@pytest.mark.parametrize("operation", [o for o in OURS if "_id}" in o])
def test_an_unknown_id_is_a_404(place, operation):
    method, path = operation.split()
    body = body_of(place, operation, path)
    place.values |= dict.fromkeys(("rollout_id", "attempt_id", "worker_id", "resources_id"), "no-such")
    status, answer = place.ask(method, path, body)
    if status == 200:  # a worker or resources that are new
        assert method == "POST" and path.split("/")[3] in ("workers", "resources"), answer
    else:
        assert status == 404 and set(answer) == {"error", "detail"}, answer


@pytest.mark.parametrize("operation", sorted(REFUSED))
def test_signals_that_are_no_spans_are_refused_in_words(place, operation):
    status, answer = place.ask(*operation.split(), body={})
    assert status == 404 and "/v1/traces" in answer["detail"]
