"""CPU per span of OTLP batches of 100: decoding alone, decoding and keeping, and over HTTP; protobuf and JSON.

    python benchmarks/otlp.py [--rounds 15]

Medians over alternating rounds, CPU of this process (client and server share it in the HTTP rows; the client's share is a raw socket's)."""

import argparse
import http.client
import json
import os
import statistics
import tempfile
import time
from urllib.parse import urlsplit

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from agentlightning_nb.otlp.intake import decode
from agentlightning_nb.otlp.wire import parsed
from agentlightning_nb.server import AgentLightningServer
from agentlightning_nb.store import LightningStore

PROTOBUF, JSON = "application/x-protobuf", "application/json"
MESSAGES = json.dumps([{"role": "user", "parts": [{"type": "text", "content": "What is 20 + 22? " * 20}]}])
ANSWER = json.dumps([{"role": "assistant", "parts": [{"type": "text", "content": "42"}], "finish_reason": "stop"}])
KINDS = {
    "a tool's span": {"tool.name": "calc", "tool.arguments": '{"e": "20+22"}', "tool.result": "42", "retry": 0},
    "a model call": {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "tiny",
        "gen_ai.request.temperature": 0.7,
        "gen_ai.usage.input_tokens": 120,
        "gen_ai.usage.output_tokens": 4,
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.input.messages": MESSAGES,
        "gen_ai.output.messages": ANSWER,
    },
}
KINDS["a model call, 256 ids as lists"] = KINDS["a model call"] | {
    "prompt_token_ids": list(range(128)),
    "response_token_ids": list(range(128)),
    "response_logprobs": [-0.125] * 128,
}
KINDS["a model call, 256 ids as text"] = {
    k: json.dumps(v) if k.endswith(("_ids", "_logprobs")) else v
    for k, v in KINDS["a model call, 256 ids as lists"].items()
}


def fill(value, given):
    "Write a value into an `AnyValue`."
    if isinstance(given, list):
        value.array_value.SetInParent()
        for item in given:
            fill(value.array_value.values.add(), item)
    else:
        kind = {str: "string_value", int: "int_value", float: "double_value"}[type(given)]
        setattr(value, kind, given)


def value_of(given):
    "The same in OTLP's JSON."
    if isinstance(given, list):
        return {"arrayValue": {"values": [value_of(v) for v in given]}}
    return {{str: "stringValue", int: "intValue", float: "doubleValue"}[type(given)]: given}


def batch(attributes, ids, kind, number, size=100):
    "A request's body; every number gives other span ids."
    span_ids = [f"{number * size + i + 1:016x}" for i in range(size)]
    if kind == JSON:
        fields = [{"key": k, "value": value_of(v)} for k, v in attributes.items()]
        resource = {"attributes": [{"key": k, "value": value_of(v)} for k, v in ids.items()]}
        times = {"startTimeUnixNano": "1500000000000000000", "endTimeUnixNano": "1500000001000000000"}
        spans = [{"traceId": "0a" * 16, "spanId": i, "name": "work", "attributes": fields, **times} for i in span_ids]
        return json.dumps({"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": spans}]}]}).encode()
    request = ExportTraceServiceRequest()
    sent = request.resource_spans.add()
    for k, v in ids.items():
        fill(sent.resource.attributes.add(key=k).value, v)
    scoped = sent.scope_spans.add()
    for span_id in span_ids:
        span = scoped.spans.add(trace_id=b"\x0a" * 16, span_id=bytes.fromhex(span_id), name="work")
        span.start_time_unix_nano, span.end_time_unix_nano = 1500000000000000000, 1500000001000000000
        for k, v in attributes.items():
            fill(span.attributes.add(key=k).value, v)
    return request.SerializeToString()


def cpu_us(work, size=100):
    "CPU in microseconds per span."
    began = time.process_time()
    work()
    return (time.process_time() - began) * 1e6 / size


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        os.environ["AGENTLIGHTNING_HOME"] = folder
        with LightningStore(f"{folder}/store.db") as store, AgentLightningServer(store) as server:
            connection = http.client.HTTPConnection(urlsplit(server.url).netloc)
            print(f"{'µs of CPU a span':34}{'encoding':10}{'parse':>8}{'decode':>8}{'keep':>8}{'HTTP':>8}")
            for name, attributes in KINDS.items():
                started = store.start_rollout(name)
                ids = {
                    "agentlightning.rollout_id": started.rollout_id,
                    "agentlightning.attempt_id": started.attempt.attempt_id,
                }
                for offset, kind in ((0, PROTOBUF), (1, JSON)):
                    taken = {"parse": [], "decode": [], "keep": [], "HTTP": []}
                    for i in range(rounds + 2):
                        number = 4 * (2 * i + offset)
                        body, sent = (batch(attributes, ids, kind, number + j) for j in (0, 1))
                        headers = {"Authorization": f"Bearer {server.token}", "Content-Type": kind}

                        def over_http(sent=sent, headers=headers):
                            connection.request("POST", "/v1/traces", sent, headers)
                            response = connection.getresponse()
                            assert response.status == 200 and response.read() in (b"", b"{}")

                        found = {
                            "parse": cpu_us(lambda body=body, kind=kind: parsed(body, kind)),
                            "decode": cpu_us(lambda body=body, kind=kind: decode(body, kind)),
                            "keep": cpu_us(
                                lambda body=body, kind=kind: store.add_incoming(decode(body, kind).incoming)
                            ),
                            "HTTP": cpu_us(over_http),
                        }
                        for what, cost in found.items() if i > 1 else ():
                            taken[what].append(cost)
                    row = "".join(f"{statistics.median(costs):8.1f}" for costs in taken.values())
                    print(f"{name:34}{kind.split('/')[1].removeprefix('x-'):10}{row}")


if __name__ == "__main__":
    main()
