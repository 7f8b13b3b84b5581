"Each dialect through the proxy, spoken by its own client, with what the store then holds."

import http.client
import json
from urllib.parse import urlsplit

import pytest
from test_proxy import CALLED, IDS, LOGPROBS, PROMPT, TOOL, Parrot, Upstream, place, refusal, upstream  # noqa: F401
from waiting import until

from agentlightning_nb.engines.openai import OpenAIEngine

FUNCTION = {"type": "function", "name": "calc", "parameters": TOOL["function"]["parameters"]}
BLOCK_TOOL = {"name": "calc", "description": "reckons", "input_schema": TOOL["function"]["parameters"]}


def messages(p, text="2+2?", **more):
    return {"model": "tiny", "max_tokens": 9, "messages": [{"role": "user", "content": text}], **more}


def events_of(raw):
    "Names and data of server-sent events; the name must be the data's type."
    found = [part.split("\n", 1) for part in raw.decode().strip().split("\n\n")]
    events = [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in found]
    assert all(name == data["type"] for name, data in events)
    return events


def exact(span):
    a = span.attributes
    assert (a["prompt_token_ids"], a["response_token_ids"], a["response_logprobs"]) == (PROMPT, IDS, LOGPROBS)
    assert (a["gen_ai.usage.input_tokens"], a["gen_ai.usage.output_tokens"]) == (3, 3)
    return a


# responses


@pytest.mark.parametrize("stream", [False, True])
def test_a_response_is_one_span_with_exact_tokens(place, stream):  # noqa: F811
    p = place(Parrot())
    asked = {"model": "tiny", "instructions": "Be short.", "input": "2+2?", "max_output_tokens": 9}
    if stream:
        with p.client().responses.stream(**asked) as told:
            text = "".join(e.delta for e in told if e.type == "response.output_text.delta")
            response = told.get_final_response()
        assert text == "four and done"
    else:
        response = p.client().responses.create(**asked)
    assert (response.output_text, response.status) == ("four and done", "completed")
    assert (response.usage.input_tokens, response.usage.output_tokens) == (3, 3)
    (span,) = p.spans()
    a = exact(span)
    given = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "2+2?"}]
    assert json.loads(a["gen_ai.input.messages"]) == given and a["gen_ai.request.max_tokens"] == 9
    assert (a["agl.dialect"], a["agl.streamed"]) == ("responses", stream)


@pytest.mark.parametrize("stream", [False, True])
def test_function_calls_of_a_response(place, upstream, stream):  # noqa: F811
    p = place(OpenAIEngine(upstream.url))
    asked = {"model": "tiny", "input": "2+2?", "tools": [FUNCTION]}
    if stream:
        with p.client().responses.stream(**asked) as told:
            response = list(told)[-1].response
    else:
        response = p.client().responses.create(**asked)
    (call,) = response.output
    assert (call.type, call.call_id, call.name, call.arguments) == ("function_call", "call_1", "calc", '{"e": "2+2"}')
    a = p.spans()[0].attributes
    assert json.loads(a["gen_ai.output.messages"])[0]["tool_calls"] == [CALLED]
    assert json.loads(a["gen_ai.tool.definitions"]) == [TOOL]
    assert a["gen_ai.response.finish_reasons"] == ["tool_calls"]


def test_what_lives_on_other_servers_is_refused_in_words(place):  # noqa: F811
    p = place(engine := Parrot())
    for more in ({"previous_response_id": "resp_1"}, {"tools": [{"type": "web_search"}]}, {"input": 3}):
        answer = p.post({"model": "tiny", "input": "x", **more}, path=p.path + "/responses")
        assert refusal(answer)[0] == 400
    assert engine.bodies == []


def test_a_response_that_breaks_tells_its_caller(place):  # noqa: F811
    p = place(Parrot())
    raw = p.post({"model": "tiny", "input": "break", "stream": True}, path=p.path + "/responses")[2]
    assert events_of(raw)[-1][0] == "error" and p.spans()[0].status.status_code == "ERROR"


def test_events_of_a_response_are_numbered_in_order(place):  # noqa: F811
    p = place(Parrot())
    events = events_of(p.post({"model": "tiny", "input": "x", "stream": True}, path=p.path + "/responses")[2])
    assert [data["sequence_number"] for _, data in events] == list(range(len(events)))
    assert [name for name, _ in events if "delta" not in name] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]


# messages


@pytest.mark.parametrize("stream", [False, True])
def test_a_message_is_one_span_with_exact_tokens(place, stream):  # noqa: F811
    p = place(Parrot())
    asked = messages(p, system="Be short.", stop_sequences=["!"], stream=stream)
    status, _, raw = p.post(asked, path=p.path + "/messages", headers={"x-api-key": "s3cret"})
    assert status == 200
    if stream:
        events = events_of(raw)
        assert [n for n, _ in events if n != "content_block_delta"] == [
            "message_start",
            "content_block_start",
            "content_block_stop",
            "message_delta",
            "message_stop",
        ]
        text = "".join(d["delta"]["text"] for n, d in events if n == "content_block_delta")
        reason, usage = events[-2][1]["delta"]["stop_reason"], events[-2][1]["usage"]
    else:
        answer = json.loads(raw)
        text, reason, usage = answer["content"][0]["text"], answer["stop_reason"], answer["usage"]
    assert (text, reason, usage) == ("four and done", "end_turn", {"input_tokens": 3, "output_tokens": 3})
    (span,) = p.spans()
    a = exact(span)
    given = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "2+2?"}]
    assert json.loads(a["gen_ai.input.messages"]) == given
    assert (a["agl.dialect"], a["agl.streamed"]) == ("messages", stream)
    assert json.loads(a["agl.request"])["stop_sequences"] == ["!"]


@pytest.mark.parametrize("stream", [False, True])
def test_anthropics_own_client_uses_tools(place, upstream, stream):  # noqa: F811
    anthropic = pytest.importorskip("anthropic")
    p = place(OpenAIEngine(upstream.url))
    client = anthropic.Anthropic(base_url=p.base_url, api_key=p.token, max_retries=0, timeout=30)
    asked = messages(p, tools=[BLOCK_TOOL], tool_choice={"type": "any"})
    if stream:
        with client.messages.stream(**asked) as told:
            answer = told.get_final_message()
    else:
        answer = client.messages.create(**asked)
    (used,) = answer.content
    assert (used.type, used.id, used.name, used.input) == ("tool_use", "call_1", "calc", {"e": "2+2"})
    assert answer.stop_reason == "tool_use" and upstream.bodies[0]["tool_choice"] == "required"
    (span,) = p.spans()
    assert json.loads(span.attributes["gen_ai.output.messages"])[0]["tool_calls"] == [CALLED]


@pytest.mark.parametrize("status", [400, 429, 503])
def test_errors_have_anthropics_shape_and_the_upstreams_status(place, upstream, status):  # noqa: F811
    p = place(OpenAIEngine(upstream.url))
    got, _, raw = p.post(messages(p, f"fail {status}"), path=p.path + "/messages")
    said = json.loads(raw)
    assert (got, said["type"], said["error"]["message"]) == (status, "error", "upstream says no")
    assert p.post(messages(p), path=p.path + "/messages", headers={})[0] == 401
    assert json.loads(p.post({"messages": 3}, path=p.path + "/messages")[2])["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("route", ["responses", "messages"])
def test_an_agent_that_leaves_mid_stream_stops_the_upstream_and_leaves_a_span(place, upstream, route):  # noqa: F811
    p = place(OpenAIEngine(upstream.url))
    said = {"input": "hang"} if route == "responses" else {"messages": [{"role": "user", "content": "hang"}]}
    connection = http.client.HTTPConnection(urlsplit(p.server.url).netloc, timeout=30)
    body = json.dumps({"model": "tiny", "max_tokens": 9, "stream": True, **said})
    connection.request("POST", f"{p.path}/{route}", body, {"Authorization": f"Bearer {p.token}"})
    assert b"event:" in connection.getresponse().readline()  # the first event has come
    connection.close()
    assert upstream.cancelled.wait(30)
    until(p.spans)
    (span,) = p.spans()
    assert span.attributes["gen_ai.response.finish_reasons"] == ["disconnected"] and span.attributes["agl.streamed"]
