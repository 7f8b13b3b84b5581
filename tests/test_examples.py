"Each example, run as it stands: its framework's own client, a real server, and an engine that answers as a simulated model."

import json
import os
import subprocess
from pathlib import Path

import pytest
import run_example
from run_example import EXAMPLES

from agentlightning_nb.testing import ids_of

NEEDS = {
    "plain_function": "json",
    "openai_chat": "openai",
    "openai_stream": "openai",
    "openai_responses": "openai",
    "openai_agents_sdk": "agents",
    "langgraph_react": "langgraph",
    "anthropic_messages": "anthropic",
}
# these need packages that the environment of the tests cannot have; `make clients` makes one that can
ELSEWHERE = {
    "autogen_agentchat": "autogen_agentchat",
    "llama_index_function_agent": "llama_index.llms.openai_like",
    "smolagents_tool_calling": "smolagents",
    "claude_agent": "claude_agent_sdk",
}
CALLS = {"openai_chat": 2, "openai_agents_sdk": 2, "langgraph_react": 2}
CALLS |= {"autogen_agentchat": 2, "llama_index_function_agent": 2, "smolagents_tool_calling": 2}
DIALECT = {
    "openai_responses": "responses",
    "openai_agents_sdk": "responses",
    "anthropic_messages": "messages",
    "claude_agent": "messages",
}
STREAMED = {"openai_stream", "anthropic_messages", "llama_index_function_agent", "claude_agent"}
MADE = Path(__file__).parent.parent / ".venv-clients"
PYTHON = os.environ.get("AGENTLIGHTNING_CLIENTS_PYTHON") or str(
    MADE / ("Scripts" if os.name == "nt" else "bin") / "python"
)


def run_elsewhere(name, home):
    "The same in the clients' environment, which sees neither settings nor keys of this one."
    if not Path(PYTHON).exists():
        pytest.skip("The clients' environment is not there; `make clients` makes it.")
    env = {"PATH": os.environ["PATH"], "HOME": str(home), "AGENTLIGHTNING_HOME": str(home), "OMP_NUM_THREADS": "1"}
    env |= {k: os.environ[k] for k in ("SYSTEMROOT", "TEMP") if k in os.environ}
    if subprocess.run([PYTHON, "-c", f"import {ELSEWHERE[name]}"], env=env, capture_output=True, timeout=60).returncode:
        pytest.skip(f"The clients' environment has no {ELSEWHERE[name]}; `make clients` installs it.")
    script = [PYTHON, run_example.__file__, name]
    done = subprocess.run(script, env=env, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def run_here(name):
    pytest.importorskip(NEEDS[name])
    return json.loads(json.dumps(run_example.run(name)))


def test_every_example_is_run_here():
    assert {p.stem for p in EXAMPLES.glob("*.py")} == {*NEEDS, *ELSEWHERE}


def test_every_example_stands_in_the_table():
    told = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert [p.name for p in EXAMPLES.glob("*.py") if f"]({p.name})" not in told] == []


@pytest.mark.parametrize("name", [*NEEDS, *ELSEWHERE])
def test_an_example_earns_its_reward_and_every_call_is_recorded(name, tmp_path):
    found = run_here(name) if name in NEEDS else run_elsewhere(name, tmp_path)
    rollouts, requests = found["rollouts"], found["requests"]
    assert [(r["status"], r["reward"]) for r in rollouts] == [("succeeded", 1.0)] * 2, rollouts
    assert len(requests) == sum(len(r["calls"]) for r in rollouts)
    for r, calls in zip(rollouts, (CALLS.get(name, 1), 1), strict=True):
        assert len(r["calls"]) == len(r["triplets"]) == calls
        for call, triplet in zip(r["calls"], r["triplets"], strict=True):
            check_recorded(name, call, triplet, requests)
        asked = [m for m in json.loads(r["calls"][0]["gen_ai.input.messages"]) if m["role"] == "user"]
        assert r["question"] in json.dumps(asked)


def check_recorded(name, call, triplet, requests):
    "The span of a call holds what the model was asked and what it said, to the token."
    assert (call["agl.dialect"], call["agl.streamed"]) == (DIALECT.get(name, "chat"), name in STREAMED)
    messages = json.loads(call["gen_ai.input.messages"])
    (request,) = [q for q in requests if q["messages"] == messages]
    assert json.loads(call.get("gen_ai.tool.definitions", "null")) == request.get("tools")
    (said,) = json.loads(call["gen_ai.output.messages"])
    arguments = [c["function"]["arguments"] for c in said.get("tool_calls") or []]
    prompt, response = ids_of(json.dumps(messages)), ids_of((said["content"] or "") + "".join(arguments))
    assert triplet == [prompt, response] == [call["prompt_token_ids"], call["response_token_ids"]]
    usage = [call["gen_ai.usage.input_tokens"], call["gen_ai.usage.output_tokens"]]
    assert usage == [len(prompt), len(response)]
    assert call["gen_ai.response.finish_reasons"] == ["tool_calls" if arguments else "stop"]
    assert call["agl.retry_count"] == 0 and json.loads(call["agl.response"])["x-simulated"] is True
