"Streams that go from the endpoint's socket straight into the caller's: every byte, in order, at the caller's speed, and no further than it reads."

import http.client
import json
import socket
import threading
import time
from urllib.parse import urlsplit

import pytest
from test_native import ASKED, EVENTS
from test_native import event as event_of
from test_proxy import place  # noqa: F401
from waiting import until

from agentlightning_nb.callers import Outlet
from agentlightning_nb.engines.openai import OpenAIEngine


def event(text="", **more):
    "A chunk's event with ids and log-probabilities, as an endpoint writes it that has its own ideas about spaces."
    logprobs = {"content": [{"token": text, "logprob": -0.5, "bytes": None, "top_logprobs": []}]}
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None, "token_ids": [7], "logprobs": logprobs}
    return b"data:  " + json.dumps({"id": "c", "model": "tiny", "choices": [choice | more]}).encode() + b"\n\n"


END = event(finish_reason="stop", delta={}, token_ids=[], logprobs=None) + b"data: [DONE]\n\n"


class Endpoint:
    "A raw server: `play` writes the body of a stream, in chunks of HTTP, by its `write`."

    def __init__(self, play):
        self.play, self.socket = play, socket.create_server(("127.0.0.1", 0))
        self.left, self.sent = threading.Event(), 0
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}/v1"
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        while True:
            try:
                self.peer, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self.answer, args=(self.peer,), daemon=True).start()

    def answer(self, peer):
        file = peer.makefile("rb")
        while first := file.readline():
            length = 0
            while (line := file.readline()) not in (b"\r\n", b""):
                length = int(line.split(b":")[1]) if line.lower().startswith(b"content-length") else length
            file.read(length)
            if first.startswith(b"GET"):
                models = b'{"data":[{"id":"tiny","owned_by":"vllm"}]}'
                peer.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(models), models))
                continue
            try:
                peer.sendall(
                    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
                )
                self.play(lambda part: self.write(peer, part))
                peer.sendall(b"0\r\n\r\n")
            except OSError:
                self.left.set()
                return

    def write(self, peer, part):
        peer.sendall(b"%x\r\n%b\r\n" % (len(part), part))
        self.sent += len(part)

    def close(self):
        self.socket.close()


@pytest.fixture
def endpoint():
    made = []

    def make(play):
        made.append(Endpoint(play))
        return made[-1]

    yield make
    for e in made:
        e.close()


@pytest.fixture
def pumped(monkeypatch):
    "The parts that went past ASGI."
    parts, really = [], Outlet.write
    monkeypatch.setattr(Outlet, "write", lambda self, part: parts.append(part) or really(self, part))
    return parts


def begin(p, takes=0, route="chat/completions", **more):
    "A streamed call; its connection and its answer."
    host = urlsplit(p.server.url)
    connection = http.client.HTTPConnection(host.netloc, timeout=60)
    connection.sock = socket.socket()
    if takes:
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, takes)
    connection.sock.settimeout(60)
    connection.sock.connect((host.hostname, host.port))
    asked = {"model": "tiny", "messages": [{"role": "user", "content": "Well?"}], "stream": True, **more}
    connection.request("POST", f"{p.path}/{route}", json.dumps(asked), {"Authorization": f"Bearer {p.token}"})
    return connection, connection.getresponse()


EVERYTHING = {"return_token_ids": True, "logprobs": True}


@pytest.mark.parametrize("size", [1, 7, 1000, 100_000])
def test_every_byte_comes_as_the_endpoint_wrote_it_however_it_is_cut(place, endpoint, pumped, size):  # noqa: F811
    first, told = event("word 0 "), threading.Event()
    rest = b"".join(event(f"word {i} ") for i in range(1, 12)) + b": a comment\n\n" + END

    def play(write):
        write(first)
        assert told.wait(30)  # from now on it is pumped
        for i in range(0, len(rest), size):
            write(rest[i : i + size])

    p = place(OpenAIEngine(endpoint(play).url, "k"))
    _, answer = begin(p, **EVERYTHING)
    came = answer.readline()
    told.set()
    assert came + answer.read() == first + rest.replace(b": a comment\n\n", b"")
    until(p.spans)
    (span,) = p.spans()
    assert span.attributes["response_token_ids"] == [7] * 12 and span.attributes["response_logprobs"] == [-0.5] * 12
    assert json.loads(span.attributes["gen_ai.output.messages"])[0]["content"] == "".join(
        f"word {i} " for i in range(12)
    )
    assert b"".join(pumped) == rest.split(b": a")[0]  # the end waits until the call is recorded


def test_each_token_is_there_before_the_next_one_is_written(place, endpoint, pumped):  # noqa: F811
    turn = threading.Semaphore(0)

    def play(write):
        for i in range(5):
            write(event(f"<{i}>"))
            assert turn.acquire(timeout=30)
        write(END)

    p = place(OpenAIEngine(endpoint(play).url, "k"))
    _, answer = begin(p)
    for i in range(5):
        while (line := answer.readline()) == b"\n":
            pass
        assert f"<{i}>".encode() in line and b"token_ids" not in line  # nobody asked for those
        turn.release()
    assert answer.read().endswith(b"data: [DONE]\n\n")
    assert len(pumped) == 4  # but the first, with which the answer begins


def test_a_caller_that_does_not_read_stops_the_endpoint(place, endpoint):  # noqa: F811
    part, many = event("x" * 60_000), 500

    def play(write):
        for _ in range(many):
            write(part)
        write(END)

    e = endpoint(play)
    p = place(OpenAIEngine(e.url, "k"))
    connection, answer = begin(p, takes=1 << 16, **EVERYTHING)
    first = answer.readline()
    sent, before = 0, -1
    while sent != before:  # until nothing is written any more
        time.sleep(0.5)
        before, sent = sent, e.sent
    assert sent < many * len(part)
    assert first + answer.read() == many * part + END
    connection.close()
    until(p.spans)
    assert len(p.spans()[0].attributes["response_token_ids"]) == many


def test_a_caller_that_leaves_while_it_is_not_reading_lets_the_endpoint_go(place, endpoint):  # noqa: F811
    def play(write):
        while True:
            write(event("x" * 60_000))

    e = endpoint(play)
    p = place(OpenAIEngine(e.url, "k"))
    connection, answer = begin(p, takes=1 << 16, **EVERYTHING)
    assert answer.readline()
    time.sleep(0.5)
    answer.close()
    connection.close()
    assert e.left.wait(30)
    until(p.spans)
    (span,) = p.spans()
    assert span.status.description == "disconnected: the caller left" and span.attributes["response_token_ids"][:2] == [
        7,
        7,
    ]


@pytest.mark.parametrize("how", ["error", "hangs up", "no HTTP", "too early"])
def test_an_endpoint_that_breaks_off_in_the_middle_is_told_and_recorded(place, endpoint, how):  # noqa: F811
    told = threading.Event()

    def play(write):
        write(event("four"))
        assert told.wait(30)  # by now the stream is pumped
        write(event(" and"))
        if how == "error":
            write(event(" done") + b'data: {"error": {"message": "out of memory", "code": 507}}\n\n')
        elif how == "hangs up":
            e.peer.close()
            e.peer.shutdown(socket.SHUT_RDWR)
        elif how == "no HTTP":
            e.peer.sendall(b"zzz\r\n")
            time.sleep(20)

    e = endpoint(play)
    p = place(OpenAIEngine(e.url, "k"))
    _, answer = begin(p)
    first = answer.readline()
    told.set()
    rest = answer.read()
    assert b"four" in first and b" and" in rest and b"[DONE]" not in rest
    assert b'"error"' in rest and (how != "error" or b"out of memory" in rest and b" done" in rest)
    until(p.spans)
    (span,) = p.spans()
    assert span.status.status_code == "ERROR" and span.attributes["response_token_ids"][:2] == [7, 7]


def test_what_a_teller_stumbles_over_ends_the_call_and_not_the_server(place, endpoint, monkeypatch):  # noqa: F811
    told = threading.Event()

    def play(write):
        write(event("four"))
        assert told.wait(30)
        write(event(" and"))
        time.sleep(20)

    p = place(OpenAIEngine(endpoint(play).url, "k"))
    _, answer = begin(p)
    assert b"four" in answer.readline()
    monkeypatch.setattr("agentlightning_nb.engines.chat.ChatTeller.unread", lambda *_: 1 / 0)
    told.set()
    assert b'"error"' in answer.read()
    monkeypatch.undo()
    assert p.server.running


@pytest.mark.parametrize("leaves", [False, True])
@pytest.mark.parametrize("route", ["responses", "messages"])
def test_streams_in_an_endpoints_own_dialect_go_the_same_way(place, endpoint, pumped, route, leaves):  # noqa: F811
    said, told = [event_of(data) for data in EVENTS[route]], threading.Event()
    first, word = said[0], next(i for i, one in enumerate(said) if b"four" in one)

    def play(write):
        write(first)
        assert told.wait(30)  # from now on it is pumped
        for one in said[1 : word + 1]:
            write(one)
        while leaves:
            time.sleep(0.05)
            write(b": alive\n\n")
        write(b"".join(said[word + 1 :]))

    e = endpoint(play)
    p = place(OpenAIEngine(e.url, "k", token_ids=False))
    connection, answer = begin(p, route=route, **ASKED[route])
    came = answer.readline()
    told.set()
    while b"four" not in came:
        came += answer.readline()
    if leaves:
        answer.close()
        connection.close()
        assert e.left.wait(30)
    else:
        assert came + answer.read() == b"".join(said)
    until(p.spans)
    (span,) = p.spans()
    assert "four" in span.attributes["gen_ai.output.messages"]
    assert (span.status.description == "disconnected: the caller left") is leaves
    assert b"".join(pumped).startswith(b"".join(said[1 : word + 1]))


def test_through_the_environments_proxy_it_is_the_same(place, endpoint, monkeypatch):  # noqa: F811
    whole = b"".join(event(f"word {i} ") for i in range(12)) + END

    def play(write):
        for i in range(0, len(whole), 50):
            write(whole[i : i + 50])

    monkeypatch.setenv("http_proxy", endpoint(play).url.removesuffix("/v1"))  # it answers whatever it is asked
    p = place(OpenAIEngine("http://models.invalid/v1", "k"))
    _, answer = begin(p, **EVERYTHING)
    assert answer.read() == whole
