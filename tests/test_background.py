"A server on a thread of this process: its port, its thread, its end."

import gc
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request

import pytest
import uvicorn

from agentlightning_nb.background import BackgroundServer, servers_here
from agentlightning_nb.errors import PortInUseError, ServerError


async def hello(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hello"})


def get(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read()


def port_is_free(port):
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return sock.bind(("127.0.0.1", port)) is None


def test_a_started_server_answers_and_a_second_start_is_harmless():
    with BackgroundServer(hello) as server:
        port = server.port
        assert get(server.url) == b"hello" and server.start() is server and server.port == port
        assert len(servers_here(port)) == 1


def test_stop_leaves_neither_port_nor_thread():
    before = threading.active_count()
    server = BackgroundServer(hello).start()
    get(server.url)
    server.stop()
    server.stop()
    assert not server.running and threading.active_count() == before and port_is_free(server.port)


def test_a_stopped_server_starts_again_on_its_port():
    server = BackgroundServer(hello).start()
    url = server.url
    server.stop()
    with server:
        assert server.url == url and get(url) == b"hello"


def test_starting_from_many_threads_starts_one_server():
    server = BackgroundServer(hello)
    threads = [threading.Thread(target=server.start) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(servers_here(server.port)) == 1
    server.stop()


def test_a_port_of_somebody_else_raises_and_says_whose_it_is():
    code = "import socket, sys; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); sys.stdin.read()"
    other = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        port = int(other.stdout.readline())
        with pytest.raises(PortInUseError, match=f"Port {port} on 127.0.0.1 is in use by .*pass port=0") as e:
            BackgroundServer(hello, port=port).start()
        if os.path.isdir("/proc/net"):
            assert f"pid {other.pid} (" in str(e.value)
    finally:
        other.communicate()


def test_a_server_of_this_process_on_the_same_port_is_replaced():
    old = BackgroundServer(hello).start()
    with BackgroundServer(hello, port=old.port) as new:
        assert not old.running and get(new.url) == b"hello" and len(servers_here(new.port)) == 1
    old.stop()


def test_a_forgotten_server_stops_by_itself():
    server = BackgroundServer(hello).start()
    port = server.port
    del server
    gc.collect()
    assert servers_here(port) == [] and port_is_free(port)


def test_an_app_that_fails_at_startup_raises_in_the_caller_and_frees_the_port():
    async def broken(scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.failed", "message": "no"})

    before = threading.active_count()
    with pytest.raises(ServerError, match="did not start"):
        BackgroundServer(broken).start()
    assert threading.active_count() == before


def test_an_address_of_another_machine_is_refused_in_words():
    with pytest.raises(ServerError, match="192.0.2.1"):
        BackgroundServer(hello, host="192.0.2.1").start()


def test_a_server_runs_beside_a_running_event_loop():
    import asyncio

    async def cell():
        with BackgroundServer(hello) as server:
            return await asyncio.to_thread(get, server.url)

    assert asyncio.run(cell()) == b"hello"


def test_requests_share_the_interpreter_with_a_busy_thread():
    with BackgroundServer(hello):
        assert sys.getswitchinterval() <= 0.0002


@pytest.mark.parametrize(
    ("before", "after"),
    [((700, 10, 10), (10_000, 10, 10)), ((50_000, 5, 5), (50_000, 5, 5)), ((0, 10, 10), (0, 10, 10))],
)
def test_a_server_has_cycles_looked_for_rarely_and_leaves_a_choice_alone(before, after):
    usual = gc.get_threshold()
    try:
        gc.set_threshold(*before)
        with BackgroundServer(hello):
            assert gc.get_threshold() == after
    finally:
        gc.set_threshold(*usual)


def test_a_server_that_sleeps_looks_at_the_clock_once_a_second_and_stops_when_told(monkeypatch):
    looks, really = [], uvicorn.Server.on_tick

    async def watched(self, counter):
        looks.append(counter)
        return await really(self, counter)

    monkeypatch.setattr(uvicorn.Server, "on_tick", watched)
    with BackgroundServer(hello) as server:
        with urllib.request.urlopen(server.url, timeout=10) as answer:
            before = answer.headers["date"]
        time.sleep(2.3)
        with urllib.request.urlopen(server.url, timeout=10) as answer:
            assert answer.headers["date"] != before
        assert len(looks) <= 5
    assert servers_here(server.port) == []
