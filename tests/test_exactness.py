"What passes the proxy is what the caller asked and what the endpoint said, and the store holds just that."

import asyncio
import json

import openai
import pytest
from test_proxy import ask, chunks_of, place  # noqa: F401

from agentlightning_nb.background import BackgroundServer
from agentlightning_nb.engines.openai import OpenAIEngine
from agentlightning_nb.testing import Answer, Call, Failure, ScriptedModel

HEAD = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "tiny"}


def delta(content, reason=None, index=0):
    return {
        **HEAD,
        "choices": [{"index": index, "delta": {"content": content} if content else {}, "finish_reason": reason}],
    }


def event(chunk):
    return b"data: " + json.dumps(chunk, ensure_ascii=False).encode() + b"\n\n"


class Wire:
    "An endpoint that sends the given bytes part by part and then, if told so, cuts the line."

    def __init__(self, parts, *, kind=b"text/event-stream", cut=False):
        self.parts, self.kind, self.cut, self.bodies = parts, kind, cut, []

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return
        raw, more = b"", True
        while more:
            message = await receive()
            raw, more = raw + message.get("body", b""), message.get("more_body")
        if scope["path"].endswith("/models"):
            parts, kind = [b'{"data": []}'], b"application/json"
        else:
            self.bodies.append(json.loads(raw))
            parts, kind = self.parts, self.kind
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
        for part in parts:
            await send({"type": "http.response.body", "body": part, "more_body": True})
            await asyncio.sleep(0)  # so that parts leave one by one
        if self.cut and kind == self.kind:
            raise ConnectionResetError("as the test wants it")
        await send({"type": "http.response.body", "body": b""})


@pytest.fixture
def wire(place):  # noqa: F811
    "A proxy before such an endpoint."
    servers = []

    def make(parts, **options):
        app = Wire(parts, **options)
        servers.append(BackgroundServer(app).start())
        p = place(OpenAIEngine(servers[-1].url + "/v1", "k", retries=0))
        p.wire = app
        return p

    yield make
    for server in servers:
        server.stop()


def the_span(p):
    (span,) = p.spans()
    return span


def output(span):
    return json.loads(span.attributes["gen_ai.output.messages"])


# what is asked


def test_parts_with_images_pass_and_are_recorded_as_they_are(place):  # noqa: F811
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo=", "detail": "low"}}
    messages = [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, image]}]
    model = ScriptedModel(["A dot."])
    p = place(model)
    p.client().chat.completions.create(model="tiny", messages=messages)
    assert model.requests[0]["messages"] == messages
    assert json.loads(the_span(p).attributes["gen_ai.input.messages"]) == messages


@pytest.mark.parametrize("stream", [False, True])
def test_parameters_known_and_unknown_go_upstream_unchanged(wire, stream):
    whole = {**HEAD, "object": "chat.completion"}
    choice = {"index": 0, "message": {"role": "assistant", "content": "ok"}, "finish_reason": "stop"}
    parts = [event(delta("ok", "stop"))] if stream else [json.dumps(whole | {"choices": [choice]}).encode()]
    p = wire(parts, kind=b"text/event-stream" if stream else b"application/json")
    more = {"stop": ["\n", "END"], "seed": 7, "min_p": 0.05, "guided_json": {"type": "object"}, "user": "ü"}
    status, _, _ = p.post(ask("hi", stream=stream, **more))
    assert status == 200
    (sent,) = p.wire.bodies
    assert {k: sent[k] for k in more} == more
    recorded = json.loads(the_span(p).attributes["agl.request"])
    assert {k: recorded[k] for k in more} == more
    assert the_span(p).attributes["gen_ai.request.seed"] == 7


# what is said


@pytest.mark.parametrize("stream", [False, True])
def test_parallel_tool_calls_stay_apart_and_in_order(place, stream):  # noqa: F811
    calls = (Call("add", {"a": 1, "b": 2}), Call("multiply", {"a": 3, "b": 4}), Call("add", {"a": 5, "b": 6}))
    p = place(ScriptedModel([Answer("Three at once.", calls=calls)]))
    body = ask("go", stream=stream, tools=[{"type": "function", "function": {"name": "add", "parameters": {}}}])
    status, _, raw = p.post(body)
    assert status == 200
    (said,) = output(the_span(p))
    assert [(c["function"]["name"], json.loads(c["function"]["arguments"])) for c in said["tool_calls"]] == [
        (c.name, c.arguments) for c in calls
    ]
    if stream:
        parts = [t for c in chunks_of(raw) for x in c["choices"] for t in x["delta"].get("tool_calls") or []]
        told = ["".join(t["function"]["arguments"] for t in parts if t["index"] == i) for i in range(3)]
        assert told == [c["function"]["arguments"] for c in said["tool_calls"]]


@pytest.mark.parametrize("stream", [False, True])
def test_each_of_several_choices_is_kept(place, stream):  # noqa: F811
    p = place(ScriptedModel(["One of two."]))
    status, _, raw = p.post(ask("go", n=2, stream=stream))
    assert status == 200
    span = the_span(p)
    assert [m["content"] for m in output(span)] == ["One of two."] * 2
    assert span.attributes["gen_ai.response.finish_reasons"] == ["stop", "stop"]
    if stream:
        said = {0: "", 1: ""}
        for choice in (x for c in chunks_of(raw) for x in c["choices"]):
            said[choice["index"]] += choice["delta"].get("content") or ""
        assert said == {0: "One of two.", 1: "One of two."}


def test_choices_of_an_endpoints_stream_are_put_together_each_for_itself(wire):
    p = wire(
        [event(delta(t, r, i)) for t, r, i in [("a", None, 0), ("x", None, 1), ("b", "stop", 0), ("y", "length", 1)]]
    )
    p.post(ask("go", n=2, stream=True))
    assert [m["content"] for m in output(the_span(p))] == ["ab", "xy"]
    assert the_span(p).attributes["gen_ai.response.finish_reasons"] == ["stop", "length"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("wanted", [False, True])
def test_logprobs_are_shown_to_those_who_asked_only(place, stream, wanted):  # noqa: F811
    p = place(ScriptedModel([Answer("It is so.", logprob=-0.5)]))
    status, _, raw = p.post(ask("go", stream=stream, **({"logprobs": True} if wanted else {})))
    bodies = chunks_of(raw) if stream else [json.loads(raw)]
    shown = [t["logprob"] for b in bodies for c in b["choices"] for t in (c.get("logprobs") or {}).get("content") or []]
    assert (status, shown) == (200, [-0.5] * 3 if wanted else [])
    assert the_span(p).attributes["response_logprobs"] == [-0.5] * 3


@pytest.mark.parametrize("wanted", [False, True])
def test_the_usage_chunk_is_shown_to_those_who_asked_only(place, wanted):  # noqa: F811
    p = place(ScriptedModel(["It is so."]))
    _, _, raw = p.post(ask("go", stream=True, **({"stream_options": {"include_usage": True}} if wanted else {})))
    assert [c["usage"]["completion_tokens"] for c in chunks_of(raw) if c.get("usage")] == ([3] if wanted else [])
    assert the_span(p).attributes["gen_ai.usage.output_tokens"] == 3


# how it comes


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_characters_cut_in_two_by_the_network_arrive_whole(wire, size):
    text = "Grüße 🙂 漢字 e\u0301"
    raw = event(delta(text)) + event(delta("", "stop")) + b"data: [DONE]\n\n"
    p = wire([raw[i : i + size] for i in range(0, len(raw), size)])
    with p.client() as client:
        stream = client.chat.completions.create(**ask("go", stream=True))
        assert "".join(c.choices[0].delta.content or "" for c in stream) == text
    assert output(the_span(p))[0]["content"] == text


def test_comments_and_line_ends_of_an_endpoint_do_not_disturb(wire):
    keep = b": keep-alive\n\n"
    odd = event(delta("two")).replace(b"\n", b"\r\n")
    p = wire(
        [
            keep,
            event(delta("one ")),
            keep,
            keep,
            b"event: message\n" + odd,
            event(delta("", "stop")),
            b"data: [DONE]\n\n",
        ]
    )
    with p.client() as client:
        stream = client.chat.completions.create(**ask("go", stream=True))
        assert "".join(c.choices[0].delta.content or "" for c in stream) == "one two"
    assert output(the_span(p))[0]["content"] == "one two"


def test_a_stream_of_five_thousand_chunks_arrives_and_is_recorded_whole(wire):
    words = [f"w{i} " for i in range(5000)]
    p = wire([*(event(delta(w)) for w in words), event(delta("", "stop")), b"data: [DONE]\n\n"])
    status, _, raw = p.post(ask("go", stream=True))
    told = [c["choices"][0]["delta"].get("content", "") for c in chunks_of(raw)]
    assert (status, [t for t in told if t]) == (200, words)
    assert output(the_span(p))[0]["content"] == "".join(words)


# how it ends


@pytest.mark.parametrize("cut", [False, True])
def test_an_endpoint_that_goes_away_in_a_stream_is_told_and_recorded_as_an_error(wire, cut):
    p = wire([event(delta("half of"))], cut=cut)
    with p.client() as client:
        stream = client.chat.completions.create(**ask("go", stream=True))
        assert next(stream).choices[0].delta.content == "half of"
        with pytest.raises(openai.APIError):
            list(stream)
    assert the_span(p).status.status_code == "ERROR"


def test_an_error_in_a_stream_reaches_the_caller_in_the_endpoints_words(wire):
    error = {"error": {"message": "out of memory, sorry", "type": "its_own", "code": "its_code"}}
    p = wire([event(delta("half of")), event(error)])
    with p.client() as client:
        stream = client.chat.completions.create(**ask("go", stream=True))
        assert next(stream).choices[0].delta.content == "half of"
        with pytest.raises(openai.APIError, match="out of memory, sorry"):
            list(stream)
    assert the_span(p).status.status_code == "ERROR"


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_that_its_client_makes_again_is_one_span_with_a_count(place, stream):  # noqa: F811
    p = place(ScriptedModel([Failure(429, "too many"), "Now it works."]))
    with openai.OpenAI(base_url=p.base_url, api_key=p.token, max_retries=2, timeout=30) as client:
        answer = client.chat.completions.create(**ask("go", stream=stream))
        said = (
            "".join(c.choices[0].delta.content or "" for c in answer if c.choices)
            if stream
            else answer.choices[0].message.content
        )
    assert said == "Now it works."
    span = the_span(p)
    assert (span.status.status_code, span.attributes["agl.retry_count"]) == ("OK", 1)
    assert output(span)[0]["content"] == "Now it works."


def test_the_same_question_asked_twice_is_two_spans(place):  # noqa: F811
    p = place(ScriptedModel(["Yes.", "No."]))
    with p.client() as client:
        for _ in range(2):
            client.chat.completions.create(**ask("go"))
    assert [output(s)[0]["content"] for s in p.spans()] == ["Yes.", "No."]


def test_line_ends_cut_in_two_by_the_network_are_line_ends(wire):
    raw = (event(delta("one ")) + event(delta("two", "stop"))).replace(b"\n", b"\r\n")
    p = wire([raw[i : i + 1] for i in range(len(raw))])
    status, _, _ = p.post(ask("go", stream=True))
    assert status == 200
    assert output(the_span(p))[0]["content"] == "one two"
