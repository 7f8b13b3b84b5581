"The client of agent-lightning 0.3, unchanged, against our server. Runs where an interpreter that has it is named."

import os
import subprocess
from pathlib import Path

import pytest

from agentlightning_nb.asgi import token_of
from agentlightning_nb.server import AgentLightningServer

PYTHON = os.environ.get("AGENTLIGHTNING03_PYTHON", "")


@pytest.mark.skipif(not PYTHON, reason="AGENTLIGHTNING03_PYTHON names no interpreter")
@pytest.mark.parametrize("token", ["", "secret/+"], ids=["open", "token in the URL"])
def test_every_verb_of_the_old_client_works(token, tmp_path, monkeypatch):
    monkeypatch.setenv("AGENTLIGHTNING_HOME", str(tmp_path))
    with AgentLightningServer(token=token) as server:
        url = server.url if not token else server.url.replace("http://", "http://agl:secret%2F%2B@")
        script = Path(__file__).with_name("agl03_client.py")
        done = subprocess.run([PYTHON, script, url], capture_output=True, text=True, timeout=110)
    assert "every verb works" in done.stdout, done.stderr[-3000:]


def test_a_token_may_stand_in_the_url_as_a_password():
    assert token_of([(b"authorization", b"Basic YWdsOnNlY3JldC8r")]) == "secret/+"  # agl:secret/+
    assert token_of([(b"authorization", b"Basic !!")]) == "" == token_of([(b"authorization", b"Basic /w==")])
