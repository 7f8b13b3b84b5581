"Spans of real OpenTelemetry exporters and of bodies made by hand, at a real server: where they land, what they say, what is refused."

import base64
import copy
import gzip
import http.client
import json
import math
import subprocess
import sys
import zlib
from pathlib import Path
from urllib.parse import urlsplit

import openai
import pytest
from google.protobuf import json_format
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.trace import Link, Status, StatusCode

from agentlightning_nb.adapters import messages_from_spans, model_calls, triplets_from_spans
from agentlightning_nb.conventions.calls import normalised
from agentlightning_nb.engines.base import Reply
from agentlightning_nb.errors import BadRequestError, StoreError
from agentlightning_nb.otlp import bodies
from agentlightning_nb.otlp.export import otlp_json
from agentlightning_nb.otlp.intake import decode
from agentlightning_nb.server import AgentLightningServer
from agentlightning_nb.storage.spans import span_row
from agentlightning_nb.store import LightningStore
from agentlightning_nb.types import Event, Span

ROLLOUT, ATTEMPT, NUMBER = (f"agentlightning.{n}" for n in ("rollout_id", "attempt_id", "span_sequence_id"))
PROTOBUF, JSON = "application/x-protobuf", "application/json"


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("AGENTLIGHTNING_HOME", str(tmp_path / "home"))
    with LightningStore() as store, AgentLightningServer(store, upstream=Engine()) as s:
        yield s


@pytest.fixture
def attempt(server):
    "Ids of an attempt under way."
    started = server.store.start_rollout("2 + 2?")
    return started.rollout_id, started.attempt.attempt_id


class Engine:
    "Calls its tool once, then says four."

    models = ["tiny"]

    async def chat(self, body, *, session=None):
        called = {"id": "call_1", "type": "function", "function": {"name": "calc", "arguments": '{"e": "2+2"}'}}
        done = body["messages"][-1]["role"] == "tool"
        said = {"role": "assistant", "content": "four"} if done else {"role": "assistant", "content": None}
        message = said if done else said | {"tool_calls": [called]}
        choice = {"index": 0, "message": message, "finish_reason": "stop" if done else "tool_calls"}
        usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
        reply = {"id": f"cmpl-{len(body['messages'])}", "object": "chat.completion", "created": 1, "model": "tiny"}
        return Reply(
            body=reply | {"choices": [choice], "usage": usage},
            prompt_ids=[1, 2, 3],
            response_ids=[4, 5],
            logprobs=[-0.5, -0.25],
            version=None,
        )

    def close(self):
        pass


def post(server, body, content_type=JSON, path="/v1/traces", **headers):
    "Status and body as bytes."
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=30)
    sent = {"Content-Type": content_type, "Authorization": f"Bearer {server.token}"}
    try:
        connection.request("POST", path, body, sent | {k.replace("_", "-"): v for k, v in headers.items()})
        response = connection.getresponse()
        assert response.status == 401 or response.getheader("content-type") in (JSON, PROTOBUF)
        return response.status, response.read()
    finally:
        connection.close()


def value_of(value):
    "The OTLP JSON form of a value."
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {
            "doubleValue": value
            if math.isfinite(value)
            else {"inf": "Infinity", "-inf": "-Infinity"}.get(str(value), "NaN")
        }
    if isinstance(value, list):
        return {"arrayValue": {"values": [value_of(v) for v in value]}}
    if isinstance(value, dict):
        return {"kvlistValue": {"values": fields(value)}}
    return {"stringValue": value}


def fields(attributes):
    return [{"key": k, "value": value_of(v)} for k, v in attributes.items()]


def span(number=1, name="work", attributes=None, **more):
    return {
        "traceId": "0a" * 16,
        "spanId": f"{number:016x}",
        "name": name,
        "startTimeUnixNano": "1500000000",
        "endTimeUnixNano": 2500000000,
        "attributes": fields(attributes or {}),
    } | more


def request(*spans, **resource):
    attributes = fields({f"agentlightning.{k}": v for k, v in resource.items()})
    return {"resourceSpans": [{"resource": {"attributes": attributes}, "scopeSpans": [{"spans": list(spans)}]}]}


def send(server, attempt, *spans, **more):
    body = json.dumps(request(*spans, rollout_id=attempt[0], attempt_id=attempt[1])).encode()
    status, told = post(server, body, **more)
    assert status == 200, told
    return json.loads(told)


def protobuf_of(body):
    "The same request in protobuf."
    for one in body["resourceSpans"]:
        for scoped in one["scopeSpans"]:
            for s in scoped["spans"]:  # protobuf's own JSON has ids in base64
                for name in ("traceId", "spanId"):
                    s[name] = base64.b64encode(bytes.fromhex(s[name])).decode()
    return json_format.ParseDict(body, ExportTraceServiceRequest()).SerializeToString()


def provider(server, *, path="/v1/traces", resource=None, **options):
    exporter = OTLPSpanExporter(
        endpoint=server.url + path, headers={"Authorization": f"Bearer {server.token}"}, **options
    )
    made = TracerProvider(resource=Resource.create(resource or {}))
    made.add_span_processor(SimpleSpanProcessor(exporter))
    return made


# the real SDK


@pytest.mark.parametrize("compression", list(Compression), ids=lambda c: c.value)
def test_spans_of_the_sdk_arrive_whole(server, attempt, compression):
    resource = {ROLLOUT: attempt[0], ATTEMPT: attempt[1], "service.name": "agent"}
    tracer = provider(server, resource=resource, compression=compression).get_tracer("mine", "1.2")
    with tracer.start_as_current_span("outer", attributes={"a": 1, "b": 0.5, "c": True, "d": ["x", "y"]}) as outer:
        with tracer.start_as_current_span("inner", links=[Link(outer.get_span_context(), {"why": "test"})]) as inner:
            inner.add_event("thought", {"text": "hm"})
            inner.set_status(Status(StatusCode.ERROR, "no luck"))
    inner_kept, outer_kept = server.store.query_spans(attempt[0])
    assert (outer_kept.name, inner_kept.name, outer_kept.attempt_id) == ("outer", "inner", attempt[1])
    kept = {k: outer_kept.attributes[k] for k in "abcd"}
    assert kept == {"a": 1, "b": 0.5, "c": True, "d": ["x", "y"]}
    assert outer_kept.attributes["otel.scope.name"] == "mine" and outer_kept.attributes["otel.scope.version"] == "1.2"
    assert inner_kept.parent_id == outer_kept.span_id and inner_kept.trace_id == outer_kept.trace_id
    assert outer_kept.trace_id == f"{outer.get_span_context().trace_id:032x}" and outer_kept.parent_id is None
    assert (inner_kept.status.status_code, inner_kept.status.description) == ("ERROR", "no luck")
    assert outer_kept.status.status_code == "UNSET"
    (event,) = inner_kept.events
    assert (event.name, event.attributes) == ("thought", {"text": "hm"}) and event.timestamp == pytest.approx(
        inner.events[0].timestamp / 1e9
    )
    (link,) = inner_kept.links
    assert link.context.span_id == outer_kept.span_id and link.attributes == {"why": "test"}
    assert outer_kept.start_time == pytest.approx(outer.start_time / 1e9, abs=1e-6)
    assert outer_kept.end_time >= inner_kept.end_time >= inner_kept.start_time
    assert outer_kept.resource.attributes["service.name"] == "agent"
    assert server.store.get_rollout_by_id(attempt[0]).status == "running"


def test_a_span_may_say_its_rollout_itself(server, attempt):
    other = server.store.start_rollout("other")
    tracer = provider(server, resource={ROLLOUT: attempt[0], ATTEMPT: attempt[1]}).get_tracer("mine")
    own = {ROLLOUT: other.rollout_id, ATTEMPT: other.attempt.attempt_id, NUMBER: "7"}
    with tracer.start_as_current_span("theirs", attributes=own):
        pass
    assert not server.store.query_spans(attempt[0]).items
    (kept,) = server.store.query_spans(other.rollout_id)
    assert (kept.name, kept.sequence_id) == ("theirs", 7)


def test_a_span_of_another_rollout_does_not_inherit_the_attempt(server, attempt):
    other = server.store.start_rollout("other")
    tracer = provider(server, resource={ROLLOUT: attempt[0], ATTEMPT: attempt[1]}).get_tracer("mine")
    with tracer.start_as_current_span("theirs", attributes={ROLLOUT: other.rollout_id}):
        pass
    (kept,) = server.store.query_spans(other.rollout_id)
    assert kept.attempt_id == other.attempt.attempt_id


def test_an_exporter_without_attributes_sends_to_the_attempts_own_address(server, attempt):
    path = f"/rollout/{attempt[0]}/attempt/{attempt[1]}/v1/traces"
    with provider(server, path=path).get_tracer("mine").start_as_current_span("work"):
        pass
    assert [s.name for s in server.store.query_spans(*attempt)] == ["work"]


def test_the_environment_is_enough(server, attempt, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"{server.url}/rollout/{attempt[0]}/attempt/{attempt[1]}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", f"Authorization=Bearer%20{server.token}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    made = TracerProvider()
    made.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter()))
    with made.get_tracer("mine").start_as_current_span("work"):
        pass
    assert [s.name for s in server.store.query_spans(*attempt)] == ["work"]


def test_a_rollout_without_an_attempt_means_its_latest(server):
    started = server.store.start_rollout("x")
    second = server.store.start_attempt(started.rollout_id)
    with provider(server, resource={ROLLOUT: started.rollout_id}).get_tracer("mine").start_as_current_span("work"):
        pass
    (kept,) = server.store.query_spans(started.rollout_id)
    assert kept.attempt_id == second.attempt.attempt_id


def test_the_exporter_takes_a_refusal_for_an_answer(server):
    exporter = OTLPSpanExporter(
        endpoint=server.url + "/v1/traces", headers={"Authorization": f"Bearer {server.token}"}, timeout=5
    )
    span = TracerProvider().get_tracer("mine").start_span("lost")
    span.end()
    assert exporter.export([span]) is SpanExportResult.SUCCESS


def test_without_the_token_nothing_is_taken(server, attempt):
    body = json.dumps(request(span(), rollout_id=attempt[0], attempt_id=attempt[1])).encode()
    for path in ("/v1/traces", f"/rollout/{attempt[0]}/attempt/{attempt[1]}/v1/traces"):
        assert post(server, body, path=path, Authorization="Bearer guess")[0] == 401
    assert not server.store.query_spans(attempt[0]).items


# bodies


def test_both_encodings_say_the_same(server):
    attributes = {"s": "x", "i": -(2**62), "d": 0.5, "b": False, "l": [1, 2], "m": {"k": ["v", 1]}, "e": [], "t": "ü"}
    attributes |= {"ints": [*range(20), 300, 151_935, 2**62, -1, -(2**63)], "floats": [i / 7 for i in range(-9, 9)]}
    attributes |= {"mixed": [*range(20), 0.5], "texts": ["\n\x02\x18\x01"] * 20, "bools": [True, False] * 9}
    attributes |= {"bytes that look like ints": [{"k": 1}, *[1] * 20], "zeros": [0] * 20, "zero floats": [0.0] * 20}
    kept = []
    for encode, kind in ((json.dumps, JSON), (protobuf_of, PROTOBUF)):
        started = server.store.start_rollout("x")
        ids = {"rollout_id": started.rollout_id, "attempt_id": started.attempt.attempt_id}
        body = encode(request(span(attributes=attributes, traceState="a=1,b=2"), **ids))
        status, told = post(server, body, kind)
        assert (status, told) == (200, b"{}" if kind == JSON else b"")
        (found,) = server.store.query_spans(started.rollout_id)
        kept.append(found.model_dump(exclude={"rollout_id", "attempt_id", "resource"}))
    assert kept[0] == kept[1]
    assert {k: kept[0]["attributes"][k] for k in attributes} == attributes
    assert (kept[0]["start_time"], kept[0]["end_time"]) == (1.5, 2.5)
    assert kept[0]["context"]["trace_state"] == {"a": "1", "b": "2"}


@pytest.mark.parametrize("pack, encoding", [(gzip.compress, "gzip"), (zlib.compress, "deflate"), (bytes, "identity")])
def test_packed_bodies_are_unpacked(server, attempt, pack, encoding):
    body = json.dumps(request(span(), rollout_id=attempt[0], attempt_id=attempt[1])).encode()
    assert post(server, pack(body), Content_Encoding=encoding) == (200, b"{}")
    assert len(server.store.query_spans(attempt[0])) == 1


def test_an_empty_request_is_a_success(server):
    for body, kind in ((b"", PROTOBUF), (b"{}", JSON), (b"", JSON), (b'{"resourceSpans": null, "new": 1}', JSON)):
        assert post(server, body, kind)[0] == 200


UNREADABLE = [
    (b"\x0a\xff\xff", PROTOBUF, ""),
    (b"not protobuf at all", PROTOBUF, ""),
    (b"{", JSON, ""),
    (b"[]", JSON, ""),
    (b'"text"', JSON, ""),
    (b"\xff\xfe", JSON, ""),
    (b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"name": 3}]}]}]}', JSON, ""),
    (b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"name": "\\ud800"}]}]}]}', JSON, ""),
    (b'{"resourceSpans": [{"resource": {"attributes": [{"key": "k", "value": {"intValue": "x"}}]}}]}', JSON, ""),
    (b"[" * 5000, JSON, ""),
    (b'{"resourceSpans":[{"resource":{"attributes":[{"value":' + b'{"arrayValue":{"values":[' * 3000, JSON, ""),
    (b"no gzip", JSON, "gzip"),
    (gzip.compress(b"{}")[:-4], JSON, "gzip"),
    (b"{}", JSON, "br"),
    (b"{}", "text/plain", ""),
    (b"{}", "", ""),
]


@pytest.mark.parametrize("body, kind, encoding", UNREADABLE, ids=range(len(UNREADABLE)))
def test_an_unreadable_body_is_refused_with_a_sentence(server, body, kind, encoding):
    status, told = post(server, body, kind, **({"Content_Encoding": encoding} if encoding else {}))
    assert status == (415 if kind not in (JSON, PROTOBUF) or encoding == "br" else 400), told
    if kind == PROTOBUF:
        status = ExportTracePartialSuccess.FromString(told)  # google.rpc.Status: field 2 is its message
        assert "OTLP protobuf" in status.error_message
    else:
        assert len(json.loads(told)["message"]) > 20


def test_a_bomb_is_not_unpacked(server, attempt):
    bomb = gzip.compress(bytes(bodies.LIMIT * 4))
    assert len(bomb) < 1 << 20
    status, told = post(server, bomb, Content_Encoding="gzip")
    assert status == 413 and "MiB" in json.loads(told)["message"]
    assert len(bodies.inflated(bomb, 1000)) == 1001
    assert post(server, gzip.compress(b"") * 9 + bomb, PROTOBUF, Content_Encoding="gzip")[0] == 413
    assert post(server, gzip.compress(b"") * 100_000, PROTOBUF, Content_Encoding="gzip")[0] == 400
    status, told = post(server, bytes(bodies.LIMIT + 1))
    assert status == 413
    many = b'{"resourceSpans":[{"scopeSpans":[{"spans":[' + b",".join([b"{}"] * 30_000) + b"]}]}]}"
    status, told = post(server, many)
    assert status == 413 and "30000 spans" in json.loads(told)["message"]


def test_what_is_taken_counts_when_the_store_fails(server, attempt, monkeypatch):
    "The sender shall try again: 503 is a status that exporters retry."

    def full(*args, **kwargs):
        raise StoreError("The disk is full.")

    monkeypatch.setattr(server.store, "submit_to", full)
    body = json.dumps(request(span(), rollout_id=attempt[0], attempt_id=attempt[1])).encode()
    status, told = post(server, body)
    assert status == 503 and json.loads(told)["message"] == "The disk is full."


WHOLE_BODY = request(
    span(
        1, attributes={"s": "x", "l": [1, 2], "m": {"k": [0.5]}}, events=[{"name": "e"}], links=[{"spanId": "0b" * 8}]
    ),
    rollout_id="ro-1",
    attempt_id="at-1",
)
WHOLE_BODIES = {JSON: json.dumps(WHOLE_BODY).encode(), PROTOBUF: protobuf_of(copy.deepcopy(WHOLE_BODY))}


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([JSON, PROTOBUF]),
    st.lists(st.tuples(st.integers(0, 2000), st.binary(max_size=3)), min_size=1, max_size=4),
    st.sampled_from(["", "gzip"]),
)
def test_a_damaged_body_is_read_or_refused(kind, damages, encoding):
    "Nothing but a `BadRequestError` comes out of the decoder, and what comes out otherwise can be kept."
    body = WHOLE_BODIES[kind]
    for at, put in damages:
        at %= len(body)
        body = body[:at] + put + body[at + max(1, len(put)) :]
    try:
        got = decode(gzip.compress(body) if encoding else body, kind, encoding)
    except BadRequestError as e:
        assert len(str(e)) > 10
    else:
        for found in got.spans:
            span_row(Span.model_validate(found.model_dump()))


# refused spans


def test_spans_that_belong_nowhere_are_counted_and_the_others_kept(server, attempt):
    unknown = {ROLLOUT: "ro-nope", ATTEMPT: "at-nope"}
    wrong = {ATTEMPT: "at-nope"}
    told = send(
        server,
        attempt,
        span(1),
        span(2, attributes=unknown),
        span(3, attributes=wrong),
        span(4, spanId=""),
        span(5, traceId="0" * 32),
        span(6, traceId="zz" * 16),
        span(7, name="agentlightning.annotation", attributes={"agentlightning.reward.0.value": math.inf}),
        span(8),
    )["partialSuccess"]
    assert told["rejectedSpans"] == "6"
    for words in ("No rollout ro-nope", "No attempt at-nope of rollout", "3 for: no trace id", "finite"):
        assert words in told["errorMessage"], told
    assert [s.span_id for s in server.store.query_spans(attempt[0])] == [f"{i:016x}" for i in (1, 8)]


def test_spans_without_a_rollout_are_refused_in_protobuf_too(server):
    status, told = post(server, protobuf_of(request(span(1), span(2))), PROTOBUF)
    part = ExportTraceServiceResponse.FromString(told).partial_success
    assert status == 200 and part.rejected_spans == 2 and ROLLOUT in part.error_message
    unknown = {ROLLOUT: "ro-nope"}
    status, told = post(server, protobuf_of(request(span(attributes=unknown))), PROTOBUF)
    assert "ro-nope" in ExportTraceServiceResponse.FromString(told).partial_success.error_message


def test_odd_values_never_fail_the_server(server, attempt):
    odd = {
        "prompt_token_ids": 5,
        "response_token_ids": [1, 2],
        "response_logprobs": 7,
        "gen_ai.response.finish_reasons": {"a": 1},
        "gen_ai.request.temperature": "hot",
        "gen_ai.input.messages": "[" * 900 + "]" * 900,
        "gen_ai.output.messages": '{"role": 3}',
        "gen_ai.prompt.99999999999999999999.content": "x",
        "gen_ai.prompt.0": "x",
        "gen_ai.prompt.0.content": "y",
        "gen_ai.completion.0.tool_calls.0.arguments": "z",
        "gen_ai.completion." + "0." * 5000: "deep",
        "openinference.span.kind": "LLM",
        "llm.input_messages.0.message": "text",
        "llm.tools.0.tool": "no dict",
        "output.value": '{"choices": 3, "model": [[1]], "id": {}}',
        NUMBER: "9223372036854775807",
    }
    event = {"name": "gen_ai.choice", "attributes": fields({"message": "[1]", "finish_reason": 3, "tool_calls": "x"})}
    assert send(server, attempt, span(1, attributes=odd, events=[event, {}], links=[{}]), span(2)) == {}
    first, second = server.store.query_spans(attempt[0])
    assert first.attributes["agl.received.response_logprobs"] == 7
    assert first.attributes["agl.received.gen_ai.request.temperature"] == "hot"
    assert second.sequence_id == first.sequence_id + 1
    (triplet,) = server.store.query_triplets([attempt[0]])[attempt[0]]
    assert (triplet.response_ids, triplet.logprobs) == ([1, 2], None)


# rewards, repetition, lateness


def test_a_reward_that_comes_by_otlp_counts(server, attempt):
    reward = {
        "agentlightning.reward.0.name": "reward",
        "agentlightning.reward.0.value": 0.75,
        "agentlightning.reward.1.name": "style",
        "agentlightning.reward.1.value": 1,
    }
    tracer = provider(server, resource={ROLLOUT: attempt[0], ATTEMPT: attempt[1]}).get_tracer("mine")
    with tracer.start_as_current_span("agentlightning.annotation", attributes=reward):
        pass
    rollout = server.store.get_rollout_by_id(attempt[0])
    assert rollout.reward == 0.75 and rollout.attempt.rewards == {"style": 1.0}


def test_a_batch_sent_again_is_kept_once(server, attempt):
    for _ in range(3):
        assert send(server, attempt, span(1), span(2)) == {}
    assert [s.span_id for s in server.store.query_spans(attempt[0])] == [f"{i:016x}" for i in (1, 2)]


def test_late_spans_are_kept_and_marked(server, attempt):
    server.store.finish_attempt(*attempt, reward=0.5)
    reward = {"agentlightning.reward.0.name": "reward", "agentlightning.reward.0.value": 1.0}
    assert send(server, attempt, span(1), span(2, name="agentlightning.annotation", attributes=reward)) == {}
    assert [s.attributes["agl.late"] for s in server.store.query_spans(attempt[0])] == [True, True]
    assert server.store.get_rollout_by_id(attempt[0]).reward == 0.5


# model calls

IDS = {"prompt_token_ids": [1, 2], "response_token_ids": [3, 4], "response_logprobs": [-0.5, -0.25]}
SPELLINGS = {
    "typed": IDS,
    "json": {name: json.dumps(ids) for name, ids in IDS.items()},
    "agent-lightning": {
        "prompt_token_ids": [1, 2],
        "response_token_ids": [3, 4],
        "logprobs.content": json.dumps([{"token": "a", "logprob": -0.5}, {"token": "b", "logprob": -0.25}]),
    },
    "litellm": {
        "llm.hosted_vllm.prompt_token_ids": "[1, 2]",
        "llm.hosted_vllm.response_token_ids": "[[3, 4]]",
        "response_logprobs": "[-0.5, -0.25]",
    },
    "vllm": {
        "llm.hosted_vllm.prompt_token_ids": "[1, 2]",
        "llm.hosted_vllm.choices": "[{'index': 0, 'token_ids': [3, 4], 'logprobs': None}]",
        "response_logprobs": [-0.5, -0.25],
    },
    "javascript": {**IDS, "prompt_token_ids": [1.0, 2.0]},
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_token_ids_in_attributes_give_triplets(server, attempt, spelling):
    call = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "tiny",
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.request.temperature": 0.5,
    }
    send(server, attempt, span(1, "chat tiny", call | SPELLINGS[spelling]))
    (stored,) = server.store.query_triplets([attempt[0]])[attempt[0]]
    (read,) = triplets_from_spans(server.store.query_spans(attempt[0]))
    for triplet in (stored, read):
        assert (triplet.prompt_ids, triplet.response_ids, triplet.logprobs) == ([1, 2], [3, 4], [-0.5, -0.25])
        assert (triplet.model, triplet.finish_reason, triplet.temperature) == ("tiny", "stop", 0.5)


def test_a_temperature_of_zero_stays_zero(server, attempt):
    call = {"gen_ai.operation.name": "chat", "gen_ai.request.temperature": 0.0, "gen_ai.usage.output_tokens": 0} | IDS
    send(server, attempt, span(1, "chat tiny", call))
    (triplet,) = server.store.query_triplets([attempt[0]])[attempt[0]]
    assert triplet.temperature == 0.0
    assert server.store.query_spans(attempt[0])[0].attributes["gen_ai.usage.output_tokens"] == 0


def test_log_probabilities_of_other_length_are_no_part_of_a_triplet(server, attempt):
    call = {"gen_ai.operation.name": "chat"} | IDS | {"response_logprobs": [-0.5] * 3}
    send(server, attempt, span(1, "chat tiny", call))
    (kept,) = server.store.query_spans(attempt[0])
    assert kept.attributes["agl.received.response_logprobs"] == [-0.5] * 3
    for triplets in (server.store.query_triplets([attempt[0]])[attempt[0]], triplets_from_spans([kept])):
        assert [(t.response_ids, t.logprobs) for t in triplets] == [([3, 4], None)]


ASKED = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2+2?"}]
TOOL = {
    "type": "function",
    "function": {"name": "calc", "description": "Adds.", "parameters": {"type": "object", "properties": {}}},
}
CALLED = {"id": "c1", "type": "function", "function": {"name": "calc", "arguments": '{"e": "2+2"}'}}
FLAT_TOOL = {"type": "function", **TOOL["function"]}
SAID = {
    "role": "assistant",
    "parts": [{"type": "tool_call", "id": "c1", "name": "calc", "arguments": {"e": "2+2"}}],
    "finish_reason": "tool_calls",
}
INSTRUCTIONS = [{"type": "text", "content": "Be brief."}]
QUESTION = {"role": "user", "parts": [{"type": "text", "content": "2+2?"}]}
MODEL = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "tiny", "gen_ai.usage.input_tokens": 3}
DIALECTS = {
    "attributes": (
        MODEL
        | {
            "gen_ai.system_instructions": json.dumps(INSTRUCTIONS),
            "gen_ai.input.messages": json.dumps([QUESTION]),
            "gen_ai.output.messages": json.dumps([SAID]),
            "gen_ai.tool.definitions": json.dumps([FLAT_TOOL]),
        },
        [],
    ),
    "an event with structure": (
        MODEL,
        [
            {
                "name": "gen_ai.client.inference.operation.details",
                "attributes": fields(
                    {
                        "gen_ai.system_instructions": INSTRUCTIONS,
                        "gen_ai.input.messages": [QUESTION],
                        "gen_ai.output.messages": [SAID],
                        "gen_ai.tool.definitions": [FLAT_TOOL],
                    }
                ),
            }
        ],
    ),
    "an event per message": (
        MODEL | {"gen_ai.tool.definitions": json.dumps([TOOL])},
        [
            {"name": "gen_ai.system.message", "attributes": fields({"content": "Be brief."})},
            {"name": "gen_ai.user.message", "attributes": fields({"content": "2+2?", "role": "user"})},
            {
                "name": "gen_ai.choice",
                "attributes": fields(
                    {"index": 0, "finish_reason": "tool_calls", "message": json.dumps({"tool_calls": [CALLED]})}
                ),
            },
        ],
    ),
    "openllmetry": (
        {
            "llm.request.type": "chat",
            "gen_ai.request.model": "tiny",
            "gen_ai.usage.prompt_tokens": 3,
            "traceloop.entity.name": "agent",
            "gen_ai.prompt.0.role": "system",
            "gen_ai.prompt.0.content": "Be brief.",
            "gen_ai.prompt.1.role": "user",
            "gen_ai.prompt.1.content": "2+2?",
            "gen_ai.completion.0.role": "assistant",
            "gen_ai.completion.0.finish_reason": "tool_calls",
            "gen_ai.completion.0.tool_calls.0.id": "c1",
            "gen_ai.completion.0.tool_calls.0.name": "calc",
            "gen_ai.completion.0.tool_calls.0.arguments": '{"e": "2+2"}',
            "llm.request.functions.0.name": "calc",
            "llm.request.functions.0.description": "Adds.",
            "llm.request.functions.0.parameters": json.dumps(TOOL["function"]["parameters"]),
        },
        [],
    ),
    "openinference": (
        {
            "openinference.span.kind": "LLM",
            "llm.model_name": "tiny",
            "llm.token_count.prompt": 3,
            "llm.input_messages.0.message.role": "system",
            "llm.input_messages.0.message.content": "Be brief.",
            "llm.input_messages.1.message.role": "user",
            "llm.input_messages.1.message.content": "2+2?",
            "llm.output_messages.0.message.role": "assistant",
            "llm.output_messages.0.message.tool_calls.0.tool_call.id": "c1",
            "llm.output_messages.0.message.tool_calls.0.tool_call.function.name": "calc",
            "llm.output_messages.0.message.tool_calls.0.tool_call.function.arguments": '{"e": "2+2"}',
            "llm.finish_reason": "tool_calls",
            "llm.tools.0.tool.json_schema": json.dumps(TOOL),
        },
        [],
    ),
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_says_what_the_proxy_would_have_written(server, attempt, dialect):
    attributes, events = DIALECTS[dialect]
    send(server, attempt, span(1, "a call", attributes, events=events))
    (kept,) = server.store.query_spans(attempt[0])
    a = kept.attributes
    assert (a["gen_ai.operation.name"], a["gen_ai.request.model"], a["gen_ai.usage.input_tokens"]) == (
        "chat",
        "tiny",
        3,
    )
    assert json.loads(a["gen_ai.input.messages"]) == ASKED
    (said,) = json.loads(a["gen_ai.output.messages"])
    assert (said["role"], said.get("content"), said["tool_calls"]) == ("assistant", None, [CALLED])
    assert json.loads(a["gen_ai.tool.definitions"]) == [TOOL]
    assert a["gen_ai.response.finish_reasons"] == ["tool_calls"]
    for name, value in attributes.items():
        assert a[name] == value or a[f"agl.received.{name}"] == value, name
    assert messages_from_spans([kept])[:2] == ASKED


def test_pieces_of_content_keep_their_order():
    a = {
        "openinference.span.kind": "LLM",
        "llm.input_messages.0.message.role": "user",
        "llm.input_messages.0.message.contents.0.message_content.type": "text",
        "llm.input_messages.0.message.contents.0.message_content.text": "What is this?",
        "llm.input_messages.0.message.contents.1.message_content.type": "image",
        "llm.input_messages.0.message.contents.1.message_content.image.image.url": "http://x/y.png",
    }
    (message,) = json.loads(normalised(a)["gen_ai.input.messages"])
    assert message["content"][0] == {"type": "text", "text": "What is this?"}
    assert message["content"][1] == {"type": "image_url", "image_url": {"url": "http://x/y.png"}}


WORDS = [
    "message",
    "content",
    "contents",
    "role",
    "tool_calls",
    "tool_call",
    "function",
    "name",
    "parts",
    "type",
    "text",
]
WORDS += ["0", "1", "tool", "json_schema", "message_content", "image", "id", "finish_reason", "arguments", "choices"]
PREFIXES = ["gen_ai.prompt", "gen_ai.completion", "llm.input_messages", "llm.output_messages", "llm.tools"]
PREFIXES += ["llm.request.functions", "gen_ai.event"]
WHOLE = ["gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.tool.definitions", "gen_ai.system_instructions"]
WHOLE += ["gen_ai.response.finish_reasons", "gen_ai.request.temperature", "gen_ai.request.model", *IDS]
WHOLE += ["logprobs.content", "llm.hosted_vllm.choices", "llm.invocation_parameters", "input.value", "output.value"]
WHOLE += ["openinference.span.kind", "llm.request.type", "llm.finish_reason", "gen_ai.usage.prompt_tokens", "message"]
scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text(max_size=5)
scalars |= st.sampled_from(
    ["LLM", "chat", "text", "tool_call", "tool_call_response", "reasoning", "system", "image", "[", "{"]
)
plain = st.recursive(
    scalars, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.sampled_from(WORDS), v, max_size=4), max_leaves=8
)
values = plain | plain.map(json.dumps)
paths = st.lists(st.sampled_from(WORDS), min_size=1, max_size=5).map(".".join)
names = st.sampled_from(WHOLE) | st.builds("{}.{}".format, st.sampled_from(PREFIXES), paths)
event_names = ["gen_ai.choice", "gen_ai.user.message", "gen_ai.tool.message", "gen_ai.content.prompt", "gen_ai.x", ""]
event_names += ["gen_ai.content.completion", "gen_ai.client.inference.operation.details"]
told = st.dictionaries(names | st.sampled_from(WORDS), values, max_size=6)
events = st.builds(Event, name=st.sampled_from(event_names), attributes=told)


@pytest.mark.slow
@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.dictionaries(names, values, max_size=8), st.lists(events, max_size=2))
def test_whatever_attributes_say_they_can_be_kept_and_read(attributes, events):
    "Nothing is lost, what was made of it fits the columns of the store, and adapters can read it."
    found = normalised(dict(attributes), events)
    for name, value in attributes.items():
        kept = found.get(name, found.get(f"agl.received.{name}"))
        token = name in IDS and name in found
        assert (
            value is None
            or token
            or json.dumps(value) in (json.dumps(kept), json.dumps(found.get(f"agl.received.{name}")))
        ), name
    span = Span(rollout_id="ro", attempt_id="at", name="x", attributes=found, events=events)
    row = span_row(span)
    assert row[13] is not None or "prompt_token_ids" not in found
    triplets_from_spans([span])
    messages_from_spans([span])


# real instrumentations, calling through the proxy


@pytest.mark.parametrize(
    "which", ["openinference", pytest.param("openllmetry", marks=pytest.mark.slow), "opentelemetry"]
)
def test_an_instrumented_agent_tells_the_same_as_the_proxy(server, attempt, which):
    agent = Path(__file__).parent / "instrumented_agent.py"
    told = [which, server.url, server.token, *attempt, json.dumps(ASKED), json.dumps(TOOL)]
    done = subprocess.run([sys.executable, agent, *told], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr[-2000:]
    spans = server.store.query_spans(attempt[0]).items
    ours, theirs = ([s for s in spans if ("agl.request" in s.attributes) is mine] for mine in (True, False))
    assert len(ours) == len(theirs) == 2
    for mine, its in zip(ours, theirs, strict=True):
        for name in ("model", "temperature"):
            assert its.attributes[f"gen_ai.request.{name}"] == mine.attributes[f"gen_ai.request.{name}"]
        for name in ("response.finish_reasons", "usage.input_tokens", "usage.output_tokens", "operation.name"):
            assert its.attributes[f"gen_ai.{name}"] == mine.attributes[f"gen_ai.{name}"], name
        for name in ("input.messages", "output.messages", "tool.definitions"):
            told, known = (json.loads(s.attributes[f"gen_ai.{name}"]) for s in (its, mine))
            without_null = [[{k: v for k, v in m.items() if v is not None} for m in side] for side in (told, known)]
            assert without_null[0] == without_null[1], name
    assert [s.span_id for s in model_calls(spans)] == [s.span_id for s in ours]
    assert [m["role"] for m in messages_from_spans(spans)] == ["system", "user", "assistant", "tool", "assistant"]


def test_a_call_that_proxy_and_instrumentation_both_tell_is_one_triplet(server, attempt):
    base = f"{server.url}/rollout/{attempt[0]}/attempt/{attempt[1]}/v1"
    with openai.OpenAI(base_url=base, api_key=server.token) as client:
        client.chat.completions.create(model="tiny", messages=ASKED)
    told = {"gen_ai.operation.name": "chat", "prompt_token_ids": [1, 2, 3], "response_token_ids": "[4, 5]"}
    other = told | {"response_token_ids": [6, 7]}
    send(server, attempt, span(1, "openai.chat", told), span(2, "openai.chat", other))
    spans = server.store.query_spans(attempt[0]).items
    assert len(spans) == 3
    for triplets in (server.store.query_triplets([attempt[0]])[attempt[0]], triplets_from_spans(spans)):
        assert sorted((t.response_ids, t.logprobs) for t in triplets) == [([4, 5], [-0.5, -0.25]), ([6, 7], None)]


def test_the_other_span_route_reads_the_dialects_too(server, attempt):
    "Workers of the 0.3 line send what their tracer saw as JSON."
    sent = {"rollout_id": attempt[0], "attempt_id": attempt[1], "name": "openai.chat.completion"}
    sent["attributes"] = DIALECTS["openllmetry"][0] | SPELLINGS["agent-lightning"]
    assert post(server, json.dumps(sent).encode(), path="/v1/agl/spans")[0] == 201
    (kept,) = server.store.query_spans(attempt[0])
    assert json.loads(kept.attributes["gen_ai.input.messages"]) == ASKED
    (triplet,) = server.store.query_triplets([attempt[0]])[attempt[0]]
    assert (triplet.logprobs, triplet.finish_reason) == ([-0.5, -0.25], "tool_calls")


def test_odd_values_of_the_other_span_route_never_fail_the_server(server, attempt):
    odd = {
        "prompt_token_ids": 5,
        "response_token_ids": [1],
        "response_logprobs": 7,
        "gen_ai.request.temperature": "hot",
    }
    sent = {"rollout_id": attempt[0], "attempt_id": attempt[1], "name": "x", "attributes": odd}
    sent["attributes"]["gen_ai.response.finish_reasons"] = "stop"
    assert post(server, json.dumps(sent).encode(), path="/v1/agl/spans")[0] == 201
    (triplet,) = server.store.query_triplets([attempt[0]])[attempt[0]]
    assert (triplet.response_ids, triplet.logprobs, triplet.finish_reason) == ([1], None, "stop")


# out again


def test_spans_go_out_as_otlp_and_come_back_the_same(server, attempt):
    base = f"{server.url}/rollout/{attempt[0]}/attempt/{attempt[1]}/v1"
    with openai.OpenAI(base_url=base, api_key=server.token) as client:
        client.chat.completions.create(model="tiny", messages=ASKED, tools=[TOOL])
    tracer = provider(server, resource={ROLLOUT: attempt[0], ATTEMPT: attempt[1]}).get_tracer("mine", "1.2")
    with tracer.start_as_current_span("outer", attributes={"a": [1, 2], "b": 0.5}) as outer:
        outer.add_event("thought", {"text": "hm"})
    kept = server.store.query_spans(attempt[0]).items
    other = server.store.start_rollout("copy")
    ids = {"rollout_id": other.rollout_id, "attempt_id": other.attempt.attempt_id}
    status, told = post(server, otlp_json([s.model_copy(update=ids) for s in kept]))
    assert (status, told) == (200, b"{}")
    again = {s.span_id: s for s in server.store.query_spans(other.rollout_id)}
    for span in kept:
        copy = again.pop(span.span_id)
        scope = {"otel.scope.name": "agentlightning_nb"} if "agl.request" in span.attributes else {}
        assert copy.attributes == span.attributes | scope
        assert (copy.name, copy.status, copy.links) == (span.name, span.status, span.links)
        assert copy.start_time == pytest.approx(span.start_time, abs=1e-6)
        assert [e.model_dump(exclude={"timestamp"}) for e in copy.events] == [
            e.model_dump(exclude={"timestamp"}) for e in span.events
        ]
    assert not again
    (here,) = server.store.query_triplets([attempt[0]])[attempt[0]]
    (there,) = server.store.query_triplets([other.rollout_id])[other.rollout_id]
    assert here == there
