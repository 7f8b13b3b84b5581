"Requests that are answered in the callbacks of their connection get what the app would answer, and come in turn with those that it does."

import json
import logging
import re
import socket
import threading
import time

import pytest

from agentlightning_nb.asgi import BODY_LIMIT
from agentlightning_nb.lane import HEADS, LIMIT, Exchange, Lane
from agentlightning_nb.server import AgentLightningServer
from agentlightning_nb.storage.turns import Op
from agentlightning_nb.store import LightningStore


@pytest.fixture
def store(tmp_path):
    with LightningStore(tmp_path / "store.db") as store:
        yield store


@pytest.fixture(params=["lane", "app"])
def way(request):
    return request.param


@pytest.fixture
def server(store, way):
    server = AgentLightningServer(store, token="secret")
    if way == "app":
        server.app.lane = None
    with server:
        yield server


@pytest.fixture
def taken(monkeypatch):
    "The paths of what the lane has taken."
    paths, really = [], Exchange.ask

    def watched(self):
        asked = really(self)
        paths.extend([self.path] * asked)
        return asked

    monkeypatch.setattr(Exchange, "ask", watched)
    return paths


@pytest.fixture
def again(monkeypatch):
    "The paths of requests with headers that the lane has met."
    paths, really = [], Lane.again

    def watched(self, connection, data):
        exchange = really(self, connection, data)
        paths.extend([] if exchange is None else [exchange.path])
        return exchange

    monkeypatch.setattr(Lane, "again", watched)
    return paths


def request(path, body=b"", *more, token="secret", method="POST", length=None):
    "The bytes of a request."
    lines = [f"{method} {path} HTTP/1.1", "Host: here", f"Authorization: Bearer {token}", *more]
    if length is not False:
        lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join([*lines, "", ""]).encode() + body


class Wire:
    "A raw connection."

    def __init__(self, server, takes=0):
        self.socket, self.rest = socket.socket(), b""
        if takes:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, takes)
        self.socket.settimeout(20)
        self.socket.connect((server.host, server._background.port))

    def send(self, *requests):
        self.socket.sendall(b"".join(requests))
        return self

    def answer(self):
        "Status, headers and body of the next answer."
        while b"\r\n\r\n" not in self.rest:
            self._more()
        head, _, self.rest = self.rest.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        while len(self.rest) < int(headers.get("content-length", 0)):
            self._more()
        size = int(headers.get("content-length", 0))
        body, self.rest = self.rest[:size], self.rest[size:]
        return int(first.split()[1]), headers, body

    def _more(self):
        if not (part := self.socket.recv(1 << 20)):
            raise ConnectionError("closed")
        self.rest += part

    def closed(self):
        "Whether the server closes."
        try:
            return self.socket.recv(1) == b""
        except ConnectionError:
            return True

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()


def span(rollout, number=0, **more):
    ids = {"rollout_id": rollout.rollout_id, "attempt_id": rollout.attempt.attempt_id}
    return {**ids, "name": f"step {number}", "span_id": f"{number:016x}", "attributes": {}, **more}


def spans_of(store, rollout):
    return store.query_spans(rollout.rollout_id).items


def as_json(value):
    return json.dumps(value).encode()


def asked(rollout):
    "Requests of every kind that the lane may take, good and bad."
    attempt = f"/v1/agl/rollouts/{rollout.rollout_id}/attempts/{rollout.attempt.attempt_id}"
    yield "/v1/agl/spans", as_json(span(rollout, 1))
    yield "/v1/agl/spans", as_json([span(rollout, 2), span(rollout, 3, events=[{"name": "e"}])])
    yield "/v1/agl/spans", b"[]"
    yield "/v1/agl/spans", b"{"
    yield "/v1/agl/spans", b""
    yield "/v1/agl/spans", b"\xff"
    yield "/v1/agl/spans", b"3"
    yield "/v1/agl/spans", b"[" * 5000
    yield "/v1/agl/spans", as_json(span(rollout) | {"rollout_id": "ro-none"})
    yield "/v1/agl/spans", as_json(span(rollout, name="agentlightning.reward") | {"attributes": {"x": 1}})
    reward = {"agentlightning.reward.0.value": float("nan")}
    yield "/v1/agl/spans", as_json(span(rollout, name="agentlightning.reward", attributes=reward))
    yield "/v1/agl/queues/rollouts/enqueue", as_json({"rollouts": [{"input": {"q": 1}}]})
    yield "/v1/agl/queues/rollouts/enqueue", as_json({"rollouts": 3})
    yield "/v1/agl/queues/rollouts/enqueue", as_json({"rollouts": [{"mode": "sideways"}]})
    yield "/v1/agl/queues/rollouts/enqueue", b"{}"
    yield "/v1/agl/queues/rollouts/dequeue", b'{"limit": 1, "worker_id": "w"}'
    yield "/v1/agl/queues/rollouts/dequeue", b""
    yield "/v1/agl/queues/rollouts/dequeue", b'{"limit": "many"}'
    yield "/v1/agl/queues/rollouts/dequeue", b'{"limit": -1}'
    yield "/v1/agl/queues/rollouts/dequeue", b'{"wait_s": 0.01}'
    yield "/v1/agl/heartbeat", as_json({"attempt_ids": [rollout.attempt.attempt_id, "at-none"]})
    yield "/v1/agl/heartbeat", as_json({"attempt_ids": [3]})
    yield "/v1/agl/heartbeat", b"null"
    yield attempt, b'{"worker_id": "w2"}'
    yield attempt, b'{"status": "dancing"}'
    yield f"{attempt}/finish", b'{"reward": "much"}'
    yield f"{attempt}/finish", b'{"reward": 1.0}'
    yield f"{attempt}/finish", b'{"status": "failed"}'
    yield "/v1/agl/rollouts/ro-none/attempts/at-none/finish", b"{}"
    yield "/v1/agl/rollouts//attempts//finish", b"{}"
    yield f"/v1/agl/rollouts/{rollout.rollout_id}/attempts/search", b"{}"


def plain(told):
    "An answer without what differs from one run to the next."
    text = re.sub(r"\b(ro|at|req|rs)-[0-9a-z]+", r"\1", told.decode())
    return re.sub(r"\d{10}\.\d+", "TIME", text)


def test_both_ways_answer_the_same(tmp_path, taken):
    told = {}
    for way in ("lane", "app"):
        with LightningStore(tmp_path / f"{way}.db") as store, AgentLightningServer(store, token="secret") as server:
            if way == "app":
                server.stop()
                server.app.lane = None
                server.start()
            rollout, told[way] = store.start_rollout({"q": 0}), []
            with Wire(server) as wire:
                for path, body in asked(rollout):
                    status, headers, answer = wire.send(request(path, body)).answer()
                    told[way].append((status, sorted(headers), headers["content-type"], plain(answer)))
            told[way].append([s.name for s in spans_of(store, rollout)])
    assert told["lane"] == told["app"]
    assert {entry[0] for entry in told["lane"][:-1]} >= {200, 201, 404, 409, 422}
    assert len(taken) == len(list(asked(rollout))) - 3  # but for the last two, and a claim that waits


def test_a_wrong_token_is_refused_and_nothing_is_kept(server, store):
    rollout = store.start_rollout(1)
    body = as_json(span(rollout))
    with Wire(server) as wire:
        status, _, told = wire.send(request("/v1/agl/spans", body, token="guessed")).answer()
        assert status == 401 and json.loads(told)["error"] == "UnauthorizedError"
        assert wire.send(request("/v1/agl/spans", body)).answer()[0] == 201  # on the same connection
    assert len(spans_of(store, rollout)) == 1


def test_pipelined_requests_are_answered_in_turn(server, store):
    rollout, sent = store.start_rollout(1), []
    for i in range(40):
        named = f"X-Request-Id: r{i}"
        if i % 3 == 2:
            sent.append(request("/v1/agl/health", b"", named, method="GET"))
        else:
            sent.append(request("/v1/agl/spans", as_json(span(rollout, i)), named))
    with Wire(server) as wire:
        wire.send(*sent)
        assert [wire.answer()[1]["x-request-id"] for _ in sent] == [f"r{i}" for i in range(40)]
    assert [s.name for s in spans_of(store, rollout)] == [f"step {i}" for i in range(40) if i % 3 != 2]


def test_bytes_that_come_one_by_one_and_bodies_in_chunks_are_whole_requests(server, store):
    rollout = store.start_rollout(1)
    whole = request("/v1/agl/spans", as_json(span(rollout, 1)))
    body = as_json(span(rollout, 2))
    chunked = request("/v1/agl/spans", b"", "Transfer-Encoding: chunked", length=False)
    chunked += b"".join(b"%x\r\n%s\r\n" % (1, body[i : i + 1]) for i in range(len(body))) + b"0\r\n\r\n"
    with Wire(server) as wire:
        for i in range(len(whole)):
            wire.send(whole[i : i + 1])
        assert wire.answer()[0] == 201
        assert wire.send(chunked).answer()[0] == 201
    assert [s.name for s in spans_of(store, rollout)] == ["step 1", "step 2"]


def test_half_a_body_is_nothing(server, store):
    rollout = store.start_rollout(1)
    whole = request("/v1/agl/spans", as_json(span(rollout)))
    with Wire(server) as wire:
        wire.send(whole[:-10])
    with Wire(server) as wire:
        assert wire.send(request("/v1/agl/health", method="GET")).answer()[0] == 200
    assert spans_of(store, rollout) == []


def test_a_large_body_goes_to_the_app_and_one_that_is_too_large_is_refused(server, store, taken, way):
    rollout = store.start_rollout(1)
    large = as_json([span(rollout, i, attributes={"text": "x" * 3000}) for i in range(400)])
    assert len(large) > LIMIT
    with Wire(server) as wire:
        assert wire.send(request("/v1/agl/spans", large)).answer()[0] == 201
        status, headers, told = wire.send(request("/v1/agl/spans", length=BODY_LIMIT + 1)).answer()
        assert (status, headers["connection"]) == (413, "close") and b"64 MiB" in told and wire.closed()
    assert len(spans_of(store, rollout)) == 400 and taken == []


def test_a_caller_that_does_not_read_is_not_answered_any_further(server, store):
    rollout, text, many = store.start_rollout(1), "x" * 50_000, 600
    sent = [request("/v1/agl/spans", as_json(span(rollout, i, attributes={"t": text}))) for i in range(many)]
    with Wire(server, takes=1 << 16) as wire:
        sender = threading.Thread(target=wire.send, args=sent)
        sender.start()
        kept, before = -1, -2
        while kept != before:  # until nothing happens any more
            time.sleep(0.5)
            before, kept = kept, len(spans_of(store, rollout))
        assert 0 < kept < many
        names = [json.loads(wire.answer()[2])["name"] for _ in range(many)]
        sender.join(20)
    assert names == [f"step {i}" for i in range(many)]


class Held:
    "The writer stands still inside the block, until `release`."

    def __init__(self, store):
        self.store, self.begun, self.released = store, threading.Event(), threading.Event()

    def __enter__(self):
        self.store._writer.submit(Op(lambda turn: (self.begun.set(), self.released.wait(20))))
        assert self.begun.wait(20)
        return self

    def release(self):
        self.released.set()

    def __exit__(self, *_):
        self.released.set()


def test_a_server_that_stops_lets_those_under_way_have_their_answers(server, store):
    rollout = store.start_rollout(1)
    with Wire(server) as wire, Held(store) as held:
        wire.send(request("/v1/agl/spans", as_json(span(rollout))))
        time.sleep(0.2)  # it is with the writer by now; should it not, it is refused and the test fails
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        time.sleep(0.2)
        held.release()
        status, headers, _ = wire.answer()
        assert (status, headers["connection"]) == (201, "close") and wire.closed()
        stopping.join(20)
    assert len(spans_of(store, rollout)) == 1 and not server.running


def test_a_caller_that_leaves_before_its_answer_disturbs_nobody(server, store):
    with Held(store), Wire(server) as wire:
        wire.send(request("/v1/agl/queues/rollouts/enqueue", as_json({"rollouts": [{"input": 1}]})))
        time.sleep(0.2)
        wire.socket.close()
        time.sleep(0.2)
    with Wire(server) as wire:
        assert wire.send(request("/v1/agl/heartbeat", b'{"attempt_ids": []}')).answer()[0] == 200
    assert store.query_rollouts().total == 1  # what was asked is done


def test_connections_close_when_the_caller_wants_that(server, store):
    rollout = store.start_rollout(1)
    with Wire(server) as wire:
        status, headers, _ = wire.send(request("/v1/agl/spans", as_json(span(rollout)), "Connection: close")).answer()
        assert (status, headers["connection"]) == (201, "close") and wire.closed()
    with Wire(server) as wire:
        old = request("/v1/agl/spans", as_json(span(rollout, 1))).replace(b"HTTP/1.1", b"HTTP/1.0")
        assert wire.send(old).answer()[0] == 201 and wire.closed()


def test_who_asks_first_whether_to_send_a_body_is_told_so(server, store):
    body = as_json(span(store.start_rollout(1)))
    with Wire(server) as wire:
        wire.send(request("/v1/agl/spans", body, "Expect: 100-continue")[: -len(body)])
        assert wire.answer()[0] == 100
        assert wire.send(body).answer()[0] == 201


def test_a_request_has_its_line_in_the_log_with_its_id(server, store, caplog):
    caplog.set_level(logging.INFO, logger="agentlightning_nb.access")
    rollout = store.start_rollout(1)
    with Wire(server) as wire:
        given = wire.send(request("/v1/agl/spans", as_json(span(rollout)), "X-Request-Id: mine-1")).answer()[1]
        assert given["x-request-id"] == "mine-1"
        assert wire.send(request("/v1/agl/spans", b"{")).answer()[1]["x-request-id"].startswith("req-")
    server.stop()  # the app writes its line after the answer
    lines = [r.getMessage() for r in caplog.records if r.name == "agentlightning_nb.access"]
    assert [line.rsplit(" ", 2)[0] for line in lines] == ["POST /v1/agl/spans 201", "POST /v1/agl/spans 422"]


def test_what_nobody_foresaw_is_a_500_without_its_words(server, store, caplog, monkeypatch):
    rollout = store.start_rollout(1)
    monkeypatch.setattr("agentlightning_nb.storage.recording.add_spans", lambda *_: 1 / 0)
    with Wire(server) as wire:
        status, _, told = wire.send(request("/v1/agl/spans", as_json(span(rollout)))).answer()
        assert status == 500 and b"ZeroDivisionError" in told and b"division by" not in told
        assert wire.send(request("/v1/agl/health", method="GET")).answer()[0] == 200
    assert "POST /v1/agl/spans failed." in caplog.text and "division by zero" in caplog.text


def test_a_long_poll_of_the_lane_is_the_apps_and_gets_what_is_queued(server, store):
    with Wire(server) as waiter, Wire(server) as other:
        waiter.send(request("/v1/agl/queues/rollouts/dequeue", b'{"wait_s": 20}'))
        time.sleep(0.1)
        other.send(request("/v1/agl/queues/rollouts/enqueue", as_json({"rollouts": [{"input": 1}]}))).answer()
        assert json.loads(waiter.answer()[2])[0]["status"] == "preparing"


def test_headers_that_come_again_are_known_and_others_are_looked_at(store, again):
    rollout = store.start_rollout(1)
    numbers = iter(range(10, 99))
    body = lambda: as_json(span(rollout, next(numbers)))  # noqa: E731 - all of one length
    finish = f"/v1/agl/rollouts/{rollout.rollout_id}/attempts/{rollout.attempt.attempt_id}/finish"
    with AgentLightningServer(store, token="secret") as server, Wire(server) as wire:
        status = lambda sent: wire.send(sent).answer()[0]  # noqa: E731
        assert [status(request("/v1/agl/spans", body())) for _ in range(3)] == [201] * 3
        assert again == ["/v1/agl/spans"] * 2
        assert status(request("/v1/agl/spans", body(), token="Secret")) == 401
        assert status(request("/v1/agl/spans", body(), "X-Request-Id: one")) == 201
        assert status(request("/v1/agl/span", body())) == 404
        assert status(request("/v1/agl/spans", body(), method="PUT")) == 405
        assert again == ["/v1/agl/spans"] * 2
        whole, second = request("/v1/agl/spans", body()), request("/v1/agl/spans", body())
        assert [wire.send(whole + second[:-9]).answer()[0], status(second[-9:])] == [201, 201]
        wire.send(whole[:-1])
        time.sleep(0.1)
        assert (status(whole[-1:]), len(again)) == (201, 2)  # the same span once more, in two parts
        claim = b'{"wait_s": 0.01}'  # the app's affair, whether its headers are known or not
        assert [wire.send(request("/v1/agl/queues/rollouts/dequeue", claim)).answer()[2] for _ in range(3)] == [
            b"[]"
        ] * 3
        assert [status(request(finish, b'{"reward": 1.0}')), status(request(finish, b'{"reward": 2.0}'))] == [200, 409]
        assert again[-1] == finish
    assert [s.name for s in spans_of(store, rollout)] == [f"step {n}" for n in (10, 11, 12, 14, 17, 18)]


def test_what_is_remembered_of_headers_is_bounded(store):
    with AgentLightningServer(store, token="secret") as server, Wire(server) as wire:
        for number in range(HEADS + 10):
            assert wire.send(request("/v1/agl/heartbeat", b"{}", f"X-Number: {number}")).answer()[0] == 422
        lane = server.app.lane
        assert 0 < len(lane.met) <= HEADS
        known = set(lane.met)
        for more in (f"X-Long: {'x' * 3000}", "X-Request-Id: mine", "Connection: close"):
            wire.send(request("/v1/agl/heartbeat", b"{}", more)).answer()
        assert set(lane.met) == known


@pytest.mark.slow
def test_a_connection_closes_when_it_has_been_quiet_for_long(store):
    beat = request("/v1/agl/heartbeat", b'{"attempt_ids": []}')
    with AgentLightningServer(store, token="secret") as server:
        server._background._thread.uvicorn.config.timeout_keep_alive = 1.0
        with Wire(server) as wire:
            began = time.monotonic()
            while time.monotonic() < began + 2.5:  # it is not quiet
                assert wire.send(beat).answer()[0] == 200
                time.sleep(0.1)
            assert wire.closed()
