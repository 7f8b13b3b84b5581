"What several test files share: the store by each of the ways there are to reach one."

from contextlib import ExitStack

import pytest

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
