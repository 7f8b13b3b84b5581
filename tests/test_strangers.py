"What a server does with requests that are too long, too slow or merely curious, and what it writes down about all of them."

import http.client
import io
import json
import logging
import socket
from urllib.parse import urlsplit

import pytest

from agentlightning_nb.callers import Protocol
from agentlightning_nb.logs import log_to
from agentlightning_nb.server import AgentLightningServer


@pytest.fixture
def server():
    with AgentLightningServer(token="s3cret-token") as running:
        yield running


def ask(server, method, path, body=None, headers=()):
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=20)
    try:
        connection.request(method, path, body, {"Authorization": "Bearer s3cret-token", **dict(headers)})
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


def raw(server, data):
    "What the server answers to these bytes before it closes the connection."
    at = urlsplit(server.url)
    with socket.create_connection((at.hostname, at.port), timeout=20) as line:
        told = b""
        for part in data:
            try:
                line.sendall(part)
            except OSError:  # it has hung up
                break
        try:
            while part := line.recv(65536):
                told += part
        except ConnectionResetError:
            pass
        return told


def test_a_request_keeps_the_id_it_came_with_and_gets_one_otherwise(server):
    assert ask(server, "GET", "/health", headers={"X-Request-Id": "mine-7"}.items())[1]["x-request-id"] == "mine-7"
    made = {ask(server, "GET", "/v1/agl/statistics")[1]["x-request-id"] for _ in range(3)}
    assert len(made) == 3 and all(m.startswith("req-") for m in made)
    assert ask(server, "POST", "/v1/chat/completions", "{}")[1]["x-request-id"].startswith("req-")


def test_an_id_that_could_forge_a_log_line_is_replaced(server):
    assert ask(server, "GET", "/health", headers={"X-Request-Id": "a b{}"}.items())[1]["x-request-id"] != "a b{}"


def test_a_json_log_has_a_line_for_each_request_and_no_secret(server):
    written = io.StringIO()
    with log_to(written, style="json"):
        ask(server, "GET", "/v1/agl/rollouts?rollout_id_contains=hush", headers={"X-Request-Id": "r-1"}.items())
        body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hush"}]})
        ask(server, "POST", "/v1/chat/completions", body)
        ask(server, "GET", "/v1/agl/rollouts", headers={"Authorization": "Bearer wrong-hush"}.items())
    lines = [json.loads(line) for line in written.getvalue().splitlines()]
    requests = [line for line in lines if line["logger"] == "agentlightning_nb.access"]
    assert [(r["method"], r["path"], r["status"]) for r in requests] == [
        ("GET", "/v1/agl/rollouts", 200),
        ("POST", "/v1/chat/completions", 502),
        ("GET", "/v1/agl/rollouts", 401),
    ]
    assert requests[0]["request_id"] == "r-1" and all(r["ms"] > 0 for r in requests)
    assert "hush" not in written.getvalue() and "s3cret" not in written.getvalue()


def test_what_an_engine_stumbles_over_is_logged_with_the_id_its_caller_was_told(server):
    class Broken:
        models = ["m"]

        async def chat(self, body, *, session=None):
            raise KeyError("inner")

    server.upstream, written = Broken(), io.StringIO()
    with log_to(written, style="json", level=logging.ERROR):
        _, headers, body = ask(server, "POST", "/v1/chat/completions", json.dumps({"messages": []}))
    line = json.loads(written.getvalue().splitlines()[0])
    assert line["request_id"] == headers["x-request-id"] and "KeyError" in line["traceback"]
    assert b"inner" not in body


@pytest.mark.parametrize("path", ["/v1/agl/spans", "/v1/chat/completions", "/v1/traces"])
def test_a_body_that_is_too_long_is_refused_before_it_is_sent(server, path):
    head = (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer s3cret-token\r\nContent-Length: 99999999999\r\n\r\n"
    )
    told = first_answer(server, head)
    assert told.startswith(b"HTTP/1.1 413") and b"this server takes 64 MiB" in told


def first_answer(server, head):
    at = urlsplit(server.url)
    with socket.create_connection((at.hostname, at.port), timeout=20) as line:
        line.sendall(head.encode())
        told = line.recv(65536)
        while b"\r\n\r\n" not in told or told.endswith(b"\r\n\r\n"):
            told += line.recv(65536)
        return told


@pytest.mark.parametrize("path", ["/v1/agl/spans", "/v1/chat/completions"])
def test_a_body_that_does_not_say_how_long_it_is_is_refused_once_it_is_too_long(server, path):
    head = (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer s3cret-token\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    part = b"100000\r\n" + b" " * (1 << 20) + b"\r\n"
    told = raw(server, [head.encode(), *[part] * 66, b"0\r\n\r\n"])
    assert told.startswith(b"HTTP/1.1 413") and b"larger than 64 MiB" in told


def test_headers_that_are_too_long_are_refused(server):
    status, _, body = ask(server, "GET", "/health", headers={"X-Long": "x" * 60_000, "X-Longer": "y" * 10_000}.items())
    assert status == 431 and b"64 KiB" in body


def test_headers_without_end_are_cut_off(server):
    told = raw(server, [b"GET /health HTTP/1.1\r\n", *[b"X-More: " + b"x" * 60_000 + b"\r\n"] * 50])
    assert told == b"" or told.startswith(b"HTTP/1.1 431")  # the answer may be lost with the connection


def test_headers_that_never_come_close_the_connection(server, monkeypatch):
    monkeypatch.setattr(Protocol, "head_s", 0.2)
    for begun in ([], [b"GET /health HTTP/1.1\r\nX-Slow: "]):
        assert raw(server, begun).startswith(b"HTTP/1.1 408")
    assert ask(server, "GET", "/health")[0] == 200


def test_nothing_but_health_answers_without_the_token(server):
    paths = [
        "/",
        "/docs",
        "/openapi.json",
        "/metrics",
        "/v1/agl/health",
        "/v1/agl/rollouts",
        "/v1/models",
        "/v1/traces",
        "/nowhere",
    ]
    told = {path: ask(server, "GET", path, headers={"Authorization": ""}.items())[0] for path in paths}
    assert told == dict.fromkeys(paths, 401)
    assert ask(server, "GET", "/health", headers={"Authorization": ""}.items())[0] == 200


def test_whoever_shows_no_token_is_told_how(server):
    def challenged(accept: str) -> str:
        connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=30)
        try:
            connection.request("GET", "/docs", headers={"Accept": accept})
            answer = connection.getresponse()
            answer.read()
            return f"{answer.status} {answer.headers['WWW-Authenticate']}"
        finally:
            connection.close()

    assert challenged("application/json") == "401 Bearer"
    assert challenged("text/html,*/*").startswith(
        "401 Basic realm="
    )  # a browser asks for the password, which is the token
    for shown in (f"bearer {server.token}", f"BEARER  {server.token}"):  # the scheme's letters are of any case
        assert ask(server, "GET", "/v1/agl/statistics", headers={"Authorization": shown}.items())[0] == 200


def test_the_page_of_the_routes_fetches_nothing(server):
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=30)
    connection.request("GET", "/docs", headers={"Authorization": f"Bearer {server.token}"})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    assert answer.status == 200 and "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert "<script" not in text and "http://" not in text and "https://" not in text
    assert (
        "/v1/agl/queues/rollouts/dequeue" in text
        and "/rollout/{rollout_id}/attempt/{attempt_id}/v1/chat/completions" in text
    )
