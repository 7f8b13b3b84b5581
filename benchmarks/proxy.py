"""Our proxy beside LiteLLM's and beside no proxy at all: latency added, CPU per call and per chunk, time to the first token.

    python benchmarks/proxy.py --peer /path/to/litellm [--rounds 3] [--at-once 1 16 64 256]

The upstream is simulated: a small asyncio server on loopback that answers with 60 tokens, ids and log-probabilities included, at once or
at 60 tokens a second. All are called by the same raw client, in turn within each round. Ours is the whole server with a durable store:
each call is recorded, and counted at the end. The peer may also be named by LITELLM; without one, ours is measured alone. Where nginx
is installed it is measured too, as the floor: it passes bytes on and records nothing.
Takes about four minutes, most of it LiteLLM's."""

import argparse
import asyncio
import contextlib
import json
import os
import platform
import secrets
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
import urllib.request
from collections import defaultdict
from pathlib import Path

from side_by_side import OURS, Connection, Figures, Process, free_port, measure, median, ratio

TOKENS, PACE_S = 60, 1 / 60
ASKED = {"model": "tiny", "messages": [{"role": "user", "content": "What is 20 + 22? " * 100}]}  # 2 kB
SHAPES = ("whole", "stream", "paced stream")


def token(number):
    "A token as an endpoint tells it, with its log-probability."
    return {"token": " and", "logprob": -0.125 * (number % 7), "bytes": None, "top_logprobs": []}


def whole():
    "A chat.completion."
    message = {"role": "assistant", "content": " and" * TOKENS}
    logprobs = {"content": [token(i) for i in range(TOKENS)]}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": logprobs}
    usage = {"prompt_tokens": 500, "completion_tokens": TOKENS, "total_tokens": 500 + TOKENS}
    named = {"id": "c", "object": "chat.completion", "created": 1, "model": "tiny", "usage": usage}
    ids = {"prompt_token_ids": list(range(500))}
    return json.dumps(named | ids | {"choices": [choice | {"token_ids": list(range(TOKENS))}]}).encode()


def events():
    "The same as server-sent events, one a token."
    named = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "tiny"}
    for i in range(TOKENS):
        choice = {"index": 0, "delta": {"content": " and"}, "finish_reason": None, "token_ids": [i]}
        first = {"prompt_token_ids": list(range(500))} if not i else {}
        yield named | first | {"choices": [choice | {"logprobs": {"content": [token(i)]}}]}
    yield named | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    usage = {"prompt_tokens": 500, "completion_tokens": TOKENS, "total_tokens": 500 + TOKENS}
    yield named | {"choices": [], "usage": usage}


def framed(part):
    "A chunk of HTTP."
    return b"%x\r\n%s\r\n" % (len(part), part)


WHOLE = whole()
EVENTS = [framed(b"data: " + json.dumps(e).encode() + b"\n\n") for e in events()] + [framed(b"data: [DONE]\n\n")]
MODELS = json.dumps({"object": "list", "data": [{"id": "tiny", "object": "model", "owned_by": "vllm"}]}).encode()


async def serve_one(reader, writer):
    "The simulated upstream, on one connection."
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = int((head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]) or 0)
            asked = json.loads(await reader.readexactly(length) or b"{}")
            if not asked.get("stream"):
                body = MODELS if head.startswith(b"GET") else WHOLE
                json_head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
                writer.write(json_head % len(body) + body)
                continue
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
            began = time.perf_counter()
            for number, event in enumerate(EVENTS):
                writer.write(event)
                if asked.get("seed") == 1 and number < TOKENS:  # a paced one
                    await asyncio.sleep(max(0.0, began + (number + 1) * PACE_S - time.perf_counter()))
            writer.write(framed(b""))
            await writer.drain()
    writer.close()


async def upstream():
    "Serve until standard input closes."
    server = await asyncio.start_server(serve_one, "127.0.0.1", 0, backlog=1024, limit=1 << 22)
    sys.stdout.write(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)


class Side:
    "One way to the upstream."

    def __init__(self, name, server, url, token="none"):
        self.name, self.server, self.figures, self.calls = name, server, defaultdict(Figures), 0
        self.connections = [Connection(url, {"Authorization": f"Bearer {token}"}) for _ in range(256)]
        self.paths = ["/v1/chat/completions"] * 256

    async def attempts(self, at_once):
        "Ours only: an attempt for each connection, as agents have them."
        for i in range(at_once if self.name == "ours" else 0):
            told = await self.connections[i].json("POST", "/v1/agl/rollouts", {"input": i})
            ids = f"/rollout/{told['rollout_id']}/attempt/{told['attempt']['attempt_id']}"
            self.paths[i] = ids + "/v1/chat/completions"

    async def run(self, shape, at_once, calls):
        "A round of calls of one shape."
        figures = self.figures[shape, at_once]
        extra = {} if shape == "whole" else {"stream": True, "stream_options": {"include_usage": True}}
        body = json.dumps(ASKED | extra | {"seed": int(shape == "paced stream")}).encode()
        index = {c: i for i, c in enumerate(self.connections)}

        async def call(connection, number):
            since, first, told = time.perf_counter(), None, []
            status = await connection.send("POST", self.paths[index[connection]], body)
            async for part in connection.parts():
                if first is None and b"content" in part:
                    first = time.perf_counter()
                told.append(part)
            if status != 200 or b'"stop"' not in b"".join(told).replace(b" ", b""):
                raise RuntimeError(f"{self.name} answered {status}: {b''.join(told)[:300]!r}")
            figures.first_ms.append(((first or time.perf_counter()) - since) * 1e3)
            self.calls += 1
            return 1

        await self.attempts(at_once)
        await measure(figures, self.server, self.connections[:at_once], calls, call)


async def compare(sides, rounds, levels):
    "All rounds; the first, a short one, warms up and is not counted."
    for side in sides:
        for shape in SHAPES[:2]:
            await side.run(shape, 1, 8)
        side.figures.clear()
    for number in range(rounds):
        for at_once in levels:
            for shape in SHAPES:
                if shape == "paced stream" and at_once > 64:
                    continue
                for side in sides if number % 2 else reversed(sides):
                    few = side.name == "LiteLLM" or shape == "paced stream"
                    calls = at_once if few and at_once > 8 else 16 if shape != "paced stream" else 2
                    await side.run(shape, at_once, calls if few else max(64, 2 * at_once))
    for side in sides:
        for connection in side.connections:
            connection.close()


def show(sides, levels):
    "The tables."
    by_name = {s.name: s.figures for s in sides}
    direct, ours = by_name["direct"], by_name["ours"]
    theirs, floor = by_name.get("LiteLLM", {}), by_name.get("nginx", {})

    def added(found, key, what):
        peer = getattr(found.get(key), what, None)
        return f"{statistics.median(peer) - statistics.median(getattr(direct[key], what)):.1f}" if peer else "-"

    for shape in SHAPES:
        print(f"\n{shape}\n")
        print(
            "| at once | ours µs CPU a call | LiteLLM | times | nginx | ours calls/s | LiteLLM | times | ms added, ours | LiteLLM | nginx |"
        )
        print("|---|---|---|---|---|---|---|---|---|---|---|")
        for key in ((shape, n) for n in levels if (shape, n) in ours):
            a, b = ours[key], theirs.get(key, Figures())
            cheaper = ratio(a.cpu_us, b.cpu_us) if b.rate else "-"
            faster = ratio(b.rate, a.rate) if b.rate else "-"
            late = [added(found, key, "latency_ms") for found in (ours, theirs, floor)]
            least = median(floor[key].cpu_us) if floor else "-"
            print(
                f"| {key[1]} | {median(a.cpu_us)} | {median(b.cpu_us)} | {cheaper} | {least} | {median(a.rate)} "
                f"| {median(b.rate)} | {faster} | {late[0]} | {late[1]} | {late[2]} |"
            )
    print("\nto the first token\n")
    print(
        "| stream | at once | ms added, ours | LiteLLM | nginx | µs CPU a chunk, ours | LiteLLM | nginx | times nginx |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for key in ours:
        if key[0] != "whole":
            first = [added(found, key, "first_ms") for found in (ours, theirs, floor)]
            chunk = [
                median([c / len(EVENTS) for c in f[key].cpu_us]) if f and f[key].cpu_us else "-"
                for f in (ours, theirs, floor)
            ]
            times = ratio(floor[key].cpu_us, ours[key].cpu_us) if floor else "-"
            print(f"| {key[0]} | {key[1]} | {' | '.join(first)} | {' | '.join(chunk)} | {times} |")
    memory = {s.name: f"{s.server.memory_mb():.0f} MB" for s in sides if s.name != "direct"}
    print("\nResident memory: " + ", ".join(f"{k} {v}" for k, v in memory.items()))


def recorded(path):
    "Calls in the store, and those of them with all their ids and log-probabilities, which are exact."
    with contextlib.closing(sqlite3.connect(path)) as conn:
        return conn.execute(
            "SELECT count(*), total(length(response_token_ids) = ? AND length(prompt_token_ids) = 2000 "
            "AND length(response_logprobs) = ?) FROM span WHERE name LIKE 'chat%'",
            (4 * TOKENS, 4 * TOKENS),
        ).fetchone()


def litellm(command, up, folder, key):
    "LiteLLM's proxy in front of the upstream, with a key as ours has one."
    config = folder / "litellm.yaml"
    config.write_text(
        "model_list:\n  - model_name: tiny\n    litellm_params:\n      model: openai/tiny\n"
        f"      api_base: {up}\n      api_key: none\n"
    )
    port, env = (
        free_port(),
        {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False", "LITELLM_MASTER_KEY": key},
    )
    words = [command, "--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
    process = Process(words, env=env, log=folder / "litellm.log", says_url=False)
    process.url, until = f"http://127.0.0.1:{port}", time.monotonic() + 90
    while time.monotonic() < until and process.process.poll() is None:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"{process.url}/health/liveliness", timeout=2).close()
            return process
        time.sleep(0.3)
    process.stop()
    raise RuntimeError(f"LiteLLM did not start:\n{(folder / 'litellm.log').read_text()[-2000:]}")


NGINX = """daemon off; master_process off; error_log stderr; pid {folder}/nginx.pid;
events {{ worker_connections 2048; }}
http {{ access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;
uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s; keepalive_requests 1000000; client_body_buffer_size 1m;
upstream up {{ server {up}; keepalive 256; keepalive_requests 1000000; }}
server {{ listen 127.0.0.1:{port}; location / {{
proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; }} }} }}
"""


def nginx(up, folder):
    "nginx in front of the upstream, one process."
    port, config = free_port(), folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, port=port, up=up.removeprefix("http://").removesuffix("/v1")))
    process = Process(["nginx", "-c", str(config)], log=folder / "nginx.log", says_url=False)
    process.url = f"http://127.0.0.1:{port}"
    return process


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", default=os.environ.get("LITELLM", ""), help="LiteLLM's command")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--at-once", type=int, nargs="+", default=[1, 16, 64, 256], help="up to 256")
    parser.add_argument("--serve-upstream", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve_upstream:
        return asyncio.run(upstream())
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        up = stack.enter_context(Process([sys.executable, __file__, "--serve-upstream"], log=folder / "up.log"))
        own = {"AGENTLIGHTNING_HOME": str(folder)}
        command = [sys.executable, "-c", OURS, str(folder / "store.db"), up.url]
        server = stack.enter_context(Process(command, env=own, log=folder / "ours.log"))
        sides = [Side("direct", up, up.url), Side("ours", server, server.url, "bench")]
        if args.peer:
            key = f"sk-{secrets.token_hex(32)}"
            peer = stack.enter_context(litellm(args.peer, up.url, folder, key))
            sides.append(Side("LiteLLM", peer, peer.url, key))
        if shutil.which("nginx"):
            floor = stack.enter_context(nginx(up.url, folder))
            sides.append(Side("nginx", floor, floor.url))
        print(f"Python {platform.python_version()}; LiteLLM {'beside' if args.peer else 'missing: name it by --peer'}")
        asyncio.run(compare(sides, args.rounds, args.at_once))
        show(sides, args.at_once)
        server.stop()
        kept, exact = recorded(folder / "store.db")
        print(f"Recorded by ours: {kept} of {sides[1].calls} calls, {exact:.0f} with every id and log-probability.")
        return 0 if kept == sides[1].calls == exact else 1


if __name__ == "__main__":
    sys.exit(main())
