"Which servers run, how they are, and how they are stopped, from the command line."

import json
import os
import re
import subprocess
import sys

import pytest

from agentlightning_nb.cli import main
from agentlightning_nb.errors import NotFoundError, ServerError
from agentlightning_nb.server import AgentLightningServer
from agentlightning_nb.servers import KnownServer, choose, known_servers, server_status, stop_server
from agentlightning_nb.store import LightningStore


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("AGENTLIGHTNING_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_a_server_of_a_kernel_is_listed_asked_and_stopped_without_ending_the_kernel(home, capsys):
    with AgentLightningServer() as server:
        assert main(["server", "list"]) == 0
        out = capsys.readouterr().out
        assert server.url in out and f"pid {os.getpid()}" in out and server.token not in out
        assert main(["server", "status"]) == 0
        out = capsys.readouterr().out
        assert "rollouts" in out and server.token not in out
        assert main(["server", "stop", server.url]) == 0
        assert not server.running and known_servers() == []
        server.start()  # and it can be started again
        assert server_status(choose(known_servers()))["status"] == "ok"


def test_a_server_of_a_terminal_ends_with_status_zero(tmp_path):
    command = [sys.executable, "-m", "agentlightning_nb.cli", "server", "start", "--port", "0"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True, env=os.environ)
    try:
        url = re.search(r"http://\S+", process.stdout.readline()).group(0)
        assert main(["server", "stop", url]) == 0
        (path,) = tmp_path.glob("*.db")
        LightningStore(path).close()  # at once: the server has let go of its file
        assert "everything is kept" in process.communicate(timeout=20)[0] and process.returncode == 0
    finally:
        process.kill()
        process.wait(20)


def test_nobody_there_is_one_sentence_and_its_own_exit_status(capsys):
    assert main(["server", "status"]) == 3
    assert main(["server", "stop"]) == 1
    assert capsys.readouterr().err == "agentlightning: No server of yours runs here.\n" * 2


def test_several_servers_must_be_told_apart():
    with AgentLightningServer() as one, AgentLightningServer() as two:
        with pytest.raises(NotFoundError, match="Say which"):
            choose(known_servers())
        assert choose(known_servers(), two.url).token == two.token != one.token
        assert choose(known_servers(), f"localhost:{one.url.rsplit(':', 1)[1]}").token == one.token


def test_files_of_the_dead_and_damaged_files_are_removed(home):
    (home / "servers").mkdir(parents=True)
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    dead = {"url": "http://127.0.0.1:8001", "pid": int(gone.stdout), "token": "t"}
    (home / "servers" / "8001.json").write_text(json.dumps(dead))
    (home / "servers" / "8002.json").write_text("[]")
    assert known_servers() == [] and list((home / "servers").iterdir()) == []


def test_one_that_does_not_answer_is_named_by_its_process():
    with pytest.raises(ServerError, match=f"does not answer.*{os.getpid()}"):
        stop_server(KnownServer("http://127.0.0.1:9", os.getpid(), "t"))


def test_stopping_needs_the_token():
    with AgentLightningServer() as server:
        with pytest.raises(ServerError, match="token"):
            stop_server(KnownServer(server.url, os.getpid(), "wrong"))
        assert server.running
