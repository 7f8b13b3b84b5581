"An endpoint that speaks responses or messages itself is asked in them: nothing is lost in translation, and the record is in chat all the same."

import json

import openai
import pytest
from test_proxy import Upstream, place  # noqa: F401

from agentlightning_nb.background import BackgroundServer
from agentlightning_nb.engines.openai import OpenAIEngine
from agentlightning_nb.types import LLM

RESPONSE = {
    "id": "resp_9",
    "object": "response",
    "created_at": 1,
    "model": "big",
    "status": "completed",
    "output": [
        {"id": "rs_1", "type": "reasoning", "summary": [], "encrypted_content": "gAAA"},
        {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "four", "annotations": []}],
        },
    ],
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [{"type": "web_search"}],
    "usage": {"input_tokens": 7, "output_tokens": 2, "total_tokens": 9},
}
MESSAGE = {
    "id": "msg_9",
    "type": "message",
    "role": "assistant",
    "model": "big",
    "content": [{"type": "thinking", "thinking": "2+2", "signature": "sig"}, {"type": "text", "text": "four"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 3, "cache_read_input_tokens": 4, "output_tokens": 2},
}
EVENTS = {
    "responses": [
        {"type": "response.created", "response": {**RESPONSE, "status": "in_progress", "output": []}},
        {"type": "response.output_text.delta", "item_id": "msg_1", "delta": "four", "sequence_number": 1},
        {"type": "response.completed", "response": RESPONSE},
    ],
    "messages": [
        {"type": "ping"},
        {"type": "message_start", "message": {**MESSAGE, "content": [], "stop_reason": None}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "2+2"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "sig"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "four"}},
        {"type": "content_block_stop", "index": 1},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
        {"type": "message_stop"},
    ],
}
WHOLE = {"responses": RESPONSE, "messages": MESSAGE}
FAILED = {
    "responses": {"type": "response.failed", "response": {"error": {"code": "server_error", "message": "it broke"}}},
    "messages": {"type": "error", "error": {"type": "overloaded_error", "message": "it broke"}},
}
ASKED = {
    "responses": {"input": "2+2?", "previous_response_id": "resp_8", "tools": [{"type": "web_search"}]},
    "messages": {
        "max_tokens": 9,
        "messages": [{"role": "user", "content": "2+2?"}],
        "thinking": {"type": "enabled", "budget_tokens": 5},
    },
}


def event(data):
    return f"event: {data['type']}\ndata: {json.dumps(data)}\n\n".encode()


class Polyglot(Upstream):
    "A loopback endpoint that speaks all dialects; it is told when to break."

    def __init__(self):
        super().__init__()
        self.asked, self.breaks, self.status = [], False, 200

    async def __call__(self, scope, receive, send):
        route = scope.get("path", "").split("/v1/")[-1]
        if scope["type"] != "http" or route not in (*WHOLE, "messages/count_tokens"):
            return await super().__call__(scope, receive, send)
        body = json.loads((await receive())["body"])
        self.asked.append((route, body, {k.decode(): v.decode() for k, v in scope["headers"]}))
        if self.status != 200:
            return await self._send(send, self.status, b'{"type": "error", "error": {"message": "not now"}}')
        if route == "messages/count_tokens":
            return await self._send(send, 200, b'{"input_tokens": 12}')
        if not body.get("stream"):
            return await self._send(send, 200, json.dumps(WHOLE[route]).encode())
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        told = [*EVENTS[route][:2], FAILED[route]] if self.breaks else EVENTS[route]
        for data in told:
            await send({"type": "http.response.body", "body": event(data), "more_body": True})
        await send({"type": "http.response.body", "body": b""})


@pytest.fixture
def polyglot():
    app = Polyglot()
    with BackgroundServer(app) as server:
        app.url = server.url + "/v1"
        yield app


def the_call(p):
    (span,) = p.spans()
    return span, span.attributes


@pytest.mark.parametrize("route", sorted(WHOLE))
@pytest.mark.parametrize("stream", [False, True])
def test_a_call_passes_as_it_is_and_is_recorded_in_chat(place, polyglot, route, stream):  # noqa: F811
    p = place(OpenAIEngine(polyglot.url, "k"))
    asked = {"model": "big", **ASKED[route], **({"stream": True} if stream else {})}
    status, _, raw = p.post(asked, path=f"{p.path}/{route}")
    assert status == 200
    assert raw == b"".join(map(event, EVENTS[route])) if stream else json.loads(raw) == WHOLE[route]
    assert [(r, body) for r, body, _ in polyglot.asked] == [(route, asked)] and not polyglot.bodies
    span, a = the_call(p)
    (said,) = json.loads(a["gen_ai.output.messages"])
    assert said["content"] == "four" and a["gen_ai.response.finish_reasons"] == ["stop"]
    assert (a["gen_ai.usage.input_tokens"], a["gen_ai.usage.output_tokens"]) == (7, 2)
    assert (json.loads(a["agl.request"]), json.loads(a["agl.response"])) == (asked, WHOLE[route])
    assert json.loads(a["gen_ai.input.messages"])[-1]["content"] == "2+2?"
    assert (a["agl.dialect"], a["agl.streamed"], span.status.status_code) == (route, stream, "OK")


def test_openais_client_uses_what_only_its_endpoint_knows(place, polyglot):  # noqa: F811
    p = place(OpenAIEngine(polyglot.url, "k"))
    client = openai.OpenAI(base_url=p.base_url, api_key=p.token, max_retries=0, timeout=30)
    answer = client.responses.create(model="big", input="2+2?", tools=[{"type": "web_search"}])
    assert (answer.output_text, answer.output[0].encrypted_content) == ("four", "gAAA")


def test_the_key_stays_here_and_the_callers_headers_pass(place, polyglot):  # noqa: F811
    p = place(OpenAIEngine(polyglot.url, "secret"))
    headers = {"authorization": f"Bearer {p.token}", "anthropic-beta": "thinking-2", "x-own": "1"}
    assert p.post({"model": "big", **ASKED["messages"]}, path=p.path + "/messages", headers=headers)[0] == 200
    ((_, _, sent),) = polyglot.asked
    assert (sent["x-api-key"], sent["authorization"], sent["anthropic-beta"]) == (
        "secret",
        "Bearer secret",
        "thinking-2",
    )
    assert sent["anthropic-version"] == "2023-06-01" and "x-own" not in sent


@pytest.mark.parametrize("route", sorted(WHOLE))
def test_an_endpoints_own_failure_ends_the_stream_and_the_span(place, polyglot, route):  # noqa: F811
    polyglot.breaks = True
    p = place(OpenAIEngine(polyglot.url, "k"))
    _, _, raw = p.post({"model": "big", **ASKED[route], "stream": True}, path=f"{p.path}/{route}")
    assert raw.endswith(event(FAILED[route])) and raw.count(b"it broke") == 1
    assert the_call(p)[0].status.status_code == "ERROR"


@pytest.mark.parametrize("status", [400, 429])
def test_a_refusal_reaches_the_agent_and_is_no_reason_to_speak_chat(place, polyglot, status):  # noqa: F811
    polyglot.status = status
    p = place(OpenAIEngine(polyglot.url, "k", retries=0))
    got, _, raw = p.post({"model": "big", **ASKED["messages"]}, path=p.path + "/messages")
    assert (got, json.loads(raw)["error"]["message"]) == (status, "not now") and not polyglot.bodies


def test_an_endpoint_that_knows_chat_only_is_tried_once(place, polyglot):  # noqa: F811
    polyglot.status = 404
    engine = OpenAIEngine(polyglot.url, "k")
    p = place(engine)
    for _ in range(2):
        got, _, raw = p.post({"model": "big", "input": "2+2?"}, path=p.path + "/responses")
        assert got == 200 and json.loads(raw)["object"] == "response"
    assert (len(polyglot.asked), len(polyglot.bodies), engine.speaks) == (1, 2, {"responses": False})
    assert [s.status.status_code for s in p.spans()] == ["OK", "OK"]


def test_vllm_is_asked_in_chat_because_that_has_the_tokens(place, polyglot):  # noqa: F811
    polyglot.owner = "vllm"
    p = place(OpenAIEngine(polyglot.url, "k"))
    assert p.post({"model": "tiny", "input": "2+2?"}, path=p.path + "/responses")[0] == 200
    assert not polyglot.asked and the_call(p)[1]["response_token_ids"]


def test_settings_without_a_word_in_the_dialect_keep_the_call_in_chat(place, polyglot):  # noqa: F811
    p = place(OpenAIEngine(polyglot.url, "k"), llm=LLM(model="tiny", sampling={"seed": 5}))
    assert p.post({"input": "2+2?"}, path=p.path + "/responses")[0] == 200
    assert not polyglot.asked and polyglot.bodies[0]["seed"] == 5


def test_tokens_of_a_message_are_counted_by_whoever_reads_them(place, polyglot):  # noqa: F811
    p = place(OpenAIEngine(polyglot.url, "k"))
    asked = {"model": "big", "messages": [{"role": "user", "content": "2+2?"}]}
    status, _, raw = p.post(asked, path=p.path + "/messages/count_tokens")
    assert (status, json.loads(raw)) == (200, {"input_tokens": 12}) and p.spans() == []
    polyglot.status = 404
    assert p.post(asked, path=p.path + "/messages/count_tokens")[0] == 404
