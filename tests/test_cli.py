"The command line as a user types it."

import os
import re
import signal
import subprocess
import sys

import openai
import pytest
from test_proxy import Upstream

from agentlightning_nb.background import BackgroundServer
from agentlightning_nb.cli import main
from agentlightning_nb.client import LightningClient
from agentlightning_nb.litagent import LitAgent
from agentlightning_nb.trainer import Trainer
from agentlightning_nb.types import AgentLightningTask


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("AGENTLIGHTNING_HOME", str(tmp_path / "home"))
    return tmp_path


def start_server(folder, *options):
    command = [sys.executable, "-m", "agentlightning_nb.cli", "server", "start", "--port", "0", *options]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True, env=os.environ)
    line = process.stdout.readline()
    return process, re.search(r"http://\S+", line).group(0)


class SimpleMathAgent(LitAgent):
    async def training_rollout(self, task, rollout_id, resources):
        a, b, expected = map(int, re.findall(r"\d+", task.context))
        return float(a + b == expected)


class DummyOptimizer:
    async def optimize_step(self, rollout_results: list[tuple[str, float]], resources_version: str):
        self.results = rollout_results
        return {"version": resources_version, "resources": {}}


def test_a_server_in_one_terminal_and_a_trainer_in_another(home):
    process, url = start_server(home, "--host", "127.0.0.1")
    try:
        optimizer = DummyOptimizer()
        tasks = [AgentLightningTask(context=f"Add {i} and 2 (Expected: 4)") for i in (1, 2)]
        with Trainer(n_workers=2, backend=url) as trainer:
            run = trainer.fit(SimpleMathAgent(), url, optimizer, tasks=tasks, progress=False)
        assert run.status == "succeeded" and [r for _, r in optimizer.results] == [0.0, 1.0]
    finally:
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=20)
    assert process.returncode == 0 and "everything is kept" in out
    assert (home / "lightning.db").exists()


@pytest.mark.slow
def test_each_rollout_keeps_to_one_of_several_endpoints(home, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "from-the-environment")
    first, second = Upstream(), Upstream()
    with BackgroundServer(first) as a, BackgroundServer(second) as b:
        uris = [option for server in (a, b) for option in ("--openai-compatible-llm-uri", server.url + "/v1")]
        process, url = start_server(home, "--token", "t", *uris)
        try:
            with LightningClient(url, "t") as client:
                for _ in range(12):
                    at = client.start_rollout({"q": 1}).attempt
                    base = f"{url}/rollout/{at.rollout_id}/attempt/{at.attempt_id}/v1"
                    with openai.OpenAI(base_url=base, api_key="t", max_retries=0, timeout=30) as agent:
                        for _ in range(2):
                            agent.chat.completions.create(
                                model=at.rollout_id, messages=[{"role": "user", "content": "x"}]
                            )
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=20)
    asked = [[body["model"] for body in upstream.bodies] for upstream in (first, second)]
    assert all(asked) and not set(asked[0]) & set(asked[1]) and sum(map(len, asked)) == 24
    assert set(first.keys + second.keys) == {"Bearer from-the-environment"}


def test_wrong_commands_say_what_exists(capsys):
    with pytest.raises(SystemExit):
        main(["sevrer"])
    assert "server" in capsys.readouterr().err


def test_our_errors_are_one_sentence(home, capsys):
    process, url = start_server(home, "--host", "127.0.0.1")
    try:
        assert main(["server", "start", "--port", url.rsplit(":", 1)[1], "--db", ":memory:"]) == 1
        message = capsys.readouterr().err
        assert f"is in use by pid {process.pid}" in message and "Traceback" not in message
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler  # an interrupt is one again
    finally:
        process.terminate()
        process.wait(20)


def test_a_run_becomes_a_page_of_its_own(home, capsys, monkeypatch):
    monkeypatch.chdir(home)
    tasks = [AgentLightningTask(context="Add 1 and 2 (Expected: 3)")]
    with Trainer(n_workers=1, store="kept.db") as trainer:
        run = trainer.fit(SimpleMathAgent(), algorithm=DummyOptimizer(), tasks=tasks, progress=False)
        assert main(["export", "kept.db"]) == 0  # while the trainer has it open
    assert f"Wrote {run.run_id} to {run.run_id}.html" in capsys.readouterr().out
    assert main(["export", "--db", "kept.db", "--run", run.run_id, "--out", "page.html"]) == 0
    for page in (home / f"{run.run_id}.html", home / "page.html"):
        assert run.run_id in page.read_text()
    before = (home / "kept.db").read_bytes()
    for wrong, said in (
        (["export", "none.db"], "no file none.db"),
        (["export", "kept.db", "kept.db"], "end it with .html"),
        (["export", "kept.db", "--run", "run-0"], f"There are: {run.run_id}"),
    ):
        assert main(wrong) == 1 and said in capsys.readouterr().err
    assert (home / "kept.db").read_bytes() == before


def test_the_doctor_tells_by_its_exit_status(home, capsys, monkeypatch):
    monkeypatch.chdir(home)
    assert main(["doctor"]) == 0
    assert "two rollouts ran through trainer" in capsys.readouterr().out
    assert main(["doctor", "--quick", "--endpoint", "http://127.0.0.1:9/v1"]) == 1
    told = capsys.readouterr().out
    assert "problem" in told and "two rollouts" not in told


@pytest.mark.parametrize("port", ["70000", "x", "-1"])
def test_a_port_that_is_none_is_refused(capsys, port):
    with pytest.raises(SystemExit):
        main(["server", "start", "--port", port])
    assert "0 to 65535" in capsys.readouterr().err or port == "-1"
