"What several test files share: the store by each of the ways there are to reach one, and servers that end at once."

import asyncio
import gc
from contextlib import ExitStack

import pytest
import uvicorn.server

from agentlightning_nb.client import LightningClient
from agentlightning_nb.server import AgentLightningServer
from agentlightning_nb.store import LightningStore


@pytest.fixture(params=["memory", "file", "http"])
def store(request, tmp_path, monkeypatch):
    "A store in memory, in a file, and behind a server: one contract."
    monkeypatch.setenv("AGENTLIGHTNING_HOME", str(tmp_path / "home"))
    with ExitStack() as stack:
        path = ":memory:" if request.param == "memory" else tmp_path / "store.db"
        opened = stack.enter_context(LightningStore(path))
        if request.param == "http":
            server = stack.enter_context(AgentLightningServer(opened, token="t"))
            opened = stack.enter_context(LightningClient(server.url, "t"))
        yield opened


class Brisk:
    "asyncio for uvicorn, which sleeps a tenth of a second when it ends."

    def __getattr__(self, name):
        return getattr(asyncio, name)

    async def sleep(self, delay_s):
        await asyncio.sleep(delay_s / 20)


@pytest.fixture(autouse=True, scope="session")
def servers_that_end_at_once():
    "A thousand servers are started and stopped here: more than a minute of sleep."
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(uvicorn.server, "asyncio", Brisk())
        yield


def pytest_collection_finish(session):
    "Whatever is imported by now stays: garbage is looked for in what the tests make only."
    gc.collect()
    gc.freeze()
