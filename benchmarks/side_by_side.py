"What the side-by-side benchmarks share: server processes and their CPU, a small HTTP client, figures of rounds."

import asyncio
import contextlib
import json
import os
import selectors
import socket
import statistics
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

OURS = """
import sys
from agentlightning_nb.server import AgentLightningServer
from agentlightning_nb.store import LightningStore
with LightningStore(sys.argv[1]) as store, AgentLightningServer(store, token='bench', upstream=sys.argv[2] or None) as server:
    print(server.url, flush=True)
    sys.stdin.read()
"""  # a durable file, synchronous FULL


def free_port() -> int:
    "A port that nobody listens on."
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Process:
    "A server in a process of its own, ended when its standard input closes, at the latest by force."

    def __init__(self, command: Sequence[str], *, env: dict[str, str] | None = None, log: Path, says_url: bool = True):
        self.log = log.open("w")
        piped = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE if says_url else self.log, "stderr": self.log}
        self.process = subprocess.Popen(list(command), env=os.environ | (env or {}), text=True, **piped)
        self.url = self._first_line() if says_url else ""

    def _first_line(self, patience_s: float = 60.0) -> str:
        with selectors.DefaultSelector() as ready:
            ready.register(self.process.stdout, selectors.EVENT_READ)
            line = self.process.stdout.readline().strip() if ready.select(patience_s) else ""
        if not line:
            self.stop()
            raise RuntimeError(f"{self.process.args[0]} did not start:\n{Path(self.log.name).read_text()[-2000:]}")
        return line

    def cpu_s(self) -> float:
        "Seconds of CPU that the process has used so far, all threads."
        return time.clock_gettime((~self.process.pid << 3) | 2)

    def memory_mb(self) -> float:
        "Resident memory."
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))

    def stop(self) -> None:
        "End it and wait for it."
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        for end in (lambda: None, self.process.terminate, self.process.kill):
            end()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(8)
                break
        self.log.close()

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class Connection:
    "One kept HTTP/1.1 connection: cheap, so that the server is what is measured."

    def __init__(self, url: str, headers: dict[str, str] | None = None):
        parts = urlsplit(url)
        self.host, self.port = parts.hostname, parts.port
        self.head = "".join(f"{k}: {v}\r\n" for k, v in ({"Host": parts.netloc} | (headers or {})).items())
        self.reader, self.writer = None, None

    async def send(self, method: str, path: str, body: bytes = b"", kind: str = "application/json") -> int:
        "Write a request; its status once the head of its answer is there."
        head = f"{method} {path} HTTP/1.1\r\n{self.head}Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        try:
            told = await self._head_of(head.encode() + body)
        except (asyncio.IncompleteReadError, ConnectionError) as e:
            if getattr(e, "partial", b""):
                raise
            self.close()  # an idle connection that the server has hung up on: nothing was asked yet
            told = await self._head_of(head.encode() + body)
        self.chunked, self.ends = b"transfer-encoding: chunked" in told, b"connection: close" in told
        _, _, rest = told.partition(b"content-length:")
        self.length = int(rest.split(b"\r\n", 1)[0]) if rest else 0
        return int(told.split(b" ", 2)[1])

    async def _head_of(self, request: bytes) -> bytes:
        if self.writer is None or self.writer.is_closing() or self.reader.at_eof():
            self.reader, self.writer = await asyncio.open_connection(self.host, self.port, limit=1 << 22)
        self.writer.write(request)
        return (await self.reader.readuntil(b"\r\n\r\n")).lower()

    async def parts(self) -> AsyncIterator[bytes]:
        "The parts of the answer's body as they come."
        if not self.chunked and self.length:
            yield await self.reader.readexactly(self.length)
        while self.chunked:
            size = int((await self.reader.readline()).split(b";")[0], 16)
            part = await self.reader.readexactly(size + 2)
            if not size:
                break
            yield part[:-2]
        if self.ends:
            self.close()

    async def ask(self, method: str, path: str, body: bytes = b"", kind: str = "application/json") -> bytes:
        "The body of an answer that must be a good one."
        status = await self.send(method, path, body, kind)
        told = b"".join([part async for part in self.parts()])
        if status >= 300:
            raise RuntimeError(f"{method} {path} answered {status}: {told[:500]!r}")
        return told

    async def json(self, method: str, path: str, value: object = None) -> object:
        "The same, of JSON."
        told = await self.ask(method, path, b"" if value is None else json.dumps(value).encode())
        return json.loads(told or b"null")

    def close(self) -> None:
        "Hang up."
        if self.writer is not None:
            self.writer.close()
            self.writer = None


@dataclass
class Figures:
    "What was measured of one operation on one server: one entry per round, latencies of all rounds together."

    rate: list[float] = field(default_factory=list)  # operations a second
    cpu_us: list[float] = field(default_factory=list)  # of the server, an operation
    latency_ms: list[float] = field(default_factory=list)
    first_ms: list[float] = field(default_factory=list)  # to the first token

    def percentile(self, share: float) -> float:
        "A latency that so many calls stay under."
        return percentile(self.latency_ms, share)


def percentile(values: Sequence[float], share: float) -> float:
    "The value that a share of them stays under."
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


Job = Callable[[Connection, int], Awaitable[int]]  # one request, its number; how many operations that was


async def measure(
    figures: Figures, server: Process, connections: Sequence[Connection], requests: int, job: Job
) -> None:
    "Make so many requests, one at a time on each connection, and add a round to the figures."
    numbers, operations = iter(range(requests)), 0

    async def work(connection: Connection) -> None:
        nonlocal operations
        for number in numbers:
            since = time.perf_counter()
            done = await job(connection, number)
            operations += done
            figures.latency_ms.append((time.perf_counter() - since) * 1e3)

    cpu, since = server.cpu_s(), time.perf_counter()
    await asyncio.gather(*(work(c) for c in connections))
    took = time.perf_counter() - since
    figures.rate.append(operations / took)
    figures.cpu_us.append((server.cpu_s() - cpu) * 1e6 / max(operations, 1))


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> str:
    "The median of the rounds' ratios, `theirs / ours`."
    pairs = [b / a for a, b in zip(ours, theirs, strict=True) if a]
    return f"{statistics.median(pairs):.1f}" if pairs else "-"


def median(values: Sequence[float], digits: int = 0) -> str:
    "Their median as text."
    return f"{statistics.median(values):,.{digits}f}" if values else "-"
