"Streams that end too early, because the endpoint breaks off or the agent leaves: the span keeps what was said, and the endpoint is let go."

import http.client
import json
import socket
from urllib.parse import urlsplit

import pytest
from test_native import EVENTS, event
from test_proxy import IDS, LOGPROBS, PROMPT, Parrot, Upstream, place  # noqa: F401
from waiting import until

from agentlightning_nb.adapters import triplets_from_spans
from agentlightning_nb.background import BackgroundServer
from agentlightning_nb.engines.openai import OpenAIEngine

ROUTES = ("chat/completions", "responses", "messages")
HALF = {"responses": EVENTS["responses"][:2], "messages": EVENTS["messages"][:8]}  # up to the word "four"


class Halting(Upstream):
    "An endpoint whose streams stop in the middle: it hangs up, or says no more until its caller leaves. `native` speaks all dialects, else chat."

    def __init__(self, *, native=False, dies=False, owner="vllm"):
        super().__init__()
        self.native, self.dies, self.owner, self.asked = native, dies, owner, 0

    async def __call__(self, scope, receive, send):
        route = scope.get("path", "").split("/v1/")[-1]
        if scope["type"] != "http" or route == "models" or (route != "chat/completions" and not self.native):
            return await super().__call__(scope, receive, send)
        body = json.loads((await receive())["body"])
        self.asked += 1
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        for part in self.half(route, body):
            await send({"type": "http.response.body", "body": part, "more_body": True})
        if self.dies:
            raise ConnectionResetError("as the test wants it")
        while (await receive())["type"] != "http.disconnect":
            pass
        self.cancelled.set()

    def half(self, route, body):
        if route in HALF:
            return [event(data) for data in HALF[route]]
        return [b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in list(self.chunks(body))[:2]]


@pytest.fixture
def halting():
    servers = []

    def make(**options):
        app = Halting(**options)
        servers.append(BackgroundServer(app).start())
        app.url = servers[-1].url + "/v1"
        return app

    yield make
    for server in servers:
        server.stop()


def asked(route):
    said = {"input": "2+2?"} if route == "responses" else {"messages": [{"role": "user", "content": "2+2?"}]}
    return {"model": "tiny", "max_tokens": 9, "stream": True, **said}


def begin(p, route):
    "A call whose first words have come."
    connection = http.client.HTTPConnection(urlsplit(p.server.url).netloc, timeout=30)
    connection.request("POST", f"{p.path}/{route}", json.dumps(asked(route)), {"Authorization": f"Bearer {p.token}"})
    answer = connection.getresponse()
    while b"four" not in answer.readline():
        pass
    return connection


def the_record(p):
    until(p.spans)
    (span,) = p.spans()
    (said,) = json.loads(span.attributes["gen_ai.output.messages"])
    return span, span.attributes, said


@pytest.mark.parametrize("route", ROUTES)
def test_an_agent_that_leaves_lets_the_endpoint_go_and_what_was_said_is_kept(place, halting, route):  # noqa: F811
    app = halting()
    p = place(OpenAIEngine(app.url, "k"))
    begin(p, route).close()
    assert app.cancelled.wait(30)
    span, a, said = the_record(p)
    assert (span.status.status_code, span.status.description) == ("ERROR", "disconnected: the caller left")
    assert a["gen_ai.response.finish_reasons"] == ["disconnected"] and a["agl.dialect"] == route.split("/")[0]
    assert said["content"] in ("four", "four and")
    n = len(a["response_token_ids"])
    assert (a["prompt_token_ids"], a["response_token_ids"], a["response_logprobs"]) == (PROMPT, IDS[:n], LOGPROBS[:n])
    assert n == (2 if "and" in said["content"] else 1) and app.asked == 1


@pytest.mark.parametrize("route", ROUTES)
def test_an_endpoint_that_breaks_off_leaves_what_it_said_and_is_not_asked_again(place, halting, route):  # noqa: F811
    app = halting(dies=True)
    p = place(OpenAIEngine(app.url, "k"))
    status, _, raw = p.post(asked(route), path=f"{p.path}/{route}")
    assert status == 200 and b"four" in raw and b"error" in raw and app.asked == 1
    span, a, said = the_record(p)
    assert span.status.status_code == "ERROR" and a["gen_ai.response.finish_reasons"] == ["error"]
    assert said["content"] == "four and"
    assert (a["response_token_ids"], a["response_logprobs"]) == (IDS[:2], LOGPROBS[:2])


@pytest.mark.parametrize("dies", [False, True])
@pytest.mark.parametrize("route", ROUTES[1:])
def test_the_same_holds_where_the_endpoint_speaks_the_dialect(place, halting, route, dies):  # noqa: F811
    app = halting(native=True, dies=dies, owner="somebody")
    p = place(OpenAIEngine(app.url, "k"))
    begin(p, route).close()
    assert dies or app.cancelled.wait(30)
    span, a, said = the_record(p)
    assert span.status.status_code == "ERROR" and a["gen_ai.response.finish_reasons"][0] in ("disconnected", "error")
    assert said["content"] == "four" and json.loads(a["gen_ai.input.messages"])[-1]["content"] == "2+2?"
    assert said.get("reasoning_content") == ("2+2" if route == "messages" else None)
    told = json.loads(a["agl.response"])
    assert told["id"].endswith("_9") and "four" in json.dumps(told)


@pytest.mark.parametrize("dies", [False, True])
def test_half_an_answer_is_nothing_to_train_on_and_no_use(place, halting, dies):  # noqa: F811
    p = place(OpenAIEngine(halting(dies=dies).url, "k"))
    begin(p, "chat/completions").close()
    the_record(p)
    p.store.finish_attempt(p.rollout_id, p.attempt_id, reward=1.0)
    assert p.store.query_triplets([p.rollout_id]) == {p.rollout_id: []} and triplets_from_spans(p.spans()) == []
    assert p.spans()[0].attributes["response_token_ids"][0] == IDS[0]


@pytest.mark.parametrize("dies", [False, True])
def test_half_an_answer_counts_in_its_rollouts_allowance(place, halting, dies):  # noqa: F811
    p = place(OpenAIEngine(halting(dies=dies).url, "k"), metadata={"allowance": {"tokens": 5000}})
    begin(p, "chat/completions").close()
    _, a, _ = the_record(p)
    meter = p.proxy.attempts._meters._meters[p.rollout_id]
    assert meter.tokens == len(PROMPT) + len(a["response_token_ids"])


def test_an_engine_of_this_process_is_heard_by_its_chunks(place):  # noqa: F811
    p = place(Parrot())
    body = asked("chat/completions") | {"messages": [{"role": "user", "content": "break"}]}
    assert b"four" in p.post(body)[2]
    span, a, said = the_record(p)
    assert (said["content"], a["gen_ai.response.finish_reasons"]) == ("four", ["error"])
    assert span.status.description == "error: ZeroDivisionError: in the middle"


def test_a_server_that_stops_keeps_what_was_said(place, halting):  # noqa: F811
    app = halting()
    p = place(OpenAIEngine(app.url, "k"))
    connection = begin(p, "chat/completions")
    p.server.stop()
    connection.close()
    assert app.cancelled.wait(30)
    _, a, said = the_record(p)
    assert a["gen_ai.response.finish_reasons"][0] in ("disconnected", "error") and said["content"].startswith("four")


def test_a_model_in_the_kernel_is_stopped_and_its_tokens_are_kept(place):  # noqa: F811
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from agentlightning_nb.engines.torch import TorchEngine
    from agentlightning_nb.rl.tiny import make_model, make_tokenizer

    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    with TorchEngine(make_model(tokenizer, seed=1), tokenizer) as engine:
        p = place(engine)
        body = json.dumps(asked("chat/completions") | {"max_tokens": 4000, "min_tokens": 4000})
        connection = http.client.HTTPConnection(urlsplit(p.server.url).netloc, timeout=30)
        connection.request("POST", f"{p.path}/chat/completions", body, {"Authorization": f"Bearer {p.token}"})
        answer = connection.getresponse()
        while b'"content":"' not in answer.readline().replace(b'"content":""', b""):
            pass
        connection.close()
        _, a, said = the_record(p)
    assert a["gen_ai.response.finish_reasons"] == ["disconnected"] and said["content"]
    assert 0 < len(a["response_token_ids"]) == len(a["response_logprobs"]) < 4000


def test_an_endpoint_that_falls_silent_is_given_up_and_what_it_said_is_kept(place, halting):  # noqa: F811
    app = halting()
    p = place(OpenAIEngine(app.url, "k", timeout_s=0.5))
    status, _, raw = p.post(asked("chat/completions"))
    assert status == 200 and b"nothing came for 0.5 s" in raw
    assert app.cancelled.wait(30) and app.asked == 1  # an answer that had begun is not asked for again
    _, a, said = the_record(p)
    assert (said["content"], a["gen_ai.response.finish_reasons"]) == ("four and", ["error"])


@pytest.mark.parametrize("stream", [False, True])
def test_an_endpoint_that_never_answers_is_given_up_in_words(place, stream):  # noqa: F811
    with socket.create_server(("127.0.0.1", 0)) as silent:  # connections wait in its backlog
        p = place(OpenAIEngine(f"http://127.0.0.1:{silent.getsockname()[1]}/v1", "k", timeout_s=0.3))
        status, _, raw = p.post(asked("chat/completions") | {"stream": stream})
    assert status == 502 and "nothing came for 0.3 s" in json.loads(raw)["error"]["message"]
    (span,) = p.spans()
    assert span.attributes["gen_ai.response.finish_reasons"] == ["error"]
