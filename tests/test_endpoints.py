"Endpoints as they are: connections that die, bodies of every kind, servers that move their callers on or say no HTTP."

import asyncio
import contextlib
import gzip
import socket
import threading

import pytest

from agentlightning_nb.engines.endpoint import Endpoint, proxy_of
from agentlightning_nb.engines.http import UNREAD, Hung, whole_of
from agentlightning_nb.engines.openai import OpenAIEngine
from agentlightning_nb.errors import BadRequestError, ServerError

OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"


class Script:
    "A server whose every connection answers its requests by the next bytes of a script, and hangs up at a None."

    def __init__(self, *connections):
        self.connections, self.heads, self.sockets = list(connections), [], []
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while self.connections:
                opened, _ = self.listening.accept()
                self.sockets.append(opened)
                threading.Thread(target=self._serve, args=(opened, self.connections.pop(0)), daemon=True).start()

    def _serve(self, opened, script):
        with contextlib.suppress(OSError), opened.makefile("rb") as file:
            for said in script:
                if said is None:
                    return opened.close()
                head = b"".join(iter(file.readline, b"\r\n"))
                length = head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]
                file.read(int(length or 0))
                self.heads.append(head)
                for part in said if isinstance(said, list) else [said]:
                    opened.sendall(part)
            file.read()

    def close(self):
        for one in (self.listening, *self.sockets):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


@pytest.fixture
def script():
    made = []

    def make(*connections):
        made.append(Script(*connections))
        return made[-1]

    yield make
    for one in made:
        one.close()


def asked(url, times=1, *, timeout_s=20):
    "Statuses and bodies of so many requests, one after the other."

    async def ask():
        endpoint, told = Endpoint(url, timeout_s), []
        try:
            for _ in range(times):
                answer = await endpoint.ask("POST", "x", {"Authorization": "Bearer k"}, b"{}")
                told.append((answer.status, await whole_of(answer)))
        finally:
            await endpoint.aclose()
        return told

    return asyncio.run(asyncio.wait_for(ask(), 60))


def test_a_connection_is_kept_for_the_next_call(script):
    server = script([OK, OK, OK])
    assert asked(server.url, 3) == [(200, b"{}")] * 3 and len(server.sockets) == 1


def test_a_connection_that_its_endpoint_will_close_is_not_used_again(script):
    server = script([OK.replace(b"content-length", b"connection: close\r\ncontent-length")], [OK])
    assert asked(server.url, 2) == [(200, b"{}")] * 2 and len(server.sockets) == 2


def test_a_kept_connection_that_was_hung_up_on_is_replaced(script):
    server = script([OK, None], [OK])
    assert asked(server.url, 2) == [(200, b"{}")] * 2 and len(server.sockets) == 2


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\ncontent-le"])
def test_a_fresh_connection_that_dies_is_an_error(script, said):
    with pytest.raises(Hung):
        asked(script([said, None]).url)


def test_a_body_that_ends_too_early_is_an_error(script):
    with pytest.raises(Hung):
        asked(script([OK.replace(b"length: 2", b"length: 3"), None]).url)


def test_a_body_without_a_length_ends_with_its_connection(script):
    assert asked(script([b"HTTP/1.1 200 OK\r\n\r\nall of it", None]).url) == [(200, b"all of it")]


def test_what_is_no_http_is_an_error(script):
    with pytest.raises(Hung, match="no HTTP"):
        asked(script([b"SSH-2.0-OpenSSH_9.2\r\n"]).url)


def test_interim_answers_are_passed_over(script):
    server = script([[b"HTTP/1.1 103 Early Hints\r\nlink: x\r\ncontent-encoding: gzip\r\n\r\n", OK]])
    assert asked(server.url) == [(200, b"{}")]


def test_a_packed_body_is_unpacked_and_another_packing_refused(script):
    packed = gzip.compress(b"hello" * 100)
    head = b"HTTP/1.1 200 OK\r\ncontent-encoding: %s\r\ncontent-length: %d\r\n\r\n"
    assert asked(script([head % (b"gzip", len(packed)) + packed]).url) == [(200, b"hello" * 100)]
    with pytest.raises(Hung, match="br"):
        asked(script([head % (b"br", 2) + b"xx"]).url)
    with pytest.raises(Hung, match="no HTTP"):
        asked(script([head % (b"gzip", 4) + b"oops"]).url)


def test_an_endpoint_that_does_not_answer_in_time_is_given_up(script):
    with pytest.raises(TimeoutError, match="0.2 s"):
        asked(script([b""]).url, timeout_s=0.2)


class Slowly(list):
    "Parts that leave one by one, with a pause before each."

    def __iter__(self):
        for part in super().__iter__():
            threading.Event().wait(0.1)
            yield part


def test_an_answer_may_take_longer_than_any_silence_in_it(script):
    body = Slowly([b"HTTP/1.1 200 OK\r\ncontent-length: 15\r\n\r\n", *[b"x"] * 15])
    assert asked(script([body]).url, timeout_s=1) == [(200, b"x" * 15)]


@pytest.mark.parametrize("through_proxy", [False, True])
def test_silence_in_the_middle_of_an_answer_ends_it(script, monkeypatch, through_proxy):
    url = script([[b"HTTP/1.1 200 OK\r\ncontent-length: 15\r\n\r\n", b"x"]]).url
    if through_proxy:
        monkeypatch.setenv("http_proxy", url)
        url = "http://example.org"
    with pytest.raises((TimeoutError, Hung)):
        asked(url, timeout_s=0.2)


def test_an_endpoint_that_moves_its_callers_on_is_followed(script):
    there = script([OK, OK])
    move = b"HTTP/1.1 307 Temporary Redirect\r\nlocation: %s/there\r\ncontent-length: 0\r\n\r\n" % there.url.encode()
    here = script([move, None], [move, move])
    assert asked(here.url, 2) == [(200, b"{}")] * 2
    assert all(head.startswith(b"POST /there ") for head in there.heads) and len(there.heads) == 2


def test_reading_stops_while_nobody_takes_what_has_come(script):
    body = b"x" * (16 * UNREAD)
    server = script([b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body])

    async def ask():
        endpoint = Endpoint(server.url, 30)
        answer = await endpoint.ask("GET", "x", {})
        for _ in range(50):
            await asyncio.sleep(0.005)
        waiting = answer._unread
        told = await whole_of(answer)
        await endpoint.aclose()
        return waiting, told

    waiting, told = asyncio.run(asyncio.wait_for(ask(), 60))
    assert told == body and waiting < 4 * UNREAD


def test_a_call_that_is_left_in_the_middle_is_cut(script):
    server = script([[b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n"]])

    async def leave():
        endpoint = Endpoint(server.url, 30)
        answer = await endpoint.ask("GET", "x", {})
        assert await answer.part() == b"x"
        answer.release()
        answer.release()
        await asyncio.sleep(0.05)
        return answer.lost, len(endpoint.pool.all), len(endpoint.pool.idle)

    assert asyncio.run(asyncio.wait_for(leave(), 60)) == (True, 0, 0)


def test_many_calls_at_once_get_their_own_answers(script):
    numbered = [[b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n%03d" % i] for i in range(40)]
    server = script(*numbered)

    async def ask():
        endpoint = Endpoint(server.url, 30)
        answers = await asyncio.gather(*(endpoint.ask("GET", "x", {}) for _ in range(40)))
        told = [await whole_of(a) for a in answers]
        await endpoint.aclose()
        return told

    assert sorted(asyncio.run(asyncio.wait_for(ask(), 60))) == [b"%03d" % i for i in range(40)]


# addresses and keys


@pytest.mark.parametrize("address", ["host/v1", "ftp://host/v1", "http://", "http://me:secret@host/v1"])
def test_an_address_that_is_none_is_refused_without_its_password(address):
    with pytest.raises(BadRequestError, match="https://host/v1") as refused:
        OpenAIEngine(address)
    assert "secret" not in str(refused.value)


def test_a_key_with_a_line_break_cannot_forge_a_header(script):
    engine = OpenAIEngine(script([OK]).url, "sk-1\r\nx-evil: 1")
    with pytest.raises(BadRequestError, match="line break"):
        asyncio.run(engine.told("x", {}))


def test_a_line_break_at_the_end_of_a_key_is_no_part_of_it(script):
    server = script([OK])
    asyncio.run(OpenAIEngine(server.url, "sk-1\n").told("x", {}))
    assert b"Authorization: Bearer sk-1\r\n" in server.heads[0]


def test_a_proxy_of_the_environment_is_used_but_not_for_this_machine(script, monkeypatch):
    relay = script([OK])
    monkeypatch.setenv("http_proxy", relay.url)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert asked("http://models.invalid/v1") == [(200, b"{}")]
    assert relay.heads[0].startswith(b"POST http://models.invalid/v1/x HTTP/1.1\r\n")
    with pytest.raises(OSError):
        asked("http://127.0.0.1:9/v1")
    monkeypatch.setenv("no_proxy", "models.invalid")
    from urllib.parse import urlsplit

    assert proxy_of(urlsplit("http://models.invalid/v1")) is None


def test_an_endpoint_that_dies_is_asked_again_and_then_given_up_in_words(script):
    server = script([b"", None], [OK])
    engine = OpenAIEngine(server.url, backoff_s=0.001)
    assert asyncio.run(engine.told("x", {}))[1:] == ({}, 1)
    gone = OpenAIEngine(script([b"", None], [b"", None]).url, retries=1, backoff_s=0.001)
    with pytest.raises(ServerError, match="cannot be reached: Hung"):
        asyncio.run(gone.told("x", {}))
