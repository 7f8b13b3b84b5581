"The proxy against real clients on one side and a real loopback upstream, or an engine of this process, on the other."

import asyncio
import http.client
import json
import threading
from urllib.parse import urlsplit

import openai
import pytest
from waiting import until

from agentlightning_nb.adapters import triplets_from_spans
from agentlightning_nb.background import BackgroundServer
from agentlightning_nb.client import LightningClient
from agentlightning_nb.engines.base import Reply
from agentlightning_nb.engines.openai import OpenAIEngine
from agentlightning_nb.errors import BadRequestError
from agentlightning_nb.proxy import Proxy
from agentlightning_nb.server import AgentLightningServer
from agentlightning_nb.store import LightningStore
from agentlightning_nb.types import LLM

PROMPT, IDS, LOGPROBS = [11, 12, 13], [4, 5, 2], [-0.1, -0.2, -0.3]
WORDS = ["four", " and", " done"]
TOOL = {
    "type": "function",
    "function": {"name": "calc", "parameters": {"type": "object", "properties": {"e": {"type": "string"}}}},
}
CALLED = {"id": "call_1", "type": "function", "function": {"name": "calc", "arguments": '{"e": "2+2"}'}}
USAGE = {"prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6}


class Upstream:
    "A loopback server that speaks OpenAI's chat completions and, when asked, vLLM's token ids. Commands stand in the last message."

    def __init__(self):
        self.bodies, self.keys, self.owner = [], [], "somebody"
        self.cancelled, self.release = threading.Event(), threading.Event()
        self.refuse = lambda: 0

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return
        raw = b""
        while True:
            message = await receive()
            raw += message.get("body", b"")
            if not message.get("more_body"):
                break
        if scope["path"].endswith("/models"):
            listed = {"object": "list", "data": [{"id": "tiny", "object": "model", "owned_by": self.owner}]}
            return await self._send(send, 200, json.dumps(listed).encode())
        body = json.loads(raw or b"{}")
        if scope["path"].endswith("/embeddings"):
            listed = [
                {"object": "embedding", "index": i, "embedding": [0.5, -1.0]} for i, _ in enumerate(body["input"])
            ]
            told = {"object": "list", "model": body["model"], "data": listed, "usage": USAGE | {"completion_tokens": 0}}
            return await self._send(send, 200, json.dumps(told).encode())
        if scope["path"].endswith("/v1/completions"):
            choice = {"index": 0, "text": body["prompt"] + " done", "finish_reason": "stop", "logprobs": None}
            told = {"id": "c", "object": "text_completion", "created": 1, "model": body["model"], "choices": [choice]}
            return await self._send(send, 200, json.dumps(told | {"usage": USAGE}).encode())
        if not scope["path"].endswith("/chat/completions"):
            return await self._send(send, 404, b'{"error": {"message": "no such route"}}')
        self.bodies.append(body)
        self.keys.append(dict(scope["headers"]).get(b"authorization", b"").decode())
        command = body["messages"][-1]["content"]
        if status := self.refuse():
            return await self._send(send, status, b"{}")
        if command.startswith("fail"):
            error = {"error": {"message": "upstream says no", "type": "its_own", "code": "its_code"}}
            return await self._send(send, int(command.split()[1]), json.dumps(error).encode())
        if body.get("stream"):
            return await self._stream(body, command, receive, send)
        await self._send(send, 200, json.dumps(self.whole(body)).encode())

    async def _send(self, send, status, body):
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def message(self, body):
        if body.get("tools"):
            return {"role": "assistant", "content": None, "tool_calls": [CALLED]}
        return {"role": "assistant", "content": "".join(WORDS)}

    def whole(self, body):
        choice = {
            "index": 0,
            "message": self.message(body),
            "finish_reason": "tool_calls" if body.get("tools") else "stop",
        }
        answer = {"id": "cmpl-1", "object": "chat.completion", "created": 1, "model": body["model"], "usage": USAGE}
        if body.get("logprobs"):
            choice["logprobs"] = {"content": [{"token": "t", "logprob": p, "top_logprobs": []} for p in LOGPROBS]}
        if body.get("return_token_ids"):
            choice["token_ids"], answer["prompt_token_ids"] = IDS, PROMPT
        return answer | {"choices": [choice]}

    async def _stream(self, body, command, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        for chunk in self.chunks(body):
            await send(
                {
                    "type": "http.response.body",
                    "body": b"data: " + json.dumps(chunk).encode() + b"\n\n",
                    "more_body": True,
                }
            )
            if command == "hang":
                while (await receive())["type"] != "http.disconnect":
                    pass
                self.cancelled.set()
                return
            if command == "wait":
                await asyncio.to_thread(self.release.wait, 30)
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})

    def chunks(self, body):
        head = {"id": "cmpl-1", "object": "chat.completion.chunk", "created": 1, "model": body["model"]}
        if body.get("tools"):
            deltas = [{"role": "assistant", "tool_calls": [{"index": 0, **CALLED}]}]
        else:
            deltas = [{"content": w} for w in WORDS]
        for i, delta in enumerate(deltas):
            choice = {"index": 0, "delta": delta, "finish_reason": None}
            if body.get("logprobs"):
                choice["logprobs"] = {"content": [{"token": "t", "logprob": LOGPROBS[i], "top_logprobs": []}]}
            if body.get("return_token_ids"):
                choice["token_ids"] = [IDS[i]]
            first = {"prompt_token_ids": PROMPT} if body.get("return_token_ids") and i == 0 else {}
            yield {**head, **first, "choices": [choice]}
        reason = "tool_calls" if body.get("tools") else "stop"
        yield {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}
        if (body.get("stream_options") or {}).get("include_usage"):
            yield {**head, "choices": [], "usage": USAGE}


class Parrot:
    "An engine of this process."

    models = ["parrot"]

    def __init__(self):
        self.bodies, self.sessions = [], []
        self.cancelled = threading.Event()

    def reply(self, body):
        choice = {"index": 0, "message": {"role": "assistant", "content": "".join(WORDS)}, "finish_reason": "stop"}
        whole = {"id": "c1", "object": "chat.completion", "created": 1, "model": "parrot", "choices": [choice]}
        return Reply(whole | {"usage": USAGE}, PROMPT, IDS, LOGPROBS, "rs-7")

    async def chat(self, body, *, session=None):
        self.bodies.append(body)
        self.sessions.append(session)
        command = body["messages"][-1]["content"]
        if command == "bad":
            raise BadRequestError("messages are wrong")
        if command == "crash":
            raise ZeroDivisionError("secret prompt inside")
        if command == "hang":
            try:
                await asyncio.sleep(60)
            finally:
                self.cancelled.set()
        return self.reply(body)

    async def stream(self, body, *, session=None):
        self.bodies.append(body)
        head = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "parrot"}
        if body["messages"][-1]["content"] == "bad":
            raise BadRequestError("messages are wrong")
        for word in WORDS:
            yield {**head, "choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}]}
            if body["messages"][-1]["content"] == "break":
                raise ZeroDivisionError("in the middle")
        yield {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
        yield {**head, "choices": [], "usage": USAGE}
        yield self.reply(body)


class Place:
    "A proxy on a port, its store, and one attempt."

    def __init__(self, upstream, *, token="s3cret", llm=None, metadata=None):
        self.store, self.token = LightningStore(), token
        self.proxy = Proxy(self.store, token=token, upstream=upstream)
        self.server = BackgroundServer(self.proxy, farewell=self.proxy.aclose).start()
        version = self.store.add_resources({"model": llm or LLM("tiny")})
        claimed = self.store.start_rollout({"q": 1}, resources_id=version.resources_id, metadata=metadata)
        self.version, self.rollout_id, self.attempt_id = (
            version.resources_id,
            claimed.rollout_id,
            claimed.attempt.attempt_id,
        )
        self.path = f"/rollout/{self.rollout_id}/attempt/{self.attempt_id}/v1"
        self.base_url = self.server.url + self.path

    def client(self, cls=openai.OpenAI, **options):
        return cls(base_url=self.base_url, api_key=self.token, max_retries=0, timeout=30, **options)

    def spans(self):
        return self.store.query_spans(self.rollout_id).items

    def post(self, body, *, path=None, headers=None, method="POST"):
        "Status, headers and raw body of a request."
        connection = http.client.HTTPConnection(urlsplit(self.server.url).netloc, timeout=30)
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        given = {"Authorization": f"Bearer {self.token}"} if headers is None else headers
        try:
            connection.request(method, path or self.path + "/chat/completions", raw, given)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()

    def close(self):
        self.server.stop()
        self.store.close()


@pytest.fixture
def place():
    made = []

    def make(*args, **kwargs):
        made.append(Place(*args, **kwargs))
        return made[-1]

    yield make
    for p in made:
        p.close()


@pytest.fixture
def upstream():
    app = Upstream()
    with BackgroundServer(app) as server:
        app.url = server.url + "/v1"
        yield app
        app.release.set()


def ask(text, **more):
    return {"model": "tiny", "messages": [{"role": "user", "content": text}], **more}


def chunks_of(raw):
    lines = [line[6:] for line in raw.decode().splitlines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


# what is recorded


def test_a_call_is_one_span_with_exact_tokens(place):
    p = place(Parrot())
    answer = p.client().chat.completions.create(**ask("2+2?", temperature=0.5))
    assert answer.choices[0].message.content == "four and done"
    (span,) = p.spans()
    a = span.attributes
    assert (a["prompt_token_ids"], a["response_token_ids"], a["response_logprobs"]) == (PROMPT, IDS, LOGPROBS)
    assert a["gen_ai.request.temperature"] == 0.5 and a["gen_ai.response.finish_reasons"] == ["stop"]
    assert (a["gen_ai.usage.input_tokens"], a["gen_ai.usage.output_tokens"]) == (3, 3)
    assert json.loads(a["gen_ai.input.messages"]) == [{"role": "user", "content": "2+2?"}]
    assert json.loads(a["gen_ai.output.messages"])[0]["content"] == "four and done"
    assert (a["agl.resources_id"], a["agl.policy_version"]) == (p.version, "rs-7")
    assert span.status.status_code == "OK" and span.name == "chat tiny" and span.end_time >= span.start_time
    (triplet,) = p.store.query_triplets([p.rollout_id])[p.rollout_id]
    assert (triplet.prompt_ids, triplet.response_ids, triplet.logprobs) == (PROMPT, IDS, LOGPROBS)


def test_a_stream_is_recorded_like_a_whole_answer(place):
    p = place(Parrot())
    chunks = list(p.client().chat.completions.create(**ask("2+2?"), stream=True))
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == "four and done"
    assert chunks[-1].choices[0].finish_reason == "stop"
    (span,) = p.spans()
    assert span.attributes["response_token_ids"] == IDS
    assert json.loads(span.attributes["gen_ai.output.messages"])[0]["content"] == "four and done"


def test_the_span_is_there_when_the_finish_reason_is(place):
    p = place(Parrot())
    for chunk in p.client().chat.completions.create(**ask("2+2?"), stream=True):
        if chunk.choices[0].finish_reason:
            break
    p.store.finish_attempt(p.rollout_id, p.attempt_id, reward=1.0)
    (span,) = p.spans()
    assert span.status.status_code == "OK" and "agl.late" not in span.attributes


def test_the_async_client_calls_in_parallel_and_each_call_is_kept(place):
    p = place(Parrot())

    async def many():
        async with p.client(openai.AsyncOpenAI) as client:
            return await asyncio.gather(*(client.chat.completions.create(**ask(f"q{i}")) for i in range(40)))

    assert len(asyncio.run(many())) == 40
    asked = {json.loads(s.attributes["gen_ai.input.messages"])[0]["content"] for s in p.spans()}
    assert asked == {f"q{i}" for i in range(40)}


def test_the_engine_knows_which_attempt_a_call_belongs_to(place):
    p = place(engine := Parrot())
    p.client().chat.completions.create(**ask("x"))
    assert engine.sessions == [p.attempt_id]


def test_a_retried_call_says_so(place):
    p = place(Parrot())
    p.client().chat.completions.create(**ask("x"), extra_headers={"x-stainless-retry-count": "1"})
    assert p.spans()[0].attributes["agl.retry_count"] == 1


def test_an_agent_that_names_itself_is_told_from_the_others_of_its_rollout(place):
    p = place(Parrot())
    p.client().chat.completions.create(**ask("x"), extra_headers={"X-Agent-Name": "critic"})
    p.client().chat.completions.create(**ask("y"))
    assert [s.attributes.get("gen_ai.agent.name") for s in p.spans()] == ["critic", None]
    assert [t.agent for t in triplets_from_spans(p.spans())] == ["critic", ""]


def test_a_call_joins_the_trace_of_its_caller(place):
    p = place(Parrot())
    trace, parent = "ab" * 16, "cd" * 8
    p.client().chat.completions.create(**ask("x"), extra_headers={"traceparent": f"00-{trace}-{parent}-01"})
    assert (p.spans()[0].trace_id, p.spans()[0].parent_id) == (trace, parent)


def test_calls_without_an_attempt_are_kept_together_as_unattributed(place):
    p = place(engine := Parrot())
    for text in ("x", "y"):
        status, _, raw = p.post(ask(text), path="/v1/chat/completions")
        assert status == 200 and json.loads(raw)["choices"] and p.spans() == []
    (kept,) = p.store.query_rollouts(task_id="unattributed").items
    assert [s.attributes["response_token_ids"] for s in p.store.query_spans(kept.rollout_id)] == [IDS, IDS]
    assert engine.sessions == [None, None] and kept.run_id is None
    p.server.stop()
    assert p.store.get_rollout_by_id(kept.rollout_id).status == "succeeded"


# several upstreams


def test_a_rollout_keeps_to_one_of_several_upstreams(place):
    engines = [Parrot(), Parrot()]
    p = place(engines)
    for _ in range(3):
        p.post(ask("x"))
    assert sorted(len(e.bodies) for e in engines) == [0, 3]
    used = max(engines, key=lambda e: len(e.bodies))
    for _ in range(20):
        claimed = p.store.start_rollout({"q": 1})
        p.post(ask("x"), path=f"/rollout/{claimed.rollout_id}/attempt/{claimed.attempt.attempt_id}/v1/chat/completions")
    assert all(e.bodies for e in engines) and len(used.bodies) < 23


def test_what_may_pass_is_tried_again_and_recorded_once(place, upstream):
    p = place(OpenAIEngine(upstream.url, backoff_s=0.01))
    failures = [503, 429]
    upstream.refuse = lambda: failures.pop() if failures else 0
    assert p.post(ask("x"))[0] == 200
    assert len(upstream.bodies) == 3 and [s.status.status_code for s in p.spans()] == ["OK"]


@pytest.mark.parametrize(("status", "calls"), [(400, 1), (503, 3)])
def test_what_stays_is_given_up_and_said_as_it_was(place, upstream, status, calls):
    p = place(OpenAIEngine(upstream.url, backoff_s=0.01))
    assert p.post(ask(f"fail {status}", stream=True))[0] == status
    assert len(upstream.bodies) == calls and len(p.spans()) == 1


def test_paused_waits_for_calls_under_way_and_holds_back_those_that_come(place, upstream):
    p = place(OpenAIEngine(upstream.url))
    stream = p.client().chat.completions.create(**ask("wait"), stream=True)
    next(iter(stream))
    with p.proxy.valve.paused(timeout_s=0.05) as drained:
        assert not drained
    upstream.release.set()
    list(stream)
    with p.proxy.valve.paused(timeout_s=30) as drained:
        assert drained
        caller = threading.Thread(target=p.post, args=(ask("x"),))
        caller.start()
        until(lambda: p.proxy.valve._waiting)
        assert len(upstream.bodies) == 1
    caller.join(30)
    assert len(upstream.bodies) == 2


# what the caller sees


@pytest.mark.parametrize("stream", [False, True])
def test_extras_are_shown_to_those_who_asked_only(place, stream):
    p = place(Parrot())
    quiet = p.post(ask("x", stream=stream))[2].decode()
    assert "token_ids" not in quiet and "-0.2" not in quiet and '"usage"' in quiet or stream
    asked = p.post(ask("x", stream=stream, logprobs=True, return_token_ids=True))[2]
    bodies = chunks_of(asked) if stream else [json.loads(asked)]
    choices = [c for b in bodies for c in b["choices"]]
    assert [i for c in choices for i in c.get("token_ids") or []] == IDS
    assert [t["logprob"] for c in choices for t in (c.get("logprobs") or {}).get("content") or []] == LOGPROBS
    assert PROMPT in [b.get("prompt_token_ids") for b in bodies]


def test_usage_of_a_stream_is_shown_to_those_who_asked_only(place, upstream):
    p = place(OpenAIEngine(upstream.url))
    assert all(c["choices"] for c in chunks_of(p.post(ask("x", stream=True))[2]))
    last = chunks_of(p.post(ask("x", stream=True, stream_options={"include_usage": True}))[2])[-1]
    assert (last["choices"], last["usage"]) == ([], USAGE)
    assert [s.attributes["gen_ai.usage.output_tokens"] for s in p.spans()] == [3, 3]


# what is filled in


def test_missing_parameters_come_from_the_llm_and_the_rollout(place):
    llm = LLM("tiny", sampling={"temperature": 0.9, "max_tokens": 7, "top_p": 0.5})
    p = place(engine := Parrot(), llm=llm, metadata={"sampling": {"temperature": 0.0}})
    p.post({"messages": [{"role": "user", "content": "x"}], "top_p": 1.0, "max_tokens": None})
    sent = engine.bodies[0]
    assert (sent["model"], sent["temperature"], sent["max_tokens"], sent["top_p"]) == ("tiny", 0.0, 7, 1.0)
    assert p.spans()[0].attributes["gen_ai.request.temperature"] == 0.0


# a real upstream


def test_an_llm_with_an_address_is_called_on_the_agents_behalf(place, upstream):
    p = place(None, llm=LLM("tiny", base_url=upstream.url))
    assert p.client().chat.completions.create(**ask("x")).choices[0].message.content == "four and done"
    assert p.spans()[0].status.status_code == "OK"


def test_the_servers_token_and_strange_keys_never_go_upstream(place, upstream, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-mine")
    p = place(None, llm=LLM("tiny", base_url=upstream.url))
    p.client().chat.completions.create(**ask("x"))
    assert all("s3cret" not in key and "sk-mine" not in key for key in upstream.keys)


def test_a_given_key_goes_upstream_and_nowhere_else(place, upstream, caplog):
    p = place(OpenAIEngine(upstream.url, api_key="sk-mine"))
    answer = p.post(ask("a very private prompt"))[2].decode()
    p.post(ask("fail 500"))
    assert upstream.keys[0] == "Bearer sk-mine"
    kept = json.dumps([s.model_dump(mode="json") for s in p.spans()])
    assert all("sk-mine" not in text for text in (answer, kept, caplog.text))
    assert "very private prompt" not in caplog.text and "s3cret" not in caplog.text + kept


def test_only_vllm_is_asked_for_token_ids(place, upstream):
    p = place(OpenAIEngine(upstream.url))
    p.post(ask("x"))
    assert not {"return_token_ids", "logprobs"} & set(upstream.bodies[0])
    upstream.owner = "vllm"
    p.proxy.upstream = OpenAIEngine(upstream.url)
    p.post(ask("x", stream=True))
    assert upstream.bodies[1]["return_token_ids"] and upstream.bodies[1]["logprobs"]


def test_tokens_of_vllm_are_recorded_and_stripped(place, upstream):
    upstream.owner = "vllm"
    p = place(OpenAIEngine(upstream.url))
    assert "token_ids" not in p.post(ask("x"))[2].decode()
    assert "token_ids" not in p.post(ask("x", stream=True))[2].decode()
    for span in p.spans():
        a = span.attributes
        assert (a["prompt_token_ids"], a["response_token_ids"], a["response_logprobs"]) == (PROMPT, IDS, LOGPROBS)


@pytest.mark.parametrize("stream", [False, True])
def test_tool_calls_pass_through_and_are_recorded(place, upstream, stream):
    p = place(OpenAIEngine(upstream.url))
    answer = p.client().chat.completions.create(**ask("x", tools=[TOOL]), stream=stream)
    if stream:
        (call,) = [t for c in answer if c.choices for t in c.choices[0].delta.tool_calls or []]
    else:
        (call,) = answer.choices[0].message.tool_calls
    assert (call.function.name, call.function.arguments) == ("calc", '{"e": "2+2"}')
    a = p.spans()[0].attributes
    assert json.loads(a["gen_ai.tool.definitions"]) == [TOOL]
    assert json.loads(a["gen_ai.output.messages"])[0]["tool_calls"] == [CALLED]
    assert a["gen_ai.response.finish_reasons"] == ["tool_calls"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [400, 429, 503])
def test_upstream_errors_reach_the_agent_as_they_are(place, upstream, status, stream):
    p = place(OpenAIEngine(upstream.url))
    got, _, raw = p.post(ask(f"fail {status}", stream=stream))
    assert got == status and json.loads(raw)["error"]["code"] == "its_code"
    assert p.spans()[0].status.status_code == "ERROR"


def test_an_upstream_that_is_away_is_a_502(place):
    p = place(OpenAIEngine("http://127.0.0.1:9/v1"))
    status, _, raw = p.post(ask("x"))
    assert status == 502 and "127.0.0.1:9" in json.loads(raw)["error"]["message"]


def test_chunks_arrive_before_the_upstream_has_finished(place, upstream):
    p = place(OpenAIEngine(upstream.url))
    stream = p.client().chat.completions.create(**ask("wait"), stream=True)
    assert next(iter(stream)).choices[0].delta.content == "four"
    upstream.release.set()
    assert [c.choices[0].delta.content for c in stream][:2] == [" and", " done"]


# callers that leave


def test_a_caller_that_leaves_a_stream_stops_the_upstream_and_is_recorded(place, upstream):
    p = place(OpenAIEngine(upstream.url))
    stream = p.client().chat.completions.create(**ask("hang"), stream=True)
    next(iter(stream))
    stream.close()
    assert upstream.cancelled.wait(30)
    until(p.spans)
    (span,) = p.spans()
    assert span.status.status_code == "ERROR"
    assert span.attributes["gen_ai.response.finish_reasons"] == ["disconnected"]


def test_a_caller_that_leaves_before_the_answer_stops_the_engine(place):
    p = place(engine := Parrot())
    with pytest.raises(openai.APITimeoutError):
        p.client().with_options(timeout=0.2).chat.completions.create(**ask("hang"))
    assert engine.cancelled.wait(30)
    until(p.spans)
    assert p.spans()[0].attributes["gen_ai.response.finish_reasons"] == ["disconnected"]


@pytest.mark.slow
def test_a_stopping_server_does_not_wait_for_a_hanging_call(place):
    p = place(engine := Parrot())

    def call():
        with pytest.raises(openai.OpenAIError):
            p.client().chat.completions.create(**ask("hang"))

    caller = threading.Thread(target=call)
    caller.start()
    until(lambda: engine.sessions)
    p.server.stop()
    caller.join(30)
    assert engine.cancelled.is_set() and not caller.is_alive()


# refusals


def refusal(answer):
    status, headers, raw = answer
    error = json.loads(raw)["error"]
    assert set(error) >= {"message", "type", "code"} and error["message"]
    return status, error


def test_nobody_gets_in_without_the_token(place):
    p = place(engine := Parrot())
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "s3cret wrong"}, {"x-api-key": ""}):
        assert refusal(p.post(ask("x"), headers=headers))[0] == 401
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=p.base_url, api_key="wrong").chat.completions.create(**ask("x"))
    assert engine.bodies == []
    assert p.post(ask("x"), headers={"x-api-key": "s3cret"})[0] == 200


def test_an_empty_token_lets_everybody_in(place):
    assert place(Parrot(), token="").post(ask("x"), headers={})[0] == 200


def test_a_call_for_an_ended_attempt_is_a_409_that_is_not_worth_a_retry(place):
    p = place(engine := Parrot())
    p.client().chat.completions.create(**ask("x"))
    p.store.finish_attempt(p.rollout_id, p.attempt_id, reward=1.0)
    answer = p.post(ask("x"))
    assert refusal(answer)[0] == 409 and answer[1]["x-should-retry"] == "false"
    assert len(engine.bodies) == 1 and len(p.spans()) == 1


def test_a_call_for_a_cancelled_rollout_is_a_409(place):
    p = place(Parrot())
    p.client().chat.completions.create(**ask("x"))
    p.store.update_rollout(p.rollout_id, status="cancelled")
    assert refusal(p.post(ask("x")))[0] == 409


def test_a_call_for_an_attempt_that_was_given_up_is_a_409(place):
    p = place(Parrot())
    p.client().chat.completions.create(**ask("x"))
    p.store.update_rollout(p.rollout_id, config={"max_attempts": 2, "retry_condition": ["timeout"]})
    p.store.update_attempt(p.rollout_id, p.attempt_id, status="timeout")
    p.store.dequeue_rollout("another")
    assert refusal(p.post(ask("x")))[0] == 409


def test_unknown_rollouts_attempts_and_routes_are_404(place):
    p = place(Parrot())
    for path in (
        f"/rollout/ro-none/attempt/{p.attempt_id}/v1/chat/completions",
        f"/rollout/{p.rollout_id}/attempt/at-none/v1/chat/completions",
        p.path + "/images",
        p.path + "/chat/completions/extra",
    ):
        assert refusal(p.post(ask("x"), path=path))[0] == 404
    assert refusal(p.post(ask("x"), method="GET"))[0] in (404, 405)


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b'"x"', b"null", b"\xff\xfe", b"[" * 100_000])
def test_a_body_that_is_no_json_object_is_a_400(place, body):
    assert refusal(place(Parrot()).post(body))[0] == 400


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_that_the_engine_refuses_is_a_400_in_words(place, stream):
    p = place(Parrot())
    status, error = refusal(p.post(ask("bad", stream=stream)))
    assert (status, error["message"]) == (400, "messages are wrong")
    with pytest.raises(openai.BadRequestError):
        p.client().chat.completions.create(**ask("bad"))


def test_a_crash_of_the_engine_is_a_500_without_its_words(place):
    p = place(Parrot())
    status, error = refusal(p.post(ask("crash")))
    assert status == 500 and "secret" not in error["message"]
    assert p.spans()[0].status.status_code == "ERROR"


def test_a_stream_that_breaks_tells_its_caller(place):
    p = place(Parrot())
    with pytest.raises(openai.APIError):
        list(p.client().chat.completions.create(**ask("break"), stream=True))
    until(p.spans)
    assert p.spans()[0].status.status_code == "ERROR"


def test_nothing_to_answer_is_said(place):
    status, error = refusal(place(None).post(ask("x")))
    assert status >= 500 and "upstream" in error["message"]


def test_models_are_those_of_the_attempt_and_of_the_engine(place):
    p = place(Parrot())
    assert {m.id for m in p.client().models.list()} == {"tiny", "parrot"}
    assert p.post(b"", path=p.path + "/models", headers={}, method="GET")[0] == 401


def test_the_upstream_may_be_exchanged_between_calls(place):
    p = place(first := Parrot())
    p.post(ask("x"))
    p.proxy.upstream = second = Parrot()
    p.post(ask("x"))
    assert (len(first.bodies), len(second.bodies)) == (1, 1)


def test_a_long_conversation_fits(place):
    p = place(Parrot())
    assert p.post(ask("x" * 3_000_000))[0] == 200


def test_calls_are_counted_by_how_they_end(place):
    p = place(Parrot())
    p.client().chat.completions.create(**ask("hello"))
    list(p.client().chat.completions.create(**ask("hello"), stream=True))
    with pytest.raises(openai.BadRequestError):
        p.client().chat.completions.create(**ask("bad"))
    counts = p.proxy.counts
    assert dict(counts.ended) == {"ok": 2, "error": 1} and counts.seconds > 0
    assert dict(counts.tokens) == {"input": 6, "output": 6}


# routes that are passed on


def test_embeddings_and_completions_are_passed_on_and_recorded(place, upstream):
    p = place(OpenAIEngine(upstream.url))
    client = p.client()
    made = client.embeddings.create(model="tiny", input=["a", "b"], encoding_format="float")
    assert [e.embedding for e in made.data] == [[0.5, -1.0]] * 2
    assert client.completions.create(model="tiny", prompt="well").choices[0].text == "well done"
    first, second = p.spans()
    assert (first.name, second.name) == ("embeddings tiny", "text_completion tiny")
    assert first.attributes["gen_ai.usage.input_tokens"] == 3 and "data" not in json.loads(
        first.attributes["agl.response"]
    )
    assert json.loads(second.attributes["gen_ai.output.messages"])[0]["content"] == "well done"


def test_an_engine_without_a_route_says_so(place, upstream):
    with pytest.raises(openai.BadRequestError, match="has no embeddings"):
        place(Parrot()).client().embeddings.create(model="tiny", input="a")
    with pytest.raises(openai.BadRequestError, match="cannot be streamed"):
        place(OpenAIEngine(upstream.url)).client().completions.create(model="tiny", prompt="a", stream=True)


def test_one_model_is_described_too(place):
    p = place(Parrot())
    assert p.client().models.retrieve("parrot").id == "parrot"
    with pytest.raises(openai.NotFoundError, match="Known: tiny, parrot"):
        p.client().models.retrieve("other")


def test_whoever_has_the_answer_finds_the_call(tmp_path):
    "The answer does not wait for the file, so reading spans does: in a file as in memory, here and over HTTP."
    with (
        LightningStore(tmp_path / "store.db") as store,
        AgentLightningServer(store, upstream=Parrot(), token="t") as server,
    ):
        with LightningClient(server.url, "t") as remote:
            for asked in (store, remote) * 10:
                r = store.start_rollout(1)
                base = f"{server.url}/rollout/{r.rollout_id}/attempt/{r.attempt.attempt_id}/v1"
                with openai.OpenAI(base_url=base, api_key="t", max_retries=0) as client:
                    client.chat.completions.create(model="parrot", messages=[{"role": "user", "content": "hi"}])
                assert asked.query_spans(r.rollout_id).total == 1
                assert len(store.spans_df(r.rollout_id)) == 1
